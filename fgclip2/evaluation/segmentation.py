"""Open-vocabulary segmentation: mIoU of any segmentor, a callable from a picture to its label map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import Benchmark
from fgclip2.evaluation.encoder import Encoder, Wants
from fgclip2.evaluation.metrics import bootstrap, class_iou, label_counts, mean_iou
from fgclip2.evaluation.records import Masked
from fgclip2.evaluation.scores import Metric, Scores, Settings
from fgclip2.evaluation.sharing import Kept, Outcome, digest_of, share
from fgclip2.images import open_image

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

Segmentor: TypeAlias = "Callable[[Image.Image], np.ndarray]"
"""An upright RGB picture to its label map (H, W) of class numbers, at the picture's size."""

_NOTHING = np.iinfo(np.int32).max  # no class number
_UNNAMED = (255, 65_535)  # what label maps of 8 and of 16 bit have for pixels of no class
_FORM = "1"  # of what is kept; another form is computed again


@dataclass(frozen=True)
class SegmentationCounts:
    """Pixels by class, picture by picture.

    Attributes:
        counts: (N, 3, C), see `label_counts`.
        failures: pictures without a prediction, and why; all their pixels are missed.
    """

    counts: np.ndarray
    failures: tuple[tuple[str, str], ...]


class Segmentation:
    """mIoU over the classes that occur in the truth; pixels without a true class are not judged.

    Label maps are read from ``PREDICTIONS/NAME/STEM.png``, written by a segmentor elsewhere (8 or 16 bit, classes
    numbered from 0). Without such a folder the model's own dense map is taken, every pixel its nearest class name: that
    is without training, and not what the published figures are of, CAT-Seg. Processes share the pictures then, and what
    was counted of each is kept beside the features.

    With background (VOC-21) the names from number 20 on are words for what is not one of the 20, and count as one.
    """

    def __init__(self, benchmark: Benchmark, root: Path, settings: Settings) -> None:
        if benchmark.classes is None or benchmark.count is None:
            raise Fgclip2Error(f"{benchmark.name} has no classes")
        self.settings, self.count, self.background = settings, benchmark.count, benchmark.name == "voc21"
        self.names = benchmark.classes(root)
        self.records: list[Masked] = list(benchmark.read(root))
        if not self.records:
            raise Fgclip2Error(f"{benchmark.name}: there are no label maps in {root}")
        self.predictions = None if settings.predictions is None else settings.predictions / benchmark.name
        if self.predictions is not None and not self.predictions.is_dir():
            self.predictions = None
        self.counted: SegmentationCounts | None = None

    def wants(self) -> Wants:
        """Nothing: dense maps of whole sets are too large to keep, and each is needed once."""
        return Wants()

    def share(self, encoder: Encoder) -> None:
        """Count the pixels of all pictures; called by all processes of a run.

        Raises:
            Fgclip2Error: a true label map cannot be read, or predicted ones number the classes in another way.
        """
        if (folder := self.predictions) is not None:
            # Reading again what other programs wrote takes no longer than reading what was kept of it.
            self.counted = count_pixels(
                self.records,
                lambda record: read_predicted(folder / f"{record.mask.stem}.png", len(self.names)),
                self.count,
                rest_is_last=self.background,
            )
            return
        segmentor = cache(lambda: nearest_class(encoder.model, self.names))  # not needed when all counts are there
        how = digest_of("segmentation", _FORM, str(self.count), str(self.background), *self.names)

        def key(record: Masked) -> bytes:
            return digest_of(how, record.image.read_bytes(), record.mask.read_bytes())

        self.counted = count_pixels(
            self.records,
            lambda record: segmentor()(open_image(record.image)),
            self.count,
            rest_is_last=self.background,
            key=key,
            kept=encoder.kept,
        )

    def score(self, encoder: Encoder) -> Scores:
        """mIoU of what was counted."""
        if self.counted is None:
            self.share(encoder)
        found, folder = self.counted, self.predictions
        assert found is not None
        names = [f"{number} {name}" for number, name in enumerate(self.names[: self.count])]
        by_class = class_iou(found.counts.sum(0))
        breakdown = {
            "class": {name: 100 * value for name, value in zip(names, by_class.tolist(), strict=True) if value == value}
        }
        facts = {"segmentor": "nearest class of the dense map" if folder is None else str(folder)}
        metrics = {"miou": self._metric(found.counts)}
        return Scores(metrics, breakdown, found.failures, facts, comparable=folder is not None)

    def _metric(self, counts: np.ndarray) -> Metric:
        flat = counts.reshape(len(counts), -1)
        interval = bootstrap(
            lambda weights: mean_iou((weights @ flat).reshape(-1, 3, self.count)),
            len(counts),
            self.settings.samples,
            self.settings.seed,
        )
        return Metric(float(mean_iou(counts.sum(0))), len(counts), interval)


class NumberingError(Fgclip2Error):
    """Predicted label maps number the classes in another way, all of them: no result is better than one of that."""


def count_pixels(
    records: Sequence[Masked],
    predict: Callable[[Masked], Any],
    classes: int,
    rest_is_last: bool = False,
    *,
    key: Callable[[Masked], bytes] | None = None,
    kept: Kept | None = None,
) -> SegmentationCounts:
    """Compare predictions with label maps; under torchrun all processes share them.

    Args:
        records: N pictures and their true label maps.
        predict: a record to its label map (H, W).
        classes: C.
        rest_is_last: predicted numbers from C on mean class C - 1, background; else they mean nothing.
        key: of all that the counts of a record depend on, see `fgclip2.evaluation.sharing.share`.
        kept: where counts stay.

    Returns:
        Of all pictures on the first process; of none on the others.

    Raises:
        Fgclip2Error: a true label map cannot be read: without it there is nothing to judge by. Or `NumberingError`.
    """

    def counted(record: Masked) -> Outcome:
        truth, failure = read_labels(record.mask), None
        try:
            labels = np.asarray(predict(record))
            if labels.shape != truth.shape:
                raise Fgclip2Error(f"a label map of shape {labels.shape}, the true one has {truth.shape}")
            labels = np.minimum(labels, classes - 1) if rest_is_last else labels
        except NumberingError:
            raise
        except Fgclip2Error as error:
            failure = str(error)
            labels = np.full(truth.shape, _NOTHING)
        return Outcome(label_counts(labels, truth, classes), failure)

    found = share(records, counted, key, kept, "label maps")
    if not found:
        return SegmentationCounts(np.zeros((0, 3, classes), np.int64), ())
    failures = tuple(
        (str(record.image), outcome.failure)
        for record, outcome in zip(records, found, strict=True)
        if outcome.failure is not None
    )
    return SegmentationCounts(np.stack([outcome.values for outcome in found]), failures)


def nearest_class(model: FGCLIP2, names: Sequence[str]) -> Segmentor:
    """A segmentor without training: every pixel gets the class name nearest to the dense map there.

    Args:
        model: FG-CLIP 2.
        names: of classes; several words for one class, apart by commas, are taken together.
    """
    texts = model.text_features([name.replace(",", ", ") for name in names], kind="box")

    def segment(image: Image.Image) -> np.ndarray:
        features = model.dense_features(image)
        coarse = features.similarity(texts)  # (C, h, w)
        labels = torch.empty(image.height, image.width, dtype=torch.int32)
        for top in range(0, image.height, 64):  # in strips, or 847 classes fill the memory
            labels[top : top + 64] = _strip(coarse, image.size, top).argmax(0)
        return labels.numpy()

    return segment


def _strip(coarse: torch.Tensor, size: tuple[int, int], top: int) -> torch.Tensor:
    """Rows ``top`` to ``top + 64`` of the bilinear enlargement of (C, h, w) to a picture's size (width, height)."""
    width, height = size
    rows = torch.arange(top, min(top + 64, height), device=coarse.device)
    y = (2 * rows + 1) / height - 1
    x = (2 * torch.arange(width, device=coarse.device) + 1) / width - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
    return torch.nn.functional.grid_sample(
        coarse[None], grid.to(coarse), mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def read_labels(file: Path) -> np.ndarray:
    """A label map (H, W) int32 from a picture of one channel, 8 or 16 bit, palettes by number.

    Raises:
        Fgclip2Error: it is missing, damaged, or has colours.
    """
    try:
        with Image.open(file) as opened:
            labels = np.asarray(opened)
    except (OSError, SyntaxError, ValueError) as error:
        raise Fgclip2Error(f"the label map {file} cannot be read ({error})") from error
    if labels.ndim != 2:
        raise Fgclip2Error(f"the label map {file} has shape {labels.shape}; wanted is one channel of class numbers")
    return labels.astype(np.int32)


def read_predicted(file: Path, names: int) -> np.ndarray:
    """A predicted label map (H, W) int32, classes numbered from 0; 255 (8 bit) or 65,535 is no class.

    Args:
        file: see `read_labels`.
        names: how many class names there are.

    Raises:
        Fgclip2Error: it cannot be read.
        NumberingError: it has a number that no class has, so that classes are numbered from 1, or are others.
    """
    labels = read_labels(file)
    none = [value for value in _UNNAMED if value >= names]
    highest = int(labels[~np.isin(labels, none)].max(initial=-1))
    if highest >= names:
        raise NumberingError(
            f"the label map {file} has the number {highest}; the {names} classes are numbered 0 to {names - 1}, and "
            f"{' or '.join(map(str, none))} is for pixels of no class. Index pictures of seg_predict.py have 0 for "
            "nothing and k + 1 for class k: write maps for this with seg_train.py --eval-only --predictions, or take 1 "
            "from every value"
        )
    return labels
