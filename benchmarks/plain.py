"""DessiLBI as its authors write it (Fu et al., 2020; github.com/DessiLBI2020/DessiLBI, SLBI): one parameter after the
other, Γ stored, the weights copied at each step. It is here to be compared with, and never to be trained with."""

import copy

import torch


def shrink(z: torch.Tensor) -> torch.Tensor:
    """The soft threshold at 1, in temporaries of full size."""
    return z.sign() * torch.max(z.abs() - torch.ones_like(z), torch.zeros_like(z))


def shrink_filters(z: torch.Tensor) -> torch.Tensor:
    """The group soft threshold at 1, an output filter a group."""
    rows = z.reshape(z.shape[0], -1)
    norms = torch.norm(rows, 2, 1)
    factors = torch.max(torch.zeros_like(norms), torch.ones_like(norms) - torch.ones_like(norms) / norms)
    return (rows.t() * factors).t().reshape(z.shape)


class PlainDessiLBI(torch.optim.Optimizer):
    """The loop over parameters; weights of 4 dimensions have the group penalty, of 2 the l1 penalty, others none."""

    def __init__(self, params, lr, kappa=1.0, mu=100.0, momentum=0.9):
        super().__init__(params, dict(lr=lr, kappa=kappa, mu=mu, momentum=momentum))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self._step(parameter, self.state[parameter], group)

    def _step(self, w, state, group) -> None:
        if not state:
            state.update({name: torch.zeros_like(w) for name in ("momentum_buffer", "z", "gamma")})
        kappa, mu, rate = group["kappa"], group["mu"], group["lr"] * group["kappa"]
        direction = state["momentum_buffer"].mul_(group["momentum"]).add_(w.grad)
        if w.ndim not in (2, 4):
            w.add_(direction, alpha=-rate)
            return
        change = direction * rate + (w - state["gamma"]) * rate / mu
        before = copy.deepcopy(w.data)
        w.add_(-change)
        state["z"].add_(state["gamma"] - before, alpha=-group["lr"] / mu)
        state["gamma"] = kappa * (shrink(state["z"]) if w.ndim == 2 else shrink_filters(state["z"]))
