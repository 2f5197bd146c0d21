"""The whole report at a glance: all scores beside the report's, and how complete the records are. It
reads records, and changes nothing."""

import math
import re
from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import experiments
from helpers.experiments import SECTIONS
from helpers.records import Record
from helpers.show.comparison import Comparison, Report
from helpers.show.curves import LINES, MARKERS, WIDTH, closed, legend
from helpers.show.grid import Grid
from helpers.show.text import missing, signed

NEAR, APART = 2.0, 5.0  # points between ours and the report's
READINGS = "readings"  # the section of candidates, in no table of the report


def shown(report: Report) -> list[Comparison]:
    """Every table of the report's sections, in their order."""
    return [rows for number in SECTIONS if number != READINGS for rows in report.section(number).values()]


def all_rows(report: Report) -> pd.DataFrame:
    """Every row that both we and the report have; a run that stands in several tables only once.

    Section, table, row; accuracy, reported (0 to 1); ours: mean ± standard deviation in percent; difference: ours less
    the report's, in points; expected: whether the report's score lies where one further run of ours is to be expected.
    """
    seen = {}
    for rows in shown(report):
        for label, row in rows.items():
            if not missing(row.difference):
                seen.setdefault((row.first.run, row.reported), {
                    "section": rows.table.section, "table": rows.table.title, "row": label, "ours": f"{row.accuracy}",
                    "accuracy": float(row.accuracy), "reported": float(row.reported),
                    "difference": float(row.difference), "expected": _is_expected(rows, label),
                })  # fmt: skip
    columns = ["section", "table", "row", "ours", "accuracy", "reported", "difference", "expected"]
    return pd.DataFrame(list(seen.values()), columns=columns)


def _is_expected(rows: Comparison, label: str) -> bool:
    """Whether the report's score lies where one further run is to be expected; not where nothing tells the spread."""
    interval = rows.expected(label)
    return 100 * rows[label].reported in interval and math.isfinite(interval.low)


def median_differences(rows: pd.DataFrame) -> str:
    """Ours less the report's by section, in words: the median of its rows, from `all_rows`."""
    groups = rows.groupby("section", sort=False)["difference"]
    words = [f"section {section} {signed(each.median())} (of {len(each)})" for section, each in groups]
    return "; ".join(words) or "no row yet"


def against_report(rows: pd.DataFrame, floor: float = 55) -> Figure:
    """Our accuracy against the report's in percent, a mark a row, one look a section; on the diagonal both agree.

    `rows`: as `all_rows` gives them. Those more than APART points off are named; those below `floor` percent stand at
    the edge, with their score and an arrow.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.6))
    rows = rows.assign(stated=100 * rows["reported"], percent=(100 * rows["accuracy"]).clip(lower=floor))
    _scatter(ax, rows)
    ax.plot([floor, 100], [floor, 100], color="0.4", lw=1, ls="--", label="as reported", zorder=0)
    ax.set(xlabel="the report's accuracy (%)", ylabel="ours (%)", xlim=(floor - 1, 100.5), ylim=(floor - 2, 100.5))
    legend(ax, title="section", loc="upper left")
    off = rows[rows["difference"].abs() > APART].sort_values("percent")
    _names(ax, off[off["difference"] > 0], -1)
    _names(ax, off[(off["difference"] < 0) & (off["percent"] > floor)], 1)
    for place, row in enumerate(off[off["percent"] <= floor].sort_values("stated").itertuples()):
        words, height = f"{_name(row)}: {100 * row.accuracy:.1f} ↓", floor + 1 + 1.7 * (place % 3)
        ax.plot([row.stated] * 2, [floor, height], color="0.5", lw=0.5, zorder=0)  # from the words to their mark
        ax.text(row.stated, height, words, size=7.5, ha="center", va="bottom")
    return closed(figure)


def _scatter(ax: Axes, rows: pd.DataFrame) -> None:
    """A mark a row, each section with a colour and a marker of its own."""
    names = list(rows["section"].unique())
    looks = {"palette": [LINES[i % len(LINES)][0] for i in range(len(names))], "markers": [*MARKERS[: len(names)]]}
    groups = {"hue": "section", "style": "section", "hue_order": names, "style_order": names}
    if names:
        sns.scatterplot(rows, x="stated", y="percent", ax=ax, s=40, **groups, **looks)


def _names(ax: Axes, rows: pd.DataFrame, side: int, line: float = 1.5) -> None:
    """Names marks on the side that leads away from the diagonal, at least a line, in percent, above each other."""
    lowest = 0.0
    for row in rows.itertuples():
        height = max(row.percent, lowest)
        ax.text(row.stated + 0.7 * side, height, _name(row), size=7.5, va="center", ha="left" if side > 0 else "right")
        lowest = height + line


def _name(row) -> str:
    """A label that says nothing by itself, "0.9" or "without", has its table's name after it."""
    alone = not re.fullmatch(r"[\d.e-]+|with(out)?", row.row)
    return row.row if alone else f"{row.row} ({row.table.split(' ', 1)[1]})"


# ------------------------------------------------------------------------------------------ how complete it is


def progress(report: Report) -> pd.DataFrame:
    """For each section: rows and distinct runs done and declared, hours recorded and, as an estimate, left.

    Recorded hours are those of the core or the GPU that made a record; what is left is estimated for one core by
    experiments.estimated_seconds.
    """
    known = report.store.scan()[0]
    return pd.DataFrame([_progress(section, report.budget, known) for section in SECTIONS if section != READINGS])


def _progress(section: str, budget: str, known: Mapping[str, Record]) -> dict:
    rows = [experiments.replicas(row.run, budget) for row in experiments.rows(section)]
    runs = {run.name: run for replicas in rows for run in replicas}
    done = {name for name in runs if name in known and not known[name].stale}
    left = sum(experiments.estimated_seconds(run) for name, run in runs.items() if name not in done)
    return {
        "section": section, "budget": budget,
        "rows done": sum(all(run.name in done for run in replicas) for replicas in rows), "rows": len(rows),
        "runs done": len(done), "runs": len(runs),
        "hours": sum(known[name].seconds for name in done) / 3600, "hours left": left / 3600,
    }  # fmt: skip


def progress_table(frame: pd.DataFrame) -> Grid:
    """`progress` to look at, with the command that makes what is left."""
    shown = pd.DataFrame([{
        "section": row["section"],
        "rows": f"{row['rows done']} of {row['rows']}",
        "runs": f"{row['runs done']} of {row['runs']}",
        "hours recorded": f"{row['hours']:.1f}",
        "hours left": f"{row['hours left']:.1f}",
        "command": f"python -m helpers run --section {row['section']} --budget {row['budget']}",
    } for row in frame.to_dict("records")])  # fmt: skip
    caption = "Rows and runs with a record, the hours they took, an estimate for the rest on one core, and its command."
    return Grid(shown, caption, left=("command",))
