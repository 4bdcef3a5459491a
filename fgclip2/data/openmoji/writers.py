"""Scenes as files: COCO instances, FineHARD records, webdataset shards. A file is there whole or not at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from fgclip2.data.openmoji import grammar
from fgclip2.data.openmoji.catalogue import Category
from fgclip2.data.openmoji.scenes import Scene, SceneObject
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras

LANGUAGES = ("en", "zh")


def write_coco(
    scenes: Iterable[Scene],
    out_dir: str | os.PathLike[str],
    categories: Sequence[Category],
    language: str = "en",
    lossless: bool = False,
) -> Path:
    """Write scenes as COCO instance annotations with exact masks.

    `out_dir/images/` gets the pictures and, last, `out_dir/annotations.json` the annotations. Category ids are those of
    the world (0..C-1); besides `name` every category has `name_en`, `name_zh`, `code` and `supercategory`. Masks are
    compressed RLE: holes and parts stay exact. Boxes are `[x, y, width, height]`, tight around the visible mask.

    Args:
        scenes: taken one by one; two scenes of one seed may not be written together.
        out_dir: made when missing.
        categories: the classes of the file; objects of other categories are in the pictures but not annotated.
        language: language of `name`: `"en"` or `"zh"`.
        lossless: PNG in place of JPEG (quality 95).

    Returns:
        The annotation file.

    Raises:
        Fgclip2Error: unknown language, no category, a seed twice, or `pycocotools` is not installed.
    """
    _check_language(language)
    if not categories:
        raise Fgclip2Error("write_coco: no categories given; pass world.categories or a part of it")
    with extras("scenes"):
        from pycocotools import mask as rle
    known = {category.id for category in categories}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    out = Path(out_dir)
    for scene, name in _pictures(scenes, out, lossless):
        height, width = scene.labels.shape
        image_id = len(images) + 1
        images.append({"id": image_id, "file_name": name, "width": width, "height": height, "seed": scene.seed})
        for thing in scene.objects:
            if thing.category.id not in known:
                continue
            mask = thing.mask
            encoded = rle.encode(np.asfortranarray(mask, np.uint8))
            x1, y1, x2, y2 = thing.box
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1: pycocotools takes 0 for "not matched"
                    "image_id": image_id,
                    "category_id": thing.category.id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
                }
            )
    content = {
        "info": {"description": "OpenMoji scenes; graphics by OpenMoji, CC BY-SA 4.0, https://openmoji.org"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {
                "id": category.id,
                "name": category.name_zh if language == "zh" else category.name_en,
                "name_en": category.name_en,
                "name_zh": category.name_zh,
                "supercategory": category.group,
                "code": category.code,
            }
            for category in sorted(categories, key=lambda category: category.id)
        ],
    }
    return _write_json(out / "annotations.json", content)


def write_finehard(
    scenes: Iterable[Scene],
    out_dir: str | os.PathLike[str],
    language: str = "en",
    lines: bool = False,
    lossless: bool = False,
) -> Path:
    """Write scenes as FineHARD records: long and short caption, boxes, region texts and 10 hard negatives a box.

    Args:
        scenes: taken one by one; two scenes of one seed may not be written together.
        out_dir: gets `images/` and, last, `finehard_LANGUAGE.json`, whose `f_path` are relative to it.
        language: `"en"` or `"zh"`; Chinese records carry `is_cn`.
        lines: JSON lines (`.jsonl`, one record a line) in place of one JSON list.
        lossless: PNG in place of JPEG (quality 95).

    Returns:
        The record file.

    Raises:
        Fgclip2Error: unknown language or a seed twice.
    """
    _check_language(language)
    out = Path(out_dir)
    records = [finehard_record(scene, f"images/{name}", language) for scene, name in _pictures(scenes, out, lossless)]
    if not lines:
        return _write_json(out / f"finehard_{language}.json", records)
    path = out / f"finehard_{language}.jsonl"
    with _replaced(path) as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    return path


def finehard_record(scene: Scene, f_path: str, language: str) -> dict[str, Any]:
    """One FineHARD record of a scene.

    Boxes are x1, y1, x2, y2 as shares of width and height; `long_expr` also says size and place; the keys of the
    negatives are `"0"` to `"9"`.
    """
    _check_language(language)
    height, width = scene.labels.shape
    record: dict[str, Any] = {
        "f_path": f_path,
        "caption": scene.long[language],
        "short_caption": scene.short[language][0],
    }
    if language == "zh":
        record["is_cn"] = True
    record["bbox_info"] = [
        {
            "bbox": [thing.box[0] / width, thing.box[1] / height, thing.box[2] / width, thing.box[3] / height],
            "short_expr": thing.phrases[language],
            "long_expr": _long_expression(thing, language),
            "flag_short_neg": 1,
            "short_expr_negs": {str(k): text for k, text in enumerate(thing.negatives[language])},
        }
        for thing in scene.objects
    ]
    return record


def write_webdataset(
    scenes: Iterable[Scene],
    out_dir: str | os.PathLike[str],
    language: str = "en",
    shard_size: int = 1000,
    lossless: bool = False,
) -> list[Path]:
    """Write scenes as webdataset shards `scenes-000000.tar`, ...: a picture and its FineHARD record a sample.

    Every shard is written under a temporary name and renamed when complete; equal scenes give equal bytes.

    Args:
        scenes: taken one by one; a seed may come once.
        out_dir: made when missing.
        language: `"en"` or `"zh"`.
        shard_size: most samples a shard, from 1.
        lossless: PNG in place of JPEG (quality 95).

    Returns:
        The shards in order.

    Raises:
        Fgclip2Error: unknown language, `shard_size` below 1, a seed twice, or `webdataset` is not installed.
    """
    _check_language(language)
    if shard_size < 1:
        raise Fgclip2Error(f"write_webdataset: shard_size={shard_size}; give 1 or more")
    with extras("scenes"):
        import webdataset
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    suffix = "png" if lossless else "jpg"
    shards: list[Path] = []
    for chunk in _chunks(_unique(scenes), shard_size):
        path = out / f"scenes-{len(shards):06d}.tar"
        with _replaced(path) as stream:
            with webdataset.TarWriter(stream, mtime=0.0, encoder=False) as tar:
                for scene in chunk:
                    key = _key(scene)
                    record = finehard_record(scene, f"{key}.{suffix}", language)
                    encoded = json.dumps(record, ensure_ascii=False).encode()
                    tar.write({"__key__": key, suffix: _encode(scene.image, lossless), "json": encoded})
            stream.flush()
        shards.append(path)
    return shards


def _long_expression(thing: SceneObject, language: str) -> str:
    what = grammar.phrase(thing.key, thing.category)
    place_en, place_zh = grammar.grid_place(*thing.centre)
    return f"{place_zh}的{what.zh}" if language == "zh" else f"{what.en} {place_en}"


def _pictures(scenes: Iterable[Scene], out: Path, lossless: bool) -> Iterator[tuple[Scene, str]]:
    (out / "images").mkdir(parents=True, exist_ok=True)
    for scene in _unique(scenes):
        name = f"{_key(scene)}.{'png' if lossless else 'jpg'}"
        with _replaced(out / "images" / name) as stream:
            stream.write(_encode(scene.image, lossless))
        yield scene, name


def _unique(scenes: Iterable[Scene]) -> Iterator[Scene]:
    seen: set[int] = set()
    for scene in scenes:
        if scene.seed in seen:
            raise Fgclip2Error(f"two scenes of seed {scene.seed}: files are named by seed; write them to two folders")
        seen.add(scene.seed)
        yield scene


def _chunks(scenes: Iterator[Scene], size: int) -> Iterator[Iterator[Scene]]:
    """Groups of up to `size`, each read while it is written, so that no shard has to fit into memory."""
    for first in scenes:

        def group(first: Scene = first) -> Iterator[Scene]:
            yield first
            for _ in range(size - 1):
                following = next(scenes, None)
                if following is None:
                    return
                yield following

        yield group()


def _key(scene: Scene) -> str:
    return f"{scene.seed:09d}"


def _encode(image: Image.Image, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG", compress_level=3)
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise Fgclip2Error(f"language={language!r}: choose 'en' or 'zh'")


def _write_json(path: Path, content: Any) -> Path:
    with _replaced(path) as stream:
        stream.write(json.dumps(content, ensure_ascii=False).encode())
    return path


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A stream to a temporary name in the same folder; synced and renamed at the end, removed when anything fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
