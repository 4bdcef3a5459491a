"""The trainer on several processes (gloo, CPU): the same global batches give the same training."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_SCRIPT = """
import sys
from pathlib import Path
from fgclip2.train.arguments import TrainArguments
from fgclip2.train.recipe import BatchConfig, OptimConfig
from fgclip2.train.callbacks import StopSignal

before, stop_at = StopSignal.on_step_end, int(sys.argv[3])

def on_step_end(self, args, state, control, **kwargs):
    self.received = state.global_step == stop_at  # as if SIGTERM had come
    return before(self, args, state, control, **kwargs)

StopSignal.on_step_end = on_step_end
TrainArguments(model=sys.argv[1], out=Path(sys.argv[2]), stage=2, recipe="released", steps=4, scenes=24, workers=0,
    precision="fp32", save_every=2, log_every=1, optim=OptimConfig(lr=1e-4, eps=1e-3, schedule="constant", warmup=1),
    batch=BatchConfig(size=4), regions="global", resume=True).run()
"""


def train(model: Path, out: Path, processes: int, stop_at: int = 0) -> list[float]:
    """Losses by step, of four steps in all or up to the one to stop at."""
    script = out.with_suffix(".py")
    script.write_text(_SCRIPT, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    launch += ["--master-port", str(port), str(script), str(model), str(out), str(stop_at)]
    done = subprocess.run(
        launch, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = map(json.loads, (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def test_two_processes_train_as_one_and_hand_over(tiny_dir: Path, tmp_path: Path) -> None:
    """Losses over four steps, then a run that begins on two processes and ends on one.

    Every term looks at all ranks' rows. float32; sums over ranks are in another order, hence 1e-4.
    """
    alone = train(tiny_dir, tmp_path / "one", 1)
    handed = train(tiny_dir, tmp_path / "handed", 2, stop_at=2)
    assert len(alone) == 4
    assert len(handed) == 2
    rest = train(tiny_dir, tmp_path / "handed", 1)
    assert len(rest) == 4
    one, other = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("one", "handed")
    )
    for first, second in zip(one[:4], [line for line in other if "loss" in line], strict=True):
        for term in ("loss", "short", "long", "region", "hard", "hard_itc", "intra", "rank", "threshold"):
            assert second[term] == pytest.approx(first[term], rel=1e-4, abs=1e-5), (term, first["step"])
