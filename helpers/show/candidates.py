"""How the candidates of a reading compare: their distances from every number of the report that they touch. Nothing is
chosen here; the choice stands in `experiments/readings.py`."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from helpers import records
from helpers.experiments import REPORTED_PRUNED
from helpers.show import overview
from helpers.show.comparison import Comparison, Report, Row
from helpers.show.curves import VERMILION, WIDTH, closed, legend
from helpers.show.filters import Pruned
from helpers.show.grid import Grid
from helpers.show.overview import NEAR
from helpers.show.text import DASH, MISSING, percent, signed


def candidates(found: Comparison) -> Grid:
    """A line a candidate: each row's accuracy in percent, with its distance from the report's, and how far all are."""
    lines: dict[str, dict[str, str]] = {}
    gaps: dict[str, list[float]] = {}
    for label, row in found.items():
        candidate, name = label.split(": ", 1)
        if row:
            aim = found.table.aims[label].accuracy
            # Of runs that failed to train, as of any others.
            gap = 100 * (records.mean([record.test.accuracy for record in row if record.test]) - aim)
            cell = {f"{name} ({percent(aim)})": f"{row.accuracy} ({signed(gap)})"}
            lines.setdefault(candidate, {"candidate": candidate}).update(cell)
            gaps.setdefault(candidate, []).append(gap)
    frame = pd.DataFrame(list(lines.values())).fillna(DASH)
    frame["distance (points)"] = [f"{_root_mean_square(each):.1f}" for each in gaps.values()]
    caption = ("Test accuracy in percent, the report's in the head, the difference in brackets; distance: the root of "
               f"the mean square of the differences that there are. Chosen: {found.table.reading.chosen}.")  # fmt: skip
    return Grid(frame, caption)


def pruned(found: Comparison, layers: str = "conv3") -> Grid:
    """A line a candidate: accuracy in percent with each share pruned that the report names, and how far all are."""
    lines = [_line("the report", np.array([*REPORTED_PRUNED[layers].values()]), layers)]
    lines += [_line(label.split(": ")[0], _means(row, layers), layers) for label, row in found.items() if row]
    lines[0]["distance (points)"] = DASH
    return Grid(pd.DataFrame(lines), f"Accuracy in percent with a share of {layers} pruned, by candidate.")


def _line(candidate: str, scores: np.ndarray, layers: str) -> dict[str, str]:
    stated = REPORTED_PRUNED[layers]
    distance = _root_mean_square(100 * (scores - [*stated.values()]))
    cells = {f"{100 * share:.0f} %": percent(score) for share, score in zip(stated, scores)}
    return {"candidate": candidate, **cells, "distance (points)": f"{distance:.1f}"}


def _scores(row: Row, layers: str) -> np.ndarray:
    """Accuracies with each share pruned that the report names, in the authors' order: (seeds, shares)."""
    ours = Pruned(row, "support", layers.replace(" + ", "_"))
    return np.array([ours.scores(share) for share in REPORTED_PRUNED[layers]]).T


def _means(row: Row, layers: str) -> np.ndarray:
    return _scores(row, layers).mean(0)


def _root_mean_square(gaps) -> float:
    return float(np.sqrt(np.mean(np.square(gaps))))


def farthest(found: Comparison) -> Any:
    """The largest difference of the chosen candidate's pruned scores, means over its seeds, from the report's, in
    points."""
    (row,) = (row for label, row in found.items() if label.startswith(f"{found.table.reading.chosen}: "))
    apart = [_means(row, layers) - [*stated.values()] for layers, stated in REPORTED_PRUNED.items() if row]
    return max((100 * np.abs(each).max() for each in apart), default=MISSING)


def pruning_curves(found: Comparison) -> Figure:
    """Accuracy against the share of conv3 pruned: the report's, each seed of the chosen candidate, means of the others
    in grey."""
    stated, (figure, ax) = REPORTED_PRUNED["conv3"], plt.subplots(figsize=(WIDTH, 3))
    at = [100 * share for share in stated]
    for label, row in found.items():
        candidate = label.split(": ")[0]
        if row.learned and candidate != found.table.reading.chosen:
            ax.plot(at, 100 * _means(row, "conv3"), color="0.7", lw=1, label="other candidates that train")
        elif row.learned:
            ax.plot(at, 100 * _scores(row, "conv3").T, color=VERMILION, label=f"{candidate}, each seed")
    ax.plot(at, [100 * score for score in stated.values()], "kx", label="the report")
    ax.set(xlabel="conv3 pruned (%)", ylabel="test accuracy (%)")
    legend(ax)
    return closed(figure)


# ------------------------------------------------------------------------------------------ how near all rows are


def met(report: Report) -> tuple[int, int]:
    """How many rows that stand beside a score of the report come near it, and of how many."""
    rows = overview.all_rows(report, once=False)
    return int(_near(rows).sum()), len(rows)


def unexplained(report: Report) -> Grid:
    """The rows that lie farther than NEAR points from the report, and not where one further run is to be expected."""
    rows = overview.all_rows(report, once=False)
    off = rows[~_near(rows)].sort_values("difference", key=lambda each: -each.abs(), kind="stable")
    frame = pd.DataFrame({
        "table": off["table"], "row": off["row"], "ours (%)": off["ours"], "report (%)": off["reported"].map(percent),
        "difference (points)": off["difference"].map(signed),
    })  # fmt: skip
    return Grid(frame, f"Rows more than {NEAR:g} points from the report's score, the farthest first.", left=("row",))


def _near(rows: pd.DataFrame) -> pd.Series:
    return (rows["difference"].abs() <= NEAR) | rows["expected"].astype(bool)
