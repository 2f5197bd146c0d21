"""Checkpoints that are damaged, hostile or left over: named in a line, set aside, and no run ends otherwise for it."""

import os
import pickle

import pytest
import torch

from helpers import runner
from helpers.fast import build, fused, winograd
from helpers.records import RecordError
from helpers.runner import one
from tests.runner.made import NET, PROBED, assert_same, half_done

pytestmark = pytest.mark.usefixtures("small_world")


class Intruder:
    def __reduce__(self):
        return os.mkdir, (os.environ["INTRUDED"],)


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
