"""Tables of ours beside the report's, and the words for a difference: gap, noise, verdict. Everything shown is computed
from the records it is given; nothing is trained or read here."""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from helpers import experiments, records
from helpers.experiments import Run
from helpers.records import Record, Selection
from helpers.reported import reported

DASH = "–"


class Table:
    """A table to show: `frame` holds the numbers; a notebook, the site and the PDF each take the form they need."""

    def __init__(self, frame: pd.DataFrame, caption: str, texts: pd.DataFrame | None = None):
        self.frame, self.caption = frame, caption
        self._texts = frame.map(_text) if texts is None else texts

    def _repr_html_(self) -> str:
        head = "".join(f"<th{_align(i)}>{html.escape(str(name))}</th>" for i, name in enumerate(self._texts.columns))
        body = "".join(
            "<tr>" + "".join(f"<td{_align(i)}>{html.escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>\n"
            for row in self._texts.itertuples(index=False)
        )
        caption = f"<caption>{html.escape(self.caption)}</caption>"
        return f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"

    def _repr_markdown_(self) -> str:
        names = [str(name) for name in self._texts.columns]
        lines = [names, [":---"] + ["---:"] * (len(names) - 1), *self._texts.itertuples(index=False)]
        grid = "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"{grid}\n\n: {self.caption}"

    def __repr__(self) -> str:
        return f"{self.caption}\n{self._texts.to_string(index=False)}"


def _align(column: int) -> str:
    return ' style="text-align: left"' if column == 0 else ' style="text-align: right"'


def _text(value) -> str:
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
    spread = records.std(scores)
    return percent(records.mean(scores)) + ("" if spread is None else f" ± {100 * spread:.2f}")


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
        "difference (points)": frame["difference"].map(_signed),
        "n": frame["n"].astype(str),
        "s / epoch": frame["seconds"].map(_rounded),
        "report's s / epoch": frame["reported_seconds"].map(_rounded),
        "record": frame["record"],
    })  # fmt: skip
    if frame["reported_seconds"].isna().all():
        texts = texts.drop(columns="report's s / epoch")
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


def _missing(value) -> bool:
    return value is None or math.isnan(value)


def _percent(value) -> str:
    return DASH if _missing(value) else percent(value)


def _signed(value) -> str:
    return DASH if _missing(value) else f"{value:+.2f}".replace("-", "−")


def _rounded(value) -> str:
    return DASH if _missing(value) else f"{value:,.0f}"


def _title(table: str) -> str:
    """The table's name without its number, as the head of a caption."""
    words = table.split(" ", 1)[1] if table[0].isdigit() else table
    return words[0].upper() + words[1:]


def provenance(selection: Selection) -> str:
    """Where a table's numbers come from, in one sentence: budget, epochs, and what is missing."""
    epochs = sorted({record.run.epochs for found in selection.values() for record in found})
    length = f", {' or '.join(map(str, epochs))} epochs" if epochs else ""
    missing = f"; no record yet of {len(selection.missing)} of {len(selection)} rows" if selection.missing else ""
    larger = "".join(
        f"; {budget}: {sum(map(bool, rows.values()))} of {len(rows)} rows" for budget, rows in selection.larger.items()
    )
    return f"Budget {selection.budget}{length}{missing}{larger}."


# ------------------------------------------------------------------------------------------ what a difference proves


def noise(pair: Mapping[str, list[Record]], *others: Mapping[str, list[Record]]) -> float:
    """How far two runs that differ in nothing real end apart: the standard deviation of one run's accuracy, in points.

    `pair` has two rows that compute the same function: their gap over √2 is one estimate. Rows of `pair` or `others`
    with several seeds give more, pooled over rows. The largest is returned: one estimate from two runs is a poor one.
    NaN if there is nothing to estimate it from.
    """
    first, second = (records.mean(records.accuracies(found)) for found in list(pair.values())[:2])
    estimates = [] if first is None or second is None else [100 * abs(first - second) / math.sqrt(2)]
    repeated = {found[0].run: records.std(records.accuracies(found)) for rows in (pair, *others)
                for found in rows.values() if len(records.accuracies(found)) > 1}  # fmt: skip
    if repeated:
        estimates.append(100 * math.sqrt(records.mean(spread**2 for spread in repeated.values())))
    return max(estimates, default=math.nan)


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
    """
    difference = gap(selection, row, other)
    if difference is None or math.isnan(sigma):
        return "not measured yet"
    counts = [len(records.accuracies(selection[label])) for label in (row, other)]
    bound = 2 * sigma * math.sqrt(sum(1 / count for count in counts))
    return "within noise" if abs(difference) <= bound else "holds" if difference > 0 else "does not hold"


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


def points(difference: float | None) -> str:
    """A difference in words: "+1.20 points"."""
    return "an unknown number of points" if difference is None else f"{_signed(difference)} points"


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


def confused_pairs(confusion, classes, count: int = 8) -> Table:
    """The most frequent mistakes of a confusion matrix (rows: true class), most frequent first."""
    pairs = [(classes[i], classes[j], int(confusion[i][j]), 100 * confusion[i][j] / sum(confusion[i]))
             for i in range(len(classes)) for j in range(len(classes)) if i != j]  # fmt: skip
    pairs.sort(key=lambda pair: -pair[2])
    frame = pd.DataFrame(pairs[:count], columns=["true class", "taken for", "images", "share of the class (%)"])
    shares = frame["share of the class (%)"].map("{:.1f}".format)
    texts = frame.assign(**{"images": frame["images"].astype(str), "share of the class (%)": shares})
    return Table(frame, "The most confused pairs of classes, on the test set.", texts)
