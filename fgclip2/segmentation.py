"""Training-free segmentation: every pixel gets the class whose text is nearest to its dense feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.features import DenseFeatures
from fgclip2.images import ImageLike, open_image
from fgclip2.processing import MAX_PATCHES
from fgclip2.vocabulary import ClassNames, Vocabulary

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

BACKGROUND: Final = -1
"""The label of a pixel that is none of the classes."""

_SCORE_BYTES: Final = 256 * 2**20  # of full-size score maps at a time, when no chunk of classes is asked for


@dataclass(frozen=True)
class SegmentationConfig:
    """How a picture is segmented without training.

    Attributes:
        max_patches: patches of the picture, or of each tile, 1 to 16,384. More show smaller things, up to where the
            model was trained.
        tile: side of square tiles in pixels; ``None`` takes the picture whole.
        overlap: share of a tile's side that it shares with the next, 0 to 0.9; scores are blended there.
        threshold: cosine below which a pixel is background; ``None`` gives every pixel a class.
        background: phrases that compete with the classes, such as ``("plain wall", "天空")``; what they win is
            background.
        refine: let the scores follow the picture's edges (guided filter, He et al. 2010).
        radius: of that filter, in pixels.
        epsilon: of that filter: how much contrast, squared and on a scale of 0 to 1, is an edge.
        class_chunk: classes whose full-size scores are held together; ``None`` takes what fits 256 MiB. Results do not
            depend on it.

    Raises:
        Fgclip2Error: a value out of range.
    """

    max_patches: int = 4096
    tile: int | None = None
    overlap: float = 0.25
    threshold: float | None = None
    background: tuple[str, ...] = ()
    refine: bool = False
    radius: int = 8
    epsilon: float = 1e-3
    class_chunk: int | None = None

    def __post_init__(self) -> None:
        wrong = {
            f"max_patches {self.max_patches}: give 1 to {MAX_PATCHES:,}": not 1 <= self.max_patches <= MAX_PATCHES,
            f"tile {self.tile}: give at least 32 pixels, or None": self.tile is not None and self.tile < 32,
            f"overlap {self.overlap}: give a share from 0 to 0.9": not 0 <= self.overlap <= 0.9,
            f"threshold {self.threshold}: cosines are -1 to 1": not -1 <= (self.threshold or 0) <= 1,
            f"radius {self.radius}: give at least 1 pixel": self.radius < 1,
            f"epsilon {self.epsilon}: give more than 0": self.epsilon <= 0,
            f"class_chunk {self.class_chunk}: give at least 1, or None": self.class_chunk is not None
            and self.class_chunk < 1,
        }
        for problem, found in wrong.items():
            if found:
                raise Fgclip2Error(f"SegmentationConfig: {problem}")


@dataclass(frozen=True, eq=False)
class Segmentation:
    """One picture's labels.

    Attributes:
        names: C class names.
        labels: ``(H, W)`` int32, index into ``names``; -1 is background.
        scores: ``(H, W)`` float32, the score of each pixel's label; of the best class where it is background.
    """

    names: tuple[str, ...]
    labels: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)

    def areas(self) -> list[dict[str, Any]]:
        """The classes that are there, largest first: ``name``, ``pixels``, ``share`` of the picture, mean ``score``."""
        flat = self.labels.reshape(-1)
        pixels = np.bincount(flat + 1, minlength=len(self.names) + 1)[1:]
        sums = np.bincount(flat + 1, weights=self.scores.reshape(-1), minlength=len(self.names) + 1)[1:]
        found = sorted(np.flatnonzero(pixels).tolist(), key=lambda index: -int(pixels[index]))
        return [
            {
                "name": self.names[index],
                "pixels": int(pixels[index]),
                "share": round(float(pixels[index] / flat.size), 6),
                "score": round(float(sums[index] / pixels[index]), 4),
            }
            for index in found
        ]

    def mask_image(self) -> Image.Image:
        """An index picture: 0 is background, k + 1 is class k; 8 bit up to 255 classes, else 16 bit.

        ``fgclip2 eval`` takes maps with classes from 0, which ``seg_train.py --eval-only --predictions`` writes.
        """
        values = self.labels + 1
        return Image.fromarray(values.astype(np.uint8 if len(self.names) < 256 else np.uint16))


class _Tile(NamedTuple):
    left: int
    top: int
    features: DenseFeatures


class Best:
    """The best class of every pixel, found chunk by chunk.

    Args:
        height, width: of the maps.
        device: of the maps.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        self.scores = torch.full((height, width), -torch.inf, device=device)
        self.labels = torch.zeros((height, width), dtype=torch.int64, device=device)

    def add(self, scores: Tensor, indices: Tensor) -> None:
        """Let classes ``indices`` ``(t,)`` with maps ``(t, H, W)`` compete; of equals the earlier one stays."""
        value, position = scores.max(dim=0)
        better = value > self.scores
        self.scores = torch.where(better, value, self.scores)
        self.labels = torch.where(better, indices.to(position.device)[position], self.labels)


class DenseSegmentor:
    """Names every pixel by the cosine of the dense map to class texts.

    Args:
        predictor: the model.
        classes: names in any mix of languages, with or without synonyms, or a vocabulary of this model.
        config: how; ``None`` for the defaults.
        templates: prompts with ``{}`` for the name, averaged; ``None`` takes the names alone.

    Raises:
        Fgclip2Error: no name, a repeated one, or a vocabulary of another model.
    """

    def __init__(
        self,
        predictor: FGCLIP2,
        classes: Vocabulary | ClassNames,
        config: SegmentationConfig | None = None,
        templates: Sequence[str] | None = None,
    ) -> None:
        self.predictor = predictor
        self.config = config or SegmentationConfig()
        if isinstance(classes, Vocabulary):
            classes.require(predictor)
            vocabulary = classes
        else:
            vocabulary = Vocabulary.build(predictor, classes, templates)
        self.names = vocabulary.names
        texts = vocabulary.embeddings.to(predictor.device)
        if self.config.background:
            phrases = Vocabulary.build(predictor, self.config.background)
            texts = torch.cat([texts, phrases.embeddings.to(predictor.device)])
        self.texts = texts  # (C + background phrases, D)

    def __call__(self, image: ImageLike) -> Segmentation:
        """Segment one picture.

        Args:
            image: anything ``open_image`` takes.

        Raises:
            Fgclip2Error: the picture cannot be read, or OpenCV is missing for ``refine``.
        """
        opened = open_image(image)
        tiles = list(self._encode(opened))
        best = self._best(tiles, opened.size, torch.arange(len(self.texts)))
        if self.config.refine:
            best = self._best(tiles, opened.size, best.labels.unique().cpu(), guide=opened)
        labels = best.labels
        nothing = labels >= len(self.names)
        if self.config.threshold is not None:
            nothing = nothing | (best.scores < self.config.threshold)
        labels = labels.masked_fill(nothing, BACKGROUND)
        return Segmentation(self.names, labels.int().cpu().numpy(), best.scores.cpu().numpy())

    def score_maps(self, image: ImageLike) -> Tensor:
        """Cosines ``(C, H, W)`` of every class at the picture's size: ``4 C H W`` bytes; not refined."""
        opened = open_image(image)
        return self._scores(list(self._encode(opened)), opened.size, self.texts[: len(self.names)])

    def _best(
        self, tiles: Sequence[_Tile], size: tuple[int, int], classes: Tensor, guide: Image.Image | None = None
    ) -> Best:
        width, height = size
        best = Best(height, width, self.texts.device)
        chunk = self.config.class_chunk or max(1, _SCORE_BYTES // (4 * width * height))
        for indices in classes.split(chunk):
            scores = self._scores(tiles, size, self.texts[indices.to(self.texts.device)])
            if guide is not None:
                scores = guided_filter(guide, scores, self.config.radius, self.config.epsilon)
            best.add(scores, indices)
        return best

    def _encode(self, image: Image.Image) -> Iterator[_Tile]:
        side = self.config.tile or max(image.size)
        for top, height in _spans(image.height, side, self.config.overlap):
            for left, width in _spans(image.width, side, self.config.overlap):
                part = image.crop((left, top, left + width, top + height))
                yield _Tile(left, top, self.predictor.dense_features(part, max_patches=self.config.max_patches))

    def _scores(self, tiles: Sequence[_Tile], size: tuple[int, int], texts: Tensor) -> Tensor:
        """Cosines ``(t, H, W)`` of some texts, blended over tiles by weights that fall towards their edges."""
        if len(tiles) == 1:
            return tiles[0].features.similarity_map(texts)
        width, height = size
        total = texts.new_zeros(len(texts), height, width)
        weights = texts.new_zeros(height, width)
        for left, top, features in tiles:
            w, h = features.image_size
            weight = _ramp(h, self.config.overlap).outer(_ramp(w, self.config.overlap)).to(texts)
            total[:, top : top + h, left : left + w] += features.similarity_map(texts) * weight
            weights[top : top + h, left : left + w] += weight
        return total / weights


def guided_filter(guide: ImageLike, maps: Tensor, radius: int, epsilon: float) -> Tensor:
    """Smooth maps within the areas of a picture, not across its edges (He, Sun and Tang 2010, grey guide).

    Args:
        guide: picture of the maps' size.
        maps: ``(t, H, W)``.
        radius: of the square windows, in pixels.
        epsilon: contrast, squared and on a scale of 0 to 1, that is kept.

    Raises:
        Fgclip2Error: sizes differ, or OpenCV cannot be imported.
    """
    from fgclip2.opencv import require_opencv

    require_opencv("scenes")
    import cv2

    grey = np.asarray(open_image(guide).convert("L"), dtype=np.float32) / 255
    if maps.shape[-2:] != grey.shape:
        raise Fgclip2Error(f"maps of {tuple(maps.shape[-2:])} for a picture of {grey.shape}; they must be of one size")
    side = 2 * radius + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (side, side), borderType=cv2.BORDER_REFLECT)

    average = mean(grey)
    variance = mean(grey * grey) - average * average
    smoothed = []
    for values in maps.float().cpu().numpy():
        level = mean(values)
        slope = (mean(grey * values) - average * level) / (variance + epsilon)
        smoothed.append(mean(slope) * grey + mean(level - slope * average))
    return torch.from_numpy(np.stack(smoothed)).to(maps)


def _spans(length: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    """Starts and lengths of the tiles along one side: equal, overlapping by the share or more, covering everything."""
    if length <= tile:
        return [(0, length)]
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    return [(round(index * (length - tile) / (count - 1)), tile) for index in range(count)]


def _ramp(length: int, overlap: float) -> Tensor:
    """Weights ``(length,)`` in (0, 1], rising from both ends over the overlap."""
    reach = max(1.0, overlap * length)
    distance = torch.arange(length) + 0.5
    return (torch.minimum(distance, length - distance) / reach).clamp_max(1.0)
