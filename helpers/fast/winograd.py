"""Convolutions of a filter of 3 × 3 or 5 × 5 with a quarter to a half of the multiplications, compiled for the CPU:
in float32 all of them, in bfloat16 their gradients.

Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): the m × m
outputs of a tile d and a filter g of r × r weights are A' [(G g G') ⊙ (B' d B)] A, for which (m + r − 1)²
multiplications do, not m² r². Over all tiles and channels they are (m + r − 1)² products of matrices, one for each
plane: one of the numbers of each spread tile B' d B.

Spread tiles and products are in the precision of the maps, and the transforms in float32. So in bfloat16 a gradient
loses 2 % to rounding, where torch's own loses 0.2: much less than what a batch's gradient is off from that of all
images. The outputs, by which a network is judged, are torch's own.
"""

import functools

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from helpers.fast.build import compiled, compiles, source

SMALL = 4  # outputs along a side up to which tiles of 3 × 3 filters have 2 in float32: few tiles make flat matrices
CHANNELS = 16  # of a multiple of it a map's pixels are whole vectors
TRANSFORMED = 2**21  # bytes at a time, on either side of the product: about what a core's cache holds
SUMMED = 256  # tiles over which a product sums, at least: each is added to all filters
IMAGES, GRADIENTS, FILTERS = range(3)  # what is spread


@functools.cache
def kernel():
    """The transforms, compiled. Raises RuntimeError where they can't be."""
    return compiled("winograd", source("winograd"))


def available() -> bool:
    """Whether this machine has a compiler; compiles, once."""
    return compiles(kernel)


# ------------------------------------------------------------------------------------------ the function


def fits(images: Tensor, layer: nn.Conv2d) -> bool:
    """Whether `convolve` computes the layer, which has one group, no dilation and zeros around, on these images: in
    float32, or in bfloat16 by autocast."""
    half = torch.is_autocast_enabled("cpu")
    kinds = (torch.float32, torch.bfloat16) if half else (torch.float32,)
    if images.device.type != "cpu" or images.dtype not in kinds or layer.weight.dtype != torch.float32:
        return False
    if not len(images) or layer.in_channels % CHANNELS or layer.out_channels % CHANNELS:
        return False
    (high, wide), (step, other) = layer.kernel_size, layer.stride
    if high != wide or step != other or any(size % step for size in (*layer.padding, *images.shape[2:])):
        return False
    if half and step > 1:  # torch's own outputs would be those of more channels and weights
        return False
    r, sides = -(-high // step), images.shape[2:]
    outputs = [(side + 2 * pad) // step - r + 1 for side, pad in zip(sides, layer.padding)]
    return r in (3, 5) and min(outputs) > 2  # for one tile `products` makes as many products, and needs no transforms


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, stride, padding) -> Tensor:
    """The convolution of maps (N, C, H, W) with filters (O, C, r, r), of what `fits`; channels-last in memory."""
    maps, filters, step = images.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1), stride[0]
    if step > 1:
        short = -filters.shape[1] % step
        maps, filters = _phases(maps, step), _phases(nn.functional.pad(filters, [0, 0, 0, short, 0, short]), step)
    padding = tuple(pad // step for pad in padding)
    return _Convolve.apply(maps.contiguous(), filters.contiguous(), bias, padding).permute(0, 3, 1, 2)


def _phases(maps: Tensor, step: int) -> Tensor:
    """Maps (N, H, W, C) as (N, H / step, W / step, step² · C): each channel once for each place in a square of `step`.

    Of these a convolution of stride `step` is one of stride 1.
    """
    count, height, width, channels = maps.shape
    squares = maps.reshape(count, height // step, step, width // step, step, channels)
    return squares.permute(0, 1, 3, 2, 4, 5).reshape(count, height // step, width // step, -1)


class _Convolve(torch.autograd.Function):
    """The convolution of maps (N, H, W, C) with filters (O, r, r, C): (N, H', W', O)."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # only where autocast is on
    def forward(ctx, maps, filters, bias, padding):
        ctx.save_for_backward(maps, filters)
        ctx.padding, ctx.has_bias = padding, bias is not None
        if maps.dtype == torch.bfloat16:
            first = (each.permute(0, 3, 1, 2) for each in (maps, filters))
            return nn.functional.conv2d(*first, bias, padding=padding).permute(0, 2, 3, 1)
        return _outputs(maps, filters, bias, padding)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, gradient):
        of_maps, of_filters, of_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous()
        return (
            *_gradients(*ctx.saved_tensors, gradient, ctx.padding, of_maps, of_filters),
            gradient.sum((0, 1, 2)) if ctx.has_bias and of_bias else None,
            None,
        )  # fmt: skip


class _Tiling:
    """Tiles of `m` by `m` outputs, for maps of outputs (H, W) and filters of `r` by `r`, of a `dtype`."""

    def __init__(self, sides, r: int, channels: int, dtype: torch.dtype):
        small = dtype == torch.float32 and min(sides) <= SMALL
        self.m, self.r = 2 if r == 5 or small else 4, r
        self.high, self.across = (-(-side // self.m) for side in sides)
        self.planes = (self.m + r - 1) ** 2
        self.tiles = self.high * self.across  # of an image
        self.count = max(1, TRANSFORMED // (self.planes * self.tiles * channels * dtype.itemsize))  # images at a time

    def spread(self, maps: Tensor, what: int, padding=(0, 0)) -> Tensor:
        """(planes, tiles, channels) of maps (N, H, W, channels)."""
        return kernel().spread(maps, self.m, self.r, what, *padding, self.high, self.across)

    def gather(self, planes: Tensor, maps: Tensor, of_filters: bool, bias: Tensor | None = None) -> None:
        """Fills maps (N, H, W, channels) from (planes, tiles, channels)."""
        kernel().gather(planes, maps, bias, self.m, self.r, of_filters, self.high, self.across)

    def overlap(self, planes: Tensor, maps: Tensor, padding) -> None:
        """Fills maps (N, H, W, channels) from (planes, tiles, channels): what `spread` is the adjoint of."""
        kernel().overlap(planes, maps, self.m, self.r, *padding, self.high, self.across)


def _outputs(maps: Tensor, filters: Tensor, bias: Tensor | None, padding) -> Tensor:
    """(N, H', W', O) of maps (N, H, W, C) and filters (O, r, r, C)."""
    sides = [side + 2 * pad - filters.shape[1] + 1 for side, pad in zip(maps.shape[1:], padding)]
    tiling = _Tiling(sides, filters.shape[1], max(len(filters), maps.shape[3]), maps.dtype)
    spread, outputs = tiling.spread(filters, FILTERS).transpose(1, 2), maps.new_empty(len(maps), *sides, len(filters))
    for some, theirs in zip(maps.split(tiling.count), outputs.split(tiling.count)):
        tiling.gather(tiling.spread(some, IMAGES, padding) @ spread, theirs, False, bias)
    return outputs


def _gradients(
    maps, filters, gradient, padding, of_maps: bool, of_filters: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Of maps (N, H, W, C) and filters (O, r, r, C), where wanted, from the gradient (N, H', W', O) of the outputs."""
    tiling = _Tiling(gradient.shape[1:3], filters.shape[1], max(len(filters), maps.shape[3]), maps.dtype)
    count = max(tiling.count, SUMMED // tiling.tiles)
    given, found = torch.empty_like(maps) if of_maps else None, None
    spread, total = tiling.spread(filters, FILTERS) if of_maps else None, None
    for place, theirs in enumerate(gradient.split(count)):
        some, outer = slice(place * count, (place + 1) * count), tiling.spread(theirs, GRADIENTS)
        if of_maps:
            tiling.overlap(outer @ spread, given[some], padding)
        if of_filters:
            total = _plus(total, outer.transpose(1, 2), tiling.spread(maps[some], IMAGES, padding))
    if of_filters:
        found = torch.empty_like(filters, dtype=torch.float32)
        tiling.gather(total, found, True)
    return given, found


def _plus(total: Tensor | None, one: Tensor, other: Tensor) -> Tensor:
    """total + one @ other, in float32 if there is a total: in bfloat16 each sum would be rounded."""
    if total is None:
        return one @ other
    return total.baddbmm_(one, other) if one.dtype == torch.float32 else total.float().add_(one @ other)
