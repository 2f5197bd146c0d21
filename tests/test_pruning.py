"""Tests of what is sparse and what is cut: numbers worked out by hand, and a smaller network that gives the same."""

import copy

import pytest
import torch
from torch import nn

from helpers import dessilbi, models, pruning

NAMES = ["features.conv1", "features.conv2", "features.conv3", "classifier.fc1", "classifier.fc2"]


class Chain(nn.Module):
    """A small network with the frame that the report's have."""

    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

    def forward(self, images):
        return self.classifier(self.features(images))


def small(batch_norm=False):
    torch.manual_seed(0)
    norm = [nn.BatchNorm2d(4)] if batch_norm else []
    return Chain(
        [nn.Conv2d(1, 4, 3, padding=1), *norm, nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU()],
        [nn.Flatten(), nn.Linear(6 * 2 * 2, 5), nn.ReLU(), nn.Linear(5, 3)],
    )


IMAGES = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------------------------ support


def fixed(model, values):
    """A DessiLBI optimizer of `model` whose Z is `values`, name → tensor."""
    optimizer = dessilbi.DessiLBI(dessilbi.param_groups(model), lr=0.1)
    for name, parameter in model.named_parameters():
        if name in values:
            optimizer.state[parameter]["z"] = values[name]
    return optimizer


def test_support_is_where_gamma_is_not_zero():
    model = small()
    filters, weights = torch.zeros(4, 1, 3, 3), torch.zeros(3, 5)
    filters[1] = 1.0  # norm 3: in; the next one lies on the unit sphere: out
    filters[2, 0, 0, 0] = 1.0
    weights[0, 1], weights[2, 4], weights[1, 1] = 1.5, -1.5, 0.9
    found = pruning.support(fixed(model, {"features.0.weight": filters, "classifier.3.weight": weights}))
    assert found["features.0.weight"].tolist() == [False, True, False, False]
    assert found["classifier.3.weight"].nonzero().tolist() == [[0, 1], [2, 4]]  # negative ones count as well
    assert not found["features.3.weight"].any() and found["features.3.weight"].shape == (6,)
    assert list(found) == ["features.0.weight", "features.3.weight", "classifier.1.weight", "classifier.3.weight"]


def test_support_without_names_is_by_position():
    model = small()
    groups = [{"params": [model.classifier[3].bias]}, {"params": [model.classifier[3].weight], "penalty": "l1"}]
    optimizer = dessilbi.DessiLBI(groups, lr=0.1)
    assert list(pruning.support(optimizer)) == ["1.0"]


def test_path_notes_norms_and_the_first_entry():
    model = small()
    weight, name = model.features[0].weight, "features.0.weight"
    optimizer, path = fixed(model, {name: torch.zeros(4, 1, 3, 3)}), pruning.Path(run_steps=8, epoch_steps=2, points=4)
    z = optimizer.state[weight]["z"]
    for step in range(9):
        if step == 3:
            z[1] = 1.0  # norm 3: Γ has norm 2
        if step == 5:
            z[1], z[3] = 0.0, 2.0  # leaves again; another enters
        path.look(optimizer, step)
    assert path.series["path_step"].tolist() == [0, 2, 4, 6, 8]
    expected = torch.zeros(5, 4)
    expected[2, 1], expected[3:, 3] = 2.0, 5.0
    torch.testing.assert_close(path.series[f"path_{name}"], expected)
    # Epochs end after steps 2, 4, 6 and 8.
    assert path.series[f"entry_{name}"].tolist() == [pruning.NEVER, 2, pruning.NEVER, 3]


def test_path_of_linear_weights_is_their_share_in_the_support():
    model, name = small(), "classifier.3.weight"
    z = torch.zeros(3, 5)
    z[0] = 2.0
    path = pruning.Path(run_steps=1, epoch_steps=1)
    path.look(fixed(model, {name: z}), 1)
    assert path.series[f"path_{name}"].tolist() == [0.0, pytest.approx(1 / 3)]
    assert (path.series[f"entry_{name}"] == 1).sum() == 5


def test_a_resumed_path_is_the_same():
    model, name = small(), "features.0.weight"
    optimizer = fixed(model, {name: torch.full((4, 1, 3, 3), 2.0)})
    whole, first, second = (pruning.Path(6, 2, points=3) for _ in range(3))
    for step in range(7):
        whole.look(optimizer, step)
        (first if step < 3 else second).look(optimizer, step)
        if step == 2:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
    for key, values in whole.series.items():
        assert torch.equal(values, second.series[key])


# ------------------------------------------------------------------------------------------ order


def test_the_authors_order_by_hand():
    model = small()
    with torch.no_grad():
        model.features[0].weight.zero_()
        model.features[0].weight[:, 0, 0, 0] = torch.tensor([0.5, 3.0, 0.1, -2.0])
    entry = {"features.0.weight": torch.tensor([1, 3, pruning.NEVER, 3])}
    order = pruning.pruning_order(model, entry)
    assert order["features.0"].tolist() == pytest.approx([-0.5, 0.0, 0.1 - pruning.NEVER, -1.0])
    assert order["classifier.3"].equal(model.classifier[3].weight.detach().abs())  # no entry known: magnitude
    assert pruning.pruning_order(model)["features.0"].tolist() == pytest.approx([0.5, 3.0, 0.1, 2.0])


def test_the_order_of_weights_that_never_entered_is_still_that_of_their_size():
    """2,000 is subtracted from weights of 1e-6: float32 would make one number of them."""
    model = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[2e-6, 1e-6]])
    order = pruning.pruning_order(model, {"0.weight": torch.full((1, 2), pruning.NEVER)})["0"]
    assert order[0, 0] > order[0, 1]


def test_what_never_entered_is_below_the_latest_that_did():
    """However large: the longest runs here have 200 epochs."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with torch.no_grad():
        model[0].weight[:, 0, 0, 0] = torch.tensor([50.0, 0.1])
    order = pruning.pruning_order(model, {"0.weight": torch.tensor([pruning.NEVER, 200])})["0"]
    assert order[0] < order[1]


@pytest.mark.parametrize("layer", [nn.Conv1d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Conv3d(1, 2, 1), nn.Linear(1, 2)])
def test_convolutions_of_any_dimension_and_linear_layers_are_pruned(layer):
    assert list(pruning.layers(nn.Sequential(layer, nn.ReLU()))) == ["0"]


# ------------------------------------------------------------------------------------------ pruning


def test_pruning_sets_the_lowest_to_zero_and_their_biases():
    model = small()
    order = {"features.0": torch.tensor([0.3, 0.1, 0.4, 0.2])}
    before = copy.deepcopy(model.state_dict())
    pruned = pruning.prune(model, order, 0.5, ["features.0"])
    zero = (pruned.features[0].weight.flatten(1) == 0).all(1)
    assert zero.tolist() == [False, True, False, True]
    assert (pruned.features[0].bias == 0).tolist() == [False, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(pruned.features[3].weight, model.features[3].weight)


def test_pruning_linear_weights_leaves_biases():
    model = small()
    order = pruning.pruning_order(model)
    pruned = pruning.prune(model, order, 0.4, ["classifier.3"])
    weights = pruned.classifier[3].weight
    assert (weights == 0).sum() == 6 and torch.equal(pruned.classifier[3].bias, model.classifier[3].bias)
    assert weights[weights != 0].abs().min() > model.classifier[3].weight[weights == 0].abs().max()


@pytest.mark.parametrize("fraction, zeros", [(0.0, 0), (0.6, 72), (0.9, 108), (1.0, 120)])
def test_a_fraction_of_lenets_conv3(fraction, zeros):
    model = models.LeNet()
    pruned = pruning.prune(model, pruning.pruning_order(model), fraction, ["features.conv3"])
    assert (pruning.units(pruned.features.conv3.weight) == 0).sum() == zeros


def test_ties_are_broken_the_same_way_every_time():
    """In order, of as many as conv3 has: sixteen or fewer stay in order on a CPU whether the sort is stable or not."""
    order = torch.tensor([1.0, 0.0]).repeat(60)  # every second filter is lowest, and of those the first thirty go
    pruned = pruning.prune(models.LeNet(), {"features.conv3": order}, 0.25, ["features.conv3"])
    zero = pruning.units(pruned.features.conv3.weight) == 0
    assert zero.nonzero()[:, 0].tolist() == list(range(1, 60, 2))


def test_elimination_takes_the_filter_that_is_missed_least_each_time():
    model, labels = small(), torch.arange(7) % 3
    loss = lambda network: nn.functional.cross_entropy(network(IMAGES), labels).item()  # noqa: E731
    order = pruning.elimination_order(model, "features.3", IMAGES, labels)
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
    order = pruning.elimination_order(model, "0", images, labels)["0"]
    assert order.argsort().tolist()[0] in (0, 1) and pruning.pruning_order(model)["0"].argmin() == 2


@pytest.mark.parametrize("name", ["classifier.1", "features.4", "conv3"])
def test_what_is_no_convolution_is_not_eliminated(name):
    with pytest.raises(ValueError, match=f"'{name}' is no convolution"):
        pruning.elimination_order(small(), name, IMAGES, torch.zeros(7, dtype=torch.int64))


def test_pruning_names_what_is_wrong():
    model = small()
    order = pruning.pruning_order(model)
    with pytest.raises(ValueError, match="fraction 1.5 is not allowed: it must be between 0 and 1"):
        pruning.prune(model, order, 1.5, ["features.0"])
    with pytest.raises(ValueError, match="'conv3' is no layer that can be pruned: there are features.0, features.3"):
        pruning.prune(model, order, 0.5, ["conv3"])


@pytest.mark.parametrize(
    "layers", [["features.conv3"], ["features.conv3", "classifier.fc1"], ["features.conv1"]], ids=str
)
def test_accuracies_are_those_of_the_pruned_models(layers):
    torch.manual_seed(0)
    model = models.LeNet()
    images, labels = torch.rand(1500, 1, 28, 28), torch.randint(10, (1500,))
    order, fractions = pruning.pruning_order(model), (0.0, 0.3, 0.95)
    found = pruning.pruned_accuracies(model, order, fractions, layers, images, labels)
    for fraction, accuracy in zip(fractions, found.tolist()):
        pruned = pruning.prune(model, order, fraction, layers)
        assert accuracy == pytest.approx((pruned(images).argmax(1) == labels).double().mean().item())
    assert model.training


# ------------------------------------------------------------------------------------------ masks


def test_masks_have_the_parameters_shapes_and_take_biases_along():
    model = models.LeNet()
    filters, weights = torch.zeros(120, dtype=torch.bool), torch.zeros(84, 120, dtype=torch.bool)
    filters[[3, 7]], weights[5, 6] = True, True
    masks = pruning.masks(model, {"features.conv3.weight": filters, "classifier.fc1.weight": weights})
    assert set(masks) == {"features.conv3.weight", "features.conv3.bias", "classifier.fc1.weight"}
    assert masks["features.conv3.weight"].flatten(1).sum(1).nonzero().flatten().tolist() == [3, 7]
    assert masks["features.conv3.bias"].nonzero().flatten().tolist() == [3, 7]
    assert masks["classifier.fc1.weight"].nonzero().tolist() == [[5, 6]]


def test_shuffled_masks_keep_as_many():
    kept = {"a": torch.arange(50) < 10, "b": torch.arange(40).view(8, 5) < 7}
    once, again, other = (pruning.shuffled(kept, seed) for seed in (0, 0, 1))
    for name in kept:
        assert once[name].shape == kept[name].shape and once[name].sum() == kept[name].sum()
        assert torch.equal(once[name], again[name]) and not torch.equal(once[name], other[name])


# ------------------------------------------------------------------------------------------ what is left


def test_multiply_adds_of_lenet_by_hand():
    by_hand = [28 * 28 * 6 * 25, 10 * 10 * 16 * 150, 120 * 400, 120 * 84, 84 * 10]
    assert pruning.multiply_adds(models.LeNet(), (1, 28, 28)) == by_hand


def test_multiply_adds_without_those_by_zeros_of_the_padding_by_hand():
    # 3×3 over 4×4 with a border of 1: along a side 2 places see 2 pixels and 2 see 3. Every second place: one of each.
    for stride, met in ((1, 10 * 10), (2, 5 * 5)):
        model = nn.Sequential(nn.Conv2d(2, 6, 3, stride, padding=1, groups=2), nn.Flatten(), nn.LazyLinear(3))
        model(torch.zeros(1, 2, 4, 4))
        *_, last = whole = pruning.multiply_adds(model, (2, 4, 4))
        assert whole[0] == (16 if stride == 1 else 4) * 9 * 6
        assert pruning.multiply_adds(model, (2, 4, 4), padding=False) == [met * 6, last]


def test_multiply_adds_of_vgg_are_the_known_153_million():
    assert sum(pruning.multiply_adds(models.VGG(), (3, 32, 32))) == pytest.approx(153e6, rel=0.01)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.8, 1.0])
def test_a_compact_lenet_gives_the_same(fraction):
    torch.manual_seed(0)
    model = models.LeNet()
    order = pruning.pruning_order(model)
    pruned = pruning.prune(model, order, fraction, NAMES[:3])
    smaller, images = pruning.compact(pruned), torch.rand(20, 1, 28, 28)
    torch.testing.assert_close(smaller(images), pruned(images), rtol=0, atol=1e-5)
    left = max(1, 120 - round(fraction * 120))
    assert smaller.features.conv3.weight.shape[0] == left == smaller.classifier.fc1.in_features
    assert smaller.features.conv3.out_channels == left
    if fraction:
        assert models.count_parameters(smaller) < models.count_parameters(pruned)


def test_sizes_of_what_is_left_by_hand():
    model = models.LeNet().eval()
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    whole, half = pruning.sizes(model, pruning.pruning_order(model), (0.0, 0.5), ["features.conv3"], images)
    assert (whole["parameters"], whole["multiply_adds"]) == (61706, 1)
    # 60 filters of 16·5·5 weights and a bias each, and 60 inputs of each of 84 units.
    assert half["parameters"] == 61706 - 60 * 401 - 60 * 84 and 0 < half["multiply_adds"] < 1
    assert whole["apart"] == 0 and half["apart"] < 1e-5


def test_sizes_tell_a_smaller_network_that_gives_something_else(monkeypatch):
    model, images = models.LeNet().eval(), torch.rand(3, 1, 28, 28)
    shifted = copy.deepcopy(model)
    with torch.no_grad():
        shifted.classifier.fc2.bias[4] += 0.25
    monkeypatch.setattr(pruning, "compact", lambda cut: shifted)
    (found,) = pruning.sizes(model, pruning.pruning_order(model), (0.0,), ["features.conv3"], images)
    assert found["apart"] == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_compact_vgg_gives_the_same(batch_norm):
    torch.manual_seed(0)
    model = models.VGG(batch_norm=batch_norm)
    for stage in model.features:  # as after some training: running statistics and shifts of either sign
        if isinstance(stage, nn.BatchNorm2d):
            nn.init.normal_(stage.running_mean, std=0.1)
            nn.init.normal_(stage.bias, std=0.1)
    convolutions = [name for name, layer in pruning.layers(model).items() if layer.weight.ndim == 4]
    pruned = pruning.prune(model, pruning.pruning_order(model), 0.5, convolutions).eval()
    smaller, images = pruning.compact(pruned), torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(smaller(images), pruned(images), rtol=1e-5, atol=1e-5)
    assert models.count_parameters(smaller) < (0.75 if batch_norm else 0.35) * models.count_parameters(pruned)


def test_a_filter_that_batch_norm_makes_a_constant_of_is_kept():
    model = small(batch_norm=True).eval()
    with torch.no_grad():
        model.features[0].weight[[1, 2]] = 0
        model.features[0].bias[[1, 2]] = 0
        model.features[1].bias[1], model.features[1].bias[2] = 0.5, -0.5
    smaller = pruning.compact(model)
    assert len(smaller.features[0].weight) == 3  # the one below zero is cut by ReLU
    torch.testing.assert_close(smaller(IMAGES), model(IMAGES))


NORM, RELU = nn.BatchNorm2d(4), nn.ReLU()


@pytest.mark.parametrize(
    "between, left",
    [
        ([RELU, NORM], 4),  # batch norm makes a constant of the zeros that ReLU gives
        ([NORM, RELU], 3),
        ([NORM, RELU, nn.BatchNorm2d(4)], 4),
        ([nn.BatchNorm2d(4, affine=False), RELU], 4),
        ([nn.BatchNorm2d(4), NORM, RELU], 3),
    ],
    ids=str,
)
def test_what_becomes_of_zeros_is_followed_layer_by_layer(between, left):
    model = copy.deepcopy(Chain([nn.Conv2d(1, 4, 3), *between, nn.Conv2d(4, 2, 3), RELU],
                                [nn.Flatten(), nn.Linear(2 * 16, 3)])).eval()  # fmt: skip
    with torch.no_grad():
        for stage in model.features:
            if isinstance(stage, nn.BatchNorm2d):
                stage.running_mean[:] = torch.tensor([0.0, 0.1, -0.1, 0.2])
                if stage.affine:
                    stage.bias[:] = torch.tensor([0.1, 0.1, -0.5, 0.1])
        model.features[0].weight[2], model.features[0].bias[2] = 0, 0
    smaller = pruning.compact(model)
    torch.testing.assert_close(smaller(IMAGES), model(IMAGES))
    assert smaller.features[0].out_channels == left == smaller.features[len(between) + 1].in_channels
    assert all(stage.num_features == left for stage in smaller.features if isinstance(stage, nn.BatchNorm2d))


@pytest.mark.parametrize(
    "stages, reason",
    [
        ([nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2)], "a convolution in groups"),
        ([nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)], "batch norm without running statistics"),
    ],
)
def test_a_layer_that_has_no_smaller_form_is_named(stages, reason):
    with pytest.raises(ValueError, match=f"{reason} can't be made smaller: "):
        pruning.compact(Chain(stages, [nn.Flatten(), nn.Linear(64, 3)]))


def test_a_filter_takes_all_its_flattened_inputs_along():
    """Six maps of 2×2 are flattened to 24 inputs: those of a map that is cut lie side by side."""
    model = small()
    pruned = pruning.prune(model, {"features.3": torch.tensor([5.0, 0, 4, 1, 3, 6])}, 1 / 3, ["features.3"])
    smaller = pruning.compact(pruned)
    assert smaller.classifier[1].in_features == 4 * 4
    torch.testing.assert_close(smaller(IMAGES), pruned(IMAGES))


def test_linear_units_are_cut_too():
    model = small()
    with torch.no_grad():
        model.classifier[1].weight[2] = 0
        model.classifier[1].bias[2] = -1.0
    smaller = pruning.compact(model)
    assert smaller.classifier[1].weight.shape == (4, 24) and smaller.classifier[3].in_features == 4
    torch.testing.assert_close(smaller(IMAGES), model(IMAGES))


def test_what_a_linear_layer_gives_is_flattened_moment_by_moment():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4, 2))  # at each of three moments
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, 0
    smaller, series = pruning.compact(model), torch.rand(6, 3, 5)
    assert smaller[3].in_features == 3 * 3
    torch.testing.assert_close(smaller(series), model(series))


@pytest.mark.parametrize("stages", [
    [nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Linear(8, 3)],  # along the length, not over the channels
    [nn.Linear(8, 4), nn.Conv1d(2, 3, 3)],
    [nn.Linear(8, 5), nn.Flatten(), nn.Linear(12, 3)],
])  # fmt: skip
def test_inputs_that_are_not_the_outputs_before_them_are_refused(stages):
    with pytest.raises(ValueError, match="can't be made smaller: its inputs are other things"):
        pruning.compact(nn.Sequential(*stages))


def test_what_is_frozen_stays_frozen_in_the_compact_network():
    model = small(batch_norm=True).eval()
    model.features[0].weight.requires_grad_(False)
    model.features[1].bias.requires_grad_(False)
    model.classifier[3].weight.requires_grad_(False)
    smaller = dict(pruning.compact(model).named_parameters())
    assert {name for name, parameter in smaller.items() if not parameter.requires_grad} == {
        "features.0.weight", "features.1.bias", "classifier.3.weight"
    }  # fmt: skip


def test_a_network_that_is_no_chain_is_refused():
    with pytest.raises(ValueError, match="a Residual can't be made smaller: the network must be a chain of layers"):
        pruning.compact(models.MyResNet9())
    with pytest.raises(
        ValueError, match="a Bilinear is no chain: give a Sequential, or a model of features, classifier"
    ):
        pruning.compact(nn.Bilinear(2, 2, 2))
    twice = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="a Linear that is gone through twice can't be made smaller"):
        pruning.compact(nn.Sequential(twice, nn.ReLU(), twice))


def test_summary_by_hand():
    model = small()
    everything = pruning.summary(model, (1, 8, 8))
    assert everything == {"filters": 1.0, "weights": 1.0, "multiply_adds": 1.0}
    pruned = pruning.prune(model, {"features.0": torch.arange(4.0)}, 0.5, ["features.0"])
    weights = 4 * 9 + 6 * 4 * 9 + 5 * 24 + 3 * 5
    first, second, rest = 4 * 9 * 64, 6 * 4 * 9 * 4, 5 * 24 + 3 * 5
    assert pruning.summary(pruned, (1, 8, 8)) == {
        "filters": pytest.approx(8 / 10),
        "weights": pytest.approx((weights - 18) / weights),
        "multiply_adds": pytest.approx((first / 2 + second / 2 + rest) / (first + second + rest)),
    }


def test_summary_of_linear_layers_alone():
    model = Chain([nn.Flatten()], [nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2)])
    with torch.no_grad():
        model.classifier[0].weight[0], model.classifier[0].bias[0] = 0, 0
    left = 3 * 66 / (4 * 66)
    assert pruning.summary(model, (1, 8, 8)) == {
        "filters": 1.0, "weights": pytest.approx(1 - 64 / 264), "multiply_adds": pytest.approx(left)
    }  # fmt: skip


def test_nothing_changes_the_model_it_is_given():
    model = small(batch_norm=True)
    before = copy.deepcopy(model.state_dict())
    pruning.summary(model, (1, 8, 8))
    pruning.compact(model)
    pruning.multiply_adds(model, (1, 8, 8))
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_part_that_is_frozen_stays_in_its_mode():
    model = small(batch_norm=True)
    model.features[1].eval()
    order, labels = pruning.pruning_order(model), torch.zeros(7, dtype=torch.int64)
    pruning.multiply_adds(model, (1, 8, 8))
    pruning.pruned_accuracies(model, order, (0.0, 0.5), ["features.4"], IMAGES, labels)
    assert [module.training for module in model.features] == [True, False, True, True, True, True]
    with pytest.raises(RuntimeError):  # images of two channels
        pruning.pruned_accuracies(model, order, (0.5,), ["features.4"], IMAGES.expand(-1, 2, -1, -1), labels)
    assert [module.training for module in model.features] == [True, False, True, True, True, True] and model.training


# ------------------------------------------------------------------------------------------ what is not allowed


@pytest.mark.parametrize("name", ["_orig_mod.features.0.weight", "0.0", "features.0.bias"])
def test_an_entry_of_something_else_is_no_pruning_order(name):
    with pytest.raises(ValueError, match=f"entry is of {name}, which the model doesn't have: it has features.0, fe"):
        pruning.pruning_order(small(), {"features.0.weight": torch.ones(4), name: torch.ones(4)})


def test_a_weight_that_is_computed_is_not_pruned_in_vain():
    model = small()
    torch.nn.utils.parametrizations.weight_norm(model.features[0])
    with pytest.raises(ValueError, match="the weight of 'features.0' is computed from other parameters"):
        pruning.prune(model, {"features.0": torch.arange(4.0)}, 0.5, ["features.0"])
