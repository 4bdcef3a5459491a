"""Where the pictures of a collection come from: a folder, a list of files, or shards; and how one is opened again.

A picture has a *name* relative to the collection's root: ``cats/1.jpg``, or ``part-000.tar#000017.jpg`` within a shard.
Names are checked before a file is opened: they never lead out of the root, whatever a list or a store says.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from fgclip2.data.locate import locate, spellings
from fgclip2.data.media import PICTURE_SUFFIXES, scan_folder
from fgclip2.data.records import expanded, read_span
from fgclip2.data.shards import Member, beside, how_it_ends, members, sample_key, suffix_of
from fgclip2.errors import Fgclip2Error
from fgclip2.search.lists import LISTS, PATH_KEYS, SPAN, ListEntry, boxes_of, is_text, path_key, plain, read_list
from fgclip2.search.problems import PictureError
from fgclip2.search.repeats import joined

_BESIDE: Final = (".json", ".txt", ".caption", ".cls")
_MOST_BESIDE: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class Source:
    """One picture of a collection, not yet opened.

    Attributes:
        name: relative to the root, with ``/``.
        extra: what the list says of it: numbers, texts, truth values and lists of texts;
            ``Unkept`` where no column takes it.
        boxes: (M, 4) that the list has for it: x1, y1, x2, y2, in pixels, or as shares of its sides.
        shares: whether they are shares.
        problem: why it cannot be used, found when the collection was listed.
        hides: of what stands for a folder or a part of a shard that cannot be read, how names of the pictures in it
            begin; whether those are still there is not known.
        lost: what is wrong with boxes that the list has for it and that are left out.
    """

    name: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    boxes: Sequence[Sequence[float]] = ()
    shares: bool = False
    problem: str = ""
    hides: str = ""
    lost: tuple[str, ...] = ()

    def pixel_boxes(self, size: tuple[int, int]) -> list[list[float]]:
        """``boxes`` in pixels of a picture of ``size`` (width, height), cut at its edges."""
        scale = (*size, *size) if self.shares else (1, 1, 1, 1)
        return [
            [
                min(max(value * factor, 0.0), float(limit))
                for value, factor, limit in zip(box, scale, (*size, *size), strict=True)
            ]
            for box in self.boxes
        ]


@dataclass(frozen=True)
class Collection:
    """What a collection holds.

    Attributes:
        root: folder that names are relative to, its links followed.
        sources: the pictures, in a fixed order. A line that names none, or one outside the root, is among them with its
            problem; so is a subfolder that cannot be read, or is a link.
        others: how many other files were seen in folder and shards.
        notes: what was joined, renamed or passed over, a sentence each.
    """

    root: Path
    sources: list[Source]
    others: int = 0
    notes: tuple[str, ...] = ()


def read_collection(
    given: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    leave_out: Path | None = None,
    follow_links: bool = False,
    exclude: Sequence[str] = (),
) -> Collection:
    """All pictures of a collection, in a fixed order.

    Args:
        given: a folder, searched with its subfolders and the ``.tar`` shards in them; a shard, or several such as
            ``part-{000..499}.tar``; or a list: ``.txt`` with a path a line; ``.jsonl``, ``.json``, ``.csv``, ``.tsv``
            or ``.parquet`` whose entries have the path under one of ``lists.PATH_KEYS``, perhaps ``boxes`` in pixels or
            FineHARD's ``bbox_info``, and anything else as metadata; or COCO JSON.
        root: folder that the paths of a list are relative to; ``None`` takes the list's own.
        leave_out: a folder that is not entered.
        follow_links: enter subfolders that are links.
        exclude: patterns of names and paths that are left out of a folder.

    Returns:
        The collection.

    Raises:
        Fgclip2Error: there is nothing of that name, it is of no known kind, damaged, or holds no picture.
    """
    path = Path(given)
    files = [] if path.exists() else [Path(name) for name in expanded(os.fspath(given))]
    if len(files) > 1:
        return _shards(files)
    if not path.exists():
        raise Fgclip2Error(f"{str(path)!r} does not exist (looked in {Path.cwd()}); give a folder, a list or a shard")
    if path.is_dir():
        if root is not None and Path(root).resolve() != path.resolve():
            raise Fgclip2Error(
                f"--root {str(root)!r} is not the folder {str(path)!r}; of a folder give the folder itself"
            )
        sources, others, notes = _folder(path, leave_out, follow_links, exclude)
        return Collection(path.resolve(), list(map(_named_in_utf8, sources)), others, tuple(notes))
    if path.suffix.lower() == ".tar":
        sources, others = _shard(path)
        return Collection(path.parent.resolve(), list(map(_named_in_utf8, sources)), others)
    if path.suffix.lower() not in LISTS:
        raise Fgclip2Error(f"{str(path)!r} is no list of pictures; give a folder, .tar shards, or {', '.join(LISTS)}")
    base = Path(root) if root is not None else path.parent
    if not base.is_dir():
        raise Fgclip2Error(f"the picture folder {str(base)!r} does not exist (looked in {Path.cwd()})")
    sources = [of_entry(entry, base) for entry in read_list(path)]
    if not sources:
        raise Fgclip2Error(f"{path} names no picture")
    once, notes = joined(sources)
    return Collection(base.resolve(), once, 0, tuple(notes))


def list_sources(
    given: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, *, leave_out: Path | None = None
) -> tuple[Path, list[Source], int]:
    """Root, pictures, and the number of other files of ``read_collection``."""
    found = read_collection(given, root, leave_out=leave_out)
    return found.root, found.sources, found.others


def read_picture(root: Path, name: str, span: tuple[int, int] | None = None, follow_links: bool = False) -> bytes:
    """The encoded bytes of a picture.

    Args:
        root: of the collection.
        name: relative to it.
        span: first byte and length in the shard, for a picture in one.
        follow_links: read it also where it is a link that leads out of the root, as the owner of the collection chose.

    Raises:
        PictureError: the name leads out of the root (also through a link), or the file cannot be read.
    """
    row = re.fullmatch(r"(.+\.parquet)#(\d+)", name, re.IGNORECASE | re.DOTALL) if span is None else None
    if row is not None and not inside(root, name, follow_links).exists():
        return _bytes_of_row(inside(root, row[1], follow_links), int(row[2]))
    file = inside(root, name, follow_links) if span is None else _shard_of(root, name, follow_links)
    try:
        if span is None and file.exists() and not file.is_file():
            raise PictureError("gone", f"picture {str(file)!r} is no file but a folder, pipe, socket or device")
        return file.read_bytes() if span is None else read_span(file, *span, name)
    except OSError as error:
        raise PictureError("gone", f"picture {str(file)!r} cannot be read ({error.strerror or error})") from error
    except Fgclip2Error as error:
        raise PictureError("gone", str(error)) from error


def _bytes_of_row(file: Path, row: int) -> bytes:
    """The encoded bytes in the column ``image`` of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            first, group = 0, 0
            while first + table.metadata.row_group(group).num_rows <= row:
                first += table.metadata.row_group(group).num_rows
                group += 1
            given = table.read_row_group(group, ["image"], use_threads=False)["image"][row - first].as_py()
    except (pyarrow.ArrowException, OSError, IndexError, KeyError, RuntimeError) as error:
        raise PictureError("gone", f"row {row} of {str(file)!r} cannot be read ({error})") from error
    data = given.get("bytes") if isinstance(given, dict) else given
    if not isinstance(data, bytes):
        raise PictureError("gone", f"row {row} of {str(file)!r} holds no image")
    return data


def _shard_of(root: Path, name: str, follow_links: bool) -> Path:
    """The shard that a picture's name begins with; ``#`` may be part of the name of either."""
    ends = [match.end() for match in re.finditer(r"\.tar(?=#)", name, re.IGNORECASE)] or [len(name.partition("#")[0])]
    files = [inside(root, name[:end], follow_links) for end in ends]
    return next((file for file in files if file.is_file()), files[0])


def span_of(extra: Mapping[str, Any]) -> tuple[int, int] | None:
    """Place of a picture in its shard, from its metadata; ``None`` for a picture in a file of its own."""
    start, length = (extra.get(key) for key in SPAN)
    return None if start is None or length is None else (int(start), int(length))


def inside(root: Path, name: str, follow_links: bool = False) -> Path:
    """The file of a name below ``root``.

    Raises:
        PictureError: it would be outside, or is a link that leads round in a circle.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or Path(name).drive:
        raise PictureError("outside", f"the name {name!r:.120} does not stay in the picture folder {str(root)!r}")
    file = root.joinpath(*parts)
    try:
        within = file.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError is Python's before 3.13
        raise PictureError("link", f"{name!r:.120} is a link that leads to itself, in {str(root)!r}") from error
    if not within and not follow_links:
        raise PictureError(
            "link",
            f"{name!r:.120} is a link that leads out of the picture folder {str(root)!r}; index with --follow-links",
        )
    return file


def _shards(files: Sequence[Path]) -> Collection:
    """The pictures of shards that a pattern with braces stands for."""
    wrong = next((file for file in files if file.suffix.lower() != ".tar" or not file.is_file()), None)
    if wrong is not None:
        raise Fgclip2Error(f"{str(wrong)!r} is no .tar shard (looked in {Path.cwd()}); mend the pattern with braces")
    base = Path(os.path.commonpath([file.parent.resolve() for file in files]))
    sources: list[Source] = []
    others = 0
    for file in files:
        found, more = _shard(file, (file.parent.resolve() / file.name).relative_to(base).as_posix())
        sources, others = sources + found, others + more
    return Collection(base, list(map(_named_in_utf8, sources)), others)


def _folder(
    path: Path, leave_out: Path | None, follow_links: bool, exclude: Sequence[str]
) -> tuple[list[Source], int, list[str]]:
    """Pictures in files, then those in shards, then what stands for folders that were not entered.

    And how many other files there are, and what they are.
    """
    scan = scan_folder(path, leave_out=leave_out, follow_links=follow_links, exclude=exclude)
    if not scan.pictures and not scan.shards:
        raise scan.nothing()
    sources = [Source(picture.relative_to(path).as_posix()) for picture in scan.pictures]
    others = scan.others - len(scan.shards)
    for shard in scan.shards:
        found, more = _shard(shard, shard.relative_to(path).as_posix())
        sources, others = sources + found, others + more
    sources += [_hidden(folder, path, f"cannot be read ({reason})") for folder, reason in scan.closed]
    for file in scan.special:
        what = "it is a pipe, socket or device, and is never opened"
        sources.append(Source(file.relative_to(path).as_posix(), problem=what))
    what = "is a link, and those are not followed (give --follow-links, or index its target by itself)"
    sources += [_hidden(folder, path, what) for folder in scan.linked]
    told = [f"{count:,} {kind}" for kind, count in scan.kinds.items() if not kind.startswith("shards")]
    return sources, others, [f"passed over in the folder: {', '.join(told)}"] if told else []


def _hidden(folder: Path, root: Path, what: str) -> Source:
    """What stands for a subfolder that is not listed."""
    name = f"{folder.relative_to(root).as_posix()}/"
    return Source(name, problem=f"the folder {what}: its pictures are left as they are", hides=name)


def _named_in_utf8(source: Source) -> Source:
    """As it is, or with its problem: a store has names as text, and bytes that are no UTF-8 cannot be written to it."""
    if source.problem or is_text(source.name):
        return source
    return replace(source, problem=f"its name {source.name!r:.120} is no UTF-8; rename it, or pack the shard again")


def _shard(path: Path, name: str = "") -> tuple[list[Source], int]:
    """The pictures of a tar file, with what stands beside them (webdataset's way), and how many members are neither.

    Of a ``.json`` its fields and boxes are taken; ``.txt``, ``.caption`` and ``.cls`` become columns of those names.

    Args:
        path: the file.
        name: its name below the collection's root; its own where not given.
    """
    label = name or path.name
    samples: dict[str, dict[str, dict[str, Member]]] = {}
    found: list[Member] = []
    others = 0
    stopped = ""
    sources: list[Source] = []
    try:
        with path.open("rb") as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    for member in members(archive):
                        suffix = suffix_of(member.name)
                        kind = "picture" if suffix in PICTURE_SUFFIXES else suffix
                        if kind != "picture" and kind not in _BESIDE:
                            others += 1
                            continue
                        samples.setdefault(sample_key(member.name)[0], {}).setdefault(kind, {})[member.name] = member
                        found += [member] if kind == "picture" else []
                    stopped = how_it_ends(stream, archive.offset)
            except tarfile.TarError as error:
                stopped = f"it is no plain tar file, or cut short ({error})"
            latest = {member.name: member for member in found}  # of one name twice the last counts, as for tar
            for member in latest.values():
                kinds = samples[sample_key(member.name)[0]]
                sources.append(_member(f"{label}#{member.name}", member, kinds, stream))
    except OSError as error:
        raise Fgclip2Error(f"{path} cannot be read ({error.strerror or error})") from error
    if stopped:
        sources.append(
            Source(
                f"{label}#end", problem=f"{stopped}: pictures after the last whole one are lost", hides=f"{label}#",
            )
        )  # fmt: skip
    return sources, others


def _member(name: str, member: Member, kinds: Mapping[str, Mapping[str, Member]], stream: BinaryIO) -> Source:
    """One picture of a shard with what stands beside it."""
    pictures, fields = list(kinds["picture"]), dict[str, Any]()
    for kind in _BESIDE:
        file = beside(member.name, pictures, list(kinds.get(kind, {})))
        if file is None or kinds[kind][file].size > _MOST_BESIDE:
            continue
        stream.seek(kinds[kind][file].start)
        data = stream.read(kinds[kind][file].size)
        if kind == ".json":
            fields |= _json_object(data)
        else:
            text = data.decode("utf-8-sig", errors="replace").strip()
            fields.setdefault(
                kind[1:], int(text) if kind == ".cls" and re.fullmatch(r"0|[1-9]\d{0,17}", text) else text
            )
    boxes, shares, lost = boxes_of(fields)
    place = dict(zip(SPAN, (member.start, member.size), strict=True))
    return Source(name, {**plain(fields), **place}, boxes, shares, lost=lost)


def _json_object(data: bytes) -> Mapping[str, Any]:
    """A picture does not fail for what stands beside it."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def of_entry(entry: ListEntry, base: Path) -> Source:
    """One entry of a list of names relative to ``base``, as a picture or with its problem."""
    fields = entry.fields
    if not isinstance(fields, Mapping):
        return Source(f"{entry.place}: {fields!r:.60}", problem=entry.problem or "it is no object with an image")
    key = path_key(fields)
    if key is None:
        # With its place, or all that lack a path in the same way would count as one.
        return Source(f"{entry.place}: {dict(fields)!r:.60}", problem=f"it has none of {', '.join(PATH_KEYS)}")
    given = fields[key]
    if not is_text(given) or "\0" in given:
        return Source(given, problem=f"its name {given!r:.120} can be that of no file")
    file = locate(base, given)
    name = given if file is None else _below(file, base)
    if os.path.isabs(name):
        relative = _relative(Path(name), base)
        if relative is None:
            return Source(given, problem=f"it is not in the picture folder {str(base)!r}; give --root")
        name = relative
    elif file is None and "\\" in name:
        tried = ", ".join(repr(spelled) for spelled in spellings(given))
        return Source(given, problem=f"there is no such file in {str(base)!r}; looked for {tried:.400}")
    name = PurePosixPath(name).as_posix()  # ./a/b.jpg -> a/b.jpg
    boxes, shares, lost = boxes_of(fields)
    return Source(name, plain(fields, key), boxes, shares, lost=lost)


def _below(file: Path, base: Path) -> str:
    """A file that was found, as a name below ``base`` where it was looked for there."""
    return file.relative_to(base).as_posix() if file.is_relative_to(base) else os.fspath(file)


def _relative(file: Path, base: Path) -> str | None:
    """An absolute path as a name below ``base``, whichever links either of them goes through; ``None`` when outside."""
    root = base.resolve()
    places = [(Path(os.path.abspath(base)), file), (root, file)]
    with suppress(OSError, RuntimeError):  # a link that leads to itself
        places.append((root, file.parent.resolve() / file.name))
    for folder, of in places:
        if of.is_relative_to(folder):
            return of.relative_to(folder).as_posix()
    return None
