"""The scores and times that the report states, as data; no other file holds one. None of it was computed here."""

from typing import NamedTuple


class Reported(NamedTuple):
    """A reported row: test accuracy (0 to 1), time in seconds, validation accuracy; None where it gives none."""

    accuracy: float | None = None
    seconds: float | None = None
    validation: float | None = None


REPORTED: dict[str, dict[str, dict[str, Reported]]] = {
    "1": {
        "1.2 batch norm": {
            "without": Reported(0.716, 493.27),
            "with": Reported(0.718, 496.68),
        },
        "1.3 dropout after each conv": {
            "0": Reported(0.718, 496.68),
            "0.5": Reported(0.7597, 506.95),
            "0.3": Reported(0.7737, 493.46),
        },
        "1.4 loss": {
            "NLL": Reported(0.7737, 493.46),
            "cross-entropy": Reported(0.7571, 490.29),
        },
        "1.5 optimizer": {
            "SGD with momentum": Reported(0.7737, 493.46),
            "Adam": Reported(0.7077, 498.81),
            "RMSprop": Reported(0.6341, 517.69),
        },
        "1.6 activation": {
            "ReLU": Reported(0.7737, 493.46),
            "tanh": Reported(0.5768, 514.81),
        },
        "1.6 kernels": {
            "5×5 + 5×5": Reported(0.7737, 493.46),
            "5×5 + 3×3": Reported(0.757, 498.58),
            "3×3 + 3×3": Reported(0.7436, 490.75),
        },
        "1.7 hidden size": {
            "1024": Reported(0.7737, 493.46),
            "100": Reported(0.7847, 485.98),
            "300": Reported(0.7506, 492.81),
        },
        "1.8 best model": {
            "best model": Reported(0.7847, 485.99, validation=0.7807),
        },
    },
    "1.9": {
        "augmentation": {
            "none": Reported(0.7907),
            "crop + flip + normalisation": Reported(0.845),
        },
        "L2 regularisation": {
            "none": Reported(0.845),
            "1e-4": Reported(0.8675),
            "4e-4": Reported(0.8675),
        },
        "momentum": {
            "0.5": Reported(0.8675),
            "0.9": Reported(0.8749),
        },
        "learning rate": {
            "0.01": Reported(0.8749),
            "cyclic 0.01–0.04": Reported(0.899),
            "0.04, then 0.01": Reported(0.882),
        },
        "kernel of one block": {
            "5×5, stride 2": Reported(0.899),
            "3×3, stride 1": Reported(0.9076),
        },
        "final": {
            "final": Reported(0.9158, 1128.7, validation=0.9131),
        },
    },
    # Its times of this section are those of one of 20 epochs. It names no rate, so its scores stand beside both pairs.
    "2": {
        "2.1 accuracy": {
            "VGG-A": Reported(0.764, 20 * 14.53),
            "VGG-A + BN": Reported(0.8251, 20 * 18.34),
        },
        "2.1 accuracy with Adam": {
            "VGG-A": Reported(0.764, 20 * 14.53),
            "VGG-A + BN": Reported(0.8251, 20 * 18.34),
        },
        "2.1 initialisation": {
            "VGG-A, Kaiming": Reported(0.764, 20 * 14.53),
        },
    },
    "3.1": {
        "optimizer": {
            "SGD": Reported(0.9824, 225),
            "DessiLBI": Reported(0.9706, 235),
        },
        "pretrained": {
            "pretrained": Reported(0.9524),
        },
    },
    "3.2": {
        "MNIST": {
            "with Adam": Reported(0.9903),
            "without": Reported(0.9706, 235),
            "plain SGD": Reported(0.9824, 225),
        },
        "CIFAR-10": {
            "with Adam": Reported(0.8345),
            "without": Reported(0.8185),
            "plain SGD": Reported(0.8251, 20 * 18.34),
        },
    },
}

# Accuracy of the report's DessiLBI network with a share of what it names pruned, without training it again.
PRUNED: dict[str, dict[float, float]] = {
    "conv3": {0.0: 0.9706, 0.1: 0.9704, 0.2: 0.9702, 0.3: 0.97, 0.4: 0.9653, 0.5: 0.9395, 0.6: 0.8925},
    "conv3 + fc1": {0.0: 0.9706, 0.1: 0.9706, 0.2: 0.9707, 0.3: 0.9714, 0.4: 0.9659, 0.5: 0.9347, 0.6: 0.8837},
}
# The same of the LeNet that the authors of DessiLBI published, as measured for this report, not by it.
AUTHORS_PRUNED: dict[float, float] = {0.0: 0.9861, 0.6: 0.9855, 0.7: 0.9836, 0.8: 0.9785, 0.9: 0.934}


def reported(section: str, table: str, row: str) -> Reported:
    """What the report states for one row; all None for a row that is not the report's."""
    return REPORTED.get(section, {}).get(table, {}).get(row, Reported())
