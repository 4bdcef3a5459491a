"""How large the benchmarks really are, so that a part of one is never taken for the whole.

Only sizes that are published and that a reader here counts in the same way are given. Of FG-OVD, SugarCrepe,
BoxClass-CN, DCI-CN, DOCCI-CN, PASCAL Context and MMBench the files in circulation, or their counts, differ; nothing is
claimed of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fgclip2.evaluation.records import Boxed, Captioned, Truth

Unit: TypeAlias = Literal["pictures", "boxes", "pairs", "questions", "records"]
"""What is counted; a pair is a caption with its picture."""


class Size(NamedTuple):
    """So many of what."""

    total: int
    unit: Unit


class Extent(NamedTuple):
    """What was found of a benchmark, and what there is of it; ``expected`` is None where that is not known."""

    found: int
    unit: Unit
    expected: int | None

    @property
    def complete(self) -> bool | None:
        """Whether this is the whole set; None where its size is not known. More than there is, is another set."""
        return None if self.expected is None else self.found == self.expected

    def __str__(self) -> str:
        """Like ``42 of 5,000 pictures``."""
        of = "" if self.expected is None else f" of {self.expected:,}"
        return f"{self.found:,}{of} {self.unit}"


EXPECTED: Final[dict[str, Size]] = {
    "coco_box": Size(36_781, "boxes"),  # crowds too
    "lvis_box": Size(244_707, "boxes"),
    "lvis_minival": Size(4_809, "pictures"),
    "lvis_val": Size(19_809, "pictures"),
    "sharegpt4v": Size(1_000, "pictures"),
    "dci": Size(7_805, "pictures"),
    "coco": Size(5_000, "pictures"),
    "flickr30k": Size(1_000, "pictures"),
    "lit_cn": Size(33_010, "pairs"),
    "flickr30k_cna": Size(1_000, "pictures"),
    "coco_cn": Size(1_000, "pictures"),
    "imagenet": Size(50_000, "pictures"),
    "imagenet_v2": Size(10_000, "pictures"),
    "a847": Size(2_000, "pictures"),
    "a150": Size(2_000, "pictures"),
    "voc20": Size(1_449, "pictures"),
    "voc21": Size(1_449, "pictures"),
    "gqa": Size(12_578, "questions"),
    "mmmu": Size(900, "questions"),
    "textvqa": Size(5_000, "questions"),
    "refcoco": Size(10_834 + 5_657 + 5_095, "questions"),  # val, testA, testB
}
"""Benchmark to what its reader yields of the complete set."""


def extent(name: str, records: Iterable[Any]) -> Extent:
    """Count a benchmark's records in its unit, or as records where its size is not known."""
    size = EXPECTED.get(name)
    if size is None:
        return Extent(sum(1 for _ in records), "records", None)
    return Extent(sum(_amount(record, size.unit) for record in records), size.unit, size.total)


def _amount(record: Any, unit: Unit) -> int:
    if unit == "boxes" and isinstance(record, Boxed):
        return len(record.boxes)
    if unit == "pairs" and isinstance(record, Captioned):
        return len(record.captions)
    return len(record.images) if isinstance(record, Truth) else 1
