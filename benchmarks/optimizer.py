"""How long an optimizer's step takes on the parameters of LeNet and VGG-A with batch norm, against torch's own and the
memory traffic that no step can do without. Nothing is trained here: the gradients are random and stay the same."""

import functools
import sys

import torch

from benchmarks import measure
from benchmarks.plain import PlainDessiLBI
from helpers import dessilbi, models

CALLS = {"LeNet": 200, "VGG": 3}  # steps timed together
RESET = 100  # steps after which the weights are set back, so that all numbers stay of a normal size
LR = 1e-3
# How often each number must be read and written: of weights without a penalty, and of those with one.
TRAFFIC = {"SGD": ((3, 2), (3, 2)), "Adam": ((4, 3), (4, 3)), "DessiLBI": ((3, 2), (4, 3)),
           "DessiLBIAdam": ((4, 3), (5, 4))}  # fmt: skip


def make(name: str, model) -> torch.optim.Optimizer:
    parameters = model.parameters()
    match name:
        case "DessiLBI as the authors write it":
            return PlainDessiLBI(parameters, LR)
        case "DessiLBI":
            return dessilbi.DessiLBI(dessilbi.param_groups(model), LR)
        case "DessiLBIAdam":
            return dessilbi.DessiLBIAdam(dessilbi.param_groups(model), LR)
        case "DessiLBI, fused":
            return dessilbi.DessiLBI(dessilbi.param_groups(model), LR, fused=True)
        case "DessiLBIAdam, fused":
            return dessilbi.DessiLBIAdam(dessilbi.param_groups(model), LR, fused=True)
        case "SGD, foreach":
            return torch.optim.SGD(parameters, LR, momentum=0.9, foreach=True)
        case "SGD, fused":
            return torch.optim.SGD(parameters, LR, momentum=0.9, fused=True)
        case "Adam, fused":
            return torch.optim.Adam(parameters, LR, fused=True)


NAMES = ("SGD, fused", "SGD, foreach", "Adam, fused", "DessiLBI", "DessiLBI, fused", "DessiLBIAdam",
         "DessiLBIAdam, fused", "DessiLBI as the authors write it")  # fmt: skip


def possible() -> tuple[str, ...]:
    """NAMES, without those that this machine has no compiler for; says so."""
    try:
        make("DessiLBI, fused", models.build("LeNet"))
    except RuntimeError as error:
        print(f"left out: {error}", file=sys.stderr)
        return tuple(name for name in NAMES if not name.startswith("DessiLBI") or not name.endswith(", fused"))
    return NAMES


class Stepper:
    """An optimizer on a network of its own; a call is one step."""

    def __init__(self, name: str, network: str):
        torch.manual_seed(0)
        self.model, self.steps = models.build(network), 0
        for parameter in self.model.parameters():
            parameter.grad = torch.randn_like(parameter) * 1e-3
        self.start = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.optimizer = make(name, self.model)

    def __call__(self) -> None:
        self.optimizer.step()
        self.steps += 1

    @torch.no_grad()
    def reset(self) -> None:
        """Sets weights and state back if it is time to, and looks whether all numbers are still finite."""
        if self.steps < RESET:
            return
        self.steps = 0
        for parameter, start in zip(self.model.parameters(), self.start):
            if not parameter.isfinite().all():
                raise ValueError("a weight is no longer finite: what is timed is not a step as in training")
            parameter.copy_(start)
            for value in self.optimizer.state[parameter].values():
                if torch.is_tensor(value):
                    value.zero_()


def limits(model, bandwidth: float) -> dict[str, float]:
    """Seconds of a step in which only what must move does so, at `bandwidth` bytes a second."""
    groups = [group["params"] for group in dessilbi.param_groups(model) if group["penalty"]]
    penalised = sum(parameter.numel() for group in groups for _, parameter in group)
    counts = (models.count_parameters(model) - penalised, penalised)
    return {name: sum(measure.step_bytes(n, *passes) for n, passes in zip(counts, each)) / bandwidth
            for name, each in TRAFFIC.items()}  # fmt: skip


def step(network: str, repeats: int) -> dict:
    """Seconds of a step of each optimizer, as ratios to torch's fused SGD, and of the limits."""
    torch.set_num_threads(1)
    steppers = {name: Stepper(name, network) for name in possible()}
    model = models.build(network)
    numbers = 4 * models.count_parameters(model)  # weights, gradient, momentum and Z lie side by side in memory
    candidates, seconds = {**steppers, **measure.bandwidth_candidates(numbers)}, {}
    for _ in range(repeats):
        for stepper in steppers.values():
            stepper.reset()
        for name, each in measure.in_turn(candidates, 1, CALLS[network]).items():
            seconds.setdefault(name, []).extend(each)
    bandwidth = measure.bandwidth(seconds, numbers)
    fastest = min(seconds["SGD, fused"])
    return {
        "parameters": models.count_parameters(model), "threads": 1, "bytes_a_second": bandwidth,
        "steps": {name: measure.summary(seconds[name]) for name in steppers},
        "ratio_to_fused_sgd": measure.ratios({name: seconds[name] for name in steppers}, "SGD, fused"),
        "limit_ratio": {name: limit / fastest for name, limit in limits(model, bandwidth).items()},
    }  # fmt: skip


PARTS = {f"step {name}": functools.partial(step, name) for name in CALLS}
