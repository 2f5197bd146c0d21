"""Which runs each table and figure of the report compares: a table is a dict of label → `replace(base, one_thing=…)`.
Nothing is trained or read here; a run names its model, loss and optimizer, and imports none of them."""

import difflib
import functools
import hashlib
import json
import math
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

BUDGETS = ("smoke", "laptop", "paper")  # from the cheapest to the report's own
LAPTOP_EPOCHS = {"MyNet": 10, "MyResNet9": 10, "VGG": 5}  # what is not named here is trained in full
LAPTOP_LANDSCAPE_EPOCHS = 3  # of runs whose gradients are measured
SMOKE_EPOCHS, SMOKE_IMAGES = 2, 128
# Seconds an epoch on one core with bfloat16: short runs go before long ones, and what is left is estimated by them.
SECONDS_PER_EPOCH = {"LeNet": 5, "MyNet": 27, "VGG": 200, "MyResNet9": 208}
UNKNOWN_SECONDS = 100  # of a network that is not among them yet
IN_FLOAT32, PROBED = 2.0, 1.35  # times as long in float32, and with gradients measured along the way

# The shares of LeNet's filters and weights that are pruned when a run has ended, and in which layers.
PRUNED = tuple(percent / 100 for percent in range(0, 100, 5))
PRUNED_LAYERS = {"conv3": ("features.conv3",), "conv3_fc1": ("features.conv3", "classifier.fc1")}

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Kernel = Annotated[int, Field(gt=0, le=10)]
Activation = Literal["relu", "tanh"]


class Frozen(BaseModel):
    """An immutable, keyword-only description; a value that is not allowed is a ValueError of one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(self._in_words(error.errors()[0])) from None

    @classmethod
    def _in_words(cls, error) -> str:
        place = ".".join(str(part) for part in error["loc"])
        if error["type"] == "value_error":
            return str(error["ctx"]["error"])
        if error["type"] == "missing":
            return f"{cls.__name__} needs {place}"
        if error["type"] == "extra_forbidden":
            return f"{place!r} is nothing that {cls.__name__} has: it has {', '.join(cls.model_fields) or 'no options'}"
        return f"{place}: {error['input']!r} is not allowed: {error['msg']}"


# ------------------------------------------------------------------------------------------ schedules


class Schedule(Frozen):
    """How the learning rate goes over a run; every position is a fraction of the run, so it serves each budget."""

    kind: str

    def __init__(self, **fields):
        super().__init__(**{"kind": type(self).__name__.lower(), **fields})

    def rate(self, lr: float, done: float) -> float:
        """The learning rate at the fraction `done` (0 to 1) of a run whose `lr` is given."""
        return lr

    @model_serializer(mode="wrap")
    def _with_kind(self, handler):
        return {"kind": self.kind, **handler(self)}


class Constant(Schedule):
    """The run's `lr` throughout."""

    kind: Literal["constant"]


class Cyclic(Schedule):
    """Triangles from the run's `lr` up to `high` and back, changed every batch (Smith, 2017).

    The default sides are those of torch.optim.lr_scheduler.CyclicLR, 2,000 of the report's 31,250 steps each.
    """

    kind: Literal["cyclic"]
    high: Positive
    up: Fraction = 0.064
    down: Fraction = 0.064

    def rate(self, lr: float, done: float) -> float:
        position = done % (self.up + self.down)
        return lr + (self.high - lr) * min(position / self.up, 1 - (position - self.up) / self.down)


class Steps(Schedule):
    """The run's `lr`, times `factor` from each of the positions `at` on; before, from 0 in a line over `warmup`."""

    kind: Literal["steps"]
    at: tuple[Share, ...]
    factor: Positive
    warmup: Share = 0.0

    def rate(self, lr: float, done: float) -> float:
        if done < self.warmup:
            return lr * done / self.warmup
        return lr * self.factor ** sum(done >= at for at in self.at)


class Cosine(Schedule):
    """Up to the run's `lr` in a straight line over the fraction `warmup`, then down to 0 as half a cosine wave."""

    kind: Literal["cosine"]
    warmup: Share = 0.0

    def rate(self, lr: float, done: float) -> float:
        if done < self.warmup:
            return lr * done / self.warmup
        return lr * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup))) / 2


# ------------------------------------------------------------------------------------------ models' options


class MyNet(Frozen):
    kernels: tuple[Kernel, Kernel] = (5, 5)
    hidden: Count = 1024
    dropout: Share = 0.0
    activation: Activation = "relu"
    batch_norm: bool = True


class MyResNet9(Frozen):
    block_kernel: Literal[3, 5] = 3
    activation: Activation = "relu"
    batch_norm: bool = True


class VGG(Frozen):
    batch_norm: bool = True
    init: Literal["kaiming", "default"] = "kaiming"


class LeNet(Frozen):
    pass


OPTIONS = {options.__name__: options for options in (MyNet, MyResNet9, VGG, LeNet)}


# ------------------------------------------------------------------------------------------ runs


Optimizer = Literal["sgd", "adam", "rmsprop", "dessilbi", "dessilbi_adam", "linbreg", "adabreg"]
Probe = Literal["gradient_change", "smoothness", "along_gradient", "surface", "path"]


class Run(Frozen):
    """One training run, described completely: the same Run on the same machine and engine gives the same numbers.

    `options` are the model's; `augment` holds "crop" (pad 4) or "shift" (pad 2), "flip" and "affine"; `images` cuts
    each split to its first few; `start` is the run whose final weights this one starts from. `kappa`, `mu`: DessiLBI's;
    `lam`: the weight of the penalty in LinBreg and AdaBreg, `density` the share of filters that these start with;
    `penalized`: the layers that are to become sparse, all if none is named. `precision`: "auto" for what is fastest,
    "float32" where that matters. `probes`: what is measured along the way, which changes nothing of the run. `mask`:
    weights that stay zero. Raises ValueError naming what is not allowed.
    """

    data: Literal["cifar10", "mnist"] = "cifar10"
    model: Literal["MyNet", "MyResNet9", "VGG", "LeNet"]
    options: dict[str, Any] = {}
    loss: Literal["cross_entropy", "nll"] = "cross_entropy"
    optimizer: Optimizer = "sgd"
    lr: Positive
    momentum: Share = 0.0
    kappa: Positive = 1.0
    mu: Positive = 100.0
    lam: NonNegative = 0.0
    density: Fraction = 1.0
    penalized: tuple[str, ...] = ()
    weight_decay: NonNegative = 0.0
    schedule: Annotated[Constant | Cyclic | Steps | Cosine, Field(discriminator="kind")] = Constant()
    epochs: Count
    batch_size: Count = 64
    augment: tuple[Literal["crop", "shift", "flip", "affine"], ...] = ()
    normalize: bool = True
    images: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32"] = "auto"
    probes: tuple[Probe, ...] = ()
    start: "Run | None" = None
    mask: "Mask | None" = None

    @model_validator(mode="before")
    @classmethod
    def _keep_what_differs(cls, fields):
        model, given = (fields.get("model"), fields.get("options", {})) if isinstance(fields, dict) else (None, None)
        if not isinstance(model, str) or model not in OPTIONS:
            return fields  # the checks of the fields say what is wrong
        if not isinstance(given, dict):
            raise ValueError(f"options: {given!r} is not allowed: it must be a dict of name and value")
        chosen = OPTIONS[model](**{str(name): value for name, value in given.items()})
        return {**fields, "options": chosen.model_dump(mode="json", exclude_defaults=True)}

    @model_validator(mode="after")
    def _consistent(self):
        for name, optimizers in BELONGS.items():
            if self.optimizer not in optimizers and getattr(self, name) != (default := DEFAULTS[name]):
                whose, value = ", ".join(optimizers), getattr(self, name)
                raise ValueError(f"{name} {value} belongs to {whose}; for {self.optimizer} say {name}={default}")
        if {"crop", "shift"} <= set(self.augment):
            raise ValueError("crop and shift are one transform, of 4 or 2 pixels: name one of them")
        if "path" in self.probes and self.optimizer not in BELONGS["mu"]:
            raise ValueError(f"the probe path follows Γ, which {self.optimizer} does not have")
        if self.loss == "nll" and self.model != "MyNet":
            raise ValueError(f"nll needs log-probabilities, which of the models only MyNet gives, not {self.model}")
        if not self.rate(0) and (along := {"smoothness", "along_gradient"} & set(self.probes)):
            raise ValueError(f"{' and '.join(sorted(along))} measure along a step: the rate must not be 0 at first")
        if self.mask and "path" not in self.mask.of.probes:
            raise ValueError(f"{self.mask.of.name} gives no mask: it needs the probe path, which follows its support")
        return self

    def rate(self, done: float) -> float:
        """The learning rate when the fraction `done` (0 to 1) of the run lies behind."""
        return self.schedule.rate(self.lr, done)

    def differing(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as JSON values: what the digest is made from."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @functools.cached_property
    def digest(self) -> str:
        """Ten hexadecimal digits that name this run; a field added later with a default leaves them as they are."""
        text = json.dumps(self.differing(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """`<model>-<digest>`, the stem of the run's files."""
        return f"{self.model}-{self.digest}"

    @property
    def needs(self) -> "list[Run]":
        """The runs that have to be there before this one: what it starts from, and what its mask comes from."""
        return [run for run in (self.start, self.mask and self.mask.of) if run is not None]

    @property
    def all_needs(self) -> "list[Run]":
        """What this run needs, and what that needs in turn."""
        return [each for needed in self.needs for each in (needed, *needed.all_needs)]

    def __hash__(self) -> int:
        return hash(self.digest)


class Mask(Frozen):
    """Which weights stay zero: all of the penalised layers but the support that Γ had in the run `of` after `epoch`.

    `random`: as many filters or weights of each layer, but drawn by lot.
    """

    of: Run
    epoch: Count
    random: bool = False


Run.model_rebuild()

# The optimizers that a setting belongs to.
BELONGS = {
    "momentum": ("sgd", "dessilbi", "linbreg"),
    "kappa": ("dessilbi", "dessilbi_adam"),
    "mu": ("dessilbi", "dessilbi_adam"),
    "lam": ("linbreg", "adabreg"),
    "density": ("linbreg", "adabreg"),
    "penalized": ("dessilbi", "dessilbi_adam", "linbreg", "adabreg"),
    "weight_decay": ("sgd", "adam", "rmsprop", "dessilbi", "dessilbi_adam"),
}
DEFAULTS = {name: Run.model_fields[name].default for name in BELONGS}


def replace(run: Run, **changes) -> Run:
    """`run` with some things changed: fields of Run, or options of its model by their own names."""
    fields = {name: getattr(run, name) for name in Run.model_fields}
    options = {name: changes.pop(name) for name in list(changes) if name not in fields}
    kept = changes.pop("options", {} if "model" in changes else run.options)
    return Run(**{**fields, "options": {**kept, **options}, **changes})


def _with_needs(run: Run, change, **changes) -> Run:
    """`run` with `changes`, and `change` made to the runs that it needs."""
    start, mask = run.start and change(run.start), run.mask and Mask(**{**dict(run.mask), "of": change(run.mask.of)})
    return replace(run, start=start, mask=mask, **changes)


def at(run: Run, budget: str) -> Run:
    """`run` as the budget affords it: "paper" in full, "laptop" with fewer epochs, "smoke" on some images."""
    budget = find("budget", budget, BUDGETS)
    if budget == "paper":
        return run
    changes = dict(epochs=_epochs(run, budget), images=SMOKE_IMAGES if budget == "smoke" else run.images)
    shorter = _with_needs(run, lambda needed: at(needed, budget), **changes)
    if run.mask and shorter.mask.epoch > shorter.mask.of.epochs:
        return replace(shorter, mask=Mask(**{**dict(shorter.mask), "epoch": shorter.mask.of.epochs}))
    return shorter


def _epochs(run: Run, budget: str) -> int:
    if budget == "smoke":
        return SMOKE_EPOCHS
    most = LAPTOP_LANDSCAPE_EPOCHS if "smoothness" in run.probes else LAPTOP_EPOCHS.get(run.model, run.epochs)
    return min(run.epochs, most)


def reseed(run: Run, seed: int) -> Run:
    """`run` with another seed, and so the runs that it needs: they are repeated together."""
    return _with_needs(run, lambda needed: reseed(needed, seed), seed=seed)


# ------------------------------------------------------------------------------------------ section 1

base = Run(model="MyNet", loss="nll", optimizer="sgd", lr=0.1, momentum=0.5, epochs=50)
dropped = replace(base, dropout=0.3)
best = replace(dropped, hidden=100)
in_float32 = replace(best, precision="float32")  # where a processor has bfloat16, timing picks that

SECTION_1 = {
    "1.2 batch norm": {
        "without": replace(base, batch_norm=False),
        "with": base,
    },
    "1.3 dropout after each conv": {
        "0": base,
        "0.5": replace(base, dropout=0.5),
        "0.3": dropped,
        "0.1": replace(base, dropout=0.1),
    },
    "1.4 loss": {
        "NLL": dropped,
        "cross-entropy": replace(dropped, loss="cross_entropy"),
    },
    "1.5 optimizer": {
        "SGD with momentum": dropped,
        "Adam": replace(dropped, optimizer="adam", momentum=0),
        "RMSprop": replace(dropped, optimizer="rmsprop", momentum=0),
        "Adam, usual rate 1e-3": replace(dropped, optimizer="adam", momentum=0, lr=1e-3),
        "RMSprop, usual rate 1e-3": replace(dropped, optimizer="rmsprop", momentum=0, lr=1e-3),
    },
    "1.6 activation": {
        "ReLU": dropped,
        "tanh": replace(dropped, activation="tanh"),
    },
    "1.6 kernels": {
        "5×5 + 5×5": dropped,
        "5×5 + 3×3": replace(dropped, kernels=(5, 3)),
        "3×3 + 3×3": replace(dropped, kernels=(3, 3)),
    },
    "1.7 hidden size": {
        "1024": dropped,
        "100": best,
        "300": replace(dropped, hidden=300),
    },
    "1.8 best model": {
        "best model": best,
    },
    "precision": {
        "as timed": best,
        "float32": in_float32,
    },
}

# ------------------------------------------------------------------------------------------ section 1.9

plain = Run(model="MyResNet9", options={"block_kernel": 5}, lr=0.01, momentum=0.5, epochs=50)
augmented = replace(plain, augment=("crop", "flip"))
decayed = replace(augmented, weight_decay=1e-4)
moving = replace(decayed, momentum=0.9)
cyclic = replace(moving, schedule=Cyclic(high=0.04))
small_kernel = replace(cyclic, block_kernel=3)
final = replace(small_kernel, weight_decay=4e-4)

SECTION_1_9 = {
    "augmentation": {
        "none": plain,
        "crop + flip + normalisation": augmented,
    },
    "L2 regularisation": {
        "none": augmented,
        "1e-4": decayed,
        "4e-4": replace(augmented, weight_decay=4e-4),
    },
    "momentum": {
        "0.5": decayed,
        "0.9": moving,
    },
    "learning rate": {
        "0.01": moving,
        "cyclic 0.01–0.04": cyclic,
        "0.04, then 0.01": replace(moving, lr=0.04, schedule=Steps(at=(0.4,), factor=0.25)),
    },
    "kernel of one block": {
        "5×5, stride 2": cyclic,
        "3×3, stride 1": small_kernel,
    },
    "final": {
        "final": final,
    },
    "other activations and losses": {
        "ReLU": final,
        "tanh": replace(final, activation="tanh"),
    },
}

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

SECTION_2 = {
    "2.1 accuracy": {
        "VGG-A": vgg,
        "VGG-A + BN": vgg_bn,
    },
    "2.1 accuracy with Adam": {
        "VGG-A": replace(adam_on_vgg, batch_norm=False),
        "VGG-A + BN": adam_on_vgg,
    },
    "2.1 initialisation": {
        "VGG-A, Kaiming": vgg,
        "VGG-A, PyTorch's own": replace(vgg, init="default", probes=()),
    },
    "2.2 loss landscape": landscape_runs,
}

# ------------------------------------------------------------------------------------------ section 3.1

lenet = Run(data="mnist", model="LeNet", lr=5e-3, epochs=20, batch_size=128, normalize=False)
pretrained = lenet
mnist_sgd = replace(lenet, start=pretrained, epochs=30, lr=0.04, momentum=0.9)
WARMUP = 1 / 30  # share of the run over which the rate rises: one epoch of thirty
mnist_sgd_warm = replace(mnist_sgd, schedule=Steps(at=(), factor=1, warmup=WARMUP))
mnist_dessilbi = replace(
    mnist_sgd, optimizer="dessilbi", lr=0.1, mu=20, schedule=Steps(at=(2 / 3,), factor=0.1), probes=("path",)
)
# As stated, the first steps from pretrained weights are too large: all units die. One epoch of warm-up, ours, mends it.
mnist_warm = replace(mnist_dessilbi, schedule=Steps(at=(2 / 3,), factor=0.1, warmup=WARMUP))
mnist_sgd_dropped = replace(mnist_sgd, schedule=mnist_warm.schedule)  # so that only the optimizer differs
mnist_calm = replace(mnist_dessilbi, momentum=0)  # the report doesn't name the momentum
scratch = replace(mnist_dessilbi, start=None, epochs=60)

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

SECTION_3_1 = {
    "optimizer": {
        "SGD": mnist_sgd,
        "DessiLBI": mnist_dessilbi,
        "SGD, warm-up": mnist_sgd_warm,
        "SGD, warm-up and drop": mnist_sgd_dropped,
        "DessiLBI, warm-up": mnist_warm,
        "DessiLBI, no momentum": mnist_calm,
        "DessiLBI, authors' setting": scratch,
    },
    "pretrained": {
        "pretrained": pretrained,
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
}

# ------------------------------------------------------------------------------------------ section 3.2

mnist_adam = replace(mnist_dessilbi, optimizer="dessilbi_adam", momentum=0, lr=3e-4, schedule=Constant())
cifar_dessilbi = replace(vgg_bn, optimizer="dessilbi", lr=0.04, mu=500, probes=("path",))
cifar_adam = replace(cifar_dessilbi, optimizer="dessilbi_adam", momentum=0)

SECTION_3_2 = {
    "MNIST": {
        "with Adam": mnist_adam,
        "without": mnist_dessilbi,
        "without, warm-up": mnist_warm,
        "plain SGD": mnist_sgd,
    },
    "CIFAR-10": {
        "with Adam": cifar_adam,
        "with Adam, usual rate 1e-3": replace(cifar_adam, lr=1e-3),
        "without": cifar_dessilbi,
        "plain SGD": vgg_bn,
        "plain Adam, usual rate 1e-3": adam_on_vgg,
    },
}

SECTIONS: dict[str, dict[str, dict[str, Run]]] = {
    "1": SECTION_1, "1.9": SECTION_1_9, "2": SECTION_2, "3.1": SECTION_3_1, "3.2": SECTION_3_2,
}  # fmt: skip

# The runs that the report's main claims hang on: first among the long ones.
HEADLINE = {base, SECTION_1["1.2 batch norm"]["without"], best, final, vgg, vgg_bn, cifar_dessilbi, cifar_adam}
# How often a run is repeated, with seeds 0, 1, …; once unless named here.
_claimed = {
    *SECTION_1["1.2 batch norm"].values(), *SECTION_1["1.4 loss"].values(), SECTION_1["1.6 activation"]["tanh"],
    final, vgg, vgg_bn,
}  # fmt: skip
_declared = [run for tables in SECTIONS.values() for runs in tables.values() for run in runs.values()]
_once = {*landscape_runs.values(), *nearby.values()}  # a figure over four learning rates, and a search
SEEDS: dict[str, dict[Run, int]] = {
    "laptop": {
        **{run: 3 for run in _declared if run in _claimed or run.data == "mnist" and run not in _once},
        **{run: 8 for run in (best, in_float32)},  # with three, the precisions lay just beyond noise apart
    },
    "paper": {run: 3 for run in _declared if run not in _once},
    "smoke": {},
}
# The runs whose test predictions and first-layer filters are kept, since a figure shows them.
DRAWN = {best, final, by_lot}
# The runs whose weights are kept, to be looked at or built on; those that another run starts from are kept as well.
_others = SECTION_3_1["other ways to sparse filters"]
KEPT = {mnist_sgd, mnist_sgd_warm, mnist_sgd_dropped, mnist_warm, longest, *pulls.values(), *_others.values()}


# ------------------------------------------------------------------------------------------ looking things up


class Row(NamedTuple):
    """One row of a table, with the run that makes it in the report's own budget."""

    section: str
    table: str
    label: str
    run: Run


class UnknownName(ValueError):
    """A section, table, row or budget that does not exist; the message names the nearest that do."""


def find(what: str, name: str, names) -> str:
    """The one of `names` that `name` means: itself, or the only one that contains it. Raises UnknownName."""
    names = list(dict.fromkeys(names))
    if name in names:
        return name
    matches = [candidate for candidate in names if name.lower() in candidate.lower()]
    if len(matches) == 1 and name:
        return matches[0]
    near = matches or difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
    raise UnknownName(f"{what} {name!r} is unknown: did you mean {' or '.join(repr(n) for n in near)}?")


def title(section: str, table: str) -> str:
    """A table's name with its section's number."""
    return table if table[0].isdigit() else f"{section} {table}"


def rows(section: str | None = None, table: str | None = None, row: str | None = None) -> list[Row]:
    """The declared rows, all of them or those of one section, table (as in `title`) or label. Raises UnknownName."""
    chosen = list(_all_rows())
    if section is not None:
        # A section is exact: "1" is not short for "1.9".
        if section not in SECTIONS:
            raise UnknownName(f"section {section!r} is unknown: there are {', '.join(SECTIONS)}")
        chosen = [each for each in chosen if each.section == section]
    if table is not None:
        named = find("table", table, [title(each.section, each.table) for each in chosen])
        chosen = [each for each in chosen if title(each.section, each.table) == named]
    if row is not None:
        row = find("row", row, [each.label for each in chosen])
        chosen = [each for each in chosen if each.label == row]
    return chosen


def _all_rows() -> Iterator[Row]:
    for section, tables in SECTIONS.items():
        for table, runs in tables.items():
            for label, run in runs.items():
                yield Row(section, table, label, run)


def replicas(run: Run, budget: str) -> list[Run]:
    """The runs behind one row in `budget`: one for each declared seed."""
    affordable = at(run, budget)
    return [reseed(affordable, seed) for seed in range(SEEDS[budget].get(run, 1))]


def order(run: Run, budget: str) -> tuple:
    """Sorts pending runs usefully: laptop before paper, there headline first; first seeds, then short before long."""
    headline = _is_one_of(run, HEADLINE)
    rank = run.seed > 0, estimated_seconds(run), not headline
    return BUDGETS.index(budget), budget == "paper" and not headline, *rank


def estimated_seconds(run: Run) -> float:
    """About how long a run takes on one core with bfloat16."""
    slower = IN_FLOAT32 if run.precision == "float32" else 1
    slower *= PROBED if {"gradient_change", "smoothness", "along_gradient"} & set(run.probes) else 1
    epochs = run.epochs * (run.images / 40_000 if run.images else 1)
    return SECONDS_PER_EPOCH.get(run.model, UNKNOWN_SECONDS) * slower * epochs


def outlook(runs: Collection[Run]) -> str:
    """What making some runs means, in words: "3 runs to make, about 1.5 hours of one core with bfloat16"."""
    minutes = sum(map(estimated_seconds, runs)) / 60
    time = f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute"
    return f"{len(runs)} run{'s' * (len(runs) != 1)} to make, about {time} of one core with bfloat16"


@functools.lru_cache
def _in_every_budget(declared: frozenset[Run]) -> frozenset[Run]:
    return frozenset(at(run, budget) for run in declared for budget in BUDGETS)


def _is_one_of(run: Run, declared: set[Run]) -> bool:
    return reseed(run, 0) in _in_every_budget(frozenset(declared))


def is_drawn(run: Run) -> bool:
    """Whether a figure shows the predictions and filters of `run`, in whatever budget."""
    return _is_one_of(run, DRAWN)


def _starts() -> set[Run]:
    """All runs that a declared run, or one that it needs, starts from."""
    declared = (run for row in _all_rows() for run in (row.run, *row.run.all_needs))
    return {run.start for run in declared if run.start}


def keeps_weights(run: Run) -> bool:
    """Whether the weights of `run`, in whatever budget, are kept beside its record."""
    return _is_one_of(run, KEPT | _starts())
