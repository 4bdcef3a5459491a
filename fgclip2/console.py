"""What commands share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2


def load_model(name: str | None) -> FGCLIP2:
    """``fgclip2.load``, with a word on stderr when it is the embedded model."""
    import fgclip2

    model = fgclip2.load(name)
    if model.embedded:
        print("tiny knows drawn glyphs only; what it says about photographs means nothing", file=sys.stderr)
    return model
