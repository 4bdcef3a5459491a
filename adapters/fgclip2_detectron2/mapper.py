"""From a record of a data set to what the segmentor takes: picture and labels at whole patches."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.processing import MAX_PATCHES, grid_size
from fgclip2.tower import PATCH

from .datasets import segmentation_set

Cut = Callable[[np.ndarray], np.ndarray]
"""Crops and mirrors anything of a picture's size ``(H, W, ...)``."""

_Marks = TypeVar("_Marks")
Loader: TypeAlias = Callable[[dict[str, Any]], tuple[np.ndarray, _Marks]]
"""Reads a record: picture ``(H, W, 3)`` uint8 RGB, and what is marked in it."""


class Augmentation:
    """Draws crops and mirrorings.

    Args:
        max_patches: most patches a picture may have, only checked.
        crop: least and most share of the area that a crop keeps; (1, 1) keeps the picture.
        flip: chance of a mirrored picture.

    Raises:
        Fgclip2Error: a number out of range.
    """

    def __init__(self, max_patches: int, crop: tuple[float, float], flip: float) -> None:
        if not 1 <= max_patches <= MAX_PATCHES:
            raise Fgclip2Error(f"max_patches {max_patches}: give 1 to {MAX_PATCHES:,}")
        if not 0 < crop[0] <= crop[1] <= 1:
            raise Fgclip2Error(f"crop {tuple(crop)}: give two shares, 0 < least <= most <= 1")
        self.crop, self.flip = (float(crop[0]), float(crop[1])), flip

    def draw(self, height: int, width: int) -> Cut:
        """One for a picture; from numpy's global state, as everywhere in detectron2, which seeds it in every loader."""
        side = math.sqrt(np.random.uniform(*self.crop))
        h, w = max(1, round(side * height)), max(1, round(side * width))
        top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
        step = -1 if np.random.rand() < self.flip else 1

        def cut(whole: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(whole[top : top + h, left : left + w][:, ::step])

        return cut


class Mapper(ABC, Generic[_Marks]):
    """What detectron2's mappers of this package share.

    Args:
        dataset: name of the registered set.
        max_patches: most patches a picture may have; it is resized to whole ones, aspect kept.
        train: flip and crop at random, and resize labels or masks along with the picture.
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
        self.load = self.loader(dataset)
        self.max_patches, self.train = max_patches, train
        self.augmentation = Augmentation(max_patches, crop, flip)

    @staticmethod
    @abstractmethod
    def loader(dataset: str) -> Loader[_Marks]:
        """What reads the records of a registered set; an error where the set is of another kind."""

    @abstractmethod
    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Read and prepare one record."""


class SegmentationMapper(Mapper[np.ndarray]):
    """detectron2's mapper for open-vocabulary segmentation; arguments are `Mapper`'s."""

    @staticmethod
    def loader(dataset: str) -> Loader[np.ndarray]:
        """Reads picture and labels."""
        return segmentation_set(dataset).load

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Read and prepare one record.

        Returns:
            The record with ``image`` ``(3, h, w)`` uint8 RGB of whole patches; ``sem_seg`` int64 labels, of the same
            size in training and of the original picture's otherwise; original ``height`` and ``width``.
        """
        pixels, labels = self.load(record)
        height, width = labels.shape
        if self.train:
            cut = self.augmentation.draw(height, width)
            pixels, labels = cut(pixels), cut(labels)
        image = whole_patches(pixels, self.max_patches)
        if self.train:
            size = (image.shape[-1], image.shape[-2])
            labels = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        return {
            **record,
            "image": image,
            "sem_seg": torch.from_numpy(labels.astype(np.int64)),
            "height": height,
            "width": width,
        }


def whole_patches(pixels: np.ndarray, max_patches: int) -> torch.Tensor:
    """A picture ``(H, W, 3)`` uint8 resized to whole patches, ``(3, h, w)`` uint8, aspect kept as far as they allow."""
    rows, columns = grid_size(pixels.shape[1], pixels.shape[0], max_patches, PATCH)
    picture = Image.fromarray(pixels).resize((columns * PATCH, rows * PATCH), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy())
