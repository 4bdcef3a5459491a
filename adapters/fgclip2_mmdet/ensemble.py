"""Regions scored against any number of vocabularies: what the one-stage and the two-stage head have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import torch
from mmdet.structures.bbox import scale_boxes
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.scoring import CHUNK, chunked_probabilities, geometric_ensemble

from .exact_nms import batched_nms
from .vocabulary import ClassTexts

ASKED: Final = "asked"
"""The entry of `TextClassifier.detect` for classes that a call gives."""


@dataclass(frozen=True)
class Ensemble:
    """How head and dense map are joined at test time; the defaults are F-ViT's.

    Attributes:
        alpha: weight of the dense map for base classes, 0..1.
        beta: the same for novel classes.
        temperature: multiplier of the dense map's cosine before its softmax.
        objectness: exponent of a region's own score, multiplied in; 0 leaves it out.
    """

    alpha: float = 0.1
    beta: float = 0.8
    temperature: float = 75.0
    objectness: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 1 and 0 <= self.beta <= 1 and self.temperature > 0 and self.objectness >= 0):
            raise Fgclip2Error(f"{self}: alpha and beta are 0..1, temperature is above 0, objectness 0 or more")


class Regions(NamedTuple):
    """One picture's regions, ready to be scored against any vocabulary."""

    boxes: Tensor
    """(R, 4) final, xyxy in pixels of the network's input."""
    embeddings: Tensor
    """(R, D) of the trained head, unit length."""
    dense: Tensor
    """(R, D) of the frozen dense map under the boxes, unit length."""
    objectness: Tensor
    """(R,) how sure the detector is of the box, whatever its class, 0..1."""


class TextClassifier:
    """Mixed into a head whose classes are texts: it holds the vocabularies, and turns regions into detections.

    A head calls `init_texts` once its own ``__init__`` is through, and says what its `probabilities` are.
    """

    ensemble: Ensemble
    train_texts: ClassTexts
    test_texts: nn.ModuleDict
    test_cfg: Any

    def init_texts(self, ensemble: Mapping[str, float] | None) -> None:
        """Begin without classes; ``ensemble`` has fields of `Ensemble`."""
        self.ensemble = Ensemble(**(ensemble or {}))
        self.test_texts = nn.ModuleDict()

    def set_train_texts(self, texts: ClassTexts) -> None:
        """Classes that training labels index; does not change what is detected at test time."""
        self.train_texts = texts

    def probabilities(self, embeddings: Tensor, texts: Tensor) -> Iterator[Tensor]:
        """The trained head's opinion of embeddings ``(R, D)`` and texts ``(C, D)``, 0..1.

        Yields:
            ``(R, c)`` for `CHUNK` classes after the other.
        """
        raise NotImplementedError

    def scores(self, regions: Regions, texts: ClassTexts) -> Iterator[Tensor]:
        """Ensemble scores of one picture's regions, 0..1: ``(R, c)`` for one chunk of classes after the other."""
        heads = self.probabilities(regions.embeddings, texts.embeddings)
        frozen = chunked_probabilities(regions.dense, texts.embeddings, self.ensemble.temperature)
        for head, dense, novel in zip(heads, frozen, texts.novel.split(CHUNK), strict=True):
            joined = geometric_ensemble(head, dense, novel, self.ensemble.alpha, self.ensemble.beta)
            if self.ensemble.objectness:
                joined = joined * regions.objectness[:, None] ** self.ensemble.objectness
            yield joined

    def detect(
        self,
        pictures: Sequence[Regions],
        batch_img_metas: Sequence[Mapping[str, Any]],
        rescale: bool = True,
        asked: Sequence[ClassTexts] | None = None,
    ) -> dict[str, InstanceList]:
        """Detections of every picture for every vocabulary.

        Args:
            pictures: regions of each.
            batch_img_metas: of the same pictures.
            rescale: boxes in pixels of the original picture.
            asked: for each picture classes of its own, in place of the vocabularies; the result has one entry, whose
                ``label_names`` are what mmdetection draws.

        Returns:
            For each vocabulary's name one ``InstanceData`` a picture: ``bboxes`` (K, 4) xyxy in pixels (of the original
            picture with ``rescale``), ``scores`` (K,), ``labels`` (K,) indices into that vocabulary.

        Raises:
            Fgclip2Error: there is no vocabulary.
        """
        factors = [meta["scale_factor"] if rescale else (1.0, 1.0) for meta in batch_img_metas]
        if asked is not None:
            return {ASKED: list(map(self._named, pictures, factors, asked))}
        if not len(self.test_texts):
            raise Fgclip2Error("the detector has no classes to look for; call detector.set_vocabulary(names) first")
        return {
            name: [
                select_detections(_rescaled(regions.boxes, factor), self.scores(regions, texts), self.test_cfg)
                for regions, factor in zip(pictures, factors, strict=True)
            ]
            for name, texts in cast("dict[str, ClassTexts]", self.test_texts).items()
        }

    def _named(self, regions: Regions, factor: tuple[float, ...], texts: ClassTexts) -> InstanceData:
        """Detections of one picture for its own classes."""
        found = select_detections(_rescaled(regions.boxes, factor), self.scores(regions, texts), self.test_cfg)
        found.label_names = [texts.names[label] for label in found.labels.tolist()]
        return found


def _rescaled(boxes: Tensor, factor: tuple[float, ...]) -> Tensor:
    return scale_boxes(boxes, [1 / side for side in factor[:2]])


def select_detections(boxes: Tensor, scores: Tensor | Iterable[Tensor], cfg: Any) -> InstanceData:
    """Class-wise NMS over the best box-class pairs.

    Args:
        boxes: ``(R, 4)``.
        scores: ``(R, C)``, or that in chunks of classes.
        cfg: ``score_thr``, ``nms`` (mmcv's), ``max_per_img``, and ``nms_pre``, the pairs that NMS looks at.

    Returns:
        ``bboxes`` (K, 4), ``scores`` (K,) falling, ``labels`` (K,).
    """
    count, start = cfg.get("nms_pre", 1000), 0
    best, labels, rows = boxes.new_empty(0), *(boxes.new_empty(0, dtype=torch.int64) for _ in range(2))
    for chunk in [scores] if isinstance(scores, Tensor) else scores:
        values, pair = chunk.flatten().topk(min(chunk.numel(), count))
        best, order = torch.cat([best, values]).topk(min(len(best) + len(values), count))
        width = max(1, chunk.shape[1])
        labels = torch.cat([labels, pair % width + start])[order]
        rows = torch.cat([rows, pair // width])[order]
        start += chunk.shape[1]
    kept = best > cfg["score_thr"]
    best, labels, boxes = best[kept], labels[kept], boxes[rows[kept]]
    if len(best):
        detections, order = batched_nms(boxes, best, labels, cfg["nms"])
        best = detections[: cfg["max_per_img"], -1]
        order = order[: cfg["max_per_img"]]
        boxes, labels = boxes[order], labels[order]
    return InstanceData(bboxes=boxes, scores=best, labels=labels)
