"""Two workers of a cluster make the store that one process makes, whatever happens to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fgclip2
from fgclip2.cli import main
from fgclip2.errors import Fgclip2Error
from fgclip2.search.build import build_store
from fgclip2.search.bulk import pack, unpack
from fgclip2.search.config import BuildConfig, ClusterConfig
from fgclip2.search.store import Store
from fgclip2.search.units import Digests, Outcome
from tests.search.test_sources import write_tar
from tests.search.test_store import contents

SIZE = 15  # of a shard: 72 scenes are five of them


def test_outcomes_survive_the_way_back() -> None:
    arrays = np.ones(3, np.float32) / 3, np.ones((2, 3), np.float32) / 7, np.array([[0, 1, 2, 3.3]] * 2, np.float32)
    given = [
        Outcome("failed", problem="坏"),
        Outcome("embedded", "a" * 64, (3, 4), 1, arrays),
        Outcome("unchanged", "b" * 64),
    ]
    back = unpack(pack(given))
    assert [(item.done, item.sha256, item.size, item.given, item.problem) for item in back] == [
        (item.done, item.sha256, item.size, item.given, item.problem) for item in given
    ]
    assert back[0].arrays is back[2].arrays is None
    assert back[1].arrays is not None
    for was, now in zip(arrays, back[1].arrays, strict=True):
        np.testing.assert_array_equal(now, was.astype(now.dtype))
    assert [array.dtype for array in back[1].arrays] == [np.float16, np.float16, np.float32]
    assert unpack(pack([])) == []


def test_digests_are_a_set() -> None:
    known = [f"{number:064x}" for number in (5, 3, 900)]
    for digests in (Digests(known), Digests(Digests(known).array)):
        assert [f"{number:064x}" in digests for number in (5, 3, 900, 4, 0, 10**9)] == [True] * 3 + [False] * 3
    assert "a" * 64 not in Digests([])


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterConfig]:
    """Two machines of one processor each, as far as Ray can tell."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=node)
        try:
            made.add_node(**node)
            yield ClusterConfig(made.address)
        finally:
            made.shutdown()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as a worker has: sums can depend on it in the last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def collection(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes with one that is cut short and one that is none."""
    folder = tmp_path_factory.mktemp("collection")
    for file in pictures.iterdir():
        shutil.copy(file, folder)
    (folder / "017坏.jpg").write_text("no picture", encoding="utf-8")
    (folder / "020.png").write_bytes((pictures / "020.png").read_bytes()[:3000])
    return folder


def assert_same(one: Path, other: Path) -> None:
    """Every file of both stores has the same bytes; locks and numbers of commits aside."""
    first, second = Store.open(one), Store.open(other)
    assert first.manifest.shards == second.manifest.shards  # sizes and hashes of all files
    assert first.manifest.indexes == second.manifest.indexes
    names = first.metadata["name"].to_pylist()
    assert len(set(names)) == len(names) == len(first) == len(second)
    listings = [folder / "failures.jsonl" for folder in (one, other)]
    assert listings[0].exists() == listings[1].exists()
    if listings[0].exists():
        assert listings[0].read_bytes() == listings[1].read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
class TestCluster:
    """Against the store of one process."""

    @pytest.fixture(scope="class")
    def expected(self, collection: Path, embedded: fgclip2.FGCLIP2, tmp_path_factory: pytest.TempPathFactory) -> Path:
        import torch

        torch.set_num_threads(1)
        out = tmp_path_factory.mktemp("expected") / "idx"
        build_store(collection, out, embedded, BuildConfig(shard_size=SIZE), progress=False)
        return out

    def test_it_is_the_same_store_and_goes_on(
        self,
        collection: Path,
        expected: Path,
        embedded: fgclip2.FGCLIP2,
        cluster: ClusterConfig,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        out = tmp_path / "idx"
        real, calls = Store.append, 0

        def stops(store: Store, entries: list[object]) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KeyboardInterrupt
            real(store, entries)  # type: ignore[arg-type]

        def build(folder: Path, at: ClusterConfig | None) -> tuple[int, ...]:
            done = build_store(collection, folder, embedded, BuildConfig(shard_size=SIZE), cluster=at, progress=False)
            return done.embedded, done.reused, done.described, done.unchanged, done.missing, done.failed, done.total

        with monkeypatch.context() as patch:
            patch.setattr(Store, "append", stops)
            with pytest.raises(KeyboardInterrupt):
                build(out, cluster)
        kept = len(Store.open(out))
        assert 0 < kept < 71
        assert build(out, cluster) == (71 - kept, 0, 0, kept, 0, 2, 71)
        assert_same(out, expected)

        # What is renamed, changed and gone afterwards has the same effect, too.
        both = tmp_path / "both"
        shutil.copytree(expected, both)
        changed = {name: collection / name for name in ("003.png", "004.png", "030.png")}
        originals = {file: file.read_bytes() for file in changed.values()}
        try:
            changed["003.png"].rename(collection / "3.png")
            changed["004.png"].write_bytes(originals[changed["030.png"]])
            changed["030.png"].unlink()
            assert build(out, cluster) == build(both, None) == (0, 2, 0, 68, 2, 2, 72)
        finally:
            (collection / "3.png").unlink()
            for file, data in originals.items():
                file.write_bytes(data)
        assert_same(out, both)

    def test_a_killed_worker_neither_loses_nor_doubles_a_picture(
        self, collection: Path, expected: Path, embedded: fgclip2.FGCLIP2, cluster: ClusterConfig, tmp_path: Path
    ) -> None:
        # A pipe in place of a picture holds the worker that reads it, until it is killed there.
        held = collection / "033.png"
        data = held.read_bytes()
        held.unlink()
        os.mkfifo(held)
        killed: list[int] = []

        def kill() -> None:
            with held.open("wb"):  # returns when somebody reads
                killed.extend(readers(held))
                for process in killed:
                    os.kill(process, signal.SIGKILL)
            fresh = tmp_path / "fresh"
            fresh.write_bytes(data)
            fresh.replace(held)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            done = build_store(
                collection, tmp_path / "idx", embedded, BuildConfig(shard_size=SIZE), cluster=cluster, progress=False
            )
        finally:
            if thread.is_alive():
                os.close(os.open(held, os.O_RDONLY | os.O_NONBLOCK))
            thread.join()
        assert len(killed) == 1
        assert (done.embedded, done.failed, done.total) == (71, 2, 71)
        assert_same(tmp_path / "idx", expected)

    def test_shards_with_boxes_by_the_command(
        self, pictures: Path, cluster: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for number in range(2):
            members: dict[str, bytes] = {}
            for scene in range(4):
                members[f"{scene}.png"] = (pictures / f"{4 * number + scene:03d}.png").read_bytes()
                told = {"caption": f"第{scene}张", "boxes": [[10, 10, 90, 100 + scene]]}
                members[f"{scene}.json"] = json.dumps(told).encode()
            (tmp_path / "shards").mkdir(exist_ok=True)
            write_tar(tmp_path / "shards" / f"{number}.tar", members)
        common = ["index", str(tmp_path / "shards"), "--model", "tiny", "--boxes", "--shard-size", "3", "--out"]
        assert main([*common, str(tmp_path / "one")]) == 0
        ray = ["--engine", "ray", "--address", str(cluster.address), "--workers", "2"]
        assert main([*common, str(tmp_path / "two"), *ray]) == 0
        assert capsys.readouterr().out.count("8 pictures (8 embedded)") == 2
        assert_same(tmp_path / "one", tmp_path / "two")
        assert contents(Store.open(tmp_path / "two"))["1.tar#3.png"][2][0].tolist() == [10, 10, 90, 103]

    def test_what_a_cluster_lacks_is_said(
        self, few_pictures: Path, embedded: fgclip2.FGCLIP2, cluster: ClusterConfig, tmp_path: Path
    ) -> None:
        def build(model: fgclip2.FGCLIP2, at: ClusterConfig) -> None:
            build_store(few_pictures, tmp_path / "idx", model, cluster=at, progress=False)

        with pytest.raises(Fgclip2Error, match="the cluster has 2 processors and 0 GPUs, a worker takes 1 and 1"):
            build(embedded, ClusterConfig(cluster.address, worker_gpus=1))
        memory = fgclip2.FGCLIP2(embedded.model, embedded.processor)
        with pytest.raises(Fgclip2Error, match="a model in memory cannot be sent"):
            build(memory, cluster)

    @pytest.fixture
    def few_pictures(self, pictures: Path, tmp_path: Path) -> Path:
        folder = tmp_path / "few"
        folder.mkdir()
        shutil.copy(pictures / "000.png", folder)
        return folder


def readers(pipe: Path) -> list[int]:
    """Other processes that have a pipe open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if any(os.readlink(link) == str(pipe) for link in (process / "fd").iterdir()):
                    found.append(int(process.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"worker_cpus": 0}, {"worker_gpus": -1.0}])
def test_workers_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(Fgclip2Error, match=next(iter(wrong))):
        ClusterConfig(**wrong)  # type: ignore[arg-type]
