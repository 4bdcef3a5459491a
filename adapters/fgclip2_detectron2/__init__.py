"""FG-CLIP 2 in Detectron2: backbone, segmentation head, Mask R-CNN, data sets with names in two languages, metrics.

Only detectron2's Python is used, none of its compiled operations.
"""

from __future__ import annotations

from typing import Final

from fgclip2.errors import Fgclip2Error
from fgclip2.opencv import require_opencv

INSTALL: Final = (
    "pip install --no-deps --only-binary=:all: --python-version 3.10 "
    '--target "$(python -c \'import sysconfig; print(sysconfig.get_path("purelib"))\')" sal-detectron2==0.7.2 '
    "&& pip install 'fgclip2[detectron2]'"
)
"""The command that installs detectron2's Python where there is no wheel of it; upstream from source works too."""

require_opencv("detectron2")
try:
    import detectron2.modeling  # noqa: F401
except ImportError as error:
    raise Fgclip2Error(f"detectron2 cannot be imported ({error}); install it without compiling: {INSTALL}") from error

from .exact_nms import install as _install_exact_nms  # noqa: E402

_install_exact_nms()

from .backbone import FGCLIP2Backbone  # noqa: E402
from .datasets import SegmentationSet, register_datasets, register_folder  # noqa: E402
from .evaluator import OpenVocabSemSegEvaluator  # noqa: E402
from .head import CostAggregationHead  # noqa: E402
from .instance_evaluator import OpenVocabInstanceEvaluator  # noqa: E402
from .instances import InstanceMapper, InstanceSet, register_coco  # noqa: E402
from .mapper import SegmentationMapper  # noqa: E402
from .mask_rcnn import MaskRCNNConfig, OpenVocabMaskRCNN, build_mask_rcnn  # noqa: E402
from .scenes import register_scene_instances, register_scenes  # noqa: E402
from .segmentor import OpenVocabSegmentor, build_segmentor  # noqa: E402

register_datasets()

__all__ = [
    "INSTALL",
    "CostAggregationHead",
    "FGCLIP2Backbone",
    "InstanceMapper",
    "InstanceSet",
    "MaskRCNNConfig",
    "OpenVocabInstanceEvaluator",
    "OpenVocabMaskRCNN",
    "OpenVocabSegmentor",
    "OpenVocabSemSegEvaluator",
    "SegmentationMapper",
    "SegmentationSet",
    "build_mask_rcnn",
    "build_segmentor",
    "register_coco",
    "register_datasets",
    "register_folder",
    "register_scene_instances",
    "register_scenes",
]
