"""Batches are of one language, the same for any number of ranks, from any step on, and cover every record."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgclip2.data.records import LANGUAGES
from fgclip2.data.sampler import LanguageBatchSampler
from fgclip2.errors import Fgclip2Error


def listed(english: int, chinese: int, seed: int = 0) -> np.ndarray:
    languages = np.array([0] * english + [1] * chinese, np.uint8)
    return np.random.default_rng(seed).permutation(languages)


def global_batches(languages: np.ndarray, batch_size: int, world_size: int, **options) -> list[list[tuple[int, int]]]:
    """What all ranks together are given, step by step, put together in rank order."""
    accumulation = options.get("accumulation", 1)
    ranks = [
        list(LanguageBatchSampler(languages, batch_size, rank, world_size, **options)) for rank in range(world_size)
    ]
    parts = [list(chain(*micro)) for micro in zip(*ranks, strict=True)]
    return [list(chain(*parts[k : k + accumulation])) for k in range(0, len(parts), accumulation)]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_number_of_ranks_gives_the_same_batches_and_an_epoch_covers_all(data):
    english, chinese = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))
    languages = listed(english, chinese)
    world_size, accumulation = data.draw(st.sampled_from([1, 2, 3, 4])), data.draw(st.sampled_from([1, 2]))
    batch_size = world_size * accumulation * data.draw(st.integers(1, 3))
    drop_last, seed = data.draw(st.booleans()), data.draw(st.integers(0, 5))
    if not len(languages) or (drop_last and any(0 < n < batch_size for n in (english, chinese))):
        with pytest.raises(Fgclip2Error):
            LanguageBatchSampler(languages, batch_size, drop_last=drop_last)
        return
    options = {"seed": seed, "drop_last": drop_last}
    alone = global_batches(languages, batch_size, 1, **options)
    shared = global_batches(languages, batch_size, world_size, accumulation=accumulation, **options)
    assert [sorted(batch) for batch in shared] == [sorted(batch) for batch in alone]
    assert all(len({int(languages[index]) for _, index in batch}) == 1 for batch in alone)
    seen = [index for batch in alone for _, index in batch]
    assert len(seen) == len(set(seen))
    dropped = LanguageBatchSampler(languages, batch_size, drop_last=drop_last).dropped
    assert dropped == (english % batch_size + chinese % batch_size if drop_last else 0)
    assert len(seen) == len(languages) - dropped
    if drop_last:
        assert shared == alone  # also in their order, which decides the rows of the loss
        assert {len(batch) for batch in alone} == {batch_size}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.sampled_from([1, 2, 4]))
def test_from_any_step_on_the_batches_are_those_of_the_whole_run(start, world_size):
    languages = listed(21, 14)
    whole = global_batches(languages, 4, 1, seed=3, steps=31)
    assert global_batches(languages, 4, world_size, seed=3, start_step=start, steps=31) == whole[start:]


def test_every_epoch_and_every_seed_has_its_own_order():
    languages = listed(64, 64)
    sampler = LanguageBatchSampler(languages, 8, steps=32)
    assert sampler.steps_per_epoch == 16
    assert len(sampler) == 32
    batches = list(sampler)
    assert [epoch for batch in batches for epoch, _ in batch] == [0] * 128 + [1] * 128
    first, second = ([index for batch in part for _, index in batch] for part in (batches[:16], batches[16:]))
    assert sorted(first) == sorted(second) == list(range(128))
    assert first != second
    other = [index for batch in LanguageBatchSampler(languages, 8, seed=1) for _, index in batch]
    assert sorted(other) == list(range(128))
    assert other != first
    order = [sampler.global_batch(step)[0] for step in range(16)]
    assert sorted(order) == ["en"] * 8 + ["zh"] * 8
    assert order not in (["en"] * 8 + ["zh"] * 8, ["zh"] * 8 + ["en"] * 8)


def test_global_batch_names_the_language_and_the_ranks_get_consecutive_parts():
    languages = listed(10, 22)
    sampler = LanguageBatchSampler(languages, 4, rank=1, world_size=2)
    for step, mine in enumerate(sampler):
        language, records = sampler.global_batch(step)
        assert set(languages[records]) == {LANGUAGES.index(language)}
        assert mine == [(0, index) for index in records[2:].tolist()]


def test_kept_last_batches_are_shared_evenly_even_when_ranks_get_nothing():
    ranks = [list(LanguageBatchSampler(listed(9, 0), 8, rank, 4, drop_last=False)) for rank in range(4)]
    assert sorted(len(part) for part in (rank[k] for rank in ranks for k in range(2))) == [0, 0, 0, 1, 2, 2, 2, 2]


def test_data_of_one_language_is_fine():
    batches = list(LanguageBatchSampler(np.ones(6, np.uint8), 3))
    assert sorted(index for batch in batches for _, index in batch) == list(range(6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 6, "world_size": 4}, "take 4 or 8"),
        ({"batch_size": 2, "world_size": 2, "accumulation": 2}, "= 4 parts; take 4"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "counted from 0 to 1"),
        ({"batch_size": 0}, "each must be 1 or more"),
        ({"batch_size": 16}, "10 English records, fewer than one batch of 16"),
        ({"batch_size": 4, "start_step": 5, "steps": 4}, "0 <= start_step <= steps"),
        ({"batch_size": 4, "seed": -1}, "seed -1"),
    ],
)
def test_wrong_arguments_teach(arguments, message):
    with pytest.raises(Fgclip2Error, match=message):
        LanguageBatchSampler(listed(10, 20), **arguments)


def test_languages_must_be_known():
    with pytest.raises(Fgclip2Error, match="1 of 3 records have a language other than"):
        LanguageBatchSampler(np.array([0, 1, 2], np.uint8), 1)
    with pytest.raises(Fgclip2Error, match="no records"):
        LanguageBatchSampler(np.zeros(0, np.uint8), 1)
