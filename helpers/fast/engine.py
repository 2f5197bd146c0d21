"""Where and in what form a run computes, how that is chosen, and what it changes in a model: `speed_up` is all that
training asks for. Changes keep a model's function, its parameters and all names; one that is looked at or drawn is as
the report has it."""

import contextlib
import ctypes
import math
import re
import time
import timeit
from dataclasses import dataclass, fields, replace

import torch
from torch import nn

from helpers.fast import fused, products, winograd

SHARED = 16  # batches at once in a trial on a GPU
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
LARGEST = 2**30  # bytes that a block has at most, and that are kept
LARGEST_OF_OLD = 2**25  # as much as an older glibc lets a block have
ALLOWED = {  # of each of an engine's fields, as a regular expression and in words
    "device": (r"cpu|cuda(:\d{1,2})?", "cpu, cuda or cuda:N"),
    "precision": ("float32|bfloat16", "float32 or bfloat16"),
    "memory_format": ("contiguous|channels_last", "contiguous or channels_last"),
    "threads": (r"[1-9]\d{0,2}", "1 to 999"),  # torch ends the process for a million
    "convolutions": ("direct|matmul|winograd", "direct, matmul or winograd"),
    "fused": ("False|True", "False or True"),
}


@dataclass(frozen=True)
class Engine:
    """Where and in what form a run computes: device, "float32" or "bfloat16" (autocast), memory format, CPU threads.

    `convolutions`: "direct", torch's own; "matmul", products of matrices on small maps; or "winograd", these and fewer
    multiplications on others (see `products`). `fused`: batch norm, pool and ReLU are one pass (see `fused`), as are
    pool and ReLU with a convolution of few channels (see `narrow`). Raises ValueError for what is none of this.
    """

    device: str = "cpu"
    precision: str = "float32"
    memory_format: str = "contiguous"
    threads: int = 1
    convolutions: str = "direct"
    fused: bool = False

    def __post_init__(self):  # a file may say anything
        for field in fields(self):
            value, (allowed, words) = getattr(self, field.name), ALLOWED[field.name]
            if type(value) is not type(field.default) or not re.fullmatch(allowed, str(value)):
                raise ValueError(f"an engine's {field.name} is {words}, not {value!r:.40}")

    @property
    def compiles_here(self) -> bool:
        """Whether this machine has the compiler that the engine needs, if it needs one."""
        return (not self.fused or fused.available()) and (self.convolutions != "winograd" or winograd.available())

    def place(self, what):
        """A model or a batch of images, moved to the device in the engine's memory format."""
        channels_last = self.memory_format == "channels_last"
        return what.to(self.device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def autocast(self):
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)


# ------------------------------------------------------------------------------------------ a model


def speed_up(model: nn.Module, engine: Engine) -> nn.Module:
    """The model, which the engine has placed, changed so that it computes as the engine says. Raises RuntimeError if it
    takes a compiler that is not there."""
    pool_first(model)
    if engine.device == "cpu":
        keep_memory()
        products.change_convolutions(model, engine.convolutions)
    if engine.fused:
        fused.fuse(model)
    return model


def pool_first(model: nn.Module) -> None:
    """Puts each max pool of a Sequential before the ReLU that it follows, which then has a quarter of the work.

    ReLU leaves the largest number the largest, so outputs and gradients stay the same, bit for bit.
    """
    for chain in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        layers = dict(chain.named_children())
        order = list(layers)
        for place in range(len(order) - 1):
            name, after = order[place : place + 2]
            if isinstance(layers[name], nn.ReLU) and isinstance(layers[after], nn.MaxPool2d):
                order[place : place + 2] = after, name
        for name in layers:
            delattr(chain, name)
        for name in order:
            chain.add_module(name, layers[name])


def keep_memory() -> None:
    """Has the process keep the memory that it frees, if its C library is glibc.

    Else glibc gives large blocks back, and a step's activations come from the kernel anew, cleared page by page: 4,000
    pages a step in MyNet, of 64 images.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        # A threshold that is set no longer follows what is freed: without the first the second would do harm.
        if mallopt(M_MMAP_THRESHOLD, LARGEST) or mallopt(M_MMAP_THRESHOLD, LARGEST_OF_OLD):
            mallopt(M_TRIM_THRESHOLD, LARGEST)


# ------------------------------------------------------------------------------------------ the choice


def choose_engine(run, trainer, device: str = "cpu", threads: int = 1, precision: str = "auto") -> Engine:
    """The fastest of the sound engines for `run`'s model, by timing a few training steps of each, which
    `trainer(run, engine, steps)` makes (see `training.Trainer`).

    Sound is one whose first loss is within 5 % of float32's. `precision` other than "auto" leaves the memory format to
    be chosen. A GPU, which many runs share, is filled with work: one run's batches only tell how long launches take.
    They favour float32 on an H200, in which 16 runs of MyResNet9 side by side took 3.7 times as long as in bfloat16.
    """
    engines = _candidates(device, threads, precision)
    shape = (1, 28, 28) if run.data == "mnist" else (3, 32, 32)
    count = run.batch_size * (1 if device == "cpu" else SHARED)
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 10
    trainers = {engine: trainer(run, engine, steps=1) for engine in engines}
    losses = {engine: _step(each, images, labels) for engine, each in trainers.items()}
    reference = losses[engines[0]]
    sound = [engine for engine in engines if abs(losses[engine] - reference) <= 0.05 * reference]
    seconds = dict.fromkeys(engines, math.inf)
    for _ in range(3):  # in turn, so that a busy moment of the machine does not fall on one of them alone
        for engine in sound:
            started = time.perf_counter()
            _step(trainers[engine], images, labels)
            seconds[engine] = min(seconds[engine], time.perf_counter() - started)
    return min(sound or engines[:1], key=seconds.get)


def _step(trainer, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The loss of a step of training."""
    loss, _ = trainer.step_on(trainer.engine.place(images), labels.to(trainer.engine.device))
    trainer.optimizer.zero_grad()  # there are several trainers at a time
    return loss.item()


def _candidates(device: str, threads: int, precision: str) -> list[Engine]:
    """The engines that there are here, torch's own in float32, or else in the precision asked for, first."""
    if precision != "auto":
        precisions = (precision,)
    else:
        precisions = ("float32",) if emulates_bfloat16(device) else ("float32", "bfloat16")
    engines = [Engine(device, each, "contiguous", threads) for each in precisions]
    channels_last = [Engine(device, each, "channels_last", threads) for each in precisions]
    if device == "cpu":
        tried = ("matmul", "winograd") if winograd.available() else ("matmul",)
        channels_last += [replace(each, convolutions=kind) for kind in tried for each in channels_last]
        channels_last = [replace(each, fused=fused.available()) for each in channels_last]
    return engines + channels_last


def emulates_bfloat16(device: str = "cpu") -> bool:
    """Whether `device` multiplies matrices several times as slowly in bfloat16 as in float32.

    It then has no unit for it, and a single training step of VGG-A can take minutes: not even a trial pays.
    """

    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(256, 256, device=device, dtype=dtype)
        return min(timeit.repeat(lambda: (matrix @ matrix)[0, 0].item(), number=1, repeat=3))

    return seconds(torch.bfloat16) > 4 * seconds(torch.float32)
