"""Chinese names of LVIS's categories: all, distinct, each of its own English name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from mmdet.datasets import LVISV1Dataset

from fgclip2.names import CJK, check_names
from fgclip2_mmdet.lvis_names import LVIS, chinese_names


def test_every_category_has_a_name_of_its_own() -> None:
    assert tuple(LVIS) == LVISV1Dataset.METAINFO["classes"]
    assert len(LVIS) == 1203
    assert check_names(LVIS.values()) == tuple(LVIS.values())
    strange = [name for name in LVIS.values() if not CJK.search(name) or not re.fullmatch(r"[A-Za-z]*[㐀-鿿]+", name)]
    assert not strange


def test_the_files_own_spelling_is_known() -> None:
    """Of detectron2's copy of the file's categories, which has a name that MMDetection's copy spells otherwise."""
    categories: list[dict[str, Any]] = pytest.importorskip(
        "detectron2.data.datasets.lvis_v1_categories", exc_type=ImportError
    ).LVIS_CATEGORIES
    names = [item["name"] for item in sorted(categories, key=lambda item: item["id"])]
    assert chinese_names(names) == list(LVIS.values())
    assert chinese_names(["zebra", "yak", "aerosol_can"]) == ["斑马", None, "喷雾罐"]


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        *(("bat_(animal)", "蝙蝠"), ("bob", "鱼漂"), ("pew_(church_bench)", "教堂长椅"), ("nut", "螺母")),
        *(("bow_(weapon)", "弓"), ("bow_(decorative_ribbons)", "蝴蝶结"), ("date_(fruit)", "椰枣"), ("elk", "驼鹿")),
        *(("cone", "交通锥"), ("grill", "格栅"), ("slide", "滑梯"), ("cornet", "小号"), ("jersey", "T恤衫")),
        *(("mallet", "球槌"), ("hammer", "锤子"), ("octopus_(food)", "章鱼肉"), ("batter_(food)", "面糊")),
        *(("wall_clock", "挂钟"), ("watch", "手表"), ("truffle_(chocolate)", "松露巧克力"), ("zucchini", "西葫芦")),
    ],
)
def test_senses_are_those_of_lvis(english: str, chinese: str) -> None:
    assert LVIS[english] == chinese
