"""From a record of a data set to what the segmentor takes: picture and labels at whole patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.processing import MAX_PATCHES, grid_size
from fgclip2.tower import PATCH

from .datasets import segmentation_set


class SegmentationMapper:
    """detectron2's mapper for open-vocabulary segmentation.

    Args:
        dataset: name of the registered set.
        max_patches: most patches a picture may have; it is resized to whole ones, aspect kept.
        train: flip and crop at random, and resize labels along with the picture.
        crop: least and most share of the area that a training crop keeps; (1, 1) keeps the picture.
        flip: chance of a mirrored training picture.

    Raises:
        Fgclip2Error: no such data set, or a number out of range.
    """

    def __init__(
        self,
        dataset: str,
        max_patches: int = 1024,
        train: bool = False,
        crop: tuple[float, float] = (1.0, 1.0),
        flip: float = 0.5,
    ) -> None:
        if not 1 <= max_patches <= MAX_PATCHES:
            raise Fgclip2Error(f"SegmentationMapper max_patches {max_patches}: give 1 to {MAX_PATCHES:,}")
        if not 0 < crop[0] <= crop[1] <= 1:
            raise Fgclip2Error(f"SegmentationMapper crop {tuple(crop)}: give two shares, 0 < least <= most <= 1")
        self.load = segmentation_set(dataset).load
        self.max_patches, self.train, self.flip = max_patches, train, flip
        self.crop = (float(crop[0]), float(crop[1]))

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Read and prepare one record.

        Returns:
            The record with ``image`` ``(3, h, w)`` uint8 RGB of whole patches; ``sem_seg`` int64 labels, of the same
            size in training and of the original picture's otherwise; original ``height`` and ``width``.
        """
        pixels, labels = self.load(record)
        height, width = labels.shape
        if self.train:
            pixels, labels = self._augmented(pixels, labels)
        rows, columns = grid_size(labels.shape[1], labels.shape[0], self.max_patches, PATCH)
        size = (columns * PATCH, rows * PATCH)
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
        if self.train:
            labels = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        return {
            **record,
            "image": torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy()),
            "sem_seg": torch.from_numpy(labels.astype(np.int64)),
            "height": height,
            "width": width,
        }

    def _augmented(self, pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # numpy's global state, as everywhere in detectron2, which seeds it in every loading process
        height, width = labels.shape
        side = math.sqrt(np.random.uniform(*self.crop))
        h, w = max(1, round(side * height)), max(1, round(side * width))
        top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
        pixels, labels = (part[top : top + h, left : left + w] for part in (pixels, labels))
        if np.random.rand() < self.flip:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        return np.ascontiguousarray(pixels), np.ascontiguousarray(labels)
