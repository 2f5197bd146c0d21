"""How the candidates of a reading compare: their distances from every number of the report that they touch. Nothing is
chosen here; the choice stands in `experiments/readings.py`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from helpers import records
from helpers.experiments import PRUNED, REPORTED_PRUNED, Reported
from helpers.show import curves
from helpers.show.comparison import Comparison, Report, Row
from helpers.show.grid import Grid
from helpers.show.text import DASH, MISSING, missing, percent, signed


def candidates(found: Comparison) -> Grid:
    """A line a candidate: each row's accuracy in percent, with its distance from the report's, and how far all are."""
    rows = _by_candidate(found)
    names = list(dict.fromkeys(name for each in rows.values() for name in each))
    aims = {name: found.table.aims[f"{candidate}: {name}"].accuracy
            for candidate, each in rows.items() for name in each}  # fmt: skip
    lines = []
    for candidate, each in rows.items():
        gaps = {name: _gap(row, aims[name]) for name, row in each.items()}
        lines.append({"candidate": candidate, **gaps, "distance": _root_mean_square(gaps.values())})
    frame = pd.DataFrame(lines, columns=["candidate", *names, "distance"])
    texts = pd.DataFrame({
        "candidate": frame["candidate"],
        **{f"{name} ({percent(aims[name])})": [_cell(each.get(name), aims[name]) for each in rows.values()]
           for name in names},
        "distance (points)": [DASH if math.isnan(each) else f"{each:.1f}" for each in frame["distance"]],
    })  # fmt: skip
    caption = ("Test accuracy in percent, the report's in the head, the difference in brackets; distance: the root of "
               f"the mean square of the differences. Chosen: {found.table.reading.chosen}.")  # fmt: skip
    return Grid(frame, caption, texts)


def further(found: Comparison, name: str) -> Grid:
    """A line a candidate: what the report states of the row `name` besides its test accuracy, ours and the report's."""
    rows = {candidate: each[name] for candidate, each in _by_candidate(found).items() if name in each}
    aim = found.table.aims[f"{next(iter(rows))}: {name}"]
    lines = [{"candidate": candidate, "validation accuracy": row.last("validation_accuracy"),
              "validation loss": row.last("validation_loss"), "training loss": row.last("train_loss")}
             for candidate, row in rows.items()]  # fmt: skip
    lines.append(_stated(aim))
    frame = pd.DataFrame(lines)
    caption = f"{name[0].upper() + name[1:]}: what the last epoch ends with, and what the report states."
    return Grid(frame, caption)


def pruned(found: Comparison, layers: str = "conv3") -> Grid:
    """A line a candidate: accuracy in percent with each share pruned that the report names, and how far all are."""
    stated = REPORTED_PRUNED[layers]
    lines = {"the report": np.array([*stated.values()])}
    lines |= {label.split(": ")[0]: _pruned(row, layers) for label, row in found.items() if row}
    apart = {name: _root_mean_square(100 * (values - lines["the report"])) for name, values in lines.items()}
    frame = pd.DataFrame([
        {"candidate": name, **dict(zip(stated, values)), "distance": apart[name]} for name, values in lines.items()
    ])  # fmt: skip
    texts = pd.DataFrame({
        "candidate": frame["candidate"],
        **{f"{100 * share:.0f} %": frame[share].map(percent) for share in stated},
        "distance (points)": [DASH, *(f"{each:.1f}" for each in frame["distance"][1:])],
    })  # fmt: skip
    return Grid(frame, f"Accuracy in percent with a share of {layers} pruned, by candidate.", texts)


def farthest(found: Comparison) -> Any:
    """The largest difference of the chosen candidate's pruned scores, means over its seeds, from the report's, in
    points."""
    (row,) = (row for label, row in found.items() if label.startswith(f"{found.table.reading.chosen}: "))
    if not row:
        return MISSING
    apart = [_pruned(row, layers) - [*stated.values()] for layers, stated in REPORTED_PRUNED.items()]
    return 100 * max(np.abs(each).max() for each in apart)


def pruning_curves(found: Comparison, layers: str = "conv3") -> Figure:
    """Accuracy against the share pruned: the report's, each seed of the chosen candidate, the others' means in grey."""
    stated, (figure, ax) = REPORTED_PRUNED[layers], plt.subplots(figsize=(curves.WIDTH, 3))
    at = [100 * share for share in stated]
    for label, row in found.items():
        candidate = label.split(": ")[0]
        if row.learned and candidate != found.table.reading.chosen:
            ax.plot(at, 100 * _pruned(row, layers), color="0.7", lw=1, label="other candidates that train")
        elif candidate == found.table.reading.chosen:
            for seed in row.series:
                ax.plot(at, 100 * _scores(seed, layers), color=curves.VERMILION, label=f"{candidate}, each seed")
    ax.plot(at, [100 * score for score in stated.values()], "kx", label="the report")
    ax.set(xlabel=f"{layers} pruned (%)", ylabel="test accuracy (%)")
    lines = dict(zip(*reversed(ax.get_legend_handles_labels())))
    ax.legend(lines.values(), lines.keys())
    plt.close(figure)  # shown once, as the value of its cell
    return figure


# ------------------------------------------------------------------------------------------ how near all rows are

NEAR = 2.0  # points


def met(report: Report) -> tuple[int, int]:
    """How many rows that stand beside a score of the report come near it, and of how many."""
    known = [_is_near(*each) for each in _scored(report)]
    return sum(known), len(known)


def unexplained(report: Report) -> Grid:
    """The rows that lie farther than NEAR points from the report, and not where one further run is to be expected."""
    off = [(table, row) for table, row in _scored(report) if not _is_near(table, row)]
    off.sort(key=lambda each: -abs(each[1].difference))
    cells = [(table.table.title, row.label, f"{row.accuracy}", f"{row.reported}", f"{row.difference}")
             for table, row in off]  # fmt: skip
    frame = pd.DataFrame(cells, columns=["table", "row", "ours (%)", "report (%)", "difference (points)"])
    return Grid(frame, f"Rows more than {NEAR:g} points from the report's score, the farthest first.", left=("row",))


def _scored(report: Report) -> list[tuple[Comparison, Row]]:
    return [(table, row) for title, table in report.items() if table.table.section != "readings"
            for row in table.values() if row and not missing(row.stated.accuracy)]  # fmt: skip


def _is_near(table: Comparison, row: Row) -> bool:
    return abs(row.difference) <= NEAR or 100 * row.stated.accuracy in table.expected(row.label)


# ------------------------------------------------------------------------------------------ what they ask


def _scores(arrays: Mapping[str, np.ndarray], layers: str) -> np.ndarray:
    """Of one seed: accuracies with each share pruned that the report names, in the authors' order."""
    at = [PRUNED.index(share) for share in REPORTED_PRUNED[layers]]
    return arrays[f"pruned_support_{layers.replace(' + ', '_')}_test"][at]


def _pruned(row: Row, layers: str) -> np.ndarray:
    """The same, the mean over the seeds of a row."""
    return np.mean([_scores(each, layers) for each in row.series], 0)


def _by_candidate(found: Comparison) -> dict[str, dict[str, Row]]:
    """Candidate → row → its records, of those that have any."""
    rows: dict[str, dict[str, Row]] = {}
    for label, row in found.items():
        candidate, name = label.split(": ", 1)
        if row:
            rows.setdefault(candidate, {})[name] = row
    return rows


def _gap(row: Row, aim: float) -> float:
    """Ours less the report's, in points; of runs that failed to train, as of any others."""
    return 100 * (records.mean([record.test.accuracy for record in row if record.test]) - aim)


def _cell(row: Row | None, aim: float) -> str:
    return DASH if row is None else f"{row.accuracy:} ({signed(_gap(row, aim))})"


def _root_mean_square(gaps) -> float:
    known = [gap for gap in gaps if not missing(gap)]
    return math.sqrt(sum(gap**2 for gap in known) / len(known)) if known else math.nan


def _stated(aim: Reported) -> dict:
    return {"candidate": "the report", "validation accuracy": aim.validation, "validation loss": aim.validation_loss,
            "training loss": aim.train_loss}  # fmt: skip
