"""Whole pictures to patches on any device, for pictures that are composed at their final size."""

from __future__ import annotations

import torch
from torch import Tensor


def patchify(pixels: Tensor, patch: int = 16) -> tuple[Tensor, Tensor]:
    """Whole pictures to NaFlex patches, as the image processor does for a picture that needs no resizing.

    Args:
        pixels: uint8 ``(B, H, W, 3)``, both sides multiples of ``patch``.
        patch: side of a patch in pixels.

    Returns:
        Patches ``(B, N, 3 * patch * patch)`` in -1..1 and grid shapes int64 ``(B, 2)`` on the CPU.
    """
    count, height, width, _ = pixels.shape
    rows, columns = height // patch, width // patch
    tiles = pixels.unflatten(2, (columns, patch)).unflatten(1, (rows, patch)).permute(0, 1, 3, 2, 4, 5)
    return tiles.reshape(count, rows * columns, -1).float() / 127.5 - 1, torch.tensor([[rows, columns]] * count)
