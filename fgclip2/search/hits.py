"""What a search returns: pictures with scores, and where in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.search.problems import PictureError, Reason
from fgclip2.search.sources import SPAN, read_picture, span_of

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Hit:
    """One found picture.

    Attributes:
        name: of the picture, relative to ``root``.
        root: folder of the collection.
        score: by which hits are ordered, in standard deviations above the collection's mean.
        whole_score: cosine of the whole picture to the query (the mean, for several texts); ``None`` for a query that
            says nothing of whole pictures. With texts taken away an inner product, as ``part_scores``.
        part_scores: cosine of the best place to each part of the query.
        boxes: that place for each part: x1, y1, x2, y2 in pixels.
        parts: the parts of the query.
        metadata: the picture's row in the store, without its name.
        similarity: (P, h, w) float16, what every patch scores for every part; ``None`` when it was not looked at again.
        problem: why the picture could not be looked at again; empty when it could, or nobody asked.
        reason: the same as a key of ``problems.REASONS``, which says it in both languages; ``None`` without a problem.
        follow_links: read the picture also through a link that leads out of ``root``, as it was indexed.
        look: computes ``similarity`` for a hit that was not looked at again; ``heat_map`` asks it.
    """

    name: str
    root: Path = field(repr=False)
    score: float
    whole_score: float | None
    part_scores: tuple[float, ...]
    boxes: tuple[Box, ...]
    parts: tuple[str, ...]
    metadata: Mapping[str, Any] = field(repr=False)
    similarity: np.ndarray | None = field(default=None, repr=False)
    problem: str = ""
    reason: Reason | None = None
    follow_links: bool = field(default=False, repr=False)
    look: Callable[[Hit], np.ndarray] | None = field(default=None, repr=False)

    @property
    def box(self) -> Box:
        """Where the first part is."""
        return self.boxes[0]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture in pixels."""
        return self.metadata["width"], self.metadata["height"]

    def image(self) -> Image.Image:
        """The picture.

        Raises:
            PictureError: it is gone or cannot be read.
        """
        return self.decode(read_picture(self.root, self.name, span_of(self.metadata), self.follow_links))

    def current(self) -> bytes:
        """The encoded bytes of the picture, if it is still the one that was indexed.

        Raises:
            PictureError: it is gone, cannot be read, or has changed.
        """
        data = read_picture(self.root, self.name, span_of(self.metadata), self.follow_links)
        if hashlib.sha256(data).hexdigest() != self.metadata["sha256"]:
            raise PictureError(
                "changed", f"picture {self.name!r} has changed since it was indexed; run fgclip2 index again"
            )
        return data

    def decode(self, data: bytes) -> Image.Image:
        """Its bytes as a picture.

        Raises:
            PictureError: they are none.
        """
        from fgclip2.images import open_image

        try:
            return open_image(data)
        except Fgclip2Error as error:
            raise PictureError("damaged", f"{self.name!r}: {error}") from error

    def drawn(self, side: int | None = None, labels: Sequence[str] | None = None) -> Image.Image:
        """The picture with the box of every part.

        Args:
            side: shrink it to at most so many pixels before it is drawn.
            labels: what is written at the boxes, one a part; ``None`` for the parts themselves.
        """
        from fgclip2.visualize import draw_boxes, shrunk

        image = self.image()
        small = image if side is None else shrunk(image, side)
        # Boxes are in pixels of the picture as it was indexed.
        factors = np.array([small.width / self.size[0], small.height / self.size[1]] * 2)
        return draw_boxes(small, np.array(self.boxes) * factors, self.parts if labels is None else labels)

    def heat_map(self, part: int = 0, side: int | None = None, label: str | None = None) -> Image.Image:
        """The picture under the similarity of its patches to a part; computed now if the hit was not looked at again.

        Args:
            part: its number.
            side: as in ``drawn``.
            label: what is written on it; ``None`` for the part itself.

        Raises:
            PictureError: the picture is gone, has changed or cannot be read.
            Fgclip2Error: the hit is of no index that could look at it.
        """
        from fgclip2.visualize import heat_map, shrunk

        similarity = self.similarity
        if similarity is None and self.problem:
            raise PictureError(self.reason or "gone", f"{self.name!r} has no heat-map: {self.problem}")
        if similarity is None:
            if self.look is None:
                raise Fgclip2Error(f"{self.name!r} has no heat-map; take a hit of Index.search")
            similarity = self.look(self)
        image = self.image()
        small = image if side is None else shrunk(image, side)
        return heat_map(small, similarity[part], label=self.parts[part] if label is None else label)

    def to_json(self) -> dict[str, Any]:
        """Everything but the similarity, as plain values."""
        rounded = [[round(value, 1) for value in box] for box in self.boxes]
        return {
            "name": self.name,
            "score": round(self.score, 4),
            "whole_score": None if self.whole_score is None else round(self.whole_score, 4),
            "parts": [
                {"text": text, "score": round(score, 4), "box": box}
                for text, score, box in zip(self.parts, self.part_scores, rounded, strict=True)
            ],
            "size": list(self.size),
            "metadata": {
                key: value
                for key, value in self.metadata.items()
                if value is not None and key not in (*SPAN, "width", "height", "boxes")
            },
            **({"problem": self.problem} if self.problem else {}),
        }


@dataclass(frozen=True, eq=False)
class Hits(Sequence[Hit]):
    """The answer to one query, best first.

    Attributes:
        query: in one line.
        parts: what was looked for as regions.
        kind: what whole pictures were compared with: a ``short`` or ``long`` text, or a ``picture``.
        found: the hits.
        total: pictures in the store.
        allowed: of them, those that met the conditions.
        seconds: time taken.
        looked_at: how many of the best were looked at again, patch by patch.
    """

    query: str
    parts: tuple[str, ...]
    kind: str
    found: tuple[Hit, ...]
    total: int
    allowed: int
    seconds: float
    looked_at: int = 0

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.found[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.found)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "query": self.query,
            "parts": list(self.parts),
            "compared_with": self.kind,
            "pictures": self.total,
            "allowed": self.allowed,
            "seconds": round(self.seconds, 4),
            "looked_at": self.looked_at,
            "hits": [hit.to_json() for hit in self.found],
        }

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """A contact sheet in one file, see ``fgclip2.search.html``."""
        from fgclip2.search.html import write_page

        return write_page(self, Path(path))
