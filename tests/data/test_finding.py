"""Pictures and videos into a folder of results: damage costs only what is damaged, and files are known again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fgclip2.data.finding import find_in_pictures, find_in_video
from fgclip2.data.media import VideoReader, VideoWriter
from fgclip2.data.outputs import Results
from fgclip2.data.sources import Sources
from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import Detections
from fgclip2.visualize import label_colours


class Looking:
    """Finds nothing, and counts what it is shown."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Sequence[Image.Image]) -> list[Detections]:
        self.seen += len(images)
        return [Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), ()) for _ in images]


def damaged_video(path: Path) -> int:
    """Noise of 60 frames, the last two thirds overwritten; how many of its frames can be read."""
    rng = np.random.default_rng(0)
    with VideoWriter(path, 10) as writer:
        for _ in range(60):
            writer.add(Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)))
    content = bytearray(path.read_bytes())
    start, end = content.find(b"mdat") + 4, content.find(b"moov")
    start += (end - start) // 3
    content[start : end - 4] = bytes(end - 4 - start)
    path.write_bytes(content)
    count = 0
    with VideoReader(path) as reader:
        frames = iter(reader)
        while True:
            try:
                next(frames)
            except Fgclip2Error:
                return count
            count += 1


def listed(out: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((out / "detections.json").read_text(encoding="utf-8"))
    return entries


def test_a_link_that_leads_to_itself_hides_no_picture(tmp_path: Path):
    link = tmp_path / "圈.png"
    link.symlink_to(link)
    sources = Sources(found=[(link, tmp_path), (tmp_path / "a.png", tmp_path), (tmp_path / "a.png", tmp_path)])
    assert [name.name for _, name in sources.pictures()] == ["圈.png", "a.png"]


@pytest.mark.parametrize("settings", [None, {"classes": "狗"}])
def test_a_video_that_is_damaged_in_the_middle(tmp_path: Path, settings: dict[str, str] | None) -> None:
    """What comes before the damage and everything else is kept, and a resumed run still says so."""
    bad, good, out = tmp_path / "坏.mp4", tmp_path / "good.mp4", tmp_path / "out"
    readable = damaged_video(bad)
    assert 0 < readable < 60
    with VideoWriter(good, 10) as writer:
        writer.add(Image.new("RGB", (32, 32)))
    for again in range(2 if settings else 1):
        find = Looking()
        with Results(out, settings) as results:
            for video in (bad, good):
                find_in_video(find, video, 1, results, 4)
            results.commit()
        assert find.seen == (0 if again else readable + 1)
        entries = listed(out)
        assert [entry["frame"] for entry in entries] == [*range(readable), 0]
        assert [entry["picture"] for entry in entries] == ["坏.mp4"] * readable + ["good.mp4"]
        (failure,) = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
        assert failure["image"] == str(bad)
        assert f"{readable} frames could be read before that" in failure["error"]
        with VideoReader(out / "坏.mp4") as reader:
            assert len(list(reader)) == readable


def test_a_video_that_is_damaged_since_it_was_checked(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.mp4", tmp_path / "out"
    bad.write_text("no video")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with Results(out, {}) as results:
        find_in_video(Looking(), bad, 1, results, 4)
        find_in_pictures(Looking(), [(tmp_path / "a.png", Path("a.png"))], results, 4)
        results.commit()
    assert [entry["picture"] for entry in listed(out)] == ["a.png"]
    assert "cannot be read" in (out / "failures.jsonl").read_text(encoding="utf-8")
    assert not (out / "bad.mp4").exists()


def test_a_file_is_known_by_where_it_is_and_whether_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another spelling of the path is the same file; another file of the same path is not."""
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (50, 40)).save(f"p/{name}")

    def run(folder: Path, stop: bool = False) -> int:
        find = Looking()
        with Results(Path("out"), {}) as results:
            find_in_pictures(find, [(folder / name, Path(name)) for name in ("a.png", "b.png")], results, 1)
            if not stop:
                results.commit()
        return find.seen

    class Stopped(Looking):
        def __call__(self, images: Sequence[Image.Image]) -> list[Detections]:
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt), Results(Path("out"), {}) as results:
        find_in_pictures(Stopped(), [(Path("p", name), Path(name)) for name in ("a.png", "b.png")], results, 1)
    assert run(tmp_path / "p") == 1
    assert run(Path("p/../p")) == 0
    assert [entry["picture"] for entry in listed(Path("out"))] == ["a.png", "b.png"]
    Image.new("RGB", (99, 99)).save("p/a.png")
    assert run(Path("p")) == 1
    assert sorted((entry["picture"], entry["size"]) for entry in listed(Path("out"))) == [
        ("a.png", [99, 99]),
        ("b.png", [50, 40]),
    ]
    os.utime("p/b.png", ns=(1, 1))
    assert run(Path("p")) == 1
    assert len(listed(Path("out"))) == 2


class Showing:
    """Finds one thing in each image: a cat in the first, a dog in the next, both of the names it looks for."""

    names = ("dog", "猫", "bus")

    def __call__(self, images: Sequence[Image.Image]) -> list[Detections]:
        box, score = np.array([[20, 30, 70, 80]], np.float32), np.ones(1, np.float32)
        return [Detections(box, score, ("猫" if image.getpixel((0, 0)) == (0, 0, 0) else "dog",), names=self.names)
                for image in images]  # fmt: skip


def test_a_class_has_one_colour_in_all_images(tmp_path: Path) -> None:
    """By the list of names, not by what an image shows first."""
    paths = [tmp_path / "black.png", tmp_path / "grey.png"]
    for path, grey in zip(paths, (0, 90), strict=True):
        Image.new("RGB", (100, 100), (grey, grey, grey)).save(path)
    with Results(tmp_path / "out") as results:
        find_in_pictures(Showing(), [(path, Path(path.name)) for path in paths], results, 1)
        results.commit()
    colours = label_colours(Showing.names)
    for path, label in zip(paths, ("猫", "dog"), strict=True):
        with Image.open(tmp_path / "out" / path.name) as drawn:
            assert drawn.getpixel((45, 80)) == colours[label]
    assert colours["猫"] != colours["dog"]
