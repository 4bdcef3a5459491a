"""The protocols on features and scores, against hand-made cases and independent implementations."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.retrieval import RetrievalHitRate
from torchvision.ops import box_iou as torchvision_box_iou

from fgclip2.data.coco_results import ImageResults
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.answers import agreement, plain
from fgclip2.evaluation.detection import lvis_ap
from fgclip2.evaluation.metrics import (
    bootstrap,
    bootstrap_mean,
    box_iou,
    choice_ranks,
    class_iou,
    class_ranks,
    ensemble,
    label_counts,
    mean_iou,
    retrieval_ranks,
)
from fgclip2.evaluation.records import Question
from fgclip2.evaluation.templates import IMAGENET


def unit(rows: int, seed: int, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=-1)


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=9), seed=st.integers(0, 99), chunk_size=st.integers(1, 40)
)
def test_retrieval_agrees_with_torchmetrics(counts: list[int], seed: int, chunk_size: int) -> None:
    image, text = unit(len(counts), seed), unit(sum(counts), seed + 1)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    to_text, to_image = retrieval_ranks(image, text, owner, chunk_size=chunk_size)
    scores = image @ text.T
    true = owner[None] == torch.arange(len(counts))[:, None]
    for depth in (1, 3):
        for ranks, table, target in ((to_text, scores, true), (to_image, scores.T, true.T)):
            rows = torch.arange(len(table))[:, None].expand_as(table)
            hits = RetrievalHitRate(top_k=depth)(table.flatten(), target.flatten(), indexes=rows.flatten())
            assert float((ranks < depth).float().mean()) == pytest.approx(float(hits))


def test_retrieval_of_pictures_that_cannot_be_read() -> None:
    """They are no answer, and what asks for them or by them is not answered."""
    image = torch.eye(3)
    text = torch.eye(3)[[0, 1, 1, 2]]
    owner = torch.tensor([0, 1, 1, 2])
    to_text, to_image = retrieval_ranks(image, text, owner, torch.tensor([True, False, True]))
    assert (to_text == 0).tolist() == [True, False, True]
    assert (to_image == 0).tolist() == [True, False, False, True]
    # Were the second picture in the gallery, it would come before the first one here.
    _, there = retrieval_ranks(image, torch.eye(3)[[1, 1, 2]], torch.tensor([0, 1, 2]))
    _, gone = retrieval_ranks(
        image, torch.eye(3)[[1, 1, 2]], torch.tensor([0, 1, 2]), torch.tensor([True, False, True])
    )
    assert int(there[0]) == 2  # one better, one as good
    assert int(gone[0]) == 1


def test_ties_count_against_or_for() -> None:
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    owner = torch.tensor([0, 1])
    assert [ranks.tolist() for ranks in retrieval_ranks(image, text, owner)] == [[1, 1], [0, 1]]
    assert [ranks.tolist() for ranks in retrieval_ranks(image, text, owner, ties="right")] == [[0, 0], [0, 1]]
    assert [ranks.tolist() for ranks in retrieval_ranks(image, text, owner, ties="last")] == [[1, 0], [0, 1]]
    scores = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.6, -torch.inf], [0.5, -torch.inf, -torch.inf], [torch.nan] * 3])
    assert (choice_ranks(scores) == 0).tolist() == [False, False, True, False]
    assert (choice_ranks(scores, "right") == 0).tolist() == [True, False, True, False]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=6), data=st.data(), chunk_size=st.integers(1, 9),
    depth=st.sampled_from([1, 2, 5]),
)  # fmt: skip
def test_of_equals_the_last_is_found_as_argsort_has_it(
    counts: list[int], data: st.DataObject, chunk_size: int, depth: int
) -> None:
    """Few different vectors, so that many scores are equal; the released evaluation looks at ``argsort()[-k:]``."""
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    kinds = st.integers(0, 2)
    image = torch.eye(3)[data.draw(st.lists(kinds, min_size=len(counts), max_size=len(counts)))]
    text = torch.eye(3)[data.draw(st.lists(kinds, min_size=len(owner), max_size=len(owner)))]
    to_text, to_image = retrieval_ranks(image, text, owner, ties="last", chunk_size=chunk_size)
    scores = image @ text.T
    for row, order in enumerate(scores.argsort(dim=1, stable=True)):
        assert bool(to_text[row] < depth) == bool((owner[order[-depth:]] == row).any())
    for row, order in enumerate(scores.T.argsort(dim=1, stable=True)):
        assert bool(to_image[row] < depth) == bool((order[-depth:] == owner[row]).any())


def test_of_equal_classes_the_first_is_found() -> None:
    """Names that stand twice have equal vectors: the first can be right, the second cannot, and nothing is rounding."""
    distinct = unit(40, 3, width=96)
    classes = torch.cat([distinct, distinct[:7]])
    ranks = class_ranks(distinct[:7].repeat(2, 1), classes, torch.cat([torch.arange(7), torch.arange(40, 47)]))
    assert ranks.tolist() == [0] * 7 + [1] * 7
    # Against argmax, which takes the first of equals.
    scores = torch.tensor([[2.0, 0], [0, 1]]) @ torch.tensor([[1.0, 0], [0, 1], [1, 0]]).T
    assert scores.argmax(1).tolist() == [0, 1]
    labels = torch.tensor([0, 1])
    assert (class_ranks(torch.eye(2), torch.eye(2)[[0, 1, 0]], labels) == 0).tolist() == [True, True]
    assert (class_ranks(torch.eye(2), torch.eye(2)[[0, 1, 0]], torch.tensor([2, 1])) == 0).tolist() == [False, True]


def test_retrieval_and_choices_refuse_what_does_not_fit() -> None:
    with pytest.raises(Fgclip2Error, match="owners must name every one of the 3 pictures, 0 to 2, at least once"):
        retrieval_ranks(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 1]))
    with pytest.raises(Fgclip2Error, match=r"give \(N, D\), \(T, D\), \(T,\)"):
        retrieval_ranks(torch.eye(3), torch.eye(4), torch.arange(4))
    with pytest.raises(Fgclip2Error, match="the true text's first"):
        choice_ranks(torch.ones(2, 1))
    with pytest.raises(Fgclip2Error, match="2 labels for 3 features"):
        class_ranks(torch.eye(3), torch.eye(3), torch.tensor([0, 1]))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 30), classes=st.integers(6, 12), seed=st.integers(0, 99), chunk_size=st.integers(1, 9))
def test_classes_agree_with_torchmetrics(rows: int, classes: int, seed: int, chunk_size: int) -> None:
    features, embeddings = unit(rows, seed), unit(classes, seed + 1)
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    ranks = class_ranks(features, embeddings, labels, chunk_size=chunk_size)
    for depth in (1, 5):
        wanted = MulticlassAccuracy(classes, top_k=depth, average="micro")(features @ embeddings.T, labels)
        assert float((ranks < depth).float().mean()) == pytest.approx(float(wanted))
    assert (class_ranks(features, embeddings, labels, torch.zeros(rows, dtype=torch.bool)) > classes).all()


def test_ensemble_is_the_unit_length_mean() -> None:
    prompts = unit(6, 0)
    wanted = np.stack([prompts[:3].numpy().mean(0), prompts[3:].numpy().mean(0)])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(ensemble(prompts, 3).numpy(), wanted, rtol=1e-6)


def test_the_80_prompts() -> None:
    assert len(set(IMAGENET)) == 80
    assert all(template.count("{}") == 1 for template in IMAGENET)
    for known in (
        "a bad photo of a {}.",
        "a photo of the hard to see {}.",
        "itap of my {}.",
        "the {} in a video game.",
        "a origami {}.",
        "a photo of many {}.",
        "art of the {}.",
        "a jpeg corrupted photo of the {}.",
        "the plushie {}.",
        "a photo of a {}.",
    ):
        assert known in IMAGENET


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), pictures=st.integers(1, 4))
def test_iou_agrees_with_torchmetrics(seed: int, pictures: int) -> None:
    rng = np.random.default_rng(seed)
    truth, given_labels = rng.integers(0, 4, (2, pictures, 6, 5))
    truth[:, :2] = rng.choice([0, 255], (pictures, 2, 5))
    counts = np.stack([label_counts(one, other, 4) for one, other in zip(given_labels, truth, strict=True)]).sum(0)
    metric = MulticlassJaccardIndex(4, average="none", ignore_index=255)
    wanted = metric(torch.from_numpy(given_labels), torch.from_numpy(truth)).numpy()
    occurs = np.array([(truth == number).any() for number in range(4)])
    found = class_iou(counts)
    np.testing.assert_allclose(found[occurs], wanted[occurs], rtol=1e-6)
    assert np.isnan(found[~occurs]).all()
    assert float(mean_iou(counts)) == pytest.approx(100 * wanted[occurs].mean(), rel=1e-6)


def test_label_counts_by_hand() -> None:
    truth = np.array([[0, 0, 1], [1, 9, 2]])
    predicted = np.array([[0, 1, 1], [7, 0, 0]])  # 7 is no class: it is missed, and in nobody's way
    assert label_counts(predicted, truth, 3).tolist() == [[1, 1, 0], [2, 2, 1], [2, 2, 0]]
    with pytest.raises(Fgclip2Error, match=r"shape \(2, 2\) for a true one of \(2, 3\)"):
        label_counts(predicted[:, :2], truth, 3)


def test_box_iou_agrees_with_torchvision() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 10, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 9, (40, 2))], 1)
    wanted = torchvision_box_iou(torch.from_numpy(boxes[:20]), torch.from_numpy(boxes[20:])).diagonal()
    found = [box_iou(one, other) for one, other in zip(boxes[:20].tolist(), boxes[20:].tolist(), strict=True)]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-9)
    assert box_iou([0, 0, 0, 5], [0, 0, 5, 5]) == 0


def test_bootstrap_has_the_width_of_the_binomial_and_keeps_pictures_together() -> None:
    values = np.repeat([0.0, 1.0], 200)
    low, high = bootstrap_mean(values, np.arange(400), samples=2000) or (0, 0)
    half = 1.96 * np.sqrt(0.25 / 400)
    assert low == pytest.approx(0.5 - half, abs=0.01)
    assert high == pytest.approx(0.5 + half, abs=0.01)
    # The same outcomes, but every picture has four: as if there were a quarter of them, so twice as wide.
    wide = bootstrap_mean(values, np.arange(400) // 4, samples=2000) or (0, 0)
    assert wide[1] - wide[0] == pytest.approx(2 * (high - low), rel=0.15)
    assert bootstrap_mean(values, np.arange(400), samples=50, seed=3) == bootstrap_mean(
        values, np.arange(400), samples=50, seed=3
    )
    assert bootstrap_mean(values[:1], np.zeros(1, int)) is None
    assert bootstrap(lambda weights: weights.sum(1), 5, samples=10) == (5, 5)


@pytest.mark.parametrize("seed", [0, 1])
def test_lvis_ap_is_cocos_where_everything_is_annotated(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corners = rng.uniform(0, 60, (count, 2))
        return np.concatenate([corners, corners + rng.uniform(10, 40, (count, 2))], 1)

    annotations, found, results = [], {}, []
    for image in range(1, 9):
        true = boxes(6)
        guesses = np.concatenate([true + rng.normal(0, 3, true.shape), boxes(4)])
        labels, scores = rng.integers(1, 4, 6), rng.uniform(0.1, 1, 10)
        named = np.concatenate([np.where(rng.uniform(size=6) < 0.8, labels, 1), rng.integers(1, 4, 4)])
        for box, label in zip(true.tolist(), labels.tolist(), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": bbox,
                                "area": bbox[2] * bbox[3], "iscrowd": 0})  # fmt: skip
        kept = ImageResults(guesses.astype(np.float32), scores.astype(np.float32), named)
        found[image] = kept
        for box, label, score in zip(kept.boxes.tolist(), named.tolist(), kept.scores.tolist(), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            results.append({"image_id": image, "category_id": label, "bbox": bbox, "score": score})
    truth = {
        "images": [
            {"id": n, "width": 99, "height": 99, "neg_category_ids": [1, 2, 3], "not_exhaustive_category_ids": []}
            for n in range(1, 9)
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": str(n), "frequency": "rcf"[n - 1]} for n in (1, 2, 3)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        ground = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(ground, ground.loadRes(results), "bbox")
        evaluation.params.maxDets = [300]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]
    figures = lvis_ap(truth, found)
    assert figures["ap"] == pytest.approx(100 * precision.mean(), abs=1e-6)
    assert figures["ap50"] == pytest.approx(100 * precision[0].mean(), abs=1e-6)
    for number, name in enumerate(("ap_rare", "ap_common", "ap_frequent")):
        assert figures[name] == pytest.approx(100 * precision[..., number].mean(), abs=1e-6)


def test_lvis_does_not_judge_what_was_not_looked_for() -> None:
    image = {"id": 1, "width": 99, "height": 99, "neg_category_ids": [], "not_exhaustive_category_ids": [1]}
    truth = {
        "images": [image],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100}],
        "categories": [{"id": 1, "name": "a", "frequency": "r"}, {"id": 2, "name": "b", "frequency": "f"}],
    }
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 80, 80]], np.float32)
    scores = np.array([0.5, 0.9, 0.8], np.float32)
    # The best box is of class 1, whose objects may not all be marked here; the next of class 2, not looked for.
    found = {1: ImageResults(boxes, scores, np.array([1, 1, 2]))}
    assert lvis_ap(truth, found)["ap"] == pytest.approx(100)
    exhaustive = {**truth, "images": [{**image, "not_exhaustive_category_ids": []}]}
    assert lvis_ap(exhaustive, found)["ap"] == pytest.approx(50, abs=0.5)
    nothing = {1: ImageResults(boxes[:0], scores[:0], np.zeros(0, np.int64))}
    figures = lvis_ap(truth, nothing)
    assert figures["ap"] == 0
    assert np.isnan(figures["ap_frequent"])


@settings(max_examples=50, deadline=None)
@given(people=st.lists(st.sampled_from(["stop", "The Stop!", "halt", "3", "three"]), min_size=10, max_size=10))
def test_agreement_is_the_mean_over_all_but_one(people: list[str]) -> None:
    question = Question("1", b"", "?", tuple(people))
    for given_answer in ("stop", "three", "nothing"):
        said = plain(given_answer)
        shares = []
        for left_out in range(10):
            others = [plain(answer) for number, answer in enumerate(people) if number != left_out]
            shares.append(min(1.0, others.count(said) / 3))
        assert agreement(given_answer, question) == pytest.approx(sum(shares) / 10)
