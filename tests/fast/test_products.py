"""Tests of convolutions as products of matrices: a network's function, gradients and names stay as they were."""

import copy
import functools

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.fast import products
from tests.fast.networks import images_for, layouts, networks, trained, two
from tests.test_dessilbi import needs_compiler


def by_hand(images, gradient, kernel, padding):
    """The weight gradient of a convolution, number by number from its definition."""
    images = nn.functional.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    result = torch.zeros(gradient.shape[1], images.shape[1], *kernel, dtype=images.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            for y in range(gradient.shape[2]):
                for x in range(gradient.shape[3]):
                    pixels = images[:, :, y + i, x + j]
                    result[:, :, i, j] += gradient[:, :, y, x].T @ pixels
    return result


few, sides, paddings = st.integers(1, 3), st.integers(1, 6), st.integers(0, 3)  # sides of small maps and above


@settings(max_examples=80, deadline=None)
@given(few, few, few, st.tuples(sides, sides), st.tuples(paddings, paddings), st.tuples(sides, sides), layouts)
@example(1, 1, 1, (6, 1), (3, 0), (1, 1), torch.contiguous_format)  # a place at which it sees padding alone
def test_the_weight_gradient_is_that_of_the_definition(n, c, o, kernel, padding, map_, layout):
    assume(all(k <= side + 2 * p for k, side, p in zip(kernel, map_, padding)))
    images = torch.randn(n, c, *map_, dtype=torch.float64).to(memory_format=layout)
    shape = nn.functional.conv2d(images, images.new_zeros(o, c, *kernel), padding=padding).shape
    gradient = torch.randn(shape, dtype=torch.float64).to(memory_format=layout)
    ours = products.weight_gradient(images, gradient, kernel, padding)
    torch.testing.assert_close(ours, by_hand(images, gradient, kernel, padding), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["direct", "matmul"])
@networks
def test_with_matrix_products_a_network_learns_the_same(name, options, kind):
    model, changed = two(name, options, lambda model: products.change_convolutions(model, kind))
    images = images_for(name, 3).double()
    (losses, gradients), (others, theirs) = (trained(each.double(), images) for each in (model, changed))
    assert losses == pytest.approx(others, rel=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "side, kind", [(4, "direct"), (4, "matmul"), pytest.param(8, "winograd", marks=needs_compiler)]
)
def test_weight_gradients_lie_in_memory_as_channels_last_weights_do(side, kind):
    layer = nn.Conv2d(16, 16, 3).to(memory_format=torch.channels_last)
    products.change_convolutions(layer, kind)
    layer(torch.randn(2, 16, side, side)).sum().backward()
    assert layer.weight.grad.is_contiguous(memory_format=torch.channels_last)


# Of 3 × 3 weights on a map of 4 × 4, the three of a column meet 3, 4 and 3 rows of places.
@pytest.mark.parametrize("kind, side, dtype, expected", [
    ("direct", 4, torch.float32, 30), ("matmul", 4, torch.float32, 90),
    ("direct", 2, torch.float32, 2 + 12), ("matmul", 2, torch.float32, 36),
    ("direct", 4, torch.bfloat16, 9), ("matmul", 4, torch.bfloat16, 2 + 9),
    ("direct", 2, torch.bfloat16, 2 + 9), ("matmul", 2, torch.bfloat16, 2 + 9),
    ("direct", 5, torch.float32, 0), ("matmul", 5, torch.float32, 0),
    pytest.param("winograd", 2, torch.float32, 36, marks=needs_compiler),
    pytest.param("winograd", 4, torch.float32, 0, marks=needs_compiler),
])  # fmt: skip
def test_small_maps_take_a_product_for_each_weight_of_the_window(kind, side, dtype, expected):
    layer = nn.Conv2d(16, 16, 3, padding=1).to(dtype)
    products.change_convolutions(layer, kind)
    images = torch.randn(2, 16, side, side, dtype=dtype, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        layer(images).sum().backward()
    assert sum(event.name in ("aten::mm", "aten::addmm_") for event in profiled.events()) == expected


@settings(max_examples=100, deadline=None)
@given(few, few, st.tuples(sides, sides), st.tuples(paddings, paddings), st.tuples(*[st.integers(1, 4)] * 2), layouts,
       st.sampled_from([torch.float64, torch.bfloat16]))  # fmt: skip
def test_a_convolution_made_of_products_is_a_convolution(n, o, kernel, padding, map_, layout, dtype):
    assume(all(k <= side + 2 * p for k, side, p in zip(kernel, map_, padding)))
    layer = nn.Conv2d(16, o, kernel, padding=padding).to(dtype, memory_format=layout)
    images = torch.randn(n, 16, *map_).to(dtype, memory_format=layout)
    if dtype == torch.bfloat16:  # eighths, so that each sum is exact, and rounded once
        with torch.no_grad():
            for numbers in (images, *layer.parameters()):
                numbers.copy_(numbers.mul(8).round().clamp(-8, 8).div(8))
    images.requires_grad_()
    results = []
    for change in (lambda layer: None, functools.partial(products.change_convolutions, kind="matmul")):
        change(layer)
        outputs = layer(images)
        eighths = torch.arange(outputs.numel()).remainder(17).sub(8).div(8).view(outputs.shape).to(dtype)
        results.append([outputs, *torch.autograd.grad(outputs, [images, *layer.parameters()], eighths)])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=0.01 if dtype == torch.bfloat16 else 0, atol=1e-11)


WHOLE = {"2×2": ((3, 3), (1, 1), (2, 2)), "1×1": ((3, 3), (1, 1), (1, 1)), "2×3": ((3, 5), (1, 2), (2, 3)),
         "1×1 by 1×1": ((1, 1), (0, 0), (1, 1))}  # kernel, padding, map  # fmt: skip


@pytest.mark.parametrize("kernel, padding, map_", WHOLE.values(), ids=WHOLE)
def test_where_each_window_sees_the_whole_map_a_convolution_is_a_matrix(kernel, padding, map_):
    layer, images = nn.Conv2d(16, 4, kernel, padding=padding).double(), torch.randn(3, 16, *map_, dtype=torch.float64)
    changed, others = copy.deepcopy(layer), images.clone().requires_grad_()
    images.requires_grad_()
    products.change_convolutions(changed)
    outputs, theirs = layer(images), changed(others)
    matrix = products._as_matrix(layer.weight, map_, padding)
    assert matrix.shape == (4 * map_[0] * map_[1], 16 * map_[0] * map_[1])
    torch.testing.assert_close(theirs, outputs, rtol=0, atol=1e-12)
    for each in (outputs, theirs):
        (each * torch.arange(each.numel()).view_as(each)).sum().backward()
    torch.testing.assert_close(others.grad, images.grad, rtol=0, atol=1e-10)
    for mine, other in zip(changed.parameters(), layer.parameters()):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_of_a_single_window_is_a_linear_layer(layout):
    layer = nn.Conv2d(16, 4, (5, 3)).double().to(memory_format=layout)
    images = torch.randn(3, 16, 5, 3, dtype=torch.float64, requires_grad=True)
    changed = copy.deepcopy(layer)
    products.change_convolutions(changed)
    results = []
    for each in (layer, changed):
        outputs = each(images)
        weighted = (outputs * torch.arange(12).view(3, 4, 1, 1)).sum()
        results.append([outputs, *torch.autograd.grad(weighted, [images, *each.parameters()])])
    for theirs, ours in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        changed(images)
    assert [event.name for event in profiled.events() if event.name in ("aten::linear", "aten::conv2d")] == [
        "aten::linear"
    ]


@pytest.mark.parametrize("kernel, padding, map_", [
    ((3, 3), (1, 1), (3, 2)), ((3, 3), (0, 0), (3, 3)), ((4, 4), (1, 1), (2, 2)),
], ids=str)  # fmt: skip
def test_other_convolutions_are_no_matrix(kernel, padding, map_):
    assert products._as_matrix(torch.ones(4, 16, *kernel), map_, padding) is None


@pytest.mark.parametrize("side, kind", [
    (2, "direct"), (4, "direct"), (4, "matmul"), pytest.param(8, "winograd", marks=needs_compiler),
])  # fmt: skip
def test_autocast_computes_them_in_bfloat16_and_gives_them_in_float32(side, kind):
    layer, images = nn.Conv2d(64, 32, 3, padding=1), torch.randn(8, 64, side, side)
    changed = copy.deepcopy(layer)
    products.change_convolutions(changed, kind)
    for each in (layer, changed):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = each(images)
        assert outputs.dtype == torch.bfloat16
        outputs.float().square().sum().backward()
    for name, parameter in changed.named_parameters():
        theirs = layer.get_parameter(name).grad
        assert parameter.grad.dtype == torch.float32
        assert (parameter.grad - theirs).norm() < (0.03 if kind == "winograd" else 0.01) * theirs.norm()


each_kind = pytest.mark.parametrize("side, kind", [
    (4, "direct"), (4, "matmul"), pytest.param(8, "winograd", marks=needs_compiler),
])  # fmt: skip


@each_kind
@pytest.mark.parametrize("frozen", ["images", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(frozen, side, kind):
    layer, images = nn.Conv2d(16, 16, 3), torch.randn(2, 16, side, side, requires_grad=True)
    products.change_convolutions(layer, kind)
    leaves = {"images": images, "weight": layer.weight, "bias": layer.bias}
    leaves[frozen].requires_grad_(False)
    layer(images).sum().backward()
    assert [name for name, leaf in leaves.items() if leaf.grad is None] == [frozen]


@each_kind
def test_a_convolution_without_bias(side, kind):
    layer = nn.Conv2d(16, 16, 3, bias=False)
    products.change_convolutions(layer, kind)
    layer(torch.randn(2, 16, side, side)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("layer", [
    nn.Conv2d(16, 16, 3, groups=2), nn.Conv2d(16, 4, 3, dilation=2), nn.Conv2d(16, 4, 3, padding="same"),
    nn.Conv2d(16, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(15, 4, 3), nn.ConvTranspose2d(16, 4, 3),
], ids=str)  # fmt: skip
def test_other_convolutions_are_left_alone(layer):
    kind = type(layer)
    products.change_convolutions(nn.Sequential(layer))
    assert type(layer) is kind


@each_kind
def test_a_second_derivative_is_refused_rather_than_wrong(side, kind):
    layer, images = nn.Conv2d(16, 16, 3), torch.randn(2, 16, side, side)
    products.change_convolutions(layer, kind)
    (gradient,) = torch.autograd.grad(layer(images).square().sum(), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
