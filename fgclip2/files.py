"""Writing files so that a reader, or a run after a crash, sees the whole file or none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fgclip2.errors import Fgclip2Error


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write under a temporary name in the same folder, flush to disk, rename.

    Args:
        path: the file, replaced when it exists; its folder is made when missing.
        data: the whole content.

    Raises:
        Fgclip2Error: there is a folder of that name, or the folder cannot be made or written; nothing is left behind.
    """
    file = Path(path)
    if file.is_dir():
        raise Fgclip2Error(f"{file} is a folder; give a file in it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise Fgclip2Error(f"{file} cannot be written ({error.strerror}); give another place") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(file)
        flush_folder(file.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut; without effect where folders cannot be opened (Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
