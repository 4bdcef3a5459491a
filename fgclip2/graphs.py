"""The model as graphs of tensors alone, which an exporter can record: no Python number depends on a tensor's value.

Two things differ from how the model runs in torch, and give the same features: position tables are resized by weights
that are computed from the grids inside the graph, and the three heads of texts are entries of one table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from fgclip2.modeling import Fgclip2Model

Head: TypeAlias = Literal["image", "dense", "text"]
HEADS: Final[tuple[Head, ...]] = ("image", "dense", "text")
"""``image``: whole pictures; ``dense``: every patch, and so regions; ``text``: texts of all three kinds."""


class VisionGraph(nn.Module):
    """The vision tower with its heads.

    Args:
        model: whose weights it shares.
        heads: ``image``, ``dense`` or both, in the order of the outputs.
    """

    def __init__(self, model: Fgclip2Model, heads: tuple[Head, ...]) -> None:
        super().__init__()
        self.tower = model.vision_model
        self.dense_head = model.dense_feature_head
        self.heads = heads

    def forward(self, pixel_values: Tensor, pixel_attention_mask: Tensor, spatial_shapes: Tensor) -> tuple[Tensor, ...]:
        """Features that are not yet of unit length.

        Args:
            pixel_values: patches ``(B, N, 3 * 16 * 16)``, values -1..1.
            pixel_attention_mask: bool ``(B, N)``, True for real patches.
            spatial_shapes: patch rows and columns, int64 ``(B, 2)``.

        Returns:
            ``(B, D)`` for ``image``; ``(B, N, D)`` for ``dense``, whose rows of padding carry no meaning.
        """
        embeddings = self.tower.embeddings
        weights = position_weights(spatial_shapes, pixel_values.shape[1], embeddings.position_embedding_size)
        tokens = embeddings.patch_embedding(pixel_values) + weights @ embeddings.position_embedding.weight
        mask = pixel_attention_mask[:, None, None, :]
        for block in self.tower.encoder.layers:
            tokens = block(tokens, mask)
        tokens = self.tower.post_layernorm(tokens)
        heads = {"image": self.tower.head.pool, "dense": self.dense_head.dense}
        return tuple(heads[head](tokens, mask) for head in self.heads)


class TextGraph(nn.Module):
    """The text tower with its three heads; the kind of the texts is an input.

    Args:
        model: whose weights it shares; those of the heads and the position tables are copied.
    """

    def __init__(self, model: Fgclip2Model) -> None:
        super().__init__()
        self.tower = model.text_model
        embeddings, keep = self.tower.embeddings, self.tower.config.keep_len
        short = embeddings.position_embedding.weight
        long = embeddings.position_embedding_ori.weight[:keep], embeddings.position_embedding_res.weight[keep:]
        heads = (self.tower.head, model.longtext_head, model.boxtext_head)  # in the order of TEXT_KINDS
        self.short_rows = len(short)
        self.positions = nn.Buffer(torch.cat([short, *long]).detach())
        self.weights = nn.Buffer(torch.stack([head.weight.T for head in heads]).detach())
        self.biases = nn.Buffer(torch.stack([head.bias for head in heads]).detach())

    def forward(self, input_ids: Tensor, kind: Tensor) -> Tensor:
        """Features ``(T, D)`` that are not yet of unit length.

        Args:
            input_ids: int64 ``(T, L)``, padded to the full length of their kind.
            kind: int64 ``(1,)``: 0 for ``short``, 1 for ``long``, 2 for ``box``, as in ``TEXT_KINDS``.
        """
        rows = torch.arange(input_ids.shape[1]) + torch.where(kind == 1, self.short_rows, 0)
        states = self.tower.embeddings.token_embedding(input_ids) + self.positions[rows]
        *blocks, last = self.tower.encoder.layers
        for block in blocks:
            states = block(states, None)
        pooled = self.tower.final_layer_norm(last(states, None, pooled=True))
        return pooled @ self.weights[kind][0] + self.biases[kind]


def position_weights(grids: Tensor, length: int, side: int) -> Tensor:
    """How much of every entry of the square position table is in a patch's position.

    ``weights @ table`` is what torch's antialiased bilinear interpolation gives: it is linear, and an entry's weight is
    its row's times its column's.

    Args:
        grids: patch rows and columns, int64 ``(B, 2)``.
        length: tokens a picture, N; those beyond a grid take its first position, as released.
        side: rows, and columns, of the table.

    Returns:
        ``(B, N, side * side)`` float32.
    """
    rows, columns = grids[:, :1], grids[:, 1:]
    index = torch.arange(length)[None]
    index = torch.where(index < rows * columns, index, 0)  # (B, N)
    down = _axis_weights(torch.div(index, columns, rounding_mode="floor"), rows, side)
    across = _axis_weights(index % columns, columns, side)
    return (down[..., :, None] * across[..., None, :]).flatten(2)


def _axis_weights(place: Tensor, cells: Tensor, side: int) -> Tensor:
    """``(B, N, side)``: a triangle around the middle of cell ``place`` of ``cells``, at least one entry wide.

    Distances are whole numbers, in units of half an entry and half a cell. A runtime that rounds them to bfloat16 blurs
    the positions of large grids all the same: see docs/export.md.
    """
    entries = 2 * torch.arange(side) + 1
    distance = (entries * cells[..., None] - ((2 * place + 1) * side)[..., None]).abs()
    weights = (2 * cells.clamp_min(side)[..., None] - distance).clamp_min(0).float()
    return weights / weights.sum(-1, keepdim=True)
