"""What a training step spends its time on: self CPU time of torch's operators on one thread, by what they are for.
The profiler itself costs time at each operator, most of all where they are small: ratios are for `epoch`."""

import functools
import re
from dataclasses import asdict

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import measure
from benchmarks.training import CASES, PRECISIONS, Ours, engine
from helpers import data, models

# what an operator is for → its name; the first that fits counts, after what it was called by
KINDS = {
    "convolution, linear": r"conv|linear|addmm|::mm$|::bmm$",
    "batch norm": r"batch_norm",
    "ReLU, pooling, dropout": r"relu|threshold|clamp_min|pool|dropout|bernoulli|tanh|aten::mul|aten::div",
    "precision, layout": r"copy|contiguous|clone|::to$|empty|::fill_|::zero",
}
NETWORKS = ("LeNet", "MyNet", "MyResNet9", "VGG-A + BN")
GROUPS = ("convolution, linear: forward", "convolution, linear: backward", *list(KINDS)[1:], "optimizer", "batches",
          "other operators", "between operators")  # fmt: skip


def group(name: str, callers: list[str]) -> str:
    """The group of an operator, from its name and the names of those that it was called by."""
    if name == "batches" or "batches" in callers:
        return "batches"
    if any(each.startswith("Optimizer.") for each in (name, *callers)):
        return "optimizer"
    # `products`, what it unfolds included, `winograd` and `narrow`
    if any(re.search(r"_Convolve\w*Backward", each) for each in (name, *callers)):
        return "convolution, linear: backward"
    if any("_Convolve" in each for each in (name, *callers)):
        return "convolution, linear: forward"
    if any("PoolReLU" in each for each in (name, *callers)):  # `fused`
        return "batch norm"
    for kind, pattern in KINDS.items():
        if re.search(pattern, name):
            backward = any(each.startswith("autograd::engine") for each in callers)
            return f"{kind}: {'backward' if backward else 'forward'}" if kind == "convolution, linear" else kind
    return "other operators"


def grouped(events) -> dict[str, float]:
    """Seconds of self CPU time by group."""
    seconds = dict.fromkeys(GROUPS, 0.0)
    for event in events:
        callers, caller = [], event.cpu_parent
        while caller is not None:
            callers.append(caller.name)
            caller = caller.cpu_parent
        seconds[group(event.name, callers)] += event.self_cpu_time_total / 1e6
    return seconds


class _Marked:
    """Batches that the profiler sees as such."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name):
        return getattr(self.batches, name)

    def __call__(self, step):
        with record_function("batches"):
            return self.batches(step)


def step(case: str, precision: str, repeats: int) -> dict:
    """Seconds of a step by group, in the fastest of `repeats` profiles, and the least that its multiply-adds take."""
    torch.set_num_threads(1)
    run, count = CASES[case]
    dataset = data.load_for(run)
    chosen = engine(run, 1, precision)
    ours = Ours(run, dataset, chosen)
    ours.batches = _Marked(ours.batches)
    peaks, taken = measure.peak_candidates(precision), []
    seconds = measure.in_turn({"steps": lambda: ours.seconds(count) / count, **{name: call for name, (call, _) in
                                                                                peaks.items()}}, repeats)  # fmt: skip
    for _ in range(min(repeats, 3)):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            elapsed = ours.seconds(count)
        by_group = grouped(profiled.events())
        by_group["between operators"] = max(0.0, elapsed - sum(by_group.values()))
        taken.append((elapsed / count, {name: each / count for name, each in by_group.items()}))
    needed = measure.training_multiply_adds(
        models.build(run.model, **run.options), tuple(dataset.train.images.shape[1:])
    )
    peak = measure.peak({name: seconds[name] for name in peaks}, {name: n for name, (_, n) in peaks.items()})
    profiled_seconds, by_group = min(taken, key=lambda each: each[0])
    return {
        **asdict(chosen), "batch_size": run.batch_size,
        "seconds": min(seconds["steps"]), "profiled_seconds": profiled_seconds,
        "limit_seconds": needed * run.batch_size / peak, "seconds_by_group": by_group,
    }  # fmt: skip


PARTS = {f"profile {case}, {precision}": functools.partial(step, case, precision)
         for precision in PRECISIONS for case in NETWORKS}  # fmt: skip
