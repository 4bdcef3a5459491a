"""The embedded model's tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fgclip2.errors import Fgclip2Error
from fgclip2.train.tokenizer import SPECIAL, save_tokenizer, train_tokenizer

CORPUS = ["a small red cat to the left of a blue dog", "一只红色的猫在蓝色的狗的左边", "two badges", "两个徽章"] * 20
LENGTH = 24


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CORPUS, 420)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_round_trips(tokenizer, text):
    assume(not any(token in text for token in SPECIAL))  # "<unk>" in a text is that token, as in released tokenizers
    ids = tokenizer.encode(text).ids
    assert ids[-1] == tokenizer.token_to_id("<eos>")
    assert tokenizer.token_to_id("<unk>") not in ids
    assert tokenizer.decode(ids) == text


def test_tokenizer_learns_words_of_both_languages(tokenizer):
    assert tokenizer.get_vocab_size() == 420
    assert tokenizer.encode("a red cat").tokens == ["a", "▁red", "▁cat", "<eos>"]
    assert len(tokenizer.encode("红色的猫").ids) < 4 + 1  # fewer tokens than characters
    assert tokenizer.encode("龘").tokens == ["<0xE9>", "<0xBE>", "<0x98>", "<eos>"]


def test_transformers_reads_the_same_tokenizer(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(tokenizer, tmp_path, LENGTH)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("a red cat", "蓝色的狗 x"):
        assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    assert (loaded.pad_token_id, loaded.model_max_length) == (0, LENGTH)


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(Fgclip2Error, match="260 tokens are fixed"):
        train_tokenizer(CORPUS, 260)
