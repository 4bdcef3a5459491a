"""Fusion: against the formula in numpy, independent of chunks and of the order of boxes; bad input is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import box_iou

import fgclip2
from fgclip2 import Fgclip2Error
from fgclip2.fusion import Detections, FusionConfig, FusionInferencer, FusionRescorer, best_classes
from fgclip2.vocabulary import Vocabulary

NAMES = ["cat", "红色汽车", "umbrella", "公交车", "dog"]
BOXES = [[0, 0, 40, 30], [10, 5, 60, 45], [11, 6, 60, 46], [30, 20, 70, 60]]
SCORES = [0.9, 0.5, 0.4, 0.05]


@pytest.fixture(scope="module")
def model(tiny_dir: Path) -> fgclip2.FGCLIP2:
    return fgclip2.load(tiny_dir, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8))


@pytest.mark.parametrize("padded", [False, True])
def test_a_batch_has_the_features_of_its_pictures(
    padded: bool, model: fgclip2.FGCLIP2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order, and padded as on a GPU."""
    rng = np.random.default_rng(1)
    sizes = [(64, 80), (300, 200), (90, 40), (64, 64), (210, 280)]
    pictures = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    single = [model.dense_features(image) for image in pictures]
    monkeypatch.setattr(model.model.vision_model, "leaves_padding_out", not padded)
    assert len({model.processor.image.budget([image], None) for image in pictures}) < len(pictures)
    for one, other in zip(single, model.dense_features_of(pictures), strict=True):
        assert one.image_size == other.image_size
        torch.testing.assert_close(one.map, other.map, atol=1e-5, rtol=0)
    assert model.dense_features_of([]) == []

    def proposals(images: Sequence[Image.Image]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(torch.tensor(BOXES), torch.tensor(SCORES)) for _ in images]

    inferencer = FusionInferencer(proposals, model)
    inferencer.set_classes(NAMES)
    rescorer = FusionRescorer(model, NAMES)
    for image, found in zip(pictures, inferencer(pictures, 0.0), strict=True):
        wanted = rescorer(image, BOXES, SCORES).above(0.0)
        assert found.labels == wanted.labels
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-3)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def formula(regions: np.ndarray, texts: np.ndarray, scores: np.ndarray, temperature: float, e: float) -> np.ndarray:
    """(M, C) in float64, as it is written down."""
    logits = temperature * regions.astype(float) @ texts.astype(float).T
    power = np.exp(logits - logits.max(1, keepdims=True))
    own = scores.astype(float)
    return (own[:, None] if own.ndim == 1 else own) ** (1 - e) * (power / power.sum(1, keepdims=True)) ** e


@given(
    boxes=st.integers(0, 6),
    classes=st.integers(1, 9),
    count=st.integers(1, 9),
    chunk=st.integers(1, 10),
    exponent=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    per_class=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_chunks_give_the_formula(
    boxes: int, classes: int, count: int, chunk: int, exponent: float, per_class: bool
) -> None:
    """float32 against float64; logits reach 20, so exp amplifies their rounding to some 1e-5."""
    count = min(count, classes)
    regions, texts = unit(boxes, 16), unit(classes, 16, seed=1)
    scores = torch.rand((boxes, classes) if per_class else (boxes,), generator=torch.Generator().manual_seed(2))
    found, labels = best_classes(regions, texts, scores, 20.0, exponent, count, chunk)
    expected = formula(regions.numpy(), texts.numpy(), scores.numpy(), 20.0, exponent)
    assert found.shape == labels.shape == (boxes, count)
    np.testing.assert_allclose(found.numpy(), -np.sort(-expected, 1)[:, :count], rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(found.numpy(), np.take_along_axis(expected, labels.numpy(), 1), rtol=2e-4, atol=1e-7)
    assert all(len(set(row)) == count for row in labels.tolist())
    if exponent == 0 and not per_class and boxes:  # the detector's score tells nothing of classes
        assert labels[:, 0].tolist() == (regions @ texts.T).argmax(1).tolist()


def test_every_box_gets_its_best_class(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    rescorer = FusionRescorer(model, NAMES, FusionConfig(temperature=30.0))
    found = rescorer(picture, BOXES, SCORES)
    regions = model.region_features(picture, BOXES).numpy()
    texts = model.text_features(NAMES, kind="box").numpy()
    expected = formula(regions, texts, np.array(SCORES), 30.0, 0.5)
    np.testing.assert_allclose(found.scores, expected.max(1)[found.source], rtol=1e-4, atol=1e-12)
    assert found.labels.tolist() == expected.argmax(1)[found.source].tolist()
    assert sorted(found.source.tolist()) == [0, 1, 2, 3]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert torch.equal(found.boxes, torch.tensor(BOXES, dtype=torch.float32)[found.source])
    assert found.names == tuple(NAMES)
    again = rescorer(model.dense_features(picture), BOXES[::-1], SCORES[::-1])
    torch.testing.assert_close(again.scores, found.scores)
    assert again.labels.tolist() == found.labels.tolist()


def test_the_exponent_goes_from_the_detector_to_the_model(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    per_class = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    alone = FusionRescorer(model, NAMES, FusionConfig(exponent=0.0))(picture, BOXES, per_class)
    torch.testing.assert_close(alone.scores, per_class.amax(1)[alone.source])
    assert alone.labels.tolist() == per_class.argmax(1)[alone.source].tolist()
    model_alone = FusionRescorer(model, NAMES, FusionConfig(exponent=1.0))
    torch.testing.assert_close(
        model_alone(picture, BOXES, SCORES).scores, model_alone(picture, BOXES, [1.0] * 4).scores
    )


def test_several_classes_a_box_and_suppression_within_a_class(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    several = FusionRescorer(model, NAMES, FusionConfig(assign="several", temperature=5.0))(picture, BOXES, SCORES)
    assert len(several) == 20
    assert len({*zip(several.source.tolist(), several.labels.tolist(), strict=True)}) == 20
    config = FusionConfig(assign="several", temperature=5.0, nms_iou=0.5, max_detections=9)
    fewer = FusionRescorer(model, NAMES, config)(picture, BOXES, SCORES)
    assert len(fewer) == 9
    for label in fewer.labels.unique():
        own = fewer.boxes[fewer.labels == label]
        assert float(box_iou(own, own).fill_diagonal_(0).max()) <= 0.5
    assert fewer.scores.tolist() == sorted(fewer.scores.tolist(), reverse=True)


def test_boxes_are_cut_at_the_picture_and_those_outside_are_counted(
    model: fgclip2.FGCLIP2, picture: Image.Image
) -> None:
    rescorer = FusionRescorer(model, NAMES)
    found = rescorer(picture, [[-9, -9, 40, 30], [90, 0, 99, 9], [5, 5, 5, 9]], [0.9, 0.9, 0.9])
    assert found.boxes.tolist() == [[0, 0, 40, 30]]
    assert (found.source.tolist(), found.outside) == ([0], 2)
    few = FusionRescorer(model, NAMES, FusionConfig(max_detections=3))(picture, BOXES, SCORES)
    assert (len(few), few.cut) == (3, 1)
    nothing = rescorer(picture, [], [])
    assert (len(nothing), nothing.outside) == (0, 0)
    assert nothing.boxes.shape == (0, 4)


def test_equal_boxes_are_named_once(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    found = FusionRescorer(model, NAMES)(picture, [*BOXES, BOXES[1], BOXES[1]], [*SCORES, 0.8, 0.3])
    assert sorted(found.source.tolist()) == [0, 2, 3, 4]
    alone = FusionRescorer(model, NAMES)(picture, [BOXES[1]], [0.8])
    torch.testing.assert_close(found.scores[found.source == 4], alone.scores)


def test_what_the_contrast_wins_is_dropped(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    """As if all names had been asked for, without the boxes of those that were not."""
    for wanted in (NAMES[:2], NAMES[2:]):
        rescorer = FusionRescorer(model, wanted, FusionConfig(temperature=30.0), contrast=NAMES)
        # A translation of a class is no rival of it; what is left of the names is.
        rivals = [name for name in NAMES if name in rescorer.contrast]
        assert not set(rivals) & set(wanted)
        asked = [*wanted, *rescorer.contrast]
        every = FusionRescorer(model, asked, FusionConfig(temperature=30.0))(picture, BOXES, SCORES)
        own = every.labels < len(wanted)
        found = rescorer(picture, BOXES, SCORES)
        torch.testing.assert_close(found.scores, every.scores[own])
        assert found.labels.tolist() == every.labels[own].tolist()
        assert found.names == tuple(wanted)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_names_for_contrast_take_no_place_from_those_asked_for(
    model: fgclip2.FGCLIP2, picture: Image.Image, most: int
) -> None:
    config = FusionConfig(temperature=5.0, assign="several", max_detections=most)
    every = FusionRescorer(model, NAMES[:1], replace(config, max_detections=300), contrast=NAMES[2:])
    found = FusionRescorer(model, NAMES[:1], config, contrast=NAMES[2:])(picture, BOXES, SCORES)
    whole = every(picture, BOXES, SCORES)
    assert len(whole.labels) == len(BOXES)
    torch.testing.assert_close(found.scores, whole.scores[:most])
    assert found.cut == max(0, len(BOXES) - most)


@pytest.mark.parametrize(
    ("boxes", "scores", "said"),
    [
        ([[0, 0, 9, 9]], [0.5, 0.5], "scores of shape (2,) for 1 boxes and 5 classes"),
        ([[0, 0, 9, 9]], [[0.5] * 4], "scores of shape (1, 4)"),
        ([[0, 0, 9]], [0.5], "boxes of shape (1, 3)"),
        ([[0, 0, 9, 9], [1]], [0.5, 0.5], "no table of numbers"),
        ([[50, 50, 9, 9]], [0.5], "is it x, y, width, height?"),
        ([[0, 0, 9, float("nan")]], [0.5], "not finite"),
        ([[0, 0, 9, 9]], [1.5], "0..1"),
        ([[0, 0, 9, 9]], [float("nan")], "0..1"),
    ],
)
def test_bad_detections_are_named(
    model: fgclip2.FGCLIP2, picture: Image.Image, boxes: list[list[float]], scores: list[float], said: str
) -> None:
    with pytest.raises(Fgclip2Error) as caught:
        FusionRescorer(model, NAMES)(picture, boxes, scores)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"exponent": 1.1}, {"assign": "all"}, {"max_detections": 0}, {"nms_iou": 1.0}]
)
def test_bad_settings_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(Fgclip2Error, match=next(iter(wrong))):
        FusionConfig(**wrong)  # type: ignore[arg-type]


def test_a_vocabulary_of_another_model_is_refused(model: fgclip2.FGCLIP2) -> None:
    other = fgclip2.Vocabulary(("cat",), unit(1, model.width), "0" * 64, "another")
    with pytest.raises(Fgclip2Error, match="another"):
        FusionRescorer(model, other)


def test_names_may_have_synonyms(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    rescorer = FusionRescorer(model, {"sofa": ["沙发"], "dog": []}, contrast=["沙发", "tree"])
    assert rescorer.contrast == ("tree",)
    assert rescorer(picture, BOXES, SCORES).names == ("sofa", "dog")


def test_twenty_thousand_classes(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    texts = unit(20_000, model.width)
    vocabulary = fgclip2.Vocabulary(tuple(f"第{number}" for number in range(20_000)), texts, model.hash)
    found = FusionRescorer(model, vocabulary)(picture, BOXES, SCORES)
    regions = model.region_features(picture, BOXES).numpy()
    expected = formula(regions, texts.numpy(), np.array(SCORES), 100.0, 0.5)
    assert found.labels.tolist() == expected.argmax(1)[found.source].tolist()
    np.testing.assert_allclose(found.scores, expected.max(1)[found.source], rtol=1e-3)


class TestSupervision:
    found = Detections(
        np.float32([[0, 1, 2, 3], [4, 5, 6, 7], [1, 1, 2, 2]]), np.float32([0.9, 0.5, 0.1]), ("猫", "dog", "猫")
    )

    def test_fields(self) -> None:
        sv = pytest.importorskip("supervision")
        got = self.found.to_supervision(["dog", "bus", "猫"])
        assert isinstance(got, sv.Detections)
        np.testing.assert_array_equal(got.xyxy, self.found.boxes)
        np.testing.assert_array_equal(got.confidence, self.found.scores)
        assert got.class_id.tolist() == [2, 0, 2]
        assert got.data["class_name"].tolist() == ["猫", "dog", "猫"]
        assert got[got.class_id == 2].data["class_name"].tolist() == ["猫", "猫"]
        assert self.found.to_supervision().class_id.tolist() == [0, 1, 0]
        nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), ())
        assert len(nothing.to_supervision()) == 0
        assert len(sv.Detections.merge([got, got])) == 6

    def test_classes_are_numbered_by_the_names_that_were_looked_for(self) -> None:
        """Not by what one image happens to show first."""
        names = ("猫", "bus", "dog")
        one = Detections(np.zeros((2, 4), np.float32), np.ones(2, np.float32), ("dog", "猫"), names=names)
        two = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), ("猫",), names=names)
        assert one.to_supervision().class_id.tolist() == [2, 0]
        assert two.to_supervision().class_id.tolist() == [0]

    def test_a_label_of_no_class(self) -> None:
        pytest.importorskip("supervision")
        with pytest.raises(Fgclip2Error, match="'猫' was found"):
            self.found.to_supervision(["dog"])


def test_what_is_set_counts_and_what_cannot_be_set_says_so(model: fgclip2.FGCLIP2, picture: Image.Image) -> None:
    """Another config is used from then on; classes change by `set_classes` alone."""
    boxes, scores = torch.tensor([[10.0, 10, 60, 50], [30, 20, 90, 80]]), torch.tensor([0.9, 0.4])
    inferencer = FusionInferencer(lambda images: [(boxes, scores)] * len(images), model)
    inferencer.config = FusionConfig(exponent=0.25)
    inferencer.set_classes(["dog", "猫"], contrast=["bus"])
    inferencer.config = FusionConfig(exponent=0.0)
    (found,) = inferencer([picture], score_thr=0.0)
    assert found.names == inferencer.classes == ("dog", "猫")
    assert {round(float(score), 4) for score in found.scores} <= {0.9, 0.4}  # the detector's own
    with pytest.raises(AttributeError):
        inferencer.classes = ("cow",)  # type: ignore[misc]
    rescorer = FusionRescorer(model, ["dog"], contrast=["bus"])
    for name, value in {"vocabulary": rescorer.vocabulary, "contrast": ("cow",)}.items():
        with pytest.raises(AttributeError):
            setattr(rescorer, name, value)


@pytest.mark.parametrize("place", [0, 19_999])
def test_the_place_of_a_class_does_not_change_what_nms_keeps(model: fgclip2.FGCLIP2, place: int) -> None:
    """Boxes of one class, the first or the last of 20,000; the first two share 5/6, the next two 0.41."""
    image = Image.new("RGB", (1000, 700), (90, 120, 60))
    boxes = [[103, 100, 113, 110], [103, 100, 115, 110], [303, 300, 311, 308], [306, 301, 313, 309],
             [900, 600, 1000, 700]]  # fmt: skip
    scores = [0.9, 0.8, 0.7, 0.6, 0.5]
    features = model.dense_features(image)
    own = F.normalize(features.regions(torch.tensor(boxes, dtype=torch.float32)).sum(0), dim=0)
    embeddings = -own.repeat(20_000, 1)
    embeddings[place] = own
    vocabulary = Vocabulary(tuple(map(str, range(20_000))), embeddings, model.hash, model.name)
    found = FusionRescorer(model, vocabulary, FusionConfig(exponent=0.0, nms_iou=0.7))(features, boxes, scores)
    assert found.source.tolist() == [0, 2, 3, 4]
    assert found.labels.tolist() == [place] * 4
    assert found.boxes.tolist() == [boxes[index] for index in (0, 2, 3, 4)]
