"""The four networks of the report, each with every option that a table varies. A model is only built here: nothing is
trained, loaded or drawn."""

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn

# What VGG's weights are drawn by; None: as PyTorch does.
INITS = {
    "kaiming": functools.partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "xavier": nn.init.xavier_normal_,
    "default": None,
}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


@contextlib.contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """After it each module is in the mode that it was found in: a part that is frozen stays so."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Residual(nn.Sequential):
    """x + layers(x) (He et al., 2016, equation 1); the layers keep the shape of x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


class LogSoftmax(nn.LogSoftmax):
    """Log-softmax in float32 at least: autocast on the CPU would leave it in bfloat16, losses rounded to 0.01."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return super().forward(logits.to(torch.promote_types(logits.dtype, torch.float32)))


class _Classifier(nn.Module):
    """Features, then a classifier: the frame that all four networks share."""

    def __init__(self, features: list[nn.Module], classifier: list[nn.Module]):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Flatten(), *classifier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown: use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _convolution(
    inputs, outputs, kernel, *, padding=0, stride=1, activation="relu", batch_norm=True
) -> list[nn.Module]:
    """Convolution, batch norm where asked for, activation."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(outputs))
    return [*layers, _activation(activation)]


def _check_mynet(kernels: tuple[int, int], hidden: int, dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout {dropout} is not allowed: it must be at least 0 and below 1")
    if hidden < 1:
        raise ValueError(f"hidden {hidden} is not allowed: it must be at least 1")
    side = 32
    for kernel in kernels:
        if not 1 <= kernel < side:
            raise ValueError(f"kernels {kernels} are not allowed: {kernel} must be at least 1 and below {side}")
        side = (side - kernel + 1) // 2


# The notebooks show these classes, and a page has room for lines of some 100 characters.


class MyNet(_Classifier):
    """The basic network of section 1: two convolutions of 64 channels and two linear layers.

    (N, 3, 32, 32) float → (N, 10) log-probabilities. `kernels`: sides of the two square
    kernels, which are not padded; `hidden`: width of the hidden linear layer; `dropout`:
    share of activations dropped after each convolution; `activation`: "relu" or "tanh".
    The defaults have 1,757,258 parameters.
    """

    def __init__(
        self, kernels=(5, 5), hidden=1024, dropout=0.0, activation="relu", batch_norm=True
    ):  # fmt: skip
        _check_mynet(kernels, hidden, dropout)
        common = dict(activation=activation, batch_norm=batch_norm)
        features, side, inputs = [], 32, 3
        for kernel in kernels:
            features += _convolution(inputs, 64, kernel, **common)
            features += [nn.MaxPool2d(2), nn.Dropout(dropout)]
            side, inputs = (side - kernel + 1) // 2, 64
        classifier = [nn.Linear(64 * side * side, hidden), _activation(activation)]
        super().__init__(features, [*classifier, nn.Linear(hidden, 10), LogSoftmax(dim=1)])


class MyResNet9(_Classifier):
    """The deeper network of section 1.9: eight convolutions, two residual blocks, one linear layer.

    (N, 3, 32, 32) float → (N, 10) logits. `block_kernel`: 3 for the 3×3 convolution 64→256
    followed by a pool, 5 for the 5×5 one of stride 2 without. With 3 its convolutions
    (weights and biases) hold 2,143,808 parameters.
    """

    def __init__(self, block_kernel=3, activation="relu", batch_norm=True):
        if block_kernel not in (3, 5):
            raise ValueError(f"block_kernel {block_kernel} is not allowed: it must be 3 or 5")
        common = dict(activation=activation, batch_norm=batch_norm)

        def convolution(inputs, outputs, kernel, stride=1):
            padding = kernel // 2
            return _convolution(inputs, outputs, kernel, padding=padding, stride=stride, **common)

        if block_kernel == 3:
            widening = [*convolution(64, 256, 3), nn.MaxPool2d(2)]
        else:
            widening = convolution(64, 256, 5, stride=2)
        features = [
            *convolution(3, 32, 5), *convolution(32, 64, 3), nn.MaxPool2d(2),
            Residual(*convolution(64, 64, 5), *convolution(64, 64, 5)),
            *widening,
            *convolution(256, 256, 3), nn.MaxPool2d(2),
            Residual(*convolution(256, 256, 3), *convolution(256, 256, 3)),
            nn.MaxPool2d(2),
        ]  # fmt: skip
        super().__init__(features, [nn.Linear(256 * 2 * 2, 10)])


class VGG(_Classifier):
    """VGG-A (Simonyan and Zisserman, 2015, table 1) for 32×32 images, its classifier 512–512–10.

    (N, 3, 32, 32) float → (N, 10) logits. `init`: normal weights and zero biases, "kaiming"
    as He et al. draw them, "xavier" as Glorot and Bengio; "default": PyTorch's own. With
    batch norm it has 9,756,426 parameters.
    """

    PLAN = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")

    def __init__(self, batch_norm=True, init="kaiming"):
        if init not in INITS:
            raise ValueError(f"init {init!r} is unknown: use one of {', '.join(INITS)}")
        features, inputs = [], 3
        for width in self.PLAN:
            if width == "M":
                features.append(nn.MaxPool2d(2))
            else:
                features += _convolution(inputs, width, 3, padding=1, batch_norm=batch_norm)
                inputs = width
        hidden = [nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
        super().__init__(features, [*hidden, nn.Linear(512, 10)])
        if INITS[init] is not None:
            self.apply(functools.partial(_initialise, INITS[init]))


def _initialise(draw, layer: nn.Module) -> None:
    """Weights by `draw`, biases zero; PyTorch's own batch norm is left as it is."""
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        draw(layer.weight)
        nn.init.zeros_(layer.bias)


class LeNet(_Classifier):
    """LeNet-5 (LeCun et al., 1998) in the form of the DessiLBI authors: three convolutions, two linear layers, ReLU.

    (N, 1, 28, 28) float → (N, 10) logits; 61,706 parameters. Its layers are named conv1, conv2, conv3, fc1 and fc2.
    """

    def __init__(self):
        super().__init__([], [])
        self.features = nn.Sequential(OrderedDict(
            conv1=nn.Conv2d(1, 6, 5, padding=2), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(16, 120, 5), relu3=nn.ReLU(),
        ))  # fmt: skip
        self.classifier = nn.Sequential(OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(120, 84), relu4=nn.ReLU(), fc2=nn.Linear(84, 10),
        ))  # fmt: skip


def build(name: str, **options) -> nn.Module:
    """The model called `name` ("MyNet", "MyResNet9", "VGG" or "LeNet"), built with `options`."""
    models = {model.__name__: model for model in (MyNet, MyResNet9, VGG, LeNet)}
    if name not in models:
        raise ValueError(f"model {name!r} is unknown: use one of {', '.join(models)}")
    return models[name](**options)


def count_parameters(model: nn.Module) -> int:
    """How many numbers the model learns."""
    return sum(parameter.numel() for parameter in model.parameters())
