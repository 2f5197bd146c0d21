"""Notebooks on their way to site and paper: read once into blocks, numbered once for both, each link resolved.
It must never change a notebook.

A table or figure takes "caption" and "label" from the metadata of its output or else of its cell; a table may also
bring its caption along: `<caption>`, or `Table: caption`.
"""

from __future__ import annotations

import io
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from markdown_it.token import Token

from helpers.publish.markup import anchors, headings, inline, parse, plain, safe, slug, words
from helpers.records import ROOT, Store

TITLE = "What makes a CNN learn"
SUBTITLE = "A course report on CIFAR-10 and MNIST, reproduced"
MARK = "made by python -m helpers report"  # what tells our site and PDF from others'
ASSETS = Path(__file__).parent / "assets"

CAPTION_LINE = re.compile(r"^(?:Table)?: +(.+(?:\n(?!\s*\||\s*$).+)*)", re.MULTILINE)
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


@dataclass(frozen=True)
class Text:
    """Running text, as Markdown's tokens, with the images attached to its cell by name."""

    tokens: list[Token]
    images: Mapping[str, dict] = field(default_factory=dict)
    cell: int = 0


@dataclass(frozen=True)
class Html:
    """What a cell shows as HTML, without a number."""

    html: str
    cell: int = 0


@dataclass(frozen=True)
class Code:
    """Source of a cell (`shown` false: folded away) or what it printed (`shown` true)."""

    text: str
    shown: bool
    cell: int = 0


@dataclass(frozen=True)
class Float:
    """A numbered table (Markdown in `body`, HTML in `html`) or figure (the same image in each of `images`)."""

    kind: str  # "Table" or "Figure"
    number: int
    label: str
    caption: str
    alt: str
    body: str = ""
    html: str = ""
    images: Mapping[str, bytes] = field(default_factory=dict)  # by suffix, the best first
    tags: tuple[str, ...] = ()
    cell: int = 0

    @property
    def name(self) -> str:
        """As it is cited: "Table 3"."""
        return f"{self.kind} {self.number}"


Block = Text | Html | Code | Float


@dataclass(frozen=True)
class Chapter:
    """One notebook, read: its file, the name of its page, its title, its blocks in order, the places links may name."""

    path: Path
    page: str
    title: str
    blocks: list[Block]
    places: frozenset[str]

    def anchor(self, name: str) -> str:
        """The name of a heading or another place in the whole report."""
        return f"{self.page}-{slug(name)}"


def _uncoloured(text: str) -> str:
    from nbconvert.filters import strip_ansi

    return CONTROL.sub("", strip_ansi(COMMAND.sub("", text)))


def first_line(text: object, length: int = 200) -> str:
    """The first line of an error's message, without a terminal's colours."""
    lines = _uncoloured(str(text).strip()).splitlines()
    return lines[0][:length] if lines else ""


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
    _check_names(chapters)
    return chapters


def _check_names(chapters: list[Chapter]) -> None:
    pages: dict[str, Path] = {name: Path() for name in RESERVED}
    for chapter in chapters:
        other = pages.setdefault(chapter.page.casefold(), chapter.path)
        if other is not chapter.path:
            taken = f"that of {other.name}" if other.name else "one that every site has"
            raise ReportError(f"{chapter.path.name}: its page would be {chapter.page}.html, {taken}: rename it")


def floats(chapters: Iterable[Chapter], kind: str = "") -> list[Float]:
    found = [block for chapter in chapters for block in chapter.blocks if isinstance(block, Float)]
    return [f for f in found if f.kind == kind or not kind]


def _chapter(path: Path, notebook, numbers: Counter[str]) -> Chapter:
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    blocks: list[Block] = []
    for place, cell in enumerate(notebook.cells, start=1):
        try:
            blocks += [replace(block, cell=place) for block in _cell(cell, numbers)]
        except ReportError as error:
            raise ReportError(f"{path.name}, cell {place}: {error}") from None
    texts = [block.tokens for block in blocks if isinstance(block, Text)]
    if not texts or [token.tag for token in texts[0][:1]] != ["h1"] or blocks[0].cell != 1:
        raise ReportError(f"{path.name}, cell 1: begin the notebook with a Markdown cell '# Title'")
    places = frozenset(slug(name) for tokens in texts for name in [*headings(tokens), *anchors(tokens)])
    # What an address can hold as it is.
    return Chapter(path, re.sub(r"[^\w.-]+", "-", path.stem), words(texts[0][1]), blocks, places)


def _cell(cell, numbers: Counter[str]) -> Iterator[Block]:
    tags = cell.metadata.get("tags", [])
    if cell.cell_type == "markdown" and "remove-cell" not in tags:
        yield Text(parse(cell.source), cell.get("attachments", {}))
    if cell.cell_type != "code" or "remove-cell" in tags:
        return
    if cell.source.strip() and "remove-input" not in tags:
        yield Code(cell.source, shown=False)
    naming = dict(cell.metadata)
    for output in cell.outputs:
        block = _output(output, naming | output.get("metadata", {}), numbers)
        if isinstance(block, Float):
            naming = {"tags": tags}  # the cell's caption names its first table or figure only
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
    if "text/markdown" in data and "<table" in data.get("text/html", ""):
        return _table(data, naming, numbers)
    if "text/html" in data and "text/markdown" not in data:
        return Html(data["text/html"])
    if "text/markdown" in data:
        return Text(parse(data["text/markdown"]))
    if "text/latex" in data:
        formula = data["text/latex"].strip()
        return Text(parse(formula if "$" in formula else f"$$\n{formula}\n$$"))
    return _printed(data.get("text/plain", ""))


def _printed(text: str) -> Code | None:
    text = _uncoloured(text.replace("\r\n", "\n"))
    return Code(text.rstrip(), shown=True) if text.strip() else None


def _figure(data: dict, naming: dict, numbers: Counter[str]) -> Float:
    images = {
        suffix: data[kind].encode() if suffix == ".svg" else _decoded(data[kind])
        for kind, suffix in FIGURES.items()
        if kind in data
    }
    return _float("Figure", naming, naming.get("caption"), numbers, images=images)


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        raise ReportError("holds an image that can't be decoded: make it anew") from None


def _table(data: dict, naming: dict, numbers: Counter[str]) -> Float:
    page, text = data["text/html"], data["text/markdown"]
    in_html = re.search(r"<caption[^>]*>(.*?)</caption>", page, re.DOTALL)
    in_text = CAPTION_LINE.search(text)
    if in_text:
        text = text.replace(in_text[0], "")
    caption = naming.get("caption") or (in_text and in_text[1]) or (in_html and in_html[1])
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
    alt = naming.get("alt", plain(caption))
    return Float(kind, number, label, caption, alt, tags=tuple(naming.get("tags", ())), **content)


# -------------------------------------------------------------------------------- write


class Writer:
    """Chapters as one kind of page; links and files are put where that kind needs them.

    `folder` is where the pages are written, `sources` where the notebooks' own relative links start from.
    """

    def __init__(self, chapters: list[Chapter], sources: Path, folder: Path) -> None:
        self.chapters = {chapter.path.name: chapter for chapter in chapters}
        self.floats = {block.label: block for block in floats(chapters)}
        self.homes = {f.label: chapter for chapter in chapters for f in floats([chapter])}
        self.sources, self.folder = sources, folder
        self.chapter, self.attached = chapters[0], {}  # where we are: the notebook, and the images of its cell
        self.anchors: set[str] = set()
        (folder / "files").mkdir(parents=True, exist_ok=True)
        (folder / "images").mkdir(exist_ok=True)

    def page(self, chapter: Chapter) -> list[Token]:
        """The whole chapter, as tokens."""
        self.chapter = chapter
        return [token for block in chapter.blocks for token in self._named(block)]

    def _named(self, block: Block) -> list[Token]:
        try:
            return self.block(block)
        except ReportError as error:
            raise ReportError(f"{self.chapter.path.name}, cell {block.cell}: {error}") from None

    def block(self, block: Block) -> list[Token]:
        """One block as tokens."""
        if isinstance(block, Text):
            self.attached = block.images
            return self.text(block.tokens)
        if isinstance(block, Code):
            return self.code(block)
        if isinstance(block, Html):
            return self.shown(block.html)
        return self.figure(block) if block.kind == "Figure" else self.table(block)

    def text(self, tokens: list[Token]) -> list[Token]:
        return safe(tokens, self)

    def caption(self, block: Float) -> list[Token]:
        """ "Table 3." and the caption, as a paragraph."""
        return safe(inline(f"**{block.name}.** {block.caption}"), self)

    def picture(self, block: Float) -> str:
        """Writes a figure's image; gives its path from the pages."""
        suffix, content = next(iter(block.images.items()))
        return self._stored(content, f"{block.label}{suffix}")

    def _stored(self, content: bytes, name: str) -> str:
        _check_image(content, name)
        (self.folder / "images" / name).write_bytes(content)
        return f"images/{name}"

    # ---- what markup.Markup asks

    def target(self, address: str) -> str:
        """What a notebook's link points to, from the pages."""
        parts = _split(address)
        if parts.scheme in ("http", "https", "mailto"):
            return parts.geturl()
        if parts.scheme or parts.netloc:
            raise ReportError(f"links to {address[:200]}: only http, https, mailto and files can be linked to")
        path, name = unquote(parts.path).removeprefix("./"), unquote(parts.fragment)
        if name in self.floats:
            return self.to_float(name)
        chapter = self.chapters.get(path) if path else self.chapter
        if not chapter:
            return quote(self.to_file(*self.source(path)))
        if slug(name) == slug(chapter.title):
            name = ""
        if name and slug(name) not in chapter.places:
            raise ReportError(f"refers to #{name}, but no table, figure or heading has this name")
        return self.to_place(chapter, name)

    def cited(self, address: str, words: str) -> str:
        """The words of a link: the number of a table or figure where they are "Table" or "Figure"."""
        block = self.floats.get(unquote(address.partition("#")[2]))
        if block and words.lower() in ("figure", "table"):
            return block.name.replace(" ", "\N{NO-BREAK SPACE}")
        return words

    def image(self, address: str) -> str | None:
        """Puts an image beside the pages; gives its path from them, or None for one that lies elsewhere."""
        parts = _split(address)
        if parts.scheme in ("http", "https"):
            return None
        if parts.scheme == "data":
            kind, _, text = address[len("data:") :].partition(",")
            content = _decoded(unquote(text)) if kind.endswith(";base64") else unquote_to_bytes(text)
            suffix = kind.partition(";")[0]
        elif parts.scheme == "attachment":
            suffix, content = self._attachment(unquote(parts.path))
        elif parts.scheme or parts.netloc:
            raise ReportError(f"shows {address[:200]}: only files, attachments, data and http can be shown")
        else:
            file, _ = self.source(unquote(parts.path))
            suffix, content = file.suffix.lower(), file.read_bytes()
        suffix = FIGURES.get(suffix, ".jpg" if suffix == ".jpeg" else suffix)
        if suffix not in FIGURES.values():
            raise ReportError(f"shows {address[:80]}: make it a PNG, JPEG, GIF, SVG or WebP")
        return self._stored(content, f"{sha256(content).hexdigest()[:12]}{suffix}")

    def _attachment(self, name: str) -> tuple[str, bytes]:
        if name not in self.attached:
            raise ReportError(f"shows attachment:{name}, but nothing of this name is attached to the cell")
        kind, content = next(iter(self.attached[name].items()))
        return kind, _decoded("".join(content))

    def anchor(self, name: str) -> str:
        """A new place, in a notebook that may have several of one name."""
        names = (self.chapter.anchor(name) + f"-{n}" * (n > 1) for n in count(1))
        anchor = next(name for name in names if name not in self.anchors)
        self.anchors.add(anchor)
        return anchor

    def source(self, path: str) -> tuple[Path, Path]:
        """The file that a relative link of a notebook names, one of its repository or a record; its published name."""
        try:
            file = (self.sources / path).resolve()
            found = file.is_file()
        except (OSError, ValueError):  # too long, or with characters that no name has
            found = False
        if not found:
            raise ReportError(f"links to {path[:200]}, which is not a file: correct the link")
        if not (name := _published(file, self.sources.resolve())):
            raise ReportError(f"links to {path}, which is no file of the repository to be published: cut the link")
        return file, name


def _split(address: str):
    try:
        return urlsplit(address)
    except ValueError as error:
        raise ReportError(f"links to {address[:200]}: {error}") from None


def _published(file: Path, sources: Path) -> Path | None:
    """What a file is called among those published; None for one that is hidden, or of no folder that may be."""
    results = Store().folder.resolve()
    for folder, start in ((ROOT, ROOT), (sources, sources.parent), (results, results.parent)):
        if file.is_relative_to(folder) and not any(part[0] == "." for part in file.relative_to(folder).parts):
            return file.relative_to(start)
    return None


def _check_image(content: bytes, name: str) -> None:
    """Raises ReportError for what no reader would show."""
    from xml.etree import ElementTree

    from PIL import Image

    try:
        if name.endswith(".svg"):
            ElementTree.fromstring(content)
        else:
            Image.open(io.BytesIO(content)).verify()
    except Exception as error:  # each format has its own
        raise ReportError(f"holds an image that can't be read ({first_line(error, 80)}): make it anew") from None
