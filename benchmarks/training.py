"""Seconds per epoch of each network: ours, the loop everyone writes, and the limit that its multiply-adds set. Each
is extrapolated from a few timed steps; nothing of what is trained here is kept."""

import contextlib
import functools
import math
import time
from dataclasses import asdict

import torch

from benchmarks import measure, usual
from helpers import data, experiments, fast, models, runner, training
from helpers.fast.engine import emulates_bfloat16

# network → (the run, how many steps are timed together)
CASES = {
    "LeNet": (experiments.lenet, 50), "MyNet": (experiments.base, 10), "MyResNet9": (experiments.final, 3),
    "VGG-A": (experiments.vgg, 3), "VGG-A + BN": (experiments.vgg_bn, 3),
}  # fmt: skip
PRECISIONS = ("bfloat16", "float32")


def engine(run, threads: int, precision: str) -> fast.Engine:
    """The fastest engine of a precision. Raises NotHere where the processor only emulates it."""
    if precision == "bfloat16" and emulates_bfloat16():
        raise measure.NotHere("this processor only emulates bfloat16")
    return fast.choose_engine(run, training.Trainer, threads=threads, precision=precision)


class Ours:
    """The repository's own loop on `run`; `seconds(count)` trains `count` steps more."""

    def __init__(self, run, dataset, engine):
        self.batches = training.make_batches(run, dataset)
        self.trainer = training.Trainer(run, engine, len(self.batches))

    def seconds(self, count: int) -> float:
        if (self.trainer.step + count) // len(self.batches) > self.trainer.step // len(self.batches):
            self.trainer.step = 0  # the end of an epoch, with all that belongs to it, is not what is timed
        last, started = self.trainer.step + count, time.perf_counter()
        with contextlib.suppress(training.Stopped):
            training.fit(self.trainer, self.batches, lambda model: (math.nan, math.nan),
                         stop=lambda: self.trainer.step >= last)  # fmt: skip
        return time.perf_counter() - started


def epoch(case: str, threads: int, precision: str, repeats: int) -> dict:
    """Seconds per epoch with `threads` CPU threads, and the ratios to ours and to the limit.

    `usual` is as everyone's: in float32, with two DataLoader workers beside its threads.
    """
    torch.set_num_threads(threads)
    run, count = CASES[case]
    dataset = data.load_for(run)
    chosen = engine(run, threads, precision)
    ours, loop = Ours(run, dataset, chosen), usual.Loop(run, dataset)
    peaks = measure.peak_candidates(precision)
    timed = {"ours": lambda: ours.seconds(count) / count, "usual": lambda: loop.seconds(count) / count}
    seconds = measure.in_turn({**timed, **{name: call for name, (call, _) in peaks.items()}}, repeats)
    loop.batches.close()
    peak = measure.peak({name: seconds[name] for name in peaks}, {name: n for name, (_, n) in peaks.items()})
    return {**_result(run, dataset, seconds, peak), **asdict(chosen)}


def _result(run, dataset, seconds, peak: float) -> dict:
    steps = -(-len(dataset.train) // run.batch_size)
    shape = tuple(dataset.train.images.shape[1:])
    needed = measure.training_multiply_adds(models.build(run.model, **run.options), shape)
    limit = needed * len(dataset.train) / peak
    ours, others = (measure.summary([steps * each for each in seconds[name]]) for name in ("ours", "usual"))
    return {
        "images": len(dataset.train), "multiply_adds_an_image": needed, "peak_multiply_adds_a_second": peak,
        "limit_seconds": limit, "ours": ours, "usual": others,
        "usual_to_ours": others["seconds"] / ours["seconds"], "ours_to_limit": ours["seconds"] / limit,
    }  # fmt: skip


PARTS = {
    f"epoch {case}, {threads} {'thread' if threads == 1 else 'threads'}, {precision}":
        functools.partial(epoch, case, threads, precision)
    for precision in PRECISIONS for case in CASES for threads in sorted({1, runner.cores()})
}  # fmt: skip
