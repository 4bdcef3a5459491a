"""``ovd_report.py`` from the command line: results of any detector, judged and explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps import ovd_report
from fgclip2.evaluation.average_precision import open_vocabulary_ap

BOX = [10, 10, 30, 30]


def files(root: Path, **fields: Any) -> dict[str, Any]:
    """Two pictures with a cat and an umbrella each; the results miss one umbrella and call one cat an umbrella."""
    content = {
        "images": [{"id": n, "file_name": f"图{n}.png", "width": 90, "height": 80, **fields} for n in (1, 2)],
        "annotations": [
            {
                "id": 2 * image + category,
                "image_id": image,
                "category_id": category,
                "bbox": [10 + 40 * category, 10, 30, 30],
            }
            for image in (1, 2)
            for category in (0, 1)
        ],
        "categories": [
            {"id": 0, "name": "cat", "name_zh": "猫", "frequency": "f"},
            {"id": 1, "name": "umbrella", "name_zh": "伞", "frequency": "r"},
        ],
    }
    for number in (1, 2):
        Image.new("RGB", (90, 80), "white").save(root / f"图{number}.png")
    found = [(1, 0, 10, 0.9), (1, 1, 50, 0.8), (2, 1, 10, 0.95)]
    results = [{"image_id": i, "category_id": c, "bbox": [x, 10, 30, 30], "score": score} for i, c, x, score in found]
    (root / "val.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (root / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (root / "none.json").write_text("[]", encoding="utf-8")
    return {"truth": content, "results": results}


def report(root: Path, *arguments: str) -> int:
    fixed = ["--annotations", str(root / "val.json"), "--images", str(root), "--out", str(root / "report")]
    return ovd_report.main([*arguments, *fixed])


def test_two_detectors_under_the_protocol_of_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = files(tmp_path)
    mine, none = str(tmp_path / "results.json"), str(tmp_path / "none.json")
    assert report(tmp_path, f"我们的={mine}", f"none={none}", "--novel", "umbrella") == 0
    printed = capsys.readouterr().out
    assert "2 pictures, 2 classes, COCO's protocol" in printed
    assert "base (1)" in printed
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert metrics["我们的"] == pytest.approx(open_vocabulary_ap(content["truth"], content["results"], ["umbrella"]))
    assert metrics["我们的"]["AP50_novel"] == pytest.approx(100 * 51 / 101 / 2)
    assert metrics["none"]["AP50_all"] == 0
    page = (tmp_path / "report" / "errors.html").read_text(encoding="utf-8")
    assert page.count('data-kind="confused"') == 1
    assert 'data-words="umbrella 伞 cat 猫"' in page
    assert (tmp_path / "report" / "curves.png").stat().st_size > 1000


def test_lvis_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, neg_category_ids=[], not_exhaustive_category_ids=[1])
    (tmp_path / "ids.json").write_text("[2]")
    assert report(tmp_path, str(tmp_path / "results.json"), "--image-ids", str(tmp_path / "ids.json")) == 0
    printed = capsys.readouterr().out
    assert "1 pictures, 2 classes, LVIS's protocol" in printed
    assert "novel (1)" in printed
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())["metrics"]["results"]
    assert (metrics["APr"], metrics["APf"], metrics["APc"]) == (0, 0, None)


def test_results_keep_the_names_that_people_give_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that a training run has for its own vocabularies."""
    files(tmp_path)
    given = [f"{name}={tmp_path / 'results.json'}" for name in ("shuffled", "zh", "en")]
    assert report(tmp_path, *given) == 0
    printed = capsys.readouterr().out
    page = (tmp_path / "report" / "errors.html").read_text(encoding="utf-8")
    curves = json.loads((tmp_path / "report" / "curves.json").read_text(encoding="utf-8"))
    for text in (printed, page):
        assert "control" not in text
        assert "Chinese names" not in text
    assert "shuffled" in printed
    assert page.count('data-kind="confused"') == 3
    assert curves["shuffled"] == curves["zh"] == curves["en"]


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path)
    (tmp_path / "foreign.json").write_text(
        json.dumps([{"image_id": 1, "category_id": 7, "bbox": BOX, "score": 0.5}]), encoding="utf-8"
    )
    good = str(tmp_path / "results.json")
    cases = {
        (good, f"results={good}"): "two results are called 'results'",
        (str(tmp_path / "nowhere.json"),): "does not exist",
        (str(tmp_path / "val.json"),): "looks like an annotation file",
        (str(tmp_path / "foreign.json"),): "category_id 7, which the annotation file does not have",
        (good, "--novel", "unicorn"): "no class unicorn",
    }
    for arguments, said in cases.items():
        assert report(tmp_path, *arguments) == 2
        printed = capsys.readouterr().err.strip()
        assert said in printed
        assert len(printed.splitlines()) == 1
    assert not (tmp_path / "report").exists()


def test_only_the_chosen_pictures_need_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And blanks around a category's name do not count, in any reader."""
    truth = files(tmp_path)["truth"]
    truth["categories"][0]["name"] = " cat "
    (tmp_path / "val.json").write_text(json.dumps(truth, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "图1.png").unlink()
    (tmp_path / "ids.json").write_text("[2]")
    arguments = (str(tmp_path / "results.json"), "--image-ids", str(tmp_path / "ids.json"), "--novel", "cat")
    assert report(tmp_path, *arguments) == 0
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))["metrics"]["results"]
    assert (metrics["AP50_novel"], metrics["AP50_base"]) == (0, 0)  # its one box calls the cat an umbrella
    assert report(tmp_path, *arguments[:1]) == 2
    assert "missing image" in capsys.readouterr().err
