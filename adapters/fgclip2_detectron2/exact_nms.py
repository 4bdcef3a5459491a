"""detectron2's class-wise NMS, exact: for its region proposals and its own detectors."""

from __future__ import annotations

import sys

from detectron2.layers import batched_nms as _detectron2s
from torch import Tensor

from fgclip2.suppression import suppress


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """As ``detectron2.layers.batched_nms``, but no number in ``idxs`` moves a box; see `fgclip2.suppression.suppress`.

    Args:
        boxes: (N, 4) xyxy in pixels.
        scores: (N,).
        idxs: (N,) class or level of every box.
        iou_threshold: of one class, boxes that overlap a better one by more than this go.

    Returns:
        (K,) int64 indices of the kept boxes, best first.
    """
    return suppress(boxes, scores, idxs, iou_threshold)


def install() -> None:
    """Put it in the place of detectron2's wherever a loaded module has taken that; safe to call again."""
    loaded = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "detectron2" and module]
    for module in loaded:
        if vars(module).get("batched_nms") is _detectron2s:
            vars(module)["batched_nms"] = batched_nms
