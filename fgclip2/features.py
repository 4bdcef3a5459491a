"""``DenseFeatures`` of a picture: its patches, the regions of boxes, and how similar they are to texts.

They live in the space of *box* texts; see `fgclip2.spaces`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.spaces import Features, ImageFeatures, RegionFeatures, TextFeatures, check_same_space, plain

__all__ = [
    "Boxes", "DenseFeatures", "Features", "ImageFeatures", "RegionFeatures", "TextFeatures", "check_boxes", "roi_grids",
    "roi_means",
]  # fmt: skip

Boxes: TypeAlias = "Tensor | np.ndarray | Sequence[Sequence[float]]"

_WEIGHTS = 1 << 24  # numbers of a matrix of weights, boxes by cells, that is held at a time: 64 MiB

_SLACK = 1.0
"""Pixels by which a box may leave its picture: annotation tools round, and COCO itself has such boxes."""


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Language-aligned features of every patch of one picture: encode once, ask many things.

    Attributes:
        map: (h, w, D) float32, every vector of unit length; row 0 is the top of the picture. It becomes
            `RegionFeatures`: a product with whole-image features or other texts than ``box`` ones is refused.
        image_size: width and height of the upright picture in pixels; boxes are given in these.
        norms: (h, w) float32, length of every vector before it was made unit length, or ``None`` for all equal. The
            released model pools regions before normalising, so ``regions`` needs them to agree with it.

    Raises:
        Fgclip2Error: shapes, types or the size do not fit together.
    """

    map: Tensor
    image_size: tuple[int, int]
    norms: Tensor | None = None

    def __post_init__(self) -> None:
        if self.map.ndim != 3 or self.map.dtype != torch.float32 or 0 in self.map.shape:
            raise Fgclip2Error(
                f"a dense map of shape {tuple(self.map.shape)} and type {self.map.dtype}; it must be (h, w, D), "
                "float32, not empty"
            )
        if self.norms is not None and self.norms.shape != self.map.shape[:2]:
            raise Fgclip2Error(
                f"norms of shape {tuple(self.norms.shape)} for a map of shape {tuple(self.map.shape)}; they must be "
                "(h, w)"
            )
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise Fgclip2Error(
                f"image_size is {self.image_size}; it must be (width, height) in pixels, each at least 1"
            )
        object.__setattr__(self, "map", self.map.as_subclass(RegionFeatures))

    @classmethod
    def from_tokens(cls, tokens: Tensor, grid: tuple[int, int], image_size: tuple[int, int]) -> DenseFeatures:
        """From the dense head's output for one picture.

        Args:
            tokens: (N, D) not normalised, any float type; rows beyond ``h * w`` are padding.
            grid: rows and columns (h, w).
            image_size: width and height of the picture in pixels.
        """
        rows, columns = grid
        values = tokens[: rows * columns].float().unflatten(0, (rows, columns))
        norms = values.norm(dim=-1)
        # The bound is F.normalize's: a zero vector stays zero instead of becoming nan.
        return cls(values / norms.clamp_min(1e-12)[..., None], image_size, norms)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns (h, w) of the map."""
        return self.map.shape[0], self.map.shape[1]

    def regions(self, boxes: Boxes) -> RegionFeatures:
        """Features of boxes: RoIAlign to 1x1, aligned, adaptive sampling, in grid coordinates (as released).

        Args:
            boxes: (M, 4) x1, y1, x2, y2 in pixels of the upright picture; M may be 0.

        Returns:
            (M, D) float32, unit length; compare with ``kind="box"`` text features.

        Raises:
            Fgclip2Error: a box is outside the picture, without area, or not four finite numbers.
        """
        checked = check_boxes(boxes, self.image_size).to(self.map.device)
        (rows, columns), (width, height) = self.grid, self.image_size
        scale = checked.new_tensor([columns / width, rows / height] * 2)
        values = plain(self.map) if self.norms is None else plain(self.map) * self.norms[..., None]
        return F.normalize(roi_means(values, checked * scale), dim=-1).as_subclass(RegionFeatures)

    def similarity(self, text: Tensor) -> Tensor:
        """Cosine of every patch to every text.

        Args:
            text: (T, D) or (D,) unit-length embeddings of ``kind="box"``, or of regions. Features of the other space
                are refused; a plain tensor is taken at its word.

        Returns:
            (T, h, w) float32, -1..1.

        Raises:
            Fgclip2Error: features of the other space, or another width D.
        """
        if not isinstance(text, Tensor):
            raise Fgclip2Error(
                f"similarity() takes text features, not {type(text).__name__}; give "
                "model.text_features(['a red car'], kind='box')"
            )
        check_same_space(self.map, text)
        matrix = plain(text).to(plain(self.map))
        matrix = matrix[None] if matrix.ndim == 1 else matrix
        if matrix.ndim != 2 or matrix.shape[1] != self.map.shape[2]:
            raise Fgclip2Error(
                f"text features of shape {tuple(text.shape)} for a map of width {self.map.shape[2]}; they must be (T, "
                f"{self.map.shape[2]}): use the text features of the same model"
            )
        return torch.einsum("td,yxd->tyx", matrix, plain(self.map))

    def similarity_map(self, text: Tensor) -> Tensor:
        """``similarity`` enlarged to the picture: (T, H, W), bilinear; arguments and errors as there."""
        width, height = self.image_size
        coarse = self.similarity(text)
        return F.interpolate(coarse[None], size=(height, width), mode="bilinear", align_corners=False)[0]

    def to(self, device: str | torch.device) -> DenseFeatures:
        """The same features on another device."""
        return DenseFeatures(
            self.map.to(device), self.image_size, None if self.norms is None else self.norms.to(device)
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """``np.asarray(features)``: the map, (h, w, D)."""
        array = self.map.detach().cpu().numpy()
        return array.astype(array.dtype if dtype is None else dtype, copy=bool(copy))


def roi_means(values: Tensor, boxes: Tensor) -> Tensor:
    """RoIAlign to 1x1 (``aligned``, adaptive sampling): equal to torchvision's up to rounding.

    It is linear, and a cell's weight is its row's times its column's, so all boxes are one matrix product instead of a
    loop over sample points.

    Args:
        values: (h, w, D) float32.
        boxes: (M, 4) float32 x1, y1, x2, y2 in cells of the map; M may be 0.

    Returns:
        (M, D).
    """
    rows, columns, width = values.shape
    flat = values.reshape(rows * columns, width)
    pooled = []
    # Autocast would round what RoIAlign keeps.
    with torch.autocast(values.device.type, enabled=False):
        for part in boxes.split(max(1, _WEIGHTS // len(flat))):
            across = _axis_weights(part[:, 0], part[:, 2], 1, columns)
            down = _axis_weights(part[:, 1], part[:, 3], 1, rows)
            pooled.append((down[:, :, None] * across[:, None, :]).flatten(1) @ flat)
    return torch.cat(pooled)


def roi_grids(values: Tensor, boxes: Tensor, size: int) -> Tensor:
    """RoIAlign to size x size (``aligned``, adaptive sampling), as `roi_means`; its backward pass is products too.

    Args:
        values: (h, w, D) float32.
        boxes: (M, 4) float32 x1, y1, x2, y2 in cells of the map; M may be 0.
        size: bins a side, s.

    Returns:
        (M, s, s, D), rows before columns.
    """
    rows, columns, width = values.shape
    with torch.autocast(values.device.type, enabled=False):
        across = _axis_weights(boxes[:, 0], boxes[:, 2], size, columns).unflatten(0, (-1, 1, size))
        down = _axis_weights(boxes[:, 1], boxes[:, 3], size, rows)
        return across @ (down @ values.flatten(1)).view(-1, size, columns, width)


def _axis_weights(start: Tensor, end: Tensor, bins: int, cells: int) -> Tensor:
    """(M * bins, cells): how much of every row (or column) is in the mean over a bin's sample points along that axis.

    ``start`` and ``end`` (M,) are of boxes, each of which is cut into so many bins.
    """
    low = start - 0.5  # cells have their middle, not their corner, at whole numbers
    extent = ((end - 0.5) - low) / bins
    low = (low[:, None] + extent[:, None] * torch.arange(bins, device=start.device)).flatten()
    extent = extent.repeat_interleave(bins)
    count = extent.ceil().clamp_min(1)
    # How many points the longest box has is read on the CPU only; elsewhere the host would wait for the answer.
    # Three maps long is a picture of one pixel with the slack that boxes have on both sides.
    most = 3 * cells + 2 if start.device.type != "cpu" else int(count.max()) if len(count) else 1
    point = torch.arange(most, device=start.device)
    position = low[:, None] + (point + 0.5) * (extent / count)[:, None]  # (M, P)
    # Beyond a cell outside the map there is nothing; within that cell the edge's values hold.
    used = (point < count[:, None]) & (position >= -1) & (position <= cells)
    position = position.clamp(0, cells - 1)
    below = position.floor().long()
    share = position - below
    each = used / count[:, None]
    weights = start.new_zeros(len(low), cells).scatter_add_(1, below, (1 - share) * each)
    return weights.scatter_add_(1, (below + 1).clamp(max=cells - 1), share * each)


def check_boxes(boxes: Boxes, image_size: tuple[int, int]) -> Tensor:
    """Boxes as a float32 tensor, every one with area and inside the picture (one pixel of rounding is let through).

    Args:
        boxes: (M, 4) x1, y1, x2, y2 in pixels; M may be 0.
        image_size: width and height of the picture in pixels.

    Returns:
        (M, 4) float32, unchanged values, on the boxes' own device.

    Raises:
        Fgclip2Error: naming the first box that cannot be used.
    """
    try:
        tensor = torch.as_tensor(boxes, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Fgclip2Error(f"boxes {boxes!r:.80} are not numbers; give (M, 4) x1, y1, x2, y2 in pixels") from error
    if tensor.numel() == 0:
        return tensor.reshape(0, 4)
    if tensor.ndim != 2 or tensor.shape[1] != 4:
        hint = "; put the single box in a list" if tuple(tensor.shape) == (4,) else ""
        raise Fgclip2Error(f"boxes of shape {tuple(tensor.shape)}; give (M, 4) x1, y1, x2, y2 in pixels{hint}")
    width, height = image_size
    x1, y1, x2, y2 = tensor.unbind(1)
    limit = tensor.new_tensor([width, height, width, height]) + _SLACK
    problems = {
        "has numbers that are not finite": ~torch.isfinite(tensor).all(1),
        "has no area (x2 <= x1 or y2 <= y1; is it x, y, width, height?)": (x2 <= x1) | (y2 <= y1),
        f"leaves the picture of {width} x {height}": (tensor < -_SLACK).any(1) | (tensor > limit).any(1),
    }
    for problem, wrong in problems.items():
        if bool(wrong.any()):
            index = int(wrong.nonzero()[0, 0])
            values = ", ".join(f"{value:g}" for value in tensor[index].tolist())
            raise Fgclip2Error(
                f"box {index} [{values}] {problem}; boxes are x1, y1, x2, y2 in pixels of the upright picture "
                f"({int(wrong.sum())} of {len(tensor)} are wrong so)"
            )
    return tensor
