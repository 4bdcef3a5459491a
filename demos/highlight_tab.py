"""The highlight tab: where phrases are in a picture, as heat-maps, masks and boxes; and what a place in it is like."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache, save_pil_to_cache
from PIL import Image, ImageDraw

from demos.labels import Switch, text
from demos.limits import PHRASES, Picture, Refusal, check_number, check_text, clicked, explained, read_upload
from demos.search_tab import MODEL
from fgclip2.features import DenseFeatures
from fgclip2.highlight import Highlights, highlight, patch_box, self_similarity
from fgclip2.names import said
from fgclip2.splitting import split_names
from fgclip2.visualize import draw_boxes, draw_masks, heat_map, shrunk

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2

VIEWS: Final = ("heat", "mask", "boxes")
PATCHES: Final = ("auto", "256", "400", "576", "1024", "2048", "4096")
_EMBEDDED_PATCHES: Final = "400"  # most that the embedded model has seen of a picture; "auto" takes up to 1,024
SIDE: Final = 640  # px, longest side of what is drawn
_REMEMBERED: Final = 8  # pictures whose features stay

Items = list[tuple[Image.Image, str]]
Answer = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture that was looked at: what is drawn on, and its features."""

    small: Image.Image
    features: DenseFeatures


class Highlighter:
    """What the events of the tab do; every handler takes and returns values of components.

    Args:
        model: embeds pictures and phrases.
        cache: folder that downloads are served from.
    """

    def __init__(self, model: FGCLIP2, cache: str) -> None:
        self.model, self.cache = model, cache
        self._looked: OrderedDict[tuple[str, str], Looked] = OrderedDict()

    @explained
    def highlight(
        self, picture: str | None, phrases: str, view: str, opacity: float, threshold: float, patches: str,
        language: str,
    ) -> tuple[Items, dict[str, Any], str, str, str, Answer]:  # fmt: skip
        """Gallery, table of regions, summary, PNG and JSON to download, and what the JSON says."""
        begun = time.perf_counter()
        looked = self._look(picture, patches)
        found = highlight(self.model, looked.features, parse_phrases(phrases))
        pictures = draw(found, looked.small, view, check_number(opacity, 0, 1), check_number(threshold, 0, 1))
        answer = described(found, looked.small.size, threshold)
        answer = {"model": self.model.name, **answer, "seconds": round(time.perf_counter() - begun, 3)}
        items = [
            (drawn, f"{phrase['text']} · {phrase['highest']:.3f}")
            for drawn, phrase in zip(pictures, answer["phrases"], strict=True)
        ]
        data = json.dumps(answer, ensure_ascii=False, indent=1).encode()
        return (
            items, region_table(answer, language), summary(answer, language),
            save_pil_to_cache(sheet(pictures), self.cache, "highlight", "png"),
            save_bytes_to_cache(data, "highlight.json", self.cache), answer,
        )  # fmt: skip

    def redraw(
        self, picture: str | None, phrases: str, view: str, opacity: float, threshold: float, patches: str,
        language: str,
    ) -> Any:  # fmt: skip
        """``highlight`` once more with other settings; nothing when nothing was highlighted yet."""
        if not picture or not (phrases or "").strip():
            return [gr.skip()] * 6
        return self.highlight(picture, phrases, view, opacity, threshold, patches, language)

    @explained
    def ask(
        self, picture: str | None, phrases: str, x: float, y: float, opacity: float, patches: str, language: str
    ) -> tuple[Image.Image, dict[str, Any], list[tuple[str, float]]]:
        """The patch at a pixel: what in the picture is like it, and which phrases, as table and as pairs."""
        looked = self._look(picture, patches)
        width, height = looked.features.image_size
        across, down = check_number(x, 0, width - 1), check_number(y, 0, height - 1)
        cosines = self_similarity(looked.features, across, down)
        shown = heat_map(looked.small, cosines, opacity=check_number(opacity, 0, 1))
        factors = [looked.small.width / width, looked.small.height / height] * 2
        box = [value * factor for value, factor in zip(patch_box(looked.features, across, down), factors, strict=True)]
        draw_on = ImageDraw.Draw(shown)
        draw_on.rectangle(box, outline="black", width=4)
        draw_on.rectangle(box, outline="white", width=2)
        ranked: list[tuple[str, float]] = []
        if (phrases or "").strip():
            ranked = highlight(self.model, looked.features, parse_phrases(phrases)).at(across, down)
        return shown, phrase_table(ranked, language), ranked

    def _look(self, picture: str | None, patches: str) -> Looked:
        """The picture with its features, computed once for one file's contents and detail."""
        opened = read_upload(picture)
        key = hashlib.sha256(opened.tobytes() + repr(opened.size).encode()).hexdigest(), patches
        if key not in self._looked:
            budget = None if patches == "auto" else int(patches)
            self._looked[key] = Looked(shrunk(opened, SIDE), self.model.dense_features(opened, max_patches=budget))
            while len(self._looked) > _REMEMBERED:
                self._looked.popitem(last=False)
        self._looked.move_to_end(key)
        return self._looked[key]


def parse_phrases(phrases: str) -> list[str]:
    """The phrases of a text, one a line or between commas.

    Raises:
        Refusal: there is none, one repeats, or they are more than ``PHRASES``.
    """
    checked = check_text(phrases)
    given = split_names(checked)
    if not given:
        raise Refusal("no_phrases")
    texts = [said(phrase) for phrase in given]
    repeated = next((phrase for phrase, what in zip(given, texts, strict=True) if texts.count(what) > 1), None)
    if repeated is not None:
        raise Refusal("repeated", phrase=repr(repeated[:60]))
    if len(given) > PHRASES:
        raise Refusal("too_many", count=len(given), most=PHRASES)
    return given


def draw(found: Highlights, small: Image.Image, view: str, opacity: float, threshold: float) -> list[Image.Image]:
    """One picture a phrase: its heat-map, its mask, or the boxes of the mask's connected regions."""
    drawn = []
    for number, phrase in enumerate(found.phrases):
        if view == "heat":
            drawn.append(heat_map(small, found.similarity[number], label=phrase, opacity=opacity))
        elif view == "mask":
            mask = found.mask(number, threshold, small.size)
            drawn.append(draw_masks(small, mask[None], [phrase], opacity=opacity))
        else:
            regions = found.regions(number, threshold, small.size)
            boxes, scores = [region.box for region in regions], [region.mean for region in regions]
            drawn.append(draw_boxes(small, boxes, [phrase] * len(regions), scores))
    return drawn


def described(found: Highlights, size: tuple[int, int], threshold: float) -> Answer:
    """Everything found, as plain values; boxes in pixels of the picture, found in one of ``size``."""
    width, height = found.features.image_size
    factors = [width / size[0], height / size[1]] * 2
    phrases = []
    for number, phrase in enumerate(found.phrases):
        regions = [
            {
                "box": [round(value * factor, 1) for value, factor in zip(region.box, factors, strict=True)],
                "share": round(region.pixels / (size[0] * size[1]), 5),
                "mean": round(region.mean, 4),
                "peak": round(region.peak, 4),
            }
            for region in found.regions(number, threshold, size)
        ]
        cosines = found.similarity[number]
        phrases.append(
            {
                "text": phrase,
                "lowest": round(float(cosines.min()), 4),
                "highest": round(float(cosines.max()), 4),
                "level": round(found.level(number, threshold), 4),
                "regions": regions,
            }
        )
    rows, columns = found.features.grid
    return {"size": [width, height], "grid": [rows, columns], "threshold": threshold, "phrases": phrases}


def region_table(answer: Answer, language: str) -> dict[str, Any]:
    """The regions of every phrase as a table; without rows when nothing was highlighted yet.

    Specks of less than a quarter of a patch, which come of enlarging, have no row.
    """
    rows_of, columns_of = answer.get("grid", (1, 1))
    headers = [text(key, language) for key in ("phrase", "number", "box", "share", "mean", "peak")]
    rows = [
        [
            phrase["text"], number, ", ".join(f"{value:.0f}" for value in region["box"]),
            f"{100 * region['share']:.2f}", f"{region['mean']:.3f}", f"{region['peak']:.3f}",
        ]
        for phrase in answer.get("phrases", ())
        for number, region in enumerate(phrase["regions"], 1)
        if number == 1 or 4 * rows_of * columns_of * region["share"] >= 1
    ]  # fmt: skip
    return {"headers": headers, "data": rows}


def phrase_table(ranked: Sequence[tuple[str, float]], language: str) -> dict[str, Any]:
    """Phrases with their similarity to the clicked place."""
    headers = [text("phrase", language), text("similarity", language)]
    return {"headers": headers, "data": [[phrase, f"{cosine:.3f}"] for phrase, cosine in ranked]}


def summary(answer: Answer, language: str) -> str:
    """How many phrases on how many patches, and how long it took; nothing when nothing was highlighted yet."""
    if not answer:
        return ""
    rows, columns = answer["grid"]
    count = len(answer["phrases"])
    return text("highlight_summary", language, count=count, rows=rows, columns=columns, seconds=answer["seconds"])


def sheet(pictures: Sequence[Image.Image], columns: int = 3, gap: int = 8) -> Image.Image:
    """Pictures of one size in rows of up to ``columns``, on white."""
    width, height = pictures[0].size
    across = min(columns, len(pictures))
    down = -(-len(pictures) // across)
    canvas = Image.new("RGB", (across * (width + gap) - gap, down * (height + gap) - gap), "white")
    for number, picture in enumerate(pictures):
        canvas.paste(picture, (number % across * (width + gap), number // across * (height + gap)))
    return canvas


@dataclass(frozen=True)
class HighlightTab:
    """What the page connects with the other tab.

    Attributes:
        picture: input of the tab.
        phrases: input of the tab.
    """

    picture: Any
    phrases: Any
    highlighter: Highlighter
    outputs: list[Any]
    inputs: list[Any]


def build_highlight_tab(model: FGCLIP2, switch: Switch, language: gr.Radio) -> HighlightTab:
    """Lay out the tab and connect its events; call it within the tab."""
    found, asked = gr.State({}), gr.State([])
    with gr.Row():
        with gr.Column(scale=2):
            picture = switch(
                Picture, {"label": "highlight_picture", "placeholder": "drop"},
                sources=["upload", "clipboard"], height=420, format="png", elem_id="picture",
            )  # fmt: skip
            phrases = switch(
                gr.Textbox, {"label": "phrases", "info": "phrases_info", "placeholder": "phrases_hint"},
                lines=4, elem_id="phrases",
            )  # fmt: skip
            run = switch(gr.Button, {"value": "highlight"}, variant="primary", elem_id="highlight")
            view = switch(gr.Radio, {"label": "view", "choices": VIEWS}, value="heat", elem_id="view")
            opacity = switch(
                gr.Slider, {"label": "opacity"}, minimum=0, maximum=1, value=0.55, step=0.05, elem_id="opacity"
            )
            threshold = switch(
                gr.Slider, {"label": "threshold", "info": "threshold_info"},
                minimum=0, maximum=1, value=0.6, step=0.01, elem_id="threshold",
            )  # fmt: skip
            patches = switch(
                gr.Radio, {"label": "patches", "info": "patches_info", "choices": PATCHES},
                value=_EMBEDDED_PATCHES if model.embedded else "auto",
                elem_id="patches",
            )  # fmt: skip
        with gr.Column(scale=3):
            told = gr.Markdown(elem_id="highlight_told")
            gallery = switch(
                gr.Gallery, {"label": "highlighted"}, columns=2, object_fit="contain", height="auto", format="jpeg",
                interactive=False, buttons=["download", "fullscreen"], elem_id="highlighted",
            )  # fmt: skip
            with gr.Row():
                png = switch(gr.DownloadButton, {"label": "download_png"}, elem_id="download_png")
                listing = switch(gr.DownloadButton, {"label": "download_json"}, elem_id="download_json")
            table = switch(gr.Dataframe, {"label": "regions"}, interactive=False, wrap=True, elem_id="regions")
    with switch(gr.Accordion, {"label": "place"}, open=True), gr.Row():
        with gr.Column(scale=2):
            with gr.Row():
                x, y = (gr.Number(0, label=name, precision=0, minimum=0, elem_id=name) for name in ("x", "y"))
            ask = switch(gr.Button, {"value": "ask_place"}, elem_id="ask")
            nearest = switch(gr.Dataframe, {"label": "nearest"}, interactive=False, elem_id="nearest")
        with gr.Column(scale=3):
            alike = switch(
                gr.Image, {"label": "alike"}, interactive=False, height=420, format="jpeg", buttons=["download"],
                elem_id="alike",
            )  # fmt: skip

    switch.follow(told, found, summary)
    switch.follow(table, found, region_table)
    switch.follow(nearest, asked, phrase_table)

    handlers = Highlighter(model, gallery.GRADIO_CACHE)
    inputs = [picture, phrases, view, opacity, threshold, patches, language]
    outputs = [gallery, table, told, png, listing, found]
    run.click(handlers.highlight, inputs, outputs, api_name="highlight", **MODEL)
    gr.on(
        [view.input, opacity.release, threshold.release, patches.input], handlers.redraw, inputs, outputs,
        api_name="redraw", show_progress="minimal", **MODEL,
    )  # fmt: skip
    place = [picture, phrases, x, y, opacity, patches, language]
    picture.select(_point, None, [x, y], api_name="point", queue=False).then(
        handlers.ask, place, [alike, nearest, asked], api_name="ask_point", **MODEL
    )
    ask.click(handlers.ask, place, [alike, nearest, asked], api_name="ask", **MODEL)
    return HighlightTab(picture, phrases, handlers, outputs, inputs)


def _point(event: gr.EventData = None) -> tuple[int, int]:
    """Where the picture was clicked, in its pixels; the upper left corner without a click."""
    x, y = clicked(event) or (0, 0)
    return int(x), int(y)
