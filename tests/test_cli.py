"""The command ``fgclip2``, from its arguments to its files."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import fgclip2
from fgclip2.cli import main
from fgclip2.files import write_atomically


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "街道.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


def test_info(tiny_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    without = capsys.readouterr().out
    assert importlib.metadata.version("torch") in without
    assert "qihoo360/fg-clip2-base" in without
    assert "hash" not in without
    assert main(["info", "--model", str(tiny_dir)]) == 0
    assert fgclip2.load(tiny_dir).hash in capsys.readouterr().out


def test_as_a_module() -> None:
    """``python -m fgclip2`` is the command, exit codes included."""
    for arguments, code, said in ((["info"], 0, "torch"), (["index", "没有这个文件夹", "--out", "x"], 2, "error: ")):
        done = subprocess.run(
            [sys.executable, "-m", "fgclip2", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert said in done.stdout + done.stderr


def test_embed(tiny_dir: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.safetensors"
    texts = ["a red car", "黑猫"]
    assert main(["embed", str(picture.parent), "--texts", *texts, "--model", str(tiny_dir), "--out", str(out)]) == 0
    model = fgclip2.load(tiny_dir)
    with safe_open(out, framework="pt") as file:
        torch.testing.assert_close(file.get_tensor("image_features"), model.image_features(picture))
        torch.testing.assert_close(
            file.get_tensor("text_features"), model.text_features(texts).as_subclass(torch.Tensor)
        )
        meta = {key: json.loads(value) for key, value in file.metadata().items()}
    assert meta == {"images": [str(picture)], "texts": texts, "kind": "short", "model_hash": model.hash}


def test_embed_names_bad_pictures_of_a_folder_and_refuses_bad_ones_that_were_named(
    tiny_dir: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "图片", tmp_path / "features.safetensors"
    folder.mkdir()
    shutil.copy(picture, folder / "good.png")
    (folder / "坏.jpg").write_text("no picture")
    common = ["--model", str(tiny_dir), "--out", str(out)]
    assert main(["embed", str(folder / "坏.jpg"), *common]) == 2
    assert not out.exists()
    assert main(["embed", str(folder), *common]) == 0
    with safe_open(out, framework="pt") as file:
        assert len(file.get_tensor("image_features")) == 1
        assert json.loads(file.metadata()["images"]) == [str(folder / "good.png")]
    (failure,) = map(json.loads, (tmp_path / "failures.jsonl").read_text(encoding="utf-8").splitlines())
    assert failure["image"] == str(folder / "坏.jpg")
    (folder / "good.png").unlink()
    assert main(["embed", str(folder), *common]) == 2
    assert "not one picture could be read" in capsys.readouterr().err
    assert main(["embed", "--texts", "黑猫", "--model", str(tiny_dir), "--out", str(folder)]) == 2
    assert "is a folder; give a file in it" in capsys.readouterr().err


def test_dense(tiny_dir: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "maps"
    arguments = ["dense", str(picture), "--texts", "a red car", "黑猫", "--max-patches", "24", "--model", str(tiny_dir)]
    assert main([*arguments, "--out", str(out)]) == 0
    with safe_open(out / "dense.safetensors", framework="pt") as file:
        dense, similarity = file.get_tensor("map"), file.get_tensor("similarity")
    assert dense.shape[:2] == (4, 6)
    assert similarity.shape == (2, 4, 6)
    torch.testing.assert_close(dense.norm(dim=-1), torch.ones(4, 6))
    for name in ("0.png", "1.png"):
        with Image.open(out / name) as drawn:
            assert drawn.size == (90, 60)
    assert "'黑猫'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed"], "nothing to embed"),
        (["embed", "none.jpg", "--model", "tiny model"], "no model 'tiny model'"),
        (["dense", "none.jpg", "--texts", "a"], "'none.jpg' does not exist"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_vocabulary(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [{"name": "sofa", "synonyms": ["沙发"]}, "dog"]
    Path("names.json").write_text(json.dumps(entries), encoding="utf-8")
    Path("templates.json").write_text(json.dumps({"en": ["the {}"], "zh": ["{}"]}), encoding="utf-8")
    model = ["--model", str(tiny_dir), "--out", "v.safetensors"]
    assert main(["vocabulary", "--classes-file", "names.json", "--templates", "templates.json", *model]) == 0
    assert "2 classes" in capsys.readouterr().out
    loaded = fgclip2.Vocabulary.load("v.safetensors", fgclip2.load(tiny_dir))
    expected = fgclip2.Vocabulary.build(
        fgclip2.load(tiny_dir), {"sofa": ["沙发"], "dog": []}, {"en": ["the {}"], "zh": ["{}"]}, cache=False
    )
    assert loaded.names == ("sofa", "dog")
    torch.testing.assert_close(loaded.embeddings, expected.embeddings)
    assert main(["vocabulary", "--classes", "猫, dog", *model]) == 0
    assert fgclip2.Vocabulary.load("v.safetensors").names == ("猫", "dog")
    assert main(["vocabulary", *model]) == 2
    assert "--classes or with --classes-file" in capsys.readouterr().err


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.bin"
    write_atomically(file, b"one")
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    with pytest.raises(TypeError):
        write_atomically(file, "text")  # type: ignore[arg-type]
    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["a.bin"]
