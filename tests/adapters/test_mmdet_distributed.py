"""Two processes train and evaluate as one does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from fgclip2_mmdet import FGCLIP2Runner
from fgclip2_mmdet.experiment import summary
from fgclip2_mmdet.runner import processes

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(("settings", "limit"), [(None, None), ({"backend": "nccl", "timeout": 90}, timedelta(0, 90))])
def test_the_timeout_of_a_config_counts(
    settings: Any, limit: timedelta | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda kind, timeout: told.append((kind, timeout)))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with processes("pytorch", settings):
        assert told == [("gloo", limit)]
    joined: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("fgclip2_mmdet.runner.init_dist", lambda launcher, **more: joined.update(more))
    with processes("pytorch", settings):
        assert joined == (settings or {})


def pictures(root: Path, part: str, count: int, rng: np.random.Generator) -> None:
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": n, "name": name} for n, name in enumerate(("dog", "猫", "bus"), start=1)]
    (root / part).mkdir(parents=True)
    for number in range(1, count + 1):
        width, height = (96, 64) if number % 2 else (64, 96)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / part / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for category in (1 + number % 3, 1 + (number + 1) % 3):
            box = [*rng.integers(0, 30, 2).tolist(), *rng.integers(12, 30, 2).tolist()]
            entry = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": category, "bbox": box}
            content["annotations"].append({**entry, "area": box[2] * box[3], "iscrowd": 0})
    (root / f"{part}.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.slow
def test_two_processes_evaluate_as_one(tiny_dir: Path, tmp_path: Path) -> None:
    """Five pictures do not part evenly; what both found is what one process finds with the checkpoint they wrote."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 5)):
        pictures(tmp_path / "mine", part, count, rng)
    work, file = tmp_path / "work", tmp_path / "fvit.py"
    options = {
        "model.test_cfg.rcnn.score_thr": 0.0,  # an untrained head is sure of nothing
        "model.backbone.dtype": "'float32'",
        "model.train_cfg.rpn_proposal.max_per_img": 20,
        "model.test_cfg.rpn.max_per_img": 20,
        "train_dataloader.dataset.pipeline.2.max_patches": 24,
        "test_dataloader.dataset.pipeline.1.max_patches": 24,
        "test_evaluator.outfile": f"'{tmp_path / 'two.json'}'",
        "env_cfg.dist_cfg": "{'timeout': 120}",
        **{f"{part}_dataloader.batch_size": 1 for part in ("train", "val", "test")},
        **{f"{part}_dataloader.num_workers": 0 for part in ("train", "val", "test")},
    }
    file.write_text(f"_base_ = [{str(ROOT / 'apps/configs/ovd/fvit.py')!r}]\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    command += [
        str(ROOT / "apps/ovd_train.py"),
        "--launcher",
        "pytorch",
        "--config",
        str(file),
        "--work-dir",
        str(work),
    ]
    command += ["--model", str(tiny_dir), "--data-root", str(tmp_path / "mine"), "--train-ann", "train.json"]
    command += ["--val-ann", "val.json", "--novel", "猫", "--epochs", "1", "--pictures", "0", "--cfg-options"]
    command += [f"{name}={value}" for name, value in options.items()]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((work / "metrics.json").read_text(encoding="utf-8"))

    cfg = Config.fromfile(work / "fvit.py")
    assert cfg.launcher == "pytorch"
    cfg.update(launcher="none", work_dir=str(tmp_path / "one"), load_from=str(work / "epoch_1.pth"))
    cfg.test_evaluator[0].outfile = str(tmp_path / "one.json")
    figures = summary(FGCLIP2Runner.from_cfg(cfg).test())
    for vocabulary, values in report["metrics"].items():
        expected = {name: None if np.isnan(value) else value for name, value in figures[vocabulary].items()}
        assert values == pytest.approx(expected, abs=1e-3)
    two, one = (json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in ("two", "one"))
    assert {item["image_id"] for item in one} == {1, 2, 3, 4, 5}
    assert len(one) == len(two) > 100
    for image in range(1, 6):
        rows = [
            np.array(
                sorted(
                    (-item["score"], item["category_id"], *item["bbox"]) for item in found if item["image_id"] == image
                )
            )
            for found in (one, two)
        ]
        np.testing.assert_allclose(rows[1][:, 0], rows[0][:, 0], atol=1e-5)
        np.testing.assert_allclose(rows[1][:20], rows[0][:20], atol=1e-3)
