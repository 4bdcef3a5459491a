"""Training-free open-vocabulary detection: any detector's boxes, named by FG-CLIP 2's regions.

The paper's protocol (arXiv 2510.10921, open-vocabulary detection): RoIAlign of every box on one dense map, cosine to
all classes, softmax with a temperature, geometric mean with the detector's own score, best class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.features import Boxes, DenseFeatures
from fgclip2.suppression import suppress
from fgclip2.vocabulary import ClassNames, Vocabulary, same_classes

if TYPE_CHECKING:
    import supervision as sv
    from PIL import Image

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
    """The best class of every box, or the best pairs of box and class."""
    max_detections: int = 300
    """A picture keeps so many, the best; 300 is LVIS's number."""
    nms_iou: float | None = None
    """Within a class, of boxes that overlap more than this only the best stays. None keeps them, the
    paper names no suppression; a detector that told classes apart may then have one thing twice under the new name."""
    max_patches: int | None = None
    """Patches of the dense map; without it as many as the picture's size asks for."""
    guess_translations: bool = False
    """Where no table translates a class, take the competing name with the nearest embedding for its translation."""

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
        cut: how many boxes or pairs did not get a place among ``max_detections``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    source: Tensor
    names: tuple[str, ...]
    outside: int
    cut: int

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, score_thr: float) -> Detections:
        """Those with at least this score, by name."""
        kept = self.scores >= score_thr
        labels = tuple(self.names[label] for label in self.labels[kept].tolist())
        return Detections(self.boxes[kept].cpu().numpy(), self.scores[kept].cpu().numpy(), labels, names=self.names)


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, best first.

    Attributes:
        boxes: (K, 4) float32, x1, y1, x2, y2 in pixels of the picture.
        scores: (K,) float32, 0..1.
        labels: K class names, as given.
        names: all names that were looked for, in their order; empty where these are unknown.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: tuple[str, ...]
    names: tuple[str, ...] = field(default=(), kw_only=True, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def to_supervision(self, classes: Sequence[str] | None = None) -> sv.Detections:
        """For the package supervision: ``class_id`` (K,) indexes ``classes``, ``data["class_name"]`` has the names.

        Args:
            classes: all names that are looked for; without them ``names``. Where these are unknown too, labels are
                numbered in the order they come in, which differs from picture to picture.

        Raises:
            Fgclip2Error: a label that is not among ``classes``, or supervision is not installed.
        """
        with extras():
            import supervision as sv
        given = (self.names or self.labels) if classes is None else classes
        order = {name: index for index, name in enumerate(dict.fromkeys(given))}
        unknown = [label for label in self.labels if label not in order]
        if unknown:
            raise Fgclip2Error(f"{unknown[0]!r} was found, but is not among the {len(order)} classes that are given")
        return sv.Detections(
            xyxy=self.boxes.reshape(-1, 4),
            confidence=self.scores,
            class_id=np.array([order[label] for label in self.labels], dtype=np.int64),
            data={"class_name": np.array(self.labels, dtype=str)},
        )


class FusionRescorer:
    """Names the boxes of any detector by one dense map a picture.

    Args:
        model: FG-CLIP 2.
        vocabulary: the classes, made by the same model; or their names, with or without synonyms.
        config: how scores are joined.
        contrast: names that compete, so that "dog" alone does not win every box; what they win is dropped. Those that
            mean one of the classes do not take part, see `fgclip2.vocabulary.same_classes`.

    Raises:
        Fgclip2Error: a vocabulary of another model.
    """

    def __init__(
        self,
        model: FGCLIP2,
        vocabulary: Vocabulary | ClassNames,
        config: FusionConfig | None = None,
        contrast: Sequence[str] = (),
    ) -> None:
        if isinstance(vocabulary, Vocabulary):
            vocabulary.require(model)
            self._vocabulary = vocabulary.to(model.device)
        else:
            self._vocabulary = Vocabulary.build(model, vocabulary)
        self.model, self.config = model, config or FusionConfig()
        scored = self.vocabulary
        if contrast:
            known = Vocabulary.build(model, contrast, self.vocabulary.templates)
            scored = scored.against(
                known, same_classes(self.vocabulary, known, model, guess=self.config.guess_translations)
            )
        self._contrast = scored.names[len(self.vocabulary) :]
        self.left_out = tuple(name for name in contrast if name not in self.contrast)
        self.texts = scored.embeddings.float()

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes; another rescorer has others."""
        return self._vocabulary

    @property
    def contrast(self) -> tuple[str, ...]:
        """Names that compete, without those that mean a class."""
        return self._contrast

    @torch.inference_mode()
    def __call__(self, image: ImageLike | DenseFeatures, boxes: Boxes, scores: Scores) -> Rescored:
        """Give boxes new classes and scores.

        Of boxes that are equal, which detectors give once for every label, the one with the best score counts.

        Args:
            image: the picture, encoded once whatever the number of boxes; or its dense features.
            boxes: (M, 4) x1, y1, x2, y2 in pixels of the upright picture; M may be 0. What leaves it is cut off.
            scores: of the detector, 0..1: (M,) a box, or (M, C) one for each class of the vocabulary and then of
                ``contrast``.

        Raises:
            Fgclip2Error: boxes or scores of another shape, out of range, or not finite.
        """
        config, names = self.config, self.vocabulary.names
        given, own = _checked(boxes, scores, len(self.texts))
        if isinstance(image, DenseFeatures):
            features = image
        else:
            features = self.model.dense_features(image, max_patches=config.max_patches)
        width, height = features.image_size
        clipped = given.clamp(min=0).minimum(given.new_tensor([width, height, width, height]))
        inside = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1)
        source = inside.nonzero()[:, 0]
        outside = len(given) - len(source)
        if own.ndim == 1:
            source = source[_first_of_equals(clipped[source], own[source])]
        # Names given for contrast take places too, which are then dropped.
        several = min(len(self.texts), config.max_detections + len(self.texts) - len(names))
        several = 1 if config.assign == "best" else several
        regions = features.regions(clipped[source])
        values, labels = best_classes(
            regions,
            self.texts.to(regions),
            own[source].to(regions.device),
            config.temperature,
            config.exponent,
            several,
        )
        scored, order = values.flatten().sort(descending=True, stable=True)
        found, row = labels.flatten()[order], (order // max(1, values.shape[1])).cpu()
        wanted = found < len(names)
        scored, found, row = scored[wanted], found[wanted], row[wanted.cpu()]
        kept = clipped[source[row]].to(scored.device)
        if config.nms_iou is not None:
            left = suppress(kept, scored, found, config.nms_iou)
            kept, scored, found, row = kept[left], scored[left], found[left], row[left.cpu()]
        top = slice(config.max_detections)
        return Rescored(
            boxes=kept[top],
            scores=scored[top],
            labels=found[top],
            source=source[row[top]].to(scored.device),
            names=names,
            outside=outside,
            cut=len(kept[config.max_detections :]),
        )


Proposals: TypeAlias = "Callable[[Sequence[Image.Image]], list[tuple[Tensor, Tensor]]]"
"""Pictures to boxes (M, 4) xyxy in pixels and scores (M,) 0..1 of each."""


class FusionInferencer:
    """Detects any classes with any detector's boxes; no training.

    Args:
        proposals: where boxes come from, such as `fgclip2.zero_shot.ZeroShotProposals`.
        model: FG-CLIP 2.
        config: how scores are joined.

    Attributes:
        config: how scores are joined; another one counts from then on.
        outside: boxes so far that had no area inside their picture.
        cut: boxes so far that did not get a place among a picture's ``max_detections``.
        left_out: names that were given for contrast and mean one of the classes, so that they do not compete.
    """

    def __init__(self, proposals: Proposals, model: FGCLIP2, config: FusionConfig | None = None) -> None:
        self.proposals, self.model, self._config = proposals, model, config or FusionConfig()
        self.left_out: tuple[str, ...] = ()
        self.outside = self.cut = 0
        self._rescorer: FusionRescorer | None = None
        self._asked: tuple[Vocabulary | ClassNames, Sequence[str]] = ((), ())

    @property
    def classes(self) -> tuple[str, ...]:
        """What is looked for; `set_classes` changes it."""
        return () if self._rescorer is None else self._rescorer.vocabulary.names

    @property
    def config(self) -> FusionConfig:
        """How scores are joined."""
        return self._config

    @config.setter
    def config(self, value: FusionConfig) -> None:
        self._config = value
        if self._rescorer is not None:
            self.set_classes(*self._asked)

    def set_classes(self, names: Vocabulary | ClassNames, contrast: Sequence[str] = ()) -> int:
        """Choose what to look for; arguments as for `FusionRescorer`.

        Returns:
            How many classes stand in contrast.

        Raises:
            Fgclip2Error: names that are empty or repeat, or a vocabulary of another model.
        """
        self._rescorer = FusionRescorer(self.model, names, self.config, contrast)
        self._asked = names, contrast
        self.left_out = self._rescorer.left_out
        return len(self._rescorer.contrast)

    def __call__(self, images: Sequence[Image.Image], score_thr: float = 0.3) -> list[Detections]:
        """Detect in a batch of upright RGB pictures of any sizes.

        Args:
            images: pictures.
            score_thr: lowest fused score to keep, 0..1.

        Raises:
            Fgclip2Error: no classes were chosen.
        """
        if self._rescorer is None:
            raise Fgclip2Error("there are no classes to look for; call set_classes(names) first")
        found = []
        features = self.model.dense_features_of(images, max_patches=self.config.max_patches)
        for dense, (boxes, scores) in zip(features, self.proposals(images), strict=True):
            rescored = self._rescorer(dense, boxes, scores)
            self.outside, self.cut = self.outside + rescored.outside, self.cut + rescored.cut
            found.append(rescored.above(score_thr))
        return found


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
    per_class = scores.ndim == 2
    # A score of 0 becomes next to nothing, so that its box still has a best class.
    own = (1 - exponent) * scores.clamp_min(torch.finfo(torch.float32).tiny).log()
    total = regions.new_full((len(regions),), -math.inf)
    best = regions.new_empty((len(regions), 0))
    classes = torch.empty((len(regions), 0), dtype=torch.int64, device=regions.device)
    for start in range(0, len(texts), chunk_size):
        logits = temperature * regions @ texts[start : start + chunk_size].T
        total = torch.logaddexp(total, logits.logsumexp(1))
        # One score a box does not change which class is best, whatever the exponent; 0 would make all equal.
        ranked = exponent * logits + own[:, start : start + chunk_size] if per_class else logits
        index = torch.arange(start, start + logits.shape[1], device=regions.device).expand_as(logits)
        best, order = torch.cat([best, ranked], 1).topk(min(count, best.shape[1] + ranked.shape[1]), dim=1)
        classes = torch.cat([classes, index], 1).gather(1, order)
    if not per_class:
        best = exponent * best + own[:, None]
    return (best - exponent * total[:, None]).exp(), classes


def _first_of_equals(boxes: Tensor, scores: Tensor) -> Tensor:
    """Indices, rising, of one of each set of equal boxes: that with the best score."""
    first: dict[tuple[float, ...], int] = {}
    rows = list(map(tuple, boxes.tolist()))
    for index in scores.argsort(descending=True, stable=True).tolist():
        first.setdefault(rows[index], index)
    return torch.tensor(sorted(first.values()), dtype=torch.int64)


def _checked(boxes: Boxes, scores: Scores, classes: int) -> tuple[Tensor, Tensor]:
    try:
        given = torch.as_tensor(boxes, dtype=torch.float32).cpu()
        own = torch.as_tensor(scores, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Fgclip2Error(f"boxes or scores are no table of numbers ({error}); give (M, 4) and (M,)") from error
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
    if bool((given[:, 2:] < given[:, :2]).any()):
        raise Fgclip2Error("a box has x2 < x1 or y2 < y1; is it x, y, width, height? Give x1, y1, x2, y2")
    if not bool(((own >= 0) & (own <= 1)).all()):
        raise Fgclip2Error("detector scores must lie in 0..1; put logits through a sigmoid or softmax first")
    return given, own
