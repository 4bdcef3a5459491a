"""Cost aggregation: from a dense map and class texts to logits of every class, finer than the patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error

from .aggregation import AggregationLayer, ChannelNorm, UpBlock


class CostAggregationHead(nn.Module):
    """CAT-Seg's head (Cho et al., CVPR 2024): cosines of places and texts, smoothed over places and over classes.

    It sees of a class only its cosines and its text, so it takes any classes at any time. Their order means nothing:
    permuted texts give permuted logits.

    Args:
        width: D, length of the tower's features.
        guides: how many token maps of the tower guide the decoder; one a step of ``decoder``, coarsest first.
        prompts: P, prompts a class; their cosines are the channels of the cost volume.
        hidden: channels of the volume.
        layers: aggregation layers, each windows, moved windows, classes.
        window: side of a window in patches. Maps are padded to whole windows: a divisor of the usual side is cheapest.
        heads: attention heads; divides ``hidden``.
        guidance: channels of picture and text guidance in the aggregation.
        mlp_ratio: width of the MLPs in ``hidden``.
        decoder: channels after each doubling of the resolution; two give logits at a quarter of the picture's side.
        decoder_guidance: channels of the decoder's guidance, one a step.
        prior: share of pixels a class has before training, which sets the last bias.

    Raises:
        Fgclip2Error: numbers that do not fit each other.
    """

    DECODER: Final = (64, 32)
    """Default of ``decoder``."""

    def __init__(
        self,
        width: int,
        guides: int = 2,
        prompts: int = 1,
        hidden: int = 128,
        layers: int = 2,
        window: int = 12,
        heads: int = 4,
        guidance: int = 128,
        mlp_ratio: int = 4,
        decoder: Sequence[int] = DECODER,
        decoder_guidance: Sequence[int] = (32, 16),
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise Fgclip2Error(f"CostAggregationHead: hidden {hidden} must be a multiple of heads {heads}")
        if not len(decoder) == len(decoder_guidance) == guides:
            raise Fgclip2Error(
                f"CostAggregationHead: decoder {tuple(decoder)}, decoder_guidance {tuple(decoder_guidance)} and "
                f"{guides} guides; give one token map and one number each for every doubling"
            )
        self.width, self.prompts = width, prompts
        self.embed = nn.Conv2d(prompts, hidden, 7, padding=3)
        self.image_guide = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, guidance))
        self.text_guide = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, guidance))
        self.layers = nn.ModuleList(AggregationLayer(hidden, guidance, heads, window, mlp_ratio) for _ in range(layers))
        self.guides = nn.ModuleList(
            nn.Sequential(ChannelNorm(width), nn.ConvTranspose2d(width, channels, 2**step, stride=2**step), nn.GELU())
            for step, channels in enumerate(decoder_guidance, start=1)
        )
        before = [hidden, *decoder]
        self.ups = nn.ModuleList(UpBlock(before[step], out, decoder_guidance[step]) for step, out in enumerate(decoder))
        self.predict = nn.Conv2d(decoder[-1], 1, 3, padding=1)
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias, math.log(prior / (1 - prior)))

    @property
    def scale(self) -> int:
        """How many logits a patch has along one side."""
        return int(2 ** len(self.ups))

    def forward(
        self,
        dense: Tensor,
        tokens: Sequence[Tensor],
        texts: Tensor,
        inside: Tensor | None = None,
        class_chunk: int | None = None,
    ) -> Tensor:
        """Logits of every class.

        The volume of all classes is kept between layers, ``4 B T C h w`` bytes; everything larger is made for
        ``class_chunk`` classes at a time. Windows and decoder treat classes apart, and the attention over classes
        gathers its sums over all chunks before it is applied: logits do not depend on the chunks beyond rounding.

        Args:
            dense: output of the dense head ``(B, D, h, w)``, any length.
            tokens: ``(B, D, h, w)`` of some blocks of the tower; the decoder reads them in this order.
            texts: ``(T, P, D)``, unit length, P prompts a class.
            inside: ``(B, 1, h, w)``, 1 where a picture is and 0 in its padding; ``None`` without padding.
            class_chunk: classes computed together; ``None`` for all.

        Returns:
            ``(B, T, scale h, scale w)``; what stands in padding carries no meaning.

        Raises:
            Fgclip2Error: texts or token maps of another number or width than the head was made for.
        """
        self._check(tokens, texts)
        rows, columns = dense.shape[-2:]
        unit = F.normalize(dense, dim=1)
        guide = self.image_guide(dense.movedim(1, -1))
        text_guides = list(self.text_guide(texts.mean(1)).split(class_chunk or len(texts)))
        seen = None if inside is None else inside[:, 0] > 0
        volume = [self._volume(unit, part, inside) for part in texts.split(class_chunk or len(texts))]
        for layer in self.layers:
            volume = layer(volume, guide, text_guides, seen)
        guides, masks = [], []
        for step, (project, maps) in enumerate(zip(self.guides, tokens, strict=True), start=1):
            mask = None if inside is None else _enlarged(inside, 2**step)
            projected = project(maps)
            guides.append(projected if mask is None else projected * mask)
            masks.append(mask)
        logits = []
        while volume:
            part = volume.pop(0)
            maps = part.permute(0, 1, 4, 2, 3).flatten(0, 1)
            if inside is not None:
                maps = maps * inside.repeat_interleave(part.shape[1], 0)
            for up, projected, mask in zip(self.ups, guides, masks, strict=True):
                maps = up(maps, projected, mask)
            logits.append(self.predict(maps)[:, 0].unflatten(0, (len(dense), -1)))
        found = torch.cat(logits, dim=1)
        assert found.shape[-2:] == (rows * self.scale, columns * self.scale)
        return found

    def _volume(self, unit: Tensor, texts: Tensor, inside: Tensor | None) -> Tensor:
        """Embedded cosines ``(B, t, h, w, C)`` of a unit map ``(B, D, h, w)`` and texts ``(t, P, D)``."""
        cost = torch.einsum("bdyx,tpd->btpyx", unit, texts.to(unit))
        if inside is not None:
            cost = cost * inside[:, None]
        return self.embed(cost.flatten(0, 1)).unflatten(0, cost.shape[:2]).movedim(2, -1)

    def _check(self, tokens: Sequence[Tensor], texts: Tensor) -> None:
        if texts.ndim != 3 or tuple(texts.shape[1:]) != (self.prompts, self.width) or not len(texts):
            raise Fgclip2Error(
                f"class texts of shape {tuple(texts.shape)}; this head takes (T, {self.prompts}, {self.width}): "
                f"{self.prompts} prompts a class, embedded by the model it was trained on"
            )
        if len(tokens) != len(self.guides):
            raise Fgclip2Error(f"{len(tokens)} token maps; this head takes {len(self.guides)}")


def segmentation_loss(logits: Tensor, targets: Tensor, classes: Tensor, ignore: int, chunk: int = 16) -> Tensor:
    """Binary cross-entropy of every class in every place, the mean over both.

    A target is the share of a logit's place that the class covers, so that thin things count for what they are.

    Args:
        logits: ``(B, T, h, w)``.
        targets: class of every pixel ``(B, s h, s w)`` int64, for a whole number s.
        classes: ``(T,)`` int64, which class each row of the logits is.
        ignore: pixels of this value count nowhere; other values that are not in ``classes`` are negative for all.
        chunk: classes whose targets are made together.

    Returns:
        Scalar; 0 when every pixel is ignored.

    Raises:
        Fgclip2Error: the sizes do not divide.
    """
    factor, rest = divmod(targets.shape[-1], logits.shape[-1])
    if rest or tuple(targets.shape[-2:]) != tuple(factor * side for side in logits.shape[-2:]):
        raise Fgclip2Error(
            f"targets of {tuple(targets.shape[-2:])} for logits of {tuple(logits.shape[-2:])}: sides must be a whole "
            "multiple; resize pictures with SegmentationMapper"
        )
    known = F.avg_pool2d((targets != ignore).float()[:, None], factor)  # (B, 1, h, w)
    total = logits.new_zeros(())
    for part, ids in zip(logits.split(chunk, 1), classes.split(chunk), strict=True):
        wanted = F.avg_pool2d((targets[:, None] == ids[None, :, None, None]).float(), factor)
        share = torch.where(known > 0, wanted / known.clamp_min(1e-6), wanted)
        losses = F.binary_cross_entropy_with_logits(part.float(), share, reduction="none")
        total = total + (losses * known).sum()
    return total / (known.sum() * logits.shape[1]).clamp_min(1)


def _enlarged(inside: Tensor, factor: int) -> Tensor:
    return inside.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
