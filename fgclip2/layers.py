"""Parts of a tower's blocks that differ from transformers' SigLIP 2 in what they leave out, not in their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.siglip2.modeling_siglip2 import (
    Siglip2Attention,
    Siglip2EncoderLayer,
    Siglip2MLP,
    Siglip2VisionEmbeddings,
)

from fgclip2.attention import NAME, Visible, attention
from fgclip2.cpu import FUSED_ACTIVATION, in_bf16, infers, mlp
from fgclip2.passes import last_position, self_attention
from fgclip2.positions import GridPositions


class Fgclip2VisionEmbeddings(GridPositions, Siglip2VisionEmbeddings):
    """SigLIP 2's patch embedding, which resizes its position table once a grid."""


class Fgclip2MLP(Siglip2MLP):
    """SigLIP 2's MLP, which on a processor infers some tokens at a time and trains in bf16 with the erf form of GELU.

    Args:
        mlp: whose layers it takes over.
    """

    def __init__(self, mlp: Siglip2MLP) -> None:
        nn.Module.__init__(self)  # past Siglip2MLP's own, which would make and fill layers only to drop them
        self.config, self.activation_fn, self.fc1, self.fc2 = mlp.config, mlp.activation_fn, mlp.fc1, mlp.fc2

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., D)``."""
        # In training too there are passes without gradients, and adapters that drop at random: by pieces they would
        # drop other numbers than the pass with gradients does.
        if infers(hidden_states) and not self.training:
            return mlp(hidden_states, self.fc1, self.activation_fn, self.fc2, self.config.hidden_act)
        inner = self.fc1(hidden_states)
        if in_bf16(inner) and self.config.hidden_act == FUSED_ACTIVATION:
            # torch's tanh form takes 2.6 times as long on a processor as its erf form. The two differ by less than
            # 5e-4, and bf16 rounds 1 by up to 3.9e-3. Training's passes without gradients take the same form.
            return cast(Tensor, self.fc2(F.gelu(inner)))
        return cast(Tensor, self.fc2(self.activation_fn(inner)))


class Fgclip2Attention(Siglip2Attention):
    """SigLIP 2's self-attention, which on a processor infers with packed weights.

    Args:
        attention: whose layers it takes over.
    """

    def __init__(self, attention: Siglip2Attention) -> None:
        nn.Module.__init__(self)
        self.__dict__ |= {name: value for name, value in vars(attention).items() if not name.startswith("_")}
        for name, layer in attention.named_children():
            self.add_module(name, layer)

    def forward(self, hidden_states: Tensor, attention_mask: Visible = None, **kwargs: Any) -> tuple[Tensor, None]:
        """``(B, N, D)`` and what each may see to ``(B, N, D)``; no attention weights."""
        if not infers(hidden_states) or self.config._attn_implementation != NAME:
            return cast("tuple[Tensor, None]", super().forward(hidden_states, attention_mask, **kwargs))
        return self_attention(self, hidden_states, attention_mask), None


def lighten(blocks: Iterable[Any]) -> None:
    """Put the parts above into a tower's blocks, in place; names of parameters stay."""
    for block in blocks:
        block.self_attn, block.mlp = Fgclip2Attention(block.self_attn), Fgclip2MLP(block.mlp)


class Fgclip2LastTextLayer(Siglip2EncoderLayer):
    """The text tower's last block, which can leave out what nobody reads."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *, pooled: bool = False, **kwargs: Any
    ) -> Tensor:
        """``(T, L, D)`` to the same, or ``pooled`` to the last position alone, ``(T, D)``.

        It is done in here, not from outside, because FSDP gathers a block's weights when the block is called.
        """
        if not pooled:
            return cast(Tensor, super().forward(hidden_states, attention_mask, **kwargs))
        return last_position(self, hidden_states)


def _registered(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Visible, **_: Any
) -> tuple[Tensor, None]:
    """transformers' calling convention: heads second in, tokens second out, no attention weights."""
    return attention(query, key, value, attention_mask).transpose(1, 2), None


AttentionInterface.register(NAME, _registered)
