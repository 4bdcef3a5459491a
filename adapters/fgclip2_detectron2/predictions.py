"""Label maps on disk for ``fgclip2 eval --predictions``: classes numbered from 0, a PNG a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.segmentation import BACKGROUND

from .datasets import segmentation_set

BENCHMARKS: Final = {f"{name}_val": name for name in ("voc20", "voc21", "pc59", "pc459")} | {
    "ade150_val": "a150",
    "ade847_val": "a847",
}
"""Registered data set -> what ``fgclip2 eval`` calls it; the folder of any other bears its own name."""


class PredictionWriter(DatasetEvaluator):
    """Writes what a segmentor predicts as ``FOLDER/NAME/STEM.png``, on every rank its own pictures.

    Values are class numbers from 0; where the data set has a background, it is the number after the last class. Pixels
    without a class are 255; with more than 255 numbers pictures have 16 bit, and these pixels 65,535.

    Args:
        dataset: name of the registered set.
        folder: made when missing; files there are replaced.
        vocabulary: which of the segmentor's vocabularies to write; ``None`` takes the set's first language.

    Raises:
        Fgclip2Error: the data set has instances, or is none, or has two pictures of one name.
    """

    def __init__(self, dataset: str, folder: str | Path, vocabulary: str | None = None) -> None:
        self.data = segmentation_set(dataset)
        self.vocabulary = next(iter(self.data.names)) if vocabulary is None else vocabulary
        self.folder = Path(folder) / BENCHMARKS.get(dataset, dataset)
        pictures: dict[str, str] = {}  # stem -> picture
        for record in DatasetCatalog.get(dataset):
            picture = _picture(record)
            if pictures.setdefault(Path(picture).stem, picture) != picture:
                raise Fgclip2Error(
                    f"{pictures[Path(picture).stem]!r} and {picture!r} have one name, and label maps are called by it "
                    "alone; give pictures names of their own"
                )

    def reset(self) -> None:
        """Nothing: files are written as they come."""

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Write one batch.

        Args:
            inputs: records, with ``file_name`` or, where pictures are drawn, ``image_id``.
            outputs: of the segmentor, ``labels`` ``(H, W)`` by vocabulary.

        Raises:
            Fgclip2Error: a place that cannot be written.
        """
        for record, output in zip(inputs, outputs, strict=True):
            target = self.folder / f"{Path(_picture(record)).stem}.png"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.picture(output["labels"][self.vocabulary].cpu().numpy()).save(target)
            except OSError as error:
                raise Fgclip2Error(f"{target} cannot be written ({error}); give another --predictions") from error

    def picture(self, labels: np.ndarray) -> Image.Image:
        """Labels ``(H, W)``, -1 for background, as an index picture."""
        count = len(self.data.main)
        small = count + self.data.background <= 255
        nothing = count if self.data.background else (255 if small else 65_535)
        values = np.where(labels == BACKGROUND, nothing, labels)
        return Image.fromarray(values.astype(np.uint8 if small else np.uint16))

    def evaluate(self) -> None:
        """No figures."""


def _picture(record: Mapping[str, Any]) -> str:
    """What a record's picture is called; drawn ones have numbers only."""
    return str(record.get("file_name", record["image_id"]))
