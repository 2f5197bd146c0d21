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
        sentences = findings.findings(known, words)
        found[f"findings{name}"] = "\n".join(f"{n}. {each}" for n, each in enumerate(sentences, 1))
        found[f"claims{name}"] = findings.table(known, words).grid()
    return found | {"budgets": overview.progress_table(overview.progress(report)).grid()}


def filled(text: str, content: Mapping[str, str]) -> str:
    """`text` with what stands between `<!-- name -->` and `<!-- /name -->` replaced; RecordError if it has none."""

    def fresh(match: re.Match) -> str:
        return f"{match[1]}{content[match['name']]}\n{match[3]}"

    names = "|".join(map(re.escape, content))
    after, count = re.subn(rf"(<!-- (?P<name>{names}) -->\n).*?(<!-- /(?P=name) -->)", fresh, text, flags=re.DOTALL)
    if not count:
        raise RecordError(f"no markers, such as <!-- {next(iter(content))} --> … : put them where a table is to stand")
    return after


def rewrite(path: Path, content: Mapping[str, str]) -> bool:
    """Brings the file at `path` up to date, with its own kind of line ends; gives whether that changed it."""
    before = path.read_bytes().decode()
    plain = before.replace("\r\n", "\n")
    after = filled(plain, content)
    if after != plain:
        records.put(path, after.replace("\n", "\r\n" if "\r\n" in before else "\n").encode())
    return after != plain
