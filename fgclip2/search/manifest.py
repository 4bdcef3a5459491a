"""The manifest of a store: the one JSON file that says what belongs to it. What it does not name is not there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.files import write_atomically

NAME: Final = "manifest.json"
FORMAT: Final = "fgclip2.search"
VERSION: Final = 1

OWN_FILE: Final = re.compile(r"(?:vectors|metadata|deleted|pictures|regions)-\d{6,}\.(?:safetensors|parquet|faiss)")
"""Names of files that a store makes: a manifest that names any other was not written by one."""


@dataclass(frozen=True)
class FileEntry:
    """One file of the store's folder: its name, size in bytes, and SHA-256 in hexadecimal."""

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not OWN_FILE.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a store's file")

    @classmethod
    def of(cls, file: Path) -> FileEntry:
        """Describe a file as it is."""
        return cls(file.name, file.stat().st_size, file_hash(file))

    def check(self, folder: Path, contents: bool) -> None:
        """See that the file is there and whole.

        Args:
            folder: where it is.
            contents: read it and compare the hash, not the size alone.

        Raises:
            Fgclip2Error: it is not; the message names it.
        """
        file = folder / self.name
        try:
            size = file.stat().st_size
            damage = f"has {size:,} bytes of {self.bytes:,}" if size != self.bytes else ""
            if not damage and contents and file_hash(file) != self.sha256:
                damage = "has other contents than were written"
        except OSError as error:
            damage = f"cannot be read ({error.strerror or error})"
        if damage:
            raise Fgclip2Error(
                f"{file} {damage}; copy it from a backup, or drop what is damaged and index those pictures again: "
                f"fgclip2 index ... --out {folder} --repair"
            )


@dataclass(frozen=True)
class Shard:
    """Some pictures, in files that never change: vectors in one, what is known of the pictures in the other."""

    name: str
    pictures: int
    regions: int
    vectors: FileEntry
    metadata: FileEntry


@dataclass(frozen=True)
class IndexEntry:
    """A built index over the pictures' or the regions' vectors.

    ``recall_at_10`` is against exact search, ``settings`` are of the search that reached it, ``code`` are the bytes of
    a compressed vector, ``budget`` those that the whole may take in memory; ``trained`` vectors were there when it was
    built, and others may have been added since (0 in stores that did not note it). A flat index has no file; one
    without shards is not built, and says only what it was planned for.
    """

    kind: str
    shards: tuple[str, ...]
    vectors: int
    recall_at_10: float
    settings: dict[str, int] = field(default_factory=dict)
    file: FileEntry | None = None
    code: int = 0
    budget: int = 0
    trained: int = 0

    def unbuilt(self) -> IndexEntry:
        """What is left of it when its vectors have changed their rows."""
        return replace(self, shards=(), vectors=0, trained=0, file=None)


@dataclass(frozen=True)
class Manifest:
    """Everything a store says of itself.

    Attributes:
        model_hash: ``FGCLIP2.hash`` of the model that made the vectors.
        model_name: that model's name, for messages and as default.
        dimension: length D of every vector.
        settings: how pictures were embedded: ``max_patches`` and the fields of ``RegionConfig``.
        root: folder that the pictures' names are relative to.
        shards: in order.
        deleted: file of the marks of deleted pictures.
        counts: live ``pictures`` and their ``regions``, and ``deleted`` ones that still take space.
        indexes: by the space they are over, ``pictures`` or ``regions``.
        serial: number of the last commit.
        heads: text head that each space is compared with.
        metric: of those comparisons.
        dtype: of the stored vectors.
    """

    model_hash: str
    model_name: str
    dimension: int
    settings: dict[str, Any]
    root: str
    shards: tuple[Shard, ...] = ()
    deleted: FileEntry | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"pictures": 0, "regions": 0, "deleted": 0})
    indexes: dict[str, IndexEntry] = field(default_factory=dict)
    serial: int = 0
    heads: dict[str, str] = field(default_factory=lambda: {"pictures": "short or long", "regions": "box"})
    metric: str = "cosine"
    dtype: str = "float16"

    def files(self) -> list[FileEntry]:
        """Every file but the indexes, which can be made again."""
        listed = [file for shard in self.shards for file in (shard.vectors, shard.metadata)]
        return listed if self.deleted is None else [*listed, self.deleted]

    def write(self, folder: Path) -> None:
        """Replace the folder's manifest: the commit."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        text = json.dumps(content, ensure_ascii=False, indent=1)
        write_atomically(folder / NAME, text.encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the folder's manifest.

        Raises:
            Fgclip2Error: there is none, or it is damaged or of another version.
        """
        file = folder / NAME
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise Fgclip2Error(
                f"{folder} holds no search store ({NAME} is missing); make one: fgclip2 index PICTURES --out {folder}"
            ) from error
        except (OSError, ValueError) as error:
            raise Fgclip2Error(f"{file} cannot be read ({error}); copy it from a backup, or index again") from error
        known = isinstance(content, dict) and (content.pop("format", None), content.pop("version", None))
        if known != (FORMAT, VERSION):
            raise Fgclip2Error(
                f"{file} is not a search store of version {VERSION} but {known or 'something else'}; index the "
                "pictures again into a new folder"
            )
        try:
            return _parse(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Fgclip2Error(f"{file} is damaged ({error}); copy it from a backup, or index again") from error


def _parse(content: Mapping[str, Any]) -> Manifest:
    def entry(fields: Mapping[str, Any] | None) -> FileEntry | None:
        return None if fields is None else FileEntry(**fields)

    shards = tuple(
        Shard(**{**item, "vectors": FileEntry(**item["vectors"]), "metadata": FileEntry(**item["metadata"])})
        for item in content["shards"]
    )
    indexes = {
        space: IndexEntry(**{**item, "shards": tuple(item["shards"]), "file": entry(item["file"])})
        for space, item in content["indexes"].items()
    }
    parsed = Manifest(**{**content, "shards": shards, "deleted": entry(content["deleted"]), "indexes": indexes})
    counts, total = parsed.counts, sum(shard.pictures for shard in shards)
    if counts["pictures"] + counts["deleted"] != total:
        raise ValueError(f"it counts {counts['pictures']} + {counts['deleted']} pictures, its shards have {total}")
    return parsed


def file_hash(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal, read block by block."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
