"""``seg_train.py``: every config trains and evaluates a step on a miniature of its data; resuming; what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from apps import seg_train
from fgclip2.errors import Fgclip2Error
from fgclip2_detectron2 import register_datasets
from fgclip2_detectron2.checkpoint import (
    SegmentorCheckpointer,
    facts_of,
    find_checkpoint,
    load_segmentor,
    read_checkpoint,
    read_facts,
)
from fgclip2_detectron2.config_data import register_data, training_notes, training_records
from fgclip2_detectron2.datasets import class_set
from fgclip2_detectron2.engine import load_config
from fgclip2_detectron2.segmentor import build_segmentor

SMALL = [
    "model.head.hidden=8", "model.head.heads=2", "model.head.window=4", "model.head.guidance=8",
    "model.head.decoder=[6,4]", "model.head.decoder_guidance=[4,2]", "data.batch_size=2", "data.workers=0",
    "data.max_patches=16", "data.test_max_patches=16", "train.log_every=1", "train.checkpoint_every=1",
    "train.iterations=2", "train.device=cpu",
]  # fmt: skip
DETECTOR = [
    "model.detector.channels=16", "model.detector.strides=[8,16]", "model.detector.proposals=[40,20]",
    "model.detector.regions=16", "model.detector.hidden=16", "model.detector.mask_convs=1",
    *(text for text in SMALL if not text.startswith("model.head.")),
]  # fmt: skip
SCENES = ["scenes.train=4", "scenes.val=2", "scenes.base=30", "scenes.novel=10", "scenes.size=96"]


@pytest.fixture(autouse=True)
def _catalogs() -> Any:
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def train(*arguments: Any) -> int:
    return seg_train.main([str(argument) for argument in arguments])


def small(model: Path, out: Path, *more: str) -> list[str]:
    return [f"model.model={model}", f"train.output_dir={out}", *SMALL, *more]


def save(path: Path, values: Any, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)


def miniature(root: Path) -> None:
    """Every benchmark's layout with two pictures, as the archives unpack."""
    rng = np.random.default_rng(0)
    layouts = {
        "coco/train2017": ("coco/stuffthingmaps/train2017", [0, 1, 181, 255]),
        "ADEChallengeData2016/images/validation": ("ADEChallengeData2016/annotations/validation", [0, 1, 150]),
        "VOCdevkit/VOC2010/JPEGImages": ("VOCdevkit/VOC2010/SegmentationClassContext", [0, 1, 59]),
        "VOCdevkit/VOC2012/JPEGImages": ("VOCdevkit/VOC2012/SegmentationClass", [0, 1, 20, 255]),
    }
    for images, (masks, values) in layouts.items():
        for index in range(2):
            save(root / images / f"{index}.jpg", rng.integers(0, 256, (40, 56, 3)))
            save(root / masks / f"{index}.png", rng.choice(values, (40, 56)))
            save(root / f"ADE20K_2021_17_01/images_detectron2/validation/{index}.jpg", np.zeros((40, 56, 3)))
    for masks, last in {
        "ADE20K_2021_17_01/annotations_detectron2/validation": 846,
        "VOCdevkit/VOC2010/annotations_detectron2/pc459_val": 458,
    }.items():
        for index in range(2):
            save(root / masks / f"{index}.tif", rng.choice([0, 255, last, 65_535], (40, 56)), np.uint16)
    for lists in ("VOC2010/ImageSets/SegmentationContext", "VOC2012/ImageSets/Segmentation"):
        (root / "VOCdevkit" / lists).mkdir(parents=True)
        (root / "VOCdevkit" / lists / "val.txt").write_text("0\n1\n")


def test_scenes_train_resume_and_evaluate(tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = small(tiny_dir, out, *SCENES, "train.iterations=4", "model.train_classes=8", "model.max_classes=5")
    assert train(*options, "--pictures", 2) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "2/4: loss" in shown
    assert "control: names shuffled" in shown
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]["openmoji_val"]
    assert list(metrics) == ["en", "zh", "shuffled", "training-free (en)", "training-free (zh)"]
    assert all(0 <= metrics[key]["mIoU_all"] <= 100 for key in metrics)
    assert sorted(path.name for path in (out / "predictions").iterdir()) == ["0.jpg", "1.jpg"]
    final = read_checkpoint(find_checkpoint(out))
    assert find_checkpoint(out).name == "model_final.pth"
    assert final["trainer"]["iteration"] == 3
    assert len(final["fgclip2"]["names"]["zh"]) == 30
    assert not any("tower" in name for name in final["model"])

    # what a killed run leaves: the checkpoint of the second iteration is the newest
    kept = sorted(path.name for path in out.glob("*.pth"))
    assert kept == ["model_0000002.pth", "model_0000003.pth", "model_final.pth"]
    (out / "last_checkpoint").write_text("model_0000002.pth")
    assert train(*options, "--resume", "--pictures", 0) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "4/4: loss" in shown
    assert "2/4: loss" not in shown
    assert train(*options, "train.iterations=9", "--resume") == 2
    assert "its iterations differ" in capsys.readouterr().err

    assert train(*options, "--eval-only", "--pictures", 1) == 0, capsys.readouterr().err
    segmentor, facts = load_segmentor(out)
    assert segmentor.options == facts["options"]
    again = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]["openmoji_val"]
    assert list(again) == list(metrics)


def test_evaluation_takes_what_was_trained(tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--eval-only needs neither the training's overrides nor its data, and obeys overrides of its own."""
    out, options = tmp_path / "out", [*SCENES, "data.test_max_patches=16", "data.workers=0", "train.device=cpu"]
    made = small(tiny_dir, out, *SCENES, "model.train_classes=8", "train.iterations=1")
    assert train(*made, "--pictures", 0) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert re.search(r"base \(\d+ of 30\)", shown)  # two scenes do not show all
    assert re.search(r"novel \(\d+ of 10\)", shown)
    first = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    evaluation = ["--eval-only", "--pictures", 0, f"train.output_dir={out}", *options]
    assert train(*evaluation, "data.train=unknown") == 0, capsys.readouterr().err
    again = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert (again["model"], again["iterations"]) == (str(tiny_dir), 1)
    assert again["metrics"] == first["metrics"]
    assert train(*evaluation, "model.threshold=0.9999", "model.class_chunk=3") == 0, capsys.readouterr().err
    unsure = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]["openmoji_val"]["en"]
    assert unsure["mIoU_all"] == 0  # no pixel reaches the threshold
    assert unsure["IoU-background"] > 20
    capsys.readouterr()
    assert train(*evaluation, "model.head.hidden=16") == 2
    assert "does not fit what was changed (head)" in capsys.readouterr().err


def test_evaluation_keeps_the_trainings_split(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a word which scenes, how large, and what was trained are the training's; with one, that is told."""
    out = tmp_path / "out"
    made = small(tiny_dir, out, *SCENES, "model.train_classes=8", "train.iterations=1")
    assert train(*made, "--pictures", 0) == 0, capsys.readouterr().err
    first = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    evaluation = ["--eval-only", "--pictures", 0, f"train.output_dir={out}", "scenes.val=2", "data.workers=0"]
    evaluation.append("train.device=cpu")
    capsys.readouterr()
    assert train(*evaluation) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "as in the training: data.test_max_patches=16 scenes.base=30 scenes.novel=10 scenes.size=96" in shown
    assert re.search(r"base \(\d+ of 30\)", shown)
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"] == first
    assert train(*evaluation, *SCENES, "scenes.base=35", "data.test_max_patches=9") == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "data.test_max_patches=9 as you say; in the training it was 16" in shown
    assert "scenes.base=35 as you say; in the training it was 30" in shown
    trained = {said for names in read_facts(out)["names"].values() for said in names}
    data = class_set("openmoji_val")
    assert len(data.main) == 45  # another split, and still only what was trained is base
    assert {data.main[index] for index in data.base} == set(data.main) & trained
    assert set(data.main) & trained


def test_evaluation_of_other_data_keeps_what_was_trained(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Novel is what was not trained, in either language; who says otherwise is obeyed and told."""
    config, data = ["--config", seg_train.CONFIGS / "instances.py", "--pictures", 0], coco_miniature(tmp_path)
    out = f"train.output_dir={tmp_path / 'out'}"
    options = [*config, f"model.model={tiny_dir}", out, *DETECTOR, *data, "train.iterations=1", "coco.novel=cat"]
    assert train(*options) == 0, capsys.readouterr().err
    content = json.loads((tmp_path / "val.json").read_text(encoding="utf-8"))
    content["categories"] = [{"id": 1, "name": "bird"}, {"id": 2, "name": "狗"}]
    (tmp_path / "val.json").write_text(json.dumps(content), encoding="utf-8")
    evaluation = [*config, "--eval-only", out, *data[2:], "data.workers=0", "train.device=cpu"]
    capsys.readouterr()
    assert train(*evaluation) == 0, capsys.readouterr().err
    assert "as you say" not in capsys.readouterr().out
    assert class_set("coco_val").novel == {"bird"}
    assert train(*evaluation, "coco.novel=狗") == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "coco.novel as you say: bird count as base, though not trained" in shown
    assert "coco.novel as you say: 狗 count as novel, though trained" in shown
    assert class_set("coco_val").novel == {"狗"}


def coco_miniature(root: Path) -> list[str]:
    """A COCO JSON a part, two pictures each, with a polygon and run lengths; the overrides that name them."""
    rng, overrides = np.random.default_rng(0), []
    for part in ("train", "val"):
        images, annotations = [], []
        for number in (1, 2):
            save(root / part / f"{number}.jpg", rng.integers(0, 256, (48, 64, 3)))
            images.append({"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48})
            corners = [8.0, 4.0, 40.0, 4.0, 40.0, 30.0]
            shapes = ([corners], {"size": [48, 64], "counts": [48 * 40 + 10, 30, 18, 30, 48 * 24 - 88]})
            for label, (box, shape) in enumerate(zip(([8, 4, 32, 26], [40, 10, 2, 30]), shapes, strict=True), start=1):
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box,
                                    "segmentation": shape, "area": 400, "iscrowd": 0})  # fmt: skip
        content = {"images": images, "annotations": annotations,
                   "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]}  # fmt: skip
        (root / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
        overrides += [f"coco.{part}.annotations={root / f'{part}.json'}", f"coco.{part}.images={root / part}"]
    return overrides


def test_instances_train_resume_and_evaluate(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config = tmp_path / "out", ["--config", seg_train.CONFIGS / "instances.py"]
    data = coco_miniature(tmp_path)
    options = [*config, f"model.model={tiny_dir}", f"train.output_dir={out}", *DETECTOR, *data]
    assert train(*options, "--pictures", 1) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "2/2: loss" in shown
    assert "mask AP all (2)" in shown
    assert "novel" not in shown.partition("Segmentation on")[2]
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]["coco_val"]
    assert list(metrics) == ["en", "zh", "shuffled"]
    assert all(0 <= metrics[key]["mask_AP_all"] <= 100 for key in metrics)
    assert (out / "predictions/1.jpg").is_file()
    (out / "last_checkpoint").write_text("model_0000000.pth")
    assert train(*options, "--resume", "--pictures", 0) == 0, capsys.readouterr().err
    assert "1/2: loss" not in capsys.readouterr().out
    evaluation = [*config, "--eval-only", "--pictures", 0, f"train.output_dir={out}", *data[2:], "train.device=cpu"]
    evaluation += ["data.test_max_patches=16", "data.workers=0"]
    assert train(*evaluation) == 0, capsys.readouterr().err
    first = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]["coco_val"]
    assert train(*evaluation, "model.detector.most=1") == 0, capsys.readouterr().err
    fewer = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]["coco_val"]
    assert fewer["en"]["box_AP50_all"] <= first["en"]["box_AP50_all"]
    with pytest.raises(Fgclip2Error, match="is a Mask R-CNN, which finds instances"):
        load_segmentor(out)


@pytest.mark.parametrize(("mark", "reason"), [("iscrowd", "crowds only"), ("ignore", "ignored objects only")])
def test_pictures_without_a_trained_object_are_left_out(
    mark: str, reason: str, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Novel and ignored objects and crowds are none; evaluation keeps every picture."""
    config, data = ["--config", seg_train.CONFIGS / "instances.py", "--pictures", 0], coco_miniature(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] == 1 or item["id"] == 4]
    content["images"].append({**content["images"][0], "id": 3})
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    options = [*config, f"model.model={tiny_dir}", f"train.output_dir={tmp_path / 'out'}", *DETECTOR, *data]
    options.append("train.iterations=1")
    assert train(*options, "coco.novel=cat") == 0, capsys.readouterr().err
    assert "2 of 3 pictures show no object of a trained class and are left out of training" in capsys.readouterr().out
    assert [record["image_id"] for record in training_records("coco_train")[0]] == [1]
    assert len(DatasetCatalog.get("coco_val")) == 2
    content["annotations"][0][mark] = 1
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    assert train(*options, "coco.novel=cat", f"train.output_dir={tmp_path / 'other'}") == 2
    printed = capsys.readouterr().err
    assert "none of the 3 pictures of coco.train shows an object of a class that is not novel" in printed
    assert f"coco.train: 1 of 2 classes have no object and so are novel: dog ({reason})" in printed
    assert not (tmp_path / "other").exists()


def ov_coco_miniature(root: Path) -> list[str]:
    """As OV-COCO's files: training has the base categories only, in an order and with ids of its own."""
    overrides = coco_miniature(root)
    for part, names in (("train", ["Dog", "fish"]), ("val", ["cat", "bird", "dog", "fish"])):
        content = json.loads((root / f"{part}.json").read_text(encoding="utf-8"))
        content["categories"] = [{"id": 10 * k, "name": name} for k, name in enumerate(names, start=1)]
        for item in content["annotations"]:
            item["category_id"] = 10 * item["category_id"]
        (root / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return overrides


def test_a_training_file_of_base_classes_only(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it lacks is novel, and Chinese names go by name, not by place."""
    data, config = ov_coco_miniature(tmp_path), ["--config", seg_train.CONFIGS / "instances.py", "--pictures", 0]
    (tmp_path / "zh.txt").write_text("猫\n鸟\n狗\n鱼\n", encoding="utf-8")
    options = [*config, f"model.model={tiny_dir}", f"train.output_dir={tmp_path / 'out'}", *DETECTOR, *data]
    options += ["train.iterations=1", f"coco.names_zh={tmp_path / 'zh.txt'}"]
    assert train(*options) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "2 of 4 classes are not in coco.train and so are novel: cat, bird" in shown
    assert "mask AP base (0 of 2)" in shown  # the evaluation file has no object of them
    assert class_set("coco_train").names == {"en": ("Dog", "fish"), "zh": ("狗", "鱼")}
    assert class_set("coco_val").names["zh"] == ("猫", "鸟", "狗", "鱼")
    assert (class_set("coco_train").base, class_set("coco_val").base) == ([0, 1], [2, 3])
    assert read_checkpoint(find_checkpoint(tmp_path / "out"))["fgclip2"]["names"]["zh"] == ["狗", "鱼"]

    cfg = load_config(config[1], [*data, "coco.novel=dog"])
    unjudged = "2 of 4 classes have no object and are not judged: dog (nothing annotated), fish (nothing annotated)"
    unseen = "2 of 4 classes are not in coco.train and so are novel: cat, bird"
    assert register_data(cfg) == [f"coco.val: {unjudged}", unseen]
    assert (class_set("coco_train").base, class_set("coco_val").base) == ([1], [3])
    swapped = [*data[2:], *data[:2]]
    swapped = [text.replace("coco.val", "coco.x").replace("coco.train", "coco.val") for text in swapped]
    swapped = [text.replace("coco.x", "coco.train") for text in swapped]
    assert register_data(load_config(config[1], swapped)) == [
        f"coco.train: {unjudged.replace('are not judged', 'so are novel')}",
        "2 classes of coco.train are trained and not evaluated: cat, bird",
    ]
    for override, said in (
        (f"coco.names_zh={tmp_path / 'zh.txt'}", "coco.names_zh has 4 names, .*train.json has 2 categories"),
        ("coco.novel=horse", "novel classes that the data set does not have: horse"),
        ("coco.novel=rare", "no category has frequency r"),
    ):
        with pytest.raises(Fgclip2Error, match=said):
            register_data(load_config(config[1], [*swapped, override]))
    (tmp_path / "zh.txt").write_text("狗\n鱼\n", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="says nothing of cat, bird"):
        register_data(load_config(config[1], [*swapped, f"coco.names_zh={tmp_path / 'zh.txt'}"]))


def test_lvis_files_keep_their_rare_classes_out(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = coco_miniature(tmp_path), ["--config", seg_train.CONFIGS / "instances.py", "--pictures", 0]
    for part in ("train", "val"):
        content = json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8"))
        for image in content["images"]:
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        for category, frequency in zip(content["categories"], "fr", strict=True):
            category["frequency"] = frequency
        (tmp_path / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
    options = [*config, f"model.model={tiny_dir}", f"train.output_dir={tmp_path / 'out'}", *DETECTOR, *data]
    assert train(*options, "train.iterations=1", "coco.novel=rare") == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "LVIS's protocol counts 300 detections of a picture, this model gives 100" in shown
    assert "LVIS AP" in shown
    assert class_set("coco_val").novel == {"cat"}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["metrics"]["coco_val"]
    assert metrics["en"]["mask_APr"] == metrics["en"]["mask_AP_novel"]
    assert metrics["en"]["mask_APc"] is None


def test_instances_of_scenes(tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = ["--config", seg_train.CONFIGS / "instances_tiny.py"], tmp_path / "out"
    options = [f"model.model={tiny_dir}", f"train.output_dir={out}", *DETECTOR, *SCENES]
    assert train(*config, *options, "--pictures", 1) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert re.search(r"mask AP novel\s+\(\d+ of 10\)", shown)
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert list(metrics["openmoji_instances_val"]) == ["en", "zh", "shuffled"]


def test_real_instances(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty iterations on photographs with the embedded model: the loss falls, and COCO's mask AP is computed."""
    root, out = shared / "data" / "coco-instances-open", tmp_path / "out"
    data = [f"coco.{part}.annotations={root / f'instances_{part}2017.json'}" for part in ("train", "val")]
    data += [f"coco.{part}.images={root / 'images'}" for part in ("train", "val")]
    options = [text for text in DETECTOR if not text.startswith(("train.iterations", "data.max", "data.test"))]
    options += ["train.iterations=50", "data.max_patches=100", "data.test_max_patches=100", "train.lr=0.001"]
    config = ["--config", seg_train.CONFIGS / "instances.py", "model.model=tiny", f"train.output_dir={out}"]
    assert train(*config, *options, *data, "train.warm_up=5", "--pictures", 0) == 0, capsys.readouterr().err
    lines = [line for line in capsys.readouterr().out.splitlines() if ": loss" in line]
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == 50
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]["coco_val"]
    assert list(metrics) == ["en", "zh", "shuffled"]
    assert all(0 <= metrics[key]["mask_AP_all"] <= metrics[key]["mask_AP50_all"] for key in metrics)


def test_every_config_is_tried_here() -> None:
    """A new config needs a miniature above."""
    assert sorted(path.stem for path in seg_train.CONFIGS.glob("*.py")) == [
        "coco_stuff", "folder", "instances", "instances_tiny", "openmoji_tiny",
    ]  # fmt: skip


def test_every_benchmark_config_runs(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature(tmp_path)
    register_datasets(tmp_path)
    out = tmp_path / "out"
    config = seg_train.CONFIGS / "coco_stuff.py"
    assert train("--config", config, *small(tiny_dir, out), "--pictures", 0) == 0, capsys.readouterr().err
    assert "coco_stuff_train: 168 of 171 classes have no pixel: car, " in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert list(metrics) == ["ade847_val", "pc459_val", "ade150_val", "pc59_val", "voc20_val", "voc21_val"]
    assert all(list(figures) == ["en", "zh", "shuffled"] for figures in metrics.values())
    state = read_checkpoint(find_checkpoint(out))["model"]
    assert sum("q_proj" in name or "v_proj" in name for name in state) == sum("tower" in name for name in state) == 8


def test_a_folder_of_ones_own(tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for index in range(2):
            save(tmp_path / part / "images" / f"{index}.jpg", rng.integers(0, 256, (33, 50, 3)))
            save(tmp_path / part / "masks" / f"{index}.png", rng.integers(0, 3, (33, 50)))
    (tmp_path / "names.txt").write_text("红色汽车\ndog\n天空\n", encoding="utf-8")
    config = ["--config", str(seg_train.CONFIGS / "folder.py"), "--pictures", "1"]
    data = [
        f"folders.{part}.{kind}={tmp_path / part / kind}" for part in ("train", "val") for kind in ("images", "masks")
    ]
    options = small(tiny_dir, tmp_path / "out", f"folders.names={tmp_path / 'names.txt'}", *data)
    assert train(*config, *options, "folders.novel=dog") == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))["metrics"]["folder_val"]["names"]
    assert set(figures) >= {"mIoU_base", "mIoU_novel", "IoU-红色汽车"}
    capsys.readouterr()
    (tmp_path / "names.txt").write_text("a\nb\n", encoding="utf-8")
    assert train(*config, *options) == 2
    assert "values that no class has: 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "nowhere.py"], "does not exist"),
        (["train.lr"], "give key=value"),
        (["nothing.lr=1"], "no setting nothing.lr; did you mean train.lr?"),
        (["--num-gpus", "0"], "--num-gpus 0"),
        (["--resume", "--eval-only"], "both given"),
        (["--eval-only"], "no checkpoint in"),
        (["model.model=no/such/model/at/all"], "no/such/model/at/all"),
        (["model.head.colour=3"], "unexpected keyword argument 'colour'"),
        (["data.train=unknown"], "no segmentation data set 'unknown'"),
        (["scenes.base=5000"], "ask for fewer"),
        (["--config", str(seg_train.CONFIGS / "folder.py")], "folders.train.images"),
        (["--config", str(seg_train.CONFIGS / "coco_stuff.py")], "does not exist"),
        (["--config", str(seg_train.CONFIGS / "instances.py")], "coco.train.annotations"),
        (["data.train=openmoji_instances_train"], "has instances, not a label a pixel"),
        (["--config", str(seg_train.CONFIGS / "instances_tiny.py"), "data.test=[openmoji_val]"], "no instances"),
        (["--config", str(seg_train.CONFIGS / "instances_tiny.py"), "model.detector.strides=[8,32]"], "strides"),
    ],
)
def test_what_is_refused(
    arguments: list[str], said: str, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    model = [] if any(text.startswith("model.model") for text in arguments) else [f"model.model={tiny_dir}"]
    assert train(*arguments, *model, f"train.output_dir={tmp_path / 'out'}") == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_overrides_may_stand_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between options, behind a flag, and not where they are an option's value: all of them arrive."""
    file = tmp_path / "a=b.py"
    file.write_text((seg_train.CONFIGS / "openmoji_tiny.py").read_text(encoding="utf-8"), encoding="utf-8")
    out = f"train.output_dir={tmp_path / 'out'}"
    for words in (
        ["scenes.val=2", "--config", file, out, "--num_gpus", "1", "--resume", "model.model=tiny", "train.lr"],
        ["--resume", "scenes.val=2", "--pictures", "3", "train.lr", f"--config={file}", out],
    ):
        assert train(*words) == 2
        assert "override 'train.lr': give key=value" in capsys.readouterr().err
    assert train("scenes.val=2", "--resume", out, "--config", file) == 2
    assert f"no checkpoint in {str(tmp_path / 'out')!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("狗, cat", "狗, cat"),
        ("dog,cat", "dog,cat"),
        ("红色汽车", "红色汽车"),
        ('"狗, cat"', "狗, cat"),
        ("dog", "dog"),
    ],
)
def test_names_need_no_second_quotes(given: str, meant: str) -> None:
    cfg = load_config(seg_train.CONFIGS / "instances.py", [f"coco.novel={given}", "data.crop=[0.5, 0.9]"])
    assert (cfg.coco.novel, cfg.data.crop) == (meant, [0.5, 0.9])


def test_learning_rate_and_decay_by_part(tiny_dir: Path) -> None:
    from fgclip2_detectron2.engine import build_model, parameter_groups

    overrides = [f"model.model={tiny_dir}", *SMALL, "model.backbone.trainable_blocks=1", "train.lr=0.01"]
    cfg = load_config(seg_train.CONFIGS / "openmoji_tiny.py", overrides)
    segmentor = build_model(cfg)
    groups = {
        (round(group["lr"], 8), group["weight_decay"]): group["params"] for group in parameter_groups(segmentor, cfg)
    }
    assert set(groups) == {(0.01, 0.01), (0.01, 0.0), (0.0001, 0.01), (0.0001, 0.0)}
    tower = {id(parameter) for parameter in segmentor.backbone.parameters() if parameter.requires_grad}
    assert {id(parameter) for key in groups for parameter in groups[key] if key[0] < 0.001} == tower
    assert torch.is_tensor(groups[0.01, 0.0][0])


def test_masks_of_0_and_255_are_told_before_training_and_in_the_table(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """255 is ignored, so one class of two is judged; with folders.values both are. Other masks are not resumed on."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for index in range(2):
            save(tmp_path / part / "images" / f"{part}{index}.jpg", rng.integers(0, 256, (33, 50, 3)))
            save(tmp_path / part / "masks" / f"{part}{index}.png", 255 * rng.integers(0, 2, (33, 50)))
    (tmp_path / "names.txt").write_text("background\ncrack\n", encoding="utf-8")
    data = [
        f"folders.{part}.{kind}={tmp_path / part / kind}" for part in ("train", "val") for kind in ("images", "masks")
    ]
    options = ["--config", seg_train.CONFIGS / "folder.py", "--pictures", "1"]
    options += small(tiny_dir, tmp_path / "out", f"folders.names={tmp_path / 'names.txt'}", *data)
    assert train(*options) == 0, capsys.readouterr().err
    before, _, after = capsys.readouterr().out.partition("for 2 iterations")
    assert "folders.train: 1 of 2 classes have no pixel and so are novel: crack (value 1)" in before
    assert 'value 255 is read as "ignore" (2 of 2 masks' in before
    assert "folders.values=[0, 255]" in before
    assert "all (1 of 2)" in after
    assert "all (2)" not in after
    assert train(*options, "folders.values=[0, 255]") == 0, capsys.readouterr().err
    before, _, after = capsys.readouterr().out.partition("for 2 iterations")
    assert "folders." not in before
    assert "all (2)" in after
    figures = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))["metrics"]["folder_val"]["names"]
    assert (figures["classes_all"], figures["classes_base"], figures["classes_novel"]) == (2, 2, 0)
    assert [path.name for path in (tmp_path / "out/predictions").glob("*.jpg")] == ["val0.jpg"]

    save(tmp_path / "train/masks/train0.png", 255 * rng.integers(0, 2, (33, 50)))
    assert train(*options, "folders.values=[0, 255]", "--resume") == 2
    assert "is of another run: its training data differ" in capsys.readouterr().err


def test_sizes_are_compared_before_training(tmp_path: Path) -> None:
    data = coco_miniature(tmp_path)
    save(tmp_path / "train/2.jpg", np.zeros((64, 48, 3)))
    with pytest.raises(Fgclip2Error, match=r"'2.jpg' is 48 x 64, not 64 x 48"):
        register_data(load_config(seg_train.CONFIGS / "instances.py", data))


def test_classes_without_objects_are_novel_and_named(tmp_path: Path) -> None:
    """OV-COCO's files list novel classes and show none; crowds are no objects to learn from."""
    data = coco_miniature(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    content["categories"] += [{"id": 3, "name": "bird"}, {"id": 4, "name": "人群"}]
    content["annotations"].append({**content["annotations"][1], "id": 9, "category_id": 4, "iscrowd": 1})
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    other = json.loads((tmp_path / "val.json").read_text(encoding="utf-8"))
    other["categories"] = content["categories"]
    other["annotations"][0]["category_id"] = 3
    (tmp_path / "val.json").write_text(json.dumps(other), encoding="utf-8")
    notes = register_data(load_config(seg_train.CONFIGS / "instances.py", data))
    assert notes == [
        "coco.train: 2 of 4 classes have no object and so are novel: bird (nothing annotated), 人群 (crowds only)",
        "coco.val: 1 of 4 classes have no object and are not judged: 人群 (nothing annotated)",
    ]
    assert class_set("coco_train").base == class_set("coco_val").base == [0, 1]
    assert class_set("coco_val").novel == {"bird", "人群"}


def test_objects_that_are_too_small_to_train_are_told(tmp_path: Path) -> None:
    """Boxes in shares of the image, or things of two pixels: counted as objects, and never trained."""
    data = coco_miniature(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))
    for item in content["annotations"]:
        if item["category_id"] == 2:
            item |= {"bbox": [20, 10, 2, 2], "segmentation": [[20, 10, 22, 10, 22, 12, 20, 12]]}
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    cfg = load_config(seg_train.CONFIGS / "instances.py", [*data, "data.max_patches=12", "data.crop=[1.0, 1.0]"])
    register_data(cfg)
    assert training_notes(cfg) == []  # images of 64 x 48 stay as they are, and four pixels are enough
    cfg.data.max_patches = 6
    assert training_notes(cfg) == [
        "coco_train: 2 of 4 objects have less than 4 pixels in training images and are not trained; of cat none is "
        "trained. Are their coordinates in pixels? More data.max_patches keep small ones"
    ]
    cfg.data.crop = [0.25, 1.0]  # a crop shows them four times as large
    assert training_notes(cfg) == []


def test_annotations_of_other_images_of_the_same_names_are_refused(tmp_path: Path) -> None:
    """Both files number their images alike, and one folder was given for both."""
    data, config = coco_miniature(tmp_path), seg_train.CONFIGS / "instances.py"
    one_folder = [text for text in data if not text.startswith("coco.val.images=")]
    one_folder.append(f"coco.val.images={tmp_path / 'train'}")
    assert register_data(load_config(config, data)) == []
    assert register_data(load_config(config, one_folder)) == [
        "2 of 2 pictures of coco.val are in training too, such as 1.jpg: figures say nothing about new pictures"
    ]
    content = json.loads((tmp_path / "val.json").read_text(encoding="utf-8"))
    content["annotations"][0] |= {"bbox": [3, 4, 30, 20]}
    (tmp_path / "val.json").write_text(json.dumps(content), encoding="utf-8")
    assert register_data(load_config(config, data)) == []
    with pytest.raises(Fgclip2Error, match=r"train/1.jpg' has other boxes of 'dog' in coco.train than in coco.val"):
        register_data(load_config(config, one_folder))


@pytest.mark.parametrize("config", ["openmoji_tiny.py", "instances_tiny.py"])
def test_a_training_that_diverges_stops_before_its_weights_are_useless(
    config: str, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "out", SMALL if config.startswith("open") else DETECTOR
    options = [f"model.model={tiny_dir}", f"train.output_dir={out}", *options, *SCENES, "train.iterations=5"]
    assert train("--config", seg_train.CONFIGS / config, *options, "train.lr=1e30", "train.clip=1e30") == 2
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"error: iteration \d is not finite \(.*\); checkpoints of earlier iterations are kept", printed)
    assert not (out / "metrics.json").exists()
    assert not (out / "model_final.pth").exists()
    kept = read_checkpoint(find_checkpoint(out))["model"]
    assert all(bool(torch.isfinite(value).all()) for value in kept.values() if value.is_floating_point())


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tiny_dir: Path, tmp_path: Path) -> None:
    segmentor = build_segmentor(str(tiny_dir), backbone={"dtype": "float32"}, head={
        "hidden": 8, "layers": 1, "window": 4, "heads": 2, "guidance": 8, "decoder": [6, 4], "decoder_guidance": [4, 2]
    })  # fmt: skip
    facts = facts_of(segmentor, max_patches=16, background=True, names={"en": ["dog"]})
    checkpointer = SegmentorCheckpointer(segmentor, tmp_path, facts)
    checkpointer.save("good")
    content = torch.load(tmp_path / "good.pth", weights_only=True)
    name = next(key for key, value in content["model"].items() if value.is_floating_point())
    content["model"][name].view(-1)[0] = float("nan")
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(Fgclip2Error, match=f"bad.pth is of no use: 1 of .* such as {re.escape(name)}"):
        load_segmentor(tmp_path / "bad.pth")
    segmentor.load_state_dict(content["model"])
    with pytest.raises(Fgclip2Error, match="final.pth is not written: 1 of"):
        checkpointer.save("final")
    assert find_checkpoint(tmp_path).name == "good.pth"
