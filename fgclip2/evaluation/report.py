"""Results as a Markdown table beside the paper's figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fgclip2.evaluation.datasets import BENCHMARKS, TASKS
from fgclip2.evaluation.paper import SIZES

_DASH: Final = "–"
_HIDDEN: Final = ("r5", "r10", "top5", "ap50", "ap_common", "ap_frequent")
"""Endings of metrics that stand in the JSON only, for the paper has none of them."""

_UNTRAINED: Final = (
    "segmentation from the dense map needs no training, and the paper's figures are of CAT-Seg, which was trained; "
    "`--predictions` takes a segmentor's label maps"
)


def table(results: Sequence[Mapping[str, Any]], left_out: Mapping[str, str], strangers: Sequence[str] = ()) -> str:
    """Markdown: a row a figure, where there is no difference to the paper and why, means by language, and what could
    not be run.

    Args:
        results: as in the result files, by one model and protocol.
        left_out: benchmark to why it was not run.
        strangers: benchmarks with results by another model or protocol, which are named only.
    """
    ordered = sorted(results, key=lambda item: list(BENCHMARKS).index(item["benchmark"]))
    lines = ["# Results", ""]
    if ordered:
        lines += [*_head(ordered[0]), ""]
        lines += ["| benchmark | metric | % | 95 % | base | large | so400m | difference | failed | set |"]
        lines += ["|---|---|---|---|---|---|---|---|---|---|"]
        lines += [row for result in ordered for row in _rows(result)]
        lines += _incomparable(ordered)
        lines += ["", *_languages(ordered)]
        pages = [f"[{item['title']}]({item['benchmark']}.worst.html)" for item in ordered if item["worst"]]
        if pages:
            lines += ["", f"Pictures of the worst failures: {', '.join(pages)}"]
    if left_out:
        lines += ["", f"## Not run: {len(left_out)}", ""]
        earlier = {result["benchmark"] for result in ordered} & set(left_out)
        lines += [
            f"- {BENCHMARKS[name].title} (`{name}`): {reason}"
            + (" (its figures above are of an earlier run)" if name in earlier else "")
            for name, reason in left_out.items()
        ]
    if strangers:
        lines += ["", f"Results by another model, number format, protocol or version: {', '.join(strangers)}"]
    return "\n".join(lines) + "\n"


def listing() -> Iterator[str]:
    """One line a benchmark: name, title, task, language."""
    for benchmark in BENCHMARKS.values():
        extra = "" if benchmark.in_paper else "  (not in the paper)"
        yield f"{benchmark.name:15} {benchmark.title:18} {benchmark.task:20} {benchmark.language}{extra}"


def _head(result: Mapping[str, Any]) -> Iterator[str]:
    model, protocol = result["model"], result["protocol"]
    yield (
        f"Model `{model['name']}` (hash {model['hash'][:12]}, {model['dtype']} on {model['device']}), protocol "
        f"`{protocol['name']}`. 95 %: bootstrap over pictures, {protocol['bootstrap']} drawings. Base, large and "
        "so400m are the paper's figures; difference is to the size with this model's width "
        f"({result['published_size'] or 'none: ' + ', '.join(map(str, SIZES)) + ' are known'}). Failed pictures, boxes "
        "and answers count as wrong. Set: whether it is whole, where its size is known."
    )
    if model["embedded"]:
        yield ""
        yield "**The embedded model knows drawn glyphs only: its figures on photographs mean nothing.**"


def _reasons(result: Mapping[str, Any]) -> Iterator[str]:
    """Why a result is not what the published figures are of."""
    if result["complete"] is False:
        yield f"{result['facts']['size']} are here, and the paper's figures are of the whole set"
    if not result["comparable"]:
        yield result["reason"] or _UNTRAINED


def _incomparable(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a reason, with the benchmarks that it holds for."""
    titles: dict[str, list[str]] = defaultdict(list)
    for result in results:
        for reason in _reasons(result) if result["published"] else ():
            titles[reason].append(result["title"])
    lines = [f"- {', '.join(named)}: {reason}" for reason, named in titles.items()]
    return ["", "There is no difference to tell of:", "", *lines] if lines else []


def _rows(result: Mapping[str, Any]) -> Iterator[str]:
    for name, metric in result["metrics"].items():
        published = result["published"].get(name)
        if published is None and name.endswith(_HIDDEN):
            continue
        sizes = published or dict.fromkeys(SIZES.values())
        own = sizes.get(result["published_size"] or "")
        known = own is not None and metric["value"] is not None and not any(_reasons(result))
        difference = f"{metric['value'] - own:+.1f}" if known else _DASH
        interval = metric["interval"]
        cells = [
            result["title"],
            name,
            _figure(metric["value"]),
            _DASH if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}",
            *(_figure(sizes[size]) for size in SIZES.values()),
            difference,
            str(result["failed"]),
            {True: "whole", False: result["facts"]["size"], None: _DASH}[result["complete"]],
        ]
        yield "| " + " | ".join(cells) + " |"


def _languages(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Mean of every benchmark's first figures by task and language; retrieval's two directions are two figures."""
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    for result in results:
        for name, metric in result["metrics"].items():
            if metric["value"] is not None and (name in result["published"] or not result["in_paper"]):
                figures[result["task"], result["language"]].append(metric["value"])
    yield "| mean by task | EN | ZH |"
    yield "|---|---|---|"
    for task in TASKS:
        cells = [figures.get((task, language), []) for language in ("en", "zh")]
        if any(cells):
            means = [f"{sum(cell) / len(cell):.1f} ({len(cell)} figures)" if cell else _DASH for cell in cells]
            yield f"| {task} | {means[0]} | {means[1]} |"


def _figure(value: float | None) -> str:
    return _DASH if value is None else f"{value:.1f}"
