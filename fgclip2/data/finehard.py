"""FineHARD records, from a JSON list or from JSON lines, without holding the file in memory.

The format is that of the released data set: ``f_path``, ``caption`` (long), ``short_caption``, ``is_cn`` (Chinese,
unless null or false, see `is_marked`) and ``bbox_info``, a list of ``bbox`` (x1, y1, x2, y2 in 0..1, more numbers are
ignored), ``short_expr``, ``long_expr``, ``flag_short_neg`` (0 or 1) and ``short_expr_negs`` (key -> text). Real files
named ``.json`` are lists or lines, so the first character decides, not the name.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from fgclip2.data.locate import locate
from fgclip2.data.records import (
    Language,
    Record,
    RecordError,
    RegionRecord,
    check_index,
    first_half_character,
    read_span,
    region_problem,
)
from fgclip2.errors import Fgclip2Error

_NOT_CHINESE: Final = ("", "0", "false", "no", "none", "null")
_UNMARKED: Final = rb"null\b|false\b|-?0+(?:\.0*)?(?=\s*[,}\]]|\s*$)|" + rb"|".join(
    rb'"\s*%b\s*"' % word.encode() for word in _NOT_CHINESE
)
_CHINESE: Final = re.compile(rb'"is_cn"\s*:\s*(?!%b)(?=\S)' % _UNMARKED, re.IGNORECASE)
_ADDRESS: Final = re.compile(r"\s*[a-z][a-z0-9+]{1,9}://(?<!file://)|\s*data:", re.IGNORECASE)
_BLANK: Final = b" \t\r\n"
_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*")
# A string, or a bracket outside of strings.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


class JsonRecords:
    """FineHARD records of one file: a JSON list, or one record a line.

    The file is read through once, to note where each record lies and which are Chinese. A record that is damaged, or
    was cut off with the rest of the file, keeps its number and raises when it is asked for.

    Args:
        path: the file.
        image_root: the folder that ``f_path`` is relative to.

    Raises:
        Fgclip2Error: the file cannot be read, or is neither a list nor lines of records.
    """

    def __init__(self, path: Path, image_root: Path) -> None:
        self.path, self.image_root = path, image_root
        try:
            self._spans, self.languages = _scan(path)
        except OSError as error:
            raise Fgclip2Error(f"{path} cannot be read ({error.strerror or error})") from error

    def __len__(self) -> int:
        return len(self.languages)

    def __getitem__(self, index: int) -> Record:
        check_index(index, len(self))
        name = f"{self.path.name}#{index}"
        start, length = self._spans[index].tolist()
        fields = decode_json(read_span(self.path, start, length, name), name)
        return make_record(fields, name, self.image_root, None, "zh" if is_marked(fields.get("is_cn")) else "en")


def is_chinese(data: bytes) -> bool:
    """`is_marked` of an encoded record, without decoding it."""
    return _CHINESE.search(data) is not None


def is_marked(value: Any) -> bool:
    """Whether a value of ``is_cn`` marks a Chinese record, in files of every kind.

    The released code asks for its presence alone. Tables, where every record has every column, write null and false;
    these, 0 and their texts are no marks.
    """
    if isinstance(value, str):
        return value.strip().lower() not in _NOT_CHINESE
    return bool(value) and value == value


def decode_json(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object of one record.

    Raises:
        RecordError: it is damaged, cut off, or no object.
    """
    if not data.strip(_BLANK):
        raise RecordError(name, "the file ends before its list does: it was cut short, and what followed is lost")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError(name, f"its JSON is damaged or cut short ({error}); it starts with {data[:40]!r}") from error
    if not isinstance(fields, dict):
        raise RecordError(name, f"it is a JSON {type(fields).__name__} instead of an object with captions")
    return fields


def make_record(
    fields: Mapping[str, Any], name: str, image_root: Path, image: bytes | None, language: Language
) -> Record:
    """A record from the fields of FineHARD.

    What is optional and cannot be used is left out, and named in the record: a text that is empty or no text, a region
    with an unusable box or without its expression, hard negatives that are flagged and are none. NaN counts as missing:
    tables write it for that.

    Hard negatives that repeat one another or the expression, in lower case as the model reads them, are left out.
    Without ``flag_short_neg`` those that are there count.

    ``short_caption_negs``, hard negatives of the short caption, is this toolkit's own and optional.

    Args:
        fields: as in the file; what is None counts as missing.
        name: for messages.
        image_root: the folder that ``f_path`` is relative to.
        image: the encoded picture, where it is not a file.
        language: of the texts.

    Raises:
        RecordError: the picture or the short caption is missing, of the wrong kind or empty.
    """
    f_path = _text(fields, "f_path", name)
    if image is None and f_path is None:
        raise RecordError(name, f"it has no f_path, so there is no picture{_other_format(fields)}")
    if image is None and _ADDRESS.match(f_path or ""):
        raise RecordError(name, f"f_path {f_path!r:.80} is an address; download the picture and name the file")
    short = _text(fields, "short_caption", name)
    if short is None:
        raise RecordError(name, "it has no short_caption")
    left_out: list[str] = []
    lost: list[str] = []
    long = _optional(lambda: _text(fields, "caption", name), left_out)
    false = _optional(lambda: _distinct(fields, "short_caption_negs", short, name), left_out)
    regions = [_region(box, number, name, lost) for number, box in enumerate(_boxes(fields, name, lost))]
    return Record(
        name=name,
        image=image_file(image_root, f_path or "") if image is None else image,
        language=language,
        short=short,
        long=long,
        regions=tuple(region for region in regions if region is not None),
        hard=(short, *false) if false else (),
        left_out=tuple(left_out),
        lost_regions=tuple(lost),
    )


def _other_format(fields: Mapping[str, Any]) -> str:
    """What a record without a picture's name seems to be of."""
    if "conversations" in fields or "messages" in fields:
        return "; it looks like LLaVA's conversations, which apps/llava_train.py takes"
    if "images" in fields and "annotations" in fields:
        return "; it looks like a COCO file. Records are FineHARD's: f_path, short_caption, caption, bbox_info"
    if "images" in fields:
        return "; it looks like Karpathy's splits. Records are FineHARD's: f_path, short_caption, caption, bbox_info"
    other = next((key for key in ("image", "image_path", "file_name", "filename", "path") if key in fields), None)
    return "" if other is None else f"; it has {other}, which is called f_path here"


def image_file(root: Path, name: str) -> Path:
    """The file that a record names, under another spelling (`locate`) where it has none under this one."""
    file = root / name
    try:
        return file if file.is_file() else locate(root, name) or file
    except (OSError, ValueError):  # too long for a name, or NUL in it: told when it is opened
        return file


_Value = TypeVar("_Value")


def _optional(read: Callable[[], _Value], problems: list[str]) -> _Value | None:
    """A part of a record, or ``None`` and a line more of problems."""
    try:
        return read()
    except RecordError as error:
        problems.append(f"left out: {error.reason}")
        return None


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _boxes(fields: Mapping[str, Any], name: str, lost: list[str]) -> Sequence[Any]:
    """The regions as they stand in the file."""
    boxes = fields.get("bbox_info")
    if _is_missing(boxes) or (isinstance(boxes, str) and not boxes.strip()):
        return ()
    if isinstance(boxes, str):  # in Parquet files
        try:
            boxes = json.loads(boxes)
        except (ValueError, RecursionError) as error:
            lost.append(f"left out: its bbox_info is damaged JSON ({error})")
            return ()
    if not isinstance(boxes, (list, tuple)):
        lost.append(f"left out: its bbox_info is {type(boxes).__name__} instead of a list of objects")
        return ()
    return boxes


def _text(fields: Mapping[str, Any], key: str, name: str, where: str = "") -> str | None:
    value = fields.get(key)
    if _is_missing(value):
        return None
    if not isinstance(value, str):
        raise RecordError(name, f"{key}{where} is {type(value).__name__} instead of text")
    if not value.strip():
        raise RecordError(name, f"{key}{where} is empty")
    problem = first_half_character([value])
    if problem:
        raise RecordError(name, f"{problem}, its {key}{where}")
    return value


def _region(fields: Any, number: int, name: str, lost: list[str]) -> RegionRecord | None:
    """A region; without what cannot be used of it, or ``None``."""
    where = f" of box {number}"
    if not isinstance(fields, Mapping):
        lost.append(f"left out: box {number} is {fields!r:.60} instead of an object with bbox and short_expr")
        return None
    box = _optional(lambda: _box(fields, where, name), lost)
    if box is None:
        return None
    short = _optional(lambda: _short_expression(fields, number, name), lost)
    if short is None:
        return None
    long = _optional(lambda: _text(fields, "long_expr", name, where), lost)
    negatives = _optional(lambda: _negatives(fields, short, number, name), lost)
    region = RegionRecord(box, (short,) if long is None else (short, long), negatives or ())
    problem = region_problem(region, number)
    if problem:
        lost.append(f"left out: {problem}")
        return None
    return region


def _box(fields: Mapping[str, Any], where: str, name: str) -> tuple[float, float, float, float]:
    values = fields.get("bbox")
    if not isinstance(values, (list, tuple)) or len(values) < 4 or not all(map(_is_number, values[:4])):
        raise RecordError(name, f"bbox{where} is {values!r:.60}; it must start with four numbers: x1, y1, x2, y2")
    try:
        x1, y1, x2, y2 = map(float, values[:4])
    except OverflowError as error:
        raise RecordError(name, f"bbox{where} holds a number that is too large ({error})") from error
    return x1, y1, x2, y2


def _short_expression(fields: Mapping[str, Any], number: int, name: str) -> str:
    short = _text(fields, "short_expr", name, f" of box {number}")
    if short is None:
        raise RecordError(name, f"box {number} has no short_expr")
    return short


def _negatives(fields: Mapping[str, Any], short: str, number: int, name: str) -> tuple[str, ...]:
    values = _texts(fields, "short_expr_negs")
    flag = fields.get("flag_short_neg")
    if _is_missing(flag):
        flag = 1 if values else 0
    if flag not in (0, 1):
        raise RecordError(name, f"flag_short_neg of box {number} is {flag!r}; allowed are 0 and 1")
    if not flag:
        return ()
    distinct = _distinct(fields, "short_expr_negs", short, name, f" of box {number}")
    if not distinct:
        found = f"the {len(values)} it has only repeat its expression" if values else "it has none"
        raise RecordError(name, f"box {number} is flagged to have hard negatives (flag_short_neg 1), but {found}")
    return distinct


def _texts(fields: Mapping[str, Any], key: str) -> list[Any]:
    given = fields.get(key)
    if _is_missing(given) or not given:
        return []
    return [
        value for value in (given.values() if isinstance(given, Mapping) else _pairs(given)) if not _is_missing(value)
    ]


def _distinct(fields: Mapping[str, Any], key: str, true: str, name: str, where: str = "") -> tuple[str, ...]:
    """The texts that differ from each other and from the true one in lower case, as the model reads them."""
    values = _texts(fields, key)
    if not all(isinstance(value, str) for value in values):
        raise RecordError(name, f"{key}{where} are not all texts")
    if not all(value.strip() for value in values):
        raise RecordError(name, f"a text of {key}{where} is empty")
    problem = first_half_character(values)
    if problem:
        raise RecordError(name, f"{problem}, of {key}{where}")
    found: dict[str, str] = {}
    for value in values:
        if value.lower() != true.lower():
            found.setdefault(value.lower(), value)
    return tuple(found.values())


def _pairs(given: Any) -> Iterable[Any]:
    """A Parquet map comes as a list of (key, text); a plain list of texts is taken as well."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return (given,)
    return [item[1] if isinstance(item, tuple) and len(item) == 2 else item for item in given]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scan(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of every record in bytes, int64 ``(n, 2)``, and whether it is Chinese, uint8 ``(n,)``."""
    if not path.stat().st_size:
        raise Fgclip2Error(f"{path} is empty; it must hold a JSON list of records, or one record a line")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        match = _START.match(data)
        start = match.end() if match else 0
        first = data[start : start + 1]
        if first == b"[":
            flat = _list_spans(data, start, path)
        elif first == b"{":
            flat = _line_spans(data, start, path)
        else:
            raise Fgclip2Error(
                f"{path} starts with {first!r}; it must hold a JSON list of records, or one record a line"
            )
        spans = np.frombuffer(flat, np.int64).reshape(-1, 2)
        places = zip(flat[::2], flat[1::2], strict=True)
        marks = (_CHINESE.search(data, begin, begin + length) is not None for begin, length in places)
        return spans, np.fromiter(marks, np.uint8, len(spans))


def _line_spans(data: mmap.mmap, start: int, path: Path) -> array[int]:
    """Start and length of every line that is not blank, one after another."""
    spans: array[int] = array("q")
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        if data[start:end].strip(_BLANK):
            spans.extend((start, end - start))
        start = end + 1
    if data[spans[0] : spans[0] + spans[1]].strip(_BLANK) == b"{":
        raise Fgclip2Error(f"{path} spreads a record over several lines; put each record on one line, or all in a list")
    return spans


def _list_spans(data: mmap.mmap, start: int, path: Path) -> array[int]:
    """Start and length of every element of the list, one after another; brackets are counted, nothing is decoded."""
    spans: array[int] = array("q")
    depth, begin, free = 0, 0, start + 1  # free: where the text between two elements starts
    for match in _TOKEN.finditer(data, start):
        token = data[match.start()]
        if token in b"[{":
            depth += 1
            if depth == 2:
                begin = match.start()
                if token != b"{"[0] or data[free:begin].strip(_BLANK) != (b"," if spans else b""):
                    raise _no_record(path, len(spans) // 2, data[free : begin + 1])
        elif token in b"]}":
            depth -= 1
            if depth == 1:
                free = match.end()
                spans.extend((begin, free - begin))
            elif depth == 0:
                if data[free : match.start()].strip(_BLANK):
                    raise _no_record(path, len(spans) // 2, data[free : match.start()])
                return spans
        elif depth == 1:
            raise _no_record(path, len(spans) // 2, match.group())
    # Without its end: what is left is the record that was cut, or nothing.
    spans.extend((begin, len(data) - begin) if depth > 1 else (len(data), 0))
    return spans


def _no_record(path: Path, index: int, found: bytes) -> Fgclip2Error:
    return Fgclip2Error(f"{path}: element {index} of the list is no record but {found.strip(_BLANK + b',')[:40]!r}")
