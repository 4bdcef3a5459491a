"""Annotation files for data sets and metrics: COCO's and LVIS's, all pictures or chosen ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fgclip2.data.coco import read_annotation_file
from fgclip2.data.coco.reading import whole
from fgclip2.errors import Fgclip2Error


def read_annotations(
    file: str | os.PathLike[str], image_ids: str | os.PathLike[str] | None = None
) -> dict[str, list[Any]]:
    """A COCO or LVIS instance file as it stands.

    Args:
        file: JSON.
        image_ids: keep only these pictures and their objects, such as LVIS's minival: see `read_image_ids`.

    Raises:
        Fgclip2Error: no such file, another format, or ids that the file does not have.
    """
    content = read_annotation_file(Path(file))
    if image_ids is None:
        return content
    chosen = read_image_ids(image_ids)
    foreign = sorted(chosen - {image["id"] for image in content["images"]})
    if foreign:
        raise Fgclip2Error(f"{image_ids} names {len(foreign)} pictures that {file} does not have, such as {foreign[0]}")
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [item for item in content["annotations"] if item["image_id"] in chosen],
    }


def read_image_ids(file: str | os.PathLike[str]) -> set[int]:
    """Ids of chosen pictures.

    Args:
        file: JSON: a list of ids, or an annotation file, whose pictures are meant.

    Raises:
        Fgclip2Error: no such file, or it lists no pictures.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise Fgclip2Error(f"the file of image ids {str(file)!r} does not exist; give a JSON list") from error
    except (OSError, ValueError) as error:
        raise Fgclip2Error(f"{file} cannot be read as JSON ({error}); give a JSON list of image ids") from error
    entries = content.get("images") if isinstance(content, dict) else content
    ids: list[Any] = [entry.get("id") if isinstance(entry, dict) else entry for entry in entries or ()]
    numbers = [whole(number) for number in ids]
    if not ids or None in numbers:
        raise Fgclip2Error(f"{file} lists no image ids; give a JSON list of whole numbers, or an annotation file")
    return {number for number in numbers if number is not None}
