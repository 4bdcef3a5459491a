"""faiss finds what exact search finds, says how well, and is made again when it must be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgclip2.errors import Fgclip2Error
from fgclip2.search import index as indexes
from fgclip2.search.entries import Entry
from fgclip2.search.index import FLAT_LIMIT, HNSW_LIMIT, Kind, choose, open_index
from fgclip2.search.store import Store
from tests.search.synthetic import WIDTH, entry, new_store, unit

GB = 1 << 30


def clustered(folder: Path, shards: int = 3, pictures: int = 50, regions: int = 20) -> Store:
    """A store whose regions lie around 40 centres, as those of real collections do."""
    centres = np.random.default_rng(0).normal(size=(40, WIDTH))
    store = new_store(folder)
    for shard in range(shards):
        store.append([around(centres, f"{shard}/{k}", 1000 * shard + k, regions) for k in range(pictures)])
    return store


def around(centres: np.ndarray, name: str, seed: int, regions: int) -> Entry:
    draws = np.random.default_rng(seed)
    made = entry(name, seed, regions)
    near = centres[draws.integers(len(centres), size=regions)] + draws.normal(scale=0.4, size=(regions, WIDTH))
    return Entry(name, made.sha256, made.size, made.vector, unit(near), made.boxes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return clustered(tmp_path_factory.mktemp("index") / "store")


def everything(store: Store) -> np.ndarray:
    return np.concatenate(store.blocks("regions")).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(k=st.integers(1, 40), share=st.sampled_from([0.0, 0.01, 0.5, 1.0]), seed=st.integers(0, 99))
def test_flat_search_is_exact_with_and_without_a_filter(store: Store, k: int, share: float, seed: int) -> None:
    index = open_index(store, "regions", GB)
    assert (index.kind, index.recall_at_10) == ("flat", 1.0)
    draws = np.random.default_rng(seed)
    queries, vectors = unit(draws.normal(size=(3, WIDTH))), everything(store)
    allowed = draws.uniform(size=len(vectors)) < share
    scores, rows = index.search(queries, k, allowed)
    products = np.where(allowed, queries @ vectors.T, -np.inf)
    expected = -np.sort(-products, axis=1)[:, :k]
    assert scores.shape == rows.shape == (3, k)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    for line, found in zip(products, rows, strict=True):
        there = found >= 0
        np.testing.assert_allclose(line[found[there]], scores[0:3][np.all(rows == found, axis=1)][0][there], atol=1e-5)
        assert there.sum() == min(k, allowed.sum())


@pytest.mark.parametrize("kind", ["hnsw", "ivf_sq", "ivf_pq"])
def test_large_indexes_reach_the_recall_they_state(tmp_path: Path, kind: Kind) -> None:
    store = clustered(tmp_path / "store")
    index = open_index(store, "regions", GB, kind=kind)
    vectors = everything(store)
    assert len(index) == len(vectors) == 3000
    queries = unit(np.random.default_rng(7).normal(size=(40, WIDTH)) * 0.2 + vectors[:40])
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    scores, rows = index.search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, rows, strict=True)])
    assert recall >= 0.95
    assert index.recall_at_10 >= 0.95
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, rows, 1), atol=1e-5)
    said = Store.open(store.folder).manifest.indexes["regions"]
    assert said.recall_at_10 == index.recall_at_10
    assert (said.kind, said.vectors, said.settings, said.budget) == (kind, 3000, index.settings, GB)

    again = open_index(Store.open(store.folder), "regions")  # as it was planned, whatever the count
    assert again.kind == kind
    assert Store.open(store.folder).manifest.serial == store.manifest.serial
    np.testing.assert_array_equal(again.search(queries, 10)[1], rows)
    assert again.recall_at_10 == index.recall_at_10

    allowed = np.arange(3000) % 3 == 0
    found = again.search(queries, 10, allowed)[1]
    assert allowed[found].all()


@pytest.mark.parametrize("kind", ["hnsw", "ivf_sq", "ivf_pq"])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_a_filter_loses_no_hits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, share: float) -> None:
    """Whether what is allowed lies about everywhere, or far from the queries."""
    monkeypatch.setattr(indexes, "_EXACT_BELOW", 0)
    store = clustered(tmp_path / "store", pictures=100)
    index = open_index(store, "regions", GB, kind=kind)
    vectors = everything(store)
    count = round(share * len(vectors))
    draws = np.random.default_rng(1)
    queries = unit(draws.normal(size=(20, WIDTH)) * 0.2 + vectors[:20])
    for rows in (draws.permutation(len(vectors)), np.argsort(vectors @ queries.mean(0))):
        allowed = np.isin(np.arange(len(vectors)), rows[:count])
        exact = np.sort(np.where(allowed, queries @ vectors.T, -np.inf), axis=1)[:, ::-1][:, :10]
        scores, found = index.search(queries, 10, allowed)
        assert allowed[found].all()
        assert np.mean(scores >= exact[:, -1:] - 1e-4) >= 0.95
    scores, found = index.search(queries, count, allowed)  # all there are
    assert (found >= 0).all()


def test_lists_are_trained_anew_when_a_store_has_grown_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    real = indexes._build

    def build(store: Store, *arguments: Any) -> Any:
        built.append(sum(map(len, store.blocks("regions"))))
        return real(store, *arguments)

    monkeypatch.setattr(indexes, "_build", build)
    store = clustered(tmp_path / "store")  # 3,000 vectors
    open_index(store, "regions", GB, kind="ivf_sq")
    for step in range(5):
        store.append([entry(f"new {step} {k}", 10_000 + 100 * step + k, 20) for k in range(30)])
        open_index(store, "regions", GB, kind="ivf_sq")
        said = Store.open(store.folder).manifest.indexes["regions"]
        assert said.vectors == 3000 + 600 * (step + 1)
        assert said.trained == (3000 if step < 2 else 4800)
    assert built == [3000, 4800]


def test_a_manifest_that_does_not_say_what_was_trained_on(tmp_path: Path) -> None:
    store = clustered(tmp_path / "store")
    open_index(store, "regions", GB, kind="ivf_sq")
    file = store.folder / "manifest.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    del said["indexes"]["regions"]["trained"]
    file.write_text(json.dumps(said), encoding="utf-8")
    store = Store.open(store.folder)
    assert open_index(store, "regions").trained == 3000
    store.append([entry("new", 1, 20)])
    assert open_index(store, "regions", GB, kind="ivf_sq").trained == 3000
    assert store.manifest.indexes["regions"].trained == 3000


@pytest.mark.parametrize("kind", ["hnsw", "ivf_sq"])
def test_a_file_of_another_index_is_made_again(tmp_path: Path, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """Hashes say only that it is the file that was written, and whoever wrote the manifest has written both."""
    import faiss

    store = clustered(tmp_path / "store", shards=1)
    open_index(store, "regions", GB, kind=kind)

    def write(path: Path) -> None:
        wrong = faiss.IndexFlatIP(WIDTH + 1)
        wrong.add(np.zeros((1000, WIDTH + 1), np.float32))
        faiss.write_index(wrong, str(path))

    store.put_index("regions", store.manifest.indexes["regions"], write)
    index = open_index(Store.open(store.folder), "regions", GB, kind=kind)
    assert "IndexFlat" in caplog.text
    assert "is built again" in caplog.text
    assert index.search(unit(np.ones((1, WIDTH))), 3)[1].shape == (1, 3)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_sq"])
def test_an_index_that_cannot_be_committed_is_used_from_memory(
    tmp_path: Path, kind: Kind, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = clustered(tmp_path / "store")
    open_index(store, "regions", GB, kind=kind)
    added = entry("new", 77_777, 2)
    store.append([added])
    with store.writing():
        reader = Store.open(store.folder)
        index = open_index(reader, "regions", GB, kind=kind)
        assert "is used from memory and not kept" in caplog.text
        assert index.search(added.regions, 1)[1][:, 0].tolist() == [3000, 3001]
        assert open_index(store, "regions", GB, kind=kind).kind == kind  # who holds the store commits
    assert Store.open(store.folder).manifest.indexes["regions"].vectors == 3002
    store.append([entry("more", 5)])

    def fails(*_: object) -> None:
        raise OSError(28, "the disk is full")

    monkeypatch.setattr(Store, "put_index", fails)
    with store.writing(), pytest.raises(OSError, match="full"):
        open_index(store, "regions", GB, kind=kind)


def test_an_index_keeps_the_memory_it_was_planned_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "FLAT_LIMIT", 100)
    store = clustered(tmp_path / "store")  # 3,000 vectors of 16 numbers
    assert open_index(store, "regions", 100_000).code == 16
    tight = open_index(store, "regions", 60_000)
    assert (tight.kind, tight.code) == ("ivf_sq", 8)
    serial = store.manifest.serial
    for opened in (store, Store.open(store.folder)):
        index = open_index(opened, "regions")
        assert (index.kind, index.code) == ("ivf_sq", 8)
        assert opened.manifest.serial == serial
    store.append([entry("new", 7)])
    store.delete(["0/0"])
    store.compact()
    assert (open_index(store, "regions").code, store.manifest.indexes["regions"].budget) == (8, 60_000)
    assert open_index(store, "regions", 70_000).code == 8
    assert store.manifest.indexes["regions"].budget == 70_000
    assert open_index(store, "regions", GB).kind == "hnsw"


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_sq", "ivf_pq"])
def test_an_index_follows_its_store(tmp_path: Path, kind: Kind) -> None:
    store = clustered(tmp_path / "store")
    open_index(store, "regions", GB, kind=kind)
    added = entry("new", 77_777, 2)
    store.append([added])
    index = open_index(store, "regions", GB, kind=kind)
    assert len(index) == 3002
    scores, rows = index.search(added.regions, 1)
    assert rows[:, 0].tolist() == [3000, 3001]
    np.testing.assert_allclose(scores, 1, atol=2e-3)
    store.delete(["0/0"])
    store.compact()
    index = open_index(store, "regions", GB, kind=kind)
    assert len(index) == 2982
    assert index.search(added.regions, 1)[1][:, 0].tolist() == [2980, 2981]
    assert len(list(store.folder.glob("regions-*.faiss"))) == (kind != "flat")


@pytest.mark.parametrize("kind", ["hnsw", "ivf_pq"])
def test_a_damaged_index_is_made_again(tmp_path: Path, kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    store = clustered(tmp_path / "store", shards=1)
    open_index(store, "regions", GB, kind=kind)
    (file,) = store.folder.glob("*.faiss")
    before = file.read_bytes()
    file.write_bytes(before[:-100])
    index = open_index(Store.open(store.folder), "regions", GB, kind=kind)
    assert len(index) == 1000
    assert "is built again" in caplog.text
    (file,) = store.folder.glob("*.faiss")
    if kind == "ivf_pq":  # built from the same vectors it is the same to the bit
        assert file.read_bytes() == before


def test_the_count_and_the_memory_decide() -> None:
    assert choose(FLAT_LIMIT, 768, 4 * GB).kind == "flat"
    assert choose(FLAT_LIMIT + 1, 768, 4 * GB).kind == "hnsw"
    assert choose(FLAT_LIMIT + 1, 768, GB // 8).kind == "ivf_sq"
    assert choose(HNSW_LIMIT, 768, 4 * GB).kind == "hnsw"
    assert choose(HNSW_LIMIT + 1, 768, 4 * GB) == choose(HNSW_LIMIT + 1, 768, 400 * GB)
    assert [choose(1_000_000, 768, size).code for size in (GB, GB // 2, GB // 4)] == [768, 384, 192]
    assert [choose(1_000_000, 768, size).kind for size in (GB, GB // 2, GB // 4)] == ["ivf_sq", "ivf_sq", "ivf_pq"]
    roomy, tight = choose(10_000_000, 768, 5 * GB), choose(10_000_000, 768, GB)
    assert roomy.code > tight.code
    for plan, budget in ((roomy, 5 * GB), (tight, GB)):
        assert plan.bytes <= budget
        assert 768 % plan.code == 0
    with pytest.raises(Fgclip2Error, match=r"needs at least 0\.3\d GB, and 0\.10 GB are allowed"):
        choose(10_000_000, 768, 100_000_000)


def test_parts_of_a_collection_answer_as_the_whole(tmp_path: Path) -> None:
    whole, parts = new_store(tmp_path / "whole"), [new_store(tmp_path / f"part-{k}") for k in range(3)]
    centres = np.random.default_rng(0).normal(size=(40, WIDTH))
    for number in range(90):
        item = around(centres, f"{number}.jpg", number, 20)
        whole.append([item])
        parts[number % 3].append([item])
    queries = unit(np.random.default_rng(1).normal(size=(7, WIDTH)))
    expected = open_index(whole, "regions").search(queries, 10)[0]
    found = [open_index(part, "regions").search(queries, 10) for part in parts]
    scores = np.hstack([scores for scores, _ in found])
    order = np.argsort(-scores, axis=1)[:, :10]
    np.testing.assert_allclose(np.take_along_axis(scores, order, 1), expected, atol=1e-6)
    answers = [
        [f"{part + 3 * (row // 20)}.jpg" for row in rows] for part, (_, lines) in enumerate(found) for rows in lines
    ]
    names = np.array(answers).reshape(3, 7, 10).transpose(1, 0, 2).reshape(7, 30)
    rows = open_index(whole, "regions").search(queries, 10)[1]
    assert np.take_along_axis(names, order, 1).tolist() == [[f"{row // 20}.jpg" for row in line] for line in rows]


KILLED = """
import os, signal, sys
from pathlib import Path
from fgclip2.search.index import open_index
from fgclip2.search.store import Store
from tests.search.synthetic import entry, new_store
left, fsync = int(sys.argv[2]), os.fsync
def stops(handle):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
os.fsync = stops
folder = Path(sys.argv[1])
store = Store.open(folder) if (folder / "manifest.json").exists() else new_store(folder)
for shard in range(len(store.manifest.shards), 3):
    store.append([entry(f"{shard}-{k}.jpg", 100 * shard + k, 20) for k in range(60)])
open_index(store, "regions", kind=sys.argv[3])
"""


@pytest.mark.parametrize("kind", ["ivf_sq", "ivf_pq"])
def test_a_build_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path: Path, kind: Kind) -> None:
    root = Path(__file__).resolve().parents[2]

    def run(folder: Path, writes: int) -> int:
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(writes), kind],
            env={**os.environ, "PYTHONPATH": str(root)}, cwd=root, check=False,
        ).returncode  # fmt: skip

    # A shard takes six writes: the third run dies where the index has its file, and the manifest does not name it yet.
    killed = [run(tmp_path / "killed", 9) for _ in range(3)]
    assert killed == [-signal.SIGKILL] * 3
    assert len(list((tmp_path / "killed").glob("regions-*.faiss"))) == 1
    assert not Store.open(tmp_path / "killed").manifest.indexes
    assert run(tmp_path / "killed", 9) == run(tmp_path / "whole", -1) == 0
    resumed, whole = (Store.open(tmp_path / name) for name in ("killed", "whole"))
    assert resumed.manifest == replace(whole.manifest, root=resumed.manifest.root)
    assert whole.manifest.indexes["regions"].vectors == 3600
    for file in (tmp_path / "whole").glob("*.*"):
        if file.name != "manifest.json":
            assert file.read_bytes() == (tmp_path / "killed" / file.name).read_bytes()


def test_an_index_of_few_vectors(make_store: Callable[[Sequence[Sequence[Entry]]], Store]) -> None:
    index = open_index(make_store([[entry("a", 1, 1)]]), "pictures", GB)
    scores, rows = index.search(entry("a", 1).vector[None], 3)
    assert rows.tolist() == [[0, -1, -1]]
    assert scores[0, 0] == pytest.approx(1, abs=2e-3)
    assert np.isneginf(scores[0, 1:]).all()
