"""The forward passes of both towers and their heads, written once for two kinds of modules.

``fgclip2.modeling`` has them in transformers' modules, to train, save and take apart; ``fgclip2.network`` in modules of
torch alone, to infer without the seconds that importing transformers takes. Names of attributes are those of the
released state dict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.attention import Visible, attention, key_mask
from fgclip2.cpu import infers, linear
from fgclip2.errors import Fgclip2Error
from fgclip2.packing import lengths_of, pack, unpack
from fgclip2.processing import TEXT_KINDS, TextKind


@dataclass(frozen=True)
class ImageEncoding:
    """What one pass of the vision tower leaves, for the heads to read.

    Attributes:
        last_hidden_state: tokens after the final norm, ``(B, N, D)``.
        hidden_states: outputs of the encoder blocks that were asked for, each ``(B, N, D)``.
        key_mask: bool ``(B, 1, 1, N)``, or ``None`` when no position is padding.
        lengths: tokens of every picture where the tower packed them, and padding is zero; else ``None``.
    """

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...]
    key_mask: Tensor | None
    lengths: tuple[int, ...] | None = None


def self_attention(layer: Any, tokens: Tensor, visible: Visible) -> Tensor:
    """``(B, N, D)`` to the same by a layer's ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj``, outside training."""
    apply = linear if infers(tokens) else _called
    projected = (apply(tokens, part) for part in (layer.q_proj, layer.k_proj, layer.v_proj))
    query, key, value = (part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in projected)
    return apply(attention(query, key, value, visible).transpose(1, 2).flatten(2), layer.out_proj)


def last_position(block: Any, tokens: Tensor) -> Tensor:
    """A block's output at the last position alone: ``(T, L, D)`` to ``(T, D)``.

    Nothing reads the other positions of the text tower's last block; without them it is a sixth of the arithmetic.
    """
    layer = block.self_attn
    normed = block.layer_norm1(tokens)
    projected = (layer.q_proj(normed[:, -1:]), layer.k_proj(normed), layer.v_proj(normed))
    query, key, value = (part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in projected)
    last = tokens[:, -1:] + layer.out_proj(attention(query, key, value).transpose(1, 2).flatten(2))
    output: Tensor = (last + block.mlp(block.layer_norm2(last)))[:, 0]
    return output


class HeadPasses:
    """The MAP head's weights in its two uses: pooling by a probe, and the dense head's self-attention."""

    probe: Any
    attention: Any
    layernorm: Any
    mlp: Any
    num_heads: Any

    def pool(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """``(B, N, D)`` and key mask ``(B, 1, 1, N)`` to ``(B, D)``: attention of the learned probe over the tokens."""
        return self._attend(self.probe.expand(tokens.shape[0], -1, -1), tokens, mask)[:, 0]

    def dense(self, tokens: Tensor, visible: Visible) -> Tensor:
        """``(B, N, D)`` to ``(B, N, D)``: self-attention, no residual from the input, the probe unused."""
        return self._attend(tokens, tokens, visible)

    def _attend(self, query: Tensor, tokens: Tensor, visible: Visible) -> Tensor:
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        width = weight.shape[1]
        projected_query = F.linear(query, weight[:width], bias[:width])
        key, value = F.linear(tokens, weight[width:], bias[width:]).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (projected_query, key, value))
        attended = attention(q, k, v, visible).transpose(1, 2).flatten(2)
        attended = self.attention.out_proj(attended)
        output: Tensor = attended + self.mlp(self.layernorm(attended))
        return output


class VisionPasses:
    """The vision tower, with batched heads and intermediate tokens on request."""

    embeddings: Any
    encoder: Any
    post_layernorm: Any
    training: bool
    leaves_padding_out = True
    """On a processor; a compiled tower computes it, so that shapes repeat."""

    def encode(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None,
        spatial_shapes: Tensor,
        layers: Sequence[int] = (),
    ) -> ImageEncoding:
        """Run the tower once; see :meth:`ModelPasses.encode_image`."""
        wanted = [_layer_index(layer, len(self.encoder.layers)) for layer in layers]
        tokens = self.embeddings(pixel_values, spatial_shapes)
        mask = key_mask(pixel_attention_mask, look=self.leaves_padding_out)
        lengths = lengths_of(mask[:, 0, 0]) if mask is not None and self._packs(tokens) else None
        if lengths is None:
            last, *kept = self.run_blocks(tokens, mask, wanted)
        else:
            outputs = self.run_blocks(pack(tokens, lengths), lengths, wanted)
            last, *kept = (unpack(output, lengths, tokens.shape[1]) for output in outputs)
        return ImageEncoding(last, tuple(kept), mask, lengths)

    def run_blocks(self, tokens: Tensor, visible: Visible, wanted: Sequence[int] = ()) -> list[Tensor]:
        """The part of the tower whose values the host never looks at, and that compiles to one graph.

        Args:
            tokens: embedded patches ``(B, N, D)``.
            visible: what each may attend to; see :func:`fgclip2.attention.attention`.
            wanted: blocks whose outputs to return too, counted from 0.

        Returns:
            Tokens after the final norm ``(B, N, D)``, then the output of every wanted block.
        """
        kept: dict[int, Tensor] = {}
        for index, block in enumerate(self.encoder.layers):
            tokens = block(tokens, visible)
            if index in wanted:
                kept[index] = tokens
        return [self.post_layernorm(tokens), *(kept[index] for index in wanted)]

    def _packs(self, tokens: Tensor) -> bool:
        """Whether to leave padding out: where reading the mask costs nothing, and without gradients.

        Not in training: adapters that drop at random would drop other numbers than in the pass with gradients.
        """
        return self.leaves_padding_out and infers(tokens) and not self.training


class TextPasses:
    """The text tower with the stretched position tables of long texts."""

    config: Any
    embeddings: Any
    encoder: Any
    final_layer_norm: Any

    def encode(self, input_ids: Tensor, long: bool = False) -> Tensor:
        """Token ids ``(T, L)`` to the final-norm state of the last position, ``(T, D)``; no head applied.

        No attention mask: the tower was trained to see its padding.
        """
        blocks = list(self.encoder.layers)
        states = self._embed(input_ids, long)
        for block in blocks[:-1]:
            states = block(states, None)
        output: Tensor = self.final_layer_norm(blocks[-1](states, None, pooled=True))
        return output

    def _embed(self, input_ids: Tensor, long: bool) -> Tensor:
        length, allowed = input_ids.shape[-1], self.config.longtext_len if long else self.config.max_position_embeddings
        if length > allowed:
            kind = "long" if long else "short and box"
            raise Fgclip2Error(f"token ids of length {length}: {kind} texts have at most {allowed} tokens; cut them")
        embeddings = self.embeddings
        if long:
            keep = self.config.keep_len
            positions = torch.cat(
                [embeddings.position_embedding_ori.weight[:keep], embeddings.position_embedding_res.weight[keep:]]
            )
        else:
            positions = embeddings.position_embedding.weight
        states: Tensor = embeddings.token_embedding(input_ids).to(positions.dtype) + positions[:length]
        return states


class ModelPasses:
    """Both towers with all heads. Outputs are *not* normalised; :class:`fgclip2.FGCLIP2` normalises."""

    text_model: Any
    vision_model: Any
    longtext_head: Any
    boxtext_head: Any
    dense_feature_head: Any

    def encode_image(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None,
        spatial_shapes: Tensor,
        layers: Sequence[int] = (),
    ) -> ImageEncoding:
        """Run the vision tower once, for :meth:`pool`, :meth:`dense` and pyramids to share.

        Args:
            pixel_values: patches ``(B, N, 3 * 16 * 16)``, values -1..1.
            pixel_attention_mask: ``(B, N)``, 1 for real patches; ``None`` when nothing is padding.
            spatial_shapes: patch rows and columns, int64 ``(B, 2)``, best on the CPU.
            layers: encoder blocks whose outputs to keep; 0 is the first, negative numbers count from the end.

        Raises:
            Fgclip2Error: a layer that the tower does not have.
        """
        encoding: ImageEncoding = self.vision_model.encode(pixel_values, pixel_attention_mask, spatial_shapes, layers)
        return encoding

    def pool(self, encoding: ImageEncoding) -> Tensor:
        """Image embeddings ``(B, D)``, pairing with short and long texts."""
        pooled: Tensor = self.vision_model.head.pool(encoding.last_hidden_state, encoding.key_mask)
        return pooled

    def dense(self, encoding: ImageEncoding) -> Tensor:
        """Dense features ``(B, N, D)``, pairing with box texts; rows of padding carry no meaning."""
        tokens, lengths = encoding.last_hidden_state, encoding.lengths
        if lengths is None:
            features: Tensor = self.dense_feature_head.dense(tokens, encoding.key_mask)
            return features
        return unpack(self.dense_feature_head.dense(pack(tokens, lengths), lengths), lengths, tokens.shape[1])

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        walk_type: TextKind = "short",
    ) -> Tensor:
        """Text embeddings ``(T, D)`` of token ids ``(T, L)`` that are padded to the full length of their kind.

        Args:
            input_ids: int64; L is 64 for ``short`` and ``box``, 196 for ``long`` in the released models.
            attention_mask: accepted because tokenizers return one, and not used: the tower sees its padding.
            position_ids: must be ``None``; positions follow from ``walk_type``.
            walk_type: the head, and with it the position table.

        Raises:
            Fgclip2Error: an unknown ``walk_type``, given positions, or too many tokens.
        """
        if walk_type not in TEXT_KINDS:
            raise Fgclip2Error(f"walk_type {walk_type!r}: choose one of {', '.join(TEXT_KINDS)}")
        if position_ids is not None:
            raise Fgclip2Error("position_ids cannot be given: each kind of text has its own fixed position table")
        last = self.text_model.encode(input_ids, long=walk_type == "long")
        heads = {"short": self.text_model.head, "long": self.longtext_head, "box": self.boxtext_head}
        features: Tensor = heads[walk_type](last)
        return features


def _called(tokens: Tensor, layer: nn.Module) -> Tensor:
    output: Tensor = layer(tokens)
    return output


def _layer_index(layer: int, depth: int) -> int:
    if not -depth <= layer < depth:
        raise Fgclip2Error(f"layer {layer}: this tower has {depth} blocks, {-depth} to {depth - 1}")
    return layer % depth
