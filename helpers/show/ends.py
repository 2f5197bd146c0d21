"""Where training and validation end: how far a network is ahead on the images that it has seen, and in how many epochs
it is behind on them. Nothing is trained here."""

import numpy as np
import pandas as pd

from helpers.show.comparison import Comparison, Row
from helpers.show.grid import Grid
from helpers.show.text import MISSING, percent, signed


def above(row: Row) -> list[bool]:
    """Whether validation accuracy is above training accuracy, in each epoch of each seed that learned."""
    pairs = [(record.history["validation_accuracy"], record.history["train_accuracy"]) for record in row.alive]
    return [fact for pair in pairs for fact in np.greater(*pair)]


def table(rows: Comparison) -> Grid:
    """Training and validation accuracy after the last epoch, and how often the second is above the first; of the rows
    that learned."""
    lines = []
    for row in rows.values():
        if row.learned or not row:
            training, validation, higher = row.last("train_accuracy"), row.last("validation_accuracy"), above(row)
            lines.append({
                "": row.label,
                "training (%)": percent(training),
                "validation (%)": percent(validation),
                "training ahead by (points)": signed(100 * (training - validation)),
                "epochs with validation above": f"{sum(higher)} of {len(higher)}" if higher else MISSING,
            })  # fmt: skip
    name = rows.table.name[0].upper() + rows.table.name[1:]
    return Grid(pd.DataFrame(lines), f"{name}: where training and validation end, mean over the seeds.")
