"""The README's tables, brought up to date with the records. It never changes anything but what stands between the
README's own markers."""

import re
from collections.abc import Mapping
from pathlib import Path

from helpers import records
from helpers.records import ROOT, RecordError, Store
from helpers.show import Report, claims, overview
from helpers.show.grid import Link
from helpers.show.text import counted, plain_words


def blocks(store: Store | None = None) -> dict[str, str]:
    """What the README shows from records, as Markdown, by the name of its markers."""
    report = Report(store, "paper")
    return {
        "results": results(report),
        "sparse": overview.sparse_table(report).grid(),
        "claims": claims.verdicts(claims.judge(report)).grid(),
        "budgets": overview.progress_table(overview.progress(report)).grid(),
    }


def results(report: Report) -> str:
    """The headline rows that have a record, and how many have none."""
    found = overview.headlines(report)
    measured = [(rows, row) for rows, row in found if row]
    waiting = f"No record yet of {counted(len(found) - len(measured), 'headline row')}."
    table = overview.headline_table(measured).grid(_cell) if measured else ""
    return "\n\n".join(filter(None, (table, "" if measured == found else waiting)))


def _cell(cell: str | Link) -> str:
    return cell.markdown("notebooks") if isinstance(cell, Link) else plain_words(cell)


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
