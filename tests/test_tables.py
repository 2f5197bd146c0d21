"""Tables and verdicts, on records made up here with numbers worked out by hand."""

import math

import numpy as np
import pytest

from helpers import experiments, records, tables
from helpers.experiments import Run
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
    assert pair["with"][0].run.digest[:7] in repr(table)


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
    assert tables.points(tables.gap(rows, "with", "without")) == tables.distance(None) == "–"


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


def test_an_origin_links_each_record_once_and_says_what_made_it(pair):
    with_one, *_ = pair["with"]
    said = tables.origin(pair, pair["with"])
    for found in pair.values():
        for each in found:
            assert said.count(f"[{each.run.digest[:7]}](../results/{each.run.name}.json)") == 1
    assert said.endswith("; budget laptop, 10 epochs, n = 1–2.*")
    made = with_one.model_copy(update={"revision": "0123456789ab"})
    assert tables.origin([made]).endswith("; budget laptop, 10 epochs, revision 0123456, n = 1.*")
    assert tables.origin({"a": []}) == "*Source: no record yet.*"


def test_accuracy_by_rate_bears_counts_kept_as_bytes():
    cyclic = experiments.replace(experiments.cyclic, epochs=4)
    right = np.array([48 if cyclic.rate(step / 1000) < 0.025 else 32 for step in range(1000)], dtype="uint8")
    assert tables.accuracy_by_rate(record(cyclic, 0.7), {"step_correct": right}) == (75, 50)


def test_a_caption_names_the_revisions():
    rows = {str(i): [record(laptop(FIRST, i), 0.7).model_copy(update={"revision": name})]
            for i, name in enumerate(("b" * 12, "a" * 12, "b" * 12))}  # fmt: skip
    assert tables.provenance(selection(rows)) == "Budget laptop, 10 epochs, revisions aaaaaaa and bbbbbbb."


def test_epochs_with_validation_above_training():
    some = record(laptop(FIRST), 0.7)  # training 0.4 and 0.6, validation 0.3 and 0.7
    assert tables.above(some) == (1, 2)


def test_a_row_after_an_epoch_is_the_mean_of_what_learned():
    seeds = [record(laptop(FIRST, seed), score, validation=score) for seed, score in enumerate((0.6, 0.8, 0.1))]
    assert tables.after(seeds, -1) == pytest.approx(0.7) and tables.after(seeds, 1) == pytest.approx(0.3)
    assert tables.after(seeds, 3) is None and tables.after([], 1) is None


def test_first_steps_apart_is_the_largest_difference():
    made = record(laptop(FIRST), 0.7)
    other = made.model_copy(update={"fingerprint": [2.25]})
    assert tables.first_steps_apart({"a": [made], "b": [other]}) == pytest.approx(0.05)
    assert math.isnan(tables.first_steps_apart({"a": [made], "b": []}))


def test_the_bar_is_two_standard_deviations_of_a_difference():
    assert tables.bar(0.5) == pytest.approx(2 * 0.5 * math.sqrt(2))
    assert tables.bar(0.5, (1, 2)) == pytest.approx(math.sqrt(1.5))


def test_mean_and_spread_leave_out_what_is_not_there():
    assert records.mean([1.0, None, 3.0]) == 2 and records.mean([None]) is None
    assert records.std([1.0]) is None


# ------------------------------------------------------------------------------------------ batch norm


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


def test_a_band_spans_the_runs_and_names_what_is_short_or_has_holes(rates, store):
    band = tables.band(rates, store, "x")
    assert band.at.tolist() == list(range(10)) and (band.steps, band.measured, band.runs) == (10, 3, 3)
    assert band.low.tolist() == [1] * 10 and band.high.tolist() == [3, 3, 2, 3, 3, 3, 2, 2, 2, 2]
    assert band.notes == ("c ends at step 6 of 10",)
    rates["c"] = kept(store, vgg(3e-3), x=[3.0, math.nan, math.inf] + [3] * 7)
    band = tables.band(rates, store, "x")
    assert band.high.tolist() == [3, 2, 2] + [3] * 7 and band.notes == ("c measured at 8 of 10 steps",)


def test_a_band_leaves_out_steps_at_which_nothing_was_measured(store):
    sparse = {"a": kept(store, vgg(1e-3), x=[math.nan, 1, math.nan, 3])}
    band = tables.band(sparse, store, "x")
    assert (band.at.tolist(), band.low.tolist(), band.steps, band.notes) == ([1, 3], [1, 3], 4, ())


def test_a_band_names_runs_that_are_missing_unmeasured_unreadable_or_diverged(rates, store):
    rates |= {"none": [], "plain": kept(store, vgg(4e-3), step_loss=[1.0])}
    rates["c"] = kept(store, vgg(3e-3), diverged_at=5, x=[3.0] * 5 + [math.nan])
    store.path(vgg(2e-3), ".npz").write_bytes(b"")
    band = tables.band(rates, store, "x")
    assert (band.measured, band.runs, band.ended) == (2, 5, (5,))
    assert band.notes == ("b was not measured", "c diverged at step 5", "none has no record yet",
                          "plain was not measured")  # fmt: skip
    assert band.high.tolist() == [3] * 5 + [1] * 5


def test_a_band_of_no_record_is_empty(store):
    band = tables.band({"a": []}, store, "x")
    assert len(band.at) == 0 and (band.steps, band.measured, band.runs) == (0, 0, 1)
    assert tables.band({"a": [], "b": []}, store, "x").notes == ("none of its 2 runs has a record yet",)
    numbers = tables.band_numbers({"x": {tables.PLAIN: band, tables.NORMED: band}})
    assert "0 of 1" in repr(numbers) and "–" in repr(numbers)
    assert "–" in repr(tables.band_ratios({"x": {tables.PLAIN: band, tables.NORMED: band}}))


def test_a_run_that_stays_at_the_loss_of_guessing_is_named(store):
    rows = {
        "a": kept(store, vgg(1e-3), step_loss=[2.31] * 20),
        "b": kept(store, vgg(2e-3), step_loss=[2.3] * 18 + [2, 2]),
    }
    assert tables.band(rows, store, "step_loss").notes == ("a stays at the loss of guessing, 2.303",)
    assert not tables.stuck([]) and tables.stuck([2.26]) and not tables.stuck([2.25])


def test_a_band_of_runs_that_each_have_a_range(store):
    rows = {
        "a": kept(store, vgg(1e-3), low=[1.0, 2], high=[3.0, 4]),
        "b": kept(store, vgg(2e-3), low=[0.0, 5], high=[1.0, 6]),
    }
    band = tables.band(rows, store, "low", until="high")
    assert (band.low.tolist(), band.high.tolist()) == ([0, 2], [3, 6])
    assert (band.middle.tolist(), band.width.tolist()) == ([1.5, 4], [3, 4])


def made_band(low, high, ended=(), runs=1, at=None):
    at = np.arange(len(low)) if at is None else np.array(at)
    return tables.Band(at, np.array(low, float), np.array(high, float), 100, 1, runs, ended, ())


def halves(first, second):
    return np.repeat([first, second], 50)


@pytest.mark.parametrize(
    "plain, normed, middle, width",
    [
        ((3, 5), (1, 2), "holds", "holds"),
        ((1, 2), (3, 5), "does not hold", "does not hold"),
        ((1, 2), (1, 2), "within noise", "within noise"),
        ((0, 6), (2, 5), "does not hold", "holds"),  # lower, and wider
    ],
)
def test_bands_are_compared_by_their_middles_and_widths(plain, normed, middle, width):
    plain, normed = (made_band([low] * 100, [high] * 100) for low, high in (plain, normed))
    assert (tables.smaller(plain, normed, "middle"), tables.smaller(plain, normed, "width")) == (middle, width)


@pytest.mark.parametrize(
    "won, verdict", [(15, "holds"), (14, "within noise"), (6, "within noise"), (5, "does not hold")]
)
def test_fifteen_of_twenty_stretches_decide(won, verdict):
    normed = np.repeat([0.0] * won + [2.0] * (20 - won), 5)
    plain, normed = made_band([1] * 100, [1] * 100), made_band(normed, normed)
    assert tables.stretches_won(plain, normed, "middle") == (won, 20 - won)
    assert tables.smaller(plain, normed, "middle") == verdict


def test_the_sign_test_by_hand():
    assert [tables._sign_test(*counts) for counts in ((0, 0), (3, 0), (3, 1), (0, 6))] == [1, 0.25, 0.625, 2 / 64]


def test_a_diverged_run_counts_as_infinite_from_there_on():
    # Until step 25 the band with batch norm is the wider; then the other network has lost a run.
    plain, normed = made_band([0] * 100, [1] * 100, ended=(25,)), made_band([0] * 100, [2] * 100)
    assert tables.stretches_won(plain, normed, "width") == (15, 5)
    assert tables.stretches_won(plain, normed._replace(ended=(25,)), "width") == (0, 5)


def test_bands_that_are_incomplete_have_no_verdict():
    whole = made_band([0] * 100, [1] * 100)
    assert tables.smaller(whole, whole._replace(runs=2), "width") == "not measured yet"
    assert tables.smaller(made_band([], []), whole, "width") == "not measured yet"


def test_ratios_of_bands_over_parts_of_the_run():
    plain, normed = made_band(halves(4, 1), halves(10, 3)), made_band(halves(1, 1), halves(4, 2))
    # Widths 6 and 2 without, 3 and 1 with; middles 7 and 2, 2.5 and 1.5.
    assert tables.ratio(plain, normed, "width") == 2
    assert tables.ratio(plain, normed, "middle", 0, 0.5) == pytest.approx(2.8)
    assert tables.ratio(plain, normed, "middle", 0.5, 1) == pytest.approx(4 / 3)
    assert tables.wider(plain, normed) == 1 and tables.wider(normed, plain) == 0
    assert tables.wider(plain, made_band([0, 0], [9, 0], at=[3, 70])) == 0.5
    table = tables.band_ratios({"x": {tables.PLAIN: plain, tables.NORMED: normed}})
    assert table.frame.iloc[0]["width"] == 2 and table.frame.iloc[0]["middle (first third)"] == pytest.approx(2.8)


def test_a_band_in_numbers():
    band = made_band([0] * 50, np.r_[[2] * 25, [4] * 25], at=range(0, 100, 2))
    entry = tables.band_numbers({"x": {tables.PLAIN: band}}).frame.iloc[0]
    assert (entry["median"], entry["mean width"], entry["width / median"], entry["steps"]) == (1.5, 3, 2, 50)


def test_rows_are_sorted_by_network_and_rate():
    rows = {"one": vgg(1e-3), "two": vgg(2e-3, False)}
    found = {"one": ["x"], "two": []}
    assert tables.networks(rows, found) == {"VGG-A": {"lr 0.002": []}, "VGG-A + BN": {"lr 0.001": ["x"]}}


def test_times_are_compared_by_the_fastest_epochs(pair):
    pair = selection({"with": [record(laptop(SECOND), 0.7, seconds=(30.0, 12.0))],
                      "without": [record(laptop(FIRST), 0.7, seconds=(10.0, 10.0))], "none": []})  # fmt: skip
    assert tables.time_ratio(pair, "with", "without") == 1.2 and math.isnan(tables.time_ratio(pair, "with", "none"))
    assert tables.reported_time_ratio("1", "1.2 batch norm", "with", "without") == pytest.approx(496.68 / 493.27)
    assert math.isnan(tables.reported_time_ratio("1", "1.2 batch norm", "with", "none"))


def test_seconds_of_both_networks_stand_beside_the_reports():
    rows = {
        tables.PLAIN: [record(laptop(FIRST), 0.7)],
        tables.NORMED: [record(laptop(SECOND), 0.7, seconds=(15.0, 20.0))],
    }
    frame = tables.times({"SGD": rows, "Adam": {tables.PLAIN: [], tables.NORMED: []}}, "2", "2.1 accuracy").frame
    assert frame.iloc[0].tolist() == ["SGD", 10, 15, 1.5] and frame.iloc[1].isna().sum() == 3
    assert frame.iloc[2].tolist() == [
        "report",
        pytest.approx(14.53),
        pytest.approx(18.34),
        pytest.approx(18.34 / 14.53),
    ]


def test_the_distance_from_the_report_is_a_mean_over_the_rows(pair):
    # .70 against .716 and .72 against .718
    assert tables.misses("1", "1.2 batch norm", pair) == pytest.approx(0.9)
    assert math.isnan(tables.misses("1", "1.2 batch norm", {"with": [], "without": pair["without"]}))


def test_which_rises_faster_is_the_mean_over_the_epochs(pair):
    # Validation .3 and .7 against .3 and .71, .3 and .73: means .5 against .51, a gap of 1 point; noise 2.449 σ.
    assert tables.epochs_gap(pair, "with", "without") == pytest.approx(1)
    assert [tables.rises_faster(pair, "with", "without", sigma) for sigma in (0.4, 0.42)] == ["holds", "within noise"]
    assert tables.rises_faster({"a": [], "b": []}, "a", "b", 1.0) == "not measured yet"


def test_a_claim_of_several_parts():
    assert tables.together("holds", "holds") == "holds"
    assert tables.together("holds", "within noise") == "within noise"
    assert tables.together("within noise", "does not hold", "holds") == "does not hold"
    assert tables.together("does not hold", "not measured yet") == "not measured yet"


def test_bands_in_words():
    plain, normed = made_band(halves(4, 1), halves(10, 3)), made_band(halves(1, 1), halves(4, 2))
    words = tables.band_words({tables.PLAIN: plain, tables.NORMED: normed})
    assert "lies 2.25 times as high as with it, and the band is 2 times as wide" in words  # middles 4.5 and 2
    assert "at 100 % of the steps" in words and words.count("**holds** (20 of 20 stretches of the run)") == 2
    assert tables.band_words({tables.PLAIN: made_band([], []), tables.NORMED: normed}) == "Not measured yet."


def test_the_basin_is_the_share_of_a_surface_better_than_guessing():
    assert tables.basin({"surface_loss": np.array([[1, 2.3], [2.4, np.nan]])}) == 0.5
    assert math.isnan(tables.basin({}))


# ------------------------------------------------------------------------------------------ records, one click away


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


def test_a_row_that_diverged_loses():
    rows = selection({"a": [record(laptop(FIRST), 0.7)], "b": [record(laptop(SECOND), None)], "c": []})
    assert tables.verdict(rows, "a", "b", math.nan) == "holds"
    assert tables.verdict(rows, "b", "a", 1.0) == tables.verdict(rows, "b", "b", 1.0) == "does not hold"
    assert tables.verdict(rows, "b", "c", 1.0) == "not measured yet"


def test_how_far_training_is_ahead():
    # Training accuracy ends at .6 in both; validation at .5 and at .7.
    found = [record(laptop(FIRST), 0.7, validation=0.5), record(laptop(FIRST), 0.7), record(laptop(FIRST), None)]
    assert tables.ahead(found[:1]) == pytest.approx(10) and tables.ahead(found) == pytest.approx(0)
    assert tables.ahead(found[2:]) is None


def test_two_hyphens_stay_two_in_print_and_a_sentence_gets_room():
    table = tables.Table(tables.pd.DataFrame({"a": ["run --row 0.3, which is one long command"]}), "c")
    assert (
        "run \\-\\-row" in table._repr_markdown_()
        and '<td style="text-align: left" class="words">run --row' in table._repr_html_()
    )


def test_runs_that_learned_nothing_are_told_and_left_out_where_others_learned():
    seeds = [record(laptop(experiments.base, seed), accuracy) for seed, accuracy in enumerate((0.9, 0.1, 0.8))]
    assert tables.measured(seeds) == "85.00 ± 7.07 (1 of 3 learned nothing)"
    assert tables.gap({"a": seeds, "b": seeds[:1]}, "a", "b") == pytest.approx(-5)
    assert tables.measured(seeds[1:2]) == "10.00"
    assert tables.spread({"a": seeds}) == pytest.approx(100 * np.std([0.9, 0.8], ddof=1))
    assert math.isnan(tables.spread({"a": seeds[:2]}))


# ------------------------------------------------------------------------------------------ silent channels


def test_the_layer_with_most_silent_channels_counts(monkeypatch):
    shares = {0: np.array([0.0, 0.5]), 1: np.array([0.25, 0.0]), 2: None}
    monkeypatch.setattr(tables, "series", lambda found, store: (
        {} if shares[found[0].run.seed] is None else {"silent": shares[found[0].run.seed]}))  # fmt: skip
    runs = [record(laptop(FIRST, seed), 0.7) for seed in shares]
    assert tables.silent(runs, None) == 0.375
    assert math.isnan(tables.silent(runs[2:], None)) and math.isnan(tables.silent([], None))
