"""Class numbers inside NMS: what is kept follows from boxes and scores alone, whatever a class's number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fgclip2.fusion import Detections
from fgclip2.suppression import suppress
from fgclip2.tiles import merge_tiles

BOXES = [
    [103, 100, 113, 110],
    [103, 100, 115, 110],
    [303, 300, 311, 308],
    [306, 301, 313, 309],
    [900, 600, 1000, 700],
]
SCORES = [0.9, 0.8, 0.7, 0.6, 0.5]
KEPT = [0, 2, 3, 4]
"""With an overlap of 0.7: the first two share 100 of 120 pixels, the third and fourth 35 of 85."""


def plain(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, threshold: float) -> list[int]:
    """Greedy NMS of every class by itself, as it is defined."""
    boxes = boxes.astype(np.float64)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if classes[other] == classes[index]]
        low = np.maximum(boxes[rivals, :2], boxes[index, :2])
        shared = (np.minimum(boxes[rivals, 2:], boxes[index, 2:]) - low).clip(min=0).prod(1)
        if not (shared > threshold * (areas[rivals] + areas[index] - shared)).any():
            kept.append(int(index))
    return kept


@pytest.mark.parametrize("label", [0, 1, 1202, 19_999, 2**31, 2**40])
def test_a_class_number_moves_no_box(label: int) -> None:
    boxes, scores = torch.tensor(BOXES, dtype=torch.float32), torch.tensor(SCORES)
    assert suppress(boxes, scores, torch.full((5,), label), 0.7).tolist() == KEPT
    # The same beside another class, which no box of it may change.
    far = torch.tensor([[0.0, 0.0, 10_000.0, 10_000.0]])
    kept = suppress(torch.cat([boxes, far]), torch.tensor([*SCORES, 0.1]), torch.tensor([label] * 5 + [3]), 0.7)
    assert kept.tolist() == [*KEPT, 5]


@given(data=st.data(), count=st.integers(1, 1500), most=st.sampled_from([1, 3, 80, 1203, 5000]))
@settings(max_examples=40, deadline=None)
def test_classes_are_suppressed_as_if_each_were_alone(data: st.DataObject, count: int, most: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    # Few places in an image of 10,000 pixels, so that boxes overlap; a half of them in quarters of a pixel.
    corner = rng.choice([-40.0, 0.0, 103.0, 9_980.0], (count, 2)) + rng.integers(0, 12, (count, 2)) / 4
    boxes = np.concatenate([corner, corner + rng.integers(4, 24, (count, 2))], 1).astype(np.float32)
    scores = rng.permutation(count).astype(np.float32) / count
    classes = rng.choice(rng.choice(20_000, most, replace=False), count)
    threshold = data.draw(st.sampled_from([0.3, 0.52, 0.71]))
    kept = suppress(*map(torch.from_numpy, (boxes, scores, classes)), threshold)
    assert kept.tolist() == plain(boxes, scores, classes, threshold)


def test_five_thousand_classes_of_a_large_image_keep_their_pixels() -> None:
    pair = np.array([[9_980, 9_970, 9_990, 9_980], [9_980, 9_970, 9_991, 9_980]], np.float32)  # 10 of 11
    apart = np.array([[9_980, 9_970, 9_990, 9_980], [9_984, 9_970, 9_994, 9_980]], np.float32)  # 6 of 14
    boxes = np.concatenate([pair, apart] * 2500)
    classes = np.arange(5000).repeat(2)
    kept = suppress(torch.from_numpy(boxes), torch.linspace(1, 0, len(boxes)), torch.from_numpy(classes), 0.8)
    assert kept.tolist() == [row for row in range(len(boxes)) if row % 4 != 1]


def test_tiles_keep_what_each_class_alone_would() -> None:
    """Also where thousands of classes are in one image."""
    others = [[0, 0, 5, 5]] * 5000
    found = Detections(
        np.array([*others, *BOXES], np.float32),
        np.array([0.99] * 5000 + SCORES, np.float32),
        (*map(str, range(5000)), *["last"] * 5),
    )
    merged = merge_tiles([found], [(0, 0, 10_000, 10_000)], (10_000, 10_000), 0.7)
    last = [box.tolist() for box, label in zip(merged.boxes, merged.labels, strict=True) if label == "last"]
    assert last == [BOXES[index] for index in KEPT]
    assert len(merged) == 5000 + len(KEPT)


def test_boxes_without_end_do_not_reach_other_classes() -> None:
    boxes = torch.tensor([[0.0, 0.0, torch.inf, 10.0], [1.0, 1.0, 5.0, 5.0], [1.0, 1.0, 5.0, 5.5]])
    assert suppress(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([4, 7, 7]), 0.5).tolist() == [0, 1]


def test_no_box_gives_none() -> None:
    none = suppress(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64), 0.5)
    assert none.tolist() == []
