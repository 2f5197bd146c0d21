"""How the report's figures look, and its curves. The same colour means the same thing in every notebook, and no figure
needs colour to be read. Nothing is trained or read from files here."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.records import Record, alive, learned
from helpers.show.text import NORMED, PLAIN

# Okabe and Ito's palette, safe for colour-blind readers, in an order of clearly different lightness.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000",
)  # fmt: skip
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"), (BLACK, (0, (5, 1, 1, 1, 1, 1))), (SKY, "-"))
TRAIN, VALIDATION = ORANGE, BLUE
MARKERS = "osD^vPX*<>hd"
# Rows that stand in several figures: one look each.
_SGD, _DESSILBI, _WARM = (BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "D")
LOOKS = {
    PLAIN: (ORANGE, "--", "s"), NORMED: (BLUE, "-", "o"),
    f"{PLAIN}, Kaiming": (ORANGE, "--", "s"), f"{PLAIN}, PyTorch's own": (GREEN, "-.", "D"),
    "SGD": _SGD, "plain SGD": _SGD, "SGD, warm-up and drop": (SKY, ":", "P"),
    "DessiLBI": _DESSILBI, "DessiLBI, warm-up": _WARM, "without": _DESSILBI, "without, warm-up": _WARM,
    "LinBreg": (GREEN, "-.", "D"),
    "with Adam": (PURPLE, ":", "^"), "AdaBreg": (BLACK, LINES[4][1], "v"),
    "with Adam, usual rate 1e-3": (BLACK, LINES[4][1], "v"), "plain Adam, usual rate 1e-3": (SKY, "-.", "X"),
}  # fmt: skip
LABELS = {"accuracy": "accuracy (%)", "loss": "loss (nats)"}
WIDTH = 7.2  # inches: the text width of the PDF


def use_report_style() -> None:
    """Sets the look of all figures, and that a notebook keeps them as SVG (for print) and PNG (for everything else)."""
    sns.set_theme(style="ticks", context="notebook", font_scale=0.8)
    plt.rcParams.update({
        "figure.figsize": (WIDTH, 3), "figure.dpi": 100, "savefig.dpi": 160, "savefig.bbox": "tight",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
        "legend.frameon": False, "figure.constrained_layout.use": True, "svg.hashsalt": "report",
        "svg.fonttype": "path",
    })  # fmt: skip
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # outside a notebook
        return
    set_matplotlib_formats("svg", "png", metadata={"Date": None})
    plt.uninstall_repl_displayhook()  # which draws each figure once more, for windows that a notebook does not have


def closed(figure: Figure) -> Figure:
    """`figure` as the last line of a cell, which shows it once: no more pyplot's, and empty axes say why they are."""
    for ax in figure.axes:
        if not ax.has_data():
            ax.text(0.5, 0.5, "no record yet", ha="center", va="center", transform=ax.transAxes, color="0.4")
            ax.set(xticks=[], yticks=[])
    plt.close(figure)
    return figure


def looks_of(labels: Iterable[str], looks: Sequence[tuple] = LINES) -> list[dict]:
    """What `plot` is told of each line's look: that of LOOKS for a label that has one, else the next of `looks`."""
    labels = list(labels)
    taken = {LOOKS[label][0] for label in labels if label in LOOKS}
    free = [look for look in looks if look[0] not in taken] or looks
    # A second round of looks has other markers.
    others = ((*free[i % len(free)], MARKERS[(i + i // len(free)) % len(MARKERS)]) for i in itertools.count())
    chosen = [LOOKS.get(label, other) for label, other in zip(labels, others)]
    return [{"color": colour, "linestyle": line, "marker": marker, "ms": 4} for colour, line, marker in chosen]


def spaced(count: int, place: int, most: int = 10) -> dict:
    """Tells `plot` to mark at most some `most` of `count` points, so that dashes show; each `place` at others."""
    every = max(1, count // most)
    return {"markevery": (place * every // 3 % every, every)}


def seeds(ax: Axes, x: np.ndarray, lines: Mapping[str, np.ndarray]) -> None:
    """Label → (seeds, points): the mean over the seeds, and each seed as a thin line."""
    for place, ((label, values), look) in enumerate(zip(lines.items(), looks_of(lines))):
        if len(values):
            at = x[: len(values[0])]
            ax.plot(at, values.mean(0), **look, **spaced(len(at), place), label=label)
            if len(values) > 1:
                ax.plot(at, values.T, color=look["color"], alpha=0.4, lw=0.6)


def legend(ax: Axes, **where) -> None:
    """A legend that names once what many marks share; none where nothing is named."""
    named = dict(zip(*reversed(ax.get_legend_handles_labels())))
    if named:
        ax.legend(named.values(), named.keys(), **where)


def one_legend(axes: Sequence[Axes]) -> None:
    """One legend below all of `axes`, which show the same lines."""
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def tiles(images: np.ndarray, columns: int, white: float = 1) -> np.ndarray:
    """Images (N, H, W, C) in one, `columns` a row, between them and in empty places the value `white`."""
    padding = (0, -len(images) % columns), (0, 1), (0, 1), (0, 0)
    _, height, width, channels = (padded := np.pad(images, padding, constant_values=white)).shape
    sheet = padded.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    return sheet.reshape(-1, columns * width, channels)[:-1, :-1]


# ------------------------------------------------------------------------------------------ after each epoch


def pair(rows: Mapping[str, Sequence[Record]], what: str, floor: float | None = None) -> Figure:
    """`what` ("accuracy" or "loss") of several rows after each epoch, in training (its running mean) and on the
    validation set, side by side, above `floor`: the mean over seeds, and each seed as a thin line.

    Where some rows learned, those that failed to train are left out, and named: they would press the others flat.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.8), sharey=True)
    trained = {label: found for label, found in rows.items() if any(map(learned, found))}
    failed = [label for label, found in rows.items() if found and label not in trained]
    for ax, split in zip(axes, ("train", "validation")):
        lines = {label: _histories(found, f"{split}_{what}") for label, found in (trained or rows).items()}
        epochs = max((values.shape[1] for values in lines.values() if len(values)), default=1)
        seeds(ax, np.arange(1, epochs + 1), lines)
        ax.set(xlabel="epoch", ylabel=f"{'training' if split == 'train' else split} {LABELS[what]}")
        ax.set_xlim(0.5, epochs + 0.5)
        ax.xaxis.get_major_locator().set_params(integer=True)
    if trained and failed:
        axes[0].set_title(f"failed to train, not drawn: {'; '.join(failed)}", loc="left", fontsize=8)
    if floor is not None:
        axes[0].set_ylim(bottom=floor)
    one_legend(axes)
    return closed(figure)


def _histories(found: Sequence[Record], name: str) -> np.ndarray:
    """(seeds, epochs), of those that came to an end."""
    series = [_scaled(record.history[name], name) for record in alive(list(found)) if record.test]
    return np.array(series)


def _scaled(values, name: str) -> np.ndarray:
    """Accuracies in percent, losses as they are."""
    return (100 if name.endswith("accuracy") else 1) * np.array(values, dtype=float)


# ------------------------------------------------------------------------------------------ at each step


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The running mean of `values` over `window` steps, centred; shorter at both ends."""
    window = min(window, len(values))
    total = np.convolve(values, np.ones(window), "same")
    return total / np.convolve(np.ones(len(values)), np.ones(window), "same")


def _steps(ax: Axes, values: np.ndarray, end: float, window: int) -> None:
    """One value a step, up to `end`: raw behind, smoothed over `window` steps in front."""
    at = np.arange(len(values)) / len(values) * end
    few = len(values) < 1000
    ax.plot(at, values, color=TRAIN, alpha=0.6 if few else 0.25, lw=0.8 if few else 0.4, rasterized=True)
    ax.plot(at, smooth(values, window), color=TRAIN, lw=1.6, label=f"training, mean of {window} steps")
    ax.set(xlim=(0, end))


def steps(rows: Mapping[str, Any], height: float) -> Figure:
    """The first run of each `Row`, one beside the other: learning rate, loss and accuracy at each step, and validation
    after each epoch. `height` in inches."""
    figure, axes = plt.subplots(3, len(rows), figsize=(WIDTH, height), squeeze=False)
    for column, (label, row) in zip(axes.T, rows.items()):
        if row:
            _rate(column[0], row.first.run)
            _over_steps(row, column[1:])
        if len(rows) > 1:
            column[0].set_title(label)
    return closed(figure)


def _rate(ax: Axes, run) -> None:
    done = np.linspace(0, 1, 1000, endpoint=False)
    rates = [run.rate(moment) for moment in done]
    ax.plot(done * run.epochs, rates, color=BLACK, lw=1)
    ax.set(ylabel="learning rate", xlim=(0, run.epochs), ylim=(0, 1.1 * max(rates)))


def _over_steps(row: Any, axes: Sequence[Axes]) -> None:
    run, arrays = row.first.run, row.arrays
    series = {"loss": arrays["step_loss"], "accuracy": arrays["step_correct"] / run.batch_size}
    for ax, (what, values) in zip(axes, series.items()):
        values, validation = (_scaled(each, what) for each in (values, row.first.history[f"validation_{what}"]))
        _steps(ax, values, run.epochs, 50)
        ax.plot(np.arange(1, len(validation) + 1), validation, "o-", color=VALIDATION, ms=3.5, label="validation")
        # The outermost 1 % of a noisy series would press the rest flat.
        inner = [*np.nanpercentile(values, (1, 99)), *validation]
        margin = 0.05 * (np.nanmax(inner) - np.nanmin(inner))
        ax.set(ylabel=LABELS[what], ylim=(np.nanmin(inner) - margin, np.nanmax(inner) + margin))
    axes[0].legend()
    axes[-1].set_xlabel("epoch")


def live(losses: np.ndarray) -> Figure:
    """The training loss of some first steps, each and smoothed."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.2))
    _steps(ax, losses, len(losses), 10)
    ax.set(xlabel="step", ylabel=LABELS["loss"])
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return closed(figure)


# ------------------------------------------------------------------------------------------ differences


def effects(gaps: Mapping[str, Any]) -> Figure:
    """What each choice moves: differences of two rows in points with their 95 % intervals, beside the report's.

    `gaps`: what was chosen → a `Gap`, or Missing, which is left out.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.8 + 0.3 * len(gaps)))
    known = {name: gap for name, gap in gaps.items() if gap}
    for place, gap in enumerate(known.values()):
        low, high = np.clip([gap.interval.low, gap.interval.high], gap.value - 100, gap.value + 100)
        ax.plot([low, high], [place, place], color=BLUE, lw=2, solid_capstyle="butt")
        ax.plot(gap.value, place, "o", color=BLUE, ms=6, label="ours, with 95 % interval")
        if gap.reported is not None:
            ax.plot(float(gap.reported), place, "D", mfc="white", color=ORANGE, ms=6, label="the report's")
    ax.axvline(0, color="0.4", lw=1, ls="--")
    ax.set_yticks(range(len(known)), known)
    ax.invert_yaxis()
    ax.set(xlabel="test accuracy gained (points)")
    legend(ax)
    return closed(figure)
