"""Tests of torch's optimizers over rows: they make the same steps, and copy no gradient."""

import copy

import pytest
import torch
from torch import nn

from helpers import dessilbi, models
from helpers.fast.optimizers import SGD, Adam
from tests.fast.networks import images_for, two

OPTIMIZERS = {
    "SGD": (torch.optim.SGD, SGD, {"momentum": 0.9, "weight_decay": 1e-3}),
    "Adam": (torch.optim.Adam, Adam, {}),
}
optimizers = pytest.mark.parametrize("kind, ours, options", OPTIMIZERS.values(), ids=OPTIMIZERS)


def learned(model, optimizer, steps=3):
    """The model's parameters after some steps."""
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images_for("MyNet")), torch.arange(6)).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@optimizers
def test_an_optimizer_over_rows_makes_the_same_steps(kind, ours, options, memory_format):
    model, changed = (each.to(memory_format=memory_format) for each in two("MyNet", {}, lambda model: None))
    one, other = (make(each.parameters(), lr=0.01, fused=True, **options)
                  for make, each in ((kind, model), (ours, changed)))  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(learned(model, one), learned(changed, other), strict=True))
    other.load_state_dict(copy.deepcopy(one.state_dict()))  # what torch's own has saved, it goes on from
    assert all(torch.equal(a, b) for a, b in zip(learned(model, one), learned(changed, other), strict=True))


@pytest.mark.parametrize("make", [
    lambda model: SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True),
    lambda model: Adam(model.parameters(), lr=0.1, fused=True),
    lambda model: dessilbi.DessiLBI(dessilbi.param_groups(model), lr=0.1),
    lambda model: dessilbi.DessiLBIAdam(dessilbi.param_groups(model), lr=0.1),
], ids=["SGD", "Adam", "DessiLBI", "DessiLBIAdam"])  # fmt: skip
def test_no_gradient_is_copied(make):
    model = models.build("MyNet").to(memory_format=torch.channels_last)
    optimizer = make(model)
    learned(model, optimizer, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiled:
        optimizer.step()
    copied = [event.input_shapes[0] for event in profiled.events() if event.name in ("aten::clone", "aten::copy_")]
    assert not [shape for shape in copied if shape]  # but Adam's counters


def test_what_has_no_gradient_stays_as_it_is():
    one, other = (nn.Conv2d(16, 4, 3).to(memory_format=torch.channels_last).weight for _ in range(2))
    optimizer, before = SGD([one, other], lr=0.1, fused=True), [one.clone(), other.clone()]
    one.grad = torch.ones_like(one)
    optimizer.step()
    assert torch.equal(other, before[1]) and not torch.equal(one, before[0])
    optimizer.zero_grad()
    optimizer.step()
    assert one.grad is None and torch.equal(other, before[1])


@optimizers
def test_a_step_that_torch_compiles_is_the_same(kind, ours, options):
    model, changed = (each.to(memory_format=torch.channels_last) for each in two("MyNet", {}, lambda model: None))
    one, other = (ours(each.parameters(), lr=0.01, fused=True, **options) for each in (model, changed))
    other.step = torch.compile(other.step, backend="eager")
    assert all(torch.equal(a, b) for a, b in zip(learned(model, one), learned(changed, other), strict=True))


def test_a_gradient_may_lie_otherwise_than_its_weight():
    weight = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last).weight  # 3 × 3 × 3 in any order
    gradient, before = torch.randn(4, 3, 3, 3), weight.detach().clone()
    for grad in (gradient, gradient.to(memory_format=torch.channels_last)):
        optimizer, weight.grad = SGD([weight], lr=1.0, fused=True), grad
        optimizer.step()
        torch.testing.assert_close(weight.detach(), before - gradient)
        weight.data.copy_(before)


# ------------------------------------------------------------------------------------------ a state that doesn't fit


def state_of(kind, model):
    """The state of an optimizer of torch's own after a step."""
    optimizer = kind(model.parameters(), lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


OTHERS = {
    "fewer numbers": nn.Conv2d(4, 7, 3), "more numbers": nn.Conv2d(4, 80, 3), "another shape": nn.Conv2d(8, 4, 3),
    "other sides": nn.Conv2d(4, 8, (9, 1)), "another kind": nn.Linear(36, 8),
    "another layout": nn.Conv2d(4, 8, 3),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@optimizers
def test_a_state_of_another_model_is_refused_before_any_step(kind, ours, options, other):
    model = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    optimizer = ours(model.parameters(), lr=0.1, fused=True, **options)
    with pytest.raises(ValueError, match=r"^the state's .* isn't that of parameter 0 \[8, 4, 3, 3\]: it is of another"):
        optimizer.load_state_dict(state_of(kind, other))


DAMAGES = {
    "one number for all": ("exp_avg", lambda value: torch.zeros(1).expand(8)),
    "every other": ("exp_avg_sq", lambda value: torch.zeros(16)[::2]), "no tensor": ("exp_avg", lambda value: [0.0]),
    "no step": ("step", lambda value: torch.zeros(0)), "a step each": ("step", lambda value: torch.zeros(8)),
}  # fmt: skip


@pytest.mark.parametrize("name, damage", DAMAGES.values(), ids=DAMAGES)
def test_a_state_that_is_damaged_is_refused_before_any_step(name, damage):
    model = nn.Linear(4, 8)
    state = state_of(torch.optim.Adam, model)
    state["state"][1][name] = damage(state["state"][1][name])
    with pytest.raises(ValueError, match=rf"^the state's {name} .* isn't that of parameter 1 \[8\]"):
        Adam(model.parameters(), lr=0.1, fused=True).load_state_dict(state)
