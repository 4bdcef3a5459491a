"""A contact sheet of hits: one HTML file with everything in it, in both languages, without scripts."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import Final

from PIL import Image

from fgclip2.files import write_atomically
from fgclip2.search.hits import Hit, Hits
from fgclip2.search.problems import REASONS, PictureError
from fgclip2.visualize import heat_map, label_colours, shrunk

_SIDE: Final = 360  # longest side of a thumbnail in pixels

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8889; }
body { margin: 1.5rem;
  font: 15px/1.45 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
p { margin: .15rem 0; color: GrayText; }
ol { list-style: none; padding: 0; margin: 1.2rem 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
li { border: 1px solid var(--line); border-radius: 8px; overflow: hidden; display: flex; flex-direction: column; }
figure { margin: 0; position: relative; background: #8881; aspect-ratio: 1; }
figure img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
figure img.heat { opacity: 0; transition: opacity .15s; }
figure:hover img.heat, figure:focus img.heat { opacity: 1; }
.text { padding: .5rem .7rem .7rem; font-size: .85rem; overflow-wrap: anywhere; }
.text b { font-size: 1rem; }
.part { display: flex; gap: .4rem; align-items: baseline; }
.part i { flex: none; width: .7rem; height: .7rem; border-radius: 2px; }
.part span:last-child { margin-left: auto; font-variant-numeric: tabular-nums; }
figure .gone { position: absolute; inset: 0; padding: 1rem; display: flex; flex-direction: column;
  justify-content: center; text-align: center; color: GrayText; }
.problem { color: #c22; }
"""


def write_page(hits: Hits, path: Path) -> Path:
    """Write the sheet: every hit with its boxes; its heat-map shows under the pointer, or when it has the focus.

    Args:
        hits: what a search returned.
        path: the file, replaced when it exists.

    Returns:
        ``path``.

    Raises:
        Fgclip2Error: it cannot be written, or there is no font with Chinese letters for a Chinese label.
    """
    of = f" of {hits.total:,}" if hits.allowed != hits.total else ""
    lines = [
        f"{len(hits)} hits · {hits.allowed:,}{of} pictures · {hits.seconds:.2f} s",
        f"找到 {len(hits)} 张 · 共搜索 {hits.allowed:,} 张图片 · {hits.seconds:.2f} 秒",
        "Point at a picture to see its heat-map. 指向图片可看热力图。",
    ]
    cards = "\n".join(_card(hit, number) for number, hit in enumerate(hits, 1))
    page = (
        f'<!doctype html>\n<html lang="mul">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(hits.query)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{escape(hits.query)}</h1>\n"
        + "".join(f"<p>{escape(line)}</p>\n" for line in lines)
        + f"<ol>\n{cards}\n</ol>\n</html>\n"
    )
    write_atomically(path, page.encode())
    return path


def _card(hit: Hit, number: int) -> str:
    colours = label_colours(hit.parts)
    parts = "".join(
        f'<div class="part"><i style="background:rgb{colours[part]}"></i><span>{escape(part)}</span>'
        f"<span>{score:.3f}</span></div>"
        for part, score in zip(hit.parts, hit.part_scores, strict=True)
    )
    whole = "" if hit.whole_score is None else f" · whole 整图 {hit.whole_score:.3f}"
    problem, reason = hit.problem, hit.reason
    try:
        pictures = _pictures(hit)
    except PictureError as error:
        reason, problem = error.reason, problem or str(error)
        told = REASONS[reason]
        pictures = (
            f'<div class="gone" role="img" aria-label="{escape(hit.name)}">'
            f"<span>cannot be shown: {escape(told['en'])}</span><span>无法显示：{escape(told['zh'])}</span></div>"
        )
    warning = ""
    if problem:
        chinese = f"<br>{escape(REASONS[reason]['zh'])}" if reason else ""
        warning = f'<div class="problem">{escape(problem)}{chinese}</div>'
    return (
        f'<li><figure tabindex="0">{pictures}</figure><div class="text"><b>{number}</b> · {hit.score:.2f}{whole}'
        f"{parts}<div>{escape(hit.name)}</div>{warning}</div></li>"
    )


def _pictures(hit: Hit) -> str:
    """Thumbnails: with boxes, and with the heat-map of the part that was found best on top."""
    shown = [hit.drawn(_SIDE)]
    if hit.similarity is not None:
        joined = hit.similarity.astype(float).max(0)
        shown.append(heat_map(shrunk(hit.image(), _SIDE), joined))
    names = ("boxes", "heat")
    return "".join(
        f'<img class="{name}" alt="{escape(hit.name)}" src="data:image/jpeg;base64,{_jpeg(picture)}">'
        for name, picture in zip(names, shown, strict=False)
    )


def _jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
