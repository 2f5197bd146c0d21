"""What is said of single images and filters, on arrays made up here with numbers worked out by hand."""

import numpy as np
import pytest
import torch

from helpers.show import mistakes

CLASSES = "cat", "dog", "frog"


def made(labels, taken_for, confidence=None):
    arrays = {
        "test_predictions": np.array(taken_for),
        "test_confidence": np.array(confidence or [0.5] * len(taken_for), "float16"),
        "first_filters": np.ones((2, 3, 1, 1)),
    }
    images = torch.zeros((len(labels), 3, 4, 4), dtype=torch.uint8)
    return mistakes.Predictions(arrays, np.array(labels), images, CLASSES)


@pytest.fixture
def seen():
    """Cats: 2 of 3 right; dogs: 1 of 2; frogs: all."""
    return made([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2], [0.9, 0.9, 0.6, 0.9, 0.8, 0.9])


def test_confusion_counts_true_classes_down_and_predictions_across(seen):
    (ax, _) = seen.confusion().axes
    assert seen.counts.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert sorted(text.get_text() for text in ax.texts)[-3:] == ["1", "1", "2"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert [text.get_text() for text in ax.get_xticklabels()][:2] == ["cat", "dog"]


def test_confused_pairs_come_most_frequent_first():
    lines = made([0] * 4 + [1] * 5 + [2], [0, 0, 1, 2, 1, 0, 0, 2, 1, 2]).pairs(2).frame.values.tolist()
    assert lines == [["dog", "cat", "2", "40.0"], ["cat", "dog", "1", "25.0"]]


def test_classes_are_the_hardest_and_the_easiest(seen):
    assert (seen.hardest, seen.easiest) == (("dog", 0.5), ("frog", 1))


def test_mistakes_come_surest_first(seen):
    assert (seen.wrong.at.tolist(), seen.wrong.images, seen.surest.tolist()) == ([4, 2], 6, [4, 2])
    assert seen.wrong.confidence_wrong == pytest.approx(0.7, abs=1e-3)
    assert seen.wrong.confidence_right == pytest.approx(0.9, abs=1e-3)


def test_a_gallery_names_both_classes(seen):
    titles = [ax.get_title() for ax in seen.gallery().axes]
    assert titles[:2] == ["dog,\ntaken for frog", "cat,\ntaken for dog"]


def test_the_worst_mistake_is_named():
    labels, taken_for = np.array([3, 8, 8, 8, 1, 1]), np.array([3, 3, 3, 8, 1])
    assert mistakes.worst_mistake(labels, taken_for) == "66.7 % of class 8 are taken for 3"


def test_an_image_with_a_wrong_label_is_named_where_it_is_shown():
    assert "test image 2405 is labelled cat and shows a frog" in mistakes.label_errors(np.array([7, 2405]))
    assert mistakes.label_errors(np.array([7])) == ""


def test_filters_are_each_on_a_scale_of_its_own_with_mid_grey_for_zero():
    weights = np.zeros((3, 3, 1, 1))
    weights[1] = -2
    weights[2, :, 0, 0] = 0.2, 0.1, 0
    sheet = mistakes.filter_tiles(weights, columns=3)
    assert sheet[0, 0].tolist() == [0.5] * 3 and sheet[0, 2].tolist() == [0] * 3 and sheet[0, 1].tolist() == [1] * 3
    assert sheet[0, 4].tolist() == [1, 0.75, 0.5]


@pytest.mark.parametrize("share, counted", [(0.95, (1, 0)), (0.85, (0, 0)), (0.55, (0, 0)), (0.45, (0, 1))])
def test_filters_of_one_grey_and_of_contrasts_are_counted(share, counted):
    """A part along grey, (1, 1, 1)/√3, and one across it, (1, −1, 0)/√2."""
    along, across = np.ones(3) / 3**0.5, np.array([1.0, -1, 0]) / 2**0.5
    weights = share * along + (1 - share**2) ** 0.5 * across
    assert mistakes.colours(weights[None, :, None, None]) == counted
