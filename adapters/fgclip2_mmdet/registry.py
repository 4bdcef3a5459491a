"""A scope of our own below mmengine's registries, for names that mmdetection looks for and has taken itself."""

from __future__ import annotations

from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

TRANSFORMS = Registry("transform", parent=MMENGINE_TRANSFORMS, scope="fgclip2_mmdet")
