"""The search tab: texts, a picture or a region of one, both languages side by side, and where in each hit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import gradio as gr
from PIL import Image, ImageDraw

from demos.labels import Switch, text
from demos.limits import PHRASES, TOP, Picture, Refusal, check_number, check_text, clicked, explained, read_upload
from fgclip2.search.conditions import Condition, parse_condition
from fgclip2.search.hits import Hit, Hits
from fgclip2.search.problems import REASONS, PictureError
from fgclip2.search.query import Query
from fgclip2.search.search import Index
from fgclip2.visualize import shrunk

THUMBNAIL: Final = 320  # px, longest side
FULL: Final = 1024
MODEL: Final[dict[str, Any]] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Of every event that needs the model: there is one."""

Items = list[tuple[Image.Image, str]]
Pair = tuple[Hits, Hits]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The picture that a visitor clicked; it stays what it is when they search again.

    Attributes:
        hit: the picture, by its name within the index, and where in it.
        parts: names of the parts of the query; none for a query that was a picture.
    """

    hit: Hit
    parts: tuple[str, ...]


class Searcher:
    """What the events of the tab do; every handler takes and returns values of components.

    Args:
        index: where to search.
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    @explained
    def search(self, query: str, without: str, filters: str, top: int, language: str) -> tuple[Items, str, Hits]:
        """Gallery, summary and hits of texts, with others taken away from them."""
        hits = self._ask(query, without, filters, top)
        return thumbnails(hits, language), summary(hits, language), hits

    @explained
    def search_picture(
        self, picture: str | None, region: str, filters: str, top: int, language: str
    ) -> tuple[Items, str, Hits]:
        """The same of pictures like an uploaded one, or with something like a region of it."""
        image = read_upload(picture)
        hits = self._find(Query(image=image, box=parse_region(region, image.size)), filters, top)
        return thumbnails(hits, language), summary(hits, language), hits

    @explained
    def corner(
        self, picture: str | None, region: str, language: str, event: gr.EventData = None
    ) -> tuple[str, Image.Image]:  # fmt: skip
        """The region after a click on the picture: a first corner, or the one opposite to it; and the picture with it.

        Without a click it is the upper left corner.
        """
        image = read_upload(picture)
        x, y = clicked(event) or (0, 0)
        corners = next_corner(region, (int(x), int(y)))
        return ", ".join(map(str, corners)), marked(image, corners)

    @explained
    def compare(
        self, english: str, chinese: str, filters: str, top: int, language: str
    ) -> tuple[Items, str, Items, str, str, Pair]:
        """Galleries and summaries of two queries, how many pictures they share, and the hits."""
        pair = self._ask(english, "", filters, top), self._ask(chinese, "", filters, top)
        first, second = pair
        return (
            thumbnails(first, language), summary(first, language), thumbnails(second, language),
            summary(second, language), shared(pair, language), pair,
        )  # fmt: skip

    @explained
    def show(self, chosen: Chosen | None, language: str) -> tuple[Items, dict[str, Any]]:
        """The chosen picture with its boxes, under the heat-map of each part, and what is known of it."""
        given = _given(chosen)
        return full_pictures(given, language), facts(given.hit, language)

    @explained
    def take(self, chosen: Chosen | None, language: str) -> tuple[Image.Image, str, Any]:
        """It and the parts of the query, for the other tab, which is opened."""
        given = _given(chosen)
        phrases = "\n".join(list(dict.fromkeys(given.parts))[:PHRASES]) if given.parts else gr.skip()
        return shrunk(given.hit.image(), 2 * FULL), phrases, gr.Tabs(selected="highlight")

    def _ask(self, query: str, without: str, filters: str, top: float) -> Hits:
        asked = check_text(query)
        if not asked.strip(";； \n"):
            raise Refusal("no_query")
        return self._find(Query.parse(asked, check_text(without)), filters, top)

    def _find(self, query: Query, filters: str, top: float) -> Hits:
        count = int(check_number(top, 1, TOP))
        return self.index.search(query, top=count, where=conditions(filters), rerank=count)


def conditions(filters: str) -> list[Condition]:
    """The conditions of a text with one a line, or between semicolons."""
    lines = check_text(filters).replace("；", "\n").replace(";", "\n").split("\n")
    return [parse_condition(line) for line in lines if line.strip()]


def parse_region(region: str, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The box of a text with x1, y1, x2, y2 in a picture of ``size`` (width, height); ``None`` of an empty one.

    Raises:
        Refusal: it is none, or not within the picture.
    """
    given = check_text(region)
    if not given:
        return None
    try:
        x1, y1, x2, y2 = map(float, _numbers(given))
    except ValueError:
        x1 = y1 = x2 = y2 = math.nan
    if not (0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]):  # also for nan
        raise Refusal("bad_region", given=given[:60], width=size[0], height=size[1])
    return x1, y1, x2, y2


def next_corner(region: str, point: tuple[int, int]) -> list[int]:
    """The region after a click: x1, y1, x2, y2 where there was one corner, else the first corner of a new one."""
    numbers = _numbers(check_text(region))
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return list(point)
    first = [int(number) for number in numbers]
    if first[0] == point[0] or first[1] == point[1]:  # no area
        return list(point)
    return [*map(min, first, point), *map(max, first, point)]


def marked(image: Image.Image, corners: list[int]) -> Image.Image:
    """The picture, small, with a region drawn in it, or the place of its first corner."""
    small = shrunk(image, THUMBNAIL).copy()
    scale = [small.width / image.width, small.height / image.height] * 2
    box = [value * factor for value, factor in zip(corners, scale, strict=False)]
    if len(box) == 2:
        box = [box[0] - 4, box[1] - 4, box[0] + 4, box[1] + 4]
    for colour, width in (("black", 4), ("white", 2)):
        ImageDraw.Draw(small).rectangle(box, outline=colour, width=width)
    return small


def summary(hits: Hits, language: str) -> str:
    """How many were found among how many, and how long it took."""
    return text(
        "found", language, count=len(hits), allowed=f"{hits.allowed:,}", total=f"{hits.total:,}", seconds=hits.seconds
    )


def shared(pair: tuple[Hits, Hits], language: str) -> str:
    """How many pictures two answers have in common."""
    names = [{hit.name for hit in hits} for hits in pair]
    return text("shared", language, shared=len(names[0] & names[1]), count=max(map(len, names)))


def thumbnails(hits: Hits, language: str) -> Items:
    """Small pictures with the region of every part outlined, and what is wrong with those that are not as indexed."""
    items = []
    for number, hit in enumerate(hits, 1):
        shown, problem = _drawn(hit, THUMBNAIL, language, labels_of(hit, _parts(hits), language))
        items.append((shown, f"{number} · {hit.score:.2f} · {PurePosixPath(hit.name).name:.40}{problem}"))
    return items


def full_pictures(chosen: Chosen, language: str) -> Items:
    """The picture with the box of every part, and with the heat-map of each."""
    hit = chosen.hit
    parts = labels_of(hit, chosen.parts, language)
    shown, problem = _drawn(hit, FULL, language, parts)
    items = [(shown, f"{hit.name:.60}{problem}")]
    if hit.similarity is None or problem:
        return items
    for number, (part, score) in enumerate(zip(parts, hit.part_scores, strict=True)):
        items.append((hit.heat_map(number, FULL, part), f"{part} · {score:.3f}"))
    return items


def facts(hit: Hit, language: str) -> dict[str, Any]:
    """What is known of a picture; of a problem nothing that names files of this machine."""
    known = hit.to_json()
    if hit.reason is not None:
        known["problem"] = REASONS[hit.reason][language]
    return known


def labels_of(hit: Hit, parts: tuple[str, ...], language: str) -> tuple[str, ...]:
    """What is written at the boxes of a hit: the parts of the query, or what a query that was a picture is called."""
    return parts or (text("part_region" if hit.whole_score is None else "part_picture", language),)


def _parts(hits: Hits) -> tuple[str, ...]:
    """Names of the parts of the query; none for one that was a picture."""
    return () if hits.kind == "picture" else hits.parts


def _drawn(hit: Hit, side: int, language: str, labels: tuple[str, ...]) -> tuple[Image.Image, str]:
    """The picture with its boxes, a grey one where it cannot be read any more; and what is wrong, for its caption."""
    try:
        problem = f" · {REASONS[hit.reason][language]}" if hit.reason is not None else ""
        return hit.drawn(side, labels), problem
    except PictureError as error:
        return _nothing(), f" · {text('unreadable', language, reason=REASONS[error.reason][language])}"


def _numbers(region: str) -> list[str]:
    return [part for part in re.split(r"[\s,，、]+", region) if part]


def _given(chosen: Chosen | None) -> Chosen:
    if chosen is None:
        raise Refusal("no_hit")
    return chosen


def _nothing() -> Image.Image:
    return Image.new("RGB", (THUMBNAIL, THUMBNAIL), (200, 200, 200))


@dataclass(frozen=True)
class SearchTab:
    """What the page connects with the other tab.

    Attributes:
        searcher: the handlers.
        take: the button that takes a hit to the other tab.
        chosen: what says which picture that is: inputs of ``Searcher.take``.
    """

    searcher: Searcher
    take: Any
    chosen: list[Any]


def build_search_tab(index: Index, switch: Switch, language: gr.Radio) -> SearchTab:
    """Lay out the tab and connect its events; call it within the tab."""
    handlers = Searcher(index)
    found, pair, picked = gr.State(None), gr.State(None), gr.State(None)
    number = gr.Number(1, precision=0, visible=False)

    with gr.Row(equal_height=True):
        query = switch(
            gr.Textbox, {"label": "query", "info": "query_info", "placeholder": "query_hint"},
            scale=4, elem_id="query", autofocus=True,
        )  # fmt: skip
        without = switch(
            gr.Textbox, {"label": "without", "info": "without_info", "placeholder": "without_hint"},
            scale=2, elem_id="without",
        )  # fmt: skip
        search = switch(gr.Button, {"value": "search"}, variant="primary", scale=1, elem_id="search")
    with switch(gr.Accordion, {"label": "settings"}, open=False), gr.Row():
        filters = switch(gr.Textbox, {"label": "filters", "info": "filters_info"}, value="", lines=2, elem_id="filters")
        top = switch(gr.Slider, {"label": "top"}, minimum=1, maximum=TOP, value=12, step=1, elem_id="top")
    with switch(gr.Accordion, {"label": "by_picture"}, open=False, elem_id="by_picture"), gr.Row():
        picture = switch(
            Picture, {"label": "picture", "placeholder": "drop"},
            sources=["upload", "clipboard"], height=320, elem_id="query_picture",
        )  # fmt: skip
        with gr.Column():
            region = switch(gr.Textbox, {"label": "query_region", "info": "query_region_info"}, elem_id="query_region")
            marks = switch(
                gr.Image, {"label": "marked"}, interactive=False, height=200, format="jpeg", buttons=[],
                elem_id="marked",
            )  # fmt: skip
            search_picture = switch(gr.Button, {"value": "search_picture"}, variant="primary", elem_id="search_picture")
    results, told = _results(switch, "results", "results")

    with switch(gr.Accordion, {"label": "side_by_side"}, open=False, elem_id="side_by_side"):
        with gr.Row():
            english = switch(gr.Textbox, {"label": "english", "placeholder": "english_hint"}, elem_id="english")
            chinese = switch(gr.Textbox, {"label": "chinese", "placeholder": "chinese_hint"}, elem_id="chinese")
        compare = switch(gr.Button, {"value": "compare"}, variant="primary", elem_id="compare")
        both = gr.Markdown(elem_id="shared")
        with gr.Row():
            with gr.Column():
                english_results, english_told = _results(switch, "english_results", "english_results", 3)
            with gr.Column():
                chinese_results, chinese_told = _results(switch, "chinese_results", "chinese_results", 3)

    detail = switch(
        gr.Gallery, {"label": "detail"}, columns=3, object_fit="contain", height="auto", format="jpeg",
        allow_preview=True, interactive=False, buttons=["download", "fullscreen"], elem_id="detail",
    )  # fmt: skip
    take = switch(gr.Button, {"value": "take"}, elem_id="take")
    with switch(gr.Accordion, {"label": "facts"}, open=False):
        known = gr.JSON(show_label=False, elem_id="facts")

    switch.follow(told, found, summary)
    switch.follow(english_told, pair, lambda hits, language: summary(hits[0], language))
    switch.follow(chinese_told, pair, lambda hits, language: summary(hits[1], language))
    switch.follow(both, pair, shared)

    gr.on(
        [query.submit, without.submit, search.click], handlers.search, [query, without, filters, top, language],
        [results, told, found], api_name="search", **MODEL,
    )  # fmt: skip
    search_picture.click(
        handlers.search_picture, [picture, region, filters, top, language], [results, told, found],
        api_name="search_picture", **MODEL,
    )  # fmt: skip
    picture.select(handlers.corner, [picture, region, language], [region, marks], api_name="corner")
    gr.on(
        [picture.upload, picture.input, picture.clear], lambda: ("", None), None, [region, marks],
        api_name="forget_region", queue=False, show_progress="hidden",
    )  # fmt: skip
    gr.on(
        [compare.click, english.submit, chinese.submit], handlers.compare, [english, chinese, filters, top, language],
        [english_results, english_told, chinese_results, chinese_told, both, pair], api_name="compare", **MODEL,
    )  # fmt: skip
    galleries: tuple[tuple[Any, str, Any, Callable[[Any], Hits]], ...] = (
        (results, "search", found, lambda hits: hits),
        (english_results, "english", pair, lambda both: both[0]),
        (chinese_results, "chinese", pair, lambda both: both[1]),
    )
    chosen = [picked, language]
    for gallery, name, state, hits_of in galleries:
        gallery.select(
            _picker(hits_of), [state, number, language], [number, picked], api_name=f"pick_{name}", queue=False
        ).success(handlers.show, chosen, [detail, known], api_name=f"show_{name}", concurrency_limit=2)
    return SearchTab(handlers, take, chosen)


def _results(switch: Switch, label: str, name: str, columns: int = 6) -> tuple[Any, Any]:
    told = gr.Markdown(elem_id=f"{name}_told")
    gallery = switch(
        gr.Gallery, {"label": label}, columns=columns, object_fit="contain", height="auto", format="jpeg",
        allow_preview=False, interactive=False, buttons=[], elem_id=name,
    )  # fmt: skip
    return gallery, told


def _picker(hits_of: Callable[[Any], Hits]) -> Any:
    @explained
    def pick(found: Any, number: float, language: str, event: gr.EventData = None) -> tuple[int, Chosen]:
        """The picture of a gallery that was clicked, or the one of that number without a click; and its number."""
        hits = None if found is None else hits_of(found)
        if not hits:
            raise Refusal("no_hit")
        place = clicked(event)
        wanted = int(check_number(number if place is None else int(place) + 1, 1, len(hits)))
        return wanted, Chosen(hits[wanted - 1], _parts(hits))

    return pick
