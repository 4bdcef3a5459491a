"""COCO's and LVIS's AP of masks and boxes over base, novel and all classes, for any vocabulary of a Mask R-CNN."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools import mask as coco_mask

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import FREQUENCIES, evaluate_boxes

from .instances import instance_set


class OpenVocabInstanceEvaluator(DatasetEvaluator):
    """Gathers detections over all ranks; the truth is read from the record, where `InstanceMapper` puts it.

    Figures are 0..100: ``mask_AP_all`` (IoU 0.50:0.95), ``mask_AP50_all``, the same of ``box``, and each also of
    ``base`` and ``novel`` classes. A class that no picture shows counts in none; a group without classes is nan.
    ``classes_base``, ``classes_novel`` and ``classes_all`` are how many classes were judged.

    A set with LVIS's marks is evaluated by LVIS's protocol: the 300 best detections of a picture count, where their
    class was looked for. ``mask_APr``, ``mask_APc``, ``mask_APf`` and the same of ``box`` are then there too, the AP of
    rare, common and frequent classes, and ``classes_APr``, ...

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
        images, annotations, found = (list(itertools.chain(*parts)) for parts in zip(*gathered, strict=True))
        marks = self.data.lvis
        categories: list[dict[str, Any]] = [{"id": label, "name": name} for label, name in enumerate(self.data.main)]
        if marks is not None:
            images = [{**image, **marks.of_picture(image["id"])} for image in images]
            categories = [{**item, "frequency": marks.frequencies[item["id"]]} for item in categories]
        truth = {"images": images, "annotations": annotations, "categories": categories}
        figures: dict[str, float] = {}
        for kind, masks in (("mask", True), ("box", False)):
            evaluation = evaluate_boxes(truth, found, sorted(self.data.novel), federated=marks is not None, masks=masks)
            every, judged = evaluation.figures, ~np.isnan(evaluation.table.by_class())
            groups = {name: judged & chosen for name, chosen in evaluation.groups.items()}
            if marks is not None:
                by_label = np.array([marks.frequencies[label] for label in evaluation.table.category_ids])
                groups |= {name: judged & (by_label == mark) for mark, name in FREQUENCIES.items()}
            figures |= {f"classes_{name}": int(chosen.sum()) for name, chosen in groups.items()}
            for group in ("base", "novel", "all"):
                figures |= {f"{kind}_{name}_{group}": every[f"{name}_{group}"] for name in ("AP", "AP50")}
            if marks is not None:
                figures |= {f"{kind}_{name}": every[name] for name in FREQUENCIES.values()}
        return OrderedDict({self.vocabulary: figures})


def _shape(rle: Mapping[str, Any], box: Sequence[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"segmentation": rle, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(coco_mask.area(rle))}
