"""The tables of docs/speed.md, from what was measured. It measures nothing, and changes nothing but what stands between
the page's own markers."""

from pathlib import Path

import pandas as pd

from benchmarks import profiles
from helpers.overview import filled
from helpers.tables import DASH, Table

PATH = Path(__file__).resolve().parents[1] / "docs" / "speed.md"
PENDING = "Not measured yet: `make bench` does it."


def blocks(parts: dict) -> dict[str, str]:
    """The page's tables as Markdown, by the name of their markers."""
    return {"steps": _steps(parts), "epochs": _epochs(parts), "profile": _profile(parts), "pruned": _pruned(parts),
            "machine": _machines(parts)}  # fmt: skip


def rewrite(parts: dict, path: Path = PATH) -> None:
    """Brings the tables of the page up to date with `parts`."""
    path.write_text(filled(path.read_text(encoding="utf-8"), blocks(parts)), encoding="utf-8")


def _named(parts: dict, start: str) -> dict[str, dict]:
    return {name.removeprefix(start): part for name, part in parts.items() if name.startswith(start)}


def _table(head: list[str], rows: list[list[str]]) -> str:
    return Table(pd.DataFrame(rows, columns=head), "").grid() if rows and len(head) > 1 else PENDING


def _steps(parts: dict) -> str:
    found = _named(parts, "step ")
    names = list(dict.fromkeys(name for part in found.values() for name in part["ratio_to_fused_sgd"]))
    ratios = [part["ratio_to_fused_sgd"] for part in found.values()]
    rows = [[name, *(f"{each[name]:.2f}" if name in each else DASH for each in ratios)] for name in names]
    limits = [f"{part['limit_ratio']['DessiLBI']:.2f}" for part in found.values()]
    return _table(["", *found], [*rows, ["*limit of DessiLBI*", *limits]] if rows else [])


def _epochs(parts: dict) -> str:
    rows = [[name, part["precision"], f"{part['ours']['seconds']:.1f}", f"{part['usual']['seconds']:.1f}",
             f"{part['limit_seconds']:.1f}", f"{part['usual_to_ours']:.2f}", f"{part['ours_to_limit']:.2f}"]
            for name, part in _named(parts, "epoch ").items()]  # fmt: skip
    head = ["network", "precision", "ours (s)", "usual loop (s)", "limit (s)", "usual / ours", "ours / limit"]
    return _table(head, rows)


def _profile(parts: dict) -> str:
    found = _named(parts, "profile ")
    rows = [["ms a step", *(f"{1e3 * part['seconds']:.1f}" for part in found.values())],
            ["ms at the limit", *(f"{1e3 * part['limit_seconds']:.1f}" for part in found.values())],
            *([group, *(f"{100 * _share(part, group):.0f} %" for part in found.values())]
              for group in profiles.GROUPS)]  # fmt: skip
    return _table(["", *found], rows)


def _share(part: dict, group: str) -> float:
    return part["seconds_by_group"].get(group, 0.0) / sum(part["seconds_by_group"].values())


def _pruned(parts: dict) -> str:
    rows = [
        [network, name, f"{each['parameters']:,}", f"{each['multiply_adds_an_image'] / 1e6:.2f}",
         f"{part['times_as_fast'][name]:.2f}"]
        for network, part in _named(parts, "pruned ").items() for name, each in part["networks"].items()
    ]  # fmt: skip
    return _table(["network", "filters", "parameters", "million multiply-adds", "times as fast"], rows)


def _machines(parts: dict) -> str:
    shown = [part for name, part in parts.items() if name.startswith(("step ", "epoch ", "profile ", "pruned "))]
    lines = dict.fromkeys(
        f"{part['machine']['processor']}, torch {part['machine']['torch']}, revision {part['revision']}"
        for part in shown
    )
    return f"Measured on {'; '.join(lines)}." if lines else PENDING
