"""Lists of pictures: the entries of a text, JSON, CSV or Parquet file, and what an entry says of its picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.search.entries import Value

SPAN: Final = ("shard_start", "shard_bytes")
"""Columns of pictures in shards: where in the tar file they lie."""
PATH_KEYS: Final = ("image", "f_path", "file_name", "path")
"""Of an entry, the first that it has names the picture."""

_RESERVED: Final = frozenset({"name", "sha256", "width", "height", "boxes", "bbox_info", *SPAN})


@dataclass(frozen=True)
class ListEntry:
    """One entry of a list.

    Attributes:
        place: where in the list, such as ``line 3``; of JSON, CSV and Parquet the number of the entry.
        fields: what it says; anything when it is not what it should be.
        problem: why it cannot be read; empty when it can.
    """

    place: str
    fields: Any
    problem: str = ""


def read_list(path: Path) -> list[ListEntry]:
    """All entries of a list.

    Raises:
        Fgclip2Error: it cannot be read as a list of its kind.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            with extras("search"):
                import pyarrow
                import pyarrow.parquet

            try:
                return _numbered(pyarrow.parquet.read_table(path).to_pylist())
            except pyarrow.ArrowException as error:
                raise ValueError(str(error)) from error
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".csv":
            return _csv(path)
        lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if suffix == ".txt":
            return [ListEntry(place, {"image": line.strip()}) for place, line in lines]
        if suffix == ".jsonl" or not text.lstrip().startswith(("[", "{")):
            return [_line(*line) for line in lines]
        return _numbered(_json_list(json.loads(text)))
    except (OSError, ValueError, RecursionError) as error:
        raise Fgclip2Error(f"{path} cannot be read as a list of pictures ({error})") from error


def _numbered(entries: Iterable[Any]) -> list[ListEntry]:
    return [ListEntry(f"entry {number}", fields) for number, fields in enumerate(entries, 1)]


def _csv(path: Path) -> list[ListEntry]:
    """The lines of a table, its columns of numbers or truth values where all of their values are."""
    with extras("search"):
        import pyarrow
        from pyarrow import csv

    problems: list[ListEntry] = []

    def note(row: csv.InvalidRow) -> str:
        what = f"it has {row.actual_columns} of {row.expected_columns} columns"
        problems.append(ListEntry(f"line {row.number}", row.text, what))
        return "skip"

    reading = csv.ReadOptions(use_threads=False)  # or lines have no numbers
    parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note)
    try:
        typed = csv.read_csv(path, reading, parsing)
        problems.clear()
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(typed.column_names, pyarrow.string()))
        table = csv.read_csv(path, reading, parsing, as_text)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    for number, name in enumerate(table.column_names):
        column = typed.column(number)
        number_like = pyarrow.types.is_floating(column.type) or pyarrow.types.is_boolean(column.type)
        if pyarrow.types.is_integer(column.type):  # 007 is a text
            kept = table.column(number).filter(column.is_valid())
            number_like = kept.equals(column.drop_null().cast(pyarrow.string()))
        if number_like and name not in PATH_KEYS:
            table = table.set_column(number, name, column)
    return _numbered(table.to_pylist()) + problems


def _line(place: str, line: str) -> ListEntry:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return ListEntry(place, line, f"it is not JSON ({error})")
    return ListEntry(place, fields, "" if isinstance(fields, dict) else "it is no JSON object")


def _json_list(content: Any) -> Iterator[Any]:
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        yield from _coco(content)
    elif isinstance(content, list):
        yield from ({"image": item} if isinstance(item, str) else item for item in content)
    else:
        raise ValueError("it is neither a list nor COCO")


def _coco(content: Mapping[str, Any]) -> Iterator[Any]:
    """The pictures of COCO JSON; annotations without a box, such as captions, say nothing that is kept."""
    annotations = content.get("annotations") or []
    if not isinstance(annotations, list):
        raise ValueError("its annotations are no list")
    boxes: dict[Any, list[Any]] = {}
    for item in annotations:
        given = item.get("bbox") if isinstance(item, dict) else None
        if given is None or not isinstance(item.get("image_id"), (int, str)):
            continue
        try:
            x, y, width, height = map(float, given)
        except (TypeError, ValueError, OverflowError):
            boxes.setdefault(item["image_id"], []).append(given)  # the picture fails by it, and its problem names it
            continue
        if width > 0 and height > 0:
            boxes.setdefault(item["image_id"], []).append([x, y, x + width, y + height])
    for image in content["images"]:
        if isinstance(image, dict):
            number = image.get("id")
            own = boxes.get(number, []) if isinstance(number, (int, str)) else []
            yield {**{key: value for key, value in image.items() if key not in ("id", "width", "height")}, "boxes": own}
        else:
            yield image


def boxes_of(fields: Mapping[str, Any]) -> tuple[list[list[float]], bool, str]:
    """Boxes of an entry, whether they are shares of the sides, and what is wrong with them."""
    shares = "boxes" not in fields and bool(fields.get("bbox_info"))
    given = fields["bbox_info"] if shares else fields.get("boxes") or []
    try:
        listed = json.loads(given) if isinstance(given, str) else given
        if shares:
            listed = [item["bbox"][:4] for item in listed]
        boxes = [[float(value) for value in box] for box in listed]
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError):
        what = "objects with a bbox of numbers" if shares else "numbers"
        return [], shares, f"its boxes {given!r:.60} are not {what}"
    for box in boxes:
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            return [], shares, f"its box {box} is not x1, y1, x2, y2 with area"
    return boxes, shares, ""


def plain(fields: Mapping[str, Any]) -> dict[str, Value]:
    """What can be a column: texts, numbers and truth values under names that are not the store's own."""
    return {
        key: value
        for key, value in fields.items()
        if isinstance(key, str)
        and key not in _RESERVED
        and key not in PATH_KEYS
        and isinstance(value, (str, int, float, bool))
        and value == value  # nan is no number to filter by, and would differ from itself in every run
    }


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: a half of a surrogate pair cannot, as in names that are other bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
