"""Runs that are stopped, started twice or start from each other: none is made twice, and what is finished is kept."""

import contextlib
import errno
import multiprocessing
import os
import signal
import time

import pytest
import torch

from helpers import experiments, records, runner, training
from helpers.records import RecordError
from helpers.runner import one
from tests.runner.made import (
    BROKEN,
    DIGITS,
    NET,
    ROWS,
    assert_same,
    child_runs,
    child_works,
    eventually,
    finish,
    lines,
    start,
)

pytestmark = pytest.mark.usefixtures("small_world")


@pytest.mark.parametrize(
    "workers, action", [(1, "Ctrl-C"), (1, "SIGTERM"), (2, "Ctrl-C"), (2, "SIGINT"), (2, "SIGTERM group")]
)
def test_stopped_and_started_again(workers, action, store, undisturbed):
    options = ["--workers", str(workers)]
    assert finish(start(child_runs, store.folder, options, ("step", 8, action))) == 130
    assert sum(line.startswith("helpers: ") for line in lines(store)) == 1
    assert "stopped after" in lines(store)[-1] and "the same command goes on" in lines(store)[-1]
    assert not any("Traceback" in line for line in lines(store))
    saved = [torch.load(path, weights_only=True) for path in store.work.glob("*.pt")]
    # In the middle of an epoch; two workers stop at some step soon after, which may be an epoch's last.
    assert any(state.get("step", 0) % 4 for state in saved) or (workers == 2 and saved)
    assert finish(start(child_runs, store.folder, options)) == 0
    for run in ROWS.values():
        assert_same(run, store, undisturbed)


@pytest.mark.parametrize("parent", [None, multiprocessing.current_process()])
def test_a_second_signal_does_not_wait_but_a_worker_saves_whatever_comes(parent, monkeypatch):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "is_alive", lambda self: True)
    with runner.stop_signal() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        with contextlib.nullcontext() if parent else pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop()


def test_stops_in_time_and_goes_on(store, undisturbed):
    assert finish(start(child_runs, store.folder, ["--minutes", "5", "--workers", "1"], ("step", 8, "late"))) == 0
    assert "the 5 minutes are over" in "\n".join(lines(store))
    assert torch.load(next(store.work.glob("*.pt")), weights_only=True)["step"] == 3
    assert finish(start(child_runs, store.folder, ["--minutes", "5", "--workers", "1"])) == 0
    for run in ROWS.values():
        assert_same(run, store, undisturbed)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_clock_set_forward_stops_nothing(workers, store):
    options = ["--minutes", "5", "--workers", workers]
    assert finish(start(child_runs, store.folder, options, ("step", 8, "clock set"))) == 0
    assert lines(store)[-1] == "3 of 3 runs have their record now"


def test_runs_that_another_process_keeps_are_told_by_the_exit_status(store):
    store.prepare()
    with store.claim(DIGITS):
        assert finish(start(child_runs, store.folder, ["--workers", "1"])) == 1
    assert lines(store)[-1].startswith("2 of 3 runs have their record now; another process is at the others: ")


@pytest.mark.parametrize("action", ["kill parent", "kill group", "kill"])
def test_two_workers_killed(action, store, undisturbed):
    process = start(child_runs, store.folder, ["--workers", "2"], ("step", 8, action))
    assert finish(process) == (1 if action == "kill" else -signal.SIGKILL)
    eventually(lambda: not any(map(store.running, ROWS.values())))  # orphans save and end
    if action == "kill parent":
        steps = [torch.load(path, weights_only=True).get("step", 0) for path in store.work.glob("*.pt")]
        assert any(step % 4 for step in steps) and len(store.scan()[0]) < len(ROWS)
    assert not any("Traceback" in line for line in lines(store))
    assert finish(start(child_runs, store.folder, ["--workers", "2"])) == 0
    for run in ROWS.values():
        assert_same(run, store, undisturbed)


def test_two_runners_never_make_the_same_run(store):
    runs = [experiments.replace(DIGITS, seed=seed) for seed in range(6)]
    arguments = (store.folder, runs, None, runner.Settings())
    assert [finish(process) for process in [start(child_works, *arguments), start(child_works, *arguments)]] == [0, 0]
    with open(f"{store.folder}.made") as file:
        assert sorted(file.read().split()) == sorted(run.name for run in runs)


def test_a_run_that_another_process_is_at_is_left_to_it(store):
    process = start(child_works, store.folder, [DIGITS], ("step", 7, "pause"), runner.Settings())
    eventually(lambda: os.path.exists(f"{store.folder}.moment"))
    assert store.running(DIGITS)
    assert [each["state"] for each in records.status(store, ["laptop"])] == ["running", "pending", "pending"]
    assert [record.run for record in runner.work(list(ROWS.values()), store)] == [ROWS["b"], ROWS["c"]]
    process.kill()
    finish(process)
    assert [record.run for record in runner.work(list(ROWS.values()), store)] == [DIGITS]


def test_a_run_that_another_process_is_at_is_left_to_it_whatever_it_starts_from(chain, store):
    first, second, _ = chain
    runner.work([first], store)
    with store.claim(second):
        started = time.monotonic()
        assert runner.work([second], store, runner.Settings(deadline=started + 20)) == []
        assert time.monotonic() < started + 10


def test_what_a_run_starts_from_is_made_first(chain, store):
    first, second, third = chain
    rows = [experiments.Row("1", "small", "third", third), experiments.Row("1", "small", "short", BROKEN)]
    pending = runner.pending(rows, ["laptop"], store)
    assert set(pending[:2]) == {first, second} and len(pending) == 4
    made = [record.run for record in runner.work([third, second, first], store)]  # in whatever order they come
    assert made == [first, second, third]
    assert store.read(second).fingerprint != store.read(first).fingerprint


def test_waits_for_a_start_that_is_being_made_elsewhere(chain, store):
    first, second, _ = chain
    process = start(child_works, store.folder, [first], ("step", 7, "kill"), runner.Settings())
    finish(process)
    with store.claim(first):
        waiting = start(child_works, store.folder, [second], None, runner.Settings())
        eventually(lambda: (store.work / f"{second.name}.lock").exists())
        one.make(first, store)
    assert finish(waiting) == 0
    assert store.read(second).state == "done"


def test_a_start_that_is_missing_holds_up_nothing_else(chain, store):
    first, second, _ = chain
    with pytest.raises(RecordError, match=f"{second.name} starts from {first.name}, which has no record: run that"):
        runner.work([second, ROWS["b"]], store)
    assert store.read(ROWS["b"])


def test_a_start_that_diverged_is_told(monkeypatch, store):
    monkeypatch.setattr(experiments, "keeps_weights", lambda run: True)
    after = experiments.replace(DIGITS, start=BROKEN)
    with pytest.raises(RecordError, match="which diverged: it can't be made"):
        runner.work([after, BROKEN], store)
    record = store.read(BROKEN)
    assert record.state == "diverged" and record.test is None and record.diverged_at < 12
    assert None in record.history["train_loss"] or record.history["train_loss"] == []
    assert b"NaN" not in store.path(BROKEN).read_bytes() and b"Infinity" not in store.path(BROKEN).read_bytes()


def test_a_damaged_record_is_set_aside_and_made_again(store, undisturbed, capsys):
    runner.work([DIGITS], store)
    path = store.path(DIGITS)
    path.write_bytes(path.read_bytes().replace(b'"epochs": 3', b'"epochs": 4'))
    series = store.path(DIGITS, ".npz").read_bytes()
    assert runner.pending(experiments.rows(row="a"), ["laptop"], store) == [DIGITS]
    capsys.readouterr()
    runner.work([DIGITS], store)
    told, _ = capsys.readouterr().err.splitlines()
    assert told.startswith(
        f"{path} is damaged or no record (its checksum does not fit its content): kept as {store.work}"
    )
    assert (store.work / f"{path.name}.damaged").exists()
    assert (store.work / f"{DIGITS.name}.npz.damaged").read_bytes() == series
    assert_same(DIGITS, store, undisturbed)


@pytest.mark.parametrize("reason", ["Permission denied", "update the code"])
def test_a_record_that_cant_be_read_but_may_be_whole_is_left_alone(reason, store, monkeypatch):
    runner.work([DIGITS], store)
    before = {path.name: path.read_bytes() for path in store.folder.glob(f"{DIGITS.name}.*")}
    original = records.store.read

    def read(path):
        if path == str(store.path(DIGITS)):
            raise RecordError(f"{path} can't be read: {reason}")
        return original(path)

    if reason == "Permission denied":
        monkeypatch.setattr(records.store, "read", read)
    else:  # written by newer code
        body = store.path(DIGITS).read_bytes().rpartition(records.MARK)[0] + b'\n "shine": 1,'
        before[f"{DIGITS.name}.json"] = body + records.MARK + records.store._ending(body)
        store.path(DIGITS).write_bytes(before[f"{DIGITS.name}.json"])
    with pytest.raises(RecordError, match=f"{DIGITS.name}.json .*{reason}"):
        runner.work([DIGITS, ROWS["b"]], store)
    assert one.is_good(store.read(ROWS["b"]))  # the others are made all the same
    assert {path.name: path.read_bytes() for path in store.folder.glob(f"{DIGITS.name}.*")} == before
    assert not list(store.work.glob("*.damaged"))


def test_a_stale_record_is_made_again(monkeypatch, store):
    runner.work([DIGITS], store)
    monkeypatch.setattr(records.store, "RECIPE", 2)
    assert runner.pending(experiments.rows(row="a"), ["laptop"], store) == [DIGITS]
    assert [record.recipe for record in runner.work([DIGITS], store)] == [2]


def test_a_full_disk_loses_nothing(store, undisturbed, monkeypatch):
    real = os.fsync

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for room in (0, 1, 1, 1, 1, 1):  # files: the first checkpoint, one each epoch, the series but not the record
        writers = iter([real] * room)
        monkeypatch.setattr(os, "fsync", lambda handle, writers=writers: next(writers, full)(handle))
        with pytest.raises(RecordError, match="No space left on device; nothing already there is changed. Free room"):
            runner.work([NET], store)
        assert next(writers, None) is None  # the room was used
        assert store.read(NET) is None and not list(store.folder.rglob("*.part"))
    monkeypatch.setattr(os, "fsync", real)
    runner.work([NET], store)
    assert_same(NET, store, undisturbed)


@pytest.mark.parametrize("workers", ["2"])
def test_a_file_that_can_grow_no_more_is_told_in_one_line(workers, store, undisturbed):
    assert finish(start(child_runs, store.folder, ["--workers", workers], None, 20_000)) == 1
    errors = [line for line in lines(store) if "can't write" in line]
    assert errors and errors == lines(store)[-1:] and "File too large" in errors[0]
    assert store.scan() == ({}, {}) and not list(store.folder.rglob("*.part"))
    assert finish(start(child_runs, store.folder, ["--workers", workers])) == 0
    assert_same(DIGITS, store, undisturbed)


@pytest.mark.parametrize("free, workers", [(40, 8), (7, 2), (1, 1)])
def test_a_gpu_is_shared_by_as_many_runs_as_have_cores_and_memory(free, workers, monkeypatch):
    monkeypatch.setattr(runner.queue, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 80 * 2**30))
    assert runner.share(20, "cuda") == (workers, 1) == runner.share(20, "cuda:1")
    assert runner.share(20, "cuda", workers=5) == (5, 1) and runner.share(1, "cuda") == (1, 1)


def obtain(rows, *options, **named):
    return runner.obtain_tables({"": rows}, *options, **named)[""]


def test_obtain_trains_what_is_missing(store, capsys):
    runner.work([ROWS["b"]], store)
    threads = torch.get_num_threads()
    selection = obtain(ROWS, "laptop", store)
    assert selection.missing == [] and list(selection) == ["a", "b", "c"]
    assert [found[0].run for found in selection.values()] == list(ROWS.values())
    assert torch.get_num_threads() == threads
    assert ROWS["b"].name not in capsys.readouterr().err.split("test accuracy", 1)[1]  # which was there already


@pytest.fixture
def interrupt_at(monkeypatch):
    """A function after whose call Ctrl-C is pressed at step `count`, counted over all runs."""

    def prepare(count):
        original, calls = training.Trainer.step_on, []

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) == count:
                os.kill(os.getpid(), signal.SIGINT)
            return original(*arguments)

        monkeypatch.setattr(training.Trainer, "step_on", interrupted)

    return prepare


@pytest.mark.parametrize("count", [25, 19])  # in the training, or in the fingerprint, of the second run
def test_an_interrupted_obtain_keeps_what_is_finished(count, store, interrupt_at, capsys):
    interrupt_at(count)
    selection = obtain(ROWS, "laptop", store)
    assert len(selection.missing) == 2 and len(store.scan()[0]) == 1
    assert "what is finished is kept; run the cell again to go on" in capsys.readouterr().err
    assert obtain(ROWS, "laptop", store).missing == []


def test_one_interrupt_stops_all_tables(store, interrupt_at, capsys):
    interrupt_at(3)
    tables = {"one": {"a": ROWS["a"]}, "two": {label: ROWS[label] for label in "ab"}, "three": {"c": ROWS["c"]}}
    found = runner.obtain_tables(tables, "laptop", store)
    assert [each.missing for each in found.values()] == [["a"], ["a", "b"], ["c"]] and not store.scan()[0]
    assert capsys.readouterr().err.count("run the cell again to go on") == 1
    found = runner.obtain_tables(tables, "laptop", store)
    assert list(found) == list(tables) and not any(each.missing for each in found.values())
    assert capsys.readouterr().err.count("test accuracy") == 3  # a run of two tables is made once


def test_obtain_interrupted_while_it_reads_shows_what_there_is(store, monkeypatch, capsys):
    obtain({"a": DIGITS}, "laptop", store)
    original, calls = records.select, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(records, "select", interrupted)
    assert len(obtain({"a": DIGITS}, store=store)["a"]) == 1
    assert capsys.readouterr().err.endswith("\ninterrupted: what is finished is kept; run the cell again to go on\n")


def test_obtain_can_be_told_to_train_nothing(store, monkeypatch):
    monkeypatch.setenv("RECORDS_ONLY", "1")
    assert obtain(ROWS, store=store).missing == ["a", "b", "c"]
    assert not store.folder.exists()


def test_obtain_takes_its_budget_from_the_environment(store, monkeypatch):
    monkeypatch.setenv("REPORT_BUDGET", "smoke")
    selection = obtain({"a": DIGITS}, store=store)
    assert selection.budget == "smoke" and selection["a"][0].run.epochs == experiments.SMOKE_EPOCHS
    monkeypatch.setenv("REPORT_BUDGET", "smoek")
    with pytest.raises(experiments.UnknownName, match="budget 'smoek' is unknown: did you mean 'smoke'") as caught:
        obtain({"a": DIGITS}, store=store)
    assert caught.value._render_traceback_() == [f"UnknownName: {caught.value}"]  # what Jupyter shows


@pytest.mark.parametrize(
    "name, value, steps", [("RECORDS_ONLY", "0", 12), ("RECORDS_ONLY", "1", 1), ("REPORT_BUDGET", "smoke", 1)]
)
def test_a_live_cell_trains_a_twentieth_where_nobody_watches(name, value, steps, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="starts from another run"):
        runner.rehearse(experiments.replace(DIGITS, start=DIGITS), steps=12)
    live = runner.rehearse(DIGITS, steps=12)
    assert live.step == steps and live.losses[:steps].isfinite().all()
