"""The embedded world as segmentation data: scenes are drawn when they are read, so nothing is stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.split import HELD_OUT_SEED, SplitConfig, split_evenly

from .datasets import SegmentationSet, forget, register

TRAIN = "openmoji_train"
VAL = "openmoji_val"


@dataclass(frozen=True)
class ScenesConfig(SplitConfig):
    """Which scenes; they are drawn as they are read, so there may be many."""

    train: int = 20_000
    val: int = 200


def register_scenes(config: ScenesConfig | None = None) -> tuple[str, str]:
    """Enter training and held-out scenes; what was registered before is replaced.

    Label C, one behind the last class, is the ground. A thing's mask is the whole thing: glyph and badge.

    Args:
        config: which scenes; ``None`` for the defaults.

    Returns:
        The names of both data sets, ``openmoji_train`` and ``openmoji_val``.
    """
    config = config or ScenesConfig()
    world = _world()
    base, novel = split_evenly(world, config.base, config.novel, config.seed)
    shown = sorted(base + novel)
    names = {
        "en": tuple(world.categories[index].name_en for index in shown),
        "zh": tuple(world.categories[index].name_zh for index in shown),
    }
    unseen = frozenset(world.categories[index].name_en for index in novel)
    parts = {TRAIN: (config.train, 0, base), VAL: (config.val, HELD_OUT_SEED, shown)}
    for name, (count, first, pool) in parts.items():
        forget(name)
        loader = _SceneLoader(SceneConfig(size=config.size, category_ids=tuple(pool)), tuple(shown))
        start = first + config.seed * 10_000_000
        records = [{"scene": start + index, "image_id": index} for index in range(count)]
        register(name, partial(list, records), SegmentationSet(names, True, unseen, loader))
    return TRAIN, VAL


@dataclass(frozen=True)
class _SceneLoader:
    """Draws the scene of a record; picklable, for loading processes."""

    config: SceneConfig
    shown: tuple[int, ...]

    def __call__(self, record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        scene = _world().scene(record["scene"], self.config)
        labels = np.full(scene.labels.shape, len(self.shown), np.int32)
        for thing in scene.objects:
            labels[thing.mask] = self.shown.index(thing.category.id)
        return scene.pixels, labels


@lru_cache(maxsize=1)
def _world() -> World:
    return World()  # one a process: glyphs that are drawn stay
