"""Memory and time of the sigmoid loss in chunks against the plain one: ``python -m benchmarks.losses``."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._measure import matmul, medians, resident
from benchmarks._report import report
from fgclip2.commandline import parse
from fgclip2.losses import sigmoid_loss

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass
class Arguments:
    """Measure forward and backward on the CPU in float32."""

    batch: int = 32768
    """Pictures and captions where memory is measured, of the chunked loss only."""
    time_batch: int = 8192
    """Pictures and captions where both losses are measured."""
    width: int = 768
    """Of the features."""
    chunk_size: int | None = None
    """Rows and columns of a block; what the loss takes by itself if not given."""
    repeats: int = 5
    """Runs of both losses in turn, of whose times the median counts."""


def plain(image: Tensor, text: Tensor, logit_scale: Tensor, logit_bias: Tensor) -> Tensor:
    """The loss as it is written down, with every ``(B, B)`` matrix that takes."""
    logits = image @ text.T * logit_scale + logit_bias
    sign = 2 * torch.eye(len(image), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum() / len(image)


def inputs(batch: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Leaves with gradients of zero in place: pictures, captions, scale 10, bias -10."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(batch, width, generator=generator).div_(width**0.5) for _ in range(2)]
    image, text, scale, bias = (*tensors, torch.tensor(10.0), torch.tensor(-10.0))
    for leaf in (image, text, scale, bias):
        leaf.requires_grad_()
        leaf.grad = torch.full_like(leaf, 0.0)
    return image, text, scale, bias


def seconds(loss: Loss, leaves: tuple[Tensor, Tensor, Tensor, Tensor]) -> float:
    """Of one forward and backward."""
    start = time.perf_counter()
    loss(*leaves).backward()
    return time.perf_counter() - start


def extra_memory(loss: Loss, batch: int, width: int, threads: int) -> tuple[float, float]:
    """Peak MiB of one forward and backward beside inputs and their gradients, and its seconds; for a new process."""
    torch.set_num_threads(threads)
    seconds(loss, inputs(64, width))  # what libraries take for themselves on first use
    leaves = inputs(batch, width)
    before = resident("VmRSS")
    spent = seconds(loss, leaves)
    return resident("VmHWM") - before, spent


def main(arguments: Arguments) -> None:
    """Measure memory in new processes, then the ratio of times in this one."""
    chunked = partial(sigmoid_loss, chunk_size=arguments.chunk_size)
    rows: list[dict[str, object]] = []
    figures: dict[str, float] = {}
    measured: list[tuple[str, Loss, int]] = [
        ("chunked", chunked, arguments.batch),
        ("chunked", chunked, arguments.time_batch),
        ("plain", plain, arguments.time_batch),
    ]
    for name, loss, batch in measured:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(extra_memory, loss, batch, arguments.width, torch.get_num_threads()).result()
        figures[f"{name}_extra_mib_{batch}"] = round(found[0], 1)
        rows.append({"loss": name, "B": batch, "D": arguments.width, "extra MiB": round(found[0], 1)})
        rows[-1] |= {"seconds": round(found[1], 4)}
    leaves = inputs(arguments.time_batch, arguments.width)
    product, product_flops = matmul(torch.float32, torch.device("cpu"))
    runs: dict[str, Callable[[], object]] = {name: partial(seconds, loss, leaves) for name, loss, _ in measured[1:]}
    times = medians(runs | {"product": product}, arguments.repeats)
    for row in rows[1:]:
        row["seconds"] = round(times[str(row["loss"])] / 1000, 4)
    for row in rows:
        # Of the products alone: logits, and the gradients of both sides.
        flops = 6 * int(str(row["B"])) ** 2 * arguments.width / 1e9
        row["GFLOP/s"] = round(flops / float(str(row["seconds"])))
        row["matmul GFLOP/s"] = round(product_flops / times["product"] * 1000)
    figures[f"chunked_to_plain_time_{arguments.time_batch}"] = round(times["chunked"] / times["plain"], 3)
    report("losses", rows, figures)


if __name__ == "__main__":
    main(parse(Arguments))
