"""Tests of what is sparse and what is cut: numbers worked out by hand, and a smaller network that gives the same."""

import ast
import copy
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torchvision
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


def test_the_file_can_be_copied_alone():
    """It needs nothing but torch and torch-pruning."""
    names = set()
    for node in ast.walk(ast.parse(Path(pruning.__file__).read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(getattr(node, "module", None) or alias.name).partition(".")[0] for alias in node.names}
    assert names - sys.stdlib_module_names == {"torch", "torch_pruning"}


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


def test_the_support_of_units_is_one_number_a_unit_and_leads_to_masks():
    model = small()
    optimizer = dessilbi.DessiLBI(dessilbi.param_groups(model, linear="group"), lr=0.1)
    weight = model.classifier[1].weight
    optimizer.state[weight]["z"] = torch.zeros_like(weight)
    optimizer.state[weight]["z"][[1, 3]] = 2.0
    entry = {}
    pruning.note_entry(entry, optimizer, 1)
    kept = pruning.support(optimizer)["classifier.1.weight"]
    assert kept.tolist() == [False, True, False, True, False]
    order = pruning.pruning_order(model, entry)
    assert order["classifier.1"].argsort().tolist()[:3] == sorted([0, 2, 4], key=lambda i: weight[i].norm().item())
    pruned = pruning.prune(model, order, 0.6, ["classifier.1"])
    assert (pruned.classifier[1].bias == 0).tolist() == (~kept).tolist()
    assert pruning.compact(pruned, IMAGES).classifier[1].out_features == 2


def test_entries_are_expected_by_hand():
    """(1 − ‖Z‖) ν/(α ‖W‖), of filters by norm, of numbers one by one."""
    model = small()
    optimizer = dessilbi.DessiLBI(dessilbi.param_groups(model), lr=0.1, mu=3)
    filters, weights = model.features[0].weight, model.classifier[3].weight
    with torch.no_grad():
        filters.zero_()[1:3, 0, 0, 0] = torch.tensor([0.5, -2.0])
        weights.zero_()[0, :3] = torch.tensor([0.5, -2.0, 1.0])
    optimizer.state[filters]["z"], optimizer.state[weights]["z"] = torch.zeros(4, 1, 3, 3), torch.zeros(3, 5)
    optimizer.state[filters]["z"][2, 0, 1, 1], optimizer.state[filters]["z"][3] = 0.75, 9.0
    optimizer.state[weights]["z"][0, 1] = -1.5
    found = pruning.expected_entry(optimizer)
    assert found["features.0.weight"].tolist() == pytest.approx([float("inf"), 60.0, 3.75, 0.0])
    assert found["classifier.3.weight"][0].tolist() == pytest.approx([60.0, 0.0, 30.0, *[float("inf")] * 2])


def test_the_input_channels_of_a_transposed_convolution_take_no_bias_along():
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 2))
    masks = pruning.masks(model, {"0.weight": torch.tensor([True, False, True])})
    assert set(masks) == {"0.weight"} and masks["0.weight"].flatten(1).any(1).tolist() == [True, False, True]


def test_entries_are_noted_once():
    model = small()
    z = {"features.0.weight": torch.zeros(4, 1, 3, 3), "classifier.3.weight": torch.zeros(3, 5)}
    optimizer, entry = fixed(model, z), {}
    filters, weights = z.values()
    for epoch in range(1, 5):
        if epoch == 2:
            filters[1], weights[0] = 1.0, -2.0
        if epoch == 3:
            filters[1], filters[3] = 0.0, 2.0  # leaves again; another enters
        pruning.note_entry(entry, optimizer, epoch)
    assert entry["features.0.weight"].tolist() == [pruning.NEVER, 2, pruning.NEVER, 3]
    assert entry["classifier.3.weight"].tolist() == [[2] * 5, [pruning.NEVER] * 5, [pruning.NEVER] * 5]
    assert pruning.pruning_order(model, entry)["features.0"].argsort().tolist()[2:] == [3, 1]


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


CONVOLUTIONS = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]


@pytest.mark.parametrize("layer", [*(kind(1, 2, 1) for kind in CONVOLUTIONS), nn.Linear(1, 2)], ids=str)
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


def test_the_batch_norm_behind_a_filter_goes_with_it():
    model = trained(models.MyResNet9()).eval()
    pruned = pruning.prune(model, pruning.pruning_order(model), 0.5, ["features.0", "features.7.3"])
    for layer, norm in ((pruned.features[0], pruned.features[1]), (pruned.features[7][3], pruned.features[7][4])):
        zero = pruning.units(layer.weight) == 0
        assert zero.sum() == len(zero) / 2 and (layer.bias == 0).equal(zero)
        assert (norm.weight == 0).equal(zero) and (norm.bias == 0).equal(zero)
        channels = norm(layer(torch.randn(2, layer.in_channels, 8, 8, dtype=torch.float64)))
        assert (channels == 0).all(3).all(2).all(0).equal(zero)
    assert (pruned.features[4].bias != 0).all() and (model.features[1].bias != 0).all()


def test_a_batch_norm_that_is_not_behind_the_filter_stays():
    """Its channels are those of a sum; beside it, one that is used twice."""
    norm, twice = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    block = models.Residual(nn.Conv2d(4, 4, 1))
    model = nn.Sequential(block, norm, nn.Conv2d(4, 4, 1), twice, nn.Conv2d(4, 4, 1), twice)
    pruned = pruning.prune(model, pruning.pruning_order(model), 0.5, ["0.0", "2"])
    assert (pruned[1].weight == 1).all() and (pruned[3].weight == 1).all() and (pruned[2].weight == 0).any()


def test_a_model_that_fx_cannot_follow_is_pruned_but_for_the_batch_norm():
    layers = dict(a=nn.Conv2d(1, 4, 3), b=nn.BatchNorm2d(4))
    model = Forward(lambda m, x: m.b(m.a(x)) if x.sum() > 0 else x, **layers)
    with pytest.warns(UserWarning, match="stays as it is, since torch.fx can't follow a Forward: "):
        pruned = pruning.prune(model, {"a": torch.arange(4.0)}, 0.5, ["a"])
    assert (pruned.a.weight[:2] == 0).all() and (pruned.b.weight == 1).all()


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


def test_pruning_names_what_is_wrong():
    model = small()
    order = pruning.pruning_order(model)
    with pytest.raises(ValueError, match="fraction 1.5 is not allowed: it must be between 0 and 1"):
        pruning.prune(model, order, 1.5, ["features.0"])
    with pytest.raises(ValueError, match="'conv3' is no layer that can be pruned: there are features.0, features.3"):
        pruning.prune(model, order, 0.5, ["conv3"])


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


def test_masks_take_the_batch_norm_along_as_pruning_does():
    torch.manual_seed(0)
    model, order = small(batch_norm=True), {"features.0": torch.tensor([0.3, 0.1, 0.4, 0.2])}
    masks = pruning.masks(model, {"features.0.weight": torch.tensor([True, False, True, False])})
    assert set(masks) == {"features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"}
    pruned = pruning.prune(model, order, 0.5, ["features.0"])
    for name, value in pruned.named_parameters():
        assert torch.equal(value, dict(model.named_parameters())[name] * masks.get(name, 1))


def test_a_mask_of_something_else_is_refused():
    with pytest.raises(ValueError, match="'conv1.weight' is no parameter of the model: it has features.0.weight, feat"):
        pruning.masks(small(), {"conv1.weight": torch.ones(4)})


def test_a_weight_that_two_layers_share_is_pruned_by_either_name():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1))
    model[1].weight = model[0].weight
    pruned = pruning.prune(model, {"1": torch.tensor([1.0, 0.0])}, 0.5, ["1"])
    assert pruned[0].weight is pruned[1].weight and (pruned[0].weight[1] == 0).all() and (pruned[1].bias[1] == 0).all()


# ------------------------------------------------------------------------------------------ what is left


def test_multiply_adds_of_lenet_by_hand():
    by_hand = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 120 * 400 + 120 * 84 + 84 * 10
    assert pruning.multiply_adds(models.LeNet(), torch.zeros(1, 1, 28, 28)) == by_hand


def test_multiply_adds_of_grouped_convolutions_by_hand():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 2, 3))
    assert pruning.multiply_adds(model, torch.zeros(1, 4, 6, 6)) == 16 * 8 * 2 * 9 + 4 * 8 * 9 + 4 * 8 * 2 * 9


def test_multiply_adds_of_attention_by_hand_in_evaluation_mode_too():
    """5 moments of 16: in, q·k, weights·v, out, and the two layers behind; torch's fused path would hide them."""
    by_hand = 5 * 16 * 48 + 2 * 5 * 5 * 16 + 5 * 16 * 16 + 2 * 5 * 16 * 32
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    assert pruning.multiply_adds(model, torch.zeros(1, 5, 16)) == by_hand
    assert torch.backends.mha.get_fastpath_enabled()


def test_multiply_adds_of_vgg_are_the_known_153_million():
    assert pruning.multiply_adds(models.VGG(), torch.zeros(1, 3, 32, 32)) == pytest.approx(153e6, rel=0.01)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.8, 1.0])
def test_a_compact_lenet_gives_the_same(fraction):
    torch.manual_seed(0)
    model = models.LeNet()
    order = pruning.pruning_order(model)
    pruned = pruning.prune(model, order, fraction, NAMES[:3])
    images = torch.rand(20, 1, 28, 28)
    with warnings.catch_warnings(action="error"):  # that one filter stays is none
        smaller = pruning.compact(pruned, images[:2])
    torch.testing.assert_close(smaller(images), pruned(images), rtol=0, atol=1e-5)
    left = max(1, 120 - round(fraction * 120))
    assert smaller.features.conv3.weight.shape[0] == left == smaller.classifier.fc1.in_features
    assert smaller.features.conv3.out_channels == left
    if fraction:
        assert models.count_parameters(smaller) < models.count_parameters(pruned)


def test_what_is_left_by_hand():
    model = models.LeNet().eval()
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    pruned = pruning.prune(model, pruning.pruning_order(model), 0.5, ["features.conv3"])
    before, after = pruning.compare(pruned, pruning.compact(pruned, images), images, repeats=2)
    # 60 filters of 16·5·5 weights and a bias each, and 60 inputs of each of 84 units.
    assert (before["parameters"], after["parameters"]) == (61706, 61706 - 60 * 401 - 60 * 84)
    whole = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 120 * 400 + 120 * 84 + 84 * 10
    assert (before["multiply_adds"], after["multiply_adds"]) == (3 * whole, 3 * (whole - 60 * 400 - 60 * 84))
    assert before["milliseconds"] > 0 and after["milliseconds"] > 0 and after["apart"] < 1e-5


def test_two_networks_that_give_something_else_are_apart():
    model, images = models.LeNet(), torch.rand(3, 1, 28, 28)
    shifted = copy.deepcopy(model)
    with torch.no_grad():
        shifted.classifier.fc2.bias[4] += 0.25
    assert pruning.compare(model, shifted, images, repeats=1)[1]["apart"] == pytest.approx(0.25, abs=1e-5)
    assert model.training and shifted.training


def test_a_filter_that_batch_norm_makes_a_constant_of_is_kept():
    model = small(batch_norm=True).eval()
    with torch.no_grad():
        model.features[0].weight[[1, 2]] = 0
        model.features[0].bias[[1, 2]] = 0
        model.features[1].bias[1], model.features[1].bias[2] = 0.5, -0.5
    with pytest.warns(UserWarning, match=r"1 of 'features.0' \(a bias or a batch norm makes constants of them\)$"):
        smaller = pruning.compact(model, IMAGES)
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
    with warnings.catch_warnings(action="ignore"):
        smaller = pruning.compact(model, IMAGES)
    torch.testing.assert_close(smaller(IMAGES), model(IMAGES))
    assert smaller.features[0].out_channels == left == smaller.features[len(between) + 1].in_channels
    assert all(stage.num_features == left for stage in smaller.features if isinstance(stage, nn.BatchNorm2d))


def test_a_filter_takes_all_its_flattened_inputs_along():
    """Six maps of 2×2 are flattened to 24 inputs: those of a map that is cut lie side by side."""
    model = small()
    pruned = pruning.prune(model, {"features.3": torch.tensor([5.0, 0, 4, 1, 3, 6])}, 1 / 3, ["features.3"])
    smaller = pruning.compact(pruned, IMAGES)
    assert smaller.classifier[1].in_features == 4 * 4
    torch.testing.assert_close(smaller(IMAGES), pruned(IMAGES))


def test_linear_units_are_cut_too():
    model = small()
    with torch.no_grad():
        model.classifier[1].weight[2] = 0
        model.classifier[1].bias[2] = -1.0
    smaller = pruning.compact(model, IMAGES)
    assert smaller.classifier[1].weight.shape == (4, 24) and smaller.classifier[3].in_features == 4
    torch.testing.assert_close(smaller(IMAGES), model(IMAGES))


def test_what_is_frozen_stays_frozen_in_the_compact_network():
    model = small(batch_norm=True).eval()
    model.features[0].weight.requires_grad_(False)
    model.features[1].bias.requires_grad_(False)
    model.classifier[3].weight.requires_grad_(False)
    smaller = dict(pruning.compact(model, IMAGES).named_parameters())
    assert {name for name, parameter in smaller.items() if not parameter.requires_grad} == {
        "features.0.weight", "features.1.bias", "classifier.3.weight"
    }  # fmt: skip


def test_nothing_changes_the_model_it_is_given():
    model = pruning.prune(small(batch_norm=True), {"features.0": torch.arange(4.0)}, 0.5, ["features.0"])
    model.features[1].eval().bias.requires_grad_(False)
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    smaller = pruning.compact(model, IMAGES)
    pruning.multiply_adds(model, IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes == [m.training for m in smaller.modules()]
    assert not model.features[1].bias.requires_grad and model.features[0].weight.requires_grad
    assert smaller.features[0].out_channels == 2 and not any(module._forward_hooks for module in smaller.modules())


# ------------------------------------------------------------------------------------------ from any network


def trained(model):
    """As after some training, in float64: running statistics, scales and shifts of either sign."""
    for module in model.double().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


def resnext():
    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], groups=8, width_per_group=8)


NETWORKS = {  # network → shape of an image, at most that share of its parameters left with half of the filters pruned
    "LeNet": (models.LeNet, (1, 28, 28), 0.31),
    "MyNet": (models.MyNet, (3, 32, 32), 0.5),
    "MyResNet9": (models.MyResNet9, (3, 32, 32), 0.4),
    "VGG": (models.VGG, (3, 32, 32), 0.3),
    "VGG without batch norm": (lambda: models.VGG(batch_norm=False), (3, 32, 32), 0.3),
    "ResNet-18": (torchvision.models.resnet18, (3, 64, 64), 0.5),
    "MobileNetV2, depthwise": (torchvision.models.mobilenet_v2, (3, 64, 64), 0.6),
    "ResNeXt, grouped": (resnext, (3, 64, 64), 0.6),
    "MobileNetV3, gated": (lambda: torchvision.models.mobilenet_v3_small(num_classes=10), (3, 64, 64), 0.45),
    "DenseNet, concatenated": (lambda: torchvision.models.DenseNet(8, (2, 2), 16), (3, 64, 64), 0.9),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:filters and units of zero")
def test_the_smaller_network_gives_what_the_pruned_one_gives(name):
    torch.manual_seed(0)
    build, shape, share = NETWORKS[name]
    model, images = trained(build()).eval(), torch.randn(2, *shape, dtype=torch.float64)
    convolutions = [name for name, layer in pruning.layers(model).items() if layer.weight.ndim == 4]
    pruned = pruning.prune(model, pruning.pruning_order(model), 0.5, convolutions)
    smaller = pruning.compact(pruned, torch.randn(1, *shape, dtype=torch.float64))
    assert models.count_parameters(smaller) <= share * models.count_parameters(model)
    assert pruning.multiply_adds(smaller, images) < pruning.multiply_adds(model, images)
    with torch.no_grad():
        expected = pruned(images)
        assert (smaller(images) - expected).abs().max() < 1e-5 * min(1, expected.abs().max())


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformers_hidden_units_are_cut(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first).double().eval()
    series = torch.randn(3, 5, 16, dtype=torch.float64)
    with torch.no_grad():
        layer.linear1.weight[::2], layer.linear1.bias[::2] = 0, 0
        layer.linear1.weight[1], layer.linear1.bias[1] = 0, 0.5  # a constant
    with pytest.warns(UserWarning, match=r"zero that can't be cut out: 1 of 'linear1' \(a bias or a batch norm makes"):
        smaller = pruning.compact(layer, series[:1])
    assert smaller.linear1.out_features == smaller.linear2.in_features == 16
    torch.testing.assert_close(smaller(series), layer(series))
    with torch.no_grad():  # torch's fused path
        torch.testing.assert_close(smaller(series), layer(series))


def test_units_of_attention_that_stay_are_told():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).double().eval()
    series = torch.randn(3, 5, 16, dtype=torch.float64)
    with torch.no_grad():
        layer.self_attn.in_proj_weight[[0, 20, 40]] = 0
    with pytest.warns(UserWarning, match=r"3 of 'self_attn.in_proj_weight' \(all heads of attention are of one size\)"):
        torch.testing.assert_close(pruning.compact(layer, series[:1])(series), layer(series))


def test_what_is_added_up_is_cut_where_all_of_it_is_zero():
    torch.manual_seed(0)
    block = models.Residual(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    model = nn.Sequential(nn.Conv2d(1, 4, 3), block, nn.Conv2d(4, 2, 3)).double()
    with torch.no_grad():
        for layer, filters in ((model[0], [0, 1]), (block[0], [1, 2])):
            layer.weight[filters], layer.bias[filters] = 0, 0
    with pytest.warns(UserWarning) as told:
        smaller = pruning.compact(model, IMAGES.double())
    assert smaller[0].out_channels == smaller[1][0].out_channels == smaller[2].in_channels == 3
    torch.testing.assert_close(smaller(IMAGES.double()), model(IMAGES.double()))
    why = "(the layers that take them in get what others give there as well)"
    assert f"1 of '0' {why}" in str(told[0].message) and f"1 of '1.0' {why}" in str(told[0].message)


def test_a_filter_that_sees_only_channels_of_zero_goes_with_them():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    emptied(model[0], 0, 1)
    with torch.no_grad():
        model[2].weight[3, 2:], model[2].bias[3] = 0, 0
    smaller = pruning.compact(model, IMAGES)
    assert smaller[2].weight.shape[:2] == (3, 2) and smaller[4].in_channels == 3
    torch.testing.assert_close(smaller(IMAGES), model(IMAGES))


def test_what_is_not_pruned_is_not_searched(monkeypatch):
    monkeypatch.setattr(pruning.torch_pruning.DependencyGraph, "get_pruning_group", lambda *_: pytest.fail("searched"))
    assert models.count_parameters(pruning.compact(models.LeNet(), torch.rand(1, 1, 28, 28))) == 61706


def test_zero_on_the_example_is_not_zero_on_all_inputs():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight[0], model[0].bias[:] = -1, 0
    smaller = pruning.compact(model, torch.ones(1, 2))
    assert smaller[0].out_features == 3
    torch.testing.assert_close(smaller(-torch.ones(1, 2)), model(-torch.ones(1, 2)))


@pytest.mark.parametrize(
    "groups, filters, left",
    [(1, [0, 1, 5], 5), (2, [0, 5], 6), (2, [0, 1, 7], 6), (2, [0, 1], 8), (4, [0, 3, 4, 7], 4), (8, [2, 3], 6),
     (2, [*range(8)], 2)],
)  # fmt: skip
def test_each_group_of_a_convolution_loses_inputs_of_its_own(groups, filters, left):
    torch.manual_seed(0)
    grouped = nn.Conv2d(8, 8, 3, groups=groups)
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), grouped, nn.ReLU(), nn.Conv2d(8, 2, 1)).double()
    with torch.no_grad():
        model[0].weight[filters], model[0].bias[filters] = 0, 0
        if groups == 8:
            model[2].bias[filters] = 0  # else a constant
    with warnings.catch_warnings(action="ignore"):
        smaller = pruning.compact(model, IMAGES.double())
    assert smaller[2].in_channels == left and smaller[2].weight.shape[1] == left // smaller[2].groups
    torch.testing.assert_close(smaller(IMAGES.double()), model(IMAGES.double()))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Conv1d(2, 4, 3), (2, 8)),
        (nn.Conv3d(2, 4, 3), (2, 4, 4, 5)),
        (nn.ConvTranspose2d(2, 4, 3), (2, 3, 3)),
        (nn.Linear(2, 4), (2,)),
    ],
)
def test_layers_of_any_dimension_are_cut_before_what_is_flattened(layer, shape):
    torch.manual_seed(0)
    inputs = torch.rand(2, *shape)
    model = nn.Sequential(copy.deepcopy(layer), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    model(inputs)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    with torch.no_grad():
        (model[0].weight.transpose(0, 1) if transposed else model[0].weight)[1], model[0].bias[1] = 0, 0
    smaller = pruning.compact(model, inputs)
    assert smaller[3].in_features == 3 * model[3].in_features // 4
    torch.testing.assert_close(smaller(inputs), model(inputs))


# ------------------------------------------------------------------------------------------ transposed convolutions


def zero_outputs(layer, *outputs):
    """Of a transposed convolution, whose outputs lie along the second dimension of its weight, group by group."""
    first, second = len(layer.weight) // layer.groups, layer.out_channels // layer.groups
    with torch.no_grad():
        for output in outputs:
            group = output // second
            layer.weight[first * group : first * (group + 1), output % second] = 0
            layer.bias[output] = 0
    return layer


def around(dimensions, groups, outputs=8):
    """A transposed convolution, with three convolutions of so many dimensions around it, and what they take in."""
    torch.manual_seed(0)
    plain, transposed = CONVOLUTIONS[dimensions - 1], CONVOLUTIONS[dimensions + 2]
    between = [nn.ReLU(), transposed(8, outputs, 3, stride=2, padding=1, groups=groups), nn.ReLU()]
    return nn.Sequential(plain(2, 8, 1), *between, plain(outputs, 2, 1)).double(), torch.randn(2, 2, *[4] * dimensions)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize(
    "groups, outputs, left",
    [(1, [1, 5, 6], 5), (2, [0, 6], 6), (2, [0, 1, 7], 6), (2, [0, 1], 8), (4, [0, 3, 4, 7], 4)],
)
def test_outputs_of_a_transposed_convolution_are_cut(dimensions, groups, outputs, left):
    model, inputs = around(dimensions, groups)
    zero_outputs(model[2], *outputs)
    with warnings.catch_warnings(record=True, action="always") as told:
        smaller = pruning.compact(model, inputs.double()[:1])
    assert smaller[2].weight.shape[:2] == (8, left // groups) and len(smaller[2].bias) == left
    assert smaller[2].out_channels == left == smaller[4].in_channels
    stay, words = len(outputs) - (8 - left), [str(each.message).partition(": ")[2] for each in told]
    assert words == [f"{stay} of '2' (each group of a convolution must lose as many)"] * (stay > 0)
    torch.testing.assert_close(smaller(inputs.double()), model(inputs.double()))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_inputs_of_a_transposed_convolution_are_cut_with_the_layer_before(dimensions, groups):
    """They are the groups of DessiLBI's penalty; what the layer before makes of them is not zero."""
    model, inputs = around(dimensions, groups)
    kept = torch.ones(8, dtype=torch.bool).index_fill(0, torch.tensor([0, 3, 4, 7]), False)
    optimizer = fixed(model, {"2.weight": 9.0 * kept.view(8, *[1] * (dimensions + 1)).expand_as(model[2].weight)})
    assert pruning.support(optimizer)["2.weight"].equal(kept)
    pruned = pruning.prune(model, {"2": kept.double()}, 0.5, ["2"])
    smaller = pruning.compact(pruned, inputs.double()[:1])
    assert smaller[0].out_channels == len(smaller[2].weight) == smaller[2].in_channels == 4
    torch.testing.assert_close(smaller(inputs.double()), pruned(inputs.double()))


def test_a_depthwise_transposed_convolution_goes_with_its_inputs():
    model, inputs = around(2, 8)
    with torch.no_grad():
        model[2].weight[[2, 5]], model[2].bias[[2, 5]] = 0, 0
    with warnings.catch_warnings(action="error"):
        smaller = pruning.compact(model, inputs.double())
    assert smaller[0].out_channels == smaller[2].groups == smaller[4].in_channels == 6
    torch.testing.assert_close(smaller(inputs.double()), model(inputs.double()))


def test_a_decoder_is_cut_by_the_support_as_it_is_by_hand():
    """With batch norm, and what the encoder makes beside what the decoder does."""
    torch.manual_seed(0)
    layers = dict(a=nn.Conv2d(1, 4, 3), b=nn.Sequential(nn.ConvTranspose2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU()),
                  c=nn.ConvTranspose2d(6, 4, 1), d=nn.ConvTranspose2d(8, 1, 3))  # fmt: skip
    model = trained(Forward(decode, **layers)).eval()
    kept = {"b.0.weight": [1, 0, 1, 1], "c.weight": [1, 1, 0, 0, 1, 0], "d.weight": [1, 0, 1, 0, 1, 0, 1, 1]}
    with torch.no_grad():
        for name, filters in kept.items():
            model.get_parameter(name)[~torch.tensor(filters, dtype=torch.bool)] = 0
    smaller = pruning.compact(model, IMAGES.double()[:1])
    assert smaller.a.weight.shape[:2] == (3, 1)  # its second channel is taken in by neither b nor d
    assert smaller.b[0].weight.shape[:2] == (3, 3) and smaller.b[1].num_features == 3
    assert smaller.c.weight.shape[:2] == (3, 2) and smaller.d.weight.shape[:2] == (5, 1)
    torch.testing.assert_close(smaller(IMAGES.double()), model(IMAGES.double()))


def decode(model, images):
    encoded = model.a(images).relu()
    return model.d(torch.cat([model.c(model.b(encoded)), encoded], 1))


def test_inputs_of_a_transposed_convolution_that_stay_are_told():
    sizes = dict(a=(2, 1), b=(1, 6), c=(6, 2), d=(6, 2))
    layers = {name: nn.ConvTranspose2d(*both, 1) for name, both in sizes.items()}
    model = Forward(lambda m, x: m.c(m.b(m.a(x))) + m.d(m.b(m.a(x))), **layers)
    with torch.no_grad():
        model.a.weight[0], model.c.weight[[1, 3]], model.d.weight[3] = 0, 0, 0
    with pytest.warns(UserWarning) as told:
        smaller = pruning.compact(model, IMAGES.expand(7, 2, 8, 8))
    assert smaller.c.in_channels == smaller.d.in_channels == smaller.b.out_channels == 5 and smaller.a.in_channels == 2
    why = "1 of the inputs of 'a' (no convolution or linear layer gives them); 1 of the inputs of 'c' (another layer"
    assert why in str(told[0].message)


@pytest.mark.parametrize("others", [
    nn.functional.layer_norm, lambda x, _: x.softmax(-1), lambda x, _: nn.functional.normalize(x, dim=-1),
    lambda x, _: x * x.mean(-1, keepdim=True).sigmoid(), lambda x, _: x.cumsum(-1),
])  # fmt: skip
def test_what_others_depend_on_stays_though_nothing_is_made_of_it(others):
    """The example need not show it: there, without biases, each unit is zero."""
    torch.manual_seed(0)
    model = Forward(lambda m, x: m.b(others(m.a(x), (4,))), a=nn.Linear(3, 4, bias=False), b=nn.Linear(4, 2))
    with torch.no_grad():
        model.b.weight[:, 1] = 0
    assert pruning.compact(model, torch.zeros(1, 3)).a.out_features == 4


def test_units_that_are_added_to_those_of_an_embedding_stay():
    """Of these it isn't known what depends on them; here all, since they are made of one length."""
    layers = dict(a=nn.Linear(3, 4), b=nn.Linear(4, 2), words=nn.Embedding(5, 4))
    model = Forward(lambda m, x, i: m.b(m.a(x) + nn.functional.normalize(m.words(i), dim=-1)), **layers)
    with torch.no_grad():
        model.b.weight[:, 1], model.words.weight[0, 1] = 0, 0
    smaller = pruning.compact(model, (torch.rand(1, 3), torch.tensor([0])))
    assert smaller.a.out_features == smaller.words.embedding_dim == 4


def test_units_that_nothing_is_made_of_are_cut():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 2)).eval()
    with torch.no_grad():
        model[3].weight[:, [1, 4]] = 0
    smaller, inputs = pruning.compact(model, torch.rand(5, 3)), torch.randn(5, 3)
    assert smaller[0].weight.shape == (4, 3) and smaller[1].num_features == smaller[3].in_features == 4
    torch.testing.assert_close(smaller(inputs), model(inputs))


def test_a_network_of_transposed_convolutions_alone_is_pruned_and_cut():
    model = nn.Sequential(nn.ConvTranspose2d(1, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 1, 3))
    order = pruning.pruning_order(model, {"2.weight": torch.tensor([1, 1, pruning.NEVER, 1, pruning.NEVER, 1])})
    assert order["2"].argsort()[:2].sort().values.tolist() == [2, 4]
    pruned = pruning.prune(model, order, 1 / 3, ["2"])
    assert pruned[2].bias.equal(model[2].bias)
    smaller = pruning.compact(pruned, IMAGES)
    assert smaller[0].weight.shape[:2] == (1, 4) and smaller[2].weight.shape[:2] == (4, 1)
    torch.testing.assert_close(smaller(IMAGES), pruned(IMAGES))


# ------------------------------------------------------------------------------------------ what can't be cut


class Forward(nn.Module):
    """Layers a, b, c and what is made of them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.made = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs, **named):
        return self.made(self, *inputs, **named)


def emptied(layer, *outputs):
    with torch.no_grad():
        layer.weight[list(outputs)], layer.bias[list(outputs)] = 0, 0
    return layer


def shared(a, b):
    b.weight = a.weight
    return {"a": a, "b": b}


def gated(model, features):
    return model.c(features * model.b(features))


TWICE = dict(a=nn.Linear(4, 4), b=emptied(nn.Linear(4, 4), 1), c=nn.Linear(4, 4))
KEPT = {
    "shared": (Forward(lambda m, x: m.b(m.a(x)), **shared(emptied(nn.Linear(4, 4), 1), nn.Linear(4, 4))),
               "2 of 'a'|1 of 'a' .'a' and 'b' share a parameter"),
    "gone through twice": (Forward(lambda m, x: m.c(m.b(m.b(m.a(x)).relu()).relu()), **TWICE), "1 of 'b' .the"),
    "computed": (Forward(lambda m, x: m.b(m.a(x)), b=nn.Linear(4, 4),
                         a=nn.utils.parametrizations.spectral_norm(emptied(nn.Linear(4, 4), 1))),
                 "1 of 'a' .the weight of 'a' is computed from other parameters"),
    "detached": (Forward(lambda m, x: m.b(m.a(x)).detach(), a=emptied(nn.Linear(4, 4), 1), b=nn.Linear(4, 4)),
                 "1 of 'a' .the outputs can't be traced back to them"),
    "given out": (Forward(lambda m, x: (m.a(x), m.b(m.a(x))), a=emptied(nn.Linear(4, 4), 1), b=nn.Linear(4, 4)),
                  "1 of 'a' .the outputs would change"),
    "the last": (Forward(lambda m, x: m.a(x), a=emptied(nn.Linear(4, 4), 1)), "1 of 'a' .the network gives them out"),
    "a memory": (Forward(lambda m, x: m.b(m.a(x))[0], a=emptied(nn.Linear(4, 4), 1), b=nn.LSTM(4, 2)),
                 "1 of 'a' .'b', which takes them in, is no convolution or linear layer"),
    "halves": (Forward(lambda m, x: m.b(torch.mul(*m.a(x).chunk(2, 1))), a=emptied(nn.Linear(4, 4), 1, 3),
                       b=nn.Linear(2, 4)), "2 of 'a' .they are coupled with other outputs"),
    "beside the input": (Forward(lambda m, x: gated(m, torch.cat([x, m.a(x)], 1)), a=nn.Linear(4, 4),
                                 b=emptied(nn.Linear(8, 8), 6), c=nn.Linear(8, 2)),
                         "1 of 'b' .torch-pruning takes them for others"),
    "mixed": (Forward(lambda m, x: m.b(m.a(x).flip(1)), a=emptied(nn.Linear(4, 4), 1), b=nn.Linear(4, 4)),
              "1 of 'a' .the outputs would change"),
    "counted on": (Forward(lambda m, x: m.b(m.a(x).view(-1, 2, 2).flatten(1)), a=emptied(nn.Linear(4, 4), 1),
                           b=nn.Linear(4, 4)), "1 of 'a' .the outputs would change"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_cut_stays_and_is_told_by_layer_with_the_reason(name):
    model, reason = KEPT[name]
    inputs = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=reason):
        smaller = pruning.compact(model, inputs)
    assert models.count_parameters(smaller) == models.count_parameters(model)
    for these, those in zip(pruning._outputs(smaller, inputs), pruning._outputs(model, inputs)):
        torch.testing.assert_close(these, those)


def test_what_is_right_is_cut_beside_what_would_change_the_outputs():
    torch.manual_seed(0)
    layers = dict(a=emptied(nn.Linear(4, 6), 1, 2), b=emptied(nn.Linear(6, 4), 3), c=nn.Linear(4, 2))
    model = Forward(lambda m, x: {"hidden": m.a(x), "scores": m.c(m.b(m.a(x)).relu())}, **layers)
    with pytest.warns(UserWarning, match=r"2 of 'a' \(the outputs would change\)$"):
        smaller = pruning.compact(model, {"x": torch.rand(2, 4)})
    assert (smaller.a.out_features, smaller.b.out_features, smaller.c.in_features) == (6, 3, 3)


@pytest.mark.parametrize("example", [torch.zeros, torch.ones, torch.rand])
@pytest.mark.parametrize("first", [True, False])
def test_no_example_hides_that_the_input_itself_is_taken_in_beside_what_is_made_of_it(first, example):
    torch.manual_seed(0)
    layers = dict(a=nn.Conv2d(3, 8, 3, padding=1, bias=False), b=nn.Conv2d(11, 4, 3, padding=1, bias=False))
    model = Forward(lambda m, x: m.b(torch.cat([x, m.a(x)] if first else [m.a(x), x], 1)), **layers)
    pruned = pruning.prune(model, pruning.pruning_order(model), 0.5, ["a"])
    with warnings.catch_warnings(action="ignore"):
        smaller = pruning.compact(pruned, example(2, 3, 8, 8))
    images = torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(smaller(images), pruned(images))


ACTIVATIONS = [nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.PReLU,
               nn.Softshrink, nn.Hardshrink]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_activation_hides_what_depends_on_the_input(activation):
    model = nn.Sequential(emptied(nn.Linear(3, 4), 1), activation(), nn.Linear(4, 2))
    assert pruning.compact(model, torch.zeros(1, 3))[0].out_features == 3


@pytest.mark.parametrize("product", [torch.mul, lambda a, b: a * b.sigmoid(), lambda a, b: b.mul_(a)])
def test_a_gate_lets_nothing_through_of_a_channel_of_zero(product):
    layers = dict(a=emptied(nn.Linear(3, 4), 1, 2), b=emptied(nn.Linear(3, 4), 2), c=nn.Linear(4, 2))
    model, inputs = Forward(lambda m, x: m.c(product(m.a(x), m.b(x))), **layers), torch.rand(5, 3)
    smaller = pruning.compact(model, inputs[:1])
    assert smaller.a.out_features == smaller.b.out_features == smaller.c.in_features == 2
    torch.testing.assert_close(smaller(inputs), model(inputs))


def test_whole_numbers_are_inputs_too():
    model = nn.Sequential(nn.Embedding(9, 4), emptied(nn.Linear(4, 6), 0, 1), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight[0] = 0  # no sign that all of them are
    smaller, words = pruning.compact(model, torch.zeros(1, 3, dtype=torch.int64)), torch.arange(9)[None]
    assert smaller[1].weight.shape == (4, 4)
    torch.testing.assert_close(smaller(words), model(words))


@pytest.mark.parametrize(
    "model, inputs, reason",
    [
        (nn.Sequential(nn.ReLU()), IMAGES, "a Sequential has no convolution and no linear layer"),
        (nn.BatchNorm2d(1), IMAGES, "a BatchNorm2d has no convolution"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), IMAGES, "lazy layers has no weights yet: call it on a batch"),
        (nn.Linear(2, 2, dtype=torch.complex64), IMAGES, "complex parameters can't be made smaller"),
        (models.LeNet(), IMAGES, "a LeNet can't be called with these example inputs: "),
        (Forward(lambda m, x: str(m.a(x)), a=nn.Linear(8, 2)), IMAGES, "torch-pruning can't follow a Forward: "),
    ],
)
def test_a_network_that_has_no_smaller_form_is_refused_in_words(model, inputs, reason):
    with pytest.raises(ValueError, match=reason):
        pruning.compact(model, inputs)


def test_a_frozen_network_is_cut_like_any_other():
    model = pruning.prune(models.LeNet(), {"features.conv3": torch.arange(120.0)}, 0.5, ["features.conv3"])
    smaller = pruning.compact(model.requires_grad_(False), torch.rand(1, 1, 28, 28))
    assert smaller.features.conv3.out_channels == 60
    assert not any(parameter.requires_grad for parameter in [*smaller.parameters(), *model.parameters()])


# ------------------------------------------------------------------------------------------ what is not allowed


@pytest.mark.parametrize(
    "call",
    [
        pruning.pruning_order,
        lambda model: pruning.prune(model, {"1": torch.ones(2, 64)}, 0.5, ["1"]),
        lambda model: pruning.multiply_adds(model, IMAGES),
    ],
)
@pytest.mark.parametrize("lazy", [nn.LazyLinear(2), nn.LazyBatchNorm1d()])
def test_a_lazy_model_is_refused_in_words_and_stays_lazy(call, lazy):
    model = nn.Sequential(nn.Flatten(), lazy)
    with pytest.raises(ValueError, match="lazy layers has no weights yet: call it on a batch first"):
        call(model)
    assert any(nn.parameter.is_lazy(parameter) for parameter in model.parameters())


def test_a_model_without_parameters_has_nothing_to_prune():
    model = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert pruning.pruning_order(model) == {} and pruning.multiply_adds(model, IMAGES) == 0
    with pytest.raises(ValueError, match="'0' is no layer that can be pruned: there are none"):
        pruning.prune(model, {}, 0.5, ["0"])
    with pytest.raises(ValueError, match="'0' is no layer that can be pruned: there are none"):
        pruning.prune(model, {"0": torch.ones(2)}, 0.5, ["0"])
    with pytest.raises(ValueError, match="no convolution and no linear layer"):
        pruning.compact(model, IMAGES)


@pytest.mark.parametrize("name", ["_orig_mod.features.0.weight", "0.0", "features.0.bias"])
def test_an_entry_of_something_else_is_no_pruning_order(name):
    with pytest.raises(ValueError, match=f"entry is of {name}, which the model doesn't have: it has features.0, fe"):
        pruning.pruning_order(small(), {"features.0.weight": torch.ones(4), name: torch.ones(4)})


def test_a_weight_that_is_computed_is_not_pruned_in_vain():
    model = small()
    torch.nn.utils.parametrizations.weight_norm(model.features[0])
    with pytest.raises(ValueError, match="the weight of 'features.0' is computed from other parameters"):
        pruning.prune(model, {"features.0": torch.arange(4.0)}, 0.5, ["features.0"])


def test_entries_of_what_is_no_layer_are_passed_over():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    optimizer = dessilbi.DessiLBI(dessilbi.param_groups(model), lr=0.1)
    entry = {}
    pruning.note_entry(entry, optimizer, epoch=1)
    assert "self_attn.in_proj_weight" in entry
    order = pruning.pruning_order(model, entry)
    assert "linear1" in order and "self_attn" not in order
