"""How numbers are written, and what stands for those that aren't there."""

import math
import operator

import numpy as np
import pytest

from helpers.experiments import Cyclic
from helpers.show import text
from helpers.show.text import (
    MISSING,
    Percent,
    Points,
    counted,
    listed,
    missing,
    percent,
    say,
    share,
    signed,
    source,
)

OPERATIONS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]


@pytest.mark.parametrize("compute", OPERATIONS, ids=lambda each: each.__name__)
def test_what_is_computed_with_missing_is_missing(compute):
    assert compute(MISSING, 2) is MISSING and compute(2.5, MISSING) is MISSING and compute(MISSING, MISSING) is MISSING
    assert compute(np.float64(2), MISSING) is MISSING or len(np.atleast_1d(compute(np.float64(2), MISSING))) == 0


def test_what_is_asked_of_missing_is_missing():
    assert MISSING.row.last("loss")[-1] is MISSING and -MISSING is abs(MISSING) is round(MISSING, 2) is MISSING
    assert MISSING["with"].argmin(of="loss") is MISSING


@pytest.mark.parametrize("spec", ["", ".2f", "+,.3g", ">10", "%"])
def test_missing_is_written_as_a_dash(spec):
    assert format(MISSING, spec) == str(MISSING) == f"{MISSING.a / 3 + 1:.2f}" == "–"


def test_a_schedule_at_a_missing_epoch_is_missing():
    assert divmod(MISSING, 2) == divmod(2, MISSING) == (MISSING, MISSING)
    assert Cyclic(high=0.4).rate(0.1, MISSING / 50) is MISSING


def test_missing_is_false_empty_and_no_number():
    assert not MISSING and list(MISSING) == [] and len(np.asarray(MISSING, dtype=float)) == 0
    assert math.isnan(float(MISSING)) and not MISSING > 0 and not MISSING <= 0


def test_jupyter_is_not_misled():
    assert not hasattr(MISSING, "_repr_html_") and not hasattr(MISSING, "_ipython_display_")


@pytest.mark.parametrize("value", [None, math.nan, np.float64("nan"), MISSING])
def test_no_number_is_a_dash_in_every_form(value):
    assert missing(value)
    assert {text.text(value), percent(value), signed(value)} == {"–"}


def test_numbers_are_written_for_people():
    assert (percent(0.71602), signed(-1.234), signed(2.0, 1)) == ("71.60", "−1.23", "+2.0")
    assert (text.text(0.000123456), text.text(1234), text.text("a")) == ("0.0001235", "1234", "a")
    assert f"{Points(-0.5)} {Points(0.25):.1f} {Percent(0.716)} {Percent(0.716):.0f}" == "−0.50 0.2 71.60 72"
    assert share([True, False, True]) == "67 %" and share([]) == "–"


def test_words_are_listed_and_counted():
    assert [listed("abc"[:n]) for n in range(4)] == ["–", "a", "a and b", "a, b and c"]
    assert (counted(1, "row"), counted(2, "row"), counted(1200, "run")) == ("1 row", "2 rows", "1,200 runs")


def test_say_shows_markdown(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    assert (
        say("""Accuracy is *high*
    and rising.""")
        is None
    )
    assert shown[0].data == "Accuracy is *high*\nand rising."


def test_source_shows_code_as_it_stands(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    source(percent)
    assert shown[0].data.startswith("```python\ndef percent(") and shown[0].data.endswith("```")
