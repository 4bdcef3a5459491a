"""The store keeps what was committed, through appends, deletions, compaction, damage and crashes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fgclip2.errors import Fgclip2Error
from fgclip2.search import manifest as manifests
from fgclip2.search import store as stores
from fgclip2.search.entries import Entry
from fgclip2.search.store import Store
from tests.search.synthetic import WIDTH, entry, new_store

Make = Callable[[Sequence[Sequence[Entry]]], Store]

NAMES = st.sampled_from(["a.jpg", "b.jpg", "猫/1.jpg", "猫/2.jpg", "c.jpg", "d.jpg"])


def contents(store: Store) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Vector, regions, boxes and hash of every live picture."""
    hashes, found = store.metadata["sha256"].to_pylist(), {}
    for name, row in store.rows.items():
        regions = np.arange(store.offsets[row], store.offsets[row + 1])
        vector = store.vectors("pictures", np.array([row]))[0]
        found[name] = vector, store.vectors("regions", regions), store.boxes(regions), hashes[row]
    return found


def assert_holds(store: Store, expected: dict[str, Entry]) -> None:
    found = contents(store)
    assert found.keys() == expected.keys()
    assert len(store) == len(expected) == store.manifest.counts["pictures"]
    assert store.manifest.counts["regions"] == sum(len(item.regions) for item in expected.values())
    for name, item in expected.items():
        vector, regions, boxes, digest = found[name]
        np.testing.assert_array_equal(vector, item.vector.astype(np.float16))
        np.testing.assert_array_equal(regions, item.regions.astype(np.float16))
        np.testing.assert_array_equal(boxes, item.boxes)
        assert digest == item.sha256


class AgainstDictionary(RuleBasedStateMachine):
    """Any sequence of changes leaves what it would leave in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        self.store = new_store(self.folder / "store")
        self.expected: dict[str, Entry] = {}

    @rule(items=st.dictionaries(NAMES, st.tuples(st.integers(0, 99), st.integers(1, 4)), max_size=4))
    def append(self, items: dict[str, tuple[int, int]]) -> None:
        entries = {name: entry(name, seed, regions) for name, (seed, regions) in items.items()}
        self.store.append(list(entries.values()))
        self.expected |= entries

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if self.expected:
            names = data.draw(st.sets(st.sampled_from(sorted(self.expected))))
            assert self.store.delete(names) == len(names)
            self.expected = {name: item for name, item in self.expected.items() if name not in names}

    @rule(size=st.integers(1, 3))
    def compact(self, size: int) -> None:
        self.store.compact(size)
        assert self.store.alive.all()
        assert all(shard.pictures <= size for shard in self.store.manifest.shards)

    @rule()
    def reopen(self) -> None:
        self.store = Store.open(self.folder / "store", model_hash="a" * 64)

    @invariant()
    def same(self) -> None:
        assert_holds(self.store, self.expected)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestAgainstDictionary = AgainstDictionary.TestCase
TestAgainstDictionary.settings = settings(max_examples=12, stateful_step_count=10, deadline=None)


def test_compaction_leaves_no_other_files(make_store: Make) -> None:
    store = make_store([[entry("a", 1), entry("b", 2)], [entry("c", 3), entry("a", 4)]])
    store.delete(["b"])
    assert any(file.name.startswith("deleted-") for file in store.folder.iterdir())
    store.compact()
    files = {file.name for file in store.folder.iterdir() if not file.name.startswith(".")}
    assert files == {"manifest.json", *(file.name for file in store.manifest.files())}
    assert len(files) == 3
    assert list(store.rows) == ["c", "a"]


def test_manifest_says_what_is_in_it(make_store: Make) -> None:
    store = make_store([[entry("a", 1), entry("b", 2, 5)]])
    said = json.loads((store.folder / "manifest.json").read_text(encoding="utf-8"))
    assert said["model_hash"] == "a" * 64
    assert (said["dimension"], said["metric"], said["dtype"]) == (WIDTH, "cosine", "float16")
    assert said["heads"] == {"pictures": "short or long", "regions": "box"}
    assert said["counts"] == {"pictures": 2, "regions": 8, "deleted": 0}
    for item in said["shards"]:
        for part in ("vectors", "metadata"):
            file = store.folder / item[part]["name"]
            assert manifests.file_hash(file) == item[part]["sha256"]
            assert file.stat().st_size == item[part]["bytes"]


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
@pytest.mark.parametrize("part", ["vectors", "metadata", "deleted", "manifest"])
def test_truncated_files_are_named(make_store: Make, part: str, share: float) -> None:
    store = make_store([[entry("a", 1), entry("b", 2)]])
    store.delete(["a"])
    (file,) = store.folder.glob(f"{part}*")
    os.truncate(file, int(file.stat().st_size * share))
    for verify in (True, False):
        with pytest.raises(Fgclip2Error, match=file.name):
            Store.open(store.folder, verify=verify)


def test_a_changed_byte_is_found(make_store: Make) -> None:
    store = make_store([[entry("a", 1)]])
    file = store.folder / store.manifest.shards[0].vectors.name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    Store.open(store.folder, verify=False)
    with pytest.raises(Fgclip2Error, match="other contents"):
        Store.open(store.folder)


def test_repair_drops_damaged_shards_and_keeps_the_rest(make_store: Make) -> None:
    store = make_store([[entry("a", 1), entry("b", 2)], [entry("c", 3)], [entry("d", 4)]])
    store.delete(["a"])
    (store.folder / store.manifest.shards[1].metadata.name).unlink()
    with pytest.raises(Fgclip2Error, match="--repair"):
        Store.open(store.folder)
    assert Store.repair(store.folder) == ["000002"]
    assert_holds(Store.open(store.folder), {"b": entry("b", 2), "d": entry("d", 4)})
    assert Store.repair(store.folder) == []


def test_repair_without_the_marks_keeps_the_newest_of_each_name(make_store: Make) -> None:
    store = make_store([[entry("a", 1), entry("b", 2)], [entry("a", 3)]])
    (mark,) = store.folder.glob("deleted-*")
    mark.write_bytes(b"")
    assert Store.repair(store.folder) == ["deleted"]
    assert_holds(Store.open(store.folder), {"a": entry("a", 3), "b": entry("b", 2)})


@pytest.mark.parametrize("change", ["append", "replace", "delete", "compact"])
def test_a_failure_between_any_two_writes_changes_nothing(
    make_store: Make, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"a": entry("a", 1), "b": entry("b", 2), "c": entry("c", 3)}
    made = make_store([[before["a"], before["b"]], [before["c"]]])
    made.delete(["c"])
    del before["c"]
    after = {"append": {**before, "d": entry("d", 4)}, "replace": {**before, "a": entry("a", 5)},
             "delete": {"b": before["b"]}, "compact": before}[change]  # fmt: skip
    steps: dict[str, Callable[[Store], object]] = {
        "append": lambda store: store.append([entry("d", 4)]),
        "replace": lambda store: store.append([entry("a", 5)]),
        "delete": lambda store: store.delete(["a"]),
        "compact": lambda store: store.compact(1),
    }
    real = stores.write_atomically
    for survived in range(20):
        left = survived

        def write(path: Path, data: bytes) -> None:
            nonlocal left
            if left == 0:
                raise OSError("the machine stops")
            left -= 1
            real(path, data)

        store = Store.open(made.folder)
        with monkeypatch.context() as patch:
            patch.setattr(stores, "write_atomically", write)
            patch.setattr(manifests, "write_atomically", write)
            try:
                steps[change](store)
            except OSError:
                assert_holds(Store.open(made.folder), before)
                continue
        break
    assert survived >= (2 if change == "delete" else 3)
    assert_holds(Store.open(made.folder), after)
    with Store.open(made.folder).writing():
        pass
    named = {"manifest.json", *(file.name for file in Store.open(made.folder).manifest.files())}
    assert {file.name for file in made.folder.iterdir() if not file.name.startswith(".")} == named


KILLED = """
import sys
from pathlib import Path
from tests.search.synthetic import entry, new_store
from fgclip2.search.store import Store
folder = Path(sys.argv[1])
store = Store.open(folder) if folder.exists() else new_store(folder)
for shard in range(len(store.manifest.shards), int(sys.argv[2])):
    store.append([entry(f"{shard}-{k}.jpg", 100 * shard + k, 20) for k in range(40)])
    print(shard, flush=True)
"""


def test_a_killed_writer_loses_no_committed_shard_and_resumes_to_the_same_store(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def start(folder: Path, shards: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), str(shards)],
            stdout=subprocess.PIPE, text=True, env=environment, cwd=root,
        )  # fmt: skip

    with start(tmp_path / "killed", 10_000) as writer:
        assert writer.stdout is not None
        committed = [int(writer.stdout.readline()) for _ in range(3)]
        writer.send_signal(signal.SIGKILL)
        committed += [int(line) for line in writer.stdout.read().split()]
    assert writer.returncode == -signal.SIGKILL
    kept = Store.open(tmp_path / "killed")
    assert len(kept.manifest.shards) in (len(committed), len(committed) + 1)  # one may not have been told yet
    assert_holds(
        kept,
        {
            f"{shard}-{k}.jpg": entry(f"{shard}-{k}.jpg", 100 * shard + k, 20)
            for shard in range(len(kept.manifest.shards))
            for k in range(40)
        },
    )
    total = len(kept.manifest.shards) + 2
    for folder in (tmp_path / "killed", tmp_path / "whole"):
        with start(folder, total) as writer:
            writer.communicate()
        assert writer.returncode == 0
    resumed, whole = Store.open(tmp_path / "killed"), Store.open(tmp_path / "whole")
    assert resumed.manifest.shards == whole.manifest.shards  # sizes and hashes of all files


def test_another_models_store_is_refused(make_store: Make) -> None:
    store = make_store([[entry("a", 1)]])
    with pytest.raises(Fgclip2Error, match="was made by model 'none' .hash aaaaaaaaaaaa.*use that model"):
        Store.open(store.folder, model_hash="b" * 64)


def test_one_writes_at_a_time(make_store: Make) -> None:
    store = make_store([[entry("a", 1)]])
    other = Store.open(store.folder)
    with store.writing(), pytest.raises(Fgclip2Error, match="being written by another process"):
        other.append([entry("b", 2)])
    store.append([entry("b", 2)])
    with pytest.raises(Fgclip2Error, match="changed by another process meanwhile"):
        other.append([entry("c", 3)])
    assert len(other) == 1
    assert len(Store.open(store.folder)) == 2


@pytest.mark.parametrize("name", ["../vectors-000001.safetensors", "/etc/passwd", "vectors-1.safetensors", "a.pickle"])
def test_a_manifest_cannot_name_foreign_files(make_store: Make, name: str) -> None:
    store = make_store([[entry("a", 1)]])
    file = store.folder / "manifest.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    said["shards"][0]["vectors"]["name"] = name
    file.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="manifest.json is damaged"):
        Store.open(store.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "fgclip2.search", "version": 2}', "null"])
def test_other_manifests_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="manifest.json"):
        Store.open(tmp_path)


def test_bad_pictures_are_refused_and_nothing_is_stored(make_store: Make) -> None:
    store = make_store([[entry("a", 1, split="train", stars=3)]])
    good = entry("b", 2)
    wide = Entry("b", good.sha256, good.size, np.ones(3, np.float32), good.regions, good.boxes)
    long = Entry("b", good.sha256, good.size, good.vector * 2, good.regions, good.boxes)
    bare = Entry("b", good.sha256, good.size, good.vector, good.regions[:0], good.boxes[:0])
    broken = Entry("b", good.sha256, good.size, good.vector * np.nan, good.regions, good.boxes)
    for wrong, message in ((wide, "shapes"), (long, "length 2"), (bare, "at least 1"), (broken, "unit length")):
        with pytest.raises(Fgclip2Error, match=message):
            store.append([entry("c", 3), wrong])
    with pytest.raises(Fgclip2Error, match="given twice"):
        store.append([entry("b", 2), entry("b", 3)])
    with pytest.raises(Fgclip2Error, match="one type"):
        store.append([entry("b", 2, stars="many")])
    with pytest.raises(Fgclip2Error, match="'z' is not in"):
        store.delete(["a", "z"])
    store.append([entry("b", 2, stars=4.5)])
    assert store.metadata["stars"].to_pylist() == [3.0, 4.5]
    assert store.metadata["split"].to_pylist() == ["train", None]
    assert list(Store.open(store.folder).rows) == ["a", "b"]


NEVER_BORN = """
import os, signal, sys
from pathlib import Path
from tests.search.synthetic import new_store
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
new_store(Path(sys.argv[1]))
"""


def test_a_store_that_was_killed_at_its_first_write_is_begun_again(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", NEVER_BORN, str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": str(root)}, cwd=root, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "store").iterdir()
    assert left.name.startswith(".manifest.json.")
    store = new_store(tmp_path / "store")
    store.append([entry("a", 1)])
    assert not left.exists()
    assert_holds(Store.open(store.folder), {"a": entry("a", 1)})


def test_only_an_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="exists and is no search store"):
        new_store(tmp_path)
    with pytest.raises(Fgclip2Error, match="holds no search store"):
        Store.open(tmp_path)


def test_transposed_arrays_are_stored_as_they_read(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    plain = entry("a", 1, regions=2)
    boxes = np.array([[1.0, 20.0], [2.0, 21.0], [30.0, 40.0], [31.0, 45.0]], np.float32).T  # as [x1, y1, x2, y2]).T
    given = replace(plain, boxes=boxes, regions=np.asfortranarray(plain.regions))
    store.append([given])
    store.append([replace(given, name="b")])
    store.compact()
    opened = Store.open(tmp_path / "store")
    expected = [[1, 2, 30, 31], [20, 21, 40, 45]]
    assert opened.boxes(np.arange(4)).tolist() == expected * 2
    np.testing.assert_allclose(opened.vectors("regions", np.arange(2)), plain.regions, atol=1e-3)
