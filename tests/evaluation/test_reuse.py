"""When a result of an earlier run is not taken again: pictures that changed, came or failed, and what records say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

import fgclip2
from fgclip2.evaluation.datasets import BENCHMARKS, select
from fgclip2.evaluation.fingerprint import fingerprint
from fgclip2.evaluation.runner import Report, read_records, run
from fgclip2.evaluation.scores import Settings
from tests.evaluation.colours import picture
from tests.evaluation.miniatures import MINIATURES

SHORT = Settings(samples=20)


def test_a_picture_that_changed_or_failed_is_seen_again(tiny: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    """In place, with the annotations as they were; and a result with failures is never the last word."""
    root = tmp_path / "data"
    for name in ("coco", "coco_box"):
        MINIATURES[name].write(root, tmp_path)

    def again(*names: str) -> Report:
        return run(select(names), tiny, root, tmp_path, SHORT)

    first = again("coco", "coco_box")
    assert first.results["coco_box"]["failed"] == 1  # a box outside its picture
    assert again("coco", "coco_box").reused == ("coco",)
    picture(root / "coco/val2017/000000000003.jpg", "green")
    changed = again("coco")
    assert (changed.reused, changed.encoded) == ((), 0)  # the green one is known
    assert again("coco").reused == ("coco",)
    moved = tmp_path / "moved.jpg"
    (root / "coco/val2017/000000000003.jpg").rename(moved)
    assert again("coco").results["coco"]["failed"] == 1
    assert again("coco").reused == ()
    moved.rename(root / "coco/val2017/000000000003.jpg")  # unpacked later
    mended = again("coco")
    assert (mended.reused, mended.results["coco"]["failed"]) == ((), 0)


def test_fingerprints_know_pictures_and_what_records_say(tmp_path: Path) -> None:
    """Where the listed file or folder itself does not change: class folders, annotations and Parquet inside folders."""
    root, model = tmp_path / "data", SimpleNamespace(dtype=torch.float32)
    for name in ("imagenet_v2", "dci", "mmmu", "lvis_minival", "lit_cn"):
        MINIATURES[name].write(root, tmp_path)

    def known(name: str) -> str:
        records = read_records(BENCHMARKS[name], root)
        return fingerprint(BENCHMARKS[name], records, model, "hash", root, SHORT)  # type: ignore[arg-type]

    def same_stamp(file: Path, content: bytes) -> None:
        times = file.stat()
        assert len(content) == times.st_size
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    def check(name: str, change: Callable[[], object]) -> None:
        before = known(name)
        assert known(name) == before
        change()
        assert known(name) != before

    classes = root / "imagenetv2-matched-frequency-format-val"
    check("imagenet_v2", lambda: picture(classes / "0/b.jpeg", "green"))
    check("imagenet_v2", lambda: (classes / "0/b.jpeg").unlink())
    check("imagenet_v2", lambda: picture(classes / "0/a.jpeg", "blue"))
    file = root / "densely_captioned_images/annotations/0.json"
    check("dci", lambda: same_stamp(file, file.read_bytes().replace(b"is red", b"is shy")))
    check("lit_cn", lambda: (root / "LIT-CN/images/1.jpg").unlink())
    check("lvis_minival", lambda: picture(root / "coco/val2017/000000000007.jpg", "blue"))
    table = root / "MMMU/Art/validation-00000-of-00001.parquet"

    def another_picture() -> None:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(table).to_pylist()
        rows[0]["image_1"] = {"bytes": b"another"}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)

    check("mmmu", another_picture)
