"""A collection of scenes from its files to its hits, with the embedded model, in both languages."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from fgclip2 import Index, Query
from fgclip2.cli import main
from fgclip2.data.openmoji import Scene, SceneObject, truth
from fgclip2.errors import Fgclip2Error
from fgclip2.search import build as builds
from fgclip2.search import units
from fgclip2.search.build import build_store
from fgclip2.search.config import BuildConfig, RegionConfig
from fgclip2.search.index import open_index
from fgclip2.search.problems import REASONS, PictureError
from fgclip2.search.query import EncodedQuery
from fgclip2.search.search import parse_condition
from fgclip2.search.sources import Source
from fgclip2.search.store import Store
from tests.search.synthetic import WIDTH, entry, new_store, unit
from tests.search.test_sources import close_folder, encoded, write_tar
from tests.search.test_store import contents


@pytest.fixture(scope="module")
def index(scene_store: Path, embedded: fgclip2.FGCLIP2) -> Index:
    return Index.open(scene_store, embedded)


@pytest.fixture(scope="module")
def smalls(scenes: list[Scene]) -> list[tuple[str, SceneObject]]:
    """Small things whose colour is named, with the name of their scene's file."""
    return [
        (f"{scene.seed:03d}.png", thing)
        for scene in scenes
        for thing in scene.objects
        if thing.attributes.colour is not None and max(np.subtract(thing.box[2:], thing.box[:2])) <= 224 / 5
    ][:40]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def right_boxes(scenes: list[Scene], thing: SceneObject) -> dict[str, list[tuple[float, float, float, float]]]:
    """Boxes of everything its phrase is not false of, by file."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for scene in scenes:
        for other in scene.objects:
            if truth(thing.attributes, other) is not False:
                found.setdefault(f"{scene.seed:03d}.png", []).append(other.box)
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_small_things_are_found_and_shown(
    index: Index, scenes: list[Scene], smalls: list[tuple[str, SceneObject]], language: str
) -> None:
    ranks: dict[str, list[bool]] = {"whole": [], "regions": [], "looked at": []}
    located = []
    for _, thing in smalls:
        right = right_boxes(scenes, thing)
        text = thing.phrases[language]
        for way, options in {
            "whole": {"region_weight": 0.0, "rerank": 0},
            "regions": {"rerank": 0},
            "looked at": {"rerank": 3},
        }.items():
            hits = index.search(text, top=3, **options)  # type: ignore[arg-type]
            ranks[way].append(any(hit.name in right for hit in hits))
        first = next((hit for hit in hits if hit.name in right), None)
        if first is not None:
            located.append(any(iou(first.box, box) >= 0.3 for box in right[first.name]))
            assert first.similarity is not None
            assert first.similarity.shape == (1, 16, 16)
    recall = {way: np.mean(found) for way, found in ranks.items()}
    assert recall["regions"] >= 0.85
    assert recall["looked at"] >= 0.85
    assert recall["regions"] >= 1.25 * recall["whole"]
    assert np.mean(located) >= 0.7


@pytest.mark.parametrize("language", ["en", "zh"])
def test_captions_find_their_scene(index: Index, scenes: list[Scene], language: str) -> None:
    for kind, captions in (
        ("short", [scene.short[language][0] for scene in scenes[:20]]),
        ("long", [scene.long[language] for scene in scenes[:10]]),
    ):
        answers = [index.search(caption, top=3, rerank=0) for caption in captions]
        first = [hits[0].name == f"{number:03d}.png" for number, hits in enumerate(answers)]
        assert np.mean(first) >= 0.8
        if kind == "long":
            assert "long" in {hits.kind for hits in answers}  # some Chinese ones are short enough for the short head


def test_scores_are_exact_and_in_deviations_of_the_collection(index: Index, embedded: fgclip2.FGCLIP2) -> None:
    text = "a dog, 红色徽章"
    hits = index.search(text, top=72, rerank=0)
    assert len(hits) == hits.total == hits.allowed == 72
    store = index.store
    whole = np.concatenate(store.blocks("pictures")).astype(np.float32) @ vector(embedded, [text], "short").T
    products = np.concatenate(store.blocks("regions")).astype(np.float32) @ vector(embedded, hits.parts, "box").T
    spans = list(zip(store.offsets[:-1], store.offsets[1:], strict=True))
    parts = np.stack([products[a:b].max(0) for a, b in spans])
    expected = (whole[:, 0] - whole.mean()) / whole.std() / 3
    expected = expected + 2 / 3 * ((parts - parts.mean(0)) / parts.std(0)).min(1)
    names = store.metadata["name"].to_pylist()
    assert [hit.name for hit in hits] == [names[row] for row in np.argsort(-expected, kind="stable")]
    np.testing.assert_allclose([hit.score for hit in hits], -np.sort(-expected), atol=1e-3)
    row = names.index(hits[0].name)
    assert hits[0].whole_score == pytest.approx(whole[row, 0], abs=1e-4)
    assert hits[0].part_scores == pytest.approx(parts[row], abs=1e-4)
    first = spans[row][0] + products[slice(*spans[row])].argmax(0)
    assert hits[0].boxes == tuple(map(tuple, store.boxes(first).tolist()))


def vector(model: fgclip2.FGCLIP2, texts: Sequence[str], kind: str) -> np.ndarray:
    return model.text_features(texts, kind=kind).as_subclass(torch.Tensor).numpy()  # type: ignore[arg-type]


def test_all_phrases_must_be_there(index: Index, scenes: list[Scene]) -> None:
    found = 0
    for scene in scenes[:20]:
        one, two = scene.objects[0], scene.objects[1]
        hits = index.search([one.phrases["en"], two.phrases["zh"]], top=3, rerank=0)
        assert len(hits[0].boxes) == len(hits.parts) == 2
        found += any(hit.name == f"{scene.seed:03d}.png" for hit in hits)
    assert found >= 16


def test_what_is_taken_away_goes_down(index: Index, scenes: list[Scene]) -> None:
    name = scenes[0].objects[0].names["en"]
    plain, less = index.search(name, top=1, rerank=0), index.search(Query((name,), minus=(name,)), top=72, rerank=0)
    changed = next(hit for hit in less if hit.name == plain[0].name)
    assert changed.part_scores[0] == pytest.approx(plain[0].part_scores[0] / 2, abs=1e-3)


def test_a_picture_finds_itself_and_its_parts(index: Index, scenes: list[Scene], pictures: Path) -> None:
    for number in (3, 11):
        hits = index.search(Query(image=pictures / f"{number:03d}.png"), top=3)
        assert hits[0].name == f"{number:03d}.png"
        assert hits[0].whole_score == pytest.approx(1, abs=1e-3)
        box = scenes[number].objects[-1].box
        (hit,) = index.search(Query(image=scenes[number].image, box=box), top=1)
        assert hit.name == f"{number:03d}.png"
        assert iou(hit.box, box) >= 0.3
    with pytest.raises(Fgclip2Error, match="says nothing of whole pictures"):
        index.search(Query(image=scenes[3].image, box=box), region_weight=0.5)


def test_looking_again_agrees_with_the_dense_map(index: Index, embedded: fgclip2.FGCLIP2, pictures: Path) -> None:
    hit = index.search("a red heart", top=1, rerank=5)[0]
    features = embedded.dense_features(pictures / hit.name)
    text = embedded.text_features("a red heart", kind="box")
    np.testing.assert_allclose(hit.similarity, features.similarity(text).numpy(), atol=2e-3)
    x1, y1, x2, y2 = np.rint(np.array(hit.box) / 14).astype(int)  # cells of 14 px
    assert features.norms is not None
    inside = (features.map * features.norms[..., None])[y1:y2, x1:x2].mean((0, 1))
    assert hit.part_scores[0] == pytest.approx(float(inside / inside.norm() @ text[0]), abs=2e-3)
    assert hit.drawn().size == hit.heat_map().size == (224, 224)


def test_conditions_on_metadata(pictures: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    entries = [{"image": str(pictures / f"{n:03d}.png"), "来源": ["web", "手机"][n % 2], "stars": n} for n in range(12)]
    listing = tmp_path / "list.jsonl"
    listing.write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    build_store(listing, tmp_path / "idx", embedded, root=pictures, progress=False)
    index = Index.open(tmp_path / "idx", embedded)
    hits = index.search("a dog", where=[("来源", "=", "手机"), ("stars", ">", 4)], rerank=0)
    assert sorted(hit.name for hit in hits) == ["005.png", "007.png", "009.png", "011.png"]
    assert (hits.total, hits.allowed) == (12, 4)
    assert len(index.search("a dog", where=[("stars", "in", [1, 2])])) == 2
    assert len(index.search("a dog", where=[("stars", "<", 0)])) == 0
    for wrong, message in (([("size", "=", 1)], "no column 'size'"), ([("stars", "~", 1)], "cannot be used")):
        with pytest.raises(Fgclip2Error, match=message):
            index.search("a dog", where=wrong)
    for options in ({"top": 0}, {"rerank": -1}, {"region_weight": 1.5}):
        with pytest.raises(Fgclip2Error, match=next(iter(options))):
            index.search("a dog", **options)  # type: ignore[arg-type]


@pytest.fixture
def few(pictures: Path, tmp_path: Path) -> Path:
    """A folder of six of the scenes, to be changed."""
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(6):
        shutil.copy(pictures / f"{number:03d}.png", folder)
    return folder


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


def test_every_part_gives_enough_pictures(tmp_path: Path) -> None:
    """Where few pictures have most of the regions that are nearest, more are asked for."""
    draws = np.random.default_rng(0)
    towards = unit(draws.normal(size=(2, WIDTH)))
    store = new_store(tmp_path / "store")
    near = [unit(towards[n % 2] + draws.normal(scale=0.01, size=(300, WIDTH))) for n in range(4)]
    items = [replace(entry(f"near {n}", n), regions=near[n], boxes=np.ones((300, 4), np.float32)) for n in range(4)]
    store.append(items + [entry(f"far {n}", 100 + n) for n in range(200)])
    index = Index(
        store, None, tmp_path, open_index(store, "pictures"), open_index(store, "regions"),  # type: ignore[arg-type]
    )  # fmt: skip
    asked = EncodedQuery(towards[:0], towards, ("a", "b"), "picture", "all", 1.0)
    assert len(index._candidates(asked, store.alive, 20, 1)) <= 4
    for distinct in (50, 204, 10_000):
        rows = index._candidates(asked, store.alive, 20, distinct)
        assert len(rows) >= min(distinct, 204)
    only = np.arange(204) % 2 == 1
    rows = index._candidates(asked, only, 20, 60)
    assert len(rows) >= 60
    assert only[rows].all()
    hits = index._scored(asked, index._scale(asked), np.arange(204), 204)
    assert len(hits) == 204


def test_a_picture_is_asked_with_the_detail_of_the_store(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    picture = Image.open(few / "000.png").resize((900, 900))
    picture.save(few / "000.png")
    build_store(few, tmp_path / "idx", embedded, BuildConfig(max_patches=64), progress=False)
    index = Index.open(tmp_path / "idx", embedded)
    hit = index.search(Query(image=few / "000.png"), top=1, rerank=0)[0]
    assert hit.name == "000.png"
    assert hit.whole_score == pytest.approx(1, abs=2e-3)


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


def test_the_commands(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], scenes: list[Scene]) -> None:
    out, page = tmp_path / "few.idx", tmp_path / "page.html"
    (few / "坏.jpg").write_text("no picture", encoding="utf-8")
    (few / "note.txt").write_text("a note", encoding="utf-8")
    assert main(["index", str(few), "--out", str(out), "--model", "tiny", "--shard-size", "4"]) == 0
    told = capsys.readouterr().out
    assert "6 pictures (6 embedded)" in told
    assert "1 other files in the collection are no pictures by their names" in told
    assert "1 pictures could not be read" in told
    phrase = scenes[4].objects[0].phrases
    arguments = ["search", str(out), phrase["zh"], "--top", "3"]
    assert main([*arguments, "--html", str(page), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["parts"] == [phrase["zh"]]
    assert answer["hits"][0]["name"] == "004.png"
    assert all(len(part["box"]) == 4 for hit in answer["hits"] for part in hit["parts"])
    html = page.read_text(encoding="utf-8")
    assert phrase["zh"] in html
    assert html.count("data:image/jpeg") == 6
    assert "<script" not in html
    page.unlink()
    page.mkdir()
    assert main([*arguments, "--html", str(page)]) == 2  # which is a folder: the hits are there all the same
    assert capsys.readouterr().out.count(phrase["zh"]) == 3
    assert main([*arguments, "--where", "width < 100"]) == 0
    assert capsys.readouterr().out == ""
    (vectors,) = out.glob("vectors-000001*")
    vectors.write_bytes(vectors.read_bytes()[:-1])
    assert main(arguments) == 2
    assert "--repair" in capsys.readouterr().err
    assert main(["index", str(few), "--out", str(out), "--shard-size", "4", "--repair"]) == 0
    assert "dropped 1 damaged parts: 000001" in capsys.readouterr().out
    assert main(arguments) == 0
    for wrong, message in (
        (["search", str(out)], "nothing to look for"),
        (["search", str(tmp_path / "none"), "a"], "holds no search store"),
        (["index", str(tmp_path / "none"), "--out", str(tmp_path / "x"), "--model", "tiny"], "does not exist"),
        (["search", str(out), "a", "--where", "width"], "is not understood"),
        (["index", str(few), "--out", str(out), "--workers", "2"], "need --engine ray"),
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert message in error


def test_names_and_queries_are_escaped_in_the_page(few: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path) -> None:
    (few / "000.png").rename(few / "<img src=x onerror=alert(1)>.png")
    build_store(few, tmp_path / "idx", embedded, progress=False)
    page = (
        Index.open(tmp_path / "idx", embedded)
        .search("<script>alert(1)</script>", top=6)
        .write_html(tmp_path / "p.html")
    )
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror" in html
