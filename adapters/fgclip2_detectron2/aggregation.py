"""Attention over a cost volume: windows of places within each class, and classes within each place.

A cost volume is ``(B, T, h, w, C)``: pictures, classes, rows, columns, channels. After CAT-Seg (Cho et al., CVPR 2024).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.attention import attention


class ChannelNorm(nn.LayerNorm):
    """Layer norm over channels: unlike a group norm it mixes no places, so padding changes nothing."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, h, w)`` to the same."""
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


class Mlp(nn.Sequential):
    """Two linear layers around a GELU."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__(nn.Linear(channels, ratio * channels), nn.GELU(), nn.Linear(ratio * channels, channels))


class WindowAttention(nn.Module):
    """Attention among the places of a window, in every class apart; queries and keys also see the picture.

    Windows start at the upper left corner, so a picture's result does not depend on what it was padded to.

    Args:
        channels: C.
        guidance: channels of the guidance.
        heads: attention heads; divides C.
        window: side of a window in patches.
        shift: by how many patches the windows are moved up and left.
        mlp_ratio: width of the MLP in C.
    """

    def __init__(self, channels: int, guidance: int, heads: int, window: int, shift: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.guide = nn.Linear(guidance, 2 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.mlp = Mlp(channels, mlp_ratio)

    def forward(self, volume: Tensor, guidance: Tensor, inside: Tensor | None = None) -> Tensor:
        """``(B, T, h, w, C)`` to the same.

        Args:
            volume: the cost volume.
            guidance: ``(B, h, w, G)``, features of the picture.
            inside: ``(B, h, w)`` bool, False in padding; ``None`` without padding.
        """
        rows, columns = volume.shape[2:4]
        guide = self._windows(self.guide(guidance)[:, None])  # (B, 1, windows, places, 2 C)
        query, key, value = self._windows(self.qkv(self.norm1(volume))).chunk(3, dim=-1)
        guide_query, guide_key = guide.chunk(2, dim=-1)
        parts = (query + guide_query, key + guide_key, value)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in parts)
        attended = attention(q, k, v, self._mask(volume, inside)).transpose(-2, -3).flatten(-2)
        volume = volume + self.out(self._whole(attended, rows, columns))
        return volume + self.mlp(self.norm2(volume))

    def _windows(self, maps: Tensor) -> Tensor:
        """``(B, T, h, w, C)`` to ``(B, T, windows, places, C)``, padded where windows reach over the edge."""
        side = self.window
        padded = F.pad(maps, (0, 0, *self._pads(maps.shape[3]), *self._pads(maps.shape[2])))
        cut = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, T, rows, side, columns, side, C)
        return cut.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def _whole(self, windows: Tensor, rows: int, columns: int) -> Tensor:
        """The inverse of `_windows`."""
        side, before = self.window, self.shift
        across = (sum(self._pads(columns)) + columns) // side
        cut = windows.unflatten(2, (-1, across)).unflatten(4, (side, side)).transpose(3, 4)
        padded = cut.flatten(4, 5).flatten(2, 3)
        return padded[:, :, before : before + rows, before : before + columns]

    def _pads(self, length: int) -> tuple[int, int]:
        return self.shift, -(length + self.shift) % self.window

    def _mask(self, volume: Tensor, inside: Tensor | None) -> Tensor | None:
        """``(B, 1, windows, 1, 1, places)``, True where a key may be seen; ``None`` when all may."""
        rows, columns = volume.shape[2:4]
        if inside is None:
            if not any((*self._pads(rows), *self._pads(columns))):
                return None
            inside = volume.new_ones((1, rows, columns), dtype=torch.bool)
        seen = self._windows(inside[:, None, :, :, None])[..., 0]  # (B, 1, windows, places)
        # A window that is padding altogether has no key to see; what comes out of it is cut away.
        return (seen | ~seen.any(-1, keepdim=True))[:, :, :, None, None]


class ClassSums(NamedTuple):
    """What a place knows of all classes: sums over classes of keys times values, and of keys."""

    products: Tensor  # (B, h, w, heads, d, d)
    keys: Tensor  # (B, h, w, heads, d)

    def plus(self, other: ClassSums) -> ClassSums:
        """Sums over the classes of both."""
        return ClassSums(self.products + other.products, self.keys + other.keys)


class ClassAttention(nn.Module):
    """Linear attention among the classes of a place (Katharopoulos et al. 2020); queries and keys also see the texts.

    Every class reads the same two sums over all classes, so their order means nothing, and the sums can be gathered
    chunk by chunk: exact, apart from the rounding of another order of addition.

    Args:
        channels: C.
        guidance: channels of the texts' guidance.
        heads: attention heads; divides C.
        mlp_ratio: width of the MLP in C.
    """

    def __init__(self, channels: int, guidance: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.guide_query = nn.Linear(guidance, channels, bias=False)
        self.guide_key = nn.Linear(guidance, channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.mlp = Mlp(channels, mlp_ratio)

    def sums(self, volume: Tensor, guidance: Tensor) -> ClassSums:
        """What some classes ``(B, T, h, w, C)`` with guidance ``(T, G)`` add to the sums."""
        key, value = self.key_value(self.norm1(volume)).chunk(2, dim=-1)
        key = F.elu(key + self.guide_key(guidance)[:, None, None]) + 1
        key, value = (part.unflatten(-1, (self.heads, -1)) for part in (key, value))
        return ClassSums(torch.einsum("btyxhd,btyxhe->byxhde", key, value), key.sum(1))

    def forward(self, volume: Tensor, guidance: Tensor, sums: ClassSums) -> Tensor:
        """``(B, T, h, w, C)`` to the same, given the sums over all classes, these or more."""
        query = F.elu(self.query(self.norm1(volume)) + self.guide_query(guidance)[:, None, None]) + 1
        query = query.unflatten(-1, (self.heads, -1))
        found = torch.einsum("btyxhd,byxhde->btyxhe", query, sums.products)
        share = torch.einsum("btyxhd,byxhd->btyxh", query, sums.keys)
        volume = volume + self.out((found / share[..., None].clamp_min(1e-6)).flatten(-2))
        return volume + self.mlp(self.norm2(volume))


class AggregationLayer(nn.Module):
    """Windows, moved windows, then classes."""

    def __init__(self, channels: int, guidance: int, heads: int, window: int, mlp_ratio: int) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(
            WindowAttention(channels, guidance, heads, window, shift, mlp_ratio) for shift in (0, window // 2)
        )
        self.classes = ClassAttention(channels, guidance, heads, mlp_ratio)

    def forward(
        self, chunks: list[Tensor], image: Tensor, texts: list[Tensor], inside: Tensor | None = None
    ) -> list[Tensor]:
        """One layer over classes in chunks; the list given is emptied as it is read, to keep one copy in memory.

        Args:
            chunks: ``(B, t, h, w, C)`` each.
            image: guidance ``(B, h, w, G)``.
            texts: guidance ``(t, G)`` of each chunk.
            inside: ``(B, h, w)`` bool, False in padding; ``None`` without padding.
        """
        seen: list[Tensor] = []
        sums: ClassSums | None = None
        for text in texts:
            chunk = chunks.pop(0)
            for block in self.spatial:
                chunk = block(chunk, image, inside)
            part = self.classes.sums(chunk, text)
            sums = part if sums is None else sums.plus(part)
            seen.append(chunk)
        assert sums is not None
        return [self.classes(seen.pop(0), text, sums) for text in texts]


class UpBlock(nn.Module):
    """Twice the resolution, then two convolutions that also see the picture.

    Args:
        channels: before.
        out: after.
        guidance: channels of the guidance.
    """

    def __init__(self, channels: int, out: int, guidance: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, out, 2, stride=2)
        self.conv1 = nn.Conv2d(out, out, 3, padding=1)
        self.guide = nn.Conv2d(guidance, out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.norm1, self.norm2 = ChannelNorm(out), ChannelNorm(out)

    def forward(self, maps: Tensor, guidance: Tensor, inside: Tensor | None = None) -> Tensor:
        """``(B * T, C, h, w)`` to ``(B * T, out, 2 h, 2 w)``, zero in padding.

        Args:
            maps: zero in padding.
            guidance: ``(B, G, 2 h, 2 w)``, zero in padding.
            inside: ``(B, 1, 2 h, 2 w)``, 0 in padding; ``None`` without padding.
        """
        each = len(maps) // len(guidance)
        mask = None if inside is None else inside.repeat_interleave(each, 0)

        def masked(values: Tensor) -> Tensor:
            return values if mask is None else values * mask

        skip = masked(self.up(maps))
        maps = self.conv1(skip) + self.guide(guidance).repeat_interleave(each, 0)
        maps = masked(F.gelu(self.norm1(maps)))
        return masked(skip + F.gelu(self.norm2(self.conv2(maps))))
