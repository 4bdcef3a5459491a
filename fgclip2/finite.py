"""Numbers that are not finite: stopped before an update, refused as weights, kept out of JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error

_NAMED: Final = 5  # records that a message names


def check_update(
    parameters: Iterable[nn.Parameter], losses: Sequence[Mapping[str, Tensor]], step: int, records: Sequence[str]
) -> None:
    """Check the losses and gradients of one step, after its backward pass and before its update.

    One number is read from the device: the host waits for the backward pass, which the update does as well. Processes
    agree, so that all of them stop.

    Args:
        parameters: of the model; those without a gradient are passed over.
        losses: of each micro-batch, the terms by name, each ``()``.
        step: number of the update, from 1.
        records: names of what is in the step.

    Raises:
        Fgclip2Error: a loss or a gradient is NaN or infinite on any process. It names step, terms and records.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
    values = [norm, *(term.detach().to(norm.device, torch.float32) for terms in losses for term in terms.values())]
    wrong = (~torch.isfinite(torch.stack([value.reshape(()).float() for value in values]))).any().float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(wrong, dist.ReduceOp.MAX)
    if not wrong.item():
        return
    named = {name: float(term) for terms in losses for name, term in terms.items()}
    bad = [f"{name} {value:g}" for name, value in named.items() if not math.isfinite(value)]
    bad += [f"gradients {float(norm):g}"] * (not math.isfinite(float(norm)))
    rest = len(records) - _NAMED
    listed = ", ".join(records[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    raise Fgclip2Error(
        f"step {step} is not finite ({', '.join(bad) or 'on another process'}; records {listed or 'unknown'}). "
        "Training stops before this update, and earlier checkpoints are kept: look at these records or lower the "
        "learning rate, then go on with --resume"
    )


def as_json(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as JSON knows them: ``None`` for NaN and infinities, which have no form there."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


def check_weights(state: Mapping[str, Tensor], where: str) -> None:
    """Check that no weight is NaN or infinite.

    Args:
        state: tensors by name; those that are no floating point numbers are passed over.
        where: what the message calls them.

    Raises:
        Fgclip2Error: some are, with the first one's name.
    """
    # One pass: a sum is finite where all numbers are. Weights whose sum overflows float32 are none either.
    bad = [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not math.isfinite(float(tensor.detach().sum(dtype=torch.float32)))
    ]
    if bad:
        raise Fgclip2Error(
            f"{where}: {len(bad)} of {len(state)} tensors are not finite, such as {bad[0]}; the training that made "
            "them diverged, so take an earlier checkpoint"
        )
