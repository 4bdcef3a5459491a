"""What is said about one scene: region phrases and their hard negatives, short and long captions, caption negatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from fgclip2.data.openmoji import grammar
from fgclip2.data.openmoji.attributes import COLOURS, OPPOSITE, POSITIONS, SIZES, Attributes, Draws, place_truth, truth
from fgclip2.data.openmoji.catalogue import Category
from fgclip2.data.openmoji.compose import GROUNDS
from fgclip2.data.openmoji.grammar import Text
from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    from fgclip2.data.openmoji.scenes import SceneObject

NEGATIVES = 10
NEAR_KINDS = ("near-category", "near-colour", "near-size", "near-position", "near-count", "near-relation")
RANDOM_KINDS = ("category", "colour", "style")
_MIN_LONG_WORDS, _MIN_LONG_CHARACTERS = 62, 102
_RELATION_MARGIN = 0.12
_COMPARISON_RATIO = 1.5  # of longest sides, from which "larger than" is said


@dataclass(frozen=True, slots=True)
class Negative:
    """A phrase that is false of its region, and how it was made false.

    Attributes:
        kind: `category`, `colour`, `style` (badge <-> tint, or a colour on a plain thing), or a near swap:
            `near-category` (same group), `near-colour`, `near-size`, `near-position`; in captions also `near-count`,
            `near-relation`.
        text: the phrase in its language.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What the texts of one scene may mention: categories, look-alike groups and forbidden (colour, category) pairs."""

    categories: Sequence[Category]
    pool: Sequence[int]
    groups: dict[str, list[int]]
    banned: frozenset[tuple[int, int]]

    def allowed(self, colour: int, category: int) -> bool:
        """May this pair be shown or said?"""
        return (colour, category) not in self.banned

    def mates(self, category: int) -> list[int]:
        """The other categories of its group."""
        return [c for c in self.groups[self.categories[category].group] if c != category]


def describe(thing: SceneObject, draws: Draws, lexicon: Lexicon, crowd: bool) -> Attributes:
    """Choose what an object's phrase mentions. Size only when it shows, position only when it is clear."""
    style = colour = size = position = None
    if thing.style != "plain" and draws.chance(0.85):
        style, colour = thing.style, thing.colour
    if thing.size is not None and draws.chance(0.5):
        size = thing.size
    if crowd and draws.chance(0.25):
        places = [p for p in POSITIONS if place_truth(p, *thing.centre)]
        position = places[draws.below(len(places))] if places else None
    return Attributes(thing.category.id, style, colour, size, position)


def hard_negatives(
    thing: SceneObject, said: Attributes, form: int, mode: str, draws: Draws, lexicon: Lexicon
) -> list[tuple[str, Attributes, Text]]:
    """Exactly 10 different phrases, each false of `thing`; (kind, attributes, text).

    Args:
        thing: the region.
        said: what its positive phrase mentions.
        form: wording of the positive.
        mode: `"mixed"`, `"random"` (random swaps only) or `"near"` (near swaps only).
        draws: random numbers of the texts.
        lexicon: what may be mentioned.
    """
    near, far = _near_swaps(said, draws, lexicon), _random_swaps(thing, said, draws, lexicon)
    if mode == "near":
        plan = near + _more_near(said, draws, lexicon)
    elif mode == "random":
        plan = far
    else:
        singles = [n for n in near if n[0] != "near-category"]
        others = [n for n in near if n[0] == "near-category"]
        plan = draws.shuffled(singles)[:3] + others[:3] + far
    out: list[tuple[str, Attributes, Text]] = []
    seen_en, seen_zh = set(), set()
    for kind, attributes in plan:
        text = grammar.phrase(attributes, lexicon.categories[attributes.category], form)
        if text.en in seen_en or text.zh in seen_zh or truth(attributes, thing) is not False:
            continue
        seen_en.add(text.en)
        seen_zh.add(text.zh)
        out.append((kind, attributes, text))
        if len(out) == NEGATIVES:
            return out
    raise Fgclip2Error(
        f"only {len(out)} of {NEGATIVES} {mode} negatives can be made for {thing.category.name_en!r} with "
        f"{len(lexicon.pool)} categories; allow more categories in SceneConfig.category_ids"
    )


Swap = tuple[str, Attributes]


def _near_swaps(said: Attributes, draws: Draws, lexicon: Lexicon) -> list[Swap]:
    out: list[Swap] = []
    if said.colour is not None:
        for colour in draws.shuffled(list(COLOURS[said.colour].near)):
            if lexicon.allowed(colour, said.category):
                out.append(("near-colour", replace(said, colour=colour)))
    if said.size is not None:
        out.append(("near-size", replace(said, size=SIZES[1 - SIZES.index(said.size)])))
    if said.position in OPPOSITE:
        out.append(("near-position", replace(said, position=OPPOSITE[said.position])))
    mates = lexicon.mates(said.category)
    for category in draws.some(mates, 6):
        if said.colour is None or lexicon.allowed(said.colour, category):
            out.append(("near-category", replace(said, category=category)))
    return out


def _more_near(said: Attributes, draws: Draws, lexicon: Lexicon) -> list[Swap]:
    """Further near swaps for a region with few attributes: the whole group, its members in neighbouring colours."""
    mates = lexicon.mates(said.category)
    out = []
    for colour in (said.colour, *(COLOURS[said.colour].near if said.colour is not None else ())):
        for category in draws.shuffled(mates):
            if colour is None or lexicon.allowed(colour, category):
                out.append(("near-category", replace(said, category=category, colour=colour)))
    for category in draws.shuffled(mates):
        for position in POSITIONS:
            out.append(("near-category", replace(said, category=category, style=None, colour=None, position=position)))
    return out


def _random_swaps(thing: SceneObject, said: Attributes, draws: Draws, lexicon: Lexicon) -> list[Swap]:
    other: list[Swap] = []
    colours = [c for c in range(len(COLOURS)) if lexicon.allowed(c, said.category)]
    if said.colour is not None:
        far = [c for c in colours if c != said.colour and c not in COLOURS[said.colour].near]
        other += [("colour", replace(said, colour=c)) for c in draws.some(far, 3)]
        other.append(("style", replace(said, style="tint" if said.style == "badge" else "badge")))
    elif thing.style == "plain" and colours:
        for colour in draws.some(colours, 2):
            other.append(("style", replace(said, style="badge" if draws.chance(0.6) else "tint", colour=colour)))
    out = draws.some(other, 4)
    for _ in range(3 * NEGATIVES):
        category = lexicon.pool[draws.below(len(lexicon.pool))]
        if category != said.category and (said.colour is None or lexicon.allowed(said.colour, category)):
            # Not `replace`: this runs 30 times a region and replace is four times slower.
            out.append(("category", Attributes(category, said.style, said.colour, said.size, said.position)))
    return out


def short_captions(things: Sequence[SceneObject], ground: int, draws: Draws) -> list[Text]:
    """Four short captions: things with their attributes; counts; a relation; number of things and ground."""
    order = draws.shuffled(list(things))
    chosen = [grammar.phrase(t.shown(size=True), t.category) for t in order[:4]]
    counts = Counter(t.category.id for t in order)
    by_id = {t.category.id: t.category for t in order}
    totals = [grammar.counted(by_id[c], n) for c, n in counts.items()]
    return [
        grammar.listed(chosen),
        grammar.listed(totals[:6]),
        relation_caption(order, ground),
        number_caption(len(order), ground, totals[:2]),
    ]


def relation_caption(order: Sequence[SceneObject], ground: int) -> Text:
    """The first clear relation among the things in this order; alone: the thing and the ground."""
    for k, first in enumerate(order):
        for second in order[k + 1 :]:
            relation = relation_between(first, second)
            if relation is not None:
                a, b = (grammar.phrase(t.shown(), t.category) for t in (first, second))
                return grammar.related(a, relation, b)
    only = grammar.phrase(order[0].shown(), order[0].category)
    ground_en, ground_zh = GROUNDS[ground]
    return Text(f"{only.en} on a {ground_en} ground", f"{ground_zh}背景上的{only.zh}")


def relation_between(first: SceneObject, second: SceneObject) -> str | None:
    """`left`, `right`, `above`, `below`: where `first` lies from `second` when one direction clearly wins."""
    dx, dy = first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]
    if abs(dx) >= _RELATION_MARGIN and abs(dx) > 1.5 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) >= _RELATION_MARGIN and abs(dy) > 1.5 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def comparison_between(first: SceneObject, second: SceneObject) -> str | None:
    """`larger` or `smaller`: what `first` is next to `second` when the difference is clear."""
    if first.scale >= _COMPARISON_RATIO * second.scale:
        return "larger"
    return "smaller" if second.scale >= _COMPARISON_RATIO * first.scale else None


def number_caption(number: int, ground: int, parts: Sequence[Text]) -> Text:
    """`five objects on a striped ground, among them two cats and a bus`."""
    among, (ground_en, ground_zh) = grammar.listed(parts), GROUNDS[ground]
    number_en, number_zh = _number(number)
    noun = "object" if number == 1 else "objects"
    link_en, link_zh = ("namely", "即") if number == 1 else ("among them", "其中有")
    return Text(
        f"{number_en} {noun} on a {ground_en} ground, {link_en} {among.en}",
        f"{ground_zh}背景上有{number_zh}个物体，{link_zh}{among.zh}",
    )


def _number(number: int) -> tuple[str, str]:
    return grammar.NUMBERS[number] if number < len(grammar.NUMBERS) else (str(number), str(number))


def long_caption(things: Sequence[SceneObject], ground: int, draws: Draws, lexicon: Lexicon) -> Text:
    """A description of at least 60 English words and 100 Chinese characters: every thing, relations, what is absent."""
    order = draws.shuffled(list(things))
    number_en, number_zh = _number(len(order))
    ground_en, ground_zh = GROUNDS[ground]
    noun = "object" if len(order) == 1 else "objects"
    opening_en = f"This picture shows {number_en} {noun} on a {ground_en} ground."
    out = [Text(opening_en, f"这张图片在{ground_zh}背景上展示了{number_zh}个物体。")]
    for thing in order:
        what = grammar.phrase(thing.shown(size=True), thing.category)
        out.append(grammar.located(what, grammar.grid_place(*thing.centre), draws.below(2)))
    counts = Counter(t.category.id for t in order)
    for category, number in counts.items():
        if number > 1:
            total = grammar.counted(lexicon.categories[category], number)
            out.append(Text(f"There are {total.en} in total.", f"一共有{total.zh}。"))
    extra = _relations(order)
    while _too_short(out):
        out.append(extra.pop() if extra else _absence(counts, draws, lexicon))
    return Text(" ".join(t.en for t in out), "".join(t.zh for t in out))


def _too_short(sentences: Sequence[Text]) -> bool:
    words = sum(t.en.count(" ") + 1 for t in sentences)
    return words < _MIN_LONG_WORDS or sum(len(t.zh) for t in sentences) < _MIN_LONG_CHARACTERS


def _relations(order: Sequence[SceneObject]) -> list[Text]:
    out = []
    single = Counter(t.category.id for t in order)
    named = [t for t in order if single[t.category.id] == 1]
    for first, second in pairwise(named):
        relation = relation_between(first, second)
        if relation is not None:
            words_en, words_zh = grammar.RELATIONS[relation]
            a, b = first.category, second.category
            verb = "is" if a.countable else "are"
            sentence_en = f"The {a.name_en} {verb} {words_en} the {b.name_en}."
            out.append(Text(sentence_en, f"{a.name_zh}在{b.name_zh}的{words_zh}。"))
    return out[::-1]


def _absence(present: Counter[int], draws: Draws, lexicon: Lexicon) -> Text:
    names: list[Category] = []
    while len(names) < 3:
        category = lexicon.categories[lexicon.pool[draws.below(len(lexicon.pool))]]
        if category.id not in present and category not in names:
            names.append(category)
    en = [f"no {c.name_en}" for c in names]
    return Text(
        f"There is {en[0]}, {en[1]} and {en[2]} to be seen here.",
        f"这里看不到{names[0].name_zh}、{names[1].name_zh}和{names[2].name_zh}。",
    )
