"""The tables of docs/speed.md, from what was measured. It measures nothing, and changes nothing but what stands between
the page's own markers."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks import profiles, results
from benchmarks.training import PRECISIONS
from helpers.publish.readme import filled
from helpers.records import RecordError
from helpers.show.grid import Grid
from helpers.show.text import DASH

PATH = Path(__file__).resolve().parents[1] / "docs" / "speed.md"
PENDING = "Not measured yet: `make bench` does it."


def blocks(parts: dict) -> dict[str, str]:
    """The page's tables as Markdown, by the name of their markers."""
    shown = {
        "steps": ("step ", "", _steps),
        "pruned": ("pruned ", "", _pruned),
        "rounding": ("rounding ", "", _rounding),
    }
    for precision in PRECISIONS:
        shown[f"epochs in {precision}"] = "epoch ", f", {precision}", _epochs
        shown[f"profile in {precision}"] = "profile ", f", {precision}", _profile
        shown[f"kernels in {precision}"] = "kernels ", f", {precision}", _kernels
    return {name: _block(_named(parts, start, end), table) for name, (start, end, table) in shown.items()}


def rewrite(parts: dict, path: Path = PATH) -> None:
    """Brings the tables of the page up to date with `parts`. Raises RecordError, naming it, if it lacks a marker."""
    try:
        text = filled(path.read_text(encoding="utf-8"), blocks(parts))
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None
    path.write_text(text, encoding="utf-8")


def _named(parts: dict, start: str, end: str) -> dict[str, dict]:
    found = {name: part for name, part in parts.items() if name.startswith(start) and name.endswith(end)}
    return {name.removeprefix(start).removesuffix(end): part for name, part in found.items()}


def _block(found: dict[str, dict], table: Callable) -> str:
    """A table of the parts `found` for each place, and where that is."""
    places = {}
    for name, part in found.items():
        for place, each in results.everywhere(part).items():
            places.setdefault(place, {})[name] = each
    tables = [f"{table(each)}\n\nMeasured on {place}, {_versions(each)}." for place, each in places.items()]
    return "\n\n".join(tables) if tables else PENDING


def _table(head: list[str], rows: list[list[str]]) -> str:
    return Grid(pd.DataFrame(rows, columns=head), "").grid(str)  # cells are Markdown of ours


def _steps(found: dict) -> str:
    names = list(dict.fromkeys(name for part in found.values() for name in part["ratio_to_fused_sgd"]))
    ratios = [part["ratio_to_fused_sgd"] for part in found.values()]
    rows = [[name, *(f"{each[name]:.2f}" if name in each else DASH for each in ratios)] for name in names]
    limits = [f"{part['limit_ratio']['DessiLBI']:.2f}" for part in found.values()]
    return _table(["", *found], [*rows, ["*limit of DessiLBI*", *limits]])


def _epochs(found: dict) -> str:
    rows = [[name, f"{part['ours']['seconds']:.1f}", f"{part['usual']['seconds']:.1f}",
             f"{part['limit_seconds']:.1f}", f"{part['usual_to_ours']:.2f}", f"{part['ours_to_limit']:.2f}"]
            for name, part in found.items()]  # fmt: skip
    head = ["network", "ours (s)", "usual loop (s)", "limit (s)", "usual / ours", "ours / limit"]
    return _table(head, rows)


def _profile(found: dict) -> str:
    rows = [["ms a step", *(f"{1e3 * part['seconds']:.1f}" for part in found.values())],
            ["ms at the limit", *(f"{1e3 * part['limit_seconds']:.1f}" for part in found.values())],
            *([group, *(f"{100 * _share(part, group):.0f} %" for part in found.values())]
              for group in profiles.GROUPS)]  # fmt: skip
    return _table(["", *found], rows)


def _kernels(found: dict) -> str:
    names = list(dict.fromkeys(name for part in found.values() for name in part["longer_without"]))
    longer = [part["longer_without"] for part in found.values()]
    rows = [[name, *(f"{100 * each[name]:+.1f} %" if name in each else DASH for each in longer)] for name in names]
    return _table(["without", *found], rows)


def _share(part: dict, group: str) -> float:
    return part["seconds_by_group"].get(group, 0.0) / sum(part["seconds_by_group"].values())


def _pruned(found: dict) -> str:
    rows = [
        [network, name, f"{each['parameters']:,}", f"{each['multiply_adds_an_image'] / 1e6:.2f}",
         f"{part['times_as_fast'][name]:.2f}"]
        for network, part in found.items() for name, each in part["networks"].items()
    ]  # fmt: skip
    return _table(["network", "filters", "parameters", "million multiply-adds", "times as fast"], rows)


def _rounding(found: dict) -> str:
    rows = [[network, *(f"{100 * each:.3g} %" for each in part["off"].values()),
             f"{100 * part['spread_of_batches']:.0f} %"] for network, part in found.items()]  # fmt: skip
    engines = next(iter(found.values()))["off"]
    return _table(["network", *engines, "another batch"], rows)


def _versions(found: dict) -> str:
    """The versions of the parts of one table; each with its parts, if there are several."""
    versions = {}
    for name, part in found.items():
        versions.setdefault(f"torch {part['machine']['torch']}, revision {part['revision']}", []).append(name)
    lines = [each if len(versions) == 1 else f"{each} ({'; '.join(names)})" for each, names in versions.items()]
    return "; ".join(lines)
