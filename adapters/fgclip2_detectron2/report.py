"""What a run leaves for people: the table of figures, and pictures with segments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from fgclip2.evaluation.average_precision import FREQUENCIES
from fgclip2.files import set_aside
from fgclip2.visualize import draw_masks, draw_segmentation

from .checkpoint import Model
from .datasets import ClassSet, SegmentationSet, class_set
from .engine import CONTROL
from .instance_inference import SURE
from .instances import InstanceSet
from .masks import IGNORE

TITLES: Final = {
    "en": "English names",
    "zh": "Chinese names",
    "names": "class names",
    CONTROL: "control: names shuffled",
    "training-free (en)": "training-free, English names",
    "training-free (zh)": "training-free, Chinese names",
    "training-free (names)": "training-free",
}
_INSTANCE_COLUMNS: Final = {"mask_AP": "mask AP", "mask_AP50": "mask AP50", "box_AP": "box AP"}
_SHOWN_SIDE: Final = 480  # pixels; letters on smaller pictures are hard to read


def figures_table(dataset: str, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Mean IoU, or AP, of every vocabulary over all classes, and over base and novel ones where there are novel ones.

    Heads count the classes that were judged: those that a picture shows.

    Args:
        dataset: for the numbers of classes.
        figures: vocabulary -> figure -> 0..100, of `fgclip2_detectron2.engine.evaluate`.
    """
    data = class_set(dataset)
    base, novel = len(data.base), len(data.novel)
    groups = {"base": base, "novel": novel, "all": base + novel} if novel else {"all": base}
    pixels = isinstance(data, SegmentationSet)
    kinds = {"mIoU": ""} if pixels else _INSTANCE_COLUMNS
    judged = next(iter(figures.values()), {})
    columns = {
        f"{kind}_{group}": f"{title} {group} ({_of(judged, group, count)})".strip()
        for kind, title in kinds.items()
        for group, count in groups.items()
    }
    marks = data.lvis if isinstance(data, InstanceSet) else None
    if marks is not None:
        columns |= {
            f"mask_{name}": f"mask {name} ({_of(judged, name, marks.frequencies.count(mark))})"
            for mark, name in FREQUENCIES.items()
        }
    if pixels and data.background:
        columns["mIoU"] = "with background"
    measure = "mean IoU" if pixels else "COCO AP" if marks is None else "LVIS AP"
    table = Table(title=f"Segmentation on {dataset} ({measure}, in %)")
    grid = [["", *columns.values()]]
    for vocabulary, values in figures.items():
        cells = [values[name] for name in columns]
        grid.append(
            [TITLES.get(vocabulary, vocabulary), *("-" if math.isnan(cell) else f"{cell:.1f}" for cell in cells)]
        )
    # The longer side goes down: many vocabularies with few figures, or three with nine or more.
    head, *rows = grid if pixels else zip(*grid, strict=True)
    for title in head:
        table.add_column(title, justify="right" if title else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _of(figures: Mapping[str, float], group: str, count: int) -> str:
    """How many classes were judged, and of how many where some were not shown."""
    judged = int(figures.get(f"classes_{group}", count))
    return str(count) if judged == count else f"{judged} of {count}"


@torch.no_grad()
def draw_predictions(
    segmentor: Model, records: Iterable[Mapping[str, Any]], data: ClassSet, directory: Path
) -> list[Path]:
    """Segment pictures and draw them: the truth, then one panel a language.

    Args:
        segmentor: with the vocabularies of ``data``.
        records: from the mapper of ``data``.
        data: names and truth's labels.
        directory: for one JPEG an image, called by its name (``0.jpg``, ``1.jpg``, ... of generated scenes); made when
            missing. Drawings of an earlier run are moved into a folder of their own.

    Returns:
        The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    set_aside(directory, ("*.jpg",))
    segmentor.eval()
    files: list[Path] = []
    for index, record in enumerate(records):
        (found,) = segmentor([record])
        picture = Image.fromarray(record["image"].permute(1, 2, 0).numpy()).resize((record["width"], record["height"]))
        panels = _instance_panels if isinstance(data, InstanceSet) else _label_panels
        file = _free(directory, Path(str(record.get("file_name", index))).stem, files)
        _beside(panels(picture, record, found, data)).save(file, quality=92)
        files.append(file)
    return files


def _free(directory: Path, stem: str, taken: Sequence[Path]) -> Path:
    """A place for a drawing that no other drawing has; names that differ in case are one on some disks."""
    known = {path.name.lower() for path in taken}
    file, number = directory / f"{stem}.jpg", 1
    while file.name.lower() in known:
        number += 1
        file = directory / f"{stem}-{number}.jpg"
    return file


def _label_panels(
    picture: Image.Image, record: Mapping[str, Any], found: Mapping[str, Any], data: ClassSet
) -> list[Image.Image]:
    truth = record["sem_seg"].numpy()
    truth = np.where((truth == IGNORE) | (truth == len(data.main)), -1, truth)
    panels = [_panel(picture, truth, data.main)]
    return panels + [_panel(picture, found["labels"][key].cpu().numpy(), names) for key, names in data.names.items()]


def _instance_panels(
    picture: Image.Image, record: Mapping[str, Any], found: Mapping[str, Any], data: ClassSet
) -> list[Image.Image]:
    things = record["things"]
    labels = [data.main[thing.label] for thing in things]
    panels = [_masks_panel(picture, [thing.mask for thing in things], labels, data.main)]
    for key, names in data.names.items():
        sure = found["instances"][key].to("cpu")
        sure = sure[sure.scores >= SURE]
        panels.append(
            _masks_panel(picture, list(sure.pred_masks.numpy()), [names[k] for k in sure.pred_classes.tolist()], names)
        )
    return panels


def _masks_panel(picture: Image.Image, masks: list[np.ndarray], labels: list[str], names: Sequence[str]) -> Image.Image:
    scale = max(1, round(_SHOWN_SIDE / max(picture.size)))
    large = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)
    enlarged = np.stack([mask.repeat(scale, 0).repeat(scale, 1) for mask in masks]) if masks else np.zeros((0, 1, 1))
    return draw_masks(large, enlarged, labels, names=names)


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
