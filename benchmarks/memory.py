"""The most memory that a run of each network takes, and whether it grows from epoch to epoch. Each is trained in a
process of its own, on a part of the images, and nothing of it is kept."""

import contextlib
import functools
import json
import os
import resource
import subprocess
import sys

from helpers import records

EPOCHS, IMAGES = 6, 1_024
MEBIBYTE = 2**20


def resident() -> float:
    """MiB that this process has in memory now; its peak where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE
    except OSError:
        return peak()


def peak() -> float:
    """The most MiB that this process has had in memory."""
    # What getrusage says begins, on Linux, with the peak of the process that started this one.
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE


def train(case: str) -> dict:
    """Trains `case` here for some epochs; MiB in memory before it and after each epoch, and the peaks."""
    import torch

    from benchmarks.training import CASES
    from helpers import data, experiments, fast, training

    torch.set_num_threads(1)
    run = experiments.replace(CASES[case][0], images=IMAGES, epochs=EPOCHS, schedule=experiments.Constant(), probes=())
    dataset, before, sizes = data.load_for(run), {}, []
    before.update(resident=resident(), peak=peak())
    engine = fast.choose_engine(run, training.Trainer)
    batches = training.make_batches(run, dataset)
    trainer = training.Trainer(run, engine, len(batches))
    validation = dataset.validation.first(IMAGES)
    training.fit(trainer, batches, lambda model: training.evaluate(model, run, dataset, validation, engine),
                 save=lambda trainer: sizes.append(resident()))  # fmt: skip
    return {"precision": engine.precision, "batch_size": run.batch_size, "with_data_before": before,
            "after_each_epoch": sizes, "peak": peak(), "growth": growth(sizes)}  # fmt: skip


def growth(sizes: list[float]) -> float:
    """MiB an epoch that memory grows by, from the second epoch on: buffers are made in the first."""
    return (sizes[-1] - sizes[1]) / (len(sizes) - 2)


def measured(case: str, repeats: int) -> dict:
    """MiB of training `case`, in a process of its own; more repeats would show the same."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.memory", case], cwd=records.ROOT, capture_output=True,
                          text=True)  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return {"unit": "MiB", "images": IMAGES, **json.loads(done.stdout)}


PARTS = {f"memory {case}": functools.partial(measured, case)
         for case in ("LeNet", "MyNet", "MyResNet9", "VGG-A", "VGG-A + BN")}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(train(sys.argv[1])))
