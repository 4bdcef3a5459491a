"""The public API on a small random model: the released outputs, order, batching, padding, and every refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import fgclip2
from fgclip2.cpu import has_bf16
from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import _THREADS, FGCLIP2, choose_dtype

# Batches of other shapes run through other kernels, which add in another order.
SAME = 1e-5


def pictures() -> list[Image.Image]:
    """Pictures of all sorts of sizes, two of each of some, in mixed order."""
    random = np.random.default_rng(0)
    sizes = [(224, 224), (97, 131), (640, 200), (1, 300), (224, 224), (500, 460), (30, 30), (97, 131), (300, 300)]
    return [Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes]


@pytest.fixture(scope="module")
def golden_model(golden_dir: Path, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> FGCLIP2:
    """The released code's random weights beside the small tokenizer."""
    directory = tmp_path_factory.mktemp("golden")
    for file in [*(golden_dir / "model").iterdir(), *tiny_dir.glob("tokenizer*.json")]:
        (directory / file.name).write_bytes(file.read_bytes())
    return fgclip2.load(directory, device="cpu", dtype="float32")


class TestAgainstTheReleasedCode:
    def test_image_dense_and_region_features(self, golden_dir: Path, golden_model: FGCLIP2):
        golden = load_file(golden_dir / "golden.safetensors")
        facts = json.loads((golden_dir / "golden.json").read_text())
        files = [golden_dir / image["file"] for image in facts["images"]]
        pooled = golden_model.image_features(files, max_patches=256)
        assert torch.allclose(pooled, F.normalize(golden["out.image_features"], dim=-1), atol=1e-5)
        for index, file in enumerate(files):
            features = golden_model.dense_features(file, max_patches=256)
            expected = F.normalize(golden["out.dense"][index], dim=-1)
            assert features.grid == tuple(golden["batch.spatial_shapes"][index].tolist())
            assert torch.allclose(features.map.flatten(0, 1), expected[: features.map[..., 0].numel()], atol=1e-5)
            regions = golden_model.region_features(file, facts["boxes_xyxy_pixels"][index], max_patches=256)
            assert torch.allclose(regions, F.normalize(golden["out.regions"][index], dim=-1), atol=1e-5)


class TestImages:
    def test_a_mixed_batch_equals_one_at_a_time(self, tiny: FGCLIP2):
        images = pictures()
        singly = torch.cat([tiny.image_features(image) for image in images])
        assert torch.allclose(tiny.image_features(images), singly, atol=SAME)
        assert torch.allclose(tiny.image_features(images, batch_size=2), singly, atol=SAME)
        distances = torch.cdist(singly, singly) + torch.eye(len(images))
        assert distances.min() > 100 * SAME  # or a wrong order could not be seen

    def test_a_generator_is_read_as_it_goes(self, tiny: FGCLIP2):
        images = [Image.new("RGB", (64, 64), (20 * i, 0, 0)) for i in range(8)]
        computed: list[int] = []
        taken = 0

        def stream() -> Iterator[Image.Image]:
            nonlocal taken
            for image in images:
                taken += 1
                yield image

        encode = tiny.model.encode_image

        def spy(*args: object, **kwargs: object) -> object:
            computed.append(taken)
            return encode(*args, **kwargs)

        tiny.model.encode_image = spy  # type: ignore[method-assign]
        try:
            features = tiny.image_features(stream(), batch_size=2)
        finally:
            del tiny.model.encode_image
        assert all(
            done <= read <= min(done + _THREADS + 1, 8) for done, read in zip((2, 4, 6, 8), computed, strict=True)
        )
        assert torch.allclose(features, tiny.image_features(images), atol=SAME)

    def test_padding_has_no_influence(self, tiny: FGCLIP2):
        inputs = tiny.processor.image(pictures()[1], max_patches=1024)
        with torch.no_grad():
            padded = F.normalize(tiny.model.get_image_features(**inputs), dim=-1)
        assert torch.allclose(tiny.image_features(pictures()[1], max_patches=1024), padded, atol=SAME)

    def test_features_are_float32_unit_length_and_can_be_trained_on(self, tiny: FGCLIP2):
        features = tiny.image_features(pictures()[:2])
        assert features.dtype == torch.float32
        assert torch.allclose(features.norm(dim=-1), torch.ones(2))
        head = torch.nn.Linear(tiny.width, 1)
        head(features).sum().backward()  # raises on tensors of inference mode
        assert torch.allclose(head.weight.grad, features.sum(0, keepdim=True))

    def test_no_picture_gives_no_row(self, tiny: FGCLIP2):
        assert tiny.image_features([]).shape == (0, tiny.width)
        assert tiny.image_features(iter([])).shape == (0, tiny.width)

    def test_a_bad_picture_is_named_by_index(self, tiny: FGCLIP2, tmp_path: Path):
        bad = tmp_path / "坏.jpg"
        bad.write_text("no picture")
        with pytest.raises(Fgclip2Error, match=r"image 1: picture .*坏\.jpg"):
            tiny.image_features([pictures()[0], bad])

    @pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
    def test_a_wrong_batch_size_is_refused(self, tiny: FGCLIP2, batch_size: object):
        with pytest.raises(Fgclip2Error, match="batch_size"):
            tiny.image_features(pictures(), batch_size=batch_size)  # type: ignore[arg-type]


class TestDense:
    def test_max_patches_is_obeyed(self, tiny: FGCLIP2):
        image = Image.new("RGB", (400, 300))
        assert tiny.dense_features(image).grid == (21, 27)  # 450 whole patches: bucket 576
        assert tiny.dense_features(image, max_patches=12).grid == (3, 4)
        assert tiny.dense_features(image, max_patches=3000).grid == (47, 63)

    def test_an_exif_turned_picture_is_upright(self, tiny: FGCLIP2, tmp_path: Path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (96, 32)).save(tmp_path / "turned.jpg", exif=exif)
        features = tiny.dense_features(tmp_path / "turned.jpg")
        assert features.image_size == (32, 96)
        assert features.grid[0] > features.grid[1]

    def test_similarity_map_and_regions(self, tiny: FGCLIP2):
        image = pictures()[2]
        heat = tiny.similarity_map(image, ["黑猫", "a red car"])
        assert heat.shape == (2, 200, 640)
        features = tiny.dense_features(image)
        text = tiny.text_features(["黑猫", "a red car"], kind="box")
        assert torch.allclose(heat, features.similarity_map(text))
        box = [[16, 32, 320, 180]]
        assert torch.allclose(tiny.region_features(image, box), features.regions(box))

    def test_short_text_is_refused_by_dense_features(self, tiny: FGCLIP2):
        with pytest.raises(Fgclip2Error, match="kind='box'"):
            tiny.dense_features(pictures()[0]).similarity(tiny.text_features(["黑猫"]))

    def test_lists_give_lists(self, tiny: FGCLIP2):
        """In batches; of one shape also as one array, and whatever may be read once only."""
        images = pictures()
        singly = [tiny.dense_features(image) for image in images]
        boxes = [
            [[0, 0, 20, 20]],
            np.zeros((0, 4)),
            [[5, 5, 30, 30], [0, 0, 9, 9]],
            *[[[0, 0, 1, 8]]] * (len(images) - 3),
        ]
        for given in (images, tuple(images), iter(images)):
            found = tiny.dense_features(given, batch_size=2)
            assert [one.image_size for one in found] == [one.image_size for one in singly]
            for one, other in zip(found, singly, strict=True):
                torch.testing.assert_close(one.map, other.map, atol=SAME, rtol=0)
        for one, dense, own in zip(tiny.region_features(images, boxes), singly, boxes, strict=True):
            torch.testing.assert_close(one, dense.regions(own), atol=SAME, rtol=0)
        assert (tiny.dense_features([]), tiny.region_features([], [])) == ([], [])
        stacked = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
        for given in (stacked, torch.from_numpy(stacked)):
            assert tiny.image_features(given).shape == (3, tiny.width)
            for one, array in zip(tiny.dense_features(given), stacked, strict=True):
                torch.testing.assert_close(one.map, tiny.dense_features(array).map, atol=SAME, rtol=0)

    def test_boxes_that_do_not_go_with_the_pictures_are_named(self, tiny: FGCLIP2):
        images = pictures()[:2]
        for boxes, told in (
            ([[[0, 0, 9, 9]]], "more than 1 pictures and boxes of 1; give a list with one"),
            ([[[0, 0, 9, 9]], [[0, 0, 9999, 9]]], "image 1: box 0 .* leaves the picture"),
            ([[0, 0, 9, 9], [0, 0, 9, 9]], "image [01]: .*put the single box in a list"),
            (3, "boxes of several pictures are 3; give a list"),
        ):
            with pytest.raises(Fgclip2Error, match=told):
                tiny.region_features(images, boxes)  # type: ignore[arg-type]


class TestTexts:
    @pytest.mark.parametrize("kind", ["short", "long", "box"])
    def test_each_kind_takes_its_head_and_length(self, tiny: FGCLIP2, kind: str):
        texts = ["A Red Car", "红色的汽车", "a red car"]
        features = tiny.text_features(texts, kind=kind)  # type: ignore[arg-type]
        ids = tiny.processor.text(texts, kind)  # type: ignore[arg-type]
        with torch.no_grad():
            expected = F.normalize(tiny.model.get_text_features(ids, walk_type=kind), dim=-1)
        assert features.kind == kind
        assert features.dtype == torch.float32
        assert torch.allclose(features, expected, atol=SAME)
        assert torch.equal(features[0], features[2])

    def test_the_heads_differ(self, tiny: FGCLIP2):
        short, box = (tiny.text_features("黑猫", kind=kind) for kind in ("short", "box"))
        assert not torch.allclose(short, box, atol=1e-2)

    def test_batches_keep_the_order(self, tiny: FGCLIP2):
        texts = [f"{word} cat" for word in ("red", "black", "two", "a", "green")]
        singly = torch.cat([tiny.text_features(text) for text in texts])
        assert singly.shape == (5, tiny.width)
        assert torch.allclose(tiny.text_features(iter(texts), batch_size=2), singly, atol=SAME)

    def test_a_repeated_text_is_computed_once(self, tiny: FGCLIP2, monkeypatch: pytest.MonkeyPatch):
        sizes: list[int] = []
        encode = tiny.model.get_text_features

        def spy(ids: torch.Tensor, **kwargs: object) -> torch.Tensor:
            sizes.append(len(ids))
            return encode(ids, **kwargs)

        monkeypatch.setattr(tiny.model, "get_text_features", spy)
        assert tiny.text_features(["猫", "dog", "猫", "DOG"]).shape == (4, tiny.width)
        assert sizes == [2]

    def test_no_text_gives_no_row(self, tiny: FGCLIP2):
        assert tiny.text_features([]).shape == (0, tiny.width)

    @pytest.mark.parametrize("texts", ["", ["a", ""], 3, [3], None])
    def test_what_is_no_text_is_refused(self, tiny: FGCLIP2, texts: object):
        with pytest.raises(Fgclip2Error, match="text"):
            tiny.text_features(texts)  # type: ignore[arg-type]


class TestLoad:
    def test_names_and_repr(self, tiny: FGCLIP2, tiny_dir: Path):
        assert tiny.name == str(tiny_dir)
        assert "width=64, device=cpu, dtype=float32" in repr(tiny)
        assert not tiny.model.training

    @pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), (torch.float32, torch.float32)])
    def test_dtype_is_obeyed_and_features_stay_float32(
        self, tiny_dir: Path, tiny: FGCLIP2, name: object, dtype: object
    ):
        model = fgclip2.load(tiny_dir, device="cpu", dtype=name)  # type: ignore[arg-type]
        assert model.dtype == dtype
        features = model.image_features(pictures()[:3])
        assert features.dtype == torch.float32
        assert F.cosine_similarity(features, tiny.image_features(pictures()[:3])).min() > 0.999

    def test_auto_dtype_follows_the_processor(self, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda: False)
        assert not has_bf16()
        assert fgclip2.load(tiny_dir, device="cpu").dtype == torch.float32
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
        assert fgclip2.load(tiny_dir, device="cpu").dtype == torch.bfloat16

    @pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
    def test_auto_dtype_follows_the_gpu(
        self, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        assert choose_dtype("auto", torch.device("cuda")) == dtype

    def test_environment_names_the_default(self, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FGCLIP2_MODEL", str(tiny_dir))
        model = fgclip2.load()
        assert model is fgclip2.load()
        assert model.directory == tiny_dir
        image = pictures()[0]
        assert torch.equal(fgclip2.dense_features(image).map, model.dense_features(image).map)
        assert fgclip2.dense_features(image, max_patches=9).grid == (3, 3)

    def test_no_weights_is_an_error_with_the_ways_out(self, tmp_path: Path):
        with pytest.raises(Fgclip2Error, match="tiny"):
            fgclip2.load(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [({"dtype": "int8"}, "dtype 'int8'"), ({"dtype": torch.int64}, "dtype"), ({"device": "cuda:77"}, "device"),
         ({"device": "quantum"}, "device 'quantum'")],
    )  # fmt: skip
    def test_wrong_arguments_are_refused(self, tiny_dir: Path, arguments: dict[str, object], message: str):
        with pytest.raises(Fgclip2Error, match=message) as caught:
            fgclip2.load(tiny_dir, **arguments)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    def test_damaged_weights_are_named(self, tiny_dir: Path, tmp_path: Path):
        directory = Path(shutil.copytree(tiny_dir, tmp_path / "model"))
        weights = directory / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(Fgclip2Error, match="cannot be read"):
            fgclip2.load(directory, dtype="float32")


class TestHash:
    def test_same_files_same_hash_wherever_they_are(self, tiny: FGCLIP2, tiny_dir: Path, tmp_path: Path):
        copy = Path(shutil.copytree(tiny_dir, tmp_path / "copy"))
        assert len(tiny.hash) == 64
        assert fgclip2.load(copy, device="cpu", dtype="bf16").hash == tiny.hash

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
    def test_every_file_counts(self, tiny: FGCLIP2, tiny_dir: Path, tmp_path: Path, name: str):
        copy = Path(shutil.copytree(tiny_dir, tmp_path / "copy"))
        other = FGCLIP2(tiny.model, tiny.processor, directory=copy)
        assert other.hash == tiny.hash
        with (copy / name).open("ab") as stream:
            stream.write(b" ")
        assert other.hash != tiny.hash

    def test_in_memory_it_follows_the_weights(self, tiny_dir: Path):
        loaded = fgclip2.load(tiny_dir, device="cpu", dtype="float32")
        model = FGCLIP2(loaded.model, loaded.processor)
        before = model.hash
        assert model.hash == before
        with torch.no_grad():
            loaded.model.logit_scale += 1
        assert model.hash != before


def test_an_iterator_may_give_one_object_again_and_again(tiny):
    """As a camera's buffer, or the frames of an animation: each picture counts as it was when it was given."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)

    def camera():
        buffer, picture = np.empty_like(frames[0]), Image.new("RGB", (64, 48))
        for number, frame in enumerate(frames):
            buffer[:] = frame
            picture.paste(Image.fromarray(frame))
            yield buffer if number % 2 else picture

    expected = tiny.image_features([Image.fromarray(frame) for frame in frames], batch_size=3)
    torch.testing.assert_close(tiny.image_features(camera(), batch_size=3), expected, atol=0, rtol=0)
    singly = [tiny.dense_features(frame) for frame in frames]
    boxes = [[[0, 0, 32, 32]]] * len(frames)
    for found in (tiny.dense_features(camera(), batch_size=3), tiny.dense_features_of(camera(), batch_size=3)):
        for one, other in zip(found, singly, strict=True):
            torch.testing.assert_close(one.map, other.map, atol=SAME, rtol=0)
    for one, dense in zip(tiny.region_features(camera(), boxes, batch_size=3), singly, strict=True):
        torch.testing.assert_close(one, dense.regions(boxes[0]), atol=SAME, rtol=0)
    with pytest.raises(Fgclip2Error, match="12 pictures and boxes of 13"):
        tiny.region_features(camera(), [*boxes, boxes[0]])
