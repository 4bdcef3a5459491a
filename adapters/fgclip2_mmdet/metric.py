"""mmengine's metrics for open vocabularies: AP over base, novel and all classes, as COCO or LVIS count it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import Evaluation, class_ids, evaluate_boxes

from .annotations import read_annotations

_log = logging.getLogger(__name__)


@METRICS.register_module()
class OpenVocabCocoMetric(BaseMetric):
    """COCO's AP, averaged apart over the classes that were and were not training labels.

    Args:
        ann_file: COCO JSON with the ground truth of all classes.
        novel: names of the novel classes, as in ``ann_file``.
        classes: names in the order of the predicted labels, as in ``ann_file``; ``None`` takes the dataset's.
        field: which predictions to read: ``pred_instances``, or ``pred_<vocabulary>``.
        outfile: when given, predictions are written there as COCO results JSON.
        image_ids: JSON with the pictures to evaluate, see `read_image_ids`; ``None`` takes all of ``ann_file``.
        collect_device: mmengine's.
        prefix: of the metric names.

    Metrics are 0..100: ``AP50_base``, ``AP50_novel``, ``AP50_all``, and the same of AP (0.50:0.95), ``AP_base``, ...;
    ``AP50_small`` and ``AP_small`` are of the objects, of all classes, whose longer side is under 40 pixels.
    A group without any ground truth is nan. What was evaluated stays in ``evaluation``, on the first rank. Where the
    detector gives masks, the same figures of masks come too, as ``mask_AP50_base`` and so on.
    """

    default_prefix = "ov"
    federated: ClassVar[bool] = False

    def __init__(
        self,
        ann_file: str,
        novel: Sequence[str] | None = (),
        classes: Sequence[str] | None = None,
        field: str = "pred_instances",
        outfile: str | None = None,
        image_ids: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.novel = None if novel is None else tuple(novel)
        self.classes = None if classes is None else tuple(classes)
        self.field = field
        self.outfile = outfile
        self.image_ids = image_ids
        self.evaluation: Evaluation | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the predictions of one batch."""
        for sample in data_samples:
            if self.field not in sample:
                found = ", ".join(name for name in sample if str(name).startswith("pred_"))
                raise Fgclip2Error(f"no predictions {self.field!r}; this detector gives {found or 'none'}")
            predicted = sample[self.field]
            arrays = {key: predicted[key].cpu().numpy() for key in ("bboxes", "scores", "labels")}
            masks = {"masks": predicted["masks"].run_lengths()} if "masks" in predicted else {}
            self.results.append({"img_id": sample["img_id"], **arrays, **masks})

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """The figures over all pictures."""
        classes = self.classes or tuple((self.dataset_meta or {})["classes"])
        truth = read_annotations(self.ann_file, self.image_ids)
        masks = any("masks" in item for item in results)
        if masks:
            self._require_masks(truth)
        else:
            for annotation in truth["annotations"]:
                annotation.pop("segmentation", None)  # most of a file's size, and nothing here reads it
        detections = coco_results(results, class_ids(truth, classes))
        if self.outfile:
            Path(self.outfile).write_text(json.dumps(detections), encoding="utf-8")
        missed = {image["id"] for image in truth["images"]} - {item["img_id"] for item in results}
        if missed:
            _log.warning(
                "%d of %d pictures of %s were not looked at; what they show counts as missed",
                len(missed),
                len(truth["images"]),
                self.ann_file,
            )
        self.evaluation = evaluate_boxes(truth, detections, self.novel, federated=self.federated)
        figures = dict(self.evaluation.figures)
        if masks:
            outlined = evaluate_boxes(truth, detections, self.novel, federated=self.federated, masks=True)
            figures |= {f"mask_{name}": value for name, value in outlined.figures.items()}
        return figures

    def _require_masks(self, truth: Mapping[str, Any]) -> None:
        bare = [item["id"] for item in truth["annotations"] if not item.get("segmentation")]
        if bare:
            raise Fgclip2Error(
                f"{self.ann_file}: {len(bare)} annotations have no 'segmentation', the first has id {bare[0]}; this "
                "detector's masks cannot be judged by it: add masks, or take a config without mask_head"
            )


@METRICS.register_module()
class OpenVocabLvisMetric(OpenVocabCocoMetric):
    """LVIS's AP: 300 detections a picture, counted only for the classes that annotators looked for in it.

    Args:
        ann_file: LVIS JSON, such as ``lvis_v1_val.json`` or one of minival.
        novel: names of the novel classes; ``None`` takes the rare ones, so that base classes are common and frequent.
        *args: as `OpenVocabCocoMetric`.
        **kwargs: the same; ``image_ids`` is another way to minival.

    Metrics are those of `OpenVocabCocoMetric`, and under their usual names ``AP``, ``AP50``, and ``APr``, ``APc``,
    ``APf`` of rare, common and frequent classes.
    """

    federated: ClassVar[bool] = True

    def __init__(self, ann_file: str, novel: Sequence[str] | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(ann_file, novel, *args, **kwargs)


def coco_results(results: Sequence[Mapping[str, Any]], ids: Sequence[int]) -> list[dict[str, Any]]:
    """Predictions as COCO results, whose boxes are x, y, width, height.

    Args:
        results: of each picture ``img_id``, and ``bboxes`` xyxy, ``scores``, ``labels``, and run lengths ``masks``, if
            there are any, of its detections.
        ids: category id of every label.
    """
    return [
        {
            "image_id": item["img_id"],
            "category_id": ids[int(label)],
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(score),
            **mask,
        }
        for item in results
        for (x1, y1, x2, y2), score, label, mask in zip(
            item["bboxes"], item["scores"], item["labels"], _segmentations(item), strict=True
        )
    ]


def _segmentations(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of every detection of a picture, its mask as an entry of a result; nothing where there are no masks."""
    masks = item.get("masks")
    return [{} for _ in item["scores"]] if masks is None else [{"segmentation": mask} for mask in masks]
