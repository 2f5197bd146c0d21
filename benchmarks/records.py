"""How long it takes to list 10,000 records, to import the package, and to execute a notebook from the records. All
happens in processes of their own and in temporary folders; the repository's records are only read."""

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient

from benchmarks import measure
from helpers import experiments, records
from helpers.records import Record, Store

COUNT = 10_000


class Failed(RuntimeError):
    """A command that was to be timed failed."""


def process(*arguments: str, **environment: str) -> float:
    """Seconds of `python ARGUMENTS` in the repository's root, from start to end."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=records.ROOT, env={**os.environ, **environment},
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise Failed(f"python {' '.join(arguments)}: {reason}")
    return time.perf_counter() - started


def fill(store: Store, count: int) -> None:
    """`count` records as a run of MyNet leaves them at the laptop budget, each with its series beside it."""
    run = experiments.at(experiments.best, "laptop")
    history = {name: [0.5 + epoch / 7 for epoch in range(run.epochs)] for name in
               ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds")}  # fmt: skip
    arrays = {"step_loss": np.random.default_rng(0).random(run.epochs * 625, np.float32)}
    for seed in range(count):
        store.write(Record(
            run=experiments.reseed(run, seed), state="done", test={"loss": 0.9, "accuracy": 0.7}, history=history,
            parameters=269_662, seconds_per_epoch=30.0, fingerprint=[2.3] * 5, weights="0" * 64, engine={}, machine={},
            revision="",
        ), arrays)  # fmt: skip


def status(count: int, repeats: int) -> dict:
    """Seconds of `python -m helpers status` on a folder of `count` records and as many series."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Store(folder), count)
        size = sum(path.stat().st_size for path in Path(folder).iterdir() if path.is_file())
        seconds = measure.in_turn(
            {"status": lambda: process("-m", "helpers", "status", "--json", "--results", folder)}, repeats
        )
    return {"records": count, "bytes": size, **measure.summary(seconds["status"])}


def imports(repeats: int) -> dict:
    """Seconds of Python's own start, and of imports beyond that."""
    codes = {"nothing": "pass", "helpers": "import helpers", "helpers.records": "import helpers.records",
             "helpers.runner": "import helpers.runner"}  # fmt: skip
    seconds = measure.in_turn({name: lambda code=code: process("-c", code) for name, code in codes.items()}, repeats)
    base = min(seconds.pop("nothing"))
    return {"python": base, "seconds": {name: min(each) - base for name, each in seconds.items()}}


def notebook(path: Path, repeats: int) -> dict:
    """Seconds from the start of a notebook's kernel to the end of its last cell, from the committed records.

    That is what "Run All" takes in an open Jupyter; nbconvert needs about three seconds more to start and to write.
    """
    return measure.summary([_execute(path) for _ in range(min(repeats, 3))])


def _execute(path: Path) -> float:
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, resources={"metadata": {"path": str(path.parent)}})
    started = time.perf_counter()
    with client.setup_kernel(env={**os.environ, "RECORDS_ONLY": "1"}):
        for index, cell in enumerate(book.cells):
            client.execute_cell(cell, index)
        return time.perf_counter() - started


PARTS = {
    "status of 10,000 records": functools.partial(status, COUNT), "import": imports,
    **{f"notebook {path.stem}": functools.partial(notebook, path)
       for path in sorted((records.ROOT / "notebooks").glob("*.ipynb"))},
}  # fmt: skip
