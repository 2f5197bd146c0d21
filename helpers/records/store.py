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
from typing import TYPE_CHECKING, Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import Field, model_validator
from pydantic_core import from_json

from helpers import ROOT, experiments
from helpers.experiments import Frozen, Run
from helpers.records.files import RecordError, first_line, move, named, put, read, unpack

if TYPE_CHECKING:
    import numpy as np

# Raised when a change of the code changes what a run computes; records of an older recipe are then stale.
RECIPE = 1
BESIDE = (".npz", ".safetensors")  # what may lie beside a record: its series, its weights
NAME = re.compile(r"\w+-[0-9a-f]{10}")  # as `Run.name` has it


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=1e9)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Plain = str | bool | Count | Number | None
Series = Literal["train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds"]


class Score(Frozen):
    """Mean loss in nats and accuracy (0 to 1) on one split."""

    loss: Number | None
    accuracy: Annotated[float, Field(strict=True, ge=0, le=1)]


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
    diverged_at: Count | None = None
    test: Score | None
    history: dict[Series, list[Number | None]]
    parameters: Count
    seconds_per_epoch: Seconds | None
    fingerprint: list[Number | None]
    weights: str
    engine: dict[str, Plain]
    machine: dict[str, Plain]
    recipe: Count = RECIPE
    revision: str
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = {}

    @model_validator(mode="after")
    def _consistent(self):
        if missing := set(Series.__args__) - self.history.keys():
            raise ValueError(f"history lacks {min(missing)}")
        lengths = {len(values) for values in self.history.values()}
        if len(lengths) > 1 or max(lengths) > self.run.epochs:
            raise ValueError(f"history has series of {sorted(lengths)} epochs, the run has {self.run.epochs}")
        if any(value is not None and not 0 <= value <= 1e9 for value in self.history["seconds"]):
            raise ValueError("history has an epoch of less than 0 or more than 1e9 seconds")
        if odd := self.files.keys() - {self.run.name + suffix for suffix in BESIDE}:
            raise ValueError(f"files has {min(odd)!r}, which is no name of a file beside {self.run.name}.json")
        return self

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
        where, threads = self.machine.get("accelerator") or self.machine.get("processor"), self.engine.get("threads", 1)
        words = (where, f"{threads} thread{'s' * (threads != 1)}", self.engine.get("precision"))
        return ", ".join(str(each) for each in words if each)

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
        folder = folder or os.environ.get("RESULTS_DIR") or ROOT / "results"
        self.folder = Path(os.path.abspath(os.path.expanduser(folder)))
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
        with suppress(RecordError):
            return self.read(run)

    def whole(self, run: Run) -> Record | None:
        """`read`, with what lies beside: RecordError too for a file there that is damaged, missing or unreadable."""
        record = self.read(run)
        for error in self._faults(record).values() if record else ():
            raise error
        return record

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
                    record = _parse(os.path.join(self.folder, name))
                    records[record.run.name] = record
                    faults |= {self.folder / each: str(error) for each, error in self._faults(record).items()}
                except RecordError as error:
                    faults[self.folder / name] = str(error)
        owned = {name for record in records.values() for name in record.files}
        for name in names:
            stem, suffix = os.path.splitext(name)
            # What belongs to a record that can't be read may be whole.
            if suffix in BESIDE and NAME.fullmatch(stem) and self.folder / f"{stem}.json" not in faults:
                if name not in owned:
                    faults[self.folder / name] = f"{self.folder / name} belongs to no record: move it away"
        return records, faults

    def arrays(self, record: Record) -> dict[str, "np.ndarray"]:
        """The step-level series and predictions beside `record`. RecordError if there are none that can be read."""
        return {name: array.copy() for name, array in self._beside(record, ".npz", _unpacked).items()}

    def weights(self, record: Record) -> dict[str, "np.ndarray"]:
        """The weights beside `record`, by parameter name. RecordError if there are none that can be read."""
        from safetensors.numpy import load

        run = record.run
        if run.name + ".safetensors" not in record.files and not experiments.keeps_weights(run):
            raise RecordError(f"no weights are kept of {run.name}: add it to experiments.KEPT, delete {run.name}.json"
                              " and run its row again")  # fmt: skip
        return self._beside(record, ".safetensors", load)

    def _beside(self, record: Record, suffix: str, unpack):
        """What `unpack` makes of the file of this suffix beside `record`."""
        content = self._content(record, record.run.name + suffix)
        try:
            return unpack(content)
        except Exception as error:  # another format, or objects in it that would have to run code
            raise RecordError(f"{self.path(record.run, suffix)} is refused: {first_line(error)}") from None

    def _content(self, record: Record, name: str) -> bytes:
        """The content of a file beside `record`, with the checksum that the record gives."""
        if name not in record.files:
            raise RecordError(f"{self.folder / name} is missing: delete {record.run.name}.json and run its row again")
        fault, checksum = "missing", record.files[name]
        for path in (os.path.join(self.folder, name), self._new(name, checksum)):
            if os.path.lexists(path):
                content, fault = read(path), "damaged"
                if _sha256(content) == checksum:
                    return content
        damage = f"{self.folder / name} is {fault}"
        raise RecordError(f"{damage}: run its row again", damage)

    def _faults(self, record: Record) -> dict[str, RecordError]:
        """The files beside `record` that are damaged, missing or unreadable: name → what is wrong."""
        faults = {}
        for name in record.files:
            try:
                self._content(record, name)
            except RecordError as error:
                faults[name] = error
        return faults

    # ---------------------------------------------------------------------- writing

    def prepare(self) -> "Store":
        """Makes the folder, tries to write in it, and ends what killed processes began. RecordError if it can't be."""
        with named(self.folder):
            self.work.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
            put(self.work / ".gitignore", b"*\n")  # in place of what is there, should it be a link
        try:
            os.rename(self.work / ".nothing", self.folder / ".nothing")
        except FileNotFoundError:  # as expected; that it is another file system, or mounted by itself, shows before
            pass
        except OSError:
            raise RecordError(f"{self.work} is on another file system than {self.folder}, where nothing can be moved"
                              " whole: make it a plain folder, or choose another with --results") from None  # fmt: skip
        for path in (*self.work.glob("*.pt"), *self.work.glob("*.new.*")):
            name = path.name.partition(".")[0]
            if NAME.fullmatch(name) and os.path.lexists(self.folder / f"{name}.json"):
                with self.claim(name):
                    pass
        return self

    def write(
        self, record: Record, arrays: Mapping[str, "np.ndarray"] = {}, weights: Mapping[str, "np.ndarray"] = {}
    ) -> Record:
        """Writes `record` and what belongs beside it: killed at any moment, all of the old is there or all of the new.

        What goes beside it waits in `.work` until the record names it. Gives the record as it was written, with the
        checksums of the files beside it.
        """
        name, contents = record.run.name, _packed(record.run.name, arrays, weights)
        record = record.model_copy(update={"files": {each: _sha256(content) for each, content in contents.items()}})
        old = self.readable(record.run)
        try:
            for each, content in contents.items():
                self.replace(self._new(each, record.files[each]), content)
            self.replace(self.path(record.run), _text(record))
        finally:
            self._settle(name)
        for each in old.files.keys() - record.files.keys() if old else ():
            (self.folder / each).unlink(missing_ok=True)
        return record

    def _new(self, name: str, checksum: str) -> Path:
        """Where a file waits until a record has been written that names it."""
        stem, suffix = os.path.splitext(name)
        return self.work / f"{stem}.{checksum[:16]}.new{suffix}"

    def _settle(self, name: str) -> None:
        """Brings what waits for a record to its place, once the record is there, and removes what no record names."""
        waiting, path = list(self.work.glob(f"{name}.*.new.*")), self.folder / f"{name}.json"
        try:
            files = _parse(str(path)).files if waiting and os.path.lexists(path) else {}
        except RecordError:  # until it can be read, nobody knows what it names
            return
        with named(path):
            for each, checksum in files.items():
                if (new := self._new(each, checksum)) in waiting:
                    move(new, self.folder / each)
            for new in waiting:
                new.unlink(missing_ok=True)

    def replace(self, path: Path, content: bytes) -> None:
        """Puts `content` at `path`, by way of a temporary file: whole or not at all."""
        with named(path):
            self.work.mkdir(parents=True, exist_ok=True)
            put(path, content, self.work)

    def set_aside(self, path: Path) -> Path:
        """Moves a damaged file to `.work`, so that it is in nobody's way and not lost; gives where it is now."""
        aside, numbers = self.work / f"{path.name}.damaged", itertools.count(2)
        while os.path.lexists(aside):
            aside = self.work / f"{path.name}.damaged.{next(numbers)}"
        with named(path):
            return path.rename(aside)

    def set_aside_damaged(self, run: Run) -> list[Path]:
        """Moves to `.work` what is damaged: of the files beside a whole record these alone, else the record with all.

        Gives where they are now, the record first.
        """
        record, damaged = self.readable(run), [self.path(run, suffix) for suffix in BESIDE]
        if record is None:  # last of all: killed before, the next attempt finds the damage again
            damaged.append(self.path(run))
        else:
            faults = self._faults(record)
            damaged = [path for path in damaged if path.name in faults and faults[path.name].damage]
        return [self.set_aside(path) for path in damaged if os.path.lexists(path)][::-1]

    # ---------------------------------------------------------------------- who is at work

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.work / f"{name}.lock")

    @contextmanager
    def claim(self, run: Run | str) -> Iterator[bool]:
        """True while this process alone may train `run` (or the run of that name) or change its record, false if
        another one is at it. A killed process lets go, and what it left half done is ended or removed.
        """
        name = run if isinstance(run, str) else run.name
        lock = self._lock(name)
        with named(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
            # A moment's patience, because `running` holds the lock while it looks.
            with suppress(Timeout):
                lock.acquire(timeout=0.2)
        try:
            if lock.is_locked:
                self._tidy(name)
            yield lock.is_locked
        finally:
            lock.release()

    def _tidy(self, name: str) -> None:
        """Ends or removes what a process that was killed has left of a run: nobody else is at it."""
        for half_written in self.work.glob(f"{name}.*.part"):
            half_written.unlink(missing_ok=True)
        self._settle(name)
        checkpoint, path = self.work / f"{name}.pt", self.folder / f"{name}.json"
        if checkpoint.exists() and os.path.lexists(path):
            with suppress(RecordError):
                record = _parse(str(path))
                if not record.stale and not self._faults(record):  # killed before it removed its checkpoint
                    checkpoint.unlink(missing_ok=True)

    def running(self, run: Run) -> bool:
        """Whether some process is training `run` now."""
        lock = self._lock(run.name)
        if not os.path.exists(lock.lock_file):
            return False
        try:
            with lock.acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a folder that can only be read is nobody's place of work
            return False


_unpacked = functools.lru_cache(maxsize=256)(unpack)  # a table asks for the same few again and again; most take 0.2 MB


def _packed(name: str, arrays: Mapping[str, "np.ndarray"], weights: Mapping[str, "np.ndarray"]) -> dict[str, bytes]:
    """The files beside the record `name`: name → content."""
    files = {}
    if arrays:
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        files[f"{name}.npz"] = buffer.getvalue()
    if weights:
        from safetensors.numpy import save

        files[f"{name}.safetensors"] = save(dict(weights))
    return files


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


MARK = b'\n "checksum": "'


def _text(record: Record) -> bytes:
    """The record as JSON, one line a field, closed by the checksum of all that stands before it."""
    fields = record.model_dump(mode="json") | {"run": record.run.differing()}
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in fields.items()]
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


def _parse(path: str) -> Record:
    body, mark, ending = read(path).rpartition(MARK)
    if not mark or ending != _ending(body):
        damage = f"{path} is damaged or no record (its checksum does not fit its content)"
        raise RecordError(f"{damage}: move it away, or run its row again", damage)
    try:
        record = Record(**from_json(body.rstrip(b",") + b"}", allow_inf_nan=False))
    except Exception as error:  # whatever else a file with a checksum may hold
        reason = f"is no record this version can read ({first_line(error)})"
        raise RecordError(f"{path} {reason}: update the code, or move it away") from None
    if record.run.name + ".json" != os.path.basename(path):
        reason = f"holds the run {record.run.name}: it was renamed, or a default has changed"
        raise RecordError(f"{path} {reason}; move it away")
    return record
