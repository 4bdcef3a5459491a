"""Segmentation data sets in detectron2's catalogs: seven benchmarks, and a user's own folders.

The benchmarks are looked for below ``$DETECTRON2_DATASETS`` (else ``datasets``), as their own archives unpack; label
values are translated while reading, so nothing has to be prepared. PASCAL Context and all of ADE20K are the exceptions.
PC-59 is read as MMSegmentation's converter writes it, ADE-847 and PC-459 as 16-bit TIFF: labels from 0, 65,535 ignored.
Mask2Former's and CAT-Seg's converters write those, and so does ``python -m fgclip2_detectron2.prepare``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image
from fgclip2.names import check_names, said
from fgclip2.visualize import label_colours

from .class_names import ADE_150, COCO_STUFF, COCO_STUFF_IDS, PC_59, VOC_20
from .class_names_ade847 import ADE_847
from .class_names_pc459 import PC_459
from .masks import IGNORE, MaskFormat, read_mask
from .pairing import Pairs, pair_masks

BACKGROUND_NAMES: Final = {"en": "background", "zh": "背景"}


@dataclass(frozen=True)
class ClassSet:
    """What the classes of a registered data set are, kept as ``MetadataCatalog.get(name).class_set``.

    Attributes:
        names: class names by language, ``en``, ``zh`` or ``names`` for a user's own, each in label order.
        background: whether there is more to see than the classes; a segmentor then leaves pixels unnamed.
        novel: classes, by their names in the first language, that keep no training labels.
    """

    names: dict[str, tuple[str, ...]]
    background: bool
    novel: frozenset[str]

    @property
    def main(self) -> tuple[str, ...]:
        """Names in the first language."""
        return next(iter(self.names.values()))

    @property
    def base(self) -> list[int]:
        """Labels of the classes that are trained."""
        return [index for index, name in enumerate(self.main) if name not in self.novel]


@dataclass(frozen=True)
class SegmentationSet(ClassSet):
    """Data with a label a pixel; with ``background`` label C means "none of the classes".

    Attributes:
        load: reads a record of the set: picture ``(H, W, 3)`` uint8 RGB and labels ``(H, W)`` int32.
    """

    load: Callable[[dict[str, Any]], tuple[np.ndarray, np.ndarray]]


def class_set(name: str) -> ClassSet:
    """A registered data set's classes.

    Raises:
        Fgclip2Error: nothing is registered under the name, or not by this package.
    """
    found = MetadataCatalog.get(name).get("class_set") if name in DatasetCatalog else None
    if not isinstance(found, ClassSet):
        known = [entry for entry in DatasetCatalog.list() if "class_set" in MetadataCatalog.get(entry).as_dict()]
        raise Fgclip2Error(f"no segmentation data set {name!r}; registered are {', '.join(known)}")
    return found


def segmentation_set(name: str) -> SegmentationSet:
    """A registered data set with a label a pixel.

    Raises:
        Fgclip2Error: it is none.
    """
    found = class_set(name)
    if not isinstance(found, SegmentationSet):
        raise Fgclip2Error(f"the data set {name!r} has instances, not a label a pixel; train it with build_mask_rcnn")
    return found


def register(
    name: str,
    records: Callable[[], list[dict[str, Any]]],
    data: ClassSet,
) -> None:
    """Enter a data set into both catalogs, with what detectron2's own evaluator and drawings read.

    Args:
        name: in the catalogs.
        records: gives detectron2's records when they are first asked for.
        data: its description.

    Raises:
        Fgclip2Error: the name is taken, names repeat or differ in number, or a novel name is no class.
    """
    if name in DatasetCatalog:
        raise Fgclip2Error(f"a data set {name!r} is registered already; give another name")
    for language, names in data.names.items():
        check_names(names)
        if len(names) != len(data.main):
            raise Fgclip2Error(f"{len(data.main)} classes, but {len(names)} names in {language!r}; give one a class")
    unknown = sorted(data.novel - set(data.main))
    if unknown:
        raise Fgclip2Error(f"novel classes that the data set does not have: {', '.join(unknown[:5])}")
    DatasetCatalog.register(name, records)
    pixels = isinstance(data, SegmentationSet)
    kind = "stuff" if pixels else "thing"
    classes = [*data.main, *([BACKGROUND_NAMES["en"]] if pixels and data.background else [])]
    colours = list(label_colours(classes).values())
    MetadataCatalog.get(name).set(**{f"{kind}_classes": classes, f"{kind}_colors": colours}, class_set=data)
    if pixels:
        MetadataCatalog.get(name).set(ignore_label=IGNORE, evaluator_type="sem_seg")


def unseen_names(names: Mapping[str, Sequence[str]], trained: Collection[str]) -> list[str]:
    """Classes, by their names in the first language, of which no name in any language is a trained one."""
    known = {said(name) for name in trained}
    first = next(iter(names.values()))
    rows = zip(*names.values(), strict=True)
    return [name for name, row in zip(first, rows, strict=True) if known.isdisjoint(map(said, row))]


def forget(name: str) -> None:
    """Take a data set out of both catalogs, if it is in them."""
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog:
            catalog.remove(name)


def register_folder(
    name: str,
    images: str | Path,
    masks: str | Path,
    names: Sequence[str],
    *,
    names_zh: Sequence[str] | None = None,
    form: MaskFormat | None = None,
    novel: Collection[str] = (),
    pairs: Pairs | None = None,
) -> None:
    """Enter a user's pictures and masks.

    Args:
        name: in the catalogs.
        images: folder of pictures, searched with its subfolders.
        masks: folder of index pictures (PNG, TIFF or BMP of 8 or 16 bit), with the pictures' names and subfolders.
        names: class names in label order, English, Chinese or mixed.
        names_zh: the same classes in Chinese, to evaluate with too.
        form: what mask values mean; ``None`` takes 0, 1, 2, ... in the order of the names, and ignores 255.
        novel: classes to keep out of training.
        pairs: of the two folders, when they were matched before.

    Raises:
        Fgclip2Error: a folder is missing or empty, a picture has no mask or two, or names are wrong; values and sizes
            are checked when a mask is read, or by `fgclip2_detectron2.survey.survey`.
    """
    checked = check_names(names)
    form = form or MaskFormat.of(len(checked))
    if len(form.values) != len(checked):
        raise Fgclip2Error(f"{len(checked)} class names and {len(form.values)} mask values; give one value a class")
    records = (pairs or pair_masks(Path(images), Path(masks))).records
    languages = {"names": checked} if names_zh is None else {"en": checked, "zh": tuple(names_zh)}
    data = SegmentationSet(languages, form.background is not None, frozenset(novel), _FileLoader(form))
    register(name, lambda: records, data)


def register_datasets(root: str | Path | None = None) -> list[str]:
    """Enter the benchmarks; their files are looked for when they are first used.

    Args:
        root: their folder; ``None`` takes ``$DETECTRON2_DATASETS``, else ``datasets``.

    Returns:
        Their names: ``coco_stuff_train``, ``coco_stuff_val``, ``ade150_train``, ``ade150_val``, ``ade847_train``,
        ``ade847_val``, ``pc59_val``, ``pc459_val``, ``voc20_val``, ``voc21_val``.
    """
    base = Path(root or os.environ.get("DETECTRON2_DATASETS", "datasets"))
    ids = tuple(number - 1 for number in COCO_STUFF_IDS)
    voc = base / "VOCdevkit" / "VOC2012"
    context = base / "VOCdevkit" / "VOC2010"
    tables: dict[str, tuple[Any, MaskFormat, Callable[[], list[dict[str, Any]]]]] = {}
    for part in ("train", "val"):
        folders = base / "coco" / f"{part}2017", base / "coco" / "stuffthingmaps" / f"{part}2017"
        tables[f"coco_stuff_{part}"] = COCO_STUFF, MaskFormat(ids, None, (255,)), _lazily(*folders)
        place = {"train": "training", "val": "validation"}[part]
        ade = base / "ADEChallengeData2016"
        folders = ade / "images" / place, ade / "annotations" / place
        tables[f"ade150_{part}"] = ADE_150, MaskFormat(tuple(range(1, 151)), None, (0,)), _lazily(*folders)
        full = base / "ADE20K_2021_17_01"
        folders = full / "images_detectron2" / place, full / "annotations_detectron2" / place
        tables[f"ade847_{part}"] = ADE_847, MaskFormat.of(len(ADE_847[0])), _lazily(*folders, prepared="ade847")
    lists = context / "ImageSets" / "SegmentationContext" / "val.txt"
    tables["pc59_val"] = (
        PC_59,
        MaskFormat(tuple(range(1, 60)), None, (0, 255)),
        _lazily(context / "JPEGImages", context / "SegmentationClassContext", lists),
    )
    # JPEGImages has all of VOC; the masks say what is in the split.
    masks = context / "annotations_detectron2" / "pc459_val"
    files = _lazily(context / "JPEGImages", masks, masks, prepared="pc459")
    tables["pc459_val"] = PC_459, MaskFormat.of(len(PC_459[0])), files
    lists = voc / "ImageSets" / "Segmentation" / "val.txt"
    files = _lazily(voc / "JPEGImages", voc / "SegmentationClass", lists)
    tables["voc20_val"] = VOC_20, MaskFormat(tuple(range(1, 21)), None, (0, 255)), files
    tables["voc21_val"] = VOC_20, MaskFormat(tuple(range(1, 21)), 0, (255,)), files
    for name, ((english, chinese), form, records) in tables.items():
        names = {"en": english, "zh": chinese}
        forget(name)  # asked again, it moves to another root
        register(name, records, SegmentationSet(names, form.background is not None, frozenset(), _FileLoader(form)))
    return list(tables)


@dataclass(frozen=True)
class _FileLoader:
    """Reads picture and mask of a record; picklable, for loading processes."""

    form: MaskFormat

    def __call__(self, record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        picture = open_image(record["file_name"])
        return np.asarray(picture), read_mask(record["sem_seg_file_name"], self.form, picture.size)


def _lazily(
    images: Path, masks: Path, listed: Path | None = None, *, prepared: str | None = None
) -> Callable[[], list[dict[str, Any]]]:
    return lambda: pair_masks(images, masks, listed, prepared=prepared).records
