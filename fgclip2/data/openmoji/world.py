"""The embedded world: all categories, the rules of what may appear, and scenes composed from a seed."""

from __future__ import annotations

import cv2
import numpy as np

from fgclip2.data.openmoji import compose, grammar, texts
from fgclip2.data.openmoji.attributes import COLOURS, STYLES, Draws
from fgclip2.data.openmoji.catalogue import Category, catalogue
from fgclip2.data.openmoji.config import SceneConfig, WorldConfig
from fgclip2.data.openmoji.glyphs import GlyphStore
from fgclip2.data.openmoji.scenes import Scene, SceneObject, by_language
from fgclip2.data.openmoji.texts import Lexicon
from fgclip2.errors import Fgclip2Error

_LAYOUT, _PIXELS, _TEXTS, _WITHHELD, _SPLIT = range(5)  # names of the random streams: append, never renumber
_SMALL, _MIDDLE, _LARGE = (0.0, 0.22), (0.4, 0.6), (0.78, 1.0)  # where in the range of scales the three sizes lie
_CONTRAST = 1.5
_TRIES = 40
_LEAST_POOL = 12  # with fewer categories ten different false phrases cannot be made from them alone


class World:
    """All categories, the rules, and scenes by seed. Cheap to make; glyphs are drawn on first use."""

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self.categories: tuple[Category, ...] = catalogue()
        self.glyphs = GlyphStore(self.config.cached_glyphs)
        self.withheld = self._withheld_pairs()
        self._lexicons: dict[tuple[tuple[int, ...] | None, str], Lexicon] = {}

    def _withheld_pairs(self) -> frozenset[tuple[int, int]]:
        """(colour index, category id) pairs, drawn without replacement from all pairs."""
        total = len(COLOURS) * len(self.categories)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.config.seed, _WITHHELD])))
        chosen = rng.permutation(total)[: round(total * self.config.withheld_fraction)]
        return frozenset((int(k) % len(COLOURS), int(k) // len(COLOURS)) for k in chosen)

    def split(self, novel_fraction: float = 0.25, seed: int = 0) -> tuple[list[int], list[int]]:
        """Category ids divided at random into (base, novel), each sorted; the novel share is rounded.

        Raises:
            Fgclip2Error: `novel_fraction` is not in 0..1.
        """
        if not 0 <= novel_fraction <= 1:
            raise Fgclip2Error(f"novel_fraction={novel_fraction}: give a share between 0 and 1")
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.config.seed, _SPLIT, seed])))
        order = rng.permutation(len(self.categories)).tolist()
        cut = round(len(order) * novel_fraction)
        return sorted(order[cut:]), sorted(order[:cut])

    def object_crop(self, seed: int, size: int = 64, withheld: str = "exclude") -> Scene:
        """A picture filled by one object: the easiest step of a training curriculum."""
        return self.scene(seed, SceneConfig(size=size, objects=(1, 1), scale=(0.7, 1.0), repeat=0.0, withheld=withheld))

    def scene(self, seed: int, config: SceneConfig | None = None) -> Scene:
        """The scene of a seed: the same world, seed and config give the same pixels, boxes and texts.

        Args:
            seed: any integer >= 0.
            config: how it looks.

        Raises:
            Fgclip2Error: a negative seed or a configuration that cannot be met.
        """
        config = config or SceneConfig()
        if seed < 0:
            raise Fgclip2Error(f"seed={seed}: give an integer from 0 on")
        lexicon = self._lexicon(config)
        layout, pixels = Draws(self.config.seed, seed, _LAYOUT), Draws(self.config.seed, seed, _PIXELS)
        width, height = config.shape
        kind = pixels.below(len(compose.GROUNDS))
        picture = compose.ground(kind, width, height, pixels)
        labels = np.zeros((height, width), np.uint8)
        objects = self._place(config, picture, labels, layout)
        _measure(objects, labels)
        _state_sizes(objects, config)
        entropy = (self.config.seed, seed, _TEXTS)
        self._say(objects, config, Draws(*entropy, 0), lexicon)
        return Scene(seed, config, picture, labels, objects, kind, lexicon, entropy)

    def _lexicon(self, config: SceneConfig) -> Lexicon:
        key = (config.category_ids, config.withheld)
        found = self._lexicons.get(key)
        if found is None:
            ids = config.category_ids
            if ids is not None and (not ids or min(ids) < 0 or max(ids) >= len(self.categories)):
                raise Fgclip2Error(f"SceneConfig.category_ids: give ids between 0 and {len(self.categories) - 1}")
            pool = tuple(range(len(self.categories)))
            if ids is not None and len(set(ids)) >= _LEAST_POOL:
                pool = tuple(sorted(set(ids)))
            groups: dict[str, list[int]] = {}
            for category in self.categories:
                groups.setdefault(category.group, []).append(category.id)
            banned = self.withheld if config.withheld == "exclude" else frozenset()
            found = Lexicon(self.categories, pool, groups, banned)
            self._lexicons[key] = found
        return found

    def _wanted(self, config: SceneConfig, draws: Draws) -> list[tuple[int, str, int | None]]:
        """Categories, styles and colours of a scene's objects."""
        pool = list(config.category_ids) if config.category_ids is not None else list(range(len(self.categories)))
        if config.withheld == "only":
            some = {c for _, c in self.withheld}
            pool = [c for c in pool if c in some]
            if not pool:
                raise Fgclip2Error("withheld='only': none of these categories has a withheld colour")
        low, high = config.objects
        number = low + draws.below(high - low + 1)
        if len(pool) >= number:
            chosen = draws.some(pool, number)
        else:
            chosen = [pool[draws.below(len(pool))] for _ in range(number)]
        if number >= 2 and draws.chance(config.repeat) and self.categories[chosen[0]].countable:
            for k in range(1, min(number, 2 + draws.below(2))):
                chosen[k] = chosen[0]
        return [(c, *self._style(c, config, draws)) for c in chosen]

    def _style(self, category: int, config: SceneConfig, draws: Draws) -> tuple[str, int | None]:
        held = [c for c in range(len(COLOURS)) if (c, category) in self.withheld]
        weights = (0.0, *config.styles[1:]) if config.withheld == "only" else config.styles
        if sum(weights) <= 0:
            raise Fgclip2Error("withheld='only' needs a style with colour: give 'badge' or 'tint' a weight")
        mark, style = draws.unit() * sum(weights), STYLES[-1]
        for name, weight in zip(STYLES, weights, strict=True):
            if mark < weight:
                style = name
                break
            mark -= weight
        free = {"exclude": [c for c in range(len(COLOURS)) if c not in held], "only": held}.get(
            config.withheld, list(range(len(COLOURS)))
        )
        pick = draws.unit()
        if style == "tint":
            natural = self.glyphs.glyph(self.categories[category]).colours
            free = [c for c in free if c not in natural] or free
        if style == "plain" or not free:
            return "plain", None
        return style, free[int(pick * len(free))]

    def _place(self, config: SceneConfig, picture: np.ndarray, labels: np.ndarray, draws: Draws) -> list[SceneObject]:
        """Draw the objects one after another, each where it hides no earlier one too far."""
        height, width = labels.shape
        side = min(width, height)
        full: list[tuple[int, int]] = []
        objects: list[SceneObject] = []
        shown: np.ndarray = np.zeros(256, np.int64)
        for category_id, style, colour in self._wanted(config, draws):
            category = self.categories[category_id]
            band = (_SMALL, _MIDDLE, _LARGE)[draws.below(3)]
            scale = config.scale[0] + (config.scale[1] - config.scale[0]) * draws.between(*band)
            angle, flip = draws.between(-config.rotation, config.rotation), draws.chance(0.5)
            shape, rim = compose.BADGES[draws.below(2)], draws.chance(0.5)
            drawn = self.glyphs.glyph(category)
            crowded = draws.chance(0.3)
            for attempt in range(_TRIES):
                if attempt and attempt % 8 == 0:
                    scale *= 0.85
                if attempt % 8 == 0:
                    paint, cover, whole, glyph = compose.sprite(
                        drawn, scale * side, angle, flip, style, colour, shape, rim
                    )
                    if paint.shape[0] > height or paint.shape[1] > width:
                        scale *= min(height / (paint.shape[0] + 1), width / (paint.shape[1] + 1))
                        paint, cover, whole, glyph = compose.sprite(
                            drawn, scale * side, angle, flip, style, colour, shape, rim
                        )
                h, w = cover.shape
                x, y = draws.below(max(1, width - w + 1)), draws.below(max(1, height - h + 1))
                under = labels[y : y + h, x : x + w]
                if under.shape != cover.shape:
                    continue
                hidden = np.bincount(under[whole], minlength=256)
                left = shown - hidden
                least = config.min_visible if crowded or attempt >= _TRIES // 2 else max(config.min_visible, 0.93)
                if whole.any() and all(
                    left[2 * k + 1] + left[2 * k + 2] >= least * total and left[2 * k + 2] >= least * inner
                    for k, (total, inner) in enumerate(full)
                ):
                    break
            else:
                continue
            k = len(objects)
            compose.blend(picture[y : y + h, x : x + w], paint, cover)
            under[whole] = 2 * k + 1
            under[glyph] = 2 * k + 2
            inner, total = int(glyph.sum()), int((whole | glyph).sum())
            shown = left
            shown[2 * k + 1], shown[2 * k + 2] = total - inner, inner
            full.append((total, inner))
            centre = ((x + w / 2) / width, (y + h / 2) / height)
            objects.append(SceneObject(category, style, colour, scale, centre, k, labels, drawn.colours))
        for thing, (total, _) in zip(objects, full, strict=True):
            thing.visible = float(shown[2 * thing.index + 1] + shown[2 * thing.index + 2]) / total
        return objects

    def _say(self, objects: list[SceneObject], config: SceneConfig, draws: Draws, lexicon: Lexicon) -> None:
        for thing in objects:
            form = draws.below(grammar.FORMS)
            said = texts.describe(thing, draws, lexicon, len(objects) > 1)
            found = texts.hard_negatives(thing, said, form, config.negatives, draws, lexicon)
            text = grammar.phrase(said, thing.category, form)
            thing.attributes, thing.phrases = said, {"en": text.en, "zh": text.zh}
            thing.negatives = by_language([t for _, _, t in found])
            thing.negative_kinds = [k for k, _, _ in found]
            thing.negative_attributes = [a for _, a, _ in found]


def _measure(objects: list[SceneObject], labels: np.ndarray) -> None:
    owner = (labels + 1) >> 1
    for thing in objects:
        x, y, w, h = cv2.boundingRect((owner == thing.index + 1).view(np.uint8))
        thing.box = (float(x), float(y), float(x + w), float(y + h))


def _state_sizes(objects: list[SceneObject], config: SceneConfig) -> None:
    """A size is stated where the scale is at its end of the range and another object is clearly at the other side."""
    low, high = config.scale
    scales = [thing.scale for thing in objects]
    for thing in objects:
        share = (thing.scale - low) / (high - low) if high > low else 0.5
        if share <= 0.3 and max(scales) >= _CONTRAST * thing.scale:
            thing.size = "small"
        elif share >= 0.7 and min(scales) <= thing.scale / _CONTRAST:
            thing.size = "large"
