"""Tests of convolution, pool and ReLU of few channels as one compiled pass: it computes what the layers do."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.fast import build, engine, fused, narrow
from tests.fast.networks import HOOKS, images_for, trained, two
from tests.test_dessilbi import needs_compiler
from tests.test_training import FUSED, LENET, begin

pytestmark = needs_compiler


def eighths(*shape, seed=0):
    """Of such numbers sums of products are exact in float32, so that none of two equal ones is the larger by chance."""
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return numbers.mul(8).round().clamp(-8, 8).div(8)


def chain(*channels, kernel=3, padding=0):
    """Convolutions from each number of channels to the next, with pool and ReLU; and the same, fused."""
    plain = nn.Sequential(*[
        layer for inputs, outputs in zip(channels, channels[1:])
        for layer in (nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.MaxPool2d(2), nn.ReLU())
    ])  # fmt: skip
    with torch.no_grad():
        for seed, parameter in enumerate(plain.parameters()):
            parameter.copy_(eighths(*parameter.shape, seed=seed))
    changed = copy.deepcopy(plain)
    fused.fuse(changed)
    return plain, changed


def images(n=3, c=2, h=10, w=8):
    return eighths(n, c, h, w, seed=100)


def passed(layers, x, gradient=None):
    """Output, and the gradients of input and parameters, by name."""
    x = x.clone().requires_grad_()
    y = layers(x)
    y.backward(eighths(*y.shape, seed=200).to(y.dtype) if gradient is None else gradient)
    return {"y": y.detach(), "x": x.grad, **{name: each.grad for name, each in layers.named_parameters()}}


def passes(call) -> int:
    """How often the compiled forward pass was called."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        call()
    return sum(event.name == "narrow::forward" for event in profiled.events())


# ------------------------------------------------------------------------------------------ the same function


half = st.integers(1, 5)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(1, 13), st.integers(1, 16), half, half,
       st.sampled_from([(k, padding) for k in narrow.KERNELS for padding in range(k)]))  # fmt: skip
def test_one_pass_computes_what_the_layers_do(n, c, o, h, w, shape):
    kernel, padding = shape
    sides = [2 * outputs + kernel - 1 - 2 * padding for outputs in (h, w)]
    sides = [side if side > 0 else side + 2 * padding for side in sides]  # of a map that is nothing but padding
    plain, changed = chain(c, o, kernel=kernel, padding=padding)
    x = images(n, c, *sides)
    assert narrow.leading(list(plain), x) == 3
    expected, found = passed(plain.double(), x.double()), passed(changed, x)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key].double(), value), key


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32, 100])
def test_a_chain_of_two(count):
    plain, changed = chain(1, 6, 16, kernel=5, padding=2)
    x = images(count, 1, 16, 12)
    expected, found = passed(plain.double(), x.double()), passed(changed, x)
    for key, value in expected.items():
        assert (found[key] - value).norm() < 1e-6 * value.norm(), key
    assert passes(lambda: changed(x)) == 2


def test_by_hand():
    """A filter of ones over a map of 4 × 4: sums of 9, of which the largest goes on."""
    _, changed = chain(1, 1)
    with torch.no_grad():
        changed[0].weight.fill_(1), changed[0].bias.fill_(-1)
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 3, 0] = 5  # seen by the third window of four alone
    found = passed(changed, x, torch.full((1, 1, 1, 1), 2.0))
    assert found["y"].item() == 4 and found["0.bias"].item() == 2
    assert found["x"][0, 0].tolist() == [[0, 0, 0, 0], [2, 2, 2, 0], [2, 2, 2, 0], [2, 2, 2, 0]]
    assert found["0.weight"][0, 0].tolist() == [[0, 0, 0], [0, 0, 0], [10, 0, 0]]


def test_of_equal_numbers_the_first_gets_the_gradient_and_of_nothing_none():
    plain, changed = chain(1, 2)
    for each in (plain, changed):
        with torch.no_grad():
            each[0].weight.fill_(1)
            each[0].bias.copy_(torch.tensor([1.0, -9.0]))  # the second stays at 0, exactly
    x = torch.ones(2, 1, 4, 4)
    expected, found = passed(plain, x), passed(changed, x)
    assert found["y"].tolist() == [[[[10.0]], [[0.0]]]] * 2
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("place", range(4))
def test_what_is_not_a_number_stays_so(place):
    _, changed = chain(1, 3)
    x = images(20, 1, 4, 4)
    x[7].view(16)[[0, 3, 12, 15][place]] = float("nan")  # in a corner, so that one window of four sees it
    bad = changed(x).isnan()
    assert bad[7].all() and bad.sum() == 3


def test_threads_change_no_bit():
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            _, changed = chain(3, 6, 8, kernel=5, padding=2)
            results.append(passed(changed, images(70, 3, 8, 8)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(results[0].values(), results[1].values(), strict=True))


def test_autocast_leaves_it_in_float32():
    _, changed = chain(1, 6)
    x = images(4, 1)
    expected = passed(changed, x)
    changed.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = passed(changed, x)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_images_and_weights_may_lie_in_any_order():
    _, changed = chain(3, 6)
    expected = passed(changed, images(c=3))
    changed.zero_grad()
    changed.to(memory_format=torch.channels_last)
    found = passed(changed, images(c=3).to(memory_format=torch.channels_last))
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_second_derivative_is_refused_rather_than_wrong():
    _, changed = chain(2, 3)
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(changed(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("frozen", ["images", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(frozen):
    _, changed = chain(2, 3)
    leaves = {"images": images().requires_grad_(), "weight": changed[0].weight, "bias": changed[0].bias}
    leaves[frozen].requires_grad_(False)
    changed(leaves["images"]).sum().backward()
    assert [name for name, leaf in leaves.items() if leaf.grad is None] == [frozen]


# ------------------------------------------------------------------------------------------ in a network


def test_lenet_learns_the_same():
    model, changed = two("LeNet", {}, engine.pool_first)
    fused.fuse(changed)
    (losses, gradients), (others, theirs) = (trained(each, images_for("LeNet", 40)[:10]) for each in (model, changed))
    assert losses == pytest.approx(others, rel=1e-5)
    for name, gradient in gradients.items():
        assert (theirs[name] - gradient).norm() < 1e-4 * gradient.norm(), name


def test_an_engine_that_is_fused(tiny_digits):
    trainer, batches = begin(LENET, tiny_digits, FUSED)
    batch, labels = batches(0)
    assert passes(lambda: trainer.step_on(trainer.engine.place(batch), labels)) == 2


def change(place, **options):
    return lambda layers: [setattr(layers[place], name, value) for name, value in options.items()]


LEFT = {  # what is left to torch: what is done to the layers, and images
    "strides": (change(0, stride=(2, 2)), images(h=12, w=12)), "dilation": (change(0, dilation=(2, 2)), images()),
    "other padding": (change(0, padding_mode="circular"), images()), "no bias": (change(0, bias=None), images()),
    "double precision": (lambda layers: layers.double(), images().double()), "an odd side": (change(0), images(h=9)),
    "windows that overlap": (change(1, stride=1), images()), "padding in a pool": (change(1, padding=1), images()),
    "another pool": (change(1, kernel_size=4, stride=4), images()), "no images": (change(0), images(n=0)),
}  # fmt: skip


@pytest.mark.parametrize("make, x", LEFT.values(), ids=LEFT)
def test_the_rest_is_left_to_torch(make, x):
    plain, changed = chain(2, 3)
    make(plain), make(changed)
    outputs = []
    assert passes(lambda: outputs.append(changed(x))) == 0
    assert torch.equal(outputs[0], plain(x))


@pytest.mark.parametrize("layers", [
    [nn.Conv2d(2, 3, 7), nn.MaxPool2d(2), nn.ReLU()], [nn.Conv2d(2, 3, (3, 5)), nn.MaxPool2d(2), nn.ReLU()],
    [nn.Conv2d(2, 3, 3, padding=3), nn.MaxPool2d(2), nn.ReLU()], [nn.Conv2d(2, 32, 3), nn.MaxPool2d(2), nn.ReLU()],
    [nn.Conv2d(2, 2, 3, groups=2), nn.MaxPool2d(2), nn.ReLU()], [nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Tanh()],
    [nn.Conv2d(2, 3, 3), nn.ReLU()], [nn.Conv2d(2, 3, 3, padding="same"), nn.MaxPool2d(2), nn.ReLU()],
], ids=str)  # fmt: skip
def test_so_are_other_layers(layers):
    assert narrow.leading(layers, images(h=16, w=16)) == 0


def test_without_a_compiler_all_is(monkeypatch):
    def missing():
        raise build.CompilerError("needs a C++ compiler")

    plain, changed = chain(2, 3)
    with monkeypatch.context() as patch:
        patch.setattr(narrow, "kernel", missing)
        assert narrow.leading(list(plain), images()) == 0 and torch.equal(changed(images()), plain(images()))
    assert narrow.leading(list(plain), images()) == 3


@pytest.mark.parametrize("listened", range(3))
@pytest.mark.parametrize("hook", HOOKS)
def test_a_layer_that_is_listened_to_is_called(listened, hook):
    _, changed = chain(2, 3)
    heard = []
    getattr(changed[listened], hook)(lambda module, *given: heard.append(module))
    changed(images().requires_grad_()).sum().backward()
    assert heard == [changed[listened]]


# ------------------------------------------------------------------------------------------ what doesn't fit


def fitting(operator):
    """What an operator is given for one block of 4 × 6 maps of 2 channels, 3 filters and a zero around."""
    lanes = narrow.kernel().lanes()
    x, pooled = torch.zeros(1, 2, 4, 6, lanes), torch.zeros(1, 3, 2, 3, lanes)
    if operator == "forward":
        return {"x": x, "weight": torch.zeros(3, 2, 3, 3), "bias": torch.zeros(3), "by": 1}
    return {
        "gradient": pooled,
        "places": pooled.int(),
        "x": x,
        "turned": torch.zeros(2, 3, 3, 3),
        "by": 1,
        "of_x": True,
    }


ZEROS = torch.zeros
WRONG = {  # an operator, what is changed of what fits, and what is said
    "lanes": ("forward", {"x": ZEROS(1, 2, 4, 6, 5)}, "maps must be blocks of images"),
    "dimensions": ("forward", {"x": ZEROS(2, 4, 6, 16)}, "maps must be blocks of images"),
    "precision": ("forward", {"x": lambda x: x.double()}, "maps must be .* in Float on the CPU, contiguous"),
    "layout": ("forward", {"x": lambda x: x.transpose(2, 3)}, "maps must be .* contiguous"),
    "device": ("forward", {"x": lambda x: x.to("meta")}, "maps must be .* on the CPU"),
    "an odd side": ("forward", {"x": lambda x: x[:, :, :3].contiguous()}, "don't tile 3 outputs along a side"),
    "channels": ("forward", {"weight": ZEROS(3, 1, 3, 3)}, r"weight must be \[3, 2, 3, 3\] .* not \[3, 1, 3, 3\]"),
    "side": ("forward", {"weight": ZEROS(3, 2, 4, 4)}, "filters must be of 3 by 3 or 5 by 5"),
    "two sides": ("forward", {"weight": ZEROS(3, 2, 5, 3)}, r"weight must be \[3, 2, 3, 3\]"),
    "no filters": ("forward", {"weight": ZEROS(3)}, "filters must be of 3 by 3 or 5 by 5"),
    "bias": ("forward", {"bias": ZEROS(2)}, r"bias must be \[3\] in Float"),
    "zeros": ("forward", {"by": 3}, "between 0 and 2 zeros around, not 3"),
    "fewer zeros": ("forward", {"by": -1}, "between 0 and 2 zeros around, not -1"),
    "gradient": ("backward", {"gradient": lambda x: x[:, :, :1].contiguous()}, "gradient must be"),
    "gradient's blocks": ("backward", {"gradient": lambda x: torch.cat([x, x])}, "gradient must be"),
    "places": ("backward", {"places": lambda x: x.float()}, "places must be .* in Int"),
    "fewer places": ("backward", {"places": lambda x: x[:, :1].contiguous()}, "places must be"),
    "turned weights": ("backward", {"turned": ZEROS(3, 2, 3, 3)}, r"turned weights must be \[2, 3, 3, 3\]"),
}  # fmt: skip


@pytest.mark.parametrize("operator, changed, said", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_in_a_line(operator, changed, said):
    call, right = getattr(narrow.kernel(), operator), fitting(operator)
    call(*right.values())
    wrong = {name: value(right[name]) if callable(value) else value for name, value in changed.items()}
    with pytest.raises(RuntimeError, match=said) as raised:
        call(*(right | wrong).values())
    assert "\n" not in str(raised.value)
