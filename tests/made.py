"""Records made up for tests of tables, readings, bands and figures, with numbers that can be worked out by hand."""

from helpers import experiments
from helpers.records import Record, Score
from helpers.show.comparison import Comparison

FIRST, SECOND = experiments.SECTION_1["1.2 batch norm"].values()


def record(run, accuracy, *, validation=None, seconds=(10.0, 10.0), parameters=1000):
    first_and_last = {
        "train_loss": (2.0, 1.0), "train_accuracy": (0.4, 0.6), "validation_loss": (2.0, 1.0),
        "validation_accuracy": (0.3, accuracy if validation is None else validation),
    }  # fmt: skip
    history = {name: [first] * (len(seconds) - 1) + [last] for name, (first, last) in first_and_last.items()}
    history["seconds"] = list(seconds)
    return Record(
        run=run, state="diverged" if accuracy is None else "done", diverged_at=1234 if accuracy is None else None,
        test=None if accuracy is None else Score(loss=1.0, accuracy=accuracy), history=history, parameters=parameters,
        seconds_per_epoch=seconds[0], fingerprint=[2.3], weights="", engine={}, machine={}, revision="",
    )  # fmt: skip


def laptop(run, seed=0):
    return experiments.replace(experiments.at(run, "laptop"), seed=seed)


class Kept:
    """A store of records made up here: what `Report` asks of one. `beside`: run → arrays and weights of its record."""

    def __init__(self, *found, beside=None):
        self._found, self._beside = {each.run: each for each in found}, beside or {}

    def readable(self, run):
        return self._found.get(run)

    def arrays(self, record):
        return self._beside[record.run][0] if self._beside else {}

    def weights(self, record):
        return self._beside[record.run][1]

    def scan(self):
        return {run.name: record for run, record in self._found.items()}, {}


def comparison(table, scores, budget="paper"):
    """A `Comparison` of `table` in which the seeds of each row have the accuracies `scores[label]`; None: diverged."""
    found = [record(experiments.reseed(experiments.at(table[label], budget), seed), accuracy)
             for label, accuracies in scores.items() for seed, accuracy in enumerate(accuracies)]  # fmt: skip
    return Comparison(table, Kept(*found), budget)
