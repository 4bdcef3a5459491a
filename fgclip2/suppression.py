"""Non-maximum suppression within classes, exact for any number of classes and any image size."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_AT_ONCE: Final = 1000  # boxes that one pass compares on a CPU, where its time grows with their square


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    """Of boxes of one class that overlap more than the threshold, keep the best.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in pixels; they may be negative.
        scores: (N,).
        classes: (N,) any integers: a class's number does not change what is kept.
        iou_threshold: a box that overlaps a better one of its class by more than this goes.

    Returns:
        (K,) int64 indices of the kept boxes, best first, on the device of ``boxes``.

    The usual trick moves every class to a place of its own by adding its number times the image's width. In float32
    that rounds boxes to whole pixels and worse from some thousand classes on. Here the classes that occur are
    numbered, and the sums are float64. Its rounding stays below that of a float32 overlap up to 10^8 pixels.
    """
    from torchvision.ops import nms

    if not len(boxes):
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    device = boxes.device
    if device.type == "mps":  # which has no float64
        boxes, scores, classes = boxes.cpu(), scores.cpu(), classes.cpu()
    own, ranked = boxes.detach().double(), scores.detach().double()
    _, number, count = classes.unique(return_inverse=True, return_counts=True)
    low = own.amin()
    span = own.amax() - low + 1
    if bool(torch.isfinite(span)) and (own.is_cuda or len(own) <= _AT_ONCE):
        return nms(own - low + (number * span)[:, None], ranked, iou_threshold).to(device)
    left = torch.zeros_like(number, dtype=torch.bool)
    for rows in number.argsort(stable=True).split(count.tolist()):
        left[rows if len(rows) == 1 else rows[nms(own[rows], ranked[rows], iou_threshold)]] = True
    kept = left.nonzero()[:, 0]
    return kept[ranked[kept].argsort(descending=True, stable=True)].to(device)
