"""Where mmcv is compiled: a whole detector finds the same with its operations as with their stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fgclip2_mmdet  # noqa: F401  (installs the stand-in where it is wanted)
from fgclip2_mmdet import ops

SCRIPT = Path(__file__).with_name("mmdet_detections.py")


@pytest.mark.slow
@pytest.mark.skipif(ops.is_standin(), reason="mmcv is not compiled here, so there is nothing to compare with")
def test_compiled_operations_and_their_stand_in_find_the_same(tiny_dir: Path, tmp_path: Path) -> None:
    found = {}
    for operations in ("compiled", "standin"):
        output = tmp_path / f"{operations}.pth"
        command = [sys.executable, str(SCRIPT), str(tiny_dir), str(output), operations]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ))
        assert done.returncode == 0, done.stderr
        found[operations] = torch.load(output, weights_only=True)
    for compiled, standin in zip(found["compiled"], found["standin"], strict=True):
        assert len(compiled["en.scores"]) > 10
        for key, expected in compiled.items():
            torch.testing.assert_close(
                standin[key], expected, atol=1e-4, rtol=1e-4, msg=lambda text, key=key: key + text
            )
