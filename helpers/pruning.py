"""What is sparse in a network and what can be cut: the support of Γ and when it came about, pruning in the order of
DessiLBI's authors, and the smaller network that is left. It never trains, and leaves the model it is given as it is."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from helpers import models

NEVER = 2000  # in place of an epoch, for what never entered the support; the number is that of the authors' code
PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


# ------------------------------------------------------------------------------------------ support


def units(weight: Tensor) -> Tensor:
    """What can be cut on its own: of a convolution's weight (F, C, …) the norm of each filter (F,), else each |w|."""
    return weight.flatten(1).norm(dim=1) if weight.ndim > 2 else weight.abs()


def gammas(optimizer) -> dict[str, Tensor]:
    """Γ of each penalised parameter of a DessiLBI optimizer, by name (or position where it was given no names)."""
    found = {}
    for index, group in enumerate(optimizer.param_groups):
        names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
        if group.get("penalty") is not None:
            found.update({name: optimizer.gamma(p) for name, p in zip(names, group["params"])})
    return found


def support(optimizer) -> dict[str, Tensor]:
    """Where Γ is not zero, by parameter: bool for each filter (F,) of a convolution, else in the weight's shape."""
    return {name: units(gamma) > 0 for name, gamma in gammas(optimizer).items()}


class Path:
    """A probe of the training loop: the way of Γ over a run with DessiLBI (the solution path).

    `series` holds, for each of `points` + 1 moments evenly over the run: `path_step`, the step; `path_<parameter>`
    (points, F), the norm of each filter of Γ, or (points,), the share of a linear layer's weights in the support. And
    `entry_<parameter>`: the epoch at whose end a filter or weight was first in the support, else NEVER.
    """

    def __init__(self, run_steps: int, epoch_steps: int, points: int = 100):
        self.total, self.epoch_steps = run_steps, epoch_steps
        points = min(points, run_steps)
        self.moments = {round(i * run_steps / points): i for i in range(points + 1)}
        self.series: dict[str, Tensor] = {}

    def __call__(self, trainer, *_) -> None:
        """Looks at Γ before the step `trainer.step`, if that is a moment to look."""
        self.look(trainer.optimizer, trainer.step)

    def finish(self, trainer) -> None:
        """Looks at Γ after the last step."""
        self.look(trainer.optimizer, trainer.step)

    def look(self, optimizer, step: int) -> None:
        moment, epoch_ends = self.moments.get(step), step > 0 and step % self.epoch_steps == 0
        if moment is None and not epoch_ends:
            return
        for name, gamma in gammas(optimizer).items():
            sizes = units(gamma).cpu()
            values = sizes if gamma.ndim > 2 else (sizes > 0).float().mean()
            if moment is not None:
                self._series(f"path_{name}", (len(self.moments), *values.shape), torch.float32)[moment] = values
                self._series("path_step", (len(self.moments),), torch.int32)[moment] = step
            if epoch_ends:
                entry = self._series(f"entry_{name}", sizes.shape, torch.int16, NEVER)
                entry[(sizes > 0) & (entry == NEVER)] = step // self.epoch_steps

    def _series(self, name: str, shape, dtype, fill: float = 0) -> Tensor:
        if name not in self.series:
            self.series[name] = torch.full(shape, fill, dtype=dtype)
        return self.series[name]

    def state_dict(self) -> dict:
        return {"series": self.series}

    def load_state_dict(self, state: dict) -> None:
        self.series = state["series"]


# ------------------------------------------------------------------------------------------ pruning


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that can be pruned, convolutions and linear ones, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, PRUNABLE)}


def pruning_order(model: nn.Module, entry: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """How much each filter or weight of a model is worth keeping, by layer; what is lowest is pruned first.

    The authors' order: ‖W_f‖ less the epoch in which filter f entered the support, |w| less that of a weight, NEVER for
    what did not enter. `entry`: parameter name → epochs, as `Path` records it. Without it: magnitude alone. Raises
    ValueError for a name that is no weight of the model's layers.
    """
    order, found = {}, layers(model)
    if strange := sorted(set(entry or {}) - {f"{name}.weight" for name in found}):
        raise ValueError(f"entry is of {', '.join(strange)}, which the model doesn't have: it has {', '.join(found)}")
    for name, layer in found.items():
        order[name] = units(layer.weight.detach())
        if entry is not None and f"{name}.weight" in entry:
            order[name] = order[name].double() - entry[f"{name}.weight"].to(order[name].device)
    return order


@torch.no_grad()
def elimination_order(model: nn.Module, name: str, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """How much each filter of the convolution `name` is worth keeping, in the form of `pruning_order`: {name: (F,)}.

    Backward elimination: of the filters that are left, that one goes next without which the loss on `images`, (N, C, H,
    W) as the model takes them, is lowest. It looks at what filters do, and so sees which do what others do as well.
    Raises ValueError for a layer that is no convolution of the chain.
    """
    stages, layer = _stages(model), dict(model.named_modules()).get(name)
    places = [i for i, stage in enumerate(stages) if stage is layer and isinstance(stage, nn.Conv2d)]
    if not places:
        raise ValueError(f"{name!r} is no convolution of the chain: its units can't be eliminated one by one")
    with models.keeping_modes(model):
        model.eval()
        outputs = nn.Sequential(*stages[: places[0] + 1])(images)
        rest = nn.Sequential(*stages[places[0] + 1 :])
        kept, order = outputs.new_ones(outputs.shape[1]), torch.empty(outputs.shape[1])
        for rank in range(len(kept)):
            losses = torch.full_like(kept, torch.inf)
            for unit in kept.nonzero()[:, 0]:
                without = kept.index_fill(0, unit, 0)
                losses[unit] = nn.functional.cross_entropy(rest(outputs * without[:, None, None]), labels)
            gone = losses.argmin()
            order[gone], kept[gone] = rank, 0
    return {name: order}


def prune(model: nn.Module, order: Mapping[str, Tensor], fraction: float, layers: Sequence[str]) -> nn.Module:
    """A copy of `model` with the lowest `fraction` (0 to 1) of filters or weights in each of `layers` set to zero.

    A filter's bias goes with it. Raises ValueError for a fraction out of range, a layer that has no order or one whose
    weight is computed from other parameters.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction {fraction} is not allowed: it must be between 0 and 1")
    pruned = copy.deepcopy(model)
    modules = dict(pruned.named_modules())
    for name in layers:
        if name not in order:
            raise ValueError(f"{name!r} is no layer that can be pruned: there are {', '.join(order)}")
        if not isinstance(modules[name].weight, nn.Parameter):
            raise ValueError(f"the weight of {name!r} is computed from other parameters: remove its parametrization")
        scores = order[name].flatten()
        lowest = torch.argsort(scores, stable=True)[: round(fraction * len(scores))]
        mask = torch.ones_like(scores, dtype=torch.bool)
        mask[lowest] = False
        _apply(modules[name], mask.view_as(order[name]))
    return pruned


@torch.no_grad()
def _apply(layer: nn.Module, kept: Tensor) -> None:
    """Sets to zero what is not `kept`: filters (F,) with their biases, or weights."""
    filters = kept.ndim < layer.weight.ndim
    layer.weight.mul_(kept.view(-1, *[1] * (layer.weight.ndim - 1)) if filters else kept)
    if filters and layer.bias is not None:
        layer.bias.mul_(kept)


def masks(model: nn.Module, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameter name → mask in its shape, from the filters (F,) or weights that stay, by name of the weight."""
    parameters, found = dict(model.named_parameters()), {}
    for name, mask in kept.items():
        weight = parameters[name]
        filters = mask.ndim < weight.ndim
        found[name] = (mask.view(-1, *[1] * (weight.ndim - 1)) if filters else mask).expand_as(weight).float()
        bias = name.removesuffix("weight") + "bias"
        if filters and bias in parameters:
            found[bias] = mask.float()
    return found


def shuffled(kept: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Masks with as many filters or weights kept in each layer, but drawn by lot."""
    generator = torch.Generator().manual_seed(seed)
    return {name: mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(mask)
            for name, mask in kept.items()}  # fmt: skip


@torch.no_grad()
def pruned_accuracies(model, order, fractions, names, images: Tensor, labels: Tensor) -> Tensor:
    """Accuracy of `model` with each of `fractions` of the layers `names` pruned: (len(fractions),).

    `images` (N, C, H, W) as the model takes them. What lies before the first pruned layer is computed only once.
    """
    stages, modules = _stages(model), dict(model.named_modules())
    first = min(next(i for i, stage in enumerate(stages) if stage is modules[name]) for name in names)
    parts, accuracies = images.split(1000), []
    with models.keeping_modes(model):
        model.eval()
        for stage in stages[:first]:
            parts = [stage(part) for part in parts]
        for fraction in fractions:
            tail = nn.Sequential(*_stages(prune(model, order, fraction, names))[first:])
            outputs = torch.cat([tail(part) for part in parts])
            accuracies.append((outputs.argmax(1) == labels).double().mean())
    return torch.stack(accuracies).cpu()


def _stages(model: nn.Module) -> list[nn.Module]:
    """The layers of a chain, in the order in which they are gone through. Raises ValueError for any other model."""
    if isinstance(model, nn.Sequential):
        return [*model]
    if not all(isinstance(getattr(model, part, None), nn.Sequential) for part in ("features", "classifier")):
        raise ValueError(f"a {type(model).__name__} is no chain: give a Sequential, or a model of features, classifier")
    return [*model.features, *model.classifier]


# ------------------------------------------------------------------------------------------ what is left


def multiply_adds(model: nn.Module, shape: tuple[int, ...], padding: bool = True) -> list[int]:
    """Multiply-adds of each convolution and linear layer, in order, forward, for one image of `shape` (C, H, W).

    `padding`: as is usual, with those by the zeros around a map. No result needs them.
    """
    counts = []

    def count(layer, inputs, output):
        positions = output[0].numel() // len(layer.weight)
        if isinstance(layer, nn.Conv2d) and not padding:
            window = torch.ones(1, 1, *layer.kernel_size)
            met = nn.functional.conv2d(  # how many pixels each place of the window sees
                torch.ones(1, 1, *inputs[0].shape[2:]), window, None, layer.stride, layer.padding, layer.dilation
            )
            counts.append(int(met.sum()) * layer.weight.numel() // window.numel())
        else:
            counts.append(positions * layer.weight.numel())

    hooks = [layer.register_forward_hook(count) for layer in layers(model).values()]
    try:
        with torch.no_grad(), models.keeping_modes(model):
            model.eval()(torch.zeros(1, *shape, device=next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return counts


def summary(model: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    """Shares (0 to 1) that are left of a pruned model: of filters and of weights that are not zero, of multiply-adds.

    The multiply-adds are those of `compact(model)` for an image of `shape` (C, H, W).
    """
    weights = [layer.weight.detach() for layer in layers(model).values()]
    filters = [units(weight) > 0 for weight in weights if weight.ndim > 2]
    return {
        "filters": torch.cat(filters).double().mean().item() if filters else 1.0,  # none was cut
        "weights": sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights),
        "multiply_adds": sum(multiply_adds(compact(model), shape)) / sum(multiply_adds(model, shape)),
    }


@torch.no_grad()
def sizes(model: nn.Module, order, fractions: Sequence[float], names: Sequence[str], images: Tensor) -> list[dict]:
    """What is left of `model` with each of `fractions` of the layers `names` pruned and the zeros cut out.

    For each: `pruned`, the fraction; `parameters`, how many; `multiply_adds`, the share (0 to 1) of those of `model`;
    `apart`, how far the outputs of the smaller network are from those of the one with zeros, on `images` (N, C, H, W).
    """
    left = []
    for fraction in fractions:
        cut = prune(model, order, fraction, names).eval()
        small = compact(cut)
        left.append({
            "pruned": fraction, "parameters": sum(each.numel() for each in small.parameters()),
            "multiply_adds": summary(cut, images.shape[1:])["multiply_adds"],
            "apart": (small(images) - cut(images)).abs().max().item(),
        })  # fmt: skip
    return left


@torch.no_grad()
def compact(model: nn.Module) -> nn.Module:
    """The same function as `model` in evaluation mode, with the filters and units that only give zeros cut out.

    For a Sequential, or a model whose `features` and `classifier` are, of convolution, batch norm, ReLU, pooling,
    dropout, flatten and linear layers. A filter of zero is kept where batch norm makes a constant of it that ReLU lets
    through. Raises ValueError for anything else in the chain.
    """
    smaller = copy.deepcopy(model)
    stages = _stages(smaller)
    for stage in stages:
        if sum(stage is each for each in stages) > 1 and [*stage.parameters()]:
            raise ValueError(f"a {type(stage).__name__} that is gone through twice can't be made smaller")
        if not isinstance(stage, (*PRUNABLE, *_PASSING, nn.BatchNorm2d)):
            raise ValueError(f"a {type(stage).__name__} can't be made smaller: the network must be a chain of layers")
        if getattr(stage, "groups", 1) > 1:
            raise ValueError("a convolution in groups can't be made smaller: its filters see different inputs")
        if isinstance(stage, nn.BatchNorm2d) and stage.running_mean is None:
            raise ValueError("batch norm without running statistics can't be made smaller: its outputs are not fixed")
    ends = [i for i, stage in enumerate(stages) if isinstance(stage, PRUNABLE)]
    for here, there in zip(ends, ends[1:]):
        _cut(stages[here], stages[here + 1 : there], stages[there])
    return smaller


_PASSING = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, nn.Dropout2d, nn.Flatten)  # these make zeros of zeros


def _cut(layer: nn.Module, between: list[nn.Module], after: nn.Module) -> None:
    """Cuts out of `layer` what reaches `after` as zero, and the inputs of `after` that it was."""
    outputs = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
    norms = [stage for stage in between if isinstance(stage, nn.BatchNorm2d)]
    for stage in between:  # what becomes of a filter of zero, whose output is its bias everywhere
        if stage in norms:
            outputs = nn.functional.batch_norm(
                outputs[None], stage.running_mean, stage.running_var, stage.weight, stage.bias, eps=stage.eps
            )[0]
        elif isinstance(stage, nn.ReLU):
            outputs = outputs.relu()
    kept = (layer.weight.flatten(1) != 0).any(1) | (outputs != 0)
    if not kept.any():
        kept[0] = True  # a layer needs one output
    _replace(after, "weight", after.weight[:, _inputs(kept, layer, between, after)])
    for stage in (layer, *norms):
        for name in ("weight", "bias"):
            if getattr(stage, name) is not None:
                _replace(stage, name, getattr(stage, name)[kept])
    for norm in norms:
        norm.running_mean, norm.running_var = norm.running_mean[kept], norm.running_var[kept]
    for stage in (layer, *norms, after):
        _say_sizes(stage)


def _inputs(kept: Tensor, layer: nn.Module, between: list[nn.Module], after: nn.Module) -> Tensor:
    """Which inputs of `after` (its second dimension) are left if of the outputs of `layer` those `kept` are."""
    flat = any(isinstance(stage, nn.Flatten) for stage in between)
    copies, rest = divmod(after.weight.shape[1], len(kept))  # of each output, where a map or a series was flattened
    alike = isinstance(layer, nn.Linear) == isinstance(after, nn.Linear)
    if rest or not (flat or alike and copies == 1):
        inputs = after.weight.shape[1]
        raise ValueError(f"a {type(after).__name__} of {inputs} inputs after {len(kept)} outputs can't be"
                         " made smaller: its inputs are other things")  # fmt: skip
    # Maps are flattened channel by channel, what a linear layer gives moment by moment.
    return kept.repeat(copies) if isinstance(layer, nn.Linear) else kept.repeat_interleave(copies)


def _replace(stage: nn.Module, name: str, value: Tensor) -> None:
    setattr(stage, name, nn.Parameter(value, requires_grad=getattr(stage, name).requires_grad))


def _say_sizes(stage: nn.Module) -> None:
    """Makes what a layer says of itself agree with its weights."""
    if isinstance(stage, nn.Linear):
        stage.out_features, stage.in_features = stage.weight.shape
    elif isinstance(stage, nn.BatchNorm2d):
        stage.num_features = len(stage.running_mean)
    else:
        stage.out_channels, stage.in_channels = stage.weight.shape[:2]
