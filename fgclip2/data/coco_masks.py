"""All masks of a COCO file as run lengths, before anything is trained; objects of unusable masks are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fgclip2.data.coco import CocoAnnotation, CocoDataset
from fgclip2.data.outlines import checked_outline
from fgclip2.errors import Fgclip2Error
from fgclip2.masks import run_lengths
from fgclip2.progress import progress

_NAMED = 3  # objects that a message names


def outlined(data: CocoDataset) -> tuple[CocoDataset, list[str]]:
    """The same data with compressed run lengths for ``segmentation``.

    Args:
        data: of `fgclip2.data.coco.load_coco`.

    Returns:
        Data without the objects whose masks cannot be used; and lines that count what was left out.

    Raises:
        Fgclip2Error: an object has no ``segmentation`` at all, or more than half of them no usable one.
    """
    bare = [item.id for item in data.annotations if item.segmentation is None]
    if bare:
        raise Fgclip2Error(
            f"{data.annotation_file}: annotation {bare[0]} has no 'segmentation' ({len(bare)} of "
            f"{len(data.annotations)} objects have none); masks need polygons or run lengths (COCO's RLE)"
        )
    images = {image.id: image for image in data.images}
    kept: list[CocoAnnotation] = []
    bad: list[tuple[str, str]] = []
    pieces: list[int] = []  # ids of annotations that lost some of their polygons
    for item in progress(data.annotations, unit="mask", leave=False):
        image = images[item.image_id]
        try:
            kept.append(replace(item, segmentation=run_lengths(item, image)))
            if checked_outline(item.segmentation, image.width, image.height)[1]:
                pieces.append(item.id)
        except Fgclip2Error as error:
            bad.append((image.file_name, str(error)))
    notes = []
    if pieces:
        notes.append(
            f"{data.annotation_file}: {len(pieces)} masks have polygons of fewer than three points or an odd count of "
            f"numbers, which are left out: annotation {pieces[0]} is the first"
        )
    if not bad:
        return replace(data, annotations=tuple(kept)), notes
    if len(bad) > len(kept):
        raise Fgclip2Error(f"{_counted(data, bad)}. Write the file again, with polygons or run lengths in pixels")
    return replace(data, annotations=tuple(kept)), [*notes, f"{_counted(data, bad)}; these objects are left out"]


def _counted(data: CocoDataset, bad: Sequence[tuple[str, str]]) -> str:
    named = "; ".join(f"{reason} in {file}" for file, reason in bad[:_NAMED])
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return f"{data.annotation_file}: {len(bad)} of {len(data.annotations)} masks cannot be used ({named}{more})"
