"""Tests of docs/dessilbi.md: its tables are those of the recorded runs, its code runs, and what it derives is so."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import dessilbi_guide as guide
from helpers import dessilbi, models, pruning
from tests import test_dessilbi

TEXT = guide.PAGE.read_text(encoding="utf-8")
README = (guide.ROOT / "README.md").read_text(encoding="utf-8")
SNIPPET = "lr=0.02, kappa=1, mu=20"


def test_the_pages_tables_are_those_of_the_recorded_runs(tmp_path):
    copy = tmp_path / "dessilbi.md"
    copy.write_text(TEXT, encoding="utf-8")
    guide.rewrite(guide.read()["runs"], copy)
    assert copy.read_text(encoding="utf-8") == TEXT, "run `python -m benchmarks.dessilbi_guide`"


def test_a_table_shows_what_its_runs_gave():
    row = {"accuracy": 0.9, "norm": 1.5, "support": {"0": 7}, "expected": 1234, "first": None, "follows": 0.61,
           "outside": 0.05}  # fmt: skip
    shown = guide.blocks({guide.key(setting): row for setting in guide.runs()})
    assert "| ν 4 | 0.01 | 1,234 | – | 0.61 | 7 | 0.05 | 90.0 |" in shown["nu"]
    assert "| LeNet | α 0.02 | 10 of 10 (90.0 to 90.0 %) | 10 of 10 (90.0 to 90.0 %) |" in shown["learns"]
    assert guide.blocks({})["nu"] == guide.PENDING


def test_a_run_that_ended_at_chance_has_not_learned():
    assert guide._count([0.11, 0.93], "LeNet") == "1 of 2 (11.0 to 93.0 %)"


@pytest.mark.parametrize("model", ["LeNet", "MyNet"])
def test_the_snippets_setting_trains_whatever_the_seed(model):
    runs = guide.read()["runs"]
    setting = guide.snippet if model == "LeNet" else guide.mynet
    assert f"lr={setting.rate / setting.kappa:g}, kappa={setting.kappa}, mu={setting.mu}" == SNIPPET
    made = [runs.get(guide.key(guide.replace(setting, start=start, seed=seed)))
            for start in guide.STARTS for seed in guide.SEEDS]  # fmt: skip
    if None in made:
        pytest.skip("not measured yet")
    assert all(run["accuracy"] >= guide.LEARNED[model] for run in made)


def test_what_the_page_says_of_its_tables_is_so():
    runs = guide.read()["runs"]
    rows = {
        name: [runs.get(guide.key(setting)) for setting in each.values()] for name, each in guide.EXPERIMENTS.items()
    }
    if any(None in each for each in rows.values()):
        pytest.skip("not measured yet")
    counts = {name: [row["support"]["0"] for row in each] for name, each in rows.items() if name != "dead"}
    assert counts["kappa"][0] > counts["kappa"][1] > counts["kappa"][2] > 0  # κ is how selective it is
    assert len({row["expected"] for row in rows["kappa"]}) == 1
    assert all(0.5 < row["first"] / row["expected"] < 2 for row in rows["nu"])  # right within a factor of two
    firsts = [row["first"] for row in rows["nu"]]
    assert firsts == sorted(firsts)
    assert all(0.5 < row["follows"] < 0.7 for row in rows["kappa"] + rows["nu"])
    assert counts["decay"][0] == counts["decay"][1] and rows["decay"][2]["norm"] < 0.01  # nothing; and this one dies
    assert counts["schedule"][0] > counts["schedule"][1]
    assert counts["precision"][0] == counts["precision"][1]
    assert counts["adam"][0] == 0 < counts["adam"][1]
    dies, lives, lives_too = (row["accuracy"] for row in rows["dead"])
    assert dies < 0.2 < min(lives, lives_too)


def test_the_setting_is_the_same_wherever_it_is_shown():
    for text in (TEXT, README, Path(dessilbi.__file__).read_text(encoding="utf-8")):
        assert text.count(SNIPPET) == 1


def code(text: str) -> str:
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_the_pages_code_leads_to_a_smaller_network(monkeypatch, capsys):
    """With larger steps, so that some filters enter at once."""
    torch.manual_seed(0)
    monkeypatch.setitem(sys.modules, "dessilbi", dessilbi)
    monkeypatch.setitem(sys.modules, "pruning", pruning)
    loader = [(torch.rand(4, 1, 28, 28), torch.arange(4)) for _ in range(7)]
    names = dict(model=models.LeNet(), epochs=1, loader=loader, loss=nn.functional.cross_entropy)
    exec(code(TEXT).replace(SNIPPET, "lr=0.02, kappa=0.1, mu=0.075"), names)
    kept = names["kept"]["features.conv3.weight"]
    assert 0 < kept.sum() < 120
    assert names["smaller"].features.conv3.out_channels == kept.sum()
    assert (names["entry"]["features.conv3.weight"] == 1).equal(kept)
    assert capsys.readouterr().out.startswith("({'parameters': 61706, ")


def test_the_readmes_code_runs(monkeypatch):
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(1, 3, 3))
    names = dict(model=model, loader=[(torch.rand(2, 1, 3, 3), torch.rand(2, 3, 1, 1))], loss=nn.functional.mse_loss)
    code_of = re.search(r"```python\n(from helpers.dessilbi.*?)```", README, re.DOTALL)[1]
    exec(code_of, names)
    assert names["needed"].tolist() == [False] * 3


def test_each_line_of_the_last_table_is_held_by_a_test():
    lines = TEXT[TEXT.index("| what torch.optim") :].strip().splitlines()[2:]
    named = [re.search(r"\| `(\w+)` \|$", line)[1] for line in lines]
    assert len(named) >= 20 and all(callable(getattr(test_dessilbi, name, None)) for name in named)


# ------------------------------------------------------------------------------------------ what it derives


def penalised(norm: float, **options):
    weight = nn.Parameter(torch.full((1, 4), norm / 2, dtype=torch.float64))
    return weight, dessilbi.DessiLBI([{"params": [("w", weight)], "penalty": "group"}], **options)


@pytest.mark.parametrize("lr, mu, norm", [(0.02, 20, 0.58), (0.1, 3, 1.0)])
def test_a_filter_of_constant_size_enters_when_the_page_says(lr, mu, norm):
    weight, optimizer = penalised(norm, lr=lr, mu=mu)
    expected = pruning.expected_entry(optimizer)["w"].item()
    assert expected == pytest.approx(mu / (lr * norm))
    start, steps = weight.detach().clone(), 0
    while not pruning.support(optimizer)["w"].any():
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        weight.data.copy_(start)  # as if the loss held it
        steps += 1
        left = pruning.expected_entry(optimizer)["w"].item()
        assert left == pytest.approx(max(0, expected - steps), abs=1e-6)
    assert expected <= steps <= expected + 1


def test_outside_the_support_weights_decay_and_never_enter_if_the_loss_leaves_them_alone():
    weight, optimizer = penalised(0.9, lr=0.1, mu=5, kappa=1)
    for step in range(1, 400):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        assert weight.norm().item() == pytest.approx(0.9 * (1 - 0.1 / 5) ** step)
    assert not pruning.support(optimizer)["w"].any()


def test_weights_and_z_together_change_by_the_gradient_alone():
    weight, optimizer = penalised(0.9, lr=0.1, mu=5, kappa=2, momentum=0)
    before = weight.detach().clone()
    for step in range(50):
        weight.grad = torch.full_like(weight, -0.3 + 0.01 * step)
        before -= 2 * 0.1 * weight.grad
        optimizer.step()
        torch.testing.assert_close(weight + 2 * optimizer.state[weight]["z"], before)
    assert pruning.support(optimizer)["w"].any()


def test_inside_the_support_gamma_follows():
    weight, optimizer = penalised(3.0, lr=0.1, mu=5, kappa=1)
    optimizer.state[weight]["z"] = torch.full_like(weight, 0.5)  # of norm 1: about to enter
    start = weight.detach().clone()
    for _ in range(50):  # ν/(κα)
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        weight.data.copy_(start)
    assert (optimizer.gamma(weight).norm() / 3).item() == pytest.approx(1 - (1 - 0.02) ** 50)
