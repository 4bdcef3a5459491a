"""Open-vocabulary detection: LVIS AP of a results file, or of a frozen detector's boxes that FG-CLIP 2 names anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fgclip2.data.coco_results import ImageResults, load_results, save_results
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.readers.boxes import image_name
from fgclip2.evaluation.readers.files import entry, read_object
from fgclip2.evaluation.records import Truth
from fgclip2.evaluation.scores import Metric, Scores, Settings
from fgclip2.evaluation.sharing import Outcome, digest_of, share
from fgclip2.evaluation.templates import BARE, IMAGENET
from fgclip2.extras import extras

if TYPE_CHECKING:
    from fgclip2.evaluation.average_precision import Evaluation

_FIXED: Final = "fixed: the 10,000 best detections of a class over the whole set, any number of a picture"
_ORDINARY: Final = "the 300 best detections of a picture"
_NAMES: Final = {"ap": "AP", "ap50": "AP50", "ap_rare": "APr", "ap_common": "APc", "ap_frequent": "APf"}
_EVERY_BOX: Final = 10**9  # of a picture: fixed AP knows no limit there
_FORM: Final = "1"  # of what is kept; another form is computed again


class Detection:
    """``PREDICTIONS/NAME.json`` is judged as it is. ``PREDICTIONS/NAME.boxes.json``, results of a frozen detector, goes
    through the paper's protocol first: softmax over cosines to all classes, geometric mean with the detector's score,
    best class. What comes out stands beside it as ``NAME.fused.json``, and is judged. Processes share the pictures, and
    what each came to is kept beside the features.

    The published figures are fixed AP, as those of the detector that the paper takes (LLMDet) are; the ordinary AP is
    told as well.
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
        self._read: tuple[dict[str, Any], dict[int, ImageResults]] | None = None
        self._fused: list[Outcome] | None = None

    def wants(self) -> Wants:
        """Nothing: dense maps of whole sets are too large to keep, and each is needed once."""
        return Wants()

    def share(self, encoder: Encoder) -> None:
        """Name a frozen detector's boxes anew; called by all processes of a run.

        Raises:
            Fgclip2Error: the annotations or the boxes cannot be read.
        """
        if not self.fuse:
            return
        truth, found = self._read = self._load()
        how, compute = self._naming(truth, found, encoder)

        def key(image: Mapping[str, Any]) -> bytes:
            own = found[image["id"]]
            return digest_of(how, self._path(image).read_bytes(), own.boxes.tobytes(), own.scores.tobytes())

        self._fused = share(truth["images"], compute, key, encoder.kept, self.name)
        if not self._fused:  # not the first process, which alone needs them again
            self._read = None

    def score(self, encoder: Encoder) -> Scores:
        """AP over all classes, and over rare, common and frequent ones, and of every class."""
        if self.fuse and self._fused is None:
            self.share(encoder)
        truth, found = self._read or self._load()
        facts = {"results": self.results.name, "fused": self.fuse, "ap": _FIXED, "ordinary_ap": _ORDINARY}
        failures: tuple[tuple[str, str], ...] = ()
        detector: dict[str, Metric] = {}
        if self._fused is not None:
            if _without_classes(truth, found, self.results):
                facts["detector_ap"] = "none: the boxes have no classes of the detector's own"
            else:
                detector = _metrics(lvis_evaluation(truth, found), "detector_")
            found, failures = self._named(truth, self._fused)
            save_results(self.results.with_name(f"{self.name}.fused.json"), found)
        fixed = lvis_evaluation(truth, found)
        ordinary = _metrics(lvis_evaluation(truth, found, fixed=False), "ordinary_")
        facts["most_of_a_picture"] = max((len(own) for own in found.values()), default=0)
        self._read = self._fused = None  # LVIS val's are millions
        breakdown = {"class": _by_class(fixed)}
        return Scores(_metrics(fixed) | ordinary | detector, breakdown, failures, facts)

    def _load(self) -> tuple[dict[str, Any], dict[int, ImageResults]]:
        truth = read_object(self.truth.annotation_file, "images", "annotations", "categories")
        return truth, _results(self.results, truth)

    def _path(self, image: Mapping[str, Any]) -> Path:
        return self.truth.image_root / image_name(image, self.truth.annotation_file, self.truth.image_root)

    def _naming(
        self, truth: Mapping[str, Any], found: Mapping[int, ImageResults], encoder: Encoder
    ) -> tuple[bytes, Callable[[Mapping[str, Any]], Outcome]]:
        """What names one picture's boxes, to (K, 6): x1, y1, x2, y2, score, number of the class; and what it depends on
        beside the model, picture and boxes.
        """
        from fgclip2.fusion import FusionConfig, FusionRescorer
        from fgclip2.vocabulary import Vocabulary

        names = [str(category["name"]) for category in truth["categories"]]
        templates = IMAGENET if self.settings.protocol == "released" else BARE
        config = FusionConfig(max_detections=_EVERY_BOX)

        @cache  # and not made when everything was kept
        def rescorer() -> FusionRescorer:
            return FusionRescorer(encoder.model, Vocabulary.build(encoder.model, names, templates), config)

        def compute(image: Mapping[str, Any]) -> Outcome:
            own = found[image["id"]]
            try:
                new = rescorer()(self._path(image), own.boxes, own.scores)
            except Fgclip2Error as error:
                return Outcome(np.zeros((0, 6)), str(error))
            columns = (new.boxes, new.scores[:, None], new.labels[:, None])
            return Outcome(np.concatenate([column.cpu().numpy().astype(np.float64) for column in columns], 1))

        return digest_of("detection", _FORM, repr(config), json.dumps([names, templates])), compute

    def _named(
        self, truth: Mapping[str, Any], outcomes: list[Outcome]
    ) -> tuple[dict[int, ImageResults], tuple[tuple[str, str], ...]]:
        """Results by picture id, and what could not be used."""
        ids = np.array([category["id"] for category in truth["categories"]])
        results, failures = {}, []
        for image, outcome in zip(truth["images"], outcomes, strict=True):
            boxes, scores, labels = np.split(outcome.values, [4, 5], axis=1)
            results[image["id"]] = ImageResults(
                boxes.astype(np.float32), scores[:, 0].astype(np.float32), ids[labels[:, 0].astype(np.int64)]
            )
            if outcome.failure is not None:
                failures.append((str(self._path(image)), outcome.failure))
        return results, tuple(failures)


def lvis_evaluation(truth: Mapping[str, Any], found: Mapping[int, ImageResults], *, fixed: bool = True) -> Evaluation:
    """Detections compared with LVIS annotations, by faster-coco-eval.

    Args:
        truth: an LVIS annotation file.
        found: by picture id.
        fixed: see `fgclip2.evaluation.average_precision.evaluate_boxes`; else 300 detections of a picture count.

    Raises:
        Fgclip2Error: faster-coco-eval is not installed, an entry of the file lacks something, or a detection is of a
            class that the file does not have.
    """
    with extras("mmdet"):
        from fgclip2.evaluation.average_precision import evaluate_boxes
    for kind, keys in {
        "images": ("id",),
        "categories": ("id", "name", "frequency"),
        "annotations": ("image_id", "category_id", "bbox"),
    }.items():
        for item in truth[kind]:
            entry(item, kind, *keys)
    return evaluate_boxes(truth, _detections(found), federated=True, fixed=fixed)


def lvis_ap(truth: Mapping[str, Any], found: Mapping[int, ImageResults], *, fixed: bool = True) -> dict[str, float]:
    """LVIS's federated AP (IoU 0.50 to 0.95), in percent.

    Args and Raises: as `lvis_evaluation`.

    Returns:
        ``ap``, ``ap50``, and ``ap_rare``, ``ap_common``, ``ap_frequent``; NaN for a group without annotations.
    """
    figures = lvis_evaluation(truth, found, fixed=fixed).figures
    return {name: figures[theirs] for name, theirs in _NAMES.items()}


def _results(file: Path, truth: Mapping[str, Any]) -> dict[int, ImageResults]:
    """`load_results`, whose data set needs no more than ids here."""
    from fgclip2.data.coco import CocoDataset, CocoImage

    images = tuple(CocoImage(item["id"], "", item.get("width", 0), item.get("height", 0)) for item in truth["images"])
    return load_results(file, CocoDataset(file, file.parent, images, (), ()))


def _without_classes(truth: Mapping[str, Any], found: Mapping[int, ImageResults], file: Path) -> bool:
    """Whether boxes have `fgclip2.data.coco_results.NO_CLASS` in place of a class, all of them."""
    from fgclip2.data.coco_results import NO_CLASS

    known = {category["id"] for category in truth["categories"]}
    given = {number for own in found.values() for number in own.category_ids.tolist()}
    if given == {NO_CLASS} and NO_CLASS not in known:
        return True
    foreign = sorted(given - known)
    if foreign:
        raise Fgclip2Error(
            f"{file} has boxes of category {foreign[0]}, which the annotation file does not have; give LVIS's ids, or "
            f"{NO_CLASS} for every box when the detector has other classes"
        )
    return False


def _detections(found: Mapping[int, ImageResults]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for image, own in found.items()
        for (x1, y1, x2, y2), score, category in zip(
            own.boxes.tolist(), own.scores.tolist(), own.category_ids.tolist(), strict=True
        )
    ]


def _by_class(evaluation: Evaluation) -> dict[str, float]:
    """AP of every class that is annotated anywhere, by its name."""
    names = {category["id"]: str(category["name"]) for category in evaluation.truth["categories"]}
    table = evaluation.table
    rows = zip(table.category_ids.tolist(), table.by_class().tolist(), strict=True)
    return {names[number]: value for number, value in rows if value == value}


def _metrics(evaluation: Evaluation, prefix: str = "") -> dict[str, Metric]:
    """No interval: AP is no mean over pictures, and computing it a thousand times takes hours."""
    count = len(evaluation.truth["images"])
    return {f"{prefix}{name}": Metric(evaluation.figures[theirs], count) for name, theirs in _NAMES.items()}
