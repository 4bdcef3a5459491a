"""Settings of a store, with all their defaults; light, so that ``--help`` does not wait for torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from fgclip2.errors import Fgclip2Error


@dataclass(frozen=True)
class RegionConfig:
    """Which regions of a picture are kept."""

    count: int = 32
    """Most regions a picture, boxes that were given not counted; 16 find nearly as much in half the space."""
    smallest: int = 2
    """Side of the smallest window, in patches; larger ones grow from it to the picture's shorter side."""
    alike: float = 0.98
    """A window whose cosine to a kept one is at least this is merged into it."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise Fgclip2Error(f"regions count {self.count}: give at least 1")
        if self.smallest < 1:
            raise Fgclip2Error(f"regions smallest {self.smallest}: give the side of a window in patches, at least 1")
        if not 0 < self.alike <= 1:
            raise Fgclip2Error(f"regions alike {self.alike}: give a cosine above 0, at most 1")


@dataclass(frozen=True)
class BuildConfig:
    """How a collection is embedded; a store keeps the first two, and goes on with them."""

    regions: RegionConfig = field(default_factory=RegionConfig)
    max_patches: int | None = None
    """Patches of every picture; more show smaller things. Without it each picture's own bucket."""
    boxes: bool = False
    """Keep the boxes that the list has for its pictures, of a detector for instance, as regions too."""
    shard_size: int = 1024
    """Pictures a shard: what a crash can lose, and what is committed at a time."""
    prune: bool = False
    """Delete pictures of the store that the collection does not have any more."""
    memory_gb: float = 4.0
    """Most memory of an index; it decides which kind is built."""

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise Fgclip2Error(f"shard_size {self.shard_size}: give at least 1 picture")
        if not self.memory_gb > 0:
            raise Fgclip2Error(f"memory_gb {self.memory_gb}: give gigabytes above 0")

    @property
    def budget(self) -> int:
        """``memory_gb`` in bytes."""
        return round(self.memory_gb * 1e9)
