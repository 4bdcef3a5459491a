"""Loading of COCO instance annotations: what a training run would trip over after an hour is said before it starts.

The format is that of https://cocodataset.org/#format-data ("Object Detection"): ``images``, ``annotations`` and
``categories``; boxes are ``[x, y, width, height]`` in pixels of the upright picture, origin at its top left corner.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from fgclip2.data.coco.boxes import Boxes
from fgclip2.data.coco.images import is_image_file, with_file_name
from fgclip2.data.coco.problems import Problems, Repairs
from fgclip2.data.coco.reading import parse_annotation_file
from fgclip2.data.coco.values import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from fgclip2.errors import Fgclip2Error

_LVIS_IDS: Final = ("neg_category_ids", "not_exhaustive_category_ids")
_WIDEST: Final = 1_000_000  # pixels; no image format that is read here goes beyond
_ORIENTATION_TAG: Final = 0x0112  # EXIF; 5 to 8 lie on their side


def load_coco(
    annotation_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    check_sizes: bool = False,
    need_objects: bool = True,
    image_ids: Collection[int] | None = None,
) -> CocoDataset:
    """Read and check a COCO instance file.

    All problems are gathered before anything is raised, so that a file can be repaired in one go. What exporters write
    differently is put right, see `read_annotation_file`. Boxes that stick out are clipped, see `Boxes`. Boxes without
    area are left out (the official COCO files have a few); boxes of negative size are errors. Each kind is counted in a
    warning.

    Args:
        annotation_file: JSON with ``images``, ``annotations`` and ``categories``.
        image_root: folder that ``file_name`` is relative to.
        check_sizes: also read every picture's header and compare its upright size with the file's.
        need_objects: refuse a file without the list ``annotations``, as of a test split; otherwise it has no objects.
        image_ids: read only these pictures and their objects; the others need not exist. ``None`` reads all.

    Raises:
        Fgclip2Error: no such file or folder, invalid JSON (with its line), or the problems found, in one line: the
            count of each kind, the first few by id, and what is allowed.
    """
    file, root = Path(annotation_file), Path(image_root)
    content, problems, repairs = parse_annotation_file(file, need_objects)
    if not root.is_dir():
        raise Fgclip2Error(
            f"the folder of pictures {str(root)!r} does not exist; give the one that holds {file}'s files"
        )
    if image_ids is not None:
        content["images"] = [item for item in content["images"] if item.get("id") in image_ids]
        content["annotations"] = [item for item in content["annotations"] if item["image_id"] in image_ids]
    categories = _categories(content["categories"], problems)
    images = _images(content["images"], root, problems, check_sizes)
    annotations, empty = _annotations(content["annotations"], images, problems, repairs)
    problems.raise_any()
    repairs.log()
    return CocoDataset(file, root, tuple(images.values()), annotations, tuple(categories.values()), empty)


def _entry(entry: Any, index: int, what: str, keys: Mapping[str, type], problems: Problems) -> dict[str, Any] | None:
    """``entry`` when it is an object with ``keys`` of these types, else None and a problem is noted."""
    if not isinstance(entry, dict):
        problems.add(f"entry of {what} that is no JSON object", f"number {index}")
        return None
    label = f"id {entry['id']!r}" if "id" in entry else f"number {index}"
    for key, kind in keys.items():
        if key not in entry:
            problems.add(f"entry of {what} without {key!r}", label)
            return None
        if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
            problems.add(f"entry of {what} whose {key!r} is not {kind.__name__}", f"{label} has {entry[key]!r:.40}")
            return None
    return entry


def _categories(entries: Sequence[Any], problems: Problems) -> dict[int, CocoCategory]:
    categories: dict[int, CocoCategory] = {}
    names: dict[str, int] = {}
    for index, raw in enumerate(entries):
        if not isinstance(raw.get("id"), int):  # told when ids were read
            continue
        entry = _entry(raw, index, "categories", {"id": int, "name": str}, problems)
        if entry is None:
            continue
        more = (entry.get("frequency"), entry.get("name_zh"), entry.get("synonyms", ()))
        category = CocoCategory(entry["id"], entry["name"].strip(), *more)
        if not category.name:
            problems.add("category with an empty name", f"id {category.id}")
        elif category.name in names:
            problems.add(
                "category name given twice", f"{category.name!r} (ids {names[category.name]} and {category.id})"
            )
        if category.id in categories:
            problems.add("category id given twice", str(category.id))
        names.setdefault(category.name, category.id)
        categories.setdefault(category.id, category)
    return categories


def _images(entries: Sequence[Any], root: Path, problems: Problems, check_sizes: bool) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    named: dict[str, str] = {}
    for index, raw in enumerate(entries):
        if not isinstance(raw.get("id"), int):  # told when ids were read
            continue
        keys = {"id": int, "file_name": str, "width": int, "height": int}
        entry = _entry(with_file_name(raw, root), index, "images", keys, problems)
        if entry is None:
            continue
        neg, not_exhaustive = (_ids(entry, key, problems) for key in _LVIS_IDS)
        image = CocoImage(
            entry["id"],
            entry["file_name"],
            entry["width"],
            entry["height"],
            neg_category_ids=neg,
            not_exhaustive_category_ids=not_exhaustive,
            given_id=raw.get("given_id"),
        )
        own = str(raw.get("file_name", image.file_name))
        if own != named.setdefault(image.file_name, own):
            problems.add("image file that two names mean", f"{named[image.file_name]!r} and {own!r}")
        if image.id in images:
            problems.add("image id given twice", str(image.id))
        if image.width < 1 or image.height < 1:
            problems.add("image without pixels", f"id {image.id} is {image.width} x {image.height}")
            continue  # its boxes and file would only tell the same again
        if max(image.width, image.height) > _WIDEST:
            problems.add(f"image of more than {_WIDEST:,} pixels a side", f"id {image.id}")
            continue
        if not is_image_file(root, image.file_name):
            problems.add(f"missing image in {str(root)!r}", f"{image.file_name!r:.200} (id {image.id})")
        elif check_sizes:
            _check_size(root, image, problems)
        images.setdefault(image.id, image)
    return images


def _ids(entry: Mapping[str, Any], key: str, problems: Problems) -> tuple[int, ...] | None:
    """A picture's list of category ids, which only LVIS's files have."""
    given = entry.get(key)
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(item, int) and not isinstance(item, bool) for item in given):
        problems.add(f"image whose {key!r} is no list of category ids", f"id {entry['id']} has {given!r:.40}")
        return None
    return tuple(given)


def _check_size(root: Path, image: CocoImage, problems: Problems) -> None:
    try:
        with Image.open(root / image.file_name) as opened:
            size = opened.size
            if opened.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8):
                size = size[::-1]
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        problems.add("picture that cannot be read", f"{image.file_name!r} ({type(error).__name__})")
        return
    if size != (image.width, image.height):
        problems.add(
            "picture whose upright size is not the file's",
            f"{image.file_name!r} is {size[0]} x {size[1]}, not {image.width} x {image.height}",
        )


def _annotations(
    entries: Sequence[Mapping[str, Any]], images: Mapping[int, CocoImage], problems: Problems, repairs: Repairs
) -> tuple[tuple[CocoAnnotation, ...], int]:
    """Checked annotations, and how many without area were left out."""
    annotations: list[CocoAnnotation] = []
    seen: set[int] = set()
    boxes = Boxes(problems, repairs)
    for entry in entries:
        number = entry["id"]
        if number in seen:
            problems.add("annotation id given twice", str(number))
        seen.add(number)
        image = images.get(entry["image_id"])
        if image is None:  # its entry has a problem of its own
            continue
        if "bbox" not in entry:
            problems.add("entry of annotations without 'bbox'", f"id {number}")
            continue
        box = boxes.pixels(number, entry["bbox"], image)
        if box is None:
            continue
        ignored, crowd = bool(entry.get("ignore")), bool(entry["iscrowd"])
        if ignored and not crowd:
            repairs.add("objects are marked 'ignore': they are evaluated and not trained", number)
        annotations.append(
            CocoAnnotation(number, image.id, entry["category_id"], box, crowd, entry.get("segmentation"), ignored)
        )
    boxes.judge()
    _tell_crowds(annotations, repairs)
    return tuple(annotations), boxes.empty


def _tell_crowds(annotations: Sequence[CocoAnnotation], repairs: Repairs) -> None:
    crowds = [item.id for item in annotations if item.is_crowd]
    many = 10 * len(crowds) > len(annotations)  # CVAT marks what was painted with a brush so, single objects too
    hint = "; tools that mark every brush mask so need iscrowd 0" if many else ""
    for number in crowds:
        repairs.add(f"objects are crowds (iscrowd 1), neither trained nor counted in AP{hint}", number)
