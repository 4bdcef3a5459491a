"""The embedded model's curriculum: phases follow each other, a stopped run goes on, and the result loads."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fgclip2
from fgclip2.data.openmoji import SceneConfig
from fgclip2.train import tiny
from fgclip2.train.recipe import recipe
from fgclip2.train.run import build_stage
from fgclip2.train.tiny import Phase, carry_over, curriculum, fresh_model, train_phases
from fgclip2.train.trainer import StageTrainer


def phases() -> tuple[Phase, ...]:
    optim = replace(tiny._OPTIM, warmup=0)
    first, second = curriculum((1, 1, 0, 0, 0, 0))
    scene = SceneConfig(size=64, objects=(1, 2))
    return (
        replace(first, pictures=4, steps=2, scene=scene, optim=optim),
        replace(second, pictures=2, steps=3, scene=scene, optim=optim, ema=0.5),
    )


@pytest.mark.slow
def test_a_stopped_curriculum_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit-equal where bf16 is: both runs do the same on the same machine."""
    whole = train_phases(phases(), tmp_path / "whole", tokenizer_scenes=20, workers=0)
    train, calls = StageTrainer.train, []

    def stopped(self: StageTrainer, **kwargs: object) -> object:
        calls.append(self)
        self.stopping.received = len(calls) == 2  # SIGTERM in the second phase
        return train(self, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(StageTrainer, "train", stopped)
    with pytest.raises(tiny.Stopped, match="stopped in phase 2; the same command goes on"):
        train_phases(phases(), tmp_path / "parts", tokenizer_scenes=20, workers=0)
    assert not (tmp_path / "parts" / "model").exists()
    parts = train_phases(phases(), tmp_path / "parts", tokenizer_scenes=20, workers=0)
    one, other = (fgclip2.load(path, dtype="float32") for path in (whole, parts))
    for (name, expected), got in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(got, expected), name
    assert one.text_features(["黑猫", "a red car"], kind="box").shape == (2, one.width)
    assert sum(file.stat().st_size for file in whole.iterdir()) < 12.5e6


def test_the_next_stage_takes_along_what_was_learned_beside_the_model() -> None:
    from fgclip2.train.recipe import RunConfig

    model = fresh_model(0)
    first = build_stage(model, RunConfig(recipe("tiny", 1)), classes=5)
    with torch.no_grad():
        first.label_head.proxies.fill_(0.5)
        first.log_scales["hard"].fill_(1.25)
    other = fresh_model(1)
    expected = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    second = build_stage(other, RunConfig(recipe("tiny", 2)), classes=5)
    carry_over(first, second)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())
    assert second.label_head.proxies.eq(0.5).all()
    assert second.log_scales["hard"].item() == 1.25


def test_places_start_as_sines_and_cosines_of_rows_and_columns() -> None:
    """Against the formula written out, at a few places; float32, so 1e-5 for angles up to 24."""
    codes = tiny.place_codes(16, 192)
    waves = [4 * (100 / 4) ** (k / 47) for k in range(48)]
    for row, column in ((0, 0), (3, 11), (15, 2)):
        expected = [
            f(2 * math.pi * place / wave) for place in (row, column) for f in (math.sin, math.cos) for wave in waves
        ]
        assert codes[16 * row + column].tolist() == pytest.approx(expected, abs=1e-5)
    table = fresh_model(0).vision_model.embeddings.position_embedding.weight
    assert torch.allclose(table, 0.3 * codes)
    # Left and right are as far apart as top and bottom.
    grid = codes.view(16, 16, 192)
    assert torch.allclose((grid[:, 0] - grid[:, -1]).norm(dim=-1), (grid[0] - grid[-1]).norm(dim=-1), atol=1e-4)


def test_phases_of_no_steps_are_left_out() -> None:
    assert [phase.steps for phase in curriculum((3, 0, 0, 2, 1, 4))] == [3, 2, 1, 4]
    assert [phase.stage for phase in curriculum((1,) * 6)] == [1, 2, 2, 2, 2, 2]
