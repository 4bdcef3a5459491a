"""The model in modules of torch alone is transformers' model: same weights, same numbers, same complaints."""

from __future__ import annotations

import copy
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Siglip2Model

import fgclip2
from fgclip2.config import Fgclip2Config, Fgclip2TextConfig, Fgclip2VisionConfig
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model
from fgclip2.network import Network, NetworkConfig, TextTower, VisionTower, read_config, read_network
from fgclip2.predictor import FGCLIP2

TEXTS = ("黑猫", "a red car", "两个绿苹果")


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    sizes = ((64, 48), (200, 90), (96, 96), (30, 260))
    return [Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes]


def content_of(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return content


def is_plain(model: FGCLIP2) -> bool:
    """Whether it computes without transformers."""
    return isinstance(model._network, Network)


@pytest.fixture
def copied(tiny_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dir, tmp_path / "模型"))


class TestIsTheSame:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_features_are_equal_to_the_bit(self, tiny_dir: Path, dtype: torch.dtype):
        """Both run the same passes on the same numbers, so nothing is tolerated."""
        ours = fgclip2.load(tiny_dir, device="cpu", dtype=dtype)
        network = Fgclip2Model.from_pretrained(tiny_dir, dtype=dtype).requires_grad_(False)
        theirs = FGCLIP2(network, ours.processor)
        assert is_plain(ours)
        assert torch.equal(ours.image_features(pictures()), theirs.image_features(pictures()))
        for picture in pictures():
            assert torch.equal(ours.dense_features(picture).map, theirs.dense_features(picture).map)
        for kind in ("short", "long", "box"):
            found, expected = (model.text_features(TEXTS, kind=kind) for model in (ours, theirs))  # type: ignore[arg-type]
            assert torch.equal(found, expected)
        assert is_plain(ours)

    def test_padded_and_masked_as_on_a_gpu(self, tiny_dir: Path):
        """Without packing, float32 sums come in another order."""
        config = read_config(content_of(tiny_dir))
        assert config is not None
        network = read_network(tiny_dir, config, torch.float32)
        assert network is not None
        inputs = fgclip2.load(tiny_dir, device="cpu", dtype="float32").processor.image(pictures(), 64)
        with torch.inference_mode():
            packed = network.pool(network.encode_image(**inputs))
        with torch.enable_grad():
            padded = network.pool(network.encode_image(**inputs))
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)
        assert network.to("meta").encode_image(
            **{name: part if name == "spatial_shapes" else part.to("meta") for name, part in inputs.items()}
        ).last_hidden_state.shape == (4, 64, 64)


class TestBecomesTransformers:
    def test_when_it_is_asked_for(self, copied: Path, tmp_path: Path):
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        before, weights = model.image_features(pictures()), model._network.state_dict()
        network = model.model
        assert isinstance(network, Fgclip2Model)
        assert isinstance(network, Siglip2Model)
        assert model.model is network is model._network
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        plainly = Fgclip2Model.from_pretrained(copied, dtype="float32")
        assert network.config == plainly.config
        assert network.name_or_path == plainly.name_or_path == str(copied)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, plainly.state_dict()[name])
            assert tensor.data_ptr() == weights[name].data_ptr()  # not held twice
        assert torch.equal(model.image_features(pictures()), before)
        network.save_pretrained(tmp_path / "saved")
        for file in copied.glob("tokenizer*"):
            shutil.copy(file, tmp_path / "saved")
        again = fgclip2.load(tmp_path / "saved", device="cpu", dtype="float32")
        assert torch.equal(again.image_features(pictures()), before)

    def test_words_stay_in_the_file(self, copied: Path):
        model = fgclip2.load(copied, device="cpu", dtype="bf16")
        words = model._network.text_model.embeddings.token_embedding.weight
        assert (words.dtype, model.dtype) == (torch.float32, torch.bfloat16)
        assert model.model.text_model.embeddings.token_embedding.weight.dtype == torch.bfloat16

    def test_features_follow_it(self, copied: Path):
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        before = model.image_features(pictures())
        with torch.no_grad():
            model.model.vision_model.post_layernorm.weight.mul_(torch.linspace(0.5, 2, 64))
        assert not torch.allclose(model.image_features(pictures()), before, atol=1e-3)
        other = fgclip2.load(copied, device="cpu", dtype="float32")
        model.model = other.model
        assert torch.equal(model.image_features(pictures()), before)

    def test_once_for_all_threads(self, copied: Path):
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: model.model, range(8)))
        assert len(set(map(id, found))) == 1

    def test_copies_are_of_their_own(self, copied: Path):
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        twin = copy.deepcopy(model)
        assert twin.model is not model.model
        assert torch.equal(twin.text_features(TEXTS), model.text_features(TEXTS))


class TestConfiguration:
    @pytest.mark.parametrize(("tower", "theirs"), [(TextTower, Fgclip2TextConfig), (VisionTower, Fgclip2VisionConfig)])
    def test_defaults_are_transformers(self, tower: type, theirs: type):
        expected = theirs()
        for field in fields(tower):
            assert getattr(expected, field.name) == field.default, field.name

    @pytest.mark.parametrize("name", ["tiny", "base", "large", "so400m"])
    def test_what_transformers_writes_is_read(self, name: str):
        config = fgclip2.preset(name)
        for content in (config.to_dict(), config.to_diff_dict()):
            read = read_config(content)
            assert isinstance(read, NetworkConfig)
            for tower, theirs in ((read.text_config, config.text_config), (read.vision_config, config.vision_config)):
                assert all(getattr(theirs, field.name) == getattr(tower, field.name) for field in fields(tower))

    @pytest.mark.parametrize(
        "change",
        [
            {"quantization_config": {"bits": 4}},
            {"model_type": "siglip2"},
            {"text_config": None},
            {"text_config": {"hidden_act": "gelu"}},
            {"text_config": {"hidden_size": "64"}},
            {"text_config": {"longtext_len": 197}},
            {"text_config": {"projection_size": 32}},
            {"text_config": {"pad_token_id": None}},
            {"vision_config": {"num_attention_heads": 5}},
            {"vision_config": {"num_hidden_layers": True}},
            {"vision_config": {"patch_size": [16, 16]}},
            {"vision_config": {"num_patches": 255}},
            {"vision_config": {"layer_norm_eps": 0}},
        ],
    )
    def test_anything_else_is_left_to_transformers(self, tiny_dir: Path, change: dict[str, Any]):
        content = content_of(tiny_dir)
        assert read_config(content) is not None
        for key, value in change.items():
            content[key] = {**content[key], **value} if isinstance(value, dict) and key in content else value
        assert read_config(content) is None

    def test_and_loads_that_way(self, copied: Path):
        content = content_of(copied)
        content["vision_config"]["hidden_act"] = "gelu"
        (copied / "config.json").write_text(json.dumps(content), encoding="utf-8")
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        assert not is_plain(model)
        assert model.model.config.vision_config.hidden_act == "gelu"
        expected = FGCLIP2(Fgclip2Model.from_pretrained(copied).requires_grad_(False), model.processor)
        assert torch.equal(model.image_features(pictures()), expected.image_features(pictures()))


class TestWeights:
    def test_in_several_files(self, tiny: FGCLIP2, copied: Path):
        (copied / "model.safetensors").unlink()
        tiny.model.save_pretrained(copied, max_shard_size="100KB")
        assert len(list(copied.glob("model-*.safetensors"))) > 1
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        assert is_plain(model)
        assert torch.equal(model.text_features(TEXTS), tiny.text_features(TEXTS))

    @pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
    def test_transformers_says_what_is_wrong(self, copied: Path, change: str):
        weights = load_file(copied / "model.safetensors")
        name = "boxtext_head.bias"
        tensor = weights.pop(name)
        weights |= {"missing": {}, "unexpected": {name: tensor, "foreign": tensor.clone()}}.get(
            change, {name: tensor[:-1].clone()}
        )
        save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(Fgclip2Error, match=f"1 {change}: (boxtext_head.bias|foreign)"):
            fgclip2.load(copied, device="cpu", dtype="float32")

    def test_an_index_that_cannot_be_used(self, tiny: FGCLIP2, copied: Path):
        (copied / "model.safetensors").unlink()
        tiny.model.save_pretrained(copied, max_shard_size="100KB")
        next(copied.glob("model-00001-*.safetensors")).unlink()
        with pytest.raises(Fgclip2Error, match="cannot be read"):
            fgclip2.load(copied, device="cpu", dtype="float32")

    def test_half_precision_files_are_cast(self, tiny: FGCLIP2, copied: Path):
        weights = {name: tensor.half() for name, tensor in tiny.model.state_dict().items()}
        save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
        model = fgclip2.load(copied, device="cpu", dtype="float32")
        assert is_plain(model)
        assert all(torch.equal(tensor, weights[name].float()) for name, tensor in model._network.state_dict().items())
        config = Fgclip2Config.from_pretrained(copied)
        assert model.width == config.vision_config.hidden_size
