"""The modules behind the notebooks: declare, run, record, view, publish (README, "Layout")."""

from pathlib import Path


def root(checkout: Path) -> Path:
    """The folder of `data/` and `results/`: the checkout, or the current folder where only a wheel is installed."""
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


ROOT = root(Path(__file__).resolve().parents[1])
