"""Masks as a detector gives them, in the form that mmdetection's own tools take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fgclip2.masks import BoxMasks


class PredictedMasks(BoxMasks):
    """`BoxMasks` where mmdetection has a tensor ``(K, H, W)``, which its inferencer and visualizer take for one."""

    def cpu(self) -> Tensor:
        """All of them painted, ``(K, H, W)`` bool: K H W bytes."""
        return torch.from_numpy(self.array())

    def astype(self, kind: Any) -> np.ndarray:
        """The same as an array of a type."""
        return self.array().astype(kind)
