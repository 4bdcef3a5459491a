"""COCO's AP of masks and boxes over base, novel and all classes, for any vocabulary of a Mask R-CNN."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from fgclip2.errors import Fgclip2Error

from .instances import instance_set

_KINDS: Final = {"mask": "segm", "box": "bbox"}


class OpenVocabInstanceEvaluator(DatasetEvaluator):
    """Gathers detections over all ranks; the truth is read from the record, where `InstanceMapper` puts it.

    Figures are 0..100: ``mask_AP_all`` (IoU 0.50:0.95), ``mask_AP50_all``, the same of ``box``, and each also of
    ``base`` and ``novel`` classes. A class that no picture shows counts in none; a group without classes is nan.

    Args:
        dataset: name of the registered set.
        vocabulary: which of the model's vocabularies to read; ``None`` takes the set's first language. It is the key of
            the result.
    """

    def __init__(self, dataset: str, vocabulary: str | None = None) -> None:
        self.data = instance_set(dataset)
        self.vocabulary = next(iter(self.data.names)) if vocabulary is None else vocabulary
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.images: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Take one batch.

        Args:
            inputs: records of `InstanceMapper`.
            outputs: of the model.

        Raises:
            Fgclip2Error: there is no such vocabulary.
        """
        for record, output in zip(inputs, outputs, strict=True):
            if self.vocabulary not in output["instances"]:
                known = ", ".join(output["instances"])
                raise Fgclip2Error(f"no predictions for the vocabulary {self.vocabulary!r}; this model has {known}")
            image = {"image_id": record["image_id"]}
            self.images.append({"id": record["image_id"], "height": record["height"], "width": record["width"]})
            self.truth += [
                {**image, "category_id": thing.label, **_shape(thing.rle, thing.box), "iscrowd": int(thing.crowd)}
                for thing in record["things"]
            ]
            instances = output["instances"][self.vocabulary].to("cpu")
            masks = instances.pred_masks.numpy().astype(np.uint8)
            boxes, scores = instances.pred_boxes.tensor.tolist(), instances.scores.tolist()
            for mask, box, score, label in zip(masks, boxes, scores, instances.pred_classes.tolist(), strict=True):
                rle = coco_mask.encode(np.asfortranarray(mask))
                self.found.append({**image, "category_id": label, **_shape(rle, box), "iscrowd": 0, "score": score})

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Figures of all ranks, ``{vocabulary: {figure: value}}``; ``None`` on all ranks but the first."""
        comm.synchronize()
        gathered = comm.gather((self.images, self.truth, self.found))
        if not comm.is_main_process():
            return None
        images, truth, found = (list(itertools.chain(*parts)) for parts in zip(*gathered, strict=True))
        count = len(self.data.main)
        base = np.isin(np.arange(count), self.data.base)
        groups = {"base": base, "novel": ~base, "all": np.ones_like(base)}
        figures = {}
        for kind, name in _KINDS.items():
            precision = _precision(images, truth, found, count, name)
            for group, classes in groups.items():
                figures[f"{kind}_AP_{group}"] = _average(precision[..., classes])
                figures[f"{kind}_AP50_{group}"] = _average(precision[:1][..., classes])
        return OrderedDict({self.vocabulary: figures})


def _shape(rle: Mapping[str, Any], box: Sequence[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"segmentation": rle, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(coco_mask.area(rle))}


def _precision(
    images: list[dict[str, Any]], truth: list[dict[str, Any]], found: list[dict[str, Any]], count: int, kind: str
) -> np.ndarray:
    """``(10, 101, C)``: IoU 0.50, 0.55, ... 0.95; recall 0, 0.01, ... 1; -1 for classes without objects."""
    shared = {"info": {}, "licenses": [], "images": images,
              "categories": [{"id": label, "name": str(label)} for label in range(count)]}  # fmt: skip
    # Ids from 1: the evaluator marks unmatched objects with 0.
    ground, results = (
        COCO({**shared, "annotations": [{**item, "id": number} for number, item in enumerate(items, start=1)]})
        for items in (truth, found)
    )
    evaluation = COCOeval_faster(ground, results, kind)
    evaluation.params.maxDets = [100]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"][..., 0, 0])


def _average(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return 100 * float(known.mean()) if known.size else float("nan")
