"""The trainer: resumed runs are the uninterrupted ones, killed ones leave whole checkpoints, bad input is named."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from fgclip2.data.collate import Collator, TrainingDataset
from fgclip2.data.records import open_records
from fgclip2.errors import Fgclip2Error
from fgclip2.train import checkpoint as checkpoints
from fgclip2.train.optim import build_optimizer, parameter_groups
from fgclip2.train.recipe import BatchConfig, OptimConfig, RunConfig, recipe
from fgclip2.train.stage import Stage
from fgclip2.train.trainer import StageTrainer, keep_to_one_device

MakeStage = Callable[..., Stage]
CONFIG = RunConfig(
    recipe("tiny", 2),
    OptimConfig(lr=1e-3, warmup=2),
    BatchConfig(size=4),
    steps=8,
    precision="fp32",
    ema=0.9,
    save_every=3,
    log_every=1,
    workers=0,
)


@pytest.fixture
def make(make_stage: MakeStage, dataset: TrainingDataset, collate: Collator) -> Callable[..., StageTrainer]:
    def trainer(directory: Path, config: RunConfig = CONFIG, **kwargs: Any) -> StageTrainer:
        return StageTrainer(make_stage(config.recipe), dataset, collate, config, directory, **kwargs)

    return trainer


def lines(directory: Path) -> list[dict[str, float]]:
    text = (directory / "metrics.jsonl").read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if "loss" in line]


def same(one: Stage, other: Stage) -> None:
    for (name, expected), got in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(got, expected), name


@pytest.mark.parametrize("muon", [None, 1e-3], ids=["adamw", "muon"])
def test_a_resumed_run_is_bit_equal(make: Callable[..., StageTrainer], tmp_path: Path, muon: float | None) -> None:
    """float32 on the CPU: weights, average, scales, threshold and every later loss."""
    config = replace(CONFIG, optim=replace(CONFIG.optim, muon_lr=muon))
    whole = make(tmp_path / "whole", config)
    whole.train()
    parts = make(tmp_path / "parts", config)
    parts.stopping.received = True  # ends after the first step, as after SIGTERM
    parts.train()
    assert [path.name for path in checkpoints.checkpoints(tmp_path / "parts")] == ["checkpoint-1"]
    resumed = make(tmp_path / "parts", config)
    resumed.train(resume=True)
    same(whole.stage, resumed.stage)
    for name, tensor in whole.average.state().items():
        assert torch.equal(resumed.average.state()[name], tensor), name
    expected = [line["loss"] for line in lines(tmp_path / "whole")]
    assert [line["loss"] for line in lines(tmp_path / "parts")] == expected
    assert len(expected) == 8
    assert [path.name for path in checkpoints.checkpoints(tmp_path / "whole")] == ["checkpoint-8", "checkpoint-6"]


def test_the_log_tells_terms_scales_and_speed(make: Callable[..., StageTrainer], tmp_path: Path) -> None:
    trainer = make(tmp_path)
    trainer.train()
    line = lines(tmp_path)[-1]
    assert line["step"] == 8
    assert line["epoch"] == pytest.approx(8 / trainer.steps_per_epoch, abs=1e-4)
    weights = vars(trainer.config.recipe.weights)
    total = sum(value * line[name] for name, value in weights.items() if value)
    assert line["loss"] == pytest.approx(total, rel=1e-4)
    assert line["pictures_per_second"] > 0
    assert line["failures"] == 0
    assert line["scale_hard"] <= 100.0001


class _Breaks(torch.autograd.Function):
    """The identity, whose gradient is not finite."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.inf


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_made(
    make: Callable[..., StageTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, full_batch: bool
) -> None:
    """It ends before the update of step 5; what step 4 left is what a run of 4 steps leaves."""
    batch = BatchConfig(size=4, accumulation=2, full_batch=True) if full_batch else BatchConfig(size=4)
    config = replace(CONFIG, batch=batch, save_every=2, keep=1)
    trainer = make(tmp_path / "broken", config)
    whole = Stage.total

    def broken(self: Stage, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        total = whole(self, terms)
        if trainer.state.global_step < 4:
            return total
        return total * math.nan if what == "loss" else _Breaks.apply(total)

    monkeypatch.setattr(Stage, "total", broken)
    with pytest.raises(Fgclip2Error, match=r"step 5 is not finite \(.*records .*checkpoints are kept") as caught:
        trainer.train()
    assert ("loss nan" in str(caught.value)) == (what == "loss")
    assert "gradients " in str(caught.value)
    monkeypatch.setattr(Stage, "total", whole)
    assert [path.name for path in checkpoints.checkpoints(tmp_path / "broken")] == ["checkpoint-4"]
    good = make(tmp_path / "good", replace(config, steps=4, optim=replace(CONFIG.optim, schedule="constant")))
    assert all(torch.isfinite(tensor).all() for tensor in trainer.stage.state_dict().values())
    text = (tmp_path / "broken" / "metrics.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line, parse_constant=pytest.fail)["step"] for line in text.splitlines()] == [1, 2, 3, 4]
    assert good.total_steps == 4


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    make: Callable[..., StageTrainer], tmp_path: Path, tiny_dir: Path
) -> None:
    import shutil

    import fgclip2
    from fgclip2.modeling import Fgclip2Model
    from fgclip2.train.run import save_model

    model = Fgclip2Model.from_pretrained(tiny_dir)
    with torch.no_grad():
        model.boxtext_head.weight[0, 0] = math.nan
    with pytest.raises(Fgclip2Error, match=r"1 of \d+ tensors are not finite, such as boxtext_head.weight"):
        save_model(model, tiny_dir, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_dir, damaged)
    state = load_file(damaged / "model.safetensors")
    state["boxtext_head.weight"][0, 0] = math.inf
    save_file(state, damaged / "model.safetensors", {"format": "pt"})
    with pytest.raises(Fgclip2Error, match=r"damaged: 1 of \d+ tensors are not finite, such as boxtext_head.weight"):
        fgclip2.load(damaged, device="cpu")


def test_a_run_is_not_resumed_on_other_records_of_as_many(
    make_stage: MakeStage, collate: Collator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another caption, another image or other names are other data; the same data elsewhere are not."""

    def trainer(folder: str, caption: str = "a red car", side: int = 40) -> StageTrainer:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        rows = []
        for number in range(8):
            Image.new("RGB", (side, 40), (number, 0, 0)).save(place / f"{number}.bmp")
            rows.append({"f_path": f"{number}.bmp", "short_caption": caption if number == 5 else f"thing {number}"})
        (place / "data.json").write_text(json.dumps(rows), encoding="utf-8")
        dataset = TrainingDataset(open_records(place / "data.json"))
        config = replace(CONFIG, recipe=recipe("tiny", 1), ema=None)
        return StageTrainer(make_stage(config.recipe), dataset, collate, config, tmp_path / "run")

    first = trainer("a")
    first.stopping.received = True
    first.train()
    for other in (trainer("b", caption="红色汽车 a car"), trainer("c", side=41)):
        with pytest.raises(Fgclip2Error, match="belongs to another run: data.sample was"):
            other.train(resume=True)
    moved = trainer("moved")
    moved.stopping.received = True
    moved.train(resume=True)
    (newest, *_) = checkpoints.checkpoints(tmp_path / "run")
    written = (newest / "settings.json").read_text(encoding="utf-8")
    settings = json.loads(written)
    del settings["data"]["sample"]  # as an earlier version wrote it; a whole checkpoint's files have their sizes
    (newest / "settings.json").write_text(json.dumps(settings).ljust(len(written)), encoding="utf-8")
    trainer("b", caption="other").train(resume=True)
    assert "does not say which records it saw" in caplog.text


def test_the_last_line_counts_samples_not_steps(make: Callable[..., StageTrainer], tmp_path: Path) -> None:
    """Also of a resumed run, which counts its own alone."""
    trainer = make(tmp_path)
    trainer.stopping.received = True
    trainer.train()
    make(tmp_path).train(resume=True)
    text = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    last = [line for line in map(json.loads, text.splitlines()) if "train_runtime" in line][-1]
    assert last["train_steps_per_second"] == pytest.approx(7 / last["train_runtime"], rel=1e-2)
    assert last["train_samples_per_second"] == pytest.approx(4 * 7 / last["train_runtime"], rel=1e-2)


def test_full_batch_accumulation_trains_as_one_batch(make: Callable[..., StageTrainer], tmp_path: Path) -> None:
    """Two halves by cached embeddings, against the whole; float32, sums in another order through three AdamW steps."""
    config = replace(CONFIG, steps=3, ema=None, recipe=replace(CONFIG.recipe, mask_true=False))
    optim = replace(config.optim, eps=1e-3)  # AdamW divides tiny gradients by their own size, and so their rounding
    whole = make(tmp_path / "whole", replace(config, optim=optim))
    whole.train()
    halves = make(
        tmp_path / "halves", replace(config, optim=optim, batch=BatchConfig(size=4, accumulation=2, full_batch=True))
    )
    halves.train()
    apart = make(tmp_path / "apart", replace(config, optim=optim, batch=BatchConfig(size=4, accumulation=2)))
    apart.train()
    expected = [line["loss"] for line in lines(tmp_path / "whole")]
    assert [line["loss"] for line in lines(tmp_path / "halves")] == pytest.approx(expected, rel=1e-4)
    assert [line["loss"] for line in lines(tmp_path / "apart")] != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("full_batch", [False, True])
def test_an_epoch_can_have_every_record(
    make: Callable[..., StageTrainer], tmp_path: Path, accumulation: int, full_batch: bool
) -> None:
    """24 records of each language, 10 in a batch: four whole batches, and one of 4 of each language if asked for."""
    batch = BatchConfig(size=10, accumulation=accumulation, full_batch=full_batch)
    config = replace(CONFIG, steps=None, epochs=1, ema=None)
    seen = {}
    for drop_last in (True, False):
        trainer = make(tmp_path / str(drop_last), replace(config, batch=replace(batch, drop_last=drop_last)))
        embed, count = trainer.stage.embed, []
        trainer.stage.embed = lambda given, embed=embed, count=count: (count.append(len(given)), embed(given))[1]
        trainer.train()
        assert all(math.isfinite(line["loss"]) for line in lines(tmp_path / str(drop_last)))
        twice = 2 if full_batch and accumulation > 1 else 1  # the second pass, with gradients
        seen[drop_last] = trainer.total_steps, sum(count) / twice
    assert seen == {True: (4, 40), False: (6, 48)}


def test_checkpoints_are_whole_or_not_there(make: Callable[..., StageTrainer], tmp_path: Path) -> None:
    make(tmp_path, replace(CONFIG, steps=6)).train()
    newest, older = checkpoints.checkpoints(tmp_path)
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert checkpoints.checkpoints(tmp_path) == [older]
    with pytest.raises(Fgclip2Error, match="has 1000 bytes, where"):
        checkpoints.check(newest)
    (older / "optimizer.pt").unlink()
    with pytest.raises(Fgclip2Error, match="is missing"):
        checkpoints.check(older)
    (older / "_SUCCESS").unlink()
    with pytest.raises(Fgclip2Error, match="no readable _SUCCESS"):
        checkpoints.check(older)
    assert not (tmp_path / "partial").exists()


def test_steps_made_after_the_last_checkpoint_are_logged_once(
    make: Callable[..., StageTrainer], tmp_path: Path
) -> None:
    make(tmp_path).train()
    expected = lines(tmp_path)
    (tmp_path / "checkpoint-8" / "_SUCCESS").unlink()  # as if killed while saving
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 9, "lo')
    make(tmp_path).train(resume=True)
    timeless = [{**line, "pictures_per_second": 0} for line in lines(tmp_path)]
    assert timeless == [{**line, "pictures_per_second": 0} for line in expected]


def test_a_second_run_does_not_write_over_the_first(make: Callable[..., StageTrainer], tmp_path: Path) -> None:
    make(tmp_path, replace(CONFIG, steps=3)).train()
    with pytest.raises(Fgclip2Error, match="holds checkpoints up to checkpoint-3; resume that run"):
        make(tmp_path).train()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": recipe("paper", 2)}, r"recipe\.region_scale was 20.0 and is 100.0"),
        ({"ema": None}, "ema was 0.9 and is None"),
        ({"freeze": ("vision",)}, r"freeze was \[\] and is \['vision'\]"),
        ({"optim": OptimConfig(lr=2e-3, warmup=2)}, r"optim\.lr was 0.001 and is 0.002"),
    ],
)
def test_a_run_is_resumed_with_the_settings_it_began_with(
    make: Callable[..., StageTrainer], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = replace(CONFIG, steps=4)
    make(tmp_path, replace(config, save_every=2)).train()
    with pytest.raises(Fgclip2Error, match=f"belongs to another run: .*{message}"):
        make(tmp_path, replace(config, **change)).train(resume=True)
    make(tmp_path, replace(config, log_every=2, workers=1)).train(
        resume=True
    )  # what is trained does not depend on these


def test_weights_of_another_shape_are_refused(make: Callable[..., StageTrainer], tmp_path: Path) -> None:
    trainer = make(tmp_path, replace(CONFIG, steps=3))
    trainer.train()
    weights = tmp_path / "checkpoint-3" / "model.safetensors"
    state = load_file(weights)
    state["threshold"] = torch.zeros(2)
    save_file(state, weights)
    with pytest.raises(Fgclip2Error, match="1 tensors differ in name or shape, such as threshold"):
        trainer._load_from_checkpoint(str(weights.parent))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps 0: give 1 or more"),
        ({"epochs": -1.0}, "epochs -1.0"),
        ({"workers": -1}, "workers -1: give 0 or more"),
        ({"log_every": 0}, "log_every 0"),
        ({"ema": 2.0}, "ema 2.0"),
        ({"failure_limit": 5.0}, "failure_limit 5.0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Fgclip2Error, match=message):
        replace(CONFIG, **change)


def test_data_of_which_nothing_can_be_used_stop_the_run(
    make_stage: MakeStage, collate: Collator, tmp_path: Path
) -> None:
    """Also a run too short to see a thousand samples."""
    lines = [json.dumps({"f_path": "none.jpg", "short_caption": f"text {k}"}) for k in range(20)]
    (tmp_path / "bad.jsonl").write_text("\n".join(lines), encoding="utf-8")
    dataset = TrainingDataset(open_records(tmp_path / "bad.jsonl"))
    config = replace(CONFIG, recipe=recipe("paper", 1), steps=None, epochs=1.0, optim=OptimConfig())
    trainer = StageTrainer(make_stage(config.recipe), dataset, collate, config, tmp_path / "run")
    with pytest.raises(Fgclip2Error, match="4 of 4 samples are unusable"):  # a batch: the limit cannot be kept any more
        trainer.train()
    assert len((tmp_path / "run" / "failures.jsonl").read_text(encoding="utf-8").splitlines()) == 4


def test_parameter_groups(make_stage: MakeStage) -> None:
    stage = make_stage()
    config = OptimConfig(lr=1e-4, head_lr=2e-4, scale_lr=3e-4, muon_lr=4e-4, weight_decay=0.1)
    groups = {group["name"]: group for group in parameter_groups(stage, config)}
    members = {name: {id(item) for item in group["params"]} for name, group in groups.items()}
    named = dict(stage.named_parameters())
    assert sum(map(len, members.values())) == sum(item.requires_grad for item in named.values())
    for pattern, group in {
        "vision_model.encoder.layers.0.mlp.fc1.weight": "muon",
        "vision_model.encoder.layers.0.mlp.fc1.bias": "towers, no decay",
        "text_model.embeddings.token_embedding.weight": "towers",
        "embedder.model.boxtext_head.weight": "added",
        "embedder.model.boxtext_head.bias": "added, no decay",
        "label_head.proxies": "added, no decay",
        "model.logit_scale": "scales",
        "log_scales.hard": "scales",
    }.items():
        (parameter,) = [item for name, item in named.items() if name.endswith(pattern)]
        assert id(parameter) in members[group], pattern
    assert {name: group["lr"] for name, group in groups.items()}["scales"] == 3e-4
    assert all(
        group["weight_decay"] == (0 if "no decay" in name or name == "scales" else 0.1)
        for name, group in groups.items()
    )
    with pytest.raises(Fgclip2Error, match="everything is frozen"):
        build_optimizer([], config)


_SCRIPT = """
import sys
from pathlib import Path
from fgclip2.train.arguments import TrainArguments
from fgclip2.train.recipe import BatchConfig, OptimConfig
TrainArguments(model=sys.argv[1], out=Path(sys.argv[2]), stage=2, recipe="tiny", steps=40, scenes=16, workers=1,
    precision="fp32", save_every=1, log_every=1, optim=OptimConfig(lr=1e-4), batch=BatchConfig(size=2),
    resume="--resume" in sys.argv).run()
"""


def start(model: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(model), str(out), *more],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_at_any_moment_a_run_goes_on_as_if_nothing_had_been(tiny_dir: Path, tmp_path: Path) -> None:
    """kill -9 while a checkpoint is being written, and at some other moment; a checkpoint is written every step."""
    assert start(tiny_dir, tmp_path / "whole").wait() == 0
    expected = [line["loss"] for line in lines(tmp_path / "whole")]
    out = tmp_path / "killed"
    process = start(tiny_dir, out)
    wait_for(lambda: len(checkpoints.checkpoints(out)) > 1 and (out / "partial").exists(), process)
    process.kill()
    process.wait()
    process = start(tiny_dir, out, "--resume")
    wait_for(lambda: (out / "checkpoint-12").exists() or (out / "checkpoint-13").exists(), process)
    time.sleep(0.1)
    process.kill()
    process.wait()
    assert start(tiny_dir, out, "--resume").wait() == 0
    by_step = {line["step"]: line["loss"] for line in lines(out)}
    assert [by_step[step] for step in range(1, 41)] == expected


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_0(tiny_dir: Path, tmp_path: Path) -> None:
    process = start(tiny_dir, tmp_path)
    wait_for(lambda: bool(checkpoints.checkpoints(tmp_path)), process)
    os.killpg(process.pid, signal.SIGTERM)  # as schedulers do: the loader's workers hear it too
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "continue with --resume" in output
    step = int(output.split("at step ")[1].split(";")[0])
    assert checkpoints.step_of(checkpoints.checkpoints(tmp_path)[0]) == step < 40


def with_dropout(make: Callable[..., StageTrainer], directory: Path, config: RunConfig, **kwargs: Any) -> StageTrainer:
    """A trainer whose towers draw random numbers in every forward pass, as LoRA's dropout does."""
    trainer = make(directory, config, **kwargs)
    for module in trainer.stage.modules():
        if type(module).__name__ == "Fgclip2MLP":
            module.fc2 = nn.Sequential(nn.Dropout(0.2), module.fc2)
    return trainer


def test_a_resumed_run_draws_the_same_dropout(make: Callable[..., StageTrainer], tmp_path: Path) -> None:
    """float32 on the CPU, to the bit."""
    config = replace(CONFIG, steps=5, ema=None)
    with_dropout(make, tmp_path / "whole", config).train()
    parts = with_dropout(make, tmp_path / "parts", config)
    parts.stopping.received = True
    parts.train()
    with_dropout(make, tmp_path / "parts", config).train(resume=True)
    expected = [line["loss"] for line in lines(tmp_path / "whole")]
    assert [line["loss"] for line in lines(tmp_path / "parts")] == expected
    assert len(expected) == 5


def test_cached_embeddings_and_their_second_pass_drop_the_same(
    make: Callable[..., StageTrainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float32; a pass without gradients adds up in another order, and other masks differ in the first digit."""
    config = replace(CONFIG, steps=3, ema=None, batch=BatchConfig(size=4, accumulation=2, full_batch=True))
    trainer, seen = with_dropout(make, tmp_path, config), []
    embed = Stage.embed

    def noted(self: Stage, batch: Any) -> Any:
        seen.append(embed(self, batch))
        return seen[-1]

    monkeypatch.setattr(Stage, "embed", noted)
    trainer.train()
    assert len(seen) == 12  # three steps of two parts, each embedded twice
    for step in (0, 4, 8):
        for first, second in ((step, step + 2), (step + 1, step + 3)):
            torch.testing.assert_close(seen[first].image, seen[second].image, atol=1e-5, rtol=0)
    assert not torch.allclose(seen[0].image, seen[4].image, atol=1e-2)


def test_other_data_and_other_facts_are_not_resumed(
    make: Callable[..., StageTrainer], tmp_path: Path, make_stage: MakeStage, collate: Collator, scenes: Any
) -> None:
    config = replace(CONFIG, steps=3, ema=None)
    make(tmp_path, config, facts={"lora": {"alpha": 32}}).train()
    with pytest.raises(Fgclip2Error, match="belongs to another run: lora.alpha was 32 and is 512"):
        make(tmp_path, config, facts={"lora": {"alpha": 512}}).train(resume=True)
    fewer = type(scenes)(scenes.world, scenes.config, 5_000_000, 40)
    other = StageTrainer(
        make_stage(config.recipe), TrainingDataset(fewer), collate, config, tmp_path, facts={"lora": {"alpha": 32}}
    )
    with pytest.raises(Fgclip2Error, match=r"data\.records was 48 and is 40; data\.languages was"):
        other.train(resume=True)


def test_what_killed_saves_and_removals_leave_is_cleared(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        partial = tmp_path / "new"
        partial.mkdir()
        (partial / "x").write_text(str(step), encoding="utf-8")
        checkpoints.publish(partial, tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-2" / "_SUCCESS").unlink()  # killed while it was removed
    (tmp_path / "checkpoint-4" / "x").unlink()  # damaged
    (tmp_path / "checkpoint-9").mkdir()  # newer than all that is whole: somebody may want to look at it
    (tmp_path / "checkpoint-best").mkdir()  # not ours
    checkpoints.prune(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-8", "checkpoint-9", "checkpoint-best"]


def test_publishing_replaces_what_was_there(tmp_path: Path) -> None:
    for text in ("old", "new"):
        (tmp_path / "partial").mkdir()
        (tmp_path / "partial" / "x").write_text(text, encoding="utf-8")
        checkpoints.publish(tmp_path / "partial", tmp_path / "model")
    assert (tmp_path / "model" / "x").read_text(encoding="utf-8") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_process_trains_on_one_gpu_of_several(caplog: pytest.LogCaptureFixture) -> None:
    """transformers would wrap the stage in DataParallel, which gives every GPU the whole batch."""
    several = SimpleNamespace(n_gpu=4, _n_gpu=4)
    with caplog.at_level("WARNING"):
        keep_to_one_device(several)
    assert several._n_gpu == 1
    assert "one of 4 GPUs; for all of them: torchrun --nproc-per-node 4" in caplog.text
    one = SimpleNamespace(n_gpu=0, _n_gpu=0)
    keep_to_one_device(one)
    assert one._n_gpu == 0
