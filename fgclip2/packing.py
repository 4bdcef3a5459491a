"""Pictures of a batch one after the other, without their padding, so that none is computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def lengths_of(mask: Tensor) -> tuple[int, ...] | None:
    """Real tokens of each row of a padding mask on the CPU.

    Args:
        mask: bool or integer ``(B, N)``, 1 for real tokens.

    Returns:
        B numbers, or ``None`` where padding is not at the end of every row or a row has nothing else.
    """
    real = mask.bool()
    counts = real.sum(dim=1)
    in_front = torch.arange(mask.shape[1]) < counts[:, None]
    if not bool((real == in_front).all() & (counts > 0).all()):
        return None
    return tuple(counts.tolist())


def pack(tokens: Tensor, lengths: Sequence[int]) -> Tensor:
    """``(B, N, D)`` to ``(1, sum of lengths, D)``, the first tokens of every row."""
    return torch.cat([row[:length] for row, length in zip(tokens, lengths, strict=True)])[None]


def unpack(tokens: Tensor, lengths: Sequence[int], size: int) -> Tensor:
    """``(1, sum of lengths, D)`` to ``(B, size, D)``, zero where padded."""
    rows = pad_sequence(list(tokens[0].split(list(lengths))), batch_first=True)
    return F.pad(rows, (0, 0, 0, size - rows.shape[1]))
