"""Open-vocabulary scores of regions: cosine to texts, and F-ViT's geometric ensemble. Pure functions of tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from fgclip2.features import roi_means
from fgclip2.tower import PATCH

CHUNK = 2048
"""Classes scored at a time, so that memory does not grow with their number."""


def region_features(dense: Tensor, rois: Tensor) -> Tensor:
    """RoIAlign (1x1, aligned, adaptive sampling) on the dense map, then unit length: the released order.

    Args:
        dense: output of the dense head, ``(B, D, h, w)`` at stride 16, not normalised.
        rois: ``(R, 5)``: index into the batch, then xyxy in pixels of the batch.

    Returns:
        ``(R, D)``.
    """
    if dense.device.type != "cpu":  # one kernel for all pictures; the CPU's is slower than the matrix product
        return F.normalize(roi_align(dense, rois.to(dense.dtype), 1, 1 / PATCH, aligned=True).flatten(1), dim=-1)
    pooled = dense.new_zeros(len(rois), dense.shape[1])
    for index, picture in enumerate(dense):
        own = rois[:, 0] == index
        pooled[own] = roi_means(picture.permute(1, 2, 0), rois[own, 1:].to(dense.dtype) / PATCH)
    return F.normalize(pooled, dim=-1)


def chunked_probabilities(
    regions: Tensor, texts: Tensor, temperature: float | Tensor, rest: Tensor | None = None
) -> Iterator[Tensor]:
    """``softmax(temperature * cosine)`` over all classes, given ``CHUNK`` classes at a time.

    Args:
        regions: ``(R, D)``, unit length.
        texts: ``(C, D)``, unit length.
        temperature: multiplier of the cosine.
        rest: logits ``(R,)`` of one more class, such as the background, which takes its share and is not given.

    Yields:
        ``(R, c)``; with ``rest`` rows of all chunks together sum to less than 1.
    """
    parts = texts.split(CHUNK)
    total = regions.new_full((len(regions),), -torch.inf) if rest is None else rest
    for part in parts:
        total = torch.logaddexp(total, (temperature * regions @ part.T).logsumexp(1))
    for part in parts:
        yield (temperature * regions @ part.T - total[:, None]).exp()


def geometric_ensemble(head: Tensor, dense: Tensor, novel: Tensor, alpha: float, beta: float) -> Tensor:
    """F-ViT's (and F-VLM's) score: ``head^(1-a) * dense^a``, with a = alpha for base and beta for novel classes.

    Args:
        head: probabilities of the trained head, ``(R, C)``.
        dense: probabilities from the frozen dense map, ``(R, C)``.
        novel: bool ``(C,)``, True where the head never saw a label.
        alpha: weight of the dense map for base classes, 0..1; 0.1 in F-ViT.
        beta: the same for novel classes; 0.8 in F-ViT.

    Returns:
        ``(R, C)``.
    """
    weight = torch.where(novel, head.new_tensor(beta), head.new_tensor(alpha))
    tiny = torch.finfo(head.dtype).tiny
    return torch.exp((1 - weight) * head.clamp(min=tiny).log() + weight * dense.clamp(min=tiny).log())
