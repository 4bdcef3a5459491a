"""Every benchmark in its real layout, with a handful of coloured squares, and figures worked out by hand.

The figures are those of the model in ``colours``, which knows red, green and blue and nothing else.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fgclip2.evaluation.readers.choices import FGOVD_SPLITS, SUGARCREPE_KINDS
from tests.evaluation.colours import COLOURS, ZH, picture, write_json, write_labels, write_lines

THIRD = 100 / 3


@dataclass(frozen=True)
class Miniature:
    """``write`` makes it below a data root and a folder of predictions; ``records`` are what its reader yields."""

    write: Callable[[Path, Path], None]
    records: int
    strict: Mapping[str, float]
    released: Mapping[str, float] | None = None  # where it differs


# Retrieval. Red, green and blue; but the blue picture's captions say that it is green.
#   red:   found both ways.
#   green: image to text, its own caption and the blue picture's are equally good: a tie. Text to image: found.
#   blue:  image to text, no caption is like it, so all are equally bad: a tie. Text to image: the green one is better.
_SAID = {"red": "red", "green": "green", "blue": "green"}
_RETRIEVAL = {"i2t_r1": THIRD, "t2i_r1": 2 * THIRD}
_LAST = {"i2t_r1": 2 * THIRD, "t2i_r1": 2 * THIRD}  # of equals the last: the blue picture's captions are


def _coco(root: Path, predictions: Path) -> None:
    for number, colour in enumerate(COLOURS, start=1):
        picture(root / f"coco/val2017/{number:012}.jpg", colour)
    images = [{"id": number, "file_name": f"{number:012}.jpg"} for number in (2, 1, 3)]
    annotations = [
        {"image_id": number, "caption": f"A {_SAID[colour]} square, told {which} times"}
        for number, colour in enumerate(COLOURS, start=1)
        for which in range(5)
    ]
    annotations.append({"image_id": 1, "caption": "a sixth caption, which does not count"})
    write_json(root / "coco/annotations/captions_val2017.json", {"images": images, "annotations": annotations})


def _flickr30k(root: Path, predictions: Path) -> None:
    entries = []
    for number, colour in enumerate(COLOURS):
        picture(root / f"flickr30k/flickr30k-images/{number}.jpg", colour)
        captions = [f"{_SAID[colour]} number {which}" for which in range(5)]
        entries.append({"image": f"flickr30k-images/{number}.jpg", "caption": captions})
    write_json(root / "flickr30k/flickr30k_test.json", entries)


def _sharegpt4v(root: Path, predictions: Path) -> None:
    entries = []
    for number, colour in enumerate(COLOURS):
        picture(root / f"ShareGPT4V/data/sam/images/sa_{number}.jpg", colour)
        turns = [{"from": "human", "value": "<image>\nTell."}, {"from": "gpt", "value": f"All {_SAID[colour]}."}]
        entries.append({"id": str(number), "image": f"sam/images/sa_{number}.jpg", "conversations": turns})
    write_json(root / "ShareGPT4V/share-captioner_coco_lcs_sam_1246k_1107.json", entries)


def _dci(root: Path, predictions: Path) -> None:
    folder = root / "densely_captioned_images"
    names = {}
    for number, colour in enumerate(COLOURS):
        picture(folder / f"photos/sa_{number}.jpg", colour)
        entry = {"image": f"sa_{number}.jpg", "short_caption": "A square.", "extra_caption": f"It is {_SAID[colour]}."}
        write_json(folder / f"annotations/{number}.json", entry)
        names[colour] = f"{number}.json"
    write_json(folder / "splits.json", {"train": [names["red"]], "valid": [names["green"]], "test": [names["blue"]]})


def _tabbed(file: str, photos: str, prefix: str) -> Callable[[Path, Path], None]:
    def write(root: Path, predictions: Path) -> None:
        lines = []
        for number, colour in enumerate(COLOURS):
            picture(root / photos / f"{number}.jpg", colour)
            lines.append(f"{prefix}{number}.jpg\t一个{ZH[_SAID[colour]]}的方块，占满整幅画面。")
        write_lines(root / file, lines)

    return write


def _flickr30k_cna(root: Path, predictions: Path) -> None:
    lines = []
    for number, colour in enumerate(COLOURS):
        picture(root / f"flickr30k/flickr30k-images/{number}.jpg", colour)
        lines += [f"{number}#{which}\t{ZH[_SAID[colour]]}方块" for which in range(5)]
    write_lines(root / "flickr30k_cna/flickr30k_cna_test.txt", lines)


def _coco_cn(root: Path, predictions: Path) -> None:
    lines = ["COCO_val2014_000000000009#zhb#0 另一类描述"]
    for number, (colour, split) in enumerate(zip(COLOURS, ("val", "train", "val"), strict=True)):
        picture(root / f"coco/{split}2014/COCO_{split}2014_{number:012}.jpg", colour)
        lines += [f"COCO_{split}2014_{number:012}#zhm#{which} {ZH[_SAID[colour]]}方块" for which in range(5)]
    write_lines(root / "coco-cn/imageid.manually-translated-caption.txt", lines)


# Boxes of a picture that is red and green: the red one is called red, the green one blue, and one lies outside.
_BOXES = ([0, 0, 32, 32], [32, 0, 32, 32], [500, 0, 9, 9])
_BOX_LABELS = ("red", "blue", "red")


def _instances(ann_file: str, folder: str, names: Mapping[str, str], lvis: bool) -> Callable[[Path, Path], None]:
    def write(root: Path, predictions: Path) -> None:
        picture(root / folder / "000000000007.jpg", "red", "green")
        if lvis:
            (root / "coco/train2017").mkdir(parents=True, exist_ok=True)
            image = {"id": 7, "coco_url": "http://images.cocodataset.org/val2017/000000000007.jpg"}
        else:
            image = {"id": 7, "file_name": "000000000007.jpg"}
        ids = {colour: number for number, colour in enumerate(COLOURS, start=1)}
        annotations = [
            {"id": number, "image_id": 7, "category_id": ids[label], "bbox": box, "iscrowd": 0}
            for number, (box, label) in enumerate(zip(_BOXES, _BOX_LABELS, strict=True))
        ]
        content = {
            "images": [image],
            "annotations": annotations,
            "categories": [{"id": ids[colour], "name": name} for colour, name in names.items()],
        }
        write_json(root / ann_file, content)

    return write


def _fgovd(root: Path, predictions: Path) -> None:
    """hard: one found, one where the false text says the same in other words; trivial: no such picture."""
    picture(root / "coco/val2017/000000000001.jpg", "red", "green")
    common = {"width": 64, "height": 32, "test_type": "t"}
    red = {
        "img_path": "val2017/000000000001.jpg",
        "bbox": [0, 0, 32, 32],
        "pos_expression": ["a red thing"],
        "neg_expression": ["a green thing", "a blue thing"],
        **common,
    }
    green = {**red, "bbox": [32, 0, 32, 32], "pos_expression": ["A green box"], "neg_expression": ["a GREEN BOX"] * 2}
    lines = {
        "hard": [red, green],
        "medium": [red, {**red, "neg_expression": ["blue"]}],
        "easy": [{**red, "bbox": [32, 0, 32, 32]}],
        "trivial": [{**red, "img_path": "val2017/none.jpg"}],
    }
    for split, name in FGOVD_SPLITS.items():
        write_lines(root / f"fgovd_json/{name}_llava.jsonl", [json.dumps(line) for line in lines[split]])


def _fgovd_cn(root: Path, predictions: Path) -> None:
    """The same in Chinese: one found, one tie; a false one; and no such picture."""
    picture(root / "coco/val2017/000000000001.jpg", "red", "green")
    red = {"img_path": "val2017/000000000001.jpg", "bbox": [0, 0, 32, 32], "pos_expression": ["红色杯子"],
           "neg_expression": ["绿色杯子", "蓝色杯子"]}  # fmt: skip
    green = {**red, "bbox": [32, 0, 32, 32], "pos_expression": ["绿色盒子"], "neg_expression": ["绿色的盒子"]}
    lines = {
        "hard": [red, green],
        "medium": [red],
        "easy": [{**red, "bbox": [32, 0, 32, 32]}],
        "trivial": [{**red, "img_path": "val2017/none.jpg"}],
    }
    for split, name in FGOVD_SPLITS.items():
        rows = [json.dumps(line, ensure_ascii=False) for line in lines[split]]
        write_lines(root / f"fgovd_cn_json/{name}_llava.jsonl", rows)


def _sugarcrepe(root: Path, predictions: Path) -> None:
    picture(root / "coco/val2017/000000000001.jpg", "red")
    for kind in SUGARCREPE_KINDS:
        pair = {"filename": "000000000001.jpg", "caption": "a red square", "negative_caption": "a blue square"}
        wrong = {**pair, "caption": "a green square", "negative_caption": "a red square"}
        write_json(
            root / f"sugar-crepe/data/{kind}.json", {"0": pair} if kind != "add_att" else {"0": pair, "1": wrong}
        )


def _imagenet_names(root: Path) -> None:
    names = list(COLOURS) + [f"thing {number}" for number in range(3, 1000)]
    write_lines(root / "imagenet_classnames.txt", names)


def _imagenet(root: Path, predictions: Path) -> None:
    """Red and green are in their folders, a blue one is in green's: there blue comes first, and of all the others, that
    score the same, the first ones, red and green."""
    _imagenet_names(root)
    base = root / "IN1K_val/val"
    for number in range(1000):
        (base / f"n{number:08}").mkdir(parents=True)
    picture(base / "n00000000/ILSVRC2012_val_00000001.JPEG", "red")
    picture(base / "n00000001/ILSVRC2012_val_00000002.JPEG", "green")
    picture(base / "n00000001/ILSVRC2012_val_00000003.JPEG", "blue")


def _imagenet_v2(root: Path, predictions: Path) -> None:
    """A folder is its number, so 10 does not come before 2; an unreadable picture."""
    _imagenet_names(root)
    base = root / "imagenetv2-matched-frequency-format-val"
    picture(base / "0/a.jpeg", "red")
    picture(base / "2/b.jpeg", "blue")
    (base / "1").mkdir()
    (base / "1/c.jpeg").write_bytes(b"no picture")


def _segmentation(
    images: str, masks: str, names: str, count: int, truth: Any, given: Any, dtype: type = np.uint8
) -> Callable[[str], Callable[[Path, Path], None]]:
    def named(name: str) -> Callable[[Path, Path], None]:
        def write(root: Path, predictions: Path) -> None:
            picture(root / images / "a.jpg", "red", size=4)
            picture(root / images / "not in the set.jpg", "red", size=4)
            write_labels(root / masks / f"a{'.tif' if dtype is np.uint16 else '.png'}", truth, dtype)
            write_json(root / names, [f"class {number}" for number in range(count)])
            write_labels(predictions / name / "a.png", given, np.uint16 if np.max(given) > 255 else np.uint8)

        return write

    return named


def _halves(top: int, bottom: int) -> np.ndarray:
    return np.repeat([[top], [top], [bottom], [bottom]], 4, axis=1)


def _judged(top: int, bottom: int, nothing: int) -> np.ndarray:
    """4 x 4, but the first pixel is not judged."""
    labels = _halves(top, bottom)
    labels[0, 0] = nothing
    return labels


def _detection(file: str) -> Callable[[str], Callable[[Path, Path], None]]:
    """A rare thing is found exactly, a frequent one is not, one box is of a class that was not looked for there."""

    def named(name: str) -> Callable[[Path, Path], None]:
        def write(root: Path, predictions: Path) -> None:
            picture(root / "coco/val2017/000000000007.jpg", "red", "green")
            (root / "coco/train2017").mkdir(parents=True, exist_ok=True)
            image = {
                "id": 7,
                "width": 64,
                "height": 32,
                "coco_url": "http://images.cocodataset.org/val2017/000000000007.jpg",
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            }
            boxes = ([0, 0, 32, 32], [32, 0, 32, 32])
            annotations = [
                {"id": n, "image_id": 7, "category_id": n + 1, "bbox": box, "area": 1024} for n, box in enumerate(boxes)
            ]
            categories = [
                {"id": n, "name": f"{colour}_box", "frequency": frequency}
                for n, (colour, frequency) in enumerate(zip(COLOURS, "rfc", strict=True), start=1)
            ]
            write_json(root / file, {"images": [image], "annotations": annotations, "categories": categories})
            found = [
                {"image_id": 7, "category_id": 1, "bbox": boxes[0], "score": 0.5},
                {"image_id": 7, "category_id": 3, "bbox": boxes[1], "score": 0.9},
            ]
            write_json(predictions / f"{name}.json", found)

        return write

    return named


def _answers(predictions: Path, name: str, answers: Mapping[str, Any]) -> None:
    key = "bbox" if name == "refcoco" else "text"
    write_lines(
        predictions / f"{name}.jsonl", [json.dumps({"question_id": q, key: answer}) for q, answer in answers.items()]
    )


def _gqa(root: Path, predictions: Path) -> None:
    picture(root / "gqa/images/n1.jpg", "red")
    asked = {
        "201": {"imageId": "n1", "question": "Which colour?", "answer": "red"},
        "202": {"imageId": "n1", "question": "Is it red?", "answer": "yes"},
        "203": {"imageId": "n1", "question": "Is it round?", "answer": "no"},
    }
    write_json(root / "gqa/testdev_balanced_questions.json", asked)
    _answers(predictions, "gqa", {"201": "Red.", "202": "no"})


def _textvqa(root: Path, predictions: Path) -> None:
    """Seven people said STOP, one said "the stop", two said "halt": eight times 1; twice the other two of three."""
    picture(root / "textvqa/train_images/t1.jpg", "red")
    answers = ["STOP"] * 7 + ["the stop"] + ["halt"] * 2
    common = {"image_id": "t1", "question": "What does it say?", "answers": answers}
    data = [{"question_id": 1, **common}, {"question_id": 2, **common}]
    write_json(root / "textvqa/TextVQA_0.5.1_val.json", {"data": data})
    # 1: "stop" is said by 8: for each of those 7 others said it, for the two others all 8: 1. 2: "halt" is said by 2:
    # for these two one other, 1/3 each; for the eight others two, 2/3 each: (2 * 1/3 + 8 * 2/3) / 10 = 0.6.
    _answers(predictions, "textvqa", {"1": "stop", "2": "halt"})


def _refcoco(root: Path, predictions: Path) -> None:
    """The boxes overlap by 1/2, by 1/3, and not at all; one is no box."""
    picture(root / "coco/train2014/COCO_train2014_000000000001.jpg", "red", "green")
    line = json.dumps({"image": "data/coco/train2014/COCO_train2014_000000000001.jpg", "sent": "red",
                       "bbox": [0, 0, 20, 20], "height": 32, "width": 64})  # fmt: skip
    for split, count in (("val", 2), ("testA", 1), ("testB", 1)):
        write_lines(root / f"refcoco/refcoco_{split}.jsonl", [line] * count)
    answers = {"val/1": [0, 0, 20, 10], "val/2": [10, 0, 30, 20], "testA/1": [0, 0, 20, 20], "testB/1": "left"}
    _answers(predictions, "refcoco", answers)


def _mmmu(root: Path, predictions: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    rows = [
        {"id": "validation_Art_1", "question": "Which?", "options": "['red', 'green']", "answer": "B"},
        {"id": "validation_Art_2", "question": "Which?", "options": "['red', 'green']", "answer": "A"},
        {"id": "validation_Art_3", "question": "How many?", "options": "[]", "answer": "['3', 'three']"},
        {"id": "validation_Art_4", "question": "Which?", "options": "['red', 'green']", "answer": "A"},
    ]
    table = pyarrow.Table.from_pylist([{**row, "image_1": {"bytes": stream.getvalue()}} for row in rows])
    (root / "MMMU/Art").mkdir(parents=True)
    pyarrow.parquet.write_table(table, root / "MMMU/Art/validation-00000-of-00001.parquet")
    given = {"validation_Art_1": "(B) green", "validation_Art_2": "B", "validation_Art_3": "three"}
    _answers(predictions, "mmmu", {**given, "validation_Art_4": "Red"})


def _mmbench(file: str, name: str) -> Callable[[Path, Path], None]:
    """Question 0 is right in both turnings, question 1 in one of two."""

    def write(root: Path, predictions: Path) -> None:
        stream = io.BytesIO()
        Image.new("RGB", (8, 8)).save(stream, "PNG")
        image = base64.b64encode(stream.getvalue()).decode()
        head = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"]
        rows = [
            [0, "什么颜色？", "看左边", "红", "绿", "", "", "A", "colour", image],
            [1_000_000, "什么颜色？", "看左边", "绿", "红", "", "", "B", "colour", image],
            [1, "几个？", "", "一", "二", "三", "", "C", "count", image],
            [1_000_001, "几个？", "", "三", "一", "二", "", "A", "count", image],
        ]
        write_lines(root / file, ["\t".join(map(str, row)) for row in (head, *rows)])
        _answers(predictions, name, {"0": "A", "1000000": "B. 红", "1": "C", "1000001": "二"})

    return write


# Top is class 0 and bottom class 1; all is said to be 0: 7 of 15 pixels are right; class 1 is never found.
_ALL_FIRST = {"miou": 100 * (7 / 15) / 2}
_SPLIT = {"hard": 50.0, "medium": 100.0, "easy": 0.0, "trivial": 0.0}
_AP = {"ap": 50.0, "ap50": 50.0, "ap_rare": 100.0, "ap_frequent": 0.0}
_VOC = "VOCdevkit"

# fmt: off
_SEGMENTATION = {
    "a847": Miniature(
        _segmentation("ADE20K_2021_17_01/images_detectron2/validation",
                      "ADE20K_2021_17_01/annotations_detectron2/validation",
                      "ade847.json", 847, _judged(0, 846, 65535), _halves(0, 846), np.uint16)("a847"),
        1, {"miou": 100.0}),
    "pc459": Miniature(
        _segmentation(f"{_VOC}/VOC2010/JPEGImages", f"{_VOC}/VOC2010/annotations_detectron2/pc459_val", "pc459.json",
                      459, _judged(0, 1, 459), _halves(0, 0), np.uint16)("pc459"),
        1, _ALL_FIRST),
    "a150": Miniature(
        _segmentation("ADEChallengeData2016/images/validation",
                      "ADEChallengeData2016/annotations_detectron2/validation",
                      "ade150.json", 150, _judged(0, 1, 255), _halves(0, 0))("a150"),
        1, _ALL_FIRST),
    "pc59": Miniature(
        _segmentation(f"{_VOC}/VOC2010/JPEGImages", f"{_VOC}/VOC2010/annotations_detectron2/pc59_val", "pc59.json", 59,
                      _judged(0, 1, 255), _halves(0, 0))("pc59"),
        1, _ALL_FIRST),
    "voc20": Miniature(
        _segmentation(f"{_VOC}/VOC2012/JPEGImages", f"{_VOC}/VOC2012/annotations_detectron2/val", "voc20.json", 20,
                      _judged(0, 255, 255), _halves(0, 3))("voc20"),
        1, {"miou": 100.0}),
    # The bottom is background, which is said to be words 20 and 40 of the 60 names.
    "voc21": Miniature(
        _segmentation(f"{_VOC}/VOC2012/JPEGImages", f"{_VOC}/VOC2012/annotations_detectron2_bg/val", "voc20b.json", 60,
                      _judged(0, 20, 255), np.repeat([[0], [0], [20], [40]], 4, axis=1))("voc21"),
        1, {"miou": 100.0}),
}
# fmt: on

MINIATURES: dict[str, Miniature] = {
    "fgovd": Miniature(_fgovd, 6, _SPLIT, {**_SPLIT, "hard": 100.0}),
    "fgovd_cn": Miniature(_fgovd_cn, 5, _SPLIT, {**_SPLIT, "hard": 100.0}),
    "coco_box": Miniature(
        _instances("coco/annotations/instances_val2017.json", "coco/val2017", {c: c for c in COLOURS}, lvis=False),
        1,
        {"top1": THIRD},
    ),
    "lvis_box": Miniature(
        _instances("lvis/lvis_v1_val.json", "coco/val2017", {c: f"{c}_thing" for c in COLOURS}, lvis=True),
        1,
        {"top1": THIRD},
    ),
    "boxclass_cn": Miniature(
        _instances("BoxClass-CN/valid_category_data_total_zh.json", "BoxClass-CN/images", ZH, lvis=False),
        1,
        {"top1": THIRD},
    ),
    "lvis_minival": Miniature(_detection("lvis/lvis_v1_minival_inserted_image_name.json")("lvis_minival"), 1, _AP),
    "lvis_val": Miniature(_detection("lvis/lvis_v1_val.json")("lvis_val"), 1, _AP),
    "sharegpt4v": Miniature(_sharegpt4v, 3, _RETRIEVAL, _LAST),
    "dci": Miniature(_dci, 3, _RETRIEVAL, _LAST),
    "coco": Miniature(_coco, 3, _RETRIEVAL, _LAST),
    "flickr30k": Miniature(_flickr30k, 3, _RETRIEVAL, _LAST),
    "lit_cn": Miniature(_tabbed("LIT-CN/image_caption_long_cn.txt", "LIT-CN/images", "images/"), 3, _RETRIEVAL, _LAST),
    "dci_cn": Miniature(
        _tabbed("DCI-CN/image_caption_trans.txt", "densely_captioned_images/photos", "/mnt/dci/photos/"),
        3,
        _RETRIEVAL,
        _LAST,
    ),
    "docci_cn": Miniature(_tabbed("DOCCI-CN/image_caption_trans.txt", "docci/images", ""), 3, _RETRIEVAL, _LAST),
    "flickr30k_cna": Miniature(_flickr30k_cna, 3, _RETRIEVAL, _LAST),
    "coco_cn": Miniature(_coco_cn, 3, _RETRIEVAL, _LAST),
    "imagenet": Miniature(_imagenet, 3, {"top1": 2 * THIRD, "top5": 100.0}),
    "imagenet_v2": Miniature(_imagenet_v2, 3, {"top1": 2 * THIRD, "top5": 2 * THIRD}),
    **_SEGMENTATION,
    "gqa": Miniature(_gqa, 3, {"accuracy": THIRD}),
    "mmmu": Miniature(_mmmu, 4, {"accuracy": 75.0}),
    "textvqa": Miniature(_textvqa, 2, {"accuracy": 80.0}),
    "refcoco": Miniature(_refcoco, 4, {"val": 50.0, "testA": 100.0, "testB": 0.0}),
    "mmbench": Miniature(_mmbench("mmbench/mmbench_dev_20230712.tsv", "mmbench"), 4, {"dev": 50.0}),
    "mmbench_cn": Miniature(_mmbench("mmbench/mmbench_dev_cn_20231003.tsv", "mmbench_cn"), 4, {"dev": 50.0}),
    "sugarcrepe": Miniature(
        _sugarcrepe, 8, {"add_att": 50.0} | dict.fromkeys([k for k in SUGARCREPE_KINDS if k != "add_att"], 100.0)
    ),
}


def make(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a miniature; its data root and its folder of predictions."""
    root, predictions = folder / "data", folder / "predictions"
    for path in (root, predictions):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    MINIATURES[name].write(root, predictions)
    return root, predictions
