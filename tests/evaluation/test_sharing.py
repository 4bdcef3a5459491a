"""Pictures that processes share: kept as they are done, gone on with, and the same figures from two real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fgclip2
from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation import segmentation, sharing
from fgclip2.evaluation.datasets import select
from fgclip2.evaluation.runner import run
from fgclip2.evaluation.scores import Settings
from fgclip2.evaluation.segmentation import NumberingError, read_predicted
from fgclip2.evaluation.sharing import Kept, Outcome, digest_of, share
from tests.conftest import ROOT
from tests.evaluation.colours import write_json, write_labels
from tests.evaluation.miniatures import MINIATURES

SHORT = Settings(samples=20)


def test_what_was_done_is_kept_and_failures_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_KEPT_TOGETHER", 2)
    done: list[int] = []
    stop_at = 5

    def compute(number: int) -> Outcome:
        if number == stop_at:
            raise KeyboardInterrupt
        done.append(number)
        return Outcome(np.zeros((0, 6)) if number == 1 else np.full((2, 3), number), "bad" if number == 2 else None)

    def key(number: int) -> bytes:
        if number == 3:
            raise FileNotFoundError
        return digest_of("square", str(number))

    with pytest.raises(KeyboardInterrupt):
        share(range(7), compute, key, Kept(tmp_path))
    assert (done, len(Kept(tmp_path))) == ([0, 1, 2, 3, 4], 3)  # two of a full file, and one when it was stopped
    stop_at = 99
    outcomes = share(range(7), compute, key, Kept(tmp_path))
    assert done[5:] == [2, 3, 5, 6]
    assert [outcome.values.shape for outcome in outcomes] == [(2, 3), (0, 6), *[(2, 3)] * 5]
    assert [outcome.values[0, 0] for outcome in outcomes[2:]] == [2, 3, 4, 5, 6]
    assert [outcome.failure for outcome in outcomes] == [None, None, "bad", None, None, None, None]
    assert len(share(range(7), compute, key)) == 7  # nothing is kept without a place
    assert len(done) == 16
    assert digest_of("ab", "c") != digest_of("a", "bc")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    Kept(tmp_path).put({b"a": np.arange(3)})
    (file,) = tmp_path.iterdir()
    assert Kept(tmp_path).get(b"a").tolist() == [0, 1, 2]  # type: ignore[union-attr]
    assert Kept(tmp_path).get(b"b") is None
    file.write_bytes(b"cut")
    with pytest.raises(Fgclip2Error, match=f"{file.name} cannot be read .*; delete the file"):
        Kept(tmp_path)


def many_label_maps(root: Path, count: int = 5) -> None:
    """A-150 with so many noisy pictures of several sizes."""
    MINIATURES["a150"].write(root, root / "unused")
    base, rng = root / "ADEChallengeData2016", np.random.default_rng(0)
    for number in range(count):
        height, width = 48 + 16 * number, 96
        pixels = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(base / f"images/validation/{number}.jpg")
        labels = np.kron(rng.integers(0, 150, (height // 16, width // 16)), np.ones((16, 16), np.int64))
        write_labels(base / f"annotations_detectron2/validation/{number}.png", labels)


def test_label_maps_are_not_made_again(tiny: fgclip2.FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, made = tmp_path / "data", []
    many_label_maps(root)
    whole = segmentation.nearest_class

    def counting(model: fgclip2.FGCLIP2, names: Any) -> Any:
        segment = whole(model, names)

        def counted(image: Image.Image) -> np.ndarray:
            if len(made) == 3 and not (tmp_path / "cut").exists():
                (tmp_path / "cut").mkdir()
                raise KeyboardInterrupt
            made.append(image.size)
            return segment(image)

        return counted

    monkeypatch.setattr(segmentation, "nearest_class", counting)

    def judge(out: str, cache: str = "cache") -> Any:
        return run(select(["a150"]), tiny, root, tmp_path / out, SHORT, cache=tmp_path / cache).results["a150"]

    with pytest.raises(KeyboardInterrupt):
        judge("one")
    resumed = judge("one")
    assert len(made) == 6  # five, and the miniature's own
    again = judge("two")
    assert len(made) == 6
    monkeypatch.setattr(segmentation, "nearest_class", whole)
    fresh = judge("three", "elsewhere")
    assert resumed["metrics"] == again["metrics"] == fresh["metrics"]
    assert resumed["breakdown"] == fresh["breakdown"]
    assert fresh["metrics"]["miou"]["count"] == 6
    mask = root / "ADEChallengeData2016/annotations_detectron2/validation/0.png"
    write_labels(mask, np.zeros(np.asarray(Image.open(mask)).shape))
    (tmp_path / "one/a150.json").unlink()
    assert judge("one")["metrics"] != fresh["metrics"]  # another truth is counted anew


def test_label_maps_that_count_from_one_are_refused(tiny: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    root, predictions = tmp_path / "data", tmp_path / "predictions"
    MINIATURES["a150"].write(root, predictions)
    settings = Settings(samples=20, predictions=predictions)
    file = predictions / "a150/a.png"
    labels = np.full((4, 4), 149)
    labels[0, 0] = 255
    write_labels(file, labels)
    assert run(select(["a150"]), tiny, root, tmp_path / "out", settings).results["a150"]["failed"] == 0
    write_labels(file, labels.clip(max=149) + 1)  # as mask_image() has it
    with pytest.raises(
        NumberingError, match="has the number 150; the 150 classes are numbered 0 to 149, and 255 or 65"
    ):
        run(select(["a150"]), tiny, root, tmp_path / "out", settings)
    write_labels(file, [[846, 255, 65_535]], np.uint16)
    assert read_predicted(file, 847).tolist() == [[846, 255, 65_535]]
    write_labels(file, [[847]], np.uint16)
    with pytest.raises(NumberingError, match=r"numbered 0 to 846, and 65535 is .* or take 1 from every value"):
        read_predicted(file, 847)


def _many_boxes(root: Path, predictions: Path, count: int = 5) -> None:
    """LVIS minival with so many noisy pictures, and a detector's noisy boxes of them."""
    rng = np.random.default_rng(1)
    images, annotations, found = [], [], []
    for number in range(1, count + 1):
        name = f"{100 + number:012}.jpg"
        Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((96, 64)).save(
            root / "coco/val2017" / name
        )
        images.append({"id": number, "coco_url": f"http://images.cocodataset.org/val2017/{name}",
                       "neg_category_ids": [1, 2, 3], "not_exhaustive_category_ids": []})  # fmt: skip
        for _ in range(6):
            box = [float(value) for value in (*rng.integers(0, 50, 2), *rng.integers(10, 40, 2))]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "bbox": box,
                                "category_id": int(rng.integers(1, 4)), "area": box[2] * box[3]})  # fmt: skip
            found.append({"image_id": number, "category_id": 1, "bbox": box, "score": float(rng.uniform(0.1, 1))})
    categories = [{"id": n, "name": f"thing_{n}", "frequency": mark} for n, mark in enumerate("rcf", start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / "lvis/lvis_v1_minival_inserted_image_name.json", content)
    write_json(predictions / "lvis_minival.boxes.json", found)


@pytest.mark.slow
def test_two_processes_give_the_files_of_one(tiny_dir: Path, tmp_path: Path) -> None:
    """torchrun with two processes over gloo, against one process: every file of the results, byte by byte."""
    root, predictions = tmp_path / "data", tmp_path / "predictions"
    for name in ("coco", "docci_cn", "coco_box", "fgovd", "voc20", "gqa"):
        MINIATURES[name].write(root, predictions)
    many_label_maps(root)
    _many_boxes(root, predictions)
    names = "coco,docci_cn,coco_box,fgovd,voc20,gqa,a150,lvis_minival"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    fused = {}
    for which, launcher in {"one": [], "two": launch}.items():
        command = [sys.executable, *launcher, str(ROOT / "apps/evaluate.py"), "--tasks", names,
                   "--model", str(tiny_dir), "--data-root", str(root), "--out", str(tmp_path / which),
                   "--predictions", str(predictions), "--samples", "50", "--device", "cpu",
                   "--dtype", "float32"]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        fused[which] = (predictions / "lvis_minival.fused.json").read_bytes()
        (predictions / "lvis_minival.fused.json").unlink()
    files = {
        which: {file.name: file.read_bytes() for file in sorted((tmp_path / which).glob("*.*"))} for which in fused
    }
    assert {f"{name}.json" for name in names.split(",")} < set(files["one"])
    assert files["one"] == files["two"]
    assert fused["one"] == fused["two"]
    kept = {which: len(list((tmp_path / which).glob("features/*/pictures/*"))) for which in fused}
    assert kept == {"one": 2, "two": 4}  # label maps and detections, a file of each process
    metrics = json.loads(files["two"]["a150.json"])["metrics"]
    assert metrics["miou"]["count"] == 6
    assert json.loads(files["two"]["lvis_minival.json"])["metrics"]["ap"]["value"] > 0
