"""Benchmarks like LIT-CN and BoxClass-CN from a user's own pictures, and FG-OVD in Chinese: checked, written as
released, read back.

What does not pass a check is left out, named with its reason in ``rejected.jsonl``, and counted. Nothing is mended
silently: no caption is cut, no box is moved, no category is merged but by the table that is given.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fgclip2.errors import Fgclip2Error
from fgclip2.evaluation.readers.boxes import class_names, instances
from fgclip2.evaluation.readers.captions import tabbed
from fgclip2.evaluation.readers.choices import fgovd_file
from fgclip2.evaluation.readers.files import read_json_lines
from fgclip2.evaluation.records import Language
from fgclip2.evaluation.store import digest
from fgclip2.evaluation.translation import Table
from fgclip2.features import check_boxes
from fgclip2.files import write_atomically
from fgclip2.images import open_image
from fgclip2.names import CJK, spoken

CAPTIONS: Final = "image_caption.txt"
BOXES: Final = "boxes.json"
_LETTER: Final = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class BuilderConfig:
    """What is let in. Lengths are in characters of Chinese captions and in words of English ones."""

    language: Language = "zh"
    min_length: int = 4
    max_length: int = 400
    """The long head reads 196 tokens, about 250 Chinese characters; longer captions are cut by the model."""
    min_share: float = 0.5
    """Of a text's letters, that are of the language; Chinese captions may quote Latin words."""
    min_boxes: int = 1
    """Categories with fewer boxes are left out."""

    def __post_init__(self) -> None:
        if self.language not in ("en", "zh"):
            raise Fgclip2Error(f"language {self.language!r}: choose 'en' or 'zh'")
        if not 1 <= self.min_length <= self.max_length:
            raise Fgclip2Error(f"lengths {self.min_length} to {self.max_length}: give 1 <= min_length <= max_length")
        if not 0 <= self.min_share <= 1 or self.min_boxes < 1:
            raise Fgclip2Error("min_share must be 0 to 1 and min_boxes at least 1")


@dataclass
class Built:
    """What became of the material.

    Attributes:
        file: the benchmark.
        kept: captions or boxes in it.
        rejected: name and reason of what was left out.
    """

    file: Path
    kept: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """How many were left out for which kind of reason, the most frequent first."""
        return dict(Counter(reason.split(":")[0] for _, reason in self.rejected).most_common())


def build_captions(
    pairs: Iterable[tuple[str, str]], image_root: Path, out: Path, config: BuilderConfig | None = None
) -> Built:
    """Write a retrieval set as LIT-CN is: lines ``path<TAB>caption``, one caption a picture.

    Args:
        pairs: picture, relative to ``image_root``, and caption.
        image_root: folder of the pictures.
        out: folder for the file; made when missing.
        config: what is let in.

    Raises:
        Fgclip2Error: nothing passes, or what was written does not read back.
    """
    config = config or BuilderConfig()
    built = Built(out / CAPTIONS)
    said: dict[str, str] = {}
    seen: dict[bytes, str] = {}
    kept: list[tuple[str, str]] = []
    for name, given in pairs:
        caption = " ".join(given.split())
        reason = _caption_problem(caption, config) or _repeated(said, caption.lower(), "caption")
        reason = reason or _picture_problem(image_root / name, name, seen)
        if not reason and "\t" in name:
            reason = "name: there is a tab in it"
        if reason:
            built.rejected.append((name, reason))
            continue
        said[caption.lower()] = name
        kept.append((name, caption))
    if not kept:
        raise Fgclip2Error(f"not one caption can be used; the reasons: {_listed(built.reasons())}")
    write_atomically(built.file, "".join(f"{name}\t{caption}\n" for name, caption in kept).encode())
    _write_rejected(built)
    back = [(record.image, record.captions) for record in tabbed(built.file, [image_root])]
    if back != [(image_root / name, (caption,)) for name, caption in kept]:
        raise Fgclip2Error(f"{built.file} does not read back as it was written; this is a bug of the toolkit")
    built.kept = len(kept)
    return built


def build_boxes(
    annotation_file: Path,
    image_root: Path,
    out: Path,
    config: BuilderConfig | None = None,
    merge: Mapping[str, str] | None = None,
) -> Built:
    """Write a box classification set as BoxClass-CN is: COCO-style, category ids from 1.

    Args:
        annotation_file: boxes as COCO instances.
        image_root: folder of the pictures.
        out: folder for the file; made when missing.
        config: what is let in; category names must be of its language.
        merge: category name to the name that it counts as; ``""`` leaves it out.

    Raises:
        Fgclip2Error: the file is damaged, ``merge`` names a category that is not there, or nothing passes.
    """
    config = config or BuilderConfig()
    merge = merge or {}
    built = Built(out / BOXES)
    names = class_names(annotation_file)
    unknown = [name for name in merge if name not in names]
    if unknown:
        raise Fgclip2Error(f"the table merges {unknown[0]!r}, which {annotation_file} does not have")
    pictures: list[tuple[str, list[tuple[str, list[float]]]]] = []
    seen: dict[bytes, str] = {}
    for record in instances(annotation_file, image_root):
        name = record.image.relative_to(image_root).as_posix()
        problem = _picture_problem(record.image, name, seen)
        if problem:
            built.rejected += [(name, problem)] * len(record.boxes)
            continue
        size = open_image(record.image).size
        boxes: list[tuple[str, list[float]]] = []
        taken: set[tuple[Any, ...]] = set()
        for box, label in zip(record.boxes, record.labels, strict=True):
            category = merge.get(names[label], names[label]).strip()
            reason = _box_problem(box, size, category, config, taken)
            taken.add(tuple(box))
            if reason:
                built.rejected.append((f"{name} {list(box)}", reason))
            else:
                boxes.append((category, [box[0], box[1], box[2] - box[0], box[3] - box[1]]))
        pictures.append((name, boxes))
    counts = Counter(category for _, boxes in pictures for category, _ in boxes)
    rare = {category for category, count in counts.items() if count < config.min_boxes}
    for name, boxes in pictures:
        built.rejected += [(f"{name} {box}", f"category: {category!r} is rare") for category, box in boxes
                           if category in rare]  # fmt: skip
    categories = {category: number for number, category in enumerate(sorted(counts.keys() - rare), start=1)}
    content = _coco_style([(name, [item for item in boxes if item[0] in categories]) for name, boxes in pictures],
                          categories)  # fmt: skip
    built.kept = len(content["annotations"])
    if not built.kept:
        raise Fgclip2Error(f"not one box can be used; the reasons: {_listed(built.reasons())}")
    write_atomically(built.file, json.dumps(content, ensure_ascii=False).encode())
    _write_rejected(built)
    back = sum(len(record.boxes) for record in instances(built.file, image_root))
    if back != built.kept or class_names(built.file) != tuple(map(spoken, categories)):
        raise Fgclip2Error(f"{built.file} does not read back as it was written; this is a bug of the toolkit")
    return built


def build_fgovd(file: Path, out: Path, table: Table, image_root: Path | None = None) -> Built:
    """Translate a file of FG-OVD, whole records or none: ``OUT/NAME`` has its lines with Chinese expressions, and
    ``OUT/STEM.rejected.jsonl`` the others with their reasons.

    A record is left out when one of its texts cannot be translated whole, when a false text becomes the true one or
    another false one (it would be easier, or cannot be answered), or when its picture is not there.

    Args:
        file: JSON lines of FG-OVD.
        out: folder for the file, which keeps its name; made when missing.
        table: words.
        image_root: folder that ``img_path`` is relative to; ``None`` does not look for pictures.

    Raises:
        Fgclip2Error: the file is damaged, it would be overwritten, or not one record passes.
    """
    built = Built(out / file.name)
    if built.file.resolve() == file.resolve():
        raise Fgclip2Error(f"{file} would be overwritten; give another --out")
    kept: list[dict[str, Any]] = []
    records = list(fgovd_file(file, image_root or Path(), ""))
    for (number, item), record in zip(read_json_lines(file), records, strict=True):
        try:
            true, *false = map(table.translate, record.texts)
        except Fgclip2Error as error:
            reason = str(error)
        else:
            reason = _choices_problem(record.texts, (true, *false))
        if not reason and image_root is not None and not record.image.is_file():
            reason = f"picture: {record.image} does not exist"
        if reason:
            built.rejected.append((f"line {number}", reason))
        else:
            kept.append({**item, "pos_expression": [true], "neg_expression": false})
    if not kept:
        raise Fgclip2Error(f"not one record can be used; the reasons: {_listed(built.reasons())}")
    write_atomically(built.file, "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in kept).encode())
    _write_rejected(built, f"{file.stem}.rejected.jsonl")  # four files share a folder
    back = [record.texts for record in fgovd_file(built.file, image_root or Path(), "")]
    if back != [(*item["pos_expression"], *item["neg_expression"]) for item in kept]:
        raise Fgclip2Error(f"{built.file} does not read back as it was written; this is a bug of the toolkit")
    built.kept = len(kept)
    return built


def _choices_problem(english: Sequence[str], chinese: Sequence[str]) -> str:
    """Texts that differed and are now the same; ones that were the same, as some of FG-OVD's, may stay so."""
    seen: dict[str, str] = {}
    for before, after in zip(english, chinese, strict=True):
        other = seen.setdefault(after, before)
        if other.lower() != before.lower():
            return f"same: {other!r} and {before!r} both become {after!r}"
    return ""


def _coco_style(
    pictures: Sequence[tuple[str, Sequence[tuple[str, list[float]]]]], categories: Mapping[str, int]
) -> dict[str, list[dict[str, Any]]]:
    filled = [(name, boxes) for name, boxes in pictures if boxes]
    return {
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "images": [{"id": number, "file_name": name} for number, (name, _) in enumerate(filled, start=1)],
        "annotations": [
            {"image_id": number, "bbox": box, "category_id": categories[category]}
            for number, (_, boxes) in enumerate(filled, start=1)
            for category, box in boxes
        ],
    }


def language_share(text: str, language: Language) -> float:
    """Share of a text's letters, 0..1, that are Chinese characters, or that are not; 0 where there are no letters."""
    letters = _LETTER.findall(text)
    chinese = sum(bool(CJK.match(letter)) for letter in letters)
    return (chinese if language == "zh" else len(letters) - chinese) / max(1, len(letters))


def _caption_problem(caption: str, config: BuilderConfig) -> str:
    length = len(CJK.findall(caption)) if config.language == "zh" else len(caption.split())
    if not config.min_length <= length <= config.max_length:
        return f"length: {length}, allowed are {config.min_length} to {config.max_length}"
    return _language_problem(caption, config)


def _language_problem(text: str, config: BuilderConfig) -> str:
    share = language_share(text, config.language)
    return (
        "" if share >= config.min_share and share > 0 else f"language: {share:.0%} of its letters are {config.language}"
    )


def _repeated(known: Mapping[Any, str], key: Any, what: str) -> str:
    return f"repeated {what}: as {known[key]}" if key in known else ""


def _picture_problem(path: Path, name: str, seen: dict[bytes, str]) -> str:
    """Why a picture cannot be used; one that can is added to ``seen``, by its content."""
    try:
        open_image(path)
    except Fgclip2Error as error:
        return f"picture: {error}"
    content = digest(path)
    repeated = _repeated(seen, content, "picture")
    seen.setdefault(content, name)
    return repeated


def _box_problem(
    box: Sequence[float], size: tuple[int, int], category: str, config: BuilderConfig, taken: set[tuple[Any, ...]]
) -> str:
    if not category:
        return "category: left out by the table"
    problem = _language_problem(category, config)
    if problem:
        return problem
    try:
        check_boxes([box], size)
    except Fgclip2Error as error:
        return f"box: {error}"
    return "repeated box: in the same picture" if tuple(box) in taken else ""


def _write_rejected(built: Built, name: str = "rejected.jsonl") -> None:
    listing = built.file.with_name(name)
    lines = [json.dumps({"name": name, "reason": reason}, ensure_ascii=False) for name, reason in built.rejected]
    if lines:
        write_atomically(listing, ("\n".join(lines) + "\n").encode())
    else:
        listing.unlink(missing_ok=True)


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.items()) or "there was nothing"
