"""How numbers are written in sentences and tables, what stands for one that is not there yet, and how a sentence is
said. Nothing is read or computed here."""

import inspect
import math
import re
from collections.abc import Iterable

DASH = "–"
PLAIN, NORMED = "VGG-A", "VGG-A + BN"  # the two networks, by the names that tables and figures give them


class _Missing:
    """What has no record yet. It is written "–", and all that is asked of it, or computed with it, is itself.

    So no notebook and no view needs a branch for it; the caption of the table says what to run. It hides no typing
    error for long: notebooks are compared cell by cell with what they show from full records.
    """

    def __getattr__(self, name: str):
        if name.startswith("_"):  # what Python and Jupyter ask of every object
            raise AttributeError(name)
        return self

    def __format__(self, spec: str) -> str:
        return DASH

    def __repr__(self) -> str:
        return DASH

    def __iter__(self):
        return iter(())

    def __len__(self) -> int:
        return 0

    def __float__(self) -> float:
        return math.nan

    def __array__(self, dtype=None, copy=None):
        import numpy as np

        return np.empty(0, dtype)


_ARITHMETIC = "add sub mul truediv floordiv mod pow".split()
for _name in ("call", "getitem", "neg", "pos", "abs", "round", *_ARITHMETIC, *(f"r{each}" for each in _ARITHMETIC)):
    setattr(_Missing, f"__{_name}__", lambda self, *others, **named: self)
for _name in ("divmod", "rdivmod"):
    setattr(_Missing, f"__{_name}__", lambda self, other: (self, self))
for _name in ("lt", "le", "gt", "ge"):
    setattr(_Missing, f"__{_name}__", lambda self, other: False)

MISSING = _Missing()


def missing(value) -> bool:
    """Whether there is no number: None, NaN or `MISSING`."""
    return value is None or value is MISSING or (isinstance(value, float) and math.isnan(value))


# ------------------------------------------------------------------------------------------ numbers


def text(value) -> str:
    """A cell of a table: four digits of a float, a dash for none."""
    return DASH if missing(value) else f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(accuracy: float | None) -> str:
    """An accuracy (0 to 1) in percent, with two decimals; a dash for none."""
    return DASH if missing(accuracy) else f"{100 * accuracy:.2f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign; a dash for none."""
    return DASH if missing(value) else f"{value:+.{digits}f}".replace("-", "−")


def share(facts) -> str:
    """How many of some facts are true, in percent: "62 %"; a dash where there are none."""
    return f"{100 * sum(facts) / len(facts):.0f} %" if len(facts) else DASH


class Points(float):
    """A difference in points, written with its sign: "+1.20"."""

    def __format__(self, spec: str) -> str:
        return f"{float(self):{spec or '+.2f'}}".replace("-", "−")


class Percent(float):
    """An accuracy (0 to 1), written in percent: "71.60"."""

    def __format__(self, spec: str) -> str:
        return f"{100 * self:{spec or '.2f'}}"


# ------------------------------------------------------------------------------------------ words

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
MARKS = re.compile(r"[\\`*_<>&$~|]|(?<=-)-|-(?=-)|(?<=\])\(")  # a bracket alone is no link


def plain_words(text: str) -> str:
    """One line of Markdown that shows just what `text` says: a record's may hold a link, HTML or a formula."""
    return MARKS.sub(r"\\\g<0>", CONTROL.sub(" ", text))


def listed(words: Iterable[str], last: str = "and") -> str:
    """Words in a row as a sentence has them: "a", "a and b", "a, b and c"; a dash for none."""
    *first, end = [*words] or [DASH]
    return f"{', '.join(first)} {last} {end}" if first else end


def counted(number: int, noun: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def say(words: str) -> None:
    """Shows `words`, which are Markdown, below the cell: prose that cites numbers is an f-string with short names."""
    from IPython.display import Markdown, display

    display(Markdown(inspect.cleandoc(words)))


def source(*things) -> None:
    """Shows the source of classes or functions, as they stand in their modules."""
    say("\n\n".join(f"```python\n{inspect.getsource(each).rstrip()}\n```" for each in things))
