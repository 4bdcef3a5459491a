"""Benchmarks as others lay them out: other names of files, other forms of the same facts, and what is named for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.answers import right_option
from fgclip2.evaluation.check import check
from fgclip2.evaluation.datasets import BENCHMARKS
from fgclip2.evaluation.readers.captions import read_pairs
from fgclip2.evaluation.records import Question
from tests.evaluation.colours import picture
from tests.evaluation.miniatures import make


def records(name: str, root: Path) -> list[Any]:
    return list(BENCHMARKS[name].read(root))


@pytest.mark.parametrize("folder", ["fgovd_json", "fgovd"])
def test_fgovd_under_the_names_of_its_repository(folder: str, tmp_path: Path) -> None:
    root, _ = make("fgovd", tmp_path)
    expected = records("fgovd", root)
    here = root / "fgovd_json"
    for number, letter in enumerate("hme", start=1):
        (here / f"{number}_attributes_llava.jsonl").rename(here / f"{letter}_attributes_llava.jsonl")
    here.rename(root / folder)
    assert records("fgovd", root) == expected
    assert check("fgovd", root).missing == ()
    (root / folder / "m_attributes_llava.jsonl").unlink()
    (missing,) = check("fgovd", root).missing
    assert missing.path == "fgovd_json/2_attributes_llava.jsonl"


@pytest.mark.parametrize("name", ["flickr30k/dataset_flickr30k.json", "flickr30k/flickr30k_test.json"])
def test_flickr30k_in_karpathys_own_file(name: str, tmp_path: Path) -> None:
    root, _ = make("flickr30k", tmp_path)
    expected = records("flickr30k", root)
    blip = root / "flickr30k/flickr30k_test.json"
    entries = json.loads(blip.read_text(encoding="utf-8"))
    blip.unlink()
    images = [
        {
            "filename": Path(entry["image"]).name,
            "split": "test",
            "sentences": [{"raw": said, "tokens": said.split()} for said in entry["caption"]],
        }
        for entry in entries
    ]
    images.insert(1, {**images[0], "filename": "9.jpg", "split": "train"})
    content = {"images": images, "dataset": "flickr30k"}
    (root / name).write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    assert records("flickr30k", root) == expected
    assert check("flickr30k", root).missing == ()


@pytest.mark.parametrize("change", [str, float, lambda number: f" {number} "])
def test_coco_captions_with_ids_of_other_kinds(change: Any, tmp_path: Path) -> None:
    root, _ = make("coco", tmp_path)
    expected = records("coco", root)
    file = root / "coco/annotations/captions_val2017.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    for image in content["images"]:
        image["id"] = change(image["id"])
    file.write_text(json.dumps(content), encoding="utf-8")
    assert records("coco", root) == expected


def test_mmbench_with_a_mark_and_with_images_of_other_rows(tmp_path: Path) -> None:
    root, _ = make("mmbench_cn", tmp_path)
    expected = records("mmbench_cn", root)
    file = root / "mmbench/mmbench_dev_cn_20231003.tsv"
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    for row in (lines[2], lines[3]):
        row[-1] = "1000001"  # the last row has it, and comes later
    text = "\r\n".join("\t".join(row) for row in lines)
    file.write_text("\ufeff" + text, encoding="utf-8", newline="")
    found = records("mmbench_cn", root)
    assert [item.image for item in found] == [item.image for item in expected]
    assert found == expected
    lines[-1][-1] = "0"
    lines[1][-1] = "1000001"  # in a circle
    file.write_text("\n".join("\t".join(row) for row in lines), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="row 2: its picture is that of row (1000001|0), which has none"):
        records("mmbench_cn", root)
    lines[1][-1] = "77"
    file.write_text("\n".join("\t".join(row) for row in lines), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="row 2: its picture is that of row 77, which has none"):
        records("mmbench_cn", root)
    file.write_text(
        "\n".join("\t".join(row[:-1]) if row is lines[1] else "\t".join(row) for row in lines), encoding="utf-8"
    )
    with pytest.raises(Fgclip2Error, match="row 2: it ends before image"):
        records("mmbench_cn", root)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("Answer: B", 1),
        ("The answer is B.", 1),
        ("The correct answer is (B).", 1),
        ("I looked at the roof.\nAnswer: **B**", 1),
        ("Option B.", 1),
        ("the correct option is: B", 1),
        ("答案：B", 1),
        ("答案是B。", 1),
        ("正确答案为 B", 1),
        ("应该选B。", 1),
        ("选择：B", 1),
        ("选项（B）", 1),
        ("Answer: A", 0),
        ("答案：A", 0),
        ("Answer: C", 0),  # there is none
        ("Answer: A. Or is the answer B?", 0),  # two
        ("Answer: Bananas", 0),
        ("The answer is a dog", 0),
        ("Best of all", 0),
    ],
)
def test_a_letter_that_an_answer_names(said: str, right: int) -> None:
    assert right_option(said, Question("1", b"", "?", ("B",), options=("红色", "绿色"))) == right


def test_numbered_folders_of_imagenet_are_classes_and_words_are_none(tmp_path: Path) -> None:
    """Sorted as texts, folder 10 would be class 2."""
    root, _ = make("imagenet_v2", tmp_path)
    (root / "imagenetv2-matched-frequency-format-val").rename(root / "x")
    base = root / "IN1K_val/val"
    for number in range(1000):
        (base / str(number)).mkdir(parents=True)
    picture(base / "10/a.JPEG", "red")
    picture(base / "2/b.JPEG", "blue")
    assert [(item.image.name, item.label) for item in records("imagenet", root)] == [("b.JPEG", 2), ("a.JPEG", 10)]
    for number in range(1000):
        (base / str(number)).rename(base / f"n{number:08}")
    (base / "n00000999").rename(base / "tench")
    with pytest.raises(Fgclip2Error, match="the folder 'tench' is no WordNet id"):
        records("imagenet", root)


@pytest.mark.parametrize("content", ['{"images": [], "annotations": []}', '[{"image": "a.jpg", "caption": "猫"}]'])
def test_json_in_place_of_lines_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="is JSON .* such as COCO's captions or Karpathy's splits; wanted are lines"):
        list(read_pairs(file))


@pytest.mark.parametrize(
    ("name", "file", "path", "value"),
    [
        ("fgovd", "fgovd_json/1_attributes_llava.jsonl", ("img_path",), 7),
        ("fgovd", "fgovd_json/1_attributes_llava.jsonl", ("bbox",), [0, 0, None, 3]),
        ("coco", "coco/annotations/captions_val2017.json", ("images",), {}),
        ("coco", "coco/annotations/captions_val2017.json", ("annotations", 0, "image_id"), None),
        ("coco", "coco/annotations/captions_val2017.json", ("annotations", 0, "image_id"), 77),
        ("coco", "coco/annotations/captions_val2017.json", ("annotations", 0, "caption"), None),
        ("coco", "coco/annotations/captions_val2017.json", ("images", 0, "file_name"), 5),
        ("flickr30k", "flickr30k/flickr30k_test.json", (0, "image"), 5),
        ("flickr30k", "flickr30k/flickr30k_test.json", (0, "caption"), [None]),
        ("coco_box", "coco/annotations/instances_val2017.json", ("categories", 0, "id"), "x"),
        ("coco_box", "coco/annotations/instances_val2017.json", ("annotations", 0, "bbox"), [1, 2, "3", 4]),
        ("coco_box", "coco/annotations/instances_val2017.json", ("annotations",), None),
        ("coco_box", "coco/annotations/instances_val2017.json", ("images", 0, "id"), [1]),
        ("refcoco", "refcoco/refcoco_val.jsonl", ("bbox",), [1, 2, None, 4]),
        ("refcoco", "refcoco/refcoco_val.jsonl", ("image",), 3),
        ("refcoco", "refcoco/refcoco_val.jsonl", ("sent",), None),
        ("gqa", "gqa/testdev_balanced_questions.json", None, []),
        ("textvqa", "textvqa/TextVQA_0.5.1_val.json", ("data",), {}),
        ("textvqa", "textvqa/TextVQA_0.5.1_val.json", ("data", 0, "answers"), None),
    ],
)
def test_a_wrong_value_is_one_line(name: str, file: str, path: Any, value: Any, tmp_path: Path) -> None:
    root, _ = make(name, tmp_path)
    lines = (root / file).read_text(encoding="utf-8").splitlines() if file.endswith("l") else None
    content: Any = json.loads(lines[0] if lines else (root / file).read_text(encoding="utf-8"))
    if path is None:
        content = value
    else:
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    text = json.dumps(content)
    (root / file).write_text("\n".join([text, *lines[1:]]) if lines else text, encoding="utf-8")
    with pytest.raises(Fgclip2Error, match=Path(file).name) as caught:
        records(name, root)
    assert "\n" not in str(caught.value)
