"""Box classification and detection: COCO, LVIS and BoxClass-CN annotations.

Every annotated box counts, crowds too, as in the released evaluation; unlike there, also one that cannot be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fgclip2.data.coco import with_file_name
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.files import entry, first_existing, integer, objects, read_object
from fgclip2.evaluation.records import Box, Boxed, Truth
from fgclip2.names import spoken

COCO: Final = "coco/annotations/instances_val2017.json"
LVIS: Final = "lvis/lvis_v1_val.json"
MINIVAL: Final = "lvis/lvis_v1_minival_inserted_image_name.json"
BOXCLASS_CN: Final = (
    "BoxClass-CN/valid_category_data_total_zh.json",  # as the released evaluation is called
    "BoxClass-CN/jsonfile/valid_category_data_total_zh.json",  # as its data card lays it out
)


def coco(root: Path) -> Iterator[Boxed]:
    """COCO val2017, 80 classes."""
    yield from instances(root / COCO, root / "coco/val2017")


def lvis(root: Path) -> Iterator[Boxed]:
    """LVIS v1 val, 1,203 classes; its pictures are of COCO's train2017 and val2017."""
    yield from instances(root / LVIS, root / "coco")


def boxclass_cn(root: Path) -> Iterator[Boxed]:
    """BoxClass-CN, 566 classes with Chinese names."""
    yield from instances(boxclass_cn_file(root), root / "BoxClass-CN/images")


def boxclass_cn_file(root: Path) -> Path:
    """BoxClass-CN's annotations, at either of their places."""
    return first_existing(*(root / name for name in BOXCLASS_CN))


def lvis_val(root: Path) -> Iterator[Truth]:
    """What detections in LVIS val are compared with."""
    yield _truth(root / LVIS, root / "coco")


def lvis_minival(root: Path) -> Iterator[Truth]:
    """What detections in LVIS minival are compared with."""
    yield _truth(root / MINIVAL, root / "coco")


def instances(file: Path, image_root: Path) -> Iterator[Boxed]:
    """Boxes and class numbers of a COCO or LVIS file, picture by picture in the file's order.

    Raises:
        Fgclip2Error: the file is missing, or an annotation names a picture or class that it does not have.
    """
    content = read_object(file, "images", "annotations", "categories")
    labels = {
        integer(category["id"], f"{file}, categories"): label
        for label, category in enumerate(_categories(content, file))
    }
    boxes: dict[int, list[tuple[Box, int]]] = {}
    for item in objects(content, "annotations", file):
        item = entry(item, f"{file}, annotations", "image_id", "category_id", "bbox")
        category = integer(item["category_id"], f"{file}, category_id")
        picture = integer(item["image_id"], f"{file}, image_id")
        if category not in labels:
            raise Fgclip2Error(f"{file}: an annotation of category {category}, which the file does not list")
        box = corners(item["bbox"], f"{file}, annotation of picture {picture}")
        boxes.setdefault(picture, []).append((box, labels[category]))
    for image in objects(content, "images", file):
        found = boxes.pop(integer(entry(image, f"{file}, images", "id")["id"], f"{file}, images"), [])
        if found:
            rows, classes = zip(*found, strict=True)
            yield Boxed(image_root / image_name(image, file, image_root), rows, classes)
    if boxes:
        raise Fgclip2Error(f"{file}: annotations of picture {next(iter(boxes))}, which the file does not list")


def class_names(file: Path) -> tuple[str, ...]:
    """Class names in the file's order; underscores, which LVIS writes for blanks, become blanks."""
    content = read_object(file, "categories")
    return tuple(spoken(str(category["name"])) for category in _categories(content, file))


def corners(box: Any, where: str) -> Box:
    """``[x, y, width, height]`` as x1, y1, x2, y2.

    Raises:
        Fgclip2Error: it is not four numbers. Sizes are not judged: what cannot be used is counted later.
    """
    numbers = [value for value in box if isinstance(value, (int, float))] if isinstance(box, list) else []
    if len(numbers) != 4 or len(box) != 4:
        raise Fgclip2Error(f"{where}: bbox {box!r:.60} is not [x, y, width, height]")
    x, y, width, height = map(float, numbers)
    return x, y, x + width, y + height


def image_name(image: Mapping[str, Any], file: Path, root: Path) -> str:
    """An image's path below ``root``, by the rule of `fgclip2.data.coco.with_file_name`, whatever ``file`` is called.

    Raises:
        Fgclip2Error: the entry has neither ``file_name`` nor ``coco_url``.
    """
    name = with_file_name(image, root).get("file_name")
    if isinstance(name, str):
        return name
    raise Fgclip2Error(f"{file}: picture {image.get('id')} has neither file_name nor coco_url")


def _truth(file: Path, image_root: Path) -> Truth:
    images = [entry(image, f"{file}, images", "id") for image in objects(read_object(file, "images"), "images", file)]
    return Truth(file, image_root, tuple(image_root / image_name(image, file, image_root) for image in images))


def _categories(content: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    return [entry(category, f"{file}, categories", "id", "name") for category in objects(content, "categories", file)]
