"""Pictures that are nothing but vectors drawn from a seed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fgclip2.search.entries import Entry
from fgclip2.search.store import Store

WIDTH = 16


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    return (values / lengths).astype(np.float32)


def entry(name: str, seed: int, regions: int = 3, **extra: str | int | float | bool | None) -> Entry:
    """A picture whose vectors depend on the seed alone."""
    draws = np.random.default_rng(seed)
    return Entry(
        name=name,
        sha256=hashlib.sha256(str(seed).encode()).hexdigest(),
        size=(64 + seed % 7, 48),
        vector=unit(draws.normal(size=WIDTH)),
        regions=unit(draws.normal(size=(regions, WIDTH))),
        boxes=draws.uniform(0, 48, (regions, 4)).astype(np.float32),
        extra=extra,
    )


def new_store(folder: Path) -> Store:
    """An empty store of ``WIDTH`` numbers a vector."""
    return Store.create(folder, model_hash="a" * 64, model_name="none", dimension=WIDTH, root=folder)
