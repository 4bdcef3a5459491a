"""Pictures a person can look at: boxes, masks and heat-maps, with labels in English or Chinese."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from fgclip2.errors import Fgclip2Error
from fgclip2.fonts import font_for
from fgclip2.images import ImageLike, open_image
from fgclip2.instances import InstanceSegmentation

Colour = tuple[int, int, int]
_Rectangle = tuple[float, float, float, float]

# Dark blue over green to red, close to the "jet" that heat-maps are read with, but lighter at both ends.
_HEAT: Final = np.array(
    [[48, 40, 120], [40, 100, 220], [40, 190, 200], [130, 225, 90], [250, 205, 50], [240, 110, 35], [190, 25, 25]],
    float,
)


def draw_boxes(
    image: ImageLike,
    boxes: Any,
    labels: Sequence[str],
    scores: Any = None,
    *,
    names: Sequence[str] = (),
    font_size: int | None = None,
) -> Image.Image:
    """Boxes with labels on a copy of the picture; one colour a label.

    Args:
        image: anything ``open_image`` takes.
        boxes: (M, 4) x1, y1, x2, y2 in pixels, array, tensor or lists; clipped to the picture. M may be 0.
        labels: M texts, English or Chinese.
        scores: (M,) numbers written behind the labels, or ``None``.
        names: all labels that several pictures may have, so that one has the same colour in each of them.
        font_size: height of the letters in pixels; ``None`` fits the picture.

    Returns:
        RGB picture of the same size.

    Raises:
        Fgclip2Error: the numbers of boxes, labels and scores differ, boxes are not finite (M, 4), or there is no font
            with Chinese letters for a Chinese label.
    """
    canvas = open_image(image).copy()
    corners = _array(boxes, "boxes")
    corners = corners.reshape(0, 4) if corners.size == 0 else corners
    values = None if scores is None else _array(scores, "scores")
    if corners.ndim != 2 or corners.shape[1] != 4 or not np.isfinite(corners).all():
        raise Fgclip2Error(f"boxes of shape {corners.shape}; give (M, 4) finite x1, y1, x2, y2 in pixels")
    if len(labels) != len(corners) or (values is not None and values.shape != (len(corners),)):
        scored = "no" if values is None else str(values.shape)
        raise Fgclip2Error(f"{len(corners)} boxes, {len(labels)} labels and {scored} scores; give one of each a box")
    captions = list(labels) if values is None else [f"{a} {b:.2f}" for a, b in zip(labels, values, strict=True)]
    colours = label_colours([*names, *labels])
    _outline(canvas, corners, [colours[label] for label in labels], captions, font_size or _font_size(canvas))
    return canvas


def _outline(
    canvas: Image.Image, corners: np.ndarray, colours: Sequence[Colour], captions: Sequence[str], font_size: int
) -> None:
    """Draw boxes ``(M, 4)`` and what they are called."""
    width, height = canvas.size
    corners = np.clip(corners, 0, [width - 1, height - 1] * 2)
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(min(width, height) / 160))
    for corner, colour in zip(corners, colours, strict=True):
        draw.rectangle(_ordered(corner), outline=colour, width=line)
    # Labels last and apart from each other, so that no box is drawn over one and none hides another.
    taken: list[_Rectangle] = []
    for corner, colour, caption in zip(corners, colours, captions, strict=True):
        taken.append(_draw_label(draw, canvas.size, _ordered(corner), caption, colour, font_size, taken))


def draw_masks(
    image: ImageLike,
    masks: Any,
    labels: Sequence[str],
    *,
    names: Sequence[str] = (),
    opacity: float = 0.5,
    font_size: int | None = None,
) -> Image.Image:
    """Masks as coloured areas with labels at their middles, on a copy of the picture; one colour a label.

    Args:
        image: anything ``open_image`` takes.
        masks: (M, H, W) bool at the picture's size; later ones lie on top. M may be 0.
        labels: M texts, English or Chinese.
        names: all labels that several pictures may have, so that one has the same colour in each of them.
        opacity: 0..1 of the colour.
        font_size: height of the letters in pixels; ``None`` fits the picture.

    Raises:
        Fgclip2Error: shapes do not fit, or there is no font with Chinese letters for a Chinese label.
    """
    base = open_image(image)
    stack = _array(masks, "masks").astype(bool)
    if len(stack) != len(labels) or (len(stack) and stack.shape[1:] != (base.height, base.width)):
        raise Fgclip2Error(
            f"masks of shape {stack.shape} and {len(labels)} labels for a picture of height {base.height} and width "
            f"{base.width}; give (M, {base.height}, {base.width}) and M labels"
        )
    pixels, colours = np.array(base, dtype=np.float32), label_colours([*names, *labels])
    for mask, label in zip(stack, labels, strict=True):
        pixels[mask] = (1 - opacity) * pixels[mask] + opacity * np.array(colours[label], dtype=np.float32)
    canvas = Image.fromarray(np.rint(pixels).astype(np.uint8))
    draw, size = ImageDraw.Draw(canvas), font_size or _font_size(canvas)
    taken: list[_Rectangle] = []
    for mask, label in zip(stack, labels, strict=True):
        if mask.any():
            rows, columns = np.nonzero(mask)
            middle = (float(np.median(columns)), float(np.median(rows))) * 2
            taken.append(_draw_label(draw, canvas.size, middle, label, colours[label], size, taken))
    return canvas


def draw_segmentation(
    image: ImageLike,
    labels: Any,
    names: Sequence[str],
    *,
    opacity: float = 0.55,
    legend: bool = True,
    font_size: int | None = None,
) -> Image.Image:
    """Labels as coloured areas, with a legend of what is there beside the picture, largest first.

    A class has the same colour, and the legend the same width, whatever is in the picture, so frames of a video fit.

    Args:
        image: anything ``open_image`` takes.
        labels: (H, W) whole numbers at the picture's size: index into ``names``, negative for background, which stays
            as it is.
        names: C class names, English or Chinese.
        opacity: 0..1 of the colours.
        legend: add it, at the right.
        font_size: height of the letters in pixels; ``None`` fits the picture.

    Returns:
        RGB picture, wider by the legend.

    Raises:
        Fgclip2Error: another size, labels without a name, or no font with Chinese letters for a Chinese name.
    """
    base = open_image(image)
    values = _array(labels, "labels").astype(np.int64)
    if values.shape != (base.height, base.width):
        raise Fgclip2Error(
            f"labels of shape {values.shape} for a picture of height {base.height} and width {base.width}"
        )
    if values.max() >= len(names):
        raise Fgclip2Error(f"label {values.max()} has no name; there are {len(names)}")
    colours = label_colours(names)
    palette = np.array([colours[name] for name in names], dtype=np.float32).reshape(-1, 3)
    pixels, named = np.array(base, dtype=np.float32), values >= 0
    pixels[named] = (1 - opacity) * pixels[named] + opacity * palette[values[named]]
    painted = Image.fromarray(np.rint(pixels).astype(np.uint8))
    if not legend:
        return painted
    return _with_legend(painted, names, np.bincount(values[named], minlength=len(names)), font_size or _font_size(base))


def draw_instances(
    image: ImageLike, found: InstanceSegmentation, *, opacity: float = 0.5, font_size: int | None = None
) -> Image.Image:
    """Things as coloured areas in their boxes, with names and scores, and a legend as that of `draw_segmentation`.

    Args:
        image: anything ``open_image`` takes, of the masks' size.
        found: the things; more certain ones lie on top.
        opacity: 0..1 of the colours.
        font_size: height of the letters in pixels; ``None`` fits the picture.

    Returns:
        RGB picture, wider by the legend.

    Raises:
        Fgclip2Error: another size, or no font with Chinese letters for a Chinese name.
    """
    base = open_image(image)
    if found.masks.shape[1:] != (base.height, base.width):
        raise Fgclip2Error(
            f"masks of shape {found.masks.shape} for a picture of height {base.height} and width {base.width}"
        )
    colours = label_colours(found.names)
    own = [colours[name] for name in found.captions]
    canvas, size = paint_masks(base, found.masks, own, opacity), font_size or _font_size(base)
    captions = [f"{name} {score:.2f}" for name, score in zip(found.captions, found.scores, strict=True)]
    _outline(canvas, found.boxes, own, captions, size)
    areas = np.bincount(found.labels, weights=found.masks.sum((1, 2)), minlength=len(found.names))
    return _with_legend(canvas, found.names, areas, size)


def paint_masks(
    image: ImageLike, masks: Iterable[np.ndarray], colours: Sequence[Colour], opacity: float = 0.5
) -> Image.Image:
    """Colour what masks cover, without names, on a copy of the picture.

    Args:
        image: anything ``open_image`` takes.
        masks: (H, W) bool each, at the picture's size, taken one after the other; earlier ones lie on top.
        colours: one a mask.
        opacity: 0..1 of the colours.
    """
    whole = np.asarray(open_image(image))
    pixels, free = whole.copy(), np.ones(whole.shape[:2], bool)
    for mask, colour in zip(masks, colours, strict=True):
        seen = mask & free
        free &= ~mask
        mixed = (1 - opacity) * whole[seen].astype(np.float32) + opacity * np.array(colour, dtype=np.float32)
        pixels[seen] = np.rint(mixed).astype(np.uint8)
    return Image.fromarray(pixels)


def _with_legend(painted: Image.Image, names: Sequence[str], counts: np.ndarray, size: int) -> Image.Image:
    """Write the names with counts ``(C,)`` above 0 at the right, the largest first, as far as there is room."""
    colours = label_colours(names)
    row, pad = round(1.5 * size), max(2, size // 3)
    width = round(max(font_for(name, size).getlength(name) for name in names)) + row + 2 * pad
    canvas = Image.new("RGB", (painted.width + width, painted.height), "white")
    canvas.paste(painted, (0, 0))
    there = sorted(np.flatnonzero(counts).tolist(), key=lambda index: -int(counts[index]))
    room = max(1, painted.height // row)
    shown = there if len(there) <= room else there[: room - 1]
    draw = ImageDraw.Draw(canvas)
    for line, index in enumerate(shown):
        left, top = painted.width + pad, line * row
        draw.rectangle((left, top + pad, left + row - 2 * pad, top + row - pad), fill=colours[names[index]])
        draw.text((left + row - pad, top + row // 2), names[index], "black", font_for(names[index], size), anchor="lm")
    if len(there) > len(shown):
        more = f"+ {len(there) - len(shown)}"
        draw.text((painted.width + pad, len(shown) * row + row // 2), more, "black", font_for(more, size), anchor="lm")
    return canvas


def heat_map(
    image: ImageLike,
    similarity: Any,
    *,
    label: str = "",
    limits: tuple[float, float] | None = None,
    opacity: float = 0.55,
) -> Image.Image:
    """A similarity map laid over the picture, dark blue (low) to red (high).

    Args:
        image: anything ``open_image`` takes.
        similarity: (H, W) numbers, array or tensor; another size than the picture's is resized bilinearly.
        label: text for the upper left corner, English or Chinese.
        limits: values drawn as the lowest and the highest colour; ``None`` takes the map's own, so that colours of two
            pictures cannot be compared.
        opacity: 0..1 of the colours.

    Raises:
        Fgclip2Error: not (H, W) finite numbers, or limits in the wrong order.
    """
    base = open_image(image)
    values = _array(similarity, "similarity")
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        hint = "; give one text's map at a time" if values.ndim == 3 else ""
        raise Fgclip2Error(f"similarity of shape {values.shape}; give (H, W) finite numbers{hint}")
    low, high = (float(values.min()), float(values.max())) if limits is None else limits
    if low > high or (limits is not None and low == high):
        raise Fgclip2Error(f"limits are {limits}; give (lowest, highest)")
    sized = Image.fromarray(values.astype(np.float32)).resize(base.size, Image.Resampling.BILINEAR)
    # A map of one value has no contrast to show and is drawn as all low.
    share = np.clip((np.asarray(sized) - low) / max(high - low, 1e-12), 0, 1)
    stops = np.linspace(0, 1, len(_HEAT))
    colours = np.stack([np.interp(share, stops, _HEAT[:, channel]) for channel in range(3)], axis=-1)
    mixed = (1 - opacity) * np.asarray(base, dtype=np.float32) + opacity * colours
    canvas = Image.fromarray(np.rint(mixed).astype(np.uint8))
    if label:
        size = _font_size(canvas)
        _draw_label(ImageDraw.Draw(canvas), canvas.size, (0, 0, 0, 0), label, (30, 30, 30), size, [])
    return canvas


def shrunk(image: ImageLike, side: int) -> Image.Image:
    """The picture with a longest side of at most ``side`` pixels, as it is when it is no larger."""
    opened = open_image(image)
    if max(opened.size) <= side:
        return opened
    factor = side / max(opened.size)
    size = max(1, round(opened.width * factor)), max(1, round(opened.height * factor))
    return opened.resize(size, Image.Resampling.LANCZOS)


def label_colours(labels: Sequence[str]) -> dict[str, Colour]:
    """A bright colour for every distinct label, in order of first use; neighbours in that order differ most."""
    golden_ratio = 0.618033988749895
    colours: dict[str, Colour] = {}
    for label in labels:
        if label not in colours:
            red, green, blue = colorsys.hsv_to_rgb((0.02 + len(colours) * golden_ratio) % 1, 0.85, 0.95)
            colours[label] = (round(red * 255), round(green * 255), round(blue * 255))
    return colours


def _array(values: Any, what: str) -> np.ndarray:
    try:
        # Tensors of any device and type (numpy has no bfloat16), without importing torch.
        array = values.detach().cpu().float().numpy() if hasattr(values, "detach") else np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise Fgclip2Error(f"{what} are not numbers ({error}); give an array, a tensor or lists of numbers") from error
    return array


def _ordered(box: np.ndarray) -> _Rectangle:
    x1, y1, x2, y2 = box.tolist()
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _font_size(image: Image.Image) -> int:
    return max(11, round(min(image.size) / 26))


def _draw_label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: _Rectangle,
    text: str,
    colour: Colour,
    font_size: int,
    taken: Sequence[_Rectangle],
) -> _Rectangle:
    """Write ``text`` on a plate at ``box``: above it if there is room, else in it or below; returns the plate."""
    font = font_for(text, font_size)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(1, font_size // 6)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    places = [(box[0], box[1] - height), (box[0], box[1]), (box[0], box[3]), (box[2] - width, box[1] - height),
              (box[2] - width, box[3])]  # fmt: skip
    plates = []
    for x, y in places:
        x, y = max(0.0, min(x, size[0] - width)), max(0.0, min(y, size[1] - height))
        plates.append((x, y, x + width, y + height))
    plate = next((plate for plate in plates if not any(_overlap(plate, other) for other in taken)), plates[0])
    draw.rectangle(plate, fill=colour)
    luminance = (299 * colour[0] + 587 * colour[1] + 114 * colour[2]) / 1000
    ink = (0, 0, 0) if luminance > 130 else (255, 255, 255)
    draw.text((plate[0] + pad - left, plate[1] + pad - top), text, fill=ink, font=font)
    return plate


def _overlap(a: _Rectangle, b: _Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
