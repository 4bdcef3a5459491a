"""Second stage of the two-stage detector: proposals refined, embedded and outlined, whatever the classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, bbox_overlaps, scale_boxes
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from fgclip2.errors import Fgclip2Error
from fgclip2.scoring import region_features

from .ensemble import Regions, TextClassifier
from .masks import PredictedMasks
from .vocabulary import ClassTexts

_MASKS: Final = 128  # regions that the mask head looks at together


@MODELS.register_module()
class OpenVocabRoIHead(TextClassifier, StandardRoIHead):
    """mmdetection's two-stage head for features whose last map is the dense one.

    ``x`` is everywhere the pyramid's levels followed by the dense map ``(B, D, h, w)``. Boxes are refined in rounds, as
    in Cascade R-CNN (Cai and Vasconcelos 2018) but by one head: each round looks at the boxes that the one before it
    gave, in training as at test time.

    Args:
        ensemble: fields of `fgclip2_mmdet.ensemble.Ensemble`; ``objectness`` is the exponent of a box's quality.
        rounds: how often boxes are refined.
        **kwargs: mmdetection's ``StandardRoIHead``. With a ``mask_head`` boxes get masks, whatever their class: trained
            on the boxes of the last round that have an object, and given to the boxes that are left at the end.

    Raises:
        Fgclip2Error: no round, or a mask head that knows classes.
    """

    def __init__(self, ensemble: Mapping[str, float] | None = None, rounds: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if rounds < 1:
            raise Fgclip2Error(f"OpenVocabRoIHead rounds {rounds}: give 1 or more")
        if self.with_mask and not self.mask_head.class_agnostic:
            raise Fgclip2Error("OpenVocabRoIHead mask_head needs class_agnostic=True: classes change after training")
        self.rounds = rounds
        self.init_texts(ensemble)

    def set_train_texts(self, texts: ClassTexts) -> None:
        """Classes that training labels index; does not change what is detected at test time."""
        super().set_train_texts(texts)
        # mmdetection writes this number as the label of background regions
        self.bbox_head.num_classes = len(texts)

    def probabilities(self, embeddings: Tensor, texts: Tensor) -> Iterator[Tensor]:
        """Shares of the classes beside the background's: ``(R, c)`` for one chunk of classes after the other."""
        return self.bbox_head.probabilities(embeddings, texts)

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Losses of a training batch: classes, boxes and quality, each the mean over the rounds; masks of the last."""
        objects, ignored, metas = unpack_gt_instances(batch_data_samples)
        losses: dict[str, Tensor] = {}
        boxes = [item.bboxes for item in rpn_results_list]
        for _ in range(self.rounds):
            pictures = zip(boxes, objects, ignored or [None] * len(boxes), strict=True)
            sampled = [self._sample(*picture) for picture in pictures]
            results = self.bbox_loss(x, sampled)
            for name, value in results["loss_bbox"].items():
                part = value / self.rounds
                losses[name] = losses[name] + part if name in losses else part
            refined = results["boxes"].split([len(item.priors) for item in sampled])
            boxes = [
                clip_boxes_to_image(own[~_padded(item, item.pos_is_gt)], meta["img_shape"][:2])
                for own, item, meta in zip(refined, sampled, metas, strict=True)
            ]
        if self.with_mask:
            losses |= self.mask_loss(x, sampled, results["bbox_feats"], objects)["loss_mask"]
        return losses

    def _sample(self, boxes: Tensor, objects: InstanceData, ignored: InstanceData | None) -> SamplingResult:
        """Some of a picture's boxes, and the objects that they should become."""
        proposals = InstanceData(priors=boxes)
        assigned = self.bbox_assigner.assign(proposals, objects, ignored)
        return self.bbox_sampler.sample(assigned, proposals, objects)

    def bbox_loss(self, x: tuple[Tensor, ...], sampling_results: list[SamplingResult]) -> dict[str, Any]:
        """mmdetection's losses of one round and that of the quality; ``boxes`` (R, 4) are what the round gives."""
        results = super().bbox_loss(x, sampling_results)
        with torch.no_grad():
            boxes = self.bbox_head.bbox_coder.decode(results["rois"][:, 1:], results["bbox_pred"])
        # Only of boxes with an object: a novel one without a label must not be learned as a bad box.
        positive = torch.cat([_padded(item, torch.ones_like(item.pos_is_gt)) for item in sampling_results])
        objects = torch.cat([item.pos_gt_bboxes for item in sampling_results])
        loss = results["quality"].sum() * 0  # the layer takes part in every step, also in one without objects
        if len(objects):
            overlaps = bbox_overlaps(boxes[positive], objects, is_aligned=True).clamp(0, 1)
            loss = loss + self.bbox_head.loss_quality(results["quality"][positive], overlaps)
        results["loss_bbox"]["loss_quality"] = loss
        return {**results, "boxes": boxes}

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        """One round of training: logits over the training classes, deltas, quality and pooled features of (R, 5)."""
        pooled, raw, deltas, quality = self._look(x, rois)
        embeddings = self.bbox_head.embed(raw, region_features(x[-1], rois))
        logits = self.bbox_head.classify(embeddings, self.train_texts.embeddings)
        return {"cls_score": logits, "bbox_pred": deltas, "bbox_feats": pooled, "quality": quality, "rois": rois}

    def _look(self, x: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pooled = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        return pooled, *self.bbox_head(pooled)

    def regions(
        self, x: tuple[Tensor, ...], batch_img_metas: list[dict[str, Any]], proposals: InstanceList
    ) -> list[Regions]:
        """Refine and embed the proposals of every picture; no class is looked at yet."""
        boxes = [item.bboxes for item in proposals]
        counts = [len(item) for item in boxes]
        for _ in range(self.rounds):
            rois = bbox2roi(boxes)
            _, raw, deltas, quality = self._look(x, rois)
            boxes = [
                self.bbox_head.bbox_coder.decode(roi[:, 1:], delta, max_shape=meta["img_shape"])
                for roi, delta, meta in zip(rois.split(counts), deltas.split(counts), batch_img_metas, strict=True)
            ]
        dense = region_features(x[-1], bbox2roi(boxes))
        embeddings = self.bbox_head.embed(raw, dense)
        parts = (item.split(counts) for item in (embeddings, dense, quality.sigmoid()))
        return [Regions(*picture) for picture in zip(boxes, *parts, strict=True)]

    def add_masks(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict[str, Any]],
        found: Mapping[str, InstanceList],
        rescale: bool = True,
    ) -> None:
        """Give detections ``masks``, `PredictedMasks` of the size of the picture that their boxes are in.

        A box that several classes or vocabularies have is looked at once.

        Args:
            x: the maps that the boxes were found in.
            batch_img_metas: of the pictures.
            found: for each vocabulary one ``InstanceData`` a picture, from `detect`.
            rescale: as `detect` was told.
        """
        for index, meta in enumerate(batch_img_metas):
            factor = meta["scale_factor"][:2] if rescale else (1.0, 1.0)
            height, width = meta["ori_shape" if rescale else "img_shape"][:2]
            every = [instances[index] for instances in found.values()]
            boxes, row = torch.cat([item.bboxes for item in every]).unique(dim=0, return_inverse=True)
            rois = F.pad(scale_boxes(boxes, factor), (1, 0), value=index)
            parts = [self._mask_forward(x, part)["mask_preds"][:, 0].float() for part in rois.split(_MASKS)]
            shares = torch.cat(parts).sigmoid().cpu().numpy()
            for item, own in zip(every, row.split([len(item) for item in every]), strict=True):
                masks = shares[own.cpu().numpy()]
                where = item.bboxes.cpu().numpy()
                item.masks = PredictedMasks(masks, where, (width, height), self.test_cfg.get("mask_thr_binary", 0.5))

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


def _padded(sampled: SamplingResult, positive: Tensor) -> Tensor:
    """A mark of every sampled box, bool: that of the positive ones, which come first; False for the others."""
    return F.pad(positive.bool(), (0, len(sampled.neg_priors)))
