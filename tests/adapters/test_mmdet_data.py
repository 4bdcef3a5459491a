"""Scenes on disk, users' files on their way into a run, and what a run reports."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from rich.console import Console

from fgclip2.data.coco import CocoCategory
from fgclip2.data.openmoji import World
from fgclip2.errors import Fgclip2Error
from fgclip2_mmdet.annotations import read_image_ids
from fgclip2_mmdet.class_words import ClassWords, class_words
from fgclip2_mmdet.embedded import DONE, EmbeddedConfig, EmbeddedData, find_scenes, prepare, split_categories
from fgclip2_mmdet.experiment import (
    DetectionData,
    check_options,
    fill_config,
    from_embedded,
    summary,
)
from fgclip2_mmdet.metric import OpenVocabCocoMetric
from fgclip2_mmdet.report import figures_table, judged_classes, write_metrics
from fgclip2_mmdet.user_data import read_user_data, write_user_data

SMALL = EmbeddedConfig(train=5, val=3, base=30, novel=10, size=96)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedData:
    told: list[tuple[int, int]] = []
    folder = tmp_path_factory.mktemp("world") / "scenes"
    (folder.parent / "scenes.partial" / "train").mkdir(parents=True)
    (folder.parent / "scenes.partial" / "train" / "torn.jpg").write_text("left by a killed run")
    data = prepare(folder, SMALL, workers=1, progress=lambda *counts: told.append(counts))
    assert told[-1] == (8, 8)
    return data


def test_training_scenes_show_no_novel_category(scenes: EmbeddedData) -> None:
    train, val = (json.loads(file.read_text()) for file in (scenes.train_annotations, scenes.val_annotations))
    shown = {category["name"] for category in train["categories"]}
    assert len(shown) == 30
    assert not shown & set(scenes.novel)
    assert {item["category_id"] for item in train["annotations"]} <= {item["id"] for item in train["categories"]}
    assert [item["name"] for item in val["categories"]] == scenes.names["en"]
    assert [item["name_zh"] for item in val["categories"]] == scenes.names["zh"]
    assert len(scenes.novel) == 10
    assert len(train["images"]) == 5
    for part, content in (("train", train), ("val", val)):
        sizes = {Image.open(scenes.directory / part / image["file_name"]).size for image in content["images"]}
        assert sizes == {(96, 96)}
        assert all(item["bbox"][0] + item["bbox"][2] <= 96 for item in content["annotations"])
    assert not list(scenes.directory.rglob("torn.jpg"))


def test_finished_scenes_are_found_and_torn_ones_made_again(scenes: EmbeddedData) -> None:
    file = scenes.directory / "train" / "000003.jpg"
    before = file.read_bytes()
    told: list[int] = []
    assert prepare(scenes.directory, SMALL, workers=1, progress=lambda done, _: told.append(done)) == scenes
    assert told == []
    file.unlink()
    (scenes.directory / DONE).unlink()
    prepare(scenes.directory, SMALL, workers=1, progress=lambda done, _: told.append(done))
    assert told[-1] == 8
    assert file.read_bytes() == before


def test_more_categories_than_the_world_has(tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match="ask for fewer"):
        prepare(tmp_path / "scenes", EmbeddedConfig(base=5000, novel=10))


def test_scenes_of_a_run_are_found_whatever_their_config(scenes: EmbeddedData, tmp_path: Path) -> None:
    assert find_scenes(scenes.directory) == scenes
    with pytest.raises(Fgclip2Error, match="has no finished scenes; `make ovd`"):
        find_scenes(tmp_path)
    (tmp_path / DONE).write_text('{"config": {"unknown": 1}}')
    with pytest.raises(Fgclip2Error, match="is of another version"):
        find_scenes(tmp_path)


@pytest.mark.parametrize(
    ("categories", "fraction", "base", "novel"),
    [(None, None, 648, 216), (600, None, 450, 150), (None, 0.5, 432, 432), (7, 0.3, 5, 2), (2, 0.5, 1, 1)],
)
def test_categories_are_parted(categories: int | None, fraction: float | None, base: int, novel: int) -> None:
    config = EmbeddedConfig.parted(categories, fraction, val=3)
    assert (config.base, config.novel, config.val, config.train) == (base, novel, 3, EmbeddedConfig.train)
    shares = split_categories(World(), config)
    assert [len(set(share)) for share in shares] == [base, novel]
    assert not set(shares[0]) & set(shares[1])


def test_all_categories_are_shown_by_default() -> None:
    world = World()
    base, novel = split_categories(world, EmbeddedConfig())
    assert sorted(base + novel) == list(range(len(world.categories)))
    with pytest.raises(Fgclip2Error, match="of 1 categories novel: give shares and numbers that leave"):
        EmbeddedConfig.parted(1)


def test_embedded_data_is_evaluated_in_two_languages(scenes: EmbeddedData) -> None:
    data = from_embedded(scenes)
    assert list(data.vocabularies) == ["en", "zh"]
    assert len(data.base) == 30
    assert [name for name in data.classes if name in data.novel] == data.novel


def user_files(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    categories = [{"id": 4, "name": "dog"}, {"id": 2, "name": "猫"}, {"id": 9, "name": "bus"}]
    for part, boxes in (("train", {1: [4, 2], 2: [2], 3: [9, 9]}), ("val", {7: [2, 9]})):
        images = [{"id": i, "file_name": f"{part}{i}.png", "width": 40, "height": 30} for i in boxes]
        for image in images:
            Image.new("RGB", (40, 30)).save(root / "images" / image["file_name"])
        annotations = [
            {"id": 10 * image + k, "image_id": image, "category_id": category, "bbox": [1 + k, 2, 10, 12]}
            for image, names in boxes.items()
            for k, category in enumerate(names)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{part}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return root


def test_novel_labels_leave_the_training_file(tmp_path: Path) -> None:
    root = user_files(tmp_path / "mine")
    data = write_user_data(read_user_data(root, "train.json", "val.json", ["猫"]), tmp_path / "run")
    assert (data.classes, data.novel, data.base) == (["dog", "猫", "bus"], ["猫"], ["dog", "bus"])
    train, val = (
        json.loads(file.read_text(encoding="utf-8")) for file in (data.train_annotations, data.val_annotations)
    )
    assert sorted(item["category_id"] for item in train["annotations"]) == [4, 9, 9]
    assert [image["id"] for image in train["images"]] == [1, 3]  # picture 2 shows a cat only
    assert [item["category_id"] for item in val["annotations"]] == [2, 9]
    assert data.train_images == root / "images"
    assert "2 objects of 1 novel classes and 1 pictures" in data.notes[0]


def changed(file: Path, **lists: list[dict[str, Any]]) -> None:
    """Write other lists into an annotation file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **lists}, ensure_ascii=False), encoding="utf-8")


def test_a_class_that_training_never_shows_is_novel_and_named(tmp_path: Path) -> None:
    """Listed without an object, as crowds only, or not at all: none of these is a base class."""
    root = user_files(tmp_path / "mine")
    listed = [{"id": 4, "name": "dog"}, {"id": 2, "name": "猫"}, {"id": 9, "name": "bus"}, {"id": 5, "name": "toy"}]
    objects = [
        {"id": 1, "image_id": 1, "category_id": 4, "bbox": [1, 2, 10, 12]},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 2, 10, 12], "iscrowd": 1},
    ]
    changed(root / "train.json", categories=listed, annotations=objects)
    changed(root / "val.json", categories=[*listed, {"id": 6, "name": "kite"}])
    user = read_user_data(root, "train.json", "val.json", "")
    data = write_user_data(user, tmp_path / "run")
    assert data.base == ["dog"]
    assert data.novel == ["kite", "猫", "bus", "toy"]
    notes = "\n".join(data.notes)
    assert (
        "train.json: 3 of 4 classes have no object and are so novel: "
        "猫 (crowds only), bus (nothing annotated), toy (nothing annotated)" in notes
    )
    assert "1 classes are not in train.json and so novel: kite" in notes
    assert (
        "val.json: 3 of 5 classes have no object and are not judged: "
        "dog (nothing annotated), toy (nothing annotated), kite (nothing annotated)" in notes
    )
    trained = json.loads(data.train_annotations.read_text(encoding="utf-8"))
    assert [item["name"] for item in trained["categories"]] == ["dog"]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """FiftyOne's labels.json of two folders, whose images are numbered alike: each lies on its own images."""
    root = user_files(tmp_path / "mine")
    for part in ("train", "val"):
        (root / part / "data").mkdir(parents=True)
        content = json.loads((root / f"{part}.json").read_text(encoding="utf-8"))
        for number, image in enumerate(content["images"]):
            image["file_name"] = f"{number}.png"
            Image.new("RGB", (40, 30)).save(root / part / "data" / image["file_name"])
        (root / part / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    user = read_user_data(root, "train/labels.json", "val/labels.json", "")
    assert (user.train.image_root, user.val.image_root) == (root / "train/data", root / "val/data")
    assert any(note.startswith("val/labels.json: 1 of 3 classes have no object") for note in user.notes)


def test_a_validation_file_may_list_fewer_categories(tmp_path: Path) -> None:
    root = user_files(tmp_path / "mine")
    changed(root / "val.json", categories=[{"id": 2, "name": "猫"}, {"id": 9, "name": "bus"}])
    data = write_user_data(read_user_data(root, "train.json", "val.json", "猫"), tmp_path / "run")
    assert data.classes == ["猫", "bus", "dog"]
    assert data.base == ["bus", "dog"]
    assert "1 classes of train.json are not listed in val.json: they are trained and not judged: dog" in data.notes
    content = json.loads(data.val_annotations.read_text(encoding="utf-8"))
    assert {item["name"]: item["id"] for item in content["categories"]} == {"猫": 2, "bus": 9, "dog": 10}
    assert [item["category_id"] for item in content["annotations"]] == [2, 9]


def test_categories_that_group_others_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Roboflow lists the project as category 0, which all others are kinds of; LabelMe has ``_background_``."""
    root = user_files(tmp_path / "mine")
    own = [{"id": 0, "name": "animals-v2", "supercategory": "none"}, {"id": 1, "name": "_background_"}]
    own += [{"id": i, "name": n, "supercategory": "animals-v2"} for i, n in ((4, "dog"), (2, "猫"), (9, "bus"))]
    for part in ("train", "val"):
        changed(root / f"{part}.json", categories=own)
    data = write_user_data(read_user_data(root, "train.json", "val.json", "猫"), tmp_path / "run")
    assert data.classes == ["dog", "猫", "bus"]
    assert data.base == ["dog", "bus"]
    for what in ("stands above others: 'animals-v2'", "is a background: '_background_'"):
        assert f"1 categories without an object are no classes, since each {what}" in caplog.text
    # One that has objects is a class as any other.
    shown = [{"id": 1, "image_id": 1, "category_id": i, "bbox": [1, 2, 10, 12]} for i in (0,)]
    changed(root / "train.json", annotations=shown)
    assert read_user_data(root, "train.json", "val.json", "").classes == ["dog", "猫", "bus", "animals-v2"]


@pytest.mark.parametrize(
    ("content", "order"),
    [
        ({"2": "Katze", "4": "Hund", "9": "Bus"}, "by the categories' ids"),
        ([{"id": 9, "name": "Bus"}, {"id": 2, "name": "Katze"}, {"id": 4, "name": "Hund"}], "by the categories' ids"),
        ({"0": "Hund", "1": "Katze", "2": "Bus"}, "in the order of the categories"),
        (["Hund", "Katze", "Bus"], "in the order of the categories"),
    ],
)
def test_names_belong_to_the_category_of_their_number(tmp_path: Path, content: Any, order: str) -> None:
    root = user_files(tmp_path / "mine")  # dog is 4, 猫 is 2, bus is 9, in this order
    (root / "names.json").write_text(json.dumps(content), encoding="utf-8")
    data = read_user_data(root, "train.json", "val.json", "", root / "names.json")
    assert data.vocabularies == {"names": ["Hund", "Katze", "Bus"]} or data.vocabularies["en"] == [
        "Hund",
        "Katze",
        "Bus",
    ]
    assert any(f"{order}: 'Hund' is 'dog'" in note for note in data.notes)


def test_names_with_commas_are_kept_out_of_training(tmp_path: Path) -> None:
    root = user_files(tmp_path / "mine")
    names = [{"id": 4, "name": "Bow (weapon), toy"}, {"id": 2, "name": "toy"}, {"id": 9, "name": "红，帽子"}]
    for part in ("train", "val"):
        changed(root / f"{part}.json", categories=names)
    for text, novel in {
        "Bow (weapon), toy": ["Bow (weapon), toy"],
        "toy, 红，帽子": ["toy", "红，帽子"],
        '"toy"、"Bow (weapon), toy"': ["toy", "Bow (weapon), toy"],
    }.items():
        assert read_user_data(root, "train.json", "val.json", text).novel == novel
    with pytest.raises(Fgclip2Error, match=r"has no class Bow \(weapon\); did you mean"):
        read_user_data(root, "train.json", "val.json", "Bow (weapon); toy")


def test_the_table_counts_the_classes_that_were_judged(tmp_path: Path) -> None:
    root = user_files(tmp_path / "mine")
    data = write_user_data(read_user_data(root, "train.json", "val.json", "猫"), tmp_path / "run")
    metric = OpenVocabCocoMetric(str(data.val_annotations), novel=data.novel, prefix="names")
    metric.dataset_meta = {"classes": data.classes}
    empty = {"bboxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, np.int64)}
    figures = metric.compute_metrics([{"img_id": 7, **empty}])
    assert metric.evaluation is not None
    assert judged_classes(metric.evaluation) == {"猫", "bus"}
    console = Console(record=True, width=120)
    console.print(figures_table({"names": figures}, data, judged=judged_classes(metric.evaluation)))
    text = console.export_text()
    assert "base (1 of 2)" in text
    assert "novel (1)" in text
    assert "all (2 of 3)" in text


def test_user_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    root = user_files(tmp_path / "mine")
    with pytest.raises(Fgclip2Error, match="unicorn"):
        read_user_data(root, "train.json", "val.json", ["unicorn"])
    with pytest.raises(Fgclip2Error, match="nothing to train on"):
        read_user_data(root, "train.json", "val.json", ["dog", "猫", "bus"])
    with pytest.raises(Fgclip2Error, match="no_such"):
        read_user_data(root, "no_such.json", "val.json", [])
    with pytest.raises(Fgclip2Error, match="not a folder"):
        read_user_data(tmp_path / "elsewhere", "train.json", "val.json", [])


def test_report_shows_missing_groups(tmp_path: Path) -> None:
    figures = summary(
        {
            "names/AP50_base": 61.26,
            "names/AP50_novel": math.nan,
            "names/AP50_all": 61.26,
            "names/AP50_small": 20.04,
            "names/AP_base": 42,
            "names/AP_all": 40,
        }
    )
    data = DetectionData(["a", "b"], [], {"names": ["a", "b"]}, *[tmp_path] * 4)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(figures_table(figures, data))
    row = next(line for line in console.export_text().splitlines() if "class names" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "class names",
        "61.3",
        "-",
        "61.3",
        "20.0",
        "42.0",
        "40.0",
    ]
    write_metrics(tmp_path / "metrics.json", {"metrics": figures})
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["names"]["AP50_novel"] is None


def test_entries_of_a_config_are_kept() -> None:
    """What the data does not decide: prompts, chosen pictures, files of predictions, further metrics and facts."""
    file = Path(__file__).parents[2] / "apps/configs/ovd/fvit.py"
    cfg = Config.fromfile(file)
    given: dict[str, Any] = {
        "model.vocabulary.templates": ["a photo of a {}."],
        "randomness.deterministic": True,
        "test_evaluator.outfile": "out/preds.json",
        "test_evaluator.image_ids": "minival.json",
        "val_dataloader.dataset.image_ids": "others.json",
        "test_dataloader.dataset.metainfo.palette": [(1, 2, 3)],
    }
    check_options(given, published=False)
    cfg.merge_from_dict(given)
    here = Path()
    data = DetectionData(["dog", "猫"], ["猫"], {"en": ["dog", "cat"], "zh": ["狗", "猫"]}, here, here, here, here)
    for _ in range(2):  # also a config that a run has left
        fill_config(cfg, data, None, Path("run"), 3)
        assert cfg.model.vocabulary.templates == ["a photo of a {}."]
        assert cfg.model.vocabulary.train == ["dog"]
        assert cfg.randomness == {"deterministic": True, "seed": 3}
        assert cfg.test_dataloader.dataset.metainfo == {"palette": [(1, 2, 3)], "classes": ["dog", "猫"]}
        assert cfg.test_dataloader.dataset.image_ids == "minival.json"
        assert {metric.image_ids for metric in cfg.test_evaluator} == {"minival.json"}
        assert {metric.image_ids for metric in cfg.val_evaluator} == {"others.json"}
        assert [(metric.prefix, metric.field, metric.outfile) for metric in cfg.test_evaluator] == [
            ("en", "pred_instances", "out/preds.json"),
            ("zh", "pred_zh", "out/preds-zh.json"),
            ("shuffled", "pred_shuffled", "out/preds-shuffled.json"),
        ]
        assert not any("outfile" in metric for metric in cfg.val_evaluator)
    cfg.test_evaluator[0].image_ids = "val.json"
    with pytest.raises(Fgclip2Error, match="'val.json'.*'minival.json'"):
        fill_config(cfg, data, None, Path("run"), 3)
    cfg = Config.fromfile(file)
    cfg.test_evaluator = [cfg.test_evaluator, {"type": "DumpResults", "out_file_path": "x.pkl"}]
    fill_config(cfg, data, None, Path("run"), 3)
    assert [metric.type for metric in cfg.test_evaluator] == ["OpenVocabCocoMetric"] * 3 + ["DumpResults"]


SOFAS = [("couch", "沙发", ["sofa", "长沙发"]), ("dog", "狗", []), ("dvd player", "DVD", ["DVD机"])]


def words(categories: list[tuple[str, str | None, list[str]]], names: Any = None, folder: Path = Path()) -> ClassWords:
    file = None
    if names is not None:
        file = folder / ("names.txt" if isinstance(names, str) else "names.json")
        text = names if isinstance(names, str) else json.dumps(names, ensure_ascii=False)
        file.write_text(text, encoding="utf-8")
    given = [CocoCategory(number, *each[:1], None, *each[1:]) for number, each in enumerate(categories, start=1)]
    return class_words(given, Path("val.json"), file)


def test_categories_with_chinese_names_are_two_vocabularies() -> None:
    found = words(SOFAS)
    assert found.vocabularies == {"en": ["couch", "dog", "dvd player"], "zh": ["沙发", "狗", "DVD"]}
    assert found.synonyms == {"en": [["sofa"], [], []], "zh": [["长沙发"], [], ["DVD机"]]}
    assert found.notes == ["2 of 3 classes are the mean of their name and their synonyms"]
    found = words([("couch", None, ["sofa", "长沙发"]), ("dog", "狗", [])])  # a synonym may be the only Chinese word
    assert found.vocabularies == {"en": ["couch", "dog"], "zh": ["长沙发", "狗"]}
    found = words([("couch", None, ["sofa", "Couch"]), ("dog", "狗", ["犬"]), ("猫", None, [])])
    assert found.vocabularies == {"names": ["couch", "dog", "猫"]}
    assert found.synonyms == {"names": [["sofa"], ["犬"], []]}
    assert "1 of 3 have no Chinese one, such as couch" in found.notes[0]
    assert words([("dog", None, []), ("猫", None, [])]) == ClassWords({"names": ["dog", "猫"]})
    for wrong, said in (
        (("dog", 3, []), "'dog' (id 1) has 'name_zh' 3"),
        (("dog", None, "hound"), "synonyms of 'dog'"),
    ):
        with pytest.raises(Fgclip2Error, match=r"val\.json: category") as caught:
            words([wrong])
        assert said in str(caught.value)


def test_a_file_of_names_is_aligned_to_the_categories(tmp_path: Path) -> None:
    plain = [(name, None, []) for name in ("couch", "dog", "dvd player")]
    found = words(plain, "沙发\n狗\nDVD\n", tmp_path)
    assert found.vocabularies == {"en": ["couch", "dog", "dvd player"], "zh": ["沙发", "狗", "DVD"]}
    assert "in the order of the categories: '沙发' is 'couch'" in found.notes[0]
    entries: list[dict[str, Any]] = [
        {"name": "犬", "synonyms": ["Dog"]},
        {"name": "DVD_player", "synonyms": ["影碟机", "dog"]},
        {"name": "sofa", "synonyms": ["couch", "沙发", "长沙发"]},
    ]
    found = words(plain, entries, tmp_path)
    assert found.vocabularies == {"en": ["sofa", "Dog", "DVD_player"], "zh": ["沙发", "犬", "影碟机"]}
    assert found.synonyms == {"en": [["couch"], [], ["dog"]], "zh": [["长沙发"], [], []]}
    found = words(plain, ["couch", "dog", "video player"], tmp_path)  # in place, so a new name for the third
    assert found.vocabularies == {"names": ["couch", "dog", "video player"]}
    for names, said in (
        (["dog", "couch", "television"], "none of the categories: television"),
        (["dog", "couch"], "lacks dvd player"),
        (["couch", "dog", "dvd player", "沙发"], "none of the categories: 沙发"),
        ([*entries, {"name": "沙发床", "synonyms": ["couch"]}], "for one category: sofa and 沙发床"),
        ([{"name": "动物", "synonyms": ["dog", "couch"]}], "several categories: 动物 (couch, dog)"),
    ):
        with pytest.raises(Fgclip2Error, match=r"--names .*names\.json") as caught:
            words(plain, names, tmp_path)
        assert said in str(caught.value)


def test_names_in_two_languages_reach_the_config(tmp_path: Path) -> None:
    root = user_files(tmp_path / "mine")
    for part in ("train", "val"):
        content = json.loads((root / f"{part}.json").read_text(encoding="utf-8"))
        chinese = {"dog": "狗", "猫": "猫", "bus": "公交车"}
        for category in content["categories"]:
            category |= {
                "name_zh": chinese[category["name"]],
                "synonyms": ["cat", "猫咪"] if category["id"] == 2 else [],
            }
        (root / f"{part}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    data = write_user_data(read_user_data(root, "train.json", "val.json", ["猫"]), tmp_path / "run")
    assert data.vocabularies == {"en": ["dog", "cat", "bus"], "zh": ["狗", "猫", "公交车"]}
    assert data.classes == ["dog", "猫", "bus"]
    written = json.loads(data.val_annotations.read_text(encoding="utf-8"))
    assert written["categories"][1] == {"id": 2, "name": "猫", "name_zh": "猫", "synonyms": ["cat", "猫咪"]}
    cfg = Config.fromfile(Path(__file__).parents[2] / "apps/configs/ovd/fvit.py")
    fill_config(cfg, data, None, tmp_path, 0)
    assert cfg.model.vocabulary.train.to_dict() == {"dog": [], "bus": []}
    assert cfg.model.vocabulary.test.to_dict() == {
        "en": {"dog": [], "cat": [], "bus": []},
        "zh": {"狗": [], "猫": ["猫咪"], "公交车": []},
    }
    assert [metric.prefix for metric in cfg.test_evaluator] == ["en", "zh", "shuffled"]
    (root / "names.txt").write_text("狗\n猫\n狗\n", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match=r"names\.txt.*'狗'"):
        read_user_data(root, "train.json", "val.json", [], root / "names.txt")


@pytest.mark.parametrize("ids", [[7, 9], ["7", " 9 "], [7.0, "9"]])
@pytest.mark.parametrize("whole_file", [False, True])
def test_ids_of_chosen_pictures_in_every_spelling(ids: list[Any], whole_file: bool, tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text(json.dumps({"images": [{"id": number} for number in ids]} if whole_file else ids), encoding="utf-8")
    assert read_image_ids(file) == {7, 9}
    file.write_text(json.dumps([*ids, "x"]), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="lists no image ids; give a JSON list of whole numbers"):
        read_image_ids(file)
