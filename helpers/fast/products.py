"""Convolutions as products of matrices, where these are faster than torch's own: on small maps. A model's function,
parameters and names stay as they are."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from helpers.fast import winograd
from helpers.fast.build import is_traced

NARROW = 16  # input channels; below it a matrix product is no faster than the convolution's own gradient
SMALL = 4  # places along the longer side of a map; up to it one product for each weight of a filter's window is faster


def change_convolutions(model: nn.Module, kind: str = "direct") -> None:
    """Has a model's convolutions computed otherwise, the same up to rounding.

    Of any `kind`, their weight gradients on small maps become products of matrices: up to 4 × 4 these take three
    quarters as long as oneDNN's own, or less, on any processor. So does the whole convolution where each of its windows
    sees the whole map. With "matmul" all of it does on all small maps, and with "winograd" what `winograd` computes is
    left to that, of which the outputs in bfloat16 stay torch's own; it depends on the processor what is faster. Left
    alone are narrow layers, those in groups or dilated, and those padded by anything but a number of zeros. Raises
    RuntimeError if "winograd" lacks a compiler.
    """
    if kind == "winograd":
        winograd.kernel()
    for layer in model.modules():
        if type(layer) is nn.Conv2d and layer.in_channels >= NARROW:
            zeros = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            if zeros and layer.groups == 1 and layer.dilation == (1, 1):
                layer.__class__ = _ChangedConv2d
                layer.kind = kind


class _ChangedConv2d(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        if is_traced(images):
            return super().forward(images)
        if self.kind == "winograd" and winograd.fits(images, self):
            return winograd.convolve(images, self.weight, self.bias, self.stride, self.padding)
        if not fits(images, self):
            return super().forward(images)
        if _has_one_window(images, self):
            images, weight = (each.permute(0, 2, 3, 1).flatten(1) for each in (images, self.weight))
            return nn.functional.linear(images, weight, self.bias)[:, :, None, None]
        return _Convolve.apply(images, self.weight, self.bias, self.padding, self.kind != "direct")


def fits(images: Tensor, layer: nn.Conv2d) -> bool:
    """Whether the layer, of those that are changed, is a product of matrices on these images (N, C, H, W)."""
    return _has_one_window(images, layer) or (max(images.shape[2:]) <= SMALL and layer.stride == (1, 1))


def _has_one_window(images: Tensor, layer: nn.Conv2d) -> bool:
    return images.shape[2:] == layer.kernel_size and layer.padding == (0, 0)


class _Convolve(torch.autograd.Function):
    """A convolution of stride 1 with the gradient of its weights by tap; as products of matrices if it is `in_whole`,
    and else as a linear layer where it is one."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # only where autocast is on
    def forward(ctx, images, weight, bias, padding, in_whole):
        by_tap = in_whole and images.dtype != torch.bfloat16
        matrix = None if by_tap else _as_matrix(weight, images.shape[2:], padding)
        ctx.save_for_backward(images, weight, matrix)
        ctx.has_bias, ctx.padding, ctx.in_whole = bias is not None, padding, in_whole
        if matrix is not None:
            outputs = _product(images, matrix.T)
        elif in_whole:
            outputs = _products(images, weight, padding)
        else:
            return nn.functional.conv2d(images, weight, bias, padding=padding)
        return outputs if bias is None else outputs.add_(bias[:, None, None])

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, gradient):
        images, weight, matrix = ctx.saved_tensors
        of_images, of_weight, of_bias = ctx.needs_input_grad[:3]
        given = None
        if of_images and matrix is not None:
            given = _product(gradient, matrix)
        elif of_images and ctx.in_whole:
            # The convolution of the gradient with the filters turned by half a turn, which has the other part of the
            # padding; what lay outside of the images gets none.
            rest = [side - 1 - p for side, p in zip(weight.shape[2:], ctx.padding)]
            given = _products(gradient, weight.flip(2, 3).transpose(0, 1), rest)
        elif of_images:
            given = torch.nn.grad.conv2d_input(images.shape, weight, gradient, padding=ctx.padding)
        return (
            given,
            weight_gradient(images, gradient, weight.shape[2:], ctx.padding) if of_weight else None,
            gradient.sum((0, 2, 3)) if ctx.has_bias and of_bias else None,
            None, None,
        )  # fmt: skip


def _as_matrix(weight: Tensor, sides, padding) -> Tensor | None:
    """The matrix (H·W·O, H·W·C) of a convolution of which each window sees the whole map, H by W; of others, None.

    On VGG-A's maps of 2 × 2 a product with it takes half as long as the convolution.
    """
    if not all(k == 2 * p + 1 and side <= p + 1 for k, side, p in zip(weight.shape[2:], sides, padding)):
        return None
    (high, wide), (down, right), window = sides, padding, weight.permute(0, 2, 3, 1)
    matrix = weight.new_empty(high, wide, len(weight), high, wide, weight.shape[1])
    for i, j in itertools.product(range(high), range(wide)):
        matrix[i, j] = window[:, down - i : down - i + high, right - j : right - j + wide]
    return matrix.flatten(3).flatten(0, 2)


def _product(maps: Tensor, matrix: Tensor) -> Tensor:
    """Maps (N, channels, H, W) as rows (N, H·W·channels) times a matrix, as maps again; channels-last in memory."""
    count, _, high, wide = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(count, -1)
    return (rows @ matrix).view(count, high, wide, -1).permute(0, 3, 1, 2)


def _products(maps: Tensor, weight: Tensor, padding) -> Tensor:
    """A convolution of stride 1 as products of matrices; channels-last in memory.

    In bfloat16 as one, since a sum over several would be rounded at each.
    """
    if maps.dtype == torch.bfloat16:
        windows = _windows(maps, weight.shape[2:], padding)
        outputs = windows.flatten(3).flatten(0, 2) @ weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
        return outputs.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)
    pixels = maps.permute(2, 3, 0, 1).contiguous()
    sides = [side + 2 * p - k + 1 for side, p, k in zip(maps.shape[2:], padding, weight.shape[2:])]
    outputs = pixels.new_zeros(*sides, len(maps), len(weight))
    for i, j, theirs, its in _meetings(pixels, outputs, weight.shape[2:], padding):
        for row, its_row in zip(theirs, its):
            _as_rows(its_row).addmm_(_as_rows(row), weight[:, :, i, j].T)
    return outputs.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def _windows(maps: Tensor, kernel, padding) -> Tensor:
    """A view of each window of maps (N, C, H, W) with zeros around: (N, rows, columns, high, wide · C).

    A row of a window is contiguous in memory: `wide` pixels with all their channels.
    """
    (high, wide), (down, right) = kernel, padding
    padded = nn.functional.pad(maps.permute(0, 2, 3, 1), (0, 0, right, right, down, down)).contiguous()
    count, height, width, channels = padded.shape
    row = width * channels  # not `padded.stride()`, which means nothing along a dimension of one
    shape = (count, height - high + 1, width - wide + 1, high, wide * channels)
    return padded.as_strided(shape, (height * row, row, channels, row, 1))


def weight_gradient(images: Tensor, gradient: Tensor, kernel, padding) -> Tensor:
    """The gradient (O, C, *kernel) of a convolution's weights from its input (N, C, H, W) and its output's (N, O, …),
    of stride 1; channels-last in memory.

    One product for each weight of the window, over the places where it meets the map and no padding; in float32 one
    for each row of these, added up.
    """
    pixels, theirs = (maps.permute(2, 3, 0, 1).contiguous() for maps in (images, gradient))
    # Weights are in float32, so that the copy makes the step from bfloat16 on the way.
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    total = gradient.new_zeros(gradient.shape[1], *kernel, images.shape[1], dtype=dtype)
    for i, j, some, its in _meetings(pixels, theirs, kernel, padding):
        if dtype != gradient.dtype:
            total[:, i, j] = its.flatten(0, 2).T @ some.flatten(0, 2)
            continue
        for row, its_row in zip(some, its):  # nothing is copied: a row's pixels lie together
            total[:, i, j].addmm_(_as_rows(its_row).T, _as_rows(row))
    return total.permute(0, 3, 1, 2)


def _as_rows(pixels: Tensor) -> Tensor:
    """A view of pixels (W, N, channels) that lie together in memory, as rows (W·N, channels)."""
    return pixels.view(-1, pixels.shape[-1])


def _meetings(images: Tensor, outputs: Tensor, kernel, padding) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """For each weight (i, j) of a filter's window: the parts of both maps (H, W, N, channels) that it joins."""
    for i, j in itertools.product(*map(range, kernel)):
        (rows, its_rows), (columns, its_columns) = (
            _meeting(*sides, shift)
            for *sides, shift in zip(images.shape, outputs.shape, (i - padding[0], j - padding[1]))
        )
        yield i, j, images[rows, columns], outputs[its_rows, its_columns]


def _meeting(inputs: int, outputs: int, shift: int) -> tuple[slice, slice]:
    """Along one side: the inputs that lie `shift` after an output, and these outputs."""
    first, last = max(0, shift), max(0, shift, min(inputs, outputs + shift))
    return slice(first, last), slice(first - shift, last - shift)
