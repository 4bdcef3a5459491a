"""What commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2


def exit_code(run: Callable[[], object]) -> int:
    """Run a program: 0, or 2 after an error that the user can mend, which is printed in one line."""
    try:
        run()
    except Fgclip2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def load_model(name: str | None, device: str = "auto", dtype: str = "auto") -> FGCLIP2:
    """``fgclip2.load``, with a word on stderr when it is the embedded model."""
    import fgclip2

    model = fgclip2.load(name, device, dtype)
    if model.embedded:
        print("tiny knows drawn glyphs only; what it says about photographs means nothing", file=sys.stderr)
    return model
