"""Notebooks on their way to site and paper: read once into blocks, their tables and figures numbered once for both.
It must never change a notebook.

A table or figure takes "caption" and "label" from the metadata of its output or else of its cell; a table may also
bring its caption along, as `<caption>`. Tags of a cell: "remove-cell" and "remove-input" as in Jupyter Book;
"show-input" for code that teaches, which is not folded; "landing" for what the site's first page shows too.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from helpers.publish.markup import line, markdown, name_of, parsed, places, plain, slug

TITLE = "What makes a CNN learn?"
SUBTITLE = "A course report on CIFAR-10 and MNIST, reproduced"
MARK = "made by python -m helpers report"  # what tells our site and PDF from others'
ASSETS = Path(__file__).parent / "assets"

COMMAND = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")  # to a terminal: its title, the address of a link
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# What a figure may be, best first, and what an image may be.
FIGURES = {
    "image/svg+xml": ".svg",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
}
RESERVED = ("index", "search", "genindex")  # pages that every site has


class ReportError(RuntimeError):
    """The report can't be made; the message says in one line why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a page, with the number and the tags of its cell."""

    cell: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prose(Block):
    """Text and what a cell shows as HTML, not made safe yet; `images`: those attached to its cell, by name."""

    html: str
    images: Mapping[str, dict] = field(default_factory=dict)
    dollars: bool = False  # whether $...$ is a formula: in Markdown they are marked already


@dataclass(frozen=True)
class Code(Block):
    """Source of a cell, or what it printed (no language); `folded`: shown to those who ask for it."""

    text: str
    language: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Float(Block):
    """A numbered table (in `html`) or figure (the same image in each of `images`); the caption is HTML."""

    kind: str  # "Table" or "Figure"
    number: int
    label: str
    caption: str
    alt: str
    html: str = ""
    images: Mapping[str, bytes] = field(default_factory=dict)  # by suffix, the best first

    @property
    def name(self) -> str:
        """As it is cited: "Table 3"."""
        return f"{self.kind} {self.number}"


@dataclass(frozen=True)
class Chapter:
    """One notebook, read: its file, the name of its page, its number ("1" of 01_name.ipynb, none of 00_name.ipynb), its
    title, its blocks in order, the places that links may name.
    """

    path: Path
    page: str
    number: str
    title: str
    blocks: list[Block]
    places: frozenset[str]

    @property
    def heading(self) -> str:
        """The title with its number: "1. Title"."""
        return f"{self.number}. {self.title}" if self.number else self.title

    def anchor(self, name: str) -> str:
        """The name of a heading or another place in the whole report."""
        return f"{self.page}-{slug(name)}"


def first_line(text: object, length: int = 200) -> str:
    """The first line of an error's message, without a terminal's colours."""
    lines = _uncoloured(str(text).strip()).splitlines()
    return lines[0][:length] if lines else ""


def _uncoloured(text: str) -> str:
    from nbconvert.filters import strip_ansi

    return CONTROL.sub("", strip_ansi(COMMAND.sub("", text)))


# -------------------------------------------------------------------------------- read


def in_order(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise ReportError(f"no notebooks in {folder}: run from the repository's root, or name their folder")
    return paths


def notebook(path: Path):
    """The notebook in a file, as nbformat reads it. Raises ReportError, naming the file, if it holds none."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except OSError:
        raise
    except Exception as error:  # nbformat raises a different class for each kind of damage
        reason = first_line(error, 100) or type(error).__name__
        raise ReportError(f"{path} is no notebook ({reason}): restore it, or move it away") from None


def read(notebooks: Iterable[Path]) -> list[Chapter]:
    """Reads executed notebooks; numbers their tables and figures in order of appearance, over all of them."""
    numbers: Counter[str] = Counter()
    chapters = [_chapter(path, notebook(path), numbers) for path in notebooks]
    repeated = [label for label, n in Counter(f.label for f in floats(chapters)).items() if n > 1]
    if repeated:
        raise ReportError(f"two tables or figures have the label {repeated[0]!r}: give each its own")
    taken = dict.fromkeys(RESERVED, "one that every site has")
    for chapter in chapters:
        if other := taken.get(chapter.page.casefold()):
            raise ReportError(f"{chapter.path.name}: its page would be {chapter.page}.html, {other}: rename it")
        taken[chapter.page.casefold()] = f"that of {chapter.path.name}"
    return chapters


def floats(chapters: Iterable[Chapter]) -> list[Float]:
    return [block for chapter in chapters for block in chapter.blocks if isinstance(block, Float)]


def _chapter(path: Path, notebook, numbers: Counter[str]) -> Chapter:
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    blocks: list[Block] = []
    for place, cell in enumerate(notebook.cells, start=1):
        tags = tuple(cell.metadata.get("tags", ()))
        try:
            blocks += [replace(block, cell=place, tags=tags) for block in _cell(cell, tags, numbers)]
        except ReportError as error:
            raise ReportError(f"{path.name}, cell {place}: {error}") from None
    pages = [parsed(block.html) for block in blocks if isinstance(block, Prose)]
    title = pages[0].find(recursive=False) if pages else None
    if title is None or title.name != "h1" or blocks[0].cell != 1:
        raise ReportError(f"{path.name}, cell 1: begin the notebook with a Markdown cell '# Title'")
    names = frozenset(slug(name_of(place)) for page in pages for place in places(page))
    page = re.sub(r"[^\w.-]+", "-", path.stem)  # what an address can hold as it is
    number = re.match(r"0*(\d*)", path.stem)[1]
    return Chapter(path, page, number, plain(str(title)), _joined(blocks), names)


def _joined(blocks: list[Block]) -> list[Block]:
    """With folded code that follows folded code, as that of cells which show nothing does, in one fold."""
    found: list[Block] = []
    for block in blocks:
        last = found[-1] if found else None
        if isinstance(block, Code) and block.folded and isinstance(last, Code) and last.folded:
            found[-1] = replace(block, text=f"{last.text}\n\n{block.text}")
        else:
            found.append(block)
    return found


def _cell(cell, tags: tuple[str, ...], numbers: Counter[str]) -> Iterator[Block]:
    if "remove-cell" in tags:
        return
    if cell.cell_type == "markdown":
        yield Prose(markdown(cell.source), cell.get("attachments", {}))
    if cell.cell_type != "code":
        return
    if cell.source.strip() and "remove-input" not in tags:
        yield Code(cell.source, "python", folded="show-input" not in tags)
    naming = dict(cell.metadata)
    for output in cell.outputs:
        block = _output(output, naming | output.get("metadata", {}), numbers)
        if isinstance(block, Float):
            naming = {}  # the cell's caption names its first table or figure only
        if block:
            yield block


def _output(output, naming: dict, numbers: Counter[str]) -> Block | None:
    if output.output_type == "error":
        reason = first_line(f"{output.ename}: {output.evalue}")
        raise ReportError(f"holds an error ({reason}): repair and run it")
    if output.output_type == "stream":
        return _printed(output.text) if output.name == "stdout" else None  # progress bars go to stderr
    data = output.data
    if any(kind in data for kind in FIGURES):
        return _figure(data, naming, numbers)
    if "text/html" in data and ("<table" in data["text/html"] or "text/markdown" not in data):
        return _table(data["text/html"], naming, numbers, numbered="text/markdown" in data)
    if "text/markdown" in data:
        return Prose(markdown(data["text/markdown"]))
    if "text/latex" in data:
        formula = data["text/latex"].strip()
        return Prose(markdown(formula if "$" in formula else f"$$\n{formula}\n$$"))
    return _printed(data.get("text/plain", ""))


def _printed(text: str) -> Code | None:
    text = _uncoloured(text.replace("\r\n", "\n"))
    return Code(text.rstrip()) if text.strip() else None


def _figure(data: dict, naming: dict, numbers: Counter[str]) -> Float:
    images = {
        suffix: data[kind].encode() if suffix == ".svg" else decoded(data[kind])
        for kind, suffix in FIGURES.items()
        if kind in data
    }
    return _float("Figure", naming, line(naming.get("caption", "")), numbers, images=images)


def decoded(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        raise ReportError("holds an image that can't be decoded: make it anew") from None


def _table(page: str, naming: dict, numbers: Counter[str], numbered: bool) -> Block:
    """A table has a number if it has a form in Markdown too, as ours have; a data frame's is shown as it is."""
    if not numbered:
        return Prose(page, dollars=True)
    found = re.search(r"<caption[^>]*>(.*?)</caption>", page, re.DOTALL)
    page, own = (page.replace(found[0], ""), found[1]) if found else (page, "")
    return _float("Table", naming, line(naming.get("caption", "")) or own, numbers, html=page)


def _float(kind: str, naming: dict, caption: str, numbers: Counter[str], **content) -> Float:
    if not caption.strip():
        raise ReportError(f'a {kind.lower()} without caption: add "caption" to its cell\'s metadata')
    numbers[kind] += 1
    label = naming.get("label", f"{kind.lower()}-{numbers[kind]}")
    if not re.fullmatch(r"[A-Za-z][\w.-]*", label):
        raise ReportError(f"label {label!r}: use letters, digits, '-', '_' and '.' only")
    alt = naming.get("alt", plain(caption))
    return Float(kind, numbers[kind], label, caption, alt, **content)
