"""Mask R-CNN with texts for classes: data, targets, what it learns, what changes nothing, AP against pycocotools."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from fgclip2.errors import Fgclip2Error
from fgclip2_detectron2 import InstanceMapper, OpenVocabInstanceEvaluator, build_mask_rcnn, register_coco
from fgclip2_detectron2.datasets import class_set, forget, segmentation_set
from fgclip2_detectron2.instances import instance_set
from fgclip2_detectron2.mask_rcnn import MaskRCNNConfig, OpenVocabMaskRCNN
from fgclip2_detectron2.report import _instance_panels, figures_table
from fgclip2_detectron2.roi_heads import TextBoxPredictor
from fgclip2_detectron2.scenes import ScenesConfig, register_scene_instances

SMALL = {"channels": 16, "strides": [8, 16], "anchor": 4, "proposals": [60, 30], "regions": 32, "hidden": 32,
         "mask_convs": 1, "score": 0.0}  # fmt: skip
NAMES = ["dog", "red car", "cat"]


@pytest.fixture(autouse=True)
def _catalogs() -> Iterator[None]:
    """Leave detectron2's catalogs as they were."""
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def coco_file(root: Path, pictures: int = 2, **changed: Any) -> Path:
    """Grey pictures of 96 x 64 with a red square (class 7) and a blue one (class 3), and a crowd."""
    root.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, pictures + 1):
        pixels = np.full((64, 96, 3), 128, np.uint8)
        left = 8 * number
        pixels[8:32, left : left + 24], pixels[36:60, 60:84] = (200, 0, 0), (0, 0, 200)
        Image.fromarray(pixels).save(root / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 64})
        crowd = np.zeros((64, 96), np.uint8, order="F")
        crowd[50:, :20] = 1
        run = coco_mask.encode(crowd)
        for label, box, shape in (
            (7, [left, 8, 24, 24], square(left, 8, 24)),
            (3, [60, 36, 24, 24], square(60, 36, 24)),
            (9, [0, 50, 20, 14], {"size": run["size"], "counts": run["counts"].decode()}),
        ):
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box,
                     "segmentation": shape, "area": box[2] * box[3], "iscrowd": int(label == 9)}  # fmt: skip
            annotations.append({**entry, **changed})
    names = [{"id": 7, "name": NAMES[0]}, {"id": 3, "name": NAMES[1]}, {"id": 9, "name": NAMES[2]}]
    file = root / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def model(tiny_dir: Path) -> OpenVocabMaskRCNN:
    torch.manual_seed(0)
    built = build_mask_rcnn(str(tiny_dir), {"layers": 2, "dtype": "float32"}, SMALL)
    built.know(["dog", "狗"])
    return built.eval()


def test_coco_files_are_read(tmp_path: Path) -> None:
    register_coco("things", coco_file(tmp_path), tmp_path, novel=["cat"])
    data = class_set("things")
    assert (data.main, data.base, list(data.names)) == (tuple(NAMES), [0, 1], ["names"])
    assert MetadataCatalog.get("things").thing_classes == NAMES
    record = DatasetCatalog.get("things")[1]
    pixels, things = instance_set("things").load(record)
    assert pixels.shape == (64, 96, 3)
    assert [(thing.label, thing.box, thing.crowd) for thing in things] == [
        (0, (16.0, 8.0, 40.0, 32.0), False),
        (1, (60.0, 36.0, 84.0, 60.0), False),
        (2, (0.0, 50.0, 20.0, 64.0), True),
    ]
    expected = np.zeros((3, 64, 96), bool)
    expected[0, 8:32, 16:40] = expected[1, 36:60, 60:84] = expected[2, 50:, :20] = True
    np.testing.assert_array_equal(np.stack([thing.mask for thing in things]), expected)


def test_names_of_coco_are_known_in_chinese(tmp_path: Path) -> None:
    file = coco_file(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace("red car", "car"), encoding="utf-8")
    register_coco("known", file, tmp_path)
    assert class_set("known").names == {"en": ("dog", "car", "cat"), "zh": ("狗", "汽车", "猫")}
    register_coco("given", file, tmp_path, names_zh=["犬", "车", "猫咪"])
    assert class_set("given").names["zh"] == ("犬", "车", "猫咪")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"segmentation": []}, "6 of 6 masks cannot be used .annotation 1 has no 'segmentation' in 1.png"),
        ({"segmentation": {"size": [5, 5], "counts": "PPYo0"}}, "must be of one size|cannot be read"),
        ({"segmentation": {"size": [64, 96]}}, "the mask of annotation 1 cannot be read"),
        ({"category_id": 5}, "category"),
    ],
)
def test_bad_files_teach(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    file = coco_file(tmp_path, **changed)

    def read() -> None:
        register_coco("bad", file, tmp_path)
        InstanceMapper("bad", 24)(DatasetCatalog.get("bad")[0])

    with pytest.raises(Fgclip2Error, match=said):
        read()


def test_other_mistakes_teach(tmp_path: Path, model: OpenVocabMaskRCNN) -> None:
    file = coco_file(tmp_path)
    with pytest.raises(Fgclip2Error, match="novel classes that the data set does not have: bird"):
        register_coco("bad", file, tmp_path, novel=["bird"])
    with pytest.raises(Fgclip2Error, match="give one a class"):
        register_coco("bad", file, tmp_path, names_zh=["狗"])
    register_coco("things", file, tmp_path)
    with pytest.raises(Fgclip2Error, match="has instances, not a label a pixel"):
        segmentation_set("things")
    with pytest.raises(Fgclip2Error, match="has a label a pixel, no instances"):
        instance_set("voc21_val")
    Image.new("RGB", (64, 96)).save(tmp_path / "1.png")
    with pytest.raises(Fgclip2Error, match="64 x 96 pixels, its annotations are for 96 x 64"):
        InstanceMapper("things")(DatasetCatalog.get("things")[0])
    for config, said in (({"strides": [8, 32]}, "strides"), ({"nms": 2}, "nms 2"), ({"colour": 1}, "colour")):
        with pytest.raises(Fgclip2Error, match=said):
            build_mask_rcnn(model.options["model"], detector=config)
    with pytest.raises(Fgclip2Error, match="call set_vocabularies first"):
        build_mask_rcnn(model.options["model"], detector=SMALL).eval()([{"image": torch.zeros(3, 16, 16)}])


def test_training_crops_take_masks_along(tmp_path: Path) -> None:
    register_coco("things", coco_file(tmp_path), tmp_path)
    record = DatasetCatalog.get("things")[0]
    np.random.seed(0)
    for crop in ((1.0, 1.0), (0.4, 0.9)):
        item = InstanceMapper("things", 24, train=True, crop=crop)(record)
        found, (height, width) = item["instances"], item["image"].shape[-2:]
        assert found.image_size == (height, width)
        assert height % 16 == width % 16 == 0
        for label, mask, box in zip(found.gt_classes, found.gt_masks, found.gt_boxes, strict=True):
            colour = item["image"][:, mask].float().mean(1)  # the square's own, but for its resized border
            assert colour.argmax() == (0 if label == 0 else 2)
            rows, columns = mask.nonzero(as_tuple=True)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert len(InstanceMapper("things", 24)(record)["things"]) == 3


def test_scenes_are_instances_too() -> None:
    train, val = register_scene_instances(ScenesConfig(train=2, val=2, base=30, novel=10, size=96))
    assert (len(class_set(val).main), len(class_set(val).novel)) == (40, 10)
    pixels, things = instance_set(train).load(DatasetCatalog.get(train)[0])
    assert pixels.shape == (96, 96, 3)
    assert {thing.label for thing in things} <= set(class_set(train).base)
    for thing in things:
        rows, columns = np.nonzero(thing.mask)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_it_learns(tmp_path: Path) -> None:
    """A few steps on two squares: every loss falls, and both are found, named and outlined.

    With the embedded model: an untrained text tower puts all names in one place.
    """
    torch.manual_seed(0)
    np.random.seed(0)
    register_coco("things", coco_file(tmp_path), tmp_path, novel=["cat"])
    built = build_mask_rcnn("tiny", {"layers": 2, "dtype": "float32"}, {**SMALL, "channels": 32})
    built.set_training_classes({"en": NAMES[:2], "zh": ["狗", "红色汽车"]}, [0, 1])
    mapper = InstanceMapper("things", 24, train=True)
    records = DatasetCatalog.get("things")
    learned = [parameter for parameter in built.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, 3e-3)
    totals = []
    with EventStorage():
        for step in range(100):
            losses = built.train()([mapper(record) for record in records])
            assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
            total = sum(losses.values())
            optimizer.zero_grad()
            total.backward()
            if not step:
                assert all(parameter.grad is not None for parameter in learned)
            optimizer.step()
            totals.append(total.item())
    assert np.mean(totals[-5:]) < 0.5 * np.mean(totals[:5])
    built.eval().set_vocabularies({"en": NAMES, "zh": ["狗", "红色汽车", "猫"]})
    evaluators = {key: OpenVocabInstanceEvaluator("things", key) for key in ("en", "zh")}
    for record in records:
        item = InstanceMapper("things", 24)(record)
        outputs = built([item])
        for evaluator in evaluators.values():
            evaluator.process([item], outputs)
    for key, evaluator in evaluators.items():
        figures = evaluator.evaluate()
        assert figures is not None
        assert figures[key]["mask_AP50_base"] > 80
        assert np.isnan(figures[key]["mask_AP_novel"])  # its only object is a crowd


def test_novel_labels_are_not_trained(model: OpenVocabMaskRCNN, tiny_dir: Path) -> None:
    built = build_mask_rcnn(str(tiny_dir), {"layers": 2, "dtype": "float32"}, SMALL)
    built.set_training_classes({"en": ["cat", "dog"]}, [4, 2])
    given = Instances((32, 32))
    given.gt_boxes = Boxes(torch.arange(16.0).view(4, 4))
    given.gt_classes = torch.tensor([2, 3, 4, 2])
    kept = built._trained(given)
    assert kept.gt_classes.tolist() == [1, 0, 1]
    assert kept.gt_boxes.tensor.tolist() == given.gt_boxes.tensor[[0, 2, 3]].tolist()
    assert built._novel(["Dog", "bird"]).tolist() == [False, True]


def picture(seed: int = 0, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_results_have_the_pictures_size_and_order(model: OpenVocabMaskRCNN) -> None:
    model.set_vocabularies({"a": NAMES, "b": NAMES[::-1], "c": ["沙发"]})
    (found,) = model([{"image": picture(), "height": 50, "width": 71}])
    for key, classes in (("a", 3), ("b", 3), ("c", 1)):
        instances = found["instances"][key]
        assert instances.pred_masks.shape == (len(instances), 50, 71)
        assert instances.pred_masks.dtype == torch.bool
        assert 0 < len(instances) <= 100
        assert (instances.scores.diff() <= 0).all()
        assert 0 <= instances.scores.min() <= instances.scores.max() <= 1
        assert instances.pred_classes.max() < classes
        boxes = instances.pred_boxes.tensor
        assert boxes.min() >= 0
        assert (boxes.amax(0) <= torch.tensor([71.0, 50.0, 71.0, 50.0])).all()
    a, b = (found["instances"][key] for key in "ab")
    torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=1e-5)
    assert (a.pred_classes == 2 - b.pred_classes).float().mean() > 0.9  # but for ties


def test_padding_changes_no_region_embedding(model: OpenVocabMaskRCNN) -> None:
    """Training pads pictures of a batch to one size: levels and the dense map are those of the picture alone."""
    images, sizes = model.batch([picture(1, (48, 64)), picture(2, (64, 80))])
    together = model._features(images, sizes)
    alone = model._features(*model.batch([picture(1, (48, 64))]))
    for name, level in alone.items():
        rows, columns = level.shape[-2:]
        torch.testing.assert_close(together[name][:1, :, :rows, :columns], level, atol=1e-5, rtol=1e-5)


def test_an_untrained_head_is_the_dense_map(model: OpenVocabMaskRCNN) -> None:
    """Before training, class shares are a softmax over cosines of the dense map's regions, by hand."""
    predictor = model.roi_heads.box_predictor
    assert isinstance(predictor, TextBoxPredictor)
    torch.manual_seed(1)
    dense, texts = (F.normalize(torch.randn(count, predictor.cls_score.out_features), dim=-1) for count in (5, 4))
    raw, deltas = predictor(torch.randn(5, 32))
    assert raw.abs().max() == 0
    assert deltas.shape == (5, 4)
    embeddings = predictor.embed(raw, dense)
    with torch.no_grad():
        (shares,) = predictor.probabilities(embeddings, texts)
        other = predictor.other / predictor.other.norm()
        logits = 50 * (dense @ torch.cat([texts, other[None]]).T).numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares.numpy(), expected[:, :4], atol=1e-5)
    np.testing.assert_allclose(predictor.logits(embeddings, texts).detach().numpy(), logits, atol=1e-4)


def guessed(ids: list[int]) -> tuple[OpenVocabInstanceEvaluator, list[dict[str, Any]]]:
    """Random detections near the things of "things": what has counted them, and the same as COCO results."""
    rng = np.random.default_rng(0)
    evaluator, results = OpenVocabInstanceEvaluator("things"), []
    mapper = InstanceMapper("things", 24)
    for record in DatasetCatalog.get("things"):
        item = mapper(record)
        masks, boxes, labels = [], [], []
        for thing in item["things"] * 3:
            x, y = (round(thing.box[axis] + int(rng.integers(-4, 5))) for axis in (0, 1))
            mask = np.zeros((64, 96), bool)
            mask[max(0, y) : y + 24, max(0, x) : x + 24] = True
            masks.append(mask)
            boxes.append([max(0, x), max(0, y), min(96, x + 24), min(64, y + 24)])
            labels.append(thing.label if rng.random() < 0.8 else int(rng.integers(3)))
        scores = rng.random(len(masks)).astype(np.float32)
        found = Instances((64, 96))
        found.pred_masks, found.pred_boxes = torch.from_numpy(np.stack(masks)), Boxes(torch.tensor(boxes).float())
        found.scores, found.pred_classes = torch.from_numpy(scores), torch.tensor(labels)
        evaluator.process([item], [{"instances": {"names": found}}])
        for mask, (x1, y1, x2, y2), score, label in zip(masks, boxes, scores.tolist(), labels, strict=True):
            run = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            results.append({"image_id": record["image_id"], "category_id": ids[label], "score": score,
                            "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": run})  # fmt: skip
    with pytest.raises(Fgclip2Error, match="no predictions for the vocabulary 'names'; this model has zh"):
        evaluator.process([item], [{"instances": {"zh": found}}])
    return evaluator, results


def test_ap_is_pycocotools(tmp_path: Path) -> None:
    """Random detections on the file's pictures, counted by pycocotools from the file itself."""
    file, ids = coco_file(tmp_path, 4), [7, 3, 9]
    register_coco("things", file, tmp_path, novel=["dog"])
    evaluator, results = guessed(ids)
    figures = evaluator.evaluate()
    assert figures is not None
    truth = COCO(str(file))
    for kind, name in (("mask", "segm"), ("box", "bbox")):
        for group, classes in (("all", ids), ("novel", [7]), ("base", [3, 9])):
            stock = COCOeval(truth, truth.loadRes([dict(item) for item in results]), name)
            stock.params.catIds = classes
            stock.evaluate()
            stock.accumulate()
            stock.summarize()
            assert figures["names"][f"{kind}_AP_{group}"] == pytest.approx(100 * stock.stats[0], abs=1e-6)
            assert figures["names"][f"{kind}_AP50_{group}"] == pytest.approx(100 * stock.stats[1], abs=1e-6)
    assert 5 < figures["names"]["mask_AP_all"] < 95


def lvis_file(root: Path) -> Path:
    """The same as LVIS's: cats are there but not all marked in the second picture, and nobody looked for dogs in the
    fourth, whose dog is gone."""
    file = coco_file(root, 4, iscrowd=0)
    content = json.loads(file.read_text(encoding="utf-8"))
    for image in content["images"]:
        image["neg_category_ids"] = []
        image["not_exhaustive_category_ids"] = [9] if image["id"] == 2 else []
    content["annotations"] = [a for a in content["annotations"] if (a["image_id"], a["category_id"]) != (4, 7)]
    for category, frequency in zip(content["categories"], "rcf", strict=True):
        category["frequency"] = frequency
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_lvis_ap_is_that_of_its_api(tmp_path: Path) -> None:
    file, ids = lvis_file(tmp_path), [7, 3, 9]
    register_coco("things", file, tmp_path, novel=["dog"])
    evaluator, results = guessed(ids)
    results += (wrong := [{**item, "category_id": 7} for item in results if item["image_id"] == 4])
    evaluator.found += [{**item, "category_id": 0, "iscrowd": 0} for item in wrong]
    figures = evaluator.evaluate()
    assert figures is not None
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(figures_table("things", figures))
    printed = console.export_text()
    assert "LVIS AP" in printed
    assert all(f"mask {key} (1)" in printed for key in ("APr", "APc", "APf"))
    for kind, name in (("mask", "segm"), ("box", "bbox")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(np, "float", float, raising=False)  # lvis 0.5.3 is older than numpy 1.24
            from lvis import LVIS, LVISEval, LVISResults

            ground = LVIS(str(file))
            stock = LVISEval(ground, LVISResults(ground, [dict(item) for item in results]), name)
            stock.run()
            expected = stock.get_results()
        found = figures["names"]
        for key in ("APr", "APc", "APf"):
            assert found[f"{kind}_{key}"] == pytest.approx(100 * expected[key], abs=1e-6)
        for key, same in (("AP_all", "AP"), ("AP50_all", "AP50"), ("AP_novel", "APr")):
            assert found[f"{kind}_{key}"] == pytest.approx(100 * expected[same], abs=1e-6)
    assert 5 < figures["names"]["mask_AP_all"] < 95
    forget("things")
    register_coco("things", coco_file(tmp_path, 4, iscrowd=0), tmp_path)  # without the marks: another figure
    by_coco = OpenVocabInstanceEvaluator("things")
    by_coco.images, by_coco.truth, by_coco.found = evaluator.images, evaluator.truth, evaluator.found
    other = by_coco.evaluate()
    assert other is not None
    assert abs(other["names"]["mask_AP_all"] - figures["names"]["mask_AP_all"]) > 1
    assert "mask_APr" not in other["names"]


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("categories", "frequency", None, "entry 7 of categories has no 'frequency'"),
        ("categories", "frequency", "x", "LVIS knows r, c and f"),
        ("images", "not_exhaustive_category_ids", None, "entry 1 of images has no 'not_exhaustive_category_ids'"),
        ("images", "neg_category_ids", [5], "a picture's marks name category 5, which it lacks"),
        ("images", "neg_category_ids", ["dog"], "no list of category ids"),
    ],
)
def test_half_an_lvis_file_teaches(tmp_path: Path, kind: str, key: str, value: Any, said: str) -> None:
    file = lvis_file(tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    content[kind][0][key] = value
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match=said):
        register_coco("things", file, tmp_path)


def test_nothing_found_is_zero(tmp_path: Path) -> None:
    register_coco("things", coco_file(tmp_path), tmp_path)
    evaluator = OpenVocabInstanceEvaluator("things")
    item = InstanceMapper("things", 24)(DatasetCatalog.get("things")[0])
    empty = Instances((64, 96))
    empty.pred_masks, empty.pred_boxes = torch.zeros(0, 64, 96, dtype=torch.bool), Boxes(torch.zeros(0, 4))
    empty.scores, empty.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    evaluator.process([item], [{"instances": {"names": empty}}])
    figures = evaluator.evaluate()
    assert figures is not None
    assert figures["names"]["mask_AP_all"] == figures["names"]["box_AP50_all"] == 0


def test_config_defaults_are_detectron2s_sizes() -> None:
    config = MaskRCNNConfig()
    assert (config.channels, config.strides, config.most) == (256, (4, 8, 16, 32, 64), 100)


def test_a_class_number_moves_no_box_in_nms() -> None:
    """In detectron2's own code; our head's boxes go through the same function."""
    from detectron2.modeling.proposal_generator import proposal_utils
    from detectron2.modeling.roi_heads import fast_rcnn

    from fgclip2_detectron2 import exact_nms

    boxes = torch.tensor([[103, 100, 113, 110], [103, 100, 115, 110], [303, 300, 311, 308], [306, 301, 313, 309],
                          [900, 600, 1000, 700]], dtype=torch.float32)  # fmt: skip
    scores = torch.zeros(5, 20_001)
    scores[:, 19_999] = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    (found,), _ = fast_rcnn.fast_rcnn_inference([boxes], [scores], [(1000, 1000)], 0.05, 0.7, 100)
    assert found.pred_boxes.tensor.tolist() == boxes[[0, 2, 3, 4]].tolist()
    assert found.pred_classes.tolist() == [19_999] * 4
    assert proposal_utils.batched_nms is exact_nms.batched_nms


def test_a_class_has_one_colour_in_all_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth and predictions show different things first; colours go by the list of names."""
    register_coco("things", coco_file(tmp_path, 1), tmp_path)
    item = InstanceMapper("things", 24)(DatasetCatalog.get("things")[0])
    item["things"] = item["things"][1:2]  # only a "red car", the second class
    seen: list[tuple[list[str], list[str]]] = []

    def drawn(image: Image.Image, masks: Any, labels: list[str], *, names: Any) -> Image.Image:
        seen.append((list(labels), list(names)))
        return image

    monkeypatch.setattr("fgclip2_detectron2.report.draw_masks", drawn)
    found = Instances((64, 96))
    found.pred_masks, found.pred_boxes = torch.ones(1, 64, 96, dtype=torch.bool), Boxes(torch.zeros(1, 4))
    found.scores, found.pred_classes = torch.ones(1), torch.tensor([2])
    _instance_panels(Image.new("RGB", (96, 64)), item, {"instances": {"names": found}}, class_set("things"))
    assert seen == [(["red car"], NAMES), (["cat"], NAMES)]


def test_names_of_the_training_are_matched_before_commas_cut() -> None:
    from fgclip2_detectron2.inference import _settings

    facts = {"names": {"en": ["Bow (weapon), toy", "dog"], "zh": ["弓，玩具", "狗"]}, "max_patches": 64}
    assert _settings(facts, "dog, Bow (weapon), toy, 弓，玩具", None) == (["dog", "Bow (weapon), toy", "弓，玩具"], 64)
    assert _settings(facts, None, 9) == (["Bow (weapon), toy", "dog"], 9)
