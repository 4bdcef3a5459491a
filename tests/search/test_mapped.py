"""Pages of a store's vectors that were read do not stay in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fgclip2.search.mapped import let_go, map_tensors, to_safetensors
from tests.search.synthetic import entry, new_store

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' account of a process's memory")


def resident(file: Path) -> int:
    """KiB of a file that are mapped into this process and in memory."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if not line.split(" ", 1)[0].endswith(":"):  # the first line of a mapping
            counts = line.endswith(str(file))
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@linux
def test_what_was_read_is_let_go_and_can_be_read_again(tmp_path: Path):
    numbers = np.random.default_rng(0).standard_normal((4096, 768)).astype(np.float16)
    file = tmp_path / "vectors.safetensors"
    save_file({"regions": numbers, "pictures": numbers[:5]}, file)
    mapped = map_tensors(file)
    for _ in range(2):
        np.testing.assert_array_equal(mapped["regions"][::7], numbers[::7])
        assert resident(file) >= 4096
        let_go(mapped["regions"])  # a view into the map of the whole file
        assert resident(file) == 0
    np.testing.assert_array_equal(mapped["pictures"], numbers[:5])


def test_an_array_that_is_not_mapped_stays_what_it_is():
    numbers = np.arange(5.0)
    let_go(numbers)
    let_go(numbers[1:])
    np.testing.assert_array_equal(numbers, np.arange(5.0))


@linux
def test_rows_of_a_store_leave_no_pages_behind(tmp_path: Path):
    store = new_store(tmp_path / "store")
    for start in (0, 40):
        store.append([entry(f"{number}.jpg", number) for number in range(start, start + 40)])
    files = [store.folder / shard.vectors.name for shard in store.manifest.shards]
    rows = np.array([200, 3, 3, 121])
    expected = np.concatenate(store.blocks("regions"))[rows].astype(np.float32)
    assert any(resident(file) for file in files)
    np.testing.assert_array_equal(store.vectors("regions", rows), expected)
    assert [resident(file) for file in files] == [0, 0]


def test_arrays_in_any_memory_order_come_back_as_they_were(tmp_path: Path) -> None:
    columns = np.arange(12, dtype=np.float32).reshape(4, 3)
    given = {"columns": columns.T, "steps": columns[:, ::2], "back": columns[::-1], "none": columns[:0].T}
    (tmp_path / "a").write_bytes(to_safetensors(given))
    for name, array in map_tensors(tmp_path / "a").items():
        np.testing.assert_array_equal(array, given[name])
