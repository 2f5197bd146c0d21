"""Finds out which records are missing and makes them: claims, checkpoints, workers, deadlines. It never changes what a
run computes, and a run that is killed at any moment goes on from its last checkpoint to the same weights."""

import contextlib
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch
from filelock import FileLock
from tqdm import tqdm

from helpers import data, experiments, models, records, training
from helpers.experiments import Run
from helpers.records import Record, RecordError, Selection, Store

FINGERPRINT_TOLERANCE = 1e-4  # of the loss, or of 1 where the loss is smaller


class Interrupted(RuntimeError):
    """Work was asked to stop; what was finished is recorded, what was under way is in its checkpoint."""


@dataclass(frozen=True)
class Settings:
    """How runs are made here. `deadline` is a time.time(); `bar`: the line of the terminal for the progress bar."""

    device: str = "cpu"
    threads: int = 1
    precision: str = "auto"
    deadline: float | None = None
    bar: int = 0


# ------------------------------------------------------------------------------------------ one run


def make(run: Run, store: Store, settings: Settings = Settings()) -> Record:
    """Trains `run` from its checkpoint, or from the start, and writes its record. The caller has claimed it.

    Raises Interrupted when asked to stop; its checkpoint is then up to date.
    """
    torch.set_num_threads(settings.threads)
    dataset = data.load(run.data)
    start = _start_weights(run, store)
    state = _load_checkpoint(run, store) or _fresh(run, store, settings, dataset, start)
    engine = training.Engine(**state["engine"])
    torch.set_num_threads(engine.threads)
    batches = training.make_batches(run, dataset, engine.device)
    trainer = training.Trainer(run, engine, len(batches), start)
    if "model" in state:
        trainer.load_state_dict(state)
    save = _saver(run, store, state["fingerprint"])
    with _bar(run, trainer, len(batches), settings) as tick, _stop_signal(settings) as stop:
        try:
            training.fit(
                trainer, batches, lambda model: training.evaluate(model, run, dataset, dataset.validation, engine),
                tick=tick, save=save, stop=stop,
            )  # fmt: skip
        except training.Stopped:
            raise Interrupted(f"{run.name} stopped after {trainer.step} of {run.epochs * len(batches)} steps") from None
    record = _write(trainer, dataset, store, state["fingerprint"])
    store.checkpoint(run).unlink(missing_ok=True)
    return record


def _fresh(run: Run, store: Store, settings: Settings, dataset, start) -> dict:
    """The checkpoint of a run about to begin: its fingerprint, and the engine it will keep whatever happens."""
    state = {"fingerprint": training.fingerprint(run, dataset, start), "engine": asdict(_engine(run, store, settings))}
    store.replace(store.checkpoint(run), lambda file: torch.save(state, file))
    return state


def _engine(run: Run, store: Store, settings: Settings) -> training.Engine:
    """The engine for `run`, timed once for each model on this machine, so that one table has one precision."""
    if run.images:  # too few steps for the choice to pay
        precision = "float32" if settings.precision == "auto" else settings.precision
        return training.Engine(settings.device, precision, "contiguous", settings.threads)
    described = f"{run.model} batch {run.batch_size}, {settings} on {processor()}, torch {torch.__version__}"
    path = store.work / "engines.json"
    with FileLock(store.work / "engines.lock"):
        known = _read_json(path)
        if described not in known:
            known[described] = asdict(
                training.choose_engine(run, settings.device, settings.threads, settings.precision)
            )
            store.replace(path, lambda file: file.write(_json_bytes(known)))
    return training.Engine(**known[described])


def _read_json(path: Path) -> dict:
    import json

    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _json_bytes(value) -> bytes:
    import json

    return json.dumps(value, indent=1).encode()


def _load_checkpoint(run: Run, store: Store) -> dict | None:
    path = store.checkpoint(run)
    if not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # torch raises a different class for each kind of damage
        aside = store.set_aside(path)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"checkpoint {path} is damaged ({reason[:80]}): kept as {aside.name}, the run starts again", file=sys.stderr)
        return None


def _saver(run: Run, store: Store, fingerprint: list[float]):
    def save(trainer: training.Trainer) -> None:
        state = {**trainer.state_dict(), "fingerprint": fingerprint}
        store.replace(store.checkpoint(run), lambda file: torch.save(state, file))

    return save


def _start_weights(run: Run, store: Store) -> dict[str, torch.Tensor] | None:
    if run.start is None:
        return None
    record = store.read(run.start)
    if record is None:
        raise RecordError(f"{run.name} starts from the weights of {run.start.name}, which has no record: run that first")
    return {name: torch.from_numpy(array) for name, array in store.weights(record).items()}


def _write(trainer: training.Trainer, dataset: data.Dataset, store: Store, fingerprint: list[float]) -> Record:
    run, model, engine = trainer.run, trainer.model, trainer.engine
    diverged = trainer.diverged_at is not None
    split = dataset.test.first(run.images)
    # The series end where the run did.
    arrays = {"step_loss": trainer.losses[: trainer.step].cpu().numpy(),
              "step_correct": trainer.correct[: trainer.step].to(torch.uint8).cpu().numpy()}  # fmt: skip
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
        revision=revision(),
    )
    store.write(record, arrays, weights)
    return record


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
        done = subprocess.run(["git", *arguments], cwd=records.ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "helpers")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# ------------------------------------------------------------------------------------------ bars and stops


@contextlib.contextmanager
def _bar(run: Run, trainer: training.Trainer, steps: int, settings: Settings):
    """A progress bar over the whole run, with loss, accuracy and time left; gives the function that moves it."""
    bar = tqdm(
        total=run.epochs * steps, initial=trainer.step, desc=run.name, unit="step", position=settings.bar, leave=False,
        mininterval=0.2 if sys.stderr.isatty() else 30, dynamic_ncols=True, file=sys.stderr,
    )  # fmt: skip

    def tick(trainer: training.Trainer) -> None:
        # Numbers are read from the device only when the bar is drawn: a look makes a GPU wait.
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


@contextlib.contextmanager
def _stop_signal(settings: Settings):
    """Gives `stop()`: true after Ctrl-C or SIGTERM, at the deadline, or when the process that started this one is gone.

    The step under way ends first, so that what is saved is whole; a second Ctrl-C does not wait for it.
    """
    asked = threading.Event()
    parent = os.getppid()

    def handle(number, frame):
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    orphaned = multiprocessing.parent_process() is not None
    try:
        yield lambda: (
            asked.is_set()
            or (settings.deadline is not None and time.time() > settings.deadline)
            or (orphaned and os.getppid() != parent)
        )
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
                while run is not None:  # what a run starts from comes first
                    wanted.setdefault(run, (budget, run))
                    run = run.start
    missing = [(budget, run) for budget, run in wanted.values() if not _good(store.readable(run))]
    starts = {run.start for _, run in missing}
    missing.sort(key=lambda each: (experiments.order(each[1], each[0])[0], each[1] not in starts,
                                   experiments.order(each[1], each[0])))  # fmt: skip
    return [run for _, run in missing]


def _good(record: Record | None) -> bool:
    return record is not None and not record.stale


def work(runs: list[Run], store: Store, settings: Settings = Settings()) -> list[Record]:
    """Makes those of `runs` that nobody has made or is making, one after the other.

    A run that another process is at is left to it. Raises Interrupted when asked to stop.
    """
    made = []
    for run in runs:
        with store.claim(run) as mine:
            if mine and not _good(store.readable(run)):
                _clear_damage(run, store)
                record = make(run, store, settings)
                made.append(record)
                _say(record)
    return made


def _clear_damage(run: Run, store: Store) -> None:
    if store.path(run).exists() and store.readable(run) is None:
        print(f"{store.path(run)} is damaged: kept as {store.set_aside(store.path(run)).name}", file=sys.stderr)


def _say(record: Record) -> None:
    outcome = f"diverged at step {record.diverged_at}" if record.test is None else f"test accuracy {record.test.accuracy:.4f}"
    tqdm.write(f"{record.run.name}: {outcome}, {record.seconds:.0f} s, {record.engine['precision']}", file=sys.stderr)


def work_together(runs: list[Run], store: Store, workers: int, settings: Settings) -> None:
    """`work` in `workers` processes; the results folder is the queue, so other runners may join. Raises Interrupted."""
    if workers == 1:
        work(runs, store, settings)
        return
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_worker, args=(runs, store.folder, settings, line)) for line in range(workers)
    ]
    for process in processes:
        process.start()
    _wait(processes)
    failed = [process.exitcode for process in processes if process.exitcode]
    if INTERRUPTED in failed:
        raise Interrupted("stopped")
    if failed:
        raise RecordError("a worker failed; its message stands above, and the same command goes on from there")


INTERRUPTED = 130


def _worker(runs: list[Run], folder: Path, settings: Settings, line: int) -> None:
    try:
        work(runs, Store(folder), Settings(**{**asdict(settings), "bar": line}))
    except (Interrupted, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except (RecordError, data.DataError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _wait(processes) -> None:
    """Waits for the workers; Ctrl-C reaches them too, and they are given the time to save."""
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
        for process in processes:
            process.join()


# ------------------------------------------------------------------------------------------ for notebooks


def obtain(rows: Mapping[str, Run], budget: str | None = None, store: Store | None = None) -> Selection:
    """The records of `rows` (label → Run): those that exist, and those that are missing trained now, with a bar.

    The budget is the argument, else REPORT_BUDGET of the environment, else the largest that is complete, else "laptop".
    With RECORDS_ONLY=1 in the environment nothing is trained, and what is missing is shown as missing.
    """
    store = store or Store()
    budget = budget or os.environ.get("REPORT_BUDGET") or None
    selection = records.select(rows, store, budget)
    if not selection.missing or os.environ.get("RECORDS_ONLY", "0") not in ("", "0"):
        return selection
    runs = [run for label in selection.missing for run in experiments.replicas(rows[label], selection.budget)]
    store.prepare()
    try:
        work(runs, store, Settings(threads=torch.get_num_threads()))
    except Interrupted as stopped:
        print(f"{stopped}: what is finished is kept; run the cell again to go on", file=sys.stderr)
    return records.select(rows, store, selection.budget)


# ------------------------------------------------------------------------------------------ verify


def verify(record: Record, store: Store) -> str | None:
    """Replays the first steps of `record` and compares; gives back what differs, or None."""
    if record.stale:
        return f"made by recipe {record.recipe}, the code is at {records.RECIPE}: run its row again"
    now = training.fingerprint(record.run, data.load(record.run.data), _start_weights(record.run, store))
    then = record.fingerprint
    if len(now) != len(then):
        return f"its fingerprint has {len(then)} losses, the code makes {len(now)}"
    for step, (a, b) in enumerate(zip(records.finite(now), then)):
        if (a is None) != (b is None) or (a is not None and abs(a - b) > FINGERPRINT_TOLERANCE * max(1, abs(b))):
            return f"loss at step {step} is {a}, the record says {b}: the code or the data has changed"
    return None
