"""Batches of OpenMoji scenes: pictures, one text a region, hard negatives, and which texts are also true elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fgclip2.data.openmoji import Attributes, SceneConfig, SceneObject, World, truth
from fgclip2.errors import Fgclip2Error

LANGUAGES: Final = ("en", "zh")
FIRST_TRAINING_SEED: Final = 1_000_000  # seeds below are for held-out scenes and for training detectors


@dataclass(frozen=True)
class SceneBatch:
    """One batch, texts still as text: the distinct ones once, everything else as indices into them.

    Attributes:
        pixels: uint8 ``(B, H, W, 3)``.
        boxes: visible boxes of M regions, ``(M, 5)``: picture, x1, y1, x2, y2 in pixels.
        category: class of every region, int64 ``(M,)``.
        texts: distinct short and region texts.
        long_texts: long captions of the pictures in ``long_of``.
        text_of: regions that carry a text, int64 ``(R,)``.
        region_text: the texts of those, int64 ``(R,)``.
        bare: bool ``(R,)``: the text is the bare class name.
        also_true: bool ``(R, R)``: text j, off the diagonal, may describe region ``text_of[i]`` as well.
        hard_of: regions that carry hard negatives, int64 ``(H,)``.
        hard_text: texts of those, the true one first, int64 ``(H, 1 + K)``.
        caption_of: pictures that carry a short caption, int64 ``(C,)``.
        caption: the captions of those, int64 ``(C,)``.
        long_of: pictures that carry a long caption, int64 ``(L,)``.
    """

    pixels: Tensor
    boxes: Tensor
    category: Tensor
    texts: list[str]
    long_texts: list[str]
    text_of: Tensor
    region_text: Tensor
    bare: Tensor
    also_true: Tensor
    hard_of: Tensor
    hard_text: Tensor
    caption_of: Tensor
    caption: Tensor
    long_of: Tensor

    def to(self, device: torch.device) -> SceneBatch:
        """The batch with its tensors on a device."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class BatchConfig:
    """What one batch holds. Texts are the costly part, so not every region and picture gets one."""

    pictures: int
    scene: SceneConfig
    text_regions: int = 128  # regions with a text of their own
    name_fraction: float = 0.5  # of those, how many get the bare class name instead of the attributed phrase
    hard_regions: int = 16  # regions with hard negatives
    negatives: int = 3  # of a region's ten, drawn anew each time
    captions: int = 32  # pictures with a short caption
    long_captions: int = 0  # pictures with a long one


def make_batch(world: World, config: BatchConfig, number: int) -> SceneBatch:
    """Compose batch ``number`` of the endless training stream; the same number gives the same batch."""
    rng = np.random.default_rng([number, config.pictures, *config.scene.shape])
    first = FIRST_TRAINING_SEED + number * config.pictures
    scenes = [world.scene(first + offset, config.scene) for offset in range(config.pictures)]
    texts: dict[str, int] = {}

    def add(text: str) -> int:
        return texts.setdefault(text.lower(), len(texts))

    items = [(picture, item) for picture, scene in enumerate(scenes) for item in scene.objects]
    text_of = rng.permutation(len(items))[: config.text_regions]
    regions = []
    for _, item in (items[index] for index in text_of):
        language = LANGUAGES[rng.integers(2)]
        bare = bool(rng.random() < config.name_fraction)
        said = Attributes(item.category.id) if bare else item.attributes
        regions.append(_Region(item, said, bare, add(item.names[language] if bare else item.phrases[language])))
    hard_of = rng.permutation(len(items))[: config.hard_regions]
    hard_text = []
    for _, item in (items[index] for index in hard_of):
        language = LANGUAGES[rng.integers(2)]
        negatives = item.negatives[language]
        drawn = rng.permutation(len(negatives))[: config.negatives]
        hard_text.append([add(item.phrases[language]), *(add(negatives[index]) for index in drawn)])
    caption_of = rng.permutation(len(scenes))[: config.captions]
    choices = [scenes[picture].short[LANGUAGES[rng.integers(2)]] for picture in caption_of]
    caption = torch.tensor([add(choice[rng.integers(len(choice))]) for choice in choices])
    long_of = rng.permutation(len(scenes))[: config.long_captions]
    return SceneBatch(
        pixels=torch.from_numpy(np.stack([scene.pixels for scene in scenes])),
        boxes=torch.tensor([[picture, *item.box] for picture, item in items], dtype=torch.float32),
        category=torch.tensor([item.category.id for _, item in items]),
        texts=list(texts),
        long_texts=[scenes[picture].long[LANGUAGES[rng.integers(2)]].lower() for picture in long_of],
        text_of=torch.from_numpy(text_of),
        region_text=torch.tensor([region.text for region in regions]),
        bare=torch.tensor([region.bare for region in regions]),
        also_true=_also_true(regions),
        hard_of=torch.from_numpy(hard_of),
        hard_text=torch.tensor(hard_text, dtype=torch.int64).reshape(len(hard_of), 1 + config.negatives),
        caption_of=torch.from_numpy(caption_of),
        caption=caption,
        long_of=torch.from_numpy(long_of),
    )


@dataclass(frozen=True)
class _Region:
    item: SceneObject
    said: Attributes
    bare: bool
    text: int


def _also_true(regions: Sequence[_Region]) -> Tensor:
    """Bool ``(M, M)``: what region j's text says is true, or arguably true, of region i; the diagonal is False."""
    result = torch.zeros(len(regions), len(regions), dtype=torch.bool)
    by_category: dict[int, list[int]] = {}
    for index, region in enumerate(regions):
        by_category.setdefault(region.item.category.id, []).append(index)
    for group in by_category.values():
        for i, j in permutations(group, 2):
            result[i, j] = truth(regions[j].said, regions[i].item) is not False
    return result


class _Stream(IterableDataset[SceneBatch]):
    def __init__(self, world: World, config: BatchConfig, numbers: range) -> None:
        self.world, self.config, self.numbers = world, config, numbers

    def __iter__(self) -> Iterator[SceneBatch]:
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.num_workers != 1:
            raise Fgclip2Error("the scene stream is read by one worker; set num_workers to 0 or 1")
        for number in self.numbers:
            yield make_batch(self.world, self.config, number)


def scene_batches(world: World, config: BatchConfig, numbers: range) -> DataLoader[SceneBatch]:
    """Batches ``numbers`` in order, composed ahead by one worker process."""
    return DataLoader(_Stream(world, config, numbers), batch_size=None, num_workers=1, prefetch_factor=4)
