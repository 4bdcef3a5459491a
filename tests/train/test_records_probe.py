"""The probe against figures counted by hand from the model's own features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import fgclip2
from fgclip2.data.openmoji import World
from fgclip2.data.openmoji.records import SceneSource
from fgclip2.data.records import open_records
from fgclip2.errors import Fgclip2Error
from fgclip2.processing import Processor
from fgclip2.train.arguments import TrainArguments
from fgclip2.train.recipe import BatchConfig
from fgclip2.train.records_probe import RecordProbe
from fgclip2.train.stage import Stage


def test_figures_are_those_counted_by_hand(
    make_stage: Callable[..., Stage], scenes: SceneSource, tiny_dir: Path
) -> None:
    model = make_stage().model
    world = World()
    names = {code: [getattr(item, f"name_{code}") for item in world.categories] for code in ("en", "zh")}
    figures = RecordProbe(scenes, Processor.from_pretrained(tiny_dir), limit=10, class_names=names)(model)
    assert model.training
    assert figures["unusable"] == 0
    predictor = fgclip2.load(tiny_dir, dtype="float32")
    for start, language in enumerate(("en", "zh")):
        records = [scenes[row] for row in range(start, 20, 2)]
        image = predictor.image_features([record.image for record in records], max_patches=16)
        prefix = "a photo of " if language == "en" else ""
        short = predictor.text_features([prefix + record.short for record in records])
        right = [int((row @ image.T).argmax() == k) for k, row in enumerate(short)]
        assert figures[f"t2i_r1_{language}"] == pytest.approx(10 * sum(right))
        vocabulary = predictor.text_features(names[language], kind="box")
        won = hard = total = 0
        for record in records:
            sides = torch.tensor([64.0, 64.0, 64.0, 64.0])
            boxes = torch.tensor([region.box for region in record.regions]) * sides
            found = predictor.region_features(record.image, boxes, max_patches=16)
            for feature, region in zip(found, record.regions, strict=True):
                total += 1
                won += int((vocabulary @ feature).argmax() == region.label)
                texts = predictor.text_features([region.texts[0], *region.negatives], kind="box")
                hard += int((F.normalize(texts, dim=-1) @ feature).argmax() == 0)
        assert figures[f"box_top1_{language}"] == pytest.approx(100 * won / total, abs=0.01)
        assert figures[f"hard_{language}"] == pytest.approx(100 * hard / total, abs=0.01)


def test_unusable_records_are_counted_and_none_at_all_is_an_error(
    make_stage: Callable[..., Stage], tiny_dir: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "红.png")
    lines = [{"f_path": "红.png", "short_caption": "红色", "is_cn": 1}, {"f_path": "none.png", "short_caption": "red"}]
    (tmp_path / "val.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    processor = Processor.from_pretrained(tiny_dir)
    figures = RecordProbe(open_records(tmp_path / "val.jsonl"), processor)(make_stage().model)
    assert figures == {"t2i_r1_zh": 100, "i2t_r1_zh": 100, "unusable": 1}
    (tmp_path / "bad.jsonl").write_text(json.dumps(lines[1]), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match=r"none of the probe's records can be used; the first: bad.jsonl#0"):
        RecordProbe(open_records(tmp_path / "bad.jsonl"), processor)(make_stage().model)


@pytest.mark.slow
def test_probes_stand_beside_the_log_lines_of_their_steps(tiny_dir: Path, tmp_path: Path) -> None:
    TrainArguments(
        model=str(tiny_dir),
        out=tmp_path,
        scenes=16,
        steps=2,
        batch=BatchConfig(size=4),
        workers=0,
        log_every=1,
        probe_every=2,
        precision="fp32",
    ).run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert [line["step"] for line in lines if "probe_box_top1_zh" in line] == [0, 2]
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_model_that_tells_nothing_apart_has_0_percent(
    make_stage: Callable[..., Stage], scenes: SceneSource, tiny_dir: Path
) -> None:
    """A tie is no answer: a collapsed head once had 100 %, and so had one that was not a number."""
    probe = RecordProbe(scenes, Processor.from_pretrained(tiny_dir), limit=2)
    for value in (1.0, float("nan")):
        model = make_stage().model
        with torch.no_grad():
            model.boxtext_head.weight.zero_()
            model.boxtext_head.bias.fill_(value)
        figures = probe(model)
        assert [figures[f"hard_{language}"] for language in ("en", "zh")] == [0, 0]
