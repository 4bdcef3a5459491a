"""Classification and detection on the embedded world, against numpy and pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import fgclip2
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.evaluation.datasets import select
from fgclip2.evaluation.readers import folders
from fgclip2.evaluation.runner import run
from fgclip2.evaluation.scores import Settings
from fgclip2.evaluation.templates import IMAGENET
from tests.evaluation.colours import write_json, write_lines

CLASSES, COUNT = 16, 12


@pytest.fixture(scope="module")
def embedded() -> fgclip2.FGCLIP2:
    return fgclip2.load("tiny", device="cpu", dtype="float32")


def test_classification_is_what_numpy_says(
    embedded: fgclip2.FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ImageNet's layout with fewer classes: scenes of one thing, twice as many of every other class."""
    monkeypatch.setattr(folders, "CLASSES", CLASSES)
    world = World()
    shown = world.categories[:: len(world.categories) // CLASSES][:CLASSES]
    pictures, labels = [], []
    for label, category in enumerate(shown):
        config = SceneConfig(size=128, objects=(1, 1), scale=(0.5, 0.7), repeat=0, category_ids=(category.id,))
        folder = tmp_path / f"data/IN1K_val/val/n{label:08}"
        folder.mkdir(parents=True)
        for number in range(1 + label % 2):
            scene = world.scene(number, config)
            scene.image.save(folder / f"{number}.png")
            pictures.append(scene.image)
            labels.append(label)
    names = [category.name_en for category in shown]
    write_lines(tmp_path / "data/imagenet_classnames.txt", names)
    report = run(select(["imagenet"]), embedded, tmp_path / "data", tmp_path / "out", Settings(samples=20))
    result = report.results["imagenet"]

    texts = [template.replace("{}", name) for name in names for template in IMAGENET]
    prompts = embedded.text_features(texts, kind="short").as_subclass(torch.Tensor).numpy()
    classes = prompts.reshape(CLASSES, len(IMAGENET), -1).mean(1)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    order = (-(embedded.image_features(pictures, max_patches=1024).numpy() @ classes.T)).argsort(1)
    right = order == np.array(labels)[:, None]
    assert result["metrics"]["top1"]["value"] == pytest.approx(100 * right[:, 0].mean())
    assert result["metrics"]["top5"]["value"] == pytest.approx(100 * right[:, :5].any(1).mean())
    assert 0 < right[:, 0].mean() < 1  # there is something to tell apart
    assert result["metrics"]["top1"]["count"] == len(pictures) == CLASSES * 3 // 2
    share = {f"{label} {name}": 100 * right[np.array(labels) == label, 0].mean() for label, name in enumerate(names)}
    assert result["breakdown"]["class"] == pytest.approx(share)


def test_detection_is_what_pycocotools_says(embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    """Noisy boxes, some of nothing, of scenes where every class was looked for: LVIS's protocol is then COCO's."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    (root / "coco/val2017").mkdir(parents=True)
    scenes = [World().scene(seed, SceneConfig(size=160, objects=(2, 4))) for seed in range(COUNT)]
    categories = {thing.category.id: thing.category for scene in scenes for thing in scene.objects}
    ids = {number: label for label, number in enumerate(sorted(categories), start=1)}
    images, annotations, boxes = [], [], []
    for number, scene in enumerate(scenes, start=1):
        name = f"{number:012}.png"
        scene.image.save(root / "coco/val2017" / name)
        images.append({"id": number, "width": 160, "height": 160, "neg_category_ids": list(ids.values()),
                       "not_exhaustive_category_ids": [], "coco_url": f"http://a/val2017/{name}"})  # fmt: skip
        for thing in scene.objects:
            x1, y1, x2, y2 = thing.box
            annotations.append({"id": len(annotations) + 1, "image_id": number, "bbox": [x1, y1, x2 - x1, y2 - y1],
                                "category_id": ids[thing.category.id], "area": (x2 - x1) * (y2 - y1)})  # fmt: skip
            near = np.array([x1, y1, x2 - x1, y2 - y1]) + rng.normal(0, 2, 4)
            stray = [*rng.uniform(0, 100, 2), *rng.uniform(20, 50, 2)]
            for box, score in ((near, rng.uniform(0.4, 0.9)), (stray, rng.uniform(0.1, 0.5))):
                boxes.append({"image_id": number, "category_id": 1, "bbox": [float(round(v, 2)) for v in box],
                              "score": float(score)})  # fmt: skip
    named = [{"id": label, "name": categories[number].name_en, "frequency": "rcf"[label % 3]}
             for number, label in ids.items()]  # fmt: skip
    truth = {"images": images, "annotations": annotations, "categories": named}
    write_json(root / "lvis/lvis_v1_minival_inserted_image_name.json", truth)
    write_json(tmp_path / "given/lvis_minival.boxes.json", boxes)
    settings = Settings(predictions=tmp_path / "given")
    result = run(select(["lvis_minival"]), embedded, root, tmp_path / "out", settings).results["lvis_minival"]
    metrics = {name: metric["value"] for name, metric in result["metrics"].items()}

    fused = json.loads((tmp_path / "given/lvis_minival.fused.json").read_text(encoding="utf-8"))
    assert len(fused) == len(boxes)
    precision = coco_precision(truth, fused)
    by_class = np.where(precision[0, 0] > -1, 100 * precision.mean((0, 1)), np.nan)
    assert metrics["ap"] == pytest.approx(np.nanmean(by_class), abs=1e-3)
    assert metrics["ap"] > 20  # the model sees something
    assert metrics["ap50"] == pytest.approx(100 * precision[0][precision[0] > -1].mean(), abs=1e-3)
    marks = np.array([category["frequency"] for category in named])
    for name, mark in {"ap_rare": "r", "ap_common": "c", "ap_frequent": "f"}.items():
        assert metrics[name] == pytest.approx(np.nanmean(by_class[marks == mark]), abs=1e-3)
        assert metrics[f"ordinary_{name}"] == metrics[name]  # nowhere are there 300 boxes in a picture
    told = {category["name"]: value for category, value in zip(named, by_class.tolist(), strict=True)}
    assert result["breakdown"]["class"] == pytest.approx(told, abs=1e-3)
    detector = coco_precision(truth, boxes)
    assert metrics["detector_ap"] == pytest.approx(100 * detector[detector > -1].mean(), abs=1e-3)


def coco_precision(truth: dict[str, Any], found: list[dict[str, Any]]) -> np.ndarray:
    """pycocotools' precision (10, 101, C), -1 for classes without objects, without a limit of detections."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {**truth, "annotations": [{**item, "iscrowd": 0} for item in truth["annotations"]]}
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(json.loads(json.dumps(found))), "bbox")
        evaluation.params.maxDets = [10_000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision: np.ndarray = evaluation.eval["precision"][..., 0, 0]
    return precision
