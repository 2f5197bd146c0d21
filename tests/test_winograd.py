"""Tests of Winograd's convolutions: the transforms are exact in fractions, and the results as near as torch's own."""

import copy
import functools
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import faster, models, winograd
from tests.test_dessilbi import needs_compiler
from tests.test_faster import images_for, layouts, networks, trained, two

WINOGRAD = functools.partial(faster.change_convolutions, kind="winograd")


@pytest.mark.parametrize("m, r", winograd.TILES)
def test_the_transforms_compute_a_convolution_exactly(m, r):
    outputs, filters, images = winograd.matrices(m, r)
    places = range(m + r - 1)
    for i in range(m):
        for j in range(r):
            for n in places:
                coefficient = sum(outputs[i][p] * filters[p][j] * images[p][n] for p in places)
                assert coefficient == (n == i + j)  # y[i] has g[j] d[i + j], and no other product with g[j]


def test_two_outputs_of_three_weights_are_winograds_own():
    """F(2, 3) of Lavin and Gray, by hand: four products, which are their m1 to m4 up to sign."""
    outputs, filters, images = winograd.matrices(2, 3)
    half = Fraction(1, 2)
    assert images == [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    assert filters == [[-1, 0, 0], [half, half, half], [half, -half, half], [0, 0, 1]]
    assert outputs == [[1, 1, 1, 0], [0, 1, -1, 1]]


@pytest.mark.parametrize("m, r", winograd.TILES)
def test_the_transforms_are_exact_in_float(m, r):
    images, outputs = winograd.matrices(m, r)[2], winograd.matrices(m, r)[0]
    for number in [*sum(images, []), *sum(outputs, [])]:
        assert number.denominator & (number.denominator - 1) == 0 and abs(number.numerator) < 2**24


# ------------------------------------------------------------------------------------------ the convolution


def layer_of(channels, filters, kernel, stride, padding, bias=True, layout=torch.channels_last):
    layer = nn.Conv2d(channels, filters, kernel, stride, padding, bias=bias)
    return layer.to(memory_format=layout)


def results(layer, images, gradient=None):
    """Outputs, and the gradients of images and parameters, given that of the outputs."""
    images = images.clone().requires_grad_()
    outputs = layer(images)
    gradient = torch.ones_like(outputs) if gradient is None else gradient.to(outputs.dtype)
    return [outputs.detach(), *torch.autograd.grad(outputs, [images, *layer.parameters()], gradient)]


def distance(one, other):
    return ((one - other).norm() / other.norm()).item()


def exact(layer, images, gradient):
    return results(copy.deepcopy(layer).double(), images.double(), gradient)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.sampled_from([16, 24]), st.sampled_from([8, 40]),
       st.sampled_from([(3, 1), (5, 1), (5, 2)]),
       st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(3, 11), st.integers(3, 11)),
       layouts, st.booleans(), st.sampled_from([1, 20_000, winograd.TRANSFORMED]))  # fmt: skip
def test_it_is_a_convolution(n, c, o, kind, padding, map_, layout, bias, transformed):
    kernel, stride = kind
    if stride == 2:
        padding, map_ = tuple(pad // 2 * 2 for pad in padding), tuple(side // 2 * 2 for side in map_)
    assume(all(side + 2 * pad >= kernel for side, pad in zip(map_, padding)))
    layer = layer_of(c, o, kernel, stride, padding, bias, layout)
    images = torch.randn(n, c, *map_).to(memory_format=layout)
    assume(winograd.fits(images, layer))
    gradient = torch.randn_like(layer(images))
    theirs = exact(layer, images, gradient)
    WINOGRAD(layer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "TRANSFORMED", transformed)  # from one image at a time to all at once
        for mine, other in zip(results(layer, images, gradient), theirs, strict=True):
            assert mine.shape == other.shape and distance(mine, other) < 5e-6


@needs_compiler
@pytest.mark.parametrize("r, side", [(3, 4), (3, 8), (3, 16), (5, 16)])
def test_rounding_loses_no_more_than_a_bit_or_two_beyond_torchs_own(r, side):
    torch.manual_seed(0)
    layer, images = layer_of(256, 256, r, 1, r // 2), torch.randn(4, 256, side, side).relu()
    gradient = torch.randn(4, 256, side, side)
    theirs, torchs = exact(layer, images, gradient), results(layer, images, gradient)
    WINOGRAD(layer)
    outputs, of_images, of_weight = results(layer, images, gradient)[:3]
    assert distance(outputs, theirs[0]) < 4 * distance(torchs[0], theirs[0])
    assert all(distance(mine, other) < 2e-6 for mine, other in zip((outputs, of_images, of_weight), theirs))


@needs_compiler
@networks
def test_with_it_a_network_learns_the_same(name, options):
    model, changed = two(name, options, WINOGRAD)
    images = images_for(name, 10)
    (losses, gradients), (others, theirs) = trained(changed, images, 1), trained(model.double(), images.double(), 1)
    assert losses == pytest.approx(others, rel=1e-5)
    for name, gradient in theirs.items():
        if gradient.norm() > 1e-9:  # that of a bias before batch norm is zero but for rounding
            assert distance(gradients[name], gradient) < 0.02, name  # rounded otherwise, a ReLU may be off that was on


@needs_compiler
@pytest.mark.parametrize("name, computed", [("VGG", 5), ("MyNet", 1), ("MyResNet9", 7), ("LeNet", 0)])
def test_what_of_a_network_it_computes(name, computed, monkeypatch):
    seen, convolve = [], winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *given: seen.append(given) or convolve(*given))
    model = models.build(name)
    WINOGRAD(model)
    model(images_for(name))
    assert len(seen) == computed


@needs_compiler
def test_threads_share_the_tiles():
    layer, images = layer_of(16, 16, 3, 1, 1), torch.randn(3, 16, 9, 9)
    WINOGRAD(layer)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(results(layer, images))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found):
        assert distance(one, other) < 1e-6


fitting = (layer_of(16, 16, 3, 1, 1), torch.zeros(1, 16, 8, 8))
OTHERS = {
    "few outputs": (fitting[0], torch.zeros(1, 16, 2, 2)),
    "float64": (layer_of(16, 16, 3, 1, 1).double(), fitting[1].double()),
    "bfloat16": (layer_of(16, 16, 3, 1, 1).bfloat16(), fitting[1].bfloat16()),
    "odd channels": (layer_of(17, 16, 3, 1, 1), torch.zeros(1, 17, 8, 8)),
    "odd filters": (layer_of(16, 9, 3, 1, 1), fitting[1]),
    "1 × 1": (layer_of(16, 16, 1, 1, 0), fitting[1]),
    "4 × 4": (layer_of(16, 16, 4, 1, 1), fitting[1]),
    "3 × 5": (layer_of(16, 16, (3, 5), 1, 1), fitting[1]),
    "3 × 3, stride 2": (layer_of(16, 16, 3, 2, 0), fitting[1]),
    "stride 2, padding 1": (layer_of(16, 16, 5, 2, 1), fitting[1]),
    "stride 2, odd map": (layer_of(16, 16, 5, 2, 2), torch.zeros(1, 16, 9, 8)),
    "two strides": (layer_of(16, 16, 5, (1, 2), 2), fitting[1]),
    "no image": (fitting[0], torch.zeros(0, 16, 8, 8)),
}


@pytest.mark.parametrize("layer, images", OTHERS.values(), ids=OTHERS)
def test_others_are_left_to_torch(layer, images):
    assert winograd.fits(fitting[1], fitting[0])
    assert not winograd.fits(images, layer)


def test_autocast_is_left_to_torch():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not winograd.fits(fitting[1], fitting[0])


@needs_compiler
def test_what_it_is_not_given_is_refused_in_words():
    with pytest.raises(RuntimeError, match="maps must be contiguous, of float and of a multiple of 8 channels"):
        winograd.kernel().spread(torch.zeros(1, 4, 4, 12), 2, 3, winograd.IMAGES, 1, 1, 2, 2)
    with pytest.raises(RuntimeError, match="no tiles of 3 outputs and 3 weights"):
        winograd.kernel().spread(torch.zeros(1, 4, 4, 8), 3, 3, winograd.IMAGES, 1, 1, 2, 2)
    with pytest.raises(RuntimeError, match="planes don't fit the maps"):
        winograd.kernel().gather(torch.zeros(16, 4, 8), torch.zeros(1, 4, 4, 16), None, 2, 3, False, 2, 2)
