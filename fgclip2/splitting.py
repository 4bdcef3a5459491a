"""Names and phrases in one text, cut at commas, but not inside quotes, brackets, numbers or known names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

SEPARATORS: Final = re.compile(r"[,，、;；\n]")
"""What stands between names, half- or full-width."""

_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』", "《": "》"}
_BRACKETS: Final = {"(": ")", "（": "）", "[": "]", "【": "】"}
_NUMBER: Final = re.compile(r"(?<![\w.,，])\d{1,3}(?:[,，]\d{3})+(?!\d|[,，]\d)")
_LETTER: Final = re.compile(r"[^\W\d_]")
_PHRASE_END: Final = re.compile(r"(?:(?<!\d),|,(?!\d)|[，、;；。！？\n])+|[!?]+(?=\s|$)|\.(?=\s|$)")
_TEXT_END: Final = re.compile(r"[;；\n]+")
_SPOKEN: Final = re.compile(r"\"[^\"\n]+\"|“[^”\n]+”|「[^」\n]+」|『[^』\n]+』|《[^》\n]+》")
_SHORT: Final = re.compile(
    r"mt|mr|mrs|ms|dr|prof|st|sr|jr|vs|ft|lb|oz|etc|approx|ca|cf|capt|lt|sgt|rev|gov|inc|ltd|corp|bros|ave|"
    r"blvd|rd|hwy|dept|est|tel|jan|feb|apr|jun|jul|aug|sep|sept|oct|nov|dec|gen|col"
)
"""Words that a full stop follows and that end no sentence, in lower case; so do single letters and words with dots."""
_NUMBERED: Final = frozenset({"no", "nos", "vol", "fig", "ch", "p", "pp"})
"""The same where a number comes next."""
_PIECES: Final = 8  # of a known name, at most


def split_names(text: str, is_known: Callable[[str], bool] | None = None) -> list[str]:
    """Cut a text into names; empty ones are left out.

    A name in quotes is taken whole, without them. Commas in brackets and in numbers ("1,000 people") do not cut. Where
    names are known, the longest known name that begins at a place is taken first, whatever commas it has.

    Args:
        text: names with commas, semicolons or line ends between them.
        is_known: whether a text is one of the known names; ``None`` where there are none.

    Example:
        >>> split_names('bow (weapon, toy), "red car, blue roof", 1,000 people')
        ['bow (weapon, toy)', 'red car, blue roof', '1,000 people']
    """
    names: list[str] = []
    start = 0
    while start < len(text):
        if text[start].isspace() or SEPARATORS.match(text, start):
            start += 1
            continue
        name, start = _next(text, start, is_known)
        if name:
            names.append(name)
    return names


def split_phrases(text: str) -> list[str]:
    """Cut a query into its phrases: at commas, semicolons, line ends and the ends of sentences, in both languages.

    What is quoted stays whole, and a phrase that is quoted as a whole loses its quotes. Brackets, numbers ("1,000
    people", "3.5 mm", "1,5 kg", "10:30"), initials and abbreviations ("U.S. flag", "Mt. Fuji") are not cut.

    Args:
        text: of a query.

    Example:
        >>> split_phrases('Mt. Fuji at dawn, “雪，山”。1,000 people')
        ['Mt. Fuji at dawn', '雪，山', '1,000 people']
    """
    return _cut(text, _PHRASE_END, unquoted)


def split_texts(text: str) -> list[str]:
    """Cut a field into texts: at semicolons and line ends, but not inside quotes."""
    return _cut(text, _TEXT_END, str.strip)


def unquoted(text: str) -> str:
    """A text that is quoted as a whole without its quotes, others as they are."""
    bare = text.strip()
    found = _SPOKEN.fullmatch(bare)
    return bare[1:-1].strip() if found and bare[1:-1].strip() else bare


def _cut(text: str, ends: re.Pattern[str], clean: Callable[[str], str]) -> list[str]:
    covered = [found.span() for found in _SPOKEN.finditer(text)]
    start = 0
    for line in text.split("\n"):
        covered += [*_bracketed(text, start, start + len(line)), *_numbers(text, start, start + len(line))]
        start += len(line) + 1
    pieces, start = [], 0
    for found in ends.finditer(text):
        inside = any(low <= found.start() < high for low, high in covered)
        if not inside and not (found[0] == "." and _is_short(text[start : found.start()], text[found.end() :])):
            pieces.append(text[start : found.start()])
            start = found.end()
    pieces.append(text[start:])
    return [kept for piece in pieces if (kept := clean(piece))]


def _is_short(before: str, after: str) -> bool:
    """Whether the full stop between two texts belongs to the word before it and ends no sentence."""
    words = before.split()
    word = words[-1].lower() if words else ""
    if not after.strip():
        return "." in word or (len(word) == 1 and word.isalpha() and word.isascii())
    if word in _NUMBERED:
        return after.lstrip()[:1].isdigit()
    return _SHORT.fullmatch(word) is not None or "." in word or (len(word) == 1 and word.isalpha() and word.isascii())


def _next(text: str, start: int, is_known: Callable[[str], bool] | None) -> tuple[str, int]:
    """The name that begins at a place, and where it ends."""
    line = text.find("\n", start)
    line = len(text) if line < 0 else line
    ends = [found.start() for found in SEPARATORS.finditer(text, start, line)][: _PIECES - 1]
    if is_known is not None:
        for end in reversed([*ends, line] if len(ends) < _PIECES - 1 else ends):
            if is_known(text[start:end].strip()):
                return text[start:end].strip(), end
    quoted = _quoted(text, start, line)
    if quoted is not None:
        return quoted
    covered = [*_bracketed(text, start, line), *_numbers(text, start, line)]
    for found in SEPARATORS.finditer(text, start, line):
        if not any(low <= found.start() < high for low, high in covered):
            return text[start : found.start()].strip(), found.start()
    return text[start:line].strip(), line


def _quoted(text: str, start: int, line: int) -> tuple[str, int] | None:
    """A name that is quoted as a whole, and where its closing quote ends."""
    closing = _QUOTES.get(text[start])
    end = text.find(closing, start + 1, line) if closing else -1
    if end < 0 or not text[start + 1 : end].strip():
        return None
    rest = text[end + 1 : line].lstrip()
    return None if rest and not SEPARATORS.match(rest) else (text[start + 1 : end].strip(), end + 1)


def _bracketed(text: str, start: int, line: int) -> list[tuple[int, int]]:
    """Where closed brackets are; one that is never closed is a character like any other."""
    spans: list[tuple[int, int]] = []
    open_at: list[int] = []
    for place in range(start, line):
        if text[place] in _BRACKETS:
            open_at.append(place)
        while open_at and text[place] in _BRACKETS.values():
            low = open_at.pop()
            if _BRACKETS[text[low]] == text[place]:
                spans.append((low, place + 1))
                break
    return spans


def _numbers(text: str, start: int, line: int) -> list[tuple[int, int]]:
    """Where numbers with commas between thousands are.

    Digits may as well be several names ("100,200", "room 101,102"): a word must follow, or a group begin with 0.
    """
    spans = []
    for found in _NUMBER.finditer(text, start, line):
        after = SEPARATORS.split(text[found.end() : line])[0]
        zeros = any(group[0] in "0０" for group in SEPARATORS.split(found[0])[1:])
        if zeros or _LETTER.search(after):
            spans.append(found.span())
    return spans
