"""Metadata of pictures as Parquet tables: one a shard, read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.search.entries import Value

OWN_COLUMNS: Final = ("name", "sha256", "width", "height", "boxes")
"""What every store has of a picture; further columns come from lists."""


def make_table(facts: Sequence[Mapping[str, Value]]) -> Any:
    """A pyarrow table with a row for each picture.

    Raises:
        Fgclip2Error: values of one column differ in type, or cannot be stored.
    """
    with extras("search"):
        import pyarrow

    columns = list(dict.fromkeys(key for fact in facts for key in fact))
    try:
        return pyarrow.table({key: _array([fact.get(key) for fact in facts]) for key in columns})
    except (pyarrow.ArrowException, UnicodeError, OverflowError) as error:
        raise Fgclip2Error(
            f"metadata cannot be stored ({error}); a column takes values of one type only, integers of 64 bits and "
            "texts that are UTF-8"
        ) from error


def _array(values: Sequence[Value]) -> Any:
    """A column; empty lists alone would say nothing of their type."""
    import pyarrow

    if any(isinstance(value, list) for value in values):
        return pyarrow.array(values, pyarrow.list_(pyarrow.string()))
    return pyarrow.array(values)


def to_parquet(table: Any) -> bytes:
    """A table as a file."""
    with extras("search"):
        import pyarrow
        import pyarrow.parquet

    stream = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, stream)
    data: bytes = stream.getvalue().to_pybytes()
    return data


def read_table(file: Path, rows: int) -> Any:
    """The table of a shard of so many pictures.

    Raises:
        Fgclip2Error: the file is gone or damaged, or is not of such a shard.
    """
    with extras("search"):
        import pyarrow
        import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise Fgclip2Error(f"{file} cannot be read ({error}); index again with --repair") from error
    if table.num_rows != rows or not set(OWN_COLUMNS) <= set(table.column_names):
        raise Fgclip2Error(
            f"{file} has {table.num_rows} rows of {table.column_names}, not {rows} of {', '.join(OWN_COLUMNS)}; index "
            "again with --repair"
        )
    return table


def joined(tables: Sequence[Any], folder: Path) -> Any:
    """Tables one below the other; columns that one lacks are empty there.

    Raises:
        Fgclip2Error: a column has another type in one of them than in another.
    """
    with extras("search"):
        import pyarrow

    if not tables:
        texts, numbers = (
            dict.fromkeys(OWN_COLUMNS[:2], pyarrow.string()),
            dict.fromkeys(OWN_COLUMNS[2:], pyarrow.int64()),
        )
        return pyarrow.schema({**texts, **numbers}).empty_table()
    try:
        return pyarrow.concat_tables(tables, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise Fgclip2Error(
            f"metadata does not fit that of {folder} ({error}); a column takes values of one type only"
        ) from error
