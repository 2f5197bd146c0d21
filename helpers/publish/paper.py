"""The printed report: HTML of the chapters, set by Typst. It never shows code, what is folded, or a table cut
at the margin."""

import html as markup
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from markdown_it.token import Token

from helpers.publish.chapters import (
    ASSETS,
    MARK,
    SUBTITLE,
    TITLE,
    Chapter,
    Code,
    Float,
    ReportError,
    Writer,
    first_line,
    floats,
)
from helpers.publish.markup import cleaned, fence, inline, parse, raw, rendered, safe, script, words

FONTS = ("Libertinus Serif", "New Computer Modern Math", "DejaVu Sans Mono")  # what Typst brings along


class Paper(Writer):
    """For Pandoc and Typst: HTML with pieces of Typst around tables and figures; no code."""

    output = Path()  # the folder of the PDF, which its links to files start from

    def to_float(self, label: str) -> str:
        return f"#{label}"

    def to_place(self, chapter: Chapter, name: str) -> str:
        return f"#{chapter.anchor(name)}"

    def to_file(self, file: Path, name: Path) -> str:
        return Path(os.path.relpath(file, self.output.resolve())).as_posix()

    def math(self, formula: str) -> str:
        return script(formula)

    def text(self, tokens: list[Token]) -> list[Token]:
        found = list(_unfolded(super().text(tokens)))
        for token, after in zip(found, found[1:]):
            if token.type == "heading_open":
                name = words(after)
                token.attrs["id"] = self.anchor("" if name == self.chapter.title else name)
        return found

    def code(self, block: Code) -> list[Token]:
        return [fence("", block.text)] if block.shown else []

    def shown(self, page: str) -> list[Token]:
        page = re.sub("<details.*?</details>", "", cleaned(page, self, formulas=True), flags=re.DOTALL)
        return [_typst("#fitted(["), raw(page), _typst("])")]

    def figure(self, block: Float) -> list[Token]:
        body = f"picture({_string(self.picture(block))}, {_string(block.alt)})"
        return [_typst(f"#figure({body}, caption: inline["), *self.caption(block), _typst(f"]) <{block.label}>")]

    def table(self, block: Float) -> list[Token]:
        content = [*self.caption(block), _typst("], fitted(["), *safe(parse(block.body), self)]
        return [_typst("#figure(kind: table, caption: inline["), *content, _typst(f"])) <{block.label}>")]

    def caption(self, block: Float) -> list[Token]:
        """The caption, of which the lists of tables and figures show the first sentence alone."""
        first, *rest = re.split(r"(?<=\.) (?=[A-Z])", block.caption, maxsplit=1)
        opening, shown, closing = safe(inline(f"**{block.name}.** {first}"), self)
        for more in rest:
            _, beyond, _ = safe(inline(more), self)
            shown.children += [_piece("#beyond[ "), *beyond.children, _piece("]")]
        return [opening, shown, closing]


def _unfolded(tokens: list[Token]) -> Iterator[Token]:
    """What is there to be read without unfolding anything."""
    depth = 0
    for token in tokens:
        within = depth
        if token.type == "html_block":
            depth += token.content.count("<details") - token.content.count("</details>")
        if not within and not depth and "<details" not in token.content:
            yield token


def _typst(text: str) -> Token:
    # The attribute makes it Typst (assets/raw.lua), and nothing of a notebook's may have it (markup.ATTRIBUTES).
    return raw(f'<pre data-typst="block"><code>{markup.escape(text)}</code></pre>\n')


def _piece(text: str) -> Token:
    return Token("html_inline", "", 0, content=f'<code data-typst="inline">{markup.escape(text)}</code>')


def _string(text: str) -> str:
    """A string of Typst's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pdf(chapters: list[Chapter], output: Path, sources: Path, target: Path | None = None) -> Path:
    """Prints notebooks; gives `output/report.pdf`. Relative links start from `sources`, and lead from `target`."""
    import typst

    output.mkdir(parents=True, exist_ok=True)
    printed = output / "report.pdf"
    with tempfile.TemporaryDirectory() as temporary:
        paper = Paper(chapters, sources, Path(temporary))
        paper.output = target or output
        main = paper.folder / "main.typ"
        text = _typeset(rendered(paper.page(chapter)) for chapter in chapters)
        main.write_text(_front(chapters) + text, encoding="utf-8")
        shutil.copyfile(ASSETS / "report.typ", paper.folder / "report.typ")
        try:
            typst.compile(main, output=printed, root=paper.folder)
        except typst.TypstError as error:
            raise ReportError(f"Typst: {first_line(error)}") from None
        if without := _without_glyph(text, paper.folder / "glyphs.typ"):
            print(f"{printed.name}: no font here has {without}: install one, such as fonts-noto-cjk", file=sys.stderr)
    return printed


def _front(chapters: list[Chapter]) -> str:
    counts = " and ".join(f"{len(floats(chapters, kind))} {kind.lower()}s" for kind in ("Table", "Figure"))
    names = f'title: "{TITLE}", subtitle: "{SUBTITLE}", note: "{len(chapters)} chapters, {counts}", mark: "{MARK}"'
    return f'#import "report.typ": *\n#show: report.with({names})\n\n'


def _typeset(pages: Iterable[str]) -> str:
    import pypandoc

    # Columns: Pandoc would give a table with long lines fixed widths; Typst finds better ones.
    options = [
        "--columns=100000",
        "--wrap=preserve",
        "--syntax-highlighting=none",
        f"--lua-filter={ASSETS / 'raw.lua'}",
    ]
    text = pypandoc.convert_text("\n\n".join(pages), "typst", format="html-auto_identifiers", extra_args=options)
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
