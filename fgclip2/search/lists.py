"""Lists of pictures: the entries of a text, JSON, CSV or Parquet file, and what an entry says of its picture."""

from __future__ import annotations

import csv as tables
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.search.conditions import LISTED
from fgclip2.search.entries import Value
from fgclip2.search.tables import OWN_COLUMNS
from fgclip2.search.values import Unkept, as_value

SPAN: Final = ("shard_start", "shard_bytes")
"""Columns of pictures in shards: where in the tar file they lie."""
PATH_KEYS: Final = ("image", "f_path", "file_name", "path", "filepath", "filename")
"""Of an entry, the first that it has names the picture; case does not count where none is written so."""
LISTS: Final = (".txt", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Endings of lists."""

_DELIMITERS: Final = (",", ";", "\t", "|")
_BOXES: Final = ("boxes", "bbox_info")
_STORED: Final = re.compile(rf"(?:{re.escape(LISTED)})*(?:{'|'.join((*OWN_COLUMNS, *SPAN))})")


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
            return _parquet(path)
        data = path.read_bytes()
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # as spreadsheets save "Unicode text"
        text = data.decode("utf-16" if wide else "utf-8-sig")
        text = text if "\n" in text else text.replace("\r", "\n")
        if suffix in (".csv", ".tsv"):
            return _csv(text, suffix)
        lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if suffix == ".txt":
            return [ListEntry(place, {"image": line.strip()}) for place, line in lines]
        return _json(text, lines, suffix)
    except (OSError, ValueError, RecursionError) as error:
        raise Fgclip2Error(f"{path} cannot be read as a list of pictures ({error})") from error


def _parquet(path: Path) -> list[ListEntry]:
    """The rows of a table; times to the microsecond, which is all that Python's have."""
    with extras("search"):
        import pyarrow
        import pyarrow.parquet
        from pyarrow import types

    try:
        table = pyarrow.parquet.read_table(path)
        for number, field in enumerate(table.schema):
            if types.is_timestamp(field.type):
                as_micro = table.column(number).cast(pyarrow.timestamp("us", field.type.tz), safe=False)
                table = table.set_column(number, field.name, as_micro)
        return _numbered(_embedded(row, f"{path.name}#{number}") for number, row in enumerate(table.to_pylist()))
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _embedded(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A row of Parquet whose ``image`` is the encoded bytes, or a struct of ``bytes`` and ``path``, under a name."""
    given = row.get("image")
    data, path = (given.get("bytes"), given.get("path")) if isinstance(given, dict) else (given, None)
    if isinstance(data, bytes):
        return {**row, "image": name, **({"image.path": path} if path else {})}
    return {**row, "image": path} if isinstance(given, dict) and path else row


def _json(text: str, lines: list[tuple[str, str]], suffix: str) -> list[ListEntry]:
    """A list, COCO, or an object a line: the text decides, as in training, and the name only where it does not."""
    if text.lstrip()[:1] in ("[", "{"):
        try:
            content = json.loads(text)
        except ValueError:
            if suffix == ".json" and not (text.lstrip()[0] == "{" and _is_json(lines[0][1])):
                raise
        else:
            if not (suffix != ".json" and isinstance(content, dict) and len(lines) == 1 and "images" not in content):
                return _numbered(_json_list(content))
    return [_line(*line) for line in lines]


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _numbered(entries: Iterable[Any]) -> list[ListEntry]:
    return [ListEntry(f"entry {number}", fields) for number, fields in enumerate(entries, 1)]


def _csv(text: str, suffix: str) -> list[ListEntry]:
    """The lines of a table, its columns of numbers or truth values where all of their values are."""
    with extras("search"):
        import pyarrow
        from pyarrow import csv

    declared = re.match(r"sep=(.)\r?\n", text)  # a line that spreadsheets write and read
    if declared:
        text = text[declared.end() :]
    delimiter, names = _header(text, declared[1] if declared else "\t" if suffix == ".tsv" else "")
    if not names:
        raise ValueError("it is empty")
    data = text.encode()
    problems: list[ListEntry] = []

    def note(row: csv.InvalidRow) -> str:
        what = f"it has {row.actual_columns} of {row.expected_columns} columns"
        problems.append(ListEntry(f"line {row.number}", row.text, what))
        return "skip"

    reading = csv.ReadOptions(use_threads=False)  # or lines have no numbers
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note)
    try:
        typed = csv.read_csv(io.BytesIO(data), reading, parsing)
        problems.clear()
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(typed.column_names, pyarrow.string()))
        table = csv.read_csv(io.BytesIO(data), reading, parsing, as_text)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    for number, name in enumerate(table.column_names):
        column = typed.column(number)
        number_like = pyarrow.types.is_floating(column.type) or pyarrow.types.is_boolean(column.type)
        if pyarrow.types.is_integer(column.type):  # 007 is a text
            kept = table.column(number).filter(column.is_valid())
            number_like = kept.equals(column.drop_null().cast(pyarrow.string()))
        if number_like and name.strip().lower() not in PATH_KEYS:
            table = table.set_column(number, name, column)
    stripped = [name.strip() for name in table.column_names]
    if len(set(stripped)) == len(stripped):
        table = table.rename_columns(stripped)
    elif len(set(table.column_names)) < len(table.column_names):
        twice = next(name for name in stripped if stripped.count(name) > 1)
        raise ValueError(f"it has two columns {twice!r}; rename one")
    return _numbered(table.to_pylist()) + problems


def _header(text: str, delimiter: str) -> tuple[str, list[str]]:
    """What stands between columns, and their names: the first of the usual ones under which a column names images."""
    choices = (delimiter,) if delimiter else _DELIMITERS
    headers = [next(tables.reader(io.StringIO(text, newline=""), delimiter=choice), []) for choice in choices]
    for choice, names in zip(choices, headers, strict=True):
        if any(name.strip().lower() in PATH_KEYS for name in names):
            return choice, names
    return choices[0], headers[0]


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
    """The pictures of COCO JSON, with the boxes and the captions of their annotations; or of Karpathy's splits."""
    if content["images"] and all(isinstance(image, dict) and "sentences" in image for image in content["images"]):
        yield from map(_karpathy, content["images"])
        return
    annotations = content.get("annotations") or []
    if not isinstance(annotations, list):
        raise ValueError("its annotations are no list")
    boxes: dict[Any, list[Any]] = {}
    captions: dict[Any, list[str]] = {}
    for item in annotations:
        given = item.get("bbox") if isinstance(item, dict) else None
        of = item.get("image_id") if isinstance(item, dict) else None
        if isinstance(of, (int, str)) and isinstance(item.get("caption"), str):
            captions.setdefault(of, []).append(item["caption"])
        if given is None or not isinstance(of, (int, str)):
            continue
        try:
            x, y, width, height = map(float, given)
        except (TypeError, ValueError, OverflowError):
            boxes.setdefault(item["image_id"], []).append(given)  # left out and named with the others
            continue
        if width > 0 and height > 0:
            boxes.setdefault(item["image_id"], []).append([x, y, x + width, y + height])
    for image in content["images"]:
        if isinstance(image, dict):
            number = image.get("id")
            own = boxes.get(number, []) if isinstance(number, (int, str)) else []
            told = {key: value for key, value in image.items() if key not in ("id", "width", "height")}
            said = captions.get(number, []) if isinstance(number, (int, str)) else []
            yield {**told, **({"caption": said} if said else {}), "boxes": own}
        else:
            yield image


def _karpathy(image: Mapping[str, Any]) -> dict[str, Any]:
    """An image of Karpathy's splits of COCO and Flickr: ``filepath`` is its folder, ``sentences`` are its captions."""
    sentences = image["sentences"] if isinstance(image["sentences"], list) else []
    said = [item["raw"] for item in sentences if isinstance(item, dict) and isinstance(item.get("raw"), str)]
    file = "/".join(str(image[key]) for key in ("filepath", "filename") if image.get(key))
    told = {key: image[key] for key in ("split", "cocoid") if key in image}
    return {"image": file, "caption": said, **told}


def boxes_of(fields: Mapping[str, Any]) -> tuple[list[list[float]], bool, tuple[str, ...]]:
    """Boxes of an entry, whether they are shares of the sides, and what is wrong with those that cannot be used."""
    shares = "boxes" not in fields and bool(fields.get("bbox_info"))
    given = fields["bbox_info"] if shares else fields.get("boxes") or []
    what = "objects with a bbox of numbers" if shares else "lists of numbers"
    try:
        listed = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, (list, tuple)):
        return [], shares, (f"its boxes {given!r:.60} are not {what}",)
    boxes: list[list[float]] = []
    lost: list[str] = []
    for item in listed:
        try:
            box = [float(value) for value in (item["bbox"][:4] if shares else item)]
        except (TypeError, ValueError, KeyError, OverflowError):
            lost.append(f"its box {item!r:.60} is none of {what}")
            continue
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            lost.append(f"its box {box} is not x1, y1, x2, y2 with area")
        else:
            boxes.append(box)
    return boxes, shares, tuple(lost)


def path_key(fields: Mapping[str, Any]) -> str | None:
    """The key under which an entry names its picture; ``None`` when there is none."""

    def names(key: Any) -> bool:
        value = fields.get(key)
        return isinstance(value, str) and bool(value)

    exact = next((key for key in PATH_KEYS if names(key)), None)
    loose = {key.strip().lower(): key for key in fields if isinstance(key, str) and names(key)}
    return exact or next((loose[key] for key in PATH_KEYS if key in loose), None)


def plain(fields: Mapping[str, Any], path: str | None = None) -> dict[str, Value | Unkept]:
    """What an entry says of its picture, by column; what is missing is left out.

    A key that is the name of one of the store's columns becomes ``list.KEY``.

    Args:
        fields: the entry.
        path: the key of it that names the picture.
    """
    told: dict[str, Value | Unkept] = {}
    for key, given in fields.items():
        if not isinstance(key, str) or key == path or key in _BOXES:
            continue
        value = as_value(given)
        if value is not None:
            told[LISTED + key if _STORED.fullmatch(key) else key] = value
    return told


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: a half of a surrogate pair cannot, as in names that are other bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
