"""The embedded world: scenes of OpenMoji glyphs with exact masks and bilingual texts, made from a seed.

OpenMoji graphics: https://openmoji.org, CC BY-SA 4.0.
"""

from __future__ import annotations

from fgclip2.data.openmoji.attributes import COLOURS, POSITIONS, SIZES, STYLES, Attributes, Colour, truth
from fgclip2.data.openmoji.catalogue import Category
from fgclip2.data.openmoji.config import SceneConfig, WorldConfig
from fgclip2.data.openmoji.hard_captions import HardCaption
from fgclip2.data.openmoji.scenes import Scene, SceneObject
from fgclip2.data.openmoji.texts import NEAR_KINDS, NEGATIVES, RANDOM_KINDS, Negative
from fgclip2.data.openmoji.world import World
from fgclip2.data.openmoji.writers import write_coco, write_finehard, write_webdataset

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
