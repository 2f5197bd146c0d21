"""Tables of ours beside the report's, how numbers are written in them, and where they come from. Everything shown is
computed from the records it is given; nothing is trained or read here."""

import functools
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from helpers import experiments, records
from helpers.experiments import Run, reported
from helpers.records import Record, Selection
from helpers.show.grid import SHOWN_DIGITS, Links, address, cells, links, sources
from helpers.show.grid import Grid as Table
from helpers.show.text import DASH, listed, missing, percent, points, share, signed, text

__all__ = ["Links", "Table", "share", "sources", "text"]  # for the notebooks that still ask here


# ------------------------------------------------------------------------------------------ ours beside the report's


def distance(difference: float | None) -> str:
    """A difference in words, without its sign: "1.20 points"."""
    return points(difference).lstrip("+−")


def measured(found: list[Record]) -> str:
    """One row's accuracy in percent: mean ± std over seeds where n > 1, or that it diverged."""
    scores = records.accuracies(found)
    if not scores:
        return f"diverged at step {found[0].diverged_at:,}" if found else DASH
    spread, dead = records.std(scores), len(found) - len(records.alive(found))
    words = percent(records.mean(scores)) + ("" if spread is None else f" ± {100 * spread:.2f}")
    return words + (f" ({dead} of {len(found)} learned nothing)" if dead else "")


def compare(section: str, table: str, selection: Selection, timed: bool = True) -> Table:
    """One table of the report: our accuracy, the report's, the difference in points, n, seconds an epoch, the record.

    Seconds are the fastest epoch's, since a busy machine makes others slower, and of one machine, in whatever budget;
    `timed`: whether to show them. What exists in a larger budget, but not for every row, stands in a column of its own.
    """
    seconds, where = records.times({label: records.timed(selection, label) for label in selection})
    runs = experiments.SECTIONS[section][table]
    entries = [{**_entry(label, runs[label], found, reported(section, table, label)), "seconds": seconds[label]}
               for label, found in selection.items()]  # fmt: skip
    frame = pd.DataFrame(entries)
    texts = pd.DataFrame({
        "": frame["row"],
        "ours (%)": [measured(found) for found in selection.values()],
        **{f"{budget} (%)": [measured(larger[label]) for label in selection]
           for budget, larger in selection.larger.items()},
        "report (%)": frame["reported"].map(percent),
        "difference (points)": frame["difference"].map(signed),
        "n": frame["n"].astype(str),
        "s/epoch": frame["seconds"].map(_rounded),
        # Whole seconds would hide what the report compares: 9.7 and 9.9.
        "report's s/epoch": frame["reported_seconds"].map(functools.partial(_rounded, digits=1)),
        "record": cells([links(found) for found in selection.values()]),
    })  # fmt: skip
    # What the report says nothing of, for no row, needs no column.
    if frame["reported"].isna().all():
        texts = texts.drop(columns=["report (%)", "difference (points)"])
    if frame["reported_seconds"].isna().all() or not timed:
        texts = texts.drop(columns="report's s/epoch")
    if not timed:
        texts = texts.drop(columns="s/epoch")
    place = f" Seconds: {where}." if where and timed else ""
    return Table(frame, f"{_title(table)}. {provenance(selection)}{place}", texts)


def _entry(label: str, run: Run, found: list[Record], stated) -> dict:
    ours = records.mean(records.accuracies(found))
    return {
        "row": label,
        "accuracy": ours,
        "std": records.std(records.accuracies(found)),
        "reported": stated.accuracy,
        "difference": None if ours is None or stated.accuracy is None else 100 * (ours - stated.accuracy),
        "n": len(found),
        "reported_seconds": None if stated.seconds is None else stated.seconds / run.epochs,
        "record": found[0].run.name if found else DASH,
    }


def _rounded(value, digits: int = 0) -> str:
    return DASH if missing(value) else f"{value:,.{digits}f}"


def _title(table: str) -> str:
    """The table's name without its number, as the head of a caption."""
    words = table.split(" ", 1)[1] if table[0].isdigit() else table
    return words[0].upper() + words[1:]


def provenance(selection: Selection) -> str:
    """Where a table's numbers come from, in one sentence: budget, epochs, revision, and what is missing."""
    length = "".join(f", {part}" for part in _made([each for found in selection.values() for each in found]))
    without = [label for label in selection.missing if not selection[label]]
    missing = f"; no record yet of {len(without)} of {len(selection)} rows" if without else ""
    fewer = len(selection.missing) - len(without)
    missing += f"; fewer seeds so far than declared in {fewer} of {len(selection)} rows" if fewer else ""
    larger = "".join(
        f"; {budget}: {sum(map(bool, rows.values()))} of {len(rows)} rows" for budget, rows in selection.larger.items()
    )
    return f"Budget {selection.budget}{length}{missing}{larger}."


# ------------------------------------------------------------------------------------------ where numbers come from


def origin(*sources: Mapping[str, Sequence[Record]] | Sequence[Record]) -> str:
    """Where a figure's numbers come from, in Markdown: a link to each record, budget, epochs, revision and n.

    `sources`: rows, or the records of one. n is the number of seeds a row, fewest and most.
    """
    rows = [found for each in sources for found in (each.values() if isinstance(each, Mapping) else [each]) if found]
    known = {record.run: record for found in rows for record in found}
    if not known:
        return "*Source: no record yet.*"
    seeds = sorted({len(found) for found in rows})
    n = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    budgets = dict.fromkeys(_budget(record.run) for record in known.values())
    facts = ", ".join([f"budget {listed(budgets)}", *_made(known.values()), f"n = {n}"])
    links = ", ".join(f"[{run.digest[:SHOWN_DIGITS]}]({address(record)})" for run, record in known.items())
    return f"*Source: {links}; {facts}.*"


def _made(found: Iterable[Record]) -> list[str]:
    """The epochs of some records, and the precision and the revisions that made them, in words."""
    epochs = sorted({record.run.epochs for record in found})
    precisions = sorted({record.engine["precision"] for record in found if record.engine})
    made_by = {each for record in found for each in record.revision.split(", ") if each}
    revisions = sorted({each[:SHOWN_DIGITS] + "+" * each.endswith("+") for each in made_by})  # +: changed since
    return [*([f"{listed(map(str, epochs), 'or')} epochs"] if epochs else []),
            *([listed(precisions)] if precisions else []),
            *([f"revision{'s' * (len(revisions) > 1)} {listed(revisions)}"] if revisions else [])]  # fmt: skip


def _budget(run: Run) -> str:
    """The largest budget that `run` is declared in."""
    return next((budget for budget in reversed(experiments.BUDGETS) if run in _declared(budget)), DASH)


@functools.cache
def _declared(budget: str) -> frozenset[Run]:
    return frozenset(each for row in experiments.rows() for each in experiments.replicas(row.run, budget))
