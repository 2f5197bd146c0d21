"""The claims and their rules, on records made up here: each verdict can come out, and none holds on a single run."""

import hashlib

import numpy as np
import pytest

from helpers import experiments
from helpers.experiments import PRUNED
from helpers.records import VERDICTS, Store
from helpers.show import claims, support
from helpers.show.comparison import Report
from helpers.show.text import MISSING
from tests import made

CLAIMS = pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.words[:30])
SPREAD = (-0.003, 0.0, 0.003)  # of three seeds: a standard deviation of 0.3 points; ± 0.68 for a pair of rows


def curve(end: float, epochs: int, half: float = 3) -> list[float]:
    """Rises towards `end`, half of it in `half` epochs, and ends there."""
    steps = end * (1 - 0.5 ** (np.arange(1, epochs + 1) / half))
    return [*(steps * end / steps[-1])]


def histories(run, accuracy, overfit=0.1, half=3):
    validation = curve(accuracy, run.epochs, half)
    return {
        "train_loss": curve(1.0, run.epochs), "train_accuracy": [each + overfit for each in validation],
        "validation_loss": [2 - each for each in validation], "validation_accuracy": validation,
        "seconds": [10.0] * run.epochs,
    }  # fmt: skip


def filled(claim, accuracy=None, seeds=3, arrays=None, weights=None, **given):
    """A report with records of the rows of a claim alone.

    `accuracy`: by label, 0.7 unless named; `arrays`, `weights`: by label; what is `given` goes to `histories`.
    """
    found, beside = [], {}
    for title, labels in claim.rests.items():
        rows = Report(made.Kept())[title].table
        for label in labels or rows:
            for seed in range(seeds):
                run, middle = experiments.reseed(rows[label], seed), (accuracy or {}).get(label, 0.7)
                score = 0.1 if middle == 0.1 else middle + SPREAD[seed]
                values = {name: each.get(label) for name, each in given.items() if label in each}
                record = made.record(run, score).model_copy(
                    update={"history": histories(run, score, **values), "files": {"npz": ""}})  # fmt: skip
                found.append(record)
                beside[run] = (arrays or {}).get(label, {}), (weights or {}).get(label, {})
    return Report(made.Kept(*found, beside=beside), "paper")


def claim_of(words):
    [claim] = [each for each in claims.CLAIMS if each.words.startswith(words)]
    return claim


def judged(words, *arguments, **given):
    claim = claim_of(words)
    return claims.judged(claim, filled(claim, *arguments, **given))


def verdicts(words, *arguments, **given):
    return [part.verdict for part in judged(words, *arguments, **given).parts]


# ---------------------------------------------------------------------------- the list


def test_the_words_stay_as_they_are():
    text = "\n".join(f"{claim.section} {claim.words}" for claim in claims.CLAIMS)
    assert len(claims.CLAIMS) == 25
    assert hashlib.sha256(text.encode()).hexdigest()[:10] == "37680ee31a"


@CLAIMS
def test_a_claim_rests_on_declared_rows(claim):
    for title, labels in claim.rests.items():
        assert set(labels) <= set(Report(made.Kept())[title].table)


@CLAIMS
def test_without_records_it_is_not_measured_and_says_what_is_missing(claim, tmp_path):
    found = claims.judged(claim, Report(Store(tmp_path)))
    assert (found.verdict, found.n) == ("not measured yet", (0, 0)) and found.evidence.startswith("no record yet: ")


@CLAIMS
def test_nothing_holds_or_fails_on_a_single_run_but_algebra(claim):
    found = claims.judged(claim, filled(claim, seeds=1))
    proven = {"holds", "does not hold", "holds in part"} & {found.verdict}
    assert not proven or claim.section == "1.4"
    assert found.n == (1, 1) and "nan" not in found.evidence


@CLAIMS
def test_a_rule_bears_records_without_anything_beside_them(claim):
    found = claims.judged(claim, filled(claim))
    assert found.verdict in VERDICTS and found.evidence and "nan" not in found.evidence


# ---------------------------------------------------------------------------- differences of accuracy


@pytest.mark.parametrize("words, accuracy, expected", [
    ("Batch norm costs", {"with": 0.8}, ["holds", "holds"]),
    ("Batch norm costs", {"with": 0.6}, ["does not hold", "holds"]),
    ("Batch norm costs", {}, ["open", "holds"]),
    ("Dropout", {"0.3": 0.8, "0": 0.9}, ["does not hold", "holds"]),
    ("NLL", {"NLL": 0.9}, ["does not hold"]),  # by algebra, whatever is measured
    ("At a rate", {"Adam": 0.1, "RMSprop": 0.6}, ["holds", "open", "holds"]),
    ("At a rate", {"Adam": 0.6, "RMSprop": 0.6}, ["does not hold", "holds", "holds"]),  # all of them learn
    ("At a rate", {"Adam": 0.1, "Adam, usual rate 1e-3": 0.9}, ["holds", "does not hold", "open"]),
    ("ReLU", {"tanh": 0.60}, ["holds"]),
    ("ReLU", {"tanh": 0.65}, ["open"]),
    ("ReLU", {"tanh": 0.67}, ["does not hold"]),
    ("5×5", {"5×5 + 3×3": 0.68, "3×3 + 3×3": 0.66}, ["holds"] * 3),
    ("A larger", {}, ["holds", "holds"]),
    ("A larger", {"1024": 0.707, "300": 0.73}, ["open", "does not hold"]),
    ("A larger", {"1024": 0.5, "300": 0.5}, ["holds", "holds"]),  # lower is not raised either
    ("Momentum", {"0.9": 0.71}, ["holds"]),
    ("A cyclic", {"cyclic 0.01–0.04": 0.8, "0.04, then 0.01": 0.75}, ["holds", "holds"]),
    ("The kernel", {}, ["holds", "open"]),
    ("The kernel", {"3×3, stride 1": 0.72}, ["does not hold", "holds"]),
    ("Other", {}, ["holds", "open"]),
    ("DessiLBI ends", {"DessiLBI": 0.697, "SGD": 0.7}, ["open", "holds"]),  # within the report's own 1.18 points
    ("DessiLBI ends", {"DessiLBI": 0.68, "SGD": 0.7}, ["holds", "does not hold"]),
])  # fmt: skip
def test_rows_are_compared_by_the_margin_of_the_claims_word(words, accuracy, expected):
    assert verdicts(words, accuracy) == expected


def test_parts_that_differ_each_say_so():
    found = judged("Dropout", {"0.3": 0.8, "0": 0.9})
    assert found.verdict == "holds in part"
    assert "0.3 above 0: −10.00" in found.evidence and "(does not hold)" in found.evidence
    alike = judged("Batch norm costs", {"with": 0.8})
    assert alike.evidence == "with above without: +10.00 [+9.32, +10.68]; a little time: 1.00 × the time"


def test_one_run_says_which_way_it_points():
    assert "+10.00, which speaks for it" in judged("Batch norm costs", {"with": 0.8}, seeds=1).evidence
    assert "−10.00, which speaks against it" in judged("Batch norm costs", {"with": 0.6}, seeds=1).evidence


def test_time_is_compared_on_one_machine():
    claim = claim_of("Batch norm costs")
    report = filled(claim, {"with": 0.8})
    for record in report["1.2 batch norm"]["with"]:
        record.history["seconds"][:] = [13.0] * record.run.epochs
    assert [part.verdict for part in claims.judged(claim, report).parts] == ["holds", "does not hold"]


# ---------------------------------------------------------------------------- curves

CROP = "crop + flip + normalisation"


@pytest.mark.parametrize("ours, expected", [(0.02, "holds"), (0.1, "open"), (0.2, "does not hold")])
def test_overfitting_is_how_far_training_is_ahead(ours, expected):
    claim = claim_of("Crop")
    report = filled(claim, {CROP: 0.8}, overfit={CROP: ours})
    for seed, row in enumerate(zip(*report["1.9 augmentation"].values())):  # so that the seeds differ a little
        for record in row:
            record.history["train_accuracy"][-1] += SPREAD[seed]
    assert [part.verdict for part in claims.judged(claim, report).parts] == ["holds", expected]


@pytest.mark.parametrize("half, expected", [(1, "holds"), (3, "does not hold"), (6, "does not hold")])
def test_rising_faster_is_fewer_epochs_to_most_of_what_both_reach(half, expected):
    found = judged("Batch norm raises", {"VGG-A + BN": 0.71}, half={"VGG-A + BN": half, "VGG-A": 2})
    assert [part.verdict for part in found.parts] == ["holds", expected]
    assert "% after" in found.evidence


def stepped(rise):
    """Step series of a run whose accuracy is 0.8 where its rate is low, and `rise` less where it is high."""
    run = experiments.SECTIONS["1.9"]["learning rate"]["cyclic 0.01–0.04"]
    high = np.array([run.rate(step / 1000) > 0.025 for step in range(1000)])
    return {"step_loss": np.where(high, 1.2, 1.0), "step_correct": np.where(high, 64 * (0.8 - rise), 64 * 0.8)}


@pytest.mark.parametrize("rise, jump, expected", [
    (0.05, 0.1, ["holds", "holds", "holds"]), (0.01, 0.1, ["does not hold", "holds", "holds"]),
    (0.05, 0.0, ["holds", "holds", "does not hold"]),
])  # fmt: skip
def test_accuracy_swings_with_the_rate_and_jumps_where_it_drops(rise, jump, expected):
    claim = claim_of("Under the cyclic")
    report = filled(claim, arrays={"cyclic 0.01–0.04": stepped(rise)})
    for seed, record in enumerate(report["1.9 learning rate"]["0.04, then 0.01"]):
        values = record.history["validation_accuracy"]
        values[20:] = [value + jump + SPREAD[seed] / 10 for value in values[20:]]
    assert [part.verdict for part in claims.judged(claim, report).parts] == expected


def test_a_final_model_that_levels_off_and_one_that_does_not():
    level = judged("Of the final", half={"final": 3})
    assert [part.verdict for part in level.parts[:2]] == ["holds", "holds"]
    rising = judged("Of the final", half={"final": 60})
    assert rising.parts[0].verdict == "does not hold"


# ---------------------------------------------------------------------------- the loss landscape


def series(low, width):
    """A row's step series by label: two networks at four rates, whose band goes from `low` to `low` + `width`."""
    rates = ("2e-3", "1e-3", "5e-4", "1e-4")
    return {f"{name}, {rate}": {"step_loss": np.full(100, low[name] + width[name] * at / 3)}
            for name in ("VGG-A", "VGG-A + BN") for at, rate in enumerate(rates)}  # fmt: skip


@pytest.mark.parametrize("low, width, expected", [(0.5, 0.5, "for"), (2.0, 2.0, "against")])
def test_a_band_of_one_seed_stays_open_and_says_which_way_it_points(low, width, expected):
    arrays = series({"VGG-A": 1.0, "VGG-A + BN": low}, {"VGG-A": 1.0, "VGG-A + BN": width})
    found = judged("With batch norm the loss", seeds=1, arrays=arrays)
    assert found.verdict == "open (one run)" and found.evidence.count(f"speaks {expected} it") == 2


def test_bands_of_several_seeds_are_judged_seed_by_seed(monkeypatch):
    for run in experiments.landscape_runs.values():
        monkeypatch.setitem(experiments.SEEDS["paper"], run, 3)
    arrays = series({"VGG-A": 1.0, "VGG-A + BN": 0.5}, {"VGG-A": 1.0, "VGG-A + BN": 2.0})
    assert verdicts("With batch norm the loss", arrays=arrays) == ["does not hold", "does not hold"]
    arrays = series({"VGG-A": 1.0, "VGG-A + BN": 0.1}, {"VGG-A": 1.0, "VGG-A + BN": 0.5})
    assert verdicts("With batch norm the loss", arrays=arrays) == ["holds", "holds"]


# ---------------------------------------------------------------------------- sparse networks

DEAD = {"DessiLBI": 0.1}


def test_where_the_stated_setting_failed_to_train_the_nearest_is_judged_and_marked():
    found = judged("DessiLBI ends", {**DEAD, claims.WARM: 0.695, "SGD": 0.9})
    assert found.shown.endswith("†")
    assert "SGD, warm-up and drop above DessiLBI, warm-up: +0.50" in found.evidence
    stated = judged("DessiLBI ends", {"DessiLBI": 0.695, claims.WARM: 0.1})
    assert not stated.shown.endswith("†") and "SGD above DessiLBI: +0.50" in stated.evidence


def pruned(cheap, dear):
    """Accuracies with each share pruned: `cheap` less from 30 % on, `dear` less from 60 % on."""
    values = np.array([0.99 - (cheap if share >= 0.3 else 0) - (dear if share >= 0.6 else 0) for share in PRUNED])
    return {f"pruned_support_{layers}_test": values for layers in experiments.PRUNED_LAYERS}


@pytest.mark.parametrize("cheap, dear, expected", [
    (0.001, 0.1, ["holds", "holds"]), (0.001, 0.001, ["holds", "does not hold"]),
    (0.1, 0.1, ["does not hold", "holds"]),
])  # fmt: skip
def test_the_two_halves_of_pruning_are_judged_apart(cheap, dear, expected):
    found = judged("Up to 30", arrays={"DessiLBI": pruned(cheap, dear)})
    assert [part.verdict for part in found.parts] == [*expected, *expected]
    assert (found.verdict == "holds") == (expected == ["holds", "holds"])


def test_darker_filters_are_counted_over_seeds():
    bright, dark = np.ones((120, 16, 5, 5)), np.full((120, 16, 5, 5), 0.5)
    dark[:60] = 0
    weights = {"SGD": {support.CONV3: bright}, "DessiLBI": {support.CONV3: dark}}
    assert verdicts("conv3's", weights=weights)[:2] == ["holds", "holds"]
    weights = {"DessiLBI": {support.CONV3: bright}, "SGD": {support.CONV3: dark}}
    assert verdicts("conv3's", weights=weights)[:2] == ["does not hold", "does not hold"]


@pytest.mark.parametrize(
    "gamma, accuracy, expected", [(1.0, 0.8, "holds"), (0.0, 0.8, "open"), (1.0, 0.6, "does not hold")]
)
def test_adam_is_tested_only_where_something_enters_the_support(gamma, accuracy, expected):
    arrays = {"with Adam": {"path_step": np.arange(3), "path_conv": np.full((3, 4), gamma)}}
    found = judged("Adam raises", {"with Adam": accuracy}, arrays=arrays)
    assert [part.verdict for part in found.parts] == [expected, expected]
    assert ("not testable" in found.evidence) == (gamma == 0)


def test_adam_at_its_usual_rate_stands_in_on_cifar():
    claim = claim_of("Adam raises")
    report = filled(claim, arrays={claims.USUAL: {"path_conv": np.ones((2, 2))}})
    rows = report["3.2 CIFAR-10"]
    for record in rows["with Adam"]:
        object.__setattr__(record.test, "accuracy", 0.1)
    found = claims.judged(claim, report)
    assert "† with Adam, usual rate 1e-3 judged, as with Adam failed to train" in found.parts[1].words


@pytest.mark.parametrize("overfit, expected", [(-0.1, "holds"), (0.1, "does not hold")])
def test_validation_is_at_times_above_training(overfit, expected):
    found = judged("Validation", overfit={"with Adam": overfit, "without": overfit})
    assert [part.verdict for part in found.parts] == [expected] * 4


# ---------------------------------------------------------------------------- shown


def test_the_table_shows_verdict_evidence_and_seeds():
    found = [judged("DessiLBI ends", {**DEAD, claims.WARM: 0.695}), judged("Momentum", {"0.9": 0.71})]
    page = claims.table(found)._repr_html_()
    assert "† : the stated" not in page and "†: the stated setting failed" in page and "+1.00 [+0.32, +1.68]" in page
    assert claims.verdicts(found).frame["n"].tolist() == ["3", "3"]
    assert "†:" not in claims.table(found[1:]).caption


def test_a_tally_counts_verdicts_in_their_order():
    found = [judged("Momentum", {"0.9": 0.71}), judged("Momentum"), judged("Momentum", {"0.9": 0.72})]
    assert claims.tally(found) == "2 *holds*, 1 *open*"


def test_the_claims_of_a_section_are_judged_alone():
    assert {each.section for each in claims.judge(Report(made.Kept()), ("2.2", "2.3"))} == {"2.2", "2.3"}


def test_a_part_is_asked_for_by_its_name():
    claim = judged("Batch norm costs", {"with": 0.8})
    assert claim.said("with above without") in claim.evidence and claim.said("something else") is MISSING
