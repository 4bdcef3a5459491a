"""Training-free open-vocabulary detection: any detector's boxes, named by FG-CLIP 2's regions.

The paper's protocol (arXiv 2510.10921, open-vocabulary detection): RoIAlign of every box on one dense map, cosine to
all classes, softmax with a temperature, geometric mean with the detector's own score, best class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.features import Boxes, DenseFeatures
from fgclip2.vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy as np

    from fgclip2.images import ImageLike
    from fgclip2.predictor import FGCLIP2

Scores: TypeAlias = "Tensor | np.ndarray | Sequence[float] | Sequence[Sequence[float]]"


@dataclass(frozen=True)
class FusionConfig:
    """How a detector's score and FG-CLIP 2's probability become one."""

    temperature: float = 100.0
    """Multiplier of the cosine before the softmax over classes; 100 as in the paper's box classification."""
    exponent: float = 0.5
    """Weight of FG-CLIP 2's probability in the geometric mean, 0 to 1; the detector's score has the rest."""
    assign: Literal["best", "several"] = "best"
    """One class a box, or as many as score well."""
    max_detections: int = 300
    """A picture keeps so many, the best; 300 is LVIS's number."""
    nms_iou: float | None = None
    """Within a class, of boxes that overlap more than this only the best stays; None trusts the detector's own."""
    max_patches: int | None = None
    """Patches of the dense map; without it as many as the picture's size asks for."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise Fgclip2Error(f"fusion temperature {self.temperature}: give a number above 0, such as 100")
        if not 0 <= self.exponent <= 1:
            raise Fgclip2Error(f"fusion exponent {self.exponent}: give 0 (the detector alone) to 1 (FG-CLIP 2 alone)")
        if self.assign not in ("best", "several"):
            raise Fgclip2Error(f"fusion assign {self.assign!r}: choose 'best' or 'several'")
        if self.max_detections < 1:
            raise Fgclip2Error(f"fusion max_detections {self.max_detections}: give 1 or more")
        if self.nms_iou is not None and not 0 < self.nms_iou < 1:
            raise Fgclip2Error(f"fusion nms_iou {self.nms_iou}: give an overlap between 0 and 1, or None")


@dataclass(frozen=True, eq=False)
class Rescored:
    """Boxes of one picture with their new classes, best first.

    Attributes:
        boxes: (K, 4) float32 x1, y1, x2, y2 in pixels, inside the picture.
        scores: (K,) float32, 0..1.
        labels: (K,) int64, into ``names``.
        source: (K,) int64, which of the boxes that were given.
        names: the classes.
        outside: how many given boxes had no area inside the picture; they are not among ``boxes``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    source: Tensor
    names: tuple[str, ...]
    outside: int

    def __len__(self) -> int:
        return len(self.boxes)


class FusionRescorer:
    """Names the boxes of any detector by one dense map a picture.

    Args:
        model: FG-CLIP 2.
        vocabulary: the classes, made by the same model; or their names.
        config: how scores are joined.

    Raises:
        Fgclip2Error: a vocabulary of another model.
    """

    def __init__(
        self, model: FGCLIP2, vocabulary: Vocabulary | Sequence[str], config: FusionConfig | None = None
    ) -> None:
        if isinstance(vocabulary, Vocabulary):
            vocabulary.require(model)
            self.vocabulary = vocabulary.to(model.device)
        else:
            self.vocabulary = Vocabulary.build(model, vocabulary)
        self.model, self.config = model, config or FusionConfig()

    @torch.inference_mode()
    def __call__(self, image: ImageLike | DenseFeatures, boxes: Boxes, scores: Scores) -> Rescored:
        """Give boxes new classes and scores.

        Args:
            image: the picture, encoded once whatever the number of boxes; or its dense features.
            boxes: (M, 4) x1, y1, x2, y2 in pixels of the upright picture; M may be 0. What leaves it is cut off.
            scores: of the detector, 0..1: (M,) a box, or (M, C) one for each class of the vocabulary.

        Raises:
            Fgclip2Error: boxes or scores of another shape, or not finite.
        """
        config, names = self.config, self.vocabulary.names
        if isinstance(image, DenseFeatures):
            features = image
        else:
            features = self.model.dense_features(image, max_patches=config.max_patches)
        given, own = _checked(boxes, scores, len(names))
        width, height = features.image_size
        limit = given.new_tensor([width, height, width, height])
        clipped = given.clamp(min=0).minimum(limit)
        source = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1).nonzero()[:, 0]
        regions = features.regions(clipped[source])
        several = 1 if config.assign == "best" else min(len(names), config.max_detections)
        values, labels = best_classes(
            regions,
            self.vocabulary.embeddings.to(regions),
            own[source].to(regions.device),
            config.temperature,
            config.exponent,
            several,
        )
        # Suppression within classes needs more candidates than stay.
        candidates = values.numel() if config.nms_iou else min(values.numel(), config.max_detections)
        scored, order = values.flatten().topk(candidates)
        row = (order // max(1, values.shape[1])).cpu()
        kept, found = clipped[source[row]].to(scored.device), labels.flatten()[order]
        if config.nms_iou is not None:
            from torchvision.ops import batched_nms

            left = batched_nms(kept, scored, found, config.nms_iou)
            kept, scored, found, row = kept[left], scored[left], found[left], row[left.cpu()]
        top = slice(config.max_detections)
        return Rescored(
            kept[top], scored[top], found[top], source[row[top]].to(scored.device), names, len(given) - len(source)
        )


def best_classes(
    regions: Tensor,
    texts: Tensor,
    scores: Tensor,
    temperature: float,
    exponent: float,
    count: int = 1,
    chunk_size: int = 2048,
) -> tuple[Tensor, Tensor]:
    """The classes with the highest ``score^(1 - e) * softmax(temperature * cosine)^e`` of every region.

    The class axis is taken in chunks: what is kept of those seen are the sum under the softmax and the best so far, so
    memory does not grow with the number of classes.

    Args:
        regions: (M, D), unit length.
        texts: (C, D), unit length.
        scores: of the detector, 0..1, (M,) or (M, C).
        temperature: multiplier of the cosine.
        exponent: e, 0..1.
        count: classes wanted of every region, at most C.
        chunk_size: classes at a time.

    Returns:
        Fused scores (M, count), falling, and their classes int64 (M, count).
    """
    # A score of 0 becomes next to nothing, so that its box still has a best class.
    own = (1 - exponent) * scores.clamp_min(torch.finfo(torch.float32).tiny).log()
    total = regions.new_full((len(regions),), -math.inf)
    best = regions.new_empty((len(regions), 0))
    classes = torch.empty((len(regions), 0), dtype=torch.int64, device=regions.device)
    for start in range(0, len(texts), chunk_size):
        logits = temperature * regions @ texts[start : start + chunk_size].T
        total = torch.logaddexp(total, logits.logsumexp(1))
        joined = exponent * logits + (own[:, start : start + chunk_size] if own.ndim == 2 else own[:, None])
        index = torch.arange(start, start + logits.shape[1], device=regions.device).expand_as(logits)
        best, order = torch.cat([best, joined], 1).topk(min(count, best.shape[1] + joined.shape[1]), dim=1)
        classes = torch.cat([classes, index], 1).gather(1, order)
    return (best - exponent * total[:, None]).exp(), classes


def _checked(boxes: Boxes, scores: Scores, classes: int) -> tuple[Tensor, Tensor]:
    given = torch.as_tensor(boxes, dtype=torch.float32).cpu()
    own = torch.as_tensor(scores, dtype=torch.float32)
    given = given.reshape(0, 4) if given.numel() == 0 else given
    own = own.reshape(0) if own.numel() == 0 else own
    if given.ndim != 2 or given.shape[1] != 4:
        raise Fgclip2Error(f"boxes of shape {tuple(given.shape)}; give (M, 4) x1, y1, x2, y2 in pixels")
    if tuple(own.shape) not in ((len(given),), (len(given), classes)):
        raise Fgclip2Error(
            f"scores of shape {tuple(own.shape)} for {len(given)} boxes and {classes} classes; give one a box, "
            f"({len(given)},), or one for each class, ({len(given)}, {classes})"
        )
    if not bool(torch.isfinite(given).all()):
        raise Fgclip2Error("a box has numbers that are not finite; look at what the detector gave")
    if not bool(((own >= 0) & (own <= 1)).all()):
        raise Fgclip2Error("detector scores must lie in 0..1; put logits through a sigmoid or softmax first")
    return given, own
