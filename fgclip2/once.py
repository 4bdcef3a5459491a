"""What is computed once, also when several threads ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

_Value = TypeVar("_Value")


class locked_property(cached_property[_Value]):
    """``functools.cached_property`` whose function never runs in two threads at once.

    Python 3.12 took the lock out of the original. For what takes long or much memory, on objects that threads share.
    All objects of a class share one lock, which the function may take again, as for a property that needs another one.
    """

    def __init__(self, function: Callable[[Any], _Value]) -> None:
        super().__init__(function)
        self._turn = threading.RLock()

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        with self._turn:  # only until there is a value, which then lies in the object and hides this
            return super().__get__(instance, owner)
