"""LinBreg and AdaBreg (Bungert et al., JMLR 2022, arXiv 2105.04319): what DessiLBI is compared with. They start from a
network with few filters and let others enter; unlike DessiLBI they hold one set of weights, which is itself sparse.

With the loss f, rate τ (`lr`), δ (`delta`) and the penalty J, λ√n ‖θ_f‖ of each output filter f with n weights
("group") or λ|θ| of each weight ("l1"), a step is

    V ← V − τ d        d: mean of the gradients ("linbreg"), or Adam's bias-corrected direction ("adabreg")
    θ ← prox_δJ(δ V)   the group or soft threshold at δλ√n or δλ

with V = θ/δ + ∂J(θ) at the start: algorithms 2 and 3 of the paper.
"""

import math

import torch
from torch import Tensor, nn

from helpers import dessilbi


def threshold(penalty: str | None, lam: float, v: Tensor) -> float:
    """λ√n for filters of n weights, λ for single weights, 0 without a penalty."""
    return {"group": lam * math.sqrt(math.prod(v.shape[1:])), "l1": lam, None: 0.0}[penalty]


def filter_norms(v: Tensor) -> Tensor:
    """‖v_f‖ of each output filter: (F, …) → (F, 1, …), of filters as well whose squares overflow."""
    dim = tuple(range(1, v.ndim))
    norms = torch.linalg.vector_norm(v, dim=dim, keepdim=True)
    if norms.isinf().any():
        scale = v.abs().amax(dim, keepdim=True).clamp_(max=torch.finfo(v.dtype).max)
        norms = torch.where(norms.isinf(), scale * torch.linalg.vector_norm(v / scale, dim=dim, keepdim=True), norms)
    return norms.clamp_(max=torch.finfo(v.dtype).max)


def prox(v: Tensor, at: float, penalty: str | None) -> Tensor:
    """The proximal map of at · ‖v_f‖ of each filter, or at · |v| of each number."""
    if penalty == "group":
        return v * (1 - at / filter_norms(v).clamp_(min=torch.finfo(v.dtype).tiny)).clamp_(min=0)
    return nn.functional.softshrink(v, at) if penalty == "l1" else v.clone()


def subgradient(theta: Tensor, at: float, penalty: str | None) -> Tensor:
    """The element of ∂J(θ) that is 0 where θ is."""
    if penalty == "group":
        norms = filter_norms(theta)
        return at * torch.where(norms > 0, theta / norms, 0)
    return at * theta.sign() if penalty == "l1" else torch.zeros_like(theta)


@torch.no_grad()
def thin_(groups: list[dict], density: float) -> None:
    """Sets all but the share `density` of the filters or weights of each penalised parameter to zero, drawn by lot.

    What is left is scaled by √(all/left), so that outputs keep their variance. At least one filter or weight stays.
    """
    for group in groups:
        for parameter in group["params"]:
            p = parameter[1] if isinstance(parameter, tuple) else parameter
            if group["penalty"] is not None and density < 1:
                shape = (len(p), *[1] * (p.ndim - 1)) if group["penalty"] == "group" else p.shape
                order = torch.randperm(math.prod(shape)).view(shape)
                left = max(1, round(density * order.numel()))
                p.mul_(((order < left) * math.sqrt(order.numel() / left)).to(p.device))


class _Bregman(dessilbi.Penalised):
    """The step that both share: V goes along a direction, θ is made from V."""

    allowed = {  # name: (test, in words)
        **dessilbi.Penalised.allowed,
        "lam": (lambda v: 0 <= v < math.inf, "a number of at least 0, and finite"),
        "delta": (lambda v: 0 < v < math.inf, "a number above 0, and finite"),
    }

    def _step_group(self, group: dict) -> None:
        names, penalty, delta = self._names(group), group["penalty"], group["delta"]
        for name, p in self._named(group):
            if p.grad is not None:
                state, at = self.state[p], threshold(penalty, group["lam"], p)
                if "v" not in state:
                    state["v"] = p / delta + subgradient(p, at, penalty)
                _, gradient, v, *means = self._tensors(name, p, names)
                v.sub_(self._direction(group, gradient, *means), alpha=float(group["lr"]))
                p.copy_(prox(delta * v, delta * at, penalty))


class LinBreg(_Bregman):
    """Linearised Bregman iterations with momentum; see the module. `params`: groups with a `penalty`."""

    def __init__(self, params, lr, *, lam=1.0, delta=1.0, momentum=0.0):
        super().__init__(params, dict(lr=lr, lam=lam, delta=delta, momentum=momentum))

    def _names(self, group: dict) -> list[str]:
        return ["v", "momentum_buffer"] if group["momentum"] else ["v"]

    def _direction(self, group: dict, gradient: Tensor, mean: Tensor | None = None) -> Tensor:
        return gradient if mean is None else mean.lerp_(gradient, 1 - group["momentum"])


class AdaBreg(_Bregman):
    """Bregman iterations along Adam's direction; see the module. `params`: groups with a `penalty`."""

    def __init__(self, params, lr, *, lam=1.0, delta=1.0, betas=(0.9, 0.999), eps=1e-8):
        super().__init__(params, dict(lr=lr, lam=lam, delta=delta, betas=betas, eps=eps))

    def _names(self, group: dict) -> list[str]:
        return ["v", "exp_avg", "exp_avg_sq", "step"]

    def _direction(self, group: dict, gradient: Tensor, mean: Tensor, square: Tensor, step: Tensor) -> Tensor:
        (first, second), count = group["betas"], step.add_(1).item()
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (square / (1 - second**count)).sqrt_().add_(group["eps"])
        return mean / (1 - first**count) / scale
