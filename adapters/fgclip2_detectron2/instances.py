"""Instance data in detectron2's catalogs: COCO JSON files, read strictly, and what a model takes of their pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from PIL import Image
from pycocotools import mask as coco_mask

from fgclip2.data.coco import CocoCategory, CocoDataset, CocoImage, load_coco
from fgclip2.data.coco_masks import outlined
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import check_lvis, is_lvis
from fgclip2.images import open_image
from fgclip2.masks import run_lengths

from .class_names import COCO_STUFF
from .datasets import ClassSet, class_set, register
from .mapper import Loader, Mapper, whole_patches

_log = logging.getLogger(__name__)

LEAST: Final = 4
"""Pixels of a training mask, at the least; fewer, as a crop may leave, say nothing about a thing."""


@dataclass(frozen=True)
class Thing:
    """One object of a picture.

    Attributes:
        label: index of its class.
        box: x1, y1, x2, y2 in pixels.
        rle: its mask, COCO's compressed run lengths of the picture's size.
        crowd: several objects that nobody told apart: not trained, and neither a hit nor a miss.
        ignored: marked ``"ignore": 1``: not trained; COCO's evaluation counts it as an object.
    """

    label: int
    box: tuple[float, float, float, float]
    rle: dict[str, Any] = field(repr=False)
    crowd: bool = False
    ignored: bool = False

    @property
    def mask(self) -> np.ndarray:
        """``(H, W)`` bool."""
        return np.asarray(coco_mask.decode(self.rle), dtype=bool)


@dataclass(frozen=True)
class LvisMarks:
    """What LVIS's protocol needs to know beside the objects: it marks only some classes in each picture.

    Attributes:
        frequencies: of every class: r, c or f.
        absent: by picture id, labels that were looked for and are not there.
        partial: by picture id, labels of which some objects are not marked.
    """

    frequencies: tuple[str, ...]
    absent: Mapping[int, tuple[int, ...]]
    partial: Mapping[int, tuple[int, ...]]

    def of_picture(self, number: int) -> dict[str, list[int]]:
        """LVIS's entries of a picture, with labels for category ids."""
        absent, partial = list(self.absent[number]), list(self.partial[number])
        return {"neg_category_ids": absent, "not_exhaustive_category_ids": partial}


@dataclass(frozen=True)
class InstanceSet(ClassSet):
    """Data with things, each with a mask of its own.

    Attributes:
        load: reads a record of the set: picture ``(H, W, 3)`` uint8 RGB and its things.
        lvis: LVIS's marks, where the data have them; they are then evaluated by its protocol.
        shown: labels of a record's things, crowds left out, without reading its picture; ``None`` where every picture
            has trained things.
    """

    load: Callable[[dict[str, Any]], tuple[np.ndarray, list[Thing]]]
    lvis: LvisMarks | None = None
    shown: Callable[[dict[str, Any]], Collection[int]] | None = None


def instance_set(name: str) -> InstanceSet:
    """A registered data set with instances.

    Raises:
        Fgclip2Error: it is none.
    """
    found = class_set(name)
    if not isinstance(found, InstanceSet):
        raise Fgclip2Error(f"the data set {name!r} has a label a pixel, no instances; train it with build_segmentor")
    return found


def register_coco(
    name: str,
    annotations: str | Path,
    images: str | Path,
    *,
    names_zh: Sequence[str] | None = None,
    novel: Collection[str] = (),
) -> None:
    """Enter a COCO or LVIS instance file.

    Args:
        name: in the catalogs.
        annotations: JSON with polygons or run lengths; see `fgclip2.data.coco.load_coco`.
        images: folder that its ``file_name`` are relative to.
        names_zh: its classes in Chinese, to train and evaluate with too; those of COCO's own are known.
        novel: classes to keep out of training.

    Raises:
        Fgclip2Error: the file is missing or wrong, most objects have no usable mask, or names are wrong; sizes are
            checked when a picture is read.
    """
    data, notes = outlined(load_coco(annotations, images))
    for note in notes:
        _log.warning("%s", note)
    register_coco_data(name, data, names_zh=names_zh, novel=novel)


def register_coco_data(
    name: str, data: CocoDataset, *, names_zh: Sequence[str] | None = None, novel: Collection[str] = ()
) -> None:
    """`register_coco` of a file that was read before, with masks of `fgclip2.data.coco_masks.outlined`."""
    known = dict(zip(*COCO_STUFF, strict=True))
    chinese = names_zh
    if chinese is None and all(word in known for word in data.names):
        chinese = [known[word] for word in data.names]
    languages = {"names": data.names} if chinese is None else {"en": data.names, "zh": tuple(chinese)}
    labels = {category.id: index for index, category in enumerate(data.categories)}
    records = [
        {"file_name": str(data.path(image)), "image_id": image.id, "coco": image, "things": data.by_image[image.id]}
        for image in data.images
    ]
    loader, marks = _CocoLoader(labels), _lvis_marks(data, labels)
    described = InstanceSet(languages, True, frozenset(novel), loader, marks, loader.shown)
    register(name, lambda: records, described)


def _lvis_marks(data: CocoDataset, labels: Mapping[int, int]) -> LvisMarks | None:
    """What an LVIS file says beside its objects; ``None`` for a COCO file.

    Raises:
        Fgclip2Error: the file has some of LVIS's fields, but not all, or a category that is not in it.
    """
    entries = {
        "images": [_present(image, "neg_category_ids", "not_exhaustive_category_ids") for image in data.images],
        "categories": [{"name": item.name, **_present(item, "frequency")} for item in data.categories],
    }
    if not is_lvis(entries):
        return None
    try:
        check_lvis(entries)
        marks = [
            {image["id"]: tuple(labels[number] for number in image[key]) for image in entries["images"]}
            for key in ("neg_category_ids", "not_exhaustive_category_ids")
        ]
    except Fgclip2Error as error:
        raise Fgclip2Error(f"{data.annotation_file}: {error}") from error
    except KeyError as error:
        raise Fgclip2Error(
            f"{data.annotation_file}: a picture's marks name category {error}, which it lacks"
        ) from error
    return LvisMarks(tuple(item["frequency"] for item in entries["categories"]), *marks)


def _present(item: CocoImage | CocoCategory, *keys: str) -> dict[str, Any]:
    """An entry's id, and what it has of ``keys``."""
    return {"id": item.id} | {key: value for key in keys if (value := getattr(item, key)) is not None}


@dataclass(frozen=True)
class _CocoLoader:
    """Reads picture and things of a record; picklable, for loading processes."""

    labels: dict[int, int]

    def shown(self, record: dict[str, Any]) -> set[int]:
        """Labels of the things that are trained: no crowds, and not ignored."""
        trained = (item for item in record["things"] if not item.is_crowd and not item.is_ignored)
        return {self.labels[item.category_id] for item in trained}

    def __call__(self, record: dict[str, Any]) -> tuple[np.ndarray, list[Thing]]:
        picture, image = open_image(record["file_name"]), record["coco"]
        if picture.size != (image.width, image.height):
            raise Fgclip2Error(
                f"{record['file_name']!r} is {picture.width} x {picture.height} pixels, its annotations are for "
                f"{image.width} x {image.height}; they must be of one size (a picture's EXIF rotation is applied)"
            )
        things = [
            Thing(self.labels[item.category_id], item.box, run_lengths(item, image), item.is_crowd, item.is_ignored)
            for item in record["things"]
        ]
        return np.asarray(picture), things


class InstanceMapper(Mapper[list[Thing]]):
    """detectron2's mapper for open-vocabulary instance segmentation; arguments are `Mapper`'s."""

    @staticmethod
    def loader(dataset: str) -> Loader[list[Thing]]:
        """Reads picture and things."""
        return instance_set(dataset).load

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Read and prepare one record.

        Returns:
            ``file_name`` where there is one; ``image_id``; ``image`` ``(3, h, w)`` uint8 RGB of whole patches; original
            ``height`` and ``width``; in training ``instances`` with ``gt_boxes``, ``gt_classes`` and ``gt_masks`` of
            the image's size, without crowds and ignored things; otherwise the picture's ``things``.
        """
        pixels, things = self.load(record)
        height, width = pixels.shape[:2]
        named = {key: record[key] for key in ("file_name",) if key in record}
        prepared = {**named, "image_id": record["image_id"], "height": height, "width": width}
        if not self.train:
            return {**prepared, "image": whole_patches(pixels, self.max_patches), "things": things}
        kept = [thing for thing in things if not (thing.crowd or thing.ignored)]
        cut = self.augmentation.draw(height, width)
        image = whole_patches(cut(pixels), self.max_patches)
        size = (image.shape[-2], image.shape[-1])
        masks = [_resized_mask(cut(thing.mask), size) for thing in kept]
        return {**prepared, "image": image, "instances": _instances(kept, masks, size)}


def _instances(things: Sequence[Thing], masks: Sequence[np.ndarray], size: tuple[int, int]) -> Instances:
    left = [index for index, mask in enumerate(masks) if mask.sum() >= LEAST]
    stack = np.stack([masks[index] for index in left]) if left else np.zeros((0, *size), bool)
    instances = Instances(size)
    instances.gt_masks = BitMasks(stack)
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.tensor([things[index].label for index in left], dtype=torch.int64)
    return instances


def _resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST), dtype=bool)
