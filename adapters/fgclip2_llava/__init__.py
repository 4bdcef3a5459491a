"""FG-CLIP 2 as the vision tower of transformers' ``LlavaForConditionalGeneration``, at every picture's own aspect.

Importing this package makes the tower known to transformers, so that a directory that `save` has written loads with
``LlavaForConditionalGeneration.from_pretrained`` as any other LLaVA does. docs/evaluation.md says how a projector is
trained and how the model answers the paper's question sets.
"""

from __future__ import annotations

from .model import DENSE, Fgclip2Tower, Fgclip2TowerConfig, build, freeze, load, save
from .processing import TEMPLATES, LlavaProcessor, Turns

__all__ = [
    "DENSE",
    "TEMPLATES",
    "Fgclip2Tower",
    "Fgclip2TowerConfig",
    "LlavaProcessor",
    "Turns",
    "build",
    "freeze",
    "load",
    "save",
]
