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
    """How a collection is embedded; a store keeps the first three, and goes on with them."""

    regions: RegionConfig = field(default_factory=RegionConfig)
    max_patches: int | None = None
    """Patches of every picture; more show smaller things. Without it each picture's own bucket."""
    boxes: bool = False
    """Keep the boxes that the list has for its pictures, of a detector for instance, as regions too."""
    shard_size: int = 1024
    """Pictures a shard: what a crash can lose, and what is committed at a time."""
    prune: bool = False
    """Delete pictures of the store that the collection does not have any more; not those of a folder that cannot be
    read now."""
    follow_links: bool = False
    """Read images that are links, and enter folders that are; the store remembers it for searching."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders to leave out of a folder, such as "*.gif" "thumbs/*"."""
    memory_gb: float | None = None
    """Most memory of an index; it decides which kind is built. Without it what the store has, 4 for a new one."""

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise Fgclip2Error(f"shard_size {self.shard_size}: give at least 1 picture")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise Fgclip2Error(f"memory_gb {self.memory_gb}: give gigabytes above 0")

    @property
    def budget(self) -> int | None:
        """``memory_gb`` in bytes."""
        return None if self.memory_gb is None else round(self.memory_gb * 1e9)


@dataclass(frozen=True)
class ClusterConfig:
    """The Ray cluster that embeds, and what each of its workers gets."""

    address: str | None = None
    """Of a running cluster, such as 10.0.0.1:6379; auto takes that of $RAY_ADDRESS or of this machine. Without one, a
    cluster of this machine's own is started."""
    workers: int | None = None
    """Processes that hold the model; without it as many as the cluster has room for."""
    worker_cpus: int = 1
    """Processors, and threads, of a worker."""
    worker_gpus: float = 0
    """GPUs of a worker; 0.5 puts two on one."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise Fgclip2Error(f"workers {self.workers}: give at least 1")
        if self.worker_cpus < 1 or self.worker_gpus < 0:
            raise Fgclip2Error(
                f"worker_cpus {self.worker_cpus}, worker_gpus {self.worker_gpus:g}: give at least 1 processor, and "
                "0 or more GPUs"
            )
