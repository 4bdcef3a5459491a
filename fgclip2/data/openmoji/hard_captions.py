"""Captions that are told from false ones only by counting, comparing and looking closely: a scene's near-swap test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from fgclip2.data.openmoji import grammar
from fgclip2.data.openmoji.attributes import COLOURS, Attributes, Draws
from fgclip2.data.openmoji.grammar import Text
from fgclip2.data.openmoji.texts import NEGATIVES, Lexicon, comparison_between, relation_between
from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    from fgclip2.data.openmoji.scenes import SceneObject

_LISTED = 3


@dataclass(frozen=True, slots=True)
class HardCaption:
    """One caption that is true of its picture and 10 that are not, index-aligned over the languages.

    Attributes:
        text: `{"en": ..., "zh": ...}`.
        negatives: 10 captions by language.
        kinds: how each was made: `near-count` (one more or one less), `near-relation` (left / right, above / below, or
            the two things exchanged), `near-size` (larger / smaller), `near-colour`, `near-category`, `colour`,
            `category`.
    """

    text: dict[str, str]
    negatives: dict[str, list[str]]
    kinds: list[str]


@dataclass(frozen=True, slots=True)
class _Part:
    said: Attributes
    number: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the caption says: the listed kinds with their exact numbers, and a relation between two of them."""

    parts: tuple[_Part, ...]
    relation: tuple[int, str, int] | None

    def text(self, lexicon: Lexicon) -> Text:
        categories = [lexicon.categories[part.said.category] for part in self.parts]
        pairs = zip(self.parts, categories, strict=True)
        out = grammar.listed([grammar.numbered(part.said, category, part.number) for part, category in pairs])
        if self.relation is None:
            return out
        first, relation, second = self.relation
        names = [Text(c.name_en, c.name_zh) for c in (categories[first], categories[second])]
        link = grammar.compared(names[0], relation, names[1])
        return Text(f"{out.en}, {link.en}", f"{out.zh}，{link.zh}")


def hard_caption(things: Sequence[SceneObject], mode: str, draws: Draws, lexicon: Lexicon) -> HardCaption:
    """Make a scene's hard caption.

    Args:
        things: all objects of the scene.
        mode: `"mixed"`, `"random"` or `"near"`, as in `SceneConfig.negatives`.
        draws: random numbers of the texts.
        lexicon: what may be mentioned.

    Raises:
        Fgclip2Error: fewer than 10 different false captions exist.
    """
    plan = _plan(things, draws)
    special, mates = _near(plan, draws, lexicon), _mates(plan, things, draws, lexicon)
    far = _far(plan, things, draws, lexicon)
    order: dict[str, Iterator[tuple[str, _Plan]]] = {
        "near": chain(special, mates),
        "random": far,
        "mixed": chain(special[:5], islice(mates, 2), far),
    }
    truth = plan.text(lexicon)
    kinds: list[str] = []
    kept: list[Text] = []
    seen_en, seen_zh = {truth.en}, {truth.zh}
    for kind, false in order[mode]:
        text = false.text(lexicon)
        if text.en in seen_en or text.zh in seen_zh:
            continue
        seen_en.add(text.en)
        seen_zh.add(text.zh)
        kinds.append(kind)
        kept.append(text)
        if len(kept) == NEGATIVES:
            negatives = {"en": [t.en for t in kept], "zh": [t.zh for t in kept]}
            return HardCaption({"en": truth.en, "zh": truth.zh}, negatives, kinds)
    raise Fgclip2Error(f"only {len(kept)} of {NEGATIVES} {mode} false captions can be made; allow more categories")


def _plan(things: Sequence[SceneObject], draws: Draws) -> _Plan:
    """Up to three kinds of things, repeated ones first (they make counting matter), and one relation of single ones."""
    counts = Counter(thing.category.id for thing in things)
    kinds = draws.shuffled(list({thing.category.id: thing for thing in things}.values()))
    chosen = sorted(kinds, key=lambda thing: -counts[thing.category.id])[:_LISTED]
    parts = []
    for thing in chosen:
        number = counts[thing.category.id]
        parts.append(_Part(thing.shown() if number == 1 else Attributes(thing.category.id), number))
    found: list[tuple[int, str, int]] = []
    for i, first in enumerate(chosen):
        for j, second in enumerate(chosen):
            if i == j or parts[i].number > 1 or parts[j].number > 1:
                continue
            said = relation_between(first, second), comparison_between(first, second)
            found += [(i, relation, j) for relation in said if relation is not None]
    return _Plan(tuple(parts), found[draws.below(len(found))] if found else None)


def _near(plan: _Plan, draws: Draws, lexicon: Lexicon) -> list[tuple[str, _Plan]]:
    """Nearly true plans with the same things in them."""
    out: list[tuple[str, _Plan]] = []
    if plan.relation is not None:
        first, relation, second = plan.relation
        kind = "near-size" if relation in grammar.COMPARISONS else "near-relation"
        out.append((kind, replace(plan, relation=(first, grammar.OPPOSITE_RELATION[relation], second))))
        out.append((kind, replace(plan, relation=(second, relation, first))))
    for k in draws.shuffled(list(range(len(plan.parts)))):
        part = plan.parts[k]
        named = plan.relation is not None and k in (plan.relation[0], plan.relation[2])
        if lexicon.categories[part.said.category].countable and not named:
            for number in (part.number + 1, part.number - 1):
                if 1 <= number < len(grammar.NUMBERS):
                    said = part.said if number == part.number else Attributes(part.said.category)
                    out.append(("near-count", _with(plan, k, _Part(said, number))))
        if part.said.colour is not None:
            for colour in COLOURS[part.said.colour].near:
                if lexicon.allowed(colour, part.said.category):
                    out.append(("near-colour", _with(plan, k, replace(part, said=replace(part.said, colour=colour)))))
    return out


def _mates(plan: _Plan, things: Sequence[SceneObject], draws: Draws, lexicon: Lexicon) -> Iterator[tuple[str, _Plan]]:
    """Plans with a thing's like in its place. Drawn at once, made when asked for: few of the many are."""
    present = {thing.category.id for thing in things}
    drawn: list[tuple[int, int]] = []
    for k in draws.shuffled(list(range(len(plan.parts)))):
        mates = [c for c in lexicon.mates(plan.parts[k].said.category) if c not in present]
        drawn += [(k, c) for c in draws.shuffled(mates)]
    return (("near-category", new) for k, c in drawn if (new := _named(plan, k, c, lexicon)))


def _far(plan: _Plan, things: Sequence[SceneObject], draws: Draws, lexicon: Lexicon) -> Iterator[tuple[str, _Plan]]:
    """Plans with any other colour or thing; drawn and made when asked for."""
    for k, part in enumerate(plan.parts):
        if part.said.colour is not None:
            near = (part.said.colour, *COLOURS[part.said.colour].near)
            far = [c for c in range(len(COLOURS)) if c not in near and lexicon.allowed(c, part.said.category)]
            for colour in draws.some(far, 1):
                yield "colour", _with(plan, k, replace(part, said=replace(part.said, colour=colour)))
    present = {thing.category.id for thing in things}
    for _ in range(5 * NEGATIVES):
        category = lexicon.pool[draws.below(len(lexicon.pool))]
        new = None if category in present else _named(plan, draws.below(len(plan.parts)), category, lexicon)
        if new is not None:
            yield "category", new


def _with(plan: _Plan, k: int, part: _Part) -> _Plan:
    return replace(plan, parts=(*plan.parts[:k], part, *plan.parts[k + 1 :]))


def _named(plan: _Plan, k: int, category: int, lexicon: Lexicon) -> _Plan | None:
    """Part k under another name; None where that pair of colour and name, or that number, may not be said."""
    part = plan.parts[k]
    if part.said.colour is not None and not lexicon.allowed(part.said.colour, category):
        return None
    if part.number > 1 and not lexicon.categories[category].countable:
        return None
    return _with(plan, k, replace(part, said=replace(part.said, category=category)))
