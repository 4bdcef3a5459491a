"""The command line's run: what a dry run says, and what it finds before any training."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fgclip2.data.openmoji import SceneConfig, World
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.errors import Fgclip2Error
from fgclip2.train.arguments import TrainArguments
from fgclip2.train.recipe import BatchConfig, OptimConfig, RunConfig
from fgclip2.train.run import training_dataset


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


def printed_rows(given: TrainArguments, capsys: pytest.CaptureFixture[str]) -> str:
    given.run()
    return capsys.readouterr().out


def test_stage_1_draws_no_regions_and_counts_none(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = TrainArguments(
        model=str(tiny_dir), out=tmp_path, scenes=8, steps=2, batch=BatchConfig(size=4), dry_run=True, precision="fp32"
    )
    assert "read for a trial" in printed_rows(replace(given, stage=1), capsys)
    first = training_dataset(*source_and_config(replace(given, stage=1)))
    second = training_dataset(*source_and_config(replace(given, stage=2)))
    assert [len(first[0, 0].regions), first[0, 0].hard] == [0, ()]
    assert len(second[0, 0].regions) > 0
    assert second[0, 0].hard != ()


def source_and_config(given: TrainArguments) -> tuple[SceneSource, RunConfig]:
    return SceneSource(World(), SceneConfig(size=64, objects=(2, 3)), 5_000_000, 4), given.config()


def test_the_next_run_goes_on_with_the_scales_of_the_one_before(
    tiny_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "before"
    shutil.copytree(tiny_dir, source)
    learned = {"scale_region": 37.0, "scale_hard": 41.0, "scale": 9.0, "bias": -9.0, "threshold": 0.125}
    (source / "training.json").write_text(json.dumps(learned), encoding="utf-8")
    given = TrainArguments(
        model=str(source),
        out=tmp_path / "out",
        scenes=8,
        stage=2,
        steps=1,
        batch=BatchConfig(size=4),
        workers=0,
        log_every=1,
        precision="fp32",
        optim=OptimConfig(lr=1e-9, warmup=0),
    )
    assert "goes on with the scales and the threshold that" in printed_rows(given, capsys)
    kept = json.loads((tmp_path / "out/model/training.json").read_text(encoding="utf-8"))
    assert kept["scale_region"] == pytest.approx(37, abs=0.01)
    assert kept["scale_hard"] == pytest.approx(41, abs=0.01)
    (source / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match=r"training.json is damaged .*remove it to start with fresh scales"):
        replace(given, out=tmp_path / "other").run()


def test_probes_are_refused_with_fsdp(tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(Fgclip2Error, match="--probe-every do not work with FSDP"):
        TrainArguments(model=str(tiny_dir), out=tmp_path, scenes=8, steps=2, probe_every=2).run()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": ("a.jsonl",), "probe_every": 5}, "name them with --val-data"),
        ({"val_data": ("a.jsonl",), "probe_every": 5}, "--val-data .* without --data"),
        ({"val_data": ("a.jsonl",), "data": ("b.jsonl",)}, "say how often with --probe-every"),
        ({"image_root": Path("图片")}, "--image-root '图片' without --data"),
        ({"data": ("b.jsonl",), "val_image_root": Path("x")}, "--val-image-root 'x' without --val-data"),
    ],
)
def test_options_that_would_do_nothing_are_refused(given: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match=message):
        TrainArguments(out=tmp_path / "out", **given).run()  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def records(folder: Path, **changed: dict[int, object]) -> Path:
    """Eight usable records in both languages, but for fields of some."""
    Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / "红.png")
    lines = []
    for number in range(8):
        box = {"bbox": [0, 0, 0.5, 0.5], "short_expr": f"thing {number}"}
        text = f"红色 {number}" if number % 2 else f"red {number}"
        line = {"f_path": "红.png", "short_caption": text, "caption": f"{text}!", "bbox_info": [box]}
        line |= {"is_cn": number % 2} | {key: values[number] for key, values in changed.items() if number in values}
        lines.append(line)
    data = folder / "data.jsonl"
    data.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    return data


def run(data: Path, tiny_dir: Path, out: Path, **given: object) -> None:
    batch = BatchConfig(size=2, max_patches=16)
    arguments = TrainArguments(data=(str(data),), model=str(tiny_dir), out=out, epochs=1.0, batch=batch, workers=0)
    replace(arguments, precision="fp32", **given).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", [1, 2])
def test_a_bad_region_or_text_costs_no_record(stage: int, tiny_dir: Path, tmp_path: Path) -> None:
    reversed_box = [{"bbox": [0.9, 0, 0.1, 1], "short_expr": "猫"}]
    data = records(tmp_path, bbox_info={1: reversed_box}, caption={2: "", 3: float("nan"), 4: 7})
    out = tmp_path / "out"
    run(data, tiny_dir, out, stage=stage, log_every=1)
    named = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = {
        ("data.jsonl#2", "left out: caption is empty"),
        ("data.jsonl#4", "left out: caption is int instead of text"),
    }
    if stage == 2:
        expected.add(("data.jsonl#1", "left out: box 0 [0.9, 0, 0.1, 1] is reversed; boxes are x1, y1, x2, y2 in 0..1"))
    assert {(line["name"], line["reason"]) for line in named} == expected
    figures = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [line for line in figures if "failures" in line][-1]
    assert [last["failures"], last["parts_left_out"]] == [0, len(expected)]
    assert (out / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"f_path": {3: "没有.png"}}, "1 of the 8 records looked at .*1.00%; the first is data.jsonl#3: .*没有.png"),
        ({"short_caption": {3: ""}}, "data.jsonl#3: short_caption is empty"),
        (
            {"bbox_info": {number: [{"bbox": [4, 5, 60, 60], "short_expr": "猫"}] for number in range(5)}},
            "5 regions of the 8 records looked at cannot be used and 3 can; .*box 0 .* lies outside the picture",
        ),
    ],
)
def test_what_cannot_go_well_is_told_before_the_first_step(
    changed: dict[str, dict[int, object]], told: str, tiny_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(Fgclip2Error, match=told):
        run(records(tmp_path, **changed), tiny_dir, tmp_path / "out", stage=2)
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
    if "f_path" in changed:
        run(records(tmp_path, **changed), tiny_dir, tmp_path / "out", stage=2, failure_limit=0.2)
        assert "没有.png" in (tmp_path / "out" / "failures.jsonl").read_text(encoding="utf-8")
