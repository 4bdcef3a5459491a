"""The embedded world: scenes of OpenMoji glyphs with exact masks and bilingual texts, made from a seed.

OpenMoji graphics: https://openmoji.org, CC BY-SA 4.0.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from fgclip2.extras import extras

if TYPE_CHECKING:
    from fgclip2.data.openmoji.attributes import COLOURS, POSITIONS, SIZES, STYLES, Attributes, Colour, truth
    from fgclip2.data.openmoji.catalogue import Category
    from fgclip2.data.openmoji.config import SceneConfig, WorldConfig
    from fgclip2.data.openmoji.hard_captions import HardCaption
    from fgclip2.data.openmoji.scenes import Scene, SceneObject
    from fgclip2.data.openmoji.texts import NEAR_KINDS, NEGATIVES, RANDOM_KINDS, Negative
    from fgclip2.data.openmoji.world import World
    from fgclip2.data.openmoji.writers import write_coco, write_finehard, write_webdataset

# Imported when first used: tables of names need none of the packages that draw scenes.
_HOME: Final = {
    "COLOURS": "attributes",
    "POSITIONS": "attributes",
    "SIZES": "attributes",
    "STYLES": "attributes",
    "Attributes": "attributes",
    "Colour": "attributes",
    "truth": "attributes",
    "Category": "catalogue",
    "SceneConfig": "config",
    "WorldConfig": "config",
    "HardCaption": "hard_captions",
    "Scene": "scenes",
    "SceneObject": "scenes",
    "NEAR_KINDS": "texts",
    "NEGATIVES": "texts",
    "RANDOM_KINDS": "texts",
    "Negative": "texts",
    "World": "world",
    "write_coco": "writers",
    "write_finehard": "writers",
    "write_webdataset": "writers",
}

__all__ = [
    "COLOURS",
    "NEAR_KINDS",
    "NEGATIVES",
    "POSITIONS",
    "RANDOM_KINDS",
    "SIZES",
    "STYLES",
    "Attributes",
    "Category",
    "Colour",
    "HardCaption",
    "Negative",
    "Scene",
    "SceneConfig",
    "SceneObject",
    "World",
    "WorldConfig",
    "truth",
    "write_coco",
    "write_finehard",
    "write_webdataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with extras("scenes"):
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
