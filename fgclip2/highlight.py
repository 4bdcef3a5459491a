"""Where phrases are in one picture: cosine maps, areas above a threshold, and their connected regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.features import DenseFeatures
from fgclip2.spaces import plain

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2


@dataclass(frozen=True)
class Region:
    """A connected area of a mask.

    Attributes:
        box: x1, y1, x2, y2 in pixels, tight: columns x1 to x2 - 1 and rows y1 to y2 - 1.
        pixels: of the area.
        mean: of the values in it.
        peak: the highest of them.
    """

    box: tuple[int, int, int, int]
    pixels: int
    mean: float
    peak: float


@dataclass(frozen=True, eq=False)
class Highlights:
    """What the patches of one picture score for several phrases.

    A threshold is a share, 0 to 1, of the way from a phrase's lowest cosine to its highest, because phrases have scales
    of their own; ``level`` says which cosine that is.

    Attributes:
        phrases: P texts.
        similarity: (P, h, w) float32 cosines.
        features: of the picture.
    """

    phrases: tuple[str, ...]
    similarity: np.ndarray = field(repr=False)
    features: DenseFeatures = field(repr=False)

    def level(self, number: int, share: float) -> float:
        """The cosine that a share of the range of phrase ``number`` is.

        Raises:
            Fgclip2Error: the share is not within 0 to 1.
        """
        if not 0 <= share <= 1:
            raise Fgclip2Error(f"the threshold {share} is not a share of a phrase's range; give 0 to 1")
        low, high = float(self.similarity[number].min()), float(self.similarity[number].max())
        return low + share * (high - low)

    def values(self, number: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) float32 cosines of phrase ``number``, enlarged bilinearly to ``size`` (width, height)."""
        return np.asarray(Image.fromarray(self.similarity[number]).resize(size, Image.Resampling.BILINEAR))

    def mask(self, number: int, share: float, size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool: where ``values`` reach ``level``."""
        return self.values(number, size) >= self.level(number, share)

    def regions(self, number: int, share: float, size: tuple[int, int]) -> list[Region]:
        """The connected regions of ``mask`` with their cosines, largest first."""
        return connected_regions(self.mask(number, share, size), self.values(number, size))

    def at(self, x: float, y: float) -> list[tuple[str, float]]:
        """The phrases by their cosine to the patch at a pixel of the picture, most similar first.

        Raises:
            Fgclip2Error: the pixel is outside the picture.
        """
        row, column = patch_at(self.features, x, y)
        cosines = self.similarity[:, row, column]
        return [(self.phrases[number], float(cosines[number])) for number in np.argsort(-cosines, kind="stable")]


def highlight(model: FGCLIP2, features: DenseFeatures, phrases: Sequence[str]) -> Highlights:
    """Compare a picture's patches with phrases.

    Args:
        model: made the features, and embeds the phrases with its ``box`` head.
        features: of the picture.
        phrases: at least one, English or Chinese.

    Raises:
        Fgclip2Error: no phrase, or an empty one.
    """
    if not phrases:
        raise Fgclip2Error("there is no phrase to look for; give at least one, such as 'a red car' or '黑猫'")
    similarity = features.similarity(model.text_features(list(phrases), kind="box"))
    return Highlights(tuple(phrases), similarity.float().cpu().numpy(), features)


def patch_at(features: DenseFeatures, x: float, y: float) -> tuple[int, int]:
    """Row and column of the patch at a pixel of the picture; x from the left, y from the top.

    Raises:
        Fgclip2Error: the pixel is outside the picture.
    """
    (rows, columns), (width, height) = features.grid, features.image_size
    if not (0 <= x < width and 0 <= y < height):
        raise Fgclip2Error(f"there is no pixel {x:g}, {y:g} in a picture of {width} x {height}; give one in it")
    return int(y * rows / height), int(x * columns / width)


def patch_box(features: DenseFeatures, x: float, y: float) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in pixels of the patch at a pixel; errors as ``patch_at``."""
    row, column = patch_at(features, x, y)
    across, down = features.image_size[0] / features.grid[1], features.image_size[1] / features.grid[0]
    return column * across, row * down, (column + 1) * across, (row + 1) * down


def self_similarity(features: DenseFeatures, x: float, y: float) -> np.ndarray:
    """(h, w) float32 cosines of every patch to the one at a pixel, which has 1 itself; errors as ``patch_at``."""
    row, column = patch_at(features, x, y)
    return torch.einsum("yxd,d->yx", plain(features.map), plain(features.map)[row, column]).cpu().numpy()


def connected_regions(mask: Any, values: Any) -> list[Region]:
    """The connected areas of a mask, largest first; pixels that touch at a corner are connected.

    Args:
        mask: (H, W) bool.
        values: (H, W) numbers, of which each region tells mean and peak.

    Raises:
        Fgclip2Error: the shapes are not the same (H, W), or OpenCV cannot be imported.
    """
    inside, numbers = np.asarray(mask, dtype=bool), np.asarray(values, dtype=np.float64)
    if inside.ndim != 2 or inside.shape != numbers.shape:
        raise Fgclip2Error(f"a mask of shape {inside.shape} and values of {numbers.shape}; give both as (H, W)")
    from fgclip2.opencv import require_opencv

    require_opencv("scenes")
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # 0 is what is outside the mask
    flat, chosen = labels[inside], numbers[inside]
    sums = np.bincount(flat, weights=chosen, minlength=count)
    peaks = np.full(count, -np.inf)
    np.maximum.at(peaks, flat, chosen)
    found = []
    for number in (np.argsort(-areas, kind="stable") + 1).tolist():
        left, top, width, height, pixels = stats[number].tolist()
        mean = float(sums[number] / pixels)
        found.append(Region((left, top, left + width, top + height), pixels, mean, float(peaks[number])))
    return found
