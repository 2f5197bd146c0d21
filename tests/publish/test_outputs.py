"""Outputs of cells are shown as Jupyter shows them, on the site and in print; what no font shows is named."""

import os
import subprocess

import pytest
from nbformat.v4 import new_output

from helpers.publish import build, chapters, paper
from helpers.publish.execute import a_home
from tests.publish.made import code, encoded, picture, result, stream, text, write


def blocks(folder, *outputs):
    """What a cell's outputs become, without its code."""
    [chapter] = chapters.read([write(folder / "a.ipynb", code("x", *outputs, caption="C"))])
    return chapter.blocks[2:]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (["\r1", "\r2", "\r3\n"], "3"),
        (["a\n", "b\n", "c"], "a\nb\nc"),
        (["a\r\n", "b\r\n"], "a\nb"),
        (["10 %\r", "20 %\rdone\n", "more"], "done\nmore"),
        (["\x1b[31mred\x1b[0m\n", "\x1b[1;3", "2mgreen\x1b[0m"], "red\ngreen"),
        (["a\x00\x07b"], "ab"),
        (["\x1b]8;;http://example.com\x07a\x1b]8;;\x07"], "a"),
        (["\x1b]8;;http://example.com\x1b\\a\x1b]8;;\x1b\\b"], "ab"),
        (["\x1b]0;title\x07", "a]0;b"], "a]0;b"),
    ],
)
def test_streams_are_joined_as_a_terminal_shows_them(printed, shown, tmp_path):
    [block] = blocks(tmp_path, *map(stream, printed))
    assert block == chapters.Code(shown, cell=2)


def test_errors_of_a_stream_between_do_not_tear_it(tmp_path):
    found = blocks(tmp_path, stream("a"), stream("9 %", "stderr"), stream("b"))
    assert [block.text for block in found] == ["a", "b"]


def test_values_lose_their_colours_too(tmp_path):
    [block] = blocks(tmp_path, result(plain="\x1b[34mblue\x1b[0m"))
    assert block.text == "blue"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("outputs")
    frame = (
        "<style scoped>.x {}</style><table><tr><th></th><th>loss</th></tr><tr><td>first</td><td>$x_1$</td></tr></table>"
    )
    display = new_output("display_data", {"image/jpeg": encoded(picture("JPEG")), "text/plain": "<JPEG>"})
    write(
        root / "a.ipynb",
        code("x", result(latex="$\\frac{one}{two}$", plain="<Latex>")),
        code("x", result(latex="\\begin{aligned}three&=four\\end{aligned}", plain="<Latex>")),
        code("x", result(html="<p>five <b>six</b></p>", plain="<HTML>")),
        code("x", result(html=frame, plain="   loss")),
        code("x", display, caption="Seven.", label="fig-seven"),
        text("<details><summary>records</summary>\n\n- [a](a.ipynb): folded\n\n</details>\n\nAfter the fold."),
        code("x", result(html="Shown.<details><summary>records</summary>folded</details>")),
        text('~~eight~~ “nine” -- "ten" `--`...'),
    )
    build.build(root, root / "out", run=False)
    return root / "out"


def test_rich_outputs_are_shown_on_the_site(report):
    page = (report / "html" / "a.html").read_text()
    assert page.count("<math") == 3 and "<b>six</b>" in page and "<td></td><th>loss</th>" in page
    assert 'src="images/fig-seven.jpg"' in page and (report / "html" / "images" / "fig-seven.jpg").exists()
    assert "<s>eight</s> “nine” – “ten”" in page and "<code>--</code>" in page and "…" in page
    assert not any(text in page for text in ("&lt;Latex&gt;", "&lt;HTML&gt;", "&lt;JPEG&gt;", "scoped"))


def test_rich_outputs_are_shown_in_print(report):
    printed = subprocess.run(["pdftotext", report / "report.pdf", "-"], capture_output=True, text=True).stdout
    for word in ("five six", "loss", "first", "Figure 1. Seven.", "eight “nine” – “ten” --…"):
        assert word in " ".join(printed.split())
    assert not any(text in printed for text in ("<Latex>", "<HTML>", "<JPEG>", "frac"))


def test_what_is_folded_on_the_site_is_not_printed(report):
    printed = subprocess.run(["pdftotext", report / "report.pdf", "-"], capture_output=True, text=True).stdout
    page = (report / "html" / "a.html").read_text()
    assert "records" not in printed and "folded" not in printed and page.count("<summary>records</summary>") == 2
    assert "After the fold." in printed and "Shown." in printed


def test_characters_without_a_glyph_are_named_in_one_line(tmp_path, capfd):
    chapter = chapters.read([write(tmp_path / "a.ipynb", text("Tangut 𗀀𗀁, known κ → ± “é”."))])
    paper.pdf(chapter, tmp_path, tmp_path)
    assert capfd.readouterr().err == ("report.pdf: no font here has 𗀀 𗀁: install one, such as fonts-noto-cjk\n")


def test_known_characters_need_no_word(tmp_path, capfd):
    paper.pdf(chapters.read([write(tmp_path / "a.ipynb", text("κ → ± “é” − ∞ ✓ `ν│`"))]), tmp_path, tmp_path)
    assert capfd.readouterr().err == ""


def test_a_user_without_a_home_gets_one_for_the_while(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.environ.get("HOME", "~"))
    with a_home():
        assert os.path.isdir(os.environ["HOME"])
    assert "HOME" not in os.environ
