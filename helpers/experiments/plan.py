"""How long and how often each run is made: budgets, seeds, order; and the look-ups by section, table and row. It names
runs, and makes none."""

import difflib
import functools
from collections.abc import Collection
from typing import NamedTuple

from helpers.experiments import tables
from helpers.experiments.run import Mask, Run, replace, reseed, with_needs

BUDGETS = ("smoke", "laptop", "paper")  # from the cheapest to the report's own
LAPTOP_EPOCHS = {"MyNet": 10, "MyResNet9": 10, "VGG": 5}  # what is not named here is trained in full
LAPTOP_LANDSCAPE_EPOCHS = 3  # of runs whose gradients are measured
SMOKE_EPOCHS, SMOKE_IMAGES = 2, 128
# Seconds an epoch on one core with bfloat16: short runs go before long ones, and what is left is estimated by them.
SECONDS_PER_EPOCH = {"LeNet": 5, "MyNet": 27, "VGG": 200, "MyResNet9": 208}
UNKNOWN_SECONDS = 100  # of a network that is not among them yet
IN_FLOAT32, PROBED = 2.0, 1.35  # times as long in float32, and with gradients measured along the way

# The runs that the report's main claims hang on: first among the long ones.
HEADLINE = {
    tables.base, tables.SECTION_1["1.2 batch norm"]["without"], tables.best, tables.final, tables.vgg, tables.vgg_bn,
    tables.cifar_dessilbi, tables.cifar_adam,
}  # fmt: skip
# How often a run is repeated, with seeds 0, 1, …; once unless named here.
_claimed = {
    *tables.SECTION_1["1.2 batch norm"].values(), *tables.SECTION_1["1.4 loss"].values(),
    tables.SECTION_1["1.6 activation"]["tanh"], tables.final, tables.vgg, tables.vgg_bn,
}  # fmt: skip
_by_section = {section: {run for runs in each.values() for run in runs.values()}
               for section, each in tables.SECTIONS.items()}  # fmt: skip
_searched = _by_section.pop("readings")
_shown = set().union(*_by_section.values())
_declared = _shown | _searched
# A figure over four rates, and searches.
_once = {*tables.landscape_runs.values(), *tables.nearby.values()} | _searched - _shown
SEEDS: dict[str, dict[Run, int]] = {
    "laptop": {
        **{run: 3 for run in _declared if run in _claimed or run.data == "mnist" and run not in _once},
        # With three, the precisions lay just beyond noise apart.
        **{run: 8 for run in (tables.best, tables.in_float32)},
    },
    "paper": {run: 3 for run in _declared if run not in _once},
    "smoke": {},
}
# The runs whose test predictions and first-layer filters are kept, since a figure shows them.
DRAWN = {tables.best, tables.final, tables.by_lot}
# The runs whose weights are kept, to be looked at or built on; those that another run starts from are kept as well.
KEPT = {
    tables.mnist_sgd, tables.mnist_sgd_stated, tables.mnist_sgd_warm, tables.mnist_sgd_dropped, tables.mnist_dessilbi,
    tables.mnist_warm, tables.longest, *tables.pulls.values(),
    *tables.SECTION_3_1["other ways to sparse filters"].values(),
}  # fmt: skip


# ------------------------------------------------------------------------------------------ budgets


def at(run: Run, budget: str) -> Run:
    """`run` as the budget affords it: "paper" in full, "laptop" with fewer epochs, "smoke" on some images."""
    budget = find("budget", budget, BUDGETS)
    if budget == "paper":
        return run
    if budget == "smoke":
        changes = dict(epochs=SMOKE_EPOCHS, images=SMOKE_IMAGES)
    else:
        most = LAPTOP_LANDSCAPE_EPOCHS if "smoothness" in run.probes else LAPTOP_EPOCHS.get(run.model, run.epochs)
        changes = dict(epochs=min(run.epochs, most))
    shorter = with_needs(run, lambda needed: at(needed, budget), **changes)
    if run.mask and shorter.mask.epoch > shorter.mask.of.epochs:
        return replace(shorter, mask=Mask(**{**dict(shorter.mask), "epoch": shorter.mask.of.epochs}))
    return shorter


# ------------------------------------------------------------------------------------------ looking things up


class Row(NamedTuple):
    """One row of a table, with the run that makes it in the report's own budget."""

    section: str
    table: str
    label: str
    run: Run


class UnknownName(ValueError):
    """A section, table, row or budget that does not exist; the message names the nearest that do."""


def find(what: str, name: str, names) -> str:
    """The one of `names` that `name` means: itself, or the only one that contains it. Raises UnknownName."""
    names = list(dict.fromkeys(names))
    if name in names:
        return name
    matches = [candidate for candidate in names if name.lower() in candidate.lower()]
    if len(matches) == 1 and name:
        return matches[0]
    near = matches or difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
    raise UnknownName(f"{what} {name!r} is unknown: did you mean {' or '.join(repr(n) for n in near)}?")


def title(section: str, table: str) -> str:
    """A table's name with its section's number."""
    return table if table[0].isdigit() else f"{section} {table}"


def rows(section: str | None = None, table: str | None = None, row: str | None = None) -> list[Row]:
    """The declared rows, all of them or those of one section, table (as in `title`) or label. Raises UnknownName."""
    chosen = [Row(each, table_, label, run) for each, named in tables.SECTIONS.items()
              for table_, runs in named.items() for label, run in runs.items()]  # fmt: skip
    if section is not None:
        # A section is exact: "1" is not short for "1.9".
        if section not in tables.SECTIONS:
            raise UnknownName(f"section {section!r} is unknown: there are {', '.join(tables.SECTIONS)}")
        chosen = [each for each in chosen if each.section == section]
    if table is not None:
        table = find("table", table, [title(each.section, each.table) for each in chosen])
        chosen = [each for each in chosen if title(each.section, each.table) == table]
    if row is not None:
        row = find("row", row, [each.label for each in chosen])
        chosen = [each for each in chosen if each.label == row]
    return chosen


def replicas(run: Run, budget: str) -> list[Run]:
    """The runs behind one row in `budget`: one for each declared seed."""
    affordable = at(run, budget)
    return [reseed(affordable, seed) for seed in range(SEEDS[budget].get(run, 1))]


def order(run: Run, budget: str) -> tuple:
    """Sorts pending runs usefully: laptop before paper, there headline first; first seeds, then short before long."""
    headline = _is_one_of(run, HEADLINE)
    later = budget == "paper" and not headline
    return BUDGETS.index(budget), later, run.seed > 0, estimated_seconds(run), not headline


def estimated_seconds(run: Run) -> float:
    """About how long a run takes on one core with bfloat16."""
    slower = IN_FLOAT32 if run.precision == "float32" else 1
    slower *= PROBED if {"gradient_change", "smoothness", "along_gradient"} & set(run.probes) else 1
    epochs = run.epochs * (run.images / 40_000 if run.images else 1)
    return SECONDS_PER_EPOCH.get(run.model, UNKNOWN_SECONDS) * slower * epochs


def outlook(runs: Collection[Run]) -> str:
    """What making some runs means, in words: "3 runs to make, about 1.5 hours of one core with bfloat16"."""
    minutes = sum(map(estimated_seconds, runs)) / 60
    time = f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute"
    return f"{len(runs)} run{'s' * (len(runs) != 1)} to make, about {time} of one core with bfloat16"


@functools.lru_cache
def _in_every_budget(declared: frozenset[Run]) -> frozenset[Run]:
    return frozenset(at(run, budget) for run in declared for budget in BUDGETS)


def _is_one_of(run: Run, declared: set[Run]) -> bool:
    return reseed(run, 0) in _in_every_budget(frozenset(declared))


def is_drawn(run: Run) -> bool:
    """Whether a figure shows the predictions and filters of `run`, in whatever budget."""
    return _is_one_of(run, DRAWN)


def keeps_weights(run: Run) -> bool:
    """Whether the weights of `run`, in whatever budget, are kept beside its record: a run in KEPT, or one that a
    declared run, or what that needs, starts from."""
    declared = (each for row in rows() for each in (row.run, *row.run.all_needs))
    return _is_one_of(run, KEPT | {each.start for each in declared if each.start})
