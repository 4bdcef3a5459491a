"""How the embedded world and its scenes are configured."""

from __future__ import annotations

from dataclasses import dataclass

from fgclip2.errors import Fgclip2Error


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """What belongs to the world itself.

    Attributes:
        seed: changes every scene and the withheld pairs.
        withheld_fraction: share of (colour, category) pairs that scenes with `withheld="exclude"` never show or say.
        cached_glyphs: how many drawn glyphs stay in memory (about 150 kB each).
    """

    seed: int = 0
    withheld_fraction: float = 0.1
    cached_glyphs: int = 2048


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """How scenes look and what is said about them.

    Attributes:
        size: side in pixels, or (width, height).
        objects: least and most objects a scene.
        scale: shortest and longest object, as a share of the picture's shorter side (before rotation).
        styles: weights of plain glyph, glyph on a coloured badge, tinted glyph.
        rotation: largest turn in degrees, either way.
        repeat: chance that one category appears two or three times.
        min_visible: least visible share of every object (and of a glyph on its badge) after occlusion.
        withheld: `"exclude"` withheld (colour, category) pairs, show `"only"` them, or `"any"`.
        negatives: `"mixed"`, `"random"` swaps only or `"near"` swaps only.
        category_ids: draw objects (and, from 12 on, the categories mentioned in texts) from these only; None: all.
    """

    size: int | tuple[int, int] = 320
    objects: tuple[int, int] = (4, 8)
    scale: tuple[float, float] = (0.14, 0.40)
    styles: tuple[float, float, float] = (0.4, 0.4, 0.2)
    rotation: float = 20.0
    repeat: float = 0.3
    min_visible: float = 0.5
    withheld: str = "exclude"
    negatives: str = "mixed"
    category_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.objects[0] <= self.objects[1] <= 60:
            raise Fgclip2Error(f"SceneConfig.objects={self.objects}: give (least, most) with 1 <= least <= most <= 60")
        if min(self.shape) < 16:
            raise Fgclip2Error(f"SceneConfig.size={self.size}: give at least 16 pixels a side")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise Fgclip2Error(f"SceneConfig.scale={self.scale}: give (least, most) with 0 < least <= most <= 1")
        if self.withheld not in ("exclude", "only", "any"):
            raise Fgclip2Error(f"SceneConfig.withheld={self.withheld!r}: choose 'exclude', 'only' or 'any'")
        if self.negatives not in ("mixed", "random", "near"):
            raise Fgclip2Error(f"SceneConfig.negatives={self.negatives!r}: choose 'mixed', 'random' or 'near'")
        if len(self.styles) != 3 or min(self.styles) < 0 or sum(self.styles) <= 0:
            raise Fgclip2Error(f"SceneConfig.styles={self.styles}: give three weights (plain, badge, tint), not all 0")

    @property
    def shape(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)
