"""Publish: turns the notebooks into a site that needs no network (`html/`), a printable `report.pdf` and the figures.
It must never change a notebook, send a request, replace a good report by one that failed halfway, or what is no report.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from helpers.publish.chapters import MARK, Chapter, ReportError, floats, in_order, read
from helpers.publish.execute import execute
from helpers.publish.paper import pdf
from helpers.publish.site import html
from helpers.records import put

ASIDE = "old-"  # before the name of what has left its place for a moment


def pictures(chapters: Iterable[Chapter], output: Path) -> list[Path]:
    """Writes each labelled figure to `output`, as SVG and PNG: `01-best-curves.svg`.

    What a notebook trains as one looks on differs from time to time (tag nbval-ignore-output), and is left out.
    """
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for chapter in chapters:
        for figure in floats([chapter]):
            if figure.kind == "Figure" and figure.label.startswith("fig-") and "nbval-ignore-output" not in figure.tags:
                stem = f"{chapter.path.stem.split('_')[0]}-{figure.label.removeprefix('fig-')}"
                for suffix, content in figure.images.items():
                    written.append(output / f"{stem}{suffix}")
                    put(written[-1], content)
    return written


def build(
    notebooks: Path = Path("notebooks"),
    output: Path = Path("report"),
    run: bool = True,
    figures: Path | None = None,
) -> tuple[Path, Path]:
    """Makes the whole report, from notebooks executed anew if `run`; gives the paths of its site and its PDF.

    The figures go to the folder `figures` too, if one is named. All is made within `output` first, then put in its
    place: after an error, or killed, the last good report is still whole. Raises ReportError, before anything is
    executed, where it can't write or would replace what is no report.
    """
    found = in_order(notebooks)
    _check(output, *([figures] if figures else []))
    with _workplace(output) as folder:
        chapters = read(execute(notebooks, folder / "notebooks") if run else found)
        pdf(chapters, folder, notebooks, target=output)
        html(chapters, folder, notebooks)
        if figures:
            pictures(chapters, figures)
        replace(folder / "report.pdf", output / "report.pdf")
        replace(folder / "html", output / "html")
    return output / "html" / "index.html", output / "report.pdf"


# -------------------------------------------------------------------------------- what was there


def _check(output: Path, *folders: Path) -> None:
    for folder in (output, *folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ReportError(f"can't write to {folder} ({error.strerror}): set --output and --figures") from None
    for there, marked in ((output / "html", output / "html" / "index.html"), (output / "report.pdf",) * 2):
        if os.path.lexists(there) and not (marked.is_file() and MARK.encode() in marked.read_bytes()):
            raise ReportError(f"{there} is no report of ours: move it away, or name another folder (--output)")


@contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """A folder to make a report in, one at a time; what a killed one left is swept."""
    try:
        with FileLock(output / ".lock", timeout=0):
            for left in output.glob(".new-*"):
                for aside in left.glob(f"{ASIDE}*"):  # killed before the new one was in its place
                    if not os.path.lexists(home := output / aside.name.removeprefix(ASIDE)):
                        aside.rename(home)
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(dir=output, prefix=".new-") as temporary:
                yield Path(temporary)
    except Timeout:
        raise ReportError(f"another report is being made in {output}: wait for it, or name another folder") from None


def replace(new: Path, old: Path) -> None:
    """Puts a file or folder in the place of another, which is then where the new one was: whole at any moment."""
    if not os.path.lexists(old):
        new.rename(old)
    elif not _exchange(new, old):
        aside = new.with_name(ASIDE + old.name)
        old.rename(aside)
        try:
            new.rename(old)
        except BaseException:
            aside.rename(old)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Gives two paths each other's name at once; false where the system has no call for it."""
    at_working_directory, exchange = -100, 2
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return call(at_working_directory, os.fsencode(one), at_working_directory, os.fsencode(other), exchange) == 0
