"""What a training record is, whatever file it comes from, and the one way to open such files.

A record is one picture with what is said of it: a short caption, a long one when there is, and regions with texts and
hard negatives. It checks itself: a record that would quietly change the loss (a box that is NaN, empty, reversed or
outside, an empty caption) cannot be made, and the error names it.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np

from fgclip2.data.media import is_hidden
from fgclip2.errors import Fgclip2Error
from fgclip2.names import CJK

_log = logging.getLogger(__name__)
_LOOKED_AT = 200  # records whose marks of language are compared with their characters

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")

ROUNDING: Final = 1e-3
"""How far a normalised box may lie outside 0..1: so much is rounding, and clipped."""

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class RecordError(Fgclip2Error):
    """One record cannot be used.

    Args:
        name: the record, e.g. ``finehard.json#12``.
        reason: what is wrong with it.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class Facts(Protocol):
    """What a source knows of a region beyond its texts, to tell which texts are true of which regions."""

    @property
    def key(self) -> int:
        """Only regions of one key can share a text, other than by its being the same text."""
        ...

    def admits(self, other: Any, bare: bool) -> bool:
        """Whether what is said of ``other`` (of the same key) may be true of this region as well.

        Args:
            other: the facts of the region that the text was made for.
            bare: the text is its bare class name instead of its phrase.
        """
        ...


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """One region of a picture and its texts.

    Attributes:
        box: x1, y1, x2, y2 as shares of the picture's width and height, 0..1.
        texts: the short expression, and the long one when there is.
        negatives: hard negatives of the short one: texts that are false of the region; empty where there are none.
        label: class number from 0, where the source has classes.
        name: bare name of the class, where the source has one.
        facts: what else is known, for sources that can tell what is true of what.
        contrasts: further sets of texts, a true one first and then false ones.
    """

    box: tuple[float, float, float, float]
    texts: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    label: int | None = None
    name: str | None = None
    facts: Facts | None = None
    contrasts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One picture and its texts.

    Attributes:
        name: for messages, e.g. ``finehard.json#12``.
        image: file, encoded bytes, or ``(H, W, 3)`` uint8 pixels.
        language: ``"en"`` or ``"zh"``, of all its texts.
        short: short caption.
        long: long caption, where there is one.
        regions: its regions, any number.
        hard: a caption that is true of the picture, then ones that are nearly it and false; empty where there are none.
        contrasts: further such sets.
        left_out: why optional texts of the file are not here, a sentence each.
        lost_regions: why regions of the file, or texts of regions, are not here, a sentence each.

    Raises:
        RecordError: a caption or text is empty, or a box is NaN, empty, reversed or outside the picture.
    """

    name: str
    image: str | Path | bytes | np.ndarray
    language: Language
    short: str
    long: str | None = None
    regions: tuple[RegionRecord, ...] = ()
    hard: tuple[str, ...] = ()
    contrasts: tuple[tuple[str, ...], ...] = ()
    left_out: tuple[str, ...] = ()
    lost_regions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise RecordError(self.name, f"its language is {self.language!r}; allowed are 'en' and 'zh'")
        if not self.short.strip():
            raise RecordError(self.name, "its short caption is empty")
        if self.long is not None and not self.long.strip():
            raise RecordError(self.name, "its long caption is empty")
        own = (self.short, self.long or "", *self.hard, *(text for each in self.contrasts for text in each))
        problem = first_half_character(own)
        if problem:
            raise RecordError(self.name, problem)
        if len(self.hard) == 1 or not all(text.strip() for text in self.hard):
            raise RecordError(self.name, "its hard captions are a true one alone, or one of them is empty")
        if not all(map(_is_contrast, self.contrasts)):
            raise RecordError(self.name, "a contrast is a true text alone, or a text in it is empty")
        for number, region in enumerate(self.regions):
            problem = region_problem(region, number)
            if problem:
                raise RecordError(self.name, problem)


def region_problem(region: RegionRecord, number: int) -> str | None:
    """Why a region cannot be used, or ``None``.

    Args:
        region: of a record.
        number: of the region in it, for the message.
    """
    problem = _box_problem(region.box)
    if problem:
        box = ", ".join(f"{value:g}" for value in region.box)
        return f"box {number} [{box}] {problem}; boxes are x1, y1, x2, y2 in 0..1"
    if not region.texts or not all(text.strip() for text in region.texts):
        return f"a text of box {number} is empty"
    if not all(text.strip() for text in region.negatives):
        return f"a hard negative of box {number} is empty"
    if not all(map(_is_contrast, region.contrasts)):
        return f"a contrast of box {number} is a true text alone, or a text is empty"
    contrasts = (text for each in region.contrasts for text in each)
    problem = first_half_character((*region.texts, *region.negatives, *contrasts, region.name or ""))
    return f"{problem} of box {number}" if problem else None


def first_half_character(texts: Iterable[str]) -> str | None:
    """What to say of the first text with half of a surrogate pair.

    JSON can hold that (``"\\ud83d"``), and no tokenizer takes it.
    """
    wrong = next((text for text in texts if not _is_encodable(text)), None)
    return None if wrong is None else f"half of a character was cut off in {wrong[:60]!a}"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_contrast(texts: tuple[str, ...]) -> bool:
    return len(texts) > 1 and all(text.strip() for text in texts)


def _box_problem(box: tuple[float, float, float, float]) -> str | None:
    x1, y1, x2, y2 = box
    if not math.isfinite(x1 + y1 + x2 + y2):
        return "is not a number throughout"
    if x1 > x2 or y1 > y2:
        return "is reversed"
    if min(x1, y1) < -ROUNDING or max(x2, y2) > 1 + ROUNDING:
        return "lies outside the picture"
    if min(x2, 1) <= max(x1, 0) or min(y2, 1) <= max(y1, 0):
        return "is empty"
    return None


class RecordSource(Protocol):
    """Records by number. Sources are pickled into worker processes, so they hold paths and offsets, not open files."""

    @property
    def languages(self) -> np.ndarray:
        """uint8 ``(n,)``: the language of every record, as an index into ``LANGUAGES``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """Record ``index``.

        Raises:
            RecordError: it cannot be used; the others can.
        """
        ...


class JoinedRecords:
    """Several sources one after another."""

    def __init__(self, sources: Sequence[RecordSource]) -> None:
        self.sources = tuple(sources)
        self.languages = np.concatenate([source.languages for source in self.sources])
        self._ends = np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return len(self.languages)

    def __getitem__(self, index: int) -> Record:
        check_index(index, len(self))
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[which][index - (int(self._ends[which - 1]) if which else 0)]


def check_index(index: int, length: int) -> None:
    """Raise ``IndexError`` outside ``0..length - 1``: records are not counted from the end."""
    if not 0 <= index < length:
        raise IndexError(f"record {index} of {length}")


def read_span(path: Path, start: int, length: int, name: str) -> bytes:
    """Part of a file. The file is opened anew: cheap next to decoding a picture, and safe in any worker process.

    Raises:
        RecordError: the file cannot be read, or ends earlier.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            data = stream.read(length)
    except OSError as error:
        raise RecordError(name, f"{path.name} cannot be read ({error.strerror or error})") from error
    if len(data) < length:
        raise RecordError(name, f"{path.name} ends at byte {start + len(data):,}, before this record does")
    return data


def open_records(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    image_root: str | os.PathLike[str] | None = None,
) -> RecordSource:
    """Open record files; of each, only where its records lie is kept in memory.

    Args:
        paths: one or several of: ``.json`` or ``.jsonl`` with FineHARD records (a JSON list, or one record a line),
            ``.parquet`` with the same fields as columns, webdataset shards ``.tar`` (``key.jpg|png|webp`` and
            ``key.json``), a folder of such shards or Parquet files. ``shard-{000..010}.tar`` stands for eleven files.
        image_root: the folder that file names of pictures are relative to; None takes the folder of the record file.

    Raises:
        Fgclip2Error: a path does not exist, is of no known kind, or holds no records.
    """
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    files = [file for path in listed for file in _files(os.fspath(path))]
    if not files:
        raise Fgclip2Error("no record file is given; give at least one")
    root = None if image_root is None else Path(image_root)
    if root is not None and not root.is_dir():
        raise Fgclip2Error(f"the picture folder {str(root)!r} does not exist (looked in {Path.cwd()})")
    sources = [_open(file, root) for file in files]
    joined = sources[0] if len(sources) == 1 else JoinedRecords(sources)
    if not len(joined):
        raise Fgclip2Error(f"{', '.join(file.name for file in files[:3])}: there are no records in it")
    _warn_of_marks(joined)
    return joined


def _warn_of_marks(source: RecordSource) -> None:
    """Compare marks of language with the characters of some records: a wrong mark trains with the wrong texts."""
    step = max(1, len(source) // _LOOKED_AT)
    wrong: dict[str, list[str]] = {}
    numbers = range(0, len(source), step)
    for number in numbers:
        try:
            record = source[number]
        except RecordError:  # named when it is trained on
            continue
        text = record.short
        if (record.language == "zh") != bool(CJK.search(text)):
            kind = (
                "marked Chinese and have no Chinese character" if record.language == "zh" else "Chinese and not marked"
            )
            wrong.setdefault(kind, []).append(record.name)
    for kind, names in wrong.items():
        _log.warning(
            "%d of the %d records looked at are %s by is_cn, such as %s: look whether the marks are right",
            *(len(names), len(numbers), kind, names[0]),
        )


def _open(file: Path, image_root: Path | None) -> RecordSource:
    root = file.parent if image_root is None else image_root
    suffix = file.suffix.lower()
    if suffix in (".json", ".jsonl"):
        from fgclip2.data.finehard import JsonRecords

        return JsonRecords(file, root)
    if suffix == ".parquet":
        from fgclip2.data.tables import ParquetRecords

        return ParquetRecords(file, root)
    if suffix == ".tar":
        from fgclip2.data.shards import TarRecords

        return TarRecords(file)
    raise Fgclip2Error(
        f"{str(file)!r} is of no kind that holds records; give .json, .jsonl, .parquet or (unpacked) .tar"
    )


def _files(pattern: str) -> list[Path]:
    files = [Path(name) for name in expanded(pattern)]
    for file in files:
        if not file.exists():
            raise Fgclip2Error(f"the record file {str(file)!r} does not exist (looked in {Path.cwd()})")
    if len(files) > 1 or not files[0].is_dir():
        return files
    for kind in ("*.tar", "*.parquet"):
        found = sorted(file for file in files[0].glob(kind) if not is_hidden(file.name))
        if found:
            return found
    raise Fgclip2Error(f"the folder {pattern!r} holds neither .tar nor .parquet files; name the record file itself")


def expanded(pattern: str) -> list[str]:
    """``a-{08..10}`` -> ``a-08``, ``a-09``, ``a-10``; several braces give all combinations."""
    parts = _BRACES.split(pattern)
    ranges: list[list[str]] = []
    for first, last in zip(parts[1::3], parts[2::3], strict=True):
        if int(first) > int(last):
            raise Fgclip2Error(f"{pattern!r}: {{{first}..{last}}} counts down; write the smaller number first")
        ranges.append([str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)])
    return [
        "".join(text + number for text, number in zip(parts[0::3], (*chosen, ""), strict=True))
        for chosen in product(*ranges)
    ]
