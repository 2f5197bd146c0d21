"""Notebooks on their way to site and paper: executed, read into blocks, numbered once for both, each link resolved.
It must never change a notebook.

A table or figure takes "caption" and "label" from the metadata of its output or else of its cell; a table may also
bring its caption along: `<caption>`, or `Table: caption`.
"""

from __future__ import annotations

import asyncio
import html as markup
import os
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TITLE = "What makes a CNN learn"
SUBTITLE = "A course report on CIFAR-10 and MNIST, reproduced"
ASSETS = Path(__file__).parent / "assets"

# Where a link can't be: fenced and inline code, formulas.
VERBATIM = re.compile(r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$)", re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
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
    sources = [(path, notebook(path)) for path in in_order(notebooks)]
    output.mkdir(parents=True, exist_ok=True)
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(_execute(sources, output, jobs or os.cpu_count() or 1))


class _Loop(asyncio.SelectorEventLoop):
    """Leaves Ctrl-C to asyncio, which cancels what runs: nbclient would only end the kernel that it started last."""

    def add_signal_handler(self, *arguments) -> None:
        raise RuntimeError("signals are not handled here")  # what nbclient expects outside of the main thread


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
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise ReportError(f"{path} is no notebook ({reason}): restore it, or move it away") from None


async def _execute(sources: list[tuple[Path, Any]], output: Path, jobs: int) -> list[Path]:
    import nbformat
    from tqdm import tqdm

    kernels, threads = asyncio.Semaphore(jobs), max(1, (os.cpu_count() or 1) // jobs)
    with tqdm(total=sum(len(each.cells) for _, each in sources), desc="notebooks", unit="cell") as bar:

        async def run(source: Path, notebook) -> Path:
            async with kernels:
                await _execute_one(notebook, source, threads, bar)
            nbformat.write(notebook, output / source.name)
            return output / source.name

        try:
            async with asyncio.TaskGroup() as group:  # when one fails, or Ctrl-C comes, all kernels are ended first
                tasks = [group.create_task(run(*each)) for each in sources]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


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
        shutdown_kernel="immediate",  # asked politely, a busy kernel answers with a traceback
        on_cell_start=count,
    )
    try:
        # More threads than cores wait for each other, and spin while they do.
        await client.async_execute(env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    except (CellControlSignal, DeadKernelError) as error:
        if asyncio.current_task().cancelling():  # nbclient takes it for the death of the kernel
            raise asyncio.CancelledError from None
        raise ReportError(f"{source.name}, cell {done + 1}: {_reason(error)}") from None
    count(None, len(notebook.cells))


def _reason(error: Exception) -> str:
    """The last line of what a cell, or its kernel, died of."""
    text = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else str(error)
    return text.strip().splitlines()[-1]


# -------------------------------------------------------------------------------- read


def read(notebooks: Iterable[Path]) -> list[Chapter]:
    """Reads executed notebooks; numbers their tables and figures in order of appearance, over all of them."""
    numbers: Counter[str] = Counter()
    chapters = [_chapter(path, notebook(path), numbers) for path in notebooks]
    repeated = [label for label, n in Counter(f.label for f in floats(chapters)).items() if n > 1]
    if repeated:
        raise ReportError(f"two tables or figures have the label {repeated[0]!r}: give each its own")
    return chapters


def floats(chapters: Iterable[Chapter], kind: str = "") -> list[Float]:
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


class Writer:
    """Chapters as one kind of Markdown; links and files are put where that kind needs them.

    `folder` is where the pages are written, `sources` where the notebooks' own relative links start from.
    """

    def __init__(self, chapters: list[Chapter], sources: Path, folder: Path) -> None:
        self.chapters = {chapter.path.name: chapter for chapter in chapters}
        self.floats = {block.label: block for block in floats(chapters)}
        self.homes = {f.label: c.path.stem for c in chapters for f in floats([c])}
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


def fenced(language: str, text: str) -> str:
    fence = "`" * (max([2, *map(len, re.findall("`+", text))]) + 1)
    return f"{fence}{language}\n{text}\n{fence}"
