"""Columns of metadata: each of one type, settled before the first picture is embedded.

A value that does not fit its column, or no Parquet file at all, would stop a run when its shard is written, hours after
it began. So it is left out, and what was left out is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from fgclip2.extras import extras
from fgclip2.search.entries import Value
from fgclip2.search.lists import SPAN, is_text
from fgclip2.search.sources import Source
from fgclip2.search.tables import OWN_COLUMNS
from fgclip2.search.values import Unkept

_Type = Literal["texts", "numbers", "truth values", "lists of texts"]
_EXACT: Final = 2**53  # integers to here are the same in float64
_LARGEST: Final = 2**63


@dataclass
class _Column:
    """The type of a column, whether it has numbers with fractions, and the integers that it must hold exactly."""

    type: _Type
    fractions: bool = False
    large: bool = False  # the store has integers in it that float64 would change

    def why_not(self, value: Value) -> str:
        """Why it cannot take a value; empty when it can."""
        if _type(value) != self.type:
            return f"it takes {self.type}"
        if isinstance(value, float) and self.large:
            return f"it has integers above {_EXACT:,}, which stand with no fractions in one column"
        if self.fractions and isinstance(value, int) and abs(value) > _EXACT:
            return f"it has fractions, with which integers above {_EXACT:,} do not stand in one column"
        return ""


def settle(sources: Sequence[Source], table: Any) -> tuple[list[Source], list[str]]:
    """Leave out of the metadata of pictures what cannot be stored.

    A column has the type that it has in the store, else that of the first value that a picture has for it. Integers and
    fractions are one type.

    Args:
        sources: the pictures of a collection, in order.
        table: metadata of the store, a pyarrow table.

    Returns:
        The pictures with what can be stored, and what was left out, a sentence for each column and reason.
    """
    columns = _stored(table)
    stored = set(columns)
    for source in sources:
        for name, value in source.extra.items():
            if name not in SPAN and not _unstorable(name, value):
                column = columns.setdefault(name, _Column(_type(value)))
                column.fractions |= isinstance(value, float) and column.type == "numbers" and not column.large
                if isinstance(value, list) and column.type == "texts" and name not in stored:
                    column.type = "lists of texts"
    sources = [_listed(source, columns) for source in sources]
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    settled = []
    for source in sources:
        kept = _fitting(source, columns, counts, first)
        settled.append(source if len(kept) == len(source.extra) else replace(source, extra=kept))
    told = [
        f"column {name!r}: {why}; left out {counts[name, why]:,} values, the first {example}"
        for (name, why), example in first.items()
    ]
    wrong = [source for source in settled if source.lost]
    if wrong:
        count = sum(len(source.lost) for source in wrong)
        told.append(
            f"{count:,} boxes of {len(wrong):,} pictures cannot be used and are left out, the first of "
            f"{wrong[0].name!r:.120}: {wrong[0].lost[0]}"
        )
    return settled, told


def _listed(source: Source, columns: Mapping[str, _Column]) -> Source:
    """A picture whose texts in columns of lists are lists of one."""
    single = {
        name: [value]
        for name, value in source.extra.items()
        if isinstance(value, str) and name in columns and columns[name].type == "lists of texts"
    }
    return replace(source, extra={**source.extra, **single}) if single else source


def _fitting(
    source: Source, columns: Mapping[str, _Column], counts: Counter[tuple[str, str]], first: dict[tuple[str, str], str]
) -> dict[str, Value]:
    """What of a picture's metadata can be stored; the rest is counted by column and reason."""
    kept: dict[str, Value] = {}
    for name, value in source.extra.items():
        why = "" if name in SPAN else _unstorable(name, value) or columns[name].why_not(value)
        if why:
            counts[name, why] += 1
            told = value.given if isinstance(value, Unkept) else f"{value!r:.60}"
            first.setdefault((name, why), f"{told} of {source.name!r:.120}")
        else:
            kept[name] = value
    return kept


def _stored(table: Any) -> dict[str, _Column]:
    """The columns of a store that a list has given it."""
    with extras("search"):
        import pyarrow.compute
        import pyarrow.types

    columns: dict[str, _Column] = {}
    for name in table.column_names:
        type_ = table[name].type
        if name in OWN_COLUMNS or pyarrow.types.is_null(type_):
            continue
        if pyarrow.types.is_boolean(type_):
            columns[name] = _Column("truth values")
        elif pyarrow.types.is_integer(type_):
            least, most = pyarrow.compute.min_max(table[name]).as_py().values()
            columns[name] = _Column("numbers", large=max(abs(least or 0), abs(most or 0)) > _EXACT)
        elif pyarrow.types.is_floating(type_):
            columns[name] = _Column("numbers", fractions=True)
        elif pyarrow.types.is_list(type_):
            columns[name] = _Column("lists of texts")
        else:
            columns[name] = _Column("texts")
    return columns


def _unstorable(name: str, value: Value | Unkept) -> str:
    """Why no column of this name can take a value, whatever its type."""
    if not is_text(name):
        return "its name is no UTF-8"
    if isinstance(value, Unkept):
        return value.reason
    if not all(map(is_text, [value] if isinstance(value, str) else value if isinstance(value, list) else [])):
        return "it takes texts that are UTF-8"
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        return "it takes integers of 64 bits"
    return ""


def _type(value: Value) -> _Type:
    if isinstance(value, bool):
        return "truth values"
    if isinstance(value, list):
        return "lists of texts"
    return "texts" if isinstance(value, str) else "numbers"
