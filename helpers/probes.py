"""What can be measured of a network at one moment of its training: how its gradient changes from step to step, and how
loss and gradient change around its weights. A probe must never change the run: weights, gradients, buffers, mode and
random state are left as they were found."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from helpers import models, pruning

Loss = Callable[[nn.Module], torch.Tensor]  # the scalar loss on a fixed batch at the model's current parameters
Tensors = Sequence[torch.Tensor]

FRACTIONS = (0.25, 0.5, 1.0)  # of the step, for the effective smoothness
MULTIPLES = (0.5, 1.0, 2.0, 4.0)  # of the step, along its gradient: the range of Santurkar et al., 2018, figure 4


# ------------------------------------------------------------------------------------------ measuring


def gradient_change(before: Tensors, after: Tensors) -> float:
    """‖after − before‖₂ over two lists of tensors of the same shapes (Santurkar et al., 2018, section 3.2)."""
    return _norm([b - a for a, b in zip(before, after, strict=True)])


def effective_smoothness(model: nn.Module, loss: Loss, lr: float, fractions: Sequence[float] = FRACTIONS) -> float:
    """β = max over a in `fractions` of ‖∇f(x − a·lr·g) − g‖ / (a·lr·‖g‖), g = ∇f(x): change of gradient per distance.

    `loss(model)` gives the scalar f, each time from the same random state and without autocast (Santurkar et al., 2018,
    section 3.2: the "effective" β-smoothness). 0 where g is 0; NaN or infinite where a gradient is. The model and what
    belongs to it come back as they were; its parameters are written meanwhile, so call it after `backward`, not before.
    ValueError: a rate, fraction, precision, model or loss that can't be measured with.
    """
    if not lr > 0:
        raise ValueError(f"lr {lr} is not allowed: it must be above 0")
    found = along_gradient(model, loss, [a * lr for a in fractions])["smoothness"]
    return float(np.max(found))  # which gives a NaN if there is one; Python's `max` would pass over it


def along_gradient(
    model: nn.Module, loss: Loss, distances: Sequence[float], gradient: Tensors | None = None
) -> dict[str, list[float]]:
    """What is met at x − d·g for each d of `distances` (rates, not lengths), downhill from the parameters x, g = ∇f(x).

    `loss`: f(x − d·g); `change`: ‖∇f(x − d·g) − g‖₂; `smoothness`: that over the distance d·‖g‖₂, 0 where g is 0.
    `gradient`: g, where it is known already. Santurkar et al., 2018, figure 4. The model comes back as with
    `effective_smoothness`, and the errors are the same.
    """
    if not distances or not all(distance > 0 for distance in distances):
        raise ValueError(f"distances {list(distances)} are not allowed: give at least one, all above 0")
    found = {"loss": [], "change": [], "smoothness": []}
    gradient = _evaluate(model, loss)[1] if gradient is None else gradient
    length = _norm(gradient)
    for distance in distances:
        with _moved(_parameters(model), gradient, -distance):
            value, there = _evaluate(model, loss)
        change = gradient_change(gradient, there)
        found["loss"].append(value)
        found["change"].append(change)
        found["smoothness"].append(change / (distance * length) if length else 0.0)
    return found


def _evaluate(model: nn.Module, loss: Loss) -> tuple[float, Tensors]:
    """f and ∇f at the model's parameters; `.grad` is left alone. ValueError: f is no single number made with them."""
    parameters = _parameters(model)
    with _as_found(model), torch.enable_grad():
        value = loss(model)
        if value.numel() != 1 or not value.requires_grad:
            raise ValueError("the loss must be one number, computed with gradients from parameters that are learned")
        return value.item(), torch.autograd.grad(value, parameters, materialize_grads=True)


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are learned. ValueError: there are none, or some with which β can't be measured."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if nn.parameter.is_lazy(tensor):  # a probe would make them
            raise ValueError("a model with lazy layers has no weights yet: call it on a batch first")
        if tensor.is_complex() or (tensor.requires_grad and torch.finfo(tensor.dtype).bits < 32):
            raise ValueError(f"parameters in {tensor.dtype} are not allowed: give the model in float32 or float64")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError(f"a {type(model).__name__} without parameters that are learned has no gradient to look at")
    return parameters


def _norm(tensors: Tensors) -> float:
    """‖·‖₂ over all elements, summed in float64: over millions of them float32 loses digits."""
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms)).item()


@torch.no_grad()
def silent(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Name of each ReLU → share (0 to 1) of its channels or units that give 0 everywhere on all of `images`.

    `images` (N, C, H, W) as the model takes them; it is looked at in evaluation mode. A unit that is silent on all
    images passes no gradient on, and so learns nothing more.
    """
    heard: dict[str, torch.Tensor] = {}

    def listen(name: str, _module, _inputs, output: torch.Tensor) -> None:
        loud = (output > 0).flatten(2).any(2) if output.ndim > 2 else output > 0
        heard[name] = heard.get(name, False) | loud.any(0)

    relus = {name: module for name, module in model.named_modules() if isinstance(module, nn.ReLU)}
    hooks = [module.register_forward_hook(functools.partial(listen, name)) for name, module in relus.items()]
    try:
        with _as_found(model):
            model.eval()
            for batch in images.split(500):
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: 1 - loud.float().mean().item() for name, loud in heard.items()}


# ------------------------------------------------------------------------------------------ leaving no trace


@contextlib.contextmanager
def _moved(parameters: Sequence[nn.Parameter], direction: Tensors, distance: float) -> Iterator[None]:
    """The parameters at x + distance · direction meanwhile, and bit for bit at x again after it."""
    found = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, towards in zip(parameters, direction, strict=True):
                parameter.add_(towards, alpha=distance)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, found, strict=True):
                parameter.copy_(value)


@contextlib.contextmanager
def _as_found(model: nn.Module) -> Iterator[None]:
    """Buffers, mode and random state are after it what they were before, whatever happens; without autocast."""
    buffers = [(module, name, buffer, buffer.clone()) for module in model.modules()
               for name, buffer in module.named_buffers(recurse=False)]  # fmt: skip
    device = next(itertools.chain(model.parameters(), model.buffers()), torch.empty(0)).device
    try:
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.autocast(device.type, enabled=False),
            models.keeping_modes(model),
        ):
            yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                setattr(module, name, buffer.copy_(value))


# ------------------------------------------------------------------------------------------ probes of the training loop


class StepProbe:
    """Called at each step of `training.fit`, between backward and update, as probe(trainer, images, labels, loss).

    `series`: name → what was measured, (steps,) float32, NaN at steps where nothing was. `state_dict` goes into a
    checkpoint, so that a run that goes on from there ends with the same series bit for bit.
    """

    names: tuple[str, ...] = ()
    every = 1  # steps from one measurement to the next

    def __init__(self, steps: int):
        self.series = {name: torch.full((steps,), torch.nan) for name in self.names}

    def __call__(self, trainer, images: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor) -> None:
        if trainer.step % self.every == 0:
            for name, value in self.measure(trainer, _loss_on(trainer, images, labels)).items():
                self.series[name][trainer.step] = value

    def measure(self, trainer, loss: Loss) -> dict[str, float]:
        """The values of this step by name of series; `loss` is the float32 loss on the step's own batch."""
        raise NotImplementedError

    def state_dict(self) -> dict:
        return {"series": {name: values.clone() for name, values in self.series.items()}}

    def load_state_dict(self, state: dict) -> None:
        """ValueError: the state is of a run of another length or of another probe."""
        here, there = ({name: len(values) for name, values in each.items()} for each in (self.series, state["series"]))
        if here != there:
            raise ValueError(f"the state has series of {there} steps, the run of {here}")
        for name, values in state["series"].items():
            self.series[name].copy_(values)


class GradientChange(StepProbe):
    """`gradient_change`: ‖g(k) − g(k−1)‖₂ at step k over all parameters; NaN at step 0.

    Where training is in bfloat16 each g is computed again in float32 (with a dropout mask of its own).
    """

    names = ("gradient_change",)
    previous: Tensors | None = None

    def measure(self, trainer, loss: Loss) -> dict[str, float]:
        gradient = _own_gradient(trainer) or _evaluate(trainer.model, loss)[1]
        before, self.previous = self.previous, [each.clone() for each in gradient]
        if before is None:
            return {}
        here = [old.to(new.device) for old, new in zip(before, gradient)]  # a checkpoint is read to the CPU
        return {"gradient_change": gradient_change(here, gradient)}

    def state_dict(self) -> dict:
        return {**super().state_dict(), "previous": self.previous}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.previous = state["previous"]


class Smoothness(StepProbe):
    """`smoothness`: `effective_smoothness` on the step's own batch at its current rate, at every `every`-th step."""

    names = ("smoothness",)
    every = 10

    def measure(self, trainer, loss: Loss) -> dict[str, float]:
        return {"smoothness": np.max(_along_step(trainer, loss, FRACTIONS)["smoothness"])}


class AlongGradient(StepProbe):
    """What lies along the step's gradient, from half to four times the step (Santurkar et al., 2018, figure 4).

    `along_loss_min`, `along_loss_max`, `along_change_min`, `along_change_max`: range of the loss and of the distance
    between gradients; `along_smoothness`: the largest change of gradient per distance. At every `every`-th step.
    """

    names = ("along_loss_min", "along_loss_max", "along_change_min", "along_change_max", "along_smoothness")
    every = 50

    def measure(self, trainer, loss: Loss) -> dict[str, float]:
        found = _along_step(trainer, loss, MULTIPLES)
        ends = {"min": np.min, "max": np.max}  # both pass on a NaN
        ranges = {f"along_{what}_{end}": take(found[what]) for what in ("loss", "change") for end, take in ends.items()}
        return {**ranges, "along_smoothness": np.max(found["smoothness"])}


class Surface(StepProbe):
    """`loss_surface` around the weights at the end of the run, on the images of its first steps.

    `finish(trainer)` makes the series `surface_at` (n,), from −1 to 1 in units of the weights' length, and
    `surface_loss` (n, n); none of a run that diverged. 15 points a side and the images of 4 steps; 5 and 1 where the
    run is too short to mean anything.
    """

    def __init__(self, steps: int):
        super().__init__(steps)
        self.points, self.batches = (15, 4) if steps > 100 else (5, 1)
        self.kept: list[list[torch.Tensor]] = []

    def __call__(self, trainer, images: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor) -> None:
        if len(self.kept) < self.batches:
            self.kept.append([images.clone(), labels.clone()])

    def finish(self, trainer) -> None:
        if trainer.diverged_at is None and self.kept:
            device = trainer.engine.device  # a checkpoint is read to the CPU, and holds the first of them
            images, labels = (torch.cat([part.to(device) for part in parts]) for parts in zip(*self.kept))
            at = np.linspace(-1, 1, self.points)
            surface = loss_surface(trainer.model, _loss_on(trainer, images, labels), at, at).astype(np.float32)
            self.series = {"surface_at": torch.from_numpy(at), "surface_loss": torch.from_numpy(surface)}

    def state_dict(self) -> dict:
        return {**super().state_dict(), "kept": self.kept}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.kept = state["kept"]


class Path:
    """The way of Γ over a run with DessiLBI (the solution path).

    `series` holds, for each of `points` + 1 moments evenly over the run: `path_step`, the step; `path_<parameter>`
    (points, F), the norm of each filter or unit of Γ, or (points,), the share of single weights in the support. And
    `entry_<parameter>`: the epoch at whose end a filter or weight was first in the support, else pruning.NEVER.
    """

    def __init__(self, run_steps: int, epoch_steps: int, points: int = 100):
        points = min(points, run_steps)
        self.moments = {round(i * run_steps / points): i for i in range(points + 1)}
        self.epoch_steps, self.series = epoch_steps, {}

    def __call__(self, trainer, *_) -> None:
        """Looks at Γ before the step `trainer.step`; as `finish`, after the last one."""
        self.look(trainer.optimizer, trainer.step)

    finish = __call__

    def look(self, optimizer, step: int) -> None:
        """Notes what Γ is after `step` steps, if that is one of the moments or the end of an epoch."""
        if (moment := self.moments.get(step)) is not None:
            found = {"path_step": torch.tensor(step, dtype=torch.int32)}
            for name, weight, whole, _ in pruning.penalised(optimizer):
                sizes = pruning.units(optimizer.gamma(weight), whole).cpu()
                found[f"path_{name}"] = sizes.float() if whole else (sizes > 0).float().mean()
            for name, values in found.items():
                self.series.setdefault(name, values.new_zeros(len(self.moments), *values.shape))[moment] = values
        if step > 0 and step % self.epoch_steps == 0:
            entry = {key.removeprefix("entry_"): each for key, each in self.series.items() if key.startswith("entry_")}
            pruning.note_entry(entry, optimizer, step // self.epoch_steps)
            self.series |= {f"entry_{name}": epochs for name, epochs in entry.items()}

    def state_dict(self) -> dict:
        return {"series": self.series}

    def load_state_dict(self, state: dict) -> None:
        self.series = state["series"]


PROBES = {
    "gradient_change": GradientChange,
    "smoothness": Smoothness,
    "along_gradient": AlongGradient,
    "surface": Surface,
}


def _loss_on(trainer, images: torch.Tensor, labels: torch.Tensor) -> Loss:
    return lambda model: trainer.criterion(model(images).float(), labels)


def _along_step(trainer, loss: Loss, multiples: Sequence[float]) -> dict[str, list[float]]:
    """`along_gradient` at `multiples` of the step's rate."""
    lr = trainer.optimizer.param_groups[0]["lr"]
    # Dropout draws another mask by now than the step itself did, so that its gradient is not the one to compare with.
    drops = any(isinstance(each, nn.modules.dropout._DropoutNd) and each.p > 0 for each in trainer.model.modules())
    gradient = None if drops else _own_gradient(trainer)
    return along_gradient(trainer.model, loss, [multiple * lr for multiple in multiples], gradient)


def _own_gradient(trainer) -> Tensors | None:
    """The gradient that the step has just computed; None where that was not in float32."""
    if trainer.engine.precision != "float32":
        return None
    return [torch.zeros_like(each) if each.grad is None else each.grad for each in _parameters(trainer.model)]


# ------------------------------------------------------------------------------------------ the surface around a point


def filter_direction(model: nn.Module, generator: torch.Generator) -> Tensors:
    """A random direction in the space of the model's parameters, filter by filter as long as the weights.

    d ← d/‖d‖ · ‖w‖ for each filter of a convolution and each row of a linear layer; 0 for biases and batch norm
    (Li et al., 2018, section 4). ValueError: none of them is learned.
    """
    direction = [torch.zeros_like(parameter) for parameter in _parameters(model)]
    for weight, along in zip(_parameters(model), direction):
        if weight.ndim > 1:
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            along.copy_(noise * (_filter_norms(weight.detach()) / _filter_norms(noise)))
    return direction


def _filter_norms(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)


@torch.no_grad()
def loss_surface(model: nn.Module, loss: Loss, xs: Sequence[float], ys: Sequence[float], seed: int = 0) -> np.ndarray:
    """The loss in evaluation mode at w + x·d₁ + y·d₂, (len(ys), len(xs)); d₁ and d₂ are two of `filter_direction`.

    The model comes back as with `effective_smoothness`; a loss that is not finite stays what it is.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = (filter_direction(model, generator) for _ in range(2))
    surface = np.empty((len(ys), len(xs)))
    for j, i in np.ndindex(surface.shape):
        offset = [xs[i] * a + ys[j] * b for a, b in zip(first, second)]
        with _moved(_parameters(model), offset, 1.0), _as_found(model):
            surface[j, i] = loss(model.eval()).item()
    return surface
