"""The same networks, computed faster: changes to a model that keep its function, its parameters and all names. Both
are made by the trainer; a model that is looked at or drawn is as the report has it."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NARROW = 16  # input channels; below it a matrix product is no faster than the convolution's own gradient
UNFOLDED = 2**19  # numbers that are unfolded at a time: 2 MiB, about what a core's cache holds


def pool_first(model: nn.Module) -> None:
    """Puts each max pool of a Sequential before the ReLU that it follows, which then has a quarter of the work.

    ReLU leaves the largest number the largest, so outputs and gradients stay the same, bit for bit.
    """
    for chain in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        layers = dict(chain.named_children())
        order = list(layers)
        for place in range(len(order) - 1):
            name, after = order[place : place + 2]
            if isinstance(layers[name], nn.ReLU) and isinstance(layers[after], nn.MaxPool2d):
                order[place : place + 2] = after, name
        for name in layers:
            delattr(chain, name)
        for name in order:
            chain.add_module(name, layers[name])


def matmul_gradients(model: nn.Module) -> None:
    """Makes the weight gradients of a model's convolutions matrix products, the same up to rounding.

    In float32 on a processor without AVX-512 this takes about two thirds as long as oneDNN's own. Left alone are narrow
    layers, those in groups or dilated, and those padded by anything but a number of zeros.
    """
    for layer in model.modules():
        if type(layer) is nn.Conv2d and layer.in_channels >= NARROW and _is_plain(layer):
            layer.__class__ = _MatmulConv2d


def _is_plain(layer: nn.Conv2d) -> bool:
    zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return zeros and layer.groups == 1 and layer.dilation == (1, 1)


class _MatmulConv2d(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return _Convolve.apply(images, self.weight, self.bias, self.stride, self.padding)


class _Convolve(torch.autograd.Function):
    """A convolution with the gradient of its weights by `weight_gradient`."""

    @staticmethod
    def forward(ctx, images, weight, bias, stride, padding):
        ctx.save_for_backward(images, weight)
        ctx.has_bias, ctx.stride, ctx.padding = bias is not None, stride, padding
        return nn.functional.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        images, weight = ctx.saved_tensors
        of_images, of_weight, of_bias = ctx.needs_input_grad[:3]
        given = of_images and torch.nn.grad.conv2d_input(images.shape, weight, gradient, ctx.stride, ctx.padding)
        return (
            given if of_images else None,
            weight_gradient(images, gradient, weight.shape[2:], ctx.stride, ctx.padding) if of_weight else None,
            gradient.sum((0, 2, 3)) if ctx.has_bias and of_bias else None,
            None, None,
        )  # fmt: skip


def weight_gradient(images: Tensor, gradient: Tensor, kernel, stride, padding) -> Tensor:
    """The gradient (O, C, *kernel) of a convolution's weights from its input (N, C, H, W) and its output's (N, O, …).

    One row of the unfolded input for each place of each image, as many columns as a filter has weights; some images at
    a time, so that what is unfolded stays in the cache. In memory the result is channels-last.
    """
    (high, wide), (down, right) = kernel, padding
    padded = nn.functional.pad(images.permute(0, 2, 3, 1), (0, 0, right, right, down, down)).contiguous()
    outputs = gradient.permute(0, 2, 3, 1).contiguous()
    channels, (_, rows, columns, filters) = padded.shape[3], outputs.shape
    row = padded[0, 0].numel()  # not `stride`, which means nothing along a dimension of one
    total = gradient.new_zeros(filters, high * wide * channels)
    count = max(1, UNFOLDED // (rows * columns * high * wide * channels))
    for some, theirs in zip(padded.split(count), outputs.split(count)):
        # A row of a window is contiguous in memory: `wide` pixels with all their channels.
        shape = (len(some), rows, columns, high, wide * channels)
        windows = some.as_strided(shape, (some[0].numel(), row * stride[0], channels * stride[1], row, 1))
        total.addmm_(theirs.flatten(0, 2).T, windows.reshape(-1, total.shape[1]))
    return total.view(filters, high, wide, channels).permute(0, 3, 1, 2)
