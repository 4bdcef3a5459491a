"""Base and novel categories of the embedded world, for experiments that keep some of them out of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from fgclip2.data.openmoji.world import World
from fgclip2.errors import Fgclip2Error

HELD_OUT_SEED: Final = 1_000_000_000
"""First seed of held-out scenes: far from the seeds of training scenes, whatever their number."""


@dataclass(frozen=True)
class SplitConfig:
    """Which scenes an experiment sees.

    Attributes:
        train: training scenes; they show base categories only.
        val: held-out scenes; they show base and novel categories.
        base: number of base categories; with the novel ones all of the world's by default.
        novel: number of novel categories, whose labels and glyphs no training scene has.
        size: side of a picture in pixels.
        seed: of the split and the scenes.

    Raises:
        Fgclip2Error: a number of scenes or categories below 1.
    """

    train: int = 4000
    val: int = 400
    base: int = 648
    novel: int = 216
    size: int = 320
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train, self.val, self.base, self.novel) < 1:
            raise Fgclip2Error(f"{self}: train, val, base and novel must each be at least 1")

    @classmethod
    def parted(cls, categories: int | None = None, novel_fraction: float | None = None, **others: Any) -> Self:
        """So many categories, a share of them novel.

        Args:
            categories: number of all categories; ``None`` takes the default's.
            novel_fraction: share of the novel ones, between 0 and 1; ``None`` takes the default's.
            **others: further attributes.

        Raises:
            Fgclip2Error: less than one base and one novel category.
        """
        count = cls.base + cls.novel if categories is None else categories
        share = cls.novel / (cls.base + cls.novel) if novel_fraction is None else novel_fraction
        novel = round(count * share)
        if not 0 < novel < count:
            raise Fgclip2Error(
                f"{share:g} of {count} categories novel: give shares and numbers that leave a base and a novel one"
            )
        return cls(base=count - novel, novel=novel, **others)


def split_evenly(world: World, base: int, novel: int, seed: int = 0) -> tuple[list[int], list[int]]:
    """Draw a number of base and of novel categories, each group of things keeping its share.

    Args:
        world: whose categories.
        base: how many are trained.
        novel: how many are not.
        seed: of the split.

    Returns:
        Category ids, base and novel, each sorted.

    Raises:
        Fgclip2Error: the world has fewer categories than asked for.
    """
    first, second = world.split(novel / (base + novel), seed=seed)
    if len(first) < base or len(second) < novel:
        raise Fgclip2Error(
            f"{base} base and {novel} novel categories: the embedded world has {len(world.categories)}; ask for fewer"
        )
    return _thinned(first, base), _thinned(second, novel)


def _thinned(ids: list[int], count: int) -> list[int]:
    """``count`` of them at even distance: neighbouring ids are of one group, and every group keeps its share."""
    return [ids[index * len(ids) // count] for index in range(count)]
