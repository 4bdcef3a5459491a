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
from fgclip2_mmdet import OpenVocabCocoMetric
from fgclip2_mmdet.metric import open_vocabulary_ap

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
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = truth()
    for annotation in content["annotations"]:
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = content
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(coco_results()), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]
    rows = {"base": [], "novel": [], "all": []}
    for index, name in enumerate(NAMES):
        rows["novel" if name in novel else "base"].append(index)
        rows["all"].append(index)

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean() * 100)

    return {f"AP50_{name}": mean(precision[0][:, index]) for name, index in rows.items()} | {
        f"AP_{name}": mean(precision[:, :, index]) for name, index in rows.items()
    }


def test_equals_pycocotools() -> None:
    figures = open_vocabulary_ap(truth(), coco_results(), NOVEL)
    assert figures == pytest.approx(reference(NOVEL), abs=1e-6)
    assert 0 < figures["AP50_novel"] < figures["AP50_base"] < 100


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


def test_unknown_names_are_told() -> None:
    with pytest.raises(Fgclip2Error, match="unicorn"):
        open_vocabulary_ap(truth(), [], ["unicorn"])
