"""Configuration of FG-CLIP 2 and its presets: the one source of every architectural default.

The classes extend transformers' SigLIP 2 configuration by the two numbers that FG-CLIP 2 adds to the text tower, so a
released ``config.json`` loads unchanged and ``save_pretrained`` writes a file that the released code reads.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from huggingface_hub.dataclasses import strict
from transformers import Siglip2Config, Siglip2TextConfig, Siglip2VisionConfig

from fgclip2.errors import Fgclip2Error


@strict
class Fgclip2TextConfig(Siglip2TextConfig):
    """Text tower: SigLIP 2's fields plus the long-text position tables.

    Attributes:
        vocab_size: number of token ids; 256,000 in the released models (Gemma).
        max_position_embeddings: rows of the short position table, and the length of short and box texts.
        longtext_len: rows of the stretched tables, and the length of long texts.
        keep_len: leading rows of the stretched table that are copied, not interpolated.
    """

    model_type = "fgclip2_text_model"
    base_config_key = "text_config"

    vocab_size: int = 256_000
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1
    longtext_len: int = 196
    keep_len: int = 20

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        stretched = 4 * self.max_position_embeddings - 3 * self.keep_len
        if not 0 <= self.keep_len < self.max_position_embeddings or self.longtext_len != stretched:
            raise Fgclip2Error(
                f"text_config: longtext_len {self.longtext_len} does not fit max_position_embeddings "
                f"{self.max_position_embeddings} and keep_len {self.keep_len}: the stretch gives "
                f"4 * {self.max_position_embeddings} - 3 * {self.keep_len} = {stretched} rows; set longtext_len to that"
            )


@strict
class Fgclip2VisionConfig(Siglip2VisionConfig):
    """Vision tower: exactly SigLIP 2's fields under FG-CLIP 2's ``model_type``."""

    model_type = "fgclip2_vision_model"
    base_config_key = "vision_config"


@strict
class Fgclip2Config(Siglip2Config):
    """Both towers; ``hidden_size`` of the vision tower and ``projection_size`` of the text tower must agree."""

    text_config: Any = None
    vision_config: Any = None

    model_type = "fgclip2"
    sub_configs: ClassVar = {"text_config": Fgclip2TextConfig, "vision_config": Fgclip2VisionConfig}

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.text_config, Fgclip2TextConfig):
            self.text_config = Fgclip2TextConfig(**_fields(self.text_config))
        if not isinstance(self.vision_config, Fgclip2VisionConfig):
            self.vision_config = Fgclip2VisionConfig(**_fields(self.vision_config))
        super().__post_init__(**kwargs)
        if self.text_config.projection_size != self.vision_config.hidden_size:
            raise Fgclip2Error(
                f"text_config.projection_size {self.text_config.projection_size} and vision_config.hidden_size "
                f"{self.vision_config.hidden_size} differ; texts and pictures must share one embedding width"
            )


def _fields(config: Any) -> dict[str, Any]:
    """The fields of a sub-configuration given as nothing, a dictionary or another configuration class."""
    fields = {} if config is None else dict(config) if isinstance(config, dict) else config.to_dict()
    fields.pop("model_type", None)
    return fields


def _towers(layers: int, hidden: int, heads: int, mlp: int) -> dict[str, dict[str, int]]:
    tower = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
    }
    return {"text_config": dict(tower), "vision_config": dict(tower)}


# Released sizes: paper, model table. "tiny" is this toolkit's own, for the embedded OpenMoji world.
_PRESETS: Final[dict[str, dict[str, dict[str, int]]]] = {
    "tiny": {
        "text_config": {
            "num_hidden_layers": 3,
            "hidden_size": 192,
            "num_attention_heads": 3,
            "intermediate_size": 768,
            "vocab_size": 3500,
            "max_position_embeddings": 40,
            "keep_len": 4,
            "longtext_len": 148,
        },
        "vision_config": {
            "num_hidden_layers": 6,
            "hidden_size": 192,
            "num_attention_heads": 3,
            "intermediate_size": 768,
        },
    },
    "base": _towers(12, 768, 12, 3072),
    "large": _towers(24, 1024, 16, 4096),
    "so400m": _towers(27, 1152, 16, 4304),
}


def preset(name: str) -> Fgclip2Config:
    """Configuration of a named size.

    Args:
        name: ``tiny`` (the embedded model), ``base``, ``large`` or ``so400m`` (the released ones).

    Raises:
        Fgclip2Error: for any other name.
    """
    if name not in _PRESETS:
        raise Fgclip2Error(f"unknown preset {name!r}; choose one of {', '.join(_PRESETS)}")
    return Fgclip2Config(**{key: dict(value) for key, value in _PRESETS[name].items()})
