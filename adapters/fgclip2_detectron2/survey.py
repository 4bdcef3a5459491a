"""What the masks of a data set show, before anything is trained: pixels of each class, and what counts nowhere."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.progress import progress

from .masks import MaskFormat, read_values
from .pairing import few

_TURNED: Final = (5, 6, 7, 8)  # EXIF orientations that lie on their side
_ORIENTATION: Final = 0x0112
_THREADS: Final = 8


@dataclass(frozen=True)
class Survey:
    """Counts over all masks of a set.

    Attributes:
        masks: how many were read.
        values: pixels by value.
        files: masks in which a value occurs, by value.
        notes: what a user may not expect of the files, a line each.
    """

    masks: int
    values: Mapping[int, int]
    files: Mapping[int, int]
    notes: tuple[str, ...] = ()

    def unshown(self, form: MaskFormat) -> list[int]:
        """Labels of the classes that have no pixel."""
        return [label for label, value in enumerate(form.values) if not self.values.get(value)]


@dataclass(frozen=True)
class _Seen:
    values: dict[int, int]
    palette: dict[int, tuple[int, ...]]  # colour of each value that occurs, of palette images
    exif: bool  # the image is turned or mirrored, and its size does not tell whether the mask is too
    problem: Fgclip2Error | None = None


def survey(records: Sequence[Mapping[str, Any]], form: MaskFormat, what: str) -> Survey:
    """Read every mask of a set; two threads take a second for some 500 masks of VOC's size.

    Args:
        records: of `pair_masks`.
        form: what values mean.
        what: name of the set, for messages.

    Raises:
        Fgclip2Error: masks that cannot be used, the first named and the others counted; or no pixel has a class.
    """

    def look(record: Mapping[str, Any]) -> _Seen:
        try:
            return _look(record, form)
        except Fgclip2Error as error:
            return _Seen({}, {}, False, error)

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        bar = progress(pool.map(look, records), desc=f"masks of {what}", total=len(records), unit="mask", leave=False)
        seen = list(bar)
    problems = [item.problem for item in seen if item.problem is not None]
    if problems:
        more = f" ({len(problems)} of the {len(records)} masks of {what} cannot be used)" if len(problems) > 1 else ""
        raise Fgclip2Error(f"{problems[0]}{more}") from problems[0]
    values: Counter[int] = Counter()
    files: Counter[int] = Counter()
    for item in seen:
        values.update(item.values)
        files.update(item.values.keys())
    notes = [*_turned(records, seen, what), *_repainted(records, seen, what)]
    found = Survey(len(records), values, files, tuple(notes))
    if len(found.unshown(form)) == len(form.values):
        raise Fgclip2Error(f"no mask of {what} shows a class: {_ignored(found, form) or 'all is background'}")
    return found


def describe(
    found: Survey, names: Sequence[str], form: MaskFormat, what: str, effect: str, stated: bool = False
) -> list[str]:
    """Lines on classes without a pixel, and on values that are ignored.

    Args:
        found: of `survey`.
        names: class names in label order.
        form: what values mean.
        what: name of the set.
        effect: what follows for a class without a pixel.
        stated: the user has said which values are ignored, and need not be told.
    """
    unshown = found.unshown(form)
    ignored = _ignored(found, form)
    if not unshown:
        return [*found.notes, *([f"{what}: {ignored}"] if ignored and not stated else [])]
    described = [f"{names[label]} (value {form.values[label]})" for label in unshown]
    line = f"{what}: {len(unshown)} of {len(names)} classes have no pixel and {effect}: {few(described)}"
    return [*found.notes, line, *([f"{what}: {ignored}"] if ignored else [])]


def _ignored(found: Survey, form: MaskFormat) -> str:
    """What is read as "ignore", and which setting changes that; empty where nothing is."""
    named = {*form.values, *(() if form.background is None else (form.background,))}
    ignored = sorted(value for value, pixels in found.values.items() if pixels and value not in named)
    if not ignored:
        return ""
    total = sum(found.values.values())
    parts = [
        f'value {value} is read as "ignore" ({found.files[value]} of {found.masks} masks, '
        f"{found.values[value] / total:.1%} of the pixels)"
        for value in ignored[:5]
    ]
    if form.colors is not None:
        return ", ".join(parts)
    unshown = found.unshown(form)
    place = "[...]"
    if len(ignored) == 1 and len(unshown) == 1:
        values = list(form.values)
        values[unshown[0]] = ignored[0]
        place = "[" + ", ".join(map(str, values)) + "]" if len(values) <= 8 else place
    return f"{', '.join(parts)}. If it is a class, give the classes' values: folders.values={place}"


def _look(record: Mapping[str, Any], form: MaskFormat) -> _Seen:
    size, orientation = _header(record["file_name"])
    upright = size[::-1] if orientation in _TURNED else size
    path = record["sem_seg_file_name"]
    values = read_values(path, form, upright)
    counts = np.bincount(values.reshape(-1))
    shown = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    form.check(path, [value for value in shown if form.table[value] < 0])
    undecided = orientation != 1 and size == upright
    return _Seen(shown, _palette(path, shown) if form.colors is None else {}, undecided)


def _header(path: str) -> tuple[tuple[int, int], int]:
    """Size as stored and EXIF orientation of an image, which is not decoded."""
    try:
        with Image.open(path) as opened:
            orientation = opened.getexif().get(_ORIENTATION, 1)
            return opened.size, orientation if orientation in range(1, 9) else 1
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise Fgclip2Error(f"picture {path!r} cannot be read ({error}); remove it and its mask, or mend it") from error


def _palette(path: str, shown: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    with Image.open(path) as opened:
        if opened.mode != "P":
            return {}
        colors = opened.getpalette() or []
    return {value: tuple(colors[3 * value : 3 * value + 3]) for value in shown if 3 * value + 3 <= len(colors)}


def _turned(records: Sequence[Mapping[str, Any]], seen: Sequence[_Seen], what: str) -> list[str]:
    turned = [record["file_name"] for record, item in zip(records, seen, strict=True) if item.exif]
    if not turned:
        return []
    return [
        f"{what}: {len(turned)} pictures are turned or mirrored by EXIF, such as {turned[0]}; their masks are taken to "
        "be of the upright picture"
    ]


def _repainted(records: Sequence[Mapping[str, Any]], seen: Sequence[_Seen], what: str) -> list[str]:
    """Palettes that number colours by their appearance give one value to several classes."""
    first: dict[int, tuple[tuple[int, ...], str]] = {}
    for record, item in zip(records, seen, strict=True):
        file = record["sem_seg_file_name"]
        for value, color in item.palette.items():
            known, where = first.setdefault(value, (color, file))
            if known != color:
                return [
                    f"{what}: value {value} has the colour {_rgb(known)} in {where} and {_rgb(color)} in {file}; if "
                    "colours stand for classes, name them in a labelmap.txt and write the masks in colours"
                ]
    return []


def _rgb(color: Sequence[int]) -> str:
    return ",".join(map(str, color))
