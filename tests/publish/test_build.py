"""Tests of publishing, on small notebooks made here; they must never need records, models or the network."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.publish import build, chapters, paper

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="60"><rect width="{0}" height="60"/></svg>'
RECORD = '<p><a href="../results/run.json">record</a></p>'
CHROMIUM = shutil.which("chromium")


def result(**data):
    """A cell's output, e.g. `result(text_html=...)`."""
    kinds = {"html": "text/html", "md": "text/markdown", "plain": "text/plain", "svg": "image/svg+xml"}
    return new_output("execute_result", {kinds[kind]: text for kind, text in data.items()})


def table(head, rows, caption):
    """A table as our notebooks show it: HTML with <caption>, Markdown with a caption line."""
    line = "| {} |".format
    lines = [head, ["--:"] * len(head), *rows]
    cells = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    names = "".join(f"<th>{c}</th>" for c in head)
    page = f"<table><caption>{caption}</caption><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table>"
    text = "\n".join(line(" | ".join(row)) for row in lines)
    return result(html=page + RECORD, md=f"{text}\n\n: {caption}", plain="Table")


def code(source, *outputs, **metadata):
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def write(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A repository with two executed notebooks, and its report."""
    root = tmp_path_factory.mktemp("repository")
    (root / "notebooks").mkdir()
    (root / "results").mkdir()
    (root / "results" / "run.json").write_text('{"loss": 0.5}')
    wide = table([f"column number {i}" for i in range(14)], [["12.34 ± 0.56"] * 14], "Fourteen columns.")
    long = table(["run", "loss"], [[f"run {i}", f"{i}.0"] for i in range(60)], "Sixty rows.")
    write(
        root / "notebooks" / "01_first.ipynb",
        new_markdown_cell(
            "# First chapter\n\nSee [Figure](#fig-far), [the runs](#tab-long), [next](02_second.ipynb), "
            "[record](../results/run.json); not `[Table](#none)`.\n\n"
            "$$\\beta = \\frac{1}{2}\\|g\\|_2$$ and $x_1$.\n\n## Its part"
        ),
        code("shared_with_all = 1", tags=["show-input"]),
        code("first_of_the_source = 1"),
        code("secret_of_the_source = 1", new_output("stream", name="stderr", text="9%|bar")),
        code("print()", new_output("stream", name="stdout", text="old\rprinted words")),
        code("wide", wide),
        code("figure", result(svg=SVG.format(900), plain="Figure"), caption="Near; $\\kappa$ *high*."),
    )
    write(
        root / "notebooks" / "02_second.ipynb",
        new_markdown_cell("# Second chapter\n\nIt is about DessiLBI."),
        code(
            "figure",
            result(svg=SVG.format(50), plain="Figure"),
            caption="Far. Beyond, [next](02_second.ipynb).",
            label="fig-far",
            tags=["landing"],
        ),
        code("reading", result(md="The loss is **0.512**, see [Table](#tab-long).", plain="<Markdown>")),
        code("long", long, label="tab-long"),
        code("hidden", result(plain="nobody reads this"), tags=["remove-cell"]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS_DIR", str(root / "results"))
        build.build(root / "notebooks", root / "report", run=False)
    return root


@pytest.fixture(scope="session")
def page(folder):
    return lambda name: (folder / "report" / "html" / f"{name}.html").read_text()


@pytest.fixture(scope="session")
def printed(folder):
    if not shutil.which("pdftotext"):
        pytest.skip("needs pdftotext (poppler-utils)")
    command = ["pdftotext", "-layout", folder / "report" / "report.pdf", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def text_of(html):
    return " ".join(re.sub(r"<[^>]+>", "", html).replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.mark.parametrize("name", ["Table 1. Fourteen columns.", "Table 2. Sixty rows.", "Figure 2. Far."])
def test_tables_and_figures_have_the_same_numbers_in_both(name, page, printed):
    assert name in text_of(page("01_first") + page("02_second"))
    assert name in printed


def test_references_become_numbers_and_links(page, printed):
    first = page("01_first").replace("\N{NO-BREAK SPACE}", " ")
    assert '<a href="02_second.html#fig-far">Figure 2</a>' in first
    assert '<a href="02_second.html#tab-long">the runs</a>' in first
    assert '<a href="02_second.html">next</a>' in first
    assert "[Table](#none)" in first
    assert 'id="tab-long"' in page("02_second")
    assert "See Figure 2, the runs, next" in printed.replace("\N{NO-BREAK SPACE}", " ")


def test_a_record_is_one_click_away(folder, page):
    assert page("01_first").count('href="files/results/run.json"') == 2  # from the text and from the table
    assert (folder / "report" / "html" / "files" / "results" / "run.json").read_text() == '{"loss": 0.5}'
    assert (folder / "report" / "html" / "files" / "notebooks" / "01_first.ipynb").exists()


def test_code_is_folded_on_the_site_and_left_out_in_print(page, printed):
    folded = re.findall(r"<details class=.code.>.*?</details>", page("01_first"), re.DOTALL)
    assert "secret_of_the_source" in "".join(folded)
    assert "secret_of_the_source" not in printed


def test_code_that_teaches_is_open_in_both(page, printed):
    open_code = re.sub(r"<details.*?</details>", "", page("01_first"), flags=re.DOTALL)
    assert "shared_with_all" in open_code and "secret_of_the_source" not in open_code
    assert "shared_with_all = 1" in printed


def test_cells_that_show_nothing_share_the_fold_of_the_next(page):
    [fold] = re.findall(r"<details(?:(?!</details>).)*secret_of_the_source.*?</details>", page("01_first"), re.DOTALL)
    assert "first_of_the_source" in fold


def test_the_first_page_shows_what_is_tagged_for_it_and_the_chapters(page):
    index = text_of(page("index").partition("<article")[2].partition("</article>")[0])
    assert re.search(r"What makes a CNN learn\?.*Figure 2\. Far\..*Chapters.*1First chapter.*2Second chapter", index)
    assert "Sixty rows" not in index and "Second chapter It is" not in index


def test_the_sidebar_numbers_the_chapters_and_has_the_sections_of_this_one(page):
    def sidebar(name):
        return page(name).partition('class="chapter-nav"')[2].partition("</nav>")[0]

    assert "1. First chapter" in sidebar("01_first") and "2. Second chapter" in sidebar("01_first")
    assert "Its part" in sidebar("01_first") and "Its part" not in sidebar("02_second")


def test_outputs(page, printed):
    for text in (text_of(page("01_first") + page("02_second")), printed):
        assert "printed words" in text
        assert "The loss is 0.512, see Table 2." in text.replace("\N{NO-BREAK SPACE}", " ")
        assert not re.search(r"9%\||nobody reads this|<Markdown>|old", text)


def test_formulas_are_mathml(page):
    assert page("01_first").count("<math") == 3  # two of the text and one of a caption
    assert "MathJax" not in page("01_first")


def test_the_site_loads_nothing_from_elsewhere(folder):
    elsewhere = r"""["']?(?:https?:)?//"""
    loads = rf"""(?:<(?:script|img|iframe)[^>]+src=|<link[^>]+href=|url\(|@import ){elsewhere}"""
    site = folder / "report" / "html"
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 5
    assert not [path for path in files if re.search(loads, path.read_text())]


def test_the_pdf_has_contents_page_numbers_and_whole_tables(printed):
    pages = printed.split("\f")
    assert chapters.TITLE in pages[0]
    assert re.search(r"2\. Second chapter[\s.\u2060]+4", pages[1])
    assert pages[2].split()[-1] == "3" and "1. First chapter" in pages[2]
    assert len(re.findall(r"run +loss", printed)) == 2  # the head again on the table's second page


def test_no_word_of_the_pdf_lies_outside_the_margins(folder, printed):
    command = ["pdftotext", "-bbox", folder / "report" / "report.pdf", "-"]
    boxes = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    edges = [float(x) for x in re.findall(r'xMax="([\d.]+)"', boxes)]
    assert len(edges) > 100
    assert max(edges) < 595.3 - 70.8 + 1  # an A4 page less its margin, in points


def test_figures_stay_vectors(folder):
    command = ["pdfimages", "-list", folder / "report" / "report.pdf"]
    if not shutil.which("pdfimages"):
        pytest.skip("needs pdfimages (poppler-utils)")
    assert len(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()) == 2


def test_the_report_is_the_same_each_time(folder, printed, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(folder / "results"))
    again = build.pdf(chapters.read(chapters.in_order(folder / "notebooks")), tmp_path, folder / "notebooks")
    texts = [
        subprocess.run(["pdftotext", path, "-"], capture_output=True).stdout
        for path in (again, folder / "report" / "report.pdf")
    ]
    assert texts[0] == texts[1]


def is_remote(url):
    return not url.startswith(("file:", "data:"))


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
def test_in_a_browser(folder):
    sync_api = pytest.importorskip("playwright.sync_api")
    site, bad = folder / "report" / "html", []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 800})
        tab.on("request", lambda request: bad.append(request.url) if is_remote(request.url) else None)
        tab.on("requestfailed", lambda request: bad.append(request.url))
        tab.on("console", lambda message: message.type in ("error", "warning") and bad.append(message.text))
        for path in sorted(site.glob("*.html")):
            tab.goto(path.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), path.name
            assert tab.evaluate("[...document.images].every(i => i.alt && i.naturalWidth)"), path.name
        tab.goto((site / "search.html").as_uri() + "?q=DessiLBI")
        tab.wait_for_selector("#search-results li a")
        found = tab.inner_text("#search-results")
        browser.close()
    assert "Second chapter" in found
    assert not bad


# ---------------------------------------------------------------------------- what goes wrong


def test_a_failing_cell_is_named(tmp_path):
    write(tmp_path / "01.ipynb", new_markdown_cell("# T"), new_code_cell("raise ValueError('first\\nlast')"))
    before = (tmp_path / "01.ipynb").read_bytes()
    with pytest.raises(chapters.ReportError, match=r"^01\.ipynb, cell 2: last$"):
        build.execute(tmp_path, tmp_path / "out")
    assert (tmp_path / "01.ipynb").read_bytes() == before


def test_execute_runs_in_the_notebooks_folder_and_leaves_them_alone(tmp_path):
    source = write(tmp_path / "01.ipynb", new_markdown_cell("# T"), new_code_cell("open('note').read()"))
    (tmp_path / "note").write_text("a note")
    before = source.read_bytes()
    [done] = build.execute(tmp_path, tmp_path / "out")
    assert done == tmp_path / "out" / "01.ipynb"
    assert nbformat.read(done, 4).cells[1].outputs[0].data["text/plain"] == "'a note'"
    assert source.read_bytes() == before


def test_notebooks_run_side_by_side_and_come_back_in_order(tmp_path):
    # Each waits for what the other writes: one after the other, the first would never end.
    wait = "import pathlib, time\npathlib.Path('{}').touch()\nwhile not pathlib.Path('{}').exists(): time.sleep(0.05)"
    write(tmp_path / "01.ipynb", new_markdown_cell("# T"), new_code_cell(wait.format("a", "b")))
    write(tmp_path / "02.ipynb", new_markdown_cell("# T"), new_code_cell(wait.format("b", "a")))
    done = build.execute(tmp_path, tmp_path / "out", jobs=2)
    assert [path.name for path in done] == ["01.ipynb", "02.ipynb"] and all(path.exists() for path in done)


def test_ctrl_c_ends_all_kernels(tmp_path):
    """From a cell of one notebook, to the process that runs them, while the other is busy too."""
    wait = "import os, pathlib, signal, time\npathlib.Path('{}').write_text(str(os.getpid()))\n{}time.sleep(60)"
    other = "while not pathlib.Path('1').exists(): time.sleep(0.05)\nos.kill(os.getppid(), signal.SIGINT)\n"
    write(tmp_path / "01.ipynb", new_markdown_cell("# T"), new_code_cell(wait.format("1", "")))
    write(tmp_path / "02.ipynb", new_markdown_cell("# T"), new_code_cell(wait.format("2", other)))
    # As in a process of its own; one started in the background may have been told to ignore Ctrl-C.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        build.execute(tmp_path, tmp_path / "out", jobs=2)
    signal.signal(signal.SIGINT, previous)
    for name in "12":
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), 0)


@pytest.mark.parametrize("content", [b"no JSON", b"", b"[1]", b"{}", b'{"nbformat": 4, "cells": [{}]}', b"\xff\xfe"])
def test_a_file_that_is_no_notebook_is_named(content, tmp_path):
    (tmp_path / "01.ipynb").write_bytes(content)
    for reader in (lambda path: build.execute(path.parent, tmp_path), lambda path: chapters.read([path])):
        with pytest.raises(chapters.ReportError, match=r"01\.ipynb is no notebook \(.+\): restore it") as error:
            reader(tmp_path / "01.ipynb")
        assert "\n" not in str(error.value)


def test_a_failed_build_leaves_the_last_report(folder, tmp_path):
    shutil.copytree(folder / "report", tmp_path / "report")
    before = {path: path.read_bytes() for path in (tmp_path / "report").rglob("*") if path.is_file()}
    (tmp_path / "notebooks").mkdir()
    write(tmp_path / "notebooks" / "01.ipynb", new_markdown_cell("# T\n\n[Table](#tab-none)"))
    with pytest.raises(chapters.ReportError, match="tab-none"):
        build.build(tmp_path / "notebooks", tmp_path / "report", run=False)
    after = {path: path.read_bytes() for path in (tmp_path / "report").rglob("*") if path.is_file()}
    assert after == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notebooks", "report"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([new_markdown_cell("no title")], r"01\.ipynb, cell 1: begin"),
        ([code("f", result(svg=SVG.format(9)))], r"01\.ipynb, cell 2: a figure without caption"),
        ([code("f", result(svg=SVG.format(9)), caption="c", label="a b")], "cell 2: label 'a b'"),
        ([code("f", result(svg=SVG.format(9)), caption="c", label="l") for _ in "12"], "two .* label 'l'"),
        ([code("f", new_output("error", ename="E", evalue="v"))], r"cell 2: holds an error \(E: v\)"),
        ([new_markdown_cell("[record](../results/none.json)")], "links to ../results/none.json"),
    ],
)
def test_mistakes_are_named(cells, message, tmp_path):
    title = [] if cells[0].source == "no title" else [new_markdown_cell("# T")]
    with pytest.raises(chapters.ReportError, match=message):
        build.html(chapters.read([write(tmp_path / "01.ipynb", *title, *cells)]), tmp_path, tmp_path)


def test_a_cell_that_begins_with_a_plus_stays_text():
    table = "<table><tr><th>row</th></tr><tr><td>+ κ 20</td></tr></table>"
    assert "[\\+ κ 20]" in paper._typeset(table)


def test_no_notebooks(tmp_path):
    with pytest.raises(chapters.ReportError, match="no notebooks in"):
        build.build(Path(tmp_path), tmp_path / "report")


def test_labelled_figures_are_kept_as_svg_and_png(tmp_path):
    images = {"image/svg+xml": "<svg/>", "image/png": "iVBORw0KGgo="}
    figure = new_output("display_data", data=images)
    write(
        tmp_path / "01_first.ipynb",
        new_markdown_cell("# First"),
        code("kept", figure, label="fig-best-curves", caption="c"),
        code("trained live", figure, label="fig-live", caption="c", tags=["nbval-ignore-output"]),
        code("nameless", figure, caption="c"),
    )
    written = build.pictures(chapters.read([tmp_path / "01_first.ipynb"]), tmp_path / "figures")
    assert [path.name for path in written] == ["01-best-curves.svg", "01-best-curves.png"]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {path.name for path in written}
    assert written[0].read_text() == "<svg/>" and written[1].read_bytes().startswith(b"\x89PNG")
