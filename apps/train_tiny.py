"""Train the embedded model from scratch on OpenMoji scenes: ``python apps/train_tiny.py --out DIR``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich import print as show

from fgclip2.config import preset
from fgclip2.data.openmoji import World
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import TextProcessor
from fgclip2.train.probe import probe
from fgclip2.train.simple import TrainingConfig, curriculum, train
from fgclip2.train.tiny import corpus, fresh_model
from fgclip2.train.tokenizer import save_tokenizer, train_tokenizer


@dataclass
class Arguments:
    """Train a small FG-CLIP 2 and its tokenizer on the embedded world; about an hour on two cores."""

    out: Path
    """Directory for the model: config.json, model.safetensors (fp16), tokenizer.json."""
    steps: tuple[int, int, int, int] = (1200, 500, 900, 400)
    """Steps of each phase: one object at 64 px, two at 112 px, scenes at 224 px, scenes at 320 px."""
    learning_rate: float = TrainingConfig.learning_rate
    """Peak rate of AdamW; warm-up, then a cosine to 0 over all steps."""
    matrix_learning_rate: float = TrainingConfig.matrix_learning_rate
    """Peak rate of Muon, on the matrices inside the blocks."""
    init: Path | None = None
    """Model directory to start from instead of fresh weights."""
    first_batch: int = 0
    """Where in the endless stream of scenes to begin; after --init, the steps that the earlier run has made."""
    seed: int = 0
    """Seed of the initial weights."""
    tokenizer_scenes: int = 3000
    """Scenes whose texts the tokenizer is learned from."""
    probe_scenes: int = 500
    """Held-out scenes to measure on at the end."""


def save(model: Fgclip2Model, directory: Path) -> None:
    """Write the weights as fp16 beside what is there, by renaming, so that a reader never sees half a file."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        half = Fgclip2Model(model.config)
        half.load_state_dict(model.state_dict())
        half.half().save_pretrained(scratch)
        for file in sorted(Path(scratch).iterdir()):
            os.replace(file, directory / file.name)


def main(arguments: Arguments) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    world, config = World(), preset("tiny")
    lengths = config.text_config.max_position_embeddings, config.text_config.longtext_len
    if arguments.init is not None:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(arguments.init / file, arguments.out / file)
    if not (arguments.out / "tokenizer.json").exists():
        show(f"learning the tokenizer from {arguments.tokenizer_scenes} scenes")
        tokenizer = train_tokenizer(corpus(world, arguments.tokenizer_scenes), config.text_config.vocab_size)
        save_tokenizer(tokenizer, arguments.out, lengths[0])
    text_processor = TextProcessor(arguments.out, *lengths)
    model = fresh_model(arguments.seed) if arguments.init is None else Fgclip2Model.from_pretrained(arguments.init)
    model.float().train()
    log = arguments.out.with_name(arguments.out.name + "-log.jsonl")
    trained = train(
        model,
        text_processor,
        world,
        curriculum(arguments.steps),
        TrainingConfig(arguments.learning_rate, arguments.matrix_learning_rate, seed=arguments.seed),
        lambda averaged: save(averaged, arguments.out),
        log,
        arguments.first_batch,
    )
    show(probe(trained, text_processor, world, arguments.probe_scenes).table())
    show(f"model in {arguments.out}, log in {log}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except Fgclip2Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
