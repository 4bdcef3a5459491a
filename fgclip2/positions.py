"""The text tower's position table, stretched for long captions."""

from __future__ import annotations

import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error


def stretch_positions(table: Tensor, keep: int = 20) -> Tensor:
    """Stretch a table of text positions: keep the first rows, interpolate every later one into four.

    Row ``keep + 4 i + j`` is ``p[keep+i] (1 - j/4) + p[keep+i+1] j/4``; the last four rows extrapolate by
    ``(p[-1] - p[-2]) j/4``. Source: Long-CLIP's knowledge-preserving stretch, as in the released FG-CLIP 2.

    Args:
        table: ``(L, D)``, at least two rows.
        keep: leading rows that are copied, ``0 <= keep < L``.

    Returns:
        ``(4 L - 3 keep, D)``: 196 rows for the released 64 and 20.
    """
    if not 0 <= keep < len(table) or len(table) < 2:
        raise Fgclip2Error(f"cannot keep {keep} of {len(table)} position rows; keep at least 0 and fewer than all")
    tail = table[keep:, None]
    quarters = torch.arange(4, dtype=table.dtype, device=table.device)[None, :, None]
    between = (4 - quarters) * tail[:-1] / 4 + quarters * tail[1:] / 4
    beyond = tail[-1:] + quarters * (table[-1] - table[-2]) / 4
    stretched = torch.cat([between, beyond])  # (L - keep, 4, D)
    return torch.cat([table[:keep], stretched.flatten(0, 1)])
