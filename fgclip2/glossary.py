"""Glossary: class names of public data sets in English and Chinese, and which of them translate each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import resources
from typing import Final

from fgclip2.names import said

Names = tuple[tuple[str, ...], tuple[str, ...]]
"""English and Chinese names in class order, equally many."""

SETS: Final = ("coco_stuff", "ade150", "pc59", "voc20")
"""The tables below ``assets/class_names``; COCO's 80 things are the first 80 of ``coco_stuff``."""

_MORE: Final = """
person=人物; people=人; human=人; automobile=汽车; motorbike=摩托车; bike=自行车; bus=巴士; bus=公共汽车
plane=飞机; aeroplane=飞机; mobile phone=手机; television=电视; tv=电视机; cat=猫咪; cow=奶牛; rabbit=兔子; hat=帽子
doughnut=甜甜圈; hair dryer=吹风机; fridge=冰箱; desk=书桌; traffic light=交通灯; traffic light=信号灯
stop sign=停止标志; potted plant=盆栽植物; laptop=笔记本; computer=计算机; truck=货车; backpack=双肩包; handbag=手袋
football=足球; soccer ball=足球; cup=杯; bowl=饭碗; boat=小船; ship=船; bag=袋子; bicycle=单车; refrigerator=电冰箱
"""
"""Everyday words that the data sets do not name, or that have a second common translation."""


def read_table(table: str) -> Names:
    """English and Chinese names of entries like ``cat=猫``, which semicolons or line ends part."""
    pairs = [entry.strip().split("=") for entry in table.replace("\n", ";").split(";") if entry.strip()]
    return tuple(en for en, _ in pairs), tuple(zh for _, zh in pairs)


@lru_cache
def class_names(data_set: str) -> Names:
    """English and Chinese class names of a data set, in label order.

    Args:
        data_set: one of `SETS`.

    Example:
        >>> english, chinese = class_names("coco_stuff")
        >>> english[0], chinese[0]
        ('person', '人')
    """
    file = resources.files("fgclip2") / "assets" / "class_names" / f"{data_set}.txt"
    return read_table(file.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _glossary() -> dict[str, frozenset[str]]:
    from fgclip2.data.openmoji.catalogue import catalogue

    scenes = [(item.name_en, item.name_zh) for item in catalogue()]
    sets = [pair for data_set in SETS for pair in zip(*class_names(data_set), strict=True)]
    found: dict[str, set[str]] = {}
    for english, chinese in (*sets, *zip(*read_table(_MORE), strict=True), *scenes):
        for one, other in ((english, chinese), (chinese, english)):
            found.setdefault(said(one), set()).add(said(other))
    return {word: frozenset(others) for word, others in found.items()}


def translations(words: Iterable[str]) -> set[str]:
    """What words are called in the other language, as the tables have them; words that no table has add nothing.

    Args:
        words: English or Chinese names; case, underscores for blanks and outer blanks do not count.

    Returns:
        Normalized names: lower case, blanks for underscores.

    Example:
        >>> sorted(translations(["人"]))
        ['human', 'people', 'person']
    """
    glossary = _glossary()
    return {other for word in words for other in glossary.get(said(word), ())}


def match_names(wanted: Sequence[Sequence[str]], known: Sequence[str]) -> dict[int, int]:
    """Which known classes mean one of the wanted ones, by their words alone.

    A wanted class's own name is looked for first, then its synonyms, then what the tables translate. Case and
    underscores for blanks do not count.

    Args:
        wanted: for each class its name and then its synonyms.
        known: one name a class.

    Returns:
        Index into ``known`` -> index into ``wanted``.

    Example:
        >>> match_names([["人"], ["couch", "沙发"]], ["merperson", "Person", "sofa", "cat"])
        {1: 0, 2: 1}
    """
    meant: dict[str, int] = {}
    words = [[said(word) for word in own] for own in wanted]
    for own_words in ((own[:1] for own in words), (own[1:] for own in words), map(translations, words)):
        for index, own in enumerate(own_words):
            for word in own:
                meant.setdefault(word, index)
    return {index: meant[said(name)] for index, name in enumerate(known) if said(name) in meant}
