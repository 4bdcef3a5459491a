"""What lists say of their images is kept: every value is stored, or named in the report."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import fgclip2
from fgclip2.search.build import build_store
from fgclip2.search.columns import settle
from fgclip2.search.conditions import meeting, parse_condition
from fgclip2.search.sources import list_sources, read_collection, read_picture
from fgclip2.search.store import Store
from fgclip2.search.tables import joined
from tests.search.test_sources import encoded

EMPTY = joined([], Path("store"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures."""
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("猫.png", "green")):
        (tmp_path / name).write_bytes(encoded(colour))
    return tmp_path


def extras(file: Path) -> list[dict[str, Any]]:
    return [dict(source.extra) for source in settle(list_sources(file)[1], EMPTY)[0]]


def test_every_kind_of_value_of_parquet_is_kept_or_named(folder: Path) -> None:
    rows = [
        {
            "image": "a.png",
            "day": date(2024, 1, 31),
            "taken": datetime(2024, 5, 1, 12, 30),
            "zone": datetime(2024, 5, 1, 12, 30, tzinfo=UTC),
            "hour": time(8, 30),
            "price": Decimal("19.90"),
            "exact": Decimal("12345678901234567.5"),
            "标签": ["猫", "狗"],
            "scores": [1, 2],
            "exif": {"Model": "X", "when": datetime(2024, 1, 1)},
            "thumb": b"abc",
            "vector": [0.5] * 300,
        },
        {"image": "b.png", "标签": []},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "list.parquet")
    settled, told = settle(list_sources(folder / "list.parquet")[1], EMPTY)
    assert dict(settled[0].extra) == {
        "day": "2024-01-31", "taken": "2024-05-01T12:30:00", "zone": "2024-05-01T12:30:00+00:00", "hour": "08:30:00",
        "price": 19.9, "标签": ["猫", "狗"], "scores": ["1", "2"],
        "exif": '{"Model": "X", "when": "2024-01-01T00:00:00"}',
    }  # fmt: skip
    assert dict(settled[1].extra) == {"标签": []}
    assert [sentence.split(";")[0] for sentence in told] == [
        "column 'exact': it has decimals of more than 15 digits", "column 'thumb': it holds bytes",
        "column 'vector': a list of more than 256 values is no metadata",
    ]  # fmt: skip


def test_times_of_nanoseconds_are_read(folder: Path) -> None:
    times = pyarrow.array(np.array(["2024-05-01T12:30:00.123456789"], "datetime64[ns]"))
    pyarrow.parquet.write_table(pyarrow.table({"image": ["a.png"], "t": times}), folder / "list.parquet")
    assert extras(folder / "list.parquet") == [{"t": "2024-05-01T12:30:00.123456"}]


def test_columns_named_like_the_stores_are_kept_beside_them(folder: Path, embedded: fgclip2.FGCLIP2) -> None:
    rows = [{"image": "a.png", "width": 80, "name": "Sofa", "height": 10}, {"image": "b.png", "width": 300}]
    (folder / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    build_store(folder / "list.json", folder / "idx", embedded, progress=False)
    table = Store.open(folder / "idx").metadata
    told = {name: table[name].to_pylist() for name in ("width", "list.width", "name", "list.name", "list.height")}
    assert told == {
        "width": [20, 20], "list.width": [80, 300], "name": ["a.png", "b.png"], "list.name": ["Sofa", None],
        "list.height": [10, None],
    }  # fmt: skip
    for text, rows_ in (("list.width < 100", [0]), ("image.width < 100", [0, 1]), ("height = 10", [0, 1])):
        assert np.flatnonzero(meeting(table, [parse_condition(text)])).tolist() == rows_
    with pytest.raises(fgclip2.Fgclip2Error, match="write 'list.width' for the list's, or 'image.width'"):
        meeting(table, [parse_condition("width < 100")])
    again = build_store(folder / "list.json", folder / "idx", embedded, progress=False)
    assert (again.unchanged, again.described) == (2, 0)


def test_rows_of_one_image_are_joined(folder: Path) -> None:
    lines = ["image,caption,stars,boxes", 'a.png,一只猫,3,"[[1,2,5,9]]"', "b.png,x,1,", 'a.png,a cat,4,"[[2,2,5,9]]"',
             "./a.png,一只猫,3,"]  # fmt: skip
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    found = read_collection(folder / "list.csv")
    first, second = settle(found.sources, EMPTY)[0]
    assert (dict(first.extra), dict(second.extra)) == (
        {"caption": ["一只猫", "a cat"], "stars": 3}, {"caption": ["x"], "stars": 1},
    )  # fmt: skip
    assert first.boxes == [[1, 2, 5, 9], [2, 2, 5, 9]]
    assert [note.split(";")[0] for note in found.notes] == [
        "2 rows name an image of an earlier row and were joined to it, the first of 'a.png'",
        "column 'stars': 1 of those rows have another value that is no text",
    ]


def test_other_keys_of_paths_are_columns(folder: Path) -> None:
    rows = [{"image": "a.png", "path": "/old/a.png", "file_name": "IMG_1.png"}]
    (folder / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    assert extras(folder / "list.json") == [{"path": "/old/a.png", "file_name": "IMG_1.png"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "filepath\tzip\na.png\t007\n猫.png\t1\n"),
        ("b.csv", "filename;zip\na.png;007\n猫.png;1\n"),
        ("c.csv", "\ufeff image , zip \na.png,007\n猫.png,1\n"),
        ("d.csv", "sep=;\r\nImage;zip\r\na.png;007\r\n猫.png;1\r\n"),
        ("e.csv", 'zip|"path"\n007|"a.png"\n1|猫.png\n'),
        ("f.ndjson", '{"FileName": "a.png", "zip": "007"}\n{"FileName": "猫.png", "zip": "1"}\n'),
        ("g.json", '{"filename": "a.png", "zip": "007"}\n{"filename": "猫.png", "zip": "1"}\n'),
        ("h.jsonl", '[{"filepath": "a.png", "zip": "007"},\n{"filepath": "猫.png", "zip": "1"}]'),
        ("i.jsonl", '\ufeff{"image": "a.png", "zip": "007"}\r\n{"image": "猫.png", "zip": "1"}\r\n'),
    ],
)
def test_headers_and_separators_of_tables(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode())
    assert [source.name for source in list_sources(folder / name)[1]] == ["a.png", "猫.png"]
    assert extras(folder / name) == [{"zip": "007"}, {"zip": "1"}]


def test_lines_that_end_in_carriage_returns(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"a.png\rb.png\r")
    assert [source.name for source in list_sources(folder / "a.txt")[1]] == ["a.png", "b.png"]


def test_tables_in_utf_16(folder: Path) -> None:
    (folder / "a.csv").write_bytes("image\t说明\na.png\t红\n".encode("utf-16"))
    assert extras(folder / "a.csv") == [{"说明": "红"}]


@pytest.mark.parametrize(
    "given", ["sub\\a b.png", "sub/a%20b.png", '"sub/a b.png"', " sub/a b.png", "file://{folder}/sub/a%20b.png"]
)
def test_paths_as_other_tools_spell_them(folder: Path, given: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a b.png").write_bytes(encoded())
    (folder / "list.json").write_text(json.dumps([given.replace("{folder}", str(folder))]), encoding="utf-8")
    assert [(source.name, source.problem) for source in list_sources(folder / "list.json")[1]] == [("sub/a b.png", "")]


def test_what_was_looked_for_is_said(folder: Path) -> None:
    (folder / "list.txt").write_text("sub\\b.png\n", encoding="utf-8")
    (source,) = list_sources(folder / "list.txt")[1]
    assert source.problem.startswith(f"there is no such file in {str(folder)!r}; looked for ")
    assert "'sub/b.png'" in source.problem


def test_captions_of_coco_and_karpathy(folder: Path) -> None:
    images = [{"id": 1, "file_name": "a.png", "license": 3}, {"id": 2, "file_name": "b.png"}]
    said = [{"id": 9, "image_id": 1, "caption": "一只猫"}, {"id": 8, "image_id": 1, "caption": "a cat"}]
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": said}), encoding="utf-8")
    assert extras(folder / "coco.json") == [{"license": 3, "caption": ["一只猫", "a cat"]}, {}]
    (folder / "val").mkdir()
    (folder / "val" / "a.png").write_bytes(encoded())
    image = {"filepath": "val", "filename": "a.png", "split": "test", "sentences": [{"raw": "a cat", "tokens": []}]}
    (folder / "dataset.json").write_text(json.dumps({"images": [image], "dataset": "coco"}), encoding="utf-8")
    assert [source.name for source in list_sources(folder / "dataset.json")[1]] == ["val/a.png"]
    assert extras(folder / "dataset.json") == [{"caption": ["a cat"], "split": "test"}]


def test_images_inside_parquet_are_read(folder: Path) -> None:
    rows = [{"image": {"bytes": encoded("red"), "path": "x.png"}, "label": 1},
            {"image": {"bytes": encoded("blue"), "path": None}, "label": 2},
            {"image": {"bytes": None, "path": "b.png"}, "label": 3}]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "猫.parquet", row_group_size=1)
    root, sources, _ = list_sources(folder / "猫.parquet")
    assert [source.name for source in sources] == ["猫.parquet#0", "猫.parquet#1", "b.png"]
    assert [source.extra["label"] for source in sources] == [1, 2, 3]
    for source, colour in zip(sources, ("red", "blue", "blue"), strict=True):
        assert read_picture(root, source.name) == encoded(colour)
