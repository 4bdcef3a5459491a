"""What is drawn, checked in pixels; Chinese letters are compared with the glyphs of the font they must come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from fgclip2 import fonts
from fgclip2.errors import Fgclip2Error
from fgclip2.fonts import font_for
from fgclip2.visualize import draw_boxes, draw_masks, draw_segmentation, heat_map, label_colours

GREY = (90, 90, 90)


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", (320, 240), GREY)


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "find_cjk_font", lambda: None)
    monkeypatch.delenv("FGCLIP2_FONT", raising=False)


@pytest.fixture
def cjk_font(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FGCLIP2_FONT", raising=False)
    found = fonts.find_cjk_font()
    if found is None:
        pytest.skip("no font with Chinese letters here: pip install cvttf-notosanscjk-regular")
    return found


class TestBoxes:
    def test_frame_plate_and_untouched_middle(self, picture: Image.Image):
        drawn = draw_boxes(picture, [[40, 60, 200, 180]], ["red car"])
        colour = label_colours(["red car"])["red car"]
        assert drawn.size == picture.size
        for point in ((40, 120), (120, 60), (200, 120), (120, 180)):
            assert drawn.getpixel(point) == colour
        assert drawn.getpixel((120, 120)) == GREY
        assert drawn.getpixel((41, 55)) == colour  # the plate, above the box
        assert picture.getpixel((40, 120)) == GREY  # the caller's picture is left alone

    def test_no_box_changes_nothing(self, picture: Image.Image):
        for boxes in ([], np.zeros((0, 4)), torch.zeros(0, 4)):
            assert np.array_equal(np.asarray(draw_boxes(picture, boxes, [])), np.asarray(picture))

    def test_tensors_and_scores(self, picture: Image.Image):
        boxes = torch.tensor([[10.0, 30, 90, 90], [100, 30, 190, 90]], dtype=torch.bfloat16)
        with_scores = draw_boxes(picture, boxes, ["a", "b"], torch.tensor([0.5, 0.25]))
        assert np.array_equal(
            np.asarray(with_scores), np.asarray(draw_boxes(picture, boxes.tolist(), ["a", "b"], [0.5, 0.25]))
        )
        assert not np.array_equal(np.asarray(with_scores), np.asarray(draw_boxes(picture, boxes, ["a", "b"])))

    def test_boxes_beyond_the_picture_are_clipped(self, picture: Image.Image):
        drawn = draw_boxes(picture, [[-50, -50, 900, 900]], ["dog"])
        assert drawn.getpixel((319, 120)) == drawn.getpixel((160, 239)) == label_colours(["dog"])["dog"]

    def test_labels_of_nested_boxes_do_not_hide_each_other(self, picture: Image.Image):
        labels = ["first", "second", "third"]
        drawn = np.asarray(draw_boxes(picture, [[50, 80, 200, 200]] * 3, labels, font_size=16))
        for colour in label_colours(labels).values():
            assert (drawn == colour).all(-1).sum() > 150

    def test_same_label_same_colour(self):
        colours = label_colours(["猫", "狗", "猫"])
        assert list(colours) == ["猫", "狗"]
        assert colours["猫"] != colours["狗"]

    @pytest.mark.parametrize(
        ("boxes", "labels", "scores", "message"),
        [
            ([[1, 2, 3, 4]], [], None, "1 boxes, 0 labels"),
            ([[1, 2, 3, 4]], ["a"], [0.1, 0.2], r"\(2,\) scores"),
            ([[1, 2, 3]], ["a"], None, r"shape \(1, 3\)"),
            ([[1, 2, 3, float("inf")]], ["a"], None, "finite"),
            ([["x", 2, 3, 4]], ["a"], None, "not numbers"),
        ],
    )
    def test_what_does_not_fit_is_explained(
        self, picture: Image.Image, boxes: object, labels: list[str], scores: object, message: str
    ):
        with pytest.raises(Fgclip2Error, match=message):
            draw_boxes(picture, boxes, labels, scores)


class TestChinese:
    def test_letters_are_drawn_not_boxes(self, picture: Image.Image, cjk_font: Path):
        one, other = (
            np.asarray(draw_boxes(picture, [[40, 60, 200, 180]], [label])) for label in ("红色汽车", "白色汽车")
        )
        assert not np.array_equal(one, other)  # boxes for missing letters would be alike
        font = font_for("红色汽车", 20)
        missing = bytes(font.getmask("\U0010ffff"))
        assert all(bytes(font.getmask(letter)) != missing for letter in "红色汽车滑雪沙发车辆龙鸟门")

    def test_without_a_font_it_is_an_error_that_teaches(self, picture: Image.Image, no_fonts: None):
        with pytest.raises(Fgclip2Error, match=r"no font here can draw '红色汽车'.*cvttf-notosanscjk-regular"):
            draw_boxes(picture, [[40, 60, 200, 180]], ["红色汽车"])
        with pytest.raises(Fgclip2Error, match="FGCLIP2_FONT"):
            heat_map(picture, np.zeros((2, 2)), label="猫")

    def test_without_a_font_english_is_drawn_all_the_same(self, picture: Image.Image, no_fonts: None):
        assert not np.array_equal(np.asarray(draw_boxes(picture, [[40, 60, 200, 180]], ["car"])), np.asarray(picture))

    def test_the_environment_names_a_font(self, cjk_font: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.setenv("FGCLIP2_FONT", str(cjk_font))
        font = font_for("猫", 24)
        assert isinstance(font, ImageFont.FreeTypeFont)
        assert font.size == 24
        monkeypatch.setenv("FGCLIP2_FONT", str(tmp_path / "none.ttf"))
        with pytest.raises(Fgclip2Error, match=r"none\.ttf"):
            font_for("猫", 24)

    def test_a_system_font_comes_first(self, cjk_font: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        for name in ("readme.txt", "wqy-zenhei.ttc", "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "arial.ttf"):
            (tmp_path / name).touch()
        monkeypatch.setattr(fonts, "_system_folders", lambda: iter([tmp_path / "none", tmp_path]))
        assert fonts.find_cjk_font.__wrapped__() == tmp_path / "NotoSansCJK-Regular.ttc"


class TestMasks:
    def test_colour_inside_nothing_outside(self, picture: Image.Image):
        masks = np.zeros((2, 240, 320), bool)
        masks[0, 100:200, 50:150] = True
        drawn = draw_masks(picture, masks, ["grass", "sky"], opacity=0.5)
        expected = [round((a + b) / 2) for a, b in zip(GREY, label_colours(["grass"])["grass"], strict=True)]
        assert np.allclose(drawn.getpixel((52, 198)), expected, atol=1)
        assert drawn.getpixel((300, 20)) == GREY

    def test_none(self, picture: Image.Image):
        assert np.array_equal(np.asarray(draw_masks(picture, np.zeros((0, 240, 320)), [])), np.asarray(picture))

    def test_wrong_shape(self, picture: Image.Image):
        with pytest.raises(Fgclip2Error, match=r"\(M, 240, 320\)"):
            draw_masks(picture, np.zeros((1, 320, 240)), ["grass"])


class TestHeatMap:
    def test_low_is_blue_and_high_is_red(self, picture: Image.Image):
        similarity = torch.linspace(-1, 1, 320).repeat(240, 1)
        drawn = heat_map(picture, similarity, opacity=1.0)
        assert drawn.size == picture.size
        assert drawn.getpixel((0, 0)) == (48, 40, 120)
        assert drawn.getpixel((319, 239)) == (190, 25, 25)

    def test_opacity_zero_is_the_picture(self, picture: Image.Image):
        assert np.array_equal(np.asarray(heat_map(picture, np.eye(4), opacity=0.0)), np.asarray(picture))

    def test_limits_make_pictures_comparable(self, picture: Image.Image):
        flat = np.full((5, 5), 0.5)
        assert heat_map(picture, flat, opacity=1.0).getpixel((9, 9)) == (48, 40, 120)
        assert heat_map(picture, flat, limits=(0, 1), opacity=1.0).getpixel((9, 9)) == (130, 225, 90)

    @pytest.mark.parametrize(
        ("similarity", "limits", "message"),
        [(np.zeros((2, 3, 3)), None, "one text's map"), (np.zeros((0, 3)), None, "shape"),
         ([[float("nan")]], None, "finite"), (np.zeros((2, 2)), (1, 0), "limits")],
    )  # fmt: skip
    def test_what_cannot_be_drawn_is_explained(
        self, picture: Image.Image, similarity: object, limits: tuple[float, float] | None, message: str
    ):
        with pytest.raises(Fgclip2Error, match=message):
            heat_map(picture, similarity, limits=limits)


def test_segments_are_painted_and_listed() -> None:
    image = Image.new("RGB", (60, 60), (100, 100, 100))
    labels = np.full((60, 60), -1)
    labels[:20], labels[20:30] = 1, 0
    names = ["天空", "tree", "红色汽车"]
    colours = label_colours(names)
    plain = np.asarray(draw_segmentation(image, labels, names, opacity=0.5, legend=False)).astype(int)
    for row, name in ((5, "tree"), (25, "天空")):
        np.testing.assert_allclose(plain[row, 5], (np.array(colours[name]) + 100) / 2, atol=1)
    assert (plain[40] == 100).all()
    drawn = draw_segmentation(image, labels, names)
    listed = {tuple(colour) for colour in np.asarray(drawn)[:, 60:].reshape(-1, 3)}
    assert {colours["tree"], colours["天空"]} <= listed
    assert colours["红色汽车"] not in listed
    assert draw_segmentation(image, np.full((60, 60), -1), names).size == drawn.size
    swapped = np.where(labels < 0, -1, 1 - labels)
    upper, lower = (np.asarray(draw_segmentation(image, painted, names))[:, 60:] for painted in (labels, swapped))
    row = round(1.5 * 11)  # letters of 11 pixels
    assert (upper[:row] == lower[row : 2 * row]).all()  # the first line is not cut at the picture's edge
    with pytest.raises(Fgclip2Error, match="label 3 has no name"):
        draw_segmentation(image, np.full((60, 60), 3), names)
    with pytest.raises(Fgclip2Error, match="labels of shape"):
        draw_segmentation(image, labels[:5], names)


def test_a_label_has_one_colour_in_all_pictures(picture: Image.Image) -> None:
    """With the list of names colours do not follow what a picture shows first."""
    mask = np.zeros((1, 240, 320), bool)
    mask[:, 200:, 300:] = True
    names = ["dog", "cat", "bird"]
    colours = label_colours(names)
    for name in names:
        drawn = draw_masks(picture, mask, [name], names=names, opacity=1.0)
        assert drawn.getpixel((319, 239)) == colours[name]
