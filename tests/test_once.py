"""A property that threads share is computed by one of them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fgclip2
from fgclip2 import predictor
from fgclip2.once import locked_property


class Slow:
    def __init__(self) -> None:
        self.ran = 0

    @locked_property
    def first(self) -> int:
        """One."""
        time.sleep(0.05)
        self.ran += 1
        return self.ran

    @locked_property
    def second(self) -> int:
        """Needs the first."""
        return self.first + 1


def at_once(function, threads: int = 4) -> list[object]:
    """What each of some threads gets that start together."""
    start = threading.Barrier(threads)

    def run(_: int) -> object:
        start.wait()
        return function()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_a_property_is_computed_once():
    slow = Slow()
    assert at_once(lambda: slow.second) == [2] * 4
    assert slow.ran == 1
    assert vars(slow)["first"] == 1
    del slow.first
    assert slow.first == 2  # computed anew, as with functools'
    assert Slow.first.__doc__ == "One."


def test_the_default_model_is_loaded_once(tiny_dir: Path, monkeypatch: pytest.MonkeyPatch):
    loads: list[Path] = []
    plain = predictor._open

    def slowly(directory: Path, *arguments):
        loads.append(directory)
        time.sleep(0.05)
        return plain(directory, *arguments)

    monkeypatch.setattr(predictor, "_open", slowly)
    monkeypatch.setenv("FGCLIP2_MODEL", str(tiny_dir))
    predictor._shared.cache_clear()
    found = at_once(fgclip2.load)
    predictor._shared.cache_clear()
    assert loads == [tiny_dir]
    assert len(set(map(id, found))) == 1
