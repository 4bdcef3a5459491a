"""The two-stage open-vocabulary detector: frozen FG-CLIP 2 tower, class-agnostic boxes, text classifiers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.pyramid import replicate_edges

from .backbone import PATCH
from .ensemble import Regions, TextClassifier
from .open_vocab import OpenVocabDetector, for_tower, picture_sizes


@MODELS.register_module()
class FGCLIP2Detector(OpenVocabDetector, TwoStageDetector):
    """F-ViT's design (CLIPSelf, Wu et al. 2023) on FG-CLIP 2: tower, RPN, region head, ensemble with the dense map.

    Args:
        backbone: an ``FGCLIP2Backbone``.
        vocabulary: see `OpenVocabDetector`.
        **kwargs: mmdetection's ``TwoStageDetector``.
    """

    def __init__(self, backbone: dict, vocabulary: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        roi_head = kwargs.pop("roi_head", None)
        super().__init__(backbone=backbone, **kwargs)
        if roi_head is not None:
            # Built after the tower, whose width the head takes.
            head = copy.deepcopy(roi_head)
            head["bbox_head"] = for_tower(head["bbox_head"], self.backbone)
            head["train_cfg"] = self.train_cfg["rcnn"] if self.train_cfg else None
            head["test_cfg"] = self.test_cfg["rcnn"]
            self.roi_head = MODELS.build(head)
        self.configure(vocabulary)

    @property
    def text_head(self) -> TextClassifier:
        """The region head."""
        return self.roi_head

    def _for_regions(self, x: tuple[Tensor, ...], samples: SampleList) -> tuple[Tensor, ...]:
        """Maps whose regions do not reach into padding at a picture's edge; the RPN's convolutions want zeros there."""
        sizes = picture_sizes(samples)
        strides = (*self.backbone.strides, PATCH)
        return tuple(replicate_edges(level, sizes, stride) for level, stride in zip(x, strides, strict=True))

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of RPN and region head on a training batch."""
        x = self.extract_feat(batch_inputs, batch_data_samples)
        objects = copy.deepcopy(batch_data_samples)
        for sample in objects:
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        cfg = self.train_cfg.get("rpn_proposal", self.test_cfg.rpn)
        losses, proposals = self.rpn_head.loss_and_predict(x[:-1], objects, proposal_cfg=cfg)
        losses.update(self.roi_head.loss(self._for_regions(x, batch_data_samples), proposals, batch_data_samples))
        return losses

    def look(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple[list[Regions], InstanceList]:
        """One pass over a batch: every picture's regions, and the proposals that they were refined from.

        Boxes of both are in pixels of the network's input.
        """
        _, regions, proposals = self._look(batch_inputs, batch_data_samples)
        return regions, proposals

    def _look(self, inputs: Tensor, samples: SampleList) -> tuple[tuple[Tensor, ...], list[Regions], InstanceList]:
        """What `look` gives, and before it the maps that the regions are of."""
        x = self.extract_feat(inputs, samples)
        proposals = self.rpn_head.predict(x[:-1], samples, rescale=False)
        maps = self._for_regions(x, samples)
        return maps, self.roi_head.regions(maps, [sample.metainfo for sample in samples], proposals), proposals

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detections: ``pred_instances`` for the first vocabulary, ``pred_<name>`` for each further one.

        Where a call of mmdetection's inferencer gives ``texts``, these are the only classes, for that call.
        Those of a detector with a mask head have ``masks``, see `OpenVocabRoIHead.add_masks`.
        """
        maps, regions, _ = self._look(batch_inputs, batch_data_samples)
        metas = [sample.metainfo for sample in batch_data_samples]
        found = self.roi_head.detect(regions, metas, rescale, self.asked_texts(batch_data_samples))
        if self.with_mask:
            self.roi_head.add_masks(maps, metas, found, rescale)
        return self.add_vocabularies(batch_data_samples, found)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple[Any, ...]:
        """Raw outputs without post-processing: logits over the training classes and box deltas."""
        x = self.extract_feat(batch_inputs, batch_data_samples)
        if batch_data_samples is None:
            raise Fgclip2Error("mode 'tensor' needs data samples with the pictures' sizes")
        proposals = self.rpn_head.predict(x[:-1], batch_data_samples, rescale=False)
        return (self.roi_head.forward(self._for_regions(x, batch_data_samples), proposals, batch_data_samples),)
