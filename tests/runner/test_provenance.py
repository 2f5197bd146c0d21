"""The revision that a record names is this repository's own, wherever it lies and whatever the environment says."""

import os
import subprocess
from pathlib import Path

import pytest

from helpers.runner import provenance


def git(folder: Path, *arguments: str | bytes) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *who, *arguments], cwd=folder, env=environment, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace").strip()


def repository(folder: Path, *names: str | bytes) -> str:
    """Makes a repository of the files `names`; gives its commit."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"1")
    git(folder, "init", "--quiet")
    git(folder, "add", *names)
    git(folder, "commit", "--quiet", "--message", "One")
    return git(folder, "rev-parse", "--short=12", "HEAD")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder that is taken for the repository's."""
    folder = tmp_path / "outer" / "copy"
    (folder / "helpers").mkdir(parents=True)
    (folder / "helpers" / "__init__.py").touch()
    monkeypatch.setattr(provenance, "CODE", folder)
    return folder


revision = provenance.revision.__wrapped__


def test_the_commit_and_whether_the_code_was_changed_since(root):
    assert revision() == "unknown"
    commit = repository(root, "helpers/__init__.py", "README.md")
    assert revision() == commit
    (root / "README.md").write_text("2")
    assert revision() == commit
    (root / "helpers" / "__init__.py").write_text("2")
    assert revision() == commit + "+"


@pytest.mark.parametrize("name", [b"helpers/\xff\xfe.py", "helpers/κ.py".encode(), b"helpers/a\nb.py"])
def test_a_changed_file_of_any_name(name, root):
    commit = repository(root, "helpers/__init__.py", name)
    assert revision() == commit
    with open(os.path.join(os.fsencode(root), name), "wb") as file:
        file.write(b"2")
    assert revision() == commit + "+"


def test_a_repository_around_this_one_is_not_asked(root):
    repository(root.parent, "other.py")
    assert revision() == "unknown"
    git(root.parent, "add", "copy")  # a vendored copy: its code is that of no commit of ours
    git(root.parent, "commit", "--quiet", "--message", "Two")
    assert revision() == "unknown"


def test_a_repository_that_the_code_is_no_part_of_is_not_asked(root):
    repository(root, "notes.txt")
    assert revision() == "unknown"


def test_the_environment_leads_to_no_other_repository(root, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    repository(other, "helpers/__init__.py", "b")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert revision() == "unknown"
    monkeypatch.setenv("GIT_WORK_TREE", str(root))
    assert revision() == "unknown"
    commit = repository(root, "helpers/__init__.py")
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert revision() == commit


def test_without_git(root, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert revision() == "unknown"
