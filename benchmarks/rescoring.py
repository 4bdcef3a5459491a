"""What naming a detector's boxes costs beside encoding their picture: ``python -m benchmarks.rescoring``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import fgclip2
from benchmarks._measure import matmul, medians
from benchmarks._models import image_flops, random_model
from benchmarks._report import command, report
from fgclip2.fusion import FusionConfig, FusionRescorer


@dataclass
class Arguments:
    """Encode a picture, and encode and rescore it, in turn; a model of full size with random weights."""

    size: Literal["base", "large", "so400m"] = "base"
    """Of the model."""
    boxes: int = 300
    """Of the picture."""
    classes: int = 1203
    """LVIS has 1,203."""
    patches: tuple[int, ...] = (1024, 256)
    """Patches of the dense map; 1,024 are what a photograph gets."""
    repeats: int = 9
    """Runs of each in turn, of whose times the median counts."""


def main(arguments: Arguments) -> None:
    """Measure the quotient of the medians."""
    model = random_model(arguments.size)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    corners = rng.uniform(0, 1, (arguments.boxes, 2, 2)) * [640, 480]
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], axis=1).clip(max=[640, 480, 640, 480])
    scores = rng.uniform(0, 1, arguments.boxes)
    texts = F.normalize(torch.randn(arguments.classes, model.width), dim=-1)
    vocabulary = fgclip2.Vocabulary(tuple(map(str, range(len(texts)))), texts, model.hash, model.name)
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    for patches in arguments.patches:
        rescorer = FusionRescorer(model, vocabulary, FusionConfig(max_patches=patches))
        runs: dict[str, Callable[[], object]] = {
            "encode": partial(model.dense_features, picture, max_patches=patches),
            "encode and rescore": partial(rescorer, picture, boxes, scores),
            "rescore": partial(rescorer, model.dense_features(picture, max_patches=patches), boxes, scores),
        }
        product, product_flops = matmul(model.dtype, model.device)
        times = medians(runs | {"product": product}, arguments.repeats)
        flops = sum(image_flops(model.model.config, patches))
        quotient = times["encode and rescore"] / times["encode"]
        rows.append({"model": arguments.size, "dtype": str(model.dtype).removeprefix("torch."), "patches": patches})
        rows[-1] |= {"boxes": arguments.boxes, "classes": arguments.classes}
        rows[-1] |= {f"{name}, ms": round(times[name], 1) for name in runs}
        rows[-1] |= {"encoding GFLOP/s": round(flops / times["encode"] * 1000)}
        rows[-1] |= {"matmul GFLOP/s": round(product_flops / times["product"] * 1000)}
        rows[-1]["to encoding once"] = round(quotient, 3)
        figures[f"rescoring_to_encoding_{patches}"] = round(quotient, 3)
    report("rescoring", rows, figures)


if __name__ == "__main__":
    command(main, Arguments)
