"""Compiles C++ operators for this machine's processor, once: they are kept between processes. What needs no compiler
needs nothing here."""

import contextlib
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

_VECTORS = {
    "AVX2": ["-mavx2", "-mfma"],
    "AVX512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"],
}


def compiled(name: str, source: str):
    """The operators torch.ops.`name` of C++ `source`, kept in torch's folder of extensions: one for each torch and kind
    of processor.

    Raises RuntimeError, with what is missing, if there is no compiler.
    """
    kind = torch.backends.cpu.get_cpu_capability()
    threads = "-fopenmp" if sys.platform == "linux" else "-fopenmp-simd"  # elsewhere one thread does it all
    flags = ["-O3", threads, "-fno-math-errno", "-fno-trapping-math", *_VECTORS.get(kind, [])]
    file = f"{name}-{torch.__version__}-{kind}-{zlib.crc32(' '.join([*flags, source]).encode()):08x}.so"
    kept = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache" / "torch_extensions"), file)
    with contextlib.suppress(OSError):  # not built yet, or damaged
        torch.ops.load_library(kept)
        return getattr(torch.ops, name)
    # Built aside and moved: one that is stopped half-way leaves neither half a library nor a lock behind.
    with tempfile.TemporaryDirectory() as folder:
        try:
            from torch.utils import cpp_extension  # here, since it takes a while, and wants setuptools

            with _programs_beside_python():
                cpp_extension.load_inline(name, source, extra_cflags=flags, build_directory=folder,
                                          is_python_module=False, no_implicit_headers=True)  # fmt: skip
        except (ImportError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise RuntimeError(f"needs a C++ compiler and ninja (pip install ninja): {reason}") from error
        with contextlib.suppress(OSError):  # where it can't be kept, the next process builds it again
            kept.parent.mkdir(parents=True, exist_ok=True)
            aside = shutil.copy(Path(folder, f"{name}.so"), kept.with_suffix(f".{os.getpid()}"))
            os.replace(aside, kept)
    return getattr(torch.ops, name)


def compiles(kernel: Callable) -> bool:
    """Whether this machine has a compiler for what `kernel()` compiles, which it does."""
    try:
        kernel()
    except RuntimeError:
        return False
    return True


@contextlib.contextmanager
def _programs_beside_python():
    """Finds what pip installs, as ninja, beside Python, in an environment that is not activated as well."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([before, str(Path(sys.executable).parent)])
    try:
        yield
    finally:
        os.environ["PATH"] = before
