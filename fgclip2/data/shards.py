"""Webdataset shards: tar files of a picture and a FineHARD record a sample, read at any place."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from fgclip2.data.finehard import decode_json, is_chinese, make_record
from fgclip2.data.media import PICTURE_SUFFIXES
from fgclip2.data.records import Record, RecordError, check_index, read_span
from fgclip2.errors import Fgclip2Error

_BLOCK: Final = 512


class TarRecords:
    """The samples of one shard: consecutive members ``key.jpg`` (or another picture) and ``key.json``.

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
        return make_record(fields, name, self.path.parent, image, "zh" if "is_cn" in fields else "en")


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
    samples: list[_Sample] = []
    with path.open("rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # or all headers stay in memory
                    if member.isfile():
                        _add(samples, member, stream, size)
                stopped = how_it_ends(stream, archive.offset)
        except tarfile.TarError as error:
            if not samples and size >= _BLOCK:
                raise Fgclip2Error(
                    f"{path} is no tar file, or a compressed one ({error}); samples are read at any place, so shards "
                    "must be plain .tar files"
                ) from error
            stopped = f"the shard is cut short ({error})"
    for sample in samples:
        if not sample.problem and sample.picture[0] < 0:
            sample.problem = "its picture is missing"
        elif not sample.problem and sample.record[0] < 0:
            sample.problem = "its .json is missing"
    if stopped and samples and samples[-1].problem:
        samples[-1].problem = f"{stopped}: {samples[-1].problem}, and samples after it are lost"
    elif stopped:
        # Shards mostly hold one language: what is lost had that of the sample before.
        chinese = samples[-1].chinese if samples else False
        samples.append(_Sample("end", chinese, problem=f"{stopped}: samples after the last whole one are lost"))
    return samples


def _add(samples: list[_Sample], member: tarfile.TarInfo, stream: BinaryIO, size: int) -> None:
    """Note one member: a part of the last sample, or the first of a new one. Other files of a sample are left alone."""
    folder, _, file = member.name.rpartition("/")
    stem, _, suffix = file.partition(".")
    key = f"{folder}/{stem}" if folder else stem
    suffix = f".{suffix.lower()}"
    if not stem or (suffix != ".json" and suffix not in PICTURE_SUFFIXES):
        return
    if not samples or samples[-1].key != key:
        samples.append(_Sample(key, samples[-1].chinese if samples else False))
    sample = samples[-1]
    part = (member.offset_data, member.size)
    if (sample.record if suffix == ".json" else sample.picture)[0] >= 0:
        sample.problem = f"it has two files of one kind, the second being {member.name}"
    elif sum(part) > size:
        sample.problem = f"{member.name} has {size - part[0]:,} of its {part[1]:,} bytes"
    if suffix == ".json":
        sample.record = part
        stream.seek(part[0])
        sample.chinese = is_chinese(stream.read(part[1]))
    else:
        sample.picture = part


def how_it_ends(stream: BinaryIO, offset: int) -> str:
    """What is wrong with the end of the archive, where tarfile stops without a word; empty when nothing is."""
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        return f"the shard is cut short (it ends at byte {offset + len(block):,} without an end mark)"
    return f"the shard is damaged at byte {offset:,}" if any(block) else ""
