"""A world in which runs take a moment, records of runs that nothing happened to, and runs that start from others."""

import pytest

from helpers import experiments, runner
from helpers.experiments import Run
from helpers.records import Store
from tests.runner.made import DIGITS, declare


@pytest.fixture
def small_world(monkeypatch):
    declare(monkeypatch.setattr)
    for name in ("RESULTS_DIR", "REPORT_BUDGET", "RECORDS_ONLY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """run, precision → the store and the record of a run that nothing happened to."""
    made = {}

    def get(run: Run, precision="float32"):
        if (run, precision) not in made:
            store = Store(tmp_path_factory.mktemp("undisturbed") / "results")
            made[run, precision] = (store, runner.work([run], store, runner.Settings(precision=precision))[0])
        return made[run, precision]

    return get


@pytest.fixture
def chain(monkeypatch):
    """Three runs, each starting from the one before."""
    first = DIGITS
    second = experiments.replace(DIGITS, lr=0.01, start=first)
    third = experiments.replace(DIGITS, lr=0.005, start=second)
    monkeypatch.setattr(experiments, "keeps_weights", lambda run: run in (first, second))
    return first, second, third
