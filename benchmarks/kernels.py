"""What each faster way to compute brings by itself: a training step with all of them, and with all but one. Nothing of
what is trained here is kept."""

import contextlib
import functools
from unittest import mock

import torch

from benchmarks import measure
from benchmarks.training import CASES, PRECISIONS, Ours
from helpers import data
from helpers.fast import Engine, engine, fused, narrow, optimizers, products, winograd
from helpers.fast.engine import emulates_bfloat16

ALL = "all of them"
# way → what stands in its place without it, as (module, name, value)
WITHOUT = {
    ALL: [],
    "winograd": [(winograd, "fits", lambda images, layer: False)],
    "products": [(products, "fits", lambda images, layer: False)],
    "fused": [(fused, "fits", lambda x, norm, pool: False)],
    "narrow": [(narrow, "leading", lambda layers, images: 0)],
    "pool first": [(engine, "pool_first", lambda model: None)],
    "optimizer over rows": [(optimizers, name, getattr(torch.optim, name)) for name in ("SGD", "Adam")],
}


@contextlib.contextmanager
def without(name: str):
    """Leaves one way out, in models that are changed and in steps that are made meanwhile."""
    with contextlib.ExitStack() as stack:
        for replaced in WITHOUT[name]:
            stack.enter_context(mock.patch.object(*replaced))
        yield


def _timed(name: str, ours: Ours, count: int) -> float:
    with without(name):
        return ours.seconds(count) / count


def brought(case: str, precision: str, repeats: int) -> dict:
    """Seconds of a step of one thread without each way, and as a share how much longer than with all it takes.

    The memory that a process keeps can't be given back under way, and is kept in all.
    """
    if precision == "bfloat16" and emulates_bfloat16() or not winograd.available():
        raise measure.NotHere("this machine only emulates bfloat16, or has no compiler")
    torch.set_num_threads(1)
    run, count = CASES[case]
    dataset, chosen = data.load_for(run), Engine("cpu", precision, "channels_last", 1, "winograd", fused=True)
    candidates = {}
    for name in WITHOUT:
        with without(name):
            candidates[name] = functools.partial(_timed, name, Ours(run, dataset, chosen), count)
    seconds = measure.in_turn(candidates, repeats)
    ratios = measure.ratios(seconds, ALL)
    return {
        "batch_size": run.batch_size, "seconds": {name: min(each) for name, each in seconds.items()},
        "longer_without": {name: ratios[name] - 1 for name in WITHOUT if name != ALL},
        "spread": {name: measure.summary(each)["spread"] for name, each in seconds.items()},
    }  # fmt: skip


PARTS = {f"kernels {case}, {precision}": functools.partial(brought, case, precision)
         for precision in PRECISIONS for case in CASES}  # fmt: skip
