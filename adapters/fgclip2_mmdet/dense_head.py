"""The one-stage head: boxes and their quality at every position, text classification at the positions that count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from mmcv.cnn import Scale
from mmdet.models.dense_heads import ATSSHead
from mmdet.models.utils import multi_apply, unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi, bbox_overlaps
from mmdet.utils import InstanceList, reduce_mean
from mmengine.model import bias_init_with_prob
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.pyramid import ChannelNorm, inside_cells
from fgclip2.scoring import CHUNK, chunked_probabilities, region_features

from .bbox_head import MAX_SCALE
from .ensemble import Regions, TextClassifier
from .exact_nms import batched_nms
from .vocabulary import ClassTexts

_FREE: Final = 0.3  # a box that overlaps every object by less than this shows none of them
_QUALITY: Final = {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0}

DenseMaps = tuple[list[Tensor], list[Tensor], list[Tensor]]


class DenseConv(nn.Module):
    """3x3 convolution, norm over the channels and ReLU; zero in padding again, so that none of it reaches a picture."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = ChannelNorm(out_channels)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """``(B, C, h, w)`` and, where pictures are padded, bool ``(B, 1, h, w)``."""
        x = F.relu(self.norm(self.conv(x)))
        return x if inside is None else x * inside


@MODELS.register_module()
class OpenVocabATSSHead(TextClassifier, ATSSHead):
    """ATSS (Zhang et al. 2020) whose classes live outside the weights.

    Every position gives a box and a quality, the IoU that its box should have, neither of which knows a class. The
    logit of a class is ``scale * (cosine(embedding, text) - margin)``: the scale and bias of YOLO-World and GLIP, the
    bias counted in cosine so that it learns as fast as embeddings do. "None of these" has the logit 0.

    Not positions times classes: in training the objects' positions and the best of the others are classified, at test
    time the boxes that survive a class-agnostic NMS. So 20,000 classes cost a few hundred rows of logits a picture.
    With ``residual`` the embedding is the frozen dense map under the predicted box plus what the position learned,
    which starts at zero, as in `fgclip2_mmdet.bbox_head.OpenVocabBBoxHead`.

    ``x`` is everywhere the pyramid's levels followed by the dense map ``(B, D, h, w)``. ``test_cfg`` has ``regions``
    (``nms_pre``, ``nms``, ``max_per_img``: which boxes are classified), and what `select_detections` takes.

    Args:
        embed_dims: width of the text embeddings, D.
        in_channels: channels of the pyramid.
        residual: see above; without it the embedding is learned alone.
        temperature: first value of the scale.
        margin: first value of the cosine at which a class is as likely as none.
        negatives: positions without an object that are classified in training, a picture: those of highest quality.
        loss_quality: mmdetection's ``QualityFocalLoss`` by default.
        ensemble: fields of `fgclip2_mmdet.ensemble.Ensemble`; ``objectness`` is the quality's exponent.
        **kwargs: mmdetection's ``ATSSHead``: ``anchor_generator`` with one anchor a position, ``bbox_coder``,
            ``loss_bbox`` (of IoU's kind), ``feat_channels``, ``stacked_convs``; ``loss_cls`` decides between sigmoid
            (``FocalLoss``, or cross-entropy with ``use_sigmoid``) and softmax over the classes and "none of these".

    Raises:
        Fgclip2Error: several anchors a position.
    """

    def __init__(
        self,
        embed_dims: int,
        in_channels: int = 256,
        residual: bool = True,
        temperature: float = 50.0,
        margin: float = 0.3,
        negatives: int = 32,
        loss_quality: Mapping[str, Any] | None = None,
        ensemble: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        # What ATSS calls centerness says how good a box is; so does the quality.
        quality = dict(loss_quality or _QUALITY)
        super().__init__(num_classes=1, in_channels=in_channels, loss_centerness=quality, init_cfg=None, **kwargs)
        if self.num_base_priors != 1:
            raise Fgclip2Error(
                f"OpenVocabATSSHead: {self.num_base_priors} anchors a position; give one scale and ratio"
            )
        self.residual = residual
        self.negatives = negatives
        self.fc_embed = nn.Linear(self.feat_channels, embed_dims)
        self.log_scale = nn.Parameter(torch.tensor(math.log(temperature)))
        self.margin = nn.Parameter(torch.tensor(float(margin)))
        if residual:
            nn.init.zeros_(self.fc_embed.weight)
            nn.init.zeros_(self.fc_embed.bias)
        self.init_texts(ensemble)

    def _init_layers(self) -> None:
        channels = [self.in_channels, *[self.feat_channels] * self.stacked_convs]
        pairs = list(itertools.pairwise(channels))
        self.cls_convs = nn.ModuleList(DenseConv(*pair) for pair in pairs)
        self.reg_convs = nn.ModuleList(DenseConv(*pair) for pair in pairs)
        self.atss_reg = nn.Conv2d(channels[-1], self.bbox_coder.encode_size, 3, padding=1)
        self.atss_quality = nn.Conv2d(channels[-1], 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)
        for last in (self.atss_reg, self.atss_quality):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.get_parameter("bias"))
        nn.init.constant_(self.atss_quality.get_parameter("bias"), bias_init_with_prob(0.01))

    def set_train_texts(self, texts: ClassTexts) -> None:
        """Classes that training labels index; does not change what is detected at test time."""
        super().set_train_texts(texts)
        self.num_classes = len(texts)  # mmdetection's label of positions without an object

    def forward(self, levels: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> DenseMaps:
        """Run the convolutions.

        Args:
            levels: the pyramid, ``(B, C, h, w)`` each.
            shapes: height and width of each picture in pixels, to the end of its last patch (``pad_shape``).

        Returns:
            For every level the quality's logit ``(B, 1, h, w)``, box deltas ``(B, 4, h, w)``, and the features
            ``(B, F, h, w)`` that `embed` takes at chosen positions.
        """
        padded = len({tuple(shape[:2]) for shape in shapes}) > 1
        strides = [stride[0] for stride in self.prior_generator.strides]
        inside = [
            inside_cells(level, shapes, stride) if padded else None
            for level, stride in zip(levels, strides, strict=True)
        ]
        return multi_apply(self.forward_single, levels, self.scales, inside)

    def forward_single(self, x: Tensor, scale: nn.Module, inside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """One level of `forward`."""
        features = boxes = x
        for conv in self.cls_convs:
            features = conv(features, inside)
        for conv in self.reg_convs:
            boxes = conv(boxes, inside)
        return self.atss_quality(boxes).float(), scale(self.atss_reg(boxes)).float(), features

    def embed(self, features: Tensor, dense: Tensor) -> Tensor:
        """Unit-length embeddings ``(R, D)`` from features of positions ``(R, F)`` and the dense map's regions."""
        raw = self.fc_embed(features).float()
        return F.normalize(raw + dense if self.residual else raw, dim=-1)

    def classify(self, embeddings: Tensor, texts: Tensor) -> Tensor:
        """Logits ``(R, C)`` in fp32 of embeddings ``(R, D)`` and texts ``(C, D)``, all unit length."""
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = embeddings.float() @ texts.float().T
        return self.log_scale.exp().clamp(max=MAX_SCALE) * (cosine - self.margin)

    def probabilities(self, embeddings: Tensor, texts: Tensor) -> Iterator[Tensor]:
        """Each class against none (sigmoid), or shares beside none's (softmax): ``(R, c)``, chunk after chunk."""
        if self.use_sigmoid_cls:
            return (self.classify(embeddings, part).sigmoid() for part in texts.split(CHUNK))
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        # The logit 0 of "none", beside cosines from which the margin is not taken off.
        none = (scale * self.margin).expand(len(embeddings))
        return chunked_probabilities(embeddings.float(), texts.float(), scale, none)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of a training batch: quality, boxes, classes."""
        objects, ignored, metas = unpack_gt_instances(batch_data_samples)
        maps = self(x[:-1], [meta["pad_shape"] for meta in metas])
        return self.loss_by_feat(maps, x[-1], objects, metas, ignored)

    def loss_by_feat(
        self,
        maps: DenseMaps,
        dense: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: Any = None,
    ) -> dict[str, Tensor]:
        """Losses from `forward`'s maps and the dense map ``(B, D, h, w)``; averages are over all processes."""
        sizes = [level.shape[-2:] for level in maps[0]]
        quality, deltas, features = (_by_position(levels) for levels in maps)
        flags = self.get_anchors(sizes, batch_img_metas, device=quality.device)
        assigned = self.get_targets(*flags, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        anchors, labels, weights, targets = (torch.cat(parts, dim=1) for parts in assigned[:4])
        boxes = self.bbox_coder.decode(anchors.flatten(0, 1), deltas.flatten(0, 1)).view_as(anchors)
        positive = (labels < self.num_classes) & (weights > 0)
        count = reduce_mean(positive.sum().float()).clamp(min=1).item()

        overlaps = torch.zeros_like(weights)
        overlaps[positive] = bbox_overlaps(boxes[positive].detach(), targets[positive], is_aligned=True).clamp(0, 1)
        wanted = ((~positive).long().flatten(), overlaps.flatten())
        loss_quality = self.loss_centerness(quality.reshape(-1, 1), wanted, weights.flatten(), avg_factor=count)
        loss_bbox = deltas.sum() * 0  # the box layers take part in every step, also in one without objects
        if positive.any():
            loss_bbox = loss_bbox + self.loss_bbox(boxes[positive], targets[positive], avg_factor=count)

        limits = boxes.new_tensor([[*meta["img_shape"][1::-1]] * 2 for meta in batch_img_metas])[:, None]
        shown = torch.minimum(boxes.detach().clamp(min=0), limits)
        candidates = (weights > 0) & ~positive
        chosen = positive | self._hard_negatives(quality.detach()[..., 0], shown, candidates, batch_gt_instances)
        rois = torch.cat((chosen.nonzero()[:, :1].to(shown), shown[chosen]), dim=1)
        embeddings = self.embed(features[chosen], region_features(dense, rois))
        logits = self.classify(embeddings, self.train_texts.embeddings)
        logits = logits if self.use_sigmoid_cls else _with_none(logits)
        loss_cls = self.loss_cls(logits, labels[chosen], avg_factor=count)
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox, "loss_quality": loss_quality}

    @torch.no_grad()
    def _hard_negatives(self, quality: Tensor, boxes: Tensor, candidates: Tensor, objects: InstanceList) -> Tensor:
        """Positions ``(B, N)``, bool: the candidates of highest quality whose boxes show no object."""
        chosen = torch.zeros_like(candidates)
        for index, item in enumerate(objects):
            free = candidates[index]
            if len(item.bboxes):
                free = free & (bbox_overlaps(boxes[index], item.bboxes).amax(dim=1) < _FREE)
            best = quality[index].masked_fill(~free, -torch.inf).topk(min(self.negatives, len(free))).indices
            chosen[index, best] = free[best]
        return chosen

    def regions(self, x: tuple[Tensor, ...], batch_img_metas: list[dict[str, Any]]) -> list[Regions]:
        """The boxes of every picture that are worth classifying, embedded; no class is looked at yet."""
        maps = self(x[:-1], [meta["pad_shape"] for meta in batch_img_metas])
        sizes = [level.shape[-2:] for level in maps[0]]
        quality, deltas, features = (_by_position(levels) for levels in maps)
        anchors = torch.cat(self.prior_generator.grid_priors(sizes, device=quality.device))
        found = []
        for index, meta in enumerate(batch_img_metas):
            inside = torch.cat(self.prior_generator.valid_flags(sizes, meta["pad_shape"], quality.device))
            scores = quality[index, :, 0].sigmoid() * inside
            found.append(self._select(scores, deltas[index], anchors, meta["img_shape"]))
        dense = region_features(x[-1], bbox2roi([boxes for boxes, _, _ in found]))
        chosen = torch.cat([features[index, kept] for index, (_, _, kept) in enumerate(found)])
        embeddings = self.embed(chosen, dense)
        counts = [len(kept) for _, _, kept in found]
        return [
            Regions(boxes, embedded, frozen, scores)
            for (boxes, scores, _), embedded, frozen in zip(
                found, embeddings.split(counts), dense.split(counts), strict=True
            )
        ]

    def _select(
        self, scores: Tensor, deltas: Tensor, anchors: Tensor, shape: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (R, 4), quality (R,) and positions (R,) that survive class-agnostic NMS, best first."""
        cfg = self.test_cfg["regions"]
        best, kept = scores.topk(min(cfg["nms_pre"], len(scores)))
        boxes = self.bbox_coder.decode(anchors[kept], deltas[kept], max_shape=shape)
        whole = (best > 0) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        best, kept, boxes = best[whole], kept[whole], boxes[whole]
        if len(kept):
            _, order = batched_nms(boxes, best, torch.zeros_like(kept), cfg["nms"], class_agnostic=True)
            order = order[: cfg["max_per_img"]]
            best, kept, boxes = best[order], kept[order], boxes[order]
        return boxes, best, kept

    def predict(self, x: tuple[Tensor, ...], batch_data_samples: SampleList, rescale: bool = False) -> InstanceList:
        """mmdetection's entry: detections for the first vocabulary."""
        metas = [sample.metainfo for sample in batch_data_samples]
        return next(iter(self.detect(self.regions(x, metas), metas, rescale).values()))


def _by_position(levels: Sequence[Tensor]) -> Tensor:
    """Maps ``(B, K, h, w)`` of all levels as ``(B, N, K)``, in the order of the anchors."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def _with_none(logits: Tensor) -> Tensor:
    """Logits ``(R, C)`` and behind them that of none of the classes, 0: ``(R, C + 1)``."""
    return torch.cat((logits, logits.new_zeros(len(logits), 1)), dim=1)
