"""Class names to embeddings: the mean over prompts, the cache, the tie to one model, and every form of names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import fgclip2
from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import (
    Vocabulary,
    cache_dir,
    load_classes,
    load_names,
    load_templates,
    parse_names,
    same_classes,
)

NAMES = ["dog", "红色汽车", "黑猫"]


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


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
            (["traffic_light", "红车", "Traffic light"], None, "0 and 2 are the same"),
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


class TestSynonyms:
    def test_a_class_is_the_mean_of_its_words(self, tiny: FGCLIP2):
        words = ["sofa", "couch", "沙发"]
        vocabulary = Vocabulary.build(tiny, {"sofa": words[1:], "dog": []})
        features = tiny.text_features(words, kind="box").numpy()
        mean = features.mean(0)
        np.testing.assert_allclose(vocabulary.embeddings[0], mean / np.linalg.norm(mean), atol=1e-6)
        np.testing.assert_allclose(vocabulary.embeddings[1], tiny.text_features("dog", kind="box")[0], atol=1e-6)
        assert (vocabulary.names, vocabulary.synonyms) == (("sofa", "dog"), (("couch", "沙发"), ()))

    def test_each_language_takes_its_own_templates(self, tiny: FGCLIP2):
        """A word counts once however many templates its language has."""
        templates = {"zh": ["一张{}的照片"], "en": ["a photo of a {}.", "the {}"]}
        vocabulary = Vocabulary.build(tiny, {"sofa": ["沙发"], "黑猫": ()}, templates)
        photo, the, chinese, cat = tiny.text_features(
            ["a photo of a sofa.", "the sofa", "一张沙发的照片", "一张黑猫的照片"], kind="box"
        ).numpy()
        english = (photo + the) / np.linalg.norm(photo + the)
        mean = english + chinese
        assert np.linalg.norm((photo + the) / 2) < 0.999  # else nothing is shown
        row = vocabulary.embeddings[0].numpy()
        np.testing.assert_allclose(row @ english, row @ chinese, atol=1e-6)
        np.testing.assert_allclose(vocabulary.embeddings[0], mean / np.linalg.norm(mean), atol=1e-6)
        np.testing.assert_allclose(vocabulary.embeddings[1], cat, atol=1e-6)
        assert vocabulary.templates == {key: tuple(value) for key, value in templates.items()}

    @pytest.mark.parametrize(
        ("names", "templates", "message"),
        [
            ({"sofa": "couch"}, None, "synonyms of 'sofa'"),
            ({"sofa": [" "]}, None, "synonyms of 'sofa'"),
            (["sofa"], {"en": ["{}"]}, "those of 'en' and those of 'zh'"),
            (["sofa"], {"en": ["{}"], "zh": []}, "no templates"),
            (["sofa"], {"en": ["{}"], "zh": ["{}"], "fr": ["{}"]}, "'fr'"),
        ],
    )
    def test_what_cannot_be_used(self, tiny: FGCLIP2, names: object, templates: object, message: str):
        with pytest.raises(Fgclip2Error, match=message):
            Vocabulary.build(tiny, names, templates)  # type: ignore[arg-type]

    def test_a_file_keeps_them(self, tiny: FGCLIP2, tmp_path: Path):
        vocabulary = Vocabulary.build(tiny, {"sofa": ["沙发"], "dog": []}, {"en": ["the {}"], "zh": ["{}"]})
        vocabulary.save(tmp_path / "a.safetensors")
        loaded = Vocabulary.load(tmp_path / "a.safetensors", tiny)
        assert (loaded.synonyms, loaded.templates) == (vocabulary.synonyms, vocabulary.templates)

    def test_rivals_leave_out_what_is_meant(self, tiny: FGCLIP2):
        wanted = Vocabulary.build(tiny, {"sofa": ["Couch"], "dog": []})
        both = wanted.against(Vocabulary.build(tiny, ["couch", "bus", "DOG", "tree"]))
        assert both.names == ("sofa", "dog", "bus", "tree")
        assert both.synonyms == (("Couch",), (), (), ())
        expected = torch.cat(
            [wanted.embeddings, tiny.text_features(["bus", "tree"], kind="box").as_subclass(torch.Tensor)]
        )
        torch.testing.assert_close(both.embeddings, expected)


class TestCache:
    def files(self) -> list[Path]:
        return sorted((cache_dir() / "texts").rglob("*.safetensors"))

    @pytest.fixture
    def embedded(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Texts that reach a text tower, in turn."""
        texts: list[str] = []
        whole = FGCLIP2.text_features

        def counted(self: FGCLIP2, given: list[str], **kwargs: Any) -> Any:
            texts.extend(given)
            return whole(self, given, **kwargs)

        monkeypatch.setattr(FGCLIP2, "text_features", counted)
        return texts

    def test_the_second_build_computes_nothing(self, tiny: FGCLIP2, embedded: list[str]):
        first = Vocabulary.build(tiny, NAMES)
        assert embedded == NAMES
        second = Vocabulary.build(tiny, NAMES[::-1])
        assert embedded == NAMES
        assert torch.equal(second.embeddings.flip(0), first.embeddings)
        assert second.names == tuple(NAMES[::-1])

    def test_only_what_is_new_is_embedded(self, tiny: FGCLIP2, other: FGCLIP2, embedded: list[str]):
        """The key is model, templates and name, whatever the list and whether it is a name or a synonym."""
        Vocabulary.build(tiny, NAMES)
        Vocabulary.build(tiny, {"puppy": ["dog"], "黑猫": []})
        assert embedded == [*NAMES, "puppy"]
        Vocabulary.build(tiny, NAMES[:1], ["the {}"])
        Vocabulary.build(other, NAMES[:1])
        Vocabulary.build(tiny, ["dog", "猫"], {"en": ["the {}"], "zh": ["{}"]})
        assert embedded[4:] == ["the dog", "dog", "猫"]

    def test_it_can_be_left_out(self, tiny: FGCLIP2):
        Vocabulary.build(tiny, NAMES, cache=False)
        assert self.files() == []

    def test_a_damaged_file_is_made_again(self, tiny: FGCLIP2, caplog: pytest.LogCaptureFixture):
        first = Vocabulary.build(tiny, NAMES)
        self.files()[0].write_bytes(b"damaged")
        second = Vocabulary.build(tiny, NAMES)
        assert "made again" in caplog.text
        assert torch.equal(second.embeddings, first.embeddings)
        assert len(self.files()) == 1

    def test_a_run_that_is_killed_keeps_what_it_had(
        self, tiny: FGCLIP2, embedded: list[str], monkeypatch: pytest.MonkeyPatch
    ):
        """Between two chunks, and in the middle of writing one."""
        names = [f"thing {number}" for number in range(10)]
        monkeypatch.setattr("fgclip2.vocabulary._CHUNK", 4)
        written = []

        def killed(source: Path, target: Path) -> None:
            written.append(source)
            if len(written) == 2:
                raise KeyboardInterrupt
            os.replace(source, target)

        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Vocabulary.build(tiny, names)
        (self.files()[0].parent / ".half.safetensors.tmp").write_bytes(b"of a process that was killed with -9")
        del embedded[:]
        vocabulary = Vocabulary.build(tiny, names)
        assert embedded == names[4:]
        torch.testing.assert_close(
            vocabulary.embeddings, tiny.text_features(names, kind="box").as_subclass(torch.Tensor), atol=1e-6, rtol=0
        )

    def test_a_cache_that_cannot_be_written_is_done_without(
        self, tiny: FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert Vocabulary.build(tiny, NAMES).names == tuple(NAMES)
        assert "are not kept" in caplog.text

    def test_twenty_thousand_classes(self, tiny: FGCLIP2, embedded: list[str]):
        """In two languages, with synonyms and templates; one more name costs one name."""
        names = {f"{'第' if number % 2 else 'thing '}{number}": [f"no. {number}"] for number in range(20_000)}
        with Largest() as largest:
            vocabulary = Vocabulary.build(tiny, names, {"en": ["the {}"], "zh": ["{}"]})
        assert len(embedded) == 40_000
        assert largest.numbers <= 40_000 * tiny.width  # nothing grows faster than what is asked for
        del embedded[:]
        again = Vocabulary.build(tiny, names | {"红色汽车": []}, {"en": ["the {}"], "zh": ["{}"]})
        assert embedded == ["红色汽车"]
        assert torch.equal(again.embeddings[:-1], vocabulary.embeddings)
        for row in (0, 9_999, 19_999):
            name, (synonym,) = list(names.items())[row]
            pair = tiny.text_features([name if row % 2 else f"the {name}", f"the {synonym}"], kind="box").numpy()
            mean = pair.mean(0)
            np.testing.assert_allclose(vocabulary.embeddings[row], mean / np.linalg.norm(mean), atol=1e-5)


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
        ("text", "names"),
        [
            ('"red car, blue roof", dog', ["red car, blue roof", "dog"]),
            ("“红色汽车，蓝顶”、狗", ["红色汽车，蓝顶", "狗"]),
            ("「弓，玩具」,'cup; blue'", ["弓，玩具", "cup; blue"]),
            ("Bow (weapon, old), 碗（大，白）、dog", ["Bow (weapon, old)", "碗（大，白）", "dog"]),
            ("1,000 people, 1,250 g bag,dog", ["1,000 people", "1,250 g bag", "dog"]),
            ("１，２５０人、1,000人，狗", ["１，２５０人", "1,000人", "狗"]),
            ("room 101,102", ["room 101", "102"]),
            ("3,5 mm screw", ["3", "5 mm screw"]),
            ("1,000; 5,000, 10,000,000", ["1,000", "5,000", "10,000,000"]),
            ("100,200,300", ["100", "200", "300"]),  # numbers as names: nothing says that it is one
            ("1,2,3", ["1", "2", "3"]),
            ("dog (small, cat", ["dog (small", "cat"]),  # never closed
            (":), cat", [":)", "cat"]),
            ('6" nail, 12" nail', ['6" nail', '12" nail']),
            ('"STOP" sign, car', ['"STOP" sign', "car"]),
            ("women's shoe, men's shoe", ["women's shoe", "men's shoe"]),
            ("'n' roll, dog", ["'n' roll", "dog"]),
            ('["dog", "bow, toy"]', ["dog", "bow, toy"]),
            ("[dog, cat]", ["[dog, cat]"]),
            ("a (b [c, d), e", ["a (b [c, d)", "e"]),
        ],
    )
    def test_commas_inside_names_do_not_cut(self, text: str, names: list[str]):
        assert parse_names(text) == names

    @pytest.mark.parametrize(
        ("text", "known", "names"),
        [
            ("Bow (weapon), toy", ["Bow (weapon), toy", "dog"], ["Bow (weapon), toy"]),
            ("Bow (weapon), toy", ["Bow (weapon)", "toy"], ["Bow (weapon)", "toy"]),
            ("dog, bow (Weapon), Toy, cat", ["Bow_(weapon), toy", "cat", "dog"], ["dog", "bow (Weapon), Toy", "cat"]),
            ("bow, toy", ["bow", "toy", "bow, toy"], ["bow, toy"]),  # the longest
            ('"bow", toy', ["bow", "toy", "bow, toy"], ["bow", "toy"]),
            ("帽子，红色、狗", ["帽子，红色", "狗"], ["帽子，红色", "狗"]),
            ("1,000 people", ["1", "000 people"], ["1", "000 people"]),
            ("a, b, c, d, e, f, g, h, i, j", ["a, b, c"], ["a, b, c", *"defghij"]),
            ("cat, no such, thing", ["cat", "no such"], ["cat", "no such", "thing"]),
            ('6" nail, "dog"', ['6" nail', "dog"], ['6" nail', "dog"]),
        ],
    )
    def test_known_names_are_matched_before_commas_cut(self, text: str, known: list[str], names: list[str]):
        assert parse_names(text, known) == names

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("voc.names", "dog\n红色汽车\n黑猫"),
            ("numbered.txt", "7\t黑猫\n0\tdog\n3\t红色汽车\n"),
            ("comments.txt", "# my classes\ndog\n#\n红色汽车\n黑猫"),
            ("by_number.json", json.dumps({"10": "黑猫", "2": "红色汽车", "0": "dog"})),
            ("to_number.json", json.dumps({"黑猫": 2, "dog": 0, "红色汽车": 1})),
            ("config.json", json.dumps({"id2label": {"0": "dog", "1": "红色汽车", "2": "黑猫"}, "model_type": "x"})),
            ("synonyms.json", json.dumps({"dog": [], "红色汽车": [], "黑猫": []})),
            ("data.yaml", "train: images/train\nnc: 3\nnames: [dog, 红色汽车, 黑猫]\n"),
            ("coco8.yml", "path: coco8\nnames:\n  0: dog\n  2: 黑猫\n  1: 红色汽车\n"),
            ("category.json", json.dumps({"categories": {"0": "dog", "1": "红色汽车", "2": "黑猫"}})),
        ],
    )
    def test_files_of_other_tools(self, tmp_path: Path, name: str, content: str):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert load_names(tmp_path / name) == NAMES

    def test_lines_end_at_line_ends_alone(self, tmp_path: Path):
        (tmp_path / "a.txt").write_text("dog\u2028house\r\n#1 hat\r\n猫\x0b狗\r\n", encoding="utf-8", newline="")
        assert load_names(tmp_path / "a.txt") == ["dog\u2028house", "#1 hat", "猫\x0b狗"]

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.json", '{"dog": 1, "cat": 3}'),
            ("b.json", '{"0": ["n02", "dog"]}'),
            ("c.yaml", "nc: 3\n"),
            ("d.yaml", "just a text"),
            ("e.json", "{}"),
        ],
    )
    def test_what_is_no_list_of_names_is_told(self, tmp_path: Path, name: str, content: str):
        (tmp_path / name).write_text(content)
        with pytest.raises(Fgclip2Error, match="no class names"):
            load_names(tmp_path / name)
        (tmp_path / "empty.json").write_text('{"0": "", "1": "cat"}')
        with pytest.raises(Fgclip2Error, match=r"empty.json: entry 0 has an empty name"):
            load_names(tmp_path / "empty.json")
        (tmp_path / "broken.yaml").write_text("names: [dog")
        with pytest.raises(Fgclip2Error, match=r"broken.yaml cannot be read"):
            load_names(tmp_path / "broken.yaml")

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

    def test_line_separators_inside_a_name_do_not_tear_it(self, tmp_path: Path):
        (tmp_path / "a.txt").write_bytes("ice\u2028cream\r\n冰\x0b\x0c\u0085棒\n".encode())
        assert list(load_names(tmp_path / "a.txt")) == ["ice\u2028cream", "冰\x0b\x0c\u0085棒"]

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

    def test_synonyms(self, tmp_path: Path):
        entries = [
            "dog",
            {"name": "sofa", "synonyms": ["Sofa", "couch", "沙发", "couch"]},
            {"name": "loveseat", "synonyms": ["沙发"]},
        ]
        (tmp_path / "a.json").write_text(json.dumps(entries), encoding="utf-8")
        classes = {"dog": (), "sofa": ("couch", "沙发"), "loveseat": ("沙发",)}
        assert load_classes(tmp_path / "a.json") == classes
        assert load_names(tmp_path / "a.json") == list(classes)
        (tmp_path / "lvis.json").write_text(json.dumps({"categories": entries[1:]}), encoding="utf-8")
        assert list(load_classes(tmp_path / "lvis.json").items()) == list(classes.items())[1:]
        (tmp_path / "b.json").write_text('[{"name": "sofa", "synonyms": "couch"}]')
        with pytest.raises(Fgclip2Error, match=r"b.json: the synonyms of 'sofa' are 'couch'"):
            load_classes(tmp_path / "b.json")

    def test_underscores_are_blanks_in_texts_and_stay_in_names(self, tiny: FGCLIP2):
        own = Vocabulary.build(tiny, {"red_car": ["black_cat"], "红_车": []}, ["a {}"])
        plain = Vocabulary.build(tiny, {"red car": ["black cat"], "红 车": []}, ["a {}"], cache=False)
        assert own.names == ("red_car", "红_车")
        assert own.synonyms == (("black_cat",), ())
        assert torch.equal(own.embeddings, plain.embeddings)
        assert same_classes(plain, Vocabulary.build(tiny, ["Red_Car", "dog"])) == {0}

    def test_templates(self, tmp_path: Path):
        (tmp_path / "a.json").write_text('{"en": ["a {}"], "zh": ["一个{}"]}', encoding="utf-8")
        assert load_templates(tmp_path / "a.json") == {"en": ("a {}",), "zh": ("一个{}",)}
        (tmp_path / "b.json").write_text('["a"]')
        with pytest.raises(Fgclip2Error, match=r"b.json: template 'a'"):
            load_templates(tmp_path / "b.json")
        with pytest.raises(Fgclip2Error, match="cannot be read"):
            load_templates(tmp_path / "none.json")

    def test_a_missing_file(self, tmp_path: Path):
        with pytest.raises(Fgclip2Error, match="does not exist"):
            load_names(tmp_path / "none.txt")
