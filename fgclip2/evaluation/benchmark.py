"""What a benchmark is: its name, the files that it needs, its size, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from fgclip2.evaluation.records import Language
from fgclip2.evaluation.sizes import EXPECTED, Size

Task = Literal[
    "fine_grained",
    "box_classification",
    "detection",
    "long_retrieval",
    "short_retrieval",
    "classification",
    "segmentation",
    "answers",
]
TASKS: Final[tuple[Task, ...]] = get_args(Task)

Reader: TypeAlias = "Callable[[Path], Iterator[Any]]"


@dataclass(frozen=True, slots=True)
class Part:
    """What a benchmark needs: ``path`` of a file or folder below the data root, or ``others``; and where it is from."""

    path: str
    source: str
    others: tuple[str, ...] = ()

    def missing(self, root: Path) -> bool:
        """Whether neither it nor one of ``others`` is there."""
        return not any((root / name).exists() for name in (self.path, *self.others))


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: as on the command line.
        title: as in tables.
        task: which protocol judges it.
        language: of its texts.
        parts: what it needs on disk.
        read: the data root to records of its task, one by one.
        classes: the data root to class names in class order, where it has classes.
        count: classes that are judged, where there are.
        in_paper: one of the paper's 29.
        optional: what it can do without, but is another benchmark without.
    """

    name: str
    title: str
    task: Task
    language: Language
    parts: tuple[Part, ...]
    read: Reader
    classes: Callable[[Path], tuple[str, ...]] | None = None
    count: int | None = None
    in_paper: bool = True
    optional: tuple[Part, ...] = ()

    @property
    def expected(self) -> Size | None:
        """How large the complete set is; None where that is not known for certain."""
        return EXPECTED.get(self.name)
