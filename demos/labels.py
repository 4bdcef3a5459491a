"""Every word of the page in English and Chinese, and the switch between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import gradio as gr

LANGUAGES: Final = ("en", "zh")
CHOICES: Final = (("English", "en"), ("中文", "zh"))

TEXTS: Final[dict[str, tuple[str, str]]] = {
    "title": ("# FG-CLIP 2: small things in pictures", "# FG-CLIP 2：图片里的细节"),
    "tiny": (
        "This is the embedded model. It knows drawn glyphs and nothing of photographs: "
        "start with `--model qihoo360/fg-clip2-base` for those.",
        "这是内置的小模型，只认识绘制的图形，不认识照片；照片请用 `--model qihoo360/fg-clip2-base` 启动。",
    ),
    "language": ("Language · 语言", "语言 · Language"),
    "search_tab": ("Search", "搜索"),
    "highlight_tab": ("Highlight", "高亮"),
    "picture": ("Picture", "图片"),
    "drop": ("Drop a picture here, or click", "把图片拖到这里，或点击选择"),
    # Search
    "query": ("What to look for", "查找内容"),
    "query_info": (
        "English, Chinese or both; every part between commas must be in the picture, and semicolons part phrases that "
        'are looked for one by one; "quotes" keep commas',
        "中文、英文或混用；逗号隔开的每一部分都必须出现在图片中，分号隔开的短语分别查找且必须全部满足；“引号”内的逗号不作分隔",
    ),
    "query_hint": ("a small blue guitar badge", "小小的蓝色吉他徽章"),
    "without": ("Without", "不含"),
    "without_info": (
        "Not this: taken away from the query; several between semicolons", "从查询中减去这些内容；多个用分号隔开"
    ),
    "without_hint": ("a red background", "红色背景"),
    "search": ("Search", "搜索"),
    "by_picture": ("Search with a picture", "以图搜图"),
    "search_picture": ("Find pictures like it", "查找相似图片"),
    "query_region": ("Region: x1, y1, x2, y2 in pixels", "区域：x1, y1, x2, y2（像素）"),
    "query_region_info": (
        "Click two opposite corners in the picture, or type it; empty for the whole picture",
        "在图片中点击两个对角，或直接输入；留空则使用整张图片",
    ),
    "marked": ("The region that is looked for", "要查找的区域"),
    "part_picture": ("the whole picture", "整张图片"),
    "part_region": ("the region", "所选区域"),
    "side_by_side": ("English and Chinese side by side", "中英文对照"),
    "english": ("English query", "英文查询"),
    "chinese": ("Chinese query", "中文查询"),
    "english_hint": ("a red car", "a red car"),
    "chinese_hint": ("红色的汽车", "红色的汽车"),
    "compare": ("Search with both", "同时搜索"),
    "settings": ("Filters and number of pictures", "筛选与数量"),
    "filters": ("Filters", "筛选条件"),
    "filters_info": (
        "One a line, such as: width >= 640, taken < 2024-05, split in train, val, tags contains cat, tags has none "
        "· columns: {columns}",
        "每行一个，例如：width >= 640、taken < 2024-05、split in train, val、tags contains 猫、tags has none · "
        "可用的列：{columns}",
    ),
    "top": ("Pictures to show", "显示图片数"),
    "results": ("Pictures found; click one", "找到的图片，点击查看"),
    "english_results": ("Found with the English query", "英文查询的结果"),
    "chinese_results": ("Found with the Chinese query", "中文查询的结果"),
    "found": (
        "**{count}** pictures of {allowed} searched ({total} in the index) · **{seconds:.2f} s**",
        "找到 **{count}** 张，搜索了 {allowed} 张（索引共 {total} 张） · **{seconds:.2f} 秒**",
    ),
    "shared": ("**{shared}** of {count} pictures are found with both", "两种查询共同找到 **{shared}** / {count} 张"),
    "detail": ("The picture: where each part is", "原图：各部分的位置"),
    "facts": ("About this picture", "图片信息"),
    "take": ("Highlight in this picture", "在这张图片中高亮"),
    "unreadable": ("cannot be shown: {reason}", "无法显示：{reason}"),
    "unusable": ("This picture cannot be used: {reason}.", "这张图片无法使用：{reason}。"),
    # Highlight
    "highlight_picture": ("Picture; click a place in it", "图片，点击其中一处"),
    "phrases": ("Phrases", "短语"),
    "phrases_info": ("One a line or between commas, up to {most}", "每行一个或用逗号隔开，至多 {most} 个"),
    "phrases_hint": ("a red car\n黑猫", "红色的汽车\n黑猫"),
    "highlight": ("Highlight", "高亮"),
    "view": ("Show", "显示方式"),
    "heat": ("Heat-map", "热力图"),
    "mask": ("Mask", "掩码"),
    "boxes": ("Boxes", "框"),
    "opacity": ("Opacity", "不透明度"),
    "threshold": ("Threshold", "阈值"),
    "threshold_info": (
        "for masks and boxes: from a phrase's lowest (0) to its highest similarity (1)",
        "用于掩码和框：从短语的最低相似度（0）到最高相似度（1）",
    ),
    "patches": ("Detail", "精细度"),
    "patches_info": ("Patches of the picture; more show smaller things", "图片的图块数，越多越能看清小物体"),
    "auto": ("by its size", "按图片大小"),
    "highlighted": ("Where each phrase is", "各短语的位置"),
    "regions": ("Connected regions", "连通区域"),
    "download_png": ("Download PNG", "下载 PNG"),
    "download_json": ("Download JSON", "下载 JSON"),
    "place": ("The place you clicked", "点击的位置"),
    "ask_place": ("Compare this place", "比较这个位置"),
    "alike": ("Places like it in the picture", "图片中与它相似的位置"),
    "nearest": ("Most similar phrases", "最相似的短语"),
    "highlight_summary": ("{count} phrases · {rows} x {columns} patches · **{seconds:.2f} s**",
                          "{count} 个短语 · {rows} x {columns} 个图块 · **{seconds:.2f} 秒**"),
    # Tables
    "phrase": ("Phrase", "短语"),
    "number": ("No.", "序号"),
    "box": ("Box (x1, y1, x2, y2)", "框 (x1, y1, x2, y2)"),
    "share": ("Area %", "面积 %"),
    "mean": ("Mean similarity", "平均相似度"),
    "peak": ("Highest", "最高"),
    "similarity": ("Similarity", "相似度"),
    # Errors
    "error": ("This cannot be done", "无法完成"),
    "no_query": ("Type what to look for first.", "请先输入查找内容。"),
    "no_picture": ("Choose a picture first.", "请先选择图片。"),
    "picture_gone": (
        "The picture is not kept any more; choose it again.",
        "图片已不再保存，请重新选择。",
    ),
    "bad_region": (
        "{given} is no region of this picture: give x1, y1, x2, y2 with area within its {width} x {height} pixels.",
        "{given} 不是这张图片中的区域：请给 x1, y1, x2, y2，须有面积且在 {width} x {height} 像素以内。",
    ),
    "see_console": (
        "The server cannot do this; its console says why.", "服务器无法完成此操作，原因见其控制台。"
    ),
    "no_phrases": ("Type at least one phrase first.", "请先输入至少一个短语。"),
    "no_hit": ("Search first, then click one of the pictures found.", "请先搜索，再点击找到的图片。"),
    "refused": ("{reason}", "服务器拒绝了此操作，原因（英文）：{reason}"),
    "repeated": (
        "The phrase {phrase} is given twice; neither case nor underscores for blanks count.",
        "短语 {phrase} 重复了；大小写以及用下划线代替空格均不作区分。",
    ),
    "too_long": ("{length} characters are too many; give at most {most}.", "{length} 个字符太多，至多 {most} 个。"),
    "too_many": ("{count} phrases are too many; give at most {most}.", "{count} 个短语太多，至多 {most} 个。"),
    "out_of_range": ("{value} is not allowed; give {low} to {high}.", "{value} 不可用，请给 {low} 到 {high}。"),
    "bad_picture": (
        "This is no picture that can be used; give a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF of at most {pixels} "
        "million pixels. {reason}",
        "这不是可用的图片；请给 JPEG、PNG、WebP、AVIF、GIF、BMP 或 TIFF，至多 {pixels}00 万像素。{reason}",
    ),
}  # fmt: skip


def text(key: str, language: str, **values: Any) -> str:
    """A text of ``TEXTS`` in ``"en"`` or ``"zh"``, with its values filled in."""
    return TEXTS[key][LANGUAGES.index(language)].format(**values)


class Switch:
    """Makes components with texts that follow the language.

    A component's texts are properties by the key of their text: ``{"label": "query"}``; ``{"choices": ("heat",
    "mask")}`` gives choices whose values are the keys.

    Args:
        values: fill in what stands between braces in texts.
    """

    def __init__(self, **values: Any) -> None:
        self._values = values
        self._fixed: list[tuple[Any, dict[str, str | tuple[str, ...]]]] = []
        self._shown: list[tuple[Any, Any, Callable[[Any, str], Any]]] = []

    def __call__(self, kind: Callable[..., Any], texts: dict[str, str | tuple[str, ...]], **options: Any) -> Any:
        """A component of class ``kind`` in English, with further ``options``; it is changed by the switch."""
        component = kind(**self._properties(texts, LANGUAGES[0]), **options)
        self._fixed.append((component, texts))
        return component

    def follow(self, component: Any, state: Any, render: Callable[[Any, str], Any]) -> None:
        """Let ``component`` show ``render(state, language)`` in the current language; nothing for ``None``."""
        self._shown.append((component, state, render))

    def connect(self, demo: gr.Blocks, language: gr.Radio) -> None:
        """Make the events: of the switch, and the first choice by the browser's language."""
        fixed = [component for component, _ in self._fixed]
        shown = [component for component, _, _ in self._shown]

        def choose(language: str, *values: Any) -> list[Any]:
            results = [
                gr.skip() if value is None else render(value, language)
                for (_, _, render), value in zip(self._shown, values, strict=True)
            ]
            return [*self._updates(language), *results]

        def open_page(request: gr.Request, *values: Any) -> list[Any]:
            first = preferred(request.headers.get("accept-language", ""))
            return [first, *choose(first, *values)]

        # Neither waits for the model.
        states, changed = [state for _, state, _ in self._shown], fixed + shown
        language.input(choose, [language, *states], changed, api_name="language", queue=False, show_progress="hidden")
        demo.load(open_page, states, [language, *changed], api_name="open", queue=False, show_progress="hidden")

    def _updates(self, language: str) -> list[Any]:
        return [gr.update(**self._properties(texts, language)) for _, texts in self._fixed]

    def _properties(self, texts: dict[str, str | tuple[str, ...]], language: str) -> dict[str, Any]:
        return {
            name: text(key, language, **self._values)
            if isinstance(key, str)
            else [(text(each, language) if each in TEXTS else each, each) for each in key]
            for name, key in texts.items()
        }


def preferred(accepted: str) -> str:
    """``"zh"`` when an Accept-Language header names Chinese before English, else ``"en"``."""
    tags: Sequence[str] = [part.split(";")[0].strip().lower()[:2] for part in accepted.split(",")]
    return next((tag for tag in tags if tag in LANGUAGES), LANGUAGES[0])
