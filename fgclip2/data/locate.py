"""Find the file that a name in a list stands for, however the tool that wrote the list has spelled it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

_QUOTES: Final = ('""', "''", "“”")


def spellings(name: str) -> Iterator[str]:
    """The names that ``name`` may stand for, the most literal first, each once.

    They are: as it is; without quotes and spaces around it; with ``/`` for ``\\``; without ``file://``; with ``%20``
    and the like decoded; each composed (NFC) and decomposed (NFD), as macOS writes names.
    """
    seen: dict[str, None] = {name: None}

    def add(text: str) -> None:
        if text:
            for form in (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
                seen.setdefault(form)

    add(name)
    bare = name.strip().lstrip("\ufeff")
    if len(bare) > 1 and bare[0] + bare[-1] in _QUOTES:
        bare = bare[1:-1].strip()
    add(bare)
    plain = bare.replace("\\", "/")
    add(plain)
    address = plain[:7].lower() == "file://"
    if address:  # file:///home/a.jpg, or file://localhost/home/a.jpg
        plain = plain[7:].removeprefix("localhost")
        if len(plain) > 2 and plain[0] == "/" and plain[2] == ":":  # /C:/a.jpg
            plain = plain[1:]
        add(unquote(plain))
        add(plain)
    if "%" in plain:
        add(unquote(plain))
    yield from seen


def locate(folder: Path, name: str) -> Path | None:
    """The file below ``folder`` that a name stands for.

    Args:
        folder: what names are relative to.
        name: relative to it, or absolute; see ``spellings`` for what is tried.

    Returns:
        The file; ``None`` when there is none under any spelling. Whether it stays below ``folder`` is not checked.
    """
    for spelled in spellings(name):
        if "\0" in spelled:
            continue
        try:
            if (file := folder / spelled).is_file():
                return file
        except (OSError, ValueError, RuntimeError):  # too long for a name, half a character, a circle of links
            continue
    return None
