"""The records of the runs: whole or not at all, damage found and named, what is read never run, budgets never mixed."""

import contextlib
import errno
import functools
import io
import json
import math
import os
import stat
import time
import zipfile

import numpy as np
import pytest

from helpers import experiments, records
from helpers.experiments import Run
from helpers.records import Record, RecordError, Store

RUN = Run(model="LeNet", data="mnist", lr=0.1, epochs=60)
ROWS = {"a": RUN, "b": experiments.replace(RUN, lr=0.2)}


def record_of(run: Run = RUN, accuracy: float | None = 0.75, **fields) -> Record:
    series = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds")
    epoch = dict.fromkeys(series, [0.5, 1.5])
    given = dict(
        run=run, state="done", test={"loss": 0.25, "accuracy": accuracy}, history=epoch, parameters=10,
        seconds_per_epoch=1.0, fingerprint=[2.5, 2.25], weights="0" * 64, engine={"precision": "float32"}, machine={},
        revision="abc",
    )  # fmt: skip
    if accuracy is None:
        given |= {"state": "diverged", "test": None, "diverged_at": 7}
    return Record(**{**given, **fields})


def rewrite(path, change) -> None:
    """Applies `change` to the fields of a record's file and makes its checksum anew."""
    fields = json.loads(path.read_bytes().rpartition(records.MARK)[0].rstrip(b",") + b"}")
    body = (json.dumps(change(fields), indent=1).removesuffix("\n}") + ",").encode()
    path.write_bytes(body + records.MARK + records.store._ending(body))


def fault(store: Store, name: str = RUN.name + ".json") -> str:
    """The one line that `scan` says about a file, which is the only one at fault."""
    faults = store.scan()[1]
    assert list(faults) == [store.folder / name]
    assert "\n" not in faults[store.folder / name]
    return faults[store.folder / name]


# ------------------------------------------------------------------------------------------ written and read


def test_what_is_written_is_read_back(store):
    written = store.write(record_of(), {"step_loss": np.arange(3.0)}, {"w": np.ones((2, 2), "float32")})
    assert store.read(RUN) == written and set(written.files) == {RUN.name + ".npz", RUN.name + ".safetensors"}
    np.testing.assert_array_equal(store.arrays(written)["step_loss"], [0, 1, 2])
    np.testing.assert_array_equal(store.weights(written)["w"], np.ones((2, 2)))
    assert store.scan() == ({RUN.name: written}, {})
    assert store.read(ROWS["b"]) is None


def test_arrays_are_each_readers_own_and_checked_each_time(store):
    written = store.write(record_of(), {"step_loss": np.arange(3.0)})
    store.arrays(written)["step_loss"][:] = 7
    assert store.arrays(written)["step_loss"].tolist() == [0, 1, 2]
    store.path(RUN, ".npz").write_bytes(b"damaged")
    with pytest.raises(RecordError, match="is damaged"):
        store.arrays(written)


def test_numbers_that_json_cant_hold_become_null(store):
    history = {name: [math.nan, math.inf] for name in record_of().history}
    with pytest.raises(ValueError, match="history.train_loss.0.*finite"):
        record_of(history=history)
    store.write(record_of(history=records.finite(history), fingerprint=records.finite([2.0, -math.inf])))
    fields = json.loads(store.path(RUN).read_text(), parse_constant=pytest.fail)  # NaN or Infinity would call it
    assert fields["history"]["train_loss"] == [None, None] and fields["fingerprint"] == [2.0, None]
    assert store.read(RUN).seconds == 0


def test_a_run_is_as_long_as_its_fastest_epoch_says():
    # In the first of these epochs the machine slept for two hours.
    history = {name: [0.5] * 4 for name in record_of().history} | {"seconds": [7200.0, 30.0, None, 40.0]}
    assert record_of(history=history).seconds == 4 * 30


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_record_and_no_litter(call, error, store, monkeypatch):
    old = store.write(record_of())
    before = sorted(store.folder.rglob("*"))

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(RecordError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        store.write(record_of(accuracy=0.5))
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"can't write {store.path(RUN)}: No space left on device; nothing already")
    assert store.read(RUN) == old and sorted(store.folder.rglob("*")) == before


def test_the_folder_is_the_argument_or_the_environments_or_results(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    assert Store().folder == tmp_path and Store("elsewhere").folder.name == "elsewhere"
    monkeypatch.setenv("RESULTS_DIR", "")
    assert Store().folder == records.ROOT / "results"
    with pytest.raises(ValueError, match="the name of the results folder is empty: give one, or leave --results out"):
        Store("")


# ------------------------------------------------------------------------------------------ damage


def test_every_flipped_bit_and_every_cut_is_found(store):
    store.write(record_of())
    path = store.path(RUN)
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert store.readable(RUN) is None, f"byte {position}"
        path.write_bytes(content[:position])
        assert store.readable(RUN) is None, f"cut at {position}"
    assert "is damaged or no record (its checksum does not fit its content): move it away" in fault(store)
    path.write_bytes(content)
    assert store.scan()[1] == {}


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda fields: {**fields, "shine": 1}, "'shine' is nothing that Record has"),
        (lambda fields: {**fields, "run": {**fields["run"], "shine": 1}}, "'shine' is nothing that Run has"),
        (lambda fields: {**fields, "state": "great"}, "state: 'great' is not allowed"),
        (lambda fields: {**fields, "run": "LeNet"}, "no record this version can read"),
        (lambda fields: {**fields, "run": {**fields["run"], "model": "Transformer"}}, "'Transformer' is not allowed"),
        (lambda fields: {**fields, "run": {**fields["run"], "options": 5}}, "no record this version can read"),
        (lambda fields: {"self": 1}, "no record this version can read"),
    ],
)
def test_a_record_of_another_version_is_named_in_one_line(change, reason, store):
    store.write(record_of())
    rewrite(store.path(RUN), change)
    assert reason in fault(store) and "update the code, or" in fault(store)
    with pytest.raises(RecordError) as caught:
        store.read(RUN)
    assert not caught.value.damage


def within(*place: str, to):
    """A change of a record's fields: what stands at `place` becomes `to`."""

    def change(fields: dict) -> dict:
        inner = fields
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = to
        return fields

    return change


HOSTILE = {
    "a device beside it": within("files", to={"/dev/zero": "0" * 64}),
    "a file of the system's": within("files", to={"../../etc/passwd": "0" * 64}),
    "another record's file": within("files", to={"LeNet-0123456789.npz": "0" * 64}),
    "a suffix of its own": within("files", to={f"{RUN.name}.json": "0" * 64}),
    "no checksum": within("files", to={f"{RUN.name}.npz": "../x"}),
    "no history": within("history", to={}),
    "a series less": within("history", to={"seconds": [1.0]}),
    "a series more": within("history", "\x1b[2J", to=[1.0, 2.0]),
    "series of two lengths": within("history", "seconds", to=[1.0]),
    "more epochs than the run": within("history", to=dict.fromkeys(records.store.Series.__args__, [0.5] * 61)),
    "words for numbers": within("history", "seconds", to=["1", "2"]),
    "a negative time": within("history", "seconds", to=[-1.0, 1.0]),
    "an endless time": within("history", "seconds", to=[1e308, 1e308]),
    "an accuracy of two": within("test", "accuracy", to=2),
    "an accuracy in words": within("test", "accuracy", to="0.5"),
    "a number that is none": within("test", "accuracy", to=float("nan")),
    "a number without end": within("fingerprint", to=[float("inf")]),
    "a count with a fraction": within("parameters", to=1.5),
    "a count below 0": within("diverged_at", to=-1),
    "a count of 400 digits": within("parameters", to=10**400),
    "a machine within a machine": within("machine", to={"accelerator": {"a": 1}}),
    "threads in a list": within("engine", to={"threads": [2]}),
    "10^10 units": within("run", to={**record_of(Run(model="MyNet", lr=0.1, epochs=60)).run.differing(),
                                      "options": {"hidden": 10**10}}),
    "10^9 epochs": within("run", "epochs", to=10**9),
    "a seed of 10^30": within("run", "seed", to=10**30),
    "a batch of 10^9": within("run", "batch_size", to=10**9),
    "a rate of 10^300": within("run", "lr", to=1e300),
    "10^12 images": within("run", "images", to=10**12),
    "starts without end": within("run", "start", to=functools.reduce(
        lambda start, _: {**RUN.differing(), "start": start}, range(400), RUN.differing())),
    "lists without end": within("machine", to=functools.reduce(lambda inner, _: [inner], range(300), [])),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_record_that_no_run_leaves_is_named_in_one_line_whatever_its_checksum(kind, store):
    store.write(record_of())
    rewrite(store.path(RUN), HOSTILE[kind])
    reason = fault(store)
    assert "is no record this version can read (" in reason and len(reason) < 500
    assert records.status(store, ["paper"])  # which goes on without it
    assert not list(records.select(ROWS, store).values())[0]


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe", "link to a device", "endless", "large"])
def test_only_regular_files_of_a_known_size_are_opened(kind, suffix, store):
    store.write(record_of(), {"step_loss": np.arange(3.0)})
    path, pipe = store.path(RUN, suffix), store.folder / "pipe"
    path.unlink()
    os.mkfifo(pipe)
    if kind == "pipe":
        pipe.rename(path)
    elif kind == "large":
        path.touch()
        os.truncate(path, 2**40)
    elif kind == "device" and os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # as root in a container
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    if not path.exists():
        target = {"link to a pipe": pipe, "endless": "/proc/self/pagemap"}.get(kind, "/dev/zero")
        path.symlink_to(target)
    reason = fault(store, path.name)
    expected = {"endless": "is damaged", "large": "can't be read: Larger than "}.get(
        kind, "can't be read: Not a regular"
    )
    assert expected in reason


def archive(*sizes: int, shape: tuple[int, ...] | None = None, dtype: str = "|u1") -> bytes:
    """An .npz that unpacks to so many zeros, of which each header may tell otherwise."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for number, size in enumerate(sizes):
            header = io.BytesIO()
            described = {"descr": dtype, "fortran_order": False, "shape": shape or (size,)}
            np.lib.format.write_array_header_1_0(header, described)
            with file.open(f"a{number}.npy", "w", force_zip64=True) as part:
                part.write(header.getvalue())
                for start in range(0, size, 2**24):
                    part.write(bytes(min(2**24, size - start)))
    return buffer.getvalue()


@pytest.mark.parametrize("content, reason", [
    (functools.partial(archive, 300 * 2**20), "unpacked it has 300 MiB, more than 256"),
    (functools.partial(archive, *[2**20] * 300), "unpacked it has 300 MiB, more than 256"),
    (functools.partial(archive, 3, shape=(10**15,)), ""),
    (functools.partial(archive, 3, shape=(-1, 2)), ""),
    (functools.partial(archive, 0, shape=(10**15,), dtype="|S0"), "holds no numbers"),
    (functools.partial(archive, 8, shape=(1,), dtype="<U2"), "holds no numbers"),
    (lambda: b"PK", "not a zip file"),
])  # fmt: skip
def test_an_archive_is_unpacked_only_as_far_as_memory_is_for_it(content, reason, store):
    content = content()
    store.path(RUN, ".npz").parent.mkdir()
    store.path(RUN, ".npz").write_bytes(content)
    name, started = f"{RUN.name}.npz", time.monotonic()
    with pytest.raises(RecordError, match=rf"\.npz is refused: .*{reason}"):
        store.arrays(record_of(files={name: records.store._sha256(content)}))
    assert time.monotonic() - started < 5


def test_what_a_terminal_would_obey_is_shown_as_its_code():
    assert records.plain("Γ – 5 %") == "Γ – 5 %"
    assert records.plain("a\x1b[2Jb\r\n\x9b\u202e\x00\udcff") == r"a\x1b[2Jb\r\n\x9b\u202e\x00\udcff"


def test_a_name_of_a_file_cant_move_the_cursor(store):
    store.prepare()
    (store.folder / "a\x1b[2J\n.json").write_bytes(b"")
    ((path, reason),) = store.scan()[1].items()
    assert r"a\x1b[2J\n.json is damaged" in records.plain(reason)


def test_files_that_are_no_records_are_named(store):
    written = store.write(record_of(), {"step_loss": np.arange(3.0)})
    others = {"renamed.json": store.path(RUN).read_bytes(), "foreign.json": b'{"a": 1}', "LeNet-0123456789.npz": b""}
    of_others = dict.fromkeys(["notes", "pyproject.toml", "data.npz", "model.safetensors", "LeNet-0123456789.txt"], b"")
    for name, content in (others | of_others).items():
        (store.folder / name).write_bytes(content)
    (store.folder / "folder.json").mkdir()
    (store.folder / ".hidden").touch()
    known, faults = store.scan()
    assert known == {RUN.name: written}
    assert {path.name: reason.removeprefix(str(path)) for path, reason in faults.items()} == {
        "renamed.json": f" holds the run {RUN.name}: it was renamed, or a default has changed; move it away",
        "foreign.json": " is damaged or no record (its checksum does not fit its content): move it away, or run its"
        " row again",
        "folder.json": " can't be read: Is a directory; make it readable, or move it away",
        "LeNet-0123456789.npz": " belongs to no record: move it away",
    }


@pytest.mark.parametrize("suffix, read", [(".npz", Store.arrays), (".safetensors", Store.weights)])
def test_a_file_beside_a_record_that_is_damaged_or_missing_is_named(suffix, read, store):
    written = store.write(record_of(), {"step_loss": np.arange(3.0)}, {"w": np.ones(2)})
    path = store.path(RUN, suffix)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "is damaged: run its row again" in fault(store, path.name)
    with pytest.raises(RecordError, match="is damaged: run its row again"):
        read(store, written)
    path.unlink()
    assert "is missing: run its row again" in fault(store, path.name)
    with pytest.raises(RecordError, match="is missing"):
        read(store, written)
    assert store.read(RUN) == written  # whose own numbers are whole


@pytest.mark.parametrize("suffix, read", [(".npz", Store.arrays), (".safetensors", Store.weights)])
def test_a_file_beside_a_record_that_cant_be_read_is_named(suffix, read, store):
    written = store.write(record_of(), {"step_loss": np.arange(3.0)}, {"w": np.ones(2)})
    path = store.path(RUN, suffix)
    path.unlink()
    path.mkdir()
    assert "can't be read: Is a directory; make it readable, or move it away" in fault(store, path.name)
    with pytest.raises(RecordError, match="can't be read: Is a directory"):
        read(store, written)
    assert store.scan()[0] == {RUN.name: written}


def test_weights_that_are_never_kept_are_not_asked_for_by_running_again(store):
    written = store.write(record_of(), {"step_loss": np.arange(3.0)})
    with pytest.raises(RecordError, match=f"no weights are kept of {RUN.name}: add it to experiments.KEPT, delete"):
        store.weights(written)
    kept = experiments.mnist_sgd  # recorded before its weights were: to run it again is enough
    with pytest.raises(RecordError, match=r"\.safetensors is missing: delete .* and run its row again"):
        store.weights(store.write(record_of(kept)))


class Intruder:
    def __reduce__(self):
        return os.mkdir, (os.environ["INTRUDED"],)


def test_nothing_read_back_runs_code(store, monkeypatch, tmp_path):
    monkeypatch.setenv("INTRUDED", str(tmp_path / "intruded"))
    written = store.write(record_of(), {"objects": np.array([Intruder()], dtype=object)}, {"w": np.ones(2)})
    with pytest.raises(RecordError, match=r"\.npz is refused: Object arrays cannot be loaded"):
        store.arrays(written)
    content = store.path(RUN, ".npz").read_bytes()
    store.path(RUN, ".safetensors").write_bytes(content)
    files = {name: records.store._sha256(content) for name in written.files}
    with pytest.raises(RecordError, match=r"\.safetensors is refused: "):
        store.weights(written.model_copy(update={"files": files}))
    assert not (tmp_path / "intruded").exists()


def test_a_folder_that_is_none_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="file can't be read: Not a directory; choose another with --results"):
        Store(tmp_path / "file").scan()
    with pytest.raises(RecordError, match="can't write .*below: (Not a directory|File exists); .*--results"):
        Store(tmp_path / "file" / "below").prepare()
    assert "does not exist: `python -m helpers run` makes it" in fault(Store(tmp_path / "none"), "")
    if os.path.isdir("/proc"):
        with pytest.raises(RecordError, match="can't write /proc/results: "):
            Store("/proc/results").prepare()


def test_a_folder_in_which_only_the_records_cant_be_written(store, monkeypatch):
    def refuse(dir):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(records.tempfile, "TemporaryFile", refuse)
    with pytest.raises(RecordError, match="results: Permission denied"):
        store.prepare()  # before hours of training, not after them


def test_the_record_of_no_declared_row_is_named(store):
    declared = experiments.replicas(experiments.rows()[0].run, "laptop")[0]
    odd = experiments.replace(RUN, lr=0.12345)
    for run in (declared, odd):
        store.write(record_of(run))
    assert [line.split()[0] for line in records.orphans(store.scan()[0], store)] == [str(store.path(odd))]


# ------------------------------------------------------------------------------------------ budgets


NET = Run(model="MyNet", lr=0.1, epochs=50)
NETS = {"a": NET, "b": experiments.replace(NET, lr=0.2)}


def record_budget(store: Store, budget: str, *labels: str) -> None:
    for label in labels:
        store.write(record_of(experiments.at(NETS[label], budget)))


@pytest.mark.parametrize("budget, missing", [(None, ["b"]), ("paper", ["b"]), ("laptop", []), ("smoke", ["a", "b"])])
def test_one_budget_is_shown_at_a_time(budget, missing, store, monkeypatch):
    monkeypatch.delenv("REPORT_BUDGET", raising=False)
    record_budget(store, "laptop", *"ab")
    record_budget(store, "paper", "a")
    selection = records.select(NETS, store, budget)
    assert (selection.budget, selection.missing, list(selection)) == (budget or "paper", missing, ["a", "b"])
    epochs = {record.run.epochs for found in selection.values() for record in found}
    assert epochs == {None: {50}, "paper": {50}, "laptop": {10}, "smoke": set()}[budget]


def test_the_environment_says_which(store, monkeypatch):
    monkeypatch.setenv("REPORT_BUDGET", "laptop")
    assert records.select(NETS, store).budget == "laptop" and records.select(NETS, store, "paper").budget == "paper"


def test_a_budget_can_be_asked_for(store):
    record_budget(store, "smoke", "a")
    selection = records.select(NETS, store, "smoke")
    assert selection.missing == ["b"] and selection["a"][0].run.images == experiments.SMOKE_IMAGES
    with pytest.raises(experiments.UnknownName, match="budget 'papers' is unknown"):
        records.select(NETS, store, "papers")


def test_a_row_is_complete_with_all_its_seeds(store, monkeypatch):
    monkeypatch.setitem(experiments.SEEDS, "laptop", {NET: 2})
    record_budget(store, "laptop", "a", "b")
    assert records.select(NETS, store, "laptop").missing == ["a"]
    store.write(record_of(experiments.replace(experiments.at(NET, "laptop"), seed=1), accuracy=0.5))
    selection = records.select(NETS, store, "laptop")
    assert selection.missing == [] and records.accuracies(selection["a"]) == [0.75, 0.5]
    assert records.mean([0.75, 0.5, None]) == 0.625 and records.std([0.75, 0.5]) == pytest.approx(0.25 / 2**0.5)
    assert records.mean([]) is None and records.std([0.75]) is None


def test_stale_and_damaged_records_are_not_shown(store, monkeypatch):
    record_budget(store, "laptop", "a", "b")
    store.path(experiments.at(NETS["b"], "laptop")).write_bytes(b"")
    assert records.select(NETS, store, "laptop").missing == ["b"]
    monkeypatch.setattr(records.store, "RECIPE", records.RECIPE + 1)
    assert records.select(NETS, store, "laptop").missing == ["a", "b"]


# ------------------------------------------------------------------------------------------ status


def test_every_state_is_told(store, monkeypatch):
    states = ("done", "pending", "running", "diverged", "stale")
    rows = {state: experiments.replace(RUN, lr=0.1 + place) for place, state in enumerate(states)}
    monkeypatch.setattr(experiments.tables, "SECTIONS", {"1": {"table": rows}})
    store.write(record_of(rows["done"]))
    store.write(record_of(rows["diverged"], accuracy=None))
    store.write(record_of(rows["stale"], recipe=records.RECIPE + 1))
    with store.claim(rows["running"]) as mine, store.claim(rows["running"]) as not_mine:
        assert mine and not not_mine
        entries = records.status(store, ["paper"])
    assert [each["state"] for each in entries] == list(rows)
    assert [each["state"] for each in records.status(store, ["paper"])][2] == "pending"
    assert [each["accuracy"] for each in entries] == [0.75, None, None, None, 0.75]
    assert list(entries[0])[:8] == ["section", "table", "row", "budget", "state", "accuracy", "reported", "record"]


@pytest.mark.parametrize(
    "scores, accuracy, learned", [((0.75, 0.1, None), 0.75, 1), ((0.75, 0.5), 0.625, 2), ((0.1, 0.1), 0.1, 0)]
)
def test_status_says_how_many_seeds_its_accuracy_is_of(scores, accuracy, learned, store, monkeypatch):
    monkeypatch.setattr(experiments.tables, "SECTIONS", {"1": {"table": {"row": RUN}}})
    monkeypatch.setitem(experiments.SEEDS, "paper", {RUN: len(scores)})
    for seed, score in enumerate(scores):
        store.write(record_of(experiments.replace(RUN, seed=seed), accuracy=score))
    (entry,) = records.status(store, ["paper"])
    assert (entry["accuracy"], entry["learned"], entry["n"]) == (accuracy, learned, len(scores))


@pytest.mark.parametrize("accuracy, learned", [(0.2, False), (0.2001, True)])
def test_what_is_no_better_than_twice_guessing_has_learned_nothing(accuracy, learned):
    assert records.learned(record_of(RUN, accuracy)) == learned


def test_one_process_at_a_time_and_half_written_files_swept_away(store):
    with store.claim(RUN) as mine:
        assert mine and store.running(RUN)
        (store.work / f"{RUN.name}.pt.abc.part").touch()
        (store.work / "another.pt.abc.part").touch()  # being written by whoever is at that run
    assert not store.running(RUN)
    with store.claim(RUN):
        assert [path.name for path in store.work.glob("*.part")] == ["another.pt.abc.part"]
    with pytest.raises(ZeroDivisionError), store.claim(RUN):
        1 / 0  # noqa: B018
    assert not store.running(RUN)


def test_damaged_files_set_aside_are_not_lost(store):
    store.prepare()
    aside = []
    for content in (b"first", b"second", b"third"):
        store.path(RUN).write_bytes(content)
        aside.append(store.set_aside(store.path(RUN)))
    assert [path.read_bytes() for path in aside] == [b"first", b"second", b"third"]
    assert [path.name for path in aside] == [f"{RUN.name}.json.damaged{end}" for end in ("", ".2", ".3")]
    assert store.scan() == ({}, {})


@pytest.mark.parametrize("suffix", [".json", ".npz", ".safetensors"])
def test_what_is_damaged_is_set_aside_and_a_damaged_record_with_all_that_is_its_own(suffix, store, monkeypatch):
    store.write(record_of(), {"step_loss": np.arange(3.0)}, {"w": np.ones(2)})
    store.path(RUN, suffix).write_bytes(b"damaged")
    contents = {path.name: path.read_bytes() for path in store.folder.glob(f"{RUN.name}.*")}
    aside, moved = store.set_aside, []
    monkeypatch.setattr(store, "set_aside", lambda path: moved.append(path.suffix) or aside(path))
    kept = store.set_aside_damaged(RUN)
    assert moved == ([".npz", ".safetensors", ".json"] if suffix == ".json" else [suffix])  # the record last
    assert kept[0] == store.work / f"{RUN.name}{suffix}.damaged" and len(kept) == len(moved)
    assert {path.name: path.read_bytes() for path in kept} == {
        f"{RUN.name}{each}.damaged": contents[RUN.name + each] for each in moved
    }
    assert len(list(store.folder.glob(f"{RUN.name}.*"))) == 3 - len(moved)
