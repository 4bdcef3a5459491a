"""Pictures of the worst failures: where a wrong answer beat the right one by most, as one HTML file a benchmark."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.records import Box
from fgclip2.images import open_image
from fgclip2.visualize import draw_boxes, shrunk

_SIDE: Final = 360  # longest side of a picture on the page, in pixels
_LABEL: Final = 24  # letters of a text that are drawn at a box

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; }
body { margin: 1.5rem;
  font: 15px/1.45 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .2rem; }
p { margin: .15rem 0; color: GrayText; }
ol { list-style: none; padding: 0; margin: 1.2rem 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
li { border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.pictures { display: flex; background: #8881; }
figure { margin: 0; flex: 1; min-width: 0; text-align: center; }
figure img { width: 100%; height: 260px; object-fit: contain; display: block; }
figcaption { font-size: .75rem; color: GrayText; padding: .2rem; }
.text { padding: .5rem .7rem .7rem; font-size: .85rem; overflow-wrap: anywhere; }
.text div { margin-top: .25rem; }
.text span { color: GrayText; }
.problem { color: #c22; }
"""


@dataclass(frozen=True, slots=True)
class Miss:
    """A query that was answered wrongly.

    Attributes:
        image: what was asked about, or, when a text looked for its picture, the right one.
        true: the right text, class name or caption.
        margin: how much higher the wrong answer scored, in cosine; 0 is a tie.
        chosen: the text that came first; empty when a picture was looked for.
        found: the picture that came first, when one was looked for.
        box: region of ``image`` that was asked about.
    """

    image: Path
    true: str
    margin: float
    chosen: str = ""
    found: Path | None = None
    box: Box | None = None


class Beaten(NamedTuple):
    """A query (row), the best wrong candidate, the best right one, and by how much the wrong one was better."""

    row: int
    wrong: int
    right: int
    margin: float


def beaten(
    queries: Tensor,
    candidates: Tensor,
    right: Callable[[Tensor], Tensor],
    rows: Tensor,
    count: int,
    usable: Tensor | None = None,
    chunk_size: int = 1024,
) -> list[Beaten]:
    """The queries whose best wrong candidate beats the best right one by most, worst first.

    Args:
        queries: (N, D), unit length.
        candidates: (M, D), unit length.
        right: some rows (R,) to which candidates are right for them, bool (R, M).
        rows: (N,) bool, the queries to look at: those that were answered wrongly.
        count: how many to return, at most.
        usable: (M,) bool, candidates that can be found.
        chunk_size: queries at a time.
    """
    found: list[Beaten] = []
    for part in rows.nonzero()[:, 0].split(chunk_size):
        scores, own = queries[part] @ candidates.T, right(part)
        if usable is not None:
            scores = scores.masked_fill(~usable[None], -torch.inf)
        best, at = scores.masked_fill(~own, -torch.inf).max(1)
        wrong, by = scores.masked_fill(own, -torch.inf).max(1)
        found += map(Beaten, part.tolist(), by.tolist(), at.tolist(), (wrong - best).tolist())
        found = worst(found, count)
    return found


def worst(found: Sequence[Any], count: int) -> list[Any]:
    """Those of the largest margins, the largest first; equal ones stay in order."""
    return sorted(found, key=lambda item: -item.margin)[:count]


def page(title: str, misses: Sequence[Miss]) -> str:
    """One HTML file with the pictures in it, without scripts; texts are in the benchmark's language."""
    cards = "\n".join(_card(miss, number) for number, miss in enumerate(misses, 1))
    lines = (
        f"The {len(misses)} worst failures: a wrong answer beat the right one by this much cosine.",
        f"最严重的 {len(misses)} 个错误：错误答案的余弦相似度超出正确答案的幅度。",
    )
    return (
        '<!doctype html>\n<html lang="mul">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n"
        + "".join(f"<p>{line}</p>\n" for line in lines)
        + f"<ol>\n{cards}\n</ol>\n</html>\n"
    )


def _card(miss: Miss, number: int) -> str:
    figures = [(miss.image, "right 正确" if miss.found else "", miss.box)]
    if miss.found is not None:
        figures.append((miss.found, "chosen 所选", None))
    problem, shown = "", ""
    try:
        shown = "".join(_figure(path, caption, box, miss.true) for path, caption, box in figures)
    except Fgclip2Error as error:  # no font with Chinese letters, for example; the texts are still worth reading
        problem = f'<div class="problem">{escape(str(error))}</div>'
    chosen = f"<div><span>chosen 所选</span> {escape(miss.chosen)}</div>" if miss.chosen else ""
    said = "right 正确" if miss.found is None else "text 文本"
    names = " · ".join(path.name for path, _, _ in figures)
    return (
        f'<li><div class="pictures">{shown}</div><div class="text"><b>{number}</b> · +{miss.margin:.3f}'
        f"<div><span>{said}</span> {escape(miss.true)}</div>{chosen}<div><span>{escape(names)}</span></div>"
        f"{problem}</div></li>"
    )


def _figure(path: Path, caption: str, box: Box | None, label: str) -> str:
    picture = open_image(path)
    small = shrunk(picture, _SIDE)
    if box is not None:
        factor = small.width / picture.width, small.height / picture.height
        scaled = [side * factor[number % 2] for number, side in enumerate(box)]
        small = draw_boxes(small, [scaled], [label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"])
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{escape(path.name)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
