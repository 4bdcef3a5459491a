"""A trained tower between its released and its trained weights, under the trained heads: what it forgot, and back."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

import fgclip2
from fgclip2.files import write_atomically

from .backbone import FGCLIP2Backbone
from .report import TITLES
from .runner import FACTS, read_checkpoint

RELEASED = 1.0
"""Share of the released weights: all of them, as before the training."""


def trained_names(backbone: FGCLIP2Backbone) -> list[str]:
    """Names of the tower's weights that are trained; none when it is frozen."""
    return [name for name, parameter in backbone.tower.named_parameters() if parameter.requires_grad]


def released_weights(backbone: FGCLIP2Backbone, model: str) -> dict[str, Tensor]:
    """What the trained weights of a tower were before the training.

    Args:
        backbone: whose.
        model: what `fgclip2.load` takes: what the backbone was built with.

    Raises:
        Fgclip2Error: the model cannot be had.
    """
    device = next(backbone.parameters()).device
    released = fgclip2.load(model, device="cpu", dtype="float32").model.state_dict()
    return {name: released[name].to(device) for name in trained_names(backbone)}


@contextlib.contextmanager
def mixed_tower(backbone: FGCLIP2Backbone, released: Mapping[str, Tensor], share: float) -> Iterator[None]:
    """While it lasts, the tower is ``share`` released and the rest trained (WiSE-FT, Wortsman et al. 2022).

    Args:
        backbone: of a trained detector.
        released: from `released_weights`.
        share: 0 (as trained) to 1 (as released).
    """
    parameters = dict(backbone.tower.named_parameters())
    trained = {name: parameters[name].detach().clone() for name in released}
    try:
        with torch.no_grad():
            for name, weight in released.items():
                parameters[name].lerp_(weight, share)
        yield
    finally:
        with torch.no_grad():
            for name, weight in trained.items():
                parameters[name].copy_(weight)


def write_mixed(source: Path, target: Path, released: Mapping[str, Tensor], share: float) -> None:
    """Write a checkpoint whose tower is mixed as by `mixed_tower`; it has no state to resume from.

    Args:
        source: of a run that trained the tower.
        target: the new file.
        released: from `released_weights`.
        share: 0 to 1.
    """
    content = read_checkpoint(source)
    state = dict(content["state_dict"])
    for name, weight in released.items():
        key = f"backbone.tower.{name}"
        state[key] = state[key].lerp(weight.cpu(), share)
    meta = {FACTS: {**content["meta"].get(FACTS, {}), "released_share": share}}
    stream = io.BytesIO()
    torch.save({"state_dict": state, "meta": meta}, stream)
    write_atomically(target, stream.getvalue())


def forgetting_table(towers: Mapping[float, Mapping[str, Mapping[str, Any]]]) -> Table:
    """AP50 over base and novel classes of every vocabulary, by share of the released weights.

    All rows are of the heads that were trained together with the trained tower, so that of the released one shows how
    far the heads hang on the training, not what heads trained on the released tower would reach: for that train with
    a frozen tower.

    Args:
        towers: share -> vocabulary -> figure -> 0..100, as `fgclip2_mmdet.experiment.summary` gives it.
    """
    table = Table(title="The trained heads on other towers (AP50, in %)")
    for column in ("tower", "vocabulary", "base", "novel"):
        table.add_column(column, justify="left" if column in ("tower", "vocabulary") else "right")
    for share, figures in towers.items():
        tower = {RELEASED: "released, under the trained heads", 0.0: "as trained"}.get(share, f"{share:g} released")
        for vocabulary, values in figures.items():
            cells = (f"{values[f'AP50_{group}']:.1f}" for group in ("base", "novel"))
            table.add_row(tower, TITLES.get(vocabulary, vocabulary), *cells)
    return table
