"""Tests of how pruning is shown: numbers worked out by hand, and what is missing said in words."""

import numpy as np
import pytest

from helpers import experiments
from helpers.experiments import PRUNED, Reported
from helpers.records import RecordError, Store
from helpers.show import filters, support
from helpers.show.comparison import Row
from helpers.show.support import CONV3
from helpers.show.text import MISSING
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
    return {f"path_{CONV3}": norms, "path_step": np.array([0, 10, 20, 30], dtype=np.int32)}


def recorded(store, seed: int, **arrays):
    return store.write(record_of(experiments.reseed(RUN, seed)), arrays)


def row(store, **named) -> Row:
    """A row of as many seeds as there are lines in what is `named`: series of the records → (seeds, …)."""
    count = min(map(len, named.values()), default=0)
    found = [recorded(store, seed, **{name: np.asarray(each[seed]) for name, each in named.items()})
             for seed in range(count)]  # fmt: skip
    return Row("a", RUN, Reported(), found, store)


def pruned(tmp_path, *values, label="a"):
    """`Pruned` of a row whose seeds have these accuracies."""
    kept = Store(tmp_path / label).prepare()
    return filters.Pruned(row(kept, pruned_support_conv3_test=values), "support")


def test_accuracy_at_a_share_by_hand(tmp_path):
    two = pruned(tmp_path, steady(0.3, high=0.98), steady(0.3))
    assert f"{two.at(0)}" == "98.50 ± 0.71" and f"{two.at(0.6)}" == "90.00 ± 0.00"


def test_costs_by_hand(tmp_path):
    two = pruned(tmp_path, steady(0.3), steady(0.4))
    assert two.cost(0.35) == pytest.approx(4.5) and two.cost(0.6) == pytest.approx(9)
    assert two.free == 30


def test_all_is_free_where_nothing_is_lost(tmp_path):
    assert pruned(tmp_path, steady(0.95)).free == 95


def test_what_costs_just_as_much_as_is_cheap_is_free(tmp_path):
    assert pruned(tmp_path, steady(0.5, high=0.905, low=0.9)).free == 95


def test_the_mean_over_the_sizes_is_over_the_seeds(tmp_path):
    assert f"{pruned(tmp_path, steady(0.8, 1.0, 0.6), steady(0, 1.0, 0.2)).overall}" == "65.00 ± 35.36"


def test_how_far_accuracies_lie_off_the_reports(tmp_path):
    # The report's fall from 97.06 to 89.25 with 60 % pruned.
    assert pruned(tmp_path, steady(0.6, high=0.9706)).from_report == pytest.approx(97.06 - 89.25)


def test_without_records_all_is_missing(store):
    none = filters.Pruned(row(store))
    assert not len(none)
    for asked in (none.at(0.6), none.cost(0.6), none.free, none.overall, none.from_report, none.gap(none, 0)):
        assert asked is MISSING


def test_a_difference_has_the_spread_of_its_two_rows(tmp_path):
    before = pruned(tmp_path, steady(0.3, high=0.98), steady(0.3), label="before")
    after = pruned(tmp_path, steady(0.3), steady(0.3, high=0.995), label="after")
    gap = after.gap(before, 0)
    # Variances 0.5 and 0.125 with one degree of freedom each; t of two is 4.303.
    assert gap.value == pytest.approx(0.75) and gap.interval.low == pytest.approx(0.75 - 4.3027 * 0.3125**0.5, abs=1e-3)
    assert gap.counts == (2, 2) and gap.verdict == "open"


def test_only_differences_beyond_chance_are_clear(tmp_path):
    lines = {
        "base": pruned(tmp_path, steady(0.3, 0.98), steady(0.3, 0.982), label="base"),
        "near": pruned(tmp_path, steady(0.3, 0.983), steady(0.3, 0.985), label="near"),
        "far": pruned(tmp_path, steady(0.3, 0.995), steady(0.3, 0.996), label="far"),
        "none": filters.Pruned(Row("none", RUN, Reported(), [], Store(tmp_path))),
    }
    assert filters.clear(lines, 0).startswith("“far” +1.15 [")
    assert filters.clear(lines, 0, first=True).startswith("“far” +1.45 [")
    assert filters.clear(lines, 0.6) == filters.clear({}, 0) == "none"


def test_the_best_has_the_highest_mean_over_the_sizes(tmp_path):
    lines = {"short": pruned(tmp_path, steady(0.3), label="s"), "long": pruned(tmp_path, steady(0.8), label="l")}
    label, mean = filters.best(lines)
    assert label == "long" and float(mean) == float(lines["long"].overall)
    assert filters.best({}) == (MISSING, MISSING)


def test_entry_is_counted_against_magnitude(store, tmp_path):
    ahead = {"pruned_support_conv3_test": [steady(0.8)], "pruned_magnitude_conv3_test": [steady(0.6)]}
    behind = {"pruned_support_conv3_test": [steady(0.6)], "pruned_magnitude_conv3_test": [steady(0.9)]}
    other = Store(tmp_path / "other").prepare()
    rows = {"a": row(store, **ahead), "b": row(other, **behind), "none": Row("none", RUN, Reported(), [], store)}
    assert filters.entry_against_magnitude(rows) == (1, 2, 6)


def test_the_first_peak_is_the_largest_early_loss_of_any_seed(store):
    losses = np.array([[2, 3, 1, 9], [2, 4, 1, 9]], dtype=np.float32)
    assert filters.first_peak(row(store, step_loss=losses), steps=3) == 4
    assert filters.first_peak(row(store)) is MISSING


def test_the_table_has_a_row_for_each_share_and_a_dash_where_nothing_is_stated(tmp_path, store):
    ours, none = pruned(tmp_path, steady(0.3)), filters.Pruned(row(store))
    columns = {"ours": ours, "report": {0.0: 0.9706, 0.6: 0.8925}, "none": none}
    lines = filters.pruning_table(columns, "Pruned.").frame.values.tolist()
    assert [lines[0], lines[3], lines[6]] == [
        ["0 %", "99.00", "97.06", "–"], ["30 %", "99.00", "–", "–"], ["60 %", "90.00", "89.25", "–"],
    ]  # fmt: skip


def named(store, label, **series):
    """A row of one seed, with a store of its own."""
    return row(Store(store.folder / label).prepare(), **{name: [values] for name, values in series.items()})


def test_sizes_kept_shows_the_support_or_a_dash(store):
    rows = {"a": named(store, "a", pruned_support_conv3_test=steady(0.7), **path()),
            "b": named(store, "b", pruned_magnitude_conv3_test=steady(0.5)), "c": row(store)}  # fmt: skip
    table = filters.sizes_kept(rows, (0.0, 0.6), {"said": {0.6: 0.5}})
    assert list(table.frame) == ["", "dense", "60\N{NO-BREAK SPACE}% pruned", "support (filters)", "n"]
    assert table.frame.values.tolist() == [
        ["said", "–", "50.00", "–", "–"],
        ["a", "99.00", "99.00", "2", "1"], ["b", "99.00", "90.00", "–", "1"], ["c", "–", "–", "–", "0"],
    ]  # fmt: skip
    assert table.caption.startswith("Test accuracy")


def test_a_mean_over_what_learned_says_of_how_many_seeds(store):
    runs = experiments.replicas(RUN, "paper")
    series = {"pruned_support_conv3_test": steady(0.3)}
    alive, dead = (store.write(record_of(run, score), series) for run, score in zip(runs, (0.99, 0.1)))
    rows = {"both": Row("a", RUN, Reported(), [alive, dead], store), "one": Row("a", RUN, Reported(), [alive], store)}
    assert filters.sizes_kept(rows).frame["n"].tolist() == ["1 of 2", "1"]


def test_sizes_kept_on_the_validation_set(store):
    chosen = named(store, "a", pruned_support_conv3_validation=steady(0.7, high=0.98), **path())
    table = filters.sizes_kept({"a": chosen}, (0.0,), split="validation")
    assert table.frame["dense"].tolist() == ["98.00"] and table.caption.startswith("Validation accuracy")


def test_sizes_kept_by_elimination(store):
    thinned = {f"pruned_{order}_conv3_test": steady(until) for order, until in (("support", 0.7), ("elimination", 0.9))}
    rows = {
        "a": named(store, "a", **thinned, **path()),
        "b": named(store, "b", pruned_magnitude_conv3_test=steady(0.5)),
    }
    table = filters.sizes_kept(rows, (0.8,), {"said": {0.8: 0.5}}, eliminated=(0.8,))
    assert table.frame.iloc[:, 1:3].values.tolist() == [["50.00", "–"], ["90.00", "99.00"], ["90.00", "–"]]
    assert table.frame.columns[2] == "80\N{NO-BREAK SPACE}% pruned by elimination"


def test_orders_stand_side_by_side_where_they_were_measured(store):
    measured = {f"pruned_{order}_conv3_test": steady(until)
                for order, until in (("elimination", 0.9), ("magnitude", 0.5), ("support", 0.7))}  # fmt: skip
    rows = {"a": named(store, "a", **measured), "b": named(store, "b", pruned_magnitude_conv3_test=steady(0.9)),
            "c": row(store)}  # fmt: skip
    assert filters.orders_table(rows).frame.values.tolist() == [
        ["a", "magnitude", "90.00", "90.00", "90.00", "1"],
        ["a", "entry into the support", "99.00", "90.00", "90.00", "1"],
        ["a", "backward elimination", "99.00", "99.00", "99.00", "1"],
        ["b", "magnitude", "99.00", "99.00", "99.00", "1"],
    ]  # fmt: skip
    assert filters.orders_table({}).frame.empty


def test_pruning_curves_show_the_whole_and_its_top(tmp_path, store):
    lines = {"two": pruned(tmp_path, steady(0.3), steady(0.5)), "none": filters.Pruned(row(store))}
    whole, top = filters.pruning_curves(lines, (95, 99), {"report": {0.0: 0.97, 0.6: 0.89}}).axes
    mean, *seeds, stated = whole.lines
    assert mean.get_ydata()[8] == pytest.approx(94.5) and mean.get_xdata()[8] == 40 and len(seeds) == 2
    assert stated.get_xdata().tolist() == [0, 60] and stated.get_ydata() == pytest.approx([97, 89])
    assert top.get_ylim() == (95, 99) and len(top.lines) == 4
    assert (whole.get_xlabel(), whole.get_ylabel()) == ("pruned (%)", "test accuracy (%)")


def test_filter_norms_and_near_zero_by_hand():
    weights = np.zeros((3, 2, 2, 2))
    weights[0, 0, 0, 0], weights[0, 1, 1, 1], weights[1, 0, 0, 0], weights[2, 0, 0, 0] = 3, 4, 0.04, 0.06
    assert filters.filter_norms(weights) == pytest.approx([5, 0.04, 0.06])
    assert filters.near_zero(weights) == 1  # below 1 % of 5


def test_without_records_a_figure_says_so(store):
    none = row(store)
    for figure in (filters.pruning_curves({"a": filters.Pruned(none)}, (95, 99)), filters.side_by_side({"a": none})):
        assert {ax.texts[0].get_text() for ax in figure.axes} == {"no record yet"}


class Kept:
    """A store with weights alone."""

    def weights(self, record):
        if record.run.seed == 2:
            raise RecordError("no weights are kept")
        filters_of_two = np.zeros((2, 1, 2, 2), dtype=np.float32)
        filters_of_two[0] = 3 + record.run.seed
        return {CONV3: filters_of_two, "features.conv1.weight": 2 * filters_of_two, "fc": 99 * np.ones((2, 2))}


@pytest.fixture
def weighty():
    return Row("a", RUN, Reported(), [record_of(experiments.reseed(RUN, seed)) for seed in range(3)], Kept())


def test_filters_are_measured_in_the_runs_that_keep_their_weights(weighty):
    assert filters.black(weighty) == "1 and 1"
    assert filters.shade(weighty) == pytest.approx((3 + 0 + 4 + 0) / 4)
    assert support.largest_norm(weighty) == pytest.approx(8)
    assert support.largest_norm(weighty, layer=None) == pytest.approx(16)


def test_without_weights_there_is_nothing_to_measure(store):
    none = row(store)
    assert filters.black(none) == "–" and filters.shade(none) is support.largest_norm(none) is MISSING


def test_filters_stand_side_by_side_on_the_scale_of_the_first(weighty, store):
    first, missing, norms = filters.side_by_side({"a": weighty, "none": row(store)}).axes
    assert first.images[0].get_clim() == (0, 3) and missing.texts[0].get_text() == "no record yet"
    assert norms.lines[0].get_ydata().tolist() == pytest.approx([6, 1e-3])
