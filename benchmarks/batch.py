"""Many pictures of mixed sizes: in one call, one by one, and plain: ``python -m benchmarks.batch``."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import fgclip2
from benchmarks._measure import matmul, medians, with_peak
from benchmarks._models import Plain, random_model
from benchmarks._report import command, report
from fgclip2.processing import bucket


@dataclass
class Arguments:
    """From JPEG bytes to image features; every way opens and resizes the pictures itself."""

    size: Literal["base", "large", "so400m"] = "base"
    """Of the model, whose weights are random."""
    pictures: int = 64
    """How many."""
    smallest: int = 96
    """Shortest side, in pixels."""
    largest: int = 384
    """Longest side, in pixels."""
    repeats: int = 5
    """Runs of each way in turn, of whose times the median counts."""


def make_pictures(arguments: Arguments) -> list[bytes]:
    """JPEGs of random sides, smooth enough to be decoded as photographs are."""
    rng = np.random.default_rng(0)
    files = []
    for width, height in rng.integers(arguments.smallest, arguments.largest + 1, (arguments.pictures, 2)).tolist():
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def one_by_one(model: fgclip2.FGCLIP2, files: list[bytes]) -> Tensor:
    """Ours, a call for every picture."""
    return torch.cat([model.image_features(file) for file in files])


def plainly(plain: Plain, files: list[bytes]) -> Tensor:
    """transformers' way, with the released rule for the budget of a picture."""
    opened = (Image.open(io.BytesIO(file)).convert("RGB") for file in files)
    return torch.stack([plain.image(picture, bucket(*picture.size)) for picture in opened])


def main(arguments: Arguments) -> None:
    """Measure milliseconds a picture of every way."""
    model = random_model(arguments.size)
    plain = Plain(model.model)
    files = make_pictures(arguments)
    runs: dict[str, Callable[[], Tensor]] = {
        "one call": partial(model.image_features, files),
        "one by one": partial(one_by_one, model, files),
        "plain, one by one": partial(plainly, plain, files),
    }
    found = {name: with_peak(run) for name, run in runs.items()}
    reference, _ = found["plain, one by one"]
    product, product_flops = matmul(model.dtype, model.device)
    product()
    times = medians(runs | {"product": product}, arguments.repeats, warm=0)
    rows: list[dict[str, object]] = []
    for name, (features, peak) in found.items():
        cosines = F.cosine_similarity(features, reference)
        rows.append({"model": arguments.size, "way": name, "pictures": len(files)})
        rows[-1]["ms a picture"] = round(times[name] / len(files), 1)
        rows[-1]["plain to it"] = round(times["plain, one by one"] / times[name], 2)
        rows[-1] |= {"cosine, mean": f"{cosines.mean():.6f}", "cosine, min": f"{cosines.min():.6f}"}
        rows[-1]["matmul GFLOP/s"] = round(product_flops / times["product"] * 1000)
        rows[-1] |= {"peak MiB": round(peak), "repeats": arguments.repeats}
    figures = {
        "batch_plain_to_one_call": round(times["plain, one by one"] / times["one call"], 3),
        "batch_one_by_one_to_one_call": round(times["one by one"] / times["one call"], 3),
    }
    report("batch", rows, figures, case=("model", "way"))


if __name__ == "__main__":
    command(main, Arguments)
