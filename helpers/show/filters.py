"""How what DessiLBI finds looks: the way of Γ, accuracy with a share of the network pruned, filters. It reads what runs
have recorded and never prunes or trains anything itself."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import records
from helpers.experiments import PRUNED, REPORTED_PRUNED, Run
from helpers.records import Record, RecordError, Store, alive
from helpers.show.comparison import Gap, Mean, Row
from helpers.show.curves import BLACK, WIDTH, closed, looks_of, no_record, one_legend, spaced, tiles
from helpers.show.grid import Grid
from helpers.show.text import DASH, MISSING, Points, listed, missing, percent

NEAR_ZERO = 0.01  # a filter whose norm is below this share of its layer's largest is near zero
SHOWN = tuple(percent / 100 for percent in range(0, 100, 10))  # the shares that tables show
SIZES = (0.0, 0.6, 0.8, 0.9)  # the shares at which settings are compared
CHEAP, DEAR = 0.5, 2.0  # points of accuracy: "at almost no cost", "falls fast"
SAME = 0.01  # points: one image of 10,000
ORDERS = {"magnitude": "magnitude", "support": "entry into the support", "elimination": "backward elimination"}
STATED = {"conv3": REPORTED_PRUNED["conv3"], "conv3_fc1": REPORTED_PRUNED["conv3 + fc1"]}


# ------------------------------------------------------------------------------------------ pruning


def accuracies(found: Sequence[Record], store: Store, layers: str, order: str, split: str = "test") -> np.ndarray:
    """Accuracy of each seed's network with each share of `experiments.PRUNED` pruned: (seeds, shares), 0 to 1.

    Seeds that learned nothing are left out where others did. `layers`: "conv3" or "conv3_fc1"; `order`: "support", the
    authors' order, "magnitude" or, for conv3, "elimination". No seeds, no rows.
    """
    name = f"pruned_{order}_{layers}_{split}"
    every = [store.arrays(record) for record in alive(list(found))]
    # A share of 10,000 images: what float32 adds to it could turn the last digit of a mean.
    series = [np.round(arrays[name].astype(float), 6) for arrays in every if name in arrays]
    return np.array(series).reshape(-1, len(PRUNED))


def at(values: np.ndarray, share: float) -> np.ndarray:
    """The accuracies of `accuracies` at one share pruned, (seeds,)."""
    return values[:, int(np.argmin(np.abs(np.array(PRUNED) - share)))]


def own_order(row: Row) -> str:
    """The authors' order where Γ was followed, else magnitude."""
    return "support" if any(f"path_{CONV3}" in series for series in row.series) else "magnitude"


class Pruned:
    """A row's networks with shares of a layer set to zero, and nothing trained again.

    `order`: one of ORDERS; without one `own_order`. `layers`, `split`: see `accuracies`.
    `values`: accuracies (seeds that learned, shares of PRUNED), 0 to 1. What has no record is MISSING.
    """

    def __init__(self, row: Row, order: str | None = None, layers: str = "conv3", split: str = "test"):
        self.values = accuracies(row, row.store, layers, order or own_order(row), split)
        self.stated = STATED[layers]

    def __len__(self) -> int:
        return len(self.values)

    def at(self, share: float) -> Any:
        """The accuracy with a share pruned, mean ± standard deviation over the seeds."""
        return Mean(list(at(self.values, share)), 0, len(self)) if len(self) else MISSING

    def cost(self, share: float) -> Any:
        """The points of accuracy that pruning a share costs, mean over the seeds."""
        return Points(round(100 * np.mean(at(self.values, 0) - at(self.values, share)), 6)) if len(self) else MISSING

    def gap(self, other: "Pruned", share: float) -> Any:
        """How much more accurate these networks are than others with the same share pruned: a `Gap`, whose interval
        is from the spread over the seeds of these two."""
        if not (len(self) and len(other)):
            return MISSING
        pair = [list(100 * at(each.values, share)) for each in (self, other)]
        interval = records.difference(*pair, records.pooled(pair))
        return Gap(interval, (len(self), len(other)), MISSING, MISSING, MISSING)

    @property
    def free(self) -> Any:
        """The largest share, in percent, up to which pruning costs at most CHEAP points."""
        cheap = [self.cost(share) <= CHEAP for share in PRUNED]
        return round(100 * PRUNED[[*cheap, False].index(False) - 1]) if len(self) else MISSING

    @property
    def overall(self) -> Any:
        """The mean over SIZES, by which one setting is chosen."""
        each = np.mean([at(self.values, share) for share in SIZES], axis=0)
        return Mean(list(each), 0, len(self)) if len(self) else MISSING

    @property
    def from_report(self) -> Any:
        """By how many points the accuracies lie off what the report states, at most; mean over the seeds."""
        off = [abs(100 * (float(self.at(share)) - stated)) for share, stated in self.stated.items()]
        return max(off) if len(self) else MISSING


def steps(lines: Mapping[str, Pruned], share: float) -> dict[str, Gap]:
    """By how much each of `lines` is more accurate than the one before it, with a share pruned."""
    return {label: lines[label].gap(lines[last], share) for last, label in zip(lines, [*lines][1:])}


def from_first(lines: Mapping[str, Pruned], share: float) -> dict[str, Gap]:
    """By how much each of `lines` is more accurate than the first; that one's spread stands for single seeds."""
    first, *others = lines
    return {label: lines[label].gap(lines[first], share) for label in others}


def clear(gaps: Mapping[str, Any]) -> str:
    """Those of some differences whose 95 % interval leaves out zero, in words; "none"."""
    found = {label: gap for label, gap in gaps.items() if not missing(gap) and 0 not in gap.interval}
    return listed(f"“{label}” {gap}" for label, gap in found.items()) if found else "none"


def best(lines: Mapping[str, Pruned]) -> tuple[Any, Any]:
    """The label of the line whose mean over SIZES is highest, and that mean."""
    means = {label: ours.overall for label, ours in lines.items() if len(ours)}
    return max(means.items(), key=lambda each: float(each[1]), default=(MISSING, MISSING))


def entry_against_magnitude(rows: Mapping[str, Row]) -> tuple[int, int, int]:
    """In how many means, one a row and a share of SIZES, pruning by entry is better than by magnitude by more than
    SAME points, in how many worse, and how many there are."""
    pairs = [(Pruned(row, "support"), Pruned(row, "magnitude")) for row in rows.values()]
    gaps = [100 * (float(ours.at(share)) - float(theirs.at(share)))
            for ours, theirs in pairs if len(ours) for share in SIZES[1:]]  # fmt: skip
    return sum(gap > SAME for gap in gaps), sum(gap < -SAME for gap in gaps), len(gaps)


def first_peak(row: Row, steps: int = 100) -> Any:
    """The largest training loss among the first `steps` of a row's runs."""
    return max((float(series["step_loss"][:steps].max()) for series in row.series), default=MISSING)


# ------------------------------------------------------------------------------------------ tables


def pruning_table(columns: Mapping[str, Pruned | Mapping[float, float]], caption: str, shares=SHOWN) -> Grid:
    """Accuracy in percent, a row for each share pruned; a column is ours, or stated as share → value."""
    frame = pd.DataFrame({
        "pruned": [f"{100 * share:.0f} %" for share in shares],
        **{label: [_cell(column, share) for share in shares] for label, column in columns.items()},
    })  # fmt: skip
    return Grid(frame, caption, frame)


def _cell(column: Pruned | Mapping[float, float], share: float) -> str:
    return f"{column.at(share)}" if isinstance(column, Pruned) else percent(column.get(round(share, 2)))


def orders_table(rows: Mapping[str, Row], shares: Sequence[float] = (0.6, 0.8, 0.9)) -> Grid:
    """For each row, in each order in which conv3's filters can go: accuracy with each of `shares` of them pruned."""
    pairs = [(label, said, Pruned(row, order)) for label, row in rows.items() for order, said in ORDERS.items()]
    lines = [[label, said, *(f"{ours.at(share)}" for share in shares), str(len(ours))]
             for label, said, ours in pairs if len(ours)]  # fmt: skip
    frame = pd.DataFrame(lines, columns=["", "order", *map(_pruned, shares), "n"])
    return Grid(frame, "Test accuracy (%) with a share of conv3's filters pruned, by what goes first.", frame,
                left=("order",))  # fmt: skip


def sizes_kept(
    rows: Mapping[str, Row],
    shares: Sequence[float] = SIZES,
    stated: Mapping[str, Mapping[float, float]] | None = None,
    split: str = "test",
    eliminated: Sequence[float] = (),
) -> Grid:
    """For each row: accuracy with each of `shares` of conv3 pruned, and how many filters Γ has in the end.

    In the authors' order where Γ was followed, else by magnitude; with the shares `eliminated` by backward elimination
    besides. First what is `stated`: label → share → accuracy. `split`: "test" or "validation".
    """
    eliminations = {f"{_pruned(share)} by elimination": share for share in eliminated}
    lines = [
        {"": label} | {_pruned(share): percent(values.get(share)) for share in shares}
        | {name: DASH for name in eliminations} | {"support (of 120)": DASH, "n": DASH}
        for label, values in (stated or {}).items()
    ]  # fmt: skip
    for label, row in rows.items():
        ours, searched = Pruned(row, split=split), Pruned(row, "elimination", split=split)
        lines.append({
            "": label,
            **{_pruned(share): f"{ours.at(share)}" for share in shares},
            **{name: f"{searched.at(share)}" for name, share in eliminations.items()},
            "support (of 120)": f"{support_size(row):.0f}",
            "n": _counted(row),
        })  # fmt: skip
    frame = pd.DataFrame(lines)
    caption = f"{split.capitalize()} accuracy (%) with a share of conv3's filters pruned, not trained again."
    return Grid(frame, caption, frame)


def _counted(row: Row) -> str:
    """How many seeds a mean is over: "3", or "2 of 3" where one learned nothing."""
    return str(row.n) if len(row.alive) == row.n else f"{len(row.alive)} of {row.n}"


def _pruned(share: float) -> str:
    """As a table's head says it; the number stays with its sign."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}% pruned" if share else "dense"


def pruning_curves(
    lines: Mapping[str, Pruned], top: tuple[float, float], stated: Mapping[str, Mapping[float, float]] | None = None
) -> Figure:
    """Accuracy against the share pruned, the whole of it and beside it the range `top`, in percent, where most of it
    happens: the mean and each seed of a line; what is stated as crosses."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3))
    for ax in axes:
        _pruning_curves(lines, ax, stated or {})
    axes[1].set(ylim=top, ylabel="")
    one_legend(axes)
    return closed(figure)


def _pruning_curves(lines: Mapping[str, Pruned], ax: Axes, stated: Mapping[str, Mapping[float, float]]) -> None:
    shares = 100 * np.array(PRUNED)
    for place, ((label, ours), look) in enumerate(zip(lines.items(), looks_of(lines))):
        if len(ours):
            ax.plot(shares, 100 * ours.values.mean(0), **look, **spaced(len(shares), place), label=label)
            ax.plot(shares, 100 * ours.values.T, color=look["color"], alpha=0.4, lw=0.6)
    if not ax.lines:
        no_record(ax)
        return
    for (label, values), marker in zip(stated.items(), "x+", strict=False):
        ax.plot(100 * np.array(list(values)), 100 * np.array(list(values.values())), marker, color=BLACK, label=label)
    ax.set(xlabel="pruned (%)", ylabel="test accuracy (%)", xlim=(-2, 97))


# ------------------------------------------------------------------------------------------ the way of Γ

CONV3 = "features.conv3.weight"


def support_sizes(arrays: Mapping[str, np.ndarray], name: str = CONV3) -> np.ndarray:
    """How many filters of a layer are in the support at each moment that the record of a run holds."""
    return (arrays[f"path_{name}"] > 0).sum(1)


def support_size(row: Row) -> Any:
    """How many filters of conv3 are in the support at the end, the mean over the seeds that learned."""
    ends = [support_sizes(arrays)[-1] for record in row.alive
            if f"path_{CONV3}" in (arrays := row.store.arrays(record))]  # fmt: skip
    return float(np.mean(ends)) if ends else MISSING


def norm_needed(run: Run, steps: int) -> float:
    """‖W‖ that a filter must keep over a run of `steps` steps to enter the support at its end: ν / Σ α.

    While Γ = 0, Z gains α/ν W a step, and the filter enters once ‖Z‖ exceeds 1.
    """
    return run.mu / sum(run.rate(step / steps) for step in range(steps))


def solution_path(found: Sequence[Record], store: Store, ax: Axes, name: str = CONV3) -> Axes:
    """‖Γ‖ of each filter of a layer over the first run of a row: dark where it entered the support early."""
    arrays = store.arrays(found[0]) if found else {}
    if f"path_{name}" not in arrays:
        return no_record(ax)
    norms, total = arrays[f"path_{name}"], arrays["path_step"][-1]
    epochs = arrays["path_step"] / total * found[0].run.epochs
    entry = np.where((norms > 0).any(0), (norms > 0).argmax(0), len(norms))
    for rank, unit in enumerate(np.argsort(entry, kind="stable")):
        if entry[unit] < len(norms):
            ax.plot(epochs, norms[:, unit], color=str(0.8 * rank / norms.shape[1]), lw=0.8)
    never = int((entry == len(norms)).sum())
    ax.set(xlabel="epoch", ylabel="‖Γ‖ of a filter", xlim=(0, found[0].run.epochs))
    ax.set_title(f"{norms.shape[1] - never} of {norms.shape[1]} filters entered, dark ones first", fontsize=8)
    return ax


def support_curves(rows: Mapping[str, Sequence[Record]], store: Store, ax: Axes, name: str = CONV3) -> Axes:
    """The number of a layer's filters in the support over the run, the first run of each row."""
    for (label, found), look in zip(rows.items(), looks_of(rows)):
        arrays = store.arrays(found[0]) if found else {}
        if f"path_{name}" in arrays:
            done = arrays["path_step"] / arrays["path_step"][-1]
            ax.plot(100 * done, support_sizes(arrays, name), **look | {"marker": ""}, label=label)
    if not ax.lines:
        return no_record(ax)
    ax.set(xlabel="run (%)", ylabel="filters in the support", xlim=(0, 100))
    ax.legend()
    return ax


def paths(row: Row, others: Mapping[str, Row]) -> Figure:
    """The solution path of a row's first run, and beside it how many filters are in the support in `others`."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3))
    solution_path(row, row.store, axes[0])
    support_curves(others, row.store, axes[1])
    return closed(figure)


# ------------------------------------------------------------------------------------------ filters


def weights_of(row: Row, name: str = CONV3) -> list[np.ndarray]:
    """A layer's weights at the end of each run of a row that keeps them."""
    kept = []
    for record in row:
        with contextlib.suppress(RecordError, KeyError):
            kept.append(row.store.weights(record)[name])
    return kept


def filter_norms(weights: np.ndarray) -> np.ndarray:
    """‖W_f‖ of each filter: (F, C, …) → (F,)."""
    return np.linalg.norm(weights.reshape(len(weights), -1), axis=1)


def near_zero(weights: np.ndarray) -> int:
    """How many filters have a norm below NEAR_ZERO of the largest."""
    norms = filter_norms(weights)
    return int((norms < NEAR_ZERO * norms.max()).sum())


def black(row: Row) -> str:
    """How many of conv3's filters are near zero, in each run: "26, 29 and 33"."""
    return listed(str(near_zero(each)) for each in weights_of(row))


def shade(row: Row) -> Any:
    """The mean of |w| in conv3 over all runs that keep their weights."""
    found = weights_of(row)
    return float(np.abs(found).mean()) if found else MISSING


def largest_norm(row: Row) -> Any:
    """The largest norm of a filter of conv3 in any run that keeps its weights."""
    return max((float(filter_norms(each).max()) for each in weights_of(row)), default=MISSING)


def side_by_side(rows: Mapping[str, Row]) -> Figure:
    """conv3's filters in the first run of each row, as tiles, white for the largest of the first, and their norms."""
    figure = plt.figure(figsize=(WIDTH, 4.4))
    axes = figure.subplot_mosaic([[*rows], ["norms"] * len(rows)], height_ratios=(1, 1.2))
    first = {label: each[0] for label, row in rows.items() if (each := weights_of(row))}
    scale = next((np.abs(each).mean(1).max() for each in first.values()), 1)
    for label in rows:
        if label in first:
            strengths(first[label], axes[label], scale)
        else:
            no_record(axes[label])
        axes[label].set_title(label)
    norm_curves(first, axes["norms"])
    return closed(figure)


def strengths(weights: np.ndarray, ax: Axes, scale: float, columns: int = 12) -> Axes:
    """Filters (F, C, H, W) as tiles: the mean |w| over inputs, black for 0, white for `scale` and above."""
    sheet = tiles(np.abs(weights).mean(1)[..., None], columns, white=scale)[..., 0]
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=scale, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return ax


def norm_curves(weights: Mapping[str, np.ndarray], ax: Axes, floor: float = 1e-3) -> Axes:
    """Filter norms, largest first, of one layer in several networks; what is below `floor` stands on it."""
    for place, ((label, values), look) in enumerate(zip(weights.items(), looks_of(weights))):
        norms = np.maximum(np.sort(filter_norms(values))[::-1], floor)
        ax.plot(np.arange(1, len(norms) + 1), norms, **look, **spaced(len(norms), place), label=label)
    if not ax.lines:
        return no_record(ax)
    ax.set(xlabel="filter, largest first", ylabel="‖W‖ of a filter", yscale="log", ylim=(floor / 1.5, None))
    ax.legend()
    return ax
