"""Fixtures that several test modules share: the shared data, and a model directory small enough to load in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    import fgclip2

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# A checkout passes or fails whatever was drawn; look further with `make test ARGS=--hypothesis-profile=default`.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine() -> None:
    """Small models run faster on few threads, and tests then share a machine with anything."""
    torch.set_num_threads(min(2, torch.get_num_threads()))  # OMP_NUM_THREADS, where it is set


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache, or follows the user's default model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("FGCLIP2_MODEL", raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden outputs and real data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared folder beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def golden_dir(shared: Path) -> Path:
    """Outputs of the released code on random weights."""
    return shared / "golden" / "official_tiny"


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory: random weights (64 wide, 2 layers), a bilingual byte-fallback tokenizer."""
    from fgclip2.config import Fgclip2Config
    from fgclip2.modeling import Fgclip2Model

    directory = tmp_path_factory.mktemp("tiny")
    tower = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    torch.manual_seed(0)
    config = Fgclip2Config(text_config={**tower, "vocab_size": 512, "projection_size": 64}, vision_config=dict(tower))
    model = Fgclip2Model(config)
    with torch.no_grad():  # transformers' initial values are so small that all pictures look alike
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    model.save_pretrained(directory)
    _write_tokenizer(directory)
    return directory


@pytest.fixture(scope="session")
def tiny(tiny_dir: Path) -> fgclip2.FGCLIP2:
    """The model of ``tiny_dir`` in fp32 on the CPU; shared, so leave its weights alone."""
    import fgclip2

    return fgclip2.load(tiny_dir, device="cpu", dtype="float32")


def _write_tokenizer(directory: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [*"abcdefghijklmnopqrstuvwxyz红色的汽车一只黑猫在沙发上两个绿苹果", "re", "red", "红色"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [("r", "e"), ("re", "d"), ("红", "色")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"pad_token": "<pad>", "eos_token": "<eos>", "add_bos_token": False, "add_eos_token": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture(scope="session")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OWLv2 with random weights, a letter a token."""
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    folder = tmp_path_factory.mktemp("owl")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    text = {**tower, **special, "vocab_size": len(tokens), "max_position_embeddings": 16}
    vision = {**tower, "image_size": 64, "patch_size": 16}
    torch.manual_seed(0)
    Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(
        folder
    )
    processor = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    Owlv2Processor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
    return folder
