"""What came out of the runs, and from what: one JSON file a run, written whole or not at all, with a checksum. Reading
a record never runs code, and a file that can't be read is named with its reason, never skipped in silence."""

import functools
import hashlib
import io
import itertools
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from pydantic_core import from_json

from helpers import ROOT, experiments
from helpers.experiments import Frozen, Run

if TYPE_CHECKING:
    import numpy as np

# Raised when a change of the code changes what a run computes; records of an older recipe are then stale.
RECIPE = 1
BESIDE = (".npz", ".safetensors")  # what may lie beside a record: its series, its weights
NAME = re.compile(r"\w+-[0-9a-f]{10}")  # as `Run.name` has it


class RecordError(RuntimeError):
    """A file of the results folder can't be read or written; the message says which and what to do.

    `damaged`: it is a record whose checksum does not fit its content; any other may be whole.
    """

    def __init__(self, message: str, damaged: bool = False):
        super().__init__(message)
        self.damaged = damaged


class Score(Frozen):
    """Mean loss in nats and accuracy (0 to 1) on one split."""

    loss: float | None
    accuracy: float


class Record(Frozen):
    """What one run left behind.

    `history`: for each finished epoch, `train_loss` and `train_accuracy` (running means in training mode),
    `validation_loss`, `validation_accuracy` and `seconds` (training only). `test`: the last epoch's, None if diverged.
    `diverged_at`: the first step whose loss was not finite. `seconds_per_epoch`: the upper median of `seconds`, None if
    no epoch ended; tables show `fastest_epoch` instead. `fingerprint`: the losses of the first steps in float32, made
    on a fresh copy of the model. `weights`: SHA-256 of the final weights. `revision`: the commit of the code that ran,
    with "+" if it was changed since; "a, b" if the run was begun by one and went on under another. `files`: name →
    SHA-256 of each file beside the record.
    """

    run: Run
    state: Literal["done", "diverged"]
    diverged_at: int | None = None
    test: Score | None
    history: dict[str, list[float | None]]
    parameters: int
    seconds_per_epoch: float | None
    fingerprint: list[float | None]
    weights: str
    engine: dict[str, Any]
    machine: dict[str, Any]
    recipe: int = RECIPE
    revision: str
    files: dict[str, str] = {}

    @property
    def stale(self) -> bool:
        return self.recipe != RECIPE

    @property
    def fastest_epoch(self) -> float | None:
        """Seconds of the fastest epoch: what a run costs, whatever else the machine was busy with in the others."""
        return min((value for value in self.history["seconds"] if value), default=None)

    @property
    def timed_on(self) -> str:
        """The machine, its threads and the precision, in words: only times of the same are compared."""
        where, threads = (
            self.machine.get("accelerator") or self.machine.get("processor", ""),
            self.engine.get("threads", 1),
        )
        return ", ".join(filter(None, [where, f"{threads} thread{'s' * (threads > 1)}", self.engine.get("precision")]))

    @property
    def seconds(self) -> float:
        """Seconds of training, all epochs as fast as the fastest: a machine that was busy, or slept, is left out."""
        return (self.fastest_epoch or 0) * len(self.history["seconds"])


class Store:
    """The records of one folder: `results/` of the repository, RESULTS_DIR of the environment, or `folder`.

    Raises ValueError if `folder` is an empty name.
    """

    def __init__(self, folder: Path | str | None = None):
        if folder == "":
            raise ValueError("the name of the results folder is empty: give one, or leave --results out")
        self.folder = Path(os.path.abspath(folder or os.environ.get("RESULTS_DIR") or ROOT / "results"))
        self.work = self.folder / ".work"  # checkpoints, locks and half-written files, none of them in git

    def path(self, run: Run, suffix: str = ".json") -> Path:
        return self.folder / (run.name + suffix)

    def checkpoint(self, run: Run) -> Path:
        return self.work / f"{run.name}.pt"

    # ---------------------------------------------------------------------- reading

    def read(self, run: Run) -> Record | None:
        """The record of `run`, or None if there is none. Raises RecordError if it can't be read."""
        path = self.path(run)
        return _parse(str(path)) if os.path.lexists(path) else None

    def readable(self, run: Run) -> Record | None:
        """The record of `run`; None too if it can't be read (`scan` names it)."""
        try:
            return self.read(run)
        except RecordError:
            return None

    def scan(self) -> tuple[dict[str, Record], dict[Path, str]]:
        """All records by name, and each file at fault with the reason: can't be read, missing, or no record's."""
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            needed = "`python -m helpers run` makes it; for records elsewhere say --results or RESULTS_DIR"
            return {}, {self.folder: f"{self.folder} does not exist: {needed}"}
        except OSError as error:
            raise RecordError(f"{self.folder} can't be read: {error.strerror}; choose another with --results") from None
        records, faults = {}, {}
        for name in names:
            if name.endswith(".json"):
                try:
                    records[name.removesuffix(".json")] = _parse(os.path.join(self.folder, name))
                except RecordError as error:
                    faults[self.folder / name] = str(error)
        owned = {name: record for record in records.values() for name in record.files}
        for name, record in owned.items():
            try:
                self._whole(record, name)
            except RecordError as error:
                faults[self.folder / name] = str(error)
        for name in names:
            stem, suffix = os.path.splitext(name)
            if name in owned or suffix not in BESIDE or not NAME.fullmatch(stem):
                continue
            if self.folder / f"{stem}.json" not in faults:  # what belongs to a record that can't be read may be whole
                faults[self.folder / name] = f"{self.folder / name} belongs to no record: move it away"
        return records, faults

    def arrays(self, record: Record) -> dict[str, "np.ndarray"]:
        """The step-level series and predictions beside `record`. RecordError if there are none that can be read."""
        content = self._whole(record, record.run.name + ".npz")
        try:
            return {name: array.copy() for name, array in _unpacked(content).items()}
        except Exception as error:  # no archive, or one with objects in it that would have to run code
            raise RecordError(f"{self.path(record.run, '.npz')} is refused: {_first_line(error)}") from None

    def weights(self, record: Record) -> dict[str, "np.ndarray"]:
        """The weights beside `record`, by parameter name. RecordError if there are none that can be read."""
        from safetensors.numpy import load

        run = record.run
        if run.name + ".safetensors" not in record.files and not experiments.keeps_weights(run):
            raise RecordError(f"no weights are kept of {run.name}: add it to experiments.KEPT, delete {run.name}.json"
                              " and run its row again")  # fmt: skip
        content = self._whole(record, run.name + ".safetensors")
        try:
            return load(content)
        except Exception as error:
            raise RecordError(f"{self.path(record.run, '.safetensors')} is refused: {_first_line(error)}") from None

    def _whole(self, record: Record, name: str) -> bytes:
        """The content of a file beside `record`, with the checksum that the record gives."""
        path, fault = os.path.join(self.folder, name), "missing"
        if name in record.files and os.path.lexists(path):
            content, fault = _read(path), "damaged"
            if _sha256(content) == record.files[name]:
                return content
        raise RecordError(f"{path} is {fault}: delete {record.run.name}.json and run its row again")

    # ---------------------------------------------------------------------- writing

    def prepare(self) -> "Store":
        """Makes the folder and tries to write in it. Raises RecordError if that can't be done."""
        with _named(self.folder):
            self.work.mkdir(parents=True, exist_ok=True)
            (self.work / ".gitignore").write_text("*\n")
            tempfile.TemporaryFile(dir=self.folder).close()
        return self

    def write(
        self, record: Record, arrays: Mapping[str, "np.ndarray"] = {}, weights: Mapping[str, "np.ndarray"] = {}
    ) -> Record:
        """Writes `record` and what belongs beside it, each file whole or not at all, the record last.

        Gives the record as it was written, with the checksums of the files beside it.
        """
        files = {}
        if arrays:
            import numpy as np

            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)
            files[record.run.name + ".npz"] = buffer.getvalue()
        if weights:
            from safetensors.numpy import save

            files[record.run.name + ".safetensors"] = save(dict(weights))
        for name, content in files.items():
            self.replace(self.folder / name, content)
        record = record.model_copy(update={"files": {name: _sha256(content) for name, content in files.items()}})
        self.replace(self.path(record.run), _text(record))
        return record

    def replace(self, path: Path, content: bytes) -> None:
        """Puts `content` at `path`, by way of a temporary file: whole or not at all."""
        with _named(path):
            self.work.mkdir(parents=True, exist_ok=True)
            put(path, content, self.work)

    def set_aside(self, path: Path) -> Path:
        """Moves a damaged file to `.work`, so that it is in nobody's way and not lost; gives where it is now."""
        aside, numbers = self.work / f"{path.name}.damaged", itertools.count(2)
        while os.path.lexists(aside):
            aside = self.work / f"{path.name}.damaged.{next(numbers)}"
        with _named(path):
            return path.rename(aside)

    def set_aside_record(self, run: Run) -> Path:
        """Moves the damaged record of `run` to `.work`, and what lies beside it; gives where the record is now."""
        for path in (self.path(run, suffix) for suffix in BESIDE):
            if os.path.lexists(path):
                self.set_aside(path)
        return self.set_aside(self.path(run))  # last: killed before, the next attempt finds the damage again

    # ---------------------------------------------------------------------- who is at work

    def _lock(self, run: Run) -> FileLock:
        return FileLock(self.work / f"{run.name}.lock")

    @contextmanager
    def claim(self, run: Run) -> Iterator[bool]:
        """True while this process alone may train `run`; False if another one is at it. A killed process lets go."""
        lock = self._lock(run)
        with _named(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
            # A moment's patience, because `running` holds the lock while it looks.
            with suppress(Timeout):
                lock.acquire(timeout=0.2)
        try:
            if lock.is_locked:
                for half_written in self.work.glob(f"{run.name}.*.part"):  # left by a process that was killed
                    half_written.unlink(missing_ok=True)
            yield lock.is_locked
        finally:
            lock.release()

    def running(self, run: Run) -> bool:
        """Whether some process is training `run` now."""
        lock = self._lock(run)
        if not os.path.exists(lock.lock_file):
            return False
        try:
            with lock.acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a folder that can only be read is nobody's place of work
            return False


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns a failure of the file system into a RecordError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"can't write {path}: {reason}; nothing already there is changed. Free room, or choose"
                          " another folder with --results") from None  # fmt: skip


@functools.lru_cache(maxsize=256)  # a table asks for the same few again and again; most take 0.2 MB
def _unpacked(content: bytes) -> dict[str, "np.ndarray"]:
    import numpy as np  # here, so that what reads no arrays starts in half the time

    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MARK = b'\n "checksum": "'


def _text(record: Record) -> bytes:
    """The record as JSON, one line a field, closed by the checksum of all that stands before it."""
    fields = record.model_dump(mode="json") | {"run": record.run.differing()}
    lines = [f" {json.dumps(key)}: {json.dumps(finite(value), ensure_ascii=False)}," for key, value in fields.items()]
    body = "\n".join(["{", *lines]).encode()
    return body + MARK + _ending(body)


def _ending(body: bytes) -> bytes:
    return f'{_sha256(body)[:16]}"\n}}\n'.encode()


def finite(value):
    """`value` with every number that JSON can't hold (infinite or NaN) made None."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def put(path: Path, content: bytes, folder: Path | None = None) -> None:
    """Puts `content` at `path`, by way of a temporary file in `folder`, or beside it: whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=path.name + ".", suffix=".part", dir=folder or path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _read(path: str) -> bytes:
    """The content of a file, without a buffer between: folders may hold thousands of small ones."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"{path} can't be read: {reason}; make it readable, or move it away") from None


def _parse(path: str) -> Record:
    body, mark, ending = _read(path).rpartition(MARK)
    if not mark or ending != _ending(body):
        reason = "is damaged or no record (its checksum does not fit its content)"
        raise RecordError(f"{path} {reason}: move it away, or run its row again", damaged=True)
    try:
        record = Record(**from_json(body.rstrip(b",") + b"}"))
    except Exception as error:  # whatever else a file with a checksum may hold
        reason = f"is no record this version can read ({_first_line(error)})"
        raise RecordError(f"{path} {reason}: update the code, or move it away") from None
    if record.run.name + ".json" != os.path.basename(path):
        reason = f"holds the run {record.run.name}: it was renamed, or a default has changed"
        raise RecordError(f"{path} {reason}; move it away")
    return record


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
