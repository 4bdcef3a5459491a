"""Pictures and videos on disk: which files of a folder are pictures, and videos frame by frame.

Videos need PyAV (``pip install 'fgclip2[mmdet]'`` brings it), which carries its own decoders.
"""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras

if TYPE_CHECKING:
    from av.container import InputContainer

_log = logging.getLogger(__name__)

PICTURE_SUFFIXES: Final = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".avif",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".jp2",
        ".ppm",
        ".pgm",
        ".tga",
        ".qoi",
    }
)
VIDEO_SUFFIXES: Final = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".ts",
        ".wmv",
        ".flv",
        ".3gp",
        ".mts",
        ".m2ts",
        ".h264",
        ".hevc",
        ".ogv",
        ".vob",
    }
)


_SYSTEM_FOLDERS: Final = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)


def is_hidden(name: str) -> bool:
    """Whether a relative path is of a hidden file, or of what a system or a storage server keeps for itself.

    One rule for folders, tar shards, masks and videos: a part that begins with a dot, such as ``._a.jpg``, or a folder
    such as ``__MACOSX``, ``@eaDir`` or ``#recycle``.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return any(part[0] == "." or part.lower() in _SYSTEM_FOLDERS for part in parts)


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether the name's ending is that of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


_KINDS: Final = {
    "HEIC images (convert them to JPEG first)": frozenset({".heic", ".heif", ".hif"}),
    "raw camera images": frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"}),
    "videos": VIDEO_SUFFIXES - {".ts"},  # which TypeScript has too
    "compressed shards (unpack them to .tar)": frozenset({".tgz", ".gz", ".zst", ".bz2", ".xz"}),
    "tables and lists": frozenset({".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt"}),
}


def kind_of(name: str) -> str:
    """What a file that is no picture is, by its name; ``"other files"`` where that says nothing."""
    suffix = Path(name).suffix.lower()
    if not suffix:
        return "files without an ending"
    return next((kind for kind, suffixes in _KINDS.items() if suffix in suffixes), "other files")


@dataclass(frozen=True)
class Scan:
    """What a folder and its subfolders hold.

    Attributes:
        folder: as it was given.
        pictures: sorted.
        others: how many other files there are.
        closed: subfolders that cannot be listed, each with the reason.
        linked: subfolders that are links, sorted; they are not entered, since one may lead back here.
        shards: ``.tar`` files, sorted; they are among the others.
        special: pipes, sockets and devices, sorted; they are never opened.
        kinds: how many of the others are of which kind.
    """

    folder: Path
    pictures: tuple[Path, ...]
    others: int
    closed: tuple[tuple[Path, str], ...]
    linked: tuple[Path, ...]
    shards: tuple[Path, ...] = ()
    special: tuple[Path, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)

    def nothing(self) -> Fgclip2Error:
        """The error of a folder without a picture, with what was seen in place of one."""
        told = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds.items())
        what = f"only {self.others} other files: {told}" if self.others else "it is empty"
        if self.special:
            what = f"{self.special[0]} is a pipe, socket or device"
        if self.linked:
            what = f"{self.linked[0]} is a link to a folder, and those are not followed"
        if self.closed:
            what = f"{self.closed[0][0]} cannot be read: {self.closed[0][1]}"
        return Fgclip2Error(
            f"the folder {str(self.folder)!r} holds no picture ({what}); pictures end in .jpg, .png, .webp, .tif or "
            "the like"
        )


def scan_folder(
    folder: str | os.PathLike[str],
    *,
    leave_out: Path | None = None,
    follow_links: bool = False,
    exclude: Sequence[str] = (),
) -> Scan:
    """Look through a folder and its subfolders, by the endings of names; hidden ones are neither entered nor counted.

    Args:
        folder: where to look.
        leave_out: a folder that is not entered either, such as the one that results are written to.
        follow_links: enter subfolders that are links; each folder is entered once, so circles end.
        exclude: patterns such as ``*.gif`` or ``thumbs/*``, of names or of paths below ``folder``; what fits one is
            neither entered nor counted.

    Raises:
        Fgclip2Error: no such folder, or it cannot be listed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise Fgclip2Error(f"the folder {str(root)!r} does not exist (looked in {Path.cwd()})")
    avoided = leave_out.resolve() if leave_out else None
    found: list[Path] = []
    closed: list[tuple[Path, str]] = []
    linked: list[Path] = []
    shards: list[Path] = []
    special: list[Path] = []
    kinds: Counter[str] = Counter()
    entered = {os.path.realpath(root)}

    def note(error: OSError) -> None:  # without it such a folder looks like an empty one
        where, reason = Path(error.filename), error.strerror or str(error)
        if where == root:
            raise _unreadable(where, reason) from error
        closed.append((where, reason))

    def wanted(path: Path) -> bool:
        below = path.relative_to(root).as_posix()
        return not is_hidden(path.name) and not any(
            fnmatchcase(path.name, pattern) or fnmatchcase(below, pattern.rstrip("/")) for pattern in exclude
        )

    for where, folders, files in os.walk(root, onerror=note, followlinks=follow_links):
        here = Path(where)
        inner = [here / name for name in sorted(folders)]
        inner = [path for path in inner if wanted(path) and path.resolve() != avoided]
        if follow_links:
            inner = [path for path in inner if _enter(path, entered)]
        else:
            linked += [path for path in inner if path.is_symlink()]
        folders[:] = [path.name for path in inner]
        for path in (here / name for name in files):
            if not wanted(path):
                continue
            is_picture = path.suffix.lower() in PICTURE_SUFFIXES
            is_shard = path.suffix.lower() == ".tar"
            if _is_special(path):
                special.append(path)
            elif is_picture:
                found.append(path)
            elif is_shard:
                shards.append(path)
                kinds["shards (.tar)"] += 1
            else:
                kinds[kind_of(path.name)] += 1
    return Scan(
        root, tuple(sorted(found)), kinds.total(), tuple(closed), tuple(sorted(linked)), tuple(sorted(shards)),
        tuple(sorted(special)), dict(kinds),
    )  # fmt: skip


def _enter(path: Path, entered: set[str]) -> bool:
    """Whether a folder has not been entered yet, under whatever name; notes it."""
    real = os.path.realpath(path)
    fresh = real not in entered
    entered.add(real)
    return fresh


def _is_special(path: Path) -> bool:
    """Whether opening it might wait for ever: a pipe, a socket or a device."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # a link that leads nowhere is told when it is opened
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def find_pictures(folder: str | os.PathLike[str], *, leave_out: Path | None = None) -> tuple[list[Path], int]:
    """All pictures below a folder, by their names' endings; the log names what is passed over, by kind.

    Args:
        folder: searched with its subfolders; hidden files and folders are not entered.
        leave_out: a folder that is not entered either, such as the one that results are written to.

    Returns:
        The pictures, sorted, and how many other files were seen.

    Raises:
        Fgclip2Error: no such folder, no picture in it, or it or a subfolder cannot be listed.
    """
    scan = scan_folder(folder, leave_out=leave_out)
    if scan.closed:
        raise _unreadable(*scan.closed[0])
    if not scan.pictures:
        raise scan.nothing()
    if scan.kinds:
        told = ", ".join(f"{count:,} {kind}" for kind, count in scan.kinds.items())
        _log.warning("%s: passed over %s", folder, told)
    for pipe in scan.special:
        _log.warning("%s is a pipe, socket or device and is not opened", pipe)
    for link in scan.linked:
        _log.warning("%s is a link to a folder and is not followed; give it as well, or its target", link)
    return list(scan.pictures), scan.others


def _unreadable(folder: Path, reason: str) -> Fgclip2Error:
    return Fgclip2Error(
        f"the folder {str(folder)!r} cannot be read ({reason}), and nobody knows which pictures are in it; mend its "
        "permissions, or move it elsewhere"
    )


@dataclass(frozen=True)
class Frame:
    """One frame: ``index`` from 0, ``time`` in seconds from the start, upright RGB ``image``."""

    index: int
    time: float
    image: Image.Image


class VideoReader:
    """A video's frames, in order; iterate once, inside ``with``.

    Args:
        path: the file.
        every: give every n-th frame only, the first one included.

    Attributes:
        frames: how many frames the header promises (0 where it does not say), not divided by ``every``.
        rate: frames a second of the file.

    Raises:
        Fgclip2Error: no such file, no video in it, or damaged data, also while iterating.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        if every < 1:
            raise Fgclip2Error(f"every {every}: give 1 for all frames, 5 for every fifth one")
        self.path = Path(path)
        self.every = every
        if not self.path.is_file():
            raise Fgclip2Error(f"the video {str(self.path)!r} does not exist (looked in {Path.cwd()})")
        av = _av()
        try:
            self._container: InputContainer = av.open(str(self.path))
        except av.FFmpegError as error:
            raise self._damaged(error) from error
        if not self._container.streams.video:
            self._container.close()
            raise Fgclip2Error(f"{str(self.path)!r} has no video in it")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.frames = int(self._stream.frames)
        self.rate = Fraction(self._stream.average_rate or 25)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        av = _av()
        try:
            for index, frame in enumerate(self._container.decode(self._stream)):
                if index % self.every:
                    continue
                picture = np.rot90(frame.to_ndarray(format="rgb24"), k=(frame.rotation // 90) % 4)
                time = float(index / self.rate) if frame.time is None else float(frame.time)
                yield Frame(index, time, Image.fromarray(np.ascontiguousarray(picture)))
        except av.FFmpegError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> Fgclip2Error:
        return Fgclip2Error(
            f"the video {str(self.path)!r} cannot be read ({str(error)[:100]}); play it to see whether it is complete, "
            "or convert it to MP4 (H.264)"
        )


class VideoWriter:
    """An MP4 (H.264) of equally sized pictures; use inside ``with``, the file is complete when that ends.

    Args:
        path: the file, overwritten.
        rate: frames a second.
    """

    def __init__(self, path: str | os.PathLike[str], rate: Fraction | float) -> None:
        self._container = _av().open(str(path), mode="w", format="mp4")
        self._rate = Fraction(rate).limit_denominator(65_535)
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def add(self, image: Image.Image) -> None:
        """Append one RGB picture; an odd last column or row is cut off, as H.264 stores colour for 2 x 2 pixels."""
        width, height = image.width // 2 * 2 or 2, image.height // 2 * 2 or 2
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": "20"})
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
        if (width, height) != (self._stream.width, self._stream.height):
            image = image.resize((self._stream.width, self._stream.height))
        frame = _av().VideoFrame.from_ndarray(
            np.ascontiguousarray(np.asarray(image.convert("RGB"))[: self._stream.height, : self._stream.width]),
            format="rgb24",
        )
        self._container.mux(self._stream.encode(frame))


def _av() -> Any:
    with extras():
        import av
    return av
