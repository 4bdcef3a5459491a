"""Sets of short texts that differ in one fact: the cheapest lessons in places, sizes, counts and relations.

A phrase says several things at once, and most of its hard negatives are given away by the name. Here everything but one
fact is left out, so that nothing else tells the true text from the false ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

from fgclip2.data.openmoji import grammar
from fgclip2.data.openmoji.attributes import POSITIONS, SIZES, Attributes, Draws, truth
from fgclip2.data.openmoji.grammar import Text
from fgclip2.data.openmoji.texts import Lexicon, comparison_between, relation_between

if TYPE_CHECKING:
    from fgclip2.data.openmoji.scenes import SceneObject

_ALIKE = 3  # names of the same group that a name is told from
_PAIRS = 6  # of things that are compared; of eight things there are 56


@dataclass(frozen=True, slots=True)
class Contrast:
    """Texts of which only the first is true.

    Attributes:
        kind: the fact: `place` or `size` of a region; `name`, `count`, `relation` or `comparison` in a picture.
        texts: two or more.
    """

    kind: str
    texts: tuple[Text, ...]

    def said(self, language: str) -> tuple[str, ...]:
        """The texts in one language (`"en"` or `"zh"`), the true one first."""
        return tuple(getattr(text, language) for text in self.texts)


def region_contrasts(thing: SceneObject) -> list[Contrast]:
    """Where a thing clearly is, and its size where that shows: `a cat on the left` and not `a cat on the right`."""
    out = []
    options = {
        "place": [Attributes(thing.category.id, position=place) for place in POSITIONS],
        "size": [Attributes(thing.category.id, size=size) for size in SIZES],
    }
    for kind, said in options.items():
        verdicts = [truth(each, thing) for each in said]
        false = [each for each, verdict in zip(said, verdicts, strict=True) if verdict is False]
        for each, verdict in zip(said, verdicts, strict=True):
            if verdict is True and false:
                out.append(Contrast(kind, tuple(grammar.phrase(x, thing.category) for x in (each, *false))))
    return out


def picture_contrasts(things: Sequence[SceneObject], draws: Draws, lexicon: Lexicon) -> list[Contrast]:
    """What a picture shows, how many of it, and how two things in it lie and compare.

    Args:
        things: all objects of the scene.
        draws: random numbers of the texts.
        lexicon: what may be mentioned.
    """
    return [
        *_names(things, draws, lexicon),
        *_counts(things),
        *_pairs(things, draws),
    ]


def _names(things: Sequence[SceneObject], draws: Draws, lexicon: Lexicon) -> Iterator[Contrast]:
    """A thing against its like: `a cat` and not `a lion`."""
    present = {thing.category.id: thing.category for thing in things}
    for category in present.values():
        alike = [lexicon.categories[c] for c in lexicon.mates(category.id) if c not in present]
        false = draws.some(alike, _ALIKE)
        if false:
            yield Contrast("name", tuple(grammar.counted(each, 1) for each in (category, *false)))


def _counts(things: Sequence[SceneObject]) -> Iterator[Contrast]:
    """An exact number against one less and one more: `two cats` and not `one cat` or `three cats`."""
    counts = Counter(thing.category.id for thing in things)
    for category in {thing.category.id: thing.category for thing in things}.values():
        number = counts[category.id]
        false = [n for n in (number - 1, number + 1) if 1 <= n < len(grammar.NUMBERS)]
        if category.countable and false:
            said = Attributes(category.id)
            yield Contrast("count", tuple(grammar.numbered(said, category, n) for n in (number, *false)))


def _pairs(things: Sequence[SceneObject], draws: Draws) -> Iterator[Contrast]:
    """A relation of two single things against its opposite, and against the things exchanged."""
    counts = Counter(thing.category.id for thing in things)
    single = [thing for thing in things if counts[thing.category.id] == 1]
    for first, second in draws.some(list(permutations(single, 2)), _PAIRS):
        names = [Text(thing.category.name_en, thing.category.name_zh) for thing in (first, second)]
        for kind, relation in (
            ("relation", relation_between(first, second)),
            ("comparison", comparison_between(first, second)),
        ):
            if relation is not None:
                true = grammar.compared(names[0], relation, names[1])
                opposite = grammar.compared(names[0], grammar.OPPOSITE_RELATION[relation], names[1])
                exchanged = grammar.compared(names[1], relation, names[0])
                yield Contrast(kind, (true, opposite, exchanged))
