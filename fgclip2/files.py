"""Writing files so that a reader, or a run after a crash, sees the whole file or none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write under a temporary name in the same folder, flush to disk, rename.

    Args:
        path: the file, replaced when it exists; its folder is made when missing.
        data: the whole content.

    Raises:
        OSError: the folder cannot be written; nothing is left behind then.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
