"""LVIS: its AP equals that of the LVIS API, its files are read, its minival is a list of pictures."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image
from rich.console import Console

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation import average_precision
from fgclip2.evaluation.average_precision import evaluate_boxes
from fgclip2_mmdet import OpenVocabDataset, OpenVocabLvisMetric
from fgclip2_mmdet.experiment import fill_config
from fgclip2_mmdet.report import figures_table
from fgclip2_mmdet.user_data import read_user_data, write_user_data

A, B, ELSEWHERE = [10, 10, 30, 30], [60, 50, 20, 40], [0, 70, 25, 25]
CLASSES = {"穿山甲": "r", "伞": "c", "dog": "f", "水獭": "r", "bus": "f"}  # nothing of the last two is annotated


def truth() -> dict[str, Any]:
    """Three pictures; the pangolin was looked for in two of them, umbrellas are not all marked in the second."""
    looked_for = {1: ([5], []), 2: ([1, 4], [2]), 3: ([], [])}
    objects = [(1, 1, A), (1, 2, B), (2, 2, A), (3, 3, B)]
    return {
        "images": [
            {
                "id": number,
                "coco_url": f"http://images.cocodataset.org/val2017/{number:012}.jpg",
                "width": 100,
                "height": 100,
                "neg_category_ids": negative,
                "not_exhaustive_category_ids": some,
            }
            for number, (negative, some) in looked_for.items()
        ],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
            for number, (image, category, box) in enumerate(objects, start=1)
        ],
        "categories": [
            {"id": number, "name": name, "frequency": frequency, "synonyms": [name]}
            for number, (name, frequency) in enumerate(CLASSES.items(), start=1)
        ],
    }


def results() -> list[dict[str, Any]]:
    found = [
        (3, 1, A, 0.95),  # nobody looked for pangolins here: not counted
        (2, 1, A, 0.9),  # false: there is none
        (1, 1, A, 0.8),
        (2, 2, ELSEWHERE, 0.99),  # may be an unmarked umbrella: not counted
        (1, 2, B, 0.7),
        (3, 3, B, 0.6),
        (2, 4, B, 0.9),  # false, but no otter is annotated anywhere: no AP
    ]
    return [{"image_id": i, "category_id": c, "bbox": list(box), "score": score} for i, c, box, score in found]


def reference(content: dict[str, Any], found: list[dict[str, Any]], folder: Path, most: int = 300) -> dict[str, float]:
    """What the LVIS API says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float", float, raising=False)  # lvis 0.5.3 is older than numpy 1.24
        from lvis import LVIS, LVISEval, LVISResults

        file = folder / "lvis.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        ground = LVIS(str(file))
        evaluation = LVISEval(ground, LVISResults(ground, json.loads(json.dumps(found)), max_dets=most), "bbox")
        evaluation.run()
    figures = evaluation.get_results()
    return {key: 100 * value if value > -1 else math.nan for key, value in figures.items()}


def test_by_hand(tmp_path: Path) -> None:
    """Rare: one false box before the right one. Common: one of two umbrellas. Frequent: right."""
    figures = evaluate_boxes(truth(), results(), federated=True).figures
    half = 100 * 51 / 101  # recall 0, 0.01, ... 0.50 of 101 points
    assert figures == pytest.approx(
        {
            "APr": 50,
            "APc": half,
            "APf": 100,
            "AP": (50 + half + 100) / 3,
            "AP50": (50 + half + 100) / 3,
            "AP_novel": 50,
            "AP_base": (half + 100) / 2,
            "AP_all": (50 + half + 100) / 3,
            "AP50_novel": 50,
            "AP50_base": (half + 100) / 2,
            "AP50_all": (50 + half + 100) / 3,
            "AP_small": (50 + 0) / 2,  # under 40 pixels are the pangolin and the umbrella that is not found
            "AP50_small": (50 + 0) / 2,
        }
    )
    expected = reference(truth(), results(), tmp_path)
    assert {key: figures[key] for key in ("AP", "AP50", "APr", "APc", "APf")} == pytest.approx(
        {key: expected[key] for key in ("AP", "AP50", "APr", "APc", "APf")}
    )
    coco = evaluate_boxes(truth(), results(), ["穿山甲", "水獭"]).figures
    assert coco["AP_novel"] == pytest.approx(100 / 3)  # to COCO, both boxes of higher score are false


def test_novel_classes_may_be_others_than_the_rare_ones() -> None:
    figures = evaluate_boxes(truth(), results(), ["伞"], federated=True).figures
    assert figures["AP_novel"] == figures["APc"]
    assert figures["AP_base"] == pytest.approx((50 + 100) / 2)


boxes = st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(1, 4)] * 2).map(lambda box: [10.0 * value for value in box])
place = st.tuples(st.integers(1, 3), st.integers(1, 5), boxes)


@settings(max_examples=60, deadline=None)
@given(
    objects=st.lists(place, min_size=1, max_size=12),
    found=st.lists(st.tuples(place, st.integers(1, 5)), min_size=1, max_size=25),
    negative=st.lists(st.lists(st.integers(1, 5), unique=True), min_size=3, max_size=3),
    some=st.lists(st.lists(st.integers(1, 5), unique=True), min_size=3, max_size=3),
    most=st.integers(1, 9),
)
def test_equals_the_lvis_api(
    tmp_path_factory: pytest.TempPathFactory,
    objects: list[tuple[int, int, list[float]]],
    found: list[tuple[tuple[int, int, list[float]], int]],
    negative: list[list[int]],
    some: list[list[int]],
    most: int,
) -> None:
    """Many boxes of equal places and scores, up to ``most`` a picture."""
    content = truth()
    content["annotations"] = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
        for number, (image, category, box) in enumerate(objects, start=1)
    ]
    for image, absent, partly in zip(content["images"], negative, some, strict=True):
        image.update(neg_category_ids=absent, not_exhaustive_category_ids=partly)
    detections = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score / 10}
        for (image, category, box), score in found
    ]
    expected = reference(content, detections, tmp_path_factory.getbasetemp(), most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(average_precision, "LVIS_DETECTIONS", most)
        figures = evaluate_boxes(content, detections, federated=True).figures
    names = ("AP", "AP50", "APr", "APc", "APf")
    assert [figures[key] for key in names] == pytest.approx([expected[key] for key in names], abs=1e-6, nan_ok=True)


def test_three_hundred_detections_of_a_picture_count(tmp_path: Path) -> None:
    crowd = [{"image_id": 1, "category_id": 5, "bbox": ELSEWHERE, "score": 0.9} for _ in range(299)]
    for others, ap in ((crowd, 100), (crowd * 2, 0)):  # the right box is the 300th, or the 599th
        found = [*others, {"image_id": 1, "category_id": 1, "bbox": A, "score": 0.1}]
        figures = evaluate_boxes(truth(), found, federated=True).figures
        assert figures["APr"] == pytest.approx(ap) == reference(truth(), found, tmp_path)["APr"]


def test_metric_on_val_and_on_minival(tmp_path: Path) -> None:
    file, minival = tmp_path / "lvis_v1_val.json", tmp_path / "minival.json"
    file.write_text(json.dumps(truth(), ensure_ascii=False), encoding="utf-8")
    minival.write_text("[1, 3]")
    order = list(CLASSES)[::-1]
    by_image: dict[int, list[dict[str, Any]]] = {}
    for item in results():
        by_image.setdefault(item["image_id"], []).append(item)
    samples = []
    for image, items in by_image.items():
        xywh = torch.tensor([item["bbox"] for item in items], dtype=torch.float)
        found = InstanceData(
            bboxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1),
            labels=torch.tensor([order.index(list(CLASSES)[item["category_id"] - 1]) for item in items]),
            scores=torch.tensor([item["score"] for item in items]),
        )
        samples.append({"img_id": image, "pred_instances": found})
    metric = OpenVocabLvisMetric(str(file))
    metric.dataset_meta = {"classes": order}
    metric.process(None, samples)
    whole = metric.evaluate(3)
    assert whole["ov/APr"] == whole["ov/AP_novel"] == pytest.approx(50)
    assert metric.evaluation is not None
    assert metric.evaluation.novel_ids == {1, 4}

    chosen = [sample for sample in samples if sample["img_id"] != 2]
    metric = OpenVocabLvisMetric(str(file), image_ids=str(minival), classes=order)
    metric.process(None, chosen)
    figures = metric.evaluate(2)
    content = truth()
    content["images"] = [image for image in content["images"] if image["id"] != 2]
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] != 2]
    expected = reference(content, [item for item in results() if item["image_id"] != 2], tmp_path)
    for name in ("AP", "AP50", "APr", "APc", "APf"):
        assert figures[f"ov/{name}"] == pytest.approx(expected[name], abs=1e-6)
    assert figures["ov/APr"] == figures["ov/APc"] == pytest.approx(100)


def test_files_without_the_fields_of_lvis_are_refused() -> None:
    for kind, key in (
        ("images", "neg_category_ids"),
        ("images", "not_exhaustive_category_ids"),
        ("categories", "frequency"),
    ):
        content = truth()
        del content[kind][-1][key]
        with pytest.raises(Fgclip2Error, match=f"entry {content[kind][-1]['id']} of {kind} has no '{key}'"):
            evaluate_boxes(content, results(), federated=True)
    content = truth()
    content["categories"][0]["frequency"] = "often"
    with pytest.raises(Fgclip2Error, match="'穿山甲' has frequency 'often'"):
        evaluate_boxes(content, results(), federated=True)


def test_dataset_finds_the_pictures_of_lvis(tmp_path: Path) -> None:
    file, minival = tmp_path / "lvis_v1_val.json", tmp_path / "minival.json"
    file.write_text(json.dumps(truth(), ensure_ascii=False), encoding="utf-8")
    minival.write_text(json.dumps({**truth(), "images": truth()["images"][1:]}), encoding="utf-8")
    (tmp_path / "val2017").mkdir()
    for number in (1, 2):
        Image.new("RGB", (100, 100)).save(tmp_path / "val2017" / f"{number:012}.jpg")
    Image.new("RGB", (100, 100)).save(tmp_path / f"{3:012}.jpg")
    common = {"data_prefix": {"img": str(tmp_path)}, "metainfo": {"classes": ["伞", "穿山甲", "dog"]}, "pipeline": []}
    dataset = OpenVocabDataset(ann_file=str(file), test_mode=True, **common)
    assert len(dataset) == 3
    assert all(Path(dataset.get_data_info(index)["img_path"]).is_file() for index in range(3))
    first = dataset.get_data_info(0)["instances"]
    assert [(item["bbox_label"], item["bbox"]) for item in first] == [(1, [10, 10, 40, 40]), (0, [60, 50, 80, 90])]
    chosen = OpenVocabDataset(ann_file=str(file), test_mode=True, image_ids=str(minival), **common)
    assert [chosen.get_data_info(index)["img_id"] for index in range(len(chosen))] == [2, 3]


def test_a_run_on_lvis_files_is_evaluated_as_lvis(tmp_path: Path) -> None:
    root = tmp_path / "lvis"
    (root / "images" / "val2017").mkdir(parents=True)
    for number in (1, 2, 3):
        Image.new("RGB", (100, 100)).save(root / "images" / "val2017" / f"{number:012}.jpg")
    (root / "val.json").write_text(json.dumps(truth(), ensure_ascii=False), encoding="utf-8")
    user = read_user_data(root, "val.json", "val.json", ["穿山甲", "水獭"])
    data = write_user_data(user, tmp_path / "run")
    assert (data.federated, data.val_images) == (True, root / "images")
    assert "300 detections" in data.notes[-1]
    written = json.loads(data.val_annotations.read_text(encoding="utf-8"))
    assert written["images"][1]["file_name"] == "val2017/000000000002.jpg"
    figures = evaluate_boxes(written, results(), data.novel, federated=True).figures
    assert figures == pytest.approx(evaluate_boxes(truth(), results(), federated=True).figures)

    cfg = Config.fromfile(Path(__file__).parents[2] / "apps" / "configs" / "ovd" / "fvit.py")
    fill_config(cfg, data, "tiny", tmp_path, seed=0)
    assert {metric.type for metric in cfg.test_evaluator} == {"OpenVocabLvisMetric"}
    assert (cfg.model.test_cfg.rcnn.max_per_img, cfg.model.test_cfg.rcnn.nms_pre) == (300, 3000)
    assert cfg.model.test_cfg.rcnn.score_thr == 1e-4
    cfg = Config.fromfile(Path(__file__).parents[2] / "apps" / "configs" / "ovd" / "onestage.py")
    fill_config(cfg, data, "tiny", tmp_path, seed=0)
    assert (cfg.model.test_cfg.max_per_img, cfg.model.test_cfg.nms_pre) == (300, 3000)
    for name, part in (("fvit_tiny_openmoji", "rpn"), ("onestage_tiny_openmoji", "regions")):
        cfg = Config.fromfile(Path(__file__).parents[2] / "apps" / "configs" / "ovd" / f"{name}.py")
        fill_config(cfg, data, "tiny", tmp_path, seed=0)
        assert cfg.model.test_cfg[part].max_per_img == 300
        assert cfg.model.test_cfg[part].nms_pre >= 300
        assert cfg.model.test_cfg.get("rcnn", cfg.model.test_cfg).score_thr <= 1e-4
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(figures_table({"names": figures}, data))
    printed = console.export_text()
    assert all(title in printed for title in ("APr", "APc", "APf"))
    row = next(line for line in printed.splitlines() if "class names" in line)
    assert [cell.strip() for cell in row.split("│")[-4:-1]] == ["50.0", "50.5", "100.0"]

    content = truth()
    del content["categories"][2]["frequency"]
    (root / "val.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="entry 3 of categories has no 'frequency'"):
        read_user_data(root, "val.json", "val.json", [])
