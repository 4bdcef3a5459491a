"""Three images that come with the package: a scene of the embedded world, which `tiny` knows, and two photographs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

_FOLDER: Final = "assets/images"
NAMES: Final = ("scene.png", "cat.jpg", "coffee.jpg")


def sample_images() -> list[Path]:
    """The files of all of them, the scene first; sides of 300 to 600 pixels.

    Example:
        >>> [file.name for file in sample_images()]
        ['scene.png', 'cat.jpg', 'coffee.jpg']
    """
    return [Path(str(files("fgclip2") / _FOLDER / name)) for name in NAMES]
