"""Class numbers inside NMS, in mmdetection's own code and in our heads: a class's place changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor

import fgclip2_mmdet  # noqa: F401  (installs the exact NMS)
from fgclip2_mmdet.ensemble import select_detections

BOXES = torch.tensor(
    [
        [103.0, 100, 113, 110],
        [103, 100, 115, 110],
        [303, 300, 311, 308],
        [306, 301, 313, 309],
        [900, 600, 1000, 700],
    ]
)
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
KEPT = [0, 2, 3, 4]
NMS = {"type": "nms", "iou_threshold": 0.7}


def scores_of(label: int, classes: int) -> Tensor:
    scores = torch.zeros(len(BOXES), classes)
    scores[:, label] = SCORES
    return scores


@pytest.mark.parametrize("label", [0, 10_000, 19_999])
def test_our_heads_keep_the_same_boxes_of_every_class(label: int) -> None:
    cfg = {"score_thr": 0.05, "nms": NMS, "max_per_img": 100}
    found = select_detections(BOXES, scores_of(label, 20_000), cfg)
    assert found.bboxes.tolist() == BOXES[KEPT].tolist()
    assert found.scores.tolist() == SCORES[KEPT].tolist()
    assert found.labels.tolist() == [label] * 4


@pytest.mark.parametrize("label", [0, 1202, 19_999])
def test_mmdetections_own_heads_keep_the_same_boxes_of_every_class(label: int) -> None:
    from mmdet.models.layers import multiclass_nms

    scores = torch.cat([scores_of(label, 20_000), torch.zeros(len(BOXES), 1)], 1)  # background last
    found, labels = multiclass_nms(BOXES, scores, 0.05, ConfigDict(NMS), 100)
    assert found[:, :4].tolist() == BOXES[KEPT].tolist()
    assert labels.tolist() == [label] * 4


@pytest.mark.parametrize(
    "name",
    ["mmcv.ops", "mmcv.ops.nms", "mmdet.models.dense_heads.rpn_head", "mmdet.models.dense_heads.base_dense_head"],
)
def test_every_module_has_the_exact_one(name: str) -> None:
    import importlib

    from fgclip2_mmdet.exact_nms import batched_nms

    assert importlib.import_module(name).batched_nms is batched_nms


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_num": 3},
        {"score_threshold": 0.55},
        {"offset": 1},
        {"split_thr": 2},
        {"type": "soft_nms", "min_score": 0.05},
        {"type": "soft_nms", "min_score": 0.05, "method": "gaussian"},
    ],
)
def test_few_classes_of_a_small_image_are_as_mmcvs(more: dict[str, object]) -> None:
    from fgclip2_mmdet import exact_nms

    generator = torch.Generator().manual_seed(1)
    corner = torch.randint(0, 30, (60, 2), generator=generator).float()
    boxes = torch.cat([corner, corner + torch.randint(4, 20, (60, 2), generator=generator)], 1)
    scores = torch.randperm(60, generator=generator) / 60
    labels = torch.arange(60) % 3
    settings = {"type": "nms", "iou_threshold": 0.43, **more}
    given, kept = exact_nms.batched_nms(boxes, scores, labels, dict(settings))
    settings.pop("split_thr", None)
    expected, index = exact_nms._original(boxes, scores, labels, dict(settings))
    if settings["type"] == "nms":
        assert kept.tolist() == index.tolist()
        assert torch.equal(given, expected)
    else:  # scores fall by float32 overlaps, of boxes at another place
        most = {int(i): float(s) for i, s in zip(index, expected[:, -1], strict=True)}
        for row, score in zip(kept.tolist(), given[:, -1].tolist(), strict=True):
            assert score == pytest.approx(most[row], abs=1e-4)
        assert all(a >= b for a, b in itertools.pairwise(given[:, -1].tolist()))


def test_soft_nms_moves_no_box_either() -> None:
    from mmcv.ops import batched_nms

    settings = {"type": "soft_nms", "iou_threshold": 0.7, "min_score": 0.05}
    first = batched_nms(BOXES, SCORES, torch.zeros(5, dtype=torch.int64), settings)
    last = batched_nms(BOXES, SCORES, torch.full((5,), 19_999), settings)
    assert last[1].tolist() == first[1].tolist()
    assert torch.equal(last[0], first[0])
