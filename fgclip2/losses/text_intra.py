"""TIC: texts that are near each other, but do not say the same, are pushed apart."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.losses.distributed import Group, mean_over_rows

Filtered = Literal["remove", "zero"]
Reduction = Literal["sum", "mean"]


def text_intra_contrastive_loss(
    text: Tensor,
    top_k: int = 10,
    max_similarity: float = 0.95,
    filtered: Filtered = "remove",
    reduction: Reduction = "sum",
    group: Group | None = None,
) -> Tensor:
    """``sum_i log sum_m exp(cos(T_i, T_m))`` over the ``top_k`` nearest other texts m of each text i.

    Source: FG-CLIP 2, arXiv 2510.10921, the text intra-modal contrastive loss; no temperature, as in the released
    code. The released code's value comes out with ``filtered="zero", reduction="mean"``.

    Args:
        text: unit length, ``(M, D)``.
        top_k: how many neighbours count; fewer where there are fewer.
        max_similarity: pairs with a larger cosine are taken to say the same.
        filtered: what becomes of those and of a text with itself: ``"remove"`` takes them out, as the paper has it (a
            text that has no neighbour left adds 0), ``"zero"`` lets them stay with a cosine of 0, as the released code
            does.
        reduction: over texts; ``"mean"`` divides by the number of texts.
        group: ranks to look for neighbours on, each with its own M, see :mod:`fgclip2.losses.distributed`.

    Returns:
        Scalar; 0 for fewer than two texts.

    Raises:
        Fgclip2Error: on a ``top_k`` below 1 or an unknown word for ``filtered`` or ``reduction``.
    """
    if top_k < 1:
        raise Fgclip2Error(f"top_k {top_k} is below 1; give the number of neighbours that count")
    if filtered not in ("remove", "zero"):
        raise Fgclip2Error(f'filtered {filtered!r} is unknown; choose "remove" (paper) or "zero" (released code)')
    if reduction not in ("sum", "mean"):
        raise Fgclip2Error(f'reduction {reduction!r} is unknown; choose "sum" (paper) or "mean" (released code)')

    def terms(own: slice, texts: Tensor) -> Tensor:
        similarity = texts[own] @ texts.T
        if len(texts) < 2:
            return similarity.sum() * 0
        same = similarity.detach() > max_similarity
        same.diagonal(own.start).fill_(True)
        nearest = similarity.masked_fill(same, 0 if filtered == "zero" else float("-inf"))
        nearest = nearest.topk(min(top_k, len(texts)), dim=1).values
        # A row of -inf alone has no gradient but nan: it gets numbers, and then no weight.
        alone = nearest[:, :1].isneginf()
        total = nearest.masked_fill(alone, 0).logsumexp(1).masked_fill(alone[:, 0], 0).sum()
        return total * len(texts) if reduction == "sum" else total

    return mean_over_rows(terms, (text,), (), group)
