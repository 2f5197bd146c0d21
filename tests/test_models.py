"""Tests of the networks: the parameters that the report states, shapes, and every option that a table varies."""

import inspect

import pytest
import torch
from torch import nn

from helpers import experiments, models

INPUTS = {"MyNet": (3, 32, 32), "MyResNet9": (3, 32, 32), "VGG": (3, 32, 32), "LeNet": (1, 28, 28)}
OPTIONS = [
    ("MyNet", {}),
    ("MyNet", {"kernels": (5, 3)}),
    ("MyNet", {"kernels": (3, 3)}),
    ("MyNet", {"kernels": (3, 5)}),
    ("MyNet", {"hidden": 100, "dropout": 0.3}),
    ("MyNet", {"activation": "tanh"}),
    ("MyNet", {"batch_norm": False}),
    ("MyResNet9", {}),
    ("MyResNet9", {"block_kernel": 5}),
    ("MyResNet9", {"activation": "tanh"}),
    ("MyResNet9", {"batch_norm": False}),
    ("VGG", {}),
    ("VGG", {"batch_norm": False}),
    ("VGG", {"init": "default"}),
    ("LeNet", {}),
]
every_option = pytest.mark.parametrize("name, options", OPTIONS, ids=str)


def layers(model: nn.Module, kind: type) -> list:
    return [layer for layer in model.modules() if isinstance(layer, kind)]


def images_for(name: str, count: int = 2) -> torch.Tensor:
    return torch.randn(count, *INPUTS[name], generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize("name, options, expected", [
    # 64·(3·25+1) + 64·(64·25+1) + 2·2·64 + 1024·(1600+1) + 10·(1024+1)
    ("MyNet", {}, 1_757_258),
    # … less the two batch norms
    ("MyNet", {"batch_norm": False}, 1_757_258 - 256),
    # … 100·(1600+1) + 10·(100+1) in place of the last two terms
    ("MyNet", {"hidden": 100}, 1_757_258 - 924 * 1601 - 9240),
    # second kernel 3×3, its output (14-3+1)/2 = 6 a side: 64·36 inputs
    ("MyNet", {"kernels": (5, 3)}, 64 * 76 + 64 * 577 + 256 + 1024 * 2305 + 10250),
    # both 3×3: (32-2)/2 = 15, (15-2)//2 = 6
    ("MyNet", {"kernels": (3, 3)}, 64 * 28 + 64 * 577 + 256 + 1024 * 2305 + 10250),
    ("VGG", {}, 9_756_426),
    # less two numbers for each of 64+128+256+256+512+512+512+512 = 2752 channels
    ("VGG", {"batch_norm": False}, 9_756_426 - 2 * 2752),
    # 6·26 + 16·151 + 120·401 + 84·121 + 10·85
    ("LeNet", {}, 61_706),
])  # fmt: skip
def test_parameters_are_the_published_ones(name, options, expected):
    assert models.count_parameters(models.build(name, **options)) == expected


def test_the_convolutions_of_myresnet9_hold_the_reported_number():
    convolutions = layers(models.MyResNet9(), nn.Conv2d)
    assert len(convolutions) == 8
    assert all(convolution.bias is not None for convolution in convolutions)
    assert sum(models.count_parameters(convolution) for convolution in convolutions) == 2_143_808
    assert len(layers(models.MyResNet9(), nn.Linear)) == 1


def test_count_parameters_leaves_buffers_out():
    # A batch norm of 3 channels learns 6 numbers, and keeps 7 that it doesn't learn.
    assert models.count_parameters(nn.BatchNorm2d(3)) == 6


# ------------------------------------------------------------------------------------------ outputs


@every_option
def test_outputs_are_ten_numbers_an_image(name, options):
    outputs = models.build(name, **options)(images_for(name, 3))
    assert outputs.shape == (3, 10)
    assert outputs.isfinite().all()


@pytest.mark.parametrize("options", [options for name, options in OPTIONS if name == "MyNet"], ids=str)
def test_mynet_gives_log_probabilities(options):
    outputs = models.MyNet(**options)(images_for("MyNet"))
    assert outputs.exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_log_probabilities_are_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = models.MyNet()(images_for("MyNet"))
    assert outputs.dtype == torch.float32
    assert outputs.exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("name", ["MyResNet9", "VGG", "LeNet"])
def test_the_others_give_logits(name):
    outputs = models.build(name)(images_for(name))
    assert (outputs.exp().sum(1) - 1).abs().min() > 1e-3


@every_option
def test_images_do_not_see_each_other_in_evaluation(name, options):
    model = models.build(name, **options).eval()
    images = images_for(name, 4)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=1e-4, atol=1e-5)


@every_option
def test_every_parameter_is_learned(name, options):
    model = models.build(name, **options)
    (model(images_for(name)) * torch.arange(10)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_seed_gives_the_same_weights_again():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.nn.utils.parameters_to_vector(models.LeNet().parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


# ------------------------------------------------------------------------------------------ options


def test_residual_is_x_plus_its_layers():
    # 1 + 2·1 and 3 + 2·3, nested: x + (x + 2x) = 4x
    double = nn.Linear(1, 1, bias=False)
    nn.init.constant_(double.weight, 2)
    x = torch.tensor([[1.0], [3.0]])
    assert models.Residual(double)(x).tolist() == [[3], [9]]
    assert models.Residual(models.Residual(double))(x).tolist() == [[4], [12]]


def test_myresnet9_has_its_layers_in_the_reports_order():
    kinds = {nn.Conv2d: "conv", nn.MaxPool2d: "pool", models.Residual: "residual"}
    described = []
    for layer in models.MyResNet9().features:
        inner = layer if isinstance(layer, models.Residual) else [layer]
        sizes = [(c.kernel_size[0], c.in_channels, c.out_channels) for c in inner if isinstance(c, nn.Conv2d)]
        if type(layer) in kinds:
            described.append((kinds[type(layer)], *sizes))
    assert described == [
        ("conv", (5, 3, 32)), ("conv", (3, 32, 64)), ("pool",),
        ("residual", (5, 64, 64), (5, 64, 64)),
        ("conv", (3, 64, 256)), ("pool",), ("conv", (3, 256, 256)), ("pool",),
        ("residual", (3, 256, 256), (3, 256, 256)), ("pool",),
    ]  # fmt: skip


def test_each_convolution_of_myresnet9_is_followed_by_batch_norm_and_relu():
    model = models.MyResNet9()
    flat = [layer for layer in model.modules() if not list(layer.children())]
    for place, layer in enumerate(flat):
        if isinstance(layer, nn.Conv2d):
            assert isinstance(flat[place + 1], nn.BatchNorm2d)
            assert flat[place + 1].num_features == layer.out_channels
            assert isinstance(flat[place + 2], nn.ReLU)


def test_block_kernel_5_strides_where_3_pools():
    def widening(model):
        return next(c for c in layers(model, nn.Conv2d) if (c.in_channels, c.out_channels) == (64, 256))

    small, large = models.MyResNet9(block_kernel=3), models.MyResNet9(block_kernel=5)
    assert (widening(small).kernel_size, widening(small).stride, widening(small).padding) == ((3, 3), (1, 1), (1, 1))
    assert (widening(large).kernel_size, widening(large).stride, widening(large).padding) == ((5, 5), (2, 2), (2, 2))
    assert len(layers(small, nn.MaxPool2d)) == len(layers(large, nn.MaxPool2d)) + 1


def test_mynet_has_its_layers_in_the_reports_order():
    names = [type(layer).__name__ for layer in models.MyNet(dropout=0.3).features]
    assert names == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Dropout"] * 2
    assert [layer.p for layer in layers(models.MyNet(dropout=0.3), nn.Dropout)] == [0.3, 0.3]
    classifier = [type(layer).__name__ for layer in models.MyNet().classifier]
    assert classifier == ["Flatten", "Linear", "ReLU", "Linear", "LogSoftmax"]


def test_vgg_has_its_layers_in_the_papers_order():
    plan = [c.out_channels if isinstance(c, nn.Conv2d) else "M" for c in models.VGG().features
            if isinstance(c, (nn.Conv2d, nn.MaxPool2d))]  # fmt: skip
    assert plan == [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]
    assert {c.kernel_size for c in layers(models.VGG(), nn.Conv2d)} == {(3, 3)}
    assert [(c.in_features, c.out_features) for c in layers(models.VGG(), nn.Linear)] == [
        (512, 512), (512, 512), (512, 10),
    ]  # fmt: skip


def test_the_layers_of_lenet_have_the_names_that_pruning_uses():
    named = {name.rpartition(".")[2]: tuple(p.shape) for name, p in models.LeNet().named_parameters()
             for name in [name.removesuffix(".weight")] if not name.endswith(".bias")}  # fmt: skip
    assert named == {
        "conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "conv3": (120, 16, 5, 5), "fc1": (84, 120), "fc2": (10, 84),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["MyNet", "MyResNet9"])
def test_activation_replaces_every_relu(name):
    model = models.build(name, activation="tanh")
    assert not layers(model, nn.ReLU)
    assert len(layers(model, nn.Tanh)) == len(layers(models.build(name), nn.ReLU))


@pytest.mark.parametrize("name", ["MyNet", "MyResNet9", "VGG"])
def test_batch_norm_follows_every_convolution_or_none(name):
    assert len(layers(models.build(name), nn.BatchNorm2d)) == len(layers(models.build(name), nn.Conv2d))
    assert not layers(models.build(name, batch_norm=False), nn.BatchNorm2d)


def test_dropout_drops_in_training_only():
    model, images = models.MyNet(dropout=0.5), images_for("MyNet")
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_kaiming_draws_he_normal_weights_and_zero_biases():
    torch.manual_seed(0)
    for layer in layers(models.VGG(), (nn.Conv2d, nn.Linear)):
        fan_in = layer.weight[0].numel()
        # The deviation of n draws is itself off by a share of 1/√(2n).
        share = layer.weight.std().item() / (2 / fan_in) ** 0.5
        assert share == pytest.approx(1, abs=5 / (2 * layer.weight.numel()) ** 0.5)
        assert not layer.bias.any()


def test_default_initialisation_is_torchs_own():
    # Uniform within 1/√fan_in; of He's normal weights nearly half lie outside.
    torch.manual_seed(0)
    for layer in layers(models.VGG(init="default"), (nn.Conv2d, nn.Linear)):
        assert layer.weight.abs().max() <= layer.weight[0].numel() ** -0.5
        assert layer.bias.any()


@pytest.mark.parametrize("name, options, told", [
    ("MyNut", {}, "'MyNut'"),
    ("MyNet", {"activation": "gelu"}, "'gelu'"),
    ("MyResNet9", {"activation": "gelu"}, "'gelu'"),
    ("MyNet", {"dropout": 1}, "dropout 1"),
    ("MyNet", {"dropout": -0.1}, "dropout -0.1"),
    ("MyNet", {"dropout": float("nan")}, "dropout nan"),
    ("MyNet", {"hidden": 0}, "hidden 0"),
    ("MyNet", {"hidden": -5}, "hidden -5"),
    ("MyNet", {"kernels": (0, 5)}, "kernels (0, 5)"),
    ("MyNet", {"kernels": (5, -1)}, "kernels (5, -1)"),
    ("MyNet", {"kernels": (29, 5)}, "kernels (29, 5)"),
    ("MyResNet9", {"block_kernel": 4}, "block_kernel 4"),
    ("VGG", {"init": "zeros"}, "'zeros'"),
])  # fmt: skip
def test_what_is_not_allowed_is_told_in_one_line(name, options, told):
    with pytest.raises(ValueError) as error:
        models.build(name, **options)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", experiments.OPTIONS)
def test_a_run_declares_the_options_that_the_model_has(name):
    declared = {option: field.default for option, field in experiments.OPTIONS[name].model_fields.items()}
    parameters = inspect.signature(getattr(models, name)).parameters
    assert declared == {option: parameter.default for option, parameter in parameters.items()}


def test_vggs_weights_are_drawn_as_asked():
    """Standard deviations by the formulas: Kaiming √(2/fan in), Xavier √(2/(fan in + fan out)); biases zero."""
    for init, expected in (("kaiming", (2 / (256 * 9)) ** 0.5), ("xavier", (2 / ((256 + 512) * 9)) ** 0.5)):
        layer = [each for each in models.VGG(init=init).modules() if getattr(each, "out_channels", 0) == 512][0]
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.01)
        assert not layer.bias.any()
