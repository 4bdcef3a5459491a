"""A feature pyramid from one plain stride-16 map, after ViTDet's simple feature pyramid (Li et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error

STRIDES: Final = (4, 8, 16, 32, 64)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a map ``(B, C, H, W)``: unlike batch or group norm, padding cannot reach it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FGCLIP2Pyramid(nn.Module):
    """Tokens of several encoder blocks, side by side on one grid, to maps of several strides.

    Args:
        width: channels of one block's tokens, D.
        blocks: how many blocks are stacked, each with a norm of its own; the input has ``width * blocks`` channels.
        out_channels: channels of every level, C.
        strides: of 4, 8, 16, 32, 64 pixels.

    Raises:
        Fgclip2Error: another stride.
    """

    def __init__(self, width: int, blocks: int, out_channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        unknown = [stride for stride in strides if stride not in STRIDES]
        if unknown or not strides:
            raise Fgclip2Error(f"pyramid strides {tuple(strides)}: choose one or more of {STRIDES}")
        self.strides = tuple(strides)
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(blocks))
        self.lateral = nn.Conv2d(width * blocks, out_channels, 1)
        self.ups = nn.ModuleDict()
        for stride in strides:
            if stride < 16:
                steps: list[nn.Module] = []
                for _ in range((16 // stride).bit_length() - 1):
                    steps += [nn.ConvTranspose2d(out_channels, out_channels, 2, stride=2), nn.GELU()]
                self.ups[str(stride)] = nn.Sequential(*steps[:-1])
        self.out_norms = nn.ModuleList(ChannelNorm(out_channels) for _ in strides)

    def forward(self, tokens: Tensor, inside: Tensor | None) -> tuple[Tensor, ...]:
        """Build the levels.

        Args:
            tokens: ``(B, width * blocks, h, w)`` at stride 16.
            inside: ``(B, 1, h, w)``, 1 where a picture is and 0 in its padding; ``None`` without padding.

        Returns:
            Maps ``(B, C, ceil(16 h / stride), ceil(16 w / stride))`` in the order of the strides, zero in padding.
        """
        parts = tokens.chunk(len(self.norms), dim=1)
        base = self.lateral(torch.cat([norm(part) for part, norm in zip(parts, self.norms, strict=True)], dim=1))
        if inside is not None:
            base = base * inside
        levels = []
        for stride, norm in zip(self.strides, self.out_norms, strict=True):
            level = norm(self.ups[str(stride)](base) if stride < 16 else _pool(base, inside, stride // 16))
            if inside is not None:
                level = level * _resize_mask(inside, stride)
            levels.append(level)
        return tuple(levels)


def replicate_edges(level: Tensor, sizes: Sequence[tuple[int, int]], stride: int) -> Tensor:
    """Fill padding with the picture's last row and column, as RoIAlign does at the end of an unpadded map.

    Args:
        level: ``(B, C, h, w)``.
        sizes: height and width of each picture in pixels, without padding.
        stride: of the level, in pixels.

    Returns:
        ``(B, C, h, w)``; the very same tensor when nothing is padding.
    """
    # Sides count in whole patches: the tower sees a partly covered one as part of the picture.
    cells = [tuple(-(-(-(-side // 16) * 16) // stride) for side in size) for size in sizes]
    if set(cells) == {tuple(level.shape[-2:])}:
        return level
    ends = torch.tensor(cells).to(level.device, non_blocking=True) - 1  # (B, 2)
    rows = torch.minimum(torch.arange(level.shape[-2], device=level.device), ends[:, :1])
    columns = torch.minimum(torch.arange(level.shape[-1], device=level.device), ends[:, 1:])
    level = level.gather(2, rows[:, None, :, None].expand_as(level))
    return level.gather(3, columns[:, None, None, :].expand_as(level))


def inside_cells(level: Tensor, shapes: Sequence[tuple[int, ...]], stride: int) -> Tensor:
    """Where a level's cells touch the picture.

    Args:
        level: ``(B, C, h, w)``.
        shapes: height and width of each picture in pixels, to the end of its last patch (``pad_shape``).
        stride: of the level, in pixels.

    Returns:
        Bool ``(B, 1, h, w)``.
    """
    rows = torch.arange(level.shape[-2], device=level.device) * stride
    columns = torch.arange(level.shape[-1], device=level.device) * stride
    sizes = torch.tensor([shape[:2] for shape in shapes]).to(level.device, non_blocking=True)
    inside = (rows[None, :, None] < sizes[:, 0, None, None]) & (columns[None, None] < sizes[:, 1, None, None])
    return inside[:, None]


def _pool(base: Tensor, inside: Tensor | None, factor: int) -> Tensor:
    """Max over the cells of a picture; padding, which is 0, must not win over negative values."""
    if factor == 1:
        return base
    if inside is None:
        return F.max_pool2d(base, factor, ceil_mode=True)
    pooled = F.max_pool2d(base.masked_fill(inside == 0, float("-inf")), factor, ceil_mode=True)
    return pooled.masked_fill(pooled == float("-inf"), 0)


def _resize_mask(inside: Tensor, stride: int) -> Tensor:
    if stride < 16:
        factor = 16 // stride
        return inside.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return F.max_pool2d(inside, stride // 16, ceil_mode=True) if stride > 16 else inside
