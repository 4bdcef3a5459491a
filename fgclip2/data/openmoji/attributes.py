"""What a phrase can say of an object, and whether it is true: colours, sizes, positions, and the three-valued test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fgclip2.data.openmoji.scenes import SceneObject


@dataclass(frozen=True, slots=True)
class Colour:
    """A named colour; `rgb` 0..255; `near` are the indices of the colours next to it in look."""

    en: str
    zh: str
    rgb: tuple[int, int, int]
    near: tuple[int, ...]


COLOURS: tuple[Colour, ...] = (
    Colour("red", "红色", (216, 30, 36), (1, 7)),
    Colour("orange", "橙色", (248, 136, 16), (0, 2, 8)),
    Colour("yellow", "黄色", (250, 222, 40), (1, 3)),
    Colour("green", "绿色", (40, 160, 60), (2, 4)),
    Colour("cyan", "青色", (50, 208, 216), (3, 5)),
    Colour("blue", "蓝色", (36, 84, 220), (4, 6)),
    Colour("purple", "紫色", (128, 48, 184), (5, 7)),
    Colour("pink", "粉色", (252, 146, 190), (0, 6)),
    Colour("brown", "棕色", (122, 74, 36), (1, 0)),
)

STYLES: tuple[str, ...] = ("plain", "badge", "tint")
SIZES: tuple[str, ...] = ("small", "large")
POSITIONS: tuple[str, ...] = ("left", "right", "top", "bottom", "centre")
OPPOSITE: dict[str, str] = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What one phrase says. `None` means: not said.

    Attributes:
        category: category id.
        style: `"plain"` never appears in a phrase; `"badge"` and `"tint"` come with a colour.
        colour: index into `COLOURS`.
        size: `"small"` or `"large"`.
        position: one of `POSITIONS`.
    """

    category: int
    style: str | None = None
    colour: int | None = None
    size: str | None = None
    position: str | None = None


def truth(said: Attributes, thing: SceneObject) -> bool | None:
    """Is the phrase true of the object? True, False, or None where people could disagree (treat as true when masking).

    Sizes are true when `SceneObject.size` says so and false when it says the opposite; in between they are None.
    A tint of a thing that is not tinted is None when the glyph has that colour by nature (a red tomato).
    Positions are true in the outer 36 % of the picture (centre: the middle 24 %), false beyond the middle.
    """
    if said.category != thing.category.id:
        return False
    verdict: bool | None = True
    if said.style is not None and (said.style != thing.style or said.colour != thing.colour):
        if said.style != "tint" or thing.style == "tint" or said.colour not in thing.natural:
            return False
        verdict = None
    if said.size is not None and said.size != thing.size:
        if thing.size is not None:
            return False
        verdict = None
    if said.position is not None:
        placed = place_truth(said.position, *thing.centre)
        if placed is False:
            return False
        if placed is None:
            verdict = None
    return verdict


def place_truth(position: str, x: float, y: float) -> bool | None:
    """Is a point (0..1 from the left and from the top) at `position`? None in the doubtful zone."""
    if position == "centre":
        far = max(abs(x - 0.5), abs(y - 0.5))
        return True if far <= 0.12 else (None if far < 0.2 else False)
    along = {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}[position]
    return True if along <= 0.36 else (None if along < 0.5 else False)


class Draws:
    """Uniform numbers from one PCG64 stream, drawn in blocks: cheap scalars, the same on every machine."""

    def __init__(self, *entropy: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
        self._numbers: Iterator[float] = iter(())

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        for number in self._numbers:
            return number
        self._numbers = iter(self._rng.random(256).tolist())
        return next(self._numbers)

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def below(self, n: int) -> int:
        """Integer in 0..n-1."""
        return int(self.unit() * n)

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.unit() < p

    def shuffled(self, items: list) -> list:
        """A shuffled copy (Fisher-Yates)."""
        out = list(items)
        for k in range(len(out) - 1, 0, -1):
            j = self.below(k + 1)
            out[k], out[j] = out[j], out[k]
        return out

    def some(self, items: list, k: int) -> list:
        """k different items (all, shuffled, when there are fewer)."""
        out = list(items)
        k = min(k, len(out))
        for i in range(k):
            j = i + self.below(len(out) - i)
            out[i], out[j] = out[j], out[i]
        return out[:k]
