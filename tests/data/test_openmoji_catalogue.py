"""The catalogue: which things there are, their names in two languages, and the fixed parts of the world."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise

import pytest

from fgclip2.data.openmoji import COLOURS, World, WorldConfig
from fgclip2.data.openmoji.catalogue import article, catalogue, glyph_code, pluralize
from fgclip2.data.openmoji.glyphs import GlyphStore
from fgclip2.errors import Fgclip2Error

COUNT = 864
DIGEST = "9f6243414c487adabab42c6560d568ff7d4810e3552e28a2e841f6dfbe7999ee"


def by_name(name: str):
    return next(category for category in catalogue() if category.name_en == name)


def test_the_list_is_pinned():
    rows = [[c.id, c.code, c.name_en, c.name_zh] for c in catalogue()]
    assert len(rows) == COUNT
    assert hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest() == DIGEST


def test_ids_follow_the_code_points():
    assert [c.id for c in catalogue()] == list(range(COUNT))
    keys = [[int(part, 16) for part in c.code.split("-")] for c in catalogue()]
    assert keys == sorted(keys)


@pytest.mark.parametrize("attribute", ["name_en", "name_zh", "code"])
def test_nothing_is_there_twice(attribute):
    values = [getattr(category, attribute) for category in catalogue()]
    assert len(set(values)) == len(values)


def test_names_are_plain_words_without_attributes():
    said = {"black", "white", "grey", "gray", "small", "large", "big", "left", "right"} | {c.en for c in COLOURS}
    for category in catalogue():
        assert re.fullmatch(r"[a-z0-9' .-]+", category.name_en), category
        assert not said & set(category.name_en.split()), category
        assert re.fullmatch(r"[\u4e00-\u9fff]+", category.name_zh), category
        assert not any(colour.zh in category.name_zh for colour in COLOURS), category


def test_every_group_can_give_ten_near_swaps():
    groups = {}
    for category in catalogue():
        groups.setdefault(category.group, []).append(category)
    assert min(len(members) for members in groups.values()) >= 11


def test_no_flag_skin_tone_keycap_or_letter():
    for category in catalogue():
        for point in (int(part, 16) for part in category.code.split("-")):
            assert not 0x1F1E6 <= point <= 0x1F1FF
            assert not 0x1F3FB <= point <= 0x1F3FF
            assert not 0x1F100 <= point <= 0x1F2FF
            assert point != 0x20E3


def test_every_glyph_is_a_known_emoji_with_a_picture(world):
    emoji = pytest.importorskip("emoji")
    known = {glyph_code(glyph) for glyph in emoji.EMOJI_DATA}
    for category in catalogue():
        assert category.code in known, category
        assert world.glyphs.path(category.code).is_file()


@pytest.mark.parametrize(
    ("code", "en", "zh", "group"),
    [
        ("1F408", "cat", "猫", "animal-mammal"),
        ("1F68C", "bus", "公交车", "vehicle-road"),
        ("1F43B-200D-2744", "polar bear", "北极熊", "animal-mammal"),
        ("1F3BB", "violin", "小提琴", "music"),
        ("1F327", "rain cloud", "雨云", "time-weather"),
    ],
)
def test_some_names(code, en, zh, group):
    category = by_name(en)
    assert (category.code, category.name_zh, category.group) == (code, zh, group)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("mouse", "mice"),
        ("bus", "buses"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("kitchen knife", "kitchen knives"),
        ("nest with eggs", "nests with eggs"),
        ("person getting haircut", "people getting haircut"),
        ("glass of milk", "glasses of milk"),
        ("walking person", "walking people"),
        ("sheep", "sheep"),
    ],
)
def test_plurals(one, many):
    assert pluralize(one) == many


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cat", "a "),
        ("owl", "an "),
        ("unicorn", "a "),
        ("x-ray picture", "an "),
        ("umbrella", "an "),
        ("orange cat", "an "),
    ],
)
def test_articles(words, expected):
    assert article(words) == expected


def test_names_without_number_take_no_article():
    assert by_name("grapes").article == ""
    assert by_name("grapes").plural_en == "grapes"
    assert by_name("owl").article == "an "


@pytest.mark.parametrize(
    ("name", "colour"), [("tomato", "red"), ("tangerine", "orange"), ("grinning face", "yellow"), ("pig", "pink")]
)
def test_colours_by_nature(world, name, colour):
    assert colour in {COLOURS[k].en for k in world.glyphs.glyph(by_name(name)).colours}


def test_grey_things_have_no_named_colour(world):
    assert world.glyphs.glyph(by_name("elephant")).colours == frozenset()


def test_glyph_levels_halve_and_have_a_clear_border(world):
    levels = world.glyphs.glyph(by_name("cat")).levels
    sides = [level.side for level in levels]
    assert len(sides) == 4
    assert sides[0] <= 160
    for large, small in pairwise(sides):
        assert small == large // 2
    for level in levels:
        edge = level.straight[..., 3].copy()
        edge[1:-1, 1:-1] = 0
        assert edge.max() == 0
        assert (level.premultiplied[..., :3] <= level.premultiplied[..., 3:]).all()


def test_store_keeps_at_most_its_capacity():
    store = GlyphStore(capacity=2)
    first = store.glyph(catalogue()[0])
    assert store.glyph(catalogue()[0]) is first
    for category in catalogue()[1:3]:
        store.glyph(category)
    assert store.glyph(catalogue()[0]) is not first


def test_missing_glyph_says_what_to_do(world):
    with pytest.raises(Fgclip2Error, match=r"no picture ABCD\.svg.*constraints\.txt"):
        world.glyphs.path("ABCD")


def test_split_is_a_partition_fixed_by_seed(world):
    base, novel = world.split(0.25, seed=0)
    assert (len(base), len(novel)) == (648, 216)
    assert sorted(base + novel) == list(range(COUNT))
    assert world.split(0.25, seed=0) == (base, novel)
    assert world.split(0.25, seed=1)[1] != novel
    assert world.split(0.0)[1] == []
    with pytest.raises(Fgclip2Error, match="between 0 and 1"):
        world.split(1.5)


def test_withheld_pairs_are_a_tenth_and_fixed(world):
    assert len(world.withheld) == round(0.1 * COUNT * len(COLOURS)) == 778
    assert World().withheld == world.withheld
    assert World(WorldConfig(seed=1)).withheld != world.withheld
    assert World(WorldConfig(withheld_fraction=0.0)).withheld == frozenset()
