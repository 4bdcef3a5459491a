"""Masks on disk to class indices, checked: which pixel value is which class, and none is left to chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from fgclip2.errors import Fgclip2Error

IGNORE: Final = 65_535
"""The label of a pixel that counts nowhere, in training and in figures."""

_MODES: Final = ("P", "L", "I;16", "I;16L", "I;16B", "I", "1")


@dataclass(frozen=True)
class MaskFormat:
    """What the pixel values of a mask mean.

    Attributes:
        values: pixel value of each class, in class order.
        background: value of what is none of the classes; it becomes label C, one behind the last class.
        ignored: values that count nowhere; ``None`` ignores every value that is not named here.

    Raises:
        Fgclip2Error: a value twice, or one that 16 bit do not hold.
    """

    values: tuple[int, ...]
    background: int | None = None
    ignored: tuple[int, ...] | None = (255,)

    def __post_init__(self) -> None:
        named = [*self.values, *(() if self.background is None else (self.background,)), *(self.ignored or ())]
        if not self.values or len(set(named)) != len(named) or min(named) < 0 or max(named) > IGNORE:
            raise Fgclip2Error(
                f"mask values {named[:8]}...: give each class, the background and what is ignored a value of its own, "
                f"0 to {IGNORE}"
            )

    @classmethod
    def of(cls, count: int, *, first: int = 0, background: int | None = None) -> MaskFormat:
        """Classes numbered in order from ``first``; 255 is ignored where it is no class, in 16 bit 65,535 too."""
        values = tuple(range(first, first + count))
        ignored = tuple(value for value in (255, IGNORE) if value not in values and value != background)
        return cls(values, background, ignored)

    @cached_property
    def table(self) -> np.ndarray:
        """``(65536,)`` int32: the label of every value, -1 for a value that may not occur."""
        table = np.full(IGNORE + 1, -1 if self.ignored is not None else IGNORE, np.int32)
        table[list(self.ignored or ())] = IGNORE
        if self.background is not None:
            table[self.background] = len(self.values)
        table[list(self.values)] = np.arange(len(self.values))
        return table


def read_mask(path: str | Path, form: MaskFormat, size: Sequence[int] | None = None) -> np.ndarray:
    """Labels of a mask file.

    Args:
        path: index picture: palette, grey 8 or 16 bit.
        form: what its values mean.
        size: width and height it must have, those of the picture.

    Returns:
        ``(H, W)`` int32: 0..C-1 classes, C background where the format has one, ``IGNORE``.

    Raises:
        Fgclip2Error: the file is missing or no index picture, has another size, or a value that means nothing.
    """
    try:
        with Image.open(path) as opened:
            mode, found = opened.mode, opened.size
            if mode not in _MODES:
                raise Fgclip2Error(
                    f"mask {str(path)!r} has colours (mode {mode}); a mask is an index picture: 8-bit or 16-bit grey, "
                    "or a palette, whose values are class numbers"
                )
            values = np.asarray(opened).astype(np.int64)
    except FileNotFoundError as error:
        raise Fgclip2Error(f"mask {str(path)!r} does not exist; every picture needs one of the same name") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Fgclip2Error(f"mask {str(path)!r} cannot be read ({error}); write it again as PNG") from error
    if size is not None and found != tuple(size):
        raise Fgclip2Error(
            f"mask {str(path)!r} is {found[0]} x {found[1]} pixels, its picture {size[0]} x {size[1]}; they must be "
            "of one size (a picture's EXIF rotation is applied)"
        )
    if values.min() < 0 or values.max() > IGNORE:
        raise Fgclip2Error(f"mask {str(path)!r} has values outside 0..{IGNORE}; a mask is 8 or 16 bit")
    labels = form.table[values]
    if labels.min() < 0:
        wrong = np.unique(values[labels < 0])
        shown = ", ".join(map(str, wrong[:5].tolist()))
        raise Fgclip2Error(
            f"mask {str(path)!r} has values that no class has: {shown}; there are {len(form.values)} classes "
            f"({form.values[0]} to {form.values[-1]}), and {form.ignored} are ignored. Add names, or ignore the values"
        )
    return labels
