"""The mask head: learned from annotations, asked for the boxes that are left, judged; and nothing without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from PIL import Image

from apps import ovd_detect, ovd_train
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.errors import Fgclip2Error
from fgclip2.masks import decode
from fgclip2_mmdet import FGCLIP2Detector, OpenVocabCocoMetric
from fgclip2_mmdet.embedded import DONE, EmbeddedConfig, EmbeddedData, prepare
from fgclip2_mmdet.experiment import fill_config, from_embedded, wants_masks
from fgclip2_mmdet.masks import PredictedMasks
from fgclip2_mmdet.user_data import read_user_data, with_masks

CONFIGS = Path(__file__).resolve().parents[2] / "apps/configs/ovd"
PLAIN, MASKED = (CONFIGS / f"{name}_tiny_openmoji.py" for name in ("fvit", "fvit_mask"))
SMALL = {"train": 4, "val": 2, "base": 30, "novel": 10, "size": 96}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedData:
    return prepare(tmp_path_factory.mktemp("world") / "scenes", EmbeddedConfig(**SMALL, masks=True), workers=1)


def config(scenes: EmbeddedData, model: Path, file: Path = MASKED) -> Config:
    cfg = Config.fromfile(file)
    fill_config(cfg, from_embedded(scenes), str(model), Path("unused"), seed=0)
    cfg.model.backbone.dtype = "float32"
    cfg.model.test_cfg.rcnn.score_thr = 0.0  # random weights are sure of nothing
    cfg.model.test_cfg.rpn.max_per_img = 30
    cfg.train_dataloader.dataset.pipeline[2].max_patches = 36
    cfg.test_dataloader.dataset.pipeline[1].max_patches = 25  # so that results are enlarged
    return cfg


def build(cfg: Config) -> FGCLIP2Detector:
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def batch(cfg: Config, part: str, count: int) -> dict[str, Any]:
    dataset = Runner.build_dataloader({**cfg[f"{part}_dataloader"], "num_workers": 0}, seed=0).dataset
    return pseudo_collate([dataset[index] for index in range(count)])


def test_scenes_with_masks(scenes: EmbeddedData, tmp_path: Path) -> None:
    """They are the exact ones of the scenes; without them files and stamp are those of before there were masks."""
    content = json.loads(scenes.val_annotations.read_text(encoding="utf-8"))
    shown = tuple(category["id"] for category in content["categories"])
    scene = World().scene(1_000_000_000, SceneConfig(size=96, category_ids=shown))
    first = [item for item in content["annotations"] if item["image_id"] == 0]
    assert len(first) == len(scene.objects) > 0
    for item, thing in zip(first, scene.objects, strict=True):
        np.testing.assert_array_equal(decode(item["segmentation"]), thing.mask)
    plain = prepare(tmp_path / "scenes", EmbeddedConfig(**SMALL), workers=1)
    for item in content["annotations"]:
        del item["segmentation"]
    assert json.loads(plain.val_annotations.read_text(encoding="utf-8")) == content
    assert "masks" not in json.loads((plain.directory / DONE).read_text(encoding="utf-8"))["config"]


def test_mask_targets_come_through_the_stand_in() -> None:
    mask = np.zeros((1, 40, 40), np.uint8)
    mask[0, 10:30, 10:20] = 1
    boxes = np.array([[10, 10, 30, 30], [0, 0, 40, 40]], np.float32)
    targets = BitmapMasks(mask, 40, 40).crop_and_resize(boxes, (4, 4), np.array([0, 0])).to_ndarray()
    assert targets[0].tolist() == [[1, 1, 0, 0]] * 4
    assert targets[1].tolist() == [[0] * 4, [0, 1, 0, 0], [0, 1, 0, 0], [0] * 4]


def test_masks_are_learned(scenes: EmbeddedData, tiny_dir: Path) -> None:
    """Of four scenes; every weight of the mask head takes part, also in a step without objects."""
    cfg = config(scenes, tiny_dir)
    detector = build(cfg).train()
    data = batch(cfg, "train", 4)
    assert {len(sample.gt_instances.masks) for sample in data["data_samples"]} != {0}
    optimizer = torch.optim.AdamW(detector.roi_head.parameters(), lr=2e-3)
    found = []
    for _ in range(8):
        losses = detector(**detector.data_preprocessor(data, True), mode="loss")
        total, _ = detector.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found.append((float(losses["loss_mask"].detach()), float(total.detach())))
    assert found[-1][0] < 0.9 * found[0][0]
    assert found[-1][1] < found[0][1]
    for sample in data["data_samples"]:
        sample.gt_instances = sample.gt_instances[:0]
    total, _ = detector.parse_losses(detector(**detector.data_preprocessor(data, True), mode="loss"))
    optimizer.zero_grad()
    total.backward()
    assert torch.isfinite(total)
    assert all(parameter.grad is not None for parameter in detector.roi_head.mask_head.parameters())


@torch.no_grad()
def test_masks_of_the_boxes_that_are_left(
    scenes: EmbeddedData, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the picture's size and in their boxes; the boxes are to the bit those of a detector without a mask head."""
    cfg = config(scenes, tiny_dir)
    masked, plain = build(cfg).eval(), build(config(scenes, tiny_dir, PLAIN)).eval()
    left = masked.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.startswith("roi_head.mask_head.") for name in left.missing_keys)
    masked.roi_head.mask_head.conv_logits.bias.fill_(0.5)  # random masks, but not empty ones
    looked_at: list[int] = []
    forward = masked.roi_head.mask_head.forward
    monkeypatch.setattr(masked.roi_head.mask_head, "forward", lambda x: looked_at.append(len(x)) or forward(x))
    monkeypatch.setattr("fgclip2_mmdet.roi_head._MASKS", 16)
    with_masks, without = (detector.test_step(batch(cfg, "test", 2)) for detector in (masked, plain))
    for sample, expected in zip(with_masks, without, strict=True):
        for name in ("pred_instances", "pred_zh", "pred_shuffled"):
            found, other = getattr(sample, name), getattr(expected, name)
            assert set(other.keys()) == {"bboxes", "scores", "labels"}
            for key in other.keys():  # noqa: SIM118  (InstanceData iterates over detections)
                assert torch.equal(found[key], other[key])
            assert found.masks.array().shape == (len(found), 96, 96)
            assert found.masks.array().any()
            for mask, (x1, y1, x2, y2) in zip(found.masks, found.bboxes.tolist(), strict=True):
                rows, columns = np.nonzero(mask)
                assert ((x1 <= columns + 0.5) & (columns + 0.5 < x2) & (y1 <= rows + 0.5) & (rows + 0.5 < y2)).all()
            best = found[found.scores >= found.scores[1]]
            np.testing.assert_array_equal(best.masks.array(), found.masks.array()[: len(best)])
    assert max(looked_at) <= 16
    every = torch.cat([with_masks[0].pred_instances.bboxes, with_masks[0].pred_zh.bboxes])
    assert sum(looked_at) < 2 * len(every)  # one look at a box of several classes and vocabularies
    masked.rpn_head.test_cfg.min_bbox_size = 10_000
    (nothing,) = masked.test_step(batch(cfg, "test", 1))
    assert nothing.pred_instances.masks.cpu().shape == (0, 96, 96)


def test_a_head_that_knows_classes_is_refused(scenes: EmbeddedData, tiny_dir: Path) -> None:
    cfg = config(scenes, tiny_dir)
    assert wants_masks(cfg)
    assert not wants_masks(Config.fromfile(PLAIN))
    cfg.model.roi_head.mask_head.class_agnostic = False
    with pytest.raises(Fgclip2Error, match="class_agnostic=True"):
        build(cfg)


def test_ap_of_masks(scenes: EmbeddedData, tmp_path: Path) -> None:
    """Boxes of the truth with masks that fill them: all boxes are right, and only masks of full things are."""
    truth = json.loads(scenes.val_annotations.read_text(encoding="utf-8"))
    names = [category["name"] for category in truth["categories"]]
    labels = {category["id"]: index for index, category in enumerate(truth["categories"])}

    def evaluated(full: bool) -> dict[str, float]:
        metric = OpenVocabCocoMetric(str(file), scenes.novel, outfile=str(tmp_path / "results.json"), prefix="ov")
        metric.dataset_meta = {"classes": names}
        for image in truth["images"]:
            own = [item for item in truth["annotations"] if item["image_id"] == image["id"]]
            boxes = np.array([item["bbox"] for item in own], np.float32)
            boxes[:, 2:] += boxes[:, :2]
            shares = np.ones((len(own), 28, 28), np.float32)
            if not full:
                shares[:, :, 7:] = 0
            found = InstanceData(
                bboxes=torch.from_numpy(boxes),
                scores=torch.ones(len(own)),
                labels=torch.tensor([labels[item["category_id"]] for item in own]),
                masks=PredictedMasks(shares, boxes, (96, 96)),
            )
            metric.process(None, [{"img_id": image["id"], "pred_instances": found}])
        figures: dict[str, float] = metric.evaluate(len(truth["images"]))
        return figures

    for item in truth["annotations"]:  # things that fill their boxes
        x, y, width, height = item["bbox"]
        item["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    file = tmp_path / "val.json"
    file.write_text(json.dumps(truth), encoding="utf-8")
    good = evaluated(full=True)
    assert good["ov/AP_all"] == good["ov/mask_AP_all"] == pytest.approx(100)
    assert {f"ov/mask_{name}_{group}" for name in ("AP", "AP50") for group in ("base", "novel", "all")} <= set(good)
    poor = evaluated(full=False)
    assert poor["ov/AP_all"] == pytest.approx(100)
    assert poor["ov/mask_AP50_all"] < 10
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert decode(written[0]["segmentation"]).shape == (96, 96)
    del truth["annotations"][0]["segmentation"]
    file.write_text(json.dumps(truth), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="1 annotations have no 'segmentation', the first has id 1"):
        evaluated(full=True)


def mine(folder: Path, scenes: EmbeddedData) -> list[str]:
    """A user's files: the scenes' pictures, some masks polygons, some run lengths, one novel thing without any."""
    for part in ("train", "val"):
        content = json.loads((scenes.directory / f"{part}.json").read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        for number, item in enumerate(content["annotations"]):
            x, y, width, height = item["bbox"]
            if number % 2:
                item["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        if part == "train":
            del content["annotations"][0]["segmentation"]
            chosen = names[content["annotations"][0]["category_id"]]
        content["categories"] = json.loads(scenes.val_annotations.read_text(encoding="utf-8"))["categories"]
        (folder / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / part).symlink_to(scenes.directory / part)
    return ["--data-root", str(folder), "--train-ann", "train.json", "--val-ann", "val.json", "--novel", chosen]


def test_from_a_users_files_to_drawn_masks(
    scenes: EmbeddedData, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained by the command, found by the other, whole and in tiles, and by mmdetection's own inferencer."""
    given = mine(tmp_path, scenes)
    work = tmp_path / "work"
    fast = ["model.backbone.dtype='float32'", "train_dataloader.batch_size=2", "model.test_cfg.rpn.max_per_img=20"]
    fast += [f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")]
    fast += [f"{part}_dataloader.dataset.pipeline.{step}.max_patches=36" for part, step in (("train", 2), ("test", 1))]
    fast += ["model.backbone.out_channels=128", "model.test_cfg.rcnn.score_thr=0.0"]
    command = ["--config", str(MASKED), "--model", str(tiny_dir), "--work-dir", str(work), "--epochs", "1"]
    bare = given[:-2]  # without --novel the object that has no mask counts
    assert ovd_train.main([*command, *bare, "--cfg-options", *fast]) == 2
    said = capsys.readouterr().err
    assert "train.json: annotation 1 has no 'segmentation'" in said
    assert "take a config without mask_head" in said
    assert not work.exists()
    assert ovd_train.main([*command, *given, "--pictures", "1", "--cfg-options", *fast]) == 0
    printed = capsys.readouterr().out
    assert "Masks on the held-out pictures" in printed
    figures = json.loads((work / "metrics.json").read_text(encoding="utf-8"))["metrics"]["en"]
    assert 0 <= figures["mask_AP50_all"] <= 100
    written = json.loads((work / "annotations/train.json").read_text(encoding="utf-8"))["annotations"]
    assert all(isinstance(item["segmentation"]["counts"], str) for item in written)

    picture = tmp_path / "large.png"
    with Image.open(scenes.directory / "val/000000.jpg") as opened:
        opened.resize((150, 110)).save(picture)
    for more in ([], ["--tile", "96"]):
        out = tmp_path / f"out{len(more)}"
        asked = [
            "--checkpoint",
            str(work),
            "--classes",
            "狗, red car",
            "--score-thr",
            "0",
            "--out",
            str(out),
            "--no-contrast",
            *more,
        ]
        assert ovd_detect.main([str(picture), *asked]) == 0
        (entry,) = json.loads((out / "detections.json").read_text(encoding="utf-8"))
        assert len(entry["segmentation"]) == len(entry["boxes"]) > 0
        for run, (x1, y1, x2, y2) in zip(entry["segmentation"], entry["boxes"], strict=True):
            rows, columns = np.nonzero(decode(run))
            assert run["size"] == [110, 150]
            assert ((x1 - 1 < columns) & (columns < x2) & (y1 - 1 < rows) & (rows < y2)).all()
        assert Image.open(out / entry["picture"]).size == (150, 110)
    peer = DetInferencer(str(work / MASKED.name), str(work / "epoch_1.pth"), device="cpu", show_progress=False)
    result = peer(str(picture), out_dir=str(tmp_path / "peer"), no_save_pred=False, pred_score_thr=0.0)
    (found,) = result["predictions"]
    assert len(found["masks"]) == len(found["bboxes"]) > 0
    assert decode(found["masks"][0]).shape == (110, 150)
    assert list((tmp_path / "peer" / "vis").iterdir())


def test_objects_of_unusable_masks_are_left_out_of_training(
    scenes: EmbeddedData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A polygon of two points costs its object, not the training; what covers no pixel does not become its box."""
    _, folder, *_, novel = mine(tmp_path, scenes)
    file = Path(folder) / "train.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    bad = [item for item in content["annotations"][1:] if isinstance(item["segmentation"], list)][:2]
    bad[0]["segmentation"] = [[1, 2, 3, 4]]
    bad[1]["segmentation"] = [[0.1, 0.1, 0.3, 0.1, 0.3, 0.3]]
    file.write_text(json.dumps(content), encoding="utf-8")
    read = read_user_data(Path(folder), "train.json", "val.json", novel)
    drawn = with_masks(read)
    lost = {item["id"] for item in bad}
    before, after = ({item.id for item in data.train.annotations} for data in (read, drawn))
    assert lost <= before
    assert after == before - lost
    assert "train.json: 2 of" in caplog.text
    assert "as if coordinates were shares of the image" in caplog.text
