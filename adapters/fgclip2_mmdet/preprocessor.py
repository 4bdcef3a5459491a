"""Pictures on their way to the tower: NaFlex sizes in the pipeline, FG-CLIP 2's pixel values in the batch."""

from __future__ import annotations

import math
from typing import Any

from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import Resize
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS, TRANSFORMS

from fgclip2.errors import Fgclip2Error
from fgclip2.processing import MAX_PATCHES, grid_size

from .backbone import PATCH


@MODELS.register_module()
class FGCLIP2DataPreprocessor(DetDataPreprocessor):
    """mmdetection's preprocessor with FG-CLIP 2's constants: RGB, ``(x / 255 - 0.5) / 0.5``, sides to multiples of 16.

    Takes what mmdetection's takes, except mean, std, channel order and divisor, which are the tower's and not a choice.
    Pictures come as BGR, as mmdetection's loaders give them.
    """

    def __init__(self, **kwargs: Any) -> None:
        fixed = {"mean", "std", "bgr_to_rgb", "rgb_to_bgr", "pad_size_divisor", "pad_value"} & kwargs.keys()
        if fixed:
            raise Fgclip2Error(
                f"FGCLIP2DataPreprocessor fixes {', '.join(sorted(fixed))} to the tower's values; leave it out"
            )
        super().__init__(
            mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True, pad_size_divisor=PATCH, pad_value=0, **kwargs
        )


@TRANSFORMS.register_module()
class PatchResize(BaseTransform):
    """Resize picture and boxes to whole patches, aspect kept, so that the tower sees no partly empty patch.

    Pixels are those of the predictor's image processor, to the bit.

    Args:
        max_patches: most patches a picture may have; 400 is 320 x 320 pixels. Dense maps take up to 16,384.
        upscale: enlarge smaller pictures to use all patches.
    """

    def __init__(self, max_patches: int = 1024, upscale: bool = True) -> None:
        if not 1 <= max_patches <= MAX_PATCHES:
            raise Fgclip2Error(f"PatchResize max_patches {max_patches}: give 1 to {MAX_PATCHES}")
        self.max_patches = max_patches
        self.upscale = upscale

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``results["img"]`` (H, W, 3) and everything that follows its geometry; sets ``scale_factor``."""
        height, width = results["img"].shape[:2]
        budget = self.max_patches
        if not self.upscale:
            budget = min(budget, math.ceil(width / PATCH) * math.ceil(height / PATCH))
        rows, columns = grid_size(width, height, budget, PATCH)
        # Pillow averages what it shrinks, as the predictor does; OpenCV picks single pixels, which the tower takes for
        # texture that is not there.
        return Resize(scale=(columns * PATCH, rows * PATCH), keep_ratio=False, backend="pillow").transform(results)
