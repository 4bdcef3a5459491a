"""The embedded model from scratch: a curriculum of scenes through both stages, by the ordinary trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final, cast

import torch
from rich import print as show
from torch import Tensor

from fgclip2.config import preset
from fgclip2.data.collate import Collator, TextShares, TrainingDataset
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.data.records import LANGUAGES
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import Processor
from fgclip2.train.recipe import BatchConfig, OptimConfig, RunConfig, recipe
from fgclip2.train.run import FIRST_TRAINING_SEED, build_stage, save_model
from fgclip2.train.stage import Stage
from fgclip2.train.tokenizer import save_tokenizer, train_tokenizer
from fgclip2.train.trainer import StageTrainer

_STYLES: Final = (0.3, 0.35, 0.35)  # more tints than scenes usually have: without colours, shapes must be learned
_PLACE_SCALE: Final = 0.3  # of the sines and cosines that places start as
_LONGEST_WAVE: Final = 100.0  # of them, in patches
_EMA: Final = 0.99
_OPTIM: Final = OptimConfig(lr=1e-3, muon_lr=2e-3, scale_lr=5e-3, weight_decay=0.02, warmup=30, schedule="constant")


class Stopped(Fgclip2Error):
    """Training ended early because it was asked to, with everything kept that it takes to go on."""


@dataclass(frozen=True)
class Phase:
    """One step of the curriculum.

    Attributes:
        stage: of the ``tiny`` recipe.
        scene: what pictures look like.
        pictures: a batch.
        steps: optimiser steps.
        shares: how many of the texts are used; all of them would cost more than the pictures.
        negatives: most hard negatives of a region or caption.
        optim: rates and their schedule.
        ema: decay of the moving average of the weights, ``None`` for none. Of the last phase it is the finished model;
            the next phase goes on from the weights themselves.
    """

    stage: int
    scene: SceneConfig
    pictures: int
    steps: int
    shares: TextShares
    negatives: int = 3
    optim: OptimConfig = _OPTIM
    ema: float | None = None


def curriculum(steps: Sequence[int]) -> tuple[Phase, ...]:
    """The six phases with so many steps each; phases of 0 steps are left out.

    Pictures grow from one object in 64 pixels to whole scenes, with objects of the same size in pixels throughout:
    where a picture is 16 tokens and the region is the picture, words meet shapes early and cheaply. Without this
    nothing is learned in the same time. The rate stays at its peak until whole scenes are seen. In the last phase more
    pictures at a time are told apart by their captions, long ones too, while the rate falls to nothing.
    """
    # Stage 1 asks for captions and names only.
    names = TextShares(short=0.3, long=0.05, regions=0.15, names=1.0, hard=0.0, hard_captions=0.0)
    # Places, sizes, counts and relations are told apart by texts that differ in them alone; it takes many of those.
    few = TextShares(
        short=0.5,
        long=0.1,
        regions=0.3,
        names=0.5,
        hard=0.05,
        hard_captions=0.06,
        contrasts=0.1,
        picture_contrasts=0.03,
    )
    most = TextShares(
        short=1.0, long=0.4, regions=0.4, names=0.5, hard=0.08, hard_captions=0.2, contrasts=0.1, picture_contrasts=0.05
    )
    captions = replace(few, short=1.0, long=1.0, hard_captions=0.1)
    falling = replace(_OPTIM, schedule="cosine", final=0.3)
    large = replace(_OPTIM, lr=3e-4, muon_lr=6e-4, scale_lr=1e-3, schedule="cosine")
    last = replace(_OPTIM, lr=5e-4, muon_lr=1e-3, scale_lr=1e-3, schedule="cosine")

    def scene(size: int, objects: tuple[int, int], scale: tuple[float, float]) -> SceneConfig:
        return SceneConfig(size=size, objects=objects, scale=scale, styles=_STYLES)

    phases = (
        Phase(1, scene(64, (1, 1), (0.5, 1.0)), 256, steps[0], names),
        Phase(2, scene(112, (1, 3), (0.28, 0.7)), 128, steps[1], few),
        Phase(2, scene(160, (3, 5), (0.2, 0.5)), 96, steps[2], few),
        Phase(2, scene(224, (3, 7), (0.14, 0.4)), 64, steps[3], most, 4, falling),
        Phase(2, scene(320, (4, 8), (0.14, 0.4)), 32, steps[4], most, 4, large, _EMA),
        Phase(2, scene(224, (3, 7), (0.14, 0.4)), 96, steps[5], captions, 3, last, _EMA),
    )
    return tuple(phase for phase in phases if phase.steps)


def corpus(world: World, scenes: int) -> Iterator[str]:
    """Everything the world says in a number of training scenes, lower-cased, and every class name."""
    for category in world.categories:
        yield from (category.name_en.lower(), category.name_zh)
    for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + scenes):
        scene = world.scene(seed, SceneConfig(withheld="any"))
        for language in LANGUAGES:
            said = chain.from_iterable((item.phrases[language], *item.negatives[language]) for item in scene.objects)
            yield from (text.lower() for text in chain(said, scene.short[language], [scene.long[language]]))


def place_codes(side: int, width: int) -> Tensor:
    """Sines and cosines of the row and of the column, ``(side * side, width)``; width a multiple of 4.

    Wavelengths lie evenly in their logarithm from 4 patches to `_LONGEST_WAVE`, as in the Transformer's codes.
    """
    waves = torch.logspace(math.log10(4), math.log10(_LONGEST_WAVE), width // 4)
    angles = 2 * math.pi * torch.arange(side)[:, None] / waves  # (side, width / 4)
    along = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = along[:, None].expand(-1, side, -1), along[None].expand(side, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def fresh_model(seed: int) -> Fgclip2Model:
    """Untrained weights, with SigLIP's start of the global loss: scale 10 and bias -10.

    The vision tower's places start as `place_codes`. Begun from noise, the table learns rows and never columns in the
    time there is, and left and right stay at chance.
    """
    torch.manual_seed(seed)
    model = Fgclip2Model(preset("tiny"))
    embeddings = model.vision_model.embeddings
    with torch.no_grad():
        table = embeddings.position_embedding.weight
        table.copy_(_PLACE_SCALE * place_codes(embeddings.position_embedding_size, table.shape[1]))
    torch.nn.init.constant_(model.logit_scale, 2.3)
    torch.nn.init.constant_(model.logit_bias, -10.0)
    return model


def make_tokenizer(world: World, directory: Path, scenes: int) -> None:
    """Learn the tokenizer into a directory, with the configuration beside it; nothing happens where it is."""
    config = preset("tiny")
    if not (directory / "tokenizer.json").exists():
        show(f"learning the tokenizer from {scenes} scenes")
        tokenizer = train_tokenizer(corpus(world, scenes), config.text_config.vocab_size)
        save_tokenizer(tokenizer, directory, config.text_config.max_position_embeddings)
    config.save_pretrained(directory)


def train_phases(
    phases: Sequence[Phase], directory: Path, seed: int = 0, tokenizer_scenes: int = 3000, workers: int = 1
) -> Path:
    """Run the curriculum; a run that was stopped goes on where it was.

    Args:
        phases: in order. The rate falls in the last one only.
        directory: gets ``tokenizer/``, a folder a phase with its checkpoints and ``metrics.jsonl``, and ``model/``.
        seed: of weights and order.
        tokenizer_scenes: scenes whose texts the tokenizer is learned from.
        workers: processes that compose scenes.

    Returns:
        The folder of the finished model, in half precision.

    Raises:
        Stopped: by SIGTERM, after a checkpoint was written.
    """
    world, tokens = World(), directory / "tokenizer"
    make_tokenizer(world, tokens, tokenizer_scenes)
    processor = Processor.from_pretrained(tokens)
    model, before, seen = fresh_model(seed), None, FIRST_TRAINING_SEED
    finished = model
    for number, phase in enumerate(phases):
        config = RunConfig(
            recipe=recipe("tiny", phase.stage),
            optim=phase.optim,
            batch=BatchConfig(size=phase.pictures),
            steps=phase.steps,
            ema=phase.ema,
            seed=seed,
            save_every=200,
            workers=workers,
        )
        stage = build_stage(model, config, classes=len(world.categories))
        if before is not None:
            carry_over(before, stage)
        # Two more batches than steps, so that both languages fill theirs; no scene is seen twice.
        source = SceneSource(world, phase.scene, seen, phase.pictures * (phase.steps + 2))
        seen += len(source)
        dataset = TrainingDataset(
            source, max_regions=None, negatives=phase.negatives, seed=seed, prefix_english="", shares=phase.shares
        )
        trainer = StageTrainer(stage, dataset, Collator(processor), config, directory / f"phase-{number}")
        size = f"{phase.pictures} scenes of {phase.scene.size} px"
        show(f"phase {number + 1} of {len(phases)}: {phase.steps} steps of {size}")
        trainer.train(resume=True)
        if trainer.stopping.received:
            raise Stopped(f"stopped in phase {number + 1}; the same command goes on from there")
        finished = cast(Fgclip2Model, trainer.average.averaged.module) if trainer.average else stage.model
        model, before = stage.model, stage
    save_model(finished, tokens, directory / "model", torch.float16)
    return directory / "model"


def carry_over(before: Stage, after: Stage) -> None:
    """Take along what an earlier stage learned beside the model: scales, the threshold, class proxies."""
    own = [name for name in after.state_dict() if not name.startswith("embedder.")]
    kept = {name: tensor for name, tensor in before.state_dict().items() if name in own}
    after.load_state_dict(kept, strict=False)
