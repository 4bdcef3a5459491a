"""Feature vectors on disk, by what they are features of: computed once, shared by all tasks, kept between runs.

A store is a folder of safetensors shards that are written whole and never changed. Several processes may write into
one; each sees the others' vectors after ``reload``.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.records import Box
from fgclip2.files import write_atomically

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_FORMAT: Final = "1"
KEY_BYTES: Final = 16


class VectorStore:
    """Vectors by key.

    Args:
        folder: made when missing.
        width: length D of the vectors.

    Raises:
        Fgclip2Error: a shard there cannot be read, or holds vectors of another length.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self._shards: dict[Path, int] = {}  # file -> its number
        self._files: list[Path] = []
        self._where: dict[bytes, tuple[int, int]] = {}  # key -> number of the shard, row
        self.reload()

    @classmethod
    def of(cls, folder: Path, model: FGCLIP2) -> VectorStore:
        """The store of one model: the folder's name says which, and what it computed in, for that changes digits."""
        dtype = str(model.dtype).removeprefix("torch.")
        return cls(folder / f"{model.hash[:32]}-{dtype}", model.width)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: bytes) -> bool:
        return key in self._where

    def reload(self) -> None:
        """Learn of shards that were written since, by this process or another."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for file in sorted(self.folder.glob("*.safetensors")):
            if file in self._shards:
                continue
            try:
                shard = load_file(file)
                keys, vectors = shard["keys"].numpy(), shard["vectors"]
            except (SafetensorError, OSError, KeyError) as error:
                raise Fgclip2Error(f"the cached features {file} cannot be read ({error}); delete the file") from error
            if vectors.shape != (len(keys), self.width):
                raise Fgclip2Error(
                    f"{file} holds features of shape {tuple(vectors.shape)}, this model's have {self.width} numbers; "
                    "delete the file"
                )
            number = self._shards[file] = len(self._files)
            self._files.append(file)
            for row, key in enumerate(keys):
                self._where.setdefault(key.tobytes(), (number, row))

    def put(self, keys: Sequence[bytes], vectors: Tensor) -> None:
        """Write one shard.

        Args:
            keys: N, of `KEY_BYTES` bytes each.
            vectors: (N, D) float32.
        """
        from safetensors.torch import save

        if not keys:
            return
        table = torch.from_numpy(np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES).copy())
        data = save({"keys": table, "vectors": vectors.detach().float().cpu().contiguous()}, {"format": _FORMAT})
        write_atomically(self.folder / f"{uuid4().hex}.safetensors", data)
        self.reload()

    def get(self, keys: Sequence[bytes]) -> tuple[Tensor, Tensor]:
        """Vectors (N, D) float32 and whether each was there (N,) bool; the others are 0."""
        from safetensors.torch import load_file

        vectors, found = torch.zeros(len(keys), self.width), torch.zeros(len(keys), dtype=torch.bool)
        rows: dict[int, list[tuple[int, int]]] = {}
        for index, key in enumerate(keys):
            if key in self._where:
                shard, row = self._where[key]
                rows.setdefault(shard, []).append((index, row))
        for shard, pairs in rows.items():
            wanted, source = map(list, zip(*pairs, strict=True))
            vectors[wanted] = load_file(self._files[shard])["vectors"][source]
            found[wanted] = True
        return vectors, found


def digest(path: str | os.PathLike[str]) -> bytes:
    """Of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.blake2b(stream.read(), digest_size=KEY_BYTES).digest()


def image_key(content: bytes, max_patches: int | None) -> bytes:
    """Key of a whole picture's features."""
    return _key(b"image", content, _patches(max_patches))


def region_key(content: bytes, max_patches: int | None, box: Box) -> bytes:
    """Key of a region's features."""
    return _key(b"region", content, _patches(max_patches), struct.pack("<4d", *box))


def text_key(text: str, kind: str) -> bytes:
    """Key of a text's features."""
    return _key(b"text", kind.encode(), text.encode())


def _patches(max_patches: int | None) -> bytes:
    return str(max_patches).encode()


def _key(*parts: bytes) -> bytes:
    hashed = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        hashed.update(struct.pack("<q", len(part)))
        hashed.update(part)
    return hashed.digest()
