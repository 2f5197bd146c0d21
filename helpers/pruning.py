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
PRUNABLE = (nn.modules.conv._ConvNd, nn.Linear)  # layers that make outputs of inputs, and so can lose some of either
NORMS = nn.modules.batchnorm._BatchNorm

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]  # what a model is called with


# ------------------------------------------------------------------------------------------ support


def units(weight: Tensor, whole: bool | None = None) -> Tensor:
    """What can go on its own: the norm of each filter or unit w[f], (F,), or each |w| in the weight's shape.

    `whole`: which of the two; not given, filters of weights of more than two dimensions, which convolutions have. Those
    of a transposed convolution belong to an input channel each, as in DessiLBI's penalty.
    """
    whole = weight.ndim > 2 if whole is None else whole
    return torch.linalg.vector_norm(weight.flatten(1), dim=1) if whole else weight.abs()


def penalised(optimizer) -> Iterator[tuple[str, Tensor, bool, dict]]:
    """(name, parameter, whether by filter, group) of what has a penalty; a name is its place where none was given."""
    for index, group in enumerate(optimizer.param_groups):
        names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
        if group.get("penalty") is not None:
            yield from ((name, each, group["penalty"] == "group", group) for name, each in zip(names, group["params"]))


def support(optimizer) -> dict[str, Tensor]:
    """Where Γ of a DessiLBI optimizer is not zero, by parameter: bool for each filter or unit (F,) where it was
    penalised by group, else in the weight's shape."""
    return {name: units(optimizer.gamma(weight), whole) > 0 for name, weight, whole, _ in penalised(optimizer)}


@torch.no_grad()
def expected_entry(optimizer) -> dict[str, Tensor]:
    """In how many steps each filter or weight would enter the support, by parameter as `support` has it, if its size
    and the rate stayed as they are: (1 − ‖Z‖) ν/(α ‖W‖), at the start of a run ν/(α ‖W‖); 0 where it is in, inf where W
    is zero."""
    found = {}
    for name, weight, whole, group in penalised(optimizer):
        z = optimizer.state.get(weight, {}).get("z", torch.zeros_like(weight))
        missing, size = (1 - units(z, whole)).clamp(min=0), units(weight, whole)
        found[name] = (missing * (group["mu"] / group["lr"]) / size).nan_to_num(0, math.inf)
    return found


def note_entry(entry: dict[str, Tensor], optimizer, epoch: int) -> None:
    """Notes in `entry`, by parameter, for what is in the support for the first time that this came about in `epoch`;
    NEVER stands where it hasn't yet."""
    for name, inside in support(optimizer).items():
        first = entry.setdefault(name, torch.full(inside.shape, NEVER, dtype=torch.int16))
        first[inside.cpu() & (first == NEVER)] = epoch


# ------------------------------------------------------------------------------------------ pruning


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that can be pruned, convolutions and linear ones, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, PRUNABLE)}


def pruning_order(model: nn.Module, entry: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """How much each filter or weight of a model is worth keeping, by layer; what is lowest is pruned first.

    The authors' order: ‖W_f‖ less the epoch in which filter f entered the support, |w| less that of a weight, NEVER for
    what did not enter. `entry`: parameter name → epochs, as `note_entry` has it; what belongs to no such layer, as
    attention's `in_proj_weight`, is passed over. Without it: magnitude alone. Raises ValueError for other names.
    """
    refuse_lazy(model)
    order, found = {}, layers(model)
    others = {name for name, _ in model.named_parameters() if name.rpartition(".")[0] not in found}
    if strange := sorted(set(entry or {}) - others - {f"{name}.weight" for name in found}):
        raise ValueError(f"entry is of {', '.join(strange)}, which the model doesn't have: it has {', '.join(found)}")
    for name, layer in found.items():
        entered = (entry or {}).get(f"{name}.weight")
        order[name] = units(layer.weight.detach(), None if entered is None else entered.ndim == 1)
        if entered is not None:
            order[name] = order[name].double() - entered.to(order[name].device)
    return order


def refuse_lazy(model: nn.Module) -> None:
    if any(nn.parameter.is_lazy(each) for each in (*model.parameters(), *model.buffers())):
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
    for name, mask in masks(pruned, kept).items():
        pruned.get_parameter(name).mul_(mask)
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
    """The same function as `model` in evaluation mode, with the channels and units that do nothing cut out.

    A channel goes where each layer that takes it in has only weights of zero for it, or gets zero from it whatever the
    network is given: its filter is zero and nothing makes a constant of it, nor adds to it what isn't zero. So inputs
    of zero go as well, which are the filters of a transposed convolution. torch-pruning's DependencyGraph (Fang et al.,
    2023, "DepGraph: Towards Any Structural Pruning") says which layers are then cut together.

    `example_inputs`: a tensor, a tuple of them or a dict by name, as the model takes them. Filters of zero that have to
    stay are told in one warning, by layer and with the reason. The model itself is left alone. Raises ValueError for
    one that is lazy, complex, holds nothing that could be cut, or isn't called with such inputs.
    """
    refuse_lazy(model)
    if any(each.is_complex() for each in model.parameters()):
        raise ValueError("a model with complex parameters can't be made smaller: only real ones can")
    if not layers(model):
        raise ValueError(f"a {type(model).__name__} has no convolution and no linear layer that could be made smaller")
    plan = _Plan(model, example_inputs)
    smaller, wrong = _without(model, _answers(model, example_inputs), plan.cuts)
    for name in wrong:
        plan.kept[name] = dict.fromkeys(range(len(plan.used[name][0])), "the outputs would change")
    if zeros := plan.zeros():
        listed = (f"{count} of {where} ({why})" for (where, why), count in zeros.items())
        warnings.warn(f"filters and units of zero that can't be cut out: {'; '.join(listed)}", stacklevel=2)
    return smaller


Answers = list[tuple[Inputs, list[Tensor]]]  # what a model is called with, and what it gives


def _answers(model: nn.Module, example_inputs: Inputs) -> Answers:
    """What `model` gives on the example inputs, and on random numbers in their place where it takes such: of inputs
    that are zero or all the same, another network may make the same."""
    numbers = torch.Generator().manual_seed(0)

    def drawn(each: Tensor) -> Tensor:
        return torch.randn(each.shape, generator=numbers).to(each) if each.is_floating_point() else each

    answers = [(example_inputs, _outputs(model, example_inputs))]
    with contextlib.suppress(ValueError):
        inputs = tree_map_only(Tensor, drawn, example_inputs)
        answers.append((inputs, _outputs(model, inputs)))
    return answers


def _without(model: nn.Module, answers: Answers, cuts: Mapping[str, list[int]]):
    """A copy of `model` without the outputs `cuts`, and the names of the layers that keep theirs, since else its
    `answers` would be others."""
    right, smaller = {}, copy.deepcopy(model)
    for more in (cuts, *({name: gone} for name, gone in cuts.items())):  # all at once, or else one by one
        if right.keys() != cuts.keys() and (found := _cut(model, answers, right | more)) is not None:
            right, smaller = right | more, found
    return smaller, cuts.keys() - right.keys()


def _cut(model: nn.Module, answers: Answers, cuts: Mapping[str, list[int]]) -> nn.Module | None:
    """A copy of `model` with the outputs `cuts` cut out; None if its answers are others than `answers`."""
    smaller = copy.deepcopy(model)
    try:
        graph = _graph(smaller, answers[0][0])
        for name, gone in cuts.items():
            layer = smaller.get_submodule(name)
            cut = graph.get_pruner_of_module(layer).prune_out_channels
            graph.get_pruning_group(layer, cut, gone).prune(record_history=False)
        for inputs, expected in answers:
            for this, that in zip(_outputs(smaller, inputs), expected):
                _assert_same(this, that)
    except Exception:  # layers that no longer fit together raise whatever they like
        return None
    for parameter, whole in zip(smaller.parameters(), model.parameters()):
        parameter.requires_grad_(whole.requires_grad)
    return smaller


def _assert_same(this: Tensor, that: Tensor) -> None:
    """Half the digits of a precision are for rounding."""
    rounding = torch.finfo(that.dtype).eps ** 0.5 * that.abs().max().item() if that.is_floating_point() else 0
    torch.testing.assert_close(this, that, rtol=0, atol=rounding, equal_nan=True)


def _call(model: nn.Module, inputs: Inputs):
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs) if isinstance(inputs, Tensor) else model(*inputs)


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    refuse_lazy(model)
    with _evaluating(model):
        try:
            return [leaf for leaf in tree_leaves(_call(model, inputs)) if isinstance(leaf, Tensor)]
        except Exception as error:
            raise ValueError(f"a {type(model).__name__} can't be called with these example inputs: {error}") from error


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


# ------------------------------------------------------------------------------------------ what does nothing


def _turned(weight: Tensor, groups: int) -> Tensor:
    """A weight by the channels of its second dimension, each group's: (groups·a, b, …) → (groups·b, a, …)."""
    return weight.unflatten(0, (groups, len(weight) // groups)).transpose(1, 2).flatten(0, 1)


def _used(layer: nn.Module) -> tuple[list[bool], list[bool]]:
    """Of each output of a layer, and of each input, whether it has a weight other than zero."""
    both = layer.weight, _turned(layer.weight, getattr(layer, "groups", 1))
    first, second = ((weight != 0).flatten(1).any(1).tolist() for weight in both)
    return (second, first) if getattr(layer, "transposed", False) else (first, second)


@torch.no_grad()
def _taken(model: nn.Module, inputs: Inputs) -> dict[str, list[float]]:
    """What each layer takes in at each of its inputs: NaN if that depends on what the network is given, else the
    largest |x|, which is then the same for whatever it is given.

    One forward pass on NaN: what comes out of it as a number can't depend on it.
    """
    followed, taken = copy.deepcopy(model), {}
    for module in followed.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):  # takes whole numbers, which can't be NaN
            module.weight = nn.Parameter(_unknown(module.weight))
    with _Products():
        _follow(followed, tree_map_only(Tensor, _unknown, inputs), taken)
    return {name: values.tolist() for name, values in taken.items()}


def _unknown(given: Tensor) -> Tensor:
    """NaN in place of numbers; whole numbers and truth values stay as they are."""
    return torch.full_like(given, torch.nan) if given.is_floating_point() else given


class _Products(TorchDispatchMode):
    """Zero times NaN is zero: a gate, whatever it is, lets nothing through of a channel of zero."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function not in (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor):
            return function(*args, **kwargs or {})
        zero = (args[0] == 0) | (args[1] == 0)
        return function(*args, **kwargs or {}).masked_fill_(zero, 0)


def _follow(model: nn.Module, inputs: Inputs, taken: dict, unknown: Mapping[str, list[int]] = {}) -> list[Tensor]:
    """What `model` gives where its layers pass NaN on only if a weight other than zero meets it, so that filters of
    zero are seen to be constant. Notes what each layer `taken` in; of which layer which outputs are NaN: `unknown`."""

    def forward(name: str, plain: Callable, ones: nn.Module, given: Tensor, *rest) -> Tensor:
        missing, channel = given.isnan(), -1 - len(getattr(ones, "kernel_size", ()))
        largest = given.movedim(channel, 0).flatten(1).abs().amax(1)
        taken[name] = torch.maximum(taken.get(name, largest), largest)  # both pass NaN on
        depends = ones(missing.to(given), *rest) != 0
        depends.movedim(channel, 0)[unknown.get(name, [])] = True
        return plain(given.masked_fill(missing, 0), *rest).masked_fill(depends, torch.nan)

    for name, layer in layers(model).items():
        if isinstance(layer.weight, nn.Parameter):
            ones = copy.deepcopy(layer)
            ones.weight, ones.bias = nn.Parameter((layer.weight != 0).to(layer.weight)), None
            layer.forward = functools.partial(forward, name, layer.forward, ones)
    return _outputs(model, inputs)


# ------------------------------------------------------------------------------------------ what is cut together


class _Convolutions(torch_pruning.pruner.function.ConvPruner):
    """torch-pruning takes it that each group of a convolution loses the same channels; here each loses its own."""

    def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        return super().prune_in_channels(layer, idxs) if layer.groups == 1 else self._lose(layer, idxs, "in_channels")

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        return super().prune_out_channels(layer, idxs) if layer.groups == 1 else self._lose(layer, idxs, "out_channels")

    def _lose(self, layer: nn.Module, idxs: Sequence[int], channels: str) -> nn.Module:
        kept, weight = sorted(set(range(getattr(layer, channels))) - set(idxs)), layer.weight.detach()
        if layer.transposed == (channels == "in_channels"):  # those of the weight's first dimension
            weight = weight[kept]
        else:
            weight = _turned(_turned(weight, layer.groups)[kept], layer.groups)
        layer.weight = nn.Parameter(weight)
        setattr(layer, channels, len(kept))
        if channels == "out_channels" and layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[kept])
        return layer


def _graph(model: nn.Module, inputs: Inputs) -> torch_pruning.DependencyGraph:
    """The graph of `model`, whose parameters it makes learnable: it is traced by their gradients."""
    graph = torch_pruning.DependencyGraph()
    graph.REGISTERED_PRUNERS[torch_pruning.ops.OPTYPE.CONV] = _Convolutions()
    with _evaluating(model.requires_grad_()), torch.enable_grad():
        try:
            return graph.build_dependency(model, inputs, forward_fn=_call, verbose=False)
        except Exception as error:  # it has none of its own
            raise ValueError(f"torch-pruning can't follow a {type(model).__name__}: {error or repr(error)}") from error


def _fixed(model: nn.Module) -> dict[str, str]:
    """Name of each module whose parameters can't be replaced by smaller ones → why."""
    owners = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[parameter].append(name.rpartition(".")[0])
    fixed = {name: f"the weight of {name!r} is computed from other parameters"
             for name, layer in layers(model).items() if not isinstance(layer.weight, nn.Parameter)}  # fmt: skip
    for names in owners.values():
        if len(names) > 1:
            fixed.update(dict.fromkeys(names, f"{' and '.join(map(repr, names))} share a parameter"))
    return fixed


Members = list[tuple[nn.Module, bool, list[tuple[int, int]]]]  # as `_Plan._members` gives them
GIVEN_OUT = "the network gives them out"
MIXED = "the layers that take them in get what others give there as well"


class _Plan:
    """What is cut of a network, and which zeros stay.

    `cuts`: layer → which of its outputs go, and with them those of the layers coupled to it. `kept`: layer → output →
    why it stays. `roots`: (layer, whether it loses inputs) → place → (layer, output) in `kept` with which it goes.
    """

    def __init__(self, model: nn.Module, inputs: Inputs):
        self.model, self.inputs, self.taken, self.fixed = model, inputs, _taken(model, inputs), _fixed(model)
        self.graph = _graph(copy.deepcopy(model), inputs)
        self.names = {module: name for name, module in self.graph.model.named_modules()}
        self.used = {name: _used(layer) for name, layer in layers(model).items()}
        self.cuts, self.kept, self.roots = {}, {}, defaultdict(dict)
        for name, layer in layers(self.graph.model).items():
            if layer in self.graph.module2node:  # and only where something is zero: to search Swin is without an end
                if not all(self.used[name][0]):
                    self._decide(layer)
                taken = enumerate(zip(self.used[name][1], self.taken.get(name, ())))
                idle = [place for place, (used, value) in taken if not used or not math.isnan(value)]
                for before, takes, _ in self._members(layer, idle, "prune_in_channels") if idle else ():
                    if isinstance(before, PRUNABLE) and not takes:
                        self._decide(before)

    def _members(self, layer: nn.Module, places: Sequence[int], cut: str = "prune_out_channels") -> Members:
        """The layers that are cut with these outputs of a layer, itself first: (layer, whether it loses inputs,
        [(place in it, output of the first with which it goes)]). What loses inputs as outputs, as a batch norm,
        has one function for both, called after outputs."""
        group = self.graph.get_pruning_group(layer, getattr(self.graph.get_pruner_of_module(layer), cut), places)
        return [(item.dep.target.module, item.dep.handler.__name__ == "prune_in_channels",
                 [*zip(item.idxs, item.root_idxs)]) for item in group]  # fmt: skip

    def _decide(self, layer: nn.Module) -> None:
        """Which outputs of a layer go, and with them those of the layers coupled to it."""
        root, every = self.names[layer], range(self.graph.get_out_channels(layer))
        if (root, False) in self.roots:
            return
        members = self._members(layer, every)
        reasons = self._reasons(members)
        gone = _evenly(members, set(every) - reasons.keys())
        if gone:
            exact = self._members(layer, sorted(gone))
            if {place for place, _ in exact[0][2]} != gone or self._reasons(exact):
                reasons.update(dict.fromkeys(gone, "they are coupled with other outputs of the same layer"))
                gone = set()
        if gone:
            self.cuts[root] = sorted(gone)
        uneven, needed = "each group of a convolution must lose as many", len(gone) == len(every) - 1
        self.kept[root] = {i: reasons.get(i, uneven) for i in every if i not in gone and not needed}
        for member, takes, pairs in members:
            if isinstance(member, PRUNABLE):
                self.roots[self.names[member], takes].update({place: (root, output) for place, output in pairs})

    def _reasons(self, members: Members) -> dict[int, str]:
        """Output of the first of these layers → why it can't be cut; what isn't in it can."""
        reasons, ignored = {}, set()
        for layer, takes, pairs in members:
            name, why = self.names.get(layer), None
            if isinstance(layer, torch_pruning.ops._OutputOp):
                why = GIVEN_OUT
            elif name in self.fixed:
                why = self.fixed[name]
            elif takes and name not in self.taken:
                why = f"{name!r}, which takes them in, is no convolution or linear layer that runs by itself"
            elif name in self.used and max(pairs)[0] >= len(self.used[name][takes]):
                why = "torch-pruning takes them for others"  # as where the network's input stands beside them
            if why:
                reasons.update({output: why for _, output in pairs})
            for place, output in pairs if takes and not why else ():
                value = self.taken[name][place]
                if value and not self.used[name][1][place]:  # NaN, too, is true
                    ignored.add(output)
                elif value:
                    constant = "a bias or a batch norm makes constants of them"
                    reasons.setdefault(output, MIXED if math.isnan(value) else constant)
        ignored -= reasons.keys()
        if ignored and self._matter(members, ignored):
            reasons.update(dict.fromkeys(ignored, "others depend on them, as in a layer norm"))
        return reasons if any(takes for _, takes, _ in members) else {i: GIVEN_OUT for i, _ in members[0][2]}

    def _matter(self, members: Members, outputs: set[int]) -> bool:
        """Whether what the network gives depends on these outputs, whatever they are."""
        if any(isinstance(layer, (nn.Parameter, nn.Embedding, nn.LSTM)) for layer, _, _ in members):
            return True  # these give outputs as well, and none of theirs are made unknown
        unknown = {self.names[layer]: [place for place, output in pairs if output in outputs]
                   for layer, takes, pairs in members if isinstance(layer, PRUNABLE) and not takes}  # fmt: skip
        return any(leaf.isnan().any() for leaf in _follow(copy.deepcopy(self.model), self.inputs, {}, unknown))

    def zeros(self) -> Counter:
        """(Where, why) → how many filters and units of zero stay."""
        found, convolution = Counter(), torch_pruning.ops.OPTYPE.CONV  # a depthwise one's inputs are its outputs
        for name, layer in layers(self.graph.model).items():
            both = torch_pruning.ops.module2type(layer) == convolution and layer.transposed
            for takes, where in ((False, repr(name)), (True, f"the inputs of {name!r}"))[: 1 + both]:
                places = [place for place, used in enumerate(self.used[name][takes]) if not used]
                found.update((where, why) for place in places if (why := self._why(layer, takes, place)))
        for name, module in self.graph.model.named_modules():
            if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
                if count := int((module.in_proj_weight.count_nonzero(1) == 0).sum()):
                    found[repr(f"{name}.in_proj_weight".lstrip(".")), "all heads of attention are of one size"] = count
        return found

    def _why(self, layer: nn.Module, takes: bool, place: int) -> str | None:
        """Why an output of a layer, or an input, stays; None if it doesn't."""
        if root := self.roots[self.names[layer], takes].get(place):
            why = self.kept[root[0]].get(root[1])
            return "another layer takes them in as well" if takes and why == MIXED else why
        given = takes and layer in self.graph.module2node
        return "no convolution or linear layer gives them" if given else "the outputs can't be traced back to them"


def _evenly(members: Members, free: set[int]) -> set[int]:
    """As many of `free` as may go: from each of a convolution's groups as many, and never all of a layer's."""
    gone, before = set(free), None
    while gone != before:
        before = set(gone)
        for layer, takes, pairs in members:
            if torch_pruning.ops.module2type(layer) != torch_pruning.ops.OPTYPE.CONV or layer.groups == 1:
                continue
            size = (layer.in_channels if takes else layer.out_channels) // layer.groups
            blocks = [[] for _ in range(layer.groups)]
            for place, output in pairs:
                if output in gone:
                    blocks[place // size].append(output)
            fewest = min(size - 1, *map(len, blocks))
            gone.difference_update(*(block[fewest:] for block in blocks))
    return gone - {0} if len(gone) == len(members[0][2]) else gone
