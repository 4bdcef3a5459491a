"""Indexes of many vectors: recall, latency, memory and the time to build one: ``python -m benchmarks.search_scale``.

Vectors are drawn around centres of uneven weight: a centre plus noise of the same length, so that members of a cluster
have a cosine of about 0.5 to each other, and queries are further draws. They are stored as regions of pictures, in
shards like any others; a run that was killed goes on. Each index is built, and searched by one thread, in a process of
its own.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from tqdm import tqdm

from benchmarks._report import command, report
from fgclip2.errors import Fgclip2Error
from fgclip2.search import manifest
from fgclip2.search.entries import Entry
from fgclip2.search.index import open_index
from fgclip2.search.store import Store

TOP: Final = 10
_REGIONS: Final = 32  # of a picture
_SHARD: Final = 1024  # pictures
_Result = TypeVar("_Result")


@dataclass
class Arguments:
    """Recall@10 against exact search, median latency of one thread, and memory against what was allowed."""

    count: int = 1_000_000
    """Vectors, rounded up to whole pictures of 32."""
    dimension: int = 768
    """Numbers a vector."""
    clusters: int = 3000
    """Centres that they are drawn around; the heaviest has about 50 times the weight of the lightest. As many as an
    index has lists (2,000 for a million vectors) would suit it better than a real collection does."""
    memory_gb: tuple[float, ...] = (4.0, 0.5)
    """What an index may take; each is one row."""
    queries: int = 300
    """Queries, of which the first tenth are not timed."""
    work_dir: Path = Path("work_dirs/search_scale")
    """For the store; what is there of an earlier run is used."""


def main(arguments: Arguments) -> None:
    """Draw, build, search, and report."""
    pictures = -(-arguments.count // _REGIONS)
    if pictures * _REGIONS < arguments.clusters or arguments.queries < TOP:
        raise Fgclip2Error(f"give at least {arguments.clusters} vectors, one a cluster, and {TOP} queries")
    folder = arguments.work_dir / f"{pictures * _REGIONS}-{arguments.dimension}-{arguments.clusters}"
    world = Clusters(arguments.clusters, arguments.dimension)
    store = filled(folder, world, pictures)
    queries = world.draw(arguments.queries, seed=(1, 0))
    best = exact(store, queries)
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    for allowed in arguments.memory_gb:
        built = _apart(_build, folder, round(allowed * 1e9))
        found, row = _apart(_search, folder, queries)
        recall = float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, best, strict=True)]))
        rows.append({"vectors": pictures * _REGIONS, "clusters": arguments.clusters, "GB allowed": allowed,
                     "recall@10": round(recall, 4), **row, **built})  # fmt: skip
        for name in ("recall@10", "p50 ms", "resident GB", "build s"):
            figures[f"{rows[-1]['vectors']}, {allowed:g} GB, {name}"] = float(str(rows[-1][name]))
    report("search_scale", rows, figures, case=("vectors", "clusters", "GB allowed"))


class Clusters:
    """Where vectors are drawn from."""

    def __init__(self, count: int, dimension: int) -> None:
        draws = np.random.default_rng(0)
        self.centres = _unit(draws.standard_normal((count, dimension), dtype=np.float32))
        weights = np.arange(1, count + 1) ** -0.5
        self.weights = weights / weights.sum()

    def draw(self, count: int, seed: tuple[int, int]) -> np.ndarray:
        """(count, D) float32 of unit length, the same for the same seed."""
        draws = np.random.default_rng(seed)
        chosen = draws.choice(len(self.centres), count, p=self.weights)
        dimension = self.centres.shape[1]
        noise = draws.standard_normal((count, dimension), dtype=np.float32) / np.sqrt(np.float32(dimension))
        return _unit(self.centres[chosen] + noise)


def filled(folder: Path, world: Clusters, pictures: int) -> Store:
    """The store of so many pictures, made, or gone on with after a kill."""
    width = world.centres.shape[1]
    if (folder / manifest.NAME).exists():
        store = Store.open(folder)
    else:
        store = Store.create(folder, model_hash="0" * 64, model_name="none", dimension=width, root=folder)
    boxes = np.tile(np.array([0, 0, 8, 8], np.float32), (_REGIONS, 1))
    for start in tqdm(range(len(store), pictures, _SHARD), unit="shard"):
        count = min(_SHARD, pictures - start)
        vectors = world.draw(count * _REGIONS, seed=(0, start)).reshape(count, _REGIONS, width)
        store.append(
            [
                Entry(f"{start + number:09d}", f"{start + number:064x}", (8, 8), regions[0], regions, boxes)
                for number, regions in enumerate(vectors)
            ]
        )
    return store


def exact(store: Store, queries: np.ndarray) -> np.ndarray:
    """(Q, 10) rows of the largest products, over everything."""
    scores = np.empty((len(queries), 0), np.float32)
    rows: np.ndarray = np.empty((len(queries), 0), np.int64)
    start = 0
    for block in store.blocks("regions"):
        products = queries @ block.astype(np.float32).T
        few = min(TOP, len(block))
        top = np.argpartition(-products, few - 1, axis=1)[:, :few]
        scores = np.hstack([scores, np.take_along_axis(products, top, 1)])
        rows = np.hstack([rows, top + start])
        start += len(block)
    return np.take_along_axis(rows, np.argsort(-scores, axis=1)[:, :TOP], 1)


def _build(folder: Path, allowed: int) -> dict[str, object]:
    """Build an index anew: seconds, and the memory that took, files that are mapped not counted."""
    store = Store.open(folder, verify=False)
    known = store.manifest.indexes.get("regions")
    if known is not None:
        store.put_index("regions", known.unbuilt())
    with _watched() as most:
        begun = time.perf_counter()
        open_index(store, "regions", allowed)
        seconds = time.perf_counter() - begun
    return {"build s": round(seconds, 1), "build GB": round(most() / 1e9, 2)}


def _search(folder: Path, queries: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    """Rows that are found, and what that took: the index in memory, and the pages of vectors it was compared with."""
    import faiss

    faiss.omp_set_num_threads(1)
    before = _own()
    store = Store.open(folder, verify=False)
    index = open_index(store, "regions")
    found, times = [], []
    for query in queries:
        begun = time.perf_counter()
        found.append(index.search(query[None], TOP)[1][0])
        times.append(1000 * (time.perf_counter() - begun))
    taken = _own() - before + _mapped(".faiss")
    timed = times[len(times) // 10 :]
    return np.array(found), {
        "index": index.kind + (f" {index.code} bytes" if index.code else ""),
        "effort": ", ".join(f"{name} {value}" for name, value in index.settings.items()),
        "lists": index.index.nlist if index.kind.startswith("ivf") else 0,
        "said recall": round(index.recall_at_10, 4),
        "p50 ms": round(float(np.median(timed)), 2),
        "p95 ms": round(float(np.percentile(timed, 95)), 2),
        "resident GB": round(taken / 1e9, 2),
        "vectors mapped GB": round(_mapped(".safetensors") / 1e9, 2),
    }


def _apart(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Do it in a fresh process; its BLAS has one thread when it searches."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if work is _search else {}
    before = dict(os.environ)
    os.environ.update(threads)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(work, arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _watched() -> Iterator[Callable[[], int]]:
    """Most memory of its own that this process takes meanwhile, beyond what it has now."""
    start, most, over = _own(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, _own() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: most
    finally:
        over.set()
        thread.join()


def _own() -> int:
    """Bytes of this process in memory that are its own, not those of mapped files (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    told = dict(line.split(":", 1) for line in lines)
    return 1024 * int(told["RssAnon"].split()[0])


def _mapped(suffix: str) -> int:
    """Bytes in memory of mapped files whose names end so; the system takes them back when it needs them."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if not line.split(" ", 1)[0].endswith(":"):  # the first line of a mapping
            counts = line.endswith(suffix)
        elif counts and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


if __name__ == "__main__":
    command(main, Arguments)
