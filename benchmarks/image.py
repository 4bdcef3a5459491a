"""Features of one whole picture, ours and plain: ``python -m benchmarks.image``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch.nn.functional as F
from PIL import Image

from benchmarks._measure import matmul, medians, with_peak
from benchmarks._models import Plain, image_flops, random_model
from benchmarks._report import command, report


@dataclass
class Arguments:
    """Encode one picture by both ways in turn, preprocessing included."""

    size: Literal["base", "large", "so400m"] = "base"
    """Of the model, whose weights are random."""
    patches: tuple[int, ...] = (256, 1024)
    """Square numbers: patches of a picture."""
    repeats: int = 5
    """Runs of each in turn, of whose times the median counts."""


def main(arguments: Arguments) -> None:
    """Measure ratios, rates, memory and the cosine."""
    model = random_model(arguments.size)
    plain = Plain(model.model)
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    for patches in arguments.patches:
        side = 16 * round(patches**0.5)
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels)
        ours, theirs = (
            partial(model.image_features, picture, max_patches=patches),
            partial(plain.image, picture, patches),
        )
        product, product_flops = matmul(model.dtype, model.device)
        (features, peak), (reference, plain_peak) = with_peak(ours), with_peak(theirs)
        times = medians({"ours": ours, "plain": theirs, "product": product}, arguments.repeats)
        # Pooling leaves the dense head out, and with it one part of the layers and one.
        layers = model.model.config.vision_config.num_hidden_layers
        flops = sum(image_flops(model.model.config, patches)) * layers / (layers + 1)
        ratio = times["plain"] / times["ours"]
        rows.append({"model": arguments.size, "patches": patches, "dtype": str(model.dtype).removeprefix("torch.")})
        rows[-1] |= {f"{name}, ms": round(times[name], 1) for name in ("ours", "plain")}
        rows[-1] |= {"plain to ours": round(ratio, 2), "GFLOP/s": round(flops / times["ours"] * 1000)}
        rows[-1] |= {"matmul GFLOP/s": round(product_flops / times["product"] * 1000)}
        rows[-1] |= {"peak MiB": round(peak), "plain peak MiB": round(plain_peak)}
        rows[-1]["cosine"] = f"{F.cosine_similarity(features[0], reference, dim=0):.6f}"
        rows[-1]["repeats"] = arguments.repeats
        figures[f"image_{patches}_plain_to_ours"] = round(ratio, 3)
    report("image", rows, figures, case=("model", "patches"))


if __name__ == "__main__":
    command(main, Arguments)
