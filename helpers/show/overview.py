"""The whole report at a glance: each table's headline row, how complete the records are, the README's tables. It reads
records, and must never change anything but what stands between the README's own markers."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from helpers import experiments, records
from helpers.experiments import AUTHORS_PRUNED, REPORTED_PRUNED, SECTIONS
from helpers.records import Record
from helpers.show import filters
from helpers.show.comparison import Comparison, Report, Row
from helpers.show.grid import Grid, Links, cells
from helpers.show.text import missing, signed

NEAR, APART = 2.0, 5.0  # points between ours and the report's
READINGS = "readings"  # the section of candidates, in no table of the report

# The rows that stand for those tables that aren't about the highest accuracy of the whole network.
MEANT = {
    "3.1 optimizer": "DessiLBI",
    "3.1 what each change brings": "+ κ 60, ν 4, decay, pretrained",
    "3.1 around 200 epochs": "+ 200 epochs",
    "3.1 weaker pulls": "κ 60, ν 4",
    "3.1 other ways to sparse filters": "DessiLBI",
    "3.1 winning ticket": "early support",
}

# ------------------------------------------------------------------------------------------ headline rows


class Headline(NamedTuple):
    """The row that stands for a table."""

    rows: Comparison
    row: Row

    @property
    def home(self) -> str:
        """Where the table stands: "notebook.ipynb#label"."""
        return f"{self.rows.table.notebook}.ipynb#{self.rows.table.anchor}"


def shown(report: Report) -> list[Comparison]:
    """Every table of the report's sections, in their order."""
    return [rows for number in SECTIONS if number != READINGS for rows in report.section(number).values()]


def headlines(report: Report) -> list[Headline]:
    """The headline row of each table, in the report's order."""
    return [Headline(rows, rows[headline_row(rows)]) for rows in shown(report)]


def headline_row(rows: Comparison) -> str:
    """The row in MEANT, or the one with the report's highest score; of a table that is ours, the best on validation."""
    if rows.table.title in MEANT:
        return MEANT[rows.table.title]
    stated = {label: row.reported for label, row in rows.items() if not missing(row.reported)}
    first = next(iter(rows))
    return max(stated, key=stated.get) if stated else getattr(rows.best or rows[first], "label", first)


def headline_table(found: list[Headline]) -> Grid:
    """Each table's headline row: ours beside the report's, with a link to the notebook."""
    frame = pd.DataFrame([{
        "table": each.rows.table.title, "row": each.row.label, "accuracy": float(each.row.accuracy),
        "reported": float(each.row.reported), "difference": float(each.row.difference), "n": each.row.n,
    } for each in found])  # fmt: skip
    texts = pd.DataFrame({
        "table": cells([Links(((title, each.home),), title) for title, each in zip(frame["table"], found)]),
        "row": frame["row"],
        "ours (%)": [f"{each.row.accuracy}" for each in found],
        "report (%)": [f"{each.row.reported}" for each in found],
        "difference": [f"{each.row.difference}" for each in found],
        "n": frame["n"].astype(str),
    })  # fmt: skip
    caption = (
        "One row of each table: ours (mean ± standard deviation over n seeds), the report's, the difference in points"
    )
    return Grid(frame, f"{caption} in points.", texts, left=("row",))


def sparse_rows(report: Report) -> dict[str, Row]:
    """The ways to sparse filters that are compared at one length, and DessiLBI in our sparsest and our best setting."""
    changes, others = report["3.1 what each change brings"], report["3.1 other ways to sparse filters"]
    ours = (MEANT[title] for title in ("3.1 around 200 epochs", "3.1 what each change brings"))
    return {**others, **{f"DessiLBI, {label.removeprefix('+ ')}": changes[label] for label in ours}}


def sparse_table(report: Report) -> Grid:
    """How much of LeNet's conv3 can go: the report, the authors' network, and ours."""
    stated = {"the report": REPORTED_PRUNED["conv3"], "the authors' network": AUTHORS_PRUNED}
    return filters.sizes_kept(sparse_rows(report), stated=stated, eliminated=(0.9,))


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
