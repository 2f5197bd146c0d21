"""The READMEs: tables up to date with the records, code that runs, links that lead somewhere, every module named."""

import errno
import os
import re

import pytest
import torch

from helpers import experiments
from helpers.publish import readme
from helpers.records import ROOT, RecordError, Store
from helpers.show import Report
from tests import made

README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"


def test_its_tables_are_up_to_date():
    text = README.read_text(encoding="utf-8")
    fresh = readme.filled(text, readme.blocks(Store(ROOT / "results")))
    assert text == fresh, "run `python -m helpers readme`"


def code(after):
    """The first Python block after a heading."""
    return README.read_text(encoding="utf-8").split(f"## {after}")[1].split("```python\n")[1].split("```")[0]


def test_dessilbi_in_six_lines():
    lines = code("DessiLBI in your own code")
    assert len([line for line in lines.splitlines() if line]) == 6
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


@pytest.mark.parametrize("path", [README, CHINESE], ids=lambda path: path.name)
def test_its_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    here = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    assert len(here) > 5 and not [target for target in here if not (ROOT / target).is_file()]


def test_it_names_every_folder_and_topic_of_helpers():
    layout = README.read_text(encoding="utf-8").split("## Layout")[1].split("\n## ")[0]
    there = {path.name + "/" * path.is_dir() for path in (ROOT / "helpers").iterdir() if path.name[:2] != "__"}
    named = re.findall(r"^\| `([\w./]+)`", layout, re.MULTILINE)
    assert set(named) == there | {"__main__.py"} and len(named) <= 20


def test_it_names_every_notebook_and_shows_four_figures():
    text = README.read_text(encoding="utf-8")
    assert all(f"notebooks/{path.name}" in text for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert len(set(re.findall(r"!\[[^\]]+\]\((figures/[^)]+)\)", text))) >= 4


@pytest.mark.parametrize("path", [README, CHINESE], ids=lambda path: path.name)
def test_no_score_is_typed(path):
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r"(?<![\w.])0?\.\d{3,}\b|\d\d\.\d+ ?%", text)


MARKERS = ("results", "sparse", "claims", "budgets")


def test_a_readme_without_markers_is_refused():
    with pytest.raises(RecordError, match="<!-- results -->"):
        readme.filled("no markers", {"results": "x"})


def test_rewriting_fills_the_markers_and_nothing_else(tmp_path, store):
    path = tmp_path / "README.md"
    names = MARKERS
    path.write_text("a\n" + "b\n".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in names) + "c")
    assert readme.rewrite(path, store) and not readme.rewrite(path, store)
    text = path.read_text()
    assert "old" not in text and "<!-- /results -->\nb\n<!-- sparse -->\n|  | dense |" in text
    assert text.startswith("a\n<!-- results -->\nNo record yet") and text.endswith("|\n<!-- /budgets -->\nc")


def test_rewriting_keeps_the_kind_of_line_ends(tmp_path, store):
    path = tmp_path / "README.md"
    names = MARKERS
    path.write_bytes(b"a\r\n" + b"".join(f"<!-- {name} -->\r\nold\r\n<!-- /{name} -->\r\n".encode() for name in names))
    assert readme.rewrite(path, store) and not readme.rewrite(path, store)
    assert path.read_bytes().count(b"\r\n") == path.read_bytes().count(b"\n") > 10


def test_a_readme_that_cannot_be_written_is_left_as_it_was(tmp_path, store, monkeypatch):
    path = tmp_path / "README.md"
    text = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in MARKERS)
    path.write_text(text)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        readme.rewrite(path, store)
    assert path.read_text() == text and [*tmp_path.iterdir()] == [path]


def test_it_leaves_out_what_has_no_record_and_says_so():
    rows = experiments.SECTIONS["1"]["1.2 batch norm"]
    found = [made.record(run, accuracy) for run, accuracy in zip(rows.values(), (0.70, 0.75))]
    results = readme.results(Report(made.Kept(*found), "paper"))
    place = "notebooks/01_basic_network.ipynb#tab-1-2-batch-norm"
    assert f"| [1.2 batch norm]({place}) | with | 75.00 | 71.80 | +3.20 | 1 |" in results
    assert "No record yet of 28 headline rows." in results


def test_it_shows_the_sparse_networks_after_what_is_stated(tmp_path):
    head, _, stated, authors, *ours = readme.blocks(Store(tmp_path))["sparse"].splitlines()
    assert "90\N{NO-BREAK SPACE}% pruned" in head
    assert stated.startswith("| the report | 97.06 | 89.25 | – | – |") and "98.61 | 98.55 | 97.85 | 93.40" in authors
    assert len(ours) == 6 and [line.split(" | ")[0] for line in ours][-2:] == [
        "| DessiLBI, 200 epochs", "| DessiLBI, κ 60, ν 4, decay, pretrained",
    ]  # fmt: skip
