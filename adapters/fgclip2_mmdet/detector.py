"""The two-stage open-vocabulary detector: frozen FG-CLIP 2 tower, class-agnostic boxes, text classifiers."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.vocabulary import ClassNames, Vocabulary

from .backbone import PATCH
from .drawing import let_it_draw
from .pyramid import replicate_edges
from .vocabulary import ClassTexts, as_vocabulary, novel_flags, shuffled

MAIN = "main"


@MODELS.register_module()
class FGCLIP2Detector(TwoStageDetector):
    """F-ViT's design (CLIPSelf, Wu et al. 2023) on FG-CLIP 2: tower, RPN, region head, ensemble with the dense map.

    Args:
        backbone: an ``FGCLIP2Backbone``.
        vocabulary: ``train``: names that training labels index; ``test``: names, or a dictionary of named vocabularies,
            the first of which fills ``pred_instances`` (default: the training names); ``novel``: names or flags of the
            test classes without labels (default: those not in ``train``); ``templates``: prompts with ``{}``;
            ``control``: a name under which the first vocabulary is scored once more with its embeddings permuted.
        **kwargs: mmdetection's ``TwoStageDetector``.
    """

    def __init__(self, backbone: dict, vocabulary: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        roi_head = kwargs.pop("roi_head", None)
        super().__init__(backbone=backbone, **kwargs)
        if roi_head is not None:
            # Built after the tower, whose width the head takes.
            head = copy.deepcopy(roi_head)
            head["bbox_head"].setdefault("embed_dims", self.backbone.width)
            head["train_cfg"] = self.train_cfg["rcnn"] if self.train_cfg else None
            head["test_cfg"] = self.test_cfg["rcnn"]
            self.roi_head = MODELS.build(head)
        self.templates = None
        self._dataset_meta: dict[str, Any] = {}
        if vocabulary:
            self._configure(dict(vocabulary))

    def _configure(self, vocabulary: dict[str, Any]) -> None:
        unknown = vocabulary.keys() - {"train", "test", "novel", "templates", "control"}
        if unknown:
            raise Fgclip2Error(
                f"vocabulary: unknown {', '.join(sorted(unknown))}; it has train, test, novel, templates and control"
            )
        self.templates = vocabulary.get("templates")
        train = vocabulary.get("train")
        if train:
            built = as_vocabulary(train, self.backbone.predictor, self.templates)
            self.roi_head.set_train_texts(ClassTexts(built))
        test = vocabulary.get("test") or train
        if not test:
            return
        named = test if isinstance(test, Mapping) else {MAIN: test}
        for name, classes in named.items():
            self.set_vocabulary(classes, vocabulary.get("novel"), name=name)
        if vocabulary.get("control"):
            first = as_vocabulary(next(iter(named.values())), self.backbone.predictor, self.templates)
            self.set_vocabulary(shuffled(first), vocabulary.get("novel"), name=vocabulary["control"])

    @property
    def trained_classes(self) -> tuple[str, ...]:
        """Names the detector learned from; empty when it was built for inference only."""
        texts = getattr(self.roi_head, "train_texts", None)
        return () if texts is None else texts.names

    def set_vocabulary(
        self,
        vocabulary: Vocabulary | ClassNames,
        novel: Collection[str] | Sequence[bool] | None = None,
        name: str = MAIN,
    ) -> None:
        """Choose what to look for; no training is needed.

        Args:
            vocabulary: class names, English or Chinese, with or without synonyms, or a ready
                `fgclip2.vocabulary.Vocabulary` of the same model.
            novel: names or flags of the classes that the detector was not trained on; ``None`` takes every name that is
                not among the training names. They are scored with ``beta`` instead of ``alpha``.
            name: several vocabularies can be kept and are all scored in one pass. The first one fills
                ``pred_instances``, the others ``pred_<name>``.

        Raises:
            Fgclip2Error: empty, from another model, or with novel names that are not classes.
        """
        built = as_vocabulary(vocabulary, self.backbone.predictor, self.templates)
        texts = ClassTexts(built, novel_flags(built.names, self.trained_classes, novel))
        self.roi_head.test_texts[name] = texts.to(self.roi_head.bbox_head.background.device)
        self._tell_classes()

    def clear_vocabularies(self) -> None:
        """Forget every test vocabulary."""
        self.roi_head.test_texts.clear()

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """What mmdetection's inferencer and visualizer read: always one dictionary, its classes the first vocabulary.

        Other entries are kept as they are set; classes that a checkpoint names, those of its training, are not.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, value: Mapping[str, Any]) -> None:
        self._dataset_meta.update(value)
        self._tell_classes()

    def _tell_classes(self) -> None:
        texts = cast("dict[str, ClassTexts]", self.roi_head.test_texts)
        first = next(iter(texts.values()), None)
        self._dataset_meta["classes"] = self.trained_classes if first is None else first.names
        let_it_draw(self._dataset_meta["classes"])

    def extract_feat(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple[Tensor, ...]:
        """Pyramid levels followed by the dense map, from one pass of the tower over ``(B, 3, H, W)``."""
        sizes = None
        if batch_data_samples is not None:
            sizes = [tuple(sample.img_shape[:2]) for sample in batch_data_samples]
        features = self.backbone.encode(batch_inputs, sizes)
        return (*features.pyramid, features.dense)

    def _for_regions(self, x: tuple[Tensor, ...], samples: SampleList) -> tuple[Tensor, ...]:
        """Maps whose regions do not reach into padding at a picture's edge; the RPN's convolutions want zeros there."""
        sizes = [tuple(sample.img_shape[:2]) for sample in samples]
        strides = (*self.backbone.strides, PATCH)
        return tuple(replicate_edges(level, sizes, stride) for level, stride in zip(x, strides, strict=True))

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of RPN and region head on a training batch."""
        x = self.extract_feat(batch_inputs, batch_data_samples)
        objects = copy.deepcopy(batch_data_samples)
        for sample in objects:
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        cfg = self.train_cfg.get("rpn_proposal", self.test_cfg.rpn)
        losses, proposals = self.rpn_head.loss_and_predict(x[:-1], objects, proposal_cfg=cfg)
        losses.update(self.roi_head.loss(self._for_regions(x, batch_data_samples), proposals, batch_data_samples))
        return losses

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detections: ``pred_instances`` for the first vocabulary, ``pred_<name>`` for each further one."""
        x = self.extract_feat(batch_inputs, batch_data_samples)
        proposals = self.rpn_head.predict(x[:-1], batch_data_samples, rescale=False)
        metas = [sample.metainfo for sample in batch_data_samples]
        x = self._for_regions(x, batch_data_samples)
        results = self.roi_head.predict_vocabularies(x, proposals, metas, rescale)
        for index, (name, detections) in enumerate(results.items()):
            for sample, instances in zip(batch_data_samples, detections, strict=True):
                setattr(sample, "pred_instances" if index == 0 else f"pred_{name}", instances)
        return batch_data_samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple[Any, ...]:
        """Raw outputs without post-processing: logits over the training classes and box deltas."""
        x = self.extract_feat(batch_inputs, batch_data_samples)
        if batch_data_samples is None:
            raise Fgclip2Error("mode 'tensor' needs data samples with the pictures' sizes")
        proposals = self.rpn_head.predict(x[:-1], batch_data_samples, rescale=False)
        return (self.roi_head.forward(self._for_regions(x, batch_data_samples), proposals, batch_data_samples),)
