"""One grammar, two languages: everything said about a scene is built from the same parts in English and in Chinese."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fgclip2.data.openmoji.attributes import COLOURS, Attributes
from fgclip2.data.openmoji.catalogue import Category, article

PLACES: dict[str, tuple[str, str]] = {
    "left": ("on the left", "左边"),
    "right": ("on the right", "右边"),
    "top": ("at the top", "上方"),
    "bottom": ("at the bottom", "下方"),
    "centre": ("in the centre", "中间"),
}
SIZE_WORDS: dict[str, tuple[str, str]] = {"small": ("small", "小的"), "large": ("large", "大的")}
RELATIONS: dict[str, tuple[str, str]] = {
    "left": ("to the left of", "左边"),
    "right": ("to the right of", "右边"),
    "above": ("above", "上面"),
    "below": ("below", "下面"),
}
COMPARISONS: dict[str, tuple[str, str]] = {"larger": ("larger than", "大"), "smaller": ("smaller than", "小")}
OPPOSITE_RELATION: dict[str, str] = {
    "left": "right", "right": "left", "above": "below", "below": "above", "larger": "smaller", "smaller": "larger",
}  # fmt: skip
NUMBERS: tuple[tuple[str, str], ...] = (
    ("no", "零"), ("one", "一"), ("two", "两"), ("three", "三"), ("four", "四"), ("five", "五"), ("six", "六"),
    ("seven", "七"), ("eight", "八"), ("nine", "九"), ("ten", "十"), ("eleven", "十一"), ("twelve", "十二"),
)  # fmt: skip
FORMS = 2


@dataclass(frozen=True, slots=True)
class Text:
    """The same sentence in both languages."""

    en: str
    zh: str


def phrase(said: Attributes, category: Category, form: int = 0) -> Text:
    """A region phrase: `a small cat on a blue badge on the left` / `左边的蓝色徽章上的小的猫`.

    Args:
        said: the attributes to mention; its category id is not looked at.
        category: the category to name.
        form: 0..FORMS-1, the wording; one picture's positive and negatives share it so that wording gives nothing away.
    """
    size_en, size_zh = SIZE_WORDS[said.size] if said.size else ("", "")
    words = f"{size_en} {category.name_en}" if size_en else category.name_en
    en, zh = _with_article(words, category), size_zh + category.name_zh
    if said.colour is not None:
        colour = COLOURS[said.colour]
        if said.style == "badge":
            badge = f"{article(colour.en)}{colour.en} badge"
            if form == 0:
                en, zh = f"{en} on {badge}", f"{colour.zh}徽章上的{zh}"
            else:
                en, zh = f"{badge} with {en}", f"画着{zh}的{colour.zh}徽章"
        elif form == 0:
            words = f"{size_en} {colour.en} {category.name_en}".strip()
            colour_zh = colour.zh if size_zh else f"{colour.zh}的"  # one 的 is enough: 小的青色书包
            en, zh = _with_article(words, category), f"{size_zh}{colour_zh}{category.name_zh}"
        else:
            en, zh = f"{en} coloured {colour.en}", f"涂成{colour.zh}的{zh}"
    if said.position:
        place_en, place_zh = PLACES[said.position]
        en, zh = f"{en} {place_en}", f"{place_zh}的{zh}"
    return Text(en, zh)


def counted(category: Category, number: int) -> Text:
    """`a cat` / `一只猫`, `three cats` / `三只猫`; names without number stay bare when there is one."""
    if number == 1:
        zh = f"一{category.measure}{category.name_zh}" if category.countable else category.name_zh
        return Text(category.article + category.name_en, zh)
    en, zh = NUMBERS[number]
    return Text(f"{en} {category.plural_en}", f"{zh}{category.measure}{category.name_zh}")


def listed(parts: Sequence[Text]) -> Text:
    """`a, b and c` / `a、b和c`."""
    en, zh = [part.en for part in parts], [part.zh for part in parts]
    if len(parts) == 1:
        return parts[0]
    return Text(f"{', '.join(en[:-1])} and {en[-1]}", f"{'、'.join(zh[:-1])}和{zh[-1]}")


def related(first: Text, relation: str, second: Text) -> Text:
    """`a cat to the left of a bus` / `猫在公交车的左边`."""
    en, zh = RELATIONS[relation]
    return Text(f"{first.en} {en} {second.en}", f"{first.zh}在{second.zh}的{zh}")


def numbered(said: Attributes, category: Category, number: int) -> Text:
    """An exact count, 1 included, for captions whose counts are tested: `one bus on a blue badge`, `two cats`.

    A colour is only said of single things. Names without number carry none.
    """
    if number > 1:
        return counted(category, number)
    if not category.countable:
        return phrase(said, category)
    one = f"一{category.measure}"
    if said.colour is None:
        return Text(f"one {category.name_en}", f"{one}{category.name_zh}")
    colour = COLOURS[said.colour]
    if said.style == "badge":
        badge_en = f"{article(colour.en)}{colour.en} badge"
        return Text(f"one {category.name_en} on {badge_en}", f"{colour.zh}徽章上的{one}{category.name_zh}")
    return Text(f"one {colour.en} {category.name_en}", f"{one}{colour.zh}的{category.name_zh}")


def compared(first: Text, relation: str, second: Text) -> Text:
    """A relation between two things named before: `the cat above the bus`, `the cat larger than the bus`."""
    if relation in COMPARISONS:
        en, zh = COMPARISONS[relation]
        return Text(f"the {first.en} {en} the {second.en}", f"{first.zh}比{second.zh}{zh}")
    return related(Text(f"the {first.en}", first.zh), relation, Text(f"the {second.en}", second.zh))


def located(what: Text, place: tuple[str, str], form: int) -> Text:
    """A full sentence that puts a thing somewhere."""
    en, zh = place
    if form == 0:
        return Text(f"{en.capitalize()} there is {what.en}.", f"{zh}有{what.zh}。")
    return Text(f"{what.en.capitalize()} can be seen {en}.", f"{zh}可以看到{what.zh}。")


def grid_place(x: float, y: float) -> tuple[str, str]:
    """One of nine places for a point (0..1 from left and top): `("in the top left", "左上角")`."""
    column, row = min(2, int(x * 3)), min(2, int(y * 3))
    return _GRID[row][column]


_GRID = (
    (("in the top left", "左上角"), ("at the top", "上方"), ("in the top right", "右上角")),
    (("on the left", "左边"), ("in the centre", "中间"), ("on the right", "右边")),
    (("in the bottom left", "左下角"), ("at the bottom", "下方"), ("in the bottom right", "右下角")),
)


def _with_article(words: str, category: Category) -> str:
    return article(words) + words if category.countable else words
