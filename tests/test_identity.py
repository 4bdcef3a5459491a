"""The hash of a model: read from its files once, and of what it computes with, also when that was changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import fgclip2
from fgclip2 import identity
from fgclip2.identity import Unchanged, hash_of_files
from fgclip2.text_cache import cache_dir


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often files were read, with nothing known yet."""
    counted: list[int] = []
    compute = identity._hash
    monkeypatch.setattr(identity, "_hash", lambda paths: counted.append(len(paths)) or compute(paths))
    identity._remembered.cache_clear()
    return counted


@pytest.fixture
def copied(tiny_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dir, tmp_path / "模型"))


class TestFiles:
    def test_another_process_does_not_read_them_again(self, copied: Path, read: list[int]):
        first = hash_of_files(copied)
        identity._remembered.cache_clear()  # as in another process
        assert hash_of_files(copied) == first
        assert len(read) == 1

    def test_a_file_of_the_same_size_and_time_counts(self, copied: Path, read: list[int]):
        before, file = hash_of_files(copied), copied / "model.safetensors"
        kept, content = file.stat(), bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        assert hash_of_files(copied) != before
        assert len(read) == 2

    @pytest.mark.parametrize("damage", [b"", b"0" * 63, b"\xff" * 64, b"g" * 64])
    def test_a_damaged_record_is_made_again(self, copied: Path, read: list[int], damage: bytes):
        before = hash_of_files(copied)
        for record in (cache_dir() / "hashes").iterdir():
            record.write_bytes(damage)
        identity._remembered.cache_clear()
        assert hash_of_files(copied) == before
        identity._remembered.cache_clear()
        assert hash_of_files(copied) == before
        assert len(read) == 2

    def test_where_nothing_can_be_kept_it_is_said(
        self,
        copied: Path,
        read: list[int],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        tmp_path: Path,
    ):
        before = hash_of_files(copied)
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        identity._remembered.cache_clear()
        assert hash_of_files(copied) == before
        assert "not kept for the next time" in caplog.text


class TestChanges:
    def test_what_is_written_into_the_module_changes_it(self, copied: Path):
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        before = model.hash
        weight = model.model.text_model.head.weight
        assert model.hash == before  # making transformers' module is no change
        with torch.no_grad():
            weight.mul_(2)
        changed = model.hash
        assert changed != before
        with torch.no_grad():
            weight.div_(2)
        assert model.hash == before

    def test_another_module_is_another_model(self, copied: Path, tmp_path: Path):
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        before, other = model.hash, fgclip2.load(copied, device="cpu", dtype="float32")
        model.model = other.model
        assert model.hash == before
        with torch.no_grad():
            other.model.vision_model.post_layernorm.weight.add_(1)
        assert model.hash != before

    def test_texts_of_a_changed_model_are_not_kept_as_those_of_its_files(self, copied: Path):
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        names = ["黑猫", "red car"]
        before = fgclip2.Vocabulary.build(model, names)
        with torch.no_grad():
            model.model.boxtext_head.weight.copy_(model.model.boxtext_head.weight.flip(0))
        changed = fgclip2.Vocabulary.build(model, names)
        assert not torch.allclose(changed.embeddings, before.embeddings, atol=1e-2)
        again = fgclip2.Vocabulary.build(fgclip2.load(copied, device="cpu", dtype="float32"), names)
        assert torch.equal(again.embeddings, before.embeddings)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_another_number_format_is_no_change(self, dtype: torch.dtype):
        module = nn.Linear(7, 9)
        unchanged = Unchanged(module)
        assert unchanged(module.to(dtype))

    def test_added_and_renamed_parameters_are(self):
        module = nn.Sequential(nn.Linear(3, 3))
        unchanged = Unchanged(module)
        module.append(nn.Linear(3, 3))
        assert not unchanged(module)
