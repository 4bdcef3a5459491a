"""Hooks of detectron2's trainer: gradients clipped and checked, and lines on the progress."""

from __future__ import annotations

import time
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error

from .pairing import few


class FiniteGradients(HookBase):
    """Clip gradients, and stop before an update that would make the weights useless.

    Args:
        limit: greatest norm of all gradients together.

    Raises:
        Fgclip2Error: in training, a loss or a gradient is NaN or infinite; the images and losses are named.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._batch: list[dict[str, Any]] = []
        self._losses: dict[str, Tensor] = {}

    def before_train(self) -> None:
        """See what goes into the model and what comes out."""
        self._handle = self.trainer.model.register_forward_hook(self._remember)

    def after_train(self) -> None:
        """Look no more."""
        self._handle.remove()

    def _remember(self, model: nn.Module, given: tuple[Any, ...], losses: Any) -> None:
        self._batch, self._losses = list(given[0]), {name: value.detach() for name, value in losses.items()}

    def after_backward(self) -> None:
        """Check, then clip."""
        norm = nn.utils.clip_grad_norm_(self.trainer.model.parameters(), self.limit)
        if not torch.isfinite(norm):
            terms = ", ".join(f"{name} {value.item():.4g}" for name, value in self._losses.items())
            images = few([item.get("file_name", item.get("image_id")) for item in self._batch], 3)
            raise not_finite(self.trainer.iter + 1, f"{terms}; gradients {norm.item():.4g}; images {images}")


def not_finite(iteration: int, what: str) -> Fgclip2Error:
    """The error of a training that has diverged.

    Args:
        iteration: from 1.
        what: losses, gradients and images.
    """
    return Fgclip2Error(
        f"iteration {iteration} is not finite ({what}); checkpoints of earlier iterations are kept. Lower train.lr, or "
        "look at these images, then continue with --resume"
    )


class Progress(HookBase):
    """A line now and then: loss, speed, time left."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.since = 0.0
        self.done = 0

    def before_train(self) -> None:
        self.since, self.done = time.monotonic(), 0

    def after_step(self) -> None:
        self.done += 1
        iteration, last = self.trainer.iter + 1, self.trainer.max_iter
        if iteration % self.every and iteration != last:
            return
        loss = self.trainer.storage.history("total_loss").median(self.every)
        speed = (time.monotonic() - self.since) / self.done
        left = speed * (last - iteration) / 60
        print(f"  {iteration}/{last}: loss {loss:.4f}, {speed:.2f} s an iteration, {left:.1f} min left", flush=True)
