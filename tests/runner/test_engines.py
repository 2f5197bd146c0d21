"""The engine that a run gets is timed once, and never taken from a file that could not have been written here."""

import json

import pytest

from helpers import experiments, fast, runner
from helpers.fast import fused, winograd
from helpers.runner import engines
from tests.runner.made import DIGITS

pytestmark = pytest.mark.usefixtures("small_world")


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
