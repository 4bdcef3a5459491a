"""Work on single pictures that the processes of a run share, and whose results stay on disk.

Each picture is computed by itself, so that what comes out does not depend on how many processes there are, nor on where
a run was stopped before.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import numpy as np
import torch.distributed as dist

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.progress import progress

_T = TypeVar("_T")
_KEPT_TOGETHER: Final = 32  # pictures a file: so many are computed again when a run is killed
_KEY_BYTES: Final = 16


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one picture.

    Attributes:
        values: an array of the task's own shape.
        failure: why something could not be used; it is then not kept, so that a later run looks again.
    """

    values: np.ndarray
    failure: str | None = None


class Kept:
    """Arrays of single pictures on disk, by key, in files that are written whole and never changed.

    Args:
        folder: made when first written to.

    Raises:
        Fgclip2Error: a file there cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[str, Path] = {}
        for file in sorted(folder.glob("*.safetensors")):
            with _opened(file) as stored:
                self._where |= dict.fromkeys(stored.keys(), file)

    def __len__(self) -> int:
        return len(self._where)

    def get(self, key: bytes) -> np.ndarray | None:
        """The array of a key, or None."""
        file = self._where.get(key.hex())
        if file is None:
            return None
        with _opened(file) as stored:
            found: np.ndarray = stored.get_tensor(key.hex())
        return found

    def put(self, arrays: Mapping[bytes, np.ndarray]) -> None:
        """Write one file; nothing for no arrays."""
        from safetensors.numpy import save

        if not arrays:
            return
        named = {key.hex(): np.ascontiguousarray(values) for key, values in arrays.items()}
        file = self.folder / f"{uuid4().hex}.safetensors"
        write_atomically(file, save(named))
        self._where |= dict.fromkeys(named, file)


def share(
    items: Sequence[_T],
    compute: Callable[[_T], Outcome],
    key: Callable[[_T], bytes] | None = None,
    kept: Kept | None = None,
    description: str = "pictures",
) -> list[Outcome]:
    """Compute something of every item; called by all processes of a run with the same items.

    Args:
        items: N pictures, in whatever form ``compute`` takes them.
        compute: an item's outcome. An error that it raises ends the whole run, in all processes.
        key: of all that an outcome depends on beside the store's folder; an OSError means that there is none.
        kept: where outcomes stay; without it, or without ``key``, nowhere.
        description: for the progress bar.

    Returns:
        N outcomes in the order of the items, on the first process; on the others nothing.

    Raises:
        Fgclip2Error: one that ``compute`` raised, here or in another process.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    own: dict[int, Outcome] = {}
    problem: str | None = None
    pending: dict[bytes, np.ndarray] = {}
    try:
        for index in progress(range(rank, len(items), world), desc=description, unit="part", disable=rank > 0):
            name = None if kept is None or key is None else _key(key, items[index])
            found = None if kept is None or name is None else kept.get(name)
            own[index] = compute(items[index]) if found is None else Outcome(found)
            if name is not None and found is None and own[index].failure is None:
                pending[name] = own[index].values
            if kept is not None and len(pending) == _KEPT_TOGETHER:
                kept.put(pending)
                pending = {}
    except Fgclip2Error as error:
        if world == 1:
            raise
        problem = str(error)
    finally:
        if kept is not None:
            kept.put(pending)
    if world == 1:
        return [own[index] for index in range(len(items))]
    return _gathered(own, problem, rank, world, len(items))


def _gathered(own: dict[int, Outcome], problem: str | None, rank: int, world: int, count: int) -> list[Outcome]:
    problems: list[str | None] = [None] * world
    dist.all_gather_object(problems, problem)
    first = next((text for text in problems if text is not None), None)
    if first is not None:
        raise Fgclip2Error(first)
    parts: list[dict[int, Outcome]] | None = [{} for _ in range(world)] if rank == 0 else None
    dist.gather_object(own, parts)
    joined = {index: outcome for part in parts or () for index, outcome in part.items()}
    return [joined[index] for index in range(count)] if rank == 0 else []


def digest_of(*parts: bytes | str) -> bytes:
    """One key of several things; the same bytes cut in another way give another."""
    hashed = hashlib.blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(struct.pack("<q", len(data)))
        hashed.update(data)
    return hashed.digest()


def _key(key: Callable[[_T], bytes], item: _T) -> bytes | None:
    try:
        return key(item)
    except OSError:  # of a file that cannot be read; what is computed of it says so
        return None


def _opened(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, "numpy")
    except (SafetensorError, OSError) as error:
        raise Fgclip2Error(f"the kept results {file} cannot be read ({error}); delete the file") from error
