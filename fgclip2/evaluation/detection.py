"""Open-vocabulary detection: LVIS AP of a results file, or of a frozen detector's boxes that FG-CLIP 2 names anew."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from fgclip2.data.coco_results import ImageResults, load_results, save_results
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.readers.boxes import image_name
from fgclip2.evaluation.readers.files import entry, read_object
from fgclip2.evaluation.records import Truth
from fgclip2.evaluation.scores import Metric, Scores, Settings
from fgclip2.evaluation.templates import BARE, IMAGENET

MAX_DETECTIONS: Final = 300
"""A picture, all classes together, as in LVIS."""

_FREQUENCIES: Final = {"ap_rare": "r", "ap_common": "c", "ap_frequent": "f"}


class Detection:
    """``PREDICTIONS/NAME.json`` is judged as it is. ``PREDICTIONS/NAME.boxes.json``, results of a frozen detector, goes
    through the paper's protocol first: softmax over cosines to all classes, geometric mean with the detector's score,
    best class. What comes out stands beside it as ``NAME.fused.json``, and is judged.
    """

    def __init__(self, benchmark: Benchmark, root: Path, settings: Settings) -> None:
        self.settings, self.name = settings, benchmark.name
        (truth,) = benchmark.read(root)
        self.truth: Truth = truth
        folder = settings.predictions
        own = None if folder is None else folder / f"{benchmark.name}.json"
        boxes = None if folder is None else folder / f"{benchmark.name}.boxes.json"
        if own is None or boxes is None or not (own.is_file() or boxes.is_file()):
            raise Fgclip2Error(
                f"{benchmark.name}: there are no detections; give --predictions FOLDER with {benchmark.name}.json (a "
                f"COCO results file), or with {benchmark.name}.boxes.json (a frozen detector's, to be named anew)"
            )
        self.results = own if own.is_file() else boxes
        self.fuse = not own.is_file()

    def wants(self) -> Wants:
        """Nothing: dense maps of whole sets are too large to keep, and each is needed once."""
        return Wants()

    def score(self, encoder: Encoder) -> Scores:
        """AP over all classes, and over rare, common and frequent ones."""
        truth = read_object(self.truth.annotation_file, "images", "annotations", "categories")
        found = _load(self.results, truth)
        failures: tuple[tuple[str, str], ...] = ()
        metrics: dict[str, Metric] = {}
        if self.fuse:
            metrics |= _metrics(lvis_ap(truth, found), len(truth["images"]), "detector_")
            found, failures = self._fused(truth, found, encoder)
            save_results(self.results.with_name(f"{self.name}.fused.json"), found)
        metrics = _metrics(lvis_ap(truth, found), len(truth["images"])) | metrics
        facts = {"results": self.results.name, "fused": self.fuse, "max_detections": MAX_DETECTIONS}
        return Scores(metrics, failures=failures, facts=facts)

    def _fused(
        self, truth: Mapping[str, Any], found: Mapping[int, ImageResults], encoder: Encoder
    ) -> tuple[dict[int, ImageResults], tuple[tuple[str, str], ...]]:
        from fgclip2.fusion import FusionConfig, FusionRescorer
        from fgclip2.vocabulary import Vocabulary

        ids = np.array([category["id"] for category in truth["categories"]])
        names = [category["name"] for category in truth["categories"]]
        templates = IMAGENET if self.settings.protocol == "released" else BARE
        vocabulary = Vocabulary.build(encoder.model, names, templates)
        rescore = FusionRescorer(encoder.model, vocabulary, FusionConfig(max_detections=MAX_DETECTIONS))
        fused: dict[int, ImageResults] = {}
        failures = []
        for image in tqdm(truth["images"], desc=self.name, unit=" pictures"):
            own = found[image["id"]]
            path = self.truth.image_root / image_name(image, self.truth.annotation_file)
            try:
                new = rescore(path, own.boxes, own.scores)
            except Fgclip2Error as error:
                failures.append((str(path), str(error)))
                fused[image["id"]] = ImageResults(own.boxes[:0], own.scores[:0], own.category_ids[:0])
                continue
            labels = ids[new.labels.cpu().numpy()]
            fused[image["id"]] = ImageResults(new.boxes.cpu().numpy(), new.scores.cpu().numpy(), labels)
        return fused, tuple(failures)


def lvis_ap(truth: Mapping[str, Any], found: Mapping[int, ImageResults]) -> dict[str, float]:
    """LVIS's federated AP (IoU 0.50 to 0.95), in percent, by faster-coco-eval.

    Args:
        truth: an LVIS annotation file.
        found: by picture id; of each picture the best `MAX_DETECTIONS` count.

    Returns:
        ``ap``, ``ap50``, and ``ap_rare``, ``ap_common``, ``ap_frequent``; NaN for a group without annotations.

    Raises:
        Fgclip2Error: faster-coco-eval is not installed, or categories have no frequency.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise Fgclip2Error("AP is computed by faster-coco-eval: pip install 'faster-coco-eval>=1.6'") from error
    categories = [entry(item, "categories", "id", "name", "frequency") for item in truth["categories"]]
    # Ids from 1: the evaluator marks unmatched objects with 0.
    annotations = [{"iscrowd": 0, **item, "id": number} for number, item in enumerate(truth["annotations"], start=1)]
    full = {"info": {}, "licenses": [], **truth, "annotations": annotations}
    detections = _detections(found)
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(full)
        given = ground.loadRes(detections) if detections else COCO({**full, "annotations": []})
        evaluation = COCOeval_faster(ground, given, "bbox", lvis_style=True)
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # (IoU thresholds, recalls, classes), -1 without annotations
    frequency = {item["id"]: item["frequency"] for item in categories}
    by_class = np.array([frequency[category] for category in evaluation.params.catIds])
    figures = {"ap": _mean(precision), "ap50": _mean(precision[:1])}
    return figures | {name: _mean(precision[..., by_class == code]) for name, code in _FREQUENCIES.items()}


def _load(file: Path, truth: Mapping[str, Any]) -> dict[int, ImageResults]:
    """`load_results`, whose data set needs no more than ids here."""
    from fgclip2.data.coco import CocoDataset, CocoImage

    images = tuple(CocoImage(item["id"], "", item.get("width", 0), item.get("height", 0)) for item in truth["images"])
    return load_results(file, CocoDataset(file, file.parent, images, (), ()))


def _detections(found: Mapping[int, ImageResults]) -> list[dict[str, Any]]:
    rows = []
    for image, results in found.items():
        best = np.argsort(-results.scores, kind="stable")[:MAX_DETECTIONS]
        for (x1, y1, x2, y2), score, category in zip(
            results.boxes[best].tolist(),
            results.scores[best].tolist(),
            results.category_ids[best].tolist(),
            strict=True,
        ):
            rows.append(
                {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            )
    return rows


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else float("nan")


def _metrics(figures: Mapping[str, float], count: int, prefix: str = "") -> dict[str, Metric]:
    """No interval: AP is no mean over pictures, and computing it a thousand times takes hours."""
    return {f"{prefix}{name}": Metric(value, count) for name, value in figures.items()}
