"""The pictures, folders and videos that a person names on a command line, looked into before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fgclip2.data.media import PICTURE_SUFFIXES, VideoReader, find_pictures, is_video
from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image


@dataclass
class Sources:
    """What to look at, checked: every named picture can be read, every folder has pictures, every video opens."""

    named: list[Path] = field(default_factory=list)
    found: list[tuple[Path, Path]] = field(default_factory=list)  # picture, and the folder it was found in
    videos: list[Path] = field(default_factory=list)
    ignored: int = 0

    @classmethod
    def collect(cls, inputs: Sequence[Path], out: Path, every: int) -> Sources:
        """Sort the inputs and look into each, so that a wrong one is told before a model is loaded.

        Args:
            inputs: pictures, folders and videos.
            out: folder of the results, which is not searched.
            every: of a video, every n-th frame will be read.

        Raises:
            Fgclip2Error: an input cannot be used.
        """
        sources = cls()
        for path in inputs:
            if path.is_dir():
                pictures, others = find_pictures(path, leave_out=out)
                sources.found += [(picture, path) for picture in pictures]
                sources.ignored += others
            elif is_video(path):
                with VideoReader(path, every):
                    sources.videos.append(path)
            elif path.exists() and not path.is_file():
                raise Fgclip2Error(f"{str(path)!r} is a pipe, socket or device; give files and folders")
            elif path.suffix.lower() in PICTURE_SUFFIXES or not _opens_as_video(path, every):
                open_image(path)
                sources.named.append(path)
            else:
                sources.videos.append(path)
        return sources

    def pictures(self) -> list[tuple[Path, Path]]:
        """Every picture once, with its name relative to the folder it was found in."""
        every = [(path, Path(path.name)) for path in self.named]
        every += [(path, path.relative_to(folder)) for path, folder in self.found]
        # Not Path.resolve, which raises where a link leads to itself; that one is told when it is opened.
        return list({os.path.realpath(path): (path, name) for path, name in reversed(every)}.values())[::-1]


def _opens_as_video(path: Path, every: int) -> bool:
    """Whether a file whose name says nothing is a video: no picture, and its frames can be read."""
    try:
        open_image(path)
    except Fgclip2Error:
        try:
            with VideoReader(path, every) as video:
                return next(iter(video), None) is not None
        except Fgclip2Error:
            return False
    return False


def check_out(out: Path, inputs: Sequence[Path]) -> None:
    """Drawn pictures bear the names of the originals, so they need another folder.

    Raises:
        Fgclip2Error: ``out`` is the folder of an input.
    """
    for path in inputs:
        if out.resolve() == (path if path.is_dir() else path.parent).resolve():
            raise Fgclip2Error(f"--out {str(out)!r} would write over {str(path)!r}; give another folder")
