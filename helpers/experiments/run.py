"""What a run is: model, data, optimizer, schedule and seed, completely described, and its digest. Nothing is trained or
read here; a run names its model, loss and optimizer, and imports none of them."""

import functools
import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

# Bounds beyond which no run is useful: whatever a file says, one that is replayed from it fits into a machine and ends.
LARGE = 1e30  # of rates and weights: in float32, whose largest is 3e38
Positive = Annotated[float, Field(gt=0, le=LARGE)]
NonNegative = Annotated[float, Field(ge=0, le=LARGE)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=1e-9, le=1)]
Epochs = Annotated[int, Field(gt=0, le=1000)]
Images = Annotated[int, Field(gt=0, le=100_000)]
Batch = Annotated[int, Field(gt=0, le=1024)]
Units = Annotated[int, Field(gt=0, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
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

    def rate(self, lr: float, done: float) -> float:
        """The learning rate at the fraction `done` (0 to 1) of a run whose `lr` is given."""
        return lr

    def momentum(self, momentum: float, done: float) -> float:
        """The momentum at the fraction `done` of a run whose `momentum` is given."""
        return momentum

    @model_serializer(mode="wrap")
    def _with_kind(self, handler):
        return {"kind": self.kind, **handler(self)}


class Constant(Schedule):
    """The run's `lr` throughout."""

    kind: Literal["constant"] = "constant"


class Cyclic(Schedule):
    """Triangles from the run's `lr` up to `high` and back, changed every batch (Smith, 2017).

    The default sides are those of torch.optim.lr_scheduler.CyclicLR, 2,000 of the report's 31,250 steps each.
    `shrink`: how high each triangle is compared with the one before, 0.5 for its mode "triangular2". `low_momentum`:
    what the momentum falls to while the rate rises, 0.8 for its `cycle_momentum`, its default; None: it stays.
    """

    kind: Literal["cyclic"] = "cyclic"
    high: Positive
    up: Part = 0.064
    down: Part = 0.064
    shrink: Fraction = 1.0
    low_momentum: Share | None = None

    def rate(self, lr: float, done: float) -> float:
        return lr + (self.high - lr) * self._height(done)

    def momentum(self, momentum: float, done: float) -> float:
        if self.low_momentum is None:
            return momentum
        return momentum - (momentum - self.low_momentum) * self._height(done)

    def _height(self, done: float) -> float:
        """From 0 at the foot of a triangle to 1 at its tip, or less where the triangles shrink."""
        cycle, position = divmod(done, self.up + self.down)
        return min(position / self.up, 1 - (position - self.up) / self.down) * self.shrink**cycle


class Exponential(Schedule):
    """The run's `lr`, times `factor` after each share `every` of the run: StepLR with steps of that share."""

    kind: Literal["exponential"] = "exponential"
    factor: Fraction
    every: Part

    def rate(self, lr: float, done: float) -> float:
        return lr * self.factor ** math.floor(done / self.every + 1e-9)  # so that rounding moves no boundary


class Steps(Schedule):
    """The run's `lr`, times `factor` from each of the positions `at` on; before, from 0 in a line over `warmup`."""

    kind: Literal["steps"] = "steps"
    at: Annotated[tuple[Share, ...], Field(max_length=100)]
    factor: Annotated[float, Field(gt=0, le=1000)]  # whose product over all of `at` is a number still
    warmup: Share = 0.0

    def rate(self, lr: float, done: float) -> float:
        if done < self.warmup:
            return lr * done / self.warmup
        return lr * self.factor ** sum(done >= at for at in self.at)


class Cosine(Schedule):
    """Up to the run's `lr` in a straight line over the fraction `warmup`, then down to 0 as half a cosine wave."""

    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.0

    def rate(self, lr: float, done: float) -> float:
        if done < self.warmup:
            return lr * done / self.warmup
        return lr * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup))) / 2


# ------------------------------------------------------------------------------------------ models' options


class MyNet(Frozen):
    kernels: tuple[Kernel, Kernel] = (5, 5)
    hidden: Units = 1024
    dropout: Share = 0.0
    activation: Activation = "relu"
    batch_norm: bool = True


class MyResNet9(Frozen):
    block_kernel: Literal[3, 5] = 3
    activation: Activation = "relu"
    batch_norm: bool = True


class VGG(Frozen):
    batch_norm: bool = True
    init: Literal["kaiming", "xavier", "default"] = "kaiming"


class LeNet(Frozen):
    pass


OPTIONS = {options.__name__: options for options in (MyNet, MyResNet9, VGG, LeNet)}


# ------------------------------------------------------------------------------------------ runs


Optimizer = Literal["sgd", "adam", "rmsprop", "dessilbi", "dessilbi_adam", "linbreg", "adabreg"]
Probe = Literal["gradient_change", "smoothness", "along_gradient", "surface", "path"]


class Run(Frozen):
    """One training run, described completely: the same Run on the same machine and engine gives the same numbers.

    `options` are the model's; `augment` holds "crop" (pad 4) or "shift" (pad 2), "flip", "affine", "trivial"
    (TrivialAugment) and "cutout" (a square of 8 pixels); `normalize`: by the training images' mean and deviation,
    "symmetric" to [−1, 1], or not, so that images are in [0, 1]; `validation`: on 10,000 training images that are held
    out, or on the test set, and then all are trained on; `images` cuts each split to its first few; `start` is the run
    whose final weights this one starts from. `label_smoothing`: in training alone. `average`: the share of the averaged
    weights (and batch-norm statistics) that stays at each step; what is validated and tested are the averaged ones.
    `flipped`: images are also shown mirrored when the network is validated and tested, and its outputs averaged.
    `kappa`, `mu`: DessiLBI's; `lam`: the weight of the penalty in LinBreg and AdaBreg, `density` the share of filters
    that these start with; `penalized`: the layers that are to become sparse, all if none is named. `precision`: "auto"
    for what is fastest, "float32" where that matters. `probes`: what is measured along the way, which changes nothing
    of the run. `mask`: weights that stay zero. Raises ValueError naming what is not allowed.
    """

    data: Literal["cifar10", "mnist"] = "cifar10"
    model: Literal["MyNet", "MyResNet9", "VGG", "LeNet"]
    options: dict[str, Any] = {}
    loss: Literal["cross_entropy", "nll"] = "cross_entropy"
    label_smoothing: Share = 0.0
    optimizer: Optimizer = "sgd"
    lr: Positive
    momentum: Share = 0.0
    nesterov: bool = False
    kappa: Positive = 1.0
    mu: Positive = 100.0
    lam: NonNegative = 0.0
    density: Fraction = 1.0
    penalized: tuple[str, ...] = ()
    weight_decay: NonNegative = 0.0
    schedule: Annotated[Constant | Cyclic | Exponential | Steps | Cosine, Field(discriminator="kind")] = Constant()
    epochs: Epochs
    batch_size: Batch = 64
    augment: tuple[Literal["crop", "shift", "flip", "affine", "trivial", "cutout"], ...] = ()
    normalize: bool | Literal["symmetric"] = True
    validation: Literal["held_out", "test"] = "held_out"
    average: Share = 0.0
    flipped: bool = False
    images: Images | None = None
    seed: Seed = 0
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
        if getattr(self.schedule, "low_momentum", None) is not None and self.optimizer not in BELONGS["momentum"]:
            raise ValueError(f"low_momentum belongs to {', '.join(BELONGS['momentum'])}, not to {self.optimizer}")
        if {"crop", "shift"} <= set(self.augment):
            raise ValueError("crop and shift are one transform, of 4 or 2 pixels: name one of them")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError(f"label_smoothing belongs to cross_entropy, not to {self.loss}")
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

    def momentum_at(self, done: float) -> float:
        """The momentum when the fraction `done` (0 to 1) of the run lies behind."""
        return self.schedule.momentum(self.momentum, done)

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
    epoch: Epochs
    random: bool = False


Run.model_rebuild()

# The optimizers that a setting belongs to.
BELONGS = {
    "momentum": ("sgd", "dessilbi", "linbreg"),
    "nesterov": ("sgd",),
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


def with_needs(run: Run, change, **changes) -> Run:
    """`run` with `changes`, and `change` made to the runs that it needs."""
    start, mask = run.start and change(run.start), run.mask and Mask(**{**dict(run.mask), "of": change(run.mask.of)})
    return replace(run, start=start, mask=mask, **changes)


def reseed(run: Run, seed: int) -> Run:
    """`run` with another seed, and so the runs that it needs: they are repeated together."""
    return with_needs(run, lambda needed: reseed(needed, seed), seed=seed)
