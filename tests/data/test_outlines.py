"""Outlines of COCO files: every form that tools write, and what is no outline; harmless invalid values only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fgclip2.data.coco import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from fgclip2.data.coco_masks import outlined
from fgclip2.data.outlines import checked_outline
from fgclip2.errors import Fgclip2Error
from fgclip2.masks import decode, encode, run_lengths

IMAGE = CocoImage(1, "图.png", 60, 40)
SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


def annotation(
    segmentation: Any, number: int = 1, box: tuple[float, float, float, float] = (10, 10, 20, 20)
) -> CocoAnnotation:
    return CocoAnnotation(number, 1, 1, box, segmentation=segmentation)


def dataset(*annotations: CocoAnnotation) -> CocoDataset:
    return CocoDataset(Path("train.json"), Path(), (IMAGE,), annotations, (CocoCategory(1, "dog"),))


@pytest.mark.parametrize(
    "given",
    [
        [SQUARE],
        SQUARE,
        [[10, 10], [20, 10], [20, 20], [10, 20]],
        [[[10, 10], [20, 10], [20, 20], [10, 20]]],
        [SQUARE, [1, 2, 3, 4]],
        [SQUARE, []],
        [SQUARE, [1, 2, 3, 4, 5, 6, 7]],
    ],
)
def test_every_nesting_is_the_same_square(given: Any) -> None:
    square = np.zeros((40, 60), bool)
    square[10:20, 10:20] = True
    np.testing.assert_array_equal(decode(run_lengths(annotation(given), IMAGE)), square)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([[1, 2, 3, 4]], "its outline has 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "its outline has 7 numbers"),
        ([[]], "its outline has 0 numbers"),
        ([1, 2], "its outline has 2 numbers"),
        ([SQUARE, 3], "mixes numbers and lists"),
        ([["1", "2", "3", "4", "5", "6"]], "no numbers"),
        ([[10, 10, float("nan"), 10, 20, 20]], "not finite"),
        ([[10, 10, 9000, 10, 20, 20]], "reaches from 10 to 9000 where the image ends at 60"),
        ("x", "is str; give polygons or run lengths"),
        ({"size": [40, 60], "counts": [100, 50]}, "have 150 pixels in all, the image has 2,400"),
        ({"size": [40, 60], "counts": [100, 5000]}, "have 5,100 pixels in all"),
        ({"size": [40, 60], "counts": [-100, 2500]}, "no whole numbers from 0"),
        ({"size": [60, 40], "counts": [2400]}, "is 40 x 60 pixels, its picture 60 x 40"),
        ({"size": [40, 60], "counts": "PPYo0"}, "pixels in all|damaged"),
        ({"size": [40, 60], "counts": "o"}, "damaged"),
        ({"size": [40, 60]}, "no 'counts'"),
    ],
)
def test_what_is_no_outline_never_reaches_pycocotools(given: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_mask, "frPyObjects", None)
    monkeypatch.setattr(coco_mask, "area", None)
    with pytest.raises(Fgclip2Error, match=said):
        run_lengths(annotation(given), IMAGE)


def test_compressed_run_lengths_are_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    for share in (0.02, 0.5, 0.98):
        for _ in range(20):
            mask = rng.random((40, 60)) < share
            run = encode(mask)
            assert checked_outline(run, 60, 40) == (run, 0)
            with pytest.raises(Fgclip2Error, match="pixels in all|damaged"):
                checked_outline({"size": [40, 60], "counts": run["counts"][:-1]}, 60, 40)


def test_only_what_is_thinner_than_a_pixel_becomes_its_box() -> None:
    thin = annotation([[10, 10, 10.2, 10, 10.2, 14, 10, 14]], box=(10, 10, 10.2, 14))
    assert decode(run_lengths(thin, IMAGE)).sum() == 4
    shares = annotation([[0.17, 0.25, 0.33, 0.25, 0.33, 0.5, 0.17, 0.5]])
    with pytest.raises(Fgclip2Error, match="covers no pixel of its box .* as if coordinates were shares of the image"):
        run_lengths(shares, IMAGE)
    with pytest.raises(Fgclip2Error, match="covers no pixel of its box"):
        run_lengths(annotation({"size": [40, 60], "counts": [2400]}), IMAGE)


def test_objects_of_unusable_masks_are_left_out_and_named() -> None:
    data, notes = outlined(dataset(annotation([SQUARE], 1), annotation([SQUARE], 2), annotation([[1, 2, 3, 4]], 3)))
    assert [item.id for item in data.annotations] == [1, 2]
    reason = "its outline has 4 numbers; a polygon has x and y of three points or more, an even count"
    assert notes == [
        "train.json: 1 of 3 masks cannot be used (the mask of annotation 3 cannot be read "
        f"({reason}) in 图.png); these objects are left out"
    ]
    _, notes = outlined(dataset(annotation([SQUARE], 1), annotation([SQUARE, [1, 2, 3, 4]], 2)))
    assert notes == [
        "train.json: 1 masks have polygons of fewer than three points or an odd count of numbers, which are left out: "
        "annotation 2 is the first"
    ]
    with pytest.raises(Fgclip2Error, match="2 of 3 masks cannot be used"):
        outlined(dataset(annotation([SQUARE], 1), annotation([[]], 2), annotation([[1, 2, 3, 4]], 3)))
    with pytest.raises(Fgclip2Error, match=r"annotation 2 has no 'segmentation' \(1 of 2 objects have none\)"):
        outlined(dataset(annotation([SQUARE], 1), annotation(None, 2)))


def test_a_number_beyond_every_float_is_not_finite() -> None:
    with pytest.raises(Fgclip2Error, match="its outline has numbers that are not finite"):
        run_lengths(annotation([[5, 5, 10**400, 5, 25, 25]]), IMAGE)
