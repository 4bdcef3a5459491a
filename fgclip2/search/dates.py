"""Dates in texts, as metadata has them: ISO 8601, EXIF's ``2024:05:01 12:30:00``, and Chinese ones."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import numpy as np

_DATE: Final = re.compile(
    r"(?P<year>\d{4})"
    r"(?:(?P<mark>[-/:.年])(?P<month>\d{1,2})(?:(?:(?P=mark)|月)(?P<day>\d{1,2})日?"
    r"(?:[T ]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?)?|月)?|年)?",
    re.IGNORECASE,
)


def period(text: str) -> tuple[datetime, datetime] | None:
    """The first moment of what a text names, and the first one after it; ``None`` when it is no date.

    ``2024`` is a year, ``2024-05`` a month, ``2024-05-01`` a day, ``2024-05-01 12:30`` a minute. Moments of a known
    time zone are in UTC, others as they stand.
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second = (
        None if found[name] is None else int(found[name])
        for name in ("year", "month", "day", "hour", "minute", "second")
    )
    assert year is not None
    try:
        part = int((found["part"] or "").ljust(6, "0")[:6])
        start = datetime(year, month or 1, day or 1, hour or 0, minute or 0, second or 0, part)
        if month is None:
            end = datetime(year + 1, 1, 1)
        elif day is None:
            end = datetime(year + month // 12, month % 12 + 1, 1)
        elif hour is None:
            end = start + timedelta(days=1)
        elif second is None:
            end = start + timedelta(minutes=1)
        else:
            end = start + (timedelta(microseconds=1) if found["part"] else timedelta(seconds=1))
        if found["zone"]:
            shift = _zone(found["zone"])
            start, end = (
                (moment.replace(tzinfo=shift).astimezone(UTC).replace(tzinfo=None)) for moment in (start, end)
            )
    except (ValueError, OverflowError):
        return None
    return start, end


def dates_of(values: Any) -> np.ndarray | None:
    """First moments of the dates in a column of texts, (n,) datetime64[us], NaT where there is none.

    ``None`` when the column is none of dates: when not most of its texts name a day at least.
    """
    encoded = values.dictionary_encode()
    different = encoded.dictionary.to_pylist()
    spans = [period(text) if len(text) > 7 else None for text in different]
    moments = np.array([np.datetime64("NaT") if span is None else span[0] for span in spans], "datetime64[us]")
    numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    filled = np.array([bool(text.strip()) for text in different], bool)
    moments, filled = np.append(moments, np.datetime64("NaT")), np.append(filled, False)
    starts: np.ndarray = moments[numbers]
    return starts if 2 * int((~np.isnat(starts)).sum()) > int(filled[numbers].sum()) else None


def _zone(text: str) -> timezone:
    if text.upper() in ("Z", "UTC"):
        return UTC
    digits = text[1:].replace(":", "")
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-shift if text[0] == "-" else shift)
