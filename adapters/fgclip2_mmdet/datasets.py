"""Benchmarks in the layout they are published in: OV-COCO, OV-LVIS and Pascal VOC, as a run's data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from mmengine.config import Config

from fgclip2.data.coco import (
    CocoAnnotation,
    CocoCategory,
    CocoDataset,
    CocoImage,
    load_coco,
    read_annotation_file,
    with_file_name,
)
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import check_lvis

from .annotations import read_image_ids
from .experiment import DetectionData, wants_masks
from .lvis_names import chinese_names
from .user_data import UserData, check_class_names

KEY: Final = "open_vocabulary"
"""Of a config whose loaders name a benchmark's files.

``format``: ``coco``, ``lvis`` or ``voc``; ``classes`` as in the files, ``novel`` ones of them, and ``vocabularies``:
names to train (the first) and evaluate with, each in the order of ``classes``. LVIS says itself which classes there are
and which are rare; their Chinese names are in `fgclip2_mmdet.lvis_names`.
"""
_NAMED: Final = 3  # of each kind of problem


def restore_files(cfg: Config) -> None:
    """Put the published files back into the loaders of a config that a run left, in place; check a config's own.

    A run fills its config with the files that it wrote, and keeps the published ones below `KEY`. Call this before
    overrides are merged.

    Raises:
        Fgclip2Error: ``test_dataloader`` names other files than ``val_dataloader``, which are those that are evaluated.
    """
    if KEY not in cfg:
        return
    for part, files in cfg[KEY].get("files", {}).items():
        cfg[f"{part}_dataloader"].dataset.update(copy.deepcopy(files))
    val, test = (_files(cfg, part) for part in ("val", "test"))
    if val != test:
        there, evaluated = (f"{each['ann_file']!r} below {each['data_prefix']['img']!r}" for each in (test, val))
        raise Fgclip2Error(
            f"test_dataloader.dataset names {there}, val_dataloader's names {evaluated}, which are evaluated; give "
            "both the same (test_dataloader = val_dataloader), and for a part of the pictures test_evaluator.image_ids"
        )


def _files(cfg: Config, part: str) -> dict[str, Any]:
    dataset = cfg[f"{part}_dataloader"].dataset
    return {"ann_file": dataset.get("ann_file"), "data_prefix": {"img": dataset.get("data_prefix", {}).get("img")}}


def read_benchmark(cfg: Config) -> UserData | DetectionData | None:
    """Check the files that a config names; nothing is written. The config notes them for `restore_files`.

    Args:
        cfg: with the files in ``train_dataloader`` and ``val_dataloader`` (``ann_file``, and ``data_prefix.img``, the
            folder of the pictures), and an entry `KEY`.

    Returns:
        ``UserData`` whose annotations are to be written, ``DetectionData`` when the files are used as they are, or
        ``None`` when the config names no files.

    Raises:
        Fgclip2Error: an unknown format, files that are missing or wrong, classes that are the same in a text.
    """
    about = cfg.get(KEY)
    if about is None:
        return None
    if about.get("format") not in _READERS:
        raise Fgclip2Error(f"{KEY}.format {about.get('format')!r}: choose one of {', '.join(_READERS)}")
    splits = [cfg[f"{part}_dataloader"].dataset for part in ("train", "val")]
    for split in splits:
        files = [split.ann_file] if isinstance(split.ann_file, str) else split.ann_file
        lacking = [file for file in (*files, split.data_prefix.img) if not Path(file).exists()]
        if lacking:
            raise Fgclip2Error(
                f"{lacking[0]!r} does not exist; the config wants the dataset as it is published, below the folder "
                "that the command runs in (a link will do), or --cfg-options with the paths"
            )
    given = _READERS[about["format"]](about, *splits)
    about["files"] = {"train": _files(cfg, "train"), "val": _files(cfg, "val"), "test": _files(cfg, "val")}
    if isinstance(given, DetectionData):
        _check_as_they_are(given, cfg)
    for names in (given.classes, *given.vocabularies.values()):
        check_class_names(names, splits[1].ann_file if about["format"] == "lvis" else KEY)
    return given


def _coco(about: Mapping[str, Any], train: Any, val: Any) -> UserData:
    """As OVR-CNN: only pictures that show one of the classes."""
    files = [load_coco(part.ann_file, part.data_prefix.img) for part in (train, val)]
    return _chosen(about, files[0], files[1])


def _chosen(about: Mapping[str, Any], train: CocoDataset, val: CocoDataset) -> UserData:
    classes = list(about["classes"])
    train, val = (part.subset(classes, keep_empty=False) for part in (train, val))
    vocabularies = {language: list(names) for language, names in about["vocabularies"].items()}
    return UserData(train, val, classes, list(about["novel"]), vocabularies=vocabularies)


def _lvis(about: Mapping[str, Any], train: Any, val: Any) -> DetectionData:
    """The files as they are: the protocol needs what the annotators were asked, which COCO's form has no place for."""
    truth = read_annotation_file(Path(val.ann_file))
    check_lvis(truth)
    categories = truth["categories"]
    rare = [str(item["name"]) for item in categories if item["frequency"] == "r"]
    classes = [str(item["name"]) for item in categories]
    notes = [f"{len(classes) - len(rare)} common and frequent classes are trained, {len(rare)} rare ones are novel"]
    vocabularies = {"en": classes}
    chinese = dict(zip(classes, chinese_names(classes), strict=True))
    if foreign := [name for name, own in chinese.items() if own is None]:
        notes.append(f"English names only: {len(foreign)} classes are none of LVIS v1's, such as {foreign[0]!r}")
    else:
        vocabularies["zh"] = [own for own in chinese.values() if own is not None]
    return DetectionData(
        classes=classes,
        novel=rare,
        vocabularies=vocabularies,
        train_annotations=Path(train.ann_file),
        val_annotations=Path(val.ann_file),
        train_images=Path(train.data_prefix.img),
        val_images=Path(val.data_prefix.img),
        federated=True,
        notes=notes,
    )


def _check_as_they_are(data: DetectionData, cfg: Config) -> None:
    """Check files that are not read by `load_coco`: training looks at the last of them hours after it began.

    Raises:
        Fgclip2Error: of one file, training classes that it lacks, pictures that are missing, entries that lead nowhere,
            or objects without mask where the detector has a mask head: the count of each and the first few.
    """
    masks = wants_masks(cfg)
    train, base = read_annotation_file(data.train_annotations), set(data.base)
    categories = {item.get("id"): item.get("name") for item in train["categories"]}
    lacking = [name for name in data.base if name not in categories.values()]
    if lacking:
        raise Fgclip2Error(
            f"{data.train_annotations} lacks {len(lacking)} of the {len(base)} training classes of "
            f"{data.val_annotations}, such as {', '.join(lacking[:_NAMED])}; take both files of one release"
        )
    trained = {number for number, name in categories.items() if name in base}
    _check_entries(data.train_annotations, train, data.train_images, None, trained, masks)
    if not any(item["category_id"] in trained for item in train["annotations"]):
        raise Fgclip2Error(f"{data.train_annotations}: nothing to train on: it has no object of a training class")
    del train  # LVIS's fills gigabytes
    val = read_annotation_file(data.val_annotations)
    every = {item["id"] for item in val["categories"]}
    _check_entries(data.val_annotations, val, data.val_images, _evaluated(cfg), every, masks)


def _evaluated(cfg: Config) -> set[int] | None:
    """Ids of the pictures that the run will look at, such as minival's; ``None`` for all."""
    chosen: set[int] = set()
    parts = ["test"] + (["val"] if cfg.train_cfg.get("val_interval", 1) <= cfg.train_cfg.max_epochs else [])
    for part in parts:
        evaluators = cfg.get(f"{part}_evaluator") or []
        named = [item.get("image_ids") for item in ([evaluators] if isinstance(evaluators, dict) else evaluators)]
        file = cfg[f"{part}_dataloader"].dataset.get("image_ids") or next(filter(None, named), None)
        if file is None:
            return None
        chosen |= read_image_ids(file)
    return chosen


def _check_entries(
    file: Path,
    content: Mapping[str, Sequence[Any]],
    root: Path,
    chosen: Collection[int] | None,
    wanted: Collection[int],
    masks: bool,
) -> None:
    """Pictures (``chosen`` ids, or all) and objects of the ``wanted`` categories in them."""
    found: dict[str, list[str]] = {}
    known = set()
    for entry in content["images"]:
        known.add(entry["id"])
        if chosen is None or entry["id"] in chosen:
            name = with_file_name(entry, root).get("file_name")
            if not isinstance(name, str):
                found.setdefault("pictures without 'file_name' and 'coco_url'", []).append(f"id {entry['id']}")
            elif not (root / name).is_file():
                found.setdefault(f"pictures missing below {str(root)!r}", []).append(repr(name))
    for item in content["annotations"]:
        number = f"annotation {item.get('id')}"
        if item.get("image_id") not in known:
            found.setdefault("objects of an unknown image_id", []).append(number)
        elif item.get("category_id") not in wanted or not (chosen is None or item["image_id"] in chosen):
            continue
        elif not isinstance(item.get("bbox"), list) or len(item["bbox"]) != 4:
            found.setdefault("objects without a 'bbox' of four numbers", []).append(number)
        elif masks and not item.get("segmentation"):
            found.setdefault("objects without 'segmentation', which the config's mask_head needs", []).append(number)
    if found:
        parts = [
            f"{len(each)} {kind}: {', '.join(each[:_NAMED])}{', ...' if len(each) > _NAMED else ''}"
            for kind, each in found.items()
        ]
        raise Fgclip2Error(f"{file}: {'; '.join(parts)}. Mend the files, or give others with --cfg-options")


def _voc(about: Mapping[str, Any], train: Any, val: Any) -> UserData:
    lists = [[part.ann_file] if isinstance(part.ann_file, str) else part.ann_file for part in (train, val)]
    roots = [part.data_prefix.img for part in (train, val)]
    files = [read_voc(own, root, about["classes"]) for own, root in zip(lists, roots, strict=True)]
    return _chosen(about, files[0], files[1])


def read_voc(lists: Sequence[str | Path], root: str | Path, classes: Sequence[str]) -> CocoDataset:
    """Pascal VOC's XML as annotations; difficult objects become crowds, which neither count nor cost.

    Args:
        lists: files such as ``VOC2007/ImageSets/Main/test.txt``, with a picture's name on each line.
        root: folder that the pictures' names are given relative to: ``VOC2007/JPEGImages/000001.jpg``.
        classes: names in the order of the ids, from 1.

    Raises:
        Fgclip2Error: a file that is missing or wrong, or an object of another class.
    """
    images: list[CocoImage] = []
    annotations: list[CocoAnnotation] = []
    for file in map(Path, lists):
        year = file.parents[2]
        for line in file.read_text(encoding="utf-8").split("\n"):
            if not line.strip():
                continue
            name = line.split()[0]
            source, number = year / "Annotations" / f"{name}.xml", len(images) + 1
            picture = year / "JPEGImages" / f"{name}.jpg"
            if not picture.is_file():
                raise Fgclip2Error(f"{picture} does not exist, but {file} lists it")
            try:
                tree = ElementTree.parse(source)
                sides = [int(_text(tree, f"size/{side}")) for side in ("width", "height")]
                images.append(CocoImage(number, str(picture.relative_to(root)), sides[0], sides[1]))
                for item in tree.iter("object"):
                    category = classes.index(_text(item, "name")) + 1
                    x1, y1, x2, y2 = (float(_text(item, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
                    # Pixels count from 1, and the last one belongs to the box.
                    box = (max(x1 - 1, 0.0), max(y1 - 1, 0.0), min(x2, sides[0]), min(y2, sides[1]))
                    difficult = item.findtext("difficult", "0").strip() == "1"
                    annotations.append(CocoAnnotation(len(annotations) + 1, number, category, box, difficult))
            except (OSError, ElementTree.ParseError, ValueError) as error:
                raise Fgclip2Error(f"{source} is no VOC annotation of these {len(classes)} classes: {error}") from error
    categories = tuple(CocoCategory(number, name) for number, name in enumerate(classes, start=1))
    return CocoDataset(Path(lists[0]), Path(root), tuple(images), tuple(annotations), categories)


def _text(node: Any, path: str) -> str:
    found = node.findtext(path)
    if found is None:
        raise ValueError(f"it has no {path}")
    return str(found).strip()


_READERS: Final[dict[str, Callable[[Any, Any, Any], UserData | DetectionData]]] = {
    "coco": _coco,
    "lvis": _lvis,
    "voc": _voc,
}
