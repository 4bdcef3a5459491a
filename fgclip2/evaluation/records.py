"""What a benchmark's reader yields, one kind a task. Nothing is decoded here: pictures are named, not opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Language = Literal["en", "zh"]
Box: TypeAlias = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright picture; not checked, for files have wrong ones, which are counted."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture and the captions that are true of it, at least one."""

    image: Path
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Boxed:
    """A picture, its boxes, and the class number of each, from 0."""

    image: Path
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A region, or the whole picture where ``box`` is None, with its true text first and false ones after it.

    ``group`` is the split that the record counts for, such as ``hard``.
    """

    image: Path
    texts: tuple[str, ...]
    group: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and its class number, from 0."""

    image: Path
    label: int


@dataclass(frozen=True, slots=True)
class Masked:
    """A picture and its label map: one channel, 8 or 16 bit; values that are no class number are not judged."""

    image: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class Truth:
    """What a detector's results are compared with: an LVIS annotation file, the folder of its pictures, and these."""

    annotation_file: Path
    image_root: Path
    images: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a picture, for a model that answers in words.

    Attributes:
        id: as in the file that answers are given in.
        image: file, or encoded bytes where the data set has pictures inside.
        text: what is asked.
        answers: the right ones; several where people were asked, an option's letter for multiple choice.
        group: split or subject that the record counts for.
        options: of multiple choice, in the order of the letters A, B, ...
        box: of a referred object.
        circle: questions of one circle count once, when all of them are answered right (MMBench).
    """

    id: str
    image: Path | bytes
    text: str
    answers: tuple[str, ...] = ()
    group: str = ""
    options: tuple[str, ...] = ()
    box: Box | None = None
    circle: str | None = None


Record: TypeAlias = "Captioned | Boxed | Choice | Labelled | Masked | Truth | Question"
Records: TypeAlias = Iterator[Record]


def pictures(record: Record) -> Sequence[Path]:
    """The picture files that a record names."""
    if isinstance(record, Truth):
        return record.images
    if isinstance(record, Masked):
        return (record.image, record.mask)
    return (record.image,) if isinstance(record.image, Path) else ()
