"""Conditions: the column's type decides how a value is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow
import pytest

from fgclip2.search.conditions import meeting, parse_condition
from fgclip2.search.dates import period
from fgclip2.search.problems import QueryError

TABLE = pyarrow.table(
    {
        "name": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
        "sha256": ["a", "b", "c", "d"],
        "width": [10, 200, 300, 400],
        "height": [10, 20, 30, 40],
        "list.width": [10.5, 2, 3, None],
        "list.height": [10, None, 30, 40],
        "zip": ["00501", "501", "x", None],
        "taken": ["2024-01-31", "2024:02:01 10:00:00", "2023-05-05T00:00:00+08:00", ""],
        "tags": pyarrow.array([["猫", "dog"], [], None, ["Cattle"]]),
        "night": [True, False, None, True],
        "nothing": pyarrow.nulls(4),
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("zip = 00501", [0]),
        ("zip = 501", [1]),
        ("zip != 501", [0, 2]),
        ("zip in 00501, x", [0, 2]),
        ("zip not in x", [0, 1]),
        ("zip has none", [3]),
        ("taken >= 2024", [0, 1]),
        ("taken = 2024-01", [0]),
        ("taken <= 2024-01", [0, 2]),
        ("taken > 2024-01-31", [1]),
        ("taken < 2023-05-05", [2]),  # midnight at +08:00 is the day before in UTC
        ("taken = 2024年2月1日", [1]),
        ("taken != 2024-01-31", [1, 2, 3]),
        ("taken has none", [3]),
        ("tags = 猫", [0]),
        ("tags = cat", []),
        ("tags contains cat", [3]),
        ("tags not contains cat", [0, 1]),
        ("tags in (猫, Cattle)", [0, 3]),
        ("tags has none", [1, 2]),
        ("tags has any", [0, 3]),
        ("image.width < 100", [0]),
        ("list.width < 3", [1]),
        ("width >= 200.5", "the list and in the store"),
        ("height = 30", [2]),  # the list says the same of every image that it says it of
        ("night = yes", [0, 3]),
        ("night != true", [1]),
        ("name contains B.J", [1]),
        ("nothing = 1", []),
        ("nothing has none", [0, 1, 2, 3]),
        ("list.width in 2, 3", [1, 2]),
        ("list.width = many", "takes numbers"),
        ("list.width = 99999999999999999999", "takes numbers"),
        ("night > 1", "true or false"),
        ("tags > 1", "holds lists"),
        ("size = 1", "there is no column 'size'"),
    ],
)
def test_the_type_of_the_column_decides(text: str, rows: list[int] | str) -> None:
    if isinstance(rows, str):
        with pytest.raises(QueryError, match=rows):
            meeting(TABLE, [parse_condition(text)])
    else:
        assert np.flatnonzero(meeting(TABLE, [parse_condition(text)])).tolist() == rows


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (("image.width", ">=", 300), [2, 3]),
        (("zip", "in", ["x", "501"]), [1, 2]),
        (("night", "==", True), [0, 3]),
        (("zip", "=", 501), "takes texts"),
        (("zip", "in", "501"), "several values"),
        (("list.width", "=", True), "takes numbers"),
        (("list.width", "like", 1), "operator 'like' cannot be used"),
    ],
)
def test_values_of_python(condition: tuple[str, str, Any], rows: list[int] | str) -> None:
    if isinstance(rows, str):
        with pytest.raises(QueryError, match=rows):
            meeting(TABLE, [condition])
    else:
        assert np.flatnonzero(meeting(TABLE, [condition])).tolist() == rows


def test_all_conditions_must_be_met() -> None:
    both = [parse_condition("taken >= 2024"), parse_condition("night = false")]
    assert np.flatnonzero(meeting(TABLE, both)).tolist() == [1]


@pytest.mark.parametrize(
    ("text", "first", "end"),
    [
        ("2024", "2024-01-01T00:00:00", "2025-01-01T00:00:00"),
        ("2024-12", "2024-12-01T00:00:00", "2025-01-01T00:00:00"),
        ("2024年5月", "2024-05-01T00:00:00", "2024-06-01T00:00:00"),
        ("2024/2/29", "2024-02-29T00:00:00", "2024-03-01T00:00:00"),
        ("2024:05:01 12:30:05", "2024-05-01T12:30:05", "2024-05-01T12:30:06"),
        ("2024-05-01T12:30Z", "2024-05-01T12:30:00", "2024-05-01T12:31:00"),
        ("2024-05-01T00:30:00.5-0130", "2024-05-01T02:00:00.500000", "2024-05-01T02:00:00.500001"),
    ],
)
def test_periods(text: str, first: str, end: str) -> None:
    span = period(text)
    assert span is not None
    assert tuple(moment.isoformat() for moment in span) == (first, end)


@pytest.mark.parametrize("text", ["", "2023-02-30", "24-05-01", "0000:00:00 00:00:00", "2024-05-01x", "00501", "9999"])
def test_what_is_no_date(text: str) -> None:
    assert period(text) is None
