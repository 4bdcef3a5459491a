"""Which of two classes, one named in Chinese and one in another script, are one class in two languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from fgclip2.names import CJK, spoken

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2
    from fgclip2.vocabulary import Templates, Vocabulary

ANCHORS: Final = (
    *(("dog", "狗"), ("cat", "猫"), ("horse", "马"), ("elephant", "大象"), ("bear", "熊"), ("rabbit", "兔子")),
    *(("fish", "鱼"), ("butterfly", "蝴蝶"), ("bus", "公交车"), ("bicycle", "自行车"), ("airplane", "飞机")),
    *(("apple", "苹果"), ("banana", "香蕉"), ("bread", "面包"), ("pizza", "披萨"), ("umbrella", "雨伞")),
    *(("chair", "椅子"), ("bed", "床"), ("book", "书"), ("key", "钥匙"), ("guitar", "吉他"), ("tree", "树")),
    *(("house", "房子"), ("scissors", "剪刀")),
)
"""Everyday words and their translations, whose cosines say how near translations lie in a model."""

COLOURS: Final = (
    *(("red", "红"), ("orange", "橙"), ("yellow", "黄"), ("green", "绿"), ("cyan", "青"), ("blue", "蓝")),
    *(("purple", "紫"), ("pink", "粉"), ("brown", "棕"), ("black", "黑"), ("white", "白"), ("grey", "灰")),
    *(("gray", "灰"), ("golden", "金"), ("silver", "银")),
)
"""Colours as names begin with them; in Chinese "色" may follow."""

_FAR: Final = 3.0  # standard deviations below the anchors' median
_CLEAR: Final = 0.4  # standard deviations


def are_translations(
    model: FGCLIP2, wanted: Vocabulary, known: Vocabulary, pairs: Sequence[tuple[int, int]]
) -> list[bool]:
    """Which pairs of near classes mean the same, and are not a class and a kind of it.

    They are as near to each other as translations are in this model, see `ANCHORS`. And no end of either name is
    nearer to the other class than the whole name: the head of a name stands last in both languages, so where "汽车" is
    nearer to "car" than "红色汽车" is, the latter is a kind of car. One character hardly moves a text, so of a name
    that begins with a colour while the other does not ("红汽车", "car") the ends must even be clearly farther: those of
    "红薯" are from "sweet potato".

    Args:
        model: what made the embeddings.
        wanted: classes.
        known: classes, embedded with the same prompts.
        pairs: indices into ``wanted`` and ``known``.
    """
    if not pairs:
        return []
    ends = {name: _ends(name) for w, k in pairs for name in (wanted.names[w], known.names[k])}
    words = dict.fromkeys(word for group in (*ANCHORS, *ends.values()) for word in group)
    rows = _embedded(model, list(words), wanted.templates)
    near = torch.stack([rows[one] @ rows[other] for one, other in ANCHORS])
    spread = 1.4826 * (near - near.median()).abs().median()  # a standard deviation, whatever words it does not know
    lowest, clear = float(near.median() - _FAR * spread), float(_CLEAR * spread)

    def same(w: int, k: int) -> bool:
        names = wanted.names[w], known.names[k]
        one, other = (item.embeddings[index].cpu().float() for item, index in ((wanted, w), (known, k)))
        cosine = float(one @ other)
        coloured = [_begins_with_colour(name) for name in names]
        return cosine >= lowest and all(
            float(rows[end] @ row) <= cosine - (clear if own and not all(coloured) else 0.0)
            for name, row, own in zip(names, (other, one), coloured, strict=True)
            for end in ends[name]
        )

    return [same(w, k) for w, k in pairs]


def _ends(name: str) -> list[str]:
    """What is left of a name without its first words, or its first Chinese characters."""
    name = spoken(name).strip()
    if CJK.search(name):
        ends = [name[start:].strip() for start in range(1, len(name))]
    else:
        words = name.split()
        ends = [" ".join(words[start:]) for start in range(1, len(words))]
    return [end for end in ends if end]


def _begins_with_colour(name: str) -> bool:
    name = spoken(name).strip().lower()
    return any(name.startswith((f"{english} ", chinese)) for english, chinese in COLOURS)


def _embedded(model: FGCLIP2, words: Sequence[str], templates: Templates) -> dict[str, Tensor]:
    from fgclip2.names import said
    from fgclip2.vocabulary import Vocabulary

    distinct = {said(word): word for word in words}
    vocabulary = Vocabulary.build(model, list(distinct.values()), templates)
    rows = dict(zip(distinct, vocabulary.embeddings.cpu().float(), strict=True))
    return {word: rows[said(word)] for word in words}
