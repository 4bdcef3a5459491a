"""mmdetection's RPN, with padding kept out of its proposals."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmdet.utils import InstanceList
from torch import Tensor

from fgclip2.pyramid import inside_cells

_NEVER = -1e4  # a logit whose sigmoid is 0 in every float type used


@MODELS.register_module()
class FGCLIP2RPNHead(RPNHead):
    """Class-agnostic proposals; anchors in a picture's padding never become one.

    mmdetection ranks padded positions with the rest, so a picture's proposals would depend on its batch.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One level: objectness and box deltas, in fp32 whatever the arithmetic, since boxes are decoded from them."""
        scores, deltas = super().forward_single(x)
        return scores.float(), deltas.float()

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], *args: Any, batch_img_metas: Any = None, **kwargs: Any
    ) -> InstanceList:
        """Proposals of every picture; arguments and result as in mmdetection."""
        # A picture ends with its last patch, covered or not: so it does for the tower, and without other pictures.
        shapes = [tuple(meta["pad_shape"][:2]) for meta in batch_img_metas]
        padded = len(set(shapes)) > 1
        if padded:
            strides = [stride[0] for stride in self.prior_generator.strides]
            cls_scores = [
                scores.masked_fill(~inside_cells(scores, shapes, stride), _NEVER)
                for scores, stride in zip(cls_scores, strides, strict=True)
            ]
        results = super().predict_by_feat(cls_scores, bbox_preds, *args, batch_img_metas=batch_img_metas, **kwargs)
        return [found[found.scores > 0] for found in results] if padded else results
