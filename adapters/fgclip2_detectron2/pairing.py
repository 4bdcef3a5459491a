"""Images and the masks that belong to them, by name: one mask an image, one image a mask, or an error."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fgclip2.data.media import scan_folder
from fgclip2.errors import Fgclip2Error

MASK_SUFFIXES: Final = (".png", ".tif", ".tiff", ".bmp")
"""Endings of masks, in any case; formats that keep every value."""


@dataclass(frozen=True)
class Pairs:
    """Images with their masks.

    Attributes:
        records: detectron2's, in the order of the images' paths.
        unused: masks that belong to no image, sorted.
    """

    records: list[dict[str, Any]]
    unused: tuple[Path, ...]


def pair_masks(images: Path, masks: Path, listed: Path | None = None, *, prepared: str | None = None) -> Pairs:
    """Match images and masks by their paths below the two folders, without the ending.

    A mask may also be called ``NAME.jpg.png``. Hidden files are left out. Neither the case of an ending nor the
    Unicode form of a name (NFC or NFD) matters.

    Args:
        images: folder of images, searched with its subfolders.
        masks: folder of masks, with the images' names and subfolders.
        listed: names of the images that are in the set, as a list, one a line, or a folder of files of these names.
        prepared: what ``fgclip2_detectron2.prepare`` calls the set, whose masks are TIFF then.

    Raises:
        Fgclip2Error: a folder, the list, a listed image or a mask is missing; an image has two masks, or a mask two
            images; or both folders are one.
    """
    suffixes = MASK_SUFFIXES if prepared is None else (".tif",)
    advice = "" if prepared is None else f"; write it: python -m fgclip2_detectron2.prepare {prepared} --root ROOT"
    for folder in (masks, images):
        if not folder.is_dir():
            hint = advice if folder == masks else ""
            raise Fgclip2Error(f"the folder {str(folder)!r} does not exist (looked in {Path.cwd()}){hint}")
    if images.resolve() == masks.resolve():
        raise Fgclip2Error(f"{str(images)!r} is the folder of both images and masks; give each a folder of its own")
    wanted = None if listed is None else _listed(listed, suffixes)
    pictures = [path for path in _files(images, masks) if wanted is None or _plain(path.stem) in wanted]
    lost = sorted((wanted or set()) - {_plain(path.stem) for path in pictures})
    if lost:
        raise Fgclip2Error(
            f"{len(lost)} pictures that {str(listed)!r} names are not in {str(images)!r}; the first is {lost[0]!r}"
        )
    if not pictures:
        raise Fgclip2Error(f"the folder {str(images)!r} holds no picture" + (" of the list" if listed else ""))
    files = _files(masks, images)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if file.suffix.lower() in suffixes:
            by_name[_key(file, masks)].append(file)
    targets = {path: _targets(path, images, by_name) for path in pictures}
    lacking = [path for path, found in targets.items() if not found]
    if lacking:
        raise Fgclip2Error(_no_mask(lacking, len(pictures), masks, files, suffixes[0]) + advice)
    several = {str(path): found for path, found in targets.items() if len(found) > 1}
    if several:
        raise Fgclip2Error(_ambiguous("picture", "masks", several))
    owners: dict[str, list[Path]] = defaultdict(list)
    for path, (target,) in targets.items():
        owners[str(target)].append(path)
    shared = {target: found for target, found in owners.items() if len(found) > 1}
    if shared:
        raise Fgclip2Error(_ambiguous("mask", "pictures", shared))
    records = [
        {"file_name": str(path), "sem_seg_file_name": str(target), "image_id": index}
        for index, (path, (target,)) in enumerate(targets.items())
    ]
    every = {file for found in by_name.values() for file in found}
    unused = () if listed is not None else tuple(sorted(every - {target for (target,) in targets.values()}))
    return Pairs(records, unused)


def check_apart(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Compare the records of several parts, such as training and evaluation: each image has one mask in all of them.

    Args:
        parts: name of each part -> its records.

    Returns:
        A line where parts share images, which is known to flatter.

    Raises:
        Fgclip2Error: a mask belongs to two images, or an image has two masks.
    """
    notes: list[str] = []
    kinds = (("mask", "sem_seg_file_name", "file_name"), ("picture", "file_name", "sem_seg_file_name"))
    for kind, key, other in kinds:
        seen: dict[str, tuple[str, str]] = {}  # file -> its part and its partner
        for part, records in parts.items():
            both: list[str] = []
            for record in records:
                file, partner = os.path.realpath(record[key]), os.path.realpath(record[other])
                where, earlier = seen.setdefault(file, (part, partner))
                if earlier != partner:
                    raise Fgclip2Error(
                        f"the {kind} {record[key]!r} goes with {earlier!r} in {where} and with {partner!r} in {part}; "
                        "one of the folders is of another part"
                    )
                if where != part:
                    both.append(record[key])
            if both and key == "file_name":
                notes.append(
                    f"{len(both)} of {len(records)} pictures of {part} are in training too, such as {both[0]}: figures "
                    "say nothing about new pictures"
                )
    return notes


def few(files: Iterable[Any], most: int = 5) -> str:
    """The first few, and how many more there are."""
    given = [str(file) for file in files]
    return ", ".join(given[:most]) + (f" and {len(given) - most} more" if len(given) > most else "")


def _files(folder: Path, other: Path) -> list[Path]:
    """Image files below a folder, without the other folder's, should that lie inside."""
    scan = scan_folder(folder, leave_out=other)
    if scan.closed:
        where, reason = scan.closed[0]
        raise Fgclip2Error(f"the folder {str(where)!r} cannot be read ({reason}); mend its permissions")
    return list(scan.pictures)


def _targets(path: Path, images: Path, by_name: Mapping[str, list[Path]]) -> list[Path]:
    stem = _key(path, images)
    return [*by_name.get(stem, ()), *by_name.get(stem + path.suffix, ())]


def _key(path: Path, folder: Path) -> str:
    return _plain(path.relative_to(folder).with_suffix("").as_posix())


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _no_mask(lacking: Sequence[Path], count: int, masks: Path, files: Sequence[Path], suffix: str) -> str:
    first = lacking[0]
    near = [file for file in files if _plain(file.stem).startswith(_plain(first.stem))]
    lossy = [file for file in near if file.suffix.lower() not in MASK_SUFFIXES]
    hint = f"; with a like name there is {few(near)}" if near else ""
    if lossy:
        hint += f". {lossy[0].suffix} may change values, so it is no format for masks"
    return (
        f"{len(lacking)} of {count} pictures have no mask in {str(masks)!r}; the first is {str(first)!r}. A mask has "
        f"its picture's name and subfolder and ends in {suffix}{hint}"
    )


def _ambiguous(one: str, many: str, found: Mapping[str, Sequence[Path]]) -> str:
    name, others = next(iter(found.items()))
    more = f" ({len(found) - 1} more are like it)" if len(found) > 1 else ""
    return f"the {one} {name!r} has {len(others)} {many}: {few(others)}{more}; keep the one that belongs to it"


def _listed(listed: Path, suffixes: Sequence[str]) -> set[str]:
    if listed.is_dir():
        return {_plain(path.stem) for path in listed.iterdir() if path.suffix.lower() in suffixes}
    if not listed.is_file():
        raise Fgclip2Error(f"{str(listed)!r} is missing; it lists the pictures of the split, one name a line")
    lines = listed.read_text(encoding="utf-8-sig").split("\n")
    return {_plain(line.strip()) for line in lines if line.strip()}
