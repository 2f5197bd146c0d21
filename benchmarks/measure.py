"""What all benchmarks measure with: timing in turn, ratios, the limits of the machine, multiply-adds of a network. It
reads and writes no files, and never compares numbers that were not measured in turn with each other."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from helpers import pruning

BYTES = 4  # of a number in float32


class NotHere(Exception):
    """This machine can't measure a part, and need not; the message says why."""


# ------------------------------------------------------------------------------------------ timing


def in_turn(candidates: Mapping[str, Callable], repeats: int, calls: int = 1) -> dict[str, list[float]]:
    """Seconds a call of each candidate, `repeats` of them: each in turn, so that a busy moment falls on all alike.

    Each is called once before, untimed. A candidate that gives back a float has timed itself, and that is taken.
    """
    seconds = {name: [] for name in candidates}
    for candidate in candidates.values():
        candidate()
    for _ in range(repeats):
        for name, candidate in candidates.items():
            seconds[name].append(_time(candidate, calls))
    return seconds


def _time(candidate: Callable, calls: int) -> float:
    started = time.perf_counter()
    own = [candidate() for _ in range(calls)]
    elapsed = time.perf_counter() - started
    return (sum(own) if isinstance(own[0], float) else elapsed) / calls


def summary(seconds: list[float]) -> dict[str, float]:
    """The fastest, the median, and `spread`: how far the median lies above the fastest, as a share of it."""
    fastest, median = min(seconds), statistics.median(seconds)
    return {"seconds": fastest, "median": median, "spread": median / fastest - 1}


def ratios(seconds: Mapping[str, list[float]], to: str) -> dict[str, float]:
    """How many times as long as `to` each took, the fastest of each compared."""
    return {name: min(each) / min(seconds[to]) for name, each in seconds.items()}


# ------------------------------------------------------------------------------------------ the machine's limits


def bandwidth_candidates(numbers: int) -> dict[str, Callable]:
    """Two ways to move `numbers` float32 numbers in and out of memory: copied, and changed in place.

    A copy also fetches the lines it overwrites, so that changing in place may be the faster one.
    """
    source, target = torch.ones(numbers // 2), torch.zeros(numbers // 2)
    inplace = torch.ones(numbers)
    return {"copy": lambda: target.copy_(source), "in place": lambda: inplace.mul_(1.0)}


def bandwidth(seconds: Mapping[str, list[float]], numbers: int) -> float:
    """Bytes a second that the faster of `bandwidth_candidates` moves."""
    moved = {"copy": numbers, "in place": 2 * numbers}  # a copy of half the numbers, in and out; all of them in and out
    return max(BYTES * moved[name] / min(seconds[name]) for name in moved)


def peak_candidates(precision: str) -> dict[str, tuple[Callable, int]]:
    """name → (call, its multiply-adds): matrix products and convolutions, among them the networks' own large ones."""
    dtype = getattr(torch, precision)
    candidates = {}
    for size in (512, 1024, 2048):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        candidates[f"matrix {size}"] = (lambda a=a, b=b: torch.mm(a, b), size**3)
    for channels, side in ((64, 16), (256, 8), (512, 8)):
        # Without padding, of which a convolution leaves out all zeros: what it does not do must not be counted.
        images = torch.randn(64, channels, side + 2, side + 2).to(dtype, memory_format=torch.channels_last)
        layer = nn.Conv2d(channels, channels, 3, bias=False).to(dtype, memory_format=torch.channels_last)
        call = torch.no_grad()(lambda layer=layer, images=images: layer(images))
        candidates[f"convolution {channels}"] = (call, 64 * side**2 * 9 * channels**2)
    return candidates


def peak(seconds: Mapping[str, list[float]], multiply_adds: Mapping[str, int]) -> float:
    """The most multiply-adds a second that any of `peak_candidates` came to."""
    return max(multiply_adds[name] / min(each) for name, each in seconds.items())


# ------------------------------------------------------------------------------------------ what must be done


def training_multiply_adds(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-adds to train on one image: forward, the gradient of the weights, that of each layer's input.

    Only those that are needed: none by the zeros of a padding, and no gradient of the first layer's input.
    """
    first, *others = needed_multiply_adds(model, shape)
    return 2 * first + 3 * sum(others)


@torch.no_grad()
def needed_multiply_adds(model: nn.Module, shape: tuple[int, int, int]) -> list[int]:
    """Multiply-adds of each convolution and linear layer, in order, forward, for one image of `shape` (C, H, W).

    Unlike `pruning.multiply_adds` without those by the zeros around a map, which no result needs.
    """
    counts = []

    def count(layer, inputs, output):
        if not isinstance(layer, nn.Conv2d):
            counts.append(output.numel() // len(layer.weight) * layer.weight.numel())
            return
        window, pixels = torch.ones(1, 1, *layer.kernel_size), torch.ones(1, 1, *inputs[0].shape[2:])
        met = nn.functional.conv2d(pixels, window, None, layer.stride, layer.padding, layer.dilation)
        counts.append(int(met.sum()) * layer.weight.numel() // window.numel())  # how many pixels each window sees

    counted = copy.deepcopy(model).eval()
    for layer in pruning.layers(counted).values():
        layer.register_forward_hook(count)
    counted(torch.zeros(1, *shape))
    return counts


def step_bytes(numbers: int, reads: int, writes: int) -> int:
    """Bytes that an optimizer's step has to move: `numbers` float32 numbers, so many times in and so many out."""
    return BYTES * numbers * (reads + writes)
