"""Every table of the report: label → `replace(base, one_thing=…)`, one line a row, and beside it what the report states
for it; no other file holds a score of the report. Nothing is trained or read here."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from helpers.experiments.readings import (
    AS_STATED,
    Reading,
    basic_rate,
    cycle,
    sparse_momentum,
    sparse_rate,
    starter_sparse,
    starter_terms,
)
from helpers.experiments.run import Constant, Cosine, Cyclic, Mask, Run, Steps, replace


class Reported(NamedTuple):
    """A reported row: test accuracy (0 to 1), time in seconds, validation accuracy and loss, and the training loss of
    one batch at the end; None where it gives none."""

    accuracy: float | None = None
    seconds: float | None = None
    validation: float | None = None
    validation_loss: float | None = None
    train_loss: float | None = None


class Scored:
    """A row for which the report states something: its run, and what `Reported` is given."""

    def __init__(self, run: Run, *stated: float, **named: float):
        self.run, self.reported = run, Reported(*stated, **named)


# The notebook in which a table stands, by the number of the table, or of its section.
NOTEBOOKS = {"1": "01_basic_network", "1.9": "02_resnet9", "2": "03_batch_norm_vgg", "2.2": "04_loss_landscape",
             "3.1": "05_dessilbi_mnist", "3.2": "06_dessilbi_adam"}  # fmt: skip


class Table(dict[str, Run]):
    """One table: its rows, label → Run, and what it is called.

    `section`: the report's ("1"); `key`: its name there ("1.2 batch norm"); `number` ("1.2") and `name` ("batch norm");
    `title`: both; `reported`: label → what the report states; `notebook`: the file it stands in, "" for none; `anchor`:
    the label of its cell there, and the stem of what is written of it.
    """

    def __init__(self, section: str, key: str, rows: Mapping[str, Run | Scored]):
        super().__init__({label: row.run if isinstance(row, Scored) else row for label, row in rows.items()})
        self.section, self.key = section, key
        self.reported = {label: row.reported for label, row in rows.items() if isinstance(row, Scored)}
        self.number, self.name = key.split(" ", 1) if key[0].isdigit() else (section, key)
        self.title = f"{self.number} {self.name}"
        self.notebook = NOTEBOOKS.get(self.number) or NOTEBOOKS.get(section, "")
        self.anchor = "tab-" + re.sub(r"\W+", "-", self.title).strip("-").lower()


def section(number: str, tables: Mapping[str, Mapping[str, Run | Scored]]) -> dict[str, Table]:
    """The tables of one section by their keys."""
    return {key: Table(number, key, rows) for key, rows in tables.items()}


# The shares of LeNet's filters and weights that are pruned when a run has ended, and in which layers.
PRUNED = tuple(percent / 100 for percent in range(0, 100, 5))
PRUNED_LAYERS = {"conv3": ("features.conv3",), "conv3_fc1": ("features.conv3", "classifier.fc1")}

# ------------------------------------------------------------------------------------------ section 1

base = Run(model="MyNet", loss="nll", optimizer="sgd", lr=0.1, momentum=0.5, epochs=50)
dropped = replace(base, dropout=0.3)
best = replace(dropped, hidden=100)
in_float32 = replace(best, precision="float32")  # where a processor has bfloat16, timing picks that

SECTION_1 = section("1", {
    "1.2 batch norm": {
        "without": Scored(replace(base, batch_norm=False), 0.716, 493.27),
        "with": Scored(base, 0.718, 496.68),
    },
    "1.3 dropout after each conv": {
        "0": Scored(base, 0.718, 496.68),
        "0.5": Scored(replace(base, dropout=0.5), 0.7597, 506.95),
        "0.3": Scored(dropped, 0.7737, 493.46),
        "0.1": replace(base, dropout=0.1),
    },
    "1.4 loss": {
        "NLL": Scored(dropped, 0.7737, 493.46),
        "cross-entropy": Scored(replace(dropped, loss="cross_entropy"), 0.7571, 490.29),
    },
    "1.5 optimizer": {
        "SGD with momentum": Scored(dropped, 0.7737, 493.46),
        "Adam": Scored(replace(dropped, optimizer="adam", momentum=0), 0.7077, 498.81),
        "RMSprop": Scored(replace(dropped, optimizer="rmsprop", momentum=0), 0.6341, 517.69),
        "Adam, usual rate 1e-3": replace(dropped, optimizer="adam", momentum=0, lr=1e-3),
        "RMSprop, usual rate 1e-3": replace(dropped, optimizer="rmsprop", momentum=0, lr=1e-3),
    },
    "1.6 activation": {
        "ReLU": Scored(dropped, 0.7737, 493.46),
        "tanh": Scored(replace(dropped, activation="tanh"), 0.5768, 514.81),
    },
    "1.6 kernels": {
        "5×5 + 5×5": Scored(dropped, 0.7737, 493.46),
        "5×5 + 3×3": Scored(replace(dropped, kernels=(5, 3)), 0.757, 498.58),
        "3×3 + 3×3": Scored(replace(dropped, kernels=(3, 3)), 0.7436, 490.75),
    },
    "1.7 hidden size": {
        "1024": Scored(dropped, 0.7737, 493.46),
        "100": Scored(best, 0.7847, 485.98),
        "300": Scored(replace(dropped, hidden=300), 0.7506, 492.81),
    },
    "1.8 best model": {
        "best model": Scored(best, 0.7847, 485.99, validation=0.7807, validation_loss=0.673, train_loss=0.448),
    },
    "precision": {
        "as timed": best,
        "float32": in_float32,
    },
})  # fmt: skip

# ------------------------------------------------------------------------------------------ section 1.9

plain = Run(model="MyResNet9", options={"block_kernel": 5}, lr=0.01, momentum=0.5, epochs=50)
augmented = replace(plain, augment=("crop", "flip"))
decayed = replace(augmented, weight_decay=1e-4)
moving = replace(decayed, momentum=0.9)
cyclic = replace(moving, schedule=Cyclic(high=0.04))
small_kernel = replace(cyclic, block_kernel=3)
final = replace(small_kernel, weight_decay=4e-4)

SECTION_1_9 = section("1.9", {
    "augmentation": {
        "none": Scored(plain, 0.7907),
        "crop + flip + normalisation": Scored(augmented, 0.845),
    },
    "L2 regularisation": {
        "none": Scored(augmented, 0.845),
        "1e-4": Scored(decayed, 0.8675),
        "4e-4": Scored(replace(augmented, weight_decay=4e-4), 0.8675),
    },
    "momentum": {
        "0.5": Scored(decayed, 0.8675),
        "0.9": Scored(moving, 0.8749),
    },
    "learning rate": {
        "0.01": Scored(moving, 0.8749),
        "cyclic 0.01–0.04": Scored(cyclic, 0.899),
        "0.04, then 0.01": Scored(replace(moving, lr=0.04, schedule=Steps(at=(0.4,), factor=0.25)), 0.882),
    },
    "kernel of one block": {
        "5×5, stride 2": Scored(cyclic, 0.899),
        "3×3, stride 1": Scored(small_kernel, 0.9076),
    },
    "final": {
        # It gives .0049 as the loss: the sum of the means of batches of 64 over the number of images.
        "final": Scored(final, 0.9158, 1128.7, validation=0.9131, validation_loss=64 * 0.0049, train_loss=0.010),
    },
    "other activations and losses": {
        "ReLU": final,
        "tanh": replace(final, activation="tanh"),
    },
})  # fmt: skip

# ------------------------------------------------------------------------------------------ section 2

vgg_bn = Run(model="VGG", lr=0.01, momentum=0.9, epochs=20, probes=("surface",))
vgg = replace(vgg_bn, batch_norm=False)
adam_on_vgg = replace(vgg_bn, optimizer="adam", momentum=0, lr=1e-3, probes=())
measured = replace(vgg_bn, precision="float32", probes=("gradient_change", "smoothness", "along_gradient"))
landscape = {rate: replace(measured, lr=float(rate)) for rate in ("2e-3", "1e-3", "5e-4", "1e-4")}
landscape_runs = {
    **{f"VGG-A, {rate}": replace(run, batch_norm=False) for rate, run in landscape.items()},
    **{f"VGG-A + BN, {rate}": run for rate, run in landscape.items()},
}

# The report's times of this section are those of one of 20 epochs.
SECTION_2 = section("2", {
    "2.1 accuracy": {
        "VGG-A": Scored(vgg, 0.764, 20 * 14.53),
        "VGG-A + BN": Scored(vgg_bn, 0.8251, 20 * 18.34),
    },
    "2.1 accuracy with Adam": {
        "VGG-A": replace(adam_on_vgg, batch_norm=False),
        "VGG-A + BN": adam_on_vgg,
    },
    "2.1 initialisation": {
        "VGG-A, Kaiming": Scored(vgg, 0.764, 20 * 14.53),
        "VGG-A, PyTorch's own": replace(vgg, init="default", probes=()),
    },
    "2.2 loss landscape": landscape_runs,
})  # fmt: skip

# ------------------------------------------------------------------------------------------ section 3.1

lenet = Run(data="mnist", model="LeNet", lr=5e-3, epochs=20, batch_size=128, normalize=False)
pretrained = lenet
mnist_sgd_stated = replace(lenet, start=pretrained, epochs=30, lr=0.04, momentum=0.9)
mnist_sgd = sparse_momentum(mnist_sgd_stated)
WARMUP = 1 / 30  # share of the run over which the rate rises: one epoch of thirty
mnist_sgd_warm = replace(mnist_sgd_stated, schedule=Steps(at=(), factor=1, warmup=WARMUP))
mnist_stated = replace(
    mnist_sgd_stated, optimizer="dessilbi", lr=0.1, mu=20, schedule=Steps(at=(2 / 3,), factor=0.1), probes=("path",)
)
mnist_dessilbi = sparse_rate(mnist_stated)
# As stated, the first steps from pretrained weights are too large: all units die. One epoch of warm-up, ours, mends it.
mnist_warm = replace(mnist_stated, schedule=Steps(at=(2 / 3,), factor=0.1, warmup=WARMUP))
mnist_sgd_dropped = replace(mnist_sgd_stated, schedule=mnist_warm.schedule)  # so that only the optimizer differs
mnist_calm = replace(mnist_stated, momentum=0)  # the report doesn't name the momentum
scratch = replace(mnist_stated, start=None, epochs=60)

# From the authors' setting to one whose support ends near the size that is to be kept.
shifted = replace(scratch, augment=("shift",), schedule=Cosine(warmup=0.03))
one_layer = replace(shifted, penalized=("features.conv3",))
sparser = replace(one_layer, kappa=20, lr=0.1 / 20)
tighter = replace(sparser, mu=3)
longer = replace(tighter, epochs=100)
sparsest = replace(longer, kappa=80, lr=0.1 / 80)
turned = replace(sparsest, augment=("shift", "affine"))
longest = replace(turned, epochs=200)
nearby = {  # a search on the validation set: one thing at a time in the last one's place, with one seed
    "κ 40": replace(longest, kappa=40, lr=0.1 / 40),
    "κ 40, half the step": replace(longest, kappa=40, lr=0.05 / 40),
    "ν 5": replace(longest, mu=5),
    "κ 40, ν 5": replace(longest, kappa=40, lr=0.1 / 40, mu=5),
    "batches of 256": replace(longest, batch_size=256),
    "weight decay 1e-4": replace(longest, weight_decay=1e-4),
    "no turns or sizes": replace(longest, augment=("shift",)),
}
# What the search points to, from pretrained weights: a weaker pull, so that more filters stay, and some can be missed.
freer = replace(longest, start=mnist_sgd_warm, kappa=60, lr=0.1 / 60, mu=4, weight_decay=1e-4)
pulls = {
    "κ 60, ν 4": freer,
    "κ 60, ν 5": replace(freer, mu=5),
    "κ 80, ν 5": replace(freer, kappa=80, lr=0.1 / 80, mu=5),
}
same_sgd = replace(shifted, optimizer="sgd", mu=100, probes=(), epochs=longer.epochs)
bregman = replace(same_sgd, optimizer="linbreg", penalized=("features.conv3",), density=0.1, lam=0.03)

# The filters and weights of each layer that Γ found early, trained again from the same pretrained weights.
ticket = replace(mnist_sgd_warm, mask=Mask(of=mnist_warm, epoch=5))
by_lot = replace(mnist_sgd_warm, mask=Mask(of=mnist_warm, epoch=5, random=True))

SECTION_3_1 = section("3.1", {
    "optimizer": {
        "SGD": Scored(mnist_sgd, 0.9824, 225),
        "DessiLBI": Scored(mnist_dessilbi, 0.9706, 235),
        "SGD, momentum 0.9": mnist_sgd_stated,
        "DessiLBI, as stated": mnist_stated,
        "SGD, warm-up": mnist_sgd_warm,
        "SGD, warm-up and drop": mnist_sgd_dropped,
        "DessiLBI, warm-up": mnist_warm,
        "DessiLBI, no momentum": mnist_calm,
        "DessiLBI, authors' setting": scratch,
    },
    "pretrained": {
        "pretrained": Scored(pretrained, 0.9524),
    },
    "what each change brings": {
        "authors' setting": scratch,
        "+ shifts, cosine rate": shifted,
        "+ conv3 alone penalised": one_layer,
        "+ κ 20": sparser,
        "+ ν 3": tighter,
        "+ 100 epochs": longer,
        "+ κ 80": sparsest,
        "+ turns and sizes": turned,
        "+ 200 epochs": longest,
        "+ κ 60, ν 4, decay, pretrained": freer,
    },
    "around 200 epochs": {
        "+ 200 epochs": longest,
        **nearby,
    },
    "weaker pulls": pulls,
    "other ways to sparse filters": {
        "DessiLBI": sparsest,
        "SGD": same_sgd,
        "LinBreg": bregman,
        "AdaBreg": replace(bregman, optimizer="adabreg", momentum=0, lr=1e-3),
    },
    "winning ticket": {
        "all weights": mnist_sgd_warm,
        "early support": ticket,
        "as much at random": by_lot,
    },
})  # fmt: skip

# ------------------------------------------------------------------------------------------ section 3.2

mnist_adam = replace(mnist_stated, optimizer="dessilbi_adam", momentum=0, lr=3e-4, schedule=Constant())
cifar_dessilbi = replace(vgg_bn, optimizer="dessilbi", lr=0.04, mu=500, probes=("path",))
cifar_adam = replace(cifar_dessilbi, optimizer="dessilbi_adam", momentum=0)

SECTION_3_2 = section("3.2", {
    "MNIST": {
        "with Adam": Scored(mnist_adam, 0.9903),
        "without": Scored(mnist_dessilbi, 0.9706, 235),
        "without, as stated": mnist_stated,
        "without, warm-up": mnist_warm,
        "plain SGD": Scored(mnist_sgd, 0.9824, 225),
    },
    "CIFAR-10": {
        "with Adam": Scored(cifar_adam, 0.8345),
        "with Adam, usual rate 1e-3": replace(cifar_adam, lr=1e-3),
        "without": Scored(cifar_dessilbi, 0.8185),
        "plain SGD": Scored(vgg_bn, 0.8251, 20 * 18.34),
        "plain Adam, usual rate 1e-3": adam_on_vgg,
    },
})  # fmt: skip

# ------------------------------------------------------------------------------------------ how the report is read


class Candidates(Table):
    """A table of candidates for one reading, each on the rows that tell them apart: "candidate: row" → Run.

    `reading`; `aims`: label → what the report states for the row. It states nothing for the candidate.
    """

    def __init__(self, key: str, reading: Reading, places: Mapping[str, tuple[Table, str]], only: tuple[str, ...] = ()):
        names = (AS_STATED, *only) if only else tuple(reading.candidates)
        pairs = {f"{name}: {label}": (name, *place) for name in names for label, place in places.items()}
        super().__init__("readings", key, {
            label: reading.by(name, table[row]) for label, (name, table, row) in pairs.items()
        })  # fmt: skip
        self.reading = reading
        self.aims = {label: table.reported[row] for label, (_, table, row) in pairs.items()}


told_apart = {  # rows of section 1 by which the candidates differ most
    "no batch norm": (SECTION_1["1.2 batch norm"], "without"),
    "batch norm, no dropout": (SECTION_1["1.2 batch norm"], "with"),
    "dropout 0.3": (SECTION_1["1.3 dropout after each conv"], "0.3"),
    "tanh": (SECTION_1["1.6 activation"], "tanh"),
    "Adam": (SECTION_1["1.5 optimizer"], "Adam"),
    "RMSprop": (SECTION_1["1.5 optimizer"], "RMSprop"),
    "best model": (SECTION_1["1.8 best model"], "best model"),
}
pair_of_vgg = {label: (SECTION_2["2.1 accuracy"], label) for label in ("VGG-A", "VGG-A + BN")}
pair_of_dessilbi = {label: (SECTION_3_2["CIFAR-10"], label) for label in ("with Adam", "without")}
with_batch_norm = {label: told_apart[label] for label in ("batch norm, no dropout", "best model")}

SECTION_READINGS = {table.key: table for table in (
    Candidates("MyNet's rate", basic_rate, told_apart, ("0.01",)),
    Candidates("MyNet's first table", basic_rate, with_batch_norm,
               ("0.01", "0.01, batch norm not applied", "0.01, images in [0, 1]")),
    Candidates("MyResNet9's cycle", cycle, {"final": (SECTION_1_9["final"], "final")},
               ("momentum cycles too", "ends at the low rate")),
    Candidates("VGG-A's terms", starter_terms, pair_of_vgg, ("starter code, SGD 0.01",)),
    Candidates("DessiLBI's rate", sparse_rate, {"DessiLBI": (SECTION_3_1["optimizer"], "DessiLBI")}),
    Candidates("SGD on MNIST", sparse_momentum, {"SGD": (SECTION_3_1["optimizer"], "SGD")}),
    Candidates("DessiLBI on CIFAR-10", starter_sparse, pair_of_dessilbi,
               ("starter code, rate of the epoch after pretraining",)),
)}  # fmt: skip

SECTIONS: dict[str, dict[str, Table]] = {
    "1": SECTION_1, "1.9": SECTION_1_9, "2": SECTION_2, "3.1": SECTION_3_1, "3.2": SECTION_3_2,
    "readings": SECTION_READINGS,
}  # fmt: skip


# Accuracy of the report's DessiLBI network with a share of what it names pruned, without training it again.
REPORTED_PRUNED: dict[str, dict[float, float]] = {
    "conv3": {0.0: 0.9706, 0.1: 0.9704, 0.2: 0.9702, 0.3: 0.97, 0.4: 0.9653, 0.5: 0.9395, 0.6: 0.8925},
    "conv3 + fc1": {0.0: 0.9706, 0.1: 0.9706, 0.2: 0.9707, 0.3: 0.9714, 0.4: 0.9659, 0.5: 0.9347, 0.6: 0.8837},
}
# The same of the LeNet that the authors of DessiLBI published, as measured for this report, not by it.
AUTHORS_PRUNED: dict[float, float] = {0.0: 0.9861, 0.6: 0.9855, 0.7: 0.9836, 0.8: 0.9785, 0.9: 0.934}


def reported(section: str, table: str, row: str) -> Reported:
    """What the report states for one row; all None for a row that is not the report's."""
    return getattr(SECTIONS.get(section, {}).get(table), "reported", {}).get(row, Reported())
