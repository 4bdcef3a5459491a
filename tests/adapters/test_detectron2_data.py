"""Masks, registered data sets, the mapper, and mean IoU against independent counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES, COCO_CATEGORIES
from detectron2.evaluation import SemSegEvaluator
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2_detectron2 import OpenVocabSemSegEvaluator, SegmentationMapper, register_datasets, register_folder
from fgclip2_detectron2.class_names import ADE_150, COCO_STUFF, COCO_STUFF_IDS, PC_59, VOC_20
from fgclip2_detectron2.datasets import segmentation_set
from fgclip2_detectron2.masks import IGNORE, MaskFormat, read_mask
from fgclip2_detectron2.scenes import ScenesConfig, register_scenes


@pytest.fixture(autouse=True)
def _catalogs() -> Any:
    """Leave detectron2's catalogs as they were."""
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def save(path: Path, values: Any, dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)
    return path


def folders(root: Path, mask: Any, dtype: type = np.uint8) -> tuple[Path, Path]:
    height, width = np.shape(mask)
    save(root / "images/里面/a.jpg", np.zeros((height, width, 3)))
    save(root / "masks/里面/a.png", mask, dtype)
    return root / "images", root / "masks"


def test_class_names_are_official_and_bilingual() -> None:
    assert [len(names) for names, _ in (COCO_STUFF, ADE_150, PC_59, VOC_20)] == [171, 150, 59, 20]
    for english, chinese in (COCO_STUFF, ADE_150, PC_59, VOC_20):
        assert len(set(english)) == len(set(chinese)) == len(english) == len(chinese)
        assert not any(name.isascii() for name in chinese)
    official = {entry["id"]: entry["name"] for entry in COCO_CATEGORIES if entry["id"] <= 182}
    ours = dict(zip(COCO_STUFF_IDS, COCO_STUFF[0], strict=True))
    # detectron2's table is of panoptic COCO, which calls COCO-Stuff's "wall-brick" the same and lacks merged classes
    assert {number: ours[number] for number in official} == official
    for ours_name, synonyms in zip(ADE_150[0], ADE20K_SEM_SEG_CATEGORIES, strict=True):
        assert ours_name in [part.strip() for part in synonyms.split(",")]
    assert set(VOC_20[0]) - {"diningtable"} <= set(PC_59[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_of_8_and_16_bit(tmp_path: Path, dtype: type) -> None:
    ignored = 255 if dtype is np.uint8 else IGNORE
    file = save(tmp_path / "a.png", [[0, 1, 2], [ignored, 0, 7]], dtype)
    labels = read_mask(file, MaskFormat((0, 2, 7), background=1, ignored=(ignored,)), (3, 2))
    assert labels.tolist() == [[0, 3, 1], [IGNORE, 0, 2]]


def test_palette_masks_are_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[3, 1]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 9, 9, 9])
    picture.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", MaskFormat.of(4)).tolist() == [[3, 1]]


def test_many_classes_need_16_bit_and_may_use_255(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", [[255, 599, IGNORE]], np.uint16)
    assert read_mask(file, MaskFormat.of(600)).tolist() == [[255, 599, IGNORE]]


@pytest.mark.parametrize(
    ("mask", "size", "said"),
    [
        ([[0, 5, 9]], (3, 1), r"values that no class has: 5, 9; there are 2 classes \(0 to 1\)"),
        ([[0, 1, 0]], (4, 1), "is 3 x 1 pixels, its picture 4 x 1"),
        ([[[0, 1, 2]]], (1, 1), "has colours"),
    ],
)
def test_bad_masks_teach(tmp_path: Path, mask: Any, size: tuple[int, int], said: str) -> None:
    with pytest.raises(Fgclip2Error, match=said):
        read_mask(save(tmp_path / "a.png", mask), MaskFormat.of(2), size)


def test_missing_or_foreign_masks_teach(tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match="does not exist"):
        read_mask(tmp_path / "a.png", MaskFormat.of(2))
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(Fgclip2Error, match="cannot be read"):
        read_mask(tmp_path / "a.png", MaskFormat.of(2))
    with pytest.raises(Fgclip2Error, match="a value of its own"):
        MaskFormat((1, 2), background=2)


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    images, masks = folders(tmp_path, [[0, 1], [255, 1]])
    register_folder("mine", images, masks, ["红色汽车", "dog"], novel=["dog"])
    (record,) = DatasetCatalog.get("mine")
    data = segmentation_set("mine")
    assert (data.base, data.background, data.main) == ([0], False, ("红色汽车", "dog"))
    pixels, labels = data.load(record)
    assert pixels.shape == (2, 2, 3)
    assert labels.tolist() == [[0, 1], [IGNORE, 1]]
    assert len(MetadataCatalog.get("mine").stuff_colors) == 2
    item = SegmentationMapper("mine", max_patches=4)(record)
    assert item["image"].shape == (3, 32, 32)
    assert item["sem_seg"].tolist() == labels.tolist()
    assert SegmentationMapper("mine", 6, train=True, crop=(0.5, 1))(record)["sem_seg"].shape == (32, 32)


def test_bad_folders_teach(tmp_path: Path) -> None:
    images, masks = folders(tmp_path, [[0, 1]])
    with pytest.raises(Fgclip2Error, match="are the same"):
        register_folder("a", images, masks, ["dog", "Dog"])
    with pytest.raises(Fgclip2Error, match="novel classes that the data set does not have: cat"):
        register_folder("a", images, masks, ["dog", "bird"], novel=["cat"])
    with pytest.raises(Fgclip2Error, match="give one a class"):
        register_folder("a", images, masks, ["dog", "bird"], names_zh=["狗"])
    with pytest.raises(Fgclip2Error, match="does not exist"):
        register_folder("a", images, tmp_path / "nowhere", ["dog"])
    save(tmp_path / "images/b.png", np.zeros((1, 2, 3)))
    with pytest.raises(Fgclip2Error, match="1 of 2 pictures have no mask"):
        register_folder("a", images, masks, ["dog"])
    with pytest.raises(Fgclip2Error, match="no segmentation data set 'a'; registered are .*voc20_val"):
        segmentation_set("a")
    (tmp_path / "images/b.png").unlink()
    register_folder("one", images, masks, ["dog"])
    with pytest.raises(Fgclip2Error, match="values that no class has: 1"):
        segmentation_set("one").load(DatasetCatalog.get("one")[0])
    with pytest.raises(Fgclip2Error, match="registered already"):
        register_folder("one", images, masks, ["dog"])


def test_benchmarks_in_their_own_layouts(tmp_path: Path) -> None:
    """Miniatures laid out as the archives unpack: every label value arrives at its class."""
    layouts = {
        "coco_stuff_train": ("coco/train2017", "coco/stuffthingmaps/train2017", [[0, 181, 255, 91]]),
        "ade150_val": ("ADEChallengeData2016/images/validation", "ADEChallengeData2016/annotations/validation",
                       [[1, 150, 0, 3]]),
        "pc59_val": ("VOCdevkit/VOC2010/JPEGImages", "VOCdevkit/VOC2010/SegmentationClassContext", [[1, 59, 0, 2]]),
        "voc21_val": ("VOCdevkit/VOC2012/JPEGImages", "VOCdevkit/VOC2012/SegmentationClass", [[1, 20, 255, 0]]),
    }  # fmt: skip
    for images, masks, values in layouts.values():
        save(tmp_path / images / "x.jpg", np.zeros((1, 4, 3)))
        save(tmp_path / masks / "x.png", values)
    for lists in ("VOC2010/ImageSets/SegmentationContext", "VOC2012/ImageSets/Segmentation"):
        (tmp_path / "VOCdevkit" / lists).mkdir(parents=True)
        (tmp_path / "VOCdevkit" / lists / "val.txt").write_text("x\n")
    assert set(layouts) | {"voc20_val"} <= set(register_datasets(tmp_path))
    read = {name: segmentation_set(name).load(DatasetCatalog.get(name)[0])[1].tolist() for name in layouts}
    read["voc20_val"] = segmentation_set("voc20_val").load(DatasetCatalog.get("voc20_val")[0])[1].tolist()
    assert read == {
        "coco_stuff_train": [[0, 170, IGNORE, COCO_STUFF[0].index("banner")]],
        "ade150_val": [[0, 149, IGNORE, 2]],
        "pc59_val": [[0, 58, IGNORE, 1]],
        "voc21_val": [[0, 19, IGNORE, 20]],
        "voc20_val": [[0, 19, IGNORE, IGNORE]],
    }
    assert MetadataCatalog.get("voc21_val").stuff_classes[-1] == "background"
    with pytest.raises(Fgclip2Error, match="does not exist"):
        DatasetCatalog.get("coco_stuff_val")


def test_scenes_are_data(tmp_path: Path) -> None:
    train, val = register_scenes(ScenesConfig(train=3, val=2, base=30, novel=10, size=96))
    data = segmentation_set(val)
    assert (len(data.main), len(data.novel), len(data.base), data.background) == (40, 10, 30, True)
    assert data.names["zh"] != data.names["en"]
    records = DatasetCatalog.get(train)
    assert len(records) == 3
    base = set(data.base)
    for record in records:
        pixels, labels = segmentation_set(train).load(record)
        assert pixels.shape == (96, 96, 3)
        assert set(np.unique(labels)) <= base | {40}
        assert 0.3 < (labels == 40).mean() < 1
        assert (segmentation_set(train).load(record)[1] == labels).all()


def evaluated(tmp_path: Path, background: bool) -> tuple[np.ndarray, np.ndarray, dict[str, float], dict[str, float]]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (3, 16, 12))
    truth[truth == 2] = 1  # class 2 is nowhere
    truth[:, :2] = 255
    scores = rng.normal(size=(3, 4 + background, 16, 12))
    form = MaskFormat.of(4, background=4 if background else None)
    if background:
        truth[:, 9:] = 4
    for index, mask in enumerate(truth):
        save(tmp_path / f"images/{index}.png", np.zeros((16, 12, 3)))
        save(tmp_path / f"masks/{index}.png", mask)
    register_folder("rated", tmp_path / "images", tmp_path / "masks", list("abcd"), novel=["b"], form=form)
    ours, stock = OpenVocabSemSegEvaluator("rated"), SemSegEvaluator(
        "rated", distributed=False, sem_seg_loading_fn=lambda file, dtype: read_mask(file, form).astype(dtype)
    )  # fmt: skip
    stock._compute_boundary_iou = False
    stock.reset()
    mapper = SegmentationMapper("rated", 4)
    for record, maps in zip(DatasetCatalog.get("rated"), scores, strict=True):
        item = mapper(record)
        labels = torch.from_numpy(maps.argmax(0))
        labels[labels == 4] = -1
        ours.process([item], [{"labels": {"names": labels}}])
        stock.process([record], [{"sem_seg": torch.from_numpy(maps)}])
    result = ours.evaluate()
    assert result is not None
    return truth, scores.argmax(1), result["names"], stock.evaluate()["sem_seg"]


@pytest.mark.parametrize("background", [False, True])
def test_mean_iou_against_numpy_and_the_stock_evaluator(tmp_path: Path, background: bool) -> None:
    truth, predicted, ours, stock = evaluated(tmp_path, background)
    counted = truth != 255
    iou = {}
    for label in range(4 + background):
        hit = ((truth == label) & (predicted == label)).sum()
        union = (((truth == label) | (predicted == label)) & counted).sum()
        iou[label] = 100 * hit / union if (truth == label).any() else np.nan
    assert np.isnan(iou[2])
    assert ours["mIoU_base"] == pytest.approx(np.mean([iou[0], iou[3]]))
    assert ours["mIoU_novel"] == pytest.approx(iou[1])
    assert ours["mIoU_all"] == pytest.approx(np.mean([iou[0], iou[1], iou[3]]))
    assert ours["mIoU"] == pytest.approx(np.nanmean(list(iou.values())))
    for name in ("mIoU", "fwIoU", "pACC", "IoU-a", "IoU-d"):
        assert ours[name] == pytest.approx(stock[name]), name


def test_background_without_a_class_is_a_miss(tmp_path: Path) -> None:
    folders(tmp_path, [[0, 0], [1, 1]])
    register_folder("few", tmp_path / "images", tmp_path / "masks", ["a", "b"])
    evaluator = OpenVocabSemSegEvaluator("few")
    evaluator.add(np.array([[0, -1], [1, 0]]), np.array([[0, 0], [1, 1]]))
    figures = evaluator.evaluate()
    assert figures is not None
    assert figures["names"]["IoU-a"] == pytest.approx(100 / 3)
    assert figures["names"]["IoU-b"] == pytest.approx(50)
    assert np.isnan(figures["names"]["mIoU_novel"])
    with pytest.raises(Fgclip2Error, match="sizes must be equal"):
        evaluator.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(Fgclip2Error, match="no predictions for the vocabulary 'names'; this model has zh"):
        evaluator.process([{"sem_seg": torch.zeros(2, 2)}], [{"labels": {"zh": torch.zeros(2, 2)}}])
