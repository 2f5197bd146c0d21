"""Bands over several runs, and how two of them compare, with numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.experiments import Reported, Run, Table
from helpers.show import bands
from helpers.show.comparison import Comparison, Row
from helpers.show.text import MISSING, NORMED, PLAIN
from tests.made import Kept, record

NAN = math.nan


def vgg(rate, batch_norm=True, seed=0):
    return Run(model="VGG", options={"batch_norm": batch_norm}, lr=rate, momentum=0.9, epochs=3, seed=seed)


def row(*seeds):
    """A `Row` whose seeds have these series."""
    made = [record(vgg(1e-3, seed=seed), 0.5).model_copy(update={"files": {"npz": ""}}) for seed in range(len(seeds))]
    beside = {each.run: (arrays, {}) for each, arrays in zip(made, seeds)}
    return Row("a", vgg(1e-3), Reported(), made, Kept(*made, beside=beside))


def networks(plain, normed, name="x"):
    """Two rates of each network, whose series `name` are constant."""
    return {label: {rate: row({name: np.full(4, value)}) for rate, value in zip(("lr 0.001", "lr 0.002"), values)}
            for label, values in ((PLAIN, plain), (NORMED, normed))}  # fmt: skip


def made_band(low, high, at=None, steps=100):
    return bands.Band(pd.Series(low, at, dtype=float), pd.Series(high, at, dtype=float), steps, 1, 1)


def halves(first, second):
    return np.repeat([first, second], 50)


def test_a_band_spans_the_runs_whatever_their_length_and_holes():
    band = bands.band([{"x": [1.0] * 10}, {"x": [2.0] * 10}, {"x": [3.0, 3, NAN, 3, math.inf, 3]}, {}], "x")
    assert band.low.tolist() == [1] * 10 and band.high.tolist() == [3, 3, 2, 3, 2, 3, 2, 2, 2, 2]
    assert (band.steps, band.measured, band.runs) == (10, 3, 4)


def test_a_band_leaves_out_steps_at_which_nothing_was_measured():
    band = bands.band([{"x": [NAN, 1, NAN, 3]}], "x")
    assert (band.low.to_dict(), band.steps) == ({1: 1, 3: 3}, 4)


def test_a_band_of_runs_that_each_have_a_range():
    band = bands.band([{"low": [1.0, 2], "high": [3.0, 4]}, {"low": [0.0, 5], "high": [1.0, 6]}], "low", until="high")
    assert (band.low.tolist(), band.high.tolist()) == ([0, 2], [3, 6])
    assert (band.middle.tolist(), band.width.tolist()) == ([1.5, 4], [3, 4])


def test_a_band_without_records_is_empty_and_shown_as_such():
    rates = {PLAIN: {"lr 0.001": row()}, NORMED: {"lr 0.001": row()}}
    found = bands.both(rates, "x")
    assert len(found[PLAIN].low) == 0 and (found[PLAIN].measured, found[PLAIN].runs) == (0, 1)
    assert "–" in repr(bands.band_numbers({"x": found})) and "–" in repr(bands.band_ratios({"x": found}))
    assert "–" in repr(bands.jumps_table(rates, {"x": "x"})) and bands.over(found, "middle") is MISSING
    assert bands.draw({"x": found}).axes[0].texts[0].get_text() == "no record yet"


def test_jumps_are_means_within_a_run_whatever_its_scale():
    assert bands.jumps(row({"x": [1.0, 2, 1, 2]}), "x") == pytest.approx(math.log(2))
    # From one value to the next, across holes and zeros.
    assert bands.jumps(row({"x": [NAN, 1, NAN, 4, 0, 4]}), "x") == pytest.approx(math.log(4) / 2)


def test_the_table_of_jumps_has_a_row_a_rate():
    frame = bands.jumps_table(networks((1.0, 1.0), (2.0, 2.0)), {"loss": "x"}).frame
    assert frame.values.tolist() == [["loss", "0.001", "0", "0"], ["loss", "0.002", "0", "0"]]


def test_ratios_of_bands_over_parts_of_the_run():
    found = {PLAIN: made_band(halves(4, 1), halves(10, 3)), NORMED: made_band(halves(1, 1), halves(4, 2))}
    # Widths 6 and 2 without, 3 and 1 with; middles 7 and 2, 2.5 and 1.5.
    assert bands.ratio(found, "width") == 2
    assert bands.ratio(found, "middle", 0, 0.5) == pytest.approx(2.8)
    assert bands.ratio(found, "middle", 0.5, 1) == pytest.approx(4 / 3)
    assert bands.wider(found) == 1 and bands.wider({PLAIN: found[NORMED], NORMED: found[PLAIN]}) == 0
    assert bands.wider({PLAIN: found[PLAIN], NORMED: made_band([0, 0], [9, 0], at=[3, 70])}) == 0.5
    shown = bands.band_ratios({"x": found}).frame.iloc[0]
    assert (shown["width"], shown["middle (first third)"]) == ("2", "2.8")


def test_a_band_in_numbers():
    band = made_band([0] * 50, np.r_[[2] * 25, [4000] * 25], at=range(0, 100, 2))
    assert bands.band_numbers({"x": {PLAIN: band}}).frame.values.tolist() == [["x", PLAIN, "1,000", "2,000", "2"]]


def test_rows_are_sorted_by_network_and_rate():
    rows = Comparison(Table("2", "a", {"one": vgg(1e-3), "two": vgg(2e-3, False)}), Kept())
    found = bands.networks(rows)
    assert {name: {rate: each.label for rate, each in runs.items()} for name, runs in found.items()} == {
        PLAIN: {"lr 0.002": "two"}, NORMED: {"lr 0.001": "one"},
    }  # fmt: skip


def test_the_basin_is_the_share_of_a_surface_better_than_guessing():
    assert bands.basin({"surface_loss": np.array([[1, 2.3], [2.4, np.nan]])}) == 0.5
    assert math.isnan(bands.basin({}))


def test_two_bands_compare_by_how_many_times_as_high_and_wide():
    rates = networks((4.0, 8.0), (1.0, 3.0))
    found = bands.both(rates, "x")
    assert (bands.over(found, "middle"), bands.over(found, "width")) == (pytest.approx(3), pytest.approx(2))
    left = bands.leave_out(rates, "lr 0.001")
    assert {name: list(rows) for name, rows in left.items()} == {PLAIN: ["lr 0.002"], NORMED: ["lr 0.002"]}


def test_a_step_is_walked_along_at_one_rate():
    rates = networks((4.0, 8.0), (1.0, 3.0), "along_smoothness")
    assert bands.over(bands.along(rates, "lr 0.001")["effective β"], "middle") == pytest.approx(4)


def test_each_seed_has_a_band_of_its_own_where_all_rates_were_measured():
    rows = {"a": row({"x": [1.0]}, {"x": [2.0]}), "b": row({"x": [5.0]}, {"x": [6.0]})}
    assert [each.middle[0] for each in bands.by_seed(rows, "x")] == [3, 4]
    rows["b"] = row({"x": [5.0]}, {"y": [6.0]})
    assert len(bands.by_seed(rows, "x")) == 1 and bands.by_seed({**rows, "c": row()}, "x") == []


# ------------------------------------------------------------------------------------------ drawn


def test_bands_show_raw_range_and_smoothed_edges():
    low = np.array([1.0, 2, 3, 4, 5])
    found = {PLAIN: made_band(low, low + 1, at=range(0, 100, 20)), NORMED: made_band([], [])}
    (ax,) = bands.draw({"training loss": found}).axes
    edges = [line.get_ydata() for line in ax.lines]
    assert edges[0] == pytest.approx([1.5, 2, 3, 4, 4.5]) and edges[1] == pytest.approx(edges[0] + 1)
    raw = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (raw.min(), raw.max()) == (1, 6)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("step", "training loss", "linear")
    assert ax.get_xlim() == (-2, 102)  # the whole run, also where a band ends early


def test_of_a_long_band_no_more_is_drawn_in_front_than_can_be_told_apart():
    values = np.arange(5.0 * bands.POSITIONS)
    (ax,) = bands.draw({"loss": {PLAIN: made_band(values, values, steps=len(values))}}).axes
    assert (ax.lines[0].get_xdata() == values[::5]).all()
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == values[-1]  # behind, every step


def test_a_logarithmic_band_may_hold_zeros():
    zeros = made_band(np.zeros(9), np.r_[np.zeros(6), 1.0, 10, 10])
    (ax,) = bands.draw({"effective β": {PLAIN: zeros}}).axes
    assert ax.get_yscale() == "log" and 0.9 < ax.get_ylim()[0] < 1 and ax.get_ylim()[1] > 10


def test_surfaces_share_one_scale():
    around = {"surface_at": np.array([-1.0, 0, 1])}
    lower, higher = np.full((3, 3), 1.0), np.full((3, 3), 8.0)
    lower[0, 0], higher[0, :2] = 0.5, np.nan
    found = {"a": around | {"surface_loss": lower}, "b": around | {"surface_loss": higher}, "c": {}}
    axes = bands.surfaces(found).axes[:3]
    limits = [ax.collections[0].get_clim() for ax in axes[:2]]
    assert limits[0] == limits[1] == pytest.approx((0.5, 8), rel=0.01)
    assert axes[2].texts[0].get_text() == "no record yet"
