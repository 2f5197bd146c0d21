"""The notebooks as committed: executed, short of cells, without paths of one machine, each figure named and read."""

import ast
import re

import nbformat
import pytest

from helpers.records import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_cell_has_been_executed_from_top_to_bottom(notebook):
    # nbval lets a cell without an execution count pass unchecked.
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))


def test_no_output_is_an_error_or_a_warning(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr" or "warning" not in output.text.lower()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_cell_is_what_a_student_would_write(path):
    for cell in code(nbformat.read(path, as_version=4)):
        lines = cell.source.splitlines()
        assert len(lines) <= 8 and max(map(len, lines)) <= 100, cell.source
        assert not list(clever(ast.parse(cell.source))), cell.source


def clever(tree):
    """Conditional expressions, and comprehensions inside strings: what a reader would stumble over."""
    for node in ast.walk(tree):
        if isinstance(node, ast.IfExp):
            yield node
        if isinstance(node, ast.JoinedStr):
            yield from (each for each in ast.walk(node) if isinstance(each, (ast.GeneratorExp, ast.ListComp)))


@pytest.mark.parametrize("source, found", [
    ("x = 1 if y else 2", 1), ("f'{1 if y else 2}'", 1), ("f'{[a for a in b]}'", 1), ("f'{sum(a for a in b)}'", 1),
    ("rows = [a for a in b]", 0), ("say(f'{gain} points')", 0),
])  # fmt: skip
def test_what_is_clever_is_found(source, found):
    assert len(list(clever(ast.parse(source)))) == found


def test_no_notebook_defines_what_another_could_need(notebook):
    assert not [cell.source for cell in code(notebook) if re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE)]


def test_no_cell_says_when_it_ran(notebook):
    # It would change with each execution, and be all that a diff shows.
    assert not [cell.metadata for cell in code(notebook) if "execution" in cell.metadata]


def test_nothing_names_a_place_of_one_machine(notebook):
    text = "\n".join(
        str(output.get("data", output.get("text", ""))) for cell in code(notebook) for output in cell.outputs
    )
    text += "\n".join(cell.source for cell in notebook.cells)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", text)


def test_a_figure_or_table_has_a_caption_a_label_and_a_reading_below(notebook):
    cells = notebook.cells
    for i, cell in enumerate(cells):
        kinds = {kind for output in cell.get("outputs", ()) for kind in output.get("data", {})}
        if "image/png" in kinds or "text/html" in kinds:
            assert cell.metadata.get("label"), cell.source
            assert "text/html" in kinds or cell.metadata.get("caption"), cell.source
            following = cells[i + 1 : i + 4]
            assert "nbval-ignore-output" in cell.metadata.get("tags", ()) or any(
                "text/markdown" in output.get("data", {}) and "text/html" not in output.get("data", {})
                for after in following for output in after.get("outputs", ())
            ), f"no reading below: {cell.source}"  # fmt: skip


def sections(notebook) -> list[list]:
    """The cells from each heading of the first or second level to the next."""
    found = [[]]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search("^##? ", cell.source, re.MULTILINE):
            found.append([])
        found[-1].append(cell)
    return found


def test_a_section_with_a_figure_leads_to_its_records_or_has_none(notebook):
    absent = ("no record yet", "not measured yet", "Not measured yet")
    for section in sections(notebook):
        kept = [cell for cell in section if "nbval-ignore-output" not in cell.metadata.get("tags", ())]
        outputs = [(cell, output) for cell in kept for output in cell.get("outputs", ())
                   if "networks." not in cell.source]  # fmt: skip
        drawn = [cell.source for cell, output in outputs if "image/png" in output.get("data", {})]
        words = "".join(output.get("data", {}).get(kind, "") for _, output in outputs
                        for kind in ("text/html", "text/markdown"))  # fmt: skip
        assert not drawn or any(each in words for each in ("../results/", "](#tab-", *absent)), drawn


def test_no_score_is_typed_into_the_prose(notebook):
    # Three or more decimals, or a percentage with two: that is a measurement, and belongs to a record.
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"(?<![\w.])0?\.\d{3,}\b|\d\d\.\d+ ?%", cell.source), cell.source
