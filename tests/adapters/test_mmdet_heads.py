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
from mmengine.config import ConfigDict
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import roi_align

from fgclip2.errors import Fgclip2Error
from fgclip2.features import DenseFeatures
from fgclip2.predictor import FGCLIP2
from fgclip2.scoring import chunked_probabilities, geometric_ensemble, region_features, text_probabilities
from fgclip2.vocabulary import Vocabulary
from fgclip2_mmdet import Ensemble, OpenVocabBBoxHead, OpenVocabRoIHead
from fgclip2_mmdet.ensemble import Regions, select_detections
from fgclip2_mmdet.vocabulary import ClassTexts, as_vocabulary, novel_flags, shuffled

CODER = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]}


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


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


def test_text_probabilities_are_a_softmax_of_cosines() -> None:
    regions, texts = unit(3, 8), unit(5, 8, seed=1)
    logits = 75 * regions.double().numpy() @ texts.double().numpy().T
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(text_probabilities(regions, texts, 75.0).numpy(), expected, rtol=1e-4, atol=1e-7)


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
        patch.setattr("fgclip2_mmdet.scoring.CHUNK", chunk)
        rest = 20 * regions @ last[0] if background else None
        parts = list(chunked_probabilities(regions, texts, 20.0, rest))
    assert all(part.shape[1] <= chunk for part in parts)
    torch.testing.assert_close(torch.cat(parts, 1), text_probabilities(regions, every, 20.0)[:, :classes])


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
        dense = text_probabilities(regions.dense, texts.embeddings, 75.0)
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
    raw, deltas = head(torch.randn(6, 4, 3, 3))
    assert deltas.shape == (6, 4)
    logits = head.classify(head.embed(raw, dense), texts)
    assert logits.shape == (6, 6)
    torch.testing.assert_close(logits[:, :5], head.log_scale.exp() * dense @ texts.T)


def test_head_without_residual_does_not_see_the_dense_map() -> None:
    head = make_head(residual=False)
    raw, _ = head(torch.randn(6, 4, 3, 3))
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
