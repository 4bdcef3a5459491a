"""What a run leaves for people: the table of figures, and pictures with segments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from fgclip2.visualize import draw_segmentation

from .datasets import SegmentationSet, segmentation_set
from .engine import CONTROL
from .masks import IGNORE
from .segmentor import OpenVocabSegmentor

TITLES: Final = {
    "en": "English names",
    "zh": "Chinese names",
    "names": "class names",
    CONTROL: "control: names shuffled",
    "training-free (en)": "training-free, English names",
    "training-free (zh)": "training-free, Chinese names",
    "training-free (names)": "training-free",
}
_COLUMNS: Final = ("mIoU_base", "mIoU_novel", "mIoU_all", "mIoU")
_SHOWN_SIDE: Final = 480  # pixels; letters on smaller pictures are hard to read


def figures_table(dataset: str, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Mean IoU of every vocabulary over base, novel and all classes.

    Args:
        dataset: for the numbers of classes.
        figures: vocabulary -> figure -> 0..100, of `fgclip2_detectron2.engine.evaluate`.
    """
    data = segmentation_set(dataset)
    table = Table(title=f"Segmentation on {dataset} (mean IoU, in %)")
    table.add_column("vocabulary")
    base, novel = len(data.base), len(data.novel)
    titles = [f"base ({base})", f"novel ({novel})", f"all ({base + novel})", "with background"]
    columns = _COLUMNS if data.background else _COLUMNS[:3]
    for title in titles[: len(columns)]:
        table.add_column(title, justify="right")
    for vocabulary, values in figures.items():
        cells = [values[name] for name in columns]
        table.add_row(
            TITLES.get(vocabulary, vocabulary), *("-" if math.isnan(cell) else f"{cell:.1f}" for cell in cells)
        )
    return table


@torch.no_grad()
def draw_predictions(
    segmentor: OpenVocabSegmentor, records: Iterable[Mapping[str, Any]], data: SegmentationSet, directory: Path
) -> list[Path]:
    """Segment pictures and draw them: the truth, then one panel a language.

    Args:
        segmentor: in evaluation mode, with the vocabularies of ``data``.
        records: from `SegmentationMapper`.
        data: names and truth's labels.
        directory: for ``0.jpg``, ``1.jpg``, ...; made when missing.

    Returns:
        The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    segmentor.eval()
    files = []
    for index, record in enumerate(records):
        (found,) = segmentor([record])
        picture = Image.fromarray(record["image"].permute(1, 2, 0).numpy()).resize((record["width"], record["height"]))
        truth = record["sem_seg"].numpy()
        truth = np.where((truth == IGNORE) | (truth == len(data.main)), -1, truth)
        panels = [_panel(picture, truth, data.main)]
        panels += [_panel(picture, found["labels"][key].cpu().numpy(), names) for key, names in data.names.items()]
        file = directory / f"{index}.jpg"
        _beside(panels).save(file, quality=92)
        files.append(file)
    return files


def _panel(picture: Image.Image, labels: np.ndarray, names: tuple[str, ...]) -> Image.Image:
    scale = max(1, round(_SHOWN_SIDE / max(picture.size)))
    large = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)
    return draw_segmentation(large, labels.repeat(scale, 0).repeat(scale, 1), names)


def _beside(panels: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(panel.width for panel in panels), max(panel.height for panel in panels)), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width
    return sheet
