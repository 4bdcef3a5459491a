"""Low-rank adaptation of the towers (LoRA, arXiv 2106.09685) with peft: fine-tuning that forgets little."""

from __future__ import annotations

from typing import Any, Final, cast

from fgclip2.extras import extras
from fgclip2.modeling import Fgclip2Model
from fgclip2.train.recipe import LoraConfig

_TARGETS: Final = r".*\.encoder\.layers\.\d+\.(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.(fc1|fc2))"
# Small, and new in FG-CLIP 2: trained whole.
_WHOLE: Final = ("longtext_head", "boxtext_head", "dense_feature_head")


def add_lora(model: Fgclip2Model, config: LoraConfig) -> Any:
    """Freeze the model and put low-rank updates beside the matrices of its blocks, in place.

    Returns:
        peft's model around it, for `merge_lora`.

    Raises:
        Fgclip2Error: peft is not installed.
    """
    with extras("train"):
        import peft
    wrapped = peft.get_peft_model(
        model,
        peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=_TARGETS),
    )
    for name in _WHOLE:
        getattr(model, name).requires_grad_(True)
    for name in ("logit_scale", "logit_bias"):
        getattr(model, name).requires_grad_(True)
    return wrapped


def merge_lora(wrapped: Any) -> Fgclip2Model:
    """The plain model with the updates added to its weights."""
    return cast(Fgclip2Model, wrapped.merge_and_unload())
