"""Fusion on stock mmdetection detectors: built from the configs it ships, random weights, the whole way to names."""

from __future__ import annotations

from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from PIL import Image

import fgclip2
from fgclip2 import Fgclip2Error
from fgclip2.fusion import FusionConfig, FusionInferencer, FusionRescorer
from fgclip2_mmdet.proposals import MMDetProposals

SHIPPED = Path(mmdet.__file__).parent / ".mim" / "configs"
SMALL = {"test_dataloader.dataset.pipeline.1.scale": (160, 128)}
# Random weights are sure of nothing, so every score must count.
DETECTORS = {
    "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py": {"model.test_cfg.rcnn.score_thr": 0.0},
    "retinanet/retinanet_r18_fpn_1x_coco.py": {"model.test_cfg.score_thr": 0.0},
}
NAMES = ["猫", "a red car", "umbrella", "公交车"]


@pytest.fixture(scope="module")
def model(tiny_dir: Path) -> fgclip2.FGCLIP2:
    return fgclip2.load(tiny_dir, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in ((96, 120), (64, 64))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("config", DETECTORS)
def test_stock_detectors_are_named(config: str, model: fgclip2.FGCLIP2, pictures: list[Image.Image]) -> None:
    torch.manual_seed(0)
    proposals = MMDetProposals(SHIPPED / config, device="cpu", max_boxes=50, cfg_options=SMALL | DETECTORS[config])
    inferencer = FusionInferencer(proposals, model, FusionConfig(temperature=20.0))
    with pytest.raises(Fgclip2Error, match="set_classes"):
        inferencer(pictures)
    inferencer.set_classes(NAMES)
    found = inferencer(pictures, score_thr=0.0)
    for image, detections, (boxes, scores) in zip(pictures, found, proposals(pictures), strict=True):
        assert 0 < len(detections) <= 50
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        assert set(detections.labels) <= set(NAMES)
        expected = FusionRescorer(model, NAMES, FusionConfig(temperature=20.0))(image, boxes, scores)
        np.testing.assert_allclose(detections.scores, expected.scores, rtol=1e-4)
        assert detections.labels == tuple(NAMES[label] for label in expected.labels.tolist())
        width, height = image.size
        assert detections.boxes.min() >= 0
        assert (detections.boxes <= [width, height, width, height]).all()
    half = sorted(found[0].scores)[len(found[0]) // 2]
    assert all(inferencer(pictures[:1], score_thr=float(half))[0].scores >= half)
    assert inferencer([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("config", DETECTORS)
def test_boxes_are_those_of_mmdetections_own_inference(
    config: str, pictures: list[Image.Image], tmp_path: Path
) -> None:
    from mmdet.apis import inference_detector, init_detector

    options = SMALL | DETECTORS[config]
    torch.manual_seed(0)
    peer = init_detector(str(SHIPPED / config), device="cpu", palette="random", cfg_options=options)
    proposals = MMDetProposals(SHIPPED / config, device="cpu", max_boxes=100, cfg_options=options)
    proposals.detector.load_state_dict(peer.state_dict())
    for image, (boxes, scores) in zip(pictures, proposals(pictures), strict=True):
        image.save(tmp_path / "a.png")
        expected = inference_detector(peer, str(tmp_path / "a.png")).pred_instances
        torch.testing.assert_close(scores, expected.scores.sort(descending=True).values)
        # Random weights give many equal scores, whose order means nothing.
        found, wanted = (sorted(map(tuple, tensor.round(decimals=2).tolist())) for tensor in (boxes, expected.bboxes))
        np.testing.assert_allclose(found, wanted, atol=0.05)


@pytest.mark.slow
def test_weights_are_loaded_strictly(tmp_path: Path, pictures: list[Image.Image]) -> None:
    config, options = next(iter(DETECTORS.items()))
    torch.manual_seed(0)
    first = MMDetProposals(SHIPPED / config, device="cpu", cfg_options=SMALL | options)
    stock = {
        "state_dict": {**first.detector.state_dict(), "data_preprocessor.mean": torch.zeros(3, 1, 1)},
        "meta": {"dataset_meta": {"CLASSES": ("cat", "狗")}},
        "message_hub": {"runtime_info": {"score": np.float64(1), "losses": np.ones(3)}},
    }
    torch.save(stock, tmp_path / "a.pth")
    torch.manual_seed(1)
    again = MMDetProposals(SHIPPED / config, tmp_path / "a.pth", device="cpu", cfg_options=SMALL | options)
    assert again.classes == ("cat", "狗")
    for one, other in zip(first(pictures), again(pictures), strict=True):
        torch.testing.assert_close(one, other)
    state = dict(first.detector.state_dict())
    state.pop("rpn_head.rpn_conv.weight")
    torch.save({"state_dict": state}, tmp_path / "b.pth")
    with pytest.raises(Fgclip2Error, match=r"does not fit the config.*rpn_conv"):
        MMDetProposals(SHIPPED / config, tmp_path / "b.pth", device="cpu")
    torch.save({"state_dict": {**state, "rpn_head.rpn_conv.weight": torch.zeros(2)}}, tmp_path / "c.pth")
    with pytest.raises(Fgclip2Error, match=r"does not fit the config.*rpn_conv"):
        MMDetProposals(SHIPPED / config, tmp_path / "c.pth", device="cpu")
    torch.save({"state_dict": state, "message_hub": HistoryBuffer([1.5], [1])}, tmp_path / "d.pth")
    with pytest.raises(Fgclip2Error, match=r"which may run code.*c\['state_dict'\]"):
        MMDetProposals(SHIPPED / config, tmp_path / "d.pth", device="cpu")


def test_bad_configs_are_named(tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match="does not exist"):
        MMDetProposals(tmp_path / "nowhere.py")
    (tmp_path / "empty.py").write_text("a = 1\n", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="no mmdetection config"):
        MMDetProposals(tmp_path / "empty.py")
    with pytest.raises(Fgclip2Error, match="wants texts"):
        MMDetProposals(SHIPPED / "glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py")
    (tmp_path / "odd.py").write_text(
        'model = dict(type="NoSuchDetector")\ntest_pipeline = [dict(type="PackDetInputs")]\n', encoding="utf-8"
    )
    with pytest.raises(Fgclip2Error, match="cannot be built: .*NoSuchDetector"):
        MMDetProposals(tmp_path / "odd.py")
    (tmp_path / "torn.py").write_text("model = (\n", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="cannot be read"):
        MMDetProposals(tmp_path / "torn.py")
    with pytest.raises(Fgclip2Error, match="max_boxes 0"):
        MMDetProposals(SHIPPED / next(iter(DETECTORS)), max_boxes=0)
