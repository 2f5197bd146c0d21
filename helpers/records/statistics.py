"""What is computed of a row's records: means, spreads, and which of them learned."""

import statistics

from helpers.records.store import Record

GUESSING = 0.2  # twice the accuracy of guessing among ten classes


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
