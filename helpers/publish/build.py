"""Publish: turns the notebooks into a site that needs no network (`html/`), a printable `report.pdf` and the figures.
It must never change a notebook, send a request, or replace a good report by one that failed halfway."""

import tempfile
from base64 import b64decode
from pathlib import Path

from helpers.publish.chapters import execute, in_order, notebook
from helpers.publish.paper import pdf
from helpers.publish.site import html
from helpers.records import put

# -------------------------------------------------------------------------------- pictures


def pictures(notebooks: list[Path], output: Path) -> list[Path]:
    """Writes each labelled figure of executed notebooks to `output`, as SVG and PNG: `01-best-curves.svg`.

    What a notebook trains as one looks on differs from time to time (tag nbval-ignore-output), and is left out.
    """
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for path in notebooks:
        for cell in notebook(path).cells:
            if cell.metadata.get("label", "").startswith("fig-") and "nbval-ignore-output" not in _tags(cell):
                stem = f"{path.stem.split('_')[0]}-{cell.metadata['label'].removeprefix('fig-')}"
                written += [_picture(data, output / stem) for data in _images(cell)]
    return [path for pair in written for path in pair]


def _tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def _images(cell) -> list[dict]:
    return [output.data for output in cell.outputs if "image/png" in output.get("data", {})][:1]


def _picture(data: dict, stem: Path) -> list[Path]:
    png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    put(png, b64decode(data["image/png"]))
    if "image/svg+xml" not in data:
        return [png]
    put(svg, "".join(data["image/svg+xml"]).encode())
    return [png, svg]


# -------------------------------------------------------------------------------- all of it


def build(
    notebooks: Path = Path("notebooks"),
    output: Path = Path("report"),
    run: bool = True,
    figures: Path | None = None,
) -> tuple[Path, Path]:
    """Makes the whole report, from notebooks executed anew if `run`; gives the paths of its site and its PDF.

    The figures go to the folder `figures` too, if one is named. All is made beside `output` first, then
    moved there: after an error the last good report is still whole.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".report-") as temporary:
        folder = Path(temporary)
        executed = execute(notebooks, folder / "notebooks") if run else in_order(notebooks)
        pdf(executed, folder, sources=notebooks)
        html(executed, folder, sources=notebooks)
        if figures:
            pictures(executed, figures)
        _replace(folder, output)
    return output / "html" / "index.html", output / "report.pdf"


def _replace(new: Path, output: Path) -> None:
    output.mkdir(exist_ok=True)
    if (output / "html").exists():
        (output / "html").rename(new / "replaced")
    (new / "html").rename(output / "html")
    (new / "report.pdf").replace(output / "report.pdf")
