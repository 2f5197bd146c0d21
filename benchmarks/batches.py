"""Images a second with crop and flip: batches made at once on tensors, against the DataLoader that everyone uses. No
network is trained here."""

import functools
import itertools

import torch

from benchmarks import measure, usual
from helpers import data, experiments, training

COUNT = 50  # batches timed together


def images(repeats: int) -> dict:
    """Images a second of both, with one thread for ours and two workers for the DataLoader."""
    torch.set_num_threads(1)
    run = experiments.final
    dataset = data.load_for(run)
    ours, steps = training.make_batches(run, dataset), itertools.count()
    theirs = usual.Batches(usual.loader(run, dataset))

    def in_memory() -> None:
        for _ in range(COUNT):
            ours(next(steps))

    seconds = measure.in_turn({"in memory": in_memory, "DataLoader": lambda: theirs.seconds(COUNT)}, repeats)
    theirs.close()
    speed = {name: COUNT * run.batch_size / min(each) for name, each in seconds.items()}
    return {
        "batch_size": run.batch_size, "augment": list(run.augment), "images_a_second": speed,
        "ratio": speed["in memory"] / speed["DataLoader"],
        "spread": {name: measure.summary(each)["spread"] for name, each in seconds.items()},
    }  # fmt: skip


PARTS = {"images a second": functools.partial(images)}
