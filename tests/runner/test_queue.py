"""Runs that are killed, stopped, started twice or handed rubbish: each has to end at the weights of a run left alone.
What happens to a process happens to a real one, forked from a server that has torch in memory, on data made here."""

import contextlib
import errno
import functools
import itertools
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import torch

from helpers import __main__, data, experiments, fast, records, runner, training
from helpers.experiments import Run
from helpers.fast import build, fused, winograd
from helpers.records import RecordError, Store
from helpers.runner import engines, one, progress, provenance

# Dropout and augmentation, so that every random state matters.
NET = Run(model="MyNet", options={"hidden": 16, "dropout": 0.3}, loss="nll", lr=0.05, momentum=0.5,
          augment=("crop", "flip"), epochs=3, batch_size=8, images=24)  # fmt: skip
DIGITS = Run(data="mnist", model="LeNet", lr=0.05, momentum=0.5, epochs=3, batch_size=16, images=64)
ROWS = {"a": DIGITS, "b": experiments.replace(DIGITS, lr=0.02), "c": experiments.replace(DIGITS, momentum=0.9)}
BROKEN = experiments.replace(DIGITS, lr=1e30)
REVISION = provenance.revision  # which all other tests replace

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["helpers.__main__", "helpers.runner", "pytest"])


def tiny(name: str, root=None, validation="held_out") -> data.Dataset:
    """64 images a split in the shape of data set `name`."""
    generator = torch.Generator().manual_seed(0)
    shape = (64, 1, 28, 28) if name == "mnist" else (64, 3, 32, 32)
    labels = torch.arange(64) % 10
    splits = [data.Split(torch.randint(256, shape, generator=generator).byte(), labels) for _ in range(3)]
    return data.Dataset(*splits, *data.statistics(splits[0].images), data.CLASSES[name])


def declare(patch) -> None:
    patch(data, "load", tiny)
    patch(data, "fetch", lambda name, root=None: None)
    patch(provenance, "revision", lambda: "revision")  # two processes a record
    patch(experiments.tables, "SECTIONS", {"1": {"small": ROWS}})


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    declare(monkeypatch.setattr)
    for name in ("RESULTS_DIR", "REPORT_BUDGET", "RECORDS_ONLY"):
        monkeypatch.delenv(name, raising=False)


# ------------------------------------------------------------------------------------------ processes


def arrange(moment: tuple[str, int, str] | None, folder: str) -> None:
    """At the `count`-th "step" taken, file "written" (not yet renamed) or "renamed", once for all workers: `action`."""
    place, count, action = moment
    owner, name = {"step": (training.Trainer, "step_on"), "written": (os, "fsync"), "renamed": (os, "replace")}[place]
    original, calls, main = getattr(owner, name), [], os.getpid()
    actions = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "kill group": lambda: os.killpg(0, signal.SIGKILL),
        "kill parent": lambda: os.kill(main, signal.SIGKILL),
        "Ctrl-C": lambda: os.killpg(0, signal.SIGINT),
        "SIGINT": lambda: os.kill(main, signal.SIGINT),
        "SIGTERM": lambda: os.kill(main, signal.SIGTERM),
        "SIGTERM group": lambda: os.killpg(0, signal.SIGTERM),
        "late": lambda: setattr(time, "monotonic", lambda: 1e12),
        "clock set": lambda: setattr(time, "time", lambda: 1e12),
        "pause": lambda: time.sleep(100),
    }

    def wrapped(*arguments, **options):
        result = original(*arguments, **options)
        calls.append(1)
        if len(calls) == count:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(folder + ".moment", os.O_CREAT | os.O_EXCL))
                actions[action]()
        if os.getpid() != main:
            time.sleep(0.01)  # so that no worker is through before the other has begun
        return result

    setattr(owner, name, wrapped)


def begin(folder, moment) -> None:
    """Makes a process of this one's kind: its own group, one thread, its stderr in a file."""
    os.setsid()
    os.dup2(os.open(f"{folder}.err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), 2)
    torch.set_num_threads(1)
    declare(setattr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    forked = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda kind: forked  # what is patched here holds in the workers as well
    if moment:
        arrange(moment, str(folder))


def child_works(folder, runs, moment, settings) -> None:
    begin(folder, moment)
    made = runner.work(runs, Store(folder), settings)
    with open(f"{folder}.made", "a") as file:
        file.writelines(record.run.name + "\n" for record in made)


def child_runs(folder, arguments, moment=None, largest_file=None) -> None:
    begin(folder, moment)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    # One thread, as undisturbed: with more, sums are added up in another order.
    sys.argv = ["helpers", "run", "--budget", "laptop", "--threads", "1", "--results", str(folder), *arguments]
    sys.exit(__main__.main())


def pruned(*arguments) -> dict[str, np.ndarray]:
    """In place of what takes seconds."""
    return {"pruned_elimination_conv3_test": np.ones(20, np.float32)}


def child_completes(folder, moment) -> None:
    begin(folder, moment)
    one._pruned = pruned
    store = Store(folder)
    one.complete(store.read(PATH), store)


def start(target, *arguments):
    process = server.Process(target=target, args=arguments)
    process.start()
    return process


def finish(process) -> int:
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def lines(store: Store) -> list[str]:
    with open(f"{store.folder}.err") as file:
        return file.read().splitlines()


def eventually(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------ equality


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """run, precision → the store and the record of a run that nothing happened to."""
    made = {}

    def get(run: Run, precision="float32"):
        if (run, precision) not in made:
            store = Store(tmp_path_factory.mktemp("undisturbed") / "results")
            made[run, precision] = (store, runner.work([run], store, runner.Settings(precision=precision))[0])
        return made[run, precision]

    return get


def assert_same(run: Run, store: Store, undisturbed, precision="float32") -> None:
    """The record of `run` in `store` is what it would have been had nothing happened, and nothing is left over."""
    original_store, original = undisturbed(run, precision)
    record = store.read(run)
    assert record.weights == original.weights
    assert record.fingerprint == original.fingerprint and record.test == original.test
    same = [name for name in training.HISTORY if name != "seconds"]
    assert [record.history[name] for name in same] == [original.history[name] for name in same]
    assert len(record.history["seconds"]) == run.epochs
    for name, array in original_store.arrays(original).items():
        np.testing.assert_array_equal(store.arrays(record)[name], array)
    assert not store.checkpoint(run).exists()
    assert not list(store.folder.rglob("*.part"))
    assert store.scan()[1] == {}


# 5 steps for the fingerprint, then 3 epochs of 3; files written: the first checkpoint, one each epoch, series, record.
MOMENTS = [("step", 3), ("written", 1), ("step", 6), ("step", 10), ("written", 3), ("renamed", 4), ("written", 5),
           ("renamed", 5), ("written", 6), ("renamed", 6)]  # fmt: skip


@pytest.mark.parametrize("place, count", MOMENTS)
def test_killed_anywhere_ends_at_the_same_weights(place, count, store, undisturbed):
    settings = runner.Settings()
    assert finish(start(child_works, store.folder, [NET], (place, count, "kill"), settings)) == -signal.SIGKILL
    assert not store.running(NET)  # the lock that was left behind holds nobody up
    assert store.scan()[1].keys() <= {store.path(NET, ".npz")}  # nothing half written
    runner.work([NET], store, settings)
    assert_same(NET, store, undisturbed)


def test_killed_in_bfloat16_ends_at_the_same_weights(store, undisturbed):
    settings = runner.Settings(precision="bfloat16")
    for moment in (("step", 9, "kill"), ("step", 1, "kill")):
        assert finish(start(child_works, store.folder, [NET], moment, settings)) == -signal.SIGKILL
        os.remove(f"{store.folder}.moment")
    runner.work([NET], store, settings)
    assert_same(NET, store, undisturbed, "bfloat16")
    assert store.read(NET).weights != undisturbed(NET)[1].weights


# With all that measures along the way: a series has to go on where it was, the last gradient with it.
PATH = experiments.replace(DIGITS, optimizer="dessilbi", lr=0.17, kappa=0.3, mu=0.58, epochs=4, probes=("path",))
PROBED = experiments.replace(
    DIGITS, probes=("gradient_change", "smoothness", "along_gradient", "surface"), precision="float32"
)


@pytest.mark.parametrize("count", [7, 10, 14])
@pytest.mark.parametrize("run", [PATH, PROBED], ids=["path", "probed"])
def test_what_is_measured_goes_on_after_a_kill(run, count, store, undisturbed):
    assert (
        finish(start(child_works, store.folder, [run], ("step", count, "kill"), runner.Settings())) == -signal.SIGKILL
    )
    runner.work([run], store)
    assert_same(run, store, undisturbed)
    arrays = store.arrays(store.read(run))
    steps = 4 * run.epochs
    if run is PATH:
        entry, path = arrays["entry_features.conv3.weight"], arrays["path_features.conv3.weight"]
        assert path.shape == (steps + 1, 120) and path[0].max() == 0 < path[-1].max()
        assert entry.min() < run.epochs and len(set(entry)) > 1
    else:
        assert np.isnan(arrays["gradient_change"][0]) and (arrays["gradient_change"][1:] > 0).all()
        assert (arrays["smoothness"][::10] > 0).all() and arrays["surface_loss"].shape == (5, 5)


def test_measuring_changes_nothing_of_a_run(store):
    bare = experiments.replace(PROBED, probes=())
    assert len({record.weights for record in runner.work([bare, PROBED], store)}) == 1


def test_a_run_in_float32_is_in_float32_whatever_is_asked_for(store):
    (record,) = runner.work([experiments.replace(PROBED, images=None)], store, runner.Settings(precision="bfloat16"))
    assert record.engine["precision"] == "float32"


def test_pruned_accuracies_are_recorded(store):
    (record,) = runner.work([PATH], store)
    arrays = store.arrays(record)
    names = {f"pruned_{order}_{layers}_{split}" for order in ("support", "magnitude")
             for layers in ("conv3", "conv3_fc1") for split in ("validation", "test")}  # fmt: skip
    names |= {"pruned_elimination_conv3_validation", "pruned_elimination_conv3_test"}
    assert {name for name in arrays if name.startswith("pruned")} == names
    assert all(arrays[name].shape == (20,) for name in names)
    assert arrays["pruned_support_conv3_test"][0] == pytest.approx(record.test.accuracy)
    assert arrays["pruned_support_conv3_validation"][0] == pytest.approx(record.history["validation_accuracy"][-1])


def test_a_record_that_keeps_its_weights_is_completed(store, monkeypatch):
    new = ("pruned_elimination_conv3_validation", "pruned_elimination_conv3_test")
    monkeypatch.setattr(experiments.plan, "KEPT", {PATH})
    made = [runner.work([run], store)[0] for run in (PATH, DIGITS)]
    before = [store.arrays(record) for record in made]
    older = [
        store.write(
            record.model_copy(update={"revision": "0123456789ab"}),
            {name: values for name, values in arrays.items() if name not in new} | {"silent": np.zeros(1)},
            store.weights(record) if record.run == PATH else {},
        )
        for record, arrays in zip(made, before)
    ]
    completed = one.complete(older[0], store)
    assert completed == store.read(PATH) and completed.revision == f"0123456789ab, {provenance.revision()}"
    assert completed.weights == made[0].weights and one.verify(completed, store) is None
    arrays = store.arrays(completed)
    assert arrays.keys() == before[0].keys() and arrays["silent"].tolist() == [0]  # nothing is measured again
    assert all(np.array_equal(arrays[name], before[0][name]) for name in new)
    assert one.complete(completed, store) is None  # it lacks nothing any more
    assert one.complete(older[1], store) is None and store.read(DIGITS) == older[1]  # no weights, nothing to measure


@pytest.fixture(scope="module")
def incomplete(tmp_path_factory):
    """A folder with the record of PATH and its weights, as it was before it was measured what each filter is worth."""
    store = Store(tmp_path_factory.mktemp("incomplete") / "results")
    with pytest.MonkeyPatch.context() as patch:
        declare(patch.setattr)
        patch.setattr(experiments.plan, "KEPT", {PATH})
        (record,) = runner.work([PATH], store)
    arrays = {name: values for name, values in store.arrays(record).items() if "elimination" not in name}
    store.write(record.model_copy(update={"revision": "0123456789ab"}), arrays, store.weights(record))
    return store.folder


def contents(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.glob("LeNet*")}


@pytest.mark.parametrize("place, least", [("written", 8), ("renamed", 5)])
def test_a_completion_killed_at_any_moment_leaves_all_of_the_old_or_all_of_the_new(
    place, least, incomplete, store, monkeypatch
):
    monkeypatch.setattr(one, "_pruned", pruned)
    shutil.copytree(incomplete, store.folder)
    old, before = store.whole(PATH), contents(store)
    new = one.complete(old, store)
    after = contents(store)
    for count in itertools.count(1):
        shutil.rmtree(store.folder)
        shutil.copytree(incomplete, store.folder)
        code = finish(start(child_completes, store.folder, (place, count, "kill")))
        if code == 0:  # there is no such operation any more
            break
        os.remove(f"{store.folder}.moment")
        found = store.whole(PATH)
        assert found in (old, new) and store.scan() == ({PATH.name: found}, {})
        assert ("pruned_elimination_conv3_test" in store.arrays(found)) == (found == new)
        assert [each["state"] for each in records.status(store, ["paper"], [experiments.Row("1", "", "", PATH)])] == [
            "done"
        ]
        store.prepare()
        assert contents(store) == (after if found == new else before) and not list(store.work.glob("LeNet*.new*"))
        one.complete(found, store)
        assert contents(store) == after and not list(store.folder.rglob("*.part"))
    assert count > least


def test_a_record_that_another_process_is_at_is_not_completed(incomplete, store):
    shutil.copytree(incomplete, store.folder)
    record, before = store.read(PATH), contents(store)
    with store.claim(PATH), pytest.raises(RecordError, match=f"{PATH.name}.json is being made by another process"):
        one.complete(record, store)
    assert contents(store) == before


@pytest.mark.parametrize("damage", ["damaged", "missing"])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_record_with_a_file_beside_it_at_fault_is_stale_and_made_again(
    suffix, damage, incomplete, store, monkeypatch, capsys
):
    monkeypatch.setattr(experiments.plan, "KEPT", {PATH})
    shutil.copytree(incomplete, store.folder)
    path, row = store.path(PATH, suffix), experiments.Row("1", "small", "path", PATH)
    path.unlink() if damage == "missing" else path.write_bytes(b"damaged")
    assert [each["state"] for each in records.status(store, ["paper"], [row])] == ["stale"]
    assert runner.pending([row], ["paper"], store) == [PATH] and not runner.is_made(PATH, store)
    with pytest.raises(RecordError, match=f"{suffix} is {damage}: run its row again"):
        one.complete(store.read(PATH), store)
    runner.work([PATH], store)
    told = f"{path} is {damage}: {f'kept as {store.work / path.name}.damaged, ' * (damage == 'damaged')}the run is made"
    assert capsys.readouterr().err.startswith(told)
    assert store.scan()[1] == {} and runner.pending([row], ["paper"], store) == []
    assert "pruned_elimination_conv3_test" in store.arrays(store.read(PATH))


def test_silent_units_are_looked_for_on_validation_images(store, monkeypatch):
    seen = []
    monkeypatch.setattr(one.probes, "silent", lambda model, images: seen.append(images) or {"relu": 0.25})
    (record,) = runner.work([DIGITS], store)
    dataset = data.load("mnist")
    assert torch.equal(seen[0].cpu(), dataset.prepare(dataset.validation.images[: DIGITS.images], DIGITS.normalize))
    assert store.arrays(record)["silent"].tolist() == [0.25]


@pytest.mark.parametrize("random", [False, True])
def test_a_mask_is_the_support_of_another_run(random, store):
    mask = experiments.Mask(of=PATH, epoch=2, random=random)
    ticket = experiments.replace(DIGITS, mask=mask)
    experiments.KEPT.add(ticket)
    try:
        rows = [experiments.Row("1", "small", "ticket", ticket)]
        assert runner.pending(rows, ["laptop"], store) == [PATH, ticket]
        _, record = runner.work([ticket, PATH], store)  # in whatever order they come
    finally:
        experiments.KEPT.discard(ticket)
    entries, weights = store.arrays(store.read(PATH)), store.weights(record)
    for name in ("features.conv3.weight", "classifier.fc1.weight"):
        kept = entries[f"entry_{name}"] <= 2
        found = np.abs(weights[name].reshape(120, -1)).max(1) > 0 if "conv3" in name else weights[name] != 0
        assert found.sum() == kept.sum() and ((found == kept).all() != random or not kept.any())
    assert 0 < (entries["entry_features.conv3.weight"] <= 2).sum() < 120
    zero = np.abs(weights["features.conv3.weight"].reshape(120, -1)).max(1) == 0
    assert (weights["features.conv3.bias"][zero] == 0).all()
    assert one.verify(record, store) is None


# ------------------------------------------------------------------------------------------ stopped


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


# ------------------------------------------------------------------------------------------ several runners


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


# ------------------------------------------------------------------------------------------ starting from others


@pytest.fixture
def chain(monkeypatch):
    """Three runs, each starting from the one before."""
    first = DIGITS
    second = experiments.replace(DIGITS, lr=0.01, start=first)
    third = experiments.replace(DIGITS, lr=0.005, start=second)
    monkeypatch.setattr(experiments, "keeps_weights", lambda run: run in (first, second))
    return first, second, third


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


# ------------------------------------------------------------------------------------------ damage


class Intruder:
    def __reduce__(self):
        return os.mkdir, (os.environ["INTRUDED"],)


def half_done(store: Store, run: Run = NET) -> dict:
    """Leaves a checkpoint of `run` after 4 steps."""
    steps = []
    with store.claim(run), pytest.raises(runner.Interrupted, match="stopped after 4 of 9 steps"):
        one.make(run, store, stop=lambda: steps.append(1) or len(steps) == 4)
    return torch.load(store.checkpoint(run), weights_only=True)


def changed(*place: str, to):
    """A change of a checkpoint: what stands at `place` becomes `to`."""

    def change(state: dict) -> None:
        for name in place[:-1]:
            state = state[name]
        state[place[-1]] = to

    return change


HOSTILE = {
    "a million threads": changed("engine", "threads", to=10**6),
    "threads of another type": changed("engine", "threads", to="2"),
    "another device": changed("engine", "device", to="meta"),
    "a device of another type": changed("engine", "device", to=[1]),
    "another precision": changed("engine", "precision", to="float16"),
    "no engine": changed("engine", to=None),
    "history of another type": changed("history", to=5),
    "history without a series": changed("history", to={}),
    "history too long": changed("history", "seconds", to=[1.0] * 9),
    "history of words": changed("history", "train_loss", to=["low"]),
    "a step of another type": changed("step", to="4"),
    "a step too far": changed("step", to=10**9),
    "a step before the first": changed("step", to=-1),
    "seconds of another type": changed("seconds", to="1"),
    "endless seconds": changed("seconds", to=float("inf")),
    "fewer losses": changed("losses", to=torch.zeros(1)),
    "a fingerprint of another type": changed("fingerprint", to="2.3"),
    "revisions of another type": changed("revisions", to=[1]),
    "another momentum": lambda state: state["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(7)),
}


def spoilt(kind: str, path, state: dict) -> None:
    content = bytearray(path.read_bytes())
    if kind == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickled object":
        torch.save(Intruder(), path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(Intruder()))
    elif kind == "no checkpoint":
        torch.save([1, 2], path)
    elif kind == "wrong shapes":
        state["model"] = {name: tensor[:1] for name, tensor in state["model"].items() if tensor.ndim}
        torch.save(state, path)
    elif kind in HOSTILE:
        HOSTILE[kind](state)
        torch.save(state, path)
    elif kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        torch.save({**state, "origin": {**state["origin"], kind: "another"}}, path)


KINDS = ["cut short", "one bit", "empty", "pickled object", "plain pickle", "no checkpoint", "wrong shapes", "run",
         "torch", "recipe", "pipe", *HOSTILE]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_cant_be_used_is_named_and_set_aside(kind, store, undisturbed, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("INTRUDED", str(tmp_path / "intruded"))
    spoilt(kind, store.checkpoint(NET), half_done(store))
    runner.work([NET], store)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("checkpoint ")]
    assert len(told) == 1 and str(store.checkpoint(NET)) in told[0] and "the run starts again" in told[0]
    assert (store.work / f"{NET.name}.pt.damaged").exists() and not (tmp_path / "intruded").exists()
    assert_same(NET, store, undisturbed)


def test_a_checkpoint_from_a_device_that_is_not_here_is_kept_and_told(store):
    state = half_done(store)
    for device in ("cuda", "cuda:7"):
        changed("engine", "device", to=device)(state)
        torch.save(state, store.checkpoint(NET))
        with pytest.raises(RecordError, match=f"{NET.name} was begun on {device}, which is not here: go on there, or"):
            runner.work([NET], store)
        assert store.checkpoint(NET).exists()


@pytest.mark.parametrize("name, value", [("fused", True), ("convolutions", "winograd")])
def test_a_checkpoint_whose_compiler_has_vanished_is_kept_and_told(name, value, store, monkeypatch):
    for passes in (fused, winograd):
        monkeypatch.setattr(passes, "kernel", vanished)
    state = half_done(store)
    changed("engine", name, to=value)(state)
    torch.save(state, store.checkpoint(NET))
    with pytest.raises(RecordError, match=f"^{NET.name} was begun with compiled operators, and now needs a C.. compi"):
        runner.work([NET], store)
    assert store.checkpoint(NET).exists() and not list(store.work.glob("*.damaged"))


def vanished(*_):
    raise build.CompilerError("needs a C++ compiler: c++ is not found")


@pytest.mark.parametrize("name, value", [("previous", [torch.zeros(3)]), ("previous", 5), ("kept", [[1, 2]])])
def test_what_probes_keep_is_looked_at_before_it_is_used(name, value, store, undisturbed, capsys):
    steps = []
    with store.claim(PROBED), pytest.raises(runner.Interrupted):
        one.make(PROBED, store, stop=lambda: steps.append(1) or len(steps) == 4)
    state = torch.load(store.checkpoint(PROBED), weights_only=True)
    state["probes"]["surface" if name == "kept" else "gradient_change"][name] = value
    torch.save(state, store.checkpoint(PROBED))
    runner.work([PROBED], store)
    assert "the run starts again" in capsys.readouterr().err
    assert_same(PROBED, store, undisturbed)


def test_a_checkpoint_that_its_finished_run_left_is_swept(store, undisturbed):
    half_done(store)
    checkpoint = store.checkpoint(NET).read_bytes()
    runner.work([NET], store)
    for sweep in (store.prepare, lambda: runner.work([NET], store)):
        store.checkpoint(NET).write_bytes(checkpoint)  # killed after the record was written, before this was removed
        sweep()
        assert_same(NET, store, undisturbed)
    store.checkpoint(NET).write_bytes(checkpoint)
    store.path(NET, ".npz").write_bytes(b"damaged")
    store.prepare()
    assert store.checkpoint(NET).exists()  # the run has to be made again, and need not from its start


@pytest.mark.parametrize("precision, told", [("auto", 0), ("float32", 0), ("bfloat16", 1)])
def test_settings_that_a_run_begun_does_not_take_are_told(precision, told, store, undisturbed, capsys):
    half_done(store)
    runner.work([NET], store, runner.Settings(precision=precision))
    assert capsys.readouterr().err.count(f"{NET.name} goes on as it was begun, on cpu in float32") == told
    assert_same(NET, store, undisturbed)


def test_a_run_that_is_declared_in_float32_is_not_told_to_differ(store, capsys):
    run = experiments.replace(NET, precision="float32")
    half_done(store, run)
    runner.work([run], store, runner.Settings(precision="bfloat16"))
    assert "goes on as it was begun" not in capsys.readouterr().err


@pytest.mark.parametrize("then, named", [("b", "a, b"), ("a", "a")])
def test_a_run_that_goes_on_under_another_revision_names_both(then, named, store, undisturbed, monkeypatch, capsys):
    monkeypatch.setattr(provenance, "revision", lambda: "a")
    half_done(store)
    monkeypatch.setattr(provenance, "revision", lambda: then)
    (record,) = runner.work([NET], store)
    assert record.revision == named and "starts again" not in capsys.readouterr().err
    assert_same(NET, store, undisturbed)


def test_the_revision_is_that_of_the_code_that_was_imported(store, monkeypatch):
    monkeypatch.setattr(provenance, "revision", functools.cache(REVISION.__wrapped__))
    head = ["a"]
    said = {"rev-parse": str(provenance.CODE).encode(), "ls-files": b"helpers/__init__.py", "status": b""}
    monkeypatch.setattr(
        provenance, "_git", lambda what, *more: head[0].encode() if "HEAD" in more else said[what]
    )  # fmt: skip
    original = training.Trainer.step_on

    def step_on(*arguments, **options):
        head[0] = "b"  # a commit while it trains
        return original(*arguments, **options)

    monkeypatch.setattr(training.Trainer, "step_on", step_on)
    assert [record.revision for record in runner.work([DIGITS, ROWS["b"]], store)] == ["a", "a"]


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


# ------------------------------------------------------------------------------------------ engine, bar, verify


@pytest.mark.parametrize("free, workers", [(40, 8), (7, 2), (1, 1)])
def test_a_gpu_is_shared_by_as_many_runs_as_have_cores_and_memory(free, workers, monkeypatch):
    monkeypatch.setattr(runner.queue, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 2**30, 80 * 2**30))
    assert runner.share(20, "cuda") == (workers, 1) == runner.share(20, "cuda:1")
    assert runner.share(20, "cuda", workers=5) == (5, 1) and runner.share(1, "cuda") == (1, 1)


def test_the_engine_is_timed_once_for_all_workers_and_calls(store, monkeypatch):
    timed = []
    monkeypatch.setattr(fast, "choose_engine", lambda *options: timed.append(options) or fast.Engine())
    run = experiments.replace(DIGITS, images=None)
    for bar, deadline in ((None, None), (0, 1e12), (1, 2e12)):
        engines.choose(run, store, runner.Settings(bar=bar, deadline=deadline))
    assert len(timed) == 1
    ((key, engine),) = json.loads((store.work / "engines.json").read_text()).items()
    hostile = (
        [{**engine, "threads": threads} for threads in (10**6, 0, "2", True, None)]
        + [{**engine, "device": "meta"}, {**engine, "fused": 1}, {**engine, "precision": []}, 5, [engine]]
    )  # fmt: skip
    contents = ["[1]", "5", "", "[" * 10**6, *(json.dumps({key: each}) for each in hostile)]
    for count, content in enumerate(contents, 2):
        (store.work / "engines.json").write_text(content)
        engines.choose(run, store, runner.Settings())
        assert len(timed) == count, content[:80]


@pytest.mark.parametrize("needs, passes", [({"fused": True}, fused), ({"convolutions": "winograd"}, winograd)])
def test_an_engine_whose_compiler_has_vanished_is_chosen_anew(needs, passes, store, monkeypatch):
    run = experiments.replace(DIGITS, images=None)
    for here, timed, chosen in ((True, 1, 1), (True, 2, 1), (False, 3, 3), (False, 4, 4)):
        monkeypatch.setattr(passes, "available", lambda here=here: here)
        engine = fast.Engine(threads=timed, **needs)
        monkeypatch.setattr(fast, "choose_engine", lambda *options, engine=engine: engine)
        assert engines.choose(run, store, runner.Settings()).threads == chosen


def test_without_a_terminal_progress_is_plain_lines(store, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN", {**progress.PLAIN, "mininterval": 0, "delay": 0, "miniters": 1})
    runner.work([experiments.replace(DIGITS, epochs=8)], store)
    out = capsys.readouterr().err
    assert not set(out) & {"\r", "\x1b"}
    assert any(all(word in line for word in ("loss=", "accuracy=", "left")) for line in out.splitlines())


def test_on_a_terminal_a_bar_shows_loss_accuracy_and_time_left(store, capsys):
    trainer = training.Trainer(DIGITS, fast.Engine(), 25)
    trainer.step = 25
    with progress.bar(DIGITS, trainer, 25, 0) as tick:
        tick(trainer)
        progress.tqdm._instances.copy().pop().refresh()
    out = capsys.readouterr().err
    assert "\r" in out and "loss=0.000" in out and "accuracy=0.000" in out and "<" in out


def test_verify_replays_the_first_steps(store, chain):
    first, second, _ = chain
    for record in runner.work([first, second, BROKEN], store):
        assert one.verify(record, store) is None
    record = store.read(first)
    wrong = [record.fingerprint[0], record.fingerprint[1] + 0.001, *record.fingerprint[2:]]
    store.write(record.model_copy(update={"fingerprint": wrong}))
    assert "loss at step 1 is" in one.verify(store.read(first), store)
    assert "fingerprint has 4 losses" in one.verify(record.model_copy(update={"fingerprint": wrong[:4]}), store)
    assert "made by recipe 0" in one.verify(record.model_copy(update={"recipe": 0}), store)
    store.path(first).unlink()
    assert "which has no record" in one.verify(store.read(second), store)


@pytest.mark.parametrize("changes, reason", [
    ({"optimizer": "dessilbi", "penalized": ("nothing",)}, "can't be replayed ('nothing' is no convolution or linear"),
    ({"schedule": {"kind": "exponential", "every": 1e-9, "factor": 0.5}}, "loss at step"),
    ({"schedule": {"kind": "steps", "at": [0.0] * 100, "factor": 1000}}, "loss at step"),
    ({"schedule": {"kind": "cyclic", "high": 1e30, "up": 1e-9, "down": 1e-9}}, "loss at step"),
    ({"optimizer": "adam", "momentum": 0, "lr": 1e30, "weight_decay": 1e30, "seed": 2**63 - 1}, "loss at step"),
    ({"optimizer": "dessilbi", "lr": 1e30, "kappa": 1e30, "mu": 1e30, "weight_decay": 1e30}, "loss at step"),
    ({"epochs": 1000, "batch_size": 1, "images": 100_000}, "loss at step"),
])  # fmt: skip
def test_verify_names_a_record_of_a_run_that_nobody_would_make_and_goes_on(changes, reason, store):
    (record,) = runner.work([DIGITS], store)
    run = Run(**(DIGITS.differing() | changes))
    hostile = record.model_copy(update={"run": run, "fingerprint": [1.0] * 5})
    assert one.verify(hostile, store).startswith(reason)


def test_verify_allows_for_steps_that_rounding_turns_around(store):
    """Adam's first step is as long as the rate whatever the gradient: where that is nearly 0, its sign is chance."""
    for optimizer, passes in (("adam", True), ("sgd", False)):
        (record,) = runner.work([experiments.replace(DIGITS, optimizer=optimizer, momentum=0, lr=1e-3)], store)
        for step, change, allowed in ((0, 2e-4, False), (1, 5e-3, passes), (1, 2e-2, False)):
            losses = list(record.fingerprint)
            losses[step] *= 1 + change
            fault = one.verify(record.model_copy(update={"fingerprint": losses}), store)
            assert (fault is None) == allowed, (optimizer, step, change)


# ------------------------------------------------------------------------------------------ in a notebook


def obtain(rows, *options, **named):
    return runner.obtain_tables({"": rows}, *options, **named)[""]


def test_counts_of_a_large_batch_are_whole(store):
    run = experiments.replace(DIGITS, batch_size=300)
    record = obtain({"a": run}, "laptop", store)["a"][0]
    assert np.iinfo(store.arrays(record)["step_correct"].dtype).max >= 300


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


def test_a_store_says_what_it_holds_in_json(store):
    runner.work([DIGITS], store)
    fields = json.loads(store.path(DIGITS).read_text())
    assert fields["seconds_per_epoch"] == sorted(fields["history"]["seconds"])[1]
    assert fields["state"] == "done" and fields["engine"]["precision"] == "float32" and len(fields["weights"]) == 64
    assert {"processor", "cores", "torch", "python"} <= fields["machine"].keys()


@pytest.mark.parametrize(
    "name, value, steps", [("RECORDS_ONLY", "0", 12), ("RECORDS_ONLY", "1", 1), ("REPORT_BUDGET", "smoke", 1)]
)
def test_a_live_cell_trains_a_twentieth_where_nobody_watches(name, value, steps, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="starts from another run"):
        runner.rehearse(experiments.replace(DIGITS, start=DIGITS), steps=12)
    live = runner.rehearse(DIGITS, steps=12)
    assert live.step == steps and live.losses[:steps].isfinite().all()
