"""Windows of a dense map and which of them are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import find_objects, gaussian_filter, label
from torchvision.ops import box_iou

import fgclip2
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.errors import Fgclip2Error
from fgclip2.features import DenseFeatures
from fgclip2.search.config import RegionConfig
from fgclip2.search.regions import (
    WindowScores,
    cell_boxes,
    distinct,
    extents,
    region_vectors,
    window_features,
    window_sums,
    windows,
)


def random_features(rows: int, columns: int, seed: int = 0) -> DenseFeatures:
    """Of a picture with 16 pixels a cell: else RoIAlign rounds 3 cells up to 3.0000001, and takes 4 samples."""
    tokens = torch.randn(rows * columns, 24, generator=torch.Generator().manual_seed(seed)) * 3 + 0.5
    return DenseFeatures.from_tokens(tokens, (rows, columns), (columns * 16, rows * 16))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 20), smallest=st.integers(1, 4))
def test_windows_are_squares_that_cover_the_grid(rows: int, columns: int, smallest: int) -> None:
    cells = windows((rows, columns), smallest)
    x1, y1, x2, y2 = cells.unbind(1)
    assert torch.equal(x2 - x1, y2 - y1)
    assert int(torch.stack([x1, y1]).min()) == 0
    assert (int(x2.max()), int(y2.max())) == (columns, rows)
    assert len(cells.unique(dim=0)) == len(cells)
    sides = (x2 - x1).unique().tolist()
    assert sides[0] == min(smallest, rows, columns)
    for side in sides:
        covered = torch.zeros(rows, columns, dtype=torch.bool)
        for left, top, right, bottom in cells[x2 - x1 == side].tolist():
            covered[top:bottom, left:right] = True
        assert covered.all()


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 17), columns=st.integers(1, 17), seed=st.integers(0, 9))
def test_windows_are_pooled_as_regions_are(rows: int, columns: int, seed: int) -> None:
    features = random_features(rows, columns, seed)
    cells = windows(features.grid)
    direct = features.regions(cell_boxes(cells, features.grid, features.image_size))
    torch.testing.assert_close(window_features(features, cells), direct, atol=2e-5, rtol=0)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 9))
def test_scores_of_windows_are_products_with_their_features(rows: int, columns: int, seed: int) -> None:
    features = random_features(rows, columns, seed)
    vectors = torch.randn(3, 24, generator=torch.Generator().manual_seed(seed + 1))
    windows_of = WindowScores(features, 2)
    products = window_features(features, windows_of.cells) @ vectors.T
    scores, boxes, similarity = windows_of.best(vectors)
    torch.testing.assert_close(scores, products.max(0).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(similarity, features.similarity(vectors))
    reach = extents(similarity, windows_of.cells[products.argmax(0)])
    torch.testing.assert_close(boxes, cell_boxes(reach, features.grid, features.image_size))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 14), columns=st.integers(1, 14), seed=st.integers(0, 99), smooth=st.integers(0, 3))
def test_extents_are_what_scipy_labels(rows: int, columns: int, seed: int, smooth: int) -> None:
    """From half of the way between the map's median and the window's peak on, connected by sides and corners."""
    noise = np.random.default_rng(seed).normal(size=(rows, columns))
    values = (gaussian_filter(noise, smooth) if smooth else noise).astype(np.float32)
    cells = windows((rows, columns))[seed % len(windows((rows, columns)))]
    found = extents(torch.from_numpy(values)[None], cells[None])[0].tolist()
    x1, y1, x2, y2 = cells.tolist()
    window = values[y1:y2, x1:x2]
    peak, base = window.max(), np.sort(values.ravel())[(values.size - 1) // 2]  # torch's median is the lower one
    if not peak > base:
        assert found == [x1, y1, x2, y2]
        return
    labels, _ = label(values >= base + (peak - base) / 2, np.ones((3, 3)))
    top, left = np.unravel_index(window.argmax(), window.shape)
    own = (labels == labels[y1 + top, x1 + left]).astype(int)
    across, down = find_objects(own)[0][::-1]
    assert found == [across.start, down.start, across.stop, down.stop]


@pytest.mark.parametrize(
    ("scale", "least", "most"), [((0.1, 0.2), 0.42, 1.0), ((0.35, 0.6), 0.36, 0.2), ((0.6, 0.9), 0.33, 0.1)]
)
def test_a_box_is_as_large_as_the_thing(
    embedded: fgclip2.FGCLIP2, scale: tuple[float, float], least: float, most: float
) -> None:
    """Mean IoU with the thing's box; the windows alone, of 40 pixels, reach less than ``most``."""
    overlaps, before, world = [], [], World()
    for seed in range(5000, 5012):
        scene = world.scene(seed, SceneConfig(size=320, objects=(1, 3), scale=scale))
        windows_of = WindowScores(embedded.dense_features(scene.pixels), 2)
        for language in ("en", "zh"):
            texts = embedded.text_features([item.phrases[language] for item in scene.objects], kind="box")
            _, boxes, similarity = windows_of.best(texts)
            weighted = similarity.permute(1, 2, 0) * windows_of.features.norms[..., None]  # type: ignore[index]
            places = (window_sums(weighted, windows_of.cells) / windows_of._lengths[:, None]).argmax(0)
            alone = cell_boxes(windows_of.cells[places], windows_of.features.grid, (320, 320))
            wanted = torch.tensor([item.box for item in scene.objects])
            overlaps += box_iou(boxes, wanted).diagonal().tolist()
            before += box_iou(alone, wanted).diagonal().tolist()
    assert np.mean(overlaps) >= least
    assert np.mean(before) <= most
    assert np.mean(overlaps) > np.mean(before)


def test_pooling_of_a_large_map_does_not_lose_small_windows() -> None:
    features = random_features(96, 96)
    features = DenseFeatures(features.map, features.image_size, features.norms * 1e3)  # type: ignore[operator]
    cells = torch.tensor([[95, 95, 96, 96], [94, 93, 96, 95]])
    expected = features.map[95, 95]
    torch.testing.assert_close(window_features(features, cells)[0], expected, atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 12), size=st.integers(1, 30), alike=st.sampled_from([0.3, 0.9, 1.0]), seed=st.integers(0, 9)
)
def test_kept_vectors_are_the_farthest_each_time(count: int, size: int, alike: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(size, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = distinct(torch.from_numpy(vectors), count, alike).tolist()
    assert len(set(chosen)) == len(chosen)
    # Any of equally far vectors may be taken (two unit vectors always are), so the choice is compared by its distance:
    # float32 cosines of 5 numbers are exact to 1e-6.
    likeness = vectors @ vectors.mean(0)
    assert likeness[chosen[0]] <= likeness.min() + 1e-6
    for step in range(1, len(chosen) + 1):
        nearest = (vectors @ vectors[chosen[:step]].T).max(1)
        nearest[chosen[:step]] = np.inf
        if step < len(chosen):
            assert nearest[chosen[step]] <= nearest.min() + 1e-6
            assert nearest[chosen[step]] < alike + 1e-6
        else:
            assert step == min(count, size) or nearest.min() >= alike - 1e-6


def test_alike_windows_are_merged() -> None:
    tokens = torch.zeros(64, 4)
    tokens[:, 0] = 1
    tokens.view(8, 8, 4)[:, 4:] = torch.tensor([0.0, 1, 0, 0])  # left half one thing, right half another
    features = DenseFeatures.from_tokens(tokens, (8, 8), (80, 80))
    vectors, boxes = region_vectors(features, RegionConfig(count=16, alike=0.999))
    cosines = vectors @ vectors.T - torch.eye(len(vectors))
    assert float(cosines.max()) < 0.999
    assert {tuple(vector.round().abs().tolist()) for vector in vectors[:2]} == {(1, 0, 0, 0), (0, 1, 0, 0)}
    assert len(boxes) == len(vectors) < 16


def test_given_boxes_come_first_and_are_checked() -> None:
    features = random_features(6, 9)
    given_boxes = [[3, 4, 50, 60], [100.0, 10, 140, 90]]
    vectors, boxes = region_vectors(features, RegionConfig(count=5), given_boxes)
    assert len(vectors) == len(boxes) == 7
    torch.testing.assert_close(vectors[:2], features.regions(given_boxes))
    torch.testing.assert_close(boxes[:2], torch.tensor(given_boxes))
    torch.testing.assert_close(vectors[2:], features.regions(boxes[2:]), atol=2e-5, rtol=0)
    with pytest.raises(Fgclip2Error, match="leaves the picture"):
        region_vectors(features, None, [[0, 0, 500, 500]])


@pytest.mark.parametrize(("wrong", "message"), [({"count": 0}, "count 0"), ({"smallest": 0}, "smallest 0"),
                                                ({"alike": 1.5}, "alike 1.5")])  # fmt: skip
def test_settings_are_checked(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(Fgclip2Error, match=message):
        RegionConfig(**wrong)  # type: ignore[arg-type]
