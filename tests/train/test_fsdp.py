"""FSDP2 on two processes (gloo, CPU): a stage whose weights are shared out has the gradients of one whose are not.

transformers' Trainer runs FSDP on accelerators only, so torch's ``fully_shard`` is applied here as it applies it: to
every class that ``apps/configs/pretrain/fsdp2.yaml`` names, and to the whole.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).resolve().parents[2] / "apps/configs/pretrain/fsdp2.yaml"
_SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from fgclip2.data.collate import Collator, TrainingDataset
from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.modeling import Fgclip2Model
from fgclip2.processing import Processor
from fgclip2.train.recipe import recipe
from fgclip2.train.stage import Stage

directory, classes = sys.argv[1], sys.argv[2].split(",")
dist.init_process_group("gloo")
torch.set_num_threads(1)
first = 4 * dist.get_rank()
source = SceneSource(World(), SceneConfig(size=64, objects=(1, 3)), 5_000_000, 8, ("zh",))
dataset, collate = TrainingDataset(source, negatives=3), Collator(Processor.from_pretrained(directory))
batch = collate([dataset[0, index] for index in range(first, first + 4)]).to("cpu")

def build():
    return Stage(Fgclip2Model.from_pretrained(directory).float().train(), recipe("released", 2))

plain, shared = build(), build()
expected = plain(batch)["loss"]
expected.backward()
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
wrapped = [module for module in shared.modules() if type(module).__name__ in classes]
for module in wrapped:
    fully_shard(module, mesh=mesh)
fully_shard(shared, mesh=mesh)
layers = len(shared.model.text_model.encoder.layers) + len(shared.model.vision_model.encoder.layers)
assert len(wrapped) == layers, (len(wrapped), layers)
loss = shared(batch)["loss"]
loss.backward()
torch.testing.assert_close(loss, expected)
# What a trainer does after a step and at a log line; empty shards have no number to read.
for stage in (plain, shared):
    stage.after_step()
learned, known = shared.learned(), plain.learned()
assert learned.keys() == known.keys()
assert all(abs(learned[name] - known[name]) <= 1e-5 * max(1, abs(known[name])) for name in known), (learned, known)
counted = 0
for (name, own), parameter in zip(plain.named_parameters(), shared.parameters(), strict=True):
    if own.grad is not None:
        dist.all_reduce(own.grad)
        gradient = parameter.grad.full_tensor()
        torch.testing.assert_close(gradient, own.grad / dist.get_world_size(), msg=lambda text: f"{name}: {text}")
        counted += bool(gradient.abs().sum() > 0)
if dist.get_rank() == 0:  # a failed assertion of the other ends both
    print("equal gradients:", counted)
dist.destroy_process_group()
"""


def test_shared_weights_have_the_same_gradients(tiny_dir: Path, tmp_path: Path) -> None:
    """float32; the mean over two ranks is the same two numbers added, so torch's default tolerances are ample."""
    text = CONFIG.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if "transformer_layer_cls_to_wrap" in line)
    script = tmp_path / "fsdp.py"
    script.write_text(_SCRIPT, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    done = subprocess.run(
        [*launch, str(script), str(tiny_dir), line.partition(":")[2].strip()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.rpartition("equal gradients:")[2]) > 50
