"""The page as it is served, over a small collection of scenes, for the whole session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import pytest

import fgclip2
from demos.page import build_demo, serve
from demos.scenes import scene_index
from fgclip2 import Index

SCENES = 40


@pytest.fixture(scope="session")
def embedded() -> fgclip2.FGCLIP2:
    """The embedded model in float32."""
    return fgclip2.load("tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the scenes and their index."""
    return tmp_path_factory.mktemp("演示")


@pytest.fixture(scope="session")
def index(embedded: fgclip2.FGCLIP2, collection: Path) -> Index:
    """The scenes, made and indexed as on a first start."""
    return scene_index(embedded, collection, SCENES, progress=False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only folder that the page serves files from."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def served(cache: Path) -> Iterator[Callable[[fgclip2.FGCLIP2, Index], str]]:
    """Serves pages until the session ends; returns their addresses."""
    started: list[gr.Blocks] = []

    def start(model: fgclip2.FGCLIP2, index: Index) -> str:
        demo = build_demo(model, index)
        started.append(demo)
        return serve(demo, port=None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(cache))
        yield start
        for demo in started:
            demo.close()


@pytest.fixture(scope="session")
def address(served: Callable[[fgclip2.FGCLIP2, Index], str], embedded: fgclip2.FGCLIP2, index: Index) -> str:
    """The page over the scenes."""
    return served(embedded, index)
