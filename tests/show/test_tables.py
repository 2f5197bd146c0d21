"""Tables, on records made up here with numbers worked out by hand."""

import math

import pytest

from helpers import experiments
from helpers.records import Selection
from helpers.show import tables
from tests.made import FIRST, laptop, record, selection


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
    assert pair["with"][0].run.digest[:7] in repr(table)


def test_reported_seconds_are_shared_among_the_epochs_of_the_row():
    """VGG-A has twenty where the networks of section 1 have fifty."""
    rows = {"VGG-A": [record(laptop(experiments.vgg), 0.7)]}
    frame = tables.compare("2", "2.1 accuracy", selection(rows)).frame
    assert frame["reported_seconds"].tolist() == [tables.reported("2", "2.1 accuracy", "VGG-A").seconds / 20]


def test_both_forms_hold_the_same_cells_and_caption(pair):
    table = tables.compare("1", "1.2 batch norm", pair)
    html, markdown = table._repr_html_(), table._repr_markdown_()
    for text in (
        "Batch norm. Budget laptop, 10 epochs.",
        "72.00 ± 1.41",
        "report (%)",
        pair["without"][0].run.digest[:7],
    ):
        assert text in html and text in markdown


def test_what_is_missing_diverged_or_larger_is_named():
    rows = {"without": [record(laptop(FIRST), None)], "with": []}
    larger = {"paper": {"without": [record(FIRST, 0.75)], "with": []}}
    table = tables.compare("1", "1.2 batch norm", selection(rows, larger))
    assert "diverged at step 1,234" in repr(table)
    assert "no record yet of 1 of 2 rows; paper: 1 of 2 rows" in table.caption
    assert "paper (%)" in repr(table) and "75.00" in repr(table)


def test_a_row_of_which_some_seeds_are_missing_is_not_one_without_a_record():
    rows = {"without": [record(laptop(FIRST), 0.7)], "with": []}
    chosen = Selection("laptop", rows, ["without", "with"], {})
    words = tables.provenance(chosen)
    assert "no record yet of 1 of 2 rows; fewer seeds so far than declared in 1 of 2 rows" in words


def test_markup_in_a_cell_stays_text():
    html = tables.Table(tables.pd.DataFrame({"a": ["<b>|"]}), "x < y")._repr_html_()
    assert "<b>" not in html and "x &lt; y" in html
    assert "\\|" in tables.Table(tables.pd.DataFrame({"a": ["<b>|"]}), "x")._repr_markdown_()


def test_an_origin_links_each_record_once_and_says_what_made_it(pair):
    with_one, *_ = pair["with"]
    said = tables.origin(pair, pair["with"])
    for found in pair.values():
        for each in found:
            assert said.count(f"[{each.run.digest[:7]}](../results/{each.run.name}.json)") == 1
    assert said.endswith("; budget laptop, 10 epochs, n = 1–2.*")
    made = with_one.model_copy(update={"revision": "0123456789ab"})
    assert tables.origin([made]).endswith("; budget laptop, 10 epochs, revision 0123456, n = 1.*")
    both = made.model_copy(update={"revision": "0123456789ab, fedcba9876+"})  # begun by one, ended by another
    assert tables.origin([both]).endswith("revisions 0123456 and fedcba9+, n = 1.*")
    assert tables.origin({"a": []}) == "*Source: no record yet.*"


def test_a_caption_names_precisions_and_revisions():
    made = [("b" * 12, "float32"), ("a" * 12, "bfloat16"), ("b" * 12, "float32")]
    rows = {str(i): [record(laptop(FIRST, i), 0.7).model_copy(update={"revision": name, "engine": {"precision": how}})]
            for i, (name, how) in enumerate(made)}  # fmt: skip
    said = "Budget laptop, 10 epochs, bfloat16 and float32, revisions aaaaaaa and bbbbbbb."
    assert tables.provenance(selection(rows)) == said


def test_words_are_listed_as_in_a_sentence():
    assert [tables.listed("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert tables.listed(["30", "60"], "or") == "30 or 60"
    assert tables.listed([]) == "–"


def test_a_row_leads_to_the_records_of_all_its_seeds(pair):
    cell = tables.links(pair["with"])
    first, second = (each.run for each in pair["with"])
    assert str(cell) == f"{first.digest[:7]} +1"
    assert [words for words, _ in cell.pairs] == [first.digest[:7], "+1"]
    assert [to for _, to in cell.pairs] == [f"../results/{run.name}.json" for run in (first, second)]
    assert tables.links([]) == tables.sources([]) == tables.DASH
    assert str(tables.sources(pair["with"])) == "2"


def test_seven_digits_tell_all_declared_runs_apart():
    runs = {
        run.digest for row in experiments.rows() for budget in experiments.BUDGETS
        for run in experiments.replicas(row.run, budget)
    }  # fmt: skip
    assert len({digest[: tables.SHOWN_DIGITS] for digest in runs}) == len(runs)


def test_a_link_stays_out_of_print_and_is_escaped(pair):
    cell = tables.Links((("<a>", 'x"y'),), "printed")
    table = tables.Table(tables.pd.DataFrame({"a": ["b"]}), "c", tables.pd.DataFrame({"a": tables.cells([cell])}))
    assert '<a href="x&quot;y">&lt;a&gt;</a>' in table._repr_html_()
    assert "| printed |" in table._repr_markdown_() and "printed" in repr(table)


def test_two_hyphens_stay_two_in_print_and_a_sentence_gets_room():
    table = tables.Table(tables.pd.DataFrame({"a": ["run --row 0.3, which is one long command"]}), "c")
    assert (
        "run \\-\\-row" in table._repr_markdown_()
        and '<td style="text-align: left" class="words">run --row' in table._repr_html_()
    )


def test_a_table_that_the_report_lacks_has_no_column_for_it():
    rows = {label: [record(laptop(run), 0.7)] for label, run in experiments.SECTION_1["precision"].items()}
    shown = repr(tables.compare("1", "precision", selection(rows)))
    assert "ours (%)" in shown and "report" not in shown and "difference" not in shown
