"""Tests of the drawing: what it finds in a model, that it leaves the model as it was, and that it can be read."""

from itertools import combinations, pairwise

import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

from helpers import models
from helpers.show import networks

NETWORKS = {  # name: how to build it, shape of an input
    "MyNet": (lambda: models.MyNet(dropout=0.3), (3, 32, 32)),
    "MyResNet9": (models.MyResNet9, (3, 32, 32)),
    "MyResNet9, stride": (lambda: models.MyResNet9(block_kernel=5), (3, 32, 32)),
    "VGG": (models.VGG, (3, 32, 32)),
    "LeNet": (models.LeNet, (1, 28, 28)),
}


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def small() -> nn.Module:
    block = Residual(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    end = nn.Dropout(0.0), nn.Flatten(), nn.Linear(36, 2), nn.Softmax(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), block, nn.Dropout(0.5), *end)


def test_layers_of_a_network_worked_out_by_hand():
    found = networks.layers(small(), (1, 7, 7))
    assert [(each.kind, each.text, each.shape, each.skipped) for each in found] == [
        ("input", "input", (1, 7, 7), 0),
        ("conv", "conv 3×3, stride 2", (4, 3, 3), 0),
        ("conv", "conv 3×3", (4, 3, 3), 0),
        ("batch norm", "batch norm", (4, 3, 3), 0),
        ("activation", "ReLU", (4, 3, 3), 0),
        ("add", "+", (4, 3, 3), 3),
        ("dropout", "dropout 0.5", (4, 3, 3), 0),
        ("flatten", "flatten", (36,), 0),
        ("linear", "linear", (2,), 0),
        ("other", "Softmax", (2,), 0),
    ]


def test_layers_come_in_the_order_in_which_they_run():
    class Backwards(nn.Sequential):
        def forward(self, x):
            return self[0](self[1](x))

    found = networks.layers(Backwards(nn.Linear(5, 2), nn.Linear(3, 5)), (3,))
    assert [each.shape for each in found] == [(3,), (5,), (2,)]


def test_residual_blocks_may_be_nested():
    inner = Residual(nn.Linear(3, 3))
    found = networks.layers(nn.Sequential(Residual(nn.Linear(3, 3), inner)), (3,))
    assert [each.skipped for each in found if each.kind == "add"] == [1, 3]


def test_the_model_is_left_as_it_was():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    networks.layers(model, (1, 7, 7))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.fixture(params=NETWORKS)
def ax(request):
    build, shape = NETWORKS[request.param]
    return networks.blocks(build(), shape).axes[0]


def test_no_text_touches_another(ax):
    ax.figure.draw_without_rendering()
    texts = [text for text in [*ax.texts, *ax.get_legend().get_texts()] if text.get_text()]
    extents = [text.get_window_extent() for text in texts]
    assert not [pair for pair in combinations(extents, 2) if pair[0].overlaps(pair[1])]
    assert ax.figure.get_figwidth() <= 11.5


def test_shapes_are_written_beneath_and_what_is_attached_stands_in_the_legend():
    ax = networks.blocks(models.MyNet(dropout=0.3), (3, 32, 32)).axes[0]
    texts = [text.get_text() for text in ax.texts]
    assert {"input\n3×32×32", "conv 5×5\n64×28×28", "max-pool 2×2\n64×5×5", "flatten\n1600", "linear\n10"} <= set(texts)
    names = ["conv", "batch norm", "ReLU", "pool", "dropout 0.3", "flatten", "linear", "log-softmax"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names


def test_a_block_shrinks_with_the_image_and_grows_with_the_channels():
    convolutions = [
        each for each in networks.place(networks.layers(models.VGG(), (3, 32, 32))) if each.layer.kind == "conv"
    ]
    first, last = convolutions[0], convolutions[-1]
    assert first.height == pytest.approx(4 * last.height)  # √(32 / 2)
    assert last.end - last.start > 2 * (first.end - first.start)


def test_a_residual_connection_passes_over_what_it_skips():
    figure = networks.blocks(small(), (1, 7, 7))
    _, _, over = figure.axes[0].lines[0].get_ydata()
    tops = [patch.get_path().vertices[:, 1].max() for patch in figure.axes[0].patches]
    assert over > max(tops)


def test_colours_differ_in_grey_or_by_hatch():
    plain = set(networks.COLOURS) - set(networks.HATCHES) - {"add"}  # a circle needs no colour
    rgb = [to_rgb(networks.COLOURS[kind]) for kind in plain]
    greys = sorted(0.3 * red + 0.59 * green + 0.11 * blue for red, green, blue in rgb)
    assert min(high - low for low, high in pairwise(greys)) > 0.07
