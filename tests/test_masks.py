"""Masks kept small: painting, run lengths, tiles, supervision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from fgclip2.data.coco import CocoAnnotation, CocoImage
from fgclip2.detections import MaskedDetections
from fgclip2.errors import Fgclip2Error
from fgclip2.masks import BoxMasks, decode, encode, run_lengths
from fgclip2.tiles import merge_tiles
from fgclip2.visualize import paint_masks

SIZE = (60, 40)  # width, height
EDGES = st.floats(-20, 80, width=32)
PICTURE = CocoImage(1, "a.png", *SIZE)


def masks(*boxes: tuple[float, ...], share: float = 1.0, size: tuple[int, int] = SIZE) -> BoxMasks:
    where = np.array(boxes, np.float32).reshape(-1, 4)
    return BoxMasks(np.full((len(where), 28, 28), share, np.float32), where, size)


@given(x1=EDGES, y1=EDGES, x2=EDGES, y2=EDGES)
@settings(max_examples=100, deadline=None)
def test_a_full_mask_is_its_box(x1: float, y1: float, x2: float, y2: float) -> None:
    """The pixels whose middles the box covers, also of boxes that leave the picture or have no area."""
    (painted,) = masks((x1, y1, x2, y2))
    columns, rows = np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5
    across, down = (x1 <= columns) & (columns < x2), (y1 <= rows) & (rows < y2)
    np.testing.assert_array_equal(painted, down[:, None] & across)
    assert not next(iter(masks((x1, y1, x2, y2), share=0.4))).any()


def test_between_cells_shares_are_bilinear() -> None:
    shares = np.random.default_rng(0).random((1, 28, 28), np.float32)
    (painted,) = BoxMasks(shares, np.array([[4, 8, 52, 36]], np.float32), SIZE)
    expected = F.interpolate(torch.from_numpy(shares)[None], (28, 48), mode="bilinear")[0, 0].numpy()
    clear = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(painted[8:36, 4:52][clear], (expected >= 0.5)[clear])
    assert painted.sum() == painted[8:36, 4:52].sum()


def test_run_lengths_round_trip() -> None:
    found = BoxMasks(np.random.default_rng(1).random((3, 7, 7), np.float32), np.array([[2, 3, 30, 37]] * 3), SIZE)
    runs = found.run_lengths()
    for run, painted, whole in zip(runs, found, found.array(), strict=True):
        assert run["size"] == [40, 60]
        assert isinstance(run["counts"], str)  # JSON
        np.testing.assert_array_equal(decode(run), painted)
        np.testing.assert_array_equal(whole, painted)
    assert masks().run_lengths() == []
    assert masks().array().shape == (0, 40, 60)


def test_parts_and_indices() -> None:
    found = masks((0, 0, 10, 10), (20, 5, 40, 30), (1, 1, 2, 2))
    again = BoxMasks.cat([found[np.array([2, 0])], found[1:2]])
    np.testing.assert_array_equal(again.array(), found.array()[[2, 0, 1]])
    with pytest.raises(Fgclip2Error, match=r"give \(K, m, m\) and \(K, 4\)"):
        BoxMasks(np.zeros((2, 28, 28)), np.zeros((3, 4)), SIZE)


def annotation(segmentation: Any, box: tuple[float, float, float, float] = (10, 10, 20, 20)) -> CocoAnnotation:
    return CocoAnnotation(7, 1, 1, box, segmentation=segmentation)


def test_every_form_of_an_annotation() -> None:
    square = np.zeros((40, 60), bool)
    square[10:20, 10:20] = True
    polygon = [[10, 10, 20, 10, 20, 20, 10, 20]]
    flat = square.T.ravel()
    counts = np.diff(np.r_[0, np.flatnonzero(np.diff(flat)) + 1, flat.size]).tolist()
    uncompressed = {"size": [40, 60], "counts": counts}
    bytes_ = coco_mask.encode(np.asfortranarray(square, np.uint8))
    for given_ in (polygon, uncompressed, encode(square), bytes_):
        np.testing.assert_array_equal(decode(run_lengths(annotation(given_), PICTURE)), square)
    thin = run_lengths(annotation([[10, 10, 10.2, 10, 10.2, 14, 10, 14]], (10, 10, 10.2, 14)), PICTURE)
    assert decode(thin)[10:14, 10].all()  # its box's


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        (None, "annotation 7 has no 'segmentation'"),
        ([], "annotation 7 has no 'segmentation'"),
        ({"counts": "x"}, "cannot be read"),
        ({"size": [60, 40], "counts": [2400]}, "is 40 x 60 pixels, its picture 60 x 40"),
    ],
)
def test_wrong_masks_are_told(segmentation: Any, said: str) -> None:
    with pytest.raises(Fgclip2Error, match=said):
        run_lengths(annotation(segmentation), PICTURE)


def detections(found: BoxMasks, scores: list[float], labels: tuple[str, ...]) -> MaskedDetections:
    return MaskedDetections(found.boxes, np.array(scores, np.float32), labels, found)


def test_tiles_bring_their_masks() -> None:
    """A thing that two tiles show is kept once, with the mask of the box that stays, where it is in the picture."""
    first = detections(masks((30, 5, 38, 15), (2, 2, 10, 30), size=(40, 40)), [0.6, 0.5], ("a", "b"))
    second = detections(masks((10, 5, 18, 15), size=(40, 40)), [0.9], ("a",))
    merged = merge_tiles([first, second], [(0, 0, 40, 40), (20, 0, 60, 40)], SIZE, 0.5)
    assert isinstance(merged, MaskedDetections)
    assert merged.labels == ("a", "b")
    expected = masks((30, 5, 38, 15), (2, 2, 10, 30)).array()
    np.testing.assert_array_equal(merged.masks.array(), expected)
    nothing = detections(masks(size=(40, 40)), [], ())
    assert len(merge_tiles([nothing, nothing], [(0, 0, 40, 40), (20, 0, 60, 40)], SIZE, 0.5)) == 0


def test_supervision_and_lengths() -> None:
    found = detections(masks((0, 0, 10, 10), (20, 5, 40, 30)), [0.9, 0.4], ("猫", "dog"))
    there = found.to_supervision(["dog", "猫"])
    assert there.class_id.tolist() == [1, 0]
    np.testing.assert_array_equal(there.mask, found.masks.array())
    np.testing.assert_array_equal(there[there.confidence > 0.5].mask, found.masks.array()[:1])
    with pytest.raises(Fgclip2Error, match="1 masks for 2 boxes"):
        MaskedDetections(found.boxes, found.scores, found.labels, found.masks[:1])


def test_painting_leaves_the_rest_alone() -> None:
    grey = Image.new("RGB", SIZE, (100, 100, 100))
    drawn = np.asarray(paint_masks(grey, masks((0, 0, 10, 10), (5, 5, 20, 20)), [(200, 0, 0), (0, 200, 0)]))
    assert drawn[2, 2].tolist() == drawn[7, 7].tolist() == [150, 50, 50]  # the first lies on top
    assert drawn[15, 15].tolist() == [50, 150, 50]
    assert drawn[30, 30].tolist() == [100, 100, 100]
