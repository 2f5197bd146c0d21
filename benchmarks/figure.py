"""One picture of what was measured, with the limits drawn in. It draws what it is given, and measures nothing."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from benchmarks import results  # noqa: E402
from benchmarks.training import PRECISIONS  # noqa: E402
from helpers.show.curves import BLUE, ORANGE, SKY, VERMILION, WIDTH, use_report_style  # noqa: E402

PATH = Path(__file__).resolve().parents[1] / "figures" / "benchmarks.svg"
LIMIT = dict(color=VERMILION, linewidth=2, label="limit")
MINE = ("DessiLBI", "DessiLBI, fused", "DessiLBIAdam", "DessiLBIAdam, fused")


def draw(parts: dict, path: Path = PATH) -> None:
    """Writes the picture of all `parts` that it knows how to show, as SVG and PNG; nothing if there is none."""
    panels = [(name, each) for name, each in (*_steps(parts), *_epochs(parts)) if each]
    if not panels:
        return
    use_report_style()
    figure, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, 2.4 * len(panels)), squeeze=False)
    for ax, (title, bars) in zip(axes[:, 0], panels):
        _bars(ax, bars)
        ax.set_title(title, loc="left")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"))
    plt.close(figure)


def _bars(ax, bars: list[tuple[str, float, float | None, str]]) -> None:
    """Horizontal bars of (label, value, limit or None, colour), the first on top; a short stroke where the limit is."""
    for row, (_, value, limit, colour) in enumerate(bars):
        ax.barh(row, value, color=colour, height=0.7)
        ax.text(max(value, limit or 0), row, f" {value:.3g}", va="center")
        if limit is not None:
            ax.plot([limit, limit], [row - 0.42, row + 0.42], **{**LIMIT, "label": None if ax.lines else "limit"})
    ax.set_yticks(range(len(bars)), [bar[0] for bar in bars])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    if ax.lines:
        ax.legend(loc="upper right")


def _steps(parts: dict):
    for name, part in parts.items():
        if name.startswith("step "):
            limits = part["limit_ratio"]
            network = {"VGG": "VGG-A + BN"}.get(name.removeprefix("step "), "LeNet")
            yield (
                f"Optimizer step on {network}'s parameters, in steps of torch's fused SGD\n{results.place(part)}",
                [
                    (label, ratio, limits.get(label.split(",")[0].split(" as ")[0]), BLUE if label in MINE else SKY)
                    for label, ratio in part["ratio_to_fused_sgd"].items()
                ],
            )


def _epochs(parts: dict):
    """One thread alone, on the processor that measured last, of those that measured all networks: the others, which may
    be of an earlier revision, and how several threads share the work are in the tables."""
    for precision in PRECISIONS:
        measured = {
            name.removeprefix("epoch ").split(",")[0]: results.everywhere(part)
            for name, part in parts.items()
            if name.startswith("epoch ") and name.endswith(f", 1 thread, {precision}")
        }
        common = [
            where for where in next(iter(measured.values()), ()) if all(where in each for each in measured.values())
        ]
        if not common:
            continue
        where, bars = common[0], []
        for network, each in measured.items():
            bars.append((f"{network}, ours", each[where]["ours"]["seconds"], each[where]["limit_seconds"], BLUE))
            bars.append(("usual loop", each[where]["usual"]["seconds"], None, ORANGE))
        yield f"Seconds per epoch, ours in {precision}, 1 thread\n{where}", bars
