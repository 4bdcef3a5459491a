"""mmcv's class-wise NMS, exact: for our heads, region proposals, and the stock detectors of mmdetection."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from fgclip2.suppression import suppress

_PLAIN: Final = {"type", "iou_threshold", "offset", "score_threshold", "max_num", "split_thr", "class_agnostic"}
_original: Any = None


def batched_nms(
    boxes: Tensor, scores: Tensor, idxs: Tensor, nms_cfg: Mapping[str, Any] | None, class_agnostic: bool = False
) -> tuple[Tensor, Tensor]:
    """As ``mmcv.ops.batched_nms``, but no number in ``idxs`` moves a box; see `fgclip2.suppression.suppress`.

    Args:
        boxes: (N, 4) xyxy in pixels; rotated ones (N, 5) too.
        scores: (N,).
        idxs: (N,) class or level of every box.
        nms_cfg: mmcv's: ``type``, ``iou_threshold``, ...; ``None`` sorts by score alone.
        class_agnostic: compare all boxes with each other.

    Returns:
        Kept boxes with their scores (K, 5), best first, and their indices (K,).
    """
    # mmdetection passes mmengine's ConfigDict, whose `get` and copies keep their kind: a plain one serves mmcv as well.
    given = None if nms_cfg is None else dict(nms_cfg)
    if given is None or class_agnostic or given.get("class_agnostic") or not len(boxes):
        return _mmcv()(boxes, scores, idxs, given, class_agnostic)
    most = int(given.pop("max_num", -1))
    if given.get("type", "nms") == "nms" and given.keys() <= _PLAIN and boxes.shape[-1] == 4:
        rows = (scores > given["score_threshold"]).nonzero()[:, 0] if given.get("score_threshold", 0) > 0 else None
        own, sure, of = (boxes, scores, idxs) if rows is None else (boxes[rows], scores[rows], idxs[rows])
        if given.get("offset", 0):
            own = torch.cat([own[:, :2], own[:, 2:] + given["offset"]], 1)
        kept = suppress(own, sure, of, float(given["iou_threshold"]))
        kept = kept if rows is None else rows[kept]
        left = scores[kept]
    else:  # soft, rotated, ...: each class by itself
        given.pop("class_agnostic", None)
        found = [
            (rows[index], detections[:, -1])
            for rows in ((idxs == number).nonzero()[:, 0] for number in idxs.unique())
            for detections, index in [_mmcv()(boxes[rows], scores[rows], idxs[rows], dict(given), True)]
        ]
        kept, left = (torch.cat(parts) for parts in zip(*found, strict=True))
        left, order = left.sort(descending=True, stable=True)
        kept = kept[order]
    if most > 0:
        kept, left = kept[:most], left[:most]
    return torch.cat([boxes[kept], left[:, None].to(boxes)], -1), kept


def _mmcv() -> Any:
    if _original is None:
        install()
    return _original


def install() -> None:
    """Put it in the place of mmcv's in mmcv, and in modules that have taken that; safe to call again."""
    global _original
    ops = importlib.import_module("mmcv.ops")
    if _original is None:
        _original = ops.batched_nms
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("mmcv", "mmdet") and module and vars(module).get("batched_nms") is _original:
            vars(module)["batched_nms"] = batched_nms
