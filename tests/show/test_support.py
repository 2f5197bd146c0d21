"""What Γ holds, on paths made up here: what has entered, what it takes to enter, and what has no record."""

import numpy as np
import pytest

from helpers import experiments
from helpers.experiments import Table
from helpers.records import RecordError, Store
from helpers.show import support
from helpers.show.comparison import Comparison
from helpers.show.text import MISSING
from tests import made

RUN = experiments.mnist_adam
TABLE = Table("3.2", "MNIST", {"with Adam": RUN, "plain SGD": experiments.mnist_sgd})
STEPS = 11_730
CONV = np.array([[0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1, 3]], dtype=np.float32)


class Kept(made.Kept):
    """A store of records with the same paths: two convolutions, of which one stays empty, and a linear layer."""

    def arrays(self, record):
        return {"path_step": np.array([0, STEPS // 2, STEPS]), "path_a": CONV, "path_b": 0 * CONV,
                "path_fc": np.array([0.0, 0.0, 1.0])}  # fmt: skip

    def weights(self, record):
        raise RecordError("no weights are kept")


def with_files(run, seed, accuracy):
    kept = made.record(experiments.reseed(run, seed), accuracy)
    return kept.model_copy(update={"files": {f"{kept.run.name}.npz": "0" * 64}})


@pytest.fixture
def rows():
    return Comparison(TABLE, Kept(*(with_files(RUN, seed, 0.9) for seed in range(3))), "paper")


@pytest.fixture
def none(tmp_path):
    return Comparison(TABLE, Store(tmp_path), "paper")


def test_a_layer_counts_if_anything_in_it_entered(rows):
    assert support.layers(rows["with Adam"]) == "2 of 3"


def test_filters_are_counted_over_all_convolutions(rows):
    assert [share.tolist() for share in support.entered(rows["with Adam"])] == [[0, 1 / 8, 2 / 8]] * 3


def test_to_enter_a_filter_needs_the_coupling_over_the_sum_of_rates(rows):
    assert support.needed(rows["with Adam"]) == pytest.approx(20 / (3e-4 * STEPS))


def test_the_table_has_the_rows_with_a_gamma(rows):
    assert "| with Adam | 3.52 | 5.68 | 2 of 3 | 25 |" in support.table(rows).grid()
    assert len(support.table(rows).frame) == 1


def test_the_curves_have_a_line_a_seed(rows):
    (ax,) = support.curves(rows).axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0, 12.5, 25]] * 3
    assert ax.lines[0].get_xdata().tolist() == [0, 15, 30] and len(ax.get_legend().get_texts()) == 1


def test_without_weights_there_is_no_norm(rows, none):
    assert support.largest_norm(rows["with Adam"]) is MISSING and support.largest_norm(none["with Adam"]) is MISSING


def test_the_largest_norm_is_over_all_filters_of_convolutions(rows, monkeypatch):
    weights = {
        "a": np.ones((2, 1, 2, 2)),
        "b": np.stack([np.zeros((1, 5, 5)), np.ones((1, 5, 5))]),
        "fc": 9 * np.ones((3, 3)),
    }
    monkeypatch.setattr(Kept, "weights", lambda store, record: weights)
    assert support.largest_norm(rows["with Adam"]) == 5


def test_without_records_it_has_dashes(none):
    assert "| with Adam | – | – | – | – |" in support.table(none).grid()
    assert support.curves(none).axes[0].texts[0].get_text() == "no record yet"
