"""The data of a config's ``folders``: images, masks, names and values, looked through before anything is written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from omegaconf import DictConfig

from fgclip2.data.labelmap import read_labelmap
from fgclip2.errors import Fgclip2Error
from fgclip2.names import check_names, load_names, load_numbers, parse_names

from .datasets import forget, register_folder, unseen_names
from .masks import MaskFormat
from .pairing import Pairs, check_apart, few, pair_masks
from .survey import describe, survey

_NUMBERED: Final = re.compile(r"(\d+)\s*[:;,=\t]\s*\S")
"""A class name with its mask value in front: ``0: sky``."""


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
    chinese = load_names(_path(folders, "names_zh")) if folders.names_zh else None
    check_names(names)
    pairs = {part: pair_masks(Path(folders[part].images), Path(folders[part].masks)) for part in parts}
    notes = check_apart({f"folders.{part}": found.records for part, found in pairs.items()})
    notes += _unused(pairs) + _other_ids(folders, form)
    if unshown is None:
        found = {part: survey(pairs[part].records, form, f"folders.{part}") for part in parts}
        unshown = [names[label] for label in found["train"].unshown(form)] if "train" in found else []
        stated = _numbers(folders, "ignored") is not None
        effects = {"train": "so are novel", "val": "are not judged"}
        for part, seen in found.items():
            notes += describe(seen, names, form, f"folders.{part}", effects[part], stated)
    novel = list(dict.fromkeys([*(parse_names(folders.novel, names) if folders.novel else []), *unshown]))
    if known is not None:
        novel = unseen_names({"own": names, **({} if chinese is None else {"zh": chinese})}, known)
    for part, matched in pairs.items():
        forget(f"folder_{part}")
        images, masks = folders[part].images, folders[part].masks
        register_folder(f"folder_{part}", images, masks, names, names_zh=chinese, form=form, novel=novel, pairs=matched)
    return notes


def _names_and_values(folders: DictConfig) -> tuple[list[str], MaskFormat]:
    """Class names, and what mask values mean; a label map and names by number say both."""
    values, ignored = _numbers(folders, "values"), _numbers(folders, "ignored")
    file = _path(folders, "names")
    labels = read_labelmap(file) if file.suffix.lower() == ".txt" else None
    first, background = _number(folders, "first") or 0, _number(folders, "background")
    if values is not None and first:
        raise Fgclip2Error("folders.first and folders.values were both given; give one of them")
    if labels is not None:
        if values is not None or first:
            raise Fgclip2Error("folders.values and folders.first would do nothing with a label map; leave them out")
        left_out = {background, *(ignored or ())}
        values = [value for value in range(len(labels.names)) if value not in left_out]
        names = [labels.names[value] for value in values]
    else:
        names = load_names(file)
        _check_bare(names, file)
        if values is None and not first:
            values = load_numbers(file)
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


def _other_ids(folders: DictConfig, form: MaskFormat) -> list[str]:
    """A line where a file of names has ids that are not the values that masks are read with."""
    if form.colors is not None or _numbers(folders, "values") is not None:
        return []
    ids = load_numbers(folders.names, ids=True)
    if ids is None or ids == list(form.values):
        return []
    return [
        f"{folders.names} has ids {few(ids)}; masks are read with the values {few(form.values)}. If masks hold the "
        f"ids, give folders.values=[{', '.join(map(str, ids[:8]))}{', ...' if len(ids) > 8 else ''}]"
    ]


def _check_bare(names: Sequence[str], file: Path) -> None:
    """Refuse lines that are more than names: a heading would move every class, a number would be read as text."""
    if names[0].startswith("#"):
        raise Fgclip2Error(f"{file} begins with {names[0]!r}, which would be the first class; leave out comments")
    numbered = [_NUMBERED.match(name) for name in names]
    if all(numbered) and len(names) > 1:
        values = ", ".join(match[1] for match in numbered[:5] if match) + (", ..." if len(names) > 5 else "")
        raise Fgclip2Error(
            f"every line of {file} begins with a number, such as {names[0]!r}; give names alone, and numbers as "
            f"folders.values=[{values}]"
        )


def _path(folders: DictConfig, key: str) -> Path:
    given = folders[key]
    if not isinstance(given, str):
        raise Fgclip2Error(f"folders.{key} is {given}; give a .txt file with one class name a line, or .json")
    return Path(given)


def _number(folders: DictConfig, key: str) -> int | None:
    """A setting that is one mask value."""
    numbers = _numbers(folders, key)
    if numbers is not None and len(numbers) != 1:
        raise Fgclip2Error(f"folders.{key} is {folders[key]}; give one mask value, such as folders.{key}=0")
    return None if numbers is None else numbers[0]


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
        many = key in ("values", "ignored")
        raise Fgclip2Error(
            f"folders.{key} is {given}; give {'mask values' if many else 'a mask value'}, such as "
            f"folders.{key}={'[0, 4]' if many else 0}"
        ) from error
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
