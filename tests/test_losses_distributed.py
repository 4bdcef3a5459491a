"""Losses over 1, 2 and 4 processes against one process on the same rows; float32, 1e-5 relative to each gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fgclip2 import losses

HERE = Path(__file__).parent
SCRIPT = HERE / "losses_distributed.py"
# By world size: the ranks that make up the group of each pattern of rows, in the script's order.
MEMBERS = {
    1: [(0,), (0,)],
    2: [(0, 1), (0, 1), (0, 1), (0, 1), (1,)],
    4: [(0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (1, 3)],
}
CASES = [
    "sigmoid ring",
    "sigmoid gather",
    "sigmoid ring, chunks of 2",
    "sigmoid gather, chunks of 3",
    "sigmoid ring, ignore",
    "region",
    "region, ignore",
    "hard negative",
    "hard itc",
    "intra, remove, sum",
    "intra, zero, mean",
    "rank",
    "together",
]


@pytest.fixture(scope="module", params=MEMBERS, ids="{} processes".format)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What every rank and the lone process wrote, by ``0``, ``1``, ... and ``alone``."""
    world, directory = request.param, tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    commands = [[sys.executable, str(SCRIPT), str(rank), str(world), str(directory)] for rank in range(world)]
    ranks = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=300)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            rank.kill()
    return {name: load_file(directory / f"{name}.safetensors") for name in (*map(str, range(world)), "alone")}


@pytest.mark.parametrize("case", CASES)
def test_ranks_agree_with_one_process(found: dict[str, dict[str, Tensor]], case: str):
    for number, members in enumerate(MEMBERS[len(found) - 1]):
        ranks = [found[str(rank)] for rank in members]

        def every(key: str, ranks=ranks, number=number) -> list[Tensor]:
            return [rank[f"{number}/{case}/{key}"] for rank in ranks]

        for key in ("value", "scale", "bias"):
            _assert_near(torch.stack(every(key)).mean(0), found["alone"][f"{number}/{case}/{key}"], key)
        for key in ("image", "text", "texts"):
            _assert_near(torch.cat(every(key)) / len(ranks), found["alone"][f"{number}/{case}/{key}"], key)


def test_the_threshold_is_that_of_one_process_and_the_same_to_the_last_bit_on_all_ranks(found):
    for number, members in enumerate(MEMBERS[len(found) - 1]):
        thresholds = [found[str(rank)][f"{number}/rank/threshold0"] for rank in members]
        assert all(torch.equal(threshold, thresholds[0]) for threshold in thresholds)
        torch.testing.assert_close(thresholds[0], found["alone"][f"{number}/rank/threshold0"], rtol=1e-5, atol=1e-6)


def test_gradients_are_there_to_be_compared(found):
    if len(found) - 1 > 1:
        for case in CASES:
            assert any(found["alone"][f"0/{case}/{key}"].abs().max() > 1e-3 for key in ("image", "text", "texts")), case


def test_nobody_talks_to_other_ranks_without_a_group(monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_gather", None)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    features = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert torch.isfinite(losses.sigmoid_loss(features, features, torch.tensor(10.0), torch.tensor(-3.0)))
    assert torch.isfinite(losses.region_contrastive_loss(features, features, torch.tensor(10.0)))


def _assert_near(found: Tensor, expected: Tensor, key: str) -> None:
    size = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * size, msg=lambda text: f"{key}: {text}")
