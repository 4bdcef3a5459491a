"""Second stage of the two-stage detector: proposals refined and embedded once, whatever the classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from torch import Tensor

from fgclip2.scoring import region_features

from .ensemble import Regions, TextClassifier
from .vocabulary import ClassTexts


@MODELS.register_module()
class OpenVocabRoIHead(TextClassifier, StandardRoIHead):
    """mmdetection's two-stage head for features whose last map is the dense one.

    ``x`` is everywhere the pyramid's levels followed by the dense map ``(B, D, h, w)``.

    Args:
        ensemble: fields of `fgclip2_mmdet.ensemble.Ensemble`.
        **kwargs: mmdetection's ``StandardRoIHead``.
    """

    def __init__(self, ensemble: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init_texts(ensemble)

    def set_train_texts(self, texts: ClassTexts) -> None:
        """Classes that training labels index; does not change what is detected at test time."""
        super().set_train_texts(texts)
        # mmdetection writes this number as the label of background regions
        self.bbox_head.num_classes = len(texts)

    def probabilities(self, embeddings: Tensor, texts: Tensor) -> Iterator[Tensor]:
        """Shares of the classes beside the background's: ``(R, c)`` for one chunk of classes after the other."""
        return self.bbox_head.probabilities(embeddings, texts)

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

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict[str, Any]],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: Any = None,
        rescale: bool = False,
    ) -> InstanceList:
        """mmdetection's entry: detections for the first vocabulary."""
        results = self.detect(self.regions(x, batch_img_metas, rpn_results_list), batch_img_metas, rescale)
        return next(iter(results.values()))
