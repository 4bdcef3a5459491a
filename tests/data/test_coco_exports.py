"""COCO files as labelling tools export them: right values, and a count of what was put right."""

from __future__ import annotations

import copy
import json
import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lvis import LVIS, LVISEval, LVISResults
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgclip2.data.coco import CocoDataset, check_distinct, find_image, image_folder, load_coco, read_annotation_file
from fgclip2.data.coco_results import load_results, read_results
from fgclip2.data.outlines import outline_box
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import evaluate_boxes

BASE: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 20, 10], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [30, 20, 10, 20], "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 2, "bbox": [2, 20, 10, 10], "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "狗"}, {"id": 2, "name": "cat"}],
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., CocoDataset]:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")

    def reading(change: Callable[[dict[str, Any]], Any] = lambda content: None) -> CocoDataset:
        content = copy.deepcopy(BASE)
        change(content)
        file = tmp_path / "instances.json"
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return load_coco(file, tmp_path)

    return reading


def boxes(data: CocoDataset) -> list[tuple[float, ...]]:
    return [item.box for item in data.annotations]


KINDS: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("text ids", lambda c: [c["images"][0].update(id="1"), *(a.update(image_id="1") for a in c["annotations"])], "str"),
    ("decimal ids", lambda c: [a.update(id=float(a["id"]), category_id=float(a["category_id"])) for a in
                               c["annotations"]], ""),
    ("decimal sizes", lambda c: c["images"][0].update(width=64.0, height=48.0), ""),
    ("crowd as text", lambda c: c["annotations"][0].update(iscrowd="0"), ""),
    ("crowd null", lambda c: c["annotations"][0].update(iscrowd=None), ""),
    ("crowd false", lambda c: c["annotations"][0].update(iscrowd=False), ""),
    ("no crowd", lambda c: [a.pop("iscrowd") for a in c["annotations"]], ""),
    ("no annotation ids", lambda c: [a.pop("id") for a in c["annotations"]], "3 annotations have no id"),
    ("an orphan", lambda c: c["annotations"].append({**c["annotations"][0], "id": 9, "image_id": 77}),
     "1 annotations are left out, since the file has no such image_id: id 9 has 77"),
    ("an unknown class", lambda c: c["annotations"].append({**c["annotations"][0], "id": 9, "category_id": 77}),
     "1 annotations are left out, since the file has no such category_id: id 9 has 77"),
    ("a root of the class's own name", lambda c: [c["categories"].insert(
        0, {"id": 0, "name": "cat", "supercategory": "none"}), c["categories"][2].update(supercategory="cat")],
     "each stands above others: 'cat'"),
    ("a background", lambda c: c["categories"].insert(0, {"id": 0, "name": "_background_"}), "'_background_'"),
    ("a box from its polygon", lambda c: [c["annotations"][0].pop("bbox"), c["annotations"][0].update(
        segmentation=[[4, 4, 24, 4, 24, 14]])], "1 annotations without bbox have the box of their outline: 1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_what_other_readers_take_is_taken_and_told(
    read: Callable[..., CocoDataset],
    change: Callable[[dict[str, Any]], Any],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        data = read(change)
    assert boxes(data) == [(4, 4, 24, 14), (30, 20, 40, 40), (2, 20, 12, 30)]
    assert data.counts() == {"狗": 1, "cat": 2}
    assert [item.is_crowd for item in data.annotations] == [False] * 3
    assert told in caplog.text


def test_a_box_over_the_edge_is_clipped_and_told(
    read: Callable[..., CocoDataset], caplog: pytest.LogCaptureFixture
) -> None:
    data = read(lambda c: c["annotations"][0].update(bbox=[50, -3, 17, 20]))
    assert data.annotations[0].box == (50, 0, 64, 17)
    assert "1 boxes leave their image and are clipped (by so many pixels): 1 (3)" in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([[30, 20, 60, 45], [32, 2, 60, 30], [40, 10, 62, 40], [20, 20, 60, 40]], "look like corners x1, y1, x2, y2"),
        ([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.2, 0.2]], "looks like shares of the image"),
        ([[500, 300, 40, 40]], r"outside its picture \(\[x, y, width, height\] in pixels are wanted\)"),
        ([[4, 4, 200, 100], [10, 10, 300, 60], [1, 1, 5, 5]], "2 x box outside its picture"),
    ],
)
def test_boxes_of_another_unit_are_refused_with_the_suspicion(
    read: Callable[..., CocoDataset], given: list[list[float]], told: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(given, start=1)
        ]

    with pytest.raises(Fgclip2Error, match=told):
        read(change)


def test_crowds_and_ignored_objects_are_counted_apart(
    read: Callable[..., CocoDataset], caplog: pytest.LogCaptureFixture
) -> None:
    data = read(lambda c: [c["annotations"][0].update(ignore=1), c["annotations"][1].update(iscrowd=1)])
    assert data.counts() == {"狗": 0, "cat": 1}
    assert data.untrained() == {"狗": "ignored objects only"}
    assert "1 objects are marked 'ignore': they are evaluated and not trained: 1" in caplog.text
    assert "1 objects are crowds (iscrowd 1), neither trained nor counted in AP; tools that mark" in caplog.text
    assert read(lambda c: c["annotations"][0].update(iscrowd="1")).untrained() == {"狗": "crowds only"}
    assert read(lambda c: c["annotations"].pop(0)).untrained() == {"狗": "nothing annotated"}


def test_one_cause_is_one_report(read: Callable[..., CocoDataset]) -> None:
    with pytest.raises(Fgclip2Error) as caught:
        read(lambda c: c["images"][0].pop("width"))
    assert "1 problem;" in str(caught.value)
    assert "image_id" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"id": [1]}, r"1 problem; .*entry of images whose 'id' is no whole number \(\[1\]\): number 0"),
        ({"id": None}, r"1 problem; .*entry of images without 'id': number 0$"),
        ({"id": True}, r"1 problem; .*entry of images whose 'id' is no whole number \(True\): number 0$"),
        ({"width": 0}, r"1 problem; .*image without pixels: id 1 is 0 x 48$"),
        ({"width": 10**400}, r"1 problem; .*image of more than 1,000,000 pixels a side: id 1$"),
        ({"file_name": "图" * 3000}, r"1 problem; .*missing image in .*图图图"),
    ],
    ids=[
        "an id that is a list",
        "no id",
        "an id that is true",
        "no pixels",
        "a width beyond every float",
        "a name longer than names are",
    ],
)
def test_an_odd_image_is_one_report(read: Callable[..., CocoDataset], image: dict[str, Any], told: str) -> None:
    with pytest.raises(Fgclip2Error, match=told):
        read(lambda c: c["images"][0].update(image))


def test_boxes_of_run_lengths_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.5, 1.0):
        coded = coco_mask.encode(np.asfortranarray(rng.random((37, 53)) < density, np.uint8))
        x, y, width, height = coco_mask.toBbox(coded)
        box = outline_box({"size": [37, 53], "counts": coded["counts"].decode()}, 53, 37)
        assert box == (x, y, x + width, y + height)
    assert outline_box({"size": [37, 53], "counts": [5]}, 53, 37) is None
    assert outline_box([[1, 2, 3, 4]], 53, 37) is None
    assert outline_box([[1, 2], [3, 4], [9, 1]], 53, 37) == (1, 1, 9, 4)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("train\\a.jpg", "train/a.jpg"),
        ("a%20b.jpg", "a b.jpg"),
        ("/data/upload/1/0f-a.jpg", "0f-a.jpg"),
        ("/data/local-files/?d=set%2Fa.jpg", "set/a.jpg"),
        ("..\\..\\label-studio\\media\\upload\\1\\x.jpg", "upload/1/x.jpg"),
        ("s3://bucket/set/a.jpg", "set/a.jpg"),
        ("file:///home/me/set/a.jpg", "set/a.jpg"),
        (unicodedata.normalize("NFD", "café 猫.jpg"), unicodedata.normalize("NFC", "café 猫.jpg")),
        (unicodedata.normalize("NFC", "café.jpg"), unicodedata.normalize("NFD", "café.jpg")),
    ],
)
def test_names_of_other_machines_are_found(name: str, there: str, tmp_path: Path) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(tmp_path / there)
    assert find_image(tmp_path, name) == there
    assert find_image(tmp_path, "other.jpg") is None


def test_two_names_never_mean_one_file(read: Callable[..., CocoDataset]) -> None:
    images = [{"id": n, "file_name": f"{part}/a.jpg", "width": 64, "height": 48} for n, part in ((1, "x"), (2, "y"))]
    with pytest.raises(Fgclip2Error, match=r"1 x image file that two names mean: 'x/a.jpg' and 'y/a.jpg'"):
        read(lambda c: c.update(images=images))


class TestFolders:
    """Which images labels lie on."""

    @staticmethod
    def task(folder: Path, where: str, colour: int = 0, names: tuple[str, ...] = ("0.jpg", "1.jpg")) -> Path:
        (folder / where).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("RGB", (64, 48), (colour,) * 3).save(folder / where / name)
        (folder / "annotations").mkdir(exist_ok=True)
        content = copy.deepcopy(BASE)
        content["images"] = [
            {"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names, start=1)
        ]
        content["annotations"][0]["bbox"] = [4 + colour, 4, 20, 10]
        file = folder / "annotations" / "instances_default.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        return file

    @staticmethod
    def of(file: Path, root: Path | None = None) -> Path:
        return image_folder(file, read_annotation_file(file)["images"], root)

    def test_two_cvat_tasks_keep_their_own_images(self, tmp_path: Path) -> None:
        first, second = (self.task(tmp_path / name, "images/default", n) for n, name in enumerate(("one", "two")))
        assert self.of(first, tmp_path) == tmp_path / "one" / "images" / "default"
        assert self.of(second, tmp_path) == tmp_path / "two" / "images" / "default"

    def test_fiftyones_data_folder(self, tmp_path: Path) -> None:
        file = self.task(tmp_path, "data")
        labels = tmp_path / "labels.json"
        file.rename(labels)
        assert self.of(labels) == tmp_path / "data"

    def test_all_names_must_be_there(self, tmp_path: Path) -> None:
        """Another folder that holds the first name comes first in the list and is not taken."""
        file = self.task(tmp_path, "images/val")
        (tmp_path / "images" / "0.jpg").write_bytes((tmp_path / "images/val/0.jpg").read_bytes())
        val = file.rename(tmp_path / "annotations" / "instances_val.json")
        assert self.of(val, tmp_path) == tmp_path / "images" / "val"

    def test_two_candidates_are_an_error(self, tmp_path: Path) -> None:
        file = self.task(tmp_path, "images/default")
        self.task(tmp_path, "default")
        with pytest.raises(Fgclip2Error, match="in several folders .*only one can be meant"):
            self.of(file, tmp_path)

    def test_different_labels_on_the_same_images_are_an_error(self, tmp_path: Path) -> None:
        first = self.task(tmp_path, "images")
        train = load_coco(first, tmp_path / "images")
        assert check_distinct(train, train) == [
            "2 of 2 validation images are training images too, so the figures flatter"
        ]
        second = first.with_name("other.json")
        content = json.loads(first.read_text())
        content["annotations"][0]["bbox"] = [9, 9, 20, 10]
        second.write_text(json.dumps(content))
        with pytest.raises(Fgclip2Error, match=r"name the same files .* with different labels: 0.jpg"):
            check_distinct(train, load_coco(second, tmp_path / "images"))


class TestResults:
    """Results files of others."""

    @staticmethod
    def file(folder: Path, *entries: dict[str, Any]) -> Path:
        path = folder / "results.json"
        path.write_text(json.dumps(entries), encoding="utf-8")
        return path

    def test_ids_of_other_types_and_masks_alone(self, read: Callable[..., CocoDataset], tmp_path: Path) -> None:
        data = read()
        mask = np.zeros((48, 64), np.uint8)
        mask[10:20, 5:9] = 1
        run = coco_mask.encode(np.asfortranarray(mask))
        found = load_results(
            self.file(
                tmp_path,
                {"image_id": "1", "category_id": 2.0, "bbox": [1, 2, 3, 4], "score": 0.5},
                {"image_id": 1, "category_id": "1", "score": 0.25,
                 "segmentation": {"size": [48, 64], "counts": run["counts"].decode()}},
            ),
            data,
        )[1]  # fmt: skip
        assert found.boxes.tolist() == [[1, 2, 4, 6], [5, 10, 9, 20]]
        assert found.category_ids.tolist() == [2, 1]

    def test_text_ids_mean_the_file_s(self, read: Callable[..., CocoDataset], tmp_path: Path) -> None:
        data = read(
            lambda c: [c["images"][0].update(id="img_a"), *(a.update(image_id="img_a") for a in c["annotations"])]
        )
        entry = {"image_id": "img_a", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
        assert len(load_results(self.file(tmp_path, entry), data)[data.images[0].id]) == 1

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"category_id": 7}, "category_id 7, which the annotation file does not have"),
            ({"image_id": 7}, "image_id 7, which the annotation file does not have"),
            ({"score": 1.5}, "has score 1.5; give 0 to 1"),
            ({"score": float("nan")}, "has score nan"),
            ({"bbox": None, "segmentation": {"size": [48, 64], "counts": [5]}}, "has bbox None"),
        ],
    )
    def test_what_does_not_fit_is_named(
        self, read: Callable[..., CocoDataset], tmp_path: Path, change: dict[str, Any], told: str
    ) -> None:
        good = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
        with pytest.raises(Fgclip2Error, match=told):
            load_results(self.file(tmp_path, good, good | change), read())

    def test_ap_asks_for_the_order_of_scores_alone(self, read: Callable[..., CocoDataset], tmp_path: Path) -> None:
        entry = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 37.5}
        assert read_results(self.file(tmp_path, entry), read(), any_score=True)[0]["score"] == 37.5


def test_ids_of_seventeen_digits_change_no_figure() -> None:
    rng = np.random.default_rng(1)
    truth = {
        "images": [{"id": n, "width": 100, "height": 100} for n in range(1, 7)],
        "categories": [{"id": n, "name": str(n)} for n in (1, 2, 3)],
        "annotations": [
            {"id": n, "image_id": int(rng.integers(1, 7)), "category_id": int(rng.integers(1, 4)), "iscrowd": None,
             "bbox": [*map(float, rng.integers(0, 50, 2)), *map(float, rng.integers(10, 50, 2))]}
            for n in range(1, 30)
        ],
    }  # fmt: skip
    found = [
        {"image_id": item["image_id"], "category_id": item["category_id"], "score": float(rng.random()),
         "bbox": [value + float(rng.normal(0, 3)) for value in item["bbox"]]}
        for item in truth["annotations"]
    ]  # fmt: skip
    large = 12_345_678_901_234_567
    moved = copy.deepcopy(truth)
    for kind, key in (
        ("images", "id"),
        ("categories", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
    ):
        for entry in moved[kind]:
            entry[key] += large
    shifted = [{**f, "image_id": f["image_id"] + large, "category_id": f["category_id"] + large} for f in found]
    small, wide = evaluate_boxes(truth, found), evaluate_boxes(moved, shifted)
    np.testing.assert_array_equal(small.table.values, wide.table.values)
    assert wide.table.category_ids.tolist() == [large + n for n in (1, 2, 3)]
    reference = COCO()
    reference.dataset = copy.deepcopy(truth)
    for item in reference.dataset["annotations"]:
        item.update(iscrowd=0, area=item["bbox"][2] * item["bbox"][3])
    reference.createIndex()
    judged = COCOeval(reference, reference.loadRes(copy.deepcopy(found)), "bbox")
    judged.evaluate()
    judged.accumulate()
    assert small.figures["AP_all"] == pytest.approx(100 * judged.eval["precision"][..., 0, 2].mean(), abs=1e-9)


@pytest.mark.parametrize("masks", [True, False])
def test_under_lvis_a_detection_without_area_does_not_count(
    masks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object, an empty detection that is surer, and the exact one: AP 100 by LVIS's own code, and here."""
    square = np.zeros((48, 64), np.uint8)
    square[10:20, 5:25] = 1
    coded = {
        name: {"size": [48, 64], "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode()}
        for name, mask in (("empty", square * 0), ("exact", square))
    }
    truth = {
        "images": [{"id": 1, "width": 64, "height": 48, "neg_category_ids": [], "not_exhaustive_category_ids": []}],
        "categories": [{"id": 1, "name": "狗", "frequency": "f"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [5, 10, 20, 10],
                "area": 200,
                "segmentation": coded["exact"],
            }
        ],
    }
    found = [
        {"image_id": 1, "category_id": 1, "bbox": [5, 10, 0, 10], "score": 0.9, "segmentation": coded["empty"]},
        {"image_id": 1, "category_id": 1, "bbox": [5, 10, 20, 10], "score": 0.8, "segmentation": coded["exact"]},
    ]
    assert evaluate_boxes(truth, found, federated=True, masks=masks).figures["AP"] == pytest.approx(100)
    file = tmp_path / "lvis.json"
    file.write_text(json.dumps(truth), encoding="utf-8")
    monkeypatch.setattr(np, "float", float, raising=False)  # the lvis package is older than numpy 2
    own = LVIS(str(file))
    kind = "segm" if masks else "bbox"
    kept = [{key: value for key, value in item.items() if masks or key != "segmentation"} for item in found]
    judged = LVISEval(own, LVISResults(own, copy.deepcopy(kept)), kind)
    judged.run()
    assert judged.get_results()["AP"] == pytest.approx(1.0)
