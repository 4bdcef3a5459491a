"""FG-CLIP 2: SigLIP 2's towers with the long-text, box-text and dense heads.

State-dict names and method names are those of the released model, so a released directory loads as it is and code
written for it runs when ``trust_remote_code=True`` is dropped. Facts: arXiv 2510.10921, section 3, and the released
code; every forward pass here is tested against that code's own outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, Siglip2Model, Siglip2TextModel, Siglip2VisionModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.siglip2.modeling_siglip2 import Siglip2MultiheadAttentionPoolingHead, Siglip2PreTrainedModel

from fgclip2.attention import NAME as ATTENTION
from fgclip2.attention import key_mask
from fgclip2.config import Fgclip2Config, Fgclip2TextConfig, Fgclip2VisionConfig
from fgclip2.errors import Fgclip2Error
from fgclip2.layers import Fgclip2LastTextLayer, Fgclip2MLP, Fgclip2VisionEmbeddings, lighten
from fgclip2.passes import HeadPasses, ImageEncoding, ModelPasses, TextPasses, VisionPasses
from fgclip2.positions import stretch_positions
from fgclip2.processing import TextKind

__all__ = [
    "Fgclip2AttentionHead",
    "Fgclip2Model",
    "Fgclip2TextModel",
    "Fgclip2VisionModel",
    "ImageEncoding",
    "TextKind",
    "stretch_positions",
]


class Fgclip2AttentionHead(HeadPasses, Siglip2MultiheadAttentionPoolingHead):
    """SigLIP 2's MAP head in its two uses."""

    def __init__(self, config: Fgclip2VisionConfig) -> None:
        super().__init__(config)
        self.mlp: Any = Fgclip2MLP(self.mlp)

    def forward(self, hidden_state: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Pool tokens ``(B, N, D)`` under a ``(B, N)`` mask to ``(B, D)``."""
        return self.pool(hidden_state, key_mask(attention_mask))


class Fgclip2VisionModel(VisionPasses, Siglip2VisionModel):
    """SigLIP 2's vision tower with batched heads and intermediate tokens on request."""

    config: Fgclip2VisionConfig

    def __init__(self, config: Fgclip2VisionConfig) -> None:
        super().__init__(config)
        self.embeddings = Fgclip2VisionEmbeddings(config)
        self.head = Fgclip2AttentionHead(config)
        lighten(self.encoder.layers)
        self.post_init()

    def _packs(self, tokens: Tensor) -> bool:
        """No other attention than ours takes lengths in the place of a mask."""
        return self.config._attn_implementation == ATTENTION and super()._packs(tokens)

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


class Fgclip2TextModel(TextPasses, Siglip2TextModel):
    """SigLIP 2's text tower plus the two stretched position tables of long texts."""

    config: Fgclip2TextConfig

    def __init__(self, config: Fgclip2TextConfig) -> None:
        super().__init__(config)
        for name in ("position_embedding_ori", "position_embedding_res"):
            setattr(self.embeddings, name, nn.Embedding(config.longtext_len, config.hidden_size))
        self.encoder.layers[-1] = Fgclip2LastTextLayer(config)
        lighten(self.encoder.layers)
        self.post_init()

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


class Fgclip2Model(ModelPasses, Siglip2Model):
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
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Load a directory of ``config.json`` and safetensors, strictly.

        Takes transformers' arguments (``dtype``, ``attn_implementation``, ...; no directory but ``config`` and
        ``state_dict``) and returns what it would.

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
        from torchvision.ops import roi_align

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


def _required(spatial_shapes: Tensor | None) -> Tensor:
    if spatial_shapes is None:
        raise Fgclip2Error("spatial_shapes is needed: patch rows and columns of every picture, shape (B, 2)")
    return spatial_shapes


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
