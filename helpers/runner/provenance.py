"""Where a record comes from: the machine, and the commit of the code. Nothing of it is believed that a folder around
this one, or the environment, says."""

import contextlib
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

CODE = Path(__file__).resolve().parents[2]  # where `helpers` lies, which may be no checkout


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine(device: str = "cpu") -> dict[str, str | int | None]:
    """What a record says of the machine that made it."""
    about = {"processor": processor(), "cores": os.cpu_count(), "system": platform.system(), "arch": platform.machine()}
    if device != "cpu":
        about["accelerator"] = torch.cuda.get_device_name(device)
    versions = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return {**about, "python": platform.python_version(), **versions}


@functools.cache  # modules are imported once, while commits and edits go on
def revision() -> str:
    """The commit of the code that runs, with "+" if it was changed since; "unknown" outside a checkout of its own.

    As of the first call in this process.
    """
    try:
        root = os.fsdecode(_git("rev-parse", "--show-toplevel"))
        # In a copy inside another repository git would tell of that one.
        if not root or not os.path.samefile(root, CODE) or not _git("ls-files", "--", "helpers/__init__.py"):
            return "unknown"
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "helpers")
        return _git("rev-parse", "--short=12", "HEAD").decode("ascii") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> bytes:
    """What git says of this repository: no variable leads it to another one, and a setting starts no program."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    return subprocess.run(command, cwd=CODE, env=environment, capture_output=True, check=True).stdout.strip()
