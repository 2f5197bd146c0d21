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
    optimizer.zero_grad(set_to_none=False)
    assert not one.grad.any() and other.grad is None
    optimizer.zero_grad()
    optimizer.step()
    assert one.grad is None and torch.equal(other, before[1])
