"""Compiles C++ operators for this machine's processor, once: the libraries are kept between processes, and none is
loaded that is not whole. What needs no compiler needs nothing here."""

import contextlib
import functools
import glob
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from filelock import FileLock

KERNELS = Path(__file__).with_name("kernels")
TORCH = Path(torch.__file__).parent
LONGEST = 600  # seconds that a compiler may take, and that another process is waited for: they take about thirty
VECTORS = {
    "AVX2": ["-mavx2", "-mfma"],
    "AVX512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"],
}

_turn = threading.Lock()  # a library that registers operators must be loaded once: at the second time torch aborts
_told = threading.Event()


class CompilerError(RuntimeError):
    """Operators can't be compiled here; the message says what is missing, or what the compiler says."""


def source(name: str) -> str:
    """The C++ of kernels/`name`.cpp."""
    return (KERNELS / f"{name}.cpp").read_text(encoding="utf-8")


def compiled(name: str, source: str):
    """The operators torch.ops.`name` of C++ `source`, one library for each torch and kind of processor.

    Raises CompilerError.
    """
    kind = torch.backends.cpu.get_cpu_capability()
    threads = "-fopenmp" if sys.platform == "linux" else "-fopenmp-simd"  # elsewhere one thread does it all
    flags = ["-O3", threads, "-fno-math-errno", "-fno-trapping-math", *VECTORS.get(kind, [])]
    made_of = _digest(" ".join([platform.machine(), *flags, source]).encode())
    stem = f"{name}-{torch.__version__}-{kind}-{made_of[:16]}"
    with _turn:
        if not _is_loaded(name, stem) and not _load_kept(stem):
            with _alone(name):
                if not _load_kept(stem):  # another process was first
                    _build(name, source, flags, stem)
    return getattr(torch.ops, name)


@functools.cache  # a compiler that fails is not asked at each step
def compiles(kernel: Callable) -> bool:
    """Whether this machine has a compiler for what `kernel()` compiles, which it does. Without, a line on stderr says
    why, once."""
    try:
        kernel()
    except CompilerError as error:
        if not _told.is_set():
            _told.set()
            print(f"runs are slower without compiled operators: making them {error}", file=sys.stderr)
        return False
    return True


def is_traced(tensor: torch.Tensor) -> bool:
    """Whether torch only looks at what is computed, to compile or export it: it then has to see operators of its own,
    whose shapes and gradients it knows."""
    return torch.compiler.is_compiling() or type(tensor) not in (torch.Tensor, torch.nn.Parameter)


# ------------------------------------------------------------------------------------------ kept libraries


def folders() -> Iterator[Path]:
    """Where libraries may be, the best first; the last is the first that can be written."""
    for folder in _places():
        yield folder
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return


def _places() -> Iterator[Path]:
    """torch's folder of extensions, by its own variable, that of caches or the home; or one of this user alone."""
    for name, below in (("TORCH_EXTENSIONS_DIR", "."), ("XDG_CACHE_HOME", "torch_extensions")):
        if os.environ.get(name):
            yield Path(os.path.expanduser(os.environ[name]), below).absolute()
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".cache" / "torch_extensions"
    with contextlib.suppress(OSError):
        user = getattr(os, "getuid", int)()
        own = Path(tempfile.gettempdir(), f"torch_extensions-{user}")
        own.mkdir(mode=0o700, exist_ok=True)
        found = own.lstat()
        # Anyone can make a folder of this name there: what others could write must not be run.
        if own.is_dir() and not own.is_symlink() and found.st_uid == user and not found.st_mode & 0o077:
            yield own


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_loaded(name: str, stem: str) -> bool:
    """Whether this process has the library. Raises CompilerError if it has another of that name."""
    loaded = [each.name for each in map(Path, torch.ops.loaded_libraries) if each.name.startswith(f"{name}-")]
    if loaded and not loaded[0].startswith(stem):
        raise CompilerError(f"needs a new process: this one has loaded another {name} already")
    return bool(loaded)


def _load_kept(stem: str) -> bool:
    """Loads a library that was kept. Its name ends in its SHA-256: one cut short would end the process."""
    for folder in folders():
        for path in folder.glob(f"{glob.escape(stem)}-*.so"):
            with contextlib.suppress(OSError):  # one of another system, in a home that several share
                if path.is_file() and path.name == f"{stem}-{_digest(path.read_bytes())}.so":
                    torch.ops.load_library(path)
                    return True
    return False


@contextlib.contextmanager
def _alone(name: str):
    """Waits until no other process builds the library; where no folder can hold a lock, each builds its own."""
    with contextlib.ExitStack() as stack:
        for folder in folders():
            with contextlib.suppress(OSError, NotImplementedError):
                stack.enter_context(FileLock(folder / f"{name}.lock", timeout=LONGEST))
                break
        yield


def _keep(path: Path) -> None:
    """Loads a library, from a copy in the first folder that takes one and from which it can be."""
    for folder in folders():
        aside, kept = folder / f"{path.stem}.{os.getpid()}", folder / path.name
        try:
            shutil.copy(path, aside)
            aside.replace(kept)
            return torch.ops.load_library(kept)
        except OSError:
            for each in (aside, kept):
                with contextlib.suppress(OSError):
                    each.unlink()
    torch.ops.load_library(path)


# ------------------------------------------------------------------------------------------ the compiler


def _build(name: str, source: str, flags: list[str], stem: str) -> None:
    """Compiles, keeps and loads. Built aside and moved: one that is stopped half-way leaves no half of a library."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = _compile(Path(folder, f"{name}.cpp"), source, flags)
            _keep(made.rename(made.with_name(f"{stem}-{_digest(made.read_bytes())}.so")))
    except subprocess.TimeoutExpired:
        raise CompilerError(f"needs a C++ compiler: this one was not done after {LONGEST} seconds") from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = _lines(str(error))[:1] or [type(error).__name__]
        raise CompilerError(f"needs a C++ compiler: {reason[0]}") from error


def _compile(path: Path, source: str, flags: list[str]) -> Path:
    """The library made of `source` at `path`. Raises CompilerError, OSError, ValueError or SubprocessError."""
    # What pip or conda installs is beside Python, in an environment that is not activated as well.
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    first, *more = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    program = shutil.which(first, path=search)
    if program is None:
        raise CompilerError(f"needs a C++ compiler: {first} is not found (the environment variable CXX names another)")
    path.write_text(source, encoding="utf-8")
    library = path.with_suffix(".so")
    libraries = [f"-L{TORCH / 'lib'}", f"-Wl,-rpath,{TORCH / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch"]
    done = subprocess.run(
        [os.path.abspath(program), *more, "-std=c++20", "-shared", "-fPIC", *flags, "-isystem", TORCH / "include",
         path.name, "-o", library.name, *libraries],
        cwd=path.parent, env={**os.environ, "PATH": search}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", timeout=LONGEST,
    )  # fmt: skip
    if done.returncode or not library.is_file():
        said = _lines(done.stderr) or _lines(done.stdout)
        said = [line for line in said if re.search(r"\berror\b", line)] or said or [f"status {done.returncode}"]
        raise CompilerError(f"needs a C++ compiler: {shlex.join([first, *more])} made nothing: {'; '.join(said[-2:])}")
    return library


def _lines(text: str) -> list[str]:
    """The lines of a text that say something, each at most 200 characters that can be printed."""
    lines = ["".join(filter(str.isprintable, line)).strip()[:200] for line in text.splitlines()]
    return [line for line in lines if line]
