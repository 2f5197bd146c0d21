"""Tests of the drawings: what they find in a model, that it stays as it was, and that they can be read."""

from functools import cache
from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch
from torch import nn

from helpers import models
from helpers.show import networks

plt.switch_backend("agg")

NETWORKS = {  # name: how to build it, shape of an input
    "MyNet": (lambda: models.MyNet(dropout=0.3), (3, 32, 32)),
    "MyResNet9": (models.MyResNet9, (3, 32, 32)),
    "MyResNet9, stride": (lambda: models.MyResNet9(block_kernel=5), (3, 32, 32)),
    "VGG": (models.VGG, (3, 32, 32)),
    "LeNet": (models.LeNet, (1, 28, 28)),
}
DRAWINGS = {"flat": networks.flat, "blocks": networks.blocks}
every_network = pytest.mark.parametrize("network", NETWORKS)
every_drawing = pytest.mark.parametrize("drawing", DRAWINGS)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Squeeze(nn.Module):
    """A layer that the drawings know nothing of."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x.mean((2, 3)) * self.gain


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@cache  # no drawing changes a model, see test_the_model_is_left_as_it_was
def network_and_shape(name: str):
    build, shape = NETWORKS[name]
    return build(), shape


@cache
def drawn(drawing: str, network: str) -> plt.Axes:
    return DRAWINGS[drawing](*network_and_shape(network))


def small() -> nn.Module:
    block = Residual(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), block, nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 2))


# ---- What the model consists of


def test_layers_of_a_network_worked_out_by_hand():
    found = networks.layers(small(), (1, 7, 7))
    assert [(x.name, x.kind, x.text, x.output_shape, x.parameters) for x in found] == [
        ("0", "conv", "conv 3×3, 4, stride 2", (4, 3, 3), 40),
        ("1.0", "conv", "conv 3×3, 4", (4, 3, 3), 148),
        ("1.1", "batch norm", "batch norm", (4, 3, 3), 8),
        ("1.2", "activation", "ReLU", (4, 3, 3), 0),
        ("1", "add", "+", (4, 3, 3), 0),
        ("2", "dropout", "dropout 0.5", (4, 3, 3), 0),
        ("3", "flatten", "flatten", (36,), 0),
        ("4", "linear", "linear 2", (2,), 74),
    ]
    assert [x.members for x in found if x.members] == [("1.0", "1.1", "1.2")]


def test_layers_come_in_the_order_in_which_they_run():
    class Backwards(nn.Sequential):
        def forward(self, x):
            return self[0](self[1](x))

    found = networks.layers(Backwards(nn.Linear(5, 2), nn.Linear(3, 5)), (3,))
    assert [x.name for x in found] == ["1", "0"]


@every_network
def test_parameters_add_up(network):
    model, shape = network_and_shape(network)
    found = networks.layers(model, shape)
    assert sum(x.parameters for x in found) == sum(p.numel() for p in model.parameters())
    assert found[-1].output_shape == (10,)


def test_a_shared_layer_is_drawn_twice_and_counted_once():
    shared = nn.Linear(3, 3)
    found = networks.layers(nn.Sequential(shared, nn.Tanh(), shared), (3,))
    assert [(x.text, x.parameters) for x in found] == [("linear 3", 12), ("tanh", 0), ("linear 3", 0)]


def test_residual_blocks_may_be_nested():
    inner = Residual(nn.Linear(3, 3))
    found = networks.layers(nn.Sequential(Residual(nn.Linear(3, 3), inner)), (3,))
    members = {x.name: x.members for x in found if x.kind == "add"}
    assert members == {"0.1": ("0.1.0",), "0": ("0.0", "0.1.0", "0.1")}


def test_what_does_nothing_is_left_out():
    model = nn.Sequential(nn.Identity(), nn.Linear(3, 2), nn.Dropout(0.0))
    assert [x.kind for x in networks.layers(model, (3,))] == ["linear"]


def test_an_unknown_layer_goes_by_its_class():
    (found,) = networks.layers(Squeeze(), (3, 8, 8))
    assert (found.kind, found.text, found.output_shape, found.parameters) == ("Squeeze", "Squeeze", (3,), 3)


def test_a_module_with_weights_of_its_own_is_one_layer():
    model = nn.Sequential(Squeeze(), nn.Linear(3, 2))
    model[0].inner = nn.ReLU()
    assert [x.kind for x in networks.layers(model, (3, 8, 8))] == ["Squeeze", "linear"]


def test_the_model_is_left_as_it_was():
    model = small().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, random_state = [module.training for module in model.modules()], torch.get_rng_state()
    networks.layers(model, (1, 7, 7))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("shape, place", [((3, 7, 7), "at the first layer"), ((1, 9, 9), "after layer '3'")])
def test_an_input_that_does_not_fit_is_one_clear_error(shape, place):
    with pytest.raises(ValueError) as error:
        networks.layers(small(), shape)
    assert str(error.value).startswith(f"input of shape {shape} doesn't fit Sequential, {place}: ")
    assert "\n" not in str(error.value)


# ---- The drawings


def patches(ax, name):
    return [patch for patch in ax.patches if patch.get_label() == name]


@every_drawing
def test_the_axes_given_are_drawn_on_and_given_back(drawing):
    _, (left, right) = plt.subplots(1, 2)
    assert DRAWINGS[drawing](small(), (1, 7, 7), ax=left) is left
    assert left.patches and not right.patches and len(plt.get_fignums()) == 1


@every_drawing
@every_network
def test_each_layer_is_one_box(drawing, network):
    ax = drawn(drawing, network)
    for layer in networks.layers(*network_and_shape(network)):
        (patch,) = patches(ax, layer.name)
        assert patch.get_facecolor()[:3] == to_rgb(networks.COLOURS[layer.kind])


@every_network
def test_a_flat_box_holds_its_text(network):
    ax = drawn("flat", network)
    texts = [(text.get_text().replace("\n", " "), text.get_window_extent()) for text in ax.texts]
    for layer in networks.layers(*network_and_shape(network)):
        box = patches(ax, layer.name)[0].get_window_extent()
        inside = [text for text, extent in texts if box.contains(*extent.p0) and box.contains(*extent.p1)]
        assert inside == ([] if layer.kind == "add" else [layer.text.replace(", stride", " stride")])


@every_drawing
@every_network
def test_no_text_touches_another_or_leaves_the_figure(drawing, network):
    ax = drawn(drawing, network)
    ax.figure.draw_without_rendering()
    extents = [text.get_window_extent() for text in [*ax.texts, *ax.get_legend().get_texts()]]
    assert not [pair for pair in combinations(extents, 2) if pair[0].overlaps(pair[1])]
    assert all(ax.figure.bbox.containsx(x) for extent in extents for x in extent.intervalx)
    assert all(ax.figure.bbox.containsy(y) for extent in extents for y in extent.intervaly)
    assert ax.figure.get_figwidth() <= 10.5


@every_drawing
def test_shapes_are_written_beneath(drawing):
    texts = " ".join(text.get_text() for text in drawn(drawing, "LeNet").texts).split()
    assert {"1×28×28", "6×28×28", "6×14×14", "16×10×10", "16×5×5", "120×1×1", "120", "84", "10"} <= set(texts)


@every_drawing
def test_text_shrinks_with_the_axes(drawing):
    large = drawn(drawing, "LeNet")
    width, height = large.figure.get_size_inches()
    ax = plt.figure(figsize=(width / 2, height / 2)).add_axes((0, 0, 1, 1))
    half = DRAWINGS[drawing](models.LeNet(), (1, 28, 28), ax=ax)
    for before, after in zip(large.texts, half.texts, strict=True):
        assert after.get_fontsize() == pytest.approx(before.get_fontsize() / 2)


@every_drawing
def test_a_residual_connection_passes_over_what_it_skips(drawing):
    ax = DRAWINGS[drawing](small(), (1, 7, 7))
    wires = [patch._path_original for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    (arc,) = [wire for wire in wires if len(wire) > 2]
    over, reach = arc.vertices[2][1], arc.get_extents()  # the first corner; all of it
    for layer in ("1.0", "1.1", "1.2"):
        (box,) = patches(ax, layer)
        assert reach.x0 < box.get_x() and box.get_x() + box.get_width() < reach.x1
        assert over > box.get_y() + box.get_height()
    (add,) = patches(ax, "1")
    assert reach.x1 == pytest.approx(add.center[0])


def test_a_residual_block_that_begins_with_batch_norm_has_a_box_of_its_own():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Residual(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)))
    ax = networks.flat(model, (1, 7, 7))
    (conv,), (norm,) = patches(ax, "0"), patches(ax, "1.0")
    assert norm.get_x() > conv.get_x() + conv.get_width()


@every_drawing
def test_unknown_layers_are_drawn(drawing):
    ax = DRAWINGS[drawing](nn.Sequential(Squeeze(), nn.Softmax(1)), (3, 8, 8))
    assert len(patches(ax, "0")) == len(patches(ax, "1")) == 1
    assert any(text.get_text().startswith("Squeeze") for text in ax.texts)


@every_drawing
def test_the_legend_names_each_kind_once(drawing):
    ax = drawn(drawing, "MyNet")
    kinds = ["conv", "batch norm", "activation", "pool", "dropout", "flatten", "linear", "log-softmax"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == kinds


def test_a_solid_shrinks_with_the_image_and_grows_with_the_channels():
    ax = drawn("blocks", "VGG")
    first, last = (patches(ax, f"features.{i}")[0] for i in (0, 25))
    assert first.get_height() == pytest.approx(4 * last.get_height())  # √(32 / 2)
    assert last.get_width() > 2 * first.get_width()


def test_a_pool_touches_what_it_pools():
    ax = drawn("blocks", "LeNet")
    relu, pool = (patches(ax, f"features.{name}")[0] for name in ("relu1", "pool1"))
    behind = (relu.get_height() - pool.get_height()) * networks.SLANT / 2  # of a front before the lower one
    assert pool.get_x() == pytest.approx(relu.get_x() + relu.get_width() + behind)


def test_long_networks_wrap_and_keep_residual_blocks_whole():
    blocks = [Residual(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(5)]
    ax = networks.flat(nn.Sequential(*blocks), (4,))
    heights = [[patches(ax, f"{i}.{j}")[0].get_y() for j in range(2)] for i in range(5)]
    assert all(first == second for first, second in heights)
    assert len({first for first, _ in heights}) > 1


def test_colours_differ_in_grey_or_by_hatch():
    plain = set(networks.COLOURS) - set(networks.HATCHES) - {"add"}  # a circle needs no colour
    rgb = [to_rgb(networks.COLOURS[kind]) for kind in plain]
    greys = sorted(0.3 * red + 0.59 * green + 0.11 * blue for red, green, blue in rgb)
    assert min(high - low for low, high in pairwise(greys)) > 0.07
