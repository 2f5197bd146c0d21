"""Tables of ours beside the report's, how numbers are written in them, and where they come from. Everything shown is
computed from the records it is given; nothing is trained or read here."""

import functools
import html
import math
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers import experiments, records
from helpers.experiments import Run, reported
from helpers.records import Record, Selection, Store

DASH = "–"
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
        return " ".join(f"[{words}]({posixpath.normpath(posixpath.join(folder, to))})" for words, to in self.pairs)


class Table:
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
        return f"{self.grid()}\n\n: {self.caption}"

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
    """A cell as Markdown that shows just what it says: no end of cell, no dash made of two hyphens."""
    return str(cell).replace("|", "\\|").replace("--", "\\-\\-")


def _marked(cell: str | Links) -> str:
    return cell.html() if isinstance(cell, Links) else html.escape(cell)


def text(value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------ ours beside the report's


def percent(accuracy: float | None) -> str:
    """An accuracy (0 to 1) in percent, with two decimals."""
    return DASH if accuracy is None else f"{100 * accuracy:.2f}"


def signed(value: float | None) -> str:
    """A difference with its sign, two decimals; a dash for none."""
    return DASH if _missing(value) else f"{value:+.2f}".replace("-", "−")


def points(difference: float | None) -> str:
    """A difference in words: "+1.20 points"; a dash for none."""
    return DASH if _missing(difference) else f"{signed(difference)} points"


def distance(difference: float | None) -> str:
    """A difference in words, without its sign: "1.20 points"."""
    return points(difference).lstrip("+−")


def share(facts) -> str:
    """How many of some facts are true, in percent: "62 %"; a dash where there are none."""
    return f"{100 * sum(facts) / len(facts):.0f} %" if len(facts) else DASH


def measured(found: list[Record]) -> str:
    """One row's accuracy in percent: mean ± std over seeds where n > 1, or that it diverged."""
    scores = records.accuracies(found)
    if not scores:
        return f"diverged at step {found[0].diverged_at:,}" if found else DASH
    spread, dead = records.std(scores), len(found) - len(records.alive(found))
    words = percent(records.mean(scores)) + ("" if spread is None else f" ± {100 * spread:.2f}")
    return words + (f" ({dead} of {len(found)} learned nothing)" if dead else "")


def compare(section: str, table: str, selection: Selection, timed: bool = True) -> Table:
    """One table of the report: our accuracy, the report's, the difference in points, n, seconds an epoch, the record.

    Seconds are the fastest epoch's, since a busy machine makes others slower, and of one machine, in whatever budget;
    `timed`: whether to show them. What exists in a larger budget, but not for every row, stands in a column of its own.
    """
    seconds, where = records.times({label: records.timed(selection, label) for label in selection})
    runs = experiments.SECTIONS[section][table]
    entries = [{**_entry(label, runs[label], found, reported(section, table, label)), "seconds": seconds[label]}
               for label, found in selection.items()]  # fmt: skip
    frame = pd.DataFrame(entries)
    texts = pd.DataFrame({
        "": frame["row"],
        "ours (%)": [measured(found) for found in selection.values()],
        **{f"{budget} (%)": [measured(larger[label]) for label in selection]
           for budget, larger in selection.larger.items()},
        "report (%)": frame["reported"].map(_percent),
        "difference (points)": frame["difference"].map(signed),
        "n": frame["n"].astype(str),
        "s/epoch": frame["seconds"].map(_rounded),
        # Whole seconds would hide what the report compares: 9.7 and 9.9.
        "report's s/epoch": frame["reported_seconds"].map(functools.partial(_rounded, digits=1)),
        "record": cells([links(found) for found in selection.values()]),
    })  # fmt: skip
    # What the report says nothing of, for no row, needs no column.
    if frame["reported"].isna().all():
        texts = texts.drop(columns=["report (%)", "difference (points)"])
    if frame["reported_seconds"].isna().all() or not timed:
        texts = texts.drop(columns="report's s/epoch")
    if not timed:
        texts = texts.drop(columns="s/epoch")
    place = f" Seconds: {where}." if where and timed else ""
    return Table(frame, f"{_title(table)}. {provenance(selection)}{place}", texts)


def _entry(label: str, run: Run, found: list[Record], stated) -> dict:
    ours = records.mean(records.accuracies(found))
    return {
        "row": label,
        "accuracy": ours,
        "std": records.std(records.accuracies(found)),
        "reported": stated.accuracy,
        "difference": None if ours is None or stated.accuracy is None else 100 * (ours - stated.accuracy),
        "n": len(found),
        "reported_seconds": None if stated.seconds is None else stated.seconds / run.epochs,
        "record": found[0].run.name if found else DASH,
    }


def links(found: Sequence[Record]) -> Links | str:
    """A cell that leads from a notebook to the files of a row's records: a digest, then +1, +2, … for further seeds."""
    if not found:
        return DASH
    digest, more = found[0].run.digest[:SHOWN_DIGITS], len(found) - 1
    names = [digest, *(f"+{count}" for count in range(1, more + 1))]
    return Links(tuple(zip(names, map(address, found))), f"{digest} +{more}" if more else digest)


def sources(found: Sequence[Record]) -> Links | str:
    """A cell that leads to the files of several records, numbered; in print it says how many there are."""
    if not found:
        return DASH
    pairs = tuple((str(number), address(record)) for number, record in enumerate(found, start=1))
    return Links(pairs, str(len(found)))


def address(record: Record) -> str:
    """The path of a record's file from the folder of the notebooks."""
    return Path(os.path.relpath(Store().path(record.run), records.ROOT / "notebooks")).as_posix()


def cells(values: Sequence[Links | str]) -> pd.Series:
    """A column of such cells, each kept as it is."""
    column = pd.Series([None] * len(values), dtype=object)
    for index, value in enumerate(values):
        column[index] = value
    return column


def _missing(value) -> bool:
    return value is None or math.isnan(value)


def _percent(value) -> str:
    return DASH if _missing(value) else percent(value)


def _rounded(value, digits: int = 0) -> str:
    return DASH if _missing(value) else f"{value:,.{digits}f}"


def _title(table: str) -> str:
    """The table's name without its number, as the head of a caption."""
    words = table.split(" ", 1)[1] if table[0].isdigit() else table
    return words[0].upper() + words[1:]


def provenance(selection: Selection) -> str:
    """Where a table's numbers come from, in one sentence: budget, epochs, revision, and what is missing."""
    length = "".join(f", {part}" for part in _made([each for found in selection.values() for each in found]))
    without = [label for label in selection.missing if not selection[label]]
    missing = f"; no record yet of {len(without)} of {len(selection)} rows" if without else ""
    fewer = len(selection.missing) - len(without)
    missing += f"; fewer seeds so far than declared in {fewer} of {len(selection)} rows" if fewer else ""
    larger = "".join(
        f"; {budget}: {sum(map(bool, rows.values()))} of {len(rows)} rows" for budget, rows in selection.larger.items()
    )
    return f"Budget {selection.budget}{length}{missing}{larger}."


# ------------------------------------------------------------------------------------------ where numbers come from


def origin(*sources: Mapping[str, Sequence[Record]] | Sequence[Record]) -> str:
    """Where a figure's numbers come from, in Markdown: a link to each record, budget, epochs, revision and n.

    `sources`: rows, or the records of one. n is the number of seeds a row, fewest and most.
    """
    rows = [found for each in sources for found in (each.values() if isinstance(each, Mapping) else [each]) if found]
    known = {record.run: record for found in rows for record in found}
    if not known:
        return "*Source: no record yet.*"
    seeds = sorted({len(found) for found in rows})
    n = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    budgets = dict.fromkeys(_budget(record.run) for record in known.values())
    facts = ", ".join([f"budget {listed(budgets)}", *_made(known.values()), f"n = {n}"])
    links = ", ".join(f"[{run.digest[:SHOWN_DIGITS]}]({address(record)})" for run, record in known.items())
    return f"*Source: {links}; {facts}.*"


def _made(found: Iterable[Record]) -> list[str]:
    """The epochs of some records, and the precision and the revisions that made them, in words."""
    epochs = sorted({record.run.epochs for record in found})
    precisions = sorted({record.engine["precision"] for record in found if record.engine})
    made_by = {each for record in found for each in record.revision.split(", ") if each}
    revisions = sorted({each[:SHOWN_DIGITS] + "+" * each.endswith("+") for each in made_by})  # +: changed since
    return [*([f"{listed(map(str, epochs), 'or')} epochs"] if epochs else []),
            *([listed(precisions)] if precisions else []),
            *([f"revision{'s' * (len(revisions) > 1)} {listed(revisions)}"] if revisions else [])]  # fmt: skip


def listed(words: Iterable[str], last: str = "and") -> str:
    """Words in a row as a sentence has them: "a", "a and b", "a, b and c"; a dash for none."""
    *first, end = [*words] or [DASH]
    return f"{', '.join(first)} {last} {end}" if first else end


def _budget(run: Run) -> str:
    """The largest budget that `run` is declared in."""
    return next((budget for budget in reversed(experiments.BUDGETS) if run in _declared(budget)), DASH)


@functools.cache
def _declared(budget: str) -> frozenset[Run]:
    return frozenset(each for row in experiments.rows() for each in experiments.replicas(row.run, budget))
