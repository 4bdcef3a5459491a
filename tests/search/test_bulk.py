"""Two workers of a cluster make the store that one process makes, whatever happens to them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from fgclip2.cli import main
from fgclip2.errors import Fgclip2Error
from fgclip2.search import bulk
from fgclip2.search.build import BuildReport, build_store
from fgclip2.search.bulk import _connected, _Setup, _task, _Worker, check_contents, pack, unpack
from fgclip2.search.config import BuildConfig, ClusterConfig
from fgclip2.search.entries import Entry
from fgclip2.search.sources import Source
from fgclip2.search.store import Store
from fgclip2.search.units import Digests, Outcome, Task, embed_unit

SIZE = 15  # of a shard: 72 scenes are five of them


def test_outcomes_survive_the_way_back() -> None:
    arrays = np.ones(3, np.float32) / 3, np.ones((2, 3), np.float32) / 7, np.array([[0, 1, 2, 3.3]] * 2, np.float32)
    arrays = arrays[0], np.asfortranarray(arrays[1]), np.array([[0, 5], [1, 6], [2, 7], [3.3, 8]], np.float32).T
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
    """One with room for two workers."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=node)
        try:
            yield ClusterConfig(made.address)
        finally:
            made.shutdown()


@contextmanager
def one_thread() -> Iterator[None]:
    """As many as a worker has: sums can depend on it in the last bit."""
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
    np.testing.assert_array_equal(first.alive, second.alive)
    names = np.array(first.metadata["name"].to_pylist())[first.alive]
    assert len(set(names)) == len(names) == len(first)
    listings = [folder / "failures.jsonl" for folder in (one, other)]
    assert listings[0].exists() == listings[1].exists()
    if listings[0].exists():
        assert listings[0].read_bytes() == listings[1].read_bytes()


@pytest.fixture(scope="module")
def expected(collection: Path, embedded: fgclip2.FGCLIP2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that this process makes of them."""
    out = tmp_path_factory.mktemp("expected") / "idx"
    with one_thread():
        build_store(collection, out, embedded, BuildConfig(shard_size=SIZE), progress=False)
    return out


@pytest.mark.slow
def test_killed_workers_and_callers_leave_the_same_store(
    collection: Path,
    expected: Path,
    embedded: fgclip2.FGCLIP2,
    cluster: ClusterConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "idx"
    real, calls = Store.append, 0
    killed: list[int] = []

    def stops(store: Store, entries: list[Entry]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:  # later shards are in work
            killed.extend(workers())
            for process in killed:
                os.kill(process, signal.SIGKILL)
        if calls == 4:
            raise KeyboardInterrupt
        real(store, entries)

    def build() -> BuildReport:
        config = BuildConfig(shard_size=SIZE)
        return build_store(collection, out, embedded, config, cluster=cluster, progress=False)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", stops)
        with pytest.raises(KeyboardInterrupt):
            build()
    assert killed
    kept = Store.open(out)
    assert kept.manifest.shards == Store.open(expected).manifest.shards[:3]
    done = build()
    assert (done.embedded, done.unchanged, done.failed, done.total) == (71 - len(kept), len(kept), 2, 71)
    assert_same(out, expected)


@pytest.mark.slow
def test_what_was_renamed_and_changed_by_the_command(
    collection: Path, expected: Path, cluster: ClusterConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, folder = tmp_path / "one", tmp_path / "two", tmp_path / "pictures"
    shutil.copytree(collection, folder)
    for out in (one, two):
        shutil.copytree(expected, out)
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        (out / "manifest.json").write_text(json.dumps({**manifest, "root": str(folder)}), encoding="utf-8")
    (folder / "003.png").rename(folder / "改名.png")
    (folder / "030.png").replace(folder / "004.png")
    Image.open(folder / "005.png").rotate(90).save(folder / "005.png")
    common = ["index", str(folder), "--shard-size", str(SIZE), "--out"]
    with one_thread(), pytest.MonkeyPatch.context() as patch:
        load = fgclip2.load
        patch.setattr("fgclip2.load", lambda name, device, dtype: load(name, device, "float32"))
        assert main([*common, str(one)]) == 0
        assert main([*common, str(two), "--engine", "ray", "--address", str(cluster.address)]) == 0
    told = "72 pictures (1 embedded, 2 renamed or copied, 67 unchanged, 2 not in the collection any more"
    assert capsys.readouterr().out.count(told) == 2
    assert_same(one, two)


@pytest.mark.slow
def test_what_a_cluster_lacks_is_said(
    pictures: Path, embedded: fgclip2.FGCLIP2, cluster: ClusterConfig, tmp_path: Path
) -> None:
    shutil.copy(pictures / "000.png", tmp_path)

    def build(model: fgclip2.FGCLIP2, at: ClusterConfig) -> None:
        build_store(tmp_path, tmp_path / model.hash, model, cluster=at, progress=False)

    with pytest.raises(Fgclip2Error, match="the cluster has 2 processors and 0 GPUs, a worker takes 1 and 1"):
        build(embedded, ClusterConfig(cluster.address, worker_gpus=1))
    with pytest.raises(Fgclip2Error, match="a model in memory cannot be sent"):
        build(fgclip2.FGCLIP2(embedded.model, embedded.processor), cluster)


@pytest.fixture
def elsewhere(collection: Path, tmp_path: Path) -> Path:
    """The folder of that name on another machine, so far the same."""
    other = tmp_path / "other"
    shutil.copytree(collection, other)
    return other


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda other: shutil.copy(other / "001.png", other / "000.png"), "000.png' .* other contents there"),
        (
            lambda other: (other / "017坏.jpg").write_text("no pictur!", encoding="utf-8"),
            "017坏.jpg' .* other contents",
        ),
        (lambda other: (other / "002.png").unlink(), "002.png' .* it cannot read it .*cannot be read"),
        (lambda other: shutil.copy(other / "000.png", other / "gone.png"), "gone.png' .* read there only"),
        (lambda other: None, ""),
    ],
)
def test_a_worker_that_sees_other_pictures_is_found_out(
    embedded: fgclip2.FGCLIP2, collection: Path, elsewhere: Path, change: Callable[[Path], object], said: str
) -> None:
    names = ["000.png", "002.png", "017坏.jpg", "020.png", "gone.png"]
    tasks = [Task(Source(name)) for name in names] + [Task(Source("listed.png", problem="its boxes are wrong"))]
    change(elsewhere)
    outcomes = unpack(pack(embed_unit(tasks, embedded, BuildConfig(), elsewhere, Digests([]))))
    with ThreadPoolExecutor(2) as readers:
        if said:
            with pytest.raises(Fgclip2Error, match=f"picture '{said}"):
                check_contents(tasks, outcomes, collection, "worker-3", readers)
        else:
            check_contents(tasks, outcomes, collection, "worker-3", readers)
            assert [outcome.done for outcome in outcomes] == ["embedded"] * 2 + ["failed"] * 4


@pytest.mark.slow
def test_nothing_is_stored_of_a_run_with_another_folder(
    embedded: fgclip2.FGCLIP2, collection: Path, elsewhere: Path, cluster: ClusterConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Workers of this machine read another folder, as on a machine with another one at the same path."""
    shutil.copy(elsewhere / "030.png", elsewhere / "040.png")  # in the third shard
    real = bulk._Setup
    monkeypatch.setattr(bulk, "_Setup", lambda *fields: replace(real(*fields), root=str(elsewhere)))
    config = BuildConfig(shard_size=SIZE)
    with pytest.raises(Fgclip2Error, match=r"picture '040.png' is not the same for the worker on .* other contents"):
        build_store(collection, tmp_path / "idx", embedded, config, cluster=cluster, progress=False)
    assert set(Store.open(tmp_path / "idx").rows) < {f"{number:03d}.png" for number in range(40)}


@pytest.mark.slow
def test_only_a_named_cluster_is_joined(cluster: ClusterConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", str(cluster.address))  # as on a machine where one runs
    joined = {}
    for address in (None, "auto", cluster.address):
        with _connected(ClusterConfig(address)):
            joined[address] = ray.get_runtime_context().gcs_address
        assert not ray.is_initialized()
    assert joined["auto"] == joined[cluster.address] == cluster.address
    assert joined[None] != cluster.address


def test_a_worker_says_what_is_wrong_with_it(embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    right = _Setup(
        fgclip2.__version__, str(embedded.directory), "tiny", embedded.hash, "float32", torch.get_num_threads(), False,
        str(tmp_path), BuildConfig(), None,
    )  # fmt: skip
    assert right.load().hash == embedded.hash
    wrong = {"version": "it has fgclip2", "root": "does not see the picture folder", "model_hash": "has hash"}
    for field, message in wrong.items():
        answer = _Worker(replace(right, **{field: "0"}))({"tasks": ["[]"]})
        assert message in answer["problem"][0]
        assert "cannot embed" in answer["problem"][0]


def test_tasks_survive_the_way_there() -> None:
    source = Source("猫.tar#1.png", {"shard_start": 512, "shard_bytes": 9, "stars": 0.1}, ((1.5, 2, 3, 4),), True)
    task = Task(source, "a" * 64, "embed")
    back = _task(json.loads(json.dumps(asdict(task))))
    assert back.source.pixel_boxes((7, 9)) == source.pixel_boxes((7, 9))
    assert asdict(back) == {**asdict(task), "source": {**asdict(source), "boxes": [[1.5, 2, 3, 4]]}}


def workers() -> list[int]:
    """Processes that embed for a cluster."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                    found.append(int(process.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"worker_cpus": 0}, {"worker_gpus": -1.0}])
def test_workers_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(Fgclip2Error, match=next(iter(wrong))):
        ClusterConfig(**wrong)  # type: ignore[arg-type]
