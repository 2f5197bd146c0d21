"""The benchmarks' own arithmetic, with numbers worked out by hand. Nothing in here is timed, so that no busy
machine makes it fail."""

import json
import os

import pytest
import torch
from torch import nn

from benchmarks import __main__, figure, measure, memory, optimizer, results
from benchmarks.plain import PlainDessiLBI
from helpers import dessilbi, models

# ------------------------------------------------------------------------------------------ timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when it is told to, by so many seconds."""
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_each_is_timed_in_turn_after_an_untimed_call(clock):
    took, order = {"a": iter([9, 1, 3, 2, 2]), "b": iter([9, 5, 5, 4, 4])}, []
    calls = {name: lambda name=name: order.append(name) or clock(next(took[name])) for name in took}
    assert measure.in_turn(calls, repeats=2, calls=2) == {"a": [2, 2], "b": [5, 4]}
    assert order == ["a", "b", "a", "a", "b", "b", "a", "a", "b", "b"]


def test_a_candidate_may_time_itself(clock):
    assert measure.in_turn({"a": lambda: clock(7) or 0.5}, repeats=1, calls=2) == {"a": [0.5]}


def test_the_fastest_counts():
    assert measure.summary([4.0, 2.0, 3.0]) == {"seconds": 2.0, "median": 3.0, "spread": 0.5}
    assert measure.ratios({"a": [4.0, 2.0], "b": [9.0, 5.0]}, to="a") == {"a": 1.0, "b": 2.5}


# ------------------------------------------------------------------------------------------ limits


def test_bandwidth_is_that_of_the_faster_way():
    # 100 numbers of 4 bytes: half of them copied is 200 bytes in and 200 out; all of them in place is 400 and 400.
    assert measure.bandwidth({"copy": [2.0, 1.0], "in place": [4.0]}, 100) == 400
    assert measure.bandwidth({"copy": [2.0], "in place": [1.0]}, 100) == 800


def test_the_peak_is_that_of_the_fastest_product():
    assert measure.peak({"a": [2.0, 1.0], "b": [2.0]}, {"a": 30, "b": 80}) == 40


def test_multiply_adds_of_a_small_network():
    # 3×3 over 2 channels to 4, 6×6 → 4×4: 16 · 4 · 18; then 64 → 5, and 5 → 1.
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 1))
    assert measure.multiply_adds(net, (2, 6, 6)) == [1152, 320, 5]
    assert measure.training_multiply_adds(net, (2, 6, 6)) == 3 * 1477
    assert net.training and not any(layer._forward_hooks for layer in net)


def test_multiply_adds_of_lenet():
    # 28²·6·25, 10²·16·150, 120·400, 120·84, 84·10
    assert measure.multiply_adds(models.LeNet(), (1, 28, 28)) == [117_600, 240_000, 48_000, 10_080, 840]


def test_bytes_of_a_step():
    assert measure.step_bytes(10, reads=3, writes=2) == 200
    net = nn.Linear(3, 2)  # 6 weights with a penalty, 2 biases without
    limits = optimizer.limits(net, bandwidth=4.0)
    assert limits == {"SGD": 8 * 5, "Adam": 8 * 7, "DessiLBI": 2 * 5 + 6 * 7, "DessiLBIAdam": 2 * 7 + 6 * 9}


def test_growth_of_memory_leaves_the_first_epoch_out():
    assert memory.growth([100.0, 130.0, 131.0, 132.0, 133.0, 134.0]) == 1.0


# ------------------------------------------------------------------------------------------ what is compared


def test_what_the_authors_write_is_what_ours_computes():
    torch.manual_seed(0)
    one = models.LeNet().double()
    other = models.LeNet().double()
    other.load_state_dict(one.state_dict())
    plain = PlainDessiLBI(one.parameters(), lr=0.1, kappa=2.0, mu=5.0)
    ours = dessilbi.DessiLBI(dessilbi.param_groups(other), lr=0.1, kappa=2.0, mu=5.0)
    for step in range(20):
        for a, b in zip(one.parameters(), other.parameters()):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step)).double()
            b.grad = a.grad.clone()
        plain.step()
        ours.step()
    for a, b in zip(one.parameters(), other.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        if b.ndim > 1:
            gamma = plain.state[a]["gamma"]
            torch.testing.assert_close(gamma, ours.gamma(b), rtol=1e-9, atol=1e-9)
            assert (gamma != 0).any()


@pytest.mark.parametrize("name", optimizer.NAMES)
def test_what_is_timed_is_set_back_now_and_then(name):
    stepper = optimizer.Stepper(name, "LeNet")
    for _ in range(optimizer.RESET):
        stepper()
    assert any(not torch.equal(p, start) for p, start in zip(stepper.model.parameters(), stepper.start))
    stepper.reset()
    assert all(torch.equal(p, start) for p, start in zip(stepper.model.parameters(), stepper.start))


# ------------------------------------------------------------------------------------------ what is written


def test_results_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    results.write({"a": {"seconds": 1.23456, "list": (1, 2.0)}}, path)
    assert results.read(path) == {"a": {"seconds": 1.235, "list": [1, 2.0]}}
    monkeypatch.setattr(results.json, "dump", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        results.write({}, path)
    assert os.listdir(tmp_path) == ["results.json"] and "a" in results.read(path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match="results.json is damaged"):
        results.read(tmp_path / "results.json")


def test_each_part_is_kept_as_soon_as_it_is_measured(tmp_path, monkeypatch):
    def interrupted(repeats: int) -> dict:
        raise KeyboardInterrupt

    path = tmp_path / "results.json"
    monkeypatch.setattr(results, "PATH", path)
    monkeypatch.setattr(figure, "draw", lambda parts: None)
    monkeypatch.setattr(__main__, "PARTS", {"one": lambda repeats: {"value": repeats}, "two": interrupted})
    assert __main__.main(["--repeats", "3"]) == 130
    written = json.loads(path.read_text())
    assert list(written) == ["one"] and written["one"]["value"] == written["one"]["repeats"] == 3
    assert written["one"]["machine"]["torch"] and written["one"]["revision"]
    assert __main__.main(["--only", "one", "--repeats", "4"]) == 0 and results.read(path)["one"]["value"] == 4


def test_a_wrong_word_is_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "PATH", tmp_path / "results.json")
    monkeypatch.setattr(figure, "draw", lambda parts: None)
    assert __main__.main(["--only", "nonsense"]) == 2 and __main__.main(["--repeats", "0"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("benchmarks: no part is called 'nonsense': there are step LeNet, step VGG")
    assert errors[1] == "benchmarks: repeats 0 is not allowed: it must be at least 1"


def test_the_figure_shows_steps_and_epochs(tmp_path):
    figure.draw({}, tmp_path / "none.svg")
    assert not list(tmp_path.iterdir())
    took = {"seconds": 2.0}
    parts = {
        "step VGG": {"ratio_to_fused_sgd": {"SGD, fused": 1.0, "DessiLBI": 2.0}, "limit_ratio": {"SGD": 0.8}},
        "epoch LeNet, 1 thread": {"threads": 1, "ours": took, "usual": took, "limit_seconds": 1.0},
    }
    figure.draw(parts, tmp_path / "all.svg")
    assert sorted(os.listdir(tmp_path)) == ["all.png", "all.svg"]
