"""The store of embeddings: what goes in comes out, whoever else writes, and parts do not pile up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fgclip2.text_cache import TextCache


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def test_there_and_back(tmp_path: Path) -> None:
    cache = TextCache(tmp_path / "texts")
    assert cache.read(["dog"]) == {}
    cache.add(["dog", "红色汽车", ""], rows(3))
    cache.add(["黑猫"], rows(1, seed=1))
    found = TextCache(tmp_path / "texts").read(["黑猫", "红色汽车", "cow", ""])
    assert found.keys() == {"黑猫", "红色汽车", ""}
    assert torch.equal(
        torch.stack([found["红色汽车"], found[""], found["黑猫"]]), torch.cat([rows(3)[1:], rows(1, seed=1)])
    )


def test_parts_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    cache = TextCache(tmp_path)
    for number in range(40):
        cache.add([f"{number}", "again"], rows(2, seed=number))
        assert len(list(tmp_path.iterdir())) <= 17
    found = cache.read([f"{number}" for number in range(40)])
    assert all(torch.equal(found[f"{number}"], rows(2, seed=number)[0]) for number in range(40))


def test_large_parts_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fgclip2.text_cache._SMALL", 1)
    cache = TextCache(tmp_path)
    for number in range(20):
        cache.add([f"{number}"], rows(1, seed=number))
    assert len(list(tmp_path.iterdir())) == 20


def test_a_part_that_another_process_merged_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists 17 parts; before it reads them, somebody else puts one in their place."""
    cache, other = TextCache(tmp_path), TextCache(tmp_path)
    for number in range(16):
        cache.add([f"{number}"], rows(1, seed=number))
    listed = cache._parts()
    other.add(["16"], rows(1, seed=16))
    assert len(list(tmp_path.iterdir())) == 1
    cache._merge([*listed, *other._parts()])
    (part,) = tmp_path.iterdir()
    with safe_open(part, "pt") as file:
        assert file.get_tensor("embeddings").shape == (17, 8)
