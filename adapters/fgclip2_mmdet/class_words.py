"""What a user's classes are called in English and Chinese: by the annotation file, or by a file of names beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fgclip2.data.coco import CocoCategory
from fgclip2.errors import Fgclip2Error
from fgclip2.names import CJK, check_classes, load_classes, load_numbers, said

LANGUAGES: Final = ("en", "zh")
ALONE: Final = "names"
"""The vocabulary of classes that do not all have names in both languages."""
_NAMED: Final = 5


@dataclass(frozen=True)
class ClassWords:
    """Names and synonyms of C classes.

    Attributes:
        vocabularies: by language, or under `ALONE`, C names; the first is the main one.
        synonyms: of the same vocabularies, C times the other words; none where no class has any.
        notes: sentences for the person who started the run.
    """

    vocabularies: dict[str, list[str]]
    synonyms: dict[str, list[list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def class_words(categories: Sequence[CocoCategory], source: Path, names: Path | None = None) -> ClassWords:
    """Names in both languages where every class has them, else those of the categories alone.

    A category's words are its ``name``, ``name_zh`` and ``synonyms``; a word with a Chinese character is Chinese. What
    ``names`` says of a class stands in place of the category's words of the same language. Its entries belong to the
    category that one of their words names; where there are as many as categories, and none names another one's, they
    may be in the categories' order instead, so that a list of translations will do. Where the file numbers its names
    (``{"4": "狗"}``, or COCO's ``id``) as the categories are numbered, an entry belongs to the category of its number.

    Args:
        categories: in the order of the classes.
        source: the file that they are from, for messages.
        names: what `fgclip2.names.load_classes` reads; ``None`` for nothing beside the categories.

    Raises:
        Fgclip2Error: ``name_zh`` or ``synonyms`` of another form; entries that belong to no category, or several to
            one; a category without entry.
    """
    notes: list[str] = []
    own = [_of_category(category, source) for category in categories]
    plain = {category.name: [*words["synonyms"]] for category, words in zip(categories, own, strict=True)}
    if names is not None:
        entries, numbered = _by_id(load_classes(names), categories, names)
        chosen, by_order = _aligned(entries, own, categories, names)
        if by_order:
            first = f"{chosen[0]!r} is {categories[0].name!r}"
            how = "by the categories' ids" if numbered else "in the order of the categories"
            notes.append(f"{names} names the {len(chosen)} classes {how}: {first}")
        mostly_chinese = 2 * sum(bool(CJK.search(name)) for name in entries) > len(entries)
        for words, name in zip(own, chosen, strict=True):
            given = _parted([name, *entries[name]])
            if mostly_chinese and not given["zh"]:  # "DVD" in a Chinese list
                given = {"en": [], "zh": [name, *entries[name]]}
            words.update({language: found for language, found in given.items() if found})
        plain = {name: list(entries[name]) for name in chosen}
    complete = [language for language in LANGUAGES if all(words[language] for words in own)]
    if len(complete) == len(LANGUAGES):
        found = {language: _classes([words[language] for words in own]) for language in LANGUAGES}
    else:
        found = {ALONE: [(name, tuple(more)) for name, more in plain.items()]}
        chinese = sum(bool(words["zh"]) for words in own)
        if chinese < len(own) and any(words["en"] and words["zh"] for words in own):
            without = [c.name for c, words in zip(categories, own, strict=True) if not words["zh"]]
            notes.append(
                f"evaluated with one name a class: {len(without)} of {len(own)} have no Chinese one, such as "
                f"{', '.join(without[:_NAMED])}; 'name_zh' in the categories or --names gives them"
            )
    synonyms = {language: [list(more) for _, more in classes] for language, classes in found.items()}
    if some := sum(any(more) for more in zip(*synonyms.values(), strict=True)):
        notes.append(f"{some} of {len(own)} classes are the mean of their name and their synonyms")
    return ClassWords(
        {language: [name for name, _ in classes] for language, classes in found.items()},
        synonyms if some else {},
        notes,
    )


def _by_id(
    entries: Mapping[str, Sequence[str]], categories: Sequence[CocoCategory], file: Path
) -> tuple[Mapping[str, Sequence[str]], bool]:
    """Entries in the order of the categories, and whether their numbers said so: those of the file are the ids."""
    numbers = load_numbers(file) or load_numbers(file, ids=True)
    ids = [category.id for category in categories]
    if numbers is None or len(numbers) != len(entries) or sorted(numbers) != sorted(ids):
        return entries, False
    named = dict(zip(numbers, entries.items(), strict=True))
    return dict(named[number] for number in ids), True


def _of_category(category: CocoCategory, source: Path) -> dict[str, list[str]]:
    """Its words in each language, and under ``synonyms`` as they are."""
    where = f"{source}: category {category.name!r} (id {category.id})"
    chinese = "" if category.name_zh is None else category.name_zh
    if not isinstance(chinese, str):
        raise Fgclip2Error(f"{where} has 'name_zh' {chinese!r:.40}; give its Chinese name as text, or leave it out")
    try:
        (synonyms,) = check_classes({category.name: category.synonyms or ()}).values()
    except Fgclip2Error as error:
        raise Fgclip2Error(f"{where}: {error}") from error
    words, more = _parted([category.name]), _parted(synonyms)
    # What stands as name_zh is the Chinese name even without a Chinese character: "DVD".
    named = [*words["zh"], *([chinese.strip()] if chinese.strip() else []), *more["zh"]]
    return {"en": [*words["en"], *more["en"]], "zh": named, "synonyms": list(synonyms)}


def _parted(words: Sequence[str]) -> dict[str, list[str]]:
    return {
        "en": [word for word in words if not CJK.search(word)],
        "zh": [word for word in words if CJK.search(word)],
    }


def _classes(words: Sequence[Sequence[str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Of every class its first word, and the others once each."""
    return [(name, check_classes({name: more})[name]) for name, *more in words]


def _aligned(
    entries: Mapping[str, Sequence[str]],
    own: Sequence[Mapping[str, Sequence[str]]],
    categories: Sequence[CocoCategory],
    file: Path,
) -> tuple[list[str], bool]:
    """Of every category the entry that belongs to it, and whether by order."""
    called: dict[str, int] = {}
    for index, (category, known) in enumerate(zip(categories, own, strict=True)):
        for word in (category.name, *known["zh"][:1]):
            called.setdefault(said(word), index)
    places: dict[str, list[int]] = {}
    for name, more in entries.items():  # a synonym may be the name of another class; the name itself decides
        words = [name] if said(name) in called else more
        places[name] = sorted({called[said(word)] for word in words if said(word) in called})
    in_place = all(found in ([], [index]) for index, found in enumerate(places.values()))
    if len(entries) == len(categories) and in_place:
        return list(entries), any(not found for found in places.values())
    _refuse(file, "that are none of the categories", [name for name, found in places.items() if not found])
    several = [
        f"{name} ({', '.join(categories[i].name for i in found)})" for name, found in places.items() if found[1:]
    ]
    _refuse(file, "whose words are those of several categories", several)
    by_category: dict[int, list[str]] = {index: [] for index in range(len(categories))}
    for name, found in places.items():
        by_category[found[0]].append(name)
    _refuse(file, "for one category", [" and ".join(found) for found in by_category.values() if len(found) > 1])
    without = [categories[index].name for index, found in by_category.items() if not found]
    if without:
        raise Fgclip2Error(f"--names {file} lacks {_listed(without)}; give every category an entry, or all in order")
    return [found[0] for found in by_category.values()], False


def _refuse(file: Path, problem: str, which: Sequence[Any]) -> None:
    if which:
        raise Fgclip2Error(
            f"--names {file} has names {problem}: {_listed(which)}; give each category one entry, with its name in the "
            "annotation file among the words, or as many as there are categories, in their order"
        )


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
