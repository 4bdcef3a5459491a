"""FG-OVD's phrases into Chinese by a table of words and a small grammar, whole or not at all.

A phrase names a thing, with attributes before it and what it has or is made of behind it:

    A handbag made of leather, with dark red handles and a fabric body.
    由皮革制成、带有深红色手柄和布料主体的手提包

What a part has or is made of stands directly behind it; after ``and`` or a comma it goes on with the whole. True and
false texts of a record differ in attributes alone, so they are all read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.files import read_json
from fgclip2.names import CJK

SECTIONS: Final = ("shades", "colours", "materials", "patterns", "transparency", "nouns")
"""Of a table. A shade stands before a colour and is written before it: light red, 浅红色."""

_ATTRIBUTES: Final = ("colours", "materials", "patterns", "transparency")
_ARTICLES: Final = frozenset({"a", "an", "the", "its"})
_HAVING: Final = frozenset({"with", "featuring"})
_COLOUR: Final = frozenset({"color", "colour"})
_GRAMMAR: Final = _ARTICLES | _HAVING | _COLOUR | {"made", "of", "and", ","}
_JOINTS: Final = {",": "、", "and": "和"}
_WORDS: Final = re.compile(r"[^\s,]+|,")

_Ends = dict[int, str]
"""Where a part may end -> what it says in Chinese."""


class Table:
    """Words and what they are in Chinese.

    Args:
        sections: one or more of `SECTIONS`, each English to Chinese; nouns in the singular.

    Raises:
        Fgclip2Error: an unknown section, or a translation that has no Chinese letters.
    """

    def __init__(self, sections: Mapping[str, Mapping[str, str]]) -> None:
        unknown = [name for name in sections if name not in SECTIONS]
        if unknown:
            raise Fgclip2Error(f"the table has a section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
        self.sections: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
        for name, words in sections.items():
            for english, chinese in words.items():
                if not isinstance(chinese, str) or not CJK.search(chinese) or not english.strip():
                    raise Fgclip2Error(f"the table's {name} translate {english!r} as {chinese!r}; give a Chinese text")
                self.sections[name][" ".join(english.lower().split())] = chinese.strip()

    @classmethod
    def read(cls, file: Path | None = None) -> Table:
        """The shipped table, its entries replaced and added to by those of a file.

        Raises:
            Fgclip2Error: the file is missing, or no table.
        """
        shipped = read_json(Path(str(files("fgclip2") / "assets/fgovd_zh.json")))
        own: Any = {} if file is None else read_json(file)
        if not isinstance(own, dict) or not all(isinstance(words, dict) for words in own.values()):
            raise Fgclip2Error(f"{file} is no table; give a JSON object such as " + '{"nouns": {"handbag": "手提包"}}')
        names = dict.fromkeys((*shipped, *own))
        return cls({name: {**shipped.get(name, {}), **own.get(name, {})} for name in names})

    def translate(self, phrase: str) -> str:
        """A phrase in Chinese.

        Raises:
            Fgclip2Error: words are not in the table (the message names them), or it is of another form.
        """
        words = _WORDS.findall(phrase.lower().strip().rstrip("."))
        parser = _Parser(words, self)
        lacking = parser.unknown()
        if lacking:
            raise Fgclip2Error(f"words: {', '.join(lacking)} not in the table: {phrase!r}")
        found = parser.thing(0).get(len(words))
        if found is None:
            raise Fgclip2Error(f"form: it cannot be taken apart: {phrase!r}")
        return found

    @cached_property
    def attributes(self) -> dict[str, str]:
        """Colours with and without a shade, materials, patterns, transparency."""
        found = {word: said for name in _ATTRIBUTES for word, said in self.sections[name].items()}
        for shade, before in self.sections["shades"].items():
            found |= {f"{shade} {word}": before + said for word, said in self.sections["colours"].items()}
        return found

    @cached_property
    def longest(self) -> int:
        """Words of the longest entry."""
        return max((len(entry.split()) for entry in (*self.attributes, *self.sections["nouns"])), default=1)

    def noun(self, words: Sequence[str]) -> str | None:
        """A noun in Chinese, of its singular or plural."""
        *first, last = words
        for form in _singulars(last):
            said = self.sections["nouns"].get(" ".join([*first, form]))
            if said is not None:
                return said
        return None


class _Parser:
    """One phrase. Every part gives all places where it may end; the first reading that ends there stands."""

    def __init__(self, words: Sequence[str], table: Table) -> None:
        self.words, self.table = words, table
        self._things: dict[tuple[int, bool], _Ends] = {}

    def unknown(self) -> list[str]:
        """Words that neither the grammar nor any entry of the table accounts for."""
        covered = {at for at, word in enumerate(self.words) if word in _GRAMMAR}
        for at in range(len(self.words)):
            for end in self._spans(at):
                part = self.words[at:end]
                if " ".join(part) in self.table.attributes or self.table.noun(part) is not None:
                    covered |= set(range(at, end))
        return list(dict.fromkeys(word for at, word in enumerate(self.words) if at not in covered))

    def thing(self, at: int, part: bool = False) -> _Ends:
        """``a dark red bag made of leather, with a handle``; of a part only one thing stands behind it."""
        if (at, part) in self._things:
            return self._things[at, part]
        found: _Ends = {}
        start = at + 1 if self._word(at) in _ARTICLES else at
        for middle, before in _longest({start: "", **self._attributes(start)}):
            for end in reversed(list(self._spans(middle))):
                noun = self.table.noun(self.words[middle:end])
                if noun is None:
                    continue
                behind = self._made_of(end) | self._having(end, part=True) if part else self._behind(end)
                for stop, said in _longest({end: "", **behind}):
                    found.setdefault(stop, (f"{said}的" if said else "") + before + noun)
        self._things[at, part] = found
        return found

    def _attributes(self, at: int) -> _Ends:
        """``dark red and white striped``."""
        found: _Ends = {}
        for end in reversed(list(self._spans(at))):
            said = self.table.attributes.get(" ".join(self.words[at:end]))
            if said is None:
                continue
            for start, joint in ((end, ""), *self._joints(end)):
                for stop, rest in _longest(self._attributes(start)):
                    found.setdefault(stop, said + joint + rest)
            found.setdefault(end, said)
        return found

    def _behind(self, at: int) -> _Ends:
        """``made of leather, with two handles``."""
        found: _Ends = {}
        for start, _ in ((at, ""), *self._joints(at)):
            for end, said in _longest(self._made_of(start) | self._having(start)):
                for stop, rest in _longest(self._behind(end)):
                    found.setdefault(stop, f"{said}、{rest}")
                found.setdefault(end, said)
        return found

    def _made_of(self, at: int) -> _Ends:
        if self.words[at : at + 2] != ["made", "of"]:
            return {}
        start = at + 3 if self._word(at + 2) in _ARTICLES else at + 2
        return {end: f"由{said}制成" for end, said in self._attributes(start).items()}

    def _having(self, at: int, part: bool = False) -> _Ends:
        if self._word(at) not in _HAVING:
            return {}
        found: _Ends = {}
        start = at + 2 if self._word(at + 1) in _ARTICLES else at + 1
        has = "带" if part else "带有"
        for end, said in self._attributes(start).items():  # "with a dark grey color"
            if self._word(end) in _COLOUR:
                found[end + 1] = f"颜色为{said}"
                for begin, _ in self._joints(end + 1):
                    for stop, rest in () if part else _longest(self._things_from(begin)):
                        found.setdefault(stop, f"颜色为{said}、{has}{rest}")
        for end, said in _longest(self.thing(at + 1, part=True) if part else self._things_from(at + 1)):
            found.setdefault(end, has + said)
        return found

    def _things_from(self, at: int) -> _Ends:
        """``a body, a strap and two handles``."""
        found: _Ends = {}
        for end, said in _longest(self.thing(at, part=True)):
            for start, joint in self._joints(end):
                for stop, rest in _longest(self._things_from(start)):
                    found.setdefault(stop, said + joint + rest)
            found.setdefault(end, said)
        return found

    def _joints(self, at: int) -> Iterator[tuple[int, str]]:
        """``,``, ``and`` or ``, and``, and what they are in Chinese."""
        if self._word(at) == "," and self._word(at + 1) == "and":
            yield at + 2, _JOINTS["and"]
        elif self._word(at) in _JOINTS:
            yield at + 1, _JOINTS[self._word(at)]

    def _spans(self, at: int) -> range:
        """Ends of all runs of words from here that may be an entry."""
        return range(at + 1, min(len(self.words), at + self.table.longest) + 1)

    def _word(self, at: int) -> str:
        return self.words[at] if at < len(self.words) else ""


def _longest(ends: _Ends) -> list[tuple[int, str]]:
    return sorted(ends.items(), reverse=True)


def _singulars(word: str) -> Iterator[str]:
    yield word
    for ending, instead in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + instead
