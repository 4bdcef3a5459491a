"""A build of OpenCV that lacks something from the system is told from one that works."""

from __future__ import annotations

import importlib

import pytest

from fgclip2.errors import Fgclip2Error
from fgclip2.opencv import require_opencv


def test_a_build_without_libgl_is_told_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_opencv()

    def without_libgl(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(importlib, "import_module", without_libgl)
    with pytest.raises(Fgclip2Error, match=r"libGL.so.1.*--force-reinstall --no-deps opencv-python-headless"):
        require_opencv()
