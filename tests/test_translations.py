"""Translations, and kinds of a class that are none, measured on the embedded world's bilingual names."""

from __future__ import annotations

import pytest

import fgclip2
from fgclip2 import FGCLIP2, FusionConfig, FusionRescorer, Vocabulary
from fgclip2.data.category_ids import category_ids
from fgclip2.data.coco import CocoCategory
from fgclip2.data.openmoji import World
from fgclip2.data.openmoji.attributes import COLOURS
from fgclip2.translations import ANCHORS, are_translations
from fgclip2.vocabulary import matches, same_classes


@pytest.fixture(scope="module")
def embedded() -> FGCLIP2:
    """The trained model: the other tests' one has random weights, and nothing to say about words."""
    return fgclip2.load("tiny", device="cpu", dtype="float32")


def test_the_embedded_worlds_names_find_their_translations(embedded: FGCLIP2) -> None:
    """Every sixth, among all. Of all 864, 93 % of the Chinese and 90 % of the English ones are found, none wrongly.
    Where most translations are not asked for, as here, a near word may stand in for one: one in 144 does.

    By rank alone it was 97 % and 93 %; the rest is what it costs that "红色汽车" is no car. 85 %: the sample is small.
    """
    categories = World().categories
    english, chinese = [item.name_en for item in categories], [item.name_zh for item in categories]
    for known, wanted in ((english, chinese), (chinese, english)):
        asked = wanted[::6]
        found = matches(Vocabulary.build(embedded, asked), Vocabulary.build(embedded, known), embedded, guess=True)
        right = sum(index == 6 * column for index, column in found.items())
        assert right >= 0.85 * len(asked)
        assert len(found) - right <= 1


def test_a_kind_of_a_class_is_not_its_translation(embedded: FGCLIP2) -> None:
    """The phrases of the table in both directions, and words for kinds that do not contain the class's name."""
    english = Vocabulary.build(embedded, ["car", "dog", "cat", "apple", "umbrella", "bus"])
    for name in ("红色汽车", "红苹果", "青苹果", "红色的苹果", "出租车", "警车", "黑色的狗", "蓝色雨伞", "校车"):
        assert same_classes(Vocabulary.build(embedded, [name]), english, embedded, guess=True) == set(), name
    chinese = Vocabulary.build(embedded, ["汽车", "狗", "猫", "苹果", "雨伞", "公交车"])
    for name in ("red car", "red apple", "green apple", "taxi", "blue umbrella", "black dog"):
        assert same_classes(Vocabulary.build(embedded, [name]), chinese, embedded, guess=True) == set(), name
    for known, wanted in ((english, chinese), (chinese, english)):
        assert matches(wanted, known, embedded, guess=True) == {index: index for index in range(6)}


@pytest.mark.parametrize(
    ("among", "form"), [("zh", "{en} {name}"), ("en", "{zh}{name}"), ("en", "{bare}{name}"), ("en", "{zh}的{name}")]
)
def test_colours_before_names(embedded: FGCLIP2, among: str, form: str) -> None:
    """Of a phrase "red X" and X in the other language next to none of 216 are translations.

    Of all 864, in four colours each, 0.7 % are with one character before the name.
    """
    categories = World().categories[::4]
    names = {language: [getattr(item, f"name_{language}") for item in categories] for language in ("en", "zh")}
    other = "zh" if among == "en" else "en"
    phrases = [
        form.format(en=colour.en, zh=colour.zh, bare=colour.zh[0], name=name)
        for colour, name in zip(COLOURS * len(categories), names[other], strict=False)
    ]
    wanted, known = Vocabulary.build(embedded, phrases), Vocabulary.build(embedded, names[among])
    found = are_translations(embedded, wanted, known, [(n, n) for n in range(len(categories))])
    assert sum(found) <= 0.02 * len(found)


@pytest.mark.parametrize(
    ("chinese", "english"),
    [("红薯", "sweet potato"), ("红毛猩猩", "orangutan"), ("白大褂", "lab coat")],
)
def test_names_that_begin_with_a_colour_have_translations(embedded: FGCLIP2, chinese: str, english: str) -> None:
    one, other = Vocabulary.build(embedded, [chinese]), Vocabulary.build(embedded, [english])
    assert are_translations(embedded, one, other, [(0, 0)]) == [True]
    assert are_translations(embedded, other, one, [(0, 0)]) == [True]


def test_only_tables_translate_unless_a_guess_is_asked_for(embedded: FGCLIP2) -> None:
    """The toy model never saw a person: by embeddings "人" (a human) is its "merperson" (人鱼)."""
    wanted = Vocabulary.build(embedded, ["人", "狗", "红色汽车"])
    known = Vocabulary.build(embedded, ["merperson", "fox", "dog", "car"])
    assert matches(wanted, known, embedded) == matches(wanted, known) == {2: 1}
    assert matches(wanted, known, embedded, guess=True)[0] == 0  # so the default is worth something
    rivals = ["merperson", "dog", "car"]
    assert FusionRescorer(embedded, ["人", "狗"], contrast=rivals).contrast == ("merperson", "car")
    guessing = FusionRescorer(embedded, ["人", "狗"], FusionConfig(guess_translations=True), contrast=rivals)
    assert guessing.left_out == ("merperson", "dog")
    categories = [CocoCategory(1, "merperson"), CocoCategory(2, "dog")]
    assert category_ids(wanted, categories).ids == {"狗": 2}
    assert category_ids(wanted, categories, embedded).ids == {"狗": 2, "人": 1}


def test_anchors_are_distinct_and_bilingual() -> None:
    words = [word for pair in ANCHORS for word in pair]
    assert len(set(words)) == len(words)
    assert all(english.isascii() and not chinese.isascii() for english, chinese in ANCHORS)
