"""A user's own COCO files: checked before anything is written, then written as a run reads them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fgclip2.data.coco import (
    CocoCategory,
    CocoDataset,
    check_distinct,
    image_folder,
    load_coco,
    read_annotation_file,
)
from fgclip2.data.coco_masks import outlined
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.average_precision import LVIS_FIELDS, check_lvis, is_lvis
from fgclip2.files import write_atomically
from fgclip2.names import check_names, parse_names, said

from .class_words import class_words
from .experiment import DetectionData

_log = logging.getLogger(__name__)

_BACKGROUND: Final = "background"
"""What some tools call the class of what is none, as `said`."""
_NAMED: Final = 5


@dataclass(frozen=True)
class UserData:
    """A user's checked files, before anything is written.

    Attributes:
        train: training pictures and labels.
        val: validation ones.
        classes: all names.
        novel: those without training labels.
        lvis: what only an LVIS validation file has: kind of entry -> id -> fields.
    """

    train: CocoDataset
    val: CocoDataset
    classes: list[str]
    novel: list[str]
    lvis: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    vocabularies: dict[str, list[str]] = field(default_factory=dict)
    """As in `DetectionData`; without any, the classes' own names."""
    masks: bool = False
    """Objects have masks, which are written too; see `with_masks`."""
    synonyms: dict[str, list[list[str]]] = field(default_factory=dict)
    """As in `DetectionData`."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the person who started the run."""


def read_user_data(root: Path, train: str, val: str, novel: str | Sequence[str], names: Path | None = None) -> UserData:
    """Check a user's COCO JSON files and pictures; nothing is written.

    Where every category has names in English and Chinese, the run is evaluated with both, see `class_words`. Classes
    that the training file never shows are novel, whether it lists them or not. Categories that only group others
    (Roboflow's first one) or stand for the background, and have no object in either file, are left out.

    Args:
        root: folder of the data.
        train: training annotation file, relative to ``root`` or a path of its own.
        val: validation annotation file.
        novel: names of the classes to keep out of training, as the annotation files have them: a list, or one text
            with commas between them, which do not cut a name of the files that has a comma.
        names: file with names and synonyms for the categories, English or Chinese; ``None`` takes the categories' own.

    Raises:
        Fgclip2Error: from `fgclip2.data.coco.load_coco`; names that no file has; nothing left to train on; classes
            of the training file that an LVIS validation file does not have; an LVIS file with fields missing; names
            that are the same in a text; names that do not fit the categories.
    """
    if not root.is_dir():
        raise Fgclip2Error(f"--data-root {str(root)!r} is not a folder")
    train_set, val_set = (_load(root, name) for name in (train, val))
    for data in (train_set, val_set):
        check_class_names(data.names, data.annotation_file)
    same = check_distinct(train_set, val_set)
    lvis = _lvis_fields(val_set.annotation_file)
    train_set, val_set, notes = _agreed(train_set, val_set, bool(lvis))
    classes = list(val_set.names)
    text = novel.strip() if isinstance(novel, str) else ""
    stated = parse_names(text, classes) if text else [] if isinstance(novel, str) else list(novel)
    stated = list(val_set.checked_names(stated)) if stated else []
    unseen = [name for name in classes if name not in train_set.names]
    counts = train_set.counts()
    unshown = [name for name in train_set.names if not counts[name]]
    chosen = list(dict.fromkeys([*stated, *unseen, *unshown]))
    if not any(counts[name] for name in train_set.names if name not in chosen):
        without = " without the novel classes" if any(counts.values()) else ": it has no annotations"
        raise Fgclip2Error(f"{train_set.annotation_file}: nothing to train on is left{without}")
    notes += [*same, *_without_objects(train_set, val_set, stated)]
    own = {category.name: category for category in train_set.categories}
    words = class_words(
        [_filled(each, own.get(each.name)) for each in val_set.categories], val_set.annotation_file, names
    )
    for called in words.vocabularies.values():
        check_class_names(called, names or val_set.annotation_file)
    return UserData(
        train_set,
        val_set,
        classes,
        chosen,
        lvis,
        words.vocabularies,
        synonyms=words.synonyms,
        notes=[*notes, *words.notes],
    )


def _agreed(train: CocoDataset, val: CocoDataset, lvis: bool) -> tuple[CocoDataset, CocoDataset, list[str]]:
    """Both files with the classes of either, without categories that are none, and sentences that say so."""
    notes = []
    empty = {name for data in (train, val) for name in data.names}
    empty -= {name for data in (train, val) for name, count in data.counts().items() if count}
    empty -= {name for data in (train, val) for name in _crowded(data)}
    none = [name for name in empty if said(name) == _BACKGROUND]
    if none and not lvis:
        train, val = (data.subset([name for name in data.names if name not in none]) for data in (train, val))
        notes.append(f"left out: {_few(none)}, which has no object and stands for what is no class")
    lacking = [category for category in train.categories if category.name not in val.names]
    if lacking and lvis:
        raise Fgclip2Error(
            f"{val.annotation_file} lacks classes of the training file: {_few([item.name for item in lacking])}; "
            "give both files the same categories, which LVIS's protocol needs"
        )
    if lacking:
        free = max(category.id for category in val.categories) + 1
        more = tuple(replace(category, id=free + place) for place, category in enumerate(lacking))
        val = replace(val, categories=(*val.categories, *more))
        notes.append(
            f"{len(lacking)} classes of {train.annotation_file.name} are not listed in {val.annotation_file.name}: "
            f"they are trained and not judged: {_few([item.name for item in lacking])}"
        )
    return train, val, notes


def _crowded(data: CocoDataset) -> set[str]:
    """Classes with annotated crowds."""
    names = {category.id: category.name for category in data.categories}
    return {names[item.category_id] for item in data.annotations if item.is_crowd}


def _without_objects(train: CocoDataset, val: CocoDataset, stated: Sequence[str]) -> list[str]:
    """Sentences on classes that a file never shows, with the reason."""
    notes = []
    same = train.annotation_file.name == val.annotation_file.name  # labels.json of two folders
    called = {
        data.annotation_file: str(Path(data.annotation_file.parent.name, data.annotation_file.name))
        if same
        else data.annotation_file.name
        for data in (train, val)
    }
    unlisted = [name for name in val.names if name not in train.names and name not in stated]
    if unlisted:
        notes.append(
            f"{len(unlisted)} classes are not in {called[train.annotation_file]} and so novel: {_few(unlisted)}"
        )
    for data in (train, val):
        reason = data.untrained()
        empty = [name for name in reason if data is val or name not in stated]
        reasons = [f"{name} ({reason[name]})" for name in empty]
        if reasons:
            effect = "not judged" if data is val else "so novel"
            some = f"{len(empty)} of {len(data.names)} classes have no object and are {effect}"
            notes.append(f"{called[data.annotation_file]}: {some}: {_few(reasons)}")
    return notes


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _filled(category: CocoCategory, other: CocoCategory | None) -> CocoCategory:
    """A category of the validation file, with what only the training file says of it."""
    if other is None:
        return category
    return replace(category, name_zh=category.name_zh or other.name_zh, synonyms=category.synonyms or other.synonyms)


def check_class_names(names: Sequence[str], file: Path | str) -> None:
    """Check that classes have texts that differ; found later, it would end a run that has already made room for itself.

    Raises:
        Fgclip2Error: two do not, with the file.
    """
    try:
        check_names(names)
    except Fgclip2Error as error:
        raise Fgclip2Error(f"{file}: {error}") from error


def _lvis_fields(file: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Kind of entry -> id -> the fields that LVIS's protocol needs; empty for a COCO file."""
    content = read_annotation_file(file)
    if not is_lvis(content):
        return {}
    check_lvis(content)
    return {
        kind: {entry["id"]: {key: entry[key] for key in keys} for entry in content[kind]}
        for kind, keys in LVIS_FIELDS.items()
    }


def _load(root: Path, name: str) -> CocoDataset:
    file = root / name
    if not file.is_file() and Path(name).is_file():
        file = Path(name)
    folder = image_folder(file, read_annotation_file(file)["images"], root) if file.is_file() else root
    return load_coco(file, folder, check_sizes=True)


def with_masks(data: UserData) -> UserData:
    """The same data with the masks of all objects that count, as run lengths.

    Raises:
        Fgclip2Error: an object without mask, or with one that is damaged or of another size, with its file.
    """
    base = [name for name in data.train.names if name not in data.novel]
    trained = data.train.subset(base)
    train, val = (_outlined(part) for part in (trained, data.val))
    # The novel objects stay, for the count of what is left out.
    drawn = {item.id: item for item in train.annotations}
    lost = {item.id for item in trained.annotations} - drawn.keys()  # their masks cannot be used
    every = tuple(drawn.get(item.id, item) for item in data.train.annotations if item.id not in lost)
    return replace(data, train=replace(data.train, annotations=every), val=val, masks=True)


def _outlined(data: CocoDataset) -> CocoDataset:
    try:
        found, notes = outlined(data)
    except Fgclip2Error as error:
        raise Fgclip2Error(f"{error}; or take a config without mask_head, such as fvit.py") from error
    for note in notes:
        _log.warning("%s", note)
    return found


def write_user_data(data: UserData, directory: Path) -> DetectionData:
    """Write the checked annotations, training ones without novel classes, and describe the run's data.

    Args:
        data: from `read_user_data`.
        directory: for ``train.json`` and ``val.json``; made when missing.
    """
    base = [name for name in data.classes if name not in data.novel]
    kept = _trained(data)
    removed = len(data.train.annotations) - len(kept.annotations)
    notes = [
        f"{len(kept.images)} training pictures with {len(kept.annotations)} objects of {len(base)} base classes; "
        f"{removed} objects of {len(data.novel)} novel classes and {len(data.train) - len(kept)} pictures without base "
        "objects were left out of training",
        f"{len(data.val)} validation pictures with {len(data.val.annotations)} objects of {len(data.classes)} classes",
    ]
    notes += data.notes
    if data.lvis:
        notes.append("the validation file is LVIS's and evaluated by its protocol: 300 detections a picture count")
    directory.mkdir(parents=True, exist_ok=True)
    files = {part: directory / f"{part}.json" for part in ("train", "val")}
    write_atomically(files["train"], _content(kept, masks=data.masks))
    write_atomically(files["val"], _content(data.val, data.lvis, masks=data.masks, words=True))
    return DetectionData(
        classes=data.classes,
        novel=data.novel,
        vocabularies=data.vocabularies or {"names": data.classes},
        train_annotations=files["train"],
        val_annotations=files["val"],
        train_images=data.train.image_root,
        val_images=data.val.image_root,
        notes=notes,
        federated=bool(data.lvis),
        synonyms=data.synonyms,
    )


def training_content(data: UserData) -> bytes:
    """The training file as `write_user_data` writes it."""
    return _content(_trained(data), masks=data.masks)


def _trained(data: UserData) -> CocoDataset:
    base = [name for name in data.train.names if name in data.classes and name not in data.novel]
    return data.train.subset(base, keep_empty=False)


def _content(
    data: CocoDataset,
    lvis: dict[str, dict[int, dict[str, Any]]] | None = None,
    masks: bool = False,
    words: bool = False,
) -> bytes:
    """COCO JSON; with ``words``, which nothing is trained with as they stand there, categories have all their names."""
    more = {kind: (lvis or {}).get(kind, {}) for kind in LVIS_FIELDS}
    content = {
        "images": [
            {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
            | more["images"].get(image.id, {})
            for image in data.images
        ],
        "annotations": [
            {
                "id": item.id,
                "image_id": item.image_id,
                "category_id": item.category_id,
                "bbox": [item.box[0], item.box[1], item.box[2] - item.box[0], item.box[3] - item.box[1]],
                "area": (item.box[2] - item.box[0]) * (item.box[3] - item.box[1]),
                "iscrowd": int(item.is_crowd),
            }
            | ({"ignore": 1} if item.is_ignored else {})
            | ({"segmentation": item.segmentation} if masks else {})
            for item in data.annotations
        ],
        "categories": [
            {"id": category.id, "name": category.name}
            | ({"name_zh": category.name_zh} if words and category.name_zh else {})
            | ({"synonyms": category.synonyms} if words and category.synonyms else {})
            | more["categories"].get(category.id, {})
            for category in data.categories
        ],
    }
    return json.dumps(content, ensure_ascii=False).encode()
