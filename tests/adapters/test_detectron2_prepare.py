"""ADE-847 and PC-459: names in two languages, and label maps from miniatures of the archives."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from scipy.io import savemat

from fgclip2.errors import Fgclip2Error
from fgclip2.glossary import read_table
from fgclip2.names import CJK, check_names
from fgclip2_detectron2 import prepare, register_datasets
from fgclip2_detectron2.class_names import ADE_150, PC_59
from fgclip2_detectron2.class_names_ade847 import ADE_847, ADE_847_IDS
from fgclip2_detectron2.class_names_pc459 import PC_459
from fgclip2_detectron2.datasets import segmentation_set
from fgclip2_detectron2.masks import IGNORE

VOC = "VOCdevkit/VOC2010"
ADE = "ADE20K_2021_17_01"


@pytest.fixture(autouse=True)
def _catalogs() -> Any:
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def save(path: Path, values: Any, dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype)).save(path)
    return path


def ade_colours(numbers: Any) -> np.ndarray:
    """ADE20K's label picture: the class in red and green, something else in blue."""
    numbers = np.asarray(numbers)
    return np.stack([numbers // 256 * 10 + 3, numbers % 256, np.full_like(numbers, 77)], axis=-1)


def ade_archive(root: Path, numbers: Any, name: str = "ADE_val_00000001", place: str = "validation/urban/街") -> Path:
    picture = root / ADE / "images/ADE" / place / f"{name}.jpg"
    save(picture, np.full((*np.shape(numbers), 3), 128))
    save(picture.with_name(f"{name}_seg.png"), ade_colours(numbers))
    save(picture.parent / name / f"instance_000_{name}.png", np.zeros((2, 2)))  # not a picture of its own
    return picture


def pc_archive(root: Path, values: Any, name: str = "2008_000002") -> Path:
    save(root / VOC / f"JPEGImages/{name}.jpg", np.zeros((*np.shape(values)[:2], 3)))
    (root / VOC / "trainval").mkdir(parents=True, exist_ok=True)
    savemat(root / VOC / f"trainval/{name}.mat", {"LabelMap": np.asarray(values)})
    (root / VOC / "pascalcontext_val.txt").write_text(f"{name}\n")
    return root / VOC / f"trainval/{name}.mat"


def labels_of(dataset: str) -> list[list[list[int]]]:
    return [segmentation_set(dataset).load(record)[1].tolist() for record in DatasetCatalog.get(dataset)]


@pytest.mark.parametrize(
    ("table", "count", "first", "last"),
    [
        (ADE_847, 847, ["wall", "building", "sky", "tree", "road"], ["gear shift", "towel rail", "adding machine"]),
        (PC_459, 459, ["accordion", "aeroplane", "airconditioner"], ["wire", "wood", "wool"]),
    ],
)
def test_names_are_official_and_bilingual(table: Any, count: int, first: list[str], last: list[str]) -> None:
    english, chinese = table
    assert len(check_names(english)) == len(check_names(chinese)) == count
    assert list(english[: len(first)]) == first
    assert list(english[-len(last) :]) == last
    assert all(name.isascii() for name in english)
    assert all(CJK.search(name) for name in chinese)
    assert not set("，、；;=() ") & set("".join(chinese))


def test_a_class_has_one_chinese_name_in_all_sets() -> None:
    assert set(zip(*PC_59, strict=True)) <= set(zip(*PC_459, strict=True))
    full = dict(zip(*ADE_847, strict=True))
    # where all of ADE20K has two classes of the name, the one that ADE-150 has is called by another synonym
    renamed = {"pot": "flowerpot", "pool": "swimming pool", "pier": "wharf"}
    assert {name: full[renamed.get(name, name)] for name in ADE_150[0]} == dict(zip(*ADE_150, strict=True))


def test_numbers_are_those_of_ade20k() -> None:
    """``name`` and ``name_ndx`` of ADE20K's published example, and the order of the numbers: that of the names."""
    numbers = dict(zip(ADE_847[0], ADE_847_IDS, strict=True))
    example = read_table(
        "traffic light=2836; car=401; signboard=2380; trash can=64; person=1831; building=312; sidewalk=2377; "
        "central reservation=461; tree=2855"
    )
    assert {name: str(numbers[name]) for name in example[0]} == dict(zip(*example, strict=True))
    assert len(set(ADE_847_IDS)) == 847
    singles = [name for _, name in sorted((number, name) for name, number in numbers.items() if number < 3100)]
    initials = [name[0] for name in singles]
    ordered = sum(a <= b for a, b in itertools.pairwise(initials))
    assert ordered > 0.95 * len(initials)  # but where a later synonym was taken


def test_ade20k_becomes_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ade_archive(tmp_path, [[2978, 312, 0, 3148], [1, 3688, 2420, 401]])  # 1 and 3688 are none of the 847
    wide = np.zeros((600, 900), int)
    wide[:, 450:] = 165
    ade_archive(tmp_path, wide, "ADE_train_00000001", "training/home")
    for _ in range(2):  # the second run finds all done
        assert prepare.main(["ade847", "--root", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "ade847: 1 label maps for training, 1 label maps for validation\n"
    register_datasets(tmp_path)
    assert labels_of("ade847_val") == [[[0, 1, IGNORE, 846], [IGNORE, IGNORE, 2, 14]]]
    (train,) = np.asarray(labels_of("ade847_train"))
    assert train.shape == (512, 768)
    assert np.unique(train[:, :383]).tolist() == [IGNORE]
    assert np.unique(train[:, 385:]).tolist() == [ADE_847[0].index("bed")]
    written = tmp_path / ADE / "annotations_detectron2/validation/ADE_val_00000001.tif"
    assert cv2.imread(str(written), cv2.IMREAD_UNCHANGED).tolist() == [[0, 1, IGNORE, 846], [IGNORE, IGNORE, 2, 14]]


def test_pascal_context_becomes_labels(tmp_path: Path) -> None:
    pc_archive(tmp_path, np.array([[1, 459, 0]], np.uint16))
    save(tmp_path / VOC / "JPEGImages/2007_000001.jpg", np.zeros((1, 1, 3)))  # of VOC, not of the split
    assert prepare.main(["pc459", "--root", str(tmp_path)]) == 0
    register_datasets(tmp_path)
    assert labels_of("pc459_val") == [[[0, 458, IGNORE]]]
    assert segmentation_set("pc459_val").names["zh"][0] == "手风琴"


def test_files_of_other_converters_are_read(tmp_path: Path) -> None:
    """16-bit TIFF without compression, as Pillow writes it by default."""
    layouts = {
        "ade847_val": (f"{ADE}/images_detectron2/validation", f"{ADE}/annotations_detectron2/validation", 846),
        "pc459_val": (f"{VOC}/JPEGImages", f"{VOC}/annotations_detectron2/pc459_val", 458),
    }
    register_datasets(tmp_path)
    for name, (images, masks, last) in layouts.items():
        with pytest.raises(Fgclip2Error, match=rf"fgclip2_detectron2.prepare {name[:-4]} --root"):
            DatasetCatalog.get(name)
        save(tmp_path / images / "x.jpg", np.zeros((1, 4, 3)))
        save(tmp_path / masks / "x.tif", [[0, 255, last, IGNORE]], np.uint16)
        assert labels_of(name) == [[[0, 255, last, IGNORE]]]
        save(tmp_path / masks / "x.tif", [[0, 1, last + 1, 0]], np.uint16)
        with pytest.raises(Fgclip2Error, match=rf"values that no class has: {last + 1}; .* \(0 to {last}\)"):
            labels_of(name)
    save(tmp_path / VOC / "annotations_detectron2/pc459_val/y.tif", [[0]], np.uint16)
    with pytest.raises(Fgclip2Error, match=r"1 pictures that .*pc459_val' names are not in .*JPEGImages'; .* 'y'"):
        DatasetCatalog.get("pc459_val")
    save(tmp_path / ADE / "images_detectron2/validation/y.jpg", np.zeros((1, 1, 3)))
    with pytest.raises(Fgclip2Error, match=r"1 of 2 pictures have no mask .* ends in \.tif; write it: python -m"):
        DatasetCatalog.get("ade847_val")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[1, 460]], np.uint16), r"uint16 \(1, 2\) up to 460; wanted are whole numbers .* 1 to 459"),
        (np.array([[0.5, 1]]), "float64"),
        (np.array([[[1, 2]]], np.uint8), r"\(1, 1, 2\)"),
    ],
)
def test_other_label_maps_teach(tmp_path: Path, values: np.ndarray, said: str) -> None:
    pc_archive(tmp_path, values)
    with pytest.raises(Fgclip2Error, match=said):
        prepare.prepare_pc459(tmp_path)
    assert not (tmp_path / VOC / "annotations_detectron2").exists()


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(["ade847", "--root", str(tmp_path)]) == 2
    assert "unpack ADE20K_2021_17_01" in capsys.readouterr().err
    assert prepare.main(["pc459", "--root", str(tmp_path)]) == 2
    assert "one must name the val pictures" in capsys.readouterr().err

    matlab = pc_archive(tmp_path, np.ones((1, 1), np.uint8))
    matlab.write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    with pytest.raises(Fgclip2Error, match=r"2008_000002\.mat' is no MATLAB file with a LabelMap"):
        prepare.prepare_pc459(tmp_path)
    savemat(matlab, {"other": np.ones((1, 1))})
    with pytest.raises(Fgclip2Error, match="is no MATLAB file with a LabelMap"):
        prepare.prepare_pc459(tmp_path)
    matlab.unlink()
    with pytest.raises(Fgclip2Error, match=r"1 of 1 pictures .* have no \.mat file"):
        prepare.prepare_pc459(tmp_path)

    picture = ade_archive(tmp_path, [[0, 0]])
    save(picture.with_name("ADE_val_00000001_seg.png"), ade_colours([[0]]))
    with pytest.raises(Fgclip2Error, match=r"is 2 x 1 pixels, its _seg\.png 1 x 1"):
        prepare.prepare_ade847(tmp_path)
    picture.with_name("ADE_val_00000001_seg.png").unlink()
    with pytest.raises(Fgclip2Error, match=r"_seg\.png' is missing"):
        prepare.prepare_ade847(tmp_path)
