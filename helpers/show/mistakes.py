"""What one network does with single images: which classes it confuses, which mistakes it is sure of, which patterns its
first layer answers to. It takes arrays that a run has left behind, and never trains or reads anything itself."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.show.curves import WIDTH, closed, tiles
from helpers.show.grid import Grid as Table
from helpers.show.text import MISSING

# A filter's share of weight that is the same in all three colours, as a length: above the one it is almost colourless,
# below the other it answers to contrasts of colour.
COLOURLESS, COLOURFUL = 0.9, 0.5

# Of CIFAR-10's test images, by looking at them: the label, and what is to be seen.
MISLABELLED = {2405: ("cat", "frog")}

# ------------------------------------------------------------------------------------------ classes


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int = 10) -> np.ndarray:
    """counts[i, j]: images of class i taken for class j."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def confusion(counts: np.ndarray, classes: Sequence[str], ax: Axes) -> Axes:
    """A confusion matrix as counts, true classes down, predicted ones across; the shade is that of the mistakes."""
    shade = np.where(np.eye(len(counts), dtype=bool), np.nan, counts.astype(float))
    sns.heatmap(shade, cmap="Greys", ax=ax, square=True, linewidths=0.5, cbar_kws={"label": "mistakes (images)"})
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            dark = i != j and count > 0.6 * np.nanmax(shade)
            ax.text(j + 0.5, i + 0.5, count, ha="center", va="center", fontsize=7.5,
                    color="white" if dark else "black", weight="bold" if i == j else "normal")  # fmt: skip
    ax.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=45, ha="right")
    ax.set_yticks(np.arange(len(classes)) + 0.5, classes, rotation=0)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.grid(False)
    return ax


def confused_pairs(confusion, classes, count: int = 8) -> Table:
    """The most frequent mistakes of a confusion matrix (rows: true class), most frequent first."""
    pairs = [(classes[i], classes[j], int(confusion[i][j]), 100 * confusion[i][j] / max(1, sum(confusion[i])))
             for i in range(len(classes)) for j in range(len(classes)) if i != j]  # fmt: skip
    pairs.sort(key=lambda pair: -pair[2])
    frame = pd.DataFrame(pairs[:count], columns=["true class", "taken for", "images", "share of the class (%)"])
    shares = frame["share of the class (%)"].map("{:.1f}".format)
    texts = frame.assign(**{"images": frame["images"].astype(str), "share of the class (%)": shares})
    return Table(frame, "The most confused pairs of classes, on the test set.", texts, left=("taken for",))


def worst_mistake(labels: np.ndarray, predictions: np.ndarray, classes: Sequence = range(10)) -> str:
    """The most frequent mistake, in words: "91.0 % of class 8 are taken for 3"."""
    counts = confusion_matrix(labels[: len(predictions)], predictions, len(classes))
    true, taken, _, share = next(confused_pairs(counts, classes, 1).frame.itertuples(index=False))
    return f"{share:.1f} % of class {true} are taken for {taken}"


def class_accuracies(counts: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Class → the share (0 to 1) of its images that a confusion matrix has on its diagonal, lowest first."""
    shares = dict(zip(classes, (counts.diagonal() / counts.sum(1)).tolist()))
    return dict(sorted(shares.items(), key=lambda item: item[1]))


# ------------------------------------------------------------------------------------------ mistakes


class Mistakes(NamedTuple):
    """The images that a network gets wrong, surest first, of `images`; mean confidences (0 to 1)."""

    at: np.ndarray
    images: int
    confidence_wrong: float
    confidence_right: float


def mistakes(labels: np.ndarray, kept: Mapping[str, np.ndarray]) -> Mistakes:
    """What is wrong in the `test_predictions` of a run, whose `test_confidence` says how sure it was."""
    confidence, right = kept["test_confidence"].astype(float), kept["test_predictions"] == labels
    wrong = np.flatnonzero(~right)
    means = (float(confidence[each].mean()) if each.any() else float("nan") for each in (~right, right))
    return Mistakes(wrong[np.argsort(-confidence[wrong], kind="stable")], len(labels), *means)


class Predictions:
    """What the first seed of a row takes the test images for."""

    def __init__(self, arrays: Mapping[str, np.ndarray], labels: np.ndarray, images: Sequence, classes: Sequence[str]):
        self.arrays, self.images, self.classes = arrays, images, classes
        self.labels = labels[: len(arrays["test_predictions"])]
        self.counts = confusion_matrix(self.labels, arrays["test_predictions"])
        self.wrong = mistakes(self.labels, arrays)
        shares = list(class_accuracies(self.counts, classes).items())
        self.hardest, self.easiest = shares[0], shares[-1]

    def confusion(self) -> Figure:
        figure, ax = plt.subplots(figsize=(5.6, 4.6))
        confusion(self.counts, self.classes, ax)
        return closed(figure)

    def pairs(self) -> Table:
        return confused_pairs(self.counts, self.classes)

    @property
    def surest(self) -> np.ndarray:
        """The ten mistakes of which it is surest."""
        return self.wrong.at[:10]

    def gallery(self) -> Figure:
        figure, axes = plt.subplots(2, 5, figsize=(WIDTH, 3.4))
        pictures, taken = self.images[self.surest].numpy(), self.arrays["test_predictions"][self.surest]
        gallery(pictures, self.labels[self.surest], taken, self.classes, axes.flat)
        return closed(figure)

    def first_layer(self) -> Figure:
        figure, ax = plt.subplots(figsize=(WIDTH, 2))
        filters(self.arrays["first_filters"], ax)
        return closed(figure)

    @property
    def colours(self) -> tuple[int, int]:
        return colours(self.arrays["first_filters"])


def of(row, dataset) -> Any:
    """The `Predictions` of a row on the test images of `dataset`; MISSING without a record."""
    if not row:
        return MISSING
    return Predictions(row.arrays, dataset.test.labels.numpy(), dataset.test.images, dataset.classes)


def gallery(
    images: np.ndarray, true: np.ndarray, taken_for: np.ndarray, classes: Sequence[str], axes: Sequence[Axes]
) -> Sequence[Axes]:
    """One image (3, H, W) uint8 an axis, under its class and the class that it is taken for."""
    for ax, image, here, there in zip(axes, images, true, taken_for, strict=True):
        ax.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        ax.set_title(f"{classes[here]},\ntaken for {classes[there]}", fontsize=7.5)
        ax.axis("off")
    return axes


def label_errors(shown: Sequence[int]) -> str:
    """Which of CIFAR-10's test images `shown` as mistakes have a wrong label, in a sentence; none, no words."""
    known = [f"test image {at} is labelled {label} and shows a {seen}" for at, (label, seen) in MISLABELLED.items()
             if at in shown]  # fmt: skip
    return f"Not every one is the network's mistake: {'; '.join(known)}." if known else ""


# ------------------------------------------------------------------------------------------ first-layer filters


def filters(weights: np.ndarray, ax: Axes, columns: int = 16) -> Axes:
    """First-layer filters (N, 3, H, W) as colour images: mid-grey is 0, each filter's largest weight in full colour.

    One scale would hide most of them, for no reason: the batch norm that follows takes out how long a filter is.
    """
    scale = np.abs(weights).max((1, 2, 3), keepdims=True)
    scale[scale == 0] = 1
    sheet = tiles(0.5 + (weights / (2 * scale)).transpose(0, 2, 3, 1), columns)
    ax.imshow(sheet, interpolation="nearest")
    ax.set_title("mid-grey is 0, full colour the largest weight of a filter", fontsize=8)
    ax.axis("off")
    return ax


def colours(weights: np.ndarray) -> tuple[int, int]:
    """How many first-layer filters (N, 3, H, W) are almost colourless, and how many see contrasts of colour alone.

    ‖mean over the colours‖·√3/‖w‖ is 1 for a filter that is the same in all three, 0 for one that they cancel in.
    """
    flat = weights.reshape(len(weights), -1)
    grey = np.linalg.norm(weights.mean(1).reshape(len(weights), -1), axis=1) * 3**0.5 / np.linalg.norm(flat, axis=1)
    return int((grey > COLOURLESS).sum()), int((grey < COLOURFUL).sum())
