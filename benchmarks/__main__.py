"""`python -m benchmarks [--only NAME]`: measures everything, or the parts whose names contain NAME, and draws it.
Each part is kept as soon as it is measured, so that it can be interrupted; nothing in here is part of a test."""

import argparse
import sys

from tqdm import tqdm

from benchmarks import batches, figure, memory, optimizer, records, results, table, training
from helpers import data, runner

PARTS = {name: part for module in (optimizer, training, batches, records, table, memory)
         for name, part in module.PARTS.items()}  # fmt: skip


def chosen(only: str | None) -> dict:
    """The parts whose names contain `only`, all of them without it. Raises ValueError if none does."""
    found = {name: part for name, part in PARTS.items() if only is None or only.lower() in name.lower()}
    if not found:
        raise ValueError(f"no part is called {only!r}: there are {', '.join(PARTS)}")
    return found


def measure(parts: dict, repeats: int, path) -> None:
    """Measures `parts`, with a bar, and writes after each."""
    provenance = {"machine": runner.machine(), "revision": runner.revision(), "repeats": repeats}
    known = results.read(path)
    with tqdm(parts.items(), desc="benchmarks", unit="part") as bar:
        for name, part in bar:
            bar.set_postfix_str(name)
            known[name] = {**part(repeats), **provenance}
            order = [each for each in (*PARTS, *known) if each in known]
            results.write({each: known[each] for each in dict.fromkeys(order)}, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help="measure only the parts whose names contain this")
    parser.add_argument("--repeats", type=int, default=7, help="how often each is timed; the fastest counts")
    options = parser.parse_args(arguments)
    try:
        if options.repeats < 1:
            raise ValueError(f"repeats {options.repeats} is not allowed: it must be at least 1")
        measure(chosen(options.only), options.repeats, results.PATH)
    except (ValueError, data.DataError, records.Failed) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted: what is measured is kept", file=sys.stderr)
        return 130
    finally:
        figure.draw(results.read(results.PATH))
    print(f"{results.PATH}\n{figure.PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
