"""A run of pictures, read and embedded: what shards are made of, in whichever process it is done."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

import numpy as np
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.images import open_image
from fgclip2.search.config import BuildConfig
from fgclip2.search.regions import region_vectors
from fgclip2.search.sources import Source, read_picture, span_of

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

Known = Literal["leave", "describe", "embed"]
"""What to do with a picture whose contents are in the store under its name: nothing; take what the list says of it now;
embed it again, for its boxes."""

Done = Literal["failed", "unchanged", "described", "copied", "embedded"]

_READERS: Final = 2
_AHEAD: Final = 32  # pictures that are read while others are embedded,
_AHEAD_PIXELS: Final = 1 << 26  # and about so many pixels of them: 4 bytes each


@dataclass(frozen=True)
class Task:
    """One picture to look at.

    Attributes:
        source: the picture.
        sha256: of the contents that the store has under its name; empty when it has none.
        known: what to do when it still has those.
    """

    source: Source
    sha256: str = ""
    known: Known = "leave"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a task.

    Attributes:
        done: ``failed``, with its ``problem``; ``unchanged``; ``described``: only its metadata is to be changed;
            ``copied``: its contents are in the store under another name; ``embedded``: here are its vectors.
        sha256: of the contents; empty when they were not read.
        size: (width, height) in pixels of what was embedded.
        given: how many regions, the first ones, are of the source's boxes.
        arrays: of what was embedded: (D,) vector, (K, D) regions, (K, 4) boxes in pixels.
        problem: why it failed.
    """

    done: Done
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    given: int = 0
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    problem: str = ""


Found = Outcome | tuple[str, Image.Image]
"""What became of a task without the model; or the hash of its contents, and its pixels."""


class Digests:
    """A set of SHA-256 in hexadecimal, 64 bytes each, that processes of one machine can share as an array."""

    def __init__(self, digests: Iterable[str] | np.ndarray) -> None:
        given = digests if isinstance(digests, np.ndarray) else np.sort(np.array(list(digests), "S64"))
        self.array: np.ndarray = given

    def __contains__(self, digest: str) -> bool:
        place = int(np.searchsorted(self.array, digest.encode()))
        return place < len(self.array) and self.array[place] == digest.encode()


def embed_unit(
    tasks: Sequence[Task],
    model: FGCLIP2,
    config: BuildConfig,
    root: Path,
    twins: Digests,
    step: Callable[[], object] = lambda: None,
) -> list[Outcome]:
    """Look at pictures and embed those that need it.

    Which pictures share a batch depends on the tasks alone, and so do the numbers that come out.

    Args:
        tasks: the pictures.
        model: embeds them.
        config: how.
        root: of the collection.
        twins: contents that are in the store; without ``config.boxes`` they are copied from there.
        step: called for every picture that was read.

    Returns:
        What became of each task, in their order.
    """
    outcomes: dict[int, Outcome] = {}
    fresh: list[tuple[int, str, tuple[int, int]]] = []  # those that go through the model, in its order

    def read(task: Task) -> Found:
        return _read(task, config, root, twins)

    with _Ahead(read) as ahead:

        def pictures() -> Iterator[Image.Image]:
            for number, found in enumerate(ahead.of(tasks)):
                step()
                if isinstance(found, Outcome):
                    outcomes[number] = found
                else:
                    fresh.append((number, found[0], found[1].size))
                    yield found[1]

        for index, vector, dense in model.image_and_dense_features(pictures(), max_patches=config.max_patches):
            number, digest, size = fresh[index]
            given = tasks[number].source.pixel_boxes(size) if config.boxes else []
            regions, boxes = region_vectors(dense, config.regions, given)
            arrays = vector.cpu().numpy(), regions.numpy(), boxes.numpy()
            outcomes[number] = Outcome("embedded", digest, size, len(given), arrays)
    return [outcomes[number] for number in range(len(tasks))]


def _read(task: Task, config: BuildConfig, root: Path, twins: Digests) -> Found:
    """What became of a picture, or its contents' hash and its pixels when it has to be embedded."""
    source, digest = task.source, ""
    if source.problem:
        return Outcome("failed", problem=source.problem)
    try:
        data = read_picture(root, source.name, span_of(source.extra), config.follow_links)
        digest = hashlib.sha256(data).hexdigest()
        if digest == task.sha256 and task.known != "embed":
            return Outcome("unchanged" if task.known == "leave" else "described", digest)
        # Its boxes may differ from those of its twin, so with boxes every picture is embedded.
        if digest in twins and not config.boxes:
            return Outcome("copied", digest)
        image = open_image(data)
        image.load()
    except Fgclip2Error as error:
        return Outcome("failed", digest, problem=str(error))
    problem = _outside(source, image.size) if config.boxes else ""
    return Outcome("failed", digest, problem=problem) if problem else (digest, image)


def _outside(source: Source, size: tuple[int, int]) -> str:
    """What is wrong with boxes that have no area in the picture."""
    for box, cut in zip(source.boxes, source.pixel_boxes(size), strict=True):
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            return f"its box {list(box)} lies outside the picture of {size[0]} x {size[1]}"
    return ""


class _Ahead:
    """Reads pictures in order, some of them before they are asked for; leaving it stops what is still being read.

    Pictures wait as pixels, and 32 of a large camera would be gigabytes. How large one is shows when it is decoded, so
    a reader waits before it begins the next while what is ready has ``_AHEAD_PIXELS``, and they are exceeded by what
    the other readers have in work. The picture that is wanted next never waits: so nothing can wait for ever.

    Args:
        read: gives what becomes of a task.
    """

    def __init__(self, read: Callable[[Task], Found]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(_READERS)
        self._changed = threading.Condition()
        self._pixels, self._next, self._over = 0, 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)

    def of(self, tasks: Sequence[Task]) -> Iterator[Found]:
        """What becomes of each task, in order."""
        rest = enumerate(tasks)
        waiting = deque(self._pool.submit(self._one, *item) for item in islice(rest, _AHEAD))
        while waiting:
            found = waiting.popleft().result()
            for item in islice(rest, 1):
                waiting.append(self._pool.submit(self._one, *item))
            with self._changed:
                self._pixels -= _pixels(found)
                self._next += 1
                self._changed.notify_all()
            yield found

    def _one(self, number: int, task: Task) -> Found:
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._next >= number or self._pixels < _AHEAD_PIXELS)
            if self._over:
                raise CancelledError  # nobody asks for it any more
        found = self._read(task)
        with self._changed:
            self._pixels += _pixels(found)
        return found


def _pixels(found: Found) -> int:
    return 0 if isinstance(found, Outcome) else found[1].width * found[1].height
