"""Prompts for classes.

The 80 of ImageNet are those of CLIP (Radford et al. 2021; MIT license). As their mean is what counts, order does not
matter, and they are written as what they are made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

BARE: Final = ("{}",)
"""The name alone: what FG-CLIP 2's box head was trained on."""

_PHOTO: Final = ("bad", "low resolution", "cropped", "bright", "dark", "close-up", "black and white", "pixelated",
                 "jpeg corrupted", "blurry", "good")  # fmt: skip
_MEDIUM: Final = ("a sculpture", "a rendering", "graffiti", "a tattoo", "a drawing", "a painting", "a doodle",
                  "a sketch", "a rendition", "art", "itap", "a photo")  # fmt: skip
_LOOK: Final = ("hard to see", "clean", "dirty", "cool", "nice", "weird", "large", "small")
_STUFF: Final = ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie")


def _imagenet() -> Iterator[str]:
    for article in ("a", "the"):
        yield from (f"a {photo} photo of {article} {{}}." for photo in _PHOTO)
        yield from (f"{medium} of {article} {{}}." for medium in _MEDIUM)
        yield from (f"a photo of {article} {look} {{}}." for look in _LOOK)
        yield from (f"{article} {stuff} {{}}." for stuff in _STUFF)
        yield f"{article} {{}} in a video game."
    yield from (f"a photo of {which} {{}}." for which in ("many", "one", "my"))
    yield "itap of my {}."


IMAGENET: Final = tuple(_imagenet())
"""CLIP's 80 prompts for ImageNet."""
