"""Label maps that a trained segmentor leaves for ``fgclip2 eval``, and the same mIoU there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from apps import seg_train
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.metrics import mean_iou
from fgclip2.evaluation.records import Masked
from fgclip2.evaluation.segmentation import count_pixels, read_labels, read_predicted
from fgclip2_detectron2 import register_datasets
from fgclip2_detectron2.datasets import register_folder
from fgclip2_detectron2.predictions import PredictionWriter

SMALL = [
    "model.head.hidden=8", "model.head.heads=2", "model.head.window=4", "model.head.guidance=8",
    "model.head.decoder=[6,4]", "model.head.decoder_guidance=[4,2]", "data.batch_size=2", "data.workers=0",
    "data.max_patches=16", "data.test_max_patches=16", "train.iterations=1", "train.device=cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _catalogs() -> Any:
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def save(path: Path, values: Any, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)


def test_a_trained_segmentors_maps_are_judged_alike(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """VOC with background and ADE20K: what fgclip2 eval counts of the files is what the training program counted."""
    rng, data = np.random.default_rng(0), tmp_path / "data"
    ade, voc = data / "ADEChallengeData2016", data / "VOCdevkit/VOC2012"
    for index in range(2):
        pixels = rng.integers(0, 256, (40, 56, 3))
        save(ade / f"images/validation/{index}.jpg", pixels)
        save(ade / f"annotations/validation/{index}.png", rng.choice([0, *range(1, 151)], (40, 56)))
        save(voc / f"JPEGImages/{index}.jpg", pixels)
        save(voc / f"SegmentationClass/{index}.png", rng.choice([0, *range(1, 21), 255], (40, 56)))
        save(data / f"coco/train2017/{index}.jpg", pixels)
        save(data / f"coco/stuffthingmaps/train2017/{index}.png", rng.choice([0, 1, 181, 255], (40, 56)))
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/val.txt").write_text("0\n1\n")
    register_datasets(data)
    out, predictions = tmp_path / "out", tmp_path / "predictions"
    common = ["--config", str(seg_train.CONFIGS / "coco_stuff.py"), "--pictures", "0", *SMALL,
              f"model.model={tiny_dir}", f"train.output_dir={out}", "data.test=[ade150_val, voc21_val]"]  # fmt: skip
    assert seg_train.main(common) == 0, capsys.readouterr().err
    evaluation = [word for word in common if not word.startswith("model.")]
    assert seg_train.main([*evaluation, "--eval-only", "--predictions", str(predictions)]) == 0, capsys.readouterr().err
    assert f"label maps: {predictions}" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert sorted(file.relative_to(predictions).as_posix() for file in predictions.rglob("*.png")) == [
        "a150/0.png", "a150/1.png", "voc21/0.png", "voc21/1.png",
    ]  # fmt: skip

    # As CAT-Seg prepares the truth: one less, with what is not judged 255; VOC-21's background is 20.
    layouts = {"a150": (ade / "annotations/validation", 150, 255, "ade150_val"),
               "voc21": (voc / "SegmentationClass", 21, 20, "voc21_val")}  # fmt: skip
    for name, (masks, classes, zero, dataset) in layouts.items():
        records = []
        for index in range(2):
            values = read_labels(masks / f"{index}.png")
            save(
                tmp_path / f"{name}/{index}.png", np.where(values == 0, zero, np.where(values == 255, 255, values - 1))
            )
            records.append(Masked(Path("not opened"), tmp_path / f"{name}/{index}.png"))

        def predicted(record: Masked, name: str = name, classes: int = classes) -> np.ndarray:
            return read_predicted(predictions / name / record.mask.name, classes)

        found = count_pixels(records, predicted, classes, rest_is_last=name == "voc21")
        assert found.failures == ()
        assert float(mean_iou(found.counts.sum(0))) == pytest.approx(metrics[dataset]["en"]["mIoU"])


def test_values_are_class_numbers(tmp_path: Path) -> None:
    for kind, array in (("images", np.zeros((2, 3, 3))), ("masks", np.zeros((2, 3)))):
        save(tmp_path / kind / "a.png", array)
    sizes = {"few": (3, np.uint8, 255), "most": (255, np.uint8, 255), "many": (256, np.uint16, 65_535)}
    for name, (count, dtype, nothing) in sizes.items():
        register_folder(name, tmp_path / "images", tmp_path / "masks", [f"class {n}" for n in range(count)])
        writer = PredictionWriter(name, tmp_path / "out")
        values = np.asarray(writer.picture(np.array([[-1, 0, count - 1]])))
        assert values.dtype == dtype
        assert values.tolist() == [[nothing, 0, count - 1]]
    for folder in ("one", "two"):
        for kind in ("images", "masks"):
            save(tmp_path / f"twice/{kind}/{folder}/a.png", np.zeros((2, 3, 3) if kind == "images" else (2, 3)))
    register_folder("twice", tmp_path / "twice/images", tmp_path / "twice/masks", ["sky"])
    with pytest.raises(Fgclip2Error, match="have one name, and label maps are called by it alone"):
        PredictionWriter("twice", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --eval-only with it"),
        (["--resume"], "give --eval-only with it"),
    ],
)
def test_predictions_are_of_a_trained_one(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seg_train.main(["--predictions", str(tmp_path / "p"), *arguments]) == 2
    assert said in capsys.readouterr().err
