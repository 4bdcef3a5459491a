"""``labelmap.txt`` beside colour masks, as CVAT's "Segmentation mask" export has it: class names and their colours."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fgclip2.errors import Fgclip2Error

_LINE: Final = re.compile(r"(?P<name>[^:]+):\s*(?P<color>\d+\s*,\s*\d+\s*,\s*\d+)?\s*:[^:]*:[^:]*")
"""``name:R,G,B:parts:actions``."""


@dataclass(frozen=True)
class LabelMap:
    """Classes in the order of the file.

    Attributes:
        names: class names.
        colors: red, green and blue of each class, 0 to 255.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]


def labelmap_names(text: str) -> list[str] | None:
    """Class names where every line of a text, comments aside, is ``name:R,G,B:parts:actions``; else ``None``."""
    matches = [_LINE.fullmatch(line) for line in _lines(text)]
    names = [match["name"].strip() for match in matches if match is not None]
    return names if names and len(names) == len(matches) else None


def read_labelmap(path: str | os.PathLike[str]) -> LabelMap | None:
    """The classes and colours of a file, or ``None`` when the file is no label map.

    Raises:
        Fgclip2Error: the file cannot be read, a class has no colour, or two classes have one.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise Fgclip2Error(f"{file} cannot be read ({error}); give UTF-8 text, one class name a line") from error
    named = labelmap_names(text)
    if named is None:
        return None
    colors: dict[tuple[int, int, int], str] = {}
    for line in _lines(text):
        match = _LINE.fullmatch(line)
        assert match is not None  # `labelmap_names` has looked
        name = match["name"].strip()
        if match["color"] is None:
            raise Fgclip2Error(f"{file}: {name!r} has no colour; write {name}:R,G,B::")
        red, green, blue = (int(value) for value in match["color"].split(","))
        if max(red, green, blue) > 255:
            raise Fgclip2Error(f"{file}: the colour {match['color']} of {name!r} is none; give three values, 0 to 255")
        earlier = colors.setdefault((red, green, blue), name)
        if earlier != name:
            raise Fgclip2Error(
                f"{file}: {earlier!r} and {name!r} have one colour, {match['color']}; give each class its own"
            )
    return LabelMap(tuple(named), tuple(colors))


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]
