"""Sets of texts that differ in one fact: the first is true, the others are false, in both languages alike."""

from __future__ import annotations

from collections import Counter

import pytest

from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.contrasts import region_contrasts
from fgclip2.data.openmoji.grammar import COMPARISONS, NUMBERS, PLACES, RELATIONS, SIZE_WORDS
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.data.openmoji.scenes import Scene

CONFIG = SceneConfig(size=128, objects=(4, 8))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    world = World()
    return [world.scene(seed, CONFIG) for seed in range(60)]


def said(text: str, words: dict[str, tuple[str, str]], language: int) -> set[str]:
    return {key for key, both in words.items() if both[language] in text}


def test_places_are_where_the_object_is(scenes: list[Scene]) -> None:
    """By coordinates alone: left is said in the left 36 %, and false beyond the middle."""
    kinds: Counter[str] = Counter()
    for thing in (thing for scene in scenes for thing in scene.objects):
        x, y = thing.centre
        along = {"left": x, "right": 1 - x, "top": y, "bottom": 1 - y}
        for contrast in (each for each in region_contrasts(thing) if each.kind == "place"):
            places = [said(text.en, PLACES, 0) for text in contrast.texts]
            assert [said(text.zh, PLACES, 1) for text in contrast.texts] == places
            assert all(len(each) == 1 for each in places)
            assert len(set(map(tuple, places))) == len(places) > 1
            true, *false = (each.pop() for each in places)
            kinds[true] += 1
            for place in false:
                assert max(abs(x - 0.5), abs(y - 0.5)) >= 0.2 if place == "centre" else along[place] >= 0.5
            assert max(abs(x - 0.5), abs(y - 0.5)) <= 0.12 if true == "centre" else along[true] <= 0.36
    assert set(kinds) == set(PLACES)
    assert min(kinds.values()) > 5


def test_sizes_are_said_where_they_show(scenes: list[Scene]) -> None:
    for thing in (thing for scene in scenes for thing in scene.objects):
        sizes = [each for each in region_contrasts(thing) if each.kind == "size"]
        assert len(sizes) == (thing.size is not None)
        for contrast in sizes:
            other = ({"small", "large"} - {thing.size}).pop()
            assert [said(text.en, SIZE_WORDS, 0) for text in contrast.texts] == [{thing.size}, {other}]
            assert [said(text.zh, SIZE_WORDS, 1) for text in contrast.texts] == [{thing.size}, {other}]


def test_pictures_are_asked_for_what_is_in_them(scenes: list[Scene]) -> None:
    kinds: Counter[str] = Counter()
    for scene in scenes:
        numbers = Counter(thing.category.name_en for thing in scene.objects)
        by_name = {thing.category.name_en: thing for thing in scene.objects}
        plurals = {thing.category.plural_en: thing.category.name_en for thing in scene.objects}
        for contrast in scene.contrasts:
            kinds[contrast.kind] += 1
            true, *false = (text.en for text in contrast.texts)
            assert true not in false
            if contrast.kind == "name":
                bare = [text.removeprefix("an ").removeprefix("a ") for text in (true, *false)]
                assert [name in numbers for name in bare] == [True] + [False] * len(false)
            elif contrast.kind == "count":
                counted = [text.split(" ", 1) for text in (true, *false)]
                values = [[word for word, _ in NUMBERS].index(number) for number, _ in counted]
                name = plurals.get(counted[0][1], counted[0][1])
                assert values[0] == numbers[name]
                assert all(abs(value - values[0]) == 1 for value in values[1:])
            else:
                words = RELATIONS if contrast.kind == "relation" else COMPARISONS
                relation = next(key for key, (en, _) in words.items() if f" {en} the " in true)
                first, second = true.removeprefix("the ").split(f" {words[relation][0]} the ")
                a, b = by_name[first], by_name[second]
                dx, dy = a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]
                holds = {
                    "left": dx < -abs(dy),
                    "right": dx > abs(dy),
                    "above": dy < -abs(dx),
                    "below": dy > abs(dx),
                    "larger": a.scale >= 1.5 * b.scale,
                    "smaller": b.scale >= 1.5 * a.scale,
                }
                assert holds[relation]
                assert false[1] == f"the {second} {words[relation][0]} the {first}"
                opposite = {"left": "right", "above": "below", "larger": "smaller"}
                opposite |= {value: key for key, value in opposite.items()}
                assert false[0] == f"the {first} {words[opposite[relation]][0]} the {second}"
    assert set(kinds) == {"name", "count", "relation", "comparison"}
    assert min(kinds.values()) > 20


@pytest.mark.parametrize("language", ["en", "zh"])
def test_records_carry_them_in_their_language(language: str) -> None:
    source = SceneSource(World(), CONFIG, 5, 2, (language,))
    scene, record = World().scene(5, CONFIG), source[0]
    assert record.contrasts == tuple(contrast.said(language) for contrast in scene.contrasts)
    for region, thing in zip(record.regions, scene.objects, strict=True):
        assert region.contrasts == tuple(contrast.said(language) for contrast in region_contrasts(thing))
    texts = [text for each in record.contrasts for text in each]
    assert all(text.isascii() == (language == "en") for text in texts)
