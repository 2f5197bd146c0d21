"""The range of a step-level series over several runs, and how two such bands compare: what batch norm does to VGG-A. A
run that is missing, short, diverged or stuck is named, never silently left out."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.experiments import BUDGETS, Run
from helpers.records import Record, Selection, Store
from helpers.show.grid import Grid as Table
from helpers.show.readings import series
from helpers.show.text import NORMED, PLAIN, text

STRETCHES = 20  # equal parts of a run, in each of which two bands are compared
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


def paired(rates: Mapping[str, Mapping[str, list[Record]]]) -> dict[str, dict[str, list[Record]]]:
    """Of the rows by network, as `networks` gives them, those at the rates of which both networks have a record."""
    both = [rate for rate in rates[PLAIN] if all(runs.get(rate) for runs in rates.values())]
    return {network: {rate: runs[rate] for rate in both} for network, runs in rates.items()}


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


def _mean_of(band: Band, of: str, start: float, stop: float) -> float:
    """The mean of a band's `of` ("middle" or "width") over the steps from `start` to `stop`; infinite if a run has
    diverged by then, NaN if nothing was measured."""
    values = getattr(band, of)[(band.at >= start) & (band.at < stop)]
    return math.inf if any(end < stop for end in band.ended) else float(values.mean()) if len(values) else math.nan


def edges(rows: Mapping[str, list[Record]], store: Store, what: str) -> str:
    """Which of `rows` is most often at the upper edge of the band of `what`, and which at the lower, in words."""
    known = {label: each[what] for label, found in rows.items() if what in (each := series(found, store))}
    stack = _stacked(list(known.values()), max(map(len, known.values()), default=0))
    stack = stack[:, np.isfinite(stack).all(0)]
    if not stack.size:
        return "not measured yet"
    counts = (np.bincount(at, minlength=len(known)) for at in (stack.argmax(0), stack.argmin(0)))
    upper, lower = (
        f"{list(known)[each.argmax()]} ({100 * each.max() / each.sum():.0f} % of the steps)" for each in counts
    )
    return f"upper edge {upper}, lower edge {lower}"


def stretches_won(plain: Band, normed: Band, of: str) -> tuple[int, int]:
    """In how many of 20 equal stretches of the run the mean `of` is smaller in `normed`, and in how many larger."""
    edges = np.linspace(0, max(plain.steps, normed.steps), STRETCHES + 1)
    pairs = [[_mean_of(each, of, *ends) for each in (plain, normed)] for ends in zip(edges, edges[1:])]
    return sum(b < a for a, b in pairs), sum(b > a for a, b in pairs)


# What batch norm may do to a series, and what of which band is then smaller.
COMPARED = {"lower": (band, "middle"), "narrower": (band, "width"), "steadier": (unsteadiness, "middle")}


def compare(
    plain: Mapping[str, list[Record]], normed: Mapping[str, list[Record]], store: Store, what: str, word: str
) -> tuple[str, int, int]:
    """Whether the series `what` is lower, narrower or steadier with batch norm: a verdict, won stretches, of how many.

    `word` is one of COMPARED: lower and narrower are said of the band over all runs, steadier of what happens in each.
    """
    measure, of = COMPARED[word]
    pair = [measure(rows, store, what) for rows in (plain, normed)]
    won, lost = stretches_won(*pair, of)
    return smaller(*pair, of), won, won + lost


def smaller(plain: Band, normed: Band, of: str) -> str:
    """Whether the "middle" or the "width" of a band is smaller with batch norm than without: a verdict.

    The run is cut into 20 equal stretches and the means in each compared: a two-sided sign test at 5 % (15 of 20).
    A run that diverged counts as infinite from there on. Neighbouring stretches are alike, so the bar is a low one.
    """
    if any(each.measured < each.runs or not len(each.at) for each in (plain, normed)):
        return "not measured yet"
    won, lost = stretches_won(plain, normed, of)
    if _sign_test(won, lost) > 0.05:
        return "within noise"
    return "holds" if won > lost else "does not hold"


def _sign_test(won: int, lost: int) -> float:
    """The probability of a result at least as uneven from a fair coin."""
    count, most = won + lost, max(won, lost)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(most, count + 1)) / 2**count)


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


def band_words(found: Mapping[str, Band]) -> str:
    """How the two bands of a quantity compare, in two sentences, with a verdict on each."""
    plain, normed = found[PLAIN], found[NORMED]
    if not (len(plain.at) and len(normed.at)):
        return "Not measured yet."
    lower, narrower = (
        f"**{smaller(plain, normed, of)}** ({won} of {won + lost} stretches of the run)"
        for of in ("middle", "width") for won, lost in [stretches_won(plain, normed, of)]
    )  # fmt: skip
    higher, broader = (text(ratio(plain, normed, of)) for of in ("middle", "width"))
    return (
        f"Without batch norm the middle of the band lies {higher} times as high as with it, and the band is {broader} "
        f"times as wide; it is the wider one at {100 * wider(plain, normed):.0f} % of the steps. "
        f"That batch norm lowers it: {lower}; that it narrows it: {narrower}."
    )


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
            _, won, of = compare(*pair.values(), store, what, "steadier")
            entries.append(
                {"quantity": name, "rate": rate.removeprefix("lr "), **means, "steadier with": won, "of": of}
            )
    frame = pd.DataFrame(entries)
    texts = frame.map(text).drop(columns="of")
    texts["steadier with"] = [f"{row['steadier with']} of {row['of']} stretches" for row in entries]
    caption = "How far a quantity jumps from one measurement to the next within a run: mean of |ln(after / before)|."
    return Table(frame, caption, texts, left=("rate",))


def by_budget(rows: Mapping[str, Run], selection: Selection, store: Store, quantities: Mapping[str, str]) -> Table:
    """What batch norm does to each of `quantities` (name → series) in every budget: a verdict, and stretches won.

    Over the rates of which both networks have a record in each: longer runs and other rates are two changes.
    """
    budgets = {**selection.smaller, selection.budget: selection, **selection.larger}
    known = [paired(networks(rows, budgets[budget])) for budget in BUDGETS if budget in budgets]
    known = [rates for rates in known if rates[PLAIN]]
    common = [rate for rate in known[0][PLAIN] if all(rate in rates[PLAIN] for rates in known)] if known else []
    entries = []
    for name, what in quantities.items():
        for rates in known if common else []:
            plain, normed = ({rate: rates[network][rate] for rate in common} for network in (PLAIN, NORMED))
            verdicts = {word: compare(plain, normed, store, what, word) for word in COMPARED}
            words = {word: f"{verdict} ({won} of {of})" for word, (verdict, won, of) in verdicts.items()}
            epochs = plain[common[0]][0].run.epochs
            entries.append({"quantity": name, "epochs": epochs, "rates": len(common), **words})
    frame = pd.DataFrame(entries, columns=["quantity", "epochs", "rates", *COMPARED])
    caption = "What batch norm does in shorter and longer runs, over the rates that all have: verdict, stretches."
    return Table(frame, caption, left=tuple(COMPARED))


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
