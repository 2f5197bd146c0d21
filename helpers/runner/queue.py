"""Finds out which records are missing and has them made: order, claims, workers, deadlines. Two runners at one folder
never make the same run twice, and what is finished is never lost."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock
from tqdm import tqdm

from helpers import data, experiments, fast, records, training
from helpers.experiments import Run
from helpers.records import Record, RecordError, Selection, Store
from helpers.runner import one, progress, provenance
from helpers.runner.one import Interrupted, Settings


def pending(rows, budgets, store: Store) -> list[Run]:
    """The runs that have no good record yet, each once, in the order in which they are worth making."""
    wanted: dict[Run, str] = {}  # run → the first budget that asks for it
    for budget in budgets:
        for row in rows:
            for run in experiments.replicas(row.run, budget):
                for each in (run, *run.all_needs):
                    wanted.setdefault(each, budget)
    missing = [run for run in wanted if not is_made(run, store)]
    starts = {needed for run in missing for needed in run.all_needs}

    def place(run: Run) -> tuple:
        order = experiments.order(run, wanted[run])
        return order[0], run not in starts, order  # what others start from is made first in its budget

    return sorted(missing, key=place)


def is_made(run: Run, store: Store) -> bool:
    """Whether `run` has a record that is not stale, and can be read with all that lies beside it."""
    with contextlib.suppress(RecordError):
        return one.is_good(store.whole(run))
    return False


def work(runs: list[Run], store: Store, settings: Settings = Settings()) -> list[Record]:
    """Makes those of `runs` that nobody has made or is making, one after the other; gives the records it made.

    A run that another process is at is left to it, and one that starts from such a run waits for it. Raises Interrupted
    when asked to stop, RecordError at the end if a run can't be made for want of what it starts from, or because it has
    a record that can't be read but may be whole.
    """
    provenance.revision()  # of the code as it was imported: the first of `runs` may have to wait
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


def _take(run: Run, store: Store, settings: Settings, stop: Callable[[], bool], made: list[Record]) -> bool:
    """Makes `run` unless it is made already; False if it has to be left for later."""
    if stop():
        raise Interrupted(f"stopped before {run.name}")
    with store.claim(run) as mine:
        if not mine:
            return False
        try:
            record, damage = _start(run, store)
        except RecordError:  # which `explain` tells at the end, if it is still so
            return False
        if not one.is_good(record):
            if damage:
                kept = ", ".join(map(str, store.set_aside_damaged(run)))
                progress.tell(f"{damage}: {f'kept as {kept}, ' * bool(kept)}the run is made again")
            made.append(one.make(run, store, settings, stop))
            say(made[-1])
        store.checkpoint(run).unlink(missing_ok=True)
    return True


def _start(run: Run, store: Store) -> tuple[Record | None, str]:
    """The record that `run` has already, if it is whole, and what is damaged of it, in words.

    RecordError, saying why, if the run can't be made now: what it starts from is missing, or there is a record that
    can't be read but may be whole.
    """
    try:
        record, damage = store.whole(run), ""
    except RecordError as error:
        if not error.damage:
            raise
        record, damage = None, error.damage
    one.inputs(run, store)
    return record, damage


def can_start(run: Run, store: Store) -> bool:
    """Whether `run` can be made now; `explain` says why not."""
    with contextlib.suppress(RecordError):
        return bool(_start(run, store))
    return False


def explain(left: list[Run], store: Store) -> None:
    """Raises RecordError, saying why, if one of the runs `left` can't be made, and nobody is at it."""
    for run in left:
        if not store.running(run):
            _start(run, store)


def _await(runs: list[Run], store: Store) -> bool:
    """Waits a moment if one of `runs` starts from what another process is making now; False if none does."""
    waiting = [run for run in runs if run.needs and not store.running(run)]
    if any(store.running(needed) for run in waiting for needed in run.needs):
        time.sleep(1)
        return True
    return any(can_start(run, store) for run in waiting)  # what they need was finished this moment


def say(record: Record) -> None:
    """A line on what came out of a run."""
    accuracy = record.test and f"test accuracy {record.test.accuracy:.4f}"
    outcome = accuracy or f"diverged at step {record.diverged_at}"
    progress.tell(f"{record.run.name}: {outcome}, {record.seconds:.0f} s, {record.engine['precision']}")


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
        late = deadline is not None and time.monotonic() > deadline
        return bool(asked) or late or not (parent is None or parent.is_alive())

    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# ------------------------------------------------------------------------------------------ several workers

INTERRUPTED = 130  # the exit status of a worker that was asked to stop
MEMORY_A_RUN = 3 * 2**30  # bytes on a GPU: sixteen runs, half of them VGG-A's with probes, took 2.9 GiB each


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(runs: int, device: str = "cpu", workers: int | None = None, threads: int | None = None) -> tuple[int, int]:
    """How many workers, and CPU threads of each, suit this machine for so many runs, where they are not given.

    On a CPU, one thread a worker and a worker a core: two runs side by side take less than twice as long as one alone.
    A GPU waits most of the time for one run's next launch, so it is shared by as many as have cores and memory.
    """
    if device != "cpu":
        room = torch.cuda.mem_get_info(device)[0] // MEMORY_A_RUN
        return min(workers or max(1, min(cores(), room)), runs), threads or 1
    workers = min(workers or max(1, cores() // (threads or 1)), runs)
    return workers, threads or max(1, cores() // workers)


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
    if not hasattr(signal, "pthread_sigmask"):  # Windows
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
    except one.FAULTS as error:
        code, message = 1, str(error)
    if code:
        messages.put((code, message))
    sys.exit(code)


# ------------------------------------------------------------------------------------------ for notebooks


def obtain_tables(
    tables: Mapping[str, Mapping[str, Run]], budget: str | None = None, store: Store | None = None
) -> dict[str, Selection]:
    """The records of each table (name → label → Run): those that exist, and those that are missing trained now, with a
    bar. One interrupt stops them all.

    The budget is the argument, else REPORT_BUDGET of the environment, else "paper", the report's own length.
    With RECORDS_ONLY=1 in the environment nothing is trained, and what is missing is shown as missing.
    """
    store = store or Store()
    try:
        runs = []
        for name, rows in tables.items():
            selection = records.select(rows, store, budget)
            if selection.missing and not _records_only():
                wanted = [experiments.Row("", name, label, run) for label, run in rows.items()]
                runs += pending(wanted, [selection.budget], store.prepare())
        if runs := list(dict.fromkeys(runs)):
            progress.tell(f"{experiments.outlook(runs)}; interrupted, it keeps what is finished")
            work(runs, store, Settings(threads=torch.get_num_threads(), bar=0))
    except (Interrupted, KeyboardInterrupt) as stopped:
        progress.tell(f"{str(stopped) or 'interrupted'}: what is finished is kept; run the cell again to go on")
    except (experiments.UnknownName, RecordError, data.DataError) as error:
        line = f"{type(error).__name__}: {error}"
        error._render_traceback_ = lambda: [line]  # all that Jupyter shows of it
        raise
    return {name: records.select(rows, store, budget) for name, rows in tables.items()}


def _records_only() -> bool:
    return os.environ.get("RECORDS_ONLY", "0") not in ("", "0")


def rehearse(run: Run, steps: int) -> training.Trainer:
    """Trains the first `steps` of `run` here and now, with a bar, in float32; nothing is recorded.

    The trainer that comes back holds the step's losses and numbers of images got right, as far as it came. Nobody
    watches where notebooks show records alone (RECORDS_ONLY) or are tried out (budget "smoke"): a twentieth is enough.
    """
    if _records_only() or os.environ.get("REPORT_BUDGET") == "smoke":
        steps = -(-steps // 20)
    if run.needs:
        raise ValueError(f"{run.name} starts from another run: rehearse one that starts by itself")
    batches = training.make_batches(run, data.load_for(run))
    trainer = training.Trainer(run, fast.Engine(memory_format="channels_last"), len(batches))
    bar = tqdm(total=steps, desc=run.name, unit="step", leave=False, mininterval=1)
    with bar, contextlib.suppress(training.Stopped):
        training.fit(
            trainer, batches, lambda model: (math.nan, math.nan),
            tick=lambda trainer: bar.update(), stop=lambda: trainer.step >= steps,
        )  # fmt: skip
    return trainer
