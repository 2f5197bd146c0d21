"""The whole report at a glance: its rows beside ours, what they cost, how complete the records are. It reads records,
and changes nothing."""

from collections.abc import Mapping

import pandas as pd

from helpers import experiments, records
from helpers.experiments import SECTIONS
from helpers.records import Record
from helpers.show.comparison import Comparison, Report
from helpers.show.grid import Grid
from helpers.show.text import missing, signed

NEAR, APART = 2.0, 5.0  # points between ours and the report's
READINGS = "readings"  # the section of candidates, in no table of the report


def shown(report: Report) -> list[Comparison]:
    """Every table of the report's sections, in their order."""
    return [rows for number in SECTIONS if number != READINGS for rows in report.section(number).values()]


def all_rows(report: Report) -> pd.DataFrame:
    """Every row that both we and the report have, each run once: section, table, row, accuracy, reported (0 to 1).

    `difference`: ours less the report's, in points; `expected`: whether the report's score lies where one further run
    of ours is to be expected.
    """
    seen = {}
    for rows in shown(report):
        for label, row in rows.items():
            if not missing(row.difference):
                among = 100 * row.reported in rows.expected(label)
                seen.setdefault((row.first.run, row.reported), {
                    "section": rows.table.section, "table": rows.table.title, "row": label,
                    "accuracy": float(row.accuracy), "reported": float(row.reported),
                    "difference": float(row.difference), "expected": among,
                })  # fmt: skip
    columns = ["section", "table", "row", "accuracy", "reported", "difference", "expected"]
    return pd.DataFrame(list(seen.values()), columns=columns)


def costs(report: Report, section: str) -> pd.DataFrame:
    """Every distinct run of a section once: table, row, accuracy (0 to 1), parameters, seconds an epoch.

    Seconds are those of one machine; see `records.times`.
    """
    seen = {}
    for rows in report.section(section).values():
        for row in rows.values():
            if row.scores:
                seen.setdefault(row.first.run, (rows.table.title, row))
    seconds, _ = records.times({run: row for run, (_, row) in seen.items()})
    lines = [
        (title, row.label, float(row.accuracy), row.parameters, seconds[run]) for run, (title, row) in seen.items()
    ]
    return pd.DataFrame(lines, columns=["table", "row", "accuracy", "parameters", "seconds_per_epoch"])


def median_differences(rows: pd.DataFrame) -> str:
    """Ours less the report's by section, in words: the median of its rows, from `all_rows`."""
    groups = rows.groupby("section", sort=False)["difference"]
    words = [f"section {section} {signed(each.median())} (of {len(each)})" for section, each in groups]
    return "; ".join(words) or "no row yet"


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
    texts = pd.DataFrame({
        "section": frame["section"],
        "rows": [f"{row['rows done']} of {row['rows']}" for _, row in frame.iterrows()],
        "runs": [f"{row['runs done']} of {row['runs']}" for _, row in frame.iterrows()],
        "hours recorded": frame["hours"].map("{:.1f}".format),
        "hours left": frame["hours left"].map("{:.1f}".format),
        "command": [f"python -m helpers run --section {row.section} --budget {row.budget}" for row in
                    frame.itertuples()],
    })  # fmt: skip
    caption = "Rows and runs with a record, the hours they took, an estimate for the rest on one core, and its command."
    return Grid(frame, caption, texts, left=("command",))
