"""Pictures, folders and videos, through anything that finds, into a folder of drawn pictures and one listing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from PIL import Image

from fgclip2.data.media import Frame, VideoReader, VideoWriter
from fgclip2.data.outputs import Results, source
from fgclip2.detections import MaskedDetections
from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import Detections
from fgclip2.images import open_image
from fgclip2.progress import progress
from fgclip2.tiles import Finder
from fgclip2.visualize import draw_boxes, label_colours, paint_masks

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
    left = [(path, name) for path, name in pictures if not results.done or source(path) not in results.done]
    with progress(total=len(left)) as bar:
        for part in _batches(left, batch_size):
            batch: list[tuple[Path, Path, str, Image.Image]] = []
            for path, name in part:
                try:
                    batch.append((path, name, source(path), open_image(path)))
                except Fgclip2Error as error:
                    results.fail(path, str(error))
            for (path, name, key, image), found in zip(batch, find([item[3] for item in batch]), strict=True):
                keep_picture(results, path, name, image, found, key)
            bar.update(len(part))


def find_in_video(find: Finder, path: Path, every: int, results: Results, batch_size: int) -> None:
    """Look at every n-th frame of a video, in batches; makes one MP4, and an entry a frame when all are done.

    A video that is damaged goes into ``results.failures``; what could be read before the damage is kept.
    """
    key = source(path)
    if key in results.done:
        return
    entries: list[dict[str, Any]] = []
    problems: list[Fgclip2Error] = []
    try:
        reader = VideoReader(path, every)
    except Fgclip2Error as error:
        results.fail(path, str(error))
        return
    target, called = results.place(Path(path.name), (".mp4",), ".mp4")
    with (
        reader,
        VideoWriter(target, reader.rate / every) as writer,
        progress(total=-(-reader.frames // every) or None, unit="frame") as bar,
    ):
        for frames in _batches(up_to_damage(reader, problems), batch_size):
            for frame, found in zip(frames, find([frame.image for frame in frames]), strict=True):
                writer.add(_drawn(frame.image, found))
                where = {"image": str(path), "frame": frame.index, "time": round(frame.time, 3)}
                entries.append({**where, **_described(frame.image, found), "picture": called})
            bar.update(len(frames))
    if not entries:
        target.unlink(missing_ok=True)  # an MP4 without a frame
    if problems:
        results.fail(path, f"{problems[0]}; {len(entries)} frames could be read before that and are kept")
    results.add(entries, key)


def up_to_damage(reader: VideoReader, problems: list[Fgclip2Error]) -> Iterator[Frame]:
    """A video's frames until one cannot be read; why goes into ``problems``."""
    try:
        yield from reader
    except Fgclip2Error as error:
        problems.append(error)


def keep_picture(
    results: Results, path: Path, name: Path, image: Image.Image, found: Detections, key: str | None = None
) -> None:
    """Draw what was found in a picture, and add its entry; ``key`` as in `Results.add`."""
    target, called = results.place(name, _KEPT_SUFFIXES, ".png")
    _drawn(image, found).save(target, quality=92)
    results.add([{"image": str(path), **_described(image, found), "picture": called}], key)


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _drawn(image: Image.Image, found: Detections) -> Image.Image:
    if isinstance(found, MaskedDetections):
        colours = label_colours([*found.names, *found.labels])
        image = paint_masks(image, found.masks, [colours[label] for label in found.labels])
    return draw_boxes(image, found.boxes, found.labels, found.scores, names=found.names)


def _described(image: Image.Image, found: Detections) -> dict[str, Any]:
    return {
        "size": list(image.size),
        "boxes": [[round(value, 2) for value in box] for box in found.boxes.tolist()],
        "labels": list(found.labels),
        "scores": [round(score, 4) for score in found.scores.tolist()],
        **({"segmentation": found.masks.run_lengths()} if isinstance(found, MaskedDetections) else {}),
    }
