"""Segmentation without training, memory and mean IoU: ``python -m benchmarks.segmentation``."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import fgclip2
from benchmarks._models import random_model
from benchmarks._report import command, report
from fgclip2.segmentation import BACKGROUND, DenseSegmentor, SegmentationConfig

_WORDS = 256_000  # of the released text towers, whose table counts too


@dataclass
class Arguments:
    """Peak memory of a large picture on a random model of full size; mean IoU of scenes on the embedded model."""

    size: Literal["base", "large", "so400m"] = "base"
    """Of the model whose memory is measured."""
    side: int = 2048
    """Of its picture, in pixels."""
    classes: int = 150
    """It is asked for."""
    scenes: int = 100
    """Held-out scenes of the embedded world, labelled with the embedded model; 0 leaves them out."""
    categories: int = 864
    """Whose names are told apart there; a quarter is what a trained head would not have been trained on."""
    patches: int = 400
    """Of a scene; 400 is its own size."""


def peak_memory(size: str, side: int, classes: int) -> dict[str, object]:
    """Segment one picture in a process of its own.

    Returns:
        ``dtype``, ``patches``, and GiB: ``before`` the picture, ``peak`` up to the labels.
    """
    model = random_model(size, _WORDS)
    texts = F.normalize(torch.randn(classes, model.width), dim=-1)
    vocabulary = fgclip2.Vocabulary(tuple(map(str, range(classes))), texts, model.hash, model.name)
    patches = min(16_384, (side // 16) ** 2)
    segmentor = DenseSegmentor(model, vocabulary, SegmentationConfig(max_patches=patches))
    before = _peak()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    found = segmentor(picture)
    if found.labels.shape != (side, side):
        raise RuntimeError(f"labels of {found.labels.shape}")
    dtype = str(model.dtype).removeprefix("torch.")
    return {"dtype": dtype, "patches": patches, "before": round(before, 2), "peak": round(_peak(), 2)}


def _peak() -> float:
    """GiB of this process at its largest."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def mean_iou(scenes: int, categories: int, patches: int) -> dict[str, dict[str, float]]:
    """Mean IoU, 0..100, of English and Chinese names, the best class of every pixel.

    Returns:
        ``things`` and ``all``, each by language: over the pixels of things only, and over all, where the ground, which
        has no name, counts against the classes that it is given.
    """
    from detectron2.data import DatasetCatalog

    from fgclip2_detectron2.datasets import segmentation_set
    from fgclip2_detectron2.evaluator import OpenVocabSemSegEvaluator
    from fgclip2_detectron2.scenes import ScenesConfig, register_scenes

    novel = categories // 4
    _, name = register_scenes(ScenesConfig(train=1, val=scenes, base=categories - novel, novel=novel))
    data = segmentation_set(name)
    model = fgclip2.load("tiny")
    segmentors = {
        language: DenseSegmentor(model, names, SegmentationConfig(max_patches=patches))
        for language, names in data.names.items()
    }
    evaluators = {
        where: {language: OpenVocabSemSegEvaluator(name, language) for language in segmentors}
        for where in ("things", "all")
    }
    for record in DatasetCatalog.get(name):
        pixels, labels = data.load(record)
        for language, segmentor in segmentors.items():
            seen = segmentor(pixels).labels
            evaluators["all"][language].add(seen, labels)
            evaluators["things"][language].add(np.where(labels < len(data.main), seen, BACKGROUND), labels)
    found: dict[str, dict[str, float]] = {}
    for where, each in evaluators.items():
        # One process: every evaluator answers.
        answers = {
            language: cast("dict[str, dict[str, float]]", evaluator.evaluate()) for language, evaluator in each.items()
        }
        found[where] = {language: answer[language]["mIoU_all"] for language, answer in answers.items()}
    return found


def main(arguments: Arguments) -> None:
    """Measure both."""
    # A new process: what this one held before would count.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        memory = pool.submit(peak_memory, arguments.size, arguments.side, arguments.classes).result()
    measures: dict[str, object] = {
        f"{arguments.size} ({memory['dtype']}), {arguments.side} px, {memory['patches']:,} patches, "
        f"{arguments.classes} classes: peak, GiB": memory["peak"],
        "the same before the picture, GiB": memory["before"],
    }
    figures = {"peak_gib": float(str(memory["peak"]))}
    if arguments.scenes:
        for where, values in mean_iou(arguments.scenes, arguments.categories, arguments.patches).items():
            for language, value in values.items():
                what = f"mIoU of {arguments.categories} names on {arguments.scenes} scenes, {where} pixels"
                measures[f"{what}, {language.upper()}"] = figures[f"miou_{where}_{language}"] = round(value, 2)
    report("segmentation", [{"measure": name, "value": value} for name, value in measures.items()], figures)


if __name__ == "__main__":
    command(main, Arguments)
