"""What Γ holds in the runs of a table: how much of the network has entered the support, and what it takes to enter.
Nothing is trained or pruned here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.records import RecordError
from helpers.show.comparison import Comparison, Row
from helpers.show.curves import WIDTH, closed, looks_of, no_record
from helpers.show.filters import norm_needed
from helpers.show.grid import Grid
from helpers.show.text import DASH, MISSING

STEP = "path_step"  # the step at which each moment of a path was measured


def followed(rows: Comparison) -> list[Row]:
    """The rows in which Γ was recorded over the run."""
    return [row for row in rows.values() if "path" in row.run.probes]


def paths(series: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Layer → ‖Γ‖ over a run: (moments, filters) of a convolution, (moments,) of a linear layer."""
    return {name: path for name, path in series.items() if name.startswith("path_") and name != STEP}


def layers(row: Row) -> Any:
    """In how many of its penalised layers Γ holds anything at the end, "2 of 5", the mean over the seeds."""
    ends = [[bool(np.any(path[-1] > 0)) for path in paths(series).values()] for series in row.series]
    return f"{np.mean([sum(each) for each in ends]):.3g} of {len(ends[0])}" if ends else MISSING


def entered(row: Row) -> list[np.ndarray]:
    """The share of all filters of the convolutions that are in the support at each moment, of each run: 0 to 1."""
    wide = [[path for path in paths(series).values() if path.ndim == 2] for series in row.series]
    return [(np.concatenate(each, axis=1) > 0).mean(1) for each in wide if each]


def needed(row: Row) -> Any:
    """The norm that a filter must keep all along to enter by the end of the run: ν / Σα."""
    return norm_needed(row.first.run, int(row.arrays[STEP][-1])) if row.series else MISSING


def largest_norm(row: Row) -> Any:
    """The largest norm of a convolution's filter among the weights that are kept of a row's first run."""
    try:
        weights = row.store.weights(row.first) if row else {}
    except RecordError:
        return MISSING
    norms = [np.linalg.norm(each.reshape(len(each), -1), axis=1).max() for each in weights.values() if each.ndim == 4]
    return float(max(norms)) if norms else MISSING


def table(rows: Comparison) -> Grid:
    """A line for each row with a Γ: its rate summed over the steps, the norm needed to enter, and what has entered."""
    found = followed(rows)
    frame = pd.DataFrame({
        "": [row.label for row in found],
        "Σα": [float(row.run.mu / needed(row)) for row in found],
        "needed": [float(needed(row)) for row in found],
        "layers": [f"{layers(row)}" for row in found],
        "filters": [100 * float(np.mean([each[-1] for each in entered(row)] or [np.nan])) for row in found],
    })  # fmt: skip
    texts = pd.DataFrame({
        "": frame[""],
        "Σα": [_short(each) for each in frame["Σα"]],
        "norm needed": [_short(each) for each in frame["needed"]],
        "layers with Γ ≠ 0": frame["layers"],
        "filters in the support (%)": [_short(each) for each in frame["filters"]],
    })  # fmt: skip
    return Grid(frame, f"{rows.table.name}: what Γ holds at the end of the run, mean over the seeds.", texts)


def curves(*tables: Comparison) -> Figure:
    """The share of the convolutions' filters in the support over the run, a panel a table, a line a seed."""
    figure, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 2.8), sharey=True, squeeze=False)
    for ax, rows in zip(axes[0], tables):
        _curves(rows, ax)
    axes[0, 0].set_ylabel("filters in the support (%)")
    return closed(figure)


def _curves(rows: Comparison, ax: Axes) -> None:
    trained = [row for row in followed(rows) if row.learned and row.series]
    for row, look in zip(trained, looks_of(row.label for row in trained)):
        for seed, share in enumerate(entered(row)):
            epochs = row.arrays[STEP] / row.arrays[STEP][-1] * row.first.run.epochs
            label = row.label if seed == 0 else None
            ax.plot(epochs, 100 * share, **look | {"marker": ""}, lw=1.2, label=label)
    ax.set_title(rows.table.name, loc="left", fontsize=9)
    if not ax.lines:
        no_record(ax)
        return
    ax.set(xlabel="epoch", ylim=(-3, 103))
    ax.legend()


def _short(value: float) -> str:
    return DASH if np.isnan(value) else f"{value:.3g}"
