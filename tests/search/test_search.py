"""A collection of scenes from its files to its hits, with the embedded model, in both languages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fgclip2
from fgclip2 import Index, Query
from fgclip2.cli import main
from fgclip2.data.openmoji import Scene, SceneObject, truth
from fgclip2.errors import Fgclip2Error
from fgclip2.search.build import build_store
from fgclip2.search.config import BuildConfig
from fgclip2.search.index import open_index
from fgclip2.search.problems import PictureError
from fgclip2.search.query import EncodedQuery
from fgclip2.search.regions import cell_boxes, extents, window_features, windows
from fgclip2.search.search import affordable
from tests.search.synthetic import WIDTH, entry, new_store, unit


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
    cells = windows(features.grid)
    products = window_features(features, cells) @ text[0].as_subclass(torch.Tensor)
    assert hit.part_scores[0] == pytest.approx(float(products.max()), abs=2e-3)
    similarity = features.similarity(text)
    reach = cell_boxes(extents(similarity, cells[products.argmax()][None]), features.grid, features.image_size)
    np.testing.assert_allclose(hit.box, reach[0], atol=1e-3)
    assert hit.drawn().size == hit.heat_map().size == (224, 224)


def test_any_hit_has_a_heat_map_on_demand(
    index: Index, pictures: Path, embedded: fgclip2.FGCLIP2, tmp_path: Path
) -> None:
    looked = index.search("a red heart", top=2, rerank=2)
    plain = index.search("a red heart", top=72, rerank=0)
    assert (looked.looked_at, plain.looked_at) == (2, 0)
    other = next(hit for hit in plain if hit.name == looked[0].name)
    assert other.similarity is None
    assert np.array_equal(np.asarray(other.heat_map()), np.asarray(looked[0].heat_map()))
    shutil.copytree(pictures, tmp_path / "moved")
    gone = replace(plain[5], root=tmp_path / "moved")
    (gone.root / gone.name).unlink()
    with pytest.raises(PictureError, match="cannot be read"):
        gone.heat_map()
    with pytest.raises(Fgclip2Error, match="take a hit of Index.search"):
        replace(plain[5], look=None).heat_map()


def test_how_many_are_looked_at_again_follows_device_model_and_sizes(index: Index) -> None:
    hits = list(index.search("a dog", top=60, rerank=0))

    def model(device: str, width: int) -> Any:
        return SimpleNamespace(device=torch.device(device), width=width)

    large = [replace(hit, metadata={**hit.metadata, "width": 4000, "height": 3000}) for hit in hits]
    assert affordable(model("cuda", 768), large) == 60
    assert (
        affordable(model("cpu", 192), hits)
        > affordable(model("cpu", 768), hits)
        >= affordable(model("cpu", 768), large)
    )
    # 2 x 13 x 12 x 1152**2 x 1,024 operations a picture are 0.42e12, and a thread does 1.5e11 in three seconds
    assert affordable(model("cpu", 1152), large) == max(5, int(1.5e11 * torch.get_num_threads() / 4.24e11))
    assert affordable(model("cpu", 1152), large[:3]) == 3
    assert affordable(model("cpu", 768), hits, 64) > affordable(model("cpu", 768), hits, 1024)
    assert index.search("a dog", top=3).looked_at == affordable(index.model, hits[:50])


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
    assert capsys.readouterr().out == "no hits\n"
    assert main([*arguments, "--where", "width < 100", "--json"]) == 0
    said = capsys.readouterr()
    assert (json.loads(said.out)["hits"], said.err.splitlines()[-1]) == ([], "no hits")
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
