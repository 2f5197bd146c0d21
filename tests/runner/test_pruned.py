"""Tests of accuracies with filters and weights set to zero, and of the order that elimination gives."""

import pytest
import torch
from torch import nn

from helpers import models, pruning
from helpers.runner import pruned
from tests.test_pruning import IMAGES, small

LABELS = torch.zeros(7, dtype=torch.int64)


def test_elimination_takes_the_filter_that_is_missed_least_each_time():
    model, labels = small(), torch.arange(7) % 3
    loss = lambda network: nn.functional.cross_entropy(network(IMAGES), labels).item()  # noqa: E731
    order = pruned.elimination_order(model, "features.3", IMAGES, labels)
    assert list(order) == ["features.3"] and model.training
    left, gone = set(range(6)), order["features.3"].argsort().tolist()
    for unit in gone:  # literally: each candidate cut out beside what went before
        without = {each: torch.tensor([float(other in left - {each}) for other in range(6)]) for each in left}
        losses = {each: loss(pruning.prune(model, {"features.3": kept}, 1 - (len(left) - 1) / 6, ["features.3"]))
                  for each, kept in without.items()}  # fmt: skip
        assert losses[unit] == pytest.approx(min(losses.values()), rel=1e-6)
        left.remove(unit)
    assert gone != pruning.pruning_order(model)["features.3"].argsort().tolist()


def test_elimination_sees_that_one_filter_does_what_another_does():
    """Two equal filters, the largest of all: one of them can go at no cost, since the other is counted twice."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2, bias=False))
    images, labels = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1), torch.tensor([0, 1])
    with torch.no_grad():
        model[0].weight[:, 0, 0, 0], model[0].bias[:] = torch.tensor([9.0, 9.0, -1.0]), 0
        model[3].weight[:] = torch.tensor([[9.0, 9.0, 0.0], [0.0, 0.0, 5.0]])
    order = pruned.elimination_order(model, "0", images, labels)["0"]
    assert order.argsort().tolist()[0] in (0, 1) and pruning.pruning_order(model)["0"].argmin() == 2


@pytest.mark.parametrize("name", ["classifier.1", "features.4", "conv3"])
def test_what_is_no_convolution_is_not_eliminated(name):
    with pytest.raises(ValueError, match=f"'{name}' is no convolution"):
        pruned.elimination_order(small(), name, IMAGES, torch.zeros(7, dtype=torch.int64))


@pytest.mark.parametrize(
    "layers", [["features.conv3"], ["features.conv3", "classifier.fc1"], ["features.conv1"]], ids=str
)
def test_accuracies_are_those_of_the_pruned_models(layers):
    torch.manual_seed(0)
    model = models.LeNet()
    images, labels = torch.rand(1500, 1, 28, 28), torch.randint(10, (1500,))
    order, fractions = pruning.pruning_order(model), (0.0, 0.3, 0.95)
    found = pruned.pruned_accuracies(model, order, fractions, layers, images, labels)
    for fraction, accuracy in zip(fractions, found.tolist()):
        cut = pruning.prune(model, order, fraction, layers)
        assert accuracy == pytest.approx((cut(images).argmax(1) == labels).double().mean().item())
    assert model.training


def test_shuffled_masks_keep_as_many():
    kept = {"a": torch.arange(50) < 10, "b": torch.arange(40).view(8, 5) < 7}
    once, again, other = (pruned.shuffled(kept, seed) for seed in (0, 0, 1))
    for name in kept:
        assert once[name].shape == kept[name].shape and once[name].sum() == kept[name].sum()
        assert torch.equal(once[name], again[name]) and not torch.equal(once[name], other[name])


@pytest.mark.parametrize("names", [[], ["classifier"], ["features.0", "conv3"]])
def test_accuracies_are_of_layers_that_the_chain_has(names):
    model, labels = small(), torch.zeros(7, dtype=torch.int64)
    with pytest.raises(ValueError, match="layers .* are not allowed: give one at least of features.0, "):
        pruned.pruned_accuracies(model, pruning.pruning_order(model), (0.5,), names, IMAGES, labels)


def test_a_part_that_is_frozen_stays_in_its_mode():
    model = small(batch_norm=True)
    model.features[1].eval()
    order, labels = pruning.pruning_order(model), torch.zeros(7, dtype=torch.int64)
    pruning.multiply_adds(model, IMAGES)
    pruned.pruned_accuracies(model, order, (0.0, 0.5), ["features.4"], IMAGES, labels)
    assert [module.training for module in model.features] == [True, False, True, True, True, True]
    with pytest.raises(RuntimeError):  # images of two channels
        pruned.pruned_accuracies(model, order, (0.5,), ["features.4"], IMAGES.expand(-1, 2, -1, -1), labels)
    assert [module.training for module in model.features] == [True, False, True, True, True, True] and model.training


@pytest.mark.parametrize("lazy", [nn.LazyLinear(2), nn.LazyBatchNorm1d()])
def test_a_lazy_chain_is_refused_in_words(lazy):
    model = nn.Sequential(nn.Flatten(), lazy)
    for call in (lambda: pruned.elimination_order(model, "1", IMAGES, LABELS),
                 lambda: pruned.pruned_accuracies(model, {}, (0.5,), ["1"], IMAGES, LABELS)):  # fmt: skip
        with pytest.raises(ValueError, match="lazy layers has no weights yet: call it on a batch first"):
            call()
