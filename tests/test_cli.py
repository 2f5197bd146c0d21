"""The command line as its user meets it: every mistake gets one line that says what to do and the right exit status.
Most commands run in this process; those that are about processes run in their own."""

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import torch

from helpers import __main__, data, experiments, records, training
from helpers.experiments import Run
from helpers.publish import build, readme
from helpers.records import Store
from helpers.runner import one

DIGITS = Run(data="mnist", model="LeNet", lr=0.05, epochs=1, batch_size=16, images=64)
RUN = ("run", "--workers", 1, "--threads", 1)  # more threads than cores are free spin while they wait
DONE = functools.partial(subprocess.CompletedProcess, [])


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command in this process; gives its exit status, its output and the lines of its errors."""

    def run(*arguments) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["helpers", *map(str, arguments)])
        code = __main__.main()
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


@pytest.fixture
def digits(monkeypatch, tiny_digits):
    """One declared row, a run on a tiny data set."""
    monkeypatch.setattr(data, "load", lambda name, root=None, validation="held_out": tiny_digits)
    monkeypatch.setattr(experiments.tables, "SECTIONS", {"1": {"small": {"row": DIGITS}}})
    return Store().folder / f"{DIGITS.name}.json"


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ("run --section 4", "section '4' is unknown: there are 1, 1.9"),
        ("status --section 1.2", "section '1.2' is unknown: there are 1, 1.9"),
        ("verify --section one", "section 'one' is unknown: there are 1, 1.9"),
        ("run --table dropuot-after", "table 'dropuot-after' is unknown: did you mean '1.3 dropout after each conv'"),
        ("status --table 1.6", "table '1.6' is unknown: did you mean '1.6 activation' or '1.6 kernels'?"),
        ("run --table dropout --row 0.4", "row '0.4' is unknown: did you mean '0"),
        ("run --budget labtop", "budget 'labtop' is unknown: did you mean 'laptop'"),
        ("status --budget labtop", "budget 'labtop' is unknown: did you mean 'laptop'"),
        ("status --results=", "the name of the results folder is empty: give one, or leave --results out"),
        ("run --workers 0", "Invalid value for '--workers': "),
        ("run --workers two", "Invalid value for '--workers': "),
        ("run --workers 99999999999", "Invalid value for '--workers': Input should be less than or equal to 999"),
        ("run --threads 99999999999", "Invalid value for '--threads': Input should be less than or equal to 999"),
        ("run --minutes -1", "Invalid value for '--minutes': "),
        ("run --minutes nan", "Invalid value for '--minutes': "),
        ("run --minutes inf", "Invalid value for '--minutes': "),
        ("run --precision x", "Invalid value for '--precision': 'x' is not one of 'auto', 'float32', 'bfloat16'"),
        (
            "run --precision float16",
            "Invalid value for '--precision': 'float16' is not one of 'auto', 'float32', 'bfloat16'",
        ),
        ("run --engine r", "Invalid value for '--engine': 'r' is not one of 'local', 'ray'"),
        ("run --address auto", "address 'auto' belongs to --engine ray"),
        ("run --engine ray --device cuda:1", "device 'cuda:1' can't be used here: Ray gives each task its own"),
        ("run --device nonsense", "device 'nonsense' can't be used here: "),
        ("run --device meta", "device 'meta' can't be used here: use cpu, cuda or cuda:N"),
        ("run --device cpu:0", "device 'cpu:0' can't be used here: use cpu, cuda or cuda:N"),
        ("run --device cuda:99", "device 'cuda:99' can't be used here: "),
        ("run --tabel dropout", "No such option: --tabel"),
        ("rnu", "No such command 'rnu'"),
        ("data imagenet", "data set 'imagenet' is unknown: did you mean 'mnist'?"),
    ],
)
def test_a_wrong_word_is_told_with_the_nearest_right_one(arguments, expected, command):
    code, out, errors = command(*arguments.split())
    assert (code, out, len(errors)) == (2, "", 1)
    assert errors[0].startswith(f"helpers: {expected}")
    assert not Store().folder.exists()


def test_without_a_command_it_tells_which_there_are(command):
    code, out, errors = command()
    assert code == 2 and all(name in out + "\n".join(errors) for name in ("data", "status", "run", "verify", "report"))


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/results"])
def test_a_folder_that_cant_be_written(place, command, tmp_path):
    (tmp_path / "file").touch()
    code, _, errors = command("run", "--results", tmp_path / place)
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith(f"helpers: can't write {tmp_path / place}: ") and "--results" in errors[0]


@pytest.mark.parametrize("name", ["status", "verify"])
def test_a_folder_that_is_not_there(name, command, tmp_path):
    code, out, errors = command(name, "--results", tmp_path / "none")
    assert code == 1
    told = errors if name == "status" else out.splitlines()
    assert f"{tmp_path}/none does not exist: `python -m helpers run` makes it" in told[0]
    (tmp_path / "file").touch()
    code, _, errors = command(name, "--results", tmp_path / "file")
    assert code == 1 and errors == [
        f"helpers: {tmp_path}/file can't be read: Not a directory; choose another with --results"
    ]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_data_set_that_is_missing_or_cut_short(damage, workers, command, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(data, "_download", lambda name, root: "no network")
    data.load.cache_clear()
    file = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    if damage == "cut short":
        file.parent.mkdir()
        file.write_bytes(b"\x80\x02")
    code, _, errors = command("run", "--section", "1", "--budget", "smoke", "--workers", workers)
    assert (code, len(errors)) == (1, 2) and errors[0].endswith(f"into {Store().folder}")
    assert errors[1].startswith(f"helpers: {file} is {'missing' if damage == 'missing' else 'damaged'}")
    assert "no network" in errors[1] and "python -m helpers data" in errors[1]


def test_a_device_without_room_is_told_in_one_line(digits, command, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(training, "fingerprint", full)
    code, _, errors = command(*RUN)
    assert (code, errors[1:]) == (1, ["helpers: CUDA out of memory."])


def test_a_folder_that_is_not_there_is_not_made_to_complete_nothing(command, tmp_path):
    code, out, errors = command("complete", "--results", tmp_path / "typo")
    assert (code, out) == (1, "") and errors[0].startswith(f"helpers: {tmp_path}/typo does not exist: name the folder")
    assert not (tmp_path / "typo").exists()


def test_a_link_in_place_of_a_file_of_ours_leaves_its_target_alone(command, tmp_path):
    target, work = tmp_path / "precious", Store().work
    work.mkdir(parents=True)
    target.write_text("mine")
    (work / ".gitignore").symlink_to(target)
    Store().prepare()
    assert target.read_text() == "mine" and (work / ".gitignore").read_text() == "*\n"
    assert not (work / ".gitignore").is_symlink()


def test_a_work_folder_on_another_file_system_is_told_before_anything_is_trained(digits, command, tmp_path):
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("needs a second file system")
    Store().folder.mkdir()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        Store().work.symlink_to(elsewhere)
        code, out, errors = command(*RUN)
    assert (code, out, len(errors)) == (1, "", 1)
    assert errors[0].startswith(f"helpers: {Store().work} is on another file system than {Store().folder}, where")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "endless"])
def test_a_readme_that_is_no_regular_file_is_told_and_not_opened(kind, command, tmp_path):
    path = "/dev/full" if kind == "device" else tmp_path / "README.md"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.touch()
        os.truncate(path, 2**40)
    code, out, errors = command("readme", path)
    assert (code, out, errors) == (1, "", [f"helpers: {path} is no regular file of text: name a README"])


@pytest.mark.parametrize("arguments, variable", [
    (["--results=~/mine"], {}), ([], {"RESULTS_DIR": "~/mine"}), (["--results=~/mine"], {"DATA_DIR": "~/data"}),
])  # fmt: skip
def test_a_tilde_that_no_shell_has_expanded(arguments, variable, command, monkeypatch, tmp_path):
    for name, value in {"HOME": str(tmp_path), **variable}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    code, out, errors = command("verify", *arguments)
    assert out.startswith(f"{tmp_path}/mine does not exist") and not (tmp_path / "~").exists()
    assert os.environ.get("DATA_DIR") != "~/data" and os.environ["RESULTS_DIR"] != "~/mine"


def test_a_tilde_in_the_folders_of_a_report(command, monkeypatch, tmp_path):
    built = []
    monkeypatch.setenv("RECORDS_ONLY", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        build, "build", lambda notebooks, output, figures: built.extend((notebooks, output, figures)) or ()
    )
    command("report", "--notebooks=~/a", "--output=~/b", "--figures=~/c")
    command("report", "--notebooks=~/a", "--output=~/b")
    assert built == [tmp_path / each for each in ("a", "b", "c", "a", "b", "b/figures")]
    assert command("readme", "~/d")[2] == [f"helpers: {tmp_path}/d: No such file or directory"]


def test_a_readme_that_is_no_text_is_told_in_one_line(command, tmp_path):
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    code, out, errors = command("readme", tmp_path / "README.md")
    assert (code, out, len(errors)) == (1, "", 1)
    assert errors[0].startswith(f"helpers: {tmp_path}/README.md is no text in UTF-8")


def test_a_readme_that_is_not_there_is_told_without_its_number(command, tmp_path):
    code, out, errors = command("readme", tmp_path / "none.md")
    assert (code, out, errors) == (1, "", [f"helpers: {tmp_path}/none.md: No such file or directory"])


def test_a_broken_notebook_is_told_in_one_line(command, monkeypatch, tmp_path):
    monkeypatch.setenv("RECORDS_ONLY", "1")
    (tmp_path / "01.ipynb").write_text("no JSON")
    code, out, errors = command("report", "--notebooks", tmp_path, "--output", tmp_path / "report")
    assert (code, out, len(errors)) == (1, "", 1) and errors[0].startswith(f"helpers: {tmp_path}/01.ipynb is no ")


def test_relative_folders_lead_to_the_same_place_from_a_notebook(command, monkeypatch, tmp_path):
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESULTS_DIR", "mine")
    monkeypatch.setenv("DATA_DIR", "data")
    monkeypatch.setattr(build, "build", lambda *folders, **options: seen.append(dict(os.environ)) or ())
    assert command("report", "--output", tmp_path / "report")[0] == 0
    assert (seen[0]["RESULTS_DIR"], seen[0]["DATA_DIR"]) == (str(tmp_path / "mine"), str(tmp_path / "data"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_report_elsewhere_leaves_a_readme_alone_that_cant_be_written(number, command, monkeypatch, tmp_path):
    def refuse(path, content):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setenv("RECORDS_ONLY", "1")
    monkeypatch.setenv("RESULTS_DIR", str(records.ROOT / "results"))
    monkeypatch.setattr(build, "build", lambda *folders, **options: (tmp_path / "report.pdf",))
    monkeypatch.setattr(readme, "blocks", lambda: {})
    monkeypatch.setattr(readme, "filled", lambda text, blocks: text + "more")
    monkeypatch.setattr(records, "put", refuse)
    code, out, errors = command("report", "--output", tmp_path, "--figures", tmp_path)
    assert (code, out) == (0, f"{tmp_path}/report.pdf\n")
    assert errors == [f"{path} stays as it is: {os.strerror(number)}" for path in readme.PAGES]


@pytest.mark.parametrize("own, foreign", [
    (True, ()), (False, ("notebooks",)), (False, ("results",)), (False, ("notebooks", "results")), (False, ("budget",)),
])  # fmt: skip
def test_other_notebooks_or_records_leave_the_repositorys_figures_alone(own, foreign, command, monkeypatch, tmp_path):
    built, rewritten = [], []
    monkeypatch.setenv("RECORDS_ONLY", "1")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path if "results" in foreign else records.ROOT / "results"))
    monkeypatch.setenv("REPORT_BUDGET", "laptop" if "budget" in foreign else "")
    monkeypatch.setattr(build, "build", lambda notebooks, output, figures: built.append(figures) or ())
    monkeypatch.setattr(readme, "blocks", lambda: {})
    monkeypatch.setattr(readme, "rewrite", lambda path, content: rewritten.append(path))
    # A relative path to the repository's own is no other folder.
    folder = tmp_path if "notebooks" in foreign else os.path.relpath(records.ROOT / "notebooks")
    assert command("report", "--notebooks", folder, "--output", tmp_path / "report")[0] == 0
    assert built == [records.ROOT / "figures" if own else tmp_path / "report" / "figures"]
    assert rewritten == [*readme.PAGES] * own
    command("report", "--notebooks", folder, "--figures", tmp_path / "here")
    assert built[1] == tmp_path / "here"


@pytest.mark.parametrize("code", [0, 2, 130])
def test_bench_hands_on_what_it_is_told(code, command, monkeypatch):
    asked = []
    monkeypatch.setattr(__main__.subprocess, "run", lambda arguments, cwd: asked.append(arguments[1:]) or DONE(code))
    assert command("bench", "--only", "step", "--repeats", 3)[0] == code
    assert asked == [["-m", "benchmarks", "--repeats", "3", "--only", "step"]]


@pytest.mark.parametrize("arguments, kept", [
    (["run"], ": what is finished is kept, and the same command goes on"), (["bench"], ": what is measured is kept"),
    (["verify"], ""), (["report", "--output", "never"], ""),
])  # fmt: skip
def test_an_interruption_tells_what_it_leaves(arguments, kept, command, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    for module, name in ((experiments, "rows"), (__main__.subprocess, "run"), (build, "build")):
        monkeypatch.setattr(module, name, interrupted)
    monkeypatch.setenv("RECORDS_ONLY", "1")
    code, _, errors = command(*arguments)
    assert (code, errors) == (130, [f"helpers: interrupted{kept}"])


def test_a_fault_of_ours_keeps_its_traceback(command, monkeypatch):
    monkeypatch.setattr(records, "status", lambda *arguments: {}["missing"])
    with pytest.raises(KeyError):
        command("status")


# ------------------------------------------------------------------------------------------ run, status, verify


def test_from_nothing_to_verified(digits, command):
    code, out, errors = command("status", "--json", "--budget", "laptop")
    assert code == 0 and [each["state"] for each in json.loads(out)] == ["pending"]
    code, out, errors = command(*RUN, "--precision", "bfloat16")
    assert (code, out) == (0, "") and errors[-1] == "1 of 1 runs have their record now"
    assert json.loads(digits.read_text())["engine"]["precision"] == "bfloat16"
    code, out, errors = command("run")
    assert (code, errors) == (0, ["nothing to make: each of the 1 rows has its record"])
    code, out, errors = command("verify")
    assert (code, out) == (0, "1 records verified, 0 at fault\n")
    assert command("complete")[:2] == (0, "0 of 1 records completed\n")  # its weights are not kept


def test_status_in_json_has_its_keys(digits, command, monkeypatch):
    command(*RUN)
    monkeypatch.setattr(sys.modules[records.status.__module__], "ROOT", Store().folder.parent)
    code, out, errors = command("status", "--json", "--budget", "laptop")
    (entry,) = json.loads(out)
    assert (code, errors) == (0, [])
    assert entry.items() >= {
        "section": "1", "table": "small", "row": "row", "budget": "laptop", "state": "done", "reported": None,
        "record": f"results/{DIGITS.name}.json", "n": 1, "seeds": 1, "std": None,
    }.items()  # fmt: skip
    assert list(entry) == ["section", "table", "row", "budget", "state", "accuracy", "reported", "record", "std", "n",
                           "learned", "seeds", "seconds"]  # fmt: skip
    code, out, errors = command("status", "--budget", "laptop")
    assert f"{entry['accuracy']:.4f}" in out and "done" in out


def test_every_declared_row_is_in_the_status(command):
    code, out, errors = command("status", "--json")
    assert code == 0 and len(json.loads(out)) == len(experiments.rows())
    code, out, errors = command("status")
    assert len(out.splitlines()) == 1 + len(experiments.rows())


def test_status_and_verify_name_what_is_at_fault(digits, command):
    command(*RUN)
    digits.write_bytes(digits.read_bytes().replace(b'"done"', b'"dune"'))
    left = digits.parent / "LeNet-0123456789.npz"
    left.touch()
    for arguments in (["status"], ["status", "--json"], ["verify"]):
        code, out, errors = command(*arguments)
        told = errors if arguments[0] == "status" else out.splitlines()
        named = [line for line in told if str(digits.parent) in line]
        # The .npz beside the damaged record may be whole: nobody is told to delete it.
        assert [line.split()[0] for line in named] == [str(digits), str(left)]
        assert code == (arguments[0] == "verify")
    code, out, errors = command(*RUN)
    assert code == 0 and sum("does not fit its content): kept as" in line for line in errors) == 1
    assert command("verify")[1].splitlines()[-1] == "1 records verified, 1 at fault"  # `left`


@pytest.mark.parametrize("name", ["status", "verify", "complete"])
def test_of_many_faults_the_first_ten_are_told_and_how_many_more(name, digits, command):
    command(*RUN)
    for number in range(25):
        (digits.parent / f"LeNet-{number:010}.json").write_bytes(b"damaged")
    (digits.parent / "A\x1b[2J.json").write_bytes(b"damaged")  # which would clear the terminal
    code, out, errors = command(name)
    told = errors if name == "status" else out.splitlines()
    faults = [line for line in told if "is damaged or no record" in line]
    assert len(faults) == 10 and told[told.index(faults[-1]) + 1] == "… and 16 more of these"
    assert faults[0].startswith(rf"{digits.parent}/A\x1b[2J.json is damaged")
    assert code == (name != "status")


@pytest.mark.parametrize("suffix, change", [
    (".npz", b"damaged"), (".npz", None), (".json", b"damaged"), (".safetensors", "other"),
])  # fmt: skip
def test_one_record_at_fault_does_not_stop_the_others(suffix, change, digits, command, monkeypatch):
    other = experiments.replace(DIGITS, lr=0.1)
    monkeypatch.setattr(experiments.tables, "SECTIONS", {"1": {"small": {"row": DIGITS, "other": other}}})
    monkeypatch.setattr(experiments.plan, "KEPT", {DIGITS, other})
    monkeypatch.setattr(one, "_pruned", lambda *arguments: {"pruned_none": np.zeros(1)})
    assert command(*RUN)[0] == 0
    monkeypatch.setattr(one, "_pruned", lambda *arguments: {"pruned_elimination_conv3_test": np.zeros(1)})
    store = Store()
    if change == "other":  # weights of another network, with a good checksum
        record = store.read(DIGITS)
        store.write(record, store.arrays(record), {"w": np.zeros(2)})
    elif change:
        store.path(DIGITS, suffix).write_bytes(change)
    else:
        store.path(DIGITS, suffix).unlink()
    known = 1 if suffix == ".json" else 2
    code, out, errors = command("complete")
    assert code == 1 and out.splitlines()[-1] == f"1 of {known} records completed"
    assert len(out.splitlines()) == 2 and out.startswith(str(store.path(DIGITS, suffix)))
    assert "pruned_elimination_conv3_test" in store.arrays(store.read(other))
    code, out, errors = command("status", "--json", "--budget", "laptop")
    states = {".json": "pending"}.get(suffix, "done" if change == "other" else "stale")
    assert code == 0 and [each["state"] for each in json.loads(out)] == [states, "done"]
    if change != "other":
        code, out, errors = command("verify")
        assert code == 1 and out.splitlines()[-1] == f"{known} records verified, 1 at fault"
        assert command(*RUN)[2][-1] == "1 of 1 runs have their record now"
        assert command("verify")[:2] == (0, "2 records verified, 0 at fault\n")


def test_verify_finds_a_changed_fingerprint_with_a_good_checksum(digits, command):
    command(*RUN)
    store = Store()
    record = store.read(DIGITS)
    arrays = store.arrays(record)
    store.write(record.model_copy(update={"fingerprint": [2.0, *record.fingerprint[1:]]}), arrays)
    code, out, _ = command("verify")
    assert code == 1 and out.startswith(f"{digits}: loss at step 0 is ")
    assert out.endswith("1 records verified, 1 at fault\n")


def test_the_record_of_no_declared_row(digits, command, monkeypatch):
    command(*RUN)
    monkeypatch.setattr(
        experiments.tables, "SECTIONS", {"1": {"small": {"other": experiments.replace(DIGITS, lr=0.1)}}}
    )
    code, out, errors = command("status")
    assert (code, errors) == (0, [f"{digits} is the record of no declared row: declare the row, or move the file away"])


def test_a_record_too_many_for_its_folder_is_no_reason_to_stop(digits, command, monkeypatch):
    """A failed write of the record: its line, status 1, and the checkpoint of the finished training kept."""
    monkeypatch.setattr(Store, "write", lambda *arguments: Store("/proc/results").prepare())
    code, _, errors = command(*RUN)
    assert code == 1 and "can't write /proc/results" in errors[-1]
    assert Store().checkpoint(DIGITS).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_outside_of_a_training_step_is_told_too(number, command, monkeypatch):
    monkeypatch.setattr(records, "status", lambda *arguments: os.kill(os.getpid(), number))
    # As in a process of its own; one started in the background may have been told to ignore Ctrl-C.
    previous = signal.signal(number, signal.default_int_handler)
    code, out, errors = command("status")
    signal.signal(number, previous)
    assert (code, errors) == (130, ["helpers: interrupted"])


# ------------------------------------------------------------------------------------------ processes of their own

HELPERS = [sys.executable, "-m", "helpers"]


@pytest.mark.parametrize("table", [[], ["--table", "final"]])  # more than a buffer holds, and less
def test_status_into_a_pipe_that_is_closed_and_without_torch(table, tmp_path):
    """One process for both, since each costs a second."""
    code = (
        "import atexit, sys; sys.argv[0] = 'helpers';"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr));"
        "from helpers.__main__ import main; sys.exit(main())"
    )
    options = [sys.executable, "-c", code, "status", "--json", "--results", tmp_path, *table]
    with subprocess.Popen(options, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"False\n"
    assert process.returncode == 1


@pytest.mark.parametrize("redirection, code, told", [
    ("status >&-", 1, ["helpers: the standard output is closed: give one, as in `> FILE`"]),
    ("status --json >&-", 1, ["helpers: the standard output is closed: give one, as in `> FILE`"]),
    ("status > /dev/full", 1, ["helpers: No space left on device"]),
    ("status > /dev/null 2>&-", 0, []),
    ("status <&- >&- 2>&-", 1, []),
])  # fmt: skip
def test_streams_that_are_closed_or_full(redirection, code, told, tmp_path):
    (tmp_path / "results").mkdir()
    command = f'exec "{sys.executable}" -m helpers {redirection}'
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(records.ROOT)})  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()) == (code, told)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_an_encoding_without_our_characters(encoding, tmp_path):
    def run(*options: str) -> bytes:
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        return subprocess.run(
            [*HELPERS, "status", *options], stdout=subprocess.PIPE, env=environment, check=True
        ).stdout

    labels = {each.label for each in experiments.rows()}
    assert {each["row"] for each in json.loads(run("--json").decode(encoding))} == labels
    assert ("κ" if encoding == "utf-8" else r"\u03ba") in run().decode(encoding)


def test_ctrl_c_while_the_workers_start(tmp_path):
    """To the whole group, as a terminal sends it, in the seconds in which the workers load their libraries."""
    if fault := data.fault("cifar10", data.data_dir()):
        pytest.skip(f"needs the real CIFAR-10: {fault}")
    options = [*HELPERS, "run", "--table", "1.6 kernels", "--budget", "smoke", "--workers", "2", "--results", tmp_path]
    with subprocess.Popen(options, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert b"3 runs to make, about a minute of one core with bfloat16, 2 at a time" in process.stderr.readline()
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read().decode().splitlines()
    assert process.returncode == 130
    assert len(rest) == 1 and rest[0].startswith("helpers: ") and "the same command goes on" in rest[0]
    assert Store(tmp_path).scan() == ({}, {}) and not list(tmp_path.rglob("*.part"))
