"""Numbers and verdicts of readings, on records made up with numbers worked out by hand."""

import math

import numpy as np
import pytest

from helpers import experiments, records
from helpers.show import readings, tables
from tests.made import FIRST, SECOND, laptop, record, selection


def test_noise_is_the_gap_of_a_pair_as_one_runs_deviation_or_the_pooled_spread_of_seeds_if_larger(pair):
    same = {"a": [record(laptop(FIRST), 0.70)], "b": [record(laptop(SECOND), 0.71)]}
    assert readings.noise(same) == pytest.approx(1 / math.sqrt(2))
    thrice = {label: [record(laptop(found[0].run, seed), found[0].test.accuracy) for seed in range(3)]
              for label, found in same.items()}  # fmt: skip
    assert readings.noise(thrice) == pytest.approx(1 / math.sqrt(2))
    crossed = {"a": [record(laptop(FIRST, seed), accuracy) for seed, accuracy in enumerate((0.70, 0.72))],
               "b": [record(laptop(SECOND, seed), accuracy) for seed, accuracy in enumerate((0.72, 0.70))]}  # fmt: skip
    assert readings.seed_gaps(crossed, "a", "b") == pytest.approx([-2, 2])
    assert readings.noise(crossed) == pytest.approx(math.sqrt(2))  # though the means are equal
    assert readings.noise(same, [pair]) == pytest.approx(2 / math.sqrt(2))  # .71 and .73
    assert readings.noise(same, [thrice], [pair], []) == readings.noise(same, [pair])  # not pooled over the groups
    assert math.isnan(readings.noise({"a": [], "b": []}))


@pytest.mark.parametrize(
    "sigma, verdict",
    # The gap is 2 points over 1 and 2 runs: noise is 2·σ·√(1 + 1/2) = 2.449 σ, and the two seeds alone give σ = 0.28.
    [(0.8, "holds"), (0.82, "within noise"), (math.nan, "holds")],
)
def test_a_verdict_needs_a_gap_of_two_standard_deviations(sigma, verdict):
    pair = _close()
    assert readings.gap(pair, "with", "without") == pytest.approx(2)
    assert readings.verdict(pair, "with", "without", sigma) == verdict
    assert readings.verdict(pair, "without", "with", sigma) == verdict.replace("holds", "does not hold")


def _close():
    """Two rows, one of them with two seeds that end close together: 70 % against 71.8 and 72.2 %."""
    seeds = [record(laptop(SECOND, seed), accuracy) for seed, accuracy in enumerate((0.718, 0.722))]
    return selection({"without": [record(laptop(FIRST), 0.70)], "with": seeds})


def test_what_other_budgets_say_of_pairs_that_they_have(store):
    runs = {"a": FIRST, "b": experiments.best, "c": SECOND}
    whole = {"a": [record(FIRST, 0.7)], "b": [], "c": [record(SECOND, 0.8)]}
    rows = selection({label: [] for label in runs}, {"paper": whole})
    said = " At *paper*: *c* less *a* +10.00 points (n = 1 and 1), **holds**."
    assert readings.elsewhere(runs, rows, store, 1, ("c", "a"), ("a", "b")) == said
    assert readings.elsewhere(runs, rows, store, 1, ("a", "b")) == ""
    for seed, accuracy in enumerate((0.7, 0.72, 0.74)):
        store.write(record(laptop(FIRST, seed), accuracy))
    store.write(record(laptop(SECOND), 0.73))
    shown = records.select({"a": FIRST, "c": SECOND}, store, "paper")
    said = " At *laptop*: *c* less *a* +1.00 points (n = 1 and 3), **within noise**."
    assert readings.elsewhere(runs, shown, store, 1, ("c", "a"), ("a", "b")) == said
    assert readings.elsewhere(runs, records.select(runs, store, "smoke"), store, 1, ("c", "a")) == ""


def test_rows_by_precision_hold_the_runs_made_in_it():
    exact, rounded = (record(laptop(FIRST, seed), 0.7).model_copy(update={"engine": {"precision": name}})
                      for seed, name in enumerate(("float32", "bfloat16")))  # fmt: skip
    found = readings.by_precision({"both": [exact, rounded], "one": [exact]})
    assert found == {"bfloat16": {"both": [rounded], "one": []}, "float32": {"both": [exact], "one": [exact]}}


def test_curves_over_the_cycles_of_a_rate_by_hand():
    cyclic = experiments.replace(
        experiments.final, epochs=20, schedule=experiments.Cyclic(high=0.04, up=0.05, down=0.1)
    )
    assert readings.over_cycles(np.array([1.0, 2, 6, 1]), cyclic).tolist() == pytest.approx([3, 3])
    assert readings.over_cycles(np.array([1.0, 2, 6]), experiments.at(experiments.final, "laptop")).tolist() == [
        1,
        2,
        6,
    ]
    assert readings.over_cycles(np.array([1.0, 2, 6]), experiments.best).tolist() == [1, 2, 6]


def test_no_verdict_without_an_estimate_of_the_noise():
    rows = selection({"a": [record(laptop(FIRST), 0.70)], "b": [record(laptop(SECOND), 0.71)]})
    assert readings.verdict(rows, "a", "b", math.nan) == "not measured yet"


def test_a_verdict_takes_the_spread_of_the_two_rows_where_it_is_larger(pair):
    wide = selection({**pair, "with": [record(laptop(SECOND, seed), each) for seed, each in enumerate((0.67, 0.77))]})
    assert readings.noise_between(wide, "with", "without", 0.1) == pytest.approx(10 / math.sqrt(2))
    assert readings.verdict(wide, "with", "without", 0.1) == "within noise"
    assert readings.noise_between(pair, "without", "without", 0.1) == 0.1  # no seeds, no spread


def test_rows_are_weighed_by_their_seeds_in_the_spread():
    rows = {"two": [record(laptop(FIRST, seed), each) for seed, each in enumerate((0.70, 0.72))],
            "three": [record(laptop(SECOND, seed), each) for seed, each in enumerate((0.70, 0.70, 0.70))]}  # fmt: skip
    assert readings.spread(rows) == pytest.approx(math.sqrt(2 / 3))  # (1² + 1²) over 1 + 2 degrees of freedom


def test_a_seed_that_learned_nothing_counts_in_no_curve_either():
    half_dead = [record(laptop(FIRST), 0.8), record(laptop(FIRST, 1), 0.1)]
    rows = selection({"half dead": half_dead, "steady": [record(laptop(SECOND), 0.7)]})
    assert readings.best_row(rows) == "half dead"
    assert readings.gap(rows, "half dead", "steady") == pytest.approx(10)
    assert readings.epochs_gap(rows, "half dead", "steady") == pytest.approx(5)  # means of .3 and .8, of .3 and .7
    assert readings.ahead(half_dead) == pytest.approx(100 * (0.6 - 0.8))


def test_no_verdict_without_a_record():
    rows = selection({"without": [], "with": [record(laptop(SECOND), 0.7)]})
    assert readings.verdict(rows, "with", "without", 1.0) == "not measured yet"
    assert tables.points(readings.gap(rows, "with", "without")) == tables.distance(None) == "–"


def test_the_best_row_is_chosen_on_the_validation_set():
    rows = selection({"a": [record(laptop(FIRST), 0.9, validation=0.5)],
                      "b": [record(laptop(SECOND), 0.1, validation=0.6)]})  # fmt: skip
    assert readings.best_row(rows) == "b"
    assert readings.best_row(selection({"a": []})) is None


def test_each_run_counts_once_among_all_rows(pair):
    frame = readings.all_rows({"1": {"one": pair, "two": pair}})
    assert list(frame["row"]) == ["without", "with"] and set(frame["table"]) == {"one"}


def test_means_by_learning_rate_and_the_jump_where_it_drops():
    cyclic = experiments.replace(experiments.cyclic, epochs=4)
    values = [cyclic.rate(step / 1000) for step in range(1000)]
    low, high = readings.by_rate(record(cyclic, 0.7), values)
    # A triangle spends its time evenly between 0.01 and 0.04: the outer quarters average 0.01375 and 0.03625.
    assert (low, high) == (pytest.approx(0.01375, rel=0.02), pytest.approx(0.03625, rel=0.02))
    assert readings.jump(record(laptop(FIRST), 0.7).model_copy(update={"history": {
        "validation_accuracy": [0.1, 0.2, 0.3, 0.32, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]}}), 0.4) == (
        pytest.approx(18), pytest.approx(10))  # fmt: skip


def test_a_jump_after_the_first_epoch_has_none_before_it():
    after, before = readings.jump(record(experiments.replace(laptop(FIRST), epochs=2), 0.7), 0.4)
    assert after == pytest.approx(40) and math.isnan(before)
    assert tables.points(before) == "–" and readings.jumped(after, before, 1) == "not measured yet"


@pytest.mark.parametrize("before, verdict", [(15, "holds"), (15.2, "within noise"), (25, "does not hold")])
def test_a_jump_has_to_exceed_the_noise_of_three_epochs(before, verdict):
    assert readings.jumped(20, before, 1) == verdict  # 2·√6 = 4.899


def test_each_row_after_an_epoch(pair):
    assert readings.each_after({**pair, "none": []}, -1) == "without 70.00 %; with 72.00 %; none – %"


def test_spans_name_the_two_rows_farthest_apart_that_learned(pair):
    dead = selection({**pair, "dead": [record(experiments.replace(laptop(FIRST), lr=9), 0.1)]})
    close = {"a": [record(laptop(FIRST), 0.70)], "b": [record(laptop(SECOND), 0.71)]}
    wide = {"a": [record(laptop(FIRST), 0.70)], "b": [record(laptop(SECOND), 0.80)]}
    assert readings.spans({"norm": dead, "loss": close, "single": {"a": close["a"]}, "size": wide}, 0.5) == (
        "size +10.00 (*b* less *a*). Within noise: norm and loss"
    )
    assert readings.spans({"norm": dead, "size": wide}, 0.1).startswith("size +10.00 (*b* less *a*)")
    assert readings.spans({"norm": {}}, 0.5) == "none beyond the noise"


def test_the_first_cycle_counts_for_neither_rate():
    cyclic = experiments.replace(experiments.cyclic, epochs=4)
    values = np.array([9.0 if step < 128 else cyclic.rate(step / 1000) for step in range(1000)])
    assert readings.by_rate(record(cyclic, 0.7), values) == pytest.approx((0.01375, 0.03625), rel=0.02)


def test_accuracy_by_rate_bears_counts_kept_as_bytes():
    cyclic = experiments.replace(experiments.cyclic, epochs=4)
    right = np.array([48 if cyclic.rate(step / 1000) < 0.025 else 32 for step in range(1000)], dtype="uint8")
    assert readings.accuracy_by_rate(record(cyclic, 0.7), {"step_correct": right}) == (75, 50)


def test_epochs_with_validation_above_training():
    some = record(laptop(FIRST), 0.7)  # training 0.4 and 0.6, validation 0.3 and 0.7
    assert readings.above(some) == (1, 2)


def test_a_row_after_an_epoch_is_the_mean_of_what_learned():
    seeds = [record(laptop(FIRST, seed), score, validation=score) for seed, score in enumerate((0.6, 0.8, 0.1))]
    assert readings.after(seeds, -1) == pytest.approx(0.7) and readings.after(seeds, 1) == pytest.approx(0.3)
    assert readings.after(seeds, 3) is None and readings.after([], 1) is None


def test_first_steps_apart_is_the_largest_difference():
    made = record(laptop(FIRST), 0.7)
    other = made.model_copy(update={"fingerprint": [2.25]})
    assert readings.first_steps_apart({"a": [made], "b": [other]}) == pytest.approx(0.05)
    assert math.isnan(readings.first_steps_apart({"a": [made], "b": []}))


def test_the_bar_is_two_standard_deviations_of_a_difference():
    assert readings.bar(0.5) == pytest.approx(2 * 0.5 * math.sqrt(2))
    assert readings.bar(0.5, (1, 2)) == pytest.approx(math.sqrt(1.5))


def test_mean_and_spread_leave_out_what_is_not_there():
    assert records.mean([1.0, None, 3.0]) == 2 and records.mean([None]) is None
    assert records.std([1.0]) is None


def test_times_are_compared_by_the_fastest_epochs(pair):
    pair = selection({"with": [record(laptop(SECOND), 0.7, seconds=(30.0, 12.0))],
                      "without": [record(laptop(FIRST), 0.7, seconds=(10.0, 10.0))], "none": []})  # fmt: skip
    assert readings.time_ratio(pair, "with", "without") == 1.2 and math.isnan(readings.time_ratio(pair, "with", "none"))
    assert readings.reported_time_ratio("1", "1.2 batch norm", "with", "without") == pytest.approx(496.68 / 493.27)
    assert math.isnan(readings.reported_time_ratio("1", "1.2 batch norm", "with", "none"))


def test_times_are_compared_on_one_processor_only():
    fast, slow = {"processor": "fast"}, {"processor": "slow"}
    a, b, c = (record(laptop(FIRST, seed), 0.7, seconds=(each, each)) for seed, each in enumerate((30.0, 90.0, 20.0)))
    a, b, c = (made.model_copy(update={"machine": machine}) for made, machine in ((a, fast), (b, slow), (c, fast)))
    assert readings.time_ratio({"row": [a, b], "other": [c]}, "row", "other") == 1.5
    assert math.isnan(readings.time_ratio({"row": [b], "other": [c]}, "row", "other"))
    rows = {"row": [a, b], "other": [c], "elsewhere": [b], "none": []}
    assert records.times(rows) == ({"row": 30, "other": 20, "elsewhere": None, "none": None}, "fast, 1 thread")
    assert records.times({"row": [c, a], "other": [a, c]})[0] == {"row": 20, "other": 20}  # the fastest of several
    assert records.times({}) == ({}, "")


def test_times_are_those_of_a_processor_where_it_made_as_many_rows():
    """Runs that share an accelerator slow each other, so theirs count only where there are more of them."""
    a, b = (record(laptop(FIRST, seed), 0.7, seconds=(each, each)) for seed, each in enumerate((30.0, 2.0)))
    a, b = (
        a.model_copy(update={"machine": {"processor": "cpu"}}),
        b.model_copy(update={"machine": {"processor": "cpu", "accelerator": "gpu"}}),
    )
    assert records.times({"row": [b, a]}) == ({"row": 30}, "cpu, 1 thread")
    assert records.times({"row": [b, a], "other": [b]}) == ({"row": 2, "other": 2}, "gpu, 1 thread")


def test_an_epoch_is_timed_in_whatever_budget():
    short, long = record(laptop(FIRST), 0.7, seconds=(30.0, 30.0)), record(FIRST, 0.7, seconds=(20.0, 20.0))
    rows = records.Selection(
        "paper", {"row": [long], "other": []}, [], {}, {"laptop": {"row": [short], "other": [short]}}
    )
    assert records.timed(rows, "row") == [long, short] and records.timed({"row": [long]}, "row") == [long]
    assert readings.time_ratio(rows, "row", "other") == pytest.approx(2 / 3)
    frame = readings.all_rows({"1": {"table": rows}})
    assert frame["seconds_per_epoch"].tolist() == [20] and tables.compare("1", "1.2 batch norm", records.Selection(
        "paper", {"with": [long]}, [], {}, {"laptop": {"with": [short]}}
    )).frame["seconds"].tolist() == [20]  # fmt: skip


def test_times_are_compared_in_one_precision_only():
    a, b = (record(laptop(FIRST, seed), 0.7) for seed in range(2))
    a, b = (made.model_copy(update={"engine": {"precision": how}}) for made, how in ((a, "bfloat16"), (b, "float32")))
    assert records.times({"row": [a], "again": [a], "other": [b]})[0] == {"row": 10, "again": 10, "other": None}
    assert records.times({"row": [a]})[1] == "1 thread, bfloat16"


def test_seconds_of_both_networks_stand_beside_the_reports():
    rows = {
        readings.PLAIN: [record(laptop(FIRST), 0.7)],
        readings.NORMED: [record(laptop(SECOND), 0.7, seconds=(15.0, 20.0))],
    }
    frame = readings.times_with_and_without(
        {"SGD": rows, "Adam": {readings.PLAIN: [], readings.NORMED: []}}, "2", "2.1 accuracy"
    ).frame
    assert frame.iloc[0].tolist() == ["SGD", 10, 15, 1.5, rows[readings.PLAIN][0].timed_on]
    assert frame.iloc[1].isna().sum() == 3 and frame.iloc[1]["machine"] == tables.DASH
    assert frame.iloc[2].tolist() == [
        "report",
        pytest.approx(14.53),
        pytest.approx(18.34),
        pytest.approx(18.34 / 14.53),
        tables.DASH,
    ]


def test_the_distance_from_the_report_is_a_mean_over_the_rows(pair):
    # .70 against .716 and .72 against .718
    assert readings.misses("1", "1.2 batch norm", pair) == pytest.approx(0.9)
    assert math.isnan(readings.misses("1", "1.2 batch norm", {"with": [], "without": pair["without"]}))


def test_seeds_are_those_of_the_rows_shown_or_of_laptop(store):
    runs = {"a": FIRST, "b": SECOND}
    for run, seed in ((FIRST, 0), (FIRST, 1), (SECOND, 0)):
        store.write(record(laptop(run, seed), 0.7))
    twice = {label: [record(run, 0.8), record(experiments.reseed(run, 1), 0.8)] for label, run in runs.items()}
    assert readings.seeded(runs, twice, store) is twice
    once = {**twice, "b": twice["b"][:1]}
    assert [len(found) for found in readings.seeded(runs, once, store).values()] == [2, 1]
    assert readings.seeded(runs, once, store).budget == "laptop"


def test_which_rises_faster_is_the_mean_over_the_epochs():
    # Validation .3 and .7 against .3 and .718, .3 and .722: means .5 against .51, a gap of 1 point; noise 2.449 σ.
    pair = _close()
    assert readings.epochs_gap(pair, "with", "without") == pytest.approx(1)
    for apart, expected in ((0.8, "holds"), (0.84, "within noise")):  # two seeds whose means are σ √2 points apart
        ends = (0.7, 0.7 + 2 * apart * math.sqrt(2) / 200)
        seeds = {"a": [record(laptop(FIRST, seed), end) for seed, end in enumerate(ends)]}
        assert readings.spread(seeds, of=readings.epoch_means) == pytest.approx(apart / 2)
        assert readings.rises_faster(pair, "with", "without", seeds) == expected
    assert readings.rises_faster(pair, "with", "without", {"a": []}) == "not measured yet"
    assert readings.rises_faster({"a": [], "b": []}, "a", "b", seeds) == "not measured yet"


def test_a_mean_curve_is_as_long_as_the_shortest():
    two = [record(laptop(FIRST, seed), accuracy) for seed, accuracy in enumerate((0.5, 0.7))]
    longer = two[0].model_copy(update={"history": {"validation_accuracy": [0.1, 0.5, 0.9]}})
    assert readings.mean_curve([longer, two[1]], "validation_accuracy").tolist() == pytest.approx([0.2, 0.6])
    assert len(readings.mean_curve([], "validation_accuracy")) == 0


def test_a_claim_of_several_parts():
    assert readings.together("holds", "holds") == "holds"
    assert readings.together("holds", "within noise") == "within noise"
    assert readings.together("within noise", "does not hold", "holds") == "does not hold"
    assert readings.together("does not hold", "not measured yet") == "not measured yet"


def test_a_row_that_diverged_loses():
    rows = selection({"a": [record(laptop(FIRST), 0.7)], "b": [record(laptop(SECOND), None)], "c": []})
    assert readings.verdict(rows, "a", "b", math.nan) == "holds"
    assert readings.verdict(rows, "b", "a", 1.0) == readings.verdict(rows, "b", "b", 1.0) == "does not hold"
    assert readings.verdict(rows, "b", "c", 1.0) == "not measured yet"


def test_how_far_training_is_ahead():
    # Training accuracy ends at .6 in both; validation at .5 and at .7.
    found = [record(laptop(FIRST), 0.7, validation=0.5), record(laptop(FIRST), 0.7), record(laptop(FIRST), None)]
    assert readings.ahead(found[:1]) == pytest.approx(10) and readings.ahead(found) == pytest.approx(0)
    assert readings.ahead(found[2:]) is None


def test_runs_that_learned_nothing_are_told_and_left_out_where_others_learned():
    seeds = [record(laptop(experiments.base, seed), accuracy) for seed, accuracy in enumerate((0.9, 0.1, 0.8))]
    assert tables.measured(seeds) == "85.00 ± 7.07 (1 of 3 learned nothing)"
    assert readings.gap({"a": seeds, "b": seeds[:1]}, "a", "b") == pytest.approx(-5)
    assert tables.measured(seeds[1:2]) == "10.00"
    assert readings.spread({"a": seeds}) == pytest.approx(100 * np.std([0.9, 0.8], ddof=1))
    assert math.isnan(readings.spread({"a": seeds[:2]}))


def test_the_layer_with_most_silent_channels_counts(monkeypatch):
    shares = {0: np.array([0.0, 0.5]), 1: np.array([0.25, 0.0]), 2: None}
    monkeypatch.setattr(readings, "series", lambda found, store: (
        {} if shares[found[0].run.seed] is None else {"silent": shares[found[0].run.seed]}))  # fmt: skip
    runs = [record(laptop(FIRST, seed), 0.7) for seed in shares]
    assert readings.silent(runs, None) == 0.375
    assert math.isnan(readings.silent(runs[2:], None)) and math.isnan(readings.silent([], None))


def test_rows_far_from_the_report_are_named_with_what_their_length_explains():
    short = record(laptop(FIRST), 0.616, validation=0.5)
    short = short.model_copy(update={"history": {"validation_accuracy": [*([0.4] * 7), 0.45, 0.46, 0.47]}})
    rows = selection({"without": [short], "with": [record(laptop(SECOND), 0.69)]})
    history = {"validation_accuracy": [0.4, 0.4, 0.48, 0.46, 0.47]}
    shorter = short.model_copy(update={"run": experiments.replace(short.run, epochs=5), "history": history})
    assert "(5 of 50 epochs; validation +1.00 in the last one, highest after epoch 3)" in readings.far(
        "1", "1.2 batch norm", selection({"without": [shorter]})
    )
    said = readings.far("1", "1.2 batch norm", rows)
    much = "*without* by −10.00 (10 of 50 epochs; validation +2.00 in the last 2)"
    assert said == f"More than 3 points from the report: {much}."
    assert readings.far("1", "1.2 batch norm", rows, "It is short.") == f"{said} It is short."
    assert readings.far("1", "1.2 batch norm", rows, readings.SHORT).endswith(readings.SHORT)
    whole = short.model_copy(update={"run": experiments.replace(short.run, epochs=50)})
    assert readings.far("1", "1.2 batch norm", selection({"without": [whole]}), readings.SHORT).endswith(readings.WHOLE)
    found = selection({"without": [short]}, {"paper": {"without": [whole]}})
    much = "*without* by −10.00 (10 of 50 epochs; validation +2.00 in the last 2, by −10.00 in 50)"
    assert readings.far("1", "1.2 batch norm", found, readings.SHORT).endswith(f"{much}. {readings.WHOLE}")
    near = selection({"without": [short]}, {"paper": {"without": [record(whole.run, 0.70)]}})
    assert readings.far("1", "1.2 batch norm", near, readings.SHORT).endswith("in the last 2, by −1.60 in 50).")
    fallen = selection({"without": [short]}, {"paper": {"without": [record(whole.run, None)]}})
    assert f"diverged in 50). {readings.WHOLE}" in readings.far("1", "1.2 batch norm", fallen, readings.SHORT)
    dead = record(laptop(experiments.base), 0.1)
    assert "(10 of 50 epochs; it learned nothing)" in readings.far("1", "1.2 batch norm", selection({"with": [dead]}))
    assert readings.far("1", "1.2 batch norm", selection({"without": [], "with": rows["with"]}), "It is short.") == ""
