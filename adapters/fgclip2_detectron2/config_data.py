"""The data that a config describes: entered into detectron2's catalogs, and checked before anything is written."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from detectron2.data import DatasetCatalog
from omegaconf import DictConfig, OmegaConf

from fgclip2.data.coco import CocoDataset, CocoImage, load_coco
from fgclip2.data.coco_masks import outlined
from fgclip2.errors import Fgclip2Error
from fgclip2.names import load_names, parse_names, said
from fgclip2.processing import grid_size
from fgclip2.tower import PATCH

from .datasets import class_set, forget, segmentation_set, unseen_names
from .folder_data import register_folders
from .instances import LEAST, InstanceSet, instance_set, register_coco_data
from .masks import MaskFormat
from .pairing import few
from .scenes import ScenesConfig, register_scene_instances, register_scenes
from .survey import survey

SURVEYED: Final = 5000
"""Masks of a benchmark that are read before training."""
MASK_RCNN: Final = "fgclip2_detectron2.mask_rcnn.build_mask_rcnn"
"""The builder, as a config's ``model`` names it, of what takes instances."""
_PARTS: Final = {"folders": ("images", "masks"), "coco": ("annotations", "images")}  # what each part names
_EVALUATED: Final = {"folders": "folder_val", "coco": "coco_val"}  # a config's own data in the catalogs


def register_data(
    cfg: DictConfig,
    train: bool = True,
    trained: Collection[str] | None = None,
    overrides: Sequence[str] = (),
    unshown: Collection[str] | None = None,
) -> list[str]:
    """Enter the data sets that a config describes itself (``scenes``, ``folders``, ``coco``), in place of earlier ones.

    Args:
        cfg: the config.
        train: the training data too, which evaluation does without.
        trained: names of the classes that a checkpoint was trained on, in all its languages: what is evaluated and is
            not among them is novel, whatever the config says; only an override of ``novel`` can say otherwise.
        overrides: those of the config, which are known to be meant.
        unshown: classes of ``folders`` without a pixel in training, where its masks and the sizes of ``coco``'s images
            were read before; ``None`` reads all of them.

    Returns:
        What a user may not expect of the classes, a line each.

    Raises:
        Fgclip2Error: a folder, file or names are missing or wrong.
    """
    parts = ("train", "val") if train else ("val",)
    notes: list[str] = []
    if "scenes" in cfg:
        scenes = ScenesConfig(**cast("dict[str, Any]", OmegaConf.to_container(cfg.scenes)))
        register_scenes(scenes, trained)
        register_scene_instances(scenes, trained)
    entered: dict[str, Callable[..., list[str]]] = {
        "folders": partial(register_folders, unshown=unshown),
        "coco": partial(_register_coco, check_sizes=unshown is None),
    }
    for key, enter in entered.items():
        if key in cfg:
            meant = overridden(overrides, f"{key}.novel")
            lacking = _lacking(cfg[key], key, parts, _PARTS[key])
            if lacking or (key == "folders" and not cfg.folders.names):
                needed = ", ".join(lacking or ["folders.names"])
                raise Fgclip2Error(f"your own data needs {needed}: give key=value for each")
            notes += enter(cfg[key], parts, None if meant else trained)
            if meant and trained is not None:
                notes += _contradictions(f"{key}.novel", _EVALUATED[key], trained)
    return notes


def overridden(overrides: Sequence[str], key: str) -> bool:
    """Whether an override sets an entry of a config, or a part that it is in."""
    words = [text.partition("=")[0].lstrip("+") for text in overrides]
    return any(key == word or key.startswith(f"{word}.") for word in words)


def _contradictions(key: str, dataset: str, trained: Collection[str]) -> list[str]:
    """Where an override and the training disagree on what is novel."""
    data = class_set(dataset)
    unseen = set(unseen_names(data.names, trained))
    pairs = (("base", "not trained", unseen - data.novel), ("novel", "trained", data.novel - unseen))
    return [
        f"{key} as you say: {few(sorted(names))} count as {group}, though {fact}"
        for group, fact, names in pairs if names
    ]  # fmt: skip


def check_data(cfg: DictConfig, train: bool = True) -> None:
    """Find the files of all data sets before the first is used, and whether the model can take them.

    Raises:
        Fgclip2Error: there are none, or a data set has instances where labels are needed, or the other way round.
    """
    target = cfg.model._target_
    builder = target if isinstance(target, str) else f"{target.__module__}.{target.__name__}"
    wanted = instance_set if builder == MASK_RCNN else segmentation_set
    for name in (*([cfg.data.train] if train else []), *cfg.data.test):
        wanted(name)
        if not len(DatasetCatalog.get(name)):
            raise Fgclip2Error(f"the data set {name!r} has no pictures")
    if train:
        training_records(cfg.data.train)


def training_notes(cfg: DictConfig) -> list[str]:
    """What of a config's training data can never be learned, a line each.

    Classes of a benchmark that no mask shows, of `SURVEYED` masks at most; and objects that the size of training images
    makes too small. Masks of ``folders`` are read when they are entered.

    Raises:
        Fgclip2Error: masks that cannot be used.
    """
    dataset, data = cfg.data.train, class_set(cfg.data.train)
    if isinstance(data, InstanceSet):
        return _too_small(dataset, data, cfg)
    form = getattr(getattr(data, "load", None), "form", None)
    if not isinstance(form, MaskFormat) or dataset == "folder_train":
        return []
    records = DatasetCatalog.get(dataset)
    chosen = records[:: -(-len(records) // SURVEYED)]
    unshown = [data.main[label] for label in survey(chosen, form, dataset).unshown(form)]
    some = "" if len(chosen) == len(records) else f" in {len(chosen):,} of its {len(records):,} masks"
    return [f"{dataset}: {len(unshown)} of {len(data.main)} classes have no pixel{some}: {few(unshown)}"] * bool(
        unshown
    )


def _too_small(dataset: str, data: InstanceSet, cfg: DictConfig) -> list[str]:
    """Objects whose boxes have less than `LEAST` pixels in training images, however large a crop makes them."""
    labels: dict[int, int] | None = getattr(data.load, "labels", None)
    if labels is None:  # generated scenes
        return []
    small: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for record in DatasetCatalog.get(dataset):
        image = record["coco"]
        rows, columns = grid_size(image.width, image.height, cfg.data.max_patches, PATCH)
        scale = rows * columns * PATCH**2 / (image.width * image.height) / cfg.data.crop[0]
        for thing in record["things"]:
            if not (thing.is_crowd or thing.is_ignored):
                x1, y1, x2, y2 = thing.box
                name = data.main[labels[thing.category_id]]
                every[name] += 1
                small[name] += (x2 - x1) * (y2 - y1) * scale < LEAST
    total = small.total()
    if not total:
        return []
    whole = [name for name, count in small.items() if count == every[name]]  # each has an object
    also = f"; of {few(whole)} none is trained" if whole else ""
    return [
        f"{dataset}: {total:,} of {every.total():,} objects have less than {LEAST} pixels in training images and are "
        f"not trained{also}. Are their coordinates in pixels? More data.max_patches keep small ones"
    ]


def training_records(dataset: str) -> tuple[list[dict[str, Any]], int]:
    """What is trained on, and how many other pictures were left out: those of instances without a trained one.

    As detectron2's own loaders do: such a picture has no region to learn classes, boxes or masks from.

    Raises:
        Fgclip2Error: none is left.
    """
    records, data = list(DatasetCatalog.get(dataset)), class_set(dataset)
    if not isinstance(data, InstanceSet) or data.shown is None:
        return records, 0
    base = set(data.base)
    kept = [record for record in records if not base.isdisjoint(data.shown(record))]
    if not kept:
        raise Fgclip2Error(
            f"none of the {len(records)} pictures of {dataset!r} shows an object of the {len(base)} classes that are "
            "trained (crowds do not count); give other annotations, or keep fewer classes out of training"
        )
    return kept, len(records) - len(kept)


def _lacking(given: Mapping[str, Any], what: str, parts: Sequence[str], kinds: Sequence[str]) -> list[str]:
    return [f"{what}.{part}.{kind}" for part in parts for kind in kinds if not given[part][kind]]


def _register_coco(
    coco: DictConfig, parts: Sequence[str], known: Collection[str] | None, check_sizes: bool = True
) -> list[str]:
    """The evaluation file says which classes there are; of what the training file has no object is novel.

    So the files of OV-COCO work, whose training file has objects of the base categories only, whether it lists the
    others or not.
    """
    files = {part: load_coco(coco[part].annotations, coco[part].images, check_sizes=check_sizes) for part in parts}
    shared = _shared_images(files)
    for part, data in files.items():
        files[part], unusable = outlined(data)
        shared += unusable
    stated = _stated_novel(coco.novel, files) if known is None else []
    every, trained = files["val"].names, files.get("train", files["val"]).names
    notes = shared + [line for part, data in files.items() for line in _without_objects(data, f"coco.{part}", part)]
    shown = {said(name) for name, count in files["train"].counts().items() if count} if "train" in files else None
    if shown is None:
        shown = {said(name) for name in every}
    base = shown - {said(name) for name in stated}
    if not base:
        raise Fgclip2Error(
            f"none of the {len(files[parts[0]])} pictures of coco.{parts[0]} shows an object of a class that is not "
            f"novel ({notes[0] if notes else coco.novel}); give other annotations, or keep fewer classes out"
        )
    chinese = _chinese_of(load_names(coco.names_zh), files) if coco.names_zh else None
    for part, data in files.items():
        forget(f"coco_{part}")
        names_zh = None if chinese is None else [chinese[said(name)] for name in data.names]
        novel = [name for name in data.names if said(name) not in base]
        if known is not None:
            spoken = {"own": data.names, **({} if names_zh is None else {"zh": names_zh})}
            novel = unseen_names(spoken, known)
        register_coco_data(f"coco_{part}", data, names_zh=names_zh, novel=novel)
    asked = {said(name) for name in every}
    unseen = [name for name in every if said(name) not in {said(word) for word in (*trained, *stated)}]
    unasked = [name for name in trained if said(name) not in asked]
    if unseen:
        notes.append(f"{len(unseen)} of {len(every)} classes are not in coco.train and so are novel: {few(unseen)}")
    if unasked:
        notes.append(f"{len(unasked)} classes of coco.train are trained and not evaluated: {few(unasked)}")
    return notes


def _shared_images(files: Mapping[str, CocoDataset]) -> list[str]:
    """A line where training and evaluation share images, whose annotations must then agree.

    Raises:
        Fgclip2Error: a class has other boxes in one file than in the other, so that one of them is of other images.
    """
    if len(files) < 2:
        return []
    train, val = files["train"], files["val"]
    trained = {os.path.realpath(train.path(image)): image for image in train.images}
    both = [(trained[file], image) for image in val.images if (file := os.path.realpath(val.path(image))) in trained]
    for first, second in both:
        one, other = _boxes(train, first), _boxes(val, second)
        differing = [name for name in one if name in other and one[name] != other[name]]
        if differing or (first.width, first.height) != (second.width, second.height):
            what = f"other boxes of {differing[0]!r}" if differing else "another size"
            raise Fgclip2Error(
                f"{str(val.path(second))!r} has {what} in coco.train than in coco.val; one of the files is of other "
                "images of the same names. Give each part its own folder"
            )
    if not both:
        return []
    return [
        f"{len(both)} of {len(val)} pictures of coco.val are in training too, such as {both[0][1].file_name}: figures "
        "say nothing about new pictures"
    ]


def _boxes(data: CocoDataset, image: CocoImage) -> dict[str, list[tuple[float, ...]]]:
    """Class -> its boxes in one image, sorted."""
    names = {category.id: said(category.name) for category in data.categories}
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for item in data.by_image[image.id]:
        found[names[item.category_id]].append(item.box)
    return {name: sorted(boxes) for name, boxes in found.items()}


def _without_objects(data: CocoDataset, what: str, part: str) -> list[str]:
    """A line on the classes that a file lists and never shows, with the reason."""
    # COCO's evaluation judges ignored objects; nobody trains on them.
    empty = {name: reason for name, reason in data.untrained().items() if part == "train" or "ignored" not in reason}
    if not empty:
        return []
    effect = "so are novel" if part == "train" else "are not judged"
    reasons = [f"{name} ({reason})" for name, reason in empty.items()]
    return [f"{what}: {len(empty)} of {len(data.categories)} classes have no object and {effect}: {few(reasons)}"]


def _stated_novel(text: str, files: Mapping[str, CocoDataset]) -> list[str]:
    """The names of ``coco.novel``, each a class of one of the files; ``rare`` stands for LVIS's rare ones."""
    if not text:
        return []
    categories = {said(item.name): item for data in files.values() for item in data.categories}
    rare = [item.name for item in categories.values() if item.frequency == "r"]
    if text == "rare" and said(text) not in categories:
        if not rare:
            raise Fgclip2Error("coco.novel=rare: no category has frequency r, as LVIS's have; name the novel classes")
        return rare
    names = parse_names(text, categories)
    unknown = [name for name in names if said(name) not in categories]
    if unknown:
        raise Fgclip2Error(f"novel classes that the data set does not have: {few(unknown)}")
    return names


def _chinese_of(names: Sequence[str], files: Mapping[str, CocoDataset]) -> dict[str, str]:
    """Chinese names by the file's own ones, which is how the training file finds them whatever its order."""
    own = files["val"].names
    if len(names) != len(own):
        raise Fgclip2Error(
            f"coco.names_zh has {len(names)} names, {files['val'].annotation_file} has {len(own)} categories; give "
            "one a category, in that file's order"
        )
    chinese = {said(name): word for name, word in zip(own, names, strict=True)}
    lacking = [name for data in files.values() for name in data.names if said(name) not in chinese]
    if lacking:
        raise Fgclip2Error(
            f"coco.names_zh says nothing of {few(lacking)}: {files['val'].annotation_file}, whose categories it "
            "follows, lacks them. Add them there, or leave out coco.names_zh"
        )
    return chinese
