"""Queries: their parts, their heads, and the vectors they become."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from fgclip2 import Query
from fgclip2.errors import Fgclip2Error
from fgclip2.search.conditions import parse_condition
from fgclip2.search.query import encode


def numpy(features: torch.Tensor) -> np.ndarray:
    return features.as_subclass(torch.Tensor).numpy()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a red car", ("a red car",)),
        ("骑自行车的人, red helmet", ("骑自行车的人", "red helmet")),
        ("黑猫，白狗、绿苹果；红汽车。", ("黑猫", "白狗", "绿苹果", "红汽车")),
        ("A dog. A cat! 3.5 metres?", ("A dog", "A cat", "3.5 metres")),
    ],
)
def test_a_text_is_split_in_both_languages(tiny: fgclip2.FGCLIP2, text: str, parts: tuple[str, ...]) -> None:
    encoded = encode(Query.of(text), tiny)
    assert encoded.labels == parts
    assert (encoded.kind, encoded.join) == ("short", "all")
    np.testing.assert_allclose(encoded.whole, numpy(tiny.text_features(text, kind="short")), atol=1e-6)
    np.testing.assert_allclose(encoded.parts, numpy(tiny.text_features(parts, kind="box")), atol=1e-6)


def test_quotes_numbers_and_the_option_keep_a_text_whole(tiny: fgclip2.FGCLIP2) -> None:
    quoted = encode(Query(('"red car, blue roof"', "1,000 people"), minus=('"Mt. Fuji, dawn"', "雪，山")), tiny)
    assert quoted.labels == ("red car, blue roof", "1,000 people")
    for kind, minus, found in (
        ("short", ["Mt. Fuji, dawn", "雪，山"], quoted.whole),
        ("box", ["Mt. Fuji, dawn", "雪", "山"], quoted.parts),
    ):
        plus = numpy(tiny.text_features(["red car, blue roof", "1,000 people"], kind=kind))
        taken = numpy(tiny.text_features(minus, kind=kind)).mean(0)
        np.testing.assert_allclose(found, plus - 0.5 * taken, atol=1e-6)
    assert encode(Query(("黑猫，白狗. a",), cut=False), tiny).labels == ("黑猫，白狗. a",)
    with pytest.raises(Fgclip2Error, match="every text must be a string with words in it"):
        Query((" ,。",), cut=False)


def test_fields_are_split_at_semicolons_and_lines() -> None:
    query = Query.parse(" a red car, left; 黑猫；\n白狗 \n", "red；blue, dark;")
    assert (query.texts, query.minus) == (("a red car, left", "黑猫", "白狗"), ("red", "blue, dark"))
    assert Query.parse("a dog").minus == ()
    with pytest.raises(Fgclip2Error, match="texts or a picture"):
        Query.parse(";；\n")


def test_long_texts_take_the_long_head(tiny: fgclip2.FGCLIP2) -> None:
    text = "一只黑猫在沙发上，两个绿苹果在红色的汽车上。" * 4
    assert tiny.processor.text.count(text) > tiny.processor.text.lengths["short"]
    encoded = encode(Query.of(text), tiny)
    assert (encoded.kind, encoded.join) == ("long", "mean")
    np.testing.assert_allclose(encoded.whole, numpy(tiny.text_features(text, kind="long")), atol=1e-6)
    assert len(encoded.parts) == 8
    scores = np.array([[0.0, 1, 5], [2, 2, 2]])
    assert encoded.joined(scores).tolist() == [2, 2]
    assert encode(Query.of("a"), tiny).joined(scores).tolist() == [0, 2]


def test_several_texts_and_texts_taken_away(tiny: fgclip2.FGCLIP2) -> None:
    query = Query(("a red car", "黑猫"), minus=("red", "沙发"), minus_weight=0.25)
    encoded = encode(query, tiny)
    assert query.label == "a red car + 黑猫 - red - 沙发"
    for kind, found in (("short", encoded.whole), ("box", encoded.parts)):
        plus = numpy(tiny.text_features(["a red car", "黑猫"], kind=kind))
        minus = numpy(tiny.text_features(["red", "沙发"], kind=kind)).mean(0)
        np.testing.assert_allclose(found, plus - 0.25 * minus, atol=1e-6)


def test_a_picture_and_a_region_of_it(tiny: fgclip2.FGCLIP2) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    whole = encode(Query(image=picture), tiny)
    np.testing.assert_allclose(whole.whole, numpy(tiny.image_features(picture)), atol=1e-5)
    np.testing.assert_allclose(whole.parts, numpy(tiny.region_features(picture, [[0, 0, 96, 64]])), atol=1e-5)
    region = encode(Query(image=picture, box=(16, 16, 48, 64)), tiny)
    assert region.whole.shape == (0, 64)
    assert region.region_weight == 1
    np.testing.assert_allclose(region.parts, numpy(tiny.region_features(picture, [[16, 16, 48, 64]])), atol=1e-5)
    for budget in (16, 256):
        coarse = encode(Query(image=picture, box=(16, 16, 48, 64)), tiny, budget)
        expected = numpy(tiny.region_features(picture, [[16, 16, 48, 64]], max_patches=budget))
        np.testing.assert_allclose(coarse.parts, expected, atol=1e-5)
    with pytest.raises(Fgclip2Error, match="leaves the picture"):
        encode(Query(image=picture, box=(0, 0, 500, 64)), tiny)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "texts or a picture"),
        ({"texts": ("a",), "image": "a.jpg"}, "texts or a picture"),
        ({"texts": ("a",), "box": (0, 0, 1, 1)}, "box but no picture"),
        ({"image": "a.jpg", "minus": ("a",)}, "only texts can be taken away"),
        ({"texts": (" ，, ",)}, "with words in it"),
        ({"texts": ("a", "")}, "with words in it"),
        ({"texts": ("a", "\udcff")}, "is no UTF-8"),
        ({"texts": "a red car"}, "are one string"),
        ({"texts": ("a,b。" * 17,)}, "34 parts"),
    ],
)
def test_queries_that_say_nothing_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(Fgclip2Error, match=message):
        Query(**fields)  # type: ignore[arg-type]


def test_a_very_long_text_is_served_or_refused(tiny: fgclip2.FGCLIP2) -> None:
    assert np.isfinite(encode(Query.of("红色的汽车" * 2000), tiny).parts).all()
    with pytest.raises(Fgclip2Error, match="at most 32"):
        Query.of("红色的汽车，" * 2000)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("width >= 640", ("width", ">=", "640")),
        ("width<640.5", ("width", "<", "640.5")),
        ("split == train", ("split", "=", "train")),
        ("来源 != '网络'", ("来源", "!=", "网络")),
        ("night=true", ("night", "=", "true")),
        ("zip = 00501", ("zip", "=", "00501")),
        ("taken < 2024-05", ("taken", "<", "2024-05")),
        ("split in train, 'val, 2'", ("split", "in", ("train", "val, 2"))),
        ("标签 not in (猫，狗)", ("标签", "not in", ("猫", "狗"))),
        ("caption contains a = b", ("caption contains a", "=", "b")),
        ('caption contains "a = b"', ("caption", "contains", "a = b")),
        ('"made in" = 中国', ("made in", "=", "中国")),
        ("tags has none", ("tags", "has none", None)),
        ("tags  HAS  any", ("tags", "has any", None)),
    ],
)
def test_conditions(text: str, condition: tuple[str, str, object]) -> None:
    assert parse_condition(text) == condition


@pytest.mark.parametrize("text", ["", "width", "= 640", "width >=", "a in", "a in ()", "x = = 3"])
def test_conditions_without_column_operator_or_value_are_refused(text: str) -> None:
    with pytest.raises(Fgclip2Error, match="is not understood"):
        parse_condition(text)
