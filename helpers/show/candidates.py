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
from helpers.show.support import size
from helpers.show.text import DASH, MISSING, Points, percent, signed


def candidates(found: Comparison) -> Grid:
    """A line a candidate: each row's accuracy in percent, with its distance from the report's, and how far all are."""
    lines: dict[str, dict[str, str]] = {}
    gaps: dict[str, dict[str, float]] = {}
    for label, row in found.items():
        candidate, name = label.split(": ", 1)
        if row:
            aim, gap = found.table.aims[label].accuracy, difference(found, label)
            cell = {f"{name} ({percent(aim)})": f"{row.accuracy} ({gap})"}
            lines.setdefault(candidate, {"candidate": candidate}).update(cell)
            gaps.setdefault(candidate, {})[name] = gap
    frame = pd.DataFrame(list(lines.values())).fillna(DASH)
    caption = "Test accuracy in percent, the report's in the head, the difference in brackets"
    common = set.intersection(*(set(each) for each in gaps.values())) if gaps else set()
    if len(common) > 1:  # else it would say the same once more
        distances = [_root_mean_square([each[name] for name in common]) for each in gaps.values()]
        frame["distance (points)"] = [f"{distance:.1f}" for distance in distances]
        caption += "; distance: the root of the mean square of the differences in the columns that all candidates have"
    return Grid(frame, f"{caption}. Chosen: {found.table.reading.chosen}.")


def difference(found: Comparison, label: str) -> Any:
    """A row's accuracy less the report's, in points; of runs that failed to train, as of any others."""
    ours = records.mean([record.test.accuracy for record in found[label] if record.test])
    return MISSING if ours is None else Points(100 * (ours - found.table.aims[label].accuracy))


def differences(found: Comparison, candidate: str) -> dict[str, float]:
    """How far each recorded row of a candidate lies above the report's score, in points."""
    labels = [label for label, row in found.items() if row and label.startswith(f"{candidate}: ")]
    return {label.split(": ", 1)[1]: difference(found, label) for label in labels}


STEPS = 100  # over which the training loss at the end is averaged, since that of one batch says little
EPOCHS = 10  # over which a curve that levels off moves little


def ends(found: Comparison, name: str) -> Grid:
    """The report's line and one a candidate, for the row `name`: what the report tells of a run's end, as the mean over
    seeds. Accuracies in percent; the range of validation accuracy over the last epochs in points."""
    rows = {label.split(": ")[0]: row for label, row in found.items() if label.endswith(f": {name}") and row.alive}
    aim = next(found.table.aims[label] for label in found if label.endswith(f": {name}"))
    lines = [_end("the report", aim.accuracy, aim.validation, aim.validation_loss, aim.train_loss, None)]
    for candidate, row in rows.items():
        last = [100 * np.array(record.history["validation_accuracy"][-EPOCHS:]) for record in row.alive]
        loss = records.mean([float(series["step_loss"][-STEPS:].mean()) for series in row.series])
        values = float(row.accuracy), row.last("validation_accuracy"), row.last("validation_loss")
        lines.append(_end(candidate, *values, loss, records.mean([float(np.ptp(each)) for each in last])))
    return Grid(
        pd.DataFrame(lines),
        f"{name[0].upper()}{name[1:]}: what the report tells of its end, and each candidate's (means over its seeds). "
        f"Training loss: the report's of one batch, ours of the last {STEPS}. Range: of validation accuracy, over the "
        f"last {EPOCHS} epochs.",
    )


def _end(candidate: str, *values: float | None) -> dict[str, str]:
    heads = {"test (%)": ".2%", "validation (%)": ".2%", "validation loss": ".3f", "training loss": ".3f",
             "range (points)": ".1f"}  # fmt: skip
    shown = [DASH if value is None else format(value, form).rstrip("%") for value, form in zip(values, heads.values())]
    return {"candidate": candidate, **dict(zip(heads, shown))}


def pruned(found: Comparison, layers: str = "conv3") -> Grid:
    """A line a candidate: accuracy in percent with each share pruned that the report names, and how far all are."""
    lines = [_line("the report", np.array([*REPORTED_PRUNED[layers].values()]), layers)]
    for label, row in found.items():
        if row:
            line = _line(label.split(": ")[0], _means(row, layers), layers)
            lines.append(line | {"support (filters)": f"{size(row):.0f}"})
    lines[0]["distance (points)"] = DASH
    frame = pd.DataFrame(lines).fillna(DASH)
    return Grid(
        frame,
        f"Accuracy in percent with a share of {layers} pruned, by candidate, and conv3's filters in the support; "
        f"means over its seeds.",
    )


def _line(candidate: str, scores: np.ndarray, layers: str) -> dict[str, str]:
    stated = REPORTED_PRUNED[layers]
    cells = {f"{100 * share:.0f}\N{NO-BREAK SPACE}%": percent(score) for share, score in zip(stated, scores)}
    return {"candidate": candidate, **cells, "distance (points)": f"{_distance(scores, layers):.1f}"}


def _distance(scores: np.ndarray, layers: str) -> float:
    """How far scores with each share pruned lie from the report's, in points."""
    return _root_mean_square(100 * (scores - [*REPORTED_PRUNED[layers].values()]))


def _scores(row: Row, layers: str) -> np.ndarray:
    """Accuracies with each share pruned that the report names, in the authors' order: (seeds, shares)."""
    ours = Pruned(row, "support", layers.replace(" + ", "_"))
    return np.array([ours.scores(share) for share in REPORTED_PRUNED[layers]]).T


def _means(row: Row, layers: str) -> np.ndarray:
    return _scores(row, layers).mean(0)


def _root_mean_square(gaps) -> float:
    return float(np.sqrt(np.mean(np.square(gaps))))


def _chosen(found: Comparison) -> Row:
    return next(row for label, row in found.items() if label.startswith(f"{found.table.reading.chosen}: "))


def distances(found: Comparison, layers: str = "conv3") -> list[float]:
    """How far the pruned scores of each of the chosen candidate's seeds lie from the report's, in points."""
    row = _chosen(found)
    return [_distance(scores, layers) for scores in _scores(row, layers)] if row else []


def farthest(found: Comparison) -> Any:
    """The largest difference of the chosen candidate's pruned scores, means over its seeds, from the report's, in
    points."""
    row = _chosen(found)
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
    """How many runs that stand beside a score of the report come near it, each counted once, and of how many."""
    rows = overview.all_rows(report)
    return int(_near(rows).sum()), len(rows)


def unexplained(report: Report) -> Grid:
    """The rows that lie farther than NEAR points from the report, and not where one further run is to be expected."""
    rows = overview.all_rows(report)
    off = rows[~_near(rows)].sort_values("difference", key=lambda each: -each.abs(), kind="stable")
    frame = pd.DataFrame({
        "table": off["table"], "row": off["row"], "ours (%)": off["ours"], "report (%)": off["reported"].map(percent),
        "difference (points)": off["difference"].map(signed),
    })  # fmt: skip
    caption = (f"Rows more than {NEAR:g} points from the report's score, and outside the 95 % interval of one further "
               "run, the farthest first; a run that stands in several tables only once.")  # fmt: skip
    return Grid(frame, caption, left=("row",))


def _near(rows: pd.DataFrame) -> pd.Series:
    return (rows["difference"].abs() <= NEAR) | rows["expected"].astype(bool)
