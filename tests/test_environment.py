"""What is installed: requirements.txt, environment.yml and the lock file say the same, a wheel holds all of helpers.
And what Make hands on to it."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import ROOT, root

REQUIREMENTS, LOCK = ((ROOT / name).read_text() for name in ("requirements.txt", "requirements.lock"))


def pins(text: str) -> list[str]:
    return sorted(re.findall(r"^[\s-]*([\w-]+==[\w.]+)$", text, re.MULTILINE))


def test_environment_yml_names_what_requirements_txt_names():
    assert pins(REQUIREMENTS) and pins((ROOT / "environment.yml").read_text()) == pins(REQUIREMENTS)


def test_every_requirement_is_pinned_once_to_one_version():
    lines = [line for line in REQUIREMENTS.splitlines() if line and not line.startswith("#")]
    assert sorted(lines) == pins("\n".join(lines))
    assert len({line.split("==")[0] for line in lines}) == len(lines)


def test_what_runs_here_is_what_is_pinned():
    installed = {pin: metadata.version(pin.split("==")[0]) for pin in pins(REQUIREMENTS)}
    assert all(pin.endswith(f"=={version}") for pin, version in installed.items())


# ------------------------------------------------------------------------------------------ the lock file


def entries(lock: str) -> list[str]:
    """The lines of a lock file, each entry with its hashes on one."""
    return [line for line in re.sub(r"\s*\\\n\s*", " ", lock).splitlines() if not line.strip().startswith("#")]


def loose(lock: str) -> list[str]:
    """The entries that are not a package at one version, with hashes."""
    entry = re.compile(r"[\w.-]+==[\w.]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+")
    return [line for line in entries(lock) if not entry.fullmatch(line)]


def locked(lock: str) -> dict[str, list[Requirement]]:
    """Name → its entries: more than one where versions differ by machine or Python."""
    found: dict[str, list[Requirement]] = {}
    for line in entries(lock):
        requirement = Requirement(line.partition(" --hash")[0])
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def unlocked(lock: str, requirements: str) -> list[str]:
    """The pins that the lock file does not hold, on every machine and at the same version."""
    alone = {name: str(one.specifier) for name, (one, *more) in locked(lock).items() if not (more or one.marker)}
    named = [pin.split("==") for pin in pins(requirements)]
    return [name for name, version in named if alone.get(canonicalize_name(name)) != f"=={version}"]


def unmet(lock: str) -> set[str]:
    """What the pins bring along on this machine, and the lock file lacks or has at a version that does not fit."""
    known = locked(lock)
    seen, todo, lacking = set(), [Requirement(pin) for pin in pins(REQUIREMENTS)], set()
    while todo:
        wanted = todo.pop()
        here = [entry for entry in known.get(canonicalize_name(wanted.name), [])
                if not entry.marker or entry.marker.evaluate()]  # fmt: skip
        version = str(here[0].specifier).removeprefix("==") if here else ""
        if not here or not wanted.specifier.contains(version, prereleases=True):
            lacking.add(str(wanted))
        elif str(wanted) not in seen and metadata.version(wanted.name) == version:
            seen.add(str(wanted))
            more = map(Requirement, metadata.requires(wanted.name) or ())
            todo += [each for each in more if not each.marker
                     or any(each.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))]  # fmt: skip
    return lacking


def test_the_lock_holds_every_pin_all_that_it_brings_along_and_hashes():
    assert len(entries(LOCK)) > 4 * len(pins(REQUIREMENTS))
    assert loose(LOCK) == [] and unlocked(LOCK, REQUIREMENTS) == [] and unmet(LOCK) == set()


HASHED = r"( ;.*)? \\\n(    --hash=.*\n)+"


@pytest.mark.parametrize("pattern, other", [
    (r"^(numpy==\S+) \\\n(    --hash=.*\n)+", r"\1\n"),
    (r"^torch==\S+" + HASHED, "torch @ https://example.org/torch.whl\n"),
    (r"\A", "--extra-index-url https://example.org\n"),
    (r"(?<=--hash=sha256:)\w{4}", ""),
    (r"(?<=--hash=)sha256:\w{32}", "md5:"),
])  # fmt: skip
def test_an_entry_without_hashes_is_seen(pattern, other):
    assert loose(re.sub(pattern, other, LOCK, count=1, flags=re.MULTILINE))


@pytest.mark.parametrize("pattern, other", [
    (r"^numpy==", "numpy==1"),
    (r"^(torch==\S+)", r"\1 ; sys_platform == 'linux'"),
    (r"^pypandoc-binary==\S+" + HASHED, ""),
])  # fmt: skip
def test_a_pin_that_is_not_in_the_lock_is_seen(pattern, other):
    assert unlocked(re.sub(pattern, other, LOCK, count=1, flags=re.MULTILINE), REQUIREMENTS)


@pytest.mark.parametrize("name", ["sympy", "markupsafe", "pydantic-core"])
def test_a_package_brought_along_that_is_not_in_the_lock_is_seen(name):
    lacking = unmet(re.sub(f"^{name}==\\S+{HASHED}", "", LOCK, flags=re.MULTILINE))
    assert {canonicalize_name(Requirement(each).name) for each in lacking} == {name}


def test_a_package_brought_along_at_another_version_is_seen():
    assert "pydantic-core" in str(unmet(LOCK.replace("\npydantic-core==", "\npydantic-core==1")))


# ------------------------------------------------------------------------------------------ Make


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with a blank in its name, the Makefile, and a Python that tells its arguments and folders."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    folder = tmp_path / "a checkout"
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    python = folder / ".venv/bin/python"
    python.write_text('#!/bin/sh\necho "$@"\necho "data $DATA_DIR"\necho "results $RESULTS_DIR"\n')
    python.chmod(0o755)
    (folder / ".venv/.ready").touch()
    return folder


@pytest.mark.parametrize("given, expected", [
    ("/tmp/a b", "/tmp/a b"), ("a b/c d", "{here}/a b/c d"), ("a /b", "{here}/a /b"), ("/tmp/two  blanks", None),
    ("~/a b", "~/a b"), ("/tmp/$b's \"c\"", None), ("data", "{here}/data"), ("../data", "{here}/../data"),
])  # fmt: skip
@pytest.mark.parametrize("by", ["environment", "argument"])
def test_make_hands_on_folders_with_blanks(checkout, given, expected, by):
    folders = {"DATA_DIR": given, "RESULTS_DIR": given + " too"}
    arguments = [f"{name}={value}" for name, value in folders.items()] if by == "argument" else []
    kept = {name: value for name, value in os.environ.items() if name not in folders and not name.startswith("MAKE")}
    done = subprocess.run(["make", "--silent", "data", *arguments], cwd=checkout, text=True, capture_output=True,
                          env=kept if by == "argument" else kept | folders, check=True)  # fmt: skip
    expected = (expected or given).format(here=checkout)
    assert done.stdout.splitlines() == ["-m helpers data", f"data {expected}", f"results {expected} too"]


# ------------------------------------------------------------------------------------------ a wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of a wheel's content, built offline of a copy: setuptools leaves its files where it works."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "helpers", folder / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, check=True)
    with zipfile.ZipFile(*(folder / "dist").glob("*.whl")) as wheel:
        wheel.extractall(folder / "site-packages")
    return folder / "site-packages"


def test_a_wheel_holds_every_file_of_helpers(installed):
    there, here = (
        {path.relative_to(folder).as_posix() for path in (folder / "helpers").rglob("*.*")
         if path.is_file() and "__pycache__" not in path.parts}
        for folder in (installed, ROOT)
    )  # fmt: skip
    assert there == here
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"helpers", "cnn_report"}


def told(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "RESULTS_DIR")}
    return subprocess.run([sys.executable, "-m", "helpers", *arguments], cwd=folder, text=True, capture_output=True,
                          env=environment | {"PYTHONPATH": str(installed)})  # fmt: skip


def test_installed_from_a_wheel_status_says_what_it_needs_in_one_line(installed, tmp_path):
    done = told(installed, tmp_path, "status", "--table", "dropout")
    assert "pending" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{tmp_path}/results does not exist: `python -m helpers run` makes it")
    assert "--results or RESULTS_DIR" in line


@pytest.mark.parametrize("command, needed", [
    ("bench", "no benchmarks/ in {}: run it in a checkout"), ("report", "no notebooks in {}/notebooks"),
    ("readme", "{}/README.md"), ("verify", "{}/results does not exist"),
])  # fmt: skip
def test_installed_from_a_wheel_the_other_commands_name_what_they_need(installed, tmp_path, command, needed):
    done = told(installed, tmp_path, command)
    first, *more = (done.stdout + done.stderr).splitlines()
    assert done.returncode and needed.format(tmp_path) in first
    assert more == ["0 records verified, 1 at fault"] * (command == "verify")


def test_the_root_is_the_checkout_or_where_one_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert root(ROOT) == ROOT and root(tmp_path / "site-packages") == tmp_path
