"""What a detector got wrong, object by object: false, confused, loose and double boxes, and missed objects."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pycocotools import mask

from fgclip2.evaluation.average_precision import Evaluation

MATCH_IOU: Final = 0.5
"""From this IoU on, a box is on an object."""

NEAR_IOU: Final = 0.1
"""From this IoU on, a box is near an object; below it is on the background."""

KINDS: Final = ("background", "confused", "missed", "loose", "both", "double")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class BoxError:
    """One error.

    Attributes:
        kind: ``background``: a box on nothing; ``confused``: on an object of another class; ``loose``: near one of its
            class; ``both``: near one of another class; ``double``: on one of its class that a more certain box has
            found; ``missed``: an object that no box is on.
        image_id: the picture.
        said: category id of the detection; for a missed object that of the most certain box on it, however uncertain,
            or ``None``.
        score: of that detection, 0..1.
        box: of that detection, x1, y1, x2, y2 in pixels.
        truth: category id of the object, ``None`` on the background.
        truth_box: of the object.
        iou: of the two boxes, 0..1.
        weight: errors of one kind are sorted by it, the worst first: the score, or for missed objects one minus the
            score of the most certain box that would have been right, and then the size.
    """

    kind: str
    image_id: int
    said: int | None
    score: float | None
    box: Box | None
    truth: int | None
    truth_box: Box | None
    iou: float
    weight: tuple[float, float]


@dataclass(frozen=True)
class ErrorReport:
    """All errors of an evaluation.

    Attributes:
        threshold: boxes of at least this score count.
        right: how many of them are right.
        objects: how many objects there are to find.
        errors: all others, and missed objects.
    """

    threshold: float
    right: int
    objects: int
    errors: tuple[BoxError, ...]

    def counts(self) -> dict[str, int]:
        """Kind -> how many; every kind is there."""
        return {kind: sum(error.kind == kind for error in self.errors) for kind in KINDS}

    def worst(self, count: int) -> list[BoxError]:
        """The worst of every kind in equal shares, kind by kind; what one kind lacks goes to the others."""
        ranked = [
            sorted((error for error in self.errors if error.kind == kind), key=lambda error: error.weight, reverse=True)
            for kind in KINDS
        ]
        turns = [error for row in itertools.zip_longest(*ranked) for error in row if error is not None][:count]
        return [error for kind in KINDS for error in turns if error.kind == kind]


def find_errors(evaluation: Evaluation, threshold: float | None = None) -> ErrorReport:
    """Match boxes with objects as COCO does at IoU 0.50, and say what is wrong with the others.

    In every picture boxes choose in the order of their scores: each takes the free object of its class that it overlaps
    most, from `MATCH_IOU` on, and is right. Boxes on crowds of their class, and under LVIS's protocol boxes of classes
    that were not looked for or not all marked, are neither right nor wrong.

    Args:
        evaluation: detections and truth.
        threshold: score, 0..1, that boxes must have to count; ``None`` takes the one of the best F1 over all boxes.
    """
    boxes_of, objects_of = _by_image(evaluation.detections), _by_image(evaluation.truth["annotations"])
    scenes = [
        _Scene(image, boxes_of[image["id"]], objects_of[image["id"]], evaluation.federated)
        for image in evaluation.truth["images"]
    ]
    objects = sum(len(scene.objects) for scene in scenes)
    if threshold is None:
        scores = np.concatenate([scene.scores[scene.judged] for scene in scenes] or [np.zeros(0)])
        right = np.concatenate([scene.taken[scene.judged] >= 0 for scene in scenes] or [np.zeros(0, bool)])
        threshold = _best_f1(scores, right, objects)
    errors = tuple(error for scene in scenes for error in scene.errors(threshold))
    right_boxes = sum(int(((scene.taken >= 0) & (scene.scores >= threshold)).sum()) for scene in scenes)
    return ErrorReport(threshold, right_boxes, objects, errors)


def _by_image(items: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    grouped: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        grouped[item["image_id"]].append(item)
    return grouped


def _best_f1(scores: np.ndarray, right: np.ndarray, objects: int) -> float:
    """The score from which on boxes have the best F1; 1 without boxes."""
    if not len(scores):
        return 1.0
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(right[order])
    f1 = 2 * found / (np.arange(1, len(scores) + 1) + objects)
    last = np.append(scores[1:] < scores[:-1], True)  # boxes of equal scores count together
    return float(scores[np.argmax(np.where(last, f1, -1))])


class _Scene:
    """One picture: its boxes by falling score, its objects, and which box is right about which object.

    Attributes:
        scores: (M,).
        taken: (M,) index of the object that a box is right about, else -1.
        judged: (M,) bool, False for boxes that are neither right nor wrong.
    """

    def __init__(
        self,
        image: Mapping[str, Any],
        found: Sequence[Mapping[str, Any]],
        annotations: Sequence[Mapping[str, Any]],
        federated: bool,
    ) -> None:
        self.image_id = image["id"]
        self.found = sorted(found, key=lambda item: -float(item["score"]))
        crowds = [item for item in annotations if item.get("iscrowd") and not federated]
        self.objects = [item for item in annotations if federated or not item.get("iscrowd")]
        self.scores = np.array([item["score"] for item in self.found], float)
        self.boxes, self.places = _xywh(self.found), _xywh(self.objects)
        self.iou = _overlaps(self.boxes, self.places)
        self.said = np.array([item["category_id"] for item in self.found], int)
        self.same = self.said[:, None] == np.array([item["category_id"] for item in self.objects], int)
        self.taken = self._match()
        self.judged = (self.taken >= 0) | ~(self._in_crowd(crowds) | self._unmarked(image, federated))

    def _match(self) -> np.ndarray:
        taken, free = np.full(len(self.found), -1), np.ones(len(self.objects), bool)
        fits = self.same & (self.iou >= MATCH_IOU)
        for index in np.flatnonzero(fits.any(axis=1)):
            choice = np.where(fits[index] & free, self.iou[index], -1)
            if choice.max() >= 0:
                taken[index] = np.flatnonzero(choice == choice.max())[-1]  # the last of equals, as COCO takes it
                free[taken[index]] = False
        return taken

    def _in_crowd(self, crowds: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(M,) bool: at least half of the box lies in a crowd of its class."""
        same = self.said[:, None] == np.array([item["category_id"] for item in crowds], int)
        return np.asarray(((_overlaps(self.boxes, _xywh(crowds), crowds=True) >= MATCH_IOU) & same).any(axis=1))

    def _unmarked(self, image: Mapping[str, Any], federated: bool) -> np.ndarray:
        """(M,) bool: nobody looked for the box's class in this picture, or not everywhere."""
        if not federated:
            return np.zeros(len(self.found), bool)
        looked_for = {item["category_id"] for item in self.objects} | set(image["neg_category_ids"])
        some = image["not_exhaustive_category_ids"]
        return np.array([number not in looked_for or number in some for number in self.said.tolist()], bool)

    def errors(self, threshold: float) -> list[BoxError]:
        """Errors of the boxes of at least this score, and the objects that none of them is on."""
        counted = self.scores >= threshold
        wrong = np.flatnonzero(counted & self.judged & (self.taken < 0))
        errors = [self._wrong_box(index) for index in wrong.tolist()]
        seen = (counted[:, None] & (self.iou >= MATCH_IOU) & (self.judged[:, None])).any(axis=0)
        return errors + [self._missed(index) for index in np.flatnonzero(~seen).tolist()]

    def _wrong_box(self, index: int) -> BoxError:
        iou = self.iou[index]
        own, other = np.where(self.same[index], iou, -1), np.where(self.same[index], -1, iou)
        best_own, best_other = own.max(initial=-1), other.max(initial=-1)
        kind, ious = "background", np.maximum(own, other)
        if best_own >= MATCH_IOU:
            kind, ious = "double", own
        elif best_other >= MATCH_IOU:
            kind, ious = "confused", other
        elif best_own >= NEAR_IOU:
            kind, ious = "loose", own
        elif best_other >= NEAR_IOU:
            kind, ious = "both", other
        target = int(ious.argmax()) if len(ious) and kind != "background" else None
        return self._error(kind, index, target, (float(self.scores[index]), 0.0), ious.max(initial=0))

    def _missed(self, target: int) -> BoxError:
        on_it = self.iou[:, target] >= MATCH_IOU
        right = self.scores[on_it & self.same[:, target]].max(initial=0)
        index = int(np.argmax(on_it)) if on_it.any() else None  # boxes are sorted by score
        weight = (1 - float(right), float(self.places[target, 2:].prod()))
        return self._error("missed", index, target, weight, 0.0 if index is None else self.iou[index, target])

    def _error(
        self, kind: str, index: int | None, target: int | None, weight: tuple[float, float], iou: float
    ) -> BoxError:
        return BoxError(
            kind=kind,
            image_id=self.image_id,
            said=None if index is None else int(self.said[index]),
            score=None if index is None else float(self.scores[index]),
            box=None if index is None else _corners(self.boxes[index]),
            truth=None if target is None else int(self.objects[target]["category_id"]),
            truth_box=None if target is None else _corners(self.places[target]),
            iou=max(0.0, float(iou)),
            weight=weight,
        )


def _xywh(items: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([item["bbox"] for item in items], float).reshape(-1, 4)


def _overlaps(boxes: np.ndarray, places: np.ndarray, crowds: bool = False) -> np.ndarray:
    """(M, N) IoU; with crowds, the share of the box that lies in them. COCO's own, since a half decides."""
    if not len(boxes) or not len(places):
        return np.zeros((len(boxes), len(places)))
    return np.asarray(mask.iou(boxes, places, [int(crowds)] * len(places)))


def _corners(xywh: np.ndarray) -> Box:
    x, y, width, height = xywh.tolist()
    return x, y, x + width, y + height
