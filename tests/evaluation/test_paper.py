"""All of the paper's benchmarks, in miniature, through a whole run to the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fgclip2
from fgclip2.evaluation import runner
from fgclip2.evaluation.datasets import BENCHMARKS, select
from fgclip2.evaluation.paper import PUBLISHED
from fgclip2.evaluation.report import table
from fgclip2.evaluation.runner import run
from fgclip2.evaluation.scores import Settings
from tests.evaluation.colours import ColourEncoder
from tests.evaluation.miniatures import MINIATURES, make


class _Colours(ColourEncoder):
    """In the run's place of the encoder, so that figures are those worked out by hand."""

    encoded = embedded = 0

    def __init__(self, *_: Any) -> None: ...

    def prepare(self, wants: Any) -> None: ...


def test_the_papers_29_have_29_rows(tiny: fgclip2.FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its figures in the file and in the table; some share file names, so each has a data root."""
    monkeypatch.setattr(runner, "Encoder", _Colours)
    results = []
    names = [name for name, benchmark in BENCHMARKS.items() if benchmark.in_paper]
    for name in names:
        root, predictions = make(name, tmp_path / name)
        settings = Settings(samples=20, predictions=predictions)
        report = run(select([name]), tiny, root, tmp_path / "out", settings, cache=tmp_path / "cache")
        result = json.loads((tmp_path / f"out/{name}.json").read_text(encoding="utf-8"))
        assert result == report.results[name]
        wanted = MINIATURES[name].strict
        assert {key: result["metrics"][key]["value"] for key in wanted} == pytest.approx(wanted)
        results.append(result)
    lines = table(results, {}).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    titles = {BENCHMARKS[name].title: name for name in names}
    found: dict[str, dict[str, list[str]]] = {}
    for title, *cells in rows:
        if title in titles:
            found.setdefault(titles[title], {})[cells[0]] = cells
    assert len(titles) == len(found) == 29
    for name, figures in found.items():
        wanted = MINIATURES[name].strict
        for metric, published in PUBLISHED[name].items():
            if metric in figures:
                assert figures[metric][1] == f"{wanted[metric]:.1f}"
                assert figures[metric][3] == f"{published.base:.1f}"
        assert set(PUBLISHED[name]) - {"test"} <= set(figures)  # MMBench's test split is judged by its server
    assert not any(line.startswith("## Not run") for line in lines)
