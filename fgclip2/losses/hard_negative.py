"""FGT: every region picks its own phrase among perturbed ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.losses.distributed import Group, share_of_mean, sum_over_ranks, widen


def hard_negative_loss(
    region: Tensor, texts: Tensor, logit_scale: Tensor, mask: Tensor | None = None, group: Group | None = None
) -> Tensor:
    """Mean cross entropy of ``scale cos(R_i, T_ik)`` with the positive first.

    Source: FG-CLIP 2's fine-grained textual term as in the released training code, with any number of negatives.

    Args:
        region: unit length, ``(M, D)``.
        texts: unit length, ``(M, 1 + K, D)``; ``texts[:, 0]`` is true, the rest are hard negatives.
        logit_scale: multiplier, already exponentiated; one number.
        mask: bool ``(M, 1 + K)``, False where a region has fewer negatives; the first column must be True.
        group: ranks to average over, each with its own M and K, see :mod:`fgclip2.losses.distributed`.

    Returns:
        Scalar; 0 without regions.
    """
    with torch.autocast(region.device.type, enabled=False):
        logits = torch.einsum("md,mkd->mk", widen(region), widen(texts)) * logit_scale.reshape(())
        if mask is not None:
            logits = logits.masked_fill(~mask, float("-inf"))
        target = torch.zeros(len(region), dtype=torch.long, device=region.device)
        total = F.cross_entropy(logits, target, reduction="sum")
    return share_of_mean(total, sum_over_ranks(total.new_tensor(len(region)), group), group)
