"""Entries of a list that name one image become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fgclip2.search.entries import Value
from fgclip2.search.values import Unkept

if TYPE_CHECKING:
    from fgclip2.search.sources import Source


def joined(sources: Iterable[Source]) -> tuple[list[Source], list[str]]:
    """One source for each name, in order of the first.

    Texts that differ become a list of texts, boxes are put together, and of other values the first counts.

    Args:
        sources: of a list, one for each entry.

    Returns:
        The sources, and a sentence for what was joined and for each column with values that do not count.
    """
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(source.name, []).append(source)
    dropped: Counter[str] = Counter()
    first: dict[str, str] = {}
    once = [group[0] if len(group) == 1 else _one(group, dropped, first) for group in groups.values()]
    rows = sum(len(group) - 1 for group in groups.values())
    repeated = next((name for name, group in groups.items() if len(group) > 1), "")
    notes = [f"{rows:,} rows name an image of an earlier row and were joined to it, the first of {repeated!r:.120}"]
    notes += [
        f"column {name!r}: {count:,} of those rows have another value that is no text; the first row's counts, the "
        f"first in {first[name]!r:.120}"
        for name, count in dropped.items()
    ]
    return once, notes if rows else []


def _one(group: Sequence[Source], dropped: Counter[str], first: dict[str, str]) -> Source:
    extra: dict[str, Value | Unkept] = {}
    boxes: list[Sequence[float]] = []
    shares = next((source.shares for source in group if source.boxes), group[0].shares)
    for source in group:
        for name, value in source.extra.items():
            had = extra.setdefault(name, value)
            if had == value:
                continue
            if isinstance(had, (str, list)) and isinstance(value, (str, list)):
                extra[name] = list(dict.fromkeys([*_items(had), *_items(value)]))
            else:
                dropped[name] += 1
                first.setdefault(name, source.name)
        if source.boxes and source.shares != shares:
            dropped["boxes"] += 1
            first.setdefault("boxes", source.name)
        else:
            boxes += [box for box in source.boxes if box not in boxes]
    problem = next((source.problem for source in group if source.problem), "")
    lost = tuple(dict.fromkeys(told for source in group for told in source.lost))
    return replace(group[0], extra=extra, boxes=boxes, shares=shares, problem=problem, lost=lost)


def _items(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
