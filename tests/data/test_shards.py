"""Webdataset shards: read at any place; of cut and damaged ones what is whole is read and the rest is named."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from fgclip2.data.openmoji import SceneConfig, write_webdataset
from fgclip2.data.records import RecordError, open_records
from fgclip2.errors import Fgclip2Error


def encoded(colour: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(path, members: list[tuple[str, bytes]]):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def caption(text: str, chinese: bool = False) -> bytes:
    return json.dumps({"short_caption": text} | ({"is_cn": 1} if chinese else {})).encode()


def sample(key: str, text: str, chinese: bool = False) -> list[tuple[str, bytes]]:
    return [(f"{key}.json", caption(text, chinese)), (f"{key}.png", encoded())]


def reasons(source) -> dict[str, str]:
    """Name -> reason of every record that cannot be used."""
    found = {}
    for index in range(len(source)):
        try:
            source[index]
        except RecordError as error:
            found[error.name] = error.reason
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_scenes_written_as_shards_are_read(world, tmp_path, language):
    pytest.importorskip("webdataset")
    scenes = [world.scene(seed, SceneConfig(size=96)) for seed in range(5)]
    write_webdataset(scenes, tmp_path, language, shard_size=2, lossless=True)
    whole = open_records(tmp_path)
    braces = open_records(f"{tmp_path}/scenes-{{000000..000002}}.tar")
    assert whole.languages.tolist() == braces.languages.tolist() == [("en", "zh").index(language)] * 5
    whole = pickle.loads(pickle.dumps(whole))
    for k in (4, 0, 3, 1, 2):
        record, scene = whole[k], scenes[k]
        assert record.name == f"scenes-{k // 2:06d}.tar#{scene.seed:09d}"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(record.image))), scene.pixels)
        assert (record.language, record.short) == (language, scene.short[language][0])
        assert [region.texts[0] for region in record.regions] == [thing.phrases[language] for thing in scene.objects]
        assert braces[k].short == record.short


def test_both_languages_and_folders_in_one_shard(tmp_path):
    members = sample("a/1", "cat") + sample("a/2", "猫", True) + [("a/2.txt", b"left alone")] + sample("b/1", "dog")
    source = open_records(shard(tmp_path / "s.tar", members))
    assert source.languages.tolist() == [0, 1, 0]
    assert [source[k].short for k in range(3)] == ["cat", "猫", "dog"]
    assert [source[k].name for k in range(3)] == ["s.tar#a/1", "s.tar#a/2", "s.tar#b/1"]


def test_incomplete_samples_are_named(tmp_path):
    members = [("1.json", caption("no picture")), *sample("2", "whole"), ("3.png", encoded()), ("4.json", b"{"),
               ("4.png", encoded()), *sample("5", "twice"), ("5.jpg", encoded())]  # fmt: skip
    source = open_records(shard(tmp_path / "s.tar", members))
    found = reasons(source)
    assert len(source) == 5
    assert source[1].short == "whole"
    assert found.keys() == {"s.tar#1", "s.tar#3", "s.tar#4", "s.tar#5"}
    assert found["s.tar#1"] == "its picture is missing"
    assert found["s.tar#3"] == "its .json is missing"
    assert "JSON is damaged" in found["s.tar#4"]
    assert "two files of one kind, the second being 5.jpg" in found["s.tar#5"]


def test_a_shard_cut_anywhere_keeps_what_is_whole_and_names_the_cut(tmp_path):
    members = sample("0", "零", True) + sample("1", "一", True) + sample("2", "二", True)
    data = shard(tmp_path / "s.tar", members).read_bytes()
    with tarfile.open(tmp_path / "s.tar") as archive:
        ends = [member.offset_data + member.size for member in archive][1::2]
        final = archive.offset
    for cut in range(1, final + 512, 100):
        (tmp_path / "s.tar").write_bytes(data[:cut])
        source = open_records(tmp_path / "s.tar")
        whole = sum(end <= cut for end in ends)
        assert [source[k].short for k in range(whole)] == ["零", "一", "二"][:whole], cut
        assert len(source) == whole + 1, cut
        (reason,) = reasons(source).values()
        assert "cut short" in reason, cut
        assert source.languages[:whole].all()
        assert source.languages[-1] == (whole > 0 or source.languages[0])


def test_garbage_inside_a_shard_is_named(tmp_path):
    data = bytearray(shard(tmp_path / "s.tar", sample("0", "a") + sample("1", "b")).read_bytes())
    with tarfile.open(tmp_path / "s.tar") as archive:
        start = archive.getmembers()[2].offset
    data[start : start + 512] = b"\x07" * 512
    (tmp_path / "s.tar").write_bytes(data)
    source = open_records(tmp_path / "s.tar")
    assert source[0].short == "a"
    assert reasons(source) == {
        "s.tar#end": f"the shard is damaged at byte {start:,}: samples after the last whole one are lost"
    }


def test_an_empty_file_fails_by_name_and_other_kinds_are_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    assert "cut short" in reasons(open_records(tmp_path / "a.tar"))["a.tar#end"]
    shard(tmp_path / "b.tar", sample("0", "a"))
    (tmp_path / "b.tar").write_bytes(gzip.compress((tmp_path / "b.tar").read_bytes() + np.random.bytes(2000)))
    with pytest.raises(Fgclip2Error, match=r"no tar file, or a compressed one .* plain \.tar files"):
        open_records(tmp_path / "b.tar")
    with pytest.raises(Fgclip2Error, match="there are no records in it"):
        open_records(shard(tmp_path / "c.tar", [("readme.md", b"nothing here")]))


def test_names_with_dots_are_joined_as_when_searching(tmp_path):
    members = [("0.image.png", encoded()), ("0.json", caption("零", True)), ("./a.b/1.PNG", encoded()),
               ("./a.b/1.json", caption("1")), ("._1.png", b"x"), ("p.1.png", encoded(1)), ("p.1.json", caption("p1")),
               ("p.2.png", encoded(2)), ("p.2.json", caption("p2", True))]  # fmt: skip
    source = open_records(shard(tmp_path / "s.tar", members))
    assert [source[k].short for k in range(len(source))] == ["零", "1", "p1", "p2"]
    assert source.languages.tolist() == [1, 0, 0, 1]
    assert [source[k].name for k in range(4)] == ["s.tar#0", "s.tar#a.b/1", "s.tar#p.1", "s.tar#p.2"]
    assert [np.asarray(Image.open(io.BytesIO(source[k].image)))[0, 0, 0] for k in (2, 3)] == [1, 2]
