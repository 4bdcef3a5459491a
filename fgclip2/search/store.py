"""Vectors of pictures and their regions on disk: shards that never change, and a manifest that names them.

A change writes its new files first, under names that were never used, and then the manifest, atomically. A crash before
that leaves the store as it was, and files that nobody names; the next writer takes those away. Shards are read through
memory maps, so opening a store costs no memory for its vectors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.files import flush_folder, write_atomically
from fgclip2.once import locked_property
from fgclip2.search import manifest as manifests
from fgclip2.search.entries import Entry, Value, stacked
from fgclip2.search.manifest import FileEntry, IndexEntry, Manifest, Shard
from fgclip2.search.mapped import let_go, map_tensors, to_safetensors
from fgclip2.search.tables import OWN_COLUMNS, joined, make_table, read_table, to_parquet

Space = Literal["pictures", "regions"]
SPACES: Final[tuple[Space, ...]] = ("pictures", "regions")


class Store:
    """A search store in a folder; make one with ``create`` or ``open``.

    Pictures have *rows*: 0, 1, ... through all shards, deleted ones included; so have regions. Rows stay as they are
    until ``compact``. One process writes at a time; any number read what was committed when they opened.

    Attributes:
        folder: where it is.
        manifest: what it says of itself.
        alive: (P,) bool by picture row; False where deleted.
        offsets: (P + 1,) int64; regions of picture p are the rows ``offsets[p]`` to ``offsets[p + 1] - 1``.
    """

    manifest: Manifest
    alive: np.ndarray
    offsets: np.ndarray

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        with extras("search"):
            from filelock import FileLock

        self.folder = folder
        self._lock = FileLock(folder / ".lock", timeout=0)
        self._maps: dict[str, dict[str, np.ndarray]] = {}  # tensors and
        self._tables: dict[str, Any] = {}  # metadata by shard
        self._show(manifest)

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        model_hash: str,
        model_name: str,
        dimension: int,
        root: str | os.PathLike[str],
        settings: Mapping[str, Any] | None = None,
    ) -> Store:
        """An empty store in a new or empty folder, or in one where that was begun and the process killed.

        Raises:
            Fgclip2Error: something is in the folder already, or it cannot be made.
        """
        path = Path(folder)
        if path.exists() and (not path.is_dir() or any(map(_foreign, path.iterdir()))):
            raise Fgclip2Error(f"{path} exists and is no search store; give a new or an empty folder")
        manifest = Manifest(model_hash, model_name, dimension, dict(settings or {}), os.fspath(root))
        manifest.write(path)
        return cls(path, manifest)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        model_hash: str | None = None,
        verify: bool = True,
        metadata: bool = False,
    ) -> Store:
        """Open a store and check it.

        Args:
            folder: where it is.
            model_hash: of the model it is to be used with.
            verify: read every file and compare its hash; otherwise sizes and headers only.
            metadata: read it now, for whoever keeps the store open while another process may compact it: vectors are
                mapped and stay, but a table that is read later may be gone.

        Raises:
            Fgclip2Error: no store, a file that is missing or damaged, or one made by another model.
        """
        path = Path(folder)
        manifest = Manifest.read(path)
        if model_hash is not None and model_hash != manifest.model_hash:
            raise Fgclip2Error(
                f"{path} was made by model {manifest.model_name!r} (hash {manifest.model_hash[:12]}), not by the one "
                f"in use (hash {model_hash[:12]}); use that model, or index the pictures again into another folder"
            )
        try:
            for file in manifest.files():
                file.check(path, verify)
            store = cls(path, manifest)
            if metadata:
                _ = store.metadata
            return store
        except Fgclip2Error:
            if Manifest.read(path).serial == manifest.serial:
                raise
        return cls.open(
            path, model_hash=model_hash, verify=verify, metadata=metadata
        )  # a writer took files away meanwhile

    @classmethod
    def repair(cls, folder: str | os.PathLike[str]) -> list[str]:
        """Drop the shards that are damaged, so that the rest can be used and the lost pictures indexed again.

        Returns:
            Names of the dropped shards; also ``"deleted"`` when the marks of deleted pictures were lost, which brings
            those pictures back.
        """
        path = Path(folder)
        manifest = Manifest.read(path)

        def whole(files: Iterable[FileEntry]) -> bool:
            try:
                for file in files:
                    file.check(path, contents=True)
            except Fgclip2Error:
                return False
            return True

        kept = tuple(shard for shard in manifest.shards if whole((shard.vectors, shard.metadata)))
        lost = [shard.name for shard in manifest.shards if shard not in kept]
        marks = manifest.deleted
        if marks is not None and not whole([marks]):
            lost, marks = [*lost, "deleted"], None
        if lost:
            total = sum(shard.pictures for shard in kept)
            counts = {"pictures": total, "regions": 0, "deleted": 0}
            bare = replace(manifest, shards=kept, deleted=marks, counts=counts, serial=manifest.serial + 1)
            store = cls(path, bare)
            alive = store.alive
            if marks is None:  # replaced pictures are back too: of each name the newest counts
                newest = {name: row for row, name in enumerate(store.metadata["name"].to_pylist())}
                alive = np.isin(np.arange(total), list(newest.values()))
            with store.writing(check=False):
                store._commit(kept, alive, keep_indexes=False)
        return lost

    def __len__(self) -> int:
        """Live pictures."""
        return int(self.alive.sum())

    @contextmanager
    def writing(self, check: bool = True) -> Iterator[None]:
        """Hold the store for writing; every change does so by itself. Takes away what a crash has left.

        Raises:
            Fgclip2Error: another process writes, or has written since this store was opened; or nobody may write here.
        """
        with extras("search"):
            from filelock import Timeout

        try:
            self._lock.acquire()
        except Timeout as error:
            raise Fgclip2Error(f"{self.folder} is being written by another process; wait until it is done") from error
        except OSError as error:
            raise Fgclip2Error(
                f"{self.folder} cannot be written ({error.strerror or error}); mend its permissions, or copy it"
            ) from error
        try:
            if check and Manifest.read(self.folder).serial != self.manifest.serial:
                raise Fgclip2Error(f"{self.folder} was changed by another process meanwhile; open it again")
            if check and self._lock.lock_counter == 1:
                self._sweep()
            yield
        finally:
            self._lock.release()

    @property
    def held(self) -> bool:
        """Whether this very object holds the store for writing."""
        return bool(self._lock.is_locked)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add pictures as one shard; one whose name is there already takes its place.

        Raises:
            Fgclip2Error: a name repeats, vectors do not fit the store, or a column has changed its type.
        """
        if not entries:
            return
        names = [entry.name for entry in entries]
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise Fgclip2Error(f"{repeated!r} is given twice; every picture of a shard needs its own name")
        for entry in entries:
            entry.check(self.manifest.dimension)
        with self.writing():
            rows = self.rows
            alive = self.alive.copy()
            alive[[rows[name] for name in names if name in rows]] = False
            shard = self._write_shard(
                self.manifest.serial + 1,
                stacked(entries),
                [_facts(entry) for entry in entries],
            )
            self._commit((*self.manifest.shards, shard), np.concatenate([alive, np.ones(shard.pictures, bool)]))
            rows.update(zip(names, range(len(alive), len(self.alive)), strict=True))
            self.__dict__["rows"] = rows  # or every shard would cost a pass over all names

    def delete(self, names: Iterable[str]) -> int:
        """Mark pictures as deleted; their space comes back with ``compact``.

        Returns:
            How many there were.

        Raises:
            Fgclip2Error: a name is not in the store; nothing is deleted then.
        """
        wanted = set(names)
        unknown = sorted(wanted - self.rows.keys())
        if unknown:
            raise Fgclip2Error(
                f"{unknown[0]!r} is not in {self.folder} ({len(unknown)} such names); nothing is deleted"
            )
        if wanted:
            with self.writing():
                alive = self.alive.copy()
                alive[[self.rows[name] for name in wanted]] = False
                self._commit(self.manifest.shards, alive)
        return len(wanted)

    def compact(self, shard_size: int = 1024) -> None:
        """Write all live pictures anew, ``shard_size`` a shard, in their order; rows change, indexes are dropped."""
        with self.writing():
            kept, shards = np.flatnonzero(self.alive), []
            for number, start in enumerate(range(0, len(kept), shard_size)):
                rows = kept[start : start + shard_size]
                spans = [np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows]
                regions = np.concatenate(spans)
                arrays = {
                    "pictures": self._take("pictures", rows),
                    "regions": self._take("regions", regions),
                    "boxes": self._take("boxes", regions),
                    "counts": np.array([len(span) for span in spans], np.int64),
                }
                facts = self.metadata.take(rows).to_pylist()
                shards.append(self._write_shard(self.manifest.serial + 1 + number, arrays, facts))
            # The serial must pass the numbers of all new files, or the next commit would write over one of them.
            serial = self.manifest.serial + max(1, len(shards))
            self._commit(tuple(shards), np.ones(len(kept), bool), keep_indexes=False, serial=serial)
            self._sweep()

    def put_index(self, space: Space, entry: IndexEntry, write: Callable[[Path], None] | None = None) -> None:
        """Commit a built index; ``write`` is given the path to put its file at, when it has one."""
        with self.writing():
            serial = self.manifest.serial + 1
            if write is not None:
                file = self.folder / f"{space}-{serial:06d}.faiss"
                temporary = file.with_name(f".{file.name}")
                write(temporary)
                with temporary.open("rb") as stream:
                    os.fsync(stream.fileno())
                temporary.replace(file)
                flush_folder(self.folder)
                entry = replace(entry, file=FileEntry.of(file))
            updated = replace(self.manifest, serial=serial, indexes={**self.manifest.indexes, space: entry})
            updated.write(self.folder)
            self.manifest = updated
            self._sweep()

    def describe(
        self, *, root: str | os.PathLike[str] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Commit another root, where pictures were moved, or other settings."""
        with self.writing():
            updated = replace(
                self.manifest,
                root=self.manifest.root if root is None else os.fspath(root),
                settings=dict(self.manifest.settings if settings is None else settings),
                serial=self.manifest.serial + 1,
            )
            updated.write(self.folder)
            self.manifest = updated

    def blocks(self, space: Space) -> list[np.ndarray]:
        """(n, D) float16 vectors of every shard in order of rows, read-only memory maps."""
        return [arrays[space] for arrays in self._maps.values()]

    def vectors(self, space: Space, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32 vectors of some rows, in their order."""
        return self._take(space, rows).astype(np.float32)

    def boxes(self, rows: np.ndarray) -> np.ndarray:
        """(n, 4) float32 boxes in pixels of some region rows."""
        return self._take("boxes", rows)

    @locked_property
    def metadata(self) -> Any:
        """A pyarrow table by picture row: ``name``, ``sha256``, ``width``, ``height``, and the extra columns.

        ``boxes`` counts the regions, the first ones, that came with the picture.
        """
        return joined([self._table(shard) for shard in self.manifest.shards], self.folder)

    @locked_property
    def rows(self) -> dict[str, int]:
        """Row of every live picture by its name."""
        names = self.metadata["name"].to_pylist()
        return {names[row]: int(row) for row in np.flatnonzero(self.alive)}

    def _show(self, manifest: Manifest) -> None:
        """Present what a manifest names."""
        self.manifest = manifest
        for cached in ("metadata", "rows"):
            self.__dict__.pop(cached, None)
        self._maps = {shard.name: self._maps.get(shard.name) or self._map(shard) for shard in manifest.shards}
        self._tables = {shard.name: self._tables[shard.name] for shard in manifest.shards if shard.name in self._tables}
        counts = [arrays["counts"] for arrays in self._maps.values()]
        self.offsets = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
        marks = {} if manifest.deleted is None else map_tensors(self.folder / manifest.deleted.name)
        dead = [marks.get(shard.name, np.zeros(shard.pictures, np.uint8)) for shard in manifest.shards]
        self.alive = ~np.concatenate([np.zeros(0, bool), *(mark.astype(bool) for mark in dead)])

    def _map(self, shard: Shard) -> dict[str, np.ndarray]:
        arrays = map_tensors(self.folder / shard.vectors.name)
        width = self.manifest.dimension
        shapes = {
            "pictures": (shard.pictures, width),
            "regions": (shard.regions, width),
            "boxes": (shard.regions, 4),
            "counts": (shard.pictures,),
        }
        found = {name: array.shape for name, array in arrays.items()}
        if found != shapes or int(arrays["counts"].sum()) != shard.regions:
            raise Fgclip2Error(
                f"{self.folder / shard.vectors.name} holds {found} where its manifest says {shapes}; copy it from a "
                "backup, or index again with --repair"
            )
        return arrays

    def _table(self, shard: Shard) -> Any:
        if shard.name not in self._tables:
            self._tables[shard.name] = read_table(self.folder / shard.metadata.name, shard.pictures)
        return self._tables[shard.name]

    def _take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows of a tensor across the shards."""
        sources = [arrays[name] for arrays in self._maps.values()]
        if not sources:
            return np.zeros((0, 4 if name == "boxes" else self.manifest.dimension), np.float16)
        taken = np.empty((len(rows), *sources[0].shape[1:]), sources[0].dtype)
        ends = np.cumsum([len(source) for source in sources])
        shards = np.searchsorted(ends, rows, side="right")
        for shard in np.unique(shards):
            mine, source = shards == shard, sources[shard]
            taken[mine] = source[rows[mine] - (ends[shard] - len(source))]
            let_go(source)
        return taken

    def _write_shard(
        self, number: int, arrays: Mapping[str, np.ndarray], facts: Sequence[Mapping[str, Value]]
    ) -> Shard:
        name = f"{number:06d}"
        table = make_table(facts)
        joined([*map(self._table, self.manifest.shards), table], self.folder)  # a type that does not fit shows here
        parts = {f"vectors-{name}.safetensors": to_safetensors(arrays),
                 f"metadata-{name}.parquet": to_parquet(table)}  # fmt: skip
        files = []
        for file, data in parts.items():
            write_atomically(self.folder / file, data)
            files.append(FileEntry(file, len(data), hashlib.sha256(data).hexdigest()))
        return Shard(name, len(facts), len(arrays["regions"]), *files)

    def _commit(
        self,
        shards: tuple[Shard, ...],
        alive: np.ndarray,
        keep_indexes: bool = True,
        serial: int | None = None,
    ) -> None:
        """Write the marks of deleted pictures, where there are any, and then the manifest."""
        serial = self.manifest.serial + 1 if serial is None else serial
        marks: dict[str, np.ndarray] = {}
        start = 0
        for shard in shards:
            mark = ~alive[start : start + shard.pictures]
            start += shard.pictures
            if mark.any():
                marks[shard.name] = mark.astype(np.uint8)
        deleted = None
        if marks:
            data = to_safetensors(marks)
            deleted = FileEntry(f"deleted-{serial:06d}.safetensors", len(data), hashlib.sha256(data).hexdigest())
            write_atomically(self.folder / deleted.name, data)
        maps = [self._maps.get(shard.name) or self._map(shard) for shard in shards]
        regions = np.concatenate([np.zeros(0, np.int64), *(arrays["counts"] for arrays in maps)])
        counts = {"pictures": int(alive.sum()), "regions": int(regions[alive].sum()), "deleted": int((~alive).sum())}
        kept = self.manifest.indexes
        if not keep_indexes:
            kept = {space: entry.unbuilt() for space, entry in kept.items()}
        updated = replace(self.manifest, shards=shards, deleted=deleted, counts=counts, indexes=kept, serial=serial)
        updated.write(self.folder)
        self._show(updated)

    def _sweep(self) -> None:
        """Remove files that look like a store's own and that the manifest does not name."""
        named = {file.name for file in self.manifest.files()}
        named |= {entry.file.name for entry in self.manifest.indexes.values() if entry.file is not None}
        for file in self.folder.iterdir():
            name = file.name[1:] if file.name.startswith(".") else file.name
            ours = manifests.OWN_FILE.match(name) or (file.name.startswith(".") and name.startswith(manifests.NAME))
            if ours and file.name not in named:
                file.unlink()


def _facts(entry: Entry) -> dict[str, Value]:
    own = (entry.name, entry.sha256, *entry.size, entry.given)
    return {**dict(zip(OWN_COLUMNS, own, strict=True)), **entry.extra}


def _foreign(file: Path) -> bool:
    """Whether a file cannot have been left by a store whose first manifest was not written to its end."""
    return file.name != ".lock" and not file.name.startswith(f".{manifests.NAME}.")
