"""How candidates of a reading compare, on records made up here with numbers worked out by hand."""

import numpy as np
import pytest

from helpers import experiments
from helpers.experiments import PRUNED, REPORTED_PRUNED, SECTION_READINGS
from helpers.show import candidates
from helpers.show.comparison import Comparison, Report
from helpers.show.support import CONV3
from helpers.show.text import MISSING
from tests import made

BASIC, RATES = SECTION_READINGS["MyNet's rate"], SECTION_READINGS["DessiLBI's rate"]
CHOSEN = f"{RATES.reading.chosen}: DessiLBI"


def test_the_distance_is_over_the_columns_that_all_candidates_have():
    found = made.comparison(BASIC, {
        "as stated: no batch norm": [0.746], "as stated: tanh": [0.5368], "as stated: Adam": [0.1],
        "0.01: no batch norm": [0.716], "0.01: tanh": [0.5868],
    })  # fmt: skip
    frame = candidates.candidates(found).frame
    # Off by 3 and −4 points, and by 0 and 1; Adam, which one candidate alone has, doesn't count.
    assert frame["distance (points)"].tolist() == ["3.5", "0.7"]
    assert frame["no batch norm (71.60)"].tolist() == ["74.60 (+3.00)", "71.60 (+0.00)"]
    assert frame["Adam (70.77)"].tolist() == ["10.00 (failed to train) (−60.77)", "–"]


def test_one_column_in_common_needs_no_distance():
    found = made.comparison(BASIC, {"as stated: tanh": [0.5], "as stated: Adam": [0.7], "0.01: tanh": [0.6]})
    table = candidates.candidates(found)
    assert "distance (points)" not in table.frame and "distance" not in table.caption
    assert table.caption.endswith(f"Chosen: {BASIC.reading.chosen}.")


def test_what_the_report_tells_of_a_runs_end_stands_above_each_candidates():
    table = SECTION_READINGS["MyResNet9's cycle"]
    runs = {name: table[f"{name}: final"] for name in ("as stated", "ends at the low rate")}
    found = [made.record(runs["as stated"], 0.87, validation=0.88, seconds=(1.0,) * 50),
             made.record(experiments.reseed(runs["as stated"], 1), 0.89, validation=0.90, seconds=(1.0,) * 50),
             made.record(runs["ends at the low rate"], None)]  # fmt: skip
    steps = {"step_loss": np.array([9.0] * 50 + [0.1, 0.3] * 50)}
    ours = Comparison(table, made.Kept(*(each.model_copy(update={"files": {"series": "x"}}) for each in found),
                                       beside={each.run: (steps, {}) for each in found}), "paper")  # fmt: skip
    report, line = candidates.ends(ours, "final").frame.to_dict("records")
    assert list(report.values()) == ["the report", "91.58", "91.31", "0.314", "0.010", "–"]
    # Validation accuracy is 30 % up to the last epoch, so that its range is 58 and 60 points.
    assert list(line.values()) == ["as stated", "88.00", "89.00", "1.000", "0.200", "59.0"]


def test_without_records_a_runs_end_is_the_reports_alone():
    assert len(candidates.ends(made.comparison(BASIC, {}), "best model").frame) == 1


def pruned(*more: float) -> Comparison:
    """The chosen candidate with two seeds, whose scores lie these many points above the report's."""
    found, beside = [], {}
    for seed, points in enumerate(more):
        run = experiments.reseed(RATES[CHOSEN], seed)
        found.append(made.record(run, 0.97))
        arrays = {f"path_{CONV3}": np.array([[0.0, 0, 0], [0, 1, 2]]), "path_step": np.array([0, 9])}
        for name, layers in (("conv3", "conv3"), ("conv3 + fc1", "conv3_fc1")):
            stated = REPORTED_PRUNED[name]
            scores = [stated.get(share, 0.5) + points / 100 for share in PRUNED]
            arrays[f"pruned_support_{layers}_test"] = np.array(scores)
        beside[run] = arrays, {}
    return Comparison(RATES, made.Kept(*found, beside=beside), "paper")


def test_pruned_scores_stand_beside_the_reports_with_their_distance_and_the_support():
    report, ours = candidates.pruned(pruned(1, 3)).frame.to_dict("records")
    assert (report["candidate"], report["0\N{NO-BREAK SPACE}%"], report["distance (points)"]) == (
        "the report", "97.06", "–",
    )  # fmt: skip
    assert (ours["60\N{NO-BREAK SPACE}%"], ours["distance (points)"], ours["support (filters)"]) == (
        "91.25",
        "2.0",
        "2",
    )


def test_each_seed_has_a_distance_and_the_farthest_mean_is_told():
    assert candidates.distances(pruned(1, 3)) == pytest.approx([1, 3], abs=1e-3)
    assert candidates.farthest(pruned(1, 3)) == pytest.approx(2, abs=1e-3)
    nothing = Comparison(RATES, made.Kept(), "paper")
    assert candidates.distances(nothing) == [] and candidates.farthest(nothing) is MISSING
    assert len(candidates.candidates(nothing).frame) == 0


def test_rows_near_the_report_are_counted_once_and_the_others_named():
    norm, dropout = experiments.SECTION_1["1.2 batch norm"], experiments.SECTION_1["1.3 dropout after each conv"]
    assert norm["with"] == dropout["0"]
    report = Report(made.Kept(made.record(norm["with"], 0.72), made.record(norm["without"], 0.6)), "paper")
    assert candidates.met(report) == (1, 2)
    assert candidates.unexplained(report).frame["row"].tolist() == ["without"]


def test_a_candidates_rows_differ_from_the_reports_in_points():
    found = made.comparison(BASIC, {"as stated: tanh": [0.5], "0.01: tanh": [0.5868], "0.01: Adam": [0.7]})
    assert candidates.differences(found, "0.01") == pytest.approx({"tanh": 1, "Adam": -0.77})
