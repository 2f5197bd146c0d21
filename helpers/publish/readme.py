"""Fills in what the README and its companions show of the records, between markers such as `<!-- findings -->`. It must
never change a word outside them."""

import re
from collections.abc import Mapping
from pathlib import Path

from helpers import records
from helpers.records import ROOT, RecordError, Store
from helpers.show import findings, overview
from helpers.show.comparison import Report

PAGES = (ROOT / "README.md", ROOT / "README.zh.md", ROOT / "docs" / "running.md")


def blocks(store: Store | None = None) -> dict[str, str]:
    """What can be shown, as Markdown, by the name of its markers."""
    report = Report(store, "paper")
    known, found = findings.numbers(report), {}
    for name, words in (("", findings.ENGLISH), ("-zh", findings.CHINESE)):
        found[f"findings{name}"] = findings.findings(known, words)
        found[f"claims{name}"] = findings.table(known, words).grid()
    return found | {"budgets": overview.progress_table(overview.progress(report)).grid()}


def filled(text: str, content: Mapping[str, str]) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced; RecordError if a name has none."""
    for name, block in content.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise RecordError(f"no markers <!-- {name} --> … <!-- /{name} -->: put them where the table is to stand")
        text = pattern.sub(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text)
    return text


def rewrite(path: Path, content: Mapping[str, str]) -> bool:
    """Brings what the file at `path` has markers for up to date, with its own kind of line ends; gives whether that
    changed it. Raises RecordError if it has none."""
    before = path.read_bytes().decode()
    plain = before.replace("\r\n", "\n")
    here = {name: block for name, block in content.items() if f"<!-- {name} -->" in plain}
    after = filled(plain, here or content)
    if after != plain:
        records.put(path, after.replace("\n", "\r\n" if "\r\n" in before else "\n").encode())
    return after != plain
