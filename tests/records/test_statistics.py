"""Tests of the statistics: against numbers worked out by hand, against scipy's own, and where a verdict turns."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from helpers.records.statistics import (
    CONFIDENCE,
    FAILS,
    HOLDS,
    IN_PART,
    ONE_RUN,
    OPEN,
    UNMEASURED,
    Interval,
    Spread,
    average,
    by_chance,
    difference,
    expected,
    leans,
    pooled,
    together,
    verdict,
)

VALUES = st.lists(st.integers(0, 100), min_size=2, max_size=6)


def test_the_spread_of_one_row_is_its_standard_deviation():
    assert pooled([(1.0, 2.0, 3.0)]) == (1.0, 2)


def test_rows_are_pooled_by_their_degrees_of_freedom():
    # Variances 1 (of three runs) and 8 (of two): (2 · 1 + 1 · 8) / 3.
    assert pooled([(1.0, 2.0, 3.0), (0.0, 4.0), (7.0,)]) == (pytest.approx(math.sqrt(10 / 3)), 3)


@pytest.mark.parametrize("rows", [[], [(1.0,)], [(1.0,), (2.0,)]], ids=str)
def test_single_runs_have_no_spread(rows):
    std, freedom = pooled(rows)
    assert math.isnan(std) and freedom == 0


def test_a_difference_by_hand():
    # Student's t with 4 degrees of freedom has its 97.5th percentile at 2.776445; √(1/3 + 1/3) = 0.816497.
    found = difference((4.0, 5.0, 6.0), (1.0, 2.0, 3.0), Spread(1.0, 4))
    assert found.value == 3
    half = 2.776445 * 0.816497
    assert (found.low, found.high) == (pytest.approx(3 - half, abs=1e-5), pytest.approx(3 + half, abs=1e-5))


@given(VALUES, VALUES)
def test_a_difference_of_two_rows_is_that_of_scipys_t_test(ours, theirs):
    assume(np.ptp(ours) + np.ptp(theirs) > 0)
    interval = stats.ttest_ind(ours, theirs).confidence_interval(0.95)
    found = difference(ours, theirs, pooled([ours, theirs]))
    assert (found.low, found.high) == (pytest.approx(interval.low, abs=1e-6), pytest.approx(interval.high, abs=1e-6))


def test_the_interval_of_a_mean_is_scipys():
    values = (1.0, 2.0, 4.0)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert average(values, pooled([values])) == pytest.approx((7 / 3, interval.low, interval.high))


def test_a_further_run_is_expected_in_a_wider_interval():
    # 2 degrees of freedom: 4.302653; √(1 + 1/3) = 1.154701.
    found = expected((1.0, 2.0, 3.0), pooled([(1.0, 2.0, 3.0)]))
    assert found.value == 2 and found.high == pytest.approx(2 + 4.302653 * 1.154701)
    assert 6.9 in found and 7.0 not in found


def test_further_runs_fall_in_the_interval_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(4000, 4))
    inside = [run in expected(row, pooled([row])) for *row, run in draws.tolist()]
    assert np.mean(inside) == pytest.approx(CONFIDENCE, abs=0.015)


def test_without_seeds_anything_may_be():
    assert difference((1.0,), (0.0,), pooled([(1.0,), (0.0,)])) == (1.0, -math.inf, math.inf)


THREE = (3, 3)


@pytest.mark.parametrize("low, high, above, below, said", [
    (0.1, 2, 0, math.inf, HOLDS), (-0.1, 2, 0, math.inf, OPEN), (-2, -0.1, 0, math.inf, FAILS),
    (0, 0, 0, math.inf, FAILS),  # not higher, surely
    (4.9, 9, 5, math.inf, OPEN), (5.1, 9, 5, math.inf, HOLDS), (1, 4.9, 5, math.inf, FAILS),
    (-0.9, 0.9, -1, 1, HOLDS), (-1.1, 0.9, -1, 1, OPEN), (1.1, 2, -1, 1, FAILS), (-3, -1.1, -1, 1, FAILS),
    (-9, 0.9, -math.inf, 1, HOLDS), (-9, 1.1, -math.inf, 1, OPEN), (1.1, 2, -math.inf, 1, FAILS),
])  # fmt: skip
def test_a_verdict_turns_where_the_interval_crosses_the_margin(low, high, above, below, said):
    assert verdict(Interval((low + high) / 2, low, high), THREE, above, below) == said


@pytest.mark.parametrize("counts", [(1, 3), (3, 1), (1, 1)])
def test_one_run_leaves_everything_open(counts):
    assert verdict(Interval(50, 49, 51), counts) == ONE_RUN
    assert leans(50) == "for" and leans(-50) == "against" and leans(2, -1, 1) == "against"


def test_what_has_no_number_is_not_measured():
    assert verdict(Interval(math.nan, math.nan, math.nan), THREE) == UNMEASURED


@pytest.mark.parametrize("parts, said", [
    ((HOLDS, HOLDS), HOLDS), ((HOLDS, FAILS), IN_PART), ((HOLDS, OPEN), IN_PART), ((OPEN, FAILS), FAILS),
    ((OPEN, ONE_RUN), ONE_RUN), ((HOLDS, UNMEASURED), UNMEASURED), ((OPEN,), OPEN), ((IN_PART, FAILS), IN_PART),
])  # fmt: skip
def test_a_claim_of_parts_holds_in_part(parts, said):
    assert together(parts) == together(reversed(parts)) == said


def test_a_claim_without_any_part_is_not_measured():
    assert together([]) == UNMEASURED


def test_two_single_runs_differ_by_chance_by_no_more_in_nineteen_cases_of_twenty():
    assert by_chance(Spread(1.0, 4)) == pytest.approx(2.776445 * 2**0.5, rel=1e-6)  # Student's t with 4 degrees
    assert math.isnan(by_chance(Spread(math.nan, 0)))
