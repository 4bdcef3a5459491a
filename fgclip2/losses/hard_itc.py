"""Hard ITC: regions and phrases choose each other among the batch's phrases, perturbed ones included."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.losses.distributed import Group, mean_over_rows


def hard_itc_loss(
    region: Tensor, texts: Tensor, logit_scale: Tensor, mask: Tensor | None = None, group: Group | None = None
) -> Tensor:
    """``(CE(scale R [P; N]', diag) + CE(scale P R', diag)) / 2``, P the M positive texts, N all hard negatives.

    Source: the released training code of FG-CLIP 2; the paper does not have it.

    Args:
        region: unit length, ``(M, D)``.
        texts: unit length, ``(M, 1 + K, D)``; ``texts[:, 0]`` is true, the rest are hard negatives.
        logit_scale: multiplier, already exponentiated; one number.
        mask: bool ``(M, 1 + K)``, False where a region has fewer negatives; the first column must be True.
        group: ranks to choose among, each with its own M and K, see :mod:`fgclip2.losses.distributed`.

    Returns:
        Scalar; 0 without regions.
    """
    negatives = texts[:, 1:].flatten(0, 1) if mask is None else texts[:, 1:][mask[:, 1:]]

    def terms(own: slice, regions: Tensor, positives: Tensor, negatives: Tensor, scale: Tensor) -> Tensor:
        target = torch.arange(own.start, own.stop, device=regions.device)
        forth = regions[own] @ torch.cat([positives, negatives]).T * scale
        back = positives[own] @ regions.T * scale
        return (F.cross_entropy(forth, target, reduction="sum") + F.cross_entropy(back, target, reduction="sum")) / 2

    return mean_over_rows(terms, (region, texts[:, 0], negatives), (logit_scale.reshape(()),), group)
