"""Both tabs as a person uses them, in headless Chromium, in English and in Chinese.

Every step leaves a screenshot in the test's temporary folder, or in ``$DEMO_SCREENSHOTS``, to be looked at.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from demos.labels import text
from fgclip2 import Index, Query

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="there is no Chromium here, so nobody used the demo's page; install Debian's chromium and fonts-noto-cjk",
)

Shot = Callable[[str], None]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the page was not used: pip install playwright")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(params=["en", "zh"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(browser: Browser, address: str, language: str) -> Iterator[Page]:
    """The opened page, by a browser of that language; it must load nothing from elsewhere and report no error."""
    locale = {"en": "en-US", "zh": "zh-CN"}[language]
    context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    page = context.new_page()
    elsewhere: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: None if _local(request.url) else elsewhere.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.get_by_role("tab", name=text("search_tab", language), exact=True).wait_for()
    yield page
    context.close()
    assert elsewhere == []
    assert errors == []


@pytest.fixture
def shot(page: Page, language: str, tmp_path: Path) -> Shot:
    folder = Path(os.environ.get("DEMO_SCREENSHOTS", tmp_path))

    def take(name: str) -> None:
        page.wait_for_timeout(400)  # pictures fade in
        page.screenshot(path=folder / f"{language}-{name}.png", full_page=True)

    return take


def _local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.hostname == "127.0.0.1"


def pictures(page: Page, gallery: str, count: int) -> Any:
    """Wait until a gallery shows so many pictures, all of them loaded."""
    shown = page.locator(f"#{gallery} .grid-container img")
    page.wait_for_function(
        "([gallery, count]) => { const shown = [...document.querySelectorAll(`#${gallery} .grid-container img`)];"
        " return shown.length === count && shown.every(each => each.complete && each.naturalWidth > 0); }",
        arg=[gallery, count],
    )
    return shown


def _taken(page: Page) -> np.ndarray:
    """The picture of the highlight tab, as the server sent it."""
    address = page.locator("#picture img").get_attribute("src")
    assert address is not None
    return np.asarray(Image.open(io.BytesIO(page.request.get(address).body())).convert("RGB"))


def test_search_then_highlight(page: Page, shot: Shot, language: str, index: Index, tmp_path: Path) -> None:
    query = {"en": "a dog, red", "zh": "一只狗，红色"}[language]
    page.locator("#query textarea, #query input").fill(query)
    page.keyboard.press("Enter")
    shown = pictures(page, "results", 12)
    told = page.locator("#results_told").inner_text()
    assert told.startswith(
        text("found", language, count=12, allowed=40, total=40, seconds=0).split(" · ")[0].replace("*", "")
    )
    shot("search")
    shown.nth(1).click()
    pictures(page, "detail", 3)
    hits = index.search(query, top=12, rerank=12)
    assert hits[1].name in page.locator("#detail").inner_text()
    for part in hits.parts:
        assert part in page.locator("#detail").inner_text()
    shot("hit")

    # Another search shows other pictures; the one that is shown in full is taken.
    page.locator("#query textarea, #query input").fill({"en": "blue; a cat", "zh": "蓝色；一只猫"}[language])
    page.locator("#without textarea, #without input").fill({"en": "red", "zh": "红色"}[language])
    page.locator("#search").click()
    other = index.search(
        Query(*{"en": (("blue", "a cat"), ("red",)), "zh": (("蓝色", "一只猫"), ("红色",))}[language]),
        top=12,
        rerank=12,
    )
    page.wait_for_function(
        "name => document.querySelector('#results .grid-container').innerText.includes(name)",
        arg=f"1 · {other[0].score:.2f} · {Path(other[0].name).name}",
    )
    assert hits[1].name in page.locator("#detail").inner_text()
    shot("without")
    page.locator("#take").click()
    pictures(page, "highlighted", 2)
    assert np.array_equal(_taken(page), np.asarray(hits[1].image()))
    assert page.locator("#phrases textarea").input_value().splitlines() == list(hits.parts)
    shot("highlight")
    for view in ("mask", "boxes"):
        before = page.locator("#highlighted .grid-container img").first.get_attribute("src")
        page.locator("#view").get_by_text(text(view, language), exact=True).click()
        page.wait_for_function(
            "before => document.querySelector('#highlighted .grid-container img').src !== before", arg=before
        )
        pictures(page, "highlighted", 2)
        shot(view)

    page.locator("#picture img").click(position={"x": 150, "y": 200})
    page.wait_for_function("() => document.querySelector('#alike img')?.naturalWidth > 0")
    page.wait_for_function("text => document.querySelector('#nearest').innerText.includes(text)", arg=hits.parts[0])
    x, y = (int(page.locator(f"#{name} input").input_value()) for name in ("x", "y"))
    assert 0 < x < 320
    assert 0 < y < 320
    shot("place")
    for kind in ("png", "json"):
        with page.expect_download() as download:
            page.locator(f"#download_{kind}").click()
        file = tmp_path / f"highlight.{kind}"
        download.value.save_as(file)
        assert download.value.suggested_filename == file.name
    assert [phrase["text"] for phrase in json.loads(file.read_text(encoding="utf-8"))["phrases"]] == list(hits.parts)
    assert (tmp_path / "highlight.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_ones_own(page: Page, shot: Shot, language: str, collection: Path, index: Index) -> None:
    file = collection / "40" / "images" / "0005.png"
    page.get_by_text(text("by_picture", language)).click()
    page.locator("#query_picture input[type=file]").set_input_files(file)
    page.locator("#query_picture img").wait_for()
    page.locator("#search_picture").click()
    pictures(page, "results", 12)
    assert "0005.png" in page.locator("#results").inner_text()
    shot("picture")
    region = page.locator("#query_region textarea, #query_region input")
    shown = page.locator("#query_picture img").bounding_box()
    assert shown is not None
    side = min(shown["width"], shown["height"])  # the picture is square, in the middle of its place
    left, top = (shown["width"] - side) / 2, (shown["height"] - side) / 2
    for across, down, numbers in ((0.75, 0.25, 2), (0.25, 0.75, 4)):
        page.locator("#query_picture img").click(position={"x": left + across * side, "y": top + down * side})
        page.wait_for_function(
            "count => document.querySelector('#query_region textarea, #query_region input')"
            ".value.split(',').length === count",
            arg=numbers,
        )
    corners = [int(number) for number in region.input_value().split(",")]
    assert corners == pytest.approx([80, 80, 240, 240], abs=4)  # a pixel of the screen is about one of the picture
    page.wait_for_function("() => document.querySelector('#marked img')?.naturalWidth > 0")
    page.locator("#search_picture").click()
    hits = index.search(Query(image=file, box=(corners[0], corners[1], corners[2], corners[3])), top=12, rerank=12)
    page.wait_for_function(
        "name => document.querySelector('#results .grid-container').innerText.includes(name)",
        arg=f"1 · {hits[0].score:.2f} · {Path(hits[0].name).name}",
    )
    pictures(page, "results", 12).first.click()
    pictures(page, "detail", 2)
    assert text("part_region", language) in page.locator("#detail").inner_text()
    shot("region")
    page.locator("#query_picture button").nth(1).click()  # Gradio's own to remove it, behind the one for full screen
    page.wait_for_function("() => document.querySelector('#query_region textarea, #query_region input').value === ''")

    page.get_by_role("tab", name=text("highlight_tab", language), exact=True).click()
    page.locator("#picture input[type=file]").set_input_files(file)
    page.locator("#picture img").wait_for()
    phrases = {"en": "blue\na cat", "zh": "蓝色\n一只猫"}[language]
    page.locator("#phrases textarea").fill(phrases)
    page.locator("#highlight").click()
    pictures(page, "highlighted", 2)
    for phrase in phrases.splitlines():
        assert phrase in page.locator("#highlighted").inner_text()
    assert text("mean", language) in page.locator("#regions").inner_text()


def test_side_by_side_and_the_switch(page: Page, shot: Shot, language: str) -> None:
    other = {"en": "zh", "zh": "en"}[language]
    page.get_by_text(text("side_by_side", language)).click()
    page.locator("#english textarea, #english input").fill("a red car")
    page.locator("#chinese textarea, #chinese input").fill("红色的汽车")
    page.locator("#compare").click()
    pictures(page, "english_results", 12)
    pictures(page, "chinese_results", 12)
    shot("compare")
    pictures(page, "chinese_results", 12).first.click()
    pictures(page, "detail", 2)
    page.locator("#language").get_by_text({"en": "English", "zh": "中文"}[other], exact=True).click()
    page.get_by_role("tab", name=text("highlight_tab", other), exact=True).wait_for()
    body = page.locator("body").inner_text()
    for key in ("search_tab", "query", "settings", "by_picture", "side_by_side", "english", "compare", "take", "facts"):
        assert text(key, other) in body, key
        assert text(key, language) not in re.sub(re.escape(text("language", language)), "", body) or key == "search", (
            key
        )
    assert page.locator("#english_results_told").inner_text().startswith({"en": "12 pictures", "zh": "找到 12"}[other])
    shot("switched")


def test_a_refusal_is_told(page: Page, shot: Shot, language: str, tmp_path: Path) -> None:
    page.locator("#search").click()
    toast = page.get_by_text(text("no_query", language))
    toast.wait_for()
    fake = tmp_path / "页面.png"
    fake.write_text("<!doctype html><script>document.title = 'taken'</script>", encoding="utf-8")
    page.get_by_text(text("by_picture", language)).click()
    page.locator("#query_picture input[type=file]").set_input_files(fake)
    page.locator("#search_picture").click()
    page.get_by_text(text("bad_picture", language, pixels=40, reason="")[:12]).wait_for()
    shot("refused")
    assert page.title() == "FG-CLIP 2"
