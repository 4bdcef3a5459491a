"""From a command line to a trained model: what ``apps/pretrain.py`` and ``fgclip2 train`` do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback

from fgclip2.cpu import warn_if_emulated
from fgclip2.data.collate import Collator, TextShares, TrainingDataset
from fgclip2.data.failures import Failure
from fgclip2.data.records import LANGUAGES, RecordError, RecordSource, open_records
from fgclip2.data.sampler import LanguageBatchSampler
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need
from fgclip2.finite import check_weights
from fgclip2.modeling import Fgclip2Model
from fgclip2.predictor import choose_dtype
from fgclip2.pretrained import no_progress_bar, resolve
from fgclip2.processing import Processor
from fgclip2.train import checkpoint as checkpoints
from fgclip2.train.adapt import add_lora, merge_lora
from fgclip2.train.arguments import TrainArguments
from fgclip2.train.optim import parameter_groups
from fgclip2.train.recipe import RunConfig
from fgclip2.train.records_probe import RecordProbe
from fgclip2.train.stage import Stage
from fgclip2.train.trainer import StageTrainer

FIRST_TRAINING_SEED: Final = 1_000_000  # of scenes; held-out ones are below
_LEARNED: Final = "training.json"  # beside a model: the scales and the threshold that no model has
_TRIED: Final = 32  # records that a dry run reads
_LOOKED_AT: Final = 1000  # records that are looked at before the first step
_PROCESSOR_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
)


def run(arguments: TrainArguments) -> None:
    """Do what the command line says."""
    need("train", "accelerate")
    config = arguments.config()
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        if config.ema is not None or config.batch.full_batch or arguments.lora.rank or config.probe_every:
            raise Fgclip2Error(
                "--ema, --batch.full-batch, --lora.rank and --probe-every do not work with FSDP, which keeps no whole "
                "weights; measure checkpoints with fgclip2 eval"
            )
        config = replace(config, precision="fp32")  # FSDP casts by its own mixed_precision
    if config.freeze and arguments.lora.rank:
        raise Fgclip2Error("--lora.rank with --freeze or --heads-only: LoRA trains the towers; choose one")
    if config.ema is not None and arguments.lora.rank:
        raise Fgclip2Error("--ema with --lora.rank: an average of low-rank updates is not kept; choose one")
    _check_sources(arguments)
    directory = resolve(arguments.siglip2 or arguments.model)
    model, names = _start(arguments, directory)
    processor = Processor.from_config(model.config, directory)
    source, val = _sources(arguments)
    torch.manual_seed(config.seed)
    wrapped = add_lora(model, arguments.lora) if arguments.lora.rank else None
    stage = build_stage(model, config, classes=len(names["en"]) if names else 0)
    carried = _carried(directory)
    if carried:
        stage.carry(carried)
        if os.environ.get("RANK", "0") == "0":
            print(f"goes on with the scales and the threshold that {directory / _LEARNED} holds")
    dataset = training_dataset(source, config)
    probe = None
    if val is not None:
        probe = RecordProbe(val, processor, class_names=names, max_patches=config.batch.max_patches)
    if arguments.dry_run:
        Console(width=100).print(describe(stage, config, dataset))
        return
    if arguments.data:
        check_records(dataset, config.failure_limit)
    collate = Collator(processor, config.batch.max_patches)
    facts = {"lora": asdict(arguments.lora)}
    trainer = StageTrainer(stage, dataset, collate, config, arguments.out, report_to=arguments.report_to, facts=facts)
    if probe and config.probe_every:
        trainer.add_callback(ProbeCallback(probe, trainer, config.probe_every))
    trainer.train(resume=arguments.resume)
    final = trainer.average.averaged.module if trainer.average else model
    if trainer.stopping.received:
        print(f"stopped by SIGTERM at step {trainer.state.global_step}; continue with --resume")
        return
    learned = trainer.stage.learned()
    if trainer.is_fsdp_enabled:
        final = _gathered(trainer, model)
    if wrapped is not None:
        final = merge_lora(wrapped)
    if trainer.is_world_process_zero():
        save_model(cast(Fgclip2Model, final), directory, arguments.out / "model", learned=learned)
        print(f"model: {arguments.out / 'model'}   figures: {arguments.out / 'metrics.jsonl'}")


def training_dataset(source: RecordSource, config: RunConfig) -> TrainingDataset:
    """Samples with the texts that the recipe's terms look at: stage 1 draws no regions, which it would only encode."""
    batch, recipe = config.batch, config.recipe
    return TrainingDataset(
        source,
        batch.max_regions if recipe.uses_regions else 0,
        batch.max_negatives,
        seed=config.seed,
        shares=TextShares() if recipe.uses_hard else TextShares(hard=0, hard_captions=0),
    )


def check_records(dataset: TrainingDataset, limit: float) -> None:
    """Look at records before the first step: whether they can be read, where their pictures are, what their boxes are.

    Up to 1,000 are looked at, taken evenly from all; of pictures only whether there is a file.

    Args:
        dataset: to train on.
        limit: largest share of records that cannot be used, 0..1.

    Raises:
        Fgclip2Error: more cannot be used, or most regions cannot.
    """
    source = dataset.source
    numbers = range(0, len(source), max(1, len(source) // _LOOKED_AT))
    problems: list[str] = []
    lost: list[str] = []
    usable = 0
    for number in numbers:
        try:
            record = source[number]
        except RecordError as error:
            problems.append(str(error))
            continue
        if isinstance(record.image, (str, Path)) and not Path(record.image).exists():
            problems.append(f"{record.name}: picture {str(record.image)!r} does not exist")
        lost += [f"{record.name}: {reason}" for reason in record.lost_regions]
        usable += len(record.regions)
    # Where only some are looked at, chance may have put more of the bad ones among them.
    allowed = limit * len(numbers)
    allowed += 0 if len(numbers) == len(source) else 3 * allowed**0.5 + 1
    if len(problems) > allowed:
        raise Fgclip2Error(
            f"{len(problems):,} of the {len(numbers):,} records looked at cannot be used, over the limit of "
            f"{limit:.2%}; the first is {problems[0]}. Mend the data, name the pictures' folder with --image-root, or "
            "raise --failure-limit if you can do without them"
        )
    if dataset.max_regions != 0 and len(lost) > usable:
        raise Fgclip2Error(
            f"{len(lost):,} regions of the {len(numbers):,} records looked at cannot be used and {usable:,} can; the "
            f"first is {lost[0]}. Mend the data, or train --stage 1, which uses no regions"
        )


def _carried(directory: Path) -> dict[str, float]:
    """What an earlier stage learned beside the model in a directory; nothing when there is none."""
    file = directory / _LEARNED
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: float(value) for name, value in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise Fgclip2Error(f"{file} is damaged ({error}); remove it to start with fresh scales") from error


def _start(arguments: TrainArguments, directory: Path) -> tuple[Fgclip2Model, dict[str, list[str]] | None]:
    load = Fgclip2Model.from_pretrained if arguments.siglip2 is None else Fgclip2Model.from_siglip2
    with no_progress_bar():
        model = load(directory)
    names: dict[str, list[str]] | None = None
    if not arguments.data:
        from fgclip2.data.openmoji import World

        world = World()
        names = {language: [getattr(item, f"name_{language}") for item in world.categories] for language in LANGUAGES}
    return model.float().train(), names


def _check_sources(arguments: TrainArguments) -> None:
    """Every option about data does something, or is an error."""
    if arguments.val_data and not arguments.probe_every:
        raise Fgclip2Error("--val-data is for the probes; say how often with --probe-every, such as 200")
    if arguments.data and arguments.probe_every and not arguments.val_data:
        raise Fgclip2Error(
            "--probe-every measures on held-out records; name them with --val-data FILE, or leave it out"
        )
    needs = {
        "--val-data": (arguments.val_data, arguments.data, "--data"),
        "--image-root": (arguments.image_root, arguments.data, "--data"),
        "--val-image-root": (arguments.val_image_root, arguments.val_data, "--val-data"),
    }
    for option, (given, needed, other) in needs.items():
        if given and not needed:
            raise Fgclip2Error(f"{option} {str(given)!r} without {other}, which it belongs to; give both")


def _sources(arguments: TrainArguments) -> tuple[RecordSource, RecordSource | None]:
    if arguments.data:
        val = open_records(arguments.val_data, arguments.val_image_root) if arguments.val_data else None
        return open_records(arguments.data, arguments.image_root), val
    from fgclip2.data.openmoji import SceneConfig, World
    from fgclip2.data.openmoji.records import SceneSource

    world, scene = World(), SceneConfig(size=224, objects=(3, 6))
    held_out = SceneSource(world, scene, 0, min(400, arguments.scenes))
    return SceneSource(world, scene, FIRST_TRAINING_SEED, arguments.scenes), held_out


def build_stage(model: Fgclip2Model, config: RunConfig, classes: int = 0) -> Stage:
    """Freeze what is to be frozen, choose the precision, and put model and losses together.

    Args:
        model: float32 weights.
        config: the run.
        classes: of labelled data; needed by recipes with a label term.

    Raises:
        Fgclip2Error: a recipe with a label term on data without classes.
    """
    if config.recipe.weights.label and not classes:
        raise Fgclip2Error("this recipe needs class labels, which your data does not have; take --recipe paper")
    for tower in config.freeze:
        frozen = model.vision_model if tower == "vision" else model.text_model
        frozen.requires_grad_(False)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.precision == "bf16":
        warn_if_emulated(device)
    half = config.precision == "bf16" or (config.precision == "auto" and choose_dtype("auto", device) == torch.bfloat16)
    compute = ("autocast" if config.gradient_checkpointing else "cast") if half else "float32"
    return Stage(model, config.recipe, classes=classes, compute=compute)


def _gathered(trainer: StageTrainer, model: Fgclip2Model) -> Fgclip2Model:
    """The whole model on the first process, from weights that all processes hold parts of."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    whole = Fgclip2Model(model.config)
    if trainer.is_world_process_zero():
        prefix = "embedder.model."
        whole.load_state_dict(
            {name.removeprefix(prefix): item for name, item in state.items() if name.startswith(prefix)}
        )
    return whole


def describe(stage: Stage, config: RunConfig, dataset: TrainingDataset) -> Table:
    """What a run would train: parameters, memory, batches and steps, for this number of processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    sampler = LanguageBatchSampler(
        dataset.source.languages, config.batch.size, 0, world, config.seed, accumulation=config.batch.accumulation
    )
    steps = config.total_steps(sampler.steps_per_epoch)
    groups = parameter_groups(stage, config.optim)
    trained = sum(parameter.numel() for group in groups for parameter in group["params"])
    total = sum(parameter.numel() for parameter in stage.parameters())
    # float32 weights, gradients and two moments of what is trained, and weights alone of what is not.
    state = 4 * total + 12 * trained + (2 * total if stage.compute == "cast" else 0) + (4 * total if config.ema else 0)
    table = Table("dry run", "", show_header=False)
    for group in groups:
        count = sum(parameter.numel() for parameter in group["params"])
        table.add_row(f"parameters, {group['name']}", f"{count:,} at rate {group['lr']:g}")
    counts = np.bincount(dataset.source.languages, minlength=2)
    rows = {
        "parameters trained": f"{trained / 1e6:,.2f} M of {total / 1e6:,.2f} M",
        "weights and optimiser": f"{state / 2**30:,.2f} GiB a process (without FSDP), before activations",
        "activations": f"{_activations(stage, config, dataset, world) / 2**30:,.2f} GiB a process, roughly",
        "computes in": stage.compute.replace("cast", "cast to bf16") if stage.compute != "float32" else "float32",
        "records": f"{counts[0]:,} English, {counts[1]:,} Chinese",
        "batch": f"{config.batch.size:,} pictures = {world} processes x {config.batch.accumulation} parts x "
        f"{config.batch.size // world // config.batch.accumulation:,}",
        "steps": f"{steps:,} ({sampler.steps_per_epoch:,} an epoch), {config.optim.warmup_steps(steps):,} of warm-up",
        "left out an epoch": f"{sampler.dropped:,} records that fill no batch of one language",
        "terms": ", ".join(f"{name} {value:g}" for name, value in vars(config.recipe.weights).items() if value),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    table.add_row("read for a trial", _tried(dataset))
    return table


def _tried(dataset: TrainingDataset) -> str:
    """What some records, taken evenly from all, turn out to be.

    Raises:
        Fgclip2Error: none of them can be used.
    """
    chosen = np.linspace(0, len(dataset) - 1, min(len(dataset), _TRIED)).round().astype(int).tolist()
    samples = [dataset[0, index] for index in chosen]
    failures = [sample for sample in samples if isinstance(sample, Failure)]
    if len(failures) == len(samples):
        raise Fgclip2Error(f"none of {len(samples)} records can be used; {failures[0].name}: {failures[0].reason}")
    regions = sum(len(sample.regions) for sample in samples if not isinstance(sample, Failure))
    text = f"{len(samples)} records with {regions} regions drawn, {len(failures)} unusable"
    return text + "".join(f"\n{failure.name}: {failure.reason}" for failure in failures[:3])


def _activations(stage: Stage, config: RunConfig, dataset: TrainingDataset, world: int) -> float:
    """Bytes kept for backward: some 16 numbers a token, channel and block, or one with checkpointing."""
    model = stage.model
    pictures = config.batch.size / world / config.batch.accumulation
    vision, text = model.config.vision_config, model.config.text_config
    kept = 1 if config.gradient_checkpointing else 16
    tokens = pictures * (config.batch.max_patches or 1024) * vision.hidden_size * vision.num_hidden_layers
    short, long = text.max_position_embeddings, text.longtext_len
    regions = (dataset.max_regions or 0) * (1 + (dataset.negatives if dataset.shares.hard else 0))
    words = pictures * (short * (1 + regions) + long) * text.hidden_size * text.num_hidden_layers
    return kept * (tokens + words) * (4 if stage.compute == "float32" else 2)


class ProbeCallback(TrainerCallback):
    """Runs the probe before the first step, every so many, and at the end; figures go to ``metrics.jsonl``."""

    def __init__(self, probe: RecordProbe, trainer: StageTrainer, every: int) -> None:
        self.probe, self.trainer, self.every = probe, trainer, every

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first step."""
        if state.global_step == 0:
            self._measure()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Now and then."""
        due = control.should_log  # the probe's own line would count as this step's
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._measure()
            control.should_log = due
        return control

    def _measure(self) -> None:
        average = self.trainer.average
        model = self.trainer.stage.model if average is None else cast(Fgclip2Model, average.averaged.module)
        self.trainer.log({f"probe_{name}": value for name, value in self.probe(model).items()})


def save_model(
    model: Fgclip2Model,
    source: Path,
    directory: Path,
    dtype: torch.dtype = torch.float32,
    learned: Mapping[str, float] | None = None,
) -> None:
    """Write a model that ``fgclip2.load`` takes; it appears whole or not at all.

    Args:
        model: the weights.
        source: directory that the tokenizer files come from.
        directory: replaced when it exists.
        dtype: to store.
        learned: what training learned beside the model, for a further stage to go on with.

    Raises:
        Fgclip2Error: a weight is not finite.
    """
    check_weights(model.state_dict(), str(directory))
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    copied = Fgclip2Model(model.config)
    copied.load_state_dict(model.state_dict())
    with no_progress_bar():
        copied.to(dtype).save_pretrained(partial)
    for name in _PROCESSOR_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, partial / name)
    if learned is not None:
        (partial / _LEARNED).write_text(json.dumps(learned, indent=1), encoding="utf-8")
    checkpoints.publish(partial, directory)
