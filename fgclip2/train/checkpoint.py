"""Checkpoint directories that are either whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically

DONE: Final = "_SUCCESS"
PARTIAL: Final = "partial"
_NAME: Final = re.compile(r"checkpoint-(\d+)")


def publish(partial: Path, target: Path) -> None:
    """Give a finished directory its name: flush every file, list their sizes in ``_SUCCESS``, rename.

    Args:
        partial: what was written, on the same file system as ``target``.
        target: replaced when it exists.
    """
    sizes = {}
    for file in sorted(partial.rglob("*")):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            sizes[file.relative_to(partial).as_posix()] = file.stat().st_size
    write_atomically(partial / DONE, json.dumps(sizes, indent=1).encode())
    # The old one goes last: at no moment is there neither.
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    partial.replace(target)
    shutil.rmtree(old, ignore_errors=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check(directory: Path) -> None:
    """Make sure that a checkpoint is whole.

    Raises:
        Fgclip2Error: no such directory, no ``_SUCCESS``, or files that are missing or of another size.
    """
    if not directory.is_dir():
        raise Fgclip2Error(f"no checkpoint {directory}")
    try:
        sizes = json.loads((directory / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Fgclip2Error(
            f"{directory} is not a finished checkpoint (no readable {DONE}); take an earlier one"
        ) from error
    for name, size in sizes.items():
        file = directory / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            raise Fgclip2Error(
                f"{file} {'is missing' if found is None else f'has {found} bytes'}, where {size} were written; "
                "take an earlier checkpoint"
            )


def checkpoints(directory: Path) -> list[Path]:
    """Whole checkpoints of a run, newest first."""
    found = sorted(
        ((int(match[1]), path) for path in directory.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))),
        reverse=True,
    )
    whole = []
    for _, path in found:
        try:
            check(path)
        except Fgclip2Error:
            continue
        whole.append(path)
    return whole


def start_of(directory: Path, resume: bool) -> Path | None:
    """The checkpoint that a run goes on from; ``None`` when it begins.

    Raises:
        Fgclip2Error: there is one, but ``resume`` was not asked for.
    """
    found = checkpoints(directory)
    if found and not resume:
        raise Fgclip2Error(
            f"{directory} holds checkpoints up to {found[0].name}; resume that run (--resume), or take another "
            "directory"
        )
    return found[0] if found else None


def step_of(checkpoint: Path) -> int:
    """The optimiser step that a checkpoint was written after."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise Fgclip2Error(f"{checkpoint} is not named checkpoint-STEP")
    return int(match[1])


def prune(directory: Path, keep: int) -> None:
    """Remove all but the newest whole checkpoints, and what killed saves and removals left behind."""
    whole = checkpoints(directory)
    for path in directory.glob("checkpoint-*"):
        older = _NAME.fullmatch(path.name) and whole and step_of(path) < step_of(whole[0])
        if path in whole[keep:] or (older and path not in whole):
            # The name goes first, so that a removal cut short leaves no checkpoint that looks whole.
            (path / DONE).unlink(missing_ok=True)
            shutil.rmtree(path)
    shutil.rmtree(directory / PARTIAL, ignore_errors=True)
