"""Highlighting: levels, masks, connected regions against scipy, and what a click finds against plain products."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import ndimage

import fgclip2
from fgclip2.errors import Fgclip2Error
from fgclip2.features import DenseFeatures
from fgclip2.highlight import connected_regions, highlight, patch_at, patch_box, self_similarity

PHRASES = ("a red car", "黑猫", "re")


@pytest.fixture(scope="module")
def features(tiny: fgclip2.FGCLIP2) -> DenseFeatures:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return tiny.dense_features(Image.fromarray(pixels).resize((128, 96)), max_patches=48)


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(0, 99))
def test_connected_regions_are_those_of_scipy(mask: np.ndarray, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=mask.shape)
    found = connected_regions(mask, values)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    assert len(found) == count
    assert [region.pixels for region in found] == sorted((region.pixels for region in found), reverse=True)
    expected: dict[tuple[tuple[int, ...], int], list[tuple[float, float]]] = {}
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = values[labels == number]
        box = (columns.start, rows.start, columns.stop, rows.stop)
        expected.setdefault((box, len(inside)), []).append((inside.mean(), inside.max()))
    for region in found:
        measured = (region.mean, region.peak)
        assert any(np.allclose(measured, pair) for pair in expected[region.box, region.pixels])


def test_levels_masks_and_regions(tiny: fgclip2.FGCLIP2, features: DenseFeatures) -> None:
    found = highlight(tiny, features, PHRASES)
    texts = tiny.text_features(PHRASES, kind="box")
    np.testing.assert_allclose(found.similarity, features.similarity(texts).numpy(), atol=1e-6)
    size = (64, 48)
    for number, coarse in enumerate(found.similarity):
        assert found.level(number, 0) == pytest.approx(coarse.min())
        assert found.level(number, 0.25) == pytest.approx(0.75 * coarse.min() + 0.25 * coarse.max())
        fine = found.values(number, size)
        enlarged = F.interpolate(torch.from_numpy(coarse)[None, None], size=(48, 64), mode="bilinear")[0, 0]
        np.testing.assert_allclose(fine, enlarged.numpy(), atol=1e-5)
        assert found.mask(number, 0, size).all()
        mask = found.mask(number, 0.6, size)
        np.testing.assert_array_equal(mask, fine >= found.level(number, 0.6))
        regions = found.regions(number, 0.6, size)
        assert sum(region.pixels for region in regions) == mask.sum()
        assert max(region.peak for region in regions) == pytest.approx(fine.max())
        for region in regions:
            assert found.level(number, 0.6) <= region.mean <= region.peak


def test_what_a_click_finds(tiny: fgclip2.FGCLIP2, features: DenseFeatures) -> None:
    assert features.grid == (6, 8)
    assert patch_at(features, 0, 0) == (0, 0)
    assert patch_at(features, 127.9, 95) == (5, 7)
    assert patch_at(features, 16, 15.9) == (0, 1)
    assert patch_box(features, 40, 70) == (32, 64, 48, 80)
    cosines = self_similarity(features, 40, 70)
    dense = features.map.numpy()
    np.testing.assert_allclose(cosines, dense @ dense[4, 2], atol=1e-6)
    assert cosines[4, 2] == pytest.approx(1, abs=1e-5)
    ranked = highlight(tiny, features, PHRASES).at(40, 70)
    products = tiny.text_features(PHRASES, kind="box").numpy() @ dense[4, 2]
    assert [phrase for phrase, _ in ranked] == [PHRASES[number] for number in np.argsort(-products)]
    assert [cosine for _, cosine in ranked] == pytest.approx(sorted(products, reverse=True), abs=1e-5)


def test_what_is_refused(tiny: fgclip2.FGCLIP2, features: DenseFeatures) -> None:
    found = highlight(tiny, features, PHRASES)
    for x, y in ((-1, 0), (128, 0), (0, 96), (float("nan"), 0)):
        with pytest.raises(Fgclip2Error, match="in a picture of 128 x 96"):
            found.at(x, y)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(Fgclip2Error, match="give 0 to 1"):
            found.mask(0, share, (8, 8))
    with pytest.raises(Fgclip2Error, match="no phrase"):
        highlight(tiny, features, [])
    with pytest.raises(Fgclip2Error, match=r"give both as \(H, W\)"):
        connected_regions(np.ones((2, 3), bool), np.ones((3, 2)))
