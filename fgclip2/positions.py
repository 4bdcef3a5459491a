"""Both towers' position tables: the text's, stretched for long captions, and the pictures', resized to their grids."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.cpu import sampled, traced
from fgclip2.errors import Fgclip2Error

_ROWS_KEPT: Final = 32_768  # of resized tables, two of the largest: 50 MB in bf16 at 768 numbers a row


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


class GridPositions:
    """Patch embedding with position tables resized once for every *distinct* grid."""

    patch_embedding: Any
    position_embedding: Any
    position_embedding_size: Any

    # The weight, its state, some of its numbers and the tables made of it.
    _kept: tuple[Tensor, tuple[object, ...], list[float], dict[tuple[int, int], Tensor]] | None = None

    @staticmethod
    def resize_positional_embeddings(positional_embeddings: Tensor, spatial_shapes: Tensor, max_length: int) -> Tensor:
        """Resize the square position table to each picture's grid.

        Args:
            positional_embeddings: ``(side, side, D)``.
            spatial_shapes: patch rows and columns, int64 ``(B, 2)``; keep it on the CPU, its values are read here.
            max_length: tokens a picture, N.

        Returns:
            ``(B, N, D)``; padding takes a picture's first row, as released.
        """
        shapes = [tuple(shape) for shape in spatial_shapes.tolist()]
        # The antialiased kernel has no bf16 form on the CPU; fp32 everywhere keeps devices alike.
        table = positional_embeddings.float().permute(2, 0, 1)[None]
        rows: dict[tuple[int, ...], Tensor] = {}
        for height, width in set(shapes):
            # On CPUs torch's kernel repeats the first row when there is one column only; one row only is right.
            size, given = ((width, height), table.mT) if width == 1 else ((height, width), table)
            resized = F.interpolate(given, size=size, mode="bilinear", align_corners=False, antialias=True)
            flat = resized[0].flatten(1).T  # (h w, D)
            padding = flat[:1].expand(max_length - len(flat), -1)
            rows[height, width] = torch.cat([flat, padding]).to(positional_embeddings.dtype)
        return torch.stack([rows[shape] for shape in shapes])

    def forward(self, pixel_values: Tensor, spatial_shapes: Tensor) -> Tensor:
        """Patches ``(B, N, 768)`` and grids ``(B, 2)`` to tokens ``(B, N, D)``; a grid's table is resized once."""
        length, weight = pixel_values.shape[1], self.position_embedding.weight
        tokens: Tensor = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        if torch.is_grad_enabled() or traced() or weight.is_inference():
            square = weight.unflatten(0, (self.position_embedding_size, -1))
            return tokens + self.resize_positional_embeddings(square, spatial_shapes, length)
        grids = [(height, width) for height, width in spatial_shapes.tolist()]
        place = {grid: number for number, grid in enumerate(dict.fromkeys(grids))}
        tables = [self._table(*grid) for grid in place]
        padded = torch.stack([torch.cat([table, table[:1].expand(length - len(table), -1)]) for table in tables])
        if len(place) == 1:
            return tokens + padded
        which = torch.tensor([place[grid] for grid in grids])
        return tokens + padded[which.to(padded.device, non_blocking=True)]

    def _table(self, rows: int, columns: int) -> Tensor:
        """``(rows * columns, D)``, kept as long as the weight stays what it is."""
        weight = self.position_embedding.weight
        # The object itself, as a new one may get its address; and what changes when it is written to or moved.
        state = (weight._version, weight.data_ptr(), weight.dtype, weight.device)
        # Comparing values would make the host wait for a GPU.
        sample = sampled(weight).tolist() if weight.device.type == "cpu" else []
        kept = self._kept
        if kept is None or kept[0] is not weight or kept[1:3] != (state, sample):
            kept = self._kept = weight, state, sample, {}
        tables = kept[3]
        table = tables.get((rows, columns))
        if table is None:
            side = self.position_embedding_size
            grid = torch.tensor([[rows, columns]])
            with (
                torch.inference_mode(False),
                torch.no_grad(),
            ):  # ordinary, so that it can be copied
                table = self.resize_positional_embeddings(weight.unflatten(0, (side, side)), grid, rows * columns)[0]
            if sum(len(each) for each in list(tables.values())) + len(table) > _ROWS_KEPT:
                tables.clear()
            tables[rows, columns] = table
        return table
