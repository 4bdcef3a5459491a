"""What can be asked of a collection, and the vectors that ask it.

Whole pictures and regions live in two spaces, so a query has vectors in both: a text goes through the ``short`` head
(the ``long`` one when it has too many tokens) for whole pictures, and its parts through the ``box`` head for regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.images import ImageLike, open_image
from fgclip2.processing import TextKind
from fgclip2.search.lists import is_text
from fgclip2.search.problems import QueryError
from fgclip2.splitting import split_phrases, split_texts, unquoted

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

_MOST_PARTS: Final = 32


@dataclass(frozen=True, eq=False)
class Query:
    """A query: texts that must all hold, a picture, or a region of one.

    A text is split at commas and at the ends of sentences, in both languages, but not inside quotes: see
    `fgclip2.splitting.split_phrases`. Each part is looked for as a region of its own. All parts of a short text must be
    there (the one found worst decides); a long caption counts as a whole (the mean of its parts).

    Attributes:
        texts: what must be in the picture, English, Chinese or both.
        minus: what is taken away from it: the vector of each text loses ``minus_weight`` times the mean of these.
        image: a picture to find similar ones of.
        box: x1, y1, x2, y2 in pixels of ``image``: look for this region of it only.
        minus_weight: see ``minus``.
        cut: split the texts; else each is one part.

    Raises:
        Fgclip2Error: neither texts nor a picture, or both; a box without a picture; something to take away from one.
    """

    texts: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    image: ImageLike | None = None
    box: tuple[float, float, float, float] | None = None
    minus_weight: float = 0.5
    cut: bool = True

    def __post_init__(self) -> None:
        given: tuple[object, object] = (self.texts, self.minus)
        if any(isinstance(texts, str) for texts in given):
            raise Fgclip2Error("the texts of a query are one string; give a tuple, Query((text,)), or Query.of(text)")
        if bool(self.texts) == (self.image is not None):
            raise Fgclip2Error(
                "a query has texts or a picture, one of both; give Query(('a red car',)) or Query(image=...)"
            )
        if self.image is None and self.box is not None:
            raise Fgclip2Error("a query has a box but no picture; the box is a region of Query(image=...)")
        if self.minus and not self.texts:
            raise Fgclip2Error("a query takes a text away from a picture; only texts can be taken away from texts")
        for text in (*self.texts, *self.minus):
            if not isinstance(text, str) or not self.parts(text):
                raise QueryError(
                    f"a query has the text {text!r:.60}; every text must be a string with words in it",
                    f"查询含有文本 {text!r:.60}；每段文本都须含有文字",
                )
            if not is_text(text):
                raise QueryError(
                    f"a query has the text {text!r:.60}, which is no UTF-8; type it again",
                    f"查询含有文本 {text!r:.60}，它不是有效的 UTF-8；请重新输入",
                )
        parts = sum(len(self.parts(text)) for text in self.texts)
        if parts > _MOST_PARTS:
            raise QueryError(
                f"a query has {parts} parts between commas and full stops; give at most {_MOST_PARTS}: shorten it",
                f"查询被逗号和句号分成 {parts} 段，至多 {_MOST_PARTS} 段；请缩短",
            )

    def parts(self, text: str) -> list[str]:
        """The parts of one of its texts, each to be found as a region."""
        if self.cut:
            return split_phrases(text)
        return [unquoted(text)] if split_phrases(text) else []

    @classmethod
    def of(cls, query: str | Sequence[str] | Query) -> Query:
        """A query from what a user gives: one text, several that must all hold, or a query."""
        if isinstance(query, Query):
            return query
        return cls((query,)) if isinstance(query, str) else cls(tuple(query))

    @classmethod
    def parse(cls, text: str, minus: str = "") -> Query:
        """A query of texts from one field each: between semicolons or line ends, half- or full-width.

        Args:
            text: the texts that must all hold, such as ``"a red car, left; 黑猫"``, two of them.
            minus: the texts to take away; may be empty.
        """
        return cls(tuple(split_texts(text)), tuple(split_texts(minus)))

    @property
    def label(self) -> str:
        """The query in one line."""
        if self.image is not None:
            return "picture" if self.box is None else "region of a picture"
        plus = " + ".join(self.texts)
        return f"{plus} - {' - '.join(self.minus)}" if self.minus else plus


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query as vectors.

    Attributes:
        whole: (G, D) float32, to compare with whole pictures; G may be 0.
        parts: (P, D) float32, to compare with regions.
        labels: P names of the parts.
        kind: text head of ``whole``, or ``"picture"``.
        join: how parts become one: ``"all"`` takes the worst, ``"mean"`` the mean.
        region_weight: share of the regions in the score, 0..1.
    """

    whole: np.ndarray
    parts: np.ndarray
    labels: tuple[str, ...]
    kind: Literal["short", "long", "picture"]
    join: Literal["all", "mean"]
    region_weight: float

    def joined(self, scores: np.ndarray) -> np.ndarray:
        """Scores (..., P) of the parts -> (...) of the query."""
        return scores.min(-1) if self.join == "all" else scores.mean(-1)


def encode(query: Query, model: FGCLIP2, max_patches: int | None = None) -> EncodedQuery:
    """The vectors of a query.

    Args:
        query: texts or a picture.
        model: embeds them.
        max_patches: of a picture: as many as the pictures had that it is compared with.

    Raises:
        Fgclip2Error: the picture cannot be read, or the box is not one of it.
    """
    if query.image is not None:
        return _encode_picture(query, model, max_patches)
    counts = [model.processor.text.count(text) for text in query.texts]
    kind: Literal["short", "long"] = "long" if max(counts) > model.processor.text.lengths["short"] else "short"
    parts = [part for text in query.texts for part in query.parts(text)]
    # In a long caption the whole says more than its parts, of which each is about a detail.
    return EncodedQuery(
        _embed(model, list(map(unquoted, query.texts)), list(map(unquoted, query.minus)), query, kind),
        _embed(model, parts, [part for text in query.minus for part in query.parts(text)], query, "box"),
        tuple(parts),
        kind,
        "mean" if kind == "long" else "all",
        1 / 3 if kind == "long" else 2 / 3,
    )


def _encode_picture(query: Query, model: FGCLIP2, max_patches: int | None) -> EncodedQuery:
    picture = open_image(query.image)  # type: ignore[arg-type]  # that it is there was checked
    ((_, whole, dense),) = model.image_and_dense_features([picture], max_patches=max_patches)
    box = query.box or (0, 0, *picture.size)
    part = dense.regions([box])
    vector = whole[None] if query.box is None else whole[:0].reshape(0, len(whole))
    weight = 1.0 if query.box is not None else 1 / 3
    return EncodedQuery(_numpy(vector), _numpy(part), (query.label,), "picture", "all", weight)


def _embed(model: FGCLIP2, texts: Sequence[str], minus: Sequence[str], query: Query, kind: TextKind) -> np.ndarray:
    vectors = _numpy(model.text_features(texts, kind=kind))
    if minus:
        vectors = vectors - query.minus_weight * _numpy(model.text_features(minus, kind=kind)).mean(0)
    return vectors


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.as_subclass(torch.Tensor).detach().cpu().numpy()
