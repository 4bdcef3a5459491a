"""Benchmarks in the layout they are published in: OV-COCO, OV-LVIS and Pascal VOC, as a run's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from mmengine.config import Config

from fgclip2.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage, load_coco, read_annotation_file
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import check_lvis

from .experiment import DetectionData, UserData, check_class_names
from .lvis_names import chinese_names

KEY: Final = "open_vocabulary"
"""Of a config whose loaders name a benchmark's files.

``format``: ``coco``, ``lvis`` or ``voc``; ``classes`` as in the files, ``novel`` ones of them, and ``vocabularies``:
names to train (the first) and evaluate with, each in the order of ``classes``. LVIS says itself which classes there are
and which are rare; their Chinese names are in `fgclip2_mmdet.lvis_names`.
"""


def read_benchmark(cfg: Config) -> UserData | DetectionData | None:
    """Check the files that a config names; nothing is written.

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
        for line in file.read_text(encoding="utf-8").splitlines():
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
