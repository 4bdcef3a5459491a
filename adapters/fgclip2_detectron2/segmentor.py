"""The trained segmentor: tower, cost aggregation, and classes that can be changed at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.predictor import choose_dtype
from fgclip2.segmentation import BACKGROUND, Best
from fgclip2.tower import arithmetic_of
from fgclip2.vocabulary import TEMPLATES

from .backbone import DENSE, INSIDE, FGCLIP2Backbone
from .head import CostAggregationHead, segmentation_loss
from .masks import IGNORE
from .texts import OpenVocabulary, plain_value


class OpenVocabSegmentor(OpenVocabulary, nn.Module):
    """detectron2's calling convention: a list of records in, losses or a list of results out.

    Classes live outside the weights. Train with `set_training_classes`, segment with `set_vocabularies`.

    Args:
        backbone: the tower.
        head: made for the tower's width, for as many token maps as it gives and as many prompts as ``templates``.
        templates: prompts with ``{}`` for the name.
        train_classes: most classes a training batch is computed for: those that are there, then in equal parts those
            that come closest without being there and others at random.
        max_classes: most classes a picture is computed for: those that come closest to being the best of some patch.
            ``None`` computes all.
        class_chunk: classes computed together outside training; results do not depend on it.
        threshold: least score, 0 to 1, of a pixel that belongs to a class, where a data set has a background.
        train_dtype: arithmetic of the head in training: ``float32``, ``bfloat16``, or ``auto`` (bfloat16 where the
            hardware has it). Weights, and everything outside training, stay float32.

    Raises:
        Fgclip2Error: numbers out of range.
    """

    def __init__(
        self,
        backbone: FGCLIP2Backbone,
        head: CostAggregationHead,
        templates: Sequence[str] = TEMPLATES,
        train_classes: int = 48,
        max_classes: int | None = None,
        class_chunk: int = 32,
        threshold: float = 0.5,
        train_dtype: str = "float32",
    ) -> None:
        super().__init__()
        wrong = {"train_classes": train_classes, "max_classes": 1 if max_classes is None else max_classes}
        for name, value in {**wrong, "class_chunk": class_chunk}.items():
            if value < 1:
                raise Fgclip2Error(f"OpenVocabSegmentor {name} {value}: give 1 or more")
        if not 0 <= threshold < 1:
            raise Fgclip2Error(f"OpenVocabSegmentor threshold {threshold}: give a score from 0 to 1")
        self.backbone, self.head = backbone, head
        self.train_classes, self.max_classes = train_classes, max_classes
        self.class_chunk, self.threshold = class_chunk, threshold
        self.train_arithmetic = arithmetic_of(train_dtype)
        self.init_texts(templates)

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> Any:
        """Losses in training; otherwise results.

        Args:
            batched_inputs: from `SegmentationMapper`: ``image`` ``(3, h, w)`` uint8 RGB, whole patches; in training
                ``sem_seg`` ``(h, w)``; otherwise ``height`` and ``width`` of the result, the image's own without.

        Returns:
            ``{"loss_sem_seg": ...}``, or for every picture ``{"labels": {vocabulary: (H, W) int64}, "scores":
            {vocabulary: (H, W) float32}}``; -1 is background.
        """
        if self.training:
            return self._losses(batched_inputs)
        return [self._segment(item) for item in batched_inputs]

    @torch.no_grad()
    def score_maps(self, image: Tensor, vocabulary: str, size: tuple[int, int]) -> Tensor:
        """Scores ``(T, H, W)``, 0..1, of every class of a vocabulary; classes beyond ``max_classes`` are 0.

        Args:
            image: ``(3, h, w)`` uint8 RGB, whole patches.
            vocabulary: its key.
            size: height and width of the result.
        """
        features = self.backbone(self.pixels(image)[None])
        texts = self.vocabularies()[vocabulary]
        chosen, logits = self._classified(features, texts.embeddings)
        scores = logits.new_zeros(len(texts), *size)
        scores[chosen] = _resized(logits, size).sigmoid()
        return scores

    def _losses(self, batched_inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        texts = self.drawn_training_texts()
        images, sizes = self.batch([item["image"] for item in batched_inputs])
        targets = torch.full((len(images), *images.shape[-2:]), IGNORE, dtype=torch.int64, device=self.device)
        for target, item, (h, w) in zip(targets, batched_inputs, sizes, strict=True):
            target[:h, :w] = item["sem_seg"].to(self.device)
        features = self.backbone(images, sizes)
        chosen = self._training_choice(features, texts, targets)
        logits = self._logits(features, texts[chosen], None)
        return {"loss_sem_seg": segmentation_loss(logits, targets, self.training_ids[chosen], IGNORE)}

    def _training_choice(self, features: Mapping[str, Tensor], texts: Tensor, targets: Tensor) -> Tensor:
        """Indices of the classes that a batch is computed for, at most ``train_classes`` or those that are there."""
        if len(texts) <= self.train_classes:
            return torch.arange(len(texts), device=self.device)
        here = torch.isin(self.training_ids, targets.unique())
        room = max(0, self.train_classes - int(here.sum()))
        near = closeness(features[DENSE], texts, features.get(INSIDE)).masked_fill(here, -torch.inf)
        hard = near.topk(room // 2).indices
        left = torch.ones_like(here)
        left[hard] = False
        rest = (left & ~here).nonzero()[:, 0]
        drawn = rest[torch.randperm(len(rest))[: room - len(hard)].to(rest.device)]
        return torch.cat([here.nonzero()[:, 0], hard, drawn]).sort().values

    @torch.no_grad()
    def _segment(self, item: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        vocabularies = self.vocabularies()
        image = self.pixels(item["image"])
        size = (int(item.get("height", image.shape[-2])), int(item.get("width", image.shape[-1])))
        features = self.backbone(image[None])
        labels, scores = {}, {}
        for name, texts in vocabularies.items():
            chosen, logits = self._classified(features, texts.embeddings)
            best = Best(*size, self.device)
            for part, indices in zip(logits.split(self.class_chunk), chosen.split(self.class_chunk), strict=True):
                best.add(_resized(part, size), indices)
            scores[name] = best.scores.sigmoid()
            nothing = (
                scores[name] < self.threshold if self.background else torch.zeros_like(best.labels, dtype=torch.bool)
            )
            labels[name] = best.labels.masked_fill(nothing, BACKGROUND)
        return {"labels": labels, "scores": scores}

    def _classified(self, features: Mapping[str, Tensor], texts: Tensor) -> tuple[Tensor, Tensor]:
        """Of one picture: the classes that were computed ``(t,)``, and their logits ``(t, scale h, scale w)``."""
        chosen = torch.arange(len(texts), device=self.device)
        if self.max_classes is not None and self.max_classes < len(texts):
            chosen = closeness(features[DENSE], texts).topk(self.max_classes).indices.sort().values
        return chosen, self._logits(features, texts[chosen], self.class_chunk)[0]

    def _logits(self, features: Mapping[str, Tensor], texts: Tensor, class_chunk: int | None) -> Tensor:
        tokens = [features[name] for name in reversed(self.backbone.token_names)]  # the decoder starts with the deepest
        dtype = choose_dtype("auto", self.device) if self.train_arithmetic is None else self.train_arithmetic
        mixed = self.training and dtype == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mixed):
            return self.head(features[DENSE], tokens, texts, features.get(INSIDE), class_chunk)


@torch.no_grad()
def closeness(dense: Tensor, texts: Tensor, inside: Tensor | None = None) -> Tensor:
    """How near each class comes to being the best of some patch: at its best patch, its cosine minus that of the best
    other class.

    Positive for what is the best somewhere. A measure that stopped at 0 there would leave the choice among those to
    chance, and a picture of 256 patches can have more of them than there are candidates.

    Args:
        dense: ``(B, D, h, w)``, any length.
        texts: ``(T, P, D)``, unit length; prompts are averaged.
        inside: ``(B, 1, h, w)``, 0 in padding; ``None`` without padding.

    Returns:
        ``(T,)``; 1 for a class that is alone.
    """
    cosine = torch.einsum("bdyx,td->btyx", F.normalize(dense, dim=1), F.normalize(texts.mean(1), dim=-1))
    if len(texts) == 1:
        return torch.ones_like(cosine[0, :, 0, 0])
    first, second = cosine.topk(2, dim=1).values.split(1, dim=1)
    ahead = cosine - torch.where(cosine == first, second, first)
    if inside is not None:
        ahead = ahead.masked_fill(inside == 0, -torch.inf)
    return ahead.amax(dim=(0, 2, 3))


def build_segmentor(
    model: str = "tiny",
    backbone: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
    templates: Sequence[str] = TEMPLATES,
    **options: Any,
) -> OpenVocabSegmentor:
    """A segmentor from plain values, which it keeps as ``options`` for checkpoints.

    Args:
        model: FG-CLIP 2, what `fgclip2.load` takes.
        backbone: more arguments of `FGCLIP2Backbone`; without ``layers`` one block a guide of the head, spread over the
            depth.
        head: arguments of `CostAggregationHead` except width, guides and prompts, which follow from the rest.
        templates: prompts with ``{}`` for the name.
        **options: to `OpenVocabSegmentor`.

    Raises:
        Fgclip2Error: see these classes; an argument that none of them has.
    """
    parts = {"model": model, "backbone": backbone or {}, "head": head or {}, "templates": list(templates), **options}
    plain = json.loads(json.dumps(parts, default=plain_value))  # of a LazyConfig's nodes too
    guides = len(plain["head"].get("decoder", CostAggregationHead.DECODER))
    try:
        tower = FGCLIP2Backbone(model, **{"layers": guides, **plain["backbone"]})
        built = CostAggregationHead(tower.width, len(tower.layers), len(plain["templates"]), **plain["head"])
        segmentor = OpenVocabSegmentor(tower, built, templates, **options)
    except TypeError as error:
        raise Fgclip2Error(f"the segmentor's configuration does not fit: {error}") from error
    segmentor.options = plain
    return segmentor


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
