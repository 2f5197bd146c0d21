"""A table to look at, in the form that a notebook, the site and the PDF each need, and cells that lead to records.
Nothing is computed here."""

import html
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers import records
from helpers.records import Record, Store
from helpers.show.text import plain_words, text

SHOWN_DIGITS = 7  # of a record's digest


@dataclass(frozen=True)
class Links:
    """A cell that leads to files: pairs of words and address. In print, where no address can be followed, `printed`."""

    pairs: tuple[tuple[str, str], ...]
    printed: str

    def __str__(self) -> str:
        return self.printed

    def html(self) -> str:
        return " ".join(f'<a href="{html.escape(to)}">{html.escape(words)}</a>' for words, to in self.pairs)

    def markdown(self, folder: str = "") -> str:
        """With addresses from elsewhere: `folder` is where the present ones start."""
        return " ".join(
            f"[{plain_words(words)}]({posixpath.normpath(posixpath.join(folder, to))})" for words, to in self.pairs
        )


class Grid:
    """A table to show: `frame` holds the numbers; a notebook, the site and the PDF each take the form they need.

    `texts`: the cells as shown, str or Links; `left`: the columns that hold sentences, besides the first.
    """

    def __init__(self, frame: pd.DataFrame, caption: str, texts: pd.DataFrame | None = None, left: Sequence[str] = ()):
        self.frame, self.caption = frame, caption
        self._texts = frame.map(text) if texts is None else texts
        self._left = [i == 0 or name in left for i, name in enumerate(self._texts.columns)]

    def _repr_html_(self) -> str:
        styles = [' style="text-align: left"' if left else ' style="text-align: right"' for left in self._left]
        head = "".join(f"<th{style}>{html.escape(str(name))}</th>" for style, name in zip(styles, self._texts.columns))
        body = "".join(
            "<tr>"
            + "".join(f"<td{style}{_kind(cell)}>{_marked(cell)}</td>" for style, cell in zip(styles, row))
            + "</tr>\n"
            for row in self._texts.itertuples(index=False)
        )
        caption = f"<caption>{html.escape(self.caption)}</caption>"
        return f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"

    def _repr_markdown_(self) -> str:
        return f"{self.grid()}\n\n: {plain_words(self.caption)}"

    def grid(self, cell: Callable[[str | Links], str] | None = None) -> str:
        """The table alone as Markdown, each cell as `cell` writes it; without one, links as in print."""
        names = [str(name) for name in self._texts.columns]
        rule = "| " + " | ".join(":---" if left else "---:" for left in self._left) + " |"
        head, *rows = (
            "| " + " | ".join(map(cell or _plain, line)) + " |"
            for line in (names, *self._texts.itertuples(index=False))
        )
        return "\n".join((head, rule, *rows))

    def __repr__(self) -> str:
        return f"{self.caption}\n{self._texts.to_string(index=False)}"


def _kind(cell: str | Links, long: int = 30) -> str:
    """The class of a cell that holds links or a sentence, so that the site may break it, or gives it room."""
    return ' class="links"' if isinstance(cell, Links) else ' class="words"' if len(str(cell)) > long else ""


def _plain(cell: str | Links) -> str:
    return plain_words(str(cell))


def _marked(cell: str | Links) -> str:
    return cell.html() if isinstance(cell, Links) else html.escape(cell)


# ------------------------------------------------------------------------------------------ cells that lead to records


def address(record: Record) -> str:
    """The path of a record's file from the folder of the notebooks."""
    return Path(os.path.relpath(Store().path(record.run), records.ROOT / "notebooks")).as_posix()


def cells(values: Sequence[Links | str]) -> pd.Series:
    """A column of such cells, each kept as it is."""
    column = pd.Series([None] * len(values), dtype=object)
    for index, value in enumerate(values):
        column[index] = value
    return column
