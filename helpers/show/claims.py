"""The report's claims as data: each one's words, the rows it rests on and a rule that judges it from records. A verdict
is never written by hand, and nothing here trains, draws or needs torch."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from helpers import experiments, records
from helpers.experiments import SECTIONS, Run
from helpers.records import Record, RecordError, Selection, Store
from helpers.show import bands, filters, readings, tables
from helpers.show.filters import CONV3
from helpers.show.readings import NORMED, PLAIN

VERDICTS = ("holds", "does not hold", "within noise", "not measured yet")

# What the report's words mean here, where it gives no number.
MUCH = 5.0  # points: "by far"
LITTLE = 2.0  # points: "slightly", "matters little", "almost levels off"
SWING = 2.0  # points of training accuracy between low and high rates: "widely"
SLIGHT_RISE = 0.25  # of the loss's whole fall: "rises slightly"
LITTLE_TIME = 1.25  # times the seconds: "a little time", "about the same time"; our timings are good to about that
OPPOSITE = {"holds": "does not hold", "does not hold": "holds"}


class Part(NamedTuple):
    """What a rule finds on one part of a claim: a verdict, and the numbers behind it in a few words."""

    verdict: str
    words: str


class Rest(NamedTuple):
    """Rows that a claim rests on: `labels` of the `runs` of one table, all of the largest budget that has them all."""

    section: str
    table: str
    runs: Mapping[str, Run]
    labels: tuple[str, ...]


class Claim(NamedTuple):
    """One claim; `rule` is given a `Rows` for each of `rests`, with at least one record a label, and answers Parts."""

    section: str
    words: str
    rests: tuple[Rest, ...]
    rule: Callable[..., list[Part]]


class Judgement(NamedTuple):
    """A claim judged. `n`: seeds a row, fewest and most; `spread`: one run's standard deviation over the seeds of these
    rows, in points, NaN without several; `records`: what the verdict rests on; `missing`: rows without a record."""

    section: str
    claim: str
    verdict: str
    evidence: str
    n: tuple[int, int]
    spread: float
    budget: str
    records: tuple[Record, ...]
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(record.run.name for record in self.records)


# ------------------------------------------------------------------------------------------ what rules ask


class Rows:
    """The records of a Rest, and the questions that rules ask of them; `sigma` is the noise of one run, in points."""

    def __init__(self, rest: Rest, found: Selection, sigma: float, store: Store):
        self.rest, self.found, self.sigma, self.store = rest, found, sigma, store

    def better(self, row: str, other: str) -> Part:
        """That `row` is more accurate than `other`, by more than noise."""
        gap = readings.gap(self.found, row, other)
        if gap is None:
            said = self._fallen(row, other)
        else:
            said = self._with_noise(gap, row, other) + self.again(readings.gap, row, other)
        return Part(readings.verdict(self.found, row, other, self.sigma), f"{row} less {other}: {said}")

    def no_better(self, row: str, other: str) -> Part:
        """That `row` is not more accurate than `other`; a difference within noise leaves that open."""
        part = self.better(row, other)
        return part._replace(verdict=OPPOSITE.get(part.verdict, part.verdict))

    def far(self, row: str, other: str) -> Part:
        """That `row` is more accurate by at least MUCH points, and by more than noise beyond them."""
        gap = readings.gap(self.found, row, other)
        if gap is None:
            return self.better(row, other)
        return Part(self._beyond(gap - MUCH, row, other), f"by far: {MUCH:g} points or more")

    def near(self, row: str, other: str) -> Part:
        """That the two rows end at most LITTLE points apart, by more than noise."""
        gap = readings.gap(self.found, row, other)
        if gap is None:
            return Part("does not hold", self._fallen(row, other))
        return Part(self._beyond(LITTLE - abs(gap), row, other), f"little: {LITTLE:g} points or less")

    def keeps(self, row: str, other: str) -> Part:
        """That `row` is at most filters.CHEAP points less accurate than `other`, by more than noise."""
        gap = readings.gap(self.found, row, other)
        if gap is None:
            return self.no_better(other, row)
        words = (
            f"{row} less {other}: {self._with_noise(gap, row, other)}; without losing: {filters.CHEAP:g} points or less"
        )
        return Part(self._beyond(gap + filters.CHEAP, row, other), words)

    def cheap(self, row: str, other: str) -> Part:
        """That an epoch of `row` takes at most LITTLE_TIME times as long as one of `other`."""
        ratio = readings.time_ratio(self.found, row, other)
        return _bounded(ratio, at_most=LITTLE_TIME, words=f"{tables.text(round(ratio, 2))} × the time")

    def as_fast(self, row: str, other: str) -> Part:
        """That neither row takes more than LITTLE_TIME times as long as the other."""
        ratio = readings.time_ratio(self.found, row, other)
        return self.cheap(row, other)._replace(verdict=_within(abs(math.log(ratio)), math.log(LITTLE_TIME)))

    def learns(self, label: str) -> bool:
        """Whether at least one run of a row does better than guessing."""
        return any(map(records.learned, self.found[label]))

    def ahead(self, row: str, other: str) -> Part:
        """That training accuracy is less far ahead of validation accuracy in `row` than in `other`, by more than noise.

        The noise of one run's test accuracy stands for that of its validation accuracy.
        """
        ours, theirs = (readings.ahead(self.found[label]) for label in (row, other))
        if ours is None or theirs is None:
            return Part("does not hold" if ours is None else "holds", "one of the two diverged")
        verdict = self._beyond(theirs - ours, row, other)
        words = f"{row} {tables.signed(ours)}, {other} {tables.signed(theirs)}"
        return Part(verdict, f"training ahead of validation by: {words}")

    def arrays(self, label: str) -> list[dict[str, np.ndarray]]:
        """The series beside each record of a row; none where they can't be read."""
        return [each for record in self.found[label] if (each := readings.series([record], self.store))]

    @functools.cached_property
    def seeds(self) -> Selection:
        """The same rows where they have several seeds: as found, or at "laptop"."""
        return readings.seeded(self.rest.runs, self.found, self.store)

    def again(self, gap: Callable, row: str, other: str) -> str:
        """A difference (`gap`) at "laptop", in words, where more seeds are behind it than behind the one at hand."""
        counts = [len(records.accuracies(self.seeds[label])) for label in (row, other)]
        if min(counts) <= max(self._counts(row, other)):
            return ""
        return f" (at laptop {tables.signed(gap(self.seeds, row, other))}, n = {min(counts)})"

    def _counts(self, *labels: str) -> list[int]:
        return [len(records.accuracies(self.found[label])) for label in labels]

    def _beyond(self, margin: float, *labels: str) -> str:
        """The verdict on a margin (points) that hangs on the accuracies of two rows."""
        return readings.beyond(margin, self._counts(*labels), readings.noise_between(self.found, *labels, self.sigma))

    def _with_noise(self, gap: float, *labels: str) -> str:
        """A difference of two rows in accuracy, ± its standard deviation."""
        deviation = readings.bar(readings.noise_between(self.found, *labels, self.sigma), self._counts(*labels)) / 2
        return tables.signed(gap) + ("" if math.isnan(deviation) else f" ± {deviation:.2f}")

    def _fallen(self, *labels: str) -> str:
        return " and ".join(label for label in labels if not records.accuracies(self.found[label])) + " diverged"


def _yes(fact: bool) -> str:
    return "holds" if fact else "does not hold"


def _within(value: float, limit: float) -> str:
    return "not measured yet" if math.isnan(value) else _yes(value <= limit)


def _bounded(value: float | None, *, words: str, at_least: float = -math.inf, at_most: float = math.inf) -> Part:
    if value is None or math.isnan(value):
        return Part("not measured yet", words)
    return Part(_yes(at_least <= value <= at_most), words)


def _unmeasured(what: str) -> list[Part]:
    return [Part("not measured yet", f"{what} not recorded")]


# ------------------------------------------------------------------------------------------ rules


def batch_norm(rows: Rows) -> list[Part]:
    return [rows.better("with", "without"), rows.cheap("with", "without")]


def one_function(rows: Rows) -> list[Part]:
    """The two losses are the same function, and their gap is part of the noise: it can't come out beyond it."""
    part = rows.better("NLL", "cross-entropy")
    return [part._replace(words=f"{part.words}; one function, so any gap is noise")]


def optimizers(rows: Rows) -> list[Part]:
    usual = {name: f"{name}, usual rate 1e-3" for name in ("Adam", "RMSprop")}
    best = [rows.better("SGD with momentum", other) for other in (*usual, *usual.values())]
    return [_sensitive(rows, usual), *best]


def _sensitive(rows: Rows, usual: Mapping[str, str]) -> Part:
    """That at least one optimizer learns nothing, or diverges, at the report's rate and learns at its usual one."""
    fact = any(not rows.learns(stated) and rows.learns(other) for stated, other in usual.items())
    said = (f"{stated} {tables.measured(rows.found[stated])} at 0.1, {tables.measured(rows.found[other])} at 1e-3"
            for stated, other in usual.items())  # fmt: skip
    return Part(_yes(fact), "; ".join(said))


def swings(rows: Rows) -> list[Part]:
    return [*_cyclic(rows, "cyclic 0.01–0.04"), _jumps(rows, "0.04, then 0.01")]


def _cyclic(rows: Rows, label: str) -> list[Part]:
    arrays = rows.arrays(label)
    if not arrays or any(not len(arrays[0].get(name, ())) for name in ("step_loss", "step_correct")):
        return _unmeasured("steps of the cyclic run")
    record = rows.found[label][0]
    slow, fast = readings.accuracy_by_rate(record, arrays[0])
    low, high = readings.by_rate(record, arrays[0]["step_loss"])
    return [
        _bounded(slow - fast, at_least=SWING, words=f"training accuracy {slow:.1f} at low rates, {fast:.1f} at high"),
        _bounded(high - low, at_least=0, words=f"loss {low:.2f} and {high:.2f}"),
    ]


def _jumps(rows: Rows, label: str) -> Part:
    record = rows.found[label][0]
    moment = record.run.schedule.at[0]
    curve = readings.curve(record, "validation_accuracy")
    if not 2 <= round(moment * record.run.epochs) < len(curve) or not np.isfinite(curve).all():
        return Part(
            "does not hold" if record.state == "diverged" else "not measured yet", "no curve of the stepped run"
        )
    after, before = readings.jump(record, moment)
    return Part(
        readings.jumped(after, before, rows.sigma),
        f"where the rate drops {tables.signed(after)} in an epoch, before at most {tables.signed(before)}",
    )


def levels_off(rows: Rows) -> list[Part]:
    """Of the mean curves over the seeds, each point the mean over one cycle of the rate."""
    found = rows.found["final"]
    if any(record.state == "diverged" for record in found):
        return [Part("does not hold", tables.measured(found))]
    accuracy, loss = (
        readings.over_cycles(readings.mean_curve(found, f"validation_{what}"), found[0].run)
        for what in ("accuracy", "loss")
    )
    if min(len(accuracy), len(loss)) < 4 or not np.isfinite([*accuracy, *loss]).all():
        return _unmeasured("curves")
    quarter, lowest = len(accuracy) // 4, int(loss.argmin())
    late = 100 * (accuracy[-quarter:].mean() - accuracy[-2 * quarter : -quarter].mean())
    early = (loss[0] - loss[: len(loss) // 2].min()) / max(loss[0] - loss[lowest], 1e-9)
    rise = loss[-1] - loss[lowest]
    return [
        _bounded(
            abs(late), at_most=LITTLE, words=f"accuracy {tables.signed(late)} from the last quarter but one to the last"
        ),
        _bounded(early, at_least=0.5, words=f"{100 * early:.0f} % of the loss's fall in the first half"),
        Part(
            _yes(0 < rise < SLIGHT_RISE * (loss[0] - loss[lowest])),
            f"loss, mean over a cycle, {loss[lowest]:.3f} at its lowest, {loss[-1]:.3f} at the end",
        ),
    ]


def vgg_accuracy(rows: Rows) -> list[Part]:
    higher, gap = rows.better(NORMED, PLAIN), readings.epochs_gap(rows.found, NORMED, PLAIN)
    if gap is None:
        return [higher]
    faster = readings.rises_faster(rows.found, NORMED, PLAIN, rows.seeds)
    again = rows.again(readings.epochs_gap, NORMED, PLAIN)
    return [higher, Part(faster, f"mean over the epochs {tables.signed(gap)}{again}")]


def landscape(what: str, words: Sequence[str], rows: Rows, unjudged: Sequence[str] = ()) -> list[Part]:
    """That a step-level series is what `words` say with batch norm: "lower", "narrower" or "steadier".

    What is `unjudged` is said as well: it is no part of the claim, but a reader would ask.
    """
    pair = bands.networks(rows.rest.runs, rows.found).values()
    parts = []
    for word in words:
        verdict, won, of = bands.compare(*pair, rows.store, what, word)
        parts.append(Part(verdict, f"{word} in {won} of {of} stretches"))
    said = [bands.compare(*pair, rows.store, what, word)[1:] for word in unjudged]
    told = "".join(f" (not judged: {word} in {won} of {of})" for word, (won, of) in zip(unjudged, said))
    return [*parts[:-1], parts[-1]._replace(words=parts[-1].words + told)]


# The report's own start kills DessiLBI's network and harms SGD's; these are the nearest that train, at one schedule.
WARM, WARM_SGD = "DessiLBI, warm-up", "SGD, warm-up and drop"


def slightly_below(rows: Rows) -> list[Part]:
    """Of both with a warm-up and the same drop; the difference to the report's SGD is said, and not judged."""
    fair, stated = rows.better(WARM_SGD, WARM), rows.better("SGD", WARM)
    return [fair._replace(words=f"{fair.words} ({stated.words})"), rows.near(WARM_SGD, WARM)]


def prunable(rows: Rows) -> list[Part]:
    whole = [record for record in rows.found[WARM] if record.test and readings.series([record], rows.store)]
    return [_pruned(filters.accuracies(whole, rows.store, layers, "support"), layers)
            for layers in experiments.PRUNED_LAYERS]  # fmt: skip


def _pruned(values: np.ndarray, layers: str) -> Part:
    name = layers.replace("_", " + ")
    if not len(values):
        return Part("not measured yet", f"{WARM}, {name}: not pruned")
    little, much = (filters.cost(values, share) for share in (0.3, 0.6))
    costs = (f"30 % costs {little:.2f} (at most {filters.CHEAP:g}: {_said(little <= filters.CHEAP)}), "
             f"60 % costs {much:.2f} (at least {filters.DEAR:g}: {_said(much >= filters.DEAR)})")  # fmt: skip
    free = f"{filters.CHEAP:g} points or less up to {100 * filters.free_share(values):.0f} %"
    return Part(filters.verdict(values), f"{WARM}, {name}: {costs}, {free}")


def _said(fact: bool) -> str:
    return "yes" if fact else "no"


def darker(rows: Rows) -> list[Part]:
    conv3 = {label: _weights(rows, label, CONV3) for label in (WARM_SGD, WARM)}
    if not all(conv3.values()):
        return _unmeasured("weights of conv3")
    shade = readings.ratio(*([np.abs(each).mean() for each in conv3[label]] for label in (WARM, WARM_SGD)))
    black = {label: [filters.near_zero(each) for each in kept] for label, kept in conv3.items()}
    said = "; ".join(f"{label} {', '.join(map(str, counts))} of 120 black" for label, counts in black.items())
    others = readings.ratio(*(list(map(filters.mean_of_others, conv3[label])) for label in (WARM, WARM_SGD)))
    shades = f"mean |w| {tables.text(shade)} × SGD's, of filters that aren't black {tables.text(others)} ×"
    return [
        Part(_yes(shade < 1), shades),
        Part(filters.blacker(black[WARM], black[WARM_SGD]), said),
        rows.keeps(WARM, WARM_SGD),
    ]


def _weights(rows: Rows, label: str, name: str) -> list[np.ndarray]:
    kept = []
    for record in rows.found[label]:
        try:
            kept.append(rows.store.weights(record)[name])
        except (RecordError, KeyError):
            continue
    return kept


ON_MNIST, ON_CIFAR = ("with Adam", "without, warm-up"), ("with Adam", "without")
USUAL = "with Adam, usual rate 1e-3"  # ours: judged in place of the report's rate, if nothing is learned at that


def adam_helps(mnist: Rows, cifar: Rows) -> list[Part]:
    stated, usual = cifar.better(*ON_CIFAR), cifar.better(USUAL, "without")
    judged, said = (stated, usual) if cifar.learns("with Adam") else (usual, stated)
    return [_named("MNIST", mnist.better(*ON_MNIST)),
            _named("CIFAR-10", judged._replace(words=f"{judged.words} (not judged: {said.words})"))]  # fmt: skip


def adam_as_fast(mnist: Rows, cifar: Rows) -> list[Part]:
    return [_named("MNIST", mnist.as_fast(*ON_MNIST)), _named("CIFAR-10", cifar.as_fast(*ON_CIFAR))]


def validation_above(mnist: Rows, cifar: Rows) -> list[Part]:
    return [_above("MNIST", mnist, ON_MNIST), _above("CIFAR-10", cifar, ON_CIFAR)]


def _above(data: str, rows: Rows, labels: Sequence[str]) -> Part:
    above = epochs = 0
    for record in (record for label in labels for record in rows.found[label] if records.learned(record)):
        higher, of = readings.above(record)
        above, epochs = above + higher, epochs + of
    return Part(_yes(above > 0) if epochs else "not measured yet", f"{data}: in {above} of {epochs} epochs")


def _named(name: str, part: Part) -> Part:
    return part._replace(words=f"{name}: {part.words}")


# ------------------------------------------------------------------------------------------ the claims


def _of(section: str, table: str, *labels: str) -> Rest:
    runs = SECTIONS[section][table]
    return Rest(section, table, runs, labels or tuple(runs))


def _pairs(*pairs: tuple[str, str]) -> Callable[[Rows], list[Part]]:
    """The rule that in each pair the first row is the better one."""
    return lambda rows: [rows.better(*pair) for pair in pairs]


_landscape = _of("2", "2.2 loss landscape")
_mnist, _cifar = _of("3.2", "MNIST", *ON_MNIST), _of("3.2", "CIFAR-10", *ON_CIFAR)
_optimizer = _of("3.1", "optimizer", "SGD", WARM_SGD, WARM)
_stronger = Rest("1.9", "final", {"1e-4": experiments.small_kernel, "4e-4": experiments.final}, ("1e-4", "4e-4"))
_rates = ("cyclic 0.01–0.04", "0.04, then 0.01", "0.01")
_crop, _small, _large = "crop + flip + normalisation", "3×3, stride 1", "5×5, stride 2"
_both = "5×5 + 5×5", "5×5 + 3×3", "3×3 + 3×3"

CLAIMS = (
    Claim("1.2", "Batch norm costs a little time and raises accuracy.", (_of("1", "1.2 batch norm"),), batch_norm),
    Claim("1.3", "Dropout after the convolutions raises accuracy; 0.3 beats 0 and 0.5.",
          (_of("1", "1.3 dropout after each conv", "0", "0.3", "0.5"),), _pairs(("0.3", "0"), ("0.3", "0.5"))),
    Claim("1.4", "NLL does better than cross-entropy.", (_of("1", "1.4 loss"),), one_function),
    Claim("1.5", "At a rate of 0.1 some optimizers don't converge: they are sensitive to it; SGD with momentum is"
          " best.", (_of("1", "1.5 optimizer"),), optimizers),
    Claim("1.6", "ReLU does better than tanh, by far.", (_of("1", "1.6 activation"),),
          lambda rows: [rows.better("ReLU", "tanh"), rows.far("ReLU", "tanh")]),
    Claim("1.6", "5×5 kernels in both layers are best; the smaller, the worse.", (_of("1", "1.6 kernels"),),
          _pairs(_both[:2], _both[::2], _both[1:])),
    Claim("1.7", "A larger hidden layer doesn't raise accuracy.", (_of("1", "1.7 hidden size"),),
          lambda rows: [rows.no_better("1024", "100"), rows.no_better("300", "100")]),
    Claim("1.9", "Crop, flip and normalisation raise generalisation clearly.", (_of("1.9", "augmentation"),),
          lambda rows: [rows.better(_crop, "none"), rows.ahead(_crop, "none")]),
    Claim("1.9", "L2 raises accuracy; a stronger one at the end relieves the overfitting that is left.",
          (_of("1.9", "L2 regularisation", "none", "1e-4"), _stronger),
          lambda rows, final: [rows.better("1e-4", "none"), final.ahead("4e-4", "1e-4")]),
    Claim("1.9", "Momentum 0.9 does better than 0.5.", (_of("1.9", "momentum"),), _pairs(("0.9", "0.5"))),
    Claim("1.9", "A cyclic rate beats the stepped one, and that beats the constant one.",
          (_of("1.9", "learning rate"),), _pairs(_rates[:2], _rates[1:])),
    Claim("1.9", "Under the cyclic rate accuracy and loss swing with the cycle, accuracy widely; under the stepped one"
          " accuracy jumps where the rate drops.", (_of("1.9", "learning rate", *_rates[:2]),), swings),
    Claim("1.9", "The kernel of one block matters little; 3×3 is slightly better.",
          (_of("1.9", "kernel of one block"),),
          lambda rows: [rows.better(_small, _large), rows.near(_small, _large)]),
    Claim("1.9", "Other activations and losses don't help the deeper network (said without figures).",
          (_of("1.9", "other activations and losses"),), lambda rows: [rows.no_better("tanh", "ReLU")]),
    Claim("1.9", "Of the final model, accuracy levels off and loss falls fast, then rises slightly.",
          (_of("1.9", "final"),), levels_off),
    Claim("2.1", "Batch norm raises VGG-A's accuracy, and it rises faster.", (_of("2", "2.1 accuracy"),), vgg_accuracy),
    Claim("2.2", "With batch norm the loss falls faster and varies less over learning rates.", (_landscape,),
          functools.partial(landscape, "step_loss", ("lower", "narrower"))),
    Claim("2.3", "With batch norm gradients are more predictable: their differences are steadier.", (_landscape,),
          functools.partial(landscape, "gradient_change", ("narrower", "steadier"), unjudged=("lower",))),
    Claim("2.4", "With batch norm effective β is smaller and steadier.", (_landscape,),
          functools.partial(landscape, "smoothness", ("lower", "narrower", "steadier"))),
    Claim("3.1", "DessiLBI ends slightly below SGD at these settings.", (_optimizer,), slightly_below),
    Claim("3.1", "Up to 30–40 % of conv3 (and fc1) can be pruned at almost no cost; beyond, accuracy falls fast.",
          (_of("3.1", "optimizer", WARM),), prunable),
    Claim("3.1", "conv3's filters under DessiLBI are darker, more of them black, than under SGD: it selects sparse"
          " filters without losing accuracy.", (_optimizer,), darker),
    Claim("3.2", "Adam raises DessiLBI's accuracy, on MNIST and on CIFAR-10.",
          (_mnist, _of("3.2", "CIFAR-10", *ON_CIFAR, USUAL)), adam_helps),
    Claim("3.2", "With and without Adam it takes about the same time.", (_mnist, _cifar), adam_as_fast),
    Claim("3.2", "Validation accuracy is at times above training accuracy (the report guesses at underfitting).",
          (_mnist, _cifar), validation_above),
)  # fmt: skip


# ------------------------------------------------------------------------------------------ judging


def judge(store: Store | None = None, sections: Sequence[str] | None = None) -> list[Judgement]:
    """CLAIMS, or those of some of the report's sections ("1.2"), judged by the records of `store`, in their order."""
    bench = _Bench(store or Store())
    return [bench.judge(claim) for claim in CLAIMS if sections is None or claim.section in sections]


def noise(store: Store, section: str, table: str) -> float:
    """The standard deviation of one run's accuracy in a table, in points: the yardstick of its verdicts.

    On MNIST, where each row has seeds, the spread of the table's own. On CIFAR-10 the largest of three: from the gap of
    the basic network's two equal losses, the spread of its rows, and that of all rows of the table's network. They are
    those of the budget at hand; where that has no seeds of the network, the larger of its and those of "laptop".
    """
    bench, rest = _Bench(store), _of(section, table)
    return bench.noise(rest, bench.select(section, table))


def tally(judged: Sequence[Judgement]) -> str:
    """How often each verdict falls, in words."""
    counts = Counter(each.verdict for each in judged)
    return ", ".join(f"{counts[name]} *{name}*" for name in VERDICTS if counts[name])


def _tables_of(model: str) -> list[tuple[str, str]]:
    """The tables on CIFAR-10 of one network, as section and table."""
    return [(section, table) for section, tables in SECTIONS.items() for table, runs in tables.items()
            if {(run.model, run.data) for run in runs.values()} == {(model, "cifar10")}]  # fmt: skip


class _Bench:
    """Judges claims from one store; what is read for one claim is kept for the next."""

    def __init__(self, store: Store):
        self.store = store
        self.select = functools.cache(self._select)

    def _select(self, section: str, table: str, budget: str | None = None) -> Selection:
        return records.select(SECTIONS[section][table], self.store, budget)

    def rows(self, rest: Rest) -> Rows:
        found = records.select({label: rest.runs[label] for label in rest.labels}, self.store)
        return Rows(rest, found, self.noise(rest, found), self.store)

    def noise(self, rest: Rest, found: Selection) -> float:
        """See `noise` below; `found`: the records of `rest`."""
        run = next(iter(rest.runs.values()))
        if run.data == "mnist":
            return readings.spread(records.select(rest.runs, self.store, found.budget))
        here = self._noise_in(found.budget, run.model)
        if not math.isnan(readings.spread(*self._all_of(run.model, found.budget))):
            return here
        return readings.larger(here, self._noise_in("laptop", run.model))

    def _noise_in(self, budget: str, model: str) -> float:
        basic, same = (self._all_of(name, budget) for name in (experiments.base.model, model))
        return readings.noise(self.select("1", "1.4 loss", budget), basic, same)

    def _all_of(self, model: str, budget: str) -> list[Selection]:
        return [self.select(section, table, budget) for section, table in _tables_of(model)]

    def judge(self, claim: Claim) -> Judgement:
        rows = [self.rows(rest) for rest in claim.rests]
        missing = {each.rest.table: labels for each in rows if (labels := _missing(each))}
        parts = [Part("not measured yet", _no_record(missing))] if missing else claim.rule(*rows)
        kept = {label_runs[0].run: label_runs for each in rows for label in each.rest.labels
                if (label_runs := each.found[label])}  # fmt: skip
        counts = [len(each.found[label]) for each in rows for label in each.rest.labels]
        return Judgement(
            claim.section, claim.words, readings.together(*(part.verdict for part in parts)),
            "; ".join(part.words for part in parts), (min(counts), max(counts)), readings.spread(kept), _budget(rows),
            tuple(record for found in kept.values() for record in found),
            tuple(f"{label} ({table})" for table, labels in missing.items() for label in labels),
        )  # fmt: skip


def _missing(rows: Rows) -> list[str]:
    return [label for label in rows.rest.labels if not rows.found[label]]


def _no_record(missing: Mapping[str, Sequence[str]], shown: int = 3) -> str:
    """Which rows have no record, by table; of many, how many."""
    words = [f"{' · '.join(labels)} ({table})" if len(labels) <= shown else f"{len(labels)} rows ({table})"
             for table, labels in missing.items()]  # fmt: skip
    return f"no record yet: {'; '.join(words)}"


def _budget(rows: Sequence[Rows]) -> str:
    """The budgets of the rows that have records: "laptop", or "paper, laptop"."""
    used = dict.fromkeys(each.found.budget for each in rows if any(each.found[label] for label in each.rest.labels))
    return ", ".join(used) or tables.DASH


def verdicts(judged: Sequence[Judgement]) -> tables.Table:
    """The claims and their verdicts alone."""
    import pandas as pd

    columns = ["claim", "verdict", "n", "budget"]
    lines = [[f"{each.section} {each.claim}", each.verdict, _seeds(each), each.budget] for each in judged]
    frame = pd.DataFrame(lines, columns=columns)
    return tables.Table(frame, "The report's claims, judged from records.", frame, left=("verdict", "budget"))


def _seeds(judgement: Judgement) -> str:
    return "–".join(dict.fromkeys(map(str, judgement.n)))


def table(judged: Sequence[Judgement]) -> tables.Table:
    """The claims, their verdicts and the evidence, with links to the records."""
    import pandas as pd

    frame = pd.DataFrame([each._asdict() for each in judged]).drop(columns=["records", "missing"])
    texts = pd.DataFrame({
        "claim": [f"{each.section} {each.claim}" for each in judged],
        "verdict": [each.verdict for each in judged],
        "evidence": [each.evidence for each in judged],
        "n": [_seeds(each) for each in judged],
        "spread": [tables.text(round(each.spread, 2)) for each in judged],
        "budget": [each.budget for each in judged],
        "records": tables.cells([tables.sources(each.records) for each in judged]),
    })  # fmt: skip
    caption = (
        "The report's claims, judged from records. A difference in accuracy (points) has its standard deviation beside "
        "it (±), from the noise of one run; n: seeds a row; spread: standard deviation over the seeds of these rows."
    )
    return tables.Table(frame, caption, texts, left=("claim", "verdict", "evidence", "budget", "records"))
