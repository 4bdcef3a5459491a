"""Pictures of the worst failures: which ones, in which order, and what the page shows."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from fgclip2.cli import main
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation import worst as pages
from fgclip2.evaluation.datasets import BENCHMARKS, select
from fgclip2.evaluation.runner import open_task, run
from fgclip2.evaluation.scores import Scores, Settings
from fgclip2.evaluation.worst import Miss, beaten, page
from tests.evaluation.colours import ColourEncoder, picture
from tests.evaluation.miniatures import MINIATURES, make


def judged(name: str, folder: Path, worst: int = 20, protocol: str = "strict") -> Scores:
    root, predictions = make(name, folder)
    settings = Settings(protocol, samples=10, predictions=predictions, worst=worst)  # type: ignore[arg-type]
    return open_task(BENCHMARKS[name], root, settings).score(ColourEncoder())  # type: ignore[arg-type]


def told(scores: Scores) -> list[tuple[str, str, str, str | None, float]]:
    return [
        (miss.image.name, miss.true, miss.chosen, miss.found and miss.found.name, round(miss.margin, 5))
        for miss in scores.worst
    ]


@pytest.mark.parametrize(("name", "red"), [("coco_box", ("blue", "green")), ("boxclass_cn", ("蓝色", "绿色"))])
def test_regions(name: str, red: tuple[str, str], tmp_path: Path) -> None:
    """The green region is called blue; the one outside its picture is a failure, and no picture could show it."""
    scores = judged(name, tmp_path)
    assert told(scores) == [("000000000007.jpg", *red, None, 1.0)]
    assert scores.worst[0].box == (32, 0, 64, 32)
    assert len(scores.failures) == 1


def test_texts_of_regions(tmp_path: Path) -> None:
    """A green region that is called red, and one with a false text that says the same: a tie, wrong when strict."""
    picture = "000000000001.jpg"
    wrong = (picture, "a red thing", "a green thing", None, 1.0)
    tie = (picture, "A green box", "a GREEN BOX", None, 0.0)
    assert told(judged("fgovd", tmp_path)) == [wrong, tie]
    assert told(judged("fgovd", tmp_path, worst=1)) == [wrong]
    assert told(judged("fgovd", tmp_path, worst=0)) == []
    assert told(judged("fgovd", tmp_path, protocol="released")) == [wrong]


def test_retrieval_in_both_directions(tmp_path: Path) -> None:
    """The blue picture's captions find the green one, by 1; and neither picture finds its own caption, by 0."""
    found = told(judged("lit_cn", tmp_path))
    said = "一个绿色的方块，占满整幅画面。"
    assert found[0] == ("2.jpg", said, "", "1.jpg", 1.0)
    assert {(name, true, found, margin) for name, true, _, found, margin in found[1:]} == {
        ("1.jpg", said, None, 0.0),
        ("2.jpg", said, None, 0.0),
    }
    assert len(told(judged("coco", tmp_path))) == 5 + 2  # five captions of the blue picture


def test_classes(tmp_path: Path) -> None:
    found = told(judged("imagenet", tmp_path))
    assert found == [("ILSVRC2012_val_00000003.JPEG", "green", "blue", None, 1.0)]
    assert told(judged("imagenet_v2", tmp_path)) == []  # the only wrong one is no picture


def test_the_most_beaten_are_found_in_parts() -> None:
    """Against plain numpy, with several right candidates, some that cannot be found, and chunks of three."""
    rng = np.random.default_rng(0)
    queries, candidates = (rng.normal(size=(count, 8)).astype(np.float32) for count in (20, 12))
    right, usable, rows = rng.random((20, 12)) < 0.2, rng.random(12) < 0.8, rng.random(20) < 0.7
    right[np.arange(20), np.flatnonzero(usable)[np.arange(20) % usable.sum()]] = True
    scores = np.where(usable, queries @ candidates.T, -np.inf)
    wrong, own = np.where(right, -np.inf, scores), np.where(right, scores, -np.inf)
    margins = wrong.max(1) - own.max(1)
    wanted = [row for row in np.argsort(-margins) if rows[row]][:6]
    found = beaten(
        torch.from_numpy(queries), torch.from_numpy(candidates), lambda part: torch.from_numpy(right)[part],
        torch.from_numpy(rows), 6, torch.from_numpy(usable), chunk_size=3,
    )  # fmt: skip
    assert [item.row for item in found] == wanted
    assert [item.wrong for item in found] == wrong.argmax(1)[wanted].tolist()
    assert [item.right for item in found] == own.argmax(1)[wanted].tolist()
    assert [item.margin for item in found] == pytest.approx(margins[wanted].tolist(), abs=1e-5)


def embedded_pictures(html: str) -> list[Image.Image]:
    found = re.findall(r"data:image/jpeg;base64,([^\"]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_the_page_shows_box_texts_and_both_pictures(tmp_path: Path) -> None:
    """A box stays where it is when its picture is shrunk, and what texts say cannot become HTML."""
    large = picture(tmp_path / "a<b>.png", "red", "green", size=720)  # 1440 x 720, shown as 360 x 180
    other = picture(tmp_path / "b.png", "blue")
    misses = [
        Miss(large, "<b>红色 & red</b>", 0.25, "绿色", box=(720, 0, 1440, 720)),
        Miss(large, "a caption", 0.125, found=other),
    ]
    html = page("COCO & 盒子", misses)
    assert "<title>COCO &amp; 盒子</title>" in html
    assert "&lt;b&gt;红色 &amp; red&lt;/b&gt;" in html
    assert "<b>红色" not in html
    assert "+0.250" in html
    assert "+0.125" in html
    assert html.count("chosen 所选") == 2
    assert html.count("text 文本") == 1
    first, second, third = (np.asarray(item.convert("RGB")) for item in embedded_pictures(html))
    assert first.shape == second.shape == (180, 360, 3)
    assert third.shape == (32, 32, 3)
    changed = np.abs(first.astype(int) - second.astype(int)).max(2) > 60
    columns = np.flatnonzero(changed.any(0))
    assert columns.min() == pytest.approx(180, abs=8)  # JPEG's blocks are 8 wide
    assert columns.max() == pytest.approx(359, abs=1)
    assert changed[60:120, 190:350].mean() < 0.05  # nothing is drawn inside but the label above


def test_a_missing_font_costs_the_picture_and_not_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_font(*_: object) -> None:
        raise Fgclip2Error("no font here can draw '红色'; install one")

    monkeypatch.setattr(pages, "draw_boxes", no_font)
    html = page("盒子", [Miss(picture(tmp_path / "a.png", "red"), "红色", 0.5, "绿色", box=(0, 0, 9, 9))])
    assert "no font here can draw" in html
    assert "绿色" in html


def test_a_run_writes_the_pages_and_links_them(
    tiny: fgclip2.FGCLIP2, tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    for name in ("coco", "boxclass_cn"):
        MINIATURES[name].write(root, tmp_path)
    report = run(select(["coco", "boxclass_cn"]), tiny, root, out, Settings(samples=10, worst=2))
    for name, result in report.results.items():
        shown = (out / f"{name}.worst.html").read_text(encoding="utf-8").count("<li>")
        assert shown == result["worst"] <= 2
    assert "(coco.worst.html)" in report.table
    arguments = ["eval", "--tasks", "coco", "--model", str(tiny_dir), "--data-root", str(root), "--out", str(out)]
    assert main([*arguments, "--samples", "10", "--worst", "0"]) == 0
    assert not (out / "coco.worst.html").exists()
    assert json.loads((out / "coco.json").read_text(encoding="utf-8"))["worst"] == 0
    capsys.readouterr()
    assert main([*arguments, "--worst", "-1"]) == 2
    assert capsys.readouterr().err == "error: --worst -1: give a number of pictures, such as 20, or 0 for none\n"
