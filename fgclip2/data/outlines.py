"""Outlines and run lengths of COCO files, checked before pycocotools sees them: some that are invalid end the process.

Polygons are flat lists of x and y in pixels, as https://cocodataset.org/#format-data has them, or lists of such lists.
Lists of pairs, as other tools write them, are taken too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from fgclip2.errors import Fgclip2Error

Polygon: TypeAlias = list[float]
"""x1, y1, x2, y2, ... in pixels; three points or more."""

_LEAST: Final = 6  # numbers of a polygon, as detectron2 wants them
_DIGIT: Final = 48  # of the first of the 64 characters that compressed run lengths are written in
_WORST: Final = 13  # characters of a run; more would be over 2^62 pixels


def checked_outline(given: Any, width: int, height: int) -> tuple[list[Polygon] | dict[str, Any], int]:
    """What an annotation's ``segmentation`` says, in the form that pycocotools takes.

    Args:
        given: polygons or run lengths, as in the file.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        Polygons, or run lengths with ``size`` and ``counts``; and how many polygons were left out, since they have
        fewer than three points or an odd count of numbers.

    Raises:
        Fgclip2Error: nothing is usable; the text says why, without the annotation's id.
    """
    if not given:
        raise Fgclip2Error("there is no 'segmentation'")
    if isinstance(given, dict):
        return _checked_runs(given, width, height), 0
    if not isinstance(given, list):
        raise Fgclip2Error(f"'segmentation' is {type(given).__name__}; give polygons or run lengths")
    pieces = _pieces(given)
    usable = [piece for piece in pieces if len(piece) >= _LEAST and len(piece) % 2 == 0]
    if not usable:
        longest = max(pieces, key=len, default=[])
        raise Fgclip2Error(
            f"its outline has {len(longest)} numbers; a polygon has x and y of three points or more, an even count"
        )
    for piece in usable:
        _check_extent(piece, width, height)
    return usable, len(pieces) - len(usable)


def outline_box(given: Any, width: int, height: int) -> tuple[float, float, float, float] | None:
    """The box x1, y1, x2, y2 around an outline, in pixels; without area around an empty mask.

    Args:
        given: polygons or run lengths, as in the file.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        ``None`` where the outline cannot be used, see `checked_outline`.
    """
    try:
        outline, _ = checked_outline(given, width, height)
    except Fgclip2Error:
        return None
    if isinstance(outline, list):
        corners = np.concatenate([np.asarray(piece).reshape(-1, 2) for piece in outline])
        (x1, y1), (x2, y2) = corners.min(0), corners.max(0)
        return float(x1), float(y1), float(x2), float(y2)
    counts = outline["counts"]
    runs = _decoded(counts) if isinstance(counts, str) else counts
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height)  # column by column
    columns, rows = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(columns):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _pieces(given: list[Any]) -> list[Polygon]:
    """Polygons of any nesting: numbers, pairs of numbers, lists of either."""
    if all(map(_is_number, given)):
        return [[_float(value) for value in given]]
    if all(isinstance(item, list) for item in given):
        if given and all(len(item) == 2 and all(map(_is_number, item)) for item in given):
            return [[_float(value) for pair in given for value in pair]]  # points of one polygon
        return [piece for item in given for piece in _pieces(item)]
    raise Fgclip2Error("its outline mixes numbers and lists, or has values that are no numbers")


def _float(value: float) -> float:
    """As a float; a whole number beyond every float is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_extent(piece: Polygon, width: int, height: int) -> None:
    if not all(map(math.isfinite, piece)):
        raise Fgclip2Error("its outline has numbers that are not finite")
    for values, side in ((piece[::2], width), (piece[1::2], height)):
        # What sticks out a little is cut off when it is painted; far outside it would take the machine's memory.
        if min(values) < -side or max(values) > 2 * side:
            raise Fgclip2Error(
                f"its outline reaches from {min(values):g} to {max(values):g} where the image ends at {side}"
            )


def looks_normalized(pieces: Sequence[Polygon] | dict[str, Any], box: Sequence[float]) -> bool:
    """Whether an outline lies within one pixel and its box does not: coordinates in shares of the image."""
    if isinstance(pieces, dict) or not pieces:
        return False
    greatest = max(max(piece) for piece in pieces)
    return greatest <= 1 and max(box) > 1


def _checked_runs(given: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    size, counts = given.get("size"), given.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
        raise Fgclip2Error("its run lengths have no 'size' [height, width]")
    if size != [height, width]:
        raise Fgclip2Error(
            f"its mask is {size[1]} x {size[0]} pixels, its picture {width} x {height}; they must be of one size "
            "(a picture's EXIF rotation is applied)"
        )
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", "replace")
    if isinstance(counts, list):
        runs = [value for value in counts if type(value) is int and value >= 0]
        if len(runs) != len(counts):
            raise Fgclip2Error("its run lengths are no whole numbers from 0")
    elif isinstance(counts, str):
        runs = _decoded(counts)
    else:
        raise Fgclip2Error("its run lengths have no 'counts'")
    if sum(runs) != width * height:
        raise Fgclip2Error(f"its run lengths have {sum(runs):,} pixels in all, the image has {width * height:,}")
    return {"size": size, "counts": counts}


def _decoded(text: str) -> list[int]:
    """Compressed run lengths as numbers: five bits a character, lowest first, from the third on as differences."""
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            digit = ord(text[place]) - _DIGIT if place < len(text) else -1
            if not 0 <= digit < 64 or shift >= 5 * _WORST:
                raise Fgclip2Error("its compressed run lengths are damaged")
            value |= (digit & 31) << shift
            more, shift, place = bool(digit & 32), shift + 5, place + 1
        if digit & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            raise Fgclip2Error("its compressed run lengths are damaged")
        runs.append(value)
    return runs
