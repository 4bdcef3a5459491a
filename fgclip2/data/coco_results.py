"""COCO results (https://cocodataset.org/#format-results): what a detector found, read strictly and written whole.

A results file is a list of ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``; what the ids mean
is in the annotation file that the detector was run for. Results of masks have a ``segmentation`` in place of the box.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fgclip2.data.coco import CocoDataset, whole
from fgclip2.data.outlines import outline_box
from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically

NO_CLASS: Final = 0
"""The category id of a box whose class is not said; COCO's and LVIS's ids are from 1."""

_LIMIT: Final = 1e9  # pixels; beyond, and not a number, is no place
_KEYS: Final = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True, eq=False)
class ImageResults:
    """What was found in one picture, in the file's order.

    Attributes:
        boxes: (M, 4) float32 x1, y1, x2, y2 in pixels.
        scores: (M,) float32, 0..1.
        category_ids: (M,) int64, as in the file.
    """

    boxes: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


def load_results(
    file: str | os.PathLike[str], dataset: CocoDataset, others: Collection[int] = ()
) -> dict[int, ImageResults]:
    """Read a results file.

    Args:
        file: JSON.
        dataset: the pictures that it speaks of.
        others: ids of pictures that it may speak of too, and whose results are not wanted.

    Returns:
        By image id, every picture of ``dataset`` in its order; those that the file does not mention have no boxes.

    Raises:
        Fgclip2Error: from `read_results`.
    """
    rows: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    ids: dict[int, list[int]] = defaultdict(list)
    for entry in read_results(file, dataset, others):
        x, y, width, height = entry["bbox"]
        rows[entry["image_id"]].append((x, y, x + width, y + height, entry["score"]))
        ids[entry["image_id"]].append(entry["category_id"])  # apart, since a float holds no 17 digits
    return {image.id: _results(rows[image.id], ids[image.id]) for image in dataset.images}


def read_results(
    file: str | os.PathLike[str], dataset: CocoDataset, others: Collection[int] = (), *, any_score: bool = False
) -> list[dict[str, Any]]:
    """The entries of a results file, checked, as they stand but for ids, which are whole numbers, and boxes of masks.

    Args:
        file: JSON.
        dataset: the pictures and categories that it speaks of.
        others: ids of pictures that it may speak of too.
        any_score: scores need only be finite, as AP asks for nothing but their order; else they must be 0..1.

    Raises:
        Fgclip2Error: no such file, no such list, or the first entry that cannot be used, by its number. An entry of an
            image or a category that ``dataset`` lacks is such a one, but for the category `NO_CLASS`; a ``dataset``
            without categories takes any.
    """
    path = Path(file)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise Fgclip2Error(f"the results file {str(path)!r} does not exist; give a COCO results JSON") from error
    except (OSError, ValueError, RecursionError) as error:
        raise Fgclip2Error(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, list):
        hint = "; this looks like an annotation file" if isinstance(content, dict) and "annotations" in content else ""
        raise Fgclip2Error(f"{path} is no list of results with {', '.join(_KEYS)}{hint}")
    images: dict[Any, int] = {number: number for number in others} | {image.id: image.id for image in dataset.images}
    images |= {image.given_id: image.id for image in dataset.images if image.given_id is not None}
    categories = {category.id for category in dataset.categories}
    if categories:
        categories.add(NO_CLASS)
    sizes = {image.id: (image.width, image.height) for image in dataset.images}
    entries = []
    for number, given in enumerate(content):
        entry = _with_box(given, images, sizes)
        problem = _problem(entry, images, categories, any_score)
        if problem:
            raise Fgclip2Error(f"{path}: result {number} {problem}")
        entries.append(
            {**entry, "image_id": _known(entry["image_id"], images), "category_id": whole(entry["category_id"])}
        )
    return entries


def save_results(file: str | os.PathLike[str], found: Mapping[int, ImageResults]) -> int:
    """Write a results file, whole or not at all.

    Args:
        file: where to.
        found: by image id.

    Returns:
        How many boxes were written.
    """
    entries = [entry for image, results in found.items() for entry in result_entries(image, results)]
    write_atomically(file, json.dumps(entries).encode())
    return len(entries)


def result_entries(image: int, results: ImageResults) -> list[dict[str, Any]]:
    """What a results file says of one picture, by its id."""
    rows = zip(
        results.boxes.astype(float).round(3).tolist(),
        results.scores.astype(float).round(6).tolist(),
        results.category_ids.tolist(),
        strict=True,
    )
    return [
        {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for (x1, y1, x2, y2), score, category in rows
    ]


def _known(value: Any, ids: Mapping[Any, int]) -> int | None:
    """The image id that a result means: as given, or as a whole number."""
    found = ids.get(value) if isinstance(value, (int, str, float)) and not isinstance(value, bool) else None
    number = whole(value)
    return found if found is not None else None if number is None else ids.get(number)


def _with_box(entry: Any, images: Mapping[Any, int], sizes: Mapping[int, tuple[int, int]]) -> Any:
    """An entry of a mask alone gets the box around it; others stay as they are."""
    if not isinstance(entry, dict) or entry.get("bbox") or not entry.get("segmentation"):
        return entry
    width, height = sizes.get(_known(entry.get("image_id"), images) or 0, (0, 0))
    box = outline_box(entry["segmentation"], width, height)
    return entry if box is None else {**entry, "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}


def _problem(entry: Any, images: Mapping[Any, int], categories: Collection[int], any_score: bool) -> str:
    """What is wrong with an entry; empty when nothing is."""
    if not isinstance(entry, dict) or not all(key in entry for key in _KEYS):
        return f"is not an object with {', '.join(_KEYS)}: {entry!r:.80}"
    if _known(entry["image_id"], images) is None:
        return f"is of image_id {entry['image_id']!r}, which the annotation file does not have"
    if whole(entry["category_id"]) is None:
        return f"has category_id {entry['category_id']!r}; ids are integers"
    if categories and whole(entry["category_id"]) not in categories:
        return f"is of category_id {entry['category_id']!r}, which the annotation file does not have"
    box = entry["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_finite, box)) and box[2] >= 0 and box[3] >= 0):
        return f"has bbox {box!r}; give [x, y, width, height] in pixels"
    if not (_finite(entry["score"]) and (any_score or 0 <= entry["score"] <= 1)):
        return f"has score {entry['score']!r}; give {'a finite number' if any_score else '0 to 1'}"
    return ""


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LIMIT < value < _LIMIT


def _results(rows: Sequence[tuple[float, ...]], category_ids: Sequence[int]) -> ImageResults:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return ImageResults(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), np.array(category_ids, np.int64)
    )
