"""The step of `helpers.dessilbi` for `fused=True`: the same equations as one pass over memory, compiled for the CPU
(kernels/dessilbi.cpp). What the kernel doesn't take, it leaves untouched and hands back."""

import functools

import torch
from torch import Tensor

from helpers.fast.build import CompilerError, compiled, source


@functools.cache
def kernel():
    """The compiled operators torch.ops.dessilbi. Raises RuntimeError where they can't be compiled."""
    try:
        return compiled("dessilbi", source("dessilbi"))
    except CompilerError as error:
        raise CompilerError(f"fused=True {error}") from error


def step(tensors: list[tuple[Tensor, ...]], group: dict, first: bool) -> list[tuple[Tensor, ...]]:
    """One step of a penalised group's parameters, each given as (weights, gradient, *state, Z); gives those left as
    they are: what is elsewhere than in a CPU's memory, of another type than float or double, or not row after row.

    `first`: whether momentum begins. Raises RuntimeError, before anything is written, where sizes differ.
    """
    ws, gradients, *state, zs = list(zip(*tensors))
    coupling = (group["penalty"] == "group", *(float(group[name]) for name in ("lr", "kappa", "mu")))
    if "betas" in group:
        options = (*group["betas"], group["eps"], group["weight_decay"])
        left = kernel().adam(ws, gradients, *state, zs, *coupling, *options)
    else:
        options = (group["momentum"], 0.0 if first else group["dampening"], group["weight_decay"])
        left = kernel().sgd(ws, gradients, state[0] if state else (), zs, *coupling, *options)
    # The kernel writes past autograd, which has to know that a graph made before the step is out of date.
    torch.autograd.graph.increment_version(ws)
    return [tensors[index] for index in left]
