"""One run, from its checkpoint or its beginning to its record. It never changes what a run computes, and a run that is
killed at any moment goes on from its last checkpoint to the same weights."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from helpers import data, experiments, fast, models, probes, pruning, records, training
from helpers.experiments import Run
from helpers.records import Record, RecordError, Store
from helpers.runner import checkpoint, engines, progress, provenance, pruned

# How far the losses of the first steps may lie from a fingerprint made elsewhere: a share of the loss, or of 1 where
# the loss is smaller. Another instruction set or number of threads rounds otherwise, and each step magnifies that: over
# all rows of section 1 the largest differences were 2e-7, 2e-5, 2e-3, 5e-3 and 5e-3.
FINGERPRINT_TOLERANCE = (1e-4, 1e-4, 1e-2, 3e-2, 3e-2)
# Where each weight's first step is as long as the rate, rounding turns the steps whose gradients are nearly 0 around:
# VGG-A with Adam is 8e-4 off at the second loss.
SIGN_TOLERANCE = (1e-4, 1e-2, 3e-2, 3e-2, 3e-2)
SIGN_STEPS = ("adam", "rmsprop", "dessilbi_adam", "adabreg")
ELIMINATED_ON = 1000  # training images that say which filter can be missed
SILENT_ON = 1000  # validation images on which units are called silent

# What a user can cause and mend: each is told in one line.
FAULTS = (RecordError, data.DataError, OSError, ValueError, torch.OutOfMemoryError)


class Interrupted(RuntimeError):
    """Work was asked to stop; what was finished is recorded, what was under way is in its checkpoint."""


@dataclass(frozen=True)
class Settings:
    """How runs are made here.

    `deadline`: a time.monotonic() of this machine, which no setting of its clock moves. `bar`: the line of the terminal
    for the progress bar; None where there is no terminal, so that a line of text now and then has to do.
    """

    device: str = "cpu"
    threads: int = 1
    precision: str = "auto"
    deadline: float | None = None
    bar: int | None = None


def never() -> bool:
    return False


def make(run: Run, store: Store, settings: Settings = Settings(), stop: Callable[[], bool] = never) -> Record:
    """Trains `run` from its checkpoint, or from the start, and writes its record.

    The caller has claimed the run, and removes the checkpoint. Raises Interrupted when `stop()`, with all saved.
    """
    dataset, given = data.load_for(run), inputs(run, store)

    def build(state: dict):
        """Trainer, batches, probes and how it began, from `state`: a checkpoint, or a beginning without weights."""
        engine = fast.Engine(**state["engine"])
        torch.set_num_threads(engine.threads)
        batches = training.make_batches(run, dataset, engine.device)
        trainer, watching = training.Trainer(run, engine, len(batches), **given), _probes(run, len(batches))
        if "model" in state:
            checkpoint.load(trainer, watching, state, len(batches))
        revisions = [*dict.fromkeys([*state["revisions"], provenance.revision()])]
        return trainer, batches, watching, {"fingerprint": state["fingerprint"], "revisions": revisions}

    resumed = checkpoint.resume(run, store, build)
    trainer, batches, watching, begun = resumed or build(_fresh(run, store, settings, dataset, given))
    engine, asked = trainer.engine, settings.precision if run.precision == "auto" else run.precision
    if engine.device != settings.device or asked not in ("auto", engine.precision):
        progress.tell(f"{run.name} goes on as it was begun, on {engine.device} in {engine.precision}")
    about = provenance.machine(engine.device)  # before the hours in which packages may be replaced
    with progress.bar(run, trainer, len(batches), settings.bar) as tick:
        try:
            training.fit(
                trainer, batches, lambda model: training.evaluate(model, run, dataset, dataset.validation, engine),
                probes=watching.values(), tick=tick, save=functools.partial(checkpoint.save, store, watching, begun),
                stop=stop,
            )  # fmt: skip
        except training.Stopped:
            raise Interrupted(f"{run.name} stopped after {trainer.step} of {run.epochs * len(batches)} steps") from None
    if "surface" in watching and trainer.diverged_at is None:
        progress.tell(f"{run.name}: trained; next its loss surface, which can take minutes")
    return _write(trainer, dataset, store, watching, begun, about)


def _probes(run: Run, steps: int) -> dict:
    """The probes of a run of `steps` steps an epoch, by name, in a form that measures from the first step on."""
    total = run.epochs * steps
    return {name: probes.Path(total, steps) if name == "path" else probes.PROBES[name](total) for name in run.probes}


def _fresh(run: Run, store: Store, settings: Settings, dataset, given: dict) -> dict:
    """The checkpoint of a run about to begin: its fingerprint, and the engine it will keep whatever happens."""
    torch.set_num_threads(settings.threads)
    fingerprint = training.fingerprint(run, dataset, **given)
    engine = asdict(engines.choose(run, store, settings))
    state = {"fingerprint": fingerprint, "revisions": [provenance.revision()], "engine": engine}
    checkpoint.write(run, store, state)
    return state


# ------------------------------------------------------------------------------------------ taken over from others


def is_good(record: Record | None) -> bool:
    """Whether there is a record, and the code would make the same one again."""
    return record is not None and not record.stale


def inputs(run: Run, store: Store) -> dict[str, dict[str, torch.Tensor]]:
    """What `run` takes over from others: `start`, the weights to start from, and `masks`, the support of another run or
    as much of each layer drawn by lot. RecordError if they aren't there."""
    for needed in run.needs:
        record = store.read(needed)
        if not is_good(record):
            raise RecordError(f"{run.name} starts from {needed.name}, which has no record: run that first")
        if record.state == "diverged":
            raise RecordError(f"{run.name} starts from {needed.name}, which diverged: it can't be made")
    given = {}
    if run.start:
        weights = store.weights(store.read(run.start))
        given["start"] = {name: torch.from_numpy(array) for name, array in weights.items()}
    if run.mask:
        entries = entries_of(store.arrays(store.read(run.mask.of)))
        if not entries:
            raise RecordError(f"{run.name} takes its mask from {run.mask.of.name}, whose record holds no support")
        kept = {name: epochs <= run.mask.epoch for name, epochs in entries.items()}
        kept = pruned.shuffled(kept, run.seed) if run.mask.random else kept
        given["masks"] = pruning.masks(models.build(run.model, **run.options), kept)
    return given


def entries_of(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Parameter name → the epochs in which its filters or weights entered the support, from a record's arrays."""
    return {name.removeprefix("entry_"): torch.from_numpy(values) for name, values in arrays.items()
            if name.startswith("entry_")}  # fmt: skip


# ------------------------------------------------------------------------------------------ the record


def _write(trainer, dataset: data.Dataset, store: Store, watching: dict, begun: dict, about: dict) -> Record:
    """Writes the record of a run that has ended: how it `begun`, and what machine it is `about`."""
    run, model, seconds = trainer.run, trainer.result, trainer.history["seconds"]
    arrays, test, weights = _series(trainer, watching), None, {}
    if trainer.diverged_at is None:
        test = _tested(trainer, dataset, arrays)
        if experiments.keeps_weights(run):
            weights = {name: value.cpu().contiguous().numpy() for name, value in model.state_dict().items()}
    record = Record(
        run=run,
        state="done" if test else "diverged",
        diverged_at=trainer.diverged_at,
        test=test,
        history=records.finite(trainer.history),
        parameters=models.count_parameters(model),
        seconds_per_epoch=sorted(seconds)[len(seconds) // 2] if seconds else None,
        fingerprint=records.finite(begun["fingerprint"]),
        weights=training.weights_sum(model),
        engine=asdict(trainer.engine),
        machine=about,
        recipe=records.store.RECIPE,
        revision=", ".join(begun["revisions"]),
    )
    return store.write(record, arrays, weights)


def _series(trainer: training.Trainer, watching: dict) -> dict[str, np.ndarray]:
    """What was measured along the way, name → array; a series with one value a step ends where the run did."""
    counts = torch.uint8 if trainer.run.batch_size < 256 else torch.int32
    found = {"step_loss": trainer.losses, "step_correct": trainer.correct.to(counts)}
    for probe in watching.values():
        if hasattr(probe, "finish"):
            probe.finish(trainer)
        found |= probe.series
    total = len(trainer.losses)
    return {name: (each[: trainer.step] if len(each) == total else each).cpu().numpy() for name, each in found.items()}


def _tested(trainer: training.Trainer, dataset: data.Dataset, arrays: dict) -> dict[str, float | None]:
    """Loss and accuracy on the test split; puts into `arrays` what is measured of the trained weights."""
    run, model, engine = trainer.run, trainer.result, trainer.engine
    split = dataset.test.first(run.images)
    outputs = training.predict(model, dataset, split, engine, run.normalize, run.flipped)
    if experiments.is_drawn(run):
        confidence, predictions = outputs.softmax(1).max(1)  # of log-probabilities as well
        arrays["test_predictions"] = predictions.to(torch.uint8).numpy()
        arrays["test_confidence"] = confidence.numpy().astype("float16")
        arrays["first_filters"] = next(model.parameters()).detach().cpu().contiguous().numpy()
    few = dataset.validation.first(min(SILENT_ON, run.images or SILENT_ON))
    shares = probes.silent(model, engine.place(dataset.prepare(few.images, run.normalize)))
    arrays["silent"] = np.array([*shares.values()], np.float32)
    if run.model == "LeNet":
        arrays |= _pruned(model, arrays, dataset, run, engine)
    loss, accuracy = training.score(outputs, split.labels, run.loss)
    return {"loss": records.finite(loss), "accuracy": accuracy}


def complete(record: Record, store: Store) -> Record | None:
    """Adds to a record what is measured of a LeNet's weights, which it keeps, and was not yet when it was made.

    What it holds stays as it is. None, and nothing is written, if it lacks nothing or its weights aren't kept. Raises
    RecordError if it is damaged, or another process is at it.
    """
    run = record.run
    if run.model != "LeNet" or store.path(run, ".safetensors").name not in record.files:
        return None
    with store.claim(run) as mine:
        if not mine:
            raise RecordError(f"{store.path(run)} is being made by another process: complete it later")
        record = store.whole(run)
        arrays = store.arrays(record)
        if "pruned_elimination_conv3_test" in arrays:
            return None
        now = _pruned(trained(record, store), arrays, data.load_for(run), run, fast.Engine())
        revisions = dict.fromkeys([*record.revision.split(", "), provenance.revision()])
        record = record.model_copy(update={"revision": ", ".join(revisions)})
        return store.write(record, {**now, **arrays}, store.weights(record))


def trained(record: Record, store: Store | None = None) -> torch.nn.Module:
    """The trained model of a record whose weights are kept, in evaluation mode. Raises RecordError if they are not."""
    store = store or Store()
    model = models.build(record.run.model, **record.run.options)
    weights = {name: torch.from_numpy(array) for name, array in store.weights(record).items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # its first line says of which model, the second of what in it
        reason = " ".join(str(error).split())[:200]
        raise RecordError(f"{store.path(record.run, '.safetensors')} is refused: {reason}") from None
    return model.eval()


def _pruned(model, arrays: dict, dataset: data.Dataset, run: Run, engine: fast.Engine) -> dict[str, np.ndarray]:
    """Accuracies of a LeNet with each share of experiments.PRUNED set to zero: pruned_<order>_<layers>_<split>, (20,).

    The order is "magnitude", where Γ was followed "support", the authors' own, and for conv3 alone "elimination".
    """

    def of(split: data.Split) -> tuple[torch.Tensor, torch.Tensor]:
        split = split.first(run.images)
        return engine.place(dataset.prepare(split.images, run.normalize)), split.labels.to(engine.device)

    (conv3,) = experiments.PRUNED_LAYERS["conv3"]
    few = of(dataset.train.first(ELIMINATED_ON))
    orders = {"magnitude": pruning.pruning_order(model), "elimination": pruned.elimination_order(model, conv3, *few)}
    if entry := entries_of(arrays):
        orders["support"] = pruning.pruning_order(model, entry)
    found = {}
    for split_name in ("validation", "test"):
        images, labels = of(getattr(dataset, split_name))
        for order_name, order in orders.items():
            for layers_name, layers in experiments.PRUNED_LAYERS.items():
                if set(layers) <= set(order):
                    accuracies = pruned.pruned_accuracies(model, order, experiments.PRUNED, layers, images, labels)
                    found[f"pruned_{order_name}_{layers_name}_{split_name}"] = accuracies.numpy().astype(np.float32)
    return found


# ------------------------------------------------------------------------------------------ replayed


def verify(record: Record, store: Store) -> str | None:
    """Replays the first steps of `record` and compares; gives back what differs, or None. Raises DataError."""
    if record.stale:
        return f"made by recipe {record.recipe}, the code is at {records.store.RECIPE}: run its row again"
    dataset = data.load_for(record.run)
    try:
        now = training.fingerprint(record.run, dataset, **inputs(record.run, store))
    except RecordError as error:
        return str(error)
    except Exception as error:  # of a run that can't be trained: it is told, and the others are verified all the same
        return f"can't be replayed ({records.first_line(error) or type(error).__name__}): move it away"
    then = record.fingerprint
    if len(now) != len(then):
        return f"its fingerprint has {len(then)} losses, the code makes {len(now)}"
    shares = SIGN_TOLERANCE if record.run.optimizer in SIGN_STEPS else FINGERPRINT_TOLERANCE
    for step, (a, b, share) in enumerate(zip(records.finite(now), then, shares, strict=False)):
        if (a is None) != (b is None) or (a is not None and abs(a - b) > share * max(1, abs(b))):
            return f"loss at step {step} is {a}, the record says {b}: the code or the data has changed"
    return None
