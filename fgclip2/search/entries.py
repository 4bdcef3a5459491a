"""What a store takes: one picture with its vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fgclip2.errors import Fgclip2Error

Value = str | int | float | bool | list[str] | None
"""Of a column of metadata; one column holds one type."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One picture to store.

    Attributes:
        name: where it is, relative to the store's root; a live picture of this name is replaced.
        sha256: of its file's contents, in hexadecimal.
        size: (width, height) in pixels, upright.
        vector: (D,) unit length, of the whole picture.
        regions: (K, D) unit length; K at least 1.
        boxes: (K, 4) x1, y1, x2, y2 in pixels.
        extra: further columns of the metadata, to filter by.
        given: how many of the regions, the first ones, are of boxes that came with the picture.
    """

    name: str
    sha256: str
    size: tuple[int, int]
    vector: np.ndarray
    regions: np.ndarray
    boxes: np.ndarray
    extra: Mapping[str, Value] = field(default_factory=dict)
    given: int = 0

    def check(self, dimension: int) -> None:
        """See that it can be stored with vectors of ``dimension`` numbers.

        Raises:
            Fgclip2Error: shapes do not fit, or vectors are not of unit length.
        """
        count = len(self.regions)
        shapes = (self.vector.shape, self.regions.shape, self.boxes.shape)
        if shapes != ((dimension,), (count, dimension), (count, 4)) or not count:
            raise Fgclip2Error(
                f"{self.name!r} has vectors, regions and boxes of shapes {shapes}; this store takes ({dimension},), "
                f"(K, {dimension}) and (K, 4) with K of at least 1"
            )
        for values in (self.vector[None], self.regions):
            lengths = np.linalg.norm(values.astype(np.float32), axis=1)
            if not np.allclose(lengths, 1, atol=1e-2):  # also false for nan
                raise Fgclip2Error(f"{self.name!r} has vectors of length {lengths.min():g}; they must have unit length")


def stacked(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The tensors of a shard: vectors of pictures and of regions in float16, boxes, and regions a picture."""
    return {
        "pictures": np.stack([entry.vector for entry in entries]).astype(np.float16),
        "regions": np.concatenate([entry.regions for entry in entries]).astype(np.float16),
        "boxes": np.concatenate([entry.boxes for entry in entries]).astype(np.float32),
        "counts": np.array([len(entry.regions) for entry in entries], np.int64),
    }
