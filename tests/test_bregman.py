"""Tests of LinBreg and AdaBreg: equal to a literal loop from the equations, and proximal maps worked out by hand."""

import copy
import math

import pytest
import torch
from torch import nn

from helpers import bregman, dessilbi, models
from helpers.bregman import AdaBreg, LinBreg

pytestmark = pytest.mark.filterwarnings("ignore:no parameter has a penalty")

SHAPES = {"group": (5, 2, 3, 3), "l1": (4, 6), None: (7,)}


def double(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prox(v, lam, delta, penalty):
    out = v.clone()
    if penalty == "l1":
        values = [math.copysign(max(0.0, abs(x) - delta * lam), x) for x in v.flatten().tolist()]
        out = torch.tensor(values, dtype=torch.float64).view_as(v)
    elif penalty == "group":
        for f in range(len(v)):
            norm, at = v[f].norm().item(), delta * lam * math.sqrt(v[f].numel())
            out[f] = 0 if norm <= at else v[f] * (1 - at / norm)
    return out


def subgradient(theta, lam, penalty):
    out = torch.zeros_like(theta)
    if penalty == "l1":
        return lam * theta.sign()
    for f in range(len(theta)) if penalty else ():
        if theta[f].norm() > 0:
            out[f] = lam * math.sqrt(theta[f].numel()) * theta[f] / theta[f].norm()
    return out


@pytest.mark.parametrize("penalty", ["group", "l1", None])
@pytest.mark.parametrize("kind, options", [(LinBreg, {}), (LinBreg, {"momentum": 0.9}), (AdaBreg, {})])
@pytest.mark.parametrize("delta", [1.0, 0.5])
def test_the_steps_are_the_literal_loop(kind, options, penalty, delta):
    start = double(*SHAPES[penalty])
    start[1] = 0  # the subgradient of zero is zero
    lr, lam = 0.1, 0.3
    parameter = nn.Parameter(start.clone())
    optimizer = kind([{"params": [parameter], "penalty": penalty}], lr, lam=lam, delta=delta, **options)
    theta, v = start.clone(), start / delta + subgradient(start, lam, penalty)
    mean, square, zeros = torch.zeros_like(start), torch.zeros_like(start), set()
    for step in range(1, 61):
        gradient = (theta - double(*start.shape, seed=1)) + 0.3 * double(*start.shape, seed=1 + step)
        parameter.grad = gradient.clone()
        optimizer.step()
        if kind is AdaBreg:
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            direction = mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
        elif options:
            mean = 0.9 * mean + 0.1 * gradient
            direction = mean
        else:
            direction = gradient
        v = v - lr * direction
        theta = prox(delta * v, lam, delta, penalty)
        torch.testing.assert_close(parameter.detach(), theta, rtol=1e-10, atol=1e-10)
        zeros.add(int((theta == 0).sum()))
    assert not penalty or len(zeros) > 1  # the penalty was felt


def test_filters_of_zero_stay_zero_without_a_penalty_too():
    zero = torch.zeros(2, 3)
    for at in (0.0, 1.0):
        assert torch.equal(bregman.prox(zero, at, "group"), zero)


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
@pytest.mark.parametrize("shape, penalty", [((2, 2), "lasso"), ((2,), "group")])
def test_a_penalty_that_is_not_to_be_had_is_refused_at_once(kind, shape, penalty):
    with pytest.raises(ValueError, match=f"penalty .{penalty}. is "):
        kind([{"params": [nn.Parameter(torch.ones(shape))], "penalty": penalty}], 0.1)


def test_proximal_maps_by_hand():
    z = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    assert bregman.prox(z, 1.0, "group").tolist() == [pytest.approx([2.4, 3.2]), [0.0, 0.0]]
    assert bregman.prox(z, 0.7, "l1").tolist() == [pytest.approx([2.3, 3.3]), pytest.approx([0.0, 0.1], abs=1e-6)]
    assert torch.equal(bregman.prox(z, 5.0, None), z)


def test_thinning_scales_by_what_is_left():
    """Three tenths of six filters are two: three times fewer, so √3 times larger."""
    weight = nn.Parameter(torch.ones(6, 2, 1, 1))
    bregman.thin_([{"params": [weight], "penalty": "group"}], 0.3)
    assert sorted(weight[:, 0].flatten().tolist()) == [0, 0, 0, 0, pytest.approx(3**0.5), pytest.approx(3**0.5)]


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_thinning_leaves_a_share_of_filters_and_scales_them(density):
    torch.manual_seed(0)
    model, before = models.LeNet(), models.LeNet()
    before.load_state_dict(model.state_dict())
    bregman.thin_(dessilbi.param_groups(model, only=["features.conv3"]), density)
    kept = model.features.conv3.weight.flatten(1).abs().amax(1) > 0
    assert kept.sum() == round(120 * density)
    expected = before.features.conv3.weight[kept] / math.sqrt(density)
    torch.testing.assert_close(model.features.conv3.weight[kept], expected)
    assert torch.equal(model.classifier.fc1.weight, before.classifier.fc1.weight)


@pytest.mark.parametrize("kind, name, value", [
    (LinBreg, "lr", -0.1), (LinBreg, "lam", -1.0), (LinBreg, "momentum", 1.0), (LinBreg, "delta", 0.0),
    (AdaBreg, "lr", math.nan), (AdaBreg, "betas", (0.9, 1.0)), (AdaBreg, "eps", 0.0),
])  # fmt: skip
def test_a_value_that_is_not_allowed_is_named(kind, name, value):
    with pytest.raises(ValueError, match=f"{name} .* not allowed"):
        kind([{"params": [nn.Parameter(torch.ones(2))], "penalty": None}], **{"lr": 0.1, name: value})
    optimizer = kind([nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(ValueError, match=f"{name} .* not allowed"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], name: value})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
def test_a_rate_of_zero_is_allowed_and_moves_nothing(kind):
    """A warm-up may start there."""
    weight = nn.Parameter(torch.tensor([0.5, -2.0]))
    optimizer = kind([{"params": [weight], "penalty": "l1"}], lr=0.0, lam=0.1)
    weight.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.5, -2.0]))


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
def test_saved_loaded_and_continued_gives_identical_numbers(kind):
    def steps(parameter, optimizer, seeds):
        for seed in seeds:
            parameter.grad = double(4, 6, seed=seed)
            optimizer.step()

    def make():
        parameter = nn.Parameter(double(4, 6))
        return parameter, kind([{"params": [parameter], "penalty": "l1"}], 0.1, lam=0.1)

    one, its_optimizer = make()
    steps(one, its_optimizer, range(3))
    two, other = make()
    two.data.copy_(one.data)
    other.load_state_dict(copy.deepcopy(its_optimizer.state_dict()))
    for parameter, optimizer in ((one, its_optimizer), (two, other)):
        steps(parameter, optimizer, range(3, 6))
    assert torch.equal(one, two)


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3)])
def test_scalars_and_empty_parameters_are_taken(kind, shape):
    parameter = nn.Parameter(torch.ones(shape))
    optimizer = kind([{"params": [parameter], "penalty": None}], lr=0.1)
    parameter.grad = torch.ones(shape)
    optimizer.step()
    assert (parameter < 1).all()


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
@pytest.mark.parametrize("spoil, words", [
    (lambda saved: saved["param_groups"][0].update(lr=math.nan), "lr nan is not allowed: it must be a number"),
    (lambda saved: saved["param_groups"][0].update(lr=torch.ones(2)), "lr tensor.* is not allowed"),
    (lambda saved: saved["param_groups"][0].update(penalty=None), "it has weight with penalty None, not"),
    (lambda saved: saved["param_groups"][0].update(param_names=["other"]), "it has other with penalty l1, not weight"),
    (lambda saved: saved["state"][0].update(v=torch.ones(4, 5)), "the shape of v is .* for parameter weight"),
    (lambda saved: saved["state"][0].update(v=torch.full((4, 6), math.nan)), "the v of parameter weight is not finite"),
])  # fmt: skip
def test_a_state_that_does_not_fit_is_refused_and_nothing_changes(kind, spoil, words):
    weight = nn.Parameter(double(4, 6))
    optimizer = kind([{"params": [("weight", weight)], "penalty": "l1"}], lr=0.1, lam=0.1)
    weight.grad = double(4, 6, seed=1)
    optimizer.step()
    saved, before = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(optimizer.state_dict())
    spoil(saved)
    with pytest.raises(ValueError, match=f"the state doesn't fit: {words}"):
        optimizer.load_state_dict(saved)
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]
    assert torch.equal(optimizer.state[weight]["v"], before["state"][0]["v"])


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
def test_what_no_longer_fits_is_refused(kind):
    weight = nn.Parameter(torch.ones(4, 6))
    optimizer = kind([{"params": [("weight", weight)], "penalty": "l1"}], lr=0.1)
    weight.grad = torch.ones(4, 6)
    optimizer.step()
    optimizer.state[weight]["v"] = torch.ones(1, 6)  # it would be broadcast
    with pytest.raises(ValueError, match="the shape of v is"):
        optimizer.step()
    optimizer.state[weight]["v"], weight.grad = torch.ones(4, 6), torch.ones(4, 6).to_sparse()
    with pytest.raises(ValueError, match="the layout of gradient is torch.sparse_coo for parameter weight"):
        optimizer.step()


def test_filters_whose_squares_overflow_are_shrunk_as_any():
    filters = torch.tensor([[3e30, -4e30], [3.0, 4.0], [1e-3, 0.0]])
    torch.testing.assert_close(
        bregman.prox(filters, 1e30, "group"), torch.tensor([[2.4e30, -3.2e30], [0.0, 0.0], [0.0, 0.0]])
    )
    expected = torch.tensor([[1.2, -1.6], [1.2, 1.6], [2.0, 0.0]])
    torch.testing.assert_close(bregman.subgradient(filters, 2.0, "group"), expected)
    infinite = torch.tensor([[math.inf, 1.0], [math.nan, 1.0]])
    shrunk = bregman.prox(infinite, 1.0, "group")
    assert shrunk[0].tolist() == [math.inf, 1.0] and shrunk[1].isnan().all()
