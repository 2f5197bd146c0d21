"""Tables to look at, in each of their forms."""

import pandas as pd
import pytest

from helpers import experiments
from helpers.publish import markup
from helpers.show.grid import SHOWN_DIGITS, Grid, Link
from helpers.show.text import plain_words

HOSTILE = [
    "<img src=http://127.0.0.1:9/y onerror=alert(1)>",
    "<!-- a --> &lt;b> </td>",
    "[x](javascript:alert(1))",
    "[x](../../../../etc/passwd)",
    "![x](../../../../etc/passwd)",
    "[x][y] <http://127.0.0.1:9/y>",
    '`#raw(read("/etc/passwd"))`{=typst}',
    r"$\href{javascript:alert(1)}{x}$ \<b> \\<b>",
    "**a** _b_ ~~c~~ a|b -- --- d",
]


def grid(**columns) -> Grid:
    return Grid(pd.DataFrame(columns), "x < y")


def test_markup_in_a_cell_stays_text():
    html = grid(a=["<b>|"])._repr_html_()
    assert "<b>" not in html and "x &lt; y" in html
    assert "\\|" in grid(a=["<b>|"])._repr_markdown_()


@pytest.mark.parametrize("text", HOSTILE)
def test_words_of_a_record_are_shown_as_they_are(text):
    shown = [token for block in markup.PARSER.parseInline(plain_words(text)) for token in block.children or ()]
    assert {token.type for token in shown} == {"text"}
    assert "".join(token.content for token in shown).translate({0x201C: '"', 0x201D: '"'}) == text


@pytest.mark.parametrize("text", [*HOSTILE, "a\n\n# b", "a\r<b>", "a\x1b[31m"])
def test_nothing_in_a_caption_or_cell_becomes_markup(text):
    tokens = markup.PARSER.parse(Grid(pd.DataFrame({"a": [text]}), f"x ({text}).")._repr_markdown_())
    inline = [each for token in tokens for each in token.children or ()]
    assert {token.type for token in inline} == {"text"} and sum(token.type == "td_open" for token in tokens) == 1
    assert not {"heading_open", "html_block"} & {token.type for token in tokens}
    assert sum(token.type == "paragraph_open" for token in tokens) == 1


def test_both_forms_hold_the_same_cells_and_caption():
    table = grid(a=["left"], b=[1.23456])
    assert all(each in table._repr_html_() for each in ("left", "1.235", "x &lt; y"))
    assert "| left | 1.235 |" in table._repr_markdown_() and table._repr_markdown_().endswith(": x \\< y")
    assert "1.235" in repr(table)


def test_seven_digits_tell_all_declared_runs_apart():
    runs = {
        run.digest for row in experiments.rows() for budget in experiments.BUDGETS
        for run in experiments.replicas(row.run, budget)
    }  # fmt: skip
    assert len({digest[:SHOWN_DIGITS] for digest in runs}) == len(runs)


def test_a_link_stays_out_of_print_and_is_escaped():
    table = Grid(pd.DataFrame({"a": [Link("<a>", 'x"y')]}), "c")
    assert '<a href="x&quot;y">&lt;a&gt;</a>' in table._repr_html_()
    assert "| \\<a\\> |" in table._repr_markdown_() and "x" not in table.grid()
    assert Link("b", "c.ipynb#d").markdown("notebooks") == "[b](notebooks/c.ipynb#d)"


def test_two_hyphens_stay_two_in_print_and_a_sentence_gets_room():
    table = grid(a=["run --row 0.3, which is one long command"])
    assert "run \\-\\-row" in table._repr_markdown_()
    assert '<td style="text-align: left" class="words">run --row' in table._repr_html_()
