"""Convolutions of few channels, each with the max pool and ReLU that follow it, as one pass each way, compiled for the
CPU.

A layer of LeNet has 1, 6 or 16 channels for vector registers that hold 8 or 16 numbers. So here a vector holds the same
pixel of as many images, and what is done for one image is done for all of them at once: at full width whatever the
channels. Everything is in float32.
"""

import functools

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from helpers.fast.build import compiled, compiles, source

CHANNELS = 16  # that come in or go out, at most; with more of them a layer fills vectors by itself
KERNELS = (3, 5)  # sides of a filter


@functools.cache
def kernel():
    """Both passes, compiled. Raises RuntimeError where they can't be."""
    return compiled("narrow", source("narrow"))


def available() -> bool:
    """Whether this machine has a compiler; compiles, once."""
    return compiles(kernel)


# ------------------------------------------------------------------------------------------ the function


def leading(layers: list[nn.Module], images: Tensor) -> int:
    """How many of the layers, from the first, `convolve` computes on these images (N, C, H, W): a multiple of 3."""
    if images.device.type != "cpu" or images.ndim != 4 or images.dtype != torch.float32 or not len(images):
        return 0
    count, sides = 0, images.shape[2:]
    while sides := _sides(layers[count : count + 3], sides):
        count += 3
    return count if count and available() else 0


def _sides(layers: list[nn.Module], sides) -> list[int] | None:
    """Of the maps that convolution, pool and ReLU make of maps with these sides; None if `convolve` can't."""
    if [type(layer) for layer in layers] != [nn.Conv2d, nn.MaxPool2d, nn.ReLU]:
        return None
    convolution, pool, _ = layers
    (k, other), padding = convolution.kernel_size, convolution.padding
    plain = convolution.stride == convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    if not plain or k != other or k not in KERNELS or padding not in [(by, by) for by in range(k)]:
        return None
    plain = convolution.groups == 1 and convolution.bias is not None and convolution.weight.dtype == torch.float32
    if not plain or max(convolution.in_channels, convolution.out_channels) > CHANNELS:
        return None
    outputs = [side + 2 * padding[0] - k + 1 for side in sides]
    return [side // 2 for side in outputs] if min(outputs) > 0 and halves(pool, outputs) else None


def halves(pool: nn.MaxPool2d, sides) -> bool:
    """Whether the pool takes the largest of each window of 2 by 2 of maps with these sides, and leaves no pixel out."""
    plain = pool.kernel_size == pool.stride == 2 and pool.padding == 0 and pool.dilation == 1
    return plain and not pool.return_indices and all(side % 2 == 0 for side in sides)


def convolve(layers: list[nn.Module], images: Tensor) -> Tensor:
    """What the layers, all of them `leading`, make of images (N, C, H, W); channels-last in memory."""
    lanes = kernel().lanes()
    missing = -len(images) % lanes
    full = nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else images
    maps = full.unflatten(0, (-1, lanes)).permute(0, 2, 3, 4, 1).contiguous()
    for layer in layers[::3]:
        maps = _ConvolvePoolReLU.apply(maps, layer.weight, layer.bias, layer.padding[0])
    return maps.permute(0, 4, 2, 3, 1).flatten(0, 1)[: len(images)].permute(0, 3, 1, 2)


class _ConvolvePoolReLU(torch.autograd.Function):
    """ReLU of the max pool over windows of 2 by 2 of a convolution; maps (blocks, C, H, W, lanes)."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, maps, weight, bias, padding):
        outputs, places = kernel().forward(maps, weight.contiguous(), bias, padding)
        ctx.save_for_backward(maps, weight, places)
        ctx.padding = padding
        return outputs

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, gradient):
        maps, weight, places = ctx.saved_tensors
        turned = weight.flip(2, 3).transpose(0, 1).contiguous()
        of_maps, of_weight, of_bias = kernel().backward(
            gradient.contiguous(), places, maps, turned, ctx.padding, ctx.needs_input_grad[0]
        )
        return of_maps if ctx.needs_input_grad[0] else None, of_weight.sum(0), of_bias.sum(0), None
