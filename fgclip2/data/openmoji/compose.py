"""Drawing: grounds, badges, tints, warping a glyph into a patch, laying it over the picture."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from fgclip2.data.openmoji.attributes import COLOURS, Draws
from fgclip2.data.openmoji.glyphs import Glyph, premultiply

GROUNDS: tuple[tuple[str, str], ...] = (
    ("plain", "纯色"),
    ("graded", "渐变"),
    ("striped", "条纹"),
    ("checked", "方格"),
    ("dotted", "圆点"),
    ("mottled", "斑驳"),
)
BADGES: tuple[str, ...] = ("disc", "square")
_BADGE_SIZE = 128
_FILL = {"disc": 0.62, "square": 0.70}  # longest side of the glyph as a part of the badge's


def ground(kind: int, width: int, height: int, draws: Draws) -> np.ndarray:
    """A pale background.

    Args:
        kind: index into `GROUNDS`.
        width, height: pixels.
        draws: random numbers of the picture.

    Returns:
        (height, width, 3) uint8; channels between 150 and 250, weakly coloured so that no named colour appears.
    """
    level, drift = draws.between(176, 240), [draws.between(-9, 9) for _ in range(3)]
    first = np.array([level + d for d in drift], np.float32)
    second = np.clip(first + draws.between(7, 20) * (1 if draws.chance(0.5) else -1), 150, 250)
    name = GROUNDS[kind][0]
    if name == "plain":
        return np.broadcast_to(np.rint(first).astype(np.uint8), (height, width, 3)).copy()
    if name == "graded":
        corners = np.array([[first, second], [second, first]] if draws.chance(0.3) else [[first, first], [second] * 2])
        if draws.chance(0.5):
            corners = corners.transpose(1, 0, 2)
        weight_x, weight_y = np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32)
        top = corners[0, 0] + (corners[0, 1] - corners[0, 0]) * weight_x[:, None]
        bottom = corners[1, 0] + (corners[1, 1] - corners[1, 0]) * weight_x[:, None]
        return (top[None] + (bottom - top)[None] * weight_y[:, None, None] + 0.5).astype(np.uint8)
    period = draws.between(0.05, 0.14) * min(width, height)
    if name == "mottled":
        cells = np.array([[draws.unit() for _ in range(9)] for _ in range(9)], np.float32)
        weight = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
        index = np.clip(weight * 31, 0, 31).astype(np.uint8)
        shades = first + (second - first) * np.linspace(0, 1, 32, dtype=np.float32)[:, None]
        return np.rint(shades).astype(np.uint8)[index]
    x, y = np.arange(width, dtype=np.float32) / period, np.arange(height, dtype=np.float32) / period
    if name == "striped":
        slant = draws.between(-1, 1)
        index = ((x[None] * slant + y[:, None]) if draws.chance(0.5) else (x[None] + y[:, None] * slant)) % 2 < 1
    elif name == "checked":
        index = (np.floor(x)[None] + np.floor(y)[:, None]) % 2 < 1
    else:
        index = ((x % 2 - 1) ** 2)[None] + ((y % 2 - 1) ** 2)[:, None] < 0.3
    return np.rint(np.stack([first, second])).astype(np.uint8)[index.astype(np.uint8)]


@lru_cache(maxsize=8)
def _badge(shape: str) -> np.ndarray:
    """(130, 130, 2) uint8: coverage and darkness of the rim, 1 px of nothing around."""
    grid = np.abs((np.arange(_BADGE_SIZE, dtype=np.float32) + 0.5) / _BADGE_SIZE * 2 - 1)
    x, y = grid[None], grid[:, None]
    if shape == "disc":
        inside = 1 - np.hypot(x, y)
    else:
        radius = 0.3
        corner = np.hypot(np.maximum(x - (1 - radius), 0), np.maximum(y - (1 - radius), 0))
        inside = np.minimum(radius - corner, np.minimum(1 - x, 1 - y))
    soft = _BADGE_SIZE / 2
    cover = np.clip(inside * soft + 0.5, 0, 1)
    rim = 1 - np.clip((inside - 0.06) * soft + 0.5, 0, 1)
    both = np.rint(np.stack(np.broadcast_arrays(cover, rim), -1) * 255).astype(np.uint8)
    return cv2.copyMakeBorder(both, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)


@lru_cache(maxsize=32)
def _tint_table(colour: int) -> np.ndarray:
    """(256, 3) uint8: luminance -> shade of a colour. Outlines stay dark, all other parts keep the hue."""
    rgb = np.array(COLOURS[colour].rgb, np.float32)
    light = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    shade = rgb * np.clip(0.62 + 0.45 * light, 0, 1) + (255 - rgb) * np.clip(light - 0.85, 0, 1) * 1.2
    dark = np.clip((light - 0.06) / 0.2, 0, 1)
    return np.rint(np.clip(shade * dark + rgb * 0.12 * (1 - dark), 0, 255)).astype(np.uint8)


def sprite(
    drawn: Glyph,
    size: float,
    angle: float,
    flip: bool,
    style: str,
    colour: int | None,
    shape: str,
    rim: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw one object.

    Args:
        drawn: the glyph.
        size: longest side in pixels before the rotation: of the glyph, or of the badge when there is one.
        angle: degrees, counter-clockwise.
        flip: mirror the glyph left to right.
        style: `"plain"`, `"badge"` or `"tint"`.
        colour: index into `COLOURS`; None for plain.
        shape: form of the badge, one of `BADGES`.
        rim: draw the badge's darker rim.

    Returns:
        premultiplied colour (h, w, 3) uint8, coverage (h, w) uint8, the object's mask (h, w) bool, and the mask of the
        glyph alone (h, w) bool.
    """
    on_badge = style == "badge"
    longest = size * _FILL[shape] if on_badge else size
    level = drawn.level(longest)
    picture = level.premultiplied
    radians = np.deg2rad(angle)
    cos, sin = abs(float(np.cos(radians))), abs(float(np.sin(radians)))
    scale = longest / level.side
    extent = (size, size) if on_badge else (picture.shape[1] * scale, picture.shape[0] * scale)
    if on_badge and shape == "disc":
        cos, sin = 1.0, 0.0
    out = (int(np.ceil(extent[0] * cos + extent[1] * sin)) + 1, int(np.ceil(extent[0] * sin + extent[1] * cos)) + 1)
    if style == "tint" and colour is not None:
        grey = cv2.cvtColor(level.straight, cv2.COLOR_RGBA2GRAY)
        picture = premultiply(np.dstack([_tint_table(colour)[grey], level.straight[..., 3]]))
    glyph = _warp(picture, scale, radians, flip, out)
    cover = glyph[..., 3]
    glyph_mask = cover >= 128
    if not on_badge or colour is None:
        return glyph[..., :3], cover, glyph_mask, glyph_mask
    plate = _warp(_badge(shape), size / _BADGE_SIZE, radians, False, out)
    full, dark = plate[..., 0].astype(np.float32), plate[..., 1].astype(np.float32) * ((0.45 if rim else 0.0) / 255)
    left = (1 - cover.astype(np.float32) / 255) / 255
    strength = full * (1 - dark) * left
    paint = strength[..., None] * np.array(COLOURS[colour].rgb, np.float32) + glyph[..., :3]
    total = np.maximum(plate[..., 0], cover)
    return np.minimum(paint + 0.5, 255).astype(np.uint8), total, total >= 128, glyph_mask


def blend(picture: np.ndarray, paint: np.ndarray, cover: np.ndarray) -> None:
    """Lay premultiplied `paint` (h, w, 3) with `cover` (h, w) over `picture` (h, w, 3), in place; all uint8."""
    behind = (picture * (255 - cover.astype(np.uint16))[..., None] + 127) // 255
    np.minimum(behind + paint, 255, out=behind)
    picture[:] = behind


def _warp(source: np.ndarray, scale: float, radians: float, flip: bool, out: tuple[int, int]) -> np.ndarray:
    cos, sin = np.cos(radians) * scale, np.sin(radians) * scale
    mirror = -1.0 if flip else 1.0
    matrix = np.array([[cos * mirror, sin, 0.0], [-sin * mirror, cos, 0.0]])
    middle = np.array([(source.shape[1] - 1) / 2, (source.shape[0] - 1) / 2])
    matrix[:, 2] = [(out[0] - 1) / 2, (out[1] - 1) / 2] - matrix[:, :2] @ middle
    return cv2.warpAffine(source, matrix, out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
