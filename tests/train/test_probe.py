"""What is measured of the embedded model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fgclip2.config import Fgclip2Config
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import ImageProcessor, TextProcessor
from fgclip2.train.patches import patchify
from fgclip2.train.probe import probe
from fgclip2.train.tokenizer import save_tokenizer, train_tokenizer

CORPUS = ["a small red cat to the left of a blue dog", "一只红色的猫在蓝色的狗的左边", "two badges", "两个徽章"] * 20
SMALL = SceneConfig(size=64, objects=(2, 3))
LENGTH, LONG = 24, 4 * 24


def small_model() -> Fgclip2Model:
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 420, "max_position_embeddings": LENGTH, "keep_len": 0, "longtext_len": LONG}
    torch.manual_seed(0)
    return Fgclip2Model(Fgclip2Config(text_config={**tower, **text}, vision_config=tower))


def test_patches_equal_the_image_processor():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 32, 3), dtype=np.uint8)
    patches, grids = patchify(torch.from_numpy(pixels))
    processed = ImageProcessor()([Image.fromarray(picture) for picture in pixels], max_patches=6)
    # The processor scales by 1/255, subtracts and divides in turn: three roundings of float32 instead of two.
    torch.testing.assert_close(patches, processed["pixel_values"], atol=3e-7, rtol=0)
    assert grids.tolist() == processed["spatial_shapes"].tolist() == [[3, 2], [3, 2]]


def test_the_probe_knows_right_from_wrong(tmp_path: Path) -> None:
    """An untrained model is near chance; a text side that gives each class its own region's feature is perfect."""
    save_tokenizer(train_tokenizer(CORPUS, 420), tmp_path, LENGTH)
    result = probe(small_model(), TextProcessor(tmp_path, LENGTH, LONG), World(), scenes=4, scene_config=SMALL)
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
