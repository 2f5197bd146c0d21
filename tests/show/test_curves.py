"""Figures of curves draw what they are given, each row with a look of its own, and say what is missing."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from helpers import experiments
from helpers.experiments import SECTIONS, Reported
from helpers.show import curves
from helpers.show.comparison import Row
from tests.made import Kept, laptop, record


@pytest.fixture
def found():
    return [record(laptop(experiments.base), 0.7)]


def test_a_pair_shows_training_and_validation_with_one_legend(found):
    figure = curves.pair({"one": found, "none": []}, "accuracy", floor=20)
    train, validation = figure.axes
    assert [line.get_ydata().tolist() for line in train.lines] == [pytest.approx([40, 60])]
    assert validation.lines[0].get_ydata() == pytest.approx([30, 70])
    assert (train.get_xlabel(), train.get_ylabel()) == ("epoch", "training accuracy (%)")
    assert len(figure.legends) == 1 and not train.get_legend() and train.get_ylim()[0] == 20


def test_a_pair_shows_the_mean_and_each_seed_as_a_thin_line():
    found = [record(laptop(experiments.base, seed), accuracy) for seed, accuracy in enumerate((0.6, 0.8))]
    mean, *seeds = curves.pair({"two": found}, "accuracy").axes[1].lines
    assert mean.get_ydata() == pytest.approx([30, 70])
    assert [line.get_ydata()[1] for line in seeds] == pytest.approx([60, 80])
    assert all(line.get_linewidth() < mean.get_linewidth() for line in seeds)


def test_runs_that_learned_nothing_are_left_out_where_others_did():
    found = [record(laptop(experiments.base, seed), accuracy) for seed, accuracy in enumerate((0.8, 0.1))]
    assert curves.pair({"one died": found}, "accuracy").axes[1].lines[0].get_ydata()[-1] == pytest.approx(80)


def test_a_pair_names_rows_that_failed_to_train_and_draws_the_others():
    rows = {"fine": [record(laptop(experiments.base), 0.7)], "dead": [record(laptop(experiments.best), 0.1)], "": []}
    train, validation = curves.pair(rows, "accuracy").axes
    assert [line.get_label() for line in train.lines] == [line.get_label() for line in validation.lines] == ["fine"]
    assert train.get_title(loc="left") == "failed to train, not drawn: dead"


def test_a_pair_in_which_nothing_trained_draws_all():
    train, _ = curves.pair({"dead": [record(laptop(experiments.best), 0.1)]}, "accuracy").axes
    assert len(train.lines) == 1 and not train.get_title(loc="left")


def test_a_pair_shows_the_longest_row_in_full(found):
    history = {name: [0.1] * 9 for name in ("train_loss", "validation_loss")}
    longer = found[0].model_copy(update={"history": history})
    assert curves.pair({"long": [longer], "short": found}, "loss").axes[0].get_xlim() == (0.5, 9.5)


def test_empty_axes_say_why():
    assert [ax.texts[0].get_text() for ax in curves.pair({"a": []}, "loss").axes] == ["no record yet"] * 2


def test_smoothing_is_a_running_mean_that_is_exact_at_the_ends():
    assert curves.smooth(np.array([1.0, 2, 3, 4, 5]), 3) == pytest.approx([1.5, 2, 3, 4, 4.5])
    assert curves.smooth(np.array([1.0, 3]), 50) == pytest.approx([1, 2])  # a window no longer than the series


def test_a_run_is_shown_step_by_step():
    run = laptop(experiments.cyclic)
    made = record(run, 0.7, seconds=(1.0,) * run.epochs).model_copy(update={"files": {"npz": ""}})
    arrays = {"step_loss": np.linspace(2, 1, 100), "step_correct": np.full(100, run.batch_size / 2)}
    row = Row("a", run, Reported(), [made], Kept(made, beside={run: (arrays, {})}))
    rate, loss, accuracy = curves.steps({"a": row}, height=5).axes
    assert rate.lines[0].get_ydata().min() == pytest.approx(0.01) and rate.get_xlim() == (0, run.epochs)
    assert loss.lines[0].get_ydata() == pytest.approx(arrays["step_loss"]) and len(loss.lines) == 3
    assert accuracy.lines[0].get_ydata() == pytest.approx(np.full(100, 50))
    assert accuracy.lines[2].get_ydata()[-1] == pytest.approx(70)


def test_no_two_rows_of_a_figure_share_a_colour():
    looks = curves.looks_of(["without", "with", "other", "more"])
    assert len({each["color"] for each in looks}) == 4


def test_no_two_lines_of_one_figure_look_alike_in_grey():
    assert len({line for _, line in curves.LINES[:5]}) == 5
    pruned = "SGD", "DessiLBI", "SGD, warm-up and drop", "DessiLBI, warm-up"
    drawn = [label for label in SECTIONS["3.2"]["MNIST"] if label != "without, as stated"]  # which fails to train
    for labels in (SECTIONS["3.1"]["other ways to sparse filters"], SECTIONS["3.2"]["CIFAR-10"], pruned, drawn):
        looks = curves.looks_of(labels)
        assert len({str(look["linestyle"]) for look in looks}) == len({look["marker"] for look in looks}) == len(labels)


def test_a_row_looks_the_same_in_every_figure():
    [sgd] = curves.looks_of(["plain SGD"])
    assert curves.looks_of(["something", "SGD"])[1] == sgd
    assert curves.looks_of(["something"])[0]["color"] == curves.LINES[0][0]


def test_every_row_of_a_long_table_has_a_look_of_its_own():
    looks = curves.looks_of([f"row {number}" for number in range(9)])
    assert len({tuple(map(str, look.values())) for look in looks}) == 9


def test_points_are_marked_sparsely_and_not_all_at_the_same_places():
    assert curves.spaced(8, 1) == {"markevery": (0, 1)}
    assert [curves.spaced(60, place)["markevery"] for place in range(3)] == [(0, 6), (2, 6), (4, 6)]


def test_a_legend_names_once_what_several_marks_share(ax):
    curves.legend(ax)
    assert not ax.get_legend()
    ax.plot([0], label="a"), ax.plot([1], label="a")
    curves.legend(ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a"]


def test_tiles_stand_in_rows_with_a_gap():
    sheet = curves.tiles(np.zeros((3, 1, 2, 1)), 2, white=6)[..., 0]
    assert sheet.tolist() == [[0, 0, 6, 0, 0], [6, 6, 6, 6, 6], [0, 0, 6, 6, 6]]


def test_a_closed_figure_is_no_more_pyplots():
    figure = curves.live(np.arange(20.0))
    assert not plt.fignum_exists(figure.number) and len(figure.axes[0].lines) == 2
