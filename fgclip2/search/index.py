"""Nearest vectors by faiss: a cache of what the store holds, made again whenever it does not fit.

Up to 100,000 vectors are searched exactly, up to 300,000 by a graph (HNSW). Above, and where a graph does not fit the
memory that is allowed, by lists of compressed vectors: 8 or 4 bits a number (IVF-SQ), or product codes (IVF-PQ). Their
candidates are compared again with the exact vectors of the store, read through its memory maps. Building measures
recall@10 against exact search and raises the effort of the search until the aim is met.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, cast, get_args

import numpy as np

from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.search.manifest import IndexEntry
from fgclip2.search.mapped import let_go
from fgclip2.search.store import Space, Store

_log = logging.getLogger(__name__)

Kind = Literal["flat", "hnsw", "ivf_sq", "ivf_pq"]

FLAT_LIMIT: Final = 100_000
HNSW_LIMIT: Final = 300_000
"""Above it a graph takes ten times as long to build as lists, and more than twice their memory."""
DEFAULT_BUDGET: Final = 4_000_000_000
"""Bytes an index may take where nobody has said so."""
RECALL_AIM: Final = 0.97

_NEIGHBOURS: Final = 32  # of a vector in the graph, on every level but the lowest, which has twice as many
_QUERIES: Final = 256
_CHUNK: Final = 16_384  # vectors turned to float32 at a time
_EXACT_BELOW: Final = 20_000  # allowed vectors of a filter that are compared one by one
_NEARLY_ALL: Final = 0.75  # share of allowed vectors from which a filter is searched with the effort of none
_GROWTH: Final = 1.5  # lists are trained anew when the store has grown by this
_LISTED: Final = ("ivf_sq", "ivf_pq")


@dataclass(frozen=True)
class Plan:
    """How an index is made, and what it takes.

    Attributes:
        kind: of the index.
        bytes: memory of the index, estimated.
        code: bytes a vector is compressed to in lists; 0 for the others.
        lists: of IVF-SQ and IVF-PQ; 0 for the others.
    """

    kind: Kind
    bytes: int
    code: int = 0
    lists: int = 0


def choose(count: int, dimension: int, budget: int, kind: Kind | None = None) -> Plan:
    """Pick the index for a number of vectors.

    Args:
        count: vectors.
        dimension: numbers a vector.
        budget: bytes the index may take in memory.
        kind: take this one, whatever the count; the budget still holds.

    Raises:
        Fgclip2Error: nothing fits the budget.
    """
    flat = Plan("flat", 2 * dimension * count)
    graph = Plan("hnsw", count * (2 * dimension + 4 * 2 * _NEIGHBOURS + 4 * _NEIGHBOURS // 16 + 16))
    lists = max(1, min(round(2 * math.sqrt(count)), count // 39))  # faiss wants 39 training vectors a list

    def listed(kind: Kind, shares: tuple[int, ...]) -> list[Plan]:
        codes = [dimension // share for share in shares if dimension % share == 0]
        return [Plan(kind, count * (code + 8) + 4 * dimension * (lists + 2), code, lists) for code in codes]

    plans: list[Plan] = []
    if kind == "flat" or (kind is None and count <= FLAT_LIMIT):
        plans = [flat]
    if kind == "hnsw" or (kind is None and count <= HNSW_LIMIT):
        plans += [graph]
    if kind in (None, "ivf_sq"):
        plans += listed("ivf_sq", (1, 2))
    if kind in (None, "ivf_pq"):  # of the divisors of the dimension, the longest code that fits
        plans += listed("ivf_pq", (4, 8, 16, 32))
    fitting = next((plan for plan in plans if plan.bytes <= budget), None)
    if fitting is None:
        least = min(plan.bytes for plan in plans)
        raise Fgclip2Error(
            f"an index of {count:,} vectors of {dimension} numbers needs at least {least / 1e9:.2f} GB, and "
            f"{budget / 1e9:.2f} GB are allowed; allow more memory, or keep fewer regions a picture"
        )
    return fitting


@dataclass(eq=False)
class VectorIndex:
    """An index over all vectors of one space of a store; rows are those of the store.

    Attributes:
        store: what holds the vectors.
        space: which of them.
        kind: of the index.
        settings: effort of the search: ``ef`` (HNSW), ``probes`` and ``refine`` (lists).
        recall_at_10: against exact search, as measured when it was built.
        code: bytes a vector is compressed to in lists; 0 for the others.
        trained: vectors there were when it was built; more may have been added since.
    """

    store: Store
    space: Space
    kind: Kind
    index: Any
    settings: dict[str, int] = field(default_factory=dict)
    recall_at_10: float = 1.0
    code: int = 0
    trained: int = 0

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest vectors of each query, by inner product.

        Args:
            queries: (Q, D) numbers.
            k: most to return.
            allowed: (n,) bool, the rows that count; ``None`` for all.

        Returns:
            (Q, k) float32 inner products with the stored vectors, falling, and (Q, k) int64 rows. Where there are fewer
            than k, rows are -1 and products -inf.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        there = len(self)
        if allowed is not None:
            there = int(allowed.sum())
            if there == len(self):
                allowed = None
            elif there <= _EXACT_BELOW:
                return _exact(self.store, self.space, queries, k, np.flatnonzero(allowed))
        wanted = max(1, min(max(k * self.settings.get("refine", 1), k), len(self)))
        # The effort was tuned without a filter, which leaves a share of what is looked at: so more is looked at. And
        # what is allowed may lie far from the query: so more again, until that finds nothing nearer. Not where nearly
        # all is allowed, as in a store with some deleted pictures: every query would take three times as long.
        effort = math.ceil(self._effort() * len(self) / max(1, there))
        before: np.ndarray | None = None
        while True:
            scores, rows = self.index.search(queries, wanted, params=self._parameters(allowed, effort))
            full = int((rows >= 0).sum(1).min(initial=wanted)) >= min(k, there)
            settled = there >= _NEARLY_ALL * len(self) or (before is not None and np.array_equal(rows[:, :k], before))
            if effort >= self._most() or (full and settled):
                break
            before, effort = rows[:, :k], 2 * effort
        scores = np.where(rows < 0, -np.inf, scores)
        if self.kind in _LISTED:
            for number, query in enumerate(queries):
                found = rows[number] >= 0
                scores[number, found] = self.store.vectors(self.space, rows[number, found]) @ query
        return _best(scores, rows, k)

    def save(self, store: Store, budget: int) -> None:
        """Put it into the store: an entry of the manifest, and a file unless it is flat.

        Args:
            store: the store.
            budget: bytes it was planned for.
        """
        faiss = _faiss()
        shards = tuple(shard.name for shard in store.manifest.shards)
        entry = IndexEntry(
            self.kind, shards, len(self), self.recall_at_10, self.settings, code=self.code, budget=budget,
            trained=self.trained,
        )  # fmt: skip
        store.put_index(
            self.space, entry, None if self.kind == "flat" else lambda path: faiss.write_index(self.index, str(path))
        )

    def _effort(self) -> int:
        """Lists that are looked into, or candidates of the graph; a flat index has no choice."""
        return self.settings.get({"hnsw": "ef", "flat": ""}.get(self.kind, "probes"), {"hnsw": 64}.get(self.kind, 8))

    def _most(self) -> int:
        """The effort that nothing escapes."""
        if self.kind in _LISTED:
            return int(self.index.nlist)
        return len(self) if self.kind == "hnsw" else 1

    def _parameters(self, allowed: np.ndarray | None, effort: int) -> Any:
        faiss = _faiss()
        chosen: dict[str, Any] = {}
        if allowed is not None:
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        effort = min(effort, self._most())
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=effort, **chosen)
        if self.kind in _LISTED:
            return faiss.SearchParametersIVF(nprobe=effort, **chosen)
        return faiss.SearchParameters(**chosen) if chosen else None


def open_index(store: Store, space: Space, budget: int | None = None, *, kind: Kind | None = None) -> VectorIndex:
    """The index of a store's space: the committed one when it fits, else brought up to date or built, and committed.

    Where it cannot be committed, because another process writes or nobody may, it is used from memory, and the log says
    so; for a store that the caller holds for writing that is an error.

    Args:
        store: the store.
        space: ``"pictures"`` or ``"regions"``.
        budget: bytes an index may take in memory; ``None`` for what the committed one was planned for, which is then
            taken as it is when it is up to date.
        kind: insist on one; ``None`` lets the count decide.

    Raises:
        Fgclip2Error: nothing fits the budget, or faiss is not installed.
    """
    _faiss()
    entry = store.manifest.indexes.get(space)
    shards = tuple(shard.name for shard in store.manifest.shards)
    current = entry is not None and entry.shards == shards
    if entry is not None and current and budget is None and kind is None:
        index = _read(store, space, entry)
        if index is not None:
            return index
    allowed = budget or (entry.budget if entry is not None else 0) or DEFAULT_BUDGET
    count = sum(len(block) for block in store.blocks(space))
    plan = choose(count, store.manifest.dimension, allowed, kind)
    index = None
    if entry is not None and (entry.kind, entry.code) == (plan.kind, plan.code):
        if current:
            index = _read(store, space, entry)
            if index is not None:
                if entry.budget != allowed:
                    _commit(store, space, lambda: store.put_index(space, replace(entry, budget=allowed)))
                return index
        elif _may_grow(entry, shards, count):
            index = _read(store, space, entry, mapped=False)  # maps cannot be added to
            if index is not None:
                _add(index, store.blocks(space)[len(entry.shards) :])
    if index is None:
        index = _build(store, space, plan)
    _tune(index)
    made = index
    if not _commit(store, space, lambda: made.save(store, allowed)) or plan.kind == "flat":
        return made
    return _read(store, space, store.manifest.indexes[space]) or made  # building takes more memory than the map


def _commit(store: Store, space: Space, write: Callable[[], None]) -> bool:
    """Whether something was committed; what cannot be is not needed by who only searches."""
    try:
        write()
    except (Fgclip2Error, OSError, RuntimeError) as error:  # the last is faiss', when it cannot write its file
        if store.held:
            raise
        _log.warning("the index of %s is used from memory and not kept (%s)", space, str(error).splitlines()[0])
        return False
    return True


def _read(store: Store, space: Space, entry: IndexEntry, mapped: bool = True) -> VectorIndex | None:
    """The committed index, memory-mapped; ``None`` when there is no whole file of it, or one of something else."""
    faiss = _faiss()
    if entry.kind not in get_args(Kind):
        return None
    kind = cast("Kind", entry.kind)
    trained = entry.trained or entry.vectors
    index = VectorIndex(store, space, kind, None, dict(entry.settings), entry.recall_at_10, entry.code, trained)
    if kind == "flat":
        index.index = _empty(Plan(kind, 0), store.manifest.dimension)
        known = {shard.name for shard in store.manifest.shards[: len(entry.shards)]}
        if known == set(entry.shards):
            _add(index, store.blocks(space)[: len(entry.shards)])
        return index
    if entry.file is None:
        return None
    try:
        entry.file.check(store.folder, contents=True)
        flags = faiss.IO_FLAG_MMAP_IFC if kind == "hnsw" else faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
        index.index = faiss.read_index(str(store.folder / entry.file.name), flags if mapped else 0)
        _check(index, entry)
    except (Fgclip2Error, RuntimeError) as error:
        _log.warning("the index of %s is built again (%s)", space, str(error).splitlines()[0])
        return None
    return index


def _check(index: VectorIndex, entry: IndexEntry) -> None:
    """See that what was read from a file is what the manifest says: faiss reads an index of any kind.

    Raises:
        Fgclip2Error: it is not.
    """
    faiss, read = _faiss(), index.index
    types = {"hnsw": faiss.IndexHNSWSQ, "ivf_sq": faiss.IndexIVFScalarQuantizer, "ivf_pq": faiss.IndexIVFPQ}
    dimension, inner = index.store.manifest.dimension, faiss.METRIC_INNER_PRODUCT
    said = (types[index.kind].__name__, dimension, inner, entry.vectors, entry.code)
    code = int(read.code_size) if index.kind in _LISTED and isinstance(read, faiss.IndexIVF) else 0
    found = (type(read).__name__, read.d, read.metric_type, read.ntotal, code)
    if found != said:
        raise Fgclip2Error(
            f"its file holds {found} where the manifest says {said}: type, dimension, metric, vectors, code"
        )


def _may_grow(entry: IndexEntry, shards: tuple[str, ...], count: int) -> bool:
    """Whether an index can be added to: the store has only got new shards, and what it was built of is still most."""
    return shards[: len(entry.shards)] == entry.shards and (
        entry.kind not in _LISTED or count <= _GROWTH * (entry.trained or entry.vectors)
    )


def _build(store: Store, space: Space, plan: Plan) -> VectorIndex:
    blocks = store.blocks(space)
    index = VectorIndex(store, space, plan.kind, _empty(plan, store.manifest.dimension), code=plan.code)
    if plan.lists:
        count = sum(map(len, blocks))
        rows = np.sort(_sample(count, max(64 * plan.lists, 20_000)))
        index.index.train(store.vectors(space, rows))
    _add(index, blocks)
    index.trained = len(index)
    return index


def _empty(plan: Plan, dimension: int) -> Any:
    faiss = _faiss()
    half, product = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    if plan.kind == "flat":
        return faiss.IndexScalarQuantizer(dimension, half, product)
    if plan.kind == "hnsw":
        index = faiss.IndexHNSWSQ(dimension, half, _NEIGHBOURS, product)
        index.hnsw.efConstruction = 100
        return index
    lists = faiss.IndexFlatIP(dimension)
    if plan.kind == "ivf_sq":
        bits = faiss.ScalarQuantizer.QT_8bit if plan.code == dimension else faiss.ScalarQuantizer.QT_4bit
        index = faiss.IndexIVFScalarQuantizer(lists, dimension, plan.lists, bits, product)
    else:
        index = faiss.IndexIVFPQ(lists, dimension, plan.lists, plan.code, 8, product)
    index.own_fields = True
    lists.this.disown()
    index.cp.spherical = True
    return index


def _add(index: VectorIndex, blocks: Sequence[np.ndarray]) -> None:
    for _, part in _chunks(blocks):
        if not index.index.is_trained:  # fp16 has nothing to learn, but faiss asks for it
            index.index.train(part)
        index.index.add(part)


def _tune(index: VectorIndex) -> None:
    """Raise the effort until recall@10 reaches the aim, and note what was reached."""
    count = len(index)
    if count == 0:
        return
    rows = _sample(count, _QUERIES)
    queries = index.store.vectors(index.space, rows)
    best = _nearest(index.store, index.space, queries, min(11, count))[0]
    steps: list[dict[str, int]] = [{}]
    if index.kind == "hnsw":
        steps = [{"ef": effort} for effort in (64, 128, 256, 512)]
    elif index.kind in _LISTED:
        lists = int(index.index.nlist)
        probes = sorted({min(lists, number) for number in (8, 16, 32, 64, 128, 256)})
        refines = (2, 5) if index.kind == "ivf_sq" else (10, 30)
        steps = [{"probes": number, "refine": refine} for number in probes for refine in refines]
    for step in steps:
        index.settings = step
        found = index.search(queries, best.shape[1])[0]
        index.recall_at_10 = _recall(found, best)
        if index.recall_at_10 >= RECALL_AIM:
            return
    if steps != [{}]:
        _log.warning("recall@10 of the index of %s is %.3f, below %.2f", index.space, index.recall_at_10, RECALL_AIM)


def _recall(found: np.ndarray, best: np.ndarray) -> float:
    """Share of the ten nearest that were found; a query is a stored vector, so the nearest of all is itself.

    By products rather than rows, so that equal vectors stand for each other.
    """
    if best.shape[1] < 2:
        return 1.0
    enough = found[:, 1:] >= best[:, -1:] - 1e-4
    return float(enough.mean())


def _nearest(store: Store, space: Space, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact search over everything, block by block."""
    scores = np.full((len(queries), 0), -np.inf, np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    for start, part in _chunks(store.blocks(space)):
        numbers = np.broadcast_to(np.arange(start, start + len(part)), (len(queries), len(part)))
        joined = np.hstack([scores, queries @ part.T]), np.hstack([rows, numbers])
        scores, rows = _best(*joined, k)
    return scores, rows


def _exact(store: Store, space: Space, queries: np.ndarray, k: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    products = queries @ store.vectors(space, rows).T
    return _best(products, np.broadcast_to(rows, products.shape), k)


def _best(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each line, in order; filled up with -inf and -1."""
    missing = max(0, k - scores.shape[1])
    if missing:
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
    top = (
        np.argpartition(-scores, k - 1, axis=1)[:, :k]
        if scores.shape[1] > k
        else np.arange(k)[None].repeat(len(scores), 0)
    )
    top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable"), 1)
    return np.take_along_axis(scores, top, 1).astype(np.float32), np.take_along_axis(rows, top, 1).astype(np.int64)


def _chunks(blocks: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """First row and (n, D) float32 vectors of parts of bounded size."""
    start = 0
    for block in blocks:
        for low in range(0, len(block), _CHUNK):
            part = np.asarray(block[low : low + _CHUNK], np.float32)
            yield start + low, part
        let_go(block)
        start += len(block)


def _sample(count: int, size: int) -> np.ndarray:
    """Rows drawn without repetition, always the same."""
    return np.random.default_rng(0).choice(count, min(size, count), replace=False)


def _faiss() -> Any:  # its types are SWIG's, not those of its Python wrappers
    with extras("search"):
        return importlib.import_module("faiss")
