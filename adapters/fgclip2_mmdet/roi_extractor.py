"""Features of regions from the pyramid, as quick to train on a processor as on an accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn
from torchvision.ops import roi_align

from fgclip2.features import roi_grids

_CELLS: Final = 96 * 96  # of a map; the products grow with it, and a loop over sample points does not


class RoIGrids(nn.Module):
    """RoIAlign (aligned, adaptive sampling) of maps of one stride.

    On processors it is matrix products where maps are small: torchvision's backward pass takes longer there than all
    else that trains.

    Args:
        output_size: bins a side.
        spatial_scale: cells a pixel.
    """

    def __init__(self, output_size: int, spatial_scale: float) -> None:
        super().__init__()
        self.output_size = (output_size, output_size)
        self.spatial_scale = spatial_scale

    def forward(self, level: Tensor, rois: Tensor) -> Tensor:
        """Maps ``(B, C, h, w)`` and regions ``(R, 5)``, index into the batch and xyxy in pixels: ``(R, C, s, s)``."""
        size = self.output_size[0]
        if level.device.type != "cpu" or level[0, 0].numel() > _CELLS:
            return roi_align(level, rois, size, self.spatial_scale, aligned=True)
        members = [(rois[:, 0] == index).nonzero()[:, 0] for index in range(len(level))]
        pooled = [
            roi_grids(picture.permute(1, 2, 0), rois[own, 1:] * self.spatial_scale, size)
            for picture, own in zip(level, members, strict=True)
        ]
        return torch.cat(pooled)[torch.cat(members).argsort()].permute(0, 3, 1, 2)


@MODELS.register_module()
class FGCLIP2RoIExtractor(SingleRoIExtractor):
    """mmdetection's ``SingleRoIExtractor`` of `RoIGrids`: every region from the level of its size."""

    def build_roi_layers(self, layer_cfg: dict[str, Any], featmap_strides: list[int]) -> nn.ModuleList:
        """One layer a stride; ``layer_cfg`` has ``output_size``."""
        return nn.ModuleList(RoIGrids(spatial_scale=1 / stride, **layer_cfg) for stride in featmap_strides)

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """As mmdetection's, in fp32: it gives regions the type of the maps, and bf16 cannot tell boxes apart."""
        return super().forward(tuple(level.float() for level in feats), rois, roi_scale_factor)
