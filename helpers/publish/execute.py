"""Runs notebooks, each from a clean kernel of this interpreter, side by side. It must never change a notebook."""

import asyncio
import atexit
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.publish.chapters import ReportError, first_line, in_order, notebook


def execute(notebooks: Path, output: Path, jobs: int | None = None) -> list[Path]:
    """Runs each notebook of a folder from a clean kernel, `jobs` at a time; writes the executed copies to `output`.

    Cells run in the folder `notebooks`; without `jobs`, there are as many kernels as cores. Raises ReportError, naming
    notebook and cell, where one fails.
    """
    sources = [(path, notebook(path)) for path in in_order(notebooks)]
    output.mkdir(parents=True, exist_ok=True)
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(_execute(sources, output, jobs or os.cpu_count() or 1))


@contextlib.contextmanager
def a_home() -> Iterator[None]:
    """Jupyter and its kernels want a home for their files: a user without one gets a folder that goes away again."""
    if os.path.expanduser("~") != "~":
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            del os.environ["HOME"]


class _Loop(asyncio.SelectorEventLoop):
    """Leaves Ctrl-C to asyncio, which cancels what runs: nbclient would only end the kernel that it started last."""

    def add_signal_handler(self, *arguments) -> None:
        raise RuntimeError("signals are not handled here")  # what nbclient expects outside of the main thread


async def _execute(sources: list[tuple[Path, Any]], output: Path, jobs: int) -> list[Path]:
    import nbformat
    from tqdm import tqdm

    kernels, threads = asyncio.Semaphore(jobs), max(1, (os.cpu_count() or 1) // jobs)
    with tqdm(total=sum(len(each.cells) for _, each in sources), desc="notebooks", unit="cell") as bar:

        async def run(source: Path, notebook) -> Path:
            async with kernels:
                await _run(notebook, source, threads, bar)
            nbformat.write(notebook, output / source.name)
            return output / source.name

        try:
            async with asyncio.TaskGroup() as group:  # when one fails, or Ctrl-C comes, all kernels are ended first
                tasks = [group.create_task(run(*each)) for each in sources]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _run(notebook, source: Path, threads: int, bar) -> None:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal

    place = 0

    def count(cell, cell_index: int) -> None:
        nonlocal place
        place = cell_index + 1
        bar.update()

    client = NotebookClient(
        notebook,
        # Of this interpreter: in folders of kernels, "python3" may be another installation's.
        km=AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[])),
        timeout=None,
        resources={"metadata": {"path": source.parent}},
        extra_arguments=["--log-level=ERROR"],  # else the kernel's own warnings tear the progress bar
        shutdown_kernel="immediate",  # asked politely, a busy kernel answers with a traceback
        on_cell_start=count,
    )
    try:
        # More threads than cores wait for each other, and spin while they do.
        await client.async_execute(cleanup_kc=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    except (CellControlSignal, RuntimeError) as error:  # of a cell; of a kernel that died, or did not start
        if asyncio.current_task().cancelling():  # nbclient takes it for the death of the kernel
            raise asyncio.CancelledError from None
        where = f"{source.name}, cell {place}" if place else source.name
        reason = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else str(error)
        raise ReportError(f"{where}: {first_line(reason.strip().splitlines()[-1])}") from None
    finally:
        atexit.unregister(client._cleanup_kernel)  # which would ask, at the end, for a kernel that did not start
