"""The report at a glance, on records made up here with numbers worked out by hand."""

import json

import pytest

from helpers import experiments
from helpers.records import ROOT
from helpers.show import overview
from tests.show.test_claims import fill, record, rest


@pytest.fixture
def some(store):
    """The rows of one table of section 1, three seeds each, at 10 epochs of 10 s."""
    fill(store, rest("Batch norm costs"), {"with": 0.75, "without": 0.70})
    return store


def headline(store, table):
    found = overview.headlines(overview.selections(store))
    return next(each for each in found if each.table == table)


def test_a_headline_is_the_row_with_the_reports_highest_score(some):
    row = headline(some, "1.3 dropout after each conv")
    assert (row.row, row.accuracy, row.difference) == ("0.3", None, None)
    row = headline(some, "1.2 batch norm")
    assert (row.row, row.accuracy, len(row.found)) == ("with", pytest.approx(0.75), 3)
    assert row.difference == pytest.approx(75 - 71.8)


def test_a_table_of_ours_shows_its_best_on_validation(store):
    fill(store, rest("Other"), {"tanh": 0.9, "ReLU": 0.8})
    assert headline(store, "other activations and losses").row == "tanh"


def test_a_table_meant_for_one_row_shows_it(store):
    assert all(row in experiments.SECTIONS[section][table] for (section, table), row in overview.MEANT.items())
    fill(store, rest("DessiLBI ends slightly"), {})
    assert headline(store, "winning ticket").row == "early support"


def test_every_table_is_found_in_a_notebook():
    places = overview.homes(ROOT / "notebooks")
    tables = {(section, table) for section, named in experiments.SECTIONS.items() for table in named
              if section != "readings"}  # fmt: skip
    assert tables == set(places)
    for name, _, label in (place.partition("#") for place in places.values()):
        cells = json.loads((ROOT / "notebooks" / name).read_text())["cells"]
        assert label in [cell["metadata"].get("label") for cell in cells]


def test_the_headline_table_leads_to_notebook_and_record(some):
    page = overview.headline_table(overview.headlines(overview.selections(some)))._repr_html_()
    assert '<a href="01_basic_network.ipynb#tab-batch-norm">1.2 batch norm</a>' in page
    assert "75.00 ± 0.00" in page and page.count(".json") == 3  # one a seed


def test_a_longer_run_of_a_headline_row_stands_beside_it(some):
    assert "paper (%)" not in overview.headline_table(overview.headlines(overview.selections(some)))._repr_html_()
    some.write(record(experiments.base, 0.8))
    selected = overview.selections(some)
    table = overview.headline_table(overview.headlines(selected))
    assert (
        "| with | 75.00 ± 0.00 | 80.00 | 71.80 | +3.20 |" in table.grid() and "a longer run of a row" in table.caption
    )
    frame = overview.all_rows(selected).set_index("row")
    assert frame.loc["with", "accuracy"] == 0.8 and not frame.loc["with", "shorter"] and frame.loc["without", "shorter"]


def test_progress_counts_rows_runs_and_hours(some):
    frame = overview.progress(some).set_index(["section", "budget"])
    section = frame.loc[("1", "laptop")]
    assert section["runs done"] == 6 and section["hours"] == pytest.approx(6 * 100 / 3600)
    assert section["rows done"] == 3  # with, without, and dropout 0, which is the first again
    exact = len(experiments.replicas(experiments.in_float32, "laptop"))  # the seeds in float32, which take longer
    left = section["runs"] - 6 - exact + experiments.IN_FLOAT32 * exact
    assert section["hours left"] == pytest.approx(left * 10 * experiments.SECONDS_PER_EPOCH["MyNet"] / 3600)
    assert frame.loc[("1.9", "paper"), "runs done"] == 0


def test_all_rows_are_those_that_both_have(some):
    frame = overview.all_rows(overview.selections(some))
    assert frame[["row", "accuracy", "reported"]].values.tolist() == [
        ["without", pytest.approx(0.7), 0.716], ["with", pytest.approx(0.75), 0.718],
    ]  # fmt: skip
    assert frame["difference"].tolist() == pytest.approx([-1.6, 3.2])
    assert overview.median_differences(frame) == "section 1 +0.80 (of 2)"
    assert len(overview.all_rows({})) == 0 and overview.median_differences(overview.all_rows({})) == "no row yet"


def test_the_extremes_are_by_distance(some):
    found = overview.headlines(overview.selections(some))
    assert [each.row for each in overview.extremes(found)] == ["with", "with"] and overview.extremes([]) == []


def test_the_readme_leaves_out_what_has_no_record_and_says_so(some):
    results = overview.blocks(some)["results"]
    place = "notebooks/01_basic_network.ipynb#tab-batch-norm"
    assert f"| [1.2 batch norm]({place}) | with | 75.00 ± 0.00 | 71.80 | +3.20 | 3 | laptop | [" in results
    assert results.count("](results/MyNet-") == 3 and "1.9 final" in results.split("No record yet")[1]


def test_the_readme_shows_the_sparse_networks_after_what_is_stated(some):
    head, _, report, authors, *ours = overview.blocks(some)["sparse"].splitlines()
    assert "90\N{NO-BREAK SPACE}% pruned" in head
    assert report.startswith("| the report | 97.06 | 89.25 | – | – |") and "98.61 | 98.55 | 97.85 | 93.40" in authors
    assert len(ours) == 6 and [line.split(" | ")[0] for line in ours][-2:] == [
        "| DessiLBI, 200 epochs", "| DessiLBI, κ 60, ν 4, decay, pretrained",
    ]  # fmt: skip
