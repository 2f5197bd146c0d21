"""Chapters as one kind of page: what site and paper share. Each link is resolved, each file that is linked to, and each
image that is shown, is one that may be published; nothing else is.
"""

import io
from collections.abc import Iterable
from hashlib import sha256
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from bs4 import BeautifulSoup

from helpers.publish.chapters import (
    FIGURES,
    Block,
    Chapter,
    Code,
    Float,
    Prose,
    ReportError,
    decoded,
    first_line,
    floats,
)
from helpers.publish.markup import safe, slug
from helpers.records import ROOT, Store


class Writer:
    """Chapters as HTML; site and paper say what code, a table and a figure are, and where things lie.

    `folder` is where the pages are written, `sources` where the notebooks' own relative links start from.
    """

    def __init__(self, chapters: list[Chapter], sources: Path, folder: Path) -> None:
        self.chapters = {chapter.path.name: chapter for chapter in chapters}
        self.floats = {block.label: block for block in floats(chapters)}
        self.homes = {f.label: chapter for chapter in chapters for f in floats([chapter])}
        self.sources, self.folder = sources, folder
        self.chapter, self.attached = chapters[0], {}  # where we are: the notebook, and the images of its cell
        self.anchors: set[str] = set()
        (folder / "images").mkdir(parents=True, exist_ok=True)

    def page(self, chapter: Chapter, blocks: Iterable[Block] | None = None) -> str:
        """The blocks of a chapter, all of them if none are given, as HTML."""
        self.chapter = chapter
        return "\n".join(map(self._named, chapter.blocks if blocks is None else blocks))

    def _named(self, block: Block) -> str:
        try:
            return self.block(block)
        except ReportError as error:
            raise ReportError(f"{self.chapter.path.name}, cell {block.cell}: {error}") from None

    def block(self, block: Block) -> str:
        if isinstance(block, Prose):
            self.attached = block.images
            return self.shown(block.html, block.dollars)
        if isinstance(block, Code):
            return self.code(block)
        return self.figure(block) if block.kind == "Figure" else self.table(block)

    def shown(self, page: str, dollars: bool = False) -> str:
        """HTML of a notebook, made safe; see `markup.safe`."""
        return str(self.prose(safe(page, self, dollars)))

    def prose(self, text: BeautifulSoup) -> BeautifulSoup:
        """Text as this kind of page has it."""
        for title in text("h1", id=self.chapter.anchor(self.chapter.title)):
            title.insert(0, self.chapter.heading.removesuffix(self.chapter.title))
        return text

    def caption(self, block: Float) -> str:
        """ "Table 3." and the caption."""
        return f"<strong>{block.name}.</strong> {safe(block.caption, self)}"

    def picture(self, block: Float) -> str:
        """Writes a figure's image; gives its path from the pages."""
        suffix, content = next(iter(block.images.items()))
        return self._stored(content, f"{block.label}{suffix}")

    def _stored(self, content: bytes, name: str) -> str:
        _check_image(content, name)
        (self.folder / "images" / name).write_bytes(content)
        return f"images/{name}"

    # ---- what markup.safe asks

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
        suffix, content = self._content(parts, address)
        suffix = FIGURES.get(suffix, ".jpg" if suffix == ".jpeg" else suffix)
        if suffix not in FIGURES.values():
            raise ReportError(f"shows {address[:80]}: make it a PNG, JPEG, GIF, SVG or WebP")
        return self._stored(content, f"{sha256(content).hexdigest()[:12]}{suffix}")

    def _content(self, parts, address: str) -> tuple[str, bytes]:
        """An image's kind, or suffix, and its bytes."""
        if parts.scheme == "data":
            kind, _, text = address.removeprefix("data:").partition(",")
            content = decoded(unquote(text)) if kind.endswith(";base64") else unquote_to_bytes(text)
            return kind.partition(";")[0], content
        if parts.scheme == "attachment":
            name = unquote(parts.path)
            if name not in self.attached:
                raise ReportError(f"shows attachment:{name}, but nothing of this name is attached to the cell")
            kind, content = next(iter(self.attached[name].items()))
            return kind, decoded("".join(content))
        if parts.scheme or parts.netloc:
            raise ReportError(f"shows {address[:200]}: only files, attachments, data and http can be shown")
        file, _ = self.source(unquote(parts.path))
        return file.suffix.lower(), file.read_bytes()

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
