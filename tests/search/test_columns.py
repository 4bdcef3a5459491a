"""Columns: their types are settled before anything is embedded, and what cannot be stored is left out and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgclip2.search.columns import settle
from fgclip2.search.entries import Entry, Value
from fgclip2.search.sources import Source
from fgclip2.search.store import Store
from fgclip2.search.tables import joined, make_table
from tests.search.synthetic import entry

EMPTY = joined([], Path("store"))


def sources(*extras: Mapping[str, Any]) -> list[Source]:
    return [Source(f"{number}.png", extra) for number, extra in enumerate(extras)]


def kept(settled: Sequence[Source]) -> list[dict[str, Value]]:
    return [dict(source.extra) for source in settled]


@pytest.mark.parametrize(
    ("values", "expected", "told"),
    [
        ([1, "a", 2], [1, None, 2], "it takes numbers; left out 1 values, the first 'a' of '1.png'"),
        (["a", 1, 2.5], ["a", None, None], "it takes texts; left out 2 values"),
        ([True, 1, False], [True, None, False], "it takes truth values; left out 1"),
        ([1, 2**63, -(2**63)], [1, None, -(2**63)], "integers of 64 bits; left out 1"),
        ([1, 2.5, 2**60], [1, 2.5, None], "it has fractions"),
        (["a", "\ud800"], ["a", None], "texts that are UTF-8"),
        ([10**400, "a"], [None, "a"], "integers of 64 bits"),
        ([float("inf"), 1], [float("inf"), 1], ""),
    ],
)
def test_what_does_not_fit_is_left_out(values: list[Any], expected: list[Any], told: str) -> None:
    settled, notes = settle(sources(*({"x": value} for value in values)), EMPTY)
    assert [extra.get("x") for extra in kept(settled)] == expected
    assert told in "".join(notes)
    assert bool(notes) == bool(told)
    make_table(kept(settled))


def test_a_column_keeps_the_type_of_the_store(make_store: Callable[[Sequence[Sequence[Entry]]], Store]) -> None:
    store = make_store([[entry("a", 1, stars=3, large=2**60, share=0.5, split="train", night=True)]])
    given_ = {"stars": "many", "large": 0.5, "share": 2**60, "split": 7, "night": 1, "new": 2.5}
    settled, notes = settle(sources(given_, {"stars": 1.5, "large": 7}), store.metadata)
    assert kept(settled) == [{"new": 2.5}, {"stars": 1.5, "large": 7}]
    assert len(notes) == 5
    store.append([entry("b", 2, **settled[0].extra), entry("c", 3, **settled[1].extra)])
    assert store.metadata["stars"].to_pylist() == [3, None, 1.5]


def test_names_of_columns_are_text() -> None:
    settled, notes = settle(sources({"\udcff": 1, "": 2, "来源": "网"}), EMPTY)
    assert kept(settled) == [{"": 2, "来源": "网"}]
    assert "its name is no UTF-8; left out 1 values, the first 1 of '0.png'" in notes[0]
    notes[0].encode()


VALUES = st.one_of(st.text(max_size=3), st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2),
                   st.integers(), st.integers(2**52, 2**54), st.floats(allow_nan=False), st.booleans())  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    first=st.lists(st.dictionaries(st.sampled_from(["x", "y", "\ud800"]), VALUES), min_size=1, max_size=4),
    second=st.lists(st.dictionaries(st.sampled_from(["x", "y"]), VALUES), min_size=1, max_size=4),
)
def test_whatever_a_list_says_can_be_stored(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """In this run and after another, and what fits comes back as it was."""
    here = EMPTY.schema.empty_table().drop(EMPTY.column_names)
    for extras in (first, second):
        settled, _ = settle(sources(*extras), here)
        rows = [{"name": "a", **source.extra} for source in settled]
        here = joined([here, make_table(rows)], Path("store"))
        for row, stored in zip(rows, here.slice(here.num_rows - len(rows)).to_pylist(), strict=True):
            assert {key: value for key, value in stored.items() if value is not None} == row
