"""The global loss: pairwise sigmoid alignment of pictures and captions."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fgclip2.errors import Fgclip2Error
from fgclip2.losses.distributed import (
    Group,
    exchange_counts,
    save_gradients,
    visit_gathered,
    visit_ring,
    weighted_gradients,
    widen,
)

Exchange = Literal["ring", "gather"]
# Beyond this size larger blocks bring no speed; two float32 blocks take 32 MiB.
AUTOMATIC_CHUNK = 2048


def sigmoid_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    group: Group | None = None,
    chunk_size: int | None = None,
    ignore: Tensor | None = None,
    exchange: Exchange = "ring",
) -> Tensor:
    """``-1/B sum_ij log sigmoid(z_ij (scale cos(I_i, T_j) + bias))`` with ``z_ij = 1`` for i = j and -1 otherwise.

    Source: SigLIP, arXiv 2303.15343, algorithm 1, and section 3.3 for many ranks; FG-CLIP 2's global term for short
    and for long captions.

    The gradient of every block of logits is used as soon as the block is there, in the forward pass, so that no block
    is kept or computed twice: memory beside inputs and gradients is two blocks, whatever B is, and backward talks to
    no other rank. Half precision inputs are multiplied and summed in float32.

    Args:
        image: unit length, ``(B, D)``.
        text: unit length, ``(B, D)``; row i belongs to picture i.
        logit_scale: multiplier, already exponentiated; one number.
        logit_bias: added to every logit; one number.
        group: ranks whose captions are negatives too, each with its own B, see :mod:`fgclip2.losses.distributed`.
        chunk_size: logits are made in blocks of at most so many rows and columns; None for 2,048.
        ignore: bool ``(B, B)``, True for pairs off the diagonal that are also true and must not count as negatives.
            The diagonal is not looked at. With a group it is about this rank's pictures and this rank's captions.
        exchange: ``"ring"`` passes captions from rank to rank, with memory for three ranks' captions at most;
            ``"gather"`` collects all first, in one message.

    Returns:
        Scalar; 0 where no rank has a row.

    Raises:
        Fgclip2Error: on shapes that do not fit each other, a chunk size below 1 or an unknown exchange.
    """
    if image.ndim != 2 or image.shape != text.shape:
        raise Fgclip2Error(
            f"pictures of shape {tuple(image.shape)} and captions of shape {tuple(text.shape)}; give (B, D) of both"
        )
    if chunk_size is not None and chunk_size < 1:
        raise Fgclip2Error(f"chunk_size {chunk_size} is below 1; give a number of rows, or None")
    if exchange not in ("ring", "gather"):
        raise Fgclip2Error(f'exchange {exchange!r} is unknown; choose "ring" or "gather"')
    value = _SigmoidLoss.apply(
        image,
        text,
        logit_scale.reshape(()),
        logit_bias.reshape(()),
        ignore,
        group,
        chunk_size or AUTOMATIC_CHUNK,
        exchange,
        torch.is_grad_enabled(),
    )
    return cast(Tensor, value)


class _SigmoidLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        bias: Tensor,
        ignore: Tensor | None,
        group: Group | None,
        chunk: int,
        exchange: Exchange,
        grad_mode: bool,
    ) -> Tensor:
        wanted, text_wanted = grad_mode and any(ctx.needs_input_grad), grad_mode and ctx.needs_input_grad[1]
        counts, world, rank = [len(image)], 1, 0
        if group is not None:
            table, text_wanted = exchange_counts(counts, text_wanted, image, group)
            counts, world, rank = table[:, 0].tolist(), dist.get_world_size(group), dist.get_rank(group)
        pairs = _Pairs(image.contiguous(), scale, bias, chunk, wanted)

        def visit(owner: int, captions: Tensor, gradient: Tensor | None) -> None:
            if owner == rank:
                pairs.add(captions, gradient, true=True, ignore=ignore)
            else:
                pairs.add(captions, gradient)

        with torch.autocast(image.device.type, enabled=False):
            if group is None:
                text_gradient = torch.zeros_like(widen(text)) if text_wanted else None
                visit(0, text, text_gradient)
            else:
                everyone = visit_ring if exchange == "ring" else visit_gathered
                text_gradient = everyone(text.contiguous(), counts, group, text_wanted, visit)
            weight = world / max(sum(counts), 1)
            if wanted:
                scale_gradient = (pairs.image_gradient * widen(image)).sum() * weight
                image_gradient = pairs.image_gradient.mul_(scale * weight)
                if text_gradient is not None:
                    text_gradient.mul_(scale * weight)
                gradients = [image_gradient, text_gradient, scale_gradient, pairs.bias_gradient.sum() * weight]
                save_gradients(ctx, gradients, [image, text, scale, bias])
            return pairs.loss.sum() * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        return (*weighted_gradients(ctx, weight), None, None, None, None, None)


class _Pairs:
    """Sums over this rank's pictures and any captions, block by block.

    Attributes:
        loss: ``(B,)``, each picture's sum of terms.
        bias_gradient: ``(B,)``, each picture's sum of ``d loss / d logit``.
        image_gradient: ``(B, D)``, without the scale; not added to unless ``wanted``.
    """

    def __init__(self, image: Tensor, scale: Tensor, bias: Tensor, chunk: int, wanted: bool) -> None:
        self.image, self.scale, self.bias, self.chunk, self.wanted = image, widen(scale), widen(bias), chunk, wanted
        wide = torch.promote_types(image.dtype, torch.float32)
        self.loss = torch.zeros(len(image), dtype=wide, device=image.device)
        self.bias_gradient = torch.zeros_like(self.loss)
        self.image_gradient = torch.zeros_like(widen(image[: len(image) if wanted else 0]))
        # Memory of a block is taken once: fresh pages for every block would cost more than its arithmetic.
        self.blocks = torch.empty(2, min(chunk, len(image)) * chunk, dtype=wide, device=image.device)

    def add(self, text: Tensor, gradient: Tensor | None, true: bool = False, ignore: Tensor | None = None) -> None:
        """Take in captions ``(C, D)`` and add to their gradient ``(C, D)``, without the scale.

        Args:
            text: the captions.
            gradient: added to, in place; None where no gradient is wanted.
            true: whether caption i belongs to picture i; else none belongs to any.
            ignore: as the loss has it.
        """
        for top in range(0, len(self.image), self.chunk):
            rows = slice(top, min(top + self.chunk, len(self.image)))
            image = widen(self.image[rows])
            scaled = image * self.scale
            for left in range(0, len(text), self.chunk):
                columns = slice(left, min(left + self.chunk, len(text)))
                caption = widen(text[columns])
                shape = (len(image), len(caption))
                logits, terms = (block[: shape[0] * shape[1]].view(shape) for block in self.blocks)
                torch.mm(scaled, caption.T, out=logits).add_(self.bias)
                diagonal = logits.diagonal() if true and top == left else logits.new_empty(0)
                positive = diagonal.clone()
                if ignore is not None:
                    logits.masked_fill_(ignore[rows, columns], float("-inf"))
                diagonal.fill_(float("-inf"))  # leaves negatives; positives are added with their own precision
                self.loss[rows] += torch.ops.aten.softplus.out(logits, out=terms).sum(1)
                self.loss[rows][: len(positive)] += F.softplus(-positive)
                if gradient is None and not self.wanted:
                    continue
                logits.sigmoid_()
                diagonal.copy_(-torch.sigmoid(-positive))
                if self.wanted:
                    self.bias_gradient[rows] += logits.sum(1)
                    self.image_gradient[rows].addmm_(logits, caption)
                if gradient is not None:
                    gradient[columns].addmm_(logits.T, image)
