"""One composed picture and everything that is known and said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from fgclip2.data.openmoji import texts
from fgclip2.data.openmoji.attributes import Attributes, Draws, truth
from fgclip2.data.openmoji.catalogue import Category
from fgclip2.data.openmoji.config import SceneConfig
from fgclip2.data.openmoji.contrasts import Contrast, picture_contrasts
from fgclip2.data.openmoji.grammar import Text
from fgclip2.data.openmoji.hard_captions import HardCaption, hard_caption
from fgclip2.data.openmoji.texts import Lexicon, Negative


@dataclass(slots=True, eq=False)
class SceneObject:
    """One thing in a scene.

    Box and mask hold the whole thing: the glyph and, where there is one, the badge behind it. `glyph_mask` is the glyph
    alone.

    Attributes:
        category: what it is.
        style: `"plain"`, `"badge"` or `"tint"`.
        colour: index into `COLOURS`; None for plain.
        natural: indices of the colours that the untinted glyph has by nature.
        size: `"small"` / `"large"` when it shows next to the others, else None.
        scale: longest side before rotation as a share of the picture's shorter side.
        centre: (x, y) of the drawn thing, 0..1 of width and height.
        box: (x1, y1, x2, y2) in pixels, x2 and y2 exclusive, tight around the visible mask.
        visible: share of its pixels that no other object hides.
        attributes: what its phrase says.
        phrases: `{"en": ..., "zh": ...}`, the region phrase.
        negatives: 10 false phrases by language; `negative_kinds[k]` says how the k-th was made, the same in both.
        negative_attributes: what each negative says; with `Scene.true_of` it shows for which other region it is true.
    """

    category: Category
    style: str
    colour: int | None
    scale: float
    centre: tuple[float, float]
    index: int
    labels: np.ndarray = field(repr=False)
    natural: frozenset[int] = frozenset()
    size: str | None = None
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    visible: float = 1.0
    attributes: Attributes = field(default_factory=lambda: Attributes(0))
    phrases: dict[str, str] = field(default_factory=dict)
    negatives: dict[str, list[str]] = field(default_factory=dict)
    negative_kinds: list[str] = field(default_factory=list)
    negative_attributes: list[Attributes] = field(default_factory=list)

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, the visible part."""
        return (self.labels + 1) >> 1 == self.index + 1

    @property
    def glyph_mask(self) -> np.ndarray:
        """(H, W) bool, the visible part of the glyph without its badge."""
        return self.labels == 2 * self.index + 2

    @property
    def names(self) -> dict[str, str]:
        """Category names by language."""
        return {"en": self.category.name_en, "zh": self.category.name_zh}

    @property
    def key(self) -> Attributes:
        """Everything true of it that a phrase can say apart from position: a canonical tuple."""
        return self.shown(size=True)

    def shown(self, size: bool = False) -> Attributes:
        """Attributes with style and colour, and with size when asked for and visible."""
        style = None if self.style == "plain" else self.style
        return Attributes(self.category.id, style, self.colour, self.size if size else None, None)

    def labelled_negatives(self, language: str) -> list[Negative]:
        """The negatives of one language (`"en"` or `"zh"`) with their kinds."""
        return [Negative(k, t) for k, t in zip(self.negative_kinds, self.negatives[language], strict=True)]


@dataclass(eq=False)
class Scene:
    """A picture and all that is known about it.

    Attributes:
        seed: the seed it was asked with.
        config: the configuration it was asked with.
        pixels: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8; 0 ground, 2k+1 the badge and 2k+2 the glyph of object k, as visible.
        objects: the things, in drawing order (later ones lie on top).
        ground: index into `compose.GROUNDS`.
    """

    seed: int
    config: SceneConfig
    pixels: np.ndarray
    labels: np.ndarray
    objects: list[SceneObject]
    ground: int
    lexicon: Lexicon = field(repr=False)
    entropy: tuple[int, ...] = field(repr=False)

    @cached_property
    def image(self) -> Image.Image:
        """The picture as PIL RGB."""
        return Image.fromarray(self.pixels)

    @cached_property
    def short(self) -> dict[str, list[str]]:
        """Four short captions by language, aligned: attributes, counts, a relation, number and ground."""
        return by_language(texts.short_captions(self.objects, self.ground, Draws(*self.entropy, 1)))

    @cached_property
    def hard_caption(self) -> HardCaption:
        """A short caption with exact counts and, where one holds, a relation; and 10 captions that are false."""
        draws = Draws(*self.entropy, 3)
        return hard_caption(self.objects, self.config.negatives, draws, self.lexicon)

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Sets of short texts about the picture that differ in one fact."""
        return picture_contrasts(self.objects, Draws(*self.entropy, 4), self.lexicon)

    @cached_property
    def long(self) -> dict[str, str]:
        """One long caption by language: at least 60 English words, 100 Chinese characters."""
        text = texts.long_caption(self.objects, self.ground, Draws(*self.entropy, 2), self.lexicon)
        return {"en": text.en, "zh": text.zh}

    def true_of(self, said: Attributes) -> list[bool | None]:
        """Is a phrase with these attributes true of each object? None: debatable, so no negative either."""
        return [truth(said, thing) for thing in self.objects]


def by_language(items: Sequence[Text]) -> dict[str, list[str]]:
    """Texts as one list a language, index-aligned."""
    return {"en": [t.en for t in items], "zh": [t.zh for t in items]}
