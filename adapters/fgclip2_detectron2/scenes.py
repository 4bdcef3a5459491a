"""The embedded world as segmentation data: scenes are drawn when they are read, so nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from fgclip2.data.openmoji import Scene, SceneConfig, World
from fgclip2.data.openmoji.split import HELD_OUT_SEED, SplitConfig, split_evenly

from .datasets import ClassSet, SegmentationSet, forget, register, unseen_names
from .instances import InstanceSet, Thing

TRAIN = "openmoji_train"
VAL = "openmoji_val"
INSTANCES_TRAIN = "openmoji_instances_train"
INSTANCES_VAL = "openmoji_instances_val"


@dataclass(frozen=True)
class ScenesConfig(SplitConfig):
    """Which scenes; they are drawn as they are read, so there may be many."""

    train: int = 20_000
    val: int = 200


def register_scenes(config: ScenesConfig | None = None, trained: Collection[str] | None = None) -> tuple[str, str]:
    """Enter training and held-out scenes with a label a pixel; what was registered before is replaced.

    Label C, one behind the last class, is the ground. A thing's mask is the whole thing: glyph and badge.

    Args:
        config: which scenes; ``None`` for the defaults.
        trained: names, in either language, of the classes that a model was trained on, all others being novel;
            ``None`` takes the split of ``config``.

    Returns:
        The names of both data sets, ``openmoji_train`` and ``openmoji_val``.
    """
    _register(TRAIN, VAL, config or ScenesConfig(), SegmentationSet, _labelled, trained)
    return TRAIN, VAL


def register_scene_instances(
    config: ScenesConfig | None = None, trained: Collection[str] | None = None
) -> tuple[str, str]:
    """The same scenes as instances: ``openmoji_instances_train`` and ``openmoji_instances_val``."""
    _register(INSTANCES_TRAIN, INSTANCES_VAL, config or ScenesConfig(), InstanceSet, _things, trained)
    return INSTANCES_TRAIN, INSTANCES_VAL


def _register(
    train: str,
    val: str,
    config: ScenesConfig,
    kind: Callable[..., ClassSet],
    read: Callable[[Scene, tuple[int, ...]], Any],
    trained: Collection[str] | None,
) -> None:
    world = _world()
    base, novel = split_evenly(world, config.base, config.novel, config.seed)
    shown = sorted(base + novel)
    names = {
        "en": tuple(world.categories[index].name_en for index in shown),
        "zh": tuple(world.categories[index].name_zh for index in shown),
    }
    unseen = frozenset(world.categories[index].name_en for index in novel)
    if trained is not None:
        unseen = frozenset(unseen_names(names, trained))
    parts = {train: (config.train, 0, base), val: (config.val, HELD_OUT_SEED, shown)}
    for name, (count, first, pool) in parts.items():
        forget(name)
        loader = _SceneLoader(SceneConfig(size=config.size, category_ids=tuple(pool)), tuple(shown), read)
        start = first + config.seed * 10_000_000
        records = [{"scene": start + index, "image_id": index} for index in range(count)]
        register(name, partial(list, records), kind(names, True, unseen, loader))


@dataclass(frozen=True)
class _SceneLoader:
    """Draws the scene of a record; picklable, for loading processes."""

    config: SceneConfig
    shown: tuple[int, ...]
    read: Callable[[Scene, tuple[int, ...]], Any]

    def __call__(self, record: dict[str, Any]) -> tuple[np.ndarray, Any]:
        scene = _world().scene(record["scene"], self.config)
        return scene.pixels, self.read(scene, self.shown)


def _labelled(scene: Scene, shown: tuple[int, ...]) -> np.ndarray:
    labels = np.full(scene.labels.shape, len(shown), np.int32)
    for thing in scene.objects:
        labels[thing.mask] = shown.index(thing.category.id)
    return labels


def _things(scene: Scene, shown: tuple[int, ...]) -> list[Thing]:
    return [
        Thing(shown.index(thing.category.id), thing.box, coco_mask.encode(np.asfortranarray(thing.mask, np.uint8)))
        for thing in scene.objects
    ]


@lru_cache(maxsize=1)
def _world() -> World:
    return World()  # one a process: glyphs that are drawn stay
