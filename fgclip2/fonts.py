"""A font that has the letters to draw, Chinese ones included - or an error, never a row of empty boxes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from PIL import ImageFont

from fgclip2.errors import Fgclip2Error

ENVIRONMENT_VARIABLE: Final = "FGCLIP2_FONT"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# CJK radicals to Hangul, compatibility forms and full-width signs, and the supplementary ideographic planes.
_CJK: Final = re.compile("[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
                         "\U0001b000-\U0001b16f\U00020000-\U0003ffff]")  # fmt: skip

# File names of fonts with simplified Chinese, best first.
_NAMES: Final = ("NotoSansCJKsc", "NotoSansSC", "SourceHanSansSC", "SourceHanSansCN", "NotoSansCJK", "SourceHanSans",
                 "PingFang", "msyh", "Hiragino Sans GB", "STHeiti", "wqy-microhei", "wqy-zenhei", "simhei", "simsun",
                 "DroidSansFallback", "Arial Unicode", "NotoSerifCJK", "uming", "ukai")  # fmt: skip
_PACKAGES: Final = ("cvttf_NotoSansCJK_Regular", "mplfonts")
_SUFFIXES: Final = (".ttf", ".ttc", ".otf", ".otc")


def font_for(text: str, size: int) -> Font:
    """A font that can draw ``text`` at ``size`` pixels.

    ``$FGCLIP2_FONT`` is taken when set, else a system font with Chinese letters, else that of the package
    ``cvttf-notosanscjk-regular`` or ``mplfonts``. Without any, Pillow's own font draws what is not Chinese, Japanese or
    Korean.

    Raises:
        Fgclip2Error: ``text`` has Chinese letters and no font has them, or ``$FGCLIP2_FONT`` cannot be read.
    """
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return _load(chosen, size)
    found = find_cjk_font()
    if found is not None:
        return _load(str(found), size)
    if _CJK.search(text):
        raise Fgclip2Error(
            f"no font here can draw {text!r:.60}; run `pip install cvttf-notosanscjk-regular`, install a system font "
            f"such as fonts-noto-cjk, or set ${ENVIRONMENT_VARIABLE} to a .ttf, .otf or .ttc file with Chinese letters"
        )
    return ImageFont.load_default(size)


@lru_cache(maxsize=1)
def find_cjk_font() -> Path | None:
    """A font file with Chinese letters: of the system, else of an installed Python package; searched once."""
    ranked: dict[int, Path] = {}
    for file in _font_files(_system_folders()):
        rank = next((i for i, name in enumerate(_NAMES) if file.name.lower().startswith(name.lower())), None)
        if rank is not None and "bold" not in file.name.lower():
            ranked.setdefault(rank, file)
    if ranked:
        return ranked[min(ranked)]
    return next((file for file in _font_files(_package_folders()) if "CJK" in file.name), None)


def _system_folders() -> Iterator[Path]:
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
        yield Path(os.environ.get("LOCALAPPDATA", str(home))) / "Microsoft/Windows/Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        data = os.environ.get("XDG_DATA_HOME")
        yield from (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".fonts")
        yield (Path(data) if data else home / ".local/share") / "fonts"


def _package_folders() -> Iterator[Path]:
    for name in _PACKAGES:
        spec = find_spec(name)  # finds without importing
        yield from map(Path, (spec.submodule_search_locations or []) if spec is not None else [])


def _font_files(folders: Iterator[Path]) -> Iterator[Path]:
    for folder in folders:
        for parent, _, files in sorted(os.walk(folder)):
            yield from (Path(parent) / file for file in sorted(files) if file.lower().endswith(_SUFFIXES))


@lru_cache(maxsize=64)
def _load(path: str, size: int) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.truetype(path, size)
    except OSError as error:
        raise Fgclip2Error(f"font {path!r} cannot be read ({error}); set ${ENVIRONMENT_VARIABLE} to another") from error
    if not path.lower().endswith((".ttc", ".otc")):
        return font
    # A collection holds a face a region; the same code point looks different in Japan and in China.
    for index in range(32):
        try:
            face = ImageFont.truetype(path, size, index=index)
        except OSError:
            break
        if " SC" in (face.getname()[0] or "") and "Mono" not in (face.getname()[0] or ""):
            return face
    return font
