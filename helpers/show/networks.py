"""Draws a network from the model itself: flat, as boxes in rows, or as the 3-D blocks that papers show.

It must never change the model (a zero input goes through a copy), nor train, read files or show a figure.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, hypot, inf, log2, prod, sqrt

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import Circle, FancyArrowPatch, Patch, Polygon, Rectangle
from matplotlib.path import Path
from torch import nn

# Colours that colour-blind readers tell apart; each also has a lightness of its own, for grey print.
COLOURS = {
    "log-softmax": "#221a66",
    "pool": "#701a46",
    "conv": "#1b78ba",
    "linear": "#35b597",
    "activation": "#f0ae3c",
    "other": "#cccccc",
    "dropout": "#d9dff2",
    "batch norm": "#f7ecaa",
    "flatten": "#fbf7ee",
    "input": "#ffffff",
    "add": "#ffffff",
}
HATCHES = {"dropout": "/////", "flatten": "----", "other": "xxx"}
ATTACHED = {"batch norm", "activation", "dropout", "log-softmax"}  # drawn on the layer that they follow
LINE = "#333333"

# Both drawings are laid out in inches, so that the size of a text is known while placing it.
POINT = 1 / 72
PLUS = 0.13  # radius of the circle of a residual connection
BOX, MAIN, STRIP, GAP = 0.86, 0.54, 0.19, 0.24  # flat: width of a box, height of a large and a small one, gap
COLUMNS = 9  # flat: at most, in a row
TALLEST, SLANT, SLAB, WIDTH = 1.6, 0.3, 0.08, 8.5  # blocks: largest height, depth by height, thin slab, all
LABEL = 0.27  # blocks: height of a label


# ---- What the model consists of


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer as it ran; `output_shape` is without the batch.

    `members`, of an "add" only: the names of the layers whose result a residual block adds to its input.
    """

    name: str
    kind: str
    text: str
    output_shape: tuple[int, ...]
    parameters: int = 0
    members: tuple[str, ...] = ()


def layers(model: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """The layers of `model` in the order in which an input of `input_shape` (C, H, W) passes them.

    A residual block, a module of a class named `Residual`, ends in a layer of kind "add". What does nothing
    (identity, dropout of 0) is left out; what `forward` computes without a module can't be seen.
    ValueError: the input doesn't fit.
    """
    copy, recorder = deepcopy(model).eval(), _Recorder()
    for module, name in dict(_visible(copy)).items():
        recorder.watch(module, name or type(module).__name__)
    like = next(copy.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            copy(torch.zeros((1, *input_shape), dtype=like.dtype, device=like.device))
    except (RuntimeError, ValueError, IndexError) as error:
        place = f"after layer {recorder.found[-1].name!r}" if recorder.found else "at the first layer"
        what = f"input of shape {tuple(input_shape)} doesn't fit {type(model).__name__}"
        raise ValueError(f"{what}, {place}: {str(error).splitlines()[0]}") from None
    return recorder.found


class _Recorder:
    """Notes each watched module as the forward pass leaves it."""

    def __init__(self):
        self.found: list[Layer] = []
        self.starts: list[int] = []  # of the residual blocks that the pass is in
        self.counted: set[int] = set()  # a parameter that two layers share counts once

    def watch(self, module: nn.Module, name: str) -> None:
        if _is_residual(module):
            module.register_forward_pre_hook(lambda *_: self.starts.append(len(self.found)))
            module.register_forward_hook(lambda _, __, output: self.close(name, output))
        else:
            module.register_forward_hook(lambda _, __, output: self.note(name, module, output))

    def note(self, name: str, module: nn.Module, output) -> None:
        kind, text = _describe(module)
        new = {id(p): p.numel() for p in module.parameters() if id(p) not in self.counted}
        self.counted |= new.keys()
        self.add(name=name, kind=kind, text=text, output_shape=_shape(output), parameters=sum(new.values()))

    def close(self, name: str, output) -> None:
        members = tuple(layer.name for layer in self.found[self.starts.pop() :])
        self.add(name=name, kind="add", text="+", output_shape=_shape(output), members=members)

    def add(self, **fields) -> None:
        self.found.append(Layer(**fields))


def _visible(module: nn.Module, name: str = "") -> Iterator[tuple[nn.Module, str]]:
    """The modules that are layers, without children or with weights of their own, and the residual blocks."""
    if isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and module.p == 0):
        return
    whole = not list(module.children()) or list(module.parameters(recurse=False))
    if whole or _is_residual(module):
        yield module, name
    if not whole:
        for child_name, child in module.named_children():
            yield from _visible(child, f"{name}.{child_name}".lstrip("."))


def _is_residual(module: nn.Module) -> bool:
    return any(cls.__name__ == "Residual" for cls in type(module).__mro__)


def _shape(output) -> tuple[int, ...]:
    first = output[0] if isinstance(output, tuple) else output  # recurrent layers also give their state
    return tuple(first.shape[1:])


def _times(size) -> str:
    return "×".join(map(str, size)) if isinstance(size, tuple) else f"{size}×{size}"


def _conv(module) -> str:
    stride = "" if set(module.stride) == {1} else f", stride {module.stride[0]}"
    return f"conv {_times(module.kernel_size)}, {module.out_channels}{stride}"


KNOWN = (  # module class, kind, text
    (nn.Conv2d, "conv", _conv),
    (nn.Linear, "linear", lambda m: f"linear {m.out_features}"),
    ((nn.BatchNorm1d, nn.BatchNorm2d), "batch norm", lambda m: "batch norm"),
    (nn.Tanh, "activation", lambda m: "tanh"),
    ((nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU), "activation", lambda m: type(m).__name__),
    (nn.Sigmoid, "activation", lambda m: "sigmoid"),
    (nn.MaxPool2d, "pool", lambda m: f"max-pool {_times(m.kernel_size)}"),
    (nn.AvgPool2d, "pool", lambda m: f"mean-pool {_times(m.kernel_size)}"),
    (nn.AdaptiveMaxPool2d, "pool", lambda m: f"max-pool to {_times(m.output_size)}"),
    (nn.AdaptiveAvgPool2d, "pool", lambda m: f"mean-pool to {_times(m.output_size)}"),
    ((nn.Dropout, nn.Dropout2d), "dropout", lambda m: f"dropout {m.p:g}"),
    (nn.Flatten, "flatten", lambda m: "flatten"),
    (nn.LogSoftmax, "log-softmax", lambda m: "log-softmax"),
)


def _describe(module: nn.Module) -> tuple[str, str]:
    """Kind and text of a layer; for an unknown one both are the name of its class."""
    for cls, kind, text in KNOWN:
        if isinstance(module, cls):
            return kind, text(module)
    return type(module).__name__, type(module).__name__


# ---- What both drawings share


def _with_input(model, input_shape) -> list[Layer]:
    source = Layer(name="input", kind="input", text="input", output_shape=tuple(input_shape))
    return [source, *layers(model, input_shape)]


def _groups(found: list[Layer]) -> list[list[Layer]]:
    """Each layer with the small ones drawn on it; a group never reaches into or out of a residual block."""
    starts = {i - len(layer.members) for i, layer in enumerate(found) if layer.kind == "add"}
    groups: list[list[Layer]] = []
    for i, layer in enumerate(found):
        if layer.kind in ATTACHED and i not in starts and groups[-1][0].kind not in ("add", "input"):
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return groups


def _spans(groups: list[list[Layer]]) -> Iterator[tuple[int, int]]:
    """For each residual block the numbers of its first group and of its "add"."""
    for end, group in enumerate(groups):
        start, left = end, len(group[0].members)
        while left > 0:
            start -= 1
            left -= len(groups[start])
        if group[0].kind == "add":
            yield start, end


def _canvas(ax: Axes | None, found: list[Layer], left, right, bottom, top) -> tuple[Axes, float]:
    """Empty axes with these limits in inches, and the scale at which they are shown there."""
    legend = sum(_text_width(kind, 8) + 0.5 for kind in _legend_kinds(found))
    width, height = max(right - left, legend), top - bottom
    if ax is None:
        # The axes fill the figure, so a layout engine, which a notebook may set for all its figures, has nothing to do.
        nothing = PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True)
        ax = plt.figure(figsize=(width, height), layout=nothing).add_axes((0, 0, 1, 1))
    room = ax.get_window_extent()
    middle = (left + right) / 2
    ax.set(xlim=(middle - width / 2, middle + width / 2), ylim=(bottom, top), aspect="equal")
    ax.set_axis_off()
    return ax, min(room.width / width, room.height / height) / ax.get_figure(root=True).dpi


def _paint(kind: str) -> dict:
    kind = kind if kind in COLOURS else "other"
    line = {"edgecolor": LINE, "linewidth": 0.6, "zorder": 3}
    return {"facecolor": COLOURS[kind], "hatch": HATCHES.get(kind), "hatchcolor": "#bbbbbb", **line}


def _lighter(colour: str, by: float) -> tuple[float, ...]:
    """`colour` mixed with white: `by` 0 leaves it, 1 gives white."""
    return tuple(part + (1 - part) * by for part in to_rgb(colour))


def _ink(kind: str) -> str:
    red, green, blue = to_rgb(_paint(kind)["facecolor"])
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"


def _text_width(text: str, size: float) -> float:
    """Width in inches of the widest line of `text` at `size` points."""
    font = get_font(findfont(FontProperties()))
    font.set_size(size, 72)
    return max(_advance(font, line) for line in text.split("\n")) * POINT


def _advance(font, line: str) -> float:
    font.set_text(line)
    return font.get_width_height()[0] / 64  # FreeType counts in 64ths


def _legend_kinds(found: list[Layer]) -> list[str]:
    return list(dict.fromkeys(layer.kind for layer in found if layer.kind not in ("input", "add")))


def _legend(ax: Axes, found: list[Layer], scale: float) -> None:
    handles = [Patch(label=kind, **_paint(kind)) for kind in _legend_kinds(found)]
    look = {"frameon": False, "borderaxespad": 0.1, "handlelength": 1.4, "columnspacing": 1.6}
    ax.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8 * scale, **look)


def _wire(ax: Axes, points, scale: float, *, radius: float = 0.1) -> None:
    """An arrow along `points` (x, y) with rounded corners."""
    path, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:]):
        path += [_toward(corner, before, radius), corner, _toward(corner, after, radius)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    path, codes = [*path, points[-1]], [*codes, Path.LINETO]
    look = {"arrowstyle": "-|>", "mutation_scale": 7 * scale, "linewidth": 0.9 * scale, "color": LINE}
    ax.add_patch(FancyArrowPatch(path=Path(path, codes), shrinkA=0, shrinkB=0, zorder=3, **look))


def _toward(start, end, distance: float) -> tuple[float, float]:
    """The point `distance` from `start` on the way to `end`, or at most half-way."""
    part = min(distance / max(hypot(end[0] - start[0], end[1] - start[1]), 1e-9), 0.5)
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _plus(ax: Axes, x: float, y: float, layer: Layer, scale: float) -> None:
    """The circle in which the two paths of a residual block meet."""
    ax.add_patch(Circle((x, y), PLUS, label=layer.name, **_paint("add")))
    for dx, dy in ((0.07, 0), (0, 0.07)):
        ax.plot([x - dx, x + dx], [y - dy, y + dy], color="black", linewidth=1.2 * scale, zorder=3)


# ---- The flat drawing


@dataclass(frozen=True)
class _Box:
    """Where a group is drawn: its centre, its size, and the lower end of its row."""

    x: float
    y: float
    width: float
    height: float
    floor: float


def flat(model: nn.Module, input_shape: tuple[int, ...], *, ax: Axes | None = None) -> Axes:
    """Draws `model` for an input of `input_shape` (C, H, W) as labelled boxes in rows, output shapes beneath.

    Without `ax` it makes a figure of its own size; in `ax` the drawing is scaled to fit, text included.
    ValueError: the input doesn't fit.
    """
    found = _with_input(model, input_shape)
    groups = _groups(found)
    boxes = _place_rows(groups)
    right = max(box.x + box.width / 2 for box in boxes)
    ax, scale = _canvas(ax, found, -GAP, right + GAP, boxes[-1].floor - 0.3, 0)
    for before, after in pairwise(boxes):
        _connect(ax, before, after, scale)
    for start, end in _spans(groups):
        _skip_boxes(ax, boxes[start : end + 1], scale)
    for group, box in zip(groups, boxes):
        _draw_group(ax, group, box, scale)
    _legend(ax, found, scale)
    return ax


def _place_rows(groups: list[list[Layer]]) -> list[_Box]:
    """A box for each group, from x = 0 to the right and from y = 0 down."""
    boxes, top = [], -0.05
    for row in _rows(groups):
        tallest = max(_box_size(group)[1] for group in row)
        headroom = 0.3 if any(group[0].kind == "add" for group in row) else 0
        y, left = top - headroom - tallest / 2, 0.0
        top = y - tallest / 2 - 0.42
        for width, height in map(_box_size, row):
            boxes.append(_Box(left + width / 2, y, width, height, floor=top + 0.15))
            left += width + GAP
    return boxes


def _box_size(group: list[Layer]) -> tuple[float, float]:
    is_add = group[0].kind == "add"
    return (2 * PLUS, 2 * PLUS) if is_add else (BOX, MAIN + STRIP * (len(group) - 1))


def _rows(groups: list[list[Layer]]) -> list[list[list[Layer]]]:
    """`groups` in rows of about the same length, each residual block whole."""
    inside = {i for start, end in _spans(groups) for i in range(start + 1, end + 1)}
    units: list[list[list[Layer]]] = []
    for i, group in enumerate(groups):
        units[-1].append(group) if i in inside else units.append([group])
    length = ceil(len(groups) / ceil(len(groups) / COLUMNS))
    rows = [[]]
    for unit in units:
        if rows[-1] and len(rows[-1]) + len(unit) > length:
            rows.append([])
        rows[-1] += unit
    return rows


def _draw_group(ax: Axes, group: list[Layer], box: _Box, scale: float) -> None:
    if group[0].kind == "add":
        return _plus(ax, box.x, box.y, group[0], scale)
    bottom = box.y + box.height / 2 - MAIN
    text = group[0].text.replace(" ", "\n", 1).replace(", stride", "\nstride")
    _draw_box(ax, group[0], text, box.x, bottom, MAIN, 8, scale)
    for layer in group[1:]:
        bottom -= STRIP
        _draw_box(ax, layer, layer.text, box.x, bottom, STRIP, 7, scale)
    ax.text(box.x, bottom - 0.04, _times(group[-1].output_shape), ha="center", va="top", fontsize=7.5 * scale)


def _draw_box(ax: Axes, layer: Layer, text: str, x, bottom, height, size: float, scale: float) -> None:
    size *= scale * min(1, (BOX - 0.08) / _text_width(text, size))  # an unknown class's name may be long
    ax.add_patch(Rectangle((x - BOX / 2, bottom), BOX, height, label=layer.name, **_paint(layer.kind)))
    style = {"ha": "center", "va": "center", "linespacing": 1.1, "color": _ink(layer.kind)}
    ax.text(x, bottom + height / 2, text, fontsize=size, **style)


def _connect(ax: Axes, before: _Box, after: _Box, scale: float) -> None:
    """An arrow to the next box; to the next row it runs between the rows."""
    start, end = (before.x + before.width / 2, before.y), (after.x - after.width / 2, after.y)
    right, left = start[0] + GAP / 2, end[0] - GAP / 2
    turns = [(right, start[1]), (right, before.floor), (left, before.floor), (left, end[1])]
    _wire(ax, [start, *(turns if before.y != after.y else []), end], scale)


def _skip_boxes(ax: Axes, boxes: list[_Box], scale: float) -> None:
    """The residual connection over `boxes`, from before the first to the top of the last, the "add"."""
    x, y, end = boxes[0].x - boxes[0].width / 2 - 0.7 * GAP, boxes[0].y, boxes[-1].x
    over = y + max(box.height for box in boxes) / 2 + 0.15
    _wire(ax, [(x, y), (x, over), (end, over), (end, y + PLUS)], scale, radius=0.2)


# ---- The block drawing


@dataclass(frozen=True)
class _Solid:
    """A cuboid from `start` to `end` along the axis of the drawing, seen from the right and above."""

    layer: Layer
    start: float
    end: float
    height: float
    slant: float  # how far its back lies to the right of and above its front

    def below(self, left: float, right: float) -> float:
        """How low it reaches between `left` and `right`; its side face rises to the right."""
        start, end, bottom, _ = self.front
        apart = start > right or end + self.slant < left
        return 0.0 if apart else bottom + max(left - end, 0)

    @property
    def front(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of its front face."""
        left, right = self.start - self.slant / 2, self.end - self.slant / 2
        return left, right, -(self.height + self.slant) / 2, (self.height - self.slant) / 2


def blocks(model: nn.Module, input_shape: tuple[int, ...], *, ax: Axes | None = None) -> Axes:
    """Draws `model` for an input of `input_shape` (C, H, W) as cuboids, output shapes beneath.

    Height and depth go with the square root of the output's H and W, a convolution's length with that of its
    channels; pools and what keeps the shape are thin slabs, vectors are bars, their height on a log scale.
    `ax` and errors are as in `flat`.
    """
    found = _with_input(model, input_shape)
    groups = _groups(found)
    rows = _place_solids(groups)
    labels = _place_labels(rows)
    arcs = [_arc(rows, start, end) for start, end in _spans(groups)]
    ax, scale = _canvas(ax, found, *_limits(rows, labels, [height for *_, height in arcs]))
    for before, row in zip([None, *rows], rows):
        _draw_row(ax, before, row, scale)
    for arc in arcs:
        _skip_solids(ax, *arc, scale)
    for label in labels:
        _draw_label(ax, label, scale)
    _legend(ax, found, scale)
    return ax


def _place_solids(groups: list[list[Layer]]) -> list[list[_Solid]]:
    """The solids of each group, from 0 along the axis; a pool touches what it pools."""
    side = max(_side(layer.output_shape) for group in groups for layer in group)
    sizes = [_size(group[0], side) for group in groups]
    space = _space(groups, sizes)
    rows, end, before = [], 0.0, None
    for group, (height, slant, length) in zip(groups, sizes):
        start = end if group[0].kind == "pool" and before != "add" else end + slant / 2 + space
        edges = [start, *(start + length + SLAB * i for i in range(len(group)))]
        rows.append([_Solid(layer, *ends, height, slant) for layer, ends in zip(group, pairwise(edges))])
        end, before = edges[-1], group[0].kind
    return rows


def _space(groups: list[list[Layer]], sizes) -> float:
    """The space before a group: what is left of the wanted width, within limits."""
    filled = sum(length + slant / 2 for _, slant, length in sizes) + SLAB * sum(len(g) - 1 for g in groups)
    return min(max((WIDTH - filled) / len(groups), 0.16), 0.9)


def _side(shape: tuple[int, ...]) -> int:
    return max(shape[1:], default=1)


def _size(layer: Layer, side: int) -> tuple[float, float, float]:
    """Height, slant and length of a layer's solid, where `side` is the network's largest H or W."""
    shape = layer.output_shape
    if layer.kind == "add":
        return 2 * PLUS, 0, 2 * PLUS
    if len(shape) < 2:
        return 0.15 * log2(1 + prod(shape)), 0.06, 0.12
    high, deep = (TALLEST * sqrt(n / side) for n in (shape[-2] if len(shape) > 2 else 1, shape[-1]))
    return high, SLANT * deep, SLAB if layer.kind == "pool" else 0.05 + 0.022 * sqrt(shape[0])


def _top(rows: list[list[_Solid]]) -> float:
    return max((solid.height + solid.slant) / 2 for row in rows for solid in row)


def _limits(rows, labels, arcs) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of all that is drawn, with room for the legend."""
    last = rows[-1][-1]
    left = min([rows[0][0].front[0], *(label.left for label in labels)])
    right = max([last.end + last.slant / 2, *(label.right for label in labels)])
    bottom = min(label.y for label in labels) - LABEL - 0.35
    return left - 0.1, right + 0.1, bottom, max([_top(rows), *arcs]) + 0.05


def _draw_row(ax: Axes, before: list[_Solid] | None, row: list[_Solid], scale: float) -> None:
    """The solids of one group, after the arrow to them; what is farther right covers what is farther left."""
    if before and row[0].start > before[-1].end:
        _wire(ax, [(before[-1].end, 0), (row[0].front[0], 0)], scale)
    for solid in row:
        if solid.layer.kind == "add":
            _plus(ax, (solid.start + solid.end) / 2, 0, solid.layer, scale)
        else:
            _draw_solid(ax, solid)


def _draw_solid(ax: Axes, solid: _Solid) -> None:
    left, right, bottom, top = solid.front
    slant, style = solid.slant, _paint(solid.layer.kind)
    plain = style | {"hatch": None}
    upper = [(left, top), (right, top), (right + slant, top + slant), (left + slant, top + slant)]
    side = [(right, bottom), (right, top), (right + slant, top + slant), (right + slant, bottom + slant)]
    ax.add_patch(Polygon(upper, **plain | {"facecolor": _lighter(style["facecolor"], 0.55)}))
    ax.add_patch(Polygon(side, **plain | {"facecolor": _lighter(style["facecolor"], 0.3)}))
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, label=solid.layer.name, **style))


def _arc(rows: list[list[_Solid]], start: int, end: int) -> tuple[_Solid, _Solid, float]:
    """What a residual block gets, its "add", and a height above both and what the former touches."""
    return rows[start - 1][-1], rows[end][0], _top(rows[max(start - 2, 0) : end]) + 0.15


def _skip_solids(ax: Axes, source: _Solid, add: _Solid, over: float, scale: float) -> None:
    x, end = (source.start + source.end) / 2, (add.start + add.end) / 2
    _wire(ax, [(x, source.height / 2), (x, over), (end, over), (end, PLUS)], scale, radius=0.2)


@dataclass(frozen=True)
class _Label:
    """A text of two lines: its middle, upper end and half width, and where the line to it starts."""

    text: str
    x: float
    y: float
    half: float
    tip: tuple[float, float]

    @property
    def left(self) -> float:
        return self.x - self.half

    @property
    def right(self) -> float:
        return self.x + self.half


def _place_labels(rows: list[list[_Solid]]) -> list[_Label]:
    """A label below each group, lower where it would touch a solid or another label."""
    labels: list[_Label] = []
    for row, after in zip(rows, [*rows[1:], None]):
        if row[0].layer.kind == "add":
            continue
        text = f"{_short(row[0].layer)}\n{_times(row[-1].layer.output_shape)}"
        half = _text_width(text, 7) / 2 + 0.03
        x = min(_middle(row), _free(row, after) - half)
        y = min(solid.below(x - half, x + half) for other in rows for solid in other) - 0.05
        for other in sorted(labels, key=lambda label: -label.y):
            if other.right > x - half and other.left < x + half and other.y - LABEL < y < other.y + LABEL:
                y = other.y - LABEL - 0.03
        labels.append(_Label(text, x, y, half, (_middle(row), row[0].front[2])))
    return labels


def _middle(row: list[_Solid]) -> float:
    return (row[0].front[0] + row[-1].front[1]) / 2


def _free(row: list[_Solid], after: list[_Solid] | None) -> float:
    """How far right a label may reach: to the next group, or to the line to its label where the two touch."""
    if after is None or after[0].layer.kind == "add":
        return inf
    return _middle(after) if after[0].start == row[-1].end else after[0].front[0]


def _short(layer: Layer) -> str:
    """The text without the number of channels, which the shape below it gives."""
    channels = _times(layer.output_shape[:1])
    return layer.text.replace(f", {channels}", "").removesuffix(f" {channels}")


def _draw_label(ax: Axes, label: _Label, scale: float) -> None:
    x, y = label.tip
    if y - label.y > 0.1:  # not right below
        ax.plot([x, x], [y - 0.03, label.y + 0.01], color="#999999", linewidth=0.5 * scale, zorder=2)
    ax.text(label.x, label.y, label.text, ha="center", va="top", fontsize=7 * scale, linespacing=1.15)
