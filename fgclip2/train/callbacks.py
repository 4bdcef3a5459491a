"""What happens around a training step: bounds, averages, signals, failures, progress."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fgclip2.files import write_atomically
from fgclip2.finite import as_json, check_update
from fgclip2.progress import progress
from fgclip2.train.stage import Stage

if TYPE_CHECKING:
    from fgclip2.train.trainer import StageTrainer


class AfterStep(TrainerCallback):
    """Bounds the learned scales and moves the rank loss's threshold."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each update."""
        self.stage.after_step()


class FiniteUpdate(TrainerCallback):
    """Ends the training before an update that is not finite; see `fgclip2.finite.check_update`.

    Args:
        trainer: with ``step_terms`` and ``step_records`` of the step.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """After the gradients were clipped."""
        trainer = self.trainer
        check_update(trainer.model.parameters(), trainer.step_terms, state.global_step + 1, trainer.step_records)


class Average(TrainerCallback):
    """An exponential moving average of the weights.

    Args:
        model: what to average.
        decay: a step, below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each update."""
        self.averaged.update_parameters(self.model)

    def state(self) -> dict[str, Tensor]:
        """Tensors to save."""
        return {name: tensor.contiguous() for name, tensor in self.averaged.state_dict().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from saved tensors."""
        self.averaged.load_state_dict(state)


class StopSignal(TrainerCallback):
    """On SIGTERM: save at the end of the step, and end the run as if it were done.

    Ranks may hear of it at different steps, so after every step all agree, over gloo and so without the accelerators.
    """

    def __init__(self) -> None:
        self.received = False
        self._group: Any = None
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen."""
        if dist.is_available() and dist.is_initialized():
            self._group = dist.new_group(backend="gloo")
        try:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        except ValueError:
            self._before = None  # not the main thread, where Python allows no handlers

    def _hear(self, number: int, frame: Any) -> None:
        self.received = True

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Stop when any rank was told to."""
        told = torch.tensor(int(self.received))
        if self._group is not None:
            dist.all_reduce(told, dist.ReduceOp.MAX, group=self._group)
        if told:
            self.received = True
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop listening."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class Progress(TrainerCallback):
    """A bar with pictures a second and the time left, and one JSON line in ``metrics.jsonl`` for every log."""

    def __init__(self, trainer: StageTrainer) -> None:
        self.trainer = trainer
        self._bar: Any = None
        self._last = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Open the bar; take back the lines of steps that a killed run made after its last checkpoint."""
        if state.is_world_process_zero:
            self._keep_lines(state.global_step)
            self._bar = progress(total=state.max_steps, initial=state.global_step, unit="step")
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show loss and rate; write the line."""
        if not state.is_world_process_zero or logs is None:
            return
        if self._bar is not None and "loss" in logs:
            rate = logs.get("pictures_per_second")
            self._bar.set_postfix(loss=f"{logs['loss']:.3f}", pictures_s=rate, refresh=False)
        line = {"step": state.global_step, **logs, "epoch": round(state.global_step / self.trainer.steps_per_epoch, 4)}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(as_json(line), allow_nan=False) + "\n")

    @property
    def _file(self) -> Path:
        return self.trainer.directory / "metrics.jsonl"

    def _keep_lines(self, step: int) -> None:
        """Of ``metrics.jsonl`` those up to a step; a last line may have been cut short."""
        if not self._file.exists():
            return
        lines = self._file.read_text(encoding="utf-8").split("\n")
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        write_atomically(self._file, "".join(f"{line}\n" for line in kept).encode())

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
