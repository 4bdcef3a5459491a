"""The one-stage open-vocabulary detector: frozen FG-CLIP 2 tower, one dense head, text classification."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor

from fgclip2.errors import Fgclip2Error
from fgclip2.pyramid import replicate_edges

from .backbone import PATCH
from .ensemble import TextClassifier
from .open_vocab import OpenVocabDetector, for_tower, picture_sizes


@MODELS.register_module()
class FGCLIP2OneStageDetector(OpenVocabDetector):
    """Tower, pyramid and one dense head; classes are scored by head and frozen dense map as in `FGCLIP2Detector`.

    Args:
        backbone: an ``FGCLIP2Backbone``.
        bbox_head: an ``OpenVocabATSSHead``.
        vocabulary: see `OpenVocabDetector`.
        train_cfg: mmdetection's for ``ATSSHead``.
        test_cfg: see ``OpenVocabATSSHead``.
        data_preprocessor: an ``FGCLIP2DataPreprocessor``.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        backbone: dict,
        bbox_head: dict,
        vocabulary: Mapping[str, Any] | None = None,
        train_cfg: Any = None,
        test_cfg: Any = None,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        head = for_tower(copy.deepcopy(bbox_head), self.backbone)
        self.bbox_head = MODELS.build({**head, "train_cfg": train_cfg, "test_cfg": test_cfg})
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self.configure(vocabulary)

    @property
    def text_head(self) -> TextClassifier:
        """The dense head."""
        return self.bbox_head

    def extract_feat(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple[Tensor, ...]:
        """Pyramid levels, zero in padding, and the dense map, whose regions do not reach into padding."""
        *levels, dense = super().extract_feat(batch_inputs, batch_data_samples)
        if batch_data_samples is not None:
            dense = replicate_edges(dense, picture_sizes(batch_data_samples), PATCH)
        return (*levels, dense)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the head on a training batch."""
        return self.bbox_head.loss(self.extract_feat(batch_inputs, batch_data_samples), batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Detections: ``pred_instances`` for the first vocabulary, ``pred_<name>`` for each further one."""
        x = self.extract_feat(batch_inputs, batch_data_samples)
        metas = [sample.metainfo for sample in batch_data_samples]
        asked = self.asked_texts(batch_data_samples)
        return self.add_vocabularies(
            batch_data_samples, self.bbox_head.detect(self.bbox_head.regions(x, metas), metas, rescale, asked)
        )

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None) -> tuple[Any, ...]:
        """Raw outputs without post-processing: quality, box deltas and features of every level."""
        if batch_data_samples is None:
            raise Fgclip2Error("mode 'tensor' needs data samples with the pictures' sizes")
        x = self.extract_feat(batch_inputs, batch_data_samples)
        return self.bbox_head(x[:-1], [sample.pad_shape for sample in batch_data_samples])
