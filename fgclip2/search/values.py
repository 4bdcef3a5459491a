"""Values of metadata: what a list holds, as a column can store it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from fgclip2.search.entries import Value

_MOST_ITEMS: Final = 256
_EXACT_DIGITS: Final = 15  # that float64 holds of any decimal


@dataclass(frozen=True)
class Unkept:
    """A value that no column takes.

    Attributes:
        given: the value, for messages.
        reason: why not.
    """

    given: str
    reason: str


def as_value(value: Any) -> Value | Unkept:
    """A value of JSON or Parquet for a column; ``None`` for one that is missing.

    Dates and times become ISO texts, decimals numbers, lists lists of texts, and objects JSON texts.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value else None  # nan would differ from itself in every run
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, Mapping):
        return _json(value)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):  # Parquet's maps
            return _json({str(key): item for key, item in value})
        if len(value) > _MOST_ITEMS:
            return Unkept(f"a list of {len(value):,}", f"a list of more than {_MOST_ITEMS} values is no metadata")
        items = [_item(item) for item in value if item is not None]
        unkept = next((item for item in items if isinstance(item, Unkept)), None)
        return unkept or [item for item in items if isinstance(item, str)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Unkept(f"{len(value):,} bytes", "it holds bytes")
    return Unkept(f"{value!r:.60}", f"it holds values of type {type(value).__name__}")


def _item(value: Any) -> str | Unkept:
    told = as_value(value)
    if isinstance(told, (str, Unkept)):
        return told
    return json.dumps(told, ensure_ascii=False)  # 5, true, and lists within lists


def _decimal(value: Decimal) -> Value | Unkept:
    if not value.is_finite():
        return None
    whole = value == value.to_integral_value()
    if whole and value.as_tuple().exponent == 0:
        return int(value)
    if len(value.normalize().as_tuple().digits) > _EXACT_DIGITS:
        return Unkept(str(value), f"it has decimals of more than {_EXACT_DIGITS} digits")
    return float(value)


def _json(value: Mapping[Any, Any]) -> Value | Unkept:
    def text(item: Any) -> Any:
        told = as_value(item)
        return told.given if isinstance(told, Unkept) else told

    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=text)
    except (TypeError, ValueError, RecursionError) as error:
        return Unkept(f"{value!r:.60}", f"it holds objects that are no JSON ({error})")
