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


def threshold(penalty: str | None, lam: float, v: Tensor) -> float:
    """λ√n for filters of n weights, λ for single weights, 0 without a penalty."""
    return {"group": lam * math.sqrt(v[0].numel()), "l1": lam, None: 0.0}[penalty]


def prox(v: Tensor, at: float, penalty: str | None) -> Tensor:
    """The proximal map of at · ‖v_f‖ of each filter, or at · |v| of each number."""
    if penalty == "group":
        norms = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)
        return v * (1 - at / norms).clamp_(min=0)
    return nn.functional.softshrink(v, at) if penalty == "l1" else v.clone()


def subgradient(theta: Tensor, at: float, penalty: str | None) -> Tensor:
    """The element of ∂J(θ) that is 0 where θ is."""
    if penalty == "group":
        norms = torch.linalg.vector_norm(theta, dim=tuple(range(1, theta.ndim)), keepdim=True)
        return at * torch.where(norms > 0, theta / norms, 0)
    return at * theta.sign() if penalty == "l1" else torch.zeros_like(theta)


@torch.no_grad()
def thin_(groups: list[dict], density: float) -> None:
    """Sets all but the share `density` of the filters or weights of each penalised parameter to zero, drawn by lot.

    What is left is scaled by 1/√density, so that outputs keep their variance. At least one filter or weight stays.
    """
    for group in groups:
        for parameter in group["params"]:
            p = parameter[1] if isinstance(parameter, tuple) else parameter
            if group["penalty"] is not None and density < 1:
                shape = (len(p), *[1] * (p.ndim - 1)) if group["penalty"] == "group" else p.shape
                order = torch.randperm(math.prod(shape)).view(shape)
                p.mul_((order < max(1, round(density * order.numel()))) / math.sqrt(density))


class _Bregman(torch.optim.Optimizer):
    """The step that both share: V goes along a direction, θ is made from V."""

    def __init__(self, params, defaults: dict):
        for name, value in defaults.items():
            if name in ("lr", "delta", "eps") and not 0 < value < math.inf:
                raise ValueError(f"{name} {value!r} is not allowed: it must be above 0 and finite")
        if not 0 <= defaults["lam"] < math.inf:
            raise ValueError(f"lam {defaults['lam']!r} is not allowed: it must be at least 0 and finite")
        super().__init__(params, {**defaults, "penalty": None})

    @torch.no_grad()
    def step(self, closure=None):
        """One step; gives the loss that `closure`, if given, computes. What has no gradient stays as it is."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            penalty, delta = group["penalty"], group["delta"]
            for p in group["params"]:
                if p.grad is not None:
                    state, at = self.state[p], threshold(penalty, group["lam"], p)
                    if "v" not in state:
                        state["v"] = p / delta + subgradient(p, at, penalty)
                    state["v"].sub_(self._direction(p.grad, state, group), alpha=group["lr"])
                    p.copy_(prox(delta * state["v"], delta * at, penalty))
        return loss


class LinBreg(_Bregman):
    """Linearised Bregman iterations with momentum; see the module. `params`: groups with a `penalty`."""

    def __init__(self, params, lr, *, lam=1.0, delta=1.0, momentum=0.0):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum {momentum!r} is not allowed: it must be at least 0 and below 1")
        super().__init__(params, dict(lr=lr, lam=lam, delta=delta, momentum=momentum))

    def _direction(self, gradient: Tensor, state: dict, group: dict) -> Tensor:
        if not group["momentum"]:
            return gradient
        mean = state.setdefault("momentum_buffer", torch.zeros_like(gradient))
        return mean.lerp_(gradient, 1 - group["momentum"])


class AdaBreg(_Bregman):
    """Bregman iterations along Adam's direction; see the module. `params`: groups with a `penalty`."""

    def __init__(self, params, lr, *, lam=1.0, delta=1.0, betas=(0.9, 0.999), eps=1e-8):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas {betas!r} are not allowed: each must be at least 0 and below 1")
        super().__init__(params, dict(lr=lr, lam=lam, delta=delta, betas=tuple(betas), eps=eps))

    def _direction(self, gradient: Tensor, state: dict, group: dict) -> Tensor:
        first, second = group["betas"]
        state["step"] = state.get("step", 0) + 1
        mean = state.setdefault("exp_avg", torch.zeros_like(gradient)).lerp_(gradient, 1 - first)
        square = state.setdefault("exp_avg_sq", torch.zeros_like(gradient))
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (square / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        return mean / (1 - first ** state["step"]) / scale
