"""A stage of training as one module: the model, the loss terms of a recipe, and all that they learn beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from fgclip2.data.collate import TrainBatch
from fgclip2.errors import Fgclip2Error
from fgclip2.losses import (
    hard_itc_loss,
    hard_negative_loss,
    rank_loss,
    region_contrastive_loss,
    sigmoid_loss,
    text_intra_contrastive_loss,
)
from fgclip2.losses.distributed import Group, sum_over_ranks
from fgclip2.modeling import Fgclip2Model
from fgclip2.train.labels import LabelHead
from fgclip2.train.recipe import Recipe

_MAX_SCALE = math.log(100)  # of the learned logit scales, as in CLIP and the released code's start


@dataclass
class Embedded:
    """What the towers make of a batch, ready for the losses: unit-length rows that belong together.

    Attributes:
        image: ``(P, D)``, pictures with a short caption, and ``short`` ``(P, D)`` those captions.
        same: bool ``(P, P)``, True off the diagonal where captions are equal.
        long_image: ``(L, D)``, pictures with a long caption, and ``long`` ``(L, D)`` those captions.
        region: ``(R, D)``, regions with a text, and ``text`` ``(R, D)`` those texts.
        also_true: bool ``(R, R)``, True where text j may describe region i too.
        hard_region: ``(H, D)``, regions with hard negatives, ``hard`` ``(H, 1 + K, D)`` their texts, true first, and
            ``hard_mask`` bool ``(H, 1 + K)``.
        hard_picture: ``(Q, D)``, pictures with hard captions, ``hard_caption`` ``(Q, 1 + J, D)`` those, true first, and
            ``hard_caption_mask`` bool ``(Q, 1 + J)``.
        labelled: ``(M, D)``, all regions, ``tokens`` ``(M, W)`` the tower's own tokens there, and ``around`` ``(M, D)``
            the pictures they are in.
        labels: int64 ``(M,)``, -1 unknown.
        names: ``(N, D)``, bare class names, and ``name_labels`` ``(N,)`` their classes.
    """

    image: Tensor
    short: Tensor
    same: Tensor
    long_image: Tensor
    long: Tensor
    region: Tensor
    text: Tensor
    also_true: Tensor
    hard_region: Tensor
    hard: Tensor
    hard_mask: Tensor
    hard_picture: Tensor
    hard_caption: Tensor
    hard_caption_mask: Tensor
    labelled: Tensor
    tokens: Tensor
    around: Tensor
    labels: Tensor
    names: Tensor
    name_labels: Tensor

    def leaf(self) -> Embedded:
        """Without its graph, and so that `gradient` can be asked for after a backward pass."""
        return self._each(lambda tensor: tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor)

    def gradient(self) -> Embedded:
        """Of a `leaf`: the gradient of every float tensor, zeros where none arrived."""
        return self._each(
            lambda tensor: (
                (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad)
                if tensor.is_floating_point()
                else tensor
            )
        )

    def along(self, gradient: Embedded) -> Tensor:
        """Scalar whose gradient for every float tensor is that of ``gradient``."""
        pairs = ((getattr(self, name), value) for name, value in vars(gradient).items())
        return torch.stack([(own * given).sum() for own, given in pairs if own.is_floating_point()]).sum()

    def _each(self, change: Callable[[Tensor], Tensor]) -> Embedded:
        return Embedded(**{name: change(tensor) for name, tensor in vars(self).items()})

    @staticmethod
    def cat(parts: Sequence[Embedded]) -> Embedded:
        """Several parts of a batch as one. What is also true is known within a part only."""
        joined: dict[str, Tensor] = {}
        for name in vars(parts[0]):
            tensors = [getattr(part, name) for part in parts]
            if name in ("same", "also_true"):
                joined[name] = torch.block_diag(*tensors).bool()
            elif name in ("hard", "hard_mask", "hard_caption", "hard_caption_mask"):
                joined[name] = _stacked(tensors)
            else:
                joined[name] = torch.cat(tensors)
        return Embedded(**joined)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """``(n, w, ...)`` of several widths w as one, with zeros where one was narrower."""
    width = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([F.pad(item, [0, 0] * (item.ndim - 2) + [0, width - item.shape[1]]) for item in tensors])


class Embedder(nn.Module):
    """The model as the losses need it: one pass of the vision tower, each distinct text once.

    Args:
        model: in training.
        regions: whether a loss looks at regions; without, their embeddings are zeros and cost nothing.
    """

    def __init__(self, model: Fgclip2Model, regions: bool = True) -> None:
        super().__init__()
        self.model, self.regions = model, regions

    def forward(self, batch: TrainBatch) -> Embedded:
        """Encode a batch; with no picture, text or region in it the parts are empty and keep a gradient path."""
        model = self.model
        patches, grids = _never_empty(batch.patches), _never_empty(batch.grids, 1)
        encoding = model.encode_image(patches, batch.mask if len(batch) else None, grids)
        image = _unit(model.pool(encoding))
        last = model.text_model.encode(_few_lengths(batch.texts))
        short, box = _unit(model.text_model.head(last)), _unit(model.boxtext_head(last))
        long = _unit(model.longtext_head(model.text_model.encode(_few_lengths(batch.long_texts), long=True)))
        if self.regions:
            regions = _unit(pool_regions(model.dense(encoding), grids, batch.boxes))
            tokens = pool_regions(encoding.last_hidden_state, grids, batch.boxes)
        else:
            regions = tokens = image.new_zeros(len(batch.boxes), image.shape[1])
        text = box[batch.region_text]
        return Embedded(
            image=image[batch.short_of],
            short=short[batch.short],
            same=_equal(batch.short),
            long_image=image[batch.long_of],
            long=long[batch.long],
            region=regions[batch.text_of],
            text=text,
            also_true=batch.also_true,
            hard_region=regions[batch.hard_of],
            hard=box[batch.hard_text],
            hard_mask=batch.hard_mask,
            hard_picture=image[batch.hard_picture],
            hard_caption=short[batch.hard_caption],
            hard_caption_mask=batch.hard_caption_mask,
            labelled=regions,
            tokens=tokens,
            around=image[batch.boxes[:, 0].long()],
            labels=batch.labels,
            names=text,
            # A phrase says more than the class, so it is not asked for its class.
            name_labels=batch.labels[batch.text_of].masked_fill(~batch.bare, -1),
        )


def pool_regions(tokens: Tensor, grids: Tensor, boxes: Tensor) -> Tensor:
    """RoIAlign (1x1, aligned) for pictures of any grids at once.

    Args:
        tokens: ``(B, N, D)``.
        grids: rows and columns of patches, int64 ``(B, 2)``.
        boxes: ``(M, 5)``: picture, then x1, y1, x2, y2 in 0..1.

    Returns:
        float32 ``(M, D)``.
    """
    height, width = grids.amax(0).tolist()
    rows, columns = grids[:, :1, None], grids[:, 1:, None]
    # Beyond its own grid a picture repeats its last row and column, which is how RoIAlign ends at a map's edge.
    y = torch.arange(height)[None, :, None].minimum(rows - 1)
    x = torch.arange(width)[None, None].minimum(columns - 1)
    place = (y * columns + x).flatten(1).to(tokens.device, non_blocking=True)  # (B, height width)
    maps = tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[-1])).transpose(1, 2)
    sides = grids.flip(1).repeat(1, 2).to(boxes, non_blocking=True)  # columns, rows, columns, rows
    rois = torch.cat([boxes[:, :1], boxes[:, 1:] * sides[boxes[:, 0].long()]], 1)
    return roi_align(maps.float().unflatten(2, (height, width)), rois, output_size=1, aligned=True).flatten(1)


class Stage(nn.Module):
    """What a trainer trains: ``forward`` takes a batch and returns the loss.

    Its state holds the model and everything that training learns or remembers beside it: the logit scales of regions
    and hard negatives, which start at 100 as released, the rank loss's threshold, and the label head if there is one.

    Args:
        model: float32 weights.
        recipe: terms, weights and units.
        classes: number of classes of labelled data, for the ``label`` term.
        compute: ``"cast"`` runs the towers on bf16 copies of the weights, ``"autocast"`` casts operation by operation
            (gradient checkpointing needs it: it runs blocks again when the copies are gone), ``"float32"`` neither.
        group: ranks that contrast with each other; None takes all where torch.distributed runs.
        chunk_size: of the sigmoid loss.
    """

    threshold: Tensor

    def __init__(
        self,
        model: Fgclip2Model,
        recipe: Recipe,
        classes: int = 0,
        compute: str = "float32",
        group: Group | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.compute, self.chunk_size = recipe, compute, chunk_size
        self._group = group
        self.parts = 1  # of a global batch on each rank, whose losses are averaged
        # SigLIP bounds its scale nowhere, and released ones lie above 100: training must not begin by lowering it.
        self._max_logit_scale = max(_MAX_SCALE, model.logit_scale.detach().max().item())
        self._margins: list[tuple[Tensor, Tensor]] = []
        self.embedder = Embedder(model, recipe.uses_regions)
        self.log_scales = nn.ParameterDict(
            {name: torch.full((1,), math.log(recipe.region_scale)) for name in ("region", "hard")}
        )
        self.register_buffer("threshold", torch.zeros(()))
        width = model.config.vision_config.hidden_size
        self.label_head = LabelHead(classes, width, width) if recipe.weights.label else None
        self._leave_out_unused()

    @property
    def model(self) -> Fgclip2Model:
        """The model in training."""
        return self.embedder.model

    @property
    def group(self) -> Group | None:
        """Ranks that contrast with each other."""
        return self._group or (dist.group.WORLD if dist.is_available() and dist.is_initialized() else None)

    def _leave_out_unused(self) -> None:
        """Freeze what no term reaches, so that DistributedDataParallel does not wait for its gradient."""
        weights, model = self.recipe.weights, self.model
        model.dense_feature_head.probe.requires_grad_(False)  # the dense head pools nothing
        if not self.recipe.uses_regions:
            model.dense_feature_head.requires_grad_(False)
            model.boxtext_head.requires_grad_(False)
        self.log_scales["region"].requires_grad_(bool(weights.region))
        self.log_scales["hard"].requires_grad_(bool(weights.hard or weights.hard_itc or weights.rank))

    def embed(self, batch: TrainBatch) -> Embedded:
        """Encode a batch in the chosen precision."""
        if self.compute == "autocast":
            with torch.autocast(batch.patches.device.type, torch.bfloat16):
                return cast(Embedded, self.embedder(batch))
        if self.compute == "cast":
            # Gradients flow back through the cast into float32 weights.
            copies = {name: item.bfloat16() for name, item in self.embedder.named_parameters()}
            return cast(Embedded, torch.func.functional_call(self.embedder, copies, (_lowered(batch),)))
        return cast(Embedded, self.embedder(batch))

    def terms(self, embedded: Embedded) -> dict[str, Tensor]:
        """Every term of the recipe, unweighted; with ranks, their mean over ranks is that of the global batch.

        In training the margins of hard negatives are kept for `after_step`, which makes the next threshold of them.
        """
        recipe, weights, model, group = self.recipe, self.recipe.weights, self.model, self.group
        regional = group if recipe.regions == "global" else None
        e, terms = embedded, dict[str, Tensor]()
        scale, bias = model.logit_scale.exp(), model.logit_bias
        same = e.same if recipe.mask_true else None
        if weights.short:
            terms["short"] = sigmoid_loss(e.image, e.short, scale, bias, group, self.chunk_size, same)
        if weights.long:
            terms["long"] = sigmoid_loss(e.long_image, e.long, scale, bias, group, self.chunk_size)
        if weights.region:
            known = e.also_true if recipe.mask_true else None
            terms["region"] = region_contrastive_loss(e.region, e.text, self.scale("region"), known, regional)
        hard_scale = self.scale("hard")
        visual = torch.cat([e.hard_region, e.hard_picture])
        texts, mask = _stacked([e.hard, e.hard_caption]), _stacked([e.hard_mask, e.hard_caption_mask])
        if weights.hard:
            terms["hard"] = hard_negative_loss(visual, texts, hard_scale, mask, group)
        if weights.hard_itc:
            # Of regions alone: it contrasts rows with each other, and texts of two heads must not meet.
            terms["hard_itc"] = hard_itc_loss(e.hard_region, e.hard, hard_scale, e.hard_mask, regional)
        if weights.intra:
            terms["intra"] = text_intra_contrastive_loss(
                e.text, filtered=recipe.intra_filtered, reduction=recipe.intra_reduction, group=regional
            )
            if recipe.intra_reduction == "sum":
                # The losses of ranks and parts are averaged; this is a sum, over the texts of one of them.
                ranks = dist.get_world_size(group) if group is not None and regional is None else 1
                terms["intra"] = terms["intra"] * (ranks * self.parts)
        if weights.rank:
            similarity = torch.einsum("md,mkd->mk", visual, texts)
            if recipe.rank_unit == "logits":
                similarity = similarity * hard_scale
            terms["rank"], threshold = rank_loss(
                similarity[:, 0], similarity[:, 1:], self.threshold, mask[:, 1:], group, recipe.rank_bounds
            )
            if self.training and torch.is_grad_enabled():
                self._margins.append((threshold, sum_over_ranks(mask[:, 1:].sum().to(threshold.dtype), group)))
        if self.label_head is not None:
            terms |= {
                "label": self.label_head("label", e.labelled, e.labels, group),
                "label_tokens": self.label_head("label_tokens", e.tokens, e.labels, group),
                "label_names": self.label_head("label_names", e.names, e.name_labels, group),
                "label_image": self.label_head("label_image", e.around, e.labels, group),
            }
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weights = vars(self.recipe.weights)
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def scale(self, name: str) -> Tensor:
        """A learned multiplier of cosines."""
        return self.log_scales[name].exp()

    @torch.no_grad()
    def after_step(self) -> None:
        """Bound the learned scales and move the rank loss's threshold. To be called after each optimiser step.

        Scales stay at 100 or less, that of the global loss at what it started with where that was more. The threshold
        becomes the mean margin of all hard negatives of the step, however many parts it was computed in.
        """
        heads = () if self.label_head is None else self.label_head.log_scales.values()
        for scale in (*self.log_scales.values(), *heads):
            scale.clamp_(max=_MAX_SCALE)
        self.model.logit_scale.clamp_(max=self._max_logit_scale)
        if self._margins:
            margins, counts = (torch.stack(items) for items in zip(*self._margins, strict=True))
            self._margins.clear()
            total = counts.sum()
            mean = (margins * counts).sum() / total.clamp(min=1)
            self.threshold.copy_(torch.where(total > 0, mean, self.threshold))

    @torch.no_grad()
    def learned(self) -> dict[str, float]:
        """The scales, the bias and the threshold; with sharded weights to be called on all ranks."""
        values = {f"scale_{name}": scale.exp() for name, scale in self.log_scales.items()}
        values |= {"scale": self.model.logit_scale.exp(), "bias": self.model.logit_bias, "threshold": self.threshold}
        return {name: float(_whole(value)) for name, value in values.items()}

    @torch.no_grad()
    def carry(self, learned: Mapping[str, float]) -> None:
        """Go on with what an earlier stage has `learned` beside the model.

        Raises:
            Fgclip2Error: a scale that is no positive number, or a threshold that is none.
        """
        for name, scale in self.log_scales.items():
            value = learned.get(f"scale_{name}", math.exp(scale.item()))
            if not (math.isfinite(value) and value > 0):
                raise Fgclip2Error(f"scale_{name} {value}: what an earlier stage left must be above 0")
            scale.fill_(min(math.log(value), _MAX_SCALE))
        threshold = learned.get("threshold", self.threshold.item())
        if not math.isfinite(threshold):
            raise Fgclip2Error(f"threshold {threshold}: what an earlier stage left must be a number")
        self.threshold.fill_(threshold)

    def forward(self, batch: TrainBatch, gradient: Embedded | None = None) -> dict[str, Any]:
        """``loss``, the weighted sum, and ``terms``, detached.

        With the ``gradient`` of a loss for the batch's embeddings, that gradient goes back into the towers in place of
        the terms' own, and ``terms`` is empty.
        """
        if gradient is not None:
            towers = {id(parameter) for parameter in self.embedder.parameters()} - {
                id(self.model.logit_scale),
                id(self.model.logit_bias),
            }
            # What only the terms reach has its gradient already; with weight 0 it is shared among ranks with the rest.
            others = [item.sum() for item in self.parameters() if item.requires_grad and id(item) not in towers]
            return {"loss": self.embed(batch).along(gradient) + 0 * torch.stack(others).sum(), "terms": {}}
        terms = self.terms(self.embed(batch))
        return {"loss": self.total(terms), "terms": {name: term.detach() for name, term in terms.items()}}


def _lowered(batch: TrainBatch) -> TrainBatch:
    return replace(batch, patches=batch.patches.bfloat16())


def _never_empty(rows: Tensor, value: int = 0) -> Tensor:
    """The rows, or one of ``value`` where there are none.

    Nothing refers to that one. But every weight then has a gradient, if only zeros, and ranks need not ask each other
    which of them have one.
    """
    return rows if len(rows) else rows.new_full((1, *rows.shape[1:]), value)


def _few_lengths(ids: Tensor) -> Tensor:
    """Texts, on a processor with up to an eighth more rows that nothing refers to; never none.

    Every step has another number of distinct texts, and oneDNN makes new kernels for every number. With eight numbers
    to an octave they are found again: steps of the embedded model on scenes of 112 px took a fifth to a quarter less.
    """
    if ids.device.type != "cpu":
        return _never_empty(ids)
    step = max(1, 2 ** (len(ids).bit_length() - 4))
    return F.pad(ids, (0, 0, 0, -len(ids) % step if len(ids) else 1))


def _whole(value: Tensor) -> Tensor:
    """A tensor that FSDP may have shared out: an empty shard has no number to read."""
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else cast(Tensor, gather())


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=-1)


def _equal(index: Tensor) -> Tensor:
    """Pairs off the diagonal with the same caption."""
    return (index[:, None] == index[None]) & ~torch.eye(len(index), dtype=torch.bool, device=index.device)
