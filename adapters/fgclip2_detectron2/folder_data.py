"""The data of a config's ``folders``: images, masks, names and values, looked through before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fgclip2.data.labelmap import read_labelmap
from fgclip2.errors import Fgclip2Error
from fgclip2.names import check_names, load_names, parse_names

from .datasets import forget, register_folder, unseen_names
from .masks import MaskFormat
from .pairing import Pairs, check_apart, few, pair_masks
from .survey import describe, survey


def register_folders(
    folders: DictConfig,
    parts: Sequence[str],
    known: Collection[str] | None = None,
    unshown: Collection[str] | None = None,
) -> list[str]:
    """Enter ``folder_train`` and ``folder_val``; every mask is read first.

    A class that no training mask shows is novel: it cannot be learned.

    Args:
        folders: the config's part.
        parts: ``train``, ``val``.
        known: names of the classes that a checkpoint was trained on; all others are novel then.
        unshown: classes without a pixel in training, where the masks were read before; ``None`` reads all of them.

    Returns:
        What a user may not expect, a line each.

    Raises:
        Fgclip2Error: folders, masks, names or values are missing or wrong.
    """
    names, form = _names_and_values(folders)
    chinese = load_names(folders.names_zh) if folders.names_zh else None
    check_names(names)
    pairs = {part: pair_masks(Path(folders[part].images), Path(folders[part].masks)) for part in parts}
    notes = check_apart({f"folders.{part}": found.records for part, found in pairs.items()})
    notes += _unused(pairs)
    if unshown is None:
        found = {part: survey(pairs[part].records, form, f"folders.{part}") for part in parts}
        unshown = [names[label] for label in found["train"].unshown(form)] if "train" in found else []
        stated = _numbers(folders, "ignored") is not None
        effects = {"train": "so are novel", "val": "are not judged"}
        for part, seen in found.items():
            notes += describe(seen, names, form, f"folders.{part}", effects[part], stated)
    novel = list(dict.fromkeys([*(parse_names(folders.novel) if folders.novel else []), *unshown]))
    if known is not None:
        novel = unseen_names({"own": names, **({} if chinese is None else {"zh": chinese})}, known)
    for part, matched in pairs.items():
        forget(f"folder_{part}")
        images, masks = folders[part].images, folders[part].masks
        register_folder(f"folder_{part}", images, masks, names, names_zh=chinese, form=form, novel=novel, pairs=matched)
    return notes


def _names_and_values(folders: DictConfig) -> tuple[list[str], MaskFormat]:
    """Class names, and what mask values mean; a label map says both."""
    values, ignored = _numbers(folders, "values"), _numbers(folders, "ignored")
    labels = read_labelmap(folders.names) if Path(folders.names).suffix.lower() == ".txt" else None
    first, background = folders.get("first", 0), folders.get("background")
    if values is not None and first:
        raise Fgclip2Error("folders.first and folders.values were both given; give one of them")
    if labels is not None:
        if values is not None or first:
            raise Fgclip2Error("folders.values and folders.first would do nothing with a label map; leave them out")
        left_out = {background, *(ignored or ())}
        values = [value for value in range(len(labels.names)) if value not in left_out]
        names = [labels.names[value] for value in values]
    else:
        names = load_names(folders.names)
        values = list(range(first, first + len(names))) if values is None else values
    if len(values) != len(names):
        raise Fgclip2Error(
            f"folders.values has {len(values)} values, {folders.names} has {len(names)} names; give one value a class"
        )
    colors = None if labels is None else labels.colors
    form = MaskFormat.with_values(
        values, background=background, ignored=ignored, colors=colors, setting="folders.ignored=..."
    )
    return names, form


def _numbers(folders: DictConfig, key: str) -> list[int] | None:
    """A setting that lists mask values: ``[0, 4]``, ``"0, 4"`` or ``4``; ``None`` where it is not given."""
    given: Any = folders.get(key)
    if given is None or given == "":
        return None
    if isinstance(given, str):
        given = [text.strip() for text in given.strip("[]").split(",") if text.strip()]
    items = [given] if isinstance(given, (int, float)) else list(given)
    try:
        numbers = [int(str(item)) for item in items]
    except ValueError as error:
        raise Fgclip2Error(f"folders.{key} is {given}; give mask values, such as folders.{key}=[0, 4]") from error
    return numbers


def _unused(pairs: Mapping[str, Pairs]) -> list[str]:
    """Masks that no part has an image for; parts may share a folder of masks."""
    used = {record["sem_seg_file_name"] for found in pairs.values() for record in found.records}
    notes = []
    for part, found in pairs.items():
        left = [path for path in found.unused if str(path) not in used]
        if left:
            notes.append(f"folders.{part}: {len(left)} masks belong to no picture and are not used: {few(left)}")
    return notes
