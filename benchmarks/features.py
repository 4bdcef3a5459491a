"""Pictures and texts a second through the model: ``python -m benchmarks.features [--model NAME]``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

import fgclip2
from benchmarks._report import report
from fgclip2.commandline import parse


@dataclass
class Arguments:
    """Measure one model on the best device of this machine."""

    model: str = "tiny"
    """tiny, a directory or a hub id."""
    pictures: int = 32
    """How many pictures of each size."""


def rate(run: Callable[[], object], count: int) -> float:
    """Items a second of the second call; the first one warms up."""
    for _ in range(2):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    return round(count / seconds, 1)


def dense(model: fgclip2.FGCLIP2, images: list[Image.Image], patches: int) -> list[fgclip2.DenseFeatures]:
    """Dense features of every picture, one at a time as the API gives them."""
    return [model.dense_features(image, max_patches=patches) for image in images]


def main(arguments: Arguments) -> None:
    """Measure image features, dense features and texts."""
    model = fgclip2.load(arguments.model)
    dtype = str(model.dtype).removeprefix("torch.")
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    for patches in (256, 1024):
        side = int(16 * patches**0.5)
        pixels = np.random.default_rng(0).integers(0, 256, (arguments.pictures, side, side, 3), dtype=np.uint8)
        images = [Image.fromarray(picture) for picture in pixels]
        tasks: dict[str, Callable[[], object]] = {
            "image features": partial(model.image_features, images, max_patches=patches),
            "dense features": partial(dense, model, images, patches),
        }
        for task, run in tasks.items():
            found = rate(run, len(images))
            rows.append(
                {"model": arguments.model, "task": f"{task}, {patches} patches", "dtype": dtype, "a second": found}
            )
            figures[f"{task.replace(' ', '_')}_{patches}"] = found
    texts = [f"a photo of thing number {number}, 第{number}张照片" for number in range(256)]
    found = rate(lambda: model.text_features(texts, kind="box"), len(texts))
    rows.append({"model": arguments.model, "task": "box texts", "dtype": dtype, "a second": found})
    figures["box_texts"] = found
    report("features", rows, figures)


if __name__ == "__main__":
    main(parse(Arguments))
