"""Which records a table shows, one budget at a time. Nothing is computed of them here."""

import math
import os
from collections.abc import Hashable, Mapping, Sequence

from helpers import experiments
from helpers.experiments import Run
from helpers.records.store import Record, Store


class Selection(dict[str, list[Record]]):
    """The records behind the rows of one table in one budget: label → list of Record, one for each seed done.

    `missing`: the labels without a complete set of records.
    """

    def __init__(self, budget: str, records: Mapping[str, list[Record]], missing: list[str]):
        super().__init__(records)
        self.budget, self.missing = budget, missing


def shown_budget(budget: str | None = None) -> str:
    """The budget whose records are shown: the one asked for, else REPORT_BUDGET of the environment, else "paper"."""
    return experiments.find("budget", budget or os.environ.get("REPORT_BUDGET") or "paper", experiments.BUDGETS)


def select(rows: Mapping[str, Run], store: Store | None = None, budget: str | None = None) -> Selection:
    """What there is to show of `rows` (label → Run) in a budget; see `shown_budget`."""
    store, budget = store or Store(), shown_budget(budget)
    found, missing = {}, []
    for label, run in rows.items():
        runs = experiments.replicas(run, budget)
        found[label] = [record for record in map(store.readable, runs) if record and not record.stale]
        if len(found[label]) < len(runs):
            missing.append(label)
    return Selection(budget, found, missing)


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
