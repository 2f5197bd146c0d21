"""What the tests of making runs share: runs that take a moment, data made here, and processes to which things happen,
forked from a server that has torch in memory."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import time

import numpy as np
import pytest
import torch

from helpers import __main__, data, experiments, runner, training
from helpers.experiments import Run
from helpers.records import Store
from helpers.runner import one, provenance

# Dropout and augmentation, so that every random state matters.
NET = Run(model="MyNet", options={"hidden": 16, "dropout": 0.3}, loss="nll", lr=0.05, momentum=0.5,
          augment=("crop", "flip"), epochs=3, batch_size=8, images=24)  # fmt: skip
DIGITS = Run(data="mnist", model="LeNet", lr=0.05, momentum=0.5, epochs=3, batch_size=16, images=64)
ROWS = {"a": DIGITS, "b": experiments.replace(DIGITS, lr=0.02), "c": experiments.replace(DIGITS, momentum=0.9)}
BROKEN = experiments.replace(DIGITS, lr=1e30)
REVISION = provenance.revision  # which all other tests replace

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["helpers.__main__", "helpers.runner", "pytest"])


def tiny(name: str, root=None, validation="held_out") -> data.Dataset:
    """64 images a split in the shape of data set `name`."""
    generator = torch.Generator().manual_seed(0)
    shape = (64, 1, 28, 28) if name == "mnist" else (64, 3, 32, 32)
    labels = torch.arange(64) % 10
    splits = [data.Split(torch.randint(256, shape, generator=generator).byte(), labels) for _ in range(3)]
    return data.Dataset(*splits, *data.statistics(splits[0].images), data.CLASSES[name])


def declare(patch) -> None:
    patch(data, "load", tiny)
    patch(data, "fetch", lambda name, root=None: None)
    patch(provenance, "revision", lambda: "revision")  # two processes a record
    patch(experiments.tables, "SECTIONS", {"1": {"small": ROWS}})


def arrange(moment: tuple[str, int, str] | None, folder: str) -> None:
    """At the `count`-th "step" taken, file "written" (not yet renamed) or "renamed", once for all workers: `action`."""
    place, count, action = moment
    owner, name = {"step": (training.Trainer, "step_on"), "written": (os, "fsync"), "renamed": (os, "replace")}[place]
    original, calls, main = getattr(owner, name), [], os.getpid()
    actions = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "kill group": lambda: os.killpg(0, signal.SIGKILL),
        "kill parent": lambda: os.kill(main, signal.SIGKILL),
        "Ctrl-C": lambda: os.killpg(0, signal.SIGINT),
        "SIGINT": lambda: os.kill(main, signal.SIGINT),
        "SIGTERM": lambda: os.kill(main, signal.SIGTERM),
        "SIGTERM group": lambda: os.killpg(0, signal.SIGTERM),
        "late": lambda: setattr(time, "monotonic", lambda: 1e12),
        "clock set": lambda: setattr(time, "time", lambda: 1e12),
        "pause": lambda: time.sleep(100),
    }

    def wrapped(*arguments, **options):
        result = original(*arguments, **options)
        calls.append(1)
        if len(calls) == count:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(folder + ".moment", os.O_CREAT | os.O_EXCL))
                actions[action]()
        if os.getpid() != main:
            time.sleep(0.01)  # so that no worker is through before the other has begun
        return result

    setattr(owner, name, wrapped)


def begin(folder, moment) -> None:
    """Makes a process of this one's kind: its own group, one thread, its stderr in a file."""
    os.setsid()
    os.dup2(os.open(f"{folder}.err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), 2)
    torch.set_num_threads(1)
    declare(setattr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    forked = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda kind: forked  # what is patched here holds in the workers as well
    if moment:
        arrange(moment, str(folder))


def child_works(folder, runs, moment, settings) -> None:
    begin(folder, moment)
    made = runner.work(runs, Store(folder), settings)
    with open(f"{folder}.made", "a") as file:
        file.writelines(record.run.name + "\n" for record in made)


def child_runs(folder, arguments, moment=None, largest_file=None) -> None:
    begin(folder, moment)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    # One thread, as undisturbed: with more, sums are added up in another order.
    sys.argv = ["helpers", "run", "--budget", "laptop", "--threads", "1", "--results", str(folder), *arguments]
    sys.exit(__main__.main())


def start(target, *arguments):
    process = server.Process(target=target, args=arguments)
    process.start()
    return process


def finish(process) -> int:
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def lines(store: Store) -> list[str]:
    with open(f"{store.folder}.err") as file:
        return file.read().splitlines()


def eventually(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def assert_same(run: Run, store: Store, undisturbed, precision="float32") -> None:
    """The record of `run` in `store` is what it would have been had nothing happened, and nothing is left over."""
    original_store, original = undisturbed(run, precision)
    record = store.read(run)
    assert record.weights == original.weights
    assert record.fingerprint == original.fingerprint and record.test == original.test
    same = [name for name in training.HISTORY if name != "seconds"]
    assert [record.history[name] for name in same] == [original.history[name] for name in same]
    assert len(record.history["seconds"]) == run.epochs
    for name, array in original_store.arrays(original).items():
        np.testing.assert_array_equal(store.arrays(record)[name], array)
    assert not store.checkpoint(run).exists()
    assert not list(store.folder.rglob("*.part"))
    assert store.scan()[1] == {}


# With all that measures along the way: a series has to go on where it was, the last gradient with it.
PATH = experiments.replace(DIGITS, optimizer="dessilbi", lr=0.17, kappa=0.3, mu=0.58, epochs=4, probes=("path",))


PROBED = experiments.replace(
    DIGITS, probes=("gradient_change", "smoothness", "along_gradient", "surface"), precision="float32"
)


def half_done(store: Store, run: Run = NET) -> dict:
    """Leaves a checkpoint of `run` after 4 steps."""
    steps = []
    with store.claim(run), pytest.raises(runner.Interrupted, match="stopped after 4 of 9 steps"):
        one.make(run, store, stop=lambda: steps.append(1) or len(steps) == 4)
    return torch.load(store.checkpoint(run), weights_only=True)
