"""``ovd_boxes.py``: detectors with random weights, an LVIS file in miniature, and the whole way to its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from apps import ovd_boxes
from fgclip2.evaluation.datasets import select
from fgclip2.evaluation.runner import run
from fgclip2.evaluation.scores import Settings
from fgclip2.zero_shot import ZeroShotProposals

FILE = "lvis/lvis_v1_minival_inserted_image_name.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with three pictures of LVIS minival."""
    base, rng = tmp_path / "data", np.random.default_rng(0)
    (base / "coco/val2017").mkdir(parents=True)
    (base / "lvis").mkdir()
    images, annotations = [], []
    for number in (1, 2, 3):
        name = f"{number:012}.jpg"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(base / "coco/val2017" / name)
        images.append({"id": number, "coco_url": f"http://images.cocodataset.org/val2017/{name}",
                       "neg_category_ids": [1, 2], "not_exhaustive_category_ids": []})  # fmt: skip
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, 60, 60], "area": 3600})
    categories = [{"id": 1, "name": "aerosol_can", "frequency": "r"}, {"id": 2, "name": "bus", "frequency": "f"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (base / FILE).write_text(json.dumps(content))
    return base


def export(root: Path, out: Path, *more: Any) -> int:
    common = [root / FILE, "--images", root / "coco", "--out", out, "--device", "cpu", *more]
    return ovd_boxes.main([str(word) for word in common])


def test_boxes_of_a_zero_shot_detector_go_the_whole_way(
    root: Path, owl: Path, tiny: fgclip2.FGCLIP2, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Stopped, gone on with, and judged; the boxes are those of the detector."""
    out = tmp_path / "predictions/lvis_minival.boxes.json"
    options = ("--detector", owl, "--threshold", 0.0, "--max-boxes", 7)
    whole, calls = ZeroShotProposals.__call__, []

    def stopped(self: ZeroShotProposals, images: Any) -> Any:
        if len(calls) == 2:
            calls.append("stop")
            raise KeyboardInterrupt
        calls.append(images)
        return whole(self, images)

    monkeypatch.setattr(ZeroShotProposals, "__call__", stopped)
    assert export(root, out, *options) == 130
    assert not out.exists()
    assert export(root, out, *options) == 0, capsys.readouterr().err
    assert len(calls) == 4  # two, the stop, and the third picture
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    printed = capsys.readouterr().out
    assert "2 pictures were done before" in printed
    assert "21 boxes of 3 pictures, at most 7 of one" in printed
    found = json.loads(out.read_text())
    assert {item["category_id"] for item in found} == {0}
    proposals = ZeroShotProposals(owl, ["aerosol can", "bus"], "cpu", 0.0, 7)
    with Image.open(root / "coco/val2017/000000000002.jpg") as picture:
        ((boxes, scores),) = whole(proposals, [picture.convert("RGB")])
    own = [item for item in found if item["image_id"] == 2]
    assert [item["score"] for item in own] == pytest.approx(scores.tolist(), abs=1e-5)
    left = [item["bbox"][0] for item in own]
    assert left == pytest.approx(boxes[:, [0, 2]].amin(1).tolist(), abs=1e-2)
    report = run(select(["lvis_minival"]), tiny, root, tmp_path / "out", Settings(predictions=out.parent))
    result = report.results["lvis_minival"]
    assert result["facts"]["detector_ap"].startswith("none")
    assert 0 <= result["metrics"]["ap"]["value"] <= 100
    assert result["failed"] == 0


def test_boxes_of_a_stock_detector(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RetinaNet with random weights; a picture that cannot be read has no boxes and is named."""
    import mmdet
    from mmengine.config import Config

    from fgclip2_mmdet.proposals import MMDetProposals

    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs/retinanet/retinanet_r18_fpn_1x_coco.py")
    cfg.test_dataloader.dataset.pipeline[1].scale = (160, 128)
    cfg.model.test_cfg.score_thr = 0.0
    cfg.dump(tmp_path / "own.py")
    torch.manual_seed(0)
    detector = MMDetProposals(tmp_path / "own.py", device="cpu").detector
    torch.save({"state_dict": detector.state_dict()}, tmp_path / "own.pth")
    (root / "coco/val2017/000000000003.jpg").write_bytes(b"no picture")
    out = tmp_path / "boxes.json"
    options = ("--detector", tmp_path / "own.py", tmp_path / "own.pth")
    assert export(root, out, *options, "--max-boxes", 20) == 0, capsys.readouterr().err
    printed = capsys.readouterr()
    assert "40 boxes of 2 pictures, at most 20 of one" in printed.out
    assert "1 pictures could not be read and have no boxes" in printed.out
    assert "000000000003.jpg" in printed.err
    assert {item["image_id"] for item in json.loads(out.read_text())} == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--detector", "a.py"), "CONFIG and CHECKPOINT"),
        (("--detector", "a.py", "b.pth", "--ask-for", "dog"), "--ask-for would do nothing with a stock detector"),
        (("--detector", "owl", "--max-boxes", 0), "--max-boxes 0"),
        (("--detector", "no/such/detector"), "no zero-shot detector"),
        (("--detector", "owl", "--images", "nowhere"), "'nowhere' is no folder"),
    ],
)
def test_what_is_refused(
    arguments: tuple[Any, ...], said: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert export(root, tmp_path / "boxes.json", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    # `export` gives --images and so on itself; an option given twice is noted.
    assert len([line for line in error.splitlines() if not line.startswith("note: ")]) == 1
