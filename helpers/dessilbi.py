"""DessiLBI (Fu et al., ICML 2020, arXiv 2007.02010) and its form with Adam: optimizers that train weights beside a
sparse copy of them, which shows what can be pruned. This file imports torch alone, so that it can be copied and used.

    from dessilbi import DessiLBI, param_groups
    optimizer = DessiLBI(param_groups(model), lr=0.02, kappa=1, mu=20)  # then step() as with any optimizer
    optimizer.gamma(model.conv.weight)        # the sparse copy: filters that are all zero are not needed

With the loss f, rate α (`lr`), damping κ (`kappa`) and coupling ν (`mu`, as the authors' code calls it), a step is

    W ← W − κ α (d + (W − Γ)/ν)        d: gradient of f at W with momentum, or the direction that Adam makes of it
    Z ← Z + (α/ν) (W_old − Γ)
    Γ ← κ prox(Z)                      prox: soft threshold at 1 of each number ("l1") or each output filter ("group")

which is equation 4 of the paper. Z starts at 0. Γ is a function of Z, and so is neither stored nor moved.
"""

import contextlib
import functools
import importlib
import math
import warnings

import torch
from torch import Tensor, nn

LAYERS, EMBEDDINGS = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention), (nn.Embedding, nn.EmbeddingBag)
BLOCK = 2**18  # numbers: what the passes over a piece of a large weight share stays in a CPU's cache


def soft_threshold(z: Tensor) -> Tensor:
    """The proximal map of the l1 norm at 1, number by number: sign(z) max(0, |z| − 1)."""
    return nn.functional.softshrink(z, 1.0)


def group_factors(zs: list[Tensor]) -> list[Tensor]:
    """max(0, ‖z_f‖ − 1)/‖z_f‖ of each output filter: (F, …) → (F, 1, …). A filter within the unit ball gets 0."""
    norms = [torch.linalg.vector_norm(z, dim=tuple(range(1, z.ndim)), keepdim=True) for z in zs]
    torch._foreach_clamp_max_(norms, [torch.finfo(each.dtype).max for each in norms])  # or inf/inf where 1 is right
    factors = [soft_threshold(each) for each in norms]
    torch._foreach_clamp_min_(norms, 1)  # so that 0 is not divided by 0
    return torch._foreach_div(factors, norms)


def group_soft_threshold(z: Tensor) -> Tensor:
    """The proximal map of the group lasso at 1, each output filter a group: z_f max(0, 1 − 1/‖z_f‖)."""
    return z * group_factors([z])[0]


def dessilbi_(ws: list[Tensor], zs: list[Tensor], step_of_w, *, lr, kappa, mu, penalty) -> None:
    """One step of some weights, in place; `step_of_w(lr=rate)` makes W ← W − rate · d."""
    if penalty == "group":  # W − Γ, with Γ = κ prox(Z)
        ds = torch._foreach_addcmul(ws, zs, group_factors(zs), value=-kappa)
    elif penalty == "l1":
        ds = torch._foreach_sub(ws, [soft_threshold(z) for z in zs], alpha=kappa)
    step_of_w(lr=kappa * lr)
    if penalty:
        torch._foreach_add_(ws, ds, alpha=-kappa * lr / mu)
        torch._foreach_add_(zs, ds, alpha=lr / mu)


class Penalised(torch.optim.Optimizer):
    """An optimizer whose groups have a `penalty`, and which looks at every value and state that it is given."""

    allowed = {  # name: (test, in words)
        **dict.fromkeys(("lr", "weight_decay"), (lambda v: 0 <= v < math.inf, "a number of at least 0, and finite")),
        **dict.fromkeys(("kappa", "eps"), (lambda v: 0 < v < math.inf, "a number above 0, and finite")),
        "mu": (lambda v: v > 0, "a number above 0"),
        "momentum": (lambda v: 0 <= v < 1, "a number of at least 0 and below 1"),
        "dampening": (lambda v: 0 <= v <= 1, "a number between 0 and 1"),
        "betas": (lambda v: len(v) == 2 and all(0 <= beta < 1 for beta in v), "two numbers of at least 0 and below 1"),
        "penalty": (lambda v: v in ("group", "l1", None), 'one of "group", "l1" and None'),
        **dict.fromkeys(("nesterov", "maximize", "amsgrad", "differentiable"), (lambda v: not v, "False")),
    }

    def __init__(self, params, defaults: dict):
        super().__init__(params, {**defaults, "penalty": None})
        if defaults.get("fused"):  # what is missing shows here
            try:
                importlib.import_module("helpers.fast.sparse_step").kernel()
            except ImportError as error:
                raise RuntimeError("fused=True needs the folder helpers/fast of this repository beside it") from error
        penalised = [p for group in self.param_groups if group["penalty"] for p in group["params"]]
        if not penalised:
            warnings.warn("no parameter has a penalty, nothing becomes sparse: give param_groups(model)", stacklevel=3)
        if any(p.dtype in (torch.bfloat16, torch.float16) for p in penalised):
            warnings.warn("weights of 16 bits are too coarse: keep the weights in float32, and autocast", stacklevel=3)

    def add_param_group(self, param_group: dict) -> None:
        named = any("param_names" in group for group in self.param_groups)
        super().add_param_group({"param_names": None, **param_group} if named else param_group)  # with or without names
        group = self.param_groups.pop()  # until it has been looked at
        self._check(group)
        self.param_groups.append(group)

    def load_state_dict(self, state_dict: dict) -> None:
        """As any optimizer's; what a group saved elsewhere doesn't say is as here. Raises ValueError, and changes
        nothing, for values that are not allowed and a state of other parameters, penalties or shapes, or not finite."""
        before = self.state, self.param_groups
        try:
            super().load_state_dict(state_dict)
            for here, group in zip(before[1], self.param_groups):
                group.update({name: value for name, value in here.items() if name == "fused" or name not in group})
                self._check_loaded(here, group)
        except Exception as error:
            self.state, self.param_groups = before
            raise ValueError(f"the state doesn't fit: {error}") from error

    def _named(self, group: dict):
        return zip(group.get("param_names") or range(len(group["params"])), group["params"])

    def _check(self, group: dict) -> None:
        for name in [name for name in self.allowed if name in group]:
            (fits, words), good = self.allowed[name], False
            with contextlib.suppress(TypeError, ValueError, RuntimeError):  # no number at all, or several
                good = fits(group[name])
            if not good:
                raise ValueError(f"{name} {' '.join(repr(group[name]).split())} is not allowed: it must be {words}")
        for name, p in self._named(group):
            if nn.parameter.is_lazy(p):
                raise ValueError(f"parameter {name} has no shape yet: pass a batch through the model first")
            if p.is_complex():
                raise ValueError(f"parameter {name} is complex: keep its real and imaginary parts as two parameters")
            if group["penalty"] == "group" and p.ndim < 2:
                raise ValueError(f'penalty "group" is not for parameter {name} of shape {tuple(p.shape)}: no filters')

    def _check_loaded(self, here: dict, group: dict) -> None:
        self._check(group)
        for (name, p), (other, _) in zip(self._named(here), self._named(group)):
            if (here.get("param_names") and name != other) or group["penalty"] != here["penalty"]:
                raise ValueError(f"it has {other} with penalty {group['penalty']}, not {name} with {here['penalty']}")
            if "step" in (state := self.state.get(p, {})):  # torch moves all of a state but that
                state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device=p.device)
            self._check_alike(name, p, {what: state[what] for what in self._names(group) if what in state})

    def _check_alike(self, name: str, p: Tensor, tensors: dict[str, Tensor]) -> None:
        """Raises ValueError for a gradient or state unlike its weights, since fused steps write without looking."""
        for what, t in tensors.items():
            like = p if what != "step" else p.new_zeros((), dtype=torch.float32)
            for key in ("layout", "shape", "dtype", "device"):
                if (found := getattr(t, key)) != (wanted := getattr(like, key)):
                    raise ValueError(f"the {key} of {what} is {found} for parameter {name}: it must be {wanted}")
            if not t.isfinite().all() or (what == "step" and t < 0):
                raise ValueError(f"the {what} of parameter {name} is not finite")

    @torch._disable_dynamo  # torch.compile's default backend can't trace fused steps, and there is nothing to gain
    @torch.no_grad()
    def step(self, closure=None):
        """One step; gives the loss that `closure`, if given, computes. What has no gradient stays as it is."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _tensors(self, name: str, p: Tensor, state_names: list[str]) -> tuple[Tensor, ...]:
        """(weights, gradient, *state of these names) of a parameter, the state all zero where there is none yet."""
        state, found, odd = self.state[p], [p.grad], p.grad.shape != p.shape or p.grad.is_sparse
        for what in state_names:
            if what not in state:
                state[what] = torch.zeros_like(p) if what != "step" else p.new_zeros((), dtype=torch.float32)
            found.append(state[what])
            odd = odd or state[what].shape != (p.shape if what != "step" else ())
        if odd:
            self._check_alike(name, p, dict(zip(("gradient", *state_names), found)))
        return p, *found


class DessiLBI(Penalised):
    """SGD with momentum, beside the sparse copy Γ (Fu et al., 2020, equation 4).

    `params`: groups as `param_groups(model)` makes them; a `penalty` is "group" (filters w[f] of a weight of two
    dimensions or more), "l1" (single numbers) or None (plain SGD at the rate κα). `lr`: α. `kappa`: κ, in the rate of W
    alone. `mu`: ν, how loosely W and Γ are coupled. The rest: as in torch.optim.SGD. `fused`: compile the step
    for the CPU, about twice as fast. State: `z`, `momentum_buffer`. Raises ValueError; RuntimeError without a compiler.
    """

    def __init__(self, params, lr, *, kappa=1.0, mu=100.0, momentum=0.9, dampening=0.0, weight_decay=0.0, fused=False):
        super().__init__(params, dict(lr=lr, kappa=kappa, mu=mu, momentum=momentum, dampening=dampening,
                                      weight_decay=weight_decay, fused=fused))  # fmt: skip

    def _step_group(self, group: dict) -> None:
        (lr, kappa, mu), penalty = (float(group[name]) for name in ("lr", "kappa", "mu")), group["penalty"]
        names, batches = self._names(group), {False: [], True: []}  # where a momentum begins, the step is another
        for name, p in self._named(group):
            if p.grad is not None:
                batches[names[:1] != [] and names[0] not in self.state[p]].append(self._tensors(name, p, names))
        for first, tensors in batches.items():
            if tensors and penalty and group["fused"]:
                tensors = importlib.import_module("helpers.fast.sparse_step").step(tensors, group, first)
            for ws, gradients, *state in _blocks(tensors):
                zs = state.pop() if penalty else None
                step_of_w = functools.partial(self._step_of_w, group, first, ws, gradients, *state)
                dessilbi_(ws, zs, step_of_w, lr=lr, kappa=kappa, mu=mu, penalty=penalty)

    def gamma(self, parameter: Tensor) -> Tensor:
        """Γ of a penalised parameter, its sparse copy, all zero at first. Raises ValueError for others."""
        for group in self.param_groups:
            if group["penalty"] and any(parameter is p for p in group["params"]):
                z = self.state.get(parameter, {}).get("z", torch.zeros_like(parameter))
                return group["kappa"] * (group_soft_threshold if group["penalty"] == "group" else soft_threshold)(z)
        raise ValueError(f"a parameter of shape {tuple(parameter.shape)} has no Γ: no group with a penalty holds it")

    def _names(self, group: dict) -> list[str]:
        return ["momentum_buffer"] * bool(group["momentum"]) + ["z"] * bool(group["penalty"])

    def _step_of_w(self, group: dict, first: bool, ws, gradients, buffers=(), *, lr: float) -> None:
        torch._fused_sgd_(ws, gradients, buffers, lr=lr, momentum=group["momentum"], weight_decay=group["weight_decay"],
                          dampening=0 if first else group["dampening"],  # the first gradient enters whole, as in torch
                          nesterov=False, maximize=False, is_first_step=False)  # fmt: skip


class DessiLBIAdam(DessiLBI):
    """Adam's bias-corrected direction (Kingma and Ba, 2015), beside Γ. `betas`, `eps`: as in torch.optim.Adam."""

    def __init__(self, params, lr, *, kappa=1.0, mu=100.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=False):
        Penalised.__init__(self, params, dict(lr=lr, kappa=kappa, mu=mu, betas=betas, eps=eps,
                                              weight_decay=weight_decay, fused=fused))  # fmt: skip

    def _names(self, group: dict) -> list[str]:
        return ["exp_avg", "exp_avg_sq", "step"] + ["z"] * bool(group["penalty"])

    def _step_of_w(self, group: dict, first: bool, ws, gradients, means, squares, steps, *, lr: float) -> None:
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(ws, gradients, means, squares, [], steps, lr=lr, beta1=group["betas"][0],
                           beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"],
                           amsgrad=False, maximize=False)  # fmt: skip


def param_groups(model: nn.Module, only=None, *, leave_out=(), linear="l1") -> list[dict]:
    """A model's parameters, each once and with its name, by penalty; `print(optimizer)` shows which has which.

    Weights of convolutions get "group" (a transposed one's groups are its input channels), of linear layers and
    attention `linear` ("l1", "group" for whole units, or None), of embeddings "group" if `only` has them. `only`,
    `leave_out`: layers, one or several, by type or by name (as in `model.named_modules()`, with all inside them). What
    layers share is left out if one is. Raises ValueError for a name of no such layer, and weights that are computed.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, (*LAYERS, *EMBEDDINGS))}
    only, leave_out = ([each] if isinstance(each, (str, type)) else each for each in (only, leave_out))
    only, leave_out = (LAYERS, [*leave_out, *EMBEDDINGS]) if only is None else ([*only], [*leave_out])
    found = {each: {name for name, layer in layers.items()
                    if (isinstance(layer, each) if isinstance(each, type) else f"{name}.".startswith(f"{each}."))}
             for each in (*only, *leave_out)}  # fmt: skip
    if strange := [each for each in found if isinstance(each, str) and not found[each]]:
        raise ValueError(f"{strange[0]!r} is no convolution or linear layer of the model: it has {', '.join(layers)}")
    penalties, (wanted, left) = {}, (set().union(*map(found.get, which)) for which in (only, leave_out))
    for name in [name for name in layers if name in wanted | left]:
        weights = [w for key, w in layers[name].named_parameters(recurse=False) if key.endswith("weight")]
        if not weights and name not in left:
            raise ValueError(f"the weight of {name!r} is computed from other parameters: name it in `leave_out`")
        penalty = linear if isinstance(layers[name], LAYERS[1:]) else "group"
        penalties.update((w, None if name in left else penalties.get(w, penalty)) for w in weights)
    return [{"params": params, "penalty": penalty} for penalty in dict.fromkeys(("group", linear, None))
            if (params := [each for each in model.named_parameters() if penalties.get(each[1]) == penalty])]  # fmt:skip


def as_rows(tensor: Tensor) -> Tensor:
    """A channels-last tensor (N, C, H, W) as it lies in memory, contiguous: (N, H, W, C); any other as it is."""
    moved = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if moved else tensor


def _blocks(tensors: list[tuple[Tensor, ...]]):
    """Lists of weights, gradients and each state, as torch's fused steps take them: of one device and type, and as they
    lie in memory, row after row, since they are blind to strides. On a CPU large weights come piece by piece."""
    small, copies = {}, []
    for each in tensors:
        if not all([t.is_contiguous() for t in each]):
            given, each = each, tuple(map(as_rows, each))
            if any([row is t and t.ndim for row, t in zip(each, given)]):  # they don't lie alike
                each = tuple(t.contiguous() for t in given)
                copies += [(t, row) for t, row in zip(given, each) if row is not t]
        if each[0].numel() <= BLOCK or not each[0].is_cpu:
            small.setdefault((each[0].device, each[0].dtype), []).append(each)
            continue
        size = max(1, BLOCK * len(each[0]) // each[0].numel())
        clones = range(1, -(-len(each[0]) // size))  # of the step counter, which each piece advances
        yield from zip(*[[[t] for t in (t.split(size) if t.ndim else [t, *(t.clone() for _ in clones)])] for t in each])
    for alike in small.values():
        yield list(zip(*alike))
    for t, row in copies:
        t.copy_(row)
