"""A store of synthetic vectors, and one of scenes that the embedded model has seen none of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import fgclip2
from fgclip2.data.openmoji import Scene, SceneConfig, World
from fgclip2.search.build import build_store
from fgclip2.search.config import BuildConfig
from fgclip2.search.entries import Entry
from fgclip2.search.store import Store
from tests.search.synthetic import new_store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[Sequence[Sequence[Entry]]], Store]:
    """Stores of some shards."""

    def make(shards: Sequence[Sequence[Entry]]) -> Store:
        store = new_store(tmp_path / "store")
        for shard in shards:
            store.append(shard)
        return store

    return make


@pytest.fixture(scope="session")
def embedded() -> fgclip2.FGCLIP2:
    """The embedded model in float32."""
    return fgclip2.load("tiny", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """72 held-out scenes of three to six things."""
    world = World()
    return [world.scene(seed, SceneConfig(size=224, objects=(3, 6))) for seed in range(72)]


@pytest.fixture(scope="session")
def pictures(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those scenes as files."""
    folder = tmp_path_factory.mktemp("场景")
    for scene in scenes:
        scene.image.save(folder / f"{scene.seed:03d}.png")
    return folder


@pytest.fixture(scope="session")
def scene_store(pictures: Path, embedded: fgclip2.FGCLIP2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those files indexed, in shards of 30."""
    out = tmp_path_factory.mktemp("stores") / "scenes.idx"
    build_store(pictures, out, embedded, BuildConfig(shard_size=30), progress=False)
    return out


@pytest.fixture
def few(pictures: Path, tmp_path: Path) -> Path:
    """A folder of six of the scenes, to be changed."""
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(6):
        shutil.copy(pictures / f"{number:03d}.png", folder)
    return folder
