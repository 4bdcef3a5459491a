"""Pictures, folders and videos, through anything that finds, into a folder of drawn pictures and one listing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from PIL import Image
from tqdm import tqdm

from fgclip2.data.media import VideoReader, VideoWriter
from fgclip2.data.outputs import Results
from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import Detections
from fgclip2.images import open_image
from fgclip2.tiles import Finder
from fgclip2.visualize import draw_boxes

_KEPT_SUFFIXES: Final = (".jpg", ".jpeg", ".png")  # other pictures are written as PNG
_Item = TypeVar("_Item")


def find_in_pictures(find: Finder, pictures: Sequence[tuple[Path, Path]], results: Results, batch_size: int) -> None:
    """Look at pictures, batch by batch; one that cannot be read goes into ``results.failures``.

    Args:
        find: gives what is in each picture of a batch.
        pictures: paths, and what they are called in the results; those in ``results.done`` are left out.
        results: where drawn pictures and entries go.
        batch_size: pictures a batch.
    """
    left = [(path, name) for path, name in pictures if str(path) not in results.done]
    with tqdm(total=len(left), unit="picture", disable=None, file=sys.stderr) as progress:
        for part in _batches(left, batch_size):
            batch: list[tuple[Path, Path, Image.Image]] = []
            for path, name in part:
                try:
                    batch.append((path, name, open_image(path)))
                except Fgclip2Error as error:
                    results.failures.append({"image": str(path), "error": str(error)})
            for (path, name, image), found in zip(batch, find([item[2] for item in batch]), strict=True):
                keep_picture(results, path, name, image, found)
            progress.update(len(part))


def find_in_video(find: Finder, path: Path, every: int, results: Results, batch_size: int) -> None:
    """Look at every n-th frame of a video, in batches; makes one MP4, and an entry a frame when all are done."""
    if str(path) in results.done:
        return
    target, called = results.place(Path(path.name), (".mp4",), ".mp4")
    entries = []
    with (
        VideoReader(path, every) as reader,
        VideoWriter(target, reader.rate / every) as writer,
        tqdm(total=-(-reader.frames // every) or None, unit="frame", disable=None, file=sys.stderr) as progress,
    ):
        for frames in _batches(reader, batch_size):
            for frame, found in zip(frames, find([frame.image for frame in frames]), strict=True):
                writer.add(draw_boxes(frame.image, found.boxes, found.labels, found.scores))
                where = {"image": str(path), "frame": frame.index, "time": round(frame.time, 3)}
                entries.append({**where, **_described(frame.image, found), "picture": called})
            progress.update(len(frames))
    results.add(entries)


def keep_picture(results: Results, path: Path, name: Path, image: Image.Image, found: Detections) -> None:
    """Draw what was found in a picture, and add its entry."""
    target, called = results.place(name, _KEPT_SUFFIXES, ".png")
    draw_boxes(image, found.boxes, found.labels, found.scores).save(target, quality=92)
    results.add([{"image": str(path), **_described(image, found), "picture": called}])


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _described(image: Image.Image, found: Detections) -> dict[str, Any]:
    return {
        "size": list(image.size),
        "boxes": [[round(value, 2) for value in box] for box in found.boxes.tolist()],
        "labels": list(found.labels),
        "scores": [round(score, 4) for score in found.scores.tolist()],
    }
