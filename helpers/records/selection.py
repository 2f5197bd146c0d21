"""Which records a table shows. Nothing is computed of them here."""

import math
from collections.abc import Hashable, Mapping, Sequence

from helpers import experiments
from helpers.experiments import Run
from helpers.records.store import Record, Store


class Selection(Mapping):
    """The records behind the rows of one table, all of one budget: label → list of Record, one for each seed done.

    `budget`: the largest in which every row is there, else the one with the most rows. `missing`: the labels without a
    complete set of records. `larger`: budget → the same mapping, for what exists in larger budgets, incomplete there.
    `smaller`: budget → the same mapping, for what exists in smaller ones.
    """

    def __init__(self, budget: str, records: dict[str, list[Record]], missing: list[str], larger: dict[str, dict],
                 smaller: dict[str, dict] | None = None):  # fmt: skip
        self.budget, self.missing, self.larger, self.smaller = budget, missing, larger, smaller or {}
        self._records = records

    def __getitem__(self, label: str) -> list[Record]:
        return self._records[label]

    def longest(self, label: str) -> list[Record]:
        """The records of a row in the largest budget that has any of it."""
        return next((rows[label] for rows in self.larger.values() if rows[label]), self[label])

    def __iter__(self):
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def gather(rows: Mapping[str, Run], budget: str, store: Store) -> tuple[dict[str, list[Record]], list[str]]:
    """label → the records of `rows` in `budget`, and the labels of which some are missing or stale."""
    found, missing = {}, []
    for label, run in rows.items():
        runs = experiments.replicas(run, budget)
        records = [record for record in map(store.readable, runs) if record and not record.stale]
        found[label] = records
        if len(records) < len(runs):
            missing.append(label)
    return found, missing


def select(rows: Mapping[str, Run], store: Store | None = None, budget: str | None = None) -> Selection:
    """What there is to show of `rows` (label → Run): in `budget`, or in the largest budget that is complete."""
    store = store or Store()
    budgets = tuple(reversed(experiments.BUDGETS[1:]))
    if budget is not None:  # no larger one is looked at
        budget = experiments.find("budget", budget, experiments.BUDGETS)
        budgets = budgets[budgets.index(budget) :] if budget in budgets else (budget,)
    known = {each: gather(rows, each, store) for each in budgets}
    there = {each: records for each, (records, _) in known.items() if any(records.values())}
    fullest = max(there, key=lambda each: sum(map(bool, there[each].values())), default="laptop")
    chosen = budget or next((each for each, (_, missing) in known.items() if not missing), fullest)
    place = budgets.index(chosen)
    larger, smaller = ({each: there[each] for each in part if each in there}
                       for part in (budgets[:place], budgets[place + 1 :]))  # fmt: skip
    return Selection(chosen, *known[chosen], larger, smaller)


def timed(rows: Mapping[str, list[Record]], label: str) -> list[Record]:
    """The records that tell how long an epoch of a row takes: those of all budgets that a Selection has at hand."""
    budgets = [rows]
    if isinstance(rows, Selection):
        budgets += [*rows.larger.values(), *rows.smaller.values()]
    return [record for each in budgets for record in each[label]]


def times(rows: Mapping[Hashable, Sequence[Record]]) -> tuple[dict[Hashable, float | None], str]:
    """Seconds of the fastest epoch of each row, and where: on the machine that most of the rows were made on.

    None for a row that has no record of there, since times of several machines don't compare. Of two machines with as
    many rows it is the processor: runs that share an accelerator slow each other.
    """
    there: dict[str, dict[Hashable, float]] = {}
    shared = set()
    for label, found in rows.items():
        for record in found:
            if record.fastest_epoch:
                known = there.setdefault(record.timed_on, {})
                known[label] = min(record.fastest_epoch, known.get(label, math.inf))
                shared |= {record.timed_on} if "accelerator" in record.machine else set()
    where = max(there, key=lambda place: (len(there[place]), place not in shared), default="")
    return {label: there.get(where, {}).get(label) for label in rows}, where
