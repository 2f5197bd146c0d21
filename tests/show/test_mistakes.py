"""What is said of single images and filters, on arrays made up here with numbers worked out by hand."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from helpers.show import mistakes


def test_confusion_counts_true_classes_down_and_predictions_across(ax):
    counts = mistakes.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), classes=2)
    assert counts.tolist() == [[1, 1], [0, 1]]
    mistakes.confusion(counts, ("cat", "dog"), ax)
    assert [text.get_text() for text in ax.texts] == ["1", "1", "0", "1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")


def test_filters_are_each_on_a_scale_of_its_own_with_mid_grey_for_zero(ax):
    weights = np.zeros((3, 3, 1, 1))
    weights[1] = -2
    weights[2, :, 0, 0] = 0.2, 0.1, 0
    mistakes.filters(weights, ax, columns=3)
    sheet = ax.images[0].get_array()
    assert sheet[0, 0].tolist() == [0.5] * 3 and sheet[0, 2].tolist() == [0] * 3 and sheet[0, 1].tolist() == [1] * 3
    assert sheet[0, 4].tolist() == [1, 0.75, 0.5]


def test_confused_pairs_come_most_frequent_first():
    table = mistakes.confused_pairs([[8, 2, 0], [1, 5, 4], [0, 0, 10]], "abc", count=2)
    assert table.frame.values.tolist() == [["b", "c", 4, 40.0], ["a", "b", 2, 20.0]]


def test_the_worst_mistake_is_named():
    labels, taken_for = np.array([3, 8, 8, 8, 1, 1]), np.array([3, 3, 3, 8, 1])
    assert mistakes.worst_mistake(labels, taken_for) == "66.7 % of class 8 are taken for 3"


def test_classes_come_from_the_hardest_to_the_easiest():
    shares = mistakes.class_accuracies(np.array([[9, 1], [4, 6]]), ("cat", "dog"))
    assert list(shares.items()) == [("dog", 0.6), ("cat", 0.9)]


def test_an_image_with_a_wrong_label_is_named_where_it_is_shown():
    assert "test image 2405 is labelled cat and shows a frog" in mistakes.label_errors(np.array([7, 2405]))
    assert mistakes.label_errors(np.array([7])) == ""


def test_mistakes_come_surest_first():
    kept = {"test_predictions": np.array([0, 1, 1, 0]), "test_confidence": np.array([0.9, 0.6, 0.8, 0.5], "float16")}
    found = mistakes.mistakes(np.array([0, 0, 0, 0]), kept)
    assert (found.at.tolist(), found.images) == ([2, 1], 4)
    assert found.confidence_wrong == pytest.approx(0.7, abs=1e-3) and found.confidence_right == pytest.approx(
        0.7, abs=1e-3
    )


def test_a_gallery_names_both_classes():
    figure, axes = plt.subplots(1, 2)
    images = np.zeros((2, 3, 4, 4), dtype="uint8")
    mistakes.gallery(images, np.array([0, 1]), np.array([1, 0]), ("cat", "dog"), axes)
    assert [ax.get_title() for ax in axes] == ["cat,\ntaken for dog", "dog,\ntaken for cat"]
    plt.close(figure)


def test_filters_of_one_grey_and_of_contrasts_are_counted():
    grey, contrast, red = (
        np.ones((3, 1, 1)),
        np.array([1.0, -1, 0])[:, None, None],
        np.array([1.0, 0, 0])[:, None, None],
    )
    # One colour of three: 1/3 · √3 = 0.58, neither of the two.
    assert mistakes.colours(np.stack([grey, contrast, red])) == (1, 1)


@pytest.mark.parametrize("share, counted", [(0.95, (1, 0)), (0.85, (0, 0)), (0.55, (0, 0)), (0.45, (0, 1))])
def test_the_limits_of_grey_and_of_contrast(share, counted):
    """A part along grey, (1, 1, 1)/√3, and one across it, (1, −1, 0)/√2."""
    along, across = np.ones(3) / 3**0.5, np.array([1.0, -1, 0]) / 2**0.5
    weights = share * along + (1 - share**2) ** 0.5 * across
    assert mistakes.colours(weights[None, :, None, None]) == counted
