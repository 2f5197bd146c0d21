"""What the README and the overview say came of it: words for the verdicts that the records give, in both languages."""

import re
from string import Formatter

import pytest

from helpers.records import ROOT, Store
from helpers.show import Report, findings


@pytest.fixture(scope="module")
def known():
    return findings.numbers(Report(Store(ROOT / "results"), "paper"))


def test_the_verdicts_are_those_that_the_words_were_written_for(known):
    found = {name: known["verdicts"][name] for name in findings.PRESUMED}
    assert found == findings.PRESUMED, "read the sentences of helpers/show/findings.py again, then set PRESUMED"


def names(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_cite_the_same_numbers():
    english, chinese = findings.ENGLISH, findings.CHINESE
    assert [*map(names, english["findings"])] == [*map(names, chinese["findings"])]
    assert [*english["lines"]] == [*chinese["lines"]]
    for name in english["lines"]:
        assert [*map(names, english["lines"][name])] == [*map(names, chinese["lines"][name])], name


@pytest.mark.parametrize("words", [findings.ENGLISH, findings.CHINESE], ids=["English", "Chinese"])
def test_no_number_is_typed_that_a_record_decides(words):
    texts = [*words["findings"], *(text for line in words["lines"].values() for text in line)]
    assert not [text for text in texts if re.search(r"\d\.\d", re.sub(r"\{[^}]*\}|^[123]\.\d|0\.3", "", text))]


def test_all_is_said_without_a_gap(known):
    for words in (findings.ENGLISH, findings.CHINESE):
        text = findings.findings(known, words) + findings.table(known, words).grid()
        assert (
            "{" not in text and "nan" not in text and text.count("–") == 2
        )  # no β in the report, no claim about a score


def test_verdicts_are_said_in_chinese(known):
    text = findings.table(known, findings.CHINESE).grid()
    assert "部分成立" in text and "holds" not in text and "open" not in text


def test_without_records_nothing_fails(tmp_path):
    known = findings.numbers(Report(Store(tmp_path), "paper"))
    assert findings.findings(known).count("\n") == 4 and "not measured yet" in findings.table(known).grid()
