"""How one run goes: the one training loop, with what it is built from and the checkpoint it can go on from. It knows
neither tables nor files, and never touches the test set before the last step."""

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn
from torch.optim import swa_utils

from helpers import bregman, data, dessilbi, fast, models
from helpers.fast import Engine, optimizers

LOSSES = {"cross_entropy": nn.functional.cross_entropy, "nll": nn.functional.nll_loss}
FINGERPRINT_STEPS = 5
CHECK_EVERY = 50  # steps between two looks at whether the loss is still finite; a look makes a GPU wait
HISTORY = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds")


class Stopped(Exception):
    """The run was asked to stop and has been saved."""


# ------------------------------------------------------------------------------------------ parts


def make_optimizer(run, model: nn.Module) -> torch.optim.Optimizer:
    """The run's optimizer over the model's parameters, in torch's fastest form of it."""
    name, common = run.optimizer, dict(lr=run.lr, weight_decay=run.weight_decay)
    if name == "sgd":
        return optimizers.SGD(model.parameters(), momentum=run.momentum, nesterov=run.nesterov, fused=True, **common)
    if name == "adam":
        return optimizers.Adam(model.parameters(), fused=True, **common)
    if name == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), foreach=True, **common)
    groups = dessilbi.param_groups(model, run.penalized or None)
    if name == "dessilbi":
        return dessilbi.DessiLBI(groups, kappa=run.kappa, mu=run.mu, momentum=run.momentum, **common)
    if name == "dessilbi_adam":
        return dessilbi.DessiLBIAdam(groups, kappa=run.kappa, mu=run.mu, **common)
    bregman.thin_(groups, run.density)
    if name == "linbreg":
        return bregman.LinBreg(groups, run.lr, lam=run.lam, momentum=run.momentum)
    if name == "adabreg":
        return bregman.AdaBreg(groups, run.lr, lam=run.lam)
    raise ValueError(f"optimizer {name!r} is declared, but nothing here makes it")


class Trainer:
    """A run under way: model, optimizer and how far it has come. All of it goes into a checkpoint and comes back.

    `steps`: steps an epoch; `start`: weights to start from in place of the seed's own (name → tensor); `masks`: of the
    parameters of which some stay zero, 1 where they don't (name → tensor).
    """

    def __init__(self, run, engine: Engine, steps: int, start: dict | None = None, masks: dict | None = None):
        self.run, self.engine = run, engine
        # Float32 means float32: how losses and gradients change over a short step would drown in TF32's rounding.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True  # a run that was killed ends at the same weights
        torch.manual_seed(run.seed)
        model = models.build(run.model, **run.options)
        if start is not None:
            model.load_state_dict(start)
        self.model = fast.speed_up(engine.place(model), engine)
        parameters = dict(self.model.named_parameters())
        self.masks = [(parameters[name], mask.to(engine.device)) for name, mask in (masks or {}).items()]
        self._apply_masks()
        self.optimizer = make_optimizer(run, self.model)
        self.averaged = swa_utils.AveragedModel(
            self.model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(run.average), use_buffers=True
        ) if run.average else None  # fmt: skip
        smoothing = {"label_smoothing": run.label_smoothing} if run.label_smoothing else {}
        self.criterion = functools.partial(LOSSES[run.loss], **smoothing)
        self.step, self.diverged_at = 0, None
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY}
        # Of each step: the mean loss and the number of images got right. Of the epoch under way: seconds spent.
        self.losses, self.correct = torch.zeros(2, run.epochs * steps, device=engine.device)
        self.seconds = 0.0

    @property
    def result(self) -> nn.Module:
        """The model that is validated, tested and kept: with averaged weights where the run averages them."""
        return self.averaged.module if self.averaged else self.model

    def step_on(self, images: torch.Tensor, labels: torch.Tensor, probes=()) -> tuple[torch.Tensor, torch.Tensor]:
        """One training step; gives the loss and the outputs it was made with."""
        with self.engine.autocast():
            outputs = self.model(images)
        outputs = outputs.float()
        loss = self.criterion(outputs, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for probe in probes:
            probe(self, images, labels, loss)
        self.optimizer.step()
        self._apply_masks()
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.detach(), outputs.detach()

    @torch.no_grad()
    def _apply_masks(self) -> None:
        for parameter, mask in self.masks:
            parameter.mul_(mask)

    def state_dict(self) -> dict:
        random = {"cpu": torch.get_rng_state()}
        if self.engine.device != "cpu":
            random["cuda"] = torch.cuda.get_rng_state(self.engine.device)
        return {
            "engine": asdict(self.engine), "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged and self.averaged.state_dict(),
            "step": self.step, "diverged_at": self.diverged_at, "history": self.history, "losses": self.losses,
            "correct": self.correct, "seconds": self.seconds, "random": random,
        }  # fmt: skip

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        for name in ("step", "diverged_at", "history", "seconds"):
            setattr(self, name, state[name])
        self.losses.copy_(state["losses"])
        self.correct.copy_(state["correct"])
        torch.set_rng_state(state["random"]["cpu"].cpu())
        if "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"].cpu(), self.engine.device)


def make_batches(run, dataset: data.Dataset, device: str = "cpu") -> data.Batches:
    """The run's training batches."""
    split, statistics = dataset.train.first(run.images), dataset.scaling(run.normalize)
    return data.Batches(split, run.batch_size, run.seed, run.augment, *statistics, device=device)


# ------------------------------------------------------------------------------------------ the loop


def fit(
    trainer: Trainer,
    batches: data.Batches,
    validate: Callable[[nn.Module], tuple[float, float]],
    *,
    probes=(),
    tick: Callable[[Trainer], None] = lambda trainer: None,
    save: Callable[[Trainer], None] = lambda trainer: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trainer:
    """Trains to the end of the run, or until its loss is no longer finite.

    Each of `probes` is called at every step between backward and update, as probe(trainer, images, labels, loss);
    `tick` after each step; `save` after each epoch. When `stop()` is true after a step: saves and raises Stopped.
    """
    steps, total = len(batches), trainer.run.epochs * len(batches)
    while trainer.step < total and trainer.diverged_at is None:
        trainer.model.train()
        started = time.perf_counter() - trainer.seconds
        for step in range(trainer.step, (trainer.step // steps + 1) * steps):
            _set_rates(trainer, step / total)
            images, labels = batches(step)
            loss, outputs = trainer.step_on(trainer.engine.place(images), labels, probes)
            trainer.losses[step] = loss
            trainer.correct[step] = (outputs.argmax(1) == labels).sum()
            trainer.step = step + 1
            trainer.seconds = time.perf_counter() - started
            tick(trainer)
            end_of_epoch = trainer.step % steps == 0
            if (trainer.step % CHECK_EVERY == 0 or end_of_epoch) and _has_diverged(trainer):
                return trainer
            if not end_of_epoch and stop():
                save(trainer)
                raise Stopped
        _close_epoch(trainer, batches, *validate(trainer.result))
        save(trainer)
        if trainer.step < total and stop():
            raise Stopped
    return trainer


def _set_rates(trainer: Trainer, done: float) -> None:
    """Learning rate and momentum of the run when the fraction `done` of it lies behind."""
    for group in trainer.optimizer.param_groups:
        group["lr"] = trainer.run.rate(done)
        if "momentum" in group:
            group["momentum"] = trainer.run.momentum_at(done)


def _has_diverged(trainer: Trainer) -> bool:
    bad = torch.nonzero(~torch.isfinite(trainer.losses[: trainer.step]))
    trainer.diverged_at = int(bad[0]) if len(bad) else None
    return trainer.diverged_at is not None


def _close_epoch(trainer: Trainer, batches: data.Batches, loss: float, accuracy: float) -> None:
    steps, count = len(batches), len(batches.split)
    epoch = slice(trainer.step - steps, trainer.step)
    sizes = torch.full((steps,), float(batches.size), dtype=torch.float64)
    sizes[-1] = count - batches.size * (steps - 1)
    mean_loss = (trainer.losses[epoch].cpu().double() * sizes).sum().item() / count
    values = (mean_loss, trainer.correct[epoch].sum().item() / count, loss, accuracy, trainer.seconds)
    for name, value in zip(HISTORY, values):
        trainer.history[name].append(value)
    trainer.seconds = 0.0


# ------------------------------------------------------------------------------------------ measuring


@torch.no_grad()
def predict(
    model: nn.Module, dataset: data.Dataset, split: data.Split, engine: Engine, normalize: bool | str = True,
    flipped: bool = False,
) -> torch.Tensor:  # fmt: skip
    """The model's outputs (N, 10) on a split, in evaluation mode and float32, mode left as it was. `flipped`: the mean
    of those on the images and on the images mirrored left to right."""

    def of(images: torch.Tensor) -> torch.Tensor:
        return (model(images) + model(engine.place(images.flip(-1)))) / 2 if flipped else model(images)

    with models.keeping_modes(model):
        model.eval()
        outputs = [of(engine.place(dataset.prepare(images, normalize))) for images in split.images.split(500)]
    return torch.cat(outputs).cpu()


def score(outputs: torch.Tensor, labels: torch.Tensor, loss: str) -> tuple[float, float]:
    """Mean loss and accuracy of outputs (N, 10) against labels (N,)."""
    return LOSSES[loss](outputs, labels).item(), (outputs.argmax(1) == labels).double().mean().item()


def evaluate(model, run, dataset: data.Dataset, split: data.Split, engine: Engine) -> tuple[float, float]:
    """Loss and accuracy of the model on `split`."""
    split = split.first(run.images)
    return score(predict(model, dataset, split, engine, run.normalize, run.flipped), split.labels, run.loss)


def fingerprint(run, dataset: data.Dataset, start=None, masks=None) -> list[float]:
    """The losses of the run's first five steps, in float32 on the CPU, on a model of its own.

    The first two are the same on every machine to about 1e-5, whatever engine the run itself uses; each further step
    magnifies how machines round (runner.one.FINGERPRINT_TOLERANCE).
    """
    batches = make_batches(run, dataset)
    trainer = Trainer(run, Engine(), len(batches), start, masks)
    count = min(FINGERPRINT_STEPS, len(batches) * run.epochs)
    with contextlib.suppress(Stopped):
        fit(trainer, batches, lambda model: (0.0, 0.0), stop=lambda: trainer.step >= count)
    return trainer.losses[:count].tolist()


def weights_sum(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers: equal only if every bit is."""
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
