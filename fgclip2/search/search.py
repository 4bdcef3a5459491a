"""Searching a store: candidates from both spaces, fused, then looked at again on their dense maps.

Cosines of the two spaces, and of two texts in one space, have scales of their own. So scores are counted in standard
deviations from the mean of a sample of the collection before they are added or compared.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import need
from fgclip2.search.conditions import Condition, meeting
from fgclip2.search.hits import Box, Hit, Hits
from fgclip2.search.index import VectorIndex, open_index
from fgclip2.search.problems import PictureError
from fgclip2.search.query import EncodedQuery, Query, encode
from fgclip2.search.regions import WindowScores
from fgclip2.search.store import Store

if TYPE_CHECKING:
    from PIL import Image

    from fgclip2.predictor import FGCLIP2

_SAMPLE: Final = 256  # pictures that give mean and deviation
_CANDIDATES: Final = 256  # least number of pictures and of regions from each index
_MOST_ROWS: Final = 16_384  # region rows from the index that all parts of a query share, before any is looked at twice
_SCORED: Final = 2048  # pictures whose regions are in memory at a time
_LOOKED_AT: Final = 50  # pictures, where that takes a second or so
_SECONDS: Final = 3.0  # that a processor may take for it
_SPEED: Final = 5e10  # multiplications and additions a second and thread, as processors without bfloat16 reach
_BLOCKS: Final = 13  # of the base model's tower with the dense head; each multiplies by 12 * width**2 weights
_REMEMBERED: Final = 1 << 28  # bytes of dense maps that stay from one query to the next


@dataclass(frozen=True, eq=False)
class _Scores:
    """Mean and deviation of what a query scores on pictures that were not chosen by it."""

    whole: tuple[np.ndarray, np.ndarray]
    parts: tuple[np.ndarray, np.ndarray]


class Index:
    """A searchable collection; open one with ``Index.open``.

    Attributes:
        store: what it searches.
        model: what made the store, and embeds queries.
        root: where its pictures are.
    """

    def __init__(self, store: Store, model: FGCLIP2, root: Path, pictures: VectorIndex, regions: VectorIndex) -> None:
        self.store, self.model, self.root = store, model, root
        self._pictures, self._regions = pictures, regions
        alive = np.flatnonzero(store.alive)
        chosen = np.random.default_rng(0).choice(alive, min(_SAMPLE, len(alive)), replace=False)
        self._sample_whole = store.vectors("pictures", chosen)
        rows, self._sample_starts = _region_rows(store, chosen)
        self._sample_parts = store.vectors("regions", rows)
        self._seen: OrderedDict[str, tuple[np.ndarray, WindowScores]] = OrderedDict()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: FGCLIP2 | str | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        verify: bool = True,
        memory_gb: float | None = None,
    ) -> Index:
        """Open a store for searching; an index that is missing or out of date is made.

        Another process may index into the store meanwhile: what is found is what had been committed. An index that
        cannot be written then, or because nobody may write there, is made in memory, and the log says so.

        Args:
            path: the store's folder, made by ``fgclip2 index``.
            model: the model that made it, or its name; ``None`` loads it by the name it had then.
            root: where the pictures are now; ``None`` for where they were.
            verify: read every file of the store and compare its hash.
            memory_gb: most memory of an index; ``None`` for what the store's own was planned for.

        Raises:
            Fgclip2Error: no store, a damaged one, one of another model, or an empty one.
        """
        need("search", "faiss", "pyarrow", "filelock")
        import fgclip2
        from fgclip2.search.manifest import Manifest

        if model is None or isinstance(model, str):
            model = fgclip2.load(model or Manifest.read(Path(path)).model_name)
        store = Store.open(path, model_hash=model.hash, verify=verify, metadata=True)
        if not len(store):
            raise Fgclip2Error(f"{path} holds no picture; fill it: fgclip2 index PICTURES --out {path}")
        budget = None if memory_gb is None else round(memory_gb * 1e9)
        base = Path(store.manifest.root if root is None else root)
        return cls(store, model, base, open_index(store, "pictures", budget), open_index(store, "regions", budget))

    def __len__(self) -> int:
        """Pictures that can be found."""
        return len(self.store)

    def search(
        self,
        query: str | Sequence[str] | Query,
        *,
        top: int = 20,
        where: Sequence[Condition] = (),
        rerank: int | None = None,
        region_weight: float | None = None,
        progress: bool = False,
    ) -> Hits:
        """The pictures that fit a query best, and where in them.

        Args:
            query: a text (English, Chinese, both), several that must all hold, or a ``Query``.
            top: pictures to return.
            where: conditions on the metadata that must all hold, e.g. ``[("width", ">=", 640)]``.
            rerank: the best so many are looked at again, every window of their dense maps; 0 leaves that out, and boxes
                are then those of the stored regions. ``None`` takes 50, and on a processor as many as it can look at in
                about three seconds, 5 at least (`affordable`).
            region_weight: share of the regions in the score, 0 (whole pictures alone) to 1; ``None`` takes 2/3 for
                phrases and 1/3 for long captions and pictures.
            progress: show a bar on the error stream while pictures are looked at again.

        Raises:
            Fgclip2Error: a query, number or condition that cannot be used.
        """
        begun = time.perf_counter()
        most = _LOOKED_AT if rerank is None else rerank
        if top < 1 or most < 0:
            raise Fgclip2Error(f"top {top}, rerank {most}: give at least 1 picture, and 0 or more to look at again")
        asked = Query.of(query)
        encoded = encode(asked, self.model, self.store.manifest.settings.get("max_patches"))
        if region_weight is not None:
            if not 0 <= region_weight <= 1 or (region_weight < 1 and not len(encoded.whole)):
                raise Fgclip2Error(
                    f"region_weight {region_weight}: give 0 to 1; a region of a picture says nothing of whole "
                    "pictures and takes 1"
                )
            encoded = replace(encoded, region_weight=region_weight)
        allowed = self._allowed(where)
        scale = self._scale(encoded)
        rows = self._candidates(encoded, allowed, max(_CANDIDATES, 4 * top, 2 * most), max(top, most))
        hits = self._scored(encoded, scale, rows, max(top, most))
        if rerank is None:
            most = affordable(self.model, hits[:most], self.store.manifest.settings.get("max_patches"))
        if most:
            looked = self._looked_at(encoded, scale, hits[:most], progress)
            hits = sorted(looked, key=lambda hit: -hit.score) + hits[most:]
        return Hits(
            asked.label, encoded.labels, encoded.kind, tuple(hits[:top]), len(self), int(allowed.sum()),
            time.perf_counter() - begun, min(most, len(hits)),
        )  # fmt: skip

    def _allowed(self, where: Sequence[Condition]) -> np.ndarray:
        """(P,) bool: live pictures that meet the conditions."""
        return self.store.alive & meeting(self.store.metadata, where) if where else self.store.alive

    def _scale(self, encoded: EncodedQuery) -> _Scores:
        best = np.maximum.reduceat(self._sample_parts @ encoded.parts.T, self._sample_starts, axis=0)
        return _Scores(_moments(self._sample_whole @ encoded.whole.T), _moments(best))

    def _candidates(self, encoded: EncodedQuery, allowed: np.ndarray, count: int, distinct: int) -> np.ndarray:
        """Rows of pictures that either index finds for any part of the query.

        Args:
            encoded: the query.
            allowed: (P,) bool, the pictures that count.
            count: least rows for each part from each index. For several parts more, since what has all of them need
                not be among the best for each.
            distinct: pictures that each part must give where there are so many: many regions can be of few pictures.
        """
        mask = None if allowed.all() else allowed
        pictures = int(allowed.sum())
        found: list[np.ndarray] = []
        if encoded.region_weight < 1:
            most = _for_each(count, len(encoded.whole))
            found.append(self._pictures.search(encoded.whole, max(1, min(most, pictures)), mask)[1])
        if encoded.region_weight > 0:
            offsets = self.store.offsets
            mask = None if mask is None else np.repeat(mask, np.diff(offsets))
            regions = len(self._regions) if mask is None else int(mask.sum())
            most = _for_each(count, len(encoded.parts))
            while True:
                rows = self._regions.search(encoded.parts, max(1, min(most, regions)), mask)[1]
                owners = np.where(rows < 0, -1, np.searchsorted(offsets, rows, side="right") - 1)
                fewest = min(len(np.unique(line[line >= 0])) for line in owners)
                if most >= regions or fewest >= min(distinct, pictures):
                    break
                most *= 2
            found.append(owners)
        rows = np.unique(np.concatenate([part.ravel() for part in found]))
        return rows[rows >= 0]

    def _scored(self, encoded: EncodedQuery, scale: _Scores, rows: np.ndarray, most: int) -> list[Hit]:
        """The best of the candidates by both scores, exact from the stored vectors."""
        if not len(rows):
            return []
        store = self.store
        wholes, bests = [], []
        for first in range(0, len(rows), _SCORED):
            some = rows[first : first + _SCORED]
            regions, starts = _region_rows(store, some)
            wholes.append(store.vectors("pictures", some) @ encoded.whole.T)
            bests.append(np.maximum.reduceat(store.vectors("regions", regions) @ encoded.parts.T, starts, axis=0))
        whole, parts = np.concatenate(wholes), np.concatenate(bests)  # (R, G), (R, P)
        score = self._fused(encoded, scale, whole, parts)
        order = np.argsort(-score, kind="stable")[:most]
        facts = store.metadata.take(rows[order]).to_pylist()
        hits = []
        for row, fact in zip(order.tolist(), facts, strict=True):
            mine = np.arange(store.offsets[rows[row]], store.offsets[rows[row] + 1])
            places = store.boxes(mine[(store.vectors("regions", mine) @ encoded.parts.T).argmax(0)])
            hits.append(
                Hit(
                    fact.pop("name"), self.root, float(score[row]), _mean(whole[row]), tuple(parts[row].tolist()),
                    tuple(_box(place) for place in places), encoded.labels, fact,
                    follow_links=bool(store.manifest.settings.get("follow_links")),
                    look=partial(self._look, encoded.parts),
                )
            )  # fmt: skip
        return hits

    def _look(self, parts: np.ndarray, hit: Hit) -> np.ndarray:
        """(P, h, w) float16: what every patch of a hit scores, computed when it is asked for.

        Raises:
            PictureError: its picture is gone, has changed or cannot be read.
        """
        failed: dict[int, Hit] = {}
        for _, _, windows in self._features([hit], failed):
            similarity = windows.features.similarity(torch.from_numpy(parts).to(self.model.device))
            return similarity.half().cpu().numpy()
        raise PictureError(failed[0].reason or "gone", failed[0].problem)

    def _looked_at(self, encoded: EncodedQuery, scale: _Scores, hits: Sequence[Hit], progress: bool) -> list[Hit]:
        """Hits with score, boxes and similarity of their dense maps; those whose picture is gone say so."""
        from fgclip2.progress import progress as shown

        parts = torch.from_numpy(encoded.parts).to(self.model.device)
        seen: dict[int, Hit] = {}
        looks = self._features(hits, seen)
        bar = shown(looks, desc="looking again", total=len(hits), leave=False, disable=not progress)
        for number, whole, windows in bar:
            hit = hits[number]
            best, places, similarity = windows.best(parts)
            scores, boxes = best.numpy(), places.numpy()
            # What a detector found can fit better than any window.
            stored = np.array(hit.part_scores) > scores
            boxes = np.where(stored[:, None], np.array(hit.boxes), boxes)
            scores = np.where(stored, np.array(hit.part_scores, np.float32), scores)
            seen[number] = replace(
                hit,
                score=float(self._fused(encoded, scale, (encoded.whole @ whole)[None], scores[None])[0]),
                part_scores=tuple(scores.tolist()),
                boxes=tuple(_box(box) for box in boxes),
                similarity=similarity.half().numpy(),
            )
        return [seen[number] for number in range(len(hits))]

    def _features(self, hits: Sequence[Hit], failed: dict[int, Hit]) -> Iterator[tuple[int, np.ndarray, WindowScores]]:
        """Number, (D,) whole vector and windows of each hit; into ``failed`` those that cannot be read."""
        settings = self.store.manifest.settings
        order: list[int] = []

        def pictures() -> Iterator[Image.Image]:
            for number in fresh:
                try:
                    picture = hits[number].decode(hits[number].current())
                except PictureError as error:
                    fail(number, error)
                    continue
                order.append(number)
                yield picture

        def fail(number: int, error: PictureError) -> None:
            failed[number] = replace(hits[number], problem=str(error), reason=error.reason)

        known = [number for number, hit in enumerate(hits) if hit.metadata["sha256"] in self._seen]
        fresh = [number for number in range(len(hits)) if number not in set(known)]
        for number in known:
            try:
                hits[number].current()  # what is remembered would speak for a file that is gone
            except PictureError as error:
                fail(number, error)
                continue
            key = hits[number].metadata["sha256"]
            self._seen.move_to_end(key)
            yield number, *self._seen[key]
        for index, whole, dense in self.model.image_and_dense_features(
            pictures(), max_patches=settings.get("max_patches")
        ):
            number = order[index]
            features = whole.cpu().numpy(), WindowScores(dense, int(settings.get("smallest", 2)))
            self._keep(hits[number].metadata["sha256"], features)
            yield number, *features

    def _keep(self, key: str, features: tuple[np.ndarray, WindowScores]) -> None:
        """Remember what was computed last, for the next query will often look at the same pictures."""
        self._seen[key] = features
        room = _REMEMBERED // (4 * features[1].features.map.numel())
        while len(self._seen) > max(1, room):
            self._seen.popitem(last=False)

    def _fused(self, encoded: EncodedQuery, scale: _Scores, whole: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """(R, G) and (R, P) products -> (R,) scores."""
        weight = encoded.region_weight
        regions = encoded.joined((parts - scale.parts[0]) / scale.parts[1])
        if not len(encoded.whole):
            return regions
        pictures = ((whole - scale.whole[0]) / scale.whole[1]).min(-1)
        return (1 - weight) * pictures + weight * regions


def affordable(model: FGCLIP2, hits: Sequence[Hit], max_patches: int | None = None) -> int:
    """How many of some hits are looked at again unless a number is asked for: all, fewer on a processor.

    There as many as take about three seconds by the width of the model, the sizes of the pictures and the number of
    threads, 5 at least. No time is measured, so the same query on the same machine has the same answer.

    Args:
        model: that looks.
        hits: best first.
        max_patches: of a picture, as the store was made with; ``None`` for its own bucket.
    """
    if model.device.type != "cpu":
        return len(hits)
    patches = [max_patches or min(1024, hit.size[0] * hit.size[1] / 256) for hit in hits]
    operations = np.cumsum(patches) * 2 * _BLOCKS * 12 * model.width**2
    return int(max(min(5, len(hits)), (operations <= _SECONDS * _SPEED * torch.get_num_threads()).sum()))


def _for_each(count: int, parts: int) -> int:
    """Rows for each of several parts: as many times ``count``, as long as all of them together are not too many."""
    return max(count, min(count * parts, _MOST_ROWS // max(1, parts)))


def _region_rows(store: Store, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Region rows of some pictures, one picture's after another's, and where each one's start."""
    first, last = store.offsets[pictures], store.offsets[pictures + 1]
    counts = last - first
    starts = np.concatenate([[0], counts.cumsum()[:-1]]).astype(np.int64)
    return np.repeat(first - starts, counts) + np.arange(counts.sum()), starts


def _moments(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every column; a collection of one picture has none, and keeps its order."""
    deviation = scores.std(0)
    return scores.mean(0), np.where(deviation > 1e-6, deviation, 1.0)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _box(values: np.ndarray) -> Box:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
