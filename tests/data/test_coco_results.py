"""COCO results: a round trip, agreement with pycocotools' reading, and every bad entry named."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from fgclip2.data.coco import CocoDataset, load_coco
from fgclip2.data.coco_results import ImageResults, load_results, save_results
from fgclip2.errors import Fgclip2Error

ENTRY = {"image_id": 7, "category_id": 2, "bbox": [1.5, 2, 10, 20.25], "score": 0.75}


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    for name in ("猫.png", "b.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    content = {
        "images": [
            {"id": 7, "file_name": "猫.png", "width": 64, "height": 48},
            {"id": 9, "file_name": "b.png", "width": 64, "height": 48},
        ],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "猫"}, {"id": 2, "name": "dog"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    return load_coco(tmp_path / "a.json", tmp_path)


def written(folder: Path, entries: Any) -> Path:
    (folder / "r.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder / "r.json"


def test_results_are_read_by_picture(dataset: CocoDataset, tmp_path: Path) -> None:
    found = load_results(written(tmp_path, [ENTRY, {**ENTRY, "score": 1, "category_id": 1}]), dataset)
    assert list(found) == [7, 9]
    assert found[7].boxes.tolist() == [[1.5, 2, 11.5, 22.25]] * 2
    assert found[7].scores.tolist() == [0.75, 1]
    assert found[7].category_ids.tolist() == [2, 1]
    assert found[9].boxes.shape == (0, 4)


def test_what_is_written_is_read_again_by_us_and_by_pycocotools(dataset: CocoDataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 20, (5, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (5, 2))], 1).astype(np.float32)
    results = ImageResults(boxes, rng.uniform(size=5).astype(np.float32), np.array([1, 2, 1, 1, 2]))
    nothing = ImageResults(boxes[:0], results.scores[:0], results.category_ids[:0])
    assert save_results(tmp_path / "out" / "r.json", {7: results, 9: nothing}) == 5
    again = load_results(tmp_path / "out" / "r.json", dataset)
    np.testing.assert_allclose(again[7].boxes, results.boxes, atol=2e-3)  # written with 3 digits
    np.testing.assert_allclose(again[7].scores, results.scores, atol=1e-6)
    assert again[7].category_ids.tolist() == results.category_ids.tolist()
    with contextlib.redirect_stdout(io.StringIO()):
        peer = COCO(str(tmp_path / "a.json")).loadRes(str(tmp_path / "out" / "r.json"))
    assert [item["category_id"] for item in peer.loadAnns(peer.getAnnIds(imgIds=[7]))] == [1, 2, 1, 1, 2]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"annotations": []}, "looks like an annotation file"),
        ([ENTRY, {"image_id": 7}], "result 1 is not an object with image_id"),
        ([{**ENTRY, "image_id": 8}], "image_id 8, which the annotation file does not have"),
        ([{**ENTRY, "bbox": [1, 2, -3, 4]}], "bbox [1, 2, -3, 4]"),
        ([{**ENTRY, "bbox": [1, 2, 3]}], "bbox [1, 2, 3]"),
        ([{**ENTRY, "score": 1.2}], "score 1.2"),
        ([{**ENTRY, "score": True}], "score True"),
        ([{**ENTRY, "category_id": "猫"}], "category_id '猫'"),
        ([{**ENTRY, "category_id": True}], "category_id True"),
        ([{**ENTRY, "image_id": [7]}], "image_id [7]"),
        ([{**ENTRY, "bbox": [1, 2, 10**400, 4]}], "give [x, y, width, height]"),
    ],
)
def test_bad_results_are_named(dataset: CocoDataset, tmp_path: Path, entries: Any, said: str) -> None:
    with pytest.raises(Fgclip2Error) as caught:
        load_results(written(tmp_path, entries), dataset)
    assert said in str(caught.value)


def test_a_missing_or_torn_file_is_named(dataset: CocoDataset, tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match="does not exist"):
        load_results(tmp_path / "nowhere.json", dataset)
    (tmp_path / "torn.json").write_text('[{"image_id": 7,', encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="cannot be read as JSON"):
        load_results(tmp_path / "torn.json", dataset)
