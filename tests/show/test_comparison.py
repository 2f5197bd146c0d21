"""What a table with its records says of its rows, on records made up here with numbers worked out by hand."""

import math

import pytest

from helpers import experiments, records
from helpers.experiments import Table, UnknownName, base, best
from helpers.records import Store
from helpers.show.comparison import Comparison, Report
from helpers.show.text import MISSING
from tests import made

NORM = experiments.SECTIONS["1"]["1.2 batch norm"]
OPTIMIZERS = experiments.SECTIONS["1"]["1.5 optimizer"]


@pytest.fixture
def norm():
    return made.comparison(NORM, {"without": (0.70, 0.71, 0.72), "with": (0.75, 0.77, 0.79)})


@pytest.fixture
def none(tmp_path):
    return Comparison(NORM, Store(tmp_path), "paper")


def test_a_row_has_a_mean_a_spread_and_the_reports_score(norm):
    row = norm["with"]
    assert (row.n, row.failed, f"{row.accuracy}", f"{row.reported}", f"{row.difference}") == (
        3, 0, "77.00 ± 2.00", "71.80", "+5.20")  # fmt: skip


def test_a_gap_has_the_interval_of_the_pooled_spread(norm):
    # Variances 1 and 4, pooled 2.5 with 4 degrees of freedom: 2.776 · √2.5 · √(2/3) = 3.585.
    gain = norm.gap("with", "without")
    assert norm.spread("with") == (pytest.approx(math.sqrt(2.5)), 4)
    assert f"{gain}" == "+6.00 [+2.42, +9.58]" and f"{gain:.1f}" == "+6.0 [+2.4, +9.6]" and float(gain) == 6
    assert (gain.verdict, gain.far, gain.little, gain.no_gain) == ("holds", "open", "does not hold", "does not hold")
    assert (
        f"{gain.reported}" == "+0.20" and f"{gain.seconds:.2f}" == "1.00" and f"{gain.reported_seconds:.2f}" == "1.01"
    )


def test_the_other_way_round_it_does_not_hold(norm):
    loss = norm.gap("without", "with")
    assert (loss.verdict, loss.no_gain, f"{loss.reported}") == ("does not hold", "holds", "−0.20")


def test_one_run_proves_nothing_however_far_it_lies():
    norm = made.comparison(NORM, {"without": (0.30, 0.31, 0.32), "with": (0.79,)})
    assert norm.gap("with", "without").verdict == "open (one run)"
    alone = made.comparison(NORM, {"without": (0.30,), "with": (0.79,)}).gap("with", "without")
    assert alone.verdict == "open (one run)" and f"{alone}" == "+49.00"


def test_rows_that_failed_to_train_stay_out_of_the_spread():
    rows = {"SGD with momentum": (0.76, 0.77, 0.78), "Adam": (0.1, 0.1, 0.1), "RMSprop": (0.1, 0.1, 0.74)}
    found = made.comparison(OPTIMIZERS, rows)
    assert found.spread("Adam", "SGD with momentum") == (pytest.approx(1), 2)
    assert f"{found['Adam'].accuracy}" == "10.00 (failed to train)" and not found["Adam"].learned
    assert f"{found['RMSprop'].accuracy}" == "74.00 (2 of 3 failed to train)" and found["RMSprop"].failed == 2
    assert found.gap("SGD with momentum", "Adam").verdict == "holds"
    assert found.gap("SGD with momentum", "RMSprop").verdict == "open (one run)"


@pytest.mark.parametrize("a, b, other", [
    (base, best, experiments.vgg_bn),
    (experiments.mnist_sgd, experiments.mnist_warm, experiments.scratch),  # 30, 30 and 60 epochs
], ids=["network", "length"])  # fmt: skip
def test_the_spread_is_pooled_over_rows_of_one_network_and_length(a, b, other):
    table = Table("1", "mixed", {"a": a, "b": b, "other": other})
    found = made.comparison(table, {"a": (0.7, 0.72), "b": (0.7, 0.72), "other": (0.5, 0.9)})
    assert found.spread("a", "b") == (pytest.approx(math.sqrt(2)), 2)
    assert found.spread("a", "other").freedom == 3


def test_a_run_that_stands_in_two_rows_counts_once():
    table = Table("1", "twice", {"a": base, "b": base, "c": best})
    assert made.comparison(table, {"a": (0.7, 0.72), "c": (0.7, 0.72)}).spread("a").freedom == 2


def test_the_reports_run_is_held_against_where_one_more_of_ours_would_end(norm):
    # √2.5 · 2.776 · √(4/3) = 5.07 around 77.
    found = norm.expected("with")
    assert found.value == pytest.approx(77) and 71.8 not in found and 72 in found


def test_curves_are_means_over_the_seeds_that_learned():
    found = made.comparison(OPTIMIZERS, {"Adam": (0.6, 0.8, 0.1)})["Adam"]
    assert found.curve("validation_accuracy") == pytest.approx([0.3, 0.7])
    assert found.last("validation_accuracy") == pytest.approx(0.7) and found.at("train_loss", 1) == 2
    assert (found.argmin("train_loss"), found.argmax("train_loss")) == (2, 1)
    assert found.reaches("validation_accuracy", 0.65) == [3, 2]


def test_silent_channels_are_those_of_the_worst_layer():
    row = made.comparison(OPTIMIZERS, {"Adam": (0.6, 0.8)})["Adam"]
    row.series = [{"silent": [0.1, 0.3]}, {"silent": [0.5, 0.0]}, {}]
    assert row.silent == pytest.approx(0.4)
    row.series = [{}]
    assert row.silent is MISSING


def test_the_first_steps_of_two_rows_are_compared(norm):
    assert norm.apart("with", "without") == 0


def test_the_best_row_is_chosen_on_the_validation_set(norm):
    assert norm.best.label == "with"


def test_it_shows_itself_as_a_table_with_its_records_folded(norm):
    page, print_ = norm._repr_html_(), norm._repr_markdown_()
    assert "Batch norm: test accuracy after 50 epochs" in page and "Batch norm: test accuracy" in print_
    assert "77.00 ± 2.00" in page and "| with | 77.00 ± 2.00 | 71.80 | +5.20 | 3 |" in print_
    assert page.count("<a href=") == 6 and "<summary>records</summary>" in page and "href" not in print_
    assert norm["with"][0].run.digest[:7] in norm.records() and norm.records().startswith("\n\n<details>")


def test_a_table_that_the_report_has_no_score_for_has_no_column_of_them():
    found = made.comparison(experiments.SECTIONS["1"]["precision"], {"as timed": (0.7,)})
    assert list(found.grid().frame) == ["", "ours (%)", "n"]


def test_what_is_missing_is_a_dash_and_the_caption_says_what_to_run(none):
    assert "| with | – | 71.80 | – | 0 |" in none._repr_markdown_()
    assert 'python -m helpers run --table "1.2 batch norm"' in none.caption and "2 rows" in none.caption
    gain, row = none.gap("with", "without"), none["with"]
    assert f"{gain} {gain.reported} {gain.verdict} {row.accuracy} {row.last('train_loss'):.2f}" == "– – – – –"
    assert none.apart("with", "without") is MISSING
    assert row.argmin("train_loss") is MISSING and none.expected("with") is MISSING and none.best is MISSING
    assert row.arrays["filters"] is MISSING and "no record yet" in none.records() + none.seconds().caption
    assert none.curves("accuracy").axes[0].texts


def test_a_missing_seed_is_said_and_another_budget_named():
    found = made.comparison(NORM, {"without": (0.7, 0.7, 0.7), "with": (0.7,)}, "laptop")
    assert "1 row" in found.caption and found.caption.endswith('"1.2 batch norm" --budget laptop')
    assert "after 10 epochs" in found.caption


def test_a_row_that_diverged_failed_to_train():
    found = made.comparison(NORM, {"without": (None,)})
    assert "| without | failed to train | 71.60 | – | 1 |" in found._repr_markdown_()


def test_a_label_that_does_not_exist_is_refused(norm):
    with pytest.raises(UnknownName, match="did you mean 'without'"):
        norm["witout"]


def test_seconds_stand_in_a_table_of_their_own(norm):
    assert norm.seconds().frame.values.tolist() == [["without", "10", "9.9"], ["with", "10", "9.9"]]


def test_a_report_has_every_table_by_its_title(tmp_path):
    report = Report(Store(tmp_path))
    assert report["1.9 momentum"].table is experiments.SECTIONS["1.9"]["momentum"]
    assert report["1.2 batch norm"] is report["1.2 batch norm"] and report.budget == "paper"
    assert list(report.section("2"))[0] == "2.1 accuracy" and len(report) == len(list(report))
    with pytest.raises(UnknownName, match="1.2 batch norm"):
        report["1.2 batch nrm"]


def test_a_report_compares_runs_that_share_no_table(tmp_path):
    pair = Report(Store(tmp_path)).compare("best against base", best=best, base=base)
    assert list(pair) == ["best", "base"] and pair.gap("best", "base") is MISSING


@pytest.mark.parametrize("asked, shown", [("", "paper"), ("laptop", "laptop"), ("smoke", "smoke")])
def test_the_budget_is_that_of_the_environment(monkeypatch, asked, shown):
    monkeypatch.setenv("REPORT_BUDGET", asked)
    assert records.shown_budget() == shown


def test_a_budget_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("REPORT_BUDGET", "papers")
    with pytest.raises(UnknownName, match="papers"):
        records.shown_budget()
