"""Links, images and names of notebooks, in the forms that Markdown and HTML have; none may end dead or in silence."""

import os
import subprocess

import pytest

from helpers.publish import build, chapters
from tests.publish.made import SVG, code, encoded, links, picture, result, text, write

NAMES = ["my notes", "a(1)", "a&b", "b+c", "c#d", "50%", "e%20f", "g:h", "数据"]

FORMS = """[it](https://en.wikipedia.org/wiki/Gamma_(letter)) and <a href="notes.txt">HTML</a>
![one](pic.png "title") ![two](<my pic.png>) ![three](my%20pic.png) <img src="pic.png" alt="four">
![five](attachment:at%20tached.png) ![six](data:image/png;base64,{png}) [file][r] [angle](<my notes.txt>)
[there](#My-Part) [github](#my-part) [elsewhere](c%23d.ipynb#Its-part) [place](#here) <a id="here"></a>
[top](#my-notes) [numbered](#fig-one) [Figure](#fig-one)
[![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/x)
![remote](https://example.com/remote.png) [post](mailto:a@example.com) <https://example.com/a--b>

[r]: notes.txt

## My Part

{others}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("links")
    for name in ("pic.png", "my pic.png"):
        (root / name).write_bytes(picture(color="red" if name == "pic.png" else "blue"))
    for name in ("notes.txt", "my notes.txt"):
        (root / name).write_text("notes")
    others = " ".join(f"[to {name}](<{name.replace('%', '%25').replace('#', '%23')}.ipynb>)" for name in NAMES)
    others = others.replace("g:h", "g%3Ah")
    markdown = FORMS.format(png=encoded(picture(color="green")), others=others)
    attached = {"at tached.png": {"image/png": encoded(picture(color="white"))}}
    for name in NAMES:
        write(root / f"{name}.ipynb", text("## Its part\n\n## Its part"))
    write(
        root / "my notes.ipynb",
        text(markdown, **attached),
        code("f", result(svg=SVG.format(9)), label="fig-one", caption="C"),
    )
    build.build(root, root / "out", run=False)
    return root


def test_every_link_and_image_leads_somewhere(folder):
    site = folder / "out" / "html"
    pages = {path.name: path.read_text() for path in site.glob("*.html")}
    assert len(pages) == len(NAMES) + 2
    for page in pages.values():
        for name, anchor in links(page):
            if name and not name.startswith(("https:", "mailto:")):
                assert (site / name).is_file(), name
                assert not anchor or f'id="{anchor}"' in pages[name], (name, anchor)


def test_each_form_is_as_it_is_meant(folder):
    page = (folder / "out" / "html" / "my-notes.html").read_text()
    found = ["#".join(filter(None, pair)) for pair in links(page)]
    assert "https://en.wikipedia.org/wiki/Gamma_(letter)" in found and "mailto:a@example.com" in found
    assert found.count(f"files/{folder.name}/notes.txt") == 2 and f"files/{folder.name}/my notes.txt" in found
    assert found.count("my-notes.html#my-notes-my-part") == 2 and "my-notes.html#my-notes-here" in found
    assert {f"{name}.html" for name in ("a-1-", "a-b", "b-c", "c-d", "50-", "e-20f", "g-h", "数据")} <= {*found}
    assert "c-d.html#c-d-its-part" in found and "https://example.com/remote.png" in found
    images = [address for address in found if address.startswith("images/")]
    assert len(images) == 7 and len(set(images)) == 5
    assert ">Colab</a>" in page and 'alt="four"' in page and ">Figure\N{NO-BREAK SPACE}1</a>" in page


def test_they_are_in_print_too(folder):
    pdf = folder / "out" / "report.pdf"
    urls = subprocess.run(["pdfinfo", "-url", pdf], capture_output=True, text=True)
    if urls.returncode:
        pytest.skip("needs pdfinfo (poppler-utils)")
    for part in ("Gamma_(letter)", "notes.txt", "colab.research.google.com/github", "remote.png", "mailto:"):
        assert part in urls.stdout
    images = subprocess.run(["pdfimages", "-list", pdf], capture_output=True, text=True).stdout.splitlines()[2:]
    assert len(images) >= 4


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        ("[x](none.txt)", "links to none.txt, which is not a file"),
        ('<img src="none.png">', "links to none.png, which is not a file"),
        ("![x](attachment:none.png)", "attachment:none.png, but nothing"),
        ("![x](data:image/png;base64,AAAA)", "an image that can't be read"),
        ("![x](notes.txt)", r"shows notes.txt: make it a PNG"),
        ("[x](#none)", "refers to #none, but no table"),
        ("[x](here.ipynb#none)", "refers to #none, but no table"),
        ("[x](ftp://example.com)", "links to ftp://example.com: only http"),
        ("[x](//example.com)", "links to //example.com: only http"),
        ("$\\frac{$", "can't read the formula"),
        ("![x](bad.png)", "an image that can't be read"),
    ],
)
def test_what_can_not_be_shown_is_named(markdown, message, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG, cut")
    notebook = write(tmp_path / "here.ipynb", text(f"a list\n\n- {markdown}"))
    with pytest.raises(chapters.ReportError, match=r"^here\.ipynb, cell 2: ") as error:
        build.html(chapters.read([notebook]), tmp_path, tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value) and "\x1b" not in str(error.value)


@pytest.mark.parametrize("names", [["search"], ["index"], ["Index"], ["a b", "a-b"], ["x", "X"]])
def test_names_that_would_be_another_page_are_refused(names, tmp_path):
    if names == ["x", "X"] and os.path.normcase("X") == "x":
        pytest.skip("one file here")
    paths = [write(tmp_path / f"{name}.ipynb") for name in names]
    with pytest.raises(chapters.ReportError, match=rf"^{names[-1]}\.ipynb: its page would be .+: rename it"):
        chapters.read(paths)


def test_an_error_has_no_colours(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert chapters.first_line("\x1b[91mWARNING: a\x1b[39;49;00m\nb") == "WARNING: a"
