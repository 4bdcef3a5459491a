"""What is said about scenes: true when it should be, false when it should be, and the same in both languages."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgclip2.data.openmoji import COLOURS, NEAR_KINDS, RANDOM_KINDS, Attributes, SceneConfig, World, truth
from fgclip2.data.openmoji import grammar as g
from fgclip2.data.openmoji.attributes import place_truth

MODES = ("mixed", "random", "near")
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 10**6)


def config(mode: str = "mixed", **changes) -> SceneConfig:
    return SceneConfig(size=96, negatives=mode, **changes)


def category(world: World, name: str):
    return next(c for c in world.categories if c.name_en == name)


def contradicts(said: Attributes, thing) -> bool:
    """An independent judge: does the phrase clearly say something that is not so?"""
    x, y = thing.centre
    if said.category != thing.category.id:
        return True
    if said.colour is not None:
        if said.colour == thing.colour:
            if said.style != thing.style:
                return True
        elif thing.style == "tint" or said.style == "badge" or said.colour not in thing.natural:
            return True
    if {said.size, thing.size} == {"small", "large"}:
        return True
    away = {"left": x >= 0.5, "right": x <= 0.5, "top": y >= 0.5, "bottom": y <= 0.5}
    away["centre"] = max(abs(x - 0.5), abs(y - 0.5)) >= 0.2
    return said.position is not None and away[said.position]


@pytest.mark.parametrize("mode", MODES)
@few
@given(seed=seeds)
def test_negatives_are_ten_distinct_and_false(world, mode, seed):
    for thing in world.scene(seed, config(mode)).objects:
        assert not contradicts(thing.attributes, thing)
        assert truth(thing.attributes, thing) is True
        for language in ("en", "zh"):
            texts = thing.negatives[language]
            assert len(texts) == len(set(texts)) == 10
            assert thing.phrases[language] not in texts
        for said in thing.negative_attributes:
            assert contradicts(said, thing)
            assert truth(said, thing) is False


@pytest.mark.parametrize("mode", MODES)
@few
@given(seed=seeds)
def test_languages_are_aligned(world, mode, seed):
    for thing in world.scene(seed, config(mode)).objects:
        forms = [
            form
            for form in range(g.FORMS)
            if g.phrase(thing.attributes, thing.category, form) == g.Text(thing.phrases["en"], thing.phrases["zh"])
        ]
        assert forms
        rendered = [
            [g.phrase(a, world.categories[a.category], form) for a in thing.negative_attributes] for form in forms
        ]
        assert [g.Text(e, z) for e, z in zip(thing.negatives["en"], thing.negatives["zh"], strict=True)] in rendered


@pytest.mark.parametrize(("mode", "allowed"), [("random", RANDOM_KINDS), ("near", NEAR_KINDS)])
@few
@given(seed=seeds)
def test_kinds_say_what_was_changed(world, mode, allowed, seed):
    for thing in world.scene(seed, config(mode)).objects:
        for kind, false in zip(thing.negative_kinds, thing.negative_attributes, strict=True):
            assert kind in allowed
            true = thing.attributes
            if kind.endswith("category"):
                assert false.category != true.category
            if kind == "near-category":
                assert world.categories[false.category].group == thing.category.group
            if kind == "near-colour":
                assert false.colour in COLOURS[true.colour].near
            if kind == "colour":
                assert false.colour not in COLOURS[true.colour].near
            if kind == "near-size":
                assert {false.size, true.size} == {"small", "large"}
            if kind == "near-position":
                assert {false.position, true.position} in ({"left", "right"}, {"top", "bottom"})
        labelled = thing.labelled_negatives("zh")
        assert [n.kind for n in labelled] == thing.negative_kinds
        assert [n.text for n in labelled] == thing.negatives["zh"]


def test_every_kind_occurs(world):
    found = Counter(k for seed in range(60) for o in world.scene(seed, config()).objects for k in o.negative_kinds)
    assert set(found) == {*RANDOM_KINDS, "near-category", "near-colour", "near-size", "near-position"}


def test_colours_lie_next_to_each_other_both_ways():
    near = {(a, b) for a, colour in enumerate(COLOURS) for b in colour.near}
    assert all(a != b for a, b in near)
    one_way = {(COLOURS[a].en, COLOURS[b].en) for a, b in near if (b, a) not in near}
    assert one_way == {("brown", "red")}


@pytest.mark.parametrize(
    ("said", "form", "en", "zh"),
    [
        (("badge", "blue", "small", None), 0, "a small cat on a blue badge", "蓝色徽章上的小的猫"),
        (("badge", "blue", "small", None), 1, "a blue badge with a small cat", "画着小的猫的蓝色徽章"),
        (("tint", "orange", None, None), 0, "an orange cat", "橙色的猫"),
        (("tint", "orange", "large", "top"), 1, "a large cat coloured orange at the top", "上方的涂成橙色的大的猫"),
        ((None, None, None, "centre"), 0, "a cat in the centre", "中间的猫"),
        ((None, None, None, None), 1, "a cat", "猫"),
    ],
)
def test_phrases(world, said, form, en, zh):
    style, colour, size, position = said
    index = next((k for k, c in enumerate(COLOURS) if c.en == colour), None)
    cat = category(world, "cat")
    assert g.phrase(Attributes(cat.id, style, index, size, position), cat, form) == g.Text(en, zh)


def test_counts_lists_relations(world):
    cat, grapes, bus = (category(world, name) for name in ("cat", "grapes", "bus"))
    assert g.counted(cat, 1) == g.Text("a cat", "一只猫")
    assert g.counted(bus, 3) == g.Text("three buses", "三辆公交车")
    assert g.counted(grapes, 1) == g.Text("grapes", "葡萄")
    assert g.numbered(Attributes(bus.id, "badge", 0), bus, 1) == g.Text(
        "one bus on a red badge", "红色徽章上的一辆公交车"
    )
    assert g.numbered(Attributes(bus.id, "tint", 3), bus, 1) == g.Text("one green bus", "一辆绿色的公交车")
    parts = [g.Text("a", "甲"), g.Text("b", "乙"), g.Text("c", "丙")]
    assert g.listed(parts) == g.Text("a, b and c", "甲、乙和丙")
    assert g.listed(parts[:1]) == g.Text("a", "甲")
    assert g.related(*[g.Text("a cat", "猫"), "left", g.Text("a bus", "公交车")]) == g.Text(
        "a cat to the left of a bus", "猫在公交车的左边"
    )
    assert g.compared(g.Text("cat", "猫"), "larger", g.Text("bus", "公交车")) == g.Text(
        "the cat larger than the bus", "猫比公交车大"
    )
    assert g.grid_place(0.1, 0.9) == ("in the bottom left", "左下角")


@pytest.mark.parametrize(
    ("position", "point", "expected"),
    [
        ("left", (0.2, 0.5), True),
        ("left", (0.45, 0.5), None),
        ("left", (0.6, 0.5), False),
        ("bottom", (0.5, 0.9), True),
        ("centre", (0.5, 0.55), True),
        ("centre", (0.5, 0.66), None),
        ("centre", (0.9, 0.5), False),
    ],
)
def test_places_have_a_doubtful_zone(position, point, expected):
    assert place_truth(position, *point) is expected


def test_phrases_true_of_another_object_are_found(world):
    shared = 0
    for seed in range(40):
        scene = world.scene(seed, config(repeat=1.0))
        for thing in scene.objects:
            verdicts = scene.true_of(thing.attributes)
            assert verdicts[thing.index] is True
            shared += sum(v is not False for v in verdicts) - 1
            for other, verdict in zip(scene.objects, verdicts, strict=True):
                assert (verdict is False) == contradicts(thing.attributes, other)
    assert shared > 20


def test_a_tint_in_the_colour_a_thing_has_by_nature_is_doubtful(world):
    tomato = category(world, "tomato")
    scene = world.scene(0, SceneConfig(size=64, objects=(1, 1), styles=(1, 0, 0), category_ids=(tomato.id,)))
    red = next(k for k, c in enumerate(COLOURS) if c.en == "red")
    blue = next(k for k, c in enumerate(COLOURS) if c.en == "blue")
    assert scene.true_of(Attributes(tomato.id, "tint", red)) == [None]
    assert scene.true_of(Attributes(tomato.id, "tint", blue)) == [False]
    assert scene.true_of(Attributes(tomato.id, "badge", red)) == [False]


@few
@given(seed=seeds)
def test_short_captions_are_four_in_both_languages(world, seed):
    scene = world.scene(seed, config())
    assert len(scene.short["en"]) == len(scene.short["zh"]) == 4
    counts = Counter(thing.category for thing in scene.objects)
    for name, text in (("en", scene.short["en"]), ("zh", scene.short["zh"])):
        assert all(text), name
    en, zh = scene.short["en"][1], scene.short["zh"][1]
    if len(counts) <= 6:
        for found, number in counts.items():
            part = g.counted(found, number)
            assert part.en in en
            assert part.zh in zh
    number = len(scene.objects)
    assert scene.short["en"][3].startswith(f"{g.NUMBERS[number][0]} objects on a ")
    assert f"有{g.NUMBERS[number][1]}个物体" in scene.short["zh"][3]


@few
@given(seed=seeds, most=st.integers(1, 8))
def test_long_captions_are_long_and_mention_everything(world, seed, most):
    scene = world.scene(seed, config(objects=(1, most)))
    en, zh = scene.long["en"], scene.long["zh"]
    assert len(en.split()) >= 60
    assert len(zh) >= 100
    assert len(en.split()) <= 140
    for thing in scene.objects:
        assert thing.category.name_en in en.lower()
        assert thing.category.name_zh in zh
    assert not re.search(r"[A-Za-z]", zh)


@pytest.mark.parametrize("mode", MODES)
@few
@given(seed=seeds)
def test_hard_captions_have_ten_false_ones(world, mode, seed):
    hard = world.scene(seed, config(mode, repeat=0.6)).hard_caption
    assert len(hard.kinds) == 10
    for language in ("en", "zh"):
        assert len({hard.text[language], *hard.negatives[language]}) == 11
    assert all(kind in NEAR_KINDS for kind in hard.kinds) or mode != "near"
    assert all(kind in RANDOM_KINDS for kind in hard.kinds) or mode != "random"


@few
@given(seed=seeds)
def test_counts_in_hard_captions_are_right_and_wrong_where_they_say_so(world, seed):
    scene = world.scene(seed, config("near", repeat=1.0))
    counts = Counter(thing.category for thing in scene.objects)

    def claims(text: str) -> list[bool]:
        """For every `NUMBER NAME` of the list: is it the number of such things?"""
        out = []
        for found, number in counts.items():
            for k in range(2, 10):
                if found.countable and re.search(rf"\b{g.NUMBERS[k][0]} {re.escape(found.plural_en)}\b", text):
                    out.append(k == number)
        for found, number in counts.items():
            if re.search(rf"\bone ([a-z]+ )?{re.escape(found.name_en)}( on|,| and|$)", text):
                out.append(number == 1)
        return out

    assert all(claims(scene.hard_caption.text["en"]))
    for kind, text in zip(scene.hard_caption.kinds, scene.hard_caption.negatives["en"], strict=True):
        if kind == "near-count":
            assert not all(claims(text))


def test_hard_captions_cover_the_near_kinds(world):
    found = Counter(k for seed in range(60) for k in world.scene(seed, config("near", repeat=0.6)).hard_caption.kinds)
    assert set(found) == {"near-category", "near-colour", "near-count", "near-relation", "near-size"}
    for seed in range(60):
        world.scene(seed, config("near", objects=(1, 1)))  # one object has enough false captions, too


def test_relations_in_captions_hold(world):
    checked = 0
    for seed in range(80):
        scene = world.scene(seed, config(repeat=0.0))
        match = re.search(
            r", the (.+) (to the left of|to the right of|above|below) the (.+)$", scene.hard_caption.text["en"]
        )
        if not match:
            continue
        first, relation, second = match.groups()
        a, b = (next(o for o in scene.objects if o.category.name_en == name) for name in (first, second))
        (ax, ay), (bx, by) = a.centre, b.centre
        holds = {"to the left of": ax < bx, "to the right of": ax > bx, "above": ay < by, "below": ay > by}
        assert holds[relation]
        checked += 1
    assert checked > 15
