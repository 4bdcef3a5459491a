"""What of a benchmark is there, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.benchmark import Part
from fgclip2.evaluation.datasets import BENCHMARKS
from fgclip2.evaluation.records import pictures
from fgclip2.evaluation.sizes import Extent, extent

_NAMED: Final = 5  # missing pictures that a message names


@dataclass(frozen=True, slots=True)
class Check:
    """What is there of a benchmark.

    Attributes:
        missing: parts that are not there.
        records: how many the reader found; 0 when parts are missing.
        absent: picture files that records name and that do not exist.
        extent: how much of the set these records are, None when parts are missing.
        optional: parts that are not there and need not be.
    """

    missing: tuple[Part, ...]
    records: int
    absent: tuple[Path, ...]
    extent: Extent | None = None
    optional: tuple[Part, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, as far as is known: the sizes of some sets are not."""
        whole = self.extent is not None and self.extent.complete is not False
        return whole and not self.missing and not self.absent and self.records > 0

    def lines(self) -> list[str]:
        """What to tell a person."""
        if self.missing:
            return [f"missing: {part.path} ({part.source})" for part in self.missing]
        found = [f"{self.records:,} records"]
        if self.extent is not None and self.extent.complete is not None:
            found = [str(self.extent) if self.extent.complete else f"not the whole set: {self.extent}"]
        if self.absent:
            named = ", ".join(map(str, self.absent[:_NAMED]))
            more = f" and {len(self.absent) - _NAMED:,} more" if len(self.absent) > _NAMED else ""
            found.append(f"missing: {len(self.absent):,} pictures that they name: {named}{more}")
        elif not self.records:
            found.append("missing: there is nothing in these files; fetch them again")
        return found + [f"not there, and not needed: {part.path} ({part.source})" for part in self.optional]


def check(name: str, root: Path) -> Check:
    """See what is there of a benchmark, without opening a picture.

    Raises:
        Fgclip2Error: an unknown name, no such folder, or a file that is damaged.
    """
    if name not in BENCHMARKS:
        raise Fgclip2Error(f"no benchmark {name!r}; choose of {', '.join(BENCHMARKS)}")
    if not root.is_dir():
        raise Fgclip2Error(f"the data root {str(root)!r} is no folder; give the one that holds coco/, LIT-CN/, ...")
    benchmark = BENCHMARKS[name]
    missing = tuple(part for part in benchmark.parts if part.missing(root))
    if missing:
        return Check(missing, 0, ())
    if benchmark.classes is not None:
        benchmark.classes(root)
    records = 0
    absent: dict[Path, None] = {}

    def seen() -> Iterator[Any]:
        nonlocal records
        for record in benchmark.read(root):
            records += 1
            absent.update(dict.fromkeys(path for path in pictures(record) if not path.is_file()))
            yield record

    size = extent(name, seen())
    optional = tuple(part for part in benchmark.optional if part.missing(root))
    return Check((), records, tuple(absent), size, optional)
