"""The settings of some runs as a table, printed from the runs themselves. Nothing is read from records."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from helpers.experiments import BELONGS, Cyclic, Exponential, Run, Steps
from helpers.show.grid import Grid
from helpers.show.text import listed

NAMED = {
    "data": "data", "model": "network", "options": "its options", "start": "starts from", "optimizer": "optimizer",
    "lr": "learning rate", "schedule": "schedule", "momentum": "momentum", "kappa": "κ", "mu": "ν", "lam": "λ",
    "penalized": "penalised layers", "weight_decay": "weight decay", "loss": "loss", "epochs": "epochs",
    "batch_size": "batch size", "augment": "augmentation", "normalize": "inputs", "precision": "precision",
}  # fmt: skip
ALWAYS = ("data", "model", "optimizer", "lr", "schedule", "loss", "epochs", "batch_size", "augment", "normalize")
WORDS = {
    "cifar10": "CIFAR-10", "mnist": "MNIST", "sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop",
    "dessilbi": "DessiLBI", "dessilbi_adam": "DessiLBI with Adam", "linbreg": "LinBreg", "adabreg": "AdaBreg",
    "nll": "negative log-likelihood", "cross_entropy": "cross-entropy", "auto": "bfloat16 where that is faster",
}  # fmt: skip
INPUTS = {True: "less their mean, by their deviation", False: "from 0 to 1", "symmetric": "from −1 to 1"}


def settings(runs: Iterable[Run]) -> Grid:
    """A line a setting, with several values where the runs differ; what none of them has or changes is left out."""
    runs, lines = list(runs), []
    for field, name in NAMED.items():
        having = [run for run in runs if run.optimizer in BELONGS.get(field, (run.optimizer,))]
        default = Run.model_fields[field].default
        if field in ALWAYS or any(getattr(run, field) != default for run in having):
            values = dict.fromkeys(_in_words(run, field) for run in having)
            lines.append({"setting": name, "value": " · ".join(values)})
    return Grid(pd.DataFrame(lines), "The settings of these runs, and all values that they have.", left=("value",))


def _in_words(run: Run, field: str) -> str:
    value = getattr(run, field)
    if field == "schedule":
        return _schedule(run)
    if field == "normalize":
        return INPUTS[value]
    if field == "start":
        return "new weights" if value is None else "trained weights"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(each)}" for name, each in value.items()) or "its own"
    return _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " and ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else WORDS.get(value, str(value))


def _schedule(run: Run) -> str:
    schedule, epochs = run.schedule, run.epochs
    words = schedule.kind
    if isinstance(schedule, Cyclic):
        words = f"cyclic up to {schedule.high:g}"
    elif isinstance(schedule, Exponential):
        words = f"× {schedule.factor:.3g} after every {_epochs(schedule.every * epochs)}"
    elif isinstance(schedule, Steps):
        drops = [f"× {schedule.factor:g} after {_epochs(at * epochs)}" for at in schedule.at]
        words = listed(drops) if drops else "constant"
    warmup = getattr(schedule, "warmup", 0) * epochs
    return f"{words}, {_epochs(warmup)} of warm-up" if warmup else words


def _epochs(count: float) -> str:
    return f"{count:.3g} epoch{'s' * (f'{count:.3g}' != '1')}"
