"""The command line of training; light, so that ``--help`` does not wait for torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fgclip2.train.recipe import BatchConfig, LoraConfig, OptimConfig, RunConfig, recipe


@dataclass
class TrainArguments:
    """Train FG-CLIP 2: stage 1 (whole pictures), stage 2 (regions too), or on your own data.

    Launch it with ``torchrun --nproc-per-node N`` or ``accelerate launch`` for several processes.
    """

    data: tuple[str, ...] = ()
    """FineHARD .json or .jsonl, .parquet, webdataset .tar shards, one or several; without any the embedded world."""
    image_root: Path | None = None
    """Folder that picture names in the data are relative to; the data file's own when not given."""
    val_data: tuple[str, ...] = ()
    """Held-out records for the probes, in the same formats."""
    val_image_root: Path | None = None
    """Folder that their picture names are relative to; their file's own when not given."""
    model: str = "tiny"
    """What to start from: tiny, a directory or a hub id."""
    siglip2: str | None = None
    """Start from this SigLIP 2 checkpoint (directory or hub id) in place of --model."""
    out: Path = Path("work_dirs/pretrain")
    """For checkpoints, metrics.jsonl, and at the end the model, in out/model."""
    stage: int = 1
    """1: pictures and captions. 2: regions and hard negatives as well."""
    recipe: str = "paper"
    """Losses, weights and units: paper, released, or tiny."""
    regions: Literal["global", "rank"] | None = None
    """Whether region, ITC and TIC terms see all processes' regions or each its own; without it as in the recipe."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch: BatchConfig = field(default_factory=lambda: BatchConfig(size=64))
    epochs: float = RunConfig.epochs
    """Passes over the data, unless --steps is given."""
    steps: int | None = RunConfig.steps
    """Optimiser steps."""
    precision: Literal["auto", "bf16", "fp32"] = RunConfig.precision
    """Of the towers; weights and losses are always float32. auto: bf16 where the hardware has it; a
    processor without it emulates bf16 many times slower than float32."""
    gradient_checkpointing: bool = RunConfig.gradient_checkpointing
    """Compute blocks again in backward instead of keeping their insides: less memory, more time."""
    freeze: tuple[Literal["vision", "text"], ...] = ()
    """Towers that keep their weights."""
    heads_only: bool = False
    """Train only the heads that FG-CLIP 2 adds to SigLIP 2, and the scales: the same as --freeze vision text. (The two
    position tables for long texts, which it adds too, belong to the text tower.)"""
    lora: LoraConfig = field(default_factory=LoraConfig)
    ema: float | None = RunConfig.ema
    """Decay a step of an average of the weights, such as 0.999; the averaged model is the one written at the end."""
    seed: int = RunConfig.seed
    resume: bool = False
    """Continue the newest checkpoint in --out."""
    save_every: int = RunConfig.save_every
    """Steps between checkpoints."""
    keep: int = RunConfig.keep
    """Checkpoints that stay; older ones are removed."""
    log_every: int = RunConfig.log_every
    """Steps between lines in metrics.jsonl."""
    probe_every: int = RunConfig.probe_every
    """Steps between probes on --val-data (or held-out scenes); they also run before the first step and at the end."""
    workers: int = RunConfig.workers
    """Processes that decode pictures, for each training process."""
    failure_limit: float = RunConfig.failure_limit
    """Share of unusable records at which the run stops; each is named in failures.jsonl."""
    report_to: tuple[str, ...] = ()
    """Trackers in addition to metrics.jsonl: tensorboard, wandb."""
    dry_run: bool = False
    """Print parameters, memory estimate, batches and steps, read some records, and stop."""
    scenes: int = 2000
    """Training scenes, when --data is not given."""

    def config(self) -> RunConfig:
        """The run's settings without its data."""
        freeze: tuple[Literal["vision", "text"], ...] = ("vision", "text") if self.heads_only else self.freeze
        chosen = recipe(self.recipe, self.stage)
        return RunConfig(
            recipe=chosen if self.regions is None else replace(chosen, regions=self.regions),
            optim=self.optim,
            batch=self.batch,
            epochs=self.epochs,
            steps=self.steps,
            precision=self.precision,
            gradient_checkpointing=self.gradient_checkpointing,
            freeze=freeze,
            ema=self.ema,
            seed=self.seed,
            save_every=self.save_every,
            keep=self.keep,
            log_every=self.log_every,
            probe_every=self.probe_every,
            workers=self.workers,
            failure_limit=self.failure_limit,
        )

    def run(self) -> None:
        """Train; see `fgclip2.train.run.run`."""
        from fgclip2.train.run import run

        run(self)
