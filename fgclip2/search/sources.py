"""Where the pictures of a collection come from: a folder, a list of files, or shards; and how one is opened again.

A picture has a *name* relative to the collection's root: ``cats/1.jpg``, or ``part-000.tar#000017.jpg`` within a shard.
Names are checked before a file is opened: they never lead out of the root, whatever a list or a store says.
"""

from __future__ import annotations

import json
import math
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from fgclip2.data.media import PICTURE_SUFFIXES, find_pictures
from fgclip2.data.records import read_span
from fgclip2.data.shards import how_it_ends
from fgclip2.errors import Fgclip2Error
from fgclip2.search.entries import Value
from fgclip2.search.problems import PictureError

SPAN: Final = ("shard_start", "shard_bytes")
"""Columns of pictures in shards: where in the tar file they lie."""

_PATH_KEYS: Final = ("image", "f_path", "file_name", "path")
_RESERVED: Final = frozenset({"name", "sha256", "width", "height", "boxes", "bbox_info", *SPAN})
_LISTS: Final = (".txt", ".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Source:
    """One picture of a collection, not yet opened.

    Attributes:
        name: relative to the root, with ``/``.
        extra: what the list says of it, numbers, texts and truth values.
        boxes: (M, 4) that the list has for it: x1, y1, x2, y2, in pixels, or as shares of its sides.
        shares: whether they are shares.
        problem: why it cannot be used, found when the collection was listed.
        hides: of what stands for a folder or a part of a shard that cannot be read, how names of the pictures in it
            begin; whether those are still there is not known.
    """

    name: str
    extra: Mapping[str, Value] = field(default_factory=dict)
    boxes: Sequence[Sequence[float]] = ()
    shares: bool = False
    problem: str = ""
    hides: str = ""

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


def list_sources(
    given: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, *, leave_out: Path | None = None
) -> tuple[Path, list[Source]]:
    """All pictures of a collection, in a fixed order.

    Args:
        given: a folder, searched with its subfolders (its ``.tar`` shards when it has no pictures); a shard; or a list:
            ``.txt`` with a path a line; ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` whose entries have the path as
            ``image``, ``f_path``, ``file_name`` or ``path``, perhaps ``boxes`` in pixels or FineHARD's ``bbox_info``,
            and anything else as metadata; or COCO JSON.
        root: folder that the paths of a list are relative to; ``None`` takes the list's own.
        leave_out: a folder that is not entered.

    Returns:
        The root, its links followed, and the pictures. A line that names none, or one outside the root, is among them
        with its problem; so is a subfolder that cannot be read.

    Raises:
        Fgclip2Error: there is nothing of that name, it is of no known kind, damaged, or holds no picture.
    """
    path = Path(given)
    if not path.exists():
        raise Fgclip2Error(f"{str(path)!r} does not exist (looked in {Path.cwd()}); give a folder, a list or a shard")
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        closed: list[tuple[Path, str]] = []
        try:
            pictures = find_pictures(path, leave_out=leave_out, unreadable=closed)[0]
            sources = [Source(picture.relative_to(path).as_posix()) for picture in pictures]
        except Fgclip2Error:
            if not shards:
                raise
            sources = [source for shard in shards for source in _shard(shard)]
        return path.resolve(), sources + [_closed(folder.relative_to(path), reason) for folder, reason in closed]
    if path.suffix.lower() == ".tar":
        return path.parent.resolve(), _shard(path)
    if path.suffix.lower() not in _LISTS:
        raise Fgclip2Error(f"{str(path)!r} is no list of pictures; give a folder, .tar shards, or {', '.join(_LISTS)}")
    base = Path(root) if root is not None else path.parent
    if not base.is_dir():
        raise Fgclip2Error(f"the picture folder {str(base)!r} does not exist (looked in {Path.cwd()})")
    sources = [_of_fields(fields, base) for fields in _read_list(path)]
    if not sources:
        raise Fgclip2Error(f"{path} names no picture")
    return base.resolve(), _without_repeats(sources)


def read_picture(root: Path, name: str, span: tuple[int, int] | None = None) -> bytes:
    """The encoded bytes of a picture.

    Args:
        root: of the collection.
        name: relative to it.
        span: first byte and length in the shard, for a picture in one.

    Raises:
        PictureError: the name leads out of the root (also through a link), or the file cannot be read.
    """
    file = inside(root, name.partition("#")[0] if span is not None else name)
    try:
        return file.read_bytes() if span is None else read_span(file, *span, name)
    except OSError as error:
        raise PictureError("gone", f"picture {str(file)!r} cannot be read ({error.strerror or error})") from error
    except Fgclip2Error as error:
        raise PictureError("gone", str(error)) from error


def span_of(extra: Mapping[str, Any]) -> tuple[int, int] | None:
    """Place of a picture in its shard, from its metadata; ``None`` for a picture in a file of its own."""
    start, length = (extra.get(key) for key in SPAN)
    return None if start is None or length is None else (int(start), int(length))


def inside(root: Path, name: str) -> Path:
    """The file of a name below ``root``.

    Raises:
        PictureError: it would be outside.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or Path(name).drive:
        raise PictureError("outside", f"the name {name!r:.120} does not stay in the picture folder {str(root)!r}")
    file = root.joinpath(*parts)
    if not file.resolve().is_relative_to(root.resolve()):
        raise PictureError("link", f"{name!r:.120} is a link that leads out of the picture folder {str(root)!r}")
    return file


def _closed(folder: Path, reason: str) -> Source:
    """What stands for a subfolder that cannot be listed."""
    name = f"{folder.as_posix()}/"
    return Source(name, problem=f"the folder cannot be read ({reason}): its pictures are left as they are", hides=name)


def _shard(path: Path) -> list[Source]:
    """The pictures of a tar file; of the ``.json`` beside one (webdataset's way) its plain fields and boxes."""
    sources: list[Source] = []
    told: dict[str, Mapping[str, Any]] = {}
    stopped = ""
    try:
        with path.open("rb") as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    while (member := archive.next()) is not None:
                        archive.members.clear()  # type: ignore[attr-defined]  # or all headers stay in memory
                        key, suffix = os.path.splitext(member.name)
                        if not member.isfile():
                            continue
                        if suffix.lower() in PICTURE_SUFFIXES:
                            place = dict(zip(SPAN, (member.offset_data, member.size), strict=True))
                            sources.append(Source(f"{path.name}#{member.name}", place))
                        elif suffix.lower() == ".json":
                            stream.seek(member.offset_data)
                            told[f"{path.name}#{key}"] = _json_object(stream.read(member.size))
                    stopped = how_it_ends(stream, archive.offset)
            except tarfile.TarError as error:
                stopped = f"it is no plain tar file, or cut short ({error})"
    except OSError as error:
        raise Fgclip2Error(f"{path} cannot be read ({error.strerror or error})") from error
    joined = []
    for source in sources:
        fields = told.get(os.path.splitext(source.name)[0], {})
        boxes, shares, problem = _boxes(fields)
        joined.append(Source(source.name, {**_plain(fields), **source.extra}, boxes, shares, problem))
    joined = list({source.name: source for source in joined}.values())  # of one name twice the last counts, as for tar
    if stopped:
        joined.append(
            Source(
                f"{path.name}#end", problem=f"{stopped}: pictures after the last whole one are lost",
                hides=f"{path.name}#",
            )
        )  # fmt: skip
    return joined


def _json_object(data: bytes) -> Mapping[str, Any]:
    """A picture does not fail for what stands beside it."""
    try:
        fields = json.loads(data)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _read_list(path: Path) -> Iterable[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            try:
                return pyarrow.parquet.read_table(path).to_pylist()
            except pyarrow.ArrowException as error:
                raise ValueError(str(error)) from error
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".txt":
            return [{"image": line.strip()} for line in text.splitlines() if line.strip()]
        if suffix == ".csv":
            return _csv(path)
        if suffix == ".jsonl" or not text.lstrip().startswith(("[", "{")):
            return [_line(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        return list(_json_list(json.loads(text)))
    except (OSError, ValueError) as error:
        raise Fgclip2Error(f"{path} cannot be read as a list of pictures ({error})") from error


def _csv(path: Path) -> list[Mapping[str, Any]]:
    """The lines of a table, its columns of numbers or truth values where all of their values are."""
    import pyarrow
    from pyarrow import csv

    problems: list[Mapping[str, Any]] = []

    def note(row: csv.InvalidRow) -> str:
        problems.append({"problem": f"line {row.number} has {row.actual_columns} of {row.expected_columns} columns"})
        return "skip"

    reading = csv.ReadOptions(use_threads=False)  # or lines have no numbers
    parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note)
    try:
        typed = csv.read_csv(path, reading, parsing)
        problems.clear()
        as_text = csv.ConvertOptions(column_types=dict.fromkeys(typed.column_names, pyarrow.string()))
        table = csv.read_csv(path, reading, parsing, as_text)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    for number, name in enumerate(table.column_names):
        column = typed.column(number)
        number_like = pyarrow.types.is_floating(column.type) or pyarrow.types.is_boolean(column.type)
        if pyarrow.types.is_integer(column.type):  # 007 is a text
            kept = table.column(number).filter(column.is_valid())
            number_like = kept.equals(column.drop_null().cast(pyarrow.string()))
        if number_like and name not in _PATH_KEYS:
            table = table.set_column(number, name, column)
    return table.to_pylist() + problems


def _line(line: str, number: int) -> Mapping[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        return {"problem": f"line {number} is not JSON ({error})"}
    return fields if isinstance(fields, dict) else {"problem": f"line {number} is no JSON object"}


def _json_list(content: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, dict) and isinstance(content.get("images"), list):  # COCO
        boxes: dict[Any, list[list[float]]] = {}
        for item in content.get("annotations", ()):
            x, y, width, height = item["bbox"]
            if width > 0 and height > 0:
                boxes.setdefault(item["image_id"], []).append([x, y, x + width, y + height])
        for image in content["images"]:
            plain = {key: value for key, value in image.items() if key not in ("id", "width", "height")}
            yield {**plain, "boxes": boxes.get(image.get("id"), [])}
    elif isinstance(content, list):
        yield from ({"image": item} if isinstance(item, str) else item for item in content)
    else:
        raise ValueError("it is neither a list nor COCO")


def _of_fields(fields: Any, base: Path) -> Source:
    """One entry of a list of names relative to ``base``, as a picture or with its problem."""
    if not isinstance(fields, Mapping):
        return Source(f"{fields!r:.60}", problem="it is no object with an image")
    given = next((fields[key] for key in _PATH_KEYS if isinstance(fields.get(key), str) and fields[key]), None)
    if given is None:
        wanted = f"it has none of {', '.join(_PATH_KEYS)}"
        return Source(f"{dict(fields)!r:.60}", problem=str(fields.get("problem", wanted)))
    name = given
    if os.path.isabs(given):
        relative = _relative(Path(given), base)
        if relative is None:
            return Source(given, problem=f"it is not in the picture folder {str(base)!r}; give --root")
        name = relative
    name = PurePosixPath(name).as_posix()  # ./a/b.jpg -> a/b.jpg
    boxes, shares, problem = _boxes(fields)
    return Source(name, _plain(fields), boxes, shares, problem)


def _relative(file: Path, base: Path) -> str | None:
    """An absolute path as a name below ``base``, whichever links either of them goes through; ``None`` when outside."""
    root = base.resolve()
    for folder, of in ((Path(os.path.abspath(base)), file), (root, file), (root, file.parent.resolve() / file.name)):
        if of.is_relative_to(folder):
            return of.relative_to(folder).as_posix()
    return None


def _boxes(fields: Mapping[str, Any]) -> tuple[list[list[float]], bool, str]:
    """Boxes of an entry, whether they are shares of the sides, and what is wrong with them."""
    shares = "boxes" not in fields and bool(fields.get("bbox_info"))
    given = [item.get("bbox", ())[:4] for item in fields["bbox_info"]] if shares else fields.get("boxes") or []
    try:
        boxes = [[float(value) for value in box] for box in (json.loads(given) if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        return [], shares, f"its boxes {given!r:.60} are not numbers"
    for box in boxes:
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            return [], shares, f"its box {box} is not x1, y1, x2, y2 with area"
    return boxes, shares, ""


def _plain(fields: Mapping[str, Any]) -> dict[str, Value]:
    """What can be a column: texts, numbers and truth values under names that are not the store's own."""
    return {
        key: value
        for key, value in fields.items()
        if isinstance(key, str)
        and key not in _RESERVED
        and key not in _PATH_KEYS
        and isinstance(value, (str, int, float, bool))
        and value == value  # nan is no number to filter by, and would differ from itself in every run
    }


def _without_repeats(sources: Iterable[Source]) -> list[Source]:
    """The first of each name; a picture that a list names twice is one picture."""
    kept: dict[str, Source] = {}
    for source in sources:
        kept.setdefault(source.name, source)
    return list(kept.values())
