"""Where training and validation end, on records made up here."""

from helpers import experiments
from helpers.records import Store
from helpers.show import ends
from helpers.show.comparison import Comparison
from tests import made

NORM = experiments.SECTIONS["1"]["1.2 batch norm"]


def test_each_row_that_learned_has_its_ends_and_its_epochs():
    # Training ends at 60 %, after 40; validation begins at 30 %.
    found = made.comparison(NORM, {"without": (0.5, 0.7), "with": (0.1,)})
    shown = ends.table(found)
    assert len(shown.frame) == 1 and "| without | 60.00 | 60.00 | +0.00 | 1 of 4 |" in shown.grid()


def test_a_run_that_failed_is_left_out_of_a_row_that_learned():
    assert ends.above(made.comparison(NORM, {"with": (0.7, 0.1)})["with"]) == [False, True]


def test_without_records_it_has_dashes(tmp_path):
    shown = ends.table(Comparison(NORM, Store(tmp_path), "paper"))
    assert shown.grid().count("| – | – | – | – |") == 2
