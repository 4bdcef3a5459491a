"""Opening annotation files, with errors that name the file, its line, and what to do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fgclip2.data.coco.reading import whole
from fgclip2.errors import Fgclip2Error

_BLOCK: Final = 1 << 20  # characters


def read_json(file: Path) -> Any:
    """A whole JSON file.

    Raises:
        Fgclip2Error: it is missing, or no JSON.
    """
    try:
        return json.loads(_open(file).read())
    except ValueError as error:
        raise _damaged(file, str(error)) from error


def read_object(file: Path, *keys: str) -> dict[str, Any]:
    """A JSON object that has these keys.

    Raises:
        Fgclip2Error: it is missing, no JSON, no object, or lacks a key.
    """
    content = read_json(file)
    if not isinstance(content, dict) or any(key not in content for key in keys):
        found = ", ".join(list(content)[:6]) if isinstance(content, dict) else type(content).__name__
        raise Fgclip2Error(f"{file}: wanted a JSON object with {', '.join(keys)}, found {found}; fetch it again")
    return content


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbers, from 1, and texts of the lines that are not empty; read as it goes."""
    with _open(file) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise _damaged(file, f"not UTF-8 text: byte {error.start}") from error


def read_json_lines(file: Path, *keys: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and the objects of JSON lines.

    Raises:
        Fgclip2Error: a line is no JSON object with these keys.
    """
    for number, line in read_lines(file):
        try:
            content = json.loads(line)
        except ValueError as error:
            raise _damaged(file, f"line {number}: {error}") from error
        yield number, entry(content, f"{file}, line {number}", *keys)


def read_list(file: Path, *keys: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one after the other, however long the list: of a large file only the start is read
    when only its first entries are asked for.

    Raises:
        Fgclip2Error: the file is no list of objects with these keys, or is cut short.
    """
    decoder = json.JSONDecoder()
    with _open(file) as stream:
        text = stream.read(_BLOCK).lstrip()
        if not text.startswith("["):
            raise _damaged(file, "it does not begin with a JSON list")
        text, number = text[1:], 0
        while True:
            text = text.lstrip(", \t\r\n")
            if text.startswith("]"):
                return
            try:
                content, end = decoder.raw_decode(text)
            except ValueError as error:
                more = stream.read(max(_BLOCK, len(text)))
                if not more:
                    raise _damaged(file, f"entry {number} is damaged or cut short") from error
                text += more
                continue
            yield entry(content, f"{file}, entry {number}", *keys)
            text, number = text[end:], number + 1


def entry(content: Any, where: str, *keys: str) -> dict[str, Any]:
    """``content`` itself when it is an object with these keys.

    Raises:
        Fgclip2Error: it is not; says where.
    """
    if not isinstance(content, dict):
        raise Fgclip2Error(f"{where}: a JSON {type(content).__name__}, not an object with {', '.join(keys)}")
    lacking = [key for key in keys if key not in content]
    if lacking:
        raise Fgclip2Error(f"{where}: it has no {', '.join(lacking)}; is this the right file?")
    return content


def text(value: Any, where: str) -> str:
    """``value`` itself when it is a text with something in it.

    Raises:
        Fgclip2Error: it is not; says where.
    """
    if not isinstance(value, str) or not value.strip():
        raise Fgclip2Error(f"{where}: {value!r:.40} where a text was wanted; mend or fetch the file again")
    return value.strip()


def objects(content: Mapping[str, Any], key: str, file: Path) -> list[Any]:
    """The list below a key.

    Raises:
        Fgclip2Error: it is no list.
    """
    value = content[key]
    if not isinstance(value, list):
        raise Fgclip2Error(f"{file}: {key} is a JSON {type(value).__name__}, not a list; is this the right file?")
    return value


def integer(value: Any, where: str) -> int:
    """An id as a whole number; files that passed through tables write it as text or with a point.

    Raises:
        Fgclip2Error: it is none.
    """
    number = whole(value)
    if number is None:
        raise Fgclip2Error(f"{where}: {value!r:.40} where a whole number was wanted; is this the right file?")
    return number


def numbers(value: Any, count: int, where: str) -> tuple[float, ...]:
    """A list of so many finite numbers.

    Raises:
        Fgclip2Error: it is none.
    """
    listed = value if isinstance(value, list) else []
    wanted = [float(item) for item in listed if isinstance(item, (int, float)) and not isinstance(item, bool)]
    if len(wanted) != count or len(listed) != count or not all(map(math.isfinite, wanted)):
        raise Fgclip2Error(f"{where}: {value!r:.60} where {count} numbers were wanted")
    return tuple(wanted)


def starts_with(file: Path, mark: str) -> bool:
    """Whether the first character of a text file that is not blank is this one; also of a damaged file, ``False``."""
    with _open(file) as stream:
        try:
            return bool(stream.read(64).lstrip().startswith(mark))
        except UnicodeDecodeError:
            return False


def read_names(file: Path, count: int | None = None) -> tuple[str, ...]:
    """Class names in class order, from one a line or a JSON list; repetitions are allowed, some sets have them.

    Args:
        file: ``.txt`` or ``.json``.
        count: how many there must be at least.

    Raises:
        Fgclip2Error: the file is missing or of another form, or has fewer names.
    """
    content = read_json(file) if file.suffix == ".json" else [line for _, line in read_lines(file)]
    if not isinstance(content, list) or not all(isinstance(name, str) and name.strip() for name in content):
        raise Fgclip2Error(f"{file} is no list of class names; give one a line, or a JSON list of texts")
    if count is not None and len(content) < count:
        raise Fgclip2Error(f"{file} has {len(content)} class names; {count} are wanted, in class order")
    return tuple(name.strip() for name in content)


def first_existing(*candidates: Path) -> Path:
    """The first of these that exists; the first one when none does."""
    return next((path for path in candidates if path.exists()), candidates[0])


def _open(file: Path) -> Any:
    try:
        return file.open(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise Fgclip2Error(f"{file} does not exist; fgclip2 eval --check NAME ROOT says what to download") from error
    except OSError as error:
        raise Fgclip2Error(f"{file} cannot be read ({error.strerror})") from error


def _damaged(file: Path, reason: str) -> Fgclip2Error:
    return Fgclip2Error(f"{file} is damaged or of another kind ({reason}); fetch it again")
