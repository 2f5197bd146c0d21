"""The command line: `python -m helpers COMMAND`. It only asks and answers; every error a user can make is one line."""

import codecs
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from helpers import experiments, records
from helpers.records import Store

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Results = Annotated[str | None, typer.Option(help="Folder of records and checkpoints, in place of results/.")]
Section = Annotated[str | None, typer.Option(help="One section: 1, 1.9, …")]
Table = Annotated[str | None, typer.Option(help='One table, by its name or a part of it: "dropout", "3.1 optimizer".')]
RowName = Annotated[str | None, typer.Option(help='One row, by its label or a part of it: "cross".')]
Budget = Annotated[str | None, typer.Option(help="smoke, laptop or paper; else REPORT_BUDGET, or paper.")]

LARGEST_README = 2**24
MOST_LINES = 10  # of one kind: ten thousand damaged files have one cause
MOST = 999  # processes or threads: more than a machine has cores, few enough to be started
PLACES = "figures/, or OUTPUT/figures for other notebooks or records"
# What an interruption leaves of a command that does not begin anew.
KEPT = {"run": ": what is finished is kept, and the same command goes on", "bench": ": what is measured is kept"}

STATUSES = {  # of errors by their class, which is not imported for it
    "Interrupted": 130, "UnknownName": 2, "ValueError": 2,
    "RecordError": 1, "DataError": 1, "ReportError": 1, "OutOfMemoryError": 1,
}  # fmt: skip


@app.command()
def data(name: Annotated[str | None, typer.Argument(help="cifar10 or mnist; without it, both.")] = None) -> None:
    """Fetch or verify the data sets, in DATA_DIR (default data/)."""
    from helpers import data

    names = list(data.CHECKSUMS) if name is None else [experiments.find("data set", name, data.CHECKSUMS)]
    for each in names:
        print(f"{each} is whole in {data.fetch(each)}")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects, for programs.")] = False,
    section: Section = None, table: Table = None, budget: Budget = None, results: Results = None,
) -> None:  # fmt: skip
    """Show which rows have a record, their accuracy, and the report's."""
    store = Store(results)
    rows, chosen = experiments.rows(section, table), (records.shown_budget(budget),)
    known, faults = scanned = store.scan()
    entries = records.status(store, chosen, rows, scanned)
    if as_json:
        encoding = codecs.lookup(sys.stdout.encoding or "ascii").name
        print(json.dumps(entries, ensure_ascii=encoding != "utf-8", indent=1))
    else:
        _print_status(entries)
    for line in (*_some([*faults.values()]), *_some(records.orphans(known, store))):
        print(line, file=sys.stderr)
    if results is not None and not store.folder.exists():
        raise typer.Exit(1)


def _some(lines: list[str]) -> list[str]:
    """`lines` about faults, made plain; of many the first ten and how many more there are."""
    more = [f"… and {len(lines) - MOST_LINES} more of these"] if len(lines) > MOST_LINES else []
    return [records.plain(line) for line in lines[:MOST_LINES]] + more


def _print_status(entries: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid("section", "table", "row", "budget", "state", "accuracy", "reported", "n", "seconds", box=None)
    for e in entries:
        accuracy = "–" if e["accuracy"] is None else f"{e['accuracy']:.4f}"
        spread = "" if e["std"] is None else f" ± {e['std']:.4f}"
        few = "" if e["learned"] == e["n"] else f" ({e['learned']} of {e['n']} learned)"
        stated = "–" if e["reported"] is None else f"{e['reported']:.4f}"
        took = "–" if e["seconds"] is None else f"{e['seconds']:.0f}"
        grid.add_row(e["section"], e["table"], e["row"], e["budget"], e["state"], accuracy + spread + few, stated,
                     f"{e['n']}/{e['seeds']}", took)  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False).print(grid)


@app.command()
def run(
    section: Section = None, table: Table = None, row: RowName = None, budget: Budget = None,
    workers: Annotated[int | None, typer.Option(min=1, max=MOST, help="Processes; else as many as fit.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=MOST, help="CPU threads of each; else its share.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, max=1e6, help="Stop, all saved, after so long.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="auto: by timing.")] = "auto",
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Processes on this machine, or Ray tasks.")] = "local",
    address: Annotated[str | None, typer.Option(help="With ray: its cluster; without it, one is started here.")] = None,
    results: Results = None,
) -> None:  # fmt: skip
    """Make the records that are missing; killed or stopped, the same command goes on."""
    if address is not None and engine != "ray":
        raise ValueError(f"address {address!r} belongs to --engine ray")
    rows, chosen = experiments.rows(section, table, row), (records.shown_budget(budget),)
    _check_device(device, here=engine == "local")
    store = Store(results).prepare()
    from helpers import runner

    runs = runner.pending(rows, chosen, store)
    if not runs:
        print(f"nothing to make: each of the {len(rows)} rows has its record", file=sys.stderr)
        return
    if engine == "local":
        workers, threads = runner.share(len(runs), device, workers, threads)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    settings = runner.Settings(device, threads or 1, precision, deadline, 0 if sys.stderr.isatty() else None)
    late = _make(runs, store, settings, engine, workers, address)
    if late:
        print(f"{late}: the {minutes:g} minutes are over; the same command goes on from here", file=sys.stderr)
    left = len(runner.pending(rows, chosen, store))
    told = f"{len(runs) - left} of {len(runs)} runs have their record now"
    if left and not late:
        print(f"{told}; another process is at the others: when it has ended, the same command goes on", file=sys.stderr)
        raise typer.Exit(1)
    print(told, file=sys.stderr)


def _make(runs, store: Store, settings, engine: str, workers: int | None, address: str | None) -> str:
    """Makes `runs`; gives what was stopped at the deadline, in words."""
    from helpers import runner
    from helpers.runner import cluster

    together = f"{workers} at a time" if workers else "as many at a time as Ray has room for"
    print(f"{experiments.outlook(runs)}, {together}, into {store.folder}", file=sys.stderr)
    try:
        if engine == "ray":
            cluster.run(runs, store, settings, address, workers)
        else:
            runner.work_together(runs, store, workers, settings)
    except runner.Interrupted as stopped:
        if settings.deadline is None or time.monotonic() < settings.deadline:
            raise
        return str(stopped)
    return ""


def _check_device(device: str, here: bool) -> None:
    """Raises ValueError for a device that can't be used, on this machine or, if not `here`, on any."""
    import torch

    try:
        if torch.device(device).type not in ("cpu", "cuda") or device.startswith("cpu:"):
            raise RuntimeError("use cpu, cuda or cuda:N")
        if here:
            torch.empty(0, device=device)
        elif ":" in device:
            raise RuntimeError("Ray gives each task its own, so say cuda")
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} can't be used here: {str(error).splitlines()[0]}") from None


@app.command()
def verify(section: Section = None, table: Table = None, results: Results = None) -> None:
    """Replay the first steps of each record and compare them with its fingerprint."""
    from tqdm import tqdm

    from helpers.runner import one

    store = Store(results)
    wanted = {run.name for row in experiments.rows(section, table) for budget in experiments.BUDGETS
              for run in experiments.replicas(row.run, budget)}  # fmt: skip
    known, faults = store.scan()
    bad = list(faults.values())
    chosen = [record for name, record in known.items() if name in wanted or (section is None and table is None)]
    for record in tqdm(chosen, desc="verify", unit="record", disable=None):
        if difference := one.verify(record, store):
            bad.append(f"{store.path(record.run)}: {difference}")
    _conclude(bad, f"{len(chosen)} records verified, {len(bad)} at fault")


@app.command()
def complete(results: Results = None) -> None:
    """Measure of kept weights what was not measured yet when their records were made."""
    from tqdm import tqdm

    from helpers.runner import one, provenance

    store = Store(results)
    if not store.folder.is_dir():
        raise records.RecordError(f"{store.folder} does not exist: name the folder of the records with --results")
    known, faults = store.prepare().scan()
    provenance.revision()  # of the code as it was imported
    count, bad = 0, list(faults.values())
    for record in tqdm(known.values(), desc="complete", unit="record", disable=None):
        if not faults.keys() & {store.folder / name for name in record.files}:
            try:
                count += one.complete(record, store) is not None
            except records.RecordError as error:  # of this record alone
                bad.append(str(error))
    _conclude(bad, f"{count} of {len(known)} records completed")


def _conclude(bad: list[str], summary: str) -> None:
    """Tells what is at fault, and the summary; exit status 1 if anything is."""
    print("\n".join([*_some(bad), summary]))
    if bad:
        raise typer.Exit(1)


@app.command()
def bench(
    only: Annotated[str | None, typer.Option(help="The parts whose names contain this; without it, all.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is timed; the fastest counts.")] = 7,
) -> None:
    """Measure speed and memory against what others write and the machine's limits (from a checkout)."""
    if not (records.ROOT / "benchmarks").is_dir():
        raise ValueError(f"no benchmarks/ in {records.ROOT}: run it in a checkout of the repository")
    command = [sys.executable, "-m", "benchmarks", "--repeats", str(repeats), *(["--only", only] if only else [])]
    raise typer.Exit(subprocess.run(command, cwd=records.ROOT).returncode)


@app.command()
def report(
    notebooks: Annotated[Path, typer.Option(help="Folder of the notebooks.")] = records.ROOT / "notebooks",
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = records.ROOT / "report",
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures.", show_default=PLACES)] = None,
) -> None:
    """Execute the notebooks from the records and write the HTML site, the PDF, the figures and the README's tables."""
    os.environ.setdefault("RECORDS_ONLY", "1")
    from helpers.publish import build
    from helpers.publish import readme as readme_page
    from helpers.publish.execute import a_home

    notebooks, output, figures = (path and path.expanduser() for path in (notebooks, output, figures))
    # Other notebooks, records or budgets must not replace the repository's figures and tables.
    own = notebooks.resolve() == records.ROOT / "notebooks" and Store().folder.resolve() == records.ROOT / "results"
    own = own and not os.environ.get("REPORT_BUDGET")
    with a_home():
        made = build.build(notebooks, output, figures=figures or (records.ROOT if own else output) / "figures")
    print(*made, sep="\n")
    if own:
        content = readme_page.blocks()
        for path in readme_page.PAGES:
            try:
                readme_page.rewrite(path, content)
            except OSError as error:  # a checkout that is read-only has a report elsewhere all the same
                print(f"{path} stays as it is: {error.strerror}", file=sys.stderr)


@app.command()
def readme(
    paths: Annotated[list[Path] | None, typer.Argument(help="Pages with markers, in place of the READMEs.")] = None,
) -> None:
    """Bring what the READMEs and docs show of the records up to date."""
    from helpers.publish import readme as readme_page

    content = readme_page.blocks()
    for path in map(Path.expanduser, paths or readme_page.PAGES):
        if path.exists() and not (path.is_file() and path.stat().st_size < LARGEST_README):
            raise records.RecordError(f"{path} is no regular file of text: name a README")
        try:
            changed = readme_page.rewrite(path, content)
        except UnicodeDecodeError as error:
            raise records.RecordError(f"{path} is no text in UTF-8 ({error.reason}): name a README") from None
        print(f"{path} is {'rewritten' if changed else 'up to date'}")


class _Closed(io.TextIOBase):
    """In place of a standard output that is closed: what would be lost is an error."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "the standard output is closed: give one, as in `> FILE`")


def _open_streams() -> None:
    """Lets all be written: what an encoding has no character for as its code, what nobody reads to nowhere."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened, which may be a record, would take what is printed
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _Closed() if sys.stdout is None else sys.stdout
    sys.stderr = open(os.devnull, "w") if sys.stderr is None else sys.stderr
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_output() -> None:
    """What can't be written any more is given up, so that Python doesn't try once more as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Runs the command line; gives its exit status. What a user can get wrong ends in one line."""
    _open_streams()
    for name in ("DATA_DIR", "RESULTS_DIR"):  # notebooks and Ray's workers run in folders of their own
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(os.environ[name]))
    try:
        status = app(standalone_mode=False) or 0
        sys.stdout.flush()
        return _fail("interrupted", status) if status == 130 else status  # typer's answer to Ctrl-C, without a word
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:  # as in `status | head`, which has seen enough
        _leave_output()
        return 1
    except Exception as error:
        code = _exit_status(error)
        if code is None:
            raise
        _leave_output()
        return _fail(_words(error), code)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    words = error.format_message() if hasattr(error, "format_message") else str(error)
    return words.replace("Value error, ", "")  # pydantic's, before the words themselves


def _exit_status(error: Exception) -> int | None:
    """The status of an error that a user can cause, each of which says in one line what to do; else None."""
    if hasattr(error, "format_message"):  # an option that the command line does not know, or a value it can't read
        return 2
    return STATUSES.get(type(error).__name__, 1 if isinstance(error, OSError) else None)


def _fail(message: str, code: int) -> int:
    if code == 130:
        message += KEPT.get("".join(sys.argv[1:2]), "")
    if message.strip():  # none where the help has been shown
        lines = map(records.plain, message.strip().splitlines())
        print("helpers: " + "\n".join(lines), file=sys.stderr)
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    sys.exit(main())
