"""What one network does with single images: which classes it confuses, which mistakes it is sure of, which patterns its
first layer answers to. It takes arrays that a run has left behind, and never trains or reads anything itself."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from helpers.show.curves import WIDTH, closed, tiles
from helpers.show.grid import Grid
from helpers.show.text import MISSING

# A filter's share of weight that is the same in all three colours, as a length: above the one it is almost colourless,
# below the other it answers to contrasts of colour.
COLOURLESS, COLOURFUL = 0.9, 0.5

# Of CIFAR-10's test images, by looking at them: the label, and what is to be seen.
MISLABELLED = {2405: ("cat", "frog")}


class Wrong(NamedTuple):
    """The images that a network gets wrong, surest first, of `images`; mean confidences (0 to 1)."""

    at: np.ndarray
    images: int
    confidence_wrong: float
    confidence_right: float


class Predictions:
    """What the first seed of a row takes the test images for.

    `arrays`: its `test_predictions`, `test_confidence` and `first_filters`; `counts[i, j]`: images of class i taken for
    class j; `hardest`, `easiest`: a class and the share (0 to 1) of its images that are right.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], labels: np.ndarray, images: Sequence, classes: Sequence[str]):
        self.taken_for, self.filters = arrays["test_predictions"], arrays["first_filters"]
        self.labels, self.images, self.classes = labels[: len(self.taken_for)], images, classes
        self.counts = confusion_matrix(self.labels, self.taken_for, len(classes))
        by_share = sorted(zip(classes, self.counts.diagonal() / self.counts.sum(1)), key=lambda each: each[1])
        self.hardest, self.easiest = by_share[0], by_share[-1]
        self.wrong = _wrong(self.taken_for == self.labels, arrays["test_confidence"].astype(float))

    @property
    def surest(self) -> np.ndarray:
        """The ten mistakes of which it is surest."""
        return self.wrong.at[:10]

    @property
    def colours(self) -> tuple[int, int]:
        return colours(self.filters)

    def confusion(self) -> Figure:
        """True classes down, predicted ones across; the shade is that of the mistakes."""
        figure, ax = plt.subplots(figsize=(5.6, 4.6))
        right = np.eye(len(self.counts), dtype=bool)
        names = {"xticklabels": self.classes, "yticklabels": self.classes}
        look = {"cmap": "Greys", "square": True, "linewidths": 0.5, "cbar_kws": {"label": "mistakes (images)"}}
        sns.heatmap(self.counts, mask=right, annot=True, fmt="d", annot_kws={"size": 7.5}, ax=ax, **look, **names)
        for place, count in enumerate(self.counts.diagonal()):
            ax.text(place + 0.5, place + 0.5, count, ha="center", va="center", fontsize=7.5, weight="bold")
        ax.set_xticks(ax.get_xticks(), self.classes, rotation=45, ha="right")
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.grid(False)
        return closed(figure)

    def pairs(self, count: int = 8) -> Grid:
        """The most frequent mistakes."""
        pairs = [(there, here, counts[j], f"{100 * counts[j] / counts.sum():.1f}")
                 for i, (there, counts) in enumerate(zip(self.classes, self.counts))
                 for j, here in enumerate(self.classes) if i != j]  # fmt: skip
        pairs = sorted(pairs, key=lambda pair: -pair[2])[:count]
        frame = pd.DataFrame(pairs, columns=["true class", "taken for", "images", "share of the class (%)"])
        return Grid(frame, "The most confused pairs of classes, on the test set.", left=("taken for",))

    def gallery(self) -> Figure:
        """The surest mistakes, each under its class and the class that it is taken for."""
        figure, axes = plt.subplots(2, 5, figsize=(WIDTH, 3.4))
        for ax, at in zip(axes.flat, self.surest):
            ax.imshow(self.images[int(at)].numpy().transpose(1, 2, 0), interpolation="nearest")
            true, taken_for = self.classes[self.labels[at]], self.classes[self.taken_for[at]]
            ax.set_title(f"{true},\ntaken for {taken_for}", fontsize=7.5)
            ax.axis("off")
        return closed(figure)

    def first_layer(self) -> Figure:
        """The first layer's filters (N, 3, H, W) as colour images: mid-grey is 0, each filter's largest weight in full
        colour. One scale would hide most of them, for no reason: the batch norm that follows takes out how long a
        filter is."""
        figure, ax = plt.subplots(figsize=(WIDTH, 2))
        ax.imshow(filter_tiles(self.filters, 16), interpolation="nearest")
        ax.set_title("mid-grey is 0, full colour the largest weight of a filter", fontsize=8)
        ax.axis("off")
        return closed(figure)


def of(row, dataset) -> Any:
    """The `Predictions` of a row on the test images of `dataset`; MISSING without a record."""
    if not row:
        return MISSING
    return Predictions(row.arrays, dataset.test.labels.numpy(), dataset.test.images, dataset.classes)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int = 10) -> np.ndarray:
    """counts[i, j]: images of class i taken for class j."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def _wrong(right: np.ndarray, confidence: np.ndarray) -> Wrong:
    wrong = np.flatnonzero(~right)
    at = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return Wrong(at, len(right), float(confidence[~right].mean()), float(confidence[right].mean()))


def worst_mistake(labels: np.ndarray, predictions: np.ndarray) -> str:
    """The most frequent mistake, in words: "91.0 % of class 8 are taken for 3"."""
    counts = confusion_matrix(labels[: len(predictions)], predictions)
    mistakes = counts - np.diag(counts.diagonal())
    true, taken_for = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return f"{100 * counts[true, taken_for] / counts[true].sum():.1f} % of class {true} are taken for {taken_for}"


def label_errors(shown: Sequence[int]) -> str:
    """Which of CIFAR-10's test images `shown` as mistakes have a wrong label, in a sentence; none, no words."""
    known = [f"test image {at} is labelled {label} and shows a {seen}" for at, (label, seen) in MISLABELLED.items()
             if at in shown]  # fmt: skip
    return f"Not every one is the network's mistake: {'; '.join(known)}." if known else ""


def filter_tiles(weights: np.ndarray, columns: int) -> np.ndarray:
    """Filters (N, 3, H, W) in one image, each on a scale of its own."""
    scale = np.abs(weights).max((1, 2, 3), keepdims=True)
    scale[scale == 0] = 1
    return tiles(0.5 + (weights / (2 * scale)).transpose(0, 2, 3, 1), columns)


def colours(weights: np.ndarray) -> tuple[int, int]:
    """How many first-layer filters (N, 3, H, W) are almost colourless, and how many see contrasts of colour alone.

    ‖mean over the colours‖·√3/‖w‖ is 1 for a filter that is the same in all three, 0 for one that they cancel in.
    """
    flat = weights.reshape(len(weights), -1)
    grey = np.linalg.norm(weights.mean(1).reshape(len(weights), -1), axis=1) * 3**0.5 / np.linalg.norm(flat, axis=1)
    return int((grey > COLOURLESS).sum()), int((grey < COLOURFUL).sum())
