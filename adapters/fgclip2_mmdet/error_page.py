"""The worst errors as a page to browse: one HTML file with crops, to be filtered by kind, vocabulary and class name."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import jinja2
from PIL import Image, ImageDraw

from fgclip2.files import write_atomically
from fgclip2.images import open_image

from .errors import KINDS, MATCH_IOU, NEAR_IOU, BoxError, ErrorReport

_SIDE: Final = 240  # pixels of a crop's longer side on the page
_AROUND: Final = 0.6  # of the longer side of what is shown, on every side
_LEAST: Final = 24.0  # pixels around a box, however small
_SAID, _IS = "#e66100", "#1a85ff"  # orange and blue are told apart by everybody

_WHAT: Final = {
    "background": ("on background", "误报背景", "a box on nothing", "框内没有目标"),
    "confused": ("confused", "类别混淆", "a box on an object of another class", "框住了别的类别的目标"),
    "missed": ("missed", "漏检", "an object that no box is on", "没有任何框的目标"),
    "loose": ("loose box", "定位不准", "a box near an object of its class", "框在同类目标附近，但不够准"),
    "both": ("loose and confused", "位置类别皆错", "a box near an object of another class", "框在别的类别的目标附近"),
    "double": ("double", "重复检测", "a second box on an object already found", "目标已被找到，又多一个框"),
}


def write_error_page(
    file: Path,
    reports: Mapping[str, ErrorReport],
    names: Mapping[int, Sequence[str]],
    pictures: Mapping[int, Path],
    titles: Mapping[str, str],
    count: int = 50,
) -> None:
    """Write the page; it needs no other file and no network.

    Args:
        file: where to.
        reports: by vocabulary.
        names: category id -> its names, in one or several languages.
        pictures: image id -> the picture's file.
        titles: of vocabularies; one without is called by its name.
        count: how many errors a vocabulary.

    Raises:
        Fgclip2Error: a picture cannot be read, or the file not be written.
    """
    opened = lru_cache(maxsize=8)(lambda number: open_image(pictures[number]))
    cards = [
        {"vocabulary": vocabulary, "title": titles.get(vocabulary, vocabulary)} | _card(error, names, pictures, opened)
        for vocabulary, report in reports.items()
        for error in report.worst(count)
    ]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = environment.from_string(_TEMPLATE).render(
        cards=cards,
        kinds={kind: _WHAT[kind] for kind in KINDS},
        vocabularies=[
            {
                "key": vocabulary,
                "title": titles.get(vocabulary, vocabulary),
                "threshold": report.threshold,
                "right": report.right,
                "objects": report.objects,
                "counts": report.counts(),
            }
            for vocabulary, report in reports.items()
        ],
        count=count,
        match=MATCH_IOU,
        near=NEAR_IOU,
        said=_SAID,
        truth=_IS,
    )
    write_atomically(file, text.encode())


def _card(
    error: BoxError,
    names: Mapping[int, Sequence[str]],
    pictures: Mapping[int, Path],
    opened: Callable[[int], Image.Image],
) -> dict[str, Any]:
    said, truth = (None if number is None else _named(names[number]) for number in (error.said, error.truth))
    return {
        "error": error,
        "said": said,
        "truth": truth,
        "words": " ".join(
            name.lower() for each in (error.said, error.truth) if each is not None for name in names[each]
        ),
        "picture": pictures[error.image_id].name,
        "crop": _data_url(crop(opened(error.image_id), error)),
    }


def _named(names: Sequence[str]) -> list[tuple[str, str]]:
    """Distinct names, each with its language: browsers choose between Chinese and Japanese letter forms by it."""
    return [(name, "en" if name.isascii() else "zh") for name in dict.fromkeys(names)]


def crop(picture: Image.Image, error: BoxError, side: int = _SIDE) -> Image.Image:
    """The place of an error, with the detection's box in orange and the object's in blue.

    Args:
        picture: the whole one.
        error: with boxes in its pixels.
        side: pixels of the longer side of what is returned.
    """
    drawn = [(box, colour) for box, colour in ((error.truth_box, _IS), (error.box, _SAID)) if box is not None]
    if error.kind == "missed":
        drawn = drawn[:1]  # the uncertain box that is named was not given out
    left, top = (min(box[axis] for box, _ in drawn) for axis in (0, 1))
    right, bottom = (max(box[axis] for box, _ in drawn) for axis in (2, 3))
    around = max(_LEAST, _AROUND * max(right - left, bottom - top))
    corner = max(0, int(left - around)), max(0, int(top - around))
    end = min(picture.width, int(right + around) + 1), min(picture.height, int(bottom + around) + 1)
    end = max(end[0], corner[0] + 1), max(end[1], corner[1] + 1)
    part = picture.crop((*corner, *end))
    scale = side / max(part.size)
    size = max(1, round(part.width * scale)), max(1, round(part.height * scale))
    part = part.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(part)
    for box, colour in drawn:
        x1, y1, x2, y2 = ((value - corner[axis % 2]) * scale for axis, value in enumerate(box))
        draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=3 if colour == _IS else 2)
    return part


def _data_url(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


_TEMPLATE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Detection errors 检测错误</title>
<style>
body { font: 15px/1.45 system-ui, "Noto Sans", "Noto Sans SC", "Noto Sans CJK SC", "PingFang SC",
       "Microsoft YaHei", sans-serif; margin: 1.5rem; color: #222; background: #fff; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
p { max-width: 62rem; margin: .4rem 0; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; font-weight: normal; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
th span { display: block; white-space: nowrap; }
form { position: sticky; top: 0; background: #fff; padding: .6rem 0; border-bottom: 1px solid #ccc; z-index: 1;
       display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; }
select, input { font: inherit; padding: .15rem .3rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 1rem; margin-top: 1rem; }
article { border: 1px solid #ccc; border-radius: 6px; padding: .5rem; break-inside: avoid; }
article[hidden] { display: none; }
article img { display: block; margin: 0 auto .4rem; max-width: 100%; max-height: 240px; }
.kind { font-size: .8rem; color: #555; margin-bottom: .3rem; }
.said b { color: {{ said }}; }
.truth b { color: {{ truth }}; }
.small { font-size: .8rem; color: #666; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>The worst errors <span lang="zh">最严重的错误</span></h1>
<p><b style="color:{{ said }}">Orange</b> is the detection, <b style="color:{{ truth }}">blue</b> the object.
In every picture, boxes choose by falling score: each takes the free object of its class that it overlaps most, from IoU
{{ match }} on, and is right. Another box is <i>double</i> when it overlaps an object of its class by at least
{{ match }}, else <i>confused</i> when it so overlaps one of another class, else a <i>loose box</i> from IoU {{ near }}
with its own class on, else <i>loose and confused</i> from IoU {{ near }} with another class on, else
<i>on background</i>. An object is <i>missed</i> when no box overlaps it by {{ match }}.
Boxes count from the score of the best F1 on (in the table). Shown are the {{ count }} worst of each vocabulary, equal
shares of all kinds: wrong boxes by score, missed objects by how little was said of them, and by size.</p>
<p lang="zh"><b style="color:{{ said }}">橙色</b>是检测框，<b style="color:{{ truth }}">蓝色</b>是真实目标。{#
#}每张图中按分数从高到低匹配：每个框取与其重叠最大、尚未匹配的同类目标，IoU 不低于 {{ match }} 即为正确。其余的框：{#
#}与同类目标的 IoU 不低于 {{ match }} 为重复检测；否则与其他类别的目标如此重叠为类别混淆；否则与同类目标的 IoU 不低于{#
#}{{ near }} 为定位不准；否则与其他类别目标的 IoU 不低于 {{ near }} 为位置类别皆错；{#
#}否则为误报背景。没有任何框与之重叠到 {{ match }} 的目标为漏检。{#
#}只计分数不低于表中阈值（F1 最高处）的框。{#
#}每个词表列出最严重的 {{ count }} 个错误，各类错误数量均等：错框按分数排序，漏检按相应分数之低与目标大小排序。</p>
<table>
<tr><th></th><th>score from <span lang="zh">阈值</span></th><th>objects <span lang="zh">目标</span></th>
<th>right <span lang="zh">正确</span></th>
{% for kind, what in kinds.items() %}
<th title="{{ what[2] }} {{ what[3] }}">{{ what[0] }} <span lang="zh">{{ what[1] }}</span></th>
{% endfor %}
</tr>
{% for each in vocabularies %}
<tr><td>{{ each.title }}</td><td>{{ "%.3f"|format(each.threshold) }}</td><td>{{ each.objects }}</td>
<td>{{ each.right }}</td>
{% for kind in kinds %}
<td>{{ each.counts[kind] }}</td>
{% endfor %}
</tr>
{% endfor %}
</table>
<form>
<label>kind <span lang="zh">错误类型</span> <select id="kind"><option value="">all 全部</option>
{% for kind, what in kinds.items() %}
<option value="{{ kind }}">{{ what[0] }} {{ what[1] }}</option>
{% endfor %}
</select></label>
<label>vocabulary <span lang="zh">词表</span> <select id="vocabulary"><option value="">all 全部</option>
{% for each in vocabularies %}
<option value="{{ each.key }}">{{ each.title }}</option>
{% endfor %}
</select></label>
<label>class <span lang="zh">类别</span> <input id="words" type="search" placeholder="dog, 伞"></label>
<output id="shown">{{ cards|length }}</output>
</form>
<main>
{% macro iou(error) %}(IoU {{ "%.2f"|format(error.iou) }}){% endmacro %}
{% macro named(names) %}
{% for name, language in names %}
{{ "" if loop.first else "· " }}<b lang="{{ language }}">{{ name }}</b>
{% endfor %}
{% endmacro %}
{% for card in cards %}
<article data-kind="{{ card.error.kind }}" data-vocabulary="{{ card.vocabulary }}" data-words="{{ card.words }}">
<div class="kind">{{ kinds[card.error.kind][0] }} <span lang="zh">{{ kinds[card.error.kind][1] }}</span></div>
<img src="{{ card.crop }}" alt="{{ kinds[card.error.kind][2] }}" loading="lazy">
{% if card.error.kind == "missed" %}
<div class="truth">is <span lang="zh">实为</span> {{ named(card.truth) }}</div>
{% if card.said %}
<div>best box, not counted <span lang="zh">未计入的最高分框</span>: {{ named(card.said) }}
{{ "%.3f"|format(card.error.score) }} {{ iou(card.error) }}</div>
{% else %}
<div>no box, however uncertain <span lang="zh">分数再低的框也没有</span></div>
{% endif %}
{% else %}
<div class="said">said <span lang="zh">判为</span> {{ named(card.said) }} {{ "%.3f"|format(card.error.score) }}</div>
{% if card.truth %}
<div class="truth">is <span lang="zh">实为</span> {{ named(card.truth) }} {{ iou(card.error) }}</div>
{% else %}
<div>nothing there <span lang="zh">此处无目标</span></div>
{% endif %}
{% endif %}
<div class="small">{{ card.picture }}, {{ card.title }}</div>
</article>
{% endfor %}
</main>
<script>
const kind = document.getElementById("kind"), vocabulary = document.getElementById("vocabulary");
const words = document.getElementById("words"), shown = document.getElementById("shown");
function filter() {
  const wanted = words.value.split(/[,，]/).map(word => word.trim().toLowerCase()).filter(Boolean);
  let count = 0;
  for (const card of document.querySelectorAll("article")) {
    const fits = (!kind.value || card.dataset.kind === kind.value)
      && (!vocabulary.value || card.dataset.vocabulary === vocabulary.value)
      && (!wanted.length || wanted.some(word => card.dataset.words.includes(word)));
    card.hidden = !fits;
    count += fits;
  }
  shown.value = count;
}
for (const field of [kind, vocabulary, words]) field.addEventListener("input", filter);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
filter();
</script>
</body>
</html>
"""
