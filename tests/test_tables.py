"""Tables and verdicts, on records made up here with numbers worked out by hand."""

import math

import pytest

from helpers import experiments, records, tables
from helpers.records import Record, Score, Selection

FIRST, SECOND = experiments.SECTION_1["1.2 batch norm"].values()


def record(run, accuracy, *, validation=None, seconds=(10.0, 10.0), parameters=1000):
    history = {
        "train_loss": [2.0, 1.0], "train_accuracy": [0.4, 0.6], "validation_loss": [2.0, 1.0],
        "validation_accuracy": [0.3, accuracy if validation is None else validation], "seconds": list(seconds),
    }  # fmt: skip
    return Record(
        run=run, state="diverged" if accuracy is None else "done", diverged_at=1234 if accuracy is None else None,
        test=None if accuracy is None else Score(loss=1.0, accuracy=accuracy), history=history, parameters=parameters,
        seconds_per_epoch=seconds[0], fingerprint=[2.3], weights="", engine={}, machine={}, revision="",
    )  # fmt: skip


def laptop(run, seed=0):
    return experiments.replace(experiments.at(run, "laptop"), seed=seed)


def selection(rows, larger=None):
    return Selection("laptop", rows, [label for label, found in rows.items() if not found], larger or {})


@pytest.fixture
def pair():
    return selection({
        "without": [record(laptop(FIRST), 0.70)],
        "with": [record(laptop(SECOND, seed), accuracy) for seed, accuracy in enumerate((0.71, 0.73))],
    })  # fmt: skip


def test_a_row_stands_beside_the_reports(pair):
    table = tables.compare("1", "1.2 batch norm", pair)
    first, second = table.frame.to_dict("records")
    assert (first["accuracy"], first["reported"], first["n"]) == (0.70, 0.716, 1)
    assert first["difference"] == pytest.approx(-1.6)
    # mean of .71 and .73; their standard deviation is .02/√2
    assert (second["accuracy"], second["n"]) == (pytest.approx(0.72), 2)
    assert second["std"] == pytest.approx(0.02 / math.sqrt(2))
    assert "72.00 ± 1.41" in repr(table) and "−1.60" in repr(table) and "+0.20" in repr(table)
    assert first["seconds"] == 10 and second["reported_seconds"] == pytest.approx(496.68 / 50)
    assert pair["with"][0].run.name in repr(table)


def test_both_forms_hold_the_same_cells_and_caption(pair):
    table = tables.compare("1", "1.2 batch norm", pair)
    html, markdown = table._repr_html_(), table._repr_markdown_()
    for text in ("Batch norm. Budget laptop, 10 epochs.", "72.00 ± 1.41", "report (%)", pair["without"][0].run.name):
        assert text in html and text in markdown


def test_what_is_missing_diverged_or_larger_is_named():
    rows = {"without": [record(laptop(FIRST), None)], "with": []}
    larger = {"paper": {"without": [record(FIRST, 0.75)], "with": []}}
    table = tables.compare("1", "1.2 batch norm", selection(rows, larger))
    assert "diverged at step 1,234" in repr(table)
    assert "no record yet of 1 of 2 rows; paper: 1 of 2 rows" in table.caption
    assert "paper (%)" in repr(table) and "75.00" in repr(table)


def test_markup_in_a_cell_stays_text():
    html = tables.Table(tables.pd.DataFrame({"a": ["<b>|"]}), "x < y")._repr_html_()
    assert "<b>" not in html and "x &lt; y" in html
    assert "\\|" in tables.Table(tables.pd.DataFrame({"a": ["<b>|"]}), "x")._repr_markdown_()


def test_noise_is_the_gap_of_a_pair_over_root_two_or_the_pooled_spread_of_seeds_if_larger(pair):
    same = {"a": [record(laptop(FIRST), 0.70)], "b": [record(laptop(SECOND), 0.71)]}
    assert tables.noise(same) == pytest.approx(1 / math.sqrt(2))
    assert tables.noise(same, pair) == pytest.approx(2 / math.sqrt(2))  # .71 and .73
    assert math.isnan(tables.noise({"a": [], "b": []}))


@pytest.mark.parametrize(
    "sigma, verdict",
    # The gap is 2 points over 1 and 2 runs: noise is 2·σ·√(1 + 1/2) = 2.449 σ.
    [(0.8, "holds"), (0.82, "within noise"), (math.nan, "not measured yet")],
)
def test_a_verdict_needs_a_gap_of_two_standard_deviations(pair, sigma, verdict):
    assert tables.gap(pair, "with", "without") == pytest.approx(2)
    assert tables.verdict(pair, "with", "without", sigma) == verdict
    assert tables.verdict(pair, "without", "with", sigma) == verdict.replace("holds", "does not hold")


def test_no_verdict_without_a_record():
    rows = selection({"without": [], "with": [record(laptop(SECOND), 0.7)]})
    assert tables.verdict(rows, "with", "without", 1.0) == "not measured yet"
    assert tables.points(tables.gap(rows, "with", "without")) == "an unknown number of points"


def test_the_best_row_is_chosen_on_the_validation_set():
    rows = selection({"a": [record(laptop(FIRST), 0.9, validation=0.5)],
                      "b": [record(laptop(SECOND), 0.1, validation=0.6)]})  # fmt: skip
    assert tables.best_row(rows) == "b"
    assert tables.best_row(selection({"a": []})) is None


def test_each_run_counts_once_among_all_rows(pair):
    frame = tables.all_rows("1", {"one": pair, "two": pair})
    assert list(frame["row"]) == ["without", "with"] and set(frame["table"]) == {"one"}


def test_means_by_learning_rate_and_the_jump_where_it_drops():
    cyclic = experiments.replace(experiments.cyclic, epochs=4)
    values = [cyclic.rate(step / 1000) for step in range(1000)]
    low, high = tables.by_rate(record(cyclic, 0.7), values)
    # A triangle spends its time evenly between 0.01 and 0.04: the outer quarters average 0.01375 and 0.03625.
    assert (low, high) == (pytest.approx(0.01375, rel=0.02), pytest.approx(0.03625, rel=0.02))
    assert tables.jump(record(laptop(FIRST), 0.7).model_copy(update={"history": {
        "validation_accuracy": [0.1, 0.2, 0.3, 0.32, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]}}), 0.4) == (
        pytest.approx(18), pytest.approx(2))  # fmt: skip


def test_confused_pairs_come_most_frequent_first():
    table = tables.confused_pairs([[8, 2, 0], [1, 5, 4], [0, 0, 10]], "abc", count=2)
    assert table.frame.values.tolist() == [["b", "c", 4, 40.0], ["a", "b", 2, 20.0]]


def test_mean_and_spread_leave_out_what_is_not_there():
    assert records.mean([1.0, None, 3.0]) == 2 and records.mean([None]) is None
    assert records.std([1.0]) is None
