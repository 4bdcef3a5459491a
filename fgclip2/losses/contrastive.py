"""FGV: region-text alignment by a symmetric softmax over a batch's regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def region_contrastive_loss(region: Tensor, text: Tensor, logit_scale: Tensor, ignore: Tensor | None = None) -> Tensor:
    """``(CE(scale R T', diag) + CE(scale T R', diag)) / 2``.

    Source: FG-CLIP 2's fine-grained visual term as in the released training code; the paper gives no formula.

    Args:
        region: unit length, ``(M, D)``.
        text: unit length, ``(M, D)``; row i describes region i.
        logit_scale: multiplier, already exponentiated.
        ignore: bool ``(M, M)``, True where a text off the diagonal is also true of the region; left out of both sums.

    Returns:
        Scalar; 0 for a single region, which has nothing to be told from.
    """
    logits = region @ text.T * logit_scale
    if ignore is not None:
        logits = logits.masked_fill(ignore, float("-inf"))
    target = torch.arange(len(region), device=region.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
