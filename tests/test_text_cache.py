"""The store of embeddings: what goes in comes out, whoever else writes, and parts do not pile up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fgclip2.files import write_atomically
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


def test_a_part_that_cannot_be_opened_now_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TextCache(tmp_path)
    cache.add(["狗"], rows(1))

    def refused(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.safe_open", refused)
        assert cache.read(["狗"]) == {}
    assert "cannot be read now" in caplog.text
    assert torch.equal(cache.read(["狗"])["狗"], rows(1)[0])


def test_a_damaged_part_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a cache that others own; what is whole in it is read."""
    cache = TextCache(tmp_path)
    cache.add(["狗"], rows(1))
    (tmp_path / "0.safetensors").write_bytes(b"damaged")

    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    assert cache.read(["狗"]).keys() == {"狗"}
    assert "cannot be removed" in caplog.text


@pytest.mark.parametrize("when", [1, 18])
def test_a_full_disk_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: int
) -> None:
    """When a part is written, and when the eighteenth writing makes one of seventeen: what is there stays there."""
    cache = TextCache(tmp_path)
    calls = []

    def full(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == when:
            raise OSError(28, "No space left on device")
        write_atomically(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("fgclip2.text_cache.write_atomically", full)
    for number in range(17):
        cache.add([f"{number}"], rows(1, seed=number))
    assert "are not kept" in caplog.text
    assert len(cache.read(map(str, range(17)))) == (16 if when == 1 else 17)
