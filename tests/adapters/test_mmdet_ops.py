"""The stand-in for mmcv's compiled extension: equal to torchvision and to the formulas, loud where it ends."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision

import fgclip2_mmdet  # noqa: F401  (installs the stand-in)
from fgclip2.errors import Fgclip2Error
from fgclip2_mmdet import ops

pytestmark = pytest.mark.skipif(not ops.is_standin(), reason="a compiled mmcv is installed and used instead")


def boxes_and_scores(count: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    return torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 20), 1), torch.rand(
        count, generator=generator
    )


def test_nms_is_torchvisions() -> None:
    from mmcv.ops import nms

    boxes, scores = boxes_and_scores()
    detections, kept = nms(boxes, scores, 0.4)
    assert kept.tolist() == torchvision.ops.nms(boxes, scores, 0.4).tolist()
    assert torch.equal(detections, torch.cat((boxes[kept], scores[kept, None]), 1))
    assert 0 < len(kept) < len(boxes)


def test_batched_nms_keeps_classes_apart() -> None:
    from mmcv.ops import batched_nms

    boxes, scores = boxes_and_scores()
    classes = torch.arange(len(boxes)) % 3
    _, kept = batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.4})
    assert kept.tolist() == torchvision.ops.batched_nms(boxes, scores, classes, 0.4).tolist()
    _, agnostic = batched_nms(boxes, scores, classes, {"type": "nms", "iou_threshold": 0.4, "class_agnostic": True})
    assert len(agnostic) < len(kept)


def test_nms_offset_counts_the_last_pixel() -> None:
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [5.0, 0.0, 14.0, 9.0]])
    # widths 10, overlap 5: IoU 50/150; without the last pixel 4*9/(81+81-36)
    scores = torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.3, offset=1)[1]) == 1
    assert len(nms(boxes, scores, 0.3, offset=0)[1]) == 2


@pytest.mark.parametrize(("method", "expected"), [("linear", 1 - 1 / 3), ("gaussian", math.exp(-(1 / 9) / 0.5))])
def test_soft_nms_lowers_the_second_score(method: str, expected: float) -> None:
    from mmcv.ops import soft_nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    detections, kept = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.3, sigma=0.5, method=method)
    by_box = dict(zip(kept.tolist(), detections[:, 4].tolist(), strict=True))
    assert by_box == pytest.approx({0: 0.9, 1: 0.8 * expected, 2: 0.7})


def test_nms_match_groups() -> None:
    from mmcv.ops import nms_match

    dets = torch.tensor([[0, 0, 10, 10, 0.5], [0, 0, 10, 9, 0.9], [50, 50, 60, 60, 0.7]])
    assert [group.tolist() for group in nms_match(dets, 0.5)] == [[1, 0], [2]]


def test_roi_align_and_its_gradient() -> None:
    from mmcv.ops import RoIAlign

    features = torch.randn(2, 3, 12, 10, requires_grad=True)
    rois = torch.tensor([[0, 4.0, 4.0, 60.0, 70.0], [1, 10.0, 0.0, 40.0, 90.0]])
    ours = RoIAlign(5, 1 / 8, 2)(features, rois)
    theirs = torchvision.ops.roi_align(features, rois, 5, 1 / 8, 2, True)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((out * weight).sum(), features)[0] for out in (ours, theirs)]
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(*gradients)


def test_focal_loss_is_torchvisions() -> None:
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.randn(6, 4, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, 4])  # 4 is background
    ours = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "sum")
    one_hot = torch.nn.functional.one_hot(target, 5)[:, :4].float()
    theirs = torchvision.ops.sigmoid_focal_loss(logits, one_hot, 0.25, 2.0, "sum")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_missing_op_imports_and_names_itself_when_called() -> None:
    from mmcv.ops import box_iou_rotated

    with pytest.raises(Fgclip2Error, match=r"'box_iou_rotated'.*compile mmcv.*pip install"):
        box_iou_rotated(torch.zeros(1, 5), torch.zeros(1, 5))


def test_install_again_changes_nothing() -> None:
    import sys

    before = sys.modules[ops.EXTENSION]
    assert ops.install() is True
    assert sys.modules[ops.EXTENSION] is before
