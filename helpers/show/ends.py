"""Where training and validation end: how far a network is ahead on the images that it has seen, and in how many epochs
it is behind on them. Nothing is trained here."""

import numpy as np
import pandas as pd

from helpers.show.comparison import Comparison, Row
from helpers.show.grid import Grid
from helpers.show.text import MISSING, percent, signed


def above(row: Row) -> tuple[int, int]:
    """In how many epochs validation accuracy is above training accuracy, of how many; all seeds that learned."""
    pairs = [(record.history["validation_accuracy"], record.history["train_accuracy"]) for record in row.alive]
    higher = [np.greater(*map(np.array, pair)) for pair in pairs]
    return sum(int(each.sum()) for each in higher), sum(map(len, higher))


def table(rows: Comparison) -> Grid:
    """Training and validation accuracy after the last epoch, and how often the second is above the first; of the rows
    that learned."""
    found = [row for row in rows.values() if row.learned or not row]
    ends = [(row.last("train_accuracy"), row.last("validation_accuracy"), *above(row)) for row in found]
    frame = pd.DataFrame(
        [(row.label, float(train), float(validation), 100 * float(train - validation), higher, epochs)
         for row, (train, validation, higher, epochs) in zip(found, ends)],
        columns=["", "training", "validation", "ahead", "above", "epochs"],
    )  # fmt: skip
    texts = pd.DataFrame({
        "": frame[""],
        "training (%)": frame["training"].map(percent),
        "validation (%)": frame["validation"].map(percent),
        "training ahead by (points)": frame["ahead"].map(signed),
        "epochs with validation above": [f"{higher} of {epochs}" if epochs else f"{MISSING}"
                                         for higher, epochs in zip(frame["above"], frame["epochs"])],
    })  # fmt: skip
    name = rows.table.name[0].upper() + rows.table.name[1:]
    return Grid(frame, f"{name}: where training and validation end, mean over the seeds.", texts)
