"""One rank of test_losses_distributed.py: ``python losses_distributed.py RANK WORLD DIRECTORY``.

Runs every case on every pattern of rows and writes values and gradients to ``DIRECTORY/RANK.safetensors``; rank 0 also
does all of it alone, on the rows of all ranks, into ``alone.safetensors``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from fgclip2 import losses

WIDTH, NEGATIVES = 16, 4
# World size -> rows of each rank, and which ranks make up the group.
PATTERNS: dict[int, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {
    1: [((6,), (0,)), ((0,), (0,))],
    2: [((5, 3), (0, 1)), ((4, 4), (0, 1)), ((0, 4), (0, 1)), ((1, 0), (0, 1)), ((3,), (1,))],
    4: [
        ((3, 0, 1, 5), (0, 1, 2, 3)),
        ((2, 2, 2, 2), (0, 1, 2, 3)),
        ((0, 0, 7, 0), (0, 1, 2, 3)),
        ((0, 0, 0, 0), (0, 1, 2, 3)),
        ((2, 3), (1, 3)),
    ],
}
Inputs = dict[str, Tensor]
Case = Callable[[Inputs, dist.ProcessGroup | None], tuple[Tensor, ...]]


def sigmoid(given: Inputs, group: dist.ProcessGroup | None, ignore: bool = False, **options) -> tuple[Tensor]:
    left_out = given["ignore"] if ignore else None
    pair = given["image"], given["text"]
    return (losses.sigmoid_loss(*pair, given["scale"], given["bias"], group=group, ignore=left_out, **options),)


def region(given: Inputs, group: dist.ProcessGroup | None, ignore: bool = False) -> tuple[Tensor]:
    left_out = given["ignore"] if ignore else None
    return (losses.region_contrastive_loss(given["image"], given["text"], given["scale"], left_out, group),)


def hard(given: Inputs, group: dist.ProcessGroup | None, loss=losses.hard_negative_loss) -> tuple[Tensor]:
    return (loss(given["image"], given["texts"], given["scale"], given["mask"], group),)


def intra(given: Inputs, group: dist.ProcessGroup | None, **options) -> tuple[Tensor]:
    return (losses.text_intra_contrastive_loss(given["text"], top_k=3, group=group, **options),)


def rank(given: Inputs, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor]:
    scores = torch.einsum("md,mkd->mk", given["image"], given["texts"]) * given["scale"]
    return losses.rank_loss(scores[:, 0], scores[:, 1:], torch.tensor(0.7), given["mask"][:, 1:], group, (-9, 9))


def together(given: Inputs, group: dist.ProcessGroup | None) -> tuple[Tensor]:
    values = [case(given, group)[0] for case in (sigmoid, region, hard, intra, rank)]
    return (torch.stack(values) @ torch.tensor([1.0, 0.2, 1.5, 0.1, 0.2]),)


CASES: dict[str, Case] = {
    "sigmoid ring": sigmoid,
    "sigmoid gather": partial(sigmoid, exchange="gather"),
    "sigmoid ring, chunks of 2": partial(sigmoid, chunk_size=2),
    "sigmoid gather, chunks of 3": partial(sigmoid, chunk_size=3, exchange="gather"),
    "sigmoid ring, ignore": partial(sigmoid, chunk_size=2, ignore=True),
    "region": region,
    "region, ignore": partial(region, ignore=True),
    "hard negative": hard,
    "hard itc": partial(hard, loss=losses.hard_itc_loss),
    "intra, remove, sum": intra,
    "intra, zero, mean": partial(intra, filtered="zero", reduction="mean"),
    "rank": rank,
    "together": together,
}


def inputs(counts: tuple[int, ...], index: int | None) -> Inputs:
    """Leaves for one rank's rows, or for all rows in one; rank r has at most r + 1 negatives a region."""
    generator = torch.Generator().manual_seed(sum(counts))
    total = sum(counts)
    image, text, phrases = (
        F.normalize(torch.randn(*shape, WIDTH, generator=generator), dim=-1)
        for shape in ((total,), (total,), (total, 1 + NEGATIVES))
    )
    if total > 1:
        text[1] = text[0]  # one pair of equal texts, which the filter of the intra-text loss must see
    holder = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    mask = torch.arange(1 + NEGATIVES) <= (1 + holder - (torch.arange(total) % 2)).clamp(min=1)[:, None]
    ignore = (torch.rand(total, total, generator=generator) < 0.3) & (holder[:, None] == holder)
    first = 0 if index is None else sum(counts[:index])
    rows = slice(first, total if index is None else first + counts[index])
    columns = slice(0, 1 + NEGATIVES if index is None else 2 + index)
    given = {"image": image[rows], "text": text[rows], "texts": phrases[rows, columns]}
    for name in given:
        # A rank without rows may well have features that no parameter led to.
        given[name] = given[name].clone().requires_grad_(len(given[name]) > 0)
    given |= {"scale": torch.tensor([10.0]).requires_grad_(), "bias": torch.tensor([-3.0]).requires_grad_()}
    return given | {"mask": mask[rows, columns], "ignore": ignore[rows, rows]}


def run(case: Case, given: Inputs, group: dist.ProcessGroup | None) -> dict[str, Tensor]:
    """Value (and threshold) and the gradient of every leaf, of phrases with zeros up to the most negatives."""
    for tensor in given.values():
        tensor.grad = None
    value, *more = case(given, group)
    if value.requires_grad:
        value.backward()
    found = {"value": value.detach()} | {f"threshold{index}": item.clone() for index, item in enumerate(more)}
    for name in ("image", "text", "texts", "scale", "bias"):
        leaf = given[name]
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        if name == "texts":
            gradient = F.pad(gradient, (0, 0, 0, 1 + NEGATIVES - gradient.shape[1]))
        found[name] = gradient
    return found


def main(own: int, world: int, directory: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(directory / "store"), world)
    dist.init_process_group("gloo", store=store, rank=own, world_size=world, timeout=timedelta(minutes=5))
    results: dict[str, Tensor] = {}
    alone: dict[str, Tensor] = {}
    for number, (counts, members) in enumerate(PATTERNS[world]):
        group = dist.new_group(list(members))
        for name, case in CASES.items():
            if own in members:
                found = run(case, inputs(counts, members.index(own)), group)
                results |= {f"{number}/{name}/{key}": tensor for key, tensor in found.items()}
            if own == 0:
                alone |= {f"{number}/{name}/{key}": it for key, it in run(case, inputs(counts, None), None).items()}
    save_file(results, directory / f"{own}.safetensors")
    if own == 0:
        save_file(alone, directory / "alone.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
