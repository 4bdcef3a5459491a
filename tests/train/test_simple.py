"""The first training loop: its tokenizer, its batches, and that a few steps learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer

from fgclip2.config import Fgclip2Config
from fgclip2.data.openmoji import Attributes, SceneConfig, World, truth
from fgclip2.errors import Fgclip2Error
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import ImageProcessor, TextProcessor
from fgclip2.train.patches import patchify
from fgclip2.train.probe import probe
from fgclip2.train.scene_batches import FIRST_TRAINING_SEED, BatchConfig, make_batch, scene_batches
from fgclip2.train.simple import Phase, TrainingConfig, TrainingHeads, step_losses, train
from fgclip2.train.tokenizer import SPECIAL, save_tokenizer, train_tokenizer

CORPUS = ["a small red cat to the left of a blue dog", "一只红色的猫在蓝色的狗的左边", "two badges", "两个徽章"] * 20
SMALL = SceneConfig(size=64, objects=(2, 3))
LENGTH, LONG = 24, 4 * 24


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CORPUS, 420)


@pytest.fixture(scope="module")
def text_processor(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    directory = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer, directory, LENGTH)
    return TextProcessor(directory, LENGTH, LONG)


def small_model() -> Fgclip2Model:
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 420, "max_position_embeddings": LENGTH, "keep_len": 0, "longtext_len": LONG}
    torch.manual_seed(0)
    return Fgclip2Model(Fgclip2Config(text_config={**tower, **text}, vision_config=tower))


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_round_trips(tokenizer, text):
    assume(not any(token in text for token in SPECIAL))  # "<unk>" in a text is that token, as in released tokenizers
    ids = tokenizer.encode(text).ids
    assert ids[-1] == tokenizer.token_to_id("<eos>")
    assert tokenizer.token_to_id("<unk>") not in ids
    assert tokenizer.decode(ids) == text


def test_tokenizer_learns_words_of_both_languages(tokenizer):
    assert tokenizer.get_vocab_size() == 420
    assert tokenizer.encode("a red cat").tokens == ["a", "▁red", "▁cat", "<eos>"]
    assert len(tokenizer.encode("红色的猫").ids) < 4 + 1  # fewer tokens than characters
    assert tokenizer.encode("龘").tokens == ["<0xE9>", "<0xBE>", "<0x98>", "<eos>"]


def test_transformers_reads_the_same_tokenizer(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(tokenizer, tmp_path, LENGTH)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("a red cat", "蓝色的狗 x"):
        assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    assert (loaded.pad_token_id, loaded.model_max_length) == (0, LENGTH)


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(Fgclip2Error, match="260 tokens are fixed"):
        train_tokenizer(CORPUS, 260)


def test_patches_equal_the_image_processor():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 32, 3), dtype=np.uint8)
    patches, grids = patchify(torch.from_numpy(pixels))
    processed = ImageProcessor()([Image.fromarray(picture) for picture in pixels], max_patches=6)
    # The processor scales by 1/255, subtracts and divides in turn: three roundings of float32 instead of two.
    torch.testing.assert_close(patches, processed["pixel_values"], atol=3e-7, rtol=0)
    assert grids.tolist() == processed["spatial_shapes"].tolist() == [[3, 2], [3, 2]]


def test_batches_say_what_the_scenes_say(world):
    config = BatchConfig(3, SMALL, text_regions=5, name_fraction=0.0, hard_regions=4, negatives=2, long_captions=2)
    batch = make_batch(world, config, 5)
    scenes = [world.scene(FIRST_TRAINING_SEED + 5 * 3 + offset, SMALL) for offset in range(3)]
    items = [(picture, item) for picture, scene in enumerate(scenes) for item in scene.objects]
    assert batch.pixels.shape == (3, 64, 64, 3)
    assert torch.equal(batch.pixels[2], torch.from_numpy(scenes[2].pixels))
    assert batch.boxes.tolist() == [[picture, *item.box] for picture, item in items]
    assert len(set(batch.texts)) == len(batch.texts)
    assert batch.category.tolist() == [item.category.id for _, item in items]
    assert len(batch.text_of) == 5
    assert not batch.bare.any()
    for region, index in zip(batch.text_of.tolist(), batch.region_text.tolist(), strict=True):
        assert batch.texts[index] in {phrase.lower() for phrase in items[region][1].phrases.values()}
    for picture, index in zip(batch.caption_of.tolist(), batch.caption.tolist(), strict=True):
        captions = (caption for captions in scenes[picture].short.values() for caption in captions)
        assert batch.texts[index] in {caption.lower() for caption in captions}
    for region, (true, *false) in zip(batch.hard_of.tolist(), batch.hard_text.tolist(), strict=True):
        item = items[region][1]
        [language] = [name for name, phrase in item.phrases.items() if phrase.lower() == batch.texts[true]]
        assert {batch.texts[index] for index in false} <= {text.lower() for text in item.negatives[language]}
    assert len(batch.long_texts) == len(batch.long_of) == 2
    again = make_batch(world, config, 5)
    assert again.texts == batch.texts
    assert torch.equal(again.hard_text, batch.hard_text)


def test_texts_that_are_true_elsewhere_are_no_negatives(world):
    batch = make_batch(world, BatchConfig(40, SceneConfig(size=64, objects=(1, 1), category_ids=(3, 4))), 0)
    scenes = [world.scene(FIRST_TRAINING_SEED + offset, SceneConfig(size=64, objects=(1, 1), category_ids=(3, 4)))
              for offset in range(40)]  # fmt: skip
    items = [scenes[index].objects[0] for index in batch.text_of.tolist()]
    assert len(items) == 40
    assert not batch.also_true.diagonal().any()
    for i, item in enumerate(items):
        for j, other in enumerate(items):
            said = Attributes(other.category.id) if batch.bare[j] else other.attributes
            assert bool(batch.also_true[i, j]) == (i != j and truth(said, item) is not False)
    assert batch.also_true.any()


def test_the_stream_is_the_numbered_batches(world):
    config = BatchConfig(2, SMALL)
    streamed = list(scene_batches(world, config, range(3, 5)))
    assert [batch.texts for batch in streamed] == [make_batch(world, config, number).texts for number in (3, 4)]


def test_every_term_reaches_the_weights_it_should(world, text_processor):
    model, heads = small_model(), TrainingHeads(len(world.categories), 32)
    batch = make_batch(world, BatchConfig(4, SMALL, long_captions=2), 0)
    terms = step_losses(model, heads, batch, text_processor)
    assert sorted(terms) == ["class", "global", "hard", "long", "name", "region", "tokens"]
    reached = {
        "class": heads.proxies,
        "tokens": heads.token_head.weight,
        "name": model.text_model.embeddings.token_embedding.weight,
        "region": model.dense_feature_head.attention.in_proj_weight,
        "hard": model.boxtext_head.weight,
        "global": model.vision_model.head.probe,
        "long": model.longtext_head.weight,
    }
    for name, parameter in reached.items():
        [gradient] = torch.autograd.grad(terms[name], [parameter], retain_graph=True)
        assert gradient.abs().sum() > 0, name


@pytest.mark.slow
def test_training_learns_saves_and_logs(world, text_processor, tmp_path: Path):
    """Forty steps on two categories: their regions are told apart in a batch that was not trained on."""
    scene = SceneConfig(size=64, objects=(1, 1), category_ids=(3, 40), styles=(1, 0, 0))
    config = BatchConfig(16, scene, text_regions=16, name_fraction=1.0, hard_regions=4, captions=4)
    model, heads = small_model(), TrainingHeads(len(world.categories), 32)
    fresh = make_batch(world, config, 1000)
    before = step_losses(model, heads, fresh, text_processor)
    saved: list[float] = []
    trained = train(
        model,
        text_processor,
        world,
        [Phase("test", 40, config)],
        TrainingConfig(learning_rate=3e-3, warm_up=2, ema=0.5, save_every=24),
        lambda averaged: saved.append(averaged.logit_scale.item()),
        tmp_path / "log.jsonl",
    )
    after = step_losses(trained, heads, fresh, text_processor)
    assert after["global"].item() < before["global"].item()
    assert after["region"].item() < before["region"].item()
    assert len(saved) == 2  # step 24 and the last one
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert lines[-1]["class"] < 0.5 * lines[0]["class"]
    assert {"name", "region", "hard", "global", "gradient_norm"} <= set(lines[0])


def test_the_probe_knows_right_from_wrong(world, text_processor):
    """An untrained model is near chance; a text side that gives each class its own region's feature is perfect."""
    result = probe(small_model(), text_processor, world, scenes=4, scene_config=SMALL)
    assert set(result.figures) >= {
        "T2I R@1",
        "long T2I R@1",
        "box top-1",
        "phrase 1 of 11, near",
        "caption 1 of 11, near",
    }
    for by_language in result.figures.values():
        assert set(by_language) == {"en", "zh"}
        assert all(0 <= value <= 100 for value in by_language.values())
    assert result.figures["box top-1"]["en"] < 50
