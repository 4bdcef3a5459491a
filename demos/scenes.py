"""The collection that the page shows when none is given: scenes of the embedded world, made once and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fgclip2.data.openmoji import Scene, SceneConfig, World
from fgclip2.files import write_atomically
from fgclip2.progress import progress as shown
from fgclip2.search.build import build_store
from fgclip2.search.config import BuildConfig
from fgclip2.search.search import Index

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_SIDE: Final = 320  # of a scene, in pixels
_PATCHES: Final = (_SIDE // 16) ** 2


def scene_index(model: FGCLIP2, folder: Path, count: int = 500, *, progress: bool = True) -> Index:
    """An index of scenes that the embedded model was not trained on.

    What is in the folder is used, and a run that was killed goes on.

    Args:
        model: embeds the scenes.
        folder: gets ``COUNT/images``, ``COUNT/scenes.jsonl`` and an index a model.
        count: scenes.
        progress: show bars.
    """
    home = folder / str(count)
    listing = home / "scenes.jsonl"
    if not listing.exists():
        _write(home, listing, count, progress)
    # By their size alone the pictures would be enlarged, to the next of the usual counts of patches.
    store = home / f"index-{model.hash[:12]}-{_PATCHES}"
    build_store(listing, store, model, BuildConfig(max_patches=_PATCHES), progress=progress)
    return Index.open(store, model)


def _write(home: Path, listing: Path, count: int, progress: bool) -> None:
    world, config = World(), SceneConfig(size=_SIDE, objects=(3, 6))
    lines = []
    for seed in shown(range(count), unit="scene", disable=not progress):
        scene = world.scene(seed, config)
        file = home / "images" / f"{seed:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        scene.image.save(file)
        lines.append(json.dumps(_record(scene, f"images/{file.name}"), ensure_ascii=False) + "\n")
    write_atomically(listing, "".join(lines).encode())  # last, so that it says that all pictures are there


def _record(scene: Scene, name: str) -> dict[str, str | int]:
    """Columns to filter by."""
    return {
        "image": name,
        "objects": len(scene.objects),
        "english": ", ".join(thing.phrases["en"] for thing in scene.objects),
        "chinese": "，".join(thing.phrases["zh"] for thing in scene.objects),
    }
