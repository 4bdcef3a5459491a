"""A collection into a store: only what is new is embedded, and a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically
from fgclip2.images import open_image
from fgclip2.progress import progress as shown
from fgclip2.search import manifest as manifests
from fgclip2.search.bulk import embed_on_cluster
from fgclip2.search.columns import settle
from fgclip2.search.config import BuildConfig, ClusterConfig
from fgclip2.search.entries import Entry
from fgclip2.search.index import open_index
from fgclip2.search.lists import is_text
from fgclip2.search.sources import Source, read_collection, read_picture, span_of
from fgclip2.search.store import SPACES, Store
from fgclip2.search.tables import OWN_COLUMNS
from fgclip2.search.units import Digests, Done, Known, Outcome, Task, embed_unit

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_LOOKED_AT: Final = 16  # pictures of a store whose folder was moved
_COMPACT_ABOVE: Final = 0.25  # share of deleted pictures


@dataclass(frozen=True)
class BuildReport:
    """What was done with how many pictures.

    Attributes:
        embedded: went through the model.
        reused: had the contents of a picture that was in the store under another name.
        described: were in the store, and the list says something else of them now.
        unchanged: were in the store as they are.
        missing: are in the store and not in the collection; deleted when ``prune`` was asked for.
        unknown: are in the store, of a folder or shard that cannot be read now, or is a link; never deleted.
        failed: could not be read; named in the store's ``failures.jsonl``.
        first_failure: the reason of the first of them.
        left_out: what of the collection was joined, renamed or left out, a sentence for each column and reason.
        others: files of the collection that are no pictures, by their names.
        total: live pictures of the store now.
        seconds: time taken.
    """

    embedded: int
    reused: int
    described: int
    unchanged: int
    missing: int
    unknown: int
    failed: int
    first_failure: str
    left_out: tuple[str, ...]
    others: int
    total: int
    seconds: float


def build_store(
    collection: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: FGCLIP2,
    config: BuildConfig | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    cluster: ClusterConfig | None = None,
    progress: bool = True,
) -> BuildReport:
    """Make or update the search store of a collection.

    Pictures are recognised by their contents: what is in the store already is left, what was only renamed is not
    embedded again, what has changed is replaced; so is what the list says of a picture, and its boxes. Committed shards
    stay when the run is killed; the same call goes on.

    Args:
        collection: a folder, a list of pictures, or shards; see ``sources.read_collection``.
        out: the store's folder, new or of an earlier run.
        model: embeds the pictures; a store belongs to one model.
        config: how; see there.
        root: folder that the names of a list are relative to.
        cluster: embed on this Ray cluster; ``None`` does it in this process, to the same store.
        progress: show a bar with rate and remaining time.

    Raises:
        Fgclip2Error: the collection cannot be listed, none of its pictures can be read, or the store belongs to another
            model, collection or settings; the store cannot be written; on a cluster, what its workers lack.
    """
    begun = time.monotonic()
    chosen, folder = config or BuildConfig(), Path(out)
    found = read_collection(
        collection, root, leave_out=folder, follow_links=chosen.follow_links, exclude=chosen.exclude
    )
    base, sources = found.root, found.sources
    if not is_text(os.fspath(base)):
        raise Fgclip2Error(f"the picture folder {os.fspath(base)!r} has a name that is no UTF-8; rename it")
    store = _open(folder, model, chosen, base, sources, moved=root is not None)
    with store.writing():
        sources, left_out = settle(sources, store.metadata)
        run = _Run(store, chosen)
        size = chosen.shard_size
        tasks = run.tasks(sources)
        units = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        with shown(total=len(sources), disable=not progress) as bar:
            outcomes: Iterable[list[Outcome]]
            if cluster is None:
                outcomes = (embed_unit(unit, model, chosen, base, run.twins, bar.update) for unit in units)
            else:
                outcomes = embed_on_cluster(units, model, chosen, base, run.twins, cluster, bar.update)
            for unit, done in zip(units, outcomes, strict=True):
                run.take(unit, done)
        run.commit()
        # What a folder that cannot be read has, or a shard behind the place where it was cut, is not gone, but unknown.
        hidden = tuple(source.hides for source in sources if source.hides)
        absent = store.rows.keys() - {source.name for source in sources}
        gone = sorted(name for name in absent if not name.startswith(hidden))
        if chosen.prune:
            store.delete(gone)
        if store.manifest.counts["deleted"] > _COMPACT_ABOVE * len(store.alive):
            store.compact(size)
        if not len(store):
            reason = f"not one could be read; the first: {run.failures[0]['error']}" if run.failures else "all are gone"
            raise Fgclip2Error(f"{folder} holds no picture: {reason}")
        for space in SPACES:
            open_index(store, space, chosen.budget)
    counts, failed = run.counts, run.failures
    return BuildReport(
        counts["embedded"], counts["copied"], counts["described"], counts["unchanged"], len(gone),
        len(absent) - len(gone), len(failed), failed[0]["error"] if failed else "",
        (*found.notes, *left_out), found.others, len(store), time.monotonic() - begun,
    )  # fmt: skip


def _open(
    folder: Path, model: FGCLIP2, config: BuildConfig, root: Path, sources: Sequence[Source], moved: bool
) -> Store:
    settings = {"max_patches": config.max_patches, "boxes": config.boxes, **asdict(config.regions)}
    if config.follow_links:
        settings["follow_links"] = True
    if not (folder / manifests.NAME).exists():
        _check_readable(root, sources, config.follow_links)
        return Store.create(
            folder, model_hash=model.hash, model_name=model.name, dimension=model.width, root=root, settings=settings
        )
    begun = Store.open(folder)
    if not begun.manifest.shards:  # by a run that came to nothing: it binds nobody to its root, settings and model
        _check_readable(root, sources, config.follow_links)
        with begun.writing():
            serial = begun.manifest.serial + 1
            anew = manifests.Manifest(model.hash, model.name, model.width, settings, os.fspath(root), serial=serial)
            anew.write(folder)
    store = Store.open(folder, model_hash=model.hash)
    had = store.manifest.settings
    changed = [name for name, value in settings.items() if had.get(name) != value and name != "follow_links"]
    if changed:
        was, now = ({name: told.get(name) for name in changed} for told in (had, settings))
        raise Fgclip2Error(f"{folder} was made with {was}, not with {now}; give the same, or another folder")
    if Path(store.manifest.root).resolve() != root:  # what was a folder then may be a link to its new place now
        if not moved:
            raise Fgclip2Error(
                f"{folder} is of pictures in {store.manifest.root!r}, not in {str(root)!r}; if they were moved there, "
                "give --root with that folder; else make another store for those"
            )
        _check_moved(store, root, sources, config.follow_links)
        store.describe(root=root)
    if config.follow_links and not had.get("follow_links"):
        store.describe(settings={**had, "follow_links": True})
    return store


def _check_moved(store: Store, root: Path, sources: Sequence[Source], follow_links: bool) -> None:
    """See that pictures of a store are in their new folder, by their contents.

    Raises:
        Fgclip2Error: none of those that were looked at has the contents that the store knows.
    """
    digests = store.metadata["sha256"]
    known = [source for source in sources if source.name in store.rows and not source.problem][:_LOOKED_AT]
    for source in known:
        with suppress(Fgclip2Error):
            data = read_picture(root, source.name, span_of(source.extra), follow_links)
            if hashlib.sha256(data).hexdigest() == digests[store.rows[source.name]].as_py():
                return
    raise Fgclip2Error(
        f"{store.folder} is of pictures in {store.manifest.root!r}; of {len(known)} of the same names in {str(root)!r} "
        "none has the same contents; make another store for those"
    )


def _check_readable(root: Path, sources: Sequence[Source], follow_links: bool) -> None:
    """See that there is a picture to begin with, so that a wrong root leaves nothing behind.

    Raises:
        Fgclip2Error: not one of them can be opened.
    """
    first = ""
    for source in sources:
        try:
            if source.problem:
                raise Fgclip2Error(source.problem)
            open_image(read_picture(root, source.name, span_of(source.extra), follow_links))
        except Fgclip2Error as error:
            first = first or str(error)
        else:
            return
    raise Fgclip2Error(
        f"of {len(sources):,} pictures in {str(root)!r} not one could be read; the first: {first}; nothing was "
        "written: check the pictures, and for a list --root"
    )


class _Run:
    """One run over a collection: what the store has of it, what is still to be written, and what is counted.

    Shards follow the collection: where nothing is in the store and nothing fails, each run of ``shard_size`` pictures
    is one. Of a run that gives less than half a shard the pictures wait for those of the next. So shards do not depend
    on where an earlier run was stopped, or on which process embedded what.
    """

    def __init__(self, store: Store, config: BuildConfig) -> None:
        self.store, self.config = store, config
        self.counts: Counter[Done] = Counter()
        self.failures: list[dict[str, str]] = []
        self.waiting: list[Entry] = []
        hashes = store.metadata["sha256"].to_pylist()
        self.row_of = {hashes[row]: row for row in np.flatnonzero(store.alive).tolist()}
        self.twins = Digests(self.row_of)

    def tasks(self, sources: Sequence[Source]) -> list[Task]:
        """What is to be done with each picture, as far as it can be said without reading it."""
        table, rows = self.store.metadata, self.store.rows
        told = {name: table[name].to_pylist() for name in table.column_names}
        extra = {name: values for name, values in told.items() if name not in OWN_COLUMNS}
        tasks = []
        for source in sources:
            row = rows.get(source.name)
            if row is None:
                tasks.append(Task(source))
                continue
            known: Known = "leave"
            stored_extra = {name: values[row] for name, values in extra.items() if values[row] is not None}
            if stored_extra != dict(source.extra):
                known = "describe"
            if self.config.boxes:
                given = np.array(source.pixel_boxes((told["width"][row], told["height"][row])), np.float32)
                first = int(self.store.offsets[row])
                stored = self.store.boxes(np.arange(first, first + told["boxes"][row]))
                known = known if np.array_equal(stored, given.reshape(-1, 4)) else "embed"
            tasks.append(Task(source, told["sha256"][row], known))
        return tasks

    def take(self, tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> None:
        """Count what became of a run of pictures, and write shards that are full enough."""
        entries: list[Entry] = []
        for task, outcome in zip(tasks, outcomes, strict=True):
            self.counts[outcome.done] += 1
            if outcome.done == "failed":
                self.failures.append({"image": task.source.name, "error": outcome.problem})
            elif outcome.done != "unchanged":
                entries.append(self._entry(task.source, outcome))
        if len(self.waiting) + len(entries) > self.config.shard_size:
            self.commit()
        self.waiting += entries
        if len(self.waiting) >= self.config.shard_size / 2:
            self.commit()
        self._list_failures()

    def commit(self) -> None:
        """Write what waits as a shard."""
        self.store.append(self.waiting)
        self.waiting = []

    def _list_failures(self) -> None:
        """Write ``failures.jsonl``, or remove it when there are none."""
        listing = self.store.folder / "failures.jsonl"
        if self.failures:
            lines = "".join(json.dumps(failure, ensure_ascii=False) + "\n" for failure in self.failures)
            # A name that is no UTF-8 is among them; so escaped it is still JSON, and reads as that name.
            write_atomically(listing, lines.encode(errors="backslashreplace"))
        else:
            listing.unlink(missing_ok=True)

    def _entry(self, source: Source, outcome: Outcome) -> Entry:
        """A picture with its vectors: new ones, or those of the same contents in the store."""
        if outcome.arrays is not None:
            return Entry(source.name, outcome.sha256, outcome.size, *outcome.arrays, source.extra, outcome.given)
        store = self.store
        row = store.rows[source.name] if outcome.done == "described" else self.row_of[outcome.sha256]
        fact = store.metadata.slice(row, 1).to_pylist()[0]
        regions = np.arange(store.offsets[row], store.offsets[row + 1])
        return Entry(
            source.name, outcome.sha256, (fact["width"], fact["height"]),
            store.vectors("pictures", np.array([row]))[0], store.vectors("regions", regions), store.boxes(regions),
            source.extra, fact["boxes"],
        )  # fmt: skip
