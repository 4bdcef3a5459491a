"""The model in modules of torch alone: what ``fgclip2.load`` infers with until somebody asks for transformers' model.

Importing transformers' models takes longer than importing torch, and inference needs nothing of them. Only a plain,
complete checkpoint is read here: for anything else ``read_config`` and ``read_network`` return ``None``, and the model
is loaded by way of transformers, whose checks also say what is wrong with it.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fgclip2.attention import Visible
from fgclip2.cpu import infers, mlp
from fgclip2.finite import check_weights
from fgclip2.passes import HeadPasses, ModelPasses, TextPasses, VisionPasses, last_position, self_attention
from fgclip2.positions import GridPositions

if TYPE_CHECKING:
    from fgclip2.modeling import Fgclip2Model

MODEL_TYPE: Final = "fgclip2"
_ACTIVATION: Final = "gelu_pytorch_tanh"
_WORDS: Final = "text_model.embeddings.token_embedding.weight"
_MAY_BE_ZERO: Final = ("keep_len", "pad_token_id")
_Tower = TypeVar("_Tower", bound="Tower")


@dataclass(frozen=True)
class Tower:
    """What both towers' configurations have; names and defaults are transformers'."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = _ACTIVATION
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True)
class TextTower(Tower):
    """See :class:`fgclip2.Fgclip2TextConfig`."""

    vocab_size: int = 256_000
    max_position_embeddings: int = 64
    longtext_len: int = 196
    keep_len: int = 20
    pad_token_id: int = 0


@dataclass(frozen=True)
class VisionTower(Tower):
    """See :class:`fgclip2.Fgclip2VisionConfig`."""

    num_channels: int = 3
    patch_size: int = 16
    num_patches: int = 256


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is built from; the attributes are those of :class:`fgclip2.Fgclip2Config` that shape it.

    Attributes:
        text_config, vision_config: the towers.
        fields: content of ``config.json``, which transformers' configuration is made of when it is asked for.
    """

    text_config: TextTower
    vision_config: VisionTower
    fields: Mapping[str, Any]


class _Mlp(nn.Module):
    def __init__(self, config: Tower) -> None:
        super().__init__()
        self.activation_fn = nn.GELU(approximate="tanh")
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        if infers(tokens):
            return mlp(tokens, self.fc1, self.activation_fn, self.fc2, _ACTIVATION)
        output: Tensor = self.fc2(self.activation_fn(self.fc1(tokens)))
        return output


class _Attention(nn.Module):
    def __init__(self, config: Tower) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            self.add_module(name, nn.Linear(config.hidden_size, config.hidden_size))

    def forward(self, tokens: Tensor, visible: Visible) -> Tensor:
        return self_attention(self, tokens, visible)


class _Block(nn.Module):
    def __init__(self, config: Tower) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = _Attention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = _Mlp(config)

    def forward(self, tokens: Tensor, visible: Visible, pooled: bool = False) -> Tensor:
        if pooled:
            return last_position(self, tokens)
        tokens = tokens + self.self_attn(self.layer_norm1(tokens), visible)
        output: Tensor = tokens + self.mlp(self.layer_norm2(tokens))
        return output


class _Encoder(nn.Module):
    def __init__(self, config: Tower) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))


class _Head(HeadPasses, nn.Module):
    def __init__(self, config: VisionTower) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.probe = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.attention = nn.MultiheadAttention(config.hidden_size, config.num_attention_heads, batch_first=True)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = _Mlp(config)


def _table(rows: int, config: Tower) -> nn.Embedding:
    """Not filled: torch's normal distribution imports its compiler, for tensors without values too."""
    return nn.Embedding.from_pretrained(torch.empty(rows, config.hidden_size))


class _VisionEmbeddings(GridPositions, nn.Module):
    def __init__(self, config: VisionTower) -> None:
        super().__init__()
        self.position_embedding_size = isqrt(config.num_patches)
        self.patch_embedding = nn.Linear(config.num_channels * config.patch_size**2, config.hidden_size)
        self.position_embedding = _table(config.num_patches, config)


class _Vision(VisionPasses, nn.Module):
    def __init__(self, config: VisionTower) -> None:
        super().__init__()
        self.embeddings = _VisionEmbeddings(config)
        self.encoder = _Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = _Head(config)


class _TextEmbeddings(nn.Module):
    def __init__(self, config: TextTower) -> None:
        super().__init__()
        self.token_embedding = _table(config.vocab_size, config)
        self.position_embedding = _table(config.max_position_embeddings, config)
        self.position_embedding_ori = _table(config.longtext_len, config)
        self.position_embedding_res = _table(config.longtext_len, config)


class _Text(TextPasses, nn.Module):
    def __init__(self, config: TextTower, width: int) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _TextEmbeddings(config)
        self.encoder = _Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, width)


class Network(ModelPasses, nn.Module):
    """``Fgclip2Model`` to infer with: the same state dict, passes and results, frozen.

    Args:
        config: as read from ``config.json``.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        text, width = config.text_config, config.vision_config.hidden_size
        self.config = config
        self.text_model = _Text(text, width)
        self.vision_model = _Vision(config.vision_config)
        self.longtext_head = nn.Linear(text.hidden_size, width)
        self.boxtext_head = nn.Linear(text.hidden_size, width)
        self.dense_feature_head = _Head(config.vision_config)
        self.logit_scale = nn.Parameter(torch.empty(1))
        self.logit_bias = nn.Parameter(torch.empty(1))

    def to_transformers(self, directory: Path) -> Fgclip2Model:
        """The same model as transformers' module, whose parameters share this one's memory where that is possible.

        Args:
            directory: that the network was read from; only its name is used.
        """
        from fgclip2.config import Fgclip2Config
        from fgclip2.modeling import Fgclip2Model
        from fgclip2.pretrained import no_progress_bar

        weights = self.state_dict()
        like = self.logit_scale
        config = Fgclip2Config.from_dict(copy.deepcopy(dict(self.config.fields)))
        with no_progress_bar(), torch.inference_mode(False):
            model: Fgclip2Model = Fgclip2Model.from_pretrained(
                None, config=config, state_dict=weights, dtype=like.dtype
            )
        model.name_or_path = config._name_or_path = str(directory)  # as from_pretrained(directory) leaves them
        return model.requires_grad_(False).to(like.device).eval()


def read_config(content: Mapping[str, Any]) -> NetworkConfig | None:
    """The configuration in the content of a ``config.json``; ``None`` where transformers has to judge it."""
    text = _tower(TextTower, content.get("text_config"))
    vision = _tower(VisionTower, content.get("vision_config"))
    if content.get("model_type") != MODEL_TYPE or "quantization_config" in content or text is None or vision is None:
        return None
    stretched = 4 * text.max_position_embeddings - 3 * text.keep_len
    projected = content["text_config"].get("projection_size", text.hidden_size)
    plain = (
        text.keep_len < text.max_position_embeddings
        and text.longtext_len == stretched
        and projected == vision.hidden_size
        and isqrt(vision.num_patches) ** 2 == vision.num_patches
    )
    return NetworkConfig(text, vision, content) if plain else None


def read_network(directory: Path, config: NetworkConfig, dtype: torch.dtype, map_words: bool = False) -> Network | None:
    """The network of a model directory, on the CPU and frozen.

    Args:
        directory: of ``config.json`` and the weights.
        config: what `read_config` made of the former.
        dtype: of the parameters.
        map_words: leave the word embeddings, half of a released file, in the file and in its type: a text needs few of
            their rows, which are converted as they are read.

    Returns:
        ``None`` where transformers has to load it, or say why it cannot be loaded: where the tensors are not exactly
        those of the configuration.

    Raises:
        SafetensorError, OSError: a file cannot be read.
        Fgclip2Error: a tensor is not finite; word embeddings that stay in the file are not looked at.
    """
    with torch.inference_mode(False):  # or the weights could never be trained or written to
        return _read(directory, config, dtype, map_words)


def _read(directory: Path, config: NetworkConfig, dtype: torch.dtype, map_words: bool) -> Network | None:
    with torch.device("meta"):
        network = Network(config)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    weights: dict[str, Tensor] = {}
    for file in _files(directory):
        with safe_open(os.fspath(file), framework="pt") as opened:
            weights |= {name: opened.get_tensor(name) for name in opened.keys() if name in expected}  # noqa: SIM118
            if any(name not in expected for name in opened.keys()):  # noqa: SIM118
                return None
    if {name: tensor.shape for name, tensor in weights.items()} != expected:
        return None
    if not all(tensor.is_floating_point() for tensor in weights.values()):
        return None
    # What is in the right type already stays mapped from the file, as transformers leaves it.
    mapped = (_WORDS,) if map_words else ()
    converted = {name: tensor if name in mapped else tensor.to(dtype) for name, tensor in weights.items()}
    check_weights({name: tensor for name, tensor in converted.items() if name not in mapped}, str(directory))
    network.load_state_dict(converted, assign=True)
    return network.requires_grad_(False).eval()


def _tower(kind: type[_Tower], content: Any) -> _Tower | None:
    """A tower whose fields have the right types and possible values; others may be there and mean nothing here."""
    if not isinstance(content, dict):
        return None
    values = {field.name: content.get(field.name, field.default) for field in fields(kind)}
    for field in fields(kind):
        value, default = values[field.name], field.default
        number = type(value) is int or (type(value) is float and type(default) is float)
        if field.name == "hidden_act":
            if value != _ACTIVATION:
                return None
        elif not number or value < (0 if field.name in _MAY_BE_ZERO else 1e-12):
            return None
    tower = kind(**values)
    return tower if tower.hidden_size % tower.num_attention_heads == 0 else None


def _files(directory: Path) -> list[Path]:
    """Where transformers looks for weights: one file, else those that an index names."""
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file() or not index.is_file():
        return [single] if single.is_file() else []
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [directory / name for name in sorted(names)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
