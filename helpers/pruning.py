"""What is sparse in a network and what can be cut: the support of Γ and when it came about, pruning in the order of
DessiLBI's authors, and the smaller network that is left. It never trains, and leaves the model it is given as it is.

One file to copy beside `dessilbi.py`; it needs torch and torch-pruning alone:

    entered = support(optimizer)["conv2.weight"]  # of a DessiLBI optimizer, (F,) bool
    pruned = prune(model, pruning_order(model), fraction=0.8, layers=["conv1", "conv2"])
    smaller = compact(pruned, example_inputs=images[:1])  # gives what `pruned` gives
    print(compare(pruned, smaller, images))  # parameters, multiply-adds, milliseconds
"""

import contextlib
import copy
import functools
import itertools
import math
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch_pruning
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

NEVER = 2000  # in place of an epoch, for what never entered the support; the number is that of the authors' code
PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = nn.modules.batchnorm._BatchNorm
TAKING = (nn.modules.conv._ConvNd, nn.Linear)  # layers that make outputs of inputs, and so can lose some of either

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]  # what a model is called with


# ------------------------------------------------------------------------------------------ support


def units(weight: Tensor, whole: bool | None = None) -> Tensor:
    """What can go on its own: the norm of each filter or unit w[f], (F,), or each |w| in the weight's shape.

    `whole`: which of the two; not given, filters of weights of more than two dimensions, which convolutions have.
    """
    whole = weight.ndim > 2 if whole is None else whole
    return torch.linalg.vector_norm(weight.flatten(1), dim=1) if whole else weight.abs()


def _penalised(optimizer) -> Iterator[tuple[str, dict, Tensor]]:
    """(name, group, parameter) of each parameter with a penalty; its name is its place where it was given none."""
    for index, group in enumerate(optimizer.param_groups):
        names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
        if group.get("penalty") is not None:
            yield from ((name, group, parameter) for name, parameter in zip(names, group["params"]))


def support(optimizer) -> dict[str, Tensor]:
    """Where Γ of a DessiLBI optimizer is not zero, by parameter: bool for each filter or unit (F,) where it was
    penalised by group, else in the weight's shape."""
    return {name: units(optimizer.gamma(parameter), group["penalty"] == "group") > 0
            for name, group, parameter in _penalised(optimizer)}  # fmt: skip


@torch.no_grad()
def expected_entry(optimizer) -> dict[str, Tensor]:
    """In how many steps each filter or weight would enter the support, by parameter as `support` has it, if its size
    and the rate stayed as they are: (1 − ‖Z‖) ν/(α ‖W‖), at the start of a run ν/(α ‖W‖); 0 where it is in, inf where W
    is zero."""
    found = {}
    for name, group, weight in _penalised(optimizer):
        z = optimizer.state.get(weight, {}).get("z", torch.zeros_like(weight))
        size, reached = (units(each, group["penalty"] == "group") for each in (weight, z))
        found[name] = ((1 - reached).clamp(min=0) * (group["mu"] / group["lr"]) / size).nan_to_num(0, math.inf)
    return found


class Path:
    """A probe of the training loop: the way of Γ over a run with DessiLBI (the solution path).

    `series` holds, for each of `points` + 1 moments evenly over the run: `path_step`, the step; `path_<parameter>`
    (points, F), the norm of each filter or unit of Γ, or (points,), the share of single weights in the support. And
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
        for name, group, parameter in _penalised(optimizer):
            sizes = units(optimizer.gamma(parameter), group["penalty"] == "group").cpu()
            values = sizes if group["penalty"] == "group" else (sizes > 0).float().mean()
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
    refuse_lazy(model)
    order, found = {}, layers(model)
    if strange := sorted(set(entry or {}) - {f"{name}.weight" for name in found}):
        raise ValueError(f"entry is of {', '.join(strange)}, which the model doesn't have: it has {', '.join(found)}")
    for name, layer in found.items():
        entered = (entry or {}).get(f"{name}.weight")
        order[name] = units(layer.weight.detach(), None if entered is None else entered.ndim == 1)
        if entered is not None:
            order[name] = order[name].double() - entered.to(order[name].device)
    return order


def refuse_lazy(model: nn.Module) -> None:
    if any(nn.parameter.is_lazy(each) for each in itertools.chain(model.parameters(), model.buffers())):
        raise ValueError("a model with lazy layers has no weights yet: call it on a batch first")


@torch.no_grad()
def prune(model: nn.Module, order: Mapping[str, Tensor], fraction: float, layers: Sequence[str]) -> nn.Module:
    """A copy of `model` with the lowest `fraction` (0 to 1) of filters or weights in each of `layers` set to zero.

    With a filter go its bias and the scale and shift of the batch norm straight behind it, so that its channel is zero.
    Raises ValueError for a fraction out of range, a layer that has no order or one whose weight is computed from other
    parameters.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction {fraction} is not allowed: it must be between 0 and 1")
    refuse_lazy(model)
    pruned = copy.deepcopy(model)
    modules, kept = dict(pruned.named_modules()), {}
    there = [name for name in order if isinstance(modules.get(name), PRUNABLE)]
    for name in layers:
        if name not in there:
            raise ValueError(f"{name!r} is no layer that can be pruned: there are {', '.join(there) or 'none'}")
        if not isinstance(modules[name].weight, nn.Parameter):
            raise ValueError(f"the weight of {name!r} is computed from other parameters: remove its parametrization")
        scores = order[name].flatten()
        lowest = torch.argsort(scores, stable=True)[: round(fraction * len(scores))]
        mask = torch.ones_like(scores, dtype=torch.bool).index_fill(0, lowest, False)
        kept[f"{name}.weight"] = mask.view_as(order[name])
    parameters = dict(pruned.named_parameters(remove_duplicate=False))
    for name, mask in masks(pruned, kept).items():
        parameters[name].mul_(mask)
    return pruned


def masks(model: nn.Module, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameter name → mask in its shape, from the filters (F,) or weights that stay, by name of the weight.

    With a filter come its bias and the scale and shift of the batch norm straight behind it. Raises ValueError for what
    is no parameter of the model.
    """
    parameters, modules = dict(model.named_parameters(remove_duplicate=False)), dict(model.named_modules())
    norms, found = _norms_behind(model), {}
    for name, mask in kept.items():
        if name not in parameters:
            raise ValueError(f"{name!r} is no parameter of the model: it has {', '.join(parameters) or 'none'}")
        weight, layer = parameters[name], name.removesuffix(".weight")
        filters = mask.ndim < weight.ndim
        of_inputs = getattr(modules.get(layer), "transposed", False)  # which have no bias of their own
        found[name] = (mask.view(-1, *[1] * (weight.ndim - 1)) if filters else mask).expand_as(weight).float()
        for along in (f"{layer}.bias", f"{norms.get(layer)}.weight", f"{norms.get(layer)}.bias"):
            if filters and not of_inputs and along in parameters:
                found[along] = mask.float()
    return found


def _norms_behind(model: nn.Module) -> dict[str, str]:
    """Name of a layer → that of the batch norm that takes in what it gives, as torch.fx finds them."""
    modules = dict(model.named_modules())
    if not any(isinstance(module, NORMS) for module in modules.values()):
        return {}
    try:
        nodes = [node for node in fx.Tracer().trace(model).nodes if node.op == "call_module"]
    except Exception as error:  # whatever the model's own code raises on what is no tensor
        reason = f"torch.fx can't follow a {type(model).__name__}: {error}"
        warnings.warn(f"the batch norm behind a pruned filter stays as it is, since {reason}", stacklevel=3)
        return {}
    uses = Counter(node.target for node in nodes)
    return {node.all_input_nodes[0].target: node.target for node in nodes
            if isinstance(modules[node.target], NORMS) and uses[node.target] == 1
            and node.all_input_nodes[0].op == "call_module"}  # fmt: skip


# ------------------------------------------------------------------------------------------ what is left


def multiply_adds(model: nn.Module, example_inputs: Inputs) -> int:
    """Multiply-adds of a forward pass on `example_inputs`, in evaluation mode, as torch's FlopCounterMode counts them.

    Those of convolutions and matrix products (attention's too), with those by the zeros of a padding; no biases.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it knows no fused attention on CPUs
        _outputs(model, example_inputs)
    return counter.get_total_flops() // 2  # a multiply-add is two operations


@torch.no_grad()
def compare(before: nn.Module, after: nn.Module, example_inputs: Inputs, repeats: int = 20) -> tuple[dict, dict]:
    """Of two networks: `parameters`; `multiply_adds` and `milliseconds` of a forward pass in evaluation mode on
    `example_inputs`, the fastest of `repeats` in turn; of the second also `apart`, how far its outputs are from those
    of the first at most."""
    both, times = (before, after), ([], [])
    outputs = [_outputs(model, example_inputs) for model in both]
    for turn in range(2 * repeats):
        with _evaluating(both[turn % 2]):
            started = time.perf_counter()
            _call(both[turn % 2], example_inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[turn % 2].append(1e3 * (time.perf_counter() - started))
    found = [{"parameters": sum(each.numel() for each in model.parameters()),
              "multiply_adds": multiply_adds(model, example_inputs), "milliseconds": min(taken)}
             for model, taken in zip(both, times)]  # fmt: skip
    apart = max(((this - that).abs().max().item() for this, that in zip(*outputs)), default=0.0)
    return found[0], {**found[1], "apart": apart}


def compact(model: nn.Module, example_inputs: Inputs) -> nn.Module:
    """The same function as `model` in evaluation mode, with the channels and units that are always zero cut out.

    A channel goes where each layer that takes it in gets zero from it whatever the network is given: its filter is zero
    and nothing makes a constant of it, nor adds to it what isn't zero. torch-pruning's DependencyGraph (Fang et al.,
    2023, "DepGraph: Towards Any Structural Pruning") says which layers are then cut together.

    `example_inputs`: a tensor, a tuple of them or a dict by name, as the model takes them. Filters of zero that have to
    stay are told in one warning, by layer and with the reason. The model itself is left alone. Raises ValueError for
    one that is lazy, complex, holds nothing that could be cut, or isn't called with such inputs.
    """
    _check(model)
    expected = _outputs(model, example_inputs)
    cuts, stays = _plan(model, example_inputs, *_followed(model, example_inputs))
    smaller = _cut(model, example_inputs, cuts, expected)
    if smaller is None:
        smaller, wrong = _one_by_one(model, example_inputs, cuts, expected)
        stays.update({name: Counter({"the outputs would change": len(cuts[name])}) for name in wrong})
    if stays:
        listed = (f"{n} of {name!r} ({why})" for name, found in stays.items() for why, n in found.items())
        warnings.warn(f"filters and units of zero that can't be cut out: {'; '.join(listed)}", stacklevel=2)
    return smaller


def _check(model: nn.Module) -> None:
    refuse_lazy(model)
    if any(each.is_complex() for each in model.parameters()):
        raise ValueError("a model with complex parameters can't be made smaller: only real ones can")
    if not layers(model):
        raise ValueError(f"a {type(model).__name__} has no convolution and no linear layer that could be made smaller")


def _call(model: nn.Module, inputs: Inputs):
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs) if isinstance(inputs, Tensor) else model(*inputs)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and in its own again after it; attention without its fused path, which passes layers by."""
    modes, fast = [(module, module.training) for module in model.modules()], torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes:
            module.training = training


# ------------------------------------------------------------------------------------------ what is always zero


@torch.no_grad()
def _followed(model: nn.Module, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What each layer takes in at each of its inputs, (inputs,): NaN if that depends on what the network is given, else
    the largest |x|, which is then the same for whatever it is given; and which of its outputs do, (outputs,) bool.

    One forward pass on NaN: what comes out of it as a number can't depend on it. A layer passes NaN on only where a
    weight other than zero meets it, so filters of zero are seen to be constant.
    """
    followed, taken, alive = copy.deepcopy(model), {}, {}
    for name, layer in followed.named_modules():
        if isinstance(layer, TAKING) and isinstance(layer.weight, nn.Parameter):
            ones = copy.deepcopy(layer)
            ones.weight, ones.bias = nn.Parameter((layer.weight != 0).to(layer.weight)), None
            layer.forward = functools.partial(_follow, name, layer.forward, ones.forward, taken, alive)
        elif isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):  # takes whole numbers, which can't be NaN
            layer.weight = nn.Parameter(_unknown(layer.weight))
    with _evaluating(followed), _Products():
        _call(followed, tree_map_only(Tensor, _unknown, inputs))
    return taken, alive


class _Products(TorchDispatchMode):
    """Zero times NaN is zero: a gate, whatever it is, lets nothing through of a channel of zero."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function not in (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor):
            return function(*args, **kwargs or {})
        zero = (args[0] == 0) | (args[1] == 0)
        return function(*args, **kwargs or {}).masked_fill_(zero, 0)


def _unknown(given: Tensor) -> Tensor:
    """NaN in place of numbers; whole numbers and truth values stay as they are."""
    return torch.full_like(given, torch.nan) if given.is_floating_point() else given


def _follow(name: str, forward: Callable, ones: Callable, taken: dict, alive: dict, given: Tensor, *rest) -> Tensor:
    """What a layer makes of inputs that are NaN where they depend on what is given; notes both as `_followed` does."""
    unknown, channel = given.isnan(), -1 - len(getattr(forward.__self__, "kernel_size", ()))
    largest = given.movedim(channel, 0).flatten(1).abs().amax(1)
    depends = ones(unknown.to(given), *rest) != 0
    taken[name] = torch.maximum(taken.get(name, largest), largest)  # both pass NaN on
    alive[name] = alive.get(name, False) | depends.movedim(channel, 0).flatten(1).any(1)
    return forward(given.masked_fill(unknown, 0), *rest).masked_fill(depends, torch.nan)


# ------------------------------------------------------------------------------------------ what is cut together


class _Convolutions(torch_pruning.pruner.function.ConvPruner):
    """torch-pruning takes it that each group of a convolution loses the same inputs; here each loses its own."""

    def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        if layer.groups == 1:
            return super().prune_in_channels(layer, idxs)
        kept = torch.ones(layer.in_channels, dtype=torch.bool, device=layer.weight.device)
        kept[idxs] = False
        if layer.transposed:
            weight = layer.weight[kept]
        else:
            groups = zip(layer.weight.chunk(layer.groups), kept.chunk(layer.groups))
            weight = torch.cat([filters[:, mask] for filters, mask in groups])
        layer.weight, layer.in_channels = nn.Parameter(weight.detach()), int(kept.sum())
        return layer


def _graph(model: nn.Module, inputs: Inputs) -> torch_pruning.DependencyGraph:
    """The graph of `model`, whose parameters it makes learnable: it is traced by their gradients."""
    graph, convolutions = torch_pruning.DependencyGraph(), _Convolutions()
    graph.REGISTERED_PRUNERS[torch_pruning.ops.OPTYPE.CONV] = convolutions
    graph.register_customized_layer(_Convolutions, convolutions)  # a layer that there isn't: lists the functions anew
    with _evaluating(model.requires_grad_()), torch.enable_grad():
        try:
            return graph.build_dependency(model, inputs, forward_fn=_call, verbose=False)
        except Exception as error:  # it has none of its own
            raise ValueError(f"torch-pruning can't follow a {type(model).__name__}: {error or repr(error)}") from error


def _plan(model: nn.Module, inputs: Inputs, taken: dict, alive: dict) -> tuple[dict[str, list], dict[str, Counter]]:
    """What is cut, layer → which of its outputs, with which go those of the layers coupled to it; and what zeros stay,
    layer → how many for which reason."""
    graph, fixed = _graph(copy.deepcopy(model), inputs), _fixed(model)
    names = {module: name for name, module in graph.model.named_modules()}
    taken = {name: values.tolist() for name, values in taken.items()}
    cuts, stays = {}, {}
    for group in _groups(graph, [layer for layer, name in names.items() if name not in alive or not alive[name].all()]):
        root, every = group[0].dep, len(group[0].idxs)
        reasons = _reasons(graph, group, names, taken, fixed)
        gone = _evenly(graph, group, set(range(every)) - set(reasons))
        if gone:
            exact = graph.get_pruning_group(root.target.module, root.handler, sorted(gone))
            if set(exact[0].idxs) != gone or _reasons(graph, exact, names, taken, fixed):
                reasons.update(dict.fromkeys(gone, "they are coupled with other outputs of the same layer"))
                gone = set()
        if gone:
            cuts[names[root.target.module]] = sorted(gone)
        if len(gone) < every - 1:  # else what stays is the one output that a layer needs
            _note_zeros(graph, group, names, gone, reasons, stays)
    for name, layer in layers(graph.model).items():
        if layer not in graph.module2node and (zeros := int(_zeros(layer).sum())):
            stays[name] = Counter({"the outputs can't be traced back to them": zeros})
    for name, module in graph.model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            if zeros := int((module.in_proj_weight.count_nonzero(1) == 0).sum()):
                stays[f"{name}.in_proj_weight".lstrip(".")] = Counter({"all heads of attention are of one size": zeros})
    return cuts, stays


def _groups(graph: torch_pruning.DependencyGraph, roots: Sequence[nn.Module]) -> Iterator:
    """The layers that lose outputs, or the inputs made of them, with all outputs of each of `roots`; each group once.

    Not torch-pruning's `get_all_groups`, which also searches where there is nothing to cut (in Swin without an end).
    """
    met = set()
    for layer in roots:
        if isinstance(layer, TAKING) and layer in graph.module2node and layer not in met:
            pruner = graph.get_pruner_of_module(layer)
            group = graph.get_pruning_group(layer, pruner.prune_out_channels, range(pruner.get_out_channels(layer)))
            met.update(item.dep.target.module for item in group if not _takes(graph, item.dep))
            yield group


def _fixed(model: nn.Module) -> dict[str, str]:
    """Name of each module whose parameters can't be replaced by smaller ones → why."""
    owners, fixed = defaultdict(list), {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[parameter].append(name.rpartition(".")[0])
    for several in owners.values():
        if len(several) > 1:
            fixed.update(dict.fromkeys(several, f"{' and '.join(map(repr, several))} share a parameter"))
    for name, module in model.named_modules():
        if isinstance(module, TAKING) and not isinstance(module.weight, nn.Parameter):
            fixed[name] = f"the weight of {name!r} is computed from other parameters"
    return fixed


def _takes(graph: torch_pruning.DependencyGraph, dep) -> bool:
    """Whether this is a layer that loses inputs, and not one whose outputs are those inputs, as a batch norm's are."""
    pruner = graph.get_pruner_of_module(dep.target.module)
    return dep.handler == pruner.prune_in_channels != pruner.prune_out_channels


def _reasons(graph, group, names, taken: Mapping[str, list[float]], fixed: Mapping[str, str]) -> dict[int, str]:
    """Output of the group's first layer → why it can't be cut; what isn't in it can."""
    reasons, takers = {}, 0
    for item in group:
        module, why = item.dep.target.module, None
        name, takes = names.get(module, ""), _takes(graph, item.dep)
        takers += takes
        if isinstance(module, torch_pruning.ops._OutputOp):
            why = "the network gives them out"
        elif name in fixed:
            why = fixed[name]
        elif takes:
            if name not in taken:
                why = f"{name!r}, which takes them in, is no convolution or linear layer that runs by itself"
            for place, output in zip(item.idxs, item.root_idxs) if why is None else ():
                if value := taken[name][place]:  # NaN, too, is true
                    reasons.setdefault(output, _NOT_ZERO[math.isnan(value)])
        if why:
            reasons.update(dict.fromkeys(item.root_idxs, why))
    return reasons if takers else dict.fromkeys(group[0].idxs, "the network gives them out")


_NOT_ZERO = {
    False: "a bias or a batch norm makes constants of them",
    True: "the layers that take them in get what others give there as well",
}


def _evenly(graph, group, free: set[int]) -> set[int]:
    """As many of `free` as may go: from each of a convolution's groups as many, and never all of a layer's."""
    gone, before = set(free), None
    while gone != before:
        before = set(gone)
        for item in group:
            module = item.dep.target.module
            if item.dep.target.type != torch_pruning.ops.OPTYPE.CONV or module.groups == 1:
                continue
            size = (module.in_channels if _takes(graph, item.dep) else module.out_channels) // module.groups
            blocks = [[] for _ in range(module.groups)]
            for place, output in zip(item.idxs, item.root_idxs):
                if output in gone:
                    blocks[place // size].append(output)
            fewest = min(size - 1, *map(len, blocks))
            gone.difference_update(*(block[fewest:] for block in blocks))
    return gone - {0} if len(gone) == len(group[0].idxs) else gone


def _note_zeros(graph, group, names, gone: set[int], reasons: dict[int, str], stays: dict[str, Counter]) -> None:
    """Adds to `stays` the filters and units of zero that the group's layers keep."""
    for item in group:
        layer = item.dep.target.module
        if not isinstance(layer, TAKING) or _takes(graph, item.dep):
            continue
        zero = _zeros(layer)
        found = Counter(reasons.get(output, "each group of a convolution must lose as many")
                        for place, output in zip(item.idxs, item.root_idxs)
                        if output not in gone and place < len(zero) and zero[place])  # fmt: skip
        if found:
            stays[names[layer]] = found


def _zeros(layer: nn.Module) -> Tensor:
    """Which filters or units of a layer have only weights of zero, (F,) bool."""
    weight = layer.weight.transpose(0, 1) if getattr(layer, "transposed", False) and layer.groups == 1 else layer.weight
    return weight.flatten(1).count_nonzero(1) == 0


# ------------------------------------------------------------------------------------------ cutting


def _cut(model: nn.Module, inputs: Inputs, cuts: Mapping[str, list[int]], expected: list[Tensor]) -> nn.Module | None:
    """A copy of `model` with the outputs `cuts` cut out; None if it doesn't give what is `expected` on `inputs`."""
    smaller = copy.deepcopy(model)
    learned = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        graph, modules = _graph(smaller, inputs), dict(smaller.named_modules())
        for name, gone in cuts.items():
            layer = modules[name]
            cut = graph.get_pruner_of_module(layer).prune_out_channels
            graph.get_pruning_group(layer, cut, gone).prune(record_history=False)
        same = _same(_outputs(smaller, inputs), expected)
    except Exception:  # layers that no longer fit together raise whatever they like
        return None
    for name, parameter in smaller.named_parameters():
        parameter.requires_grad_(learned[name])
    return smaller if same else None


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    refuse_lazy(model)
    with _evaluating(model):
        try:
            return [leaf for leaf in tree_leaves(_call(model, inputs)) if isinstance(leaf, Tensor)]
        except Exception as error:
            raise ValueError(f"a {type(model).__name__} can't be called with these example inputs: {error}") from error


def _same(these: list[Tensor], those: list[Tensor]) -> bool:
    """Whether two networks give the same, but for rounding: half the digits of their precision."""
    for this, that in zip(these, those):
        rounding = torch.finfo(that.dtype).eps ** 0.5 * that.abs().max().item() if that.is_floating_point() else 0
        if this.shape != that.shape or not torch.allclose(this, that, rtol=0, atol=rounding, equal_nan=True):
            return False
    return True


def _one_by_one(model: nn.Module, inputs: Inputs, cuts: Mapping[str, list[int]], expected: list[Tensor]):
    """A smaller copy of `model` by those of `cuts` that leave its outputs as they are, and the names of the others."""
    right, wrong, smaller = {}, [], copy.deepcopy(model)
    for name, gone in cuts.items():
        found = _cut(model, inputs, {**right, name: gone}, expected)
        if found is None:
            wrong.append(name)
        else:
            right[name], smaller = gone, found
    return smaller, wrong
