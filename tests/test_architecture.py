"""Tests of the layers: imports go downwards only, reading records needs no torch, importing does nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(".".join(path.relative_to(ROOT / "helpers").with_suffix("").parts)
                 for path in (ROOT / "helpers").rglob("*.py") if path.stem != "__init__")  # fmt: skip
WITHOUT_TORCH = [name for name in MODULES
                 if name.split(".")[0] in ("experiments", "records", "show") and name != "show.networks"]  # fmt: skip


def python(*arguments: str, **given) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-B", *arguments], capture_output=True, text=True, env=environment, **given)


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter on the `helpers` of `folder`, by the contracts of its pyproject.toml."""
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-B", "-c", command], cwd=folder, capture_output=True, text=True, env=environment
    )


def test_imports_keep_the_contracts():
    checked = lint(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def copy(tmp_path) -> Path:
    """A package of the same modules, each of them empty, under the same contracts."""
    for path in (ROOT / "helpers").rglob("*.py"):
        empty = tmp_path / path.relative_to(ROOT)
        empty.parent.mkdir(parents=True, exist_ok=True)
        empty.touch()
    kept = (ROOT / "pyproject.toml").read_text().replace('"helpers.show.networks -> torch"', "")
    (tmp_path / "pyproject.toml").write_text(kept)
    return tmp_path


def test_modules_that_import_nothing_keep_the_contracts(copy):
    assert lint(copy).returncode == 0


@pytest.mark.parametrize("name, source, named", [
    ("data", "from helpers import training", "helpers.data -> helpers.training"),
    ("models", "def f():\n    from helpers import experiments", "helpers.models -> helpers.experiments"),
    ("models", "from helpers import data", "helpers.models -> helpers.data"),
    ("training", "from helpers.experiments import Run", "helpers.training -> helpers.experiments"),
    ("experiments/run", "from helpers import models", "helpers.experiments.run -> helpers.models"),
    ("records/store", "from helpers import runner", "helpers.records.store -> helpers.runner"),
    ("runner/one", "from helpers import __main__", "helpers.runner.one -> helpers.__main__"),
    ("runner/one", "from helpers.show import claims", "helpers.runner.one -> helpers.show.claims"),
    ("show/claims", "from helpers import runner", "helpers.show.claims -> helpers.runner"),
    ("show/curves", "from helpers import training", "helpers.show.curves -> helpers.training"),
    ("show/claims", "def f():\n    import torch", "helpers.show.claims -> torch"),
    ("experiments/run", "import torchvision", "helpers.experiments.run -> torchvision"),
    ("loss_landscape", "", "loss_landscape"),
])  # fmt: skip
def test_an_import_upwards_breaks_a_contract(copy, name, source, named):
    (copy / "helpers" / f"{name}.py").write_text(source)
    checked = lint(copy)
    assert checked.returncode == 1
    assert named in checked.stdout + checked.stderr


def test_what_only_reads_needs_no_torch():
    names = ["helpers", *(f"helpers.{name}" for name in WITHOUT_TORCH)]
    code = "import importlib, sys\nfor n in sys.argv[1:]: importlib.import_module(n); print(n, 'torch' in sys.modules)"
    loaded = python("-c", code, *names)
    assert loaded.stdout.splitlines() == [f"{name} False" for name in names], loaded.stderr


# Packages of others may do what they like when first imported; so ours are imported once, forgotten and imported again,
# watched: what they print, open to write, start or connect to.
WATCH = """
import contextlib, importlib, io, os, random, sys, warnings

names, environment = sys.argv[1:], dict(os.environ)
for name in names:
    importlib.import_module(name)
import numpy, torch
# Whatever that has set is set otherwise, so that it shows when it is set again.
os.environ.clear()
os.environ.update(environment)
torch.set_num_threads(1)
for seed in (torch.manual_seed, numpy.random.seed, random.seed):
    seed(987654321)
for name in [module for module in sys.modules if module == "helpers" or module.startswith("helpers.")]:
    del sys.modules[name]

effects, watching = [], False

def note(event, arguments):
    if not watching:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.putenv", "os.chdir", "subprocess.Popen",
                           "os.system", "os.fork", "socket.connect", "shutil.rmtree", "signal.signal"):
        effects.append(f"{event}{arguments}")

def state():
    return dict(
        environment=dict(os.environ), folder=os.getcwd(), path=list(sys.path), threads=torch.get_num_threads(),
        torch_random=torch.get_rng_state().tolist(), numpy_random=numpy.random.get_state()[1].tolist(),
        random=random.getstate(), dtype=torch.get_default_dtype(), grad=torch.is_grad_enabled(),
        hook=sys.excepthook, filters=len(warnings.filters),
    )

sys.addaudithook(note)
for name in names:
    before, printed, watching = state(), io.StringIO(), True
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        importlib.import_module(name)
    watching, after = False, state()
    changed = [key for key in before if before[key] != after[key]]
    if changed or effects or printed.getvalue():
        print(name, changed, effects, printed.getvalue())
    effects.clear()
"""


def test_importing_has_no_side_effect(tmp_path):
    watched = python("-c", WATCH, "helpers", *(f"helpers.{name}" for name in MODULES), cwd=tmp_path)
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout == ""
    assert list(tmp_path.iterdir()) == []
