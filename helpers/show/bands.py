"""The range of a step-level series over several runs, and how two such bands compare: what batch norm does to VGG-A. A
run that is missing, short, diverged or stuck is named, never silently left out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers.experiments import Run
from helpers.records import Record, RecordError, Store
from helpers.show.grid import Grid as Table
from helpers.show.text import MISSING, NORMED, PLAIN, missing, text

PLATEAU = 0.02  # how near to the loss of guessing a run has to end to be called stuck there, as a share of it


def networks(rows: Mapping[str, Run], selection: Mapping[str, list[Record]]) -> dict[str, dict[str, list[Record]]]:
    """The rows of a table by network, "VGG-A" and "VGG-A + BN": each a mapping of "lr <rate>" → records.

    A second row with the same network and rate goes by its label.
    """
    found: dict[str, dict[str, list[Record]]] = {PLAIN: {}, NORMED: {}}
    for label, run in rows.items():
        name = NORMED if run.options.get("batch_norm", True) else PLAIN
        rate = f"lr {run.lr:g}"
        found[name][label if rate in found[name] else rate] = selection[label]
    return found


class Band(NamedTuple):
    """The range of a step-level series over several runs.

    At step `at[i]` of `steps` it goes from `low[i]` to `high[i]`; steps at which nothing was measured are left out.
    `measured` of `runs` runs have the series; `ended`: the steps at which runs diverged; `notes`: in words, what is
    missing from the band.
    """

    at: np.ndarray
    low: np.ndarray
    high: np.ndarray
    steps: int
    measured: int
    runs: int
    ended: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def middle(self) -> np.ndarray:
        return (self.low + self.high) / 2

    @property
    def width(self) -> np.ndarray:
        return self.high - self.low


def band(rows: Mapping[str, list[Record]], store: Store, what: str, until: str | None = None) -> Band:
    """The range, at each step, of the series `what` over the first run of each of `rows`.

    With `until` each run has a range of its own, from `what` to the series `until`. Series may differ in length and
    hold NaN: a run that is missing, not measured, diverged, short, full of holes or stuck is named in the notes.
    """
    arrays = {label: series(found, store) for label, found in rows.items()}
    known = {label: each for label, each in arrays.items() if what in each}
    steps = max((len(each[what]) for each in known.values()), default=0)
    lows, highs = (_stacked([each[name] for each in known.values()], steps) for name in (what, until or what))
    filled = np.isfinite(lows).sum(1)
    notes = [f"{label} {note}" for label, found in rows.items() for note in _notes(found, arrays[label], what, steps)]
    notes += [f"{label} measured at {count:,} of {max(filled):,} steps" for label, count in zip(known, filled)
              if count < max(filled) and len(known[label][what]) == steps and not _ends(rows[label])]  # fmt: skip
    if not any(rows.values()):
        notes = [f"none of its {len(rows)} runs has a record yet"]
    at = np.flatnonzero(np.isfinite(lows).any(0) & np.isfinite(highs).any(0))
    ended = tuple(end for found in rows.values() for end in _ends(found))
    low, high = np.nanmin(lows[:, at], 0, initial=np.inf), np.nanmax(highs[:, at], 0, initial=-np.inf)
    return Band(at, low, high, steps, len(known), len(rows), ended, tuple(notes))


def series(found: list[Record], store: Store) -> dict[str, np.ndarray]:
    """The arrays beside a row's first record; none if there is no record, or their file can't be read."""
    try:
        return store.arrays(found[0]) if found else {}
    except RecordError:
        return {}


def both(
    rates: Mapping[str, Mapping[str, list[Record]]], store: Store, what: str, until: str | None = None
) -> dict[str, Band]:
    """The `band` of each of the two networks; `rates` as `networks` gives them."""
    return {name: band(runs, store, what, until) for name, runs in rates.items()}


def leave_out(rates: Mapping[str, Mapping[str, list[Record]]], rate: str) -> dict[str, dict[str, list[Record]]]:
    """The runs of both networks at all rates but one."""
    return {name: {each: found for each, found in runs.items() if each != rate} for name, runs in rates.items()}


def along(rates: Mapping[str, Mapping[str, list[Record]]], store: Store, rate: str) -> dict[str, dict[str, Band]]:
    """What was measured along the gradient of each step of the runs at one rate: quantity → network → band."""
    one = {name: {rate: runs[rate]} for name, runs in rates.items()}
    ends = {"loss": ("loss_min", "loss_max"), "gradient distance": ("change_min", "change_max"),
            "effective β": ("smoothness", "smoothness")}  # fmt: skip
    return {what: both(one, store, *(f"along_{end}" for end in pair)) for what, pair in ends.items()}


def over(found: Mapping[str, Band], of: str) -> Any:
    """The mean "middle" or "width" of the band without batch norm over that with it; MISSING without both."""
    value = ratio(found[PLAIN], found[NORMED], of)
    return MISSING if missing(value) else value


def by_seed(rows: Mapping[str, list[Record]], store: Store, what: str) -> list[Band]:
    """The `band` of `what` over the runs of each seed that every row has; those alone in which it was measured."""
    seeds = min((len(found) for found in rows.values()), default=0)
    found = [band({label: runs[seed : seed + 1] for label, runs in rows.items()}, store, what) for seed in range(seeds)]
    return [each for each in found if len(each.at) and each.measured == each.runs]


def unsteadiness(rows: Mapping[str, list[Record]], store: Store, what: str) -> Band:
    """How far the series `what` jumps within a run from one measurement to the next: |ln(x(k + 1) / x(k))|.

    That has no scale, so that networks compare. A band without width, the mean over the first run of each of `rows`.
    """
    whole = band(rows, store, what)
    jumps = np.full((len(rows), whole.steps), np.nan)
    for line, found in zip(jumps, rows.values()):
        values = np.asarray(series(found, store).get(what, ()), dtype=float)
        at = np.flatnonzero(np.isfinite(values) & (values > 0))
        line[at[1:]] = np.abs(np.diff(np.log(values[at])))
    at = np.flatnonzero(np.isfinite(jumps).any(0))
    mean = np.nanmean(jumps[:, at], 0)
    return whole._replace(at=at, low=mean, high=mean)


def _stacked(series: Sequence[np.ndarray], steps: int) -> np.ndarray:
    """(runs, steps): each series, filled up with NaN; what is not finite becomes NaN."""
    stack = np.full((len(series), steps), np.nan)
    for line, values in zip(stack, series):
        line[: len(values)] = np.where(np.isfinite(values), values, np.nan)
    return stack


def _ends(found: list[Record]) -> list[int]:
    return [found[0].diverged_at] if found and found[0].state == "diverged" else []


def _notes(found: list[Record], arrays: Mapping[str, np.ndarray], what: str, steps: int) -> list[str]:
    """What a reader of a band has to know of one of its runs."""
    if not found:
        return ["has no record yet"]
    notes = [f"diverged at step {end:,}" for end in _ends(found)]
    if what not in arrays:
        return [*notes, "was not measured"]
    if len(arrays[what]) < steps and not notes:
        notes.append(f"ends at step {len(arrays[what]):,} of {steps:,}")
    if not _ends(found) and stuck(arrays.get("step_loss", ())):
        notes.append(f"stays at the loss of guessing, {math.log(10):.3f}")
    return notes


def stuck(losses: Sequence[float], classes: int = 10) -> bool:
    """Whether a run ends where it can begin, at the loss of guessing: ln(classes), within 2 %."""
    last = np.asarray(losses)[-max(1, len(losses) // 10) :]
    return len(last) > 0 and abs(float(np.median(last)) / math.log(classes) - 1) < PLATEAU


def ratio(plain: Band, normed: Band, of: str, start: float = 0.0, stop: float = 1.0) -> float:
    """The mean `of` without batch norm over that with it, from the share `start` to the share `stop` of the run."""
    values = [getattr(each, of)[(each.at >= start * each.steps) & (each.at < stop * each.steps)]
              for each in (plain, normed)]  # fmt: skip
    if not all(len(each) and each.mean() for each in values):
        return math.nan
    return float(values[0].mean() / values[1].mean())


def wider(plain: Band, normed: Band) -> float:
    """The share of the steps that both bands have at which the one without batch norm is the wider; NaN without any."""
    both = np.intersect1d(plain.at, normed.at)
    if not len(both):
        return math.nan
    return float((plain.width[np.isin(plain.at, both)] > normed.width[np.isin(normed.at, both)]).mean())


def basin(arrays: Mapping[str, np.ndarray], below: float = math.log(10)) -> float:
    """The share of a loss surface on which the loss is lower than that of guessing; NaN without a surface."""
    return float((arrays["surface_loss"] < below).mean()) if "surface_loss" in arrays else math.nan


# ------------------------------------------------------------------------------------------ shown


def band_numbers(quantities: Mapping[str, Mapping[str, Band]]) -> Table:
    """What the bands of some quantities are like: quantity → network → band."""
    entries = [{"quantity": what, "network": name, "median": _over(np.median, each.middle),
                "mean width": _over(np.mean, each.width), "width / median": _over(np.median, each.width / each.middle),
                "steps": len(each.at), "of": each.steps, "runs": each.measured, "rates": each.runs}
               for what, found in quantities.items() for name, each in found.items()]  # fmt: skip
    frame = pd.DataFrame(entries)
    texts = frame.map(text).drop(columns=["of", "rates"])
    texts["steps"] = [f"{row.steps:,} of {row.of:,}" for row in frame.itertuples()]
    texts["runs"] = [f"{row.runs} of {row.rates}" for row in frame.itertuples()]
    return Table(frame, "The bands in numbers: median of their middle, width, steps and rates measured.", texts)


def unsteadiness_table(
    rates: Mapping[str, Mapping[str, list[Record]]], store: Store, quantities: Mapping[str, str]
) -> Table:
    """How far each of `quantities` (name → series) jumps within a run, with and without batch norm, at each rate.

    `rates`: network → "lr <rate>" → records, as `networks` gives them.
    """
    entries = []
    for name, what in quantities.items():
        for rate in dict.fromkeys(rate for runs in rates.values() for rate in runs):
            pair = {network: {rate: runs.get(rate, [])} for network, runs in rates.items()}
            means = {network: _over(np.mean, unsteadiness(one, store, what).middle) for network, one in pair.items()}
            entries.append({"quantity": name, "rate": rate.removeprefix("lr "), **means})
    caption = "How far a quantity jumps from one measurement to the next within a run: mean of |ln(after / before)|."
    return Table(pd.DataFrame(entries), caption, left=("rate",))


def band_ratios(quantities: Mapping[str, Mapping[str, Band]]) -> Table:
    """VGG-A over VGG-A + BN for each quantity: middle and width of the bands, over the run and in its outer thirds."""
    parts = {"": (0, 1), " (first third)": (0, 1 / 3), " (last third)": (2 / 3, 1)}
    entries = []
    for what, found in quantities.items():
        pair = found[PLAIN], found[NORMED]
        ratios = {of + part: ratio(*pair, of, *ends) for of in ("middle", "width") for part, ends in parts.items()}
        entries.append({"quantity": what, **ratios, "wider without (% of steps)": 100 * wider(*pair)})
    return Table(
        pd.DataFrame(entries), "Without batch norm over with it: above 1, the band with it is lower or narrower."
    )


def _over(take, values: np.ndarray) -> float:
    return float(take(values)) if len(values) else math.nan
