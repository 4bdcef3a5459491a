"""Work that is done ahead of its use: a bounded number of items, in their order, on other threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, ahead: int
) -> Iterator[_Result]:
    """``map`` on threads, which goes on while its results are used.

    Args:
        function: safe to call from several threads; best one that releases the interpreter, as decoders do.
        items: read on the caller's thread, no more than ``ahead`` beyond the result that was taken last.
        threads: at least 1.
        ahead: results in work or waiting, at least 0.

    Yields:
        Results in the order of the items. An error of ``function`` comes when its result would.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="fgclip2-ahead") as pool:
        waiting: deque[Future[_Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
