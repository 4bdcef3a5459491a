"""``ovd_detect.py`` with other detectors' boxes: a results file or a stock detector, named by FG-CLIP 2."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import fgclip2
from apps import ovd_detect
from fgclip2.data.category_ids import category_ids
from fgclip2.data.coco import CocoCategory
from fgclip2.evaluation.average_precision import evaluate_boxes
from fgclip2.fusion import FusionConfig, FusionRescorer
from fgclip2.vocabulary import Vocabulary

NAMES = ["猫", "dog", "红色汽车"]


def detect(*arguments: Any) -> int:
    return ovd_detect.main([str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures, their objects, and a detector's boxes around them, all called dog."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images, objects, found = [], [], []
    for number in range(3):
        pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        images.append({"id": number + 5, "file_name": f"{number}.png", "width": 96, "height": 64})
        for _ in range(4):
            x, y, width, height = (*rng.uniform(0, 40, 2), *rng.uniform(8, 24, 2))
            box = [round(float(value), 2) for value in (x, y, width, height)]
            objects.append({"id": len(objects) + 1, "image_id": number + 5, "bbox": box, "iscrowd": 0})
            objects[-1] |= {"category_id": int(rng.integers(1, 4)) * 10, "area": box[2] * box[3]}
            moved = [box[0] + 1, box[1], box[2], box[3]]
            score = round(float(rng.uniform(0.2, 1)), 3)
            found.append({"image_id": number + 5, "category_id": 20, "bbox": moved, "score": score})
    categories = [{"id": 10 * (k + 1), "name": name} for k, name in enumerate(NAMES)]
    truth = {"images": images, "annotations": objects, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    (tmp_path / "found.json").write_text(json.dumps(found), encoding="utf-8")
    return tmp_path


def ap50(truth: Path, results: Path) -> tuple[float, float]:
    """AP50 and AP, by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * evaluation.stats[1], 100 * evaluation.stats[0]


def test_a_results_file_is_named_anew(data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "out"
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json")
    code = detect(data / "images", *files, "--model", tiny_dir, "--out", out, "--score-thr", 0.0)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    given = json.loads((data / "found.json").read_text(encoding="utf-8"))
    for result in results:
        boxes = [entry["bbox"] for entry in given if entry["image_id"] == result["image_id"]]
        assert min(np.abs(np.subtract(box, result["bbox"])).max() for box in boxes) < 1e-2
    # Names and scores are those that the rescorer gives when it is asked here.
    rescorer = FusionRescorer(fgclip2.load(tiny_dir, device="cpu"), NAMES, FusionConfig(nms_iou=0.7))
    for number in (5, 6, 7):
        own = [entry for entry in given if entry["image_id"] == number]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (entry["bbox"] for entry in own)]
        wanted = rescorer(data / "images" / f"{number - 5}.png", boxes, [entry["score"] for entry in own])
        kept = [result for result in results if result["image_id"] == number]
        assert [result["category_id"] for result in kept] == [10 * (label + 1) for label in wanted.labels.tolist()]
        np.testing.assert_allclose([result["score"] for result in kept], wanted.scores, atol=2e-6)
    for name, file in (("as given", data / "found.json"), ("fused", out / "results.json")):
        expected = " ".join(f"{value:.1f}" for value in ap50(data / "truth.json", file))
        row = next(line for line in printed.out.splitlines() if name in line)
        assert " ".join(row.replace("│", " ").split()) == f"{name} {expected}"
    entries = json.loads((out / "detections.json").read_text(encoding="utf-8"))
    assert [entry["picture"] for entry in entries] == ["0.png", "1.png", "2.png"]
    assert {label for entry in entries for label in entry["labels"]} <= set(NAMES)
    assert "pictures: " in printed.out


def test_names_of_the_file_are_matched_before_commas_cut(
    data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((data / "truth.json").read_text(encoding="utf-8"))
    content["categories"][1]["name"] = "Bow (weapon), toy"
    (data / "truth.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json", "--model", tiny_dir)
    common = (data / "images", *files, "--score-thr", 0.0)
    assert detect(*common, "--out", data / "out", "--no-contrast", "--classes", "猫, Bow (weapon), toy") == 0
    results = json.loads((data / "out" / "results.json").read_text(encoding="utf-8"))
    assert {result["category_id"] for result in results} <= {10, 20}
    labels = {
        label for entry in json.loads((data / "out/detections.json").read_text("utf-8")) for label in entry["labels"]
    }
    assert set() < labels <= {"猫", "Bow (weapon), toy"}
    capsys.readouterr()
    assert detect(*common, "--out", data / "none", "--classes", ", ，") == 2
    assert "no class names" in capsys.readouterr().err


@pytest.mark.parametrize("names", ["", "鸟, 树"])
def test_a_stopped_run_is_gone_on_with(
    names: str, data: Path, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was named before is left out, and the files are those of one run; 鸟 and 树 are no classes of the file."""
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json", "--model", tiny_dir)
    common = (data / "images", *files, "--score-thr", 0.3, *(("--classes", names) if names else ()))
    assert detect(*common, "--out", data / "whole") == 0
    named: list[str] = []
    whole = ovd_detect.open_image

    def stopped(path: Path) -> Image.Image:
        named.append(path.name)
        if named == ["0.png", "1.png", "2.png"]:
            raise KeyboardInterrupt
        return whole(path)

    monkeypatch.setattr(ovd_detect, "open_image", stopped)
    run = (*common, "--out", data / "parts", "--resume")
    assert detect(*run) == 130
    assert not (data / "parts").exists()
    capsys.readouterr()

    def same() -> None:
        for name in ("detections.json", *(["results.json"] if not names else []), "0.png", "1.png", "2.png"):
            assert (data / "parts" / name).read_bytes() == (data / "whole" / name).read_bytes(), name
        assert (data / "parts" / "results.json").exists() == (not names)

    assert detect(*run) == 0
    assert "2 pictures were done before" in capsys.readouterr().out
    assert named == ["0.png", "1.png", "2.png", "2.png"]
    same()
    assert detect(*run) == 0  # nothing is left to do
    assert len(named) == 4
    same()
    pixels = (data / "images" / "1.png").read_bytes()
    (data / "images" / "1.png").write_bytes(pixels)  # changed, as far as one can see
    assert detect(*run) == 0
    assert named[4:] == ["1.png"]
    if not names:
        assert (data / "parts" / "results.json").read_bytes() == (data / "whole" / "results.json").read_bytes()
        (data / "parts" / "results.json").unlink()  # as a run leaves it that was killed while it moved its files
        assert detect(*run) == 0
        assert (data / "parts" / "results.json").read_bytes() == (data / "whole" / "results.json").read_bytes()
        assert len(json.loads((data / "parts" / "detections.json").read_text(encoding="utf-8"))) == 3
    found = json.loads((data / "found.json").read_text(encoding="utf-8"))
    (data / "found.json").write_text(json.dumps(found[1:]), encoding="utf-8")
    assert detect(*run) == 2
    assert "results of other settings (detections)" in capsys.readouterr().err


def test_other_names_have_no_ids(data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "out"
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json")
    assert detect(data / "images", *files, "--model", tiny_dir, "--out", out) == 0
    assert (out / "results.json").exists()
    assert detect(data / "images", *files, "--model", tiny_dir, "--out", out, "--classes", "鸟, 树") == 0
    assert not (out / "results.json").exists()
    printed = capsys.readouterr().out
    assert "no ids in truth.json, so there is no results.json: 鸟, 树" in printed
    assert "other classes compete" in printed


def test_names_of_another_spelling_or_language_have_ids(
    data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DOG is dog by its spelling, 红车 is 红色汽车 by a synonym, 猫 is felis by name_zh; a unicorn is nothing."""
    truth = json.loads((data / "truth.json").read_text(encoding="utf-8"))
    truth["categories"][0] |= {"name": "felis", "name_zh": "猫"}
    (data / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    classes = [{"name": "DOG"}, {"name": "猫"}, {"name": "红车", "synonyms": ["红色汽车"]}, {"name": "独角兽"}]
    (data / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json")
    run = (data / "images", *files, "--model", tiny_dir, "--out", data / "out", "--score-thr", 0)
    assert detect(*run, "--classes-file", data / "classes.json") == 0
    printed = capsys.readouterr().out
    assert "no ids in truth.json, so they are not in results.json: 独角兽" in printed
    assert "on 3 pictures and 3 classes of truth.json" in printed
    ids = {"DOG": 20, "猫": 10, "红车": 30}
    wanted = [
        (ids[label], score)
        for entry in json.loads((data / "out" / "detections.json").read_text(encoding="utf-8"))
        for label, score in zip(entry["labels"], entry["scores"], strict=True)
        if label in ids
    ]
    results = json.loads((data / "out" / "results.json").read_text(encoding="utf-8"))
    assert [result["category_id"] for result in results] == [number for number, _ in wanted]
    np.testing.assert_allclose([result["score"] for result in results], [score for _, score in wanted], atol=1e-4)


def test_translations_have_the_ids_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table says that 狗 is a dog; of two classes for one category the one that bears its name has it."""
    monkeypatch.delenv("FGCLIP2_MODEL", raising=False)
    model = fgclip2.load("tiny", device="cpu")
    categories = [CocoCategory(7, "dog"), CocoCategory(9, "umbrella"), CocoCategory(3, "Pizza")]
    vocabulary = Vocabulary.build(model, ["狗", "pizza", "雨伞", "钢琴"])
    found = category_ids(vocabulary, categories)
    assert found.ids == {"pizza": 3, "狗": 7, "雨伞": 9}
    assert found.translated == {"狗": "dog", "雨伞": "umbrella"}
    assert found.without == ("钢琴",)
    several = Vocabulary.build(model, {"parasol": ["umbrella"], "umbrella": [], "披萨": ["pizza"]})
    assert category_ids(several, categories).ids == {"umbrella": 9, "披萨": 3}


def test_every_setting_of_fusion_is_an_option(data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json")
    run = (data / "images", *files, "--model", tiny_dir, "--out", data / "out", "--score-thr", 0)
    given = ("--temperature", 7, "--multi-label", "--max-patches", 9, "--max-detections", 5, "--nms-iou", 1)
    assert detect(*run, *given, "--exponent", 0.25) == 0
    printed = capsys.readouterr().out
    config = FusionConfig(7, 0.25, "several", 5, None, 9)
    rescorer = FusionRescorer(fgclip2.load(tiny_dir, device="cpu"), NAMES, config)
    found = json.loads((data / "found.json").read_text(encoding="utf-8"))
    results = json.loads((data / "out" / "results.json").read_text(encoding="utf-8"))
    cut = 0
    for number in (5, 6, 7):
        own = [entry for entry in found if entry["image_id"] == number]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (entry["bbox"] for entry in own)]
        wanted = rescorer(data / "images" / f"{number - 5}.png", boxes, [entry["score"] for entry in own])
        kept = [result["score"] for result in results if result["image_id"] == number]
        assert len(kept) == 5
        np.testing.assert_allclose(kept, wanted.scores, atol=2e-6)
        cut += wanted.cut
    assert f"{cut} boxes beyond the best 5 of a picture were left out" in printed


def test_a_part_of_the_classes_is_judged_by_itself(
    data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data / "out"
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json")
    assert detect(data / "images", *files, "--model", tiny_dir, "--out", out, "--classes", "dog") == 0
    printed = capsys.readouterr().out
    assert "1 classes" in printed
    truth = json.loads((data / "truth.json").read_text(encoding="utf-8"))
    truth["annotations"] = [item for item in truth["annotations"] if item["category_id"] == 20]
    (data / "dogs.json").write_text(json.dumps(truth), encoding="utf-8")
    row = next(line for line in printed.splitlines() if "as given" in line)
    assert f"{ap50(data / 'dogs.json', data / 'found.json')[0]:.1f}" in row


def test_lvis_is_judged_as_lvis(data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = json.loads((data / "truth.json").read_text(encoding="utf-8"))
    for image in truth["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": [20]}
    for number, category in enumerate(truth["categories"]):
        category["frequency"] = "rf"[number % 2]
    (data / "lvis.json").write_text(json.dumps(truth), encoding="utf-8")
    files = ("--detections", data / "found.json", "--annotations", data / "lvis.json")
    assert detect(data / "images", *files, "--model", tiny_dir, "--out", data / "out") == 0
    printed = capsys.readouterr().out
    assert "LVIS's protocol" in printed
    found = json.loads((data / "found.json").read_text(encoding="utf-8"))
    figures = [evaluate_boxes(truth, found, (), federated=by).figures["AP50_all"] for by in (True, False)]
    assert figures[0] != figures[1]
    row = next(line for line in printed.splitlines() if "as given" in line)
    assert f"{figures[0]:.1f}" in row
    judged = evaluate_boxes(truth, found, (), federated=True).figures
    cells = [cell.strip() for cell in row.replace("┃", "│").split("│") if cell.strip()]
    assert cells[1:] == [
        "-" if math.isnan(judged[key]) else f"{judged[key]:.1f}" for key in ("AP50_all", "AP_all", "APr", "APc", "APf")
    ]
    assert cells[3] != "-"
    assert cells[4] == "-"  # no class is common


def test_settings_are_all_that_results_depend_on(data: Path, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stock detector's results depend on the default model, and not on what another way of running it would take."""

    def settings(*more: str) -> dict[str, Any]:
        return ovd_detect.Arguments(inputs=(data,), classes="dog", detector=("a", *more)).settings()

    before = settings()
    assert before["model"] == "qihoo360/fg-clip2-base"
    assert not {"checkpoint", "config"} & before.keys()
    monkeypatch.setenv("FGCLIP2_MODEL", str(tiny_dir))
    assert settings()["model"][0] == str(tiny_dir.resolve())
    own = ovd_detect.Arguments(inputs=(data,), classes="dog").settings()
    assert own["model"] is None  # the checkpoint's
    assert "checkpoint" in own


def test_annotations_without_objects(data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As those of a test split: pictures and categories are all that is needed, and there is no AP."""
    truth = json.loads((data / "truth.json").read_text(encoding="utf-8"))
    del truth["annotations"]
    (data / "test.json").write_text(json.dumps(truth), encoding="utf-8")
    results = {}
    for name in ("truth", "test"):
        files = ("--detections", data / "found.json", "--annotations", data / f"{name}.json")
        assert detect(data / "images", *files, "--model", tiny_dir, "--out", data / name) == 0
        results[name] = (data / name / "results.json").read_text(encoding="utf-8")
        assert ("AP50" in capsys.readouterr().out) == (name == "truth")
    assert results["test"] == results["truth"]


def test_file_names_with_folders_stay_in_the_results(data: Path, tiny_dir: Path) -> None:
    """A name that is absolute, or climbs, must not let a drawn picture replace the original."""
    truth = json.loads((data / "truth.json").read_text(encoding="utf-8"))
    original = data / "images" / "0.png"
    before = original.read_bytes()
    truth["images"][0]["file_name"] = str(original)
    truth["images"][1]["file_name"] = "../images/1.png"
    (data / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    out = data / "out"
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json")
    assert detect(data / "images", *files, "--model", tiny_dir, "--out", out, "--score-thr", 0) == 0
    assert original.read_bytes() == before
    for entry in json.loads((out / "detections.json").read_text(encoding="utf-8")):
        assert (out / entry["picture"]).is_file()
        assert out.resolve() in (out / entry["picture"]).resolve().parents


@pytest.mark.slow
def test_a_stock_detector_finds_and_the_model_names(
    data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mmdet
    from mmengine.config import Config

    from fgclip2_mmdet.proposals import MMDetProposals

    shipped = Path(mmdet.__file__).parent / ".mim/configs/retinanet/retinanet_r18_fpn_1x_coco.py"
    cfg = Config.fromfile(shipped)
    cfg.test_dataloader.dataset.pipeline[1].scale = (160, 128)
    cfg.model.test_cfg.score_thr = 0.0
    cfg.dump(data / "own.py")
    torch.manual_seed(0)
    detector = MMDetProposals(data / "own.py", device="cpu").detector
    torch.save({"state_dict": detector.state_dict()}, data / "own.pth")
    stock = ("--detector", data / "own.py", data / "own.pth", "--model", tiny_dir, "--out", data / "out")
    assert detect(data / "images", *stock, "--classes", "猫, dog", "--score-thr", 0) == 0
    entries = json.loads((data / "out" / "detections.json").read_text(encoding="utf-8"))
    assert all(entry["boxes"] for entry in entries)
    assert {label for entry in entries for label in entry["labels"]} <= {"猫", "dog"}
    capsys.readouterr()
    assert detect(data / "images", *stock) == 2
    assert "--detector needs --classes" in capsys.readouterr().err


def test_results_are_not_written_over_the_pictures(
    data: Path, tiny_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--detections", data / "found.json", "--annotations", data / "truth.json")
    assert detect(data / "images", *files, "--model", tiny_dir, "--out", data / "images") == 2
    assert "would write over" in capsys.readouterr().err
    assert detect(data / "images" / "0.png", "--classes", "dog", "--out", data / "images") == 2
    assert "would write over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--detector", "a.py"), "CONFIG and CHECKPOINT"),
        (("--detector", "a.py", "b.pth", "--ask-for", "dog", "--classes", "dog"), "--ask-for would do nothing"),
        (("--detector", "a.py", "b.pth", "--classes", "dog"), "'a.py' does not exist"),
        (("--checkpoint", "x", "--detector", "a.py", "b.pth", "--classes", "dog"), "--checkpoint would do nothing"),
        (("--exponent", 0.3, "--classes", "dog"), "--exponent would do nothing"),
        (("--multi-label", "--max-detections", 9), "--multi-label and --max-detections would do nothing"),
        (("--temperature", 9, "--max-patches", 9), "--temperature and --max-patches would do nothing"),
        (("--detections", "r", "--annotations", "t", "--max-patches", 0), "--max-patches 0: give 1 or more"),
        (("--detections", "r", "--annotations", "t", "--temperature", 0), "temperature 0"),
        (("--detections", "r", "--annotations", "t", "--every", 2), "--every would do nothing"),
        (("--detections", "r", "--annotations", "t", "--tile", 64), "--tile would do nothing"),
        (("--detector", "images", "--classes", "dog"), "no zero-shot detector"),
        (("--detections", "found.json"), "belong together"),
        (("--annotations", "truth.json"), "belong together"),
        (("--detector", "a.py", "b.pth", "--detections", "r", "--annotations", "t"), "both given"),
        (("--detections", "nowhere.json", "--annotations", "truth.json"), "nowhere.json"),
        (("--detections", "truth.json", "--annotations", "truth.json"), "looks like an annotation file"),
        (("--detections", "found.json", "--annotations", "truth.json", "--exponent", 2), "exponent 2"),
    ],
)
def test_bad_arguments(
    data: Path,
    tiny_dir: Path,
    arguments: tuple[Any, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data)
    assert detect("images", *arguments, "--model", tiny_dir, "--out", "out") == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert not (data / "out").exists()
