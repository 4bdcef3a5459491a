"""Collections that are indexed again: what is embedded, kept, pruned, refused, and told."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fgclip2
from fgclip2 import Index, Query
from fgclip2.cli import main
from fgclip2.data.openmoji import Scene
from fgclip2.errors import Fgclip2Error
from fgclip2.search import build as builds
from fgclip2.search import units
from fgclip2.search.build import build_store
from fgclip2.search.conditions import parse_condition
from fgclip2.search.config import BuildConfig, RegionConfig
from fgclip2.search.problems import REASONS, PictureError
from fgclip2.search.sources import Source
from fgclip2.search.store import Store
from tests.search.test_sources import close_folder, encoded, write_tar
from tests.search.test_store import contents


def test_only_what_is_new_is_embedded(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    out = tmp_path / "few.idx"

    def build(**settings: bool) -> builds.BuildReport:
        return build_store(few, out, embedded, BuildConfig(**settings), progress=False)  # type: ignore[arg-type]

    done = build()
    assert (done.embedded, done.unchanged, done.failed, done.total) == (6, 0, 0, 6)
    before = contents(Store.open(out))
    done = build()
    assert (done.embedded, done.unchanged, done.total) == (0, 6, 6)
    assert len(Store.open(out).manifest.shards) == 1

    (few / "000.png").rename(few / "改名.png")
    Image.open(few / "001.png").rotate(90).save(few / "001.png")
    (few / "002.png").unlink()
    (few / "坏.jpg").write_text("no picture", encoding="utf-8")
    data = (few / "003.png").read_bytes()
    (few / "截断.png").write_bytes(data[: len(data) // 2])
    done = build()
    assert (done.embedded, done.reused, done.unchanged, done.missing, done.failed) == (1, 1, 3, 2, 2)
    assert done.total == 7  # the renamed and the removed one are there under their old names still
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [failure["image"] for failure in failures] == ["坏.jpg", "截断.png"]
    after = contents(Store.open(out))
    np.testing.assert_array_equal(after["改名.png"][0], before["000.png"][0])
    assert after["001.png"][3] != before["001.png"][3]

    (few / "坏.jpg").unlink()
    (few / "截断.png").unlink()
    done = build(prune=True)
    assert (done.unchanged, done.missing, done.failed, done.total) == (5, 2, 0, 5)
    assert contents(Store.open(out)).keys() == {"改名.png", "001.png", "003.png", "004.png", "005.png"}
    assert Store.open(out).manifest.counts["deleted"] == 0  # so many were, that it was compacted
    assert not (out / "failures.jsonl").exists()


def test_an_interrupted_run_goes_on_to_the_same_store(
    pictures: Path, scene_store: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again.idx"
    real, calls = units.region_vectors, 0

    def stops(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 40:  # in the second shard of 30
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    config = BuildConfig(shard_size=30)
    with monkeypatch.context() as patch:
        patch.setattr(units, "region_vectors", stops)
        with pytest.raises(KeyboardInterrupt):
            build_store(pictures, out, embedded, config, progress=False)
    assert len(Store.open(out)) == 30
    done = build_store(pictures, out, embedded, config, progress=False)
    assert (done.embedded, done.unchanged) == (42, 30)
    assert Store.open(out).manifest.shards == Store.open(scene_store).manifest.shards


def test_what_a_list_says_anew_takes_effect(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    entries = [
        {"image": f"{n:03d}.png", "来源": "web", "stars": n, "boxes": [[10.0, 20.0, 60.0, 90.0 + n]]} for n in range(6)
    ]
    listing, out = tmp_path / "list.jsonl", tmp_path / "idx"

    def build() -> builds.BuildReport:
        listing.write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
        return build_store(listing, out, embedded, BuildConfig(boxes=True), root=few, progress=False)

    assert build().embedded == 6
    before = contents(Store.open(out))
    assert (build().unchanged, len(Store.open(out).manifest.shards)) == (6, 1)
    entries[1]["来源"] = "手机"
    del entries[2]["stars"]
    entries[3]["boxes"] = [[10.0, 20.0, 60.0, 50.0]]
    entries[4]["boxes"] = []
    done = build()
    assert (done.described, done.embedded, done.unchanged, done.failed) == (2, 2, 2, 0)
    store = Store.open(out)
    after = contents(store)
    facts = {fact["name"]: fact for fact in store.metadata.take(list(store.rows.values())).to_pylist()}
    assert [facts[f"{n:03d}.png"]["来源"] for n in range(3)] == ["web", "手机", "web"]
    assert [facts[f"{n:03d}.png"]["stars"] for n in range(3)] == [0, 1, None]
    assert [facts[f"{n:03d}.png"]["boxes"] for n in range(5)] == [1, 1, 1, 1, 0]
    assert after["003.png"][2][0].tolist() == [10, 20, 60, 50]
    for name in ("001.png", "002.png"):
        for was, now in zip(before[name], after[name], strict=True):
            np.testing.assert_array_equal(now, was)
    np.testing.assert_array_equal(after["004.png"][2], before["004.png"][2][1:])
    assert build().unchanged == 6
    with pytest.raises(Fgclip2Error, match="was made with {'boxes': True}, not with {'boxes': False}"):
        build_store(listing, out, embedded, root=few, progress=False)


def test_a_shard_that_was_packed_anew_is_indexed_again(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    members = {f"{n}.png": (few / f"{n:03d}.png").read_bytes() for n in range(4)}
    shard, out = tmp_path / "part.tar", tmp_path / "idx"
    write_tar(shard, members)
    build_store(shard, out, embedded, progress=False)
    before = contents(Store.open(out))
    write_tar(shard, {"4.png": (few / "004.png").read_bytes(), **dict(reversed(members.items()))})
    assert any(hit.problem for hit in Index.open(out, embedded).search("a dog", top=4))
    done = build_store(shard, out, embedded, progress=False)
    assert (done.embedded, done.described, done.failed, done.total) == (1, 4, 0, 5)
    hits = Index.open(out, embedded).search("a dog", top=5)
    assert [hit.problem for hit in hits] == [""] * 5
    assert all(hit.image().size == (224, 224) for hit in hits)
    after = contents(Store.open(out))
    for name, (vector, *_) in before.items():
        np.testing.assert_array_equal(after[name][0], vector)


def test_what_cannot_be_stored_does_not_stop_a_run(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    """Names that are no UTF-8 are failures; values that fit no column are left out and counted."""
    out = tmp_path / "idx"
    with open(os.fsencode(few) + b"/\xff.png", "wb") as stream:
        stream.write(encoded())
    write_tar(few / "0.tar", {os.fsdecode(b"\xfe.png"): encoded()})
    for _ in range(2):
        done = build_store(few, out, embedded, progress=False)
        assert (done.failed, done.total, done.left_out) == (2, 6, ())
        failures = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [failure["image"] for failure in failures] == ["\udcff.png", "0.tar#\udcfe.png"]
        assert all("no UTF-8" in failure["error"] for failure in failures)
    entries: list[dict[str, object]] = [{"image": f"{n:03d}.png", "stars": n} for n in range(6)]
    entries[1]["stars"] = "many"
    entries[2]["说明"] = "\ud800"
    entries[3]["stars"] = 2**63
    entries[4]["\udc00"] = 1
    listing = tmp_path / "list.jsonl"
    listing.write_text("\n".join(map(json.dumps, [*entries, {"image": "\ud800.png"}])), encoding="utf-8")
    for expected in ((6, 0), (0, 6)):
        done = build_store(listing, tmp_path / "list.idx", embedded, root=few, progress=False)
        assert (done.embedded, done.unchanged) == expected
        assert (done.failed, len(done.left_out)) == (1, 4)
    index = Index.open(tmp_path / "list.idx", embedded)
    facts = {fact["name"]: fact["stars"] for fact in index.store.metadata.to_pylist()}
    assert [facts[f"{n:03d}.png"] for n in range(6)] == [0, None, 2, None, 4, 5]
    with pytest.raises(Fgclip2Error, match="integers of at most 64 bits"):
        index.search("a dog", where=[parse_condition(f"stars > {10**30}")])
    entries[0]["stars"] = True  # the column is one of numbers now
    listing.write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    done = build_store(listing, tmp_path / "list.idx", embedded, root=few, progress=False)
    assert (done.described, done.unchanged) == (1, 5)


def test_a_stray_picture_or_a_link_deletes_nothing(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    shards, out = tmp_path / "shards", tmp_path / "idx"
    (shards / "猫").mkdir(parents=True)
    write_tar(shards / "0.tar", {f"{n}.png": (few / f"{n:03d}.png").read_bytes() for n in range(3)})
    shutil.copy(few / "003.png", shards / "猫" / "a.png")
    build_store(shards, out, embedded, progress=False)
    shutil.copy(few / "004.png", shards)
    (shards / "note.txt").write_text("x", encoding="utf-8")
    (shards / "猫").rename(tmp_path / "moved")
    (shards / "猫").symlink_to(tmp_path / "moved")
    (shards / "self.png").symlink_to("self.png")
    done = build_store(shards, out, embedded, BuildConfig(prune=True), progress=False)
    assert (done.embedded, done.unchanged, done.missing, done.unknown, done.failed, done.others) == (1, 3, 0, 1, 2, 1)
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [failure["image"] for failure in failures] == ["self.png", "猫/"]


def test_pictures_that_wait_are_bounded_by_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large they are, no more than one for each reader beyond the bound; and an error ends the readers."""
    monkeypatch.setattr(units, "_AHEAD_PIXELS", 250)
    image, lock = Image.new("RGB", (10, 10)), threading.Lock()
    decoded, taken, most = 0, 0, 0

    def read(task: units.Task) -> tuple[str, Image.Image]:
        nonlocal decoded, most
        with lock:
            decoded += 1
            most = max(most, decoded - taken)
        return task.source.name, image

    tasks = [units.Task(Source(str(number))) for number in range(60)]
    with units._Ahead(read) as ahead:
        for number, found in enumerate(ahead.of(tasks)):
            assert isinstance(found, tuple)
            assert found[0] == str(number)
            time.sleep(0.002)
            with lock:
                taken += 1
    assert (decoded, taken) == (60, 60)
    assert 3 <= most <= 6
    with units._Ahead(read) as ahead:
        assert next(ahead.of(tasks))  # the other readers wait, and are let go


def test_a_store_is_searched_while_it_is_written(
    few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "idx"
    build_store(few, out, embedded, progress=False)
    writer = Store.open(out)
    writer.delete(["000.png"])
    writer.compact()  # which drops the indexes
    with writer.writing():
        index = Index.open(out, embedded)
        assert "is used from memory and not kept" in caplog.text
        assert {hit.name for hit in index.search("a dog", top=9)} == {f"{n:03d}.png" for n in range(1, 6)}
    writer.delete(["001.png"])
    writer.compact(2)
    assert not list(out.glob("metadata-000001.parquet"))
    hits = index.search("a dog", top=9, where=[("width", ">", 1)])  # as it was opened, though its files are gone
    assert len(hits) == 5
    assert len(Index.open(out, embedded)) == 4


def test_a_store_of_a_folder_that_nobody_may_write(
    few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out = tmp_path / "idx"
    build_store(few, out, embedded, progress=False)
    store = Store.open(out)
    store.compact()

    def refuse(_: object) -> None:  # taking permissions would not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock._acquire", refuse)
    assert len(Index.open(out, embedded).search("a dog", top=9)) == 6
    assert "cannot be written (Permission denied)" in caplog.text
    with pytest.raises(Fgclip2Error, match="cannot be written .Permission denied.; mend"):
        build_store(few, out, embedded, progress=False)


def test_a_shard_that_is_cut_short_is_not_pruned(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    """What was behind its end is unknown; what is gone from a whole shard is deleted."""
    members = {f"{n}.png": (few / f"{n:03d}.png").read_bytes() for n in range(4)}
    shards, out = tmp_path / "shards", tmp_path / "idx"
    shards.mkdir()
    for name in ("one.tar", "two.tar"):
        write_tar(shards / name, members)
    build_store(shards, out, embedded, progress=False)
    whole = (shards / "one.tar").read_bytes()
    (shards / "one.tar").write_bytes(whole[: len(whole) // 2])
    write_tar(shards / "two.tar", {"0.png": members["0.png"]})
    done = build_store(shards, out, embedded, BuildConfig(prune=True), progress=False)
    assert done.missing == 3
    assert {name for name in Store.open(out).rows if name.startswith("two")} == {"two.tar#0.png"}
    assert len([name for name in Store.open(out).rows if name.startswith("one")]) == 4


def test_a_folder_that_cannot_be_read_is_not_pruned(
    few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What is in it is unknown, and it is named as a failure; what is gone elsewhere is deleted."""
    (few / "猫" / "黑").mkdir(parents=True)
    for number, name in ((1, "猫"), (2, "猫/黑"), (3, "猫")):
        (few / f"{number:03d}.png").rename(few / name / f"{number:03d}.png")
    shutil.copy(few / "000.png", few / "猫.png")  # its name begins alike
    out = tmp_path / "idx"
    build_store(few, out, embedded, progress=False)
    (few / "000.png").unlink()
    (few / "猫.png").unlink()
    with monkeypatch.context() as patch:
        close_folder(patch, few / "猫")
        assert main(["index", str(few), "--out", str(out), "--prune"]) == 0
        told = capsys.readouterr().out
    assert "5 pictures (2 unchanged, 2 deleted, 3 kept of folders or shards that cannot be read, or are links)" in told
    assert "1 pictures could not be read" in told
    assert Store.open(out).rows.keys() == {"004.png", "005.png", "猫/001.png", "猫/黑/002.png", "猫/003.png"}
    (failure,) = map(json.loads, (out / "failures.jsonl").read_text(encoding="utf-8").splitlines())
    assert failure["image"] == "猫/"
    assert "Permission denied" in failure["error"]
    (few / "猫" / "001.png").unlink()
    done = build_store(few, out, embedded, BuildConfig(prune=True), progress=False)
    assert (done.unchanged, done.missing, done.unknown, done.failed) == (4, 1, 0, 0)


def test_of_one_name_twice_in_a_shard_the_last_counts(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    """As for tar, which adds what was changed behind what is there."""
    shard = tmp_path / "part.tar"
    write_tar(shard, {"a.png": (few / "000.png").read_bytes()})
    with tarfile.open(shard, "a") as archive:
        archive.add(few / "001.png", "a.png")
    done = build_store(shard, tmp_path / "idx", embedded, progress=False)
    assert (done.embedded, done.total) == (1, 1)
    (hit,) = Index.open(tmp_path / "idx", embedded).search("a dog", top=5)
    np.testing.assert_array_equal(np.asarray(hit.image()), np.asarray(Image.open(few / "001.png").convert("RGB")))


def test_few_pictures_of_many_runs_share_a_shard(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    for number in range(6):
        if number % 3:
            (few / f"{number:03d}.png").write_text("no picture", encoding="utf-8")
    build_store(few, tmp_path / "idx", embedded, BuildConfig(shard_size=3), progress=False)
    assert [shard.pictures for shard in Store.open(tmp_path / "idx").manifest.shards] == [2]
    failures = (tmp_path / "idx" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["image"] for line in failures] == [f"{n:03d}.png" for n in (1, 2, 4, 5)]


def test_a_table_of_numbers_can_be_filtered(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    lines = ["image,来源,stars", *(f"{n:03d}.png,{['web', '手机'][n % 2]},{n / 2}" for n in range(6))]
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    build_store(tmp_path / "list.csv", tmp_path / "idx", embedded, root=few, progress=False)
    hits = Index.open(tmp_path / "idx", embedded).search("a dog", where=[("stars", ">=", 1.5)], rerank=0)
    assert sorted(hit.name for hit in hits) == ["003.png", "004.png", "005.png"]


def test_a_store_keeps_its_model_settings_and_root(
    few: Path, embedded: fgclip2.FGCLIP2, tiny: fgclip2.FGCLIP2, tmp_path: Path
) -> None:
    out = tmp_path / "few.idx"
    build_store(few, out, embedded, progress=False)
    with pytest.raises(Fgclip2Error, match="was made by model 'tiny'"):
        build_store(few, out, tiny, progress=False)
    with pytest.raises(Fgclip2Error, match="was made by model 'tiny'"):
        Index.open(out, tiny)
    with pytest.raises(Fgclip2Error, match="was made with .*'count': 32"):
        build_store(few, out, embedded, BuildConfig(regions=RegionConfig(count=8)), progress=False)
    other = tmp_path / "other"
    shutil.copytree(few, other)
    with pytest.raises(Fgclip2Error, match="make another store"):
        build_store(other, out, embedded, progress=False)
    for file in few.iterdir():
        file.write_text("no picture", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="not one could be read; the first: "):
        build_store(few, tmp_path / "none.idx", embedded, progress=False)


def test_a_folder_that_became_a_link_is_still_the_same(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    out = tmp_path / "idx"
    build_store(few, out, embedded, progress=False)
    moved = few.rename(tmp_path / "moved")
    few.symlink_to(moved)
    for given in (few, moved):
        done = build_store(given, out, embedded, progress=False)
        assert (done.unchanged, done.total) == (6, 6)
    for root in (None, few, moved):
        hits = Index.open(out, embedded, root=root).search("a dog", top=6)
        assert [hit.problem for hit in hits] == [""] * 6


def test_a_wrong_root_leaves_nothing_behind(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    listing, out, wrong = tmp_path / "list.txt", tmp_path / "idx", tmp_path / "错"
    listing.write_text("000.png\n001.png\n", encoding="utf-8")
    wrong.mkdir()
    (wrong / "001.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(Fgclip2Error, match="of 2 pictures .* not one could be read; the first: .*000.png.*--root"):
        build_store(listing, out, embedded, root=wrong, progress=False)
    assert not out.exists()
    # What an earlier run has left without a picture binds nobody either.
    Store.create(out, model_hash="0" * 64, model_name="other", dimension=3, root=wrong, settings={"boxes": True})
    with pytest.raises(Fgclip2Error, match="not one could be read"):
        build_store(listing, out, embedded, root=wrong, progress=False)
    assert Store.open(out).manifest.model_name == "other"
    done = build_store(listing, out, embedded, root=few, progress=False)
    assert (done.embedded, done.total) == (2, 2)
    store = Store.open(out, model_hash=embedded.hash)
    assert (store.manifest.root, store.manifest.dimension) == (str(few.resolve()), embedded.width)


def test_pictures_that_are_gone_or_changed_are_still_hits_and_say_so(
    few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path
) -> None:
    build_store(few, tmp_path / "idx", embedded, progress=False)
    (few / "000.png").unlink()
    shutil.copy(few / "002.png", few / "001.png")
    index = Index.open(tmp_path / "idx")
    hits = index.search("a dog", top=6)
    problems = {hit.name: hit.problem for hit in hits}
    assert "cannot be read" in problems["000.png"]
    assert "has changed since it was indexed" in problems["001.png"]
    assert list(problems.values()).count("") == 4
    gone = next(hit for hit in hits if hit.name == "000.png")
    with pytest.raises(Fgclip2Error, match="has no heat-map: .*cannot be read"):
        gone.heat_map()
    assert {hit.name: hit.reason for hit in hits if hit.problem} == {"000.png": "gone", "001.png": "changed"}
    page = hits.write_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 * 4 + 1  # the changed one is shown without a heat-map
    cards = {re.search(r"<div>(\d+\.png)", card)[1]: card for card in page.split("<li>")[1:]}  # type: ignore[index]
    assert [name for name, card in cards.items() if 'class="gone"' in card] == ["000.png"]
    for language in ("en", "zh"):
        assert REASONS["gone"][language] in cards["000.png"]
        assert page.count(REASONS["changed"]["zh"]) == page.count("has changed since") == 1
    # What is remembered of a picture does not speak for it when it is gone.
    (few / "003.png").unlink()
    (few / "004.png").write_bytes((few / "004.png").read_bytes()[:900])
    again = {hit.name: hit for hit in index.search("a dog", top=6)}
    assert {name: hit.reason for name, hit in again.items() if hit.problem} == {
        "000.png": "gone", "001.png": "changed", "003.png": "gone", "004.png": "changed",
    }  # fmt: skip
    assert again["003.png"].similarity is None
    with pytest.raises(PictureError) as caught:
        again["004.png"].image()
    assert caught.value.reason == "damaged"
    moved = few.rename(tmp_path / "moved")
    hits = Index.open(tmp_path / "idx", root=moved).search("a dog", top=6)
    assert {hit.name for hit in hits if not hit.problem} == {"002.png", "005.png"}


def test_shards_and_boxes(few: Path, scenes: list[Scene], embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for scene in scenes[:4]:
        boxes = [{"bbox": [side / 224 for side in thing.box]} for thing in scene.objects]
        members[f"{scene.seed}.png"] = (few / f"{scene.seed:03d}.png").read_bytes()
        members[f"{scene.seed}.json"] = json.dumps({"caption": scene.short["zh"][0], "bbox_info": boxes}).encode()
    write_tar(tmp_path / "part.tar", {**members, "fake.jpg": b"no picture", "outside.png": encoded(),
                                      "outside.json": b'{"bbox_info": [{"bbox": [2, 2, 3, 3]}]}'})  # fmt: skip
    done = build_store(tmp_path / "part.tar", tmp_path / "idx", embedded, BuildConfig(boxes=True), progress=False)
    assert (done.embedded, done.failed) == (4, 2)
    index = Index.open(tmp_path / "idx", embedded)
    store = index.store
    for row, scene in enumerate(scenes[:4]):
        expected = np.array([thing.box for thing in scene.objects])
        first = store.offsets[row]
        np.testing.assert_allclose(store.boxes(np.arange(first, first + len(expected))), expected, atol=1e-3)
    hit = index.search(scenes[2].objects[0].phrases["zh"], top=1)[0]
    assert hit.name == "part.tar#2.png"
    assert hit.metadata["caption"] == scenes[2].short["zh"][0]
    assert hit.similarity is not None


def test_photographs_are_indexed_or_named(shared: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    folder = tmp_path / "照片"
    folder.mkdir()
    photographs = sorted((shared / "data" / "coco-bilingual-open" / "images").glob("*.jpg"))[:10]
    for file in photographs:
        (folder / file.name).write_bytes(file.read_bytes())
    data = photographs[0].read_bytes()
    (folder / "截断.jpg").write_bytes(data[: len(data) // 2])
    (folder / "fake.jpg").write_text("not a picture at all", encoding="utf-8")
    done = build_store(folder, tmp_path / "idx", embedded, progress=False)
    assert (done.embedded, done.failed, done.total) == (10, 2, 10)
    failures = (tmp_path / "idx" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["image"] for line in failures] == ["fake.jpg", "截断.jpg"]
    index = Index.open(tmp_path / "idx", embedded)
    assert set(index.store.rows) == {file.name for file in photographs}
    for file in photographs[:3]:
        assert index.search(Query(image=file), top=1)[0].name == file.name


def test_a_moved_collection_is_gone_on_with_by_its_contents(
    few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path
) -> None:
    build_store(few, tmp_path / "idx", embedded, progress=False)
    moved = few.rename(tmp_path / "搬家")
    with pytest.raises(Fgclip2Error, match="if they were moved there, give --root with that folder"):
        build_store(moved, tmp_path / "idx", embedded, progress=False)
    done = build_store(moved, tmp_path / "idx", embedded, root=moved, progress=False)
    assert (done.unchanged, done.embedded, done.total) == (6, 0, 6)
    assert Store.open(tmp_path / "idx").manifest.root == str(moved.resolve())
    other = tmp_path / "other"
    other.mkdir()
    (other / "000.png").write_bytes(encoded())
    with pytest.raises(Fgclip2Error, match="of 1 of the same names in .* none has the same contents"):
        build_store(other, tmp_path / "idx", embedded, root=other, progress=False)


def test_links_that_were_followed_are_found_again(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for file in few.iterdir():
        (album / file.name).symlink_to(file)
    done = build_store(album, tmp_path / "idx", embedded, BuildConfig(follow_links=True), progress=False)
    assert (done.embedded, done.failed) == (6, 0)
    hits = fgclip2.Index.open(tmp_path / "idx", embedded).search("a dog", top=3)
    assert [hit.problem for hit in hits] == [""] * 3
    assert hits[0].image().size == (224, 224)
