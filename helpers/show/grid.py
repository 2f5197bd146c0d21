"""A table to look at, in the form that a notebook, the site and the PDF each need. Nothing is computed here."""

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
class Link:
    """A cell that leads to a file. In print, where no address can be followed, it is its words."""

    words: str
    to: str

    def __str__(self) -> str:
        return self.words

    def html(self) -> str:
        return f'<a href="{html.escape(self.to)}">{html.escape(self.words)}</a>'

    def markdown(self, folder: str = "") -> str:
        """With the address from elsewhere: `folder` is where the present one starts."""
        return f"[{plain_words(self.words)}]({posixpath.normpath(posixpath.join(folder, self.to))})"


class Grid:
    """A table to show: its `frame` holds the cells as they are written, str or Link.

    `left`: the columns that hold sentences, besides the first.
    """

    def __init__(self, frame: pd.DataFrame, caption: str, left: Sequence[str] = ()):
        self.frame = frame.map(lambda cell: cell if isinstance(cell, Link) else text(cell))
        self.caption = caption
        self._left = [i == 0 or name in left for i, name in enumerate(frame.columns)]

    def _repr_html_(self) -> str:
        styles = [' style="text-align: left"' if left else ' style="text-align: right"' for left in self._left]
        head = "".join(f"<th{style}>{html.escape(name)}</th>" for style, name in zip(styles, self.frame.columns))
        rows = ["".join(map(_html_cell, styles, row)) for row in self.frame.itertuples(index=False)]
        body = "".join(f"<tr>{row}</tr>\n" for row in rows)
        caption = f"<caption>{html.escape(self.caption)}</caption>"
        return f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"

    def _repr_markdown_(self) -> str:
        return f"{self.grid()}\n\n: {plain_words(self.caption)}"

    def grid(self, cell: Callable[[str | Link], str] = lambda cell: plain_words(str(cell))) -> str:
        """The table alone as Markdown, each cell as `cell` writes it; without one, links as in print."""
        rule = [":---" if left else "---:" for left in self._left]
        lines = [[*map(cell, line)] for line in (self.frame.columns, *self.frame.itertuples(index=False))]
        return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.frame.to_string(index=False)}"


def _html_cell(style: str, cell: str | Link, long: int = 30) -> str:
    """A cell that holds a link or a sentence has a class, so that the site may break it, or gives it room."""
    if isinstance(cell, Link):
        return f'<td{style} class="links">{cell.html()}</td>'
    words = ' class="words"' if len(cell) > long else ""
    return f"<td{style}{words}>{html.escape(cell)}</td>"


def address(record: Record) -> str:
    """The path of a record's file from the folder of the notebooks, as HTML and Markdown may hold it."""
    path = os.path.relpath(Store().path(record.run), records.ROOT / "notebooks")
    return html.escape(Path(path).as_posix())
