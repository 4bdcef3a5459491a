"""Benchmarks from one's own pictures: what is let in, what is not and why, and that it reads back and can be judged."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from apps.build_benchmark import main
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.builder import BuilderConfig, build_boxes, build_captions, language_share
from fgclip2.evaluation.datasets import BENCHMARKS
from fgclip2.evaluation.readers.boxes import class_names, instances
from fgclip2.evaluation.runner import open_task
from fgclip2.evaluation.scores import Settings
from tests.evaluation.colours import ColourEncoder, picture, write_json, write_lines


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, colours in (
        ("红.png", ("red",)),
        ("绿.png", ("green",)),
        ("蓝.png", ("blue",)),
        ("双.png", ("red", "blue")),
    ):
        picture(tmp_path / "photos" / name, *colours)
    shutil.copy(tmp_path / "photos/红.png", tmp_path / "photos/again.png")
    (tmp_path / "photos/broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_captions(photos: Path, tmp_path: Path) -> None:
    pairs = [
        ("红.png", "一个红色的\n方块"),
        ("绿.png", "绿"),
        ("蓝.png", "a blue square, 蓝色方块"),
        ("双.png", "一个红色的 方块"),
        ("again.png", "又一个红色的方块"),
        ("broken.png", "看不见的方块"),
        ("none.png", "不存在的方块"),
        ("蓝.png", "一个蓝色的方块，RGB 之一"),
    ]
    built = build_captions(pairs, photos, tmp_path / "out")
    lines = built.file.read_text(encoding="utf-8").splitlines()
    assert lines == ["红.png\t一个红色的 方块", "蓝.png\t一个蓝色的方块，RGB 之一"]
    assert built.kept == 2
    reasons = [reason for _, reason in built.rejected]
    assert [name for name, _ in built.rejected] == [pairs[row][0] for row in (1, 2, 3, 4, 5, 6)]
    assert reasons[0] == "length: 1, allowed are 4 to 400"
    assert reasons[1] == "language: 27% of its letters are zh"
    assert reasons[2] == "repeated caption: as 红.png"
    assert reasons[3] == "repeated picture: as 红.png"
    assert reasons[4].startswith("picture: ")
    assert built.reasons()["picture"] == 2
    named = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").open(encoding="utf-8")]
    assert [(item["name"], item["reason"]) for item in named] == built.rejected
    # In LIT-CN's place it is judged like LIT-CN.
    shutil.copytree(photos, tmp_path / "data/LIT-CN")
    shutil.copy(built.file, tmp_path / "data/LIT-CN/image_caption_long_cn.txt")
    scores = open_task(BENCHMARKS["lit_cn"], tmp_path / "data", Settings(samples=10)).score(ColourEncoder())  # type: ignore[arg-type]
    assert scores.metrics["i2t_r1"].value == scores.metrics["t2i_r1"].value == 100


def test_boxes(photos: Path, tmp_path: Path) -> None:
    annotations = [
        (1, 4, [0, 0, 32, 32]),
        (1, 9, [32, 0, 32, 32]),
        (1, 9, [32, 0, 32, 32]),  # again
        (1, 4, [60, 0, 90, 30]),  # outside
        (2, 5, [0, 0, 32, 32]),  # merged
        (2, 6, [0, 0, 30, 30]),  # left out by the table
        (2, 7, [0, 0, 20, 20]),  # not Chinese
        (3, 4, [0, 0, 5, 5]),  # broken picture
        (4, 8, [0, 0, 5, 5]),  # rare
    ]
    names = {4: "红色", 5: "大红", 6: "别的", 7: "thing", 8: "少见", 9: "蓝色"}
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(
            ("双.png", "红.png", "broken.png", "绿.png"), start=1)],
        "annotations": [{"image_id": image, "category_id": label, "bbox": box} for image, label, box in annotations],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
    }  # fmt: skip
    write_json(tmp_path / "mine.json", content)
    annotations.append((4, 9, [0, 0, 9, 9]))
    content["annotations"].append({"image_id": 4, "category_id": 9, "bbox": [0, 0, 9, 9]})  # type: ignore[attr-defined]
    write_json(tmp_path / "mine.json", content)
    merge = {"大红": "红色", "别的": ""}
    built = build_boxes(tmp_path / "mine.json", photos, tmp_path / "out", BuilderConfig(min_boxes=2), merge)
    assert built.kept == 4
    assert built.reasons() == {
        "repeated box": 1, "box": 1, "category": 2, "language": 1, "picture": 1
    }  # fmt: skip
    assert set(class_names(built.file)) == {"红色", "蓝色"}
    written = json.loads(built.file.read_text(encoding="utf-8"))
    assert sorted(category["id"] for category in written["categories"]) == [1, 2]
    assert [image["file_name"] for image in written["images"]] == ["双.png", "红.png", "绿.png"]
    found = list(instances(built.file, photos))
    labels = [class_names(built.file)[label] for record in found for label in record.labels]
    assert labels == ["红色", "蓝色", "红色", "蓝色"]
    shutil.copytree(photos, tmp_path / "data/BoxClass-CN/images")
    shutil.copy(built.file, tmp_path / "data/BoxClass-CN/valid_category_data_total_zh.json")
    task = open_task(BENCHMARKS["boxclass_cn"], tmp_path / "data", Settings(samples=10))
    assert task.score(ColourEncoder()).metrics["top1"].value == 75  # type: ignore[arg-type]  # the green one is called blue
    with pytest.raises(Fgclip2Error, match="the table merges '没有'"):
        build_boxes(tmp_path / "mine.json", photos, tmp_path / "out", merge={"没有": "红色"})
    with pytest.raises(Fgclip2Error, match="not one box can be used; the reasons: 1 x repeated box|not one box"):
        build_boxes(tmp_path / "mine.json", photos, tmp_path / "out", BuilderConfig(min_boxes=99))


@pytest.mark.parametrize(
    ("text", "chinese"), [("猫", 1.0), ("cat", 0.0), ("猫 cat", 0.25), ("123，。", 0.0), ("", 0.0), ("K歌", 0.5)]
)
def test_language(text: str, chinese: float) -> None:
    assert language_share(text, "zh") == chinese
    letters = any(character.isalpha() for character in text)
    assert language_share(text, "en") == (1 - chinese if letters else 0)


def test_bad_configurations() -> None:
    with pytest.raises(Fgclip2Error, match="lengths 5 to 4"):
        BuilderConfig(min_length=5, max_length=4)
    with pytest.raises(Fgclip2Error, match="language 'fr'"):
        BuilderConfig(language="fr")  # type: ignore[arg-type]
    with pytest.raises(Fgclip2Error, match="min_share must be 0 to 1"):
        BuilderConfig(min_share=2)


def test_program(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path / "pairs.txt", ["红.png\t一个红色的方块", "绿.png\tgreen"])
    out = tmp_path / "bench"
    common = ["build_benchmark.py", "--image-root", str(photos)]
    monkeypatch.setattr(sys, "argv", [*common, "--captions", str(tmp_path / "pairs.txt"), "--out", str(out)])
    assert main() == 0
    assert capsys.readouterr().out == f"{out / 'image_caption.txt'}: 1 kept, 1 left out\n  1 x length\n"
    monkeypatch.setattr(sys, "argv", common)
    assert main() == 2
    assert capsys.readouterr().err == "error: give one of --captions, --boxes and --fgovd\n"
