"""FG-CLIP 2's vision tower as an mmdetection backbone: one pass gives a feature pyramid and the dense map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

import fgclip2
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model

from .pyramid import FGCLIP2Pyramid

PATCH = 16


class ImageFeatures(NamedTuple):
    """What a detector reads from one pass of the tower.

    Attributes:
        pyramid: maps ``(B, C, H / stride, W / stride)``, one a stride, zero where a picture is padding.
        dense: output of the dense head ``(B, D, H / 16, W / 16)``, fp32, not normalised (regions are pooled first, as
            released), without gradient; zero in padding.
    """

    pyramid: tuple[Tensor, ...]
    dense: Tensor


def patchify(images: Tensor, sizes: Sequence[tuple[int, int]] | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut a padded batch into the tower's NaFlex patches; every picture's own patches come first, padding last.

    Args:
        images: ``(B, 3, H, W)``, H and W multiples of 16, every picture in the upper left corner.
        sizes: height and width of each picture without padding, in pixels; ``None`` when nothing is padding.

    Returns:
        Patches ``(B, N, 768)``; mask ``(B, N)``, 1 for a picture's own; grid rows and columns ``(B, 2)`` int64 on the
        CPU; and the position ``(B, N)`` of every patch in the padded batch's grid, row by row.
    """
    batch, _, height, width = images.shape
    rows, columns = height // PATCH, width // PATCH
    flat = images.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # (B, 3, rows, columns, 16, 16)
    flat = flat.permute(0, 2, 3, 4, 5, 1).reshape(batch, rows * columns, PATCH * PATCH * 3)
    if sizes is None:
        sizes = [(height, width)] * batch
    grids = torch.tensor([[-(-h // PATCH), -(-w // PATCH)] for h, w in sizes], dtype=torch.int64)
    device_grids = grids.to(images.device, non_blocking=True)
    row = torch.arange(rows, device=images.device)[None, :, None]
    column = torch.arange(columns, device=images.device)[None, None, :]
    inside = (row < device_grids[:, 0, None, None]) & (column < device_grids[:, 1, None, None])
    inside = inside.flatten(1)  # (B, N)
    # A stable sort by "outside" keeps row order, which is the order of each picture's own smaller grid.
    order = torch.argsort(~inside, dim=1, stable=True)
    # Trailing positions that are padding for every picture need no computation; grids is on the CPU, so no sync here.
    longest = int(grids.prod(dim=1).max())
    order = order[:, :longest]
    patches = flat.gather(1, order[..., None].expand(-1, -1, flat.shape[-1]))
    return patches, inside.gather(1, order), grids, order


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
        depth = self.tower.config.vision_config.num_hidden_layers
        if not 0 <= trainable_blocks <= depth:
            raise Fgclip2Error(f"trainable_blocks {trainable_blocks}: this tower has {depth} blocks; give 0 to {depth}")
        if with_cp and not trainable_blocks:
            raise Fgclip2Error("with_cp saves the memory of trained blocks; give trainable_blocks, or leave it out")
        self.trainable_blocks = trainable_blocks
        self.layers = tuple(layers) if layers is not None else tuple(max(0, depth * k // 3 - 1) for k in (1, 2, 3))
        self.width: int = self.tower.config.vision_config.hidden_size
        self.strides = tuple(strides)
        self.arithmetic = _arithmetic(dtype)
        self.pyramid = FGCLIP2Pyramid(self.width, len(self.layers), out_channels, self.strides)
        self.with_cp = with_cp
        self._freeze()
        self.register_state_dict_post_hook(_drop_frozen)
        self.register_load_state_dict_post_hook(_forgive_frozen)

    def _freeze(self) -> None:
        self.tower.requires_grad_(False)
        for block in self._trained():
            block.requires_grad_(True)
        if self.with_cp:
            self.tower.gradient_checkpointing_enable({"use_reentrant": False})

    def _trained(self) -> list[nn.Module]:
        blocks = list(self.tower.vision_model.encoder.layers)
        return blocks[len(blocks) - self.trainable_blocks :]

    def frozen_names(self) -> set[str]:
        """State-dict names, relative to the backbone, that a checkpoint leaves out."""
        trained = {name for name, parameter in self.tower.named_parameters() if parameter.requires_grad}
        return {f"tower.{name}" for name in self.tower.state_dict() if name not in trained}

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
        if images.shape[-2] % PATCH or images.shape[-1] % PATCH:
            raise Fgclip2Error(
                f"batch of {images.shape[-2]} x {images.shape[-1]} pixels: sides must be multiples of {PATCH}; "
                "use FGCLIP2DataPreprocessor, or pad_size_divisor=16"
            )
        rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        patches, mask, grids, order = patchify(images, sizes)
        padded = patches.shape[1] != rows * columns or len({tuple(grid) for grid in grids.tolist()}) > 1
        mixed = torch.autocast(images.device.type, torch.bfloat16, enabled=self._use_bf16(images.device))
        with torch.set_grad_enabled(self.trainable_blocks > 0 and torch.is_grad_enabled()), mixed:
            encoding = self.tower.encode_image(patches, mask if padded else None, grids, layers=self.layers)
        with torch.no_grad(), mixed:
            dense = self.tower.dense(encoding)
        dense = dense.float()
        tokens = torch.cat([state.float() for state in encoding.hidden_states], dim=-1)
        if not padded:
            maps = [part.transpose(1, 2).unflatten(2, (rows, columns)) for part in (tokens, dense)]
            return ImageFeatures(self.pyramid(maps[0], None), maps[1])
        maps = [_scatter(part, mask, order, rows, columns) for part in (tokens, dense)]
        inside = _scatter(mask[..., None].to(tokens.dtype), mask, order, rows, columns)  # (B, 1, rows, columns)
        return ImageFeatures(self.pyramid(maps[0], inside), maps[1])

    def _use_bf16(self, device: torch.device) -> bool:
        if self.arithmetic is not None:
            return self.arithmetic == torch.bfloat16
        return device.type == "cuda" or (device.type == "cpu" and _cpu_has_bf16())


def _scatter(tokens: Tensor, mask: Tensor, order: Tensor, rows: int, columns: int) -> Tensor:
    """Put tokens ``(B, N, D)`` back to their places in the padded grid, ``(B, D, rows, columns)``, zero elsewhere."""
    batch, _, width = tokens.shape
    grid = tokens.new_zeros(batch, rows * columns, width)
    kept = tokens.masked_fill(~mask[..., None], 0)
    grid = grid.scatter(1, order[..., None].expand(-1, -1, width), kept)
    return grid.transpose(1, 2).unflatten(2, (rows, columns))


def _arithmetic(dtype: str) -> torch.dtype | None:
    allowed = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in allowed:
        raise Fgclip2Error(f"backbone dtype {dtype!r}: choose one of {', '.join(allowed)}")
    return allowed[dtype]


def _cpu_has_bf16() -> bool:
    # Emulated bf16, which most processors can do, is slower than fp32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in names if hasattr(torch.cpu, name))


def _drop_frozen(backbone: FGCLIP2Backbone, state: dict, prefix: str, metadata: dict) -> None:
    for name in backbone.frozen_names():
        state.pop(prefix + name, None)


def _forgive_frozen(backbone: FGCLIP2Backbone, keys: Any) -> None:
    # The prefix is not passed to this hook; frozen names are long enough to be told by their ending.
    frozen = tuple(backbone.frozen_names())
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(frozen)]
