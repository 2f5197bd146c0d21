"""The checkpoint of a run: written whole or not at all, and read with suspicion. One that doesn't fit is set aside and
told in one line; it never stops a run, and never runs code."""

import io
import itertools
import math
import pickle
import zipfile
from collections.abc import Callable

import torch

from helpers import fast, records, training
from helpers.experiments import Run
from helpers.fast.build import CompilerError
from helpers.records import RecordError, Store
from helpers.runner.progress import tell


def save(store: Store, watching: dict, begun: dict, trainer: training.Trainer) -> None:
    """Writes where a run is: the trainer, its probes (name → probe), and how it began."""
    measured = {name: probe.state_dict() for name, probe in watching.items()}
    write(trainer.run, store, {**trainer.state_dict(), "probes": measured, **begun})


def write(run: Run, store: Store, state: dict) -> None:
    buffer = io.BytesIO()  # torch.save itself hides why a disk can't be written
    torch.save({**state, "origin": _origin(run)}, buffer)
    store.replace(store.checkpoint(run), buffer.getvalue())


def _origin(run: Run) -> dict[str, str | int]:
    """What a checkpoint belongs to: continued by anything else, a run would not end at the same weights."""
    return {"run": run.name, "recipe": records.store.RECIPE, "torch": str(torch.__version__)}


def resume(run: Run, store: Store, build: Callable[[dict], tuple]):
    """What `build` makes of the run's checkpoint; None, with the reason told, if there is none that can be used.

    RecordError if the checkpoint is whole and its device, or the compiler that it needs, isn't here.
    """
    path = store.checkpoint(run)
    if not path.exists():
        return None
    try:
        return build(_read(run, store))
    except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError, RecordError):  # no fault of the checkpoint
        raise
    except CompilerError as error:
        raise RecordError(f"{run.name} was begun with compiled operators, and now {error}; or delete {path}") from None
    except Exception as error:  # torch raises a different class for each kind of damage
        pickled = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than weights" if pickled else str(error).strip().split("\n")[0][:100]
        tell(f"checkpoint {path} can't be used ({reason}): kept as {store.set_aside(path).name}, the run starts again")
        return None


def _read(run: Run, store: Store) -> dict:
    path = store.checkpoint(run)
    if not path.is_file():
        raise ValueError("it is no regular file")
    with zipfile.ZipFile(path) as archive:  # torch writes checksums, but does not look at them
        if damaged := archive.testzip():
            raise ValueError(f"its part {damaged} is damaged")
    state = torch.load(path, weights_only=True, map_location="cpu")
    for what, here in _origin(run).items():
        if state["origin"][what] != here:
            raise ValueError(f"it is of {what} {state['origin'][what]}, this is {what} {here}")
    device = fast.Engine(**state["engine"]).device
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise RecordError(
            f"{run.name} was begun on {device}, which is not here: go on there, or delete {path}"
        ) from None
    _check("fingerprint", _numbers(state["fingerprint"]) and len(state["fingerprint"]) <= training.FINGERPRINT_STEPS)
    _check("revisions", isinstance(state["revisions"], list) and all(isinstance(x, str) for x in state["revisions"]))
    return state


def load(trainer: training.Trainer, watching: dict, state: dict, steps: int) -> None:
    """Puts trainer and probes (name → probe) where `state` is. ValueError if the run can't be there.

    `steps`: those of an epoch.
    """
    step, total, history = state["step"], trainer.run.epochs * steps, state["history"]
    _check("step", type(step) is int and 0 <= step <= total)
    _check("end", state["diverged_at"] is None)
    _check("seconds", type(state["seconds"]) is float and 0 <= state["seconds"] < math.inf)
    _check("history", isinstance(history, dict) and history.keys() == set(training.HISTORY))
    _check("history", all(_numbers(values) and len(values) == step // steps for values in history.values()))
    _check("losses", all(state[name].shape == (total,) for name in ("losses", "correct")))
    trainer.load_state_dict(state)
    for parameter, kept in trainer.optimizer.state.items():
        for name, value in kept.items():
            _check(name, not torch.is_tensor(value) or not value.ndim or value.shape == parameter.shape)
    for name, probe in watching.items():
        _check_probe(name, state["probes"][name], trainer)
        probe.load_state_dict(state["probes"][name])


def _check_probe(name: str, state: dict, trainer: training.Trainer) -> None:
    """What a probe's own `load_state_dict` doesn't look at: that its tensors are some, and a gradient the model's."""
    previous, kept = state.get("previous"), itertools.chain(*state.get("kept", []))
    _check(name, all(map(torch.is_tensor, (*state["series"].values(), *kept))))
    if previous is not None:
        _check(name, [x.shape for x in previous] == [x.shape for x in trainer.model.parameters()])


def _check(what: str, fits: bool) -> None:
    if not fits:
        raise ValueError(f"its {what} can't be that of this run")


def _numbers(values) -> bool:
    return isinstance(values, list) and all(type(value) is float for value in values)
