"""Pictures and texts as the released code prepares them, plus everything it cannot open. Values, not shapes."""

from __future__ import annotations

import gzip
import io
import json
import logging
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image
from fgclip2.processing import BUCKETS, ImageProcessor, Processor, TextProcessor, bucket, grid_size

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(golden_dir / "golden.safetensors")


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def ramp(width: int = 40, height: int = 24) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 5, y * 7, x + y], axis=-1).astype(np.uint8))


class TestAgainstTheReleasedProcessor:
    @pytest.mark.parametrize("index", range(5))
    def test_dynamic_bucket(self, golden_dir: Path, golden: dict[str, torch.Tensor], index: int):
        prefix = f"dynamic.{index}."
        batch = ImageProcessor()(golden_dir / f"image_{index}.png")
        real = batch["pixel_attention_mask"][0].bool()
        assert batch["pixel_values"].shape[1] == golden[prefix + "num_patches"].item()
        assert torch.equal(batch["spatial_shapes"][0], golden[prefix + "spatial_shape"])
        # The golden file stores these in half precision.
        assert torch.equal(batch["pixel_values"][0, real].half(), golden[prefix + "pixel_values"])
        assert not batch["pixel_values"][0, ~real].any()

    def test_fixed_budget_batch(self, golden_dir: Path, golden: dict[str, torch.Tensor]):
        batch = ImageProcessor()([golden_dir / f"image_{i}.png" for i in range(5)], max_patches=256)
        for key in ("pixel_values", "pixel_attention_mask", "spatial_shapes"):
            assert batch[key].dtype == golden[f"batch.{key}"].dtype
            assert torch.equal(batch[key], golden[f"batch.{key}"]), key

    def test_largest_picture_decides_the_batch(self, golden_dir: Path):
        batch = ImageProcessor()([golden_dir / "image_0.png", golden_dir / "image_1.png"])
        assert batch["pixel_values"].shape == (2, 256, 768)

    def test_without_padding_the_same_patches(self, golden_dir: Path):
        padded = ImageProcessor()(golden_dir / "image_0.png")
        tight = ImageProcessor()(golden_dir / "image_0.png", pad=False)
        assert tight["pixel_values"].shape == (1, 117, 768)
        assert torch.equal(tight["pixel_values"], padded["pixel_values"][:, :117])
        assert tight["pixel_attention_mask"].all()


class TestBudgetAndGrid:
    @pytest.mark.parametrize(
        ("width", "height", "expected"),
        [(1, 1, 128), (16 * 128, 16, 128), (16 * 129, 16, 256), (256, 256, 256), (272, 256, 576), (384, 384, 576),
         (400, 384, 784), (448, 448, 784), (464, 448, 1024), (5000, 4000, 1024)],
    )  # fmt: skip
    def test_bucket_borders(self, width: int, height: int, expected: int):
        assert bucket(width, height) == expected

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1, 2, 7, *BUCKETS, 4096, 16384]))
    def test_grid_is_that_of_transformers(self, width: int, height: int, max_patches: int):
        from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

        rows, columns = grid_size(width, height, max_patches)
        assert rows * columns <= max_patches
        assert (rows * 16, columns * 16) == get_image_size_for_max_num_patches(height, width, 16, max_patches)

    @pytest.mark.parametrize(
        ("size", "budget", "expected"),
        [((1, 20_000), 256, (256, 1)), ((20_000, 1), 1, (1, 1)), ((20_000, 40), 1024, (2, 512)),
         ((170_000_000, 1), 4, (1, 4)), ((2048, 2048), 16_384, (128, 128))],
    )  # fmt: skip
    def test_extreme_pictures_stay_in_the_budget(self, size: tuple[int, int], budget: int, expected: tuple[int, int]):
        rows, columns = grid_size(*size, budget)
        assert rows * columns <= budget
        assert (rows, columns) == expected

    @pytest.mark.parametrize("max_patches", [1, 5, 100, 300, 5000])
    def test_an_asked_budget_is_obeyed(self, max_patches: int):
        batch = ImageProcessor()(ramp(640, 480), max_patches=max_patches)
        rows, columns = batch["spatial_shapes"][0].tolist()
        assert batch["pixel_values"].shape == (1, max_patches, 768)
        assert batch["pixel_attention_mask"].sum() == rows * columns <= max_patches
        assert rows * columns > max_patches / 2 - 1

    @pytest.mark.parametrize("max_patches", [0, -1, 16_385, True, 2.5, "256"])
    def test_a_wrong_budget_is_refused(self, max_patches: object):
        with pytest.raises(Fgclip2Error, match=r"max_patches is .*1 to 16,384"):
            ImageProcessor()(ramp(), max_patches=max_patches)  # type: ignore[arg-type]

    def test_no_picture_is_refused(self):
        with pytest.raises(Fgclip2Error, match="no picture"):
            ImageProcessor()([])

    @pytest.mark.parametrize("size", [(1, 300), (20_000, 3), (1, 1)])
    def test_thin_pictures_are_processed(self, size: tuple[int, int]):
        batch = ImageProcessor()(Image.new("RGB", size, RED))
        real = batch["pixel_attention_mask"][0].bool()
        assert torch.equal(batch["pixel_values"][0, real][0, :3], torch.tensor([1.0, -1.0, -1.0]))


class TestOpenImage:
    def test_every_way_to_give_a_picture(self, tmp_path: Path):
        picture, path = ramp(), tmp_path / "图片.png"
        picture.save(path)
        array = np.array(picture)
        ways = [str(path), path, path.read_bytes(), bytearray(path.read_bytes()), picture, array,
                torch.from_numpy(array), torch.from_numpy(array).flip(1).flip(1)]  # fmt: skip
        for way in ways:
            assert np.array_equal(np.asarray(open_image(way)), array), type(way)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation: int):
        upright = Image.new("RGB", (32, 16), RED)
        upright.paste(GREEN, (0, 0, 8, 8))  # upper left
        undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
                7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
        stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation in undo else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(stored, exif=exif)
        for opened in (open_image(data), open_image(Image.open(io.BytesIO(data)))):
            assert np.array_equal(np.asarray(opened), np.asarray(upright))
            assert np.array_equal(np.asarray(open_image(opened)), np.asarray(upright))  # not turned a second time

    def test_broken_exif_is_reported_and_the_picture_kept(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        def broken(self: Image.Image) -> None:
            raise SyntaxError("not a TIFF file")

        monkeypatch.setattr(Image.Image, "getexif", broken)
        assert open_image(encoded(ramp())).size == (40, 24)
        assert "EXIF data cannot be read (not a TIFF file)" in caplog.text

    def test_transparency_goes_on_white(self):
        clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
        half = Image.new("LA", (8, 8), (0, 128))
        assert open_image(encoded(clear)).getpixel((0, 0)) == (255, 255, 255)
        assert open_image(encoded(half)).getpixel((0, 0)) == (127, 127, 127)
        assert open_image(Image.new("RGBA", (8, 8), (*RED, 255))).getpixel((0, 0)) == RED

    def test_palette_with_and_without_transparency(self):
        palette = Image.new("RGB", (8, 8), RED).convert("P")
        assert open_image(encoded(palette)).getpixel((0, 0)) == RED
        data = encoded(palette, transparency=palette.getpixel((0, 0)))
        assert open_image(data).getpixel((0, 0)) == (255, 255, 255)

    def test_cmyk_and_grey_and_bilevel(self):
        assert open_image(encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")).getpixel((5, 5)) == (255,) * 3
        assert open_image(encoded(Image.new("L", (4, 4), 77))).getpixel((1, 1)) == (77, 77, 77)
        assert open_image(encoded(Image.new("1", (4, 4), 1))).getpixel((1, 1)) == (255, 255, 255)

    def test_16_bit_grey_is_scaled_not_clipped(self):
        values = np.array([[0, 257, 32_896, 65_535]], dtype=np.uint16)
        opened = open_image(encoded(Image.fromarray(values)))
        assert np.asarray(opened)[0, :, 0].tolist() == [0, 1, 128, 255]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 100.4, 255.0], [0, 100, 255]), ([0.0, 257.0, 65_535.0], [0, 1, 255])],
    )
    def test_float_grey(self, values: list[float], expected: list[int]):
        opened = open_image(encoded(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF"))
        assert np.asarray(opened)[0, :, 1].tolist() == expected

    @pytest.mark.parametrize("values", [[-1.0, 0.0], [0.0, 1e6], [0.0, float("nan")]])
    def test_float_grey_of_unknown_range_is_refused(self, values: list[float]):
        with pytest.raises(Fgclip2Error, match="grey values (from|that are not finite)"):
            open_image(Image.fromarray(np.array([values], dtype=np.float32)))

    @pytest.mark.parametrize("order", ["<u2", ">u2"])
    def test_16_bit_grey_of_few_bits_is_told(
        self, order: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        """Either byte order gives one picture; the second such picture is not named again."""
        monkeypatch.setattr("fgclip2.images._told", set())
        values = np.array([[0, 257, 4095]], dtype=order)
        raw = Image.frombytes("I;16B" if order == ">u2" else "I;16", (3, 1), values.tobytes())
        for _ in range(2):
            assert np.asarray(open_image(encoded(raw, "TIFF")))[0, :, 0].tolist() == [0, 1, 16]
        (record,) = caplog.records
        assert "no value over 4095, so it is read as almost black" in record.message

    @pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP"])
    def test_further_frames_and_pages_are_told(
        self, format: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("fgclip2.images._told", set())
        first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), GREEN)
        expected = open_image(encoded(first, format)).getpixel((0, 0))
        assert caplog.records == []
        data = encoded(first, format, save_all=True, append_images=[second])
        assert [open_image(data).getpixel((0, 0)) for _ in range(2)] == [expected] * 2
        (record,) = caplog.records
        assert "has several frames or pages, and the first is read" in record.message

    def test_32_bit_integer_grey(self):
        opened = open_image(Image.fromarray(np.array([[0, 65_535]], dtype=np.int32)))
        assert np.asarray(opened)[0, :, 0].tolist() == [0, 255]

    def test_animation_gives_its_first_frame(self):
        data = encoded(
            Image.new("RGB", (8, 8), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), GREEN)]
        )
        assert open_image(data).getpixel((0, 0)) == RED

    @pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP", "TIFF", "PPM", "AVIF"])
    def test_common_formats(self, format: str):
        red, green, blue = open_image(encoded(Image.new("RGB", (32, 32), RED), format)).getpixel((9, 9))
        assert red > 245
        assert max(green, blue) < 10

    def test_bomb_is_refused_from_the_header(self):
        # A real PNG header for 60,000 x 60,000 and no picture data: decoding would fail in another way.
        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        with pytest.raises(Fgclip2Error, match="before decoding.*max_pixels"):
            open_image(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")

    def test_own_pixel_limit(self):
        with pytest.raises(Fgclip2Error, match=r"40 x 24 = 960 pixels, over the limit of 900"):
            open_image(encoded(ramp()), max_pixels=900)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (np.zeros((8, 9, 3), np.float32), r"float32.*scale floats in 0..1 by 255"),
            (torch.zeros(8, 9, 3, dtype=torch.bfloat16), r"a tensor of shape \(8, 9, 3\) and type torch.bfloat16"),
            (np.zeros((3, 8, 9), np.uint8), "transpose"),
            (torch.zeros(3, 8, 9), "permute"),
            (np.zeros((8, 9), np.uint8), "grey"),
            (np.zeros((8, 9, 4), np.uint8), "alpha"),
            (np.zeros((2, 8, 9, 3), np.uint8), "this takes one picture: give array"),
            (np.zeros((0, 9, 3), np.uint8), "empty"),
            (None, "cannot read a picture from NoneType"),
            ("https://example.org/a.jpg", "download it"),
            (b"", "is empty"),
            (b"hello, I am a text", "not a picture"),
        ],
    )
    def test_what_is_no_picture_is_explained(self, given: object, message: str):
        with pytest.raises(Fgclip2Error, match=message):
            open_image(given)  # type: ignore[arg-type]

    def test_bad_files_are_named(self, tmp_path: Path):
        text, cut, missing = tmp_path / "text.jpg", tmp_path / "截断.jpg", tmp_path / "missing.jpg"
        text.write_text("这不是图片", encoding="utf-8")
        cut.write_bytes(encoded(ramp(200, 200), "JPEG")[:900])
        for path, message in [(text, "not a picture"), (cut, "damaged or cut short"), (missing, "does not exist"),
                              (tmp_path, "is a folder")]:  # fmt: skip
            with pytest.raises(Fgclip2Error, match=message) as caught:
                open_image(path)
            assert path.name in str(caught.value)
            assert "\n" not in str(caught.value)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 3), st.data())
    def test_damaged_bytes_give_a_picture_or_a_teaching_error(self, which: int, data: st.DataObject):
        whole = bytearray(encoded(ramp(), ["PNG", "JPEG", "GIF", "WEBP"][which]))
        for _ in range(data.draw(st.integers(1, 8))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
        try:
            assert open_image(cut).mode == "RGB"
        except Fgclip2Error as error:
            assert "picture of" in str(error)  # noqa: PT017

    def test_the_callers_picture_is_left_alone(self):
        image = Image.new("RGBA", (4, 4), (*RED, 0))
        image.info["exif"] = b"kept"
        open_image(image.copy())
        assert image.mode == "RGBA"
        assert image.info["exif"] == b"kept"


@pytest.fixture(scope="module")
def texts(tiny_dir: Path) -> TextProcessor:
    return TextProcessor(tiny_dir)


class TestTexts:
    def test_lower_cased_and_padded_to_full_length(self, texts: TextProcessor):
        ids = texts(["A Red Car", "a red car", "红色的汽车"])
        assert ids.shape == (3, 64)
        assert ids.dtype == torch.int64
        assert torch.equal(ids[0], ids[1])
        used = texts.count("红色的汽车")
        assert ids[2, used - 1] == 1  # <eos>
        assert not ids[2, used:].any()  # <pad> is 0

    @pytest.mark.parametrize(("kind", "length"), [("short", 64), ("box", 64), ("long", 196)])
    def test_length_of_each_kind(self, texts: TextProcessor, kind: str, length: int):
        assert texts("黑猫", kind).shape == (1, length)  # type: ignore[arg-type]

    def test_any_text_round_trips(self, texts: TextProcessor):
        for text in ("龘靐齉", "naïve café", "🦊 fox", "a  b"):
            ids = texts(text)[0]
            assert texts.tokenizer.decode(ids[: texts.count(text) - 1].tolist()) == text

    def test_a_cut_text_keeps_its_end_token_and_is_reported(
        self, texts: TextProcessor, caplog: pytest.LogCaptureFixture
    ):
        text = "red apple " * 60
        with caplog.at_level(logging.WARNING):
            ids = texts(["a cat", text])
        assert ids[1, -1] == 1
        assert torch.equal(ids[1, :63], texts(text, "long")[0, :63])
        assert "1 of 2 texts" in caplog.text
        assert "red apple" in caplog.text
        assert "kind='long'" in caplog.text

    @pytest.mark.parametrize(
        ("given", "message"),
        [("", "text 0 is empty"), (["a", "  "], "text 1 is empty"), (["a", 3], "text 1 is int"), (5, "texts are int"),
         ([None], "text 0 is NoneType")],
    )  # fmt: skip
    def test_what_is_no_text_is_explained(self, texts: TextProcessor, given: object, message: str):
        with pytest.raises(Fgclip2Error, match=message):
            texts(given)  # type: ignore[arg-type]

    def test_unknown_kind(self, texts: TextProcessor):
        with pytest.raises(Fgclip2Error, match="'region'.*'box'"):
            texts("a", "region")  # type: ignore[arg-type]

    def test_no_text_gives_no_row(self, texts: TextProcessor):
        assert texts([]).shape == (0, 64)

    def test_gemma_vocabulary_gives_the_ids_of_transformers(self, shared: Path, tmp_path: Path):
        from transformers import AutoTokenizer

        source = shared / "data" / "tokenizer-gemma256k"
        (tmp_path / "tokenizer.json").write_bytes(gzip.decompress((source / "tokenizer.json.gz").read_bytes()))
        shutil.copy(source / "tokenizer_config.json", tmp_path)
        texts = ["A Photo of a RED car", "一只黑猫在红色沙发上", "word " * 100, "  two  spaces", "🦊 ÀÉ"]
        reference = AutoTokenizer.from_pretrained(tmp_path)
        # Right-hand padding is asked for: it is what the model was trained with, but no longer Gemma's default.
        expected = reference(
            [text.lower() for text in texts], padding="max_length", max_length=64, truncation=True, return_tensors="pt",
            padding_side="right",
        )  # fmt: skip
        assert torch.equal(TextProcessor(tmp_path)(texts), expected["input_ids"])
        # The flags of released SigLIP 2 tokenizers overrule the post-processor of tokenizer.json.
        config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
        config.update(add_bos_token=False, add_eos_token=True)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        ids = TextProcessor(tmp_path)(texts)
        assert ids[1, :9].tolist() == [*expected["input_ids"][1, 1:8].tolist(), 1, 0]
        assert ids[2, -1] == 1


class TestModelDirectory:
    def copy(self, tiny_dir: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(tiny_dir, tmp_path / "model"))

    def test_lengths_come_from_the_configuration(self, tiny_dir: Path, tmp_path: Path):
        directory = self.copy(tiny_dir, tmp_path)
        config = json.loads((directory / "config.json").read_text())
        config["text_config"].update(max_position_embeddings=32, longtext_len=68)
        (directory / "config.json").write_text(json.dumps(config))
        processor = Processor.from_pretrained(directory)
        assert processor.text("a", "box").shape == (1, 32)
        assert processor.text("a", "long").shape == (1, 68)
        assert processor.image.patch_size == 16

    def test_missing_and_damaged_files_are_named(self, tiny_dir: Path, tmp_path: Path):
        directory = self.copy(tiny_dir, tmp_path)
        tokenizer = directory / "tokenizer.json"
        tokenizer.write_text("{}")
        with pytest.raises(Fgclip2Error, match=r"tokenizer\.json cannot be read as a tokenizer"):
            Processor.from_pretrained(directory)
        tokenizer.unlink()
        with pytest.raises(Fgclip2Error, match=r"tokenizer\.json is missing; copy"):
            Processor.from_pretrained(directory)
        (directory / "tokenizer.json.gz").touch()
        with pytest.raises(Fgclip2Error, match=r"unpack tokenizer\.json\.gz"):
            Processor.from_pretrained(directory)
        (directory / "config.json").write_text("[1")
        with pytest.raises(Fgclip2Error, match=r"config\.json cannot be read"):
            Processor.from_pretrained(directory)

    @pytest.mark.parametrize(
        ("change", "message"),
        [({"model_type": "siglip2"}, "from_siglip2"), ({"text_config": {"hidden_size": "many"}}, "not a usable")],
    )
    def test_foreign_configuration(self, tiny_dir: Path, tmp_path: Path, change: dict[str, object], message: str):
        directory = self.copy(tiny_dir, tmp_path)
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(Fgclip2Error, match=message) as caught:
            Processor.from_pretrained(directory)
        assert "\n" not in str(caught.value)

    def test_a_tokenizer_larger_than_the_model_is_refused(self, tiny_dir: Path, tmp_path: Path):
        directory = self.copy(tiny_dir, tmp_path)
        config = json.loads((directory / "config.json").read_text())
        config["text_config"]["vocab_size"] = 100
        (directory / "config.json").write_text(json.dumps(config))
        with pytest.raises(Fgclip2Error, match="vocabulary ends at 99"):
            Processor.from_pretrained(directory)

    def test_padding_token_must_exist(self, tiny_dir: Path, tmp_path: Path):
        directory = self.copy(tiny_dir, tmp_path)
        (directory / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "[PAD]"}}))
        with pytest.raises(Fgclip2Error, match=r"\[PAD\]"):
            TextProcessor(directory)
        (directory / "tokenizer_config.json").unlink()
        with pytest.raises(Fgclip2Error, match="names no padding token"):
            TextProcessor(directory)
        assert TextProcessor(directory, pad_id=0)("a")[0, -1] == 0
