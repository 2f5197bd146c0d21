"""What is said while runs are made: a bar where a terminal is, a line now and then where none is. It only looks."""

import contextlib
import sys

from tqdm import tqdm

from helpers import records, training
from helpers.experiments import Run

PLAIN = {"bar_format": "{desc}: {percentage:.0f} %, {remaining} left{postfix}", "mininterval": 60, "delay": 60}


class _Lines:
    """Where a bar is drawn when no terminal is there: each drawing a line of its own, without control characters."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def bar(run: Run, trainer: training.Trainer, steps: int, line: int | None):
    """A progress bar over the whole run, with loss, accuracy and time left; gives the function that moves it."""
    live = {"position": line, "dynamic_ncols": True, "mininterval": 0.2}
    form = {**PLAIN, "file": _Lines()} if line is None else live
    bar = tqdm(total=run.epochs * steps, initial=trainer.step, desc=run.name, unit="step", leave=False, **form)

    def tick(trainer: training.Trainer) -> None:
        # Numbers are read from the device only now and then: a look makes a GPU wait.
        if trainer.step % 25 == 0:
            epoch = (trainer.step - 1) // steps
            seen = slice(epoch * steps, trainer.step)
            accuracy = trainer.correct[seen].mean().item() / run.batch_size
            bar.set_postfix(
                epoch=f"{epoch + 1}/{run.epochs}", loss=f"{trainer.losses[seen].mean().item():.3f}",
                accuracy=f"{accuracy:.3f}", refresh=False,
            )  # fmt: skip
        bar.update(1)

    try:
        yield tick
    finally:
        bar.close()


def tell(text: str) -> None:
    """A line on stderr, above the bars; what a file's text may have brought into it can't move the cursor."""
    tqdm.write(records.plain(text), file=sys.stderr)
