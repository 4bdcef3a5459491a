"""A vocabulary of 20,000 classes: made, used, and made again from the cache: ``python -m benchmarks.vocabulary``.

Each part runs in a process of its own. What counts is the memory that it takes beyond the loaded model; the second
start also says how many texts its text tower read.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

import fgclip2
from benchmarks._measure import resident, with_peak
from benchmarks._models import random_model
from benchmarks._report import command, report
from benchmarks.text import saved


@dataclass
class Arguments:
    """Seconds and memory of many classes; the model's weights are random."""

    size: Literal["base", "large", "so400m"] = "base"
    """Of the model."""
    classes: int = 20_000
    """Names, English and Chinese in turn."""
    boxes: int = 300
    """Of the picture that is named by them."""


def main(arguments: Arguments) -> None:
    """One part after the other."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        directory = Path(folder) / "model"
        saved(random_model(arguments.size), directory)
        rows = [{"model": arguments.size, "classes": arguments.classes, **_apart(part, directory, arguments)}
                for part in (first_start, second_start, detection)]  # fmt: skip
    figures = {f"{row['part']}, extra GiB": float(str(row["extra GiB"])) for row in rows}
    figures["second start, texts read"] = float(str(rows[1]["texts read"]))
    report("vocabulary", rows, figures, case=("model", "classes", "part"))


def first_start(directory: Path, arguments: Arguments) -> dict[str, object]:
    """Embed all names, and bake them into one file."""
    model = fgclip2.load(directory)
    return _measured("first start", model, lambda: _build(model, arguments).save(directory.with_suffix(".safetensors")))


def second_start(directory: Path, arguments: Arguments) -> dict[str, object]:
    """The same in a new process."""
    model = fgclip2.load(directory)
    return _measured("second start", model, lambda: _build(model, arguments))


def detection(directory: Path, arguments: Arguments) -> dict[str, object]:
    """Name the boxes of a picture by all classes of the file."""
    model = fgclip2.load(directory)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    corners = rng.uniform(0, 1, (arguments.boxes, 2, 2)) * [640, 480]
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], axis=1).clip(max=[640, 480, 640, 480])
    scores = rng.uniform(0, 1, arguments.boxes)

    def run() -> object:
        vocabulary = fgclip2.Vocabulary.load(directory.with_suffix(".safetensors"), model)
        return fgclip2.FusionRescorer(model, vocabulary)(picture, boxes, scores)

    return _measured(f"{arguments.boxes} boxes", model, run)


def _build(model: fgclip2.FGCLIP2, arguments: Arguments) -> fgclip2.Vocabulary:
    names = [f"第{number}种东西" if number % 2 else f"thing number {number}" for number in range(arguments.classes)]
    return fgclip2.Vocabulary.build(model, names)


def _measured(part: str, model: fgclip2.FGCLIP2, run: Callable[[], object]) -> dict[str, object]:
    read = 0
    encode = model.text_features

    def counted(texts: str | Iterable[str], *given: Any, **named: Any) -> Any:
        nonlocal read
        texts = list(texts)
        read += len(texts)
        return encode(texts, *given, **named)

    model.text_features = counted  # type: ignore[method-assign]
    before, begun = resident("VmRSS"), time.perf_counter()
    _, peak = with_peak(run)
    return {"part": part, "seconds": round(time.perf_counter() - begun, 2), "texts read": read,
            "model GiB": round(before / 1024, 2), "extra GiB": round((peak - before) / 1024, 2)}  # fmt: skip


def _apart(
    part: Callable[[Path, Arguments], dict[str, object]], directory: Path, arguments: Arguments
) -> dict[str, object]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(part, (directory, arguments))


if __name__ == "__main__":
    command(main, Arguments)
