"""Real photographs in the real layouts: what is asked is what is counted, and nothing fails."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch

import fgclip2
from fgclip2.evaluation.datasets import select
from fgclip2.evaluation.encoder import Encoder, clip
from fgclip2.evaluation.readers.choices import FGOVD_SPLITS, SUGARCREPE_KINDS
from fgclip2.evaluation.runner import open_task, run
from fgclip2.evaluation.scores import Settings
from fgclip2.evaluation.store import VectorStore
from fgclip2.images import open_image
from tests.evaluation.colours import write_json, write_lines

PICTURES = 40


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """COCO captions, FG-OVD and SugarCrepe of a few photographs, and the boxes of others."""
    source = shared / "data/coco-bilingual-open"
    with (source / "annotations.jsonl").open(encoding="utf-8") as stream:
        lines = [json.loads(line) for line in stream]
    some = [line for line in lines if line["fgovd"]][:PICTURES]
    root = tmp_path / "data"
    (root / "coco").mkdir(parents=True)
    (root / "coco/val2017").symlink_to(source / "images")
    write_json(
        root / "coco/annotations/captions_val2017.json",
        {
            "images": [{"id": line["id"], "file_name": line["file"]} for line in some],
            "annotations": [{"image_id": line["id"], "caption": text} for line in some for text in line["captions_en"]],
        },
    )
    records = [
        {"img_path": f"val2017/{line['file']}", "bbox": item["bbox"], "pos_expression": item["pos"],
         "neg_expression": item["neg"]} for line in some for item in line["fgovd"]
    ]  # fmt: skip
    for name in FGOVD_SPLITS.values():
        write_lines(root / f"fgovd_json/{name}_llava.jsonl", [json.dumps(record) for record in records])
    pairs = [(line["file"], item) for line in some for item in line["sugarcrepe"]]
    for kind in SUGARCREPE_KINDS:
        content = {
            str(number): {"filename": file, "caption": item["caption"], "negative_caption": item["negative"]}
            for number, (file, item) in enumerate(islice(pairs, 20))
        }
        write_json(root / f"sugar-crepe/data/{kind}.json", content)
    return root


def test_photographs(tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path) -> None:
    report = run(select(["coco", "fgovd", "sugarcrepe"]), tiny, root, tmp_path / "out", Settings(samples=50))
    assert report.encoded == PICTURES
    coco, fgovd = report.results["coco"], report.results["fgovd"]
    assert coco["failed"] == fgovd["failed"] == 0
    assert coco["metrics"]["i2t_r1"]["count"] == PICTURES
    assert coco["metrics"]["t2i_r1"]["count"] == 5 * PICTURES
    boxes = sum(1 for _ in (root / "fgovd_json/1_attributes_llava.jsonl").open())
    assert fgovd["metrics"]["hard"]["count"] == boxes >= PICTURES
    assert fgovd["metrics"]["hard"] == fgovd["metrics"]["trivial"]


def test_boxes_of_photographs_agree_with_one_picture_a_box(tiny: fgclip2.FGCLIP2, shared: Path, tmp_path: Path) -> None:
    """The released way, the whole picture again for every box, gives every box the same class."""
    source = shared / "data/coco-instances-open"
    root = tmp_path / "data"
    (root / "coco/annotations").mkdir(parents=True)
    (root / "coco/val2017").symlink_to(source / "images")
    content = json.loads((source / "instances_val2017.json").read_text())
    content["images"] = content["images"][:12]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] in kept]
    write_json(root / "coco/annotations/instances_val2017.json", content)
    report = run(select(["coco_box"]), tiny, root, tmp_path / "out", Settings(samples=50))
    result = report.results["coco_box"]
    assert report.encoded == len(kept)
    assert result["metrics"]["top1"]["count"] == len(content["annotations"])
    assert result["failed"] == 0
    task = open_task(select(["coco_box"])[0], root, Settings())
    encoder = Encoder(tiny, VectorStore.of(tmp_path / "out/features", tiny))
    places = task.places[::4]  # type: ignore[attr-defined]
    together, usable = encoder.regions(places)
    assert bool(usable.all())
    alone = torch.cat([tiny.region_features(path, [clip(box, open_image(path).size)]) for path, box in places])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    texts = tiny.text_features(list(task.names), kind="box")  # type: ignore[attr-defined]
    assert torch.equal((together @ texts.T).argmax(1), (alone @ texts.T).argmax(1))
