"""Chinese class names in what mmdetection draws: matplotlib's own font has no such letters."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache

from fgclip2.fonts import ENVIRONMENT_VARIABLE, find_cjk_font
from fgclip2.names import CJK


def let_it_draw(names: Iterable[str]) -> None:
    """Let matplotlib's sans-serif be a font with Chinese letters when a name has any.

    Without such a font on this machine matplotlib warns when it draws; `fgclip2.fonts` says where one is looked for.
    """
    if any(CJK.search(name) for name in names):
        _add_font()


@lru_cache(maxsize=1)
def _add_font() -> None:
    from matplotlib import font_manager, rcParams

    file = os.environ.get(ENVIRONMENT_VARIABLE) or find_cjk_font()
    if file is not None:
        font_manager.fontManager.addfont(file)
        # In front, since mmengine asks for one font, and another would not fill in the letters that it lacks.
        rcParams["font.sans-serif"].insert(0, font_manager.FontProperties(fname=file).get_name())
