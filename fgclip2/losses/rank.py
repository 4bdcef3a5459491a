"""CMR: a region's own phrase must beat its hard negatives by a margin that follows the model's progress."""

from __future__ import annotations

import torch
from torch import Tensor

from fgclip2.losses.distributed import Group, share_of_mean, sum_over_ranks, widen


def rank_loss(
    positive: Tensor,
    negative: Tensor,
    threshold: Tensor,
    mask: Tensor | None = None,
    group: Group | None = None,
    bounds: tuple[float, float] = (0.0, 10.0),
) -> tuple[Tensor, Tensor]:
    """Mean of ``relu(S_neg - S_pos + tau)`` over all pairs, and the next tau: the mean of ``S_pos - S_neg``.

    Source: FG-CLIP 2, arXiv 2510.10921, the cross-modal rank loss with globally synchronised threshold. The paper's S
    are cosines, the released code's are cosines times the logit scale of the hard negatives.

    Args:
        positive: ``(M,)``, S of each region with its own phrase.
        negative: ``(M, K)``, S of each region with its hard negatives.
        threshold: tau, one number, from the step before; the released code starts at 0.
        mask: bool ``(M, K)``, False where a region has fewer negatives.
        group: ranks to average over, each with its own M and K, see :mod:`fgclip2.losses.distributed`.
        bounds: the next tau is kept within; the released code's.

    Returns:
        The loss, a scalar, 0 without pairs; and the next tau, a scalar without gradient, equal on all ranks: from the
        pairs of all ranks, or the tau of before where no rank has a pair.
    """
    with torch.autocast(positive.device.type, enabled=False):
        margin = widen(positive)[:, None] - widen(negative)
        threshold = widen(threshold).detach().reshape(())
        missing = torch.zeros_like(margin, dtype=torch.bool) if mask is None else ~mask
        total = (threshold - margin).relu().masked_fill(missing, 0).sum()
        sums = torch.stack([margin.masked_fill(missing, 0).sum(), (~missing).sum().to(margin.dtype)])
        margins, count = sum_over_ranks(sums, group)
        following = torch.where(count > 0, margins / count.clamp(min=1), threshold).clamp(*bounds)
        return share_of_mean(total, count, group), following
