"""What is computed of a row's records: means, spreads, intervals, verdicts, and which runs learned. No other place
decides what a difference proves; nothing is read or shown here."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scipy.special import stdtrit

from helpers.records.store import Record

GUESSING = 0.2  # twice the accuracy of guessing among ten classes
CONFIDENCE = 0.95  # of every interval

HOLDS, FAILS, OPEN, ONE_RUN, UNMEASURED = "holds", "does not hold", "open", "open (one run)", "not measured yet"
IN_PART = "holds in part"
VERDICTS = (HOLDS, IN_PART, FAILS, OPEN, ONE_RUN, UNMEASURED)


def mean(values) -> float | None:
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None


def std(values) -> float | None:
    """The sample standard deviation; None for fewer than two values."""
    values = [value for value in values if value is not None]
    return statistics.stdev(values) if len(values) > 1 else None


def accuracies(records: list[Record]) -> list[float]:
    """The test accuracies of one row's records that count: see `alive`; without those that diverged."""
    return [record.test.accuracy for record in alive(records) if record.test]


def learned(record: Record) -> bool:
    """Whether a run does better than guessing; one that diverged, or whose units all died, does not."""
    return record.test is not None and record.test.accuracy > GUESSING


def alive(records: list[Record]) -> list[Record]:
    """Those of a row's records that learned something, or all of them if none did: a mean over both means nothing."""
    return [record for record in records if learned(record)] or list(records)


# ------------------------------------------------------------------------------------------ intervals


class Spread(NamedTuple):
    """The standard deviation of one run over its seeds, and the degrees of freedom that it is known with; NaN and 0
    where no row has several seeds."""

    std: float
    freedom: int


class Interval(NamedTuple):
    """A number and where it lies with 95 % confidence; from −∞ to ∞ where nothing tells its spread."""

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def pooled(rows: Iterable[Sequence[float]]) -> Spread:
    """The standard deviation of one run, pooled over rows of values, one value a seed."""
    repeated = [row for row in rows if len(row) > 1]
    freedom = sum(len(row) - 1 for row in repeated)
    squares = sum((len(row) - 1) * statistics.variance(row) for row in repeated)
    return Spread(math.sqrt(squares / freedom) if freedom else math.nan, freedom)


def difference(ours: Sequence[float], theirs: Sequence[float], spread: Spread) -> Interval:
    """The mean of `ours` less that of `theirs`, and its confidence interval (Student's t)."""
    value = statistics.fmean(ours) - statistics.fmean(theirs)
    return _around(value, spread, 1 / len(ours) + 1 / len(theirs))


def average(values: Sequence[float], spread: Spread) -> Interval:
    """The mean of `values`, and its confidence interval."""
    return _around(statistics.fmean(values), spread, 1 / len(values))


def expected(values: Sequence[float], spread: Spread) -> Interval:
    """The mean of `values`, and the interval in which one further run is to be expected: a prediction interval."""
    return _around(statistics.fmean(values), spread, 1 + 1 / len(values))


def by_chance(spread: Spread) -> float:
    """By how much two single runs of one row differ in one case of twenty: t · s · √2; NaN if s is not known."""
    return _around(0, spread, 2).high if spread.freedom else math.nan


def _around(value: float, spread: Spread, share: float) -> Interval:
    """`value` ± t · s · √share."""
    if not spread.freedom:
        return Interval(value, -math.inf, math.inf)
    half = float(stdtrit(spread.freedom, (1 + CONFIDENCE) / 2)) * spread.std * math.sqrt(share)
    return Interval(value, value - half, value + half)


# ------------------------------------------------------------------------------------------ verdicts


def verdict(found: Interval, counts: Sequence[int], above: float = 0.0, below: float = math.inf) -> str:
    """Whether a number that is claimed to lie between `above` and `below` does: its whole interval has to.

    `counts`: of how many runs each of the rows is; a single run leaves it open, however far apart two are.
    """
    if math.isnan(found.value):
        return UNMEASURED
    if min(counts) < 2:
        return ONE_RUN
    if above < found.low and found.high < below:
        return HOLDS
    return FAILS if found.high <= above or found.low >= below else OPEN


def leans(value: float, above: float = 0.0, below: float = math.inf) -> str:
    """Which way a number points that proves nothing: "for" the claim that it lies between two others, or "against"."""
    return "for" if above < value < below else "against"


def together(verdicts: Iterable[str]) -> str:
    """The verdict on a claim of several parts: in part, if it holds for some; else that of the part that says most."""
    found = set(verdicts)
    if UNMEASURED in found or not found:
        return UNMEASURED
    if len(found) == 1:
        return found.pop()
    return IN_PART if found & {HOLDS, IN_PART} else next(each for each in (FAILS, ONE_RUN, OPEN) if each in found)
