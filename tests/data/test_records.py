"""Records check themselves, and files of any kind open by their names."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from fgclip2.data.records import JoinedRecords, Record, RecordError, RegionRecord, open_records
from fgclip2.errors import Fgclip2Error


def record(**changes) -> Record:
    fields = {"name": "x#0", "image": "x.png", "language": "zh", "short": "一只黑猫"} | changes
    return Record(**fields)


def region(box=(0.1, 0.2, 0.5, 0.6), texts=("猫",), negatives=()) -> RegionRecord:
    return RegionRecord(box, texts, negatives)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"short": " \n"}, "its short caption is empty"),
        ({"long": ""}, "its long caption is empty"),
        ({"language": "fr"}, "allowed are 'en' and 'zh'"),
        (
            {"regions": (region(), region((0.1, float("nan"), 0.5, 0.6)))},
            r"box 1 \[0.1, nan, 0.5, 0.6\] is not a number",
        ),
        ({"regions": (region((0.1, 0.2, float("inf"), 0.6)),)}, "box 0 .* is not a number"),
        ({"regions": (region((0.5, 0.2, 0.1, 0.6)),)}, r"box 0 \[0.5, 0.2, 0.1, 0.6\] is reversed"),
        ({"regions": (region((0.1, 0.6, 0.5, 0.2)),)}, "is reversed"),
        ({"regions": (region((0.1, 0.2, 0.1, 0.6)),)}, "is empty"),
        ({"regions": (region((1.0, 0.2, 1.0005, 0.6)),)}, "is empty"),  # nothing is left of it inside the picture
        ({"regions": (region((10, 20, 50, 60)),)}, "lies outside the picture; boxes are x1, y1, x2, y2 in 0..1"),
        ({"regions": (region((-0.01, 0.2, 0.5, 0.6)),)}, "lies outside"),
        ({"regions": (region(texts=("猫", "")),)}, "a text of box 0 is empty"),
        ({"regions": (region(texts=()),)}, "a text of box 0 is empty"),
        ({"regions": (region(negatives=("狗", " ")),)}, "a hard negative of box 0 is empty"),
    ],
)
def test_what_would_change_the_loss_is_refused_by_name(changes, reason):
    with pytest.raises(RecordError, match=f"x#0: .*{reason}") as caught:
        record(**changes)
    assert caught.value.name == "x#0"
    copy = pickle.loads(pickle.dumps(caught.value))  # as a worker process hands it over
    assert (copy.name, copy.reason, str(copy)) == ("x#0", caught.value.reason, str(caught.value))


def test_rounding_at_the_edges_passes():
    box = (-0.0005, 0.0, 1.0005, 1.0)
    assert record(regions=(region(box),)).regions[0].box == box


def write(folder, name, captions, chinese=False) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (32, 16), "red").save(folder / "p.png")
    mark = {"is_cn": True} if chinese else {}
    lines = [json.dumps({"f_path": "p.png", "short_caption": caption} | mark) for caption in captions]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")


def test_several_files_are_one_source(tmp_path):
    write(tmp_path, "a.jsonl", ["one", "two"])
    write(tmp_path, "b.jsonl", ["三"], chinese=True)
    write(tmp_path / "deeper", "c.json", ["four"])
    source = open_records([tmp_path / "a.jsonl", str(tmp_path / "b.jsonl"), tmp_path / "deeper" / "c.json"])
    assert isinstance(source, JoinedRecords)
    assert source.languages.tolist() == [0, 0, 1, 0]
    assert [source[k].short for k in range(len(source))] == ["one", "two", "三", "four"]
    assert [source[k].name for k in (0, 2, 3)] == ["a.jsonl#0", "b.jsonl#0", "c.json#0"]
    assert source[3].image == tmp_path / "deeper" / "p.png"
    elsewhere = open_records(tmp_path / "a.jsonl", image_root=tmp_path / "deeper")
    assert elsewhere[0].image == tmp_path / "deeper" / "p.png"
    for index in (-1, 4):
        with pytest.raises(IndexError):
            source[index]


def test_braces_stand_for_numbered_files(tmp_path):
    for number in range(8, 12):
        write(tmp_path, f"part-{number:03d}.jsonl", [f"caption {number}"])
    source = open_records(f"{tmp_path}/part-{{008..010}}.jsonl")
    assert [source[k].short for k in range(3)] == ["caption 8", "caption 9", "caption 10"]
    with pytest.raises(Fgclip2Error, match=r"part-012\.jsonl' does not exist"):
        open_records(f"{tmp_path}/part-{{011..012}}.jsonl")
    with pytest.raises(Fgclip2Error, match="counts down"):
        open_records(f"{tmp_path}/part-{{011..008}}.jsonl")


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(Fgclip2Error, match="does not exist"):
        open_records(tmp_path / "none.jsonl")
    with pytest.raises(Fgclip2Error, match="at least one"):
        open_records([])
    with pytest.raises(Fgclip2Error, match=r"neither \.tar nor \.parquet"):
        open_records(tmp_path)
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(Fgclip2Error, match=r"give \.json, \.jsonl, \.parquet or"):
        open_records(tmp_path / "a.csv")
    write(tmp_path, "a.jsonl", ["one"])
    with pytest.raises(Fgclip2Error, match="picture folder .* does not exist"):
        open_records(tmp_path / "a.jsonl", image_root=tmp_path / "none")
    assert np.array_equal(open_records(tmp_path / "a.jsonl").languages, [0])
