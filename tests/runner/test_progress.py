"""What is said while a run is made, on a terminal and elsewhere."""

import pytest

from helpers import experiments, fast, runner, training
from helpers.runner import progress
from tests.runner.made import DIGITS

pytestmark = pytest.mark.usefixtures("small_world")


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
