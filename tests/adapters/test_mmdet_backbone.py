"""The tower inside mmdetection: patches, padding, freezing, checkpoints without the frozen weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import FGCLIP2
from fgclip2_mmdet import FGCLIP2Backbone, FGCLIP2DataPreprocessor, PatchResize
from fgclip2_mmdet.backbone import patchify


@pytest.fixture(scope="module")
def backbone(tiny_dir: Path) -> FGCLIP2Backbone:
    torch.manual_seed(0)
    return FGCLIP2Backbone(model=str(tiny_dir), out_channels=16, strides=(8, 16, 32), dtype="float32").eval()


def pictures(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    return [torch.rand(3, *size, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i, size in enumerate(sizes)]


def padded(images: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    batch = torch.zeros(len(images), 3, height, width)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch


def test_patches_are_the_processors(tiny: FGCLIP2) -> None:
    """The same pixels give the same patches in the same order as the toolkit's own processor."""
    pixels = torch.randint(0, 256, (48, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = tiny.processor.image([pixels.numpy()], max_patches=15)
    batch = FGCLIP2DataPreprocessor()({"inputs": [pixels.permute(2, 0, 1).flip(0)], "data_samples": None})["inputs"]
    patches, mask, grids, _ = patchify(batch, None)
    assert grids.tolist() == expected["spatial_shapes"].tolist() == [[3, 5]]
    assert bool(mask.all())
    torch.testing.assert_close(patches, expected["pixel_values"], atol=1e-6, rtol=0)


def test_dense_map_is_the_predictors(backbone: FGCLIP2Backbone, tiny: FGCLIP2) -> None:
    (image,) = pictures((48, 64))
    dense = backbone.encode(image[None]).dense
    inputs = {"pixel_values": patchify(image[None], None)[0], "pixel_attention_mask": None}
    tokens = tiny.model.dense(tiny.model.encode_image(**inputs, spatial_shapes=torch.tensor([[3, 4]])))
    torch.testing.assert_close(dense, tokens.transpose(1, 2).unflatten(2, (3, 4)), atol=1e-5, rtol=1e-5)


def test_levels_have_their_strides(backbone: FGCLIP2Backbone) -> None:
    levels = backbone(torch.zeros(2, 3, 80, 64))
    assert [tuple(level.shape) for level in levels] == [(2, 16, 10, 8), (2, 16, 5, 4), (2, 16, 3, 2)]


@pytest.mark.parametrize("canvas", [(80, 96), (128, 160)])
def test_padding_has_no_influence(backbone: FGCLIP2Backbone, canvas: tuple[int, int]) -> None:
    sizes = [(48, 96), (80, 32), (70, 50)]  # the last has partly empty patches
    images = pictures(*sizes)
    together = backbone.encode(padded(images, *canvas), sizes)
    for index, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
        rows, columns = -(-height // 16), -(-width // 16)
        alone = backbone.encode(padded([image], rows * 16, columns * 16), [(height, width)])
        for stride, level, single in zip((8, 16, 32), together.pyramid, alone.pyramid, strict=True):
            h, w = single.shape[-2:]
            torch.testing.assert_close(level[index : index + 1, :, :h, :w], single, atol=1e-5, rtol=1e-5)
            assert level[index, :, h:].abs().sum() == level[index, :, :, w:].abs().sum() == 0, stride
        torch.testing.assert_close(together.dense[index, :, :rows, :columns], alone.dense[0], atol=1e-5, rtol=1e-5)
        assert together.dense[index, :, rows:].abs().sum() == 0


def test_tower_is_frozen_and_not_in_checkpoints(backbone: FGCLIP2Backbone) -> None:
    trained = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(name.startswith("pyramid.") for name in trained)
    assert all(name.startswith("pyramid.") for name in backbone.state_dict())
    assert backbone.load_state_dict(backbone.state_dict()).missing_keys == []
    assert not backbone.train().tower.training


def test_last_blocks_can_be_trained(tiny_dir: Path) -> None:
    model = FGCLIP2Backbone(model=str(tiny_dir), out_channels=8, trainable_blocks=1, dtype="float32")
    sum(level.sum() for level in model(torch.rand(1, 3, 32, 32))).backward()
    with_gradient = {name for name, parameter in model.tower.named_parameters() if parameter.grad is not None}
    assert with_gradient
    assert all("vision_model.encoder.layers.1." in name for name in with_gradient)
    assert any("tower.vision_model.encoder.layers.1." in name for name in model.state_dict())


@pytest.mark.parametrize("with_cp", [False, True])
def test_checkpointing_recomputes_and_changes_no_gradient(tiny_dir: Path, with_cp: bool) -> None:
    gradients = []
    for checkpointed in (False, with_cp):
        torch.manual_seed(0)
        settings = {"out_channels": 8, "trainable_blocks": 1, "dtype": "float32"}
        model = FGCLIP2Backbone(model=str(tiny_dir), with_cp=checkpointed, **settings).train()
        passes: list[int] = []
        last = model.tower.vision_model.encoder.layers[-1]
        last.layer_norm1.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        sum(level.square().sum() for level in model(pictures((48, 64))[0][None])).backward()
        assert len(passes) == (2 if checkpointed else 1)
        gradients.append([parameter.grad for parameter in last.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_bf16_is_close(tiny_dir: Path, backbone: FGCLIP2Backbone) -> None:
    fast = FGCLIP2Backbone(model=str(tiny_dir), out_channels=16, dtype="bfloat16").eval()
    (image,) = pictures((64, 64))
    exact, rough = backbone.encode(image[None]).dense, fast.encode(image[None]).dense
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough, dim=1).min() > 0.99


def test_sizes_that_are_no_patches_are_refused(backbone: FGCLIP2Backbone) -> None:
    with pytest.raises(Fgclip2Error, match=r"50 x 64.*multiples of 16"):
        backbone(torch.zeros(1, 3, 50, 64))


def test_unknown_options_are_named(tiny_dir: Path) -> None:
    with pytest.raises(Fgclip2Error, match="strides"):
        FGCLIP2Backbone(model=str(tiny_dir), strides=(7,))
    with pytest.raises(Fgclip2Error, match="float32"):
        FGCLIP2Backbone(model=str(tiny_dir), dtype="int8")
    with pytest.raises(Fgclip2Error, match="0 to 2"):
        FGCLIP2Backbone(model=str(tiny_dir), trainable_blocks=3)
    with pytest.raises(Fgclip2Error, match="give trainable_blocks"):
        FGCLIP2Backbone(model=str(tiny_dir), with_cp=True)
    with pytest.raises(Fgclip2Error, match="mean"):
        FGCLIP2DataPreprocessor(mean=[0, 0, 0])


@pytest.mark.parametrize("size", [(1280, 853), (37, 90), (320, 320)])
def test_pixels_are_the_predictors(tiny: FGCLIP2, size: tuple[int, int]) -> None:
    """To the bit, shrunk, enlarged and as it is; boxes follow."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    boxes = HorizontalBoxes(torch.tensor([[0.0, 0.0, size[0] / 2, size[1] / 4]]))
    given = {"img": np.ascontiguousarray(pixels[..., ::-1]), "gt_bboxes": boxes}
    results = PatchResize(400)(given)
    height, width = results["img"].shape[:2]
    expected = tiny.processor.image.patches(Image.fromarray(pixels), 400)
    rows, columns = height // 16, width // 16
    got = results["img"][..., ::-1].reshape(rows, 16, columns, 16, 3).swapaxes(1, 2).reshape(rows * columns, -1)
    assert expected.grid == (rows, columns)
    np.testing.assert_array_equal(got, expected.values)
    np.testing.assert_allclose(results["gt_bboxes"].numpy(), [[0, 0, width / 2, height / 4]], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "budget", "upscale", "expected"),
    [((320, 320), 400, True, (320, 320)), ((100, 50), 128, True, (256, 128)), ((100, 50), 128, False, (112, 64))],
)
def test_pictures_are_resized_to_whole_patches(
    size: tuple[int, int], budget: int, upscale: bool, expected: tuple[int, int]
) -> None:
    width, height = size
    results = PatchResize(budget, upscale)({"img": np.zeros((height, width, 3), np.uint8)})
    assert results["img"].shape[1::-1] == expected
    assert results["scale_factor"] == (expected[0] / width, expected[1] / height)
