"""Batch norm, max pool and ReLU as one pass over the activations each way, compiled for the CPU.

torch makes a pass of each: in training, a batch norm before a pool and a ReLU goes through its activations a dozen
times, and next to no arithmetic is done on the way. Here they are read once for their moments and once for the result,
and in the backward pass read twice and written once. Nothing of what lies between is kept: it is computed again.
"""

import functools

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helpers.fast import narrow
from helpers.fast.build import compiled, compiles, is_traced, source
from helpers.models import Residual

CHANNELS = 32  # a multiple of it fills vector registers; of fewer channels torch's own passes are faster


@functools.cache
def kernel():
    return compiled("fused", source("fused"))


def available() -> bool:
    """Whether this machine has a compiler; compiles, once."""
    return compiles(kernel)


# ------------------------------------------------------------------------------------------ the function


class _NormPoolReLU(torch.autograd.Function):
    """Max pool over windows of `side` by `side` and ReLU of γ (x − mean) / √(var + ε) + β, mean and variance those of
    the batch, which are given as well; (N, C, H, W) channels-last."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float, side: int):
        about = x[0, :, 0, 0].to(weight.dtype)  # a number near the mean, so that few digits cancel
        count = x.numel() // x.shape[1]
        first, second = kernel().moments(x, about).sum(0) / count
        mean, variance = first + about, (second - first.square()).clamp_min(0)
        inverse = (variance + eps).rsqrt()
        scale = (weight * inverse).to(weight.dtype)
        shift = (bias - mean * scale).to(weight.dtype)
        ctx.save_for_backward(x, scale, shift, mean, inverse)
        ctx.side = side
        ctx.mark_non_differentiable(mean, variance)
        return kernel().forward(x, scale, shift, side), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, *_):
        x, scale, shift, mean, inverse = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_bias, products = kernel().sums(x, scale, shift, ctx.side, gradient).sum(0)
        of_weight = (products - mean * of_bias) * inverse
        b = -scale * inverse * of_weight / count
        a = -scale * of_bias / count - b * mean
        a, b, of_weight, of_bias = (each.to(scale.dtype) for each in (a, b, of_weight, of_bias))
        return kernel().backward(x, scale, shift, ctx.side, gradient, a, b), of_weight, of_bias, None, None


class _PoolReLU(torch.autograd.Function):
    """Max pool over windows of `side` by `side`, and ReLU; (N, C, H, W) channels-last."""

    @staticmethod
    def forward(ctx, x: Tensor, side: int):
        ctx.save_for_backward(x)
        ctx.side = side
        return kernel().forward(x, *_PoolReLU.identity(x), side)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        (x,) = ctx.saved_tensors
        one, zero = _PoolReLU.identity(x)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return kernel().backward(x, one, zero, ctx.side, gradient, zero, zero), None

    @staticmethod
    def identity(x: Tensor) -> tuple[Tensor, Tensor]:
        kind = torch.promote_types(x.dtype, torch.float32)
        return x.new_ones(x.shape[1], dtype=kind), x.new_zeros(x.shape[1], dtype=kind)


# ------------------------------------------------------------------------------------------ in a model


def fuse(model: nn.Module) -> None:
    """Has each Sequential of a model compute batch norm, max pool and ReLU that follow each other at once, in training,
    on channels-last maps; and what is `narrow`. Names, parameters and layers stay as they are. Raises RuntimeError
    without a compiler.

    Pools come before ReLUs; see `engine.pool_first`.
    """
    kernel()
    for chain in list(model.modules()):
        kind = {nn.Sequential: _Sequential, Residual: _Residual}.get(type(chain))
        if kind is not None:
            chain.__class__ = kind


class _Sequential(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        if is_traced(x):
            return nn.Sequential.forward(self, x)
        layers = list(self)
        while layers:
            few, (norm, pool, count) = narrow.leading(layers, x), _start(layers)
            if few and _unheard(layers[:few]):
                count, x = few, narrow.convolve(layers[:few], x)
            elif count and fits(x, norm, pool) and _unheard(layers[:count]):
                x = _at_once(x, norm, pool)
            else:
                count, x = 1, layers[0](x)
            del layers[:count]
        return x


class _Residual(Residual, _Sequential):
    """x + layers(x), as in `Residual`."""


def _unheard(layers: list[nn.Module]) -> bool:
    """Whether nothing listens to any of the layers, so that none need be called."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any(getattr(layer, each) for layer in layers for each in hooks)


def _start(layers: list[nn.Module]) -> tuple[nn.BatchNorm2d | None, nn.MaxPool2d | None, int]:
    """Batch norm and pool, if the layers start with one or both and then a ReLU, and how many they are; else 0."""
    rest = list(layers)
    norm = rest.pop(0) if type(rest[0]) is nn.BatchNorm2d else None
    pool = rest.pop(0) if rest and type(rest[0]) is nn.MaxPool2d else None
    found = (norm or pool) and rest and type(rest[0]) is nn.ReLU
    return norm, pool, len(layers) - len(rest) + 1 if found else 0


def fits(x: Tensor, norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None) -> bool:
    """Whether the kernel computes what torch would."""
    kinds = (torch.bfloat16, torch.float32, torch.float64)
    if x.device.type != "cpu" or x.ndim != 4 or x.dtype not in kinds or not x.numel():
        return False
    if x.shape[1] % CHANNELS or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    if pool is not None and not narrow.halves(pool, x.shape[2:]):
        return False
    if norm is not None:
        plain = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
        return plain and x.numel() > x.shape[1] and norm.weight.dtype == torch.promote_types(x.dtype, torch.float32)
    return True


def _at_once(x: Tensor, norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None) -> Tensor:
    side = 1 if pool is None else 2
    if norm is None:
        return _PoolReLU.apply(x, side)
    y, mean, variance = _NormPoolReLU.apply(x, norm.weight, norm.bias, norm.eps, side)
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), norm.momentum)
    return y
