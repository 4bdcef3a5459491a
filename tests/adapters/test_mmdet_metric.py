"""AP of base and novel classes equals pycocotools' on a small hand-made file."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation import average_precision
from fgclip2.evaluation.average_precision import evaluate_boxes, open_vocabulary_ap
from fgclip2_mmdet import OpenVocabCocoMetric
from fgclip2_mmdet.annotations import read_annotations

NAMES = ["dog", "cat", "bus", "伞"]
NOVEL = ["cat", "伞"]


def truth(first_id: int = 1) -> dict[str, Any]:
    boxes = {0: [(0, [10, 10, 30, 30]), (1, [50, 40, 20, 20])], 1: [(0, [5, 5, 40, 20]), (2, [60, 60, 30, 30])]}
    annotations = [
        {"id": first_id + number, "image_id": image, "category_id": 10 + label, "bbox": box}
        for number, (image, label, box) in enumerate((i, n, b) for i, items in boxes.items() for n, b in items)
    ]
    annotations.append({"id": 9, "image_id": 1, "category_id": 10, "bbox": [0, 60, 40, 40], "iscrowd": 1, "area": 1600})
    return {
        "images": [{"id": image, "file_name": f"{image}.jpg", "width": 100, "height": 100} for image in (0, 1)],
        "annotations": annotations,
        "categories": [{"id": 10 + index, "name": name} for index, name in enumerate(NAMES)],
    }


def predictions() -> dict[int, list[tuple[int, list[float], float]]]:
    return {
        0: [(0, [11, 10, 40, 40], 0.9), (0, [12, 30, 60, 60], 0.8), (1, [51, 42, 70, 60], 0.3), (1, [0, 0, 9, 9], 0.6)],
        1: [(0, [5, 5, 30, 25], 0.7), (2, [60, 60, 88, 92], 0.4), (0, [1, 61, 30, 90], 0.2), (3, [0, 0, 9, 9], 0.9)],
    }


def coco_results() -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": 10 + n, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": s}
        for image, items in predictions().items()
        for n, b, s in items
    ]


def reference(novel: list[str]) -> dict[str, float]:
    """The figures by pycocotools, whose sizes are areas: it is told squares of longer sides for them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = truth()
    for annotation in content["annotations"]:
        annotation.setdefault("iscrowd", 0)
        annotation["area"] = max(annotation["bbox"][2:]) ** 2
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = content
        ground.createIndex()
        found = ground.loadRes(coco_results())
        for annotation in found.anns.values():
            annotation["area"] = max(annotation["bbox"][2:]) ** 2
        evaluation = COCOeval(ground, found, "bbox")
        evaluation.params.areaRng = [[0, 1e10], [0, 39.999999**2]]
        evaluation.params.areaRngLbl = ["all", "small"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, small = evaluation.eval["precision"][..., 0, -1], evaluation.eval["precision"][..., 1, -1]
    rows = {"base": [], "novel": [], "all": []}
    for index, name in enumerate(NAMES):
        rows["novel" if name in novel else "base"].append(index)
        rows["all"].append(index)

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean() * 100)

    return (
        {f"AP50_{name}": mean(precision[0][:, index]) for name, index in rows.items()}
        | {f"AP_{name}": mean(precision[:, :, index]) for name, index in rows.items()}
        | {"AP50_small": mean(small[0]), "AP_small": mean(small)}
    )


def test_equals_pycocotools() -> None:
    figures = open_vocabulary_ap(truth(), coco_results(), NOVEL)
    assert figures == pytest.approx(reference(NOVEL), abs=1e-6)
    assert 0 < figures["AP50_novel"] < figures["AP50_base"] < 100
    assert figures["AP_small"] not in (figures["AP_all"], 0)


def test_annotation_ids_do_not_matter() -> None:
    """COCO's evaluators take an annotation with id 0 for a missed one."""
    assert open_vocabulary_ap(truth(first_id=0), coco_results(), NOVEL) == pytest.approx(reference(NOVEL), abs=1e-6)


def test_metric_reads_samples_and_any_class_order(tmp_path: Path) -> None:
    file = tmp_path / "val.json"
    file.write_text(json.dumps(truth(), ensure_ascii=False), encoding="utf-8")
    order = [2, 0, 3, 1]  # labels of the detector, in another order than the file's categories
    metric = OpenVocabCocoMetric(str(file), NOVEL, field="pred_zh", outfile=str(tmp_path / "results.json"))
    metric.dataset_meta = {"classes": [NAMES[index] for index in order]}
    for image, items in predictions().items():
        found = InstanceData(
            bboxes=torch.tensor([box for _, box, _ in items]),
            labels=torch.tensor([order.index(label) for label, _, _ in items]),
            scores=torch.tensor([score for _, _, score in items]),
        )
        metric.process(None, [{"img_id": image, "pred_zh": found}])
    figures = metric.evaluate(2)
    assert figures == pytest.approx({f"ov/{key}": value for key, value in reference(NOVEL).items()}, abs=1e-4)
    assert len(json.loads((tmp_path / "results.json").read_text())) == 8


def test_a_group_without_truth_is_nan_and_no_detections_are_zero() -> None:
    figures = open_vocabulary_ap(truth(), [], [])
    assert math.isnan(figures["AP50_novel"])
    assert figures["AP50_base"] == figures["AP50_all"] == 0


def test_small_means_that_the_longer_side_is_under_40_pixels() -> None:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "蜡烛"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 39.9, 30]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [100, 100, 10, 40]},  # not small, and not found
        ],
    }
    boxes = {0.9: [100, 0, 60, 60], 0.8: [0, 100, 20, 20], 0.7: [0, 0, 39.9, 30]}
    found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for score, box in boxes.items()]
    figures = open_vocabulary_ap(content, found, [])
    assert figures["AP50_small"] == figures["AP_small"] == pytest.approx(50)  # the false box of 60 pixels is let be
    assert figures["AP50_all"] == pytest.approx(100 * 51 / 101 / 3)  # recall 0 to 0.5, the third box


def test_the_curve_lies_over_its_ap() -> None:
    evaluation = evaluate_boxes(truth(), coco_results(), NOVEL)
    for name, chosen in evaluation.groups.items():
        assert evaluation.table.curve(chosen).mean() * 100 == pytest.approx(evaluation.figures[f"AP50_{name}"])
        assert (np.diff(evaluation.table.curve(chosen)) <= 0).all()
    assert np.isnan(evaluation.table.curve(np.zeros(len(NAMES), bool))).all()


def test_classes_are_evaluated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    content, results = truth(), coco_results()
    monkeypatch.setattr(average_precision, "_PAIRS", 2)  # one class at a time
    assert open_vocabulary_ap(content, results, NOVEL) == pytest.approx(reference(NOVEL), abs=1e-6)
    assert content == truth()
    assert results == coco_results()


def test_what_cannot_be_evaluated_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Fgclip2Error, match="unicorn"):
        open_vocabulary_ap(truth(), [], ["unicorn"])
    with pytest.raises(Fgclip2Error, match="picture 7, which the annotation file does not have"):
        open_vocabulary_ap(truth(), [{**coco_results()[0], "image_id": 7}], [])
    with pytest.raises(Fgclip2Error, match="category 7, which the annotation file does not have"):
        open_vocabulary_ap(truth(), [{**coco_results()[0], "category_id": 7}], [])
    file = tmp_path / "val.json"
    file.write_text(json.dumps(truth(), ensure_ascii=False), encoding="utf-8")
    metric = OpenVocabCocoMetric(str(file), NOVEL, NAMES)
    metric.process(None, [{"img_id": 1, "pred_instances": _nothing()}])
    metric.evaluate(1)
    assert "1 of 2 pictures" in caplog.text
    (tmp_path / "one.json").write_text("[1]")
    caplog.clear()
    metric = OpenVocabCocoMetric(str(file), NOVEL, NAMES, image_ids=str(tmp_path / "one.json"))
    metric.process(None, [{"img_id": 1, "pred_instances": _nothing()}])
    metric.evaluate(1)
    assert "were not looked at" not in caplog.text
    for text, message in (
        ("[3]", "1 pictures that .* does not have, such as 3"),
        ("[]", "no image ids"),
        ("[", "JSON"),
    ):
        (tmp_path / "ids.json").write_text(text)
        with pytest.raises(Fgclip2Error, match=message):
            read_annotations(file, tmp_path / "ids.json")
    with pytest.raises(Fgclip2Error, match="does not exist"):
        read_annotations(file, tmp_path / "none.json")


def _nothing() -> InstanceData:
    return InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
