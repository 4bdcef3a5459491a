"""What a person sees while the runner works, and bf16 training on every device."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import FUNCTIONS, OPTIM_WRAPPERS
from mmengine.runner import set_random_seed
from torch import nn

from fgclip2.cpu import warn_if_emulated
from fgclip2.finite import check_update


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed every epoch by its number and rank.

    Anchors and regions are sampled with the process's random state, which checkpoints do not hold. Seeded here, an
    epoch draws the same numbers in a resumed run as in an uninterrupted one.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        """Seed Python, numpy and torch."""
        set_random_seed(runner.seed + runner.epoch * runner.world_size + runner.rank)


@HOOKS.register_module()
class FiniteUpdateHook(Hook):
    """Ends the training before an update that is not finite; see `fgclip2.finite.check_update`."""

    def __init__(self) -> None:
        self._images: list[str] = []
        self._losses: dict[str, torch.Tensor] = {}

    def before_train(self, runner: Any) -> None:
        """Stand before every update."""
        wrapper, step, parse = runner.optim_wrapper, runner.optim_wrapper.step, _unwrapped(runner.model).parse_losses

        def checked(*args: Any, **kwargs: Any) -> None:
            check_update(runner.model.parameters(), [self._losses], runner.iter + 1, self._images)
            step(*args, **kwargs)

        def parsed(losses: dict[str, Any]) -> Any:
            total, log = parse(losses)
            self._losses = {name: value.detach() for name, value in log.items() if isinstance(value, torch.Tensor)}
            return total, log

        wrapper.step, _unwrapped(runner.model).parse_losses = checked, parsed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Remember which images come."""
        samples = data_batch.get("data_samples", ()) if isinstance(data_batch, dict) else ()
        self._images = [str(sample.metainfo.get("img_path", "")) for sample in samples]


def _unwrapped(model: nn.Module) -> Any:
    return getattr(model, "module", model)


@FUNCTIONS.register_module()
def keep_epoch_seeds(worker_id: int) -> None:
    """Leave a new loader process the seeds that torch gave it, which follow from the main process's.

    mmengine's own ``worker_init_fn`` gives every epoch the same ones.
    """


@HOOKS.register_module()
class ProgressHook(Hook):
    """One line of progress: rewritten in place on a terminal, a new one now and then in a file.

    Args:
        interval: seconds between lines; on a terminal a tenth of it.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: float = 15.0) -> None:
        self.terminal = sys.stdout.isatty()
        self.interval = interval / 10 if self.terminal else interval
        self._last = self._began = 0.0
        self._first = 0

    def before_train(self, runner: Any) -> None:
        """Start the clock."""
        self._start(runner.iter)

    def before_test(self, runner: Any) -> None:
        """Start the clock."""
        self._start(0)

    def _start(self, iteration: int) -> None:
        self._began = self._last = time.monotonic()
        self._first = iteration

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Print epoch, iteration, loss and the time left."""
        done = runner.iter + 1
        final = done == runner.max_iters
        if not self._due(final):
            return
        loss = float(outputs["loss"].detach()) if outputs and "loss" in outputs else float("nan")
        each = (time.monotonic() - self._began) / max(1, done - self._first)
        left = _clock(each * (runner.max_iters - done))
        batches = len(runner.train_dataloader)
        self._print(
            f"  training: epoch {runner.epoch + 1}/{runner.max_epochs}, iteration {batch_idx + 1}/{batches}, "
            f"loss {loss:.3f}, {each:.2f} s an iteration, {left} left",
            final,
        )

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Print how many batches were evaluated."""
        total = len(runner.test_dataloader)
        final = batch_idx + 1 == total
        if self._due(final):
            self._print(f"  evaluating: batch {batch_idx + 1}/{total}", final)

    def _due(self, final: bool) -> bool:
        now = time.monotonic()
        if not final and now - self._last < self.interval:
            return False
        self._last = now
        return True

    def _print(self, line: str, final: bool) -> None:
        if self.terminal:
            print(f"\r\033[K{line}", end="\n" if final else "", flush=True)
        else:
            print(line, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Training under bf16 autocast on the model's own device, the CPU included; bf16 needs no loss scaling.

    mmengine's AmpOptimWrapper refuses to run on a CPU.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of one training step's forward pass."""
        device = next(model.parameters()).device.type
        warn_if_emulated(device)
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
