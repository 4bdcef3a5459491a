"""transformers' Trainer for a `Stage`: our batches, our parameter groups, checkpoints that are whole or not there."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import is_torch_tf32_available

from fgclip2.cpu import keep_freed_memory
from fgclip2.data.collate import Collator, TrainBatch, TrainingDataset
from fgclip2.data.failures import FailureLog
from fgclip2.data.records import RecordError, RecordSource
from fgclip2.data.sampler import LanguageBatchSampler
from fgclip2.errors import Fgclip2Error
from fgclip2.finite import check_weights
from fgclip2.train import checkpoint as checkpoints
from fgclip2.train.callbacks import AfterStep, Average, FiniteUpdate, Progress, StopSignal
from fgclip2.train.optim import build_optimizer, parameter_groups
from fgclip2.train.recipe import RunConfig
from fgclip2.train.stage import Embedded, Stage

_log = logging.getLogger(__name__)
_WEIGHTS = "model.safetensors"
_SETTINGS = "settings.json"
# What may change when a run is resumed: nothing that is trained depends on it, but for rounding.
SAMPLED = 64
"""Records that tell one data set from another of as many."""
_LATER = ("data.sample",)  # settings that checkpoints of earlier versions do not have
_FREE = ("save_every", "keep", "log_every", "probe_every", "workers", "failure_limit", "gradient_checkpointing")


class StageTrainer(Trainer):
    """Trains one stage; launched by ``torchrun`` or ``accelerate launch`` it trains on all their processes.

    Args:
        stage: model and losses.
        dataset: samples of both languages.
        collator: samples to batches.
        config: everything else.
        directory: for checkpoints and ``metrics.jsonl``.
        callbacks: transformers' callbacks, in addition to the trainer's own.
        report_to: transformers' names of trackers, such as ``tensorboard`` and ``wandb``.
        facts: what else makes this run what it is, as JSON takes it; a run is resumed with the same only.
    """

    def __init__(
        self,
        stage: Stage,
        dataset: TrainingDataset,
        collator: Collator,
        config: RunConfig,
        directory: str | Path,
        callbacks: Sequence[TrainerCallback] = (),
        report_to: Sequence[str] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.directory = config, Path(directory)
        self.settings = _plain({**asdict(config), "data": fingerprint(dataset.source), **(facts or {})})
        self.start_step, self._logged = 0, time.monotonic()
        arguments = _arguments(config, self.directory, list(report_to))
        self.sampler_options: dict[str, Any] = {
            "languages": dataset.source.languages,
            "batch_size": config.batch.size,
            "rank": arguments.process_index,
            "world_size": arguments.world_size,
            "seed": config.seed,
            "accumulation": config.batch.accumulation,
            "drop_last": config.batch.drop_last,
        }
        stage.parts = 1 if config.batch.full_batch else config.batch.accumulation
        self.steps_per_epoch = LanguageBatchSampler(**self.sampler_options).steps_per_epoch
        self.total_steps = config.total_steps(self.steps_per_epoch)
        # Of this process; judged over 1,000 samples, or over all it will see in a shorter run.
        own_samples = self.total_steps * config.batch.size // arguments.world_size
        self.failures = FailureLog(
            self.directory / "failures.jsonl", config.failure_limit, max(1, min(1000, own_samples))
        )
        arguments.max_steps = self.total_steps
        arguments.warmup_steps = config.optim.warmup_steps(self.total_steps)
        self.stopping, self.terms = StopSignal(), _Means()
        self.progress = Progress(self)
        own = [FiniteUpdate(self), AfterStep(stage), self.stopping, self.progress]
        super().__init__(
            model=stage,
            args=arguments,
            train_dataset=dataset,
            data_collator=collator,
            callbacks=[*own, *callbacks],
        )
        # Only now is the model on its device.
        self.average = None if config.ema is None else Average(stage.model, config.ema)
        if self.average:
            self.add_callback(self.average)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self._whole_step: list[Embedded] | None = None
        self._pending: list[TrainBatch] = []
        self._states: list[list[Tensor]] = []
        self.step_terms: list[dict[str, Tensor]] = []
        self._samples = 0

    @property
    def stage(self) -> Stage:
        """The module in training, unwrapped."""
        return cast(Stage, self.accelerator.unwrap_model(self.model))

    def train(self, resume: bool = False, **kwargs: Any) -> Any:
        """Train to the end.

        Args:
            resume: continue from the newest whole checkpoint in the directory; from the start when there is none, and
                with nothing but its weights when it is the last.
            **kwargs: to transformers' Trainer.

        Raises:
            Fgclip2Error: checkpoints are there but ``resume`` was not asked for.
        """
        start = checkpoints.start_of(self.directory, resume)
        if start is not None:
            self._check_same_run(start)
        self.start_step = checkpoints.step_of(start) if start else 0
        if start is not None and self.start_step >= self.total_steps:
            _log.info("%s has all %d steps; nothing is left to train", start, self.total_steps)
            self._load_from_checkpoint(str(start))
            return None
        if self.args.device.type == "cpu":
            keep_freed_memory()
        try:
            return super().train(resume_from_checkpoint=None if start is None else str(start), **kwargs)
        finally:
            self.progress.close()  # or an error would stand on the bar's line

    def _check_same_run(self, start: Path) -> None:
        before = dict(_leaves(json.loads((start / _SETTINGS).read_text(encoding="utf-8"))))
        own = dict(_leaves(self.settings))
        changed = [
            f"{name} was {before.get(name)!r} and is {own.get(name)!r}"
            for name in own | before
            if name.partition(".")[0] not in _FREE
            and before.get(name) != own.get(name)
            and (name not in _LATER or name in before)
        ]
        unknown = [name for name in _LATER if name not in before]
        if unknown:
            _log.warning("%s is of an earlier version and does not say which records it saw; take the same ones", start)
        if changed:
            raise Fgclip2Error(
                f"{start} belongs to another run: {'; '.join(changed)}. Resume with the command that started it, or "
                "take another directory"
            )

    # --- batches

    def get_train_dataloader(self) -> DataLoader[TrainBatch]:
        """This rank's batches from ``start_step`` on; Accelerate must not share them among ranks once more."""
        sampler = LanguageBatchSampler(**self.sampler_options, start_step=self.start_step, steps=self.total_steps)
        return DataLoader(
            self.train_dataset,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.config.workers,
            worker_init_fn=_ignore_sigterm,
            prefetch_factor=2 if self.config.workers else None,
            # Its own: a loader takes a number from torch's generator when it starts, so that a resumed run, which
            # starts one more, would draw other dropout masks than one that was never stopped.
            generator=torch.Generator().manual_seed(self.config.seed),
            pin_memory=self.args.device.type == "cuda",
        )

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], None]:
        """The micro-batches of one step; kept, for the full-batch loss looks at all of them first."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            self.failures.add(batch.failures, batch.seen, batch.left_out)
            self.terms.cut += batch.cut
            self._samples += len(batch)
        self.step_terms = []
        self._pending, self._whole_step = batches, None
        return batches, None

    @property
    def step_records(self) -> list[str]:
        """Names of this process's records in the step."""
        return [name for batch in self._pending for name in batch.names]

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        return None

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs.to(self.args.device, non_blocking=True)

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Records an epoch."""
        return len(self.train_dataset)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: transformers' estimate is for language models."""
        return 0

    # --- one step

    def compute_loss(self, model: nn.Module, inputs: TrainBatch, *args: Any, **kwargs: Any) -> Tensor:
        """The stage's loss; the terms are kept for the next log line."""
        outcome = model(inputs)
        self.terms.add(outcome["terms"], len(inputs))
        self.step_terms.append({**outcome["terms"], "loss": outcome["loss"].detach()})
        return cast(Tensor, outcome["loss"])

    def training_step(self, model: nn.Module, inputs: TrainBatch, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of one micro-batch."""
        if not (self.config.batch.full_batch and len(self._pending) > 1):
            return super().training_step(model, inputs, num_items_in_batch)
        return self._full_batch_step(model, inputs)

    def _full_batch_step(self, model: nn.Module, inputs: TrainBatch) -> Tensor:
        """A part of a step whose losses see the whole step (GradCache, arXiv 2101.06983).

        At the first part all are embedded without a graph, and the loss's gradient for every embedding is kept. Each
        part is then embedded again, with the same random numbers, and sent its share of that gradient.
        """
        model.train()
        loss = torch.zeros((), device=self.args.device)
        if self._whole_step is None:
            loss, self._whole_step = self._gradients_of_embeddings()
        gradient = self._whole_step.pop(0)
        batch = self._prepare_inputs(inputs)
        with _random_state(self.args.device, self._states.pop(0)):
            outcome = model(batch, gradient)
        self.accelerator.backward(outcome["loss"])
        return loss

    def _gradients_of_embeddings(self) -> tuple[Tensor, list[Embedded]]:
        stage, parts, self._states = self.stage, [], []
        with torch.no_grad():
            for batch in self._pending:
                self._states.append(_states_of(self.args.device))
                parts.append(stage.embed(self._prepare_inputs(batch)))
        leaves = [part.leaf() for part in parts]
        terms = stage.terms(Embedded.cat(leaves))
        loss = stage.total(terms)
        loss.backward()
        found = {name: term.detach() for name, term in terms.items()}
        self.terms.add(found, sum(map(len, self._pending)))
        self.step_terms.append({**found, "loss": loss.detach()})
        return loss.detach(), [part.gradient() for part in leaves]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A log line with the means of all terms over steps and ranks, scales, threshold and speed."""
        if self.terms.sums and "loss" in logs:
            seconds = time.monotonic() - self._logged
            pictures, cut = self.terms.pictures, self.terms.cut
            means = self.terms.take()
            values = self.accelerator.reduce(torch.stack(list(means.values())), "mean")
            logs |= {name: round(value, 5) for name, value in zip(means, values.tolist(), strict=True)}
            logs |= {name: round(value, 5) for name, value in self.stage.learned().items()}
            counts = torch.tensor([self.failures.failed, self.failures.parts, cut], device=self.args.device)
            failed, parts, cut = self.accelerator.reduce(counts, "sum").tolist()
            logs |= {
                "pictures_per_second": round(pictures * self.args.world_size / max(seconds, 1e-9), 2),
                "failures": failed,
                "parts_left_out": parts,
                "texts_cut": cut,
            }
            self._logged = time.monotonic()
        if "train_runtime" in logs:  # transformers counts a sample a step, and the steps before a resumed run's
            seconds = max(logs["train_runtime"], 1e-9)
            logs["train_samples_per_second"] = round(self._samples * self.args.world_size / seconds, 3)
            logs["train_steps_per_second"] = round((self.state.global_step - self.start_step) / seconds, 3)
        super().log(logs, start_time)

    # --- optimiser

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW or Muon over the stage's parameter groups."""
        if self.optimizer is None:  # type: ignore[has-type]
            groups = parameter_groups(model or self.model, self.config.optim)
            self.optimizer = build_optimizer(groups, self.config.optim)
        return self.optimizer

    # --- state

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write into a partial directory and publish it whole; weights that are not finite are not written."""
        target = self.directory / f"checkpoint-{self.state.global_step}"
        if not self.is_fsdp_enabled:
            check_weights(self.stage.state_dict(), str(target))
        partial = self.directory / checkpoints.PARTIAL
        if self.args.should_save:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._wait()
        directory, self.args.output_dir = self.args.output_dir, str(partial)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = directory
        if self.args.should_save:
            settings = json.dumps(self.settings, indent=1)
            (partial / target.name / _SETTINGS).write_text(settings, encoding="utf-8")
        if self.average and self.args.should_save:
            save_file(self.average.state(), partial / target.name / "ema.safetensors")
        self._wait()
        if self.args.should_save:
            checkpoints.publish(partial / target.name, target)
            checkpoints.prune(self.directory, self.config.keep)
        self._wait()

    def _wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The stage's tensors; nothing pickled beside them."""
        directory = Path(output_dir or self.args.output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        state = self.model.state_dict() if state_dict is None else state_dict
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, directory / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Strictly; sharded checkpoints by Accelerate."""
        directory = Path(resume_from_checkpoint)
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            state, own = load_file(directory / _WEIGHTS), (model or self.model).state_dict()
            wrong = [name for name in own.keys() | state.keys() if _shape(own, name) != _shape(state, name)]
            if wrong:
                raise Fgclip2Error(
                    f"{directory} belongs to another stage or model: {len(wrong)} tensors differ in name or shape, "
                    f"such as {min(wrong)}; resume with the command that started it"
                )
            (model or self.model).load_state_dict(state)
        if self.average:
            self.average.load(load_file(directory / "ema.safetensors"))


def _shape(state: dict[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: lists for tuples."""
    return cast("dict[str, Any]", json.loads(json.dumps(settings)))


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def fingerprint(source: RecordSource) -> dict[str, Any]:
    """What tells one set of records from another without reading all of them.

    Args:
        source: records.

    Returns:
        How many there are, a hash of their languages, and one of the names, texts, boxes and image sizes of
        `SAMPLED` records spread over the source. Where the folder lies does not count.
    """
    languages = np.ascontiguousarray(source.languages, np.uint8)
    digest, last = hashlib.sha256(), len(languages) - 1
    for number in sorted({round(place * last / (SAMPLED - 1)) for place in range(SAMPLED)} if last >= 0 else ()):
        try:
            record = source[number]
            image = record.image
            if isinstance(image, (str, Path)):
                size = os.path.getsize(image)
            else:
                size = image.nbytes if isinstance(image, np.ndarray) else len(image)
            regions = [(region.box, region.texts, region.negatives) for region in record.regions]
            told: Any = (record.name, size, record.language, record.short, record.long, regions)
        except (RecordError, OSError) as error:  # left out in training too, and named there
            told = type(error).__name__
        digest.update(json.dumps(told, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
    return {
        "records": len(languages),
        "languages": hashlib.sha256(languages.tobytes()).hexdigest()[:16],
        "sample": digest.hexdigest()[:16],
    }


def _states_of(device: torch.device) -> list[Tensor]:
    """The random generators that a forward pass draws from: torch's, and the device's own."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.get_device_module(device).get_rng_state(device)]


@contextmanager
def _random_state(device: torch.device, states: Sequence[Tensor]) -> Iterator[None]:
    """Draw what was drawn from these states on; the generators go on afterwards as if nothing had been drawn."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type="cuda" if device.type == "cpu" else device.type):
        torch.set_rng_state(states[0])
        if devices:
            torch.get_device_module(device).set_rng_state(states[1], device)
        yield


def _ignore_sigterm(worker: int) -> None:
    """Schedulers signal the whole process group; a worker that died of it would take the last checkpoint along."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Means:
    """Running means on the device, read only when a line is logged."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = self.pictures = self.cut = 0

    def add(self, terms: dict[str, Tensor], pictures: int) -> None:
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term
        self.count += 1
        self.pictures += pictures

    def take(self) -> dict[str, Tensor]:
        means = {name: total / max(1, self.count) for name, total in self.sums.items()}
        self.__init__()  # type: ignore[misc]
        return means


def _arguments(config: RunConfig, directory: Path, report_to: list[str]) -> TrainingArguments:
    optim = config.optim
    arguments = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=1,  # of no meaning: the sampler makes the batches
        gradient_accumulation_steps=config.batch.accumulation,
        learning_rate=optim.lr,
        max_grad_norm=optim.clip,
        lr_scheduler_type="cosine_with_min_lr" if optim.schedule == "cosine" else "constant_with_warmup",
        lr_scheduler_kwargs={"min_lr_rate": optim.final} if optim.schedule == "cosine" else {},
        max_steps=1,
        seed=config.seed,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=None,  # checkpoints.prune counts whole ones
        report_to=report_to or "none",
        ignore_data_skip=True,  # the sampler starts where the checkpoint ends
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # the only buffer, tau, is the same on all ranks by construction
        # Without saying so, processes on CPUs would not find each other and each train alone.
        use_cpu=not torch.accelerator.is_available(),
        tf32=True if is_torch_tf32_available() else None,  # asking is an error before Ampere, and with ROCm
    )
    keep_to_one_device(arguments)
    return arguments


def keep_to_one_device(arguments: Any) -> None:
    """Let a process use one GPU: transformers would spread it over all by ``nn.DataParallel``, which cuts no batch."""
    count = arguments.n_gpu
    if count > 1:
        _log.warning(
            "this process trains on one of %d GPUs; for all of them: torchrun --nproc-per-node %d ...", count, count
        )
        arguments._n_gpu = 1
