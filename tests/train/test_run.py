"""The command line's run: what a dry run says, and what it finds before any training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.train.arguments import TrainArguments
from fgclip2.train.recipe import BatchConfig


def test_a_dry_run_reads_records_and_writes_nothing(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "红.png")
    lines = [{"f_path": "红.png", "short_caption": "红色", "long_caption": "一片红色", "is_cn": 1} for _ in range(3)]
    lines.append({"f_path": "没有.png", "short_caption": "红色", "is_cn": 1})
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    out = tmp_path / "out"
    given = TrainArguments(
        data=(str(data),), model=str(tiny_dir), out=out, steps=5, batch=BatchConfig(size=2), dry_run=True
    )
    given.run()
    printed = capsys.readouterr().out
    assert "0 English, 4 Chinese" in printed
    assert "4 records with 0 regions drawn, 1 unusable" in printed
    assert "data.jsonl#3: " in printed
    assert not out.exists()
    data.write_text("\n".join(map(json.dumps, lines[-1:] * 2)), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match=r"none of 2 records can be used; data.jsonl#0: .*没有.png"):
        given.run()
