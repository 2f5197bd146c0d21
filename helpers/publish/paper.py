"""The printed report: HTML of the chapters, set by Typst. It never shows what is folded, or a table that is cut."""

import html as markup
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bs4 import BeautifulSoup

from helpers.publish.chapters import ASSETS, MARK, SUBTITLE, TITLE, Chapter, Code, Float, ReportError, first_line
from helpers.publish.markup import parsed
from helpers.publish.writer import Writer

FONTS = ("Libertinus Serif", "New Computer Modern Math", "DejaVu Sans Mono")  # what Typst brings along


class Paper(Writer):
    """For Pandoc: HTML with pieces of Typst around tables and figures; links to files start from `output`."""

    def __init__(self, chapters: list[Chapter], sources: Path, folder: Path, output: Path) -> None:
        super().__init__(chapters, sources, folder)
        self.output = output

    def to_float(self, label: str) -> str:
        return f"#{label}"

    def to_place(self, chapter: Chapter, name: str) -> str:
        return f"#{chapter.anchor(name or chapter.title)}"

    def to_file(self, file: Path, name: Path) -> str:
        return Path(os.path.relpath(file, self.output.resolve())).as_posix()

    def math(self, formula: str, display: bool) -> str:
        kind = "math/tex; mode=display" if display else "math/tex"
        return f'<script type="{kind}">{formula.replace("</", "< /")}</script>'

    def prose(self, text: BeautifulSoup) -> BeautifulSoup:
        for fold in text("details"):
            fold.extract()
        for table in text("table"):
            table.insert_before(parsed(_typst("#fitted([")))
            table.insert_after(parsed(_typst("])")))
        return super().prose(text)

    def code(self, block: Code) -> str:
        return "" if block.folded else f"<pre><code>{markup.escape(block.text)}</code></pre>"

    def figure(self, block: Float) -> str:
        return self._float(block, "image", _typst(f"#picture({_string(self.picture(block))}, {_string(block.alt)})"))

    def table(self, block: Float) -> str:
        return self._float(block, "table", self.shown(block.html, dollars=True))

    def _float(self, block: Float, kind: str, body: str) -> str:
        opening, end = _typst(f"#figure(kind: {kind}, caption: inline["), _typst(f"]) <{block.label}>")
        return f"{opening}<p>{self.caption(block)}</p>{_typst('], [')}{body}{end}"


def _typst(text: str) -> str:
    # The attribute makes it Typst (assets/raw.lua), and nothing of a notebook's may have it (markup.ATTRIBUTES).
    return f'<pre data-typst="block"><code>{markup.escape(text)}</code></pre>\n'


def _string(text: str) -> str:
    """A string of Typst's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pdf(chapters: list[Chapter], output: Path, sources: Path, target: Path | None = None) -> Path:
    """Writes the printed report of notebooks; gives `output/report.pdf`.

    Relative links start from `sources`; those of the PDF from `target`, where it is put in the end.
    """
    import typst

    printed = output / "report.pdf"
    with tempfile.TemporaryDirectory() as temporary:
        paper = Paper(chapters, sources, Path(temporary), target or output)
        main = paper.folder / "main.typ"
        text = _typeset("".join(map(paper.page, chapters)))
        names = f'title: "{TITLE}", subtitle: "{SUBTITLE}", mark: "{MARK}"'
        main.write_text(f'#import "report.typ": *\n#show: report.with({names})\n\n{text}', encoding="utf-8")
        shutil.copyfile(ASSETS / "report.typ", paper.folder / "report.typ")
        try:
            typst.compile(main, output=printed, root=paper.folder)
        except typst.TypstError as error:
            raise ReportError(f"Typst: {first_line(error)}") from None
        if without := _without_glyph(text, paper.folder / "glyphs.typ"):
            print(f"{printed.name}: no font here has {without}: install one, such as fonts-noto-cjk", file=sys.stderr)
    return printed


def _typeset(page: str) -> str:
    """HTML as Typst."""
    import pypandoc

    # Columns: Pandoc would give a table with long lines fixed widths; Typst finds better ones.
    options = [
        "--columns=100000",
        "--wrap=preserve",
        "--syntax-highlighting=none",
        f"--lua-filter={ASSETS / 'raw.lua'}",
    ]
    text = pypandoc.convert_text(page, "typst", format="html-auto_identifiers", extra_args=options)
    # A cell that begins with "+ " or "- " would be a list to Typst.
    return re.sub(r"(?<=\[)(?=[-+/=] )", r"\\", text)


def _without_glyph(text: str, file: Path) -> str:
    """The characters that no font here can show, found by a standard for PDF that forbids such gaps."""
    import typst

    def shown(characters: Iterable[str]) -> bool:
        fonts = ", ".join(map(_string, FONTS))
        lines = "\n\n".join(f"#text({_string(each)})" for each in characters)
        file.write_text(f'#set document(title: "glyphs")\n#set text(font: ({fonts}))\n{lines}', encoding="utf-8")
        try:
            typst.compile(file, pdf_standards="a-2b")
        except typst.TypstError:
            return False
        return True

    found = sorted({each for each in text if each > "\xff"})
    return "" if shown(found) else " ".join(each for each in found if not shown(each))
