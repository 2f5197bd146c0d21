"""The settings of some runs as a table, printed from the runs themselves. Nothing is read from records."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from helpers.experiments import BELONGS, Cyclic, Exponential, Run, Steps
from helpers.show.grid import Grid
from helpers.show.text import DASH, listed

NAMED = {
    "data": "data", "model": "network", "options": "network options", "start": "starts from", "optimizer": "optimizer",
    "lr": "learning rate", "schedule": "schedule", "momentum": "momentum", "nesterov": "Nesterov momentum",
    "kappa": "κ", "mu": "ν", "lam": "λ",
    "penalized": "penalised layers", "weight_decay": "weight decay", "loss": "loss",
    "label_smoothing": "label smoothing", "average": "averaged weights, share that stays at each step",
    "flipped": "tested on mirror images as well", "epochs": "epochs",
    "batch_size": "batch size", "augment": "augmentation", "normalize": "inputs", "validation": "trained on",
    "precision": "precision",
}  # fmt: skip
ALWAYS = ("data", "model", "optimizer", "lr", "schedule", "loss", "epochs", "batch_size", "augment", "normalize")
WORDS = {
    "cifar10": "CIFAR-10", "mnist": "MNIST", "sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop",
    "dessilbi": "DessiLBI", "dessilbi_adam": "DessiLBI with Adam", "linbreg": "LinBreg", "adabreg": "AdaBreg",
    "nll": "negative log-likelihood", "cross_entropy": "cross-entropy", "auto": "bfloat16 where that is faster",
}  # fmt: skip
INPUTS = {True: "normalised to mean 0, deviation 1", False: "from 0 to 1", "symmetric": "from −1 to 1"}


def settings(runs: Iterable[Run]) -> Grid:
    """A line a setting, with several values where the runs differ; what none of them has or changes is left out."""
    runs, lines = list(runs), []
    for field, name in NAMED.items():
        having = [run for run in runs if run.optimizer in BELONGS.get(field, (run.optimizer,))]
        default = Run.model_fields[field].default
        if having and (field in ALWAYS or any(getattr(run, field) != default for run in having)):
            values = dict.fromkeys(_in_words(run, field) for run in having)
            lines.append({"setting": name, "value": " · ".join(values)})
    return Grid(pd.DataFrame(lines), "Settings of these runs; several values where they differ.", left=("value",))


def differences(runs: Mapping[str, Run]) -> Grid:
    """A line a row (label → Run) with the settings that are not the same in all; the caption has those that are."""
    common = dict(settings(runs.values()).frame.itertuples(index=False))
    columns = {name: [_cell(run, field) for run in runs.values()] for field, name in NAMED.items() if name in common}
    apart = {name: cells for name, cells in columns.items() if len(set(cells)) > 1}
    frame = pd.DataFrame({"": list(runs), **apart})
    same = "; ".join(f"{name} {value}" for name, value in common.items() if name not in apart)
    return Grid(frame, f"In what these runs differ. In common they have: {same}.", left=list(frame.columns))


def _cell(run: Run, field: str) -> str:
    """A setting in words; a dash for one that the run's optimizer doesn't have."""
    return _in_words(run, field) if run.optimizer in BELONGS.get(field, (run.optimizer,)) else DASH


def _in_words(run: Run, field: str) -> str:
    value = getattr(run, field)
    if field == "schedule":
        return _schedule(run)
    if field == "normalize":
        return INPUTS[value]
    if field == "validation":
        return "all but 10,000 images" if value == "held_out" else "all images"
    if field == "penalized":
        return _plain(value) if value else "all"
    if field == "start":
        return "new weights" if value is None else "trained weights"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(each)}" for name, each in value.items()) or "default"
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
        words = f"× {schedule.factor:.3g} after every {_epochs(schedule.every * epochs).removeprefix('1 ')}"
    elif isinstance(schedule, Steps):
        drops = [f"× {schedule.factor:g} after {_epochs(at * epochs)}" for at in schedule.at]
        words = listed(drops) if drops else "constant"
    warmup = getattr(schedule, "warmup", 0) * epochs
    return f"{words}, {_epochs(warmup)} of warm-up" if warmup else words


def _epochs(count: float) -> str:
    return f"{count:.3g} epoch{'s' * (f'{count:.3g}' != '1')}"
