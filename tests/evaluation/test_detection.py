"""Fixed AP and LVIS's ordinary one against plain computations; a frozen detector's boxes, kept and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fgclip2
from fgclip2.data.coco_results import ImageResults
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation import average_precision
from fgclip2.evaluation.average_precision import evaluate_boxes
from fgclip2.evaluation.datasets import BENCHMARKS
from fgclip2.evaluation.detection import Detection, lvis_ap, lvis_evaluation
from fgclip2.evaluation.metrics import box_iou
from fgclip2.evaluation.scores import Settings
from tests.evaluation.colours import ColourEncoder, picture, write_json
from tests.evaluation.miniatures import make

A, B, AWAY = [10.0, 10.0, 40.0, 40.0], [100.0, 10.0, 40.0, 40.0], [200.0, 100.0, 30.0, 30.0]


def lvis(images: list[dict[str, Any]], objects: list[tuple[int, int, list[float]]]) -> dict[str, Any]:
    """Annotations of classes 1 rare, 2 common, 3 frequent; ``objects`` are picture, class and box."""
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
        for number, (image, category, box) in enumerate(objects, start=1)
    ]
    categories = [{"id": n, "name": f"class_{n}", "frequency": mark} for n, mark in enumerate("rcf", start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def image(number: int, absent: list[int], partly: list[int] | None = None) -> dict[str, Any]:
    return {"id": number, "neg_category_ids": absent, "not_exhaustive_category_ids": partly or []}


def results(found: list[tuple[int, int, list[float], float]]) -> list[dict[str, Any]]:
    return [{"image_id": i, "category_id": c, "bbox": box, "score": score} for i, c, box, score in found]


def plain_fixed_ap(truth: dict[str, Any], found: list[dict[str, Any]], most: int) -> dict[int, float]:
    """Class by class as Dave et al. say it, in loops: the best of the whole set, then LVIS's rules; 0..100."""
    images = {item["id"]: item for item in truth["images"]}
    figures = {}
    for category in (item["id"] for item in truth["categories"]):
        objects = [item for item in truth["annotations"] if item["category_id"] == category]
        if not objects:
            continue
        own = sorted((item for item in found if item["category_id"] == category), key=lambda item: -item["score"])[
            :most
        ]
        shown = {item["image_id"] for item in objects}
        own = [i for i in own if i["image_id"] in shown or category in images[i["image_id"]]["neg_category_ids"]]
        averages = []
        for threshold in np.linspace(0.5, 0.95, 10):
            taken: set[int] = set()
            right: list[bool] = []
            for item in own:
                free = [o for o in objects if o["image_id"] == item["image_id"] and o["id"] not in taken]
                overlaps = [(box_iou(corners(item["bbox"]), corners(o["bbox"])), o["id"]) for o in free]
                best = max(overlaps, default=(0.0, 0))
                if best[0] >= threshold - 1e-9:
                    taken.add(best[1])
                    right.append(True)
                elif category not in images[item["image_id"]]["not_exhaustive_category_ids"]:
                    right.append(False)
            hits = np.cumsum(right)
            recall, precision = hits / len(objects), hits / np.arange(1, len(right) + 1)
            points = [max(precision[recall >= r], default=0.0) for r in np.linspace(0, 1, 101)]
            averages.append(np.mean(points))
        figures[category] = 100 * float(np.mean(averages))
    return figures


def corners(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y + height]


def crowded() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Two things in a picture where a detector is surest of 300 boxes of a class that nobody looked for."""
    truth = lvis([image(1, []), image(2, [1])], [(1, 1, A), (1, 2, B), (2, 2, A)])
    sure = [(1, 3, AWAY, 0.9)] * 300
    return truth, results([*sure, (1, 1, A, 0.3), (1, 2, B, 0.2), (2, 2, A, 0.8), (2, 1, AWAY, 0.4)])


def test_fixed_ap_lets_no_class_push_another_out() -> None:
    """The boxes of classes 1 and 2 in picture 1 are behind 300 others; the false one of picture 2 counts in both."""
    truth, found = crowded()
    fixed = evaluate_boxes(truth, found, federated=True, fixed=True)
    ordinary = evaluate_boxes(truth, found, federated=True)
    half = 100 * 51 / 101  # one of two: recall 0, 0.01, ... 0.50
    assert fixed.figures["APr"] == pytest.approx(50)
    assert fixed.figures["APc"] == pytest.approx(100)
    assert fixed.figures["AP"] == pytest.approx(75)
    assert ordinary.figures["APr"] == pytest.approx(0)
    assert ordinary.figures["APc"] == pytest.approx(half)
    assert fixed.table.by_class().tolist() == pytest.approx([50, 100, np.nan], nan_ok=True)
    assert plain_fixed_ap(truth, found, 10_000) == pytest.approx({1: 50, 2: 100})


def test_of_a_class_so_many_count_over_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of one class: the third, which is right, is in another picture."""
    truth = lvis([image(1, [1]), image(2, [])], [(2, 1, A)])
    found = results([(1, 1, AWAY, 0.9), (1, 1, B, 0.8), (2, 1, A, 0.7)])
    for most, ap in ((3, 100 / 3), (2, 0)):
        monkeypatch.setattr(average_precision, "FIXED_DETECTIONS", most)
        figures = evaluate_boxes(truth, found, federated=True, fixed=True).figures
        assert figures["APr"] == pytest.approx(ap) == plain_fixed_ap(truth, found, most)[1]
    assert evaluate_boxes(truth, found, federated=True).figures["APr"] == pytest.approx(100 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_fixed_ap_is_that_of_a_plain_computation(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noisy boxes of six pictures, classes that were not looked for, or not marked wholly; a class a chunk."""
    rng = np.random.default_rng(seed)
    images = [
        image(n, [c for c in (1, 2, 3) if rng.uniform() < 0.5], [c for c in (1, 2, 3) if rng.uniform() < 0.2])
        for n in range(1, 7)
    ]
    objects, found = [], []
    for number in range(1, 7):
        for _ in range(4):
            box = [*rng.uniform(0, 100, 2), *rng.uniform(20, 60, 2)]
            category = int(rng.integers(1, 4))
            objects.append((number, category, [float(value) for value in box]))
            for _ in range(2):
                near = [float(value) for value in np.array(box) + rng.normal(0, 4, 4)]
                label = category if rng.uniform() < 0.7 else int(rng.integers(1, 4))
                found.append((number, label, near, float(rng.uniform(0.1, 1))))
    truth, given = lvis(images, objects), results(found)
    monkeypatch.setattr(average_precision, "_PAIRS", 6)
    for most in (10_000, 8):
        monkeypatch.setattr(average_precision, "FIXED_DETECTIONS", most)
        table = evaluate_boxes(truth, given, federated=True, fixed=True).table
        plain = plain_fixed_ap(truth, given, most)
        assert table.by_class().tolist() == pytest.approx([plain[number] for number in (1, 2, 3)], abs=1e-6)


def test_fixed_ap_is_lvis_own() -> None:
    with pytest.raises(Fgclip2Error, match="give federated=True as well"):
        evaluate_boxes(lvis([image(1, [])], []), [], fixed=True)
    truth, found = crowded()
    odd = {**truth, "categories": [{"id": 1, "name": "a"}]}
    with pytest.raises(Fgclip2Error, match="it has no frequency"):
        lvis_evaluation(odd, {})
    assert lvis_ap(truth, by_image(found))["ap"] == pytest.approx(75)
    assert lvis_ap(truth, by_image(found), fixed=False)["ap_rare"] == pytest.approx(0)


def by_image(found: list[dict[str, Any]]) -> dict[int, ImageResults]:
    kept = {}
    for number in sorted({item["image_id"] for item in found}):
        own = [item for item in found if item["image_id"] == number]
        kept[number] = ImageResults(
            np.array([corners(item["bbox"]) for item in own], np.float32),
            np.array([item["score"] for item in own], np.float32),
            np.array([item["category_id"] for item in own]),
        )
    return kept


def test_both_protocols_and_every_class_are_told(tmp_path: Path) -> None:
    root, predictions = tmp_path / "data", tmp_path / "predictions"
    truth, found = crowded()
    for item in truth["images"]:
        item["coco_url"] = f"http://images.cocodataset.org/val2017/{item['id']:012}.jpg"
        picture(root / f"coco/val2017/{item['id']:012}.jpg", "red", "green")
    write_json(root / "lvis/lvis_v1_minival_inserted_image_name.json", truth)
    write_json(predictions / "lvis_minival.json", found)
    task = Detection(BENCHMARKS["lvis_minival"], root, Settings(predictions=predictions))
    scores = task.score(ColourEncoder())  # type: ignore[arg-type]
    assert scores.metrics["ap"].value == pytest.approx(75)
    assert scores.metrics["ordinary_ap"].value == pytest.approx(100 * 51 / 101 / 2)
    assert scores.breakdown == {"class": {"class_1": pytest.approx(50), "class_2": pytest.approx(100)}}
    assert scores.facts["ap"].startswith("fixed: the 10,000 best detections of a class")
    assert scores.facts["most_of_a_picture"] == 302
    assert not any(name.startswith("detector_") for name in scores.metrics)


@pytest.fixture
def boxes(tmp_path: Path) -> tuple[Path, Path]:
    """Data root and predictions of LVIS minival: of one picture 301 boxes of no class, one of them on the red half."""
    root, predictions = make("lvis_minival", tmp_path)
    (predictions / "lvis_minival.json").unlink()
    places = [[float(number % 30), 0.0, 30.0, 20.0 + number // 30] for number in range(300)]
    found = [{"image_id": 7, "category_id": 0, "bbox": box, "score": 0.5} for box in [[0, 0, 32, 32], *places]]
    write_json(predictions / "lvis_minival.boxes.json", found)
    return root, predictions


def test_boxes_without_a_class_have_no_ap_of_their_own_and_none_is_cut(
    boxes: tuple[Path, Path], tiny: fgclip2.FGCLIP2, tmp_path: Path
) -> None:
    root, predictions = boxes
    encoder: Any = ColourEncoder()
    encoder.model = tiny

    def judge() -> Any:
        return Detection(BENCHMARKS["lvis_minival"], root, Settings(predictions=predictions)).score(encoder)

    scores = judge()
    assert not any(name.startswith("detector_") for name in scores.metrics)
    assert scores.facts["detector_ap"] == "none: the boxes have no classes of the detector's own"
    assert scores.facts["most_of_a_picture"] == 301
    assert len(json.loads((predictions / "lvis_minival.fused.json").read_text())) == 301
    file = predictions / "lvis_minival.boxes.json"
    found = json.loads(file.read_text())
    found[0]["category_id"] = 9
    write_json(file, found)
    with pytest.raises(Fgclip2Error, match="boxes of category 0, which the annotation file does not have; give LVIS's"):
        judge()
    for item in found:
        item["category_id"] = 1
    write_json(file, found)
    assert judge().metrics["detector_ap_rare"].value > 0
