"""The detectron2 backbone: names, shapes, any size, padding, and which weights learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import FGCLIP2
from fgclip2_detectron2 import FGCLIP2Backbone


@pytest.fixture(scope="module")
def backbone(tiny_dir: Path) -> FGCLIP2Backbone:
    return FGCLIP2Backbone(str(tiny_dir), layers=2, dtype="float32").eval()


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, height, width, generator=generator) * 2 - 1 for height, width in sizes]


def test_missing_detectron2_is_one_line_with_the_command() -> None:
    code = (
        "import sys; sys.modules['detectron2'] = None\n"
        "try:\n    import fgclip2_detectron2\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("Fgclip2Error detectron2 cannot be imported")
    assert "sal-detectron2" in line
    assert "--no-deps --only-binary=:all: --python-version 3.10" in line


def test_outputs_are_named_and_shaped_as_promised(backbone: FGCLIP2Backbone) -> None:
    shapes = backbone.output_shape()
    features = backbone(torch.zeros(2, 3, 48, 80))
    assert list(shapes) == list(features) == ["dense", "tokens0", "tokens1"]
    for name, shape in shapes.items():
        assert tuple(features[name].shape) == (2, shape.channels, 48 // shape.stride, 80 // shape.stride)
    assert backbone.size_divisibility == 16


def test_maps_are_those_of_the_model(backbone: FGCLIP2Backbone, tiny: FGCLIP2) -> None:
    (image,) = pictures((48, 64))
    features = backbone(image[None])
    patches = image.unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 3, 4, 0).reshape(1, 12, 768)
    encoding = tiny.model.encode_image(patches, None, torch.tensor([[3, 4]]), layers=(0, 1))
    expected = {"dense": tiny.model.dense(encoding), "tokens0": encoding.hidden_states[0],
                "tokens1": encoding.hidden_states[1]}  # fmt: skip
    for name, tokens in expected.items():
        torch.testing.assert_close(features[name][0], tokens[0].T.unflatten(1, (3, 4)), atol=1e-5, rtol=1e-5)


def test_any_size_and_padding_have_no_influence(backbone: FGCLIP2Backbone) -> None:
    sizes = [(70, 50), (33, 96), (80, 17)]
    images = pictures(*sizes)
    batch = torch.zeros(3, 3, 90, 100)
    for canvas, image in zip(batch, images, strict=True):
        canvas[:, : image.shape[1], : image.shape[2]] = image
    together = backbone(batch, sizes)
    assert together["inside"].shape == (3, 1, 6, 7)
    for index, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
        rows, columns = -(-height // 16), -(-width // 16)
        alone = backbone(image[None])
        assert together["inside"][index].sum() == rows * columns
        for name in ("dense", "tokens0", "tokens1"):
            assert alone[name].shape[-2:] == (rows, columns)
            torch.testing.assert_close(together[name][index, :, :rows, :columns], alone[name][0], atol=1e-5, rtol=1e-5)
            assert together[name][index, :, rows:].abs().sum() == together[name][index, :, :, columns:].abs().sum() == 0


@pytest.mark.parametrize(
    ("options", "count", "part"),
    [
        ({}, 0, ""),
        ({"trainable_blocks": 1}, 16, "encoder.layers.1."),
        ({"trainable_blocks": "all", "attention_only": True}, 8, "self_attn."),
    ],
)
def test_what_learns_is_what_a_checkpoint_holds(tiny_dir: Path, options: dict, count: int, part: str) -> None:
    model = FGCLIP2Backbone(str(tiny_dir), dtype="float32", layers=1, **options).train()
    assert not model.tower.training
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(learned) == count
    assert all(part in name for name in learned)
    if options.get("attention_only"):
        assert {name.split(".")[-2] for name in learned} == {"q_proj", "v_proj"}
    assert set(model.state_dict()) == learned
    assert model.load_state_dict(model.state_dict()).missing_keys == []
    if count:
        model(torch.rand(1, 3, 32, 32))["dense"].square().sum().backward()
        assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == learned


def test_bad_options_are_named(tiny_dir: Path) -> None:
    for blocks in (3, -1, True):
        with pytest.raises(Fgclip2Error, match="0 to 2"):
            FGCLIP2Backbone(str(tiny_dir), trainable_blocks=blocks)
    with pytest.raises(Fgclip2Error, match="float32"):
        FGCLIP2Backbone(str(tiny_dir), dtype="int8")
    with pytest.raises(Fgclip2Error, match="layer 7"):
        FGCLIP2Backbone(str(tiny_dir), layers=[7])(torch.zeros(1, 3, 16, 16))
