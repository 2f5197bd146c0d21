"""Bands over several runs, and how two of them compare, with numbers worked out by hand."""

import math

import numpy as np
import pytest

from helpers import experiments
from helpers.experiments import Run
from helpers.records import Selection
from helpers.show import bands, readings
from tests.made import record


def vgg(rate, batch_norm=True, seed=0):
    return Run(model="VGG", options={"batch_norm": batch_norm}, lr=rate, momentum=0.9, epochs=3, seed=seed)


def kept(store, run, diverged_at=None, **series):
    """A record in `store` with these step-level series beside it."""
    made = record(run, 0.5 if diverged_at is None else None).model_copy(update={"diverged_at": diverged_at})
    return [store.write(made, {name: np.array(values, dtype="float32") for name, values in series.items()})]


@pytest.fixture
def rates(store):
    """Three runs of ten steps: 1 + their number, but for the last, which ends at step 6 and has a hole at 2."""
    last = [3.0, 3, math.nan, 3, 3, 3]
    return {"a": kept(store, vgg(1e-3), x=[1.0] * 10), "b": kept(store, vgg(2e-3), x=[2.0] * 10),
            "c": kept(store, vgg(3e-3), x=last)}  # fmt: skip


def made_band(low, high, ended=(), runs=1, at=None):
    at = np.arange(len(low)) if at is None else np.array(at)
    return bands.Band(at, np.array(low, float), np.array(high, float), 100, 1, runs, ended, ())


def halves(first, second):
    return np.repeat([first, second], 50)


def test_a_band_spans_the_runs_and_names_what_is_short_or_has_holes(rates, store):
    band = bands.band(rates, store, "x")
    assert band.at.tolist() == list(range(10)) and (band.steps, band.measured, band.runs) == (10, 3, 3)
    assert band.low.tolist() == [1] * 10 and band.high.tolist() == [3, 3, 2, 3, 3, 3, 2, 2, 2, 2]
    assert band.notes == ("c ends at step 6 of 10",)
    rates["c"] = kept(store, vgg(3e-3), x=[3.0, math.nan, math.inf] + [3] * 7)
    band = bands.band(rates, store, "x")
    assert band.high.tolist() == [3, 2, 2] + [3] * 7 and band.notes == ("c measured at 8 of 10 steps",)


def test_a_band_leaves_out_steps_at_which_nothing_was_measured(store):
    sparse = {"a": kept(store, vgg(1e-3), x=[math.nan, 1, math.nan, 3])}
    band = bands.band(sparse, store, "x")
    assert (band.at.tolist(), band.low.tolist(), band.steps, band.notes) == ([1, 3], [1, 3], 4, ())


def test_a_band_names_runs_that_are_missing_unmeasured_unreadable_or_diverged(rates, store):
    rates |= {"none": [], "plain": kept(store, vgg(4e-3), step_loss=[1.0])}
    rates["c"] = kept(store, vgg(3e-3), diverged_at=5, x=[3.0] * 5 + [math.nan])
    store.path(vgg(2e-3), ".npz").write_bytes(b"")
    band = bands.band(rates, store, "x")
    assert (band.measured, band.runs, band.ended) == (2, 5, (5,))
    assert band.notes == ("b was not measured", "c diverged at step 5", "none has no record yet",
                          "plain was not measured")  # fmt: skip
    assert band.high.tolist() == [3] * 5 + [1] * 5


def test_only_rates_of_which_both_networks_have_a_record_are_paired():
    rates = {
        readings.PLAIN: {"lr 1": ["a"], "lr 2": ["b"], "lr 3": ["c"]},
        readings.NORMED: {"lr 2": ["d"], "lr 3": []},
    }
    assert bands.paired(rates) == {readings.PLAIN: {"lr 2": ["b"]}, readings.NORMED: {"lr 2": ["d"]}}


def test_what_batch_norm_does_is_told_for_each_budget(store):
    """At laptop it halves what it is at both rates, at paper it makes no difference; there one network lacks a rate."""
    normed = [experiments.replace(vgg(lr), epochs=20) for lr in (1e-3, 2e-3)]
    plain = [experiments.replace(run, batch_norm=False) for run in normed]
    rows = {**{f"plain {run.lr}": run for run in plain}, **{f"normed {run.lr}": run for run in normed}}

    def found(budget, values):
        return {label: kept(store, experiments.at(run, budget), x=[value] * 40) if value else []
                for (label, run), value in zip(rows.items(), values)}  # fmt: skip

    selection = Selection("laptop", found("laptop", (2.0, 6.0, 1.0, 3.0)), [], {"paper": found("paper", (2, 6, 0, 6))})
    frame = bands.by_budget(rows, selection, store, {"quantity": "x"}).frame
    assert frame["rates"].tolist() == [1, 1] and frame["epochs"].tolist() == [5, 20]
    assert frame["lower"].tolist() == ["holds (20 of 20)", "within noise (0 of 0)"]
    assert frame["narrower"].tolist() == ["within noise (0 of 0)"] * 2  # a single rate has no width
    assert frame["steadier"].tolist() == ["within noise (0 of 0)"] * 2
    alone = bands.by_budget(rows, Selection("laptop", dict(selection), [], {}), store, {"quantity": "x"}).frame
    assert alone["rates"].tolist() == [2] and alone["narrower"].tolist() == ["holds (20 of 20)"]
    assert bands.by_budget(rows, Selection("laptop", dict.fromkeys(rows, []), [], {}), store, {"q": "x"}).frame.empty


def test_a_rate_of_one_network_alone_stands_in_the_table_with_a_dash(store):
    rates = {readings.PLAIN: {"lr 1": kept(store, vgg(1.0), x=[1.0, 2.0])},
             readings.NORMED: {"lr 2": kept(store, vgg(2.0), x=[1.0, 2.0])}}  # fmt: skip
    frame = bands.unsteadiness_table(rates, store, {"quantity": "x"}).frame
    assert frame["rate"].tolist() == ["1", "2"] and frame[readings.PLAIN].isna().tolist() == [False, True]


def test_a_band_of_no_record_is_empty(store):
    band = bands.band({"a": []}, store, "x")
    assert len(band.at) == 0 and (band.steps, band.measured, band.runs) == (0, 0, 1)
    assert bands.band({"a": [], "b": []}, store, "x").notes == ("none of its 2 runs has a record yet",)
    numbers = bands.band_numbers({"x": {readings.PLAIN: band, readings.NORMED: band}})
    assert "0 of 1" in repr(numbers) and "–" in repr(numbers)
    assert "–" in repr(bands.band_ratios({"x": {readings.PLAIN: band, readings.NORMED: band}}))


def test_a_run_that_stays_at_the_loss_of_guessing_is_named(store):
    rows = {
        "a": kept(store, vgg(1e-3), step_loss=[2.31] * 20),
        "b": kept(store, vgg(2e-3), step_loss=[2.3] * 18 + [2, 2]),
    }
    assert bands.band(rows, store, "step_loss").notes == ("a stays at the loss of guessing, 2.303",)
    assert not bands.stuck([]) and bands.stuck([2.26]) and not bands.stuck([2.25])


def test_a_band_of_runs_that_each_have_a_range(store):
    rows = {
        "a": kept(store, vgg(1e-3), low=[1.0, 2], high=[3.0, 4]),
        "b": kept(store, vgg(2e-3), low=[0.0, 5], high=[1.0, 6]),
    }
    band = bands.band(rows, store, "low", until="high")
    assert (band.low.tolist(), band.high.tolist()) == ([0, 2], [3, 6])
    assert (band.middle.tolist(), band.width.tolist()) == ([1.5, 4], [3, 4])


@pytest.mark.parametrize(
    "plain, normed, middle, width",
    [
        ((3, 5), (1, 2), "holds", "holds"),
        ((1, 2), (3, 5), "does not hold", "does not hold"),
        ((1, 2), (1, 2), "within noise", "within noise"),
        ((0, 6), (2, 5), "does not hold", "holds"),  # lower, and wider
    ],
)
def test_bands_are_compared_by_their_middles_and_widths(plain, normed, middle, width):
    plain, normed = (made_band([low] * 100, [high] * 100) for low, high in (plain, normed))
    assert (bands.smaller(plain, normed, "middle"), bands.smaller(plain, normed, "width")) == (middle, width)


@pytest.mark.parametrize(
    "won, verdict", [(15, "holds"), (14, "within noise"), (6, "within noise"), (5, "does not hold")]
)
def test_fifteen_of_twenty_stretches_decide(won, verdict):
    normed = np.repeat([0.0] * won + [2.0] * (20 - won), 5)
    plain, normed = made_band([1] * 100, [1] * 100), made_band(normed, normed)
    assert bands.stretches_won(plain, normed, "middle") == (won, 20 - won)
    assert bands.smaller(plain, normed, "middle") == verdict


def test_the_sign_test_by_hand():
    assert [bands._sign_test(*counts) for counts in ((0, 0), (3, 0), (3, 1), (0, 6))] == [1, 0.25, 0.625, 2 / 64]


def test_a_diverged_run_counts_as_infinite_from_there_on():
    # Until step 25 the band with batch norm is the wider; then the other network has lost a run.
    plain, normed = made_band([0] * 100, [1] * 100, ended=(25,)), made_band([0] * 100, [2] * 100)
    assert bands.stretches_won(plain, normed, "width") == (15, 5)
    assert bands.stretches_won(plain, normed._replace(ended=(25,)), "width") == (0, 5)


def test_bands_that_are_incomplete_have_no_verdict():
    whole = made_band([0] * 100, [1] * 100)
    assert bands.smaller(whole, whole._replace(runs=2), "width") == "not measured yet"
    assert bands.smaller(made_band([], []), whole, "width") == "not measured yet"


def test_which_run_is_at_the_edges_of_a_band(store):
    values = {"low": [1, 1, 1, math.nan], "high": [2, 2, 0, 9], "middle": [1.5, 1.5, 1.5, 1.5]}
    rows = {label: kept(store, vgg(1e-3, seed=seed), x=each) for seed, (label, each) in enumerate(values.items())}
    assert bands.edges(rows, store, "x") == "upper edge high (67 % of the steps), lower edge low (67 % of the steps)"
    assert bands.edges(rows, store, "y") == "not measured yet"


def test_unsteadiness_is_the_mean_jump_within_a_run_whatever_its_scale(store):
    runs = {"a": kept(store, vgg(1e-3), x=[1.0, 2, 1, 2]), "b": kept(store, vgg(2e-3), x=[30.0, 30, 30, 30])}
    found = bands.unsteadiness(runs, store, "x")
    assert found.at.tolist() == [1, 2, 3] and found.middle == pytest.approx([math.log(2) / 2] * 3)
    assert found.width.tolist() == [0, 0, 0] and (found.steps, found.measured, found.runs) == (4, 2, 2)
    holed = bands.unsteadiness({"a": kept(store, vgg(3e-3), x=[math.nan, 1, math.nan, 4, 0, 4])}, store, "x")
    assert holed.at.tolist() == [3, 5] and holed.middle == pytest.approx([math.log(4), 0])  # from one value to the next
    assert len(bands.unsteadiness({"a": []}, store, "x").at) == 0


def test_the_table_of_unsteadiness_has_a_row_a_rate(store):
    rates = {name: {f"lr {rate:g}": kept(store, vgg(rate, normed), x=[1.0, 1 + rate * (2 - normed)] * 20)
                    for rate in (0.1, 0.2)} for name, normed in (("VGG-A", False), ("VGG-A + BN", True))}  # fmt: skip
    table = bands.unsteadiness_table(rates, store, {"loss": "x"})
    assert table.frame["rate"].tolist() == ["0.1", "0.2"] and table.frame["steadier with"].tolist() == [20, 20]
    assert table.frame["VGG-A"].tolist() == pytest.approx([math.log(1.2), math.log(1.4)])
    assert table._texts["steadier with"].tolist() == ["20 of 20 stretches"] * 2


def test_ratios_of_bands_over_parts_of_the_run():
    plain, normed = made_band(halves(4, 1), halves(10, 3)), made_band(halves(1, 1), halves(4, 2))
    # Widths 6 and 2 without, 3 and 1 with; middles 7 and 2, 2.5 and 1.5.
    assert bands.ratio(plain, normed, "width") == 2
    assert bands.ratio(plain, normed, "middle", 0, 0.5) == pytest.approx(2.8)
    assert bands.ratio(plain, normed, "middle", 0.5, 1) == pytest.approx(4 / 3)
    assert bands.wider(plain, normed) == 1 and bands.wider(normed, plain) == 0
    assert bands.wider(plain, made_band([0, 0], [9, 0], at=[3, 70])) == 0.5
    table = bands.band_ratios({"x": {readings.PLAIN: plain, readings.NORMED: normed}})
    assert table.frame.iloc[0]["width"] == 2 and table.frame.iloc[0]["middle (first third)"] == pytest.approx(2.8)


def test_a_band_in_numbers():
    band = made_band([0] * 50, np.r_[[2] * 25, [4] * 25], at=range(0, 100, 2))
    entry = bands.band_numbers({"x": {readings.PLAIN: band}}).frame.iloc[0]
    assert (entry["median"], entry["mean width"], entry["width / median"], entry["steps"]) == (1.5, 3, 2, 50)


def test_rows_are_sorted_by_network_and_rate():
    rows = {"one": vgg(1e-3), "two": vgg(2e-3, False)}
    found = {"one": ["x"], "two": []}
    assert bands.networks(rows, found) == {"VGG-A": {"lr 0.002": []}, "VGG-A + BN": {"lr 0.001": ["x"]}}
    rows["without momentum"], found["without momentum"] = vgg(1e-3), ["y"]  # the same rate again
    assert bands.networks(rows, found)["VGG-A + BN"] == {"lr 0.001": ["x"], "without momentum": ["y"]}


def test_bands_in_words():
    plain, normed = made_band(halves(4, 1), halves(10, 3)), made_band(halves(1, 1), halves(4, 2))
    words = bands.band_words({readings.PLAIN: plain, readings.NORMED: normed})
    assert "lies 2.25 times as high as with it, and the band is 2 times as wide" in words  # middles 4.5 and 2
    assert "at 100 % of the steps" in words and words.count("**holds** (20 of 20 stretches of the run)") == 2
    assert bands.band_words({readings.PLAIN: made_band([], []), readings.NORMED: normed}) == "Not measured yet."


def test_the_basin_is_the_share_of_a_surface_better_than_guessing():
    assert bands.basin({"surface_loss": np.array([[1, 2.3], [2.4, np.nan]])}) == 0.5
    assert math.isnan(bands.basin({}))
