"""AP of boxes and masks by faster-coco-eval, under COCO's protocol and LVIS's, averaged over groups of classes."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from fgclip2.errors import Fgclip2Error

_log = logging.getLogger(__name__)

SMALL_SIDE: Final = 40
"""Pixels: an object whose longer side is below this is small."""

FREQUENCIES: Final = {"r": "APr", "c": "APc", "f": "APf"}
"""LVIS's marks of rare, common and frequent classes, and what their AP is called."""

LVIS_DETECTIONS: Final = 300
"""Of all classes together: so many of a picture count under LVIS's protocol."""

FIXED_DETECTIONS: Final = 10_000
"""Of each class, over the whole set: so many count under fixed AP, and any number of one picture."""

LVIS_FIELDS: Final = {"images": ("neg_category_ids", "not_exhaustive_category_ids"), "categories": ("frequency",)}
"""What LVIS's files have and COCO's have not, and its protocol needs."""

_COCO_DETECTIONS: Final = 100  # a picture and class
_LONGEST_SIDE: Final = 1e5  # pixels
_PAIRS: Final = 2_000_000  # pictures x classes at a time: the evaluator makes lists for each, and LVIS has 24 millions


@dataclass(frozen=True, eq=False)
class PrecisionTable:
    """Precision at every recall, as COCO counts it: at each recall the best precision from there on.

    Attributes:
        values: (10, 101, C, 2), 0..1, -1 for classes without objects: IoU 0.50, 0.55, ... 0.95; recall 0, 0.01, ... 1;
            classes; objects of all sizes, and small ones (`SMALL_SIDE`).
        category_ids: (C,), ascending.
    """

    values: np.ndarray
    category_ids: np.ndarray

    def average(self, classes: np.ndarray | None = None, *, iou50: bool = False, small: bool = False) -> float:
        """AP of some classes.

        Args:
            classes: (C,) bool; ``None`` takes all.
            iou50: at IoU 0.50 instead of the mean over 0.50:0.95.
            small: of small objects only.

        Returns:
            0..100; nan without objects.
        """
        values = self.values[: 1 if iou50 else None, ..., int(small)]
        chosen = values if classes is None else values[..., classes]
        known = chosen[chosen > -1]
        return float(known.mean() * 100) if known.size else float("nan")

    def by_class(self) -> np.ndarray:
        """AP (0.50:0.95) of every class, (C,) 0..100; nan for classes without objects."""
        values = self.values[..., 0]
        return np.where(values[0, 0] > -1, 100 * values.mean(axis=(0, 1)), np.nan)

    def curve(self, classes: np.ndarray | None = None) -> np.ndarray:
        """Precision at recall 0, 0.01, ... 1 and IoU 0.50, averaged over classes: its mean is AP50.

        Args:
            classes: (C,) bool; ``None`` takes all.

        Returns:
            (101,), 0..1; nan without objects.
        """
        values = self.values[0, ..., 0]
        chosen = values if classes is None else values[:, classes]
        known = chosen[:, chosen[0] > -1]
        return known.mean(axis=1) if known.size else np.full(len(chosen), np.nan)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Detections that were compared with the ground truth.

    Attributes:
        truth: COCO or LVIS dictionary.
        detections: COCO results: those that counted.
        table: precision of every class.
        novel_ids: category ids of the novel classes.
        federated: LVIS's protocol was used.
    """

    truth: Mapping[str, Any]
    detections: Sequence[Mapping[str, Any]]
    table: PrecisionTable
    novel_ids: frozenset[int]
    federated: bool

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """``base``, ``novel`` and ``all`` -> (C,) bool, in the order of the table's classes."""
        novel = np.isin(self.table.category_ids, sorted(self.novel_ids))
        return {"base": ~novel, "novel": novel, "all": np.ones_like(novel)}

    @cached_property
    def figures(self) -> dict[str, float]:
        """Name -> 0..100, or nan for a group without objects.

        ``AP50_base``, ``AP50_novel``, ``AP50_all``, the same of AP (0.50:0.95), ``AP50_small`` and ``AP_small``; under
        LVIS's protocol its own names too: ``AP``, ``AP50``, ``APr``, ``APc``, ``APf``.
        """
        table = self.table
        figures = {f"AP50_{name}": table.average(chosen, iou50=True) for name, chosen in self.groups.items()}
        figures |= {f"AP_{name}": table.average(chosen) for name, chosen in self.groups.items()}
        figures |= {"AP50_small": table.average(iou50=True, small=True), "AP_small": table.average(small=True)}
        if self.federated:
            marks = {category["id"]: category["frequency"] for category in self.truth["categories"]}
            by_class = np.array([marks[number] for number in table.category_ids.tolist()])
            figures |= {"AP": figures["AP_all"], "AP50": figures["AP50_all"]}
            figures |= {name: table.average(by_class == mark) for mark, name in FREQUENCIES.items()}
        return figures


def evaluate_boxes(
    truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    novel: Iterable[str] | None = None,
    *,
    federated: bool = False,
    fixed: bool = False,
    masks: bool = False,
) -> Evaluation:
    """Compare detections with the ground truth.

    Args:
        truth: COCO dictionary, or LVIS's when ``federated``.
        detections: COCO results; neither they nor the truth are changed.
        novel: names of the novel classes; ``None`` takes LVIS's rare ones when ``federated``, else none.
        federated: LVIS's protocol: the 300 most certain detections of a picture count, and only those of classes that
            were looked for in it (present, or in ``neg_category_ids``); a class in ``not_exhaustive_category_ids`` has
            no false detections there; what has no area, object or detection, does not count. Otherwise COCO's: 100
            detections a picture and class.
        fixed: of LVIS's protocol, fixed AP (Dave et al. 2021, "Evaluating Large-Vocabulary Object Detectors: The Devil
            is in the Details"): the 10,000 most certain detections of each class over the whole set count, however
            many are of one picture. At 300 a picture classes push each other out, and a detector gains by being less
            sure of frequent ones.
        masks: compare ``segmentation`` (run lengths) in place of boxes; an object's size is still that of its box.

    Raises:
        Fgclip2Error: a novel name that is no category, a detection of a picture or category that the truth does not
            have, a truth without LVIS's fields, or ``fixed`` without ``federated``.
    """
    if fixed and not federated:
        raise Fgclip2Error("fixed AP is a way to count under LVIS's protocol; give federated=True as well")
    limit = _COCO_DETECTIONS
    if federated:
        check_lvis(truth)
        limit = FIXED_DETECTIONS if fixed else LVIS_DETECTIONS
        # In this order, as in LVIS's own code: what has no area takes a place among the 300, and is then left out.
        detections = _most_certain(detections, limit, "category_id" if fixed else "image_id")
        detections = [item for item in detections if _area(item, masks) > 0]
    if novel is None:
        novel_ids = frozenset(item["id"] for item in truth["categories"] if federated and item["frequency"] == "r")
    else:
        novel_ids = frozenset(class_ids(truth, list(novel)))
    for key, kind, what in (("image_id", "images", "picture"), ("category_id", "categories", "category")):
        known = {entry["id"] for entry in truth[kind]}
        foreign = next((item[key] for item in detections if item[key] not in known), None)
        if foreign is not None:
            raise Fgclip2Error(f"a detection is of {what} {foreign}, which the annotation file does not have")
    if not detections:
        _log.warning("the detector found nothing in %d pictures; every AP is 0", len(truth["images"]))
    table = _precision_table(truth, detections, federated, masks, limit)
    return Evaluation(truth, detections, table, novel_ids, federated)


def open_vocabulary_ap(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], novel: Sequence[str]
) -> dict[str, float]:
    """AP of base, novel and all classes, under COCO's protocol.

    Args:
        truth: COCO dictionary.
        detections: COCO results.
        novel: names of the novel classes.

    Returns:
        Figures 0..100, see `Evaluation.figures`; nan for a group without ground truth.

    Raises:
        Fgclip2Error: a novel name that is not a category.
    """
    return evaluate_boxes(truth, detections, novel).figures


def class_ids(truth: Mapping[str, Any], classes: Sequence[str]) -> list[int]:
    """Category id of every class name of a COCO dictionary, in the order of ``classes``.

    Raises:
        Fgclip2Error: a name that the file does not have.
    """
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    unknown = [name for name in classes if name not in ids]
    if unknown:
        raise Fgclip2Error(f"classes that the annotation file does not have: {', '.join(unknown[:5])}")
    return [ids[name] for name in classes]


def _precision_table(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], federated: bool, masks: bool, limit: int
) -> PrecisionTable:
    """Class by class, ``limit`` detections a picture and class at most."""
    everything = truth["annotations"]
    if federated:  # LVIS's own code does not see objects without area
        everything = [item for item in everything if item.get("area", 1) > 0]
    objects, found = _by_class(everything), _by_class(detections)
    # Libraries below keep ids in narrower numbers than exporters write, so images and classes are numbered from 1.
    images = {image["id"]: number for number, image in enumerate(truth["images"], start=1)}
    category_ids = sorted(category["id"] for category in truth["categories"])
    numbers = {category: number for number, category in enumerate(category_ids, start=1)}
    shared = {"info": {}, "licenses": [], "images": [_renumbered(item, images, numbers) for item in truth["images"]]}
    step = max(1, _PAIRS // max(1, len(truth["images"])))
    parts = []
    for start in range(0, len(category_ids), step):
        chosen = category_ids[start : start + step]
        categories = [
            {**category, "id": numbers[category["id"]]}
            for category in truth["categories"]
            if category["id"] in set(chosen)
        ]
        # What the evaluator reads is made for these classes only: LVIS has millions of detections. Ids from 1: it marks
        # unmatched objects with 0. LVIS knows no crowds.
        true = [
            {
                **_measured(item, masks, images, numbers),
                "iscrowd": 0 if federated else int(item.get("iscrowd") or 0),
                "id": number,
            }
            for number, item in enumerate((item for key in chosen for item in objects[key]), start=1)
        ]
        given = [
            {**_measured(item, masks, images, numbers), "score": item["score"], "iscrowd": 0, "id": number}
            for number, item in enumerate((item for key in chosen for item in found[key]), start=1)
        ]
        ground, results = (COCO({**shared, "categories": categories, "annotations": items}) for items in (true, given))
        evaluation = COCOeval_faster(ground, results, "segm" if masks else "bbox", lvis_style=federated)
        evaluation.params.catIds = [numbers[key] for key in chosen]
        evaluation.params.maxDets = [limit]
        evaluation.params.areaRng = [[0, _LONGEST_SIDE**2], [0, float(np.nextafter(SMALL_SIDE**2, 0))]]
        evaluation.params.areaRngLbl = ["all", "small"]
        evaluation.evaluate()
        evaluation.accumulate()
        parts.append(evaluation.eval["precision"][..., 0])
    return PrecisionTable(np.concatenate(parts, axis=2), np.array(category_ids))


def _by_class(items: Iterable[Mapping[str, Any]]) -> defaultdict[int, list[Mapping[str, Any]]]:
    """Annotations or detections by category id, in their order."""
    grouped = defaultdict(list)
    for item in items:
        grouped[item["category_id"]].append(item)
    return grouped


def _renumbered(image: Mapping[str, Any], images: Mapping[int, int], categories: Mapping[int, int]) -> dict[str, Any]:
    """An image with numbers for ids, also in LVIS's lists of classes."""
    lists = {
        key: [categories[one] for one in image[key] if one in categories]
        for key in LVIS_FIELDS["images"]
        if key in image
    }
    return {**image, "id": images[image["id"]], **lists}


def _area(item: Mapping[str, Any], masks: bool) -> float:
    """Of a detection: its box's, or with ``masks`` how many pixels its run lengths cover."""
    if masks:
        from pycocotools import mask as coco_mask

        return float(coco_mask.area(item["segmentation"]))
    return float(item["bbox"][2] * item["bbox"][3])


def _measured(
    item: Mapping[str, Any], masks: bool, images: Mapping[int, int], categories: Mapping[int, int]
) -> dict[str, Any]:
    """What the evaluator reads. It sorts boxes into sizes by ``area``; here that is the square of the longer side."""
    return {
        "image_id": images[item["image_id"]],
        "category_id": categories[item["category_id"]],
        "bbox": item["bbox"],
        "area": max(item["bbox"][2:]) ** 2,
        **({"segmentation": item["segmentation"]} if masks else {}),
    }


def _most_certain(detections: Sequence[Mapping[str, Any]], count: int, of: str) -> list[Mapping[str, Any]]:
    """The ``count`` most certain ones of every picture (``of`` is ``image_id``) or class (``category_id``).

    The evaluator itself counts by picture and class.
    """
    grouped = defaultdict(list)
    for item in detections:
        grouped[item[of]].append(item)
    return [
        item for items in grouped.values() for item in sorted(items, key=lambda item: -float(item["score"]))[:count]
    ]


def is_lvis(truth: Mapping[str, Any]) -> bool:
    """Whether annotations are meant for LVIS's protocol; whether they are complete is said by `check_lvis`."""
    return any("neg_category_ids" in image for image in truth["images"])


def check_lvis(truth: Mapping[str, Any]) -> None:
    """Make sure that a dictionary has what LVIS's protocol needs.

    Raises:
        Fgclip2Error: the first entry without a field of `LVIS_FIELDS`, or of unknown frequency.
    """
    for kind, keys in LVIS_FIELDS.items():
        for key in keys:
            lacking = next((entry["id"] for entry in truth[kind] if key not in entry), None)
            if lacking is not None:
                raise Fgclip2Error(
                    f"entry {lacking} of {kind} has no {key!r}, which LVIS's protocol needs; give an LVIS annotation "
                    "file, or evaluate by COCO's protocol"
                )
    odd = next((entry for entry in truth["categories"] if entry["frequency"] not in FREQUENCIES), None)
    if odd is not None:
        raise Fgclip2Error(f"category {odd['name']!r} has frequency {odd['frequency']!r}; LVIS knows r, c and f")
