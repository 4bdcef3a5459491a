"""The two models that are compared: ours at full size with random weights, and transformers' towers with the same.

The plain one is what is written first from transformers alone: eager attention in float32, one picture or text at a
time, the processor's padding and its mask, and a dense head of ``nn.MultiheadAttention`` under a mask of heads x N x N.
Who knows torch better writes ``sdpa``: torch's fused attention, in the dense head too, and no mask where nothing is
hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import Siglip2TextConfig, Siglip2TextModel, Siglip2VisionConfig, Siglip2VisionModel
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from fgclip2.config import Fgclip2Config, preset
from fgclip2.cpu import has_bf16
from fgclip2.modeling import Fgclip2Model
from fgclip2.predictor import FGCLIP2, choose_dtype, find_device
from fgclip2.pretrained import resolve
from fgclip2.processing import Processor

Attention: TypeAlias = Literal["eager", "sdpa"]


def random_model(size: str, vocabulary: int | None = None) -> FGCLIP2:
    """A released model's shape without its weights; its processor is the embedded model's, whose pictures are alike.

    Args:
        size: a preset's name.
        vocabulary: rows of the token table; the embedded tokenizer's when not given, as initial values of a whole
            table take long.
    """
    device = find_device("auto")
    if device.type == "cpu" and not has_bf16():
        print("This processor has no bfloat16: ours computes in float32, as the plain way does.")
    config = preset(size)
    config.text_config.vocab_size = vocabulary or preset("tiny").text_config.vocab_size
    torch.manual_seed(0)
    model = Fgclip2Model(config).to(device, choose_dtype("auto", device)).requires_grad_(False)
    return FGCLIP2(model, Processor.from_config(config, resolve("tiny")), name=f"random {size}")


def image_flops(config: Fgclip2Config, tokens: int) -> tuple[float, float]:
    """GFLOP of products with weights and of attention, for the dense features of one picture."""
    vision = config.vision_config
    width, layers = vision.hidden_size, vision.num_hidden_layers + 1  # the dense head is one more
    weights = layers * (4 * width**2 + 2 * width * vision.intermediate_size) + 3 * vision.patch_size**2 * width
    return 2 * tokens * weights / 1e9, 4 * layers * tokens**2 * width / 1e9


class Plain(nn.Module):
    """transformers' towers with a copy of a model's weights, in float32.

    Args:
        model: whose weights to take.
        attention: transformers' name of how the towers attend.
    """

    def __init__(self, model: Fgclip2Model, attention: Attention = "eager") -> None:
        super().__init__()
        fields = model.config.vision_config.to_dict(), model.config.text_config.to_dict()
        for given in fields:
            given.pop("model_type")
        vision, text = Siglip2VisionConfig(**fields[0]), Siglip2TextConfig(**fields[1])
        for config in (vision, text):
            config._attn_implementation = attention
        self.fused = attention == "sdpa"
        self.vision, self.text = Siglip2VisionModel(vision), Siglip2TextModel(text)
        self.vision.load_state_dict(model.vision_model.state_dict())
        self.text.load_state_dict(model.text_model.state_dict(), strict=False)  # ours has the long texts' tables too
        self.dense_head = Siglip2VisionModel(vision).head
        self.dense_head.load_state_dict(model.dense_feature_head.state_dict())
        self.box_head = nn.Linear(model.boxtext_head.in_features, model.boxtext_head.out_features)
        self.box_head.load_state_dict(model.boxtext_head.state_dict())
        self.processor = Siglip2ImageProcessorPil()
        self.eval().to(model.device, torch.float32).requires_grad_(False)

    def _inputs(self, picture: Image.Image, patches: int) -> Mapping[str, Tensor]:
        inputs = self.processor(images=picture, max_num_patches=patches, return_tensors="pt")
        return {name: tensor.to(self.box_head.weight.device) for name, tensor in inputs.items()}

    @torch.no_grad()
    def image(self, picture: Image.Image, patches: int) -> Tensor:
        """Features (D,) of a picture."""
        inputs = self._inputs(picture, patches)
        return F.normalize(self.vision(**inputs).pooler_output, dim=-1)[0]

    @torch.no_grad()
    def dense(self, picture: Image.Image, patches: int) -> Tensor:
        """Features (N, D) of a picture's patches."""
        inputs = self._inputs(picture, patches)
        tokens = self.vision(**inputs).last_hidden_state
        seen = inputs["pixel_attention_mask"].bool()
        if self.fused and bool(seen.all()):
            attended = self.dense_head.attention(tokens, tokens, tokens, need_weights=False)[0]
            out = attended + self.dense_head.mlp(self.dense_head.layernorm(attended))
            return F.normalize(out[0], dim=-1)
        hidden = torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, torch.finfo(torch.float32).min)
        mask = hidden[:, None, None, :].repeat(1, self.dense_head.num_heads, tokens.shape[1], 1).flatten(0, 1)
        attended = self.dense_head.attention(tokens, tokens, tokens, attn_mask=mask)[0]
        out = attended + self.dense_head.mlp(self.dense_head.layernorm(attended))
        return F.normalize(out[0, seen[0]], dim=-1)

    @torch.no_grad()
    def box_text(self, ids: Tensor) -> Tensor:
        """Features (T, D) of token ids (T, L)."""
        last = self.text(input_ids=ids.to(self.box_head.weight.device)).last_hidden_state[:, -1]
        return F.normalize(cast(Tensor, self.box_head(last)), dim=-1)
