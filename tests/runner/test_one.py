"""One run, killed, measured, completed and replayed: it has to end at the weights of a run left alone."""

import functools
import itertools
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from helpers import data, experiments, records, runner, training
from helpers.experiments import Run
from helpers.records import RecordError, Store
from helpers.runner import one, provenance
from tests.runner.made import (
    BROKEN,
    DIGITS,
    NET,
    PATH,
    PROBED,
    REVISION,
    ROWS,
    assert_same,
    begin,
    child_works,
    declare,
    finish,
    half_done,
    start,
)

pytestmark = pytest.mark.usefixtures("small_world")


def pruned(*arguments) -> dict[str, np.ndarray]:
    """In place of what takes seconds."""
    return {"pruned_elimination_conv3_test": np.ones(20, np.float32)}


def child_completes(folder, moment) -> None:
    begin(folder, moment)
    one._pruned = pruned
    store = Store(folder)
    one.complete(store.read(PATH), store)


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


def test_counts_of_a_large_batch_are_whole(store):
    run = experiments.replace(DIGITS, batch_size=300)
    (record,) = runner.work([run], store)
    assert np.iinfo(store.arrays(record)["step_correct"].dtype).max >= 300


def test_a_store_says_what_it_holds_in_json(store):
    runner.work([DIGITS], store)
    fields = json.loads(store.path(DIGITS).read_text())
    assert fields["seconds_per_epoch"] == sorted(fields["history"]["seconds"])[1]
    assert fields["state"] == "done" and fields["engine"]["precision"] == "float32" and len(fields["weights"]) == 64
    assert {"processor", "cores", "torch", "python"} <= fields["machine"].keys()
