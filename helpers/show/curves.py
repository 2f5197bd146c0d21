"""How the report's figures look: each function takes data and `ax`, draws, and gives `ax` back. It never trains, reads
or shows anything; the same colour means the same thing in every notebook, and no figure needs colour to be read."""

import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox, ScaledTranslation

from helpers.experiments import Run
from helpers.records import Record, Store, alive, learned
from helpers.show.bands import Band
from helpers.show.text import NORMED, PLAIN

# Okabe and Ito's palette, safe for colour-blind readers, in an order of clearly different lightness.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000",
)  # fmt: skip
LINES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"), (BLACK, (0, (5, 1, 1, 1, 1, 1))), (SKY, "-"))
TRAIN, VALIDATION, RATE = ORANGE, BLUE, BLACK
NETWORKS = {PLAIN: (ORANGE, "--", "////"), NORMED: (BLUE, "-", "")}  # colour, edge and hatch of a band
TWO_PAIRS = ((ORANGE, "--"), (BLUE, "-"), (ORANGE, ":"), (BLUE, "-."))  # both networks under two optimizers
TWO_STARTS = ((ORANGE, "--"), (BLACK, ":"))  # VGG-A from two initialisations
MARKERS = "osD^vPX*<>hd"
# Rows that stand in several figures: one look each.
_SGD, _DESSILBI, _WARM = (BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "D")
LOOKS = {
    PLAIN: (ORANGE, "--", "s"), NORMED: (BLUE, "-", "o"),
    "SGD": _SGD, "plain SGD": _SGD, "SGD, warm-up and drop": (SKY, ":", "P"),
    "DessiLBI": _DESSILBI, "DessiLBI, warm-up": _WARM, "without": _DESSILBI, "without, warm-up": _WARM,
    "LinBreg": (GREEN, "-.", "D"),
    "with Adam": (PURPLE, ":", "^"), "AdaBreg": (BLACK, LINES[4][1], "v"),
    "with Adam, usual rate 1e-3": (BLACK, LINES[4][1], "v"), "plain Adam, usual rate 1e-3": (SKY, "-.", "X"),
}  # fmt: skip
WIDTH = 7.2  # inches: the text width of the PDF
POSITIONS = 1000  # along a curve's horizontal axis: more can't be told apart on a page


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
    """`figure`, no more pyplot's, so that the cell whose last line it is shows it once."""
    plt.close(figure)
    return figure


# ------------------------------------------------------------------------------------------ curves

LABELS = {"accuracy": "accuracy (%)", "loss": "loss (nats)"}


def curves(found: Sequence[Record], what: str, ax: Axes) -> Axes:
    """Training and validation `what` ("accuracy" or "loss") of a row's first run after each epoch."""
    if not found:
        return no_record(ax)
    record = found[0]
    for split, colour, line, marker in (("train", TRAIN, "--", "s"), ("validation", VALIDATION, "-", "o")):
        values = _scaled(record.history[f"{split}_{what}"], what)
        ax.plot(
            np.arange(1, len(values) + 1), values, line, color=colour, marker=marker, ms=3.5, label=_split_name(split)
        )
    ax.set(xlabel="epoch", ylabel=LABELS[what])
    _whole_epochs(ax, len(values))
    ax.legend()
    return ax


def no_record(ax: Axes) -> Axes:
    """An empty plot that says why it is empty."""
    ax.text(0.5, 0.5, "no record yet", ha="center", va="center", transform=ax.transAxes, color="0.4")
    ax.set(xticks=[], yticks=[])
    return ax


def _split_name(split: str) -> str:
    return "training (running mean)" if split == "train" else split


def _scaled(values, what: str) -> np.ndarray:
    scale = 100 if what == "accuracy" else 1
    return scale * np.array([np.nan if value is None else value for value in values], dtype=float)


def _whole_epochs(ax: Axes, epochs: int) -> None:
    ax.set_xlim(0.5, epochs + 0.5)
    ax.xaxis.get_major_locator().set_params(integer=True)


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


def comparison(
    rows: Mapping[str, list[Record]], what: str, ax: Axes, split: str = "validation", looks: Sequence[tuple] = LINES
) -> Axes:
    """`what` on `split` after each epoch for several rows: the mean over seeds, and each seed as a thin line.

    `looks`: colour and line of each row, where it has no look of its own.
    """
    longest = 0  # rows of several budgets differ in length
    for place, ((label, found), look) in enumerate(zip(rows.items(), looks_of(rows, looks))):
        series = [_scaled(record.history[f"{split}_{what}"], what) for record in alive(list(found)) if record.test]
        if not series:
            continue
        values, epochs = np.array(series), np.arange(1, len(series[0]) + 1)
        ax.plot(epochs, values.mean(0), **look, **spaced(len(epochs), place), label=label)
        if len(series) > 1:
            ax.plot(epochs, values.T, color=look["color"], alpha=0.4, lw=0.6)
        longest = max(longest, len(epochs))
    ax.set(xlabel="epoch", ylabel=f"{'training' if split == 'train' else split} {LABELS[what]}")
    if not ax.lines:
        return no_record(ax)
    _whole_epochs(ax, longest)
    ax.legend()
    return ax


def pair(
    rows: Mapping[str, list[Record]], what: str, looks: Sequence[tuple] = LINES, floor: float | None = None
) -> Figure:
    """`what` of several rows in training (its running mean) and on the validation set, side by side, above `floor`.

    Where some rows learned, those that failed to train are left out, and named: they would press the others flat.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.8), sharey=True)
    trained = {label: found for label, found in rows.items() if any(map(learned, found))}
    failed = [label for label, found in rows.items() if found and label not in trained]
    for ax, split in zip(axes, ("train", "validation")):
        comparison(trained or rows, what, ax, split, looks)
    if trained and failed:
        axes[0].set_title(f"failed to train, not drawn: {'; '.join(failed)}", loc="left", fontsize=8)
    if floor is not None:
        axes[0].set_ylim(bottom=floor)
    one_legend(axes)
    return closed(figure)


def one_legend(axes: Sequence[Axes]) -> None:
    """One legend below all of `axes`, which show the same lines, in place of one in each."""
    handles, labels = axes[0].get_legend_handles_labels()
    for ax in axes:
        if ax.get_legend():
            ax.get_legend().remove()
    if handles:
        axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The running mean of `values` over `window` steps, centred; shorter at both ends."""
    window = min(window, len(values))
    total = np.convolve(values, np.ones(window), "same")
    return total / np.convolve(np.ones(len(values)), np.ones(window), "same")


def steps(values: np.ndarray, epochs: int, what: str, ax: Axes, *, window: int = 50, colour: str = TRAIN) -> Axes:
    """A series with one value a step against the epoch: raw behind, smoothed over `window` steps in front."""
    epoch = np.arange(len(values)) / len(values) * epochs
    values = _scaled(values, what)
    ax.plot(epoch, values, color=colour, alpha=0.25, lw=0.4, rasterized=True)
    ax.plot(epoch, smooth(values, window), color=colour, lw=1.6, label=f"training, mean of {window} steps")
    ax.set(xlabel="epoch", ylabel=LABELS[what], xlim=(0, epochs))
    return ax


def run_steps(found: Sequence[Record], store: Store, axes: Sequence[Axes]) -> Axes:
    """A row's first run on three axes: learning rate, loss and accuracy at each step, and validation after each epoch.

    `store` holds the series beside the record; gives back the first of `axes`.
    """
    if not found:
        return [no_record(ax) for ax in axes][0]
    record, epochs = found[0], found[0].run.epochs
    learning_rate(record.run, axes[0])
    arrays = store.arrays(record)
    series = {"loss": arrays["step_loss"], "accuracy": arrays["step_correct"] / record.run.batch_size}
    for (what, values), ax in zip(series.items(), axes[1:], strict=True):
        steps(values, epochs, what, ax)
        validation = _scaled(record.history[f"validation_{what}"], what)
        ax.plot(np.arange(1, len(validation) + 1), validation, "o-", color=VALIDATION, ms=3.5, label="validation")
        ax.set_ylim(*_inner_range(_scaled(values, what), validation))
    axes[1].legend()
    for ax in axes[:2]:
        ax.set_xlabel("")
    return axes[0]


def _inner_range(values: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Limits that leave out the outermost 1 % of a noisy series."""
    inner = np.concatenate([np.nanpercentile(values, (1, 99)), others])
    margin = 0.05 * (np.nanmax(inner) - np.nanmin(inner))
    return np.nanmin(inner) - margin, np.nanmax(inner) + margin


def learning_rate(run: Run, ax: Axes) -> Axes:
    """The learning rate of `run` against the epoch."""
    done = np.linspace(0, 1, 1000, endpoint=False)
    rates = [run.rate(moment) for moment in done]
    ax.plot(done * run.epochs, rates, color=RATE, lw=1)
    ax.set(xlabel="epoch", ylabel="learning rate", xlim=(0, run.epochs), ylim=(0, 1.1 * max(rates)))
    return ax


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
    _legend_once(ax)
    return closed(figure)


def over_rates(found: Mapping[str, Band], label: str, log: bool = False) -> Figure:
    """The `bands` of both networks on a figure of their own."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3))
    bands(found, label, ax, log=log)
    return closed(figure)


def along(found: Mapping[str, Mapping[str, Band]]) -> Figure:
    """What lies along the gradient of each step, one quantity below the other, as `bands.along` gives it."""
    figure, axes = plt.subplots(len(found), 1, figsize=(WIDTH, 6.4))
    for ax, (what, pair) in zip(axes, found.items()):
        bands(pair, what, ax, window=150, log=what != "loss")
    return closed(figure)


def _legend_once(ax: Axes) -> None:
    """A legend that names what many marks share once."""
    named = dict(zip(*reversed(ax.get_legend_handles_labels())))
    if named:
        ax.legend(named.values(), named.keys())


# ------------------------------------------------------------------------------------------ images


def tiles(images: np.ndarray, columns: int, gap: int = 1, white: float = 1) -> np.ndarray:
    """Images (N, H, W, C) in one, `columns` a row, with gaps of the value `white`."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), white, dtype=float)
    for index, image in enumerate(images):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


# ------------------------------------------------------------------------------------------ a whole section


def tradeoff(rows: pd.DataFrame, axes: Sequence[Axes], floor: float = 50) -> Sequence[Axes]:
    """Accuracy of all rows against parameters and against seconds an epoch, on two axes; see `overview.costs`.

    Rows below `floor` percent, which have not learned much, are named under the first plot in place of a point.
    """
    rows = rows.reset_index(drop=True)
    looks = {
        table: (LINES[i % len(LINES)][0], MARKERS[i % len(MARKERS)]) for i, table in enumerate(rows["table"].unique())
    }
    low = rows[100 * rows["accuracy"] < min(floor, 100 * rows["accuracy"].median())]
    shown = rows.drop(low.index).assign(millions=rows["parameters"] / 1e6, percent=100 * rows["accuracy"])
    columns = {"millions": "parameters (millions)", "seconds_per_epoch": "seconds an epoch"}
    for ax, (column, label) in zip(axes, columns.items(), strict=True):
        for table, group in shown.groupby("table", sort=False):
            colour, marker = looks[table]
            ax.scatter(group[column], group["percent"], c=colour, marker=marker, s=36, label=table, alpha=0.9,
                       edgecolors="black", linewidths=0.5)  # fmt: skip
        ax.set(xlabel=label, ylabel="test accuracy (%)")
    axes[-1].set_ylabel("")
    axes[-1].legend(title="first shown in", loc="center left", bbox_to_anchor=(1, 0.5))
    if len(low):
        names = ", ".join(f"{row.row} ({100 * row.accuracy:.1f} %)" for row in low.itertuples())
        axes[0].set_title(f"off the scale: {names}", loc="left", fontsize=8)
    return axes


def cost(rows: pd.DataFrame) -> Figure:
    """`tradeoff` on a figure of its own."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3), sharey=True)
    if len(rows):
        tradeoff(rows, axes)
    return closed(figure)


def live(losses: np.ndarray, window: int = 10) -> Figure:
    """The training loss of some first steps, each and smoothed."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.2))
    steps(losses, len(losses), "loss", ax, window=window)
    ax.set_xlabel("step")
    ax.legend()
    return closed(figure)


NEXT_TO = 6  # points from a mark to its name; from farther off a line leads to it


def against_report(rows: pd.DataFrame, ax: Axes, floor: float = 55, far: float = 5) -> Axes:
    """Our accuracy against the report's, a mark a row, one look a section; on the diagonal both agree.

    `rows`: section, table, row, accuracy, reported (0 to 1). Rows more than `far` points off are named; those below
    `floor` percent stand at the edge, with their score and an arrow.
    """
    for (section, group), (colour, _), marker in zip(rows.groupby("section", sort=False), LINES, MARKERS, strict=False):
        stated, ours = 100 * group["reported"], (100 * group["accuracy"]).clip(lower=floor)
        ax.scatter(stated, ours, c=colour, marker=marker, s=34, edgecolors=colour, linewidths=1.2)
        ax.scatter([], [], c=colour, marker=marker, s=34, label=section)
    ax.plot([floor, 100], [floor, 100], color="0.4", lw=1, ls="--", label="as reported", zorder=0)
    ax.set(xlabel="the report's accuracy (%)", ylabel="ours (%)", xlim=(floor - 1, 100.5), ylim=(floor - 2, 100.5))
    ax.legend(title="section", loc="upper left")
    marks = [(100 * row.reported, max(floor, 100 * row.accuracy)) for row in rows.itertuples()]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in ax.transData.transform(marks)] if marks else []
    line = ax.transData.transform([(at, at) for at in np.linspace(floor, 100, 200)])
    taken += [Bbox.from_bounds(x, y, 1, 1) for x, y in line]
    for row in rows[(100 * (rows["accuracy"] - rows["reported"])).abs() > far].sort_values("reported").itertuples():
        stated, ours = 100 * row.reported, 100 * row.accuracy
        # A label that says nothing by itself, "0.9" or "without", has its table's name after it.
        name = f"{row.row} ({row.table.split(' ', 1)[1]})" if re.fullmatch(r"[\d.e-]+|with(out)?", row.row) else row.row
        if ours >= floor:
            sides = (1, "left"), (-1, "right")
            beside = [(NEXT_TO * side, up, to) for up in (-3, 5, -11) for side, to in sides]
            beside += [(3 * NEXT_TO * side, up, to) for up in (-22, -32, 16, 38, -42, -52) for side, to in sides]
            _name(ax, name, (stated, ours), beside, taken)
        else:
            above = [(0, 7 + 10 * level, "right" if stated > 90 else "center") for level in range(3)]
            _name(ax, f"{name}: {ours:.1f} ↓", (stated, floor), above, taken)
    return ax


def _name(ax: Axes, name: str, mark: tuple, places: Sequence[tuple], taken: list[Bbox]) -> None:
    """Writes `name` beside a mark: at the first of `places` (points right and up, alignment) within the axes that isn't
    taken yet, or at the last; with a line to the mark from far off."""
    whole = ax.get_window_extent()
    for right, up, aligned in places:
        text = ax.annotate(name, mark, xytext=(right, up), textcoords="offset points", size=7.5, ha=aligned)
        box = text.get_window_extent()
        free = box.x0 >= whole.x0 and box.x1 <= whole.x1 and not any(map(box.overlaps, taken))
        free &= abs(right) <= NEXT_TO or not _crosses(ax.transData.transform(mark), box, taken)
        if free or (right, up, aligned) == places[-1]:
            break
        text.remove()
    if abs(right) > NEXT_TO:
        line = {"arrowstyle": "-", "lw": 0.6, "color": "0.5", "shrinkA": 0, "shrinkB": 4}
        ax.annotate("", mark, xytext=(right, up + 3), textcoords="offset points", arrowprops=line)
    taken.append(box)


def _crosses(mark: np.ndarray, box: Bbox, taken: Sequence[Bbox]) -> bool:
    """Whether a line from a mark to the nearest end of a label would run through a mark or another label."""
    end = np.array([box.x0 if box.x0 > mark[0] else box.x1, (box.y0 + box.y1) / 2])
    on_line = [mark + share * (end - mark) for share in np.linspace(0.2, 1, 20)]
    solid = [each for each in taken if each.width > 1]  # the diagonal, which is made of dots here, may be crossed
    return any(each.contains(*point) for each in solid for point in on_line)


# ------------------------------------------------------------------------------------------ with and without batch norm


def bands(found: Mapping[str, Band], label: str, ax: Axes, *, window: int = 50, log: bool = False) -> Axes:
    """The bands of both networks against the step: raw in pale, means of their ends over `window` steps in front.

    A dotted line stands where a run diverged; what is missing from a band is said above the plot.
    """
    for name, band in found.items():
        if len(band.at):
            _band(band, name, ax, window)
    ax.set_title(_said({name: band.notes for name, band in found.items()}), loc="left", fontsize=8)
    if not ax.lines:
        return no_record(ax)
    ax.set(xlabel="step", ylabel=label, yscale="log" if log else "linear")
    ax.set_ylim(*_seen_range(found.values(), log))
    if log:  # plain numbers at 1, 2 and 5, since a band seldom spans more than a power of ten or two
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_formatter=NullFormatter())
        ax.yaxis.set_major_formatter("{x:,g}")
    steps = max(band.steps for band in found.values())
    ax.set_xlim(-0.02 * steps, 1.02 * steps)
    # Below the plot, since a band may be anywhere in it.
    below = ax.transAxes + ScaledTranslation(0, -0.42, ax.figure.dpi_scale_trans)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, borderaxespad=0, ncols=2)
    return ax


def _band(band: Band, name: str, ax: Axes, window: int) -> None:
    colour, line, hatch = NETWORKS[name]
    spacing = max(1.0, float(np.median(np.diff(band.at)))) if len(band.at) > 1 else 1.0
    low, high = (smooth(values, max(1, round(window / spacing))) for values in (band.low, band.high))
    ax.fill_between(band.at, band.low, band.high, color=colour, alpha=0.2, lw=0, rasterized=True)
    # Means over a window hardly change from step to step: of a long run only as many are drawn as can be told apart.
    some = slice(None, None, max(1, len(band.at) // POSITIONS))
    at, low, high = band.at[some], low[some], high[some]
    # Where low and high are the same, the two edges make one line.
    label = name if band.runs == 1 else f"{name}, {band.measured} of {band.runs} runs"
    ax.fill_between(at, low, high, facecolor=colour, alpha=0.35, hatch=hatch, edgecolor=colour, lw=0, label=label)
    for edge in (low, high):
        ax.plot(at, edge, line, color=colour, lw=1.3, marker="." if len(at) < 3 else "")
    for end in band.ended:
        ax.axvline(end, color=colour, ls=":", lw=1.2)


def _said(notes: Mapping[str, Sequence[str]], width: int = 105) -> str:
    """The notes of several networks as lines of at most `width` characters."""
    lines = [f"{name}: {'; '.join(each)}" for name, each in notes.items() if each]
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width))


def _seen_range(found, log: bool) -> tuple[float | None, float | None]:
    """Limits that leave out the outermost 0.5 % of the raw ends, which would press all the rest flat."""
    ends = np.concatenate([values for band in found for values in (band.low, band.high)])
    ends = ends[ends > 0] if log else ends
    if not len(ends):
        return None, None
    low, high = np.percentile(ends, (0.5, 99.5))
    margin = 0.05 * (high - low)
    return (low / 1.1, high * 1.1) if log else (low - margin, high + margin)


def surfaces(found: Mapping[str, Mapping[str, np.ndarray]], axes: Sequence[Axes]) -> Sequence[Axes]:
    """The loss around each network's weights as contours, all on one logarithmic scale; a cross marks the weights.

    `found`: network → arrays with `surface_at` (n,), positions in units of the weights' length, and `surface_loss`
    (n, n), the second direction down its rows. Points whose loss is not finite are left white, and counted.
    """
    known = {name: arrays for name, arrays in found.items() if "surface_loss" in arrays}
    finite = [each["surface_loss"][np.isfinite(each["surface_loss"])] for each in known.values()]
    values = np.maximum(np.concatenate([[], *finite]), 1e-6)
    levels = np.geomspace(values.min(), 1.001 * values.max(), 16) if len(values) else None
    drawn = None
    for (name, arrays), ax in zip(found.items(), axes, strict=True):
        if name in known and levels is not None:
            drawn = _surface(arrays, levels, ax)
        else:
            no_record(ax)
        ax.set_title("\n".join(filter(None, (name, ax.get_title()))), fontsize=9)
    if drawn is not None:
        bar = axes[0].figure.colorbar(drawn, ax=list(axes), label="loss (nats)", ticks=levels[::3])
        bar.ax.set_yticklabels([f"{float(f'{level:.2g}'):,g}" for level in levels[::3]])
        bar.minorticks_off()
    return axes


def _surface(arrays: Mapping[str, np.ndarray], levels: np.ndarray, ax: Axes):
    at, loss = arrays["surface_at"], np.asarray(arrays["surface_loss"], dtype=float)
    unknown = ~np.isfinite(loss)
    loss = np.ma.array(np.maximum(np.where(unknown, 1, loss), 1e-6), mask=unknown)
    drawn = ax.contourf(at, at, loss, levels, cmap="viridis_r", norm=LogNorm(levels[0], levels[-1]))
    ax.contour(at, at, loss, levels, colors="black", linewidths=0.4)
    ax.plot(0, 0, "+", color="black", ms=9, mew=1.5)
    ax.set(xlabel="first direction", ylabel="second direction", aspect="equal")
    ax.grid(False)
    if unknown.any():
        ax.set_title(f"loss not finite at {unknown.sum()} of {unknown.size} points")
    return drawn
