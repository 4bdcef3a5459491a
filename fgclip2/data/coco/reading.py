"""Reading of annotation files: the JSON, with ids as whole numbers, as every program sees it.

Exporters write what mmdetection, pycocotools and supervision read without a word: ids as text, crowds as ``"0"`` or
``null``, a root category, objects of images that are gone. All of it is read here, once for all programs, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

from fgclip2.data.coco.problems import Problems, Repairs
from fgclip2.data.coco.values import listed
from fgclip2.data.outlines import outline_box
from fgclip2.errors import Fgclip2Error

_LISTS: Final = ("images", "annotations", "categories")
_NO_CLASS: Final = frozenset({"_background_", "__background__", "__ignore__"})
_YES, _NO = frozenset({"1", "true"}), frozenset({"", "0", "false"})


def read_annotation_file(file: Path, need_objects: bool = True) -> dict[str, list[Any]]:
    """The parsed JSON of a COCO or LVIS file, with what exporters write differently put right.

    Ids are whole numbers; those that are other texts are numbered, and stand as ``given_id`` in ``images``. ``iscrowd``
    and ``ignore`` are 0 or 1. Annotations without ``bbox`` have the box of their outline. Names of categories are
    without blanks around them. Root categories without objects, as Roboflow writes them, ``_background_``, and
    annotations of images or categories that the file does not have are left out. A warning counts each kind.

    Args:
        file: JSON.
        need_objects: the list of annotations must be there.

    Raises:
        Fgclip2Error: no such file, invalid JSON (with its line), another format, or entries that no program can use.
    """
    content, problems, repairs = parse_annotation_file(file, need_objects)
    problems.raise_any()
    repairs.log()
    return content


def parse_annotation_file(file: Path, need_objects: bool = True) -> tuple[dict[str, list[Any]], Problems, Repairs]:
    """As `read_annotation_file`, with the problems and repairs for the caller to add to.

    Raises:
        Fgclip2Error: no such file, invalid JSON (with its line), or another format.
    """
    content = _parsed(file, need_objects)
    problems, repairs = Problems(file), Repairs(file)
    listed_entries = {kind: len(content[kind]) for kind in _LISTS}
    for kind in _LISTS:
        for index, entry in enumerate(content[kind]):
            if not isinstance(entry, dict):
                problems.add(f"entry of {kind} that is no JSON object", f"number {index}")
        content[kind] = [entry for entry in content[kind] if isinstance(entry, dict)]
    for entry in content["categories"]:
        if isinstance(entry.get("name"), str):
            entry["name"] = entry["name"].strip()
    images, categories = (_numbered(content[kind], kind, problems, repairs) for kind in ("images", "categories"))
    for image in content["images"]:
        for key in ("width", "height"):
            if isinstance(image.get(key), float) and image[key].is_integer():  # 320.0
                image[key] = int(image[key])
    sizes = {
        image["id"]: (image.get("width"), image.get("height"))
        for image in content["images"]
        if isinstance(image.get("id"), int)  # others have a problem of their own
    }
    known = {"image_id": set(images.values()), "category_id": set(categories.values())}
    objects = content["annotations"]
    _number_objects(objects, repairs)
    kept = []
    for entry in objects:
        label = entry["id"]
        if not _refer(entry, "image_id", images, problems) or not _refer(entry, "category_id", categories, problems):
            continue
        strange = next((key for key, ids in known.items() if entry[key] not in ids), None)
        if strange is not None:
            entry["_stranger"] = strange
            continue
        for key in ("iscrowd", "ignore"):
            if key in entry or key == "iscrowd":
                flag = _flag(entry.get(key))
                if flag is None:
                    problems.add(f"annotation whose {key!r} is neither 0 nor 1", f"id {label} has {entry[key]!r:.40}")
                else:
                    entry[key] = flag
        if not entry.get("bbox") and entry.get("segmentation"):
            width, height = sizes[entry["image_id"]]
            if isinstance(width, int) and isinstance(height, int):
                box = outline_box(entry["segmentation"], width, height)
                if box is not None:
                    entry["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                    repairs.add("annotations without bbox have the box of their outline", label)
        kept.append(entry)
    # An object of an entry whose id cannot be read is no fault of its own.
    whole_lists = {
        key: sum(isinstance(entry.get("id"), int) for entry in content[kind]) == listed_entries[kind]
        for key, kind in (("image_id", "images"), ("category_id", "categories"))
    }
    _judge_strangers(objects, [key for key, complete in whole_lists.items() if complete], problems, repairs)
    content["annotations"] = kept
    content["categories"] = _without_roots(content["categories"], kept, repairs)
    return content, problems, repairs


def whole(value: Any) -> int | None:
    """``value`` as a whole number: 7, 7.0 and "7" are 7; ``None`` for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isascii() and value.strip().lstrip("-").isdigit():
        return int(value) if len(value) < 30 else None
    return None


def _parsed(file: Path, need_objects: bool) -> dict[str, list[Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise Fgclip2Error(f"the annotation file {str(file)!r} does not exist; give a COCO instance JSON") from error
    except (IsADirectoryError, PermissionError) as error:
        raise Fgclip2Error(f"the annotation file {str(file)!r} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise Fgclip2Error(
            f"{file} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}; was it cut short?"
        ) from error
    except UnicodeDecodeError as error:
        raise Fgclip2Error(f"{file} is not UTF-8 text (byte {error.start}); give a COCO instance JSON") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists without end
        raise Fgclip2Error(f"{file} cannot be read as JSON ({error}); give a COCO instance JSON") from error
    if not isinstance(content, dict):
        raise Fgclip2Error(f"{file} holds a JSON {type(content).__name__}, not an object; give a COCO instance JSON")
    if not need_objects:
        content.setdefault("annotations", [])
    lacking = [key for key in _LISTS if not isinstance(content.get(key), list)]
    if lacking:
        raise Fgclip2Error(
            f"{file} is not a COCO instance file: it has no list {listed(lacking)}; it has {listed(list(content), 6)}"
        )
    for key in ("images", "categories"):
        if not content[key]:
            raise Fgclip2Error(f"{file} lists no {key}; there is nothing to work with")
    return content


def _numbered(entries: Sequence[dict[str, Any]], kind: str, problems: Problems, repairs: Repairs) -> dict[Any, int]:
    """Ids as given, and as text -> whole numbers, which the entries get."""
    numbers: dict[Any, int] = {}
    largest = max((number for entry in entries if (number := whole(entry.get("id"))) is not None), default=0)
    for index, entry in enumerate(entries):
        given = entry.get("id")
        number = whole(given)
        if number is None and isinstance(given, str) and given.strip():
            number = numbers.get(given)
            if number is None:
                largest += 1
                number = largest
            repairs.add(f"ids of {kind} are texts and were numbered", repr(given))
            entry["given_id"] = given
        elif number is None:
            what = "without 'id'" if given is None else f"whose 'id' is no whole number ({given!r:.40})"
            problems.add(f"entry of {kind} {what}", f"number {index}")
            entry["id"] = None
            continue
        elif not isinstance(given, int):
            repairs.add(f"ids of {kind} are written as {type(given).__name__} and were read as whole numbers", given)
        entry["id"] = number
        numbers[given] = numbers[str(given)] = numbers[number] = number
    return numbers


def _number_objects(objects: Sequence[dict[str, Any]], repairs: Repairs) -> None:
    """Give every annotation a whole number for its id; only messages and duplicates need it."""
    largest = max((number for entry in objects if (number := whole(entry.get("id"))) is not None), default=0)
    for index, entry in enumerate(objects):
        number = whole(entry.get("id"))
        if number is None:
            largest += 1
            number = largest
            what = "have no id" if entry.get("id") is None else "have ids that are no whole numbers"
            repairs.add(f"annotations {what} and were numbered", f"number {index}")
        entry["id"] = number


def _refer(entry: dict[str, Any], key: str, known: dict[Any, int], problems: Problems) -> bool:
    """Put the whole number in place of a reference; ``None`` where the file has no such entry."""
    if key not in entry:
        problems.add(f"entry of annotations without {key!r}", f"id {entry['id']}")
        return False
    given = entry[key]
    found = known.get(given) if isinstance(given, Hashable) and not isinstance(given, bool) else None
    if found is None and (number := whole(given)) is not None:
        found = known.get(number)
    entry[f"_{key}"], entry[key] = given, found
    return True


def _judge_strangers(
    objects: Sequence[dict[str, Any]], keys: Sequence[str], problems: Problems, repairs: Repairs
) -> None:
    """Objects of images or categories that the file lacks: left out and counted, or refused where they are most.

    ``keys`` are those of ``image_id`` and ``category_id`` whose list has no entry that could not be read.
    """
    for key in keys:
        strange = [entry for entry in objects if entry.get("_stranger") == key]
        for entry in strange:
            label = f"id {entry['id']} has {entry[f'_{key}']!r:.40}"
            if 2 * len(strange) > len(objects):
                problems.add(f"annotation with an unknown {key}", label)
            else:
                repairs.add(f"annotations are left out, since the file has no such {key}", label)
    for entry in objects:
        for key in ("_stranger", "_image_id", "_category_id"):
            entry.pop(key, None)


def _flag(value: Any) -> int | None:
    if value is None or isinstance(value, bool):
        return int(bool(value))
    if isinstance(value, (int, float)):
        return int(value) if value in (0, 1) else None
    if isinstance(value, str) and value.strip().lower() in _YES | _NO:
        return int(value.strip().lower() in _YES)
    return None


def _without_roots(
    categories: Sequence[dict[str, Any]], objects: Sequence[dict[str, Any]], repairs: Repairs
) -> list[dict[str, Any]]:
    """The categories but those that stand for no class: roots of others, and backgrounds, both without objects."""
    used = {entry["category_id"] for entry in objects}
    parents = [(entry.get("supercategory"), entry.get("id")) for entry in categories]
    kept = []
    for entry in categories:
        name, above = entry.get("name"), entry.get("supercategory")
        of_another = isinstance(name, str) and any(one == name and own != entry.get("id") for one, own in parents)
        is_root = of_another and above in (None, "", "none", "None", name)
        if entry.get("id") not in used and (is_root or name in _NO_CLASS):
            what = "stands above others" if is_root else "is a background"
            repairs.add(f"categories without an object are no classes, since each {what}", repr(name))
        else:
            kept.append(entry)
    return kept
