"""Finds out which records are missing and makes them: claims, checkpoints, workers, deadlines. It never changes what a
run computes, and a run that is killed at any moment goes on from its last checkpoint to the same weights."""

import contextlib
import functools
import io
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from tqdm import tqdm

from helpers import data, experiments, models, probes, records, sparsity, training
from helpers.experiments import Run
from helpers.records import Record, RecordError, Selection, Store

# How far the losses of the first steps may lie from a fingerprint made elsewhere: a share of the loss, or of 1 where
# the loss is smaller. Another instruction set or number of threads rounds otherwise, and each step magnifies that: over
# all rows of section 1 the largest differences were 2e-7, 2e-5, 2e-3, 5e-3 and 5e-3.
FINGERPRINT_TOLERANCE = (1e-4, 1e-4, 1e-2, 3e-2, 3e-2)


class Interrupted(RuntimeError):
    """Work was asked to stop; what was finished is recorded, what was under way is in its checkpoint."""


@dataclass(frozen=True)
class Settings:
    """How runs are made here.

    `deadline` is a time.time(). `bar`: the line of the terminal for the progress bar; None where there is no terminal,
    so that a line of text now and then has to do.
    """

    device: str = "cpu"
    threads: int = 1
    precision: str = "auto"
    deadline: float | None = None
    bar: int | None = None


def never() -> bool:
    return False


# ------------------------------------------------------------------------------------------ one run


def make(run: Run, store: Store, settings: Settings = Settings(), stop: Callable[[], bool] = never) -> Record:
    """Trains `run` from its checkpoint, or from the start, and writes its record.

    The caller has claimed the run, and removes the checkpoint. Raises Interrupted when `stop()`, with all saved.
    """
    dataset, given = data.load(run.data), _given(run, store)

    def build(state: dict):
        """Trainer, batches and fingerprint as `state` has them: a checkpoint, or a beginning without weights."""
        engine = training.Engine(**state["engine"])
        torch.set_num_threads(engine.threads)
        batches = training.make_batches(run, dataset, engine.device)
        trainer, watching = training.Trainer(run, engine, len(batches), **given), _probes(run, len(batches))
        if "model" in state:
            trainer.load_state_dict(state)
            for name, probe in watching.items():
                probe.load_state_dict(state["probes"][name])
        return trainer, batches, watching, state["fingerprint"]

    fresh = functools.partial(_fresh, run, store, settings, dataset, given)
    trainer, batches, watching, fingerprint = _resume(run, store, build) or build(fresh())
    validate = functools.partial(_validate, run, dataset, trainer.engine)
    save = functools.partial(_save, store, watching, fingerprint)
    with _bar(run, trainer, len(batches), settings.bar) as tick:
        try:
            training.fit(trainer, batches, validate, probes=watching.values(), tick=tick, save=save, stop=stop)
        except training.Stopped:
            raise Interrupted(f"{run.name} stopped after {trainer.step} of {run.epochs * len(batches)} steps") from None
    return _write(trainer, dataset, store, watching, fingerprint)


def _probes(run: Run, steps: int) -> dict:
    """The probes of a run of `steps` steps an epoch, by name, in a form that measures from the first step on."""
    total = run.epochs * steps
    return {name: sparsity.Path(total, steps) if name == "path" else probes.make(name, total) for name in run.probes}


def _validate(run: Run, dataset: data.Dataset, engine: training.Engine, model) -> tuple[float, float]:
    return training.evaluate(model, run, dataset, dataset.validation, engine)


def _fresh(run: Run, store: Store, settings: Settings, dataset, given: dict) -> dict:
    """The checkpoint of a run about to begin: its fingerprint, and the engine it will keep whatever happens."""
    torch.set_num_threads(settings.threads)
    fingerprint = training.fingerprint(run, dataset, **given)
    state = {"fingerprint": fingerprint, "engine": asdict(_engine(run, store, settings))}
    _write_checkpoint(run, store, state)
    return state


def _engine(run: Run, store: Store, settings: Settings) -> training.Engine:
    """The engine for `run`, timed once for each model on this machine, so that one table has one precision."""
    device, threads, precision = settings.device, settings.threads, settings.precision
    if run.precision != "auto":
        precision = run.precision
    if run.images:  # too few steps for the choice to pay
        return training.Engine(device, "float32" if precision == "auto" else precision, "contiguous", threads)
    described = f"{run.model} batch {run.batch_size}, {device} {precision}, {threads} threads on {processor()}, " \
                f"torch {torch.__version__}"  # fmt: skip
    path = store.work / "engines.json"
    with FileLock(store.work / "engines.lock"):
        known = _engines(path)
        if described not in known:
            known[described] = training.choose_engine(run, device, threads, precision)
            store.replace(path, json.dumps({key: asdict(each) for key, each in known.items()}, indent=1).encode())
    return known[described]


def _engines(path: Path) -> dict[str, training.Engine]:
    """The engines chosen so far; none if the file is not there or damaged, since they can be timed again."""
    try:
        return {key: training.Engine(**fields) for key, fields in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


# ------------------------------------------------------------------------------------------ checkpoints


def _origin(run: Run) -> dict[str, str | int]:
    """What a checkpoint belongs to: continued by anything else, a run would not end at the same weights."""
    return {"run": run.name, "recipe": records.RECIPE, "torch": str(torch.__version__)}


def _save(store: Store, watching: dict, fingerprint: list[float], trainer: training.Trainer) -> None:
    measured = {name: probe.state_dict() for name, probe in watching.items()}
    _write_checkpoint(trainer.run, store, {**trainer.state_dict(), "probes": measured, "fingerprint": fingerprint})


def _write_checkpoint(run: Run, store: Store, state: dict) -> None:
    buffer = io.BytesIO()  # torch.save itself hides why a disk can't be written
    torch.save({**state, "origin": _origin(run)}, buffer)
    store.replace(store.checkpoint(run), buffer.getvalue())


def _resume(run: Run, store: Store, build: Callable[[dict], tuple]):
    """What `build` makes of the run's checkpoint; None, with the reason told, if there is none that can be used."""
    path = store.checkpoint(run)
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums, but does not look at them
            if damaged := archive.testzip():
                raise ValueError(f"its part {damaged} is damaged")
        state = torch.load(path, weights_only=True, map_location="cpu")
        for what, here in _origin(run).items():
            there = state.get("origin", {}).get(what, here)
            if there != here:
                raise ValueError(f"it is of {what} {there}, this is {what} {here}")
        return build(state)
    except (MemoryError, torch.OutOfMemoryError):  # no fault of the checkpoint
        raise
    except Exception as error:  # torch raises a different class for each kind of damage
        pickled = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than weights" if pickled else str(error).strip().split("\n")[0][:100]
        _tell(f"checkpoint {path} can't be used ({reason}): kept as {store.set_aside(path).name}, the run starts again")
        return None


def _given(run: Run, store: Store) -> dict[str, dict[str, torch.Tensor] | None]:
    """What `run` takes over from others: the weights to start from, and its masks. RecordError if they aren't there."""
    for needed in run.needs:
        record = store.read(needed)
        if not _good(record):
            raise RecordError(f"{run.name} starts from {needed.name}, which has no record: run that first")
        if record.state == "diverged":
            raise RecordError(f"{run.name} starts from {needed.name}, which diverged: it can't be made")
    return {"start": _start_weights(run, store), "masks": _masks(run, store)}


def _start_weights(run: Run, store: Store) -> dict[str, torch.Tensor] | None:
    if run.start is None:
        return None
    return {name: torch.from_numpy(array) for name, array in store.weights(store.read(run.start)).items()}


def _masks(run: Run, store: Store) -> dict[str, torch.Tensor] | None:
    """The support of another run, as its record has it, or as much of each layer drawn by lot."""
    if run.mask is None:
        return None
    entries = _entries(store.arrays(store.read(run.mask.of)))
    kept = {name: epochs <= run.mask.epoch for name, epochs in entries.items()}
    if run.mask.random:
        kept = sparsity.shuffled(kept, run.seed)
    return sparsity.masks(models.build(run.model, **run.options), kept)


def _entries(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Parameter name → the epochs in which its filters or weights entered the support, from a record's arrays."""
    return {name.removeprefix("entry_"): torch.from_numpy(values) for name, values in arrays.items()
            if name.startswith("entry_")}  # fmt: skip


def _write(trainer: training.Trainer, dataset: data.Dataset, store: Store, watching: dict, fingerprint) -> Record:
    run, model, engine = trainer.run, trainer.model, trainer.engine
    diverged = trainer.diverged_at is not None
    split = dataset.test.first(run.images)
    # The series end where the run did.
    arrays = {"step_loss": trainer.losses[: trainer.step].cpu().numpy(),
              "step_correct": trainer.correct[: trainer.step].to(torch.uint8).cpu().numpy(),
              **_measured(trainer, watching)}  # fmt: skip
    test, weights = None, {}
    if not diverged:
        outputs = training.predict(model, dataset, split, engine, run.normalize)
        loss, accuracy = training.score(outputs, split.labels, run.loss)
        test = {"loss": records.finite(loss), "accuracy": accuracy}
        if experiments.is_drawn(run):
            confidence, predictions = training.probabilities(outputs).max(1)
            arrays["test_predictions"] = predictions.to(torch.uint8).numpy()
            arrays["test_confidence"] = confidence.numpy().astype("float16")
            arrays["first_filters"] = next(model.parameters()).detach().cpu().contiguous().numpy()
        arrays["silent"] = _silent(model, dataset, run, engine)
        if run.model == "LeNet":
            arrays |= _pruned(model, arrays, dataset, run, engine)
        if experiments.keeps_weights(run):
            weights = {name: value.cpu().contiguous().numpy() for name, value in model.state_dict().items()}
    seconds = trainer.history["seconds"]
    record = Record(
        run=run,
        state="diverged" if diverged else "done",
        diverged_at=trainer.diverged_at,
        test=test,
        history=records.finite(trainer.history),
        parameters=models.count_parameters(model),
        seconds_per_epoch=sorted(seconds)[len(seconds) // 2] if seconds else None,
        fingerprint=records.finite(fingerprint),
        weights=training.weights_sum(model),
        engine=asdict(engine),
        machine=machine(engine.device),
        recipe=records.RECIPE,
        revision=revision(),
    )
    return store.write(record, arrays, weights)


def _measured(trainer: training.Trainer, watching: dict) -> dict[str, np.ndarray]:
    """What the probes of a run measured, name → array; a series with one value a step ends where the run did."""
    total, arrays = len(trainer.losses), {}
    for probe in watching.values():
        if hasattr(probe, "finish"):
            probe.finish(trainer)
        for name, series in probe.series.items():
            arrays[name] = (series[: trainer.step] if len(series) == total else series).cpu().numpy()
    return arrays


def _silent(model, dataset: data.Dataset, run: Run, engine: training.Engine) -> np.ndarray:
    """`probes.silent` on the first 1,000 validation images, (layers,), from the first layer to the last."""
    split = dataset.validation.first(min(1000, run.images or 1000))
    images = engine.place(dataset.prepare(split.images, run.normalize))
    return np.array([*probes.silent(model, images).values()], np.float32)


def _pruned(model, arrays: dict, dataset: data.Dataset, run: Run, engine: training.Engine) -> dict[str, np.ndarray]:
    """Accuracies of a LeNet with each share of experiments.PRUNED set to zero: pruned_<order>_<layers>_<split>, (20,).

    The order is "magnitude" and, where Γ was followed, "support", the authors' own.
    """
    entry = _entries(arrays)
    orders = {"magnitude": sparsity.pruning_order(model)}
    if entry:
        orders["support"] = sparsity.pruning_order(model, entry)
    found = {}
    for split_name in ("validation", "test"):
        split = getattr(dataset, split_name).first(run.images)
        images, labels = engine.place(dataset.prepare(split.images, run.normalize)), split.labels.to(engine.device)
        for order_name, order in orders.items():
            for layers_name, layers in experiments.PRUNED_LAYERS.items():
                accuracies = sparsity.pruned_accuracies(model, order, experiments.PRUNED, layers, images, labels)
                found[f"pruned_{order_name}_{layers_name}_{split_name}"] = accuracies.numpy().astype(np.float32)
    return found


# ------------------------------------------------------------------------------------------ provenance


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine(device: str = "cpu") -> dict[str, str | int]:
    """What a record says of the machine that made it."""
    about = {"processor": processor(), "cores": os.cpu_count(), "system": platform.system(), "arch": platform.machine()}
    if device != "cpu":
        about["accelerator"] = torch.cuda.get_device_name(device)
    versions = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return {**about, "python": platform.python_version(), **versions}


def revision() -> str:
    """The commit of the code that runs, with "+" if it was changed since; "unknown" outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", *arguments]
        done = subprocess.run(command, cwd=records.ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "helpers")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# ------------------------------------------------------------------------------------------ bars and stops

PLAIN = {"bar_format": "{desc}: {percentage:.0f} %, {remaining} left{postfix}", "mininterval": 60, "delay": 60}


class _Lines:
    """Where a bar is drawn when no terminal is there: each drawing a line of its own, without control characters."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def _bar(run: Run, trainer: training.Trainer, steps: int, line: int | None):
    """A progress bar over the whole run, with loss, accuracy and time left; gives the function that moves it."""
    live = {"position": line, "dynamic_ncols": True, "mininterval": 0.2}
    form = {**PLAIN, "file": _Lines()} if line is None else live
    bar = tqdm(total=run.epochs * steps, initial=trainer.step, desc=run.name, unit="step", leave=False, **form)

    def tick(trainer: training.Trainer) -> None:
        # Numbers are read from the device only now and then: a look makes a GPU wait.
        if trainer.step % 25 == 0:
            epoch = (trainer.step - 1) // steps
            seen = slice(epoch * steps, trainer.step)
            accuracy = trainer.correct[seen].mean().item() / run.batch_size
            bar.set_postfix(
                epoch=f"{epoch + 1}/{run.epochs}", loss=f"{trainer.losses[seen].mean().item():.3f}",
                accuracy=f"{accuracy:.3f}", refresh=False,
            )  # fmt: skip
        bar.update(1)

    try:
        yield tick
    finally:
        bar.close()


def _tell(text: str) -> None:
    """A line on stderr, above the bars."""
    tqdm.write(text, file=sys.stderr)


@contextlib.contextmanager
def stop_signal(deadline: float | None = None):
    """Gives `stop()`: true after Ctrl-C or SIGTERM, at the deadline, or when the process that started this one is gone.

    The step under way ends first, so that what is saved is whole; a second Ctrl-C does not wait for it.
    """
    asked, parent = [], multiprocessing.parent_process()

    def handle(number, frame):
        if asked and parent is None:  # a worker hears of one Ctrl-C more than once
            raise KeyboardInterrupt
        asked.append(number)

    def stop() -> bool:
        late = deadline is not None and time.time() > deadline
        return bool(asked) or late or not (parent is None or parent.is_alive())

    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# ------------------------------------------------------------------------------------------ many runs


def pending(rows, budgets, store: Store) -> list[Run]:
    """The runs that have no good record yet, each once, in the order in which they are worth making."""
    wanted = {}
    for budget in budgets:
        for row in rows:
            for run in experiments.replicas(row.run, budget):
                for each in (run, *run.all_needs):
                    wanted.setdefault(each, (budget, each))
    missing = [(budget, run) for budget, run in wanted.values() if not _good(store.readable(run))]
    starts = {needed for _, run in missing for needed in run.all_needs}
    missing.sort(key=lambda each: (experiments.order(each[1], each[0])[0], each[1] not in starts,
                                   experiments.order(each[1], each[0])))  # fmt: skip
    return [run for _, run in missing]


def _good(record: Record | None) -> bool:
    return record is not None and not record.stale


def work(runs: list[Run], store: Store, settings: Settings = Settings()) -> list[Record]:
    """Makes those of `runs` that nobody has made or is making, one after the other; gives the records it made.

    A run that another process is at is left to it, and one that starts from such a run waits for it. Raises Interrupted
    when asked to stop, RecordError at the end if a run can't be made for want of what it starts from.
    """
    made, left, threads = [], list(runs), torch.get_num_threads()
    try:
        with stop_signal(settings.deadline) as stop:
            while left:
                later = [run for run in left if not _take(run, store, settings, stop, made)]
                if len(later) == len(left) and not _await(later, store):
                    break
                left = later
    finally:
        torch.set_num_threads(threads)
    explain(left, store)
    return made


def explain(left: list[Run], store: Store) -> None:
    """Raises RecordError, saying why, if one of the runs `left` can't be made, and nobody is at it."""
    for run in left:
        if not store.running(run):
            _given(run, store)


def is_made(run: Run, store: Store) -> bool:
    """Whether `run` has a record that can be read and is not stale."""
    return _good(store.readable(run))


def _take(run: Run, store: Store, settings: Settings, stop: Callable[[], bool], made: list[Record]) -> bool:
    """Makes `run` unless it is made already; False if it has to be left for later."""
    if stop():
        raise Interrupted(f"stopped before {run.name}")
    with store.claim(run) as mine:
        if not mine or not can_start(run, store):
            return False
        if not _good(store.readable(run)):
            path = store.path(run)
            if path.exists() and store.readable(run) is None:
                _tell(f"{path} can't be read: kept as {store.set_aside(path)}, the run is made again")
            made.append(make(run, store, settings, stop))
            say(made[-1])
        store.checkpoint(run).unlink(missing_ok=True)
    return True


def can_start(run: Run, store: Store) -> bool:
    """Whether all that `run` starts from is there."""
    with contextlib.suppress(RecordError):
        _given(run, store)
        return True
    return False


def _await(runs: list[Run], store: Store) -> bool:
    """Waits a moment if one of `runs` starts from what another process is making now; False if none does."""
    starts = [needed for run in runs for needed in run.needs if not store.running(run)]
    if any(map(store.running, starts)):
        time.sleep(1)
        return True
    return any(can_start(run, store) for run in runs if run.needs)  # what they need was finished this moment


def say(record: Record) -> None:
    """A line on what came out of a run."""
    accuracy = record.test and f"test accuracy {record.test.accuracy:.4f}"
    outcome = accuracy or f"diverged at step {record.diverged_at}"
    _tell(f"{record.run.name}: {outcome}, {record.seconds:.0f} s, {record.engine['precision']}")


def share(runs: int, device: str = "cpu", workers: int | None = None, threads: int | None = None) -> tuple[int, int]:
    """How many workers, and CPU threads of each, suit this machine for so many runs, where they are not given.

    On a CPU, one thread a worker and a worker a core: two runs side by side take less than twice as long as one alone.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device != "cpu":
        return min(workers or 1, runs), threads or 1
    workers = min(workers or max(1, cores // (threads or 1)), runs)
    return workers, threads or max(1, cores // workers)


INTERRUPTED = 130  # the exit status of a worker that was asked to stop


def work_together(runs: list[Run], store: Store, workers: int, settings: Settings) -> None:
    """`work` in `workers` processes; the results folder is the queue, so other runners may join.

    Raises Interrupted when asked to stop, RecordError if a worker failed.
    """
    if workers == 1:
        work(runs, store, settings)
        return
    for name in {run.data for run in runs}:  # a fault of the data set is told once, and not downloaded over twice
        data.fetch(name)
    context = multiprocessing.get_context("spawn")
    messages = context.SimpleQueue()
    processes = [
        context.Process(target=_worker, args=(runs, store.folder, settings, line, messages)) for line in range(workers)
    ]
    with stop_signal() as stop:
        with _ctrl_c_held_back():
            for process in processes:
                process.start()
        _wait(processes, stop)
        told = set()
        while not messages.empty():
            told.add(messages.get())
    failed = sorted(message for code, message in told if code != INTERRUPTED)
    statuses = {process.exitcode for process in processes} - {0, INTERRUPTED}
    if failed or (statuses and not stop()):
        raise RecordError("; ".join(failed) or f"a worker ended with status {min(statuses)}: the same command goes on")
    if told or stop():
        raise Interrupted(", ".join(sorted(message for _, message in told)) or "stopped")


@contextlib.contextmanager
def _ctrl_c_held_back():
    """Processes started meanwhile never see Ctrl-C, which a terminal sends to all: who started them tells them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # multiprocessing's own tracker would lift the block as it starts; the queue above has started it already.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _wait(processes, stop: Callable[[], bool]) -> None:
    """Waits for the workers; when asked to stop, asks them to save and end; when asked twice, ends them at once."""
    asked = False
    try:
        while any(process.is_alive() for process in processes):
            multiprocessing.connection.wait([process.sentinel for process in processes if process.is_alive()], 0.2)
            if stop() and not asked:
                asked = True
                for process in processes:
                    process.terminate()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        raise


def _worker(runs: list[Run], folder: Path, settings: Settings, line: int, messages) -> None:
    store = Store(folder)
    if settings.bar is not None:
        settings = replace(settings, bar=line)
        # The bars of all workers share the terminal, and a file's lock does not outlive a worker that is killed.
        tqdm.set_lock(FileLock(store.work / "bars.lock"))
    code = 0
    try:
        work(runs, store, settings)
    except (Interrupted, KeyboardInterrupt) as error:
        code, message = INTERRUPTED, str(error)
    except (RecordError, data.DataError, OSError) as error:
        code, message = 1, str(error)
    if code:
        messages.put((code, message))
    sys.exit(code)


# ------------------------------------------------------------------------------------------ for notebooks


def obtain(rows: Mapping[str, Run], budget: str | None = None, store: Store | None = None) -> Selection:
    """The records of `rows` (label → Run): those that exist, and those that are missing trained now, with a bar.

    The budget is the argument, else REPORT_BUDGET of the environment, else the largest that is complete, else "laptop".
    With RECORDS_ONLY=1 in the environment nothing is trained, and what is missing is shown as missing.
    """
    store = store or Store()
    try:
        selection = records.select(rows, store, budget or os.environ.get("REPORT_BUDGET") or None)
        if selection.missing and os.environ.get("RECORDS_ONLY", "0") in ("", "0"):
            wanted = [experiments.Row("", "", label, run) for label, run in rows.items()]
            runs = pending(wanted, [selection.budget], store.prepare())
            work(runs, store, Settings(threads=torch.get_num_threads(), bar=0))
    except (Interrupted, KeyboardInterrupt) as stopped:
        _tell(f"{stopped or 'interrupted'}: what is finished is kept; run the cell again to go on")
    except (experiments.UnknownName, RecordError, data.DataError) as error:
        line = f"{type(error).__name__}: {error}"
        error._render_traceback_ = lambda: [line]  # all that Jupyter shows of it
        raise
    return records.select(rows, store, selection.budget)


def trained(record: Record, store: Store | None = None) -> torch.nn.Module:
    """The trained model of a record whose weights are kept, in evaluation mode. Raises RecordError if they are not."""
    model = models.build(record.run.model, **record.run.options)
    weights = (store or Store()).weights(record)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return model.eval()


def entries(record: Record, store: Store | None = None) -> dict[str, torch.Tensor]:
    """Parameter name → the epoch in which each of its filters or weights entered the support, of a DessiLBI run."""
    return _entries((store or Store()).arrays(record))


def rehearse(run: Run, steps: int) -> training.Trainer:
    """Trains the first `steps` of `run` here and now, with a bar, in float32; nothing is recorded.

    The trainer that comes back holds the step's losses and numbers of images got right, as far as it came. In the
    budget "smoke" ten steps are enough.
    """
    steps = min(steps, 10) if os.environ.get("REPORT_BUDGET") == "smoke" else steps
    batches = training.make_batches(run, data.load(run.data))
    trainer = training.Trainer(run, training.Engine(memory_format="channels_last"), len(batches))
    bar = tqdm(total=steps, desc=run.name, unit="step", leave=False, mininterval=1)
    with bar, contextlib.suppress(training.Stopped):
        training.fit(
            trainer, batches, lambda model: (math.nan, math.nan),
            tick=lambda trainer: bar.update(), stop=lambda: trainer.step >= steps,
        )  # fmt: skip
    return trainer


# ------------------------------------------------------------------------------------------ verify


def verify(record: Record, store: Store) -> str | None:
    """Replays the first steps of `record` and compares; gives back what differs, or None."""
    if record.stale:
        return f"made by recipe {record.recipe}, the code is at {records.RECIPE}: run its row again"
    try:
        given = _given(record.run, store)
    except RecordError as error:
        return str(error)
    now = training.fingerprint(record.run, data.load(record.run.data), **given)
    then = record.fingerprint
    if len(now) != len(then):
        return f"its fingerprint has {len(then)} losses, the code makes {len(now)}"
    for step, (a, b, share) in enumerate(zip(records.finite(now), then, FINGERPRINT_TOLERANCE, strict=False)):
        if (a is None) != (b is None) or (a is not None and abs(a - b) > share * max(1, abs(b))):
            return f"loss at step {step} is {a}, the record says {b}: the code or the data has changed"
    return None
