"""The page's parts and every one of its endpoints, with the values that a visitor is shown."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import fgclip2
from demos import app
from demos.labels import LANGUAGES, TEXTS, preferred, text
from demos.limits import explained
from demos.page import build_demo
from demos.scenes import scene_index
from demos.search_tab import Chosen, Searcher, full_pictures, next_corner, thumbnails
from fgclip2 import Index, Query, visualize
from fgclip2.errors import Fgclip2Error
from fgclip2.highlight import highlight, self_similarity
from fgclip2.search.problems import REASONS

PHRASES = "red\n狗"


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def picture(collection: Path) -> Path:
    return collection / "40" / "images" / "0003.png"


def names(gallery: list[dict[str, str]]) -> list[str]:
    return [item["caption"].split(" · ")[-1] for item in gallery]


def test_build_demo_is_pure_and_every_event_has_a_name(embedded: fgclip2.FGCLIP2, index: Index) -> None:
    demo = build_demo(embedded, index)
    assert isinstance(demo, gr.Blocks)
    assert not demo.is_running
    events = list(demo.fns.values())
    called = [event.api_name for event in events]
    assert all(isinstance(name, str) and name for name in called)
    assert len(set(called)) == len(called)
    model = {"search", "search_picture", "compare", "highlight", "redraw", "ask", "ask_point", "highlight_taken"}
    assert {event.api_name for event in events if event.concurrency_id == "model"} == model
    assert all(event.concurrency_limit == 1 for event in events if event.api_name in model)


def test_every_label_is_in_both_languages() -> None:
    for key, (english, chinese) in TEXTS.items():
        assert set(re.findall(r"{(\w+)", english)) == set(re.findall(r"{(\w+)", chinese)), key
        if key not in ("english_hint", "chinese_hint", "language", "phrases_hint"):
            assert not re.search("[\u4e00-\u9fff]", english), key
            assert re.search("[\u4e00-\u9fff]", chinese), key
    assert preferred("zh-CN,zh;q=0.9,en;q=0.8") == "zh"
    assert preferred("de,en;q=0.5,zh;q=0.3") == "en"
    assert preferred("") == "en"


def test_every_endpoint_is_called_below(client: Client) -> None:
    listed = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in listed if f'"{name}"' not in source] == []


@pytest.mark.parametrize("query", ["red, dog", "狗，红色"])
def test_search(client: Client, index: Index, query: str) -> None:
    gallery, told, *_ = client.predict(query, "", "objects >= 4", 7, "zh", api_name="/search")
    hits = index.search(query, top=7, where=[("objects", ">=", 4)], rerank=7)
    assert 0 < len(hits) == len(gallery)
    assert names(gallery) == [Path(hit.name).name for hit in hits]
    assert re.match(rf"找到 \*\*{len(hits)}\*\* 张，搜索了 {hits.allowed} 张（索引共 40 张）", told)
    shown = np.asarray(Image.open(gallery[0]["image"]).convert("RGB"), float)
    assert np.abs(shown - np.asarray(hits[0].drawn(320), float)).mean() < 6  # JPEG, of coloured lines
    assert client.predict(2, "en", api_name="/pick_search") == 2
    pictures, facts = client.predict("en", api_name="/show_search")
    assert facts == hits[1].to_json()
    assert [item["caption"] for item in pictures][1:] == [
        f"{part} · {score:.3f}" for part, score in zip(hits[1].parts, hits[1].part_scores, strict=True)
    ]
    for item, expected in zip(pictures, [hits[1].drawn(), hits[1].heat_map(0), hits[1].heat_map(1)], strict=True):
        drawn = np.asarray(Image.open(item["image"]).convert("RGB"), float)
        assert np.abs(drawn - np.asarray(expected, float)).mean() < 6
    # The picture that was clicked is taken, whatever was searched since.
    client.predict("blue", "", "", 5, "en", api_name="/search")
    client.predict("a cat", "一只猫", "", 6, "en", api_name="/compare")
    assert client.predict("en", api_name="/show_search")[1] == facts
    taken, phrases = client.predict("en", api_name="/take")
    assert phrases.splitlines() == list(hits.parts)
    np.testing.assert_array_equal(np.asarray(Image.open(taken)), np.asarray(hits[1].image()))
    items, *_ = client.predict(handle_file(taken), phrases, "heat", 0.5, 0.6, "auto", "en", api_name="/highlight_taken")
    assert [item["caption"].split(" · ")[0] for item in items] == list(hits.parts)


def test_nothing_to_show_before_a_search(address: str) -> None:
    fresh = Client(address, verbose=False)
    for name in ("/pick_search", "/pick_english"):
        with pytest.raises(AppError, match="请先搜索"):
            fresh.predict(1, "zh", api_name=name)
    for name in ("/show_search", "/take"):
        with pytest.raises(AppError, match="Search first"):
            fresh.predict("en", api_name=name)


@pytest.mark.parametrize(
    ("query", "without"), [("a dog; red", "blue"), ("一只狗；红色", "蓝色；一只猫"), ("red", "red")]
)
def test_phrases_that_must_all_hold_and_others_taken_away(
    client: Client, index: Index, query: str, without: str
) -> None:
    gallery, *_ = client.predict(query, without, "", 8, "zh", api_name="/search")
    texts, minus = (tuple(re.split("[;；] ?", given)) for given in (query, without))
    hits = index.search(Query(texts, minus), top=8, rerank=8)
    assert hits.parts == texts
    assert names(gallery) == [Path(hit.name).name for hit in hits]
    plain = index.search(Query(texts), top=8, rerank=8)
    assert [hit.part_scores for hit in plain] != [hit.part_scores for hit in hits]


def test_search_with_a_region(client: Client, index: Index, picture: Path) -> None:
    file = handle_file(picture)
    box, shown = client.predict(file, "200, 150", "en", api_name="/corner")  # a click on the upper left corner
    assert box == "0, 0, 200, 150"
    drawn = np.asarray(Image.open(shown).convert("RGB"), float)
    plain = np.asarray(Image.open(picture).convert("RGB"), float)
    changed = np.abs(drawn - plain).max(-1) > 60
    assert changed[145:152, 20:180].any(0).mean() > 0.8  # its lower edge, black and white
    assert changed[170:].mean() < 0.01  # JPEG
    for typed in (box, "0 0 200 150", "0，0，200，150"):
        gallery, *_ = client.predict(file, typed, "", 5, "en", api_name="/search_picture")
        hits = index.search(Query(image=picture, box=(0, 0, 200, 150)), top=5, rerank=5)
        assert names(gallery) == [Path(hit.name).name for hit in hits]
    assert hits[0].whole_score is None  # whole pictures are not compared
    client.predict(1, "zh", api_name="/pick_search")
    pictures, _ = client.predict("zh", api_name="/show_search")
    assert pictures[1]["caption"] == f"所选区域 · {hits[0].part_scores[0]:.3f}"
    assert client.predict(api_name="/forget_region") == ("", None)
    for wrong in ("1, 2", "5, 5, 5, 9", "0, 0, 321, 9", "a, b, c, d", "nan, 0, 9, 9", "9, 9, 1, 1", "1, 2, 3, 4, 5"):
        with pytest.raises(AppError, match=f"{wrong} is no region of this picture: .* 320 x 320"):
            client.predict(file, wrong, "", 5, "en", api_name="/search_picture")
        with pytest.raises(AppError, match="不是这张图片中的区域"):
            client.predict(file, wrong, "", 5, "zh", api_name="/search_picture")


def test_two_clicks_are_a_region() -> None:
    region = ""
    for point, corners in (
        ((30, 90), [30, 90]),
        ((80, 20), [30, 20, 80, 90]),  # opposite, in whichever order
        ((5, 6), [5, 6]),  # a third one begins anew
        ((5, 60), [5, 60]),  # no area
        ((0, 61), [0, 60, 5, 61]),
    ):
        assert next_corner(region, point) == corners
        region = ", ".join(map(str, corners))
    assert next_corner("x, y", (1, 2)) == [1, 2]


@pytest.mark.parametrize("language", LANGUAGES)
def test_pictures_that_are_not_as_indexed_say_why(
    embedded: fgclip2.FGCLIP2, tmp_path: Path, language: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = scene_index(embedded, tmp_path, 4, progress=False)
    images = index.root / "images"
    searcher = Searcher(index)
    searcher.search("a dog", "", "", 4, language)  # what it remembers then must not hide what happens now
    (images / "0000.png").unlink()
    (images / "0001.png").write_bytes((images / "0002.png").read_bytes())
    gallery, _, hits = searcher.search("a dog", "", "", 4, language)
    captions = {hit.name: (shown, caption) for hit, (shown, caption) in zip(hits, gallery, strict=True)}
    gone, changed = REASONS["gone"][language], REASONS["changed"][language]
    shown, caption = captions["images/0000.png"]
    assert caption.endswith(text("unreadable", language, reason=gone))
    assert len(np.unique(np.asarray(shown))) == 1
    shown, caption = captions["images/0001.png"]
    assert caption.endswith(changed)
    assert len(np.unique(np.asarray(shown))) > 1
    assert not any(reason in captions["images/0003.png"][1] for reason in (gone, changed))
    hit = next(hit for hit in hits if hit.name == "images/0000.png")
    pictures, facts = searcher.show(Chosen(hit, hits.parts), language)
    assert len(pictures) == 1
    assert pictures[0][1].endswith(gone)
    assert facts["problem"] == gone
    with pytest.raises(gr.Error) as caught:
        searcher.take(Chosen(hit, hits.parts), language)
    assert caught.value.message == text("unusable", language, reason=gone)
    assert str(index.root / "images" / "0000.png") in caplog.text  # the console is told in full


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", ["/data/photos.idx", "C:\\photos.idx", "'/root/x'", "在/home/x"])
def test_paths_of_the_machine_are_for_the_console(path: str, language: str, caplog: pytest.LogCaptureFixture) -> None:
    @explained
    def handler(language: str) -> None:
        raise Fgclip2Error(f"{path} holds no search store")

    with pytest.raises(gr.Error) as caught:
        handler(language)
    assert caught.value.message == text("see_console", language)
    assert path in caplog.text


def test_search_with_a_picture(client: Client, index: Index, picture: Path) -> None:
    gallery, told, *_ = client.predict(handle_file(picture), "", "", 5, "en", api_name="/search_picture")
    hits = index.search(Query(image=picture), top=5, rerank=5)
    assert names(gallery) == [Path(hit.name).name for hit in hits]
    assert hits[0].name == "images/0003.png"
    assert told.startswith("**5** pictures of 40 searched")
    with pytest.raises(AppError, match="请先选择图片"):
        client.predict(None, "", "", 5, "zh", api_name="/search_picture")


def test_both_languages_side_by_side(client: Client, index: Index) -> None:
    english, first, chinese, second, shared, *_ = client.predict("a dog", "一只狗", "", 6, "en", api_name="/compare")
    expected = [[Path(hit.name).name for hit in index.search(query, top=6, rerank=6)] for query in ("a dog", "一只狗")]
    assert [names(english), names(chinese)] == expected
    assert first.startswith("**6** pictures")
    assert second.startswith("**6** pictures")
    assert f"**{len(set(expected[0]) & set(expected[1]))}** of 6" in shared
    for number, source in enumerate(("english", "chinese")):
        pick, show = {"english": ("/pick_english", "/show_english"), "chinese": ("/pick_chinese", "/show_chinese")}[
            source
        ]
        assert client.predict(3, "en", api_name=pick) == 3
        assert client.predict("en", api_name=show)[1]["name"] == f"images/{expected[number][2]}"


@pytest.mark.parametrize("name", ["/highlight", "/redraw"])
def test_highlight(client: Client, embedded: fgclip2.FGCLIP2, picture: Path, name: str) -> None:
    view, patches = ("boxes", "256") if name == "/highlight" else ("mask", "auto")
    arguments = (handle_file(picture), PHRASES, view, 0.5, 0.7, patches, "zh")
    gallery, table, told, png, listing, *_ = client.predict(*arguments, api_name=name)
    dense = embedded.dense_features(picture, max_patches=256 if patches == "256" else None)
    found = highlight(embedded, dense, ["red", "狗"])
    answer = json.loads(Path(listing).read_text(encoding="utf-8"))
    assert (answer["size"], answer["grid"], answer["threshold"]) == ([320, 320], list(dense.grid), 0.7)
    for number, phrase in enumerate(answer["phrases"]):
        regions = found.regions(number, 0.7, (320, 320))
        assert phrase["text"] == found.phrases[number]
        assert phrase["highest"] == pytest.approx(found.similarity[number].max(), abs=1e-4)
        assert phrase["level"] == pytest.approx(found.level(number, 0.7), abs=1e-4)
        assert [tuple(region["box"]) for region in phrase["regions"]] == [region.box for region in regions]
        assert sum(region["share"] for region in phrase["regions"]) == pytest.approx(
            found.mask(number, 0.7, (320, 320)).mean(), abs=1e-4
        )
    assert table["headers"] == ["短语", "序号", "框 (x1, y1, x2, y2)", "面积 %", "平均相似度", "最高"]
    rows, columns = dense.grid
    shown = [
        region
        for phrase in answer["phrases"]
        for number, region in enumerate(phrase["regions"])
        if number == 0 or region["share"] * rows * columns >= 0.25
    ]
    assert [row[2] for row in table["data"]] == [", ".join(f"{x:.0f}" for x in region["box"]) for region in shown]
    assert all(float(row[3]) > 0 for row in table["data"])
    assert told.startswith(f"2 个短语 · {dense.grid[0]} x {dense.grid[1]} 个图块")
    assert [item["caption"] for item in gallery] == [
        f"{phrase['text']} · {phrase['highest']:.3f}" for phrase in answer["phrases"]
    ]
    sheet = Image.open(png)
    assert sheet.size == (648, 320)
    if view == "mask":  # what is outside the mask is the picture itself, but for the label
        outside = ~found.mask(0, 0.7, (320, 320))
        same = (np.asarray(sheet)[:, :320] == np.asarray(Image.open(picture).convert("RGB"))).all(-1)
        assert same[outside].mean() > 0.9
        assert not same[~outside].all()


def test_redraw_without_anything_does_nothing(client: Client) -> None:
    answers = client.predict(None, "", "heat", 0.5, 0.5, "auto", "en", api_name="/redraw")
    assert all(answer in (None, []) or "value" not in answer for answer in answers)


@pytest.mark.parametrize("name", ["/ask", "/ask_point"])
def test_a_place_in_the_picture(client: Client, embedded: fgclip2.FGCLIP2, picture: Path, name: str) -> None:
    assert client.predict(api_name="/point") == (0, 0)
    shown, table, *_ = client.predict(handle_file(picture), PHRASES, 200, 30, 0.5, "auto", "en", api_name=name)
    dense = embedded.dense_features(picture)
    expected = highlight(embedded, dense, ["red", "狗"]).at(200, 30)
    assert table["headers"] == ["Phrase", "Similarity"]
    assert table["data"] == [[phrase, f"{cosine:.3f}"] for phrase, cosine in expected]
    heat = fgclip2.heat_map(picture, self_similarity(dense, 200, 30), opacity=0.5)
    drawn = np.asarray(Image.open(shown).convert("RGB"), float)
    assert np.abs(drawn - np.asarray(heat, float)).mean() < 6
    _, table, *_ = client.predict(handle_file(picture), "", 0, 0, 0.5, "auto", "en", api_name=name)
    assert table["data"] == []


def test_the_switch(client: Client) -> None:
    client.predict("a dog", "", "", 3, "en", api_name="/search")
    for language in LANGUAGES:
        updates = client.predict(language, api_name="/language")
        shown = json.dumps(updates, ensure_ascii=False)
        for key in ("query", "top", "opacity", "regions", "view", "alike"):
            assert text(key, language) in shown, key
        assert text("found", language, count=3, allowed=40, total=40, seconds=0).split("·")[0] in shown
    first, *updates = client.predict(api_name="/open")
    assert first == "en"
    assert text("query", "en") in json.dumps(updates)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("/search", ("", "", "", 5, "en"), "Type what to look for first"),
        ("/search", ("", "", "", 5, "zh"), "请先输入查找内容"),
        ("/search", ("a", "", "", 61, "en"), "61"),
        ("/search", ("a", "", "colour = 3", 5, "en"), "no column 'colour'"),
        ("/search", ("a", "", "width", 5, "en"), "not understood"),
        ("/search", (",".join("abcdefgh" * 5), "", "", 5, "en"), "at most 32"),
        ("/search", ("a", "", "colour = 3", 5, "zh"), "没有可用于筛选的列"),
        ("/search", ("a", "", "width", 5, "zh"), "无法理解条件"),
        ("/search", ("a", "", f"width > {10**30}", 5, "zh"), "整数至多 64 位"),
        ("/search", (",".join("abcdefgh" * 5), "", "", 5, "zh"), "至多 32 段"),
        ("/search", ("a", "，", "", 5, "zh"), "须含有文字"),
        ("/pick_search", (1e9, "en"), "give 1 to 3"),
        ("/pick_search", (0, "zh"), "请给 1 到 3"),
        ("/ask", (None, "", 0, 0, 0.5, "auto", "en"), "Choose a picture first"),
    ],
)
def test_what_is_refused_says_why(client: Client, name: str, arguments: tuple[Any, ...], said: str) -> None:
    client.predict("a dog", "", "", 3, "en", api_name="/search")
    with pytest.raises(AppError, match=said):
        client.predict(*arguments, api_name=name)


def test_phrases_and_places_that_are_refused(client: Client, picture: Path) -> None:
    file = handle_file(picture)
    for phrases, said in (
        ("", "Type at least one phrase"),
        ("a_b\nc\nA b", "The phrase 'a_b' is given twice"),
        ("\n".join(f"phrase {number}" for number in range(17)), "17 phrases are too many; give at most 16"),
    ):
        with pytest.raises(AppError, match=said):
            client.predict(file, phrases, "heat", 0.5, 0.5, "auto", "en", api_name="/highlight")
    with pytest.raises(AppError, match="短语 '狗' 重复了"):
        client.predict(file, "狗，猫，狗", "heat", 0.5, 0.5, "auto", "zh", api_name="/highlight")
    with pytest.raises(AppError, match="give 0 to 319"):
        client.predict(file, "a", 320, 0, 0.5, "auto", "en", api_name="/ask")


def test_a_second_start_uses_what_is_there(embedded: fgclip2.FGCLIP2, index: Index, collection: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in collection.rglob("*") if file.is_file()}
    again = scene_index(embedded, collection, 40, progress=False)
    assert len(again) == len(index) == 40
    after = {file: file.stat().st_mtime_ns for file in collection.rglob("*") if file.is_file()}
    assert {file: time for file, time in after.items() if file.suffix != ".lock"} == {
        file: time for file, time in before.items() if file.suffix != ".lock"
    }
    fields = again.store.metadata.to_pylist()[7]
    assert fields["objects"] == len(fields["english"].split(", ")) == len(fields["chinese"].split("，"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenes", "0"], "--scenes 0"),
        (["--port", "99999"], "--port 99999"),
        (["--root", "."], "--root is where"),
        (["--index", "nowhere"], "nowhere"),
    ],
)
def test_the_command_line_refuses(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(arguments) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert said in printed
    assert len(printed.splitlines()) == 1


def test_the_program_from_start_to_stop(tmp_path: Path) -> None:
    """As a person runs it, from another folder: scenes, index, page, and an end by Ctrl-C."""
    program = Path(app.__file__).resolve()
    port = _free_port()
    command = [sys.executable, str(program), "--scenes", "6", "--work-dir", str(tmp_path / "work"), "--port", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=_listen_to_interrupts,
    ) as started:  # fmt: skip
        try:
            assert started.stdout is not None
            first = started.stdout.readline()
            assert first.startswith(f"6 pictures at http://127.0.0.1:{port}"), first or started.stderr
            gallery, *_ = Client(f"http://127.0.0.1:{port}", verbose=False).predict(
                "狗", "", "", 3, "zh", api_name="/search"
            )
            assert len(gallery) == 3
        finally:
            started.send_signal(signal.SIGINT)
            try:
                _, said = started.communicate(timeout=30)
            finally:
                started.kill()  # or leaving the block would wait for it
    assert started.returncode == 0
    assert "Traceback" not in said
    assert sorted(file.name for file in (tmp_path / "work" / "6" / "images").iterdir())[5] == "0005.png"


def _listen_to_interrupts() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and tests may be run like that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_is_written_on_a_picture_is_in_the_language_of_the_page(
    index: Index, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    boxes, heat = visualize.draw_boxes, visualize.heat_map

    def draw_boxes(image: Any, places: Any, labels: Any, *arguments: Any) -> Any:
        written.extend(labels)
        return boxes(image, places, labels, *arguments)

    def heat_map(*arguments: Any, label: str, **named: Any) -> Any:
        written.append(label)
        return heat(*arguments, label=label, **named)

    monkeypatch.setattr(visualize, "draw_boxes", draw_boxes)
    monkeypatch.setattr(visualize, "heat_map", heat_map)
    for query, key in (
        (Query(image=picture), "part_picture"),
        (Query(image=picture, box=(0, 0, 160, 160)), "part_region"),
    ):
        hits = index.search(query, top=2, rerank=2)
        for language in LANGUAGES:
            written.clear()
            thumbnails(hits, language)
            full_pictures(Chosen(hits[0], ()), language)
            assert written == [text(key, language)] * 4
