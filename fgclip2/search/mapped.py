"""Tensors of ``.safetensors`` files as memory maps."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from fgclip2.errors import Fgclip2Error

_DTYPES: Final = {"F16": np.float16, "F32": np.float32, "I64": np.int64, "U8": np.uint8}


def map_tensors(file: Path) -> dict[str, np.ndarray]:
    """Memory-map a ``.safetensors`` file: tensors by name, read-only, no copy.

    safetensors' own reader copies to numpy; the format is eight bytes of header length, a JSON header, the data.

    Raises:
        Fgclip2Error: the file is damaged or cut short.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size - 8:
                raise ValueError(f"its header claims {length:,} bytes")
            header = json.loads(stream.read(length))
        data = np.asarray(np.memmap(file, np.uint8, mode="r", offset=8 + length)) if _has_data(header) else None
        tensors = {}
        for name, item in header.items():
            if name != "__metadata__":
                (start, end), dtype = item["data_offsets"], np.dtype(_DTYPES[item["dtype"]])
                if end - start != math.prod(item["shape"]) * dtype.itemsize or (data is not None and end > len(data)):
                    raise ValueError(f"{name} does not fit")
                raw = np.zeros(0, np.uint8) if data is None else data[start:end]
                tensors[name] = raw.view(dtype).reshape(item["shape"])
        return tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Fgclip2Error(f"{file} cannot be read ({error}); index again with --repair") from error


def to_safetensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Arrays as a ``.safetensors`` file, whatever their order in memory.

    safetensors' own writer for numpy stores memory as it lies, so a transposed array would come back scrambled.
    """
    from safetensors.numpy import save

    rows = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data: bytes = save(rows, metadata=None if metadata is None else dict(metadata))
    return data


def let_go(array: np.ndarray) -> None:
    """Take the pages of a mapped array out of this process's memory, where they count as long as they are mapped.

    A row brings its neighbours of 64 KB with it: a few hundred queries would make a store of gigabytes resident. The
    system's cache keeps what was read, so the next access is no read from disk, and other threads may be reading.
    """
    owner: object = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def _has_data(header: Mapping[str, Any]) -> bool:
    return any(item["data_offsets"][1] > 0 for name, item in header.items() if name != "__metadata__")
