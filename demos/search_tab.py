"""The search tab: a text or a picture, both languages side by side, and where in each hit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import gradio as gr
from PIL import Image

from demos.labels import Switch, text
from demos.limits import PHRASES, TOP, Picture, Refusal, check_number, check_text, clicked, explained, read_upload
from fgclip2.errors import Fgclip2Error
from fgclip2.search.hits import Hit, Hits
from fgclip2.search.query import Query
from fgclip2.search.search import Condition, Index, parse_condition
from fgclip2.visualize import shrunk

THUMBNAIL: Final = 320  # px, longest side
FULL: Final = 1024
MODEL: Final[dict[str, Any]] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Of every event that needs the model: there is one."""

Items = list[tuple[Image.Image, str]]


class Searcher:
    """What the events of the tab do; every handler takes and returns values of components.

    Args:
        index: where to search.
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    @explained
    def search(self, query: str, filters: str, top: int, language: str) -> tuple[Items, str, Hits]:
        """Gallery, summary and hits of a text."""
        hits = self._ask(query, filters, top)
        return thumbnails(hits, language), summary(hits, language), hits

    @explained
    def search_picture(self, picture: str | None, filters: str, top: int, language: str) -> tuple[Items, str, Hits]:
        """The same of pictures like an uploaded one."""
        hits = self._find(Query(image=read_upload(picture)), filters, top)
        return thumbnails(hits, language), summary(hits, language), hits

    @explained
    def compare(
        self, english: str, chinese: str, filters: str, top: int, language: str
    ) -> tuple[Items, str, Items, str, str, tuple[Hits, Hits]]:
        """Galleries and summaries of two queries, how many pictures they share, and the hits."""
        pair = self._ask(english, filters, top), self._ask(chinese, filters, top)
        first, second = pair
        return (
            thumbnails(first, language), summary(first, language), thumbnails(second, language),
            summary(second, language), shared(pair, language), pair,
        )  # fmt: skip

    @explained
    def show(
        self, found: Hits | None, pair: tuple[Hits, Hits] | None, source: str, number: float, language: str
    ) -> tuple[Items, dict[str, Any]]:
        """One hit: the picture with its boxes, under the heat-map of each part, and what is known of it."""
        hit = _chosen(found, pair, source, number)
        return full_pictures(hit, language), hit.to_json()

    @explained
    def take(
        self, found: Hits | None, pair: tuple[Hits, Hits] | None, source: str, number: float, language: str
    ) -> tuple[Image.Image, str, Any]:
        """Its picture and the parts of the query, for the other tab, which is opened."""
        hit = _chosen(found, pair, source, number)
        hits = _source(found, pair, source)
        phrases = "\n".join(list(dict.fromkeys(hits.parts))[:PHRASES]) if hits.kind != "picture" else gr.skip()
        return shrunk(hit.image(), 2 * FULL), phrases, gr.Tabs(selected="highlight")

    def _ask(self, query: str, filters: str, top: float) -> Hits:
        asked = check_text(query)
        if not asked:
            raise Refusal("no_query")
        return self._find(Query.of(asked), filters, top)

    def _find(self, query: Query, filters: str, top: float) -> Hits:
        count = int(check_number(top, 1, TOP))
        return self.index.search(query, top=count, where=conditions(filters), rerank=count)


def conditions(filters: str) -> list[Condition]:
    """The conditions of a text with one a line, or between semicolons."""
    lines = check_text(filters).replace("；", "\n").replace(";", "\n").splitlines()
    return [parse_condition(line) for line in lines if line.strip()]


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
    """Small pictures with the region of every part outlined; a grey one where the file cannot be read any more."""
    items = []
    for number, hit in enumerate(hits, 1):
        caption = f"{number} · {hit.score:.2f} · {PurePosixPath(hit.name).name:.40}"
        try:
            items.append((hit.drawn(THUMBNAIL), caption))
        except Fgclip2Error:
            items.append((_nothing(), f"{caption} {text('unreadable', language)}"))
    return items


def full_pictures(hit: Hit, language: str) -> Items:
    """The picture with the box of every part, and with the heat-map of each."""
    try:
        items = [(hit.drawn(FULL), f"{hit.name:.60}")]
    except Fgclip2Error:
        return [(_nothing(), f"{hit.name:.60} {text('unreadable', language)}")]
    if hit.similarity is not None:
        for part, (phrase, score) in enumerate(zip(hit.parts, hit.part_scores, strict=True)):
            items.append((hit.heat_map(part, FULL), f"{phrase} · {score:.3f}"))
    return items


def _source(found: Hits | None, pair: tuple[Hits, Hits] | None, source: str) -> Hits:
    hits = {"search": found, "english": pair and pair[0], "chinese": pair and pair[1]}.get(source)
    if hits is None:
        raise Refusal("no_hit")
    return hits


def _chosen(found: Hits | None, pair: tuple[Hits, Hits] | None, source: str, number: float) -> Hit:
    hits = _source(found, pair, source)
    if not hits:
        raise Refusal("no_hit")
    return hits[int(check_number(number, 1, len(hits))) - 1]


def _nothing() -> Image.Image:
    return Image.new("RGB", (THUMBNAIL, THUMBNAIL), (200, 200, 200))


@dataclass(frozen=True)
class SearchTab:
    """What the page connects with the other tab.

    Attributes:
        searcher: the handlers.
        take: the button that takes a hit to the other tab.
        chosen: what says which hit that is: inputs of ``Searcher.take``.
    """

    searcher: Searcher
    take: Any
    chosen: list[Any]


def build_search_tab(index: Index, switch: Switch, language: gr.Radio) -> SearchTab:
    """Lay out the tab and connect its events; call it within the tab."""
    handlers = Searcher(index)
    found, pair = gr.State(None), gr.State(None)
    source, number = gr.Textbox("search", visible=False), gr.Number(1, precision=0, visible=False)

    with gr.Row(equal_height=True):
        query = switch(
            gr.Textbox, {"label": "query", "info": "query_info", "placeholder": "query_hint"},
            scale=5, elem_id="query", autofocus=True,
        )  # fmt: skip
        search = switch(gr.Button, {"value": "search"}, variant="primary", scale=1, elem_id="search")
    with switch(gr.Accordion, {"label": "settings"}, open=False), gr.Row():
        filters = switch(gr.Textbox, {"label": "filters", "info": "filters_info"}, value="", lines=2, elem_id="filters")
        top = switch(gr.Slider, {"label": "top"}, minimum=1, maximum=TOP, value=12, step=1, elem_id="top")
    with switch(gr.Accordion, {"label": "by_picture"}, open=False, elem_id="by_picture"), gr.Row():
        picture = switch(
            Picture, {"label": "picture", "placeholder": "drop"},
            sources=["upload", "clipboard"], height=240, elem_id="query_picture",
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
        facts = gr.JSON(show_label=False, elem_id="facts")

    switch.follow(told, found, summary)
    switch.follow(english_told, pair, lambda hits, language: summary(hits[0], language))
    switch.follow(chinese_told, pair, lambda hits, language: summary(hits[1], language))
    switch.follow(both, pair, shared)

    gr.on(
        [query.submit, search.click], handlers.search, [query, filters, top, language], [results, told, found],
        api_name="search", **MODEL,
    )  # fmt: skip
    search_picture.click(
        handlers.search_picture, [picture, filters, top, language], [results, told, found],
        api_name="search_picture", **MODEL,
    )  # fmt: skip
    gr.on(
        [compare.click, english.submit, chinese.submit], handlers.compare, [english, chinese, filters, top, language],
        [english_results, english_told, chinese_results, chinese_told, both, pair], api_name="compare", **MODEL,
    )  # fmt: skip
    chosen = [found, pair, source, number, language]
    for gallery, name in ((results, "search"), (english_results, "english"), (chinese_results, "chinese")):
        gallery.select(_picked(name), None, [source, number], api_name=f"pick_{name}", queue=False).then(
            handlers.show, chosen, [detail, facts], api_name=f"show_{name}", concurrency_limit=2
        )
    return SearchTab(handlers, take, chosen)


def _results(switch: Switch, label: str, name: str, columns: int = 6) -> tuple[Any, Any]:
    told = gr.Markdown(elem_id=f"{name}_told")
    gallery = switch(
        gr.Gallery, {"label": label}, columns=columns, object_fit="contain", height="auto", format="jpeg",
        allow_preview=False, interactive=False, buttons=[], elem_id=name,
    )  # fmt: skip
    return gallery, told


def _picked(source: str) -> Any:
    def pick(event: gr.EventData = None) -> tuple[str, int]:
        """Which hit of a gallery was clicked; the first one without a click."""
        return source, int(clicked(event) or 0) + 1

    return pick
