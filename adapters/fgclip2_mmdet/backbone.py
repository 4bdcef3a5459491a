"""FG-CLIP 2's vision tower as an mmdetection backbone: one pass gives a feature pyramid and the dense map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

import fgclip2
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model
from fgclip2.pyramid import FGCLIP2Pyramid
from fgclip2.tower import (
    PATCH,
    arithmetic_of,
    encode_maps,
    frozen_names,
    leave_out_frozen,
    patchify,
    set_trainable,
    spread_layers,
)

__all__ = ["PATCH", "FGCLIP2Backbone", "ImageFeatures", "patchify"]


class ImageFeatures(NamedTuple):
    """What a detector reads from one pass of the tower.

    Attributes:
        pyramid: maps ``(B, C, H / stride, W / stride)``, one a stride, zero where a picture is padding.
        dense: output of the dense head ``(B, D, H / 16, W / 16)``, fp32, not normalised (regions are pooled first, as
            released), without gradient; zero in padding.
    """

    pyramid: tuple[Tensor, ...]
    dense: Tensor


@MODELS.register_module()
class FGCLIP2Backbone(BaseModule):
    """The vision tower, frozen by default, run once a picture.

    ``forward`` returns the pyramid alone, as mmdetection's own detectors and necks expect it; :meth:`encode` adds the
    dense map. Frozen weights are not stored in detector checkpoints: ``model`` is where they come from, and
    ``weights_hash`` is stored in their place.

    Args:
        model: what `fgclip2.load` takes: ``tiny``, a directory, or a hub id.
        layers: encoder blocks whose tokens feed the pyramid; negative numbers count from the end. ``None`` spreads
            three over the depth.
        out_channels: channels of every pyramid level.
        strides: strides of the levels in pixels: 4, 8, 16, 32 or 64.
        trainable_blocks: how many of the last encoder blocks are trained; 0 freezes the whole tower.
        with_cp: gradient checkpointing of the trained blocks: their activations are computed again in the backward
            pass, which saves memory and costs a third more time.
        dtype: arithmetic of the frozen tower: ``auto`` (bf16 on CUDA and on CPUs that have it in hardware, else fp32),
            ``float32`` or ``bfloat16``. Parameters stay fp32.
        init_cfg: mmengine's.

    Raises:
        Fgclip2Error: a model that cannot be had, a layer or stride that does not exist, too many trainable blocks.
    """

    def __init__(
        self,
        model: str = "tiny",
        layers: Sequence[int] | None = None,
        out_channels: int = 128,
        strides: Sequence[int] = (8, 16, 32),
        trainable_blocks: int = 0,
        with_cp: bool = False,
        dtype: str = "auto",
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.predictor = fgclip2.load(model, device="cpu", dtype="float32")
        self.weights_hash: str = self.predictor.hash
        self.tower: Fgclip2Model = self.predictor.model
        self.trainable_blocks = set_trainable(self.tower, trainable_blocks)
        depth = self.tower.config.vision_config.num_hidden_layers
        if with_cp and not self.trainable_blocks:
            raise Fgclip2Error("with_cp saves the memory of trained blocks; give trainable_blocks, or leave it out")
        self.layers = tuple(layers) if layers is not None else spread_layers(depth)
        self.width: int = self.tower.config.vision_config.hidden_size
        self.strides = tuple(strides)
        self.arithmetic = arithmetic_of(dtype)
        self.pyramid = FGCLIP2Pyramid(self.width, len(self.layers), out_channels, self.strides)
        self.with_cp = with_cp
        if with_cp:
            self.tower.gradient_checkpointing_enable({"use_reentrant": False})
        leave_out_frozen(self)

    def _trained(self) -> list[nn.Module]:
        blocks = list(self.tower.vision_model.encoder.layers)
        return blocks[len(blocks) - self.trainable_blocks :]

    def frozen_names(self) -> set[str]:
        """State-dict names, relative to the backbone, that a checkpoint leaves out."""
        return frozen_names(self.tower)

    def train(self, mode: bool = True) -> FGCLIP2Backbone:
        """Training mode for the pyramid; the tower, without dropout or running statistics, stays in eval mode.

        Checkpointed blocks are the exception: transformers recomputes only what is in training mode.
        """
        super().train(mode)
        self.tower.eval()
        for block in self._trained() if self.with_cp else ():
            block.train(mode)
        return self

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> tuple[Tensor, ...]:
        """The pyramid of :meth:`encode`, for detectors that do not use the dense map."""
        return self.encode(images, sizes).pyramid

    def encode(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> ImageFeatures:
        """Run the tower once over a batch.

        Args:
            images: ``(B, 3, H, W)`` RGB, values -1..1, padded at the right and bottom to multiples of 16.
            sizes: height and width of each picture without padding, in pixels; ``None`` when nothing is padding.
                Results for a picture do not depend on what it was padded to.
        """
        maps = encode_maps(self.tower, images, sizes, self.layers, self.arithmetic, train=self.trainable_blocks > 0)
        return ImageFeatures(self.pyramid(torch.cat(maps.layers, dim=1), maps.inside), maps.dense)
