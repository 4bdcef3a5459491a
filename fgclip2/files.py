"""Files that are whole or not there, and results of earlier runs that are never written over."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fgclip2.errors import Fgclip2Error

_PREVIOUS: Final = re.compile(r"previous-(\d+)")


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


def set_aside(folder: Path, patterns: Sequence[str]) -> Path | None:
    """Move an earlier run's files into a folder of their own: a checkpoint is hours of work and is never deleted.

    Args:
        folder: of the run; it need not exist.
        patterns: globs of what to move.

    Returns:
        ``previous-N`` in the folder, with N one more than the last; ``None`` when there was nothing to move.
    """
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    if not found:
        return None
    numbers = [int(match[1]) for path in folder.iterdir() if (match := _PREVIOUS.fullmatch(path.name))]
    place = folder / f"previous-{max(numbers, default=0) + 1}"
    place.mkdir()
    for path in found:
        path.replace(place / path.name)
    return place
