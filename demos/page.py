"""The page of two tabs, and the server it is shown by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import gradio as gr
from starlette.middleware import Middleware

from demos.guard import Guard
from demos.highlight_tab import build_highlight_tab
from demos.labels import CHOICES, LANGUAGES, Switch
from demos.limits import PHRASES, SESSIONS, UPLOAD_BYTES, WAITING
from demos.search_tab import MODEL, build_search_tab
from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    from fgclip2.predictor import FGCLIP2
    from fgclip2.search.search import Index

_HOUR: Final = 3600
_FONTS: Final = ("system-ui", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif")
_CSS: Final = """
.gradio-container { max-width: 1280px !important; width: 100%; margin: 0 auto; }
#head { align-items: center; }
#picture img { cursor: crosshair; }
.gallery-container .grid-wrap { max-height: none; overflow: visible; }
"""


def build_demo(model: FGCLIP2, index: Index) -> gr.Blocks:
    """The page, not served yet.

    Args:
        model: embeds pictures and phrases of the highlight tab.
        index: what the search tab searches, with its own model.
    """
    columns = ", ".join(name for name in index.store.metadata.column_names if not name.startswith("shard_"))
    switch = Switch(columns=columns, most=PHRASES)
    with gr.Blocks(title="FG-CLIP 2", analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as demo:
        with gr.Row(elem_id="head"):
            switch(gr.Markdown, {"value": "title"})
            language = switch(
                gr.Radio, {"label": "language"}, choices=list(CHOICES), value=LANGUAGES[0], min_width=220, scale=0,
                elem_id="language",
            )  # fmt: skip
        if model.embedded:
            switch(gr.Markdown, {"value": "tiny"})
        with gr.Tabs(elem_id="tabs") as tabs:
            with switch(gr.Tab, {"label": "search_tab"}, id="search"):
                search = build_search_tab(index, switch, language)
            with switch(gr.Tab, {"label": "highlight_tab"}, id="highlight"):
                highlight = build_highlight_tab(model, switch, language)
        search.take.click(
            search.searcher.take, search.chosen, [highlight.picture, highlight.phrases, tabs], api_name="take"
        ).success(
            highlight.highlighter.redraw, highlight.inputs, highlight.outputs, api_name="highlight_taken", **MODEL
        )
        switch.connect(demo, language)
    return demo


def serve(demo: gr.Blocks, host: str = "127.0.0.1", port: int | None = 7860) -> str:
    """Serve a page within the limits of ``demos.limits``, in threads of this process.

    Args:
        demo: of ``build_demo``.
        host: address to listen on; only this machine reaches 127.0.0.1.
        port: to listen on; ``None`` for any that is free.

    Returns:
        The page's address.

    Raises:
        Fgclip2Error: the address or port cannot be had.
    """
    demo.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    options: dict[str, Any] = {
        "share": False,
        "allowed_paths": [],  # nothing is served but what events have returned, copied into Gradio's folder
        "max_file_size": UPLOAD_BYTES,
        "state_session_capacity": SESSIONS,
        "app_kwargs": {"middleware": [Middleware(Guard)]},
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": [],
        "pwa": False,
        "mcp_server": False,
        "theme": gr.themes.Default(font=_FONTS, font_mono=("ui-monospace", "monospace")),
        "css": _CSS,
    }
    try:
        _, address, _ = demo.launch(server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, **options)
    except OSError as error:
        raise Fgclip2Error(f"{host}:{port} cannot be listened on ({error}); give another --host or --port") from error
    return str(address)
