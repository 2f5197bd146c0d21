"""The report's claims as data: each one's words, the rows it rests on, and a short rule that judges it from records. A
verdict is never written by hand, and nothing here trains, draws or needs torch."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import experiments, records
from helpers.records import FAILS, HOLDS, ONE_RUN, OPEN, UNMEASURED, VERDICTS, Record
from helpers.show import bands, filters, support
from helpers.show.comparison import FAR, LITTLE, Comparison, Gap, Report, Row, gap_of
from helpers.show.ends import above
from helpers.show.filters import CHEAP, DEAR
from helpers.show.grid import Grid
from helpers.show.text import MISSING, NORMED, PLAIN, counted, listed, missing

DAGGER = "†"  # beside a verdict: the stated setting failed to train, and the nearest that trained was judged
SWING = 2.0  # points of training accuracy between low and high rates: "widely"; a constant rate shows less than 0.5
WINDOW = 5  # epochs before and after a jump, so that no single one decides
SLIGHT_RISE = 25  # percent of the loss's whole fall: "rises slightly"
LITTLE_TIME = 1.25  # times the seconds: "a little time", "about the same time"; our timings are good to about that
MOST = 0.9  # of an accuracy: where a curve has risen, before it creeps
AT_TIMES = 0.1  # of the epochs: "at times"; a single epoch can be chance


class Part(NamedTuple):
    """What a rule finds on one part of a claim: what it is about, a verdict, and the numbers behind it in words."""

    name: str
    verdict: str
    words: str

    def adding(self, words: str) -> "Part":
        return self._replace(words=self.words + words)


class Claim(NamedTuple):
    """One claim. `rests`: title of a table → the labels of the rows that it rests on, all of them if none is named;
    `rule` is given a Comparison for each of these tables, with a record of every label, and answers Parts."""

    section: str
    words: str
    rests: Mapping[str, tuple[str, ...]]
    rule: Callable[..., list[Part]]


class Judgement(NamedTuple):
    """A claim judged. `n`: seeds a row, fewest and most."""

    section: str
    claim: str
    parts: tuple[Part, ...]
    n: tuple[int, int]

    @property
    def verdict(self) -> str:
        return records.together(part.verdict for part in self.parts)

    def said(self, name: str) -> Any:
        """What is found on one of its parts, in words; MISSING where there is no record."""
        return next((part.words for part in self.parts if part.name == name), MISSING)

    @property
    def shown(self) -> str:
        """The verdict, with † where another setting than the stated one was judged, since that failed to train."""
        return self.verdict + (f" {DAGGER}" if any(DAGGER in part.words for part in self.parts) else "")

    @property
    def evidence(self) -> str:
        """The numbers; where the parts differ, each with its own verdict."""
        alike = len({part.verdict for part in self.parts}) == 1
        return "; ".join(f"{part.name}: {part.words}" + ("" if alike else f" ({part.verdict})") for part in self.parts)


# ------------------------------------------------------------------------------------------ what rules say


def between(name: str, gap: Any, above: float = 0.0, below: float = math.inf, words: str = "{}") -> Part:
    """That a `Gap` lies between two margins, in points or what else it is measured in; `words` are told of it."""
    if missing(gap):
        return Part(name, UNMEASURED, "not measured yet")
    verdict = gap.judge(above, below)
    leaning = f", which speaks {records.leans(gap.value, above, below)} it" if verdict == ONE_RUN else ""
    return Part(name, verdict, words.format(gap) + leaning)


def higher(rows: Comparison, label: str, other: str) -> Part:
    """That `label` is more accurate than `other`."""
    return between(f"{label} above {other}", rows.gap(label, other))


def little(rows: Comparison, label: str, other: str) -> Part:
    """That the two differ by at most LITTLE points, or by what the report itself calls little, if that is more."""
    gap = rows.gap(label, other)
    margin = LITTLE if missing(gap.reported) else max(LITTLE, abs(gap.reported))
    return between(f"within {margin:.3g} point{'s' * (margin > 1)}", gap, -margin, margin)


def no_gain(rows: Comparison, label: str, other: str) -> Part:
    """That `label` is at most LITTLE points more accurate than `other`."""
    return between(f"{label} no better than {other}", rows.gap(label, other), -math.inf, LITTLE)


def measured(name: str, ours: Sequence[float], theirs: Sequence[float], *margins: float, words: str = "{}") -> Part:
    """That a number taken of each run of two rows differs between them as `between` says."""
    return between(name, gap_of(ours, theirs), *margins, words=words)


def number(name: str, values: Sequence[float], above=-math.inf, below=math.inf, words: str = "{}") -> Part:
    """That a number taken of each run of one row lies between two limits."""
    if not len(values) or not np.isfinite(values).all():
        return between(name, MISSING)
    found = records.average(values, records.pooled([values]))
    return between(name, Gap(found, (len(values),)), above, below, words)


def ratio_of_times(name: str, gap: Any, least: float = 0.0) -> Part:
    """That an epoch takes between `least` and LITTLE_TIME times as long; times of one machine, without an interval."""
    if missing(gap.seconds):
        return Part(name, UNMEASURED, "not timed on one machine yet")
    return counting(name, least <= gap.seconds <= LITTLE_TIME, min(gap.counts), f"{gap.seconds:.2f} × the time")


def counting(name: str, fact: bool, n: int, words: str) -> Part:
    """What is counted in n runs, not estimated."""
    return Part(name, ONE_RUN if n < 2 else HOLDS if fact else FAILS, words)


def first_trained(rows: Comparison, *labels: str) -> tuple[str, str]:
    """The first of some rows that learned, and a † with what the others did, if it isn't the first of all."""
    label = next((each for each in labels if rows[each].learned), labels[0])
    failed = labels[: labels.index(label)]
    return label, f" ({DAGGER} {label} judged, as {listed(failed)} failed to train)" if failed else ""


# ------------------------------------------------------------------------------------------ section 1


def batch_norm(rows: Comparison) -> list[Part]:
    return [higher(rows, "with", "without"), ratio_of_times("a little time", rows.gap("with", "without"))]


def one_function(rows: Comparison) -> list[Part]:
    """Decided by algebra: a log-softmax and its NLL are cross-entropy, so neither can do better."""
    gap = rows.gap("NLL", "cross-entropy")
    return [Part("NLL above cross-entropy", FAILS, f"the two are one function; chance gave {gap}")]


def optimizers(rows: Comparison) -> list[Part]:
    """Sensitive is what fails at the common rate and learns at its usual one; SGD is compared with what learned."""
    others = {name: f"{name}, usual rate 1e-3" for name in ("Adam", "RMSprop")}
    fallen = [name for name, usual in others.items() if not rows[name].learned and rows[usual].learned]
    said = f"at 0.1 {listed(fallen)} failed to train, at 1e-3 learned" if fallen else "all learn"
    sensitive = counting("sensitive", bool(fallen), min(rows[name].n for name in others), said)
    judged = [first_trained(rows, *pair) for pair in others.items()]
    return [sensitive, *(higher(rows, "SGD with momentum", label).adding(words) for label, words in judged)]


# ------------------------------------------------------------------------------------------ section 1.9


def ahead(row: Row) -> list[float]:
    """How far training accuracy is ahead of validation accuracy at the end of each run, in points."""
    ends = [(each.history["train_accuracy"][-1], each.history["validation_accuracy"][-1]) for each in row.alive]
    return [100 * (training - validation) for training, validation in ends]


def augmentation(rows: Comparison) -> list[Part]:
    relief = measured("overfits less", ahead(rows[CROP]), ahead(rows["none"]), -math.inf, 0)
    return [higher(rows, CROP, "none"), relief]


def decay(rows: Comparison, before: Comparison, final: Comparison) -> list[Part]:
    relief = measured("overfits less", ahead(final["final"]), ahead(before[SMALL]), -math.inf, 0)
    return [higher(rows, "1e-4", "none"), relief]


def swings(rows: Comparison) -> list[Part]:
    """A jump is what the stepped run gains over its drop beyond what one at a constant rate gains in those epochs."""
    cyclic, stepped = rows[CYCLIC], rows[STEPPED]
    steps = [(each, series) for each, series in zip(cyclic, cyclic.series) if "step_correct" in series]
    accuracy = [_by_rate(each, 100 * (series["step_correct"] / each.run.batch_size)) for each, series in steps]
    loss = [_by_rate(each, series["step_loss"]) for each, series in steps]
    drop = round(stepped.run.schedule.at[0] * stepped.epochs)
    jump = measured("accuracy jumps", *(gains(row, drop) for row in (stepped, rows["0.01"])), LITTLE)
    return [
        number("accuracy swings", accuracy, SWING, words="{} points from high to low rates"),
        number("loss swings", loss, -math.inf, 0, words="{} nats from high to low rates"),
        jump.adding(" points more than at a constant rate"),
    ]


def _by_rate(record: Record, values: np.ndarray) -> float:
    """A step-level series at the lowest quarter of rates less that at the highest, from the second cycle on: means."""
    rates = np.array([record.run.rate(step / len(values)) for step in range(len(values))])
    low, high = np.quantile(rates, (0.25, 0.75))
    settled = np.arange(len(values)) > 0.15 * len(values)
    return float(values[settled & (rates <= low)].mean() - values[settled & (rates >= high)].mean())


def gains(row: Row, epoch: int) -> list[float]:
    """Validation accuracy of each run in the WINDOW epochs after an epoch less that in the WINDOW before, in points."""
    curves = [100 * np.array(record.history["validation_accuracy"], dtype=float) for record in row.alive]
    return [float(each[epoch : epoch + WINDOW].mean() - each[epoch - WINDOW : epoch].mean())
            for each in curves if WINDOW <= epoch <= len(each) - WINDOW]  # fmt: skip


def levels_off(rows: Comparison) -> list[Part]:
    accuracy, loss = (_over_cycles(rows["final"], f"validation_{what}") for what in ("accuracy", "loss"))
    late = [100 * float(each[-len(each) // 4 :].mean() - each[-len(each) // 2 : -len(each) // 4].mean())
            for each in accuracy]  # fmt: skip
    # Of the loss's whole fall, in percent: what it has fallen by half-way, and what it rises by in the end.
    early = [100 * (each[0] - each[: len(each) // 2].min()) / (each[0] - each.min()) for each in loss]
    rise = [100 * (each[-1] - each.min()) / (each[0] - each.min()) for each in loss]
    return [
        number("accuracy levels off", late, -LITTLE, LITTLE, "{} points in the last quarter"),
        number("loss falls fast", early, 50, words="{} % in the first half"),
        number("loss then rises slightly", rise, 0, SLIGHT_RISE, "{} % of this"),
    ]


def _over_cycles(row: Row, name: str) -> list[np.ndarray]:
    """Each run's curve as means over one cycle of the rate, since epochs end at different rates; none of short runs."""
    curves = []
    for record in row.alive:
        epochs = max(1, round(record.run.epochs * (record.run.schedule.up + record.run.schedule.down)))
        curves.append(np.convolve(np.array(record.history[name], dtype=float), np.full(epochs, 1 / epochs), "valid"))
    return [curve for curve in curves if len(curve) > 3]


def other_activations(rows: Comparison) -> list[Part]:
    return [no_gain(rows, "tanh", "ReLU"), Part("other losses", OPEN, "none was run, as the report names none")]


# ------------------------------------------------------------------------------------------ section 2


def vgg_accuracy(rows: Comparison) -> list[Part]:
    """Faster: fewer epochs, as a logarithm, to MOST of the accuracy that the lower of the two ends with."""
    level = MOST * min(float(rows[label].last("validation_accuracy")) for label in (NORMED, PLAIN))
    ours, theirs = (rows[label].reaches("validation_accuracy", level) for label in (NORMED, PLAIN))
    said = f"{100 * level:.0f} % after {listed(map(str, ours))} epochs, without after {listed(map(str, theirs))}"
    logs = (np.log(each).tolist() for each in (ours, theirs))
    return [higher(rows, NORMED, PLAIN), measured("rises faster", *logs, -math.inf, 0, words=said)]


def landscape(what: str, words: Mapping[str, str], rows: Comparison) -> list[Part]:
    """That the band of a step-level series over the rates is lower or narrower with batch norm, seed by seed.

    `words`: "middle" or "width" of the band → what the claim calls it. A whole run is one observation: its steps hang
    together. The logarithm of the mean over the run is compared, so that scales do.
    """
    found = {name: bands.by_seed(each, what) for name, each in bands.networks(rows).items()}
    parts = []
    for of, name in words.items():
        ours, theirs = ([math.log(getattr(each, of).mean()) for each in found[network]] for network in (NORMED, PLAIN))
        times = math.exp(np.mean(ours) - np.mean(theirs)) if ours and theirs else math.nan
        parts.append(measured(name, ours, theirs, -math.inf, 0, words=f"{times:.2f} × that without"))
    return parts


# ------------------------------------------------------------------------------------------ section 3


# Where the stated start kills DessiLBI's network, these are the nearest that train, at one schedule.
WARM, WARM_SGD = "DessiLBI, warm-up", "SGD, warm-up and drop"


def _pair(rows: Comparison) -> tuple[str, str, str]:
    """SGD and DessiLBI as stated, or with a warm-up where the stated failed to train, and then a † in words."""
    label, said = first_trained(rows, "DessiLBI", WARM)
    return (WARM_SGD if said else "SGD"), label, said


def slightly_below(rows: Comparison) -> list[Part]:
    sgd, label, said = _pair(rows)
    return [higher(rows, sgd, label), little(rows, sgd, label).adding(said)]


def prunable(rows: Comparison) -> list[Part]:
    label, said = first_trained(rows, "DessiLBI", WARM)
    parts = []
    for layers in experiments.PRUNED_LAYERS:
        ours, name = filters.Pruned(rows[label], "support", layers), layers.replace("_", " + ")
        cheap, dear = (list(100 * (ours.scores(0) - ours.scores(share))) for share in (0.3, 0.6))
        parts.append(number(f"{name}, 30 % cost almost nothing", cheap, below=CHEAP, words="{} points"))
        parts.append(number(f"{name}, 60 % cost much", dear, above=DEAR, words="{} points"))
    return [*parts[:-1], parts[-1].adding(said)]


def darker(rows: Comparison) -> list[Part]:
    sgd, label, said = _pair(rows)
    ours, theirs = (filters.weights_of(rows[each]) for each in (label, sgd))
    shades = ([math.log(float(np.abs(each).mean())) for each in kept] for kept in (ours, theirs))
    blacks = ([filters.near_zero(each) for each in kept] for kept in (ours, theirs))
    return [
        measured("darker", *shades, -math.inf, 0).adding(" in ln of mean |w|"),
        measured("more black", *blacks).adding(" of 120 filters"),
        between("no accuracy lost", rows.gap(label, sgd), -CHEAP).adding(said),
    ]


ADAM, USUAL, WITHOUT = "with Adam", "with Adam, usual rate 1e-3", "without"


def adam_helps(mnist: Comparison, cifar: Comparison) -> list[Part]:
    return [
        _adam("MNIST", mnist, (ADAM,), (WITHOUT, "without, warm-up")),
        _adam("CIFAR-10", cifar, (ADAM, USUAL), (WITHOUT,)),
    ]


def _adam(data: str, rows: Comparison, ours: Sequence[str], theirs: Sequence[str]) -> Part:
    """Not testable where Γ stays empty: that is plain Adam, whatever it scores."""
    (label, first), (other, second) = first_trained(rows, *ours), first_trained(rows, *theirs)
    part = between(data, rows.gap(label, other))
    ends = [path[-1] for series in rows[label].series for path in support.paths(series).values()]
    if part.verdict != UNMEASURED and not any(np.any(end > 0) for end in ends):
        part = Part(data, OPEN, f"{part.words}, but Γ stays empty: Adam alone, so not testable")
    return part.adding(first + second)


def adam_as_fast(mnist: Comparison, cifar: Comparison) -> list[Part]:
    """A step takes as long at any rate: where the two were timed on different machines, the rate as stated serves."""
    timed = (mnist.gap(ADAM, label) for label in (WITHOUT, "without, as stated"))
    known = next((gap for gap in timed if not missing(gap.seconds)), MISSING)
    pairs = {"MNIST": known, "CIFAR-10": cifar.gap(ADAM, WITHOUT)}
    return [ratio_of_times(data, gap, 1 / LITTLE_TIME) for data, gap in pairs.items()]


def validation_above(mnist: Comparison, cifar: Comparison) -> list[Part]:
    parts = []
    for data, rows in (("MNIST", mnist), ("CIFAR-10", cifar)):
        for row in (rows[label] for label in (ADAM, WITHOUT) if rows[label].learned):
            share = np.mean(above(row))
            words = f"in {100 * share:.0f} % of the epochs"
            parts.append(counting(f"{data} {row.label}", share > AT_TIMES, len(row.alive), words))
    return parts


# ------------------------------------------------------------------------------------------ the claims


def _pairs(*pairs: tuple[str, str]) -> Callable[[Comparison], list[Part]]:
    """The rule that in each pair the first row is the more accurate one."""
    return lambda rows: [higher(rows, *pair) for pair in pairs]


def _all(*titles: str) -> dict[str, tuple[str, ...]]:
    return {title: () for title in titles}


OPTIMIZER = {"3.1 optimizer": ("SGD", WARM_SGD, "DessiLBI", WARM)}
ADAM_ROWS = {"3.2 MNIST": (ADAM, WITHOUT), "3.2 CIFAR-10": (ADAM, USUAL, WITHOUT)}
CYCLIC, STEPPED = "cyclic 0.01–0.04", "0.04, then 0.01"
CROP, SMALL, LARGE = "crop + flip + normalisation", "3×3, stride 1", "5×5, stride 2"

CLAIMS = (
    Claim("1.2", "Batch norm costs a little time and raises accuracy.", _all("1.2 batch norm"), batch_norm),
    Claim("1.3", "Dropout after the convolutions raises accuracy; 0.3 beats 0 and 0.5.",
          {"1.3 dropout after each conv": ("0", "0.3", "0.5")}, _pairs(("0.3", "0"), ("0.3", "0.5"))),
    Claim("1.4", "NLL does better than cross-entropy.", _all("1.4 loss"), one_function),
    Claim("1.5", "At a rate of 0.1 some optimizers don't converge: they are sensitive to it; SGD with momentum is"
          " best.", _all("1.5 optimizer"), optimizers),
    Claim("1.6", "ReLU does better than tanh, by far.", _all("1.6 activation"),
          lambda rows: [between(f"ReLU above tanh by {FAR:g} points", rows.gap("ReLU", "tanh"), FAR)]),
    Claim("1.6", "5×5 kernels in both layers are best; the smaller, the worse.", _all("1.6 kernels"),
          _pairs(("5×5 + 5×5", "5×5 + 3×3"), ("5×5 + 5×5", "3×3 + 3×3"), ("5×5 + 3×3", "3×3 + 3×3"))),
    Claim("1.7", "A larger hidden layer doesn't raise accuracy.", _all("1.7 hidden size"),
          lambda rows: [no_gain(rows, "1024", "100"), no_gain(rows, "300", "100")]),
    Claim("1.9", "Crop, flip and normalisation raise generalisation clearly.", _all("1.9 augmentation"), augmentation),
    Claim("1.9", "L2 raises accuracy; a stronger one at the end relieves the overfitting that is left.",
          {"1.9 L2 regularisation": ("none", "1e-4"), "1.9 kernel of one block": (SMALL,), "1.9 final": ()}, decay),
    Claim("1.9", "Momentum 0.9 does better than 0.5.", _all("1.9 momentum"), _pairs(("0.9", "0.5"))),
    Claim("1.9", "A cyclic rate beats the stepped one, and that beats the constant one.",
          _all("1.9 learning rate"), _pairs((CYCLIC, STEPPED), (STEPPED, "0.01"))),
    Claim("1.9", "Under the cyclic rate accuracy and loss swing with the cycle, accuracy widely; under the stepped one"
          " accuracy jumps where the rate drops.", _all("1.9 learning rate"), swings),
    Claim("1.9", "The kernel of one block matters little; 3×3 is slightly better.",
          _all("1.9 kernel of one block"), lambda rows: [little(rows, SMALL, LARGE), higher(rows, SMALL, LARGE)]),
    Claim("1.9", "Other activations and losses don't help the deeper network (said without figures).",
          _all("1.9 other activations and losses"), other_activations),
    Claim("1.9", "Of the final model, accuracy levels off and loss falls fast, then rises slightly.",
          _all("1.9 final"), levels_off),
    Claim("2.1", "Batch norm raises VGG-A's accuracy, and it rises faster.", _all("2.1 accuracy"), vgg_accuracy),
    Claim("2.2", "With batch norm the loss falls faster and varies less over learning rates.",
          _all("2.2 loss landscape"), functools.partial(landscape, "step_loss", {"middle": "lower",
                                                                                 "width": "narrower"})),
    Claim("2.3", "With batch norm gradients are more predictable: their differences are steadier.",
          _all("2.2 loss landscape"), functools.partial(landscape, "gradient_change", {"width": "narrower"})),
    Claim("2.4", "With batch norm effective β is smaller and steadier.",
          _all("2.2 loss landscape"), functools.partial(landscape, "smoothness", {"middle": "smaller",
                                                                                  "width": "narrower"})),
    Claim("3.1", "DessiLBI ends slightly below SGD at these settings.", OPTIMIZER, slightly_below),
    Claim("3.1", "Up to 30–40 % of conv3 (and fc1) can be pruned at almost no cost; beyond, accuracy falls fast.",
          {"3.1 optimizer": ("DessiLBI", WARM)}, prunable),
    Claim("3.1", "conv3's filters under DessiLBI are darker, more of them black, than under SGD: it selects sparse"
          " filters without losing accuracy.", OPTIMIZER, darker),
    Claim("3.2", "Adam raises DessiLBI's accuracy, on MNIST and on CIFAR-10.", ADAM_ROWS, adam_helps),
    Claim("3.2", "With and without Adam it takes about the same time.", ADAM_ROWS, adam_as_fast),
    Claim("3.2", "Validation accuracy is at times above training accuracy (the report guesses at underfitting).",
          ADAM_ROWS, validation_above),
)  # fmt: skip


# ------------------------------------------------------------------------------------------ judging


def judge(report: Report, sections: Sequence[str] | None = None) -> list[Judgement]:
    """CLAIMS, or those of some of the report's sections ("1.2"), judged from one budget's records, in their order."""
    return [judged(claim, report) for claim in CLAIMS if sections is None or claim.section in sections]


def judged(claim: Claim, report: Report) -> Judgement:
    rows = [(label, title, report[title][label]) for title, labels in claim.rests.items()
            for label in labels or report[title]]  # fmt: skip
    absent = [f"{label} ({title})" for label, title, row in rows if not row]
    if absent:
        parts = [Part("no record yet", UNMEASURED, listed(absent) if len(absent) < 4 else counted(len(absent), "row"))]
    else:
        parts = claim.rule(*(report[title] for title in claim.rests))
    counts = [row.n for *_, row in rows]
    return Judgement(claim.section, claim.words, tuple(parts), (min(counts), max(counts)))


def tally(judged: Sequence[Judgement]) -> str:
    """How often each verdict falls, in words."""
    counts = Counter(each.verdict for each in judged)
    return ", ".join(f"{counts[name]} *{name}*" for name in VERDICTS if counts[name])


CAPTION = "The report's claims, judged from records"


def verdicts(judged: Sequence[Judgement]) -> Grid:
    """The claims and their verdicts alone."""
    lines = [(f"{each.section} {each.claim}", each.shown, "–".join(dict.fromkeys(map(str, each.n)))) for each in judged]
    return Grid(pd.DataFrame(lines, columns=["claim", "verdict", "n"]), f"{CAPTION}.", left=("verdict",))


def table(judged: Sequence[Judgement]) -> Grid:
    """The claims, their verdicts and the evidence."""
    frame = verdicts(judged).frame
    frame.insert(2, "evidence", [each.evidence for each in judged])
    gaps = any("[" in each.evidence for each in judged)
    note = " Differences are in points, with their 95 % interval in brackets;" * gaps + " n: seeds a row."
    if any(DAGGER in each.shown for each in judged):
        note += f" {DAGGER}: the stated setting failed to train, and the nearest that trained was judged."
    return Grid(frame, f"{CAPTION}.{note}", left=("verdict", "evidence"))
