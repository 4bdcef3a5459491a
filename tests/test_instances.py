"""What was found thing by thing: masks that overlap, results that COCO's tools read, drawings."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from fgclip2.errors import Fgclip2Error
from fgclip2.instances import InstanceSegmentation
from fgclip2.visualize import draw_instances, draw_segmentation, label_colours

NAMES = ("红色汽车", "tree", "狗")


def things() -> InstanceSegmentation:
    """A dog over another dog, and a car beside them."""
    masks = np.zeros((3, 60, 80), bool)
    masks[0, 10:40, 10:40] = masks[1, 30:50, 20:60] = masks[2, 5:20, 55:75] = True
    boxes = np.array([[10, 10, 40, 40], [20, 30, 60, 50], [55, 5, 75, 20]], np.float32)
    return InstanceSegmentation(NAMES, boxes, np.array([0.9, 0.6, 0.3], np.float32), np.array([2, 2, 0]), masks)


def test_index_picture_and_results_agree() -> None:
    found = things()
    assert found.captions == ["狗", "狗", "红色汽车"]
    values = np.asarray(found.mask_image())
    assert values.dtype == np.uint8
    assert (values[35, 30], values[45, 30], values[10, 60], values[0, 0]) == (1, 2, 3, 0)  # the more certain on top
    results = found.coco_results(7)
    assert [(item["value"], item["name"], item["category_id"], item["image_id"]) for item in results] == [
        (1, "狗", 3, 7), (2, "狗", 3, 7), (3, "红色汽车", 1, 7),
    ]  # fmt: skip
    assert [item["area"] for item in results] == [900, 800, 300]
    assert results[1]["bbox"] == [20, 30, 40, 20]
    for item, mask in zip(results, found.masks, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(item["segmentation"]), mask)


def test_many_things_take_sixteen_bits() -> None:
    masks = np.zeros((300, 2, 300), bool)
    masks[np.arange(300), :, np.arange(300)] = True
    found = InstanceSegmentation(
        NAMES, np.zeros((300, 4), np.float32), np.ones(300, np.float32), np.zeros(300, int), masks
    )
    assert np.asarray(found.mask_image())[0].tolist() == list(range(1, 301))


def test_lengths_must_agree() -> None:
    found = things()
    with pytest.raises(Fgclip2Error, match="give one of each a thing"):
        InstanceSegmentation(NAMES, found.boxes[:2], found.scores, found.labels, found.masks)
    with pytest.raises(Fgclip2Error, match=r"masks of shape \(3, 60, 80\) for a picture of height 80"):
        draw_instances(Image.new("RGB", (60, 80)), found)


def test_drawing() -> None:
    """Colours are the names', whatever is there; the legend is that of a segmentation with the same classes."""
    grey, found, colours = Image.new("RGB", (80, 60), (100, 100, 100)), things(), label_colours(NAMES)
    drawn = np.asarray(draw_instances(grey, found, opacity=1, font_size=6))
    assert tuple(drawn[46, 45]) == colours["狗"]
    assert tuple(drawn[16, 62]) == colours["红色汽车"]
    assert tuple(drawn[58, 75]) == (100, 100, 100)
    labels = np.full((60, 80), -1)
    labels[found.masks[2]], labels[found.masks[0]] = 0, 2
    legend = np.asarray(draw_segmentation(grey, labels, NAMES, font_size=6))[:, 80:]
    np.testing.assert_array_equal(drawn[:, 80:], legend)
    half = np.asarray(draw_instances(grey, found, opacity=0.5, font_size=6))
    expected = np.rint(50 + 0.5 * np.array(colours["红色汽车"]))
    np.testing.assert_allclose(half[16, 62], expected, atol=1)
    nothing = InstanceSegmentation(
        NAMES, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), np.zeros((0, 60, 80), bool)
    )
    empty = np.asarray(draw_instances(grey, nothing, font_size=6))
    assert empty.shape == drawn.shape  # frames of a video fit
    np.testing.assert_array_equal(empty[:, :80], np.asarray(grey))
    assert nothing.coco_results(1) == []
    assert not np.asarray(nothing.mask_image()).any()
