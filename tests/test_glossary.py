"""Tables of names: what translates what, in both languages."""

from __future__ import annotations

import pytest

from fgclip2.glossary import SETS, class_names, match_names, translations
from fgclip2.names import CJK


@pytest.mark.parametrize("data_set", SETS)
def test_names_are_distinct_and_in_two_scripts(data_set: str) -> None:
    english, chinese = class_names(data_set)
    assert len(english) == len(chinese) == len(set(english))
    assert all(name.isascii() for name in english)
    assert all(CJK.search(name) for name in chinese)


def test_words_of_public_sets_and_of_scenes() -> None:
    assert {"person", "people", "human"} == translations(["人"])
    assert "红绿灯" in translations(["Traffic_Light"])
    assert {"鼠标", "老鼠"} <= translations(["mouse"])
    assert translations(["红色汽车", "unicorn rider", ""]) == set()


def test_a_name_counts_before_a_synonym_and_a_synonym_before_a_translation() -> None:
    assert match_names([["sofa", "couch"], ["couch"]], ["couch", "sofa"]) == {0: 1, 1: 0}
    assert match_names([["人"], ["person"]], ["person"]) == {0: 1}
    assert match_names([["人"], ["猫", "feline"]], ["merperson", "PERSON", "Feline", "cat", "dog"]) == {
        1: 0,
        2: 1,
        3: 1,
    }
    assert match_names([], ["cat"]) == match_names([["cat"]], []) == {}
