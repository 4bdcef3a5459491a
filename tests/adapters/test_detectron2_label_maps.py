"""Masks as people bring them: which image they belong to, what their values mean, and what is said before training."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig
from PIL import Image

from apps import seg_train
from fgclip2.errors import Fgclip2Error
from fgclip2.names import load_names
from fgclip2_detectron2.config_data import register_data
from fgclip2_detectron2.datasets import class_set, segmentation_set
from fgclip2_detectron2.engine import load_config
from fgclip2_detectron2.fingerprint import data_fingerprint
from fgclip2_detectron2.masks import IGNORE, MaskFormat, read_mask
from fgclip2_detectron2.pairing import pair_masks


@pytest.fixture(autouse=True)
def _catalogs() -> Any:
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before


def save(path: Path, values: Any, dtype: Any = np.uint8, mode: str | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values, dtype))
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def folders(root: Path, train: Any, val: Any = None, names: str = "background\ncrack\n") -> list[str]:
    """One image and mask a part; the overrides that name them."""
    for part, mask in (("train", train), ("val", train if val is None else val)):
        shape = np.shape(mask)[:2]
        save(root / part / "images" / f"{part}.jpg", np.zeros((*shape, 3)))
        save(root / part / "masks" / f"{part}.png", mask)
    (root / "names.txt").write_text(names, encoding="utf-8")
    places = [
        f"folders.{part}.{kind}={root / part / kind}" for part in ("train", "val") for kind in ("images", "masks")
    ]
    return [f"folders.names={root / 'names.txt'}", *places]


def entered(overrides: list[str], *more: str) -> tuple[DictConfig, list[str]]:
    cfg = load_config(seg_train.CONFIGS / "folder.py", [*overrides, *more])
    return cfg, register_data(cfg)


def labels(dataset: str) -> Any:
    return segmentation_set(dataset).load(DatasetCatalog.get(dataset)[0])[1].tolist()


def test_a_class_without_pixels_is_named_with_what_was_read_as_ignore(tmp_path: Path) -> None:
    """Masks of 0 and 255: the second class is never seen, and the user learns which setting changes that."""
    overrides = folders(tmp_path, [[0, 255, 255, 0]])
    _, notes = entered(overrides)
    assert notes == [
        "folders.train: 1 of 2 classes have no pixel and so are novel: crack (value 1)",
        'folders.train: value 255 is read as "ignore" (1 of 1 masks, 50.0% of the pixels). If it is a class, give the '
        "classes' values: folders.values=[0, 255]",
        "folders.val: 1 of 2 classes have no pixel and are not judged: crack (value 1)",
        'folders.val: value 255 is read as "ignore" (1 of 1 masks, 50.0% of the pixels). If it is a class, give the '
        "classes' values: folders.values=[0, 255]",
    ]
    assert class_set("folder_train").novel == class_set("folder_val").novel == {"crack"}
    assert labels("folder_train") == [[0, IGNORE, IGNORE, 0]]
    _, notes = entered(overrides, "folders.values=[0, 255]")
    assert notes == []
    assert class_set("folder_val").novel == set()
    assert labels("folder_val") == [[0, 1, 1, 0]]


def test_a_class_that_only_training_lacks_is_novel(tmp_path: Path) -> None:
    overrides = folders(tmp_path, [[0, 1, 1, 0]], [[0, 1, 2, 0]], "地面\n裂缝\n坑\n")
    _, notes = entered(overrides)
    assert notes == ["folders.train: 1 of 3 classes have no pixel and so are novel: 坑 (value 2)"]
    assert class_set("folder_train").base == [0, 1]
    assert class_set("folder_val").novel == {"坑"}
    _, notes = entered(overrides, "folders.novel=裂缝")
    assert class_set("folder_val").novel == {"裂缝", "坑"}


def test_masks_that_show_no_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match=r'no mask of folders.train shows a class: value 255 is read as "ignore"'):
        entered(folders(tmp_path, [[255, 255]]))


@pytest.mark.parametrize(
    ("settings", "values", "expected"),
    [
        (["folders.ignored=[0, 4]", "folders.first=1"], [0, 4, 1, 2], [IGNORE, IGNORE, 0, 1]),
        (["folders.ignored=0, 4", "folders.values=7, 9"], [0, 4, 9, 7], [IGNORE, IGNORE, 1, 0]),
        (["folders.ignored=3", "folders.values=[26, 24]"], [3, 26, 24, 24], [IGNORE, 0, 1, 1]),
        (["folders.values=[5, 255]", "folders.background=0"], [0, 5, 255, 0], [2, 0, 1, 2]),
        (["folders.values=[1, 2]", "folders.background=0"], [0, 1, 2, 255], [2, 0, 1, IGNORE]),
    ],
)
def test_values_and_ignored_are_settings(
    tmp_path: Path, settings: list[str], values: list[int], expected: list[int]
) -> None:
    overrides = folders(tmp_path, [values])
    cfg, _ = entered(overrides, *settings)
    assert labels("folder_train") == labels("folder_val") == [expected]
    DatasetCatalog.clear()
    register_data(cfg, train=False, trained=["background", "crack"])  # --eval-only
    assert labels("folder_val") == [expected]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            [],
            r"has values that no class has: 4, 9; there are 2 classes \(0 to 1\).*folders.ignored=\[255, 65535, 4, 9\]",
        ),
        (
            ["folders.ignored=[0, 4]", "folders.values=[1, 2]"],
            r"no class has: 9, 255; .*folders.ignored=\[0, 4, 9, 255\]",
        ),
        (["folders.values=[1]"], r"folders.values has 1 values, .*names.txt has 2 names"),
        (["folders.values=[1, 2, 3]"], r"folders.values has 3 values"),
        (["folders.values=[1, 1]"], r"a value of its own"),
        (["folders.values=[1, x]"], r"folders.values is .*give mask values, such as folders.values=\[0, 4\]"),
        (["folders.values=[1, 2.5]"], r"folders.values is .*give mask values"),
        (["folders.values=[1, 2]", "folders.first=1"], r"folders.first and folders.values were both given"),
        (["folders.values=[1, 2]", "folders.ignored=[2]"], r"a value of its own"),
    ],
)
def test_values_without_a_meaning_name_the_setting(tmp_path: Path, settings: list[str], said: str) -> None:
    overrides = folders(tmp_path, [[0, 4, 9, 1, 255]])
    with pytest.raises(Fgclip2Error, match=said):
        entered(overrides, *settings)


@pytest.mark.parametrize(
    ("settings", "names", "said"),
    [
        (["folders.first=x"], "a\nb\n", "folders.first is .*give a mask value, such as folders.first=0"),
        (["folders.background=sky"], "a\nb\n", "folders.background is .*give a mask value"),
        (["folders.background=[0, 1]"], "a\nb\n", "give one mask value, such as folders.background=0"),
        (["folders.background=0"], "a\nb\n", "a value of its own"),
        (["folders.names_zh=[a, b]"], "a\nb\n", "folders.names_zh is .*give a .txt file"),
        ([], "#classes\na\nb\n", "begins with '#classes', which would be the first class"),
        ([], "0: sky\n1: 猫\n", r"begins with a number, such as '0: sky'; .*folders.values=\[0, 1\]"),
    ],
)
def test_settings_and_names_of_another_form_teach(tmp_path: Path, settings: list[str], names: str, said: str) -> None:
    with pytest.raises(Fgclip2Error, match=said):
        entered(folders(tmp_path, [[0, 1]], names=names), *settings)


def test_every_wrong_mask_is_counted_before_training(tmp_path: Path) -> None:
    overrides = folders(tmp_path, [[0, 1]])
    for number, mask in enumerate(([[0, 7]], [[0, 8]], [[0, 1, 1]])):
        save(tmp_path / f"train/images/x{number}.jpg", np.zeros((1, 2, 3)))
        save(tmp_path / f"train/masks/x{number}.png", mask)
    with pytest.raises(Fgclip2Error, match=r"x0.png.*no class has: 7;.*\(3 of the 4 masks of folders.train cannot"):
        entered(overrides)


@pytest.mark.parametrize("name", ["a.PNG", "a.tif", "a.bmp", "a.jpg.png"])
def test_masks_are_found_under_each_spelling(tmp_path: Path, name: str) -> None:
    save(tmp_path / "images/a.jpg", np.zeros((1, 2, 3)))
    mask = save(tmp_path / "masks" / name, [[1, 0]])
    save(tmp_path / "masks" / "._a.png", [[9, 9]])  # what macOS leaves beside a copied file
    (tmp_path / "images" / "._a.jpg").write_bytes(b"\x00\x05\x16\x07")
    found = pair_masks(tmp_path / "images", tmp_path / "masks")
    assert [record["sem_seg_file_name"] for record in found.records] == [str(mask)]
    assert found.unused == ()


def test_the_unicode_form_of_a_name_does_not_matter(tmp_path: Path) -> None:
    name = "café 图"
    save(tmp_path / "images" / f"{unicodedata.normalize('NFC', name)}.jpg", np.zeros((1, 2, 3)))
    mask = save(tmp_path / "masks" / f"{unicodedata.normalize('NFD', name)}.png", [[1, 0]])
    found = pair_masks(tmp_path / "images", tmp_path / "masks")
    assert [record["sem_seg_file_name"] for record in found.records] == [str(mask)]


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        (["a.jpg"], ["a.png", "a.PNG"], r"the picture '.*a.jpg' has 2 masks: .*a.PNG, .*a.png"),
        (["a.jpg"], ["a.png", "a.tif"], r"the picture '.*a.jpg' has 2 masks"),
        (["a.jpg", "a.png"], ["a.png"], r"the mask '.*a.png' has 2 pictures: .*a.jpg, .*a.png"),
        (["a.jpg"], ["a_mask.png"], r"1 of 1 pictures have no mask in .*with a like name there is .*a_mask.png"),
        (["a.jpg"], ["a.jpg"], r"have no mask in .*a.jpg. .jpg may change values"),
        (["x/a.jpg", "y/a.jpg"], ["a.png"], r"2 of 2 pictures have no mask .*subfolder.*a.png"),
        (["a.jpg"], ["x/a.png", "y/a.png"], r"with a like name there is .*x/a.png, .*y/a.png"),
    ],
)
def test_masks_of_other_images_are_never_taken(tmp_path: Path, images: list[str], masks: list[str], said: str) -> None:
    for name in images:
        save(tmp_path / "images" / name, np.zeros((1, 2, 3)))
    for name in masks:
        save(tmp_path / "masks" / name, [[1, 0]])
    with pytest.raises(Fgclip2Error, match=said):
        pair_masks(tmp_path / "images", tmp_path / "masks")


def test_masks_without_an_image_are_counted_and_named(tmp_path: Path) -> None:
    overrides = folders(tmp_path, [[0, 1]])
    save(tmp_path / "train/masks/b.png", [[0, 1]])
    _, notes = entered(overrides)
    assert notes == [f"folders.train: 1 masks belong to no picture and are not used: {tmp_path / 'train/masks/b.png'}"]


def test_a_folder_inside_the_other_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", np.zeros((1, 2, 3)))
    mask = save(tmp_path / "masks/a.png", [[1, 0]])
    found = pair_masks(tmp_path, tmp_path / "masks")
    assert [record["sem_seg_file_name"] for record in found.records] == [str(mask)]
    with pytest.raises(Fgclip2Error, match="is the folder of both images and masks"):
        pair_masks(tmp_path, tmp_path)


def test_masks_of_one_part_on_the_images_of_another_are_refused(tmp_path: Path) -> None:
    """Both parts number their images alike."""
    overrides = folders(tmp_path, [[0, 1]], [[1, 0]])
    for part in ("train", "val"):
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            (tmp_path / part / kind / f"{part}.{ending}").rename(tmp_path / part / kind / f"0.{ending}")
    assert entered(overrides)[1] == []
    with pytest.raises(Fgclip2Error, match=r"the mask '.*train/masks/0.png' goes with .*train.* and with .*val/images"):
        entered(overrides, f"folders.val.masks={tmp_path / 'train/masks'}")
    with pytest.raises(Fgclip2Error, match=r"the picture '.*train/images/0.jpg' goes with .* and with .*val/masks"):
        entered(overrides, f"folders.val.images={tmp_path / 'train/images'}")
    _, notes = entered(
        overrides, f"folders.val.images={tmp_path / 'train/images'}", f"folders.val.masks={tmp_path / 'train/masks'}"
    )
    assert notes[0].startswith("1 of 1 pictures of folders.val are in training too")


def test_images_of_both_parts_may_share_a_folder_of_masks(tmp_path: Path) -> None:
    overrides = folders(tmp_path, [[0, 1]], [[1, 0]])
    save(tmp_path / "all/train.png", [[0, 1]])
    save(tmp_path / "all/val.png", [[1, 0]])
    shared = [f"folders.{part}.masks={tmp_path / 'all'}" for part in ("train", "val")]
    assert entered(overrides, *shared)[1] == []
    assert (labels("folder_train"), labels("folder_val")) == ([[0, 1]], [[1, 0]])


@pytest.mark.parametrize(
    ("dtype", "mode", "name"),
    [
        (np.uint8, "RGB", "a.png"),
        (np.uint8, "RGBA", "a.png"),
        (np.uint8, "LA", "a.png"),
        (np.uint8, "P", "a.bmp"),
        (np.uint16, None, "a.png"),
        (np.int32, None, "a.tif"),
        (np.float32, None, "a.tif"),
    ],
)
def test_grey_is_grey_however_it_is_stored(tmp_path: Path, dtype: Any, mode: str | None, name: str) -> None:
    file = save(tmp_path / name, [[0, 1, 2, 255]], dtype, mode)
    assert read_mask(file, MaskFormat.of(3)).tolist() == [[0, 1, 2, IGNORE]]


def test_one_bit_masks_are_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", MaskFormat.of(2)).tolist() == [[0, 1]]


def test_palettes_with_transparency_are_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[2, 0]], np.uint8)).convert("P")
    picture.putdata([2, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_mask(tmp_path / "a.png", MaskFormat.of(3)).tolist() == [[2, 0]]


def test_what_is_no_mask_is_one_line(tmp_path: Path) -> None:
    form, grey = MaskFormat.of(3), np.array([[0, 1]], np.uint8)
    cases: dict[str, Any] = {
        "is JPEG, whose compression may change": save(tmp_path / "a.png", grey, format="JPEG"),
        "no whole numbers": save(tmp_path / "b.tif", [[0.5, 1]], np.float32),
        "no whole numbers; a": save(tmp_path / "c.tif", [[np.nan, 1]], np.float32),
        "outside 0..65535": save(tmp_path / "d.tif", [[-1, 1]], np.int32),
        "partly transparent": tmp_path / "e.png",
        "holds several images": tmp_path / "f.tif",
        "has colours": save(tmp_path / "g.png", [[[200, 0, 0], [0, 0, 200]]]),
        "cannot be read": save(tmp_path / "h.png", np.zeros((90, 90))),
    }
    alpha = Image.fromarray(grey).convert("LA")
    alpha.putpixel((0, 0), (0, 7))
    alpha.save(tmp_path / "e.png")
    pages = [Image.fromarray(grey), Image.fromarray(grey + 1)]
    pages[0].save(tmp_path / "f.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "h.png").write_bytes((tmp_path / "h.png").read_bytes()[:60])
    for said, file in cases.items():
        with pytest.raises(Fgclip2Error, match=said) as caught:
            read_mask(file, form)
        assert "\n" not in str(caught.value)


def test_colour_masks_take_their_classes_from_a_label_map(tmp_path: Path) -> None:
    """CVAT's "Segmentation mask" export: the order is the file's, whatever a mask shows first."""
    overrides = folders(tmp_path, [[[250, 50, 83], [0, 0, 0], [51, 221, 255]]])
    labelmap = "# label:color_rgb:parts:actions\nbackground:0,0,0::\n猫:51,221,255::\ndog:250,50,83:head,tail:\n"
    (tmp_path / "names.txt").write_text(labelmap, encoding="utf-8")
    entered(overrides)
    assert class_set("folder_train").main == ("background", "猫", "dog")
    assert labels("folder_train") == [[2, 0, 1]]
    assert load_names(tmp_path / "names.txt") == ["background", "猫", "dog"]  # for every other program
    entered(overrides, "folders.background=0")
    assert class_set("folder_train").main == ("猫", "dog")
    assert labels("folder_train") == [[1, 2, 0]]
    entered(overrides, "folders.ignored=[0]")
    assert labels("folder_train") == [[1, IGNORE, 0]]
    save(tmp_path / "val/masks/val.png", [[[250, 50, 83], [0, 0, 1], [51, 221, 255]]])
    with pytest.raises(Fgclip2Error, match="has the colour 0,0,1, which no class of the label map has"):
        entered(overrides)
    for line, said in (("cat:1,2,3::\nbird:1,2,3::", "'cat' and 'bird' have one colour"), ("cat:::", "no colour")):
        (tmp_path / "names.txt").write_text(line, encoding="utf-8")
        with pytest.raises(Fgclip2Error, match=said):
            entered(overrides)


def test_palettes_that_number_colours_by_appearance_are_told(tmp_path: Path) -> None:
    overrides = folders(tmp_path, [[0, 1]])
    for part, colors in (("train", [0, 0, 0, 255, 0, 0]), ("val", [0, 0, 0, 0, 0, 255])):
        for name in (part, f"{part}2"):
            picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
            picture.putdata([0, 1])
            picture.putpalette(colors if name == "val2" or part == "train" else [0, 0, 0, 255, 0, 0])
            picture.save(tmp_path / part / "masks" / f"{name}.png")
            save(tmp_path / part / "images" / f"{name}.jpg", np.zeros((1, 2, 3)))
    _, notes = entered(overrides)
    assert len(notes) == 1
    assert "folders.val: value 1 has the colour 255,0,0 in" in notes[0]
    assert "and 0,0,255 in" in notes[0]


def test_exif_rotation_and_masks(tmp_path: Path) -> None:
    """A mask of the unrotated size is refused; where sizes do not tell, the user is told how masks are taken."""
    overrides = folders(tmp_path, [[0, 1], [1, 1]])
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "train/images/train.jpg", np.zeros((2, 2, 3)), exif=exif)
    _, notes = entered(overrides)
    assert [note.partition(", such as")[0] for note in notes] == [
        "folders.train: 1 pictures are turned or mirrored by EXIF"
    ]
    save(tmp_path / "train/images/train.jpg", np.zeros((1, 3, 3)), exif=exif)
    save(tmp_path / "train/masks/train.png", [[0, 1, 1]])
    with pytest.raises(Fgclip2Error, match=r"is 3 x 1 pixels, its picture 1 x 3.*EXIF"):
        entered(overrides)
    save(tmp_path / "train/masks/train.png", [[0], [1], [1]])
    assert entered(overrides)[1] == []


def test_the_fingerprint_of_data_is_its_contents(tmp_path: Path) -> None:
    """Other masks under the same names, other values or classes give another one; another folder gives the same."""
    overrides = folders(tmp_path / "one", [[0, 1]])
    entered(overrides)
    first = data_fingerprint("folder_train")
    folders(tmp_path / "two", [[0, 1]])
    entered([text.replace("one/", "two/") for text in overrides])
    assert data_fingerprint("folder_train") == first
    folders(tmp_path / "two", [[1, 0]])
    entered([text.replace("one/", "two/") for text in overrides])
    assert data_fingerprint("folder_train") != first
    entered(overrides, "folders.values=[1, 0]")
    assert data_fingerprint("folder_train") != first
    (tmp_path / "one/names.txt").write_text("crack\nbackground\n", encoding="utf-8")
    entered(overrides)
    assert data_fingerprint("folder_train") != first


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.json", '{"11": "天空", "7": "road"}'),
        ("names.json", '{"id2label": {"7": "road", "11": "天空"}}'),
        ("names.yaml", "names:\n  7: road\n  11: 天空\n"),
    ],
)
def test_names_by_number_are_mask_values(tmp_path: Path, name: str, text: str) -> None:
    """Numbers of a names file are the values of its classes, in a row or not."""
    overrides = folders(tmp_path, [[7, 11, 255]])[1:]
    (tmp_path / name).write_text(text, encoding="utf-8")
    entered(overrides, f"folders.names={tmp_path / name}")
    assert class_set("folder_train").main == ("road", "天空")
    assert labels("folder_train") == [[0, 1, IGNORE]]


def test_ids_that_are_no_mask_values_are_told(tmp_path: Path) -> None:
    overrides = folders(tmp_path, [[0, 1]])[1:]
    file = tmp_path / "names.json"
    file.write_text('{"categories": [{"id": 1, "name": "road"}, {"id": 2, "name": "天空"}]}', encoding="utf-8")
    _, notes = entered(overrides, f"folders.names={file}")
    assert notes == [
        f"{file} has ids 1, 2; masks are read with the values 0, 1. If masks hold the ids, give folders.values=[1, 2]"
    ]
    assert entered([*overrides, f"folders.names={file}", "folders.first=0"], "folders.values=[0, 1]")[1] == []
