"""Tests of how pruning is shown: numbers worked out by hand, and what is missing said in words."""

import math

import numpy as np
import pytest

from helpers import experiments
from helpers.experiments import PRUNED, Run, Steps
from helpers.records import Store
from helpers.show import filters
from tests.records.test_store import record_of

RUN = experiments.mnist_warm


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results").prepare()


def steady(until: float, high: float = 0.99, low: float = 0.9) -> np.ndarray:
    """Accuracies that are `high` up to the share `until` and `low` beyond."""
    return np.array([high if share <= until + 1e-9 else low for share in PRUNED], dtype=np.float32)


def path() -> dict[str, np.ndarray]:
    """A path of four moments and three filters: the third enters first, the second never."""
    norms = np.array([[0, 0, 0], [0, 0, 1], [0.5, 0, 2], [1, 0, 3]], dtype=np.float32)
    return {f"path_{filters.CONV3}": norms, "path_step": np.array([0, 10, 20, 30], dtype=np.int32)}


def recorded(store, seed: int, **arrays):
    return store.write(record_of(experiments.reseed(RUN, seed)), arrays)


def test_accuracies_are_one_line_a_seed(store):
    found = [recorded(store, seed, pruned_support_conv3_test=steady(0.5 + 0.1 * seed)) for seed in (0, 1)]
    values = filters.accuracies(found, store, "conv3", "support")
    assert values.shape == (2, len(PRUNED))
    assert filters.at(values, 0.6).tolist() == pytest.approx([0.9, 0.99])
    assert filters.accuracies(found, store, "conv3", "magnitude").shape == (0, len(PRUNED))
    assert filters.accuracies([], store, "conv3", "support").shape == (0, len(PRUNED))


def test_mean_and_spread_by_hand():
    assert filters.mean_and_spread(np.array([0.98, 0.99])) == "98.50 ± 0.71"
    assert filters.mean_and_spread(np.array([0.98])) == "98.00"
    assert filters.mean_and_spread(np.array([])) == "–"


def test_the_table_has_a_row_for_each_share_and_a_dash_where_nothing_is_stated():
    columns = {"ours": steady(0.3)[None], "report": {0.0: 0.9706, 0.6: 0.8925}, "none": np.empty((0, len(PRUNED)))}
    table = filters.pruning_table(columns, "Pruned.", (0.0, 0.3, 0.6))
    assert table.frame.values.tolist() == [
        ["0 %", "99.00", "97.06", "–"], ["30 %", "99.00", "–", "–"], ["60 %", "90.00", "89.25", "–"],
    ]  # fmt: skip


def test_changes_have_a_deviation_and_are_clear_beyond_two_of_it():
    before = np.stack([steady(0.3, high=0.98), steady(0.3, high=0.99)])
    after = np.stack([steady(0.3, high=0.99), steady(0.3, high=0.995)])
    deviation = 100 * math.sqrt(0.005**2 + 0.0025**2)  # of two seeds: half the distance for the mean of each row
    assert filters.gain(before, after, 0.0) == (pytest.approx(0.75, abs=1e-4), pytest.approx(deviation, abs=1e-4))
    assert math.isnan(filters.gain(before, after[:1], 0.0)[1])
    texts = filters.changes_table({"a": before, "b": after, "c": after[:1]}, (0.0,)).grid()
    assert "| b | +0.75 ± 0.56 |" in texts and "| c | −0.25 |" in texts
    assert filters.clear_changes({"a": before, "b": after}, 0.0) == "dense none"
    better = np.stack([steady(0.3, high=0.995), steady(0.3, high=0.996)])
    assert filters.clear_changes({"a": before, "b": better}, 0.0) == "dense “b” +1.05"


def test_the_first_peak_is_the_largest_early_loss_of_any_seed(store):
    found = [recorded(store, seed, step_loss=np.array([2, 3 + seed, 1, 9], dtype=np.float32)) for seed in (0, 1)]
    assert filters.first_peak(found, store, steps=3) == 4
    assert math.isnan(filters.first_peak([], store))


def test_costs_by_hand():
    values = np.stack([steady(0.3), steady(0.4)])
    assert filters.cost(values, 0.35) == pytest.approx(4.5, abs=1e-4)
    assert filters.cost(values, 0.6) == pytest.approx(9, abs=1e-4)
    assert filters.free_share(values) == pytest.approx(0.3)
    assert filters.free_share(steady(0.95)[None]) == PRUNED[-1]
    assert filters.free_share(values, points=filters.cost(values, 0.35)) == 0.4  # what costs just as much is cheap
    assert math.isnan(filters.cost(values[:0], 0.3)) and math.isnan(filters.free_share(values[:0]))


def test_single_runs_are_set_against_the_spread_of_the_first_row():
    base = np.stack([steady(0.3, high=high) for high in (0.98, 0.982, 0.984)])  # σ 0.2: 2σ√(1/3 + 1) = 0.46 points
    lines = {"base": base, "near": steady(0.3, high=0.9865)[None], "far": steady(0.3, high=0.9868)[None]}
    lines["none"] = base[:0]
    assert filters.apart_from_first(lines, 0.0) == "dense “far” +0.48"
    assert filters.apart_from_first({"base": base[:1], "far": lines["far"]}, 0.0) == "dense none"
    assert filters.apart_from_first({"base": base[:0], "far": lines["far"]}, 0.0) == "dense none"


def test_sizes_kept_shows_the_support_or_a_dash(store):
    followed = recorded(store, 0, pruned_support_conv3_test=steady(0.7), **path())
    plain = recorded(store, 1, pruned_magnitude_conv3_test=steady(0.5))
    table = filters.sizes_kept({"a": [followed], "b": [plain], "c": []}, store, (0.0, 0.6))
    assert table.frame.values.tolist() == [
        ["a", "99.00", "99.00", "2", "1"], ["b", "99.00", "90.00", "–", "1"], ["c", "–", "–", "–", "0"],
    ]  # fmt: skip
    assert list(table.frame) == ["", "dense", "60\N{NO-BREAK SPACE}% pruned", "support (of 120)", "n"]
    assert table.caption.startswith("Test accuracy")
    chosen = recorded(store, 2, pruned_support_conv3_validation=steady(0.7, high=0.98), **path())
    table = filters.sizes_kept({"a": [chosen]}, store, (0.0,), split="validation")
    assert table.frame["dense"].tolist() == ["98.00"] and table.caption.startswith("Validation accuracy")
    thinned = {f"pruned_{order}_conv3_test": steady(until) for order, until in (("support", 0.7), ("elimination", 0.9))}
    rows = {"a": [recorded(store, 3, **thinned, **path())], "b": [plain]}
    table = filters.sizes_kept(rows, store, (0.8,), {"said": {0.8: 0.5}}, eliminated=(0.8,))
    assert table.frame.iloc[:, 1:3].values.tolist() == [["50.00", "–"], ["90.00", "99.00"], ["90.00", "–"]]
    assert table.frame.columns[2] == "80\N{NO-BREAK SPACE}% pruned by elimination"
    stated = filters.sizes_kept({"a": [followed]}, store, (0.0, 0.6), {"said": {0.6: 0.5}})
    assert stated.frame.values.tolist()[0] == ["said", "–", "50.00", "–", "–"]


def test_orders_stand_side_by_side_where_they_were_measured(store):
    measured = {f"pruned_{order}_conv3_test": steady(until)
                for order, until in (("elimination", 0.9), ("magnitude", 0.5), ("support", 0.7))}  # fmt: skip
    plain = {"pruned_magnitude_conv3_test": steady(0.9)}
    rows = {"a": [recorded(store, 0, **measured)], "b": [recorded(store, 1, **plain)], "c": []}
    table = filters.orders_table(rows, store, (0.6, 0.8))
    assert table.frame.values.tolist() == [
        ["a", "magnitude", "90.00", "90.00", "1"], ["a", "entry into the support", "99.00", "90.00", "1"],
        ["a", "backward elimination", "99.00", "99.00", "1"], ["b", "magnitude", "99.00", "99.00", "1"],
    ]  # fmt: skip
    assert filters.orders_table({}, store).frame.empty


def test_a_mean_over_what_learned_says_of_how_many_seeds(store):
    scores = experiments.replicas(RUN, "paper")
    alive, dead = (record_of(run, score) for run, score in zip(scores, (0.99, 0.1)))
    assert filters._counted([alive, dead]) == "1 of 2" and filters._counted([alive]) == "1"


def test_goals_are_reached_or_missed():
    values = np.array([[0.995 - 0.01 * share for share in PRUNED]])
    said = filters.against_goals(values).replace("\N{NO-BREAK SPACE}", " ")
    assert said == (
        "dense 99.50 % (goal 99.4 %: reached); 60 % pruned 98.90 % (goal 99.3 %: missed); "
        "80 % pruned 98.70 % (goal 99.0 %: missed); 90 % pruned 98.60 % (goal 98.5 %: reached)"
    )
    assert filters.against_goals(values[:0]) == "not measured yet"


def test_rows_are_named_at_the_goals_they_reach():
    lines = {"lasting": steady(0.9, 0.9935)[None], "dense": steady(0, 0.9945)[None], "unmade": steady(0)[None][:0]}
    said = filters.rows_at_goals(lines).replace("\N{NO-BREAK SPACE}", " ")
    assert said == (
        "dense “dense”; 60 % pruned “lasting”; 80 % pruned “lasting”; 90 % pruned “lasting”. All of them: no row"
    )
    assert filters.rows_at_goals({"both": steady(0.9, 0.995)[None]}).endswith("All of them: “both”")


def test_sizes_are_shown_as_shares_and_counts():
    table = filters.sizes_table([{"pruned": 0.6, "parameters": 26786, "multiply_adds": 0.916, "apart": 0.0}])
    assert "60 %" in repr(table) and "26,786" in repr(table) and "91.6" in repr(table)


def test_the_support_in_words(store):
    found = [recorded(store, 0, **path()), recorded(store, 1, step_loss=np.zeros(3))]
    assert filters.support_words(found, store) == "2 of 3, 1 of them by a quarter of the run"
    assert filters.support_words(found[1:], store) == "no record yet"


def test_the_norm_that_enters_at_the_end_by_hand():
    # 10 steps at rate 0.1 and 10 at 0.01: Σ α = 1.1
    run = Run(data="mnist", model="LeNet", optimizer="dessilbi", lr=0.1, mu=22, epochs=1,
              schedule=Steps(at=(0.5,), factor=0.1))  # fmt: skip
    assert filters.norm_needed(run, 20) == pytest.approx(20)


def test_curves_show_mean_range_and_what_is_stated(ax):
    filters.pruning_curves({"two": np.stack([steady(0.3), steady(0.5)])}, ax, {"report": {0.0: 0.97, 0.6: 0.89}})
    mean, stated = ax.lines
    assert mean.get_ydata()[8] == pytest.approx(94.5) and mean.get_xdata()[8] == 40
    assert stated.get_xdata().tolist() == [0, 60] and stated.get_ydata() == pytest.approx([97, 89])
    assert ax.collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(90)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("pruned (%)", "test accuracy (%)")


def test_a_path_shows_what_entered_dark_ones_first(store, ax):
    found = [recorded(store, 0, **path())]
    filters.solution_path(found, store, ax)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0, 1, 2, 3], [0, 0, 0.5, 1]]
    assert float(ax.lines[0].get_color()) < float(ax.lines[1].get_color())
    assert ax.get_title() == "2 of 3 filters entered, dark ones first"
    assert ax.lines[0].get_xdata().tolist() == [0, 10, 20, 30]  # epochs


@pytest.mark.parametrize("draw", [
    lambda store, ax: filters.pruning_curves({"a": np.empty((0, len(PRUNED)))}, ax),
    lambda store, ax: filters.solution_path([], store, ax),
])  # fmt: skip
def test_what_is_missing_is_said(draw, store, ax):
    assert draw(store, ax) is ax and ax.texts[0].get_text() == "no record yet"


def test_filter_norms_and_near_zero_by_hand():
    weights = np.zeros((3, 2, 2, 2))
    weights[0, 0, 0, 0], weights[0, 1, 1, 1], weights[1, 0, 0, 0], weights[2, 0, 0, 0] = 3, 4, 0.04, 0.06
    assert filters.filter_norms(weights) == pytest.approx([5, 0.04, 0.06])
    assert filters.near_zero(weights) == 1  # below 1 % of 5


def test_strengths_are_mean_sizes_on_the_scale_given(ax):
    weights = np.zeros((3, 2, 1, 1))
    weights[0] = [[[2]], [[-4]]]
    filters.strengths(weights, ax, scale=6, columns=2)
    sheet = ax.images[0].get_array()
    assert sheet.tolist() == [[3, 6, 0], [6, 6, 6], [0, 6, 6]] and ax.images[0].get_clim() == (0, 6)


def test_norm_curves_are_sorted(ax):
    weights = np.arange(1.0, 4)[:, None, None, None] * np.ones((3, 1, 1, 1))
    filters.norm_curves({"a": weights}, ax)
    assert ax.lines[0].get_ydata().tolist() == [3, 2, 1] and ax.get_yscale() == "log"
