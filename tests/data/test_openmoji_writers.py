"""Scenes written to files and read back by the usual readers."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from fgclip2.data.openmoji import SceneConfig, write_coco, write_finehard, write_webdataset
from fgclip2.errors import Fgclip2Error

CONFIG = SceneConfig(size=128)


@pytest.fixture(scope="module")
def scenes(world):
    return [world.scene(seed, CONFIG) for seed in range(5)]


def leftovers(folder) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_coco_round_trip(world, scenes, tmp_path, language):
    coco_module = pytest.importorskip("pycocotools.coco")
    path = write_coco(iter(scenes), tmp_path, world.categories, language, lossless=True)
    coco = coco_module.COCO(str(path))
    assert len(coco.getCatIds()) == len(world.categories)
    assert len(coco.getAnnIds()) == sum(len(scene.objects) for scene in scenes)
    for image_id, scene in zip(coco.getImgIds(), scenes, strict=True):
        (record,) = coco.loadImgs(image_id)
        with Image.open(tmp_path / "images" / record["file_name"]) as image:
            assert (np.asarray(image) == scene.pixels).all()
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(annotations) == len(scene.objects)
        for annotation, thing in zip(annotations, scene.objects, strict=True):
            assert (coco.annToMask(annotation).astype(bool) == thing.mask).all()
            assert annotation["area"] == thing.mask.sum()
            x, y, w, h = annotation["bbox"]
            assert (x, y, x + w, y + h) == thing.box
            (category,) = coco.loadCats(annotation["category_id"])
            assert category["name"] == thing.names[language]
            assert category["name_zh"] == thing.category.name_zh
    assert leftovers(tmp_path) == []


def test_coco_of_some_categories_leaves_the_others_out(world, scenes, tmp_path):
    chosen = [thing.category for thing in scenes[0].objects[:2]]
    path = write_coco(scenes, tmp_path, chosen)
    content = json.loads(path.read_text(encoding="utf-8"))
    ids = sorted({category.id for category in chosen})
    assert [category["id"] for category in content["categories"]] == ids
    assert {annotation["category_id"] for annotation in content["annotations"]} <= set(ids)
    assert len(content["images"]) == len(scenes)


@pytest.mark.parametrize(("language", "lines"), [("en", False), ("zh", False), ("zh", True)])
def test_finehard_records(scenes, tmp_path, language, lines):
    path = write_finehard(scenes, tmp_path, language, lines)
    text = path.read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    assert len(records) == len(scenes)
    for record, scene in zip(records, scenes, strict=True):
        with Image.open(tmp_path / record["f_path"]) as image:
            assert image.size == (128, 128)
        assert record["caption"] == scene.long[language]
        assert record["short_caption"] == scene.short[language][0]
        assert ("is_cn" in record) == (language == "zh")
        for entry, thing in zip(record["bbox_info"], scene.objects, strict=True):
            assert np.allclose(np.array(entry["bbox"]) * 128, thing.box)
            assert entry["short_expr"] == thing.phrases[language]
            assert thing.names[language] in entry["long_expr"]
            assert entry["flag_short_neg"] == 1
            assert list(entry["short_expr_negs"].values()) == thing.negatives[language]
            assert list(entry["short_expr_negs"]) == [str(k) for k in range(10)]


def test_webdataset_shards_round_trip_and_repeat(scenes, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    shards = write_webdataset(iter(scenes), tmp_path / "a", "zh", shard_size=2, lossless=True)
    assert [path.name for path in shards] == ["scenes-000000.tar", "scenes-000001.tar", "scenes-000002.tar"]
    samples = list(webdataset.WebDataset([str(path) for path in shards], shardshuffle=False))
    assert len(samples) == 5
    for sample, scene in zip(samples, scenes, strict=True):
        assert (np.asarray(Image.open(io.BytesIO(sample["png"]))) == scene.pixels).all()
        record = json.loads(sample["json"])
        assert record["is_cn"]
        assert record["bbox_info"][0]["short_expr"] == scene.objects[0].phrases["zh"]
        assert sample["__key__"] == f"{scene.seed:09d}"
    again = write_webdataset(scenes, tmp_path / "b", "zh", shard_size=2, lossless=True)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in shards]


def test_a_full_last_shard_is_not_followed_by_an_empty_one(scenes, tmp_path):
    assert len(write_webdataset(scenes[:4], tmp_path, shard_size=2)) == 2
    assert write_webdataset([], tmp_path / "none") == []


def test_nothing_half_written_when_scenes_fail(world, scenes, tmp_path):
    def failing():
        yield scenes[0]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_coco(failing(), tmp_path / "coco", world.categories)
    assert not (tmp_path / "coco" / "annotations.json").exists()
    with pytest.raises(OSError, match="disk"):
        write_webdataset(failing(), tmp_path / "shards")
    assert list((tmp_path / "shards").iterdir()) == []
    assert leftovers(tmp_path) == []


def test_wrong_arguments_teach(world, scenes, tmp_path):
    with pytest.raises(Fgclip2Error, match="choose 'en' or 'zh'"):
        write_finehard(scenes, tmp_path, "fr")
    with pytest.raises(Fgclip2Error, match="no categories"):
        write_coco(scenes, tmp_path, [])
    with pytest.raises(Fgclip2Error, match="two scenes of seed 0"):
        write_finehard([scenes[0], scenes[0]], tmp_path)
    with pytest.raises(Fgclip2Error, match="shard_size=0"):
        write_webdataset(scenes, tmp_path, shard_size=0)
