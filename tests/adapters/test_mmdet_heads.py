"""Scores and vocabularies: the ensemble's formula, classes as a matter of text, background, novel flags."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import roi_align

from fgclip2.errors import Fgclip2Error
from fgclip2.features import DenseFeatures
from fgclip2.predictor import FGCLIP2
from fgclip2.scoring import chunked_probabilities, geometric_ensemble, region_features
from fgclip2.vocabulary import Vocabulary
from fgclip2_mmdet import Ensemble, OpenVocabBBoxHead, OpenVocabRoIHead
from fgclip2_mmdet.ensemble import Regions, select_detections
from fgclip2_mmdet.vocabulary import ClassTexts, as_vocabulary, novel_flags, shuffled

CODER = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]}


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def softmax(regions: torch.Tensor, texts: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probabilities by numpy, in double precision."""
    logits = temperature * regions.double().numpy() @ texts.double().numpy().T
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return torch.from_numpy(shares / shares.sum(1, keepdims=True)).float()


def make_head(residual: bool = True) -> OpenVocabBBoxHead:
    torch.manual_seed(0)
    return OpenVocabBBoxHead(
        embed_dims=8, in_channels=4, roi_feat_size=3, hidden=16, residual=residual, bbox_coder=dict(CODER)
    )


def test_ensemble_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    head, dense = rng.dirichlet(np.ones(5), 7), rng.dirichlet(np.ones(5), 7)
    novel = np.array([False, True, False, True, False])
    weight = np.where(novel, 0.8, 0.1)
    expected = head ** (1 - weight) * dense**weight
    got = geometric_ensemble(torch.tensor(head), torch.tensor(dense), torch.tensor(novel), 0.1, 0.8)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_ensemble_survives_zero_probabilities() -> None:
    scores = geometric_ensemble(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([True, False]), 0.1, 0.8
    )
    assert torch.isfinite(scores).all()
    assert scores[0, 0] < 1e-30
    assert scores[0, 1] == pytest.approx(1)


def test_regions_are_the_cores() -> None:
    """RoIAlign on the detector's dense map gives what ``DenseFeatures.regions`` gives on the same tokens."""
    tokens = torch.randn(4 * 6, 8)
    boxes = torch.tensor([[3.0, 5.0, 60.0, 50.0], [0.0, 0.0, 96.0, 64.0]])
    expected = DenseFeatures.from_tokens(tokens, (4, 6), (96, 64)).regions(boxes)
    rois = torch.cat((torch.zeros(2, 1), boxes), 1)
    torch.testing.assert_close(region_features(tokens.T.unflatten(1, (4, 6))[None], rois), expected)


def test_regions_of_every_picture_of_a_batch() -> None:
    dense = torch.randn(3, 8, 4, 6, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[2, 3, 5, 60, 50], [0, 0, 0, 96, 64], [2, -9, 30, 40, 70]], dtype=torch.float32)
    expected = F.normalize(roi_align(dense, rois, 1, spatial_scale=1 / 16, aligned=True).flatten(1), dim=-1)
    torch.testing.assert_close(region_features(dense, rois), expected)
    assert region_features(dense, rois[:0]).shape == (0, 8)


@given(classes=st.integers(1, 12), chunk=st.integers(1, 13), rows=st.integers(0, 4), background=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_chunks_give_the_softmax(classes: int, chunk: int, rows: int, background: bool) -> None:
    regions, texts, last = unit(rows, 8), unit(classes, 8, seed=1), unit(1, 8, seed=2)
    every = torch.cat([texts, last]) if background else texts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fgclip2.scoring.CHUNK", chunk)
        rest = 20 * regions @ last[0] if background else None
        parts = list(chunked_probabilities(regions, texts, 20.0, rest))
    assert all(part.shape[1] <= chunk for part in parts)
    torch.testing.assert_close(torch.cat(parts, 1), softmax(regions, every, 20.0)[:, :classes])


def test_twenty_thousand_classes_are_scored_in_chunks() -> None:
    """The best pairs are those of the whole table, which is never made."""
    torch.manual_seed(0)
    head, count, rows = make_head(), 20_000, 30
    roi_head = SimpleNamespace(probabilities=head.probabilities, ensemble=Ensemble(objectness=0.5))
    texts = ClassTexts(
        Vocabulary(tuple(map(str, range(count))), unit(count, 8), "hash"), [i % 3 == 0 for i in range(count)]
    )
    regions = Regions(
        10 * torch.rand(rows, 4).cumsum(1), unit(rows, 8, seed=1), unit(rows, 8, seed=2), torch.rand(rows)
    )
    cfg = ConfigDict(score_thr=0.0, nms={"type": "nms", "iou_threshold": 1.0}, max_per_img=50, nms_pre=100)
    with torch.no_grad(), Largest() as largest:
        found = select_detections(regions.boxes, OpenVocabRoIHead.scores(roi_head, regions, texts), cfg)
    assert largest.numbers <= max(count * 8, rows * 2048)
    with torch.no_grad():
        classified = head.classify(regions.embeddings, texts.embeddings).softmax(-1)[:, :-1]
        dense = softmax(regions.dense, texts.embeddings, 75.0)
        whole = geometric_ensemble(classified, dense, texts.novel, 0.1, 0.8) * regions.objectness[:, None] ** 0.5
    best, pair = whole.flatten().topk(50)
    torch.testing.assert_close(found.scores, best)
    assert found.labels.tolist() == (pair % count).tolist()
    assert torch.equal(found.bboxes, regions.boxes[pair // count])


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_untrained_head_classifies_like_the_dense_map() -> None:
    head, dense, texts = make_head(), unit(6, 8), unit(5, 8, seed=1)
    raw, deltas, quality = head(torch.randn(6, 4, 3, 3))
    assert (deltas.shape, quality.shape) == ((6, 4), (6,))
    logits = head.classify(head.embed(raw, dense), texts)
    assert logits.shape == (6, 6)
    torch.testing.assert_close(logits[:, :5], head.log_scale.exp() * dense @ texts.T)


def test_autocast_rounds_no_logit() -> None:
    head, texts = make_head(), unit(5, 8, seed=1)
    embeddings = unit(6, 8, seed=2)
    expected = head.classify(embeddings, texts)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(head.classify(embeddings, texts), expected, rtol=0, atol=0)
        given = head(torch.randn(6, 4, 3, 3))
    assert {item.dtype for item in given} == {torch.float32}


def make_roi_head(rounds: int) -> OpenVocabRoIHead:
    """Of maps with four channels at strides 8 and 16, which stands two classes apart from each other."""
    sampler = {"type": "RandomSampler", "num": 8, "pos_fraction": 0.5, "add_gt_as_proposals": True}
    assigner = {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "match_low_quality": False}
    small = {"embed_dims": 8, "in_channels": 4, "roi_feat_size": 3, "hidden": 16, "bbox_coder": dict(CODER)}
    loss = {"type": "GIoULoss", "loss_weight": 1.0}
    torch.manual_seed(0)
    head = OpenVocabRoIHead(
        rounds=rounds,
        bbox_roi_extractor={
            "type": "FGCLIP2RoIExtractor",
            "roi_layer": {"output_size": 3},
            "out_channels": 4,
            "featmap_strides": [8, 16],
        },
        bbox_head={"type": "OpenVocabBBoxHead", "reg_decoded_bbox": True, "loss_bbox": loss, **small},
        train_cfg=ConfigDict(assigner=assigner, sampler=sampler, pos_weight=-1, debug=False),
        test_cfg=ConfigDict(),
    )
    head.set_train_texts(ClassTexts(Vocabulary(("dog", "猫"), unit(2, 8), "hash")))
    return head


def maps() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 12, 12), (2, 4, 6, 6), (2, 8, 6, 6))
    return tuple(torch.randn(*shape, generator=generator) for shape in shapes)


def test_two_rounds_refine_what_one_gives() -> None:
    head, x, metas = make_roi_head(1), maps(), [{"img_shape": (96, 96)}] * 2
    with torch.no_grad():
        head.bbox_head.fc_reg.bias.copy_(torch.tensor([0.8, -0.5, 0.4, -0.4]))
    boxes = [torch.tensor([[10.0, 12.0, 50.0, 60.0], [30.0, 20.0, 90.0, 95.0]]), torch.tensor([[5.0, 5.0, 40.0, 30.0]])]
    proposals = [InstanceData(bboxes=part, scores=torch.ones(len(part))) for part in boxes]
    once = head.regions(x, metas, proposals)
    again = [InstanceData(bboxes=part.boxes, scores=torch.ones(len(part.boxes))) for part in once]
    expected = head.regions(x, metas, again)
    head.rounds = 2
    for got, wanted, before in zip(head.regions(x, metas, proposals), expected, once, strict=True):
        for one, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, other)
        assert not torch.allclose(got.boxes, before.boxes)
        assert ((got.objectness > 0) & (got.objectness < 1)).all()


@pytest.mark.parametrize("rounds", [1, 2])
def test_quality_is_learned_of_boxes_with_an_object(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss is the mean cross-entropy between what the head says and the IoU that its box has."""
    head, x = make_roi_head(rounds), maps()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    whole = head.bbox_head.loss_quality.forward
    monkeypatch.setattr(
        head.bbox_head.loss_quality,
        "forward",
        lambda logits, wanted: seen.append((logits, wanted)) or whole(logits, wanted),
    )
    objects = torch.tensor([[12.0, 12.0, 52.0, 58.0]])
    samples = [DetDataSample(metainfo={"img_shape": (96, 96)}) for _ in range(2)]
    samples[0].gt_instances = InstanceData(bboxes=objects, labels=torch.tensor([1]))
    samples[1].gt_instances = InstanceData(bboxes=objects[:0], labels=torch.zeros(0, dtype=torch.int64))
    proposals = torch.tensor([[10.0, 12.0, 50.0, 60.0], [70.0, 70.0, 90.0, 90.0]])
    given = [InstanceData(bboxes=proposals, scores=torch.ones(2)) for _ in samples]
    losses = head.loss(x, given, samples)
    assert set(losses) == {"loss_cls", "acc", "loss_bbox", "loss_quality"}
    assert len(seen) == rounds
    expected = 0.0
    for logits, wanted in seen:
        share = logits.sigmoid()
        assert len(wanted) in (2, 3)  # the object itself, and what was near it; never the empty picture's
        expected += float(-(wanted * share.log() + (1 - wanted) * (1 - share).log()).mean().detach()) / rounds
    assert float(losses["loss_quality"]) == pytest.approx(expected, rel=1e-4)
    untrained = {round(float(value), 4) for value in seen[0][1]}
    overlap = 38 * 46 / (40 * 48 + 40 * 46 - 38 * 46)
    assert max(untrained) == pytest.approx(1, abs=0.05)
    assert min(untrained) == pytest.approx(overlap, abs=0.05)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    assert head.bbox_head.fc_quality.weight.grad.abs().sum() > 0


def test_regions_of_a_processor_are_those_of_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products on small maps, torchvision's own operation on large ones, in any order of the pictures."""
    extractor = make_roi_head(1).bbox_roi_extractor
    rois = torch.tensor([[1, 3.3, 5.1, 60, 50.7], [0, 0, 0, 96, 64.9], [1, -9, 30, 40.1, 70.3], [0, 7.7, 7.1, 8, 8]])
    expected = extractor(maps()[:2], rois)
    monkeypatch.setattr("fgclip2_mmdet.roi_extractor._CELLS", 0)
    torch.testing.assert_close(extractor(maps()[:2], rois), expected)
    assert extractor(maps()[:2], rois[:0]).shape == (0, 4, 3, 3)


def test_no_round_is_refused() -> None:
    with pytest.raises(Fgclip2Error, match="rounds 0: give 1 or more"):
        make_roi_head(0)


def test_head_without_residual_does_not_see_the_dense_map() -> None:
    head = make_head(residual=False)
    raw, _, _ = head(torch.randn(6, 4, 3, 3))
    assert torch.equal(head.embed(raw, unit(6, 8)), head.embed(raw, unit(6, 8, seed=3)))


def test_permuting_the_classes_permutes_the_logits() -> None:
    head, texts = make_head(), unit(5, 8, seed=1)
    order = torch.tensor([3, 0, 4, 1, 2])
    embeddings = unit(6, 8, seed=2)
    logits = head.classify(embeddings, texts)
    torch.testing.assert_close(head.classify(embeddings, texts[order]), torch.cat((logits[:, order], logits[:, 5:]), 1))


def test_class_specific_boxes_are_refused() -> None:
    with pytest.raises(Fgclip2Error, match="reg_class_agnostic"):
        OpenVocabBBoxHead(embed_dims=8, reg_class_agnostic=False)


def test_ensemble_settings_are_checked() -> None:
    assert (Ensemble().alpha, Ensemble().beta, Ensemble().temperature) == (0.1, 0.8, 75.0)
    with pytest.raises(Fgclip2Error, match="alpha"):
        Ensemble(alpha=1.5)


def test_detections_are_the_best_pairs_after_nms() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [50.0, 50.0, 60.0, 60.0]])
    scores = torch.tensor([[0.9, 0.2], [0.8, 0.3], [0.1, 0.7]])
    cfg = ConfigDict(score_thr=0.15, nms={"type": "nms", "iou_threshold": 0.5}, max_per_img=10)
    found = select_detections(boxes, scores, cfg)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert found.labels.tolist() == [0, 1, 1]
    assert found.bboxes.tolist() == [boxes[0].tolist(), boxes[2].tolist(), boxes[1].tolist()]
    cfg.max_per_img = 1
    assert len(select_detections(boxes, scores, cfg)) == 1
    assert len(select_detections(boxes[:0], scores[:0], cfg)) == 0


def test_vocabulary_of_another_model_is_refused(tiny: FGCLIP2) -> None:
    own = as_vocabulary(["dog", "红色汽车"], tiny)
    assert own.names == ("dog", "红色汽车")
    foreign = Vocabulary(own.names, own.embeddings, "0" * 64, "another")
    with pytest.raises(Fgclip2Error, match="another"):
        as_vocabulary(foreign, tiny)


def test_shuffled_names_keep_nothing_of_their_own(tiny: FGCLIP2) -> None:
    own = as_vocabulary(["dog", "猫", "bus", "tree", "汽车"], tiny)
    control = shuffled(own, seed=3)
    assert control.names == own.names
    assert sorted(control.embeddings.sum(1).tolist()) == sorted(own.embeddings.sum(1).tolist())
    assert not any(torch.equal(a, b) for a, b in zip(own.embeddings, control.embeddings, strict=True))


@pytest.mark.parametrize(
    ("novel", "expected"),
    [
        (None, [False, True, True]),
        (["bus"], [False, False, True]),
        ([], [False, False, False]),
        ([True, False, True], [True, False, True]),
    ],
)
def test_novel_flags(novel: list | None, expected: list[bool]) -> None:
    assert novel_flags(["dog", "猫", "bus"], ["dog"], novel) == expected


def test_novel_names_must_be_classes() -> None:
    with pytest.raises(Fgclip2Error, match="unicorn"):
        novel_flags(["dog"], [], ["unicorn"])
    with pytest.raises(Fgclip2Error, match="2 novel flags for 1"):
        novel_flags(["dog"], [], [True, False])
