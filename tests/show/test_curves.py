"""Each plot function draws what it is given on the axes that it is given, and names its axes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

from helpers import experiments
from helpers.experiments import SECTIONS
from helpers.show import bands, curves
from helpers.show.text import NORMED, PLAIN
from tests.made import laptop, record


@pytest.fixture
def found():
    return [record(laptop(experiments.base), 0.7)]


def test_curves_shows_training_and_validation_after_each_epoch(found, ax):
    assert curves.curves(found, "accuracy", ax) is ax
    train, validation = (line.get_ydata() for line in ax.lines)
    assert train == pytest.approx([40, 60]) and validation == pytest.approx([30, 70])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy (%)")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training (running mean)", "validation"]


def test_a_row_without_a_record_says_so(ax):
    assert curves.curves([], "loss", ax).texts[0].get_text() == "no record yet"


def test_comparison_shows_the_mean_and_each_seed_as_a_thin_line(ax):
    seeds = [record(laptop(experiments.base, seed), accuracy) for seed, accuracy in enumerate((0.6, 0.8))]
    curves.comparison({"two": seeds, "none": []}, "accuracy", ax)
    mean, *seeds = ax.lines
    assert mean.get_ydata() == pytest.approx([30, 70])
    assert [line.get_ydata()[1] for line in seeds] == pytest.approx([60, 80])
    assert all(line.get_linewidth() < mean.get_linewidth() for line in seeds)


def test_a_row_of_one_seed_is_one_line(found, ax):
    curves.comparison({"one": found[:1], "none": []}, "accuracy", ax)
    assert len(ax.lines) == 1


def test_a_pair_shows_training_and_validation_with_one_legend(found):
    figure = curves.pair({"one": found}, "accuracy")
    train, validation = figure.axes
    assert train.lines[0].get_ydata() == pytest.approx([40, 60])
    assert validation.lines[0].get_ydata() == pytest.approx([30, 70])
    assert len(figure.legends) == 1 and not train.get_legend()


def test_a_pair_names_rows_that_failed_to_train_and_draws_the_others():
    rows = {"fine": [record(laptop(experiments.base), 0.7)], "dead": [record(laptop(experiments.best), 0.1)], "": []}
    train, validation = curves.pair(rows, "accuracy").axes
    assert [line.get_label() for line in train.lines] == [line.get_label() for line in validation.lines] == ["fine"]
    assert train.get_title(loc="left") == "failed to train, not drawn: dead"


def test_a_pair_in_which_nothing_trained_draws_all():
    train, _ = curves.pair({"dead": [record(laptop(experiments.best), 0.1)]}, "accuracy").axes
    assert len(train.lines) == 1 and not train.get_title(loc="left")


def test_no_two_rows_of_a_figure_share_a_colour():
    looks = curves.looks_of(["without", "with", "other", "more"])
    assert len({each["color"] for each in looks}) == 4


def test_comparison_shows_the_longest_row_in_full(found, ax):
    longer = found[0].model_copy(update={"history": {"validation_accuracy": [0.1] * 9}})
    curves.comparison({"long": [longer], "short": found}, "accuracy", ax)
    assert ax.get_xlim() == (0.5, 9.5)


def test_comparison_takes_the_looks_it_is_given(found, ax):
    curves.comparison({"a": found}, "accuracy", ax, looks=[("red", ":")])
    assert (ax.lines[0].get_color(), ax.lines[0].get_linestyle()) == ("red", ":")


def test_both_networks_keep_their_colours_and_differ_in_grey():
    colours = [curves.NETWORKS[name][0] for name in (PLAIN, NORMED)]
    assert [colour for colour, _ in curves.TWO_PAIRS] == colours * 2 and len(set(curves.TWO_PAIRS)) == 4
    assert curves.NETWORKS[PLAIN][1:] != curves.NETWORKS[NORMED][1:]


def test_smoothing_is_a_running_mean_that_is_exact_at_the_ends():
    assert curves.smooth(np.array([1.0, 2, 3, 4, 5]), 3) == pytest.approx([1.5, 2, 3, 4, 4.5])
    assert curves.smooth(np.array([1.0, 3]), 50) == pytest.approx([1, 2])  # a window no longer than the series


def test_learning_rate_is_drawn_over_the_epochs(ax):
    curves.learning_rate(experiments.cyclic, ax)
    epochs, rates = ax.lines[0].get_data()
    assert rates.min() == pytest.approx(0.01) and rates.max() == pytest.approx(0.04, rel=0.01) and epochs.max() < 50


def test_tradeoff_shows_each_row_on_both_axes_and_names_those_off_the_scale():
    rows = pd.DataFrame({"table": ["a", "b", "b"], "row": ["x", "y", "stuck"], "accuracy": [0.7, 0.8, 0.1],
                         "parameters": [10, 1_000_000, 10], "seconds_per_epoch": [1, 2, 3]},
                        index=[0, 1, 1])  # fmt: skip
    figure, axes = plt.subplots(1, 2)
    curves.tradeoff(rows, axes)
    assert [len(ax.collections) for ax in axes] == [2, 2]
    assert axes[0].collections[1].get_offsets().tolist() == [[1.0, 80.0]]
    assert axes[0].get_title(loc="left") == "off the scale: stuck (10.0 %)"
    plt.close(figure)


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


def test_points_are_marked_sparsely_and_not_all_at_the_same_places():
    assert curves.spaced(8, 1) == {"markevery": (0, 1)}
    assert [curves.spaced(60, place)["markevery"] for place in range(3)] == [(0, 6), (2, 6), (4, 6)]


# ------------------------------------------------------------------------------------------ batch norm


def made(values, ended=(), notes=(), at=None):
    at = np.arange(len(values)) if at is None else np.array(at)
    return bands.Band(at, np.array(values, float), np.array(values, float) + 1, 100, 3, 4, ended, notes)


def test_bands_show_raw_range_smoothed_edges_and_what_is_missing(ax):
    plain = made([1.0, 2, 3, 4, 5], ended=(4,), notes=("0.002 diverged at step 4",))
    assert curves.bands({PLAIN: plain, NORMED: made([0.0] * 5)}, "loss", ax, window=3) is ax
    assert ax.get_title(loc="left") == "VGG-A: 0.002 diverged at step 4"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["VGG-A, 3 of 4 runs", "VGG-A + BN, 3 of 4 runs"]
    edges = [line.get_ydata() for line in ax.lines]
    assert edges[0] == pytest.approx([1.5, 2, 3, 4, 4.5]) and edges[1] == pytest.approx(edges[0] + 1)
    assert ax.lines[2].get_xdata() == [4, 4]  # where the run diverged
    raw = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (raw.min(), raw.max()) == (1, 6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
    assert ax.get_xlim() == (-2, 102)  # the whole run, also where a band ends early


def test_a_window_is_in_steps_also_where_few_are_measured(ax):
    curves.bands({PLAIN: made([0.0, 3, 6], at=[0, 10, 20])}, "x", ax, window=30)
    assert ax.lines[0].get_ydata() == pytest.approx([1.5, 3, 4.5])
    curves.bands({PLAIN: made([0.0, 3, 6], at=[0, 10, 20])}, "x", ax, window=10)
    assert ax.lines[2].get_ydata() == pytest.approx([0, 3, 6])


def test_of_a_long_band_no_more_is_drawn_in_front_than_can_be_told_apart(ax):
    curves.bands({PLAIN: made(range(5 * curves.POSITIONS))}, "loss", ax, window=1)
    assert (ax.lines[0].get_xdata() == np.arange(0, 5 * curves.POSITIONS, 5)).all()
    assert (ax.lines[0].get_ydata() == ax.lines[0].get_xdata()).all()  # where it is drawn it is the band's own
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == 5 * curves.POSITIONS  # behind, every step


def test_bands_without_a_record_say_so_and_name_the_rates(ax):
    curves.bands({PLAIN: made([], notes=("0.002 has no record yet",))}, "loss", ax)
    assert ax.texts[0].get_text() == "no record yet"
    assert ax.get_title(loc="left") == "VGG-A: 0.002 has no record yet"


def test_long_notes_are_broken_into_lines():
    said = curves._said({"one": ["word " * 30, "more"], "none": [], "two": ["x"]})
    assert max(map(len, said.splitlines())) <= 105 and said.splitlines()[-1] == "two: x" and "none" not in said


def test_a_logarithmic_band_may_hold_zeros(ax):
    zeros = bands.Band(np.arange(9), np.zeros(9), np.r_[np.zeros(6), 1.0, 10, 10], 9, 3, 4, (), ())
    low, high = curves._seen_range([zeros], log=True)
    assert 0.9 < low < 1 and high > 10
    assert curves._seen_range([made([-1.0])._replace(high=np.array([0.0]))], log=True) == (None, None)
    assert curves.bands({PLAIN: zeros}, "x", ax, log=True).get_yscale() == "log"


def around(loss):
    return {"surface_at": np.array([-1.0, 0, 1]), "surface_loss": np.array(loss, dtype="float32")}


def test_surfaces_share_one_scale_and_count_what_is_not_finite():
    figure, axes = plt.subplots(1, 3)
    lower, higher = np.full((3, 3), 1.0), np.full((3, 3), 8.0)
    lower[0, 0], higher[0, :2] = 0.5, np.nan
    curves.surfaces({"a": around(lower), "b": around(higher), "c": {}}, axes)
    limits = [ax.collections[0].get_clim() for ax in axes[:2]]
    assert limits[0] == limits[1] == pytest.approx((0.5, 8), rel=0.01)
    assert [ax.get_title() for ax in axes] == ["a", "b\nloss not finite at 2 of 9 points", "c"]
    assert axes[2].texts[0].get_text() == "no record yet"
    plt.close(figure)


@pytest.mark.parametrize("arrays", [{}, around(np.full((3, 3), np.nan))])
def test_surfaces_without_a_value_are_no_record(arrays):
    figure, axes = plt.subplots(1, 2)
    curves.surfaces({"a": arrays, "b": {}}, axes)
    assert [ax.texts[0].get_text() for ax in axes] == ["no record yet"] * 2
    plt.close(figure)


AGAINST = ["section", "table", "row", "accuracy", "reported"]


def test_rows_against_the_reports_names_what_is_far_off():
    rows = pd.DataFrame([("1", "1.2 t", "near", 0.75, 0.76), ("1", "1.2 t", "far", 0.7, 0.8),
                         ("1", "1.2 batch norm", "without", 0.6, 0.8), ("2", "2 t", "dead", 0.1, 0.7)],
                        columns=AGAINST)  # fmt: skip
    _, ax = plt.subplots()
    assert curves.against_report(rows, ax) is ax
    assert [text.get_text() for text in ax.texts] == ["dead: 10.0 ↓", "far", "without (batch norm)"]
    marks = [group for group in ax.collections if len(group.get_offsets())]
    assert [group.get_offsets().tolist() for group in marks] == [[[76, 75], [80, 70], [80, 60]], [[70, 55]]]
    curves.against_report(rows.iloc[:0], plt.subplots()[1])


def test_every_row_of_a_long_table_has_a_look_of_its_own():
    looks = curves.looks_of([f"row {number}" for number in range(9)])
    assert len({tuple(map(str, look.values())) for look in looks}) == 9


def test_names_of_rows_side_by_side_do_not_overlap():
    scores = [("1", "t", "cyclic", 0.81, 0.9), ("1", "t", "final", 0.815, 0.91), ("1", "t", "one", 0.1, 0.7),
              ("1", "t", "other", 0.1, 0.71)]  # fmt: skip
    rows = pd.DataFrame(scores, columns=AGAINST)
    figure, ax = plt.subplots()
    curves.against_report(rows, ax)
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert len(boxes) == 4
    assert not any(box.overlaps(other) for place, box in enumerate(boxes) for other in boxes[:place])
    plt.close(figure)


def test_a_line_to_a_name_runs_through_no_other_name_or_mark():
    mark, name, between, dot = np.array([0.0, 0.0]), (100, 95, 40, 10), (45, 45, 10, 10), (50, 50, 1, 1)
    name, between, dot = (Bbox.from_bounds(*bounds) for bounds in (name, between, dot))
    assert curves._crosses(mark, name, [between])
    assert not curves._crosses(mark, name, [Bbox.from_bounds(-4, -4, 8, 8)])  # its own
    assert not curves._crosses(mark, name, [dot])  # of the diagonal


def test_one_legend_stands_for_all_axes():
    figure, axes = plt.subplots(1, 2)
    for ax in axes:
        ax.plot([0, 1], label="a")
        ax.legend()
    curves.one_legend(axes)
    assert [ax.get_legend() for ax in axes] == [None, None]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a"]
    plt.close(figure)


def test_comparison_leaves_out_runs_that_learned_nothing_where_others_did(ax):
    seeds = [record(laptop(experiments.base, seed), accuracy) for seed, accuracy in enumerate((0.8, 0.1))]
    curves.comparison({"one died": seeds}, "accuracy", ax)
    assert ax.lines[0].get_ydata()[-1] == pytest.approx(80) and not ax.collections
