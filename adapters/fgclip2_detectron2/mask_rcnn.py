"""Mask R-CNN on FG-CLIP 2: detectron2's proposals and heads, classes that are texts and can be changed at any time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, MaskRCNNConvUpsampleHead
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from fgclip2.errors import Fgclip2Error
from fgclip2.names import said
from fgclip2.pyramid import STRIDES, FGCLIP2Pyramid, replicate_edges
from fgclip2.tower import PATCH
from fgclip2.vocabulary import TEMPLATES

from .backbone import DENSE, INSIDE, FGCLIP2Backbone
from .roi_heads import TextBoxPredictor, TextRoIHeads
from .texts import OpenVocabulary, plain_value

_RATIOS: Final = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class MaskRCNNConfig:
    """Sizes of the detector beside its tower; what is not here is as in detectron2's ``mask_rcnn_fpn``.

    But: boxes are regressed whatever the class, and RoIAlign takes 2 x 2 samples a cell.

    Attributes:
        channels: of every level of the pyramid.
        strides: of the levels in pixels, each twice the one before: of 4, 8, 16, 32, 64.
        anchor: side of a level's anchors in strides.
        proposals: regions a picture in training, and otherwise.
        regions: of these, how many are trained on.
        convs: convolutions of the box head.
        hidden: width of its fully connected layer.
        mask_convs: convolutions of the mask head.
        score: least score of a detection, 0 to 1.
        nms: overlap (IoU) from which the worse of two detections of a class is dropped.
        most: detections a picture.
        alpha: weight of the frozen dense map's own opinion for classes of the training, 0 to 1 (F-ViT's ensemble).
        beta: the same for all other classes.

    Raises:
        Fgclip2Error: a number out of range.
    """

    channels: int = 256
    strides: tuple[int, ...] = (4, 8, 16, 32, 64)
    anchor: float = 8.0
    proposals: tuple[int, int] = (1000, 300)
    regions: int = 256
    convs: int = 1
    hidden: int = 1024
    mask_convs: int = 4
    score: float = 0.0005
    nms: float = 0.5
    most: int = 100
    alpha: float = 0.1
    beta: float = 0.8

    def __post_init__(self) -> None:
        steps = all(second == 2 * first for first, second in zip(self.strides, self.strides[1:], strict=False))
        if len(self.proposals) != 2:
            raise Fgclip2Error(f"MaskRCNNConfig proposals {self.proposals}: give two numbers, training's and otherwise")
        if not self.strides or not steps or not set(self.strides) <= set(STRIDES):
            raise Fgclip2Error(f"MaskRCNNConfig strides {self.strides}: give one or more of {STRIDES}, none left out")
        small = {name: getattr(self, name) for name in ("channels", "regions", "hidden", "mask_convs", "most")}
        small |= {"proposals": min(self.proposals), "anchor": self.anchor}
        for name, value in small.items():
            if value < 1:
                raise Fgclip2Error(f"MaskRCNNConfig {name} {value}: give 1 or more")
        for name in ("score", "nms", "alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise Fgclip2Error(f"MaskRCNNConfig {name} {getattr(self, name)}: give a number from 0 to 1")


class OpenVocabMaskRCNN(OpenVocabulary, nn.Module):
    """detectron2's calling convention: a list of records in, losses or a list of results out.

    Classes live outside the weights. Train with `set_training_classes`, detect with `set_vocabularies`.

    Args:
        backbone: the tower.
        config: sizes of the rest.
        templates: prompts with ``{}`` for the name, averaged.

    Attributes:
        config: sizes of the rest.
        trained_names: names, in any language, that are no novel ones; `set_training_classes` sets them.
    """

    def __init__(
        self, backbone: FGCLIP2Backbone, config: MaskRCNNConfig | None = None, templates: Sequence[str] = TEMPLATES
    ) -> None:
        super().__init__()
        config = config or MaskRCNNConfig()
        self.backbone, self.config = backbone, config
        self.pyramid = FGCLIP2Pyramid(backbone.width, len(backbone.layers), config.channels, config.strides)
        self.levels = tuple(f"p{stride.bit_length() - 1}" for stride in config.strides)
        self.proposal_generator = _proposal_generator(config, self.levels)
        self.roi_heads = _roi_heads(config, self.levels, backbone.width)
        self.trained_names: frozenset[str] = frozenset()
        self.init_texts(templates)

    def set_training_classes(self, vocabularies: Mapping[str, Sequence[str]], ids: Sequence[int]) -> None:
        """Choose what is trained; see `OpenVocabulary.set_training_classes`."""
        super().set_training_classes(vocabularies, ids)
        self.know(name for names in vocabularies.values() for name in names)

    def know(self, names: Any) -> None:
        """Say which names belong to classes of the training; all others are novel."""
        self.trained_names = frozenset(map(said, names))

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> Any:
        """Losses in training; otherwise results.

        Args:
            batched_inputs: from `InstanceMapper`: ``image`` ``(3, h, w)`` uint8 RGB, whole patches; in training
                ``instances``; otherwise ``height`` and ``width`` of the result, the image's own without.

        Returns:
            Losses by name, or for every picture ``{"instances": {vocabulary: Instances}}`` with ``pred_boxes`` and
            ``pred_masks`` ``(K, H, W)`` bool at the result's size, ``scores`` 0..1 falling and ``pred_classes``.
        """
        if self.training:
            return self._losses(batched_inputs)
        return [self._detect(item) for item in batched_inputs]

    def _losses(self, batched_inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        texts = _averaged(self.drawn_training_texts())
        images, sizes = self.batch([item["image"] for item in batched_inputs])
        features = self._features(images, sizes)
        targets = [self._trained(item["instances"].to(self.device)) for item in batched_inputs]
        proposals, losses = self.proposal_generator(ImageList(images, sizes), features, targets)
        # Regions end at the picture's edge as they do without padding; the proposals' convolutions want zeros there.
        strides = {DENSE: PATCH, **dict(zip(self.levels, self.pyramid.strides, strict=True))}
        whole = {name: replicate_edges(level, sizes, strides[name]) for name, level in features.items()}
        return {**losses, **self.roi_heads.losses(whole, proposals, targets, texts)}

    def _trained(self, instances: Instances) -> Instances:
        """The instances of trained classes, labelled by their place in the training vocabulary."""
        same = instances.gt_classes[:, None] == self.training_ids
        kept = instances[same.any(1)]
        kept.gt_classes = same[same.any(1)].int().argmax(1)
        return kept

    @torch.no_grad()
    def _detect(self, item: Mapping[str, Any]) -> dict[str, dict[str, Instances]]:
        vocabularies = {
            key: (_averaged(texts.embeddings), self._novel(texts.names)) for key, texts in self.vocabularies().items()
        }
        images, sizes = self.batch([item["image"]])
        features = self._features(images, sizes)
        (proposals,), _ = self.proposal_generator(ImageList(images, sizes), features)
        size = (int(item.get("height", sizes[0][0])), int(item.get("width", sizes[0][1])))
        found = self.roi_heads.detect(features, proposals, vocabularies)
        return {"instances": {key: detector_postprocess(instances, *size) for key, instances in found.items()}}

    def _novel(self, names: Collection[str]) -> Tensor:
        return torch.tensor([said(name) not in self.trained_names for name in names], device=self.device)

    def _features(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        maps = self.backbone(images, sizes)
        tokens = torch.cat([maps[name] for name in self.backbone.token_names], dim=1)
        levels = self.pyramid(tokens, maps.get(INSIDE))
        return {**dict(zip(self.levels, levels, strict=True)), DENSE: maps[DENSE]}


def build_mask_rcnn(
    model: str = "tiny",
    backbone: Mapping[str, Any] | None = None,
    detector: Mapping[str, Any] | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> OpenVocabMaskRCNN:
    """A Mask R-CNN from plain values, which it keeps as ``options`` for checkpoints.

    Args:
        model: FG-CLIP 2, what `fgclip2.load` takes.
        backbone: more arguments of `FGCLIP2Backbone`.
        detector: fields of `MaskRCNNConfig`.
        templates: prompts with ``{}`` for the name.

    Raises:
        Fgclip2Error: see these classes; an argument that none of them has.
    """
    parts = {"model": model, "backbone": backbone or {}, "detector": detector or {}, "templates": list(templates)}
    plain = json.loads(json.dumps(parts, default=plain_value))  # of a LazyConfig's nodes too
    try:
        tower = FGCLIP2Backbone(model, **plain["backbone"])
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in plain["detector"].items()
        }
        built = OpenVocabMaskRCNN(tower, MaskRCNNConfig(**values), plain["templates"])
    except TypeError as error:
        raise Fgclip2Error(f"the Mask R-CNN's configuration does not fit: {error}") from error
    built.options = plain
    return built


def _averaged(embeddings: Tensor) -> Tensor:
    """``(T, P, D)`` to ``(T, D)``, unit length."""
    return F.normalize(embeddings.mean(1), dim=-1)


def _proposal_generator(config: MaskRCNNConfig, levels: Sequence[str]) -> RPN:
    train, test = config.proposals
    return RPN(
        in_features=list(levels),
        head=StandardRPNHead(in_channels=config.channels, num_anchors=len(_RATIOS)),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[config.anchor * stride] for stride in config.strides],
            aspect_ratios=list(_RATIOS),
            strides=list(config.strides),
            offset=0.0,
        ),
        anchor_matcher=Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(2 * train, 2 * test),
        post_nms_topk=(train, test),
    )


def _roi_heads(config: MaskRCNNConfig, levels: Sequence[str], width: int) -> TextRoIHeads:
    pooled = [stride for stride in config.strides if stride <= 32] or list(config.strides)
    scales = [1 / stride for stride in pooled]
    channels = config.channels
    box_head = FastRCNNConvFCHead(
        ShapeSpec(channels=channels, height=7, width=7), conv_dims=[channels] * config.convs, fc_dims=[config.hidden]
    )
    return TextRoIHeads(
        batch_size_per_image=config.regions,
        positive_fraction=0.25,
        proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        box_in_features=list(levels[: len(pooled)]),
        box_pooler=ROIPooler(7, scales, sampling_ratio=2, pooler_type="ROIAlignV2"),
        box_head=box_head,
        box_predictor=TextBoxPredictor(
            ShapeSpec(channels=config.hidden),
            width,
            box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
            test_score_thresh=config.score,
            test_nms_thresh=config.nms,
            test_topk_per_image=config.most,
        ),
        mask_in_features=list(levels[: len(pooled)]),
        mask_pooler=ROIPooler(14, scales, sampling_ratio=2, pooler_type="ROIAlignV2"),
        mask_head=MaskRCNNConvUpsampleHead(
            ShapeSpec(channels=channels, height=14, width=14),
            num_classes=1,
            conv_dims=[channels] * (config.mask_convs + 1),
        ),
        alpha=config.alpha,
        beta=config.beta,
    )
