"""Masks on disk to class indices, checked: which pixel value is which class, and none is left to chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from fgclip2.errors import Fgclip2Error

IGNORE: Final = 65_535
"""The label of a pixel that counts nowhere, in training and in figures."""

_GREY: Final = ("L", "I;16", "I;16L", "I;16B", "I;16N", "I", "1", "F", "LA", "RGB", "RGBA")
_LOSSY: Final = ("JPEG", "MPO", "JPEG2000", "AVIF", "WEBP")  # WebP may be either, and does not say which
_DAMAGED: Final = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
                   AttributeError, RuntimeError, MemoryError, Image.DecompressionBombError)  # fmt: skip


@dataclass(frozen=True)
class MaskFormat:
    """What the pixel values of a mask mean.

    Attributes:
        values: pixel value of each class, in class order.
        background: value of what is none of the classes; it becomes label C, one behind the last class.
        ignored: values that count nowhere; ``None`` ignores every value that is not named here.
        colors: for colour masks, red, green and blue of value 0, 1, ...; ``None`` for index images.
        setting: how a user sets ``ignored``, for messages.

    Raises:
        Fgclip2Error: a value twice, or one that 16 bit do not hold.
    """

    values: tuple[int, ...]
    background: int | None = None
    ignored: tuple[int, ...] | None = (255,)
    colors: tuple[tuple[int, int, int], ...] | None = None
    setting: str = field(default="MaskFormat(ignored=...)", compare=False)

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
        return cls.with_values(tuple(range(first, first + count)), background=background)

    @classmethod
    def with_values(
        cls,
        values: Sequence[int],
        *,
        background: int | None = None,
        ignored: Sequence[int] | None = None,
        colors: tuple[tuple[int, int, int], ...] | None = None,
        setting: str = "MaskFormat(ignored=...)",
    ) -> MaskFormat:
        """Classes of any values; ``ignored=None`` ignores 255 and 65,535 where they are no class."""
        if ignored is None:
            ignored = [value for value in (255, IGNORE) if value not in values and value != background]
        return cls(tuple(values), background, tuple(ignored), colors, setting)

    @cached_property
    def table(self) -> np.ndarray:
        """``(65536,)`` int32: the label of every value, -1 for a value that may not occur."""
        table = np.full(IGNORE + 1, -1 if self.ignored is not None else IGNORE, np.int32)
        table[list(self.ignored or ())] = IGNORE
        if self.background is not None:
            table[self.background] = len(self.values)
        table[list(self.values)] = np.arange(len(self.values))
        return table

    def check(self, path: str | Path, wrong: Sequence[int]) -> None:
        """Refuse values that mean nothing.

        Raises:
            Fgclip2Error: ``wrong`` has some.
        """
        if not len(wrong):
            return
        shown = ", ".join(str(value) for value in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise Fgclip2Error(
            f"mask {str(path)!r} has values that no class has: {shown}; there are {len(self.values)} classes "
            f"({_spelled(self.values)}), and {_spelled(self.ignored or ()) or 'none'} are ignored. Add names, or "
            f"ignore the values: {self.setting.replace('...', self._ignoring(wrong))}"
        )

    def _ignoring(self, wrong: Sequence[int]) -> str:
        every = [*(self.ignored or ()), *wrong]
        return f"[{', '.join(str(value) for value in every[:8])}{', ...' if len(every) > 8 else ''}]"


def read_mask(path: str | Path, form: MaskFormat, size: Sequence[int] | None = None) -> np.ndarray:
    """Labels of a mask file.

    Args:
        path: index image: palette, grey of 1 to 32 bit; or a colour image, where the format has colours.
        form: what its values mean.
        size: width and height it must have, those of the image.

    Returns:
        ``(H, W)`` int32: 0..C-1 classes, C background where the format has one, ``IGNORE``.

    Raises:
        Fgclip2Error: the file is missing or no index image, has another size, or a value that means nothing.
    """
    values = read_values(path, form, size)
    labels = form.table[values]
    if labels.min() < 0:
        form.check(path, np.unique(values[labels < 0]).tolist())
    return labels


def read_values(path: str | Path, form: MaskFormat, size: Sequence[int] | None = None) -> np.ndarray:
    """Pixel values ``(H, W)`` of a mask file, 0 to 65,535, with arguments and errors of `read_mask`."""
    try:
        with Image.open(path) as opened:
            _check_kind(path, opened, form)
            found = opened.size
            if size is not None and found != tuple(size):
                raise Fgclip2Error(
                    f"mask {str(path)!r} is {found[0]} x {found[1]} pixels, its picture {size[0]} x {size[1]}; they "
                    "must be of one size (a picture's EXIF rotation is applied)"
                )
            if form.colors is not None:
                return _indices(path, np.asarray(opened.convert("RGB")), form.colors)
            values = np.asarray(opened)
    except FileNotFoundError as error:
        raise Fgclip2Error(f"mask {str(path)!r} does not exist; every picture needs one of the same name") from error
    except _DAMAGED as error:
        raise Fgclip2Error(f"mask {str(path)!r} cannot be read ({error}); write it again as PNG") from error
    values = _one_channel(path, values)
    if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):  # NaN is unequal to itself
        raise Fgclip2Error(f"mask {str(path)!r} has values that are no whole numbers; a mask holds class numbers")
    if values.min() < 0 or values.max() > IGNORE:
        raise Fgclip2Error(f"mask {str(path)!r} has values outside 0..{IGNORE}; a mask is 8 or 16 bit")
    return values.astype(np.int64)


def _check_kind(path: str | Path, opened: Image.Image, form: MaskFormat) -> None:
    if opened.format in _LOSSY:
        raise Fgclip2Error(
            f"mask {str(path)!r} is {opened.format}, whose compression may change class numbers; write masks as PNG"
        )
    if getattr(opened, "n_frames", 1) > 1:
        raise Fgclip2Error(f"mask {str(path)!r} holds several images; give a file with one mask")
    if opened.mode not in (*_GREY, "P") and form.colors is None:
        raise _coloured(path, opened.mode)


def _one_channel(path: str | Path, values: np.ndarray) -> np.ndarray:
    """Grey that was stored as colour, or with an opaque alpha channel, is as good as grey."""
    if values.ndim == 2:
        return values
    grey, rest = values[..., 0], values[..., 1:]
    if values.shape[2] in (2, 4):
        if (rest[..., -1] != 255).any():
            raise Fgclip2Error(f"mask {str(path)!r} is partly transparent, which means no class; save it without alpha")
        rest = rest[..., :-1]
    if (rest != grey[..., None]).any():
        raise _coloured(path, "RGB")
    return grey


def _coloured(path: str | Path, mode: str) -> Fgclip2Error:
    return Fgclip2Error(
        f"mask {str(path)!r} has colours (mode {mode}); a mask is an index picture: 8-bit or 16-bit grey, or a "
        "palette, whose values are class numbers. For colours name the classes in a labelmap.txt of lines NAME:R,G,B::"
    )


def _indices(path: str | Path, pixels: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Place of each pixel's colour ``(H, W, 3)`` among ``colors``, ``(H, W)``."""
    packed = _packed(pixels.astype(np.int64))
    known = _packed(np.asarray(colors, np.int64))
    order = known.argsort()
    place = np.searchsorted(known[order], packed).clip(max=len(known) - 1)
    indices = order[place]
    other = packed[known[indices] != packed]
    if other.size:
        first = int(other[0])
        raise Fgclip2Error(
            f"mask {str(path)!r} has the colour {first >> 16},{first >> 8 & 255},{first & 255}, which no class of the "
            "label map has; add a line for it, or export the mask again"
        )
    return np.asarray(indices)


def _packed(colors: np.ndarray) -> np.ndarray:
    return np.asarray(colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2])


def _spelled(values: Sequence[int]) -> str:
    """``0 to 5`` where values are in a row, else the values."""
    if len(values) > 1 and list(values) == list(range(values[0], values[0] + len(values))):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(str(value) for value in values[:8]) + (", ..." if len(values) > 8 else "")
