"""FG-CLIP 2: SigLIP 2's towers with the long-text, box-text and dense heads.

State-dict names and method names are those of the released model, so a released directory loads as it is and code
written for it runs when ``trust_remote_code=True`` is dropped. Facts: arXiv 2510.10921, section 3, and the released
code; every forward pass here is tested against that code's own outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align
from transformers import PreTrainedConfig, Siglip2Model, Siglip2TextModel, Siglip2VisionModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.siglip2.modeling_siglip2 import Siglip2MultiheadAttentionPoolingHead, Siglip2PreTrainedModel

from fgclip2.attention import NAME as ATTENTION
from fgclip2.attention import Visible, attention, key_mask
from fgclip2.config import Fgclip2Config, Fgclip2TextConfig, Fgclip2VisionConfig
from fgclip2.cpu import infers
from fgclip2.errors import Fgclip2Error
from fgclip2.layers import Fgclip2LastTextLayer, Fgclip2MLP, lighten
from fgclip2.packing import lengths_of, pack, unpack
from fgclip2.positions import Fgclip2VisionEmbeddings, stretch_positions
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


class Fgclip2AttentionHead(Siglip2MultiheadAttentionPoolingHead):
    """The MAP head's weights in its two uses: pooling by a probe, and the dense head's self-attention."""

    def __init__(self, config: Fgclip2VisionConfig) -> None:
        super().__init__(config)
        self.mlp: Any = Fgclip2MLP(self.mlp)

    def forward(self, hidden_state: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Pool tokens ``(B, N, D)`` under a ``(B, N)`` mask to ``(B, D)``."""
        return self.pool(hidden_state, key_mask(attention_mask))

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
        return attended + self.mlp(self.layernorm(attended))


class Fgclip2VisionModel(Siglip2VisionModel):
    """SigLIP 2's vision tower with batched heads and intermediate tokens on request."""

    config: Fgclip2VisionConfig
    leaves_padding_out = True
    """On a processor; a compiled tower computes it, so that shapes repeat."""

    def __init__(self, config: Fgclip2VisionConfig) -> None:
        super().__init__(config)
        self.embeddings = Fgclip2VisionEmbeddings(config)
        self.head = Fgclip2AttentionHead(config)
        lighten(self.encoder.layers)
        self.post_init()

    def encode(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None,
        spatial_shapes: Tensor,
        layers: Sequence[int] = (),
    ) -> ImageEncoding:
        """Run the tower once; see :meth:`Fgclip2Model.encode_image`."""
        wanted = [_layer_index(layer, len(self.encoder.layers)) for layer in layers]
        tokens = self.embeddings(pixel_values, spatial_shapes)
        mask = key_mask(pixel_attention_mask)
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
        """Whether to leave padding out: where reading the mask costs nothing, and without gradients."""
        ours = self.config._attn_implementation == ATTENTION
        return ours and self.leaves_padding_out and infers(tokens)

    def forward(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Tokens ``(B, N, D)`` and pooled embedding ``(B, D)`` in transformers' output type."""
        encoding = self.encode(pixel_values, pixel_attention_mask, _required(spatial_shapes))
        return BaseModelOutputWithPooling(
            last_hidden_state=encoding.last_hidden_state,
            pooler_output=self.head.pool(encoding.last_hidden_state, encoding.key_mask),
        )


class Fgclip2TextModel(Siglip2TextModel):
    """SigLIP 2's text tower plus the two stretched position tables of long texts."""

    config: Fgclip2TextConfig

    def __init__(self, config: Fgclip2TextConfig) -> None:
        super().__init__(config)
        for name in ("position_embedding_ori", "position_embedding_res"):
            setattr(self.embeddings, name, nn.Embedding(config.longtext_len, config.hidden_size))
        self.encoder.layers[-1] = Fgclip2LastTextLayer(config)
        lighten(self.encoder.layers)
        self.post_init()

    def encode(self, input_ids: Tensor, long: bool = False) -> Tensor:
        """Token ids ``(T, L)`` to the final-norm state of the last position, ``(T, D)``; no head applied.

        No attention mask: the tower was trained to see its padding.
        """
        blocks = list(self.encoder.layers)
        states = self._embed(input_ids, long)
        for block in blocks[:-1]:
            states = block(states, None)
        return self.final_layer_norm(blocks[-1](states, None, pooled=True))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Short-text path in transformers' output type; ``attention_mask`` is accepted from tokenizers and not used."""
        if input_ids is None:
            raise Fgclip2Error("the text tower needs input_ids of shape (T, L)")
        states = self._embed(input_ids, long=False)
        for block in self.encoder.layers:
            states = block(states, None)
        states = self.final_layer_norm(states)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=self.head(states[:, -1]))

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
        return embeddings.token_embedding(input_ids) + positions[:length]


class Fgclip2Model(Siglip2Model):
    """FG-CLIP 2 with the released state-dict names.

    ``from_pretrained`` is strict: a tensor that is missing, unexpected or of another shape is an error naming it.
    ``from_siglip2`` is the one way to start from a SigLIP 2 checkpoint. Outputs are *not* normalised;
    :class:`fgclip2.FGCLIP2` normalises.
    """

    config: Fgclip2Config
    config_class = Fgclip2Config

    def __init__(self, config: Fgclip2Config) -> None:
        if getattr(config, "_attn_implementation_internal", None) is None:
            config._attn_implementation = ATTENTION
        # Past Siglip2Model's own constructor, which would build both towers a second time.
        Siglip2PreTrainedModel.__init__(self, config)
        self.text_model = Fgclip2TextModel._from_config(config.text_config)
        self.vision_model = Fgclip2VisionModel._from_config(config.vision_config)
        text_width, width = config.text_config.hidden_size, config.vision_config.hidden_size
        self.longtext_head = nn.Linear(text_width, width)
        self.boxtext_head = nn.Linear(text_width, width)
        self.dense_feature_head = Fgclip2AttentionHead(config.vision_config)
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a directory of ``config.json`` and safetensors, strictly.

        Takes transformers' arguments (``dtype``, ``attn_implementation``, ...) and returns what it would.

        Raises:
            Fgclip2Error: tensors missing, unexpected or misshapen, each named.
        """
        with_info = kwargs.pop("output_loading_info", False)
        kwargs.setdefault("attn_implementation", ATTENTION)
        kwargs.update(use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True)
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        misshapen = [f"{name} is {tuple(was)}, not {tuple(should)}" for name, was, should in info["mismatched_keys"]]
        problems = {
            "missing": sorted(info["missing_keys"]),
            "unexpected": sorted(info["unexpected_keys"]),
            "misshapen": sorted(misshapen),
        }
        found = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names)
        if found:
            raise Fgclip2Error(
                f"{pretrained_model_name_or_path}: not a complete FG-CLIP 2 checkpoint for its config.json ({found}); "
                "a SigLIP 2 checkpoint is started with Fgclip2Model.from_siglip2()"
            )
        return (model, info) if with_info else model

    @classmethod
    def from_siglip2(cls, directory: str | PathLike[str], keep_len: int = 20, **kwargs: Any) -> Fgclip2Model:
        """Start FG-CLIP 2 from a SigLIP 2 (NaFlex) checkpoint.

        The long and box heads start as copies of the text head, the dense head as a copy of the MAP head, and the two
        long tables as the stretched short one (paper, section 3; released training code).

        Args:
            directory: a SigLIP 2 directory or hub id, with ``model_type`` ``siglip2``.
            keep_len: rows of the position table that are copied; see :func:`stretch_positions`.
            **kwargs: to ``Siglip2Model.from_pretrained``, e.g. ``dtype``.

        Raises:
            Fgclip2Error: the checkpoint is of another model type, or incomplete.
        """
        # Asked first: transformers would load other weights with pages of warnings.
        found = PreTrainedConfig.get_config_dict(directory)[0].get("model_type")
        if found != "siglip2":
            raise Fgclip2Error(
                f"{directory}: from_siglip2() takes a SigLIP 2 checkpoint; this has model_type {found!r}"
            )
        source, info = Siglip2Model.from_pretrained(directory, output_loading_info=True, **kwargs)
        if info["missing_keys"]:
            raise Fgclip2Error(
                f"{directory}: from_siglip2() takes a complete SigLIP 2 checkpoint; this lacks "
                f"{_some(sorted(info['missing_keys']))}"
            )
        text = source.config.text_config.to_dict()
        rows = text["max_position_embeddings"]
        text.update(longtext_len=4 * rows - 3 * keep_len, keep_len=keep_len)
        model = cls(Fgclip2Config(text_config=text, vision_config=source.config.vision_config.to_dict()))
        model.to(source.dtype)
        with torch.no_grad():
            model.load_state_dict(source.state_dict(), strict=False)
            embeddings = model.text_model.embeddings
            stretched = stretch_positions(embeddings.position_embedding.weight.float(), keep_len)
            embeddings.position_embedding_ori.weight.copy_(stretched)
            embeddings.position_embedding_res.weight.copy_(stretched)
        for head in (model.longtext_head, model.boxtext_head):
            head.load_state_dict(model.text_model.head.state_dict())
        model.dense_feature_head.load_state_dict(copy.deepcopy(model.vision_model.head.state_dict()))
        return model.eval()

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
        return self.vision_model.encode(pixel_values, pixel_attention_mask, spatial_shapes, layers)

    def pool(self, encoding: ImageEncoding) -> Tensor:
        """Image embeddings ``(B, D)``, pairing with short and long texts."""
        return self.vision_model.head.pool(encoding.last_hidden_state, encoding.key_mask)

    def dense(self, encoding: ImageEncoding) -> Tensor:
        """Dense features ``(B, N, D)``, pairing with box texts; rows of padding carry no meaning."""
        tokens, lengths = encoding.last_hidden_state, encoding.lengths
        if lengths is None:
            return self.dense_feature_head.dense(tokens, encoding.key_mask)
        return unpack(self.dense_feature_head.dense(pack(tokens, lengths), lengths), lengths, tokens.shape[1])

    def get_image_features(
        self, pixel_values: Tensor, pixel_attention_mask: Tensor | None = None, spatial_shapes: Tensor | None = None
    ) -> Tensor:
        """Image embeddings ``(B, D)``; arguments as in :meth:`encode_image`."""
        return self.pool(self.encode_image(pixel_values, pixel_attention_mask, _required(spatial_shapes)))

    def get_image_dense_feature(
        self, pixel_values: Tensor, pixel_attention_mask: Tensor | None = None, spatial_shapes: Tensor | None = None
    ) -> Tensor:
        """Dense features ``(B, N, D)``; arguments as in :meth:`encode_image`."""
        return self.dense(self.encode_image(pixel_values, pixel_attention_mask, _required(spatial_shapes)))

    def get_image_region_features(
        self,
        pixel_values: Tensor,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        image_sizes: Sequence[tuple[int, int]] = (),
        region_infos: Sequence[Sequence[Sequence[float]]] = (),
    ) -> list[Tensor]:
        """Region features by RoIAlign (1x1, aligned) on the dense map.

        Args:
            pixel_values: as in :meth:`encode_image`, like the two that follow.
            pixel_attention_mask: see there.
            spatial_shapes: see there.
            image_sizes: height and width of every original picture, in pixels.
            region_infos: for every picture its boxes ``[x1, y1, x2, y2]`` in pixels of the original.

        Returns:
            One ``(M_i, D)`` tensor a picture, ``M_i`` may be 0.
        """
        grids = _required(spatial_shapes)
        if not len(image_sizes) == len(region_infos) == len(pixel_values):
            raise Fgclip2Error(
                f"{len(pixel_values)} pictures, {len(image_sizes)} image_sizes and {len(region_infos)} region_infos: "
                "give one of each for every picture"
            )
        dense = self.get_image_dense_feature(pixel_values, pixel_attention_mask, grids)
        regions = []
        for tokens, (rows, columns), (height, width), boxes in zip(
            dense, grids.tolist(), image_sizes, region_infos, strict=True
        ):
            grid = tokens[: rows * columns].T.unflatten(1, (rows, columns))[None]
            scale = grid.new_tensor([columns / width, rows / height] * 2)
            pixels = grid.new_tensor(boxes).reshape(-1, 4)
            regions.append(roi_align(grid, [pixels * scale], output_size=1, aligned=True).flatten(1))
        return regions

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
        return heads[walk_type](last)


def _required(spatial_shapes: Tensor | None) -> Tensor:
    if spatial_shapes is None:
        raise Fgclip2Error("spatial_shapes is needed: patch rows and columns of every picture, shape (B, 2)")
    return spatial_shapes


def _layer_index(layer: int, depth: int) -> int:
    if not -depth <= layer < depth:
        raise Fgclip2Error(f"layer {layer}: this tower has {depth} blocks, {-depth} to {depth - 1}")
    return layer % depth


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
