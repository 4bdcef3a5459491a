"""One embedded world for all tests: its glyphs are drawn once."""

from __future__ import annotations

import pytest

from fgclip2.data.openmoji import World


@pytest.fixture(scope="session")
def world() -> World:
    return World()
