"""What ``load_coco`` accepts, and that each fault of an annotation file is named with its id, number and remedy."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fgclip2.data.coco import load_coco
from fgclip2.errors import Fgclip2Error

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco-instances-open"

GOOD: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 9, "file_name": "sub/b.jpg", "width": 30, "height": 40},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 18,
            "bbox": [1, 2, 10.5, 20],
            "iscrowd": 0,
            "segmentation": [[1, 2, 9, 2, 9, 8]],
        },
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [-0.4, 0, 64.9, 48], "iscrowd": 1},
        {"id": 5, "image_id": 7, "category_id": 3, "bbox": [0, 0, 4, 4]},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "红色汽车"}, {"id": 4, "name": "cat"}],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    Image.new("RGB", (30, 40)).save(tmp_path / "sub" / "b.jpg")
    return tmp_path


def written(root: Path, content: Any) -> Path:
    file = root / "instances.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return file


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    change(content)
    return content


def test_a_good_file(root: Path) -> None:
    data = load_coco(written(root, GOOD), root, check_sizes=True)
    assert data.names == ("dog", "红色汽车", "cat")
    assert len(data) == 2
    assert [data.path(image).is_file() for image in data.images] == [True, True]
    assert data.annotations[0].box == (1.0, 2.0, 11.5, 22.0)
    assert data.annotations[0].segmentation == [[1, 2, 9, 2, 9, 8]]
    assert data.annotations[1].box == (0.0, 0.0, 64.0, 48.0)  # within the tolerance: clipped
    assert [a.is_crowd for a in data.annotations] == [False, True, False]
    assert data.counts() == {"dog": 1, "红色汽车": 1, "cat": 0}
    assert [a.id for a in data.by_image[7]] == [1, 2, 5]
    assert data.by_image[9] == ()


def test_lvis_names_its_pictures_by_address(root: Path) -> None:
    """They may lie below ``root`` as there, or in ``root`` itself."""
    content = copy.deepcopy(GOOD)
    for image, address in zip(content["images"], ("http://x.org/val2017/a.jpg", "http://x.org/sub/b.jpg"), strict=True):
        del image["file_name"]
        image["coco_url"] = address
    assert [image.file_name for image in load_coco(written(root, content), root).images] == ["a.jpg", "sub/b.jpg"]
    content["images"][0]["coco_url"] = "http://x.org/val2017/none.jpg"
    with pytest.raises(Fgclip2Error, match=r"missing image in .*'val2017/none.jpg'"):
        load_coco(written(root, content), root)


def test_a_byte_order_mark_is_accepted(root: Path) -> None:
    file = root / "bom.json"
    file.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert len(load_coco(file, root)) == 2


def test_subset_keeps_the_order_of_the_file(root: Path) -> None:
    data = load_coco(written(root, GOOD), root)
    assert data.subset([" cat", "dog"]).names == ("dog", "cat")
    only = data.subset(["红色汽车"], keep_empty=False)
    assert [image.id for image in only.images] == [7]
    assert [a.id for a in only.annotations] == [2, 5]
    assert len(data.subset(["cat"])) == 2
    assert data.subset(["cat"]).annotations == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dgo"], "no class dgo; did you mean dog?"),
        (["红色汽车", "长颈鹿"], "no class 长颈鹿; it has dog, 红色汽车, cat"),
        (["", " "], "no class was named"),
    ],
)
def test_subset_of_unknown_classes(root: Path, names: list[str], message: str) -> None:
    with pytest.raises(Fgclip2Error) as caught:
        load_coco(written(root, GOOD), root).subset(names)
    assert message in str(caught.value)


def test_boxes_without_area_are_left_out_and_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = changed(lambda c: c["annotations"][0].update(bbox=[3, 3, 0, 5]))
    with caplog.at_level(logging.WARNING):
        data = load_coco(written(root, content), root)
    assert (data.dropped, [a.id for a in data.annotations]) == (1, [2, 5])
    assert "1 annotations without area are left out: 1" in caplog.text


FAULTS: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    (
        "box far outside",
        lambda c: c["annotations"][0].update(bbox=[160, 2, 10, 20]),
        "1 x box wholly outside its picture ([x, y, width, height] in pixels are wanted): "
        "annotation 1 has [160, 2, 10, 20] in the 64 x 48 picture 'a.jpg'",
    ),
    ("box left of it", lambda c: c["annotations"][0].update(bbox=[-21, 2, 10, 20]), "annotation 1 has [-21, 2, 10"),
    (
        "negative box",
        lambda c: c["annotations"][2].update(bbox=[9, 9, -4, 4]),
        "width or height: annotation 5",
    ),
    ("three numbers", lambda c: c["annotations"][2].update(bbox=[9, 9, 4]), "four finite numbers"),
    ("not finite", lambda c: c["annotations"][2].update(bbox=[9, 9, float("nan"), 4]), "four finite numbers"),
    ("text in box", lambda c: c["annotations"][2].update(bbox=[9, 9, "4", 4]), "four finite numbers"),
    ("no box", lambda c: c["annotations"][2].pop("bbox"), "1 x entry of annotations without 'bbox': id 5"),
    ("missing image", lambda c: c["images"][1].update(file_name="没有.jpg"), "missing image in "),
    ("image ids", lambda c: [a.update(image_id=8) for a in c["annotations"][:2]], "unknown image_id: id 1 has 8"),
    (
        "category ids",
        lambda c: [a.update(category_id=99) for a in c["annotations"]],
        "unknown category_id: id 1 has 99",
    ),
    ("an image without id", lambda c: c["images"][1].pop("id"), "1 x entry of images without 'id': number 1"),
    ("a crowd of two", lambda c: c["annotations"][0].update(iscrowd=2), "'iscrowd' is neither 0 nor 1: id 1 has 2"),
    ("huge numbers", lambda c: c["annotations"][2].update(bbox=[9, 9, 10**400, 4]), "four finite numbers"),
    ("category twice", lambda c: c["categories"][2].update(name=" dog"), "name given twice: 'dog' (ids 18 and 4)"),
    ("category id twice", lambda c: c["categories"][2].update(id=18), "category id given twice: 18"),
    ("empty name", lambda c: c["categories"][2].update(name=" "), "category with an empty name: id 4"),
    ("annotation id twice", lambda c: c["annotations"][2].update(id=1), "annotation id given twice: 1"),
    ("image id twice", lambda c: c["images"][1].update(id=7), "image id given twice: 7"),
    ("width as text", lambda c: c["images"][0].update(width="64"), "whose 'width' is not int: id 7 has '64'"),
    ("no width", lambda c: c["images"][0].pop("width"), "1 x entry of images without 'width': id 7"),
    ("no pixels", lambda c: c["images"][1].update(width=0), "image without pixels: id 9 is 0 x 40"),
    ("no object", lambda c: c["categories"].append("cat"), "entry of categories that is no JSON object: number 3"),
    ("no images", lambda c: c.update(images=[]), "lists no images"),
    ("no categories", lambda c: c.pop("categories"), "no list categories; it has images, annotations"),
]


@pytest.mark.parametrize(("change", "message"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_faults_are_named(root: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    file = written(root, changed(change))
    with pytest.raises(Fgclip2Error) as caught:
        load_coco(file, root)
    text = str(caught.value)
    assert message in text
    assert str(file) in text
    assert "\n" not in text


def test_many_faults_are_counted_and_the_first_named(root: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [
            {"id": number, "image_id": 7, "category_id": 3, "bbox": [0, 0, 95.5, 1]} for number in range(10)
        ]
        content["images"][1]["file_name"] = "gone.jpg"

    with pytest.raises(Fgclip2Error) as caught:
        load_coco(written(root, changed(change)), root)
    text = str(caught.value)
    assert "11 problems" in text
    assert "10 x box outside its picture" in text
    assert "annotation 2 has" in text
    assert "annotation 3 has" not in text
    assert "and 7 more" in text
    assert "'gone.jpg' (id 9)" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [\n  {"id": 1,\n', "in line 3"),
        ("", "is not valid JSON"),
        ("[]", "holds a JSON list"),
    ],
)
def test_broken_json(root: Path, content: str, message: str) -> None:
    with pytest.raises(Fgclip2Error) as caught:
        load_coco(written(root, content), root)
    assert message in str(caught.value)


def test_what_is_no_text(root: Path) -> None:
    with pytest.raises(Fgclip2Error, match="not UTF-8 text"):
        load_coco(root / "a.jpg", root)
    with pytest.raises(Fgclip2Error, match="does not exist"):
        load_coco(root / "none.json", root)
    with pytest.raises(Fgclip2Error, match="cannot be read"):
        load_coco(root / "sub", root)
    with pytest.raises(Fgclip2Error, match="folder of pictures"):
        load_coco(written(root, GOOD), root / "none")


def test_sizes_are_compared_when_asked(root: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side: 48 x 64 stored, 64 x 48 upright
    Image.new("RGB", (48, 64)).save(root / "a.jpg", exif=turned)
    file = written(root, GOOD)
    load_coco(file, root, check_sizes=True)
    Image.new("RGB", (31, 40)).save(root / "sub" / "b.jpg")
    load_coco(file, root)
    with pytest.raises(Fgclip2Error, match="'sub/b.jpg' is 31 x 40, not 30 x 40"):
        load_coco(file, root, check_sizes=True)
    (root / "sub" / "b.jpg").write_text("no picture")
    with pytest.raises(Fgclip2Error, match="cannot be read: 'sub/b.jpg'"):
        load_coco(file, root, check_sizes=True)


@pytest.mark.skipif(not REAL.is_dir(), reason="the COCO photographs in ../shared/data are not here")
@pytest.mark.parametrize(("split", "images", "objects"), [("train", 55, 540), ("val", 49, 488)])
def test_real_photographs(split: str, images: int, objects: int) -> None:
    data = load_coco(REAL / f"instances_{split}2017.json", REAL / "images", check_sizes=True)
    assert (len(data), len(data.annotations), len(data.names)) == (images, objects, 80)
    assert data.names[:2] == ("person", "bicycle")
    assert data.dropped == 0
