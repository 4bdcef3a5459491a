"""Mean IoU over base, novel and all classes: detectron2's evaluator for any vocabulary of a segmentor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from fgclip2.errors import Fgclip2Error
from fgclip2.segmentation import BACKGROUND

from .datasets import segmentation_set
from .masks import IGNORE


class OpenVocabSemSegEvaluator(DatasetEvaluator):
    """Gathers a confusion matrix over all ranks; figures are those of detectron2's SemSegEvaluator, and by group.

    Unlike that one it takes labels, so that no score map of hundreds of classes has to be held at the picture's size,
    and reads the truth from the record, where `SegmentationMapper` puts it.

    Figures are 0..100: ``mIoU_base``, ``mIoU_novel``, ``mIoU_all`` (classes with names), ``mIoU`` (the background too,
    where the data set has one), ``fwIoU``, ``pACC``, and ``IoU-NAME``. A class that no picture shows counts in none;
    a group without classes is nan. ``classes_base``, ``classes_novel`` and ``classes_all`` are how many were judged.

    Args:
        dataset: name of the registered set.
        vocabulary: which of the segmentor's vocabularies to read; ``None`` takes the set's first language. It is the
            key of the result.
    """

    def __init__(self, dataset: str, vocabulary: str | None = None) -> None:
        self.data = segmentation_set(dataset)
        self.vocabulary = next(iter(self.data.names)) if vocabulary is None else vocabulary
        self.names = tuple(MetadataCatalog.get(dataset).stuff_classes)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        side = len(self.names) + 1
        self.matrix: np.ndarray = np.zeros((side, side), np.int64)  # predicted, true; the last is "ignored" or "none"

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Count one batch.

        Args:
            inputs: records with ``sem_seg`` ``(H, W)``, the truth at the original size.
            outputs: of the segmentor; or of any detectron2 model, with scores ``sem_seg`` ``(T, H, W)``.

        Raises:
            Fgclip2Error: there is no such vocabulary, or the size is another.
        """
        for record, output in zip(inputs, outputs, strict=True):
            if "labels" not in output:
                predicted = output["sem_seg"].argmax(dim=0)
            elif self.vocabulary in output["labels"]:
                predicted = output["labels"][self.vocabulary]
            else:
                found = ", ".join(output["labels"])
                raise Fgclip2Error(f"no predictions for the vocabulary {self.vocabulary!r}; this model has {found}")
            self.add(predicted.cpu().numpy(), record["sem_seg"].cpu().numpy())

    def add(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Count labels ``(H, W)``; -1 in ``predicted`` is background, ``IGNORE`` in ``truth`` counts nowhere."""
        if predicted.shape != truth.shape:
            raise Fgclip2Error(f"predictions of {predicted.shape} for a truth of {truth.shape}; sizes must be equal")
        last = len(self.names)
        # Without a class for it, the background is predicted nowhere, but still misses the class that is there.
        background = len(self.data.main) if self.data.background else last
        rows = np.where(predicted == BACKGROUND, background, predicted).astype(np.int64)
        columns = np.where(truth == IGNORE, last, truth).astype(np.int64)
        counts = np.bincount((rows * (last + 1) + columns).reshape(-1), minlength=self.matrix.size)
        self.matrix += counts.reshape(self.matrix.shape)

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Figures of all ranks, ``{vocabulary: {figure: value}}``; ``None`` on all ranks but the first."""
        comm.synchronize()
        gathered = comm.gather(self.matrix)
        if not comm.is_main_process():
            return None
        matrix = np.sum(gathered, axis=0)
        counted = matrix[:, :-1]  # pixels with a truth
        hits = counted.diagonal().astype(float)
        true, predicted = counted.sum(axis=0).astype(float), counted.sum(axis=1)[:-1].astype(float)
        iou = np.full(len(self.names), np.nan)
        shown = true > 0
        iou[shown] = hits[shown] / (true + predicted - hits)[shown]
        named = np.arange(len(self.names)) < len(self.data.main)
        base = np.isin(np.arange(len(self.names)), self.data.base)
        groups = {"mIoU_base": base, "mIoU_novel": named & ~base, "mIoU_all": named, "mIoU": np.ones_like(named)}
        figures = {name: _mean(iou[chosen]) for name, chosen in groups.items()}
        for group in ("base", "novel", "all"):
            figures[f"classes_{group}"] = int((groups[f"mIoU_{group}"] & shown).sum())
        total = true.sum()
        figures["fwIoU"] = 100 * float(np.nansum(iou * true) / total) if total else float("nan")
        figures["pACC"] = 100 * float(hits.sum() / total) if total else float("nan")
        figures |= {f"IoU-{name}": 100 * float(value) for name, value in zip(self.names, iou, strict=True)}
        return OrderedDict({self.vocabulary: figures})


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return 100 * float(known.mean()) if known.size else float("nan")
