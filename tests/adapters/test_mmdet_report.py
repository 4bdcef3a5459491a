"""Errors are counted as COCO counts, and what is left for people to read says what happened."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from PIL import Image

from fgclip2.evaluation.average_precision import Evaluation, evaluate_boxes
from fgclip2_mmdet.curves import curve_numbers
from fgclip2_mmdet.error_page import crop
from fgclip2_mmdet.errors import KINDS, BoxError, ErrorReport, find_errors
from fgclip2_mmdet.experiment import DetectionData
from fgclip2_mmdet.report import draw_predictions, write_reports

NAMES = {"en": ["dog", "umbrella", "<b>&bus"], "zh": ["狗", "伞", "公共汽车"]}
ORANGE, BLUE = (0xE6, 0x61, 0x00), (0x1A, 0x85, 0xFF)


def truth(objects: list[tuple[Any, ...]], images: int = 1, **fields: Any) -> dict[str, Any]:
    """Objects are (image, category, [x, y, width, height]), and 1 for a crowd."""
    return {
        "images": [
            {"id": number, "file_name": f"图{number}.png", "width": 200, "height": 160, **fields}
            for number in range(1, images + 1)
        ],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": list(box), "iscrowd": int(bool(crowd))}
            for n, (image, category, box, *crowd) in enumerate(objects, start=1)
        ],
        "categories": [{"id": n, "name": name, "frequency": "f"} for n, name in enumerate(NAMES["en"], start=1)],
    }


def results(found: list[tuple[int, int, list[float], float]]) -> list[dict[str, Any]]:
    return [{"image_id": i, "category_id": c, "bbox": list(box), "score": score} for i, c, box, score in found]


def example() -> Evaluation:
    """One error of every kind in the first picture; the second has only right boxes."""
    objects = [
        (1, 1, [10, 10, 40, 40]),
        (1, 2, [100, 10, 40, 40]),
        (1, 3, [10, 100, 40, 40]),
        (1, 2, [100, 100, 50, 50]),
        (2, 1, [20, 20, 60, 60]),
        *((2, 1, [place, 100, 30, 30]) for place in (0, 40, 80, 120)),
    ]
    found = [
        (1, 1, [10, 10, 40, 42], 0.9),  # right
        (1, 1, [12, 10, 40, 40], 0.8),  # the same dog again
        (1, 3, [100, 12, 40, 40], 0.7),  # an umbrella called a bus
        (1, 3, [30, 100, 40, 40], 0.6),  # half beside the bus, IoU 1/3
        (1, 2, [60, 60, 20, 20], 0.5),  # nothing there
        (1, 1, [30, 120, 40, 40], 0.45),  # a dog said of the bus's corner, IoU 1/7
        (1, 2, [101, 100, 50, 50], 0.04),  # right, but too uncertain: the umbrella is missed
        (2, 1, [20, 20, 60, 60], 0.95),
        *((2, 1, [place, 100, 30, 30], 0.4) for place in (0, 40, 80, 120)),
    ]
    return evaluate_boxes(truth(objects, images=2), results(found), ["umbrella"])


def test_every_kind() -> None:
    report = find_errors(example(), threshold=0.3)
    assert (report.right, report.objects) == (6, 9)
    # The bus under the loose box is missed too: a loose box is not on it.
    assert report.counts() == {"background": 1, "confused": 1, "missed": 2, "loose": 1, "both": 1, "double": 1}
    of = {kind: [error for error in report.errors if error.kind == kind] for kind in KINDS}
    double, confused, loose, background = (of[kind][0] for kind in ("double", "confused", "loose", "background"))
    assert (double.said, double.truth, double.score) == (1, 1, 0.8)
    assert (confused.said, confused.truth, confused.truth_box) == (3, 2, (100, 10, 140, 50))
    assert confused.iou == pytest.approx(38 / 42)
    assert (loose.said, loose.truth, loose.iou) == (3, 3, pytest.approx(1 / 3))
    assert (background.said, background.truth, background.iou) == (2, None, 0)
    assert background.box == (60, 60, 80, 80)
    (both,) = of["both"]
    assert (both.said, both.truth, both.iou) == (1, 3, pytest.approx(1 / 7))
    bus, umbrella = of["missed"]
    assert (bus.truth, bus.said, bus.weight) == (3, None, (1, 1600))
    assert (umbrella.truth, umbrella.said, umbrella.score) == (2, 2, 0.04)
    assert umbrella.weight == (pytest.approx(0.96), 2500)
    assert all(error.image_id == 1 for error in report.errors)


def test_boxes_that_nobody_can_judge_are_no_errors() -> None:
    crowded = truth([(1, 1, [0, 0, 100, 100], 1), (1, 1, [120, 0, 40, 40])])
    found = results([(1, 1, [10, 10, 30, 30], 0.9), (1, 2, [10, 10, 30, 30], 0.8), (1, 1, [80, 0, 60, 60], 0.7)])
    report = find_errors(evaluate_boxes(crowded, found), threshold=0)
    assert report.objects == 1
    assert report.counts() == {"background": 1, "confused": 0, "missed": 1, "loose": 1, "both": 0, "double": 0}
    assert [error.said for error in report.errors if error.kind == "background"] == [2]

    federated = truth([(1, 1, [0, 0, 50, 50])], neg_category_ids=[3], not_exhaustive_category_ids=[1])
    found = results([(1, category, [100, 100, 20, 20], 0.9) for category in (1, 2, 3)])
    report = find_errors(evaluate_boxes(federated, found, federated=True), threshold=0)
    assert [(error.kind, error.said, error.truth) for error in report.errors] == [
        ("background", 3, None),  # all dogs are not marked, and nobody looked for umbrellas
        ("missed", None, 1),
    ]


boxes = st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(1, 4)] * 2).map(lambda box: [10 * value for value in box])
place = st.tuples(st.integers(1, 2), st.integers(1, 3), boxes)
scenes = {
    "objects": st.lists(
        st.tuples(st.integers(1, 2), st.integers(1, 3), boxes, st.sampled_from([0, 0, 0, 1])), max_size=9
    ),
    "found": st.lists(st.tuples(place, st.integers(1, 6)), max_size=20),
}


@settings(max_examples=60, deadline=None)
@given(**scenes)
def test_right_wrong_and_unjudged_boxes_are_those_of_pycocotools(objects: list[Any], found: list[Any]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = truth(objects, images=2)
    for annotation in content["annotations"]:
        annotation["area"] = 1
    detections = results([(image, category, box, score / 10) for (image, category, box), score in found])
    report = find_errors(evaluate_boxes(content, detections), threshold=0)
    ground, answer = COCO(), COCO()
    ground.dataset = content
    answer.dataset = {
        **content,
        "annotations": [{**item, "id": n, "area": 1, "iscrowd": 0} for n, item in enumerate(detections, start=1)],
    }
    ground.createIndex()
    answer.createIndex()
    evaluation = COCOeval(ground, answer, "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    parts = [part for part in evaluation.evalImgs if part is not None]
    ignored = sum(int(part["dtIgnore"][0].sum()) for part in parts)
    right = sum(int(((part["dtMatches"][0] > 0) & ~part["dtIgnore"][0].astype(bool)).sum()) for part in parts)
    assert report.right == right
    assert len([error for error in report.errors if error.kind != "missed"]) == len(detections) - right - ignored
    assert report.objects == sum(not item["iscrowd"] for item in content["annotations"])


@settings(max_examples=60, deadline=None)
@given(**scenes)
def test_the_threshold_has_the_best_f1(objects: list[Any], found: list[Any]) -> None:
    detections = results([(image, category, box, score / 10) for (image, category, box), score in found])
    evaluation = evaluate_boxes(truth(objects, images=2), detections)

    def f1(threshold: float) -> float:
        report = find_errors(evaluation, threshold)
        wrong = sum(error.kind != "missed" for error in report.errors)
        return 2 * report.right / max(1, 2 * report.right + wrong + report.objects - report.right)

    chosen = find_errors(evaluation)
    assert f1(chosen.threshold) == pytest.approx(max((f1(item["score"]) for item in detections), default=0))


def test_the_worst_are_shared_between_the_kinds() -> None:
    def error(kind: str, weight: float) -> BoxError:
        return BoxError(kind, 1, 1, weight, (0, 0, 1, 1), None, None, 0.0, (weight, 0.0))

    errors = [error("background", number / 100) for number in range(60)] + [error("missed", 0.5), error("double", 0.1)]
    worst = ErrorReport(0.1, 0, 9, tuple(errors)).worst(10)
    assert [item.kind for item in worst] == ["background"] * 8 + ["missed", "double"]
    assert [item.score for item in worst[:8]] == [number / 100 for number in range(59, 51, -1)]
    assert len(ErrorReport(0.1, 0, 9, tuple(errors[:3])).worst(10)) == 3


def test_crops_show_both_boxes() -> None:
    picture = Image.new("RGB", (200, 160), "white")
    confused = next(error for error in find_errors(example(), 0.3).errors if error.kind == "confused")
    shown = crop(picture, confused, side=236)
    # 24 pixels or 0.6 of the longer side around both boxes: x 74.8 to 165.2, y from the upper rim to 77.2
    scale = 236 / 92
    assert shown.size == (236, round(78 * scale))
    assert shown.getpixel((round((100 - 74) * scale), round(30 * scale))) == ORANGE
    assert shown.getpixel((round((120 - 74) * scale), round(10 * scale))) == BLUE
    missed = next(error for error in find_errors(example(), 0.3).errors if error.kind == "missed" and error.said)
    colours = {colour for _, colour in crop(picture, missed).getcolors() or []}
    assert BLUE in colours
    assert ORANGE not in colours
    at_the_rim = BoxError("background", 1, 1, 0.5, (195, 155, 230, 190), None, None, 0.0, (0.5, 0.0))
    assert max(crop(picture, at_the_rim).size) == 240


class Page(HTMLParser):
    """Cards, their pictures and texts, and everything that the page asks for from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cards: list[dict[str, Any]] = []
        self.sources: list[str] = []
        self.inside = False
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "article":
            self.inside = True
            self.cards.append({**values, "text": ""})
        self.sources += [str(values[key]) for key in ("src", "href") if key in values]

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cards[-1]["text"] = " ".join(f"{self.cards[-1]['text']} {data}".split())


def test_reports_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    for number in (1, 2):
        Image.new("RGB", (200, 160), "white").save(folder / f"图{number}.png")
    data = DetectionData(NAMES["en"], ["umbrella"], NAMES, tmp_path, tmp_path, folder, folder)
    evaluation = example()
    nothing = evaluate_boxes(evaluation.truth, [], ["umbrella"])
    evaluations = {"en": evaluation, "zh": nothing, "shuffled": nothing}
    files = write_reports(evaluations, data, tmp_path / "report")
    assert [file.name for file in files] == ["curves.png", "curves.json", "errors.html"]
    assert write_reports({}, data, tmp_path / "none") == []

    picture = Image.open(files[0])
    assert picture.size == (3 * 480, 480)
    assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50

    numbers = json.loads(files[1].read_text(encoding="utf-8"))
    assert numbers["en"]["figures"]["AP50_novel"] == evaluation.figures["AP50_novel"]
    for group in ("base", "novel", "all"):
        assert np.mean(numbers["en"]["precision"][group]) * 100 == pytest.approx(
            evaluation.figures[f"AP50_{group}"], abs=0.01
        )
    bus, umbrella, dog = numbers["en"]["classes"]
    assert bus == {"name": "<b>&bus", "novel": False, "objects": 1, "AP50": 0, "AP": 0}
    assert (umbrella["name"], umbrella["novel"], dog["objects"]) == ("umbrella", True, 6)
    assert {entry["name"] for entry in numbers["zh"]["classes"]} == set(NAMES["zh"])

    text = files[2].read_text(encoding="utf-8")
    page = Page(text)
    report = find_errors(evaluation)
    cards = {vocabulary: [card for card in page.cards if card["data-vocabulary"] == vocabulary] for vocabulary in NAMES}
    assert len(page.cards) == len(cards["en"]) + len(cards["zh"])
    assert len(cards["en"]) == len(report.errors)
    assert [card["data-kind"] for card in cards["zh"]] == ["missed"] * 9
    confused = next(card for card in cards["en"] if card["data-kind"] == "confused")
    assert "判为 <b>&bus · 公共汽车 0.700" in confused["text"]
    assert "实为 umbrella · 伞 (IoU 0.90)" in confused["text"]
    assert "图1.png, English names" in confused["text"]
    assert confused["data-words"] == "<b>&bus 公共汽车 umbrella 伞"
    assert ("b", {"lang": "zh"}) in page.tags
    assert ("html", {"lang": "en"}) in page.tags
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert len(page.sources) == len(page.cards)
    for source in page.sources:
        head, _, content = source.partition(",")
        assert head == "data:image/jpeg;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(content))).size) == 240


def test_numbers_of_absent_classes_are_nan() -> None:
    names = dict(enumerate(NAMES["zh"], start=1))
    numbers = curve_numbers(evaluate_boxes(truth([(1, 1, [0, 0, 9, 9])]), []), names)
    assert [entry["objects"] for entry in numbers["classes"]] == [1, 0, 0]
    assert np.isnan(numbers["classes"][-1]["AP50"])
    assert np.isnan(numbers["precision"]["novel"]).all()


class _Shown:
    """A detector that finds one thing in each image, and a data set of images."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"path": str(self.paths[index])}

    def eval(self) -> None:
        """Nothing to do."""

    def test_step(self, data: dict[str, Any]) -> list[Any]:
        found = InstanceData(
            bboxes=torch.tensor([[10.0, 10, 50, 40]]), scores=torch.tensor([0.9]), labels=torch.tensor([1])
        )
        return [SimpleNamespace(img_path=data["path"][0], pred_instances=found)]


def test_drawn_predictions_are_called_as_their_images(tmp_path: Path) -> None:
    """Images of one name get numbers; drawings of an earlier run do not stay among them."""
    paths = [tmp_path / "images" / name for name in ("街.png", "b/street.jpg", "c/Street.png", "street-1.png")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(path)
    shown, none = _Shown(paths), tmp_path / "none.json"
    data = DetectionData(["dog", "猫"], [], {"names": ["dog", "猫"]}, none, none, tmp_path, tmp_path)
    out = tmp_path / "predictions"
    out.mkdir()
    (out / "0.jpg").write_text("of an earlier run")
    files = draw_predictions(shown, shown, data, out)
    assert [file.name for file in files] == ["街.jpg", "street.jpg", "Street-1.jpg", "street-1-1.jpg"]
    assert sorted(out.glob("*.jpg")) == sorted(files)
    assert (out / "previous-1" / "0.jpg").is_file()
