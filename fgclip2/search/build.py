"""A collection into a store: only what is new is embedded, and a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image
from tqdm import tqdm

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.images import open_image
from fgclip2.search import manifest as manifests
from fgclip2.search.config import BuildConfig
from fgclip2.search.entries import Entry
from fgclip2.search.index import open_index
from fgclip2.search.regions import region_vectors
from fgclip2.search.sources import Source, list_sources, read_picture, span_of
from fgclip2.search.store import SPACES, Store

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_log = logging.getLogger(__name__)

_READERS: Final = 2
_AHEAD: Final = 32  # pictures that are read while others are embedded
_COMPACT_ABOVE: Final = 0.25  # share of deleted pictures


@dataclass(frozen=True)
class BuildReport:
    """What was done with how many pictures.

    Attributes:
        embedded: went through the model.
        reused: had the contents of a picture that was in the store under another name.
        unchanged: were in the store as they are.
        missing: are in the store and not in the collection; deleted when ``prune`` was asked for.
        failed: could not be read; named in the store's ``failures.jsonl``.
        first_failure: the reason of the first of them.
        total: live pictures of the store now.
        seconds: time taken.
    """

    embedded: int
    reused: int
    unchanged: int
    missing: int
    failed: int
    first_failure: str
    total: int
    seconds: float


@dataclass(frozen=True)
class _Read:
    """A picture that was read: with its pixels when it has to be embedded."""

    source: Source
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    image: Image.Image | None = None
    problem: str = ""


def build_store(
    collection: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: FGCLIP2,
    config: BuildConfig | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> BuildReport:
    """Make or update the search store of a collection.

    Pictures are recognised by their contents: what is in the store already is left, what was only renamed is not
    embedded again, what has changed is replaced. Committed shards stay when the run is killed; the same call goes on.

    Args:
        collection: a folder, a list of pictures, or shards; see ``sources.list_sources``.
        out: the store's folder, new or of an earlier run.
        model: embeds the pictures; a store belongs to one model.
        config: how; see there.
        root: folder that the names of a list are relative to.
        progress: show a bar with rate and remaining time.

    Raises:
        Fgclip2Error: the collection cannot be listed, none of its pictures can be read, or the store belongs to another
            model, collection or settings.
    """
    begun = time.monotonic()
    chosen, folder = config or BuildConfig(), Path(out)
    base, sources = list_sources(collection, root, leave_out=folder)
    store = _open(folder, model, chosen, base)
    run = _Run(store, model, chosen, base)
    with store.writing():
        bar = tqdm(total=len(sources), unit="picture", disable=not progress)
        with bar:
            run.embed(sources, bar)
        gone = sorted(store.rows.keys() - {source.name for source in sources})
        if chosen.prune:
            store.delete(gone)
        if store.manifest.counts["deleted"] > _COMPACT_ABOVE * len(store.alive):
            store.compact(chosen.shard_size)
        run.list_failures()
        if not len(store):
            reason = run.failures[0]["error"] if run.failures else "all were deleted"
            raise Fgclip2Error(f"{folder} holds no picture: not one could be read; the first: {reason}")
        for space in SPACES:
            open_index(store, space, chosen.budget)
    failed = run.failures
    return BuildReport(
        run.embedded, run.reused, run.unchanged, len(gone), len(failed), failed[0]["error"] if failed else "",
        len(store), time.monotonic() - begun,
    )  # fmt: skip


def _open(folder: Path, model: FGCLIP2, config: BuildConfig, root: Path) -> Store:
    settings = {"max_patches": config.max_patches, **asdict(config.regions)}
    if not (folder / manifests.NAME).exists():
        return Store.create(
            folder, model_hash=model.hash, model_name=model.name, dimension=model.width, root=root, settings=settings
        )
    store = Store.open(folder, model_hash=model.hash)
    if store.manifest.settings != settings:
        raise Fgclip2Error(
            f"{folder} was made with {store.manifest.settings}, not with {settings}; give the same, or another folder"
        )
    if Path(store.manifest.root) != root:
        raise Fgclip2Error(
            f"{folder} is of pictures in {store.manifest.root!r}, not in {str(root)!r}; make another store for those"
        )
    return store


class _Run:
    """One run over a collection, and what it counts."""

    def __init__(self, store: Store, model: FGCLIP2, config: BuildConfig, root: Path) -> None:
        self.store, self.model, self.config, self.root = store, model, config, root
        self.embedded = self.reused = self.unchanged = 0
        self.failures: list[dict[str, str]] = []
        hashes = store.metadata["sha256"].to_pylist()
        self.hash_of = {name: hashes[row] for name, row in store.rows.items()}
        self.row_of = {hashes[row]: row for row in np.flatnonzero(store.alive).tolist()}

    def embed(self, sources: list[Source], bar: Any) -> None:
        """All new pictures, shard by shard, in the collection's order."""
        with ThreadPoolExecutor(_READERS) as pool:
            stream = self._new(pool, sources, bar)
            while self._shard(stream):
                self.list_failures()

    def list_failures(self) -> None:
        """Write ``failures.jsonl``, or remove it when there are none."""
        listing = self.store.folder / "failures.jsonl"
        if self.failures:
            lines = "".join(json.dumps(failure, ensure_ascii=False) + "\n" for failure in self.failures)
            write_atomically(listing, lines.encode())
        else:
            listing.unlink(missing_ok=True)

    def _shard(self, stream: Iterator[_Read]) -> bool:
        """Embed and commit up to a shard of pictures; False when there were none left."""
        reads: list[_Read] = []
        fresh: list[int] = []  # those that go through the model, in its order
        entries: dict[int, Entry] = {}

        def pictures() -> Iterator[Image.Image]:
            for read in islice(stream, self.config.shard_size):
                reads.append(replace(read, image=None))
                if read.image is None:
                    entries[len(reads) - 1] = self._copy(read)
                else:
                    fresh.append(len(reads) - 1)
                    yield read.image

        for index, vector, dense in self.model.image_and_dense_features(
            pictures(), max_patches=self.config.max_patches
        ):
            number = fresh[index]
            read = reads[number]
            given = read.source.pixel_boxes(read.size) if self.config.boxes else None
            found, boxes = region_vectors(dense, self.config.regions, given)
            entries[number] = Entry(
                read.source.name, read.sha256, read.size, vector.cpu().numpy(), found.numpy(), boxes.numpy(),
                read.source.extra,
            )  # fmt: skip
        self.store.append([entries[number] for number in range(len(reads))])
        self.embedded += len(fresh)
        self.reused += len(reads) - len(fresh)
        return bool(reads)

    def _copy(self, read: _Read) -> Entry:
        """The vectors of a picture of the same contents."""
        store, row = self.store, self.row_of[read.sha256]
        regions = np.arange(store.offsets[row], store.offsets[row + 1])
        size = store.metadata["width"][row].as_py(), store.metadata["height"][row].as_py()
        vector = store.vectors("pictures", np.array([row]))[0]
        return Entry(
            read.source.name, read.sha256, size, vector, store.vectors("regions", regions), store.boxes(regions),
            read.source.extra,
        )  # fmt: skip

    def _new(self, pool: ThreadPoolExecutor, sources: list[Source], bar: Any) -> Iterator[_Read]:
        """Pictures that are not in the store as they are, in order, read ahead by the pool; others are counted."""
        waiting: deque[Future[_Read]] = deque()
        rest = iter(sources)
        for source in islice(rest, _AHEAD):
            waiting.append(pool.submit(self._read, source))
        while waiting:
            read = waiting.popleft().result()
            for source in islice(rest, 1):
                waiting.append(pool.submit(self._read, source))
            bar.update()
            if read.problem:
                self.failures.append({"image": read.source.name, "error": read.problem})
            elif self.hash_of.get(read.source.name) == read.sha256:
                self.unchanged += 1
            else:
                yield read

    def _read(self, source: Source) -> _Read:
        if source.problem:
            return _Read(source, problem=source.problem)
        try:
            data = read_picture(self.root, source.name, span_of(source.extra))
            digest = hashlib.sha256(data).hexdigest()
            # Its boxes may differ from those of its twin, so with boxes every picture is embedded.
            if self.hash_of.get(source.name) == digest or (digest in self.row_of and not self.config.boxes):
                return _Read(source, digest)
            image = open_image(data)
            image.load()
        except Fgclip2Error as error:
            return _Read(source, problem=str(error))
        problem = _outside(source, image.size) if self.config.boxes else ""
        return _Read(source, digest, image.size, image, problem)


def _outside(source: Source, size: tuple[int, int]) -> str:
    """What is wrong with boxes that have no area in the picture."""
    for box, cut in zip(source.boxes, source.pixel_boxes(size), strict=True):
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            return f"its box {list(box)} lies outside the picture of {size[0]} x {size[1]}"
    return ""
