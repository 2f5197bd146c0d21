"""How the candidates of a reading compare: their distances from every number of the report that they touch. Nothing is
chosen here; the choice stands in `experiments/readings.py`."""

import math

import numpy as np
import pandas as pd

from helpers import records
from helpers.experiments import PRUNED, REPORTED_PRUNED, Reported
from helpers.show.comparison import Comparison, Row
from helpers.show.grid import Grid
from helpers.show.text import DASH, missing, percent, signed


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
    frame = pd.DataFrame(lines)
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
    key = {"conv3": "conv3", "conv3 + fc1": "conv3_fc1"}[layers]
    stated = REPORTED_PRUNED[layers]
    at = [PRUNED.index(share) for share in stated]
    lines = {"the report": np.array([*stated.values()])}
    for label, row in found.items():
        if row and (series := [each[f"pruned_support_{key}_test"][at] for each in row.series]):
            lines[label.split(": ")[0]] = np.mean(series, 0)
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
