"""The READMEs and docs: up to date with the records, code that runs, links that lead somewhere, every module named."""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from helpers import experiments
from helpers.publish import readme
from helpers.records import ROOT, RecordError, Store

README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
PAGES = [README, CHINESE, *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def content():
    return readme.blocks(Store(ROOT / "results"))


def copied(path, folder):
    return Path(shutil.copy(path, folder))


@pytest.mark.parametrize("path", readme.PAGES, ids=lambda path: path.name)
def test_what_they_show_is_up_to_date(path, content, tmp_path):
    assert not readme.rewrite(copied(path, tmp_path), content), "run `python -m helpers readme`"


def test_the_readme_can_be_read_in_two_minutes():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150 and sum(line.startswith("| ") for line in lines) <= 25


def headings(path):
    return re.findall(r"^#+ ", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_chinese_readme_is_as_complete():
    assert headings(CHINESE) == headings(README)
    for mark in (r"^\| ", r"^\d\. ", r"^```sh", r"\]\(notebooks/"):
        assert len(re.findall(mark, CHINESE.read_text(encoding="utf-8"), re.MULTILINE)) == len(
            re.findall(mark, README.read_text(encoding="utf-8"), re.MULTILINE)
        ), mark


def code(after):
    """The first Python block after a heading."""
    return README.read_text(encoding="utf-8").split(f"## {after}")[1].split("```python\n")[1].split("```")[0]


def test_dessilbi_in_a_few_lines():
    lines = code("DessiLBI in your own code")
    assert len([line for line in lines.splitlines() if line]) <= 8
    model = torch.nn.Sequential()
    model.conv = torch.nn.Conv2d(1, 8, 5)
    model.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8 * 4 * 4, 10))
    before = model.conv.weight.clone()
    batch = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    names = {"model": model, "loader": [batch] * 3, "loss": torch.nn.functional.cross_entropy}
    exec(lines, names)
    assert names["needed"].shape == (8,) and names["needed"].dtype == torch.bool
    assert not torch.equal(before, model.conv.weight)


def test_a_row_is_added_in_one_line():
    line = code("Adding a row")
    table = eval("{" + line + "}", {"replace": experiments.replace, "base": experiments.base})
    assert [run.options for run in table.values()] == [{"dropout": 0.2}]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_its_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    here = [target.partition("#")[0] or path.name for target in targets if not re.match(r"[a-z]+:", target)]
    assert not [target for target in here if not (path.parent / target).is_file()]


def test_the_layout_names_every_folder_and_topic_of_helpers():
    layout = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    there = {path.name + "/" * path.is_dir() for path in (ROOT / "helpers").iterdir() if path.name[:2] != "__"}
    named = re.findall(r"^\| `([\w./]+)`", layout.split("| beside it")[0], re.MULTILINE)
    assert set(named) == there | {"__main__.py"} and len(named) <= 20


@pytest.mark.parametrize("path", [README, CHINESE], ids=lambda path: path.name)
def test_it_names_every_notebook_and_shows_a_figure(path):
    text = path.read_text(encoding="utf-8")
    assert all(f"notebooks/{each.name}" in text for each in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert re.search(r"!\[[^\]]+\]\(figures/[^)]+\)", text)


@pytest.mark.parametrize("path", [README, CHINESE], ids=lambda path: path.name)
def test_no_score_is_typed(path):
    text = re.sub(r"<!-- ([\w-]+) -->.*?<!-- /\1 -->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r"(?<![\w.])0?\.\d{3,}\b|\d\d\.\d+ ?%", text)


CONTENT = {"findings": "1. One.", "claims": "| a |\n| :--- |"}


def test_a_page_without_markers_is_refused(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("none")
    with pytest.raises(RecordError, match="<!-- findings -->"):
        readme.rewrite(path, CONTENT)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rewriting_fills_the_markers_and_nothing_else(tmp_path, end):
    path = tmp_path / "README.md"
    lines = ["a", "<!-- findings -->", "<!-- /findings -->", "b", "<!-- claims -->", "old", "<!-- /claims -->", "c"]
    path.write_bytes(end.join(lines).encode())
    assert readme.rewrite(path, CONTENT) and not readme.rewrite(path, CONTENT)
    after = ["a", "<!-- findings -->", "1. One.", "<!-- /findings -->", "b", "<!-- claims -->", "| a |", "| :--- |"]
    assert path.read_bytes().decode().split(end) == [*after, "<!-- /claims -->", "c"]


def test_a_page_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "README.md"
    text = "<!-- findings -->\nold\n<!-- /findings -->\n"
    path.write_text(text)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        readme.rewrite(path, CONTENT)
    assert path.read_text() == text and [*tmp_path.iterdir()] == [path]
