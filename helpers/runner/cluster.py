"""Makes missing records as Ray tasks, on this machine or on a cluster whose nodes share the results folder. It never
changes what a run computes: a task is `runner.work` on one run, with a local run's claims, checkpoints and records."""

import contextlib
import os
import socket
import time
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from helpers import runner
from helpers.experiments import Run
from helpers.records import RecordError, Store
from helpers.runner import one

RETRIES = 3  # how often a run is begun again after its worker or node has died
POLL = 1.0  # seconds between two looks at what has become free to be made
GRACE = 60  # seconds that tasks have to save themselves when asked to stop


def run(runs: list[Run], store: Store, settings: runner.Settings, address: str | None = None, workers=None) -> None:
    """Makes `runs` on the Ray cluster at `address`, or one started here; at most `workers` at once, if given.

    Each task asks for `settings.threads` CPUs, and for one GPU where the device is cuda. Raises ValueError without Ray
    or a cluster, Interrupted when asked to stop, RecordError if a run can't be made.
    """
    with _connected(address) as ray, runner.stop_signal(settings.deadline) as stop:
        _Queue(ray, store, replace(settings, bar=None), workers or len(runs), list(runs)).work(stop)


@contextlib.contextmanager
def _connected(address: str | None):
    """Ray, connected, and let go of at the end unless it was connected already."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ValueError("engine 'ray' needs Ray, which is not installed: pip install -e '.[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        _reach(address)
        ray.init(address, logging_level="error", log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"no Ray cluster at {address}: {reason}; `ray start --head` makes one") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises OSError or ValueError if nobody listens at HOST:PORT: Ray itself would try for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


# ------------------------------------------------------------------------------------------ on a worker


def _task(
    run: Run, folder: str, settings: runner.Settings, data_folder: str | None, seconds: float | None = None
) -> tuple[str, str]:
    """Makes one run on whichever node this is; gives "made", "left", "stopped" or "failed", and what to say of it.

    `seconds`: how long it may take, in place of a deadline, since each machine counts from a moment of its own.
    """
    settings = replace(settings, deadline=None if seconds is None else time.monotonic() + seconds)
    if data_folder:
        os.environ.setdefault("DATA_DIR", data_folder)
    store = Store(folder)
    try:
        if not store.work.is_dir():
            raise RecordError(f"{folder} is not to be seen from {socket.gethostname()}: give --results a shared folder")
        runner.work([run], store, settings)
        return ("made" if runner.is_made(run, store) else "left"), run.name
    except (runner.Interrupted, KeyboardInterrupt) as error:
        return "stopped", str(error) or run.name
    except one.FAULTS as error:
        return "failed", str(error)


# ------------------------------------------------------------------------------------------ on the machine that asks


@dataclass
class _Queue:
    """The runs that wait, those handed to Ray, and what came of them."""

    ray: object
    store: Store
    settings: runner.Settings
    room: int
    waiting: list[Run]
    under_way: dict = field(default_factory=dict)  # Ray's reference → run
    outcomes: dict[str, list[str]] = field(default_factory=lambda: {"made": [], "stopped": [], "failed": []})

    def work(self, stop) -> None:
        """Hands out runs until none is left that can be made."""
        gpus = 0 if self.settings.device == "cpu" else 1
        task = self.ray.remote(_task).options(num_cpus=self.settings.threads, num_gpus=gpus, max_retries=RETRIES)
        with tqdm(total=len(self.waiting), desc="runs", unit="run", disable=None) as bar:
            while self._hand_out(task) and not stop():
                self._collect(POLL, bar)
            if stop():
                self._cancel(bar)
        if self.outcomes["failed"]:
            raise RecordError("; ".join(sorted(self.outcomes["failed"])))
        if stop() or self.outcomes["stopped"]:
            raise runner.Interrupted(", ".join(sorted(self.outcomes["stopped"])) or "stopped")
        runner.explain(self.waiting, self.store)

    def _hand_out(self, task) -> bool:
        """Submits what can begin now; False if nothing is under way here or elsewhere that more could come of."""
        deadline = self.settings.deadline
        for run in list(self.waiting):
            if len(self.under_way) < self.room and not self.store.running(run) and runner.can_start(run, self.store):
                self.waiting.remove(run)
                seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
                data_folder = os.environ.get("DATA_DIR")
                reference = task.remote(run, str(self.store.folder), self.settings, data_folder, seconds)
                self.under_way[reference] = run
        elsewhere = (each for run in self.waiting for each in (run, *run.all_needs))
        return bool(self.under_way) or any(map(self.store.running, elsewhere))

    def _collect(self, seconds: float, bar) -> None:
        """Takes in what has ended, waiting for at most so long."""
        if not self.under_way:
            time.sleep(seconds)
            return
        ended, _ = self.ray.wait(list(self.under_way), num_returns=1, timeout=seconds)
        for reference in ended:
            run = self.under_way.pop(reference)
            what, message = self._outcome(reference, run)
            if what == "left":  # another process is at it, or a worker that died has not let go of it yet
                self.waiting.append(run)
                continue
            self.outcomes[what].append(message)
            bar.update(what == "made")
            if what == "made":
                runner.say(self.store.read(run))

    def _outcome(self, reference, run: Run) -> tuple[str, str]:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.TaskCancelledError:
            return "stopped", f"{run.name} stopped"
        except self.ray.exceptions.RayTaskError:  # a fault of ours, with its traceback
            raise
        except self.ray.exceptions.RayError as error:
            return "failed", f"{run.name}: its worker died {RETRIES + 1} times ({type(error).__name__})"

    def _cancel(self, bar) -> None:
        """Asks all tasks to save and end; those that have not begun never do."""
        for reference in self.under_way:
            self.ray.cancel(reference)
        until = time.monotonic() + GRACE
        with contextlib.suppress(KeyboardInterrupt):  # asked twice: what is not saved goes on from its last epoch
            while self.under_way and time.monotonic() < until:
                self._collect(POLL, bar)
