"""The one-stage head against plain computations: logits, probabilities, losses; and its way to a user's pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from PIL import Image
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import FGCLIP2
from fgclip2.vocabulary import Vocabulary
from fgclip2_mmdet import OpenVocabATSSHead
from fgclip2_mmdet.ensemble import Regions
from fgclip2_mmdet.inference import OpenVocabInferencer, read_config
from fgclip2_mmdet.runner import facts
from fgclip2_mmdet.vocabulary import ClassTexts

CONFIG = Path(__file__).resolve().parents[2] / "apps/configs/ovd/onestage_tiny_openmoji.py"
CHINESE = ["狗", "红色汽车", "猫"]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def make_head(texts: torch.Tensor | None = None, **changes: Any) -> OpenVocabATSSHead:
    """A head of two levels, 8 channels and embeddings of width 6."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    settings = ConfigDict(Config.fromfile(CONFIG).model.bbox_head)
    settings.update(embed_dims=6, in_channels=8, feat_channels=8, stacked_convs=1, **changes)
    settings.anchor_generator = {**settings.anchor_generator, "strides": [8, 16]}
    model = Config.fromfile(CONFIG).model
    head = MODELS.build({**settings, "train_cfg": model.train_cfg, "test_cfg": model.test_cfg})
    if texts is not None:
        head.set_train_texts(class_texts(texts))
    return head


def class_texts(embeddings: torch.Tensor, novel: list[bool] | None = None) -> ClassTexts:
    return ClassTexts(Vocabulary(tuple(f"类{i}" for i in range(len(embeddings))), embeddings, "0" * 64), novel)


def sample(height: int, width: int, boxes: list[list[float]], labels: list[int]) -> DetDataSample:
    shape = (height, width)
    made = DetDataSample(metainfo={"img_shape": shape, "pad_shape": shape, "ori_shape": shape, "scale_factor": (1, 1)})
    made.gt_instances = InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.tensor(labels).long())
    return made


def maps(batch: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Pyramid of strides 8 and 16, and a dense map."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(8, 8), (8, 16), (6, 16)]
    return tuple(
        torch.randn(batch, channels, height // stride, width // stride, generator=generator)
        for channels, stride in shapes
    )


def test_logits_are_scaled_cosines() -> None:
    head = make_head()
    with torch.no_grad():
        head.log_scale.fill_(np.log(20.0))
        head.margin.fill_(0.25)
    embeddings, texts = 3 * torch.randn(4, 6), unit(5, 6, seed=1)
    rows, columns = embeddings.double().numpy(), texts.double().numpy()
    cosine = np.array([[row @ column / np.linalg.norm(row) for column in columns] for row in rows])
    got = head.classify(F.normalize(embeddings, dim=-1), texts)
    np.testing.assert_allclose(got.detach().numpy(), 20 * (cosine - 0.25), rtol=1e-5, atol=1e-5)


def whole(chunks: Iterable[Tensor]) -> Tensor:
    return torch.cat(list(chunks), dim=1)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_probabilities_are_against_none_of_the_classes(sigmoid: bool) -> None:
    head = make_head(loss_cls={"type": "CrossEntropyLoss", "use_sigmoid": sigmoid})
    embeddings, texts = unit(4, 6), unit(5, 6, seed=1)
    odds = np.exp(head.classify(embeddings, texts).detach().double().numpy())
    expected = odds / (1 + odds) if sigmoid else odds / (1 + odds.sum(1, keepdims=True))
    got = whole(head.probabilities(embeddings, texts)).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 100))
def test_permuting_the_classes_permutes_the_scores(order: list[int], seed: int) -> None:
    head, texts, novel = make_head(), unit(5, 6, seed=seed), [True, False, False, True, False]
    regions = Regions(torch.zeros(7, 4), unit(7, 6, seed=seed + 1), unit(7, 6, seed=seed + 2), torch.rand(7))
    scores = whole(head.scores(regions, class_texts(texts, novel)))
    permuted = whole(head.scores(regions, class_texts(texts[order], [novel[i] for i in order])))
    torch.testing.assert_close(permuted, scores[:, order])
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_quality_is_multiplied_in() -> None:
    texts, parts = class_texts(unit(5, 6, seed=1)), (torch.zeros(3, 4), unit(3, 6), unit(3, 6, seed=2))
    head = make_head(ensemble={"objectness": 0.5})
    sure, unsure = (whole(head.scores(Regions(*parts, torch.full((3,), value)), texts)) for value in (1.0, 0.16))
    torch.testing.assert_close(unsure, 0.4 * sure)


def test_losses_are_the_formulas() -> None:
    """Without learned weights: boxes are the anchors, embeddings the dense map's regions, quality one number."""
    texts = unit(3, 6, seed=1)
    head = make_head(texts, negatives=0)
    with torch.no_grad():
        for last in (head.atss_reg, head.atss_quality):
            last.weight.zero_()
    x, objects = maps(1, 64, 96), [[4.0, 6.0, 40.0, 38.0], [50.0, 20.0, 94.0, 60.0]]
    with torch.no_grad():
        losses = head.loss(x, [sample(64, 96, objects, [2, 0])])

    anchors = torch.cat(head.prior_generator.grid_priors([(8, 12), (4, 6)], device="cpu"))
    truth = InstanceData(bboxes=torch.tensor(objects), labels=torch.tensor([2, 0]))
    assigned = head.assigner.assign(InstanceData(priors=anchors), [96, 24], truth).gt_inds
    positive = (assigned > 0).nonzero()[:, 0]
    assert len(positive) >= 4
    boxes, wanted = anchors[positive], truth.bboxes[assigned[positive] - 1]
    assert float(losses["loss_bbox"]) == pytest.approx(
        2 * float(torchvision.ops.generalized_box_iou_loss(boxes, wanted, reduction="mean")), rel=1e-5
    )
    probability = 0.01  # of the bias
    overlaps = torchvision.ops.box_iou(boxes, wanted).diagonal().numpy()
    cross = -(overlaps * np.log(probability) + (1 - overlaps) * np.log(1 - probability))
    found = (np.abs(overlaps - probability) ** 2 * cross).sum()
    missed = -(len(anchors) - len(positive)) * probability**2 * np.log(1 - probability)
    assert float(losses["loss_quality"]) == pytest.approx((found + missed) / len(positive), rel=1e-4)

    clipped = torchvision.ops.clip_boxes_to_image(boxes, (64, 96))
    pooled = torchvision.ops.roi_align(x[2], [clipped], 1, 1 / 16, aligned=True).flatten(1)
    logits = 50 * (F.normalize(pooled, dim=-1) @ texts.T - 0.3).double().numpy()
    labels = truth.labels[assigned[positive] - 1].numpy()
    normaliser = np.log(1 + np.exp(logits).sum(1))
    expected = (normaliser - logits[np.arange(len(labels)), labels]).mean()
    assert float(losses["loss_cls"]) == pytest.approx(expected, rel=1e-4)


def test_the_best_boxes_that_show_nothing_are_negatives() -> None:
    head = make_head(unit(3, 6), negatives=2)
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [30.0, 30, 50, 50], [60.0, 60, 80, 80], [0.0, 0, 90, 90]])
    quality = torch.tensor([0.9, 0.8, 0.2, 0.7, 0.1])
    objects = [InstanceData(bboxes=torch.tensor([[0.0, 0, 10, 12]])), InstanceData(bboxes=torch.zeros(0, 4))]
    candidates = torch.tensor([[True] * 5, [False, True, False, False, False]])
    chosen = head._hard_negatives(quality.expand(2, 5), boxes.expand(2, 5, 4), candidates, objects)
    assert chosen.tolist() == [[False, False, True, True, False], [False, True, False, False, False]]


@pytest.mark.parametrize("kind", [{"type": "CrossEntropyLoss"}, {"type": "FocalLoss", "use_sigmoid": True}])
def test_training_teaches_the_class(kind: dict[str, Any]) -> None:
    """A few steps on one picture: the object is found, with its class, and nothing else scores."""
    texts = unit(3, 6, seed=1)
    head = make_head(texts, loss_cls=kind)
    x, target = maps(1, 64, 96), sample(64, 96, [[8.0, 8.0, 40.0, 40.0]], [1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        sum(head.loss(x, [target]).values()).backward()
        optimizer.step()
    head.test_texts["main"] = class_texts(texts)
    with torch.no_grad():
        (found,) = head.predict(x, [target])
    assert int(found.labels[0]) == 1
    assert torchvision.ops.box_iou(found.bboxes[:1], target.gt_instances.bboxes).item() > 0.7
    far = torchvision.ops.box_iou(found.bboxes, target.gt_instances.bboxes)[:, 0] < 0.3
    assert far.sum() == 0 or found.scores[far].max() < found.scores[0] / 4


def test_padding_has_no_influence() -> None:
    head = make_head(unit(3, 6, seed=1)).eval()
    small, large = sample(32, 48, [[2.0, 2.0, 30.0, 28.0]], [0]), sample(64, 96, [[8.0, 8.0, 40.0, 40.0]], [1])
    alone, other = maps(1, 32, 48), maps(1, 64, 96, seed=1)
    together = tuple(torch.zeros(2, *level.shape[1:]) for level in other)
    for level, first, second in zip(together, alone, other, strict=True):
        level[0, :, : first.shape[2], : first.shape[3]] = first[0]
        level[1] = second[0]
    dense = together[-1]  # repeats a picture's edge into its padding, as the detector does
    dense[0, :, :2, 3:] = dense[0, :, :2, 2:3]
    dense[0, :, 2:] = dense[0, :, 1:2]
    with torch.no_grad():
        first, second = head.regions(together, [small.metainfo, large.metainfo])
        for found, x, made in ((first, alone, small), (second, other, large)):
            (expected,) = head.regions(x, [made.metainfo])
            for got, wanted in zip(found, expected, strict=True):
                torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
        joint = head.loss(together, [small, large])
        counts = [_positives(head, made) for made in (small, large)]
        apart = [head.loss(x, [made]) for x, made in ((alone, small), (other, large))]
    for name, value in joint.items():
        mean = sum(n * float(part[name]) for n, part in zip(counts, apart, strict=True)) / sum(counts)
        assert float(value) == pytest.approx(mean, rel=1e-4), name


def _positives(head: OpenVocabATSSHead, made: DetDataSample) -> int:
    height, width = made.img_shape
    sizes = [(height // stride, width // stride) for stride in (8, 16)]
    anchors = torch.cat(head.prior_generator.grid_priors(sizes, device="cpu"))
    levels = [rows * columns for rows, columns in sizes]
    return int((head.assigner.assign(InstanceData(priors=anchors), levels, made.gt_instances).gt_inds > 0).sum())


def test_several_anchors_a_position_are_refused() -> None:
    with pytest.raises(Fgclip2Error, match="2 anchors a position"):
        make_head(anchor_generator={"ratios": [0.5, 2.0]})


def test_a_checkpoint_finds_chinese_names(tiny_dir: Path, tiny: FGCLIP2, tmp_path: Path) -> None:
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.update(model=str(tiny_dir), dtype="float32")
    cfg.model.vocabulary = {"train": ["dog", "red car"]}
    cfg.model.test_cfg.score_thr = 0.0  # random weights are sure of nothing
    cfg.test_dataloader.dataset.pipeline[1].max_patches = 24
    cfg.dump(tmp_path / CONFIG.name)
    init_default_scope("mmdet")
    torch.manual_seed(0)
    trained = MODELS.build(cfg.model)
    torch.save({"state_dict": trained.state_dict(), "meta": {"fgclip2": facts(trained)}}, tmp_path / "epoch_1.pth")

    inferencer = OpenVocabInferencer.from_checkpoint(tmp_path, device="cpu")
    assert inferencer.classes == ("dog", "red car")
    assert inferencer.set_classes(CHINESE, contrast=False) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    (found,) = inferencer([Image.fromarray(pixels)], score_thr=0.0)
    assert set(found.labels) <= set(CHINESE)
    assert len(found.boxes) > 0
    (again,) = inferencer([Image.fromarray(pixels)], score_thr=0.0)
    np.testing.assert_array_equal(found.scores, again.scores)
    texts = inferencer.detector.text_head.test_texts["main"]
    torch.testing.assert_close(texts.embeddings, Vocabulary.build(tiny, CHINESE).embeddings)


def test_configs_of_other_detectors_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text('model = {"type": "FasterRCNN"}\ntest_dataloader = {}\n', encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="no config of an FG-CLIP 2 detector"):
        read_config(other)
    assert read_config(CONFIG).model.type == "FGCLIP2OneStageDetector"
