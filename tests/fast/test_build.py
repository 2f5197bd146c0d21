"""Tests of compiling: in any surroundings it works or says in a line why not, and nothing damaged is ever loaded."""

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from helpers import records
from helpers.fast import build
from tests.test_dessilbi import needs_compiler

NUMBERS = itertools.count()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The name of a library that this process has not loaded yet, where no home and no temporary folder has any."""
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(build, "_told", threading.Event())
    return f"tiny{next(NUMBERS)}"


def compiled(name):
    return build.compiled(name, f"int {name}() {{ return 1; }}")


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.so"))


def program(path: Path, lines: str) -> str:
    """An executable shell script of these lines at `path`."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """A function that gives how often the compiler ran: half a second longer than it would."""
    log = tmp_path / "runs"
    monkeypatch.setenv("CXX", program(tmp_path / "slow", f'echo run >> {log}\nsleep 0.5\nexec c++ "$@"'))
    return lambda: len(log.read_text().splitlines()) if log.exists() else 0


def as_in_a_new_process(monkeypatch):
    monkeypatch.setattr(torch.ops, "loaded_libraries", set())


# ------------------------------------------------------------------------------------------ where it is kept


def no_home(monkeypatch):
    def nobody(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)


def own(tmp_path) -> Path:
    return tmp_path / "temporary" / f"torch_extensions-{os.getuid()}"


KEPT = {  # what is done to the surroundings, and the folder below tmp_path in which it is then kept
    "a home": (lambda patch, path: None, "home/.cache/torch_extensions"),
    "torch's folder": (lambda patch, path: patch.setenv("TORCH_EXTENSIONS_DIR", str(path / "of torch")), "of torch"),
    "a folder of caches": (lambda patch, path: patch.setenv("XDG_CACHE_HOME", str(path / "x")), "x/torch_extensions"),
    "a folder in the home": (lambda patch, path: patch.setenv("TORCH_EXTENSIONS_DIR", "~/t"), "home/t"),
    "no home": (lambda patch, path: no_home(patch), None),
    "no home, but torch's folder":
        (lambda patch, path: (no_home(patch), patch.setenv("TORCH_EXTENSIONS_DIR", str(path / "t"))), "t"),
    "no home, but one of caches":
        (lambda patch, path: (no_home(patch), patch.setenv("XDG_CACHE_HOME", str(path / "x"))), "x/torch_extensions"),
    "a home that can't be written": (lambda patch, path: patch.setenv("HOME", "/dev/null"), None),
    "a folder of torch's that can't be written":
        (lambda patch, path: patch.setenv("TORCH_EXTENSIONS_DIR", "/dev/null/t"), "home/.cache/torch_extensions"),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("change, folder", KEPT.values(), ids=KEPT)
def test_a_library_is_kept_where_it_can_be_and_found_there(tiny, runs, monkeypatch, tmp_path, change, folder):
    change(monkeypatch, tmp_path)
    compiled(tiny)
    (kept,) = libraries(tmp_path)
    assert kept.parent == (own(tmp_path) if folder is None else tmp_path / folder)
    as_in_a_new_process(monkeypatch)
    assert compiled(tiny) is getattr(torch.ops, tiny) and runs() == 1


@needs_compiler
def test_one_that_can_be_kept_nowhere_is_used_all_the_same(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "folders", lambda: iter([Path("/dev/null/a"), Path("/dev/null/b")]))
    compiled(tiny)
    assert not libraries(tmp_path) and any(tiny in path for path in torch.ops.loaded_libraries)


@needs_compiler
def test_one_in_a_folder_that_can_only_be_read_is_used(tiny, runs, monkeypatch, tmp_path):
    compiled(tiny)
    home, access = tmp_path / "home" / ".cache" / "torch_extensions", os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home and access(path, mode))
    as_in_a_new_process(monkeypatch)
    compiled(tiny)
    assert runs() == 1 and [path.parent for path in libraries(tmp_path)] == [home]


@needs_compiler
def test_where_a_folder_is_named_no_other_is_looked_at(tiny, runs, monkeypatch, tmp_path):
    compiled(tiny)
    as_in_a_new_process(monkeypatch)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "named"))
    compiled(tiny)
    assert runs() == 2 and len(libraries(tmp_path / "named")) == 1


def shared(folder, monkeypatch):
    folder.mkdir()
    folder.chmod(0o770)


def linked(folder, monkeypatch):
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("elsewhere"))


def anothers(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    folder.rename(folder.with_name("torch_extensions-54321"))
    monkeypatch.setattr(os, "getuid", lambda: 54321)


@pytest.mark.parametrize("make", [shared, linked, anothers, lambda folder, monkeypatch: folder.touch()],
                         ids=["shared", "a link", "another user's", "a file"])  # fmt: skip
def test_a_temporary_folder_that_others_could_write_is_no_place(tiny, monkeypatch, tmp_path, make):
    no_home(monkeypatch)
    make(own(tmp_path), monkeypatch)
    assert [*build.folders()] == []


def test_one_made_for_it_is_this_users_alone(tiny, monkeypatch, tmp_path):
    no_home(monkeypatch)
    assert [*build.folders()][-1] == own(tmp_path) and own(tmp_path).stat().st_mode & 0o777 == 0o700


# ------------------------------------------------------------------------------------------ whole, and once


@needs_compiler
@pytest.mark.parametrize("damage", [
    lambda content: content[: len(content) // 2], lambda content: b"", lambda content: content[:-1] + b"?",
], ids=["cut short", "empty", "another byte"])  # fmt: skip
def test_a_library_that_is_damaged_is_not_loaded_but_built_again(tiny, runs, monkeypatch, tmp_path, damage):
    compiled(tiny)
    (kept,) = libraries(tmp_path)
    whole, loaded, load = kept.read_bytes(), [], torch.ops.load_library
    monkeypatch.setattr(torch.ops, "load_library", lambda path: loaded.append(Path(path).read_bytes()) or load(path))
    kept.unlink()  # this process has the file in use
    kept.write_bytes(damage(whole))
    as_in_a_new_process(monkeypatch)
    compiled(tiny)
    assert loaded == [whole] and kept.read_bytes() == whole and runs() == 2


@needs_compiler
@pytest.mark.parametrize("kept", [True, False])
def test_threads_that_start_together_build_once(tiny, runs, monkeypatch, kept):
    if not kept:
        monkeypatch.setattr(build, "folders", lambda: iter([Path("/dev/null/a")]))
    threads = [threading.Thread(target=compiled, args=[tiny]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs() == 1


@needs_compiler
def test_processes_that_start_together_build_once(tiny, runs, tmp_path):
    code = f"from tests.fast.test_build import compiled; compiled({tiny!r})"
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=records.ROOT, env=environment) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert runs() == 1 and len(libraries(tmp_path)) == 1


@needs_compiler
def test_a_process_that_has_another_version_does_not_load_a_second(tiny):
    compiled(tiny)
    with pytest.raises(RuntimeError, match=f"^needs a new process: this one has loaded another {tiny} already$"):
        build.compiled(tiny, f"int {tiny}() {{ return 2; }}")


# ------------------------------------------------------------------------------------------ the compiler


@needs_compiler
def test_a_compiler_may_be_several_words(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", program(tmp_path / "ccache", 'exec "$@"') + " c++ -DWORD='a b'")
    compiled(tiny)
    assert len(libraries(tmp_path)) == 1


BROKEN = {  # a script's lines, or the value of CXX; and what is said
    "none": ("/nowhere/c++ -O1", r"/nowhere/c\+\+ is not found \(the environment variable CXX names another\)"),
    "false": ("/bin/false", "/bin/false made nothing: status 1"),
    "does nothing": ("exit 0", "compiler made nothing: status 0"),
    "makes what is no library": ('while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"', "Could not load"),
    "says why": ("echo 'a.cpp:1: error: one'; echo 'a.cpp:1:   1 | x' >&2; echo 'fatal error: no disk' >&2; exit 1",
                 "compiler made nothing: fatal error: no disk"),
    "says it elsewhere": ("printf 'licence\\033[31m expired\\n\\n'; exit 3", r"made nothing: licence\[31m expired"),
    "says much": ("i=0; while [ $i -lt 999 ]; do echo $i$i$i; i=$((i+1)); done >&2; exit 1", "997997997; 998998998"),
    "says it in other letters": ("printf 'kein Ger\\344t\\n' >&2; exit 1", "kein Ger�?t"),
    "is killed": ("kill -9 $$", "made nothing: status -9"),
    "quotes": ("c++ 'x", "No closing quotation"),
    "a folder": ("/usr", "/usr is not found"),
}  # fmt: skip


@pytest.mark.parametrize("value, said", BROKEN.values(), ids=BROKEN)
def test_a_compiler_that_is_broken_is_told_in_one_line(tiny, monkeypatch, tmp_path, value, said):
    named = value.startswith(("/", "c++"))
    monkeypatch.setenv("CXX", value if named else program(tmp_path / "compiler", value))
    with pytest.raises(RuntimeError, match=f"^needs a C\\+\\+ compiler: .*{said}") as raised:
        compiled(tiny)
    assert len(str(raised.value)) < 500 and str(raised.value).isprintable()
    assert not libraries(tmp_path)


def test_one_that_is_never_done_is_given_up(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "LONGEST", 0.2)
    monkeypatch.setenv("CXX", program(tmp_path / "compiler", "exec sleep 60"))
    with pytest.raises(RuntimeError, match=r"^needs a C\+\+ compiler: this one was not done after 0.2 seconds$"):
        compiled(tiny)


@needs_compiler
def test_an_error_in_the_source_is_the_compilers_own(tiny):
    with pytest.raises(RuntimeError, match=rf"c\+\+ made nothing: {tiny}.cpp:1:.* error: .*nonsense"):
        build.compiled(tiny, "nonsense f();")


def test_why_runs_are_slower_is_said_once(tiny, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert not any(build.compiles(lambda name=name: compiled(name)) for name in (tiny, f"{tiny}b", f"{tiny}c"))
    assert capsys.readouterr().err == (
        "runs are slower without compiled operators: making them needs a C++ compiler: /nowhere/c++ is not found "
        "(the environment variable CXX names another)\n"
    )


def test_the_kernels_are_files_of_the_package():
    assert {"fused", "narrow", "winograd"} <= {path.stem for path in build.KERNELS.glob("*.cpp")}
    assert "TORCH_LIBRARY(fused" in build.source("fused")
