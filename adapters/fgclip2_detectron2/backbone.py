"""FG-CLIP 2's vision tower as a detectron2 backbone: the dense map and the tokens of some blocks, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

import fgclip2
from fgclip2.modeling import Fgclip2Model
from fgclip2.tower import (
    PATCH,
    arithmetic_of,
    encode_maps,
    frozen_names,
    leave_out_frozen,
    pad_to_patches,
    set_trainable,
    spread_layers,
)

DENSE = "dense"
INSIDE = "inside"


class FGCLIP2Backbone(Backbone):
    """The vision tower, frozen by default, run once a batch.

    Frozen weights are not stored in checkpoints: ``model`` is where they come from, and ``weights_hash`` identifies
    them.

    Args:
        model: what `fgclip2.load` takes: ``tiny``, a directory, or a hub id.
        layers: encoder blocks whose tokens are given out; negative numbers count from the end. A single number spreads
            as many over the depth, the last one included.
        trainable_blocks: how many of the last encoder blocks are trained, or ``"all"``; 0 freezes the tower.
        attention_only: of these, train the query and value projections only, as CAT-Seg does.
        dtype: arithmetic of the tower: ``auto`` (bf16 on CUDA and on CPUs that have it in hardware, else fp32),
            ``float32`` or ``bfloat16``. Parameters stay fp32.

    Raises:
        Fgclip2Error: a model that cannot be had, a layer that does not exist, too many trainable blocks.
    """

    def __init__(
        self,
        model: str = "tiny",
        layers: Sequence[int] | int = 3,
        trainable_blocks: int | Literal["all"] = 0,
        attention_only: bool = False,
        dtype: str = "auto",
    ) -> None:
        super().__init__()
        self.predictor = fgclip2.load(model, device="cpu", dtype="float32")
        self.weights_hash: str = self.predictor.hash
        self.tower: Fgclip2Model = self.predictor.model
        self.trainable_blocks = set_trainable(self.tower, trainable_blocks, attention_only)
        depth = self.tower.config.vision_config.num_hidden_layers
        chosen = spread_layers(depth, layers) if isinstance(layers, int) else tuple(layers)
        self.layers = tuple(layer + depth if -depth <= layer < 0 else layer for layer in chosen)
        self.width: int = self.tower.config.vision_config.hidden_size
        self.arithmetic = arithmetic_of(dtype)
        self.token_names = tuple(f"tokens{layer}" for layer in self.layers)
        leave_out_frozen(self)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """``dense`` and one ``tokensN`` a block, all of the tower's width and stride 16."""
        return {name: ShapeSpec(channels=self.width, stride=PATCH) for name in (DENSE, *self.token_names)}

    @property
    def size_divisibility(self) -> int:
        """16, for detectron2's ImageList; `forward` itself takes any size."""
        return PATCH

    def frozen_names(self) -> set[str]:
        """State-dict names, relative to the backbone, that a checkpoint leaves out."""
        return frozen_names(self.tower)

    def train(self, mode: bool = True) -> FGCLIP2Backbone:
        """Accepted for detectron2; the tower, without dropout or running statistics, stays in eval mode."""
        super().train(mode)
        self.tower.eval()
        return self

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> dict[str, Tensor]:
        """Run the tower once over a batch.

        Args:
            images: ``(B, 3, H, W)`` RGB, values -1..1, of any size; every picture in the upper left corner.
            sizes: height and width of each picture without padding, in pixels; ``None`` when nothing is padding.
                Results for a picture do not depend on what it was padded to.

        Returns:
            ``dense`` (not normalised) and the ``tokensN``, each ``(B, D, ceil(H / 16), ceil(W / 16))`` float32, zero in
            padding; and ``inside`` ``(B, 1, ...)``, 1 where a picture is, when there is padding.
        """
        if sizes is None and (images.shape[-2] % PATCH or images.shape[-1] % PATCH):
            sizes = [(images.shape[-2], images.shape[-1])] * len(images)
        train = self.trainable_blocks > 0
        maps = encode_maps(
            self.tower, pad_to_patches(images), sizes, self.layers, self.arithmetic, train=train, train_dense=train
        )
        features = {DENSE: maps.dense, **dict(zip(self.token_names, maps.layers, strict=True))}
        return features if maps.inside is None else {**features, INSIDE: maps.inside}
