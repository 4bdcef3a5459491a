"""Benchmarks whose labels are folders or label maps: ImageNet, and the segmentation sets as CAT-Seg prepares them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fgclip2.data.media import PICTURE_SUFFIXES, is_hidden
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.records import Labelled, Masked

CLASSES = 1000
_WORDNET = re.compile(r"n\d{8}")


def imagenet(root: Path) -> Iterator[Labelled]:
    """ImageNet-1k validation: a folder a WordNet id; their sorted order is the class order."""
    folders = _subfolders(root / "IN1K_val/val")
    if len(folders) != CLASSES:
        raise Fgclip2Error(
            f"{root / 'IN1K_val/val'} has {len(folders)} folders; wanted are {CLASSES}, one a WordNet id (n01440764, "
            "...), with the validation pictures sorted into them"
        )
    numbered = [folder for folder in folders if folder.name.isdecimal()]
    if len(numbered) == len(folders):  # 0 to 999, as ImageNet-v2: sorted as texts, 10 would come before 2
        yield from _by_number(folders)
        return
    other = next((folder.name for folder in folders if not _WORDNET.fullmatch(folder.name)), None)
    if other is not None:
        raise Fgclip2Error(
            f"{root / 'IN1K_val/val'}: the folder {other!r} is no WordNet id such as n01440764; its class is not known"
        )
    for label, folder in enumerate(folders):
        yield from _pictures(folder, label)


def imagenet_v2(root: Path) -> Iterator[Labelled]:
    """ImageNet-v2, matched frequency: folders 0 to 999, named by class number."""
    yield from _by_number(_subfolders(root / "imagenetv2-matched-frequency-format-val"))


def _by_number(folders: list[Path]) -> Iterator[Labelled]:
    for folder in folders:
        if not folder.name.isdecimal() or int(folder.name) >= CLASSES:
            raise Fgclip2Error(f"{folder}: folders are named 0 to {CLASSES - 1}, by class number; is it another set?")
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        yield from _pictures(folder, int(folder.name))


def a847(root: Path) -> Iterator[Masked]:
    """ADE20K full, 847 classes, 16-bit label maps."""
    base = root / "ADE20K_2021_17_01"
    yield from _pairs(base / "images_detectron2/validation", base / "annotations_detectron2/validation", ".tif")


def a150(root: Path) -> Iterator[Masked]:
    """ADE20K, 150 classes."""
    base = root / "ADEChallengeData2016"
    yield from _pairs(base / "images/validation", base / "annotations_detectron2/validation", ".png")


def pc459(root: Path) -> Iterator[Masked]:
    """PASCAL Context, 459 classes, 16-bit label maps."""
    base = root / "VOCdevkit/VOC2010"
    yield from _pairs(base / "JPEGImages", base / "annotations_detectron2/pc459_val", ".tif")


def pc59(root: Path) -> Iterator[Masked]:
    """PASCAL Context, 59 classes."""
    base = root / "VOCdevkit/VOC2010"
    yield from _pairs(base / "JPEGImages", base / "annotations_detectron2/pc59_val", ".png")


def voc20(root: Path) -> Iterator[Masked]:
    """PASCAL VOC, 20 classes; background is not judged."""
    base = root / "VOCdevkit/VOC2012"
    yield from _pairs(base / "JPEGImages", base / "annotations_detectron2/val", ".png")


def voc21(root: Path) -> Iterator[Masked]:
    """PASCAL VOC, 20 classes and, as number 20, background."""
    base = root / "VOCdevkit/VOC2012"
    yield from _pairs(base / "JPEGImages", base / "annotations_detectron2_bg/val", ".png")


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise Fgclip2Error(f"{folder} is no folder; fgclip2 eval --check NAME ROOT says what to download")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _pictures(folder: Path, label: int) -> Iterator[Labelled]:
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in PICTURE_SUFFIXES and not is_hidden(file.name):
            yield Labelled(file, label)


def _pairs(images: Path, masks: Path, suffix: str) -> Iterator[Masked]:
    """The label maps decide what is in the set: JPEGImages holds more pictures than the validation split."""
    if not masks.is_dir():
        raise Fgclip2Error(f"{masks} is no folder; fgclip2 eval --check NAME ROOT says how it is made")
    for mask in sorted(path for path in masks.glob(f"*{suffix}") if not is_hidden(path.name)):
        yield Masked(images / f"{mask.stem}.jpg", mask)
