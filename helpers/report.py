"""Publish: turns the notebooks into a site that needs no network (`html/`) and a printable `report.pdf`.
It must never change a notebook, send a request, or replace a good report by one that failed halfway.

The way of a notebook: execute -> read (into blocks, numbered once for both exports) -> write, as MyST for
Sphinx or as Pandoc's Markdown for Typst. A table or figure takes "caption" and "label" from the metadata of
its output or else of its cell; a table may also bring its caption along: `<caption>`, or `Table: caption`.
"""

from __future__ import annotations

import asyncio
import html as markup
import os
import re
import shutil
import tempfile
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TITLE = "What makes a CNN learn"
SUBTITLE = "A course report on CIFAR-10 and MNIST, reproduced"
ASSETS = Path(__file__).parent / "report_assets"

# What Jupyter reads as Markdown, in Pandoc's terms: no sub- or superscripts, no names for headings.
PANDOC_READER = "commonmark_x-gfm_auto_identifiers-subscript-superscript-definition_lists-fancy_lists"
# Where a link can't be: fenced and inline code, formulas.
VERBATIM = re.compile(r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$)", re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
HTML_LINK = re.compile(r'\b(href|src)="([^"]+)"')
CAPTION_LINE = re.compile(r"^(?:Table)?: +(.+(?:\n(?!\s*\||\s*$).+)*)", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:", re.IGNORECASE)


class ReportError(RuntimeError):
    """The report can't be made; the message says in one line why, and what to do."""


@dataclass(frozen=True)
class Text:
    """Running text, in Markdown."""

    markdown: str


@dataclass(frozen=True)
class Code:
    """Source of a cell (`shown` false: folded away) or what it printed (`shown` true)."""

    text: str
    shown: bool


@dataclass(frozen=True)
class Float:
    """A numbered table (Markdown in `body`, HTML in `html`) or figure (an image in `body`)."""

    kind: str  # "Table" or "Figure"
    number: int
    label: str
    caption: str
    alt: str
    body: str | bytes
    html: str = ""
    suffix: str = ""

    @property
    def name(self) -> str:
        """As it is cited: "Table 3"."""
        return f"{self.kind} {self.number}"


@dataclass(frozen=True)
class Chapter:
    """One notebook, read: its file, its title, its blocks in order."""

    path: Path
    title: str
    blocks: list[Text | Code | Float]


# -------------------------------------------------------------------------------- execute


def execute(notebooks: Path, output: Path, jobs: int | None = None) -> list[Path]:
    """Runs each notebook of a folder from a clean kernel, `jobs` at a time; writes the executed copies to `output`.

    Cells run in the folder `notebooks`; without `jobs`, there are as many kernels as cores. Raises ReportError, naming
    notebook and cell, where one fails.
    """
    output.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_execute(_in_order(notebooks), output, jobs or os.cpu_count() or 1))


def _in_order(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise ReportError(f"no notebooks in {folder}: run from the repository's root, or name their folder")
    return paths


async def _execute(sources: list[Path], output: Path, jobs: int) -> list[Path]:
    import nbformat
    from tqdm import tqdm

    notebooks = [nbformat.read(source, as_version=4) for source in sources]
    kernels, threads = asyncio.Semaphore(jobs), max(1, (os.cpu_count() or 1) // jobs)
    with tqdm(total=sum(len(each.cells) for each in notebooks), desc="notebooks", unit="cell") as bar:

        async def run(notebook, source: Path) -> Path:
            async with kernels:
                await _execute_one(notebook, source, threads, bar)
            nbformat.write(notebook, output / source.name)
            return output / source.name

        return await asyncio.gather(*map(run, notebooks, sources))


async def _execute_one(notebook, source: Path, threads: int, bar) -> None:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    done = 0

    def count(cell, cell_index: int) -> None:
        nonlocal done
        bar.update(cell_index - done)
        done = cell_index

    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": source.parent}},
        extra_arguments=["--log-level=ERROR"],  # else the kernel's own warnings tear the progress bar
        on_cell_start=count,
    )
    try:
        # More threads than cores wait for each other, and spin while they do.
        await client.async_execute(env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    except (CellControlSignal, DeadKernelError) as error:
        raise ReportError(f"{source.name}, cell {done + 1}: {_reason(error)}") from None
    count(None, len(notebook.cells))


def _reason(error: Exception) -> str:
    """The last line of what a cell, or its kernel, died of."""
    text = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else str(error)
    return text.strip().splitlines()[-1]


# -------------------------------------------------------------------------------- read


def read(notebooks: Iterable[Path]) -> list[Chapter]:
    """Reads executed notebooks; numbers their tables and figures in order of appearance, over all of them."""
    import nbformat

    numbers: Counter[str] = Counter()
    chapters = [_chapter(path, nbformat.read(path, as_version=4), numbers) for path in notebooks]
    repeated = [label for label, n in Counter(f.label for f in _floats(chapters)).items() if n > 1]
    if repeated:
        raise ReportError(f"two tables or figures have the label {repeated[0]!r}: give each its own")
    return chapters


def _floats(chapters: Iterable[Chapter], kind: str = "") -> list[Float]:
    found = [block for chapter in chapters for block in chapter.blocks if isinstance(block, Float)]
    return [f for f in found if f.kind == kind or not kind]


def _chapter(path: Path, notebook, numbers: Counter[str]) -> Chapter:
    first = notebook.cells[0].source if notebook.cells else ""
    if not (title := re.match(r"# +(.+)", first)):
        raise ReportError(f"{path.name}, cell 1: begin the notebook with a Markdown cell '# Title'")
    blocks: list[Text | Code | Float] = []
    for place, cell in enumerate(notebook.cells, start=1):
        try:
            blocks += _cell(cell, numbers)
        except ReportError as error:
            raise ReportError(f"{path.name}, cell {place}: {error}") from None
    return Chapter(path, title[1].strip(), blocks)


def _cell(cell, numbers: Counter[str]) -> Iterator[Text | Code | Float]:
    tags = cell.metadata.get("tags", [])
    if cell.cell_type == "markdown" and "remove-cell" not in tags:
        yield Text(cell.source)
    if cell.cell_type != "code" or "remove-cell" in tags:
        return
    if cell.source.strip() and "remove-input" not in tags:
        yield Code(cell.source, shown=False)
    naming = dict(cell.metadata)
    for output in cell.outputs:
        block = _output(output, naming | output.get("metadata", {}), numbers)
        if isinstance(block, Float):
            naming = {}  # the cell's caption names its first table or figure only
        if block:
            yield block


def _output(output, naming: dict, numbers: Counter[str]) -> Text | Code | Float | None:
    if output.output_type == "error":
        raise ReportError(f"holds an error ({output.ename}: {output.evalue}): repair and run it")
    if output.output_type == "stream":
        return _printed(output.text) if output.name == "stdout" else None  # progress bars go to stderr
    data = output.data
    if "image/svg+xml" in data or "image/png" in data:
        return _figure(data, naming, numbers)
    if "text/markdown" in data and "<table" in data.get("text/html", ""):
        return _table(data, naming, numbers)
    if "text/markdown" in data:
        return Text(data["text/markdown"])
    return _printed(data.get("text/plain", ""))


def _printed(text: str) -> Code | None:
    # A terminal shows what follows the last carriage return of a line.
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").rstrip().split("\n")]
    return Code("\n".join(lines), shown=True) if text.strip() else None


def _figure(data: dict, naming: dict, numbers: Counter[str]) -> Float:
    svg = data.get("image/svg+xml")
    body = svg.encode() if svg else b64decode(data["image/png"])
    suffix = ".svg" if svg else ".png"
    return _float("Figure", naming, naming.get("caption"), numbers, body=body, suffix=suffix)


def _table(data: dict, naming: dict, numbers: Counter[str]) -> Float:
    page, text = data["text/html"], data["text/markdown"]
    in_html = re.search(r"<caption[^>]*>(.*?)</caption>", page, re.DOTALL)
    in_text = CAPTION_LINE.search(text)
    if in_text:
        text = text.replace(in_text[0], "")
    caption = naming.get("caption") or (in_text and in_text[1]) or (in_html and _plain(in_html[1]))
    page = page.replace(in_html[0], "") if in_html else page
    return _float("Table", naming, caption, numbers, body=text.strip(), html=page)


def _float(kind: str, naming: dict, caption: str | None, numbers: Counter[str], **content) -> Float:
    if not caption:
        raise ReportError(f'a {kind.lower()} without caption: add "caption" to its cell\'s metadata')
    numbers[kind] += 1
    number = numbers[kind]
    caption = " ".join(caption.split())
    label = naming.get("label", f"{kind.lower()}-{number}")
    if not re.fullmatch(r"[A-Za-z][\w.-]*", label):
        raise ReportError(f"label {label!r}: use letters, digits, '-', '_' and '.' only")
    return Float(kind, number, label, caption, naming.get("alt", _plain(caption)), **content)


def _plain(text: str) -> str:
    """Markdown or HTML, without its marks."""
    text = LINK.sub(lambda link: link[2], re.sub(r"<[a-zA-Z/][^>]*>", "", text))
    return markup.unescape(re.sub(r"[*`$\\{}]", "", text))


# -------------------------------------------------------------------------------- write


class _Writer:
    """Chapters as one kind of Markdown; links and files are put where that kind needs them.

    `folder` is where the pages are written, `sources` where the notebooks' own relative links start from.
    """

    def __init__(self, chapters: list[Chapter], sources: Path, folder: Path) -> None:
        self.chapters = {chapter.path.name: chapter for chapter in chapters}
        self.floats = {block.label: block for block in _floats(chapters)}
        self.homes = {f.label: c.path.stem for c in chapters for f in _floats([c])}
        self.sources, self.folder = sources, folder
        (folder / "files").mkdir(parents=True, exist_ok=True)

    def page(self, chapter: Chapter) -> str:
        """The whole chapter as Markdown."""
        try:
            return "\n\n".join(self.block(block) for block in chapter.blocks)
        except ReportError as error:
            raise ReportError(f"{chapter.path.name}: {error}") from None

    def block(self, block: Text | Code | Float) -> str:
        """One block as Markdown."""
        if isinstance(block, Text):
            return self.text(block.markdown)
        if isinstance(block, Code):
            return self.code(block)
        return self.figure(block) if block.kind == "Figure" else self.table(block)

    def text(self, markdown: str) -> str:
        """Markdown with its links resolved."""
        parts = VERBATIM.split(markdown)
        parts[::2] = [LINK.sub(self._linked, part) for part in parts[::2]]
        return "".join(parts)

    def caption(self, block: Float) -> str:
        """ "Table 3." and the caption, as Markdown."""
        return f"**{block.name}.** {self.text(block.caption)}"

    def picture(self, block: Float) -> str:
        """Writes a figure's image; gives its path from the pages."""
        path = f"files/{block.label}{block.suffix}"
        (self.folder / path).write_bytes(block.body)
        return path

    def target(self, address: str) -> str:
        """What a notebook's link points to, from the pages."""
        path, _, label = address.partition("#")
        if ELSEWHERE.match(address):
            return address
        if label in self.floats:
            return self.to_float(label)
        if path.removeprefix("./") in self.chapters:
            return self.to_chapter(Path(path).stem)
        if not path:
            raise ReportError(f"refers to #{label}, but no table or figure has this label")
        return self.to_file(path)

    def source(self, path: str) -> Path:
        """The file that a relative link of a notebook names."""
        if not (file := self.sources / path).is_file():
            raise ReportError(f"links to {path}, which is not a file: correct the link")
        return file.resolve()

    def _linked(self, link: re.Match) -> str:
        image, text, address = link.groups()
        label = address.partition("#")[2]
        if label in self.floats and text.lower() in ("figure", "table"):
            text = self.floats[label].name.replace(" ", "\N{NO-BREAK SPACE}")
        return self.embed(text, self.source(address)) if image else self.link(text, self.target(address))


class _Site(_Writer):
    """For Sphinx: MyST Markdown, a file `files/...` for each thing linked to."""

    def link(self, text: str, target: str) -> str:
        # As HTML, because Sphinx would take links to files and to anchors in raw HTML for broken.
        return f'<a href="{markup.escape(target)}">{text}</a>'

    def embed(self, text: str, file: Path) -> str:
        return f"![{text}]({self._copy(file)})"

    def to_float(self, label: str) -> str:
        return f"{self.homes[label]}.html#{label}"

    def to_chapter(self, stem: str) -> str:
        return f"{stem}.html"

    def to_file(self, path: str) -> str:
        return self._copy(self.source(path))

    def _copy(self, file: Path) -> str:
        # Under the two last parts of its path, so that results/a.json and figures/a.json stay apart.
        name = Path("files", *file.parts[-2:])
        (self.folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, self.folder / name)
        return name.as_posix()

    def code(self, block: Code) -> str:
        fenced = _fenced("text" if block.shown else "python", block.text)
        if block.shown:
            return fenced
        return "\n\n".join([_raw("<details><summary>Show code</summary>"), fenced, _raw("</details>")])

    def figure(self, block: Float) -> str:
        image = f'<img src="{self.picture(block)}" alt="{markup.escape(block.alt)}">'
        opening = _raw(f'<figure id="{block.label}">{image}<figcaption>')
        return "\n\n".join([opening, self.caption(block), _raw("</figcaption></figure>")])

    def table(self, block: Float) -> str:
        opening = _raw(f'<figure id="{block.label}"><figcaption>')
        page = HTML_LINK.sub(self._linked_html, block.html)
        page = re.sub(r"\$([^$\n<]+)\$", lambda m: _mathml(markup.unescape(m[1])), page)
        # Focusable, so that a wide table scrolls by keyboard too.
        box = f'</figcaption><div class="scroll" tabindex="0">{page}</div></figure>'
        return "\n\n".join([opening, self.caption(block), _raw(box)])

    def footer(self, chapter: Chapter) -> str:
        """The way back from a page to its notebook."""
        link = self.link(chapter.path.name, self._copy(chapter.path))
        return _raw(f'<p class="source">This page is the notebook {link}.</p>')

    def index(self, printed: Path) -> str:
        """The entry page: what it is, the PDF if there is one, chapters, tables and figures."""
        names = "\n".join(Path(name).stem for name in self.chapters)
        contents = f"```{{toctree}}\n:maxdepth: 2\n\n{names}\n```"
        about = f"{SUBTITLE}."
        if printed.exists():
            shutil.copyfile(printed, self.folder / "files/report.pdf")
            about += f" {self.link('To print (PDF)', 'files/report.pdf')}"
        return "\n\n".join([f"# {TITLE}", about, contents, self._listed("Table"), self._listed("Figure")])

    def _listed(self, kind: str) -> str:
        found = [f for f in self.floats.values() if f.kind == kind]
        lines = [f"- {self.link(f.name, self.to_float(f.label))}: {self.text(f.caption)}" for f in found]
        return "\n".join([f"## {kind}s\n", *lines]) if found else ""

    def _linked_html(self, link: re.Match) -> str:
        return f'{link[1]}="{markup.escape(self.target(markup.unescape(link[2])))}"'


class _Print(_Writer):
    """For Pandoc and Typst: Pandoc's Markdown with pieces of Typst around tables and figures; no code."""

    output = Path()  # the folder of the PDF, which its links to files start from

    def link(self, text: str, target: str) -> str:
        return f"[{text}]({target})"

    def embed(self, text: str, file: Path) -> str:
        name = f"files/{file.name}"
        shutil.copyfile(file, self.folder / name)
        return f"![{text}]({name})"

    def to_float(self, label: str) -> str:
        return f"#{label}"

    def to_chapter(self, stem: str) -> str:
        return f"#chapter-{stem}"

    def to_file(self, path: str) -> str:
        return Path(os.path.relpath(self.source(path), self.output.resolve())).as_posix()

    def code(self, block: Code) -> str:
        return _fenced("text", block.text) if block.shown else ""

    def figure(self, block: Float) -> str:
        body = f'picture("{self.picture(block)}", "{block.alt.replace(chr(34), chr(39))}")'
        opening, closing = _typst(f"#figure({body}, caption: inline["), _typst(f"]) <{block.label}>")
        return "\n\n".join([opening, self.caption(block), closing])

    def table(self, block: Float) -> str:
        opening, closing = _typst("#figure(kind: table, caption: inline["), _typst(f"])) <{block.label}>")
        content = [self.caption(block), _typst("], fitted(["), self.text(block.body)]
        return "\n\n".join([opening, *content, closing])

    def page(self, chapter: Chapter) -> str:
        return f"{{#chapter-{chapter.path.stem}}}\n{super().page(chapter).lstrip()}"


def _fenced(language: str, text: str) -> str:
    fence = "`" * (max([2, *map(len, re.findall("`+", text))]) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _raw(text: str) -> str:
    return _fenced("{raw} html", text)


def _typst(text: str) -> str:
    return _fenced("{=typst}", text)


def _mathml(formula: str, display: str = "inline") -> str:
    from latex2mathml.converter import convert

    try:
        return convert(formula, display=display)
    except Exception as error:  # the converter has no common error of its own
        raise ReportError(f"can't read the formula ${formula}$: {error!r}") from None


# -------------------------------------------------------------------------------- the site


def html(notebooks: list[Path], output: Path, sources: Path | None = None) -> Path:
    """Writes the site of executed notebooks; gives `output/html/index.html`.

    Relative links start from `sources` (by default: from where the notebooks are); the files linked to are
    copied into the site, and so is `output/report.pdf` where it exists.
    """
    chapters = read(notebooks)
    target = output / "html"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        site = _Site(chapters, sources or notebooks[0].parent, folder / "pages")
        for chapter in chapters:
            page = f"{site.page(chapter)}\n\n{site.footer(chapter)}"
            (site.folder / f"{chapter.path.stem}.md").write_text(page, encoding="utf-8")
        (site.folder / "index.md").write_text(site.index(output / "report.pdf"), encoding="utf-8")
        _sphinx(site.folder, folder / "html", folder / "doctrees")
        shutil.copytree(site.folder / "files", folder / "html" / "files")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "html", target)
    return target / "index.html"


def _sphinx(source: Path, target: Path, doctrees: Path) -> None:
    from io import StringIO

    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError

    warnings = StringIO()
    try:
        app = Sphinx(source, None, target, doctrees, "html", _configuration(), status=None, warning=warnings)
        app.build()
    except SphinxError as error:
        raise ReportError(str(error).splitlines()[-1]) from None
    if found := warnings.getvalue().strip():
        raise ReportError(f"Sphinx: {found.splitlines()[0].replace(f'{source}/', '')}")


def _configuration() -> dict:
    return {
        "project": TITLE,
        "html_title": TITLE,
        "extensions": ["myst_parser", __name__],
        "myst_enable_extensions": ["dollarmath"],
        "myst_dmath_double_inline": True,
        # "app": that a second build in the same process finds Sphinx set up already.
        "suppress_warnings": ["myst.header", "misc.highlighting_failure", "app"],
        "html_math_renderer": "mathml",
        "html_theme": "sphinx_book_theme",
        "html_theme_options": {
            "use_download_button": False,
            "show_toc_level": 2,
            "home_page_in_toc": True,
            "footer_content_items": [],
            "navbar_persistent": [],  # the search field is in the sidebar
        },
        "html_context": {"default_mode": "auto"},
        "html_static_path": [str(ASSETS)],
        "html_css_files": ["report.css"],
        "html_copy_source": False,
        "html_show_copyright": False,
        "html_show_sphinx": False,
        "html_use_index": False,  # there is nothing in it
        # Summaries of search results are fetched, which a browser forbids to pages from the file system.
        "html_show_search_summary": False,
    }


def setup(app) -> dict:
    """Sphinx's hook for extensions: formulas become MathML at build time, so that no page loads MathJax."""
    from docutils.nodes import SkipNode

    def render(display):
        def visit(translator, node):
            translator.body.append(_mathml(node.astext(), display))
            raise SkipNode

        return visit, None

    app.add_html_math_renderer("mathml", inline_renderers=render("inline"), block_renderers=render("block"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# -------------------------------------------------------------------------------- the PDF


def pdf(notebooks: list[Path], output: Path, sources: Path | None = None) -> Path:
    """Prints executed notebooks; gives `output/report.pdf`. Relative links start as in `html`."""
    import typst

    chapters = read(notebooks)
    output.mkdir(parents=True, exist_ok=True)
    target = output / "report.pdf"
    with tempfile.TemporaryDirectory() as temporary:
        paper = _Print(chapters, sources or notebooks[0].parent, Path(temporary))
        paper.output = output
        main = paper.folder / "main.typ"
        main.write_text(_front(chapters) + _typeset(map(paper.page, chapters)), encoding="utf-8")
        shutil.copyfile(ASSETS / "report.typ", paper.folder / "report.typ")
        try:
            typst.compile(main, output=target, root=paper.folder)
        except typst.TypstError as error:
            raise ReportError(f"Typst: {str(error).splitlines()[0]}") from None
    return target


def _front(chapters: list[Chapter]) -> str:
    counts = " and ".join(f"{len(_floats(chapters, kind))} {kind.lower()}s" for kind in ("Table", "Figure"))
    names = f'title: "{TITLE}", subtitle: "{SUBTITLE}", note: "{len(chapters)} chapters, {counts}"'
    return f'#import "report.typ": *\n#show: report.with({names})\n\n'


def _typeset(pages: Iterable[str]) -> str:
    import pypandoc

    # Columns: Pandoc would give a table with long lines fixed widths; Typst finds better ones.
    options = ["--columns=100000", "--wrap=preserve", "--syntax-highlighting=none"]
    text = pypandoc.convert_text("\n\n".join(pages), "typst", format=PANDOC_READER, extra_args=options)
    # A cell that begins with "+ " or "- " would be a list to Typst.
    return re.sub(r"(?<=\[)(?=[-+/=] )", r"\\", text)


# -------------------------------------------------------------------------------- pictures


def pictures(notebooks: list[Path], output: Path) -> list[Path]:
    """Writes each labelled figure of executed notebooks to `output`, as SVG and PNG: `01-best-curves.svg`.

    What a notebook trains as one looks on differs from time to time (tag nbval-ignore-output), and is left out.
    """
    import nbformat

    output.mkdir(parents=True, exist_ok=True)
    written = []
    for path in notebooks:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.metadata.get("label", "").startswith("fig-") and "nbval-ignore-output" not in _tags(cell):
                stem = f"{path.stem.split('_')[0]}-{cell.metadata['label'].removeprefix('fig-')}"
                written += [_picture(data, output / stem) for data in _images(cell)]
    return [path for pair in written for path in pair]


def _tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def _images(cell) -> list[dict]:
    return [output.data for output in cell.outputs if "image/png" in output.get("data", {})][:1]


def _picture(data: dict, stem: Path) -> list[Path]:
    png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    png.write_bytes(b64decode(data["image/png"]))
    if "image/svg+xml" not in data:
        return [png]
    svg.write_text("".join(data["image/svg+xml"]))
    return [png, svg]


# -------------------------------------------------------------------------------- all of it


def build(
    notebooks: Path = Path("notebooks"),
    output: Path = Path("report"),
    run: bool = True,
    figures: Path | None = None,
) -> tuple[Path, Path]:
    """Makes the whole report, from notebooks executed anew if `run`; gives the paths of its site and its PDF.

    The figures go to the folder `figures` too, if one is named. All is made beside `output` first, then
    moved there: after an error the last good report is still whole.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".report-") as temporary:
        folder = Path(temporary)
        executed = execute(notebooks, folder / "notebooks") if run else _in_order(notebooks)
        pdf(executed, folder, sources=notebooks)
        html(executed, folder, sources=notebooks)
        if figures:
            pictures(executed, figures)
        _replace(folder, output)
    return output / "html" / "index.html", output / "report.pdf"


def _replace(new: Path, output: Path) -> None:
    output.mkdir(exist_ok=True)
    if (output / "html").exists():
        (output / "html").rename(new / "replaced")
    (new / "html").rename(output / "html")
    (new / "report.pdf").replace(output / "report.pdf")
