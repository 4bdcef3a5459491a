"""transformers' zero-shot detectors as proposals: tiny random ones, read from a directory like released ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from fgclip2 import Fgclip2Error
from fgclip2.zero_shot import ZeroShotProposals

NAMES = ["cat", "red car", "bus"]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((60, 90), (64, 48))]


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import (
        BertTokenizer,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        MMGroundingDinoConfig,
        MMGroundingDinoForObjectDetection,
    )

    folder = tmp_path_factory.mktemp("dino")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "cat", "red", "car", "bus"]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    swin = {"model_type": "swin", "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
    config = MMGroundingDinoConfig(
        backbone_config={**swin, "out_features": ["stage2", "stage3", "stage4"]},
        text_config={"model_type": "bert", **text, "vocab_size": len(tokens)},
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=20,
        num_feature_levels=4,
        max_text_len=32,
    )
    torch.manual_seed(0)
    MMGroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["owl", "dino"])
def test_boxes_lie_in_pixels_and_do_not_depend_on_company(
    kind: str, pictures: list[Image.Image], request: pytest.FixtureRequest
) -> None:
    """One picture alone gives what it gives beside others; float32, another order of sums in a batch."""
    folder = request.getfixturevalue(kind)
    proposals = ZeroShotProposals(folder, NAMES, device="cpu", threshold=0.0, max_boxes=10)
    together = proposals([*pictures, pictures[0].rotate(180)])[:2]
    for image, (boxes, scores) in zip(pictures, together, strict=True):
        assert boxes.shape == (len(scores), 4)
        assert 0 < len(scores) <= 10
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        assert bool(((scores >= 0) & (scores <= 1)).all())
        assert boxes.abs().max() < 2 * max(image.size)
    ((_, alone),) = proposals(pictures[:1])
    torch.testing.assert_close(alone, together[0][1], atol=1e-4, rtol=1e-3)
    assert proposals([]) == []


def test_names_in_several_prompts_find_a_box_once(owl: Path, pictures: list[Image.Image]) -> None:
    proposals = ZeroShotProposals(owl, NAMES, device="cpu", threshold=0.0, names_per_prompt=1, nms_iou=0.5)
    assert proposals.prompts == [["cat"], ["red car"], ["bus"]]
    for boxes, scores in proposals(pictures):
        overlap = box_iou(boxes, boxes).nan_to_num(0).fill_diagonal_(0)  # random boxes may have no area
        assert float(overlap.max()) <= 0.5
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_a_prompt_holds_no_more_tokens_than_the_model_reads(dino: Path) -> None:
    names = [f"{first} {second}" for first in ("cat", "red", "car") for second in ("bus", "car", "cat", "red")]
    prompts = ZeroShotProposals(dino, names, device="cpu").prompts
    assert [name for prompt in prompts for name in prompt] == names
    assert len(prompts) > 1  # 12 names of 5 tokens, and 32 are read
    assert max(map(len, prompts)) <= 32 // 5


def test_a_stop_inside_a_name_does_not_end_it(dino: Path, pictures: list[Image.Image]) -> None:
    """Nor makes it the processor tokenize a pair of names; names that become one are asked for once."""
    proposals = ZeroShotProposals(
        dino, ["St. Bernard", "st bernard", "cat", "U.S. car", "red?", "Cat."], device="cpu", threshold=0.0
    )
    assert proposals.prompts == [["st bernard", "cat", "u s car", "red"]]
    text = proposals.processor(images=pictures[:1], text=proposals.prompts, return_tensors="pt")
    tokenizer = proposals.processor.tokenizer
    plain = tokenizer("st bernard. cat. u s car. red.")["input_ids"]
    assert text["input_ids"][0].tolist() == plain
    assert not text["token_type_ids"].any()
    (found,) = proposals(pictures[:1])
    (same,) = ZeroShotProposals(dino, ["st bernard", "cat", "u s car", "red"], device="cpu", threshold=0.0)(
        pictures[:1]
    )
    assert torch.equal(found[0], same[0])
    assert torch.equal(found[1], same[1])
    with pytest.raises(Fgclip2Error, match=r"the name '\?' has no word"):
        ZeroShotProposals(dino, ["cat", "?"])


def test_names_longer_than_the_detector_reads_are_told(owl: Path, dino: Path) -> None:
    long = "a small red car beside the old bus and the cat that sits on the roof of a house"
    with pytest.raises(Fgclip2Error, match=r"1 of 2 names.*'a small red car.*at most 16\); ask for something shorter"):
        ZeroShotProposals(owl, ["cat", long], device="cpu")
    with pytest.raises(Fgclip2Error, match=r"1 of 1 names.*at most 32\)"):
        ZeroShotProposals(dino, ["cat " * 40], device="cpu")
    assert ZeroShotProposals(owl, ["cat.", "St. Bernard"], device="cpu").prompts == [["cat.", "St. Bernard"]]


@pytest.mark.parametrize("kind", ["owl", "dino"])
def test_underscores_are_asked_for_as_blanks(kind: str, request: pytest.FixtureRequest) -> None:
    proposals = ZeroShotProposals(request.getfixturevalue(kind), ["red_car", "cat"], device="cpu")
    assert proposals.prompts == [["red car", "cat"]]


def test_bad_settings_are_named(owl: Path, tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match="no zero-shot detector"):
        ZeroShotProposals(tmp_path, NAMES)
    with pytest.raises(Fgclip2Error, match="threshold 2"):
        ZeroShotProposals(owl, NAMES, threshold=2.0)
    with pytest.raises(Fgclip2Error, match=r"asked in English, and '公交车' is Chinese"):
        ZeroShotProposals(owl, ["bus", "公交车"])
    with pytest.raises(Fgclip2Error, match="class names"):
        ZeroShotProposals(owl, [])
