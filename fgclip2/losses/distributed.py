"""How losses reach over ranks: ragged rows, texts that travel round a ring, and gradients found on the way forward.

Contract of every loss with a ``group``: ranks hold any number of rows, also none; the mean over ranks of the returned
values is the loss of one process that holds all rows in rank order, and the mean over ranks of the gradients (what
DistributedDataParallel takes) is that loss's gradient. So every rank must call the loss, whatever rows it has, and must
give the value the same weight.

A loss is one number, so its gradients for weight 1 can be had at once: all collectives run in the forward pass and the
backward pass only multiplies. Backward therefore never waits for another rank, in whatever order it visits the losses
and also where a rank's rows need no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

Group = dist.ProcessGroup
# What is done with another rank's rows: its rank, the rows, and where their gradient (float, same shape) is added up.
Visit = Callable[[int, Tensor, Tensor | None], None]
# Loss summed over the rows of the first tensor that the slice names; given the tensors of all ranks, then shared ones.
Terms = Callable[..., Tensor]


def widen(tensor: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def exchange_counts(counts: Sequence[int], wants_gradient: bool, like: Tensor, group: Group) -> tuple[Tensor, bool]:
    """What every rank must know before rows are exchanged; the only wait of the host for the device.

    Args:
        counts: this rank's numbers of rows; equally many on all ranks.
        wants_gradient: whether this rank wants gradients.
        like: tensor on the device to send from.
        group: the ranks.

    Returns:
        int64 ``(world, len(counts))`` on the CPU, and whether any rank wants gradients.
    """
    own = torch.tensor([*counts, int(wants_gradient)], dtype=torch.int64, device=like.device)
    table = torch.stack(gather_equal(own, group)).cpu()
    return table[:, :-1], bool(table[:, -1].any())


def gather_equal(tensor: Tensor, group: Group) -> list[Tensor]:
    """Every rank's tensor, in rank order; the shapes must agree; no gradient."""
    received = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(received, tensor, group=group)
    return received


def gather_rows(rows: Tensor, counts: Sequence[int], group: Group) -> Tensor:
    """All ranks' rows in rank order: ``(counts[rank], ...)`` -> ``(sum(counts), ...)``; no gradient."""
    longest = max(counts)
    if longest == 0:
        return rows.detach().clone()
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    blocks = gather_equal(padded, group)
    return torch.cat([block[:count] for block, count in zip(blocks, counts, strict=True)])


def own_rows(counts: Sequence[int], group: Group) -> slice:
    """Where this rank's rows stand among all."""
    rank = dist.get_rank(group)
    first = sum(counts[:rank])
    return slice(first, first + counts[rank])


def own_sum(everyone: Tensor, counts: Sequence[int], group: Group) -> Tensor:
    """Sum over ranks of what each holds for all rows, ``(sum(counts), ...)``, at this rank's rows; spoils its input."""
    if everyone.numel():
        dist.all_reduce(everyone, group=group)
    return everyone[own_rows(counts, group)].clone()


def sum_over_ranks(tensor: Tensor, group: Group | None) -> Tensor:
    """Sum of every rank's tensor, the same to the last bit on all of them; no gradient."""
    return tensor.detach() if group is None else torch.stack(gather_equal(tensor.detach(), group)).sum(0)


def share_of_mean(total: Tensor, count: Tensor, group: Group | None) -> Tensor:
    """``total / count``, where both are sums over a rank's items and the mean is to be one over all ranks' items.

    Args:
        total: scalar of this rank, with its gradient.
        count: scalar, all ranks' items.
        group: the ranks, or None for this rank alone.

    Returns:
        Scalar; its mean over ranks is the mean over all items.
    """
    return total * (1 if group is None else dist.get_world_size(group)) / count.clamp(min=1)


def visit_gathered(
    rows: Tensor, counts: Sequence[int], group: Group, with_gradient: bool, visit: Visit
) -> Tensor | None:
    """Show all ranks' rows to ``visit`` after one gather, in rank order; else as :func:`visit_ring`."""
    everyone = gather_rows(rows, counts, group)
    gradient = torch.zeros_like(widen(everyone)) if with_gradient else None
    starts = [sum(counts[:rank]) for rank in range(len(counts) + 1)]
    for rank, (first, last) in enumerate(pairwise(starts)):
        visit(rank, everyone[first:last], None if gradient is None else gradient[first:last])
    if gradient is None:
        return None
    return own_sum(gradient, counts, group)


def visit_ring(rows: Tensor, counts: Sequence[int], group: Group, with_gradient: bool, visit: Visit) -> Tensor | None:
    """Show all ranks' rows to ``visit``, one rank's at a time, as they travel from each rank to the next.

    The next rows arrive while ``visit`` is at work, so a rank holds its own rows, those at work and those arriving,
    however many ranks there are. Gradients travel with their rows and come home after the last visit.

    Args:
        rows: this rank's, ``(counts[rank], ...)``, contiguous.
        counts: rows of each rank.
        group: the ranks.
        with_gradient: whether to add up gradients; the same on all ranks.
        visit: called once for every rank, its own rows first.

    Returns:
        The gradient of this rank's rows, at least float32, summed over ranks; None without gradients.
    """
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    current = rows.detach()
    gradient = torch.zeros_like(widen(current)) if with_gradient else None
    for step in range(world):
        owner, upcoming = (rank - step) % world, (rank - step - 1) % world
        arriving, works = None, []
        if step < world - 1:
            arriving = rows.new_empty(counts[upcoming], *rows.shape[1:])
            works = _pass_on(current, arriving, group)
        visit(owner, current, gradient)
        for work in works:
            work.wait()
        if gradient is not None and world > 1:
            received = gradient.new_empty(counts[upcoming], *rows.shape[1:])
            for work in _pass_on(gradient, received, group):
                work.wait()
            gradient = received
        if arriving is not None:
            current = arriving
    return gradient


def _pass_on(outgoing: Tensor, incoming: Tensor, group: Group) -> list[dist.Work]:
    """Start to send to the next rank and to receive from the one before; what is empty is not sent, as both know."""
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    after, before = (dist.get_global_rank(group, (rank + step) % world) for step in (1, -1))
    operations = []
    if outgoing.numel():
        operations.append(dist.P2POp(dist.isend, outgoing, after, group))
    if incoming.numel():
        operations.append(dist.P2POp(dist.irecv, incoming, before, group))
    return dist.batch_isend_irecv(operations) if operations else []


def mean_over_rows(terms: Terms, tensors: Sequence[Tensor], shared: Sequence[Tensor], group: Group | None) -> Tensor:
    """``sum_i terms_i / N`` over the rows of the first tensor, where each row's term may look at all ranks' rows.

    Args:
        terms: ``terms(own, *tensors, *shared)`` -> scalar: the sum over the first tensor's rows ``own`` (a slice); the
            tensors hold the rows of all ranks. Must be 0 with a gradient path where there are no rows.
        tensors: rows of this rank, each with its own number of them; half precision is widened.
        shared: what all ranks have alike, such as scales.
        group: the ranks, or None for this rank alone.

    Returns:
        Scalar, see the module's contract.
    """
    with torch.autocast(tensors[0].device.type, enabled=False):
        if group is None:
            count = len(tensors[0])
            return terms(slice(0, count), *map(widen, tensors), *map(widen, shared)) / max(count, 1)
        return cast(Tensor, _MeanOverRows.apply(terms, len(tensors), group, torch.is_grad_enabled(), *tensors, *shared))


class _MeanOverRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, terms: Terms, split: int, group: Group, grad_mode: bool, *inputs: Tensor) -> Tensor:
        tensors, shared = inputs[:split], inputs[split:]
        table, with_gradient = exchange_counts(
            [len(tensor) for tensor in tensors], grad_mode and any(ctx.needs_input_grad), inputs[0], group
        )
        counts: list[list[int]] = table.T.tolist()
        leaves = [widen(gather_rows(*pair, group)) for pair in zip(tensors, counts, strict=True)]
        leaves += [widen(tensor.detach()) for tensor in shared]
        with torch.set_grad_enabled(with_gradient):
            leaves = [leaf.detach().requires_grad_(with_gradient) for leaf in leaves]
            total = terms(own_rows(counts[0], group), *leaves)
            value = total * dist.get_world_size(group) / max(sum(counts[0]), 1)
        if with_gradient:
            gradients = list(torch.autograd.grad(value, leaves, materialize_grads=True))
            for index, rows in enumerate(counts):
                gradients[index] = own_sum(gradients[index], rows, group)
            save_gradients(ctx, gradients, inputs)
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, None, *weighted_gradients(ctx, weight))


def save_gradients(ctx: Any, gradients: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> None:
    """Keep the gradients for weight 1 in the precision of their inputs, until :func:`weighted_gradients`."""
    pairs = zip(gradients, inputs, strict=True)
    ctx.save_for_backward(*(None if gradient is None else gradient.to(tensor.dtype) for gradient, tensor in pairs))


def weighted_gradients(ctx: Any, weight: Tensor) -> list[Tensor | None]:
    """The kept gradients times the weight that the value got."""
    return [None if gradient is None else gradient * weight.to(gradient.dtype) for gradient in ctx.saved_tensors]
