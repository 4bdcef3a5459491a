"""Boxes of annotations: into pixels inside their image, and which unit is suspected where most do not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from fgclip2.data.coco.problems import Problems, Repairs
from fgclip2.data.coco.values import CocoImage

ROUNDING: Final = 1.0
"""Pixels that a box may lie outside its picture; annotation tools round, so this much is clipped without a word."""

_FAR: Final = 0.1  # share of the image's side; farther out is no slip of a hand
_FORM: Final = "[x, y, width, height] in pixels are wanted"


class Boxes:
    """Reads the boxes of one file, one after the other, and then judges them together.

    Boxes that leave their image are clipped and counted. They are refused where most leave it by a tenth of its side,
    or where one lies wholly outside by that much: then the numbers are of another form or of another image.
    Boxes of numbers within 0..1 are refused where most are: they look like shares of the image.
    """

    def __init__(self, problems: Problems, repairs: Repairs) -> None:
        self._problems, self._repairs = problems, repairs
        self._count = self._corners = 0
        self._far: list[str] = []
        self._lost: list[str] = []
        self._shares: list[str] = []
        self._left: dict[int, float] = {}
        self._empty: list[int] = []

    @property
    def empty(self) -> int:
        """How many boxes without area were left out."""
        return len(self._empty)

    def pixels(self, number: int, bbox: Any, image: CocoImage) -> tuple[float, float, float, float] | None:
        """``[x, y, width, height]`` as (x1, y1, x2, y2) inside the image; ``None`` for one that cannot be used.

        Args:
            number: the annotation's id.
            bbox: as in the file.
            image: the image that the box is in.
        """
        given = bbox if isinstance(bbox, list) else [bbox]
        numbers = [value for value in given if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if len(given) != 4 or len(numbers) != 4 or not all(map(_finite, numbers)):
            self._problems.add(
                "box that is not four finite numbers [x, y, width, height]", f"annotation {number} has {bbox!r:.60}"
            )
            return None
        x, y, width, height = numbers
        if width < 0 or height < 0:
            self._problems.add("box of negative width or height", f"annotation {number} has {bbox}")
            return None
        self._count += 1
        label = f"annotation {number} has {bbox} in the {image.width} x {image.height} picture {image.file_name!r}"
        self._look(number, numbers, image, label)
        x1, y1 = max(x, 0), max(y, 0)
        x2, y2 = min(x + width, image.width), min(y + height, image.height)
        if x1 >= x2 or y1 >= y2:
            self._empty.append(number)
            return None
        return float(x1), float(y1), float(x2), float(y2)

    def _look(self, number: int, numbers: Sequence[float], image: CocoImage, label: str) -> None:
        x, y, width, height = numbers
        least = max(ROUNDING, _FAR * max(image.width, image.height))
        out = max(-x, -y, x + width - image.width, y + height - image.height)
        if out > ROUNDING:
            self._left[number] = out
        if out > least:
            self._far.append(label)
        if max(x - image.width, y - image.height, -(x + width), -(y + height)) > least:
            self._lost.append(label)
        if max(numbers) <= 1 and max(image.width, image.height) > 2:
            self._shares.append(label)
        # Corners read as a size are never less than the corner, and end inside the image.
        self._corners += x <= width <= image.width + ROUNDING and y <= height <= image.height + ROUNDING

    def judge(self) -> None:
        """Say what the boxes of the file have in common, once all of them are read."""
        corners = self._corners == self._count
        hint = "these look like corners x1, y1, x2, y2" if corners else _FORM
        if 2 * len(self._shares) > self._count:
            for label in self._shares:
                self._problems.add(f"box within 0..1, which looks like shares of the image ({_FORM})", label)
        elif 2 * len(self._far) > self._count or (corners and self._count >= 4 and self._far):
            for label in self._far:
                self._problems.add(f"box outside its picture ({hint})", label)
        elif self._lost:
            for label in self._lost:
                self._problems.add(f"box wholly outside its picture ({hint})", label)
        else:
            for number, out in self._left.items():
                self._repairs.add("boxes leave their image and are clipped (by so many pixels)", f"{number} ({out:g})")
            for label in self._shares:
                self._repairs.add("boxes within 0..1 are smaller than a pixel; are they shares of the image?", label)
        for number in self._empty:
            self._repairs.add("annotations without area are left out", number)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
