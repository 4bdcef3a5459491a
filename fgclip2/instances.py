"""What was found in a picture thing by thing: each with a name, a score, a box and a mask of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from fgclip2.errors import Fgclip2Error
from fgclip2.masks import encode


@dataclass(frozen=True, eq=False)
class InstanceSegmentation:
    """The things of one picture, most certain first.

    Attributes:
        names: C class names.
        boxes: ``(M, 4)`` float32 x1, y1, x2, y2 in pixels.
        scores: ``(M,)`` float32, 0..1, falling.
        labels: ``(M,)`` int64, index into ``names``.
        masks: ``(M, H, W)`` bool at the picture's size.

    Raises:
        Fgclip2Error: their lengths differ.
    """

    names: tuple[str, ...]
    boxes: np.ndarray = field(repr=False)
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        lengths = {len(self.boxes), len(self.scores), len(self.labels), len(self.masks)}
        if len(lengths) != 1 or self.masks.ndim != 3:
            raise Fgclip2Error(
                f"{len(self.boxes)} boxes, {len(self.scores)} scores, {len(self.labels)} labels and masks of shape "
                f"{self.masks.shape}; give one of each a thing, and masks (M, H, W)"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def captions(self) -> list[str]:
        """The name of each thing."""
        return [self.names[label] for label in self.labels.tolist()]

    def coco_results(self, image_id: int) -> list[dict[str, Any]]:
        """The things as COCO results (https://cocodataset.org/#format-results), readable by ``COCO.loadRes``.

        Beside COCO's own entries, ``category_id`` being 1 for the first name, each has its ``name``, its ``area`` in
        pixels and its ``value`` in `mask_image`.
        """
        results = []
        for value, (box, score, label, mask) in enumerate(
            zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), self.masks, strict=True), start=1
        ):
            x1, y1, x2, y2 = (round(side, 2) for side in box)
            results.append({
                "value": value,
                "name": self.names[label],
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                "score": round(score, 4),
                "area": int(mask.sum()),
                "segmentation": encode(mask),
            })  # fmt: skip
        return results

    def mask_image(self) -> Image.Image:
        """An index picture: 0 is nothing, k is the k-th thing; 8 bit up to 255 things, else 16 bit.

        Where things overlap the more certain one is seen; the masks of `coco_results` are whole.
        """
        values = np.zeros(self.masks.shape[1:], np.uint8 if len(self) < 256 else np.uint16)
        for value in range(len(self), 0, -1):
            values[self.masks[value - 1]] = value
        return Image.fromarray(values)
