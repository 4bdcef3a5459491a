"""Train a small bilingual tokenizer of the Gemma kind: BPE over ``▁``-words with byte fallback, ``<eos>`` appended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from fgclip2.errors import Fgclip2Error

SPECIAL: Final = ("<pad>", "<eos>", "<bos>", "<unk>")  # ids 0 to 3, as in the released vocabulary
_BYTES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Learn a byte-fallback BPE; every text in any script encodes without ``<unk>`` and decodes to itself.

    Args:
        texts: the corpus, already lower-cased like everything the text tower sees.
        vocabulary_size: tokens in all, of which 260 are the special ones and the bytes.

    Raises:
        Fgclip2Error: no room for merges beside the special tokens and bytes.
    """
    fixed = len(SPECIAL) + len(_BYTES)
    if vocabulary_size <= fixed:
        raise Fgclip2Error(f"a vocabulary of {vocabulary_size} has no room for words: {fixed} tokens are fixed")
    learner = Tokenizer(BPE(unk_token=SPECIAL[3]))
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    printable = [chr(code) for code in range(0x21, 0x7F)]
    learner.train_from_iterator(
        texts,
        BpeTrainer(
            vocab_size=vocabulary_size - len(_BYTES),
            special_tokens=list(SPECIAL),
            initial_alphabet=["▁", *printable],
            show_progress=False,
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    # The trainer knows no byte tokens: put them behind the special ones and shift what it learned.
    order = sorted(learned["vocab"], key=learned["vocab"].get)
    tokens = [*SPECIAL, *_BYTES, *(token for token in order if token not in SPECIAL)]
    tokenizer = Tokenizer(
        BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=[tuple(pair) for pair in learned["merges"]],
            unk_token=SPECIAL[3],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = learner.normalizer
    tokenizer.pre_tokenizer = learner.pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path, text_length: int) -> None:
    """Write ``tokenizer.json`` and the ``tokenizer_config.json`` that transformers' AutoTokenizer reads.

    Args:
        tokenizer: from :func:`train_tokenizer`.
        directory: the model's directory; made when it does not exist.
        text_length: tokens of a short text, written as ``model_max_length``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    pad, eos, bos, unk = SPECIAL
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "eos_token": eos,
        "bos_token": bos,
        "unk_token": unk,
        "add_bos_token": False,
        "add_eos_token": True,
        "model_max_length": text_length,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
