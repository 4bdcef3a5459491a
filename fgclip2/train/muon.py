"""pytorch-optimizer's Muon on processors of every kind."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_optimizer import Muon as BaseMuon
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5
from torch import Tensor

from fgclip2.cpu import has_bf16


class Muon(BaseMuon):
    """Muon that makes its updates orthogonal in float32 where bfloat16 products are emulated.

    The package always multiplies in bfloat16. On a processor without such an instruction that is a hundred times slower
    than float32, and took nine tenths of a training step of the embedded model.
    """

    @staticmethod
    def _orthogonalize(group: dict[str, Any], updates: list[Tensor]) -> list[Tensor]:
        if has_bf16() or any(update.device.type != "cpu" for update in updates):
            made: list[Tensor] = BaseMuon._orthogonalize(group, updates)
            return made
        return [
            zero_power_via_newton_schulz_5(update, group["ns_steps"], weights=group["ns_coeffs"], dtype=torch.float32)
            for update in updates
        ]
