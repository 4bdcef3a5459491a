"""Conditions on the metadata of a store: how they are written, and which images meet them.

The type of a column decides how a value is compared, not the look of the value: ``zip = 00501`` compares texts where
the column holds texts. A missing value meets no condition but ``has none``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fgclip2.search.dates import dates_of, period
from fgclip2.search.problems import QueryError
from fgclip2.search.tables import OWN_COLUMNS

Condition = tuple[str, str, Any]
"""Column, operator (one of ``OPERATORS``), value: of the column's type, or as text; for ``in`` several."""

OPERATORS: Final = (
    "=", "!=", "<", ">", "<=", ">=", "in", "not in", "contains", "not contains", "has none", "has any",
)  # fmt: skip
LISTED: Final = "list."
"""Prefix of a list's own columns that bear the name of one of the store's."""

_QUOTED: Final = r"\"[^\"]*\"|(?<!\S)'[^']*'"
_SYMBOL: Final = re.compile(rf"((?:{_QUOTED}|(?!(?<!\S)'|\")[^<>=!])+?)(>=|<=|!=|==?|<|>)(?![<>=!])(.*)", re.DOTALL)
_WORD: Final = re.compile(
    rf"((?:{_QUOTED}|(?!(?<!\S)'|\").)+?)\s+(not\s+in|in|not\s+contains|contains|has\s+none|has\s+any)(?:\s+|(?=\()|\Z)(.*)",
    re.DOTALL | re.IGNORECASE,
)
_ITEM: Final = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|[^,，、]*)\s*(?:[,，、]|\Z)")
_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_condition(text: str) -> Condition:
    """A condition from a line such as ``"width >= 640"`` or ``"tags contains 猫"``.

    Values stay texts, since only the column knows their type. Quotes keep operators and commas in a column or a value.

    Raises:
        QueryError: there is no operator in it, no column, or no value.
    """
    symbol, word = _SYMBOL.fullmatch(text), _WORD.fullmatch(text)
    for found in (symbol, word):
        if found is None:
            continue
        column, value = _bare(found[1]), found[3].strip()
        operator = " ".join(found[2].lower().split())
        operator = "=" if operator == "==" else operator
        if not column or (not value and not operator.startswith("has")) or (value and operator.startswith("has")):
            continue
        if operator.startswith("has"):
            return column, operator, None
        if operator.endswith("in"):
            listed = value[1:-1] if value[0] + value[-1] in ("()", "[]", "（）") else value
            values = tuple(item for each in _ITEM.findall(listed) if (item := _bare(each)))
            if not values:
                continue
            return column, operator, values
        if found is symbol and value[0] in "<>=!":
            continue
        return column, operator, _bare(value)
    raise QueryError(
        f"the condition {text!r} is not understood; write it like \"width >= 640\", \"split = train\", \"taken < "
        "2024-05\", \"split in train, val\", \"tags contains cat\" or \"tags has none\"",
        f"无法理解条件 {text!r}；请写成 “width >= 640”、“split = train”、“taken < 2024-05”、“split in train, val”、"
        "“tags contains 猫” 或 “tags has none” 的形式",
    )  # fmt: skip


def meeting(table: Any, conditions: Sequence[Condition]) -> np.ndarray:
    """(P,) bool: the rows of a metadata table that meet all conditions.

    Raises:
        QueryError: a column that is not there or means two things, or a value that its column cannot have.
    """
    met = np.ones(table.num_rows, bool)
    for column, operator, value in conditions:
        met &= _meets(table[_column(table, column)], column, operator, value)
    return met


def _column(table: Any, name: str) -> str:
    """The name in the table of a column that a condition names."""
    import pyarrow.compute as compute

    listed = f"{LISTED}{name}"
    if name in OWN_COLUMNS and listed in table.column_names:
        # Two columns: of one meaning where they agree, as the sizes that a download tool lists.
        own, other = table[name], table[listed]
        agree = own.type == other.type and compute.all(compute.equal(own, other)).as_py() is not False
        if not agree:
            raise QueryError(
                f"the column {name!r} is in the list and in the store with other values; write {listed!r} for the "
                f"list's, or {'image.' + name!r} for the image's own",
                f"列 {name!r} 在列表与索引中取值不同；列表中的请写 {listed!r}，图片自身的请写 {'image.' + name!r}",
            )
    if name in table.column_names:
        return name
    if name.startswith("image.") and name[6:] in OWN_COLUMNS:
        return name[6:]
    columns = ", ".join(table.column_names)
    raise QueryError(
        f"there is no column {name!r} to filter by; there are {columns}",
        f"没有可用于筛选的列 {name!r}；现有：{columns}",
    )


def _meets(values: Any, column: str, operator: str, value: Any) -> np.ndarray:
    """(P,) bool of one condition; ``values`` is a column of the table."""
    import pyarrow.compute as compute
    from pyarrow import types

    if operator not in OPERATORS and operator != "==":
        raise QueryError(
            f"the operator {operator!r} cannot be used; there are {', '.join(OPERATORS)}",
            f"{operator!r} 不是运算符；可用：{'、'.join(OPERATORS)}",
        )
    values = values.combine_chunks()
    is_list = types.is_list(values.type) or types.is_large_list(values.type)
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if is_list:
        missing = missing | (
            compute.fill_null(compute.list_value_length(values), 0).to_numpy(zero_copy_only=False) == 0
        )
    elif types.is_string(values.type) or types.is_large_string(values.type):
        missing = missing | _true(compute.equal(values, ""))
    if operator.startswith("has"):
        return missing if operator == "has none" else ~missing
    several = operator in ("in", "not in")
    if several and (isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, set, frozenset))):
        raise _wrong(column, operator, value, "several values, such as a, b", "多个值，如 a, b")
    asked = list(value) if several else [value]
    negative = operator in ("!=", "not in", "not contains")
    plain = {"!=": "=", "==": "=", "not in": "=", "in": "=", "not contains": "contains"}.get(operator, operator)
    if types.is_null(values.type):
        return np.zeros(len(values), bool)
    if is_list:
        flat, owners = compute.list_flatten(values), compute.list_parent_indices(values).to_numpy()
        if plain not in ("=", "contains"):
            raise _wrong(
                column,
                operator,
                value,
                "=, !=, in, contains and has none, since it holds lists",
                "=、!=、in、contains 与 has none，因为该列为列表",
            )
        met = np.zeros(len(values), bool)
        met[owners[_any(flat, column, plain, asked)]] = True
    else:
        met = _any(values, column, plain, asked)
    return ~values.is_null().to_numpy(zero_copy_only=False) & ~met if negative else met


def _any(values: Any, column: str, operator: str, asked: Sequence[Any]) -> np.ndarray:
    met = np.zeros(len(values), bool)
    for value in asked:
        met |= _one(values, column, operator, value)
    return met


def _one(values: Any, column: str, operator: str, value: Any) -> np.ndarray:
    """(n,) bool: values of one column against one value."""
    import pyarrow
    import pyarrow.compute as compute
    from pyarrow import types

    if types.is_boolean(values.type):
        truth = _TRUTH.get(value.lower()) if isinstance(value, str) else value
        if operator != "=" or not isinstance(truth, bool):
            raise _wrong(column, operator, value, "= and != with true or false", "= 与 !=，值为 true 或 false")
        return _true(compute.equal(values, truth))
    if types.is_integer(values.type) or types.is_floating(values.type):
        number = _number(value)
        if operator == "contains" or number is None:
            raise _wrong(column, operator, value, "numbers, integers of at most 64 bits", "数字，整数至多 64 位")
        return _true(_COMPARE[operator](values, pyarrow.scalar(number)))
    if not isinstance(value, str):
        raise _wrong(column, operator, value, "texts", "文本")
    if operator == "contains":
        return _true(compute.match_substring(values, value, ignore_case=True))
    span = period(value)
    if span is not None and (starts := dates_of(values)) is not None:
        first, end = (np.datetime64(moment, "us") for moment in span)
        compared = {
            "=": (starts >= first) & (starts < end), "<": starts < first, "<=": starts < end, ">": starts >= end,
            ">=": starts >= first,
        }  # fmt: skip
        return compared[operator]  # a comparison with NaT is false
    try:
        return _true(_COMPARE[operator](values, value))
    except (pyarrow.ArrowException, UnicodeError) as error:
        raise _wrong(column, operator, value, f"texts ({error})", f"文本（{error}）") from error


class _Compare(dict[str, Any]):
    """Comparisons of pyarrow by operator, loaded when the first is used."""

    def __missing__(self, operator: str) -> Any:
        import pyarrow.compute as compute

        names = {"=": "equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
        return getattr(compute, names[operator])


_COMPARE: Final = _Compare()


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return _number(kind(value))
            except ValueError:
                continue
        return None
    if isinstance(value, (int, np.integer)):
        return int(value) if -(2**63) <= value < 2**63 else None
    return float(value) if isinstance(value, (float, np.floating)) and value == value else None


def _true(met: Any) -> np.ndarray:
    found: np.ndarray = met.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return found


def _bare(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _wrong(column: str, operator: str, value: Any, takes: str, takes_zh: str) -> QueryError:
    return QueryError(
        f"the condition {column} {operator} {value!r:.80} cannot be used; the column takes {takes}",
        f"条件 {column} {operator} {value!r:.80} 无法使用；该列接受{takes_zh}",
    )
