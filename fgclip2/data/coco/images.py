"""Files of images: the one that a name in an annotation file means, and the folder that holds all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from fgclip2.data.coco.values import CocoDataset, listed
from fgclip2.data.locate import spellings
from fgclip2.errors import Fgclip2Error

_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://[^/]*/?")
_STORE: Final = re.compile(r"^.*[?&]d=")  # Label Studio: /data/local-files/?d=folder/a.jpg


def find_image(root: Path, name: str) -> str | None:
    r"""The file below ``root`` that a name means, relative to ``root``; ``None`` when there is none.

    Labelling tools write names of other machines. These are tried in turn: the spellings of
    `fgclip2.data.locate.spellings`; without a scheme or Label Studio's store address; and at last without the first
    folders, as ``upload/1/a.jpg`` and ``a.jpg`` of ``/data/upload/1/a.jpg``.

    Args:
        root: folder of the images.
        name: as the annotation file has it.
    """
    return next((candidate for candidate in _candidates(name) if is_image_file(root, candidate)), None)


def _candidates(name: str) -> Iterator[str]:
    spelled = list(spellings(name))
    spelled += [form for form in (cut(one) for cut in (_stored, _without_scheme) for one in spelled) if form]
    yield from spelled
    for one in spelled:
        parts = [part for part in PurePosixPath(one.lstrip("/")).parts if part not in (".", "..")]
        for start in range(len(parts)):
            yield "/".join(parts[start:])


def _stored(name: str) -> str:
    return _STORE.sub("", name) if _STORE.match(name) else ""


def _without_scheme(name: str) -> str:
    return _SCHEME.sub("", name) if _SCHEME.match(name) else ""


def is_image_file(root: Path, name: str) -> bool:
    """Whether ``name`` is a file below ``root``; no name is too long or too odd to be asked for."""
    try:
        return bool(name) and "\0" not in name and (root / name).is_file()
    except (OSError, ValueError, RuntimeError):  # a name longer than the system allows, or no name at all
        return False


def with_file_name(entry: Any, root: Path) -> Any:
    """An entry of ``images`` with a ``file_name`` relative to ``root``.

    LVIS names a picture by where it once was, ``coco_url``: ``.../val2017/1.jpg``; it lies there or in ``root`` itself.
    So does one whose ``file_name`` is not there: some copies of LVIS have names of another layout beside the address.
    Names of other machines are looked for as by `find_image`.
    """
    if not isinstance(entry, dict):
        return entry
    own, url = entry.get("file_name"), entry.get("coco_url")
    if isinstance(own, str):
        if is_image_file(root, own):
            return entry
        found = find_image(root, own)
        if found is not None:
            return {**entry, "file_name": found}
    if isinstance(url, str) and url:
        split, _, name = "/".join(url.split("/")[-2:]).rpartition("/")
        places = [place for place in (name, f"{split}/{name}") if is_image_file(root, place)]
        if places:
            return {**entry, "file_name": places[0]}
        if "file_name" not in entry:
            return {**entry, "file_name": f"{split}/{name}" if split else name}
    return entry


def image_folder(file: Path, entries: Sequence[Any], root: Path | None = None) -> Path:
    """The folder that the images of an annotation file lie in.

    Folders beside the annotation file come first, then those beside its folder, then those of ``root``. A folder counts
    when it has every image.

    Args:
        file: the annotation file.
        entries: its ``images``.
        root: folder of the data, looked at after the annotation file's own neighbours.

    Raises:
        Fgclip2Error: several folders have every image and it cannot be known which are meant, or none has.
    """
    here = file.parent
    split = file.stem.removeprefix("instances_")
    near = [here, here / "images", here / "data", here / split, here / "images" / split]
    above = [here.parent / "images", here.parent / split, here.parent / "images" / split, here.parent / "data"]
    base = root if root is not None else here
    wide = [base, base / "images", base / split, base / "images" / split, base / "data"]
    missing: dict[Path, int] = {}
    for folders in (near, above, wide):
        complete: dict[Path, Path] = {}
        for folder in dict.fromkeys(folders):
            if folder.is_dir() and folder not in missing:
                missing[folder] = _missing(folder, entries)
            if missing.get(folder) == 0:
                complete.setdefault(_first_place(folder, entries), folder)
        if len(complete) > 1:
            raise Fgclip2Error(
                f"{file}: its images are in several folders ({listed(list(complete.values()))}), and only one can be "
                "meant; move the annotation file beside its own images"
            )
        if complete:
            return next(iter(complete.values()))
    best = min(missing, key=lambda folder: missing[folder], default=base)
    if missing.get(best, len(entries)) == len(entries):
        return base / "images" if root is not None and (base / "images").is_dir() else base
    return best  # `load_coco` names what is missing there


def _missing(folder: Path, entries: Iterable[Any]) -> int:
    count = 0
    for entry in entries:
        name = with_file_name(entry, folder)
        name = name.get("file_name") if isinstance(name, dict) else None
        count += not (isinstance(name, str) and is_image_file(folder, name))
    return count


def _first_place(folder: Path, entries: Sequence[Any]) -> Path:
    """Where the first image is: two folders may lead to the same files, one through a longer name."""
    return (
        Path(folder / str(with_file_name(entries[0], folder)["file_name"])).resolve() if entries else folder.resolve()
    )


def check_distinct(train: CocoDataset, val: CocoDataset) -> list[str]:
    """Check that two parts of a data set do not lay different labels on the same image files.

    Two exports that number their images alike (``000000.jpg`` in two tasks) meet in one folder: then the labels of one
    lie on the images of the other. Images that are in both parts with the same labels are told.

    Returns:
        Sentences for the person who started the run.

    Raises:
        Fgclip2Error: files that both parts name and label differently.
    """
    places = {train.path(image).resolve(): image for image in train.images}
    both = [(places[path], image) for image in val.images if (path := val.path(image).resolve()) in places]
    if not both:
        return []
    differing = [
        val_image.file_name for image, val_image in both if _labels(train, image.id) != _labels(val, val_image.id)
    ]
    if differing:
        raise Fgclip2Error(
            f"{train.annotation_file} and {val.annotation_file} name the same files in {val.image_root} with different "
            f"labels: {listed(differing, 3)}. Do two exports number their images alike? Keep each beside its own images"
        )
    return [f"{len(both)} of {len(val)} validation images are training images too, so the figures flatter"]


def _labels(data: CocoDataset, image: int) -> set[tuple[Any, ...]]:
    names: Mapping[int, str] = {category.id: category.name for category in data.categories}
    return {(names[item.category_id], *(round(value) for value in item.box)) for item in data.by_image[image]}
