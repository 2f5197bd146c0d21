"""Draws a network as the 3-D blocks that papers show, from one forward pass of the model itself.

It must never change the model (a zero input goes through a copy), nor train or read files.
"""

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from math import log2, prod, sqrt

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Polygon
from torch import nn

from helpers.show.curves import WIDTH, closed

# Colours that colour-blind readers tell apart; each also has a lightness of its own, for grey print.
COLOURS = {
    "log-softmax": "#221a66", "pool": "#701a46", "conv": "#1b78ba", "linear": "#35b597", "activation": "#f0ae3c",
    "other": "#cccccc", "dropout": "#d9dff2", "batch norm": "#f7ecaa", "flatten": "#fbf7ee", "input": "#ffffff",
    "add": "#ffffff",
}  # fmt: skip
HATCHES = {"dropout": "/////", "flatten": "----", "other": "xxx"}
ATTACHED = ("batch norm", "activation", "dropout", "log-softmax")  # drawn as a slab on the layer that they follow
LINE = "#333333"

# Everything is laid out in inches.
TALLEST, SLANT = 1.6, 0.3  # the largest height; how far the back of a block lies to the right of its front, by height
SLAB, BAR, GAP = 0.08, 0.12, 0.25  # lengths of a slab and of a vector; space between blocks
PLUS = 0.13  # radius of the circle of a residual connection


# ------------------------------------------------------------------------------------------ what the model consists of


@dataclass(frozen=True)
class Layer:
    """One layer as it ran. `shape`: its output without the batch; `skipped`, of an "add" only: how many layers the
    residual block holds whose input is added to its output."""

    kind: str
    text: str
    shape: tuple[int, ...]
    skipped: int = 0


def layers(model: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """The input (C, H, W) and the layers of `model` in the order in which it passes them.

    A residual block is a module of a class named `Residual`. Dropout of 0 is left out; what `forward` computes
    without a module can't be seen.
    """
    copy, found, starts = deepcopy(model).eval(), [Layer("input", "input", tuple(input_shape))], []

    def note(module, inputs, output):
        found.append(Layer(*_described(module), tuple(output.shape[1:])))

    def enter(module, inputs):
        starts.append(len(found))

    def leave(module, inputs, output):
        found.append(Layer("add", "+", tuple(output.shape[1:]), len(found) - starts.pop()))

    for module in copy.modules():
        if type(module).__name__ == "Residual":
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        elif not list(module.children()) and not (isinstance(module, nn.Dropout) and module.p == 0):
            module.register_forward_hook(note)
    with torch.no_grad():
        copy(torch.zeros(1, *input_shape))
    return found


def _described(module: nn.Module) -> tuple[str, str]:
    """Kind and name of a layer."""
    match module:
        case nn.Conv2d(stride=(1, 1)):
            return "conv", f"conv {_times(module.kernel_size)}"
        case nn.Conv2d():
            return "conv", f"conv {_times(module.kernel_size)}, stride {module.stride[0]}"
        case nn.MaxPool2d():
            return "pool", f"max-pool {module.kernel_size}×{module.kernel_size}"
        case nn.BatchNorm2d():
            return "batch norm", "batch norm"
        case nn.ReLU():
            return "activation", "ReLU"
        case nn.Tanh():
            return "activation", "tanh"
        case nn.Dropout():
            return "dropout", f"dropout {module.p:g}"
        case nn.Linear() | nn.Flatten():
            return (type(module).__name__.lower(),) * 2
        case nn.LogSoftmax():
            return "log-softmax", "log-softmax"
    return "other", type(module).__name__


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


# ------------------------------------------------------------------------------------------ the drawing


@dataclass(frozen=True)
class Block:
    """Where a layer is drawn: a cuboid from `start` to `end`, seen from the right and above, its middle at y = 0."""

    layer: Layer
    start: float
    end: float
    height: float
    slant: float  # how far its back lies to the right of and above its front

    @property
    def front(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of its front face."""
        left, right = self.start - self.slant / 2, self.end - self.slant / 2
        return left, right, -(self.height + self.slant) / 2, (self.height - self.slant) / 2


def blocks(model: nn.Module, input_shape: tuple[int, ...]) -> Figure:
    """Draws `model` for an input of `input_shape` (C, H, W) as cuboids, output shapes beneath.

    Height and depth go with the square root of the output's H and W, a convolution's length with that of its channels;
    pools and what keeps the shape are thin slabs, vectors are bars, their height on a log scale.
    """
    placed = place(layers(model, input_shape))
    tallest = max((block.height + block.slant) / 2 for block in placed)
    left, right, bottom, top = placed[0].front[0] - 0.3, placed[-1].end + 0.3, -tallest - 1.1, tallest + 0.2
    room = max(0, WIDTH - (right - left)) / 2  # for the legend
    figure, ax = plt.subplots(figsize=(right - left + 2 * room, top - bottom), layout="constrained")
    ax.set(xlim=(left - room, right + room), ylim=(bottom, top), aspect="equal")
    ax.set_axis_off()
    for before, block in pairwise([None, *placed]):  # what is farther right covers what is farther left
        if before and block.start > before.end:
            _arrow(ax, (before.end, 0), (block.front[0], 0))
        _plus(ax, block) if block.layer.kind == "add" else _cuboid(ax, block)
    for i, block in enumerate(placed):
        if block.layer.skipped:
            _skip(ax, placed[i - block.layer.skipped - 1], block, tallest + 0.1)
    _labels(ax, placed, -tallest - 0.05, size=8 if right - left > WIDTH else 7)  # a wide one is shrunk in print
    _legend(ax, placed)
    return closed(figure)


def place(found: list[Layer]) -> list[Block]:
    """The blocks from left to right; a pool touches what it pools."""
    side, placed, end = max(found[0].shape[1:]), [], 0.0
    for before, layer in pairwise([None, *found]):
        height, slant, length = _size(layer, side)
        touches = layer.kind in ATTACHED or (layer.kind == "pool" and before.kind != "add")
        start = end if touches else end + slant / 2 + GAP
        placed.append(Block(layer, start, start + length, height, slant))
        end = start + length
    return placed


def _size(layer: Layer, side: int) -> tuple[float, float, float]:
    """Height, slant and length of a layer's block, where `side` is the height of the input in pixels."""
    if layer.kind == "add":
        return 2 * PLUS, 0, 2 * PLUS
    if len(layer.shape) == 1:
        return 0.15 * log2(1 + prod(layer.shape)), 0.06, SLAB if layer.kind in ATTACHED else BAR
    channels, pixels, _ = layer.shape
    height = TALLEST * sqrt(pixels / side)
    return height, SLANT * height, SLAB if layer.kind in (*ATTACHED, "pool") else 0.05 + 0.022 * sqrt(channels)


def _cuboid(ax: Axes, block: Block) -> None:
    left, right, bottom, top = block.front
    slant, look = block.slant, _look(block.layer.kind)
    plain = look | {"hatch": None}
    upper = [(left, top), (right, top), (right + slant, top + slant), (left + slant, top + slant)]
    side = [(right, bottom), (right, top), (right + slant, top + slant), (right + slant, bottom + slant)]
    ax.add_patch(Polygon(upper, **plain | {"facecolor": _lighter(look["facecolor"], 0.55)}))
    ax.add_patch(Polygon(side, **plain | {"facecolor": _lighter(look["facecolor"], 0.3)}))
    ax.add_patch(Polygon([(left, bottom), (right, bottom), (right, top), (left, top)], **look))


def _look(kind: str) -> dict:
    return {"facecolor": COLOURS[kind], "hatch": HATCHES.get(kind), "hatchcolor": "#bbbbbb", "edgecolor": LINE,
            "linewidth": 0.6}  # fmt: skip


def _lighter(colour: str, by: float) -> tuple[float, ...]:
    """`colour` mixed with white: `by` 0 leaves it, 1 gives white."""
    return tuple(part + (1 - part) * by for part in to_rgb(colour))


def _plus(ax: Axes, block: Block) -> None:
    """The circle in which the two paths of a residual block meet."""
    x = (block.start + block.end) / 2
    ax.add_patch(Circle((x, 0), PLUS, **_look("add")))
    ax.text(x, -0.005, "+", ha="center", va="center_baseline", fontsize=15)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": LINE, "lw": 0.9, "shrinkA": 0, "shrinkB": 0})


def _skip(ax: Axes, source: Block, add: Block, over: float) -> None:
    """The residual connection: from what the block gets, over the block, to its "add"."""
    start, end = (source.start + source.end) / 2, (add.start + add.end) / 2
    ax.plot([start, start, end], [source.height / 2, over, over], color=LINE, lw=0.9)
    _arrow(ax, (end, over), (end, PLUS))


def _labels(ax: Axes, placed: list[Block], top: float, size: float) -> None:
    """Name and output shape below each layer but the attached ones; those of pools stand lower."""
    for block in placed:
        if block.layer.kind in (*ATTACHED, "add"):
            continue
        x, bottom = (block.front[0] + block.front[1]) / 2, block.front[2]
        y = top - 0.05 * size * (block.layer.kind == "pool")
        ax.plot([x, x], [bottom - 0.03, y + 0.02], color="#999999", lw=0.5, zorder=0)
        ax.text(x, y, f"{block.layer.text}\n{_times(block.layer.shape)}", ha="center", va="top", fontsize=size)


def _legend(ax: Axes, placed: list[Block]) -> None:
    found = [block.layer for block in placed if block.layer.kind not in ("input", "add")]
    kinds = {layer.text if layer.kind in (*ATTACHED, "other") else layer.kind: layer.kind for layer in found}
    handles = [Patch(label=label, **_look(kind)) for label, kind in kinds.items()]
    ax.legend(
        handles=handles,
        loc="lower center",
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.4,
    )
