"""OV-COCO's figures: AP50 over base, novel and all classes, computed by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from fgclip2.errors import Fgclip2Error

_log = logging.getLogger(__name__)
_MAX_DETECTIONS = 100  # a picture, as in COCO


@METRICS.register_module()
class OpenVocabCocoMetric(BaseMetric):
    """COCO's AP, averaged apart over the classes that were and were not training labels.

    Args:
        ann_file: COCO JSON with the ground truth of all classes.
        novel: names of the novel classes, as in ``ann_file``.
        classes: names in the order of the predicted labels, as in ``ann_file``; ``None`` takes the dataset's.
        field: which predictions to read: ``pred_instances``, or ``pred_<vocabulary>``.
        outfile: when given, predictions are written there as COCO results JSON.
        collect_device: mmengine's.
        prefix: of the metric names.

    Metrics are 0..100: ``AP50_base``, ``AP50_novel``, ``AP50_all``, and the same of AP (0.50:0.95), ``AP_base``, ...
    A group without any ground truth is nan.
    """

    default_prefix = "ov"

    def __init__(
        self,
        ann_file: str,
        novel: Sequence[str] = (),
        classes: Sequence[str] | None = None,
        field: str = "pred_instances",
        outfile: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.novel = tuple(novel)
        self.classes = None if classes is None else tuple(classes)
        self.field = field
        self.outfile = outfile

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the predictions of one batch."""
        for sample in data_samples:
            if self.field not in sample:
                found = ", ".join(name for name in sample if str(name).startswith("pred_"))
                raise Fgclip2Error(f"no predictions {self.field!r}; this detector gives {found or 'none'}")
            predicted = sample[self.field]
            arrays = {key: predicted[key].cpu().numpy() for key in ("bboxes", "scores", "labels")}
            self.results.append({"img_id": sample["img_id"], **arrays})

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """The figures over all pictures."""
        classes = self.classes or tuple((self.dataset_meta or {})["classes"])
        truth = json.loads(Path(self.ann_file).read_text(encoding="utf-8"))
        detections = coco_results(results, class_ids(truth, classes))
        if self.outfile:
            Path(self.outfile).write_text(json.dumps(detections), encoding="utf-8")
        return open_vocabulary_ap(truth, detections, self.novel)


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


def coco_results(results: Sequence[Mapping[str, Any]], ids: Sequence[int]) -> list[dict[str, Any]]:
    """Predictions (``bboxes`` xyxy, ``scores``, ``labels``, ``img_id``) as COCO results (boxes x, y, width, height)."""
    return [
        {
            "image_id": item["img_id"],
            "category_id": ids[int(label)],
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(score),
        }
        for item in results
        for (x1, y1, x2, y2), score, label in zip(item["bboxes"], item["scores"], item["labels"], strict=True)
    ]


def open_vocabulary_ap(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], novel: Sequence[str]
) -> dict[str, float]:
    """AP of base, novel and all classes.

    Args:
        truth: COCO dictionary.
        detections: COCO results.
        novel: names of the novel classes.

    Returns:
        Figures 0..100, see `OpenVocabCocoMetric`; nan for a group without ground truth.

    Raises:
        Fgclip2Error: a novel name that is not a category.
    """
    novel_ids = set(class_ids(truth, novel))
    if not detections:
        _log.warning("the detector found nothing in %d pictures; every AP is 0", len(truth["images"]))
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(_complete(truth))
        evaluation = COCOeval_faster(ground, ground.loadRes(list(detections)) if detections else _empty(truth), "bbox")
        evaluation.params.maxDets = [_MAX_DETECTIONS]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (IoU thresholds, recalls, classes, 1, 1), -1 where there is no truth
    is_novel = np.array([category in novel_ids for category in evaluation.params.catIds])
    groups = {"base": ~is_novel, "novel": is_novel, "all": np.ones_like(is_novel)}
    figures = {f"AP50_{name}": _mean(precision[:1, :, chosen]) for name, chosen in groups.items()}
    figures |= {f"AP_{name}": _mean(precision[:, :, chosen]) for name, chosen in groups.items()}
    return figures


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else float("nan")


def _complete(truth: Mapping[str, Any]) -> dict[str, Any]:
    """A private copy with the fields that the evaluator needs and detection files may leave out."""
    # Ids from 1: the evaluator marks unmatched objects with 0, so an annotation 0 would count as missed.
    annotations = [
        {"iscrowd": 0, "area": item["bbox"][2] * item["bbox"][3], **item, "id": number}
        for number, item in enumerate(truth["annotations"], start=1)
    ]
    return {"info": {}, "licenses": [], **truth, "annotations": annotations}


def _empty(truth: Mapping[str, Any]) -> COCO:
    return COCO({**_complete(truth), "annotations": []})
