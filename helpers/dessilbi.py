"""DessiLBI (Fu et al., ICML 2020, arXiv 2007.02010) and its form with Adam: optimizers that train weights beside a
sparse copy of them, which shows what can be pruned. This file imports torch alone, so that it can be copied and used.

    from dessilbi import DessiLBI, param_groups
    optimizer = DessiLBI(param_groups(model), lr=0.1, kappa=1, mu=20)
    ...                                       # loss.backward(); optimizer.step(), as with any optimizer
    optimizer.gamma(model.conv.weight)        # the sparse copy: filters that are all zero are not needed

With the loss f, rate α (`lr`), damping κ (`kappa`) and coupling ν (`mu`, as the authors' code calls it), a step is

    W ← W − κ α (d + (W − Γ)/ν)        d: gradient of f at W with momentum, or the direction that Adam makes of it
    Z ← Z + (α/ν) (W_old − Γ)
    Γ ← κ prox(Z)                      prox: soft threshold at 1 of each number ("l1") or each output filter ("group")

which is equation 4 of the paper. Z starts at 0. Γ is a function of Z, and so is neither stored nor moved.

The step is made of torch's own operators, on any device. `fused=True` compiles the same equations for the CPU, once, as
one pass over memory (`KERNEL` at the end), which is about twice as fast; it needs a C++ compiler.
"""

import functools
import importlib
import math
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

PENALTIES = ("group", "l1", None)

# ------------------------------------------------------------------------------------------ the equations


def soft_threshold(z: Tensor) -> Tensor:
    """The proximal map of the l1 norm at 1, number by number: sign(z) max(0, |z| − 1)."""
    return nn.functional.softshrink(z, 1.0)


def group_factors(zs: list[Tensor]) -> list[Tensor]:
    """max(0, ‖z_f‖ − 1)/‖z_f‖ of each output filter: (F, …) → (F, 1, …). A filter within the unit ball gets 0."""
    norms = [torch.linalg.vector_norm(z, dim=tuple(range(1, z.ndim)), keepdim=True) for z in zs]
    factors = [soft_threshold(each) for each in norms]
    torch._foreach_clamp_min_(norms, 1)  # so that 0 is not divided by 0
    torch._foreach_div_(factors, norms)
    return factors


def group_soft_threshold(z: Tensor) -> Tensor:
    """The proximal map of the group lasso at 1, each output filter a group: z_f max(0, 1 − 1/‖z_f‖)."""
    return z * group_factors([z])[0]


def distances(ws: list[Tensor], zs: list[Tensor], kappa: float, penalty: str) -> list[Tensor]:
    """W − Γ of each, with Γ = κ prox(Z)."""
    if penalty == "group":
        return list(torch._foreach_addcmul(ws, zs, group_factors(zs), value=-kappa))
    return torch._foreach_sub(ws, [soft_threshold(z) for z in zs], alpha=kappa)


def dessilbi_(ws: list[Tensor], zs: list[Tensor], step_of_w, *, lr, kappa, mu, penalty) -> None:
    """One step of some penalised weights, in place; `step_of_w(lr=rate)` makes W ← W − rate · d."""
    ds = distances(ws, zs, kappa, penalty)
    step_of_w(lr=kappa * lr)
    torch._foreach_add_(ws, ds, alpha=-kappa * lr / mu)
    torch._foreach_add_(zs, ds, alpha=lr / mu)


# ------------------------------------------------------------------------------------------ the optimizers

# Numbers in a block: on a CPU, weights are updated block by block, so that what the passes over them share stays in the
# processor's cache, and the few temporary tensors stay small.
BLOCK = 2**18


def _blocks(tensors: list[tuple[Tensor, ...]]):
    """Each parameter's tensors (weights, gradient, state) together, in lists of about BLOCK numbers a tensor.

    What is larger is split along its first dimension, which leaves filters whole.
    """
    if sum([each[0].numel() for each in tensors]) <= BLOCK or not all([each[0].is_cpu for each in tensors]):
        yield list(zip(*tensors))
        return
    block, size = [], 0
    for each in tensors:
        for piece in _pieces(each):
            block.append(piece)
            size += piece[0].numel()
            if size >= BLOCK:
                yield list(zip(*block))
                block, size = [], 0
    if block:
        yield list(zip(*block))


def _pieces(tensors: tuple[Tensor, ...]):
    weights = tensors[0]
    if weights.numel() <= BLOCK or weights.ndim == 0:
        return [tensors]
    rows = max(1, BLOCK * len(weights) // weights.numel())
    count = -(-len(weights) // rows)
    # A step counter is a scalar that each piece advances: all but the first do so on a copy.
    return zip(*([t, *(t.clone() for _ in range(count - 1))] if t.ndim == 0 else t.split(rows) for t in tensors))


class _SplitLBI(torch.optim.Optimizer):
    """What both optimizers share: groups with a penalty, Z beside W, and the step over all of them."""

    def __init__(self, params, defaults: dict):
        check(defaults)
        if defaults["fused"]:
            _kernel()  # so that a compiler that is missing shows here
        super().__init__(params, {**defaults, "penalty": None})
        if all(group["penalty"] is None for group in self.param_groups):
            warnings.warn("no parameter has a penalty, so nothing becomes sparse: give dessilbi.param_groups(model)",
                          stacklevel=3)  # fmt: skip

    def add_param_group(self, param_group: dict) -> None:
        super().add_param_group(param_group)
        try:
            check(self.param_groups[-1], len(self.param_groups) - 1)
        except ValueError:
            self.param_groups.pop()
            raise
        group = self.param_groups[-1]
        if group["penalty"] and any(p.dtype in (torch.bfloat16, torch.float16) for p in group["params"]):
            warnings.warn("weights of 16 bits are too coarse for Z, whose steps round away, so that little enters the"
                          " support: keep the weights in float32 and compute under torch.autocast",
                          stacklevel=2)  # fmt: skip

    def load_state_dict(self, state_dict: dict) -> None:
        """As any optimizer's; what a group saved elsewhere doesn't say is as here. Raises ValueError as `__init__`."""
        own = [{name: value for name, value in group.items() if name not in ("params", "param_names")}
               for group in self.param_groups]  # fmt: skip
        groups = [{**here, **saved, "fused": here["fused"]} for here, saved in zip(own, state_dict["param_groups"])]
        rest = state_dict["param_groups"][len(groups) :]  # torch says what is wrong with their number
        for index, group in enumerate(groups):
            check({**group, "params": self.param_groups[index]["params"]}, index)
        super().load_state_dict({**state_dict, "param_groups": groups + rest})

    @torch.no_grad()
    def step(self, closure=None):
        """One step; gives the loss that `closure`, if given, computes. What has no gradient stays as it is."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            directions = self._names(group)
            names = directions + (["z"] if group["penalty"] else [])
            fresh, known = [], []
            for p in group["params"]:
                if (gradient := p.grad) is not None:
                    state = self.state[p]
                    # A momentum that is switched on later begins then.
                    tensors = known if all([name in state for name in directions]) else fresh
                    tensors.append((p, gradient, *self._fill(state, p, names)))
            if fresh:
                self._step(fresh, group, first=True)
            if known:
                self._step(known, group, first=False)
        return loss

    def _step(self, tensors: list[tuple[Tensor, ...]], group: dict, first: bool) -> None:
        """One step of some parameters, each given as (weights, gradient, *state), with Z last if there is a penalty."""
        (lr, kappa, mu), penalty = (float(group[name]) for name in ("lr", "kappa", "mu")), group["penalty"]
        if group.get("fused") and penalty:
            left = self._fused_step(list(zip(*tensors)), (penalty == "group", lr, kappa, mu), group, first)
            # The kernel writes past autograd, which has to know that a graph made before the step is out of date.
            torch.autograd.graph.increment_version([each[0] for each in tensors])
            tensors = [tensors[index] for index in left]
            if not tensors:
                return
        contiguous = all([t.is_contiguous() for each in tensors for t in each])  # a list: sooner than a generator
        fused = _torch_fused(tensors, contiguous)
        if fused and not contiguous:
            tensors = [tuple(map(as_rows, each)) for each in tensors]
        step_of_w = self._step_of_w(group, first, fused)
        for ws, gradients, *state in _blocks(tensors):
            if penalty is None:
                step_of_w(ws, gradients, *state, lr=kappa * lr)
            else:
                *state, zs = state
                step = functools.partial(step_of_w, ws, gradients, *state)
                dessilbi_(ws, zs, step, lr=lr, kappa=kappa, mu=mu, penalty=penalty)

    def _fill(self, state: dict, parameter: Tensor, names: list[str]) -> list[Tensor]:
        """What a parameter's state has under these names, all zero where there is nothing yet."""
        for name in names:
            if name not in state:
                state[name] = torch.zeros_like(parameter)
        return [state[name] for name in names]

    @torch.no_grad()
    def gamma(self, parameter: Tensor) -> Tensor:
        """Γ of a penalised parameter, in its shape: its sparse copy, all zero before the first step.

        Raises ValueError for a parameter that has no penalty or is not this optimizer's.
        """
        for group in self.param_groups:
            if group["penalty"] is not None and any(parameter is p for p in group["params"]):
                z = self.state[parameter].get("z") if parameter in self.state else None
                prox = group_soft_threshold if group["penalty"] == "group" else soft_threshold
                return torch.zeros_like(parameter) if z is None else group["kappa"] * prox(z)
        raise ValueError(f"a parameter of shape {tuple(parameter.shape)} has no Γ: no group with a penalty holds it")


class DessiLBI(_SplitLBI):
    """SGD with momentum, beside the sparse copy Γ (Fu et al., 2020, equation 4).

    `params`: as for any optimizer; a group's `penalty` is "group" (output filters of a weight of two dimensions or
    more), "l1" (single numbers) or None (plain SGD at the rate κα); `param_groups(model)` makes such groups. `lr`: α.
    `kappa`: κ, damping; it multiplies the rate of W, not that of Z. `mu`: ν, how loosely W and Γ are coupled.
    `momentum`, `dampening`, `weight_decay`: as in torch.optim.SGD. `fused`: compile the step for the CPU; what is
    elsewhere takes the usual way. State: `z`, `momentum_buffer`.
    Raises ValueError naming the value that is not allowed, RuntimeError if `fused` finds no compiler.
    """

    def __init__(self, params, lr, *, kappa=1.0, mu=100.0, momentum=0.9, dampening=0.0, weight_decay=0.0, fused=False):
        super().__init__(params, dict(lr=lr, kappa=kappa, mu=mu, momentum=momentum, dampening=dampening,
                                      weight_decay=weight_decay, fused=fused))  # fmt: skip

    def _names(self, group: dict) -> list[str]:
        return ["momentum_buffer"] if group["momentum"] else []

    def _step_of_w(self, group: dict, first: bool, fused: bool):
        """The function (weights, gradients, momentum, lr=rate) that makes W ← W − rate · d, for lists of tensors."""
        # As in torch, the first step's gradient enters the momentum whole.
        options = dict(momentum=group["momentum"], dampening=0 if first else group["dampening"],
                       weight_decay=group["weight_decay"], nesterov=False, maximize=False)  # fmt: skip

        def step_of_w(ws, gradients, buffers=(), *, lr):
            if fused:
                torch._fused_sgd_(ws, gradients, buffers, lr=lr, is_first_step=False, **options)
            else:
                buffers = list(buffers) or [None] * len(ws)
                sgd(list(ws), list(gradients), buffers, lr=lr, foreach=True, **options)

        return step_of_w

    def _fused_step(self, tensors: list[tuple[Tensor, ...]], coupling: tuple, group: dict, first: bool) -> list[int]:
        """A step of the weights, gradients and state that the kernel takes; gives the indices of the others."""
        ws, gradients, *buffers, zs = tensors
        dampening = 0.0 if first else group["dampening"]
        return _kernel().sgd(ws, gradients, buffers[0] if buffers else (), zs, *coupling, group["momentum"], dampening,
                             group["weight_decay"])  # fmt: skip


class DessiLBIAdam(_SplitLBI):
    """Adam's bias-corrected direction (Kingma and Ba, 2015) in place of the gradient, beside the sparse copy Γ.

    `params`, `lr`, `kappa`, `mu`, `fused`: as in DessiLBI. `betas`, `eps`, `weight_decay`: as in torch.optim.Adam.
    State: `z`, `exp_avg`, `exp_avg_sq`, `step`. Raises as DessiLBI does.
    """

    def __init__(self, params, lr, *, kappa=1.0, mu=100.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=False):
        super().__init__(params, dict(lr=lr, kappa=kappa, mu=mu, betas=betas, eps=eps,
                                      weight_decay=weight_decay, fused=fused))  # fmt: skip

    def _names(self, group: dict) -> list[str]:
        return ["exp_avg", "exp_avg_sq", "step"]

    def _fill(self, state: dict, parameter: Tensor, names: list[str]) -> list[Tensor]:
        # A counter that was loaded may lie elsewhere: torch moves all of a state but that.
        state["step"] = (
            state["step"].to(parameter.device) if "step" in state else torch.zeros((), device=parameter.device)
        )
        return super()._fill(state, parameter, names)

    def _step_of_w(self, group: dict, first: bool, fused: bool):
        options = dict(beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
                       weight_decay=group["weight_decay"], amsgrad=False, maximize=False)  # fmt: skip

        def step_of_w(ws, gradients, means, squares, steps, *, lr):
            if fused:
                torch._foreach_add_(steps, 1)
                torch._fused_adam_(ws, gradients, means, squares, [], steps, lr=lr, **options)
            else:
                tensors = map(list, (ws, gradients, means, squares, [], steps))
                adam(*tensors, lr=lr, foreach=True, **options)

        return step_of_w

    def _fused_step(self, tensors: list[tuple[Tensor, ...]], coupling: tuple, group: dict, first: bool) -> list[int]:
        return _kernel().adam(*tensors, *coupling, *group["betas"], group["eps"], group["weight_decay"])


def param_groups(model: nn.Module, only: str | Iterable[str] | None = None) -> list[dict]:
    """A model's parameters by penalty: weights of convolutions "group", linear weights "l1", the rest None.

    `only`: names of the layers to penalise, as in `model.named_modules()`, or one name; all of them if not given.
    Raises ValueError for a name that is no convolution or linear layer of the model, or whose weight is computed
    (`nn.utils.parametrizations`), so that it is no parameter.
    """
    penalties = {nn.Conv1d: "group", nn.Conv2d: "group", nn.Conv3d: "group", nn.Linear: "l1"}
    layers = {name: (layer, penalty) for name, layer in model.named_modules()
              for kind, penalty in penalties.items() if isinstance(layer, kind)}  # fmt: skip
    chosen = list(layers) if only is None else [only] if isinstance(only, str) else list(only)
    for name in chosen:
        if name not in layers:
            raise ValueError(f"{name!r} is no convolution or linear layer of the model: it has {', '.join(layers)}")
        if not isinstance(layers[name][0].weight, nn.Parameter):
            raise ValueError(f"the weight of {name!r} is computed from other parameters: name the others in `only`")
    penalty_of = {layers[name][0].weight: layers[name][1] for name in chosen}
    groups = {penalty: [] for penalty in PENALTIES}
    for name, parameter in model.named_parameters():
        groups[penalty_of.get(parameter)].append((name, parameter))
    return [{"params": params, "penalty": penalty} for penalty, params in groups.items() if params]


# ------------------------------------------------------------------------------------------ what is allowed

ALLOWED = {  # name: (test, in words)
    "lr": (lambda v: 0 <= v < math.inf, "at least 0 and finite"),
    "kappa": (lambda v: 0 < v < math.inf, "above 0 and finite"),
    "mu": (lambda v: v > 0, "above 0"),
    "momentum": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
    "dampening": (lambda v: 0 <= v <= 1, "between 0 and 1"),
    "weight_decay": (lambda v: 0 <= v < math.inf, "at least 0 and finite"),
    "betas": (lambda v: len(v) == 2 and all(0 <= beta < 1 for beta in v), "two numbers of at least 0 and below 1"),
    "eps": (lambda v: 0 < v < math.inf, "above 0 and finite"),
    "penalty": (lambda v: v in PENALTIES, 'one of "group", "l1" and None'),
}


def check(values: dict, index: int = 0, allowed: dict = ALLOWED) -> None:
    """Raises ValueError for a value that is not allowed, or a parameter that can't take its group's penalty."""
    for name, (fits, words) in allowed.items():
        if name in values:
            try:
                good = fits(values[name])
            except TypeError:  # no number at all
                good = False
            if not good:
                raise ValueError(f"{name} {values[name]!r} is not allowed: it must be {words}")
    if values.get("penalty") == "group":
        names = values.get("param_names") or [f"{i} of group {index}" for i in range(len(values["params"]))]
        for name, parameter in zip(names, values["params"]):
            if parameter.ndim < 2:
                shape = tuple(parameter.shape)
                raise ValueError(f'penalty "group" is not for parameter {name} of shape {shape}: it has no filters')


def _torch_fused(tensors: list[tuple[Tensor, ...]], contiguous: bool) -> bool:
    """Whether one call of torch's fused step takes all of them, each given as (weights, gradient, *state)."""
    device, dtype = tensors[0][0].device, tensors[0][0].dtype
    alike = all([each[0].dtype == dtype and each[0].device == device for each in tensors])
    alike = alike and (contiguous or all(map(_lie_alike, tensors)))
    return alike and dtype.is_floating_point and device.type in ("cpu", "cuda", "mps")


def _lie_alike(tensors: tuple[Tensor, ...]) -> bool:
    """Whether weights, gradient and state lie alike in memory, whole row after whole row; a step counter is a scalar.

    The fused step goes through memory number by number and doesn't look at strides.
    """
    if all(t.is_contiguous() for t in tensors):
        return True
    return tensors[0].ndim == 4 and all(
        t.ndim == 0 or t.is_contiguous(memory_format=torch.channels_last) for t in tensors
    )


def as_rows(tensor: Tensor) -> Tensor:
    """A channels-last tensor (N, C, H, W) as it lies in memory, contiguous: (N, H, W, C); any other as it is.

    On a CPU torch's fused steps make a contiguous copy of each gradient, and then do without it. Of a gradient that is
    channels-last the copy takes several times as long as the step.
    """
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if channels_last and not tensor.is_contiguous() else tensor


# ------------------------------------------------------------------------------------------ the step in one pass

KERNEL = r"""
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

using at::Tensor;
using at::TensorList;

template <typename T>
struct Sgd {  // d of SGD, with momentum if there is a buffer for it
  T momentum, taken, weight_decay, *buffer;
  T operator()(int64_t i, T w, T g) const {
    g += weight_decay * w;
    return buffer ? buffer[i] = momentum * buffer[i] + taken * g : g;
  }
};

template <typename T>
struct Adam {  // d of Adam; `bias1`, `bias2`: 1 - beta^step
  T beta1, beta2, eps, weight_decay, bias1, bias2, *mean, *square;
  T operator()(int64_t i, T w, T g) const {
    g += weight_decay * w;
    mean[i] += (1 - beta1) * (g - mean[i]);
    square[i] = beta2 * square[i] + (1 - beta2) * g * g;
    return mean[i] / bias1 / (std::sqrt(square[i] / bias2) + eps);
  }
};

// A step of some rows; a row is what belongs to one output filter. The norm of a row of Z is taken just before the row
// is updated, which then finds it in the cache.
template <bool by_filter, typename T, typename Direction>
void update(T* w, const T* g, T* z, int64_t first, int64_t last, int64_t n, T lr, T kappa, T mu, Direction d) {
  const T rate = kappa * lr, pull = kappa * lr / mu, push = lr / mu;
  for (int64_t row = first; row < last; ++row) {
    T factor = kappa;
    if (by_filter) {
      T squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = row * n; i < (row + 1) * n; ++i) squares += z[i] * z[i];
      const T norm = std::sqrt(squares);
      factor = norm > 1 ? kappa * (norm - 1) / norm : 0;
    }
#pragma omp simd
    for (int64_t i = row * n; i < (row + 1) * n; ++i) {
      const T kept = by_filter ? z[i] : (z[i] > 1 ? z[i] - 1 : 0) + (z[i] < -1 ? z[i] + 1 : 0);
      const T apart = w[i] - factor * kept;
      w[i] -= rate * d(i, w[i], g[i]) + pull * apart;
      z[i] += push * apart;
    }
  }
}

// A step of one tensor, by as many threads as torch has.
template <typename T, typename Direction>
void update(const Tensor& w, const Tensor& g, const Tensor& z, bool by_filter, T lr, T kappa, T mu, Direction d) {
  const int64_t rows = w.size(0), n = w.numel() / rows;
  const auto some_rows = by_filter ? update<true, T, Direction> : update<false, T, Direction>;
  at::parallel_for(0, rows, at::divup(32768, n), [&](int64_t first, int64_t last) {
    some_rows(w.data_ptr<T>(), g.data_ptr<T>(), z.data_ptr<T>(), first, last, n, lr, kappa, mu, d);
  });
}

// Whether weights, gradient and state lie alike in a CPU's memory, whole row after whole row.
bool fits(std::initializer_list<Tensor> tensors) {
  const Tensor& w = *tensors.begin();
  bool rows = w.dim() > 0, channels_last = w.dim() == 4;
  for (const Tensor& each : tensors) {
    if (!each.is_cpu() || each.scalar_type() != w.scalar_type()) return false;
    rows = rows && each.is_contiguous();
    channels_last = channels_last && each.is_contiguous(at::MemoryFormat::ChannelsLast);
  }
  return w.numel() > 0 && (w.scalar_type() == at::kFloat || w.scalar_type() == at::kDouble) && (rows || channels_last);
}

// Both make a step of the tensors that fit, and give the indices of those that don't.
std::vector<int64_t> sgd(TensorList ws, TensorList gradients, TensorList buffers, TensorList zs, bool by_filter,
                         double lr, double kappa, double mu, double momentum, double dampening, double weight_decay) {
  std::vector<int64_t> left;
  for (size_t k = 0; k < ws.size(); ++k) {
    const Tensor& buffer = buffers.empty() ? zs[k] : buffers[k];
    if (!fits({ws[k], gradients[k], buffer, zs[k]})) {
      left.push_back(k);
      continue;
    }
    AT_DISPATCH_FLOATING_TYPES(ws[k].scalar_type(), "dessilbi", [&] {
      using T = scalar_t;
      T* momenta = buffers.empty() ? nullptr : buffer.data_ptr<T>();
      update<T>(ws[k], gradients[k], zs[k], by_filter, lr, kappa, mu,
                Sgd<T>{T(momentum), T(1 - dampening), T(weight_decay), momenta});
    });
  }
  return left;
}

std::vector<int64_t> adam(TensorList ws, TensorList gradients, TensorList means, TensorList squares, TensorList steps,
                          TensorList zs, bool by_filter, double lr, double kappa, double mu, double beta1, double beta2,
                          double eps, double weight_decay) {
  std::vector<int64_t> left;
  for (size_t k = 0; k < ws.size(); ++k) {
    if (!fits({ws[k], gradients[k], means[k], squares[k], zs[k]})) {
      left.push_back(k);
      continue;
    }
    const double step = steps[k].add_(1).item<double>();
    AT_DISPATCH_FLOATING_TYPES(ws[k].scalar_type(), "dessilbi", [&] {
      using T = scalar_t;
      update<T>(ws[k], gradients[k], zs[k], by_filter, lr, kappa, mu,
                Adam<T>{T(beta1), T(beta2), T(eps), T(weight_decay), T(1 - std::pow(beta1, step)),
                        T(1 - std::pow(beta2, step)), means[k].data_ptr<T>(), squares[k].data_ptr<T>()});
    });
  }
  return left;
}

TORCH_LIBRARY(dessilbi, m) {
  m.def("sgd(Tensor(a!)[] w, Tensor[] g, Tensor(b!)[] buffers, Tensor(c!)[] z, bool by_filter, float lr, "
        "float kappa, float mu, float momentum, float dampening, float weight_decay) -> int[]", &sgd);
  m.def("adam(Tensor(a!)[] w, Tensor[] g, Tensor(b!)[] means, Tensor(c!)[] squares, Tensor(d!)[] steps, "
        "Tensor(e!)[] z, bool by_filter, float lr, float kappa, float mu, float beta1, float beta2, float eps, "
        "float weight_decay) -> int[]", &adam);
}
"""


@functools.cache
def _kernel():
    """The compiled `KERNEL`. Raises RuntimeError where it can't be compiled."""
    try:
        compiled = importlib.import_module("helpers.fast.build").compiled  # absent where this file was copied
        return compiled("dessilbi", KERNEL)
    except ImportError as error:
        raise RuntimeError("fused=True needs the folder helpers/fast of this repository beside it") from error
    except RuntimeError as error:
        raise RuntimeError(f"fused=True {error}") from error
