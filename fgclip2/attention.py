"""How attention runs: the one place that decides between torch's fused kernel and plain matrix products.

Every tower layer and both attention heads come through :func:`attention`. The padding mask stays ``(B, 1, 1, N)``
and is broadcast, so no call holds a ``heads x N x N`` mask, and a single unpadded picture needs none at all.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

NAME: Final = "fgclip2"  # the implementation's name in transformers' attention registry
_QUERY_CHUNK: Final = 64  # queries a block: its score matrix stays in the processor's second-level cache
_PLAIN_TRAINING_TOKENS: Final = 1024  # above this, storing the scores for backward costs more than it saves


def key_mask(mask: Tensor | None) -> Tensor | None:
    """Padding mask of a batch in the broadcast form that attention takes.

    Args:
        mask: 1 for real tokens and 0 for padding, any integer or bool dtype, shape ``(B, N)``; ``None`` for no padding.

    Returns:
        Bool tensor ``(B, 1, 1, N)``, or ``None``: no mask, or a mask on the CPU without padding. On an accelerator the
        values are not looked at, as that would make the host wait.
    """
    if mask is None or (mask.device.type == "cpu" and bool(mask.all())):
        return None
    return mask.bool()[:, None, None, :]


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, ``softmax(q k' / sqrt(d)) v``.

    Args:
        query: ``(B, heads, Q, d)``.
        key: ``(B, heads, N, d)``.
        value: ``(B, heads, N, d)``.
        mask: bool, broadcastable to ``(B, heads, Q, N)``, True where a key may be seen.

    Returns:
        ``(B, heads, Q, d)`` in the query's dtype.
    """
    if query.device.type == "cpu":
        training = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
        # Measured on two AVX512-BF16 cores: torch's fused CPU kernel gains nothing from bf16, and its backward is
        # slower than the three matrix products at the lengths that training uses.
        if training and key.shape[-2] <= _PLAIN_TRAINING_TOKENS:
            return _plain(query, key, value, mask)
        if not training and query.dtype == torch.bfloat16:
            blocks = query.split(_QUERY_CHUNK, dim=-2)
            return torch.cat([_plain(block, key, value, mask) for block in blocks], dim=-2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1) @ value


def _registered(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    """transformers' calling convention: heads second in, tokens second out, no attention weights."""
    return attention(query, key, value, attention_mask).transpose(1, 2), None


AttentionInterface.register(NAME, _registered)
