"""What pruning leaves of a network, and how its filters look. It reads what runs have recorded, and never prunes or
trains anything itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.experiments import PRUNED, REPORTED_PRUNED
from helpers.show.comparison import Mean, Row, gap_of
from helpers.show.curves import WIDTH, closed, legend, looks_of, one_legend, seeds, spaced, tiles
from helpers.show.grid import Grid
from helpers.show.support import CONV3, filter_norms, kept_weights, size
from helpers.show.text import DASH, MISSING, Points, listed, missing, percent

NEAR_ZERO = 0.01  # a filter whose norm is below this share of its layer's largest is near zero
SHOWN = tuple(percent / 100 for percent in range(0, 100, 10))  # the shares that tables show
SIZES = (0.0, 0.6, 0.8, 0.9)  # the shares at which settings are compared
CHEAP, DEAR = 0.5, 2.0  # points of accuracy: "at almost no cost", "falls fast"
SAME = 0.01  # points: one image of 10,000
ORDERS = {"magnitude": "magnitude", "support": "entry into the support", "elimination": "backward elimination"}

Stated = Mapping[float, float]  # share pruned → accuracy, 0 to 1


# ------------------------------------------------------------------------------------------ pruning


class Pruned:
    """A row's networks with shares of some layers set to zero, and nothing trained again.

    `order`: one of ORDERS; without one the authors' order where Γ was followed, else magnitude. `layers`: "conv3" or
    "conv3_fc1"; `split`: "test" or "validation". `values`: accuracies (seeds that learned, shares of PRUNED), 0 to 1.
    What has no record is MISSING.
    """

    def __init__(self, row: Row, order: str | None = None, layers: str = "conv3", split: str = "test"):
        order = order or ("support" if any(f"path_{CONV3}" in series for series in row.series) else "magnitude")
        name = f"pruned_{order}_{layers}_{split}"
        every = [row.store.arrays(record) for record in row.alive]
        # A share of 10,000 images: what float32 adds to it could turn the last digit of a mean.
        series = [np.round(arrays[name].astype(float), 6) for arrays in every if name in arrays]
        self.values = np.array(series).reshape(-1, len(PRUNED))
        self.stated = REPORTED_PRUNED[layers.replace("_", " + ")]

    def __len__(self) -> int:
        return len(self.values)

    def scores(self, share: float) -> np.ndarray:
        """The accuracies with a share pruned, (seeds,)."""
        return self.values[:, int(np.argmin(np.abs(np.array(PRUNED) - share)))]

    def at(self, share: float) -> Any:
        """The accuracy with a share pruned, mean ± standard deviation over the seeds."""
        return Mean(list(self.scores(share)), 0, len(self)) if len(self) else MISSING

    def cost(self, share: float) -> Any:
        """The points of accuracy that pruning a share costs, mean over the seeds."""
        return Points(round(100 * np.mean(self.scores(0) - self.scores(share)), 6)) if len(self) else MISSING

    def gap(self, other: "Pruned", share: float) -> Any:
        """How much more accurate these networks are than others with the same share pruned: a `Gap`, whose interval
        is from the spread over the seeds of these two."""
        return gap_of(*(list(100 * each.scores(share)) for each in (self, other)))

    @property
    def free(self) -> Any:
        """The largest share, in percent, up to which pruning costs at most CHEAP points."""
        cheap = [self.cost(share) <= CHEAP for share in PRUNED]
        return round(100 * PRUNED[[*cheap, False].index(False) - 1]) if len(self) else MISSING

    @property
    def overall(self) -> Any:
        """The mean over SIZES, by which one setting is chosen."""
        return Mean(list(np.mean([self.scores(share) for share in SIZES], 0)), 0, len(self)) if len(self) else MISSING

    @property
    def from_report(self) -> Any:
        """By how many points the accuracies lie off what the report states, at most; mean over the seeds."""
        off = [abs(100 * (float(self.at(share)) - stated)) for share, stated in self.stated.items()]
        return max(off) if len(self) else MISSING


def clear(lines: Mapping[str, Pruned], share: float, *, first: bool = False) -> str:
    """Those of `lines` whose difference from the one before, or from the `first`, has a 95 % interval without zero,
    with a share pruned, in words; "none"."""
    labels = list(lines)
    others = labels[:1] * len(labels) if first else labels
    gaps = {label: lines[label].gap(lines[other], share) for other, label in zip(others, labels[1:])}
    found = [f"“{label}” {gap}" for label, gap in gaps.items() if not missing(gap) and 0 not in gap.interval]
    return listed(found) if found else "none"


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


def pruning_table(columns: Mapping[str, Pruned | Stated], caption: str) -> Grid:
    """Accuracy in percent, a row for each share pruned; a column is ours, or what is stated."""
    frame = pd.DataFrame({
        "pruned": [f"{100 * share:.0f} %" for share in SHOWN],
        **{label: [f"{column.at(share)}" if isinstance(column, Pruned) else percent(column.get(share))
                   for share in SHOWN] for label, column in columns.items()},
    })  # fmt: skip
    return Grid(frame, caption)


def orders_table(rows: Mapping[str, Row]) -> Grid:
    """For each row, in each order in which conv3's filters can go: accuracy with each share of SIZES pruned."""
    pairs = [(label, said, Pruned(row, order)) for label, row in rows.items() for order, said in ORDERS.items()]
    lines = [[label, said, *(f"{ours.at(share)}" for share in SIZES[1:]), len(ours)]
             for label, said, ours in pairs if len(ours)]  # fmt: skip
    frame = pd.DataFrame(lines, columns=["", "order", *map(_pruned, SIZES[1:]), "n"])
    caption = "Test accuracy (%) with a share of conv3's filters pruned, by what goes first."
    return Grid(frame, caption, left=("order",))


def sizes_kept(rows: Mapping[str, Row], shares: Sequence[float] = SIZES, stated: Mapping[str, Stated] | None = None,
               split: str = "test", eliminated: Sequence[float] = ()) -> Grid:  # fmt: skip
    """For each row: accuracy with each of `shares` of conv3 pruned, and how many filters Γ has in the end.

    In the authors' order where Γ was followed, else by magnitude; with the shares `eliminated` by backward elimination
    besides. First what is `stated`, by label. `split`: "test" or "validation".
    """
    lines = [{"": label} | {_pruned(share): percent(values.get(share)) for share in shares}
             for label, values in (stated or {}).items()]  # fmt: skip
    for label, row in rows.items():
        ours, searched = Pruned(row, split=split), Pruned(row, "elimination", split=split)
        lines.append({
            "": label,
            **{_pruned(share): f"{ours.at(share)}" for share in shares},
            **{f"{_pruned(share)} by elimination": f"{searched.at(share)}" for share in eliminated},
            "support (filters)": f"{size(row):.0f}",
            "n": f"{row.n}" if len(row.alive) == row.n else f"{len(row.alive)} of {row.n}",
        })  # fmt: skip
    frame = pd.DataFrame(lines, columns=list(lines[-1]))
    caption = f"{split.capitalize()} accuracy (%) with a share of conv3's filters pruned, not trained again."
    absent = " –: not measured, or no Γ." if DASH in frame.astype(str).values else ""
    return Grid(frame, caption + absent)


def _pruned(share: float) -> str:
    """As a table's head says it; the number stays with its sign."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}% pruned" if share else "dense"


def pruning_curves(
    lines: Mapping[str, Pruned], top: tuple[float, float], stated: Mapping[str, Stated] | None = None
) -> Figure:
    """Accuracy against the share pruned, the whole of it and beside it the range `top`, in percent, where most of it
    happens: the mean and each seed of a line; what is stated as crosses."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3))
    for ax in axes:
        seeds(ax, 100 * np.array(PRUNED), {label: 100 * ours.values for label, ours in lines.items()})
        for label, values in (stated or {}).items():
            ax.plot([100 * share for share in values], [100 * each for each in values.values()], "kx", label=label)
        ax.set(xlabel="pruned (%)", ylabel="test accuracy (%)", xlim=(-2, 97))
    axes[1].set(ylim=top, ylabel="")
    one_legend(axes)
    return closed(figure)


def first_peak(row: Row, steps: int = 100) -> Any:
    """The largest training loss among the first `steps` of a row's runs."""
    return max((float(series["step_loss"][:steps].max()) for series in row.series), default=MISSING)


# ------------------------------------------------------------------------------------------ filters


def weights_of(row: Row) -> list[np.ndarray]:
    """conv3's weights at the end of each run of a row that keeps them."""
    return [weights[CONV3] for weights in kept_weights(row) if CONV3 in weights]


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


def side_by_side(rows: Mapping[str, Row]) -> Figure:
    """conv3's filters in the first run of each row, as tiles: the mean |w| over inputs, from black for 0 to white for
    the largest of the first row; and below them their norms."""
    figure = plt.figure(figsize=(WIDTH, 4.4))
    axes = figure.subplot_mosaic([[*rows], ["norms"] * len(rows)], height_ratios=(1, 1.2))
    first = {label: each[0] for label, row in rows.items() if (each := weights_of(row))}
    strengths = {label: np.abs(each).mean(1) for label, each in first.items()}
    scale = next((each.max() for each in strengths.values()), 1)
    for label in rows:
        if label in first:
            sheet = tiles(strengths[label][..., None], 12, white=scale)[..., 0]
            axes[label].imshow(sheet, cmap="gray", vmin=0, vmax=scale, interpolation="nearest")
        axes[label].set(xticks=[], yticks=[], title=label)
        axes[label].grid(False)
    _norm_curves(axes["norms"], first)
    return closed(figure)


def _norm_curves(ax: Axes, weights: Mapping[str, np.ndarray], floor: float = 1e-3) -> None:
    """Filter norms, largest first, of one layer in several networks; what is below `floor` stands on it."""
    for place, ((label, values), look) in enumerate(zip(weights.items(), looks_of(weights))):
        norms = np.maximum(np.sort(filter_norms(values))[::-1], floor)
        ax.plot(np.arange(1, len(norms) + 1), norms, **look, **spaced(len(norms), place), label=label)
    ax.set(xlabel="filter, largest first", ylabel="‖W‖ of a filter", yscale="log", ylim=(floor / 1.5, None))
    legend(ax)
