"""Webdataset shards: tar files of a picture and a FineHARD record a sample, read at any place."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from fgclip2.data.finehard import decode_json, is_chinese, is_marked, make_record
from fgclip2.data.media import PICTURE_SUFFIXES, is_hidden
from fgclip2.data.records import Record, RecordError, check_index, read_span
from fgclip2.errors import Fgclip2Error

_BLOCK: Final = 512


class TarRecords:
    """The samples of one shard: consecutive members ``key.jpg`` (or another picture) and ``key.json``.
    See ``beside`` for names with further dots.

    The shard is read through once, to note where each sample lies and which are Chinese. Samples before a cut or
    damaged place stay usable; the one that was cut keeps a number and raises when it is asked for, and where whole
    samples may be missing one more at the end says so.

    Args:
        path: an uncompressed tar file.

    Raises:
        Fgclip2Error: the file cannot be read or is no uncompressed tar file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            samples = _scan(path)
        except OSError as error:
            raise Fgclip2Error(f"{path} cannot be read ({error.strerror or error})") from error
        self._keys = np.array([sample.key.encode() for sample in samples])
        self._spans = np.array([(*sample.picture, *sample.record) for sample in samples], np.int64).reshape(-1, 4)
        self._problems = {index: sample.problem for index, sample in enumerate(samples) if sample.problem}
        self.languages = np.array([sample.chinese for sample in samples], np.uint8)

    def __len__(self) -> int:
        return len(self.languages)

    def __getitem__(self, index: int) -> Record:
        check_index(index, len(self))
        name = f"{self.path.name}#{self._keys[index].decode()}"
        if index in self._problems:
            raise RecordError(name, self._problems[index])
        picture, picture_length, record, record_length = self._spans[index].tolist()
        fields = decode_json(read_span(self.path, record, record_length, name), name)
        image = read_span(self.path, picture, picture_length, name)
        return make_record(fields, name, self.path.parent, image, "zh" if is_marked(fields.get("is_cn")) else "en")


@dataclass(frozen=True)
class Member:
    """One file of a shard: its name, and where its bytes lie."""

    name: str
    start: int
    size: int


def members(archive: tarfile.TarFile) -> Iterator[Member]:
    """The files of an archive, hard links as the file that they link to; hidden ones are left out."""
    places: dict[str, tuple[int, int]] = {}
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # or all headers stay in memory
        if member.isfile():
            places[member.name] = (member.offset_data, member.size)
        elif not (member.islnk() and member.linkname in places):
            continue
        if not is_hidden(member.name):
            yield Member(member.name, *places[member.linkname if member.islnk() else member.name])


def sample_key(name: str) -> tuple[str, str]:
    """Key of a member's sample, up to the first dot of its base name, and the rest, as webdataset has it.

    ``./a/0.image.jpg`` gives ``a/0`` and ``image.jpg``; the rest is in lower case.
    """
    folder, _, file = name.rpartition("/")
    stem, _, rest = file.partition(".")
    folder = "/".join(part for part in folder.split("/") if part not in ("", "."))
    return (f"{folder}/{stem}" if folder else stem), rest.lower()


def suffix_of(name: str) -> str:
    """The last part of a member's name, with its dot, in lower case."""
    return os.path.splitext(name)[1].lower()


def beside(picture: str, pictures: Sequence[str], files: Sequence[str]) -> str | None:
    """Which of the files of one sample belongs to a picture of it.

    First by webdataset's rule: the sample has one picture, and the file is named by the key alone. Then by the last
    dot: ``photo.2024.json`` is of ``photo.2024.jpg``. Then what is named by the key, and at last the only one there is.

    Args:
        picture: name of a member.
        pictures: names of all pictures of the sample, those of one key.
        files: names of its files of the wanted kind.
    """
    bare = next((name for name in files if "." not in sample_key(name)[1]), None)
    if bare is not None and len(pictures) == 1:
        return bare
    stem = os.path.splitext(picture)[0]
    alike = next((name for name in files if os.path.splitext(name)[0] == stem), None)
    return alike or bare or (files[0] if len(pictures) == len(files) == 1 else None)


@dataclass
class _Group:
    """Consecutive members of one key."""

    key: str
    pictures: dict[str, tuple[int, int]] = field(default_factory=dict)
    records: dict[str, tuple[int, int]] = field(default_factory=dict)
    chinese: dict[str, bool] = field(default_factory=dict)
    problem: str = ""


@dataclass
class _Sample:
    """Where the parts lie (start and length in bytes; start -1: not there), and what is wrong with them."""

    key: str
    chinese: bool
    picture: tuple[int, int] = (-1, 0)
    record: tuple[int, int] = (-1, 0)
    problem: str = ""


def _scan(path: Path) -> list[_Sample]:
    size = path.stat().st_size
    groups: list[_Group] = []
    with path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in members(archive):
                    _add(groups, member, stream, size)
                stopped = how_it_ends(stream, archive.offset)
        except tarfile.TarError as error:
            if not groups and size >= _BLOCK:
                raise Fgclip2Error(
                    f"{path} is no tar file, or a compressed one ({error}); samples are read at any place, so shards "
                    "must be plain .tar files"
                ) from error
            stopped = f"the shard is cut short ({error})"
    samples: list[_Sample] = []
    for group in groups:
        samples += _samples(group, samples[-1].chinese if samples else False)
    if stopped and samples and samples[-1].problem:
        samples[-1].problem = f"{stopped}: {samples[-1].problem}, and samples after it are lost"
    elif stopped:
        # Shards mostly hold one language: what is lost had that of the sample before.
        chinese = samples[-1].chinese if samples else False
        samples.append(_Sample("end", chinese, problem=f"{stopped}: samples after the last whole one are lost"))
    return samples


def _add(groups: list[_Group], member: Member, stream: BinaryIO, size: int) -> None:
    """Note one member: a part of the last group, or the first of a new one. Other files of a sample are left alone."""
    key, suffix = sample_key(member.name)[0], suffix_of(member.name)
    if suffix != ".json" and suffix not in PICTURE_SUFFIXES:
        return
    if not groups or groups[-1].key != key:
        groups.append(_Group(key))
    group = groups[-1]
    parts = group.records if suffix == ".json" else group.pictures
    if member.name in parts:
        group.problem = f"it has two files of one kind, the second being {member.name}"
    elif member.start + member.size > size:
        group.problem = f"{member.name} has {size - member.start:,} of its {member.size:,} bytes"
    parts[member.name] = (member.start, member.size)
    if suffix == ".json":
        stream.seek(member.start)
        group.chinese[member.name] = is_chinese(stream.read(member.size))


def _samples(group: _Group, chinese: bool) -> list[_Sample]:
    """The samples of a group: one, or one for each picture where each has a ``.json`` of its own."""
    pictures, records = list(group.pictures), list(group.records)
    own = [beside(picture, pictures, records) for picture in pictures]
    if group.problem or (len(pictures) == 1 and own[0] is not None) or len(pictures) * len(records) <= 1:
        picture = group.pictures[pictures[0]] if pictures else (-1, 0)
        name = own[0] if own and own[0] is not None else records[0] if records else None
        sample = _Sample(group.key, group.chinese[name] if name is not None else chinese, picture)
        sample.record = group.records[name] if name is not None else (-1, 0)
        sample.problem = group.problem
        if not sample.problem and not pictures:
            sample.problem = "its picture is missing"
        elif not sample.problem and name is None:
            sample.problem = "its .json is missing"
        return [sample]
    if None not in own and len(set(own)) == len(own):
        stems = [os.path.splitext(picture)[0].removeprefix("./") for picture in pictures]
        return [
            _Sample(stem, group.chinese[str(name)], group.pictures[picture], group.records[str(name)])
            for stem, picture, name in zip(stems, pictures, own, strict=True)
        ]
    second = (pictures if len(pictures) > 1 else records)[1]
    problem = f"it has two files of one kind, the second being {second}"
    return [_Sample(group.key, any(group.chinese.values()), problem=problem)]


def how_it_ends(stream: BinaryIO, offset: int) -> str:
    """What is wrong with the end of the archive, where tarfile stops without a word; empty when nothing is."""
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        return f"the shard is cut short (it ends at byte {offset + len(block):,} without an end mark)"
    return f"the shard is damaged at byte {offset:,}" if any(block) else ""
