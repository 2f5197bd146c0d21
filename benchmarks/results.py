"""What was measured, as JSON: each part beside the machine, versions and revision it was measured with. The file is
written whole or not at all, and a part that is not measured again stays as it is, as does one of another processor."""

import json
import os
import tempfile
from pathlib import Path

PATH = Path(__file__).with_name("results.json")


def read(path: Path = PATH) -> dict:
    """part → what was measured; empty if there is no file. Raises ValueError, naming it, if it is damaged."""
    if not path.exists():
        return {}
    try:
        parts = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and measure again") from None
    return parts


def write(parts: dict, path: Path = PATH) -> None:
    """Puts `parts` at `path`, numbers with four significant digits, by way of a temporary file beside it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(rounded(parts), file, indent=1, ensure_ascii=False)
            file.write("\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def place(part: dict) -> str:
    """Where a part was measured: the processor, and the instructions that it has for matrices or was held to."""
    machine = part["machine"]
    if held_to := machine.get("held_to"):
        return f"{machine['processor']} held to {held_to}"
    return machine["processor"] + (f" with {machine['instructions']}" if machine.get("instructions") else "")


def everywhere(part: dict) -> dict[str, dict]:
    """place → what was measured there; first where the part itself was."""
    known = {place(part): part} | part.get("elsewhere", {})
    return {where: {key: each[key] for key in each if key != "elsewhere"} for where, each in known.items()}


def added(part: dict, before: dict | None) -> dict:
    """`part`, with what was measured `before` at other places; within it, if that was a processor not held to less."""
    known = {**everywhere(before or part), place(part): part}
    held = [where for where, each in known.items() if each["machine"].get("held_to")]
    first = place(part) if place(part) not in held or len(held) == len(known) else place(before)
    others = {where: each for where, each in known.items() if where != first}
    return {**known[first], "elsewhere": others} if others else known[first]


def rounded(value):
    """`value` with every float in it cut to four significant digits."""
    if isinstance(value, dict):
        return {str(key): rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
