"""Which category of an annotation file a class means, whatever the language or spelling of its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fgclip2.data.coco import CocoCategory
from fgclip2.glossary import match_names
from fgclip2.names import said
from fgclip2.vocabulary import Vocabulary, matches

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_NAMED: Final = 8


@dataclass(frozen=True)
class CategoryIds:
    """What classes are in an annotation file.

    Attributes:
        ids: class name -> category id; each category belongs to one class at most.
        translated: of these, the classes that no word of the file names -> the category that they translate.
        without: classes that are none of the file's.
    """

    ids: dict[str, int]
    translated: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def notes(self, annotations: str, results: str) -> list[str]:
        """What a user should know before a results file is believed.

        Args:
            annotations: the annotation file's name.
            results: that of the file of results, which is written when any class has an id.
        """
        lines = []
        if self.translated:
            said_of = ", ".join(f"{name} is {category}" for name, category in self.translated.items())
            lines.append(f"ids of {annotations} by translation: {said_of}")
        if self.without:
            more = f" and {len(self.without) - _NAMED} more" if len(self.without) > _NAMED else ""
            where = f"they are not in {results}" if self.ids else f"there is no {results}"
            lines.append(f"no ids in {annotations}, so {where}: {', '.join(self.without[:_NAMED])}{more}")
        return lines


def category_ids(
    vocabulary: Vocabulary, categories: Sequence[CocoCategory], guess_with: FGCLIP2 | None = None
) -> CategoryIds:
    """Find the category of every class.

    A class is the category whose ``name`` or ``name_zh`` is its name, else one of its synonyms, whatever their case and
    whether blanks are underscores. Else it is the one that a table translates, see `fgclip2.glossary.match_names`.

    Args:
        vocabulary: the classes.
        categories: of the file, with distinct names.
        guess_with: what embedded the vocabulary, to guess translations that no table has; ``None`` guesses none.
    """
    words = {said(category.name): category for category in categories}
    for category in categories:
        if isinstance(category.name_zh, str) and category.name_zh.strip():
            words.setdefault(said(category.name_zh), category)
    ids: dict[str, int] = {}
    taken: set[int] = set()
    rounds = [[(name,) for name in vocabulary.names], *([vocabulary.synonyms] if vocabulary.synonyms else [])]
    for called in rounds:  # names before synonyms: "couch" is its own class, where another has it for a synonym
        for name, own in zip(vocabulary.names, called, strict=True):
            found = (words[said(word)].id for word in own if said(word) in words)
            number = next((number for number in found if number not in taken), None)
            if name not in ids and number is not None:
                ids[name] = number
                taken.add(number)
    translated: dict[str, str] = {}
    if len(ids) < len(vocabulary) and len(taken) < len(categories):
        names = [category.name for category in categories]
        if guess_with is None:
            synonyms = vocabulary.synonyms or ((),) * len(vocabulary)
            found_by = match_names([(n, *more) for n, more in zip(vocabulary.names, synonyms, strict=True)], names)
        else:
            known_texts = Vocabulary.build(guess_with, names, vocabulary.templates)
            found_by = matches(vocabulary, known_texts, guess_with, guess=True)
        for index, label in found_by.items():
            name, category = vocabulary.names[label], categories[index]
            if name not in ids and category.id not in taken:
                ids[name], translated[name] = category.id, category.name
                taken.add(category.id)
    return CategoryIds(ids, translated, tuple(name for name in vocabulary.names if name not in ids))
