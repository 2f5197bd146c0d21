"""Bands over several runs, and how two of them compare, with numbers worked out by hand."""

import math

import numpy as np
import pytest

from helpers.experiments import Run
from helpers.show import bands
from helpers.show.text import MISSING, NORMED, PLAIN
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


def test_a_band_of_no_record_is_empty(store):
    band = bands.band({"a": []}, store, "x")
    assert len(band.at) == 0 and (band.steps, band.measured, band.runs) == (0, 0, 1)
    assert bands.band({"a": [], "b": []}, store, "x").notes == ("none of its 2 runs has a record yet",)
    numbers = bands.band_numbers({"x": {PLAIN: band, NORMED: band}})
    assert "0 of 1" in repr(numbers) and "–" in repr(numbers)
    assert "–" in repr(bands.band_ratios({"x": {PLAIN: band, NORMED: band}}))


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
    assert table.frame["rate"].tolist() == ["0.1", "0.2"]
    assert table.frame["VGG-A"].tolist() == pytest.approx([math.log(1.2), math.log(1.4)])
    assert table.frame["VGG-A + BN"].tolist() == pytest.approx([math.log(1.1), math.log(1.2)])


def test_ratios_of_bands_over_parts_of_the_run():
    plain, normed = made_band(halves(4, 1), halves(10, 3)), made_band(halves(1, 1), halves(4, 2))
    # Widths 6 and 2 without, 3 and 1 with; middles 7 and 2, 2.5 and 1.5.
    assert bands.ratio(plain, normed, "width") == 2
    assert bands.ratio(plain, normed, "middle", 0, 0.5) == pytest.approx(2.8)
    assert bands.ratio(plain, normed, "middle", 0.5, 1) == pytest.approx(4 / 3)
    assert bands.wider(plain, normed) == 1 and bands.wider(normed, plain) == 0
    assert bands.wider(plain, made_band([0, 0], [9, 0], at=[3, 70])) == 0.5
    table = bands.band_ratios({"x": {PLAIN: plain, NORMED: normed}})
    assert table.frame.iloc[0]["width"] == 2 and table.frame.iloc[0]["middle (first third)"] == pytest.approx(2.8)


def test_a_band_in_numbers():
    band = made_band([0] * 50, np.r_[[2] * 25, [4] * 25], at=range(0, 100, 2))
    entry = bands.band_numbers({"x": {PLAIN: band}}).frame.iloc[0]
    assert (entry["median"], entry["mean width"], entry["width / median"], entry["steps"]) == (1.5, 3, 2, 50)


def test_rows_are_sorted_by_network_and_rate():
    rows = {"one": vgg(1e-3), "two": vgg(2e-3, False)}
    found = {"one": ["x"], "two": []}
    assert bands.networks(rows, found) == {"VGG-A": {"lr 0.002": []}, "VGG-A + BN": {"lr 0.001": ["x"]}}
    rows["without momentum"], found["without momentum"] = vgg(1e-3), ["y"]  # the same rate again
    assert bands.networks(rows, found)["VGG-A + BN"] == {"lr 0.001": ["x"], "without momentum": ["y"]}


def test_the_basin_is_the_share_of_a_surface_better_than_guessing():
    assert bands.basin({"surface_loss": np.array([[1, 2.3], [2.4, np.nan]])}) == 0.5
    assert math.isnan(bands.basin({}))


def networks(store, plain, normed, name="x"):
    """Two rates of each network, whose series `name` are constant."""
    return {label: {f"lr {rate:g}": kept(store, vgg(rate, batch_norm), **{name: [value] * 4})
                    for rate, value in zip((1e-3, 2e-3), values)}
            for label, batch_norm, values in ((PLAIN, False, plain), (NORMED, True, normed))}  # fmt: skip


def test_two_bands_compare_by_how_many_times_as_high_and_wide(store):
    found = bands.both(networks(store, (4.0, 8.0), (1.0, 3.0)), store, "x")
    assert (bands.over(found, "middle"), bands.over(found, "width")) == (pytest.approx(3), pytest.approx(2))
    assert bands.over(bands.both({PLAIN: {"a": []}, NORMED: {"a": []}}, store, "x"), "middle") is MISSING


def test_one_rate_can_be_left_out(store):
    left = bands.leave_out(networks(store, (4.0, 8.0), (1.0, 3.0)), "lr 0.001")
    assert {name: list(runs) for name, runs in left.items()} == {PLAIN: ["lr 0.002"], NORMED: ["lr 0.002"]}


def test_a_step_is_walked_along_at_one_rate(store):
    runs = networks(store, (4.0, 8.0), (1.0, 3.0), "along_smoothness")
    assert bands.over(bands.along(runs, store, "lr 0.001")["effective β"], "middle") == pytest.approx(4)


def test_each_seed_has_a_band_of_its_own_where_all_rates_were_measured(store):
    rows = {rate: [kept(store, vgg(lr, seed=seed), x=[value + seed] * 3)[0] for seed in range(2)]
            for rate, lr, value in (("a", 1e-3, 1.0), ("b", 2e-3, 5.0))}  # fmt: skip
    assert [each.middle[0] for each in bands.by_seed(rows, store, "x")] == [3, 4]
    rows["b"][1:] = kept(store, vgg(2e-3, seed=1), y=[0.0])
    assert len(bands.by_seed(rows, store, "x")) == 1 and bands.by_seed({**rows, "c": []}, store, "x") == []
