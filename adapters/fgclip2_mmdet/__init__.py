"""FG-CLIP 2 in MMDetection: backbone, open-vocabulary heads, detector, data and metric, registered on import.

In a config: ``custom_imports = dict(imports=["fgclip2_mmdet"])``. mmcv need not be compiled: see `fgclip2_mmdet.ops`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings

from fgclip2.extras import need
from fgclip2.opencv import require_opencv

need("mmdet", "cv2", "mmengine", "mmcv", "mmdet", "pycocotools")
require_opencv()

from . import exact_nms, ops  # noqa: E402

# Before the first mmdet import, which would otherwise bind placeholders in place of mmcv's operations.
ops.install()
exact_nms.install()
with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
    # mmdet reports optional data sets that nobody asked for, and uses torch.jit in a deprecated way
    warnings.simplefilter("ignore", FutureWarning)
    importlib.import_module("mmdet.datasets")
    importlib.import_module("mmdet.models")
    importlib.import_module("mmdet.evaluation")

from fgclip2.pyramid import FGCLIP2Pyramid  # noqa: E402

from .backbone import FGCLIP2Backbone, ImageFeatures  # noqa: E402
from .bbox_head import OpenVocabBBoxHead  # noqa: E402
from .dataset import LoadPicture, OpenVocabDataset  # noqa: E402
from .dense_head import OpenVocabATSSHead  # noqa: E402
from .detector import FGCLIP2Detector  # noqa: E402
from .ensemble import Ensemble  # noqa: E402
from .hooks import Bf16OptimWrapper, EpochSeedHook, FiniteUpdateHook, ProgressHook  # noqa: E402
from .metric import OpenVocabCocoMetric, OpenVocabLvisMetric  # noqa: E402
from .one_stage import FGCLIP2OneStageDetector  # noqa: E402
from .open_vocab import OpenVocabDetector  # noqa: E402
from .preprocessor import FGCLIP2DataPreprocessor, PatchResize  # noqa: E402
from .proposals import MMDetProposals  # noqa: E402
from .roi_extractor import FGCLIP2RoIExtractor  # noqa: E402
from .roi_head import OpenVocabRoIHead  # noqa: E402
from .rpn_head import FGCLIP2RPNHead  # noqa: E402
from .runner import FGCLIP2Runner  # noqa: E402

__all__ = [
    "Bf16OptimWrapper",
    "Ensemble",
    "EpochSeedHook",
    "FGCLIP2Backbone",
    "FGCLIP2DataPreprocessor",
    "FGCLIP2Detector",
    "FGCLIP2OneStageDetector",
    "FGCLIP2Pyramid",
    "FGCLIP2RPNHead",
    "FGCLIP2RoIExtractor",
    "FGCLIP2Runner",
    "FiniteUpdateHook",
    "ImageFeatures",
    "LoadPicture",
    "MMDetProposals",
    "OpenVocabATSSHead",
    "OpenVocabBBoxHead",
    "OpenVocabCocoMetric",
    "OpenVocabDataset",
    "OpenVocabDetector",
    "OpenVocabLvisMetric",
    "OpenVocabRoIHead",
    "PatchResize",
    "ProgressHook",
]
