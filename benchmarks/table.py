"""Rows of a table per hour, with the cores shared out in different ways. The records go to a temporary folder, and are
thrown away."""

import tempfile
import time

from benchmarks import measure
from helpers import experiments, fast, runner, training
from helpers.records import Store

ROWS, IMAGES = 4, 12_800  # 200 steps a row: long beside the seconds in which a worker starts


def rows() -> list:
    """A table like the report's, of the smallest network of section 1, but for one epoch on a part of the images."""
    return [experiments.replace(experiments.best, images=IMAGES, epochs=1, seed=seed) for seed in range(ROWS)]


def seconds(workers: int, threads: int, precision: str) -> float:
    """Seconds in which all rows are made and recorded, the start of the workers included."""
    settings = runner.Settings(threads=threads, precision=precision)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        runner.work_together(rows(), Store(folder).prepare(), workers, settings)
    return time.perf_counter() - started


def throughput(repeats: int) -> dict:
    """Rows per hour of 1 worker with 2 threads, of 2 with 1, and of what the runner itself chooses here."""
    precision = fast.choose_engine(experiments.best, training.Trainer, threads=1).precision
    own = runner.share(ROWS)
    shares = dict.fromkeys([(1, 2), (2, 1), own])
    timed = {share: [] for share in shares}
    for _ in range(min(repeats, 2)):
        for share in shares:
            timed[share].append(seconds(*share, precision))
    hourly = {f"{w} × {t}": 3600 * ROWS / min(timed[w, t]) for w, t in shares}
    return {
        "rows": ROWS, "images": IMAGES, "precision": precision, "rows_an_hour": hourly,
        "runner_chooses": f"{own[0]} × {own[1]}",
        "spread": {f"{w} × {t}": measure.summary(timed[w, t])["spread"] for w, t in shares},
    }  # fmt: skip


PARTS = {"rows an hour": throughput}
