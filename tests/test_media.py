"""Finding pictures in folders, and videos there and back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgclip2.data.media import VideoReader, VideoWriter, find_pictures, is_video, scan_folder
from fgclip2.data.sources import Sources
from fgclip2.errors import Fgclip2Error


def test_pictures_are_found_below_a_folder(tmp_path: Path) -> None:
    for name in ("b.JPG", "红/猫.png", "a.webp", ".hidden.jpg", ".cache/x.jpg", "out/c.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, others = find_pictures(tmp_path, leave_out=tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.webp", "b.JPG", "红/猫.png"]
    assert others == 1
    assert len(find_pictures(tmp_path)[0]) == 4


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(Fgclip2Error, match=r"holds no picture \(it is empty\)"):
        find_pictures(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Fgclip2Error, match="only 1 other files"):
        find_pictures(tmp_path)
    with pytest.raises(Fgclip2Error, match="does not exist"):
        find_pictures(tmp_path / "none")


def test_a_subfolder_that_cannot_be_read_is_an_error_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "猫").mkdir()
    (tmp_path / "猫" / "b.png").touch()
    real = os.scandir

    def scandir(path: str) -> object:  # taking its permissions would not stop root
        if Path(path).name == "猫":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(Fgclip2Error, match="猫' cannot be read .Permission denied."):
        find_pictures(tmp_path)
    scan = scan_folder(tmp_path)
    assert scan.pictures == (tmp_path / "a.png",)
    assert scan.closed == ((tmp_path / "猫", "Permission denied"),)


def test_links_to_folders_are_named_and_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.png").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "back").symlink_to(folder)
    with pytest.raises(Fgclip2Error, match="back is a link to a folder, and those are not followed"):
        find_pictures(folder)
    (folder / "a.png").touch()
    (folder / "self.png").symlink_to("self.png")
    assert find_pictures(folder) == ([folder / "a.png", folder / "self.png"], 0)
    assert f"{folder / 'link'} is a link to a folder" in caplog.text
    assert scan_folder(folder).linked == (folder / "back", folder / "link")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames of 65 x 48 at 10 a second; frame i is grey of 20 * i."""
    path = tmp_path / "视频.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(10):
            writer.add(Image.new("RGB", (65, 48), (20 * index,) * 3))
    return path


@pytest.mark.parametrize(("every", "indices"), [(1, list(range(10))), (4, [0, 4, 8])])
def test_frames_come_back(video: Path, every: int, indices: list[int]) -> None:
    assert is_video(video)
    with VideoReader(video, every) as reader:
        frames = list(reader)
        assert (reader.frames, reader.rate) == (10, 10)
    assert [frame.index for frame in frames] == indices
    for frame in frames:
        assert frame.time == pytest.approx(frame.index / 10)
        assert frame.image.size == (64, 48)
        assert np.asarray(frame.image).mean() == pytest.approx(20 * frame.index, abs=3)


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(Fgclip2Error, match="cannot be read"):
        VideoReader(tmp_path / "text.mp4")
    with pytest.raises(Fgclip2Error, match="does not exist"):
        VideoReader(tmp_path / "none.mp4")
    with pytest.raises(Fgclip2Error, match="every 0"):
        VideoReader(tmp_path / "text.mp4", every=0)


def test_a_video_is_known_by_opening_it_not_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for name in ("a.mp4", "b.MTS", "clip", "c.dat"):
        with VideoWriter(tmp_path / name, 5) as writer:
            for _ in range(3):
                writer.add(Image.new("RGB", (32, 32), "red"))
    (tmp_path / "d.xyz").write_text("const a: number = 1;", encoding="utf-8")
    given = [tmp_path / name for name in ("a.mp4", "b.MTS", "clip", "c.dat")]
    assert Sources.collect(given, tmp_path / "out", 1).videos == given
    with pytest.raises(Fgclip2Error, match="is not a picture this can read"):
        Sources.collect([tmp_path / "d.xyz"], tmp_path / "out", 1)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Fgclip2Error, match="is a pipe, socket or device"):
        Sources.collect([tmp_path / "pipe.png"], tmp_path / "out", 1)
