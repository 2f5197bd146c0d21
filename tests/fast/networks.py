"""What the tests of `fast` train: each network and a changed copy of it."""

import copy

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from helpers import models

HOOKS = ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
         "register_full_backward_pre_hook"]  # fmt: skip
layouts = st.sampled_from([torch.contiguous_format, torch.channels_last])
NETWORKS = {
    "LeNet": ("LeNet", {}), "MyNet": ("MyNet", {}), "MyNet, tanh": ("MyNet", {"activation": "tanh"}),
    "MyResNet9": ("MyResNet9", {}), "MyResNet9, 5": ("MyResNet9", {"block_kernel": 5}),
    "VGG": ("VGG", {"batch_norm": False}), "VGG + BN": ("VGG", {}),
}  # fmt: skip
networks = pytest.mark.parametrize("name, options", NETWORKS.values(), ids=NETWORKS)


def two(name, options, change):
    """A model, and a copy of it that is changed."""
    torch.manual_seed(0)
    model = models.build(name, **options)
    changed = copy.deepcopy(model)
    change(changed)
    return model, changed


def images_for(name, count=6):
    shape = (1, 28, 28) if name == "LeNet" else (3, 32, 32)
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def trained(model, images, steps=2):
    """Losses of some steps of SGD, and the gradients of the last."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.01), []
    torch.manual_seed(2)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(images), torch.arange(len(images)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: parameter.grad for name, parameter in model.named_parameters()}
