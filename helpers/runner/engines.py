"""Which engine a run gets, timed once for each model on this machine and kept in `engines.json`. What a file says of an
engine is checked before anything is started with it."""

import contextlib
import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import torch
from filelock import FileLock

from helpers import fast, records, training
from helpers.experiments import Run
from helpers.records import Store
from helpers.runner.provenance import processor

MOST_THREADS = 1024  # more than a machine has cores, few enough to be started
ALLOWED = {
    "precision": ("float32", "bfloat16"), "memory_format": ("contiguous", "channels_last"),
    "convolutions": ("direct", "matmul", "winograd"), "fused": (False, True),
}  # fmt: skip


def choose(run: Run, store: Store, settings) -> fast.Engine:
    """The engine for `run`, timed once for each model on this machine, so that one table has one precision."""
    device, threads, precision = settings.device, settings.threads, settings.precision
    if run.precision != "auto":
        precision = run.precision
    if run.images:  # too few steps for the choice to pay
        return fast.Engine(device, "float32" if precision == "auto" else precision, "contiguous", threads)
    described = f"{run.model} batch {run.batch_size}, {device} {precision}, {threads} threads on {processor()}, " \
                f"torch {torch.__version__}"  # fmt: skip
    path = store.work / "engines.json"
    with FileLock(store.work / "engines.lock"):
        known = _known(path)
        if described not in known or not known[described].compiles_here:
            known[described] = fast.choose_engine(run, training.Trainer, device, threads, precision)
            store.replace(path, json.dumps({key: asdict(each) for key, each in known.items()}, indent=1).encode())
    return known[described]


def _known(path: Path) -> dict[str, fast.Engine]:
    """The engines chosen so far; none of a file that is damaged, since they can be timed again.

    Those chosen when there were fewer to choose from, which don't say all that an engine is, are timed again as well.
    """
    said, known = {field.name for field in fields(fast.Engine)}, {}
    with contextlib.suppress(records.RecordError, ValueError, AttributeError, RecursionError):
        for key, each in json.loads(records.read(path)).items():
            with contextlib.suppress(ValueError):
                if isinstance(each, dict) and set(each) == said:
                    known[key] = checked(each)
    return known


def checked(said: dict) -> fast.Engine:
    """The engine that a file describes. Raises ValueError for one that could not be, or could not be started."""
    if not isinstance(said, dict) or set(said) != {field.name for field in fields(fast.Engine)}:
        raise ValueError(f"its engine is {said!r:.40}")
    engine = fast.Engine(**said)
    for name, allowed in ALLOWED.items():
        value = getattr(engine, name)
        if not any(value is each or (isinstance(value, str) and value == each) for each in allowed):
            raise ValueError(f"its engine's {name} is {value!r:.40}, not one of {allowed}")
    if not isinstance(engine.device, str) or not re.fullmatch(r"cpu|cuda(:\d{1,2})?", engine.device):
        raise ValueError(f"its engine's device is {engine.device!r:.40}, not cpu or cuda")
    if type(engine.threads) is not int or not 1 <= engine.threads <= MOST_THREADS:
        raise ValueError(f"its engine has {engine.threads!r:.40} threads, not 1 to {MOST_THREADS}")
    return engine
