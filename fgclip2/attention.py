"""How attention runs: the one place that decides between torch's fused kernel and plain matrix products.

Every tower layer and both attention heads come through :func:`attention`. The padding mask stays ``(B, 1, 1, N)``
and is broadcast, so no call holds a ``heads x N x N`` mask, and a single unpadded picture needs none at all. Where
pictures are packed one after the other (``fgclip2.packing``), their lengths take the mask's place.
"""

from __future__ import annotations

from itertools import repeat
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.cpu import has_amx, traced

NAME: Final = "fgclip2"  # the implementation's name in transformers' attention registry; see fgclip2.layers

Visible: TypeAlias = "Tensor | tuple[int, ...] | None"
"""What may be seen: a bool mask, the lengths of packed sequences of which each sees itself, or ``None`` for all."""

# Measured on two AVX512-BF16 cores, in bf16, against 150 GFLOP/s of torch's fused kernel at every length: 370 at 1,024
# tokens, 385 at 4,096, 320 at 16,384. More scores a thread leave the cache; fewer queries pack the keys too often.
_SCORES: Final = 1 << 22  # numbers that a thread holds at a time
_QUERIES: Final = (64, 512)  # fewest and most of a block
_MASKED_QUERIES: Final = 64
_PLAIN_TOKENS: Final = 1024  # above this, storing all scores costs more than it saves
_NARROW_HEAD: Final = 16


def key_mask(mask: Tensor | None, look: bool = True) -> Tensor | None:
    """Padding mask of a batch in the broadcast form that attention takes.

    Args:
        mask: 1 for real tokens and 0 for padding, any integer or bool dtype, shape ``(B, N)``; ``None`` for no padding.
        look: on the CPU, leave out a mask without padding; compiled code would need a graph for each case.

    Returns:
        Bool tensor ``(B, 1, 1, N)``, or ``None``: no mask, or a mask on the CPU without padding. On an accelerator the
        values are not looked at, as that would make the host wait.
    """
    if mask is None or (look and mask.device.type == "cpu" and bool(mask.all())):
        return None
    return mask.bool()[:, None, None, :]


def attention(query: Tensor, key: Tensor, value: Tensor, visible: Visible = None) -> Tensor:
    """Scaled dot-product attention, ``softmax(q k' / sqrt(d)) v``.

    Args:
        query: ``(B, heads, Q, d)``; more leading dimensions are as good.
        key: ``(B, heads, N, d)``.
        value: ``(B, heads, N, d)``.
        visible: bool, broadcastable to ``(B, heads, Q, N)``, True where a key may be seen; or the lengths of sequences
            that lie one after the other in Q and in N; ``None`` for all keys.

    Returns:
        ``(B, heads, Q, d)`` in the query's dtype.
    """
    if isinstance(visible, tuple):
        sequences = zip(*(part.split(visible, dim=-2) for part in (query, key, value)), strict=True)
        # Tokens before heads, as the fused kernel writes and the next projection reads them: one copy instead of two.
        parts = [attention(*sequence).transpose(-2, -3) for sequence in sequences]
        return torch.cat(parts, dim=-3).transpose(-2, -3)
    if query.device.type == "cpu" and not traced():
        training = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
        # The backward of torch's fused CPU kernel is slower than the three matrix products at the lengths that training
        # uses: 8.4 times at 40 tokens, 2.7 at 196, as fast at 1,024 (two AMX cores).
        # Heads of 8 numbers are too narrow for it: windows of 64 places take 1.6 times as long as the products do in
        # float32, and 5 times in bf16.
        narrow = query.shape[-1] < _NARROW_HEAD
        if (training or narrow) and key.shape[-2] <= _PLAIN_TOKENS:
            return _plain(query, key, value, visible)
        # Forward it gains nothing from bf16 with AVX512-BF16 alone. With AMX it runs at 480 to 630 GFLOP/s from 256
        # tokens on where the blocks below reach 220 to 380, and at 440 to 570 under a mask where they reach 75 to 110.
        if not training and query.dtype == torch.bfloat16 and not has_amx():
            return _blocks(query, key, value) if visible is None else _masked_blocks(query, key, value, visible)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)


def _blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Some heads' and some queries' scores at a time, in one piece of memory; nothing here has a gradient."""
    if not query.numel():
        return torch.empty_like(query)
    length, keys, threads = query.shape[-2], key.shape[-2], torch.get_num_threads()
    # Heads of a projection lie side by side. Products of such slices cost twice as much as one copy and products of it.
    q, k, v = (part.flatten(0, -3).contiguous() for part in (query * query.shape[-1] ** -0.5, key, value))
    fewest, most = _QUERIES
    queries = min(length, max(fewest, min(most, _SCORES // keys)))
    heads = min(len(q), max(threads, threads * _SCORES // (queries * keys)))
    output, memory = torch.empty_like(q), q.new_empty(heads * queries * keys)
    for head in range(0, len(q), heads):
        some = slice(head, head + heads)
        transposed = k[some].transpose(1, 2)
        for first in range(0, length, queries):
            block = q[some, first : first + queries]
            shape = (len(block), block.shape[1], keys)
            scores = torch.bmm(block, transposed, out=memory[: shape[0] * shape[1] * keys].view(shape))
            weights = torch.softmax(scores, dim=-1, out=scores)
            output[some, first : first + queries] = torch.bmm(weights, v[some])
    return output.view(query.shape)


def _masked_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    blocks = query.split(_MASKED_QUERIES, dim=-2)
    masks = mask.split(_MASKED_QUERIES, dim=-2) if mask.shape[-2] > 1 else repeat(mask, len(blocks))
    return torch.cat([_plain(block, key, value, part) for block, part in zip(blocks, masks, strict=True)], dim=-2)


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1) @ value
