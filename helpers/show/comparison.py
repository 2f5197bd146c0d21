"""A table with its records: the one object that a notebook, a claim and the overview ask. It shows itself, compares its
rows and draws their curves; what has no record yet is `MISSING`. Nothing is trained here."""

import functools
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers import experiments, records
from helpers.experiments import Reported, Run, Table
from helpers.records import Interval, Record, Spread, Store
from helpers.show import curves
from helpers.show.grid import SHOWN_DIGITS, Grid, address
from helpers.show.settings import settings
from helpers.show.text import DASH, MISSING, Percent, Points, counted, listed, percent, signed

# What a claim's word allows, in points; argued in docs or beside the claim that uses it.
FAR = 5.0  # "by far": more than any two seeds of one row of ours lie apart
LITTLE = 1.0  # "slightly", "matters little", "doesn't raise": about what two single runs of one row differ by


class Mean:
    """A row's accuracy: the mean over the seeds that learned something, its standard deviation, n, how many failed."""

    def __init__(self, scores: list[float], failed: int, n: int):
        self.value, self.std, self.failed, self.n = records.mean(scores), records.std(scores), failed, n

    def __float__(self) -> float:
        return self.value

    def __format__(self, spec: str) -> str:
        words = percent(self.value) + ("" if self.std is None or self.failed == self.n else f" ± {100 * self.std:.2f}")
        some = "" if self.failed == self.n else f"{self.failed} of {self.n} "
        return f"{words} ({some}failed to train)" if self.failed else words

    def __str__(self) -> str:
        return format(self)


@dataclass(frozen=True)
class Gap:
    """How much more accurate one row is than another, in points, with its 95 % interval; `counts`: seeds of both.

    `reported`: the same of the report's two scores; `seconds`, `reported_seconds`: how many times as long an epoch
    takes. The verdicts are those on what the difference is claimed to be.
    """

    interval: Interval
    counts: tuple[int, int]
    reported: Any = MISSING
    seconds: Any = MISSING
    reported_seconds: Any = MISSING

    def judge(self, above: float = 0.0, below: float = math.inf) -> str:
        """The verdict on the claim that the difference lies between `above` and `below`, in points."""
        return records.verdict(self.interval, self.counts, above, below)

    verdict = property(judge, doc="That the row is more accurate.")
    far = property(lambda self: self.judge(above=FAR), doc="That the row is more accurate by far.")
    little = property(lambda self: self.judge(-LITTLE, LITTLE), doc="That the two rows hardly differ.")
    no_gain = property(lambda self: self.judge(-math.inf, LITTLE), doc="That the row is no more accurate.")

    @property
    def value(self) -> float:
        return self.interval.value

    def __float__(self) -> float:
        return self.value

    def __format__(self, spec: str) -> str:
        digits = int(spec.strip(".f") or 2)
        words = signed(self.value, digits)
        if math.isinf(self.interval.low):
            return words
        return f"{words} [{signed(self.interval.low, digits)}, {signed(self.interval.high, digits)}]"

    def __str__(self) -> str:
        return format(self)


def gap_of(ours: Sequence[float], theirs: Sequence[float]) -> Any:
    """How far numbers, one a run, of one row lie above those of another, with the spread of these two alone."""
    if not (len(ours) and len(theirs)):
        return MISSING
    return Gap(records.difference(ours, theirs, records.pooled([ours, theirs])), (len(ours), len(theirs)))


class Row(list[Record]):
    """The records of one row, one a seed, and what they say; MISSING without records.

    `label`; `run`, as it is declared for the report's length; `stated`, what the report states.
    """

    def __init__(self, label: str, run: Run, stated: Reported, found: Iterable[Record], store: Store):
        super().__init__(found)
        self.label, self.run, self.stated, self.store = label, run, stated, store

    @property
    def n(self) -> int:
        return len(self)

    @property
    def alive(self) -> list[Record]:
        """The runs that learned something, or all that came to an end if none did."""
        return [record for record in records.alive(self) if record.test]

    @property
    def failed(self) -> int:
        """How many runs learned nothing."""
        return sum(not records.learned(record) for record in self)

    @property
    def learned(self) -> bool:
        """Whether any run did."""
        return self.failed < len(self)

    @property
    def scores(self) -> list[float]:
        """Test accuracies (0 to 1) of `alive`."""
        return records.accuracies(self)

    @property
    def accuracy(self) -> Any:
        return Mean(self.scores, self.failed, len(self)) if self.scores else MISSING

    @property
    def reported(self) -> Any:
        """The report's accuracy."""
        return MISSING if self.stated.accuracy is None else Percent(self.stated.accuracy)

    @property
    def difference(self) -> Any:
        """Ours less the report's, in points."""
        pair = self.accuracy, self.reported
        return MISSING if MISSING in pair else Points(100 * (float(pair[0]) - pair[1]))

    @property
    def first(self) -> Any:
        """The first seed's record."""
        return self[0] if self else MISSING

    @property
    def epochs(self) -> Any:
        return self.first.run.epochs

    @functools.cached_property
    def series(self) -> list[dict[str, np.ndarray]]:
        """The series beside each record that has them."""
        return [self.store.arrays(record) for record in self if record.files]

    @property
    def arrays(self) -> Any:
        """The series beside the first seed's record."""
        return self.series[0] if self.series else MISSING

    @property
    def silent(self) -> Any:
        """Share of channels that are silent (`probes.silent`) in the layer that has most of them, mean over seeds."""
        kept = [float(max(series["silent"])) for series in self.series if len(series.get("silent", ()))]
        return float(np.mean(kept)) if kept else MISSING

    # ---------------------------------------------------------------------- curves

    def curve(self, name: str) -> Any:
        """The mean of a series of the history ("validation_accuracy") over the seeds that learned, (epochs,)."""
        known = [np.array(record.history[name], dtype=float) for record in self.alive]
        return np.mean(known, 0) if known else MISSING

    def at(self, name: str, epoch: int) -> Any:
        """That mean after an epoch; 1 is the first."""
        return self.curve(name)[epoch - 1]

    def last(self, name: str) -> Any:
        return self.curve(name)[-1]

    def argmin(self, name: str) -> Any:
        """The epoch after which that mean is lowest."""
        return int(np.nanargmin(self.curve(name))) + 1 if self.alive else MISSING

    def argmax(self, name: str) -> Any:
        """The epoch after which that mean is highest."""
        return int(np.nanargmax(self.curve(name))) + 1 if self.alive else MISSING

    def reaches(self, name: str, value: float) -> list[int]:
        """The first epoch after which the series is at least `value`, of each seed that learned; epochs + 1 if none."""
        known = [np.array([*record.history[name], np.inf], dtype=float) for record in self.alive]
        return [int(np.argmax(each >= value)) + 1 for each in known]


class Comparison(Mapping):
    """A table and its records in one budget: label → Row."""

    def __init__(self, table: Table, store: Store | None = None, budget: str | None = None):
        self.table, self.store, self.budget = table, store or Store(), records.shown_budget(budget)
        found = records.select(table, self.store, self.budget)
        self.missing = found.missing
        self._rows = {label: Row(label, table[label], table.reported.get(label, Reported()), found[label], self.store)
                      for label in table}  # fmt: skip

    def __getitem__(self, label: str) -> Row:
        return self._rows[experiments.find("row", label, self._rows)]

    def __iter__(self):
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    # ---------------------------------------------------------------------- what it says

    def spread(self, *labels: str) -> Spread:
        """The standard deviation of one run, in points, pooled over the rows with the network, data and length of
        `labels`; rows that failed to train stay apart."""
        kinds = {_kind(self[label].run) for label in labels}
        alike = [row for row in self.values() if _kind(row.run) in kinds and row.learned]
        once = {row.first.run: [100 * score for score in row.scores] for row in alike if row}
        return records.pooled(once.values())

    def gap(self, label: str, other: str) -> Any:
        """How much more accurate one row is than another; see `Gap`."""
        ours, theirs = self[label], self[other]
        if not (ours.scores and theirs.scores):
            return MISSING
        scores = [[100 * score for score in row.scores] for row in (ours, theirs)]
        interval = records.difference(*scores, self.spread(label, other))
        pair = ours.reported, theirs.reported
        stated = MISSING if MISSING in pair else Points(100 * (pair[0] - pair[1]))
        return Gap(interval, (len(scores[0]), len(scores[1])), stated, *self._times(ours, theirs))

    def _times(self, ours: Row, theirs: Row) -> tuple[Any, Any]:
        """Seconds an epoch of one row over those of the other, on one machine: ours, and the report's."""
        measured = records.times({row.label: row for row in (ours, theirs)})[0]
        return tuple(MISSING if None in pair else pair[0] / pair[1] for pair in (
            (measured[ours.label], measured[theirs.label]), (ours.stated.seconds, theirs.stated.seconds),
        ))  # fmt: skip

    def apart(self, label: str, other: str) -> Any:
        """How far the losses of the first five steps of two rows lie apart, at most, for the first seed."""
        pair = [self[each].first for each in (label, other)]
        return MISSING if MISSING in pair else float(np.abs(np.subtract(*(each.fingerprint for each in pair))).max())

    def expected(self, label: str) -> Any:
        """Where one further run of a row is to be expected, in percent: an Interval, to hold the report's against."""
        scores = [100 * score for score in self[label].scores]
        return records.expected(scores, self.spread(label)) if scores else MISSING

    @property
    def best(self) -> Any:
        """The row that is most accurate at the end on the *validation* set: nothing is chosen on the test set."""
        known = [row for row in self.values() if row.alive]
        return max(known, key=lambda row: row.last("validation_accuracy"), default=MISSING)

    # ---------------------------------------------------------------------- how it looks

    def grid(self) -> Grid:
        """Our accuracies beside the report's, in percent."""
        frame = pd.DataFrame([{
            "": row.label,
            "ours (%)": "failed to train" if row and not row.scores else f"{row.accuracy}",
            "report (%)": f"{row.reported}",
            "difference (points)": f"{row.difference}",
            "n": row.n,
        } for row in self.values()])  # fmt: skip
        if all(row.stated.accuracy is None for row in self.values()):
            frame = frame.drop(columns=["report (%)", "difference (points)"])
        return Grid(frame, self.caption)

    @property
    def caption(self) -> str:
        lengths = sorted({experiments.at(run, self.budget).epochs for run in self.table.values()})
        name = self.table.name[0].upper() + self.table.name[1:]
        length = f"{listed(map(str, lengths), 'or')} epochs"
        often = "mean ± standard deviation over n seeds" if any(row.n > 1 for row in self.values()) else "one run each"
        return f"{name}: test accuracy after {length}, {often}.{self._to_run()}"

    def _to_run(self) -> str:
        if not self.missing:
            return ""
        length = "" if self.budget == "paper" else f" --budget {self.budget}"
        return (f" Not every seed of {counted(len(self.missing), 'row')} has a record: "
                f'python -m helpers run --table "{self.table.title}"{length}')  # fmt: skip

    def _repr_html_(self) -> str:
        links = self._links('<a href="{1}">{0}</a>')
        lines = "".join(f"<li>{html.escape(label)}: {each}</li>" for label, each in links.items())
        fold = f"<details><summary>records</summary><ul>{lines}</ul></details>" if lines else ""
        return self.grid()._repr_html_() + fold

    def _repr_markdown_(self) -> str:
        return self.grid()._repr_markdown_()

    def __repr__(self) -> str:
        return repr(self.grid())

    def records(self) -> str:
        """A fold that leads to the records, in Markdown, for the end of what `say` is given."""
        lines = "\n".join(f"- {label}: {links}" for label, links in self._links("[{0}]({1})").items())
        return f"\n\n<details><summary>records</summary>\n\n{lines or 'no record yet'}\n\n</details>"

    def _links(self, form: str) -> dict[str, str]:
        """Label → links to its records; `form` takes words and address."""
        return {label: ", ".join(form.format(each.run.digest[:SHOWN_DIGITS], address(each)) for each in row)
                for label, row in self.items() if row}  # fmt: skip

    def seconds(self) -> Grid:
        """Seconds an epoch, those of the fastest, on the machine that most rows were made on."""
        measured, where = records.times(self)
        frame = pd.DataFrame({"": list(self), "ours": [_rounded(each, 0) for each in measured.values()]})
        reported = [row.stated.seconds and row.stated.seconds / row.run.epochs for row in self.values()]
        if sum(map(bool, reported)) > 1:  # one alone, of another machine, compares with nothing
            frame["report"] = [_rounded(each, 1) for each in reported]
        absent = "; –: not timed on this machine" if None in measured.values() else ""
        return Grid(frame, f"Seconds of the fastest epoch ({where or 'no record yet'}){absent}.")

    def settings(self) -> Grid:
        """What its runs have in common, and in what they differ."""
        return settings([experiments.at(run, self.budget) for run in self.table.values()])

    def curves(self, what: str) -> Figure:
        """`what` ("accuracy" or "loss") after each epoch, in training and on the validation set: a line a seed."""
        return curves.pair(self, what)


def _kind(run: Run) -> tuple:
    """Runs of one kind have one spread: network, data and length."""
    return run.model, run.data, run.epochs


def _rounded(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:,.{digits}f}"


# ------------------------------------------------------------------------------------------ the report


class Report(Mapping):
    """Every table with its records, by title ("1.2 batch norm"), each read when it is asked for.

    One budget at a time: `budget`, else REPORT_BUDGET, else the report's own length.
    """

    def __init__(self, store: Store | None = None, budget: str | None = None):
        self.store, self.budget = store or Store(), records.shown_budget(budget)
        self._tables = {table.title: table for named in experiments.SECTIONS.values() for table in named.values()}
        self._read: dict[str, Comparison] = {}

    def __getitem__(self, title: str) -> Comparison:
        title = experiments.find("table", title, self._tables)
        if title not in self._read:
            self._read[title] = Comparison(self._tables[title], self.store, self.budget)
        return self._read[title]

    def __iter__(self):
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def settings(self, number: str) -> Grid:
        """The settings of all runs of one of the report's sections."""
        return settings(experiments.at(run, self.budget) for rows in self.section(number).values()
                        for run in rows.table.values())  # fmt: skip

    def section(self, number: str) -> dict[str, Comparison]:
        """The tables of one of the report's sections."""
        return {table.title: self[table.title] for table in experiments.SECTIONS[number].values()}

    def compare(self, name: str, **rows: Run) -> Comparison:
        """Runs that stand in no table together."""
        return Comparison(Table("", name, rows), self.store, self.budget)
