"""Mask R-CNN's heads with texts in place of the class layer: one box and one mask for a region, whatever its class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import convert_boxes_to_pooler_format
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from fgclip2.scoring import CHUNK, chunked_probabilities, geometric_ensemble, region_features
from fgclip2.suppression import suppress

from .backbone import DENSE

MAX_SCALE = 200.0  # above this the softmax is an argmax and its gradient vanishes
CANDIDATES = 1000  # pairs of box and class that NMS looks at


class TextBoxPredictor(FastRCNNOutputLayers):
    """detectron2's output layers, with a region embedding for texts in place of class scores, and one box a region.

    The embedding is ``normalise(dense region + learned residual)`` and the residual starts at zero: an untrained head
    classifies exactly as the frozen dense map does.

    Args:
        input_shape: of the pooled features.
        width: D, length of the texts.
        temperature: first value of the learned multiplier of the cosine.
        **kwargs: detectron2's: ``box2box_transform``, ``test_score_thresh``, ``test_nms_thresh``,
            ``test_topk_per_image``, ...
    """

    def __init__(self, input_shape: ShapeSpec, width: int, temperature: float = 50.0, **kwargs: Any) -> None:
        super().__init__(input_shape, num_classes=0, cls_agnostic_bbox_reg=True, **kwargs)
        self.cls_score: nn.Linear = nn.Linear(self.bbox_pred.in_features, width)
        nn.init.zeros_(self.cls_score.weight)
        nn.init.zeros_(self.cls_score.bias)
        self.log_scale = nn.Parameter(torch.tensor(math.log(temperature)))
        self.other = nn.Parameter(torch.randn(width) * width**-0.5)

    @property
    def scale(self) -> Tensor:
        """Multiplier of the cosine, learned."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def embed(self, raw: Tensor, dense: Tensor) -> Tensor:
        """Unit-length region embeddings of raw ones and the dense map's regions, all ``(R, D)``."""
        return F.normalize(raw + dense, dim=-1)

    def logits(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        """``(R, T + 1)``, "none of them" last, of embeddings ``(R, D)`` and texts ``(T, D)``, unit length."""
        return self.scale * embeddings @ torch.cat([texts, F.normalize(self.other, dim=0)[None]]).T

    def probabilities(self, embeddings: Tensor, texts: Tensor) -> Iterator[Tensor]:
        """Softmax of `logits` without the last one: ``(R, t)`` for one chunk of classes after the other."""
        rest = self.scale * embeddings @ F.normalize(self.other, dim=0)
        return chunked_probabilities(embeddings, texts, self.scale, rest)


class TextRoIHeads(StandardROIHeads):
    """detectron2's box and mask heads; classes are given with every call.

    Args:
        alpha: weight of the dense map's own opinion for classes of the training, 0 to 1; see `geometric_ensemble`.
        beta: the same for all other classes.
        temperature: multiplier of the dense map's cosine before its softmax.
        **kwargs: detectron2's ``StandardROIHeads``, with a `TextBoxPredictor` and a mask head of one class.
    """

    def __init__(self, *, alpha: float = 0.1, beta: float = 0.8, temperature: float = 75.0, **kwargs: Any) -> None:
        super().__init__(num_classes=0, **kwargs)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def losses(
        self, features: dict[str, Tensor], proposals: list[Instances], targets: list[Instances], texts: Tensor
    ) -> dict[str, Tensor]:
        """Losses of boxes, classes and masks.

        Args:
            features: levels, and the dense map.
            proposals: of every picture.
            targets: its instances; ``gt_classes`` index the texts.
            texts: ``(T, D)``, unit length.
        """
        # detectron2 marks a region of no class by this number.
        self.num_classes = self.box_predictor.num_classes = len(texts)
        sampled = self.label_and_sample_proposals(proposals, targets)
        boxes = [item.proposal_boxes for item in sampled]
        raw, deltas = self.box_predictor(self._pooled(features, boxes))
        embeddings = self.box_predictor.embed(raw, _dense(features, boxes))
        losses = self.box_predictor.losses((self.box_predictor.logits(embeddings, texts), deltas), sampled)
        return {**losses, **self._forward_mask(features, sampled)}

    def detect(
        self, features: dict[str, Tensor], proposals: Instances, vocabularies: dict[str, tuple[Tensor, Tensor]]
    ) -> dict[str, Instances]:
        """Find the things of one picture.

        Args:
            features: levels, and the dense map, of the picture.
            proposals: its regions.
            vocabularies: for any key texts ``(T, D)``, and ``(T,)`` bool which of them are no classes of the training.

        Returns:
            For every key ``pred_boxes``, ``scores`` falling, ``pred_classes``, and ``pred_masks`` ``(K, 1, m, m)``.
        """
        predictor = self.box_predictor
        raw, deltas = predictor(self._pooled(features, [proposals.proposal_boxes]))
        boxes = Boxes(predictor.box2box_transform.apply_deltas(deltas, proposals.proposal_boxes.tensor))
        boxes.clip(proposals.image_size)
        there = boxes.nonempty()
        boxes = boxes[there]
        dense = _dense(features, [boxes])
        embeddings = predictor.embed(raw[there], dense)
        found = {}
        for key, (texts, novel) in vocabularies.items():
            instances = self._best(boxes, self._scores(embeddings, dense, texts, novel), proposals.image_size)
            (found[key],) = self.forward_with_given_boxes(features, [instances])
        return found

    def _pooled(self, features: dict[str, Tensor], boxes: Sequence[Boxes]) -> Tensor:
        return self.box_head(self.box_pooler([features[name] for name in self.box_in_features], list(boxes)))

    def _scores(self, embeddings: Tensor, dense: Tensor, texts: Tensor, novel: Tensor) -> Iterator[Tensor]:
        """Scores 0..1, ``(R, t)`` for one chunk of classes after the other."""
        heads = self.box_predictor.probabilities(embeddings, texts)
        frozen = chunked_probabilities(dense, texts, self.temperature)
        for head, own, flags in zip(heads, frozen, novel.split(CHUNK), strict=True):
            yield geometric_ensemble(head, own, flags, self.alpha, self.beta)

    def _best(self, boxes: Boxes, scores: Iterator[Tensor], image_size: tuple[int, int]) -> Instances:
        """NMS within every class over the best pairs of box and class."""
        predictor, start = self.box_predictor, 0
        best = boxes.tensor.new_empty(0)
        rows, labels = (torch.empty(0, dtype=torch.int64, device=best.device) for _ in range(2))
        for chunk in scores:
            values, pairs = chunk.flatten().topk(min(chunk.numel(), CANDIDATES))
            best, order = torch.cat([best, values]).topk(min(len(best) + len(values), CANDIDATES))
            rows = torch.cat([rows, pairs // chunk.shape[1]])[order]
            labels = torch.cat([labels, pairs % chunk.shape[1] + start])[order]
            start += chunk.shape[1]
        sure = best > predictor.test_score_thresh
        best, rows, labels = best[sure], rows[sure], labels[sure]
        kept = suppress(boxes.tensor[rows], best, labels, predictor.test_nms_thresh)[: predictor.test_topk_per_image]
        instances = Instances(image_size)
        instances.pred_boxes = boxes[rows[kept]]
        instances.scores, instances.pred_classes = best[kept], labels[kept]
        return instances


def _dense(features: dict[str, Tensor], boxes: Sequence[Boxes]) -> Tensor:
    """Unit-length regions ``(R, D)`` of the dense map."""
    return region_features(features[DENSE], convert_boxes_to_pooler_format(list(boxes)))
