"""Label maps of ADE-847 and PC-459 from their archives.

    python -m fgclip2_detectron2.prepare ade847 pc459 --root DIR

Both become 16-bit TIFF, labels from 0, 65,535 ignored, in the places where Mask2Former's and CAT-Seg's converters put
theirs, so that ``register_datasets`` and ``fgclip2 eval`` read either's files. No pickle is read: Mask2Former's
converter asks ADE20K's index for no more than the files' names, and those are on the disk. Tried on generated
miniatures of the archives only.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from fgclip2.console import exit_code
from fgclip2.errors import Fgclip2Error
from fgclip2.extras import extras
from fgclip2.files import write_atomically
from fgclip2.progress import progress

from .class_names_ade847 import ADE_847_IDS
from .class_names_pc459 import PC_459
from .masks import IGNORE

SHORTER_SIDE: Final = 512
"""Pixels; pictures and label maps of ADE20K become this small, as those that published figures come from."""
_DAMAGED: Final = (OSError, ValueError, TypeError, LookupError, NotImplementedError, zlib.error)


def prepare_ade847(root: str | Path) -> dict[str, int]:
    """Pictures and label maps of ADE20K, all classes; what is there already stays, so that it goes on after a stop.

    Args:
        root: holds ``ADE20K_2021_17_01`` as it unpacks: below ``images`` a ``_seg.png`` beside each ``.jpg``.

    Returns:
        Pictures by split, which is the second part of a name (``ADE_val_00000001.jpg``). They are in
        ``images_detectron2`` and ``annotations_detectron2``, below ``training`` and ``validation``.

    Raises:
        Fgclip2Error: the folder or a label picture is missing, or one is damaged or of another size.
    """
    base = Path(root) / "ADE20K_2021_17_01"
    pictures = sorted((base / "images").rglob("ADE_*.jpg"))
    if not pictures:
        raise Fgclip2Error(
            f"below {str(base / 'images')!r} is no picture ADE_*.jpg; unpack ADE20K_2021_17_01 (from "
            "https://groups.csail.mit.edu/vision/datasets/ADE20K, after registration) into the folder that --root names"
        )
    labels = np.full(IGNORE + 1, IGNORE, np.uint16)
    labels[list(ADE_847_IDS)] = np.arange(len(ADE_847_IDS))
    counts = {"training": 0, "validation": 0}
    for picture in progress(pictures):
        split = "validation" if picture.name.split("_")[1] == "val" else "training"
        target = base / "annotations_detectron2" / split / f"{picture.stem}.tif"
        counts[split] += 1
        if target.is_file():
            continue
        pixels, label = _smaller(picture, labels[_ade_numbers(picture.with_name(f"{picture.stem}_seg.png"))])
        _write(base / "images_detectron2" / split / picture.name, pixels, "JPEG")
        _write(target, label, "TIFF", compression="tiff_deflate")  # last: where it is, the picture is
    return counts


def prepare_pc459(root: str | Path) -> int:
    """Label maps of PASCAL Context's validation pictures, all classes, in ``annotations_detectron2/pc459_val``.

    Args:
        root: holds ``VOCdevkit/VOC2010`` with PASCAL Context's ``trainval`` folder of MATLAB files, and names of
            the validation pictures, one a line, in ``pascalcontext_val.txt`` (of CAT-Seg's datasets folder) or
            ``ImageSets/SegmentationContext/val.txt`` (of MMSegmentation's).

    Returns:
        How many.

    Raises:
        Fgclip2Error: scipy, the list or a file is missing, or a file is damaged or has a value above 459.
    """
    base = Path(root) / "VOCdevkit" / "VOC2010"
    lists = [base / "pascalcontext_val.txt", base / "ImageSets" / "SegmentationContext" / "val.txt"]
    listed = next((path for path in lists if path.is_file()), None)
    if listed is None:
        raise Fgclip2Error(f"neither {str(lists[0])!r} nor {str(lists[1])!r} is there; one must name the val pictures")
    names = listed.read_text(encoding="utf-8").split()
    lacking = [name for name in names if not (base / "trainval" / f"{name}.mat").is_file()]
    if lacking or not names:
        raise Fgclip2Error(
            f"{len(lacking)} of {len(names)} pictures that {str(listed)!r} names have no .mat file in "
            f"{str(base / 'trainval')!r}; unpack PASCAL Context's trainval.tar.gz there "
            "(https://cs.stanford.edu/~roozbeh/pascal-context)"
        )
    for name in progress(names):
        values = _matlab(base / "trainval" / f"{name}.mat")
        label = np.where(values == 0, IGNORE, values - 1).astype(np.uint16)
        _write(base / "annotations_detectron2" / "pc459_val" / f"{name}.tif", label, "TIFF", compression="tiff_deflate")
    return len(names)


def _pixels(path: Path) -> np.ndarray:
    """``(H, W, 3)`` uint8 as stored; label pictures know no EXIF rotation."""
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    except FileNotFoundError as error:
        raise Fgclip2Error(f"{str(path)!r} is missing; each ADE_*.jpg needs its ADE_*_seg.png, unpack again") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Fgclip2Error(f"{str(path)!r} cannot be read ({error}); unpack it again") from error


def _ade_numbers(path: Path) -> np.ndarray:
    """ADE20K's class number of each pixel, ``(H, W)`` int64; 0 is unlabelled."""
    red, green, _ = np.moveaxis(_pixels(path).astype(np.int64), 2, 0)
    return red // 10 * 256 + green


def _smaller(picture: Path, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture ``(h, w, 3)`` uint8 and labels ``(h, w)`` uint16 with ``SHORTER_SIDE``, smaller ones as they are."""
    pixels = _pixels(picture)
    height, width = pixels.shape[:2]
    if label.shape != (height, width):
        raise Fgclip2Error(
            f"{str(picture)!r} is {width} x {height} pixels, its _seg.png {label.shape[1]} x {label.shape[0]}; they "
            "must be of one size, unpack both again"
        )
    shorter = min(height, width)
    if shorter <= SHORTER_SIDE:
        return pixels, label
    size = tuple(SHORTER_SIDE if side == shorter else round(side / shorter * SHORTER_SIDE) for side in (width, height))
    return cv2.resize(pixels, size), cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)


def _matlab(path: Path) -> np.ndarray:
    """PASCAL Context's ``LabelMap``, ``(H, W)`` int64: 0 is unlabelled, classes are 1 to 459."""
    with extras("detectron2"):
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    try:
        values = np.asarray(loadmat(path, variable_names=["LabelMap"])["LabelMap"])
    except (*_DAMAGED, MatReadError) as error:
        raise Fgclip2Error(f"{str(path)!r} is no MATLAB file with a LabelMap ({error}); unpack it again") from error
    if not values.size:
        raise Fgclip2Error(f"LabelMap of {str(path)!r} is empty; unpack the archive again")
    if values.ndim != 2 or values.dtype.kind not in "ui" or values.min() < 0 or values.max() > len(PC_459[0]):
        raise Fgclip2Error(
            f"LabelMap of {str(path)!r} is {values.dtype} {values.shape} up to {values.max()}; wanted are "
            f"whole numbers (H, W), 0 for unlabelled and 1 to {len(PC_459[0])}. Is it of another data set?"
        )
    return values.astype(np.int64)


def _write(path: Path, values: np.ndarray, kind: str, **options: Any) -> None:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    write_atomically(path, stream.getvalue())


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert what is named; 0, or 2 after an error that the user can mend."""
    parser = argparse.ArgumentParser("fgclip2_detectron2.prepare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sets", nargs="+", choices=("ade847", "pc459"))
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("DETECTRON2_DATASETS", "datasets")))
    given = parser.parse_args(arguments)
    return exit_code(lambda: _prepare(given.sets, given.root))


def _prepare(sets: Sequence[str], root: Path) -> None:
    for name in dict.fromkeys(sets):
        counts = prepare_ade847(root) if name == "ade847" else {"validation": prepare_pc459(root)}
        print(f"{name}: " + ", ".join(f"{count} label maps for {split}" for split, count in counts.items()))


if __name__ == "__main__":
    sys.exit(main())
