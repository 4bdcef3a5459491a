"""COCO values: categories, images, annotations, and the checked data set that holds them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fgclip2.errors import Fgclip2Error


def listed(items: Sequence[Any], most: int = 5) -> str:
    """The first ``most`` items in one line, and how many more there are."""
    rest = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {rest} more" if rest > 0 else "")


@dataclass(frozen=True, slots=True)
class CocoCategory:
    """One class: ``id`` as in the file (any integers, gaps allowed) and its name in any language."""

    id: int
    name: str
    frequency: str | None = None  # LVIS's, as in the file, unchecked
    name_zh: Any = field(default=None, compare=False)  # its Chinese name, as in the file, unchecked
    synonyms: Any = field(default=(), compare=False)  # other words for it, as in the file, unchecked


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One picture: ``file_name`` relative to the image root, ``width`` and ``height`` in pixels as the file states."""

    id: int
    file_name: str
    width: int
    height: int
    neg_category_ids: tuple[int, ...] | None = None  # LVIS: classes that are certainly not there
    not_exhaustive_category_ids: tuple[int, ...] | None = None  # LVIS: classes of which some objects are not marked
    given_id: Any = field(default=None, compare=False)  # the id in the file where that is no whole number


@dataclass(frozen=True, slots=True)
class CocoAnnotation:
    """One object: ``box`` is (x1, y1, x2, y2) in pixels, inside its picture, with x1 < x2 and y1 < y2."""

    id: int
    image_id: int
    category_id: int
    box: tuple[float, float, float, float]
    is_crowd: bool = False
    segmentation: Any = field(default=None, repr=False, compare=False)  # polygons or RLE, as in the file, unchecked
    is_ignored: bool = False
    """Marked ``"ignore": 1``: mmdetection trains on no such object; COCO's evaluation counts it as an object."""


@dataclass(frozen=True)
class CocoDataset:
    """A checked annotation file: every id resolves, every picture exists, every box lies in its picture."""

    annotation_file: Path
    image_root: Path
    images: tuple[CocoImage, ...]
    annotations: tuple[CocoAnnotation, ...]
    categories: tuple[CocoCategory, ...]  # in the order of the file, which is the order of a detector's classes
    dropped: int = 0  # annotations without area that were left out

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names, in the order of the file."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def by_image(self) -> Mapping[int, tuple[CocoAnnotation, ...]]:
        """Image id -> its annotations; every picture has an entry, empty where nothing is annotated."""
        grouped: dict[int, list[CocoAnnotation]] = {image.id: [] for image in self.images}
        for annotation in self.annotations:
            grouped[annotation.image_id].append(annotation)
        return {key: tuple(value) for key, value in grouped.items()}

    def path(self, image: CocoImage) -> Path:
        """Where a picture of this dataset lies."""
        return self.image_root / image.file_name

    def counts(self) -> dict[str, int]:
        """Class name -> objects that are trained: neither crowds nor ignored; classes without any have 0."""
        found = Counter(item.category_id for item in self.annotations if not item.is_crowd and not item.is_ignored)
        return {category.name: found[category.id] for category in self.categories}

    def untrained(self) -> dict[str, str]:
        """Class name -> why no object of it can be trained on, of the classes without one.

        Example:
            >>> dataset.untrained()
            {'person': 'crowds only', 'kite': 'nothing annotated'}
        """
        crowds = {item.category_id for item in self.annotations if item.is_crowd}
        ignored = {item.category_id for item in self.annotations if item.is_ignored and not item.is_crowd}
        reasons = {}
        for category in self.categories:
            kinds = [name for name, ids in (("crowds", crowds), ("ignored objects", ignored)) if category.id in ids]
            reasons[category.name] = f"{' and '.join(kinds)} only" if kinds else "nothing annotated"
        counts = self.counts()
        return {name: reason for name, reason in reasons.items() if not counts[name]}

    def subset(self, names: Iterable[str], *, keep_empty: bool = True) -> CocoDataset:
        """The same pictures with only the objects of some classes.

        Args:
            names: class names as in the file; their order does not matter, the file's is kept.
            keep_empty: keep the pictures in which nothing of these classes is annotated.

        Raises:
            Fgclip2Error: a name that the file does not have; similar ones are named.
        """
        wanted = self.checked_names(names)
        categories = tuple(category for category in self.categories if category.name in wanted)
        kept = {category.id for category in categories}
        annotations = tuple(annotation for annotation in self.annotations if annotation.category_id in kept)
        shown = {annotation.image_id for annotation in annotations}
        images = tuple(image for image in self.images if keep_empty or image.id in shown)
        return replace(self, images=images, annotations=annotations, categories=categories)

    def checked_names(self, names: Iterable[str]) -> tuple[str, ...]:
        """``names`` without surrounding blanks and repetitions, each of them a class of this file.

        Raises:
            Fgclip2Error: no name at all, or a name that the file does not have; similar ones are named.
        """
        wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
        if not wanted:
            raise Fgclip2Error(f"no class was named; {self.annotation_file} has {listed(self.names, 10)}")
        unknown = [name for name in wanted if name not in self.names]
        if unknown:
            similar = sorted({match for name in unknown for match in difflib.get_close_matches(name, self.names)})
            hint = f"did you mean {listed(similar)}?" if similar else f"it has {listed(self.names, 10)}"
            raise Fgclip2Error(f"{self.annotation_file} has no class {listed(unknown)}; {hint}")
        return wanted
