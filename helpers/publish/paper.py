"""The printed report: Pandoc's Markdown of the chapters, set by Typst. It shows no code, and never a table cut at the
margin."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from helpers.publish.chapters import (
    ASSETS,
    SUBTITLE,
    TITLE,
    Chapter,
    Code,
    Float,
    ReportError,
    Writer,
    fenced,
    floats,
    read,
)

# What Jupyter reads as Markdown, in Pandoc's terms: no sub- or superscripts, no names for headings.
PANDOC_READER = "commonmark_x-gfm_auto_identifiers-subscript-superscript-definition_lists-fancy_lists"


class Paper(Writer):
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
        return fenced("text", block.text) if block.shown else ""

    def figure(self, block: Float) -> str:
        body = f'picture("{self.picture(block)}", "{block.alt.replace(chr(34), chr(39))}")'
        opening, closing = _typst(f"#figure({body}, caption: inline["), _typst(f"]) <{block.label}>")
        return "\n\n".join([opening, self.caption(block), closing])

    def table(self, block: Float) -> str:
        opening, closing = _typst("#figure(kind: table, caption: inline["), _typst(f"])) <{block.label}>")
        content = [self.caption(block), _typst("], fitted(["), self.text(block.body)]
        return "\n\n".join([opening, *content, closing])

    def caption(self, block: Float) -> str:
        """The caption, of which the lists of tables and figures show the first sentence alone."""
        first, *rest = re.split(r"(?<=\.) (?=[A-Z])", block.caption, maxsplit=1)
        shown = f"**{block.name}.** {self.text(first)}"
        return f"{shown}`#beyond[ `{{=typst}}{self.text(rest[0])}`]`{{=typst}}" if rest else shown

    def page(self, chapter: Chapter) -> str:
        return f"{{#chapter-{chapter.path.stem}}}\n{super().page(chapter).lstrip()}"


def _typst(text: str) -> str:
    return fenced("{=typst}", text)


def pdf(notebooks: list[Path], output: Path, sources: Path | None = None) -> Path:
    """Prints executed notebooks; gives `output/report.pdf`. Relative links start as in `html`."""
    import typst

    chapters = read(notebooks)
    output.mkdir(parents=True, exist_ok=True)
    target = output / "report.pdf"
    with tempfile.TemporaryDirectory() as temporary:
        paper = Paper(chapters, sources or notebooks[0].parent, Path(temporary))
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
    counts = " and ".join(f"{len(floats(chapters, kind))} {kind.lower()}s" for kind in ("Table", "Figure"))
    names = f'title: "{TITLE}", subtitle: "{SUBTITLE}", note: "{len(chapters)} chapters, {counts}"'
    return f'#import "report.typ": *\n#show: report.with({names})\n\n'


def _typeset(pages: Iterable[str]) -> str:
    import pypandoc

    # Columns: Pandoc would give a table with long lines fixed widths; Typst finds better ones.
    options = ["--columns=100000", "--wrap=preserve", "--syntax-highlighting=none"]
    text = pypandoc.convert_text("\n\n".join(pages), "typst", format=PANDOC_READER, extra_args=options)
    # A cell that begins with "+ " or "- " would be a list to Typst.
    return re.sub(r"(?<=\[)(?=[-+/=] )", r"\\", text)
