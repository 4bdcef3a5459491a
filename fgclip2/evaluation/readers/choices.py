"""One true text among false ones: FG-OVD of regions, SugarCrepe of whole pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.boxes import corners
from fgclip2.evaluation.readers.files import entry, first_existing, read_json, read_json_lines, text
from fgclip2.evaluation.records import Choice

FGOVD_SPLITS: Final = {
    "hard": "1_attributes",
    "medium": "2_attributes",
    "easy": "3_attributes",
    "trivial": "shuffle_negatives",
}
_OTHER_NAMES: Final = {"hard": "h_attributes", "medium": "m_attributes", "easy": "e_attributes"}
SUGARCREPE_KINDS: Final = (
    "add_att",
    "add_obj",
    "replace_att",
    "replace_obj",
    "replace_rel",
    "swap_att",
    "swap_obj",
)


def fgovd_files(folder: str, split: str) -> tuple[str, ...]:
    """Where a split may lie below a data root: as the released evaluation calls it, and as its pages lay it out.

    Example:
        >>> fgovd_files("fgovd_json", "hard")[:2]
        ('fgovd_json/1_attributes_llava.jsonl', 'fgovd_json/h_attributes_llava.jsonl')
    """
    names = dict.fromkeys((FGOVD_SPLITS[split], _OTHER_NAMES.get(split, FGOVD_SPLITS[split])))
    folders = (folder, folder.removesuffix("_json"))
    return tuple(f"{place}/{name}_llava.jsonl" for place in folders for name in names)


def fgovd(root: Path) -> Iterator[Choice]:
    """FG-OVD: in ``hard``, ``medium`` and ``easy`` one, two and three attributes of the false texts are wrong, in
    ``trivial`` they speak of other things. Some records have fewer than ten false texts."""
    yield from _fgovd(root, "fgovd_json")


def fgovd_cn(root: Path) -> Iterator[Choice]:
    """FG-OVD in Chinese, as ``apps/build_benchmark.py --fgovd`` writes it."""
    yield from _fgovd(root, "fgovd_cn_json")


def _fgovd(root: Path, folder: str) -> Iterator[Choice]:
    for split in FGOVD_SPLITS:
        file = first_existing(*(root / name for name in fgovd_files(folder, split)))
        yield from fgovd_file(file, root / "coco", split)


def fgovd_file(file: Path, image_root: Path, split: str) -> Iterator[Choice]:
    """One of FG-OVD's files."""
    for number, item in read_json_lines(file, "img_path", "bbox", "pos_expression", "neg_expression"):
        where = f"{file}, line {number}"
        true, false = item["pos_expression"], item["neg_expression"]
        if not isinstance(true, list) or len(true) != 1 or not isinstance(false, list) or not false:
            raise Fgclip2Error(f"{where}: wanted one pos_expression and at least one neg_expression")
        texts = tuple(text(expression, where) for expression in (*true, *false))
        yield Choice(image_root / text(item["img_path"], where), texts, split, corners(item["bbox"], where))


def sugarcrepe(root: Path) -> Iterator[Choice]:
    """SugarCrepe: captions of COCO val2017 against one false caption each, seven kinds."""
    for kind in SUGARCREPE_KINDS:
        file = root / f"sugar-crepe/data/{kind}.json"
        content = read_json(file)
        if not isinstance(content, dict):
            raise Fgclip2Error(f"{file} is no object of numbered pairs; fetch it again")
        for number, item in content.items():
            where = f"{file}, pair {number}"
            item = entry(item, where, "filename", "caption", "negative_caption")
            texts = text(item["caption"], where), text(item["negative_caption"], where)
            yield Choice(root / "coco/val2017" / text(item["filename"], where), texts, kind)
