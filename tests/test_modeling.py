"""The model against the released code's outputs, and its own invariances. float32 throughout; tolerances say why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Siglip2Config, Siglip2Model

from fgclip2.attention import attention, key_mask
from fgclip2.config import Fgclip2Config, Fgclip2TextConfig, preset
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model, stretch_positions

# Other builds of the same fp32 kernels sum in another order; the released outputs are of order 1.
GOLDEN_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden_model(golden_dir: Path) -> Fgclip2Model:
    return Fgclip2Model.from_pretrained(golden_dir / "model").eval()


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(golden_dir / "golden.safetensors")


@pytest.fixture(scope="module")
def batch(golden: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return golden["batch.pixel_values"], golden["batch.pixel_attention_mask"], golden["batch.spatial_shapes"]


def small_config(**text: int) -> Fgclip2Config:
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return Fgclip2Config(text_config={**tower, "vocab_size": 60, **text}, vision_config=tower)


@torch.no_grad()
def test_vision_outputs_agree_with_the_released_code(golden_model, golden, batch):
    real = batch[1].bool()
    encoding = golden_model.encode_image(*batch)
    outputs = {
        "last_hidden_state": encoding.last_hidden_state[real],
        "image_features": golden_model.get_image_features(*batch),
        "dense": golden_model.get_image_dense_feature(*batch)[real],
    }
    expected = {name: golden[f"out.{name}"] for name in outputs}
    expected |= {name: expected[name][real] for name in ("last_hidden_state", "dense")}
    for name, output in outputs.items():
        torch.testing.assert_close(output, expected[name], atol=GOLDEN_TOLERANCE, rtol=0, msg=name)


@torch.no_grad()
def test_regions_agree_with_the_released_code(golden_model, golden, golden_dir, batch):
    pictures = json.loads((golden_dir / "golden.json").read_text())
    sizes = [(picture["height"], picture["width"]) for picture in pictures["images"]]
    regions = golden_model.get_image_region_features(*batch, sizes, pictures["boxes_xyxy_pixels"])
    torch.testing.assert_close(torch.stack(regions), golden["out.regions"], atol=GOLDEN_TOLERANCE, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "ids"), [("short", "text.ids64"), ("box", "text.ids64"), ("long", "text.ids196")])
def test_texts_agree_with_the_released_code(golden_model, golden, kind, ids):
    features = golden_model.get_text_features(golden[ids], walk_type=kind)
    torch.testing.assert_close(features, golden[f"out.text_{kind}"], atol=GOLDEN_TOLERANCE, rtol=0)


def test_stretch_is_exactly_the_released_one(golden):
    assert torch.equal(stretch_positions(golden["stretch.in"], keep=20), golden["stretch.out"])


@given(rows=st.integers(2, 40), keep=st.integers(0, 30), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_stretch_interpolates_like_numpy(rows, keep, seed):
    table = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 3)))
    if keep >= rows:
        with pytest.raises(Fgclip2Error, match="keep"):
            stretch_positions(table, keep)
        return
    stretched = stretch_positions(table, keep).numpy()
    assert stretched.shape == (4 * rows - 3 * keep, 3)
    np.testing.assert_array_equal(stretched[:keep], table[:keep])
    beyond = np.vstack([table, 2 * table[-1:] - table[-2:-1]])  # the extrapolated row that the last four lean to
    places = keep + np.arange(4 * (rows - keep)) / 4
    expected = np.stack([np.interp(places, np.arange(rows + 1), beyond[:, d]) for d in range(3)], axis=1)
    np.testing.assert_allclose(stretched[keep:], expected, atol=1e-12)


@torch.no_grad()
def test_padding_and_company_change_nothing(golden_model, golden):
    """A picture alone without padding, and the same one padded within a batch: 1e-5, as kernels block differently."""
    count = 117
    alone = golden["batch.pixel_values"][:1, :count], None, golden["batch.spatial_shapes"][:1]
    # Another grid than the batch's own first picture: take its first 9 x 13 patches as a picture.
    grid = torch.tensor([[13, 9]])
    single = golden_model.encode_image(alone[0], None, grid)
    padded = torch.cat([alone[0], torch.full((1, 60, 768), 7.0)], dim=1)
    mask = torch.cat([torch.ones(1, count), torch.zeros(1, 60)], dim=1).int()
    other = golden["batch.pixel_values"][1:2, : count + 60]
    both = golden_model.encode_image(
        torch.cat([padded, other]), torch.cat([mask, torch.ones(1, count + 60).int()]), torch.tensor([[13, 9], [3, 59]])
    )
    tolerance = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(both.last_hidden_state[0, :count], single.last_hidden_state[0], **tolerance)
    torch.testing.assert_close(golden_model.pool(both)[:1], golden_model.pool(single), **tolerance)
    torch.testing.assert_close(golden_model.dense(both)[0, :count], golden_model.dense(single)[0], **tolerance)


@torch.no_grad()
def test_asked_layers_are_the_block_outputs(golden_model, batch):
    encoding = golden_model.encode_image(*batch, layers=(-1, 0))
    last, first = encoding.hidden_states
    real = batch[1].bool()
    torch.testing.assert_close(golden_model.vision_model.post_layernorm(last)[real], encoding.last_hidden_state[real])
    assert first.shape == last.shape
    assert not torch.allclose(first, last)
    with pytest.raises(Fgclip2Error, match="3 blocks"):
        golden_model.encode_image(*batch, layers=(3,))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("training", [True, False])
def test_every_way_of_attention_is_the_same_attention(dtype, tolerance, training):
    """Against float64 on the host; bf16 keeps 8 bits of values of order 1, hence 2e-2."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 130, 16, generator=generator).to(dtype) for _ in range(3))
    mask = torch.ones(2, 130).int()
    mask[1, 77:] = 0
    query.requires_grad_(training)
    scores = query.detach().double().numpy() @ key.double().numpy().swapaxes(-1, -2) / 4
    scores[1, :, :, 77:] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ value.double().numpy()
    with torch.set_grad_enabled(training):
        output = attention(query, key, value, key_mask(mask))
    assert output.dtype == dtype
    np.testing.assert_allclose(output.detach().double().numpy(), expected, atol=tolerance)


def test_a_mask_without_padding_is_no_mask():
    assert key_mask(None) is None
    assert key_mask(torch.ones(2, 5)) is None
    assert key_mask(torch.tensor([[1, 1, 0]])).tolist() == [[[[True, True, False]]]]


def test_save_and_load_round_trip(tmp_path):
    model = Fgclip2Model(small_config())
    model.save_pretrained(tmp_path)
    again = Fgclip2Model.from_pretrained(tmp_path)
    assert again.config.to_dict().items() >= {"model_type": "fgclip2"}.items()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_released_names_and_nothing_else(golden_dir):
    released = set(load_file(golden_dir / "model" / "model.safetensors"))
    model = Fgclip2Model(Fgclip2Config.from_pretrained(golden_dir / "model"))
    assert set(model.state_dict()) == released


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("boxtext_head.bias"), "1 missing: boxtext_head.bias"),
        (lambda t: t.update(stray=torch.zeros(1)), "1 unexpected: stray"),
        (lambda t: t.update({"logit_scale": torch.zeros(2)}), r"1 misshapen: logit_scale is \(2,\), not \(1,\)"),
    ],
)
def test_a_damaged_checkpoint_is_named(tmp_path, damage, message):
    Fgclip2Model(small_config()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Fgclip2Error, match=message):
        Fgclip2Model.from_pretrained(tmp_path)


@torch.no_grad()
def test_start_from_siglip2(tmp_path):
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    siglip2 = Siglip2Model(Siglip2Config(text_config={**tower, "vocab_size": 60}, vision_config=tower))
    siglip2.save_pretrained(tmp_path)
    model = Fgclip2Model.from_siglip2(tmp_path)
    state, head = model.state_dict(), siglip2.text_model.head.weight
    for name, tensor in siglip2.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert torch.equal(model.boxtext_head.weight, head)
    assert torch.equal(model.longtext_head.weight, head)
    for name, tensor in siglip2.vision_model.head.state_dict().items():
        assert torch.equal(model.dense_feature_head.state_dict()[name], tensor), name
    stretched = stretch_positions(siglip2.text_model.embeddings.position_embedding.weight)
    assert torch.equal(model.text_model.embeddings.position_embedding_ori.weight, stretched)
    assert torch.equal(model.text_model.embeddings.position_embedding_res.weight, stretched)
    # Heads are copies, not shared: training one must leave the others alone.
    assert model.boxtext_head.weight.data_ptr() != model.text_model.head.weight.data_ptr()
    # The shared paths give what transformers' own SigLIP 2 gives.
    ids = torch.arange(64)[None] % 60
    torch.testing.assert_close(model.get_text_features(ids), siglip2.get_text_features(ids).pooler_output)
    patches, grid = torch.randn(1, 12, 768), torch.tensor([[3, 4]])
    theirs = siglip2.get_image_features(patches, torch.ones(1, 12).int(), grid).pooler_output
    torch.testing.assert_close(model.get_image_features(patches, None, grid), theirs, atol=1e-5, rtol=0)


def test_siglip2_start_refuses_other_checkpoints(tmp_path):
    Fgclip2Model(small_config()).save_pretrained(tmp_path)
    with pytest.raises(Fgclip2Error, match="model_type 'fgclip2'"):
        Fgclip2Model.from_siglip2(tmp_path)


def test_wrong_calls_teach():
    model = Fgclip2Model(small_config())
    ids = torch.zeros(1, 65, dtype=torch.long)
    with pytest.raises(Fgclip2Error, match="at most 64"):
        model.get_text_features(ids)
    with pytest.raises(Fgclip2Error, match="short, long, box"):
        model.get_text_features(ids[:, :64], walk_type="region")
    with pytest.raises(Fgclip2Error, match="spatial_shapes"):
        model.get_image_features(torch.zeros(1, 4, 768))
    with pytest.raises(Fgclip2Error, match="one of each"):
        model.get_image_region_features(torch.zeros(1, 4, 768), None, torch.tensor([[2, 2]]), [], [])


def test_regions_of_a_picture_without_boxes_are_empty():
    model = Fgclip2Model(small_config())
    regions = model.get_image_region_features(
        torch.zeros(2, 4, 768), None, torch.tensor([[2, 2], [1, 4]]), [(32, 32), (16, 64)], [[], [[0, 0, 8, 8]]]
    )
    assert [tuple(region.shape) for region in regions] == [(0, 32), (1, 32)]


def test_gradient_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    model = Fgclip2Model(small_config()).train()
    patches, grid = torch.randn(2, 6, 768), torch.tensor([[2, 3]] * 2)

    def gradient() -> torch.Tensor:
        model.zero_grad()
        model.get_image_features(patches, None, grid).square().sum().backward()
        return model.vision_model.embeddings.patch_embedding.weight.grad.clone()

    plain = gradient()
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(gradient(), plain)


@pytest.mark.parametrize(("name", "millions"), [("base", 383.8), ("large", 896.6), ("so400m", 1154)])
def test_presets_have_the_published_sizes(name, millions):
    """Parameters as in the paper's table, rounded to 0.1; the size of so400m is only inferred there."""
    with torch.device("meta"):
        model = Fgclip2Model(preset(name))
    total = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert total == pytest.approx(millions, abs=0.06 if name != "so400m" else 2)
    if name == "base":
        vision = sum(parameter.numel() for parameter in model.vision_model.parameters()) / 1e6
        assert vision == pytest.approx(92.9, abs=0.06)


def test_the_embedded_size_stays_small():
    model = Fgclip2Model(preset("tiny"))
    assert sum(parameter.numel() for parameter in model.parameters()) <= 6_000_000


def test_unknown_preset_and_bad_lengths_teach():
    with pytest.raises(Fgclip2Error, match="tiny, base, large, so400m"):
        preset("huge")
    with pytest.raises(Fgclip2Error, match="196"):
        Fgclip2TextConfig(longtext_len=248)
    with pytest.raises(Fgclip2Error, match="projection_size 32 and vision_config.hidden_size 64"):
        Fgclip2Config(text_config={"hidden_size": 32}, vision_config={"hidden_size": 64})
