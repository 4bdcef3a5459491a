"""The table: what is compared with the paper's figures and what is not, and what earlier runs found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import fgclip2
from fgclip2.evaluation import runner as running
from fgclip2.evaluation.datasets import select
from fgclip2.evaluation.runner import Report, run
from fgclip2.evaluation.scores import Settings
from fgclip2.evaluation.sizes import EXPECTED, Size
from tests.evaluation.miniatures import MINIATURES

SHORT = Settings(samples=20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A few benchmarks below one data root."""
    for name in ("coco", "coco_box", "sugarcrepe", "fgovd"):
        MINIATURES[name].write(tmp_path / "data", tmp_path)
    return tmp_path / "data"


def evaluate(model: fgclip2.FGCLIP2, root: Path, out: Path, *names: str, **options: Any) -> Report:
    return run(select(names), model, root, out, SHORT, **options)


@pytest.fixture
def as_base(tiny: fgclip2.FGCLIP2, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model is taken for the base one, so that there are differences to the paper's figures."""
    monkeypatch.setattr(running, "SIZES", {tiny.width: "base"})


def cells(table: str, start: str) -> list[str]:
    (row,) = (line for line in table.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.usefixtures("as_base")
def test_a_part_of_a_set_is_not_compared(
    tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "cache"
    part = run(select(["coco", "fgovd"]), tiny, root, tmp_path / "part", SHORT, cache=store)
    assert part.results["coco"]["complete"] is False
    assert part.results["coco"]["facts"]["size"] == "3 of 5,000 pictures"
    assert part.results["fgovd"]["complete"] is None
    assert part.results["fgovd"]["facts"]["size"] == "6 records"
    row = cells(part.table, "COCO val2017 | i2t_r1")
    assert (row[7], row[9]) == ("–", "3 of 5,000 pictures")
    assert (
        "\n- COCO val2017: 3 of 5,000 pictures are here, and the paper's figures are of the whole set\n" in part.table
    )
    row = cells(part.table, "FG-OVD | hard")
    assert (row[7], row[9]) == (f"{part.results['fgovd']['metrics']['hard']['value'] - 52.3:+.1f}", "–")
    monkeypatch.setitem(EXPECTED, "coco", Size(3, "pictures"))
    whole = run(select(["coco"]), tiny, root, tmp_path / "whole", SHORT, cache=store)
    row = cells(whole.table, "COCO val2017 | i2t_r1")
    assert (row[7], row[9]) == (f"{whole.results['coco']['metrics']['i2t_r1']['value'] - 72.1:+.1f}", "whole")
    assert "no difference to tell" not in whole.table
    monkeypatch.setitem(EXPECTED, "coco", Size(2, "pictures"))  # another set
    other = run(select(["coco"]), tiny, root, tmp_path / "other", SHORT, cache=store)
    assert cells(other.table, "COCO val2017 | i2t_r1")[7:] == ["–", "0", "3 of 2 pictures"]


@pytest.mark.usefixtures("as_base")
def test_bare_names_are_not_compared_with_figures_of_80_prompts(
    tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MINIATURES["boxclass_cn"].write(root, tmp_path)
    monkeypatch.setitem(EXPECTED, "coco_box", Size(3, "boxes"))
    names, store = select(["coco_box", "boxclass_cn"]), tmp_path / "cache"
    strict = run(names, tiny, root, tmp_path / "strict", SHORT, cache=store)
    assert cells(strict.table, "COCO-80 boxes | top1")[7] == "–"
    assert "- COCO-80 boxes: classes are their bare names here (`strict`), and the paper's figures" in strict.table
    assert cells(strict.table, "BoxClass-CN-566 | top1")[7] != "–"  # bare in the paper, too
    released = run(names, tiny, root, tmp_path / "released", Settings("released", samples=20), cache=store)
    assert cells(released.table, "COCO-80 boxes | top1")[7] != "–"
    assert "no difference to tell" not in released.table


def test_the_table_keeps_what_earlier_runs_found(tiny: fgclip2.FGCLIP2, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(tiny, root, out, "coco")
    second = evaluate(tiny, root, out, "sugarcrepe", "dci", strict=False)
    assert set(second.results) == {"sugarcrepe"}
    assert "| COCO val2017 | i2t_r1 |" in second.table
    assert "| SugarCrepe | add_att |" in second.table
    assert (out / "table.md").read_text(encoding="utf-8") == second.table
    shutil.rmtree(root / "sugar-crepe")
    third = evaluate(tiny, root, out, "coco", "sugarcrepe", strict=False)
    assert "(its figures above are of an earlier run)" in third.table
    assert "| SugarCrepe | add_att |" in third.table
    # Figures of another protocol cannot stand in the same table; they are named.
    released = run(select(["coco"]), tiny, root, out, Settings("released", samples=20))
    assert "| SugarCrepe |" not in released.table
    assert "Results by another model, number format, protocol or version: sugarcrepe" in released.table
    (out / "fgovd.json").write_text('{"benchmark": "fgovd", "failed": 0}')  # of an earlier form
    assert "version: fgovd, sugarcrepe" in run(
        select(["coco"]), tiny, root, out, Settings("released", samples=20)
    ).table  # fmt: skip


@pytest.mark.usefixtures("as_base")
def test_segmentation_without_training_is_not_compared(
    tiny: fgclip2.FGCLIP2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's figures are of a trained segmentor: beside another's label maps there is a difference, else none."""
    MINIATURES["a150"].write(tmp_path / "data", tmp_path / "given")
    monkeypatch.setitem(EXPECTED, "a150", Size(1, "pictures"))
    free = run(select(["a150"]), tiny, tmp_path / "data", tmp_path / "free", SHORT, cache=tmp_path / "c")
    result = free.results["a150"]
    assert (result["published_size"], result["comparable"]) == ("base", False)
    (row,) = (line for line in free.table.splitlines() if line.startswith("| A-150 |"))
    assert [cell.strip() for cell in row.split("|")][5:9] == ["38.5", "41.2", "42.2", "–"]
    assert "There is no difference to tell of:\n\n- A-150: segmentation from the dense map" in free.table
    settings = Settings(samples=20, predictions=tmp_path / "given")
    given = run(select(["a150"]), tiny, tmp_path / "data", tmp_path / "judged", settings, cache=tmp_path / "c")
    (row,) = (line for line in given.table.splitlines() if line.startswith("| A-150 |"))
    assert row.split("|")[8].strip() == f"{100 * (7 / 15) / 2 - 38.5:+.1f}"
    assert "no difference to tell" not in given.table
