"""Tests of Winograd's convolutions: the transforms are exact in fractions, and the results as near as torch's own."""

import copy
import functools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import models
from helpers.fast import products, winograd
from tests.fast.networks import images_for, layouts, networks, trained, two
from tests.test_dessilbi import needs_compiler

WINOGRAD = functools.partial(products.change_convolutions, kind="winograd")


# ------------------------------------------------------------------------------------------ the transforms

TILES = ((2, 3), (4, 3), (2, 5))  # (m, r)
POINTS = {4: (0, 1, -1), 6: (0, Fraction(3, 4), -Fraction(3, 4), Fraction(3, 2), -Fraction(3, 2))}


def matrices(m, r):
    """A' (m, p), G (p, r) and B' (p, p) of p = m + r − 1 numbers: A' [(G g) ⊙ (B' d)] is y with y[i] = Σ g[j] d[i + j].

    After Toom and Cook: a product of polynomials is one of their values at p − 1 points and infinity.
    """
    points = [Fraction(point) for point in POINTS[m + r - 1]]
    others = [points[:place] + points[place + 1 :] for place in range(len(points))]
    scales = [math.prod(point - other for other in rest) for point, rest in zip(points, others)]
    outputs = [[point**i for point in points] + [Fraction(i == m - 1)] for i in range(m)]
    filters = [[point**j / scale for j in range(r)] for point, scale in zip(points, scales)]
    filters.append([Fraction(j == r - 1) for j in range(r)])
    return outputs, filters, [polynomial(rest) + [Fraction(0)] for rest in others] + [polynomial(points)]


def polynomial(roots):
    """The coefficients of Π (x − root), that of 1 first."""
    found = [Fraction(1)]
    for root in roots:
        found = [below - root * same for below, same in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return found


@pytest.mark.parametrize("m, r", TILES)
def test_the_transforms_compute_a_convolution_exactly(m, r):
    outputs, filters, images = matrices(m, r)
    places = range(m + r - 1)
    for i in range(m):
        for j in range(r):
            for n in places:
                coefficient = sum(outputs[i][p] * filters[p][j] * images[p][n] for p in places)
                assert coefficient == (n == i + j)  # y[i] has g[j] d[i + j], and no other product with g[j]


def tensor(table):
    return torch.tensor([[float(number) for number in row] for row in table], dtype=torch.float32)


def units(side):
    """Maps (side², side, side, 16) of which each has a single 1 in its first channel, at a place of its own."""
    maps = torch.zeros(side * side, side, side, 16)
    maps[..., 0] = torch.eye(side * side).view(-1, side, side)
    return maps


def products(table):
    """What the transform makes of `units`, (rows, rows) of each: a column of the table times the transpose of one."""
    return torch.einsum("ia,jb->abij", table, table).flatten(0, 1)


@needs_compiler
@pytest.mark.parametrize("m, r", TILES)
def test_the_kernels_transforms_are_these(m, r):
    outputs, filters, images = map(tensor, matrices(m, r))
    p = m + r - 1
    for what, side, table in ((winograd.IMAGES, p, images), (winograd.GRADIENTS, m, outputs.T),
                              (winograd.FILTERS, r, filters)):  # fmt: skip
        spread = winograd.kernel().spread(units(side), m, r, what, 0, 0, 1, 1)  # (planes, tiles, channels)
        assert torch.equal(spread[..., 0].T.reshape(-1, p, p), products(table))
    planes = units(p).flatten(1, 2).transpose(0, 1).contiguous()
    for of_filters, side, table in ((False, m, outputs), (True, r, filters.T)):
        maps = torch.empty(p * p, side, side, 16)
        winograd.kernel().gather(planes, maps, None, m, r, of_filters, 1, 1)
        assert torch.equal(maps[..., 0], products(table))
    maps = torch.empty(p * p, p, p, 16)
    winograd.kernel().overlap(planes, maps, m, r, 0, 0, 1, 1)
    assert torch.equal(maps[..., 0], products(images.T))


def test_two_outputs_of_three_weights_are_winograds_own():
    """F(2, 3) of Lavin and Gray, by hand: four products, which are their m1 to m4 up to sign."""
    outputs, filters, images = matrices(2, 3)
    half = Fraction(1, 2)
    assert images == [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    assert filters == [[-1, 0, 0], [half, half, half], [half, -half, half], [0, 0, 1]]
    assert outputs == [[1, 1, 1, 0], [0, 1, -1, 1]]


@pytest.mark.parametrize("m, r", TILES)
def test_the_transforms_are_exact_in_float(m, r):
    images, outputs = matrices(m, r)[2], matrices(m, r)[0]
    for number in [*sum(images, []), *sum(outputs, [])]:
        assert number.denominator & (number.denominator - 1) == 0 and abs(number.numerator) < 2**24


# ------------------------------------------------------------------------------------------ the convolution


def autocast(on):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=on)


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
@given(st.integers(1, 5), st.sampled_from([16, 32]), st.sampled_from([16, 48]),
       st.sampled_from([(3, 1), (5, 1), (5, 2)]),
       st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(3, 11), st.integers(3, 11)),
       layouts, st.booleans(), st.sampled_from([1, 80_000, winograd.TRANSFORMED]), st.sampled_from([1, 256]),
       st.booleans())  # fmt: skip
def test_it_is_a_convolution(n, c, o, kind, padding, map_, layout, bias, transformed, summed, half):
    kernel, stride = kind
    if stride == 2:
        padding, map_ = tuple(pad // 2 * 2 for pad in padding), tuple(side // 2 * 2 for side in map_)
    assume(all(side + 2 * pad >= kernel for side, pad in zip(map_, padding)))
    layer = layer_of(c, o, kernel, stride, padding, bias, layout)
    images = torch.randn(n, c, *map_).to(memory_format=layout)
    with autocast(half):
        assume(winograd.fits(images, layer))
    gradient = torch.randn_like(layer(images))
    theirs = exact(layer, images, gradient)
    WINOGRAD(layer)
    with pytest.MonkeyPatch.context() as patch, autocast(half):
        patch.setattr(winograd, "TRANSFORMED", transformed)  # from one image at a time to all at once
        patch.setattr(winograd, "SUMMED", summed)
        for mine, other in zip(results(layer, images, gradient), theirs, strict=True):
            assert mine.shape == other.shape and distance(mine, other) < (0.04 if half else 5e-6)


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


@needs_compiler
@pytest.mark.parametrize("r, side", [(3, 4), (3, 8), (3, 16), (5, 16)])
def test_in_bfloat16_outputs_are_torchs_own_and_gradients_lose_two_percent(r, side):
    torch.manual_seed(0)
    layer, images = layer_of(64, 128, r, 1, r // 2), torch.randn(8, 64, side, side).relu().bfloat16()
    gradient = torch.randn(8, 128, side, side).bfloat16()
    theirs = exact(layer, images, gradient)
    with autocast(True):
        torchs = results(layer, images, gradient)
        WINOGRAD(layer)
        outputs, of_images, of_weight, of_bias = results(layer, images, gradient)
    assert torch.equal(outputs, torchs[0])
    assert of_images.dtype == torch.bfloat16 and of_weight.dtype == of_bias.dtype == torch.float32
    assert distance(of_bias, theirs[3]) < 0.005
    for mine, other in zip((of_images, of_weight), theirs[1:]):
        assert 0.005 < distance(mine, other) < 0.025
        share = (mine.double() * other).sum() / other.square().sum()
        assert share == pytest.approx(1, abs=2e-3)  # they are off at random, and neither too long nor too short


@needs_compiler
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_in_bfloat16_what_is_not_finite_stays_so(number):
    layer, images = layer_of(16, 16, 3, 1, 1), torch.randn(1, 16, 8, 8)
    WINOGRAD(layer)
    with autocast(True):
        _, of_images, of_weight, _ = results(layer, images, torch.full((1, 16, 8, 8), number))
    assert not of_images.isfinite().any() and not of_weight.isfinite().any()


@needs_compiler
def test_sums_over_parts_of_a_batch_are_not_rounded_to_bfloat16():
    torch.manual_seed(0)
    maps, gradient = (torch.randn(64, 8, 8, 16).bfloat16() for _ in range(2))
    filters, found = torch.randn(16, 3, 3, 16).bfloat16(), []
    for count in (1, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(winograd, "SUMMED", 4 * count)
            patch.setattr(winograd, "TRANSFORMED", 1)
            found.append(winograd._gradients(maps, filters, gradient, (1, 1), False, True)[1])
    # Each part's product is rounded once, at random: of 64 together no more is lost than of one.
    assert distance(*found) < 0.02


fitting = (layer_of(16, 16, 3, 1, 1), torch.zeros(1, 16, 8, 8))
OTHERS = {
    "few outputs": (fitting[0], torch.zeros(1, 16, 2, 2)),
    "float64": (layer_of(16, 16, 3, 1, 1).double(), fitting[1].double()),
    "bfloat16 without autocast": (layer_of(16, 16, 3, 1, 1).bfloat16(), fitting[1].bfloat16()),
    "bfloat16 images alone": (fitting[0], fitting[1].bfloat16()),
    "odd channels": (layer_of(24, 16, 3, 1, 1), torch.zeros(1, 24, 8, 8)),
    "odd filters": (layer_of(16, 8, 3, 1, 1), fitting[1]),
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


@pytest.mark.parametrize("layer, images, fits", [
    (*fitting, True), (fitting[0], fitting[1].bfloat16(), True), (fitting[0], fitting[1].double(), False),
    (layer_of(16, 16, 5, 1, 2), fitting[1], True), (layer_of(16, 16, 5, 2, 2), fitting[1], False),
], ids=["float32", "bfloat16", "float64", "5 × 5", "stride 2"])  # fmt: skip
def test_what_it_computes_under_autocast(layer, images, fits):
    with autocast(True):
        assert winograd.fits(images, layer) == fits


# ------------------------------------------------------------------------------------------ what doesn't fit


MAPS, PLANES = torch.zeros(1, 4, 4, 16), torch.zeros(16, 4, 16)
WRONG = {  # an operator, what it is given, and what is said
    "channels": ("spread", (torch.zeros(1, 4, 4, 24), 2, 3, 0, 1, 1, 2, 2), "of a multiple of 16 channels"),
    "dimensions": ("spread", (MAPS[0], 2, 3, 0, 1, 1, 2, 2), "maps must be contiguous"),
    "layout": ("spread", (MAPS.transpose(1, 2)[:, ::2], 2, 3, 0, 1, 1, 1, 2), "maps must be contiguous"),
    "device": ("spread", (MAPS.to("meta"), 2, 3, 0, 1, 1, 2, 2), "on the CPU"),
    "m": ("spread", (MAPS, 3, 3, 0, 1, 1, 2, 2), "no tiles of 3 outputs and 3 weights in Float"),
    "precision": ("spread", (MAPS.double(), 2, 3, 0, 1, 1, 2, 2), "no tiles of 2 outputs and 3 weights in Double"),
    "what": ("spread", (MAPS, 2, 3, 3, 1, 1, 2, 2), "images are spread .* not 3"),
    "no tiles": ("spread", (MAPS, 2, 3, 0, 1, 1, 0, 2), "there must be tiles, not 0 by 2"),
    "many tiles": ("spread", (MAPS, 2, 3, 0, 1, 1, 2**40, 2**40), "maps have no 1099511627776 by"),
    "many zeros": ("spread", (MAPS, 2, 3, 0, 2**60, 1, 2**60, 2), "maps can't have 1152921504606846976 and 1 zeros"),
    "fewer zeros": ("spread", (MAPS, 2, 3, 0, -1, 1, 2, 2), "maps can't have -1 and 1 zeros"),
    "planes": ("gather", (PLANES, torch.zeros(1, 4, 4, 32), None, 2, 3, False, 2, 2), "planes don't fit the maps"),
    "number of planes": ("gather", (PLANES[1:], MAPS, None, 2, 3, False, 2, 2), "planes don't fit the maps"),
    "planes' layout": ("gather", (PLANES.transpose(0, 1), MAPS, None, 2, 3, False, 2, 2), "planes don't fit the maps"),
    "a larger map": ("gather", (PLANES, torch.zeros(1, 5, 4, 16), None, 2, 3, False, 2, 2), "aren't made of 2 by 2"),
    "bias": ("gather", (PLANES, MAPS, torch.zeros(8), 2, 3, False, 2, 2), "the bias must be 16 numbers"),
    "precision of bias": ("gather", (PLANES, MAPS, MAPS[0, 0, 0].double(), 2, 3, False, 2, 2), "expected scalar type"),
    "precision of maps": ("gather", (PLANES, MAPS.double(), None, 2, 3, False, 2, 2), "expected scalar type"),
    "adjoint planes": ("overlap", (PLANES, torch.zeros(1, 4, 4, 32), 2, 3, 1, 1, 2, 2), "planes don't fit the maps"),
    "adjoint zeros": ("overlap", (PLANES, MAPS, 2, 3, 1, -1, 2, 2), "maps can't have 1 and -1 zeros"),
    "adjoint map": ("overlap", (PLANES, torch.zeros(1, 9, 4, 16), 2, 3, 1, 1, 2, 2), "aren't made of 2 by 2"),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("operator, given, said", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_in_a_line(operator, given, said):
    with pytest.raises(RuntimeError, match=said) as raised:
        getattr(winograd.kernel(), operator)(*given)
    assert "\n" not in str(raised.value)
