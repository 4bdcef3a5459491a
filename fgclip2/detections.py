"""Detections whose things have masks beside their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fgclip2.errors import Fgclip2Error
from fgclip2.fusion import Detections
from fgclip2.masks import BoxMasks

if TYPE_CHECKING:
    import supervision as sv


@dataclass(frozen=True)
class MaskedDetections(Detections):
    """What was found in one picture, best first, by a detector with a mask head.

    Attributes:
        masks: one a box.

    Raises:
        Fgclip2Error: another number of masks than of boxes.
    """

    masks: BoxMasks = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.labels):
            raise Fgclip2Error(f"{len(self.masks)} masks for {len(self.labels)} boxes; give one each")

    def to_supervision(self, classes: Sequence[str] | None = None) -> sv.Detections:
        """As `Detections`, and ``mask`` (K, H, W) bool at the picture's size, painted: K H W bytes."""
        found = super().to_supervision(classes)
        found.mask = self.masks.array()
        return found
