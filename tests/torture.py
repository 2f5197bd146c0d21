"""Kills real training at random moments, again and again, and counts how often it then ends at the same weights.
It never touches the records of the repository: everything happens in a temporary folder.

    python tests/torture.py [COUNT]     50 by default; exit status 1 if one end differs
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from helpers.records import Store

PRECISIONS = ("float32", "bfloat16")  # in turn
OPTIONS = ["--table", "1.6 kernels", "--budget", "smoke"]


def begin(folder: Path, precision: str, workers: int) -> subprocess.Popen:
    # One thread a worker whatever their number: with more, sums are added up in another order.
    command = [sys.executable, "-m", "helpers", "run", *OPTIONS, "--precision", precision, "--workers", str(workers),
               "--threads", "1", "--results", str(folder)]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> None:
    errors = process.communicate()[1]
    if process.returncode:
        sys.exit(f"the run failed with status {process.returncode}:\n{errors}")


def training_begins(folder: Path, process: subprocess.Popen) -> bool:
    """Waits until a run is claimed: what comes before is but the loading of libraries."""
    while process.poll() is None and not list(folder.glob(".work/*.lock")):
        time.sleep(0.01)
    return process.poll() is None


def ends(folder: Path) -> dict[str, tuple]:
    """What each record of `folder` says, less the seconds; stops if a file is at fault."""
    records, faults = Store(folder).scan()
    unfinished = (each for kind in ("part", "damaged", "new.*", "pt") for each in folder.glob(f".work/*.{kind}"))
    left = [*faults.values(), *unfinished]
    if left:
        sys.exit(f"left over: {left}")
    series = [name for name in next(iter(records.values())).history if name != "seconds"]
    return {
        name: (record.weights, record.fingerprint, record.test, [record.history[each] for each in series])
        for name, record in records.items()
    }


def undisturbed(folder: Path, precision: str) -> tuple[dict, float]:
    """The ends of a run that nobody kills, and how many seconds it trained."""
    process = begin(folder, precision, workers=1)
    training_begins(folder, process)
    started = time.monotonic()
    finish(process)
    return ends(folder), time.monotonic() - started


def tortured(folder: Path, precision: str, seconds: float, workers: int, alone: bool) -> dict:
    """The ends of a run that is killed at a random moment and started again: its whole group, or the parent `alone`."""
    process = begin(folder, precision, workers)
    if training_begins(folder, process):
        time.sleep(random.uniform(0, seconds / workers))
        (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
    process.communicate()  # until the workers, who hold the pipe, are gone as well
    finish(begin(folder, precision, workers))
    return ends(folder)


def main() -> int:
    count, equal = int(sys.argv[1]) if len(sys.argv) > 1 else 50, 0
    with tempfile.TemporaryDirectory() as place:
        expected = {precision: undisturbed(Path(place, precision), precision) for precision in PRECISIONS}
        bar = tqdm(range(count), desc="kill -9", unit="run")
        for round_ in bar:
            precision = PRECISIONS[round_ % 2]
            workers, alone = 1 + round_ // 2 % 2, round_ // 4 % 2 == 1
            original, seconds = expected[precision]
            same = tortured(Path(place, str(round_)), precision, seconds, workers, alone) == original
            equal += same
            bar.set_postfix(equal=f"{equal}/{round_ + 1}")
            if not same:
                tqdm.write(f"round {round_} differs: {precision}, {workers} workers, parent alone: {alone}")
    print(f"{equal} of {count} runs that were killed ended equal to the one that was not")
    return 0 if equal == count else 1


if __name__ == "__main__":
    sys.exit(main())
