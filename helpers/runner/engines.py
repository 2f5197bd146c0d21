"""Which engine a run gets, timed once for each model on this machine and kept in `engines.json`."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock

from helpers import fast, records, training
from helpers.experiments import Run
from helpers.records import Store
from helpers.runner.provenance import processor


def choose(run: Run, store: Store, settings) -> fast.Engine:
    """The engine for `run`, timed once for each model on this machine, so that one table has one precision."""
    device, threads = settings.device, settings.threads
    precision = settings.precision if run.precision == "auto" else run.precision
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
    """The engines chosen so far; none of a file that is missing or damaged, since they can be timed again."""
    with contextlib.suppress(records.RecordError, ValueError, TypeError, AttributeError, RecursionError):
        return {key: fast.Engine(**each) for key, each in json.loads(records.read(path)).items()}
    return {}
