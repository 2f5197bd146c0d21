"""The report at a glance, on records made up here with numbers worked out by hand."""

import itertools
import json

import pandas as pd
import pytest

from helpers import experiments
from helpers.experiments import SECTIONS
from helpers.records import ROOT
from helpers.show import overview
from helpers.show.comparison import Report
from helpers.show.text import MISSING
from tests import made

NORM = SECTIONS["1"]["1.2 batch norm"]


def report(rows, scores):
    """A report with three seeds of some rows; `scores` by label."""
    found = [made.record(experiments.reseed(run, seed), scores[label], seconds=(10.0,) * run.epochs)
             for label, run in rows.items() if label in scores for seed in range(3)]  # fmt: skip
    return Report(made.Kept(*found), "paper")


@pytest.fixture
def some():
    return report(NORM, {"with": 0.75, "without": 0.70})


def test_readings_are_no_part_of_the_overview(some):
    assert "readings" not in {rows.table.section for rows in overview.shown(some)}
    assert list(overview.progress(some)["section"]) == ["1", "1.9", "2", "3.1", "3.2"]


def test_every_table_stands_where_it_says():
    for rows in overview.shown(Report(made.Kept())):
        text = (ROOT / "notebooks" / f"{rows.table.notebook}.ipynb").read_text(encoding="utf-8")
        labels = [cell["metadata"].get("label") for cell in json.loads(text)["cells"]]
        assert labels.count(rows.table.anchor) == 1, rows.table.title


def test_progress_counts_rows_runs_and_hours(some):
    section = overview.progress(some).set_index("section").loc["1"]
    assert section["runs done"] == 6 and section["rows done"] == 3  # dropout 0 is "with" again
    assert section["hours"] == pytest.approx(6 * 10 * 50 / 3600)
    exact = len(experiments.replicas(experiments.in_float32, "paper"))  # the seeds in float32, which take longer
    left = section["runs"] - 6 - exact + experiments.IN_FLOAT32 * exact
    assert section["hours left"] == pytest.approx(left * 50 * experiments.SECONDS_PER_EPOCH["MyNet"] / 3600)


def test_all_rows_are_those_that_both_have(some):
    frame = overview.all_rows(some)
    assert frame[["row", "accuracy", "reported"]].values.tolist() == [
        ["without", pytest.approx(0.7), 0.716], ["with", pytest.approx(0.75), 0.718],
    ]  # fmt: skip
    assert frame["difference"].tolist() == pytest.approx([-1.6, 3.2]) and not frame["expected"].any()
    assert overview.median_differences(frame) == "section 1 +0.80 (of 2)"
    none = overview.all_rows(Report(made.Kept()))
    assert len(none) == 0 and overview.median_differences(none) == "no row yet"


def test_a_reported_score_within_the_seeds_is_expected():
    found = [
        made.record(experiments.reseed(NORM["with"], seed), score) for seed, score in enumerate((0.71, 0.72, 0.73))
    ]
    assert overview.all_rows(Report(made.Kept(*found), "paper"))["expected"].tolist() == [True]


def test_a_run_that_stands_in_two_tables_counts_once(some):
    rows = overview.all_rows(some)
    shown = [row.first.run for table in overview.shown(some) for row in table.values() if row.difference is not MISSING]
    assert len(rows) == len(set(shown)) < len(shown)


AGAINST = ["section", "table", "row", "accuracy", "reported"]


def drawn(scores):
    rows = pd.DataFrame(scores, columns=AGAINST)
    return overview.against_report(rows.assign(difference=100 * (rows["accuracy"] - rows["reported"]))).axes[0]


def test_rows_against_the_reports_name_what_is_far_off():
    ax = drawn([("1", "1.2 t", "near", 0.75, 0.76), ("1", "1.2 t", "far", 0.7, 0.8), ("1", "1.2 t", "high", 0.9, 0.8),
                ("1", "1.2 batch norm", "without", 0.6, 0.8), ("2", "2 t", "dead", 0.1, 0.7)])  # fmt: skip
    names = {text.get_text(): text for text in ax.texts}
    assert set(names) == {"dead: 10.0 ↓", "far", "high", "without (batch norm)"}
    assert names["high"].get_position()[0] < 80 < names["far"].get_position()[0]  # away from the diagonal
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1", "2", "as reported"]


def test_names_of_rows_side_by_side_do_not_overlap():
    ax = drawn([("1", "t", "cyclic", 0.81, 0.9), ("1", "t", "final", 0.815, 0.91), ("1", "t", "one", 0.1, 0.7),
                ("1", "t", "other", 0.1, 0.71)])  # fmt: skip
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 4 and not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))
