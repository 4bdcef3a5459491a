"""How far long work has come: a bar on a terminal, a line now and then in a log or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from tqdm import tqdm

_EVERY: Final = 30.0  # seconds between lines
_FIRST: Final = 10.0  # seconds that quick work has before its first line
_LINE: Final = "{desc}{n_fmt}/{total_fmt} {unit}s in {elapsed}, {remaining} left, {rate_fmt}{postfix}"


class _Lines:
    """A stream that gets each state of a bar as a line of its own, where the bar would be drawn over."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._last = stream, ""

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last:
            self._stream.write(line + "\n")
            self._last = line

    def flush(self) -> None:
        self._stream.flush()


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str = "",
    total: int | None = None,
    unit: str = "picture",
    initial: int = 0,
    disable: bool = False,
    leave: bool = True,
) -> Any:
    """A `tqdm` bar on the error stream, which is no part of a program's output.

    Where that is no terminal, a bar would fill the log with what it draws over. There a line is written every half
    minute, and none for work of less than ten seconds.

    Args:
        iterable: what is gone through; without it call ``update``.
        desc: what is done.
        total: how much there is; of an ``iterable`` with a length it is known.
        unit: of it, in the singular.
        initial: how much was done before.
        disable: show nothing.
        leave: keep the bar on the screen when all is done.

    Example:
        >>> sum(progress([1, 2, 3], unit="number"))
        6
    """
    common: dict[str, Any] = {"total": total, "unit": unit, "initial": initial, "disable": disable}
    if sys.stderr.isatty():
        return tqdm(iterable, desc or None, leave=leave, file=sys.stderr, **common)
    return tqdm(
        iterable, f"{desc}: " if desc else None, leave=leave, file=_Lines(sys.stderr), delay=_FIRST, mininterval=_EVERY,
        maxinterval=_EVERY, bar_format=_LINE, **common,
    )  # fmt: skip
