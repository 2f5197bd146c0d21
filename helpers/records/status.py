"""Which rows have a record, as `python -m helpers status` tells it."""

from collections.abc import Mapping
from typing import Any

from helpers import experiments
from helpers.experiments import Run
from helpers.records.statistics import accuracies, learned, mean, std
from helpers.records.store import ROOT, Record, Store


def status(store: Store, budgets=("paper",), rows=None, scanned=None) -> list[dict[str, Any]]:
    """One entry for each row and budget, as `python -m helpers status --json` prints it.

    `state` is that of the row's runs together: running before pending before stale before diverged before done. Of
    `n` seeds that have a record, `learned` did better than guessing; if any did, `accuracy` and `std` are theirs alone.
    A record is stale, too, if a file beside it is at fault. `scanned`: what `store.scan()` gave, where it was asked.
    """
    rows = experiments.rows() if rows is None else rows
    known, faults = store.scan() if scanned is None else scanned
    stale = {name for name, record in known.items()
             if record.stale or any(store.folder / each in faults for each in record.files)}  # fmt: skip
    return [_entry(row, budget, store, known, stale) for budget in budgets for row in rows]


def orphans(known: Mapping[str, Record], store: Store) -> list[str]:
    """A line for each of the records `known` that belongs to no declared row."""
    made = [run for row in experiments.rows() for budget in experiments.BUDGETS
            for run in experiments.replicas(row.run, budget)]  # fmt: skip
    declared = {each.name for run in made for each in (run, *run.all_needs)}
    return [f"{store.folder / name}.json is the record of no declared row: declare the row, or move the file away"
            for name in known if name not in declared]  # fmt: skip


def _entry(row: experiments.Row, budget: str, store: Store, known: dict[str, Record], stale: set[str]) -> dict:
    runs = experiments.replicas(row.run, budget)
    records = [known[run.name] for run in runs if run.name in known]
    states = {_state(run, store, known, stale) for run in runs}
    path = store.path(records[0].run) if records else None
    return {
        "section": row.section,
        "table": row.table,
        "row": row.label,
        "budget": budget,
        "state": next(state for state in ("running", "pending", "stale", "diverged", "done") if state in states),
        "accuracy": mean(accuracies(records)),
        "reported": experiments.reported(row.section, row.table, row.label).accuracy,
        "record": path and (path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)),
        "std": std(accuracies(records)),
        "n": len(records),
        "learned": sum(map(learned, records)),
        "seeds": len(runs),
        "seconds": mean(record.seconds for record in records),
    }


def _state(run: Run, store: Store, known: dict[str, Record], stale: set[str]) -> str:
    if run.name in known and run.name not in stale:
        return known[run.name].state
    return "running" if store.running(run) else "stale" if run.name in stale else "pending"
