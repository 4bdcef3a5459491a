"""transformers' Trainer for a projector: checkpoints hold nothing else, and are whole or not there."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlavaForConditionalGeneration, Trainer, TrainingArguments

from fgclip2.data.failures import FailureLog
from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.finite import as_json, check_weights
from fgclip2.train import checkpoint as checkpoints
from fgclip2.train.callbacks import FiniteUpdate, StopSignal

from .data import LlavaCollator, LlavaDataset
from .model import freeze, projector_of

_log = logging.getLogger(__name__)
_WEIGHTS: Final = "projector.safetensors"
_SETTINGS: Final = "settings.json"


@dataclass(frozen=True)
class ProjectorConfig:
    """How the projector is trained; the defaults are those of LLaVA-1.5's first stage."""

    lr: float = 1e-3
    """Peak rate of AdamW; cosine to 0."""
    warmup: float = 0.03
    """Share of the steps over which the rate rises."""
    batch_size: int = 256
    """Examples a step, over all processes."""
    micro_batch: int = 8
    """Examples at a time on a process."""
    epochs: float = 1.0
    """Passes over the data."""
    steps: int | None = None
    """Steps in place of epochs."""
    max_tokens: int = 2048
    """Longest conversation, image tokens included; longer ones are left out and named."""
    seed: int = 0
    """Of the projector's first weights and the order of the examples."""
    save_every: int = 500
    """Steps between checkpoints; the last step has one in any case."""
    keep: int = 2
    """Checkpoints that are kept."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    workers: int = 2
    """Processes that read pictures."""
    failure_limit: float = 0.01
    """Largest share of unusable examples, 0 to 1."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch", "max_tokens", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise Fgclip2Error(f"--{name.replace('_', '-')} {getattr(self, name)}: give 1 or more")
        if not (self.lr > 0 and self.epochs > 0 and 0 <= self.warmup < 1 and self.workers >= 0):
            raise Fgclip2Error("--lr and --epochs must be above 0, --warmup 0 to below 1, --workers 0 or more")
        if self.steps is not None and self.steps < 1:
            raise Fgclip2Error(f"--steps {self.steps}: give 1 or more")

    def accumulation(self, world: int) -> int:
        """Micro-batches a step on each of ``world`` processes.

        Raises:
            Fgclip2Error: the batch does not divide so.
        """
        together = world * min(self.micro_batch, self.batch_size)
        if self.batch_size % together:
            raise Fgclip2Error(
                f"--batch-size {self.batch_size} is no multiple of {world} processes x --micro-batch "
                f"{self.micro_batch}; give one, such as {max(1, self.batch_size // together) * together}"
            )
        return self.batch_size // together


# What may change when a run is resumed: nothing that is trained depends on it.
_FREE: Final = ("save_every", "keep", "log_every", "workers", "failure_limit", "micro_batch")


class ProjectorTrainer(Trainer):
    """Trains the projector alone, with LLaVA's own loss: cross-entropy of the answers' tokens.

    Args:
        model: a LLaVA; everything but its projector is frozen here.
        dataset: conversations.
        config: everything else.
        directory: for checkpoints, ``metrics.jsonl`` and ``failures.jsonl``.
        half: compute in bfloat16, the projector's weights staying float32.
        about: what else a resumed run must have in common with this one, for the settings file.
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        dataset: LlavaDataset,
        config: ProjectorConfig,
        directory: Path,
        half: bool = False,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.directory, self.stopping = config, directory, StopSignal()
        self.settings = json.loads(json.dumps({**(about or {}), **asdict(config)}))
        arguments = _arguments(config, directory, half)
        arguments.gradient_accumulation_steps = config.accumulation(arguments.world_size)
        freeze(model)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=dataset,
            data_collator=LlavaCollator(dataset.processor),
            callbacks=[self.stopping, FiniteUpdate(self)],
        )
        self.step_terms: list[dict[str, Tensor]] = []
        self.step_records: list[str] = []
        # As many as this process will see, if these are fewer than the dataset's.
        own = len(dataset) * config.epochs if config.steps is None else config.steps * config.batch_size
        own = max(1, int(own) // arguments.world_size)
        self.failures = FailureLog(directory / "failures.jsonl", config.failure_limit, min(1000, own))

    def train(self, resume: bool = False, **kwargs: Any) -> Any:
        """Train to the end; with ``resume`` from the newest whole checkpoint, from the start where there is none.

        Raises:
            Fgclip2Error: checkpoints are there but ``resume`` was not asked for, or they belong to another run.
        """
        start = checkpoints.start_of(self.directory, resume)
        if start is not None:
            self._check_same_run(start)
            self._keep_lines(checkpoints.step_of(start))
        return super().train(resume_from_checkpoint=None if start is None else str(start), **kwargs)

    def _check_same_run(self, start: Path) -> None:
        before = json.loads((start / _SETTINGS).read_text(encoding="utf-8"))
        if "data" in self.settings and not isinstance(before.get("data"), dict):  # an older checkpoint: its path
            _log.warning("%s does not tell its data; nobody can say whether these are the same", start)
            before["data"] = self.settings["data"]
        changed = [
            f"{name} was {before.get(name)!r:.80} and is {value!r:.80}"
            for name, value in self.settings.items()
            if name not in _FREE and before.get(name) != value
        ]
        if changed:
            raise Fgclip2Error(
                f"{start} belongs to another run: {'; '.join(changed)}. Resume with the command that started it, or "
                "take another --out"
            )

    def _keep_lines(self, step: int) -> None:
        """Of ``metrics.jsonl`` those up to a step; a killed run went further, and its last line may be cut short."""
        file = self.directory / "metrics.jsonl"
        if self.is_world_process_zero() and file.exists():
            lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            write_atomically(file, "".join(f"{line}\n" for line in kept).encode())

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The micro-batches of one step, their failures noted."""
        batches, tokens = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_terms, self.step_records = [], []
        for batch in batches:
            self.failures.add(batch.pop("failures"), batch.pop("seen"))
            self.step_records += batch.pop("names", [])
        return batches, tokens

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch; its loss is kept for the check before the update."""
        loss: Tensor = super().training_step(*args, **kwargs)
        self.step_terms.append({"loss": loss})
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A log line, also in ``metrics.jsonl``."""
        super().log(logs, start_time)
        if self.is_world_process_zero():
            line = {"step": self.state.global_step, **logs, "failures": self.failures.failed}
            with (self.directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(as_json(line), allow_nan=False) + "\n")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write into a partial directory and publish it whole."""
        target, partial = self.directory / f"checkpoint-{self.state.global_step}", self.directory / checkpoints.PARTIAL
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        directory, self.args.output_dir = self.args.output_dir, str(partial)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = directory
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            (partial / target.name / _SETTINGS).write_text(json.dumps(self.settings, indent=1), encoding="utf-8")
            checkpoints.publish(partial / target.name, target)
            checkpoints.prune(self.directory, self.config.keep)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The projector's tensors; a language model a checkpoint would fill the disk with what does not change."""
        if not self.args.should_save:
            return
        directory = Path(output_dir or self.args.output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = projector_of(self.accelerator.unwrap_model(self.model))
        check_weights(tensors, f"the projector at step {self.state.global_step}")
        save_file({name: item.detach().cpu().contiguous() for name, item in tensors.items()}, directory / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        own, state = projector_of(model or self.model), load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        if {name: item.shape for name, item in own.items()} != {name: item.shape for name, item in state.items()}:
            raise Fgclip2Error(
                f"{resume_from_checkpoint} holds a projector of another shape: was it trained with other models or "
                "feature layers? Resume with the command that started it"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])


def _arguments(config: ProjectorConfig, directory: Path, half: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=min(config.micro_batch, config.batch_size),
        learning_rate=config.lr,
        warmup_steps=config.warmup,  # below 1 it is a share
        lr_scheduler_type="cosine",
        weight_decay=0.0,
        num_train_epochs=config.epochs,
        max_steps=config.steps or -1,
        seed=config.seed,
        bf16=half,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=None,  # checkpoints.prune counts whole ones
        report_to="none",
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=False,
        # Without saying so, processes on CPUs would not find each other and each train alone.
        use_cpu=not torch.accelerator.is_available(),
        tf32=True if torch.cuda.is_available() else None,
    )
