"""The numbers and verdicts that readings cite: gaps and their noise, what a run's curves show, times. Everything is
computed from the records it is given; nothing is trained here, and nothing chosen on the test set."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from helpers import experiments, records
from helpers.experiments import Run, reported
from helpers.records import Record, Selection, Store
from helpers.show.grid import Grid as Table
from helpers.show.text import DASH, NORMED, PLAIN, listed, percent, points, signed

FAR = 3.0  # points from the report that want a reason
SHORT = "How far it would go, only the full number of epochs can tell."  # the usual one
WHOLE = "What the report did otherwise, it doesn't say."  # and that of a run as long as the report's


# ------------------------------------------------------------------------------------------ what a difference proves


def noise(pair: Mapping[str, list[Record]], *groups: Sequence[Mapping[str, list[Record]]]) -> float:
    """How far two runs that differ in nothing real end apart: the standard deviation of one run's accuracy, in points.

    `pair` has two rows that compute the same function: the gaps between their runs of each seed, over √2, give one
    estimate. The rows of each of `groups`, tables of one network, give another where some have several seeds: their
    spread, pooled over the group. The largest is returned, since one network may be noisier than another; NaN if there
    is none.
    """
    gaps = seed_gaps(pair, *list(pair)[:2])
    between = math.sqrt(np.mean(np.square(gaps)) / 2) if gaps else math.nan
    return larger(between, *(spread(*group) for group in groups))


def noise_of(store: Store, section: str, table: str) -> float:
    """`noise` of one table, in points: on MNIST of its own rows, on CIFAR-10 of its network and the basic one."""
    rows = experiments.SECTIONS[section][table]
    run = next(iter(rows.values()))
    if run.data == "mnist":
        return spread(records.select(rows, store))
    basic, same = (_tables_of(model, store) for model in (experiments.base.model, run.model))
    return noise(records.select(experiments.SECTIONS["1"]["1.4 loss"], store), basic, same)


def _tables_of(model: str, store: Store) -> list[Selection]:
    """The tables on CIFAR-10 of one network."""
    return [records.select(rows, store) for named in experiments.SECTIONS.values() for rows in named.values()
            if {(run.model, run.data) for run in rows.values()} == {(model, "cifar10")}]  # fmt: skip


def noise_between(selection: Mapping[str, list[Record]], row: str, other: str, sigma: float) -> float:
    """The noise of one run that a comparison of two rows has to reckon with: `sigma`, that of runs like these, or the
    spread over the seeds of the two, if that is larger."""
    return larger(sigma, spread({label: selection[label] for label in (row, other)}))


def larger(*estimates: float) -> float:
    """The largest of some numbers, of which NaN is none."""
    return max((each for each in estimates if not math.isnan(each)), default=math.nan)


def spread(*selections: Mapping[str, list[Record]], of: Callable = records.accuracies) -> float:
    """The standard deviation of one run's accuracy over seeds, in points, pooled over the rows that have several.

    Each run counts once, in however many tables it stands; runs that learned nothing, which all end alike, don't count.
    NaN where no row has several. `of`: what is taken of a row's records, one number (0 to 1) a run.
    """
    repeated = {found[0].run: of(found) for rows in selections
                for found in rows.values() if sum(map(records.learned, found)) > 1}  # fmt: skip
    freedom = sum(len(each) - 1 for each in repeated.values())
    squares = sum((len(each) - 1) * records.std(each) ** 2 for each in repeated.values())
    return 100 * math.sqrt(squares / freedom) if repeated else math.nan


def gap(selection: Mapping[str, list[Record]], row: str, other: str) -> float | None:
    """Accuracy of `row` less that of `other`, in points; None where one has no accuracy."""
    a, b = (records.mean(records.accuracies(selection[label])) for label in (row, other))
    return None if a is None or b is None else 100 * (a - b)


def seeded(runs: Mapping[str, Run], selection: Selection, store: Store) -> Selection:
    """`selection`, the records of `runs`, if every row has several seeds; else the same rows at "laptop", which has."""
    repeated = all(len(found) > 1 for found in selection.values())
    return selection if repeated else records.select(runs, store, "laptop")


def seed_gaps(selection: Mapping[str, list[Record]], row: str, other: str) -> list[float]:
    """Accuracy of `row` less that of `other`, in points, for each seed that both have."""
    ours, theirs = ({each.run.seed: each.test.accuracy for each in selection[label] if each.test}
                    for label in (row, other))  # fmt: skip
    return [100 * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]


def reported_gap(section: str, table: str, row: str, other: str) -> float:
    """The same difference as the report states it, in points."""
    return 100 * (reported(section, table, row).accuracy - reported(section, table, other).accuracy)


def verdict(selection: Mapping[str, list[Record]], row: str, other: str, sigma: float) -> str:
    """Whether `row` does better than `other`: "holds", "does not hold" or "within noise" (or "not measured yet").

    The difference of two means over n₁ and n₂ runs has the standard deviation σ·√(1/n₁ + 1/n₂), with σ from
    `noise_between`; twice that is noise. A row all of whose runs diverged is worse than any that has an accuracy, and
    no better than another that diverged.
    """
    if all(selection[label] for label in (row, other)) and gap(selection, row, other) is None:
        return "holds" if records.accuracies(selection[row]) else "does not hold"
    counts = [len(records.accuracies(selection[label])) for label in (row, other)]
    return beyond(gap(selection, row, other), counts, noise_between(selection, row, other, sigma))


def beyond(difference: float | None, counts: Sequence[int], sigma: float) -> str:
    """The verdict on a difference (points) of two means over so many runs each."""
    if difference is None or math.isnan(difference) or math.isnan(sigma):
        return "not measured yet"
    within = abs(difference) <= bar(sigma, counts)
    return "within noise" if within else "holds" if difference > 0 else "does not hold"


def bar(sigma: float, counts: Sequence[float] = (1, 1)) -> float:
    """How far apart (points) means over so many runs each have to be before that says more than noise: two standard
    deviations of their difference."""
    return 2 * sigma * math.sqrt(sum(1 / count for count in counts))


def elsewhere(
    runs: Mapping[str, Run], selection: Selection, store: Store, sigma: float, *pairs: tuple[str, str]
) -> str:
    """What other budgets than the one shown say of pairs of a table's rows, in sentences that start with a space.

    Those are larger ones, in which not every row of the table is there, and "laptop", which has the most seeds.
    """
    others = dict(selection.larger)
    if selection.budget in experiments.BUDGETS[experiments.BUDGETS.index("laptop") + 1 :]:
        others["laptop"] = records.select(runs, store, "laptop")
    said = ""
    for budget, rows in others.items():
        words = "; ".join(
            f"*{row}* less *{other}* {points(gap(rows, row, other))} (n = {len(rows[row])} and {len(rows[other])}), "
            f"**{verdict(rows, row, other, sigma)}**"
            for row, other in pairs if rows[row] and rows[other]
        )  # fmt: skip
        said += f" At *{budget}*: {words}." if words else ""
    return said


def by_precision(selection: Mapping[str, list[Record]]) -> dict[str, dict[str, list[Record]]]:
    """The same rows for each precision that their runs were computed in, with the runs in it."""
    known = {record.engine.get("precision", "") for found in selection.values() for record in found}
    return {precision: {label: [record for record in found if record.engine.get("precision", "") == precision]
                        for label, found in selection.items()} for precision in sorted(known)}  # fmt: skip


def together(*verdicts: str) -> str:
    """The verdict on a claim of several parts: it holds if each part does, and fails if one does."""
    return next(each for each in ("not measured yet", "does not hold", "within noise", "holds") if each in verdicts)


# ------------------------------------------------------------------------------------------ rows beside rows


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """The mean of `values` over that of `others`; NaN if one is empty."""
    return float(np.mean(values) / np.mean(others)) if len(values) and len(others) else math.nan


def best_row(selection: Mapping[str, list[Record]]) -> str | None:
    """The label with the highest mean *validation* accuracy after the last epoch: nothing is chosen on the test set."""
    scores = {
        label: records.mean(record.history["validation_accuracy"][-1] for record in _trained(found))
        for label, found in selection.items()
    }
    known = {label: value for label, value in scores.items() if value is not None}
    return max(known, key=known.get) if known else None


def _trained(found: Sequence[Record]) -> list[Record]:
    """A row's runs that came to an end, less those that learned nothing where others did, as its accuracy has them."""
    return [record for record in records.alive(list(found)) if record.test]


def all_rows(sections: Mapping[str, Mapping[str, Mapping[str, list[Record]]]]) -> pd.DataFrame:
    """Every distinct run of some sections once: section, table, row, accuracy, parameters, seconds per epoch.

    `sections`: section → table → row → records. Seconds are those of one machine; see `records.times`.
    """
    seen = {}
    for section, selections in sections.items():
        for table, selection in selections.items():
            for label, found in selection.items():
                if found and found[0].test:
                    seen.setdefault(found[0].run, (section, table, label, selection))
    seconds, _ = records.times({run: records.timed(rows, label) for run, (*_, label, rows) in seen.items()})
    lines = [
        (section, table, label, records.mean(records.accuracies(rows[label])), rows[label][0].parameters, seconds[run])
        for run, (section, table, label, rows) in seen.items()
    ]
    return pd.DataFrame(lines, columns=["section", "table", "row", "accuracy", "parameters", "seconds_per_epoch"])


def spans(selections: Mapping[str, Mapping[str, list[Record]]], sigma: float) -> str:
    """How far apart the best and the worst row of each table are that learned something, in words, largest first.

    Tables whose two rows the noise of one run, `sigma`, can't tell apart stand together at the end.
    """
    apart, alike = {}, []
    for table, rows in selections.items():
        scores = {label: records.mean(records.accuracies(found)) for label, found in rows.items()
                  if any(map(records.learned, found))}  # fmt: skip
        if len(scores) < 2:
            continue
        best, worst = max(scores, key=scores.get), min(scores, key=scores.get)
        if verdict(rows, best, worst, sigma) == "holds":
            apart[f"{table} {signed(gap(rows, best, worst))} (*{best}* less *{worst}*)"] = scores[best] - scores[worst]
        else:
            alike.append(table)
    told = "; ".join(sorted(apart, key=apart.get, reverse=True)) or "none beyond the noise"
    return told + (f". Within noise: {listed(alike)}" if alike else "")


def after(found: Sequence[Record], epoch: int, name: str = "validation_accuracy") -> float | None:
    """A row's `name` after an epoch (1 is the first, -1 the last), mean over the seeds that learned something."""
    curves = [curve(each, name) for each in _trained(found)]
    return records.mean(float(each[epoch - (epoch > 0)]) for each in curves if len(each) >= abs(epoch))


def ahead(found: Sequence[Record]) -> float | None:
    """Training less validation accuracy after the last epoch, in points, mean over seeds: how far a row overfits."""
    ends = [(curve(each, "train_accuracy"), curve(each, "validation_accuracy")) for each in _trained(found)]
    return records.mean(100 * float(train[-1] - validation[-1]) for train, validation in ends
                        if len(train) and len(validation) and np.isfinite(train[-1] - validation[-1]))  # fmt: skip


def above(record: Record) -> tuple[int, int]:
    """In how many epochs validation accuracy is above training accuracy, and of how many."""
    validation, train = (curve(record, f"{split}_accuracy") for split in ("validation", "train"))
    both = [a > b for a, b in zip(validation, train)]
    return sum(map(bool, both)), len(both)


def epoch_means(found: Sequence[Record]) -> list[float]:
    """Validation accuracy of each of a row's runs that learned something, the mean over its epochs (0 to 1)."""
    return [records.mean(each.history["validation_accuracy"]) for each in _trained(found)]


def epochs_gap(selection: Mapping[str, list[Record]], row: str, other: str) -> float | None:
    """Validation accuracy of `row` less that of `other`, mean over all epochs, in points: which one rises faster."""
    means = [records.mean(epoch_means(selection[label])) for label in (row, other)]
    return None if None in means else 100 * (means[0] - means[1])


def rises_faster(selection: Mapping[str, list[Record]], row: str, other: str, seeds: Mapping[str, list[Record]]) -> str:
    """Whether validation accuracy of `row` rises faster: its mean over the epochs is higher by more than noise.

    The noise is that of such a mean, from `seeds`, rows of the same networks that have several (`seeded`): over at most
    as many epochs, so it is not too small.
    """
    counts = [len(epoch_means(selection[label])) for label in (row, other)]
    return beyond(epochs_gap(selection, row, other), counts, spread(seeds, of=epoch_means))


def misses(section: str, table: str, selection: Mapping[str, list[Record]]) -> float:
    """How far, on average, the accuracies of a table lie from the report's, in points; NaN where one is missing."""
    ours = {label: records.mean(records.accuracies(found)) for label, found in selection.items()}
    gaps = [abs(ours[label] - reported(section, table, label).accuracy) if ours[label] is not None else math.nan
            for label in selection if reported(section, table, label).accuracy is not None]  # fmt: skip
    return 100 * sum(gaps) / len(gaps) if gaps else math.nan


def each_after(rows: Mapping[str, Sequence[Record]], epoch: int) -> str:
    """`after` of each row, in words: "SGD 94.41 %; …"."""
    return "; ".join(f"{label} {percent(after(found, epoch))} %" for label, found in rows.items())


def far(section: str, table: str, selection: Mapping[str, list[Record]], because: str = "") -> str:
    """Which rows lie more than FAR points from the report, in a sentence: how far, and what their length explains.

    Of each that learned something, the epoch of its highest validation accuracy, unless that is the last, the points
    that its last quarter gained, and where a longer run of it ends; then `because`, the reason, if any row does. SHORT
    is none where each such row has a run as long as the report's: there it is WHOLE, if one of those is far as well.
    """
    runs, words, short, still = experiments.SECTIONS[section][table], [], False, False
    longest = selection.longest if isinstance(selection, Selection) else selection.get
    for label, found in selection.items():
        stated, ours = reported(section, table, label).accuracy, records.mean(records.accuracies(found))
        if stated is None or ours is None or abs(100 * (ours - stated)) <= FAR:
            continue
        done, whole, long = found[0].run.epochs, runs[label].epochs, longest(label)
        end = records.mean(records.accuracies(long))
        short |= long[0].run.epochs < whole
        still |= end is None or abs(100 * (end - stated)) > FAR
        facts = [f"{done} of {whole} epochs"]
        late = after(found, -1), after(found, -1 - done // 4)
        if not any(map(records.learned, found)):
            facts.append("it learned nothing")
        elif None not in late and done > 3:
            last = done // 4 if done >= 8 else "one"
            facts.append(f"validation {signed(100 * (late[0] - late[1]))} in the last {last}")
            best = max(range(1, done + 1), key=lambda epoch: after(found, epoch) or 0)
            facts += [f"highest after epoch {best}"] if best < done else []
        if long is not found:
            facts.append(
                f"{'diverged' if end is None else f'by {signed(100 * (end - stated))}'} in {long[0].run.epochs}"
            )
        first, others = facts[0], ", ".join(facts[1:])
        words.append(f"*{label}* by {signed(100 * (ours - stated))} ({'; '.join(filter(None, (first, others)))})")
    reason = because if short else because.replace(SHORT, WHOLE if still else "")
    return f"More than {FAR:g} points from the report: {'; '.join(words)}. {reason}".strip() if words else ""


def first_steps_apart(pair: Mapping[str, Sequence[Record]]) -> float:
    """How far two rows are apart in the losses of their first five steps (their fingerprints); NaN without both."""
    first = [np.array(found[0].fingerprint) for found in pair.values() if found][:2]
    return float(np.abs(np.subtract(*first)).max()) if len(first) == 2 else math.nan


def time_ratio(selection: Mapping[str, list[Record]], row: str, other: str) -> float:
    """Seconds an epoch of `row` over those of `other`, fastest epochs on one machine; NaN if there is none of both."""
    ours, theirs = records.times({label: records.timed(selection, label) for label in (row, other)})[0].values()
    return ours / theirs if ours and theirs else math.nan


def reported_time_ratio(section: str, table: str, row: str, other: str) -> float:
    """The same ratio as the report states it; NaN where it gives no times."""
    ours, theirs = (reported(section, table, label).seconds for label in (row, other))
    return ours / theirs if ours and theirs else math.nan


def times_with_and_without(pairs: Mapping[str, Mapping[str, list[Record]]], section: str, table: str) -> Table:
    """Seconds an epoch of VGG-A without and with batch norm, and their ratio, for each of `pairs` and the report."""
    epochs = experiments.SECTIONS[section][table][PLAIN].epochs
    entries = []
    for name, rows in pairs.items():
        seconds, where = records.times({label: records.timed(rows, label) for label in (PLAIN, NORMED)})
        entries.append({"": name, **seconds, "ratio": time_ratio(rows, NORMED, PLAIN), "machine": where or DASH})
    stated = {label: reported(section, table, label).seconds for label in (PLAIN, NORMED)}
    entries.append({"": "report", **{label: seconds and seconds / epochs for label, seconds in stated.items()},
                    "ratio": reported_time_ratio(section, table, NORMED, PLAIN), "machine": DASH})  # fmt: skip
    caption = "Seconds an epoch, and those with batch norm over those without; rows of other machines don't compare."
    return Table(pd.DataFrame(entries), caption, left=("machine",))


# ------------------------------------------------------------------------------------------ one run's curves


def curve(record: Record, name: str) -> np.ndarray:
    """One series of a record's history, (epochs,); NaN where it holds no number."""
    return np.array([math.nan if value is None else value for value in record.history.get(name, [])], dtype=float)


def mean_curve(found: Sequence[Record], name: str) -> np.ndarray:
    """The mean of one series over a row's records, (epochs,), as long as the shortest; empty without records."""
    curves = [curve(record, name) for record in found]
    shortest = min(map(len, curves), default=0)
    return np.mean([each[:shortest] for each in curves], 0) if curves else np.empty(0)


def over_cycles(values: np.ndarray, run: Run) -> np.ndarray:
    """A curve over the epochs of `run` as means over one cycle of its rate each, as it is where that has none.

    Without that, epochs would be compared that end at different rates. Shorter by a cycle's epochs less one.
    """
    cycle = run.schedule.up + run.schedule.down if isinstance(run.schedule, experiments.Cyclic) else 0
    epochs = max(1, round(run.epochs * cycle))
    return np.convolve(values, np.full(epochs, 1 / epochs), "valid")


def series(found: list[Record], store: Store) -> dict[str, np.ndarray]:
    """The arrays beside a row's first record; none if there is no record, or their file can't be read."""
    try:
        return store.arrays(found[0]) if found else {}
    except records.RecordError:
        return {}


def silent(found: Sequence[Record], store: Store) -> float:
    """Share (0 to 1) of channels that are silent (`probes.silent`) in the layer that has most of them, the mean over a
    row's runs; NaN where no record has it."""
    kept = [series([record], store).get("silent", ()) for record in found]
    largest = [max(shares) for shares in kept if len(shares)]
    return float(np.mean(largest)) if largest else math.nan


def accuracy_by_rate(record: Record, arrays: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Training accuracy (%) of `record` in the steps with the lowest and with the highest quarter of rates."""
    # Divided first: a hundred times a count overflows the byte that it is kept in.
    return by_rate(record, 100 * (arrays["step_correct"] / record.run.batch_size))


def by_rate(record: Record, values: Sequence[float]) -> tuple[float, float]:
    """Means of a step-level series of `record` where the learning rate is in its lowest and in its highest quarter.

    The first cycle is left out: there the network has only begun to learn.
    """
    rates = np.array([record.run.rate(step / len(values)) for step in range(len(values))])
    low, high = np.quantile(rates, (0.25, 0.75))
    settled = np.arange(len(values)) > 0.15 * len(values)
    groups = np.asarray(values, dtype=float)[settled & (rates <= low)], np.asarray(values)[settled & (rates >= high)]
    return tuple(float(group.mean()) if len(group) else math.nan for group in groups)


def jump(record: Record, at: float) -> tuple[float, float]:
    """How much validation accuracy rose (points) in the epoch after the moment `at` (0 to 1), and in that epoch of the
    quarter of the run before in which it rose most; NaN where there is none before."""
    accuracy = 100 * np.array(record.history["validation_accuracy"])
    epoch = round(at * record.run.epochs)
    rises, quarter = np.diff(accuracy), max(1, record.run.epochs // 4)
    before = rises[max(0, epoch - 1 - quarter) : epoch - 1]
    return float(rises[epoch - 1]), float(before.max()) if len(before) else math.nan


def jumped(after: float, before: float, noise: float) -> str:
    """Whether accuracy rose more than before, as `jump` gives them: a verdict."""
    # Two rises side by side differ by three epochs' scores, the middle one twice: a variance of 1 + 4 + 1.
    return beyond(after - before, (1, 1 / 4, 1), noise)
