"""What commands share."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import missing_package

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

RESUMABLE: Final = "stopped; --resume continues from the newest checkpoint, if there is one already"
"""What a training says after Ctrl-C."""

_DISK: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EROFS: "the disk can only be read",
    errno.EFBIG: "a file would be larger than is allowed",
}


def exit_code(run: Callable[[], object], stopped: str = "stopped") -> int:
    """Run a program.

    Args:
        run: its work.
        stopped: what to say after Ctrl-C.

    Returns:
        0; 2 after an error that the user can mend, which is printed in one line; 130 after Ctrl-C; 141 when who reads
        the output has gone, as after ``| head``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console without Chinese shows \u732b in place of a traceback; a pipe gets each line when it is said.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        run()
        sys.stdout.flush()
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
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return 141
    except Exception as error:
        full = _no_room(error)
        if full is None:
            raise
        print(f"error: {full}", file=sys.stderr)
        return 2
    return 0


def _no_room(error: BaseException) -> str | None:
    """What to say of a disk that takes no more; ``None`` for other errors. Libraries hide its number in texts."""
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        number = cause.errno if isinstance(cause, OSError) else None
        for code, what in _DISK.items():
            if number == code or os.strerror(code) in text:
                file = getattr(cause, "filename", None)
                where = f" ({file})" if file else ""
                return f"{what}{where}; what was written whole is kept: make room or choose another place, then go on"
        cause = cause.__cause__ or cause.__context__
    return None


def load_model(name: str | None, device: str = "auto", dtype: str = "auto") -> FGCLIP2:
    """``fgclip2.load``, with a word on stderr when it is the embedded model."""
    import fgclip2

    model = fgclip2.load(name, device, dtype)
    if model.embedded:
        print("tiny knows drawn glyphs only; what it says about photographs means nothing", file=sys.stderr)
    return model
