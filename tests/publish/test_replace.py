"""Where a report is written: only our own is replaced, at no moment is there none, and nothing is made in vain."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.publish import build, chapters
from tests.publish.made import code, write

# Ends the process, as by kill -9, at the n-th call that puts something in place.
KILLED = """
import os, sys
from pathlib import Path
from helpers.publish import build
last, use_exchange = int(sys.argv[3]), sys.argv[4] == "exchange"
calls = 0
def counted(call):
    def wrapped(*arguments):
        global calls
        if calls == last:
            os._exit(9)
        calls += 1
        return call(*arguments)
    return wrapped
Path.rename, build._exchange = counted(Path.rename), counted(build._exchange if use_exchange else lambda *both: False)
build.build(Path(sys.argv[1]), Path(sys.argv[2]), run=False)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("replace")
    write(root / "a.ipynb", code("x"))
    build.build(root, root / "out", run=False)
    return root


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_our_own_is_replaced(folder):
    (folder / "out" / "html" / "old.html").write_text("old")
    build.build(folder, folder / "out", run=False)
    assert not (folder / "out" / "html" / "old.html").exists()
    assert {path.name for path in (folder / "out").iterdir()} <= {"html", "report.pdf", ".lock"}


@pytest.mark.parametrize("name", ["html/index.html", "html/photo.jpg", "report.pdf", "html"])
def test_what_is_not_ours_is_left(folder, tmp_path, name):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    before = content(tmp_path)
    there = "report.pdf" if name == "report.pdf" else "html"
    with pytest.raises(chapters.ReportError, match=rf"out/{there} is no report of ours: move it away"):
        build.build(folder, tmp_path / "out")  # that would execute, and does not
    assert content(tmp_path) == before


def test_a_link_that_leads_nowhere_is_left_too(folder, tmp_path):
    (tmp_path / "report.pdf").symlink_to("gone")
    with pytest.raises(chapters.ReportError, match="is no report of ours"):
        build.build(folder, tmp_path, run=False)
    assert os.readlink(tmp_path / "report.pdf") == "gone"


@pytest.mark.parametrize("last", [0, 1])
def test_killed_at_any_step_a_whole_report_is_there(folder, last):
    out = folder / "out"
    before = content(out)
    assert before
    command = [sys.executable, "-c", KILLED, str(folder), str(out), str(last), "exchange"]
    assert subprocess.run(command).returncode == 9
    after = {path: text for path, text in content(out).items() if not path.parts[0].startswith(".new-")}
    assert after.keys() == before.keys()
    build.build(folder, out, run=False)  # and the next one is made, where nothing is left of this one
    assert not list(out.glob(".new-*"))


def test_what_a_killed_one_had_set_aside_goes_back(tmp_path):
    left = tmp_path / ".new-1"
    (left / "old-html").mkdir(parents=True)
    (left / "old-html" / "index.html").write_text("old")
    (left / "old-report.pdf").write_text("older")
    (tmp_path / "report.pdf").write_text("new")  # its new one is in place
    with build._workplace(tmp_path):
        assert not left.exists()
    assert (tmp_path / "html" / "index.html").read_text() == "old" and (tmp_path / "report.pdf").read_text() == "new"


def test_two_at_once_are_one_and_a_word(folder, tmp_path):
    with build._workplace(tmp_path):
        with pytest.raises(chapters.ReportError, match="another report is being made in"):
            build.build(folder, tmp_path, run=False)


@pytest.mark.parametrize("name", ["file", "folder"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_without_exchange_an_error_puts_the_old_one_back(tmp_path, monkeypatch, name, error):
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        if name == "folder":
            path.mkdir()
            path = path / "inside"
        path.write_text(str(path))
    before = content(old) or old.read_text()
    rename = Path.rename

    def failing(self, target):
        if self == new:
            raise error
        return rename(self, target)

    monkeypatch.setattr(build, "_exchange", lambda *both: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(error):
        build.replace(new, old)
    assert (content(old) or old.read_text()) == before and new.exists()


def test_two_exchange_their_names(tmp_path):
    if sys.platform != "linux":
        pytest.skip("a call of Linux")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("b")
    if build._exchange(tmp_path / "a", tmp_path / "b"):  # not every file system can
        assert (tmp_path / "a").read_text() == "b" and (tmp_path / "b").is_dir()


@pytest.mark.parametrize("which", ["output", "figures", "above"])
def test_what_can_not_be_written_is_told_before_anything_is_executed(folder, tmp_path, which, monkeypatch):
    def executed(*arguments):
        raise AssertionError("executed")

    closed = tmp_path / "closed"
    closed.write_text("a file, where a folder is wanted")  # which holds root back too
    monkeypatch.setattr(build, "execute", executed)
    places = {"output": tmp_path / "out", "figures": tmp_path / "figures"}
    places["output" if which == "above" else which] = closed / "within" if which == "above" else closed
    with pytest.raises(chapters.ReportError, match=r"can't write to .*closed.*--output.*--figures"):
        build.build(folder, **places)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_told(folder, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(chapters.ReportError, match="can't write to .*Permission denied"):
        build.build(folder, tmp_path / "out")


def test_a_kernel_of_another_installation_is_not_used(tmp_path, monkeypatch):
    spec = tmp_path / "share" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    write(tmp_path / "a.ipynb", code("import sys; print(sys.executable)"))
    [chapter] = chapters.read(build.execute(tmp_path, tmp_path / "executed"))
    assert Path(chapter.blocks[-1].text) == Path(sys.executable)


def test_a_kernel_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    from ipykernel import kernelspec

    monkeypatch.setattr(kernelspec, "get_kernel_dict", lambda *a, **k: {"argv": ["/bin/false"], "display_name": ""})
    write(tmp_path / "a.ipynb", code("1"))
    with pytest.raises(chapters.ReportError, match=r"^a\.ipynb: .+") as error:
        build.execute(tmp_path, tmp_path / "executed")
    assert "\n" not in str(error.value)
