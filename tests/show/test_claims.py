"""The claims and their rules, on records made up here: each verdict can come out, and nothing makes a rule fail."""

import hashlib
import math
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import experiments, records
from helpers.experiments import PRUNED, SECTIONS
from helpers.records import Record, Score
from helpers.show import claims

CLAIMS = pytest.mark.parametrize("number", range(len(claims.CLAIMS)), ids=lambda n: f"{n + 1}")


def record(run, accuracy, *, seconds=10.0, overfit=0.1, epochs=None):
    """A record whose validation accuracy rises to `accuracy`; None for a run that diverged in its second epoch."""
    length = epochs or (run.epochs if accuracy is not None else 1)
    curve = list(np.linspace(0.1, accuracy or 0.1, length))
    history = {
        "train_loss": [2.0] * length, "train_accuracy": [value + overfit for value in curve],
        "validation_loss": [2.0] * length, "validation_accuracy": curve, "seconds": [seconds] * length,
    }  # fmt: skip
    return Record(
        run=run, state="diverged" if accuracy is None else "done", diverged_at=99 if accuracy is None else None,
        test=None if accuracy is None else Score(loss=1.0, accuracy=accuracy), history=history, parameters=1000,
        seconds_per_epoch=seconds, fingerprint=[2.3], weights="", engine={}, machine={}, revision="",
    )  # fmt: skip


def fill(store, rest, accuracy=0.7, arrays=None, weights=None, **given):
    """Records of all seeds of the rows of `rest`; `accuracy` by label, or one for all."""
    for label, run in rest.runs.items():
        for each in experiments.replicas(run, "laptop"):
            score = accuracy.get(label, 0.7) if isinstance(accuracy, dict) else accuracy
            values = {key: value.get(label) if isinstance(value, dict) else value for key, value in given.items()}
            values = {key: value for key, value in values.items() if value is not None}
            store.write(record(each, score, **values), (arrays or {}).get(label, {}), (weights or {}).get(label, {}))


def noise(store, gap=0.002):
    """The pair of losses, `gap` apart in accuracy; where the first is there already, as another table's, it stays."""
    known = store.readable(experiments.replicas(experiments.dropped, "laptop")[0])
    accuracy = known.test.accuracy if known and known.test else 0.7
    fill(store, claims.CLAIMS[2].rests[0], {"NLL": accuracy, "cross-entropy": accuracy + gap})


def verdict(store, words):
    """The judgement on the one claim that begins so."""
    [judged] = [each for each in claims.judge(store) if each.claim.startswith(words)]
    return judged


def rest(words):
    [claim] = [claim for claim in claims.CLAIMS if claim.words.startswith(words)]
    return claim.rests[0]


# ---------------------------------------------------------------------------- the list


def test_the_words_stay_as_they_are():
    text = "\n".join(f"{claim.section} {claim.words}" for claim in claims.CLAIMS)
    assert len(claims.CLAIMS) == 25
    assert hashlib.sha256(text.encode()).hexdigest()[:10] == "37680ee31a"


@CLAIMS
def test_a_claim_rests_on_declared_rows(number):
    for each in claims.CLAIMS[number].rests:
        assert each.section in experiments.SECTIONS and each.labels and set(each.labels) <= set(each.runs)
        assert {row.run for row in experiments.rows(each.section)} >= set(each.runs.values())


# ---------------------------------------------------------------------------- nothing makes a rule fail


@CLAIMS
def test_without_records_it_is_not_measured_and_says_what_is_missing(store, number):
    judged = claims._Bench(store).judge(claims.CLAIMS[number])
    assert (judged.verdict, judged.n, judged.records) == ("not measured yet", (0, 0), ())
    assert judged.evidence.startswith("no record yet: ") and judged.missing
    assert math.isnan(judged.spread)


@CLAIMS
@pytest.mark.parametrize("kind", ["diverged", "bare", "short", "emptied"])
def test_a_rule_bears_every_kind_of_record(store, number, kind):
    noise(store)
    claim = claims.CLAIMS[number]
    for each in claim.rests:
        fill(store, each, None if kind == "diverged" else 0.7, epochs=1 if kind == "short" else None)
    if kind == "emptied":
        for path in store.folder.glob("*.json"):
            found = store.read(claims_run(store, path))
            history = {name: [None] * len(values) for name, values in found.history.items()}
            store.write(found.model_copy(update={"history": history}), {"step_loss": np.array([])})
    judged = claims._Bench(store).judge(claim)
    assert judged.verdict in claims.VERDICTS and judged.evidence and judged.names and not judged.missing
    assert "nan" not in judged.evidence


def claims_run(store, path):
    return store.scan()[0][path.stem].run


def test_a_damaged_record_is_as_good_as_none(store):
    noise(store)
    for path in store.folder.glob("*.json"):
        path.write_text("{")
    assert verdict(store, "NLL").verdict == "not measured yet"


# ---------------------------------------------------------------------------- each verdict


@pytest.mark.parametrize(
    "words, accuracy, expected",
    [
        ("Batch norm costs", {"with": 0.8}, "holds"),
        ("Batch norm costs", {"with": 0.6}, "does not hold"),
        ("Batch norm costs", {}, "within noise"),
        ("Dropout", {"0.3": 0.8}, "holds"),
        ("Dropout", {"0.3": 0.8, "0.5": 0.8}, "within noise"),
        ("Dropout", {"0.3": 0.8, "0.5": 0.9}, "does not hold"),
        ("At a rate", {"SGD with momentum": 0.8, "Adam": 0.1}, "holds"),
        ("At a rate", {"SGD with momentum": 0.8, "Adam": None}, "holds"),  # diverged
        ("At a rate", {"SGD with momentum": 0.8}, "does not hold"),  # all of them converge
        ("At a rate", {"Adam": 0.1}, "within noise"),
        ("ReLU", {"ReLU": 0.8}, "holds"),
        ("ReLU", {"ReLU": 0.74}, "does not hold"),  # better, but not by far
        ("5×5", {"5×5 + 5×5": 0.8, "3×3 + 3×3": 0.6}, "holds"),
        ("5×5", {"5×5 + 5×5": 0.8}, "within noise"),
        ("A larger hidden", {"100": 0.8}, "holds"),
        ("A larger hidden", {"300": 0.8}, "does not hold"),
        ("A larger hidden", {}, "within noise"),
        ("Momentum", {"0.9": 0.8}, "holds"),
        ("A cyclic", {"cyclic 0.01–0.04": 0.9, "0.04, then 0.01": 0.8}, "holds"),
        ("A cyclic", {"0.04, then 0.01": 0.8}, "does not hold"),
        ("The kernel", {"3×3, stride 1": 0.71}, "holds"),
        ("The kernel", {"3×3, stride 1": 0.73}, "does not hold"),  # three points are not little
        ("The kernel", {"3×3, stride 1": 0.721}, "within noise"),  # 2.1 points may be
        ("ReLU", {"ReLU": 0.7502}, "within noise"),  # and 5.02 may not be far
        ("Other", {"tanh": 0.6}, "holds"),
        ("Other", {"tanh": 0.8}, "does not hold"),
        ("Batch norm raises VGG", {"VGG-A + BN": 0.8}, "holds"),
        ("Batch norm raises VGG", {"VGG-A + BN": 0.702}, "within noise"),
    ],
)
def test_verdicts_on_accuracies(store, words, accuracy, expected):
    fill(store, rest(words), accuracy)
    noise(store)
    assert verdict(store, words).verdict == expected


def test_without_noise_nothing_is_decided(store):
    fill(store, rest("Momentum"), {"0.9": 0.9})
    assert verdict(store, "Momentum").verdict == "not measured yet"


def test_a_little_time_is_a_quarter(store):
    noise(store)
    fill(store, rest("Batch norm costs"), {"with": 0.8}, seconds={"with": 13.0, "without": 10.0})
    judged = verdict(store, "Batch norm costs")
    assert judged.verdict == "does not hold" and judged.evidence == "with less without: +10.00 ± 0.12; 1.3 × the time"


def test_what_a_judgement_says_of_its_records(store):
    noise(store, gap=0.02)
    judged = verdict(store, "NLL")
    assert (judged.verdict, judged.budget, judged.n) == ("within noise", "laptop", (3, 3))
    assert judged.evidence.startswith("NLL less cross-entropy: −2.00 ± 1.15; one function") and judged.spread == 0
    assert set(judged.names) == {path.stem for path in store.folder.glob("*.json")}


def test_generalisation_is_accuracy_and_a_smaller_gap(store):
    noise(store)
    crop = "crop + flip + normalisation"
    fill(store, rest("Crop"), {crop: 0.8}, overfit={crop: 0.05, "none": 0.15})
    assert verdict(store, "Crop").evidence.endswith(f"training ahead of validation by: {crop} +5.00, none +15.00")
    assert verdict(store, "Crop").verdict == "holds"
    fill(store, rest("Crop"), {crop: 0.8}, overfit={crop: 0.2, "none": 0.15})
    assert verdict(store, "Crop").verdict == "does not hold"


def test_a_stronger_decay_is_judged_on_the_final_model(store):
    noise(store)
    weaker, final = next(claim for claim in claims.CLAIMS if claim.words.startswith("L2")).rests
    fill(store, weaker, {"1e-4": 0.8})
    fill(store, final, 0.8, overfit={"1e-4": 0.2, "4e-4": 0.1})
    assert verdict(store, "L2").verdict == "holds"


@pytest.mark.parametrize("swing, expected", [(10, "holds"), (1, "does not hold")])
def test_swings_and_the_jump(store, swing, expected):
    noise(store)
    rows = rest("Under the cyclic")
    cyclic, stepped = (experiments.at(rows.runs[label], "laptop") for label in rows.labels)
    rates = np.array([cyclic.rate(step / 1000) for step in range(1000)])
    arrays = {"step_correct": 64 * (0.8 - swing / 100 * (rates > 0.025)), "step_loss": rates}
    fill(store, rows, arrays={rows.labels[0]: arrays})
    curve = [0.3, 0.48, 0.5, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]  # the rate drops after four of ten epochs
    jumping = record(stepped, 0.6)
    store.write(jumping.model_copy(update={"history": jumping.history | {"validation_accuracy": curve}}))
    judged = verdict(store, "Under the cyclic")
    assert judged.verdict == expected and "+10.00 in an epoch, before at most +2.00" in judged.evidence


@pytest.mark.parametrize(
    "loss, expected",
    [
        ([2, 1, 0.6, 0.5, 0.45, 0.45, 0.45, 0.46, 0.47, 0.48], "holds"),
        ([2, 1, 0.6, 0.5, 0.45, 0.44, 0.43, 0.42, 0.41, 0.4], "does not hold"),  # never rises
        ([2, 1.9, 1.8, 1.7, 1.6, 1, 0.5, 0.3, 0.2, 0.3], "does not hold"),  # falls late
        ([2, 1, 0.6, 0.5, 0.4, 0.4, 0.4, 0.5, 0.7, 0.79], "holds"),  # rises by less than a quarter of its fall, 0.4
        ([2, 1, 0.6, 0.5, 0.4, 0.4, 0.4, 0.5, 0.7, 0.81], "does not hold"),
        ([2, 1.7, 1.5, 1.3, 1.1, 0.8, 0.6, 0.5, 0.52, 0.55], "holds"),  # six tenths of its fall in the first half
        ([2, 1, 0.6, 0.5, 1.4, 0.6, 0.45, 0.45, 0.46, 0.47], "holds"),  # which ends with a rise
    ],
)
def test_the_final_model_levels_off(store, loss, expected):
    run, *_ = experiments.replicas(experiments.final, "laptop")
    accuracy = [0.3, 0.5, 0.6, 0.65, 0.7, 0.72, 0.74, 0.74, 0.75, 0.75]
    kept = record(run, 0.75)
    history = kept.history | {"validation_loss": loss, "validation_accuracy": accuracy}
    store.write(kept.model_copy(update={"history": history}))
    assert verdict(store, "Of the final").verdict == expected


def test_the_final_models_curves_are_the_mean_over_the_seeds(store):
    for run, last in zip(experiments.replicas(experiments.final, "laptop"), (0.70, 0.76, 0.79)):
        kept = record(run, last)
        curves = {"validation_accuracy": [0.3] * 4 + [0.7] * 4 + [last] * 2, "validation_loss": [2.0] * 10}
        store.write(kept.model_copy(update={"history": kept.history | curves}))
    assert "accuracy +5.00 from the last quarter but one" in verdict(store, "Of the final").evidence


def test_the_final_models_curves_are_means_over_a_cycle_of_its_rate(store):
    kept = record(experiments.final, 0.7)
    # At 50 epochs a cycle is of 6: what swings with it is level, and only the last mean, of 5 and a peak, rises.
    loss = [4.0] * 6 + [1.0, 2.0, 3.0, 3.0, 2.0, 1.0] * 7 + [1.0, 4.0]
    accuracy = [0.3] * 6 + [0.6, 0.7, 0.8, 0.8, 0.7, 0.6] * 7 + [0.6, 0.7]
    history = kept.history | {"validation_loss": loss, "validation_accuracy": accuracy}
    store.write(kept.model_copy(update={"history": history}))
    judged = verdict(store, "Of the final")
    assert (judged.verdict, judged.budget) == ("holds", "paper")
    assert "accuracy +0.00 from" in judged.evidence and "2.000 at its lowest, 2.333 at the end" in judged.evidence


@pytest.mark.parametrize("last, expected", [(0.70, "within"), (0.60, "beyond")])
def test_accuracy_that_falls_late_does_not_level_off(store, last, expected):
    run, *_ = experiments.replicas(experiments.final, "laptop")
    kept = record(run, last)
    curves = {"validation_accuracy": [0.3, *[0.7] * 7, last, last], "validation_loss": [2, *[1] * 8, 1.1]}
    store.write(kept.model_copy(update={"history": kept.history | curves}))
    assert verdict(store, "Of the final").verdict == ("holds" if expected == "within" else "does not hold")


def test_a_claim_is_judged_at_the_largest_budget_that_has_its_rows(store, monkeypatch):
    monkeypatch.setitem(experiments.SEEDS, "paper", {})
    dropout = rest("Dropout")
    fill(store, dropout, {"0.3": 0.8})
    noise(store)
    for label, accuracy in (("0", 0.8), ("0.3", 0.7)):
        store.write(record(dropout.runs[label], accuracy))
    judged = verdict(store, "Dropout")
    assert (judged.verdict, judged.budget) == ("holds", "laptop")  # it rests on 0.5 as well
    store.write(record(dropout.runs["0.5"], 0.7))
    judged = verdict(store, "Dropout")
    assert (judged.verdict, judged.budget) == ("does not hold", "paper")  # the table's row 0.1 is no part of it
    assert judged.evidence.startswith("0.3 less 0: −10.00 ± ") and "(at laptop +10.00, n = 3)" in judged.evidence


@pytest.mark.parametrize(
    "normed, wave, expected",
    [((0, 1), 1.1, "holds"), ((5, 9), 2.0, "does not hold"), ((1, 4), 1.5, "within noise")],
)
@pytest.mark.parametrize("words, series", [("With batch norm the loss", "step_loss"), ("With batch norm gra",
                         "gradient_change"), ("With batch norm eff", "smoothness")])  # fmt: skip
def test_bands(store, words, series, normed, wave, expected):
    fill(store, rest(words), arrays=_waves(words, series, {"VGG-A,": ((1, 4), 1.5), "VGG-A +": (normed, wave)}))
    assert verdict(store, words).verdict == expected


def test_a_narrow_band_of_unsteady_runs_is_not_steadier(store):
    words, series = "With batch norm gra", "gradient_change"
    fill(store, rest(words), arrays=_waves(words, series, {"VGG-A,": ((1, 4), 1.01), "VGG-A +": ((1, 1), 2)}))
    judged = verdict(store, words)
    assert judged.verdict == "does not hold"
    said = "narrower in 20 of 20 stretches; steadier in 0 of 20 stretches (not judged: lower in 20 of 20)"
    assert judged.evidence == said


def _waves(words, series, networks):
    """Series of 100 steps that swing between a level and so many times the level.

    `networks`: start of the label → ((level at the lowest rate last, the others' first), times).
    """
    arrays = {}
    for label in rest(words).runs:
        levels, times = networks[label[:7].strip()]
        level = levels[label.endswith("1e-4")]
        arrays[label] = {series: np.tile(np.array([level, level * times], dtype="float32"), 50)}
    return arrays


# ---------------------------------------------------------------------------- section 3

WARM = claims.WARM


@pytest.mark.parametrize(
    "sgd, expected", [(0.98, "holds"), (0.97, "within noise"), (0.96, "does not hold"), (0.995, "does not hold")]
)
def test_slightly_below_sgd(store, sgd, expected):
    rows = rest("DessiLBI ends")
    starts = {"SGD": 3 * [0.5], claims.WARM_SGD: [sgd - 0.001, sgd, sgd + 0.001]}  # only like starts are compared
    seeds(store, rows, {**starts, WARM: [0.969, 0.97, 0.971]})
    judged = verdict(store, "DessiLBI ends")
    assert judged.verdict == expected and "DessiLBI, warm-up" in judged.evidence
    assert judged.n == (3, 3) and "(SGD less DessiLBI, warm-up: −47.00" in judged.evidence


def test_a_broken_run_of_another_table_is_no_noise(store):
    rows = rest("DessiLBI ends")
    sgd = [0.979, 0.98, 0.981]
    seeds(store, rows, {"SGD": sgd, claims.WARM_SGD: sgd, WARM: [0.969, 0.97, 0.971]})
    ticket = rows._replace(table="winning ticket", runs=experiments.SECTIONS["3.1"]["winning ticket"])
    seeds(store, ticket, {"as much at random": [0.5, 0.98, 0.98]})
    assert verdict(store, "DessiLBI ends").verdict == "holds"


def seeds(store, rows, accuracy, **given):
    for label, scores in accuracy.items():
        for run, score in zip(experiments.replicas(rows.runs[label], "laptop"), scores, strict=True):
            store.write(record(run, score, **given))


def falling(cheap_until):
    return np.array([0.97 if share <= cheap_until + 1e-9 else 0.5 for share in PRUNED])


@pytest.mark.parametrize("until, expected", [(0.4, "holds"), (0.1, "does not hold"), (0.9, "does not hold")])
def test_pruning(store, until, expected):
    arrays = {f"pruned_support_{layers}_test": falling(until) for layers in experiments.PRUNED_LAYERS}
    fill(store, rest("Up to 30"), 0.97, arrays={WARM: arrays})
    judged = verdict(store, "Up to 30")
    assert judged.verdict == expected and judged.evidence.count("30 % costs") == 2
    assert judged.evidence.count(f"0.5 points or less up to {100 * until:.0f} %") == 2


def conv3(black):
    weights = np.ones((120, 16, 5, 5), dtype="float32")
    weights[:black] = 0
    weights[black:] *= 1 + black / 100  # so that filters which aren't black are no darker
    return {"features.conv3.weight": weights}


@pytest.mark.parametrize(
    "black, accuracy, expected",
    [(30, 0.99, "holds"), (30, 0.976, "holds"), (5, 0.99, "does not hold"), (30, 0.974, "does not hold")],
)
def test_filters(store, black, accuracy, expected):
    weights = {claims.WARM_SGD: conv3(10), WARM: conv3(black)}
    fill(store, rest("conv3's"), {claims.WARM_SGD: 0.98, WARM: accuracy}, weights=weights)
    judged = verdict(store, "conv3's")
    assert judged.verdict == expected and f"DessiLBI, warm-up {black}, {black}, {black} of 120 black" in judged.evidence
    assert f"of filters that aren't black {(1 + black / 100) / 1.1:.4g} ×" in judged.evidence


def section_3_2(store, **given):
    noise(store)
    for each in next(claim for claim in claims.CLAIMS if claim.words.startswith("Adam")).rests:
        fill(store, each, **given)


USUAL = "with Adam, usual rate 1e-3"


@pytest.mark.parametrize("with_adam, expected", [(0.8, "holds"), (0.7, "within noise"), (0.6, "does not hold")])
def test_adam(store, with_adam, expected):
    section_3_2(store, accuracy={"with Adam": with_adam})
    judged = verdict(store, "Adam")
    assert judged.verdict == expected and judged.budget == "paper, laptop"
    assert f"(not judged: {USUAL} less without: " in judged.evidence


@pytest.mark.parametrize("stated", [None, 0.1])
@pytest.mark.parametrize("usual, expected", [(0.8, "CIFAR-10: holds"), (0.6, "CIFAR-10: does not hold")])
def test_where_adam_learns_nothing_at_the_reports_rate_the_usual_one_is_judged(store, stated, usual, expected):
    section_3_2(store, accuracy={"with Adam": stated, USUAL: usual})
    mnist, cifar = next(claim for claim in claims.CLAIMS if claim.words.startswith("Adam")).rests
    bench = claims._Bench(store)
    _, part = claims.adam_helps(bench.rows(mnist), bench.rows(cifar))
    assert f"CIFAR-10: {part.verdict}" == expected
    assert part.words.startswith(f"CIFAR-10: {USUAL} less without: ") and "(not judged: with Adam" in part.words


def test_where_a_longer_run_has_no_seeds_those_of_laptop_are_said(store, monkeypatch):
    monkeypatch.setitem(experiments.SEEDS, "paper", {})
    noise(store)
    rows = rest("Batch norm costs")
    fill(store, rows, {"with": 0.75, "without": 0.7})
    for label, run in rows.runs.items():
        store.write(record(run, {"with": 0.8, "without": 0.7}[label]))
    judged = verdict(store, "Batch norm costs")
    assert judged.budget == "paper" and judged.n == (1, 1)
    assert "+10.00 ± 0.20 (at laptop +5.00, n = 3);" in judged.evidence


def test_batch_norm_rises_faster_by_the_spread_of_the_epochs_mean(store):
    noise(store)
    rows = rest("Batch norm raises")
    for shift, expected in ((0.08, "holds"), (0.01, "within noise")):
        for label, run in rows.runs.items():
            for seed, each in enumerate(experiments.replicas(run, "laptop")):
                kept = record(each, 0.9 if "BN" in label else 0.5)
                curve = [0.5 + 0.01 * seed + shift * ("BN" in label)] * each.epochs
                store.write(kept.model_copy(update={"history": kept.history | {"validation_accuracy": curve}}))
        judged = verdict(store, "Batch norm raises")
        assert judged.verdict == expected and f"mean over the epochs +{100 * shift:.2f}" in judged.evidence


@pytest.mark.parametrize("seconds, expected", [(12.0, "holds"), (13.0, "does not hold"), (7.0, "does not hold")])
def test_about_the_same_time(store, seconds, expected):
    section_3_2(store, seconds={"with Adam": seconds})
    assert verdict(store, "With and without").verdict == expected


@pytest.mark.parametrize("overfit, expected", [(-0.01, "holds"), (0.01, "does not hold")])
def test_validation_above_training(store, overfit, expected):
    section_3_2(store, overfit=overfit)
    assert verdict(store, "Validation").verdict == expected


def test_a_run_that_learned_nothing_says_nothing_of_validation_above_training():
    run = experiments.cifar_adam
    rows = SimpleNamespace(found={"dead": [record(run, 0.1, overfit=-0.1)], "alive": [record(run, 0.8)]})
    assert claims._above("CIFAR-10", rows, ["dead"]).verdict == "not measured yet"
    assert claims._above("CIFAR-10", rows, ["dead", "alive"]) == ("does not hold", "CIFAR-10: in 0 of 20 epochs")


@pytest.mark.parametrize(
    "counts, again, told",
    [((1, 1), (3, 3), True), ((1, 3), (3, 3), False), ((3, 3), (3, 3), False), ((1, 1), (1, 3), False)],
)
def test_a_difference_is_told_again_only_where_more_seeds_are_behind_each_row(counts, again, told):
    seeds = {label: [record(experiments.reseed(experiments.base, seed), 0.7) for seed in range(count)]
             for label, count in zip("ab", again)}  # fmt: skip
    rows = SimpleNamespace(seeds=seeds, _counts=lambda *labels: counts)
    words = claims.Rows.again(rows, lambda selection, row, other: 1.5, "a", "b")
    assert words == (" (at laptop +1.50, n = 3)" if told else "")


def test_a_rate_that_drops_after_the_first_epoch_leaves_nothing_to_compare_the_jump_with():
    run = experiments.replace(SECTIONS["1.9"]["learning rate"]["0.04, then 0.01"], epochs=3)
    rows = SimpleNamespace(found={"stepped": [record(run, 0.8)]}, sigma=0.1)
    assert claims._jumps(rows, "stepped") == ("not measured yet", "no curve of the stepped run")


def test_the_noise_is_that_of_the_noisiest_network(store):
    noise(store, gap=0)
    assert claims.noise(store, "1.9", "final") == 0
    seeds(store, rest("Of the final"), {"final": [0.79, 0.8, 0.81]})
    assert claims.noise(store, "1.9", "augmentation") == pytest.approx(1)  # the same network's
    assert claims.noise(store, "1", "1.4 loss") == 0


def test_the_noise_is_that_of_runs_as_long_where_these_have_seeds(store, monkeypatch):
    rows, [run] = rest("Of the final"), rest("Of the final").runs.values()
    seeds(store, rows, {"final": [0.7, 0.8, 0.9]})
    assert claims.noise(store, "1.9", "final") == pytest.approx(10)
    monkeypatch.setitem(experiments.SEEDS, "paper", {})
    store.write(record(run, 0.8))
    assert claims.noise(store, "1.9", "final") == pytest.approx(10)  # one run, judged by the shorter ones
    monkeypatch.setitem(experiments.SEEDS, "paper", {run: 3})
    for each, score in zip(experiments.replicas(run, "paper"), (0.79, 0.8, 0.81), strict=True):
        store.write(record(each, score))
    assert claims.noise(store, "1.9", "final") == pytest.approx(1)


def test_the_claims_of_a_section_are_counted_by_verdict(store):
    judged = claims.judge(store, ("2.2", "3.2"))
    assert [each.section for each in judged] == ["2.2", "3.2", "3.2", "3.2"]
    assert claims.tally(judged) == "4 *not measured yet*"
    assert claims.tally([judged[0]._replace(verdict="holds"), *judged[1:]]) == "1 *holds*, 3 *not measured yet*"


# ---------------------------------------------------------------------------- the table


def test_the_verdicts_alone_are_those_of_the_table(store):
    noise(store)
    judged = claims.judge(store)
    brief = claims.verdicts(judged)
    assert brief.frame.iloc[2].tolist() == ["1.4 NLL does better than cross-entropy.", "within noise", "3", "laptop"]
    assert brief.frame["verdict"].tolist() == [each.verdict for each in judged]
    assert brief.grid().count("\n") == len(claims.CLAIMS) + 1


def test_the_table_links_to_the_records(store):
    noise(store)
    judged = claims.judge(store)
    table = claims.table(judged)
    assert len(table.frame) == 25
    assert f'<a href="{claims.tables.address(judged[2].records[0])}">1</a>' in table._repr_html_()
    assert judged[2].records[0].run.name in table._repr_html_()
    assert records.ROOT.as_posix() not in table._repr_html_()
