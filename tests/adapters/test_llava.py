"""FG-CLIP 2 inside transformers' LLaVA: which tokens arrive, that padding does not, training, and answering."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import fgclip2
from apps import llava_answer, llava_train
from fgclip2.data.failures import Failure
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.datasets import BENCHMARKS, select
from fgclip2.evaluation.records import Question
from fgclip2.evaluation.runner import run
from fgclip2.evaluation.scores import Settings
from fgclip2.files import write_atomically
from fgclip2.train.tokenizer import save_tokenizer, train_tokenizer
from fgclip2_llava import DENSE, LlavaProcessor, build, freeze, load, save
from fgclip2_llava.answering import Answerer, answer, box_of, prompt
from fgclip2_llava.conversations import read_conversations
from fgclip2_llava.data import LlavaCollator, LlavaDataset, Loaded
from tests.evaluation.miniatures import MINIATURES

SIZES = ((100, 300), (300, 100), (64, 64))
SETS = ("gqa", "textvqa", "mmmu", "mmbench", "mmbench_cn", "refcoco")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four OpenMoji scenes, two told in English and two in Chinese, in LLaVA's format."""
    folder = tmp_path_factory.mktemp("scenes")
    entries = []
    for seed, language in enumerate(("en", "zh", "en", "zh")):
        scene = World().scene(seed, SceneConfig(size=96, objects=(2, 3)))
        scene.image.save(folder / f"{seed}.png")
        asked = {"en": "<image>\nWhat is here?", "zh": "<image>\n图里有什么？"}[language]
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": scene.short[language][0]}]
        entries.append({"id": str(seed), "image": f"{seed}.png", "conversations": turns})
    file = folder / "chat.json"
    file.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return file, folder


@pytest.fixture(scope="module")
def language_dir(scenes: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama, 64 wide with 2 layers, and a tokenizer learned from what is said here."""
    directory = tmp_path_factory.mktemp("language")
    said = [turn["value"] for entry in json.loads(scenes[0].read_text()) for turn in entry["conversations"]]
    tokenizer = train_tokenizer([*said, "USER: ASSISTANT: [0.25, 0.5, 1.0] red green 红 绿"] * 3, 420)
    save_tokenizer(tokenizer, directory, 512)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=420, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, pad_token_id=0, eos_token_id=1, bos_token_id=2, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def embedded() -> fgclip2.FGCLIP2:
    return fgclip2.load("tiny", device="cpu", dtype="float32")


def llava(language_dir: Path, embedded: fgclip2.FGCLIP2, layer: Any = DENSE) -> tuple[Any, LlavaProcessor]:
    processor = LlavaProcessor(AutoTokenizer.from_pretrained(language_dir), max_patches=64)
    language = LlamaForCausalLM.from_pretrained(language_dir)
    language.resize_token_embeddings(len(processor.tokenizer))
    torch.manual_seed(0)
    return build(language, embedded.model, processor.image_token_id, layer), processor


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)) for width, height in SIZES]


def arrives(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the language model is given, (B, L, D)."""
    seen: list[torch.Tensor] = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**batch)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("layer", [DENSE, 7, -2, 3, [-3, -1]])
def test_the_language_model_gets_the_projected_tokens(
    language_dir: Path, embedded: fgclip2.FGCLIP2, layer: int | list[int]
) -> None:
    """Of each picture alone, computed by FG-CLIP 2 itself. 1e-5: padded and single sums round differently."""
    model, processor = llava(language_dir, embedded, layer)
    patches = [processor.patches(picture) for picture in pictures()]
    assert [item.grid for item in patches] == [(12, 4), (4, 12), (8, 8)]  # of 64: 48, 48 and 64 tokens
    encoded = [processor.encode([("<image>\nwhat? 什么", "a cat 猫")], [item]) for item in patches]
    batch = processor.batch(encoded, patches)
    given = arrives(model, batch)
    projector = model.model.multi_modal_projector
    names = {7: "dense", -1: "dense", -2: 5, -3: 4, 3: 2}  # of hidden_states; blocks count from 0
    for row, item in enumerate(patches):
        inputs = processor.image.collate([item])
        with torch.no_grad():
            kept = embedded.model.encode_image(**inputs, layers=range(6))
            parts = [
                embedded.model.dense(kept) if names[number] == "dense" else kept.hidden_states[names[number]]  # type: ignore[index]
                for number in ([layer] if isinstance(layer, int) else layer)
            ]
            projected = torch.cat(parts, -1)[0]
            projected = projector.linear_2(torch.nn.functional.gelu(projector.linear_1(projected)))
            words = model.get_input_embeddings()(batch["input_ids"][row])
        image = batch["input_ids"][row] == processor.image_token_id
        assert int(image.sum()) == len(item.values)
        torch.testing.assert_close(given[row][image], projected, atol=1e-5, rtol=1e-5)
        assert torch.equal(given[row][~image], words[~image])


def test_an_answer_does_not_depend_on_the_batch_or_its_padding(language_dir: Path, embedded: fgclip2.FGCLIP2) -> None:
    """Logits to 1e-5 in float32: padded at the right as in training, at the left as in answering, and in patches."""
    model, processor = llava(language_dir, embedded)
    patches = [processor.patches(picture) for picture in pictures()]
    turns = [("<image>\nwhat?", None), ("什么？<image>", None), ("<image> a much longer question about it", None)]
    encoded = [processor.encode([turn], [item]) for turn, item in zip(turns, patches, strict=True)]
    with torch.no_grad():
        for generate in (False, True):
            batch = processor.batch(encoded, patches, generate)
            batch.pop("labels", None)
            positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
            together = model(**batch, position_ids=positions).logits
            for row, (item, picture) in enumerate(zip(encoded, patches, strict=True)):
                single = processor.batch([item], [picture], generate)
                single.pop("labels", None)
                single["pixel_values"] = torch.nn.functional.pad(single["pixel_values"], (0, 0, 0, 9), value=0.5)
                alone = model(**single).logits[0]
                own = together[row][batch["attention_mask"][row].bool()]
                torch.testing.assert_close(own, alone, atol=1e-5, rtol=1e-5)
    answerer = Answerer(model, processor, max_new_tokens=6)
    asked = [(picture, text) for picture, (text, _) in zip(pictures(), turns, strict=True)]
    assert answerer.texts(asked) == [answerer.texts([item])[0] for item in asked]


def test_ids_and_labels(language_dir: Path, embedded: fgclip2.FGCLIP2) -> None:
    """What stands before an answer has the same ids in training and in answering; only answers are learned."""
    _, processor = llava(language_dir, embedded)
    picture = processor.patches(pictures()[0])
    whole = processor.encode([("<image>\n图里有什么？", "一只猫"), ("And?", "a dog")], [picture])
    asked = processor.encode([("<image>\n图里有什么？", "一只猫"), ("And?", None)], [picture])
    assert whole.ids[: len(asked.ids)] == asked.ids
    assert whole.ids.count(processor.image_token_id) == 48
    learned = [token for token in whole.labels if token != -100]
    first, second = (processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" 一只猫", " a dog"))
    assert learned == [*first, processor.end_id, *second, processor.end_id]
    read = processor.tokenizer.decode([token for token in whole.ids if token != processor.image_token_id])
    assert read.endswith("USER: \n图里有什么？ ASSISTANT: 一只猫<eos>USER: And? ASSISTANT: a dog<eos>")
    assert read.startswith("A chat between a curious user")


def test_chatml_ends_answers_with_its_own_token(language_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(language_dir)
    with pytest.raises(Fgclip2Error, match="has no token '<|im_end|>', with which chatml ends an answer"):
        LlavaProcessor(tokenizer, "chatml")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    processor = LlavaProcessor(tokenizer, "chatml", max_patches=4)
    picture = processor.patches(pictures()[2])
    found = processor.encode([("什么？<image>", "猫")], [picture])
    text = tokenizer.decode(found.ids)
    assert text.endswith(f"<|im_start|>user\n什么？{'<image>' * 4}<|im_end|>\n<|im_start|>assistant\n猫<|im_end|>\n")
    assert [token for token in found.labels if token != -100][-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_saved_and_loaded_with_transformers_own_code(
    language_dir: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path
) -> None:
    from transformers import LlavaForConditionalGeneration

    model, processor = llava(language_dir, embedded, [-2, DENSE])
    save(model, processor, tmp_path)
    again, theirs = load(tmp_path), LlavaForConditionalGeneration.from_pretrained(tmp_path)
    state = model.state_dict()
    for other in (again, theirs):
        assert other.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())
    restored = LlavaProcessor.load(tmp_path)
    assert (restored.template, restored.max_patches, restored.image_token_id) == (
        "vicuna",
        64,
        processor.image_token_id,
    )
    (tmp_path / "fgclip2_llava.json").unlink()
    with pytest.raises(Fgclip2Error, match="fgclip2_llava.json cannot be read"):
        LlavaProcessor.load(tmp_path)
    with pytest.raises(Fgclip2Error, match="holds a llama without FG-CLIP 2 as its tower"):
        load(language_dir)


def test_one_step_moves_the_projector_alone(
    language_dir: Path, embedded: fgclip2.FGCLIP2, scenes: tuple[Path, Path]
) -> None:
    model, processor = llava(language_dir, embedded)
    dataset = LlavaDataset(read_conversations(*scenes).examples, processor)
    batch = LlavaCollator(processor)([dataset[index] for index in range(4)])
    assert (batch.pop("failures"), batch.pop("seen")) == ([], 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = freeze(model)
    optimiser = torch.optim.AdamW([item for item in model.parameters() if item.requires_grad], lr=1e-2)
    model(**batch).loss.backward()
    optimiser.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == set(trained)
    assert len(moved) == 4


def command(monkeypatch: pytest.MonkeyPatch, program: Any, *arguments: Any) -> int:
    monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments)])
    return int(program.main())


@pytest.fixture
def training(language_dir: Path, scenes: tuple[Path, Path]) -> list[Any]:
    return [
        "--language-model", language_dir, "--model", "tiny", "--data", scenes[0], "--image-root", scenes[1],
        "--max-patches", 36, "--batch-size", 4, "--micro-batch", 2, "--lr", 0.02, "--log-every", 1, "--workers", 0,
    ]  # fmt: skip


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_training_from_the_command_line_resumes_exactly(
    training: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four scenes in two languages, 20 steps; a run stopped at 10 and resumed gives the same projector."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert command(monkeypatch, llava_train, *training, "--steps", 20, "--save-every", 10, "--out", whole) == 0
    found = losses(whole)
    assert len(found) == 20
    # Every step sees all four, so it never rises; a random, frozen language model cannot be steered to 0. The first has
    # a rate of 0, and the second step sums the same in another order: float32 sums of 6 differ by 3e-6.
    assert all(after <= before + 2e-5 for before, after in pairwise(found))
    assert found[-1] < found[0] - 0.7
    shutil.copytree(whole / "checkpoint-10", cut / "checkpoint-10")
    shutil.copy(whole / "metrics.jsonl", cut)  # with the steps after the checkpoint, as a killed run leaves it
    checkpoint = {file.name for file in (cut / "checkpoint-10").iterdir()}
    assert "projector.safetensors" in checkpoint
    assert "model.safetensors" not in checkpoint
    assert command(monkeypatch, llava_train, *training, "--steps", 20, "--out", cut) == 2
    assert "holds checkpoints up to checkpoint-10; resume that run (--resume)" in capsys.readouterr().err
    assert command(monkeypatch, llava_train, *training, "--steps", 21, "--out", cut, "--resume") == 2
    assert "belongs to another run: steps was 20 and is 21" in capsys.readouterr().err
    assert command(monkeypatch, llava_train, *training, "--steps", 20, "--out", cut, "--resume") == 0
    assert losses(cut) == found
    one, two = load(whole / "model").state_dict(), load(cut / "model").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_two_processes_train_as_one_does(training: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1e-5: gradients are summed in another order."""
    steps = [*training, "--steps", 3]
    assert command(monkeypatch, llava_train, *steps, "--out", tmp_path / "one") == 0
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        llava_train.__file__,
    ]
    done = subprocess.run(
        [*map(str, [*launch, *steps, "--out", tmp_path / "two"])],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    one, two = load(tmp_path / "one/model").state_dict(), load(tmp_path / "two/model").state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-5)


def test_dry_run_says_what_would_be_trained(
    training: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(monkeypatch, llava_train, *training, "--out", out, "--dry-run", "--epochs", 3) == 0
    said = capsys.readouterr().out
    wanted = 192 * 64 + 64 + 64 * 64 + 64  # two layers with bias
    assert "4 examples; 0 entries without a picture are left out" in said
    assert f"parameters trained: {wanted:,} of " in said
    assert "batch: 4 = 1 processes x 2 parts x 2; 3 steps" in said
    assert not out.exists()
    assert command(monkeypatch, llava_train, *training, "--batch-size", 3) == 2
    assert (
        "--batch-size 3 is no multiple of 1 processes x --micro-batch 2; give one, such as 2" in capsys.readouterr().err
    )
    assert command(monkeypatch, llava_train, *training, "--language-model", tmp_path / "none") == 2
    assert "transformers cannot load it as a causal language model" in capsys.readouterr().err
    assert command(monkeypatch, llava_train, *training, "--feature-layer", 9) == 2
    assert "this tower has 8 outputs, 0 the embedded patches to 7 the dense tokens" in capsys.readouterr().err


def test_examples_that_cannot_be_used_are_named(
    language_dir: Path, embedded: fgclip2.FGCLIP2, scenes: tuple[Path, Path], tmp_path: Path
) -> None:
    _, processor = llava(language_dir, embedded)
    entries = json.loads(scenes[0].read_text(encoding="utf-8"))
    entries[1]["image"] = "none.png"
    entries.append({"conversations": entries[0]["conversations"]})
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    found = read_conversations(file, scenes[1])
    examples = found.examples
    assert (len(examples), found.without, found.failures, found.odd) == (4, 1, [], [])
    dataset = LlavaDataset(examples, processor, max_tokens=2000)
    lost = dataset[1]
    assert isinstance(lost, Failure)
    assert lost.name.endswith("none.png")
    assert lost.language == "zh"
    assert isinstance(dataset[0], Loaded)
    batch = LlavaCollator(processor)([dataset[0], lost])
    assert batch["failures"] == [lost]
    assert batch["seen"] == 2
    assert len(batch["input_ids"]) == 1  # type: ignore[arg-type]
    with pytest.raises(Fgclip2Error, match="not one of the 1 examples of a batch can be used: .*none.png"):
        LlavaCollator(processor)([lost])
    short = LlavaDataset(examples, processor, max_tokens=50)[0]
    assert isinstance(short, Failure)
    assert short.reason.endswith("tokens, allowed are 50")
    for change, message in (
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "has no usable entry with a picture"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}], "image": "a"},
         "entry 0: a picture needs <image> once"),
        ({"conversations": entries[0]["conversations"]}, "has no usable entry with a picture"),
        ({"image": "a"}, "entry 0: it has no conversations"),
    ):  # fmt: skip
        file.write_text(json.dumps([change]), encoding="utf-8")
        with pytest.raises(Fgclip2Error, match=message):
            read_conversations(file, scenes[1])


GOOD = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "猫。"}]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"conversations": GOOD[1:]}, r"must alternate from human \(user\) to gpt \(assistant\); these are \['gpt'\]"),
    ({"conversations": [{"from": "human", "value": "x"}, GOOD[1]]}, "needs <image> once .* 0 times"),
    ({"conversations": [{"from": "human", "value": "<image> <image>"}, GOOD[1]]}, "<image> once .* 2 times"),
    ({"conversations": [{"from": "system", "value": "x"}, *GOOD]}, "these are \\['system', 'human', 'gpt'\\]"),
    ({"conversations": [GOOD[0], {"from": "gpt", "value": None}]}, "None where a text was wanted"),
    ({"conversations": [GOOD[0], {"from": "gpt", "value": ""}]}, "'' where a text was wanted"),
    ({"conversations": [GOOD[0], {"from": "gpt", "value": "\ud83d"}]}, "half of a character"),
    ({"conversations": [3]}, "these are"),
    ({"conversations": None}, "it has no conversations"),
    ({"image": ["a.png", "b.png"]}, "has 2 pictures; one an entry is supported"),
    ({"image": 7}, "its image is 7 instead of a file's name"),
]


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(("change", "told"), WRONG)
def test_an_entry_that_cannot_be_used_costs_no_file(
    change: dict[str, Any], told: str, lines: bool, tmp_path: Path
) -> None:
    good = {"image": "a.png", "conversations": GOOD}
    entries = [good, good | change, {"conversations": []}, {"image": None, "conversations": GOOD}, good]
    content = "\n".join(map(json.dumps, entries)) if lines else json.dumps(entries)
    file = tmp_path / "chat.json"
    file.write_text("\ufeff" + content, encoding="utf-8")  # Excel and PowerShell write a byte order mark
    found = read_conversations(file, tmp_path)
    assert [example.image for example in found.examples] == [tmp_path / "a.png"] * 2
    assert found.examples[0].turns == (("<image>\nWhat?", "猫。"),)
    assert found.without == 2
    assert [lost.name for lost in found.failures] == [f"chat.json, {'line 2' if lines else 'entry 1'}"]
    assert re.search(told, found.failures[0].reason), found.failures[0].reason
    assert [lost.name for lost in found.odd] == [f"chat.json, {'line 3' if lines else 'entry 2'}"]


def test_roles_of_other_tools_and_damaged_lines(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "<image>几个？"}, {"role": "assistant", "content": "两个"}]
    mixed = [{"from": "user", "value": "<image>几个？"}, {"from": "assistant", "value": "两个"}]
    entries = [{"image": ["图\\a.png"], "messages": said}, {"image": "图/a.png", "conversations": mixed}]
    (tmp_path / "图").mkdir()
    (tmp_path / "图" / "a.png").write_bytes(b"x")
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join([*map(json.dumps, entries), '{"image": ', "[]"]), encoding="utf-8")
    found = read_conversations(file, tmp_path)
    assert {example.turns for example in found.examples} == {(("<image>几个？", "两个"),)}
    assert {example.image.resolve() for example in found.examples} == {tmp_path / "图" / "a.png"}
    assert found.failures[0].reason.startswith("is no JSON (")
    assert found.failures[1].reason == "is a JSON list, not an object"
    assert [lost.name for lost in found.failures] == ["chat.jsonl, line 3", "chat.jsonl, line 4"]


def test_a_run_names_bad_entries_and_resumes_on_the_same_data_only(
    training: list[Any],
    scenes: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = json.loads(scenes[0].read_text(encoding="utf-8"))
    file, out = tmp_path / "chat.json", tmp_path / "out"
    file.write_text(json.dumps([*entries, {"conversations": []}]), encoding="utf-8")
    arguments = [*training, "--data", file, "--steps", 2, "--save-every", 1, "--out", out]
    assert command(monkeypatch, llava_train, *arguments) == 0
    assert "4 examples; 1 entries without a picture are left out" in capsys.readouterr().out
    named = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["name"], line["reason"]) for line in named] == [
        ("chat.json, entry 4", "conversations must alternate from human (user) to gpt (assistant); these are []")
    ]
    shutil.rmtree(out / "checkpoint-2")
    entries[1]["conversations"][1]["value"] += "!"  # as many, and other words
    file.write_text(json.dumps(entries), encoding="utf-8")
    assert command(monkeypatch, llava_train, *arguments, "--resume") == 2
    assert "belongs to another run: data was {'examples': 4" in capsys.readouterr().err
    entries[1]["image"] = "没有.png"
    file.write_text(json.dumps(entries), encoding="utf-8")
    assert command(monkeypatch, llava_train, *arguments, "--out", tmp_path / "two") == 2
    said = capsys.readouterr().err
    assert "1 of the 4 pictures looked for are not there, over the limit of 1.00%; the first is" in said
    assert "没有.png" in said
    entries[1] = {"image": "a.png", "conversations": []}
    file.write_text(json.dumps(entries), encoding="utf-8")
    assert command(monkeypatch, llava_train, *arguments, "--out", tmp_path / "two") == 2
    assert "1 of the 4 entries with a picture cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


def test_wrong_inputs_are_explained(language_dir: Path, embedded: fgclip2.FGCLIP2) -> None:
    model, processor = llava(language_dir, embedded)
    picture = processor.patches(pictures()[0])
    with pytest.raises(Fgclip2Error, match="2 placeholders <image> for 1 pictures"):
        processor.encode([("<image><image>", None)], [picture])
    batch = processor.batch([processor.encode([("<image>", None)], [picture])], [picture], generate=True)
    tower = model.model.vision_tower
    with pytest.raises(Fgclip2Error, match="image_sizes is needed"):
        tower(batch["pixel_values"])
    with pytest.raises(Fgclip2Error, match="sides must be multiples of 16"):
        tower(batch["pixel_values"], batch["image_sizes"] + 1)
    with pytest.raises(Fgclip2Error, match="give NaFlex patches"):
        tower(torch.zeros(1, 3, 64, 64), batch["image_sizes"])
    with pytest.raises(Fgclip2Error, match="template 'llama': choose one of vicuna, chatml"):
        LlavaProcessor(processor.tokenizer, "llama")
    with pytest.raises(Fgclip2Error, match="max_patches 0: give 1 to 16,384"):
        LlavaProcessor(processor.tokenizer, max_patches=0)


def test_prompts_and_boxes() -> None:
    asked = Question("1", b"", "几个？", ("A",), options=("一", "二"))
    assert prompt(asked, "zh") == "<image>\n几个？\nA. 一\nB. 二\n请直接回答选项字母。"
    assert prompt(asked, "en").endswith("\nAnswer with the option's letter from the given choices directly.")
    assert (
        prompt(Question("1", b"", "Why?"), "en") == "<image>\nWhy?\nAnswer the question using a single word or phrase."
    )
    referred = Question("val/1", b"", "left cat", box=(0, 0, 1, 1))
    assert prompt(referred, "en").endswith("region this sentence describes: left cat")
    assert box_of("[0.25, 0.5, 0.75, 1.0]", (200, 100)) == [50, 50, 150, 100]
    assert box_of("It is at 0.1, 0.2, 0.3", (200, 100)) is None
    assert box_of("[10, 20, 30, 40]", (200, 100)) is None
    assert box_of("[-0.1, 0, 1, 1]", (200, 100)) is None


def test_answers_are_judged_by_the_runner(
    language_dir: Path,
    embedded: fgclip2.FGCLIP2,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All six sets from the command line; every question has an answer, and the figures are those of the answers."""
    model, processor = llava(language_dir, embedded)
    save(model, processor, tmp_path / "model")
    root, out = tmp_path / "data", tmp_path / "predictions"
    for name in SETS:
        MINIATURES[name].write(root, tmp_path / "unused")
    common = ["--model", tmp_path / "model", "--data-root", root, "--out", out, "--device", "cpu", "--dtype", "float32",
              "--max-new-tokens", 4]  # fmt: skip
    assert command(monkeypatch, llava_answer, *common, "--batch-size", 3) == 0
    assert sorted(file.name for file in out.glob("*.jsonl")) == sorted(f"{name}.jsonl" for name in SETS)
    for name in SETS:
        lines = [json.loads(line) for line in (out / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        questions = list(BENCHMARKS[name].read(root))
        assert [line["question_id"] for line in lines] == [question.id for question in questions]
    report = run(select(["answers"]), embedded, root, tmp_path / "results", Settings(samples=10, predictions=out))
    assert set(report.results) == set(SETS)
    assert all(result["facts"]["unanswered"] == 0 for result in report.results.values())
    assert report.results["gqa"]["metrics"]["accuracy"]["value"] == 0  # random letters
    assert command(monkeypatch, llava_answer, *common, "--tasks", "coco") == 2
    assert "no set of questions 'coco'; choose all, or of gqa" in capsys.readouterr().err
    shutil.rmtree(root / "gqa")
    assert command(monkeypatch, llava_answer, *common, "--tasks", "gqa") == 2
    assert "gqa lacks in " in capsys.readouterr().err


class Parrot(Answerer):
    """Says what it was told, and stops the run when it is told ``None``."""

    def __init__(self, model: Any, processor: LlavaProcessor, said: list[str | None]) -> None:
        super().__init__(model, processor)
        self.said, self.asked = said, []

    def texts(self, asked: Any) -> list[str]:
        found = []
        for _, text in asked:
            self.asked.append(text)
            word = self.said.pop(0)
            if word is None:
                raise KeyboardInterrupt
            found.append(word)
        return found


def test_a_stopped_run_goes_on_and_lost_pictures_are_named(
    language_dir: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path
) -> None:
    model, processor = llava(language_dir, embedded)
    save(model, processor, tmp_path / "model")
    root, out = tmp_path / "data", tmp_path / "predictions"
    MINIATURES["refcoco"].write(root, tmp_path / "unused")
    parrot = Parrot(model, processor, ["[0, 0, 0.3125, 0.625]", "left", None])
    with pytest.raises(KeyboardInterrupt):
        answer(BENCHMARKS["refcoco"], root, out, parrot, tmp_path / "model", batch_size=1)
    assert not (out / "refcoco.jsonl").exists()
    (part,) = (out / "answered").glob("refcoco.*.jsonl")
    with part.open("a", encoding="utf-8") as stream:
        stream.write('{"question_id": "testA/1", "te')  # cut short
    parrot = Parrot(model, processor, ["[0, 0, 0.3125, 0.625]", "[1, 1, 1, 1]"])
    done = answer(BENCHMARKS["refcoco"], root, out, parrot, tmp_path / "model", batch_size=1)
    assert (done.count, done.unanswered, len(parrot.asked)) == (4, (), 2)
    lines = [json.loads(line) for line in done.file.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"question_id": "val/1", "text": "[0, 0, 0.3125, 0.625]", "bbox": [0, 0, 20, 20]}  # of 64 x 32
    assert lines[1] == {"question_id": "val/2", "text": "left"}
    settings = Settings(samples=10, predictions=out)
    report = run(select(["refcoco"]), embedded, root, tmp_path / "results", settings)
    figures = {name: metric["value"] for name, metric in report.results["refcoco"]["metrics"].items()}
    assert figures == {"val": 50.0, "testA": 100.0, "testB": 0.0}
    again = answer(BENCHMARKS["refcoco"], root, out, Parrot(model, processor, []), tmp_path / "model")
    assert again == done  # and nothing was asked
    write_atomically(next((root / "coco/train2014").iterdir()), b"no picture")
    done = answer(BENCHMARKS["refcoco"], root, out, Parrot(model, processor, []), tmp_path / "model", limit=2)
    assert done.count == 0
    assert [name for name, _ in done.unanswered] == ["val/1", "val/2"]
    with pytest.raises(Fgclip2Error, match="coco is no set of questions"):
        answer(BENCHMARKS["coco"], root, out, parrot, tmp_path / "model")
