"""Files, read and written so that neither a power cut nor a stranger's file does harm: whole or not at all, of a size
that is known beforehand, and nothing but regular files is opened. What they hold is nobody's business here."""

import errno
import io
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Bytes that a file may have, and an .npz unpacked: a hundred times the largest there is, and quickly read.
LARGEST = {".json": 2**24, ".npz": 2**28, ".safetensors": 2**30}
UNPACKED = 2**28


class RecordError(RuntimeError):
    """A file of the results folder can't be read or written; the message says which and what to do.

    `damage`: what is damaged, in words, where the checksum of a record or of a file beside it does not fit, or the file
    is missing; empty where all may be whole.
    """

    def __init__(self, message: str, damage: str = ""):
        super().__init__(message)
        self.damage = damage


def read(path: str | Path) -> bytes:
    """The content of a regular file, or of a link to one, of a size that its kind may have. Raises RecordError."""
    try:
        about = os.stat(path)  # not opened yet: that waits for a pipe's other end, and may do anything to a device
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
            raise OSError(errno.EINVAL, "Not a regular file")
        if about.st_size > (largest := LARGEST[os.path.splitext(path)[1]]):
            raise OSError(errno.EFBIG, f"Larger than {largest >> 20} MiB")
        with open(path, "rb", buffering=0) as file:  # without a buffer: folders may hold thousands of small ones
            return file.read(about.st_size)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"{path} can't be read: {reason}; make it readable, or move it away") from None


def unpack(content: bytes) -> dict[str, "np.ndarray"]:
    """The arrays of an .npz. Raises ValueError, or whatever zipfile and numpy do, for anything but numbers."""
    import numpy as np  # here, so that what reads no arrays starts in half the time

    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # which gives no part more bytes than its header says
        if (size := sum(part.file_size for part in archive.infolist())) > UNPACKED:
            raise ValueError(f"unpacked it has {size >> 20} MiB, more than {UNPACKED >> 20}")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = dict(archive)
    if odd := [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]:
        raise ValueError(f"its array {odd[0]!r} holds no numbers")
    return arrays


def put(path: Path, content: bytes, folder: Path | None = None) -> None:
    """Puts `content` at `path`, by way of a temporary file in `folder`, or beside it: whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=path.name + ".", suffix=".part", dir=folder or path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        move(Path(temporary), path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Renames `source` to `target` on the same file system, and sees to it that a power cut doesn't undo that."""
    os.replace(source, target)
    with suppress(OSError):  # not every file system can
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turns a failure of the file system into a RecordError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"can't write {path}: {reason}; nothing already there is changed. Free room, or choose"
                          " another folder with --results") from None  # fmt: skip


def plain(text: str) -> str:
    """`text` for a terminal: characters that would move its cursor, or can't be seen, stand there as their code."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)


def first_line(error: Exception) -> str:
    """What an error says, short enough for a line: its text may be a whole file's."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
