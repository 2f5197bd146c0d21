"""The range of a step-level series over several runs, and how two such bands compare: what batch norm does to VGG-A.
Nothing is trained here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from helpers.show.comparison import Comparison, Row
from helpers.show.curves import BLUE, ORANGE, WIDTH, closed, one_legend, smooth
from helpers.show.grid import Grid
from helpers.show.text import MISSING, NORMED, PLAIN, text

LOOKS = {PLAIN: (ORANGE, "--", "////"), NORMED: (BLUE, "-", "")}  # colour, edge and hatch of a band
POSITIONS = 1000  # along a curve's horizontal axis: more can't be told apart on a page

Rates = Mapping[str, Mapping[str, Row]]  # network ("VGG-A", "VGG-A + BN") → "lr <rate>" → Row


class Band(NamedTuple):
    """The range of a series over several runs: `low` and `high` by step, where anything was measured.

    `steps`: those of the longest run; `measured` of `runs` runs have the series.
    """

    low: pd.Series
    high: pd.Series
    steps: int
    measured: int
    runs: int

    @property
    def middle(self) -> pd.Series:
        return (self.low + self.high) / 2

    @property
    def width(self) -> pd.Series:
        return self.high - self.low


# ------------------------------------------------------------------------------------------ what is measured


def networks(rows: Comparison) -> dict[str, dict[str, Row]]:
    """The rows of a table by network and rate."""
    found = {PLAIN: {}, NORMED: {}}
    for row in rows.values():
        found[NORMED if row.run.options.get("batch_norm", True) else PLAIN][f"lr {row.run.lr:g}"] = row
    return found


def leave_out(rates: Rates, rate: str) -> dict[str, dict[str, Row]]:
    """The runs of both networks at all rates but one."""
    return {name: {each: row for each, row in rows.items() if each != rate} for name, rows in rates.items()}


def both(rates: Rates, what: str, until: str | None = None) -> dict[str, Band]:
    """The `band` of each of the two networks, over the first run of each rate."""
    return {name: band([row.arrays or {} for row in rows.values()], what, until) for name, rows in rates.items()}


def band(runs: Sequence[Mapping[str, np.ndarray]], what: str, until: str | None = None) -> Band:
    """The range, at each step, of the series `what` over some runs; values that are not finite count as not measured.

    With `until` each run has a range of its own, from `what` to the series `until`.
    """
    known = [each for each in runs if what in each]
    low, high = (_by_step([each[name] for each in known]) for name in (what, until or what))
    return Band(low.min(axis=1).dropna(), high.max(axis=1).dropna(), len(low), len(known), len(runs))


def _by_step(series: Sequence[np.ndarray]) -> pd.DataFrame:
    """(steps, runs); a run that ends early has no values from there on."""
    columns = {run: pd.Series(values, dtype=float) for run, values in enumerate(series)}
    return pd.DataFrame(columns, dtype=float).replace([np.inf, -np.inf], np.nan)


def by_seed(rows: Mapping[str, Row], what: str) -> list[Band]:
    """The `band` of `what` over the runs of each seed that every row has; those alone in which it was measured."""
    found = [band(runs, what) for runs in zip(*(row.series for row in rows.values()))]
    return [each for each in found if len(each.low) and each.measured == each.runs]


def along(rates: Rates, rate: str) -> dict[str, dict[str, Band]]:
    """What was measured along the gradient of each step of the runs at one rate: quantity → network → band."""
    one = {name: {rate: rows[rate]} for name, rows in rates.items()}
    ends = {"loss (nats)": ("loss_min", "loss_max"), "gradient distance": ("change_min", "change_max"),
            "effective β": ("smoothness", "smoothness")}  # fmt: skip
    return {what: both(one, *(f"along_{end}" for end in pair)) for what, pair in ends.items()}


def jumps(row: Row, what: str) -> float:
    """How far the series `what` jumps within a row's first run from one measurement to the next: the mean of
    |ln(x(k + 1) / x(k))|, which has no scale, so that networks compare; NaN without measurements."""
    values = np.asarray((row.arrays or {}).get(what, ()), dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    return float(np.abs(np.diff(np.log(values))).mean()) if len(values) > 1 else math.nan


def basin(arrays: Mapping[str, np.ndarray], below: float = math.log(10)) -> float:
    """The share of a loss surface on which the loss is lower than that of guessing; NaN without a surface."""
    return float((arrays["surface_loss"] < below).mean()) if "surface_loss" in arrays else math.nan


# ------------------------------------------------------------------------------------------ how two bands compare


def ratio(found: Mapping[str, Band], of: str, start: float = 0, stop: float = 1) -> float:
    """The mean "middle" or "width" of the band without batch norm over that with it, from the share `start` to the
    share `stop` of the run; NaN without both."""
    means = []
    for name in (PLAIN, NORMED):
        values, steps = getattr(found[name], of), found[name].steps
        means.append(values[(values.index >= start * steps) & (values.index < stop * steps)].mean())
    return means[0] / means[1] if means[1] else math.nan


def over(found: Mapping[str, Band], of: str, start: float = 0, stop: float = 1) -> Any:
    """`ratio`; MISSING without records."""
    value = ratio(found, of, start, stop)
    return MISSING if math.isnan(value) else value


def wider(found: Mapping[str, Band]) -> float:
    """The share of the steps that both bands have at which the one without batch norm is the wider; NaN without any."""
    plain, normed = found[PLAIN].width.align(found[NORMED].width, join="inner")
    return float((plain > normed).mean())


def band_numbers(quantities: Mapping[str, Mapping[str, Band]]) -> Grid:
    """What the bands of some quantities are like: quantity → network → band."""
    frame = pd.DataFrame([
        {"quantity": what, "network": name, "middle": short(each.middle.mean()), "width": short(each.width.mean()),
         "width / middle (median)": short((each.width / each.middle).median())}
        for what, found in quantities.items() for name, each in found.items()
    ])  # fmt: skip
    return Grid(frame, "The bands in numbers: middle and width, means over the run.", left=("network",))


def short(value: float, digits: int = 3) -> str:
    """Three digits, in plain notation: "0.294", "1,560"."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 1000 else text(rounded)


def jumps_table(rates: Rates, quantities: Mapping[str, str]) -> Grid:
    """How far each of `quantities` (name → series) jumps within a run, with and without batch norm, at each rate."""
    frame = pd.DataFrame([
        {"quantity": name, "rate": rate.removeprefix("lr "),
         **{network: short(jumps(rows[rate], what)) for network, rows in rates.items()}}
        for name, what in quantities.items() for rate in rates[PLAIN]
    ])  # fmt: skip
    caption = "How far a quantity jumps from one measurement to the next within a run: mean of |ln(after / before)|."
    return Grid(frame, caption, left=("rate",))


def band_ratios(quantities: Mapping[str, Mapping[str, Band]]) -> Grid:
    """VGG-A over VGG-A + BN for each quantity: middle and width of the bands, over the run and in its outer thirds."""
    parts = {"": (0, 1), " (first third)": (0, 1 / 3), " (last third)": (2 / 3, 1)}
    frame = pd.DataFrame([
        {"quantity": what,
         **{of + part: short(ratio(found, of, *ends)) for of in ("middle", "width") for part, ends in parts.items()},
         "wider without (% of steps)": short(100 * wider(found))}
        for what, found in quantities.items()
    ])  # fmt: skip
    return Grid(frame, "Without batch norm over with it: above 1, the band with it is lower or narrower.")


# ------------------------------------------------------------------------------------------ drawn


def draw(found: Mapping[str, Mapping[str, Band]], height: float = 3) -> Figure:
    """The bands of both networks against the step, a panel a quantity (quantity → network → band), all but losses on a
    logarithmic scale: raw in pale, means of their ends over 50 steps, or three measurements, in front."""
    figure, axes = plt.subplots(len(found), 1, figsize=(WIDTH, height), squeeze=False)
    for ax, (quantity, pair) in zip(axes.flat, found.items()):
        for name, each in pair.items():
            if len(each.low):
                _draw_band(each, name, ax)
        if ax.has_data():
            _finish(ax, quantity, pair.values())
    axes[-1, 0].set_xlabel("step")
    one_legend(axes[:1, 0])
    return closed(figure)


def _draw_band(band: Band, name: str, ax: Axes) -> None:
    (colour, line, hatch), at = LOOKS[name], band.low.index.to_numpy()
    ax.fill_between(at, band.low, band.high, color=colour, alpha=0.2, lw=0, rasterized=True)
    window = max(3, round(50 / np.median(np.diff(at)))) if len(at) > 1 else 1
    # Means over a window hardly change from step to step: of a long run only as many are drawn as can be told apart.
    some = slice(None, None, max(1, len(at) // POSITIONS))
    low, high = (smooth(values.to_numpy(), window)[some] for values in (band.low, band.high))
    # Where low and high are the same, the two edges make one line.
    some_runs = f"range of {band.runs} runs" if band.measured == band.runs else f"{band.measured} of {band.runs} runs"
    label = name if band.runs == 1 else f"{name}, {some_runs}"
    look = {"facecolor": colour, "edgecolor": colour, "hatch": hatch, "alpha": 0.35, "lw": 0}
    ax.fill_between(at[some], low, high, **look, label=label)
    for edge in (low, high):
        ax.plot(at[some], edge, line, color=colour, lw=1.3, marker="." if len(low) < 3 else "")


def _finish(ax: Axes, quantity: str, found: Sequence[Band]) -> None:
    log = "loss" not in quantity
    ends = np.concatenate([values for band in found for values in (band.low, band.high)])
    # The outermost 0.5 % of the raw ends would press all the rest flat.
    low, high = np.percentile(ends[ends > 0] if log else ends, (0.5, 99.5))
    margin = 0.05 * (high - low)
    ax.set(ylabel=quantity, ylim=(low - margin, high + margin))
    if log:  # plain numbers at 1, 2 and 5, since a band seldom spans more than a power of ten or two
        ax.set(yscale="log", ylim=(low / 1.1, high * 1.1))
        ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_formatter=NullFormatter())
        ax.yaxis.set_major_formatter("{x:,g}")
    steps = max(band.steps for band in found)
    ax.set_xlim(-0.02 * steps, 1.02 * steps)


def surfaces(found: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """The loss around each network's weights as contours, all on one logarithmic scale; a cross marks the weights.

    `found`: network → arrays with `surface_at` (n,), positions in units of the weights' length, and `surface_loss`
    (n, n), the second direction down its rows. Points whose loss is not finite are left white.
    """
    figure, axes = plt.subplots(1, len(found), figsize=(WIDTH, 3.2))
    known = {name: np.ma.masked_invalid(arrays["surface_loss"]).astype(float)
             for name, arrays in found.items() if "surface_loss" in arrays}  # fmt: skip
    if known:
        lowest, highest = min(each.min() for each in known.values()), max(each.max() for each in known.values())
        levels = np.geomspace(max(lowest, 1e-6), 1.001 * highest, 16)
    for ax, name in zip(axes, found):
        if name in known:
            drawn = _surface(ax, found[name]["surface_at"], known[name], levels)
        ax.set_title(name, fontsize=9)
    if known:
        bar = figure.colorbar(drawn, ax=list(axes), label="loss (nats)", ticks=levels[::3])
        bar.ax.set_yticklabels([f"{float(f'{level:.2g}'):,g}" for level in levels[::3]])
        bar.minorticks_off()
    return closed(figure)


def _surface(ax: Axes, at: np.ndarray, loss: np.ma.MaskedArray, levels: np.ndarray):
    drawn = ax.contourf(at, at, loss, levels, cmap="viridis_r", norm=LogNorm(levels[0], levels[-1]))
    ax.contour(at, at, loss, levels, colors="black", linewidths=0.4)
    ax.plot(0, 0, "+", color="black", ms=9, mew=1.5)
    ax.set(xlabel="first direction", ylabel="second direction", aspect="equal")
    ax.grid(False)
    return drawn
