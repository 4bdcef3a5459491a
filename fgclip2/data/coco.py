"""COCO instance annotations, read strictly: what a training run would trip over after an hour is said before it starts.

The format is that of https://cocodataset.org/#format-data ("Object Detection"): ``images``, ``annotations`` and
``categories``; boxes are ``[x, y, width, height]`` in pixels of the upright picture, origin at its top left corner.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from fgclip2.errors import Fgclip2Error

_log = logging.getLogger(__name__)

ROUNDING: Final = 1.0
"""Pixels that a box may lie outside its picture; annotation tools round, so this much is clipped without a word."""

_NAMED: Final = 3  # how many of each kind of problem a message names
_LVIS_IDS: Final = ("neg_category_ids", "not_exhaustive_category_ids")
_ORIENTATION_TAG: Final = 0x0112  # EXIF; 5 to 8 lie on their side


@dataclass(frozen=True, slots=True)
class CocoCategory:
    """One class: ``id`` as in the file (any integers, gaps allowed) and its name in any language."""

    id: int
    name: str
    frequency: str | None = None  # LVIS's, as in the file, unchecked
    name_zh: Any = field(default=None, compare=False)  # its Chinese name, as in the file, unchecked
    synonyms: Any = field(default=(), compare=False)  # other words for it, as in the file, unchecked


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One picture: ``file_name`` relative to the image root, ``width`` and ``height`` in pixels as the file states."""

    id: int
    file_name: str
    width: int
    height: int
    neg_category_ids: tuple[int, ...] | None = None  # LVIS: classes that are certainly not there
    not_exhaustive_category_ids: tuple[int, ...] | None = None  # LVIS: classes of which some objects are not marked


@dataclass(frozen=True, slots=True)
class CocoAnnotation:
    """One object: ``box`` is (x1, y1, x2, y2) in pixels, inside its picture, with x1 < x2 and y1 < y2."""

    id: int
    image_id: int
    category_id: int
    box: tuple[float, float, float, float]
    is_crowd: bool = False
    segmentation: Any = field(default=None, repr=False, compare=False)  # polygons or RLE, as in the file, unchecked


@dataclass(frozen=True)
class CocoDataset:
    """A checked annotation file: every id resolves, every picture exists, every box lies in its picture."""

    annotation_file: Path
    image_root: Path
    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    categories: tuple[CocoCategory, ...]  # in the order of the file, which is the order of a detector's classes
    dropped: int = 0  # annotations without area that were left out

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names, in the order of the file."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def by_image(self) -> Mapping[int, tuple[CocoAnnotation, ...]]:
        """Image id -> its annotations; every picture has an entry, empty where nothing is annotated."""
        grouped: dict[int, list[CocoAnnotation]] = {image.id: [] for image in self.images}
        for annotation in self.annotations:
            grouped[annotation.image_id].append(annotation)
        return {image: tuple(annotations) for image, annotations in grouped.items()}

    def path(self, image: CocoImage) -> Path:
        """Where a picture of this dataset lies."""
        return self.image_root / image.file_name

    def counts(self) -> dict[str, int]:
        """Class name -> number of annotated objects, crowds left out; classes without any have 0."""
        found = Counter(annotation.category_id for annotation in self.annotations if not annotation.is_crowd)
        return {category.name: found[category.id] for category in self.categories}

    def subset(self, names: Iterable[str], *, keep_empty: bool = True) -> CocoDataset:
        """The same pictures with only the objects of some classes.

        Args:
            names: class names as in the file; their order does not matter, the file's is kept.
            keep_empty: keep the pictures in which nothing of these classes is annotated.

        Raises:
            Fgclip2Error: a name that the file does not have; similar ones are named.
        """
        wanted = self.checked_names(names)
        categories = tuple(category for category in self.categories if category.name in wanted)
        kept = {category.id for category in categories}
        annotations = tuple(annotation for annotation in self.annotations if annotation.category_id in kept)
        shown = {annotation.image_id for annotation in annotations}
        images = tuple(image for image in self.images if keep_empty or image.id in shown)
        return replace(self, images=images, annotations=annotations, categories=categories)

    def checked_names(self, names: Iterable[str]) -> tuple[str, ...]:
        """``names`` without surrounding blanks and repetitions, each of them a class of this file.

        Raises:
            Fgclip2Error: no name at all, or a name that the file does not have; similar ones are named.
        """
        wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
        if not wanted:
            raise Fgclip2Error(f"no class was named; {self.annotation_file} has {_listed(self.names, 10)}")
        unknown = [name for name in wanted if name not in self.names]
        if unknown:
            similar = sorted({match for name in unknown for match in difflib.get_close_matches(name, self.names)})
            hint = f"did you mean {_listed(similar, 5)}?" if similar else f"it has {_listed(self.names, 10)}"
            raise Fgclip2Error(f"{self.annotation_file} has no class {_listed(unknown, 5)}; {hint}")
        return wanted


def load_coco(
    annotation_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    check_sizes: bool = False,
    need_objects: bool = True,
    image_ids: Collection[int] | None = None,
) -> CocoDataset:
    """Read and check a COCO instance file.

    All problems are gathered before anything is raised, so that a file can be repaired in one go. Boxes that stick out
    by no more than ``ROUNDING`` are clipped. Boxes without area are left out with a warning that counts and names them
    (the official COCO files have a few); boxes of negative size are errors.

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
    content = read_annotation_file(file, need_objects)
    if not root.is_dir():
        raise Fgclip2Error(
            f"the folder of pictures {str(root)!r} does not exist; give the one that holds {file}'s files"
        )
    if image_ids is not None:
        content["images"] = [item for item in content["images"] if _value(item, "id") in image_ids]
        content["annotations"] = [item for item in content["annotations"] if _value(item, "image_id") in image_ids]
    problems = _Problems(file)
    categories = _categories(content["categories"], problems)
    images = _images(content["images"], root, problems, check_sizes)
    annotations, empty = _annotations(content["annotations"], images, categories, problems)
    problems.raise_any()
    if empty:
        _log.warning(
            "%s: %d annotations without area are left out: %s", file, len(empty), _listed([str(i) for i in empty], 5)
        )
    return CocoDataset(file, root, tuple(images.values()), annotations, tuple(categories.values()), len(empty))


class _Problems:
    """What is wrong with a file, by kind; each kind's text says what is allowed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: dict[str, list[str]] = {}

    def add(self, kind: str, which: str) -> None:
        self.found.setdefault(kind, []).append(which)

    def raise_any(self) -> None:
        if not self.found:
            return
        total = sum(map(len, self.found.values()))
        parts = [f"{len(which)} x {kind}: {_listed(which, _NAMED)}" for kind, which in self.found.items()]
        noun = "problem" if total == 1 else "problems"
        raise Fgclip2Error(f"{self.file}: {total} {noun}; correct the file, then try again. {'; '.join(parts)}")


def _value(entry: Any, key: str) -> Any:
    """Of an entry that may be anything; what is no number is no id."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, int) else None


def _listed(items: Sequence[str], most: int) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def read_annotation_file(file: Path, need_objects: bool = True) -> dict[str, list[Any]]:
    """The parsed JSON, not checked further than that its lists are there, and not empty where that would make no sense.

    Names of categories are given without blanks around them.

    Args:
        file: JSON.
        need_objects: the list of annotations must be there.

    Raises:
        Fgclip2Error: no such file, invalid JSON (with its line), or another format.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise Fgclip2Error(f"the annotation file {str(file)!r} does not exist; give a COCO instance JSON") from error
    except (IsADirectoryError, PermissionError) as error:
        raise Fgclip2Error(f"the annotation file {str(file)!r} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise Fgclip2Error(
            f"{file} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}; was it cut short?"
        ) from error
    except UnicodeDecodeError as error:
        raise Fgclip2Error(f"{file} is not UTF-8 text (byte {error.start}); give a COCO instance JSON") from error
    if not isinstance(content, dict):
        raise Fgclip2Error(f"{file} holds a JSON {type(content).__name__}, not an object; give a COCO instance JSON")
    keys = ("images", "annotations", "categories")
    if not need_objects:
        content.setdefault("annotations", [])
    lacking = [key for key in keys if not isinstance(content.get(key), list)]
    if lacking:
        raise Fgclip2Error(
            f"{file} is not a COCO instance file: it has no list {_listed(lacking, 3)}; it has "
            f"{_listed(list(content), 6)}"
        )
    for key in ("images", "categories"):
        if not content[key]:
            raise Fgclip2Error(f"{file} lists no {key}; there is nothing to work with")
    for entry in content["categories"]:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            entry["name"] = entry["name"].strip()
    return content


def _entry(entry: Any, index: int, what: str, keys: Mapping[str, type], problems: _Problems) -> dict[str, Any] | None:
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


def _categories(entries: Sequence[Any], problems: _Problems) -> dict[int, CocoCategory]:
    categories: dict[int, CocoCategory] = {}
    names: dict[str, int] = {}
    for index, raw in enumerate(entries):
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


def _images(entries: Sequence[Any], root: Path, problems: _Problems, check_sizes: bool) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    for index, raw in enumerate(entries):
        keys = {"id": int, "file_name": str, "width": int, "height": int}
        entry = _entry(with_file_name(raw, root), index, "images", keys, problems)
        if entry is None:
            continue
        image = CocoImage(*(entry[key] for key in keys), *(_ids(entry, key, problems) for key in _LVIS_IDS))
        if image.id in images:
            problems.add("image id given twice", str(image.id))
        if image.width < 1 or image.height < 1:
            problems.add("image without pixels", f"id {image.id} is {image.width} x {image.height}")
        if not (root / image.file_name).is_file():
            problems.add(f"missing image in {str(root)!r}", f"{image.file_name!r} (id {image.id})")
        elif check_sizes:
            _check_size(root, image, problems)
        images.setdefault(image.id, image)
    return images


def _ids(entry: Mapping[str, Any], key: str, problems: _Problems) -> tuple[int, ...] | None:
    """A picture's list of category ids, which only LVIS's files have."""
    given = entry.get(key)
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(item, int) and not isinstance(item, bool) for item in given):
        problems.add(f"image whose {key!r} is no list of category ids", f"id {entry['id']} has {given!r:.40}")
        return None
    return tuple(given)


def with_file_name(entry: Any, root: Path) -> Any:
    """An entry of ``images`` with a ``file_name`` relative to ``root``.

    LVIS names a picture by where it once was, ``coco_url``: ``.../val2017/1.jpg``; it lies there or in ``root`` itself.
    So does one whose ``file_name`` is not there: some copies of LVIS have names of another layout beside the address.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("coco_url"), str):
        return entry
    split, _, name = "/".join(entry["coco_url"].split("/")[-2:]).rpartition("/")
    if "file_name" not in entry:
        return {**entry, "file_name": name if not split or (root / name).is_file() else f"{split}/{name}"}
    own = entry["file_name"]
    if not isinstance(own, str) or (root / own).is_file():
        return entry
    places = (place for place in (name, f"{split}/{name}") if name and (root / place).is_file())
    return {**entry, "file_name": next(places, own)}


def _check_size(root: Path, image: CocoImage, problems: _Problems) -> None:
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
    entries: Sequence[Any],
    images: Mapping[int, CocoImage],
    categories: Mapping[int, CocoCategory],
    problems: _Problems,
) -> tuple[tuple[CocoAnnotation, ...], list[int]]:
    """Checked annotations, and the ids of those without area."""
    annotations: list[CocoAnnotation] = []
    empty: list[int] = []
    seen: set[int] = set()
    keys = {"id": int, "image_id": int, "category_id": int, "bbox": list}
    for index, raw in enumerate(entries):
        entry = _entry(raw, index, "annotations", keys, problems)
        if entry is None:
            continue
        number, image = entry["id"], images.get(entry["image_id"])
        if number in seen:
            problems.add("annotation id given twice", str(number))
        seen.add(number)
        if entry["category_id"] not in categories:
            problems.add("annotation with an unknown category_id", f"id {number} has {entry['category_id']}")
        if image is None:
            problems.add("annotation with an unknown image_id", f"id {number} has {entry['image_id']}")
            continue
        box = _box(number, entry["bbox"], image, problems)
        if box is None:
            continue
        if box[0] >= box[2] or box[1] >= box[3]:
            empty.append(number)
            continue
        annotations.append(
            CocoAnnotation(
                number, image.id, entry["category_id"], box, bool(entry.get("iscrowd")), entry.get("segmentation")
            )
        )
    return tuple(annotations), empty


def _box(
    number: int, bbox: Sequence[Any], image: CocoImage, problems: _Problems
) -> tuple[float, float, float, float] | None:
    """``[x, y, width, height]`` -> (x1, y1, x2, y2) clipped to the picture, or None and a problem is noted."""
    numbers = [value for value in bbox if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(bbox) != 4 or len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        problems.add(
            "box that is not four finite numbers [x, y, width, height]", f"annotation {number} has {bbox!r:.60}"
        )
        return None
    x, y, width, height = numbers
    if width < 0 or height < 0:
        problems.add("box of negative width or height", f"annotation {number} has {bbox}")
        return None
    if x < -ROUNDING or y < -ROUNDING or x + width > image.width + ROUNDING or y + height > image.height + ROUNDING:
        problems.add(
            "box outside its picture ([x, y, width, height] in pixels are wanted)",
            f"annotation {number} has {bbox} in the {image.width} x {image.height} picture {image.file_name!r}",
        )
        return None
    x2, y2 = min(x + width, image.width), min(y + height, image.height)
    return float(max(x, 0)), float(max(y, 0)), float(x2), float(y2)
