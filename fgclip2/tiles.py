"""Large pictures in overlapping tiles: which, and how what was found in each becomes one list."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from fgclip2.detections import MaskedDetections
from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import Detections

if TYPE_CHECKING:
    from PIL import Image

Finder: TypeAlias = "Callable[[Sequence[Image.Image]], list[Detections]]"
"""Upright RGB pictures to what is in each."""
Window: TypeAlias = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, the last two exclusive."""

_COVERED: Final = 0.7  # share of a cut box that another one must cover to take its place
_EDGE: Final = 0.01  # of a tile's side: a box that ends so near to an inner edge is taken as cut there


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut; an object no larger than the overlap lies whole in at least one tile."""

    side: int = 1024
    """Width and height of a tile in pixels; pictures that fit into one are not cut."""
    overlap: float = 0.25
    """Of neighbours, as a share of the side, 0 to 0.9; they overlap more where the picture would not come out even."""
    whole: bool = True
    """Also look at the whole picture at once, which finds what is larger than a tile."""
    nms_iou: float = 0.5
    """Of boxes of one class that overlap more than this the best one stays."""
    max_detections: int | None = None
    """Most boxes of a picture, the best of all tiles; ``None`` for all."""

    def __post_init__(self) -> None:
        if self.side < 32:
            raise Fgclip2Error(f"tiles of {self.side} pixels: give a side of 32 or more")
        if not 0 <= self.overlap <= 0.9:
            raise Fgclip2Error(f"tiles that overlap by {self.overlap}: give a share of the side from 0 to 0.9")
        if not 0 < self.nms_iou <= 1:
            raise Fgclip2Error(f"tiles with nms_iou {self.nms_iou}: give an overlap above 0 and up to 1")
        if self.max_detections is not None and self.max_detections < 1:
            raise Fgclip2Error(f"tiles with max_detections {self.max_detections}: give 1 or more, or None")

    def windows(self, size: tuple[int, int]) -> list[Window]:
        """Tiles of a picture of this width and height, row by row: they cover it, and none leaves it."""
        columns, rows = (self._starts(length) for length in size)
        width, height = (min(self.side, length) for length in size)
        return [(x, y, x + width, y + height) for y in rows for x in columns]

    def _starts(self, length: int) -> list[int]:
        """Evenly spread, so that no tile is a strip at the end."""
        if length <= self.side:
            return [0]
        step = max(1, self.side - math.ceil(self.overlap * self.side))
        count = math.ceil((length - self.side) / step) + 1
        return [index * (length - self.side) // (count - 1) for index in range(count)]


class TiledFinder:
    """Finds in large pictures tile by tile; smaller ones pass through as they are.

    Args:
        find: what looks at a batch of pictures.
        tiling: how pictures are cut.
        batch_size: tiles looked at together.

    Attributes:
        tiles: how many tiles and whole pictures were looked at so far.
        cut: boxes so far beyond the tiling's ``max_detections`` of a picture.
    """

    def __init__(self, find: Finder, tiling: Tiling, batch_size: int = 4) -> None:
        self.find, self.tiling, self.batch_size = find, tiling, batch_size
        self.tiles = self.cut = 0

    def __call__(self, images: Sequence[Image.Image]) -> list[Detections]:
        """What is in each picture, best first."""
        windows = [self._windows(image) for image in images]
        crops = (
            image if window == (0, 0, *image.size) else image.crop(window)
            for image, own in zip(images, windows, strict=True)
            for window in own
        )
        found = self._in_batches(crops)
        return [
            self._best(merge_tiles([next(found) for _ in own], own, image.size, self.tiling.nms_iou))
            if len(own) > 1
            else next(found)
            for image, own in zip(images, windows, strict=True)
        ]

    def _best(self, merged: Detections) -> Detections:
        most = self.tiling.max_detections
        if most is None or len(merged) <= most:
            return merged
        self.cut += len(merged) - most
        best = merged.boxes[:most], merged.scores[:most], merged.labels[:most]
        if isinstance(merged, MaskedDetections):
            return MaskedDetections(*best, merged.masks[:most], names=merged.names)
        return Detections(*best, names=merged.names)

    def _windows(self, image: Image.Image) -> list[Window]:
        windows = self.tiling.windows(image.size)
        whole = [(0, 0, *image.size)] if self.tiling.whole and len(windows) > 1 else []
        self.tiles += len(windows) + len(whole)
        return windows + whole

    def _in_batches(self, crops: Iterator[Image.Image]) -> Iterator[Detections]:
        while batch := list(islice(crops, self.batch_size)):
            yield from self.find(batch)


def merge_tiles(
    found: Sequence[Detections], windows: Sequence[Window], size: tuple[int, int], nms_iou: float
) -> Detections:
    """Detections of overlapping tiles as one list, best first; with masks if those of all tiles have them.

    A box that ends at its tile's inner edge probably shows a part of something. It goes when a box of its class that is
    not cut covers most of it, whatever their scores; when there is none, the part is better than nothing and stays.
    Then comes class-aware suppression.

    Args:
        found: of each tile, boxes in its own pixels.
        windows: the tiles' places.
        size: width and height of the picture.
        nms_iou: of boxes of one class that overlap more, only the best stays.
    """
    import torch

    from fgclip2.suppression import suppress

    moved = [
        item.boxes.reshape(-1, 4) + np.array([*window[:2]] * 2, dtype=np.float32)
        for item, window in zip(found, windows, strict=True)
    ]
    boxes = np.concatenate(moved).astype(np.float32)
    scores = np.concatenate([item.scores for item in found]).astype(np.float32)
    labels = [label for item in found for label in item.labels]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    classes = np.array([numbers[label] for label in labels], dtype=np.int64)
    cut = np.concatenate([_cut(own, window, size) for own, window in zip(moved, windows, strict=True)])
    left = np.flatnonzero(~_replaced(boxes, classes, cut))
    own, sure, of = (torch.from_numpy(values[left]) for values in (boxes, scores, classes))
    kept = suppress(own, sure, of, nms_iou)
    chosen = left[kept.numpy()]
    left_over = boxes[chosen], scores[chosen], tuple(labels[index] for index in chosen)
    names = next((item.names for item in found if item.names), ())
    outlined = [item for item in found if isinstance(item, MaskedDetections)]
    if len(outlined) < len(found):
        return Detections(*left_over, names=names)
    placed = [item.masks.moved(*window[:2], size) for item, window in zip(outlined, windows, strict=True)]
    return MaskedDetections(*left_over, placed[0].cat(placed)[chosen], names=names)


def _cut(boxes: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """(M,) whether a box ends at an edge of its tile that is not the picture's."""
    x1, y1, x2, y2 = window
    slack = _EDGE * max(x2 - x1, y2 - y1)
    ends = boxes - np.array(window, dtype=np.float32)
    inner = np.array([x1 > 0, y1 > 0, x2 < size[0], y2 < size[1]])
    return ((np.abs(ends) <= slack) & inner).any(1)


def _replaced(boxes: np.ndarray, classes: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """(M,) whether a box is cut, and a box of its class that is not cut covers most of it."""
    replaced = np.zeros(len(boxes), dtype=bool)
    for number in np.unique(classes[cut]):
        parts, wholes = (np.flatnonzero((classes == number) & flag) for flag in (cut, ~cut))
        low = np.maximum(boxes[parts, None, :2], boxes[wholes, :2])
        high = np.minimum(boxes[parts, None, 2:], boxes[wholes, 2:])
        shared = (high - low).clip(min=0).prod(-1)  # (parts, wholes)
        areas = (boxes[parts, 2:] - boxes[parts, :2]).prod(-1)
        replaced[parts] = (shared >= _COVERED * areas[:, None]).any(1)
    return replaced
