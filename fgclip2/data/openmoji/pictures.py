"""Scenes as JPEG files with COCO entries, drawn by several processes. Those import this module anew: it stays light."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2

from fgclip2.data.openmoji.config import SceneConfig
from fgclip2.data.openmoji.world import World
from fgclip2.masks import encode

_QUALITY: Final = 95
_SHARE: Final = 64  # pictures that are worth starting another process for


@dataclass(frozen=True)
class SceneFile:
    """One picture to draw.

    Attributes:
        seed: of the scene.
        config: how it looks.
        number: the picture's id.
        file: where to; its folder exists.
        masks: describe objects by their exact masks too.
    """

    seed: int
    config: SceneConfig
    number: int
    file: Path
    masks: bool = False


@dataclass(frozen=True)
class Drawn:
    """COCO entries of a picture that was drawn; annotations have no ``id`` yet."""

    job: SceneFile
    image: dict[str, Any]
    annotations: list[dict[str, Any]]


def draw_scenes(jobs: Sequence[SceneFile], workers: int | None = None) -> Iterator[Drawn]:
    """Draw pictures, in the order of ``jobs``.

    Args:
        jobs: what to draw.
        workers: processes; ``None`` takes one a core, and none but this one for few pictures.
    """
    wanted = (os.cpu_count() or 1) if workers is None else workers
    processes = min(wanted, -(-len(jobs) // _SHARE))
    if processes < 2:
        yield from map(draw_scene, jobs)
        return
    # Not forked: OpenCV's threads do not come along, and a child that asks them to stop waits for ever.
    with multiprocessing.get_context("spawn").Pool(processes, cv2.setNumThreads, (1,)) as pool:
        yield from pool.imap(draw_scene, jobs, chunksize=16)


def draw_scene(job: SceneFile) -> Drawn:
    """Draw one picture."""
    scene = _world().scene(job.seed, job.config)
    scene.image.save(job.file, quality=_QUALITY, subsampling=0)
    height, width = scene.pixels.shape[:2]
    annotations = [
        {
            "image_id": job.number,
            "category_id": thing.category.id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
            **({"segmentation": encode(thing.mask)} if job.masks else {}),
        }
        for thing in scene.objects
        for x1, y1, x2, y2 in [thing.box]
    ]
    return Drawn(job, {"id": job.number, "file_name": job.file.name, "width": width, "height": height}, annotations)


@cache
def _world() -> World:
    """One a process: glyphs that are drawn stay."""
    return World()
