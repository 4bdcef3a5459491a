"""Collections: what is in them, what is wrong with them, and that names stay inside."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pytest
from PIL import Image

from fgclip2.data.media import find_pictures
from fgclip2.errors import Fgclip2Error
from fgclip2.search.columns import settle
from fgclip2.search.problems import PictureError
from fgclip2.search.sources import inside, list_sources, read_collection, read_picture, span_of


def encoded(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures: ``a.png`` and ``猫/b.png``."""
    (tmp_path / "猫").mkdir()
    (tmp_path / "a.png").write_bytes(encoded("red"))
    (tmp_path / "猫" / "b.png").write_bytes(encoded("blue"))
    return tmp_path


def write_tar(file: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_a_folder(folder: Path) -> None:
    (folder / "note.txt").write_text("no picture", encoding="utf-8")
    root, sources, others = list_sources(folder)
    assert others == 1
    assert root == folder.resolve()
    assert [source.name for source in sources] == ["a.png", "猫/b.png"]
    assert read_picture(root, "猫/b.png") == encoded("blue")
    assert [source.name for source in list_sources(folder, leave_out=folder / "猫")[1]] == ["a.png"]


def close_folder(monkeypatch: pytest.MonkeyPatch, closed: Path) -> None:
    """Refuse to list a folder, as the system does; taking its permissions would not stop root."""
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close_folder(monkeypatch, folder / "猫")
    sources = list_sources(folder)[1]
    assert [(source.name, source.hides) for source in sources] == [("a.png", ""), ("猫/", "猫/")]
    assert "cannot be read (Permission denied)" in sources[1].problem
    (folder / "a.png").unlink()
    with pytest.raises(Fgclip2Error, match="猫 cannot be read: Permission denied"):
        list_sources(folder)
    write_tar(folder / "0.tar", {"1.png": encoded()})
    assert [source.name for source in list_sources(folder)[1]] == ["0.tar#1.png", "猫/"]
    close_folder(monkeypatch, folder)
    with pytest.raises(Fgclip2Error, match="cannot be read .Permission denied., and nobody knows"):
        find_pictures(folder)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "csv", "parquet"])
def test_lists(folder: Path, kind: str) -> None:
    file = folder / f"list.{kind}"
    entries = [
        {"image": "a.png", "来源": "web"},
        {"image": "猫/b.png", "来源": "手机"},
        {"image": "a.png", "来源": "2"},
    ]
    if kind == "txt":
        file.write_text("a.png\n\n猫/b.png\na.png\n", encoding="utf-8")
    elif kind == "jsonl":
        file.write_text("\n".join(json.dumps(item) for item in entries), encoding="utf-8")
    elif kind == "json":
        file.write_text(json.dumps(entries), encoding="utf-8")
    elif kind == "csv":
        lines = ["image,来源", *(f"{item['image']},{item['来源']}" for item in entries)]
        file.write_text("\n".join(lines), encoding="utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(entries), file)
    root, sources, _ = list_sources(file)
    assert root == folder.resolve()
    assert [source.name for source in sources] == ["a.png", "猫/b.png"]
    if kind != "txt":
        assert [dict(source.extra) for source in sources] == [{"来源": ["web", "2"]}, {"来源": "手机"}]


def test_columns_of_a_table_have_types(folder: Path) -> None:
    lines = [
        "image,stars,share,good,day,code,mixed,boxes,说明",
        'a.png,3,0.5,true,2024-01-31,007,1,"[[1, 2, 5, 9]]","两行\n文字"',
        "猫/b.png,,2,false,2024-02-01,012,x,,",
        "c.png,1,2",
    ]
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    first, second, third = list_sources(folder / "list.csv")[1]
    assert dict(first.extra) == {
        "stars": 3, "share": 0.5, "good": True, "day": "2024-01-31", "code": "007", "mixed": "1", "说明": "两行\n文字",
    }  # fmt: skip
    assert type(first.extra["stars"]) is int
    assert first.boxes == [[1, 2, 5, 9]]
    assert {key: second.extra.get(key) for key in ("stars", "share", "good")} == {
        "stars": None, "share": 2.0, "good": False,
    }  # fmt: skip
    assert "has 3 of 9 columns" in third.problem
    (folder / "list.csv").write_text("image,stars\n5,1\n007,2\n", encoding="utf-8")
    assert [source.name for source in list_sources(folder / "list.csv")[1]] == ["5", "007"]


def test_boxes_of_lists(folder: Path) -> None:
    finehard = {"f_path": "a.png", "short_caption": "x", "bbox_info": [{"bbox": [0.5, 0, 1.0004, 0.5, 0.9]}]}
    (folder / "a.jsonl").write_text(
        "\n".join(map(json.dumps, [finehard, {"image": "猫/b.png", "boxes": [[1, 2, 5, 9]]}])), encoding="utf-8"
    )
    first, second = list_sources(folder / "a.jsonl")[1]
    assert first.pixel_boxes((20, 10)) == [[10, 0, 20, 5]]
    assert second.pixel_boxes((20, 10)) == [[1, 2, 5, 9]]
    coco = {
        "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10, "licence": 3}],
        "annotations": [{"image_id": 7, "bbox": [2, 3, 4, 5]}],
    }
    (folder / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    (only,) = list_sources(folder / "coco.json")[1]
    assert only.pixel_boxes((20, 10)) == [[2, 3, 6, 8]]
    assert dict(only.extra) == {"licence": 3}


def test_entries_that_cannot_be_used_are_kept_with_their_problem(folder: Path) -> None:
    lines = [
        '{"image": "a.png"}', '{"caption": "none"}', "not json", "[1]", '{"image": "/etc/passwd"}',
        '{"image": "猫/b.png", "boxes": [[5, 5, 2, 2]]}', json.dumps({"image": str(folder / "a2.png")}),
    ]  # fmt: skip
    (folder / "list.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sources = list_sources(folder / "list.jsonl")[1]
    expected = ["", "none of image", "it is not JSON", "it is no JSON object", "give --root", "", ""]
    assert [source.name.partition(":")[0] for source in sources[1:4]] == ["line 2", "line 3", "line 4"]
    for source, problem in zip(sources, expected, strict=True):
        assert problem in source.problem
        assert bool(problem) == bool(source.problem)
    assert sources[-1].name == "a2.png"
    assert sources[5].lost == ("its box [5.0, 5.0, 2.0, 2.0] is not x1, y1, x2, y2 with area",)


def test_a_box_that_cannot_be_used_goes_alone(folder: Path) -> None:
    """The report names it; picture, columns and other boxes stay."""
    good, bad = [1, 2, 5, 9], [5, 5, 2, float("nan")]
    entries = [{"image": "a.png", "boxes": [good, bad, "x"], "stars": 3}, {"image": "a2.png", "boxes": [bad]}]
    (folder / "list.json").write_text(json.dumps(entries), encoding="utf-8")
    one, two = list_sources(folder / "list.json")[1]
    assert (one.boxes, one.problem, one.extra["stars"]) == ([good], "", 3)
    assert (two.boxes, two.problem, len(one.lost), len(two.lost)) == ([], "", 2, 1)
    _, told = settle([one, two], pyarrow.table({}))
    assert told == [
        "3 boxes of 2 pictures cannot be used and are left out, the first of 'a.png': its box [5.0, 5.0, 2.0, nan] is "
        "not x1, y1, x2, y2 with area"
    ]


def test_shards(folder: Path) -> None:
    shards = folder / "shards"
    shards.mkdir()
    told = json.dumps({"caption": "一辆红色汽车", "stars": 3, "bbox_info": [{"bbox": [0, 0, 0.5, 1]}]}).encode()
    write_tar(shards / "0.tar", {"x/1.png": encoded("red"), "x/1.json": told, "x/2.png": encoded("blue")})
    write_tar(shards / "1.tar", {"3.png": encoded("green"), "3.json": b"{"})
    root, sources, _ = list_sources(shards)
    assert [source.name for source in sources] == ["0.tar#x/1.png", "0.tar#x/2.png", "1.tar#3.png"]
    for source, colour in zip(sources, ("red", "blue", "green"), strict=True):
        assert read_picture(root, source.name, span_of(source.extra)) == encoded(colour)
    assert {key: sources[0].extra[key] for key in ("caption", "stars")} == {"caption": "一辆红色汽车", "stars": 3}
    assert sources[0].pixel_boxes((20, 10)) == [[0, 0, 10, 10]]
    data = (shards / "0.tar").read_bytes()
    (shards / "0.tar").write_bytes(data[:1500])
    cut = list_sources(shards / "0.tar")[1]
    assert "are lost" in cut[-1].problem
    (shards / "0.tar").write_bytes(b"no tar file at all" * 100)
    (only,) = list_sources(shards / "0.tar")[1]
    assert "no plain tar file" in only.problem


@pytest.mark.parametrize("name", ["part#1.tar", "a.tar#b.tar", "无#名.TAR"])
def test_a_shard_may_have_the_separator_in_its_name(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / name, {"x#1.png": encoded("red"), "y.tar#2.png": encoded("blue")})
    root, sources, _ = list_sources(tmp_path)
    assert [source.name for source in sources] == [f"{name}#x#1.png", f"{name}#y.tar#2.png"]
    for source, colour in zip(sources, ("red", "blue"), strict=True):
        assert read_picture(root, source.name, span_of(source.extra)) == encoded(colour)


def test_entries_without_a_path_are_told_apart(folder: Path) -> None:
    content = [{"caption": "same"}, {"caption": "same"}, 5, 5, {"image": "a.png"}]
    (folder / "list.json").write_text(json.dumps(content), encoding="utf-8")
    sources = list_sources(folder / "list.json")[1]
    assert [source.name.partition(":")[0] for source in sources] == [
        "entry 1", "entry 2", "entry 3", "entry 4", "a.png",
    ]  # fmt: skip
    assert [bool(source.problem) for source in sources] == [True] * 4 + [False]
    (folder / "list.jsonl").write_text('\n{"x": 1}\n\n{"x": 1}\n' + "[" * 100_000, encoding="utf-8")
    names = [source.name.partition(":")[0] for source in list_sources(folder / "list.jsonl")[1]]
    assert names == ["line 2", "line 4", "line 5"]


def test_annotations_without_boxes(folder: Path) -> None:
    """COCO's captions have none; what is no box is left out alone."""
    pictures = [{"id": number, "file_name": f"{number}.png"} for number in range(4)] + ["x", {"id": [1]}]
    annotations = [
        {"image_id": 0, "caption": "a cat"}, {"image_id": 1, "bbox": "none"}, {"image_id": 2, "bbox": [1, 2, 3]},
        {"image_id": [3], "bbox": [1, 2, 3, 4]}, {"image_id": 3, "bbox": [0, 0, 10**400, 1]}, 7,
    ]  # fmt: skip
    content = {"images": pictures, "annotations": annotations}
    (folder / "captions.json").write_text(json.dumps(content), encoding="utf-8")
    sources = list_sources(folder / "captions.json")[1]
    assert (sources[0].name, sources[0].boxes, sources[0].problem) == ("0.png", [], "")
    for source in sources[1:4]:
        assert not source.problem
        assert "box" in source.lost[0]
    assert "no object" in sources[4].problem
    assert "none of image" in sources[5].problem
    (folder / "captions.json").write_text(json.dumps({**content, "annotations": {}}), encoding="utf-8")
    assert not any(source.problem for source in list_sources(folder / "captions.json")[1][:4])
    (folder / "captions.json").write_text(json.dumps({**content, "annotations": {"a": 1}}), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="annotations are no list"):
        list_sources(folder / "captions.json")


@pytest.mark.parametrize("wrong", [["x"], [5], [{"box": [0, 0, 1, 1]}], [{"bbox": {"a": 1}}], 5, "{", [{"bbox": "ab"}]])
def test_boxes_that_are_no_objects(folder: Path, wrong: object) -> None:
    (folder / "list.json").write_text(json.dumps([{"image": "a.png", "bbox_info": wrong}]), encoding="utf-8")
    (source,) = list_sources(folder / "list.json")[1]
    assert (source.problem, source.boxes) == ("", [])
    assert "objects with a bbox of numbers" in source.lost[0]


def test_a_folder_with_pictures_and_shards_has_both(folder: Path) -> None:
    write_tar(folder / "0.tar", {"1.png": encoded(), "1.txt": b"a cat", "1.json": b"{}"})
    write_tar(folder / "猫" / "1.tar", {"2.png": encoded("blue"), "readme.md": b"x"})
    root, sources, others = list_sources(folder)
    assert [source.name for source in sources] == ["a.png", "猫/b.png", "0.tar#1.png", "猫/1.tar#2.png"]
    assert read_picture(root, sources[3].name, span_of(sources[3].extra)) == encoded("blue")
    assert sources[2].extra["txt"] == "a cat"
    assert others == 1


def test_linked_folders_are_named(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "c.png").write_bytes(encoded())
    (folder / "link").symlink_to(other)
    sources = list_sources(folder)[1]
    assert [(source.name, source.hides) for source in sources] == [("a.png", ""), ("猫/b.png", ""), ("link/", "link/")]
    assert "is a link, and those are not followed" in sources[-1].problem
    assert len(list_sources(folder, leave_out=other)[1]) == 2


def test_names_that_are_no_text(folder: Path) -> None:
    """Bytes that are no UTF-8, in files and shards, and halves of surrogate pairs in lists."""
    with open(os.fsencode(folder) + b"/\xff.png", "wb") as stream:
        stream.write(encoded())
    write_tar(folder / "0.tar", {"1.png": encoded(), os.fsdecode(b"\xfe.png"): encoded()})
    problems = {source.name: source.problem for source in list_sources(folder)[1]}
    assert [name for name, problem in problems.items() if problem] == ["\udcff.png", "0.tar#\udcfe.png"]
    assert "is no UTF-8; rename it" in problems["\udcff.png"]
    entries = ["a.png", "\ud800.png", str(folder / "\udc00.png"), "a\0.png", str(folder / "a\0.png")]
    (folder / "list.json").write_text(json.dumps(entries), encoding="utf-8")
    sources = list_sources(folder / "list.json")[1]
    assert [bool(source.problem) for source in sources] == [False, True, True, True, True]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "a/../../b", "", "..", "a\\..\\b", "a\0b", "link/x.png"]
)
def test_names_do_not_lead_out_of_the_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.png").write_bytes(encoded())
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "other")
    with pytest.raises(Fgclip2Error, match="picture folder"):
        inside(root, name)
    with pytest.raises(Fgclip2Error, match="picture folder"):
        read_picture(root, name, (0, 10) if "x" not in name else None)


def test_a_root_behind_a_link(tmp_path: Path) -> None:
    """Names are below the root whichever way it is spelt; what a link leads out to stays outside."""
    real = tmp_path / "disk" / "图片"
    (real / "猫").mkdir(parents=True)
    (real / "a.png").write_bytes(encoded("red"))
    (real / "猫" / "b.png").write_bytes(encoded("blue"))
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to(real)
    other.symlink_to(real)
    root, sources, _ = list_sources(link)
    assert root == real.resolve()
    assert [source.name for source in sources] == ["a.png", "猫/b.png"]
    assert read_picture(link, "猫/b.png") == encoded("blue")
    given = [link / "a.png", real / "猫" / "b.png", other / "a.png", tmp_path / "x.png", link / ".." / "x.png"]
    (tmp_path / "x.png").write_bytes(encoded())
    (tmp_path / "list.txt").write_text("\n".join(map(str, given)), encoding="utf-8")
    for base in (link, real, other):
        root, sources, _ = list_sources(tmp_path / "list.txt", base)
        assert root == real.resolve()
        assert [source.name for source in sources[:2]] == ["a.png", "猫/b.png"]  # the third is the first once more
        assert len(sources) == 4
        for source in sources[2:]:
            if source.problem:
                assert "not in the picture folder" in source.problem
            else:
                with pytest.raises(Fgclip2Error, match="does not stay in the picture folder"):
                    read_picture(root, source.name)
    (real / "self.png").symlink_to("self.png")
    with pytest.raises(PictureError, match="link that leads to itself|cannot be read"):
        read_picture(link, "self.png")
    (real / "out.png").symlink_to(tmp_path / "x.png")
    with pytest.raises(Fgclip2Error, match="a link that leads out"):
        read_picture(link, "out.png")


def test_what_is_no_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match="does not exist"):
        list_sources(tmp_path / "none")
    with pytest.raises(Fgclip2Error, match="holds no picture"):
        list_sources(tmp_path)
    for name, content, message in (
        ("a.md", "x", "no list of pictures"),
        ("a.txt", "\n", "names no picture"),
        ("a.json", "{}", "neither a list nor COCO"),
        ("a.parquet", "x", "cannot be read as a list"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(Fgclip2Error, match=message):
            list_sources(tmp_path / name)


def test_line_separators_inside_a_text_do_not_tear_a_line(folder: Path) -> None:
    said = "前\u2028后\u2029\u0085"
    lines = [json.dumps({"image": name, "说明": said}, ensure_ascii=False) for name in ("a.png", "猫/b.png")]
    (folder / "list.jsonl").write_bytes("\r\n".join(lines).encode())
    sources = list_sources(folder / "list.jsonl")[1]
    assert [(source.name, dict(source.extra), source.problem) for source in sources] == [
        ("a.png", {"说明": said}, ""), ("猫/b.png", {"说明": said}, ""),
    ]  # fmt: skip
    (folder / "list.txt").write_text("a\u2028b.png\n", encoding="utf-8")
    assert [source.name for source in list_sources(folder / "list.txt")[1]] == ["a\u2028b.png"]


def test_sidecars_are_joined_by_webdatasets_rule_first(tmp_path: Path) -> None:
    def said(text: str) -> bytes:
        return json.dumps({"text": text}).encode()

    write_tar(
        tmp_path / "a.tar",
        {
            "0.image.jpg": encoded(), "0.json": said("0"),
            "./1.JPG": encoded(), "./1.cls": b"7", "./1.caption": "猫".encode(),
            "v1.0/2.jpg": encoded(), "v1.0/2.json": said("2"),
            "photo.2024.jpg": encoded(), "photo.2024.json": said("2024"),
            "photo.2025.jpg": encoded(), "photo.2025.json": said("2025"),
            "3.meta.json": said("3"), "3.png": encoded(),
            "._0.image.jpg": b"x", "__MACOSX/0.jpg": b"x",
        },
    )  # fmt: skip
    _, sources, others = list_sources(tmp_path / "a.tar")
    told = {source.name.partition("#")[2]: dict(source.extra) for source in sources}
    for fields in told.values():
        del fields["shard_start"], fields["shard_bytes"]
    assert told == {
        "0.image.jpg": {"text": "0"}, "./1.JPG": {"cls": 7, "caption": "猫"}, "v1.0/2.jpg": {"text": "2"},
        "photo.2024.jpg": {"text": "2024"}, "photo.2025.jpg": {"text": "2025"}, "3.png": {"text": "3"},
    }  # fmt: skip
    assert others == 0


def test_hard_links_of_a_shard_are_read(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"1.png": encoded("blue")})
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.LNKTYPE, "1.png"
        archive.addfile(link)
    root, sources, _ = list_sources(tmp_path / "a.tar")
    assert [source.name for source in sources] == ["a.tar#1.png", "a.tar#2.png"]
    assert read_picture(root, "a.tar#2.png", span_of(sources[1].extra)) == encoded("blue")


def test_hidden_and_system_files_are_left_out(folder: Path) -> None:
    for name in ("._a.png", ".hidden/c.png", "__MACOSX/a.png", "@eaDir/a.png/SYNOPHOTO.png", "#recycle/a.png"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"x")
    write_tar(folder / "__MACOSX" / "0.tar", {"1.png": encoded()})
    _, sources, others = list_sources(folder)
    assert ([source.name for source in sources], others) == (["a.png", "猫/b.png"], 0)


def test_what_is_passed_over_is_named_by_kind(folder: Path) -> None:
    for name in ("a.HEIC", "b.heif", "c.mp4", "d.MTS", "noending", "x.ts", "list.csv", "e.tar.gz", "f.cr3"):
        (folder / name).write_bytes(b"x")
    found = read_collection(folder)
    assert found.others == 9
    (note,) = found.notes
    for told in ("2 HEIC images", "2 videos", "1 files without an ending", "1 other files", "1 tables and lists",
                 "1 compressed shards", "1 raw camera images"):  # fmt: skip
        assert told in note
    assert read_collection(folder, exclude=("*.HEIC", "猫/*", "[b-fln]*", "x.*")).notes == ()
    assert [source.name for source in read_collection(folder, exclude=("猫/",)).sources] == ["a.png"]


def test_a_pipe_is_named_and_never_opened(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "list.txt").write_text("pipe.png\na.png\n", encoding="utf-8")
    problems = {source.name: source.problem for source in list_sources(folder)[1]}
    assert problems == {"a.png": "", "猫/b.png": "", "pipe.png": "it is a pipe, socket or device, and is never opened"}
    with pytest.raises(PictureError, match="is no file but a folder, pipe"):
        read_picture(folder, "pipe.png")


def test_links_are_followed_when_asked_and_circles_end(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("blobs")
    (other / "c.png").write_bytes(encoded("green"))
    (folder / "album").symlink_to(other)
    (folder / "blob.png").symlink_to(other / "c.png")
    (folder / "猫" / "round").symlink_to(folder)
    found = read_collection(folder, follow_links=True)
    assert [source.name for source in found.sources] == ["a.png", "album/c.png", "blob.png", "猫/b.png"]
    assert read_picture(found.root, "album/c.png", follow_links=True) == encoded("green")
    with pytest.raises(PictureError, match="--follow-links"):
        read_picture(found.root, "blob.png")
    with pytest.raises(PictureError, match="does not stay"):
        read_picture(found.root, "../x.png", follow_links=True)


def test_shards_by_braces_as_in_training(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"part-{number:03}.tar", {"1.png": encoded()})
    root, sources, _ = list_sources(f"{tmp_path}/part-{{001..002}}.tar")
    assert root == tmp_path.resolve()
    assert [source.name for source in sources] == ["part-001.tar#1.png", "part-002.tar#1.png"]
    with pytest.raises(Fgclip2Error, match="part-003.tar' is no .tar shard"):
        list_sources(f"{tmp_path}/part-{{001..003}}.tar")
