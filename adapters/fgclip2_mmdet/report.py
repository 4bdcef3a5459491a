"""What a run leaves for people: the table of figures, metrics.json, pictures with detections, curves and errors."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from rich.table import Table

from fgclip2.data.coco import with_file_name
from fgclip2.evaluation.average_precision import FREQUENCIES, SMALL_SIDE, Evaluation, class_ids
from fgclip2.files import set_aside, write_atomically
from fgclip2.images import open_image
from fgclip2.visualize import draw_boxes, label_colours, paint_masks

from .curves import curve_numbers, draw_curves
from .error_page import write_error_page
from .errors import find_errors
from .experiment import CONTROL, DetectionData

TITLES: Final = {
    "en": "English names",
    "zh": "Chinese names",
    "names": "class names",
    CONTROL: "control: names shuffled",
}
MASK: Final = "mask_"
"""What the names of figures of masks begin with."""

_SHOWN_SIDE: Final = 640  # pixels; letters on smaller pictures are hard to read
_SHOWN_SCORE: Final = 0.3


def figures_tables(
    figures: Mapping[str, Mapping[str, float]],
    data: DetectionData,
    titles: Mapping[str, str] = TITLES,
    judged: Collection[str] | None = None,
) -> list[Table]:
    """`figures_table` of boxes, and of masks where the detector gives them; arguments are the same."""
    of_masks = {
        vocabulary: {name.removeprefix(MASK): value for name, value in values.items() if name.startswith(MASK)}
        for vocabulary, values in figures.items()
    }
    tables = [figures_table(figures, data, titles, judged=judged)]
    if any(of_masks.values()):
        tables.append(figures_table(of_masks, data, titles, "Masks", judged))
    return tables


def figures_table(
    figures: Mapping[str, Mapping[str, float]],
    data: DetectionData,
    titles: Mapping[str, str] = TITLES,
    what: str = "Detection",
    judged: Collection[str] | None = None,
) -> Table:
    """AP of every vocabulary over base, novel and all classes, and of LVIS's rare, common and frequent ones.

    Args:
        figures: vocabulary -> figure -> 0..100, from `fgclip2_mmdet.experiment.summary`.
        data: for the numbers of classes.
        titles: what some of them are called; none are for results that people named.
        what: what they are figures of.
        judged: classes that figures are means over, see `judged_classes`; ``None`` for all of ``data``.
    """
    table = Table(title=f"{what} on the held-out pictures: AP50, and AP over 0.50:0.95, in %")
    table.add_column("vocabulary")
    groups = {"base": data.base, "novel": data.novel, "all": data.classes}
    counts = (f"{name} ({_count(classes, judged)})" for name, classes in groups.items())
    headings = (*counts, f"under {SMALL_SIDE} px")
    frequencies = [name for name in FREQUENCIES.values() if any(name in values for values in figures.values())]
    for title in (*headings, "AP base", "AP all", *frequencies):
        table.add_column(title, justify="right")
    for vocabulary, values in figures.items():
        cells = [
            values[name]
            for name in ("AP50_base", "AP50_novel", "AP50_all", "AP50_small", "AP_base", "AP_all", *frequencies)
        ]
        table.add_row(
            titles.get(vocabulary, vocabulary), *("-" if math.isnan(cell) else f"{cell:.1f}" for cell in cells)
        )
    return table


def _count(classes: Sequence[str], judged: Collection[str] | None) -> str:
    """How many classes a figure is a mean over, and of how many where some are not judged."""
    count = len(classes) if judged is None else sum(name in judged for name in classes)
    return str(count) if count == len(classes) else f"{count} of {len(classes)}"


def judged_classes(evaluation: Evaluation) -> frozenset[str]:
    """Names of the classes that have objects in an evaluation; the others have no AP. Crowds are none."""
    shown = {
        item["category_id"]
        for item in evaluation.truth["annotations"]
        if not item.get("iscrowd") and not item.get("ignore")
    }
    return frozenset(category["name"] for category in evaluation.truth["categories"] if category["id"] in shown)


def write_metrics(file: Path, content: Mapping[str, Any]) -> None:
    """Write metrics.json atomically; figures that do not exist (nan) become null."""
    text = json.dumps(_without_nan(content), ensure_ascii=False, indent=2) + "\n"
    write_atomically(file, text.encode())


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_reports(
    evaluations: Mapping[str, Evaluation], data: DetectionData, directory: Path, titles: Mapping[str, str] = TITLES
) -> list[Path]:
    """Write ``curves.png``, ``curves.json`` and ``errors.html`` (without the control) about an evaluation.

    Args:
        evaluations: by vocabulary, as the metrics keep them.
        data: names and pictures.
        directory: made when missing.
        titles: what some vocabularies are called; none are for results that people named, which have no control.

    Returns:
        The files; none without evaluations, as on all ranks but the first.
    """
    if not evaluations:
        return []
    picture, numbers, page = files = [directory / name for name in ("curves.png", "curves.json", "errors.html")]
    truth = next(iter(evaluations.values())).truth
    ids = class_ids(truth, data.classes)
    draw_curves(picture, evaluations, titles)
    called = {
        name: dict(zip(ids, data.vocabularies.get(name if name in titles else "", data.classes), strict=True))
        for name in evaluations
    }
    write_metrics(numbers, {name: curve_numbers(each, called[name]) for name, each in evaluations.items()})
    write_error_page(
        page,
        {
            name: find_errors(evaluation)
            for name, evaluation in evaluations.items()
            if name != CONTROL or name not in titles
        },
        names={number: names for number, *names in zip(ids, *data.vocabularies.values(), strict=True)},
        pictures={
            image["id"]: data.val_images / with_file_name(image, data.val_images)["file_name"]
            for image in truth["images"]
        },
        titles=titles,
    )
    return files


@torch.no_grad()
def draw_predictions(detector: Any, dataset: Any, data: DetectionData, directory: Path, count: int = 12) -> list[Path]:
    """Detect in the first pictures of a data set and draw what was found, one panel a vocabulary.

    Args:
        detector: an `OpenVocabDetector` with the vocabularies of ``data``.
        dataset: mmdetection's, in test mode.
        data: names for the labels.
        directory: for the drawings, which are called as the pictures are (``street.jpg``; of two of one name the second
            is ``street-1.jpg``); made when missing. An earlier run's are set aside.
        count: how many pictures.

    Returns:
        The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    set_aside(directory, ("*.jpg",))
    detector.eval()
    files: list[Path] = []
    for index in range(min(count, len(dataset))):
        (sample,) = detector.test_step(pseudo_collate([dataset[index]]))
        picture = open_image(sample.img_path)
        panels = []
        for position, (vocabulary, names) in enumerate(data.vocabularies.items()):
            found = sample.pred_instances if position == 0 else getattr(sample, f"pred_{vocabulary}")
            panels.append(_panel(picture, found, names))
        stem = Path(sample.img_path).stem
        names_left = (f"{stem}-{number}.jpg" if number else f"{stem}.jpg" for number in itertools.count())
        taken = {file.name.lower() for file in files}  # names that differ in case are one file on some disks
        file = directory / next(name for name in names_left if name.lower() not in taken)
        _beside(panels).save(file, quality=92)
        files.append(file)
    return files


def _panel(picture: Image.Image, found: Any, names: Sequence[str]) -> Image.Image:
    scale = max(1.0, _SHOWN_SIDE / max(picture.size))
    large = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    kept = found[found.scores >= _SHOWN_SCORE]
    labels = [names[label] for label in kept.labels.tolist()]
    if "masks" in kept:
        masks, colours = replace(kept.masks, boxes=kept.masks.boxes * scale, size=large.size), label_colours(names)
        large = paint_masks(large, masks, [colours[label] for label in labels])
    return draw_boxes(large, (kept.bboxes * scale).cpu().numpy(), labels, kept.scores.cpu().numpy(), names=names)


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(panel.width for panel in panels), max(panel.height for panel in panels)), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width
    return sheet
