"""FGV: region-text alignment by a symmetric softmax over regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.losses.distributed import Group, mean_over_rows


def region_contrastive_loss(
    region: Tensor, text: Tensor, logit_scale: Tensor, ignore: Tensor | None = None, group: Group | None = None
) -> Tensor:
    """``(CE(scale R T', diag) + CE(scale T R', diag)) / 2``.

    Source: FG-CLIP 2's fine-grained visual term as in the released training code, over one rank's regions there; the
    paper gives no formula.

    Args:
        region: unit length, ``(M, D)``.
        text: unit length, ``(M, D)``; row i describes region i.
        logit_scale: multiplier, already exponentiated; one number.
        ignore: bool ``(M, M)``, True where a text off the diagonal is also true of the region; left out of both sums.
            The diagonal is not looked at. With a group it is about this rank's regions and this rank's texts.
        group: ranks to choose among, each with its own M, see :mod:`fgclip2.losses.distributed`.

    Returns:
        Scalar; 0 for a single region, which has nothing to be told from, and for none.
    """

    if ignore is not None:
        ignore = ignore & ~torch.eye(len(ignore), dtype=torch.bool, device=ignore.device)

    def choices(own: slice, rows: Tensor, candidates: Tensor, scale: Tensor, ignored: Tensor | None) -> Tensor:
        logits = rows[own] @ candidates.T * scale
        if ignored is not None:
            ignored = F.pad(ignored, (own.start, len(candidates) - own.stop))
            logits = logits.masked_fill(ignored, float("-inf"))
        target = torch.arange(own.start, own.stop, device=rows.device)
        return F.cross_entropy(logits, target, reduction="sum")

    def terms(own: slice, regions: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
        forth = choices(own, regions, texts, scale, ignore)
        back = choices(own, texts, regions, scale, None if ignore is None else ignore.T)
        return (forth + back) / 2

    return mean_over_rows(terms, (region, text), (logit_scale.reshape(()),), group)
