"""Dense features of one picture, ours and plain, to 16,384 patches: ``python -m benchmarks.dense --patches 1024``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks._measure import attend, matmul, medians, with_peak
from benchmarks._models import Attention, Plain, image_flops, random_model
from benchmarks._report import command, report


@dataclass
class Arguments:
    """Encode one picture by both ways in turn, and measure what this machine multiplies a second between them."""

    size: Literal["base", "large", "so400m"] = "base"
    """Of the model, whose weights are random."""
    patches: tuple[int, ...] = (1024, 4096, 16384)
    """Square numbers: patches of a picture."""
    plain_patches: int = 4096
    """Most patches at which the plain way runs; at 16,384 its mask and weights take over 24 GiB."""
    attention: Attention = "eager"
    """Of the plain way: as it is written first, or torch's fused one."""
    repeats: int = 5
    """Runs of each in turn, of whose times the median counts."""


def draw(patches: int) -> Image.Image:
    """A square picture of so many patches."""
    side = 16 * round(patches**0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def main(arguments: Arguments) -> None:
    """Measure ratios, rates, memory and cosines."""
    model = random_model(arguments.size)
    config = model.model.config
    width, heads = config.vision_config.hidden_size, config.vision_config.num_attention_heads
    plain = None
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    pictures = {patches: draw(patches) for patches in arguments.patches}
    # Before the plain model takes memory too.
    first = {
        patches: with_peak(partial(model.dense_features, picture, max_patches=patches))
        for patches, picture in pictures.items()
    }
    for patches, picture in pictures.items():
        product, product_flops = matmul(model.dtype, model.device)
        ours = partial(model.dense_features, picture, max_patches=patches)
        runs: dict[str, Callable[[], object]] = {
            "ours": ours,
            "product": product,
            "attention": attend(patches, heads, width, model.dtype, model.device),
        }
        features, peak = first[patches]
        reference: Tensor | None = None
        plain_peak = 0.0
        if patches <= arguments.plain_patches:
            plain = plain or Plain(model.model, arguments.attention)
            theirs = partial(plain.dense, picture, patches)
            runs |= {"plain": theirs, "float32 product": matmul(torch.float32, model.device)[0]}
            reference, plain_peak = with_peak(theirs)
        for name in runs.keys() - {"ours", "plain"}:  # these two have run
            runs[name]()
        times = medians(runs, arguments.repeats, warm=0)
        weights, attention = image_flops(config, patches)
        rate = product_flops / times["product"] * 1000
        attention_rate = attention / (config.vision_config.num_hidden_layers + 1) / times["attention"] * 1000
        floor = 1000 * (weights / rate + attention / attention_rate)
        row: dict[str, object] = {"model": arguments.size, "patches": patches, "plain by": arguments.attention}
        row |= {"dtype": str(model.dtype).removeprefix("torch."), "ours, ms": round(times["ours"], 1)}
        row |= {"GFLOP/s": round((weights + attention) / times["ours"] * 1000), "matmul GFLOP/s": round(rate)}
        row |= {"attention GFLOP/s": round(attention_rate), "to floor": round(times["ours"] / floor, 2)}
        row |= {"peak MiB": round(peak), "plain, ms": "", "float32 matmul GFLOP/s": "", "plain peak MiB": ""}
        row |= {"plain to ours": "", "cosine, mean": "", "cosine, min": "", "repeats": arguments.repeats}
        figures[f"dense_{patches}_to_floor"] = round(times["ours"] / floor, 3)
        figures[f"dense_{patches}_peak_mib"] = round(peak)
        if reference is not None:
            cosines = F.cosine_similarity(features.map.flatten(0, 1), reference)
            ratio = times["plain"] / times["ours"]
            row |= {"plain, ms": round(times["plain"], 1), "plain peak MiB": round(plain_peak)}
            row |= {"float32 matmul GFLOP/s": round(product_flops / times["float32 product"] * 1000)}
            row |= {"plain to ours": round(ratio, 2)}
            row |= {"cosine, mean": f"{cosines.mean():.6f}", "cosine, min": f"{cosines.min():.6f}"}
            figures |= {f"dense_{patches}_plain_to_ours": round(ratio, 3)}
            figures |= {f"dense_{patches}_cosine_min": round(float(cosines.min()), 6)}
        rows.append(row)
    report("dense", rows, figures, case=("model", "patches", "plain by"))


if __name__ == "__main__":
    command(main, Arguments)
