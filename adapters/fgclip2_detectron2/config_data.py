"""The data that a config describes: entered into detectron2's catalogs, and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from detectron2.data import DatasetCatalog
from omegaconf import DictConfig, OmegaConf

from fgclip2.errors import Fgclip2Error
from fgclip2.vocabulary import load_names, parse_names

from .datasets import class_set, forget, register_folder, segmentation_set
from .instances import InstanceSet, instance_set, register_coco
from .masks import MaskFormat
from .scenes import ScenesConfig, register_scene_instances, register_scenes

MASK_RCNN: Final = "fgclip2_detectron2.mask_rcnn.build_mask_rcnn"
"""The builder, as a config's ``model`` names it, of what takes instances."""


def register_data(cfg: DictConfig, train: bool = True) -> None:
    """Enter the data sets that a config describes itself (``scenes``, ``folders``, ``coco``), in place of earlier ones.

    Args:
        cfg: the config.
        train: the training data too, which evaluation does without.

    Raises:
        Fgclip2Error: a folder, file or names are missing or wrong.
    """
    parts = ("train", "val") if train else ("val",)
    if "scenes" in cfg:
        register_scenes(ScenesConfig(**OmegaConf.to_container(cfg.scenes)))
        register_scene_instances(ScenesConfig(**OmegaConf.to_container(cfg.scenes)))
    if "folders" in cfg:
        _register_folders(cfg.folders, parts)
    if "coco" in cfg:
        _register_coco(cfg.coco, parts)


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


def _register_coco(coco: DictConfig, parts: Sequence[str]) -> None:
    lacking = _lacking(coco, "coco", parts, ("annotations", "images"))
    if lacking:
        raise Fgclip2Error(f"your own data needs {', '.join(lacking)}: give key=value for each")
    novel = parse_names(coco.novel) if coco.novel else []
    chinese = load_names(coco.names_zh) if coco.names_zh else None
    for part in parts:
        forget(f"coco_{part}")
        register_coco(f"coco_{part}", coco[part].annotations, coco[part].images, names_zh=chinese, novel=novel)


def _register_folders(folders: DictConfig, parts: Sequence[str]) -> None:
    lacking = _lacking(folders, "folders", parts, ("images", "masks"))
    if lacking or not folders.names:
        raise Fgclip2Error(f"your own data needs {', '.join(lacking or ['folders.names'])}: give key=value for each")
    names = load_names(folders.names)
    novel = parse_names(folders.novel) if folders.novel else []
    chinese = load_names(folders.names_zh) if folders.names_zh else None
    form = MaskFormat.of(len(names), first=folders.first, background=folders.background)
    for part in parts:
        forget(f"folder_{part}")
        images, masks = folders[part].images, folders[part].masks
        register_folder(f"folder_{part}", images, masks, names, names_zh=chinese, form=form, novel=novel)
