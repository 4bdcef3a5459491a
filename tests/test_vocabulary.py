"""Class names to embeddings: the mean over prompts, the cache, the tie to one model, and every form of names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import fgclip2
from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import Vocabulary, cache_dir, load_names, parse_names

NAMES = ["dog", "红色汽车", "黑猫"]


@pytest.fixture
def other(tiny: FGCLIP2, tiny_dir: Path) -> FGCLIP2:
    """Another model: the same network with one weight changed, in memory."""
    model = fgclip2.load(tiny_dir, device="cpu", dtype="float32").model
    with torch.no_grad():
        model.boxtext_head.bias += 1
    return FGCLIP2(model, tiny.processor, name="other")


class TestBuild:
    def test_bare_names_are_the_box_features(self, tiny: FGCLIP2):
        vocabulary = Vocabulary.build(tiny, NAMES)
        assert vocabulary.names == tuple(NAMES)
        assert len(vocabulary) == 3
        assert torch.allclose(vocabulary.embeddings, tiny.text_features(NAMES, kind="box"), atol=1e-6)
        assert type(vocabulary.embeddings) is torch.Tensor

    def test_templates_are_averaged_and_normalised(self, tiny: FGCLIP2):
        vocabulary = Vocabulary.build(tiny, NAMES, ["a photo of a {}.", "一张{}的照片"])
        english = tiny.text_features([f"a photo of a {name}." for name in NAMES], kind="box")
        chinese = tiny.text_features([f"一张{name}的照片" for name in NAMES], kind="box")
        assert torch.allclose(vocabulary.embeddings, F.normalize((english + chinese) / 2, dim=-1), atol=1e-6)

    @pytest.mark.parametrize(
        ("names", "templates", "message"),
        [
            ([], None, "no class names"),
            (["dog", "Dog "], None, "0 and 1 are the same"),
            (["dog", " "], None, "class name 1"),
            ("dog", None, "parse_names"),
            (["dog"], ["a photo"], "exactly one {}"),
            (["dog"], ["{} {}"], "exactly one {}"),
            (["dog"], [], "no templates"),
            (["dog"], "{}", "one string"),
        ],
    )
    def test_what_cannot_be_embedded_is_explained(self, tiny: FGCLIP2, names: object, templates: object, message: str):
        with pytest.raises(Fgclip2Error, match=message):
            Vocabulary.build(tiny, names, templates)  # type: ignore[arg-type]


class TestCache:
    def files(self) -> list[Path]:
        return sorted((cache_dir() / "vocabularies").glob("*"))

    def test_the_second_build_computes_nothing(self, tiny: FGCLIP2, monkeypatch: pytest.MonkeyPatch):
        first = Vocabulary.build(tiny, NAMES)
        assert [file.suffix for file in self.files()] == [".safetensors"]
        monkeypatch.setattr(tiny, "text_features", None)
        second = Vocabulary.build(tiny, NAMES)
        assert torch.equal(second.embeddings, first.embeddings)
        assert second.names == first.names

    def test_names_templates_and_model_make_the_key(self, tiny: FGCLIP2, other: FGCLIP2):
        for model, names, templates in [(tiny, NAMES, None), (tiny, NAMES[:2], None), (tiny, NAMES, ["the {}"]),
                                        (other, NAMES, None), (tiny, NAMES, None)]:  # fmt: skip
            Vocabulary.build(model, names, templates)
        assert len(self.files()) == 4

    def test_it_can_be_left_out(self, tiny: FGCLIP2):
        Vocabulary.build(tiny, NAMES, cache=False)
        assert self.files() == []

    def test_a_damaged_file_is_made_again(self, tiny: FGCLIP2, caplog: pytest.LogCaptureFixture):
        first = Vocabulary.build(tiny, NAMES)
        self.files()[0].write_bytes(b"damaged")
        second = Vocabulary.build(tiny, NAMES)
        assert "made again" in caplog.text
        assert torch.equal(second.embeddings, first.embeddings)
        assert Vocabulary.load(self.files()[0], tiny).names == first.names


class TestFile:
    def test_save_and_load(self, tiny: FGCLIP2, tmp_path: Path):
        vocabulary = Vocabulary.build(tiny, NAMES, ["the {}"])
        path = tmp_path / "new" / "词表.safetensors"
        vocabulary.save(path)
        loaded = Vocabulary.load(path, tiny)
        assert (loaded.names, loaded.templates) == (tuple(NAMES), ("the {}",))
        assert (loaded.model_hash, loaded.model_name) == (tiny.hash, tiny.name)
        assert torch.equal(loaded.embeddings, vocabulary.embeddings)
        assert [file.name for file in path.parent.iterdir()] == [path.name]  # no temporary file is left

    def test_another_models_vocabulary_is_refused_naming_both(self, tiny: FGCLIP2, other: FGCLIP2, tmp_path: Path):
        Vocabulary.build(other, NAMES).save(tmp_path / "other.safetensors")
        with pytest.raises(Fgclip2Error) as caught:
            Vocabulary.load(tmp_path / "other.safetensors", tiny)
        message = str(caught.value)
        assert all(part in message for part in ("'other'", repr(tiny.name), other.hash[:12], tiny.hash[:12]))

    def test_what_is_no_vocabulary_is_refused(self, tiny_dir: Path, tmp_path: Path):
        with pytest.raises(Fgclip2Error, match="does not exist"):
            Vocabulary.load(tmp_path / "none.safetensors")
        (tmp_path / "text.safetensors").write_text("x")
        with pytest.raises(Fgclip2Error, match="cannot be read as a vocabulary"):
            Vocabulary.load(tmp_path / "text.safetensors")
        with pytest.raises(Fgclip2Error, match="vocabulary"):
            Vocabulary.load(tiny_dir / "model.safetensors")


class TestNames:
    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("dog, 红色汽车", ["dog", "红色汽车"]),
            ("狗，猫、鸟；鱼;cow\nred car\r\n", ["狗", "猫", "鸟", "鱼", "cow", "red car"]),
            (" a , ,b,", ["a", "b"]),
        ],
    )
    def test_parse(self, text: str, names: list[str]):
        assert parse_names(text) == names

    @pytest.mark.parametrize(
        ("text", "message"), [("", "no class names"), (" ,，", "no class"), ("猫, dog、猫", "the same")]
    )
    def test_parse_refuses(self, text: str, message: str):
        with pytest.raises(Fgclip2Error, match=message):
            parse_names(text)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.txt", "dog\n红色汽车\n\n黑猫\n"),
            ("b.txt", "\ufeffdog\r\n红色汽车\r\n黑猫"),
            ("a.json", json.dumps(NAMES)),
            ("b.json", json.dumps([{"id": i, "name": name} for i, name in enumerate(NAMES)], ensure_ascii=False)),
            ("c.json", json.dumps({"images": [], "categories": [{"id": 9, "name": name} for name in NAMES]})),
        ],
    )
    def test_files(self, tmp_path: Path, name: str, content: str):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert load_names(tmp_path / name) == NAMES

    def test_a_comma_in_a_line_belongs_to_the_name(self, tmp_path: Path):
        (tmp_path / "a.txt").write_text("bow, of a ribbon\ndog")
        assert load_names(tmp_path / "a.txt") == ["bow, of a ribbon", "dog"]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", b"dog", "neither .txt"),
            ("a.json", b"{", "cannot be read"),
            ("a.txt", b"\xff\xfe\x00", "cannot be read"),
            ("a.json", b'{"info": 1}', "no class names"),
            ("a.json", b'["dog", 3]', "3 is not a class name"),
            ("a.json", b'[{"id": 3}]', "is not a class name"),
            ("a.txt", b"dog\nDog", "the same"),
            ("a.txt", b"", "no class names"),
        ],
    )
    def test_files_are_checked(self, tmp_path: Path, name: str, content: bytes, message: str):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Fgclip2Error, match=message) as caught:
            load_names(tmp_path / name)
        assert name in str(caught.value)

    def test_a_missing_file(self, tmp_path: Path):
        with pytest.raises(Fgclip2Error, match="does not exist"):
            load_names(tmp_path / "none.txt")
