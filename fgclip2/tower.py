"""The vision tower over padded batches of pixels, as detectors and segmentors see it: pixels in, feature maps out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.cpu import warn_if_emulated
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model
from fgclip2.predictor import choose_dtype

PATCH: Final = 16
"""Side of a patch in pixels."""

_ARITHMETIC: Final = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


class TowerMaps(NamedTuple):
    """What one pass leaves, laid out in the padded batch's grid of patches.

    Attributes:
        layers: outputs of the blocks that were asked for, each ``(B, D, rows, columns)`` float32; zero in padding.
        dense: output of the dense head ``(B, D, rows, columns)`` float32, not normalised; zero in padding.
        inside: ``(B, 1, rows, columns)`` float32, 1 where a picture is and 0 in padding; ``None`` without padding.
    """

    layers: tuple[Tensor, ...]
    dense: Tensor
    inside: Tensor | None


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


def pad_to_patches(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` with zeros added at the right and bottom until both sides are multiples of 16."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % PATCH, 0, -height % PATCH))


def encode_maps(
    model: Fgclip2Model,
    images: Tensor,
    sizes: Sequence[tuple[int, int]] | None = None,
    layers: Sequence[int] = (),
    arithmetic: torch.dtype | None = None,
    train: bool = False,
    train_dense: bool = False,
) -> TowerMaps:
    """Run the tower once over a batch; what comes out for a picture does not depend on what it was padded to.

    Args:
        model: parameters in float32.
        images: ``(B, 3, H, W)`` RGB, values -1..1, padded at the right and bottom to multiples of 16.
        sizes: height and width of each picture without padding, in pixels; ``None`` when nothing is padding.
        layers: encoder blocks whose outputs to keep; negative numbers count from the end.
        arithmetic: float32, bfloat16, or ``None`` for bfloat16 where the hardware has it; see `arithmetic_of`.
        train: let gradients into the tower.
        train_dense: let gradients through the dense head too; needs ``train``.

    Raises:
        Fgclip2Error: sides that are no multiples of 16, or a layer that does not exist.
    """
    if images.shape[-2] % PATCH or images.shape[-1] % PATCH:
        raise Fgclip2Error(
            f"batch of {images.shape[-2]} x {images.shape[-1]} pixels: sides must be multiples of {PATCH}; "
            "use FGCLIP2DataPreprocessor, or pad_size_divisor=16"
        )
    rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
    patches, mask, grids, order = patchify(images, sizes)
    padded = patches.shape[1] != rows * columns or len({tuple(grid) for grid in grids.tolist()}) > 1
    dtype = choose_dtype("auto", images.device) if arithmetic is None else arithmetic
    warn_if_emulated(images.device, dtype)
    mixed = torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
    gradients = torch.is_grad_enabled()
    with torch.set_grad_enabled(train and gradients), mixed:
        encoding = model.encode_image(patches, mask if padded else None, grids, layers=layers)
    with torch.set_grad_enabled(train and train_dense and gradients), mixed:
        dense = model.dense(encoding).float()
    tokens = [state.float() for state in encoding.hidden_states]
    if not padded:
        kept, whole = ([part.transpose(1, 2).unflatten(2, (rows, columns)) for part in parts]
                       for parts in (tokens, [dense]))  # fmt: skip
        return TowerMaps(tuple(kept), whole[0], None)
    inside = _scatter(mask[..., None].to(dense.dtype), mask, order, rows, columns)
    kept = [_scatter(part, mask, order, rows, columns) for part in tokens]
    return TowerMaps(tuple(kept), _scatter(dense, mask, order, rows, columns), inside)


def spread_layers(depth: int, count: int = 3) -> tuple[int, ...]:
    """``count`` blocks spread over a tower of ``depth``, the last one included."""
    return tuple(max(0, depth * k // count - 1) for k in range(1, count + 1))


def arithmetic_of(name: str) -> torch.dtype | None:
    """What a tower computes in, by name; ``None`` stands for ``auto``.

    Raises:
        Fgclip2Error: an unknown name.
    """
    if name not in _ARITHMETIC:
        raise Fgclip2Error(f"backbone dtype {name!r}: choose one of {', '.join(_ARITHMETIC)}")
    return _ARITHMETIC[name]


def set_trainable(model: Fgclip2Model, blocks: int | Literal["all"], attention_only: bool = False) -> int:
    """Freeze a model but for the last encoder blocks of its vision tower.

    Args:
        model: changed in place.
        blocks: how many of the last blocks are trained; 0 freezes everything.
        attention_only: of these, train the query and value projections only, as CAT-Seg fine-tunes CLIP.

    Returns:
        The number of blocks.

    Raises:
        Fgclip2Error: the tower has fewer blocks.
    """
    layers = model.vision_model.encoder.layers
    depth = len(layers)
    count = depth if blocks == "all" else blocks
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= depth:
        raise Fgclip2Error(f"trainable_blocks {blocks}: this tower has {depth} blocks; give 0 to {depth}")
    model.requires_grad_(False)
    for block in layers[depth - count :]:
        chosen: Sequence[nn.Module] = [block]
        if attention_only:
            chosen = [block.self_attn.q_proj, block.self_attn.v_proj]
        for module in chosen:
            module.requires_grad_(True)
    return count


def frozen_names(model: nn.Module, prefix: str = "tower.") -> set[str]:
    """State-dict names, with a prefix, of everything in a model that is not trained."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {f"{prefix}{name}" for name in model.state_dict() if name not in trained}


def leave_out_frozen(backbone: nn.Module) -> None:
    """Keep frozen weights out of the checkpoints of a module with ``frozen_names()``; loading does not miss them."""
    backbone.register_state_dict_post_hook(_drop_frozen)
    backbone.register_load_state_dict_post_hook(_forgive_frozen)


def _scatter(tokens: Tensor, mask: Tensor, order: Tensor, rows: int, columns: int) -> Tensor:
    """Put tokens ``(B, N, D)`` back to their places in the padded grid, ``(B, D, rows, columns)``, zero elsewhere."""
    batch, _, width = tokens.shape
    grid = tokens.new_zeros(batch, rows * columns, width)
    kept = tokens.masked_fill(~mask[..., None], 0)
    grid = grid.scatter(1, order[..., None].expand(-1, -1, width), kept)
    return grid.transpose(1, 2).unflatten(2, (rows, columns))


def _drop_frozen(backbone: Any, state: dict, prefix: str, metadata: dict) -> None:
    for name in backbone.frozen_names():
        state.pop(prefix + name, None)


def _forgive_frozen(backbone: Any, keys: Any) -> None:
    # The prefix is not passed to this hook; frozen names are long enough to be told by their ending.
    frozen = tuple(backbone.frozen_names())
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(frozen)]
