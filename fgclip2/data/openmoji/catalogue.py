"""The catalogue of nameable things: the entries of `table.py` sorted by code point and numbered from 0."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from fgclip2.data.openmoji.table import PLURALS, TABLE

_PREPOSITION = re.compile(r" (?:with|and|in|on|of|behind|at|getting|bouncing|gesturing|raising|blowing) ")


@dataclass(frozen=True, slots=True)
class Category:
    """One kind of thing.

    Attributes:
        id: 0..C-1, stable: the rank of `code` among all codes.
        name_en: lower-case English words, no article (`"polar bear"`).
        name_zh: plain Chinese (`"北极熊"`).
        group: kind of thing (`"animal-mammal"`); members of one group are near-swap candidates of each other.
        code: code points in hexadecimal joined by `-`, without variation selectors; the stem of the OpenMoji file.
        measure: Chinese measure word (`"只"`).
        countable: False for names without article and plural in English (`"grapes"`, `"bread"`).
        plural_en: English plural (`"polar bears"`); the name itself when not countable.
    """

    id: int
    name_en: str
    name_zh: str
    group: str
    code: str
    measure: str
    countable: bool
    plural_en: str

    @property
    def article(self) -> str:
        """`"a "`, `"an "` or `""` (uncountable), as the bare name takes it."""
        return article(self.name_en) if self.countable else ""


def article(words: str) -> str:
    """English indefinite article with a blank for `words`: `"an "` before a vowel sound, else `"a "`."""
    if words.startswith(("uni", "x-ray", "one", "euro")):
        return "an " if words.startswith("x-ray") else "a "
    return "an " if words[:1] in "aeiou" else "a "


def pluralize(name: str) -> str:
    """English plural of a noun phrase: the last word before the first preposition changes."""
    found = _PREPOSITION.search(name)
    head, tail = (name[: found.start()], name[found.start() :]) if found else (name, "")
    first, _, last = head.rpartition(" ")
    if last in PLURALS:
        last = PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{first} {last}{tail}".strip()


def glyph_code(glyph: str) -> str:
    """`"🐻‍❄️"` -> `"1F43B-200D-2744"`: code points in hexadecimal, variation selector left out."""
    return "-".join(f"{ord(c):04X}" for c in glyph if c != "\ufe0f")


@lru_cache(maxsize=1)
def catalogue() -> tuple[Category, ...]:
    """All categories in id order. Parsed once; the same tuple each time."""
    rows = []
    for group, measure, entries in TABLE:
        for entry in entries.split():
            glyph, names = entry.split("=")
            countable = not names.count("*")
            name_en, name_zh, *own = names.replace("*", "").replace("_", " ").split("/")
            rows.append((glyph_code(glyph), name_en, name_zh, group, own[0] if own else measure, countable))
    rows.sort(key=lambda row: [int(part, 16) for part in row[0].split("-")])
    return tuple(
        Category(k, en, zh, group, code, measure, countable, pluralize(en) if countable else en)
        for k, (code, en, zh, group, measure, countable) in enumerate(rows)
    )
