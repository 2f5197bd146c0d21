"""What precision and fewer multiplications do to the gradients of a training step, beside how far those of one batch
lie from those of others. Nothing in here is timed."""

import functools
from dataclasses import replace

import torch

from benchmarks import measure
from benchmarks.training import CASES
from helpers import data, training
from helpers.fast import Engine, winograd
from helpers.fast.engine import emulates_bfloat16

NETWORKS = ("MyNet", "MyResNet9", "VGG-A", "VGG-A + BN")
STEPS = 100  # of training, so that the weights are no longer random
BATCHES = 40  # whose gradients are compared with each other
FLOAT32 = Engine(memory_format="channels_last")
BFLOAT16 = replace(FLOAT32, precision="bfloat16")
FEWER = "fewer multiplications"
ENGINES = {
    "bfloat16": BFLOAT16, f"bfloat16, {FEWER}": replace(BFLOAT16, convolutions="winograd"),
    f"float32, {FEWER}": replace(FLOAT32, convolutions="winograd"),
}  # fmt: skip


def spread(gradients: list[torch.Tensor]) -> float:
    """How far one gradient is off from the mean of all that there could be, as a share of that mean's length.

    The mean of these few is itself off by a part of that, which is taken out of its length.
    """
    every = torch.stack(gradients).double()
    mean = every.mean(0)
    variance = (every - mean).square().sum().item() / (len(every) - 1)
    return (variance / (mean.square().sum().item() - variance / len(every))) ** 0.5


def gradient(trainer: training.Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """That of all weights, in one row."""
    trainer.optimizer.zero_grad()
    with trainer.engine.autocast():
        outputs = trainer.model(trainer.engine.place(images))
    trainer.criterion(outputs.float(), labels).backward()
    return torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])


def rounding(case: str, repeats: int) -> dict:
    """How far a batch's gradient lies from float32's with torch's own convolutions, as a share of its length, by
    engine, on average over `repeats` batches; and `spread` of the batches' own."""
    if emulates_bfloat16() or not winograd.available():
        raise measure.NotHere("this machine only emulates bfloat16, or has no compiler")
    torch.set_num_threads(1)
    run, _ = CASES[case]
    dataset = data.load_for(run)
    batches = training.make_batches(run, dataset)
    exact = training.Trainer(run, FLOAT32, len(batches))
    for step in range(STEPS):
        exact.step_on(*batches(step))
    trainers = {name: training.Trainer(run, engine, len(batches)) for name, engine in ENGINES.items()}
    for trainer in trainers.values():
        trainer.model.load_state_dict(exact.model.state_dict())
    off = dict.fromkeys(ENGINES, 0.0)
    for step in range(STEPS, STEPS + repeats):
        right = gradient(exact, *batches(step))
        for name, trainer in trainers.items():
            off[name] += ((gradient(trainer, *batches(step)) - right).norm() / right.norm()).item() / repeats
    others = [gradient(exact, *batches(step)) for step in range(STEPS, STEPS + BATCHES)]
    return {"off": off, "spread_of_batches": spread(others), "batch_size": run.batch_size, "batches": BATCHES}


PARTS = {f"rounding {case}": functools.partial(rounding, case) for case in NETWORKS}
