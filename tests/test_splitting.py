"""Queries cut into phrases: at commas and sentences, never inside numbers, names, abbreviations and quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgclip2.splitting import split_phrases, split_texts, unquoted


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("1,000 people", ["1,000 people"]),
        ("Mt. Fuji at dawn", ["Mt. Fuji at dawn"]),
        ("U.S. flag", ["U.S. flag"]),
        ("flag of the U.S.", ["flag of the U.S."]),
        ('"red car, blue roof"', ["red car, blue roof"]),
        ('"red car, blue roof", dog', ["red car, blue roof", "dog"]),
        ("“红色汽车，蓝顶”、狗", ["红色汽车，蓝顶", "狗"]),
        ("「雪。山」；猫", ["雪。山", "猫"]),
        ("“红车，蓝顶”旁边的狗", ["“红车，蓝顶”旁边的狗"]),
        ("1,5 kg of flour, 2 eggs", ["1,5 kg of flour", "2 eggs"]),
        ("room 3, 4 people", ["room 3", "4 people"]),
        ("3.5 mm screw, No. 7 bus", ["3.5 mm screw", "No. 7 bus"]),
        ("no. A dog", ["no", "A dog"]),
        ("Dr. Who and St. Bernard", ["Dr. Who and St. Bernard"]),
        ("Washington D.C. at 10:30 a.m. in rain", ["Washington D.C. at 10:30 a.m. in rain"]),
        ("www.example.com, cat", ["www.example.com", "cat"]),
        ("１，０００人，狗", ["１，０００人", "狗"]),
        ("bow (weapon, toy), dog", ["bow (weapon, toy)", "dog"]),
        ("dog's bowl, cat's bed", ["dog's bowl", "cat's bed"]),
        ("a dog. It sleeps. Two cats!", ["a dog", "It sleeps", "Two cats"]),
        ("骑自行车的人，红色头盔。蓝天！", ["骑自行车的人", "红色头盔", "蓝天"]),
        ("a red car, left; 黑猫", ["a red car", "left", "黑猫"]),
        ('a dog\nred, "never closed', ["a dog", "red", '"never closed']),
        (", 。 ;", []),
    ],
)
def test_what_is_cut_and_what_is_not(text: str, phrases: list[str]) -> None:
    assert split_phrases(text) == phrases


def test_fields_are_cut_at_semicolons_and_lines_outside_quotes() -> None:
    assert split_texts(' a red car, left; "a; b"；\n白狗 \n') == ["a red car, left", '"a; b"', "白狗"]
    assert [unquoted(text) for text in ('"a; b"', "“猫”", '""', "it's")] == ["a; b", "猫", '""', "it's"]


@given(st.text(st.sampled_from('ab,.;"“”「」()（）1０0 \n猫。!?'), max_size=30))
def test_every_phrase_stands_in_the_text(text: str) -> None:
    """Nothing is added or put in another order; what is cut away is separators, quotes and blanks."""
    place = 0
    for phrase in split_phrases(text):
        place = text.index(phrase, place) + len(phrase)
        assert phrase == phrase.strip()
        assert phrase
