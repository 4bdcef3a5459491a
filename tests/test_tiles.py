"""Tiles: every pixel and every small box is in one, and what is found in them comes together as if never cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import Detections
from fgclip2.tiles import TiledFinder, Tiling, Window, merge_tiles

SIZES = st.tuples(st.integers(1, 700), st.integers(1, 700))
SIDES = st.integers(32, 300)
OVERLAPS = st.floats(0, 0.9)


def detections(*items: tuple[Sequence[float], float, str]) -> Detections:
    boxes = np.array([box for box, _, _ in items], np.float32).reshape(-1, 4)
    return Detections(
        boxes, np.array([score for _, score, _ in items], np.float32), tuple(label for *_, label in items)
    )


@given(size=SIZES, side=SIDES, overlap=OVERLAPS)
@settings(max_examples=200, deadline=None)
def test_tiles_cover_the_picture(size: tuple[int, int], side: int, overlap: float) -> None:
    windows = Tiling(side, overlap).windows(size)
    covered = np.zeros(size[::-1], bool)
    for x1, y1, x2, y2 in windows:
        assert 0 <= x1 < x2 <= size[0]
        assert 0 <= y1 < y2 <= size[1]
        assert (x2 - x1, y2 - y1) == (min(side, size[0]), min(side, size[1]))
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    assert len(set(windows)) == len(windows)
    if max(size) <= side:
        assert windows == [(0, 0, *size)]


@given(size=SIZES, side=SIDES, overlap=OVERLAPS, data=st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_no_larger_than_the_overlap_is_whole_in_a_tile(
    size: tuple[int, int], side: int, overlap: float, data: st.DataObject
) -> None:
    box = []
    for length in size:
        extent = data.draw(st.integers(0, min(length, int(overlap * side))))
        start = data.draw(st.integers(0, length - extent))
        box.append((start, start + extent))
    (left, right), (top, bottom) = box
    assert any(
        x1 <= left and right <= x2 and y1 <= top and bottom <= y2
        for x1, y1, x2, y2 in Tiling(side, overlap).windows(size)
    )


class Squares:
    """Finds the white squares on black, each row of pixels that is white from a new column on being one's top."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __call__(self, images: Sequence[Image.Image]) -> list[Detections]:
        self.batches.append([image.size for image in images])
        return [self.find(np.asarray(image)) for image in images]

    def find(self, pixels: np.ndarray) -> Detections:
        items = []
        left = pixels.copy()
        for colour, label in ((255, "白"), (100, "grey")):
            while (left == colour).any():
                y1, x1 = np.argwhere((left == colour).all(-1))[0]
                same = (left[y1:, x1:] == colour).all(-1)
                width = same.shape[1] if same[0].all() else int(same[0].argmin())
                height = same.shape[0] if same[:, 0].all() else int(same[:, 0].argmin())
                left[y1 : y1 + height, x1 : x1 + width] = 0
                items.append(([x1, y1, x1 + width, y1 + height], 0.5 + width * height / 1e5, label))
        return detections(*items)


@given(
    places=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 9), st.integers(4, 24), st.booleans()), max_size=8),
    whole=st.booleans(),
    batch=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_objects_come_out_once_and_whole(places: list[tuple[int, int, int, bool]], whole: bool, batch: int) -> None:
    """Squares smaller than the overlap, 8 or more pixels apart: exactly those of the uncut picture."""
    pixels = np.zeros((320, 448, 3), np.uint8)
    for column, row, side, white in places:
        pixels[32 * row : 32 * row + 28, 32 * column : 32 * column + 28] = 0
        pixels[32 * row : 32 * row + side, 32 * column : 32 * column + side] = 255 if white else 100
    image = Image.fromarray(pixels)
    find = Squares()
    tiled = TiledFinder(find, Tiling(96, 0.3, whole=whole), batch)
    (found,) = tiled([image])
    (uncut,) = Squares()([image])
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(map(tuple, uncut.boxes.tolist()))
    assert sorted(found.labels) == sorted(uncut.labels)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert max(map(len, find.batches)) <= batch
    assert sum(map(len, find.batches)) == tiled.tiles == len(Tiling(96, 0.3).windows(image.size)) + whole


def test_small_pictures_pass_as_they_are() -> None:
    images = [Image.new("RGB", size) for size in ((96, 96), (300, 40), (50, 60))]
    seen = []

    def find(batch: Sequence[Image.Image]) -> list[Detections]:
        seen.extend(batch)
        return [detections(([0, 0, 5, 5], 0.4, "a"), ([0, 0, 5, 5], 0.9, "a")) for _ in batch]

    found = TiledFinder(find, Tiling(96))(images)
    assert seen[0] is images[0]
    assert found[0].scores.tolist() == found[2].scores.tolist() == pytest.approx([0.4, 0.9])  # untouched
    assert len(found) == 3
    assert TiledFinder(find, Tiling(96))([]) == []


@pytest.mark.parametrize("most", [None, 1, 7, 50])
def test_a_picture_keeps_its_best_of_all_tiles(most: int | None) -> None:
    """Five boxes a tile, of rising score; nine tiles and the whole."""
    count = itertools.count(1)

    def find(batch: Sequence[Image.Image]) -> list[Detections]:
        places = ([10 * side, 0, 10 * side + 8, 8] for side in range(5))
        rows = list(places)
        return [detections(*((row, next(count) / 100, "猫") for row in rows)) for _ in batch]

    tiled = TiledFinder(find, Tiling(96, 0.0, whole=False, max_detections=most))
    (found,) = tiled([Image.new("RGB", (288, 288))])
    kept = 45 if most is None else min(most, 45)
    assert found.scores.tolist() == pytest.approx([score / 100 for score in range(45, 45 - kept, -1)])
    assert len(found.boxes) == len(found.labels) == kept
    assert tiled.cut == 45 - kept


class TestMerge:
    windows: tuple[Window, ...] = ((0, 0, 100, 100), (70, 0, 170, 100), (0, 0, 170, 100))

    def merged(self, *found: Detections) -> list[tuple[list[float], str]]:
        merged = merge_tiles(found, self.windows[: len(found)], (170, 100), 0.5)
        return [(box, label) for box, label in zip(merged.boxes.tolist(), merged.labels, strict=True)]

    def test_a_cut_box_yields_to_a_whole_one_whatever_its_score(self) -> None:
        cut, full = detections(([80, 10, 100, 30], 0.9, "狗")), detections(([10, 10, 50, 30], 0.3, "狗"))
        assert self.merged(cut, full) == [([80, 10, 120, 30], "狗")]

    def test_another_class_takes_nothing(self) -> None:
        cut, full = detections(([80, 10, 100, 30], 0.9, "狗")), detections(([10, 10, 50, 30], 0.3, "dog"))
        assert len(self.merged(cut, full)) == 2

    def test_parts_of_what_is_nowhere_whole_stay(self) -> None:
        left, right = detections(([10, 10, 100, 90], 0.9, "bus")), detections(([0, 10, 100, 90], 0.8, "bus"))
        assert len(self.merged(left, right)) == 2
        seen_whole = detections(([10, 10, 170, 90], 0.4, "bus"))
        assert self.merged(left, right, seen_whole) == [([10, 10, 170, 90], "bus")]

    def test_a_box_at_the_pictures_own_edge_is_not_cut(self) -> None:
        edge, inside = detections(([0, 0, 20, 20], 0.5, "a")), detections()
        assert self.merged(edge, inside, detections(([0, 0, 60, 60], 0.9, "a"))) == [
            ([0, 0, 60, 60], "a"),
            ([0, 0, 20, 20], "a"),
        ]

    def test_nothing(self) -> None:
        assert self.merged(detections(), detections()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"side": 8}, "tiles of 8 pixels"), ({"overlap": 1.0}, "overlap by 1.0"), ({"nms_iou": 0.0}, "nms_iou 0.0")],
)
def test_bad_settings_are_named(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(Fgclip2Error, match=said):
        Tiling(**wrong)  # type: ignore[arg-type]
