"""`python -m benchmarks [--only NAME]`: measures everything, or the parts whose names contain NAME, and draws it.
Each part is kept as soon as it is measured, so that it can be interrupted; nothing in here is part of a test."""

import argparse
import os
import sys
import time

import torch
from tqdm import tqdm

from benchmarks import (
    batches,
    figure,
    kernels,
    memory,
    optimizer,
    page,
    profiles,
    pruned,
    records,
    results,
    rounding,
    table,
    training,
)
from benchmarks.measure import NotHere
from helpers.records import RecordError
from helpers.runner import provenance

MODULES = (optimizer, training, profiles, kernels, rounding, pruned, batches, records, table, memory)
PARTS = {name: part for module in MODULES for name, part in module.PARTS.items()}

INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512_f": "AVX-512", "avx2": "AVX2"}


def chosen(only: str | None) -> dict:
    """The parts whose names contain `only`, all of them without it. Raises ValueError if none does."""
    found = {name: part for name, part in PARTS.items() if only is None or only.lower() in name.lower()}
    if not found:
        raise ValueError(f"no part is called {only!r}: there are {', '.join(PARTS)}")
    return found


def instructions() -> str | None:
    """The processor's fastest instructions for matrices: processors of one name can differ in them."""
    has = torch.cpu.get_capabilities()
    return next((name for flag, name in INSTRUCTIONS.items() if has.get(flag)), None)


def measure(parts: dict, repeats: int, path) -> dict[str, str]:
    """Measures `parts`, with a bar, and writes after each; gives the reasons of those that could not be measured."""
    machine = {**provenance.machine(), "instructions": instructions()}
    if held_to := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        machine["held_to"] = held_to
    origin = {"machine": machine, "revision": provenance.revision(), "repeats": repeats}
    known, failed = results.read(path), {}
    with tqdm(parts.items(), desc="benchmarks", unit="part") as bar:
        for name, part in bar:
            bar.set_postfix_str(name)
            started = time.monotonic()
            try:
                measured = part(repeats)
            except NotHere as reason:
                bar.write(f"left out: {name}: {reason}", file=sys.stderr)
                continue
            except Exception as error:  # the other parts are worth having all the same
                failed[name] = (str(error).strip().splitlines() or [type(error).__name__])[0]
                continue
            part = {**measured, **origin, "took": time.monotonic() - started}
            known[name] = results.added(part, known.get(name))
            order = [each for each in (*PARTS, *known) if each in known]
            results.write({each: known[each] for each in dict.fromkeys(order)}, path)
    return failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help="measure only the parts whose names contain this")
    parser.add_argument("--repeats", type=int, default=7, help="how often each is timed; the fastest counts")
    options = parser.parse_args(arguments)
    try:
        if options.repeats < 1:
            raise ValueError(f"repeats {options.repeats} is not allowed: it must be at least 1")
        parts = chosen(options.only)
        try:
            failed = measure(parts, options.repeats, results.PATH)
        except KeyboardInterrupt:
            print("benchmarks: interrupted: what is measured is kept", file=sys.stderr)
            return 130
        finally:
            show(results.PATH)
    except (ValueError, OSError, RecordError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    for name, reason in failed.items():
        print(f"benchmarks: {name} could not be measured: {reason}", file=sys.stderr)
    print(f"{results.PATH}\n{figure.PATH}\n{page.PATH}")
    return 1 if failed else 0


def show(path) -> None:
    """Brings the figure and the page up to date, if there is anything to show."""
    parts = results.read(path)
    if parts:
        figure.draw(parts)
        page.rewrite(parts)


if __name__ == "__main__":
    sys.exit(main())
