"""What commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import missing_package

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

RESUMABLE: Final = "stopped; --resume continues from the newest checkpoint, if there is one already"
"""What a training says after Ctrl-C."""


def exit_code(run: Callable[[], object], stopped: str | None = None) -> int:
    """Run a program.

    Args:
        run: its work.
        stopped: what to say after Ctrl-C; ``None`` leaves that to Python.

    Returns:
        0; 2 after an error that the user can mend, which is printed in one line; 130 after Ctrl-C.
    """
    try:
        run()
    except Fgclip2Error as error:
        # torch wraps those of other processes into a traceback, which ends with the error's own text
        print(f"error: {str(error).rpartition('fgclip2.errors.Fgclip2Error: ')[2].strip()}", file=sys.stderr)
        return 2
    except ImportError as error:
        told = missing_package(error)
        if told is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if stopped is None:
            raise
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    return 0


def load_model(name: str | None, device: str = "auto", dtype: str = "auto") -> FGCLIP2:
    """``fgclip2.load``, with a word on stderr when it is the embedded model."""
    import fgclip2

    model = fgclip2.load(name, device, dtype)
    if model.embedded:
        print("tiny knows drawn glyphs only; what it says about photographs means nothing", file=sys.stderr)
    return model
