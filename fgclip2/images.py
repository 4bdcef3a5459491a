"""Any picture a user has -> an upright 8-bit RGB ``PIL.Image``, or an error that says what to do.

Rules, all decided before a pixel is decoded where the header allows it:

* EXIF orientation is applied, to opened files and to ``PIL.Image`` objects alike, so that a picture gives the same
  features whichever way it is handed over. Boxes are in pixels of the upright picture.
* Transparency (RGBA, LA, palettes and PNG colour keys) is composited on white.
* 16-bit grey is scaled to 8 bit by 1/257 (65,535 -> 255), never clipped. The log tells the first file whose values
  fill 12 bit or fewer, since it becomes almost black. Mode ``I`` counts as 16 bit when a value is
  over 255; mode ``F`` is read as 0..1, 0..255 or 0..65,535, the smallest range that holds all values.
* Of an animation the first frame is taken, and of a TIFF the first page; the log tells the first file that has more.
* CMYK goes through Pillow's plain conversion; embedded colour profiles are not applied (as in the released code).
"""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from fgclip2.errors import Fgclip2Error

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray | torch.Tensor"

MAX_PIXELS: Final = 178_956_970
"""Largest picture that is decoded, in pixels: the number at which Pillow itself refuses (a 0.5 GB RGB picture)."""

# Raster formats only: Pillow's EPS reader would start Ghostscript on whatever a user was sent.
# Not ICO, whose reader decodes what is in it as it opens, before its size can be judged.
_FORMATS: Final = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA",
                   "TIFF", "WEBP")  # fmt: skip

# What Pillow's decoders are known to raise on damaged data, besides OSError.
_DECODE_ERRORS: Final = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
                         AttributeError, MemoryError, RuntimeError, struct.error, zlib.error)  # fmt: skip

_FEW_BITS: Final = 4095
"""Largest value of a 16-bit grey picture that is likely to hold 12-bit data, or fewer."""
_told: set[str] = set()  # what the log has said once

_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(image: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open, check and convert one picture.

    Args:
        image: path, encoded bytes (JPEG, PNG, WebP, ...), ``PIL.Image`` of any mode, or a (H, W, 3) uint8 RGB array or
            tensor.
        max_pixels: refuse a larger picture; read from the header, before decoding.

    Returns:
        Upright picture of mode ``RGB``. The caller's object is never changed; an RGB ``PIL.Image`` that is upright is
        returned as it is.

    Raises:
        Fgclip2Error: the file is missing, no picture, damaged or too large, or the array has another shape or type.
    """
    if isinstance(image, Image.Image):
        label = f"picture {name!r}" if (name := getattr(image, "filename", "")) else f"PIL picture of mode {image.mode}"
        return _finish(image, label, max_pixels)
    if isinstance(image, (str, os.PathLike)):
        return _open_path(image, max_pixels)
    if isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
        return _open_stream(io.BytesIO(data), f"picture of {len(data)} bytes", max_pixels)
    if isinstance(image, np.ndarray):
        return _from_array(image, "array", max_pixels)
    if hasattr(image, "detach") and hasattr(image, "numpy"):  # a torch tensor, without importing torch
        return _from_tensor(image, max_pixels)
    several = "; this takes one picture at a time" if type(image).__name__ in ("list", "tuple") else ""
    raise Fgclip2Error(
        f"cannot read a picture from {type(image).__name__}; give a path, bytes, a PIL.Image, or a (H, W, 3) uint8 "
        f"array or tensor{several}"
    )


def _open_path(path: str | os.PathLike[str], max_pixels: int) -> Image.Image:
    name = os.fspath(path)
    label = f"picture {name!r}"
    if isinstance(name, str) and name.startswith(("http://", "https://", "data:")):
        raise Fgclip2Error(f"{label[:120]} is an address, not a file; download it and pass the path or the bytes")
    file = Path(name)
    if file.is_dir():
        raise Fgclip2Error(f"{label} is a folder; pass the pictures in it, e.g. sorted(Path(...).glob('*.jpg'))")
    if not file.exists():
        raise Fgclip2Error(f"{label} does not exist (looked in {Path.cwd()}); check the path")
    try:
        with file.open("rb") as stream:
            return _open_stream(stream, label, max_pixels)
    except PermissionError as error:
        raise Fgclip2Error(f"{label} may not be read ({error.strerror}); check its permissions") from error


def _open_stream(stream: Any, label: str, max_pixels: int) -> Image.Image:
    try:
        with _open_header(stream) as opened:
            return _finish(opened, label, max_pixels)
    except UnidentifiedImageError as error:
        stream.seek(0)
        start = stream.read(12)
        what = "is empty" if not start else f"is not a picture this can read (it starts with {start!r})"
        raise Fgclip2Error(f"{label} {what}; give a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Fgclip2Error(
            f"{label} is refused before decoding: {error} Shrink it first; if it can be trusted, raise both max_pixels "
            "and PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except _DECODE_ERRORS as error:
        if isinstance(error, PermissionError):
            raise
        raise _damaged(label, error) from error


def _open_header(stream: Any) -> Image.Image:
    """``Image.open`` among ``_FORMATS``; the rarer plugins cost a quarter of a second to load, so they come second."""
    Image.preinit()
    try:
        return Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        Image.init()
        stream.seek(0)
        return Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN])


def _finish(image: Image.Image, label: str, max_pixels: int) -> Image.Image:
    """Check the size, decode, convert to RGB and turn upright; the header is judged before ``load`` decodes."""
    width, height = image.size
    if width * height > max_pixels:
        raise Fgclip2Error(
            f"{label} claims {width} x {height} = {width * height:,} pixels, over the limit of {max_pixels:,}; it was "
            "not decoded. Shrink it first, or pass a larger max_pixels if it can be trusted"
        )
    if width == 0 or height == 0:
        raise Fgclip2Error(f"{label} has no pixels ({width} x {height}); give at least 1 x 1")
    try:
        _tell_frames(image, label)
        image.load()
        orientation = _orientation(image, label)
        rgb = _to_rgb(image, label)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
            rgb.info = {}  # or a second call would read the orientation again and turn the picture back
    except _DECODE_ERRORS as error:
        raise _damaged(label, error) from error
    return rgb


def _tell_frames(image: Image.Image, label: str) -> None:
    """Say once that a file has more than what is read; a photograph's MPO has previews, which nobody misses."""
    if "frames" in _told or image.format not in ("GIF", "PNG", "TIFF", "WEBP", "AVIF") or image.tell() != 0:
        return
    if getattr(image, "is_animated", False):
        _told.add("frames")
        _log.warning("%s has several frames or pages, and the first is read (others like it are not named)", label)


def _damaged(label: str, error: Exception) -> Fgclip2Error:
    return Fgclip2Error(
        f"{label} is damaged or cut short ({type(error).__name__}: {error}); open it in a picture viewer, or fetch "
        "it again"
    )


def _orientation(image: Image.Image, label: str) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODE_ERRORS as error:
        _log.warning("%s: its EXIF data cannot be read (%s); the picture is taken as upright", label, error)
        return 1


def _to_rgb(image: Image.Image, label: str) -> Image.Image:
    mode = image.mode
    if image.has_transparency_data:
        rgba = image if mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if mode == "RGB":
        return image
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_grey_to_8_bit(np.asarray(image), label)).convert("RGB")
    if mode == "LAB":
        raise Fgclip2Error(f"{label} is stored in LAB colours; save it as RGB first")
    return image.convert("RGB")


def _grey_to_8_bit(values: np.ndarray, label: str) -> np.ndarray:
    """(H, W) grey of 16 bits, 32 bits or floats -> (H, W) uint8 0..255."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Fgclip2Error(
            f"{label} holds grey values that are not finite, such as NaN; replace them, then save it again"
        )
    if low < 0 or high > 65_535:
        raise Fgclip2Error(
            f"{label} holds grey values from {low:g} to {high:g}; allowed are 0..1 (floats), 0..255 and "
            "0..65535: scale it first"
        )
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # a true 16-bit file, of either byte order
        scale = 1 / 257
        if 0 < high <= _FEW_BITS and "few bits" not in _told:
            _told.add("few bits")
            _log.warning(
                "%s has 16 bit, but no value over %d, so it is read as almost black; multiply such pictures to fill "
                "0..65535 (others like it are not named)",
                label,
                int(high),
            )
    elif values.dtype.kind == "f" and high <= 1:
        scale = 255.0
    else:
        scale = 1.0 if high <= 255 else 1 / 257
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)


def _from_tensor(tensor: Any, max_pixels: int) -> Image.Image:
    if str(tensor.dtype) != "torch.uint8":
        # Checked here because numpy has no bfloat16 to convert to.
        raise Fgclip2Error(_wrong_array("tensor", tuple(tensor.shape), str(tensor.dtype)))
    return _from_array(tensor.detach().cpu().numpy(), "tensor", max_pixels)


def _from_array(array: np.ndarray, kind: str, max_pixels: int) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise Fgclip2Error(_wrong_array(kind, array.shape, str(array.dtype)))
    return _finish(Image.fromarray(np.ascontiguousarray(array)), kind, max_pixels)


def _wrong_array(kind: str, shape: tuple[int, ...], dtype: str) -> str:
    hints: list[str] = []
    article = "an" if kind == "array" else "a"
    message = (
        f"the picture is {article} {kind} of shape {tuple(shape)} and type {dtype}; allowed is (H, W, 3), uint8, RGB"
    )
    if 0 in shape:
        hints.append("it is empty")
    elif len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] != 3:
        hints.append("channels come last: transpose(1, 2, 0), or permute(1, 2, 0) for a tensor")
    elif len(shape) == 3 and shape[2] == 4:
        hints.append("drop the alpha channel, [..., :3], or pass a PIL.Image")
    elif len(shape) == 2:
        hints.append("repeat the grey channel three times, or pass a PIL.Image")
    elif len(shape) == 4:
        hints.append("this takes one picture: give array[0], array[1] and so on one by one")
    if "uint8" not in dtype:
        hints.append("scale floats in 0..1 by 255 and convert to uint8" if "float" in dtype else "convert to uint8")
    return f"{message}; {'; '.join(hints)}" if hints else message
