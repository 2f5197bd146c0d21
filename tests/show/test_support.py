"""What Γ holds, on paths made up here: what has entered, what it takes to enter, and what has no record."""

import numpy as np
import pytest

from helpers import experiments
from helpers.experiments import Reported, Table
from helpers.records import Store
from helpers.show import support
from helpers.show.comparison import Comparison, Row
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


def conv3(*norms):
    """A row of one seed in which ‖Γ‖ of conv3's filters had these `norms`, (moments, filters)."""
    run = experiments.mnist_warm
    kept = with_files(run, 0, 0.9)
    arrays = {f"path_{support.CONV3}": np.array(norms), support.STEP: np.arange(len(norms))}
    return Row("a", run, Reported(), [kept], made.Kept(kept, beside={kept.run: (arrays, {})}))


def test_a_path_shows_what_entered_dark_ones_first():
    row = conv3([0, 0, 0], [0, 0, 1], [0.5, 0, 2], [1, 0, 3])
    path, sizes = support.path_of_conv3(row, {"a": row}).axes
    assert [line.get_ydata().tolist() for line in path.lines] == [[0, 1, 2, 3], [0, 0, 0.5, 1]]
    assert float(path.lines[0].get_color()) < float(path.lines[1].get_color())
    assert path.get_title() == "2 of 3 filters in the support at the end, dark ones entered first"
    assert path.lines[0].get_xdata().tolist() == [0, 10, 20, 30]  # epochs
    assert sizes.lines[0].get_ydata().tolist() == [0, 1, 2, 2] and sizes.lines[0].get_xdata()[-1] == 100


def test_the_support_is_counted_at_the_end(rows):
    assert support.size(conv3([0, 0, 0], [1, 0, 2])) == 2
    assert support.size(rows["with Adam"]) is MISSING  # no conv3


def test_without_records_it_has_dashes(none):
    assert "| with Adam | – | – | – | – |" in support.table(none).grid()
    figures = support.curves(none), support.path_of_conv3(none["with Adam"], none)
    assert {ax.texts[0].get_text() for figure in figures for ax in figure.axes} == {"no record yet"}
