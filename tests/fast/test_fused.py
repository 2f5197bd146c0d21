"""Tests of batch norm, pool and ReLU as one compiled pass: it computes what torch's layers do, or leaves it to them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import models
from helpers.fast import engine, fused
from tests.fast.networks import HOOKS, images_for, networks, trained, two
from tests.test_dessilbi import needs_compiler
from tests.test_training import FUSED, MYNET, begin

pytestmark = needs_compiler


def chain(*layers, dtype=torch.float64):
    """A chain of layers, with a batch norm's parameters of both signs, and the same fused."""
    plain = nn.Sequential(*layers)
    torch.manual_seed(0)
    for layer in plain:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    plain.to(dtype)
    changed = copy.deepcopy(plain)
    fused.fuse(changed)
    return plain, changed


def maps(n=3, c=32, h=4, w=6, dtype=torch.float64, seed=0):
    values = torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (values + 3).to(dtype, memory_format=torch.channels_last)


def passed(layers, x, backward=None):
    """Output, gradient of the input, gradients of the parameters and buffers, all by name."""
    x = x.clone().requires_grad_()
    y = layers(x)
    eighths = torch.arange(y.numel()).remainder(17).sub(8).div(8).view(y.shape)  # exact in bfloat16
    y.backward(eighths.to(y.dtype) if backward is None else backward)
    gradients = {name: parameter.grad for name, parameter in layers.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **gradients, **dict(layers.named_buffers())}


def kernels(call) -> int:
    """How often the compiled forward pass was called."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        call()
    return sum(event.name == "fused::forward" for event in profiled.events())


# ------------------------------------------------------------------------------------------ the same function


def norm(c):
    return nn.BatchNorm2d(c)


CHAINS = {
    "norm, pool, ReLU": lambda c: [norm(c), nn.MaxPool2d(2), nn.ReLU()], "norm, ReLU": lambda c: [norm(c), nn.ReLU()],
    "pool, ReLU": lambda c: [nn.MaxPool2d(2), nn.ReLU()],
    "twice": lambda c: [norm(c), nn.ReLU(), norm(c), nn.MaxPool2d(2), nn.ReLU()],
}  # fmt: skip
half = st.integers(1, 4)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(CHAINS)), half, st.sampled_from([32, 64, 96]), half, half, st.integers(0, 9))
def test_one_pass_computes_what_the_layers_do(name, n, c, h, w, seed):
    plain, changed = chain(*CHAINS[name](c))
    x = maps(n, c, 2 * h, 2 * w, seed=seed)
    expected, found = passed(plain, x), passed(changed, x)
    assert list(found) == list(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", CHAINS)
def test_it_is_the_compiled_pass_that_does_so(name):
    _, changed = chain(*CHAINS[name](32))
    assert kernels(lambda: changed(maps())) == (2 if name == "twice" else 1)


def test_by_hand():
    # γ 1, β 0; of one channel the mean is 1 and the variance 4, so that x̂ is (x − 1)/2: -1, -1, 1, 1 in the one window.
    x = torch.tensor([-1.0, -1.0, 3.0, 3.0]).view(1, 1, 2, 2).repeat(1, 32, 1, 1).to(memory_format=torch.channels_last)
    layers = [nn.BatchNorm2d(32, eps=0), nn.MaxPool2d(2), nn.ReLU()]
    changed = nn.Sequential(*layers)
    fused.fuse(changed)
    found = passed(changed, x, torch.ones(1, 32, 1, 1))
    assert (found["y"] == 1).all() and (found["0.weight"] == 1).all() and (found["0.bias"] == 1).all()
    # The first of two equal values gets the gradient 1/2 · (1 − 1/4 − x̂/4); the others 1/2 · (0 − 1/4 − x̂/4).
    assert torch.equal(found["x"][0, 7].flatten(), torch.tensor([0.0, 0.0, 0.25, -0.25]))
    assert (found["0.running_mean"] == 0.1).all() and (found["0.num_batches_tracked"] == 1).all()
    torch.testing.assert_close(found["0.running_var"], torch.full((32,), 0.9 + 0.1 * 4 * 4 / 3))


@pytest.mark.parametrize("name", ["norm, pool, ReLU", "norm, ReLU", "pool, ReLU"])
def test_in_bfloat16_only_results_are_rounded(name):
    exact, _ = chain(*CHAINS[name](64))
    _, changed = chain(*CHAINS[name](64), dtype=torch.float32)
    x = maps(8, 64, dtype=torch.bfloat16)
    expected, found = passed(exact, x.double()), passed(changed, x)
    assert found["y"].dtype == found["x"].dtype == torch.bfloat16
    for key, value in expected.items():
        assert (found[key].double() - value).norm() < 0.004 * value.double().norm(), key
    for key in "yx":  # to nearest: cut off, half of them would differ
        assert (found[key] == expected[key].bfloat16()).double().mean() > 0.98, key


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("name", ["norm, pool, ReLU", "pool, ReLU"])
def test_what_is_not_a_number_stays_so(name, place):
    _, changed = chain(*CHAINS[name](32))
    x = maps(1, 32, 2, 2)
    x.view(1, 32, 4)[0, 5, place] = float("nan")
    y = changed(x)
    assert y[0, 5].isnan().all() and not y[0, 6].isnan().any()


def test_threads_change_no_bit():
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            _, changed = chain(*CHAINS["twice"](64), dtype=torch.float32)
            results.append(passed(changed, maps(16, 64, 8, 8, torch.float32)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(results[0].values(), results[1].values(), strict=True))


def test_a_second_derivative_is_refused_rather_than_wrong():
    for name in ("norm, ReLU", "pool, ReLU"):
        _, changed = chain(*CHAINS[name](32))
        x = maps().requires_grad_()
        (gradient,) = torch.autograd.grad(changed(x).square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()


# ------------------------------------------------------------------------------------------ in a network


def prepare(model):
    engine.pool_first(model)
    model.double().to(memory_format=torch.channels_last)


@networks
def test_a_network_learns_the_same(name, options):
    model, changed = two(name, options, lambda model: None)
    for each in (model, changed):
        prepare(each)
    fused.fuse(changed)
    images = images_for(name, 4).double().to(memory_format=torch.channels_last)
    (losses, gradients), (others, theirs) = (trained(each, images) for each in (model, changed))
    assert losses == pytest.approx(others, rel=1e-9)
    for name, gradient in gradients.items():
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name, options, passes", [
    ("MyNet", {}, 2), ("MyNet", {"kernels": (3, 3)}, 1), ("MyNet", {"activation": "tanh"}, 0), ("MyResNet9", {}, 8),
    ("VGG", {}, 8), ("VGG", {"batch_norm": False}, 5), ("LeNet", {}, 0),
])  # fmt: skip
def test_so_many_passes_a_network_has(name, options, passes):
    model = models.build(name, **options)
    prepare(model)
    fused.fuse(model)
    images = images_for(name, 4).double().to(memory_format=torch.channels_last)
    assert kernels(lambda: model(images)) == passes


@networks
def test_fusing_keeps_all_names_and_layers(name, options):
    model, changed = two(name, options, fused.fuse)
    assert list(changed.state_dict()) == list(model.state_dict())
    assert all(isinstance(layer, type(model.get_submodule(name))) for name, layer in changed.named_modules())


NORM, POOL = CHAINS["norm, ReLU"], CHAINS["pool, ReLU"]
LEFT = {  # what is left to torch: layers, what is done to the first of them, maps
    "evaluation": (NORM, lambda layer: layer.eval(), maps()), "few channels": (NORM, lambda layer: None, maps(c=8)),
    "no statistics": (NORM, lambda layer: setattr(layer, "track_running_stats", False), maps()),
    "a mean over all batches": (NORM, lambda layer: setattr(layer, "momentum", None), maps()),
    "another layout": (NORM, lambda layer: None, maps().contiguous()),
    "an odd side": (POOL, lambda layer: None, maps(h=5)),
    "windows that overlap": (POOL, lambda layer: setattr(layer, "stride", 1), maps()),
    "another kind of number": (POOL, lambda layer: None, maps(dtype=torch.float16)),
}  # fmt: skip


@pytest.mark.parametrize("layers, change, x", LEFT.values(), ids=LEFT)
def test_the_rest_is_left_to_torch(layers, change, x):
    plain, changed = chain(*layers(x.shape[1]))
    change(plain[0]), change(changed[0])
    outputs = []
    assert kernels(lambda: outputs.append(changed(x))) == 0
    assert torch.equal(outputs[0], plain(x))


@pytest.mark.parametrize("listened", range(3))
@pytest.mark.parametrize("hook", HOOKS)
def test_a_layer_that_is_listened_to_is_called(listened, hook):
    _, changed = chain(nn.BatchNorm2d(32), nn.MaxPool2d(2), nn.ReLU())
    heard = []
    getattr(changed[listened], hook)(lambda module, *given: heard.append(module))
    changed(maps().requires_grad_()).sum().backward()
    assert heard == [changed[listened]]


def test_one_value_a_channel_is_refused_as_by_torch():
    _, changed = chain(nn.BatchNorm2d(32), nn.ReLU())
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        changed(maps(1, 32, 1, 1))


# ------------------------------------------------------------------------------------------ what doesn't fit


def fitting(operator):
    """What an operator is given for two maps of 3 channels, 4 × 6, in windows of 2."""
    x, each = maps(2, 3, 4, 6, torch.float32), torch.ones(3)
    gradient = maps(2, 3, 2, 3, torch.float32)
    return {"moments": {"x": x, "about": each}, "forward": {"x": x, "scale": each, "shift": each, "k": 2},
            "sums": {"x": x, "scale": each, "shift": each, "k": 2, "gradient": gradient},
            "backward": {"x": x, "scale": each, "shift": each, "k": 2, "gradient": gradient, "a": each, "b": each},
            }[operator]  # fmt: skip


OPERATORS = {"moments": ["about"], "forward": ["scale", "shift"], "sums": ["scale", "shift"],
             "backward": ["scale", "shift", "a", "b"]}  # fmt: skip
WRONG_MAPS = {
    "dimensions": lambda x: x[0], "layout": lambda x: x.contiguous(), "device": lambda x: x.to("meta"),
    "no layout": lambda x: x[:, :, ::2],
}  # fmt: skip
WRONG_CHANNELS = {
    "fewer": lambda each: each[:2], "precision": lambda each: each.double(), "apart": lambda each: torch.ones(6)[::2],
    "dimensions": lambda each: each[None], "device": lambda each: each.to("meta"),
}  # fmt: skip
WRONG_GRADIENTS = {
    "fewer maps": lambda x: x[:1], "smaller": lambda x: maps(2, 3, 2, 2, x.dtype), "precision": lambda x: x.double(),
    "layout": lambda x: x.contiguous(), "of no pool": lambda x: maps(2, 3, 4, 6, x.dtype),
}  # fmt: skip


def refused(operator, name, change, said):
    """That the operator refuses what is changed, in a line, and takes it as it was."""
    call, right = getattr(fused.kernel(), operator), fitting(operator)
    call(*right.values())
    with pytest.raises(RuntimeError, match=said) as raised:
        call(*(right | {name: change(right[name])}).values())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", WRONG_MAPS.values(), ids=WRONG_MAPS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_maps_that_do_not_fit_are_refused(operator, change):
    refused(operator, "x", change, r"x must be maps \(N, C, H, W\) on the CPU, channels-last in memory")


@pytest.mark.parametrize("change", WRONG_CHANNELS.values(), ids=WRONG_CHANNELS)
@pytest.mark.parametrize("operator, name", [(each, name) for each, names in OPERATORS.items() for name in names])
def test_numbers_for_other_channels_are_refused(operator, name, change):
    refused(operator, name, change, "for 3 channels in Float there must be as many numbers in Float")


@pytest.mark.parametrize("change", WRONG_GRADIENTS.values(), ids=WRONG_GRADIENTS)
@pytest.mark.parametrize("operator", ["sums", "backward"])
def test_gradients_of_other_maps_are_refused(operator, change):
    refused(operator, "gradient", change, "the gradient .* doesn't fit maps")


@pytest.mark.parametrize("operator", ["forward", "sums", "backward"])
def test_windows_that_do_not_tile_are_refused(operator):
    refused(operator, "k", lambda k: 3, "windows have a side of 1 or 2, not 3")
    refused(operator, "k", lambda k: 0, "windows have a side of 1 or 2, not 0")
    refused(operator, "x", lambda x: maps(2, 3, 3, 6, x.dtype), "windows of 2 by 2 don't tile maps of")


def test_numbers_of_another_kind_are_refused():
    refused("forward", "x", lambda x: x.to(torch.int32), "for 3 channels in Int there must be as many numbers in Int")


# ------------------------------------------------------------------------------------------ in a run


def test_an_engine_that_is_fused(tiny):
    trainer, batches = begin(MYNET, tiny, FUSED)
    images, labels = batches(0)
    assert kernels(lambda: trainer.step_on(trainer.engine.place(images), labels)) == 2
