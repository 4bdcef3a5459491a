"""Names of classes as people give them: on a command line, in files, with synonyms, in English or Chinese."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from fgclip2.data.labelmap import labelmap_names
from fgclip2.errors import Fgclip2Error
from fgclip2.splitting import split_names

ClassNames: TypeAlias = "Sequence[str] | Mapping[str, Sequence[str]]"
"""Names in class order; a mapping gives every name its synonyms."""

CJK: Final = re.compile("[\u3400-\u9fff]")
"""A Chinese character."""

_log = logging.getLogger(__name__)


def parse_names(text: str, known: Iterable[str] = ()) -> list[str]:
    """Split ``"dog, 红色汽车、猫"`` at commas, semicolons and line ends, half- or full-width.

    Quotes keep a name whole (``'"red car, blue roof"'``), and so do brackets and numbers ("1,000 people"); see
    `fgclip2.splitting.split_names`. A JSON list of names is read as one.

    Args:
        text: the names.
        known: names that have a list of their own, such as an annotation file's: where one of them has a comma
            (``"Bow (weapon), toy"``), it is matched before commas cut. They are compared as `said`.

    Raises:
        Fgclip2Error: no name, or one that repeats.
    """
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            listed = None
        if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
            return list(check_names([name.strip() for name in listed if name.strip()]))
    names = {said(name) for name in known}
    return list(check_names(split_names(text, (lambda part: said(part) in names) if names else None)))


def load_names(path: str | os.PathLike[str]) -> list[str]:
    """Class names of a file, in its order, without their synonyms; see ``load_classes``."""
    return list(load_classes(path))


_NUMBERED: Final = re.compile(r"(\d+)\t+(.+)")  # lines of a table of numbers and names
_HOLDERS: Final = ("categories", "names", "id2label")  # where a JSON object keeps its names
FILES: Final = (".txt", ".names", ".json", ".yaml", ".yml")
"""Endings of files that `load_classes` reads."""


def load_classes(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Class names of a file, in its order, each with its synonyms.

    Args:
        path: one of these:

            - ``.txt`` or ``.names`` with one name a line, or CVAT's ``labelmap.txt``, or a number, a tab and a name in
              each line. Lines that begin with ``# `` are comments.
            - ``.json`` with a list of names or of ``{"name": "sofa", "synonyms": ["couch", "沙发"]}``, with names and
              their synonyms (``{"sofa": ["couch"]}``), with numbers and their names (``{"0": "sofa"}``, or the other
              way round), or COCO's and LVIS's ``{"categories": [{"name": ...}]}``. Synonyms may be missing.
            - ``.yaml`` as YOLO's ``data.yaml``: ``names`` as a list or by number.

    Raises:
        Fgclip2Error: the file is missing, of another kind or form, or its names repeat.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in FILES:
        raise Fgclip2Error(
            f"{file} is neither .txt (one class name a line) nor .json (a list of names, or COCO) nor .yaml (YOLO's)"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
        content: Any = _parsed(text, kind, file)
    except FileNotFoundError as error:
        raise Fgclip2Error(f"class file {file} does not exist; give a .txt or .json file") from error
    except (OSError, ValueError) as error:
        raise Fgclip2Error(f"class file {file} cannot be read ({error}); it must be UTF-8 text or JSON") from error
    content = _listed(content)
    if content is None:
        raise Fgclip2Error(
            f"{file} has no class names; allowed are a list of names, names by number, or COCO's 'categories'"
        )
    entries: list[Any] = [entry if isinstance(entry, dict) else {"name": entry} for entry in content]
    wrong = [entry.get("name") for entry in entries if not isinstance(entry.get("name"), str)]
    if wrong:
        raise Fgclip2Error(f"{file}: {wrong[0]!r} is not a class name; every entry must be a string or have a 'name'")
    empty = [index for index, entry in enumerate(entries) if not entry["name"].strip()]
    if empty and kind not in (".txt", ".names"):  # leaving it out would move the names after it
        raise Fgclip2Error(f"{file}: entry {empty[0]} has an empty name; give it one, or take it out")
    named = [(entry["name"].strip(), entry.get("synonyms", ())) for entry in entries if entry["name"].strip()]
    try:
        check_names([name for name, _ in named])  # a dictionary would hide that one repeats
        return check_classes(dict(named))
    except Fgclip2Error as error:
        raise Fgclip2Error(f"{file}: {error}") from error


def load_numbers(path: str | os.PathLike[str], ids: bool = False) -> list[int] | None:
    """The numbers that a file gives its class names, such as ``{"7": "road", "11": "sky"}``, in their order.

    Args:
        path: a file that `load_classes` has read.
        ids: take those of COCO's ``{"id": 7, "name": "road"}`` instead.

    Returns:
        One a name; ``None`` where the file has none.
    """
    file = Path(path)
    kind = file.suffix.lower()
    content: Any = _parsed(file.read_text(encoding="utf-8-sig"), kind, file)
    while isinstance(content, dict):
        inner = next((content[key] for key in _HOLDERS if isinstance(content.get(key), (list, dict))), None)
        if inner is None:
            break
        content = inner
    if ids:
        entries = [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
        found = [entry["id"] for entry in entries if type(entry.get("id")) is int]
        return found if found and len(found) == len(entries) else None
    if not isinstance(content, dict):
        return None
    keys = content if all(str(key).isdecimal() for key in content) else content.values()
    return sorted(int(key) for key in keys) if all(str(key).isdecimal() for key in keys) else None


def _parsed(text: str, kind: str, file: Path) -> Any:
    """The content of a file of names: lines, or what its JSON or YAML holds."""
    if kind == ".json":
        return json.loads(text)
    if kind in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error
    named = labelmap_names(text)
    if named:
        return named
    # Not `splitlines`, which also cuts at characters that may stand within a line, such as U+2028.
    lines = [line.strip() for line in text.split("\n")]
    names = [line for line in lines if line != "#" and not line.startswith("# ")]
    numbered = [match for line in names if line for match in [_NUMBERED.fullmatch(line)]]
    if numbered and all(numbered):
        return {match[1]: match[2] for match in numbered if match}
    if len(names) < len(lines):
        _log.warning("%s: %d lines that begin with '# ' are comments", file, len(lines) - len(names))
    return names


def _listed(content: Any) -> list[Any] | None:
    """A list of names, or of objects with a name, of any of the forms that `load_classes` takes."""
    if not isinstance(content, dict):
        return content if isinstance(content, list) else None
    for key in _HOLDERS:
        if isinstance(content.get(key), (list, dict)):
            return _listed(content[key])
    keys, values = list(content), list(content.values())
    if not content:
        return None
    if all(isinstance(value, str) for value in values) and all(str(key).isdecimal() for key in keys):
        return [content[key] for key in sorted(keys, key=int)]
    if sorted(map(str, values)) == sorted(map(str, range(len(values)))) and all(isinstance(key, str) for key in keys):
        return sorted(keys, key=lambda key: int(content[key]))
    if all(isinstance(value, list) for value in values) and not any(str(key).isdecimal() for key in keys):
        return [{"name": name, "synonyms": words} for name, words in content.items()]
    return None


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple, when there is at least one, none is empty, and none repeats.

    Raises:
        Fgclip2Error: otherwise. Names that differ only in case, or in underscores for blanks, are one text, and repeat.
    """
    if isinstance(names, str):
        raise Fgclip2Error(f"the class names are one string ({names!r:.60}); split it with parse_names, or give a list")
    checked = tuple(names)
    if not checked:
        raise Fgclip2Error("there are no class names; give at least one, e.g. 'dog, 红色汽车'")
    seen: dict[str, int] = {}
    for index, name in enumerate(checked):
        if not isinstance(name, str) or not name.strip():
            raise Fgclip2Error(f"class name {index} is {name!r}; every name must be a string with something in it")
        key = said(name)
        if key in seen:
            raise Fgclip2Error(
                f"class names {seen[key]} and {index} are the same ({checked[seen[key]]!r}, {name!r}; neither case "
                "nor underscores for blanks count); leave one out"
            )
        seen[key] = index
    return checked


def spoken(name: str) -> str:
    """A name as a text says it: underscores, which LVIS writes for blanks, become blanks."""
    return name.replace("_", " ")


def said(name: str) -> str:
    """A name as it is compared with others: spoken, lower-cased like every text, without spaces around it."""
    return spoken(name).strip().lower()


def check_classes(names: ClassNames) -> dict[str, tuple[str, ...]]:
    """Names with their synonyms, none where there are none; those that repeat their name or each other are left out.

    Two classes may share a synonym: words have several meanings.

    Raises:
        Fgclip2Error: as ``check_names``, or synonyms that are no list of words.
    """
    given = names if isinstance(names, Mapping) else {}
    return {name: _synonyms(name, given.get(name, ())) for name in check_names(names)}


def _synonyms(name: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(word, str) and word.strip() for word in given):
        raise Fgclip2Error(
            f"the synonyms of {name!r} are {given!r:.60}; give a list of words, such as ['couch', '沙发']"
        )
    words = {said(word): word.strip() for word in given}
    words.pop(said(name), None)
    return tuple(words.values())
