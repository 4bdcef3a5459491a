"""Second stage of the detector: boxes refined once, scored against any number of vocabularies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from mmcv.ops import batched_nms
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi, scale_boxes
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error

from .scoring import CHUNK, chunked_probabilities, geometric_ensemble, region_features
from .vocabulary import ClassTexts


@dataclass(frozen=True)
class Ensemble:
    """How head and dense map are joined at test time; the defaults are F-ViT's.

    Attributes:
        alpha: weight of the dense map for base classes, 0..1.
        beta: the same for novel classes.
        temperature: multiplier of the dense map's cosine before its softmax.
        objectness: exponent of the proposal's score, multiplied in; 0 leaves it out.
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
    """(R, 4) refined, xyxy in pixels of the network's input."""
    embeddings: Tensor
    """(R, D) of the trained head, unit length."""
    dense: Tensor
    """(R, D) of the frozen dense map under the refined boxes, unit length."""
    objectness: Tensor
    """(R,) score of the proposal, 0..1."""


@MODELS.register_module()
class OpenVocabRoIHead(StandardRoIHead):
    """mmdetection's two-stage head for features whose last map is the dense one.

    ``x`` is everywhere the pyramid's levels followed by the dense map ``(B, D, h, w)``.

    Args:
        ensemble: fields of `Ensemble`.
        **kwargs: mmdetection's ``StandardRoIHead``.
    """

    train_texts: ClassTexts
    test_texts: nn.ModuleDict

    def __init__(self, ensemble: dict[str, float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ensemble = Ensemble(**(ensemble or {}))
        self.test_texts = nn.ModuleDict()

    def set_train_texts(self, texts: ClassTexts) -> None:
        """Classes that training labels index; does not change what is detected at test time."""
        self.train_texts = texts
        # mmdetection writes this number as the label of background regions
        self.bbox_head.num_classes = len(texts)

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        """Training-time forward: logits over the training classes, deltas and pooled features of ``rois`` (R, 5)."""
        pooled = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        raw, deltas = self.bbox_head(pooled)
        embeddings = self.bbox_head.embed(raw, region_features(x[-1], rois))
        logits = self.bbox_head.classify(embeddings, self.train_texts.embeddings)
        return {"cls_score": logits, "bbox_pred": deltas, "bbox_feats": pooled}

    def regions(
        self, x: tuple[Tensor, ...], batch_img_metas: list[dict[str, Any]], proposals: InstanceList
    ) -> list[Regions]:
        """Refine and embed the proposals of every picture; no class is looked at yet."""
        rois = bbox2roi([item.bboxes for item in proposals])
        pooled = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        raw, deltas = self.bbox_head(pooled)
        counts = [len(item) for item in proposals]
        boxes = [
            self.bbox_head.bbox_coder.decode(roi[:, 1:], delta, max_shape=meta["img_shape"])
            for roi, delta, meta in zip(rois.split(counts), deltas.split(counts), batch_img_metas, strict=True)
        ]
        dense = region_features(x[-1], bbox2roi(boxes))
        embeddings = self.bbox_head.embed(raw, dense)
        scores = [item.scores for item in proposals]
        return [
            Regions(*parts) for parts in zip(boxes, embeddings.split(counts), dense.split(counts), scores, strict=True)
        ]

    def scores(self, regions: Regions, texts: ClassTexts) -> Iterator[Tensor]:
        """Ensemble scores of one picture's regions, 0..1: ``(R, c)`` for one chunk of classes after the other."""
        heads = self.bbox_head.probabilities(regions.embeddings, texts.embeddings)
        frozen = chunked_probabilities(regions.dense, texts.embeddings, self.ensemble.temperature)
        for head, dense, novel in zip(heads, frozen, texts.novel.split(CHUNK), strict=True):
            joined = geometric_ensemble(head, dense, novel, self.ensemble.alpha, self.ensemble.beta)
            if self.ensemble.objectness:
                joined = joined * regions.objectness[:, None] ** self.ensemble.objectness
            yield joined

    def predict_vocabularies(
        self,
        x: tuple[Tensor, ...],
        proposals: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        rescale: bool = True,
    ) -> dict[str, InstanceList]:
        """Detections of every picture for every vocabulary; all heavy work is done once.

        Returns:
            For each vocabulary's name one ``InstanceData`` a picture: ``bboxes`` (K, 4) xyxy in pixels (of the original
            picture with ``rescale``), ``scores`` (K,), ``labels`` (K,) indices into that vocabulary.
        """
        if not len(self.test_texts):
            raise Fgclip2Error("the detector has no classes to look for; call detector.set_vocabulary(names) first")
        pictures = self.regions(x, batch_img_metas, proposals)
        factors = [meta["scale_factor"] if rescale else (1.0, 1.0) for meta in batch_img_metas]
        return {
            name: [
                select_detections(_rescaled(regions.boxes, factor), self.scores(regions, texts), self.test_cfg)
                for regions, factor in zip(pictures, factors, strict=True)
            ]
            for name, texts in cast("dict[str, ClassTexts]", self.test_texts).items()
        }

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict[str, Any]],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: Any = None,
        rescale: bool = False,
    ) -> InstanceList:
        """mmdetection's entry: detections for the first vocabulary."""
        results = self.predict_vocabularies(x, rpn_results_list, batch_img_metas, rescale)
        return next(iter(results.values()))


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


__all__ = ["Ensemble", "OpenVocabRoIHead", "Regions", "select_detections"]
