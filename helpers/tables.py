"""Tables of ours beside the report's, and the words for a difference: gap, noise, verdict. Everything shown is computed
from the records it is given; nothing is trained or read here."""

import functools
import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import experiments, records
from helpers.experiments import Run
from helpers.records import Record, Selection, Store
from helpers.reported import reported

DASH = "–"


@dataclass(frozen=True)
class Links:
    """A cell that leads to files: pairs of words and address. In print, where no address can be followed, `printed`."""

    pairs: tuple[tuple[str, str], ...]
    printed: str

    def __str__(self) -> str:
        return self.printed

    def html(self) -> str:
        return " ".join(f'<a href="{html.escape(to)}">{html.escape(words)}</a>' for words, to in self.pairs)


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
        names = [str(name) for name in self._texts.columns]
        rule = "| " + " | ".join(":---" if left else "---:" for left in self._left) + " |"
        head, *rows = (
            "| " + " | ".join(map(_plain, line)) + " |" for line in (names, *self._texts.itertuples(index=False))
        )
        grid = "\n".join((head, rule, *rows))
        return f"{grid}\n\n: {self.caption}"

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


def measured(found: list[Record]) -> str:
    """One row's accuracy in percent: mean ± std over seeds where n > 1, or that it diverged."""
    scores = records.accuracies(found)
    if not scores:
        return f"diverged at step {found[0].diverged_at:,}" if found else DASH
    spread, dead = records.std(scores), len(found) - len(records.alive(found))
    words = percent(records.mean(scores)) + ("" if spread is None else f" ± {100 * spread:.2f}")
    return words + (f" ({dead} of {len(found)} learned nothing)" if dead else "")


def compare(section: str, table: str, selection: Selection) -> Table:
    """One table of the report: our accuracy, the report's, the difference in points, n, seconds an epoch, the record.

    Seconds are the fastest epoch's, since a busy machine makes others slower. What exists in a larger
    budget, but not for every row, stands in a column of its own.
    """
    runs = experiments.SECTIONS[section][table]
    entries = [_entry(label, runs[label], found, reported(section, table, label)) for label, found in selection.items()]
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
        "report's s/epoch": frame["reported_seconds"].map(_rounded),
        "record": cells([links(found) for found in selection.values()]),
    })  # fmt: skip
    if frame["reported_seconds"].isna().all():
        texts = texts.drop(columns="report's s/epoch")
    return Table(frame, f"{_title(table)}. {provenance(selection)}", texts)


def _entry(label: str, run: Run, found: list[Record], stated) -> dict:
    ours = records.mean(records.accuracies(found))
    return {
        "row": label,
        "accuracy": ours,
        "std": records.std(records.accuracies(found)),
        "reported": stated.accuracy,
        "difference": None if ours is None or stated.accuracy is None else 100 * (ours - stated.accuracy),
        "n": len(found),
        "seconds": records.mean(record.fastest_epoch for record in found),
        "reported_seconds": None if stated.seconds is None else stated.seconds / run.epochs,
        "record": found[0].run.name if found else DASH,
    }


SHOWN_DIGITS = 7  # of a record's digest


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


def signed(value: float | None) -> str:
    """A difference with its sign, two decimals; a dash for none."""
    return DASH if _missing(value) else f"{value:+.2f}".replace("-", "−")


def _rounded(value) -> str:
    return DASH if _missing(value) else f"{value:,.0f}"


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


def _made(found: Iterable[Record]) -> list[str]:
    """The epochs of some records and the revisions that made them, in words."""
    epochs = sorted({record.run.epochs for record in found})
    revisions = sorted({record.revision[:SHOWN_DIGITS] for record in found if record.revision})
    return [*([f"{' or '.join(map(str, epochs))} epochs"] if epochs else []),
            *([f"revision{'s' * (len(revisions) > 1)} {' and '.join(revisions)}"] if revisions else [])]  # fmt: skip


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
    facts = ", ".join([f"budget {' and '.join(budgets)}", *_made(known.values()), f"n = {n}"])
    links = ", ".join(f"[{run.digest[:SHOWN_DIGITS]}]({address(record)})" for run, record in known.items())
    return f"*Source: {links}; {facts}.*"


def _budget(run: Run) -> str:
    """The largest budget that `run` is declared in."""
    return next((budget for budget in reversed(experiments.BUDGETS) if run in _declared(budget)), DASH)


@functools.cache
def _declared(budget: str) -> frozenset[Run]:
    return frozenset(each for row in experiments.rows() for each in experiments.replicas(row.run, budget))


# ------------------------------------------------------------------------------------------ what a difference proves


def noise(pair: Mapping[str, list[Record]], *others: Mapping[str, list[Record]]) -> float:
    """How far two runs that differ in nothing real end apart: the standard deviation of one run's accuracy, in points.

    `pair` has two rows that compute the same function: their gap over √2 is one estimate. Rows of `pair` or `others`
    with several seeds give more, pooled over rows. The largest is returned: one estimate from two runs is a poor one.
    NaN if there is nothing to estimate it from.
    """
    first, second = (records.mean(records.accuracies(found)) for found in list(pair.values())[:2])
    estimates = [] if first is None or second is None else [100 * abs(first - second) / math.sqrt(2)]
    return max([*estimates, spread(pair, *others)], key=lambda value: (not math.isnan(value), value))


def spread(*selections: Mapping[str, list[Record]]) -> float:
    """The standard deviation of one run's accuracy over seeds, in points, pooled over the rows that have several.

    Each run counts once, in however many tables it stands; runs that learned nothing, which all end alike, don't count.
    NaN where no row has several.
    """
    repeated = {found[0].run: records.std(records.accuracies(found)) for rows in selections
                for found in rows.values() if sum(map(records.learned, found)) > 1}  # fmt: skip
    return 100 * math.sqrt(records.mean(each**2 for each in repeated.values())) if repeated else math.nan


def gap(selection: Mapping[str, list[Record]], row: str, other: str) -> float | None:
    """Accuracy of `row` less that of `other`, in points; None where one has no accuracy."""
    a, b = (records.mean(records.accuracies(selection[label])) for label in (row, other))
    return None if a is None or b is None else 100 * (a - b)


def reported_gap(section: str, table: str, row: str, other: str) -> float:
    """The same difference as the report states it, in points."""
    return 100 * (reported(section, table, row).accuracy - reported(section, table, other).accuracy)


def verdict(selection: Mapping[str, list[Record]], row: str, other: str, sigma: float) -> str:
    """Whether `row` does better than `other`: "holds", "does not hold" or "within noise" (or "not measured yet").

    The difference of two means over n₁ and n₂ runs has the standard deviation σ·√(1/n₁ + 1/n₂); twice that is noise.
    A row all of whose runs diverged is worse than any that has an accuracy, and no better than another that diverged.
    """
    if all(selection[label] for label in (row, other)) and gap(selection, row, other) is None:
        return "holds" if records.accuracies(selection[row]) else "does not hold"
    counts = [len(records.accuracies(selection[label])) for label in (row, other)]
    return beyond(gap(selection, row, other), counts, sigma)


def beyond(difference: float | None, counts: Sequence[int], sigma: float) -> str:
    """The verdict on a difference (points) of two means over so many runs each."""
    if difference is None or math.isnan(sigma):
        return "not measured yet"
    within = abs(difference) <= bar(sigma, counts)
    return "within noise" if within else "holds" if difference > 0 else "does not hold"


def bar(sigma: float, counts: Sequence[float] = (1, 1)) -> float:
    """How far apart (points) means over so many runs each have to be before that says more than noise: two standard
    deviations of their difference."""
    return 2 * sigma * math.sqrt(sum(1 / count for count in counts))


def accuracy_by_rate(record: Record, arrays: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Training accuracy (%) of `record` in the steps with the lowest and with the highest quarter of rates."""
    # Divided first: a hundred times a count overflows the byte that it is kept in.
    return by_rate(record, 100 * (arrays["step_correct"] / record.run.batch_size))


def by_rate(record: Record, values: Sequence[float]) -> tuple[float, float]:
    """Means of a step-level series of `record` where the learning rate is in its lowest and in its highest quarter.

    The first cycle is left out: there the network has only begun to learn.
    """
    rates = np.array([record.run.rate(step / len(values)) for step in range(len(values))])
    low, high = np.quantile(rates, (0.25, 0.75))
    settled = np.arange(len(values)) > 0.15 * len(values)
    groups = np.asarray(values, dtype=float)[settled & (rates <= low)], np.asarray(values)[settled & (rates >= high)]
    return tuple(float(group.mean()) if len(group) else math.nan for group in groups)


def jump(record: Record, at: float) -> tuple[float, float]:
    """How much validation accuracy rose (points) in the epoch after the moment `at` (0 to 1), and in that before."""
    accuracy = 100 * np.array(record.history["validation_accuracy"])
    epoch = round(at * record.run.epochs)
    return float(accuracy[epoch] - accuracy[epoch - 1]), float(accuracy[epoch - 1] - accuracy[epoch - 2])


def curve(record: Record, name: str) -> np.ndarray:
    """One series of a record's history, (epochs,); NaN where it holds no number."""
    return np.array([math.nan if value is None else value for value in record.history.get(name, [])], dtype=float)


def ahead(found: Sequence[Record]) -> float | None:
    """Training less validation accuracy after the last epoch, in points, mean over seeds: how far a row overfits."""
    ends = [(curve(each, "train_accuracy"), curve(each, "validation_accuracy")) for each in found if each.test]
    return records.mean(100 * float(train[-1] - validation[-1]) for train, validation in ends
                        if len(train) and len(validation) and np.isfinite(train[-1] - validation[-1]))  # fmt: skip


def above(record: Record) -> tuple[int, int]:
    """In how many epochs validation accuracy is above training accuracy, and of how many."""
    validation, train = (curve(record, f"{split}_accuracy") for split in ("validation", "train"))
    both = [a > b for a, b in zip(validation, train)]
    return sum(map(bool, both)), len(both)


def after(found: Sequence[Record], epoch: int, name: str = "validation_accuracy") -> float | None:
    """A row's `name` after an epoch (1 is the first, -1 the last), mean over the seeds that learned something."""
    curves = [curve(each, name) for each in records.alive(list(found)) if each.test]
    return records.mean(float(each[epoch - (epoch > 0)]) for each in curves if len(each) >= abs(epoch))


def first_steps_apart(pair: Mapping[str, Sequence[Record]]) -> float:
    """How far two rows are apart in the losses of their first five steps (their fingerprints); NaN without both."""
    first = [np.array(found[0].fingerprint) for found in pair.values() if found][:2]
    return float(np.abs(np.subtract(*first)).max()) if len(first) == 2 else math.nan


def share(facts) -> str:
    """How many of some facts are true, in percent: "62 %"; a dash where there are none."""
    return f"{100 * sum(facts) / len(facts):.0f} %" if len(facts) else DASH


def points(difference: float | None) -> str:
    """A difference in words: "+1.20 points"; a dash for none."""
    return DASH if _missing(difference) else f"{signed(difference)} points"


def distance(difference: float | None) -> str:
    """A difference in words, without its sign: "1.20 points"."""
    return points(difference).lstrip("+−")


def best_row(selection: Mapping[str, list[Record]]) -> str | None:
    """The label with the highest mean *validation* accuracy after the last epoch: nothing is chosen on the test set."""
    scores = {
        label: records.mean(record.history["validation_accuracy"][-1] for record in found if record.test)
        for label, found in selection.items()
    }
    known = {label: value for label, value in scores.items() if value is not None}
    return max(known, key=known.get) if known else None


def merged(selections: Mapping[str, Selection]) -> dict[str, list[Record]]:
    """The rows of several tables as one: "table: row" → records."""
    return {f"{table}: {label}": found for table, rows in selections.items() for label, found in rows.items()}


def all_rows(section: str, selections: Mapping[str, Mapping[str, list[Record]]]) -> pd.DataFrame:
    """Every distinct run of a section once: table, row, accuracy, parameters, seconds per epoch."""
    seen = {}
    for table, selection in selections.items():
        for label, found in selection.items():
            if found and found[0].test:
                seen.setdefault(found[0].run, {
                    "section": section, "table": table, "row": label,
                    "accuracy": records.mean(records.accuracies(found)), "parameters": found[0].parameters,
                    "seconds_per_epoch": records.mean(record.fastest_epoch for record in found),
                })  # fmt: skip
    return pd.DataFrame(list(seen.values()))


# ------------------------------------------------------------------------------------------ batch norm: whole runs

PLAIN, NORMED = "VGG-A", "VGG-A + BN"  # the two networks, by the names that tables and figures give them


def networks(rows: Mapping[str, Run], selection: Mapping[str, list[Record]]) -> dict[str, dict[str, list[Record]]]:
    """The rows of a table by network, "VGG-A" and "VGG-A + BN": each a mapping of "lr <rate>" → records."""
    found: dict[str, dict[str, list[Record]]] = {PLAIN: {}, NORMED: {}}
    for label, run in rows.items():
        name = NORMED if run.options.get("batch_norm", True) else PLAIN
        found[name][f"lr {run.lr:g}"] = selection[label]
    return found


def time_ratio(selection: Mapping[str, list[Record]], row: str, other: str) -> float:
    """Seconds an epoch of `row` over those of `other`, fastest epochs; NaN where one has no record."""
    ours, theirs = (records.mean(each.fastest_epoch for each in selection[label]) for label in (row, other))
    return ours / theirs if ours and theirs else math.nan


def reported_time_ratio(section: str, table: str, row: str, other: str) -> float:
    """The same ratio as the report states it; NaN where it gives no times."""
    ours, theirs = (reported(section, table, label).seconds for label in (row, other))
    return ours / theirs if ours and theirs else math.nan


def times(pairs: Mapping[str, Mapping[str, list[Record]]], section: str, table: str) -> Table:
    """Seconds an epoch of VGG-A without and with batch norm, and their ratio, for each of `pairs` and the report."""
    epochs = experiments.SECTIONS[section][table][PLAIN].epochs
    entries = []
    for name, rows in pairs.items():
        seconds = {label: records.mean(each.fastest_epoch for each in rows[label]) for label in (PLAIN, NORMED)}
        entries.append({"": name, **seconds, "ratio": time_ratio(rows, NORMED, PLAIN)})
    stated = {label: reported(section, table, label).seconds for label in (PLAIN, NORMED)}
    entries.append({"": "report", **{label: seconds and seconds / epochs for label, seconds in stated.items()},
                    "ratio": reported_time_ratio(section, table, NORMED, PLAIN)})  # fmt: skip
    return Table(pd.DataFrame(entries), "Seconds an epoch, and those with batch norm over those without.")


def misses(section: str, table: str, selection: Mapping[str, list[Record]]) -> float:
    """How far, on average, the accuracies of a table lie from the report's, in points; NaN where one is missing."""
    ours = {label: records.mean(records.accuracies(found)) for label, found in selection.items()}
    gaps = [abs(ours[label] - reported(section, table, label).accuracy) if ours[label] is not None else math.nan
            for label in selection if reported(section, table, label).accuracy is not None]  # fmt: skip
    return 100 * sum(gaps) / len(gaps) if gaps else math.nan


def epochs_gap(selection: Mapping[str, list[Record]], row: str, other: str) -> float | None:
    """Validation accuracy of `row` less that of `other`, mean over all epochs, in points: which one rises faster."""
    means = [records.mean(records.mean(each.history["validation_accuracy"]) for each in selection[label] if each.test)
             for label in (row, other)]  # fmt: skip
    return None if None in means else 100 * (means[0] - means[1])


def rises_faster(selection: Mapping[str, list[Record]], row: str, other: str, sigma: float) -> str:
    """Whether validation accuracy of `row` rises faster: its mean over the epochs is higher by more than noise.

    Noise is that of `verdict`, of one epoch's accuracy; the mean over several has less, so the bar is high.
    """
    counts = [len(records.accuracies(selection[label])) for label in (row, other)]
    return beyond(epochs_gap(selection, row, other), counts, sigma)


def together(*verdicts: str) -> str:
    """The verdict on a claim of several parts: it holds if each part does, and fails if one does."""
    return next(each for each in ("not measured yet", "does not hold", "within noise", "holds") if each in verdicts)


# ------------------------------------------------------------------------------------------ batch norm: bands

STRETCHES = 20  # equal parts of a run, in each of which two bands are compared
PLATEAU = 0.02  # how near to the loss of guessing a run has to end to be called stuck there, as a share of it


class Band(NamedTuple):
    """The range of a step-level series over several runs.

    At step `at[i]` of `steps` it goes from `low[i]` to `high[i]`; steps at which nothing was measured are left out.
    `measured` of `runs` runs have the series; `ended`: the steps at which runs diverged; `notes`: in words, what is
    missing from the band.
    """

    at: np.ndarray
    low: np.ndarray
    high: np.ndarray
    steps: int
    measured: int
    runs: int
    ended: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def middle(self) -> np.ndarray:
        return (self.low + self.high) / 2

    @property
    def width(self) -> np.ndarray:
        return self.high - self.low


def band(rows: Mapping[str, list[Record]], store: Store, what: str, until: str | None = None) -> Band:
    """The range, at each step, of the series `what` over the first run of each of `rows`.

    With `until` each run has a range of its own, from `what` to the series `until`. Series may differ in length and
    hold NaN: a run that is missing, not measured, diverged, short, full of holes or stuck is named in the notes.
    """
    arrays = {label: series(found, store) for label, found in rows.items()}
    known = {label: each for label, each in arrays.items() if what in each}
    steps = max((len(each[what]) for each in known.values()), default=0)
    lows, highs = (_stacked([each[name] for each in known.values()], steps) for name in (what, until or what))
    filled = np.isfinite(lows).sum(1)
    notes = [f"{label} {note}" for label, found in rows.items() for note in _notes(found, arrays[label], what, steps)]
    notes += [f"{label} measured at {count:,} of {max(filled):,} steps" for label, count in zip(known, filled)
              if count < max(filled) and len(known[label][what]) == steps and not _ends(rows[label])]  # fmt: skip
    if not any(rows.values()):
        notes = [f"none of its {len(rows)} runs has a record yet"]
    at = np.flatnonzero(np.isfinite(lows).any(0) & np.isfinite(highs).any(0))
    ended = tuple(end for found in rows.values() for end in _ends(found))
    low, high = np.nanmin(lows[:, at], 0, initial=np.inf), np.nanmax(highs[:, at], 0, initial=-np.inf)
    return Band(at, low, high, steps, len(known), len(rows), ended, tuple(notes))


def series(found: list[Record], store: Store) -> dict[str, np.ndarray]:
    """The arrays beside a row's first record; none if there is no record, or their file can't be read."""
    try:
        return store.arrays(found[0]) if found else {}
    except records.RecordError:
        return {}


def silent(found: Sequence[Record], store: Store) -> float:
    """Share (0 to 1) of channels that are silent (`probes.silent`) in the layer that has most of them, the mean over a
    row's runs; NaN where no record has it."""
    kept = [series([record], store).get("silent", ()) for record in found]
    largest = [max(shares) for shares in kept if len(shares)]
    return float(np.mean(largest)) if largest else math.nan


def _stacked(series: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """(runs, steps): each series, filled up with NaN; what is not finite becomes NaN."""
    stack = np.full((len(series), steps), np.nan)
    for line, values in zip(stack, series):
        line[: len(values)] = np.where(np.isfinite(values), values, np.nan)
    return stack


def _ends(found: list[Record]) -> list[int]:
    return [found[0].diverged_at] if found and found[0].state == "diverged" else []


def _notes(found: list[Record], arrays: Mapping[str, np.ndarray], what: str, steps: int) -> list[str]:
    """What a reader of a band has to know of one of its runs."""
    if not found:
        return ["has no record yet"]
    notes = [f"diverged at step {end:,}" for end in _ends(found)]
    if what not in arrays:
        return [*notes, "was not measured"]
    if len(arrays[what]) < steps and not notes:
        notes.append(f"ends at step {len(arrays[what]):,} of {steps:,}")
    if not _ends(found) and stuck(arrays.get("step_loss", ())):
        notes.append(f"stays at the loss of guessing, {math.log(10):.3f}")
    return notes


def stuck(losses: Sequence[float], classes: int = 10) -> bool:
    """Whether a run ends where it can begin, at the loss of guessing: ln(classes), within 2 %."""
    last = np.asarray(losses)[-max(1, len(losses) // 10) :]
    return len(last) > 0 and abs(float(np.median(last)) / math.log(classes) - 1) < PLATEAU


def _mean_of(band: Band, of: str, start: float, stop: float) -> float:
    """The mean of a band's `of` ("middle" or "width") over the steps from `start` to `stop`; infinite if a run has
    diverged by then, NaN if nothing was measured."""
    values = getattr(band, of)[(band.at >= start) & (band.at < stop)]
    return math.inf if any(end < stop for end in band.ended) else float(values.mean()) if len(values) else math.nan


def stretches_won(plain: Band, normed: Band, of: str) -> tuple[int, int]:
    """In how many of 20 equal stretches of the run the mean `of` is smaller in `normed`, and in how many larger."""
    edges = np.linspace(0, max(plain.steps, normed.steps), STRETCHES + 1)
    pairs = [[_mean_of(each, of, *ends) for each in (plain, normed)] for ends in zip(edges, edges[1:])]
    return sum(b < a for a, b in pairs), sum(b > a for a, b in pairs)


def smaller(plain: Band, normed: Band, of: str) -> str:
    """Whether the "middle" or the "width" of a band is smaller with batch norm than without: a verdict.

    The run is cut into 20 equal stretches and the means in each compared: a two-sided sign test at 5 % (15 of 20).
    A run that diverged counts as infinite from there on. Neighbouring stretches are alike, so the bar is a low one.
    """
    if any(each.measured < each.runs or not len(each.at) for each in (plain, normed)):
        return "not measured yet"
    won, lost = stretches_won(plain, normed, of)
    if _sign_test(won, lost) > 0.05:
        return "within noise"
    return "holds" if won > lost else "does not hold"


def _sign_test(won: int, lost: int) -> float:
    """The probability of a result at least as uneven from a fair coin."""
    count, most = won + lost, max(won, lost)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(most, count + 1)) / 2**count)


def ratio(plain: Band, normed: Band, of: str, start: float = 0.0, stop: float = 1.0) -> float:
    """The mean `of` without batch norm over that with it, from the share `start` to the share `stop` of the run."""
    values = [getattr(each, of)[(each.at >= start * each.steps) & (each.at < stop * each.steps)]
              for each in (plain, normed)]  # fmt: skip
    if not all(len(each) and each.mean() for each in values):
        return math.nan
    return float(values[0].mean() / values[1].mean())


def wider(plain: Band, normed: Band) -> float:
    """The share of the steps that both bands have at which the one without batch norm is the wider; NaN without any."""
    both = np.intersect1d(plain.at, normed.at)
    if not len(both):
        return math.nan
    return float((plain.width[np.isin(plain.at, both)] > normed.width[np.isin(normed.at, both)]).mean())


def band_words(found: Mapping[str, Band]) -> str:
    """How the two bands of a quantity compare, in two sentences, with a verdict on each."""
    plain, normed = found[PLAIN], found[NORMED]
    if not (len(plain.at) and len(normed.at)):
        return "Not measured yet."
    lower, narrower = (
        f"**{smaller(plain, normed, of)}** ({won} of {won + lost} stretches of the run)"
        for of in ("middle", "width") for won, lost in [stretches_won(plain, normed, of)]
    )  # fmt: skip
    higher, broader = (text(ratio(plain, normed, of)) for of in ("middle", "width"))
    return (
        f"Without batch norm the middle of the band lies {higher} times as high as with it, and the band is {broader} "
        f"times as wide; it is the wider one at {100 * wider(plain, normed):.0f} % of the steps. "
        f"That batch norm lowers it: {lower}; that it narrows it: {narrower}."
    )


def basin(arrays: Mapping[str, np.ndarray], below: float = math.log(10)) -> float:
    """The share of a loss surface on which the loss is lower than that of guessing; NaN without a surface."""
    return float((arrays["surface_loss"] < below).mean()) if "surface_loss" in arrays else math.nan


def band_numbers(quantities: Mapping[str, Mapping[str, Band]]) -> Table:
    """What the bands of some quantities are like: quantity → network → band."""
    entries = [{"quantity": what, "network": name, "median": _over(np.median, each.middle),
                "mean width": _over(np.mean, each.width), "width / median": _over(np.median, each.width / each.middle),
                "steps": len(each.at), "of": each.steps, "runs": each.measured, "rates": each.runs}
               for what, found in quantities.items() for name, each in found.items()]  # fmt: skip
    frame = pd.DataFrame(entries)
    texts = frame.map(text).drop(columns=["of", "rates"])
    texts["steps"] = [f"{row.steps:,} of {row.of:,}" for row in frame.itertuples()]
    texts["runs"] = [f"{row.runs} of {row.rates}" for row in frame.itertuples()]
    return Table(frame, "The bands in numbers: median of their middle, width, steps and rates measured.", texts)


def _over(take, values: np.ndarray) -> float:
    return float(take(values)) if len(values) else math.nan


def band_ratios(quantities: Mapping[str, Mapping[str, Band]]) -> Table:
    """VGG-A over VGG-A + BN for each quantity: middle and width of the bands, over the run and in its outer thirds."""
    parts = {"": (0, 1), " (first third)": (0, 1 / 3), " (last third)": (2 / 3, 1)}
    entries = []
    for what, found in quantities.items():
        pair = found[PLAIN], found[NORMED]
        ratios = {of + part: ratio(*pair, of, *ends) for of in ("middle", "width") for part, ends in parts.items()}
        entries.append({"quantity": what, **ratios, "wider without (% of steps)": 100 * wider(*pair)})
    return Table(
        pd.DataFrame(entries), "Without batch norm over with it: above 1, the band with it is lower or narrower."
    )
