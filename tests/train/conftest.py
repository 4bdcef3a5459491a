"""Training data small enough to train on in a test: scenes of 64 px, in both languages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fgclip2.data.collate import Collator, TextShares, TrainingDataset
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import Processor
from fgclip2.train.recipe import Recipe, recipe
from fgclip2.train.stage import Stage

CLASSES = 864
SMALL = SceneConfig(size=64, objects=(1, 3))


@pytest.fixture(scope="session")
def scenes() -> SceneSource:
    """48 scenes, English and Chinese by turns."""
    return SceneSource(World(), SMALL, first_seed=5_000_000, count=48)


@pytest.fixture(scope="session")
def dataset(scenes: SceneSource) -> TrainingDataset:
    """Their samples, with three hard negatives a region."""
    return TrainingDataset(scenes, negatives=3, shares=TextShares(names=0.5))


@pytest.fixture(scope="session")
def collate(tiny_dir: Path) -> Collator:
    """Batches for the model of ``tiny_dir``."""
    return Collator(Processor.from_pretrained(tiny_dir))


@pytest.fixture
def make_stage(tiny_dir: Path) -> Callable[..., Stage]:
    """Stages of equal weights."""

    def make(chosen: Recipe | None = None, **kwargs: object) -> Stage:
        torch.manual_seed(0)
        model = Fgclip2Model.from_pretrained(tiny_dir).float().train()
        return Stage(model, chosen or recipe("tiny", 2), classes=CLASSES, **kwargs)  # type: ignore[arg-type]

    return make
