"""The whole report at a glance: each table's headline row, how complete each budget is, the README's tables. It reads
records and notebooks, and must never change anything but what stands between the README's own markers."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers import experiments, records
from helpers.experiments import AUTHORS_PRUNED, REPORTED_PRUNED, SECTIONS, reported, title
from helpers.records import ROOT, Record, RecordError, Selection, Store
from helpers.show import claims, filters, readings, tables
from helpers.show.tables import DASH, Links, Table

NEAR, APART = 2.0, 5.0  # points between ours and the report's

# The rows that stand for those tables that aren't about the highest accuracy of the whole network.
MEANT = {
    ("3.1", "optimizer"): "DessiLBI",
    ("3.1", "what each change brings"): "+ κ 60, ν 4, decay, pretrained",
    ("3.1", "around 200 epochs"): "+ 200 epochs",
    ("3.1", "weaker pulls"): "κ 60, ν 4",
    ("3.1", "other ways to sparse filters"): "DessiLBI",
    ("3.1", "winning ticket"): "early support",
}

# ------------------------------------------------------------------------------------------ headline rows


class Headline(NamedTuple):
    """The row of a table that the report hands on; `home`: "notebook.ipynb#label" of its table, or ""; `longer`: its
    records in a larger budget, in which not every row of the table is there."""

    section: str
    table: str
    row: str
    found: list[Record]
    budget: str
    home: str
    longer: Sequence[Record] = ()

    @property
    def stated(self) -> float | None:
        """The report's accuracy (0 to 1)."""
        return reported(self.section, self.table, self.row).accuracy

    @property
    def accuracy(self) -> float | None:
        """Our mean accuracy (0 to 1)."""
        return records.mean(records.accuracies(self.found))

    @property
    def difference(self) -> float | None:
        """Ours less the report's, in points."""
        missing = self.accuracy is None or self.stated is None
        return None if missing else 100 * (self.accuracy - self.stated)


def selections(store: Store | None = None) -> dict[tuple[str, str], Selection]:
    """(section, table) → what there is to show of it."""
    store = store or Store()
    return {(section, table): records.select(runs, store)
            for section, named in SECTIONS.items() if section != "readings"
            for table, runs in named.items()}  # fmt: skip


def headlines(selected: Mapping[tuple[str, str], Selection], notebooks: Path = ROOT / "notebooks") -> list[Headline]:
    """The headline row of each table, in the report's order."""
    places = homes(notebooks)
    return [_headline(section, table, found, places.get((section, table), ""))
            for (section, table), found in selected.items()]  # fmt: skip


def _headline(section: str, table: str, found: Selection, home: str) -> Headline:
    row = headline_row(section, table, found)
    longer = [] if found.longest(row) is found[row] else found.longest(row)
    return Headline(section, table, row, found[row], found.budget, home, longer)


def headline_row(section: str, table: str, found: Selection) -> str:
    """The row in MEANT, or the one with the report's highest score; of a table that is ours, the best on validation."""
    if (section, table) in MEANT:
        return MEANT[section, table]
    stated = {label: reported(section, table, label).accuracy or 0 for label in found}
    best = max(stated, key=stated.get)
    return best if stated[best] else readings.best_row(found) or best


def homes(notebooks: Path) -> dict[tuple[str, str], str]:
    """(section, table) → "notebook.ipynb#label" of the cell that shows the table."""
    shown = {}
    for path in sorted(notebooks.glob("[0-9]*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            label, source = cell["metadata"].get("label", ""), "".join(cell["source"])
            if label.startswith("tab-"):
                for place in _tables_in(source):
                    shown.setdefault(place, f"{path.name}#{label}")
    return shown


def _tables_in(source: str) -> list[tuple[str, str]]:
    """The declared tables that a cell names in quotes."""
    quoted = set(re.findall(r'"([^"]+)"', source))
    sections = quoted & set(SECTIONS)
    return [(section, table) for section, named in SECTIONS.items() for table in named
            if table in quoted and (not sections or section in sections)]  # fmt: skip


def headline_table(found: list[Headline]) -> Table:
    """Each table's headline row: ours beside the report's, with links to notebook and records."""
    frame = pd.DataFrame([{"section": each.section, "table": each.table, "row": each.row, "accuracy": each.accuracy,
                           "reported": each.stated, "difference": each.difference, "n": len(each.found),
                           "budget": each.budget} for each in found])  # fmt: skip
    texts = pd.DataFrame({
        "table": tables.cells([_place(each) for each in found]),
        "row": frame["row"],
        "ours (%)": [tables.measured(each.found) for each in found],
        "paper (%)": [tables.measured(each.longer) for each in found],
        "report (%)": [tables.percent(each.stated) for each in found],
        "difference": [tables.signed(each.difference) for each in found],
        "n": frame["n"].astype(str),
        "budget": [each.budget if each.found else DASH for each in found],
        "record": tables.cells([tables.links(each.found) for each in found]),
    })  # fmt: skip
    caption = "Each table's headline row: ours (mean ± standard deviation over n seeds), the report's, their difference"
    caption = f"{caption} in points."
    if any(each.longer for each in found):
        caption += " In a column of its own, a longer run of a row where its table isn't complete at that length."
    else:
        texts = texts.drop(columns="paper (%)")
    return Table(frame, caption, texts, left=("row", "budget"))


def sparse_rows(store: Store) -> dict[str, list[Record]]:
    """The ways to sparse filters that are compared at one length, and DessiLBI in our sparsest and our best setting."""
    changes, others = (records.select(SECTIONS["3.1"][table], store)
                       for table in ("what each change brings", "other ways to sparse filters"))  # fmt: skip
    ours = (MEANT["3.1", table] for table in ("around 200 epochs", "what each change brings"))
    return {**others, **{f"DessiLBI, {label.removeprefix('+ ')}": changes[label] for label in ours}}


def sparse_table(store: Store) -> Table:
    """How much of LeNet's conv3 can go: the report, the authors' network, and ours."""
    stated = {"the report": REPORTED_PRUNED["conv3"], "the authors' network": AUTHORS_PRUNED}
    return filters.sizes_kept(sparse_rows(store), store, stated=stated, eliminated=(0.9,))


def _place(each: Headline) -> Links | str:
    name = title(each.section, each.table)
    return Links(((name, each.home),), name) if each.home else name


def extremes(found: list[Headline]) -> list[Headline]:
    """The headline rows nearest to the report and farthest from it; none if no row has both scores."""
    known = sorted((each for each in found if each.difference is not None), key=lambda each: abs(each.difference))
    return [known[0], known[-1]] if known else []


def all_rows(selected: Mapping[tuple[str, str], Selection]) -> pd.DataFrame:
    """Every row that both we and the report have, each run once: section, table, row, accuracy, reported (0 to 1).

    In the largest budget that has the row. `shorter`: whether ours has fewer epochs; `difference`: ours less the
    report's, in points.
    """
    seen = {}
    for (section, table), selection in selected.items():
        for label in selection:
            found = selection.longest(label)
            ours, stated = records.mean(records.accuracies(found)), reported(section, table, label).accuracy
            if ours is not None and stated is not None:
                shorter = found[0].run.epochs < SECTIONS[section][table][label].epochs
                entry = {"section": section, "table": table, "row": label, "accuracy": ours, "reported": stated,
                         "shorter": shorter}  # fmt: skip
                seen.setdefault((found[0].run, stated), entry)
    columns = ["section", "table", "row", "accuracy", "reported", "shorter"]
    frame = pd.DataFrame(list(seen.values()), columns=columns)
    return frame.assign(difference=100 * (frame["accuracy"] - frame["reported"]))


def median_differences(rows: pd.DataFrame) -> str:
    """Ours less the report's by section, in words: the median of its rows, from `all_rows`."""
    groups = rows.groupby("section", sort=False)["difference"]
    words = [f"section {section} {tables.signed(each.median())} (of {len(each)})" for section, each in groups]
    return "; ".join(words) or "no row yet"


# ------------------------------------------------------------------------------------------ how complete it is


def progress(store: Store | None = None) -> pd.DataFrame:
    """For each section and budget: rows and distinct runs done and declared, hours recorded and, as an estimate, left.

    Recorded hours are those of the core or the GPU that made a record; what is left is estimated for one core by
    experiments.estimated_seconds.
    """
    known = (store or Store()).scan()[0]
    return pd.DataFrame([_progress(section, budget, known)
                         for section in SECTIONS for budget in experiments.BUDGETS[1:]])  # fmt: skip


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


def progress_table(frame: pd.DataFrame) -> Table:
    """`progress` to look at, with the command that makes what is left."""
    texts = pd.DataFrame({
        "section": frame["section"],
        "budget": frame["budget"],
        "rows": [f"{row['rows done']} of {row['rows']}" for _, row in frame.iterrows()],
        "runs": [f"{row['runs done']} of {row['runs']}" for _, row in frame.iterrows()],
        "hours recorded": frame["hours"].map("{:.1f}".format),
        "hours left (estimate)": frame["hours left"].map("{:.1f}".format),
        "command": [f"python -m helpers run --section {row.section} --budget {row.budget}" for row in
                    frame.itertuples()],
    })  # fmt: skip
    caption = (
        "How complete each budget is: rows and distinct runs with a record, hours they took, hours left on one core"
    )
    return Table(frame, f"{caption}, the command for the rest.", texts, left=("budget", "command"))


# ------------------------------------------------------------------------------------------ the README


def blocks(store: Store | None = None) -> dict[str, str]:
    """What the README shows from records, as Markdown, by the name of its markers."""
    store = store or Store()
    return {
        "results": _results(headlines(selections(store))),
        "sparse": sparse_table(store).grid(_in_readme),
        "claims": claims.verdicts(claims.judge(store)).grid(),
        "budgets": progress_table(progress(store)).grid(),
    }


def _in_readme(cell: str | Links) -> str:
    return cell.markdown("notebooks") if isinstance(cell, Links) else cell


def _results(found: list[Headline]) -> str:
    measured = [each for each in found if each.found]
    pending = [title(each.section, each.table) for each in found if not each.found]
    waiting = f"No record yet of the headline row of: {', '.join(pending)}." if pending else ""
    return "\n\n".join(filter(None, (headline_table(measured).grid(_in_readme) if measured else "", waiting)))


def filled(text: str, content: Mapping[str, str]) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced; RecordError if none."""
    for name, block in content.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise RecordError(f"no markers <!-- {name} --> … <!-- /{name} -->: put them where the table is to stand")
        text = pattern.sub(lambda match, block=block: match[1] + block + match[2], text)
    return text


def rewrite(readme: Path = ROOT / "README.md", store: Store | None = None) -> bool:
    """Brings the tables of `readme` up to date; gives whether that changed it."""
    content = readme.read_bytes().decode()
    before = content.replace("\r\n", "\n")
    after = filled(before, blocks(store))
    if after != before:
        records.put(readme, after.replace("\n", "\r\n" if "\r\n" in content else "\n").encode())
    return after != before
