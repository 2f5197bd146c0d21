"""What Γ holds: how much of a network has entered the support, when, and what it takes to enter. Nothing is trained or
pruned here."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.records import RecordError
from helpers.show.comparison import Comparison, Row
from helpers.show.curves import WIDTH, closed, legend, looks_of
from helpers.show.grid import Grid
from helpers.show.text import MISSING

CONV3 = "features.conv3.weight"
STEP = "path_step"  # the step at which each moment of a path was measured


def paths(series: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Layer → ‖Γ‖ over a run: (moments, filters) of a convolution, (moments,) of a linear layer."""
    found = {name: path for name, path in series.items() if name.startswith("path_") and name != STEP}
    return {name.removeprefix("path_"): path for name, path in found.items()}


def followed(rows: Comparison) -> list[Row]:
    """The rows in which Γ was recorded over the run."""
    return [row for row in rows.values() if "path" in row.run.probes]


def size(row: Row) -> Any:
    """How many filters of conv3 are in the support at the end, the mean over the seeds that learned."""
    every = [paths(row.store.arrays(record)) for record in row.alive]
    ends = [int((path[CONV3][-1] > 0).sum()) for path in every if CONV3 in path]
    return float(np.mean(ends)) if ends else MISSING


def layers(row: Row) -> Any:
    """In how many of its penalised layers Γ holds anything at the end, "2 of 5", the mean over the seeds."""
    ends = [[bool(np.any(path[-1] > 0)) for path in paths(series).values()] for series in row.series]
    return f"{np.mean([sum(each) for each in ends]):.2g} of {len(ends[0])}" if ends else MISSING


def entered(row: Row) -> list[np.ndarray]:
    """The share of all filters of the convolutions that are in the support at each moment, of each run: 0 to 1."""
    wide = [[path for path in paths(series).values() if path.ndim == 2] for series in row.series]
    return [(np.concatenate(each, axis=1) > 0).mean(1) for each in wide if each]


def needed(row: Row) -> Any:
    """The norm that a filter must keep all along to enter by the end of the run: ν / Σα.

    While Γ = 0, Z gains α/ν W a step, and the filter enters once ‖Z‖ exceeds 1.
    """
    if not row.series:
        return MISSING
    run, steps = row.first.run, int(row.arrays[STEP][-1])
    return run.mu / sum(run.rate(step / steps) for step in range(steps))


def kept_weights(row: Row) -> list[dict[str, np.ndarray]]:
    """Layer → weights at the end of each run of a row that keeps them."""
    kept = []
    for record in row:
        with contextlib.suppress(RecordError):
            kept.append(row.store.weights(record))
    return kept


def filter_norms(weights: np.ndarray) -> np.ndarray:
    """‖W_f‖ of each filter: (F, C, …) → (F,)."""
    return np.linalg.norm(weights.reshape(len(weights), -1), axis=1)


def largest_norm(row: Row, layer: str | None = CONV3) -> Any:
    """The largest norm of a filter of a layer, or of any convolution, in any run that keeps its weights."""
    norms = [filter_norms(each).max() for weights in kept_weights(row) for name, each in weights.items()
             if each.ndim == 4 and layer in (None, name)]  # fmt: skip
    return float(max(norms)) if norms else MISSING


def table(rows: Comparison) -> Grid:
    """A line for each row with a Γ: its rate summed over the steps, the norm needed to enter, and what has entered."""
    frame = pd.DataFrame([{
        "": row.label,
        "Σα": f"{row.run.mu / needed(row):.3g}",
        "norm needed": f"{needed(row):.3g}",
        "layers with Γ ≠ 0": f"{layers(row)}",
        "filters in the support (%)": f"{100 * np.mean([each[-1] for each in entered(row)]) if row else MISSING:.3g}",
    } for row in followed(rows)])  # fmt: skip
    return Grid(frame, f"{rows.table.name}: what Γ holds at the end of the run, mean over the seeds.")


def _epochs(row: Row) -> np.ndarray:
    """The epoch of each moment of the first run's path."""
    return row.arrays[STEP] / row.arrays[STEP][-1] * row.first.run.epochs


def curves(*tables: Comparison) -> Figure:
    """The share of the convolutions' filters in the support over the run, a panel a table, a line a seed."""
    figure, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 2.8), sharey=True, squeeze=False)
    for ax, rows in zip(axes[0], tables):
        trained = [row for row in followed(rows) if row.learned and row.series]
        for row, look in zip(trained, looks_of(row.label for row in trained)):
            for share in entered(row):
                ax.plot(_epochs(row), 100 * share, **look | {"marker": ""}, lw=1.2, label=row.label)
        ax.set_title(rows.table.name, loc="left", fontsize=9)
        ax.set(xlabel="epoch", ylim=(-3, 103))
        legend(ax)
    axes[0, 0].set_ylabel("filters in the support (%)")
    return closed(figure)


def path_of_conv3(row: Row, others: Mapping[str, Row]) -> Figure:
    """‖Γ‖ of each filter of conv3 over a row's first run, dark where it entered the support early; and beside it how
    many filters are in the support in the first run of each of `others`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3))
    if row:
        _draw_path(left, row)
    for (label, other), look in zip(others.items(), looks_of(others)):
        if other:
            sizes = (paths(other.arrays)[CONV3] > 0).sum(1)
            right.plot(100 * _epochs(other) / other.epochs, sizes, **look | {"marker": ""}, label=label)
    right.set(xlabel="run (%)", ylabel="filters in the support", xlim=(0, 100))
    legend(right)
    return closed(figure)


def _draw_path(ax: Axes, row: Row) -> None:
    norms = paths(row.arrays)[CONV3]
    filters, entry = norms.shape[1], (norms > 0).argmax(0)
    inside = [unit for unit in np.argsort(entry, kind="stable") if norms[-1, unit] > 0]
    for rank, unit in enumerate(inside):
        ax.plot(_epochs(row), norms[:, unit], color=str(0.8 * rank / filters), lw=0.8)
    ax.set(xlabel="epoch", ylabel="‖Γ‖ of a filter", xlim=(0, row.epochs))
    ax.set_title(f"{len(inside)} of {filters} filters in the support at the end, dark ones entered first", fontsize=8)
