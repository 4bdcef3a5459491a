"""Masks of things kept small: as COCO's run lengths, or as squares that are painted when somebody asks for them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import numpy as np

from fgclip2.data.outlines import checked_outline, looks_normalized
from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    from fgclip2.data.coco import CocoAnnotation, CocoImage

_THIN: Final = 2.0  # pixels of a box's shorter side; an outline in it may lie between the middles of pixels

RunLengths: TypeAlias = dict[str, Any]
"""COCO's compressed form as JSON has it: ``{"size": [height, width], "counts": text}``."""


def encode(mask: np.ndarray) -> RunLengths:
    """``(H, W)`` bool as run lengths."""
    from pycocotools import mask as coco_mask  # comes with the detectors, which alone make masks

    run = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": run["counts"].decode()}


def decode(run: RunLengths) -> np.ndarray:
    """Compressed run lengths as ``(H, W)`` bool."""
    from pycocotools import mask as coco_mask

    return np.asarray(coco_mask.decode(run), dtype=bool)


def run_lengths(item: CocoAnnotation, image: CocoImage) -> RunLengths:
    """An annotation's polygons or run lengths as compressed run lengths.

    What is thinner than a pixel and covers none gets its box's.

    Raises:
        Fgclip2Error: there are none, they are damaged, of another size than the image, or cover no pixel of it.
    """
    from pycocotools import mask as coco_mask

    if not item.segmentation:
        raise Fgclip2Error(f"annotation {item.id} has no 'segmentation'")
    try:
        outline, _ = checked_outline(item.segmentation, image.width, image.height)
    except Fgclip2Error as error:
        raise Fgclip2Error(f"the mask of annotation {item.id} cannot be read ({error})") from error
    if isinstance(outline, list):
        run = coco_mask.merge(coco_mask.frPyObjects(outline, image.height, image.width))
    elif isinstance(outline["counts"], list):
        run = coco_mask.frPyObjects(outline, image.height, image.width)
    else:
        counts = outline["counts"]
        run = {"size": outline["size"], "counts": counts.encode() if isinstance(counts, str) else counts}
    if float(coco_mask.area(run)):
        return {"size": list(run["size"]), "counts": run["counts"].decode()}
    x1, y1, x2, y2 = item.box
    if min(x2 - x1, y2 - y1) < _THIN:
        return _box_mask(item, image)
    hint = ", as if coordinates were shares of the image" if looks_normalized(outline, item.box) else ""
    raise Fgclip2Error(f"the mask of annotation {item.id} covers no pixel of its box {list(item.box)}{hint}")


def _box_mask(item: CocoAnnotation, image: CocoImage) -> RunLengths:
    """What is thinner than a pixel leaves an empty mask; its box stands for it."""
    mask = np.zeros((image.height, image.width), bool)
    x1, y1, x2, y2 = item.box
    mask[math.floor(y1) : max(math.floor(y1) + 1, round(y2)), math.floor(x1) : max(math.floor(x1) + 1, round(x2))] = (
        True
    )
    return encode(mask)


@dataclass(frozen=True, eq=False)
class BoxMasks:
    """Masks that lie in boxes, small as a head gives them: memory grows with their number, not with the picture.

    Iterating paints one ``(H, W)`` bool after the other; indices are numpy's along the first axis, and keep it.

    Attributes:
        shares: ``(K, m, m)`` float32, rows before columns: how surely a cell of the box belongs to the thing, 0..1.
        boxes: ``(K, 4)`` float32 x1, y1, x2, y2 in pixels of the picture, and may leave it.
        size: the picture's width and height.
        threshold: a pixel belongs to the thing from this share on.

    Raises:
        Fgclip2Error: shapes that do not fit together.
    """

    shares: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.shares.ndim != 3 or self.boxes.shape != (len(self.shares), 4):
            raise Fgclip2Error(
                f"shares of shape {self.shares.shape} and boxes of shape {self.boxes.shape}; give (K, m, m) and (K, 4)"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Self:
        return replace(self, shares=self.shares[index], boxes=self.boxes[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.ascontiguousarray(self._painted(index)) for index in range(len(self)))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """The masks of several as one; all of one picture and at least one."""
        shares, boxes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("shares", "boxes"))
        return replace(parts[0], shares=shares, boxes=boxes)

    def moved(self, x: int, y: int, size: tuple[int, int]) -> Self:
        """The same masks in a picture of another size, so many pixels to the right and down."""
        return replace(self, boxes=self.boxes + np.array([x, y, x, y], self.boxes.dtype), size=size)

    def array(self) -> np.ndarray:
        """All of them painted, ``(K, H, W)`` bool: K H W bytes."""
        width, height = self.size
        painted = np.zeros((len(self), height, width), bool)
        for index, mask in enumerate(self):
            painted[index] = mask
        return painted

    def run_lengths(self) -> list[RunLengths]:
        """Each as COCO's run lengths, painted one at a time."""
        return [encode(self._painted(index)) for index in range(len(self))]

    def _painted(self, index: int) -> np.ndarray:
        """``(H, W)`` bool, columns after each other, as run lengths go: between cells' middles shares are bilinear."""
        width, height = self.size
        mask = np.zeros((height, width), bool, order="F")
        x1, y1, x2, y2 = self.boxes[index].tolist()
        rows, down = _weights(y1, y2, height, self.shares.shape[1])
        columns, across = _weights(x1, x2, width, self.shares.shape[2])
        mask[rows, columns] = down @ self.shares[index] @ across.T >= self.threshold
        return mask


def _weights(low: float, high: float, length: int, cells: int) -> tuple[slice, np.ndarray]:
    """Pixels of an axis whose middles a box covers, and how much of each of its cells they take, ``(n, cells)``.

    Beyond the middles of the outermost cells these alone count, so that a full box stays full up to its edges.
    """
    first, last = (min(max(math.ceil(edge - 0.5), 0), length) for edge in (low, high))
    middles = np.arange(first, max(first, last), dtype=np.float32) + 0.5
    place = np.clip((middles - low) / max(high - low, 1e-6) * cells - 0.5, 0, cells - 1)
    weights = 1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32))
    return slice(first, first + len(middles)), weights.clip(min=0).astype(np.float32)
