"""Training-free segmentation: against the similarity map, by hand, and what must not change it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import FGCLIP2
from fgclip2.segmentation import DenseSegmentor, Segmentation, SegmentationConfig, _spans, guided_filter
from fgclip2.vocabulary import Vocabulary

NAMES = ["a red car", "黑猫", "two green apples", "sofa", "沙发上"]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((90, 60), Image.Resampling.BILINEAR)


def test_labels_are_the_nearest_texts(tiny: FGCLIP2, picture: Image.Image) -> None:
    found = DenseSegmentor(tiny, NAMES, SegmentationConfig(max_patches=24))(picture)
    maps = tiny.similarity_map(picture, NAMES, max_patches=24).numpy()
    assert found.labels.shape == found.scores.shape == (60, 90)
    np.testing.assert_array_equal(found.labels, maps.argmax(0))
    np.testing.assert_allclose(found.scores, maps.max(0), atol=1e-6)


@pytest.mark.parametrize("refine", [False, True])
def test_chunks_of_classes_change_nothing(tiny: FGCLIP2, picture: Image.Image, refine: bool) -> None:
    results = [
        DenseSegmentor(tiny, NAMES, SegmentationConfig(max_patches=24, class_chunk=chunk, refine=refine))(picture)
        for chunk in (None, 1, 2)
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other.labels, results[0].labels)
        np.testing.assert_allclose(other.scores, results[0].scores, atol=1e-6)


def test_background_by_threshold_and_by_phrases(tiny: FGCLIP2, picture: Image.Image) -> None:
    plain = DenseSegmentor(tiny, NAMES[:3], SegmentationConfig(max_patches=24))(picture)
    level = float(np.median(plain.scores))
    cut = DenseSegmentor(tiny, NAMES[:3], SegmentationConfig(max_patches=24, threshold=level))(picture)
    np.testing.assert_array_equal(cut.labels, np.where(plain.scores < level, -1, plain.labels))
    every = DenseSegmentor(tiny, NAMES, SegmentationConfig(max_patches=24))(picture)
    phrased = SegmentationConfig(max_patches=24, background=tuple(NAMES[3:]))
    without = DenseSegmentor(tiny, NAMES[:3], phrased)(picture)
    np.testing.assert_array_equal(without.labels, np.where(every.labels >= 3, -1, every.labels))


def test_tiles_blend_into_the_whole(tiny: FGCLIP2, picture: Image.Image) -> None:
    config = SegmentationConfig(max_patches=9, tile=40, overlap=0.5)
    segmentor = DenseSegmentor(tiny, NAMES, config)
    maps = segmentor.score_maps(picture)
    assert maps.shape == (5, 60, 90)
    corner = tiny.similarity_map(picture.crop((0, 0, 40, 40)), NAMES, max_patches=9)
    torch.testing.assert_close(maps[:, :20, :15], corner[:, :20, :15])  # where no other tile reaches
    assert (segmentor(picture).labels == maps.argmax(0).numpy()).all()


@pytest.mark.parametrize(("length", "tile", "overlap"), [(90, 40, 0.25), (41, 40, 0.5), (1000, 64, 0.0), (30, 40, 0.2)])
def test_tiles_cover_everything(length: int, tile: int, overlap: float) -> None:
    spans = _spans(length, tile, overlap)
    assert spans[0][0] == 0
    assert sum(spans[-1]) == length
    for (left, width), (right, _) in pairwise(spans):
        assert left + width - right >= int(overlap * tile)


def test_guided_filter_by_hand() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 8), dtype=np.uint8)
    values = rng.normal(size=(2, 9, 8)).astype(np.float32)
    guide, radius, epsilon = pixels.astype(float) / 255, 2, 0.01

    def mean(array: np.ndarray) -> np.ndarray:
        padded = np.pad(array, radius, mode="symmetric")
        return np.array([[padded[y : y + 5, x : x + 5].mean() for x in range(8)] for y in range(9)])

    expected = []
    for map_ in values:
        slope = (mean(guide * map_) - mean(guide) * mean(map_)) / (mean(guide**2) - mean(guide) ** 2 + epsilon)
        expected.append(mean(slope) * guide + mean(mean(map_) - slope * mean(guide)))
    rgb = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2))
    found = guided_filter(rgb, torch.from_numpy(values), radius, epsilon)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_refinement_follows_an_edge() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 17:] = 255
    ramp = torch.linspace(-1, 1, 40).expand(40, 40)  # changes sign at 20
    refined = guided_filter(Image.fromarray(pixels), torch.stack([ramp]), 6, 1e-4)[0]
    assert (refined[:, 15] < 0).all()
    assert (refined[:, 18] > 0).all()
    assert refined[20, 18] - refined[20, 15] > 2 * (ramp[20, 18] - ramp[20, 15])


def test_areas_and_mask_picture() -> None:
    labels = np.array([[0, 0, -1], [2, 0, -1]], np.int32)
    found = Segmentation(("dog", "cat", "天空"), labels, np.full((2, 3), 0.5, np.float32))
    assert found.areas() == [
        {"name": "dog", "pixels": 3, "share": 0.5, "score": 0.5},
        {"name": "天空", "pixels": 1, "share": 0.166667, "score": 0.5},
    ]
    assert np.asarray(found.mask_image()).tolist() == [[1, 1, 0], [3, 1, 0]]
    many = Segmentation(tuple(map(str, range(300))), np.array([[299, -1]], np.int32), np.ones((1, 2), np.float32))
    assert many.mask_image().mode == "I;16"
    assert np.asarray(many.mask_image()).tolist() == [[300, 0]]


def test_one_class_takes_everything(tiny: FGCLIP2, picture: Image.Image) -> None:
    assert (DenseSegmentor(tiny, ["猫"], SegmentationConfig(max_patches=9))(picture).labels == 0).all()


def test_bad_input_teaches(tiny: FGCLIP2, picture: Image.Image) -> None:
    for options, said in [
        ({"max_patches": 0}, "max_patches 0"),
        ({"tile": 8}, "tile 8"),
        ({"overlap": 1.0}, "overlap"),
        ({"threshold": 2.0}, "threshold"),
        ({"class_chunk": 0}, "class_chunk"),
        ({"radius": 0}, "radius"),
        ({"epsilon": 0.0}, "epsilon"),
    ]:
        with pytest.raises(Fgclip2Error, match=said):
            SegmentationConfig(**options)  # type: ignore[arg-type]
    with pytest.raises(Fgclip2Error, match="are the same"):
        DenseSegmentor(tiny, ["dog", "Dog"])
    foreign = Vocabulary(("a",), torch.ones(1, 64) / 8, "another model")
    with pytest.raises(Fgclip2Error, match="made by model"):
        DenseSegmentor(tiny, foreign)
    with pytest.raises(Fgclip2Error, match="of one size"):
        guided_filter(picture, torch.zeros(1, 3, 3), 2, 0.1)
