"""The global loss: pairwise sigmoid alignment of pictures and captions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_loss(
    image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor, ignore: Tensor | None = None
) -> Tensor:
    """``-1/B sum_ij log sigmoid(z_ij (scale cos(I_i, T_j) + bias))`` with ``z_ij = 1`` for i = j and -1 otherwise.

    Source: SigLIP, arXiv 2303.15343, algorithm 1; FG-CLIP 2's global term for short and for long captions.

    Args:
        image: unit length, ``(B, D)``.
        text: unit length, ``(B, D)``; row i belongs to picture i.
        logit_scale: multiplier, already exponentiated.
        logit_bias: added to every logit.
        ignore: bool ``(B, B)``, True for pairs off the diagonal that are also true and must not count as negatives.

    Returns:
        Scalar.
    """
    logits = image @ text.T * logit_scale + logit_bias
    sign = 2 * torch.eye(len(image), dtype=logits.dtype, device=logits.device) - 1
    terms = F.logsigmoid(sign * logits)
    if ignore is not None:
        terms = terms.masked_fill(ignore, 0)
    return -terms.sum() / len(image)
