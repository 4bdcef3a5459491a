"""FineHARD records from lists and lines, from Parquet, whole and damaged, in both languages."""

from __future__ import annotations

import io
import json
import pickle
import re
import string
import tarfile

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgclip2.data.openmoji import SceneConfig, write_finehard
from fgclip2.data.records import RecordError, open_records
from fgclip2.errors import Fgclip2Error


def fields(short="一只黑猫", chinese=True, **box) -> dict:
    entry = {
        "bbox": [0.1, 0.2, 0.5, 0.6, 0.99],  # real files have a score after the box
        "short_expr": "Black Cat",
        "long_expr": "a black cat on a sofa",
        "flag_short_neg": 1,
        "short_expr_negs": {"0": "white cat", "1": "black dog"},
    }
    mark = {"is_cn": True} if chinese else {}
    return {"f_path": "猫.png", "caption": "long", "short_caption": short, **mark, "bbox_info": [entry | box]}


def read_one(folder, content) -> object:
    (folder / "a.json").write_text(json.dumps([content]), encoding="utf-8")
    return open_records(folder / "a.json")[0]


def test_all_fields_are_read(tmp_path):
    record = read_one(tmp_path, fields())
    assert (record.name, record.language, record.short, record.long) == ("a.json#0", "zh", "一只黑猫", "long")
    assert record.image == tmp_path / "猫.png"
    (region,) = record.regions
    assert region.box == (0.1, 0.2, 0.5, 0.6)
    assert region.texts == ("Black Cat", "a black cat on a sofa")
    assert region.negatives == ("white cat", "black dog")
    assert region.label is None


def test_false_captions_are_read_where_there_are_some(tmp_path):
    assert read_one(tmp_path, fields()).hard == ()
    given = {"short_caption_negs": ["一只白猫", "一只黑猫", "一只黑狗", "一只白猫"]}
    assert read_one(tmp_path, fields() | given).hard == ("一只黑猫", "一只白猫", "一只黑狗")
    record = read_one(tmp_path, fields() | {"short_caption_negs": [3]})
    assert (record.hard, record.left_out) == ((), ("left out: short_caption_negs are not all texts",))


MARKS: list[tuple[object, int]] = [
    *((mark, 1) for mark in (True, 1, "1", "true", "yes", "zh", 2)),
    *((mark, 0) for mark in (None, False, 0, 0.0, "", "0", "false", "False", " no ", "None")),
]


def test_null_and_false_are_no_marks_in_any_kind_of_file(tmp_path, caplog):
    """The same of a list, of lines, of a shard and of a table: before a record is read, and of the record."""
    rows = [fields("标题", chinese=False) | {"is_cn": mark} for mark, _ in MARKS] + [fields(chinese=False)]
    expected = [chinese for _, chinese in MARKS] + [0]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with tarfile.open(tmp_path / "c.tar", "w") as shard:
        for number, row in enumerate(rows):
            for suffix, data in (("png", b"x"), ("json", json.dumps(row).encode())):
                member = tarfile.TarInfo(f"{number:03}.{suffix}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    for name in ("a.json", "b.jsonl", "c.tar"):
        source = open_records(tmp_path / name)
        assert source.languages.tolist() == expected, name
        assert [source[k].language == "zh" for k in range(len(rows))] == [bool(value) for value in expected], name
    for column in ((True, False, None), (1, 0, None), ("1", "", "false"), (1.0, 0.0, float("nan"))):
        table = [row | {"is_cn": mark, "bbox_info": None} for row, mark in zip(rows, column, strict=False)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "d.parquet")
        source = open_records(tmp_path / "d.parquet")
        assert source.languages.tolist() == [1, 0, 0], column
        assert [source[k].language for k in range(3)] == ["zh", "en", "en"], column
    assert "records looked at are Chinese and not marked by is_cn, such as a.json#7" in caplog.text


def test_marks_that_the_characters_deny_are_told(tmp_path, caplog):
    rows = [fields("a red car", chinese=True), fields("红色汽车", chinese=True), fields("a dog", chinese=False)]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    open_records(tmp_path / "a.json")
    assert "1 of the 3 records looked at are marked Chinese and have no Chinese character by is_cn" in caplog.text
    assert "such as a.json#0" in caplog.text


def test_a_caption_that_quotes_the_key_is_not_chinese(tmp_path):
    captions = ['"is_cn": true', "is_cn"]
    lines = [json.dumps(fields(caption, chinese=False)) for caption in captions]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = open_records(tmp_path / "a.jsonl")
    assert source.languages.tolist() == [0, 0]
    assert [source[k].short for k in range(2)] == captions


@pytest.mark.parametrize("missing", ["caption", "bbox_info"])
def test_long_captions_and_boxes_may_be_missing(tmp_path, missing):
    content = fields()
    del content[missing]
    record = read_one(tmp_path, content)
    assert (record.long is None, record.regions == ()) == (missing == "caption", missing == "bbox_info")


@pytest.mark.parametrize(
    ("box", "negatives"),
    [
        ({"flag_short_neg": 0}, ()),
        ({"flag_short_neg": None}, ("white cat", "black dog")),
        ({"flag_short_neg": None, "short_expr_negs": None}, ()),
        ({"short_expr_negs": ["白猫"]}, ("白猫",)),
        ({"short_expr_negs": {"0": "BLACK cat", "1": "white cat", "2": "White Cat", "3": "dog"}}, ("white cat", "dog")),
    ],
)
def test_negatives_count_where_flagged_and_different_in_lower_case(tmp_path, box, negatives):
    assert read_one(tmp_path, fields(**box)).regions[0].negatives == negatives


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (fields() | {"short_caption": ""}, "short_caption is empty"),
        (fields() | {"short_caption": None}, "it has no short_caption"),
        (fields() | {"short_caption": float("nan")}, "it has no short_caption"),
        (fields() | {"short_caption": 7}, "short_caption is int instead of text"),
        (fields() | {"f_path": None}, "it has no f_path"),
        (fields() | {"f_path": float("nan")}, "it has no f_path"),
        (fields() | {"f_path": "https://x.org/猫.png"}, "f_path 'https://x.org/猫.png' is an address; download"),
        ({"images": [], "annotations": []}, "it looks like a COCO file"),
        ({"images": [{"filename": "a.jpg", "sentences": []}], "dataset": "coco"}, "it looks like Karpathy's splits"),
        ({"image": "a.jpg", "conversations": []}, "it looks like LLaVA's conversations"),
        ({"image": "a.jpg", "short_caption": "猫"}, "it has image, which is called f_path here"),
    ],
)
def test_bad_records_are_named(tmp_path, content, reason):
    with pytest.raises(RecordError, match=f"a.json#0: .*{reason}"):
        read_one(tmp_path, content)


NAN = float("nan")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"caption": " "}, "caption is empty"),
        ({"caption": ""}, "caption is empty"),
        ({"caption": 7}, "caption is int instead of text"),
        ({"caption": "\ud83d"}, "half of a character was cut off in"),
        ({"caption": NAN}, None),
        ({"caption": None}, None),
    ],
)
def test_a_long_caption_that_cannot_be_used_goes_alone(tmp_path, content, reason):
    record = read_one(tmp_path, fields() | content)
    assert (record.short, record.long, len(record.regions)) == ("一只黑猫", None, 1)
    assert [reason in line for line in record.left_out] == ([] if reason is None else [True])
    assert record.lost_regions == ()


REGIONS = [
    (fields(short_expr=""), "short_expr of box 0 is empty"),
    (fields(short_expr=None), "box 0 has no short_expr"),
    (fields(short_expr=NAN), "box 0 has no short_expr"),
    (fields(short_expr="\ud83d"), "half of a character was cut off in .* short_expr of box 0"),
    (fields(bbox=[0.1, 0.2, 0.3]), "bbox of box 0 is .* four numbers"),
    (fields(bbox=[0.1, 0.2, 0.3, "0.4"]), "four numbers"),
    (fields(bbox=None), "bbox of box 0 is None"),
    (fields(bbox=[0.1, NAN, 0.3, 0.4]), "box 0 .* is not a number"),
    (fields(bbox=[0.6, 0.2, 0.3, 0.4]), "box 0 .* is reversed"),
    (fields(bbox=[10, 20, 300, 400]), "box 0 .* lies outside the picture"),
    (fields(bbox=[0, 0, 10**400, 1]), "bbox of box 0 holds a number that is too large"),
]
TEXTS = [
    (fields(short_expr_negs={}), "box 0 is flagged to have hard negatives .* but it has none"),
    (fields(short_expr_negs={"0": "black CAT"}), "the 1 it has only repeat its expression"),
    (fields(short_expr_negs={"0": ""}), "a text of short_expr_negs of box 0 is empty"),
    (fields(short_expr_negs={"0": 5}), "not all texts"),
    (fields(short_expr_negs={"0": "\ude00 dog"}), "half of a character was cut off in"),
    (fields(flag_short_neg=2), "flag_short_neg of box 0 is 2"),
]


@pytest.mark.parametrize(("content", "reason"), REGIONS)
def test_a_region_that_cannot_be_used_goes_alone(tmp_path, content, reason):
    good = fields()["bbox_info"][0]
    record = read_one(tmp_path, content | {"bbox_info": [*content["bbox_info"], good]})
    assert (record.short, record.long) == ("一只黑猫", "long")
    assert [region.texts[0] for region in record.regions] == ["Black Cat"]
    (line,) = record.lost_regions
    assert re.search(reason, line), line


@pytest.mark.parametrize(("content", "reason"), TEXTS)
def test_hard_negatives_that_cannot_be_used_go_alone(tmp_path, content, reason):
    record = read_one(tmp_path, content)
    (region,) = record.regions
    assert (region.texts, region.negatives) == (("Black Cat", "a black cat on a sofa"), ())
    (line,) = record.lost_regions
    assert re.search(reason, line), line


@pytest.mark.parametrize(
    ("given", "texts", "told"),
    [
        ({"long_expr": ""}, ("Black Cat",), "long_expr of box 0 is empty"),
        ({"long_expr": 3}, ("Black Cat",), "long_expr of box 0 is int instead of text"),
        ({"long_expr": NAN}, ("Black Cat",), None),
        ({"flag_short_neg": NAN, "short_expr_negs": NAN}, ("Black Cat", "a black cat on a sofa"), None),
    ],
)
def test_a_text_of_a_region_goes_alone(tmp_path, given, texts, told):
    record = read_one(tmp_path, fields(**given))
    assert record.regions[0].texts == texts
    assert [told in line for line in record.lost_regions] == ([] if told is None else [True])


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        ([3], "box 0 is 3 instead of an object"),
        ({"bbox": [0, 0, 1, 1]}, "its bbox_info is dict instead of a list"),
        (NAN, None),
        ("", None),
    ],
)
def test_boxes_of_another_kind_leave_the_captions(tmp_path, boxes, told):
    record = read_one(tmp_path, fields() | {"bbox_info": boxes})
    assert (record.long, record.regions) == ("long", ())
    assert [told in line for line in record.lost_regions] == ([] if told is None else [True])


def test_names_of_pictures_are_found_as_tools_spell_them(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a b.jpg").write_bytes(b"x")
    for name in ("train\\a b.jpg", "train/a%20b.jpg", "./train/a b.jpg"):
        assert read_one(tmp_path, fields() | {"f_path": name}).image.resolve() == tmp_path / "train" / "a b.jpg"
    assert read_one(tmp_path, fields() | {"f_path": "no\\b.jpg"}).image == tmp_path / "no\\b.jpg"


texts = st.text(alphabet=string.printable + '"\\[]{}猫黑', min_size=1, max_size=12).filter(str.strip)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_any_text_is_found_again_in_lists_and_lines(tmp_path_factory, captions, ascii_only, indent):
    folder = tmp_path_factory.mktemp("json")
    content = [fields(caption, chinese) for caption, chinese in captions]
    (folder / "list.json").write_text("\ufeff" + json.dumps(content, ensure_ascii=ascii_only, indent=indent), "utf-8")
    lines = [json.dumps(item, ensure_ascii=ascii_only) for item in content]
    (folder / "lines.json").write_text("\n" + "\n\n".join(lines) + "\n", "utf-8")  # named .json, as real files are
    for name in ("list.json", "lines.json"):
        source = open_records(folder / name)
        assert source.languages.tolist() == [chinese for _, chinese in captions]
        assert [source[k].short for k in range(len(source))] == [caption for caption, _ in captions]


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("cut", [1, 30, 400])
def test_of_a_cut_file_all_but_the_cut_record_is_read(tmp_path, lines, cut):
    content = [fields(f"caption {k}") for k in range(4)]
    text = "\n".join(map(json.dumps, content)) if lines else json.dumps(content)
    (tmp_path / "a.json").write_text(text[:-cut], "utf-8")
    source = open_records(tmp_path / "a.json")
    good = 4 if cut == 1 and not lines else 3 if cut < 400 else 2
    assert [source[k].short for k in range(good)] == [f"caption {k}" for k in range(good)]
    assert len(source) == good + 1
    assert source.languages[:good].all()
    with pytest.raises(RecordError, match=f"a.json#{good}: .*cut short"):
        source[good]


def test_one_damaged_line_spares_the_others(tmp_path):
    lines = [json.dumps(fields(f"caption {k}")) for k in range(3)]
    (tmp_path / "a.jsonl").write_text(f"{lines[0]}\n{lines[1][:50]}\n[]\n{lines[2]}\n", "utf-8")
    source = open_records(tmp_path / "a.jsonl")
    assert len(source) == 4
    assert (source[0].short, source[3].short) == ("caption 0", "caption 2")
    with pytest.raises(RecordError, match="a.jsonl#1: its JSON is damaged"):
        source[1]
    with pytest.raises(RecordError, match="a.jsonl#2: it is a JSON list"):
        source[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("  ", "starts with b''"),
        ("caption,box", "starts with b'c'"),
        ('[{"f_path": "a"}, 7, {"f_path": "b"}]', "element 1 of the list is no record but b'7"),
        ('["a", {"f_path": "b"}]', "element 0 of the list is no record"),
        ('[[1], {"f_path": "b"}]', "element 0 of the list is no record"),
        ('[{"f_path": "a"}, null]', "element 1 of the list is no record but b'null'"),
        ('{\n "f_path": "a"\n}', "spreads a record over several lines"),
        ("[]", "there are no records in it"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text, "utf-8")
    with pytest.raises(Fgclip2Error, match=message):
        open_records(tmp_path / "a.json")


def test_a_file_that_shrinks_while_it_is_used_is_noticed(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([fields(), fields()]), "utf-8")
    source = pickle.loads(pickle.dumps(open_records(tmp_path / "a.json")))
    assert source[1].short == "一只黑猫"
    (tmp_path / "a.json").write_text(json.dumps([fields()]), "utf-8")
    with pytest.raises(RecordError, match="a.json#1: a.json ends at byte"):
        source[1]
    (tmp_path / "a.json").unlink()
    with pytest.raises(RecordError, match="a.json cannot be read"):
        source[0]


@pytest.mark.parametrize(("language", "lines"), [("en", False), ("zh", False), ("zh", True)])
def test_scenes_written_as_finehard_are_read(world, tmp_path, language, lines):
    scenes = [world.scene(seed, SceneConfig(size=96)) for seed in range(3)]
    source = open_records(write_finehard(scenes, tmp_path, language, lines))
    assert source.languages.tolist() == [("en", "zh").index(language)] * 3
    for k, scene in enumerate(scenes):
        record = source[k]
        assert (record.language, record.short, record.long) == (
            language,
            scene.short[language][0],
            scene.long[language],
        )
        assert record.image.is_file()
        for region, thing in zip(record.regions, scene.objects, strict=True):
            assert [96 * value for value in region.box] == pytest.approx(thing.box)
            assert region.texts[0] == thing.phrases[language]
            assert thing.names[language] in region.texts[1]
            assert region.negatives == tuple(thing.negatives[language])


def parquet(path, rows, **options):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path, **options)


def test_parquet_rows_are_read_by_row_group(tmp_path):
    rows = [fields(f"标题 {k}", chinese=False) | {"is_cn": (None, True, False)[k % 3]} for k in range(20)]
    parquet(tmp_path / "a.parquet", rows, row_group_size=3)
    source = pickle.loads(pickle.dumps(open_records(tmp_path)))  # a folder of Parquet files
    assert source.languages.tolist() == [k % 3 == 1 for k in range(20)]
    for k in (19, 0, 7, 8, 3, 19):
        record = source[k]
        assert (record.name, record.short) == (f"a.parquet#{k}", f"标题 {k}")
        assert record.language == ("zh" if k % 3 == 1 else "en")
        assert record.regions[0].box == (0.1, 0.2, 0.5, 0.6)
        assert record.regions[0].negatives == ("white cat", "black dog")
    assert len(source._groups) <= 4


def test_parquet_may_hold_pictures_and_boxes_as_json(tmp_path):
    boxes = json.dumps(fields()["bbox_info"])
    rows = [{"image": {"bytes": b"data", "path": "x"}, "short_caption": "cat", "bbox_info": boxes}]
    rows.append({"image": {"bytes": b"data", "path": "x"}, "short_caption": "cat", "bbox_info": "[{"})
    parquet(tmp_path / "a.parquet", rows)
    source = open_records(tmp_path / "a.parquet")
    assert source[0].image == b"data"
    assert source[0].regions[0].texts[0] == "Black Cat"
    assert (source[1].short, source[1].regions) == ("cat", ())
    assert "its bbox_info is damaged JSON" in source[1].lost_regions[0]


def test_parquet_of_another_kind_is_refused(tmp_path):
    parquet(tmp_path / "a.parquet", [{"short_caption": "x", "y": 1}])
    with pytest.raises(Fgclip2Error, match="has the columns short_caption, y; needed are"):
        open_records(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(Fgclip2Error, match="cannot be read as Parquet"):
        open_records(tmp_path / "b.parquet")


def test_half_a_character_is_named(tmp_path):
    """JSON can hold it; no tokenizer takes a lone surrogate."""
    with pytest.raises(RecordError, match="a.json#0: half of a character was cut off in"):
        read_one(tmp_path, fields() | {"short_caption": "喜欢 \ud83d"})
    assert read_one(tmp_path, fields() | {"short_caption": "喜欢 😀"}).short == "喜欢 😀"


def test_parquet_false_captions_are_read_and_unknown_columns_named(tmp_path, caplog):
    row = {
        "f_path": "a.jpg",
        "short_caption": "a cat",
        "short_caption_negs": ["a dog", "a cat", "一只狗"],
        "score": 1.0,
    }
    parquet(tmp_path / "a.parquet", [row])
    with caplog.at_level("WARNING"):
        record = open_records(tmp_path / "a.parquet")[0]
    assert record.hard == ("a cat", "a dog", "一只狗")
    assert "a.parquet: columns that are not read: score" in caplog.text
