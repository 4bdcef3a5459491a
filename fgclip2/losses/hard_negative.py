"""FGT: every region picks its own phrase among perturbed ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_negative_loss(region: Tensor, texts: Tensor, logit_scale: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean cross entropy of ``scale cos(R_i, T_ik)`` with the positive first.

    Source: FG-CLIP 2's fine-grained textual term as in the released training code, with any number of negatives.

    Args:
        region: unit length, ``(M, D)``.
        texts: unit length, ``(M, 1 + K, D)``; ``texts[:, 0]`` is true, the rest are hard negatives.
        logit_scale: multiplier, already exponentiated.
        mask: bool ``(M, 1 + K)``, False where a region has fewer negatives; the first column must be True.

    Returns:
        Scalar.
    """
    logits = torch.einsum("md,mkd->mk", region, texts) * logit_scale
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    target = torch.zeros(len(region), dtype=torch.long, device=region.device)
    return F.cross_entropy(logits, target)
